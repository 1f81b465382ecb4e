/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file that a VE finds as /proc/fs/user_beancounters: its own counters.
 *
 * One tmpfs of the instance, RUN/counters, has a directory for each VE that runs; it is bound into
 * the VE, read-only, over /proc/fs (procfs takes no new files, and that directory only tells about
 * the machine's file systems).  The files belong to the host's root, so that nobody inside can
 * write to them whatever they do to the mount.
 *
 * Nothing is counted while nobody looks: an open(2) of the file waits (fanotify(7),
 * FAN_OPEN_PERM) until we have written the counters into it, by a descriptor that we hold, since
 * opening it ourselves would wait for us.  While we are not there it opens with what was written
 * last.  The text always has the same length, so that who reads meanwhile finds whole lines.
 */
#include "base/fd.h"
#include "base/path.h"
#include "ve/beancounter.h"
#include "ve/beside.h"
#include "ve/budget.h"
#include "ve/internal.h"
#include "ve/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <sys/fanotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#define NAME     "user_beancounters"
#define CACHE_MS 100
#define EVENTS   16 /* in one turn of the loop */

struct inside {
    char path[PLACE_MAX + 16];
    int dir, group;
    uv_poll_t *poll;
    uv_timer_t *timer;
    struct budget budget;
};

static char *id_text(int64_t id, char buf[24])
{
    str_print(buf, 24, "%" PRId64, id);
    return buf;
}

int inside_dir(const struct ve_node *node)
{
    return node->inside ? node->inside->dir : -1;
}

/* ---- the files ---- */

int inside_make(struct ve *ve, int *ret_dir, struct err *err)
{
    char id[24], text[BEANCOUNTER_TEXT];
    auto_fd int dir = -1;
    if (!ve->node->inside) {
        *ret_dir = -1;
        return 0;
    }
    inside_remove(ve);
    struct param_counters none = {0};
    size_t len = beancounter_print(text, ve->rec.id, ve->params, &none);
    if (path_make_dir_at(ve->node->inside->dir, id_text(ve->rec.id, id), 0755, &dir, err) < 0)
        return err_wrap(err, "cannot make the directory of its counters");
    if (fchmod(dir, 0755) < 0)
        return err_sys(err, "cannot open the directory of its counters to it");
    auto_fd int file = openat(dir, NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (file < 0 || fchmod(file, 0444) < 0)
        return err_sys(err, "cannot make the file of its counters");
    int r = fd_write_all(file, text, len, err);
    if (r == 0)
        *ret_dir = steal_fd(&dir);
    return r;
}

void inside_remove(struct ve *ve)
{
    char id[24];
    if (ve->node->inside)
        path_remove_tree_at(ve->node->inside->dir, id_text(ve->rec.id, id), NULL);
}

void inside_watch(struct ve *ve)
{
    struct inside *in = ve->node->inside;
    char path[64], id[24];
    struct stat st;
    if (!in)
        return;
    inside_unwatch(ve);
    str_print(path, sizeof(path), "%s/" NAME, id_text(ve->rec.id, id));
    auto_fd int fd = openat(in->dir, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return; /* it was started by a teremd that made none */
    ve->counters.fd = fcntl(fd, F_DUPFD_CLOEXEC, ve->node->fd_floor);
    ve->counters.inode = st.st_ino;
    if (ve->counters.fd >= 0 &&
        fanotify_mark(in->group, FAN_MARK_ADD, FAN_OPEN_PERM, in->dir, path) < 0)
        log_warn(ve->rec.name, 0, "/proc/fs/" NAME " inside is not kept up to date: %s",
                 strerror(errno));
}

void inside_unwatch(struct ve *ve)
{
    if (ve->counters.inode)
        cleanup_fd(&ve->counters.fd);
    ve->counters = (struct ve_counters_file){.fd = -1};
}

static void refresh(struct ve *ve)
{
    char text[BEANCOUNTER_TEXT];
    struct param_counters list;
    int64_t now = ve_now_ms();
    if (now - ve->counters.written < CACHE_MS && now >= ve->counters.written)
        return;
    if (ve_counters_read(ve, &list, &(struct err){0}) < 0)
        return;
    size_t len = beancounter_print(text, ve->rec.id, ve->params, &list);
    if (pwrite(ve->counters.fd, text, len, 0) == (ssize_t)len)
        ve->counters.written = now;
}

/* ---- who opens them ---- */

static struct ve *ve_of_file(struct ve_node *node, int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return NULL;
    for (size_t i = 0; i < node->n_ves; i++)
        if (node->ves[i]->counters.inode == st.st_ino)
            return node->ves[i];
    return NULL;
}

static void on_open(uv_poll_t *poll, int status, int events);

static void on_tick(uv_timer_t *t)
{
    struct ve_node *node = t->data;
    uv_poll_start(node->inside->poll, UV_READABLE, on_open);
}

static void on_open(uv_poll_t *poll, int status, int events)
{
    struct ve_node *node = poll->data;
    struct inside *in = node->inside;
    struct fanotify_event_metadata ev[EVENTS];
    int64_t began;
    if (!budget_begin(&in->budget, &began)) {
        uv_poll_stop(in->poll);
        uv_timer_start(in->timer, on_tick, BUDGET_TICK_MS, 0);
        return;
    }
    ssize_t n = read(in->group, ev, sizeof(ev));
    const struct fanotify_event_metadata *e = ev;
    for (; n > 0 && FAN_EVENT_OK(e, n); e = FAN_EVENT_NEXT(e, n)) {
        if (e->vers != FANOTIFY_METADATA_VERSION || e->fd < 0)
            continue;
        struct ve *ve = ve_of_file(node, e->fd);
        if (ve)
            refresh(ve);
        struct fanotify_response allow = {.fd = e->fd, .response = FAN_ALLOW};
        /* Who opened it may be gone: there is nobody to tell then. */
        ssize_t told = write(in->group, &allow, sizeof(allow));
        (void)told;
        close(e->fd);
    }
    budget_end(&in->budget, began);
}

/* ---- beginning and end ---- */

static bool is_mounted(const struct inside *in)
{
    struct statfs fs;
    struct stat st;
    /* Where RUN lies on a tmpfs itself, the root of another has inode 1. */
    return statfs(in->path, &fs) == 0 && fs.f_type == TMPFS_MAGIC && stat(in->path, &st) == 0 &&
           st.st_ino == 1;
}

static int open_files(struct inside *in, const struct place *place, struct err *err)
{
    str_print(in->path, sizeof(in->path), "%s/counters", place->run);
    if (path_make_dirs(in->path, 0755, err) < 0)
        return -err->kind;
    if (!is_mounted(in) && mount("counters", in->path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                                 "mode=0755,size=64m") < 0)
        return err_sys(err, "cannot mount a tmpfs on %s", in->path);
    in->dir = open(in->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return in->dir < 0 ? err_sys(err, "cannot open %s", in->path) : 0;
}

/* Above fd_floor: a copy in a worker would keep the group alive after us, and whoever opens a
 * file then would wait for ever. */
static int open_group(struct ve_node *node, struct inside *in, struct err *err)
{
    auto_fd int fd =
        fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE,
                      O_RDONLY | O_CLOEXEC | O_LARGEFILE);
    if (fd < 0)
        return err_sys(err, "cannot be told who opens files (fanotify)");
    in->group = fcntl(fd, F_DUPFD_CLOEXEC, node->fd_floor);
    in->poll = calloc(1, sizeof(*in->poll));
    in->timer = calloc(1, sizeof(*in->timer));
    if (in->group < 0 || !in->poll || !in->timer) {
        free(in->poll);
        free(in->timer);
        in->poll = NULL;
        in->timer = NULL;
        return err_set(err, ERR_EXHAUSTED, "out of memory or descriptors");
    }
    uv_timer_init(node->loop, in->timer);
    in->timer->data = node;
    uv_poll_init(node->loop, in->poll, in->group);
    in->poll->data = node;
    uv_poll_start(in->poll, UV_READABLE, on_open);
    return 0;
}

int inside_begin(struct ve_node *node, struct err *err)
{
    struct inside *in = calloc(1, sizeof(*in));
    if (!in)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    in->dir = in->group = -1;
    node->inside = in;
    if (open_files(in, &node->config.place, err) == 0 && open_group(node, in, err) == 0)
        return 0;
    struct err first = *err;
    inside_end(node, true);
    *err = first;
    return -err->kind;
}

void inside_end(struct ve_node *node, bool stop)
{
    struct inside *in = node->inside;
    if (!in)
        return;
    for (size_t i = 0; i < node->n_ves; i++)
        inside_unwatch(node->ves[i]);
    node->inside = NULL;
    ve_handle_close(&in->poll);
    ve_handle_close(&in->timer);
    cleanup_fd(&in->group);
    cleanup_fd(&in->dir);
    if (stop) {
        umount2(in->path, MNT_DETACH);
        rmdir(in->path);
    }
    free(in);
}
