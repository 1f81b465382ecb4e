/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * schema — the shapes of documents: schemas.json, and what checks a request against them.
 *
 * The same JSON Schema text validates requests and stands in the OpenAPI document.  The checker
 * knows the keywords that requests use: $ref, type, enum, properties, required,
 * additionalProperties, minimum, maximum, minLength, maxLength, items, minItems, maxItems,
 * maxProperties; "x-terem-params" asks param_find_err() for each key.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

struct schema;

int schema_open(struct schema **ret, struct err *err);
void schema_free(struct schema *s);
/* All schemas by name; borrowed. */
json_t *schema_components(struct schema *s);
/* ERR_USAGE names the field: "labels.tier must be a string". */
int schema_check(struct schema *s, const char *name, const json_t *value, struct err *err);
/* Reads a request's body: UTF-8, one object, no key twice; checks it. */
int schema_parse(struct schema *s, const char *name, const char *text, size_t len, json_t **ret,
                 struct err *err);
