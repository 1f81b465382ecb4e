/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of commands, reading a command line, and everything generated from the table. */
#include "base/cleanup.h"
#include "base/str.h"
#include "cli.h"
#include "command.h"
#include "event_text.h"
#include "generate.h"
#include "help.h"
#include "logtext.h"
#include "param/param.h"
#include "progress.h"
#include "text.h"
#include "ve_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#define BIG ((size_t)1 << 20)

static int parse(struct args *a, struct err *err, const char *line)
{
    static char words[512];
    static char *argv[64];
    int argc = 0;
    str_print(words, sizeof(words), "terem %s", line);
    for (char *p = words; *p && argc < 63;) {
        argv[argc++] = p;
        p += strcspn(p, " ");
        if (*p)
            *p++ = '\0';
    }
    argv[argc] = NULL;
    return args_parse(argc, argv, a, err);
}

static void test_args(void **state)
{
    struct args a;
    struct err err = {0};
    assert_int_equal(parse(&a, &err, "--root /x create web1 -t debian-12 --set=a=1 --set b=2 -q"),
                     0);
    assert_string_equal(a.command->name, "create");
    assert_int_equal(a.n_pos, 1);
    assert_string_equal(args_get(&a, "root"), "/x");
    assert_string_equal(args_get(&a, "template"), "debian-12");
    assert_string_equal(args_each(&a, "set", 0), "a=1");
    assert_string_equal(args_each(&a, "set", 1), "b=2");
    assert_null(args_each(&a, "set", 2));
    assert_true(args_has(&a, "quiet"));
    assert_false(a.has_rest);
    args_done(&a);

    assert_int_equal(parse(&a, &err, "exec -tu www web1 ls -l --json"), 0);
    assert_true(args_has(&a, "tty"));
    assert_string_equal(args_get(&a, "user"), "www");
    assert_int_equal(a.n_rest, 3);
    assert_string_equal(a.rest[2], "--json");
    assert_false(args_has(&a, "json"));
    args_done(&a);

    assert_int_equal(parse(&a, &err, "exec web1 -- -x"), 0);
    assert_int_equal(a.n_rest, 1);
    assert_string_equal(a.rest[0], "-x");
    args_done(&a);

    assert_int_equal(parse(&a, &err, "start a b -- c"), 0);
    assert_int_equal(a.n_pos, 3);
    args_done(&a);

    assert_int_equal(parse(&a, &err, "create -- a b c"), 0);
    assert_int_equal(a.n_pos, 1);
    assert_string_equal(a.pos[0], "a");
    assert_int_equal(a.n_rest, 2);
    assert_string_equal(a.rest[0], "b");
    args_done(&a);

    assert_int_equal(parse(&a, &err, "jobs"), 0);
    assert_string_equal(a.command->name, "jobs list");
    args_done(&a);
    assert_int_equal(parse(&a, &err, "jobs cancel 12"), 0);
    assert_string_equal(a.command->name, "jobs cancel");
    assert_string_equal(a.pos[0], "12");
    args_done(&a);
    assert_int_equal(parse(&a, &err, "template --help"), 0);
    assert_string_equal(a.group, "template");
    args_done(&a);
    assert_int_equal(parse(&a, &err, "template --json list"), 0);
    assert_string_equal(a.command->name, "template list");
    args_done(&a);
}

static void test_events(void **state)
{
    static const struct {
        const char *event, *line;
    } rows[] = {
        {"{'type':'ve.state','ve':'web1','from':'starting','to':'running'}",
         "web1: starting \u2192 running"},
        {"{'type':'ve.refused','ve':'web1','key':'processes','count':3,'pid':12,'process':'sh',"
         "'text':'nothing new starts'}",
         "web1: processes refused sh (pid 12), 3 times: nothing new starts"},
        {"{'type':'ve.refused','ve':'web1','key':'files','count':1,'pid':null,'process':null,"
         "'text':null}",
         "web1: files refused once"},
        {"{'type':'ve.refused','ve':'w','key':'files','count':1,'process':'a\\u001b[2J','text':''}",
         "w: files refused a\\x1b[2J"},
        {"{'type':'ve.refused','ve':'w','key':'net.packets','count':9,'pid':null,'process':null,"
         "'text':'dropped'}",
         "w: net.packets refused 9 times: dropped"},
        {"{'type':'ve.oom','ve':'web1','pid':7,'process':'dd','count':2}",
         "web1: out of memory: dd (pid 7) was killed (the last of 2)"},
        {"{'type':'job','job':{'id':4,'kind':'start','subject':'web1','state':'done','text':'x'}}",
         "web1: job 4 start done"},
        {"{'type':'job','job':{'id':4,'kind':'start','subject':'web1','state':'running','text':'x'}"
         "}",
         "web1: job 4 start running: x"},
        {"{'type':'job','job':{'id':4,'kind':'bulk','subject':'stop','state':'done','text':'x',"
         "'result':{'total':4,'done':3,'failed':1}}}",
         "stop: job 4 bulk done: 3 of 4 done"},
        {"{'type':'profile.updated','profile':'small','params':{'processes':'9'},'ves':1}",
         "profile small: set to processes=9, also in 1 VE"},
        {"{'type':'profile.removed','profile':'small'}", "profile small: removed"},
        {"{'type':'ve.created','ve':'web1'}", "web1: created"},
        {"{'type':'ve.created','ve':'web2','from':'web1'}", "web2: created, a clone of web1"},
        {"{'type':'node.recovered','booted':false}", "teremd is at work again"},
        {"{'type':'template.updated','template':'shop'}", "template shop: updated"},
        {"{'type':'class.changed','class':'near','added':3,'removed':1}",
         "class near: changed, 3 prefixes added and 1 removed"},
        {"{'type':'port.published','port':'tcp:80','ve':'web1','to':8080}",
         "web1: tcp:80 published"},
        {"{'type':'address.moved','address':'203.0.113.5','from':'web1','ve':'web2'}",
         "web2: 203.0.113.5 moved from web1"},
        {"{'type':'address.removed','address':'203.0.113.5','from':'web1','ve':null}",
         "203.0.113.5 removed from web1"},
        {"{'type':'private-network.created','network':'back'}", "private network back: created"},
        {"{'type':'private-network.joined','network':'back','ve':'web1'}",
         "web1: joined private network back"},
        {"{'type':'address-pool.created','address_pool':'front','prefix':'203.0.113.0/24'}",
         "address pool front: created, 203.0.113.0/24"},
        {"{'type':'ve.updated','ve':'web1','changes':{'params':{'processes':'9','files':null},"
         "'labels':{'tier':'a'},'autostart':true,'force':true}}",
         "web1: updated: processes=9, files=-, labels.tier=a, autostart=true"},
        {"{'type':'ve.updated','ve':'web1','changes':{'template':'shop','revision':2}}",
         "web1: updated to template shop, revision 2"},
        {"{'type':'snapshot.updated','ve':'web1','snapshot':'a','changes':{'name':'b'}}",
         "web1: snapshot a updated: name=b"},
        {"{'type':'snapshot.failed','ve':'web1','schedule':'hourly','text':'no space'}",
         "web1: hourly snapshot failed: no space"},
        {"{'type':'job','job':{'id':4,'kind':'snapshot','subject':'web1','state':'failed',"
         "'text':'copying','error':{'kind':'exhausted','message':'web1: cannot take it: no "
         "room'}}}",
         "web1: job 4 snapshot failed: cannot take it: no room"},
        {"{'type':'ve.asleep','ve':'web1','idle':600000}",
         "web1: fell asleep: nobody had used it for 10m"},
        {"{'type':'ve.awake','ve':'web1','by':'packet','slept':7200000}",
         "web1: woken by a packet after 2h"},
        {"{'type':'ve.awake','ve':'web1','by':'exec','slept':7200000}",
         "web1: woken by exec after 2h"},
        {"{'type':'ve.disk_soft','ve':'web1','key':'disk.space','used':26214400,'soft':20971520,"
         "'until':0}",
         "web1: disk.space: 25M used, above the soft limit 20M: delete some until "
         "1970-01-01 00:00:00, or nothing can be added from then on"},
        {"{'type':'ve.disk_held','ve':'web1','key':'disk.inodes','used':12,'soft':9,'until':0}",
         "web1: disk.inodes: 12 used, above the soft limit 9 for too long: nothing can be added "
         "until enough is deleted"},
        {"{'type':'ve.disk_ok','ve':'web1','key':'disk.space','used':1024,'soft':2048}",
         "web1: disk.space: 1K used, not above the soft limit 2K any more"},
        {"{'type':'events.lost','count':5}",
         "5 events are missing here: they came faster than they were read"},
    };
    setenv("TZ", "UTC0", 1);
    tzset();
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        auto_str struct str s = str_init(BIG);
        auto_free char *text = strdup(rows[i].event);
        for (char *p = text; *p; p++)
            if (*p == '\'')
                *p = '"';
        json_t *event = json_loads(text, 0, NULL);
        assert_non_null(event);
        event_text(&s, event);
        json_decref(event);
        assert_string_equal(str_c(&s), rows[i].line);
    }
}

static void test_wrapped(void **state)
{
    auto_str struct str s = str_init(BIG);
    text_add_wrapped(&s, "one two three a-long-word four", 2, 10);
    assert_string_equal(str_c(&s), "one two\n  three\n  a-long-word\n  four");
    str_clear(&s);
    text_add_wrapped(&s, "one two\n", 2, 0);
    assert_string_equal(str_c(&s), "one two\\x0a");
}

static void test_bad_args(void **state)
{
    static const struct {
        const char *line, *says;
    } rows[] = {
        {"lst", "did you mean list?"},
        {"strat x", "did you mean start?"},
        {"migrate web1", "does not have migrate yet"},
        {"ls", "there is no command ls; terem list does that"},
        {"rename web1 web2", "terem set VE --name NEW does that"},
        {"list --jsn", "did you mean --json?"},
        {"create", "a word is missing"},
        {"create a b", "\"b\" is one word too many; use: terem create [OPTION...] VE ["},
        {"create a memory.limit=1G", "one word too many; use --set memory.limit=1G"},
        {"list extra", "too many; use: terem list [OPTION...]; terem show extra shows one VE"},
        {"top nope", "too many; use: terem top [OPTION...]"},
        {"create a --template", "--template needs a value"},
        {"list --json=1", "--json takes no value"},
        {"list -Z", "there is no option -Z"},
        {"template frobnicate", "use one of: build"},
        {"job list", "there is no command job; did you mean jobs?"},
        {"snapshots", "did you mean snapshot?"},
        {"snapshot crate web1",
         "there is no command snapshot crate; did you mean snapshot create?"},
        {"network clas list", "did you mean network class?"},
        {"network class ad x", "did you mean network class add?"},
        {"complete", "terem help lists them"},
        {"node", "needs one of: show, setup, stop"},
        {"x\x1b[31m", "\\x1b[31m"},
        {"backup web1", "a word is missing"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct args a;
        struct err err = {0};
        assert_int_equal(parse(&a, &err, rows[i].line), -ERR_USAGE);
        if (!strstr(err.text, rows[i].says))
            fail_msg("%s: %s", rows[i].line, err.text);
        args_done(&a);
    }
}

/* None is a command here, and each leads to one. */
static void test_elsewhere(void **state)
{
    for (const struct command_elsewhere *e = command_elsewhere; e->word; e++) {
        size_t n = strcspn(e->here, " ");
        bool there = false;
        for (size_t i = 0; i < command_table_size; i++) {
            const char *name = command_table[i]->name;
            assert_string_not_equal(name, e->word);
            there |= strcspn(name, " ") == n && strncmp(name, e->here, n) == 0;
        }
        if (!there)
            fail_msg("%s: there is no command %s", e->word, e->here);
    }
}

/* Options of the rows must not hide the global ones, nor each other. */
static void test_table(void **state)
{
    for (size_t i = 0; i < command_table_size; i++) {
        const struct command *c = command_table[i];
        char seen[64] = "qh";
        assert_non_null(c->run);
        assert_non_null(c->summary);
        assert_non_null(c->usage);
        assert_non_null(c->detail);
        assert_true(c->max >= c->min);
        assert_true(help_hidden(c) || c->examples[0]);
        if (strlen(c->summary) > 60)
            fail_msg("%s: its summary does not fit a line of help", c->name);
        for (size_t k = 0; k < ARRAY_SIZE(c->examples) && c->examples[k]; k++)
            if (strlen(c->examples[k]) > 78)
                fail_msg("%s: its example %zu does not fit a line of help", c->name, k + 1);
        for (const struct option_spec *o = c->options; o && o->name; o++) {
            assert_non_null(o->summary);
            assert_true((o->complete == COMPLETE_WORDS) == (o->words != NULL));
            for (const struct option_spec *g = command_global_options; g->name; g++)
                assert_string_not_equal(o->name, g->name);
            if (o->letter && strchr(seen, o->letter))
                fail_msg("%s: -%c stands twice", c->name, o->letter);
            seen[strlen(seen)] = o->letter;
        }
        for (size_t k = i + 1; k < command_table_size; k++)
            assert_string_not_equal(c->name, command_table[k]->name);
        for (const char *const *later = command_later; *later; later++)
            assert_string_not_equal(c->name, *later);
    }
}

/* Each command and each of its options stands in its page, its help and each script. */
static void test_generated(void **state)
{
    auto_str struct str bash = str_init(BIG), zsh = str_init(BIG), fish = str_init(BIG);
    auto_str struct str all = str_init(BIG), overview = str_init(BIG);
    generate_bash(&bash);
    generate_zsh(&zsh);
    generate_fish(&fish);
    generate_man_terem(&all);
    help_overview(&overview);
    for (size_t i = 0; i < command_table_size; i++) {
        const struct command *c = command_table[i];
        auto_str struct str page = str_init(BIG), help = str_init(BIG), name = str_init(256);
        if (help_hidden(c))
            continue;
        generate_man_command(&page, c);
        help_command(&help, c, 80);
        generate_page_name(&name, c->name);
        auto_str struct str in_roff = str_init(256), in_case = str_init(256);
        for (const char *p = str_c(&name); *p; p++)
            str_add(&in_roff, *p == '-' ? "\\-" : "%c", *p);
        str_add(&in_case, "'%s')", c->name);
        assert_non_null(strstr(str_c(&all), str_c(&in_roff)));
        assert_non_null(strstr(str_c(&overview), c->name));
        assert_non_null(strstr(str_c(&bash), str_c(&in_case)));
        assert_non_null(strstr(str_c(&zsh), str_c(&in_case)));
        const char *last = strrchr(c->name, ' ') ? strrchr(c->name, ' ') + 1 : c->name;
        auto_str struct str in_fish = str_init(256);
        str_add(&in_fish, "-a %s -d", last);
        assert_non_null(strstr(str_c(&fish), str_c(&in_fish)));
        for (const struct option_spec *o = c->options; o && o->name; o++) {
            auto_str struct str dashed = str_init(256), escaped = str_init(256);
            str_add(&dashed, "--%s", o->name);
            str_add(&escaped, "\\-\\-");
            for (const char *p = o->name; *p; p++)
                str_add(&escaped, *p == '-' ? "\\-" : "%c", *p);
            assert_non_null(strstr(str_c(&help), str_c(&dashed)));
            assert_non_null(strstr(str_c(&page), str_c(&escaped)));
            assert_non_null(strstr(str_c(&bash), str_c(&dashed)));
            assert_non_null(strstr(str_c(&zsh), str_c(&dashed)));
            assert_non_null(strstr(str_c(&fish), o->name));
        }
    }
}

static void test_params_page(void **state)
{
    auto_str struct str page = str_init(BIG);
    generate_man_params(&page);
    assert_false(page.failed);
    for (size_t i = 0; i < param_table_size; i++) {
        auto_str struct str key = str_init(256);
        str_add(&key, "\\fB");
        for (const char *p = param_table[i].key; *p; p++)
            str_add(&key, *p == '-' ? "\\-" : "%c", *p);
        str_add(&key, "\\fR\n");
        if (!strstr(str_c(&page), str_c(&key)))
            fail_msg("%s is missing in terem-parameters(7)", param_table[i].key);
    }
}

static void test_exit_words(void **state)
{
    static const struct {
        const char *json, *says;
    } rows[] = {
        {"{\"how\":\"exited\",\"status\":4,\"signal\":null,\"reason\":\"ended by itself\"}",
         "exited with 4 (ended by itself)"},
        {"{\"how\":\"killed\",\"status\":137,\"signal\":\"KILL\","
         "\"reason\":\"out of memory (memory.limit=5M)\"}",
         "killed by SIGKILL (out of memory (memory.limit=5M))"},
        {"{\"how\":\"poweroff\",\"status\":0,\"signal\":null,\"reason\":\"asked to stop\"}",
         "powered off (asked to stop)"},
        {"{\"how\":\"reboot\",\"status\":0,\"signal\":null,\"reason\":null}", "rebooted"},
        {"{\"how\":\"unknown\",\"status\":-1,\"signal\":null,"
         "\"reason\":\"the machine was restarted\"}",
         "ended (the machine was restarted)"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        auto_str struct str s = str_init(BIG);
        auto_json json_t *e = json_loads(rows[i].json, 0, NULL);
        ve_text_exit(&s, e);
        assert_string_equal(str_c(&s), rows[i].says);
    }
}

static void test_width(void **state)
{
    static const struct {
        const char *text;
        size_t width;
    } rows[] = {{"", 0},
                {"abc", 3},
                {"é", 1},
                {"e\xcc\x81", 1},
                {"日本", 4},
                {"…", 1},
                {"\xf0\x9f\x98\x80", 2}};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(text_width(rows[i].text, strlen(rows[i].text)), rows[i].width);
    auto_str struct str s = str_init(BIG);
    assert_int_equal(text_add_cut(&s, "日本語", 4), 3);
    assert_string_equal(str_c(&s), "日…");
    str_clear(&s);
    assert_int_equal(text_add_cut(&s, "abc", 3), 3);
    assert_string_equal(str_c(&s), "abc");
}

static void test_text_table(void **state)
{
    auto_table struct text_table t = {.columns = 3, .right = 1u << 1};
    auto_str struct str s = str_init(BIG);
    static const char *const cells[] = {"NAME",     "N", "LAST", "日本", "10",
                                        "a\nb\x1b", "x", "7",    ""};
    for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
        text_cell(&t, cells[i]);
    text_table_render(&t, &s, 0);
    assert_string_equal(str_c(&s), "NAME   N  LAST\n"
                                   "日本  10  a\\x0ab\\x1b\n"
                                   "x      7\n");
    str_clear(&s);
    text_table_render(&t, &s, 8);
    assert_string_equal(str_c(&s), "NAME   …\n日本  1…\nx      7\n");
}

/* Names give way; numbers, and other words that are short, stay. */
static void test_narrow_table(void **state)
{
    auto_table struct text_table t = {.columns = 4, .right = 1u << 2};
    auto_str struct str s = str_init(BIG);
    static const char *const cells[] = {"a-name-of-forty-cells-that-goes-on-and-on",
                                        "running",
                                        "12345678901234567890",
                                        "uptime 3m",
                                        "web1",
                                        "stopped",
                                        "1",
                                        "-"};
    for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
        text_cell(&t, cells[i]);
    text_table_render(&t, &s, 60);
    assert_string_equal(str_c(&s), "a-name-of-forty-c…  running  12345678901234567890  uptime 3m\n"
                                   "web1                stopped                     1  -\n");
}

/* Of words that go on below, none is lost. */
static void test_wrapped_table(void **state)
{
    auto_table struct text_table t = {.columns = 2, .wrap = true};
    auto_str struct str s = str_init(BIG);
    static const char *const cells[] = {"KEY",       "WHAT IT IS",
                                        "cpu.limit", "most processor time that the VE can use",
                                        "uptime",    "time"};
    for (size_t i = 0; i < ARRAY_SIZE(cells); i++)
        text_cell(&t, cells[i]);
    text_table_render(&t, &s, 36);
    assert_string_equal(str_c(&s), "KEY        WHAT IT IS\n"
                                   "cpu.limit  most processor time that\n"
                                   "           the VE can use\n"
                                   "uptime     time\n");
    assert_false(text_table_fits(&t, 49));
    assert_true(text_table_fits(&t, 50));
    str_clear(&s);
    text_table_render(&t, &s, 0);
    assert_non_null(strstr(str_c(&s), "time that the VE can use\n"));
}

/* A long name of the first column gives way before there is no room. */
static void test_table_fits(void **state)
{
    auto_table struct text_table t = {.columns = 2, .right = 2};
    text_cell(&t, "a-name-of-forty-cells-that-goes-on-and-on");
    text_cell(&t, "1234");
    assert_true(text_table_fits(&t, 22));
    assert_false(text_table_fits(&t, 21));
}

static void test_progress(void **state)
{
    struct progress one = {.total = 1}, many = {.total = 4, .done = 1};
    auto_str struct str s = str_init(BIG);
    progress_line(&s, &one, 79, "web1", 50, "unpacking\n");
    assert_string_equal(str_c(&s), "[##########..........]  50%  web1: unpacking\\x0a");
    str_clear(&s);
    progress_line(&s, &one, 79, "web1", -1, "starting");
    assert_string_equal(str_c(&s), "web1: starting");
    str_clear(&s);
    progress_line(&s, &many, 79, "web2", 99, "starting");
    assert_string_equal(str_c(&s), "[#####...............] 1/4  web2: starting");
    str_clear(&s);
    progress_line(&s, &one, 10, "web1", 200, "starting");
    assert_string_equal(str_c(&s), "[########…");
}

static void test_logtext(void **state)
{
    static const struct {
        const char *in, *color, *plain;
    } rows[] = {
        {"a\r\r\nb\tc\r\n", "a\nb\tc\n", "a\nb\tc\n"},
        {"[\x1b[0;32m OK \x1b[0m]\n", "[\x1b[0;32m OK \x1b[0m]\n", "[ OK ]\n"},
        {"\x1b]0;evil\a", "\\x1b]0;evil\\x07", "\\x1b]0;evil\\x07"},
        {"\x1b[2Jx", "\\x1b[2Jx", "\\x1b[2Jx"},
        {"\x9b"
         "1mx\xff",
         "\\x9b1mx\\xff", "\\x9b1mx\\xff"},
        {"a\r\rb\r", "a\\x0d\\x0db\\x0d", "a\\x0d\\x0db\\x0d"},
        {"\x1b", "\\x1b", "\\x1b"},
        {"\x1b[31", "\\x1b[31", "\\x1b[31"},
        {"日", "日", "日"},
        {"\xe6\x97", "\\xe6\\x97", "\\xe6\\x97"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        for (int color = 0; color < 2; color++) {
            size_t len = strlen(rows[i].in);
            const char *want = color ? rows[i].color : rows[i].plain;
            auto_str struct str whole = str_init(BIG), cut = str_init(BIG);
            assert_int_equal(logtext_add(&whole, rows[i].in, len, color, true), len);
            assert_string_equal(str_c(&whole), want);
            /* Byte by byte, as it may come. */
            auto_str struct str kept = str_init(BIG);
            for (size_t k = 0; k <= len; k++) {
                if (k < len)
                    str_add_bytes(&kept, rows[i].in + k, 1);
                size_t n = logtext_add(&cut, str_c(&kept), kept.len, color, k == len);
                if (kept.len)
                    memmove(kept.buf, kept.buf + n, kept.len - n);
                kept.len -= n;
            }
            assert_string_equal(str_c(&cut), want);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_args),          cmocka_unit_test(test_wrapped),
        cmocka_unit_test(test_bad_args),      cmocka_unit_test(test_events),
        cmocka_unit_test(test_table),         cmocka_unit_test(test_elsewhere),
        cmocka_unit_test(test_generated),     cmocka_unit_test(test_params_page),
        cmocka_unit_test(test_width),         cmocka_unit_test(test_text_table),
        cmocka_unit_test(test_narrow_table),  cmocka_unit_test(test_progress),
        cmocka_unit_test(test_logtext),       cmocka_unit_test(test_exit_words),
        cmocka_unit_test(test_wrapped_table), cmocka_unit_test(test_table_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
