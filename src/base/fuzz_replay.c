/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_replay — the main() of fuzzers in ordinary builds: every file of a corpus directory, and
 * `MUTATIONS` damaged copies of each (the same ones each time), go through the target once.
 * With -Dlibfuzzer=true libFuzzer has its own main() and searches.
 *
 *     fuzz_conf src/base/corpus/conf [MUTATIONS]
 */
#include "base/fd.h"
#include "base/fuzz.h"
#include "base/number.h"

#include <fcntl.h>

#ifndef TEREM_LIBFUZZER
static uint32_t next_random(uint32_t *state) /* xorshift32: no secrets here */
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    return *state ^= *state << 5;
}

/* A few bytes changed, inserted, removed, or the end cut off. */
static size_t damage(uint8_t *buf, size_t len, size_t room, uint32_t *state)
{
    for (uint32_t n = 1 + next_random(state) % 4; n; n--) {
        size_t at = len ? next_random(state) % len : 0;
        uint8_t byte = (uint8_t)next_random(state);
        switch (next_random(state) % 5) {
        case 0:
            if (len)
                buf[at] ^= (uint8_t)(1u << (byte % 8));
            break;
        case 1:
            if (len)
                buf[at] = byte;
            break;
        case 2:
            if (len < room) {
                memmove(buf + at + 1, buf + at, len - at);
                buf[at] = byte;
                len++;
            }
            break;
        case 3:
            if (len) {
                memmove(buf + at, buf + at + 1, len - at - 1);
                len--;
            }
            break;
        default:
            len = at;
        }
    }
    return len;
}

static int replay(const uint8_t *data, size_t size, uint64_t mutations)
{
    uint32_t state = 2463534242u;
    for (uint64_t i = 0; i <= mutations; i++) {
        /* Exactly as large as the input, so that the address sanitizer sees one byte too far. */
        auto_free uint8_t *larger = malloc(size + 8);
        if (!larger)
            return -1;
        if (size)
            memcpy(larger, data, size);
        size_t len = i ? damage(larger, size, size + 8, &state) : size;
        auto_free uint8_t *exact = malloc(len ? len : 1);
        if (!exact)
            return -1;
        if (len)
            memcpy(exact, larger, len);
        LLVMFuzzerTestOneInput(exact, len);
    }
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t mutations = 0;
    auto_dir DIR *dir = argc == 2 || argc == 3 ? opendir(argv[1]) : NULL;
    if (!dir || (argc == 3 && number_parse(argv[2], 0, 1000000000, &mutations, NULL) < 0)) {
        fprintf(stderr, "usage: %s CORPUS-DIRECTORY [MUTATIONS]\n", argv[0]);
        return 2;
    }
    size_t n = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        auto_free char *data = NULL;
        size_t size;
        struct err err = {0};
        if (e->d_name[0] == '.')
            continue;
        if (fd_read_file_at(dirfd(dir), e->d_name, 1 << 20, &data, &size, &err) < 0 ||
            replay((const uint8_t *)data, size, mutations) < 0) {
            fprintf(stderr, "%s: %s\n", argv[0], err.text);
            return 1;
        }
        n++;
    }
    printf("%zu inputs\n", n);
    return n ? 0 : 1;
}
#endif
