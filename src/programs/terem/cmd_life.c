/* SPDX-License-Identifier: GPL-2.0-or-later */
/* start, stop, restart, kill, pause, resume, squeeze, destroy: of VEs by name, by label, or all. */
#include "base/cleanup.h"
#include "cli.h"
#include "command.h"
#include "work.h"

#include "base/name.h"
#include "base/number.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Which VEs --all and --label mean for a verb: those in a state that it changes. */
struct life {
    const char *verb;
    struct work_words words;
    const char *from; /* states, each between spaces */
};

static const struct life life_start = {"start", {"starting", "started"}, " stopped broken "};
static const struct life life_stop = {"stop", {"stopping", "stopped"}, " running paused starting "};
static const struct life life_restart = {"restart", {"restarting", "restarted"}, " running "};
static const struct life life_kill = {
    "kill", {"killing", "killed"}, " running paused starting stopping "};
static const struct life life_pause = {"pause", {"pausing", "paused"}, " running "};
static const struct life life_resume = {"resume", {"resuming", "resumed"}, " paused "};
static const struct life life_squeeze = {"squeeze", {"squeezing", NULL}, " running paused "};
static const struct life life_destroy = {
    "destroy", {"destroying", "destroyed"}, " stopped broken "};

static void free_names(char ***names)
{
    for (size_t i = 0; *names && (*names)[i]; i++)
        free((*names)[i]);
    free(*names);
    *names = NULL;
}

static bool state_fits(const struct args *a, const struct life *life, const char *state)
{
    char padded[40];
    if (life == &life_destroy && args_has(a, "force"))
        return true;
    return str_print(padded, sizeof(padded), " %s ", state) == 0 && strstr(life->from, padded);
}

static int select_names(struct cli *cli, const struct args *a, const struct life *life, char ***ret,
                        size_t *ret_n, struct err *err)
{
    auto_str struct str path = str_init(1024);
    auto_json json_t *ves = NULL;
    str_add(&path, "/v1/ves");
    const char *label = args_get(a, "label");
    int r = cli_label_query(&path, label, err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &ves, err);
    if (r < 0)
        return r;
    size_t n = json_array_size(ves), k = 0;
    auto_clean(free_names) char **names = calloc(n + 1, sizeof(*names));
    for (size_t i = 0; names && i < n; i++) {
        const json_t *ve = json_array_get(ves, i);
        if (!state_fits(a, life, cli_text(ve, "state")))
            continue;
        if (!(names[k] = strdup(cli_text(ve, "name"))))
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        k++;
    }
    if (!names)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (label && n == 0 && !cli->quiet) /* not a failure, as with kubectl; but perhaps a mistake */
        cli_complain("no VE has the label %s", label);
    else if (k == 0)
        cli_say(cli, "no VE to %s", life->verb);
    *ret = steal_ptr(&names);
    *ret_n = k;
    return 0;
}

static int given_names(const struct args *a, char ***ret, size_t *ret_n, struct err *err)
{
    auto_clean(free_names) char **names = calloc(a->n_pos + 1, sizeof(*names));
    size_t k = 0;
    for (size_t i = 0; names && i < a->n_pos; i++) {
        bool seen = false;
        int r = name_check_ve(a->pos[i], err);
        if (r < 0)
            return r;
        for (size_t j = 0; j < k; j++)
            seen = seen || str_eq(names[j], a->pos[i]);
        if (!seen && !(names[k++] = strdup(a->pos[i])))
            return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    if (!names)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *ret = steal_ptr(&names);
    *ret_n = k;
    return 0;
}

/* The body of stop, restart and squeeze, query of destroy. */
static int options_of(const struct args *a, json_t **ret_body, struct err *err)
{
    const char *timeout = args_get(a, "timeout"), *to = args_get(a, "to");
    uint64_t ms;
    if (timeout || to || args_has(a, "force"))
        *ret_body = json_object();
    if (to) {
        int r = number_parse_size(to, &ms, err);
        if (r < 0)
            return err_wrap(err, "--to");
        json_object_set_new(*ret_body, "to", json_string(to));
    }
    if (timeout) {
        int r = number_parse_time(timeout, &ms, err);
        if (r < 0)
            return err_wrap(err, "--timeout");
        if (ms % 1000)
            return err_set(err, ERR_USAGE, "--timeout: %s is not a whole number of seconds",
                           timeout);
        json_object_set_new(*ret_body, "timeout", json_integer((json_int_t)(ms / 1000)));
    }
    if (args_has(a, "force"))
        json_object_set_new(*ret_body, "force", json_true());
    return 0;
}

static int confirm_destroy(const struct args *a, char *const *names, size_t n, struct err *err)
{
    char answer[16] = "";
    if (args_has(a, "yes") || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return 0;
    if (n == 1)
        fprintf(stderr, "Destroy %s and all its files? [y/N] ", names[0]);
    else
        fprintf(stderr, "Destroy these %zu VEs and all their files?\n", n);
    for (size_t i = 0; n > 1 && i < n; i++)
        fprintf(stderr, "%s%s", names[i], i + 1 < n ? " " : "\n[y/N] ");
    fflush(stderr);
    if (fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
        return 0;
    return err_set(err, ERR_CANCELLED, "nothing was destroyed");
}

static int begin_all(struct cli *cli, const struct args *a, const struct life *life,
                     char *const *names, size_t n, struct err *err)
{
    auto_json json_t *body = NULL;
    bool destroy = life == &life_destroy;
    int r = options_of(a, &body, err);
    if (r < 0)
        return r;
    struct work *w = work_new(n);
    for (size_t i = 0; w && i < n; i++) {
        w[i].subject = names[i];
        w[i].method = destroy ? "DELETE" : "POST";
        if (destroy)
            w[i].path =
                str_format("/v1/ves/%s%s", names[i], args_has(a, "force") ? "?force=true" : "");
        else
            w[i].path = str_format("/v1/ves/%s/%s", names[i], life->verb);
        w[i].body = destroy ? NULL : json_incref(body);
        if (!w[i].path)
            r = -ERR_EXHAUSTED;
    }
    if (!w || r < 0)
        r = err_set(err, ERR_EXHAUSTED, "out of memory");
    else
        r = work_run(cli, w, n, &life->words, true, args_has(a, "no-wait"), err);
    work_free(w, n);
    return r;
}

static int run_life(struct cli *cli, const struct args *a, const struct life *life, struct err *err)
{
    auto_clean(free_names) char **names = NULL;
    size_t n = 0;
    bool by_label = args_has(a, "label"), all = args_has(a, "all");
    if ((a->n_pos > 0) + by_label + all > 1)
        return err_set(err, ERR_USAGE, "give names, or --all, or --label: not more than one");
    if (!a->n_pos && !by_label && !all)
        return err_set(err, ERR_USAGE, "terem %s needs names of VEs, or --label, or --all",
                       life->verb);
    int r =
        a->n_pos ? given_names(a, &names, &n, err) : select_names(cli, a, life, &names, &n, err);
    if (r < 0)
        return r;
    if (n == 0)
        return cli->json ? work_run(cli, NULL, 0, &life->words, true, false, err) : 0;
    if (life == &life_destroy && (r = confirm_destroy(a, names, n, err)) < 0)
        return r;
    return begin_all(cli, a, life, names, n, err);
}

int cmd_start(struct cli *cli, const struct args *a, struct err *err)
{
    return run_life(cli, a, &life_start, err);
}

int cmd_stop(struct cli *cli, const struct args *a, struct err *err)
{
    return run_life(cli, a, &life_stop, err);
}

int cmd_restart(struct cli *cli, const struct args *a, struct err *err)
{
    return run_life(cli, a, &life_restart, err);
}

int cmd_kill(struct cli *cli, const struct args *a, struct err *err)
{
    return run_life(cli, a, &life_kill, err);
}

int cmd_pause(struct cli *cli, const struct args *a, struct err *err)
{
    return run_life(cli, a, &life_pause, err);
}

int cmd_resume(struct cli *cli, const struct args *a, struct err *err)
{
    return run_life(cli, a, &life_resume, err);
}

int cmd_squeeze(struct cli *cli, const struct args *a, struct err *err)
{
    /* No VE has capital letters in its name. */
    for (size_t i = 0; i < a->n_pos; i++) {
        size_t digits = strspn(a->pos[i], "0123456789.");
        if (digits && a->pos[i][digits] && strchr("KMGTP", a->pos[i][digits]) &&
            !a->pos[i][digits + 1])
            return err_set(err, ERR_USAGE, "%s is a size and no VE; use --to %s", a->pos[i],
                           a->pos[i]);
    }
    return run_life(cli, a, &life_squeeze, err);
}

int cmd_destroy(struct cli *cli, const struct args *a, struct err *err)
{
    return run_life(cli, a, &life_destroy, err);
}
