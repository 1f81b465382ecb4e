/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ve/due.h"

#include <time.h>

const char *const due_names[DUE__COUNT] = {
    [DUE_HOURLY] = "hourly", [DUE_DAILY] = "daily", [DUE_WEEKLY] = "weekly"};

int64_t due_period(enum due_kind kind, int64_t now, bool next)
{
    time_t t = now / 1000;
    struct tm tm;
    localtime_r(&t, &tm);
    if (kind == DUE_HOURLY) { /* an hour that clocks show twice is two: no mktime(3) */
        t -= tm.tm_min * 60 + tm.tm_sec;
        return (int64_t)(next ? t + 3600 : t) * 1000;
    }
    tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
    if (kind == DUE_WEEKLY)
        tm.tm_mday -= (tm.tm_wday + 6) % 7;
    if (next)
        tm.tm_mday += kind == DUE_WEEKLY ? 7 : 1;
    tm.tm_isdst = -1;
    return (int64_t)mktime(&tm) * 1000;
}

bool due_is(enum due_kind kind, int64_t last, int64_t now)
{
    return last < due_period(kind, now, false) || last > now;
}
