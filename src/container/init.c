/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "container/init.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "kernel/mount.h"
#include "kernel/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* The network, IPC, … namespaces are made here and not by clone(2), so that their memory is
 * charged to the VE's own cgroup and the caller's other core is free meanwhile. */
static int make_namespaces(const struct container_plan *plan, struct err *err)
{
    int flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP;
    if (access("/proc/self/ns/time_for_children", F_OK) == 0)
        flags |= CLONE_NEWTIME; /* entered when its clocks are set */
    return namespace_unshare(flags, err);
}

static int receive_layers(int sock, int *layers, size_t n, struct err *err)
{
    for (size_t i = 0; i < n;) {
        size_t part = n - i < FD_PASS_MAX ? n - i : FD_PASS_MAX;
        int r = message_expect(sock, MESSAGE_LAYERS, NULL, layers + i, part, err);
        if (r < 0)
            return r;
        i += part;
    }
    return 0;
}

static int receive_lxcfs(int sock, int fds[LXCFS_COUNT], struct err *err)
{
    /* Which are there is told first; a descriptor message follows only when some are. */
    uint32_t mask = 0;
    int got[LXCFS_COUNT];
    for (size_t i = 0; i < LXCFS_COUNT; i++)
        fds[i] = -1;
    int r = message_expect(sock, MESSAGE_LXCFS, &mask, NULL, 0, err);
    size_t n = (size_t)__builtin_popcount(mask);
    if (r < 0 || n == 0)
        return r;
    if (n > LXCFS_COUNT)
        return err_set(err, ERR_INTERNAL, "too many files of lxcfs");
    if ((r = message_expect(sock, MESSAGE_LXCFS, NULL, got, n, err)) < 0)
        return r;
    for (size_t i = 0, k = 0; i < LXCFS_COUNT; i++)
        if (mask & (1u << i))
            fds[i] = got[k++];
    return 0;
}

static int receive_and_build(const struct container_plan *plan, int sock, int *ret_tree,
                             int *ret_devpts, struct err *err)
{
    size_t n_more = plan->repair ? plan->repair->n_layers : 0;
    auto_free int *layers = calloc(plan->n_layers + n_more + 1, sizeof(int));
    int mounts[3] = {-1, -1, -1}, lxcfs[LXCFS_COUNT];
    if (!layers)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int r;
    if ((r = receive_layers(sock, layers, plan->n_layers, err)) < 0 ||
        (r = receive_layers(sock, layers + plan->n_layers, n_more, err)) < 0 ||
        (r = message_expect(sock, MESSAGE_MOUNTS, NULL, mounts, plan->proc_fs >= 0 ? 3 : 2, err)) <
            0 ||
        (r = receive_lxcfs(sock, lxcfs, err)) < 0)
        return r;
    const struct container_repair broken = {layers + plan->n_layers, n_more, mounts[0]};
    struct root_parts parts = {
        .layers = layers,
        .n_layers = plan->n_layers,
        .tree = plan->repair ? -1 : mounts[0],
        .repair = plan->repair ? &broken : NULL,
        .dev = mounts[1],
        .proc_fs = mounts[2],
        .lxcfs = lxcfs,
        .cgroup = plan->cgroup >= 0,
        .nesting = plan->nesting,
        .old_overlay = plan->old_overlay,
        .ptys = plan->limits->ptys,
    };
    *ret_tree = parts.tree;
    return root_build(&parts, ret_devpts, err);
}

/* The pty is the VE's console: its slave is mounted on /dev/console, its master goes out.
 * It is nobody's controlling terminal: like on a real machine, whoever logs in there takes it;
 * and Control-C typed on a console must not reach process 1. */
static int make_console(const struct container_plan *plan, int devpts, int sock, int *ret_slave,
                        struct err *err)
{
    auto_fd int master = -1, slave = -1, mount = -1, dev = -1;
    int r = device_pty(devpts, !plan->own_init, 24, 80, &master, &slave, err);
    if (r < 0)
        return err_wrap(err, "cannot make its console");
    dev = open("/dev", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dev < 0)
        return err_sys(err, "cannot open its /dev");
    char name[16]; /* a fresh devpts, but ask rather than assume */
    unsigned number;
    if (ioctl(master, TIOCGPTN, &number) < 0)
        return err_sys(err, "cannot name its console");
    str_print(name, sizeof(name), "%u", number);
    if ((r = mount_clone(devpts, name, &mount, err)) < 0 ||
        (r = mount_attach(mount, dev, "console", err)) < 0 ||
        (r = message_send(sock, MESSAGE_CONSOLE, 0, &master, 1, err)) < 0)
        return r;
    *ret_slave = steal_fd(&slave);
    return 0;
}

static int raise_loopback(struct err *err)
{
    auto_fd int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    if (s < 0 || ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
        return err_sys(err, "cannot raise its loopback interface");
    return 0;
}

/* Before Linux 6.9 only the host's root may: READY says whether it has to. */
static int write_ipc_limits(const struct container_plan *plan, int sysctls, uint32_t *ret_done,
                            struct err *err)
{
    int r = limits_write_ipc(plan->limits, sysctls, err);
    *ret_done = r == 0;
    return r == -ERR_DENIED ? 0 : r;
}

static int prepare(const struct container_plan *plan, int sock, int sysctls, int *ret_slave,
                   struct err *err)
{
    /* Before anything else: until then the memory is another's (outer.c). */
    int r = message_expect(sock, MESSAGE_MAPPED, NULL, NULL, 0, err);
    if (r < 0)
        return r;
    const int keep[] = {sock, sysctls, plan->init_program};
    fd_close_others(keep, 3);

    auto_fd int devpts = -1, tree = -1;
    uint32_t ipc = 0;
    if ((r = process_detach(err)) < 0 || (r = make_namespaces(plan, err)) < 0 ||
        (r = namespace_become_root(err)) < 0)
        return r;
    /* After the last change of uid, which clears it; had the caller died before, the next
     * message would not come. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 0);
    if ((r = write_ipc_limits(plan, sysctls, &ipc, err)) < 0 ||
        (r = limits_write_buffers(plan->limits, sysctls, err)) < 0 ||
        (r = message_send(sock, MESSAGE_READY, ipc, NULL, 0, err)) < 0 ||
        (r = receive_and_build(plan, sock, &tree, &devpts, err)) < 0)
        return r;
    if (sethostname(plan->hostname, strlen(plan->hostname)) < 0)
        return err_sys(err, "cannot set its host name");
    if ((r = raise_loopback(err)) < 0 ||
        (r = file_write_all(plan->files, plan->n_files, tree, err)) < 0)
        return r;
    return make_console(plan, devpts, sock, ret_slave, err);
}

/* terem-init as a sealed copy in memory: nothing in the VE can write to the host's file through
 * /proc/1/exe, nor find out what file system it lies on.  A caller that holds such a copy already
 * shares it among all VEs. */
static int seal_program(int program, int *ret_fd, struct err *err)
{
    const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    if ((fcntl(program, F_GET_SEALS) & seals) == seals && fcntl(program, F_GET_SEALS) > 0) {
        *ret_fd = program;
        return 0;
    }
    auto_fd int fd = memfd_create("terem-init", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    char buf[16384];
    ssize_t n;
    if (fd < 0)
        return err_sys(err, "cannot copy terem-init");
    for (off_t at = 0; (n = pread(program, buf, sizeof(buf), at)) > 0; at += n) {
        int r = fd_write_all(fd, buf, (size_t)n, err);
        if (r < 0)
            return err_wrap(err, "cannot copy terem-init");
    }
    if (n < 0 || fchmod(fd, 0555) < 0 || fcntl(fd, F_ADD_SEALS, seals) < 0)
        return err_sys(err, "cannot copy terem-init");
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int run(const struct container_plan *plan, int sock, int slave, struct err *err)
{
    struct process_spec spec = {
        .argv = plan->argv,
        .env = plan->env,
        .workdir = plan->own_init ? NULL : plan->workdir,
        .user = plan->own_init ? NULL : plan->user,
        .own_init = plan->own_init,
        .nesting = plan->nesting,
        .new_privileges = plan->new_privileges,
        .listen = plan->listen,
        .listen_disk = plan->listen_disk,
        .program = -1,
        .sock = sock,
    };
    int r, in = slave;
    auto_fd int null = -1;
    if (!plan->own_init) {
        null = in = open("/dev/null", O_RDONLY | O_NOCTTY | O_CLOEXEC);
        if (in < 0)
            return err_sys(err, "cannot open its /dev/null");
        if ((r = seal_program(plan->init_program, &spec.program, err)) < 0)
            return r;
    }
    const int keep[] = {sock, spec.program};
    if ((r = process_stdio(in, slave, slave, keep, 2, err)) < 0 ||
        (r = message_expect(sock, MESSAGE_GO, NULL, NULL, 0, err)) < 0 ||
        (r = namespace_join_clocks(err)) < 0)
        return r;
    return process_execute(&spec, err);
}

_Noreturn void init_main(const struct container_plan *plan, int sock, int sysctls)
{
    struct err err = {0};
    int slave = -1;
    int r = prepare(plan, sock, sysctls, &slave, &err);
    if (r == 0)
        r = run(plan, sock, slave, &err);
    message_fail(sock, &err);
    _exit(125);
}
