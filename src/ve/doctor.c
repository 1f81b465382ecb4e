/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What this kernel and machine offer, and what each missing thing costs. */
#include "base/fd.h"
#include "ve/beside.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/pools.h"
#include "ve/rows.h"
#include "ve/sleep.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(json_t *list, const char *name, bool ok, const char *found, const char *costs,
                  const char *hint)
{
    json_array_append_new(list,
                          json_pack("{s:s, s:b, s:s, s:s, s:s}", "name", name, "ok", ok, "found",
                                    found, "costs", ok ? "" : costs, "hint", ok ? "" : hint));
}

static void check_kernel(json_t *list)
{
    struct utsname u;
    unsigned major = 0, minor = 0;
    uname(&u);
    const char *p = u.release;
    for (; *p >= '0' && *p <= '9'; p++)
        major = major * 10 + (unsigned)(*p - '0');
    if (*p == '.')
        for (p++; *p >= '0' && *p <= '9'; p++)
            minor = minor * 10 + (unsigned)(*p - '0');
    check(list, "kernel", major > 6 || (major == 6 && minor >= 1), u.release,
          "Terem is written and tested for Linux 6.1 and newer",
          "install a newer kernel (Debian 12 and 13 have one)");
}

static void check_cgroups(json_t *list, struct ve_node *node)
{
    static const struct {
        const char *name, *costs;
    } controllers[] = {
        {"memory", "memory.limit and every other memory row are refused"},
        {"cpu", "cpu.limit and the other cpu rows are refused"},
        {"pids", "the row \"processes\" is refused: a fork bomb is held by nothing else"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(controllers); i++) {
        char name[48];
        enum resource_where where = resource_controller(node->resources, controllers[i].name);
        str_print(name, sizeof(name), "cgroup controller %s", controllers[i].name);
        check(list, name, where != RESOURCE_ABSENT,
              where == RESOURCE_V2   ? "cgroup v2"
              : where == RESOURCE_V1 ? "cgroup v1"
                                     : "absent",
              controllers[i].costs, "boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1)");
    }
}

struct probed {
    struct container_support s;
    struct err error;
};

/* In a child of fork(2), which has one thread: what the probe makes by clone3(2) would be born with
 * the lock of malloc that another of our threads holds just then, and wait for it for ever. */
static int probe(struct ve_node *node, struct container_support *ret, struct err *err)
{
    struct probed p = {0};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(err, "cannot make a pipe");
    pid_t pid = ve_fork(node, &ends[1], 1, true);
    if (pid == 0) {
        container_probe(node->config.place.state, &p.s, &p.error);
        _exit(write(ends[1], &p, sizeof(p)) != sizeof(p));
    }
    close(ends[1]);
    ssize_t n = pid < 0 ? -1 : read(ends[0], &p, sizeof(p));
    close(ends[0]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (n != sizeof(p))
        return err_set(err, ERR_SYSTEM, "what the kernel can do could not be tried");
    *ret = p.s;
    if (p.error.kind != ERR_NONE)
        *err = p.error;
    return p.error.kind == ERR_NONE ? 0 : -p.error.kind;
}

static void check_container(json_t *list, struct ve_node *node)
{
    struct container_support s = {0};
    struct err e = {0};
    if (probe(node, &s, &e) < 0) {
        check(list, "containers", false, e.text, "no VE can start", "see the reason");
        return;
    }
    const struct {
        const char *name;
        bool ok;
        const char *costs, *hint;
    } rows[] = {
        {"user namespaces", s.userns, "no VE can start", "sysctl user.max_user_namespaces"},
        {"idmapped mounts", s.idmapped_mounts, "no VE can start on this file system",
         "put the state directory on ext4, xfs or btrfs"},
        {"overlay in user namespaces", s.overlay_userns, "no VE can start",
         "load the module overlay"},
        {"overlay layers by descriptor", s.overlay_fd_layers,
         "layers are passed as paths, which is a little slower", "Linux 6.13 has it"},
        {"cgroup namespaces", s.cgroupns, "a VE sees the host's cgroup names", "CONFIG_CGROUPS"},
        {"birth inside a cgroup", s.clone_into_cgroup, "starts are slower", "clone3(2)"},
        {"time namespaces", s.timens, "uptime inside is the host's", "CONFIG_TIME_NS"},
        {"exit status by descriptor", s.pidfd_info,
         "after a crash of teremd the exit status of a VE that ended meanwhile is unknown",
         "Linux 6.15 has it"},
        {"seccomp filters", s.seccomp, "system calls that a VE should not make are not denied",
         "CONFIG_SECCOMP_FILTER"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        check(list, rows[i].name, rows[i].ok, rows[i].ok ? "yes" : "no", rows[i].costs,
              rows[i].hint);
}

/* What is not on yet is no fault: teremd turns it on when it is needed (sysctl.c). */
static void check_dedup(json_t *list)
{
    auto_free char *run = NULL;
    struct container_limits l;
    memset(&l, 0xff, sizeof(l)); /* nothing else is asked for */
    l.dedup = true;
    bool ok = container_limits_check(&l, NULL) == 0;
    fd_read_file_at(AT_FDCWD, "/sys/kernel/mm/ksm/run", 16, &run, NULL, NULL);
    check(list, "merging of equal memory", ok,
          !ok                           ? "no"
          : run && str_starts(run, "1") ? "on"
                                        : "off until a VE with memory.dedup starts",
          "memory.dedup is refused", "Linux 6.7 or newer with CONFIG_KSM");
}

static int network_item(void *ctx, const char *sentence, struct err *err)
{
    check(ctx, "network", false, sentence, "VEs reach less of the network than they should",
          "terem doctor names the cause; put it right and restart teremd");
    return 0;
}

static void check_network(json_t *list, struct ve_node *node)
{
    size_t before = json_array_size(list);
    struct err e = {0};
    if (network_check(node->network, network_item, list, &e) < 0)
        check(list, "network", false, e.text, "it is not known whether VEs reach the network",
              "see the reason");
    else if (json_array_size(list) == before)
        check(list, "network", true, "nothing in its way", "", "");
}

static void check_classes(json_t *list, struct ve_node *node)
{
    static const char *const names[] = {"bandwidth outward", "bandwidth inward"};
    const char *why = network_count_why(node->network);
    check(list, "traffic by class", !why, why ? why : "counted by BPF",
          "traffic is counted by cable alone, and net.out.CLASS and net.in.CLASS are refused",
          "a kernel with CONFIG_NET_CLS_BPF and CONFIG_BPF_SYSCALL");
    for (size_t i = 0; i < ARRAY_SIZE(names) && !why; i++) {
        const char *lack = network_shape_why(node->network, i == 1);
        check(list, names[i], !lack, lack ? lack : "can be shared by HTB",
              i ? "net.in.CLASS is refused" : "net.out.CLASS is refused",
              "put it right and restart teremd");
    }
    const char *fifo = why ? NULL : network_shape_queue_why(node->network);
    check(list, "turns of flows", !fifo, fifo ? fifo : "by fq_codel",
          "where a VE's bandwidth is used up, its large transfers delay its small ones",
          "a kernel with CONFIG_NET_SCH_FQ_CODEL");
}

static void check_lxcfs(json_t *list, struct ve_node *node)
{
    char why[120];
    const char *runs = lxcfs_state(node);
    check(list, "lxcfs", runs, runs ? runs : lxcfs_missing(node, why, sizeof(why)),
          "VEs see the host's memory, processors and uptime in /proc",
          node->lxcfs ? "it is put back into the VEs by itself; see the log of teremd"
                      : "install the package lxcfs and restart teremd");
}

json_t *ve_doctor(struct ve_node *node)
{
    json_t *list = json_array();
    check_kernel(list);
    check_container(list, node);
    check_dedup(list);
    check_cgroups(list, node);
    ve_bpf_doctor(node, check, list);
    for (size_t i = 0; i < node->n_pools; i++)
        ve_pool_doctor(node, node->pools[i], check, list);
    check_network(list, node);
    check_classes(list, node);
    ve_sleep_doctor(node, check, list);
    check_lxcfs(list, node);
    check(list, "sysinfo(2)", answer_listens(node),
          answer_listens(node) ? "answered by teremd" : "answered by the kernel",
          "programs inside that ask by it (free of busybox) see the machine's memory",
          "see what teremd said when it began");
    check(list, "counters inside", node->inside != NULL,
          node->inside ? "/proc/fs/user_beancounters" : "not there",
          "a VE cannot read its own counters", "CONFIG_FANOTIFY_ACCESS_PERMISSIONS");
    check(list, "kernel log", node->oom != NULL, node->oom ? "readable" : "cannot be read",
          "a process killed for want of memory is counted, and no event names it",
          "let teremd read /dev/kmsg");
    check(list, "mmdebstrap", access("/usr/bin/mmdebstrap", X_OK) == 0,
          access("/usr/bin/mmdebstrap", X_OK) == 0 ? "installed" : "not installed",
          "Debian templates cannot be built", "install the package mmdebstrap");
    check(list, "busybox", access("/bin/busybox", X_OK) == 0,
          access("/bin/busybox", X_OK) == 0 ? "installed" : "not installed",
          "the built-in template busybox cannot be made", "install the package busybox-static");
    return json_pack("{s:o}", "checks", list);
}
