/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * unpack — a tar stream into a tree.
 *
 * archive/untar.h reads it, archive/tree.h writes; here a stream becomes a layer.
 */
#pragma once

#include "template/store.h"
#include "template/stream.h"

/* How far a job is, for its owner; and what is known of the stream. */
struct unpack_watch {
    template_progress progress; /* or NULL */
    void *ctx;
    const char *text;  /* "unpacking layer 2 of 5" */
    int from, to;      /* percents of the whole that this stream is */
    bool digest_tells; /* whether it is whole: the end marker may be missing */
};
int unpack_tell(const struct unpack_watch *w, int percent, const char *text, struct err *err);

/* Reads the stream to its very end.  limits: see tree.h. */
int unpack_tar(struct stream *in, int root, const struct tree_limits *limits,
               const struct unpack_watch *watch, uint64_t *ret_bytes, uint64_t *ret_entries,
               struct err *err);

/* The same into a new layer's draft; ret->digest is that of the uncompressed tar.  ret_raw: the
 * digest of the bytes before decompression, or NULL. */
int unpack_layer(struct template_store *s, struct stream *in, const struct tree_limits *limits,
                 const struct unpack_watch *watch, struct layer *ret, char ret_raw[STREAM_DIGEST],
                 struct err *err);
