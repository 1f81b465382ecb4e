/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/sources.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "template/record.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>

#define FILE_MAX_SIZE ((size_t)1 << 20)
#define LINES_MAX     32

/* Of each Debian release, the name that stands in the list of one machine. */
static const char *const suites[] = {"bookworm", "trixie",    "forky",   "bullseye",
                                     "stable",   "oldstable", "testing", "sid"};
static const char *const tails[] = {"", "-updates", "-security", "-backports"};

struct entry { /* one archive, with white-space separated lists as in the file */
    char *types, *uris, *suites, *components, *key, *enabled;
};

static void entry_done(struct entry *e)
{
    free(e->types);
    free(e->uris);
    free(e->suites);
    free(e->components);
    free(e->key);
    free(e->enabled);
    *e = (struct entry){0};
}

struct collector {
    const char *wanted; /* the suite asked for */
    const char *as;     /* the suite looked for, which `wanted` replaces */
    char **lines;
    size_t n;
    bool failed;
};

static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = list; p && *p;) {
        p += strspn(p, " \t\n");
        size_t n = strcspn(p, " \t\n");
        if (n == len && memcmp(p, word, n) == 0)
            return true;
        p += n;
    }
    return false;
}

/* Debian signs with its own keys; an archive that names another key is somebody else's. */
static bool is_debian(const struct entry *e)
{
    if (!has_word(e->types, "deb") || !has_word(e->components, "main") ||
        (e->enabled && str_eq(e->enabled, "no")))
        return false;
    return !e->key || strstr(e->key, "debian-archive") != NULL;
}

static void add_line(struct collector *c, char *line)
{
    for (size_t i = 0; line && i < c->n; i++)
        if (str_eq(c->lines[i], line)) {
            free(line);
            return;
        }
    if (!line || c->n + 1 >= LINES_MAX) {
        c->failed |= !line;
        free(line);
        return;
    }
    c->lines[c->n++] = line;
}

/* "bookworm-updates" looked for as "bookworm", wanted "trixie" → "trixie-updates"; NULL: no. */
static char *exchange(const struct collector *c, const char *suite, size_t len)
{
    size_t as = strlen(c->as);
    if (len < as || memcmp(suite, c->as, as) != 0)
        return NULL;
    for (size_t i = 0; i < ARRAY_SIZE(tails); i++)
        if (strlen(tails[i]) == len - as && memcmp(suite + as, tails[i], len - as) == 0)
            return str_format("%s%s", c->wanted, tails[i]);
    return NULL;
}

static void take_entry(struct collector *c, const struct entry *e)
{
    if (!is_debian(e) || !e->uris || !e->suites)
        return;
    for (const char *u = e->uris; *u;) {
        u += strspn(u, " \t\n");
        size_t ulen = strcspn(u, " \t\n");
        for (const char *s = e->suites; ulen && *s;) {
            s += strspn(s, " \t\n");
            size_t slen = strcspn(s, " \t\n");
            auto_free char *suite = slen ? exchange(c, s, slen) : NULL;
            s += slen;
            if (!suite)
                continue;
            add_line(c, str_format("deb %s%s%s%.*s %s %s", e->key ? "[signed-by=" : "",
                                   e->key ? e->key : "", e->key ? "] " : "", (int)ulen, u, suite,
                                   e->components));
        }
        u += ulen;
    }
}

static char *copy(const char *p, size_t n)
{
    char *s = str_format("%.*s", (int)n, p);
    return s;
}

/* deb [ option=value … ] uri suite component … */
static void read_line(struct collector *c, char *line)
{
    char *hash = strchr(line, '#');
    if (hash)
        *hash = '\0';
    char *p = str_trim(line);
    size_t n = strcspn(p, " \t");
    if (n != 3 || memcmp(p, "deb", 3) != 0)
        return;
    auto_clean(entry_done) struct entry e = {.types = copy(p, 3)};
    p += n + strspn(p + n, " \t");
    if (*p == '[') {
        char *end = strchr(p, ']');
        if (!end)
            return;
        *end = '\0';
        char *key = strstr(p, "signed-by=");
        if (key)
            e.key = copy(key + 10, strcspn(key + 10, " \t"));
        p = end + 1;
        p += strspn(p, " \t");
    }
    n = strcspn(p, " \t");
    e.uris = copy(p, n);
    p += n + strspn(p + n, " \t");
    n = strcspn(p, " \t");
    e.suites = copy(p, n);
    p += n + strspn(p + n, " \t");
    e.components = copy(p, strlen(p));
    take_entry(c, &e);
}

static void take_field(struct entry *e, const char *name, size_t len, const char *value)
{
    const struct {
        const char *name;
        char **to;
    } fields[] = {{"types", &e->types},           {"uris", &e->uris},     {"suites", &e->suites},
                  {"components", &e->components}, {"signed-by", &e->key}, {"enabled", &e->enabled}};
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        if (strlen(fields[i].name) != len || strncasecmp(fields[i].name, name, len) != 0)
            continue;
        free(*fields[i].to);
        *fields[i].to = strdup(value);
    }
}

/* deb822: paragraphs of "Field: value", a value goes on in lines that begin with white space. */
static void read_deb822(struct collector *c, char *text)
{
    auto_clean(entry_done) struct entry e = {0};
    for (char *line = text, *next; line; line = next) {
        if ((next = strchr(line, '\n')))
            *next++ = '\0';
        if (*line == '#')
            continue;
        if (line[strspn(line, " \t\r")] == '\0') {
            take_entry(c, &e);
            entry_done(&e);
            continue;
        }
        char *colon = strchr(line, ':');
        if (*line == ' ' || *line == '\t' || !colon)
            continue;
        auto_str struct str value = str_init(FILE_MAX_SIZE);
        str_add(&value, "%s", str_trim(colon + 1));
        while (next && (*next == ' ' || *next == '\t' || *next == '#')) {
            char *more = next;
            if ((next = strchr(more, '\n')))
                *next++ = '\0';
            if (*more != '#')
                str_add(&value, " %s", str_trim(more));
        }
        char *trimmed = value.buf ? str_trim(value.buf) : NULL;
        /* A key in place of a file's name: the entry is Debian's only if its keyring knows it,
         * so the key is left to apt's own. */
        if (trimmed && !(strncasecmp(line, "signed-by", 9) == 0 && strstr(trimmed, "-----BEGIN")))
            take_field(&e, line, (size_t)(colon - line), trimmed);
    }
    take_entry(c, &e);
}

static void read_file(struct collector *c, int dir, const char *name, bool deb822)
{
    auto_free char *text = NULL;
    size_t len = 0;
    /* What cannot be read has nothing to say: the caller has a fall-back. */
    if (fd_read_file_at(dir, name, FILE_MAX_SIZE, &text, &len, NULL) < 0 || strlen(text) != len)
        return;
    if (deb822) {
        read_deb822(c, text);
        return;
    }
    for (char *line = text, *next; line; line = next) {
        if ((next = strchr(line, '\n')))
            *next++ = '\0';
        read_line(c, line);
    }
}

static int no_dots(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static void collect(struct collector *c, int apt)
{
    read_file(c, apt, "sources.list", false);
    struct dirent **files = NULL;
    int n = scandirat(apt, "sources.list.d", &files, no_dots, alphasort);
    for (int i = 0; i < n; i++) {
        char path[NAME_MAX + 32];
        str_print(path, sizeof(path), "sources.list.d/%s", files[i]->d_name);
        bool deb822 = str_ends(path, ".sources");
        if (deb822 || str_ends(path, ".list"))
            read_file(c, apt, path, deb822);
        free(files[i]);
    }
    free(files);
}

int sources_for_suite(const char *apt_dir, const char *suite, char ***ret, struct err *err)
{
    struct collector c = {.wanted = suite, .as = suite};
    c.lines = calloc(LINES_MAX, sizeof(*c.lines));
    if (!c.lines)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    auto_fd int apt = open(apt_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (apt >= 0)
        collect(&c, apt);
    for (size_t i = 0; apt >= 0 && c.n == 0 && i < ARRAY_SIZE(suites); i++) {
        c.as = suites[i];
        collect(&c, apt);
    }
    if (c.failed) {
        strings_free(c.lines);
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    *ret = c.lines;
    return 0;
}
