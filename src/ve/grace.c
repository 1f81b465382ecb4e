/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The soft half of the rows disk.space and disk.inodes, kept by the node in every kind of pool.
 *
 * Once in config.disk_look the trees of VEs that have such a half are compared with it, and each
 * few seconds those that are above.  One above it gets an entry in the VE's record, run.disk_over =
 * {"disk.space": {"since": ms, "held": false}}, and its owner is told: an event, and a line at
 * login inside.  When disk.grace is over, the soft half becomes the limit: nothing can be added
 * until what is used is below it.  Then the entry goes, and all is as before.  The record is
 * committed first and the pool follows; the clock is the wall's, so that the time in which the node
 * was off counts, too.
 */
#include "base/fd.h"
#include "base/number.h"
#include "ve/disk.h"
#include "ve/jobs.h"
#include "ve/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>

#define LOGIN_DIR   "/run/motd.d" /* pam_motd(8) shows what is there */
#define LOGIN_NAME  "terem-disk"
#define LOGIN_ALARM 10 /* seconds for writing it inside */
#define LOOK_MS     60000
#define OVER_MS     5000 /* while one is above: what is deleted counts soon */

static json_t *entry_of(const struct ve *ve, size_t row)
{
    return json_object_get(json_object_get(ve->run, "disk_over"), disk_keys[row]);
}

int64_t grace_since(const struct ve *ve, size_t row)
{
    return json_integer_value(json_object_get(entry_of(ve, row), "since"));
}

bool grace_is_held(const struct ve *ve, size_t row)
{
    return json_is_true(json_object_get(entry_of(ve, row), "held"));
}

static bool is_over_any(const struct ve *ve)
{
    return entry_of(ve, DISK_SPACE) || entry_of(ve, DISK_INODES);
}

static bool has_soft(const struct ve *ve)
{
    return disk_is_soft(ve->params, DISK_SPACE) || disk_is_soft(ve->params, DISK_INODES);
}

/* ---- the line at login ---- */

static void format(size_t row, uint64_t n, char buf[NUMBER_TEXT])
{
    if (row == DISK_SPACE)
        number_format_size(n, buf);
    else
        str_print(buf, NUMBER_TEXT, "%" PRIu64, n);
}

static void add_line(struct str *s, const struct ve *ve, size_t row, uint64_t used)
{
    char soft[NUMBER_TEXT], have[NUMBER_TEXT], until[32];
    int64_t end = grace_since(ve, row) + (int64_t)param_set_get(ve->params, "disk.grace").n;
    struct tm tm;
    time_t t = (time_t)(end / 1000);
    gmtime_r(&t, &tm);
    strftime(until, sizeof(until), "%Y-%m-%d %H:%M UTC", &tm);
    format(row, disk_bounds_of(ve->params, row).soft, soft);
    format(row, used, have);
    const char *what = row == DISK_SPACE ? "of disk space" : "files and directories";
    if (grace_is_held(ve, row))
        str_add(s,
                "This server uses %s %s, more than its %s, and the time for that is over: "
                "nothing can be added until enough is deleted.\n",
                have, what, soft);
    else
        str_add(s,
                "This server uses %s %s, more than its %s: delete some until %s, or nothing can "
                "be added from then on.\n",
                have, what, soft, until);
}

static char *login_text(const struct ve *ve)
{
    struct storage_usage u;
    auto_str struct str s = str_init(1024);
    disk_usage(ve, &u);
    for (size_t i = 0; i < DISK_ROWS; i++)
        if (entry_of(ve, i) && disk_used(&u, i).known)
            add_line(&s, ve, i, disk_used(&u, i).n);
    return str_steal(&s);
}

/* Over what stands there, so that it needs no room where there is none any more. */
static bool write_line(int dir, const char *text)
{
    struct stat st;
    size_t len = strlen(text);
    auto_fd int fd = openat(dir, LOGIN_NAME, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        fd = openat(dir, LOGIN_NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
           fd_write_all(fd, text, len, NULL) == 0 && ftruncate(fd, (off_t)len) == 0;
}

/* In a process of its own, as the VE's root in the VE: what stands there is the VE's. */
static void write_inside(int pidfd, const char *text)
{
    if (container_enter_files(pidfd, NULL) < 0)
        _exit(1);
    mkdir(LOGIN_DIR, 0755);
    int dir = open(LOGIN_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (!text)
        unlinkat(dir, LOGIN_NAME, 0);
    _exit(!text || write_line(dir, text) ? 0 : 1);
}

/* NULL takes the line away. */
static void tell_login(struct ve *ve, const char *text)
{
    int keep[] = {ve->pidfd};
    if (ve->state != VE_RUNNING || ve->pidfd < 0)
        return;
    if (ve_fork(ve->node, keep, ARRAY_SIZE(keep), true) != 0)
        return;
    alarm(LOGIN_ALARM); /* a file system of the VE's own may not answer */
    write_inside(ve->pidfd, text);
}

/* ---- changes ---- */

/* What the row's entry must be now; returns the type of the event of a change, else NULL. */
static const char *step(struct ve *ve, json_t *over, size_t row, struct param_count used)
{
    struct disk_bounds b = disk_bounds_of(ve->params, row);
    json_t *entry = json_object_get(over, disk_keys[row]);
    int64_t grace = (int64_t)param_set_get(ve->params, "disk.grace").n;
    int64_t now = ve_now_ms(), since = json_integer_value(json_object_get(entry, "since"));
    bool held = json_is_true(json_object_get(entry, "held"));
    bool is_over = b.soft < b.hard && used.n > b.soft;
    if (b.soft < b.hard && !used.known)
        return NULL; /* its pool is away: as it was */
    if (!is_over) {
        if (entry)
            json_object_del(over, disk_keys[row]);
        return entry ? "ve.disk_ok" : NULL;
    }
    if (!entry) {
        entry = json_pack("{s:I, s:b}", "since", (json_int_t)now, "held", 0);
        json_object_set_new(over, disk_keys[row], entry);
        return "ve.disk_soft";
    }
    if (now < since) /* the clock was set back */
        json_object_set_new(entry, "since", json_integer(since = now));
    bool hold = now - since >= grace;
    json_object_set_new(entry, "held", json_boolean(hold));
    return hold == held ? NULL : hold ? "ve.disk_held" : "ve.disk_soft";
}

static void add_event(struct ve *ve, size_t row, const char *type, struct param_count used)
{
    int64_t since = grace_since(ve, row);
    int64_t grace = (int64_t)param_set_get(ve->params, "disk.grace").n;
    struct disk_bounds b = disk_bounds_of(ve->params, row);
    json_t *e =
        json_pack("{s:s, s:s, s:s, s:o}", "type", type, "ve", ve->rec.name, "key", disk_keys[row],
                  "used", used.known ? json_integer((json_int_t)used.n) : json_null());
    if (b.soft < b.hard)
        json_object_set_new(e, "soft", json_integer((json_int_t)b.soft));
    if (since)
        json_object_set_new(e, "until", json_integer(since + grace));
    json_array_append_new(ve->node->pending, e);
}

static int commit(struct ve *ve, struct err *err)
{
    int r = ve_begin(ve->node, err);
    if (r == 0)
        r = ve_record_save(ve, err);
    if (r == 0)
        r = ve_commit(ve->node, err);
    if (r < 0)
        ve_rollback(ve->node);
    return r;
}

static void on_timer(uv_timer_t *timer);

static void look_soon(struct ve_node *node)
{
    if (node->grace_timer && uv_timer_get_due_in(node->grace_timer) > OVER_MS)
        uv_timer_start(node->grace_timer, on_timer, OVER_MS, 0);
}

void grace_look(struct ve *ve)
{
    struct storage_usage u;
    struct err e = {0};
    json_t *before = json_object_get(ve->run, "disk_over");
    if ((!has_soft(ve) && !before) || ve->rec.want == VE_ABSENT || ve->node->in_transaction)
        return;
    disk_usage(ve, &u);
    json_t *over = before ? json_deep_copy(before) : json_object();
    const char *events[DISK_ROWS] = {NULL};
    for (size_t i = 0; i < DISK_ROWS; i++)
        events[i] = step(ve, over, i, disk_used(&u, i));
    bool was_over = is_over_any(ve);
    if (json_equal(before, over) || (!before && json_object_size(over) == 0)) {
        json_decref(over);
        return;
    }
    json_incref(before);
    if (json_object_size(over))
        json_object_set(ve->run, "disk_over", over);
    else
        json_object_del(ve->run, "disk_over");
    json_decref(over);
    for (size_t i = 0; i < DISK_ROWS; i++)
        if (events[i])
            add_event(ve, i, events[i], disk_used(&u, i));
    if (commit(ve, &e) < 0) {
        if (before)
            json_object_set(ve->run, "disk_over", before);
        else
            json_object_del(ve->run, "disk_over");
        log_warn(ve->rec.name, 0, "its soft disk limits cannot be recorded: %s", e.text);
    } else {
        if (ve_disk_limit(ve, &e) < 0)
            log_error(ve->rec.name, 0, "its disk limits could not be changed: %s", e.text);
        if (was_over && !is_over_any(ve))
            tell_login(ve, NULL);
        if (is_over_any(ve))
            look_soon(ve->node);
    }
    json_decref(before);
}

static uint64_t look_every(const struct ve_node *node)
{
    return node->config.disk_look_ms ? node->config.disk_look_ms : LOOK_MS;
}

/* Those that are above are looked at more often, and the others in their time. */
static void on_timer(uv_timer_t *timer)
{
    struct ve_node *node = timer->data;
    uint64_t next = look_every(node), now = uv_now(node->loop);
    bool all = now - node->grace_looked + OVER_MS / 2 >= next;
    if (all)
        node->grace_looked = now;
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        if (!all && !is_over_any(ve))
            continue;
        grace_look(ve);
        auto_free char *text = all && is_over_any(ve) ? login_text(ve) : NULL;
        if (text && *text) /* again: a service manager may have mounted a new /run */
            tell_login(ve, text);
        if (is_over_any(ve) && next > OVER_MS)
            next = OVER_MS;
    }
    uv_timer_start(timer, on_timer, next, 0);
    ve_grace_settle(node);
}

void ve_grace_settle(struct ve_node *node)
{
    bool any = false;
    for (size_t i = 0; i < node->n_ves && !any; i++)
        any = has_soft(node->ves[i]) || is_over_any(node->ves[i]);
    if (!any || node->closing) {
        ve_handle_close(&node->grace_timer);
        return;
    }
    if (node->grace_timer || !(node->grace_timer = calloc(1, sizeof(*node->grace_timer))))
        return;
    node->grace_timer->data = node;
    node->grace_looked = uv_now(node->loop);
    uv_timer_init(node->loop, node->grace_timer);
    uv_timer_start(node->grace_timer, on_timer, look_every(node), 0);
}

/* After recovery: what was committed is in the pools, too. */
void ve_grace_begin(struct ve_node *node)
{
    struct err e = {0};
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        if (disk_is_bounded(ve) && ve_disk_limit(ve, &e) < 0)
            log_error(ve->rec.name, 0, "its disk limits could not be put in order: %s", e.text);
    }
    ve_disk_settle(node);
}
