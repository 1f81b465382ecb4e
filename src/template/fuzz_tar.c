/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_tar — arbitrary bytes as an archive: whatever they say, nothing outside of the layer's
 * directory changes, no device node is made but whiteouts, and the limits hold.
 */
#include "template/unpack.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BLOCK 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A changed header would be refused for its sum alone: make the sums good again. */
static void mend_sums(uint8_t *p, size_t size)
{
    for (; size >= BLOCK; p += BLOCK, size -= BLOCK) {
        if (memcmp(p + 257, "ustar", 5) != 0)
            continue;
        unsigned sum = 0;
        memset(p + 148, ' ', 8);
        for (size_t i = 0; i < BLOCK; i++)
            sum += p[i];
        str_print((char *)p + 148, 8, "%06o", sum);
    }
}

static void check_tree(int dir, size_t *n)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_dir DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;
    while (d && (e = readdir(d))) {
        struct stat st;
        if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
            continue;
        ++*n;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_uid > TREE_ID_MAX)
            abort();
        if (S_ISBLK(st.st_mode) || (S_ISCHR(st.st_mode) && st.st_rdev != makedev(0, 0)))
            abort();
        if (!S_ISDIR(st.st_mode))
            continue;
        auto_fd int sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (sub < 0)
            abort();
        check_tree(sub, n);
    }
}

static void unpack(int input, int root, const char *outside)
{
    static const struct tree_limits limits = {.bytes = 65536, .logical = 1 << 20, .entries = 50};
    static const struct unpack_watch watch = {.text = ""};
    auto_stream struct stream *in = NULL;
    uint64_t bytes = 0, entries = 0;
    struct err err = {0};
    int r = stream_open(input, 0, &in, &err);
    if (r == 0)
        r = unpack_tar(in, root, &limits, &watch, &bytes, &entries, &err);
    if (r > 0 || (r < 0 && (err.kind != -r || !err.text[0])) || bytes > limits.bytes ||
        entries > limits.entries)
        abort();
    size_t n = 0;
    check_tree(root, &n);
    struct stat st;
    if (stat(outside, &st) < 0 || st.st_size != 1 || st.st_nlink != 1 || st.st_uid != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > (1 << 20))
        return 0;
    auto_free uint8_t *copy = malloc(size + 1);
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    mend_sums(copy, size);
    auto_fd int input = memfd_create("fuzz", MFD_CLOEXEC);
    if (input < 0 || write(input, copy, size) != (ssize_t)size || lseek(input, 0, SEEK_SET) < 0)
        return 0;
    char dir[] = "/dev/shm/terem-fuzz-XXXXXX", root_path[64], outside[64];
    if (!mkdtemp(dir))
        return 0;
    str_print(root_path, sizeof(root_path), "%s/root", dir);
    str_print(outside, sizeof(outside), "%s/outside", dir);
    auto_fd int victim = open(outside, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (victim < 0 || write(victim, "x", 1) != 1 || mkdir(root_path, 0755) < 0)
        abort();
    auto_fd int root = open(root_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    unpack(input, root, outside);
    size_t n = 0;
    auto_dir DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d)))
        n += e->d_name[0] != '.';
    if (n != 2 || path_remove_tree_at(AT_FDCWD, dir, NULL) < 0)
        abort();
    return 0;
}
