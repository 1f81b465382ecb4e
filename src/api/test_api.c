/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the API answers to one client at a time, and the document about it. */
#include "test_api_stage.h"

static void test_reading(void **state)
{
    auto_answer struct answer a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, f = {0}, g = {0};
    struct stat st;
    ask("GET", "/v1", NULL, &a);
    expect(a, 200, "\"fake\"");
    assert_non_null(strstr(a.head, "application/json"));
    ask("GET", "/v1/ves?label=tier%3dweb&fields=name,usage.pids", NULL, &b);
    expect(b, 200, "\"label\":\"tier=web\",\"fields\":\"name,usage.pids\"");
    assert_non_null(strstr(b.head, "application/json"));
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
        {"POST", "/v1/bulk", "{\"all\":true}", 400, "needs the field \\\"verb\\\""},
        {"POST", "/v1/bulk", "{\"verb\":\"move\",\"all\":true}", 400, "verb must be"},
        {"POST", "/v1/bulk", "{\"verb\":\"stop\",\"options\":{\"timeout\":-1}}", 400, "at least 0"},
        {"POST", "/v1/bulk", "{\"verb\":\"start\",\"options\":{\"x\":1}}", 400, "options: "},
        {"POST", "/v1/bulk", "{\"verb\":\"set\",\"options\":{\"name\":\"a\"}}", 400, "one name"},
        {"POST", "/v1/bulk", "{\"verb\":\"exec\",\"options\":{\"command\":[\"a\"],\"tty\":true}}",
         400, "no terminal"},
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
    static const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests_name("api", tests, make_root, remove_root);
}
