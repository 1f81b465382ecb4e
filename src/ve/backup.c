/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Backups of VEs, to a client.
 *
 * A VE that runs, or whose pool copies cheaply, is saved first (a row LEASE in the table of
 * snapshots, and a saved tree of its number); the job then lets go of the VE and packs the saved
 * tree.  A stopped VE in another pool is packed as it lies there, and held meanwhile.  A backup
 * that was interrupted leaves its saved tree for a day, so that it can go on where it stopped: the
 * manifest, which the client has, tells which tree it was and how it looked.
 */
#include "backup/backup.h"

#include "base/fd.h"
#include "base/number.h"
#include "ve/backup.h"
#include "ve/client.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/pools.h"
#include "ve/rows.h"
#include "ve/saved.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEASE_MS     (24 * 3600 * 1000LL)
#define EXPIRE_EVERY 600000 /* ms */

enum mode { SAVE, DIRECT, SNAPSHOT, RESUME };

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* ---- what is asked ---- */

json_t *backup_resumed(const json_t *options)
{
    const char *text = text_of(json_object_get(options, "resume"), "manifest");
    return text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
}

static enum mode mode_of(const struct ve *ve, const json_t *options)
{
    if (json_object_get(options, "resume"))
        return RESUME;
    if (json_object_get(options, "snapshot"))
        return SNAPSHOT;
    return ve->state == VE_STOPPED && !storage_can(ve_pool(ve))->cheap_copies ? DIRECT : SAVE;
}

static int check_resume(struct ve *ve, const json_t *options, struct err *err)
{
    static const char again[] = "begin a new backup without --resume";
    const char *name = ve->rec.name;
    json_t *m = backup_resumed(options);
    const char *id = text_of(m, "id"), *ve_name = text_of(json_object_get(m, "ve"), "name");
    int64_t saved = json_integer_value(json_object_get(m, "saved"));
    int64_t ve_id = json_integer_value(json_object_get(json_object_get(m, "ve"), "id"));
    int r = 0;
    if (!m || !backup_id_ok(id) || !ve_name)
        r = err_set(err, ERR_CORRUPT, "%s: cannot resume: the file's manifest is damaged; %s", name,
                    again);
    else if (ve_id != ve->rec.id)
        r = err_set(err, ERR_USAGE, "%s: cannot resume: the file is a backup of %.63s; %s", name,
                    ve_name, again);
    else if (saved && !backup_tree_pool(ve, saved) && !snapshot_by_id(ve, saved))
        r = err_set(err, ERR_STATE,
                    "%s: cannot resume: what was kept for backup %.8s (for a day) is gone; %s",
                    name, id, again);
    else if (!saved && ve->state != VE_STOPPED)
        r = err_set(err, ERR_STATE,
                    "%s: cannot resume: it was stopped when the backup was begun, and is %s; stop "
                    "it, or %s",
                    name, ve_state_name(ve->state), again);
    json_decref(m);
    return r;
}

static int check_backup(struct ve *ve, const json_t *options, struct err *err)
{
    const char *since = text_of(json_object_get(options, "since"), "id");
    const char *snapshot = text_of(options, "snapshot");
    struct ve_snapshot *s;
    if (ve_pool_need(ve, err) < 0)
        return -err->kind;
    if (json_object_get(options, "since") && !backup_id_ok(since))
        return err_set(err, ERR_USAGE, "%s: since.id is not the id of a backup", ve->rec.name);
    if (json_object_get(options, "resume"))
        return check_resume(ve, options, err);
    if (snapshot && snapshot_find(ve, snapshot, &s, err) < 0)
        return -err->kind;
    if (!ve_state_is_up(ve->state) && ve->state != VE_STOPPED)
        return err_set(err, ERR_STATE,
                       "%s: cannot back up: it is %s; try again when it runs or is stopped",
                       ve->rec.name, ve_state_text(ve));
    return 0;
}

/* ---- the manifest ---- */

/* What restore needs of the VE; of a snapshot its own layers. */
static json_t *ve_json(const struct ve *ve, const struct ve_snapshot *s)
{
    json_t *spec = json_deep_copy(ve->spec);
    const char *profile = ve_profile_of(ve->spec);
    if (s)
        snapshot_put_back(spec, s);
    json_t *out = json_pack("{s:s, s:I, s:o}", "name", ve->rec.name, "id", (json_int_t)ve->rec.id,
                            "spec", spec);
    const json_t *params = profile ? ve_profile_params(ve->node, profile) : NULL;
    if (params)
        json_object_set_new(out, "profile_params", json_deep_copy(params));
    return out;
}

static json_t *manifest_of(struct job *job, const struct ve_snapshot *s)
{
    const char *since = text_of(json_object_get(job->options, "since"), "id");
    char id[BACKUP_ID];
    backup_id_make(id);
    json_t *m = json_pack("{s:i, s:s, s:s, s:s, s:I, s:I, s:o}", "format", 1, "id", id, "kind",
                          since ? "incremental" : "full", "terem", TEREM_VERSION, "created",
                          (json_int_t)ve_now_ms(), "saved", (json_int_t)job->aim, "ve",
                          ve_json(job->ve, s));
    if (since)
        json_object_set_new(m, "since", json_string(since));
    if (s)
        json_object_set_new(m, "snapshot", json_string(s->rec.name));
    return m;
}

/* ---- beginning: intent ---- */

/* Layers that its template has no more are kept by this VE and its like alone: a file without them
 * could not be restored once the VE is destroyed. */
static bool layers_leave(struct ve_node *node, const json_t *spec)
{
    auto_template struct template *t = NULL;
    const char *name = text_of(spec, "template");
    return !name || template_get(node->templates, name, &t, NULL) < 0 ||
           !ve_layers_are(json_object_get(spec, "layers"), t);
}

static int begin_lease(struct job *job, struct err *err)
{
    struct ve_snapshot s = {.rec = {.ve = job->ve->rec.id, .state = REGISTRY_SNAPSHOT_MAKING}};
    char id[BACKUP_ID];
    backup_id_make(id);
    str_print(s.rec.name, sizeof(s.rec.name), ".backup-%s", id);
    s.spec = snapshot_spec(job->ve, "", NULL);
    json_object_set_new(s.spec, "until", json_integer(ve_now_ms() + LEASE_MS));
    json_object_set_new(s.spec, "pool", json_string(ve_pool_name(job->ve)));
    json_object_set_new(job->options, "row", s.spec);
    json_object_set_new(job->options, "row_name", json_string(s.rec.name));
    int r = snapshot_save(job->ve, &s, err);
    job->aim = s.rec.id;
    return r;
}

static int begin_backup(struct job *job, struct err *err)
{
    enum mode mode = mode_of(job->ve, job->options);
    struct ve_snapshot *s = NULL;
    int r = 0;
    json_object_set_new(job->options, "mode", json_integer(mode));
    json_object_set_new(job->options, "ve_id", json_integer(job->ve->rec.id));
    if (mode == RESUME) {
        json_t *m = backup_resumed(job->options);
        job->aim = json_integer_value(json_object_get(m, "saved"));
        json_decref(m);
        return 0;
    }
    if (mode == SNAPSHOT) {
        if (snapshot_find(job->ve, text_of(job->options, "snapshot"), &s, err) < 0)
            return -err->kind;
        job->aim = s->rec.id;
    } else if (mode == SAVE) {
        r = begin_lease(job, err);
    }
    json_t *m = manifest_of(job, s);
    if (layers_leave(job->node, json_object_get(json_object_get(m, "ve"), "spec")))
        json_object_set_new(job->options, "leaving", json_true());
    json_object_set_new(job->options, "manifest", m);
    return r < 0 ? err_wrap(err, "%s: cannot back up", job->ve->rec.name) : 0;
}

/* ---- what was kept ---- */

struct ve_snapshot *backup_lease(const struct ve *ve, int64_t id)
{
    for (size_t i = 0; i < ve->n_leases; i++)
        if (ve->leases[i].rec.id == id)
            return &ve->leases[i];
    return NULL;
}

const char *backup_lease_pool(const struct ve *ve, const struct ve_snapshot *lease)
{
    const char *name = text_of(lease->spec, "pool");
    return name ? name : ve_pool_name(ve);
}

struct storage_pool *backup_tree_pool(const struct ve *ve, int64_t id)
{
    const struct ve_snapshot *s = backup_lease(ve, id);
    const struct ve_pool *p = s ? ve_pool_find(ve->node, backup_lease_pool(ve, s)) : NULL;
    return p ? p->pool : NULL;
}

int backup_lease_add(struct ve *ve, const struct ve_snapshot *s, struct err *err)
{
    struct ve_snapshot *p = reallocarray(ve->leases, ve->n_leases + 1, sizeof(*p));
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    ve->leases = p;
    p[ve->n_leases++] = *s;
    return 0;
}

static void forget(struct ve *ve, struct ve_snapshot *s)
{
    json_decref(s->spec);
    ve->n_leases--;
    memmove(s, s + 1, (size_t)(&ve->leases[ve->n_leases] - s) * sizeof(*s));
}

void backup_leases_free(struct ve *ve)
{
    while (ve->n_leases)
        forget(ve, &ve->leases[ve->n_leases - 1]);
    free(ve->leases);
    ve->leases = NULL;
}

/* The row, then the tree: one without a row is removed at the next start. */
static void drop_lease(struct ve *ve, int64_t id)
{
    struct err e = {0};
    struct ve_snapshot *s = backup_lease(ve, id);
    struct storage_pool *pool = backup_tree_pool(ve, id);
    if (!s)
        return;
    if (registry_snapshot_delete(ve->node->registry, id, &e) < 0 && e.kind != ERR_NOT_FOUND) {
        log_warn(ve->rec.name, 0, "what was kept for a backup: %s", e.text);
        return;
    }
    forget(ve, s);
    if (pool && storage_saved_remove(pool, id, &e) < 0)
        log_warn(ve->rec.name, 0, "what was kept for a backup: %s", e.text);
    ve_trash_later(ve->node);
}

static bool is_used(const struct ve_node *node, int64_t id)
{
    for (size_t i = 0; i < node->n_open; i++)
        if (node->open[i]->aim == id && str_starts(node->open[i]->rec.kind, "backup"))
            return true;
    return false;
}

static void on_lease_timer(uv_timer_t *t)
{
    backup_expire(t->data);
}

void backup_expire(struct ve_node *node)
{
    int64_t now = ve_now_ms();
    bool left = false;
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        for (size_t k = ve->n_leases; k-- > 0;) {
            const struct ve_snapshot *s = &ve->leases[k];
            left = true;
            if (json_integer_value(json_object_get(s->spec, "until")) < now && !ve->job &&
                !is_used(node, s->rec.id))
                drop_lease(ve, s->rec.id);
        }
    }
    if (!left || node->closing) {
        ve_handle_close(&node->lease_timer);
    } else if (!node->lease_timer && (node->lease_timer = calloc(1, sizeof(*node->lease_timer)))) {
        uv_timer_init(node->loop, node->lease_timer);
        node->lease_timer->data = node;
        uv_timer_start(node->lease_timer, on_lease_timer, EXPIRE_EVERY, EXPIRE_EVERY);
    }
}

void backup_end(struct ve_node *node)
{
    ve_handle_close(&node->lease_timer);
}

/* ---- the jobs ---- */

static enum mode job_mode(const struct job *job)
{
    return (enum mode)json_integer_value(json_object_get(job->options, "mode"));
}

static int saving(void *ctx, int percent, const char *text)
{
    struct job *job = ctx;
    struct err gone = {0}; /* found out by whoever sends */
    client_tell(job->client, percent, text ? text : "", &gone);
    return job_progress(job, percent, text);
}

static int work_backup(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    struct storage_step step = {saving, job};
    if (job_mode(job) == DIRECT || (job_mode(job) == RESUME && !job->aim))
        return backup_send_work(job, err);
    if (job_mode(job) != SAVE)
        return 0;
    if (ve_save_still(ve, job->aim, &step, err) < 0)
        return err_wrap(err, "%s: cannot back up", ve->rec.name);
    return 0;
}

const char *backup_beyond(int64_t count, const char *dir, char ret[BACKUP_BEYOND_TEXT])
{
    str_print(ret, BACKUP_BEYOND_TEXT,
              "its backup is without %" PRId64
              " path%s of more than 4095 bytes or 256 directories, "
              "and what is below; the first is in %s",
              count, count == 1 ? "" : "s", dir);
    return ret;
}

/* A backup without them is better than none: anybody in the VE can make such paths. */
static void tell_beyond(struct job *job)
{
    char text[BACKUP_BEYOND_TEXT];
    backup_beyond(job->result[4], job->said, text);
    log_warn(job->rec.subject, job->rec.id, "%s", text);
    json_object_set_new(job->answer, "warning", json_string(text));
    json_array_append_new(job->node->pending, json_pack("{s:s, s:s, s:s}", "type", "ve.warning",
                                                        "ve", job->rec.subject, "text", text));
}

static int done_sent(struct job *job, struct err *err)
{
    struct ve *ve = ve_by_id(job->node, json_integer_value(json_object_get(job->options, "ve_id")));
    char size[NUMBER_TEXT];
    if (ve && job->aim)
        drop_lease(ve, job->aim);
    job->answer = json_pack("{s:I, s:I, s:I, s:I}", "bytes", (json_int_t)job->result[0], "unpacked",
                            (json_int_t)job->result[1], "left_out", (json_int_t)job->result[2],
                            "entries", (json_int_t)job->result[3]);
    str_print(job->text, sizeof(job->text), "backed up: %s",
              number_format_size((uint64_t)job->result[0], size));
    if (job->result[4] > 0)
        tell_beyond(job);
    return 0;
}

static int done_backup(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    if (job_mode(job) == DIRECT || (job_mode(job) == RESUME && !job->aim))
        return done_sent(job, err);
    if (job_mode(job) == SAVE) {
        struct ve_snapshot s = {.rec = {.id = job->aim, .ve = ve->rec.id}};
        s.rec.state = REGISTRY_SNAPSHOT_LEASE;
        str_print(s.rec.name, sizeof(s.rec.name), "%s", text_of(job->options, "row_name"));
        s.spec = json_incref(json_object_get(job->options, "row"));
        if (snapshot_save(ve, &s, err) < 0 || backup_lease_add(ve, &s, err) < 0) {
            json_decref(s.spec);
            return err_wrap(err, "%s: cannot back up", ve->rec.name);
        }
        backup_expire(job->node); /* arms the timer */
    }
    if (ve_begin(job->node, err) < 0)
        return -err->kind;
    job_let_go(job, &job_backup_send);
    return 1;
}

static void failed_backup(struct job *job)
{
    struct ve *ve = job->ve;
    struct err e = {0};
    if (job_mode(job) != SAVE || !job->aim)
        return;
    ve_go_on(ve); /* its worker may have been killed meanwhile */
    if ((ve_pool(ve) && storage_saved_remove(ve_pool(ve), job->aim, &e) < 0) ||
        registry_snapshot_delete(ve->node->registry, job->aim, &e) < 0)
        log_error(ve->rec.name, job->rec.id, "%s; it is tried again at the next start", e.text);
    ve_trash_later(ve->node);
}

/* One that was cancelled is not wanted any more; all others may go on. */
static void failed_send(struct job *job)
{
    struct ve *ve = ve_by_id(job->node, json_integer_value(json_object_get(job->options, "ve_id")));
    if (ve && job->aim && job->cancelled)
        drop_lease(ve, job->aim);
}

const struct job_kind job_backup = {
    .name = "backup",
    .of_ve = true,
    .hidden = true, /* it needs a client: ve_backup() */
    .needs_pool = true,
    .cancellable = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .check = check_backup,
    .begin = begin_backup,
    .work = work_backup,
    .done = done_backup,
    .failed = failed_backup,
};

const struct job_kind job_backup_send = {
    .name = "backup-send",
    .hidden = true,
    .cancellable = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .work = backup_send_work,
    .done = done_sent,
    .failed = failed_send,
};

int ve_backup_check(struct ve_node *node, const char *name, const json_t *request, struct err *err)
{
    struct ve *ve;
    if (node->stopping)
        return err_set(err, ERR_STATE, "the node is stopping");
    if (ve_find_err(node, name, &ve, err) < 0)
        return -err->kind;
    if (ve->job)
        return err_set(err, ERR_BUSY,
                       "%s: cannot back up: job %" PRId64 " (%s) is at work; try again when it has "
                       "ended",
                       name, ve->job->rec.id, ve->job->rec.kind);
    if (ve->transfers)
        return err_set(err, ERR_BUSY,
                       "%s: cannot back up: its files are being copied; try again when that has "
                       "ended",
                       name);
    return check_backup(ve, request, err);
}

int ve_backup(struct ve_node *node, const char *name, const json_t *request, int client_fd,
              struct err *err)
{
    struct ve *ve;
    int64_t id;
    int client = -1;
    if (ve_backup_check(node, name, request, err) < 0 || ve_find_err(node, name, &ve, err) < 0 ||
        client_take(node, client_fd, &client, err) < 0)
        return -err->kind;
    return job_begin_with(node, &job_backup, name, ve, request, client, NULL, &id, err);
}
