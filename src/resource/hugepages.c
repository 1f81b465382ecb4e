/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hugepages — hugepages.limit: controller hugetlb has files for each size of huge pages that the
 * machine knows, and each has the limit.
 *
 * What is used is limited (a fault beyond it is SIGBUS), and what is reserved, so that mmap(2)
 * fails with ENOMEM before (hugetlb.*.rsvd.*, since Linux 5.7).
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "resource/node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

bool huge_owns(const struct param_row *row)
{
    return row->controller && str_eq(row->controller, "hugetlb");
}

/* Which files there are is the same in every cgroup: listing each costs more than reading it. */
void huge_list(struct resource_node *node, const struct controller *c)
{
    auto_dir DIR *dir = fd_list(node->branch[c->branch].fd);
    if (!dir)
        return; /* then there are none: huge_check() says so */
    for (struct dirent *e; (e = readdir(dir)) && node->n_huge < ARRAY_SIZE(node->huge);)
        if (str_starts(e->d_name, "hugetlb.") &&
            str_print(node->huge[node->n_huge], sizeof(node->huge[0]), "%s", e->d_name) == 0)
            node->n_huge++;
}

/* Calls item() for each file of the cgroup that ends so. */
static int each_file(const struct resource_node *node, int fd, const char *end,
                     int (*item)(void *ctx, int fd, const char *file), void *ctx)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < node->n_huge; i++)
        if (str_ends(node->huge[i], end))
            r = item(ctx, fd, node->huge[i]);
    return r;
}

static int found(void *ctx, int fd, const char *file)
{
    *(bool *)ctx = true;
    return 0;
}

int huge_check(const struct resource_node *node, const struct param_row *row,
               const struct controller *c, struct param_value v, struct err *err)
{
    bool any = false;
    int r = each_file(node, -1, c->where == RESOURCE_V2 ? ".max" : ".limit_in_bytes", found, &any);
    if (r == 0 && !any)
        r = err_set(err, ERR_UNSUPPORTED,
                    "%s cannot be enforced here: this machine has no huge pages of any size",
                    row->key);
    return r;
}

struct limit {
    char text[32];
    struct err *err;
};

static int write_one(void *ctx, int fd, const char *file)
{
    struct limit *l = ctx;
    return cgroup_write(fd, file, l->err, "%s\n", l->text);
}

int huge_write(const struct resource_node *node, const struct param_row *row,
               const struct controller *c, int fd, struct param_value v, struct err *err)
{
    bool v2 = c->where == RESOURCE_V2;
    struct limit l = {.err = err};
    if (v.unlimited)
        str_print(l.text, sizeof(l.text), "%s", v2 ? "max" : "-1");
    else
        str_print(l.text, sizeof(l.text), "%" PRIu64, v.n);
    return each_file(node, fd, v2 ? ".max" : ".limit_in_bytes", write_one, &l);
}

struct sum {
    struct param_count count;
    const char *key; /* in a flat-keyed file, or NULL */
    bool rsvd;       /* of reservations, too */
};

static int add_one(void *ctx, int fd, const char *file)
{
    struct sum *s = ctx;
    uint64_t n;
    if (!s->rsvd && strstr(file, ".rsvd."))
        return 0;
    if ((s->key ? cgroup_read_key(fd, file, s->key, &n, NULL)
                : cgroup_read_number(fd, file, &n, NULL)) == 0) {
        s->count.known = true;
        s->count.n += n;
    }
    return 0;
}

static struct param_count sum_of(const struct resource_node *node, int fd, const char *end,
                                 const char *key, bool rsvd)
{
    struct sum s = {.key = key, .rsvd = rsvd};
    each_file(node, fd, end, add_one, &s);
    return s.count;
}

static bool is_nought(struct param_count c)
{
    return c.known && c.n == 0;
}

/* Counts of the cgroup around all VEs have those of every VE in them. */
bool huge_is_unused(const struct resource_node *node, const struct controller *c)
{
    struct param_counter all = {0};
    if (c->where != RESOURCE_V2) /* v1's refusals are counted where they happened only */
        return false;
    huge_count(node, true, node->branch[c->branch].fd, &all);
    return is_nought(all.held) && is_nought(all.failcnt);
}

void huge_count(const struct resource_node *node, bool v2, int fd, struct param_counter *ret)
{
    if (node->no_huge) {
        ret->held = ret->failcnt = (struct param_count){.known = true};
        return;
    }
    ret->held = sum_of(node, fd, v2 ? ".current" : ".usage_in_bytes", NULL, false);
    if (v2) {
        ret->failcnt = sum_of(node, fd, "B.events", "max", false); /* of reservations, too */
    } else {
        ret->maxheld = sum_of(node, fd, ".max_usage_in_bytes", NULL, false);
        ret->failcnt = sum_of(node, fd, ".failcnt", NULL, true);
    }
}
