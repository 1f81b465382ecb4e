/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The root of a VE, built by its first process inside its own mount namespace.
 *
 * The tree below the overlay is in the hands of whoever owned the VE before: every mount point is
 * one name in an open directory, opened without following a symlink, and made when it is missing.
 */
#include "container/internal.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "base/str.h"
#include "kernel/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define ATTR_PSEUDO (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

#define SCRATCH "size=256m" /* of a rescue system's own files; they count as the VE's memory */

/* Attached one over the other somewhere in the old root, which goes as a whole after the pivot:
 * the overlay refuses detached trees.  Not on "/" itself, where they would cover what the pivot
 * has to drop; and /proc is still needed. */
static int attach_trees(const int *layers, size_t n, int tree, struct err *err)
{
    auto_fd int old = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (old < 0)
        return err_sys(err, "cannot open the host's /dev");
    for (size_t i = 0; i < n; i++) {
        int r = mount_attach(layers[i], old, "", err);
        if (r < 0)
            return err_wrap(err, "layer %zu", i + 1);
    }
    return mount_attach(tree, old, "", err);
}

/* An overlay that cannot make its working directory is read-only, without a word
 * (ovl_get_workdir() in the kernel): there is no room for it.  Who knows where says so. */
static int check_writable(int root, struct err *err)
{
    struct statvfs fs;
    if (fstatvfs(root, &fs) < 0)
        return err_sys(err, "cannot look at its root");
    if (!(fs.f_flag & ST_RDONLY))
        return 0;
    err_set(err, ERR_EXHAUSTED, "its root would be read-only");
    err->sys = EROFS;
    return -ERR_EXHAUSTED;
}

static int stack(const int *layers, size_t n, int tree, bool old_overlay, int *ret_fd,
                 struct err *err)
{
    int r = attach_trees(layers, n, tree, err);
    if (r < 0)
        return r;
    if (n > 0) {
        r = mount_overlay(layers, n, tree, old_overlay, ret_fd, err);
        return r < 0 ? r : check_writable(*ret_fd, err);
    }
    /* No layer: upper/ itself is the root. */
    auto_fd int fd = -1;
    if ((r = mount_clone(tree, "upper", &fd, err)) < 0 ||
        (r = mount_attach(fd, tree, "upper", err)) < 0)
        return r;
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* A tree in memory, of the VE's own user namespace: it goes with the last process, whatever ends
 * that, and works where the disk is full. */
static int scratch_tree(int *ret_fd, struct err *err)
{
    static const char *const options[] = {"mode=0755", SCRATCH, NULL};
    auto_fd int fd = -1;
    int r = mount_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, &fd, err);
    if (r < 0)
        return r;
    if (mkdirat(fd, "upper", 0755) < 0 || mkdirat(fd, "work", 0700) < 0)
        return err_sys(err, "cannot make a tree in memory");
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int open_root(const struct root_parts *p, int *ret_fd, struct err *err)
{
    auto_fd int scratch = -1;
    if (p->tree < 0 && scratch_tree(&scratch, err) < 0)
        return err_wrap(err, "its rescue system");
    return stack(p->layers, p->n_layers, p->tree < 0 ? scratch : p->tree, p->old_overlay, ret_fd,
                 err);
}

/* The directory `name` of the VE's root, made when it is missing. */
static int open_point(int root, const char *name, int *ret_fd, struct err *err)
{
    if (mkdirat(root, name, 0755) < 0 && errno != EEXIST)
        return err_sys(err, "cannot make /%s in its root", name);
    int fd = openat(root, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
        return err_set(err, ERR_STATE, "/%s in its root is not a directory", name);
    if (fd < 0)
        return err_sys(err, "cannot open /%s in its root", name);
    *ret_fd = fd;
    return 0;
}

static int attach_in_root(int fd, int root, const char *name, struct err *err)
{
    auto_fd int point = -1;
    int r = open_point(root, name, &point, err);
    return r < 0 ? r : mount_attach(fd, point, "", err);
}

static int attach_new(const char *type, const char *const *options, unsigned attr, int dir,
                      const char *name, int *ret_fd, struct err *err)
{
    auto_fd int fd = -1;
    int r = mount_new(type, options, attr, &fd, err);
    if (r < 0 || (r = mount_attach(fd, dir, name, err)) < 0)
        return r;
    if (ret_fd)
        *ret_fd = steal_fd(&fd);
    return 0;
}

#define PTYS_MOST (1u << 20) /* NR_UNIX98_PTY_MAX */

static int fill_dev(int dev, uint64_t ptys, int *ret_devpts, struct err *err)
{
    char max[24]; /* the console is one, too */
    str_print(max, sizeof(max), "max=%u", ptys < PTYS_MOST ? (unsigned)ptys + 1 : PTYS_MOST);
    const char *const pts[] = {"gid=5", "mode=0620", "ptmxmode=0666", max, NULL};
    auto_fd int shm = -1;
    int r = attach_new("devpts", pts, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, dev, "pts", ret_devpts,
                       err);
    if (r == 0) /* the internal mount of the IPC namespace: no superblock more */
        r = attach_new("mqueue", NULL, ATTR_PSEUDO, dev, "mqueue", NULL, err);
    if (r == 0)
        r = mount_clone(dev, "shm", &shm, err);
    if (r == 0)
        r = mount_set(shm, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 0, err);
    return r < 0 ? r : mount_attach(shm, dev, "shm", err);
}

/*
 * What the user namespace protects by itself, so that nothing is mounted over it: /proc/sys
 * (files belong to the host's root and are read-only to others, except those of the VE's own
 * namespaces: net, kernel/hostname, domainname, ipc, user/max_*, which it may tune),
 * /proc/irq, /proc/bus (the same), /proc/kmsg, /proc/kallsyms (want capabilities over
 * the machine), and /sys.
 *
 * Hidden all the same, should such a check ever be wrong, or because it tells about the machine
 * and the neighbours.  The VE's root can take these covers off: they are no boundary.
 */
static const struct {
    const char *name;
    bool dir, sys;
} hidden[] = {
    {"kcore", false, false},      {"keys", false, false}, {"sysrq-trigger", false, false},
    {"timer_list", false, false}, {"acpi", true, false},  {"scsi", true, false},
    {"firmware", true, true},
};

/* Without nesting .terem itself is empty: each name in /dev takes 1 KB of the machine. */
static int hide(const struct root_parts *p, int proc, int sys, struct err *err)
{
    const char *empty = p->nesting ? ".terem/empty" : ".terem";
    for (size_t i = 0; i < ARRAY_SIZE(hidden); i++) {
        auto_fd int cover = -1;
        int dir = hidden[i].sys ? sys : proc;
        if (faccessat(dir, hidden[i].name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        int r = mount_clone(p->dev, hidden[i].dir ? empty : "null", &cover, err);
        if (r == 0 && hidden[i].dir)
            r = mount_set(cover, MOUNT_ATTR_RDONLY, 0, err);
        if (r == 0)
            r = mount_attach(cover, dir, hidden[i].name, err);
        if (r < 0)
            return err_wrap(err, "cannot hide %s", hidden[i].name);
    }
    return 0;
}

/*
 * A new proc or sysfs may be mounted in a user namespace only where one is already fully visible.
 * Ours are covered in places, so containers inside (podman, nested engines) find uncovered ones
 * here.
 */
static int show_whole(int dev, int proc, int sys, struct err *err)
{
    auto_fd int p = -1, s = -1;
    int r = mount_clone(proc, "", &p, err);
    if (r == 0)
        r = mount_attach(p, dev, ".terem/proc", err);
    if (r == 0)
        r = mount_clone(sys, "", &s, err);
    if (r == 0) /* else only read-only ones may be mounted anew */
        r = mount_set(s, 0, MOUNT_ATTR_RDONLY, err);
    return r < 0 ? r : mount_attach(s, dev, ".terem/sys", err);
}

static int mount_proc_sys(const struct root_parts *p, int root, struct err *err)
{
    auto_fd int proc_dir = -1, sys_dir = -1, proc = -1, sys = -1;
    int r;
    if ((r = open_point(root, "proc", &proc_dir, err)) < 0 ||
        (r = open_point(root, "sys", &sys_dir, err)) < 0 ||
        (r = attach_new("proc", NULL, ATTR_PSEUDO, proc_dir, "", &proc, err)) < 0 ||
        /* read-only tells init systems that no device manager is wanted */
        (r = attach_new("sysfs", NULL, ATTR_PSEUDO | MOUNT_ATTR_RDONLY, sys_dir, "", &sys, err)) <
            0)
        return r;
    if (p->nesting && (r = show_whole(p->dev, proc, sys, err)) < 0)
        return r;
    if (p->cgroup &&
        (r = attach_new("cgroup2", NULL, ATTR_PSEUDO, sys, "fs/cgroup", NULL, err)) < 0)
        return r;
    if ((r = hide(p, proc, sys, err)) < 0)
        return r;
    if (p->proc_fs >= 0 && (r = mount_attach(p->proc_fs, proc, "fs", err)) < 0)
        return r;
    for (size_t i = 0; i < LXCFS_COUNT; i++)
        if (p->lxcfs[i] >= 0 && (r = lxcfs_attach(p->lxcfs[i], i, proc, sys, false, err)) < 0)
            return r;
    return 0;
}

/* The broken root and, read-only, its template.  Nothing below them is looked at. */
static int attach_repair(const struct root_parts *p, int root, struct err *err)
{
    const struct container_repair *broken = p->repair;
    auto_fd int fd = -1, point = -1;
    int r = stack(broken->layers, broken->n_layers, broken->tree, p->old_overlay, &fd, err);
    if (r == 0)
        r = attach_in_root(fd, root, "repair", err);
    if (r < 0)
        return err_wrap(err, "cannot open the root that is to be repaired");
    if (broken->n_layers == 0)
        return 0;
    if ((r = open_point(root, "template", &point, err)) == 0)
        r = mount_layers(broken->layers, broken->n_layers, p->old_overlay, root, "template", err);
    return r < 0 ? err_wrap(err, "cannot show its template") : 0;
}

int root_build(const struct root_parts *parts, int *ret_devpts, struct err *err)
{
    auto_fd int root = -1, devpts = -1;
    /* What the host mounts from now on must not come here, nor ours go there. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_sys(err, "cannot part from the host's mounts");
    int r = open_root(parts, &root, err);
    if (r == 0 && parts->repair)
        r = attach_repair(parts, root, err);
    if (r == 0)
        r = attach_in_root(parts->dev, root, "dev", err);
    if (r == 0)
        r = fill_dev(parts->dev, parts->ptys, &devpts, err);
    if (r == 0)
        r = mount_proc_sys(parts, root, err);
    if (r == 0)
        r = mount_pivot(root, err);
    if (r < 0)
        return err_wrap(err, "cannot build its root");
    *ret_devpts = steal_fd(&devpts);
    return 0;
}
