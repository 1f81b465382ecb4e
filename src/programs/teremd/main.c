/* SPDX-License-Identifier: GPL-2.0-or-later */
/* teremd — the node's daemon: options, settings, signals; ve and api do the work. */
#include "api/api.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "settings.h"
#include "ve/ve.h"

#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const char usage[] =
    "usage: teremd [--root DIR] [--config FILE] [--log-level LEVEL]\n"
    "\n"
    "The daemon of a Terem node.  It stays in the foreground and answers on a Unix socket.\n"
    "\n"
    "  --root DIR         an instance with its own state, sockets and names below DIR\n"
    "  --config FILE      settings (default: /etc/terem/terem.conf, or DIR/terem.conf)\n"
    "  --log-level LEVEL  error, warning, info or debug\n"
    "  --foreground       accepted; there is no other mode\n"
    "  --version, --help\n";

struct options {
    const char *root, *config, *log_level;
};

/* Returns -1 to go on, or the exit status. */
static int read_options(int argc, char **argv, struct options *o)
{
    static const struct option rows[] = {
        {"root", required_argument, NULL, 'r'},
        {"config", required_argument, NULL, 'c'},
        {"log-level", required_argument, NULL, 'l'},
        {"foreground", no_argument, NULL, 'f'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "h", rows, NULL)) != -1;) {
        switch (c) {
        case 'r':
            o->root = optarg;
            break;
        case 'c':
            o->config = optarg;
            break;
        case 'l':
            o->log_level = optarg;
            break;
        case 'f':
            break;
        case 'v':
            puts("teremd " TEREM_VERSION);
            return EXIT_DONE;
        case 'h':
            fputs(usage, stdout);
            return EXIT_DONE;
        default: /* getopt has said what is wrong */
            fputs("teremd --help tells the options\n", stderr);
            return EXIT_USAGE;
        }
    }
    if (optind == argc)
        return -1;
    fprintf(stderr, "teremd: %s is not an option; teremd --help tells them\n", argv[optind]);
    return EXIT_USAGE;
}

/* sd_notify(3) without libsystemd: one datagram to the socket that systemd names. */
static void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    if (n < 2 || n >= sizeof(addr.sun_path) || (*path != '/' && *path != '@'))
        return;
    memcpy(addr.sun_path, path, n);
    if (*path == '@')
        addr.sun_path[0] = '\0'; /* abstract */
    auto_fd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&addr,
                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
}

/* What children inherit, and what keeps the daemon whole. */
static void prepare_process(void)
{
    /* What a long answer or a look at all packet rules takes for a moment goes back to the kernel:
     * left alone, glibc keeps ever larger pieces on its heap after the first was freed. */
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_TRIM_THRESHOLD, 256 << 10);
    mallopt(M_ARENA_MAX, 1); /* threads only wait for what is slow to read */
    umask(077);
    signal(SIGPIPE, SIG_IGN); /* clients and workers go away at any time */
    /* First processes of VEs and sessions stay ours when the worker that made them has ended. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    /* A descriptor that is missing would be taken by the next socket, and then written to. */
    for (int fd = open("/dev/null", O_RDWR | O_CLOEXEC); fd >= 0; fd = open("/dev/null", O_RDWR))
        if (fd > STDERR_FILENO) {
            close(fd);
            break;
        }
    if (chdir("/") < 0)
        log_warn(NULL, 0, "cannot change to /");
}

static void on_signal(uv_signal_t *handle, int number)
{
    uv_stop(handle->loop);
}

static void on_hangup(uv_signal_t *handle, int number)
{
    /* Nothing to read again: settings are read at the start. */
}

static void close_handle(uv_handle_t *handle, void *ctx)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static int serve(uv_loop_t *loop, const struct ve_config *config, struct err *err)
{
    uv_signal_t term, interrupt, hangup;
    struct ve_node *node = NULL;
    struct api *api = NULL;
    uv_signal_init(loop, &term);
    uv_signal_init(loop, &interrupt);
    uv_signal_init(loop, &hangup);
    uv_signal_start(&term, on_signal, SIGTERM);
    uv_signal_start(&interrupt, on_signal, SIGINT);
    uv_signal_start(&hangup, on_hangup, SIGHUP);
    int rc = ve_node_open(loop, config, &node, err);
    if (rc == 0)
        rc = api_open(loop, node, &config->place, &api, err);
    if (rc == 0) {
        log_info(NULL, 0, "teremd " TEREM_VERSION " serves %s", config->place.api);
        notify("READY=1");
        uv_run(loop, UV_RUN_DEFAULT);
        notify("STOPPING=1");
    }
    api_close(api);
    ve_node_close(node);
    uv_close((uv_handle_t *)&term, NULL);
    uv_close((uv_handle_t *)&interrupt, NULL);
    uv_close((uv_handle_t *)&hangup, NULL);
    /* Lets everything that is closing go; what is left then is a mistake, and is closed too. */
    uv_run(loop, UV_RUN_NOWAIT);
    uv_walk(loop, close_handle, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    return rc;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct ve_config config = {0};
    struct err err = {0};
    uv_loop_t loop;
    int status = read_options(argc, argv, &o);
    if (status >= 0)
        return status;
    if (place_init(&config.place, o.root, &err) < 0 || settings_read(&config, o.config, &err) < 0 ||
        settings_log_level(o.log_level, &err) < 0 || settings_libexec(&config, &err) < 0) {
        log_error(NULL, 0, "%s", err.text);
        return err.kind == ERR_USAGE ? EXIT_USAGE : EXIT_FAILED;
    }
    if (geteuid() != 0) {
        log_error(NULL, 0, "teremd makes namespaces, cgroups and interfaces: start it as root");
        return EXIT_FAILED;
    }
    prepare_process();
    if (uv_loop_init(&loop) < 0) {
        log_error(NULL, 0, "cannot make the event loop");
        return EXIT_FAILED;
    }
    int rc = serve(&loop, &config, &err);
    uv_loop_close(&loop);
    if (rc < 0) {
        log_error(NULL, 0, "%s", err.text);
        return EXIT_FAILED;
    }
    log_info(NULL, 0, "teremd ends");
    return EXIT_DONE;
}
