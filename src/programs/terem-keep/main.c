/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * terem-keep — holds what must outlive a crash of teremd: the consoles and the process
 * descriptors of VEs.  It decides nothing.
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/number.h"
#include "base/place.h"
#include "base/str.h"
#include "keep/server.h"
#include "privilege.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const char help[] =
    "Usage: terem-keep [--root DIR] [--socket PATH]\n"
    "Holds the consoles and processes of VEs, so that they outlive teremd.\n"
    "teremd starts it; nobody else needs to.\n"
    "\n"
    "  --root DIR     the instance (default: $TEREM_ROOT, or /run/terem)\n"
    "  --socket PATH  listen there instead of RUN/keep.sock\n"
    "  --ready FD     write \"ready\" there once it listens, then let go of stdio\n"
    "  --version      print the version\n"
    "  --help         print this\n";

struct options {
    const char *root, *socket;
    int ready;
    bool done; /* --help or --version was answered */
};

static int read_options(int argc, char **argv, struct options *o, struct err *err)
{
    enum { ROOT = 1, SOCKET, READY, VERSION, HELP };
    static const struct option table[] = {
        {"root", required_argument, NULL, ROOT},   {"socket", required_argument, NULL, SOCKET},
        {"ready", required_argument, NULL, READY}, {"version", no_argument, NULL, VERSION},
        {"help", no_argument, NULL, HELP},         {0}};
    uint64_t number;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        switch (c) {
        case ROOT:
            o->root = optarg;
            break;
        case SOCKET:
            o->socket = optarg;
            break;
        case READY:
            if (number_parse(optarg, 0, 1 << 20, &number, err) < 0)
                return err_wrap(err, "--ready");
            o->ready = (int)number;
            break;
        case VERSION:
            puts("terem-keep " TEREM_VERSION);
            o->done = true;
            return 0;
        case HELP:
            fputs(help, stdout);
            o->done = true;
            return 0;
        default:
            return err_set(err, ERR_USAGE, "unknown or incomplete option %s; see --help",
                           argv[optind - 1]);
        }
    }
    if (o->socket && *o->socket != '/')
        return err_set(err, ERR_USAGE, "--socket: %s is not an absolute path", o->socket);
    if (optind < argc)
        return err_set(err, ERR_USAGE, "unexpected argument %s; see --help", argv[optind]);
    return 0;
}

/* What a process that lives for years must not carry along. */
static void settle(int ready)
{
    fd_close_others(&ready, ready > 2);
    if (ready > 2)
        fcntl(ready, F_SETFD, FD_CLOEXEC);
    setsid(); /* fails when it leads a session already, which is as well */
    umask(077);
    if (chdir("/") < 0)
        log_warn(NULL, 0, "cannot change to /");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes costs the log, not us */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* Three descriptors a VE, and one more for each command that is run in it. */
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
    /* Its death would cost every VE its console, and it holds next to no memory.  Where lowering
     * is not permitted (CAP_SYS_RESOURCE) it stays as it is. */
    fd_write_value_at(AT_FDCWD, "/proc/self/oom_score_adj", NULL, "-900");
}

static void let_go_of_stdio(void)
{
    auto_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2 && null >= 0; fd++)
        dup2(null, fd);
    if (null <= 2)
        steal_fd(&null);
}

static int serve(const char *path, int ready, struct err *err)
{
    struct server s;
    int r = server_open(&s, path, err);
    if (r == 0)
        r = privilege_drop(err);
    if (r == 0 && ready >= 0) {
        fd_write_all(ready, "ready\n", 6, NULL);
        close(ready);
        let_go_of_stdio();
    }
    if (r == 0)
        r = server_run(&s, err);
    server_close(&s);
    return r;
}

int main(int argc, char **argv)
{
    struct options o = {.ready = -1};
    struct place place;
    struct err err = {0};
    int r = read_options(argc, argv, &o, &err);
    if (r < 0 || o.done) {
        if (r < 0)
            fprintf(stderr, "terem-keep: %s\n", err.text);
        return err_row(err.kind)->exit_status;
    }
    settle(o.ready);
    r = o.socket ? 0 : place_init(&place, o.root, &err);
    if (r == 0)
        r = serve(o.socket ? o.socket : place.keep, o.ready, &err);
    if (r < 0) {
        /* Who waits for "ready" reads the reason instead. */
        if (o.ready >= 0)
            fd_write_all(o.ready, err.text, strlen(err.text), NULL);
        else
            log_error(NULL, 0, "%s", err.text);
    }
    return err_row(err.kind)->exit_status;
}
