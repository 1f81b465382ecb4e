/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bpf — the maps of Terem's BPF programs, as the rooms above use them.  Loading: bpf_load.c. */
#include "kernel/bpf.h"

#include "base/cleanup.h"
#include "kernel/bpf_load.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

void counts_close(struct counts *c)
{
    if (!c)
        return;
    ring_buffer__free(c->ring);
    for (size_t i = 0; i < COUNTS_MAPS; i++)
        cleanup_fd(&c->map[i]);
    cleanup_fd(&c->guard);
    cleanup_fd(&c->held);
    cleanup_fd(&c->dir);
    free(c);
}

const char *counts_why(const struct counts *c, enum counts_part part)
{
    return c->why[part][0] ? c->why[part] : NULL;
}

int counts_put(struct counts *c, uint64_t ve, const struct counts_limits *limits, struct err *err)
{
    static const struct counts_ve zero;
    /* The counters first: a program takes a VE for ours when it has limits. */
    int r = bpf_map_update_elem(c->map[COUNTS_MAP_COUNTS], &ve, &zero, BPF_NOEXIST);
    if (r < 0 && r != -EEXIST)
        return err_sysno(err, -r, "cannot add the VE to the counted ones");
    r = bpf_map_update_elem(c->map[COUNTS_MAP_LIMITS], &ve, limits, BPF_ANY);
    return r < 0 ? err_sysno(err, -r, "cannot write the limits of what BPF counts") : 0;
}

int counts_forget(struct counts *c, uint64_t ve, struct err *err)
{
    static const enum counts_map order[] = {COUNTS_MAP_LIMITS, COUNTS_MAP_COUNTS};
    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        int r = bpf_map_delete_elem(c->map[order[i]], &ve);
        if (r < 0 && r != -ENOENT)
            return err_sysno(err, -r, "cannot take the VE from the counted ones");
    }
    return 0;
}

/* What a processor has charged for a connection that it may not open, and gives back with the
 * next one (terem_opening). */
static uint64_t opening(const uint64_t *open, int n, uint64_t ve)
{
    uint64_t found = 0;
    for (int i = 0; i < n; i++)
        found += open[i] == ve;
    return found;
}

static uint64_t *read_opening(const struct counts *c, int *ret_n)
{
    int n = libbpf_num_possible_cpus();
    uint32_t zero = 0;
    uint64_t *open = n > 0 ? calloc((size_t)n, sizeof(*open)) : NULL;
    if (!open || bpf_map_lookup_elem(c->map[COUNTS_MAP_OPENING], &zero, open) < 0)
        n = 0;
    *ret_n = n;
    return open;
}

static void settle(struct counts_ve *v, uint64_t not_opened)
{
    __u64 *held = &v->row[COUNTS_TCP].held;
    *held -= *held < not_opened ? *held : not_opened;
}

int counts_get(struct counts *c, uint64_t ve, struct counts_ve *ret, struct err *err)
{
    int n = 0;
    auto_free uint64_t *open = read_opening(c, &n);
    int r = bpf_map_lookup_elem(c->map[COUNTS_MAP_COUNTS], &ve, ret);
    if (r < 0)
        return err_sysno(err, -r, "cannot read what BPF counts of the VE");
    settle(ret, opening(open, n, ve));
    return 0;
}

/* opts NULL: all processes. */
static int look_at(struct counts *c, const struct bpf_link_create_opts *opts, int *ret_fd,
                   struct err *err)
{
    if (c->held < 0)
        return err_set(err, ERR_UNSUPPORTED, "%s", c->why[COUNTS_PART_HELD]);
    auto_fd int link = bpf_link_create(c->held, 0, BPF_TRACE_ITER, opts);
    if (link < 0)
        return err_sys(err, "cannot choose the process to look at");
    *ret_fd = bpf_iter_create(link);
    return *ret_fd < 0 ? err_sys(err, "cannot look at the process") : 0;
}

int counts_held_all(struct counts *c, struct counts_held **ret, size_t *ret_n, struct err *err)
{
    auto_fd int fd = -1;
    auto_free struct counts_held *all = NULL;
    size_t len = 0, room = 0; /* bytes: a read may end anywhere */
    int r = look_at(c, NULL, &fd, err);
    if (r < 0)
        return r;
    for (;;) {
        if (room - len < sizeof(*all)) {
            room = room ? room * 2 : 64 * sizeof(*all);
            void *more = realloc(all, room);
            if (!more)
                return err_set(err, ERR_EXHAUSTED, "out of memory");
            all = more;
        }
        ssize_t n = read(fd, (char *)all + len, room - len);
        if (n < 0 && errno == EAGAIN) /* it has looked at many processes that are of no VE */
            continue;
        if (n < 0)
            return err_sys(err, "cannot read what VEs hold");
        if (n == 0)
            break;
        len += (size_t)n;
    }
    *ret = steal_ptr(&all);
    *ret_n = len / sizeof(**ret);
    return 0;
}

int counts_held(struct counts *c, int pidfd, struct counts_held *ret, struct err *err)
{
    union bpf_iter_link_info which = {.task.pid_fd = (uint32_t)pidfd};
    LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = &which, .iter_info_len = sizeof(which));
    auto_fd int fd = -1;
    int r = look_at(c, &opts, &fd, err);
    if (r < 0)
        return r;
    ssize_t n = read(fd, ret, sizeof(*ret)); /* each of its threads would say the same */
    if (n < 0)
        return err_sys(err, "cannot read what its VE holds");
    if ((size_t)n < sizeof(*ret))
        return err_set(err, ERR_NOT_FOUND, "the VE's first process is gone");
    return 0;
}

int counts_all(struct counts *c, struct counts_item **ret, size_t *ret_n, struct err *err)
{
    enum { BATCH = 4096 };
    int cpus = 0;
    auto_free uint64_t *open = read_opening(c, &cpus);
    auto_free uint64_t *keys = calloc(BATCH, sizeof(*keys));
    auto_free struct counts_ve *values = calloc(BATCH, sizeof(*values));
    auto_free struct counts_item *all = NULL;
    size_t n = 0;
    uint32_t at = 0;
    int r = 0;
    if (!keys || !values)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (bool first = true; r == 0; first = false) {
        uint32_t got = BATCH;
        r = bpf_map_lookup_batch(c->map[COUNTS_MAP_COUNTS], first ? NULL : &at, &at, keys, values,
                                 &got, NULL);
        if (r < 0 && r != -ENOENT) /* ENOENT: these are the last */
            return err_sysno(err, -r, "cannot read what BPF counts");
        struct counts_item *more = reallocarray(all, n + got + 1, sizeof(*all));
        if (!more)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        all = more;
        for (uint32_t i = 0; i < got; i++, n++) {
            all[n] = (struct counts_item){.ve = keys[i], .counts = values[i]};
            settle(&all[n].counts, opening(open, cpus, keys[i]));
        }
    }
    *ret = steal_ptr(&all);
    *ret_n = n;
    return 0;
}

static int ring_item(void *ctx, void *data, size_t size)
{
    struct counts *c = ctx;
    if (size >= sizeof(struct counts_event))
        c->heard(c->heard_ctx, data);
    return 0;
}

int counts_listen(struct counts *c, void (*heard)(void *ctx, const struct counts_event *e),
                  void *ctx, int *ret_fd, struct err *err)
{
    c->heard = heard;
    c->heard_ctx = ctx;
    if (!c->ring)
        c->ring = ring_buffer__new(c->map[COUNTS_MAP_EVENTS], ring_item, c, NULL);
    if (!c->ring)
        return err_sys(err, "cannot map the ring of refusals");
    *ret_fd = ring_buffer__epoll_fd(c->ring);
    return 0;
}

int counts_hear(struct counts *c, struct err *err)
{
    int r = c->ring ? ring_buffer__consume(c->ring) : 0;
    return r < 0 ? err_sysno(err, -r, "cannot read the ring of refusals") : r;
}

uint64_t counts_lost(const struct counts *c)
{
    uint32_t zero = 0;
    uint64_t n = 0;
    return bpf_map_lookup_elem(c->map[COUNTS_MAP_LOST], &zero, &n) < 0 ? 0 : n;
}
