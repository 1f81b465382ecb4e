/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_protocol — arbitrary bytes as a message between teremd and terem-keep, in both directions;
 * the first byte is the number of descriptors that come along. */
#include "keep/protocol.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void refused(int r, const struct err *err)
{
    if (r > 0 || (r < 0 && (err->kind != -r || !err->text[0])))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t buf[KEEP_ANSWER_MAX];
    static struct keep_answer a, b;
    struct keep_request q = {0};
    struct err err = {0};
    if (!size)
        return 0;
    size_t n_fds = data[0] % 5;
    data++;
    size--;

    int r = keep_request_decode(data, size, n_fds, &q, &err);
    refused(r, &err);
    if (r == 0) {
        if (q.id < 0 || n_fds > KEEP_FDS)
            abort();
        keep_request_encode(&q, buf);
        if (memcmp(buf, data, KEEP_REQUEST_LEN) != 0)
            abort();
    }

    r = keep_answer_decode(data, size, n_fds, &a, &err);
    refused(r, &err);
    if (r == 0) {
        if (a.count > KEEP_LIST_MAX || !memchr(a.text, '\0', sizeof(a.text)))
            abort();
        /* Text behind its end is not kept, all else is. */
        size_t len = keep_answer_encode(&a, buf);
        if (len != size || keep_answer_decode(buf, len, n_fds, &b, NULL) < 0 || b.verb != a.verb ||
            b.serial != a.serial || b.kind != a.kind || b.flags != a.flags || b.count != a.count ||
            strcmp(b.text, a.text) != 0 || memcmp(b.ids, a.ids, a.count * sizeof(a.ids[0])) != 0)
            abort();
    }
    return 0;
}
