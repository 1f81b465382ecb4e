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
#include "ve/rows.h"

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
    /* what the rows inotify.* may give: counted for the owner of each VE's namespace as well; 128
     * and 8192 are usual (fs/notify/inotify/inotify_user.c, fanotify_user.c) */
    {"fs.inotify.max_user_instances", "/proc/sys/fs/inotify/max_user_instances", 65536},
    {"fs.inotify.max_user_watches", "/proc/sys/fs/inotify/max_user_watches", 4194304},
    {"fs.fanotify.max_user_groups", "/proc/sys/fs/fanotify/max_user_groups", 65536},
    {"fs.fanotify.max_user_marks", "/proc/sys/fs/fanotify/max_user_marks", 4194304},
};

/* 0: at rest, 1: merging (Documentation/admin-guide/mm/ksm.rst). */
static const char ksm_run[] = "/sys/kernel/mm/ksm/run";

static int read_number(const char *path, uint64_t *ret)
{
    auto_free char *text = NULL;
    struct err e;
    if (fd_read_file_at(AT_FDCWD, path, 64, &text, NULL, &e) < 0)
        return -e.kind;
    return number_parse(str_trim(text), 0, UINT64_MAX, ret, &e);
}

/* Remembers what was before it writes. */
static void widen(struct ve_node *node, const char *name, const char *path, uint64_t wide,
                  const char *costs)
{
    struct err e;
    char key[64], text[32];
    uint64_t now;
    if (read_number(path, &now) < 0 || now >= wide)
        return;
    str_print(key, sizeof(key), "sysctl.%s", name);
    str_print(text, sizeof(text), "%" PRIu64, now);
    if (registry_meta_set(node->registry, key, text, &e) < 0 ||
        fd_write_value_at(AT_FDCWD, path, &e, "%" PRIu64, wide) < 0)
        log_warn(NULL, 0, "%s stays %s, and %s: %s", name, text, costs, e.text);
}

static void put_back(struct ve_node *node, const char *name, const char *path, uint64_t wide)
{
    struct err e;
    char key[64];
    auto_free char *before = NULL;
    uint64_t now, old;
    str_print(key, sizeof(key), "sysctl.%s", name);
    if (registry_meta_get(node->registry, key, &before, &e) < 0 || !before ||
        number_parse(before, 0, UINT64_MAX, &old, &e) < 0 || read_number(path, &now) < 0 ||
        now != wide)
        return;
    if (fd_write_value_at(AT_FDCWD, path, &e, "%" PRIu64, old) < 0)
        log_warn(NULL, 0, "cannot put %s back: %s", name, e.text);
}

void ve_sysctls_raise(struct ve_node *node)
{
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
        widen(node, wanted[i].name, wanted[i].path, wanted[i].wide, "one VE may use it up for all");
}

void ve_sysctls_dedup(struct ve_node *node)
{
    widen(node, "ksm", ksm_run, 1, "no memory is merged for memory.dedup");
}

void ve_sysctls_put_back(struct ve_node *node)
{
    bool is_default = node->config.place.is_default;
    if (ve_instance_others() || (!is_default && access("/run/terem/teremd.sock", F_OK) == 0))
        return;
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
        put_back(node, wanted[i].name, wanted[i].path, wanted[i].wide);
    put_back(node, "ksm", ksm_run, 1);
}
