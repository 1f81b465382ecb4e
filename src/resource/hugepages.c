/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hugepages — hugepages.limit: controller hugetlb has files for each size of huge pages that the
 * machine knows, and each has the limit.
 *
 * What is used is limited (a fault beyond it is SIGBUS), and what is reserved, so that mmap(2)
 * fails with ENOMEM before (hugetlb.*.rsvd.*, since Linux 5.7).
 */
#include "base/cleanup.h"
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

/* Calls item() for each file of the cgroup that ends so. */
static int each_file(int fd, const char *end, int (*item)(void *ctx, int fd, const char *file),
                     void *ctx, struct err *err)
{
    auto_fd int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_dir DIR *dir = own < 0 ? NULL : fdopendir(own);
    if (!dir)
        return err_sys(err, "cannot list a cgroup");
    own = -1; /* `dir` closes it */
    int r = 0;
    for (struct dirent *e; r == 0 && (e = readdir(dir));)
        if (str_starts(e->d_name, "hugetlb.") && str_ends(e->d_name, end))
            r = item(ctx, fd, e->d_name);
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
    int r = each_file(node->branch[c->branch].fd,
                      c->where == RESOURCE_V2 ? ".max" : ".limit_in_bytes", found, &any, err);
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
    return each_file(fd, v2 ? ".max" : ".limit_in_bytes", write_one, &l, err);
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

static struct param_count sum_of(int fd, const char *end, const char *key, bool rsvd)
{
    struct sum s = {.key = key, .rsvd = rsvd};
    each_file(fd, end, add_one, &s, NULL);
    return s.count;
}

void huge_count(bool v2, int fd, struct param_counter *ret)
{
    ret->held = sum_of(fd, v2 ? ".current" : ".usage_in_bytes", NULL, false);
    if (v2) {
        ret->failcnt = sum_of(fd, "B.events", "max", false); /* of reservations, too */
    } else {
        ret->maxheld = sum_of(fd, ".max_usage_in_bytes", NULL, false);
        ret->failcnt = sum_of(fd, ".failcnt", NULL, true);
    }
}
