/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/template.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "template/busybox.h"
#include "template/store.h"
#include "template/unpack.h"

#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int build_busybox(struct template_store *s, const struct template_request *rq,
                         const struct tree_limits *limits, struct err *err)
{
    if (rq->include)
        return err_set(err, ERR_USAGE,
                       "busybox has no packages to include; build debian-12 or debian-13");
    auto_fd int tar = -1;
    int r = busybox_tar(&tar, err);
    if (r < 0)
        return r;
    struct stat st;
    if (fstat(tar, &st) < 0)
        return err_sys(err, "cannot read the archive");
    auto_stream struct stream *in = NULL;
    if ((r = stream_open(tar, (uint64_t)st.st_size, &in, err)) < 0)
        return r;
    struct unpack_watch watch = {rq->progress, rq->ctx, "unpacking busybox", 0, 100};
    auto_clean(layer_done) struct layer layer = {.draft = DRAFT_NONE};
    if ((r = unpack_layer(s, in, limits, &watch, &layer, NULL, err)) < 0)
        return r;
    auto_template struct template *t = calloc(1, sizeof(*t));
    if (!t || !(t->init_path = strdup("/sbin/init")) || !(t->source = strdup("built-in")))
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    str_print(t->name, sizeof(t->name), "%s", rq->name);
    t->start = TEMPLATE_SYSTEM;
    t->init = TEMPLATE_INIT_BUSYBOX;
    t->created = time(NULL);
    t->size = layer.bytes;
    t->n_layers = 1;
    str_print(t->layers[0], TEMPLATE_DIGEST, "%s", layer.digest);
    return store_commit(s, t, &layer, 1, err);
}

int template_build(struct template_store *s, const char *base, const struct template_request *rq,
                   struct err *err)
{
    struct tree_limits limits;
    int r = store_check_name(s, rq->name, err);
    if (r < 0)
        return r;
    if ((r = store_limits(s, rq, &limits, err)) == 0) {
        if (str_eq(base, "busybox"))
            r = build_busybox(s, rq, &limits, err);
        else
            r = err_set(err, ERR_USAGE, "there is no base system \"%.40s\"", base);
    }
    return r < 0 ? err_wrap(err, "%s: cannot build the template", rq->name) : 0;
}
