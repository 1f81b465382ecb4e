/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Written by a process that has become the VE's root in a view of its files (with_files): whatever
 * the files are, they lead nowhere else, and they count against its limits.  Nothing of the VE is
 * executed.
 */
#include "ve/identity.h"

#include "base/fd.h"
#include "base/number.h"
#include "ve/hostkey.h"
#include "ve/internal.h"
#include "ve/pools.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SSH      "/etc/ssh"
#define PREFIX   "ssh_host_"
#define SUFFIX   "_key"
#define KEYS_MAX 32
#define NEW      ".terem-new"

struct report { /* of the process that enters, to the worker */
    struct err error;
    char warning[200];
};

static void warn(struct report *r, const char *name)
{
    size_t n = strlen(r->warning);
    str_print(r->warning + n, sizeof(r->warning) - n, "%s%s", n ? ", " : "", name);
}

/* Puts text in the place of the regular file `name`, with its owner and mode, durably. */
static int replace(int dir, const char *name, const struct stat *like, const char *text,
                   struct err *err)
{
    unlinkat(dir, NEW, 0);
    auto_fd int fd = openat(dir, NEW, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "cannot write a new %s", name);
    if (fd_write_all(fd, text, strlen(text), err) < 0 ||
        (fchown(fd, like->st_uid, like->st_gid) < 0 || fchmod(fd, like->st_mode & 0777) < 0 ||
         fsync(fd) < 0 || renameat(dir, NEW, dir, name) < 0)) {
        if (err->kind == ERR_NONE)
            err_sys(err, "cannot write a new %s", name);
        unlinkat(dir, NEW, 0);
        return err_wrap(err, "new identity");
    }
    return 0;
}

static bool is_file(int dir, const char *name, struct stat *st)
{
    return fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st->st_mode);
}

/* ---- machine-id(5) ---- */

/* A random UUID of version 4, as systemd makes them. */
static int new_machine_id(char ret[34], struct err *err)
{
    uint8_t id[16];
    if (getrandom(id, sizeof(id), 0) != sizeof(id))
        return err_sys(err, "cannot make a machine-id");
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
    for (size_t i = 0; i < sizeof(id); i++)
        str_print(ret + 2 * i, 3, "%02x", id[i]);
    str_print(ret + 32, 2, "\n");
    return 0;
}

static int renew_machine_id(struct err *err)
{
    static const char *const dirs[] = {"/etc", "/var/lib/dbus"};
    char id[34];
    if (new_machine_id(id, err) < 0)
        return -err->kind;
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        struct stat st;
        auto_fd int dir = open(dirs[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        /* One that is empty is filled by the VE itself at its first start; a symbolic link leads to
         * the other one. */
        if (dir < 0 || !is_file(dir, "machine-id", &st) || st.st_size == 0)
            continue;
        if (replace(dir, "machine-id", &st, id, err) < 0)
            return -err->kind;
        fsync(dir);
    }
    return 0;
}

/* ---- SSH host keys ---- */

/* "ssh_host_rsa_key": "rsa". */
static bool type_of(const char *name, char ret[32])
{
    size_t n = strlen(name), prefix = strlen(PREFIX), suffix = strlen(SUFFIX);
    if (!str_starts(name, PREFIX) || !str_ends(name, SUFFIX) || n <= prefix + suffix)
        return false;
    return str_print(ret, 32, "%.*s", (int)(n - prefix - suffix), name + prefix) == 0;
}

/* Of an ECDSA key the curve is in its public line. */
static unsigned bits_of(int dir, const char *pub, const struct stat *st)
{
    auto_free char *text = NULL;
    uint64_t bits = 0;
    if (st->st_size > 0 && st->st_size < 8192 &&
        fd_read_file_at(dir, pub, 8192, &text, NULL, &(struct err){0}) == 0)
        number_after(text, "ecdsa-sha2-nistp", 521, &bits);
    return bits == 384 || bits == 521 ? (unsigned)bits : 0;
}

static int renew_key(int dir, const char *name, const char *comment, struct report *r,
                     struct err *err)
{
    auto_free char *private = NULL, *public = NULL;
    char type[32], pub[NAME_MAX + 8], cert[NAME_MAX + 16];
    struct stat st, pub_st = {0};
    str_print(pub, sizeof(pub), "%s.pub", name);
    str_print(cert, sizeof(cert), "%s-cert.pub", name);
    bool file = is_file(dir, name, &st), has_pub = is_file(dir, pub, &pub_st);
    struct err e = {0};
    unlinkat(dir, cert, 0); /* vouches for the old key */
    if (!type_of(name, type) || !file ||
        hostkey_make(type, has_pub ? bits_of(dir, pub, &pub_st) : 0, comment, &private, &public,
                     &e) < 0) {
        warn(r, name);
        if (unlinkat(dir, name, 0) < 0)
            return err_sys(err, "cannot remove %s", name);
        unlinkat(dir, pub, 0);
        return 0;
    }
    int res = replace(dir, name, &st, private, err);
    explicit_bzero(private, strlen(private));
    if (res == 0 && has_pub)
        res = replace(dir, pub, &pub_st, public, err);
    return res;
}

static int renew_keys(const char *ve_name, struct report *r, struct err *err)
{
    char names[KEYS_MAX][NAME_MAX + 1], comment[NAME_SIZE + 8], type[32];
    size_t n = 0;
    int fd = open(SSH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list)
        return 0;
    for (const struct dirent *d; n < KEYS_MAX && (d = readdir(list));)
        if (type_of(d->d_name, type))
            str_print(names[n++], sizeof(names[0]), "%s", d->d_name);
    str_print(comment, sizeof(comment), "root@%s", ve_name);
    int res = 0;
    for (size_t i = 0; i < n && res == 0; i++)
        res = renew_key(fd, names[i], comment, r, err);
    if (n)
        fsync(fd);
    closedir(list);
    return res;
}

/* ---- the process that enters ---- */

struct task {
    const char *name;
    struct report report;
};

static void enter(struct task *t, int pidfd, int out) __attribute__((noreturn));
static void enter(struct task *t, int pidfd, int out)
{
    struct report *r = &t->report;
    if (container_enter_files(pidfd, &r->error) == 0 && renew_machine_id(&r->error) == 0 &&
        renew_keys(t->name, r, &r->error) == 0)
        r->error = (struct err){0};
    fd_write_all(out, r, sizeof(*r), NULL);
    _exit(0);
}

static int fork_and_enter(void *ctx, int pidfd, struct err *err)
{
    struct task *t = ctx;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(err, "cannot make a pipe");
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        enter(t, pidfd, ends[1]);
    }
    close(ends[1]);
    auto_fd int in = ends[0];
    if (pid < 0)
        return err_sys(err, "cannot fork");
    auto_free char *bytes = NULL;
    size_t n = 0;
    int r = fd_read_all(in, sizeof(t->report), &bytes, &n, err);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (r < 0 || n != sizeof(t->report))
        return err_set(err, ERR_INTERNAL, "its new identity could not be written");
    memcpy(&t->report, bytes, n);
    t->report.error.text[sizeof(t->report.error.text) - 1] = '\0';
    t->report.warning[sizeof(t->report.warning) - 1] = '\0';
    if (t->report.error.kind != ERR_NONE)
        *err = t->report.error;
    return -t->report.error.kind;
}

/* ---- is there anything to renew? ---- */

/* One layer, or what was written over them.  Something odd on the way, such as a symbolic link,
 * which may lead into another layer: there may be. */
static bool may_have(int root)
{
    static const char *const dirs[] = {"etc", "var", "var/lib", "var/lib/dbus"};
    static const char *const wanted[] = {"etc/machine-id", "var/lib/dbus/machine-id", "etc/ssh"};
    struct stat st;
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        if (fstatat(root, dirs[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode))
            return true;
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
        if (fstatat(root, wanted[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
            return true;
    return false;
}

/* Building a view of its files takes longer than a copy that shares blocks: not for nothing. */
static int is_needed(struct ve *ve, bool *ret, struct err *err)
{
    const json_t *list = json_object_get(ve->spec, "layers");
    const char *digests[TEMPLATE_LAYERS_MAX];
    int layers[TEMPLATE_LAYERS_MAX];
    size_t n = 0, i;
    json_t *item;
    auto_fd int tree = -1;
    json_array_foreach(list, i, item)
    {
        if (n < TEMPLATE_LAYERS_MAX)
            digests[n++] = json_string_value(item);
    }
    if (storage_open(ve_pool(ve), ve->rec.id, &tree, err) < 0 ||
        template_open_layers(ve->node->templates, digests, n, layers, err) < 0)
        return -err->kind;
    auto_fd int upper = openat(tree, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    *ret = upper < 0 || may_have(upper);
    for (i = 0; i < n; i++) {
        *ret = *ret || may_have(layers[i]);
        close(layers[i]);
    }
    return 0;
}

int identity_renew(struct ve *ve, char *warning, size_t size, struct err *err)
{
    struct task t = {.name = ve->rec.name};
    bool needed = true;
    *warning = '\0';
    if (is_needed(ve, &needed, err) < 0)
        return -err->kind;
    if (!needed)
        return 0;
    if (engine_container.with_files(ve, fork_and_enter, &t, err) < 0)
        return -err->kind;
    str_print(warning, size, "%s", t.report.warning);
    return 0;
}
