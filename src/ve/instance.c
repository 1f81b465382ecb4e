/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which number this instance has on this machine.  The number separates id ranges, interface
 * names, the nft table, the cgroup and the address pools of several instances.
 *
 * The default instance is 0.  Another one claims a number by a symlink
 * /run/terem-instances/<number> → its root directory (making a symlink is atomic), and keeps the
 * number in its registry so that its VEs keep their addresses.  A claim that it has wins over what
 * the registry tells, which may be an older copy.  A claim whose directory is gone may be taken
 * over; all of this under a lock.
 */
#include "ve/instance.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLAIMS "/run/terem-instances"

/* The directory of claims, while nobody else looks at it or changes it: a stale claim that one
 * takes over is not the fresh one of another by the time it is removed.  Whoever removes the
 * directory has the lock as well, so one that is unlinked is not the one to wait for. */
static int lock_claims(bool make, int *ret_fd, struct err *err)
{
    for (;;) {
        struct stat st;
        if (make && path_make_dirs(CLAIMS, 0755, err) < 0)
            return -err->kind;
        auto_fd int fd = open(CLAIMS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT && make)
            continue;
        if (fd < 0 || flock(fd, LOCK_EX) < 0 || fstat(fd, &st) < 0)
            return err_sys(err, "cannot lock " CLAIMS);
        if (st.st_nlink == 0 && make)
            continue;
        *ret_fd = steal_fd(&fd);
        return 0;
    }
}

/* Whose number it is; false: nobody's. */
static bool owner_of(int claims, unsigned n, char ret_name[12], char ret_owner[PATH_MAX])
{
    str_print(ret_name, 12, "%u", n);
    ssize_t len = readlinkat(claims, ret_name, ret_owner, PATH_MAX - 1);
    ret_owner[len > 0 ? len : 0] = '\0';
    return len > 0;
}

/* 1 claimed, 0 taken by another. */
static int claim(int claims, unsigned n, const char *root, struct err *err)
{
    char name[12], owner[PATH_MAX];
    struct stat st;
    if (owner_of(claims, n, name, owner)) {
        if (stat(owner, &st) == 0 || errno != ENOENT)
            return 0;
        unlinkat(claims, name, 0);
    }
    if (symlinkat(root, claims, name) < 0)
        return err_sys(err, "cannot claim instance number %u in " CLAIMS, n);
    return 1;
}

/* The number that this root has already, by which its things in the kernel are known; 0: none. */
static unsigned claimed_by(int claims, const char *root)
{
    char name[12], owner[PATH_MAX];
    for (unsigned n = 1; n <= VE_INSTANCE_MAX; n++)
        if (owner_of(claims, n, name, owner) && str_eq(owner, root))
            return n;
    return 0;
}

int ve_instance_claim(const struct place *place, unsigned wish, unsigned *ret, struct err *err)
{
    auto_fd int claims = -1;
    if (place->is_default) {
        *ret = 0;
        return 0;
    }
    int r = lock_claims(true, &claims, err);
    if (r < 0)
        return r;
    unsigned n = claimed_by(claims, place->root);
    r = n != 0;
    if (r == 0 && wish >= 1 && wish <= VE_INSTANCE_MAX)
        r = claim(claims, n = wish, place->root, err);
    for (unsigned i = 1; r == 0 && i <= VE_INSTANCE_MAX; i++)
        r = claim(claims, n = i, place->root, err);
    if (r == 0)
        return err_set(err, ERR_EXHAUSTED,
                       "all %d instance numbers of this machine are taken; see " CLAIMS,
                       VE_INSTANCE_MAX);
    if (r > 0)
        *ret = n;
    return r < 0 ? r : 0;
}

void ve_instance_release(const struct place *place, unsigned n)
{
    char name[12], owner[PATH_MAX];
    auto_fd int claims = -1;
    if (place->is_default || lock_claims(false, &claims, NULL) < 0)
        return;
    if (owner_of(claims, n, name, owner) && str_eq(owner, place->root))
        unlinkat(claims, name, 0);
    rmdir(CLAIMS); /* only when it was the last */
}

bool ve_instance_others(void)
{
    auto_dir DIR *d = opendir(CLAIMS);
    struct dirent *e;
    struct stat st;
    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.' && fstatat(dirfd(d), e->d_name, &st, 0) == 0)
            return true;
    return false;
}

/*
 * 65,536 ids a VE.  systemd keeps 524288–1879048191 (0x80000–0x6fffffff) for containers
 * (UIDS-GIDS.md); the default instance takes 0x10000000–0x4fffffff (16,384 VEs) of it, every other
 * one 0x04000000 ids (1,024 VEs) from 0x50000000 up.
 */
uint32_t ve_instance_slots(unsigned n)
{
    return n == 0 ? 16384 : 1024;
}

uid_t ve_instance_id_base(unsigned n, uint32_t slot)
{
    uint32_t first = n == 0 ? 0x10000000u : 0x50000000u + (n - 1) * 0x04000000u;
    return first + (slot - 1) * 65536u;
}
