/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/image.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"
#include "template/record.h"

#include <string.h>

#define REF_NAME "org.opencontainers.image.ref.name"

void image_free(struct image *i)
{
    if (!i)
        return;
    for (size_t k = 0; k < i->n_layers; k++)
        free(i->layers[k].file);
    strings_free(i->command);
    strings_free(i->env);
    free(i->workdir);
    free(i->user);
    free(i);
}

static int bad(struct err *err, const char *document, const char *what)
{
    return err_set(err, ERR_CORRUPT, "the image's %s is damaged: %s", document, what);
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_EXHAUSTED, "out of memory");
}

static int load(const char *text, size_t len, const char *document, json_t **ret, struct err *err)
{
    json_error_t je;
    json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
    if (j && json_is_object(j) == !str_eq(document, "manifest.json")) {
        *ret = j;
        return 0;
    }
    json_decref(j);
    auto_str struct str s = str_init(1024);
    const char *what = j ? "it is not what it should be" : je.text;
    str_escape(&s, what, strlen(what));
    return bad(err, document, str_c(&s));
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static int wrong_type(const char *what, const char *type, struct err *err)
{
    auto_str struct str s = str_init(512);
    str_escape(&s, type, strnlen(type, 100));
    return err_set(err, ERR_UNSUPPORTED,
                   "the image's %s is of the media type \"%s\", which is "
                   "not one of an image's %s",
                   what, str_c(&s), what);
}

/* digest and size of a descriptor. */
static int read_descriptor(const json_t *d, const char *document, char digest[TEMPLATE_DIGEST],
                           uint64_t *size, struct err *err)
{
    const char *text = text_of(d, "digest");
    const json_t *n = json_object_get(d, "size");
    if (!digest_ok(text)) {
        if (str_starts(text, "sha512:"))
            return err_set(err, ERR_UNSUPPORTED,
                           "the image's %s names a blob by SHA-512; only "
                           "SHA-256 is supported",
                           document);
        return bad(err, document, "a digest is missing or malformed");
    }
    if (!json_is_integer(n) || json_integer_value(n) < 0)
        return bad(err, document, "a size is missing or malformed");
    str_print(digest, TEMPLATE_DIGEST, "%s", text);
    *size = (uint64_t)json_integer_value(n);
    return 0;
}

static const char *this_architecture(void)
{
#if defined(__x86_64__)
    return "amd64";
#elif defined(__aarch64__)
    return "arm64";
#else
    return "unknown";
#endif
}

/* No platform given: it may be for any. */
static bool for_this_machine(const json_t *d)
{
    const json_t *p = json_object_get(d, "platform");
    return !p || (str_eq(text_of(p, "os"), "linux") &&
                  str_eq(text_of(p, "architecture"), this_architecture()));
}

static bool has_tag(const json_t *d, const char *tag)
{
    const char *name = text_of(json_object_get(d, "annotations"), REF_NAME);
    size_t n = strlen(name), t = strlen(tag);
    /* "latest", and also "registry/name:latest", which some tools write. */
    return str_eq(name, tag) || (n > t && name[n - t - 1] == ':' && str_eq(name + n - t, tag));
}

static int several(const json_t *list, struct err *err)
{
    auto_str struct str s = str_init(256);
    size_t i;
    const json_t *d;
    json_array_foreach(list, i, d)
    {
        const char *name = text_of(json_object_get(d, "annotations"), REF_NAME);
        if (*name && s.len < 120) {
            str_add(&s, s.len ? ", " : "");
            str_escape(&s, name, strnlen(name, 40));
        }
    }
    return err_set(err, ERR_USAGE, "it holds several images; name one as oci:PATH:TAG (%s)",
                   s.len ? str_c(&s) : "none of them has a tag");
}

/* image-layout.md: the file oci-layout. */
int image_read_layout(const char *text, size_t len, struct err *err)
{
    auto_json json_t *j = NULL;
    int r = load(text, len, "oci-layout", &j, err);
    if (r < 0)
        return r;
    if (!str_starts(text_of(j, "imageLayoutVersion"), "1."))
        return err_set(err, ERR_UNSUPPORTED, "the image's layout is not of version 1");
    return 0;
}

int image_choose(const char *text, size_t len, const char *tag, bool top,
                 struct image_descriptor *ret, struct err *err)
{
    auto_json json_t *j = NULL;
    int r = load(text, len, "index", &j, err);
    if (r < 0)
        return r;
    const json_t *list = json_object_get(j, "manifests"), *d, *chosen = NULL;
    if (json_integer_value(json_object_get(j, "schemaVersion")) != 2 || !json_is_array(list))
        return bad(err, "index", "it is not of schema version 2");
    size_t i, fit = 0, tagged = 0;
    json_array_foreach(list, i, d)
    {
        if (top && tag && !has_tag(d, tag))
            continue;
        tagged++;
        if (!for_this_machine(d))
            continue;
        /* In a nested index the first that fits is it (image-index.md). */
        if (top || !chosen)
            chosen = d;
        fit++;
    }
    if (top && tag && !tagged) {
        auto_str struct str s = str_init(512);
        str_escape(&s, tag, strnlen(tag, 64));
        return err_set(err, ERR_NOT_FOUND, "it holds no image with the tag \"%s\"", str_c(&s));
    }
    if (!fit)
        return err_set(err, ERR_UNSUPPORTED, "it holds no image for linux/%s", this_architecture());
    if (top && fit > 1)
        return several(list, err);
    const char *type = text_of(chosen, "mediaType");
    bool is_index = str_eq(type, "application/vnd.oci.image.index.v1+json") ||
                    str_eq(type, "application/vnd.docker.distribution.manifest.list.v2+json");
    if (!is_index && !str_eq(type, "application/vnd.oci.image.manifest.v1+json") &&
        !str_eq(type, "application/vnd.docker.distribution.manifest.v2+json"))
        return wrong_type("manifest", type, err);
    ret->is_index = is_index;
    return read_descriptor(chosen, "index", ret->digest, &ret->size, err);
}

/* image-spec layer.md, and Docker's names for the same; -1: not a layer. */
static int layer_kind(const char *type)
{
    static const struct {
        const char *type;
        enum stream_kind kind;
    } kinds[] = {
        {"application/vnd.oci.image.layer.v1.tar", STREAM_PLAIN},
        {"application/vnd.oci.image.layer.v1.tar+gzip", STREAM_GZIP},
        {"application/vnd.oci.image.layer.v1.tar+zstd", STREAM_ZSTD},
        {"application/vnd.oci.image.layer.nondistributable.v1.tar", STREAM_PLAIN},
        {"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", STREAM_GZIP},
        {"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", STREAM_ZSTD},
        {"application/vnd.docker.image.rootfs.diff.tar", STREAM_PLAIN},
        {"application/vnd.docker.image.rootfs.diff.tar.gzip", STREAM_GZIP},
        {"application/vnd.docker.image.rootfs.diff.tar.zstd", STREAM_ZSTD},
    };
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (str_eq(type, kinds[i].type))
            return (int)kinds[i].kind;
    return -1;
}

static int too_many_layers(struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED, "the image has no layers or more than %d",
                   TEMPLATE_LAYERS_MAX);
}

int image_read_manifest(const char *text, size_t len, struct image *image,
                        struct image_descriptor *ret_config, struct err *err)
{
    auto_json json_t *j = NULL;
    int r = load(text, len, "manifest", &j, err);
    if (r < 0)
        return r;
    if (json_integer_value(json_object_get(j, "schemaVersion")) != 2)
        return bad(err, "manifest", "it is not of schema version 2");
    const char *type = text_of(j, "mediaType");
    if (*type && !str_eq(type, "application/vnd.oci.image.manifest.v1+json") &&
        !str_eq(type, "application/vnd.docker.distribution.manifest.v2+json"))
        return wrong_type("manifest", type, err);
    const json_t *config = json_object_get(j, "config"), *layers = json_object_get(j, "layers"), *d;
    type = text_of(config, "mediaType");
    if (!str_eq(type, "application/vnd.oci.image.config.v1+json") &&
        !str_eq(type, "application/vnd.docker.container.image.v1+json"))
        return wrong_type("configuration", type, err);
    *ret_config = (struct image_descriptor){0};
    if ((r = read_descriptor(config, "manifest", ret_config->digest, &ret_config->size, err)) < 0)
        return r;
    size_t i;
    if (json_array_size(layers) == 0 || json_array_size(layers) > TEMPLATE_LAYERS_MAX)
        return too_many_layers(err);
    json_array_foreach(layers, i, d)
    {
        struct image_layer *l = &image->layers[i];
        type = text_of(d, "mediaType");
        if ((l->kind = layer_kind(type)) < 0)
            return wrong_type("layer", type, err);
        if ((r = read_descriptor(d, "manifest", l->digest, &l->size, err)) < 0)
            return r;
        if (!(l->file = str_format("blobs/sha256/%s", l->digest + 7)))
            return no_memory(err);
        image->n_layers = i + 1;
    }
    return 0;
}

/* Appends the strings of a list to another; NULL and absent are empty. */
static int add_strings(const json_t *list, char ***to, size_t *n, struct err *err)
{
    if (!list || json_is_null(list))
        return 0;
    if (!json_is_array(list))
        return bad(err, "configuration", "a list is not a list");
    size_t more = json_array_size(list);
    char **grown = reallocarray(*to, *n + more + 1, sizeof(**to));
    if (!grown)
        return no_memory(err);
    *to = grown;
    grown[*n] = NULL;
    size_t i;
    const json_t *s;
    json_array_foreach(list, i, s)
    {
        if (!json_is_string(s))
            return bad(err, "configuration", "a list holds something that is not text");
        if (!(grown[*n] = strdup(json_string_value(s))))
            return no_memory(err);
        grown[++*n] = NULL;
    }
    return 0;
}

static int read_start(const json_t *config, struct image *image, struct err *err)
{
    size_t n = 0, n_env = 0;
    int r;
    if ((r = add_strings(json_object_get(config, "Entrypoint"), &image->command, &n, err)) < 0 ||
        (r = add_strings(json_object_get(config, "Cmd"), &image->command, &n, err)) < 0 ||
        (r = add_strings(json_object_get(config, "Env"), &image->env, &n_env, err)) < 0)
        return r;
    if (n == 0) {
        free(image->command);
        image->command = NULL;
    }
    for (size_t i = 0; i < n_env; i++)
        if (!strchr(image->env[i], '=') || image->env[i][0] == '=')
            return bad(err, "configuration", "Env holds something that is not KEY=VALUE");
    const char *dir = text_of(config, "WorkingDir"), *user = text_of(config, "User");
    if ((*dir && !(image->workdir = strdup(dir))) || (*user && !(image->user = strdup(user))))
        return no_memory(err);
    return 0;
}

int image_read_config(const char *text, size_t len, struct image *image, struct err *err)
{
    auto_json json_t *j = NULL;
    int r = load(text, len, "configuration", &j, err);
    if (r < 0)
        return r;
    const char *os = text_of(j, "os"), *arch = text_of(j, "architecture");
    if (!str_eq(os, "linux") || !str_eq(arch, this_architecture())) {
        auto_str struct str s = str_init(512);
        str_escape(&s, os, strnlen(os, 30));
        str_add(&s, "/");
        str_escape(&s, arch, strnlen(arch, 30));
        return err_set(err, ERR_UNSUPPORTED, "the image is for %s and this machine is linux/%s",
                       str_c(&s), this_architecture());
    }
    const json_t *rootfs = json_object_get(j, "rootfs"), *ids = json_object_get(rootfs, "diff_ids"),
                 *id;
    if (!str_eq(text_of(rootfs, "type"), "layers") || !json_is_array(ids))
        return bad(err, "configuration", "it names no layers");
    if (json_array_size(ids) != image->n_layers)
        return bad(err, "configuration", "it names another number of layers than the manifest");
    size_t i;
    json_array_foreach(ids, i, id)
    {
        if (!digest_ok(json_string_value(id)))
            return bad(err, "configuration", "a digest is malformed");
        str_print(image->layers[i].diff_id, TEMPLATE_DIGEST, "%s", json_string_value(id));
    }
    const json_t *config = json_object_get(j, "config");
    return json_is_object(config) ? read_start(config, image, err) : 0;
}

static bool has_repo_tag(const json_t *d, const char *tag)
{
    const json_t *s;
    size_t i;
    json_array_foreach(json_object_get(d, "RepoTags"), i, s)
    {
        const char *name = json_string_value(s), *colon = name ? strrchr(name, ':') : NULL;
        if (name && (str_eq(name, tag) || (colon && str_eq(colon + 1, tag))))
            return true;
    }
    return false;
}

int image_read_docker(const char *text, size_t len, const char *tag, struct image *image,
                      char **ret_config, struct err *err)
{
    auto_json json_t *j = NULL;
    int r = load(text, len, "manifest.json", &j, err);
    if (r < 0)
        return r;
    const json_t *d, *chosen = NULL, *layer;
    size_t i, fit = 0;
    json_array_foreach(j, i, d)
    {
        if (tag && !has_repo_tag(d, tag))
            continue;
        chosen = d;
        fit++;
    }
    if (fit == 0)
        return err_set(err, ERR_NOT_FOUND, "it holds no image%s", tag ? " with this tag" : "");
    if (fit > 1)
        return err_set(err, ERR_USAGE, "it holds several images; name one as oci:PATH:TAG");
    const json_t *layers = json_object_get(chosen, "Layers");
    if (json_array_size(layers) == 0 || json_array_size(layers) > TEMPLATE_LAYERS_MAX)
        return too_many_layers(err);
    json_array_foreach(layers, i, layer)
    {
        if (!json_is_string(layer))
            return bad(err, "manifest.json", "a layer has no name");
        struct image_layer *l = &image->layers[i];
        l->kind = -1;
        if (!(l->file = strdup(json_string_value(layer))))
            return no_memory(err);
        image->n_layers = i + 1;
    }
    const char *config = text_of(chosen, "Config");
    if (!*config)
        return bad(err, "manifest.json", "it names no configuration");
    return (*ret_config = strdup(config)) ? 0 : no_memory(err);
}
