/* SPDX-License-Identifier: GPL-2.0-or-later */
/* events: one line for each thing that happens. */
#include "base/cleanup.h"
#include "base/name.h"
#include "base/number.h"
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
    if (str_eq(cli_text(job, "state"), "running"))
        add_text(s, job); /* of one that has ended, the last step is not what came of it */
    else if (!cli_is_null(json_object_get(job, "result"), "total"))
        str_add(s, ": %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " done",
                cli_int(json_object_get(job, "result"), "done"),
                cli_int(json_object_get(job, "result"), "total"));
    if (!str_eq(cli_text(job, "state"), "failed"))
        return;
    const char *why = cli_text(json_object_get(job, "error"), "message");
    const char *subject = cli_text(job, "subject");
    size_t len = strlen(subject);
    if (len && str_starts(why, subject) && why[len] == ':' && why[len + 1] == ' ')
        why += len + 2; /* it stands in front of the line */
    str_add(s, "%s", *why ? ": " : "");
    text_add(s, why);
}

/* ": memory.limit=512M, labels.tier=web"; "-" is the value of what was taken away. */
static void add_changes(struct str *s, const json_t *changes, const char *inside, bool *first)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)changes, key, v)
    {
        if (str_eq(key, "force"))
            continue;
        if (json_is_object(v)) {
            add_changes(s, v, str_eq(key, "params") ? "" : key, first);
            continue;
        }
        str_add(s, "%s%s%s", *first ? ": " : ", ", inside, *inside ? "." : "");
        text_add(s, key);
        str_add(s, "=");
        if (json_is_integer(v))
            str_add(s, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        else if (json_is_boolean(v))
            str_add(s, "%s", json_is_true(v) ? "true" : "false");
        else
            text_add(s, json_string_value(v));
        *first = false;
    }
}

static void words_updated(struct str *s, const json_t *e)
{
    const json_t *changes = json_object_get(e, "changes");
    bool first = true;
    if (cli_is_null(changes, "template")) {
        str_add(s, "updated");
        add_changes(s, changes, "", &first);
        return;
    }
    str_add(s, "updated to template ");
    text_add(s, cli_text(changes, "template"));
    str_add(s, ", revision %" JSON_INTEGER_FORMAT, cli_int(changes, "revision"));
}

static void words_created(struct str *s, const json_t *e)
{
    str_add(s, "created");
    if (!*cli_text(e, "from"))
        return;
    str_add(s, ", a clone of ");
    text_add(s, cli_text(e, "from"));
}

/* "25M": of disk.space; else a number. */
static void add_amount(struct str *s, const json_t *e, const char *member)
{
    char size[NUMBER_TEXT];
    if (str_eq(cli_text(e, "key"), "disk.space"))
        str_add(s, "%s", number_format_size((uint64_t)cli_int(e, member), size));
    else
        str_add(s, "%" JSON_INTEGER_FORMAT, cli_int(e, member));
}

/* "disk.space: 25M used, above the soft 20M: …" */
static void words_disk(struct str *s, const json_t *e)
{
    const char *type = cli_text(e, "type");
    bool below = str_eq(type, "ve.disk_ok");
    text_add(s, cli_text(e, "key"));
    str_add(s, ": ");
    if (!cli_is_null(e, "used")) {
        add_amount(s, e, "used");
        str_add(s, " used, ");
    }
    if (cli_is_null(e, "soft")) {
        str_add(s, "%s", below ? "and no soft limit any more" : "above its soft limit");
    } else {
        str_add(s, below ? "not above the soft limit " : "above the soft limit ");
        add_amount(s, e, "soft");
        str_add(s, below ? " any more" : "");
    }
    if (str_eq(type, "ve.disk_held")) {
        str_add(s, " for too long: nothing can be added until enough is deleted");
    } else if (!below && !cli_is_null(e, "until")) {
        str_add(s, ": delete some until ");
        text_add_time(s, cli_int(e, "until"));
        str_add(s, ", or nothing can be added from then on");
    }
}

static void words_class(struct str *s, const json_t *e)
{
    str_add(s,
            "changed, %" JSON_INTEGER_FORMAT " prefixes added and %" JSON_INTEGER_FORMAT " removed",
            cli_int(e, "added"), cli_int(e, "removed"));
}

static void words_address(struct str *s, const json_t *e)
{
    const char *what = strchr(cli_text(e, "type"), '.') + 1;
    text_add(s, cli_text(e, "address"));
    str_add(s, " %s", what);
    if (!cli_is_null(e, "from")) {
        str_add(s, " from ");
        text_add(s, cli_text(e, "from"));
    }
}

static void words_port(struct str *s, const json_t *e)
{
    text_add(s, cli_text(e, "port"));
    str_add(s, " %s", strchr(cli_text(e, "type"), '.') + 1);
}

static void words_address_pool(struct str *s, const json_t *e)
{
    str_add(s, "address pool ");
    text_add(s, cli_text(e, "address_pool"));
    str_add(s, ": %s", strchr(cli_text(e, "type"), '.') + 1);
    if (!cli_is_null(e, "prefix")) {
        str_add(s, ", ");
        text_add(s, cli_text(e, "prefix"));
    }
}

static void words_private(struct str *s, const json_t *e)
{
    const char *what = strchr(cli_text(e, "type"), '.') + 1;
    bool member = !cli_is_null(e, "ve");
    str_add(s, "%s%sprivate network ", member ? what : "", member ? " " : "");
    text_add(s, cli_text(e, "network"));
    if (!member)
        str_add(s, ": %s", what);
}

static void words_recovered(struct str *s, const json_t *e)
{
    str_add(s, "teremd is at work again%s",
            json_is_true(json_object_get(e, "booted")) ? ", after a start of the machine" : "");
}

static void words_lxcfs(struct str *s, const json_t *e)
{
    str_add(s, "lxcfs had ended and was started again");
}

static void words_profile(struct str *s, const json_t *e)
{
    json_int_t n = cli_int(e, "ves");
    str_add(s, "set to ");
    ve_text_pairs(s, json_object_get(e, "params"), " ");
    if (n)
        str_add(s, ", also in %" JSON_INTEGER_FORMAT " VE%s", n, n == 1 ? "" : "s");
}

static void words_warning(struct str *s, const json_t *e)
{
    text_add(s, cli_text(e, "text"));
}

static void words_snapshot(struct str *s, const json_t *e)
{
    str_add(s, "snapshot ");
    text_add(s, cli_text(e, "snapshot"));
    str_add(s, " ");
    text_add(s, strchr(cli_text(e, "type"), '.') + 1);
    bool first = true;
    add_changes(s, json_object_get(e, "changes"), "", &first);
}

static void words_snapshot_failed(struct str *s, const json_t *e)
{
    text_add(s, cli_text(e, "schedule"));
    str_add(s, " snapshot failed");
    add_text(s, e);
}

static void words_moved(struct str *s, const json_t *e)
{
    str_add(s, "moved from pool ");
    text_add(s, cli_text(e, "from"));
    str_add(s, " to ");
    text_add(s, cli_text(e, "to"));
}

static void words_grown(struct str *s, const json_t *e)
{
    char size[NUMBER_TEXT];
    str_add(s, "grown to %s%s", number_format_size((uint64_t)cli_int(e, "size"), size),
            json_is_true(json_object_get(e, "by_itself")) ? ", because it ran full" : "");
}

static void words_full(struct str *s, const json_t *e)
{
    char left[NUMBER_TEXT];
    str_add(s, "nearly full, %s free: ", number_format_size((uint64_t)cli_int(e, "free"), left));
    text_add(s, cli_text(e, "cause"));
}

static void words_asleep(struct str *s, const json_t *e)
{
    char idle[NUMBER_TEXT];
    str_add(s, "fell asleep: nobody had used it for %s",
            number_format_time((uint64_t)cli_int(e, "idle"), idle));
}

static void words_awake(struct str *s, const json_t *e)
{
    char slept[NUMBER_TEXT];
    const char *by = cli_text(e, "by");
    str_add(s, "woken by %s", str_eq(by, "packet") ? "a " : "");
    text_add(s, by);
    str_add(s, " after %s", number_format_time((uint64_t)cli_int(e, "slept"), slept));
}

static void words_lost(struct str *s, const json_t *e)
{
    str_add(s,
            "%" JSON_INTEGER_FORMAT " events are missing here: they came faster than they were "
            "read",
            cli_int(e, "count"));
}

/* What is told by its name: "created". */
static void words_type(struct str *s, const json_t *e)
{
    const char *type = cli_text(e, "type");
    text_add(s, strchr(type, '.') ? strchr(type, '.') + 1 : type);
}

/* Every type that teremd emits, and before those of a group the group: what --type takes, and how
 * it is told. */
#define EVENT_TYPES(X)                            \
    X("ve", words_type)                           \
    X("ve.created", words_created)                \
    X("ve.destroyed", words_type)                 \
    X("ve.state", words_state)                    \
    X("ve.exit", words_type)                      \
    X("ve.updated", words_updated)                \
    X("ve.moved", words_moved)                    \
    X("ve.asleep", words_asleep)                  \
    X("ve.awake", words_awake)                    \
    X("ve.warning", words_warning)                \
    X("ve.refused", words_refused)                \
    X("ve.oom", words_oom)                        \
    X("ve.disk_soft", words_disk)                 \
    X("ve.disk_held", words_disk)                 \
    X("ve.disk_ok", words_disk)                   \
    X("job", words_job)                           \
    X("snapshot", words_type)                     \
    X("snapshot.created", words_snapshot)         \
    X("snapshot.updated", words_snapshot)         \
    X("snapshot.deleted", words_snapshot)         \
    X("snapshot.rolled-back", words_snapshot)     \
    X("snapshot.failed", words_snapshot_failed)   \
    X("template", words_type)                     \
    X("template.created", words_type)             \
    X("template.updated", words_type)             \
    X("template.removed", words_type)             \
    X("profile", words_type)                      \
    X("profile.created", words_profile)           \
    X("profile.updated", words_profile)           \
    X("profile.removed", words_type)              \
    X("pool", words_type)                         \
    X("pool.created", words_type)                 \
    X("pool.grown", words_grown)                  \
    X("pool.full", words_full)                    \
    X("pool.removed", words_type)                 \
    X("class", words_type)                        \
    X("class.changed", words_class)               \
    X("class.removed", words_type)                \
    X("address-pool", words_type)                 \
    X("address-pool.created", words_address_pool) \
    X("address-pool.removed", words_address_pool) \
    X("address", words_type)                      \
    X("address.added", words_address)             \
    X("address.moved", words_address)             \
    X("address.removed", words_address)           \
    X("address.reserved", words_address)          \
    X("address.released", words_address)          \
    X("address.updated", words_address)           \
    X("private-network", words_type)              \
    X("private-network.created", words_private)   \
    X("private-network.removed", words_private)   \
    X("private-network.joined", words_private)    \
    X("private-network.left", words_private)      \
    X("port", words_type)                         \
    X("port.published", words_port)               \
    X("port.unpublished", words_port)             \
    X("node", words_type)                         \
    X("node.recovered", words_recovered)          \
    X("lxcfs", words_type)                        \
    X("lxcfs.restarted", words_lxcfs)             \
    X("events", words_type)                       \
    X("events.lost", words_lost)

static const struct {
    const char *type;
    void (*words)(struct str *s, const json_t *e);
} sentences[] = {
#define ROW(type, words) {type, words},
    EVENT_TYPES(ROW)
#undef ROW
};

const char *event_type(void *ctx, size_t i)
{
    return i < ARRAY_SIZE(sentences) ? sentences[i].type : NULL;
}

static void add_subject(struct str *s, const json_t *e)
{
    static const char *const kinds[] = {"template", "pool", "profile", "class"};
    const char *subject = cli_text(e, "ve");
    if (!*subject)
        subject = cli_text(json_object_get(e, "job"), "subject");
    for (size_t i = 0; i < ARRAY_SIZE(kinds) && !*subject; i++)
        if (*(subject = cli_text(e, kinds[i])))
            str_add(s, "%s ", kinds[i]);
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
    else
        words_type(s, e);
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

static int check_type(const char *type, struct err *err)
{
    auto_str struct str s = str_init(256);
    const char *known;
    for (size_t i = 0; type && (known = event_type(NULL, i)); i++)
        if (str_eq(known, type))
            return 0;
    if (!type)
        return 0;
    str_escape(&s, type, strnlen(type, 40));
    known = name_suggest(type, event_type, NULL);
    if (known)
        return err_set(err, ERR_USAGE, "there is no event type %s; did you mean %s?", str_c(&s),
                       known);
    return err_set(err, ERR_USAGE, "there is no event type %s; terem help events lists them",
                   str_c(&s));
}

static int run_events(struct cli *cli, const struct args *a, struct err *err)
{
    auto_client struct client *c = NULL;
    auto_str struct str rest = str_init((size_t)4 << 20);
    struct request rq = {.method = "GET", .path = "/v1/events", .stream = true};
    struct watch w = {.cli = cli, .args = a};
    const char *span;
    ssize_t n;
    int r = check_type(args_get(a, "type"), err);
    if (r == 0)
        r = client_open(&cli->place, &rq, &c, err);
    if (r == 0)
        r = client_head(c, err);
    if (r < 0)
        return r;
    while ((n = client_body(c, &span, err)) > 0) {
        r = work_lines(&rest, span, (size_t)n, on_event, &w, err);
        if (r < 0)
            return r;
    }
    return n < 0 ? (int)n
                 : err_set(err, ERR_UNAVAILABLE,
                           "teremd ended the stream of events; begin again when it runs");
}

static const struct option_spec events_options[] = {
    {"ve", 0, "NAME", "only what happens to this VE", COMPLETE_VES},
    {"type", 0, "TYPE", "only events of this type, or of this group: ve.state, ve",
     COMPLETE_EVENTS},
    {"progress", 0, NULL, "also each step of a job"},
    END,
};

#define NAME(type, words) " " type
command_row cmd_events = {
    .name = "events",
    .summary = "watch what happens on the node",
    .usage = "",
    .options = events_options,
    .run = run_events,
    .detail =
        "Prints each event from now on, until Ctrl-C, a sentence each: what happened and why, "
        "as far as the event tells. With --json one object a line, with all steps of jobs.\n\n"
        "The types, each group of them behind the name that takes them all:" EVENT_TYPES(NAME) ".",
    .examples = {"terem events", "terem events --ve web1 --type ve.refused",
                 "terem events --json | jq 'select(.type == \"ve.exit\")'"},
};
