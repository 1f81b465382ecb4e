/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Processes that were ended for want of memory: who, how much it held, and why this one.
 *
 * The kernel tells it in its log only (/dev/kmsg), one reader for the whole node; nothing is
 * polled.  What Terem itself ended to lower memory.limit by force is told in the same way.
 */
#include "base/fd.h"
#include "base/number.h"
#include "ve/beside.h"
#include "ve/internal.h"
#include "ve/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#define LOG          "/dev/kmsg"
#define RECORD_MAX   8192 /* CONSOLE_EXT_LOG_MAX: a shorter buffer is EINVAL */
#define RECORDS_ONCE 64   /* then others have their turn on the loop */
#define IDS          65536
#define EVERY_MS     1000
#define TOLD_MAX     10 /* in that time, each with its name */

struct oom_watch {
    struct ve_node *node;
    int fd;
    char instance[32];
    struct resource_oom_log log;
    uv_poll_t *poll;
};

static struct ve *ve_of(struct ve_node *node, const struct resource_victim *v)
{
    if (v->ve)
        return ve_by_id(node, v->ve);
    for (size_t i = 0; i < node->n_ves; i++) {
        uid_t base = ve_id_base(node->ves[i]);
        if (v->uid >= base && v->uid - base < IDS)
            return node->ves[i];
    }
    return NULL;
}

static void text_of(const struct ve *ve, const struct resource_victim *v, char *buf, size_t size)
{
    char limit[PARAM_TEXT], held[NUMBER_TEXT];
    char cause[PARAM_TEXT + 80];
    const struct param_row *row = param_find("memory.limit");
    param_format(row, param_set_get(ve->params, "memory.limit"), limit);
    switch (v->where) {
    case RESOURCE_OOM_LIMIT:
        str_print(cause, sizeof(cause), "memory.limit %s was reached", limit);
        break;
    case RESOURCE_OOM_INSIDE:
        str_print(cause, sizeof(cause),
                  "a limit that the VE gave to a group of its own was reached");
        break;
    case RESOURCE_OOM_NODE:
        str_print(cause, sizeof(cause), "the whole node was out of memory");
        break;
    case RESOURCE_OOM_FORCE:
        str_print(cause, sizeof(cause), "memory.limit was lowered by force");
        break;
    default:
        str_print(cause, sizeof(cause), "a limit of memory was reached (memory.limit is %s)",
                  limit);
    }
    str_print(buf, size,
              "%s and nothing more could be given back: %s was killed, since its %s and its "
              "oom_score_adj of %d together weighed most%s",
              cause, v->name, number_format_size(v->held_bytes, held), v->adj,
              v->where == RESOURCE_OOM_NODE ? " on the node" : "");
}

static void tell(struct ve *ve, const struct resource_victim *v, pid_t pid)
{
    const struct param_row *row = param_find("memory.limit");
    struct param_value limit = param_set_get(ve->params, row->key);
    int64_t now = ve_now_ms();
    char text[PARAM_TEXT + 320];
    if (v->where == RESOURCE_OOM_LIMIT && !ve_bpf_tells_forks(ve->node)) /* it tells of this, too */
        ve_refused(ve, row, 1, pid, v->name, "a process was killed: see ve.oom");
    if (now - ve->oom_at >= EVERY_MS || now < ve->oom_at) {
        ve->oom_at = now;
        ve->oom_told = 0;
    }
    if (ve->oom_told == TOLD_MAX) {
        ve->oom_count++;
        ve_refused_later(ve->node);
        return;
    }
    ve->oom_told++;
    text_of(ve, v, text, sizeof(text));
    log_warn(ve->rec.name, 0, "%s", text);
    json_t *e = json_pack("{s:s, s:s, s:o, s:s, s:I, s:o, s:I, s:s}", "type", "ve.oom", "ve",
                          ve->rec.name, "pid", pid > 0 ? json_integer(pid) : json_null(), "process",
                          v->name, "rss", (json_int_t)v->held_bytes, "limit",
                          limit.unlimited ? json_null() : json_integer((json_int_t)limit.n),
                          "count", (json_int_t)1, "text", text);
    ve_event_emit(ve->node, e);
}

bool ve_oom_tell_rest(struct ve *ve)
{
    int64_t now = ve_now_ms();
    if (!ve->oom_count || (now - ve->oom_at < EVERY_MS && now >= ve->oom_at))
        return ve->oom_count > 0;
    log_warn(ve->rec.name, 0, "%" PRIu64 " more processes were killed for want of memory",
             (uint64_t)ve->oom_count);
    ve_event_emit(ve->node,
                  json_pack("{s:s, s:s, s:n, s:n, s:n, s:n, s:I, s:s}", "type", "ve.oom", "ve",
                            ve->rec.name, "pid", "process", "rss", "limit", "count",
                            (json_int_t)ve->oom_count, "text",
                            "more processes were killed in that second than are told one by one"));
    ve->oom_count = 0;
    return false;
}

static void on_victim(void *ctx, const struct resource_victim *v)
{
    struct ve *ve = ve_of(ctx, v);
    if (ve)
        tell(ve, v, v->pid_inside);
}

static void read_record(struct oom_watch *w, const char *record)
{
    struct resource_victim v;
    struct ve *ve;
    if (resource_oom_read(&w->log, w->instance, record, &v) && (ve = ve_of(w->node, &v)))
        tell(ve, &v, resource_pid_inside(v.pid));
}

static void on_log(uv_poll_t *poll, int status, int events)
{
    struct oom_watch *w = poll->data;
    char record[RECORD_MAX + 1];
    for (size_t i = 0; i < RECORDS_ONCE; i++) {
        ssize_t n = read(w->fd, record, RECORD_MAX);
        if (n < 0 && (errno == EPIPE || errno == EINTR))
            continue; /* EPIPE: what was not read yet has been overwritten */
        if (n < 0 && errno != EAGAIN) {
            log_warn(NULL, 0, "the kernel's log cannot be read any more: %s", strerror(errno));
            uv_poll_stop(w->poll);
        }
        if (n <= 0)
            return;
        record[n] = '\0';
        read_record(w, record);
    }
}

int oom_begin(struct ve_node *node, const char *instance, struct err *err)
{
    resource_on_kill(node->resources, on_victim, node);
    auto_fd int fd = open(LOG, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || lseek(fd, 0, SEEK_END) < 0)
        return err_sys(err, "cannot read " LOG);
    struct oom_watch *w = calloc(1, sizeof(*w));
    uv_poll_t *poll = calloc(1, sizeof(*poll));
    if (!w || !poll) {
        free(w);
        free(poll);
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    w->node = node;
    w->fd = steal_fd(&fd);
    w->poll = poll;
    str_print(w->instance, sizeof(w->instance), "%s", instance);
    poll->data = w;
    uv_poll_init(node->loop, poll, w->fd);
    uv_poll_start(poll, UV_READABLE, on_log);
    node->oom = w;
    return 0;
}

void oom_end(struct ve_node *node)
{
    if (!node->oom)
        return;
    ve_handle_close(&node->oom->poll);
    cleanup_fd(&node->oom->fd);
    free(node->oom);
    node->oom = NULL;
}
