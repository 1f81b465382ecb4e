/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_schema — arbitrary bytes as the body of each request.  With clang -fsanitize=fuzzer
 * -DTEREM_LIBFUZZER it searches; otherwise its main() replays every file of the directory that it
 * is given.
 */
#include "api/schema.h"
#include "base/cleanup.h"
#include "base/fd.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const bodies[] = {"VeSpec",      "VeChanges",    "StopOptions",
                                     "ExecRequest", "TemplateSpec", "NodeStop"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct schema *schema;
    if (!schema && schema_open(&schema, NULL) < 0)
        abort();
    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
        struct err err = {0};
        json_t *value = NULL;
        int rc = schema_parse(schema, bodies[i], (const char *)data, size, &value, &err);
        if (rc > 0 || (rc < 0 && (err.kind != -rc || !*err.text || value)))
            abort();
        if (rc == 0 && (!json_is_object(value) || schema_check(schema, bodies[i], value, NULL) < 0))
            abort();
        json_decref(value);
    }
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
