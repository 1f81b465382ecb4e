/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "test_api_stage.h"

static char root[] = "/tmp/terem-api-XXXXXX";
struct place place;
pid_t server;

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

int connect_api(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    str_print(addr.sun_path, sizeof(addr.sun_path), "%s", place.api);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (int i = 0; i < 6000; i++) {
        if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
            return fd;
        usleep(10 * 1000);
    }
    close(fd);
    return -1;
}

int start(void **state)
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

int end(void **state)
{
    int status = 0;
    if (server > 0) {
        kill(server, SIGTERM);
        waitpid(server, &status, 0);
    }
    server = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int make_root(void **state)
{
    return mkdtemp(root) && place_init(&place, root, NULL) == 0 ? 0 : -1;
}

int remove_root(void **state)
{
    return path_remove_tree_at(AT_FDCWD, root, NULL);
}

int start_small(void **state)
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

void answer_done(struct answer *a)
{
    json_decref(a->json);
    a->json = NULL;
}

void send_text(int fd, const char *text, size_t n)
{
    assert_int_equal(send(fd, text, n, MSG_NOSIGNAL), n);
}

size_t read_until(int fd, char *buf, size_t size, const char *end)
{
    size_t have = 0;
    buf[0] = '\0';
    while (have + 1 < size && (!end || !memmem(buf, have, end, strlen(end)))) {
        struct pollfd p = {fd, POLLIN, 0};
        if (poll(&p, 1, 60000) <= 0)
            fail_msg("no answer in time; so far: %s", buf);
        ssize_t n = read(fd, buf + have, size - 1 - have);
        if (n <= 0)
            break;
        have += (size_t)n;
        buf[have] = '\0';
    }
    return have;
}

void parse_answer(char *text, size_t len, struct answer *a)
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

void ask_raw(const char *request, size_t n, struct answer *a)
{
    static char text[65536];
    auto_fd int fd = connect_api();
    assert_true(fd >= 0);
    send_text(fd, request, n);
    size_t len = read_until(fd, text, sizeof(text), NULL);
    parse_answer(text, len, a);
}

void ask_with(const char *method, const char *target, const char *headers, const char *body,
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

void ask(const char *method, const char *target, const char *body, struct answer *a)
{
    ask_with(method, target, body ? "Content-Type: application/json\r\n" : "", body, a);
}

const char *message(const struct answer *a)
{
    const char *text =
        json_string_value(json_object_get(json_object_get(a->json, "error"), "message"));
    return text ? text : "";
}

const char *field(const struct answer *a, const char *key)
{
    const char *text = json_string_value(json_object_get(a->json, key));
    return text ? text : "";
}

int watches(void)
{
    auto_answer struct answer a = {0};
    ask("GET", "/v1", NULL, &a);
    return (int)json_integer_value(json_object_get(a.json, "watches"));
}

void wait_for_watches(int wanted)
{
    for (int i = 0; i < 6000 && watches() != wanted; i++)
        usleep(10 * 1000);
    assert_int_equal(watches(), wanted);
}

int subscribe(const char *headers, char *buf, size_t size)
{
    int fd = connect_api();
    auto_str struct str s = str_init(1024);
    str_add(&s, "GET /v1/events HTTP/1.1\r\nHost: x\r\n%s\r\n", headers);
    send_text(fd, s.buf, s.len);
    read_until(fd, buf, size, "\r\n\r\n");
    return fd;
}
