/* SPDX-License-Identifier: GPL-2.0-or-later */
/* terem-keep at the listeners of filters: whom it leaves the calls to, and when it stands in. */
#include "keep/serving.h"
#include "keep/test_keep_stage.h"
#include "kernel/seccomp.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define VE 7

/* A process that has our filter.  It asks once for each byte it gets, and says how it went: the
 * result of sysinfo(2), or 'E' for ENOSYS. */
struct asker {
    pid_t pid;
    int pidfd, listener, talk;
};

static void asker_main(int talk)
{
    unsigned char info[128];
    char c;
    int listener = -1;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (seccomp_load_policy(SECCOMP_NESTING, SECCOMP_TOLD_MACHINE, &listener, NULL) < 0 ||
        listener < 0 || fd_send(talk, "", 1, &listener, 1, NULL) < 0)
        _exit(1);
    close(listener);
    while (read(talk, &c, 1) == 1) {
        long r = syscall(SYS_sysinfo, info);
        c = (char)(r == 0 ? 'K' : r > 0 ? (char)r : errno == ENOSYS ? 'E' : '?');
        if (write(talk, &c, 1) != 1)
            break;
    }
    _exit(0);
}

static struct asker make_asker(void)
{
    struct asker a = {.listener = -1};
    int pair[2];
    size_t n = 1;
    char c;
    struct err e = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    a.pid = fork();
    if (a.pid == 0)
        asker_main(pair[1]);
    close(pair[1]);
    a.talk = pair[0];
    assert_int_equal(fd_recv(a.talk, &c, 1, &a.listener, &n, &e), 1);
    assert_int_equal(fd_pidfd_open(a.pid, &a.pidfd, NULL), 0);
    if (keep_put(keep, VE, a.pidfd, -1, -1, &e) < 0 ||
        keep_put_filter(keep, VE, a.listener, &e) < 0)
        fail_msg("%s", e.text);
    return a;
}

static void end_asker(struct asker *a)
{
    kill(a->pid, SIGKILL);
    waitpid(a->pid, NULL, 0);
    close(a->pidfd);
    close(a->talk);
    cleanup_fd(&a->listener);
}

static void ask(const struct asker *a)
{
    assert_int_equal(write(a->talk, "", 1), 1);
}

/* What it said within that time; 0: nothing. */
static char told(const struct asker *a, int ms)
{
    struct pollfd p = {.fd = a->talk, .events = POLLIN};
    char c = 0;
    return poll(&p, 1, ms) == 1 && read(a->talk, &c, 1) == 1 ? c : 0;
}

static struct serving *serve(struct keep *k)
{
    struct serving *s = NULL;
    struct err e = {0};
    auto_fd int page = -1;
    if (serving_make(&s, &page, &e) < 0 || keep_serve(k, page, &e) < 0)
        fail_msg("%s", e.text);
    return s;
}

/* The next call, which is there within 5 seconds. */
static struct serving_slot *receive(struct serving *s, const struct asker *a)
{
    struct pollfd p = {.fd = a->listener, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 60000), 1);
    struct serving_slot *slot = serving_receive(s, VE, a->listener);
    assert_non_null(slot);
    return slot;
}

/* The same by a teremd that others have stood in for: it looks first, and may have to ask some
 * times, since terem-keep may be at it still when its answer wakes who asked. */
static struct serving_slot *receive_again(struct serving *s, const struct asker *a)
{
    for (int i = 0; i < 200; i++) {
        assert_null(serving_receive(s, VE, a->listener));
        ask(a);
        struct pollfd p[] = {{.fd = a->listener, .events = POLLIN},
                             {.fd = a->talk, .events = POLLIN}};
        assert_true(poll(p, 2, 60000) > 0);
        struct serving_slot *slot = serving_receive(s, VE, a->listener);
        if (slot)
            return slot;
        assert_int_equal(told(a, 10000), 'K');
    }
    fail_msg("terem-keep goes on standing in");
    return NULL;
}

static void test_nobody_serves(void **state)
{
    struct asker a = make_asker();
    for (int i = 0; i < 3; i++) {
        ask(&a);
        assert_int_equal(told(&a, 60000), 'K'); /* the kernel carried it out */
    }
    end_asker(&a);
}

static void test_teremd_answers(void **state)
{
    struct asker a = make_asker();
    struct serving *s = serve(keep);
    for (int i = 0; i < 3; i++) {
        ask(&a);
        struct serving_slot *slot = receive(s, &a);
        assert_int_equal(slot->call.data.nr, SYS_sysinfo);
        assert_int_equal(slot->call.pid, a.pid);
        assert_true(seccomp_waits(a.listener, slot->call.id));
        assert_int_equal(seccomp_answer(a.listener, slot->call.id, 'A' + i, 0), 0);
        serving_release(s, slot);
        assert_int_equal(told(&a, 60000), 'A' + i);
    }
    serving_unmap(s);
    end_asker(&a);
}

static void test_teremd_looks_at_nothing(void **state)
{
    struct asker a = make_asker();
    struct serving *s = serve(keep);
    ask(&a);
    assert_int_equal(told(&a, STAND_IN_MS / 2), 0);
    assert_int_equal(told(&a, 60000), 'K');
    /* Once it looks again it is left to it. */
    ask(&a);
    assert_int_equal(told(&a, 60000), 'K');
    struct serving_slot *slot = receive_again(s, &a);
    assert_int_equal(seccomp_answer(a.listener, slot->call.id, 'A', 0), 0);
    serving_release(s, slot);
    assert_int_equal(told(&a, 60000), 'A');
    serving_unmap(s);
    end_asker(&a);
}

static void test_teremd_is_killed_with_a_call_in_hand(void **state)
{
    struct asker a = make_asker();
    struct keep *second = NULL;
    assert_int_equal(keep_connect(sock_path, "", false, &second, NULL), 0);
    struct serving *s = serve(second);
    ask(&a);
    receive(s, &a);
    assert_int_equal(told(&a, 100), 0);
    keep_close(second); /* the end of teremd, as terem-keep sees it */
    assert_int_equal(told(&a, 60000), 'K');
    serving_unmap(s);
    end_asker(&a);
}

/* teremd is stopped with the only call in hand: the kernel carries it out, and a teremd that goes
 * on then does not touch the caller any more. */
static void test_received_and_not_answered(void **state)
{
    struct asker a = make_asker();
    struct serving *s = serve(keep);
    ask(&a);
    struct serving_slot *slot = receive(s, &a);
    assert_int_equal(told(&a, 60000), 'K');
    assert_false(serving_answer(s, slot));
    serving_release(s, slot);
    /* One that is being answered is left alone. */
    slot = receive_again(s, &a);
    assert_true(serving_answer(s, slot));
    assert_int_equal(told(&a, 4 * STAND_IN_MS), 0);
    assert_int_equal(seccomp_answer(a.listener, slot->call.id, 'A', 0), 0);
    serving_release(s, slot);
    assert_int_equal(told(&a, 60000), 'A');
    serving_unmap(s);
    end_asker(&a);
}

/* Nothing was asked for longer than terem-keep waits: that teremd has looked at nothing meanwhile
 * means nothing. */
static void test_an_idle_teremd_is_left_to_it(void **state)
{
    struct asker a = make_asker();
    struct serving *s = serve(keep);
    ask(&a);
    struct serving_slot *slot = receive(s, &a);
    assert_true(serving_answer(s, slot));
    assert_int_equal(told(&a, 4 * STAND_IN_MS), 0);
    assert_int_equal(seccomp_answer(a.listener, slot->call.id, 'A', 0), 0);
    serving_release(s, slot);
    assert_int_equal(told(&a, 60000), 'A');
    poll(NULL, 0, 2 * STAND_IN_MS);
    ask(&a);
    assert_int_equal(told(&a, STAND_IN_MS / 2), 0);
    assert_int_equal(told(&a, 60000), 'K');
    serving_unmap(s);
    end_asker(&a);
}

static void test_only_one_receives(void **state)
{
    struct asker a = make_asker();
    struct serving *s = serve(keep);
    bool ended;
    atomic_store(&s->receiving, 1);
    assert_false(serving_pass_on(s, a.listener, 1, &ended));
    atomic_store(&s->receiving, 0);
    atomic_store(&s->standing_in, 1);
    ask(&a);
    struct pollfd p = {.fd = a.listener, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 60000), 1);
    assert_null(serving_receive(s, VE, a.listener));
    atomic_store(&s->standing_in, 0);
    assert_true(serving_pass_on(s, a.listener, 1, &ended));
    assert_int_equal(told(&a, 60000), 'K');
    serving_unmap(s);
    end_asker(&a);
}

static void test_slots_run_out(void **state)
{
    struct asker a = make_asker();
    struct serving *s = serve(keep);
    for (int i = 0; i < SERVING_SLOTS; i++)
        s->slots[i].call.id = 1;
    ask(&a);
    struct pollfd p = {.fd = a.listener, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 60000), 1);
    assert_null(serving_receive(s, VE, a.listener));
    serving_release(s, &s->slots[3]);
    assert_ptr_equal(receive(s, &a), &s->slots[3]);
    serving_unmap(s);
    end_asker(&a);
}

static void test_listeners_come_back(void **state)
{
    struct asker a = make_asker();
    struct err e = {0};
    uint32_t number = 0;
    int fd = -1;
    assert_int_equal(keep_get_filter(keep, 8, &number, &fd, &e), -ERR_NOT_FOUND);
    assert_int_equal(keep_put_filter(keep, VE, a.listener, NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(keep_get_filter(keep, VE, &number, &fd, &e), 0);
        assert_true(seccomp_is_listener(fd));
        cleanup_fd(&fd);
    }
    assert_int_equal(keep_get_filter(keep, VE, &number, &fd, &e), -ERR_NOT_FOUND);
    /* Only the last process of a filter takes it along. */
    cleanup_fd(&a.listener);
    kill(a.pid, SIGKILL);
    waitpid(a.pid, NULL, 0);
    int r = 0;
    for (int i = 0; i < 6000 && r == 0; i++) {
        number = 0;
        r = keep_get_filter(keep, VE, &number, &fd, &e);
        cleanup_fd(&fd);
        poll(NULL, 0, 10);
    }
    assert_int_equal(r, -ERR_NOT_FOUND);
    close(a.pidfd);
    close(a.talk);
}

static void test_what_is_none_is_refused(void **state)
{
    struct asker a = make_asker();
    auto_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    auto_fd int unsealed = memfd_create("terem-test", MFD_CLOEXEC);
    assert_int_equal(ftruncate(unsealed, SERVING_SIZE), 0);
    assert_int_equal(keep_put_filter(keep, VE, null, NULL), -ERR_USAGE);
    assert_int_equal(keep_put_filter(keep, 8, a.listener, NULL), -ERR_NOT_FOUND);
    assert_int_equal(keep_serve(keep, null, NULL), -ERR_USAGE);
    assert_int_equal(keep_serve(keep, unsealed, NULL), -ERR_USAGE);
    ask(&a);
    assert_int_equal(told(&a, 60000), 'K');
    end_asker(&a);
}

/* Below another's filter that has a listener the kernel gives none, and carries calls out. */
static void test_only_one_has_a_listener(void **state)
{
    pid_t pid = fork();
    if (pid == 0) {
        int outer = -1, inner = 7;
        unsigned char info[128];
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        /* One that hands up other calls would be loaded by a container manager. */
        if (seccomp_load_policy(SECCOMP_NESTING, SECCOMP_TOLD_MACHINE, &outer, NULL) < 0 ||
            outer < 0)
            _exit(1);
        if (seccomp_load_policy(SECCOMP_NESTING, SECCOMP_TOLD_MACHINE, &inner, NULL) < 0 ||
            inner != -1)
            _exit(2);
        close(outer); /* nobody answers any more: the outer filter has its say */
        _exit(syscall(SYS_sysinfo, info) < 0 && errno == ENOSYS ? 0 : 3);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Loaded without a listener at all. */
static void test_unheard(void **state)
{
    pid_t pid = fork();
    if (pid == 0) {
        unsigned char info[128];
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (seccomp_load_policy(SECCOMP_SYSTEM, SECCOMP_TOLD_MACHINE, NULL, NULL) < 0)
            _exit(1);
        _exit(syscall(SYS_sysinfo, info) == 0 && syscall(SYS_swapon, "/none", 0) < 0 &&
                      errno == EPERM
                  ? 0
                  : 2);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* With nobody left the call fails, as documented; it does not hang. */
static void test_terem_keep_is_killed(void **state)
{
    struct asker a = make_asker();
    cleanup_fd(&a.listener);
    kill(keep_pid, SIGKILL);
    waitpid(keep_pid, NULL, 0);
    ask(&a);
    assert_int_equal(told(&a, 60000), 'E');
    end_asker(&a);
}

int main(int argc, char **argv)
{
    if (stage_main(argc, argv) < 0)
        return 2;
    const struct CMUnitTest tests[] = {
        T(test_nobody_serves),
        T(test_teremd_answers),
        T(test_teremd_looks_at_nothing),
        T(test_teremd_is_killed_with_a_call_in_hand),
        T(test_received_and_not_answered),
        T(test_an_idle_teremd_is_left_to_it),
        T(test_only_one_receives),
        T(test_slots_run_out),
        T(test_listeners_come_back),
        T(test_what_is_none_is_refused),
        T(test_only_one_has_a_listener),
        T(test_unheard),
        T(test_terem_keep_is_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
