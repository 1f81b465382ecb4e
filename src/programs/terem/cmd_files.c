/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * push, pull: files and directories into and out of a VE.
 *
 * Directories travel as tar archives that tar(1) packs and unpacks: it is on every machine, is
 * only started when there is a directory, and costs the start of all other commands nothing.
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

/* Starts tar with one end of a pipe as its standard input or output; *ret_fd is the other. */
static int spawn_tar(const char *const *argv, int its_fd, int *ret_fd, pid_t *ret_pid,
                     struct err *err)
{
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_sys(err, "cannot make a pipe");
    auto_fd int ours = p[its_fd == 0], its = p[its_fd != 0];
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t dfl;
    sigemptyset(&dfl);
    sigaddset(&dfl, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, its, its_fd);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigdefault(&attr, &dfl);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
    int sys = posix_spawnp(ret_pid, "tar", &actions, &attr, (char *const *)argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    if (sys)
        return err_sysno(err, sys, "cannot run tar, which directories need");
    *ret_fd = steal_fd(&ours);
    return 0;
}

static int wait_tar(pid_t pid, struct err *err)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return err_sys(err, "cannot wait for tar");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    return err_set(err, ERR_SYSTEM, "tar failed");
}

/* ---- push ---- */

static int add_number(struct str *path, const struct args *a, const char *option, struct err *err)
{
    const char *text = args_get(a, option);
    uint64_t n;
    if (!text)
        return 0;
    int r = number_parse(text, 0, 65535, &n, err);
    if (r < 0)
        return err_wrap(err, "--%s", option);
    str_add(path, "&%s=%s", option, text);
    return 0;
}

/* PATH, or PATH/BASE when it ends with a slash; BASE also as the name for a file where PATH turns
 * out to be a directory. */
static int add_path(struct str *path, const char *target, const char *source, bool is_file,
                    struct err *err)
{
    auto_str struct str s = str_init(8192);
    auto_free char *copy = strdup(source);
    if (!copy)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    size_t n = strlen(copy);
    while (n > 1 && copy[n - 1] == '/')
        copy[--n] = '\0';
    const char *base = strrchr(copy, '/') ? strrchr(copy, '/') + 1 : copy;
    if (target[0] != '/')
        return err_set(err, ERR_USAGE, "the path inside the VE must begin with /: %s", target);
    str_add(&s, "%s", target);
    bool has_base = *base && !str_eq(source, "-") && !str_eq(base, ".") && !str_eq(base, "..");
    if (str_ends(target, "/")) {
        if (!has_base)
            return err_set(err, ERR_USAGE, "say the whole path of the file inside the VE");
        str_add(&s, "%s", base);
    }
    client_encode(path, str_c(&s));
    if (is_file && has_base) {
        str_add(path, "&name=");
        client_encode(path, base);
    }
    return s.failed ? err_set(err, ERR_USAGE, "the path is too long") : 0;
}

static int push_bytes(struct client *c, int fd, const char *name, struct err *err)
{
    auto_free char *buf = malloc(65536);
    if (!buf)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (;;) {
        ssize_t n = read(fd, buf, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "cannot read %s", name);
        if (n == 0)
            return 0;
        int r = client_upload(c, buf, (size_t)n, err);
        if (r < 0)
            return r;
    }
}

/* -ERR_CANCELLED of an upload means that the answer is there already: it tells more. */
static int finish_push(struct cli *cli, struct client *c, int r, const char *what, struct err *err)
{
    auto_json json_t *doc = NULL;
    if (r == 0)
        r = client_upload_end(c, err);
    if (r < 0 && r != -ERR_CANCELLED)
        return r;
    bool early = r < 0;
    err_clear(err);
    r = client_json(c, &doc, err);
    if (r < 0)
        return r;
    if (early)
        return err_set(err, ERR_UNAVAILABLE, "teremd took only a part of %s", what);
    if (cli->json && doc)
        return cli_out_json(cli, doc, err);
    return 0;
}

static int push_directory(struct cli *cli, const struct args *a, const char *source,
                          const char *path, struct err *err)
{
    char owner[32], group[32];
    const char *uid = args_get(a, "uid"), *gid = args_get(a, "gid");
    str_print(owner, sizeof(owner), "--owner=:%s", uid ? uid : "0");
    str_print(group, sizeof(group), "--group=:%s", gid ? gid : "0");
    const char *argv[] = {"tar", "--numeric-owner", owner, group, "-C", source, "-cf", "-", ".",
                          NULL};
    auto_client struct client *c = NULL;
    auto_fd int fd = -1;
    pid_t pid;
    struct request rq = {
        .method = "PUT", .path = path, .upload = "application/x-tar", .upload_size = -1};
    int r = client_open(&cli->place, &rq, &c, err);
    if (r == 0)
        r = spawn_tar(argv, STDOUT_FILENO, &fd, &pid, err);
    if (r < 0)
        return r;
    r = push_bytes(c, fd, "from tar", err);
    cleanup_fd(&fd);
    struct err tar_err = {0};
    if (wait_tar(pid, &tar_err) < 0 && r == 0) {
        /* No end of the body: teremd sees that the archive is cut and takes nothing. */
        *err = tar_err;
        return -tar_err.kind;
    }
    return finish_push(cli, c, r, source, err);
}

static int push_file(struct cli *cli, const char *path, int fd, const struct stat *st,
                     const char *name, struct err *err)
{
    auto_client struct client *c = NULL;
    struct request rq = {.method = "PUT",
                         .path = path,
                         .upload = "application/octet-stream",
                         .upload_size = S_ISREG(st->st_mode) ? (int64_t)st->st_size : -1};
    int r = client_open(&cli->place, &rq, &c, err);
    if (r < 0)
        return r;
    return finish_push(cli, c, push_bytes(c, fd, name, err), name, err);
}

/* "web1:/etc/motd", as scp(1) has it: the VE's name into *ret_ve (yours), the path behind it. */
static int split(const char *word, char **ret_ve, const char **ret_path, struct err *err)
{
    const char *colon = strchr(word, ':');
    *ret_path = colon + 1;
    *ret_ve = strndup(word, (size_t)(colon - word));
    return *ret_ve ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory");
}

static int missing_word(const struct args *a, struct err *err)
{
    return err_set(err, ERR_USAGE, "a word is missing; use: terem %s [OPTION...] %s",
                   a->command->name, a->command->usage);
}

static int run_push(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(65536);
    const char *ve = a->pos[0], *source = a->pos[1], *target = a->pos[2];
    const char *mode = args_get(a, "mode");
    auto_free char *owned = NULL;
    auto_fd int fd = -1;
    struct stat st;
    unsigned bits;
    int r = 0;
    if (a->n_pos == 2) { /* SOURCE VE:PATH */
        if (!strchr(a->pos[1], ':'))
            return missing_word(a, err);
        source = a->pos[0];
        if ((r = split(a->pos[1], &owned, &target, err)) < 0)
            return r;
        ve = owned;
    }
    r = cli_ve_path(&path, ve, "/files?path=", err);
    if (r < 0)
        return err_wrap(err, "VE");
    if (str_eq(source, "-"))
        fd = dup(STDIN_FILENO);
    else
        fd = open(source, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, "cannot open %s", source);
    r = add_path(&path, target, source, !S_ISDIR(st.st_mode), err);
    if (r == 0 && mode && (r = number_parse_mode(mode, &bits, err)) < 0)
        r = err_wrap(err, "--mode");
    if (r == 0 && S_ISDIR(st.st_mode))
        r = push_directory(cli, a, source, str_c(&path), err);
    else if (r == 0) {
        if (!mode)
            bits = S_ISREG(st.st_mode) ? st.st_mode & 0777 : 0644;
        str_add(&path, "&mode=%04o", bits);
        r = add_number(&path, a, "uid", err);
        if (r == 0)
            r = add_number(&path, a, "gid", err);
        if (r == 0)
            r = push_file(cli, str_c(&path), fd, &st, source, err);
    }
    if (r == 0)
        cli_say(cli, "%s: pushed", ve);
    return r;
}

static const struct option_spec push_options[] = {
    {"mode", 'm', "MODE", "octal mode of the file (default: that of the source)"},
    {"uid", 'u', "UID", "owner inside the VE (default: 0)"},
    {"gid", 'g', "GID", "group inside the VE (default: 0)"},
    END,
};

command_row cmd_push = {
    .name = "push",
    .summary = "copy a file or a directory into a VE",
    .usage = "VE SOURCE PATH | SOURCE VE:PATH",
    .min = 2,
    .max = 3,
    .complete = COMPLETE_VES,
    .complete_more = COMPLETE_FILES,
    .options = push_options,
    .run = run_push,
    .detail = "SOURCE is a file, a directory, or - for standard input. PATH is absolute inside "
              "the VE; when it ends with / the source's name is added, and a file goes into a "
              "directory that is there. Of a directory the "
              "contents go below PATH. What is made belongs to root there unless --uid and --gid "
              "say otherwise.",
    .examples = {"terem push web1 ./site.conf /etc/nginx/conf.d/",
                 "terem push web1 ./htdocs /var/www/html", "echo hi | terem push web1 - /etc/motd"},
};

/* ---- pull ---- */

static int pull_bytes(struct client *c, int fd, const char *name, struct err *err)
{
    const char *span;
    ssize_t n;
    while ((n = client_body(c, &span, err)) > 0) {
        int r = fd_write_all(fd, span, (size_t)n, err);
        if (r < 0)
            return err_wrap(err, "cannot write %s", name);
    }
    return (int)n;
}

/* Ownership, set-user-id bits and devices of a VE mean nothing good here: tar is told to leave
 * them, and it refuses members that lead outside by itself. */
static int pull_directory(struct client *c, const char *dest, struct err *err)
{
    const char *argv[] = {"tar", "--no-same-owner", "--no-same-permissions", "-C", dest, "-xf", "-",
                          NULL};
    auto_fd int fd = -1;
    pid_t pid;
    if (mkdir(dest, 0777) < 0 && errno != EEXIST)
        return err_sys(err, "cannot make %s", dest);
    int r = spawn_tar(argv, STDIN_FILENO, &fd, &pid, err);
    if (r < 0)
        return r;
    signal(SIGPIPE, SIG_IGN); /* a tar that gave up tells by its status */
    r = pull_bytes(c, fd, "to tar", err);
    cleanup_fd(&fd);
    struct err tar_err = {0};
    if (wait_tar(pid, &tar_err) < 0 && (r == 0 || err->sys == EPIPE)) {
        *err = tar_err;
        r = -tar_err.kind;
    }
    return r;
}

/* Beside the target first, then renamed: a pull that broke off leaves what was there. */
static int pull_file(struct client *c, const char *dest, struct err *err)
{
    auto_str struct str tmp = str_init(8192);
    struct stat st;
    const char *slash = strrchr(dest, '/');
    bool replace = lstat(dest, &st) < 0 || S_ISREG(st.st_mode);
    auto_fd int fd = -1;
    if (!replace) { /* a device, a pipe, a symlink: through it */
        fd = open(dest, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        return fd < 0 ? err_sys(err, "cannot open %s", dest) : pull_bytes(c, fd, dest, err);
    }
    str_add(&tmp, "%.*s.%s.XXXXXX", slash ? (int)(slash + 1 - dest) : 0, dest,
            slash ? slash + 1 : dest);
    if (tmp.failed)
        return err_set(err, ERR_USAGE, "the path is too long");
    fd = mkostemp(tmp.buf, O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot make a file beside %s", dest);
    mode_t mask = umask(0);
    umask(mask);
    int r = pull_bytes(c, fd, dest, err);
    if (r == 0 && (fchmod(fd, 0666 & ~mask) < 0 || rename(tmp.buf, dest) < 0))
        r = err_sys(err, "cannot make %s", dest);
    if (r < 0)
        unlink(tmp.buf);
    return r;
}

static int check_status(const struct client *c, struct err *err)
{
    if (c->http.status == 200)
        return 0;
    return err_set(err, ERR_CORRUPT, "teremd answered %d", c->http.status);
}

/* DEST, or DEST/BASE when it is a directory. */
static int target_of(const char *path, const char *dest, struct str *ret, struct err *err)
{
    auto_free char *copy = strdup(path);
    struct stat st;
    if (!copy)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    size_t n = strlen(copy);
    while (n > 1 && copy[n - 1] == '/')
        copy[--n] = '\0';
    const char *base = strrchr(copy, '/') ? strrchr(copy, '/') + 1 : copy;
    str_add(ret, "%s", dest);
    bool inside = str_ends(dest, "/") || (stat(dest, &st) == 0 && S_ISDIR(st.st_mode));
    if (inside && (!*base || str_eq(base, ".") || str_eq(base, "..")))
        return err_set(err, ERR_USAGE, "say where %s shall go", path);
    if (inside)
        str_add(ret, "%s%s", str_ends(dest, "/") ? "" : "/", base);
    return ret->failed ? err_set(err, ERR_USAGE, "the path is too long") : 0;
}

static int run_pull(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(65536), target = str_init(8192);
    auto_client struct client *c = NULL;
    const char *ve = a->pos[0], *from = a->pos[1];
    auto_free char *owned = NULL;
    size_t used = 2; /* words before DEST */
    int r = 0;
    if (strchr(a->pos[0], ':') && a->n_pos < 3) { /* VE:PATH [DEST] */
        used = 1;
        if ((r = split(a->pos[0], &owned, &from, err)) < 0)
            return r;
        ve = owned;
    } else if (a->n_pos < 2) {
        return missing_word(a, err);
    }
    const char *dest = a->n_pos > used ? a->pos[used] : ".";
    r = cli_ve_path(&path, ve, "/files?path=", err);
    if (r == 0 && from[0] != '/')
        r = err_set(err, ERR_USAGE, "the path inside the VE must begin with /: %s", from);
    if (r == 0 && !str_eq(dest, "-"))
        r = target_of(from, dest, &target, err);
    if (r < 0)
        return r;
    client_encode(&path, from);
    struct request rq = {.method = "GET", .path = str_c(&path)};
    r = client_open(&cli->place, &rq, &c, err);
    if (r == 0)
        r = client_head(c, err);
    if (r == 0)
        r = check_status(c, err);
    if (r < 0)
        return r;
    if (str_eq(dest, "-"))
        return pull_bytes(c, STDOUT_FILENO, "to standard output", err);
    if (str_eq(c->http.type, "application/x-tar"))
        r = pull_directory(c, str_c(&target), err);
    else
        r = pull_file(c, str_c(&target), err);
    if (r == 0 && cli->json) {
        auto_json json_t *doc = json_pack("{s:s}", "path", str_c(&target));
        return doc ? cli_out_json(cli, doc, err) : 0;
    }
    if (r == 0)
        cli_say(cli, "%s is here", str_c(&target));
    return r;
}

command_row cmd_pull = {
    .name = "pull",
    .summary = "copy a file or a directory out of a VE",
    .usage = "VE PATH [DEST] | VE:PATH [DEST]",
    .min = 1,
    .max = 3,
    .complete = COMPLETE_VES,
    .complete_more = COMPLETE_FILES,
    .run = run_pull,
    .detail = "DEST is a file, a directory to put it into (default: the current one), or - for "
              "standard output, where a directory comes as a tar archive. Owners, special bits "
              "and devices stay in the VE.",
    .examples = {"terem pull web1 /etc/hostname", "terem pull web1 /var/log ./logs-of-web1",
                 "terem pull web1 /etc - | tar -t"},
};
