/* SPDX-License-Identifier: GPL-2.0-or-later */
/* holder — who keeps a mount in use, as far as /proc tells. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/path.h"
#include "base/str.h"
#include "storage/driver.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define COMM_MAX 64

static bool is_below(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    return strncmp(path, dir, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

static bool link_is_below(int dir, const char *name, const char *below)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
    if (n < 0)
        return false;
    target[n] = '\0';
    return is_below(target, below);
}

static bool has_open(int proc, const char *path)
{
    static const char *const links[] = {"cwd", "root"};
    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        if (link_is_below(proc, links[i], path))
            return true;
    int fd = openat(proc, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_dir DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (fd >= 0 && !d)
        close(fd);
    for (struct dirent *e; d && (e = readdir(d));)
        if (link_is_below(fd, e->d_name, path))
            return true;
    return false;
}

/* In a mount namespace that is not ours. */
static bool has_mounted(int proc, const char *device, const char *own_ns)
{
    char ns[64] = "", source[PATH_MAX];
    auto_free char *text = NULL;
    ssize_t n = readlinkat(proc, "ns/mnt", ns, sizeof(ns) - 1);
    if (n <= 0 || str_eq(ns, own_ns) ||
        fd_read_file_at(proc, "mountinfo", (size_t)16 << 20, &text, NULL, NULL) < 0)
        return false;
    str_print(source, sizeof(source), " %s ", device);
    return strstr(text, source) != NULL;
}

void image_holder(const char *path, const char *device, char *ret, size_t size)
{
    char own_ns[64] = "";
    auto_dir DIR *d = opendir("/proc");
    ssize_t n = readlink("/proc/self/ns/mnt", own_ns, sizeof(own_ns) - 1);
    *ret = '\0';
    for (struct dirent *e; d && n > 0 && (e = readdir(d));) {
        uint64_t pid;
        auto_free char *comm = NULL;
        if (number_parse(e->d_name, 1, INT_MAX, &pid, NULL) < 0 || pid == (uint64_t)getpid())
            continue;
        auto_fd int proc = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        bool elsewhere = proc >= 0 && has_mounted(proc, device, own_ns);
        if (!elsewhere && (proc < 0 || !has_open(proc, path)))
            continue;
        auto_str struct str name = str_init((size_t)4 * COMM_MAX + 1); /* its own choice */
        if (fd_read_file_at(proc, "comm", COMM_MAX, &comm, NULL, NULL) == 0)
            str_escape(&name, comm, strcspn(comm, "\n"));
        str_print(ret, size, "process %s (%s) %s", e->d_name, name.len ? str_c(&name) : "?",
                  elsewhere ? "has it mounted in a mount namespace of its own"
                            : "has a file of it open");
        return;
    }
}
