/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "container/test_fixture.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static bool put(int dir, const char *name, const char *text, mode_t mode)
{
    auto_fd int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    return fd >= 0 && fd_write_all(fd, text, strlen(text), NULL) == 0;
}

static bool copy(int dir, const char *from, const char *name)
{
    auto_fd int in = open(from, O_RDONLY | O_CLOEXEC);
    auto_fd int out = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    char buf[65536];
    ssize_t n = -1;
    while (in >= 0 && out >= 0 && (n = read(in, buf, sizeof(buf))) > 0)
        if (fd_write_all(out, buf, (size_t)n, NULL) < 0)
            return false;
    return n == 0;
}

static bool fill_layer(int layer)
{
    static const char *const applets[] = {
        "sh",    "true",  "false",    "cat",  "ls",   "echo",   "mount", "umount", "id",
        "mknod", "sleep", "hostname", "init", "stat", "kill",   "env",   "ip",     "readlink",
        "ps",    "mkdir", "rm",       "ln",   "mv",   "stty",   "tty",   "head",   "wc",
        "dd",    "chmod", "chown",    "find", "grep", "unshare"};
    static const char *const dirs[] = {"bin", "sbin", "etc", "root", "tmp", "home"};
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        if (mkdirat(layer, dirs[i], 0755) < 0)
            return false;
    if (fchmodat(layer, "tmp", 01777, 0) < 0 || !copy(layer, "/bin/busybox", "bin/busybox") ||
        symlinkat("../bin/busybox", layer, "sbin/init") < 0)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(applets); i++) {
        char name[32];
        str_print(name, sizeof(name), "bin/%s", applets[i]);
        if (symlinkat("busybox", layer, name) < 0)
            return false;
    }
    return put(layer, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/home:/bin/sh\n",
               0644) &&
           put(layer, "etc/group", "root:x:0:\nweb:x:33:\nextra:x:44:web,other\n", 0644) &&
           put(layer, "etc/inittab",
               "::sysinit:/bin/echo booted\n::once:/bin/sleep 100000\n"
               "::shutdown:/bin/echo stopping\n",
               0644);
}

static bool make_cgroup(struct fixture *f)
{
    static const char *const mounts[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"};
    for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
        auto_fd int top = open(mounts[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (top < 0 || faccessat(top, "cgroup.controllers", F_OK, 0) < 0)
            continue;
        str_print(f->cgroup_path, sizeof(f->cgroup_path), "%s/terem-container-%d", mounts[i],
                  getpid());
        if (mkdir(f->cgroup_path, 0755) < 0)
            return false;
        f->cgroup = open(f->cgroup_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        static const char *const own[] = {".", "cgroup.procs", "cgroup.subtree_control",
                                          "cgroup.threads"};
        for (size_t k = 0; k < ARRAY_SIZE(own); k++)
            if (fchownat(f->cgroup, own[k], FIXTURE_BASE, FIXTURE_BASE, 0) < 0)
                return false;
        return f->cgroup >= 0;
    }
    return false;
}

bool fixture_make(struct fixture *f, const char **why)
{
    *f = (struct fixture){.dirfd = -1,
                          .layer = -1,
                          .tree = -1,
                          .cgroup = -1,
                          .init_program = -1,
                          .ve = {.pidfd = -1, .console = -1}};
    if (geteuid() != 0) {
        *why = "not root";
        return false;
    }
    if (access("/bin/busybox", X_OK) < 0) {
        *why = "/bin/busybox (busybox-static) is not installed";
        return false;
    }
    str_print(f->dir, sizeof(f->dir), "/tmp/terem-container-XXXXXX");
    if (!mkdtemp(f->dir) || chmod(f->dir, 0755) < 0) {
        f->dir[0] = '\0';
        *why = "no temporary directory";
        return false;
    }
    f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *why = "cannot make the test's files";
    auto_fd int upper = -1, work = -1;
    if (path_make_dir_at(f->dirfd, "layer", 0755, &f->layer, NULL) < 0 ||
        path_make_dir_at(f->dirfd, "tree", 0755, &f->tree, NULL) < 0 ||
        path_make_dir_at(f->tree, "upper", 0755, &upper, NULL) < 0 ||
        path_make_dir_at(f->tree, "work", 0755, &work, NULL) < 0 || !fill_layer(f->layer))
        return false;
    *why = "there is no writable cgroup v2 hierarchy";
    if (!make_cgroup(f))
        return false;
    *why = "terem-init or probe_inside is not built";
    const char *init = getenv("TEREM_INIT"), *probe = getenv("TEREM_PROBE");
    const char *use = getenv("TEREM_USE");
    if (!probe || !copy(f->layer, probe, "bin/probe") || (use && !copy(f->layer, use, "bin/use")))
        return false;
    f->init_program = init ? open(init, O_RDONLY | O_CLOEXEC) : -1;
    return f->init_program >= 0;
}

void fixture_kill(struct fixture *f)
{
    if (f->ve.pidfd >= 0) {
        fd_pidfd_kill(f->ve.pidfd, SIGKILL, NULL);
        waitpid(f->ve.pid, NULL, 0);
    }
    cleanup_fd(&f->ve.pidfd);
    cleanup_fd(&f->ve.console);
}

/* With the children that an init system has made. */
static bool remove_cgroup(const char *path, int depth)
{
    auto_dir DIR *d = opendir(path);
    struct dirent *e;
    if (!d || depth > 8)
        return !d;
    while ((e = readdir(d))) {
        auto_free char *child = NULL;
        if (e->d_type == DT_DIR && e->d_name[0] != '.' &&
            (child = str_format("%s/%s", path, e->d_name)))
            remove_cgroup(child, depth + 1);
    }
    return rmdir(path) == 0;
}

void fixture_remove(struct fixture *f)
{
    fixture_kill(f);
    if (f->cgroup >= 0)
        fd_write_value_at(f->cgroup, "cgroup.kill", NULL, "1");
    if (f->cgroup_path[0]) {
        for (int i = 0; i < 6000 && !remove_cgroup(f->cgroup_path, 0); i++)
            usleep(10000); /* processes in their last moments */
    }
    cleanup_fd(&f->cgroup);
    cleanup_fd(&f->layer);
    cleanup_fd(&f->tree);
    cleanup_fd(&f->init_program);
    cleanup_fd(&f->dirfd);
    if (f->dir[0])
        path_remove_tree_at(AT_FDCWD, f->dir, NULL);
}

struct container_plan fixture_plan(const struct fixture *f)
{
    static const char *const init[] = {"/sbin/init", NULL};
    return (struct container_plan){
        .hostname = "web1",
        .id_base = FIXTURE_BASE,
        .layers = &f->layer,
        .n_layers = 1,
        .tree = f->tree,
        .cgroup = f->cgroup,
        .own_init = true,
        .init_program = -1,
        .argv = init,
        .lxcfs = -1,
        .proc_fs = -1,
        .new_privileges = true,
    };
}

int fixture_boot(struct fixture *f, const struct container_plan *plan, struct err *err)
{
    struct container_birth *b = NULL;
    int r = container_birth_begin(plan, &b, err);
    if (r == 0)
        r = container_birth_finish(b, &f->ve, err);
    container_birth_free(b);
    return r;
}

struct container_exec fixture_exec_of(const struct fixture *f, const char *const *argv)
{
    return (struct container_exec){.pidfd = f->ve.pidfd,
                                   .cgroup = f->cgroup,
                                   .argv = argv,
                                   .own_init = true,
                                   .new_privileges = true};
}

/* Reads until both ends are closed or nothing comes for ten seconds. */
static void drain(struct fixture *f, int a, int b)
{
    size_t len = 0;
    struct pollfd p[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
    while (p[0].fd >= 0 || p[1].fd >= 0) {
        if (poll(p, 2, 60000) <= 0)
            break;
        for (int i = 0; i < 2; i++) {
            if (!p[i].revents)
                continue;
            ssize_t n = read(p[i].fd, f->output + len, sizeof(f->output) - 1 - len);
            if (n > 0)
                len += (size_t)n;
            else
                p[i].fd = -1;
        }
    }
    f->output[len] = '\0';
}

int fixture_run(struct fixture *f, const struct container_exec *x, struct err *err)
{
    struct container_process p;
    int r = container_exec(x, &p, err);
    f->output[0] = '\0';
    if (r < 0)
        return r;
    if (!x->tty)
        cleanup_fd(&p.in);
    drain(f, x->tty ? p.in : p.out, p.error);
    int status = 0;
    waitpid(p.pid, &status, 0);
    cleanup_fd(&p.in);
    cleanup_fd(&p.out);
    cleanup_fd(&p.error);
    cleanup_fd(&p.pidfd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int fixture_exec(struct fixture *f, const char *line, struct err *err)
{
    const char *argv[] = {"sh", "-c", line, NULL};
    struct container_exec x = fixture_exec_of(f, argv);
    return fixture_run(f, &x, err);
}
