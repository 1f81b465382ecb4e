/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "container/internal.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define FILE_BYTES_MAX (1u << 20)
#define LINE_MAX_BYTES 4096

/* Calls line() with the fields of each line that has enough of them, until it returns true. */
static bool each_line(const char *text, size_t n_fields,
                      bool (*line)(char *const *fields, void *ctx), void *ctx)
{
    while (*text) {
        size_t len = strcspn(text, "\n");
        char buf[LINE_MAX_BYTES];
        char *fields[8] = {buf};
        if (len < sizeof(buf)) { /* longer lines are nobody's */
            memcpy(buf, text, len);
            buf[len] = '\0';
            size_t n = 1;
            for (char *p = buf; *p && n < n_fields; p++)
                if (*p == ':') {
                    *p = '\0';
                    fields[n++] = p + 1;
                }
            if (n == n_fields && line(fields, ctx))
                return true;
        }
        text += len + (text[len] == '\n');
    }
    return false;
}

static bool parse_id(const char *text, uint32_t *ret)
{
    uint64_t v;
    if (number_parse(text, 0, CONTAINER_ID_COUNT - 1, &v, NULL) < 0)
        return false;
    *ret = (uint32_t)v;
    return true;
}

struct search {
    const char *name; /* or NULL: by id */
    uint32_t id;
    struct user *user;
};

static bool match(const struct search *s, char *const *fields)
{
    uint32_t id = 0;
    return s->name ? str_eq(fields[0], s->name) : parse_id(fields[2], &id) && id == s->id;
}

/* name:password:uid:gid:comment:home:shell */
static bool passwd_line(char *const *f, void *ctx)
{
    struct search *s = ctx;
    uint32_t uid, gid;
    if (!match(s, f) || !parse_id(f[2], &uid) || !parse_id(f[3], &gid))
        return false;
    s->user->uid = uid;
    s->user->gid = gid;
    if (str_print(s->user->name, sizeof(s->user->name), "%s", f[0]) < 0)
        s->user->name[0] = '\0';
    if (f[5][0] != '/' || str_print(s->user->home, sizeof(s->user->home), "%s", f[5]) < 0)
        str_print(s->user->home, sizeof(s->user->home), "/");
    if (f[6][0] != '/' || str_print(s->user->shell, sizeof(s->user->shell), "%s", f[6]) < 0)
        str_print(s->user->shell, sizeof(s->user->shell), "/bin/sh");
    return true;
}

/* name:password:gid:members */
static bool group_line(char *const *f, void *ctx)
{
    struct search *s = ctx;
    return match(s, f) && parse_id(f[2], &s->user->gid);
}

static bool member_line(char *const *f, void *ctx)
{
    struct user *u = ctx;
    uint32_t gid;
    if (u->n_groups == USER_GROUPS_MAX)
        return true;
    for (const char *p = f[3]; *p;) {
        size_t len = strcspn(p, ",");
        if (len == strlen(u->name) && memcmp(p, u->name, len) == 0 && parse_id(f[2], &gid)) {
            u->groups[u->n_groups++] = gid;
            break;
        }
        p += len + (p[len] == ',');
    }
    return false;
}

int user_parse(const char *spec, const char *passwd, const char *group, struct user *ret,
               struct err *err)
{
    struct user u = {.home = "/", .shell = "/bin/sh"};
    char name[64];
    if (!spec)
        spec = "0";
    const char *colon = strchr(spec, ':');
    if (str_print(name, sizeof(name), "%.*s", colon ? (int)(colon - spec) : (int)strlen(spec),
                  spec) < 0 ||
        !name[0] || (colon && !colon[1]))
        return err_set(err, ERR_USAGE, "\"%s\" is not a user", spec);

    struct search s = {.user = &u};
    if (parse_id(name, &s.id)) {
        u.uid = s.id;
        u.gid = 0; /* as container engines do for a number that has no line */
        each_line(passwd, 7, passwd_line, &s);
    } else {
        s.name = name;
        if (!each_line(passwd, 7, passwd_line, &s))
            return err_set(err, ERR_USAGE, "there is no user %s", name);
    }
    if (u.name[0])
        each_line(group, 4, member_line, &u);
    if (colon) {
        struct search g = {.user = &u};
        if (parse_id(colon + 1, &g.id)) {
            u.gid = g.id;
        } else {
            g.name = colon + 1;
            if (!each_line(group, 4, group_line, &g))
                return err_set(err, ERR_USAGE, "there is no group %s", colon + 1);
        }
        u.n_groups = 0; /* an explicit group stands alone */
    }
    *ret = u;
    return 0;
}

/* "" when it is not there or is not an ordinary file of reasonable size. */
static char *read_text(const char *path)
{
    auto_fd int fd = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    char *text = NULL;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        fd_read_all(fd, FILE_BYTES_MAX, &text, NULL, NULL) < 0)
        return strdup("");
    return text;
}

int user_lookup(const char *spec, struct user *ret, struct err *err)
{
    if (!spec || str_eq(spec, "root") || str_eq(spec, "0") || str_eq(spec, "0:0")) {
        /* Root is root whatever the files say: a broken /etc/passwd must not lock it out. */
        *ret = (struct user){.name = "root", .home = "/root", .shell = "/bin/sh"};
        return 0;
    }
    auto_free char *passwd = read_text("/etc/passwd"), *group = read_text("/etc/group");
    if (!passwd || !group)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    return user_parse(spec, passwd, group, ret, err);
}
