/* SPDX-License-Identifier: GPL-2.0-or-later */
/* exec, enter, console. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "cli.h"
#include "command.h"
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* exec's own failures, as env(1) has them. */
enum { OWN_FAILURE = 125, CANNOT_RUN = 126, NOT_FOUND = 127 };

#define STDIN_TEXT_MAX ((size_t)1 << 20)

static int put(json_t *o, const char *key, const char *value, struct err *err)
{
    if (value && json_object_set_new(o, key, json_string(value)) < 0)
        return err_set(err, ERR_USAGE, "the value of --%s is not valid UTF-8", key);
    return 0;
}

static int put_env(json_t *request, const struct args *a, bool tty, struct err *err)
{
    json_t *env = json_object();
    const char *text, *term = getenv("TERM");
    json_object_set_new(request, "env", env);
    if (tty && term)
        json_object_set_new(env, "TERM", json_string(term));
    for (size_t i = 0; (text = args_each(a, "env", i)); i++) {
        auto_free char *key = NULL;
        const char *value;
        int r = cli_assignment(text, "a variable such as LANG=C.UTF-8", &key, &value, err);
        if (r < 0)
            return r;
        if (json_object_set_new(env, key, json_string(value)) < 0)
            return err_set(err, ERR_USAGE, "the value of --env is not valid UTF-8");
    }
    return 0;
}

static int build_request(const struct args *a, const char *const *words, size_t n, bool tty,
                         json_t *request, struct err *err)
{
    json_t *command = json_array();
    json_object_set_new(request, "command", command);
    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(command, json_string(words[i])) < 0)
            return err_set(err, ERR_USAGE, "the command is not valid UTF-8");
    int r = put_env(request, a, tty, err);
    if (r == 0)
        r = put(request, "user", args_get(a, "user"), err);
    if (r == 0)
        r = put(request, "workdir", args_get(a, "workdir"), err);
    json_object_set_new(request, "tty", json_boolean(tty));
    struct winsize ws;
    /* A pty that nobody sized says 0 by 0. */
    if (tty && (ioctl(0, TIOCGWINSZ, &ws) == 0 || ioctl(1, TIOCGWINSZ, &ws) == 0) && ws.ws_row &&
        ws.ws_col) {
        json_object_set_new(request, "rows", json_integer(ws.ws_row));
        json_object_set_new(request, "columns", json_integer(ws.ws_col));
    }
    return r;
}

static int open_stream(struct cli *cli, const char *method, const char *path, const json_t *body,
                       struct client **ret, struct err *err)
{
    auto_client struct client *c = NULL;
    struct request rq = {
        .method = method, .path = path, .body = body, .upgrade = true, .deadline = CLIENT_DEADLINE};
    int r = client_open(&cli->place, &rq, &c, err);
    if (r == 0)
        r = client_head(c, err);
    if (r < 0)
        return r;
    if (!http_upgraded(&c->http))
        return err_set(err, ERR_CORRUPT, "teremd did not begin the session (status %d)",
                       c->http.status);
    *ret = steal_ptr(&c);
    return 0;
}

/* --json: everything at once, as the API answers it. */
static int exec_collect(struct cli *cli, const char *path, json_t *request, struct err *err)
{
    auto_json json_t *result = NULL;
    if (!isatty(STDIN_FILENO)) {
        auto_free char *text = NULL;
        size_t len;
        int r = fd_read_all(STDIN_FILENO, STDIN_TEXT_MAX, &text, &len, err);
        if (r < 0)
            return err_wrap(err, "cannot take standard input (use exec without --json)");
        if (len && json_object_set_new(request, "stdin", json_stringn(text, len)) < 0)
            return err_set(err, ERR_USAGE, "standard input is not valid UTF-8");
    }
    int r = cli_call(cli, "POST", path, request, &result, err);
    return r < 0 ? r : cli_out_json(cli, result, err);
}

static int run_in(struct cli *cli, const struct args *a, const char *const *words, size_t n,
                  bool tty, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *request = json_object();
    auto_client struct client *c = NULL;
    int r = cli_ve_path(&path, a->pos[0], "/exec", err);
    if (r == 0)
        r = build_request(a, words, n, tty && !cli->json, request, err);
    if (r < 0)
        return r;
    if (cli->json)
        return exec_collect(cli, str_c(&path), request, err);
    r = open_stream(cli, "POST", str_c(&path), request, &c, err);
    if (r < 0)
        return r;
    struct session s = {.client = c, .tty = tty, .detach_key = SESSION_NO_KEY};
    enum session_end end;
    r = session_run(&s, &end, &cli->status, err);
    if (r == -ERR_NOT_FOUND) /* of the command: a VE that is not there was told before */
        cli->status = NOT_FOUND;
    else if (r == -ERR_DENIED)
        cli->status = CANNOT_RUN;
    return r;
}

int cmd_exec(struct cli *cli, const struct args *a, struct err *err)
{
    bool tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    cli->status = OWN_FAILURE;
    if (a->n_rest == 0)
        return err_set(err, ERR_USAGE, "a command is missing; use: terem %s %s", a->command->name,
                       a->command->usage);
    if (args_has(a, "tty"))
        tty = true;
    else if (args_has(a, "no-tty"))
        tty = false;
    int r = run_in(cli, a, a->rest, a->n_rest, tty, err);
    if (r == 0 && cli->json)
        cli->status = 0;
    return r;
}

int cmd_enter(struct cli *cli, const struct args *a, struct err *err)
{
    static const char *const shell[] = {
        "/bin/sh", "-c", "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi"};
    if (cli->json)
        return err_set(err, ERR_USAGE, "a terminal has no JSON form; use terem exec --json");
    cli->status = OWN_FAILURE;
    return run_in(cli, a, shell, ARRAY_SIZE(shell), isatty(STDIN_FILENO), err);
}

int cmd_console(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_client struct client *c = NULL;
    bool tty = isatty(STDIN_FILENO);
    if (cli->json)
        return err_set(err, ERR_USAGE, "a terminal has no JSON form; use terem logs --json");
    int r = cli_ve_path(&path, a->pos[0], "/console", err);
    if (r == 0)
        r = open_stream(cli, "GET", str_c(&path), NULL, &c, err);
    if (r < 0)
        return r;
    if (tty && !cli->quiet)
        fprintf(stderr, "This is the console of %s; Ctrl-] leaves it.\n", a->pos[0]);
    struct session s = {
        .client = c, .tty = tty, .detach_key = tty ? SESSION_DETACH : SESSION_NO_KEY};
    enum session_end end;
    int status;
    r = session_run(&s, &end, &status, err);
    if (r == 0 && tty && !cli->quiet)
        fprintf(stderr,
                end == SESSION_DETACHED ? "\nYou left the console of %s.\n"
                                        : "\nThe console of %s has closed.\n",
                a->pos[0]);
    return r;
}
