/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/template.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "template/child.h"
#include "template/image.h"
#include "template/layout.h"
#include "template/look.h"
#include "template/record.h"
#include "template/store.h"
#include "template/unpack.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OCI_PREFIX "oci:"

/* One import: what was asked, and what has been made of it so far. */
struct import {
    struct template_store *store;
    const struct template_request *rq;
    struct tree_limits left; /* of bytes and entries */
    const char *path;
    const char *tag; /* or NULL */
    struct template *t;
    struct layer layers[TEMPLATE_LAYERS_MAX];
    size_t n;
};

static void import_done(struct import *im)
{
    for (size_t i = 0; i < im->n; i++)
        layer_done(&im->layers[i]);
    im->n = 0;
    template_free(im->t);
    im->t = NULL;
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_EXHAUSTED, "out of memory");
}

static int set_source(struct import *im, const char *kind, struct err *err)
{
    auto_str struct str s = str_init(8192);
    str_add(&s, "%s:", kind);
    str_escape(&s, im->path, strlen(im->path));
    if (im->tag) {
        str_add(&s, ":");
        str_escape(&s, im->tag, strlen(im->tag));
    }
    free(im->t->source);
    return (im->t->source = str_steal(&s)) ? 0 : no_memory(err);
}

/* A new layer counts against what is left for the next. */
static void use_up(struct import *im, const struct layer *l)
{
    im->left.bytes -= l->bytes < im->left.bytes ? l->bytes : im->left.bytes;
    im->left.entries -= l->entries < im->left.entries ? l->entries : im->left.entries;
}

static void close_roots(int *roots, size_t n)
{
    for (size_t i = 0; i < n; i++)
        cleanup_fd(&roots[i]);
}

static int open_roots(struct import *im, int roots[TEMPLATE_LAYERS_MAX], struct err *err)
{
    for (size_t i = 0; i < im->n; i++) {
        const struct layer *l = &im->layers[i];
        const char *digest = l->digest;
        int r = 0;
        if (l->draft.dir < 0)
            r = template_open_layers(im->store, &digest, 1, &roots[i], err);
        else if ((roots[i] = openat(l->draft.dir, "root", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
            r = err_sys(err, "cannot open a new layer");
        if (r < 0) {
            close_roots(roots, i);
            return r;
        }
    }
    return 0;
}

/* An image says what it runs; it is a system only if that is an init.  A root tree has no say: it
 * is a system if there is an init in it. */
static int set_start(struct import *im, struct err *err)
{
    struct template *t = im->t;
    const char *place = NULL, *command = t->command ? t->command[0] : NULL;
    const char *slash = command ? strrchr(command, '/') : NULL, *base = slash ? slash + 1 : command;
    bool wants_init = !command || str_eq(base, "init") || str_eq(base, "systemd");
    int roots[TEMPLATE_LAYERS_MAX];
    int r = open_roots(im, roots, err);
    if (r < 0)
        return r;
    t->init = wants_init ? look_init(roots, im->n, &place) : TEMPLATE_INIT_NONE;
    close_roots(roots, im->n);
    t->start = t->init == TEMPLATE_INIT_NONE ? TEMPLATE_APP : TEMPLATE_SYSTEM;
    if (place && !(t->init_path = strdup(place)))
        return no_memory(err);
    return 0;
}

static int commit(struct import *im, struct err *err)
{
    struct template *t = im->t;
    int r = set_start(im, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < im->n; i++) {
        str_print(t->layers[i], TEMPLATE_DIGEST, "%s", im->layers[i].digest);
        t->size += im->layers[i].bytes;
    }
    t->n_layers = im->n;
    return store_commit(im->store, t, im->rq, im->layers, im->n, err);
}

static int damaged_layer(size_t i, const char *what, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "the image is damaged: layer %zu %s", i + 1, what);
}

static int import_layer(struct import *im, int dir, const struct image *image, size_t i, int from,
                        int to, struct err *err)
{
    const struct image_layer *l = &image->layers[i];
    if (layer_find(im->store, l->diff_id, &im->layers[im->n], NULL) == 0) {
        im->n++; /* somebody has brought it before */
        return 0;
    }
    auto_fd int fd = -1;
    uint64_t size;
    int r = layout_open_file(dir, l->file, &fd, &size, err);
    if (r < 0)
        return r;
    if (l->digest[0] && size != l->size)
        return damaged_layer(i, "has not the size that its descriptor says", err);
    auto_stream struct stream *in = NULL;
    if ((r = stream_open(fd, size, &in, err)) < 0)
        return r;
    if (l->kind >= 0 && (int)stream_kind(in) != l->kind)
        return damaged_layer(i, "is not compressed as its media type says", err);
    char text[64], raw[STREAM_DIGEST];
    str_print(text, sizeof(text), "unpacking layer %zu of %zu", i + 1, image->n_layers);
    struct unpack_watch watch = {im->rq->progress, im->rq->ctx, text, from, to, true};
    auto_clean(layer_done) struct layer layer = LAYER_NONE;
    if ((r = unpack_layer(im->store, in, &im->left, &watch, &layer, raw, err)) < 0)
        return err_wrap(err, "layer %zu", i + 1);
    if (l->digest[0] && !str_eq(raw, l->digest))
        return damaged_layer(i, "has not the digest that its descriptor says", err);
    if (!str_eq(layer.digest, l->diff_id))
        return damaged_layer(i, "has not the digest that the configuration says", err);
    use_up(im, &layer);
    im->layers[im->n++] = layer;
    layer.draft.dir = -1;
    return 0;
}

/* An overlay refuses the same directory twice; of equal layers the upper one decides alone. */
static bool comes_again(const struct image *image, size_t i)
{
    for (size_t k = i + 1; k < image->n_layers; k++)
        if (str_eq(image->layers[i].diff_id, image->layers[k].diff_id))
            return true;
    return false;
}

static int import_image(struct import *im, int dir, struct err *err)
{
    auto_clean(image_freep) struct image *image = NULL;
    int r = image_open(dir, im->tag, &image, err);
    if (r < 0)
        return r;
    double total = 1, done = 0;
    for (size_t i = 0; i < image->n_layers; i++)
        total += (double)image->layers[i].size;
    for (size_t i = 0; i < image->n_layers; i++) {
        double end = done + (double)image->layers[i].size;
        if (!comes_again(image, i) &&
            (r = import_layer(im, dir, image, i, (int)(done / total * 100),
                              (int)(end / total * 100), err)) < 0)
            return r;
        done = end;
    }
    im->t->command = steal_ptr(&image->command);
    im->t->env = steal_ptr(&image->env);
    im->t->workdir = steal_ptr(&image->workdir);
    im->t->user = steal_ptr(&image->user);
    if ((r = set_source(im, "oci", err)) < 0)
        return r;
    return commit(im, err);
}

/* One layer that is the whole system. */
static int import_root(struct import *im, struct layer *layer, const char *kind, struct err *err)
{
    if (layer->entries == 0)
        return err_set(err, ERR_CORRUPT, "the archive is empty");
    im->layers[im->n++] = *layer;
    layer->draft.dir = -1;
    int r = set_source(im, kind, err);
    return r < 0 ? r : commit(im, err);
}

/* A tar is the root of a system, or the archive of an image: its content tells. */
static int import_file(struct import *im, int fd, uint64_t size, bool must_be_image,
                       struct err *err)
{
    auto_stream struct stream *in = NULL;
    int r = stream_open(fd, size, &in, err);
    if (r < 0)
        return r;
    struct unpack_watch watch = {im->rq->progress, im->rq->ctx, "unpacking", 0, 100};
    auto_clean(layer_done) struct layer layer = LAYER_NONE;
    if ((r = unpack_layer(im->store, in, &im->left, &watch, &layer, NULL, err)) < 0)
        return r;
    auto_fd int root = openat(layer.draft.dir, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_sys(err, "cannot open the new layer");
    if (!must_be_image && !image_here(root))
        return import_root(im, &layer, "tar", err);
    use_up(im, &layer);
    return import_image(im, root, err); /* the draft goes when we return */
}

/* tar --exclude for our own state, if it is inside of what is imported. */
static char *exclude_state(struct import *im)
{
    auto_free char *dir = realpath(im->path, NULL), *state = realpath(im->store->state, NULL);
    if (!dir || !state)
        return NULL;
    size_t n = str_eq(dir, "/") ? 0 : strlen(dir);
    if (strncmp(state, dir, n) != 0 || state[n] != '/')
        return strdup("--exclude=./.terem-none");
    return str_format("--exclude=.%s", state + n);
}

/* Packed by tar(1) on the fly, sorted, so that equal directories are equal layers. */
static int import_directory(struct import *im, struct err *err)
{
    auto_free char *dir = str_format("--directory=%s", im->path), *exclude = exclude_state(im);
    if (!dir || !exclude)
        return no_memory(err);
    const char *const argv[] = {
        "tar",
        "--create",
        "--file=-",
        "--format=pax",
        "--pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f",
        "--sort=name",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--one-file-system",
        "--no-wildcards",
        "--anchored",
        exclude,
        dir,
        ".",
        NULL};
    auto_child struct child c = CHILD_NONE;
    int r = child_start(argv, &(struct child_how){0}, &c, err);
    if (r < 0)
        return r;
    c.progress = im->rq->progress;
    c.ctx = im->rq->ctx;
    c.percent = -1;
    str_print(c.said, sizeof(c.said), "copying the directory");
    auto_stream struct stream *in = NULL;
    struct unpack_watch watch = {im->rq->progress, im->rq->ctx, "copying the directory", 0, 100};
    auto_clean(layer_done) struct layer layer = LAYER_NONE;
    if ((r = stream_open_waiting(c.out, child_wait_output, &c, &in, err)) == 0)
        r = unpack_layer(im->store, in, &im->left, &watch, &layer, NULL, err);
    if ((r = child_explain(&c, "tar", r, err)) < 0)
        return r;
    return import_root(im, &layer, "dir", err);
}

static int import_path(struct import *im, bool must_be_image, struct err *err)
{
    auto_fd int fd = open(im->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, "cannot open %.200s", im->path);
    if (S_ISREG(st.st_mode))
        return import_file(im, fd, (uint64_t)st.st_size, must_be_image, err);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_USAGE, "%.200s is neither a file nor a directory", im->path);
    if (must_be_image || image_here(fd))
        return import_image(im, fd, err);
    return import_directory(im, err);
}

/* "oci:/path", "oci:/path:tag"; a path that is there as it stands has no tag. */
static int split_source(struct import *im, char *source, bool *ret_image, struct err *err)
{
    *ret_image = str_starts(source, OCI_PREFIX);
    char *path = source + (*ret_image ? strlen(OCI_PREFIX) : 0), *colon = strrchr(path, ':');
    if (path[0] != '/')
        return err_set(err, ERR_USAGE, "the source must be an absolute path, or oci: and one");
    if (*ret_image && colon && !strchr(colon, '/') && access(path, F_OK) < 0) {
        *colon = '\0';
        im->tag = colon + 1;
    }
    im->path = path;
    return 0;
}

int template_import(struct template_store *s, const struct template_request *rq, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    int r = store_check_name(s, rq, err);
    if (r < 0)
        return r;
    auto_free struct import *im = calloc(1, sizeof(*im));
    auto_free char *source = rq->source ? strdup(rq->source) : NULL;
    if (!im || (rq->source && !source) || !(im->t = calloc(1, sizeof(*im->t))))
        return no_memory(err);
    im->store = s;
    im->rq = rq;
    str_print(im->t->name, sizeof(im->t->name), "%s", rq->name);
    bool image = false;
    if (!source)
        r = err_set(err, ERR_USAGE, "it is not said what to import");
    else if ((r = split_source(im, source, &image, err)) == 0 &&
             (r = store_limits(s, rq, &im->left, err)) == 0)
        r = import_path(im, image, err);
    import_done(im);
    return r < 0 ? err_wrap(err, "%s: cannot import the template", rq->name) : 0;
}
