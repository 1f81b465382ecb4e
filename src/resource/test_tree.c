/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "resource/test_tree.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

int __real_mkdirat(int fd, const char *name, mode_t mode);
int __wrap_mkdirat(int fd, const char *name, mode_t mode);
int __real_unlinkat(int fd, const char *name, int flags);
int __wrap_unlinkat(int fd, const char *name, int flags);

static char dir[64];
bool tree_plays;
const char *tree_lacks;

static void put(int fd, const char *file, const char *text)
{
    if (tree_lacks && strcmp(file, tree_lacks) == 0)
        return;
    auto_fd int f = openat(fd, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(f >= 0);
    assert_int_equal(fd_write_all(f, text, strlen(text), NULL), 0);
}

static void put_v2(int fd, const char *controllers)
{
    put(fd, "cgroup.procs", "");
    put(fd, "cgroup.threads", "");
    put(fd, "cgroup.subtree_control", "");
    put(fd, "cgroup.controllers", controllers);
    put(fd, "cgroup.events", "populated 0\nfrozen 0\n");
    put(fd, "cgroup.max.descendants", "max\n");
    put(fd, "cgroup.max.depth", "max\n");
    if (strstr(controllers, "cpu")) {
        put(fd, "cpu.max", "max 100000\n");
        put(fd, "cpu.max.burst", "0\n");
        put(fd, "cpu.weight", "100\n");
    }
    if (strstr(controllers, "pids"))
        put(fd, "pids.max", "max\n");
    if (strstr(controllers, "io")) {
        put(fd, "io.max", "");
        put(fd, "io.weight", "default 100\n");
        put(fd, "io.bfq.weight", "100\n");
    }
    for (size_t i = 0; strstr(controllers, "hugetlb") && i < 2; i++) {
        static const char *const sizes[] = {"2MB", "1GB"}, *const ends[] = {
                                                               ".max",     ".rsvd.max",
                                                               ".current", ".rsvd.current",
                                                               ".events",  ".events.local"};
        for (size_t k = 0; k < ARRAY_SIZE(ends); k++) {
            char file[64];
            str_print(file, sizeof(file), "hugetlb.%s%s", sizes[i], ends[k]);
            put(fd, file, k < 2 ? "max\n" : k < 4 ? "0\n" : "max 0\n");
        }
    }
    if (strstr(controllers, "memory")) {
        put(fd, "memory.max", "max\n");
        put(fd, "memory.high", "max\n");
        put(fd, "memory.min", "0\n");
        put(fd, "memory.swap.max", "max\n");
        put(fd, "memory.current", "0\n");
        put(fd, "memory.reclaim", "");
    }
}

static void put_v1(int fd)
{
    put(fd, "cgroup.procs", "");
    put(fd, "tasks", ""); /* which tells v1 from v2 */
    put(fd, "cpu.cfs_quota_us", "-1\n");
    put(fd, "cpu.cfs_burst_us", "0\n");
    put(fd, "cpu.shares", "1024\n");
    put(fd, "pids.max", "max\n");
    put(fd, "blkio.throttle.read_bps_device", "");
    put(fd, "blkio.throttle.read_iops_device", "");
    put(fd, "blkio.throttle.write_bps_device", "");
    put(fd, "blkio.throttle.write_iops_device", "");
    put(fd, "memory.limit_in_bytes", "9223372036854771712\n");
    put(fd, "memory.soft_limit_in_bytes", "9223372036854771712\n");
    put(fd, "memory.kmem.tcp.limit_in_bytes", "9223372036854771712\n");
    put(fd, "memory.memsw.limit_in_bytes", "9223372036854771712\n");
}

int __wrap_mkdirat(int fd, const char *name, mode_t mode)
{
    int r = __real_mkdirat(fd, name, mode);
    auto_fd int child = r < 0 ? -1 : openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (child < 0)
        return r;
    if (faccessat(fd, "tasks", F_OK, 0) == 0) {
        put_v1(child);
    } else if (faccessat(fd, "cgroup.procs", F_OK, 0) == 0) {
        char enabled[128] = "";
        /* The node's parent gets its files when it enables controllers above; here at once. */
        cgroup_read(fd, str_eq(name, "terem") ? "cgroup.controllers" : "cgroup.subtree_control",
                    enabled, sizeof(enabled), NULL);
        put_v2(child, enabled);
    }
    return r;
}

int __wrap_unlinkat(int fd, const char *name, int flags)
{
    if (!tree_plays)
        return __real_unlinkat(fd, name, flags);
    auto_fd int d = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    auto_dir DIR *list = d < 0 || !(flags & AT_REMOVEDIR) ? NULL : fdopendir(dup(d));
    bool has_child = false;
    for (struct dirent *e; list && (e = readdir(list));)
        has_child |= e->d_type == DT_DIR && e->d_name[0] != '.';
    if (has_child) { /* as the kernel says */
        errno = EBUSY;
        return -1;
    }
    if (list)
        rewinddir(list);
    for (struct dirent *e; list && (e = readdir(list));)
        if (e->d_type == DT_REG)
            __real_unlinkat(d, e->d_name, 0);
    return __real_unlinkat(fd, name, flags);
}

void make_top(const char *name, bool v2, const char *controllers)
{
    char path[128];
    str_print(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(mkdir(path, 0755), 0);
    auto_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (v2)
        put_v2(fd, controllers);
    else
        put_v1(fd);
}

/* mounts: lines of mountinfo, with @ for the directory. */
void open_node(const char *mounts, struct resource_node **ret)
{
    static const char cgroups[] = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"
                                  "cpu\t1\t1\t1\ncpuacct\t1\t1\t1\nmemory\t1\t1\t1\n"
                                  "pids\t1\t1\t1\nblkio\t1\t1\t1\nhugetlb\t0\t1\t0\n";
    auto_str struct str s = str_init(4096);
    struct cgroup_map map;
    struct err e = {0};
    for (const char *p = mounts; *p; p++)
        str_add(&s, *p == '@' ? "%s" : "%.1s", *p == '@' ? dir : p);
    if (cgroup_map_parse(str_c(&s), cgroups, &map, &e) < 0 ||
        resource_node_open_map("terem", &map, ret, &e) < 0)
        fail_msg("%s", e.text);
}

const char *tree_path(const char *path, char buf[256])
{
    str_print(buf, 256, "%s/%s", dir, path);
    return buf;
}

void write_at(const char *path, const char *text)
{
    char full[256];
    str_print(full, sizeof(full), "%s/%s", dir, path);
    put(AT_FDCWD, full, text);
}

/* The first line, since a shorter value does not shorten an ordinary file. */
void expect(const char *path, const char *want)
{
    char full[256], text[256];
    str_print(full, sizeof(full), "%s/%s", dir, path);
    if (cgroup_read(AT_FDCWD, full, text, sizeof(text), NULL) < 0)
        fail_msg("%s cannot be read", path);
    text[strcspn(text, "\n")] = '\0';
    if (strcmp(text, want) != 0)
        fail_msg("%s holds \"%s\", not \"%s\"", path, text, want);
}

void expect_gone(const char *path)
{
    char full[256];
    str_print(full, sizeof(full), "%s/%s", dir, path);
    assert_int_equal(access(full, F_OK), -1);
}

int tree_setup(void **state)
{
    tree_lacks = NULL;
    tree_plays = true;
    str_print(dir, sizeof(dir), "/tmp/terem-shapes-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

int tree_teardown(void **state)
{
    tree_lacks = NULL;
    tree_plays = false;
    return path_remove_tree_at(AT_FDCWD, dir, NULL);
}

void put_all(struct param_set *set, const char *const *texts)
{
    param_set_init(set);
    for (; *texts; texts++)
        assert_int_equal(param_set_parse(set, *texts, NULL), 0);
}

void expect_count(struct param_count c, bool known, uint64_t n)
{
    assert_int_equal(c.known, known);
    assert_int_equal(c.n, n);
}
