/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The client against a server that answers from a can: a forked child at a socket of its own. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "client.h"
#include "keep/frame.h"
#include "session.h"
#include "work.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

struct can {
    char dir[64];
    struct place place;
    pid_t pid;
};

/* Reads one request up to its body's end (Content-Length only). */
static void read_request(int fd, char *buf, size_t size)
{
    size_t have = 0;
    for (;;) {
        ssize_t n = read(fd, buf + have, size - 1 - have);
        if (n <= 0)
            return;
        have += (size_t)n;
        buf[have] = '\0';
        const char *end = strstr(buf, "\r\n\r\n"), *len = strstr(buf, "Content-Length: ");
        size_t body = 0;
        for (const char *p = len ? len + 16 : ""; *p >= '0' && *p <= '9'; p++)
            body = body * 10 + (size_t)(*p - '0');
        if (end && have >= (size_t)(end + 4 - buf) + body)
            return;
    }
}

/* Answers connection i with answers[i], cut into writes of `step` bytes. */
static void open_can(struct can *c, const char *const *answers, size_t n, size_t step)
{
    str_print(c->dir, sizeof(c->dir), "/tmp/terem-cli-XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    c->place = (struct place){0};
    str_print(c->place.api, sizeof(c->place.api), "%s/s", c->dir);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    str_print(sa.sun_path, sizeof(sa.sun_path), "%s", c->place.api);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 16), 0);
    c->pid = fork();
    if (c->pid == 0) {
        static char request[65536];
        alarm(60); /* never outlives a test that hangs */
        for (size_t i = 0; i < n; i++) {
            int conn = accept(fd, NULL, NULL);
            read_request(conn, request, sizeof(request));
            size_t len = strlen(answers[i]);
            for (size_t at = 0; at < len; at += step)
                fd_write_all(conn, answers[i] + at, len - at < step ? len - at : step, NULL);
            close(conn);
        }
        _exit(0);
    }
    close(fd);
}

static void close_can(struct can *c)
{
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
    unlink(c->place.api);
    rmdir(c->dir);
}

static int ask(const char *answer, size_t step, json_t **ret, struct err *err)
{
    struct can can;
    open_can(&can, &answer, 1, step);
    auto_client struct client *c = NULL;
    struct request rq = {.method = "GET", .path = "/v1/ves"};
    int r = client_open(&can.place, &rq, &c, err);
    if (r == 0)
        r = client_json(c, ret, err);
    close_can(&can);
    return r;
}

static void test_bodies(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4;x=y\r\n\":1}\r\n0\r\n"
        "Trailer: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n{\"a\":1}",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}",
    };
    for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
        for (size_t step = 1; step < 200; step += 66) {
            auto_json json_t *doc = NULL;
            struct err err = {0};
            assert_int_equal(ask(answers[i], step, &doc, &err), 0);
            assert_int_equal(cli_int(doc, "a"), 1);
        }
}

static void test_bad_answers(void **state)
{
    static const struct {
        const char *answer;
        int kind;
    } rows[] = {
        {"", ERR_UNAVAILABLE},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"a\":1}", ERR_UNAVAILABLE},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a", ERR_UNAVAILABLE},
        {"HTTP/2 200 OK\r\n\r\n", ERR_CORRUPT},
        {"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}", ERR_CORRUPT},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", ERR_CORRUPT},
        {"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}", ERR_CORRUPT},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
         ERR_CORRUPT},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}", ERR_CORRUPT},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ERR_CORRUPT},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n", ERR_CORRUPT},
        {"HTTP/1.1 200 OK\r\n: x\r\n\r\n", ERR_CORRUPT},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{x}", ERR_CORRUPT},
        {"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}", ERR_INTERNAL},
        {"HTTP/1.1 404 No\r\n\r\n"
         "{\"error\":{\"kind\":\"not-found\",\"message\":\"no such VE\"}}",
         ERR_NOT_FOUND},
        {"HTTP/1.1 404 No\r\n\r\n"
         "{\"error\":{\"kind\":\"gone-mad\",\"message\":\"x\"}}\n",
         ERR_INTERNAL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        auto_json json_t *doc = NULL;
        struct err err = {0};
        int r = ask(rows[i].answer, SIZE_MAX, &doc, &err);
        if (r != -rows[i].kind || !err.text[0])
            fail_msg("row %zu: %d, %s", i, r, err.text);
    }
}

static void test_no_server(void **state)
{
    auto_client struct client *c = NULL;
    struct request rq = {.method = "GET", .path = "/v1/ves"};
    struct err err = {0};
    struct place place = {.api = "/tmp/terem-is-not-here"};
    assert_int_equal(client_open(&place, &rq, &c, &err), -ERR_UNAVAILABLE);
    assert_string_equal(err.text, "cannot reach teremd at /tmp/terem-is-not-here: No such file or "
                                  "directory; start it with systemctl start terem");
    str_print(place.root, sizeof(place.root), "/tmp/root");
    assert_int_equal(client_open(&place, &rq, &c, &err), -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "; start it with teremd --root /tmp/root"));
}

/* A teremd that is stopped takes the connection and says nothing. */
static void test_silence(void **state)
{
    struct can can;
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct request rq = {.method = "GET", .path = "/v1", .deadline = 1};
    auto_client struct client *c = NULL;
    auto_json json_t *doc = NULL;
    struct err err = {0};
    open_can(&can, NULL, 0, 1); /* for its directory */
    unlink(can.place.api);
    str_print(sa.sun_path, sizeof(sa.sun_path), "%s", can.place.api);
    auto_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 1), 0);
    alarm(60);
    assert_int_equal(client_open(&can.place, &rq, &c, &err), 0);
    assert_int_equal(client_json(c, &doc, &err), -ERR_TIMEOUT);
    assert_string_equal(err.text, "teremd has not answered within 1 seconds; look whether it is "
                                  "stopped or overloaded");
    alarm(0);
    close_can(&can);
}

static void test_encode(void **state)
{
    auto_str struct str s = str_init(1024);
    client_encode(&s, "/a b&c=é\n.-_~Z9");
    assert_string_equal(str_c(&s), "%2Fa%20b%26c%3D%C3%A9%0A.-_~Z9");
}

static int count_line(void *ctx, json_t *doc, struct err *err)
{
    *(json_int_t *)ctx += cli_int(doc, "n");
    return 0;
}

static void test_lines(void **state)
{
    static const char text[] = "{\"n\":1}\n\n{\"n\":20}\n{\"n\":300}\n{\"n\"";
    for (size_t step = 1; step < sizeof(text); step++) {
        auto_str struct str rest = str_init(100);
        json_int_t sum = 0;
        for (size_t at = 0; at < sizeof(text) - 1; at += step) {
            size_t left = sizeof(text) - 1 - at;
            assert_int_equal(
                work_lines(&rest, text + at, left < step ? left : step, count_line, &sum, NULL), 0);
        }
        assert_int_equal(sum, 321);
        assert_string_equal(str_c(&rest), "{\"n\"");
    }
    auto_str struct str rest = str_init(100);
    json_int_t sum = 0;
    assert_int_equal(work_lines(&rest, "{x}\n", 4, count_line, &sum, NULL), -ERR_CORRUPT);
}

#define JOB(id, state, ended, error)                                          \
    "{\"id\":" #id ",\"kind\":\"start\",\"subject\":\"a\",\"state\":\"" state \
    "\",\"percent\":null,"                                                    \
    "\"text\":\"\",\"ended\":" ended ",\"error\":" error "}"
#define STREAM "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"

static int run_work(const char *const *answers, size_t n_answers, size_t n, struct err *err,
                    struct work **ret)
{
    struct can can;
    static const struct work_words words = {"starting", "started"};
    struct cli cli = {.quiet = true, .status = -1};
    open_can(&can, answers, n_answers, SIZE_MAX);
    cli.place = can.place;
    struct work *w = work_new(n);
    for (size_t i = 0; i < n; i++) {
        w[i].subject = "a";
        w[i].method = "POST";
        w[i].path = strdup("/v1/ves/a/start");
    }
    int r = work_run(&cli, w, n, &words, true, false, err);
    close_can(&can);
    *ret = w;
    return r;
}

static void test_work(void **state)
{
    struct err err = {0};
    struct work *w;
    static const char *const done[] = {
        STREAM JOB(1, "running", "null", "null") "\n" JOB(1, "done", "5", "null") "\n"};
    assert_int_equal(run_work(done, 1, 1, &err, &w), 0);
    assert_string_equal(cli_text(w->doc, "state"), "done");
    work_free(w, 1);

    static const char *const failed[] = {
        STREAM JOB(1, "failed", "5", "{\"kind\":\"busy\",\"message\":\"a: it is busy\"}") "\n"};
    assert_int_equal(run_work(failed, 1, 1, &err, &w), -ERR_BUSY);
    assert_string_equal(err.text, "a: it is busy");
    work_free(w, 1);

    /* Only begun: asks for the job until it has ended. */
    static const char *const begun[] = {
        "HTTP/1.1 202 Accepted\r\n\r\n" JOB(7, "queued", "null", "null"),
        STREAM JOB(7, "done", "5", "null") "\n"};
    assert_int_equal(run_work(begun, 2, 1, &err, &w), 0);
    work_free(w, 1);

    /* teremd dies in the middle. */
    static const char *const broken[] = {STREAM JOB(9, "running", "null", "null") "\n"};
    assert_int_equal(run_work(broken, 1, 1, &err, &w), -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "terem jobs show 9"));
    work_free(w, 1);

    /* One of two fails: the other is done, the whole fails, and each knows its own. */
    static const char *const mixed[] = {STREAM JOB(1, "done", "5", "null") "\n",
                                        STREAM JOB(2, "cancelled", "5", "null") "\n"};
    err_clear(&err);
    assert_true(run_work(mixed, 2, 2, &err, &w) < 0);
    assert_string_equal(err.text, "");
    assert_int_equal((w[0].err.kind != ERR_NONE) + (w[1].err.kind != ERR_NONE), 1);
    work_free(w, 2);
}

static int collect(void *ctx, const void *buf, size_t len, struct err *err)
{
    str_add_bytes(ctx, buf, len);
    return 0;
}

/* The server's side of a session is written at once: frames behind the head count as well. */
static void test_session(void **state)
{
    struct can can;
    static const char *const answers[] = {
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
        "Upgrade: terem-stream/1\r\n\r\n"};
    auto_str struct str got = str_init(1024);
    auto_client struct client *c = NULL;
    struct request rq = {.method = "GET", .path = "/v1/ves/a/console", .upgrade = true};
    struct err err = {0};
    int pair[2], status = -1;
    enum session_end end;
    open_can(&can, answers, 1, SIZE_MAX);
    assert_int_equal(client_open(&can.place, &rq, &c, &err), 0);
    assert_int_equal(client_head(c, &err), 0);
    assert_true(http_upgraded(&c->http));
    close_can(&can);
    /* Goes on over a pair, whose other end we hold. */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    close(c->fd);
    c->fd = pair[0];
    frame_write(pair[1], FRAME_STDOUT, "one", 3, NULL);
    frame_write(pair[1], (enum frame_type)99, "skipped", 7, NULL);
    frame_write(pair[1], FRAME_STDERR, "two", 3, NULL);
    frame_write(pair[1], FRAME_EXIT, "\1\11", 2, NULL);
    struct session s = {.client = c,
                        .no_input = true,
                        .detach_key = SESSION_NO_KEY,
                        .output = collect,
                        .ctx = &got};
    assert_int_equal(session_run(&s, &end, &status, &err), 0);
    assert_string_equal(str_c(&got), "onetwo");
    assert_int_equal(end, SESSION_EXITED);
    assert_int_equal(status, 128 + 9);

    frame_write(pair[1], FRAME_ERROR, "\2no such command", 16, NULL);
    assert_int_equal(session_run(&s, &end, &status, &err), -ERR_NOT_FOUND);
    assert_string_equal(err.text, "no such command");
    close(pair[1]);
    assert_int_equal(session_run(&s, &end, &status, &err), -ERR_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),    cmocka_unit_test(test_bad_answers),
        cmocka_unit_test(test_no_server), cmocka_unit_test(test_encode),
        cmocka_unit_test(test_lines),     cmocka_unit_test(test_work),
        cmocka_unit_test(test_session),   cmocka_unit_test(test_silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
