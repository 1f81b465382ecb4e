/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine for VEs that share the host's kernel: hands each room's part to the next. */
#include "base/fd.h"
#include "base/path.h"
#include "kernel/process.h"
#include "ve/address.h"
#include "ve/beside.h"
#include "ve/disk.h"
#include "ve/etc.h"
#include "ve/firstkeys.h"
#include "ve/internal.h"
#include "ve/net.h"
#include "ve/pools.h"
#include "ve/private.h"
#include "ve/rows.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define FILES_MAX   (5 + ETC_FILES + FIRSTKEYS_FILES)
#define POWEROFF_MS 5000
#define KILL_MS     10000
#define START_AGAIN 3

/* init's own signals to power off: systemd(1) SIGRTMIN+4, busybox init SIGUSR2. */
static int shutdown_signal(const struct ve *ve)
{
    const char *init = json_string_value(json_object_get(ve->spec, "init"));
    if (ve_in_repair(ve))
        init = "busybox";
    if (str_eq(init, "systemd"))
        return SIGRTMIN + 4;
    if (str_eq(init, "busybox"))
        return SIGUSR2;
    if (str_eq(init, "sysv"))
        return 0;
    return SIGTERM;
}

/* NULL-terminated copies of pointers into JSON that lives as long as the VE. */
static const char **string_list(const json_t *array)
{
    size_t n = json_array_size(array), i;
    const json_t *item;
    const char **list = calloc(n + 1, sizeof(*list));
    if (list)
        json_array_foreach(array, i, item) list[i] = json_string_value(item);
    return list;
}

static char **env_list(const json_t *object)
{
    char **list = calloc(json_object_size(object) + 1, sizeof(*list));
    size_t i = 0;
    const char *key;
    json_t *value;
    if (!list)
        return NULL;
    json_object_foreach((json_t *)object, key, value) list[i++] =
        str_format("%s=%s", key, json_string_value(value));
    return list;
}

static void free_env(char ***list)
{
    for (char **p = *list; p && *p; p++)
        free(*p);
    free(*list);
}

/* Its own pair only, which never changes: others come and go while it runs. */
static char *hosts_text(const struct ve *ve, const struct network_address *addr)
{
    char v4[INET_ADDRSTRLEN], v6[INET6_ADDRSTRLEN];
    auto_str struct str s = str_init(4096);
    if (addr->v4.s_addr && inet_ntop(AF_INET, &addr->v4, v4, sizeof(v4)))
        str_add(&s, "%s\t%s\n", v4, ve->rec.name);
    if (!IN6_IS_ADDR_UNSPECIFIED(&addr->v6) && inet_ntop(AF_INET6, &addr->v6, v6, sizeof(v6)))
        str_add(&s, "%s\t%s\n", v6, ve->rec.name);
    return str_steal(&s);
}

struct parts { /* everything of one start, released together */
    int layers[TEMPLATE_LAYERS_MAX];
    size_t n_layers;
    int tree, counters;
    int rescue; /* the layer of a rescue system, or -1 */
    const struct engine_how *how;
    struct container_repair repair;
    struct resource_cgroups cgroups;
    bool has_cgroups, has_network;
    struct container_birth *birth;
    const char **command;
    char **env;
    char *hosts, *hostname, *resolv;
    struct firstkeys keys;
    struct network_address addr;
    struct container_limits limits;
    struct ve *roomy; /* has room above its disk limits for as long as it needs it, or NULL */
};

#define PARTS_NONE                                                 \
    {                                                              \
        .tree = -1, .counters = -1, .rescue = -1, .cgroups.v2 = -1 \
    }

/* Its root is mounted, or will not be: what open_trees() gave above the limits goes. */
static void take_room(struct ve **roomy)
{
    struct ve *ve = *roomy;
    struct err e;
    *roomy = NULL;
    if (ve && ve_disk_limit(ve, &e) < 0)
        log_warn(ve->rec.name, 0, "%s", e.text);
}

static void parts_done(struct parts *p)
{
    for (size_t i = 0; i < p->n_layers; i++)
        cleanup_fd(&p->layers[i]);
    cleanup_fd(&p->tree);
    cleanup_fd(&p->rescue);
    cleanup_fd(&p->counters);
    if (p->has_cgroups)
        resource_cgroups_done(&p->cgroups);
    container_birth_free(p->birth);
    free(p->command);
    free_env(&p->env);
    ve_addresses_free(&p->addr);
    free(p->hosts);
    free(p->hostname);
    free(p->resolv);
    firstkeys_free(&p->keys);
    take_room(&p->roomy);
}

static int open_trees(struct ve *ve, struct parts *p, struct err *err)
{
    const json_t *layers = json_object_get(ve->spec, "layers");
    auto_free const char **digests = string_list(layers);
    if (!digests)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    size_t n = json_array_size(layers);
    if (template_open_layers(ve->node->templates, digests, n, p->layers, err) < 0)
        return err_wrap(err, "cannot open its template's layers");
    p->n_layers = n;
    if (ve_disk_room(ve, err) < 0)
        return err_wrap(err, "cannot set its disk limits");
    p->roomy = disk_is_bounded(ve) ? ve : NULL;
    return storage_open(ve_pool(ve), ve->rec.id, &p->tree, err);
}

/* The same VE with the rescue system in the place of its own, which nothing is taken from. */
static void plan_rescue(struct parts *p, struct container_plan *plan)
{
    static const char *const init[] = {"/sbin/init", NULL};
    p->repair = (struct container_repair){p->layers, p->n_layers, p->tree};
    plan->repair = &p->repair;
    plan->layers = &p->rescue;
    plan->n_layers = 1;
    plan->tree = plan->init_program = -1;
    plan->own_init = plan->new_privileges = true;
    plan->argv = init;
    plan->env = NULL;
    plan->workdir = plan->user = NULL;
}

/* Names, and who must not touch its address; the caller frees the texts with the parts. */
static int list_files(struct ve *ve, struct parts *p, struct container_plan *plan,
                      struct container_file files[FILES_MAX], struct err *err)
{
    auto_free char *servers = NULL;
    if (network_resolv_conf(ve->node->network, &servers, err) < 0)
        return -err->kind;
    p->hosts = hosts_text(ve, &p->addr);
    p->hostname = str_format("%s\n", ve->rec.name);
    p->resolv = str_format(ETC_MARK "%s", servers);
    if (!p->hosts || !p->hostname || !p->resolv)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    files[plan->n_files++] = (struct container_file){"/etc/hostname", p->hostname};
    files[plan->n_files++] = (struct container_file){"/etc/hosts", p->hosts, .merge = etc_hosts};
    files[plan->n_files++] =
        (struct container_file){"/etc/resolv.conf", p->resolv, .merge = etc_marked};
    for (size_t i = 0; i < ETC_FILES && plan->own_init && !p->how->argv; i++)
        files[plan->n_files++] = (struct container_file){etc_files[i].path, etc_files[i].text,
                                                         .merge = etc_files[i].merge};
    plan->files = files;
    if (!plan->own_init || p->how->argv || p->rescue >= 0 || ve_tree_is_filled(ve) ||
        !firstkeys_wanted(p->layers, p->n_layers, p->tree))
        return 0;
    char comment[NAME_SIZE + 8];
    str_print(comment, sizeof(comment), "root@%s", ve->rec.name);
    return firstkeys_make(&p->keys, comment, files, &plan->n_files, err);
}

/* Nobody answers its calls: it ends with the job. */
static void plan_script(const struct engine_how *how, struct container_plan *plan,
                        struct container_file files[FILES_MAX])
{
    plan->argv = how->argv;
    plan->own_init = plan->new_privileges = true;
    plan->init_program = -1;
    plan->listen = false;
    plan->hostname = "build";
    files[plan->n_files++] = (struct container_file){how->script_path, how->script, true};
    if (how->more)
        files[plan->n_files++] = (struct container_file){how->more_path, how->more, true};
}

static int fill_plan(struct ve *ve, struct parts *p, struct container_plan *plan,
                     struct container_file files[FILES_MAX], struct err *err)
{
    const json_t *spec = ve->spec;
    struct ve_node *node = ve->node;
    bool system = str_eq(json_string_value(json_object_get(spec, "kind")), "system");
    p->command = string_list(json_object_get(spec, "command"));
    p->env = env_list(json_object_get(spec, "env"));
    if (!p->command || !p->env)
        return err_set(err, ERR_EXHAUSTED, "out of memory");

    static const char *init_argv[2];
    init_argv[0] = json_string_value(json_object_get(spec, "init_path"));
    ve_limits_of(ve->params, &p->limits);
    ve_bpf_files(ve, &p->limits);
    *plan = (struct container_plan){
        .hostname = ve->rec.name,
        .id_base = ve_id_base(ve),
        .layers = p->layers,
        .n_layers = p->n_layers,
        .limits = &p->limits,
        .tree = p->tree,
        .cgroup = p->cgroups.v2,
        .n_cgroup_procs = p->cgroups.n_v1,
        .own_init = system,
        .init_program = system ? -1 : node->init_program,
        .argv = system ? init_argv : p->command,
        .env = (const char *const *)p->env,
        .workdir = json_string_value(json_object_get(spec, "workdir")),
        .user = json_string_value(json_object_get(spec, "user")),
        .nesting = json_is_true(json_object_get(spec, "nesting")),
        .new_privileges = system,
        .lxcfs = lxcfs_dir(node),
        .proc_fs = p->counters,
        .listen = answer_listens(node),
        .listen_disk = ve_disk_tells(ve),
    };
    for (size_t i = 0; i < p->cgroups.n_v1; i++)
        plan->cgroup_procs[i] = p->cgroups.v1_procs[i];
    if (list_files(ve, p, plan, files, err) < 0)
        return -err->kind;
    if (p->rescue >= 0)
        plan_rescue(p, plan);
    else if (p->how->argv)
        plan_script(p->how, plan, files);
    return 0;
}

/* There was no room in its pool: for its root, which says EROFS, or for the script of a build. */
static void explain_room(const struct ve *ve, struct err *err)
{
    if (err->kind != ERR_EXHAUSTED || (err->sys != EROFS && !ve_hidden(ve)))
        return;
    err->sys = err->sys == EROFS ? ENOSPC : err->sys;
    storage_full(ve_pool(ve), err);
}

/* Its cgroup is as old as this start: whom the kernel killed in there was its first process.  True:
 * *err says so, instead of how the end was noticed. */
static bool explain_memory(const struct ve *ve, struct err *err)
{
    struct resource_usage u;
    char limit[PARAM_TEXT];
    const struct param_row *row = param_find("memory.limit");
    struct param_value v = param_set_get(ve->params, row->key);
    if (resource_usage(ve->node->resources, ve->rec.id, RESOURCE_OOM_KILLS, &u, NULL) < 0 ||
        !u.oom_kills)
        return false;
    err_set(err, ERR_EXHAUSTED,
            "the kernel killed its first process for want of memory; %s%s%sstop or shrink others, "
            "or give the machine more",
            v.unlimited ? "" : "raise its memory.limit of ",
            v.unlimited ? "" : param_format(row, v, limit), v.unlimited ? "" : ", ");
    return true;
}

/* What stands in the way may be the VE's own files: its owner is told what opens them. */
static int explain_start(const struct ve *ve, const struct container_plan *plan, struct err *err)
{
    if (explain_memory(ve, err))
        return -err->kind;
    static const enum err_kind of_files[] = {ERR_NOT_FOUND, ERR_DENIED,  ERR_USAGE,
                                             ERR_STATE,     ERR_CORRUPT, ERR_SYSTEM};
    for (size_t i = 0; i < ARRAY_SIZE(of_files) && !plan->repair && !ve_hidden(ve); i++) {
        struct err why = *err;
        if (why.kind != (int)of_files[i])
            continue;
        err_set(err, why.kind, "%.400s; terem repair %s opens its files in a rescue system",
                why.text, ve->rec.name);
        err->sys = why.sys;
    }
    return -err->kind;
}

/* On a busy machine the root may be refused before this is over. */
static int begin_birth(const struct ve *ve, const struct container_plan *plan,
                       struct container_birth **ret, struct err *err)
{
    int r = container_birth_begin(plan, ret, err);
    if (r < 0 && explain_memory(ve, err))
        return -err->kind;
    return r < 0 && err->kind == ERR_STATE ? explain_start(ve, plan, err) : r;
}

/* The rescue system is Terem's own, and nobody has been in it yet. */
static int64_t files_root(const struct container_started *s, bool repair)
{
    char path[48];
    struct statx x;
    if (!repair)
        return (int64_t)s->pts.device[0];
    str_print(path, sizeof(path), "/proc/%d/root", (int)s->pid);
    auto_fd int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;
    if (root < 0 || path_open_in_root(root, "repair", O_PATH | O_DIRECTORY, 0, &fd, NULL) < 0 ||
        statx(fd, "", AT_EMPTY_PATH, 0, &x) < 0)
        return 0;
    return (int64_t)makedev(x.stx_dev_major, x.stx_dev_minor);
}

static int start_once(struct ve *ve, const struct engine_how *how, struct engine_started *ret,
                      struct err *err)
{
    struct ve_node *node = ve->node;
    struct parts p __attribute__((cleanup(parts_done))) = PARTS_NONE;
    struct network_limits limits;
    struct container_plan plan;
    struct container_file files[FILES_MAX];
    struct container_started started;
    int r;

    p.how = how;
    if (how->step(how->ctx, "opening its trees", err) < 0 || open_trees(ve, &p, err) < 0 ||
        (how->rescue &&
         template_open_layers(node->templates, &how->rescue, 1, &p.rescue, err) < 0) ||
        ve_addresses_of(ve, &p.addr, err) < 0 || how->step(how->ctx, "making its cgroups", err) < 0)
        return -err->kind;
    uid_t root = ve_id_base(ve);
    struct param_set params;
    ve_guarantee_params(ve, &params);
    ve_netlimit_of(node, &params, &limits);
    r = resource_create(node->resources, ve->rec.id, &params, root, root, &p.cgroups, err);
    if (r < 0)
        return r;
    p.has_cgroups = true;
    if ((r = ve_cores_start(ve, err)) < 0 || (r = inside_make(ve, &p.counters, err)) < 0 ||
        (r = ve_bpf_birth(ve, &params, false, err)) < 0 ||
        (r = fill_plan(ve, &p, &plan, files, err)) < 0 ||
        (r = how->step(how->ctx, "making its namespaces", err)) < 0 ||
        (r = begin_birth(ve, &plan, &p.birth, err)) < 0 ||
        (r = network_attach(node->network, ve->rec.id, container_birth_netns(p.birth), &p.addr,
                            &limits, err)) < 0 ||
        (r = ve_privates_plug(ve, container_birth_netns(p.birth), &params, err)) < 0 ||
        (r = how->step(how->ctx, "starting its first process", err)) < 0 ||
        (r = ve_bpf_birth(ve, &params, true, err)) < 0 ||
        (container_birth_finish(p.birth, &started, err) < 0 &&
         (r = explain_start(ve, &plan, err)) < 0)) {
        struct err ignored;
        explain_room(ve, err);
        container_birth_free(p.birth);
        p.birth = NULL;
        take_room(&p.roomy);
        resource_kill(node->resources, ve->rec.id, 5000, &ignored);
        network_detach(node->network, ve->rec.id, &ignored);
        network_limits_remove(node->network, ve->rec.id, &ignored);
        ve_privates_unplug(ve, &ignored);
        ve_bpf_forget(node, ve->rec.id);
        resource_remove(node->resources, ve->rec.id, &ignored);
        inside_remove(ve);
        return r;
    }
    take_room(&p.roomy);
    *ret = (struct engine_started){started.pidfd, started.console, started.listener, started.pid,
                                   files_root(&started, plan.repair != NULL)};
    memcpy(ret->pts, started.pts.device, sizeof(ret->pts));
    return 0;
}

/* ESTALE: see lxcfs_attach(). */
static int start(struct ve *ve, const struct engine_how *how, struct engine_started *ret,
                 struct err *err)
{
    int r = start_once(ve, how, ret, err);
    for (int again = 0; r < 0 && err->sys == ESTALE && again < START_AGAIN; again++) {
        err_clear(err);
        r = start_once(ve, how, ret, err);
    }
    return r;
}

static int with_files(struct ve *ve, int (*fn)(void *ctx, int pidfd, struct err *err), void *ctx,
                      struct err *err)
{
    static const char *const nothing[] = {"/", NULL}; /* never executed */
    struct parts p __attribute__((cleanup(parts_done))) = PARTS_NONE;
    int pidfd, r = open_trees(ve, &p, err);
    if (r < 0)
        return r;
    struct container_plan plan = {
        .hostname = ve->rec.name,
        .id_base = ve_id_base(ve),
        .layers = p.layers,
        .n_layers = p.n_layers,
        .tree = p.tree,
        .cgroup = -1,
        .own_init = true,
        .init_program = -1,
        .argv = nothing,
        .lxcfs = -1,
        .proc_fs = -1,
        .no_network = true,
    };
    if ((r = container_birth_begin(&plan, &p.birth, err)) == 0)
        r = container_birth_root(p.birth, &pidfd, err);
    take_room(&p.roomy);
    if (r < 0) {
        explain_room(ve, err);
        return err_wrap(err, "cannot open its root");
    }
    return fn(ctx, pidfd, err);
}

static int cgroups_of(struct ve *ve, struct container_exec *x, struct resource_cgroups *c,
                      struct err *err)
{
    if (resource_open(ve->node->resources, ve->rec.id, c, err) < 0)
        return -err->kind;
    x->cgroup = c->v2;
    x->n_cgroup_procs = c->n_v1;
    for (size_t i = 0; i < c->n_v1; i++)
        x->cgroup_procs[i] = c->v1_procs[i];
    return 0;
}

/* SysV and OpenRC have no signal that means power off: run their own command inside.  It is the
 * VE's own program: it gets a while, and nobody reads what it says. */
static int ask_inside(struct ve *ve, int timeout_ms, struct err *err)
{
    static const char *const argv[] = {"/sbin/poweroff", NULL};
    struct resource_cgroups c = {.v2 = -1};
    struct container_exec x = {
        .pidfd = ve->pidfd, .argv = argv, .own_init = true, .new_privileges = true};
    struct container_process p;
    if (cgroups_of(ve, &x, &c, err) < 0)
        return -err->kind;
    int r = container_exec(&x, &p, err);
    resource_cgroups_done(&c);
    if (r < 0)
        return r;
    cleanup_fd(&p.in);
    cleanup_fd(&p.out);
    cleanup_fd(&p.error);
    int patience = timeout_ms < POWEROFF_MS ? timeout_ms : POWEROFF_MS;
    if (fd_pidfd_wait_exit(p.pidfd, patience, NULL) < 0)
        fd_pidfd_kill(p.pidfd, SIGKILL, NULL);
    waitpid(p.pid, NULL, 0);
    cleanup_fd(&p.pidfd);
    return 0;
}

/* One that was started a moment ago may not listen yet. */
static int ask(struct ve *ve, bool anyway, struct err *err)
{
    int sig = shutdown_signal(ve);
    pid_t pid = (pid_t)json_integer_value(json_object_get(ve->run, "pid"));
    resource_freeze(ve->node->resources, ve->rec.id, false, 0, &(struct err){0});
    if (!sig)
        return err_set(err, ERR_UNSUPPORTED, "no signal means power off to its init");
    if (!anyway && !kernel_process_takes(pid, sig))
        return err_set(err, ERR_BUSY, "its init does not listen yet");
    return fd_pidfd_kill(ve->pidfd, sig, err);
}

static int kill_ve(struct ve *ve, bool no_wait, struct err *err)
{
    struct err e;
    int r = resource_kill(ve->node->resources, ve->rec.id, no_wait ? 0 : KILL_MS, &e);
    if (r < 0 && e.kind != ERR_NOT_FOUND) {
        *err = e;
        return r;
    }
    return ve->pidfd >= 0 && !no_wait ? fd_pidfd_wait_exit(ve->pidfd, KILL_MS, err) : 0;
}

static int freeze(struct ve *ve, bool frozen, struct err *err)
{
    return resource_freeze(ve->node->resources, ve->rec.id, frozen, 10000, err);
}

/*
 * The network namespace ends with its last process and takes the cable along, in a kernel thread
 * that holds the rtnl lock for tens of milliseconds (seen on 6.18: cleanup_net): asking for the
 * interface here would only wait for that.  network_attach() replaces one that is still there.
 */
static int clean(struct ve *ve, bool after_crash, struct err *err)
{
    if ((after_crash && (network_detach(ve->node->network, ve->rec.id, err) < 0 ||
                         ve_privates_unplug(ve, err) < 0)) ||
        network_limits_remove(ve->node->network, ve->rec.id, err) < 0)
        return -err->kind;
    inside_remove(ve);
    ve_bpf_forget(ve->node, ve->rec.id);
    struct ve *roomy = after_crash && disk_is_bounded(ve) ? ve : NULL;
    take_room(&roomy); /* of a start whose worker was killed */
    auto_clean(ve_addresses_free) struct network_address had = {0};
    if (ve_addresses_of(ve, &had, err) < 0 ||
        network_addresses_silence(ve->node->network, &had, err) < 0)
        return -err->kind;
    return resource_remove(ve->node->resources, ve->rec.id, err);
}

const struct engine_ops engine_container = {
    .name = "container",
    .start = start,
    .ask = ask,
    .ask_inside = ask_inside,
    .kill = kill_ve,
    .freeze = freeze,
    .with_files = with_files,
    .clean = clean,
};
