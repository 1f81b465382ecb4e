/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bounds of the whole machine that one VE could use up for all others, because the kernel keeps
 * them neither by user namespace nor by cgroup.  Each object behind them is charged to the VE's
 * memory or bounded by VE, so they can be wide; teremd widens what is narrower, remembers what
 * was, and puts it back at `terem node stop` when no other instance is left.
 */
#include "base/fd.h"
#include "base/number.h"
#include "ve/instance.h"
#include "ve/internal.h"

#include <fcntl.h>
#include <inttypes.h>

static const struct {
    const char *name, *path;
    uint64_t wide;
} wanted[] = {
    /* a VE may mount a devpts of its own; 4096 by default (Documentation/filesystems/devpts) */
    {"kernel.pty.max", "/proc/sys/kernel/pty/max", 1048576},
    /* io_setup(2); 65536 by default (Documentation/admin-guide/sysctl/fs.rst) */
    {"fs.aio-max-nr", "/proc/sys/fs/aio-max-nr", 16777216},
    /* 32768 on small machines: eight VEs with the default of `processes` */
    {"kernel.pid_max", "/proc/sys/kernel/pid_max", 4194304},
    /* fragments that wait for the others: 4 MiB, which the 200 a second that a VE may send fill in
     * nine seconds, while they are kept for 30 (network/guard.c) */
    {"net.ipv4.ipfrag_high_thresh", "/proc/sys/net/ipv4/ipfrag_high_thresh", 67108864},
    {"net.netfilter.nf_conntrack_frag6_high_thresh",
     "/proc/sys/net/netfilter/nf_conntrack_frag6_high_thresh", 67108864},
};

static int read_number(const char *path, uint64_t *ret)
{
    auto_free char *text = NULL;
    struct err e;
    if (fd_read_file_at(AT_FDCWD, path, 64, &text, NULL, &e) < 0)
        return -e.kind;
    return number_parse(str_trim(text), 0, UINT64_MAX, ret, &e);
}

void ve_sysctls_raise(struct ve_node *node)
{
    struct err e;
    char key[64], text[32];
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
        uint64_t now;
        if (read_number(wanted[i].path, &now) < 0 || now >= wanted[i].wide)
            continue;
        str_print(key, sizeof(key), "sysctl.%s", wanted[i].name);
        str_print(text, sizeof(text), "%" PRIu64, now);
        if (registry_meta_set(node->registry, key, text, &e) < 0 ||
            fd_write_value_at(AT_FDCWD, wanted[i].path, &e, "%" PRIu64, wanted[i].wide) < 0)
            log_warn(NULL, 0, "%s stays %s, and one VE may use it up for all: %s", wanted[i].name,
                     text, e.text);
    }
}

void ve_sysctls_put_back(struct ve_node *node)
{
    struct err e;
    char key[64];
    bool is_default = node->config.place.is_default;
    if (ve_instance_others() || (!is_default && access("/run/terem/teremd.sock", F_OK) == 0))
        return;
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
        auto_free char *before = NULL;
        uint64_t now, old;
        str_print(key, sizeof(key), "sysctl.%s", wanted[i].name);
        if (registry_meta_get(node->registry, key, &before, &e) < 0 || !before ||
            number_parse(before, 0, UINT64_MAX, &old, &e) < 0 ||
            read_number(wanted[i].path, &now) < 0 || now != wanted[i].wide)
            continue;
        if (fd_write_value_at(AT_FDCWD, wanted[i].path, &e, "%" PRIu64, old) < 0)
            log_warn(NULL, 0, "cannot put %s back: %s", wanted[i].name, e.text);
    }
}
