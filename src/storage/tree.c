/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tree — whole trees: saved, restored, cloned, moved, filled from outside, bounded.
 *
 * Order of every copy: it is made in the trash, is durable, takes its name by one rename, and the
 * rename is made durable.  A power cut leaves the old state or the new one, and at most trash.
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"
#include "storage/driver.h"
#include "storage/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/xattr.h>

/*
 * The saved trees that a tree came from, the latest first: "7 5 2".  It is written before the tree
 * is saved as 7, so that it is right at any instant when read as "the first one that exists".
 */
#define MARK "trusted.terem.parent"

static size_t mark_read(int tree, int64_t list[STORAGE_PARENTS])
{
    char text[STORAGE_PARENTS * STORAGE_ID_TEXT], *save = NULL;
    ssize_t len = fgetxattr(tree, MARK, text, sizeof(text) - 1);
    size_t n = 0;
    if (len <= 0)
        return 0;
    text[len] = '\0';
    for (char *word = strtok_r(text, " ", &save); word && n < STORAGE_PARENTS;
         word = strtok_r(NULL, " ", &save)) {
        uint64_t id;
        if (number_parse(word, 1, INT64_MAX, &id, NULL) < 0)
            break;
        list[n++] = (int64_t)id;
    }
    return n;
}

static bool is_saved(struct storage_pool *p, int64_t saved)
{
    char name[STORAGE_ID_TEXT];
    return pool_name(saved, name, NULL) == 0 &&
           faccessat(p->saved, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Puts `saved` before what exists of the tree's mark. */
static int mark_add(struct storage_pool *p, int tree, int64_t saved, struct err *err)
{
    int64_t list[STORAGE_PARENTS];
    auto_str struct str s = str_init(sizeof(list) * STORAGE_ID_TEXT);
    size_t n = mark_read(tree, list), kept = 1;
    str_add(&s, "%" PRId64, saved);
    for (size_t i = 0; i < n && kept < STORAGE_PARENTS; i++)
        if (is_saved(p, list[i])) {
            str_add(&s, " %" PRId64, list[i]);
            kept++;
        }
    if (s.failed)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (fsetxattr(tree, MARK, s.buf, s.len, 0) < 0)
        return pool_sys(err, errno, "cannot note what the tree comes from");
    return 0;
}

/* A tree that is at its limit has no room for the mark: then the limit is lifted meanwhile. */
static int mark_anyway(struct storage_pool *p, int tree, int64_t saved, struct err *err)
{
    const struct storage_limits none = {STORAGE_UNLIMITED, STORAGE_UNLIMITED};
    struct storage_limits l;
    int r = mark_add(p, tree, saved, err);
    if (r != -ERR_EXHAUSTED || p->ops->limits(p, tree, &l, NULL) < 0 ||
        (l.space == none.space && l.inodes == none.inodes) ||
        p->ops->limit(p, tree, &none, NULL) < 0)
        return r;
    r = mark_add(p, tree, saved, err);
    int back = p->ops->limit(p, tree, &l, r < 0 ? NULL : err);
    return r < 0 ? r : back;
}

int tree_mark_copy(int from, int to, struct err *err)
{
    char text[STORAGE_PARENTS * STORAGE_ID_TEXT];
    ssize_t n = fgetxattr(from, MARK, text, sizeof(text));
    if (n > 0 && fsetxattr(to, MARK, text, (size_t)n, 0) < 0)
        return pool_sys(err, errno, "cannot note what the tree comes from");
    return 0;
}

size_t storage_parents(struct storage_pool *p, int64_t id, int64_t ret[STORAGE_PARENTS])
{
    auto_fd int tree = -1;
    int64_t list[STORAGE_PARENTS];
    size_t there = 0;
    if (storage_open(p, id, &tree, NULL) < 0)
        return 0;
    size_t n = mark_read(tree, list);
    for (size_t i = 0; i < n; i++)
        if (is_saved(p, list[i]))
            ret[there++] = list[i];
    return there;
}

/* ---- copies ---- */

/* Gives the tree `tmp` of the trash its name, durably. */
static int take_name(struct storage_pool *p, const char *tmp, int dir, const char *name,
                     struct err *err)
{
    if (renameat2(p->trash, tmp, dir, name, RENAME_NOREPLACE) == 0)
        return p->ops->commit(p, err);
    if (errno == EEXIST)
        return err_set(err, ERR_EXISTS, "tree %s exists already", name);
    return pool_sys(err, errno, "cannot put the copy in place");
}

/* A copy of `from` as `name` of `dir`, whole and durable or not there. */
static int copy_as(struct storage_pool *p, int from, int dir, const char *name,
                   const struct storage_step *step, struct err *err)
{
    char tmp[POOL_TRASH_TEXT];
    bool protect = dir == p->saved;
    auto_fd int tree = -1;
    if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return err_set(err, ERR_EXISTS, "tree %s exists already", name);
    if (p->ops->copies_at_once && p->ops->copies_at_once(p, from))
        return p->ops->copy(p, from, dir, name, protect, step, err);
    int r = pool_draft_name(p, name, tmp, err);
    if (r < 0 || (r = p->ops->copy(p, from, p->trash, tmp, false, step, err)) < 0)
        return r;
    if ((r = take_name(p, tmp, dir, name, err)) < 0) {
        p->ops->remove(p, p->trash, tmp, NULL);
        return r;
    }
    if (!protect || !p->ops->protect)
        return 0;
    r = pool_open_tree(dir, name, &tree, err);
    return r < 0 ? r : p->ops->protect(p, tree, true, err);
}

int storage_save(struct storage_pool *p, int64_t id, int64_t saved, const struct storage_step *step,
                 struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    char name[STORAGE_ID_TEXT];
    auto_fd int tree = -1;
    if (pool_name(saved, name, err) < 0 || storage_open(p, id, &tree, err) < 0)
        return -err->kind;
    if (is_saved(p, saved))
        return err_set(err, ERR_EXISTS, "there is a saved tree %s already", name);
    return mark_anyway(p, tree, saved, err) < 0 || copy_as(p, tree, p->saved, name, step, err) < 0
               ? storage_full(p, err)
               : 0;
}

/* What bounded the old tree bounds the new one from its first instant. */
static int keep_limits(struct storage_pool *p, int old, int dir, const char *name, struct err *err)
{
    struct storage_limits l;
    auto_fd int tree = -1;
    int r = p->ops->limits(p, old, &l, err);
    if (r < 0 || (r = pool_open_tree(dir, name, &tree, err)) < 0)
        return r;
    return p->ops->limit(p, tree, &l, err);
}

/*
 * A copy that is there at once waits for a commit of its own, and so the exchange of two names
 * would wait for a second one.  Instead the old tree steps aside first, and the copy takes its
 * name: both are in the commit that the copy waits for, unless the kernel began another one in
 * between.  So whoever comes after a crash may find the old tree aside and none in its place: it
 * goes back.
 */
#define ASIDE      "aside-"
#define ASIDE_TEXT (sizeof(ASIDE) + STORAGE_ID_TEXT)

static int settle(struct storage_pool *p, const char *name, struct err *err)
{
    char aside[ASIDE_TEXT];
    str_print(aside, sizeof(aside), ASIDE "%s", name);
    if (renameat2(p->spare, aside, p->dir, name, RENAME_NOREPLACE) == 0 || errno == ENOENT)
        return 0;
    if (errno == EEXIST)
        return pool_discard(p, p->spare, aside, err);
    return pool_sys(err, errno, "cannot put tree %s back in place", name);
}

int storage_settle(struct storage_pool *p, int64_t id, struct err *err)
{
    char name[STORAGE_ID_TEXT];
    int r = pool_name(id, name, err);
    return r < 0 ? r : settle(p, name, err);
}

int tree_settle_all(struct storage_pool *p, struct err *err)
{
    auto_dir DIR *d = fd_list(p->spare);
    struct dirent *e;
    int r = 0;
    if (!d)
        return err_sys(err, "cannot list the pool");
    while (r == 0 && (e = readdir(d)))
        if (str_starts(e->d_name, ASIDE))
            r = settle(p, e->d_name + strlen(ASIDE), err);
    return r;
}

static int restore_at_once(struct storage_pool *p, int from, int old, const char *name,
                           const struct storage_step *step, struct err *err)
{
    char aside[ASIDE_TEXT];
    str_print(aside, sizeof(aside), ASIDE "%s", name);
    if (renameat2(p->dir, name, p->spare, aside, RENAME_NOREPLACE) < 0)
        return pool_sys(err, errno, "cannot put the old tree aside");
    int r = p->ops->copy(p, from, p->dir, name, false, step, err);
    if (r == 0 && (r = keep_limits(p, old, p->dir, name, err)) < 0)
        p->ops->remove(p, p->dir, name, NULL);
    int gone = settle(p, name, r < 0 ? NULL : err);
    return r < 0 ? r : gone;
}

/* Swaps the tree `tmp` of the trash with the VE's, which goes. */
static int swap(struct storage_pool *p, const char *tmp, const char *name, struct err *err)
{
    if (renameat2(p->trash, tmp, p->dir, name, RENAME_EXCHANGE) < 0)
        return pool_sys(err, errno, "cannot put the new tree in place");
    int r = p->ops->commit(p, err);
    /* Its name there is that of a tree which is being made: this process would keep it. */
    int gone = pool_discard(p, p->trash, tmp, r < 0 ? NULL : err);
    return r < 0 ? r : gone;
}

static int restore(struct storage_pool *p, int from, const char *name,
                   const struct storage_step *step, struct err *err)
{
    char tmp[POOL_TRASH_TEXT];
    auto_fd int old = -1;
    int r = pool_open_tree(p->dir, name, &old, NULL);
    if (r == -ERR_NOT_FOUND)
        return copy_as(p, from, p->dir, name, step, err);
    if (r < 0)
        return pool_open_tree(p->dir, name, &old, err);
    if (p->ops->copies_at_once && p->ops->copies_at_once(p, from))
        return restore_at_once(p, from, old, name, step, err);
    if ((r = pool_draft_name(p, name, tmp, err)) < 0 ||
        (r = p->ops->copy(p, from, p->trash, tmp, false, step, err)) < 0)
        return r;
    if ((r = keep_limits(p, old, p->trash, tmp, err)) < 0)
        p->ops->remove(p, p->trash, tmp, NULL);
    return r < 0 ? r : swap(p, tmp, name, err);
}

int storage_restore(struct storage_pool *p, int64_t saved, int64_t id,
                    const struct storage_step *step, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    char name[STORAGE_ID_TEXT];
    auto_fd int from = -1;
    if (pool_name(id, name, err) < 0 || storage_saved_open(p, saved, &from, err) < 0 ||
        settle(p, name, err) < 0)
        return -err->kind;
    return restore(p, from, name, step, err) < 0 ? storage_full(p, err) : 0;
}

static int open_tree(struct storage_pool *p, int64_t id, bool saved, int *ret_fd, struct err *err)
{
    return saved ? storage_saved_open(p, id, ret_fd, err) : storage_open(p, id, ret_fd, err);
}

int storage_clone_into(struct storage_pool *to, int64_t id, struct storage_pool *from,
                       int64_t source, bool saved, const struct storage_step *step, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    char name[STORAGE_ID_TEXT];
    auto_fd int old = -1, tree = -1;
    if (pool_name(id, name, err) < 0 || open_tree(from, source, saved, &old, err) < 0)
        return -err->kind;
    if (copy_as(to, old, to->dir, name, step, err) < 0)
        return storage_full(to, err);
    /* The saved trees are of another VE.  Were this lost in a crash: its VE has none to find. */
    if (pool_open_tree(to->dir, name, &tree, NULL) == 0)
        fremovexattr(tree, MARK);
    return 0;
}

int storage_move_size(struct storage_pool *from, struct storage_pool *to, int64_t id, bool saved,
                      uint64_t *ret, struct err *err)
{
    auto_fd int tree = -1;
    uint64_t inodes;
    int r = open_tree(from, id, saved, &tree, err);
    if (r < 0 || (to->ops->copies_at_once && to->ops->copies_at_once(to, tree))) {
        *ret = 0;
        return r;
    }
    return walk_usage(tree, ret, &inodes, err);
}

int storage_move(struct storage_pool *from, struct storage_pool *to, int64_t id, bool saved,
                 const struct storage_step *step, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    char name[STORAGE_ID_TEXT];
    auto_fd int tree = -1;
    int r = pool_name(id, name, err);
    if (r == 0)
        r = open_tree(from, id, saved, &tree, err);
    if (r == 0)
        r = copy_as(to, tree, saved ? to->saved : to->dir, name, step, err);
    if (r == 0)
        return 0;
    storage_full(to, err);
    return err_wrap(err, "cannot copy its files to the pool %s", to->name);
}

static int draft_name(int64_t id, char what[POOL_TRASH_TEXT], struct err *err)
{
    char name[STORAGE_ID_TEXT];
    int r = pool_name(id, name, err);
    if (r == 0)
        str_print(what, POOL_TRASH_TEXT, POOL_DRAFT "%s", name);
    return r;
}

int storage_draft(struct storage_pool *p, int64_t id, int *ret_fd, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    char what[POOL_TRASH_TEXT], tmp[POOL_TRASH_TEXT];
    int r = draft_name(id, what, err);
    if (r < 0 || (r = pool_draft_name(p, what, tmp, err)) < 0 ||
        (r = p->ops->make(p, p->trash, tmp, err)) < 0)
        return storage_full(p, err);
    if ((r = pool_open_tree(p->trash, tmp, ret_fd, err)) < 0)
        p->ops->remove(p, p->trash, tmp, NULL);
    return r;
}

int storage_draft_finish(struct storage_pool *p, int64_t id, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    char what[POOL_TRASH_TEXT], tmp[POOL_TRASH_TEXT], name[STORAGE_ID_TEXT];
    int r = draft_name(id, what, err);
    if (r < 0 || (r = pool_name(id, name, err)) < 0)
        return r;
    pool_draft_path(what, tmp);
    if (syncfs(p->dir) < 0)
        r = pool_sys(err, errno, "cannot write its files to the disk");
    else
        r = take_name(p, tmp, p->dir, name, err);
    return r < 0 ? storage_full(p, err) : 0;
}

/* ---- limits ---- */

int storage_limit(struct storage_pool *p, int64_t id, const struct storage_limits *l,
                  struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    auto_fd int tree = -1;
    if (l->space != STORAGE_UNLIMITED && !p->can.space)
        return err_set(err, ERR_UNSUPPORTED, "the pool %s cannot bound space: %s", p->path,
                       p->can.why_space);
    if (l->inodes != STORAGE_UNLIMITED && !p->can.inodes)
        return err_set(err, ERR_UNSUPPORTED, "the pool %s cannot bound inodes: %s", p->path,
                       p->can.why_inodes);
    if (storage_open(p, id, &tree, err) < 0 || p->ops->limit(p, tree, l, err) < 0)
        err_wrap(err, "cannot bound its files");
    else
        return 0;
    return storage_full(p, err);
}

int storage_usage(struct storage_pool *p, int64_t id, struct storage_usage *ret, struct err *err)
{
    auto_fd int tree = -1;
    int r = storage_open(p, id, &tree, err);
    return r < 0 ? r : p->ops->usage(p, tree, ret, err);
}

int storage_saved_usage(struct storage_pool *p, int64_t saved, uint64_t *ret_own,
                        uint64_t *ret_total, struct err *err)
{
    auto_fd int tree = -1;
    int r = storage_saved_open(p, saved, &tree, err);
    return r < 0 ? r : p->ops->saved_usage(p, tree, ret_own, ret_total, err);
}
