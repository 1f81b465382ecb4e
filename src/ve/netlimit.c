/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rows that the network room enforces: their values to it, its counts back, and its table
 * laid again when somebody has deleted it. */
#include "base/fd.h"
#include "base/number.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/net.h"
#include "ve/private.h"
#include "ve/publish.h"
#include "ve/rows.h"

#include <fcntl.h>

/* NETWORK_UNLIMITED and PARAM_NO_BOUND are the same number. */
static uint64_t limit_of(const struct param_set *set, const char *key)
{
    struct param_value v = param_set_get(set, key);
    return v.unlimited ? NETWORK_UNLIMITED : v.n;
}

uint64_t ve_netlimit_packets(const struct param_set *set)
{
    return limit_of(set, "net.packets");
}

/* A quarter of what the machine tracks for all, as far as nobody has said otherwise. */
static uint64_t default_connections(uint64_t wish)
{
    auto_free char *text = NULL;
    uint64_t max;
    if (fd_read_file_at(AT_FDCWD, "/proc/sys/net/netfilter/nf_conntrack_max", 64, &text, NULL,
                        NULL) < 0 ||
        number_parse(str_trim(text), 4, UINT32_MAX, &max, NULL) < 0)
        return wish;
    return wish < max / 4 ? wish : max / 4;
}

void ve_netlimit_of(struct ve_node *node, const struct param_set *set, struct network_limits *ret)
{
    const struct param_row *connections = param_find("connections"),
                           *rate = param_find("connections.rate");
    *ret = (struct network_limits){
        .connections = limit_of(set, "connections"),
        .rate = limit_of(set, "connections.rate"),
        .guarantee = param_value_first(rate, param_set_get(set, "connections.rate")),
        .packets = ve_netlimit_packets(set),
    };
    if (network_connections_lack(node->network))
        ret->connections = NETWORK_UNLIMITED; /* the default; another was refused */
    else if (!set->given[param_index(connections)])
        ret->connections = default_connections(ret->connections);
}

static bool is_limited(const struct param_set *set, const char *key)
{
    return set->given[param_index(param_find(key))] && !param_set_get(set, key).unlimited;
}

int ve_netlimit_check(struct ve_node *node, const struct param_set *set, struct err *err)
{
    const char *lack = network_connections_lack(node->network);
    if (lack && is_limited(set, "connections"))
        return err_set(err, ERR_UNSUPPORTED,
                       "connections cannot be limited: %s; set it to "
                       "unlimited",
                       lack);
    if (is_limited(set, "firewall.rules"))
        return err_set(err, ERR_UNSUPPORTED,
                       "firewall.rules cannot be limited: the kernel refuses no rule; they are "
                       "counted, and their memory is charged to memory.limit: set that");
    return 0;
}

int ve_netlimit_apply(struct ve *ve, const struct param_set *old_set,
                      const struct param_set *new_set, bool force, struct err *err)
{
    struct network_limits was, now;
    ve_netlimit_of(ve->node, new_set, &now);
    if (old_set) {
        ve_netlimit_of(ve->node, old_set, &was);
        if (was.connections == now.connections && was.rate == now.rate &&
            was.guarantee == now.guarantee && was.packets == now.packets)
            return 0;
    }
    if (network_limits_apply(ve->node->network, ve->rec.id, &now, err) < 0)
        return -err->kind;
    return ve_privates_limit(ve, new_set, err);
}

static struct param_counter *counter(struct param_counters *list, const char *key)
{
    return param_counters_of(list, param_find(key));
}

/* What cannot be read is not known: that is no reason to hide what else is counted. */
int ve_netlimit_counters(struct ve *ve, struct param_counters *list, struct err *err)
{
    struct network_node *net = ve->node->network;
    struct param_counter *connections = counter(list, "connections"),
                         *rate = counter(list, "connections.rate"),
                         *packets = counter(list, "net.packets"),
                         *rules = counter(list, "firewall.rules");
    struct network_refused no;
    if (network_refused(net, ve->rec.id, &no, &(struct err){0}) == 0) {
        connections->failcnt = (struct param_count){true, no.connections};
        rate->failcnt = (struct param_count){true, no.rate};
        packets->failcnt = (struct param_count){true, no.packets};
    }
    if (ve->node->only_failed)
        return 0;
    connections->held.known =
        network_held(net, ve->rec.slot, &connections->held.n, &(struct err){0}) == 0;
    rules->held.known =
        ve->pidfd >= 0 && network_rules(net, ve->pidfd, &rules->held.n, &(struct err){0}) == 0;
    return 0;
}

void ve_netlimit_settle(struct ve_node *node, uint64_t guaranteed)
{
    uint64_t capacity = node->config.capacity_connections;
    uint64_t left = capacity > guaranteed ? capacity - guaranteed : 1;
    struct err e = {0};
    if (capacity == 0)
        left = NETWORK_UNLIMITED;
    if (left == node->rate_free)
        return;
    if (network_rate_capacity(node->network, left, &e) == 0)
        node->rate_free = left;
    else
        log_warn(NULL, 0, "guarantees of connections.rate are not kept: %s", e.text);
}

/* ---- the table ---- */

static bool has_cable(const struct ve *ve)
{
    return ve_state_is_up(ve->state) || ve->state == VE_STARTING || ve->state == VE_STOPPING;
}

/* Its limits are written or taken away by a worker, which would be met at it, or has done it. */
static bool is_on_its_way(const struct ve *ve)
{
    return ve->state == VE_STARTING ||
           (ve->job && ve->job->pid && (ve->gone || ve->pidfd < 0 || ve->job->kind->ends));
}

static bool listed(const int64_t *ids, size_t n, int64_t id)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* Limits of VEs that are gone go; those of VEs that run and that the table lost are written. */
static void settle(struct ve_node *node)
{
    auto_free int64_t *ids = NULL;
    size_t n = 0;
    struct err e = {0};
    if (network_limits_list(node->network, &ids, &n, &e) < 0) {
        log_error(NULL, 0, "cannot tell which VEs have limits of their network: %s", e.text);
        return;
    }
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        ve->limits_lost = ve->state == VE_STARTING;
        if (has_cable(ve) && !is_on_its_way(ve) && !listed(ids, n, ve->rec.id) &&
            ve_netlimit_apply(ve, NULL, ve->params, true, &e) < 0)
            log_error(ve->rec.name, 0, "its network has no limits: %s", e.text);
    }
    for (size_t i = 0; i < n; i++) {
        const struct ve *ve = ve_by_id(node, ids[i]);
        if ((!ve || !has_cable(ve)) && network_limits_remove(node->network, ids[i], &e) < 0)
            log_error(NULL, 0, "%s", e.text);
    }
}

void ve_netlimit_recover(struct ve_node *node)
{
    network_connections_lack(node->network); /* looked once, not in each worker */
    settle(node);
}

void ve_netlimit_started(struct ve *ve)
{
    struct err e = {0};
    if (ve->limits_lost && ve_netlimit_apply(ve, NULL, ve->params, true, &e) < 0)
        log_error(ve->rec.name, 0, "its network has no limits: %s", e.text);
    ve->limits_lost = false;
}

static void on_rules(uv_poll_t *poll, int status, int events)
{
    struct ve_node *node = poll->data;
    struct err e = {0};
    bool gone = false;
    if (network_watch_read(node->network, &gone, &e) < 0 && e.kind)
        log_error(NULL, 0, "%s", e.text);
    if (!gone || node->closing || node->stopping)
        return;
    log_warn(NULL, 0, "somebody deleted the node's packet rules: they are laid again");
    if (network_node_setup(node->network, &e) < 0) {
        log_error(NULL, 0, "VEs are without packet rules: %s; restart teremd", e.text);
        return;
    }
    settle(node);
    ve_publish_lay(node);
    ve_privates_lay(node);
    node->rate_free = 0;
    ve_guarantee_settle(node);
}

/* ---- refusals ---- */

static const char *const row_keys[NETWORK_ROWS] = {[NETWORK_PACKETS] = "net.packets",
                                                   [NETWORK_RATE] = "connections.rate",
                                                   [NETWORK_CONNECTIONS] = "connections"};

static bool refused_now(const struct ve *ve, uint64_t ret[NETWORK_ROWS])
{
    struct network_refused now;
    if (network_refused(ve->node->network, ve->rec.id, &now, &(struct err){0}) < 0)
        return false;
    ret[NETWORK_PACKETS] = now.packets;
    ret[NETWORK_RATE] = now.rate;
    ret[NETWORK_CONNECTIONS] = now.connections;
    return true;
}

/* How often a row has refused since it was told last.  Counters begin anew with a start. */
static uint64_t untold(struct ve *ve, enum network_row row)
{
    uint64_t counts[NETWORK_ROWS];
    if (!refused_now(ve, counts))
        return 1;
    uint64_t before = ve->net_told[row] <= counts[row] ? ve->net_told[row] : 0;
    ve->net_told[row] = counts[row];
    return counts[row] > before ? counts[row] - before : 1;
}

static int on_refusal(void *ctx, int64_t id, enum network_row row, bool outward, struct err *err)
{
    struct ve *ve = ve_by_id(ctx, id);
    if (!ve || !has_cable(ve))
        return 0;
    static const char *const texts[NETWORK_ROWS][2] = {
        [NETWORK_PACKETS] = {"packets to it were dropped", "packets that it sent were dropped"},
        [NETWORK_RATE] = {"new connections to it were dropped",
                          "new connections that it opened were dropped"},
        [NETWORK_CONNECTIONS] = {"connections to it were dropped",
                                 "connections that it opened were dropped"}};
    ve_refused(ve, param_find(row_keys[row]), untold(ve, row), 0, NULL, texts[row][outward]);
    return 0;
}

static void on_refusals(uv_poll_t *poll, int status, int events)
{
    struct ve_node *node = poll->data;
    struct err e = {0};
    if (network_refusals_read(node->network, on_refusal, node, &e) < 0)
        log_error(NULL, 0, "%s", e.text);
}

/* What was refused while nobody listened is counted, and not told again.  The counters of all are
 * one question: three for each row of each VE were a tenth of a start with a thousand. */
static void forget_old_refusals(struct ve_node *node)
{
    network_held_keep(node->network, true);
    for (size_t i = 0; i < node->n_ves; i++)
        if (has_cable(node->ves[i]))
            refused_now(node->ves[i], node->ves[i]->net_told);
    network_held_keep(node->network, false);
}

static uv_poll_t *poll_of(struct ve_node *node, int fd, uv_poll_cb fn)
{
    uv_poll_t *poll = calloc(1, sizeof(*poll));
    if (!poll || uv_poll_init(node->loop, poll, fd) < 0) {
        free(poll);
        return NULL;
    }
    poll->data = node;
    uv_poll_start(poll, UV_READABLE, fn);
    return poll;
}

void ve_netlimit_begin(struct ve_node *node)
{
    struct err e = {0};
    int fd;
    forget_old_refusals(node);
    if (network_watch_fd(node->network, &fd, &e) == 0)
        node->rules_poll = poll_of(node, fd, on_rules);
    else
        log_warn(NULL, 0, "packet rules that somebody deletes stay away until teremd starts: %s",
                 e.text);
    if (network_refusals_fd(node->network, &fd, &e) == 0)
        node->refusals_poll = poll_of(node, fd, on_refusals);
    else
        log_warn(NULL, 0, "refused packets are counted, but no event tells of them: %s", e.text);
}

void ve_netlimit_end(struct ve_node *node)
{
    ve_handle_close(&node->rules_poll);
    ve_handle_close(&node->refusals_poll);
}
