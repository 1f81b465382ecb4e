/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "resource/test_bpf_stage.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "resource/test_apart.h"

#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

static char name[NAME_SIZE], dir[128];
struct resource_node *node;
struct resource_bpf *bpf;
struct resource_cgroups cgroups = RESOURCE_CGROUPS_NONE;

struct box *box;

void pause_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

struct param_set set_of(uint64_t tcp, uint64_t other, uint64_t files)
{
    const char *const keys[] = {"sockets.tcp", "sockets.other", "files"};
    const uint64_t values[] = {tcp, other, files};
    struct param_set set;
    param_set_init(&set);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        param_set_put(&set, param_find(keys[i]),
                      (struct param_value){.unlimited = values[i] == ALL,
                                           .n = values[i] == ALL ? 0 : values[i]});
    return set;
}

void limit(uint64_t tcp, uint64_t other, uint64_t files)
{
    struct param_set set = set_of(tcp, other, files);
    struct err e = {0};
    if (resource_bpf_apply(bpf, ID, &set, true, &e) < 0)
        fail_msg("%s", e.text);
}

struct param_counter counter(const char *key)
{
    struct param_counters list = {0};
    struct err e = {0};
    if (resource_bpf_counters(bpf, ID, -1, &list, &e) < 0)
        fail_msg("%s", e.text);
    return *param_counters_of(&list, param_find(key));
}

uint64_t held(const char *key)
{
    struct param_counter c = counter(key);
    assert_true(c.held.known && c.maxheld.known && c.failcnt.known);
    return c.held.n;
}

uint64_t failed(const char *key)
{
    return counter(key).failcnt.n;
}

void expect_held(const char *key, uint64_t n)
{
    for (int i = 0; i < 12000 && held(key) != n; i++)
        pause_ms(5);
    assert_int_equal(held(key), n);
}

const char *bpffs(void)
{
    return dir;
}

void open_bpf(void)
{
    struct err e = {0};
    if (resource_bpf_open(node, dir, &bpf, &e) < 0)
        fail_msg("%s", e.text);
}

/* Is all of the row counted here?  cmocka reports skip() in TAP as a failure. */
bool works(const char *key)
{
    const char *why;
    if (resource_bpf_row(bpf, param_find(key), &why) == RESOURCE_BPF_LIMITED)
        return true;
    print_message("# skipped: %s: %s; the VM tier has it\n", key, why);
    return false;
}

int setup(void **state)
{
    struct param_set set;
    struct err e = {0};
    param_set_init(&set);
    memset(box, 0, sizeof(*box));
    if (resource_create(node, ID, &set, 0, 0, &cgroups, &e) < 0) {
        print_message("# %s\n", e.text);
        return -1;
    }
    limit(ALL, ALL, ALL);
    return 0;
}

int teardown(void **state)
{
    resource_kill(node, ID, 5000, NULL);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    resource_bpf_forget(bpf, ID, NULL);
    resource_remove(node, ID, NULL);
    resource_cgroups_done(&cgroups);
    return 0;
}

pid_t inside(void (*body)(void))
{
    pid_t pid = fork();
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(60);
    if (cgroup_write(cgroups.v2, "cgroup.procs", NULL, "0") < 0)
        _exit(100);
    body();
    _exit(0);
}

void next_phase(int phase)
{
    box->phase = phase;
}

void wait_phase(int phase)
{
    while (box->phase < phase)
        pause_ms(1);
}

void wait_done(int done)
{
    for (int i = 0; i < 20000 && box->done < done; i++)
        pause_ms(1);
    assert_true(box->done >= done);
}

void ends(pid_t pid)
{
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static int lo_up(void)
{
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    auto_fd int fd = socket(AF_INET, SOCK_DGRAM, 0);
    return fd < 0 ? -1 : ioctl(fd, SIOCSIFFLAGS, &r);
}

static int run_all(int (*tests)(void))
{
    struct err e = {0};
    box = mmap(NULL, sizeof(*box), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (box == MAP_FAILED || unshare(CLONE_NEWNET) < 0 || lo_up() < 0) {
        printf("1..0 # SKIP needs root\n");
        return 0;
    }
    if (resource_node_open(name, &node, &e) < 0 || resource_bpf_open(node, dir, &bpf, &e) < 0) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    const char *why;
    if (resource_bpf_row(bpf, param_find("sockets.tcp"), &why) != RESOURCE_BPF_LIMITED)
        fprintf(stderr, "# sockets.tcp: %s\n", why);
    int r = tests();
    resource_bpf_close(bpf);
    resource_node_close(node);
    return r;
}

static int clean_up(void)
{
    struct err e = {0};
    if (resource_node_open(name, &node, &e) < 0)
        return 0;
    resource_kill(node, ID, 5000, NULL);
    resource_remove(node, ID, NULL);
    bool left = resource_bpf_remove(dir, &e) < 0 || resource_node_remove(node, &e) < 0;
    if (left)
        fprintf(stderr, "%s\n", e.text);
    resource_node_close(node);
    return left;
}

int stage_main(int (*tests)(void))
{
    str_print(name, sizeof(name), "terem-test-%d", (int)getpid());
    str_print(dir, sizeof(dir), "/tmp/%s-bpf", name);
    return test_apart(run_all, tests, clean_up);
}
