/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_user — arbitrary bytes as a user, /etc/passwd and /etc/group, parted by NUL bytes.  With
 * clang -fsanitize=fuzzer -DTEREM_LIBFUZZER it searches; otherwise its main() replays every file
 * of the directory that it is given.
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "container/internal.h"

#include <fcntl.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 65536)
        return 0;
    auto_free char *text = malloc(size + 3);
    if (!text)
        return 0;
    memcpy(text, data, size);
    memset(text + size, 0, 3); /* three strings however few NULs there are */
    const char *passwd = text + strlen(text) + 1;
    const char *group = passwd + strlen(passwd) + 1;
    struct user u;
    struct err err = {0};
    int r = user_parse(text, passwd, group, &u, &err);
    if (r < 0 ? err.kind != -r || !err.text[0]
              : u.uid >= CONTAINER_ID_COUNT || u.gid >= CONTAINER_ID_COUNT ||
                    u.n_groups > USER_GROUPS_MAX || u.home[0] != '/' || u.shell[0] != '/')
        abort();
    for (size_t i = 0; r == 0 && i < u.n_groups; i++)
        if (u.groups[i] >= CONTAINER_ID_COUNT)
            abort();
    return 0;
}

#ifndef TEREM_LIBFUZZER
int main(int argc, char **argv)
{
    auto_dir DIR *d = argc == 2 ? opendir(argv[1]) : NULL;
    if (!d) {
        fprintf(stderr, "usage: fuzz_user DIRECTORY\n");
        return 2;
    }
    size_t n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        auto_free char *data = NULL;
        size_t len;
        if (e->d_name[0] == '.')
            continue;
        if (fd_read_file_at(dirfd(d), e->d_name, 65536, &data, &len, NULL) < 0)
            return 1;
        LLVMFuzzerTestOneInput((const uint8_t *)data, len);
        n++;
    }
    printf("%zu inputs\n", n);
    return n ? 0 : 1;
}
#endif
