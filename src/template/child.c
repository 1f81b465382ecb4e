/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/child.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The owner is asked this often whether it still wants the result. */
#define TICK_MS 200

/* In the child: everything as a program expects to find it. */
_Noreturn static void run(const char *const *argv, const struct child_how *how, int out, int log)
{
    /* SIGKILL when the worker that started us is killed; with isolate, for the whole namespace. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    umask(022);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(log, 2) < 0)
        _exit(126);
    fd_close_others(NULL, 0);
    if (chdir("/") < 0)
        _exit(126);
    if (how->isolate) {
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
            dprintf(2, "cannot make the mounts private\n"), _exit(126);
        /* So that its /proc shows its own processes; without it things still work. */
        if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
            dprintf(2, "cannot mount /proc\n");
        if (how->tmpdir && mount(how->tmpdir, "/tmp", NULL, MS_BIND, NULL) < 0)
            dprintf(2, "cannot mount /tmp: %s\n", strerror(errno)), _exit(126);
    }
    char *env[] = {(char *)"PATH=" PATH_PROGRAMS,
                   (char *)"LC_ALL=C.UTF-8",
                   (char *)"HOME=/root",
                   (char *)"DEBIAN_FRONTEND=noninteractive",
                   (char *)"TMPDIR=/tmp",
                   how->env,
                   NULL};
    execvpe(argv[0], (char *const *)argv, env);
    dprintf(2, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

int child_start(const char *const *argv, const struct child_how *how, struct child *ret,
                struct err *err)
{
    int out[2] = {-1, -1}, log[2] = {-1, -1};
    if (pipe2(out, O_CLOEXEC) < 0)
        return err_sys(err, "cannot start %s", argv[0]);
    auto_fd int out_r = out[0];
    auto_fd int out_w = out[1];
    if (pipe2(log, O_CLOEXEC) < 0)
        return err_sys(err, "cannot start %s", argv[0]);
    auto_fd int log_r = log[0];
    auto_fd int log_w = log[1];
    int pidfd = -1;
    struct clone_args ca = {
        .flags = CLONE_PIDFD | (how->isolate ? CLONE_NEWPID | CLONE_NEWNS : 0),
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
    };
    pid_t pid = (pid_t)syscall(SYS_clone3, &ca, sizeof(ca));
    if (pid < 0)
        return err_sys(err, "cannot start %s", argv[0]);
    if (pid == 0)
        run(argv, how, out_w, log_w);
    *ret = (struct child){
        .pid = pid, .pidfd = pidfd, .out = steal_fd(&out_r), .log = steal_fd(&log_r)};
    fcntl(ret->log, F_SETFL, O_NONBLOCK);
    return 0;
}

/*
 * How well a line tells why the child failed.  A cause is followed by its effects (apt-get failed,
 * so mmdebstrap's hook failed, so mmdebstrap failed), so of the best rank the first line counts;
 * only of ordinary lines the last one.
 */
enum { NOISE = -1, ORDINARY, EFFECT, CAUSE, FULL };

static int rank_of(const char *line)
{
    /* mmdebstrap 1.2 to 1.5 about its own processes and its tidying up after a failure. */
    static const char *const noise[] = {"main() received signal", "setup() received signal",
                                        "removing tempdir",       "hooklistener errored out",
                                        "cleaning package lists", "received eof on socket"};
    static const char *const effects[] = {"E: mmdebstrap failed",
                                          "E: setup failed",
                                          "E: run_chroot failed",
                                          "E: apt-get ",
                                          "E: env ",
                                          "E: Sub-process ",
                                          "tar: Exiting",
                                          "tar: Error is not recoverable"};
    if (strstr(line, "No space left on device"))
        return FULL;
    for (size_t i = 0; i < ARRAY_SIZE(noise); i++)
        if (strstr(line, noise[i]))
            return NOISE;
    for (size_t i = 0; i < ARRAY_SIZE(effects); i++)
        if (str_starts(line, effects[i]))
            return EFFECT;
    return str_starts(line, "E:") || str_starts(line, "tar: ") || str_starts(line, "dpkg: error")
               ? CAUSE
               : ORDINARY;
}

static void end_line(struct child *c)
{
    while (c->line_len && strchr(" \t\r", c->line[c->line_len - 1]))
        c->line_len--;
    c->line[c->line_len] = '\0';
    if (!c->line_len)
        return;
    /* mmdebstrap's and apt's mark of an information; those about its own workings are noise. */
    if (str_starts(c->line, "I: ") && !strstr(c->line, "/tmp/") && !strstr(c->line, "-hook=") &&
        !strstr(c->line, "signed-by"))
        str_print(c->said, sizeof(c->said), "%s", c->line + 3);
    int rank = rank_of(c->line);
    if (rank > c->why_rank || (rank == ORDINARY && c->why_rank == ORDINARY)) {
        str_print(c->why, sizeof(c->why), "%s", c->line);
        c->why_rank = rank;
    }
    c->line_len = 0;
}

/* Takes what is in the log now; returns false at its end. */
static bool take_log(struct child *c)
{
    char buf[2048];
    for (;;) {
        ssize_t n = read(c->log, buf, sizeof(buf));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        for (ssize_t i = 0; i < n; i++) {
            if (buf[i] == '\n' || buf[i] == '\r')
                end_line(c);
            else if (c->line_len + 1 < sizeof(c->line))
                c->line[c->line_len++] = buf[i];
        }
    }
}

static int report(struct child *c, struct err *err)
{
    if (!c->progress)
        return 0;
    auto_str struct str s = str_init(1024);
    str_escape(&s, c->said, strlen(c->said));
    if (c->progress(c->ctx, c->percent, str_c(&s)) != 0)
        return err_set(err, ERR_CANCELLED, "it was cancelled");
    return 0;
}

/* Waits for output; at the end of the log, only for that. */
int child_wait_output(void *ctx, struct err *err)
{
    struct child *c = ctx;
    for (;;) {
        struct pollfd p[2] = {{.fd = c->out, .events = POLLIN}, {.fd = c->log, .events = POLLIN}};
        int n = poll(p, 2, TICK_MS);
        if (n < 0 && errno != EINTR)
            return err_sys(err, "cannot wait");
        if (n > 0 && p[1].revents && !take_log(c))
            cleanup_fd(&c->log);
        if (n > 0 && p[0].revents)
            return 0;
        int r = report(c, err);
        if (r < 0)
            return r;
    }
}

int child_finish(struct child *c, const char *name, struct err *err)
{
    cleanup_fd(&c->out);
    while (c->log >= 0) {
        struct pollfd p = {.fd = c->log, .events = POLLIN};
        int r = poll(&p, 1, TICK_MS) < 0 && errno != EINTR ? -1 : 0;
        if (r < 0 || (p.revents && !take_log(c)))
            cleanup_fd(&c->log);
        if ((r = report(c, err)) < 0)
            return r;
    }
    end_line(c);
    int status = 0;
    while (waitpid(c->pid, &status, 0) < 0)
        if (errno != EINTR)
            return err_sys(err, "cannot wait for %s", name);
    c->pid = -1;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFSIGNALED(status))
        return err_set(err, ERR_SYSTEM, "%s was killed by signal %d (%s)", name, WTERMSIG(status),
                       sigabbrev_np(WTERMSIG(status)));
    auto_str struct str s = str_init(1200);
    str_escape(&s, c->why, strlen(c->why));
    if (WEXITSTATUS(status) == 127)
        return err_set(err, ERR_NOT_FOUND, "cannot run %s: %s; install it and try again", name,
                       str_c(&s));
    if (c->why_rank == FULL)
        return err_set(err, ERR_EXHAUSTED, "%s: %s; free some space and try again", name,
                       str_c(&s));
    if (c->why_rank == CAUSE)
        return err_set(err, ERR_SYSTEM, "%s: %s", name,
                       str_c(&s) + (str_starts(str_c(&s), "E: ") ? 3 : 0));
    return err_set(err, ERR_SYSTEM, "%s failed (exit status %d)%s%s", name, WEXITSTATUS(status),
                   s.len ? ": " : "", str_c(&s));
}

int child_explain(struct child *c, const char *name, int r, struct err *err)
{
    if (r < 0 && r != -ERR_CORRUPT)
        return r;
    struct err cause = {0};
    int r2 = child_finish(c, name, &cause);
    if (r2 < 0 && err)
        *err = cause;
    return r2 < 0 ? r2 : r;
}

void child_drop(struct child *c)
{
    if (c->pid > 0) {
        if (c->pidfd >= 0)
            fd_pidfd_kill(c->pidfd, SIGKILL, NULL);
        kill(-c->pid, SIGKILL); /* the rest of its process group, where it is not isolated */
        while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        c->pid = -1;
    }
    cleanup_fd(&c->pidfd);
    cleanup_fd(&c->out);
    cleanup_fd(&c->log);
}

int child_output(const char *const *argv, size_t max, char **ret, struct err *err)
{
    auto_child struct child c = CHILD_NONE;
    int r = child_start(argv, &(struct child_how){0}, &c, err);
    if (r < 0)
        return r;
    auto_free char *text = NULL;
    if ((r = fd_read_all(c.out, max, &text, NULL, err)) < 0)
        return err_wrap(err, "%s", argv[0]);
    if ((r = child_finish(&c, argv[0], err)) < 0)
        return r;
    *ret = steal_ptr(&text);
    return 0;
}
