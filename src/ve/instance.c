/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which number this instance has on this machine.  The number separates id ranges, interface
 * names, the nft table, the cgroup and the address pools of several instances.
 *
 * The default instance is 0.  Another one claims a number by a symlink
 * /run/terem-instances/<number> → its root directory (making a symlink is atomic), and keeps the
 * number in its registry so that its VEs keep their addresses.  A claim whose directory is gone
 * may be taken over.
 */
#include "ve/instance.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLAIMS "/run/terem-instances"

/* 1 claimed, 0 taken by another. */
static int claim(unsigned n, const char *root, struct err *err)
{
    char path[64], owner[PATH_MAX];
    str_print(path, sizeof(path), CLAIMS "/%u", n);
    for (int tries = 0; tries < 3; tries++) {
        if (symlink(root, path) == 0)
            return 1;
        if (errno != EEXIST)
            return err_sys(err, "cannot claim instance number %u in " CLAIMS, n);
        ssize_t len = readlink(path, owner, sizeof(owner) - 1);
        if (len < 0)
            continue;
        owner[len] = '\0';
        if (str_eq(owner, root))
            return 1;
        struct stat st;
        if (stat(owner, &st) == 0 || errno != ENOENT)
            return 0;
        unlink(path);
    }
    return 0;
}

int ve_instance_claim(const struct place *place, unsigned wish, unsigned *ret, struct err *err)
{
    if (place->is_default) {
        *ret = 0;
        return 0;
    }
    if (path_make_dirs(CLAIMS, 0755, err) < 0)
        return -err->kind;
    int r = wish >= 1 && wish <= VE_INSTANCE_MAX ? claim(wish, place->root, err) : 0;
    unsigned n = wish;
    for (unsigned i = 1; r == 0 && i <= VE_INSTANCE_MAX; i++)
        r = claim(n = i, place->root, err);
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
    char path[64], owner[PATH_MAX];
    str_print(path, sizeof(path), CLAIMS "/%u", n);
    ssize_t len = place->is_default ? -1 : readlink(path, owner, sizeof(owner) - 1);
    if (len < 0)
        return;
    owner[len] = '\0';
    if (str_eq(owner, place->root))
        unlink(path);
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
