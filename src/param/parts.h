/* SPDX-License-Identifier: GPL-2.0-or-later */
/* parts — inside the room: values of more than one number.  `text` of a pair has a colon. */
#pragma once

#include "param/param.h"

int parts_parse_pair(const struct param_row *row, const char *text, struct param_value *ret,
                     struct err *err);
bool parts_is_mhz(const struct param_row *row, const char *text);
int parts_parse_mhz(const char *text, struct param_value *ret, struct err *err);
int parts_parse_cores(const struct param_row *row, const char *text, struct param_value *ret,
                      struct err *err);
int parts_parse_io(const struct param_row *row, const char *text, struct param_value *ret,
                   struct err *err);
/* false: it is one number. */
bool parts_format(const struct param_row *row, struct param_value v, char buf[PARAM_TEXT]);

/* value.c: "unlimited" or one number within the row's bounds. */
int value_parse_one(const struct param_row *row, const char *text, struct param_value *ret,
                    struct err *err);
