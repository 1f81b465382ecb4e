/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files in and out of a running VE.
 *
 * The work is done by a process that has entered the VE's user and mount namespaces and become
 * its root (container_enter_files): a path that the VE made can lead nowhere but into the VE.
 * It is not in the VE's pid namespace, so nobody inside can trace it.
 */
#include "base/fd.h"
#include "base/number.h"
#include "base/path.h"
#include "base/title.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/pools.h"
#include "ve/sleep.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#define KEEP_FREE    (64 * 1024 * 1024) /* bytes that a pull leaves free on the host */
#define SIZELESS_MAX (16 * 1024 * 1024)

struct transfer { /* what teremd waits for */
    struct transfer *next;
    int pidfd; /* of the worker */
    bool push;
    struct ve_node *node;
    int64_t ve;   /* id */
    bool stopped; /* and held meanwhile */
    char name[64];
    int sock;
    uv_poll_t poll;
    ve_result_fn fn;
    void *ctx;
};

struct answer {
    struct err error;
    int32_t archive, mode;
};

struct wish { /* what is to be done */
    const char *path;
    const char *name; /* of a pushed file when path is a directory; or NULL */
    unsigned mode;
    bool has_mode, archive;
    uint64_t uid, gid;
};

static int parse(const json_t *options, struct wish *w, struct err *err)
{
    const json_t *uid = json_object_get(options, "uid"), *gid = json_object_get(options, "gid");
    const char *mode = json_string_value(json_object_get(options, "mode"));
    *w = (struct wish){.path = json_string_value(json_object_get(options, "path")), .mode = 0644};
    if (!w->path || w->path[0] != '/')
        return err_set(err, ERR_USAGE, "path must be absolute, as seen inside the VE");
    if (strlen(w->path) >= 4096)
        return err_set(err, ERR_USAGE, "path is longer than 4095 bytes");
    w->name = json_string_value(json_object_get(options, "name"));
    if (w->name && (!*w->name || strlen(w->name) > NAME_MAX || strchr(w->name, '/') ||
                    str_eq(w->name, ".") || str_eq(w->name, "..")))
        return err_set(err, ERR_USAGE, "name must be the name of a file without its directories");
    if (mode && number_parse_mode(mode, &w->mode, err) < 0)
        return -err->kind;
    w->has_mode = mode != NULL;
    if ((uid && !json_is_integer(uid)) || (gid && !json_is_integer(gid)) ||
        json_integer_value(uid) < 0 || json_integer_value(gid) < 0 ||
        json_integer_value(uid) >= CONTAINER_ID_COUNT ||
        json_integer_value(gid) >= CONTAINER_ID_COUNT)
        return err_set(err, ERR_USAGE, "uid and gid must be numbers from 0 to 65535");
    w->uid = (uint64_t)json_integer_value(uid);
    w->gid = (uint64_t)json_integer_value(gid);
    w->archive = json_is_true(json_object_get(options, "archive"));
    return 0;
}

/* ---- inside ---- */

/* Copies at most `max` bytes. */
static int copy(int from, int to, uint64_t max, struct err *err)
{
    char buf[65536];
    while (max) {
        ssize_t n = read(from, buf, max < sizeof(buf) ? (size_t)max : sizeof(buf));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "cannot read");
        if (n == 0)
            return 0;
        if (fd_write_all(to, buf, (size_t)n, err) < 0)
            return -err->kind;
        max -= (uint64_t)n;
    }
    return 0;
}

/* What goes out of a VE lies on the host's disk until the client has taken it. */
static int check_room(int data, uint64_t need, struct err *err)
{
    struct statvfs v;
    if (fstatvfs(data, &v) < 0)
        return err_sys(err, "cannot look at the host's free space");
    uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
    if (room < KEEP_FREE || room - KEEP_FREE < need)
        return err_set(err, ERR_EXHAUSTED,
                       "the host has not enough free space to hand it out; "
                       "free some, or read it in parts with exec");
    return 0;
}

/* A file of at most the size that it has now, its holes as holes. */
static int copy_sparse(int from, int to, uint64_t size, struct err *err)
{
    off_t end = (off_t)size, at = 0;
    if (ftruncate(to, end) < 0)
        return err_sys(err, "cannot make room");
    while (at < end) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) /* only a hole is left */
            return 0;
        off_t hole = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);
        if (data < 0 || hole < 0) { /* a file system without either: it is all data */
            data = at;
            hole = end;
        }
        if (data >= end)
            return 0;
        if (hole > end)
            hole = end;
        if (lseek(from, data, SEEK_SET) < 0 || lseek(to, data, SEEK_SET) < 0)
            return err_sys(err, "cannot read");
        int r = copy(from, to, (uint64_t)(hole - data), err);
        if (r < 0)
            return r;
        at = hole;
    }
    return 0;
}

static int push_file(const struct wish *w, int data, struct err *err)
{
    const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOCTTY | O_NONBLOCK;
    auto_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    auto_fd int fd = -1;
    struct stat st;
    int r = path_open_in_root(root, w->path, flags, w->mode, &fd, err);
    if (r < 0 && err->sys == EISDIR && w->name) { /* into it, as cp(1) does */
        auto_free char *inside = str_format("%s/%s", w->path, w->name);
        r = inside ? path_open_in_root(root, inside, flags, w->mode, &fd, err)
                   : err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    if (r < 0)
        return r;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(err, ERR_USAGE, "%s is not a regular file", w->path);
    if (copy(data, fd, UINT64_MAX, err) < 0)
        return err_wrap(err, "%s", w->path);
    if (fchown(fd, (uid_t)w->uid, (gid_t)w->gid) < 0 || (w->has_mode && fchmod(fd, w->mode) < 0))
        return err_sys(err, "cannot set owner and mode of %s", w->path);
    /* What was pushed is there after a power cut; a device or a file of proc has no disk. */
    if (fsync(fd) < 0 && errno != EINVAL)
        return err_sys(err, "cannot write %s to the disk", w->path);
    return 0;
}

static int archive_error(struct archive *a, struct err *err, const char *what)
{
    const char *text = archive_error_string(a);
    return err_set(err, ERR_CORRUPT, "%s: %s", what, text ? text : "unknown error");
}

static int push_archive(const struct wish *w, int data, struct err *err)
{
    struct archive *in = archive_read_new(), *out = archive_write_disk_new();
    struct archive_entry *e;
    int r = 0;
    /* chroot has happened by entering: "below path" is the working directory.  Like cp -r, it is
     * made when only it is missing. */
    if ((mkdir(w->path, 0755) < 0 && errno != EEXIST) || chdir(w->path) < 0) {
        archive_read_free(in);
        archive_write_free(out);
        return err_sys(err, "cannot enter %s", w->path);
    }
    archive_read_support_format_tar(in);
    archive_write_disk_set_options(
        out, ARCHIVE_EXTRACT_OWNER | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME |
                 ARCHIVE_EXTRACT_XATTR | ARCHIVE_EXTRACT_ACL | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
                 ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS);
    if (archive_read_open_fd(in, data, 65536) != ARCHIVE_OK)
        r = archive_error(in, err, "not a tar archive");
    while (r == 0) {
        int k = archive_read_next_header(in, &e);
        if (k == ARCHIVE_EOF)
            break;
        if (k < ARCHIVE_WARN) {
            r = archive_error(in, err, "damaged archive");
        } else if (archive_write_header(out, e) < ARCHIVE_WARN) {
            r = archive_error(out, err, archive_entry_pathname(e));
        } else {
            const void *block;
            size_t size;
            la_int64_t at;
            while ((k = archive_read_data_block(in, &block, &size, &at)) == ARCHIVE_OK)
                if (archive_write_data_block(out, block, size, at) < ARCHIVE_WARN)
                    break;
            if (k != ARCHIVE_EOF)
                r = archive_error(k == ARCHIVE_OK ? out : in, err, "cannot unpack");
        }
    }
    if (r == 0 && archive_write_close(out) != ARCHIVE_OK)
        r = archive_error(out, err, "cannot unpack");
    archive_read_free(in);
    archive_write_free(out);
    auto_fd int at = r < 0 ? -1 : open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r == 0 && (at < 0 || syncfs(at) < 0)) /* as push_file(); an fsync(2) of each is slower */
        r = err_sys(err, "cannot write what was unpacked to the disk");
    return r;
}

static int pull_archive(const char *path, int data, struct err *err)
{
    struct archive *disk = archive_read_disk_new(), *out = archive_write_new();
    struct archive_entry *e = NULL;
    char buf[65536];
    int r = 0, k;
    if (chdir(path) < 0) {
        archive_read_free(disk);
        archive_write_free(out);
        return err_sys(err, "cannot enter %s", path);
    }
    archive_read_disk_set_symlink_physical(disk);
    archive_read_disk_set_behavior(disk, ARCHIVE_READDISK_NO_TRAVERSE_MOUNTS);
    archive_write_set_format_pax_restricted(out);
    if (archive_write_open_fd(out, data) != ARCHIVE_OK || archive_read_disk_open(disk, ".") != 0)
        r = archive_error(disk, err, path);
    while (r == 0) {
        archive_entry_free(e);
        e = archive_entry_new();
        k = archive_read_next_header2(disk, e);
        if (k == ARCHIVE_EOF)
            break;
        if (k == ARCHIVE_FAILED) /* it went while we looked, or cannot be read: as tar does */
            continue;
        if (k < ARCHIVE_WARN) {
            r = archive_error(disk, err, path);
            break;
        }
        if ((r = check_room(data, (uint64_t)archive_entry_size(e), err)) < 0)
            break;
        archive_read_disk_descend(disk);
        if (archive_write_header(out, e) < ARCHIVE_WARN)
            continue; /* a socket: nothing that a tar can carry */
        if (archive_entry_filetype(e) != AE_IFREG || archive_entry_size(e) == 0)
            continue;
        auto_fd int fd =
            open(archive_entry_sourcepath(e), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        ssize_t n;
        la_int64_t left = archive_entry_size(e); /* as its header says, though it may grow */
        while (fd >= 0 && left > 0 && (n = read(fd, buf, sizeof(buf))) > 0 && (left -= n, true))
            if (archive_write_data(out, buf, (size_t)n) < 0) {
                r = archive_error(out, err, "cannot write the archive");
                break;
            }
    }
    archive_entry_free(e);
    if (r == 0 && archive_write_close(out) != ARCHIVE_OK)
        r = archive_error(out, err, "cannot write the archive");
    archive_write_free(out);
    archive_read_free(disk);
    return r;
}

static int pull(const struct wish *w, int data, struct answer *a, struct err *err)
{
    auto_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    auto_fd int fd = -1;
    struct stat st;
    if (path_open_in_root(root, w->path, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0, &fd, err) < 0)
        return -err->kind;
    if (fstat(fd, &st) < 0)
        return err_sys(err, "cannot look at %s", w->path);
    a->mode = (int32_t)(st.st_mode & 07777);
    a->archive = S_ISDIR(st.st_mode) || w->archive;
    if (S_ISDIR(st.st_mode))
        return pull_archive(w->path, data, err);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_USAGE, "%s is neither a file nor a directory", w->path);
    /* Files of proc and the like have no size and may have no end. */
    if (st.st_size == 0)
        return copy(fd, data, SIZELESS_MAX, err);
    if (check_room(data, (uint64_t)st.st_blocks * 512, err) < 0)
        return -err->kind;
    return copy_sparse(fd, data, (uint64_t)st.st_size, err);
}

struct task { /* in the worker */
    const struct wish *wish;
    bool push;
    int data, sock;
};

/* The process that enters is one of its own: from then on it is the VE's root for good. */
static int enter_and_work(void *ctx, int pidfd, struct err *err)
{
    struct task *t = ctx;
    struct answer a = {0};
    int r = container_enter_files(pidfd, &a.error);
    if (r == 0)
        r = !t->push           ? pull(t->wish, t->data, &a, &a.error)
            : t->wish->archive ? push_archive(t->wish, t->data, &a.error)
                               : push_file(t->wish, t->data, &a.error);
    if (r == 0)
        a.error = (struct err){0};
    fd_send(t->sock, &a, sizeof(a), NULL, 0, NULL);
    _exit(0);
}

static int fork_and_wait(void *ctx, int pidfd, struct err *err)
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return err_sys(err, "cannot fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            enter_and_work(ctx, pidfd, err);
        _exit(1);
    }
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return 0;
}

static void work(struct ve *ve, struct task *t) __attribute__((noreturn));
static void work(struct ve *ve, struct task *t)
{
    struct answer a = {0};
    title_set("terem-files", ve->rec.name);
    if (ve->state == VE_STOPPED) {
        if (engine_container.with_files(ve, fork_and_wait, t, &a.error) < 0)
            fd_send(t->sock, &a, sizeof(a), NULL, 0, NULL);
        _exit(0);
    }
    enter_and_work(t, ve->pidfd, &a.error);
    _exit(1);
}

/* ---- teremd's side ---- */

static void transfer_freed(uv_handle_t *h)
{
    struct transfer *t = h->data;
    close(t->sock);
    cleanup_fd(&t->pidfd);
    free(t);
}

static void on_answer(uv_poll_t *poll, int status, int events)
{
    struct transfer *t = poll->data;
    struct answer a;
    size_t none = 0;
    struct err e = {0};
    char mode[16];
    uv_poll_stop(poll);
    for (struct transfer **p = &t->node->transfers; *p; p = &(*p)->next) {
        if (*p == t) {
            *p = t->next;
            break;
        }
    }
    struct ve *ve = ve_by_id(t->node, t->ve);
    if (ve && t->stopped)
        ve->transfers--;
    if (fd_recv(t->sock, &a, sizeof(a), NULL, &none, &e) != (ssize_t)sizeof(a)) {
        err_set(&e, ERR_INTERNAL, "the transfer ended without a word");
    } else {
        e = a.error;
        e.text[sizeof(e.text) - 1] = '\0';
    }
    if (e.kind != ERR_NONE)
        err_wrap(&e, "%s", t->name);
    if (ve && t->push && e.kind == ERR_NONE)
        ve_tree_filled(ve);
    json_t *result = NULL;
    if (e.kind == ERR_NONE) {
        str_print(mode, sizeof(mode), "%04o", (unsigned)a.mode);
        result = json_pack("{s:b, s:s}", "archive", a.archive, "mode", mode);
    }
    t->fn(t->ctx, result, result ? NULL : &e);
    uv_close((uv_handle_t *)poll, transfer_freed);
}

bool ve_transfers(const struct ve *ve)
{
    for (const struct transfer *t = ve->node->transfers; t; t = t->next)
        if (t->ve == ve->rec.id)
            return true;
    return false;
}

static int transfer(struct ve_node *node, const char *name, bool push, const json_t *options,
                    int data_fd, ve_result_fn fn, void *ctx, struct err *err)
{
    struct ve *ve;
    struct wish w;
    int sv[2];
    if (ve_find_err(node, name, &ve, err) < 0)
        return -err->kind;
    ve_wake(ve, "files");
    bool running = ve->state == VE_RUNNING && ve->pidfd >= 0 && !ve->gone;
    if (!running && (ve->state != VE_STOPPED || ve->job))
        return err_set(err, ERR_STATE,
                       "%s: it is %s; files go in and out while it runs or is "
                       "stopped",
                       name, ve_state_name(ve->state));
    if (parse(options, &w, err) < 0)
        return err_wrap(err, "%s", name);
    if (!running && ve_pool_need(ve, err) < 0)
        return -err->kind;
    struct transfer *t = calloc(1, sizeof(*t));
    if (!t || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0) {
        free(t);
        return err_sys(err, "%s: cannot begin a transfer", name);
    }
    int keep[] = {sv[1], ve->pidfd, data_fd};
    pid_t pid = ve_fork(node, keep, ARRAY_SIZE(keep), true);
    struct task task = {.wish = &w, .push = push, .data = data_fd, .sock = sv[1]};
    if (pid == 0)
        work(ve, &task);
    close(sv[1]);
    if (pid < 0) {
        close(sv[0]);
        free(t);
        return err_sys(err, "%s: cannot fork", name);
    }
    *t = (struct transfer){.node = node, .sock = sv[0], .fn = fn, .ctx = ctx};
    str_print(t->name, sizeof(t->name), "%s", name);
    t->pidfd = -1;
    fd_pidfd_open(pid, &t->pidfd, &(struct err){0});
    t->push = push;
    t->next = node->transfers;
    node->transfers = t;
    t->ve = ve->rec.id;
    t->stopped = !running;
    ve->transfers += t->stopped;
    uv_poll_init(node->loop, &t->poll, t->sock);
    t->poll.data = t;
    uv_poll_start(&t->poll, UV_READABLE, on_answer);
    return 0;
}

int ve_push(struct ve_node *node, const char *name, const json_t *options, int data_fd,
            ve_result_fn fn, void *ctx, struct err *err)
{
    return transfer(node, name, true, options, data_fd, fn, ctx, err);
}

int ve_pull(struct ve_node *node, const char *name, const json_t *options, int data_fd,
            ve_result_fn fn, void *ctx, struct err *err)
{
    return transfer(node, name, false, options, data_fd, fn, ctx, err);
}

/* The worker's death closes its end of the socket, and on_answer() does the rest. */
void ve_pull_cancel(struct ve_node *node, const void *ctx)
{
    for (struct transfer *t = node->transfers; t; t = t->next)
        if (t->ctx == ctx && !t->push)
            fd_pidfd_kill(t->pidfd, SIGKILL, &(struct err){0});
}
