/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_schema — arbitrary bytes as the body of each request. */
#include "api/schema.h"
#include "base/cleanup.h"

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
