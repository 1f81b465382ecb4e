/* SPDX-License-Identifier: GPL-2.0-or-later */
/* events: one line for each thing that happens. */
#include "base/cleanup.h"
#include "cli.h"
#include "command.h"
#include "event_text.h"
#include "text.h"
#include "ve_text.h"
#include "work.h"

#include <string.h>

static void add_process(struct str *s, const json_t *e)
{
    const char *name = cli_text(e, "process");
    text_add(s, *name ? name : "a process");
    if (!cli_is_null(e, "pid"))
        str_add(s, " (pid %" JSON_INTEGER_FORMAT ")", cli_int(e, "pid"));
}

static void add_text(struct str *s, const json_t *e)
{
    if (!*cli_text(e, "text"))
        return;
    str_add(s, ": ");
    text_add(s, cli_text(e, "text"));
}

static void words_state(struct str *s, const json_t *e)
{
    text_add(s, cli_text(e, "from"));
    str_add(s, " → ");
    text_add(s, cli_text(e, "to"));
}

/* "processes refused sh (pid 12), 3 times: nothing new starts", "net.packets refused 9 times" */
static void words_refused(struct str *s, const json_t *e)
{
    json_int_t count = cli_int(e, "count");
    bool known = !cli_is_null(e, "process") || !cli_is_null(e, "pid");
    text_add(s, cli_text(e, "key"));
    str_add(s, " refused");
    if (known) {
        str_add(s, " ");
        add_process(s, e);
    }
    if (count > 1)
        str_add(s, "%s %" JSON_INTEGER_FORMAT " times", known ? "," : "", count);
    else if (!known)
        str_add(s, " once");
    add_text(s, e);
}

static void words_oom(struct str *s, const json_t *e)
{
    json_int_t count = cli_int(e, "count");
    str_add(s, "out of memory: ");
    if (*cli_text(e, "text"))
        text_add(s, cli_text(e, "text"));
    else {
        add_process(s, e);
        str_add(s, " was killed");
    }
    if (count > 1)
        str_add(s, " (the last of %" JSON_INTEGER_FORMAT ")", count);
}

static void words_job(struct str *s, const json_t *e)
{
    const json_t *job = json_object_get(e, "job");
    str_add(s, "job %" JSON_INTEGER_FORMAT " ", cli_int(job, "id"));
    text_add(s, cli_text(job, "kind"));
    str_add(s, " ");
    text_add(s, cli_text(job, "state"));
    add_text(s, job);
}

static void words_profile(struct str *s, const json_t *e)
{
    json_int_t n = cli_int(e, "ves");
    str_add(s, "set to ");
    ve_text_pairs(s, json_object_get(e, "params"), " ");
    if (n)
        str_add(s, ", also in %" JSON_INTEGER_FORMAT " VE%s", n, n == 1 ? "" : "s");
}

static void words_lost(struct str *s, const json_t *e)
{
    str_add(s,
            "%" JSON_INTEGER_FORMAT " events are missing here: they came faster than they were "
            "read",
            cli_int(e, "count"));
}

/* Types that are not here are told by their name. */
static const struct {
    const char *type;
    void (*words)(struct str *s, const json_t *e);
} sentences[] = {
    {"ve.state", words_state},
    {"ve.refused", words_refused},
    {"ve.oom", words_oom},
    {"job", words_job},
    {"profile.created", words_profile},
    {"profile.updated", words_profile},
    {"events.lost", words_lost},
};

static void add_subject(struct str *s, const json_t *e)
{
    const char *subject = cli_text(e, "ve");
    if (!*subject)
        subject = cli_text(json_object_get(e, "job"), "subject");
    if (!*subject)
        subject = cli_text(e, "template");
    if (!*subject && *cli_text(e, "profile")) {
        str_add(s, "profile ");
        subject = cli_text(e, "profile");
    }
    if (!*subject)
        return;
    text_add(s, subject);
    str_add(s, ": ");
}

void event_text(struct str *s, const json_t *e)
{
    const char *type = cli_text(e, "type");
    const json_t *last = json_object_get(e, "last_exit");
    size_t i = 0;
    add_subject(s, e);
    while (i < ARRAY_SIZE(sentences) && !str_eq(sentences[i].type, type))
        i++;
    if (i < ARRAY_SIZE(sentences))
        sentences[i].words(s, e);
    else if (str_starts(type, "ve.") || str_starts(type, "profile."))
        text_add(s, strchr(type, '.') + 1);
    else
        text_add(s, type);
    if (json_is_object(last)) {
        str_add(s, ": ");
        ve_text_exit(s, last);
    }
}

#define JOBS_KNOWN 64

struct watch {
    const struct cli *cli;
    const struct args *args;
    struct { /* a ring of jobs whose state was told */
        json_int_t id;
        char state[16];
    } jobs[JOBS_KNOWN];
    size_t next;
};

/* A step of a job: its state is the one that was told already. */
static bool is_step(struct watch *w, const json_t *e)
{
    const json_t *job = json_object_get(e, "job");
    json_int_t id = cli_int(job, "id");
    const char *state = cli_text(job, "state");
    size_t i = 0;
    if (!str_eq(cli_text(e, "type"), "job"))
        return false;
    while (i < JOBS_KNOWN && w->jobs[i].id != id)
        i++;
    if (i == JOBS_KNOWN)
        i = w->next++ % JOBS_KNOWN;
    else if (str_eq(w->jobs[i].state, state))
        return true;
    w->jobs[i].id = id;
    str_print(w->jobs[i].state, sizeof(w->jobs[i].state), "%s", state);
    return false;
}

/* "ve" is the group of all "ve.…". */
static bool is_of_type(const char *type, const char *wanted)
{
    size_t len = strlen(wanted);
    return str_starts(type, wanted) && (!type[len] || type[len] == '.');
}

static bool is_wanted(struct watch *w, const json_t *e)
{
    const char *name = args_get(w->args, "ve"), *type = args_get(w->args, "type");
    const char *subject = cli_text(e, "ve");
    if (!*subject)
        subject = cli_text(json_object_get(e, "job"), "subject");
    if ((name && !str_eq(subject, name)) || (type && !is_of_type(cli_text(e, "type"), type)))
        return false;
    if (w->cli->json)
        return true;
    /* ve.oom says the same and more; who asks for refusals alone is told. */
    if (!type && str_eq(cli_text(e, "type"), "ve.refused") &&
        strstr(cli_text(e, "text"), "see ve.oom"))
        return false;
    return args_has(w->args, "progress") || !is_step(w, e);
}

static int on_event(void *ctx, json_t *event, struct err *err)
{
    struct watch *w = ctx;
    const struct cli *cli = w->cli;
    if (!is_wanted(w, event))
        return 0;
    if (cli->json)
        return cli_out_json_line(cli, event, err);
    auto_str struct str s = str_init(TEXT_MAX);
    text_add_time(&s, cli_int(event, "time"));
    str_add(&s, "  ");
    event_text(&s, event);
    str_add(&s, "\n");
    int r = cli_out(&s, err);
    if (r == 0 && fflush(stdout) == EOF)
        r = err_sys(err, "cannot write to standard output");
    return r;
}

int cmd_events(struct cli *cli, const struct args *a, struct err *err)
{
    auto_client struct client *c = NULL;
    auto_str struct str rest = str_init((size_t)4 << 20);
    struct request rq = {.method = "GET", .path = "/v1/events", .stream = true};
    struct watch w = {.cli = cli, .args = a};
    const char *span;
    ssize_t n;
    int r = client_open(&cli->place, &rq, &c, err);
    if (r == 0)
        r = client_head(c, err);
    if (r < 0)
        return r;
    while ((n = client_body(c, &span, err)) > 0) {
        r = work_lines(&rest, span, (size_t)n, on_event, &w, err);
        if (r < 0)
            return r;
    }
    return n < 0 ? (int)n : err_set(err, ERR_UNAVAILABLE, "teremd ended the stream of events");
}
