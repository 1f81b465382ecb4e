/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What nobody stands on any more: layers without a template, a VE or a snapshot, and what pools and
 * templates have put into their trash.
 *
 * Renaming layers out of the way is done here in teremd, which alone knows all who use one: between
 * two of its steps nobody can begin to.  A job whose layers no record names yet (job_kind.layers)
 * holds that up until it has ended.  Deleting takes long and is done by a process at idle priority.
 *
 * The same process writes the trees of VEs that began to run to the disk: a start does not wait for
 * that, and from then on a tree that is missing is one that was lost.
 */
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/pools.h"

#include <inttypes.h>
#include <sys/wait.h>

#define TRASH_DELAY_MS 500 /* so that destroying many costs one process */
#define TRIES_MAX      7   /* what cannot be done is tried again after twice as long, to a minute */

/* Has it been used, and may its tree be in memory alone? */
static bool may_fade(const struct ve *ve)
{
    return json_object_get(ve->run, "boot") && !ve_tree_is_filled(ve) && ve_pool(ve);
}

static bool is_short(const struct ve_node *node)
{
    for (size_t i = 0; i < node->n_pools; i++)
        if (node->pools[i]->pool && storage_is_short(node->pools[i]->pool))
            return true;
    return false;
}

static bool has_work(struct ve_node *node)
{
    for (size_t i = 0; i < node->n_ves; i++)
        if (may_fade(node->ves[i]))
            return true;
    for (size_t i = 0; i < node->n_pools; i++)
        if (node->pools[i]->pool && storage_has_trash(node->pools[i]->pool))
            return true;
    return node->trash_commits || is_short(node) || template_has_trash(node->templates);
}

/* Somebody waits for the same work, which is then not done twice. */
static bool is_pruning(const struct ve_node *node)
{
    for (size_t i = 0; i < node->n_open; i++)
        if (node->open[i]->kind == &job_template_prune)
            return true;
    return false;
}

/* How the process ended: what could not be done. */
enum { NOT_WRITTEN = 1, NOT_DELETED };

/* All of it, though some cannot go; told once, by the first process that cannot. */
static int empty_trash(struct ve_node *node)
{
    struct err e = {0}, other = {0};
    for (size_t i = 0; i < node->n_pools; i++)
        if (node->pools[i]->pool)
            storage_empty_trash(node->pools[i]->pool, e.kind ? &other : &e);
    template_empty_trash(node->templates, NULL, e.kind ? &other : &e);
    if (e.kind && !node->trash_tries)
        log_warn(NULL, 0, "what was destroyed still takes its space, and is tried again: %s",
                 e.text);
    return e.kind ? NOT_DELETED : 0;
}

/* The trees of VEs that began to run. */
static int commit_new(struct ve_node *node)
{
    int r = 0;
    for (size_t i = 0; i < node->n_pools && r == 0; i++) {
        bool any = false;
        for (size_t k = 0; k < node->n_ves && !any; k++)
            any = node->ves[k]->filling && ve_pool(node->ves[k]) == node->pools[i]->pool;
        if (any)
            r = storage_commit(node->pools[i]->pool, &(struct err){0});
    }
    return r;
}

static void trash_begin(struct ve_node *node)
{
    if (node->trash_pid || node->closing || is_pruning(node) || !has_work(node))
        return;
    for (size_t i = 0; i < node->n_ves; i++)
        node->ves[i]->filling = may_fade(node->ves[i]);
    pid_t pid = ve_fork(node, NULL, 0, true);
    if (pid == 0) {
        int r = commit_new(node);
        worker_be_idle();
        int left = empty_trash(node);
        _exit(r < 0 ? NOT_WRITTEN : left);
    }
    node->trash_pid = pid > 0 ? pid : 0;
    node->trash_commits &= pid <= 0;
}

void ve_trash_ended(struct ve_node *node, int status)
{
    node->trash_pid = 0;
    bool written = WIFEXITED(status) && WEXITSTATUS(status) != NOT_WRITTEN;
    for (size_t i = 0; i < node->n_ves; i++)
        if (node->ves[i]->filling && written)
            ve_tree_filled(node->ves[i]);
    if (status == 0 && !is_short(node))
        node->trash_tries = 0;
    else if (node->trash_tries < TRIES_MAX)
        node->trash_tries++;
    ve_trash_later(node);
}

/* Emptying the trash ends with a commit (storage/btrfs.c).  Not begun by teremd itself: it would
 * wait while another one is at work. */
void ve_count_soon(struct ve_node *node)
{
    node->trash_commits = true;
    ve_trash_later(node);
}

/* The job that holds it up, or NULL. */
static const struct job *holder(const struct ve_node *node)
{
    for (size_t i = 0; i < node->n_open; i++)
        if (node->open[i]->kind && node->open[i]->kind->layers)
            return node->open[i];
    return NULL;
}

/* Renames out of the way what is not used; false: not now, and the end of a job asks again. */
static bool collect(struct ve_node *node)
{
    auto_free const char **used = NULL;
    struct err e = {0};
    size_t n = 0;
    if (holder(node))
        return false;
    int r = ve_used_layers(node, &used, &n, &e);
    if (r == 0)
        r = template_collect(node->templates, used, n, &e);
    if (r < 0 && r != -ERR_BUSY)
        log_error(NULL, 0, "layers that nobody uses are kept: %s", e.text);
    return r != -ERR_BUSY;
}

static void on_trash_timer(uv_timer_t *t)
{
    struct ve_node *node = t->data;
    ve_handle_close(&node->trash_timer);
    if (!collect(node) && !holder(node))
        ve_trash_later(node);
    trash_begin(node);
}

void ve_trash_later(struct ve_node *node)
{
    if (node->trash_timer || node->closing)
        return;
    node->trash_timer = calloc(1, sizeof(*node->trash_timer));
    if (!node->trash_timer)
        return;
    uv_timer_init(node->loop, node->trash_timer);
    node->trash_timer->data = node;
    uv_timer_start(node->trash_timer, on_trash_timer, (uint64_t)TRASH_DELAY_MS << node->trash_tries,
                   0);
}

/* ---- at once: terem template prune ---- */

static int begin_prune(struct job *job, struct err *err)
{
    const struct job *busy = holder(job->node);
    if (job->node->trash_pid) {
        kill(job->node->trash_pid, SIGKILL);
        waitpid(job->node->trash_pid, NULL, 0);
        job->node->trash_pid = 0;
    }
    collect(job->node);
    job->aim = busy ? busy->rec.id : 0;
    return 0;
}

static int work_prune(struct job *job, struct err *err)
{
    struct template_freed freed = {0};
    job_progress(job, -1, "deleting");
    int r = template_empty_trash(job->node->templates, &freed, err);
    for (size_t i = 0; i < job->node->n_pools && r == 0; i++)
        if (job->node->pools[i]->pool)
            r = storage_empty_trash(job->node->pools[i]->pool, err);
    job->result[0] = (int64_t)freed.layers;
    job->result[1] = (int64_t)freed.bytes;
    return r;
}

static int done_prune(struct job *job, struct err *err)
{
    job->answer = json_pack("{s:I, s:I, s:o}", "layers", (json_int_t)job->result[0], "bytes",
                            (json_int_t)job->result[1], "waits_for",
                            job->aim ? json_integer(job->aim) : json_null());
    ve_trash_later(job->node);
    return 0;
}

static void failed_prune(struct job *job)
{
    ve_trash_later(job->node);
}

const struct job_kind job_template_prune = {
    .name = "template-prune",
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .begin = begin_prune,
    .work = work_prune,
    .done = done_prune,
    .failed = failed_prune,
};

/* The last part of removing a template: its layers are deleted when the job ends. */
static int work_sweep(struct job *job, struct err *err)
{
    return template_empty_trash(job->node->templates, NULL, err);
}

static const struct job_kind job_sweep = {
    .name = "template-remove",
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .work = work_sweep,
};

int ve_sweep(struct job *job)
{
    if (!collect(job->node))
        ve_trash_later(job->node);
    job_continue(job, &job_sweep);
    return 1;
}
