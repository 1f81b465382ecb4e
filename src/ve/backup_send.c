/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The worker of a backup: a tree into frames, frames to the client. */
#include "backup/backup.h"

#include "base/number.h"
#include "ve/backup.h"
#include "ve/client.h"
#include "ve/jobs.h"
#include "ve/pools.h"
#include "ve/saved.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

struct sending {
    struct job *job;
    struct ve *ve;
    struct client_in in;
    int tree; /* that is packed, with upper/ in it */
    struct stat tree_st;
    struct backup_measure measure;
    uint64_t total; /* bytes of its files and of the layers that go with them */
    struct backup_layer layers[TEMPLATE_LAYERS_MAX];
    size_t n_layers;
    struct backup_part part;
    char *base;
    size_t base_len;
    _Atomic int percent; /* the packing thread's; the one that writes tells the client */
    int told;
};

static void sending_done(struct sending *s)
{
    cleanup_fd(&s->tree);
    for (size_t i = 0; i < s->n_layers; i++)
        cleanup_fd(&s->layers[i].root);
    backup_part_done(&s->part);
    free(s->base);
}

static int open_tree(struct sending *s, int *ret_fd, struct err *err)
{
    struct storage_pool *pool = backup_tree_pool(s->ve, s->job->aim);
    if (!pool)
        pool = ve_pool(s->ve);
    return s->job->aim ? storage_saved_open(pool, s->job->aim, ret_fd, err)
                       : storage_open(pool, s->ve->rec.id, ret_fd, err);
}

/* A tree that is removed is renamed before its files go: if it is still where it was, all of them
 * were there until now. */
static int tree_is_there(void *ctx, struct err *err)
{
    struct sending *s = ctx;
    auto_fd int fd = -1;
    struct stat st;
    if (open_tree(s, &fd, err) < 0 || fstat(fd, &st) < 0 || st.st_ino != s->tree_st.st_ino ||
        st.st_dev != s->tree_st.st_dev)
        return err_set(err, ERR_STATE, "its files were removed while they were packed");
    return 0;
}

static int write_out(void *ctx, const void *buf, size_t len, struct err *err)
{
    struct sending *s = ctx;
    int percent = s->percent;
    if (percent != s->told) {
        s->told = percent;
        int r = client_tell(s->job->client, percent, "packing", err);
        if (r < 0)
            return r;
    }
    return client_write(s->job->client, buf, len, err);
}

/* Called from the thread that packs, while another one writes to the client. */
static int on_progress(void *ctx, uint64_t bytes)
{
    struct sending *s = ctx;
    if (bytes == UINT64_MAX)
        return job_cancel_flag;
    uint64_t total = s->total ? s->total : 1;
    int percent = bytes >= total ? 99 : (int)((double)bytes / (double)total * 100.0);
    char text[96], size[NUMBER_TEXT];
    if (percent == s->percent)
        return job_cancel_flag;
    s->percent = percent;
    str_print(text, sizeof(text), "packing %s", number_format_size(total, size));
    return job_progress(s->job, percent, text);
}

static int open_layer(struct sending *s, const char *digest, struct err *err)
{
    int fd = -1;
    if (s->n_layers == TEMPLATE_LAYERS_MAX)
        return err_set(err, ERR_CORRUPT, "it has too many layers");
    if (template_open_layers(s->ve->node->templates, &digest, 1, &fd, err) < 0)
        return err_wrap(err, "cannot embed its template");
    /* from O_PATH to one that can be read */
    s->layers[s->n_layers].root = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close(fd);
    return s->layers[s->n_layers++].root < 0 ? err_sys(err, "cannot open layer %.19s", digest) : 0;
}

/* Reads each layer once to know what its tar will be. */
static int embed(struct sending *s, json_t *layers, struct err *err)
{
    size_t i;
    json_t *layer;
    json_array_foreach(layers, i, layer)
    {
        char text[96];
        if (json_object_get(layer, "earlier"))
            continue;
        str_print(text, sizeof(text), "reading layer %zu of %zu", i + 1, json_array_size(layers));
        if (job_progress(s->job, -1, text))
            return err_set(err, ERR_CANCELLED, "it was cancelled");
        if (open_layer(s, text_of(layer, "digest"), err) < 0)
            return -err->kind;
        struct backup_layer *l = &s->layers[s->n_layers - 1];
        if (backup_layer_measure(l, err) < 0)
            return err_wrap(err, "layer %.19s", text_of(layer, "digest"));
        json_object_set_new(
            layer, "embedded",
            json_pack("{s:s, s:I}", "digest", l->digest, "size", (json_int_t)l->size));
    }
    return 0;
}

static int embed_again(struct sending *s, const json_t *layers, struct err *err)
{
    size_t i;
    json_t *layer;
    json_array_foreach((json_t *)layers, i, layer)
    {
        const json_t *e = json_object_get(layer, "embedded");
        if (!e)
            continue;
        if (open_layer(s, text_of(layer, "digest"), err) < 0)
            return -err->kind;
        struct backup_layer *l = &s->layers[s->n_layers - 1];
        str_print(l->digest, sizeof(l->digest), "%s", text_of(e, "digest"));
        l->size = (uint64_t)json_integer_value(json_object_get(e, "size"));
    }
    return 0;
}

static bool has_text(const json_t *list, const json_t *text)
{
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)list, i, v) if (json_equal(v, text)) return true;
    return false;
}

static int new_manifest(struct sending *s, json_t *m, struct err *err)
{
    json_t *layers = json_array(), *digest;
    size_t i;
    const json_t *spec = json_object_get(json_object_get(m, "ve"), "spec");
    const json_t *options = s->job->options;
    const json_t *earlier = json_object_get(json_object_get(options, "since"), "layers");
    bool all = json_is_true(json_object_get(options, "embed"));
    json_array_foreach(json_object_get(spec, "layers"), i, digest)
    {
        json_t *layer = json_pack("{s:O}", "digest", digest);
        if (!all && has_text(earlier, digest))
            json_object_set_new(layer, "earlier", json_true());
        json_array_append_new(layers, layer);
    }
    json_object_set_new(m, "layers", layers);
    json_object_set_new(m, "tree",
                        json_pack("{s:s, s:I, s:I}", "fingerprint", s->measure.fingerprint, "bytes",
                                  (json_int_t)s->measure.bytes, "entries",
                                  (json_int_t)s->measure.entries));
    return all || json_is_true(json_object_get(options, "leaving")) ? embed(s, layers, err) : 0;
}

/* Frames that the client has: their sizes come before all else. */
static int take_part(struct sending *s, const json_t *resume, struct err *err)
{
    const char *chain = text_of(resume, "chain");
    int64_t n = json_integer_value(json_object_get(resume, "frames"));
    if (n <= 0 || (uint64_t)n > BACKUP_FRAMES_MAX || !backup_chain_read(chain, s->part.chain))
        return err_set(err, ERR_USAGE, "what is to be resumed is not described");
    s->part.n_rows = (size_t)n;
    s->part.rows = calloc((size_t)n, sizeof(*s->part.rows));
    if (!s->part.rows)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    return client_read_all(&s->in, s->part.rows, (size_t)n * sizeof(*s->part.rows), err);
}

static int take_base(struct sending *s, const json_t *since, struct err *err)
{
    int64_t n = json_integer_value(json_object_get(since, "bytes"));
    if (n <= 0 || (uint64_t)n > BACKUP_LIST_MAX)
        return err_set(err, ERR_USAGE, "since.bytes is not the size of a list of files");
    s->base_len = (size_t)n;
    if (!(s->base = malloc(s->base_len)))
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    return client_read_all(&s->in, s->base, s->base_len, err);
}

static int pack(struct sending *s, int upper, const json_t *m, const char *text, struct err *err)
{
    struct backup_made made;
    s->total = s->measure.bytes;
    for (size_t i = 0; i < s->n_layers; i++)
        s->total += s->layers[i].size;
    struct backup_request rq = {
        .root = upper,
        .taken = json_integer_value(json_object_get(m, "created")) / 1000,
        .id = text_of(m, "id"),
        .manifest = text,
        .base = s->base,
        .base_len = s->base_len,
        .layers = s->layers,
        .n_layers = s->n_layers,
        .part = s->part.n_rows ? &s->part : NULL,
        .write = write_out,
        .progress = on_progress,
        .last = tree_is_there,
        .ctx = s,
    };
    if (backup_make(&rq, &made, err) < 0)
        return -err->kind;
    s->job->result[0] = (int64_t)made.packed;
    s->job->result[1] = (int64_t)made.plain;
    s->job->result[2] = (int64_t)made.left_out;
    s->job->result[3] = (int64_t)made.entries;
    s->job->result[4] = (int64_t)made.beyond;
    str_print(s->job->said, sizeof(s->job->said), "%s", made.beyond_dir);
    char text_beyond[BACKUP_BEYOND_TEXT];
    if (made.beyond &&
        client_warn(s->job->client,
                    backup_beyond((int64_t)made.beyond, made.beyond_dir, text_beyond), err) < 0)
        return -err->kind;
    return client_flush(s->job->client, err);
}

static int send_it(struct sending *s, struct err *err)
{
    const json_t *options = s->job->options, *resume = json_object_get(options, "resume");
    const json_t *since = json_object_get(options, "since");
    auto_free char *text = NULL;
    auto_fd int upper = -1;
    json_t *m = NULL;
    int r;
    if ((resume && (r = take_part(s, resume, err)) < 0) ||
        (since && (r = take_base(s, since, err)) < 0) || (r = open_tree(s, &s->tree, err)) < 0)
        return r;
    upper = openat(s->tree, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (upper < 0 || fstat(s->tree, &s->tree_st) < 0)
        return err_sys(err, "cannot open its tree");
    if ((r = backup_measure(upper, &s->measure, err)) < 0)
        return r;
    if (resume) {
        m = backup_resumed(options);
        text = strdup(text_of(resume, "manifest"));
        if (!str_eq(text_of(json_object_get(m, "tree"), "fingerprint"), s->measure.fingerprint))
            r = err_set(err, ERR_STATE,
                        "its files are no longer as they were when the backup was begun; begin a "
                        "new one without --resume");
        else
            r = embed_again(s, json_object_get(m, "layers"), err);
    } else {
        m = json_deep_copy(json_object_get(options, "manifest"));
        r = new_manifest(s, m, err);
        text = json_dumps(m, JSON_INDENT(1) | JSON_SORT_KEYS);
    }
    if (r == 0)
        r = text ? pack(s, upper, m, text, err) : err_set(err, ERR_EXHAUSTED, "out of memory");
    json_decref(m);
    return r;
}

int backup_send_work(struct job *job, struct err *err)
{
    auto_clean(sending_done) struct sending s = {
        .job = job, .in = {.fd = job->client}, .tree = -1, .percent = -1, .told = -1};
    s.ve = ve_by_id(job->node, json_integer_value(json_object_get(job->options, "ve_id")));
    if (!s.ve || !ve_pool(s.ve))
        return err_set(err, ERR_STATE, "%s: cannot back up: it is gone", job->rec.subject);
    worker_be_modest(); /* what the VEs do comes first */
    if (send_it(&s, err) == 0)
        return 0;
    err_wrap(err, "%s: cannot back up", job->rec.subject);
    client_fail(job, err);
    return -err->kind;
}
