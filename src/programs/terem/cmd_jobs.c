/* SPDX-License-Identifier: GPL-2.0-or-later */
/* jobs list, jobs show, jobs wait, jobs cancel, node stop. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "bulk.h"
#include "cli.h"
#include "command.h"
#include "text.h"
#include "work.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define JOBS_SHOWN 50

static int run_jobs_list(struct cli *cli, const struct args *a, struct err *err)
{
    static const char *const heads[] = {"JOB", "KIND", "SUBJECT", "STATE", "CREATED", "TEXT"};
    auto_table struct text_table t = {.columns = 6, .right = 1, .wrap = true};
    auto_str struct str out = str_init(TEXT_MAX);
    auto_json json_t *list = NULL;
    int64_t now = text_now();
    size_t i;
    json_t *j;
    auto_str struct str path = str_init(256);
    const char *limit = args_get(a, "limit");
    uint64_t most = JOBS_SHOWN;
    if (limit && number_parse(limit, 1, UINT32_MAX - 1, &most, err) < 0)
        return err_wrap(err, "--limit");
    str_add(&path, "/v1/jobs?limit=%" PRIu64 "%s", most + 1, args_has(a, "all") ? "&all=true" : "");
    int r = cli_call(cli, "GET", str_c(&path), NULL, &list, err);
    if (r < 0)
        return r;
    bool cut = json_array_remove(list, most) == 0;
    if (cli->json)
        return cli_out_json(cli, list, err);
    for (i = 0; i < ARRAY_SIZE(heads); i++)
        text_cell(&t, heads[i]);
    json_array_foreach(list, i, j)
    {
        const json_t *e = json_object_get(j, "error");
        auto_str struct str when = str_init(64);
        text_add_age(&when, cli_int(j, "created"), now);
        if (cli->quiet)
            str_add(&out, "%" JSON_INTEGER_FORMAT "\n", cli_int(j, "id"));
        text_cellf(&t, "%" JSON_INTEGER_FORMAT, cli_int(j, "id"));
        text_cell(&t, cli_text(j, "kind"));
        text_cell(&t, cli_text(j, "subject"));
        if (cli_is_null(j, "percent") || !cli_is_null(j, "ended"))
            text_cell(&t, cli_text(j, "state"));
        else
            text_cellf(&t, "%s %" JSON_INTEGER_FORMAT "%%", cli_text(j, "state"),
                       cli_int(j, "percent"));
        text_cell(&t, str_c(&when));
        text_cell(&t, json_is_object(e) ? cli_text(e, "message") : cli_text(j, "text"));
    }
    cli_add_table(cli, &out, &t, true,
                  json_array_size(list) ? NULL
                  : args_has(a, "all")  ? "There was no job yet."
                                        : "No job is open; terem jobs list --all shows what was.");
    r = cli_out(&out, err);
    if (r == 0 && cut && !cli->quiet)
        cli_complain("there are more than these %" PRIu64 "; --limit %" PRIu64 " shows more", most,
                     10 * most);
    return r;
}

static const struct option_spec jobs_options[] = {
    {"all", 'a', NULL, "also those that have ended, the newest first"},
    {"limit", 'n', "COUNT", "at most so many (default: 50)"},
    END,
};

command_row cmd_jobs_list = {
    .name = "jobs list",
    .summary = "list the open jobs",
    .usage = "",
    .options = jobs_options,
    .run = run_jobs_list,
    .detail = "Every operation that takes time is a job of teremd. It goes on when its client "
              "goes away. A job over many VEs stands above those that it begins.",
    .examples = {"terem jobs", "terem jobs list --all"},
};

static int job_path(const struct args *a, const char *suffix, struct str *path, uint64_t *ret_id,
                    struct err *err)
{
    int r = number_parse(a->pos[0], 1, INT64_MAX, ret_id, err);
    if (r < 0)
        return err_wrap(err, "the job's number");
    str_add(path, "/v1/jobs/%" PRIu64 "%s", *ret_id, suffix);
    return 0;
}

static void show_job(struct str *out, const json_t *j)
{
    static const char *const texts[] = {"kind", "subject", "state", "text"};
    static const char *const times[] = {"created", "started", "ended"};
    const json_t *e = json_object_get(j, "error");
    json_int_t failed = cli_int(json_object_get(j, "result"), "failed");
    bool over = !cli_is_null(j, "ended");
    str_add(out, "%-8s %" JSON_INTEGER_FORMAT "\n", "job", cli_int(j, "id"));
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        if (!*cli_text(j, texts[i]))
            continue;
        str_add(out, "%-8s ", texts[i]);
        text_add(out, cli_text(j, texts[i]));
        str_add(out, "\n");
    }
    /* What has ended without being done is over, not done to 100%. */
    if (!cli_is_null(j, "percent") && (!over || str_eq(cli_text(j, "state"), "done")))
        str_add(out, "%-8s %" JSON_INTEGER_FORMAT "%%\n", "done", cli_int(j, "percent"));
    for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
        if (cli_is_null(j, times[i]))
            continue;
        str_add(out, "%-8s ", times[i]);
        text_add_time(out, cli_int(j, times[i]));
        str_add(out, "\n");
    }
    if (json_is_object(e)) {
        str_add(out, "%-8s ", "error");
        text_add(out, cli_text(e, "message"));
        str_add(out, "\n");
    }
    if (over && failed) /* of many VEs; the error is that of the first */
        str_add(out,
                "%-8s %" JSON_INTEGER_FORMAT " VE%s; terem jobs show %" JSON_INTEGER_FORMAT
                " --json names each with its error\n",
                "failed", failed, failed == 1 ? "" : "s", cli_int(j, "id"));
}

static int run_jobs_show(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256), out = str_init(TEXT_MAX);
    auto_json json_t *job = NULL;
    uint64_t id;
    int r = job_path(a, "", &path, &id, err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &job, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, job, err);
    show_job(&out, job);
    return cli_out(&out, err);
}

command_row cmd_jobs_show = {
    .name = "jobs show",
    .summary = "show one job",
    .usage = "JOB",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_JOBS,
    .run = run_jobs_show,
    .detail =
        "Prints its state, times, and why it failed. Of a job over many VEs --json tells what "
        "became of each.",
    .examples = {"terem jobs show 12"},
};

static int run_jobs_wait(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct work_words words = {"at work", NULL};
    auto_str struct str path = str_init(256);
    auto_json json_t *job = NULL;
    uint64_t id;
    int r = job_path(a, "", &path, &id, err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &job, err);
    if (r < 0)
        return r;
    bool many = str_eq(cli_text(job, "kind"), "bulk");
    const char *subject = cli_text(job, "subject"), *verb = many ? subject : cli_text(job, "kind");
    struct bulk bulk = {.verb = verb, .words = words};
    if (many && str_eq(verb, exec_bulk.verb))
        bulk = exec_bulk;
    else
        life_bulk(verb, &bulk);
    return many ? bulk_wait(cli, str_c(&path), &bulk, err)
                : work_one(cli, subject, "GET", str_steal(&path), NULL, &bulk.words, false, err);
}

command_row cmd_jobs_wait = {
    .name = "jobs wait",
    .summary = "wait for a job that was begun before",
    .usage = "JOB",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_JOBS,
    .run = run_jobs_wait,
    .detail = "As the command that began it waits: how far it is, what became of each VE, and its "
              "exit status; also of a job that has ended. SIGINT (Ctrl-C) ends the waiting, not "
              "the work.",
    .examples = {"terem jobs wait 12"},
};

static int run_jobs_cancel(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *job = NULL;
    uint64_t id;
    int r = job_path(a, "", &path, &id, err);
    if (r == 0)
        r = cli_call(cli, "DELETE", str_c(&path), NULL, &job, err);
    return r < 0 ? r : cli_answer(cli, job, err, "job %" PRIu64 ": asked to stop", id);
}

command_row cmd_jobs_cancel = {
    .name = "jobs cancel",
    .summary = "ask a job to stop",
    .usage = "JOB",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_JOBS,
    .run = run_jobs_cancel,
    .detail =
        "What the job has half done is undone. A job that is faster ends as done. Of one over "
        "many VEs no more are begun: it tells at its end how many were done and how many were "
        "not begun, and where none was left out it ends as if it had not been cancelled.",
    .examples = {"terem jobs cancel 12"},
};

/* The process at the other end, to be waited for; -1 when that cannot be told. */
static int peer_pidfd(int sock)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);
    int fd = -1;
    /* Process 1 would be a systemd that listens in teremd's place. */
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid > 1)
        fd_pidfd_open(peer.pid, &fd, NULL);
    return fd;
}

/* Until nobody answers at the socket, and the process is gone. */
static void wait_gone(struct cli *cli, int pidfd)
{
    struct err err = {0};
    if (pidfd >= 0 && fd_pidfd_wait_exit(pidfd, -1, NULL) == 0)
        return;
    while (cli_call(cli, "GET", "/v1", NULL, NULL, &err) != -ERR_UNAVAILABLE) {
        err_clear(&err);
        poll(NULL, 0, 50);
    }
}

/* One that does not want to end has half a minute. */
static void say_how_many(struct cli *cli)
{
    auto_json json_t *ves = NULL;
    size_t i, n = 0;
    json_t *ve;
    if (cli->quiet || !isatty(STDERR_FILENO) ||
        cli_list_ves(cli, NULL, "state", &ves, &(struct err){0}) < 0)
        return;
    json_array_foreach(ves, i, ve)
    {
        const char *state = cli_text(ve, "state");
        n += !str_eq(state, "stopped") && !str_eq(state, "broken");
    }
    if (n)
        fprintf(stderr, "waiting until %zu VE%s stopped; terem kill VE ends one at once\n", n,
                n == 1 ? " has" : "s have");
}

static bool is_forced(const struct args *a)
{
    return args_has(a, "force") || args_has(a, "fast");
}

static int run_node_stop(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *body = json_object(), *answer = NULL;
    auto_client struct client *c = NULL;
    json_object_set_new(body, "force", json_boolean(is_forced(a)));
    json_object_set_new(body, "wait", json_boolean(!args_has(a, "no-wait")));
    if (cli_seconds_put(body, "within", a, err) < 0)
        return -err->kind;
    struct request rq = {.method = "POST", .path = "/v1/node/stop", .body = body};
    if (!is_forced(a) && !args_has(a, "no-wait"))
        say_how_many(cli);
    int r = client_open(&cli->place, &rq, &c, err);
    if (r < 0)
        return r;
    auto_fd int pidfd = peer_pidfd(c->fd);
    r = client_json(c, &answer, err);
    if (r < 0)
        return r;
    client_closep(&c); /* teremd may wait for its clients */
    if (!args_has(a, "no-wait"))
        wait_gone(cli, pidfd);
    if (cli->json && answer)
        return cli_out_json(cli, answer, err);
    cli_say(cli, args_has(a, "no-wait") ? "the node is stopping; terem node stop waits for it"
                                        : "the node has stopped");
    size_t i;
    json_t *left;
    json_array_foreach(json_object_get(answer, "left"), i, left)
    {
        auto_str struct str s = str_init(TEXT_MAX);
        text_add(&s, cli_text(left, "why"));
        fprintf(stderr, "terem: pool %s stays mounted: %s\n", cli_text(left, "pool"), str_c(&s));
    }
    return 0;
}

static const struct option_spec node_options[] = {
    {"force", 'f', NULL, "kill the VEs at once"},
    {"fast", 0, NULL, "the same as --force"},
    {"within", 'w', "TIME", "kill in time what would not have ended by then"},
    {"no-wait", 0, NULL, "do not wait: begin it and end"},
    END,
};

command_row cmd_node_stop = {
    .name = "node stop",
    .summary = "stop every VE and teremd, leaving nothing running",
    .usage = "",
    .options = node_options,
    .run = run_node_stop,
    .detail =
        "All VEs are asked to power off at once, and each has 30 seconds; then it is killed. "
        "With --within TIME all is over by then: those that would take longer, and jobs in "
        "their way, are killed in time. So the machine's shutdown stops the VEs "
        "(terem-ves.service). Waits until teremd has ended. While that goes on, terem node stop "
        "again waits for the same, with --fast it kills what still runs, and with --within it "
        "shortens the time. To restart teremd alone, restart its service: VEs run on meanwhile.",
    .examples = {"terem node stop", "terem node stop --within 2m"},
};
