/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bpf_load — the programs into the kernel, and what keeps them there.
 *
 * In the bpffs: maps-<layout>/<map>, and <part>-<edition>/<program> for each part that works; the
 * edition follows from the program's bytes.  A part's directory gets its name when all in it is
 * attached, so that it is complete or not there.  Programs of another edition (Terem was
 * upgraded) are removed when the new ones are attached; the maps stay, and what both see in
 * between is counted once (tags and the table of objects see to that).
 *
 * Programs of cgroups hang at the cgroup, the others at a link that is pinned.
 *
 * What the kernel refused has a symbolic link refused-<part>-<edition> whose text is the reason:
 * asking again costs 40 ms for reading the kernel's types, and the answer is the same until the
 * machine or the program is another one.  Those of other editions are removed at the next start.
 */
#include "kernel/bpf_load.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/vfs.h>

#include "kernel/exit.skel.h"
#include "kernel/held.skel.h"
#include "kernel/lock.skel.h"
#include "kernel/object.skel.h"
#include "kernel/quota.skel.h"
#include "kernel/refusal.skel.h"
#include "kernel/socket.skel.h"
#include "kernel/ucount.skel.h"

#define PREFIX    "terem_" /* of all our programs */
#define GUARD     PREFIX "opening"
#define HELD      PREFIX "held"
#define PATH_SIZE 768
#define NAME_LEN  80
/* Of the machine's memory for each thing that BPF LSM counts; its slot takes 16 bytes. */
#define BYTES_PER_OBJECT 32768
#define ATTACHED_MAX     64
/* errno that the kernel has for itself: it cannot attach there, ever. */
#define KERNEL_ENOTSUPP 524

static const struct part {
    const char *name;
    const void *(*elf)(size_t *size);
    const char *needs;
} parts[] = {
    [COUNTS_PART_SOCKET] = {"socket", socket_bpf__elf_bytes, "BPF on cgroups, and BTF"},
    [COUNTS_PART_OBJECT] = {"object", object_bpf__elf_bytes, "BPF LSM (\"bpf\" in lsm=)"},
    [COUNTS_PART_LOCK] = {"lock", lock_bpf__elf_bytes, "BPF LSM, and BPF at functions"},
    [COUNTS_PART_REFUSAL] = {"refusal", refusal_bpf__elf_bytes, "BPF at functions of the kernel"},
    [COUNTS_PART_UCOUNT] = {"ucount", ucount_bpf__elf_bytes, "BPF at functions of the kernel"},
    [COUNTS_PART_HELD] = {"held", held_bpf__elf_bytes, "BPF iterators"},
    [COUNTS_PART_QUOTA] = {"quota", quota_bpf__elf_bytes, "BPF at functions of the kernel"},
    [COUNTS_PART_EXIT] = {"exit", exit_bpf__elf_bytes, "BPF at tracepoints"},
};
_Static_assert(ARRAY_SIZE(parts) == COUNTS_PARTS, "a part without its programs");

static const char *const maps[] = {
    [COUNTS_MAP_COUNTS] = "counts",   [COUNTS_MAP_LIMITS] = "limits",
    [COUNTS_MAP_EVENTS] = "events",   [COUNTS_MAP_LOST] = "lost",
    [COUNTS_MAP_OPENING] = "opening",
};
_Static_assert(ARRAY_SIZE(maps) == COUNTS_MAPS, "a map without a name");

void bpf_load_closep(struct bpf_object **o)
{
    bpf_object__close(*o);
    *o = NULL;
}

static int silent(enum libbpf_print_level level, const char *fmt, va_list args)
{
    return 0; /* the reason that the kernel gives is ours to tell */
}

static bool is_bpffs(const char *dir)
{
    struct statfs s;
    return statfs(dir, &s) == 0 && s.f_type == BPF_FS_MAGIC;
}

int bpf_load_mount(const char *dir, struct err *err)
{
    libbpf_set_print(silent);
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_sys(err, "cannot make %s", dir);
    if (!is_bpffs(dir) &&
        mount("bpf", dir, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME, "mode=0700") < 0)
        return err_sys(err, "cannot mount a bpffs on %s", dir);
    return 0;
}

int counts_remove(const char *dir, struct err *err)
{
    while (is_bpffs(dir))
        if (umount2(dir, MNT_DETACH) < 0)
            return err_sys(err, "cannot unmount %s", dir);
    if (rmdir(dir) < 0 && errno != ENOENT)
        return err_sys(err, "cannot remove %s", dir);
    return 0;
}

/* FNV-1a: tells editions of a program apart, nothing more. */
uint64_t bpf_load_edition(const void *elf, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const unsigned char *)elf)[i]) * 0x100000001b3;
    return hash;
}

static int pinned(const char *dir, const char *name)
{
    char path[PATH_SIZE];
    str_print(path, sizeof(path), "%s/%s", dir, name);
    return bpf_obj_get(path);
}

static void remove_dir(int parent, const char *name)
{
    auto_fd int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return;
    steal_fd(&fd);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(dir), e->d_name, 0);
    unlinkat(parent, name, AT_REMOVEDIR);
}

void bpf_load_remove_others(int bpffs, const char *part, const char *keep)
{
    auto_dir DIR *dir = fd_list(bpffs);
    size_t len = strlen(part);
    if (!dir)
        return;
    for (struct dirent *e; (e = readdir(dir));)
        if (str_starts(e->d_name, part) && e->d_name[len] == '-' &&
            !str_starts(e->d_name + len, "-maps-") && !str_eq(e->d_name, keep))
            if (unlinkat(bpffs, e->d_name, 0) < 0) /* a refusal is a link */
                remove_dir(bpffs, e->d_name);
}

/* Attached at the cgroup, and no other program of ours with it. */
static int attach_cgroup(int cgroup, int prog, enum bpf_attach_type type, struct err *err)
{
    struct bpf_prog_info info = {0};
    uint32_t size = sizeof(info), ids[ATTACHED_MAX], n = ATTACHED_MAX;
    bool there = false;
    int r = bpf_obj_get_info_by_fd(prog, &info, &size);
    if (r == 0)
        r = bpf_prog_query(cgroup, type, 0, NULL, ids, &n);
    if (r < 0)
        return err_sysno(err, -r, "cannot ask for the BPF programs of the cgroup");
    for (uint32_t i = 0; i < n; i++)
        there |= ids[i] == info.id;
    if (!there && (r = bpf_prog_attach(prog, cgroup, type, BPF_F_ALLOW_MULTI)) < 0)
        return err_sysno(err, -r, "cannot attach %s to the cgroup", info.name);
    for (uint32_t i = 0; i < n; i++) {
        struct bpf_prog_info other = {0};
        size = sizeof(other);
        auto_fd int fd = ids[i] == info.id ? -1 : bpf_prog_get_fd_by_id(ids[i]);
        if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &other, &size) == 0 &&
            strncmp(other.name, PREFIX, strlen(PREFIX)) == 0)
            bpf_prog_detach2(fd, cgroup, type);
    }
    return 0;
}

static bool of_cgroup(const struct bpf_program *p)
{
    const char *section = bpf_program__section_name(p);
    return strncmp(section, "cgroup", 6) == 0 || str_eq(section, "sockops");
}

/* Run when somebody asks, and attached to nothing. */
static bool is_asked(const struct bpf_program *p)
{
    return strncmp(bpf_program__section_name(p), "iter/", 5) == 0;
}

/* The part's programs are in the kernel already, by these pins; those of cgroups are attached
 * again where they are missing.  The guard stays open for counts_guard(), and what is run when
 * somebody asks for counts_held(). */
static int adopt(struct counts *c, struct bpf_object *o, const char *at, int cgroup,
                 struct err *err)
{
    struct bpf_program *p;
    bpf_object__for_each_program(p, o)
    {
        if (!of_cgroup(p) && !is_asked(p))
            continue;
        auto_fd int fd = pinned(at, bpf_program__name(p));
        if (fd < 0)
            return err_sys(err, "cannot open the pinned program %s", bpf_program__name(p));
        if (str_eq(bpf_program__name(p), GUARD)) {
            c->guard = steal_fd(&fd);
            continue;
        }
        if (str_eq(bpf_program__name(p), HELD)) {
            c->held = steal_fd(&fd);
            continue;
        }
        int r = attach_cgroup(cgroup, fd, bpf_program__expected_attach_type(p), err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Maps are shared by all parts and editions; those that are there are taken again. */
static int place_maps(const struct counts *c, struct bpf_object *o, struct err *err)
{
    char dir[PATH_SIZE], path[PATH_SIZE * 2];
    struct bpf_map *m;
    struct sysinfo s = {0};
    str_print(dir, sizeof(dir), "%s/maps-%d", c->path, COUNTS_LAYOUT);
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_sys(err, "cannot make %s", dir);
    sysinfo(&s);
    bpf_object__for_each_map(m, o)
    {
        const char *name = bpf_map__name(m);
        if (bpf_map__is_internal(m))
            continue;
        if (str_eq(name, "objects")) {
            struct bpf_map_info info = {0};
            uint32_t size = sizeof(info);
            uint64_t n = (uint64_t)s.totalram * s.mem_unit / BYTES_PER_OBJECT;
            auto_fd int old = pinned(dir, name);
            if (old >= 0 && bpf_obj_get_info_by_fd(old, &info, &size) == 0)
                n = info.max_entries; /* the machine's memory may have grown */
            bpf_map__set_max_entries(m, (uint32_t)(n < 1024 ? 1024 : n));
        }
        str_print(path, sizeof(path), "%s/%s", dir, name);
        int r = bpf_map__set_pin_path(m, path);
        if (r < 0)
            return err_sysno(err, -r, "cannot place the map %s", name);
    }
    return 0;
}

/* What disk quotas refuse is counted at many functions, and any of them may be missing. */
static bool is_of_many(const struct part *part)
{
    return part == &parts[COUNTS_PART_QUOTA];
}

/* Programs at functions that this kernel has not; one that has none of them cannot be served. */
static int leave_out(struct bpf_object *o, struct err *err)
{
    struct bpf_program *p;
    bool any = false;
    bpf_object__for_each_program(p, o)
    {
        const char *function = strchr(bpf_program__section_name(p), '/');
        bool there = function && bpf_program__set_attach_target(p, 0, function + 1) == 0;
        bpf_program__set_autoload(p, there);
        any |= there;
    }
    return any ? 0 : err_set(err, ERR_UNSUPPORTED, "the kernel does not tell of its functions");
}

static int pin_programs(const struct part *part, struct bpf_object *o, const char *at,
                        struct err *err)
{
    char path[PATH_SIZE];
    struct bpf_program *p;
    bool any = false;
    bpf_object__for_each_program(p, o)
    {
        if (!bpf_program__autoload(p))
            continue;
        str_print(path, sizeof(path), "%s/%s", at, bpf_program__name(p));
        int r;
        if (of_cgroup(p) || is_asked(p)) {
            r = bpf_program__pin(p, path);
        } else {
            struct bpf_link *link = bpf_program__attach(p);
            /* 6.1 has no trampolines for functions of more than six arguments. */
            if (!link && errno == KERNEL_ENOTSUPP && is_of_many(part))
                continue;
            if (!link)
                return err_sys(err, "cannot attach %s", bpf_program__name(p));
            r = bpf_link__pin(link, path);
            bpf_link__destroy(link); /* the pin holds it */
        }
        if (r < 0)
            return err_sysno(err, -r, "cannot pin %s", bpf_program__name(p));
        any = true;
    }
    return any ? 0 : err_set(err, ERR_UNSUPPORTED, "the kernel attaches none of its programs");
}

/* Attaches what is loaded, all of it or nothing. */
static int attach_programs(struct counts *c, const struct part *part, struct bpf_object *o,
                           const char *name, struct err *err)
{
    char draft[80], draft_at[PATH_SIZE];
    str_print(draft, sizeof(draft), "%s-draft", part->name);
    str_print(draft_at, sizeof(draft_at), "%s/%s", c->path, draft);
    remove_dir(c->dir, draft);
    if (mkdirat(c->dir, draft, 0700) < 0)
        return err_sys(err, "cannot make %s", draft_at);
    int r = pin_programs(part, o, draft_at, err);
    if (r == 0 && renameat(c->dir, draft, c->dir, name) < 0)
        r = err_sys(err, "cannot rename %s", draft_at);
    if (r < 0)
        remove_dir(c->dir, draft);
    return r;
}

/* Another time the answer may be another one. */
static bool is_of_the_moment(const struct err *err)
{
    return err->sys == ENOMEM || err->sys == EAGAIN || err->sys == EINTR || err->sys == ENOSPC ||
           err->sys == EBUSY;
}

/* Loads the part's programs and pins them below c->dir as `name`. */
static int load_programs(struct counts *c, const struct part *part, struct bpf_object *o,
                         const char *name, struct err *err)
{
    char refused[80], why[512];
    str_print(refused, sizeof(refused), "refused-%s", name);
    ssize_t n = readlinkat(c->dir, refused, why, sizeof(why) - 1);
    if (n > 0)
        return err_set(err, ERR_UNSUPPORTED, "%.*s", (int)n, why);
    int r = place_maps(c, o, err);
    if (r < 0)
        return r;
    r = is_of_many(part) ? leave_out(o, err) : 0;
    if (r == 0 && (r = bpf_object__load(o)) < 0)
        r = err_sysno(err, -r, "the kernel refuses its programs");
    if (r == 0)
        r = attach_programs(c, part, o, name, err);
    if (r < 0 && !is_of_the_moment(err) && symlinkat(err->text, c->dir, refused) < 0)
        errno = 0; /* then it is asked again */
    return r;
}

/* A part's directory in the bpffs. */
static void part_name(const struct counts *c, const struct part *part, char name[NAME_LEN])
{
    size_t size;
    const void *elf = part->elf(&size);
    str_print(name, NAME_LEN, "%s-%016" PRIx64, part->name, bpf_load_edition(elf, size));
    if (is_of_many(part))
        str_print(name + strlen(name), NAME_LEN - strlen(name), "-%x", c->file_systems);
}

static int load_part(struct counts *c, const struct part *part, int cgroup, struct err *err)
{
    char name[NAME_LEN], at[PATH_SIZE], refused[NAME_LEN], keep[NAME_LEN + 16];
    size_t size;
    const void *elf = part->elf(&size);
    struct stat st;
    LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "terem");
    auto_clean(bpf_load_closep) struct bpf_object *o = bpf_object__open_mem(elf, size, &opts);
    if (!o)
        return err_sys(err, "cannot read the BPF programs");
    part_name(c, part, name);
    str_print(at, sizeof(at), "%s/%s", c->path, name);
    str_print(refused, sizeof(refused), "refused-%s", part->name);
    str_print(keep, sizeof(keep), "refused-%s", name);
    bpf_load_remove_others(c->dir, refused, keep); /* of other editions */
    int r = fstatat(c->dir, name, &st, 0) < 0 ? load_programs(c, part, o, name, err) : 0;
    if (r == 0)
        r = adopt(c, o, at, cgroup, err);
    if (r == 0)
        bpf_load_remove_others(c->dir, part->name, name);
    return r;
}

static int open_maps(struct counts *c, struct err *err)
{
    char dir[PATH_SIZE];
    str_print(dir, sizeof(dir), "%s/maps-%d", c->path, COUNTS_LAYOUT);
    for (size_t i = 0; i < COUNTS_MAPS; i++) {
        c->map[i] = pinned(dir, maps[i]);
        if (c->map[i] < 0)
            return err_sys(err, "cannot open the map %s in %s", maps[i], dir);
    }
    return 0;
}

int counts_open(const char *dir, int cgroup, struct counts **ret, struct err *err)
{
    struct err own = {0};
    if (!err)
        err = &own;
    struct counts *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    c->dir = c->guard = c->held = -1;
    c->quotas_by = COUNTS_PARTS;
    for (size_t i = 0; i < COUNTS_MAPS; i++)
        c->map[i] = -1;
    str_print(c->path, sizeof(c->path), "%s", dir);
    int r = bpf_load_mount(dir, err);
    if (r == 0 && (c->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        r = err_sys(err, "cannot open %s", dir);
    for (size_t i = 0; i < COUNTS_PART_QUOTA && r == 0; i++) {
        struct err why = {0};
        if (load_part(c, &parts[i], cgroup, &why) < 0)
            str_print(c->why[i], sizeof(c->why[i]), "it needs %s: %s", parts[i].needs, why.text);
        if (i == COUNTS_PART_SOCKET && c->why[i][0])
            r = err_set(err, why.kind, "%s", c->why[i]); /* the others need its maps */
    }
    if (r == 0)
        r = open_maps(c, err);
    if (r < 0) {
        counts_close(c);
        return r;
    }
    *ret = c;
    return 0;
}

int counts_guard(struct counts *c, int cgroup, struct err *err)
{
    return attach_cgroup(cgroup, c->guard, BPF_CGROUP_INET_INGRESS, err);
}

/* Those of a VE's files.  Built into the kernel they may have no directory, and never come later.
 */
static unsigned file_systems(void)
{
    static const char *const modules[] = {"overlay", "btrfs", "ext4", "xfs"};
    unsigned bits = 0;
    /* Its functions are there when it is loaded, and the first VE would load it. */
    auto_fd int overlay = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
    for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
        char path[48];
        str_print(path, sizeof(path), "/sys/module/%s", modules[i]);
        bits |= (access(path, F_OK) == 0 ? 1u : 0u) << i;
    }
    return bits;
}

static const enum counts_part ways[] = {COUNTS_PART_QUOTA, COUNTS_PART_EXIT}; /* best first */

int counts_quotas(struct counts *c, bool on, struct err *err)
{
    struct err why = {0}, first = {0};
    bool done = !on;
    c->file_systems = file_systems();
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        const struct part *part = &parts[ways[i]];
        if (!done && load_part(c, part, -1, &why) == 0) {
            done = true;
            continue;
        }
        bpf_load_remove_others(c->dir, part->name, "");
        if (i == 0)
            first = why;
    }
    return done
               ? 0
               : err_set(err, ERR_UNSUPPORTED, "it needs %s: %s", parts[ways[0]].needs, first.text);
}

static bool is_any_there(const struct counts *c)
{
    auto_dir DIR *dir = fd_list(c->dir);
    if (!dir)
        return false;
    for (struct dirent *e; (e = readdir(dir));)
        for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
            if (str_starts(e->d_name, parts[ways[i]].name) &&
                e->d_name[strlen(parts[ways[i]].name)] == '-')
                return true;
    return false;
}

enum counts_wish counts_quotas_look(struct counts *c, bool on)
{
    c->quotas_by = COUNTS_PARTS;
    if (!on)
        return is_any_there(c) ? COUNTS_TO_DO : COUNTS_AS_WISHED;
    c->file_systems = file_systems();
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        char name[NAME_LEN], refused[NAME_LEN + 16];
        struct stat st;
        part_name(c, &parts[ways[i]], name);
        if (fstatat(c->dir, name, &st, 0) == 0) {
            c->quotas_by = ways[i];
            return COUNTS_AS_WISHED;
        }
        str_print(refused, sizeof(refused), "refused-%s", name);
        if (fstatat(c->dir, refused, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return COUNTS_TO_DO;
    }
    return COUNTS_CANNOT;
}

enum counts_part counts_quotas_by(const struct counts *c)
{
    return c->quotas_by;
}
