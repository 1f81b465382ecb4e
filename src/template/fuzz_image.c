/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_image — arbitrary bytes as each of an image's documents: what is taken must be well-formed,
 * what is refused must have a sentence.
 */
#include "template/image.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "template/record.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int r, const struct err *err)
{
    if (r > 0 || (r < 0 && (err->kind != -r || !err->text[0])))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct err err = {0};
    struct image_descriptor d = {0};
    auto_clean(image_freep) struct image *image = calloc(1, sizeof(*image));
    auto_clean(image_freep) struct image *docker = calloc(1, sizeof(*docker));
    if (!image || !docker)
        return 0;
    check(image_read_layout(text, size, &err), &err);
    for (int i = 0; i < 3; i++) {
        int r = image_choose(text, size, i == 1 ? "latest" : NULL, i < 2, &d, &err);
        check(r, &err);
        if (r == 0 && !digest_ok(d.digest))
            abort();
    }
    int r = image_read_manifest(text, size, image, &d, &err);
    check(r, &err);
    for (size_t i = 0; r == 0 && i < image->n_layers; i++)
        if (!digest_ok(image->layers[i].digest) || !image->layers[i].file)
            abort();
    if (r < 0 && image->n_layers == 0)
        image->n_layers = 1; /* so that a configuration can fit */
    r = image_read_config(text, size, image, &err);
    check(r, &err);
    if (r == 0 && !digest_ok(image->layers[0].diff_id))
        abort();
    auto_free char *config = NULL;
    check(image_read_docker(text, size, NULL, docker, &config, &err), &err);
    return 0;
}
