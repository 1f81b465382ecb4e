/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/caps.h"

#include "base/cleanup.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define APP (1u << CAPS_APPLICATION)
#define SYS (1u << CAPS_SYSTEM)

static const struct {
    unsigned char cap, profiles;
} kept[] = {
    {CAP_CHOWN, APP | SYS},            /* package managers give files to service users */
    {CAP_DAC_OVERRIDE, APP | SYS},     /* root reads and writes the files of its own users */
    {CAP_DAC_READ_SEARCH, SYS},        /* backup programs; open_by_handle_at is denied apart */
    {CAP_FOWNER, APP | SYS},           /* chmod of files of its users */
    {CAP_FSETID, APP | SYS},           /* setgid directories keep the bit when root writes */
    {CAP_KILL, APP | SYS},             /* stop services that run as other users */
    {CAP_SETGID, APP | SYS},           /* daemons drop to their group */
    {CAP_SETUID, APP | SYS},           /* daemons drop to their user; su, sudo, login */
    {CAP_SETPCAP, APP | SYS},          /* service managers bound what their services keep */
    {CAP_NET_BIND_SERVICE, APP | SYS}, /* ports below 1024 in its own network namespace */
    {CAP_NET_BROADCAST, SYS},          /* harmless, and unit files list it */
    {CAP_NET_ADMIN, SYS},              /* its own addresses, routes, firewall */
    {CAP_NET_RAW, APP | SYS},          /* ping; what leaves the VE is checked outside */
    {CAP_IPC_LOCK, SYS},               /* databases lock memory, within RLIMIT and cgroup */
    {CAP_IPC_OWNER, SYS},              /* root manages SysV objects of its own IPC namespace */
    {CAP_SYS_CHROOT, APP | SYS},       /* sshd, postfix, package scripts */
    {CAP_SYS_PTRACE, SYS},             /* debuggers, and ps on its users' processes */
    {CAP_SYS_ADMIN, SYS},              /* mount, namespaces and host name: services' sandboxes */
    {CAP_SYS_BOOT, SYS},               /* reboot(2) ends its own PID namespace, nothing else */
    {CAP_SYS_NICE, SYS},               /* renice and bind processes of its users */
    {CAP_MKNOD, APP | SYS},            /* only FIFOs and sockets succeed; installers expect it */
    {CAP_LEASE, SYS},                  /* samba's leases on files of its users */
    {CAP_AUDIT_WRITE, APP | SYS},      /* PAM stops a login when it may not even try */
    {CAP_SETFCAP, APP | SYS},          /* packages set file capabilities, bound to its ids */
};
/*
 * Dropped, because nothing in a VE can use them or nothing should: LINUX_IMMUTABLE,
 * SYS_MODULE, SYS_RAWIO, SYS_PACCT, SYS_RESOURCE (limits are the parameters' business),
 * SYS_TIME, SYS_TTY_CONFIG, AUDIT_CONTROL, AUDIT_READ, MAC_OVERRIDE, MAC_ADMIN, SYSLOG,
 * WAKE_ALARM, BLOCK_SUSPEND, PERFMON, BPF, CHECKPOINT_RESTORE, and whatever is invented next.
 */

bool caps_kept(enum caps_profile profile, int cap)
{
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
        if (kept[i].cap == cap)
            return kept[i].profiles & (1u << profile);
    return false;
}

static int set_caps(uint64_t permitted, struct err *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)permitted, .permitted = (uint32_t)permitted},
        {.effective = (uint32_t)(permitted >> 32), .permitted = (uint32_t)(permitted >> 32)},
    };
    if (syscall(SYS_capset, &header, data) < 0)
        return err_sys(err, "cannot set capabilities");
    return 0;
}

int caps_bound(enum caps_profile profile, struct err *err)
{
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return err_sys(err, "cannot clear ambient capabilities");
    for (int cap = 0; cap < 64; cap++) {
        if (caps_kept(profile, cap))
            continue;
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
            if (errno == EINVAL) /* above the last that this kernel knows */
                break;
            return err_sys(err, "cannot drop capability %d", cap);
        }
    }
    return 0;
}

int caps_apply(enum caps_profile profile, struct err *err)
{
    uint64_t mask = 0;
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
        if (kept[i].profiles & (1u << profile))
            mask |= UINT64_C(1) << kept[i].cap;
    return set_caps(mask, err);
}

int caps_drop_all(struct err *err)
{
    return set_caps(0, err);
}

bool caps_effective(int cap)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    return syscall(SYS_capget, &header, data) == 0 &&
           (data[cap / 32].effective & (UINT32_C(1) << (cap % 32)));
}
