/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is bounded by sysctls of namespaces: counters of the outer user namespace (outer.c), and
 * the VE's IPC namespace.  A running VE is changed by a process of ours that enters them.
 */
#include "container/internal.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"
#include "kernel/mount.h"
#include "kernel/namespace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_S  10
#define MiB         (UINT64_C(1) << 20)
#define IPC_MAX     32768      /* IPCMNI: the kernel takes no more (ipc/util.h) */
#define SEM_MAX     1024000000 /* SEMMNS (linux/sem.h) */
#define SEM_SET_MAX 32000      /* SEMMSL, SEMMNI */
#define SOCKET_PART 4          /* of memory.sockets: what one socket may take for a direction */
#define SEM_OPS     500        /* SEMOPM */
/* ULONG_MAX - (1 << 24): SHMMAX and SHMALL (linux/shm.h). */
#define SHM_MAX (UINT64_MAX - (1 << 24))
/* From sysctl.h of the kernel: user.max_* are longs that take an int. */
#define COUNTER_MAX INT_MAX

const struct container_limits container_limits_default = {
    .namespaces = UINT64_MAX,
    .inotify_instances = UINT64_MAX,
    .inotify_watches = UINT64_MAX,
    .ipc_queues = UINT64_MAX,
    .ipc_semaphores = UINT64_MAX,
    .ipc_segments = UINT64_MAX,
    .shared = 64 * MiB,
    .signals = 16384,
    .locked = 8 * MiB,
    .nofile = UINT64_MAX,
    .ptys = 1024,
    .sockets = UINT64_MAX,
};

#define FIELD(name) offsetof(struct container_limits, name)

/* Each counted over the whole VE. */
static const struct {
    const char *file, *key;
    size_t field;
    unsigned own; /* what the VE itself takes of them */
} counters[] = {
    {"user/max_user_namespaces", "namespaces", FIELD(namespaces), 1},
    {"user/max_pid_namespaces", "namespaces", FIELD(namespaces), 1},
    {"user/max_uts_namespaces", "namespaces", FIELD(namespaces), 1},
    {"user/max_ipc_namespaces", "namespaces", FIELD(namespaces), 1},
    {"user/max_net_namespaces", "namespaces", FIELD(namespaces), 1},
    {"user/max_mnt_namespaces", "namespaces", FIELD(namespaces), 1},
    {"user/max_cgroup_namespaces", "namespaces", FIELD(namespaces), 1},
    {"user/max_time_namespaces", "namespaces", FIELD(namespaces), 1},
    {"user/max_inotify_instances", "inotify.instances", FIELD(inotify_instances), 0},
    {"user/max_inotify_watches", "inotify.watches", FIELD(inotify_watches), 0},
    {"user/max_fanotify_groups", "inotify.instances", FIELD(inotify_instances), 0},
    {"user/max_fanotify_marks", "inotify.watches", FIELD(inotify_watches), 0},
};

static uint64_t field(const struct container_limits *l, size_t offset)
{
    uint64_t n;
    memcpy(&n, (const char *)l + offset, sizeof(n));
    return n;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* In the host's /proc each name that was looked up in a namespace stays cached as long as that
 * namespace lives, all under one name: with 1,000 VEs the twelve counters of the next one took
 * 80 ms there (6.18), and 0.1 ms here. */
int limits_open_sysctls(int *ret_fd, struct err *err)
{
    auto_fd int proc = -1;
    int r = mount_new("proc", NULL, 0, &proc, err);
    if (r < 0)
        return r;
    int fd = openat(proc, "sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open the sysctls");
    *ret_fd = fd;
    return 0;
}

/* What the kernel was built without cannot be used up either. */
static int write_value(int sysctls, const char *file, const char *value, struct err *err)
{
    struct err why = {0};
    int r = fd_write_value_at(sysctls, file, &why, "%s", value);
    if (r == 0 || why.sys == ENOENT)
        return 0;
    *err = why;
    return err_wrap(err, "cannot set sysctl %s to %s", file, value);
}

int limits_write_counters(const struct container_limits *l, int sysctls, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(counters); i++) {
        char text[24];
        uint64_t n = field(l, counters[i].field);
        n = n > COUNTER_MAX - counters[i].own ? COUNTER_MAX : n + counters[i].own;
        str_print(text, sizeof(text), "%llu", (unsigned long long)n);
        int r = write_value(sysctls, counters[i].file, text, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int limits_write_ipc(const struct container_limits *l, int sysctls, struct err *err)
{
    uint64_t sems = least(l->ipc_semaphores, SEM_MAX), sets = least(sems, SEM_SET_MAX);
    bool all = l->shared == UINT64_MAX;
    char queues[24], segments[24], sem[80], bytes[24], pages[24];
    str_print(queues, sizeof(queues), "%llu", (unsigned long long)least(l->ipc_queues, IPC_MAX));
    str_print(segments, sizeof(segments), "%llu",
              (unsigned long long)least(l->ipc_segments, IPC_MAX));
    str_print(sem, sizeof(sem), "%llu %llu %d %llu", (unsigned long long)sets,
              (unsigned long long)sems, SEM_OPS, (unsigned long long)sets);
    str_print(bytes, sizeof(bytes), "%llu", (unsigned long long)(all ? SHM_MAX : l->shared));
    str_print(pages, sizeof(pages), "%llu",
              (unsigned long long)(all ? SHM_MAX : l->shared / (uint64_t)sysconf(_SC_PAGESIZE)));
    const struct {
        const char *file, *value;
    } rows[] = {
        {"kernel/msgmni", queues},   {"fs/mqueue/queues_max", queues}, {"kernel/sem", sem},
        {"kernel/shmmni", segments}, {"kernel/shmmax", bytes},         {"kernel/shmall", pages},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        int r = write_value(sysctls, rows[i].file, rows[i].value, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The three numbers of net.ipv4.tcp_rmem and tcp_wmem: least, default, most. */
struct buffers {
    uint64_t n[2][3];
};
static const char *const buffer_files[] = {"net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem"};

/* Of the caller's network namespace. */
static int read_buffers(int sysctls, struct buffers *ret, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(buffer_files); i++) {
        auto_free char *text = NULL;
        char *save = NULL;
        int r = fd_read_file_at(sysctls, buffer_files[i], 128, &text, NULL, err);
        if (r < 0)
            return err_wrap(err, "cannot read sysctl %s", buffer_files[i]);
        char *word = strtok_r(text, " \t\n", &save);
        for (size_t k = 0; k < 3; k++, word = strtok_r(NULL, " \t\n", &save))
            if (!word || (r = number_parse(word, 0, UINT64_MAX, &ret->n[i][k], err)) < 0)
                return err_set(err, ERR_INTERNAL, "sysctl %s is not three numbers",
                               buffer_files[i]);
    }
    return 0;
}

/* whole: what there is without a limit. */
static int write_buffers(const struct container_limits *l, const struct buffers *whole, int sysctls,
                         struct err *err)
{
    uint64_t most = l->sockets == UINT64_MAX ? UINT64_MAX : l->sockets / SOCKET_PART;
    for (size_t i = 0; i < ARRAY_SIZE(buffer_files); i++) {
        const uint64_t *n = whole->n[i];
        char text[80];
        str_print(text, sizeof(text), "%llu %llu %llu", (unsigned long long)least(n[0], most),
                  (unsigned long long)least(n[1], most), (unsigned long long)least(n[2], most));
        int r = write_value(sysctls, buffer_files[i], text, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int limits_write_buffers(const struct container_limits *l, int sysctls, struct err *err)
{
    struct buffers whole;
    if (l->sockets == UINT64_MAX)
        return 0;
    int r = read_buffers(sysctls, &whole, err);
    return r < 0 ? r : write_buffers(l, &whole, sysctls, err);
}

/* The caller is in the VE's IPC namespace.  Who may write its sysctls has changed: the host's root
 * before Linux 6.9, the uid that is root in the namespace's user namespace since. */
static int write_ipc_as_either(const struct container_limits *l, int sysctls, uid_t owner,
                               struct err *err)
{
    struct err why = {0};
    int r = limits_write_ipc(l, sysctls, &why);
    if (r == -ERR_DENIED) {
        if (setresuid((uid_t)-1, owner, (uid_t)-1) < 0)
            return err_sys(err, "cannot become uid %u", owner);
        r = limits_write_ipc(l, sysctls, &why);
        if (setresuid((uid_t)-1, 0, (uid_t)-1) < 0)
            return err_sys(err, "cannot become root again");
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* each change of uid clears it */
        prctl(PR_SET_DUMPABLE, 0);
    }
    if (r < 0)
        *err = why;
    return r;
}

int limits_write_ipc_of(const struct container_limits *l, int pidfd, struct err *err)
{
    auto_fd int own = open("/proc/self/ns/ipc", O_RDONLY | O_CLOEXEC), sysctls = -1;
    int r;
    if (own < 0)
        return err_sys(err, "cannot open our IPC namespace");
    if ((r = limits_open_sysctls(&sysctls, err)) < 0 ||
        (r = namespace_enter(pidfd, CLONE_NEWIPC, err)) < 0)
        return r;
    r = limits_write_ipc(l, sysctls, err);
    if (setns(own, CLONE_NEWIPC) < 0)
        return err_sys(err, "cannot come back to our IPC namespace");
    return r;
}

static int count_ipc(struct container_ipc *ret, struct err *err)
{
    struct msginfo queues;
    struct seminfo sems;
    struct shm_info segments;
    union { /* semctl(2) */
        struct seminfo *info;
    } arg = {&sems};
    if (msgctl(0, MSG_INFO, (struct msqid_ds *)&queues) < 0 || semctl(0, 0, SEM_INFO, arg) < 0 ||
        shmctl(0, SHM_INFO, (struct shmid_ds *)&segments) < 0)
        return err_sys(err, "cannot count its System V objects");
    *ret = (struct container_ipc){(uint64_t)queues.msgpool, (uint64_t)sems.semaem,
                                  (uint64_t)segments.used_ids};
    return 0;
}

int container_count_ipc(int pidfd, struct container_ipc *ret, struct err *err)
{
    auto_fd int own = open("/proc/self/ns/ipc", O_RDONLY | O_CLOEXEC);
    if (own < 0)
        return err_sys(err, "cannot open our IPC namespace");
    int r = namespace_enter(pidfd, CLONE_NEWIPC, err);
    if (r < 0)
        return r;
    r = count_ipc(ret, err);
    if (setns(own, CLONE_NEWIPC) < 0)
        return err_sys(err, "cannot come back to our IPC namespace");
    return r;
}

/* The device a descriptor lies on; asks the file system nothing. */
static int device_of(int fd, uint64_t *ret, struct err *err)
{
    struct statx st;
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) < 0)
        return err_sys(err, "cannot look at its /dev/pts");
    *ret = makedev(st.stx_dev_major, st.stx_dev_minor);
    return 0;
}

/* From "/" to /dev/pts.  seen: a step leads on only from where it led at birth, so that no file
 * system of the VE's own (FUSE) is ever asked, and waited for; NULL: at birth. */
static int walk_to_pts(int pidfd, const struct container_pts *seen, struct container_pts *ret,
                       int *ret_fd, struct err *err)
{
    static const char *const steps[] = {"dev", "pts"};
    auto_fd int at = -1;
    int r = namespace_open_root(pidfd, &at, err);
    for (size_t i = 0; r == 0; i++) {
        if ((r = device_of(at, &ret->device[i], err)) < 0)
            return r;
        if (seen && seen->device[i] != ret->device[i])
            return err_set(err, ERR_NOT_FOUND, "its /dev/pts is not the one it was born with");
        if (i == ARRAY_SIZE(steps))
            break;
        int next = openat(at, steps[i], O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0)
            return err_set(err, ERR_NOT_FOUND, "its /dev/pts is not there");
        cleanup_fd(&at);
        at = next;
    }
    if (r == 0)
        *ret_fd = steal_fd(&at);
    return r;
}

int limits_see_pts(int pidfd, struct container_pts *ret, struct err *err)
{
    auto_fd int fd = -1;
    return walk_to_pts(pidfd, NULL, ret, &fd, err);
}

int container_count_ptys(int pidfd, const struct container_pts *born, uint64_t *ret,
                         struct err *err)
{
    struct container_pts now;
    auto_fd int path = -1;
    char link[FD_PATH_MAX];
    int r = walk_to_pts(pidfd, born, &now, &path, err);
    if (r < 0)
        return r;
    int fd = open(fd_path(path, link), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        return err_sys(err, "cannot read its /dev/pts");
    uint64_t n = 0;
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] >= '1' && e->d_name[0] <= '9'; /* 0 is the console; "ptmx" */
    *ret = n;
    return 0;
}

struct change {
    int pidfd, outer;
    uid_t owner;
    const struct container_limits *old, *new;
};

/* Of a running VE: its user namespace's owner, and the namespace around it. */
static int open_outer(int pidfd, int *ret_fd, uid_t *ret_owner, struct err *err)
{
    auto_fd int own = -1;
    int r = namespace_open_user(pidfd, &own, err);
    return r < 0 ? r : namespace_around(own, ret_fd, ret_owner, err);
}

static bool differ(const struct change *c, const size_t *fields, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!c->old || field(c->old, fields[i]) != field(c->new, fields[i]))
            return true;
    return false;
}

/* Without a limit it has what we have ourselves; what its root made of that stays when there was
 * none. */
static int change_buffers(const struct change *c, int sysctls, struct err *err)
{
    struct buffers whole;
    if (!c->old && c->new->sockets == UINT64_MAX)
        return 0;
    int r = read_buffers(sysctls, &whole, err);
    if (r == 0)
        r = namespace_enter(c->pidfd, CLONE_NEWNET, err);
    return r < 0 ? r : write_buffers(c->new, &whole, sysctls, err);
}

/* What can be refused comes first, and what cannot be left again comes last. */
static int change(const struct change *c, struct err *err)
{
    static const size_t user[] = {FIELD(namespaces), FIELD(inotify_instances),
                                  FIELD(inotify_watches)},
                        ipc[] = {FIELD(ipc_queues), FIELD(ipc_semaphores), FIELD(ipc_segments),
                                 FIELD(shared)},
                        shared[] = {FIELD(shared)}, sockets[] = {FIELD(sockets)};
    auto_fd int sysctls = -1;
    int r = limits_open_sysctls(&sysctls, err);
    if (r == 0 && differ(c, shared, 1)) {
        if ((r = namespace_enter(c->pidfd, CLONE_NEWNS, err)) == 0)
            r = device_resize(c->new->shared, err);
        if (r < 0)
            return err_wrap(err, "memory.shared");
    }
    if (r == 0 && differ(c, ipc, ARRAY_SIZE(ipc)) &&
        (r = namespace_enter(c->pidfd, CLONE_NEWIPC, err)) == 0)
        r = write_ipc_as_either(c->new, sysctls, c->owner, err);
    if (r == 0 && differ(c, sockets, 1))
        r = change_buffers(c, sysctls, err);
    if (r == 0 && differ(c, user, ARRAY_SIZE(user))) {
        if (setns(c->outer, CLONE_NEWUSER) < 0)
            return err_sys(err, "cannot enter its outer user namespace");
        r = limits_write_counters(c->new, sysctls, err);
    }
    return r;
}

_Noreturn static void change_main(const struct change *c, int sock)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 0);
    struct err e = {0};
    if (change(c, &e) < 0)
        message_fail(sock, &e);
    else
        message_send(sock, MESSAGE_READY, 0, NULL, 0, NULL);
    _exit(0);
}

/* In a process of its own, which may stay in the namespaces that it enters. */
static int run_change(const struct change *c, struct err *err)
{
    int pair[2], r = message_pair(pair, err);
    if (r < 0)
        return r;
    auto_fd int ours = pair[0], theirs = pair[1];
    if ((r = message_deadline(ours, DEADLINE_S, err)) < 0)
        return r;
    pid_t pid = fork(); /* not namespace_fork(): another thread may hold malloc's lock */
    if (pid == 0) {
        close(ours);
        change_main(c, theirs);
    }
    if (pid < 0)
        return err_sys(err, "cannot fork");
    cleanup_fd(&theirs);
    r = message_expect(ours, MESSAGE_READY, NULL, NULL, 0, err);
    if (r < 0)
        kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return r;
}

int container_limits_apply(int pidfd, const struct container_limits *old,
                           const struct container_limits *new, struct err *err)
{
    auto_fd int outer = -1;
    struct err own = {0}, ignored = {0};
    struct change c = {.pidfd = pidfd, .old = old, .new = new};
    if (!err)
        err = &own;
    int r = open_outer(pidfd, &outer, &c.owner, err);
    if (r < 0)
        return r;
    c.outer = outer;
    r = run_change(&c, err);
    if (r < 0 && old) {
        struct change back = {.pidfd = pidfd, .outer = outer, .owner = c.owner, .new = old};
        run_change(&back, &ignored);
    }
    return r;
}

/* A program may make itself mergeable since Linux 6.4, and what it forks since 6.7. */
static bool can_dedup(void)
{
    int status = 1;
    pid_t pid = fork();
    if (pid == 0) {
        if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) < 0 || (pid = fork()) < 0)
            _exit(1);
        if (pid == 0)
            _exit(prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) != 1);
        _exit(waitpid(pid, &status, 0) < 0 || status != 0);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 && status == 0;
}

static int check_counters(const struct container_limits *l, int sysctls, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(counters); i++) {
        auto_free char *text = NULL;
        uint64_t n = field(l, counters[i].field), most;
        if (n == UINT64_MAX ||
            fd_read_file_at(sysctls, counters[i].file, 64, &text, NULL, NULL) < 0 ||
            number_parse(str_trim(text), 0, UINT64_MAX, &most, NULL) < 0 ||
            n + counters[i].own <= most)
            continue;
        return err_set(err, ERR_EXHAUSTED,
                       "%s: %llu is above what this node gives to one user, %llu; raise the "
                       "node's sysctl %s, or choose at most %llu",
                       counters[i].key, (unsigned long long)n,
                       (unsigned long long)(most - least(most, counters[i].own)), counters[i].file,
                       (unsigned long long)(most - least(most, counters[i].own)));
    }
    return 0;
}

int container_limits_check(const struct container_limits *l, struct err *err)
{
    auto_fd int sysctls = -1;
    int r;
    if ((r = process_check_limits(l, err)) < 0 || (r = limits_open_sysctls(&sysctls, err)) < 0 ||
        (r = check_counters(l, sysctls, err)) < 0)
        return r;
    if (l->dedup && !can_dedup())
        return err_set(err, ERR_UNSUPPORTED,
                       "memory.dedup: this kernel cannot merge the pages of a whole VE; Linux 6.7 "
                       "or newer with CONFIG_KSM can");
    return 0;
}
