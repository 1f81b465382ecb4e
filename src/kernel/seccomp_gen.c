/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * seccomp_gen — writes seccomp_tables.h: the deny list below as BPF programs.  Run by the build.
 *
 * Everything that is not listed is allowed: the user namespace refuses what needs power over the
 * machine, and servers use most of the rest.  Listed is (1) what reaches what namespaces do not
 * divide, (2) what only ever served to attack the kernel, (3) what a single service never needs.
 * EPERM where programs expect to be refused, ENOSYS where they have another way without it.
 */
#include "base/cleanup.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define A   1u /* application */
#define S   2u /* system */
#define N   4u /* nesting */
#define ALL (A | S | N)

static const struct {
    const char *name;
    int error;
    unsigned policies;
} denied[] = {
    /* Another kernel, or code in this one: the machine is everybody's. */
    {"kexec_load", EPERM, ALL},
    {"kexec_file_load", EPERM, ALL},
    {"init_module", EPERM, ALL},
    {"finit_module", EPERM, ALL},
    {"delete_module", EPERM, ALL},
    {"create_module", ENOSYS, ALL},
    {"query_module", ENOSYS, ALL},
    {"get_kernel_syms", ENOSYS, ALL},
    {"iopl", EPERM, ALL},
    {"ioperm", EPERM, ALL},
    /* Opens files by inode number, around every mount ("shocker", 2014). */
    {"open_by_handle_at", EPERM, ALL},
    /* Reads the host's kernel log wherever dmesg_restrict is off. */
    {"syslog", EPERM, ALL},
    /* The machine's swap and accounting. */
    {"swapon", EPERM, ALL},
    {"swapoff", EPERM, ALL},
    {"acct", EPERM, ALL},
    /* Counts what neighbours do (side channels), and a long record of holes. */
    {"perf_event_open", EPERM, ALL},
    /* Holds the kernel at a chosen instruction: the tool of most races. */
    {"userfaultfd", ENOSYS, ALL},
    /* Work outside of the system call path, so that this filter does not see it, and a long
     * record of holes; databases and run-times fall back without it. */
    {"io_uring_setup", ENOSYS, ALL},
    {"io_uring_enter", ENOSYS, ALL},
    {"io_uring_register", ENOSYS, ALL},
    /* A fresh session keyring is joined before; the rest of the interface is a record of holes
     * and falls back to files everywhere.  Container engines inside want their own keyring. */
    {"keyctl", ENOSYS, A | S},
    {"add_key", ENOSYS, A | S},
    {"request_key", ENOSYS, A | S},
    /* Needs power over the machine for all but cgroup programs; service managers and engines
     * try it and go on. */
    {"bpf", EPERM, A | S},
    /* 32-bit x86 alone has it, and hides from a filter which family is opened and which option is
     * set.  ENOSYS: since Linux 4.3 there is a call for each, which musl and Go use; Debian's i386
     * C library knows only this one, so its programs have no network here. */
    {"socketcall", ENOSYS, ALL},
    /* Old calls that nothing has used for decades. */
    {"uselib", ENOSYS, ALL},
    {"ustat", ENOSYS, ALL},
    {"sysfs", ENOSYS, ALL},
    {"_sysctl", ENOSYS, ALL},
    {"lookup_dcookie", ENOSYS, ALL},
    {"nfsservctl", ENOSYS, ALL},
    {"vm86", ENOSYS, ALL},
    {"vm86old", ENOSYS, ALL},
    /* One service needs no mounts; with a user namespace of its own it would get them. */
    {"mount", EPERM, A},
    {"umount", EPERM, A},
    {"umount2", EPERM, A},
    {"pivot_root", EPERM, A},
    {"fsopen", EPERM, A},
    {"fspick", EPERM, A},
    {"fsconfig", EPERM, A},
    {"fsmount", EPERM, A},
    {"move_mount", EPERM, A},
    {"open_tree", EPERM, A},
    {"mount_setattr", EPERM, A},
    {"setns", EPERM, A},
    /* Its flags are in memory, where a filter cannot look; libraries fall back to clone. */
    {"clone3", ENOSYS, A},
};

/* Told to whoever answers for the machine (seccomp.h): sysinfo(2) says how much memory, swap and
 * processes the machine has, and how long it runs, where the VE's own are meant; /proc's files of
 * lxcfs do not reach it. */
static const char *const told[] = {"sysinfo"};
/* The same for VEs with a limit on disk space where the file system does not say it itself. */
static const char *const told_disk[] = {"statfs"};

/* Puts characters into the input of another program on the same terminal (TIOCSTI), or asks a
 * virtual console to (TIOCLINUX).  The kernel takes 32 bits of the number: compare only those. */
static const unsigned long denied_ioctls[] = {TIOCSTI, TIOCLINUX};

/* Families that a server speaks.  The others load kernel modules on demand that are seldom looked
 * after; AF_VSOCK even reaches the hypervisor around every namespace. */
static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET};

/* Rings of AF_PACKET sockets: pages that stay as long as the socket and that no memory cgroup
 * counts (alloc_pg_vec() in net/packet/af_packet.c, up to 6.18).  ENOPROTOOPT is what a kernel
 * without rings says: DHCP clients, arping and libpcap before 1.10 then read packet by packet;
 * libpcap from 1.10 on (tcpdump) gives up, and captures at the VE's interface outside. */
static const int denied_packet_options[] = {PACKET_RX_RING, PACKET_TX_RING};

static const unsigned long namespace_flags[] = {CLONE_NEWUSER,  CLONE_NEWNS,  CLONE_NEWPID,
                                                CLONE_NEWNET,   CLONE_NEWUTS, CLONE_NEWIPC,
                                                CLONE_NEWCGROUP};

static int add_conditional(scmp_filter_ctx ctx, unsigned policy)
{
    int r = 0;
    for (size_t i = 0; i < ARRAY_SIZE(denied_ioctls) && r == 0; i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                             SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, denied_ioctls[i]));
    for (int family = 0; family < AF_MAX && r == 0; family++) {
        bool allowed = false;
        for (size_t i = 0; i < ARRAY_SIZE(families); i++)
            allowed |= families[i] == family;
        if (!allowed)
            r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                 SCMP_A0(SCMP_CMP_MASKED_EQ, 0xffffffffu, (scmp_datum_t)family));
    }
    for (size_t i = 0; i < ARRAY_SIZE(denied_packet_options) && r == 0; i++)
        r = seccomp_rule_add(
            ctx, SCMP_ACT_ERRNO(ENOPROTOOPT), SCMP_SYS(setsockopt), 2,
            SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, SOL_PACKET),
            SCMP_A2(SCMP_CMP_MASKED_EQ, 0xffffffffu, (scmp_datum_t)denied_packet_options[i]));
    /* IPsec policies and states are charged to nobody (kzalloc in net/xfrm/xfrm_policy.c, seen on
     * 6.18): one process took 360 MB of the machine in 15 s past a memory.limit of 64M. */
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPROTONOSUPPORT), SCMP_SYS(socket), 2,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, 0xffffffffu, AF_NETLINK),
                             SCMP_A2(SCMP_CMP_MASKED_EQ, 0xffffffffu, NETLINK_XFRM));
    if (policy != A)
        return r;
    for (size_t i = 0; i < ARRAY_SIZE(namespace_flags) && r == 0; i++) {
        unsigned long flag = namespace_flags[i];
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, flag, flag));
        if (r == 0)
            r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                                 SCMP_A0(SCMP_CMP_MASKED_EQ, flag, flag));
    }
    if (r == 0) /* CLONE_NEWTIME lies in clone(2)'s exit signal and is a flag only here */
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, 0x80, 0x80));
    return r;
}

static int add_told(scmp_filter_ctx ctx, const char *name)
{
    return seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, seccomp_syscall_resolve_name(name), 0);
}

static int build(scmp_filter_ctx ctx, unsigned policy, bool disk)
{
    /* Another architecture's numbers (x32) mean other calls: they do not exist here. */
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
    if (r == 0) /* no_new_privs is the caller's decision */
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
    if (r == 0) /* a binary tree */
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
#ifdef __x86_64__
    /* 32-bit programs run, under the same list. */
    if (r == 0)
        r = seccomp_arch_add(ctx, SCMP_ARCH_X86);
#elif defined __aarch64__
    if (r == 0)
        r = seccomp_arch_add(ctx, SCMP_ARCH_ARM);
#endif
    for (size_t i = 0; i < ARRAY_SIZE(denied) && r == 0; i++) {
        if (!(denied[i].policies & policy))
            continue;
        int nr = seccomp_syscall_resolve_name(denied[i].name);
        if (nr == __NR_SCMP_ERROR) {
            fprintf(stderr, "seccomp_gen: %s: unknown to libseccomp\n", denied[i].name);
            return -EINVAL;
        }
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO((uint32_t)denied[i].error), nr, 0);
        if (r < 0)
            fprintf(stderr, "seccomp_gen: %s: %s\n", denied[i].name, strerror(-r));
    }
    for (size_t i = 0; i < ARRAY_SIZE(told) && r == 0; i++)
        r = add_told(ctx, told[i]);
    for (size_t i = 0; i < ARRAY_SIZE(told_disk) && r == 0 && disk; i++)
        r = add_told(ctx, told_disk[i]);
    return r < 0 ? r : add_conditional(ctx, policy);
}

static int write_table(FILE *out, const char *name, unsigned policy, bool disk)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    auto_file FILE *tmp = tmpfile();
    int r = ctx && tmp ? build(ctx, policy, disk) : -ENOMEM;
    if (r == 0)
        r = seccomp_export_bpf(ctx, fileno(tmp));
    if (ctx)
        seccomp_release(ctx);
    if (r < 0)
        return r;
    rewind(tmp);
    fprintf(out, "static const struct sock_filter seccomp_%s%s[] = {\n", name, disk ? "_disk" : "");
    struct sock_filter f;
    while (fread(&f, sizeof(f), 1, tmp) == 1)
        fprintf(out, "    {0x%04x, %u, %u, 0x%08xu},\n", f.code, f.jt, f.jf, f.k);
    fprintf(out, "};\n");
    return 0;
}

int main(int argc, char **argv)
{
    auto_file FILE *out = argc == 2 ? fopen(argv[1], "we") : NULL;
    if (!out) {
        fprintf(stderr, "usage: seccomp_gen FILE\n");
        return 2;
    }
    fprintf(out, "/* Made by seccomp_gen; do not edit. */\n#include <linux/filter.h>\n");
    int r = 0;
    for (int disk = 0; disk < 2 && r == 0; disk++) {
        r = write_table(out, "application", A, disk);
        if (r == 0)
            r = write_table(out, "system", S, disk);
        if (r == 0)
            r = write_table(out, "nesting", N, disk);
    }
    if (r == 0 && fflush(out) != 0)
        r = -errno;
    if (r < 0)
        fprintf(stderr, "seccomp_gen: %s\n", strerror(-r));
    return r < 0 ? 1 : 0;
}
