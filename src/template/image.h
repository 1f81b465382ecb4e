/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image — what an OCI image (or docker save's archive) in a directory consists of.
 *
 * I read and check index, manifest and configuration (OCI image-spec 1.1: image-layout.md,
 * image-index.md, manifest.md, config.md).  Every blob's size and SHA-256 must be what its
 * descriptor says; unknown media types and compressions are refused (ERR_UNSUPPORTED).
 * I do not unpack layers.
 */
#pragma once

#include "template/stream.h"
#include "template/template.h"

#define IMAGE_JSON_MAX ((size_t)4 << 20) /* as registries have it */
#define IMAGE_NESTING  4                 /* an index in an index in … */

struct image_layer {
    char *file;                    /* in the image's directory */
    uint64_t size;                 /* bytes of that file; 0: not told */
    char digest[TEMPLATE_DIGEST];  /* of that file; "": not told */
    int kind;                      /* enum stream_kind that its media type says; -1: any */
    char diff_id[TEMPLATE_DIGEST]; /* of the uncompressed tar */
};

struct image {
    size_t n_layers;
    struct image_layer layers[TEMPLATE_LAYERS_MAX];
    char **command, **env; /* NULL-terminated, or NULL */
    char *workdir, *user;  /* or NULL */
};
void image_free(struct image *i);
static inline void image_freep(struct image **i)
{
    image_free(*i);
}

/* Does the directory look like an image (oci-layout, or docker's manifest.json)? */
bool image_here(int dir);
/* tag: which of several images; NULL: the only one. */
int image_open(int dir, const char *tag, struct image **ret, struct err *err);

/* The documents one by one, as text (also for the fuzzer). */
struct image_descriptor {
    char digest[TEMPLATE_DIGEST];
    uint64_t size;
    bool is_index; /* else a manifest */
};
int image_read_layout(const char *text, size_t len, struct err *err);
int image_choose(const char *text, size_t len, const char *tag, bool top,
                 struct image_descriptor *ret, struct err *err);
int image_read_manifest(const char *text, size_t len, struct image *image,
                        struct image_descriptor *ret_config, struct err *err);
/* Fills diff_ids of image->layers, whose number must be the same, and how it starts. */
int image_read_config(const char *text, size_t len, struct image *image, struct err *err);
/* docker save's manifest.json; *ret_config is the name of the configuration's file. */
int image_read_docker(const char *text, size_t len, const char *tag, struct image *image,
                      char **ret_config, struct err *err);
