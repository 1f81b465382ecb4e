/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the bpffs: classify-maps-<layout>/<map> and classify-<edition>/<program>; the edition follows
 * from the programs' bytes, so that an upgraded Terem loads its own and goes on with what the old
 * one has counted.
 */
#include "kernel/classify.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "kernel/bpf_load.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "kernel/classify.skel.h"

#define PATH_SIZE 768

enum map { PREFIXES4, PREFIXES6, ENDS, LEAVES, COUNTS, SETTINGS, STAMPS, ASLEEP, WAKES, MAPS };

static const char *const map_names[MAPS] = {"prefixes4", "prefixes6", "ends",   "leaves", "counts",
                                            "settings",  "stamps",    "asleep", "wakes"};
static const char *const program_names[CLASSIFY_PROGRAMS] = {
    [CLASSIFY_FROM_VE] = "terem_from_ve", [CLASSIFY_TO_VE] = "terem_to_ve",
    [CLASSIFY_UPLINK] = "terem_uplink",   [CLASSIFY_NOTE_FROM] = "terem_note_from",
    [CLASSIFY_NOTE_TO] = "terem_note_to",
};

struct classify {
    int map[MAPS], program[CLASSIFY_PROGRAMS];
    bool fresh;
    struct ring_buffer *wakes; /* while somebody listens */
    classify_wake_fn wake;
    void *wake_ctx;
};

void classify_close(struct classify *c)
{
    if (!c)
        return;
    ring_buffer__free(c->wakes);
    for (size_t i = 0; i < MAPS; i++)
        cleanup_fd(&c->map[i]);
    for (size_t i = 0; i < CLASSIFY_PROGRAMS; i++)
        cleanup_fd(&c->program[i]);
    free(c);
}

int classify_program(const struct classify *c, enum classify_program which)
{
    return c->program[which];
}

bool classify_fresh(const struct classify *c)
{
    return c->fresh;
}

/* ---- opening ---- */

static int open_pins(const char *dir, const char *const *names, int *fds, size_t n)
{
    char path[PATH_SIZE];
    for (size_t i = 0; i < n; i++) {
        str_print(path, sizeof(path), "%s/%s", dir, names[i]);
        fds[i] = bpf_obj_get(path);
        if (fds[i] < 0)
            return -errno;
    }
    return 0;
}

static int place_maps(struct bpf_object *o, const char *dir, struct err *err)
{
    char path[PATH_SIZE];
    struct bpf_map *m;
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_sys(err, "cannot make %s", dir);
    bpf_object__for_each_map(m, o)
    {
        if (bpf_map__is_internal(m))
            continue;
        str_print(path, sizeof(path), "%s/%s", dir, bpf_map__name(m));
        struct bpf_map_info info = {0};
        uint32_t size = sizeof(info);
        auto_fd int old = bpf_obj_get(path);
        if (old >= 0 && bpf_obj_get_info_by_fd(old, &info, &size) == 0)
            bpf_map__set_max_entries(m, info.max_entries); /* another edition's size */
        int r = bpf_map__set_pin_path(m, path);
        if (r < 0)
            return err_sysno(err, -r, "cannot place the map %s", bpf_map__name(m));
    }
    return 0;
}

/* A directory with all of them, or none: pinned aside and renamed. */
static int pin_programs(struct bpf_object *o, const char *dir, struct err *err)
{
    char draft[PATH_SIZE + 8], path[PATH_SIZE + 64];
    struct bpf_program *p;
    str_print(draft, sizeof(draft), "%s-draft", dir);
    if (mkdir(draft, 0700) < 0 && errno != EEXIST)
        return err_sys(err, "cannot make %s", draft);
    bpf_object__for_each_program(p, o)
    {
        str_print(path, sizeof(path), "%s/%s", draft, bpf_program__name(p));
        unlink(path); /* of an attempt that was killed */
        int r = bpf_program__pin(p, path);
        if (r < 0)
            return err_sysno(err, -r, "cannot pin %s", bpf_program__name(p));
    }
    if (rename(draft, dir) < 0)
        return err_sys(err, "cannot rename %s", draft);
    return 0;
}

/* What still hangs somewhere lives on without its pin. */
static void unpin_others(const char *dir, const char *programs)
{
    auto_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bpf_load_remove_others(fd, "classify", strrchr(programs, '/') + 1);
}

static int load(struct bpf_object *o, const char *maps, const char *programs, struct err *err)
{
    int r = place_maps(o, maps, err);
    if (r < 0)
        return r;
    r = bpf_object__load(o);
    if (r < 0) {
        err_sysno(err, -r, "the kernel refuses the programs that sort packets");
        return err_set(err, ERR_UNSUPPORTED, "%s", (const char *)strdupa(err->text));
    }
    return pin_programs(o, programs, err);
}

int classify_open(const char *dir, struct classify **ret, struct err *err)
{
    char maps[PATH_SIZE], programs[PATH_SIZE];
    struct err own = {0};
    size_t size;
    const void *elf = classify_bpf__elf_bytes(&size);
    err = err ? err : &own;
    struct classify *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < MAPS; i++)
        c->map[i] = -1;
    for (size_t i = 0; i < CLASSIFY_PROGRAMS; i++)
        c->program[i] = -1;
    str_print(maps, sizeof(maps), "%s/classify-maps-%d", dir, CLASSIFY_LAYOUT);
    str_print(programs, sizeof(programs), "%s/classify-%016" PRIx64, dir,
              bpf_load_edition(elf, size));
    int r = bpf_load_mount(dir, err);
    if (r == 0 && open_pins(programs, program_names, c->program, CLASSIFY_PROGRAMS) < 0) {
        LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "terem");
        auto_clean(bpf_load_closep) struct bpf_object *o = bpf_object__open_mem(elf, size, &opts);
        r = o ? load(o, maps, programs, err) : err_sys(err, "cannot read the BPF programs");
        c->fresh = true;
        int sys = r == 0 ? open_pins(programs, program_names, c->program, CLASSIFY_PROGRAMS) : 0;
        if (sys < 0)
            r = err_sysno(err, -sys, "cannot open what is pinned in %s", programs);
        if (r == 0)
            unpin_others(dir, programs);
    }
    int sys = r == 0 ? open_pins(maps, map_names, c->map, MAPS) : 0;
    if (sys < 0)
        r = err_sysno(err, -sys, "cannot open what is pinned in %s", maps);
    if (r < 0) {
        classify_close(c);
        return r;
    }
    *ret = c;
    return 0;
}

/* ---- writing ---- */

int classify_settings_put(struct classify *c, const struct classify_settings *s, struct err *err)
{
    uint32_t zero = 0;
    int r = bpf_map_update_elem(c->map[SETTINGS], &zero, s, BPF_ANY);
    return r < 0 ? err_sysno(err, -r, "cannot tell how packets are sorted") : 0;
}

static int new_trie(size_t key, int *ret, struct err *err)
{
    LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC);
    int fd = bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, "terem_prefixes", (uint32_t)key,
                            sizeof(uint32_t), CLASSIFY_PREFIXES_MAX, &opts);
    if (fd < 0)
        return err_sysno(err, -fd, "cannot make a list of prefixes");
    *ret = fd;
    return 0;
}

static int put_prefix(const int tries[2], const struct classify_prefix *p)
{
    if (p->family == 4) {
        struct classify_prefix4 key = {.length = p->length};
        memcpy(key.address, p->address, sizeof(key.address));
        return bpf_map_update_elem(tries[0], &key, &p->class, BPF_ANY);
    }
    struct classify_prefix6 key = {.length = p->length};
    memcpy(key.address, p->address, sizeof(key.address));
    return bpf_map_update_elem(tries[1], &key, &p->class, BPF_ANY);
}

int classify_prefixes_put(struct classify *c, struct classify_prefix (*prefix)(void *ctx, size_t i),
                          void *ctx, size_t n, struct err *err)
{
    auto_fd int four = -1, six = -1;
    uint32_t zero = 0;
    int r = new_trie(sizeof(struct classify_prefix4), &four, err);
    if (r == 0)
        r = new_trie(sizeof(struct classify_prefix6), &six, err);
    if (r < 0)
        return r;
    const int tries[2] = {four, six};
    for (size_t i = 0; r == 0 && i < n; i++) {
        struct classify_prefix p = prefix(ctx, i);
        r = put_prefix(tries, &p);
    }
    if (r == 0)
        r = bpf_map_update_elem(c->map[PREFIXES4], &zero, &four, BPF_ANY);
    if (r == 0)
        r = bpf_map_update_elem(c->map[PREFIXES6], &zero, &six, BPF_ANY);
    return r < 0 ? err_sysno(err, -r, "cannot write %zu prefixes of classes", n) : 0;
}

int classify_end_put(struct classify *c, int ifindex, const struct classify_end *end,
                     struct err *err)
{
    int r = bpf_map_update_elem(c->map[ENDS], &ifindex, end, BPF_ANY);
    return r < 0 ? err_sysno(err, -r, "cannot tell whose the interface is") : 0;
}

static int drop(int map, const void *key, const char *what, struct err *err)
{
    int r = bpf_map_delete_elem(map, key);
    return r < 0 && r != -ENOENT ? err_sysno(err, -r, "cannot forget %s", what) : 0;
}

int classify_end_delete(struct classify *c, int ifindex, struct err *err)
{
    return drop(c->map[ENDS], &ifindex, "whose the interface was", err);
}

int classify_leaf_put(struct classify *c, const struct classify_key *key, uint32_t leaf,
                      struct err *err)
{
    int r = bpf_map_update_elem(c->map[LEAVES], key, &leaf, BPF_ANY);
    return r < 0 ? err_sysno(err, -r, "cannot tell where packets of a class wait") : 0;
}

int classify_leaf_delete(struct classify *c, const struct classify_key *key, struct err *err)
{
    return drop(c->map[LEAVES], key, "where packets of a class wait", err);
}

int classify_count_delete(struct classify *c, const struct classify_key *key, struct err *err)
{
    return drop(c->map[COUNTS], key, "what was counted", err);
}

/* ---- reading ---- */

#define BATCH 1024
/* Keys and values of a whole hash, many in one call (since 5.6). */
static int read_all(int map, size_t key_size, size_t value_size, char **ret, size_t *ret_n,
                    struct err *err)
{
    size_t item = key_size + value_size, n = 0, cap = 0;
    auto_free char *all = NULL, *keys = calloc(BATCH, key_size), *values = NULL;
    values = calloc(BATCH, value_size);
    uint64_t at = 0, next = 0;
    int r = 0;
    if (!keys || !values)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (bool first = true; r == 0; first = false, at = next) {
        uint32_t got = BATCH;
        r = bpf_map_lookup_batch(map, first ? NULL : &at, &next, keys, values, &got, NULL);
        if (r < 0 && r != -ENOENT)
            return err_sysno(err, -r, "cannot read what BPF knows of packets");
        if (n + got > cap) {
            cap = (n + got) * 2;
            char *more = reallocarray(all, cap, item);
            if (!more)
                return err_set(err, ERR_EXHAUSTED, "out of memory");
            all = more;
        }
        for (uint32_t i = 0; i < got; i++, n++) {
            memcpy(all + n * item, keys + i * key_size, key_size);
            memcpy(all + n * item + key_size, values + i * value_size, value_size);
        }
    }
    *ret = steal_ptr(&all);
    *ret_n = n;
    return 0;
}

int classify_end_each(struct classify *c,
                      int (*item)(void *ctx, int ifindex, const struct classify_end *end,
                                  struct err *err),
                      void *ctx, struct err *err)
{
    const size_t size = sizeof(uint32_t) + sizeof(struct classify_end);
    auto_free char *all = NULL;
    size_t n = 0;
    int r = read_all(c->map[ENDS], sizeof(uint32_t), sizeof(struct classify_end), &all, &n, err);
    for (size_t i = 0; r == 0 && i < n; i++) {
        int ifindex;
        struct classify_end end;
        memcpy(&ifindex, all + i * size, sizeof(ifindex));
        memcpy(&end, all + i * size + sizeof(ifindex), sizeof(end));
        r = item(ctx, ifindex, &end, err);
    }
    return r;
}

int classify_counts(struct classify *c, struct classify_counted **ret, size_t *ret_n,
                    struct err *err)
{
    _Static_assert(sizeof(struct classify_counted) ==
                       sizeof(struct classify_key) + sizeof(struct classify_count),
                   "as read_all() lays them");
    return read_all(c->map[COUNTS], sizeof(struct classify_key), sizeof(struct classify_count),
                    (char **)ret, ret_n, err);
}

uint32_t classify_counts_id(const struct classify *c)
{
    struct bpf_map_info info = {0};
    uint32_t size = sizeof(info);
    return bpf_obj_get_info_by_fd(c->map[COUNTS], &info, &size) < 0 ? 0 : info.id;
}

bool classify_count_get(struct classify *c, const struct classify_key *key,
                        struct classify_count *ret)
{
    return bpf_map_lookup_elem(c->map[COUNTS], key, ret) == 0;
}

int classify_leaves(struct classify *c, struct classify_leaf **ret, size_t *ret_n, struct err *err)
{
    auto_free char *all = NULL;
    const size_t item = sizeof(struct classify_key) + sizeof(uint32_t);
    int r =
        read_all(c->map[LEAVES], sizeof(struct classify_key), sizeof(uint32_t), &all, ret_n, err);
    if (r < 0)
        return r;
    struct classify_leaf *list = calloc(*ret_n + 1, sizeof(*list));
    if (!list)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < *ret_n; i++) {
        memcpy(&list[i].key, all + i * item, sizeof(list[i].key));
        memcpy(&list[i].leaf, all + i * item + sizeof(list[i].key), sizeof(list[i].leaf));
    }
    *ret = list;
    return 0;
}

/* ---- who is used, and who sleeps ---- */

int classify_stamp_begin(struct classify *c, uint64_t ve, struct err *err)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    struct classify_stamp stamp = {(uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec};
    int r = bpf_map_update_elem(c->map[STAMPS], &ve, &stamp, BPF_NOEXIST);
    return r < 0 && r != -EEXIST ? err_sysno(err, -r, "cannot watch a VE's packets") : 0;
}

int classify_stamp_end(struct classify *c, uint64_t ve, struct err *err)
{
    return drop(c->map[STAMPS], &ve, "when the VE was used", err);
}

bool classify_stamp_get(struct classify *c, uint64_t ve, uint64_t *ret_ns)
{
    struct classify_stamp stamp;
    if (bpf_map_lookup_elem(c->map[STAMPS], &ve, &stamp) < 0)
        return false;
    *ret_ns = stamp.used_ns;
    return true;
}

int classify_sleep_put(struct classify *c, uint64_t ve, uint64_t used_ns, struct err *err)
{
    struct classify_sleep sleep = {.used_ns = used_ns};
    int r = bpf_map_update_elem(c->map[ASLEEP], &ve, &sleep, BPF_ANY);
    return r < 0 ? err_sysno(err, -r, "cannot have packets to it told") : 0;
}

int classify_sleep_delete(struct classify *c, uint64_t ve, struct err *err)
{
    return drop(c->map[ASLEEP], &ve, "that the VE sleeps", err);
}

bool classify_sleep_get(struct classify *c, uint64_t ve, struct classify_sleep *ret)
{
    return bpf_map_lookup_elem(c->map[ASLEEP], &ve, ret) == 0;
}

static int on_wake(void *ctx, void *data, size_t size)
{
    struct classify *c = ctx;
    uint64_t ve;
    if (size >= sizeof(ve)) {
        memcpy(&ve, data, sizeof(ve));
        c->wake(c->wake_ctx, ve);
    }
    return 0;
}

int classify_wakes_listen(struct classify *c, classify_wake_fn fn, void *ctx, int *ret_fd,
                          struct err *err)
{
    c->wake = fn;
    c->wake_ctx = ctx;
    if (!c->wakes)
        c->wakes = ring_buffer__new(c->map[WAKES], on_wake, c, NULL);
    if (!c->wakes)
        return err_sys(err, "cannot hear of packets to VEs that sleep");
    *ret_fd = ring_buffer__epoll_fd(c->wakes);
    return 0;
}

int classify_wakes_hear(struct classify *c, struct err *err)
{
    int r = c->wakes ? ring_buffer__consume(c->wakes) : 0;
    return r < 0 ? err_sysno(err, -r, "cannot hear of packets to VEs that sleep") : 0;
}
