/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * oom — reads from the kernel's log which process it ended for want of memory, and why.
 *
 * Each kill is two lines (mm/oom_kill.c, the same from 6.1 to 6.18):
 *     oom-kill:constraint=CONSTRAINT_MEMCG,…,oom_memcg=/terem/ve-5,task_memcg=…,task=tail,pid=7,…
 *     Memory cgroup out of memory: Killed process 7 (tail) total-vm:…kB, anon-rss:…kB, …, UID:…
 * Of the first at most ten come in five seconds.  Names of processes and of cgroups inside a VE are
 * the VE's own: only what stands before or behind them is believed.
 */
#include "base/cleanup.h"
#include "base/number.h"
#include "base/str.h"
#include "resource/resource.h"

#include <inttypes.h>
#include <string.h>

static bool number_at(const char *at, uint64_t max, uint64_t *ret)
{
    char digits[NUMBER_TEXT];
    str_print(digits, sizeof(digits), "%.*s", (int)strspn(at, "0123456789"), at);
    return number_parse(digits, 0, max, ret, NULL) == 0;
}

/* The last place of word in text. */
static const char *find_last(const char *text, const char *word)
{
    const char *found = NULL;
    for (const char *at = text; (at = strstr(at, word)); at++)
        found = at;
    return found;
}

/* Whose limit it was: our cgroup's name, then a comma, or a slash and what the VE made inside. */
static enum resource_oom_where where_of(const char *line, const char *instance)
{
    char want[96];
    uint64_t id;
    const char *at = strstr(line, ",oom_memcg=");
    if (!at)
        return strstr(line, ",global_oom,") ? RESOURCE_OOM_NODE : RESOURCE_OOM_UNKNOWN;
    at += strlen(",oom_memcg=");
    str_print(want, sizeof(want), "/%s/ve-", instance);
    if (!str_starts(at, want) || !number_at(at + strlen(want), INT64_MAX, &id))
        return RESOURCE_OOM_UNKNOWN;
    at += strlen(want);
    at += strspn(at, "0123456789");
    return *at == ','   ? RESOURCE_OOM_LIMIT
           : *at == '/' ? RESOURCE_OOM_INSIDE
                        : RESOURCE_OOM_UNKNOWN;
}

static void read_summary(struct resource_oom_log *log, const char *instance, const char *line)
{
    const char *at = find_last(line, ",pid=");
    uint64_t pid;
    log->pid = 0;
    if (!at || !number_at(at + strlen(",pid="), INT32_MAX, &pid))
        return;
    log->pid = (pid_t)pid;
    log->where = where_of(line, instance);
}

/* "7 (tail) total-vm:23140kB, anon-rss:20352kB, file-rss:…, shmem-rss:…, UID:0 pgtables:80kB
 * oom_score_adj:0" */
static bool read_killed(const char *text, struct resource_victim *v)
{
    const char *open = strchr(text, '('), *close = find_last(text, ") total-vm:");
    uint64_t pid, anon, file, shmem, tables, uid, adj;
    if (!open || !close || close < open || !number_at(text, INT32_MAX, &pid) ||
        !number_after(close, " anon-rss:", UINT32_MAX * 1024ull, &anon) ||
        !number_after(close, " file-rss:", UINT32_MAX * 1024ull, &file) ||
        !number_after(close, " shmem-rss:", UINT32_MAX * 1024ull, &shmem) ||
        !number_after(close, " pgtables:", UINT32_MAX * 1024ull, &tables) ||
        !number_after(close, " UID:", UINT32_MAX, &uid))
        return false;
    const char *at = strstr(close, " oom_score_adj:");
    bool minus = at && at[15] == '-';
    if (!at || !number_at(at + 15 + minus, 1000, &adj))
        return false;
    v->pid = (pid_t)pid;
    str_print(v->name, sizeof(v->name), "%.*s", (int)(close - open - 1), open + 1);
    v->held_bytes = (anon + file + shmem + tables) * 1024;
    v->adj = minus ? -(int)adj : (int)adj;
    v->uid = (uid_t)uid;
    return true;
}

bool resource_oom_read(struct resource_oom_log *log, const char *instance, const char *record,
                       struct resource_victim *ret)
{
    static const char group[] = "Memory cgroup out of memory: Killed process ",
                      node[] = "Out of memory: Killed process ";
    struct resource_victim v = {0};
    uint64_t priority;
    const char *text = strchr(record, ';');
    /* "6,25455,13026003572,-;text": facility 0, times 8, is the kernel; others are programs. */
    if (!text || !number_at(record, UINT32_MAX, &priority) || priority >= 8)
        return false;
    text++;
    if (str_starts(text, "oom-kill:constraint="))
        read_summary(log, instance, text);
    bool of_group = str_starts(text, group);
    if (!of_group && !str_starts(text, node))
        return false;
    if (!read_killed(text + (of_group ? sizeof(group) : sizeof(node)) - 1, &v))
        return false;
    v.where = !of_group ? RESOURCE_OOM_NODE : log->pid == v.pid ? log->where : RESOURCE_OOM_UNKNOWN;
    log->pid = 0;
    *ret = v;
    return true;
}
