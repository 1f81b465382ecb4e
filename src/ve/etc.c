/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ve/etc.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <string.h>

#define LINK      "eth0"
#define WORDS_MAX 64
#define BEGIN     "# Terem: its own name, written at every start up to the next such line"
#define END       "# Terem: the end"

const struct etc_file etc_files[] = {
    {"/etc/network/interfaces", "auto lo\niface lo inet manual\n", etc_interfaces},
    {"/etc/network/interfaces.d/*", "", etc_interfaces},
    /* Not Unmanaged=yes: then systemd-networkd-wait-online waits for it until it fails. */
    {"/etc/systemd/network/00-terem.network",
     ETC_MARK "# " LINK " has its addresses and routes from outside: they are kept.\n"
              "[Match]\n"
              "Name=" LINK "\n"
              "\n"
              "[Network]\n"
              "KeepConfiguration=yes\n"
              "DHCP=no\n"
              "IPv6AcceptRA=no\n"
              "LinkLocalAddressing=ipv6\n",
     etc_marked},
    {"/etc/NetworkManager/conf.d/00-terem.conf",
     ETC_MARK "# " LINK " has its addresses and routes from outside.\n"
              "[keyfile]\n"
              "unmanaged-devices=interface-name:" LINK "\n",
     etc_marked},
};
_Static_assert(ARRAY_SIZE(etc_files) == ETC_FILES, "as the header says");

/* Up to and with the end of the line. */
static size_t line_length(const char *text)
{
    size_t n = strcspn(text, "\n");
    return n + (text[n] == '\n');
}

static bool is_line(const char *text, const char *line)
{
    size_t n = strlen(line);
    return strncmp(text, line, n) == 0 && (text[n] == '\n' || text[n] == '\0');
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '\0';
}

static void end_line(struct str *s)
{
    if (s->len && s->buf[s->len - 1] != '\n')
        str_add(s, "\n");
}

/* ---- hosts ---- */

/* Behind the next END, or NULL. */
static const char *behind_end(const char *text)
{
    for (; *text; text += line_length(text))
        if (is_line(text, END))
            return text + line_length(text);
    return NULL;
}

bool etc_hosts(const char *now, bool own, const char *text, struct str *ret)
{
    bool placed = false, ends = true; /* false: there is no END any more: looked for once */
    if (is_blank(now))
        str_add(ret, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    while (*now) {
        size_t n = line_length(now);
        if (!is_line(now, BEGIN)) {
            str_add_bytes(ret, now, n);
            now += n;
            continue;
        }
        const char *rest = ends ? behind_end(now) : NULL;
        ends = rest;
        now = rest ? rest : now + n;
        if (rest && !placed) {
            str_add(ret, BEGIN "\n%s" END "\n", text);
            placed = true;
        }
    }
    if (!placed) { /* last: what the VE's owner says of its name comes first */
        end_line(ret);
        str_add(ret, BEGIN "\n%s" END "\n", text);
    }
    return true;
}

/* ---- files that are ours ---- */

bool etc_marked(const char *now, bool own, const char *text, struct str *ret)
{
    if (own && !is_blank(now) && !str_starts(now, ETC_MARK))
        return false;
    str_add(ret, "%s", text);
    return true;
}

/* ---- interfaces ---- */

/* A line and those that a backslash at its end joins to it. */
static size_t joined_length(const char *text)
{
    size_t n = line_length(text);
    if (text[strspn(text, " \t")] == '#')
        return n;
    while (n >= 2 && text[n - 1] == '\n' && text[n - 2] == '\\' && text[n])
        n += line_length(text + n);
    return n;
}

/* In place: backslashes that join lines, or would, are blanks, too. */
static size_t split(char *line, char *words[WORDS_MAX])
{
    size_t n = 0;
    for (char *p = line; *p; p++)
        if (p[0] == '\\' && (p[1] == '\n' || p[1] == '\0'))
            p[0] = ' ';
    for (char *save = NULL, *w = strtok_r(line, " \t\r\n", &save); w && n < WORDS_MAX;
         w = strtok_r(NULL, " \t\r\n", &save))
        words[n++] = w;
    return n;
}

/* "eth0", also as "eth0=home". */
static bool is_link(const char *word)
{
    return str_eq(word, LINK) || str_starts(word, LINK "=");
}

static void add_words(struct str *s, char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        str_add(s, "%s%s", i ? " " : "", words[i]);
    /* Not joined with the line that follows. */
    str_add(s, "%s\n", n && str_ends(words[n - 1], "\\") ? " " : "");
}

static void add_was(struct str *s, char *const *words, size_t n)
{
    str_add(s, "# Terem sets this up from outside; this was: ");
    add_words(s, words, n);
}

/* false: the line stays as it is. */
static bool change(char **words, size_t n, struct str *s)
{
    static char manual[] = "manual";
    char *rest[WORDS_MAX];
    size_t n_rest = 0;
    if (n == WORDS_MAX)
        return false;
    if (n >= 4 && str_eq(words[0], "iface") && (is_link(words[1]) || str_eq(words[1], "lo")) &&
        !str_eq(words[3], manual)) {
        add_was(s, words, n);
        words[3] = manual;
        add_words(s, words, n);
        return true;
    }
    if (n < 2 || !(str_eq(words[0], "auto") || str_starts(words[0], "allow-")))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_link(words[i]))
            rest[n_rest++] = words[i];
    if (n_rest == n)
        return false;
    add_was(s, words, n);
    if (n_rest > 1)
        add_words(s, rest, n_rest);
    return true;
}

bool etc_interfaces(const char *now, bool own, const char *text, struct str *ret)
{
    bool changed = false;
    if (is_blank(now)) {
        str_add(ret, "%s", text);
        return *text;
    }
    while (*now) {
        char *words[WORDS_MAX];
        size_t n = joined_length(now);
        auto_free char *line = strndup(now, n);
        if (!line)
            return false;
        if (change(words, split(line, words), ret))
            changed = true;
        else
            str_add_bytes(ret, now, n);
        now += n;
    }
    return changed;
}
