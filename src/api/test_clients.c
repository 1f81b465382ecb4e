/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Many clients, slow ones, silent ones, ones that vanish; and those that listen to events. */
#include "test_api_stage.h"

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

/* False: it is beyond all limits, and so closed without a word, or told to come again. */
static bool is_served(struct answer *a)
{
    static const char request[] = "GET /v1 HTTP/1.1\r\nHost: terem\r\nConnection: close\r\n\r\n";
    char text[4096];
    auto_fd int fd = connect_api();
    send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL);
    size_t len = read_until(fd, text, sizeof(text), NULL);
    if (len)
        parse_answer(text, len, a);
    return len && a->status != 503;
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
    assert_int_equal(poll(&last, 1, 60000), 1);
    assert_true(read(last.fd, &byte, 1) <= 0);
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) { /* each is closed in its time */
        struct pollfd p = {fds[i], POLLIN, 0};
        char said[512];
        do
            assert_int_equal(poll(&p, 1, 60000), 1);
        while (read(fds[i], said, sizeof(said)) > 0);
    }
    for (int i = 0; !is_served(&b) && i < 6000; i++) { /* the server counts it out after that */
        answer_done(&b);
        usleep(10000);
    }
    expect(b, 200, "fake");
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        close(fds[i]);
}

static void read_switches(char text[4096])
{
    char path[64];
    str_print(path, sizeof(path), "/proc/%d/status", (int)server);
    auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, 4095);
    assert_true(n > 0);
    text[n] = '\0';
    char *at = strstr(text, "voluntary_ctxt_switches");
    assert_non_null(at);
    memmove(text, at, strlen(at) + 1);
}

static bool slept(void)
{
    char before[4096], after[4096];
    read_switches(before);
    usleep(500 * 1000);
    read_switches(after);
    return str_eq(before, after);
}

static void test_idle(void **state)
{
    char buf[4096];
    auto_fd int events = subscribe("", buf, sizeof(buf));
    /* Not one context switch with a subscriber connected, as soon as that is done. */
    for (int i = 0; i < 100 && !slept(); i++)
        continue;
    assert_true(slept());
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

int main(void)
{
    static const struct CMUnitTest tests[] = {
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
    return cmocka_run_group_tests_name("clients", tests, make_root, remove_root);
}
