/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VE whose root is hostile: what it prepared in its files, and what it tries while it runs. */
#include "container/test_assert.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"
#include "kernel/caps.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* What a former life of the VE left where Terem mounts. */
static void test_hostile_mount_points(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"proc", "dev", "sys"};
    static const char *const targets[] = {"/", "/tmp", "../../../..", "/proc/self/fd/5"};
    struct container_plan plan = fixture_plan(f);
    auto_fd int upper = upper_of(f);
    struct err e = {0};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        unlinkat(upper, names[i], AT_REMOVEDIR); /* made by an earlier attempt */
        for (size_t k = 0; k < ARRAY_SIZE(targets); k++) {
            assert_int_equal(symlinkat(targets[k], upper, names[i]), 0);
            assert_int_equal(fixture_boot(f, &plan, &e), -ERR_STATE);
            assert_has(e.text, "is not a directory");
            assert_int_equal(unlinkat(upper, names[i], 0), 0);
        }
        assert_int_equal(mkfifoat(upper, names[i], 0644), 0);
        assert_int_equal(fixture_boot(f, &plan, &e), -ERR_STATE);
        assert_int_equal(unlinkat(upper, names[i], 0), 0);
    }
}

/* A FIFO as /etc/passwd must not hold up who enters. */
static void test_hostile_passwd(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    struct container_plan plan = fixture_plan(f);
    assert_ok(fixture_boot(f, &plan, &e), &e);
    assert_int_equal(fixture_exec(f, "rm /etc/passwd; busybox mkfifo /etc/passwd", &e), 0);
    struct container_exec x = fixture_exec_of(f, (const char *[]){"true", NULL});
    x.user = "web";
    assert_int_equal(fixture_run(f, &x, &e), -ERR_USAGE);
    assert_int_equal(fixture_exec(f, "true", &e), 0);
    /* A terminal is asked for where the VE has put something else. */
    assert_int_equal(
        fixture_exec(f, "mount -t tmpfs t /dev/pts && busybox mkfifo /dev/pts/ptmx", &e), 0);
    x.tty = true;
    x.user = NULL;
    assert_int_equal(fixture_run(f, &x, &e), -ERR_STATE);
}

static size_t count_mounts(void)
{
    auto_free char *text = NULL;
    size_t n = 0;
    fd_read_file_at(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &text, NULL, NULL);
    for (const char *p = text; p && *p; p++)
        n += *p == '\n';
    return n;
}

static void test_nothing_inherited(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    struct container_plan plan = fixture_plan(f);
    size_t mounts = count_mounts();
    int leak = open("/etc/passwd", O_RDONLY); /* not close-on-exec: a careless library's */
    setenv("SECRET", "1", 1);
    signal(SIGUSR1, SIG_IGN);
    umask(077);
    int r = fixture_boot(f, &plan, &e);
    if (r == 0)
        r = fixture_exec(f,
                         "exec 2>/dev/null; ls -l /proc/1/fd /proc/self/fd; readlink /proc/1/cwd; "
                         "readlink /proc/1/root; umask;"
                         "grep -E 'Sig(Ign|Blk)|NoNew|Seccomp:|CapInh|CapAmb|Groups' "
                         "/proc/self/status; cat /proc/1/environ /proc/self/environ;"
                         "cat /proc/self/oom_score_adj; cat /proc/self/attr/x /proc/key-users",
                         &e);
    close(leak);
    unsetenv("SECRET");
    signal(SIGUSR1, SIG_DFL);
    umask(022);
    assert_ok(r, &e);
    assert_lacks(f->output, "SECRET");
    assert_lacks(f->output, "passwd");
    assert_lacks(f->output, "socket:");
    assert_lacks(f->output, " 4 -> ");
    assert_has(f->output, "\n/\n/\n0022\n");
    assert_has(f->output, "SigBlk:\t0000000000000000");
    assert_has(f->output, "SigIgn:\t0000000000000000");
    assert_has(f->output, "Seccomp:\t2");
    assert_has(f->output, "CapInh:\t0000000000000000");
    assert_true(count_mounts() == mounts);
    fixture_kill(f);
    assert_true(count_mounts() == mounts);
}

static void test_ids(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    struct container_plan plan = fixture_plan(f);
    assert_ok(fixture_boot(f, &plan, &e), &e);
    assert_int_equal(fixture_exec(f,
                                  "echo >/root/a; echo >/home/b; chown 33:44 /home/b; "
                                  "echo >/home/c; chown 65535 /home/c; "
                                  "chown 65536 /home/c",
                                  &e),
                     1);
    struct stat st;
    assert_int_equal(fstatat(f->tree, "upper/root/a", &st, 0), 0);
    assert_true(st.st_uid == 0 && st.st_gid == 0);
    assert_int_equal(fstatat(f->tree, "upper/home/b", &st, 0), 0);
    assert_true(st.st_uid == 33 && st.st_gid == 44);
    assert_int_equal(fstatat(f->tree, "upper/home/c", &st, 0), 0);
    assert_true(st.st_uid == 65535);

    /* The namespaces are the VE's own, not host root's: what is counted per user is its own. */
    static const char *const names[] = {"user", "net", "ipc", "mnt", "uts", "cgroup", "pid"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char path[64];
        str_print(path, sizeof(path), "/proc/%d/ns/%s", f->ve.pid, names[i]);
        auto_fd int ns = open(path, O_RDONLY | O_CLOEXEC);
        auto_fd int userns = i == 0 ? dup(ns) : ioctl(ns, NS_GET_USERNS);
        uid_t owner = 0;
        assert_int_equal(ioctl(userns, NS_GET_OWNER_UID, &owner), 0);
        assert_int_equal(owner, FIXTURE_BASE);
    }
    char path[64];
    str_print(path, sizeof(path), "/proc/%d", f->ve.pid);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, FIXTURE_BASE);
}

static void check_refused(const char *text, const char *const *allowed)
{
    for (const char *p = text; *p; p += strcspn(p, "\n") + 1) {
        char line[200];
        bool may = false;
        str_print(line, sizeof(line), "%.*s", (int)strcspn(p, "\n"), p);
        for (size_t i = 0; allowed[i]; i++)
            may |= str_starts(line, allowed[i]);
        if (str_ends(line, "ALLOWED") && !may)
            fail_msg("%s", line);
        if (!p[strcspn(p, "\n")])
            break;
    }
}

static void test_calls(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    struct container_plan plan = fixture_plan(f);
    assert_ok(fixture_boot(f, &plan, &e), &e);
    for (int tty = 0; tty < 2; tty++) {
        struct container_exec x = fixture_exec_of(f, (const char *[]){"probe", NULL});
        x.tty = tty;
        assert_ok(fixture_run(f, &x, &e), &e);
        assert_has(f->output, "kexec_load: refused");
        assert_has(f->output, "TIOCSTI-high: refused (Operation not permitted)");
        /* Refused as by a kernel without rings: libpcap before 1.10 goes on then. */
        assert_has(f->output, "xfrm: refused (Protocol not supported)");
        assert_has(f->output, "packet-rx-ring: refused (Protocol not available)");
        assert_has(f->output, "packet-tx-ring-32: refused");
        assert_has(f->output, "vsock: refused (Address family not supported");
        /* The cover of sysrq-trigger takes what is written to it. */
        check_refused(f->output, (const char *const[]){NULL});
    }
    /* What it covers directories with; places for an uncovered proc and sysfs are for nesting. */
    assert_int_equal(fixture_exec(f, "ls -A /dev/.terem /sys/firmware", &e), 0);
    assert_string_equal(f->output, "/dev/.terem:\n\n/sys/firmware:\n");
}

static void test_application(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    struct container_plan plan = fixture_plan(f);
    plan.own_init = false;
    plan.new_privileges = false;
    plan.init_program = f->init_program;
    plan.argv = (const char *const[]){"sleep", "1000", NULL};
    assert_ok(fixture_boot(f, &plan, &e), &e);
    static const char *const lines[] = {
        "mount -t tmpfs none /tmp",
        "unshare -U true",
        "unshare -m true",
        "umount /dev/shm",
        "ip link set lo down",
        "hostname other",
        "echo x >/proc/1/exe",
        "cat /proc/1/environ >/dev/null; echo x >/proc/sys/kernel/domainname",
    };
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        struct container_exec x = fixture_exec_of(f, (const char *[]){"sh", "-c", lines[i], NULL});
        x.own_init = false;
        x.new_privileges = false;
        if (fixture_run(f, &x, &e) == 0)
            fail_msg("\"%s\" succeeded", lines[i]);
    }
    struct container_exec x =
        fixture_exec_of(f, (const char *[]){"sh", "-c",
                                            "readlink /proc/1/exe; grep -E 'CapBnd|NoNew' "
                                            "/proc/1/status; ls -l /proc/1/fd",
                                            NULL});
    x.own_init = false;
    assert_ok(fixture_run(f, &x, &e), &e);
    assert_has(f->output, "memfd:terem-init");
    assert_has(f->output, "CapBnd:\t00000000a80425fb"); /* what OCI engines leave */
    assert_has(f->output, "NoNewPrivs:\t1");
    assert_lacks(f->output, " 3 -> ");
}

/* While commands enter, the VE's root looks into every process that it sees. */
static void test_entering_is_opaque(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    struct container_plan plan = fixture_plan(f);
    assert_ok(fixture_boot(f, &plan, &e), &e);
    setenv("SECRET", "1", 1);
    struct container_exec x = fixture_exec_of(
        f, (const char *[]){"sh", "-c",
                            "while :; do for p in /proc/[0-9]*; do readlink $p/exe $p/cwd "
                            "$p/fd/[0-9]*; cat $p/environ; done; done 2>/dev/null "
                            ">/tmp/seen",
                            NULL});
    struct container_process spy;
    assert_ok(container_exec(&x, &spy, &e), &e);
    for (int i = 0; i < 150; i++)
        assert_int_equal(fixture_exec(f, "true", &e), 0);
    unsetenv("SECRET");
    kill(spy.pid, SIGKILL);
    waitpid(spy.pid, NULL, 0);
    cleanup_fd(&spy.in);
    cleanup_fd(&spy.out);
    cleanup_fd(&spy.error);
    cleanup_fd(&spy.pidfd);
    assert_int_equal(fixture_exec(f,
                                  "grep -c busybox /tmp/seen >&2; "
                                  "grep -a -E 'test_|SECRET|socket:|anon_inode' /tmp/seen",
                                  &e),
                     1);
    assert_lacks(f->output, "test_");
}

static void end_process(struct container_process *p)
{
    kill(p->pid, SIGKILL);
    waitpid(p->pid, NULL, 0);
    cleanup_fd(&p->in);
    cleanup_fd(&p->out);
    cleanup_fd(&p->error);
    cleanup_fd(&p->pidfd);
}

/* Its root stops whoever enters before the command executes. */
static void test_entering_is_stopped(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    struct container_plan plan = fixture_plan(f);
    struct container_process stopper, p;
    assert_ok(fixture_boot(f, &plan, &e), &e);
    struct container_exec x = fixture_exec_of(f, (const char *[]){"probe", "stop", NULL});
    assert_ok(container_exec(&x, &stopper, &e), &e);
    x.argv = (const char *[]){"true", NULL};
    int r = 0;
    for (int i = 0; i < 500 && r == 0; i++)
        if ((r = container_exec(&x, &p, &e)) == 0)
            end_process(&p);
    end_process(&stopper);
    assert_int_equal(r, -ERR_TIMEOUT);
    assert_has(e.text, "did not begin within");
    assert_int_equal(waitpid(-1, NULL, WNOHANG), f->ve.pid < 0 ? -1 : 0); /* nothing is left */
    assert_int_equal(fixture_exec(f, "true", &e), 0);
}

static void test_nesting(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    struct container_plan plan = fixture_plan(f);
    plan.nesting = true;
    assert_ok(fixture_boot(f, &plan, &e), &e);
    struct container_exec x = fixture_exec_of(
        f, (const char *[]){"unshare", "-Urmnpf", "sh", "-c",
                            "mount -t proc proc /proc && mount -t sysfs sysfs /sys 2>&1; echo $$; "
                            "mount -t tmpfs t /tmp && echo mounted",
                            NULL});
    x.nesting = true;
    assert_int_equal(fixture_run(f, &x, &e), 0);
    assert_string_equal(f->output, "1\nmounted\n");
    x.argv = (const char *[]){"probe", "keyring", NULL};
    assert_int_equal(fixture_run(f, &x, &e), 0);
    assert_has(f->output, "_ses\nkeys 0\n"); /* a session keyring of its own, empty */
    assert_has(f->output, "keyring;0;");
    x.argv = (const char *[]){"probe", NULL};
    assert_ok(fixture_run(f, &x, &e), &e);
    check_refused(f->output, (const char *const[]){"keyctl", "bpf", NULL});
}

static void test_caps_table(void **state)
{
    assert_true(caps_kept(CAPS_SYSTEM, CAP_SYS_ADMIN));
    assert_false(caps_kept(CAPS_APPLICATION, CAP_SYS_ADMIN));
    static const int never[] = {CAP_SYS_MODULE,   CAP_SYS_RAWIO, CAP_SYS_TIME, CAP_BPF,
                                CAP_SYS_RESOURCE, CAP_MAC_ADMIN, CAP_SYSLOG,   63};
    for (size_t i = 0; i < ARRAY_SIZE(never); i++)
        assert_false(caps_kept(CAPS_SYSTEM, never[i]) || caps_kept(CAPS_APPLICATION, never[i]));
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_caps_table),
        EACH(test_hostile_mount_points),
        EACH(test_hostile_passwd),
        EACH(test_nothing_inherited),
        EACH(test_ids),
        EACH(test_calls),
        EACH(test_application),
        EACH(test_entering_is_opaque),
        EACH(test_entering_is_stopped),
        EACH(test_nesting),
    };
    struct fixture f;
    const char *why = NULL;
    bool ok = fixture_make(&f, &why);
    fixture_remove(&f);
    if (!ok) {
        printf("1..0 # SKIP %s\n", why);
        return 0;
    }
    return cmocka_run_group_tests_name("escape", tests, NULL, NULL);
}
