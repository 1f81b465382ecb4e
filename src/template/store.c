/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/store.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "template/record.h"

#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define JSON_SUFFIX ".json"

int template_store_open(const char *state, struct template_store **ret, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    auto_free struct template_store *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (str_print(s->state, sizeof(s->state), "%s", state) < 0 ||
        str_print(s->layers_path, sizeof(s->layers_path), "%s/layers", state) < 0)
        return err_set(err, ERR_USAGE, "the path of the state directory is too long");
    int r = path_make_dirs(state, 0755, err);
    if (r < 0)
        return err_wrap(err, "cannot open the templates");
    auto_fd int dir = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(err, "cannot open %s", state);
    auto_fd int layers = -1, templates = -1;
    if ((r = path_make_dir_at(dir, "layers", 0700, &layers, err)) < 0 ||
        (r = path_make_dir_at(dir, "templates", 0700, &templates, err)) < 0)
        return err_wrap(err, "cannot open the templates");
    s->layers = steal_fd(&layers);
    s->templates = steal_fd(&templates);
    *ret = steal_ptr(&s);
    return 0;
}

void template_store_close(struct template_store *s)
{
    if (!s)
        return;
    cleanup_fd(&s->layers);
    cleanup_fd(&s->templates);
    free(s);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void template_names_free(char **names, size_t n)
{
    for (size_t i = 0; names && i < n; i++)
        free(names[i]);
    free(names);
}

/* The names in a directory that `accept` takes, sorted; each may be cut by it. */
static int list_names(int dirfd, bool (*accept)(char *name), char ***ret, size_t *ret_n,
                      struct err *err)
{
    auto_dir DIR *d = fd_list(dirfd);
    if (!d)
        return err_sys(err, "cannot list the templates");
    char **names = NULL;
    size_t n = 0, room = 0;
    struct dirent *e;
    while ((e = readdir(d))) {
        if (!accept(e->d_name))
            continue;
        if (n == room) {
            room = room ? room * 2 : 16;
            char **more = reallocarray(names, room, sizeof(*names));
            if (!more)
                goto no_memory;
            names = more;
        }
        if (!(names[n] = strdup(e->d_name)))
            goto no_memory;
        n++;
    }
    if (n)
        qsort(names, n, sizeof(*names), by_text);
    *ret = names;
    *ret_n = n;
    return 0;
no_memory:
    template_names_free(names, n);
    return err_set(err, ERR_EXHAUSTED, "out of memory");
}

static bool is_record(char *name)
{
    if (name[0] == '.' || !str_ends(name, JSON_SUFFIX))
        return false;
    name[strlen(name) - strlen(JSON_SUFFIX)] = '\0';
    return name_check_template(name, NULL) == 0;
}

static bool is_layer(char *name)
{
    return str_starts(name, "sha256-");
}

static bool is_old(char *name)
{
    return str_starts(name, ".old-");
}

static bool is_draft(char *name)
{
    return str_starts(name, ".new-");
}

int template_list(struct template_store *s, char ***ret, size_t *ret_n, struct err *err)
{
    return list_names(s->templates, is_record, ret, ret_n, err);
}

struct name_list {
    char **names;
    size_t n;
};

static const char *next_name(void *ctx, size_t i)
{
    static const char *const bases[] = {"busybox", "debian-12", "debian-13"};
    struct name_list *l = ctx;
    if (i < l->n)
        return l->names[i];
    return i - l->n < ARRAY_SIZE(bases) ? bases[i - l->n] : NULL;
}

static int not_there(struct template_store *s, const char *name, struct err *err)
{
    struct name_list l = {0};
    template_list(s, &l.names, &l.n, NULL);
    const char *near = name_suggest(name, next_name, &l);
    if (near && str_eq(near, name))
        err_set(err, ERR_NOT_FOUND, "there is no template %s; \"terem template build %s\" makes it",
                name, name);
    else if (near)
        err_set(err, ERR_NOT_FOUND, "there is no template %s; did you mean %s?", name, near);
    else
        err_set(err, ERR_NOT_FOUND,
                "there is no template %s; \"terem template build\" or \"terem template import\" "
                "makes one",
                name);
    template_names_free(l.names, l.n);
    return -ERR_NOT_FOUND;
}

int template_get(struct template_store *s, const char *name, struct template **ret, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    int r = name_check_template(name, err);
    if (r < 0)
        return r;
    char file[NAME_SIZE + 8];
    str_print(file, sizeof(file), "%s" JSON_SUFFIX, name);
    auto_free char *text = NULL;
    size_t len = 0;
    r = fd_read_file_at(s->templates, file, RECORD_MAX, &text, &len, err);
    if (r == -ERR_NOT_FOUND)
        return not_there(s, name, err);
    if (r < 0)
        return err_wrap(err, "cannot read template %s", name);
    if ((r = record_read(text, len, name, ret, err)) < 0)
        return err_wrap(err, "%s/templates/%s", s->state, file);
    return 0;
}

static void layer_file(const char *digest, char ret[TEMPLATE_DIGEST])
{
    str_print(ret, TEMPLATE_DIGEST, "%s", digest);
    ret[6] = '-';
}

int template_open_layers(struct template_store *s, const char *const *digests, size_t n,
                         int *ret_fds, struct err *err)
{
    size_t i;
    int r = 0;
    for (i = 0; i < n; i++) {
        char name[TEMPLATE_DIGEST], path[TEMPLATE_DIGEST + 8];
        if (!digest_ok(digests[i])) {
            r = err_set(err, ERR_USAGE, "\"%.80s\" is not a layer's digest", digests[i]);
            break;
        }
        layer_file(digests[i], name);
        str_print(path, sizeof(path), "%s/root", name);
        ret_fds[i] = openat(s->layers, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (ret_fds[i] >= 0)
            continue;
        r = errno == ENOENT ? err_set(err, ERR_CORRUPT,
                                      "layer %s is missing; build its template again", digests[i])
                            : err_sys(err, "cannot open layer %s", digests[i]);
        break;
    }
    while (r < 0 && i > 0)
        cleanup_fd(&ret_fds[--i]);
    return r;
}

static bool listed(const char *digest, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(digest, list[i]))
            return true;
    return false;
}

/* Does any template stand on the layer?  Asked while the lock is held.  `all` has every record. */
static bool in_records(const char *digest, struct template *const *all, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < all[i]->n_layers; k++)
            if (str_eq(digest, all[i]->layers[k]))
                return true;
    return false;
}

static void records_free(struct template **all, size_t n)
{
    for (size_t i = 0; i < n; i++)
        template_free(all[i]);
    free(all);
}

static int read_records(struct template_store *s, struct template ***ret, size_t *ret_n,
                        struct err *err)
{
    char **names = NULL;
    size_t n = 0, got = 0;
    int r = template_list(s, &names, &n, err);
    if (r < 0)
        return r;
    struct template **all = calloc(n + 1, sizeof(struct template *));
    if (!all)
        r = err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < n && r == 0; i++)
        if ((r = template_get(s, names[i], &all[i], err)) == 0)
            got++;
    template_names_free(names, n);
    if (r < 0) {
        records_free(all, got);
        return err_wrap(err, "unused layers are kept");
    }
    *ret = all;
    *ret_n = n;
    return 0;
}

/* The name is new each time: what went by it before may still be on its way out. */
static int retire(struct template_store *s, const char *name)
{
    char old[TEMPLATE_DIGEST + 64];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    str_print(old, sizeof(old), ".old-%lld-%ld-%s", (long long)now.tv_sec, now.tv_nsec,
              name + (name[0] == '.'));
    return renameat(s->layers, name, s->layers, old);
}

/*
 * Renames every layer that nothing stands on out of the way, while the lock is held.  If a record
 * cannot be read no layer goes, because we cannot know which ones it needs.
 */
static int retire_layers(struct template_store *s, const char *const *used, size_t n_used,
                         struct err *err)
{
    struct template **all = NULL;
    size_t n_all = 0, n = 0;
    char **names = NULL;
    int r = read_records(s, &all, &n_all, err);
    if (r < 0)
        return r;
    r = list_names(s->layers, is_layer, &names, &n, err);
    for (size_t i = 0; i < n; i++) {
        char digest[TEMPLATE_DIGEST];
        if (str_print(digest, sizeof(digest), "%s", names[i]) < 0)
            continue;
        digest[6] = ':';
        if (!digest_ok(digest) || listed(digest, used, n_used) || in_records(digest, all, n_all))
            continue;
        if (retire(s, names[i]) < 0 && r == 0)
            r = err_sys(err, "cannot remove layer %s", digest);
    }
    template_names_free(names, n);
    records_free(all, n_all);
    return r;
}

/* What the file of a layer on its way out says of its size. */
static void count_freed(struct template_store *s, const char *name, struct template_freed *f)
{
    char path[NAME_MAX + 16];
    auto_free char *text = NULL;
    json_int_t bytes = 0;
    str_print(path, sizeof(path), "%s/layer.json", name);
    if (!strstr(name, "-sha256-") || fd_read_file_at(s->layers, path, 4096, &text, NULL, NULL) < 0)
        return;
    json_t *j = json_loads(text, 0, NULL);
    if (json_unpack(j, "{s:I}", "bytes", &bytes) == 0 && bytes >= 0) {
        f->layers++;
        f->bytes += (uint64_t)bytes;
    }
    json_decref(j);
}

/* The lock is not needed any more. */
int template_empty_trash(struct template_store *s, struct template_freed *ret_freed,
                         struct err *err)
{
    char **names = NULL;
    size_t n = 0;
    int r = list_names(s->layers, is_old, &names, &n, err);
    for (size_t i = 0; i < n && r == 0; i++) {
        if (ret_freed)
            count_freed(s, names[i], ret_freed);
        r = path_remove_tree_at(s->layers, names[i], err);
    }
    template_names_free(names, n);
    return r;
}

bool template_has_trash(struct template_store *s)
{
    char **names = NULL;
    size_t n = 0;
    bool any = list_names(s->layers, is_old, &names, &n, NULL) == 0 && n > 0;
    template_names_free(names, n);
    return any;
}

int store_lock(struct template_store *s, bool wait, int *ret_fd, struct err *err)
{
    /* A descriptor of its own: those that fork shares would share the lock, too. */
    auto_fd int fd = openat(s->templates, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB)) < 0)
        return fd >= 0 && errno == EWOULDBLOCK
                   ? err_set(err, ERR_BUSY, "the templates are being changed")
                   : err_sys(err, "cannot lock the templates");
    *ret_fd = steal_fd(&fd);
    return 0;
}

int template_remove(struct template_store *s, const char *name, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    int r = name_check_template(name, err);
    if (r < 0)
        return r;
    char file[NAME_SIZE + 8];
    str_print(file, sizeof(file), "%s" JSON_SUFFIX, name);
    auto_fd int lock = -1;
    if ((r = store_lock(s, true, &lock, err)) < 0)
        return r;
    if (unlinkat(s->templates, file, 0) < 0)
        return errno == ENOENT ? not_there(s, name, err)
                               : err_sys(err, "cannot remove template %s", name);
    return fsync(s->templates) < 0 ? err_sys(err, "cannot remove template %s", name) : 0;
}

/* Renames the drafts whose makers are gone out of the way. */
static int retire_drafts(struct template_store *s, struct err *err)
{
    auto_fd int lock = openat(s->layers, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0 || flock(lock, LOCK_EX) < 0)
        return err_sys(err, "cannot lock the layers");
    char **names = NULL;
    size_t n = 0;
    int r = list_names(s->layers, is_draft, &names, &n, err);
    for (size_t i = 0; i < n && r == 0; i++) {
        auto_fd int fd =
            openat(s->layers, names[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
            continue;
        /* Gone: it was put in place meanwhile, or its maker dropped it. */
        if (retire(s, names[i]) < 0 && errno != ENOENT)
            r = err_sys(err, "cannot rename %s", names[i]);
    }
    template_names_free(names, n);
    return r;
}

static int collect(struct template_store *s, bool wait, const char *const *used, size_t n_used,
                   struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    int r = retire_drafts(s, err);
    if (r < 0)
        return err_wrap(err, "cannot remove a half-made layer");
    auto_fd int lock = -1;
    if ((r = store_lock(s, wait, &lock, err)) < 0)
        return r;
    return retire_layers(s, used, n_used, err);
}

int template_collect(struct template_store *s, const char *const *used, size_t n_used,
                     struct err *err)
{
    return collect(s, false, used, n_used, err);
}

int template_recover(struct template_store *s, const char *const *used, size_t n_used,
                     struct err *err)
{
    return collect(s, true, used, n_used, err);
}
