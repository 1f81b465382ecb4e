/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * make — how a pool comes into being, grows, and goes.
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "storage/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* A directory with files that is no pool is somebody else's. */
static int check_path(const char *path, bool *ret_new, struct err *err)
{
    if (path[0] != '/')
        return err_set(err, ERR_USAGE, "the path of a pool begins with /, and %s does not", path);
    auto_dir DIR *d = opendir(path);
    if (!d && errno != ENOENT)
        return err_sys(err, "cannot open %s", path);
    *ret_new = !d;
    if (!d || faccessat(dirfd(d), ".trash", F_OK, 0) == 0)
        return 0;
    for (struct dirent *e; (e = readdir(d));)
        if (!str_eq(e->d_name, ".") && !str_eq(e->d_name, "..") && !str_eq(e->d_name, "lost+found"))
            return err_set(err, ERR_EXISTS,
                           "%s has files that are not a pool's; choose an empty directory", path);
    return 0;
}

int storage_make(const struct storage_spec *spec, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    struct storage_pool *p = NULL;
    bool new_path = false, new_image = false;
    const struct storage_ops *ops = storage_driver(spec->driver, err);
    if (!ops || check_path(spec->path, &new_path, err) < 0)
        return -err->kind;
    if (spec->image && !ops->image)
        return err_set(err, ERR_USAGE, "a pool with the driver %s lives in no image", ops->name);
    int r = spec->image ? image_make(spec, ops->image, &new_image, err) : 0;
    if (r < 0)
        return r;
    r = storage_pool_open(spec, &p, err);
    if (r == 0 && ops->prepare && (r = ops->prepare(p, err)) == 0)
        r = ops->start(p, err);
    if (r == 0)
        ballast_fill(p);
    storage_pool_close(p);
    if (r == 0)
        return 0;
    if (spec->image)
        image_unmount(spec, ops->image, false, NULL);
    if (new_image)
        unlink(spec->image);
    if (new_path)
        path_remove_tree_at(AT_FDCWD, spec->path, NULL);
    return r;
}

int storage_unmount(const struct storage_spec *spec, struct err *err)
{
    const struct storage_ops *ops = storage_driver(spec->driver, err);
    if (!ops)
        return -ERR_USAGE;
    return spec->image && ops->image ? image_unmount(spec, ops->image, true, err) : 0;
}

static int check_empty(struct storage_pool *p, struct err *err)
{
    auto_free int64_t *trees = NULL, *saved = NULL;
    size_t n_trees, n_saved;
    int r = storage_list(p, &trees, &n_trees, err);
    if (r < 0 || (r = storage_saved_list(p, &saved, &n_saved, err)) < 0)
        return r;
    if (n_trees || n_saved)
        return err_set(err, ERR_STATE,
                       "%zu trees of VEs and %zu saved ones are in it; move or remove them first",
                       n_trees, n_saved);
    return 0;
}

static int remove_spares(struct storage_pool *p, struct err *err)
{
    auto_dir DIR *d = fd_list(p->spare);
    int r = 0;
    if (!d)
        return err_sys(err, "cannot list the spare trees");
    for (struct dirent *e; r == 0 && (e = readdir(d));)
        if (e->d_name[0] != '.')
            r = p->ops->remove(p, p->spare, e->d_name, err);
    return r;
}

static int remove_parts(struct storage_pool *p, struct err *err)
{
    static const char *const parts[] = {".trash", ".saved", ".spare"};
    int r = storage_empty_trash(p, err);
    if (r < 0 || (r = remove_spares(p, err)) < 0)
        return r;
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if (unlinkat(p->dir, parts[i], AT_REMOVEDIR) < 0 && errno != ENOENT)
            return err_sys(err, "cannot remove %s", parts[i]);
    return 0;
}

/* The image goes as it is; what lies in it needs no removing.  Not waited for: a mount namespace
 * that somebody made meanwhile (a template's build) may hold the empty file system until its end,
 * and the file's blocks are free then. */
static int remove_image(const struct storage_spec *spec, const struct storage_image *kind,
                        struct err *err)
{
    int r = image_unmount(spec, kind, false, err);
    if (r < 0)
        return r;
    return unlink(spec->image) < 0 && errno != ENOENT
               ? err_sys(err, "cannot remove the image %s", spec->image)
               : 0;
}

int storage_destroy(const struct storage_spec *spec, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    struct storage_pool *p = NULL;
    const struct storage_ops *ops = storage_driver(spec->driver, err);
    if (!ops)
        return -err->kind;
    if (spec->image)
        image_drop_new(spec->image);
    if (faccessat(AT_FDCWD, spec->image ? spec->image : spec->path, F_OK, 0) < 0 &&
        errno == ENOENT) {
        rmdir(spec->path);
        return 0;
    }
    int r = storage_pool_open(spec, &p, err);
    if (r == 0 && (r = check_empty(p, err)) == 0 && !spec->image)
        r = remove_parts(p, err);
    storage_pool_close(p);
    if (r == 0 && spec->image)
        r = remove_image(spec, ops->image, err);
    if (r < 0)
        return err_wrap(err, "cannot remove the pool %s", spec->path);
    rmdir(spec->path); /* what else lies there is not ours: then it stays */
    return 0;
}

int storage_grow(struct storage_pool *p, uint64_t size, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    if (!p->image)
        return err_set(err, ERR_UNSUPPORTED,
                       "the pool %s has no image that could grow: it is as large as its file "
                       "system",
                       p->path);
    if (image_grow(p->image, size, err) < 0 || p->ops->grow(p, err) < 0)
        return err_wrap(err, "cannot grow the pool %s", p->path);
    return 0;
}
