/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Entering a running VE.  A middle process joins the cgroups and the namespaces, and forks the
 * command's process as a child of the caller (only children of who enters a PID namespace are in
 * it).  Until it executes, that process cannot be looked into from inside: it is not dumpable,
 * and its memory belongs to the host's user namespace; it holds nothing but the pair and its
 * standard streams.
 */
#include "container/internal.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "kernel/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_S 10   /* of each step until the command executes; milliseconds are usual */
#define ENDING_MS  1000 /* what had no memory left waits so long to know why */
#define REAP_MS    5000

struct streams {
    int in, out, error;
};

static void streams_done(struct streams *s)
{
    cleanup_fd(&s->in);
    cleanup_fd(&s->out);
    cleanup_fd(&s->error);
}

/* A terminal of the VE's own devpts; `theirs` becomes its slave. */
static int open_terminal(const struct container_exec *x, int sock, struct streams *theirs,
                         struct err *err)
{
    auto_fd int pts = open("/dev/pts", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), master = -1;
    if (pts < 0)
        return err_sys(err, "cannot open its /dev/pts");
    int slave = -1, r = device_pty(pts, false, x->rows, x->columns, &master, &slave, err);
    if (r < 0)
        return r;
    theirs->in = slave;
    if ((theirs->out = fd_again(slave)) < 0 || (theirs->error = fd_again(slave)) < 0)
        return err_sys(err, "cannot open a terminal");
    return message_send(sock, MESSAGE_STREAMS, 0, &master, 1, err);
}

/* Made by the VE's root, so that the command can open them again (/dev/stdout), and so that their
 * buffers count as the VE's. */
static int open_pipes(int sock, struct streams *theirs, struct err *err)
{
    int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
    int r = 0;
    for (int i = 0; i < 3 && r == 0; i++)
        if (pipe2(pipes[i], O_CLOEXEC) < 0)
            r = err_sys(err, "cannot make a pipe");
    const int ours[] = {pipes[0][1], pipes[1][0], pipes[2][0]};
    if (r == 0)
        r = message_send(sock, MESSAGE_STREAMS, 0, ours, 3, err);
    *theirs = (struct streams){pipes[0][0], pipes[1][1], pipes[2][1]};
    for (int i = 0; i < 3; i++)
        if (ours[i] >= 0)
            close(ours[i]);
    return r;
}

static int run_command(const struct container_exec *x, int sock, const struct streams *s,
                       struct err *err)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* The caller gave up meanwhile: nobody would hear of this command. */
    struct pollfd p = {.fd = sock};
    if (poll(&p, 1, 0) > 0)
        _exit(125);
    int r = process_stdio(s->in, s->out, s->error, &sock, 1, err);
    if (r < 0)
        return r;
    if (setsid() < 0)
        return err_sys(err, "cannot make a session");
    if (x->tty && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
        return err_sys(err, "cannot take its terminal");
    struct process_spec spec = {
        .argv = x->argv,
        .env = x->env,
        .workdir = x->workdir,
        .user = x->user,
        .own_init = x->own_init,
        .nesting = x->nesting,
        .new_privileges = x->new_privileges,
        .listen = x->listen,
        .listen_disk = x->listen_disk,
        .program = -1,
        .sock = sock,
    };
    return process_execute(&spec, err);
}

/* In the middle process, already in the v2 cgroup. */
static int enter_and_fork(const struct container_exec *x, int sock, struct err *err)
{
    int keep[CONTAINER_V1_MAX + 2] = {sock, x->pidfd};
    size_t n = 2;
    for (size_t i = 0; i < x->n_cgroup_procs; i++)
        keep[n++] = x->cgroup_procs[i];
    fd_close_others(keep, n);
    prctl(PR_SET_DUMPABLE, 0);
    int r;
    const struct container_limits *limits = x->limits ? x->limits : &container_limits_default;
    process_raise_limits(limits);
    process_expose(getpid());
    if ((r = process_detach(err)) < 0 || (r = process_set_limits(limits, err)) < 0 ||
        (r = process_join(x->cgroup_procs, x->n_cgroup_procs, err)) < 0 ||
        (r = namespace_enter(x->pidfd, NAMESPACE_ALL, err)) < 0 ||
        (r = namespace_become_root(err)) < 0)
        return r;
    prctl(PR_SET_DUMPABLE, 0); /* a change of uid may have set it again */
    struct streams theirs = {-1, -1, -1};
    r = x->tty ? open_terminal(x, sock, &theirs, err) : open_pipes(sock, &theirs, err);
    if (r < 0)
        return r;
    int pidfd = -1;
    pid_t pid = namespace_fork(CLONE_PARENT, -1, &pidfd, err);
    /* fork(2): ENOMEM is also told in a pid namespace whose init is about to end. */
    if (pid < 0 && err->sys == ENOMEM && fd_pidfd_wait_exit(x->pidfd, ENDING_MS, NULL) == 0)
        return err_set(err, ERR_STATE, "it has stopped");
    if (pid < 0)
        return (int)pid;
    if (pid == 0) {
        if (run_command(x, sock, &theirs, err) < 0)
            message_fail(sock, err);
        _exit(125);
    }
    /* If nobody hears this, the caller is gone and the command dies with it. */
    return message_send(sock, MESSAGE_PROCESS, (uint32_t)pid, &pidfd, 1, err);
}

_Noreturn static void middle_main(const struct container_exec *x, int sock)
{
    struct err err = {0};
    if (enter_and_fork(x, sock, &err) < 0)
        message_fail(sock, &err);
    _exit(0);
}

/*
 * Where v2 has controllers, a cgroup with children that are controlled takes no process itself
 * (EBUSY): an init system has made such children in the VE's.  A leaf beside them does.
 */
static int open_leaf(int cgroup, int *ret_fd, struct err *err)
{
    struct stat st;
    if (fstat(cgroup, &st) < 0)
        return err_sys(err, "cannot look at its cgroup");
    if (mkdirat(cgroup, "terem.exec", 0755) < 0 && errno != EEXIST)
        return err_sys(err, "cannot make a cgroup for the command");
    int fd = openat(cgroup, "terem.exec", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open the command's cgroup");
    if (fchmod(fd, 0755) < 0 || fchown(fd, st.st_uid, st.st_gid) < 0 ||
        fchownat(fd, "cgroup.procs", st.st_uid, st.st_gid, 0) < 0) {
        close(fd);
        return err_sys(err, "cannot hand over the command's cgroup");
    }
    *ret_fd = fd;
    return 0;
}

static pid_t fork_middle(const struct container_exec *x, int *ret_pidfd, struct err *err)
{
    struct err why = {0};
    pid_t pid = namespace_fork(0, x->cgroup, ret_pidfd, &why);
    if (pid >= 0)
        return pid;
    if (why.sys != EBUSY || x->cgroup < 0) {
        if (err)
            *err = why;
        return pid;
    }
    auto_fd int leaf = -1;
    int r = open_leaf(x->cgroup, &leaf, err);
    return r < 0 ? r : namespace_fork(0, leaf, ret_pidfd, err);
}

/* The middle process says STREAMS and then PROCESS; the command says FILTER, and executes or says
 * FAILED: the order between the two is not fixed. */
static int collect(const struct container_exec *x, int sock, struct streams *ours,
                   struct container_process *p, struct err *err)
{
    int r;
    int fds[3] = {-1, -1, -1};
    if ((r = message_expect(sock, MESSAGE_STREAMS, NULL, fds, x->tty ? 1 : 3, err)) < 0)
        return r;
    *ours = (struct streams){fds[0], fds[1], fds[2]};
    struct err why = {0};
    for (;;) {
        struct message m;
        int fd = -1;
        size_t n = 1;
        if ((r = message_next(sock, &m, &fd, &n, err)) < 0)
            return r;
        if (m.kind == MESSAGE_END)
            break;
        if (m.kind == MESSAGE_FAILED) {
            why = m.err;
        } else if (m.kind == MESSAGE_PROCESS && n == 1 && p->pidfd < 0) {
            p->pid = (pid_t)m.value;
            p->pidfd = fd;
        } else if (m.kind == MESSAGE_FILTER && n == 1 && p->listener < 0) {
            p->listener = fd;
        } else {
            cleanup_fd(&fd);
            return err_set(err, ERR_INTERNAL, "unexpected message %u of the command", m.kind);
        }
    }
    if (why.kind && err)
        *err = why;
    if (why.kind)
        return -why.kind;
    return p->pid > 0 ? 0 : err_set(err, ERR_STATE, "its process died before the command began");
}

/* One that was killed while it is frozen dies only when it is thawed (cgroup v1): it is left then,
 * to whoever inherits it. */
static void reap(pid_t pid, int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    while (poll(&p, 1, REAP_MS) < 0 && errno == EINTR)
        ;
    waitpid(pid, NULL, WNOHANG);
}

int container_exec(const struct container_exec *x, struct container_process *ret, struct err *err)
{
    if (!x->argv || !x->argv[0] || !x->argv[0][0])
        return err_set(err, ERR_USAGE, "there is no command to run");
    auto_clean(streams_done) struct streams ours = {-1, -1, -1};
    struct container_process p = {.pid = -1, .pidfd = -1, .listener = -1};
    int pair[2];
    int r = message_pair(pair, err);
    if (r < 0)
        return r;
    auto_fd int sock = pair[0], inner = pair[1], middle_fd = -1;
    if ((r = message_deadline(sock, DEADLINE_S, err)) < 0)
        return r;
    pid_t middle = fork_middle(x, &middle_fd, err);
    if (middle == 0)
        middle_main(x, inner);
    if (middle < 0)
        return (int)middle;
    cleanup_fd(&inner);
    r = collect(x, sock, &ours, &p, err);
    if (r == -ERR_TIMEOUT) {
        fd_pidfd_kill(middle_fd, SIGKILL, NULL);
        if (p.pidfd >= 0)
            fd_pidfd_kill(p.pidfd, SIGKILL, NULL);
        err_set(
            err, ERR_TIMEOUT,
            "the command did not begin within %d seconds: it was stopped or frozen from inside; "
            "look at what runs there, or restart it",
            DEADLINE_S);
    }
    reap(middle, middle_fd);
    if (r < 0) {
        if (p.pid > 0)
            reap(p.pid, p.pidfd);
        cleanup_fd(&p.pidfd);
        cleanup_fd(&p.listener);
        return r;
    }
    p.in = steal_fd(&ours.in);
    p.out = steal_fd(&ours.out);
    p.error = steal_fd(&ours.error);
    *ret = p;
    return 0;
}

int container_enter_files(int pidfd, struct err *err)
{
    prctl(PR_SET_DUMPABLE, 0);
    int r;
    if ((r = namespace_enter(pidfd, CLONE_NEWUSER | CLONE_NEWNS, err)) < 0 ||
        (r = namespace_become_root(err)) < 0)
        return r;
    prctl(PR_SET_DUMPABLE, 0);
    umask(022);
    if (chdir("/") < 0)
        return err_sys(err, "cannot enter its root");
    return 0;
}
