/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/image.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "template/layout.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names come from the image's own documents: never outside of it, and never a fifo that would
 * make us wait. */
int layout_open_file(int dir, const char *name, int *ret_fd, uint64_t *ret_size, struct err *err)
{
    auto_fd int fd = -1;
    struct stat st;
    int r = path_open_beneath(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &fd, NULL);
    if (r == 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        *ret_size = (uint64_t)st.st_size;
        *ret_fd = steal_fd(&fd);
        return 0;
    }
    auto_str struct str s = str_init(512);
    str_escape(&s, name, strnlen(name, 100));
    return err_set(err, ERR_CORRUPT, "the image has no usable file \"%s\"", str_c(&s));
}

static int read_json(int dir, const char *name, char **ret, size_t *ret_len, struct err *err)
{
    auto_fd int fd = -1;
    uint64_t size;
    int r = layout_open_file(dir, name, &fd, &size, err);
    if (r < 0)
        return r;
    if (size > IMAGE_JSON_MAX)
        return err_set(err, ERR_CORRUPT, "the image's %s has more than 4M", name);
    return fd_read_all(fd, IMAGE_JSON_MAX, ret, ret_len, err);
}

/* The content that a digest names. */
static int check_digest(const char *text, size_t len, const char *digest, struct err *err)
{
    char sum[HASH_TEXT] = "";
    struct hash *h = hash_new();
    if (!h)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    hash_add(h, text, len);
    hash_end(h, sum);
    hash_free(h);
    if (str_eq(sum, digest))
        return 0;
    return err_set(err, ERR_CORRUPT, "the image is damaged: blob %.19s… has the digest %.19s…",
                   digest, sum);
}

static int read_blob(int dir, const struct image_descriptor *d, char **ret, size_t *ret_len,
                     struct err *err)
{
    char name[128];
    str_print(name, sizeof(name), "blobs/sha256/%s", d->digest + 7);
    auto_free char *text = NULL;
    size_t len = 0;
    int r = read_json(dir, name, &text, &len, err);
    if (r < 0)
        return r;
    if (len != d->size)
        return err_set(err, ERR_CORRUPT,
                       "the image is damaged: blob %.19s… has %zu bytes where its descriptor says "
                       "%llu",
                       d->digest, len, (unsigned long long)d->size);
    if ((r = check_digest(text, len, d->digest, err)) < 0)
        return r;
    *ret = steal_ptr(&text);
    *ret_len = len;
    return 0;
}

bool image_here(int dir)
{
    return faccessat(dir, "oci-layout", F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
           (faccessat(dir, "manifest.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
            faccessat(dir, "etc", F_OK, AT_SYMLINK_NOFOLLOW) < 0);
}

static int open_oci(int dir, const char *tag, struct image *image, struct err *err)
{
    auto_free char *text = NULL;
    size_t len = 0;
    struct image_descriptor d, config;
    int r = read_json(dir, "oci-layout", &text, &len, err);
    if (r < 0 || (r = image_read_layout(text, len, err)) < 0)
        return r;
    cleanup_free(&text);
    if ((r = read_json(dir, "index.json", &text, &len, err)) < 0 ||
        (r = image_choose(text, len, tag, true, &d, err)) < 0)
        return r;
    for (int depth = 0;; depth++) {
        cleanup_free(&text);
        if ((r = read_blob(dir, &d, &text, &len, err)) < 0)
            return r;
        if (!d.is_index)
            break;
        if (depth == IMAGE_NESTING)
            return err_set(err, ERR_CORRUPT, "the image has more than %d indexes in one another",
                           IMAGE_NESTING);
        if ((r = image_choose(text, len, NULL, false, &d, err)) < 0)
            return r;
    }
    if ((r = image_read_manifest(text, len, image, &config, err)) < 0)
        return r;
    cleanup_free(&text);
    if ((r = read_blob(dir, &config, &text, &len, err)) < 0)
        return r;
    return image_read_config(text, len, image, err);
}

static int open_docker(int dir, const char *tag, struct image *image, struct err *err)
{
    auto_free char *text = NULL, *config = NULL, *digest = NULL;
    size_t len = 0;
    int r = read_json(dir, "manifest.json", &text, &len, err);
    if (r < 0 || (r = image_read_docker(text, len, tag, image, &config, err)) < 0)
        return r;
    cleanup_free(&text);
    if ((r = read_json(dir, config, &text, &len, err)) < 0)
        return r;
    /* "HEX.json" or "blobs/sha256/HEX": the name is the digest, and it covers the layers'. */
    const char *slash = strrchr(config, '/'), *hex = slash ? slash + 1 : config;
    if (strspn(hex, "0123456789abcdef") == 64 && (hex[64] == '\0' || str_eq(hex + 64, ".json"))) {
        if (!(digest = str_format("sha256:%.64s", hex)))
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        if ((r = check_digest(text, len, digest, err)) < 0)
            return r;
    }
    return image_read_config(text, len, image, err);
}

int image_open(int dir, const char *tag, struct image **ret, struct err *err)
{
    auto_clean(image_freep) struct image *image = calloc(1, sizeof(*image));
    if (!image)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    bool oci = faccessat(dir, "oci-layout", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    bool docker = faccessat(dir, "manifest.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    if (!oci && !docker)
        return err_set(err, ERR_CORRUPT,
                       "it is not an image: it has neither oci-layout nor manifest.json");
    int r = oci ? open_oci(dir, tag, image, err) : open_docker(dir, tag, image, err);
    if (r < 0)
        return r;
    *ret = steal_ptr(&image);
    return 0;
}
