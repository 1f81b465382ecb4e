/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the memory of VEs goes (docs/density.md).  A thousand VEs have many thousand files to read:
 * a thread does, on a list of VEs taken in the loop and descriptors of its own, so that the loop
 * goes on and the node may end meanwhile.
 */
#include "base/fd.h"
#include "base/number.h"
#include "ve/beside.h"
#include "ve/internal.h"
#include "ve/rows.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>

#define TEXT_MOST (4u << 20) /* of a mount table */

struct subject {
    char name[NAME_SIZE];
    int64_t id;
    pid_t first;
};

struct density {
    uv_work_t work;
    struct density *next;
    struct ve_node *node; /* NULL: it has ended */
    struct resource_roots roots;
    struct subject *ves;
    size_t n;
    pid_t keep, lxcfs;
    json_t *result;
    ve_result_fn fn;
    void *ctx;
};

static void density_free(struct density *d)
{
    resource_roots_done(&d->roots);
    json_decref(d->result);
    free(d->ves);
    free(d);
}

/* ---- in the thread ---- */

/* Devices of file systems, each once; a VE has a dozen or two. */
#define DEVICES_MAX 256
struct devices {
    char v[DEVICES_MAX][24];
    size_t n;
};

static bool devices_have(const struct devices *d, const char *device)
{
    for (size_t i = 0; i < d->n; i++)
        if (str_eq(d->v[i], device))
            return true;
    return false;
}

/* Mounts of a process, and of which file systems they are (proc_pid_mountinfo(5): the third word).
 * Those in `others` are not counted. */
static size_t read_mounts(pid_t pid, const struct devices *others, struct devices *ret)
{
    auto_free char *text = NULL;
    char path[48], *save = NULL;
    size_t n = 0;
    str_print(path, sizeof(path), "/proc/%d/mountinfo", (int)pid);
    if (fd_read_file_at(AT_FDCWD, path, TEXT_MOST, &text, NULL, NULL) < 0)
        return 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *device = strchr(line, ' ');
        device = device ? strchr(device + 1, ' ') : NULL;
        char *end = device ? strchr(device + 1, ' ') : NULL;
        n++;
        if (!end || end - device >= 24)
            continue;
        *end = '\0';
        if (ret->n < DEVICES_MAX && !devices_have(ret, device + 1) &&
            (!others || !devices_have(others, device + 1)))
            str_print(ret->v[ret->n++], sizeof(ret->v[0]), "%s", device + 1);
    }
    return n;
}

static json_t *known(bool is, uint64_t n)
{
    return is ? json_integer((json_int_t)n) : json_null();
}

static json_t *processes_json(const struct resource_parts *p)
{
    return json_pack("{s:I, s:I, s:I}", "count", (json_int_t)p->processes, "anonymous",
                     (json_int_t)p->anonymous, "mapped", (json_int_t)p->mapped);
}

/* What it would take from the machine if it were alone: page cache can be taken back. */
static uint64_t total_of(const struct resource_parts *p)
{
    return p->anonymous + p->mapped + p->shared + p->kernel;
}

static json_t *ve_parts_json(const struct subject *ve, const struct resource_parts *p,
                             const struct devices *host)
{
    struct devices own = {0};
    size_t mounts = p->first_seen ? read_mounts(ve->first, host, &own) : 0;
    return json_pack("{s:s, s:I, s:o, s:I, s:I, s:o, s:I, s:I, s:o, s:o, s:o, s:b, s:I, s:o, s:o}",
                     "name", ve->name, "total", (json_int_t)total_of(p), "processes",
                     processes_json(p), "shared", (json_int_t)p->shared, "cache",
                     (json_int_t)p->cache, "kernel", known(p->charged, p->kernel), "stacks",
                     (json_int_t)p->stacks, "tables", (json_int_t)p->tables, "slab",
                     known(p->charged, p->slab), "percpu", known(p->split, p->percpu), "rest",
                     known(p->split, p->rest), "split", p->split, "cgroups", (json_int_t)p->cgroups,
                     "mounts", known(mounts, mounts), "superblocks", known(mounts, own.n));
}

/* Memory of BPF maps that we hold: fdinfo of each tells it (bpf_map_show_fdinfo() in the kernel).
 */
static uint64_t maps_bytes(void)
{
    uint64_t sum = 0, n;
    DIR *dir = opendir("/proc/self/fdinfo");
    if (!dir)
        return 0;
    for (struct dirent *e; (e = readdir(dir));) {
        auto_free char *text = NULL;
        if (fd_read_file_at(dirfd(dir), e->d_name, 4096, &text, NULL, NULL) == 0 &&
            strstr(text, "\nmap_type:") && number_after(text, "\nmemlock:", UINT64_MAX, &n))
            sum += n;
    }
    closedir(dir);
    return sum;
}

static void add_program(json_t *list, const char *name, pid_t pid)
{
    struct resource_parts p = {0};
    if (pid <= 0)
        return;
    resource_parts_add_process(pid, &p);
    if (p.processes)
        json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "name", name, "memory",
                                              (json_int_t)(p.anonymous + p.mapped + p.shared),
                                              "tables", (json_int_t)p.tables));
}

static json_t *machine_json(void)
{
    static const struct {
        const char *name, *line;
    } lines[] = {{"total", "MemTotal:"},           {"free", "\nMemFree:"},
                 {"available", "\nMemAvailable:"}, {"slab", "\nSlab:"},
                 {"percpu", "\nPercpu:"},          {"stacks", "\nKernelStack:"},
                 {"tables", "\nPageTables:"}};
    auto_free char *text = NULL;
    json_t *v = json_object();
    fd_read_file_at(AT_FDCWD, "/proc/meminfo", 8192, &text, NULL, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        uint64_t kib;
        bool is = text && number_after(text, lines[i].line, UINT64_MAX >> 10, &kib);
        json_object_set_new(v, lines[i].name, known(is, is ? kib << 10 : 0));
    }
    return v;
}

static void density_work(uv_work_t *w)
{
    struct density *d = w->data;
    auto_free struct devices *host = calloc(1, sizeof(*host));
    json_t *ves = json_array(), *programs = json_array();
    for (size_t i = 0; host && i < d->n; i++) {
        struct resource_parts p;
        if (i == 0)
            read_mounts(getpid(), NULL, host);
        if (resource_parts(&d->roots, d->ves[i].id, d->ves[i].first, &p, NULL) == 0)
            json_array_append_new(ves, ve_parts_json(&d->ves[i], &p, host));
    }
    add_program(programs, "teremd", getpid());
    add_program(programs, "terem-keep", d->keep);
    add_program(programs, "lxcfs", d->lxcfs);
    d->result = json_pack("{s:o, s:o, s:I, s:o}", "ves", ves, "programs", programs, "maps",
                          (json_int_t)maps_bytes(), "machine", machine_json());
}

/* ---- in the loop ---- */

static void density_done(uv_work_t *w, int status)
{
    struct density *d = w->data;
    struct err why = {0};
    if (!d->node)
        err_set(&why, ERR_STATE, "the node is stopping");
    else if (!d->result)
        err_set(&why, ERR_EXHAUSTED, "out of memory");
    for (struct density **at = d->node ? &d->node->densities : NULL; at && *at; at = &(*at)->next)
        if (*at == d) {
            *at = d->next;
            break;
        }
    d->fn(d->ctx, why.kind ? NULL : json_incref(d->result), &why);
    density_free(d);
}

void density_end(struct ve_node *node)
{
    for (struct density *d = node->densities; d; d = d->next)
        d->node = NULL;
    node->densities = NULL;
}

static void take_subject(struct density *d, const struct ve *ve)
{
    struct subject *s = &d->ves[d->n];
    if (!ve_has_cgroups(ve))
        return;
    d->n++;
    str_print(s->name, sizeof(s->name), "%s", ve->rec.name);
    s->id = ve->rec.id;
    s->first = (pid_t)json_integer_value(json_object_get(ve->run, "pid"));
}

static pid_t keep_pid(const struct ve_node *node)
{
    struct ucred c = {0};
    socklen_t len = sizeof(c);
    bool is = node->keep && getsockopt(keep_fd(node->keep), SOL_SOCKET, SO_PEERCRED, &c, &len) == 0;
    return is ? c.pid : 0;
}

int ve_density(struct ve_node *node, const char *name, const char *label, ve_result_fn fn,
               void *ctx, struct err *err)
{
    struct ve *one = NULL;
    if (name && ve_find_err(node, name, &one, err) < 0)
        return -err->kind;
    struct density *d = calloc(1, sizeof(*d));
    if (!d)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *d = (struct density){.node = node, .roots = RESOURCE_ROOTS_NONE, .fn = fn, .ctx = ctx};
    d->work.data = d;
    d->keep = keep_pid(node);
    d->lxcfs = lxcfs_pid(node);
    d->ves = calloc(node->n_ves + 1, sizeof(*d->ves));
    if (!d->ves || resource_roots_open(node->resources, &d->roots, err) < 0) {
        if (!d->ves)
            err_set(err, ERR_EXHAUSTED, "out of memory");
        density_free(d);
        return -err->kind;
    }
    for (size_t i = 0; i < node->n_ves; i++)
        if ((one ? node->ves[i] == one : !ve_hidden(node->ves[i])) &&
            ve_has_label(node->ves[i], label))
            take_subject(d, node->ves[i]);
    if (uv_queue_work(node->loop, &d->work, density_work, density_done) < 0) {
        density_free(d);
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    d->next = node->densities;
    node->densities = d;
    return 0;
}
