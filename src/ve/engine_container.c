/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine for VEs that share the host's kernel: hands each room's part to the next. */
#include "base/fd.h"
#include "kernel/process.h"
#include "ve/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/wait.h>

#define HANDLER_POLL_MS 10
#define HANDLER_WAIT_MS 2000
#define POWEROFF_MS     5000

/* init's own signals to power off: systemd(1) SIGRTMIN+4, busybox init SIGUSR2. */
static int shutdown_signal(const struct ve *ve)
{
    const char *init = json_string_value(json_object_get(ve->spec, "init"));
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

static char *hosts_text(const struct ve *ve, const struct network_address *addr)
{
    char v4[INET_ADDRSTRLEN], v6[INET6_ADDRSTRLEN];
    auto_str struct str s = str_init(4096);
    str_add(&s, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
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
    struct resource_cgroups cgroups;
    bool has_cgroups, has_network;
    struct container_birth *birth;
    const char **command;
    char **env;
    char *hosts, *hostname, *resolv;
    struct container_limits limits;
};

static void parts_done(struct parts *p)
{
    for (size_t i = 0; i < p->n_layers; i++)
        cleanup_fd(&p->layers[i]);
    cleanup_fd(&p->tree);
    cleanup_fd(&p->counters);
    if (p->has_cgroups)
        resource_cgroups_done(&p->cgroups);
    container_birth_free(p->birth);
    free(p->command);
    free_env(&p->env);
    free(p->hosts);
    free(p->hostname);
    free(p->resolv);
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
    return storage_open(ve->node->pool, ve->rec.id, &p->tree, err);
}

static int fill_plan(struct ve *ve, struct parts *p, const struct network_address *addr,
                     struct container_plan *plan, struct container_file files[3], struct err *err)
{
    const json_t *spec = ve->spec;
    struct ve_node *node = ve->node;
    bool system = str_eq(json_string_value(json_object_get(spec, "kind")), "system");
    p->command = string_list(json_object_get(spec, "command"));
    p->env = env_list(json_object_get(spec, "env"));
    p->hosts = hosts_text(ve, addr);
    p->hostname = str_format("%s\n", ve->rec.name);
    if (!p->command || !p->env || !p->hosts || !p->hostname)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (network_resolv_conf(node->network, &p->resolv, err) < 0)
        return -err->kind;

    static const char *init_argv[2];
    init_argv[0] = json_string_value(json_object_get(spec, "init_path"));
    files[0] = (struct container_file){"/etc/hostname", p->hostname};
    files[1] = (struct container_file){"/etc/hosts", p->hosts};
    files[2] = (struct container_file){"/etc/resolv.conf", p->resolv};
    ve_limits_of(&ve->params, &p->limits);
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
        .files = files,
        .n_files = 3,
        .lxcfs = lxcfs_dir(node),
        .proc_fs = p->counters,
        .listen = answer_listens(node),
    };
    for (size_t i = 0; i < p->cgroups.n_v1; i++)
        plan->cgroup_procs[i] = p->cgroups.v1_procs[i];
    return 0;
}

static int start(struct ve *ve, int (*step)(void *, const char *, struct err *), void *ctx,
                 struct engine_started *ret, struct err *err)
{
    struct ve_node *node = ve->node;
    struct parts p
        __attribute__((cleanup(parts_done))) = {.tree = -1, .counters = -1, .cgroups.v2 = -1};
    struct network_address addr;
    struct network_limits limits;
    struct container_plan plan;
    struct container_file files[3];
    struct container_started started;
    int r;

    if (step(ctx, "opening its trees", err) < 0 || open_trees(ve, &p, err) < 0 ||
        network_address_of(node->network, ve->rec.slot, &addr, err) < 0 ||
        step(ctx, "making its cgroups", err) < 0)
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
        (r = fill_plan(ve, &p, &addr, &plan, files, err)) < 0 ||
        (r = step(ctx, "making its namespaces", err)) < 0 ||
        (r = container_birth_begin(&plan, &p.birth, err)) < 0 ||
        (r = network_attach(node->network, ve->rec.id, container_birth_netns(p.birth), &addr,
                            &limits, err)) < 0 ||
        (r = step(ctx, "starting its first process", err)) < 0 ||
        (r = ve_bpf_birth(ve, &params, true, err)) < 0 ||
        (r = container_birth_finish(p.birth, &started, err)) < 0) {
        struct err ignored;
        container_birth_free(p.birth);
        p.birth = NULL;
        resource_kill(node->resources, ve->rec.id, 5000, &ignored);
        network_detach(node->network, ve->rec.id, &ignored);
        ve_bpf_forget(node, ve->rec.id);
        resource_remove(node->resources, ve->rec.id, &ignored);
        inside_remove(ve);
        return r;
    }
    *ret = (struct engine_started){started.pidfd, started.console, started.listener, started.pid};
    return 0;
}

static int with_files(struct ve *ve, int (*fn)(void *ctx, int pidfd, struct err *err), void *ctx,
                      struct err *err)
{
    static const char *const nothing[] = {"/", NULL}; /* never executed */
    struct parts p
        __attribute__((cleanup(parts_done))) = {.tree = -1, .counters = -1, .cgroups.v2 = -1};
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
    if ((r = container_birth_begin(&plan, &p.birth, err)) < 0 ||
        (r = container_birth_root(p.birth, &pidfd, err)) < 0)
        return err_wrap(err, "cannot open its root");
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
static int run_poweroff(struct ve *ve, int *timeout_ms, struct err *err)
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
    int patience = *timeout_ms < POWEROFF_MS ? *timeout_ms : POWEROFF_MS;
    if (fd_pidfd_wait_exit(p.pidfd, patience, NULL) < 0) {
        *timeout_ms -= patience;
        fd_pidfd_kill(p.pidfd, SIGKILL, NULL);
    }
    waitpid(p.pid, NULL, 0);
    cleanup_fd(&p.pidfd);
    return 0;
}

/* A VE that was started a moment ago may not listen yet: waits a while, within the deadline. */
static void wait_for_handler(struct ve *ve, int sig, int *timeout_ms)
{
    pid_t pid = (pid_t)json_integer_value(json_object_get(ve->run, "pid"));
    for (int waited = 0; waited<HANDLER_WAIT_MS && * timeout_ms> 0; waited += HANDLER_POLL_MS) {
        if (kernel_process_takes(pid, sig) ||
            fd_pidfd_wait_exit(ve->pidfd, HANDLER_POLL_MS, NULL) != -ERR_TIMEOUT)
            return;
        *timeout_ms -= HANDLER_POLL_MS;
    }
}

static int shutdown_ve(struct ve *ve, int timeout_ms, struct err *err)
{
    int sig = shutdown_signal(ve);
    struct err ignored;
    if (sig)
        wait_for_handler(ve, sig, &timeout_ms);
    if (sig ? fd_pidfd_kill(ve->pidfd, sig, err) < 0 : run_poweroff(ve, &timeout_ms, err) < 0) {
        /* gone already is what was wanted */
        return fd_pidfd_wait_exit(ve->pidfd, 0, &ignored) == 0 ? 0 : -err->kind;
    }
    return fd_pidfd_wait_exit(ve->pidfd, timeout_ms < 0 ? 0 : timeout_ms, err);
}

static int kill_ve(struct ve *ve, struct err *err)
{
    struct err e;
    int r = resource_kill(ve->node->resources, ve->rec.id, 10000, &e);
    if (r < 0 && e.kind != ERR_NOT_FOUND) {
        *err = e;
        return r;
    }
    return ve->pidfd >= 0 ? fd_pidfd_wait_exit(ve->pidfd, 10000, err) : 0;
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
    if ((after_crash && network_detach(ve->node->network, ve->rec.id, err) < 0) ||
        network_limits_remove(ve->node->network, ve->rec.id, err) < 0)
        return -err->kind;
    inside_remove(ve);
    ve_bpf_forget(ve->node, ve->rec.id);
    return resource_remove(ve->node->resources, ve->rec.id, err);
}

const struct engine_ops engine_container = {
    .name = "container",
    .start = start,
    .shutdown = shutdown_ve,
    .kill = kill_ve,
    .freeze = freeze,
    .with_files = with_files,
    .clean = clean,
};
