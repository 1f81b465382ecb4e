/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pool "default", which a new instance makes at its first start.
 *
 * An instance of an older Terem has STATE/pool, a directory, and goes on in it.  A new one has
 * STATE/pools/default, of the driver that serves best there, or that terem.conf names; where an
 * image cannot be made it is a directory, too.
 */
#include "base/path.h"
#include "ve/internal.h"
#include "ve/pools.h"

#include <fcntl.h>
#include <sys/stat.h>

#define OLD_PLACE "pool"
#define PLACE     "pools/" POOL_DEFAULT
#define IMAGE     PLACE ".img"

static bool is_there(const struct ve_node *node, const char *name)
{
    struct stat st;
    return fstatat(node->state_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static json_t *row(const char *driver, const char *path, const char *image, const char *why)
{
    return json_pack("{s:s, s:s, s:s*, s:s, s:I, s:b}", "driver", driver, "path", path, "image",
                     image, "why", why, "created", (json_int_t)ve_now_ms(), "making", 1);
}

/* The registry does not know of it (it was put back from an early copy), but its files are there.
 */
static json_t *found(const struct ve_node *node)
{
    static const char why[] = "it was there already";
    struct storage_choice c;
    auto_free char *at = str_format("%s/" PLACE, node->config.place.state);
    if (is_there(node, OLD_PLACE))
        return row("dir", OLD_PLACE, NULL, "it is that of an earlier Terem");
    if (is_there(node, IMAGE))
        return row("btrfs", PLACE, IMAGE, why);
    if (!at || !is_there(node, PLACE "/.trash") || storage_choose(at, &c, NULL) < 0)
        return NULL;
    return row(c.image ? "dir" : c.driver, PLACE, NULL, why);
}

static json_t *chosen(struct ve_node *node)
{
    struct err e = {0};
    json_t *spec = NULL, *rq = json_object();
    if (*node->config.pool_driver)
        json_object_set_new(rq, "driver", json_string(node->config.pool_driver));
    if (ve_pool_new_spec(node, POOL_DEFAULT, rq, &spec, &e) < 0) {
        log_warn(NULL, 0, "pool default is made as a directory: %s", e.text);
        spec = row("dir", PLACE, NULL, e.text);
    }
    json_decref(rq);
    return spec;
}

int ve_pool_first(struct ve_node *node, struct err *err)
{
    struct ve_pool *p;
    json_t *spec = found(node);
    if (!spec)
        spec = chosen(node);
    if (ve_pool_add(node, POOL_DEFAULT, spec, &p, err) < 0 || ve_pool_save(node, p, true, err) < 0)
        return err_wrap(err, "cannot record the first pool");
    return 0;
}

static int make(const struct ve_node *node, const json_t *spec, struct err *err)
{
    auto_clean(ve_pool_spec_done) struct ve_pool_spec s = {0};
    if (ve_pool_spec(node, spec, &s, err) < 0 || storage_make(&s.storage, err) < 0)
        return -err->kind;
    return 0;
}

int ve_pool_make_first(struct ve_node *node, struct ve_pool *p, struct err *err)
{
    if (make(node, p->spec, err) < 0) {
        /* What is there is somebody's files: that it cannot be used is told, and nothing else. */
        if (!json_object_get(p->spec, "image") || is_there(node, IMAGE))
            return -err->kind;
        log_warn(NULL, 0, "pool default is made as a directory: %s", err->text);
        json_t *spec = row("dir", PLACE, NULL, err->text);
        json_decref(p->spec);
        p->spec = spec;
        if (make(node, p->spec, err) < 0)
            return -err->kind;
    }
    json_object_del(p->spec, "making");
    return ve_pool_save(node, p, false, err);
}
