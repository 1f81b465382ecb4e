/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_backup — arbitrary bytes as a backup: whatever they say, nothing outside of the tree
 * changes, no device is made but whiteouts, and what is read is bounded.
 *
 * The first byte says what the rest is: a file as it is (its sums would refuse nearly all), a tar
 * in frames with good sums, a list of files.
 */
#include "backup/list.h"
#include "backup/test_make.h"

#include "base/cleanup.h"
#include "base/path.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tree(int dir)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_dir DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;
    while (d && (e = readdir(d))) {
        struct stat st;
        if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
            continue;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_uid > TREE_ID_MAX)
            abort();
        if (S_ISBLK(st.st_mode) || (S_ISCHR(st.st_mode) && st.st_rdev != makedev(0, 0)))
            abort();
        if (!S_ISDIR(st.st_mode))
            continue;
        auto_fd int sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (sub >= 0)
            check_tree(sub);
    }
}

/* A changed header would be refused for its sum alone: make the sums good again. */
static void mend_sums(uint8_t *p, size_t size)
{
    for (; size >= 512; p += 512, size -= 512) {
        if (memcmp(p + 257, "ustar", 5) != 0)
            continue;
        unsigned sum = 0;
        memset(p + 148, ' ', 8);
        for (size_t i = 0; i < 512; i++)
            sum += p[i];
        str_print((char *)p + 148, 8, "%06o", sum);
    }
}

static void restore_it(const struct memory *m)
{
    char dir[] = "/dev/shm/terem-fuzz-XXXXXX";
    struct err err = {0};
    struct backup_info info = {0};
    if (!mkdtemp(dir))
        return;
    auto_fd int top = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0 || mkdirat(top, "root", 0755) < 0)
        abort();
    auto_fd int root = openat(top, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = restore(m, root, NULL, &info, &err);
    if (r > 0 || (r < 0 && (err.kind != -r || !err.text[0])))
        abort();
    backup_info_done(&info);
    check_tree(root);
    size_t n = 0;
    auto_dir DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d)))
        n += e->d_name[0] != '.';
    if (n != 1 || path_remove_tree_at(AT_FDCWD, dir, NULL) < 0)
        abort();
}

static void read_parts(const struct memory *m)
{
    struct err err = {0};
    struct backup_part part = {0};
    auto_free char *list = NULL;
    size_t len;
    auto_fd int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, m->buf, m->len) != (ssize_t)m->len)
        return;
    if (backup_part_read(fd, &part, &err) == 0)
        backup_part_done(&part);
    backup_list(fd, &list, &len, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    if (size < 1 || size > (1 << 20))
        return 0;
    auto_free uint8_t *copy = malloc(size);
    if (!copy)
        return 0;
    memcpy(copy, data + 1, size - 1);
    if (data[0] % 3 == 0) {
        const struct memory m = {.buf = copy, .len = size - 1};
        restore_it(&m);
        read_parts(&m);
    } else if (data[0] % 3 == 1) {
        struct memory m = {0};
        mend_sums(copy, size - 1);
        if (wrap(copy, size - 1, 0, &m, &err) < 0)
            abort();
        restore_it(&m);
        memory_done(&m);
    } else {
        struct list_table t;
        if (list_table_read((const char *)copy, size - 1, &t, &err) == 0)
            list_table_done(&t);
        else if (!err.text[0])
            abort();
    }
    return 0;
}
