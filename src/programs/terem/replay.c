/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The main() of a fuzzer where there is no libFuzzer: replays each file of a directory. */
#include "base/cleanup.h"
#include "base/fd.h"

#include <fcntl.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    auto_dir DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    if (!dir) {
        fprintf(stderr, "usage: %s CORPUS-DIRECTORY\n", argv[0]);
        return 2;
    }
    size_t n = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        auto_free char *text = NULL;
        size_t len;
        if (e->d_name[0] == '.')
            continue;
        if (fd_read_file_at(dirfd(dir), e->d_name, 1 << 20, &text, &len, NULL) < 0)
            return 1;
        LLVMFuzzerTestOneInput((const uint8_t *)text, len);
        n++;
    }
    printf("%zu inputs\n", n);
    return n == 0;
}
