/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crowd — how many clients there may be, and what each may hold.
 *
 * Up to `limit` connections are served.  Of them at most three quarters may wait (event streams,
 * jobs' ends, commands, files): a quarter is always for short requests.  When more than half is in
 * use, who sends or takes nothing is let go sooner.  Beyond the limit there is room for EXTRA
 * connections that only hear why they are refused; beyond that a connection is closed at once.
 * Nobody is left waiting in the listening socket's queue.
 */
#include "api/request.h"

#include "base/cleanup.h"

#include <sys/resource.h>

#define LIMIT_MIN 32u
#define LIMIT_MAX 4096u
#define EXTRA     64u
/* What is needed besides: the registry, VEs' descriptors, workers. */
#define FDS_SPARED   256u
#define FDS_EACH     2u /* the socket, and the file that is sent or received */
#define IDLE_CROWDED 5u

struct conn {
    struct conn *next, **at; /* in api->conns */
    struct MHD_Connection *mhd;
    unsigned idle; /* seconds */
    bool extra;
};

void crowd_init(struct api *api)
{
    struct rlimit files;
    uint64_t n = LIMIT_MAX;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY)
        n = files.rlim_cur > FDS_SPARED ? (files.rlim_cur - FDS_SPARED) / FDS_EACH : 0;
    api->limit = n < LIMIT_MIN ? LIMIT_MIN : n > LIMIT_MAX ? LIMIT_MAX : (unsigned)n;
}

unsigned crowd_max(const struct api *api)
{
    return api->limit + EXTRA + 1; /* never reached: see crowd_accept() */
}

enum MHD_Result crowd_accept(void *api_, const struct sockaddr *addr, socklen_t len)
{
    const struct api *api = api_;
    return api->n_conns < api->limit + EXTRA ? MHD_YES : MHD_NO;
}

static void set_idle(struct conn *c, unsigned seconds)
{
    if (c->idle == seconds)
        return;
    c->idle = seconds;
    MHD_set_connection_option(c->mhd, MHD_CONNECTION_OPTION_TIMEOUT, seconds);
}

static void begin(struct api *api, struct MHD_Connection *mhd, void **ret)
{
    struct conn *c = malloc(sizeof(*c));
    api->n_conns++;
    *ret = c;
    if (!c)
        return;
    *c = (struct conn){.mhd = mhd,
                       .idle = IDLE_SECONDS,
                       .next = api->conns,
                       .at = &api->conns,
                       .extra = api->n_conns > api->limit};
    if (c->next)
        c->next->at = &c->next;
    api->conns = c;
    if (api->crowded)
        set_idle(c, IDLE_CROWDED);
    if (api->crowded || api->n_conns <= api->limit / 2)
        return;
    /* Those that wait for their answer are suspended, and have no deadline. */
    api->crowded = true;
    for (c = api->conns; c; c = c->next)
        set_idle(c, IDLE_CROWDED);
}

static void end(struct api *api, struct conn *c)
{
    api->n_conns--;
    if (api->n_conns < api->limit / 3)
        api->crowded = false;
    if (!c)
        return;
    *c->at = c->next;
    if (c->next)
        c->next->at = c->at;
    free(c);
}

void crowd_on_connection(void *api, struct MHD_Connection *mhd, void **ctx,
                         enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        begin(api, mhd, ctx);
    else
        end(api, *ctx);
}

bool crowd_enter(struct api *api, struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct conn *c = info ? info->socket_context : NULL;
    if (!c)
        return false;
    /* Back to the usual only here: libmicrohttpd's list is sorted by the last activity. */
    set_idle(c, api->crowded ? IDLE_CROWDED : IDLE_SECONDS);
    return !c->extra;
}

int crowd_claim(struct request *r, struct err *err)
{
    struct api *api = r->api;
    unsigned most = api->limit / 4 * 3;
    if (api->n_waiting >= most)
        return err_set(err, ERR_UNAVAILABLE,
                       "%u clients wait already for events, jobs, commands or files; try again, or "
                       "ask without wait=true",
                       most);
    api->n_waiting++;
    r->waits = true;
    return 0;
}

void crowd_release(struct request *r)
{
    if (r->waits)
        r->api->n_waiting--;
    r->waits = false;
}
