/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/process.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "kernel/namespace.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A process whose parent is a child of ours, as a VE's first process is while its worker lives. */
struct family {
    pid_t parent;
    int child;       /* pidfd of the parent's child, which ends with 7 when its input ends */
    int child_input; /* whose other end is this */
    int reap;        /* closed: the parent reaps it */
};

static void parent_main(int to_us, int child_input[2], int reap) __attribute__((noreturn));
static void parent_main(int to_us, int child_input[2], int reap)
{
    char c;
    close(child_input[1]);
    pid_t pid = fork();
    if (pid == 0) {
        close(to_us);
        close(reap);
        _exit(read(child_input[0], &c, 1) == 0 ? 7 : 1);
    }
    if (write(to_us, &pid, sizeof(pid)) != (ssize_t)sizeof(pid) || read(reap, &c, 1) != 0)
        _exit(1);
    waitpid(pid, NULL, 0);
    if (write(to_us, &pid, sizeof(pid)) != (ssize_t)sizeof(pid))
        _exit(1);
    for (;;)
        pause();
}

static int make(struct family *f, int *ret_from)
{
    int input[2], from[2], reap[2];
    pid_t child = 0;
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    assert_int_equal(pipe2(input, O_CLOEXEC) | pipe2(from, O_CLOEXEC) | pipe2(reap, O_CLOEXEC), 0);
    f->parent = fork();
    if (f->parent == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(from[0]);
        close(reap[1]);
        parent_main(from[1], input, reap[0]);
    }
    close(input[0]);
    close(from[1]);
    close(reap[0]);
    f->child_input = input[1];
    f->reap = reap[1];
    assert_int_equal(read(from[0], &child, sizeof(child)), sizeof(child));
    f->child = (int)syscall(SYS_pidfd_open, child, 0);
    *ret_from = from[0];
    return f->child;
}

static void end_child(struct family *f)
{
    struct kernel_exit x;
    assert_false(kernel_process_ended(f->child, &x));
    cleanup_fd(&f->child_input);
    assert_int_equal(fd_pidfd_wait_exit(f->child, 10000, NULL), 0);
    assert_true(kernel_process_ended(f->child, &x));
    assert_false(x.known);
    assert_true(x.later);
}

static void end_parent(struct family *f)
{
    assert_int_equal(kill(f->parent, SIGKILL), 0);
    assert_int_equal(waitpid(f->parent, NULL, 0), f->parent);
}

/* Nobody is told how it ended until its parent has ended, too, and it is ours. */
static void test_inherited(void **state)
{
    struct family f;
    struct kernel_exit x;
    auto_fd int from = -1;
    assert_true(make(&f, &from) >= 0);
    end_child(&f);
    end_parent(&f);
    assert_true(kernel_process_ended(f.child, &x));
    assert_true(x.known && !x.later);
    assert_int_equal(x.status, 7);
    assert_int_equal(x.signal, 0);
    cleanup_fd(&f.child);
    cleanup_fd(&f.reap);
}

/* After another has reaped it there is nothing to wait for, whatever this kernel tells. */
static void test_reaped_by_another(void **state)
{
    struct family f;
    struct kernel_exit x;
    auto_fd int from = -1;
    pid_t child;
    assert_true(make(&f, &from) >= 0);
    end_child(&f);
    cleanup_fd(&f.reap);
    assert_int_equal(read(from, &child, sizeof(child)), sizeof(child));
    assert_true(kernel_process_ended(f.child, &x));
    assert_false(x.later);
    if (x.known)
        assert_int_equal(x.status, 7);
    end_parent(&f);
    cleanup_fd(&f.child);
}

/* The name of a program may look like the rest of the line. */
static void test_birth(void **state)
{
    uint64_t own = kernel_process_birth(AT_FDCWD, "/proc/self/stat");
    char old[16];
    assert_true(own > 0);
    prctl(PR_GET_NAME, old);
    prctl(PR_SET_NAME, "x) R 1 1 1 (");
    assert_int_equal(kernel_process_birth(AT_FDCWD, "/proc/self/stat"), own);
    prctl(PR_SET_NAME, old);
    assert_true(kernel_process_birth(AT_FDCWD, "/proc/1/stat") <= own);
    assert_int_equal(kernel_process_birth(AT_FDCWD, "/proc/0/stat"), 0);
}

static void said_without(const char *kind, char *text, size_t size) __attribute__((noreturn));
/* In a user namespace of its own, which may have none of a kind. */
static void said_without(const char *kind, char *text, size_t size)
{
    char path[64];
    struct err e = {0};
    snprintf(path, sizeof(path), "/proc/sys/user/max_%s_namespaces", kind);
    if (unshare(CLONE_NEWUSER) < 0 || fd_write_value_at(AT_FDCWD, path, &e, "0") < 0)
        _exit(1);
    int r = namespace_unshare(CLONE_NEWNET | CLONE_NEWUTS, &e);
    snprintf(text, size, "%s", e.text);
    _exit(r < 0 && e.kind == ERR_EXHAUSTED ? 0 : 1);
}

static void test_namespaces_run_out(void **state)
{
    char *text = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    static const char *const kinds[] = {"net", "uts"};
    assert_ptr_not_equal(text, MAP_FAILED);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char wanted[64];
        int status = 0;
        pid_t pid = fork();
        if (pid == 0)
            said_without(kinds[i], text, 4096);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        snprintf(wanted, sizeof(wanted), "; raise the sysctl user.max_%s_namespaces", kinds[i]);
        assert_non_null(strstr(text, wanted));
    }
    munmap(text, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inherited),
        cmocka_unit_test(test_reaped_by_another),
        cmocka_unit_test(test_birth),
        cmocka_unit_test(test_namespaces_run_out),
    };
    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
