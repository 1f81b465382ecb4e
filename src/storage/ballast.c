/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ballast — a little of a pool that no VE can write to, for when they have filled all the rest.
 *
 * Starting a VE makes a directory in its tree (overlay's work/): without room for that its root
 * would be read-only, and nobody could delete anything in it.  Deleting itself needs no room.  So
 * pieces are held back, and given up one by one as they are needed.  A piece is a file with blocks;
 * on btrfs, whose metadata has a place of its own, also with attributes that fill it.
 */
#include "base/cleanup.h"
#include "base/str.h"
#include "kernel/btrfs.h"
#include "storage/driver.h"

#include <fcntl.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PIECES      8
#define PIECE_BYTES (512 << 10)
#define PIECE_ATTRS 128
#define ATTR_SIZE   15000                /* with its head it fills a leaf of 16 KiB */
#define ROOM        (UINT64_C(64) << 20) /* all of it takes 4 MiB, on btrfs 20 */
#define ROOM_INODES 1024

static void piece_name(unsigned n, char ret[STORAGE_ID_TEXT])
{
    str_print(ret, STORAGE_ID_TEXT, "ballast-%u", n);
}

static bool has_piece(struct storage_pool *p, unsigned n)
{
    char name[STORAGE_ID_TEXT];
    piece_name(n, name);
    return faccessat(p->spare, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool has_room(struct storage_pool *p)
{
    struct statfs s;
    return fstatfs(p->dir, &s) == 0 && s.f_bavail >= ROOM / (uint64_t)s.f_bsize &&
           (!s.f_files || s.f_ffree >= ROOM_INODES);
}

bool storage_is_short(struct storage_pool *p)
{
    for (unsigned n = 0; n < PIECES; n++)
        if (!has_piece(p, n))
            return has_room(p);
    return false;
}

/* Of one that is made half, that half is held back. */
static bool make_piece(struct storage_pool *p, unsigned n)
{
    char name[STORAGE_ID_TEXT], filler[ATTR_SIZE], attr[32];
    piece_name(n, name);
    auto_fd int fd =
        openat(p->spare, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    /* Where blocks cannot be set aside there is still the file itself. */
    int r = fallocate(fd, 0, 0, PIECE_BYTES);
    memset(filler, 0, sizeof(filler));
    for (unsigned i = 0; r == 0 && i < PIECE_ATTRS && btrfs_is(fd); i++) {
        str_print(attr, sizeof(attr), "trusted.terem.%u", i);
        r = fsetxattr(fd, attr, filler, sizeof(filler), 0);
    }
    return r == 0;
}

void ballast_fill(struct storage_pool *p)
{
    for (unsigned n = 0; n < PIECES; n++)
        if (!has_piece(p, n) && (!has_room(p) || !make_piece(p, n)))
            break;
}

bool storage_yield(struct storage_pool *p)
{
    char name[STORAGE_ID_TEXT];
    if (has_room(p))
        return false;
    for (unsigned n = PIECES; n-- > 0;) {
        piece_name(n, name);
        /* What was freed can be used when that is on the disk. */
        if (unlinkat(p->spare, name, 0) == 0)
            return p->ops->commit(p, NULL) == 0;
    }
    return false;
}
