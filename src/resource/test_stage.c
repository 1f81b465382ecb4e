/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "resource/test_stage.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "resource/test_apart.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct resource_node *node;
volatile unsigned *ticks;
static char node_name[NAME_SIZE];

double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void pause_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

struct param_set set_of(const char *a, const char *b, const char *c)
{
    const char *all[] = {a, b, c};
    struct param_set set;
    param_set_init(&set);
    for (size_t i = 0; i < 3; i++)
        if (all[i])
            assert_int_equal(param_set_parse(&set, all[i], NULL), 0);
    return set;
}

void make(int64_t id, const struct param_set *set, struct resource_cgroups *ret)
{
    struct err e = {0};
    if (resource_create(node, id, set, VE_UID, VE_UID, ret, &e) < 0)
        fail_msg("%s", e.text);
}

pid_t run(const struct resource_cgroups *c, bool v2_too, void (*body)(void *), void *ctx)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the code under test not kill us */
    alarm(60);
    for (size_t i = 0; i < c->n_v1; i++)
        if (write(c->v1_procs[i], "0", 1) != 1)
            _exit(100);
    if (v2_too && cgroup_write(c->v2, "cgroup.procs", NULL, "0") < 0)
        _exit(101);
    body(ctx);
    _exit(0);
}

void body_tick(void *ctx)
{
    for (;;) {
        ++*ticks;
        pause_ms(1);
    }
}

void reap(pid_t pid, int *ret_status)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (ret_status)
        *ret_status = status;
}

void wait_ticks(unsigned least)
{
    for (int i = 0; i < 60000 && *ticks < least; i++)
        pause_ms(1);
    assert_true(*ticks >= least);
}

void read_ve(int64_t id, const char *controller, const char *v2_file, const char *v1_file,
             char *buf, size_t size)
{
    for (size_t i = 0; i < node->n_controllers; i++) {
        auto_fd int fd = -1;
        const struct controller *c = &node->controller[i];
        if (strcmp(c->name, controller) != 0)
            continue;
        assert_int_equal(ve_open(node, c->branch, id, &fd, NULL), 0);
        assert_int_equal(
            cgroup_read(fd, c->where == RESOURCE_V2 ? v2_file : v1_file, buf, size, NULL), 0);
    }
}

bool has(const char *controller)
{
    if (resource_controller(node, controller) != RESOURCE_ABSENT)
        return true;
    print_message("# skipped: controller %s: %s\n", controller,
                  resource_why_absent(node, controller));
    return false;
}

int each_setup(void **state)
{
    *ticks = 0;
    return 0;
}

int each_teardown(void **state)
{
    auto_free int64_t *ids = NULL;
    size_t n = 0;
    resource_list(node, &ids, &n, NULL);
    for (size_t i = 0; i < n; i++) {
        resource_kill(node, ids[i], 60000, NULL);
        resource_remove(node, ids[i], NULL);
    }
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return 0;
}

static int run_all(int (*tests)(void))
{
    struct err e = {0};
    if (resource_node_open(node_name, &node, &e) < 0) {
        printf("1..0 # SKIP %s\n", e.text);
        return 0;
    }
    ticks = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int r = tests();
    resource_node_close(node);
    return r;
}

static int clean_up(void)
{
    struct err e = {0};
    if (resource_node_open(node_name, &node, &e) < 0)
        return 0;
    each_teardown(NULL);
    int r = resource_node_remove(node, &e);
    if (r < 0)
        fprintf(stderr, "%s\n", e.text);
    resource_node_close(node);
    return r < 0;
}

int stage_main(int (*tests)(void))
{
    str_print(node_name, sizeof(node_name), "terem-test-%d", (int)getpid());
    return test_apart(run_all, tests, clean_up);
}
