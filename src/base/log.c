/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/log.h"

#include "base/str.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum log_level threshold = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    threshold = level;
}

void log_line(enum log_level level, const char *ve, int64_t job, const char *fmt, ...)
{
    if (level > threshold)
        return;
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);

    auto_str struct str s = str_init(16384);
    if (getenv("JOURNAL_STREAM")) {
        str_add(&s, "<%d>", (int)level);
    } else {
        struct timespec ts;
        struct tm tm;
        char when[32];
        clock_gettime(CLOCK_REALTIME, &ts);
        localtime_r(&ts.tv_sec, &tm);
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
        str_add(&s, "%s.%03ld ", when, ts.tv_nsec / 1000000);
    }
    if (ve)
        str_add(&s, "%s: ", ve);
    str_escape(&s, text, strlen(text));
    if (job)
        str_add(&s, " [job %" PRId64 "]", job);
    str_add(&s, "\n");
    ssize_t n = write(STDERR_FILENO, str_c(&s), s.len);
    (void)n; /* nowhere left to complain */
}
