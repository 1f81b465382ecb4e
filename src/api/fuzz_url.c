/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_url — arbitrary bytes as a request's target.  With clang -fsanitize=fuzzer -DTEREM_LIBFUZZER
 * it searches; otherwise its main() replays every file of the directory that it is given.
 */
#include "api/url.h"
#include "base/cleanup.h"
#include "base/fd.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    auto_free char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    struct err err = {0};
    auto_url struct url url = {0};
    int rc = url_parse(text, &url, &err);
    if (rc > 0 || (rc < 0 && (err.kind != -rc || !*err.text)))
        abort();
    for (size_t i = 0; i < url.n_segments; i++)
        for (const char *c = url.segments[i]; *c; c++)
            if (*c == '/' || (unsigned char)*c < 0x20)
                abort();
    for (size_t i = 0; i < url.n_query; i++)
        if (url_query(&url, url.query[i].key) != url.query[i].value)
            abort();
    return 0;
}

#ifndef TEREM_LIBFUZZER
int main(int argc, char **argv)
{
    auto_dir DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    if (!dir) {
        fprintf(stderr, "usage: %s CORPUS-DIRECTORY\n", argv[0]);
        return 2;
    }
    size_t n = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        auto_free char *data = NULL;
        size_t size;
        if (e->d_name[0] == '.')
            continue;
        if (fd_read_file_at(dirfd(dir), e->d_name, 1 << 20, &data, &size, NULL) < 0)
            return 1;
        LLVMFuzzerTestOneInput((const uint8_t *)data, size);
        n++;
    }
    printf("%zu inputs\n", n);
    return n ? 0 : 1;
}
#endif
