/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * probe_inside — runs in a VE as part of the tests: tries what a VE must not do, one line each,
 * "name: refused (errno)" or "name: ALLOWED".  Static, without any room of Terem.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* linux/if_packet.h, which musl does not have */
#ifndef NETLINK_XFRM
#define NETLINK_XFRM 6
#endif
#ifndef PACKET_TX_RING
#define PACKET_RX_RING 5
#define PACKET_TX_RING 13
#endif
struct packet_ring {
    unsigned block_size, block_nr, frame_size, frame_nr;
};

#define KEYCTL_GET_KEYRING_ID    0
#define KEYCTL_DESCRIBE          6
#define KEYCTL_READ              11
#define KEY_SPEC_SESSION_KEYRING (-3)

static void tell(const char *name, long result)
{
    if (result < 0)
        printf("%s: refused (%s)\n", name, strerror(errno));
    else
        printf("%s: ALLOWED\n", name);
}

/* What a 32-bit program calls, made from here: int 0x80 takes its numbers and pointers. */
static long socketcall(int call, const int *args)
{
#ifdef __x86_64__
    long r;
    __asm__ volatile("int $0x80"
                     : "=a"(r)
                     : "a"(102L), "b"((long)call), "c"(args)
                     : "memory", "r8", "r9", "r10", "r11");
    errno = r < 0 ? (int)-r : 0;
    return r < 0 ? -1 : r;
#else
    errno = ENOSYS;
    return -1;
#endif
}

/* Three words where 32-bit pointers reach. */
static const int *low_words(int a, int b, int c)
{
    static int *low;
    if (!low)
        low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1,
                   0);
    low[0] = a;
    low[1] = b;
    low[2] = c;
    return low;
}

static void try_calls(void)
{
    char handle[512] = {8}; /* large enough for whatever a call that is let through writes */
    tell("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
    tell("init_module", syscall(SYS_init_module, "", 0, ""));
    tell("finit_module", syscall(SYS_finit_module, 0, "", 0));
    tell("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, handle, O_RDONLY));
    tell("syslog", syscall(SYS_syslog, 3, handle, sizeof(handle)));
    tell("perf_event_open", syscall(SYS_perf_event_open, handle, 0, -1, -1, 0));
    tell("userfaultfd", syscall(SYS_userfaultfd, 1));
    tell("io_uring_setup", syscall(SYS_io_uring_setup, 1, handle));
    tell("bpf", syscall(SYS_bpf, 0, handle, 64));
    tell("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
    tell("swapon", syscall(SYS_swapon, "/none", 0));
    tell("settimeofday", syscall(SYS_settimeofday, (long[2]){1, 0}, NULL));
    tell("sethostname-x32", syscall(0x40000000 | 170, "x", 1));
    tell("iopl", syscall(SYS_iopl, 3));
    tell("vsock", socket(40, SOCK_STREAM, 0));
    tell("alg", socket(38, SOCK_SEQPACKET, 0));
    tell("xfrm", socket(AF_NETLINK, SOCK_RAW, NETLINK_XFRM));
    tell("vsock-32", socketcall(1 /* SYS_SOCKET */, low_words(40, SOCK_STREAM, 0)));
    tell("xfrm-32", socketcall(1, low_words(AF_NETLINK, SOCK_RAW, NETLINK_XFRM)));
    tell("quotactl", syscall(SYS_quotactl, 0x800001, "/", 0, 0)); /* Q_SYNC of one device */
}

/* Memory that no cgroup counts: a megabyte for each ring. */
static void try_rings(void)
{
    static const int options[] = {PACKET_RX_RING, PACKET_TX_RING};
    static const char *const names[] = {"packet-rx-ring", "packet-tx-ring"};
    struct low { /* where 32-bit pointers reach */
        int args[5];
        struct packet_ring req;
    } *low =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (low == MAP_FAILED)
        return;
    low->req = (struct packet_ring){1 << 20, 1, 2048, 512};
    for (int i = 0; i < 2; i++) {
        char old[64];
        int s = socket(AF_PACKET, SOCK_RAW, 0);
        if (s < 0) {
            tell(names[i], s);
            continue;
        }
        tell(names[i], setsockopt(s, SOL_PACKET, options[i], &low->req, sizeof(low->req)));
        snprintf(old, sizeof(old), "%s-32", names[i]);
        const int ring[] = {s, SOL_PACKET, options[i], (int)(long)&low->req, sizeof(low->req)};
        memcpy(low->args, ring, sizeof(ring));
        tell(old, socketcall(14 /* SYS_SETSOCKOPT */, low->args));
        close(s);
    }
}

static void try_terminal(void)
{
    int ctl = open("/dev/tty", O_RDWR);
    tell("TIOCSTI", ioctl(ctl >= 0 ? ctl : 0, TIOCSTI, "x"));
    /* The kernel looks at 32 bits only; a filter that looks at 64 is led astray. */
    tell("TIOCSTI-high", syscall(SYS_ioctl, ctl >= 0 ? ctl : 0, 0x100000000UL | TIOCSTI, "x"));
    char twelve = 12;
    tell("TIOCLINUX", ioctl(0, TIOCLINUX, &twelve));
}

static void try_files(void)
{
    tell("mknod-disk", mknod("/tmp/disk", S_IFBLK | 0600, makedev(8, 0)));
    tell("mknod-dev", mknod("/dev/disk", S_IFBLK | 0600, makedev(8, 0)));
    tell("mknod-mem", mknod("/tmp/mem", S_IFCHR | 0600, makedev(1, 1)));
    tell("sysrq", open("/proc/sysrq-trigger", O_WRONLY | O_TRUNC) >= 0 &&
                          write(open("/proc/sysrq-trigger", O_WRONLY), "h", 1) < 0
                      ? -1
                      : (errno = EACCES, -1));
    tell("core_pattern", open("/proc/sys/kernel/core_pattern", O_WRONLY));
    tell("modprobe", open("/proc/sys/kernel/modprobe", O_WRONLY));
    tell("uevent_helper", open("/sys/kernel/uevent_helper", O_WRONLY));
    tell("kmsg", open("/proc/kmsg", O_RDONLY));
    tell("write-init", open("/proc/1/exe", O_WRONLY));
    tell("remount-dev", mount("", "/dev", "", MS_REMOUNT, "size=1g"));
}

/* Serials and descriptions of our session keyring, where keyctl is there (nesting). */
static void show_keyring(void)
{
    char text[256];
    long id = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
    long n = id < 0 ? -1 : syscall(SYS_keyctl, KEYCTL_DESCRIBE, id, text, sizeof(text));
    if (n > 0)
        printf("%s\n", text);
    n = id < 0 ? -1 : syscall(SYS_keyctl, KEYCTL_READ, id, text, sizeof(text));
    printf("keys %ld\n", n / 4);
}

/* On a machine itself some of these would succeed, and do harm. */
static int in_user_namespace(void)
{
    char text[64] = "";
    int fd = open("/proc/self/uid_map", O_RDONLY);
    unsigned inside, outside, count;
    return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 &&
           sscanf(text, "%u %u %u", &inside, &outside, &count) == 3 && count != UINT32_MAX;
}

int main(int argc, char **argv)
{
    if (!in_user_namespace()) {
        fputs("probe_inside: for use in a VE only\n", stderr);
        return 2;
    }
    if (argc > 1 && strcmp(argv[1], "who") == 0) {
        int raw = socket(AF_INET, SOCK_RAW, 1 /* ICMP */);
        printf("uid %u %u, raw socket %s\n", getuid(), geteuid(), raw < 0 ? "refused" : "made");
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "keyring") == 0) {
        show_keyring();
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "stop") == 0)
        for (;;) /* whoever enters, before it can execute */
            kill(-1, SIGSTOP);
    try_calls();
    try_rings();
    try_terminal();
    try_files();
    return 0;
}
