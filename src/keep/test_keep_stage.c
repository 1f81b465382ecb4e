/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keep/test_keep_stage.h"

const char *program;
char dir[64], sock_path[96];
struct keep *keep;
pid_t keep_pid;

int begin(void)
{
    struct err e = {0};
    if (keep_connect(sock_path, program, true, &keep, &e) < 0) {
        print_error("%s\n", e.text);
        return -1;
    }
    struct ucred c;
    socklen_t len = sizeof(c);
    getsockopt(keep_fd(keep), SOL_SOCKET, SO_PEERCRED, &c, &len);
    keep_pid = c.pid;
    return 0;
}

int setup(void **state)
{
    str_print(dir, sizeof(dir), "/tmp/terem-keep-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    str_print(sock_path, sizeof(sock_path), "%s/keep.sock", dir);
    return begin();
}

/* The test's process is its subreaper, so that its end is seen. */
int teardown(void **state)
{
    keep_close(keep);
    keep = NULL;
    if (keep_pid > 0) {
        kill(keep_pid, SIGKILL);
        waitpid(keep_pid, NULL, 0);
    }
    return path_remove_tree_at(AT_FDCWD, dir, NULL);
}

pid_t sleeper(int *ret_pidfd)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    assert_int_equal(fd_pidfd_open(pid, ret_pidfd, NULL), 0);
    return pid;
}

void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void raw_pty(int *master, int *slave)
{
    struct termios t;
    assert_int_equal(openpty(master, slave, NULL, NULL, NULL), 0);
    tcgetattr(*slave, &t);
    cfmakeraw(&t);
    tcsetattr(*slave, TCSANOW, &t);
}

struct ve make_ve(int64_t id)
{
    struct ve v;
    struct err e = {0};
    v.pid = sleeper(&v.pidfd);
    raw_pty(&v.master, &v.slave);
    auto_fd int d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (keep_put(keep, id, v.pidfd, v.master, d, &e) < 0)
        fail_msg("%s", e.text);
    return v;
}

void end_ve(struct ve *v)
{
    end(v->pid);
    cleanup_fd(&v->pidfd);
    cleanup_fd(&v->master);
    cleanup_fd(&v->slave);
}

struct client *attach(int64_t id)
{
    int p[2];
    struct err e = {0};
    struct client *c = calloc(1, sizeof(*c));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p), 0);
    if (keep_attach(keep, id, p[1], &e) < 0)
        fail_msg("%s", e.text);
    c->fd = p[0];
    return c;
}

void detach(struct client *c)
{
    close(c->fd);
    free(c);
}

bool next(struct client *c, struct frame *f)
{
    bool bad;
    while (!frame_next(&c->reader, f, &bad)) {
        assert_false(bad);
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 60000), 1);
        if (frame_reader_fill(&c->reader, c->fd, NULL) <= 0)
            return false;
    }
    return true;
}

void expect(struct client *c, const char *text)
{
    auto_str struct str s = str_init(1 << 20);
    struct frame f;
    while (!strstr(str_c(&s), text)) {
        assert_true(next(c, &f));
        assert_int_equal(f.type, FRAME_STDOUT);
        str_add_bytes(&s, f.data, f.len);
    }
}

void say(int fd, const char *text)
{
    assert_int_equal(fd_write_all(fd, text, strlen(text), NULL), 0);
}

void expect_input(int slave, const char *text)
{
    char buf[256] = "";
    size_t len = 0;
    while (len < strlen(text)) {
        struct pollfd p = {.fd = slave, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 60000), 1);
        ssize_t n = read(slave, buf + len, sizeof(buf) - 1 - len);
        assert_true(n > 0);
        len += (size_t)n;
    }
    buf[len] = '\0';
    assert_string_equal(buf, text);
}

long field(const char *file, const char *name)
{
    char path[64];
    auto_free char *text = NULL;
    str_print(path, sizeof(path), "/proc/%d/%s", keep_pid, file);
    assert_int_equal(fd_read_file_at(AT_FDCWD, path, 1 << 20, &text, NULL, NULL), 0);
    char *at = strstr(text, name);
    assert_non_null(at);
    long v = -1;
    assert_int_equal(sscanf(at + strlen(name), " %ld", &v), 1);
    return v;
}

/* How often it was given the processor, by its own will or not; and that it waits. */
static long turns(void)
{
    return field("status", "\nvoluntary_ctxt_switches:") +
           field("status", "\nnonvoluntary_ctxt_switches:");
}

/* Processor time in ticks of the kernel's clock; -1: it does not sleep. */
static long ticks(void)
{
    char path[64];
    unsigned long user, kernel;
    auto_free char *text = NULL;
    str_print(path, sizeof(path), "/proc/%d/stat", keep_pid);
    assert_int_equal(fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL, NULL), 0);
    char *at = strrchr(text, ')');
    assert_non_null(at);
    assert_int_equal(
        sscanf(at + 4, "%*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel), 2);
    return at[2] == 'S' ? (long)(user + kernel) : -1;
}

static bool slept(void)
{
    long before = turns(), spent = ticks();
    usleep(300000);
    return spent >= 0 && ticks() == spent && turns() == before;
}

void assert_asleep(void)
{
    for (int i = 0; i < 200 && !slept(); i++) /* what came before ends, on a busy machine later */
        continue;
    assert_true(slept());
}

void assert_descriptors(int wanted)
{
    char path[64];
    str_print(path, sizeof(path), "/proc/%d/fd", keep_pid);
    for (int i = 0;; i++) {
        auto_dir DIR *d = opendir(path);
        assert_non_null(d);
        int n = 0;
        for (struct dirent *e; (e = readdir(d));)
            n += e->d_name[0] != '.';
        if (n == wanted)
            return;
        if (i == 6000)
            fail_msg("%d descriptors where %d belong", n, wanted);
        usleep(10000);
    }
}

int stage_main(int argc, char **argv)
{
    program = argc > 1 ? argv[1] : getenv("TEREM_KEEP");
    if (!program)
        return -1;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGPIPE, SIG_IGN);
    return 0;
}
