/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keep/server.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* linux/pidfd.h of 6.15; older kernels answer ENOTTY or leave the bit of the mask out. */
struct pidfd_exit {
    uint64_t mask, cgroup;
    uint32_t ids[11];
    int32_t exit_code;
};
#define PIDFD_GET_EXIT _IOWR(0xFF, 11, struct pidfd_exit)
#define PIDFD_HAS_EXIT (1u << 3)

/* Index of the first entry whose id is not below. */
static size_t place_of(const struct server *s, int64_t id)
{
    size_t from = 0, to = s->n_entries;
    while (from < to) {
        size_t mid = from + (to - from) / 2;
        if (s->entries[mid]->id < id)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

struct entry *entry_find(struct server *s, int64_t id)
{
    size_t i = place_of(s, id);
    return i < s->n_entries && s->entries[i]->id == id ? s->entries[i] : NULL;
}

/* All VEs log into one directory: one descriptor serves them. */
static int dir_get(struct server *s, int *fd, struct log_dir **ret, struct err *err)
{
    struct stat st;
    if (fstat(*fd, &st) < 0 || !S_ISDIR(st.st_mode))
        return err_set(err, ERR_USAGE, "what was given as a log directory is none");
    struct log_dir *d = s->dirs;
    while (d && (d->dev != st.st_dev || d->ino != st.st_ino))
        d = d->next;
    if (!d) {
        d = calloc(1, sizeof(*d));
        if (!d)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        *d = (struct log_dir){
            .dev = st.st_dev, .ino = st.st_ino, .fd = steal_fd(fd), .next = s->dirs};
        s->dirs = d;
    }
    d->refs++;
    *ret = d;
    return 0;
}

static void dir_put(struct server *s, struct log_dir *d)
{
    if (!d || --d->refs)
        return;
    struct log_dir **p = &s->dirs;
    while (*p != d)
        p = &(*p)->next;
    *p = d->next;
    close(d->fd);
    free(d);
}

static int check(int pidfd, int console, struct err *err)
{
    /* Signal 0; a process of a VE's own user may not be ours to signal, which is no matter. */
    if (syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) < 0 && errno != ESRCH && errno != EPERM)
        return err_set(err, ERR_USAGE, "what was given as a process is no pidfd");
    unsigned number;
    if (console >= 0 && ioctl(console, TIOCGPTN, &number) < 0)
        return err_set(err, ERR_USAGE, "what was given as a console is no pty master");
    return console >= 0 ? fd_set_nonblock(console, err) : 0;
}

static int insert(struct server *s, struct entry *e, struct err *err)
{
    if (s->n_entries == s->cap_entries) {
        size_t cap = s->cap_entries ? 2 * s->cap_entries : 64;
        struct entry **more = reallocarray(s->entries, cap, sizeof(*more));
        if (!more)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        s->entries = more;
        s->cap_entries = cap;
    }
    size_t at = place_of(s, e->id);
    memmove(s->entries + at + 1, s->entries + at, (s->n_entries - at) * sizeof(*s->entries));
    s->entries[at] = e;
    s->n_entries++;
    return 0;
}

int entry_put(struct server *s, int64_t id, int pidfd, int console, int log_dir, struct err *err)
{
    auto_fd int process_fd = pidfd, console_fd = console, dir_fd = log_dir;
    int r = check(pidfd, console, err);
    if (r < 0)
        return r;
    struct log_dir *dir = NULL;
    if (log_dir >= 0) {
        r = dir_get(s, &dir_fd, &dir, err);
        if (r < 0)
            return r;
    }
    struct entry *old = entry_find(s, id);
    if (old)
        entry_drop(s, old);
    struct entry *e = calloc(1, sizeof(*e));
    r = e ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory");
    if (r == 0) {
        e->id = id;
        r = insert(s, e, err);
    }
    if (r < 0) {
        free(e);
        dir_put(s, dir);
        return r;
    }
    e->dir = dir;
    e->process =
        (struct source){.kind = SOURCE_PROCESS, .fd = steal_fd(&process_fd), .owner = &e->thing};
    e->console =
        (struct source){.kind = SOURCE_CONSOLE, .fd = steal_fd(&console_fd), .owner = &e->thing};
    console_log_open(&e->log, dir ? dir->fd : -1, id);
    if (server_watch(s, &e->process, EPOLLIN) < 0) {
        r = err_sys(err, "cannot watch a process");
        entry_drop(s, e);
        return r;
    }
    entry_watch_console(s, e);
    return 0;
}

void entry_watch_console(struct server *s, struct entry *e)
{
    if (e->console.fd < 0 || e->ended)
        return;
    uint32_t out = 0;
    for (struct viewer *v = e->viewers; v; v = v->next)
        if (v->paused)
            out = EPOLLOUT;
    /* Edge-triggered: a master whose other side nobody has open reports EPOLLHUP for as long as
     * that lasts, which is the whole time between two gettys, and we must not spin.  A new writer
     * makes a new edge.  Setting it again, as here, reports at once what is there already. */
    server_watch(s, &e->console, EPOLLIN | EPOLLET | out);
}

/* Reads up to a chunk; true: there may be more. */
static bool drain(struct server *s, struct entry *e)
{
    static uint8_t buf[CONSOLE_CHUNK]; /* too large for the stack; one thread */
    size_t len = 0;
    bool more = true;
    while (len < sizeof(buf)) {
        ssize_t n = read(e->console.fd, buf + len, sizeof(buf) - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) { /* EAGAIN: all read; EIO: nobody has the other side open */
            more = false;
            break;
        }
        len += (size_t)n;
    }
    if (!len)
        return false;
    console_log_write(&e->log, buf, len);
    for (struct viewer *v = e->viewers, *next; v; v = next) {
        next = v->next;
        viewer_output(s, v, buf, len);
    }
    return more;
}

void entry_console_event(struct server *s, struct entry *e, uint32_t events)
{
    bool again = drain(s, e);
    if (events & EPOLLOUT) {
        for (struct viewer *v = e->viewers, *next; v; v = next) {
            next = v->next;
            viewer_resume(s, v);
        }
        again = true; /* to be told of room no longer, unless somebody waits again */
    }
    if (again)
        entry_watch_console(s, e);
}

static void end(struct server *s, struct entry *e)
{
    if (e->ended)
        return;
    /* What it still said.  A pty buffers far less than this; somebody outside who goes on
     * writing must not hold us. */
    for (int i = 0; i < 16 && e->console.fd >= 0; i++)
        if (!drain(s, e))
            break;
    e->ended = true;
    server_unwatch(s, &e->console);
    server_unwatch(s, &e->process);
    uint8_t how[2] = {0, 0};
    struct pidfd_exit x = {.mask = PIDFD_HAS_EXIT};
    if (ioctl(e->process.fd, PIDFD_GET_EXIT, &x) == 0 && (x.mask & PIDFD_HAS_EXIT)) {
        how[0] = WIFSIGNALED(x.exit_code);
        how[1] = (uint8_t)(how[0] ? WTERMSIG(x.exit_code) : WEXITSTATUS(x.exit_code));
    }
    while (e->viewers)
        viewer_finish(s, e->viewers, FRAME_EXIT, how, sizeof(how));
}

void entry_process_event(struct server *s, struct entry *e)
{
    end(s, e);
}

void entry_drop(struct server *s, struct entry *e)
{
    end(s, e);
    size_t at = place_of(s, e->id);
    memmove(s->entries + at, s->entries + at + 1, (s->n_entries - at - 1) * sizeof(*s->entries));
    s->n_entries--;
    filter_close_all(s, e);
    console_log_close(&e->log);
    dir_put(s, e->dir);
    cleanup_fd(&e->process.fd);
    cleanup_fd(&e->console.fd);
    server_bury(s, &e->thing);
}
