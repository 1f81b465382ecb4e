/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * use_inside WHAT EACH [USERS [hold]] — runs in a VE as part of the tests: takes things that a
 * parameter bounds, at most EACH by each of USERS users (1 by default, the first is root), and
 * prints how many it got of all and why it got no more: "30 ENOSPC", or "all".  With
 * "hold" it then keeps them until it is killed.  Static, without any room of Terem.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

static int user; /* number of the one that tries */

static long take_inotify(int i)
{
    return inotify_init1(0);
}

static long take_watch(int i)
{
    static int fd = -1;
    char path[64];
    if (fd < 0 && (fd = inotify_init1(0)) < 0)
        return -1;
    snprintf(path, sizeof(path), "/tmp/watch-%d-%d", user, i);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return -1;
    return inotify_add_watch(fd, path, IN_CREATE);
}

/* A namespace lives as long as a process in it. */
static long take_namespace(int flag)
{
    int pair[2];
    char c = 1;
    if (pipe(pair) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        c = unshare(flag) < 0 ? (char)errno : 0;
        if (write(pair[1], &c, 1) < 0)
            _exit(1);
        close(pair[1]);
        if (c == 0)
            pause();
        _exit(0);
    }
    close(pair[1]);
    if (pid < 0 || read(pair[0], &c, 1) != 1)
        c = EIO;
    close(pair[0]);
    errno = c;
    return c ? -1 : 0;
}

static long take_net(int i)
{
    return take_namespace(CLONE_NEWNET);
}

static long take_mnt(int i)
{
    return take_namespace(CLONE_NEWNS);
}

static long take_ipc(int i)
{
    return take_namespace(CLONE_NEWIPC);
}

static long take_user(int i)
{
    return take_namespace(CLONE_NEWUSER);
}

static long take_uts(int i)
{
    return take_namespace(CLONE_NEWUTS);
}

static long take_cgroup(int i)
{
    return take_namespace(CLONE_NEWCGROUP);
}

static long take_pid(int i)
{
    return take_namespace(CLONE_NEWPID);
}

static long take_time(int i)
{
    return take_namespace(CLONE_NEWTIME);
}

static long take_signal(int i)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i});
}

static long take_queue(int i)
{
    return msgget(IPC_PRIVATE, IPC_CREAT | 0600);
}

static long take_posix_queue(int i)
{
    struct {
        long flags, max, size, now, reserved[4];
    } attr = {.max = 1, .size = 8};
    char name[32];
    snprintf(name, sizeof(name), "use-%d-%d", user, i);
    return syscall(SYS_mq_open, name, O_CREAT | O_RDWR, 0600, &attr);
}

static long take_semaphores(int i)
{
    return semget(IPC_PRIVATE, 10, IPC_CREAT | 0600);
}

static long take_segment(int i)
{
    return shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
}

static long take_shared(int i) /* MiB of System V memory */
{
    int id = shmget(IPC_PRIVATE, 1 << 20, IPC_CREAT | 0600);
    return id;
}

static long take_shm_file(int i) /* MiB in /dev/shm */
{
    static char block[1 << 20];
    char path[64];
    snprintf(path, sizeof(path), "/dev/shm/use-%d", user);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    memset(block, 1, sizeof(block));
    ssize_t n = fd < 0 ? -1 : write(fd, block, sizeof(block));
    if (n >= 0 && n < (ssize_t)sizeof(block)) {
        errno = ENOSPC;
        n = -1;
    }
    if (fd >= 0)
        close(fd);
    return n;
}

static long take_pty(int i)
{
    return open("/dev/ptmx", O_RDWR | O_NOCTTY);
}

static long take_file(int i)
{
    return open("/dev/null", O_RDONLY);
}

static long take_locked(int i) /* MiB */
{
    void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? -1 : mlock(p, 1 << 20);
}

static long take_locked_segment(int i) /* MiB */
{
    int id = shmget(IPC_PRIVATE, 1 << 20, IPC_CREAT | 0600);
    return id < 0 ? -1 : shmctl(id, SHM_LOCK, NULL);
}

static long take_memory(int i) /* MiB of pages of which many are equal */
{
    char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int k = 0; p != MAP_FAILED && k < 256; k++)
        memset(p + k * 4096, 1 + k % 100, 4096);
    return p == MAP_FAILED ? -1 : 0;
}

static long take_merging(int i) /* the kernel may merge our pages: kept over fork and exec */
{
    errno = 0;
    return prctl(68 /* PR_GET_MEMORY_MERGE */, 0, 0, 0, 0) == 1 ? 0 : -1;
}

static const struct {
    const char *name;
    long (*take)(int i);
} things[] = {
    {"inotify", take_inotify},
    {"watches", take_watch},
    {"net", take_net},
    {"mnt", take_mnt},
    {"ipc", take_ipc},
    {"user", take_user},
    {"uts", take_uts},
    {"cgroup", take_cgroup},
    {"pid", take_pid},
    {"time", take_time},
    {"signals", take_signal},
    {"queues", take_queue},
    {"posix-queues", take_posix_queue},
    {"semaphores", take_semaphores},
    {"segments", take_segment},
    {"shared", take_shared},
    {"shm-files", take_shm_file},
    {"ptys", take_pty},
    {"files", take_file},
    {"locked", take_locked},
    {"memory", take_memory},
    {"merging", take_merging},
    {"locked-segments", take_locked_segment},
};

/* The C libraries say these differently. */
static const char *name_of(int error)
{
    static const struct {
        int error;
        const char *name;
    } names[] = {{0, "all"},         {EMFILE, "EMFILE"}, {ENOSPC, "ENOSPC"},
                 {EAGAIN, "EAGAIN"}, {ENOMEM, "ENOMEM"}, {EPERM, "EPERM"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].error == error)
            return names[i].name;
    return strerror(error);
}

struct got {
    int n, error;
};

/* As one user, in a process that lives on with what it has. */
static void try_as(int number, long (*take)(int), int each, int out)
{
    struct got got = {0};
    user = number;
    if (number > 0 && (setgid(1000 + number) < 0 || setuid(1000 + number) < 0))
        _exit(1);
    while (got.n < each && take(got.n) >= 0)
        got.n++;
    got.error = got.n < each ? errno : 0;
    if (write(out, &got, sizeof(got)) != sizeof(got))
        _exit(1);
    close(out);
    pause();
    _exit(0);
}

int main(int argc, char **argv)
{
    long (*take)(int) = NULL;
    for (size_t i = 0; argc > 2 && i < sizeof(things) / sizeof(things[0]); i++)
        if (strcmp(things[i].name, argv[1]) == 0)
            take = things[i].take;
    if (!take) {
        fputs("use_inside WHAT EACH [USERS [hold]]\n", stderr);
        return 2;
    }
    int each = (int)strtoul(argv[2], NULL, 10),
        users = argc > 3 ? (int)strtoul(argv[3], NULL, 10) : 1;
    int total = 0, error = 0, pair[2];
    setpgid(0, 0); /* all of it ends with one signal to the group */
    if (pipe(pair) < 0)
        return 1;
    for (int i = 0; i < users; i++) {
        struct got got;
        pid_t pid = fork();
        if (pid == 0) {
            close(pair[0]);
            try_as(i, take, each, pair[1]);
        }
        if (pid < 0 || read(pair[0], &got, sizeof(got)) != sizeof(got))
            return 1;
        total += got.n;
        error = got.error;
    }
    printf("%d %s\n", total, name_of(error));
    fflush(stdout);
    if (argc > 4)
        pause();
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
    while (wait(NULL) > 0)
        ;
    return 0;
}
