/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_frame — arbitrary bytes as a stream of frames, cut into reads of arbitrary sizes; the frames
 * written again must be the bytes that were read. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "keep/frame.h"

#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int ends[2] = {-1, -1};

static size_t take_all(struct frame_reader *r, const uint8_t *data, size_t at, bool *bad)
{
    struct frame f;
    while (frame_next(r, &f, bad)) {
        uint8_t head[FRAME_HEAD];
        if (*bad || f.len > FRAME_MAX)
            abort();
        frame_head(head, f.type, f.len);
        if (memcmp(head, data + at, sizeof(head)) != 0 ||
            (f.len && memcmp(f.data, data + at + FRAME_HEAD, f.len) != 0))
            abort();
        at += FRAME_HEAD + f.len;
    }
    return at;
}

static void drain(void)
{
    char rest[4096];
    while (read(ends[0], rest, sizeof(rest)) > 0)
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct frame_reader r;
    if (ends[0] < 0 && pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return 0;
    if (!size || size > 200000)
        return 0;
    /* The first byte says how the rest is cut. */
    size_t step = 1 + data[0] * 37u, taken = 0;
    bool bad = false;
    r.have = r.taken = 0;
    data++;
    size--;
    for (size_t at = 0; at < size && !bad;) {
        size_t n = size - at < step ? size - at : step;
        if (fd_write_all(ends[1], data + at, n, NULL) < 0)
            abort();
        while (n) { /* a full reader takes less at a time, but always something */
            int got = frame_reader_fill(&r, ends[0], NULL);
            if (got <= 0 || (size_t)got > n)
                abort();
            n -= (size_t)got;
            at += (size_t)got;
            taken = take_all(&r, data, taken, &bad);
            if (taken + (r.have - r.taken) != at)
                abort(); /* every byte is a frame's or waits */
            if (bad) {
                drain();
                break;
            }
        }
    }
    return 0;
}
