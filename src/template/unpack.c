/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/unpack.h"

#include "archive/untar.h"
#include "base/cleanup.h"
#include "base/number.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TELL_EVERY ((uint64_t)1 << 20) /* bytes of tar between two reports of progress */

struct source {
    struct stream *in;
    const struct unpack_watch *watch;
    uint64_t told;
};

int unpack_tell(const struct unpack_watch *w, int percent, const char *text, struct err *err)
{
    if (!w->progress || w->progress(w->ctx, percent, text) == 0)
        return 0;
    return err_set(err, ERR_CANCELLED, "it was cancelled");
}

static int tell(struct source *s, struct err *err)
{
    uint64_t now = stream_offset(s->in);
    if (now < s->told + TELL_EVERY)
        return 0;
    s->told = now;
    int percent = stream_percent(s->in);
    if (percent >= 0)
        percent = s->watch->from + percent * (s->watch->to - s->watch->from) / 100;
    return unpack_tell(s->watch, percent, s->watch->text, err);
}

static ssize_t on_read(void *ctx, const void **ret_buf, struct err *err)
{
    struct source *s = ctx;
    int r = tell(s, err);
    return r < 0 ? r : stream_read(s->in, ret_buf, err);
}

int unpack_tar(struct stream *in, int root, const struct tree_limits *limits,
               const struct unpack_watch *watch, uint64_t *ret_bytes, uint64_t *ret_entries,
               struct err *err)
{
    struct source s = {.in = in, .watch = watch, .told = stream_offset(in)};
    const struct untar_source from = {on_read, &s, watch->digest_tells};
    struct tree t;
    tree_init(&t, root, limits);
    int r = untar(&from, &t, NULL, err);
    tree_done(&t);
    if (r < 0)
        return r;
    *ret_bytes = t.bytes;
    *ret_entries = t.entries;
    return 0;
}

int unpack_layer(struct template_store *s, struct stream *in, const struct tree_limits *limits,
                 const struct unpack_watch *watch, struct layer *ret, char ret_raw[STREAM_DIGEST],
                 struct err *err)
{
    auto_draft struct draft d = DRAFT_NONE;
    int r = draft_open(s, &d, err);
    if (r < 0)
        return r;
    if (mkdirat(d.dir, "root", 0755) < 0)
        return tree_sys(err, d.dir, errno, "make directory", "root");
    auto_fd int root = openat(d.dir, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* 0755 and no inherited ACL, whatever the umask and the state directory say. */
    if (root < 0 || fchmod(root, 0755) < 0)
        return err_sys(err, "cannot open the new layer");
    struct layer l = {.draft = DRAFT_NONE};
    char raw[STREAM_DIGEST];
    if ((r = unpack_tar(in, root, limits, watch, &l.bytes, &l.entries, err)) < 0)
        return r;
    stream_digests(in, l.digest, ret_raw ? ret_raw : raw);
    l.draft = d;
    d.dir = -1;
    *ret = l;
    return 0;
}

bool template_has_layer(struct template_store *s, const char *digest)
{
    struct layer l;
    return layer_find(s, digest, &l, &(struct err){0}) == 0;
}

int template_layer_file(struct template_store *s, const char *digest, uint64_t size, int *ret_fd,
                        struct err *err)
{
    const struct template_request rq = {0};
    struct tree_limits limits;
    char want[NUMBER_TEXT], have[NUMBER_TEXT];
    if (store_limits(s, &rq, &limits, err) < 0)
        return err_wrap(err, "layer %.19s", digest);
    if (size > limits.bytes)
        return err_set(err, ERR_EXHAUSTED,
                       "layer %.19s has %s and the file system of Terem's state has room for %s; "
                       "remove templates or other files there and try again",
                       digest, number_format_size(size, want),
                       number_format_size(limits.bytes, have));
    int fd = openat(s->layers, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "cannot make a file for layer %.19s", digest);
    *ret_fd = fd;
    return 0;
}

int template_layer_import(struct template_store *s, int fd, const char *digest,
                          const struct template_request *rq, struct err *err)
{
    struct tree_limits limits;
    struct layer l __attribute__((cleanup(layer_done))) = LAYER_NONE;
    auto_stream struct stream *in = NULL;
    struct stat st;
    const struct unpack_watch watch = {
        .progress = rq->progress, .ctx = rq->ctx, .text = "unpacking a layer", .to = 100};
    if (template_has_layer(s, digest))
        return 0;
    if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(err, "cannot read layer %.19s", digest);
    int r = store_limits(s, rq, &limits, err);
    if (r < 0 || (r = stream_open(fd, (uint64_t)st.st_size, &in, err)) < 0 ||
        (r = unpack_layer(s, in, &limits, &watch, &l, NULL, err)) < 0)
        return err_wrap(err, "layer %.19s", digest);
    if (strcmp(l.digest, digest) != 0)
        return err_set(err, ERR_CORRUPT, "layer %.19s is not what it is said to be", digest);
    return store_place(s, &l, 1, err);
}
