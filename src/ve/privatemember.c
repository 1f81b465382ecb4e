/* SPDX-License-Identifier: GPL-2.0-or-later */
/* VEs come into private networks and leave them. */
#include "base/name.h"
#include "kernel/namespace.h"
#include "ve/address.h"
#include "ve/jobs.h"
#include "ve/private.h"

#include <inttypes.h>

static const char *owner_of(const json_t *spec)
{
    const char *owner =
        json_string_value(json_object_get(json_object_get(spec, "labels"), "owner"));
    return owner ? owner : "";
}

static const char *owner_text(const char *owner)
{
    return *owner ? owner : "nobody";
}

/* ---- the interfaces of one ---- */

int ve_privates_plug(const struct ve *ve, int netns_fd, const struct param_set *params,
                     struct err *err)
{
    struct network_member list[NETWORK_PRIVATE_PORTS];
    size_t n = ve_privates_of(ve, params, list);
    struct network_node *net = ve->node->network;
    /* What it may send may have been changed while it was stopped. */
    int r = network_members_limit(net, list, n, true, err);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = network_member_plug(net, &list[i], netns_fd, err);
    return r;
}

int ve_privates_unplug(const struct ve *ve, struct err *err)
{
    struct network_member list[NETWORK_PRIVATE_PORTS];
    size_t n = ve_privates_of(ve, ve->params, list);
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = network_member_unplug(ve->node->network, &list[i], err);
    return r;
}

int ve_privates_limit(const struct ve *ve, const struct param_set *params, struct err *err)
{
    struct network_member list[NETWORK_PRIVATE_PORTS];
    return network_members_limit(ve->node->network, list, ve_privates_of(ve, params, list), false,
                                 err);
}

void ve_privates_forget(const struct ve *ve)
{
    struct network_member list[NETWORK_PRIVATE_PORTS];
    size_t n = ve_privates_of(ve, ve->params, list);
    struct err e = {0};
    for (size_t i = 0; i < n; i++)
        if (network_member_remove(ve->node->network, &list[i], i + 1 == n, &e) < 0)
            log_warn(ve->rec.name, 0, "%s", e.text);
}

/* ---- choosing ---- */

/* Who has a number, or NULL; ret_count: how many members there are. */
static const struct ve *holder(const struct ve_node *node, const struct ve_private *p,
                               uint32_t number, size_t *ret_count)
{
    const struct ve *found = NULL;
    *ret_count = 0;
    for (size_t i = 0; i < node->n_ves; i++) {
        const json_t *m = ve_private_membership(node->ves[i], p->name);
        if (m && ve_private_number(m) == number)
            found = node->ves[i];
        *ret_count += m != NULL;
    }
    return found;
}

/* The lowest that nobody has; 0: there is none, or no room for another member. */
static uint32_t next_number(const struct ve_node *node, const struct ve_private *p)
{
    bool taken[NETWORK_PRIVATE_SIZE + 2] = {0};
    uint32_t number = 1;
    size_t count = 0;
    for (size_t i = 0; i < node->n_ves; i++) {
        const json_t *m = ve_private_membership(node->ves[i], p->name);
        uint32_t has = ve_private_number(m);
        if (has > 0 && has <= NETWORK_PRIVATE_SIZE)
            taken[has] = true;
        count += m != NULL;
    }
    while (taken[number])
        number++;
    return count < NETWORK_PRIVATE_SIZE && number <= network_private_numbers(&p->net) ? number : 0;
}

static bool port_taken(const json_t *networks, unsigned port)
{
    const char *name;
    json_t *m;
    json_object_foreach((json_t *)networks, name, m)
    {
        if (ve_private_port(m) == port)
            return true;
    }
    return false;
}

static unsigned next_port(const json_t *networks)
{
    for (unsigned port = 1; port <= NETWORK_PRIVATE_PORTS; port++)
        if (!port_taken(networks, port))
            return port;
    return 0;
}

static int check_owner(const struct ve *ve, const json_t *spec, const struct ve_private *p,
                       struct err *err)
{
    const char *owner = owner_of(spec);
    if (str_eq(owner, p->owner))
        return 0;
    return err_set(err, ERR_STATE,
                   "%s is of owner %s and private network %s of %s; only VEs whose label owner is "
                   "that of the network can be in it",
                   ve->rec.name, owner_text(owner), p->name, owner_text(p->owner));
}

int ve_privates_check(const struct ve *ve, const json_t *spec, struct err *err)
{
    const char *name;
    json_t *m;
    json_object_foreach(json_object_get(ve->spec, "networks"), name, m)
    {
        const struct ve_private *p = ve_private_find(ve->node, name);
        if (p && check_owner(ve, spec, p, err) < 0)
            return err_set(err, ERR_STATE,
                           "its label owner cannot change while it is in private network %s; "
                           "terem network private leave takes it out",
                           name);
    }
    return 0;
}

static int choose_number(const struct ve *ve, const struct ve_private *p, const char *address,
                         uint32_t *ret, struct err *err)
{
    struct netlink_ip ip;
    size_t count;
    if (!address) {
        *ret = next_number(ve->node, p);
        return *ret ? 0
                    : err_set(err, ERR_EXHAUSTED,
                              "private network %s is full; make another, or take a VE out of it "
                              "with terem network private leave",
                              p->name);
    }
    if (network_ip_parse(address, &ip, err) < 0)
        return -err->kind;
    *ret = network_private_number(&p->net, &ip);
    const struct ve *who = *ret ? holder(ve->node, p, *ret, &count) : NULL;
    if (!*ret)
        return err_set(err, ERR_USAGE, "%s is not an address for a member of private network %s",
                       address, p->name);
    if (who)
        return err_set(err, ERR_EXISTS, "%s is %s's in private network %s; choose another", address,
                       who->rec.name, p->name);
    return count < NETWORK_PRIVATE_SIZE
               ? 0
               : err_set(err, ERR_EXHAUSTED,
                         "private network %s has %d members, as many as may be; make another",
                         p->name, NETWORK_PRIVATE_SIZE);
}

/* ---- joining and leaving ---- */

/* membership NULL: it leaves. */
static int record(struct ve *ve, const char *network, json_t *membership, struct err *err)
{
    struct ve_node *node = ve->node;
    json_t *old = json_incref((json_t *)ve->spec), *spec = json_deep_copy(old);
    json_t *networks = json_object_get(spec, "networks");
    ve_spec_put(ve, spec);
    if (!networks) {
        networks = json_object();
        json_object_set_new(spec, "networks", networks);
    }
    if (membership)
        json_object_set(networks, network, membership);
    else
        json_object_del(networks, network);
    int r = ve_begin(node, err);
    if (r == 0)
        r = ve_record_save(ve, err);
    if (r == 0)
        r = ve_commit(node, err);
    if (r < 0) {
        ve_rollback(node);
        ve_spec_put(ve, old);
        return r;
    }
    json_decref(old);
    return 0;
}

/* Of one that runs. */
static int plug(const struct ve *ve, const struct network_member *m, struct err *err)
{
    auto_fd int netns = -1;
    int r = namespace_open_net(ve->pidfd, &netns, err);
    return r < 0 ? r : network_member_plug(ve->node->network, m, netns, err);
}

static int enter(struct ve *ve, const struct ve_private *p, struct err *err)
{
    struct network_node *net = ve->node->network;
    struct network_member m = ve_private_member(ve, p, ve->params);
    int r = network_member_add(net, &m, err);
    if (r == 0 && ve_has_cable(ve))
        r = plug(ve, &m, err);
    return r;
}

/* The rules of one that is no member any more; m as it was. */
static int go(struct ve *ve, const struct network_member *m, struct err *err)
{
    bool last = json_object_size(json_object_get(ve->spec, "networks")) == 0;
    return network_member_remove(ve->node->network, m, last, err);
}

static void tell(struct ve *ve, const char *type, const char *network)
{
    ve_event_emit(ve->node, json_pack("{s:s, s:s, s:s}", "type", type, "network", network, "ve",
                                      ve->rec.name));
}

static int find_both(struct ve_node *node, const char *network, const char *name,
                     const struct ve_private **ret, struct ve **ret_ve, struct err *err)
{
    if (!ve_find(node, name) && ve_private_find(node, name) && ve_find(node, network))
        return err_set(err, ERR_USAGE, "%s is the network and %s the VE, which comes first", name,
                       network);
    if (ve_find_err(node, name, ret_ve, err) < 0 ||
        ve_private_find_err(node, network, ret, err) < 0)
        return -err->kind;
    return ve_refuse_busy(*ret_ve, err);
}

int ve_private_join(struct ve_node *node, const char *network, const json_t *request, json_t **ret,
                    struct err *err)
{
    const struct ve_private *p;
    struct ve *ve;
    const char *name = json_string_value(json_object_get(request, "ve")),
               *address = json_string_value(json_object_get(request, "address"));
    uint32_t number = 0;
    if (!name)
        return err_set(err, ERR_USAGE, "private network %s: the field \"ve\" is missing", network);
    if (find_both(node, network, name, &p, &ve, err) < 0)
        return -err->kind;
    if (ve_private_membership(ve, p->name))
        return err_set(err, ERR_EXISTS, "%s is in private network %s already", name, p->name);
    unsigned port = next_port(json_object_get(ve->spec, "networks"));
    if (!port)
        return err_set(err, ERR_EXHAUSTED,
                       "%s is in %d private networks, as many as may be; take it out of one", name,
                       NETWORK_PRIVATE_PORTS);
    if (check_owner(ve, ve->spec, p, err) < 0 || choose_number(ve, p, address, &number, err) < 0)
        return -err->kind;
    json_t *m = json_pack("{s:i, s:i}", "port", (int)port, "number", (int)number);
    int r = record(ve, p->name, m, err);
    json_decref(m);
    if (r < 0)
        return err_wrap(err, "%s: cannot join private network %s", name, p->name);
    if (enter(ve, p, err) < 0) {
        struct err e = {0};
        struct network_member was = ve_private_member(ve, p, ve->params);
        if (record(ve, p->name, NULL, &e) < 0 || go(ve, &was, &e) < 0)
            log_error(name, 0, "private network %s: cannot put back what was before: %s", p->name,
                      e.text);
        return err_wrap(err, "%s: cannot join private network %s", name, p->name);
    }
    tell(ve, "private-network.joined", p->name);
    struct network_member new = ve_private_member(ve, p, ve->params);
    *ret = ve_private_member_json(&new);
    json_object_set_new(*ret, "ve", json_string(name));
    json_object_set_new(*ret, "state", json_string(ve_state_text(ve)));
    return 0;
}

int ve_private_leave(struct ve_node *node, const char *network, const char *name, struct err *err)
{
    const struct ve_private *p;
    struct ve *ve;
    struct err e = {0};
    if (find_both(node, network, name, &p, &ve, err) < 0)
        return -err->kind;
    if (!ve_private_membership(ve, p->name))
        return err_set(
            err, ERR_STATE,
            "%s is not in private network %s; terem network private show %s tells who is", name,
            p->name, p->name);
    struct network_member was = ve_private_member(ve, p, ve->params);
    if (record(ve, p->name, NULL, err) < 0)
        return err_wrap(err, "%s: cannot leave private network %s", name, p->name);
    /* It is out: what the kernel did not take now goes with the next look at all. */
    if (go(ve, &was, &e) < 0) {
        log_warn(name, 0, "private network %s: %s", p->name, e.text);
        ve_privates_lay(node);
    }
    tell(ve, "private-network.left", p->name);
    return 0;
}

/* ---- copies ---- */

/* The interface and the address that it had, if nobody has that, else the next.  What is read may
 * be of a backup that somebody made.  NULL: it is in the network. */
static const char *take(struct ve *ve, json_t *mine, const char *name, const json_t *was)
{
    const struct ve_private *p = ve_private_find(ve->node, name);
    json_int_t port = json_integer_value(json_object_get(was, "port")),
               number = json_integer_value(json_object_get(was, "number"));
    size_t count;
    if (!p)
        return "there is none of this name here";
    if (!str_eq(owner_of(ve->spec), p->owner))
        return "it is another owner's";
    if (port < 1 || port > NETWORK_PRIVATE_PORTS || port_taken(mine, (unsigned)port))
        port = next_port(mine);
    if (number < 1 || number > network_private_numbers(&p->net) ||
        holder(ve->node, p, (uint32_t)number, &count) || count >= NETWORK_PRIVATE_SIZE)
        number = next_number(ve->node, p);
    if (!port || !number)
        return "it is full";
    json_object_set_new(mine, name, json_pack("{s:I, s:I}", "port", port, "number", number));
    return NULL;
}

void ve_privates_take(struct ve *ve, const json_t *from)
{
    json_t *mine = json_object(), *was;
    const char *name;
    json_object_foreach((json_t *)from, name, was)
    {
        const char *why = take(ve, mine, name, was);
        char text[256];
        if (!why)
            continue;
        str_print(text, sizeof(text), "it is not in private network %.63s: %s", name, why);
        log_warn(ve->rec.name, 0, "%s", text);
        json_array_append_new(ve->node->pending, json_pack("{s:s, s:s, s:s}", "type", "ve.warning",
                                                           "ve", ve->rec.name, "text", text));
    }
    json_t *spec = json_copy((json_t *)ve->spec);
    json_object_set_new(spec, "networks", mine);
    ve_spec_put(ve, spec);
}

void ve_privates_joined(const struct ve *ve)
{
    struct network_member list[NETWORK_PRIVATE_PORTS];
    size_t n = ve_privates_of(ve, ve->params, list);
    struct err e = {0};
    for (size_t i = 0; i < n; i++)
        if (network_member_add(ve->node->network, &list[i], &e) < 0)
            log_error(ve->rec.name, 0, "%s; restart teremd", e.text);
}

/* ---- after a crash ---- */

static void settle(struct ve *ve)
{
    struct network_member list[NETWORK_PRIVATE_PORTS];
    size_t n = ve_privates_of(ve, ve->params, list);
    struct err e = {0};
    for (size_t i = 0; i < n; i++) {
        bool plugged = false;
        if (network_member_plugged(ve->node->network, &list[i], &plugged, &e) < 0 ||
            (plugged ? network_member_fix(ve->node->network, &list[i], &e)
                     : plug(ve, &list[i], &e)) < 0)
            log_error(ve->rec.name, 0, "%s; restart it", e.text);
    }
}

void ve_privates_settle(struct ve_node *node)
{
    ve_privates_lay(node);
    for (size_t i = 0; i < node->n_ves; i++)
        if (ve_has_cable(node->ves[i]))
            settle(node->ves[i]);
}
