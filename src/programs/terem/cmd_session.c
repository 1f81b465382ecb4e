/* SPDX-License-Identifier: GPL-2.0-or-later */
/* exec, enter, console, and repair, which begins where a session is needed. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "bulk.h"
#include "cli.h"
#include "command.h"
#include "disk_text.h"
#include "session.h"
#include "text.h"
#include "work.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* exec's own failures, as env(1) has them. */
enum { OWN_FAILURE = 125, CANNOT_RUN = 126, NOT_FOUND = 127 };

#define STDIN_TEXT_MAX ((size_t)1 << 20)

static int build_request(const struct args *a, const char *const *words, size_t n, bool tty,
                         json_t *request, struct err *err)
{
    json_t *command = json_array();
    json_object_set_new(request, "command", command);
    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(command, json_string(words[i])) < 0)
            return err_set(err, ERR_USAGE, "the command is not valid UTF-8");
    const char *term = getenv("TERM");
    if (tty && term)
        json_object_set_new(request, "env", json_pack("{s:s}", "TERM", term));
    int r = cli_env_put(request, a, err);
    if (r == 0)
        r = cli_text_put(request, "user", args_get(a, "user"), err);
    if (r == 0)
        r = cli_text_put(request, "workdir", args_get(a, "workdir"), err);
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
    r = client_upgrade(&cli->place, "POST", str_c(&path), request, &c, err);
    if (r < 0)
        return r;
    struct session s = {.client = c, .tty = tty, .detach_key = SESSION_NO_KEY};
    enum session_end end;
    r = session_run(&s, &end, &cli->status, err);
    if (r == 0 && end == SESSION_INTERRUPTED)
        cli->died_of = SIGINT;
    if (r == -ERR_NOT_FOUND) /* of the command: a VE that is not there was told before */
        cli->status = NOT_FOUND;
    else if (r == -ERR_DENIED)
        cli->status = CANNOT_RUN;
    return r;
}

/* Each line with the VE's name before it. */
static void add_lines(struct str *out, const char *name, const json_t *text)
{
    const char *p = json_string_value(text), *end = p ? p + json_string_length(text) : NULL;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        str_add(out, "%s: ", name);
        str_escape(out, p, (size_t)((nl ? nl : end) - p));
        str_add(out, "\n");
        p = nl ? nl + 1 : end;
    }
}

static int show_output(struct cli *cli, const json_t *item, struct err *err)
{
    const json_t *result = json_object_get(item, "result");
    const char *name = cli_text(item, "ve");
    auto_str struct str out = str_init(TEXT_MAX), error = str_init(TEXT_MAX);
    add_lines(&out, name, json_object_get(result, "stdout"));
    add_lines(&error, name, json_object_get(result, "stderr"));
    fputs(str_c(&error), stderr);
    if (cli_out(&out, err) < 0)
        return -err->kind;
    if (json_is_true(json_object_get(result, "truncated")))
        cli_complain("%s: it printed more than is kept; terem exec %s shows all", name, name);
    return 0;
}

const struct bulk exec_bulk = {.verb = "exec",
                               .words = {"running", "done"},
                               .silent = true,
                               .item = show_output,
                               .label_option = "label"};

static int exec_many(struct cli *cli, const struct args *a, struct err *err)
{
    struct bulk bulk = exec_bulk;
    auto_json json_t *request = json_object();
    if (a->n_pos && a->n_rest)
        return err_set(err, ERR_USAGE, "give a name, or --all, or --label: not more than one");
    if (a->n_pos)
        return err_set(err, ERR_USAGE,
                       "with --all or --label the command stands behind --: terem exec %s -- %s",
                       args_has(a, "all") ? "--all" : "--label K=V", a->pos[0]);
    if (args_has(a, "tty"))
        return err_set(err, ERR_USAGE, "a command in many VEs has no terminal");
    int r = build_request(a, a->rest, a->n_rest, false, request, err);
    if (r < 0)
        return r;
    bulk.options = request;
    cli->status = -1;
    r = bulk_run(cli, a, &bulk, err);
    if (cli->status < 0) /* not interrupted; 1: each was told */
        cli->status = r == 0 ? 0 : err->kind ? OWN_FAILURE : 1;
    return r;
}

static int run_exec(struct cli *cli, const struct args *a, struct err *err)
{
    bool tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    cli->status = OWN_FAILURE;
    bool many = args_has(a, "all") || args_has(a, "label");
    if (!many && !a->n_pos)
        return err_set(err, ERR_USAGE, "a VE is missing; use: terem %s %s", a->command->name,
                       a->command->usage);
    if (many && (a->n_pos || a->n_rest))
        return exec_many(cli, a, err);
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

static const struct option_spec exec_options[] = {
    {"tty", 't', NULL, "give the command a terminal (default: when input and output are one)"},
    {"no-tty", 'T', NULL, "give it no terminal"},
    OPT_ENV,
    OPT_USER,
    OPT_WORKDIR,
    {"all", 'a', NULL, "in every VE that runs, at the same time"},
    {"label", 'l', "K=V", "in every VE that runs and has this label", COMPLETE_LABELS},
    OPT_STOP_ON_FAILURE,
    END,
};

command_row cmd_exec = {
    .name = "exec",
    .summary = "run a command in a VE, or in many",
    .usage = "VE [--] COMMAND... | --all -- COMMAND... | --label K=V -- COMMAND...",
    .min = 0,
    .max = 1,
    .rest = REST_FREE,
    .complete = COMPLETE_VES,
    .options = exec_options,
    .run = run_exec,
    .detail = "Standard input, output and error are those of terem. Without a terminal the "
              "signals HUP, INT, QUIT, TERM, USR1 and USR2 are passed on to the command; a "
              "second INT or TERM also ends terem itself (130, 143). With --json the command runs "
              "to its end and status and output are printed as one "
              "object. What the command prints on standard output and on standard error comes "
              "each in its order; which of the two comes first is not kept (with --tty they are "
              "one). A VE that sleeps is woken.\n\n"
              "With --all or --label the command runs in all those VEs at the same time, as one "
              "job, without input; each line that it prints has the VE's name before it, and the "
              "exit status is 1 if it failed in one of them. Of each are kept 64 KiB of output "
              "and as much of errors, of all together 8 MiB; it is told where that was less.",
    .examples = {"terem exec web1 -- ls -l /", "terem exec --label tier=web -- uptime",
                 "echo hello | terem exec web1 -- tee /tmp/x", "terem exec -u www-data web1 -- id"},
    .status = "That of the command; 128 + N when signal N killed it. 125: terem itself failed, or "
              "the user or directory is not there, 126: the command cannot be run, 127: there is "
              "no such command.",
};

/* Who comes in is told what login(1) would tell, whichever way, and why a console is silent. */
static void tell_before(struct cli *cli, const char *name, bool tty, bool console)
{
    auto_str struct str path = str_init(256), out = str_init(TEXT_MAX);
    auto_json json_t *ve = NULL;
    if (cli->quiet || cli_ve_path(&path, name, "", NULL) < 0 ||
        cli_call(cli, "GET", str_c(&path), NULL, &ve, NULL) < 0)
        return;
    if (tty)
        disk_text_over(&out, ve, name);
    if (console && str_eq(cli_text(ve, "state"), "paused"))
        str_add(&out, "%s is paused: nothing comes from it until terem resume %s lets it go on.\n",
                name, name);
    fputs(str_c(&out), stderr);
}

static int run_enter(struct cli *cli, const struct args *a, struct err *err)
{
    static const char *const shell[] = {
        "/bin/sh", "-c", "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi"};
    if (cli->json)
        return err_set(err, ERR_USAGE, "a terminal has no JSON form; use terem exec --json");
    cli->status = OWN_FAILURE;
    if (isatty(STDIN_FILENO))
        tell_before(cli, a->pos[0], true, false);
    return run_in(cli, a, shell, ARRAY_SIZE(shell), isatty(STDIN_FILENO), err);
}

static const struct option_spec enter_options[] = {OPT_ENV, OPT_USER, OPT_WORKDIR, END};

command_row cmd_enter = {
    .name = "enter",
    .summary = "open a login shell in a VE",
    .usage = "VE",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_VES,
    .options = enter_options,
    .run = run_enter,
    .detail = "Runs /bin/bash where the VE has it, else /bin/sh, on a terminal of its own; the "
              "size of the window follows yours. The shell ends with exit or Ctrl-D.",
    .examples = {"terem enter web1"},
    .status = "That of the shell; 125: terem itself failed.",
};

static int run_console(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_client struct client *c = NULL;
    bool tty = isatty(STDIN_FILENO);
    if (cli->json)
        return err_set(err, ERR_USAGE, "a terminal has no JSON form; use terem logs --json");
    int r = cli_ve_path(&path, a->pos[0], "/console", err);
    if (r == 0)
        r = client_upgrade(&cli->place, "GET", str_c(&path), NULL, &c, err);
    if (r < 0)
        return r;
    tell_before(cli, a->pos[0], tty, true);
    if (tty && !cli->quiet)
        fprintf(stderr, "This is the console of %s; Ctrl-] leaves it.\n", a->pos[0]);
    struct session s = {
        .client = c,
        .tty = tty,
        .no_command = true,
        .detach_key = tty ? SESSION_DETACH : SESSION_NO_KEY,
    };
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

command_row cmd_console = {
    .name = "console",
    .summary = "join the console of a VE",
    .usage = "VE",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_VES,
    .run = run_console,
    .detail = "The console is where the VE's init writes and where a login may wait. Ctrl-] "
              "leaves it; the VE goes on. Several may look at one console at a time. Without a "
              "terminal it shows what comes, also when its input has ended, until a signal ends it "
              "or the VE does.",
    .examples = {"terem console web1"},
};

/* ---- repair ---- */

static int call_repair(struct cli *cli, const char *method, const char *name, const char *verb,
                       const json_t *body, struct err *err)
{
    auto_str struct str path = str_init(256);
    int r = cli_ve_path(&path, name, verb, err);
    str_add(&path, "?wait=true");
    return r < 0 ? r : cli_call(cli, method, str_c(&path), body, NULL, err);
}

/* One command in the rescue system, which is there only for it. */
static int repair_run(struct cli *cli, const struct args *a, const json_t *body, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *ve = NULL;
    struct err late = {0};
    bool tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    cli->status = OWN_FAILURE;
    int r = cli_ve_path(&path, a->pos[0], "", err);
    if (r < 0 || (r = cli_call(cli, "GET", str_c(&path), NULL, &ve, err)) < 0)
        return r;
    bool open = str_eq(cli_text(ve, "state"), "repair");
    bool ran = str_eq(cli_text(ve, "state"), "running") ||
               str_eq(cli_text(ve, "state"), "paused") || str_eq(cli_text(ve, "state"), "sleeping");
    if (!open && (r = call_repair(cli, "POST", a->pos[0], "/repair", body, err)) < 0)
        return r;
    r = run_in(cli, a, a->rest, a->n_rest, tty, err);
    if (!open &&
        call_repair(cli, ran ? "DELETE" : "POST", a->pos[0], ran ? "/repair" : "/kill", NULL,
                    &late) < 0 &&
        r == 0) {
        *err = late;
        r = -late.kind;
        cli->status = OWN_FAILURE;
    } else if (r == 0 && cli->json) {
        cli->status = 0;
    }
    return r;
}

static int run_repair(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct work_words end = {"leaving repair", "started"};
    char next[256];
    const struct work_words begin = {"starting the rescue system", next};
    auto_str struct str path = str_init(256);
    auto_json json_t *body = json_pack("{s:b}", "restart", args_has(a, "restart"));
    bool done = args_has(a, "done");
    if (done && (args_has(a, "restart") || args_has(a, "timeout")))
        return err_set(err, ERR_USAGE,
                       "--done leaves repair; --restart and --timeout belong to "
                       "its beginning");
    if (a->has_rest && done)
        return err_set(err, ERR_USAGE, "--done leaves repair and takes no command");
    if (a->has_rest && a->n_rest == 0)
        return err_set(err, ERR_USAGE, "a command is missing behind --");
    int r = cli_timeout_put(body, a, err);
    if (r < 0)
        return r;
    if (a->has_rest)
        return repair_run(cli, a, body, err);
    r = cli_ve_path(&path, a->pos[0], "/repair", err);
    str_print(next, sizeof(next),
              "in repair, with its files at /repair; terem enter %s goes in, and terem repair %s "
              "--done starts the VE itself",
              a->pos[0], a->pos[0]);
    return r < 0 ? r
                 : work_one(cli, a->pos[0], done ? "DELETE" : "POST", str_steal(&path),
                            done ? NULL : json_incref(body), done ? &end : &begin,
                            args_has(a, "no-wait"), err);
}

static const struct option_spec repair_options[] = {
    {"done", 0, NULL, "leave the rescue system and start the VE itself"},
    {"restart", 0, NULL, "also when it runs: stop it first"},
    {"timeout", 't', "TIME", "how long the VE may take to stop before it is killed (default: 30s)"},
    OPT_NO_WAIT,
    END,
};

command_row cmd_repair = {
    .name = "repair",
    .summary = "open a VE that does not start in a rescue system",
    .usage = "VE [-- COMMAND...]",
    .min = 1,
    .max = 1,
    .rest = REST_DASHES,
    .complete = COMPLETE_VES,
    .options = repair_options,
    .run = run_repair,
    .detail =
        "Starts a small system (busybox) in the place of the VE's own, with the VE's name, "
        "addresses, ids and parameters. The files of the VE are at /repair, and the files of its "
        "template, as they were before the VE changed any, are at /template, read-only: what is "
        "damaged can be copied back, and chroot /template runs the template's own programs. "
        "Nothing of the VE's own is run. What is written elsewhere is kept in memory, counts as "
        "the VE's, and is gone at the end.\n\n"
        "terem enter, exec, console, push and pull work in it as in any VE; terem list shows it "
        "as repair. --done leaves it and starts the VE itself, and so does restart; stop leaves "
        "it without starting. With a COMMAND the rescue system is there for that command "
        "only, and a VE that ran (--restart) is started again.\n\n"
        "To let the template's package manager work on the damaged files, mount them where it "
        "sees them: mount --bind /repair /template/mnt; chroot /template dpkg --root=/mnt "
        "--configure -a.",
    .examples = {"terem repair web1 --restart", "terem enter web1",
                 "terem repair web1 -- sh -c 'tar -cC /template usr/lib | tar -xC /repair'",
                 "terem repair web1 --done"},
    .status = "With a COMMAND, that of the command, as of terem exec.",
};
