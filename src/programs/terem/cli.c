/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/name.h"
#include "client.h"
#include "text.h"

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int cli_call(struct cli *cli, const char *method, const char *path, const json_t *body,
             json_t **ret, struct err *err)
{
    auto_client struct client *c = NULL;
    auto_json json_t *doc = NULL;
    struct request rq = {.method = method, .path = path, .body = body};
    /* A command that a POST runs may take any time. */
    rq.deadline = str_eq(method, "POST") ? 0 : CLIENT_DEADLINE;
    int r = client_open(&cli->place, &rq, &c, err);
    if (r == 0)
        r = client_json(c, &doc, err);
    if (r == 0 && ret) {
        if (!doc)
            return err_set(err, ERR_CORRUPT, "teremd answered nothing to %s %s", method, path);
        *ret = steal_ptr(&doc);
    }
    return r;
}

int cli_ve_path(struct str *path, const char *name, const char *suffix, struct err *err)
{
    int r = name_check_ve(name, err);
    if (r < 0)
        return r;
    str_add(path, "/v1/ves/%s%s", name, suffix);
    return 0;
}

int cli_template_path(struct str *path, const char *name, struct err *err)
{
    int r = name_check_template(name, err);
    if (r < 0)
        return r;
    str_add(path, "/v1/templates/%s", name);
    return 0;
}

int cli_assignment(const char *text, const char *what, char **ret_key, const char **ret_value,
                   struct err *err)
{
    size_t n = strcspn(text, "=");
    if (n == 0 || !text[n]) {
        auto_str struct str s = str_init(256);
        str_escape(&s, text, strnlen(text, 60));
        return err_set(err, ERR_USAGE, "\"%s\" is not %s", str_c(&s), what);
    }
    *ret_key = strndup(text, n);
    *ret_value = text + n + 1;
    return *ret_key ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory");
}

int cli_label_query(struct str *path, const char *label, struct err *err)
{
    auto_free char *key = NULL;
    const char *value;
    if (!label)
        return 0;
    int r = cli_assignment(label, "a label such as tier=web", &key, &value, err);
    if (r < 0)
        return r;
    str_add(path, "?label=");
    client_encode(path, label);
    return 0;
}

int cli_out(const struct str *s, struct err *err)
{
    if (s->failed)
        return err_set(err, ERR_EXHAUSTED, "there is too much to print");
    if (fwrite(str_c(s), 1, s->len, stdout) != s->len)
        return err_sys(err, "cannot write to standard output");
    return 0;
}

/* For a reader on a terminal indented, and C1 controls, which JSON lets through, as \uNNNN. */
/* 41.47 and not 41.469999999999999. */
#define CLI_PRECISION JSON_REAL_PRECISION(15)

static size_t json_flags(const struct cli *cli)
{
    return JSON_ENCODE_ANY | CLI_PRECISION |
           (cli->out_tty ? JSON_ENSURE_ASCII | JSON_INDENT(2) : JSON_COMPACT);
}

int cli_out_json(const struct cli *cli, const json_t *doc, struct err *err)
{
    if (json_dumpf(doc, stdout, json_flags(cli)) < 0 || putchar('\n') == EOF)
        return err_sys(err, "cannot write to standard output");
    return 0;
}

int cli_out_json_line(const struct cli *cli, const json_t *doc, struct err *err)
{
    if (json_dumpf(doc, stdout,
                   JSON_COMPACT | CLI_PRECISION | (cli->out_tty ? JSON_ENSURE_ASCII : 0)) < 0 ||
        putchar('\n') == EOF || fflush(stdout) == EOF)
        return err_sys(err, "cannot write to standard output");
    return 0;
}

void cli_complain(const char *fmt, ...)
{
    auto_str struct str s = str_init(8192);
    auto_free char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    str_add(&s, "terem: ");
    text_add(&s, text);
    str_add(&s, "\n");
    fflush(stdout);
    fd_write_all(STDERR_FILENO, str_c(&s), s.len, NULL);
}

void cli_say(const struct cli *cli, const char *fmt, ...)
{
    if (cli->quiet || cli->json)
        return;
    auto_str struct str s = str_init(TEXT_MAX);
    auto_free char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    text_add(&s, text);
    puts(str_c(&s));
}

size_t cli_columns(int fd)
{
    struct winsize ws;
    return ioctl(fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col >= 20 ? ws.ws_col : 80;
}

const char *cli_text_or(const json_t *o, const char *key, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : otherwise;
}

const char *cli_text(const json_t *o, const char *key)
{
    return cli_text_or(o, key, "");
}

json_int_t cli_int(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

bool cli_is_null(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return !v || json_is_null(v);
}
