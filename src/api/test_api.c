/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The whole API over its socket, in a process of its own, on a fake of the room ve. */
#include "api/request.h"
#include "api/schema.h"
#include "test_fake.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "keep/frame.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

static char root[] = "/tmp/terem-api-XXXXXX";
static struct place place;
static pid_t server;

/* ---- the server ---- */

static void on_term(uv_signal_t *handle, int number)
{
    uv_stop(handle->loop);
}

/* Exit status 0: everything was let go of. */
static int serve(void)
{
    uv_loop_t loop;
    uv_signal_t term;
    struct api *api = NULL;
    struct err err = {0};
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    uv_loop_init(&loop);
    uv_signal_init(&loop, &term);
    uv_signal_start(&term, on_term, SIGTERM);
    struct ve_node *node = fake_open(&loop);
    if (api_open(&loop, node, &place, &api, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 3;
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    api_close(api);
    size_t left = fake_close(node);
    uv_close((uv_handle_t *)&term, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&loop) < 0)
        return 4;
    return left ? 5 : 0;
}

static int connect_api(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    str_print(addr.sun_path, sizeof(addr.sun_path), "%s", place.api);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (int i = 0; i < 500; i++) {
        if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
            return fd;
        usleep(10 * 1000);
    }
    close(fd);
    return -1;
}

static int start(void **state)
{
    server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int status = serve();
        fflush(NULL);
        exit(status); /* not _exit: the leak checker looks */
    }
    int fd = connect_api();
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

static int end(void **state)
{
    int status = 0;
    if (server > 0) {
        kill(server, SIGTERM);
        waitpid(server, &status, 0);
    }
    server = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int make_root(void **state)
{
    return mkdtemp(root) && place_init(&place, root, NULL) == 0 ? 0 : -1;
}

static int remove_root(void **state)
{
    return path_remove_tree_at(AT_FDCWD, root, NULL);
}

/* 32 clients, of which 24 may wait, and 64 that are refused. */
static int start_small(void **state)
{
    struct rlimit before, few = {320, 320};
    getrlimit(RLIMIT_NOFILE, &before);
    few.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_NOFILE, &few);
    int r = start(state);
    setrlimit(RLIMIT_NOFILE, &before);
    return r;
}

/* ---- the client ---- */

struct answer {
    int status;
    char head[2048];
    char body[65536];
    size_t len;
    json_t *json;
};

static void answer_done(struct answer *a)
{
    json_decref(a->json);
    a->json = NULL;
}
#define auto_answer __attribute__((cleanup(answer_done)))

static void send_text(int fd, const char *text, size_t n)
{
    assert_int_equal(send(fd, text, n, MSG_NOSIGNAL), n);
}

/* Reads until `end` stands in the buffer, or until the end of file when it is NULL. */
static size_t read_until(int fd, char *buf, size_t size, const char *end)
{
    size_t have = 0;
    buf[0] = '\0';
    while (have + 1 < size && (!end || !memmem(buf, have, end, strlen(end)))) {
        struct pollfd p = {fd, POLLIN, 0};
        if (poll(&p, 1, 3000) <= 0)
            fail_msg("no answer in time; so far: %s", buf);
        ssize_t n = read(fd, buf + have, size - 1 - have);
        if (n <= 0)
            break;
        have += (size_t)n;
        buf[have] = '\0';
    }
    return have;
}

static void parse_answer(char *text, size_t len, struct answer *a)
{
    char *body = memmem(text, len, "\r\n\r\n", 4);
    if (!body)
        fail_msg("no HTTP answer: %s", text);
    *body = '\0';
    body += 4;
    a->len = len - (size_t)(body - text);
    memcpy(a->body, body, a->len);
    a->body[a->len] = '\0';
    str_print(a->head, sizeof(a->head), "%s", text);
    a->status = (text[9] - '0') * 100 + (text[10] - '0') * 10 + text[11] - '0';
    a->json = json_loadb(a->body, a->len, JSON_DECODE_ANY, NULL);
}

static void ask_raw(const char *request, size_t n, struct answer *a)
{
    static char text[65536];
    auto_fd int fd = connect_api();
    assert_true(fd >= 0);
    send_text(fd, request, n);
    size_t len = read_until(fd, text, sizeof(text), NULL);
    parse_answer(text, len, a);
}

static void ask_with(const char *method, const char *target, const char *headers, const char *body,
                     struct answer *a)
{
    auto_str struct str s = str_init(2 << 20);
    str_add(&s, "%s %s HTTP/1.1\r\nHost: terem\r\nConnection: close\r\n%s", method, target,
            headers);
    if (body)
        str_add(&s, "Content-Length: %zu\r\n", strlen(body));
    str_add(&s, "\r\n%s", body ? body : "");
    ask_raw(s.buf, s.len, a);
}

static void ask(const char *method, const char *target, const char *body, struct answer *a)
{
    ask_with(method, target, body ? "Content-Type: application/json\r\n" : "", body, a);
}

static const char *message(const struct answer *a)
{
    const char *text =
        json_string_value(json_object_get(json_object_get(a->json, "error"), "message"));
    return text ? text : "";
}

static const char *field(const struct answer *a, const char *key)
{
    const char *text = json_string_value(json_object_get(a->json, key));
    return text ? text : "";
}

#define expect(a, code, part)                                                                      \
    do {                                                                                           \
        if ((a).status != (code) || !strstr((a).body, (part)))                                     \
            fail_msg("expected %d with \"%s\", got %d: %s", (code), (part), (a).status, (a).body); \
    } while (0)

static int watches(void)
{
    auto_answer struct answer a = {0};
    ask("GET", "/v1", NULL, &a);
    return (int)json_integer_value(json_object_get(a.json, "watches"));
}

static void wait_for_watches(int wanted)
{
    for (int i = 0; i < 200 && watches() != wanted; i++)
        usleep(10 * 1000);
    assert_int_equal(watches(), wanted);
}

/* ---- tests ---- */

static void test_reading(void **state)
{
    auto_answer struct answer a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, f = {0}, g = {0};
    struct stat st;
    ask("GET", "/v1", NULL, &a);
    expect(a, 200, "\"fake\"");
    assert_non_null(strstr(a.head, "application/json"));
    ask("GET", "/v1/ves?label=tier%3dweb", NULL, &b);
    expect(b, 200, "tier=web");
    ask("GET", "/v1/ves/web9", NULL, &c);
    expect(c, 404, "not-found");
    assert_string_equal(message(&c), "web9: there is no such VE; did you mean web1?");
    ask("HEAD", "/v1/ves/web1", NULL, &d);
    assert_int_equal(d.status, 200);
    assert_int_equal(d.len, 0);
    ask("GET", "/v1/counters?failed=true", NULL, &g);
    expect(g, 200,
           "[{\"ve\":\"failed\",\"counters\":[{\"key\":\"processes\",\"type\":\"count\","
           "\"held\":9223372036854775807,\"maxheld\":null,");
    expect(g, 200, "\"failcnt\":0}]},{\"ve\":\"web2\",");
    json_t *all = json_loads(g.body, 0, NULL);
    assert_int_equal(json_array_size(all), 2);
    json_decref(all);
    ask("GET", "/metrics", NULL, &e);
    expect(e, 200, "\nterem_ve_cpu_seconds_total{ve=\"we\\\\b\\\"1\\n\"} 1.5\n");
    expect(e, 200, "# TYPE terem_ve_cpu_seconds_total counter\n");
    expect(e, 200, "row=\"processes\"} 7\n");
    expect(e, 200, "row=\"processes\"} 18446744073709551615\n");
    expect(e, 200, "row=\"cpu.limit\"} 0.125\n");
    expect(e, 200, "resource=\"cpu\"} 0.125\n");
    assert_null(strstr(e.body, "resource=\"io\""));
    expect(e, 200, "\nterem_ves{state=\"running\"} 1\n");
    assert_null(strstr(e.body, "# EOF"));
    ask_with("GET", "/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n", NULL,
             &f);
    expect(f, 200, "# TYPE terem_ve_cpu_seconds counter\n# UNIT terem_ve_cpu_seconds seconds\n");
    assert_string_equal(f.body + f.len - 6, "# EOF\n");
    assert_int_equal(stat(place.api, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
}

static void test_bad_addresses(void **state)
{
    static const struct {
        const char *method, *target;
        int status;
        const char *part;
    } rows[] = {
        {"GET", "/", 404, "nothing at this address"},
        {"GET", "/v2", 404, "nothing"},
        {"GET", "/v1/", 404, "nothing"},
        {"GET", "//v1", 404, "nothing"},
        {"GET", "/v1/ves/", 404, "nothing"},
        {"GET", "/v1/ves/web1/start/x", 404, "nothing"},
        {"GET", "/v1/a/b/c/d/e/f/g/h/i", 404, "nothing"},
        {"GET", "/v1/ves/..", 404, "no such VE"},
        {"GET", "/v1/ves/web1%00", 400, "NUL"},
        {"GET", "/v1/ves/a%2fb", 400, "slash"},
        {"GET", "/v1/ves/a%2", 400, "hexadecimal"},
        {"GET", "/v1/ves/a%zz", 400, "hexadecimal"},
        {"GET", "/v1/ves/a%0a", 400, "control character"},
        {"GET", "/v1/ves/a%1b%5b2J", 400, "control character"},
        {"GET", "/v1/ves/%ff", 400, "UTF-8"},
        {"GET", "/v1/ves/%c0%af", 400, "UTF-8"},
        {"GET", "/v1/ves?labl=a%3db", 400, "did you mean \\\"label\\\"?"},
        {"GET", "/v1/ves?label=a&label=b", 400, "twice"},
        {"GET", "/v1/jobs?all=yes", 400, "true or false"},
        {"GET", "/v1/jobs/12x", 400, "number"},
        {"GET", "/v1/jobs/-1", 400, "number"},
        {"GET", "/v1/jobs/99", 404, "no job 99"},
        {"GET", "/v1/ves/web1/files", 400, "needs \\\"path\\\""},
        {"GET", "/v1/ves/web1/logs?lines=1e3", 400, "lines"},
        {"PUT", "/v1/ves", 405, "GET, HEAD, POST"},
        {"OPTIONS", "/v1", 405, "GET"},
        {"BREWCOFFEE", "/v1", 405, "GET"},
        {"GET", "/v1/params/memory.limt", 404, "memory.limit"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        auto_answer struct answer a = {0};
        ask(rows[i].method, rows[i].target, NULL, &a);
        if (a.status != rows[i].status || !strstr(a.body, rows[i].part))
            fail_msg("%s: %d %s", rows[i].target, a.status, a.body);
        assert_true(*message(&a));
        if (a.status == 405)
            assert_non_null(strstr(a.head, "Allow: GET"));
    }
}

static void test_bad_bodies(void **state)
{
    static const struct {
        const char *method, *target, *body;
        int status;
        const char *part;
    } rows[] = {
        {"POST", "/v1/ves", "", 400, "needs the field \\\"name\\\""},
        {"POST", "/v1/ves", "{\"name\":\"a\",\"templat\":\"b\"}", 400,
         "did you mean \\\"template\\\"?"},
        {"POST", "/v1/ves", "{\"name\":\"a\",\"name\":\"b\"}", 400, "duplicate"},
        {"POST", "/v1/ves", "{\"name\":5}", 400, "name must be of type string, not integer"},
        {"POST", "/v1/ves", "[]", 400, "the body must be of type object, not array"},
        {"POST", "/v1/ves", "{\"name\":\"a\"} x", 400, "JSON"},
        {"POST", "/v1/ves", "{\"name\":\"a\\u0000b\"}", 400, "JSON"},
        {"POST", "/v1/ves", "{\"name\":\"\xff\"}", 400, "JSON"},
        {"POST", "/v1/ves", "{\"name\":\"a\",\"kind\":\"big\"}", 400, "kind must be system or app"},
        {"POST", "/v1/ves", "{\"name\":\"a\",\"command\":[\"ls\",7]}", 400, "command[1] must be"},
        {"POST", "/v1/ves", "{\"name\":\"a\",\"command\":[]}", 400, "at least 1"},
        {"POST", "/v1/ves", "{\"name\":\"a\",\"labels\":{\"x\":null}}", 400, "labels.x must be"},
        {"POST", "/v1/ves", "{\"name\":\"a\",\"params\":{\"memory.limt\":\"1G\"}}", 400,
         "memory.limit"},
        {"POST", "/v1/ves", "{\"name\":\"a\",\"params\":{\"memory.limit\":5}}", 400,
         "params.memory.limit must be of type string"},
        {"POST", "/v1/ves", "{\"name\":\"web1\"}", 409, "exists"},
        {"POST", "/v1/ves/web1/stop", "{\"timeout\":-1}", 400, "at least 0"},
        {"POST", "/v1/ves/web1/stop", "{\"timeout\":1.5}", 400, "not number"},
        {"POST", "/v1/ves/web1/start", "{\"x\":1}", 400, "has no field"},
        {"POST", "/v1/ves/web1/start", "nul", 400, "JSON"},
        {"POST", "/v1/ves", " null ", 400, "needs the field \\\"name\\\""},
        {"POST", "/v1/ves/web1/exec", "{\"command\":[\"ls\"],\"tty\":true}", 400, "Upgrade"},
        {"POST", "/v1/templates", "{\"name\":\"a\"}", 400, "build"},
        {"POST", "/v1/templates", "{\"import\":\"/a\"}", 400, "name"},
        {"GET", "/v1/ves", "{}", 400, "takes no body"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        auto_answer struct answer a = {0};
        ask(rows[i].method, rows[i].target, rows[i].body, &a);
        if (a.status != rows[i].status || !strstr(a.body, rows[i].part))
            fail_msg("%s %s: %d %s", rows[i].target, rows[i].body, a.status, a.body);
        assert_true(*message(&a));
    }
    auto_answer struct answer form = {0}, deep = {0}, big = {0}, expect_big = {0};
    ask_with("POST", "/v1/ves", "Content-Type: application/x-www-form-urlencoded\r\n", "{}", &form);
    expect(form, 415, "application/json");
    auto_free char *many = malloc((1 << 20) + 100);
    memset(many, '[', 100000);
    many[100000] = '\0';
    ask("POST", "/v1/ves", many, &deep);
    expect(deep, 400, "depth");
    memset(many, ' ', (1 << 20) + 50);
    many[(1 << 20) + 50] = '\0';
    ask("POST", "/v1/ves", many, &big);
    expect(big, 413, "1 MiB");
    static const char head[] = "POST /v1/ves HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                               "Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n";
    ask_raw(head, strlen(head), &expect_big);
    expect(expect_big, 413, "1 MiB");
}

static void test_making(void **state)
{
    auto_answer struct answer a = {0}, b = {0}, c = {0};
    ask("POST", "/v1/ves", "{\"name\":\"db1\",\"params\":{\"memory.limit\":\"512M\"}}", &a);
    expect(a, 201, "512M");
    assert_non_null(strstr(a.head, "Location: /v1/ves/db1"));
    ask("POST", "/v1/ves?wait=true", "{\"name\":\"db2\",\"start\":true}", &b);
    expect(b, 200, "\"start\"");
    assert_string_equal(field(&b, "state"), "done");
    ask("PATCH", "/v1/ves/web1", "{\"params\":{\"memory.limit\":null},\"labels\":{\"x\":null}}",
        &c);
    expect(c, 200, "null");
}

static void test_jobs(void **state)
{
    auto_answer struct answer a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, f = {0};
    ask("POST", "/v1/ves/web1/start", NULL, &a);
    expect(a, 202, "\"running\"");
    assert_non_null(strstr(a.head, "Location: /v1/jobs/"));
    ask("POST", "/v1/ves/web1/stop?wait=true", "{\"timeout\":5}", &b);
    expect(b, 200, "\"done\"");
    ask("POST", "/v1/ves/web1/pause?wait=true", NULL, &c);
    expect(c, 507, "there is no room");
    /* Clients that always send a body send one that says nothing. */
    static const char *const nothing[] = {"", "{}", "null", " null\n"};
    for (size_t i = 0; i < ARRAY_SIZE(nothing); i++) {
        auto_answer struct answer n = {0};
        ask("POST", "/v1/ves/web1/resume?wait=true", nothing[i], &n);
        expect(n, 200, "\"resume\"");
    }
    auto_answer struct answer none = {0}, one = {0};
    ask("GET", "/v1/jobs?all=true&limit=0", NULL, &none);
    expect(none, 200, "[]");
    ask("GET", "/v1/jobs?limit=1", NULL, &one);
    expect(one, 200, "\"open\":true");
    ask("GET", "/v1/jobs/1?wait=true", NULL, &d);
    expect(d, 200, "\"done\"");
    ask_with("POST", "/v1/ves/web1/restart", "Accept: application/x-ndjson\r\n", NULL, &e);
    assert_int_equal(e.status, 200);
    const char *half = strstr(e.body, "\"percent\":50"), *done = strstr(e.body, "\"percent\":100");
    assert_true(half && done && half < done);
    assert_non_null(strstr(done, "\"ended\":99"));
    assert_int_equal(watches(), 0);
}

static void test_sessions(void **state)
{
    auto_answer struct answer a = {0}, b = {0}, c = {0};
    ask("POST", "/v1/ves/web1/exec", "{\"command\":[\"echo\",\"hello\"]}", &a);
    expect(a, 200, "hello");
    ask("GET", "/v1/ves/web1/console", NULL, &b);
    expect(b, 426, "terem-stream/1");
    ask("POST", "/v1/ves/web9/exec", "{\"command\":[\"ls\"]}", &c);
    expect(c, 404, "web9");
}

static void upgrade_and_read(const char *line, const char *body, char *buf, size_t size, size_t *n)
{
    auto_fd int fd = connect_api();
    auto_str struct str s = str_init(4096);
    str_add(&s,
            "%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " FRAME_PROTOCOL
            "\r\nContent-Length: %zu\r\n\r\n%s",
            line, strlen(body), body);
    send_text(fd, s.buf, s.len);
    *n = read_until(fd, buf, size, NULL);
    assert_non_null(strstr(buf, "101 Switching"));
    char *frames = strstr(buf, "\r\n\r\n") + 4;
    *n -= (size_t)(frames - buf);
    memmove(buf, frames, *n);
}

static void test_upgrades(void **state)
{
    char buf[4096];
    size_t n;
    /* The session's process writes after the API has closed its descriptor. */
    upgrade_and_read("POST /v1/ves/web1/exec", "{\"command\":[\"word\"],\"tty\":true}", buf,
                     sizeof(buf), &n);
    static const char want[] = "\1\0\0\0\4word\5\0\0\0\2\0\0";
    assert_int_equal(n, sizeof(want) - 1);
    assert_memory_equal(buf, want, n);
    upgrade_and_read("POST /v1/ves/web1/exec", "{\"command\":[\"fail\"]}", buf, sizeof(buf), &n);
    assert_int_equal(buf[0], FRAME_ERROR);
    assert_int_equal(buf[5], ERR_STATE);
    assert_memory_equal(buf + 6, "web1: it is stopped", 19);
    upgrade_and_read("GET /v1/ves/web1/console", "", buf, sizeof(buf), &n);
    assert_memory_equal(buf + 5, "login: ", 7);
}

static void test_logs_and_files(void **state)
{
    auto_answer struct answer a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, f = {0};
    ask("GET", "/v1/ves/web1/logs?lines=3", NULL, &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "two\nthree\nfour\n");
    ask("GET", "/v1/ves/web1/logs?lines=0", NULL, &e);
    assert_string_equal(e.body, "");
    ask_with("PUT", "/v1/ves/web1/files?path=/a+b%2Fc&mode=755&uid=33", "", "0123456789", &b);
    expect(b, 200, "\"size\":10");
    ask_with("PUT", "/v1/ves/web1/files?path=/echo+b%2Fc&mode=755&uid=33",
             "Content-Type: application/x-tar\r\n", "01234", &f);
    expect(f, 422, "/echo b/c 0755 33 0 archive 5");
    ask_with("PUT", "/v1/ves/web1/files?path=/x&mode=9", "", "0", &c);
    expect(c, 400, "mode");
    ask("GET", "/v1/ves/web1/files?path=/etc/motd", NULL, &d);
    assert_int_equal(d.status, 200);
    assert_string_equal(d.body, "pulled\n");
    assert_non_null(strstr(d.head, "Terem-Mode: 0640"));
}

static void test_large_files(void **state)
{
    static char text[65536];
    auto_fd int fd = connect_api();
    static const char head[] = "PUT /v1/ves/web1/files?path=/big HTTP/1.1\r\nHost: x\r\n"
                               "Content-Type: application/x-tar\r\nConnection: close\r\n"
                               "Content-Length: 3145728\r\n\r\n";
    send_text(fd, head, strlen(head));
    for (size_t i = 0; i < 48; i++)
        send_text(fd, text, sizeof(text));
    size_t n = read_until(fd, text, sizeof(text), NULL);
    auto_answer struct answer a = {0};
    parse_answer(text, n, &a);
    expect(a, 200, "3145728");

    auto_fd int get = connect_api();
    static const char request[] = "GET /v1/ves/web1/files?path=/big HTTP/1.1\r\nHost: x\r\n"
                                  "Connection: close\r\n\r\n";
    send_text(get, request, strlen(request));
    size_t total = 0;
    for (ssize_t k; (k = read(get, text, sizeof(text))) > 0;)
        total += (size_t)k;
    assert_true(total > 3 << 20);
}

static int subscribe(const char *headers, char *buf, size_t size)
{
    int fd = connect_api();
    auto_str struct str s = str_init(1024);
    str_add(&s, "GET /v1/events HTTP/1.1\r\nHost: x\r\n%s\r\n", headers);
    send_text(fd, s.buf, s.len);
    read_until(fd, buf, size, "\r\n\r\n");
    return fd;
}

static void test_events(void **state)
{
    char buf[4096];
    auto_answer struct answer a = {0};
    auto_fd int lines = subscribe("", buf, sizeof(buf));
    assert_non_null(strstr(buf, "application/x-ndjson"));
    auto_fd int sse = subscribe("Accept: text/event-stream\r\n", buf, sizeof(buf));
    assert_non_null(strstr(buf, "text/event-stream"));
    wait_for_watches(1); /* one of the room for all */
    ask("POST", "/v1/ves/web1/start?wait=true", NULL, &a);
    read_until(lines, buf, sizeof(buf), "\"ended\":99");
    assert_non_null(strstr(buf, "{\"time\":1,\"type\":\"job\""));
    read_until(sse, buf, sizeof(buf), "\"ended\":99");
    assert_non_null(strstr(buf, "event: job\ndata: {"));
    close(steal_fd(&lines));
    close(steal_fd(&sse));
    wait_for_watches(0); /* without any event that would tell */
}

/* A subscriber that reads nothing: others go on, its queue is bounded, and it learns of its loss.
 */
static void test_slow_subscriber(void **state)
{
    static char buf[1 << 20];
    auto_fd int slow = subscribe("", buf, sizeof(buf));
    int small = 2048;
    setsockopt(slow, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    wait_for_watches(1);
    for (int round = 0; round < 40; round++) {
        auto_answer struct answer a = {0};
        ask("POST", "/v1/ves/web1/start?wait=true", NULL, &a);
        expect(a, 200, "done");
    }
    close(steal_fd(&slow));
    wait_for_watches(0);
}

/* The directory of uploads and downloads was taken away. */
static void test_tidied_up(void **state)
{
    auto_answer struct answer a = {0}, b = {0};
    char tmp[PLACE_MAX + 8];
    str_print(tmp, sizeof(tmp), "%s/tmp", place.state);
    assert_int_equal(rmdir(tmp), 0);
    ask("PUT", "/v1/ves/web1/files?path=/x", "hello", &a);
    expect(a, 200, "5");
    assert_int_equal(rmdir(tmp), 0);
    ask("GET", "/v1/ves/web1/files?path=/x", NULL, &b);
    assert_int_equal(b.status, 200);
}

static void test_two_lengths(void **state)
{
    static const char request[] = "POST /v1/ves HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                                  "GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n";
    auto_answer struct answer a = {0};
    ask_raw(request, strlen(request), &a); /* which waits for the end of the connection */
    expect(a, 400, "exclude each other");
    assert_null(strstr(a.body, "HTTP/1.1"));
}

static void test_vanishing_clients(void **state)
{
    static const char *const requests[] = {
        "POST /v1/ves/web1/start?wait=true HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "POST /v1/ves/web1/exec HTTP/1.1\r\nHost: x\r\nContent-Length: 19\r\n\r\n"
        "{\"command\":[\"true\"]}",
        "GET /v1/ves/web1/files?path=/x HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /v1/events HTTP/1.1\r\nHo",
        "PUT /v1/ves/web1/files?path=/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc",
        "POST /v1/ves/web1/exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        "Upgrade: terem-stream/1\r\nContent-Length: 20\r\n\r\n{\"command\":[\"true\"]}",
    };
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
            int fd = connect_api();
            send_text(fd, requests[i], strlen(requests[i]));
            usleep(3000 * (useconds_t)round);
            close(fd);
        }
    wait_for_watches(0);
}

/* A client that only closes its sending side waits for its answer. */
static void test_half_closed(void **state)
{
    char buf[4096];
    static const char request[] = "POST /v1/ves/web1/start?wait=true HTTP/1.1\r\nHost: x\r\n"
                                  "Connection: close\r\nContent-Length: 0\r\n\r\n";
    auto_fd int fd = connect_api();
    send_text(fd, request, strlen(request));
    usleep(2000);
    shutdown(fd, SHUT_WR);
    read_until(fd, buf, sizeof(buf), NULL);
    assert_non_null(strstr(buf, "\"done\""));
}

static void test_closing_with_waiters(void **state)
{
    char buf[4096];
    auto_fd int events = subscribe("", buf, sizeof(buf));
    auto_fd int idle = connect_api();
    auto_fd int wait = connect_api();
    static const char request[] = "POST /v1/ves/web1/start?wait=true HTTP/1.1\r\nHost: x\r\n"
                                  "Content-Length: 0\r\n\r\n";
    send_text(wait, request, strlen(request));
    usleep(2000);
    assert_int_equal(end(NULL), 0);
    assert_int_equal(access(place.api, F_OK), -1);
    /* A socket that a killed daemon left behind is replaced. */
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    str_print(addr.sun_path, sizeof(addr.sun_path), "%s", place.api);
    auto_fd int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(dead, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(start(NULL), 0);
}

/* Waiters leave room for others. */
static void test_many_waiters(void **state)
{
    auto_answer struct answer a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, f = {0};
    char buf[4096];
    int fds[24];
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = subscribe("", buf, sizeof(buf));
    ask("GET", "/v1/events", NULL, &a);
    expect(a, 503, "24 clients wait already");
    ask("POST", "/v1/ves/web1/start?wait=true", NULL, &b);
    expect(b, 503, "wait=true");
    ask("POST", "/v1/ves/web1/start", NULL, &c);
    expect(c, 202, "start");
    ask("GET", "/v1/ves/web1", NULL, &d);
    expect(d, 200, "web1");
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        close(fds[i]);
    wait_for_watches(0);
    ask("POST", "/v1/ves/web1/start?wait=true", NULL, &e);
    expect(e, 200, "done");
}

/* Clients that connect, or begin a request, and then say nothing. */
static void test_many_idlers(void **state)
{
    static const char *const begins[] = {"", "GET /v1 HT",
                                         "PUT /v1/ves/web1/files?path=/x HTTP/1.1\r\nHost: x\r\n"
                                         "Content-Length: 1000000\r\n\r\nabc"};
    auto_answer struct answer a = {0}, b = {0};
    int fds[200];
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        const char *text = begins[i % ARRAY_SIZE(begins)];
        fds[i] = connect_api();
        if (*text) /* those beyond all limits are closed */
            send(fds[i], text, strlen(text), MSG_NOSIGNAL);
        if (i == 31 + 10) {
            ask("GET", "/v1", NULL, &a);
            expect(a, 503, "32 clients are connected already");
        }
    }
    char byte;
    struct pollfd last = {fds[ARRAY_SIZE(fds) - 1], POLLIN, 0};
    assert_int_equal(poll(&last, 1, 1000), 1);
    assert_true(read(last.fd, &byte, 1) <= 0);
    sleep(7);
    ask("GET", "/v1", NULL, &b);
    expect(b, 200, "fake");
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        close(fds[i]);
}

static void test_idle(void **state)
{
    char buf[4096];
    auto_fd int events = subscribe("", buf, sizeof(buf));
    usleep(100 * 1000);
    char path[64], before[4096] = "", after[4096] = "";
    str_print(path, sizeof(path), "/proc/%d/status", (int)server);
    for (int i = 0; i < 2; i++) {
        auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
        (void)!read(fd, i ? after : before, sizeof(before) - 1);
        if (!i)
            usleep(500 * 1000);
    }
    /* Not one context switch with a subscriber connected. */
    assert_string_equal(strstr(before, "voluntary_ctxt_switches"),
                        strstr(after, "voluntary_ctxt_switches"));
}

static void test_stop(void **state)
{
    auto_answer struct answer a = {0};
    int status = -1;
    ask("POST", "/v1/node/stop", "{\"force\":true}", &a);
    expect(a, 200, "\"stopped\":true");
    waitpid(server, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(access(place.api, F_OK), -1);
    assert_int_equal(start(NULL), 0);
}

/* ---- the document ---- */

static void test_openapi(void **state)
{
    json_t *doc = api_openapi(), *item, *op;
    const char *path, *method;
    size_t n = 0;
    json_object_foreach(json_object_get(doc, "paths"), path, item)
    {
        json_object_foreach(item, method, op)
        {
            const char *id = json_string_value(json_object_get(op, "operationId"));
            bool found = false;
            for (size_t i = 0; i < route_table_size; i++)
                found |= str_eq(route_table[i].id, id) && str_eq(route_table[i].pattern, path) &&
                         strcasecmp(route_table[i].method, method) == 0;
            assert_true(found);
            n++;
        }
    }
    assert_int_equal(n, route_table_size);
    json_decref(doc);
}

/* Every schema that a route or a schema names exists. */
static void check_refs(json_t *components, json_t *v)
{
    const char *key;
    json_t *item;
    size_t i;
    json_array_foreach(v, i, item) check_refs(components, item);
    json_object_foreach(v, key, item)
    {
        if (str_eq(key, "$ref")) {
            const char *name = strrchr(json_string_value(item), '/') + 1;
            if (!json_object_get(components, name))
                fail_msg("there is no schema %s", name);
        }
        check_refs(components, item);
    }
}

static void test_schemas(void **state)
{
    json_t *doc = api_openapi();
    json_t *components = json_object_get(json_object_get(doc, "components"), "schemas");
    check_refs(components, doc);
    json_decref(doc);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--openapi") == 0) {
        json_t *doc = api_openapi();
        json_dumpf(doc, stdout, JSON_INDENT(2));
        json_decref(doc);
        return 0;
    }
    static const struct CMUnitTest document[] = {
        cmocka_unit_test(test_openapi),
        cmocka_unit_test(test_schemas),
        cmocka_unit_test_setup_teardown(test_reading, start, end),
        cmocka_unit_test_setup_teardown(test_bad_addresses, start, end),
        cmocka_unit_test_setup_teardown(test_bad_bodies, start, end),
        cmocka_unit_test_setup_teardown(test_making, start, end),
        cmocka_unit_test_setup_teardown(test_jobs, start, end),
        cmocka_unit_test_setup_teardown(test_sessions, start, end),
        cmocka_unit_test_setup_teardown(test_upgrades, start, end),
        cmocka_unit_test_setup_teardown(test_logs_and_files, start, end),
        cmocka_unit_test_setup_teardown(test_large_files, start, end),
        cmocka_unit_test_setup_teardown(test_events, start, end),
        cmocka_unit_test_setup_teardown(test_slow_subscriber, start, end),
        cmocka_unit_test_setup_teardown(test_tidied_up, start, end),
        cmocka_unit_test_setup_teardown(test_two_lengths, start, end),
        cmocka_unit_test_setup_teardown(test_vanishing_clients, start, end),
        cmocka_unit_test_setup_teardown(test_half_closed, start, end),
        cmocka_unit_test_setup_teardown(test_closing_with_waiters, start, end),
        cmocka_unit_test_setup_teardown(test_many_waiters, start_small, end),
        cmocka_unit_test_setup_teardown(test_many_idlers, start_small, end),
        cmocka_unit_test_setup_teardown(test_idle, start, end),
        cmocka_unit_test_setup_teardown(test_stop, start, end),
    };
    return cmocka_run_group_tests_name("api", document, make_root, remove_root);
}
