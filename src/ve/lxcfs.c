/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lxcfs: what a VE sees in /proc/meminfo, cpuinfo, stat, uptime, loadavg is its own.
 *
 * One lxcfs serves all VEs of this instance.  It outlives teremd (its files must not vanish from
 * running VEs), and when it dies it is started again and its files are put back into every
 * running VE; elsewhere they stay "Transport endpoint is not connected".
 */
#include "base/fd.h"
#include "base/number.h"
#include "base/path.h"
#include "ve/beside.h"
#include "ve/internal.h"
#include "ve/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#define FUSE_MAGIC      0x65735546
#define WAIT_MS         5000
#define LOOK_MS         5
#define RESTART_MAX_MS  60000
#define RESTART_LIVED_S 30

struct lxcfs {
    char dir[PLACE_MAX + 16], pidfile[PLACE_MAX + 24];
    char served[PLACE_MAX + 24]; /* names the one whose files all VEs have, if any */
    int dir_fd;                  /* of its mount, or -1 */
    pid_t pid;                   /* our child, or 0 when it was there before us */
    pid_t served_by;             /* or 0 */
    int pidfd;
    uv_poll_t *poll;
    uv_timer_t *timer, *look; /* until it is started again; while it has not mounted its files */
    int64_t began, due;
    unsigned restarts;
};

static bool mounted(const char *dir)
{
    struct statfs s;
    return statfs(dir, &s) == 0 && s.f_type == FUSE_MAGIC;
}

int lxcfs_dir(struct ve_node *node)
{
    return node->lxcfs ? node->lxcfs->dir_fd : -1;
}

pid_t lxcfs_pid(struct ve_node *node)
{
    return lxcfs_state(node) ? node->lxcfs->served_by : 0;
}

const char *lxcfs_state(struct ve_node *node)
{
    return node->lxcfs && node->lxcfs->dir_fd >= 0 ? "running" : NULL;
}

const char *lxcfs_missing(struct ve_node *node, char *buf, size_t size)
{
    const struct lxcfs *l = node->lxcfs;
    char left[NUMBER_TEXT];
    int64_t ms = l ? l->due - ve_now_ms() : 0;
    if (!l)
        return "not running";
    if (!l->timer)
        return "it was started, and has not mounted its files yet";
    str_print(buf, size, "it has died, and is started again in %s",
              number_format_time(ms > 0 ? (uint64_t)ms / 1000 * 1000 : 0, left));
    return buf;
}

static void died(struct ve_node *node);

static void on_pidfd(uv_poll_t *poll, int status, int events)
{
    died(poll->data);
}

static int watch(struct ve_node *node, pid_t pid, struct err *err)
{
    struct lxcfs *l = node->lxcfs;
    auto_fd int fd = -1;
    if (fd_pidfd_open(pid, &fd, err) < 0)
        return -err->kind;
    l->pidfd = fcntl(fd, F_DUPFD_CLOEXEC, node->fd_floor);
    l->poll = calloc(1, sizeof(*l->poll));
    if (l->pidfd < 0 || !l->poll)
        return err_sys(err, "cannot watch lxcfs");
    l->served_by = pid;
    uv_poll_init(node->loop, l->poll, l->pidfd);
    l->poll->data = node;
    uv_poll_start(l->poll, UV_READABLE, on_pidfd);
    l->dir_fd = open(l->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (l->dir_fd < 0)
        return err_sys(err, "cannot open %s", l->dir);
    container_look_up_lxcfs(l->dir_fd);
    return 0;
}

/* That stands in a file; 0: none. */
static pid_t read_pid(const char *file)
{
    auto_free char *text = NULL;
    uint64_t pid;
    return fd_read_file_at(AT_FDCWD, file, 32, &text, NULL, NULL) < 0 ||
                   number_parse(str_trim(text), 2, 4194304, &pid, NULL) < 0
               ? 0
               : (pid_t)pid;
}

/* That an earlier teremd started and that runs; 0: none. */
static pid_t earlier(const struct lxcfs *l)
{
    auto_free char *cmd = NULL;
    char path[64];
    size_t len = 0;
    struct err e;
    pid_t pid = read_pid(l->pidfile);
    if (!pid)
        return 0;
    str_print(path, sizeof(path), "/proc/%d/cmdline", pid);
    if (fd_read_file_at(AT_FDCWD, path, 4096, &cmd, &len, &e) < 0 ||
        !memmem(cmd, len, l->dir, strlen(l->dir) + 1))
        return 0;
    return pid;
}

/* A process of its own asks: a file system that hangs must not hang teremd.  One that waits for an
 * answer yet ends when lxcfs does. */
static bool answers(struct ve_node *node)
{
    auto_fd int fd = -1;
    int status = 1;
    pid_t pid = ve_fork(node, NULL, 0, true);
    if (pid == 0)
        _exit(!mounted(node->lxcfs->dir));
    return pid > 0 && fd_pidfd_open(pid, &fd, NULL) == 0 &&
           fd_pidfd_wait_exit(fd, WAIT_MS, NULL) == 0 && waitpid(pid, &status, 0) == pid &&
           status == 0;
}

/* One that still serves this mount goes on; one that does not is ended. */
static bool adopt(struct ve_node *node)
{
    struct lxcfs *l = node->lxcfs;
    struct err e;
    pid_t pid = earlier(l);
    if (!pid)
        return false;
    if (answers(node))
        return watch(node, pid, &e) == 0;
    auto_fd int fd = -1;
    log_warn(NULL, 0, "lxcfs does not answer; it is ended, and started again");
    if (fd_pidfd_open(pid, &fd, NULL) == 0 && fd_pidfd_kill(fd, SIGKILL, NULL) == 0)
        fd_pidfd_wait_exit(fd, WAIT_MS, NULL);
    return false;
}

static int launch(struct ve_node *node, struct err *err)
{
    /* A file's size is another one in each VE, but the kernel keeps one for all: sys/…/cpu/online
     * read "0-" for "0-1" (seen with 5.0.3, for a second; sendfile(2) still does on 6.18). */
    static const char sizes[] = "direct_io,attr_timeout=0";
    struct lxcfs *l = node->lxcfs;
    pid_t pid = ve_fork(node, NULL, 0, false);
    if (pid < 0)
        return err_sys(err, "cannot fork");
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        setsid();
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2); /* it tells its whole configuration at every start */
        execl(node->config.lxcfs, node->config.lxcfs, "-f", "-o", sizes, "-p", l->pidfile, l->dir,
              (char *)NULL);
        _exit(127);
    }
    l->pid = pid;
    l->began = ve_now_ms();
    return 0;
}

static int no_files(struct ve_node *node, struct err *err)
{
    return err_set(err, ERR_TIMEOUT, "%s did not mount its files", node->config.lxcfs);
}

/* The first one is waited for: recovery and the first starts need it. */
static int spawn(struct ve_node *node, struct err *err)
{
    struct lxcfs *l = node->lxcfs;
    if (launch(node, err) < 0)
        return -err->kind;
    for (int waited = 0; waited < WAIT_MS && !mounted(l->dir); waited += LOOK_MS) {
        poll(NULL, 0, LOOK_MS);
        if (waitpid(l->pid, NULL, WNOHANG) == l->pid) {
            l->pid = 0;
            return err_set(err, ERR_UNAVAILABLE, "%s ended at once", node->config.lxcfs);
        }
    }
    return mounted(l->dir) ? watch(node, l->pid, err) : no_files(node, err);
}

/* A process of its own does it: a VE that hangs must not hang teremd.  only NULL: all.  It ends
 * with teremd, and the next one does it again (lxcfs_recovered). */
static void put_back(struct ve_node *node, const struct ve *only)
{
    char text[NUMBER_TEXT];
    unlink(node->lxcfs->served);
    if (ve_fork(node, &node->lxcfs->dir_fd, 1, true) != 0)
        return;
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        struct err e;
        json_int_t pid = json_integer_value(json_object_get(ve->run, "pid"));
        auto_fd int pidfd = -1;
        if (only ? ve != only : !ve_state_is_up(ve->state))
            continue;
        /* Our own copies of the descriptors were closed by the fork; the pids are still held. */
        if (fd_pidfd_open((pid_t)pid, &pidfd, &e) < 0 ||
            container_mount_lxcfs(pidfd, node->lxcfs->dir_fd, &e) < 0)
            log_warn(ve->rec.name, 0, "cannot put lxcfs's files back: %s", e.text);
    }
    str_print(text, sizeof(text), "%d\n", node->lxcfs->served_by);
    if (!only)
        fd_replace_file_at(AT_FDCWD, node->lxcfs->served, text, strlen(text), 0644, NULL);
    _exit(0);
}

static void not_again(struct ve_node *node, const struct err *e)
{
    log_error(NULL, 0, "lxcfs cannot be restarted: %s", e->text);
    died(node);
}

static void on_look(uv_timer_t *t)
{
    struct ve_node *node = t->data;
    struct lxcfs *l = node->lxcfs;
    struct err e;
    if (mounted(l->dir)) {
        ve_handle_close(&l->look);
        if (watch(node, l->pid, &e) < 0) {
            not_again(node, &e);
            return;
        }
        put_back(node, NULL);
        ve_event_emit(node, json_pack("{s:s}", "type", "lxcfs.restarted"));
    } else if (ve_now_ms() - l->began > WAIT_MS) {
        no_files(node, &e);
        not_again(node, &e);
    }
}

/* Others are served while it starts; that it ends is heard as of any child. */
static void begin_again(struct ve_node *node)
{
    struct lxcfs *l = node->lxcfs;
    struct err e;
    l->look = calloc(1, sizeof(*l->look));
    if (!l->look || launch(node, &e) < 0) {
        if (!l->look)
            err_set(&e, ERR_EXHAUSTED, "out of memory");
        free(steal_ptr(&l->look));
        not_again(node, &e);
        return;
    }
    uv_timer_init(node->loop, l->look);
    l->look->data = node;
    uv_timer_start(l->look, on_look, LOOK_MS, LOOK_MS);
}

static void on_timer(uv_timer_t *t)
{
    struct ve_node *node = t->data;
    ve_handle_close(&node->lxcfs->timer);
    begin_again(node);
}

static void unwatch(struct lxcfs *l)
{
    ve_handle_close(&l->poll);
    cleanup_fd(&l->pidfd);
    cleanup_fd(&l->dir_fd);
}

static void died(struct ve_node *node)
{
    struct lxcfs *l = node->lxcfs;
    char text[NUMBER_TEXT];
    unwatch(l);
    ve_handle_close(&l->look);
    if (l->pid) {
        kill(l->pid, SIGKILL); /* one that does not mount its files */
        waitpid(l->pid, NULL, WNOHANG);
    }
    l->pid = 0;
    umount2(l->dir, MNT_DETACH);
    if (ve_now_ms() - l->began > RESTART_LIVED_S * 1000)
        l->restarts = 0;
    uint64_t delay = l->restarts ? 100ull << (l->restarts > 10 ? 10 : l->restarts) : 0;
    if (delay > RESTART_MAX_MS)
        delay = RESTART_MAX_MS;
    l->restarts++;
    log_warn(NULL, 0, "lxcfs has died; it is started again%s%s", delay ? " in " : "",
             delay ? number_format_time(delay, text) : "");
    if (l->timer)
        return;
    l->timer = calloc(1, sizeof(*l->timer));
    if (!l->timer)
        return;
    uv_timer_init(node->loop, l->timer);
    l->timer->data = node;
    l->due = ve_now_ms() + (int64_t)delay;
    uv_timer_start(l->timer, on_timer, delay, 0);
}

bool lxcfs_child_ended(struct ve_node *node, pid_t pid)
{
    if (!node->lxcfs || node->lxcfs->pid != pid)
        return false;
    node->lxcfs->pid = 0;
    died(node);
    return true;
}

int lxcfs_begin(struct ve_node *node, struct err *err)
{
    if (!*node->config.lxcfs || access(node->config.lxcfs, X_OK) < 0)
        return err_set(err, ERR_UNSUPPORTED, "lxcfs is not installed");
    struct lxcfs *l = calloc(1, sizeof(*l));
    if (!l)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    l->dir_fd = l->pidfd = -1;
    str_print(l->dir, sizeof(l->dir), "%s/lxcfs", node->config.place.run);
    str_print(l->pidfile, sizeof(l->pidfile), "%s/lxcfs.pid", node->config.place.run);
    str_print(l->served, sizeof(l->served), "%s/lxcfs.served", node->config.place.run);
    node->lxcfs = l;
    if (adopt(node))
        return 0;
    umount2(l->dir, MNT_DETACH); /* what a dead one left */
    if (path_make_dirs(l->dir, 0755, err) == 0 && spawn(node, err) == 0)
        return 0;
    struct err first = *err;
    lxcfs_end(node, true);
    *err = first;
    return -err->kind;
}

void lxcfs_recovered(struct ve_node *node)
{
    if (node->lxcfs && read_pid(node->lxcfs->served) != node->lxcfs->served_by)
        put_back(node, NULL);
}

void lxcfs_started(const struct ve *ve, pid_t served_by)
{
    pid_t now = lxcfs_pid(ve->node);
    if (now && now != served_by)
        put_back(ve->node, ve);
}

void lxcfs_end(struct ve_node *node, bool stop)
{
    struct lxcfs *l = node->lxcfs;
    if (!l)
        return;
    node->lxcfs = NULL;
    ve_handle_close(&l->timer);
    ve_handle_close(&l->look);
    if (stop) {
        if (l->pidfd >= 0) {
            fd_pidfd_kill(l->pidfd, SIGTERM, NULL);
            if (fd_pidfd_wait_exit(l->pidfd, 2000, NULL) < 0)
                fd_pidfd_kill(l->pidfd, SIGKILL, NULL);
            if (l->pid)
                waitpid(l->pid, NULL, 0);
        } else if (l->pid) {
            kill(l->pid, SIGKILL);
            waitpid(l->pid, NULL, 0);
        }
        umount2(l->dir, MNT_DETACH);
        rmdir(l->dir);
        unlink(l->pidfile);
        unlink(l->served);
    }
    unwatch(l);
    free(l);
}
