/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/cgroup.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <time.h>

#define DEPTH_MAX      128 /* of a tree that is removed; a descriptor each */
#define RETRY_FIRST_NS 50000
#define RETRY_MAX_NS   2000000
#define NOTIFY_LATE_NS 20000000

/* A file that is not there means a controller that is not there, unless the cgroup itself went. */
static int missing(int fd, const char *file, struct err *err)
{
    if (faccessat(fd, "cgroup.procs", F_OK, 0) < 0)
        return err_set(err, ERR_NOT_FOUND, "the cgroup is gone");
    size_t len = strcspn(file, ".");
    if (len == strlen("cgroup") && memcmp(file, "cgroup", len) == 0)
        return err_set(err, ERR_UNSUPPORTED, "this kernel has no %s", file);
    return err_set(err, ERR_UNSUPPORTED, "controller %.*s is not available (there is no %s)",
                   (int)len, file, file);
}

static int file_error(int fd, const char *file, const char *what, struct err *err)
{
    if (errno == ENOENT)
        return missing(fd, file, err);
    if (errno == ENODEV)
        return err_set(err, ERR_NOT_FOUND, "the cgroup is gone");
    return err_sys(err, "cannot %s %s", what, file);
}

int cgroup_open_path(const char *path, int *ret_fd, struct err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open cgroup %s", path);
    *ret_fd = fd;
    return 0;
}

int cgroup_open(int parent, const char *name, int *ret_fd, struct err *err)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open cgroup %s", name);
    *ret_fd = fd;
    return 0;
}

int cgroup_make(int parent, const char *name, int *ret_fd, struct err *err)
{
    if (mkdirat(parent, name, 0755) < 0) {
        if (errno == EAGAIN) /* cgroup.max.descendants or cgroup.max.depth of one above */
            return err_set(err, ERR_EXHAUSTED,
                           "cannot make cgroup %s: the number or depth of cgroups is limited; "
                           "raise cgroup.max.descendants or cgroup.max.depth of those above it",
                           name);
        return err_sys(err, "cannot make cgroup %s", name);
    }
    auto_fd int fd = -1;
    int r = cgroup_open(parent, name, &fd, err);
    /* Not left to the umask: before Linux 6.18 (6.1 and 6.12 were seen) who mounts cgroup2 in a
     * cgroup namespace must be allowed to search every directory from the root to his own. */
    if (r == 0 && fchmod(fd, 0755) < 0)
        r = err_sys(err, "cannot set the mode of cgroup %s", name);
    if (r < 0) {
        unlinkat(parent, name, AT_REMOVEDIR);
        return r;
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

int cgroup_write(int fd, const char *file, struct err *err, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(text))
        return err_set(err, ERR_INTERNAL, "value for %s is too long", file);
    auto_fd int f = openat(fd, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (f < 0)
        return file_error(fd, file, "open", err);
    ssize_t w;
    do
        w = write(f, text, (size_t)n);
    while (w < 0 && errno == EINTR);
    if (w < 0) {
        char what[300];
        str_print(what, sizeof(what), "write \"%.*s\" to", (int)strcspn(text, "\n"), text);
        return file_error(fd, file, what, err);
    }
    return 0;
}

int cgroup_read(int fd, const char *file, char *buf, size_t size, struct err *err)
{
    auto_fd int f = openat(fd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (f < 0)
        return file_error(fd, file, "open", err);
    size_t len = 0;
    for (;;) {
        ssize_t n = read(f, buf + len, size - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return file_error(fd, file, "read", err);
        size_t room = size - len;
        len += (size_t)n;
        /* What is there comes in one piece (seq_read_iter(), one record): less than asked for is
         * the end. */
        if ((size_t)n < room)
            break;
        if (len == size)
            return err_set(err, ERR_EXHAUSTED, "%s holds more than %zu bytes", file, size - 1);
    }
    buf[len] = '\0';
    if (len && buf[len - 1] == '\n')
        buf[len - 1] = '\0';
    return 0;
}

int cgroup_read_number(int fd, const char *file, uint64_t *ret, struct err *err)
{
    char text[64];
    struct err own = {0};
    if (!err)
        err = &own;
    int r = cgroup_read(fd, file, text, sizeof(text), err);
    if (r < 0)
        return r;
    if (strcmp(text, "max") == 0) {
        *ret = UINT64_MAX;
        return 0;
    }
    r = number_parse(text, 0, UINT64_MAX, ret, err);
    return r < 0 ? err_wrap(err, "%s", file) : 0;
}

int cgroup_key(const char *text, const char *key, uint64_t *ret, struct err *err)
{
    size_t len = strlen(key);
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, len) != 0 || line[len] != ' ')
            continue;
        char number[32];
        size_t n = strcspn(line + len + 1, "\n");
        if (str_print(number, sizeof(number), "%.*s", (int)n, line + len + 1) < 0)
            break;
        return number_parse(number, 0, UINT64_MAX, ret, err);
    }
    return err_set(err, ERR_UNSUPPORTED, "this kernel has no %s", key);
}

int cgroup_read_key(int fd, const char *file, const char *key, uint64_t *ret, struct err *err)
{
    char text[CGROUP_TEXT];
    struct err own = {0};
    if (!err)
        err = &own;
    int r = cgroup_read(fd, file, text, sizeof(text), err);
    if (r == 0 && (r = cgroup_key(text, key, ret, err)) < 0)
        err_wrap(err, "%s", file);
    return r;
}

int cgroup_kill(int fd, struct err *err)
{
    return cgroup_write(fd, "cgroup.kill", err, "1");
}

int cgroup_freeze(int fd, bool frozen, struct err *err)
{
    return cgroup_write(fd, "cgroup.freeze", err, "%d", frozen);
}

/* 1, 0, or -1 when the file cannot be read or lacks the key. */
static int event_value(int f, const char *key)
{
    char text[256], word[32];
    ssize_t n = pread(f, text, sizeof(text) - 1, 0);
    if (n < 0 || str_print(word, sizeof(word), "%s ", key) < 0)
        return -1;
    text[n] = '\0';
    const char *at = strstr(text, word);
    if (!at || (at != text && at[-1] != '\n'))
        return -1;
    return at[strlen(word)] == '1';
}

int cgroup_wait_event(int fd, const char *key, bool want, int timeout_ms, struct err *err)
{
    auto_fd int f = openat(fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
    if (f < 0)
        return file_error(fd, "cgroup.events", "open", err);
    int64_t deadline = clock_ms() + timeout_ms;
    struct timespec step = {.tv_nsec = RETRY_FIRST_NS};
    for (;;) {
        /* Reading arms the notification: a change after it wakes ppoll() with POLLPRI. */
        int v = event_value(f, key);
        if (v < 0)
            return err_set(err, ERR_UNSUPPORTED, "cgroup.events does not tell \"%s\"", key);
        if (v == want)
            return 0;
        int64_t left = deadline - clock_ms();
        if (left <= 0)
            return err_set(err, ERR_TIMEOUT, "it is not %s%s after %d ms", want ? "" : "un", key,
                           timeout_ms);
        /* The kernel holds a notification back when one was sent in the last 10 ms
         * (CGROUP_FILE_NOTIFY_MIN_INTV; 16 to 20 ms late on 6.18): look often at first. */
        bool early = step.tv_nsec < NOTIFY_LATE_NS;
        struct timespec rest = {.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000};
        struct pollfd p = {.fd = f, .events = POLLPRI};
        if (ppoll(&p, 1, early && left > 20 ? &step : &rest, NULL) < 0 && errno != EINTR)
            return err_sys(err, "cannot wait for cgroup.events");
        if (early)
            step.tv_nsec += step.tv_nsec / 2;
    }
}

bool cgroup_populated(int fd, bool v2)
{
    char c;
    auto_fd int f = openat(fd, v2 ? "cgroup.events" : "cgroup.procs", O_RDONLY | O_CLOEXEC);
    if (f < 0)
        return false;
    return v2 ? event_value(f, "populated") == 1 : pread(f, &c, 1, 0) > 0;
}

int cgroup_each_process(int fd, int (*item)(void *ctx, pid_t pid), void *ctx, struct err *err)
{
    auto_fd int f = openat(fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    if (f < 0)
        return file_error(fd, "cgroup.procs", "open", err);
    auto_file FILE *in = fdopen(f, "re");
    if (!in)
        return err_sys(err, "cannot read cgroup.procs");
    f = -1; /* `in` closes it */
    char line[32];
    uint64_t pid;
    while (fgets(line, sizeof(line), in)) {
        line[strcspn(line, "\n")] = '\0';
        /* 0 is a process outside our own pid namespace: nothing that we could name. */
        if (number_parse(line, 1, INT32_MAX, &pid, NULL) == 0) {
            int r = item(ctx, (pid_t)pid);
            if (r < 0)
                return r;
        }
    }
    return ferror(in) ? file_error(fd, "cgroup.procs", "read", err) : 0;
}

int cgroup_each_child(int fd, int (*item)(void *ctx, int fd, const char *name, struct err *err),
                      void *ctx, struct err *err)
{
    auto_dir DIR *dir = fd_list(fd);
    if (!dir)
        return errno == ENOENT ? 0 : err_sys(err, "cannot list a cgroup");
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(dir);
        if (!e)
            return errno && errno != ENOENT ? err_sys(err, "cannot list a cgroup") : 0;
        if (e->d_type != DT_DIR || strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        int r = item(ctx, fd, e->d_name, err);
        if (r < 0)
            return r;
    }
}

struct removal {
    int64_t deadline;
    unsigned depth;
};

static int remove_tree(struct removal *r, int parent, const char *name, struct err *err);

static int remove_child(void *ctx, int fd, const char *name, struct err *err)
{
    return remove_tree(ctx, fd, name, err);
}

static int remove_children(struct removal *r, int parent, const char *name, struct err *err)
{
    auto_fd int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(err, "cannot open cgroup %s", name);
    if (r->depth == DEPTH_MAX)
        return err_set(err, ERR_EXHAUSTED, "cgroups are nested deeper than %d", DEPTH_MAX);
    r->depth++;
    int status = cgroup_each_child(fd, remove_child, r, err);
    r->depth--;
    return status;
}

static int remove_tree(struct removal *r, int parent, const char *name, struct err *err)
{
    struct timespec pause = {.tv_nsec = RETRY_FIRST_NS};
    for (;;) {
        if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
            return 0;
        if (errno != EBUSY)
            return err_sys(err, "cannot remove cgroup %s", name);
        /* Busy for its children, or for a process whose death is not finished: the kernel takes a
         * process out of its cgroup only after its last schedule (seen on 6.18). */
        int status = remove_children(r, parent, name, err);
        if (status < 0)
            return status;
        if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
            return 0;
        if (clock_ms() >= r->deadline)
            return err_set(err, ERR_BUSY, "cannot remove cgroup %s: there are processes in it",
                           name);
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < RETRY_MAX_NS)
            pause.tv_nsec *= 2;
    }
}

int cgroup_remove_tree(int parent, const char *name, int timeout_ms, struct err *err)
{
    struct removal r = {.deadline = clock_ms() + timeout_ms};
    return remove_tree(&r, parent, name, err);
}
