/* SPDX-License-Identifier: GPL-2.0-or-later */
/* jobs list, jobs show, jobs cancel, node stop. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
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

int cmd_jobs_list(struct cli *cli, const struct args *a, struct err *err)
{
    static const char *const heads[] = {"JOB", "KIND", "SUBJECT", "STATE", "CREATED", "TEXT"};
    auto_table struct text_table t = {.columns = 6, .right = 1};
    auto_str struct str out = str_init(TEXT_MAX);
    auto_json json_t *list = NULL;
    int64_t now = text_now();
    size_t i;
    json_t *j;
    auto_str struct str path = str_init(256);
    const char *limit = args_get(a, "limit");
    uint64_t most = JOBS_SHOWN;
    if (limit && number_parse(limit, 1, UINT32_MAX, &most, err) < 0)
        return err_wrap(err, "--limit");
    str_add(&path, "/v1/jobs?limit=%" PRIu64 "%s", most, args_has(a, "all") ? "&all=true" : "");
    int r = cli_call(cli, "GET", str_c(&path), NULL, &list, err);
    if (r < 0)
        return r;
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
    if (!cli->quiet && json_array_size(list) == 0 && cli->out_tty)
        str_add(&out, "No job is open.\n");
    else if (!cli->quiet)
        text_table_render(&t, &out, 0);
    return cli_out(&out, err);
}

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
    str_add(out, "%-8s %" JSON_INTEGER_FORMAT "\n", "job", cli_int(j, "id"));
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        if (!*cli_text(j, texts[i]))
            continue;
        str_add(out, "%-8s ", texts[i]);
        text_add(out, cli_text(j, texts[i]));
        str_add(out, "\n");
    }
    if (!cli_is_null(j, "percent"))
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
}

int cmd_jobs_show(struct cli *cli, const struct args *a, struct err *err)
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

int cmd_jobs_cancel(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *job = NULL;
    auto_client struct client *c = NULL;
    uint64_t id;
    int r = job_path(a, "", &path, &id, err);
    struct request rq = {.method = "DELETE", .path = str_c(&path), .deadline = CLIENT_DEADLINE};
    if (r == 0)
        r = client_open(&cli->place, &rq, &c, err);
    if (r == 0)
        r = client_json(c, &job, err);
    if (r < 0)
        return r;
    if (cli->json && job)
        return cli_out_json(cli, job, err);
    cli_say(cli, "job %" PRIu64 ": asked to stop", id);
    return 0;
}

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

int cmd_node_stop(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *body = json_object(), *answer = NULL;
    auto_client struct client *c = NULL;
    json_object_set_new(body, "force", json_boolean(args_has(a, "force")));
    struct request rq = {.method = "POST", .path = "/v1/node/stop", .body = body};
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
    cli_say(cli, args_has(a, "no-wait") ? "the node is stopping" : "the node has stopped");
    return 0;
}
