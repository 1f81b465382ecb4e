/* SPDX-License-Identifier: GPL-2.0-or-later */
/* settings — terem.conf, and where the helper programs are. */
#pragma once

#include "ve/ve.h"

/* file: NULL takes the instance's own, which may be missing. */
int settings_read(struct ve_config *config, const char *file, struct err *err);
/* "error", "warning", "info", "debug"; NULL changes nothing. */
int settings_log_level(const char *level, struct err *err);
/* TEREM_LIBEXEC, else the build tree that this program stands in, else what was compiled in. */
int settings_libexec(struct ve_config *config, struct err *err);
