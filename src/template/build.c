/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/template.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "template/busybox.h"
#include "template/debian.h"
#include "template/store.h"
#include "template/unpack.h"

#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The record of a system of one layer. */
static int commit_system(struct template_store *s, const struct template_request *rq,
                         enum template_init init, const char *source, struct layer *layer,
                         struct err *err)
{
    auto_template struct template *t = calloc(1, sizeof(*t));
    if (!t || !(t->init_path = strdup("/sbin/init")) || !(t->source = strdup(source)))
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    t->start = TEMPLATE_SYSTEM;
    t->init = init;
    t->size = layer->bytes;
    t->n_layers = 1;
    str_print(t->layers[0], TEMPLATE_DIGEST, "%s", layer->digest);
    return store_commit(s, t, rq, layer, 1, err);
}

static int open_busybox(struct stream **ret, int *ret_fd, struct err *err)
{
    auto_fd int tar = -1;
    int r = busybox_tar(&tar, err);
    if (r < 0)
        return r;
    struct stat st;
    if (fstat(tar, &st) < 0)
        return err_sys(err, "cannot read the archive");
    if ((r = stream_open(tar, (uint64_t)st.st_size, ret, err)) < 0)
        return r;
    *ret_fd = steal_fd(&tar);
    return 0;
}

static int build_busybox(struct template_store *s, const struct template_request *rq,
                         const struct tree_limits *limits, struct err *err)
{
    auto_fd int tar = -1;
    auto_stream struct stream *in = NULL;
    int r = open_busybox(&in, &tar, err);
    if (r < 0)
        return r;
    struct unpack_watch watch = {rq->progress, rq->ctx, "unpacking busybox", 0, 100};
    auto_clean(layer_done) struct layer layer = LAYER_NONE;
    if ((r = unpack_layer(s, in, limits, &watch, &layer, NULL, err)) < 0)
        return r;
    return commit_system(s, rq, TEMPLATE_INIT_BUSYBOX, "built-in", &layer, err);
}

/* What the layer would be called, without writing it. */
static int busybox_digest(char ret[TEMPLATE_DIGEST], struct err *err)
{
    auto_fd int tar = -1;
    auto_stream struct stream *in = NULL;
    char raw[STREAM_DIGEST];
    int r = open_busybox(&in, &tar, err);
    if (r == 0)
        r = stream_drain(in, err);
    if (r == 0)
        stream_digests(in, ret, raw);
    return r;
}

int template_rescue(struct template_store *s, template_progress progress, void *ctx,
                    char ret[TEMPLATE_DIGEST], struct err *err)
{
    auto_clean(layer_done) struct layer layer = LAYER_NONE;
    const struct template_request rq = {.name = "rescue"};
    struct tree_limits limits;
    int r = busybox_digest(ret, err);
    if (r < 0)
        return err_wrap(err, "cannot make the rescue system");
    if (layer_find(s, ret, &layer, NULL) == 0)
        return 0;
    auto_fd int tar = -1;
    auto_stream struct stream *in = NULL;
    struct unpack_watch watch = {progress, ctx, "making the rescue system", 0, 100};
    if ((r = store_limits(s, &rq, &limits, err)) < 0 || (r = open_busybox(&in, &tar, err)) < 0 ||
        (r = unpack_layer(s, in, &limits, &watch, &layer, NULL, err)) < 0 ||
        (r = store_place(s, &layer, 1, err)) < 0)
        return err_wrap(err, "cannot make the rescue system");
    return 0;
}

/* The tar goes from mmdebstrap's pipe straight into the layer. */
static int build_debian(struct template_store *s, const struct debian *d,
                        const struct template_request *rq, const struct tree_limits *limits,
                        struct err *err)
{
    auto_draft struct draft tmp = DRAFT_NONE;
    int r = draft_open(s, &tmp, err);
    if (r < 0)
        return r;
    if (fchmod(tmp.dir, 01777) < 0)
        return err_sys(err, "cannot prepare the temporary directory");
    auto_free char *path = str_format("%s/%s", s->layers_path, tmp.name);
    if (!path)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    auto_child struct child c = CHILD_NONE; /* dropped before tmp, which it uses */
    if ((r = debian_start(d, rq->include, path, &c, err)) < 0)
        return r;
    c.progress = rq->progress;
    c.ctx = rq->ctx;
    c.percent = -1;
    auto_stream struct stream *in = NULL;
    struct unpack_watch watch = {rq->progress, rq->ctx, "unpacking the new system", 0, 100};
    auto_clean(layer_done) struct layer layer = LAYER_NONE;
    if ((r = stream_open_waiting(c.out, child_wait_output, &c, &in, err)) == 0)
        r = unpack_layer(s, in, limits, &watch, &layer, NULL, err);
    if ((r = debian_explain(d, &c, r, err)) < 0)
        return r;
    auto_free char *source = str_format("mmdebstrap %s%s%s", d->suite, rq->include ? " with " : "",
                                        rq->include ? rq->include : "");
    if (!source)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    return commit_system(s, rq, TEMPLATE_INIT_SYSTEMD, source, &layer, err);
}

static const char *next_base(void *ctx, size_t i)
{
    static const char *const bases[] = {"busybox", "debian-12", "debian-13"};
    return i < ARRAY_SIZE(bases) ? bases[i] : NULL;
}

int template_build_check(const char *base, bool packages, struct err *err)
{
    if (str_eq(base, "busybox"))
        return packages
                   ? err_set(err, ERR_USAGE,
                             "busybox has no packages to include; build debian-12 or debian-13")
                   : 0;
    if (debian_find(base))
        return 0;
    auto_str struct str s = str_init(512);
    str_escape(&s, base, strnlen(base, 64));
    const char *near = name_suggest(base, next_base, NULL);
    if (near)
        return err_set(err, ERR_NOT_FOUND, "there is no base system \"%s\"; did you mean %s?",
                       str_c(&s), near);
    return err_set(err, ERR_NOT_FOUND,
                   "there is no base system \"%s\"; there are busybox, debian-12 and debian-13",
                   str_c(&s));
}

int template_build(struct template_store *s, const char *base, const struct template_request *rq,
                   struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    struct tree_limits limits;
    int r = store_check_name(s, rq, err);
    if (r < 0)
        return r;
    if ((r = template_build_check(base, rq->include, err)) == 0 &&
        (r = store_limits(s, rq, &limits, err)) == 0) {
        const struct debian *d = debian_find(base);
        r = d ? build_debian(s, d, rq, &limits, err) : build_busybox(s, rq, &limits, err);
    }
    return r < 0 ? err_wrap(err, "%s: cannot build the template", rq->name) : 0;
}
