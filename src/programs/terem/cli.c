/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/name.h"
#include "base/number.h"
#include "client.h"
#include "command.h"
#include "text.h"

#include <stdarg.h>
#include <stdlib.h>
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

int cli_noun_path(struct str *path, const char *collection, const char *noun, const char *name,
                  struct err *err)
{
    int r = name_check_ve(name, err);
    if (r < 0)
        return err_wrap(err, "%s", noun);
    str_add(path, "%s/%s", collection, name);
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

static int by_name(const void *a, const void *b)
{
    return name_compare(cli_text(*(json_t *const *)a, "name"),
                        cli_text(*(json_t *const *)b, "name"));
}

static int sort_by_name(json_t *list, struct err *err)
{
    size_t n = json_array_size(list);
    auto_free json_t **v = calloc(n + 1, sizeof(json_t *));
    if (!v)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < n; i++)
        v[i] = json_incref(json_array_get(list, i));
    qsort(v, n, sizeof(json_t *), by_name);
    for (size_t i = 0; i < n; i++)
        json_array_set_new(list, i, v[i]);
    return 0;
}

int cli_list_ves(struct cli *cli, const char *label, const char *fields, json_t **ret,
                 struct err *err)
{
    auto_str struct str path = str_init(4096);
    auto_json json_t *list = NULL;
    str_add(&path, "/v1/ves");
    int r = cli_label_query(&path, label, err);
    if (fields)
        str_add(&path, "%cfields=%s", label ? '&' : '?', fields);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &list, err);
    /* Only where there are names: of these members alone they all would be equal. */
    if (r == 0 && !cli->json && !cli_is_null(json_array_get(list, 0), "name"))
        r = sort_by_name(list, err);
    if (r == 0)
        *ret = steal_ptr(&list);
    return r;
}

int cli_out(const struct str *s, struct err *err)
{
    if (s->failed)
        return err_set(err, ERR_EXHAUSTED, "there is too much to print");
    if (fwrite(str_c(s), 1, s->len, stdout) != s->len)
        return err_sys(err, "cannot write to standard output");
    return 0;
}

/* 41.47 and not 41.469999999999999; for a terminal C1 controls, which JSON lets through, as \uNNNN.
 */
static int out_json(const struct cli *cli, const json_t *doc, size_t form, struct err *err)
{
    size_t flags = JSON_ENCODE_ANY | JSON_REAL_PRECISION(15) | form;
    if (json_dumpf(doc, stdout, flags | (cli->out_tty ? JSON_ENSURE_ASCII : 0)) < 0 ||
        putchar('\n') == EOF)
        return err_sys(err, "cannot write to standard output");
    return 0;
}

int cli_out_json(const struct cli *cli, const json_t *doc, struct err *err)
{
    return out_json(cli, doc, cli->out_tty ? JSON_INDENT(2) : JSON_COMPACT, err);
}

int cli_out_json_line(const struct cli *cli, const json_t *doc, struct err *err)
{
    int r = out_json(cli, doc, JSON_COMPACT, err);
    return r == 0 && fflush(stdout) == EOF ? err_sys(err, "cannot write to standard output") : r;
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
    /* A terminal would break it within words. */
    text_add_wrapped(&s, text, strlen("terem: "),
                     isatty(STDERR_FILENO) ? cli_columns(STDERR_FILENO) : 0);
    str_add(&s, "\n");
    fflush(stdout);
    fd_write_all(STDERR_FILENO, str_c(&s), s.len, NULL);
}

static void say(const struct cli *cli, const char *fmt, va_list ap)
{
    if (cli->quiet || cli->json)
        return;
    auto_str struct str s = str_init(TEXT_MAX);
    auto_free char *text = NULL;
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    text_add(&s, text);
    puts(str_c(&s));
}

void cli_say(const struct cli *cli, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(cli, fmt, ap);
    va_end(ap);
}

int cli_answer(const struct cli *cli, const json_t *doc, struct err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(cli, fmt, ap);
    va_end(ap);
    return cli->json ? cli_out_json(cli, doc, err) : 0;
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

int cli_remove(struct cli *cli, const char *collection, const char *noun, const char *name,
               struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *answer = NULL;
    int r = cli_noun_path(&path, collection, noun, name, err);
    if (r == 0)
        r = cli_call(cli, "DELETE", str_c(&path), NULL, &answer, err);
    if (r < 0)
        return r;
    return cli_answer(cli, answer, err, "%s %s: removed", noun, name);
}

int cli_list(struct cli *cli, const struct cli_list *l, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    auto_table struct text_table t = {.right = l->right};
    auto_json json_t *list = NULL;
    json_t *item;
    size_t i;
    int r = cli_call(cli, "GET", l->path, NULL, &list, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, list, err);
    while (t.columns < ARRAY_SIZE(l->heads) && l->heads[t.columns])
        t.columns++;
    for (i = 0; i < t.columns; i++)
        text_cell(&t, l->heads[i]);
    json_array_foreach(list, i, item)
    {
        if (cli->quiet) {
            text_add(&out, cli_text(item, "name"));
            str_add(&out, "\n");
        } else {
            l->add(&t, item);
        }
    }
    cli_add_table(cli, &out, &t, l->cut, json_array_size(list) ? NULL : l->empty);
    return cli_out(&out, err);
}

void cli_add_table(const struct cli *cli, struct str *out, const struct text_table *t, bool cut,
                   const char *empty)
{
    if (cli->quiet)
        return;
    if (empty && cli->out_tty)
        str_add(out, "%s\n", empty);
    else
        text_table_render(t, out, cut && cli->out_tty ? cli_columns(STDOUT_FILENO) : 0);
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

void cli_size_cell(struct text_table *t, const json_t *o, const char *key)
{
    char buf[NUMBER_TEXT];
    const json_t *v = json_object_get(o, key);
    text_cell(t,
              json_is_integer(v) ? number_format_size((uint64_t)json_integer_value(v), buf) : "-");
}

void cli_add_outdated(struct cli *cli, struct str *s, const json_t *ve)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *t = NULL;
    const char *name = cli_text(ve, "name");
    size_t i;
    json_t *v;
    if (cli_template_path(&path, cli_text(ve, "template"), NULL) < 0 ||
        cli_call(cli, "GET", str_c(&path), NULL, &t, NULL) < 0)
        return;
    json_array_foreach(json_object_get(t, "outdated"), i, v)
    {
        if (str_eq(json_string_value(v), name))
            str_add(s,
                    "it stands on an earlier revision of template %s than the present %lld; terem "
                    "update %s moves it",
                    cli_text(ve, "template"), (long long)cli_int(t, "revision"), name);
    }
}

static int put_pairs(json_t *body, const char *member, const struct args *a, const char *option,
                     const char *what, struct err *err)
{
    const char *text;
    json_t *o = json_object_get(body, member);
    if (!o)
        json_object_set_new(body, member, o = json_object());
    for (size_t i = 0; (text = args_each(a, option, i)); i++) {
        auto_free char *key = NULL;
        const char *value;
        int r = cli_assignment(text, what, &key, &value, err);
        if (r == 0 && str_eq(option, "label"))
            r = name_check_label(key, err);
        if (r < 0)
            return r;
        if (json_object_set_new(o, key, json_string(value)) < 0)
            return err_set(err, ERR_USAGE, "the value of --%s is not valid UTF-8", option);
    }
    return 0;
}

int cli_env_put(json_t *body, const struct args *a, struct err *err)
{
    return put_pairs(body, "env", a, "env", "a variable such as LANG=C.UTF-8", err);
}

int cli_labels_put(json_t *body, const struct args *a, struct err *err)
{
    return put_pairs(body, "labels", a, "label", "a label such as tier=web", err);
}

int cli_text_put(json_t *o, const char *key, const char *value, struct err *err)
{
    if (value && json_object_set_new(o, key, json_string(value)) < 0)
        return err_set(err, ERR_USAGE, "the value of --%s is not valid UTF-8", key);
    return 0;
}

char *cli_absolute(const char *path, struct err *err)
{
    auto_free char *cwd = *path == '/' ? NULL : getcwd(NULL, 0);
    if (*path != '/' && !cwd) {
        err_sys(err, "cannot tell the current directory");
        return NULL;
    }
    char *ret = cwd ? str_format("%s/%s", cwd, path) : strdup(path);
    if (!ret)
        err_set(err, ERR_EXHAUSTED, "out of memory");
    return ret;
}

bool cli_agreed(void)
{
    char answer[16] = "";
    fprintf(stderr, "[y/N] ");
    fflush(stderr);
    return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

int cli_seconds_put(json_t *body, const char *option, const struct args *a, struct err *err)
{
    const char *text = args_get(a, option);
    uint64_t ms;
    if (!text)
        return 0;
    if (number_parse_time(text, &ms, err) < 0)
        return err_wrap(err, "--%s", option);
    if (ms % 1000)
        return err_set(err, ERR_USAGE, "--%s: %s is not a whole number of seconds", option, text);
    json_object_set_new(body, option, json_integer((json_int_t)(ms / 1000)));
    return 0;
}

int cli_timeout_put(json_t *body, const struct args *a, struct err *err)
{
    const char *timeout = args_get(a, "timeout");
    uint64_t ms;
    if (!timeout)
        return 0;
    if (number_parse_time(timeout, &ms, err) < 0)
        return err_wrap(err, "--timeout");
    json_object_set_new(body, "timeout", json_integer((json_int_t)((ms + 999) / 1000)));
    return 0;
}
