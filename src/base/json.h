/* SPDX-License-Identifier: GPL-2.0-or-later */
/* json — an owner of a jansson value: auto_json json_t *doc = json_object(); */
#pragma once

#include <jansson.h>

#define auto_json __attribute__((cleanup(json_decrefp)))
