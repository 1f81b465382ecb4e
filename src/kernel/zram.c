/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/zram.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONTROL   "/sys/class/zram-control"
#define SWAPS_MAX 65536
#define PRIORITY  100 /* swap on disks has negative ones unless somebody says otherwise */

#define TRIES    50 /* who looks at new devices (udev) has it open for a moment */
#define PAUSE_US 20000

static void load_module(void)
{
    char program[] = "modprobe", quiet[] = "-q", module[] = "zram";
    char *const argv[] = {program, quiet, module, NULL};
    char *const env[] = {NULL};
    pid_t pid;
    int status;
    if (posix_spawn(&pid, "/sbin/modprobe", NULL, NULL, argv, env) == 0)
        waitpid(pid, &status, 0);
}

int zram_add(unsigned *ret, struct err *err)
{
    auto_free char *text = NULL;
    uint64_t number;
    if (access(CONTROL "/hot_add", F_OK) < 0)
        load_module();
    int r = fd_read_file_at(AT_FDCWD, CONTROL "/hot_add", 32, &text, NULL, err);
    if (r < 0 && err->sys == ENOENT)
        return err_set(err, ERR_UNSUPPORTED,
                       "this kernel has no zram (CONFIG_ZRAM), nor a module of it");
    if (r < 0)
        return r;
    r = number_parse(str_trim(text), 0, INT32_MAX, &number, err);
    if (r == 0)
        *ret = (unsigned)number;
    return r;
}

/* The device's node: /dev may be one that nobody keeps. */
static int open_node(unsigned number, char path[32], struct err *err)
{
    char sys[64];
    auto_free char *text = NULL;
    struct stat st;
    unsigned major = 0, minor = 0;
    str_print(sys, sizeof(sys), "/sys/block/zram%u/dev", number);
    str_print(path, 32, "/dev/zram%u", number);
    int r = fd_read_file_at(AT_FDCWD, sys, 32, &text, NULL, err);
    if (r < 0)
        return r;
    if (sscanf(text, "%u:%u", &major, &minor) != 2)
        return err_set(err, ERR_CORRUPT, "%s cannot be read", sys);
    if (stat(path, &st) < 0 && mknod(path, S_IFBLK | 0600, makedev(major, minor)) < 0)
        return err_sys(err, "cannot make %s", path);
    if (stat(path, &st) < 0 || !S_ISBLK(st.st_mode) || st.st_rdev != makedev(major, minor))
        return err_set(err, ERR_CORRUPT, "%s is another device", path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 ? err_sys(err, "cannot open %s", path) : fd;
}

/* What mkswap(8) writes. */
static int write_head(int fd, uint64_t bytes, struct err *err)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint32_t info[2] = {1, (uint32_t)(bytes / page - 1)}; /* version, last page */
    auto_free char *head = calloc(1, page);
    if (!head)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    memcpy(head + 1024, info, sizeof(info));
    memcpy(head + page - 10, "SWAPSPACE2", 10);
    return fd_write_all(fd, head, page, err);
}

int zram_swap_on(unsigned number, uint64_t bytes, struct err *err)
{
    char path[32], file[64];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    bytes -= bytes % page;
    str_print(file, sizeof(file), "/sys/block/zram%u/disksize", number);
    int r = fd_write_value_at(AT_FDCWD, file, err, "%" PRIu64, bytes);
    if (r < 0)
        return err_wrap(err, "cannot give zram%u its size", number);
    auto_fd int fd = open_node(number, path, err);
    if (fd < 0)
        return fd;
    r = write_head(fd, bytes, err);
    if (r < 0)
        return err_wrap(err, "cannot label %s as swap", path);
    cleanup_fd(&fd);
    return swapon(path, SWAP_FLAG_PREFER | PRIORITY) < 0 ? err_sys(err, "cannot swap to %s", path)
                                                         : 0;
}

bool zram_is_swap(unsigned number)
{
    auto_free char *text = NULL;
    char name[32];
    str_print(name, sizeof(name), "/zram%u ", number);
    return fd_read_file_at(AT_FDCWD, "/proc/swaps", SWAPS_MAX, &text, NULL, NULL) == 0 &&
           strstr(text, name);
}

static int swap_off(unsigned number, struct err *err)
{
    char path[32];
    auto_fd int fd = open_node(number, path, err);
    if (fd < 0)
        return fd;
    if (swapoff(path) == 0)
        return 0;
    if (errno == EINTR)
        return err_set(err, ERR_CANCELLED, "cancelled: %s goes on as swap", path);
    if (errno == ENOMEM)
        return err_set(err, ERR_EXHAUSTED,
                       "what is in %s does not fit into memory; stop some VEs first", path);
    return err_sys(err, "cannot end swap to %s", path);
}

int zram_remove(unsigned number, struct err *err)
{
    char dir[64];
    int r = 0;
    str_print(dir, sizeof(dir), "/sys/block/zram%u", number);
    if (access(dir, F_OK) < 0)
        return 0;
    if (zram_is_swap(number) && (r = swap_off(number, err)) < 0)
        return r;
    for (int i = 0; i < TRIES; i++) {
        r = fd_write_value_at(AT_FDCWD, CONTROL "/hot_remove", err, "%u", number);
        if (r == 0 || err->sys != EBUSY)
            break;
        usleep(PAUSE_US);
    }
    return r < 0 ? err_wrap(err, "cannot remove zram%u", number) : 0;
}
