/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * driver — what a pool asks of the file system that its trees lie in.
 *
 * pool.c and tree.c know names, the trash and the order of steps; a driver knows how a tree is
 * made, copied, removed, bounded and counted.  A tree is a directory that holds upper/ and work/.
 * It is made and copied under a name in the trash, where nobody looks for trees, and takes its
 * real name by a rename; so a driver may leave a half-made one behind when it is killed.
 */
#pragma once

#include "storage/storage.h"

#define STORAGE_ID_TEXT 24

/* The file system that a pool's image holds. */
struct storage_image {
    const char *type;
    const char *const *mkfs; /* a label, `options` and the image's path are added */
    const char *const *mount_options;
    const char *const *other_options; /* where the kernel refuses those; NULL: there are none */
    uint64_t min;                     /* bytes that mkfs asks for, and some room */
};

struct storage_ops {
    const char *name;
    const struct storage_image *image; /* NULL: never in one */
    /* Once, when a pool is made; may be NULL. */
    int (*prepare)(struct storage_pool *p, struct err *err);
    /* Looks at the pool's file system and fills p->can; one that it cannot work on is refused. */
    int (*start)(struct storage_pool *p, struct err *err);
    /* Is a copy of this one there under its name whole, durable and protected, or not at all?  Then
     * it needs no rename.  NULL: never. */
    bool (*copies_at_once)(struct storage_pool *p, int from);
    /* Makes an empty tree. */
    int (*make)(struct storage_pool *p, int dir, const char *name, struct err *err);
    /* Makes `name` a copy of tree `from` (of any pool) with its mark (tree_mark_copy()), bounded by
     * nothing, and its content durable.  protect: of one that copies_at_once().  On failure nothing
     * is left. */
    int (*copy)(struct storage_pool *p, int from, int dir, const char *name, bool protect,
                const struct storage_step *step, struct err *err);
    /* Deletes a tree; not there: fine. */
    int (*remove)(struct storage_pool *p, int dir, const char *name, struct err *err);
    /* After some were deleted; may be NULL. */
    int (*tidy)(struct storage_pool *p, struct err *err);
    /* Nothing can write to a tree that is protected, and it may be impossible to rename it; may be
     * NULL. */
    int (*protect)(struct storage_pool *p, int tree, bool on, struct err *err);
    /* The names of trees are on disk as they are now. */
    int (*commit)(struct storage_pool *p, struct err *err);
    /* Bounds of a tree.  What p->can lacks is unlimited. */
    int (*limit)(struct storage_pool *p, int tree, const struct storage_limits *l, struct err *err);
    int (*limits)(struct storage_pool *p, int tree, struct storage_limits *ret, struct err *err);
    int (*usage)(struct storage_pool *p, int tree, struct storage_usage *ret, struct err *err);
    int (*saved_usage)(struct storage_pool *p, int tree, uint64_t *ret_own, uint64_t *ret_total,
                       struct err *err);
    /* The file system takes the whole of its device, which has grown. */
    int (*grow)(struct storage_pool *p, struct err *err);
};

extern const struct storage_ops storage_dir, storage_btrfs, storage_xfs;
/* By its name; NULL and a sentence: there is none. */
const struct storage_ops *storage_driver(const char *name, struct err *err);

struct storage_pool {
    const struct storage_ops *ops;
    struct storage_can can;
    int dir, saved, spare, trash;
    int sysfs;          /* what the kernel tells of a btrfs; -1: it is another one */
    char *path, *image; /* image: NULL, none */
    char *name;         /* in sentences */
};

/* ---- pool.c: names and the trash ---- */
/* The name of a tree's directory; not the id of a tree: ERR_INTERNAL. */
int pool_name(int64_t id, char name[STORAGE_ID_TEXT], struct err *err);
#define POOL_TRASH_TEXT 96
#define POOL_DRAFT      "draft-" /* begins `what` of one that outlives the call which made it */
/* The name under which this process makes something in the trash; a left-over of it is removed. */
int pool_draft_name(struct storage_pool *p, const char *what, char ret[POOL_TRASH_TEXT],
                    struct err *err);
/* The same, and touches nothing. */
void pool_draft_path(const char *what, char ret[POOL_TRASH_TEXT]);
/* Renames a tree into the trash; not there: fine. */
int pool_discard(struct storage_pool *p, int dir, const char *name, struct err *err);
int pool_open_tree(int dir, const char *name, int *ret_fd, struct err *err);
int pool_list(int dir, int64_t **ret, size_t *ret_n, struct err *err);
/* A failed system call; for a full file system storage_full() says what to do. */
int pool_sys(struct err *err, int sys, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* upper/ and work/ in an empty directory. */
int pool_make_parts(int tree, struct err *err);

/* ---- ballast.c ---- */
/* Holds back what is missing of it, as far as there is room. */
void ballast_fill(struct storage_pool *p);

/* ---- plain.c: trees that are copied file by file ---- */
/* The content of tree `from` into the empty tree, with its mark, durably. */
int plain_fill(int from, int tree, const struct storage_step *step, struct err *err);

/* ---- holder.c ---- */
/* Who keeps the mount, or the device, in use: "process 17 (sleep) has …"; "": nobody was found. */
void image_holder(const char *path, const char *device, char *ret, size_t size);

/* ---- image.c ---- */
/* Makes the image with an empty file system, or uses what is there; the caller has refused what
 * has no room.  *ret_new: it was not there. */
int image_make(const struct storage_spec *spec, const struct storage_image *kind, bool *ret_new,
               struct err *err);
/* Takes away what image_make() left when it was killed. */
void image_drop_new(const char *image);
/* Mounts it at the pool's path; mounted already: fine. */
int image_mount(const struct storage_spec *spec, const struct storage_image *kind, struct err *err);
/* wait: until the loop device is gone, too; in use: ERR_BUSY, and mounted as before. */
int image_unmount(const struct storage_spec *spec, const struct storage_image *kind, bool wait,
                  struct err *err);
/* The file and its loop device. */
int image_grow(const char *image, uint64_t size, struct err *err);

/* ---- tree.c: the mark of a tree, which says what it came from ---- */
int tree_mark_copy(int from, int to, struct err *err);
/* storage_settle() of all that a crash left. */
int tree_settle_all(struct storage_pool *p, struct err *err);
