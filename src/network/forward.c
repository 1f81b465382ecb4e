/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Forwarding on and off, and the memory of what was before, in STATE/network.json.
 *
 * Writing net.ipv4.ip_forward or net.ipv6.conf.all.forwarding also changes every interface's own
 * `forwarding` and conf.all.accept_redirects (devinet.c, addrconf.c of Linux): those are remembered
 * too.  An interface that learns its routes from router advertisements stops doing so once it
 * forwards, unless its accept_ra is 2: the host would lose its own default route.
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "network/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MEMORY_MAX (1 << 20)
#define VALUE_MAX  16
#define SYSCTL_DIR "/proc/sys/net/"
static const char memory_name[] = "network.json";

/* The memory is {"sysctls": [{"path": "ipv4/ip_forward", "was": "0", "set": "1"}, …]} in the order
 * in which they are put back.  "set" equal to "was" means: changed only as a consequence. */
static int memory_load(int dir, json_t **ret_list, struct err *err)
{
    auto_free char *text = NULL;
    size_t len;
    struct err why = {0};
    int r = fd_read_file_at(dir, memory_name, MEMORY_MAX, &text, &len, &why);
    if (r == -ERR_NOT_FOUND) {
        *ret_list = json_array();
        return *ret_list ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    if (r < 0) {
        if (err)
            *err = why;
        return r;
    }
    json_error_t where;
    auto_json json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    json_t *list = json_object_get(root, "sysctls");
    if (!json_is_array(list))
        return err_set(err, ERR_CORRUPT, "%s, line %d: %s; remove it to go on", memory_name,
                       root ? 1 : where.line, root ? "no list of sysctls" : where.text);
    *ret_list = json_incref(list);
    return 0;
}

static int memory_store(int dir, json_t *list, struct err *err)
{
    auto_json json_t *root = json_pack("{s:O}", "sysctls", list);
    auto_free char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    if (!text)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    return fd_replace_file_at(dir, memory_name, text, strlen(text), 0600, err);
}

/* One sysctl's value; path is below /proc/sys/net, whose namespace is the calling thread's. */
static int sysctl_get(const char *path, char ret[VALUE_MAX])
{
    char full[PATH_MAX];
    auto_free char *text = NULL;
    if (str_print(full, sizeof(full), SYSCTL_DIR "%s", path) < 0 ||
        fd_read_file_at(AT_FDCWD, full, 4096, &text, NULL, NULL) < 0 ||
        str_print(ret, VALUE_MAX, "%s", str_trim(text)) < 0)
        return -1;
    return 0;
}

static int sysctl_set(const char *path, const char *value, struct err *err)
{
    char full[PATH_MAX], now[VALUE_MAX];
    if (sysctl_get(path, now) == 0 && str_eq(now, value))
        return 0;
    if (str_print(full, sizeof(full), SYSCTL_DIR "%s", path) < 0)
        return err_set(err, ERR_INTERNAL, "a sysctl's name is too long");
    return fd_write_value_at(AT_FDCWD, full, err, "%s", value);
}

static const char *member(const json_t *row, const char *key)
{
    const char *s = json_string_value(json_object_get(row, key));
    return s ? s : "";
}

/* A path that the memory has already keeps its first "was": a setup repeated changes nothing. */
static int remember(json_t *list, const char *path, const char *set, struct err *err)
{
    char was[VALUE_MAX];
    size_t i;
    json_t *row;
    json_array_foreach(list, i, row)
    {
        if (str_eq(member(row, "path"), path))
            return 0;
    }
    if (sysctl_get(path, was) < 0)
        return 0; /* of an interface that is going, or a kernel without IPv6 */
    json_t *one = json_pack("{s:s, s:s, s:s}", "path", path, "was", was, "set", set);
    if (!one || json_array_append_new(list, one) < 0)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    return 0;
}

static bool has_value(const char *path, const char *value)
{
    char now[VALUE_MAX];
    return sysctl_get(path, now) == 0 && str_eq(now, value);
}

/* Remembers what turning a family's forwarding on and off would lose of each interface. */
static int remember_interfaces(struct network_node *n, json_t *list, const char *family,
                               struct err *err)
{
    char path[PATH_MAX];
    bool v6 = str_eq(family, "ipv6");
    str_print(path, sizeof(path), SYSCTL_DIR "%s/conf", family);
    auto_dir DIR *d = opendir(path);
    int r = 0;
    for (struct dirent *e; d && r == 0 && (e = readdir(d));) {
        int64_t id;
        if (e->d_name[0] == '.' || str_eq(e->d_name, "all") || str_eq(e->d_name, n->name) ||
            network_end_id(n, e->d_name, &id) || network_private_link(n, e->d_name))
            continue;
        str_print(path, sizeof(path), "%s/conf/%s/forwarding", family, e->d_name);
        if (has_value(path, "1"))
            r = remember(list, path, "1", err);
        else if (v6 && !str_eq(e->d_name, "default") && !str_eq(e->d_name, "lo")) {
            str_print(path, sizeof(path), "ipv6/conf/%s/accept_ra", e->d_name);
            if (r == 0 && has_value(path, "1"))
                r = remember(list, path, "2", err);
        }
    }
    return r;
}

static int plan_family(struct network_node *n, json_t *list, const char *family, const char *master,
                       struct err *err)
{
    if (has_value(master, "1"))
        return 0;
    int r = remember(list, master, "1", err);
    if (r == 0 && str_eq(family, "ipv4")) {
        char now[VALUE_MAX];
        if (sysctl_get("ipv4/conf/all/accept_redirects", now) == 0)
            r = remember(list, "ipv4/conf/all/accept_redirects", now, err);
    }
    return r < 0 ? r : remember_interfaces(n, list, family, err);
}

static int plan_value(json_t *list, const char *path, const char *value, struct err *err)
{
    return has_value(path, value) ? 0 : remember(list, path, value, err);
}

/*
 * What asks for an address in the uplink's network by ND is answered for VEs only with proxy_ndp.
 * By default an answer for somebody else waits for up to 0.8 s, so that the owner may be faster;
 * but all that wait are thrown away whenever any interface of the machine goes down, as those of
 * VEs do at their ends (neigh_ifdown() of Linux 6.18): where some end every second, none may ever
 * be sent.  There is no other owner.
 */
static int plan_answers(struct network_node *n, json_t *list, struct err *err)
{
    char path[64], link[IFNAMSIZ];
    int r = 0;
    for (size_t i = 0; r == 0 && i < n->n_ranges; i++) {
        const struct network_range *range = &n->ranges[i];
        bool six = range->base.family == AF_INET6;
        if (!range->link || !if_indextoname((unsigned)range->link, link))
            continue;
        str_print(path, sizeof(path), "ipv%d/neigh/%s/proxy_delay", six ? 6 : 4, link);
        r = plan_value(list, path, "0", err);
        str_print(path, sizeof(path), "ipv6/conf/%s/proxy_ndp", link);
        if (r == 0 && six)
            r = plan_value(list, path, "1", err);
    }
    return r;
}

static const char *const switches[] = {"ipv4/ip_forward", "ipv6/conf/all/forwarding"};

static bool is_master(const char *path)
{
    return str_eq(path, switches[0]) || str_eq(path, switches[1]);
}

bool network_forwards(bool six)
{
    return !has_value(switches[six], "0");
}

/* accept_ra before forwarding: no advertisement falls between. */
static int apply(json_t *list, bool masters, struct err *err)
{
    size_t i;
    json_t *row;
    json_array_foreach(list, i, row)
    {
        const char *path = member(row, "path"), *set = member(row, "set");
        char now[VALUE_MAX];
        if (is_master(path) != masters || str_eq(set, member(row, "was")) ||
            sysctl_get(path, now) < 0)
            continue;
        int r = sysctl_set(path, set, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int open_state(struct network_node *n, int *ret_fd, struct err *err)
{
    int fd = open(n->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open %s", n->state);
    *ret_fd = fd;
    return 0;
}

int network_forward_on(struct network_node *n, struct err *err)
{
    auto_fd int dir = -1;
    auto_json json_t *list = NULL;
    int r = open_state(n, &dir, err);
    if (r == 0)
        r = memory_load(dir, &list, err);
    if (r < 0)
        return r;
    size_t before = json_array_size(list);
    if (n->pool4.base.family)
        r = plan_family(n, list, "ipv4", switches[0], err);
    if (r == 0 && n->pool6.base.family)
        r = plan_family(n, list, "ipv6", switches[1], err);
    if (r == 0)
        r = plan_answers(n, list, err);
    /* The memory is on disk before anything changes. */
    if (r == 0 && json_array_size(list) != before)
        r = memory_store(dir, list, err);
    if (r == 0)
        r = apply(list, false, err);
    if (r == 0)
        r = apply(list, true, err);
    return r < 0 ? err_wrap(err, "cannot turn on forwarding") : 0;
}

int network_forward_off(struct network_node *n, bool others_need_it, struct err *err)
{
    auto_fd int dir = -1;
    auto_json json_t *list = NULL;
    size_t i;
    json_t *row;
    int r = open_state(n, &dir, err);
    if (r == 0)
        r = memory_load(dir, &list, err);
    if (r < 0)
        return r;
    /* In the order of the list a master comes before what it changes.  What somebody has set to
     * a third value meanwhile is theirs. */
    json_array_foreach(list, i, row)
    {
        const char *path = member(row, "path"), *was = member(row, "was"),
                   *set = member(row, "set");
        char now[VALUE_MAX];
        if (others_need_it || sysctl_get(path, now) < 0 || str_eq(now, was) ||
            (!str_eq(now, set) && !str_eq(set, was)))
            continue;
        r = sysctl_set(path, was, err);
        if (r < 0)
            return err_wrap(err, "cannot put back what was before");
    }
    if (unlinkat(dir, memory_name, 0) < 0 && errno != ENOENT)
        return err_sys(err, "cannot remove %s", memory_name);
    return 0;
}
