/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log — one line to standard error, which is the journal when systemd started us.
 *
 * Only programs log (floor 7), and ve/ when it acts without a caller (recovery, autostart).
 * Under systemd ($JOURNAL_STREAM) a line begins with its <priority>; elsewhere with a time.
 * Foreign bytes in it are escaped.  `ve` and `job` name the cause once; both may be NULL and 0.
 */
#pragma once

#include <stdint.h>

enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7
};

void log_set_level(enum log_level level);
void log_line(enum log_level level, const char *ve, int64_t job, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#define log_error(ve, job, ...) log_line(LOG_LEVEL_ERROR, ve, job, __VA_ARGS__)
#define log_warn(ve, job, ...)  log_line(LOG_LEVEL_WARNING, ve, job, __VA_ARGS__)
#define log_info(ve, job, ...)  log_line(LOG_LEVEL_INFO, ve, job, __VA_ARGS__)
#define log_debug(ve, job, ...) log_line(LOG_LEVEL_DEBUG, ve, job, __VA_ARGS__)
