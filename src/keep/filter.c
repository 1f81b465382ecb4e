/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listeners of VEs' system call filters.  teremd answers there; we hold them so that it finds them
 * again, and stand in for it (serving.h): a call that waits while teremd looks at no listener for
 * STAND_IN_MS, or is not connected, is carried out by the kernel as if there were no filter.
 *
 * A listener is watched for one event at a time (EPOLLONESHOT): while teremd is well, a VE that
 * asks without end wakes us once in STAND_IN_MS.
 */
#include "keep/server.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "kernel/seccomp.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define PASS_ON_MAX 32 /* of one listener in one round */

/* True: nobody else will answer. */
static bool ours(struct server *s)
{
    if (s->serving && s->stalled && atomic_load(&s->serving->turns) != s->turns)
        s->stalled = false;
    return !s->serving || s->stalled;
}

/* Woken by a call that waits; and, while teremd is to answer, by one that it has received
 * (EPOLLOUT), since it may be stopped with that in hand. */
static void arm(struct server *s, struct filter *f)
{
    f->waiting = false;
    server_watch(s, &f->source, EPOLLIN | EPOLLONESHOT | (ours(s) ? 0 : EPOLLOUT));
}

static void filter_close(struct server *s, struct filter *f)
{
    struct filter **p = &f->entry->filters;
    while (*p != f)
        p = &(*p)->next;
    *p = f->next;
    f->entry->n_filters--;
    server_unwatch(s, &f->source);
    cleanup_fd(&f->source.fd);
    server_bury(s, &f->thing);
}

void filter_close_all(struct server *s, struct entry *e)
{
    while (e->filters)
        filter_close(s, e->filters);
}

int filter_add(struct server *s, struct entry *e, int listener, struct err *err)
{
    auto_fd int fd = listener;
    if (!seccomp_is_listener(fd))
        return err_set(err, ERR_USAGE, "what was given as a listener is none");
    if (e->n_filters >= FILTERS_PER_VE)
        return err_set(err, ERR_EXHAUSTED, "the VE has %d listeners already", FILTERS_PER_VE);
    struct filter *f = calloc(1, sizeof(*f));
    if (!f)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    f->entry = e;
    f->serial = ++e->last_filter;
    f->source = (struct source){.kind = SOURCE_FILTER, .fd = steal_fd(&fd), .owner = &f->thing};
    struct filter **end = &e->filters;
    while (*end)
        end = &(*end)->next;
    *end = f;
    e->n_filters++;
    arm(s, f);
    return 0;
}

struct filter *filter_after(struct entry *e, uint32_t serial)
{
    struct filter *f = e->filters;
    while (f && f->serial <= serial)
        f = f->next;
    return f;
}

/* Is there a call that teremd has not received?  Of one that it was at nothing is to be seen. */
static bool any_pending(const struct server *s)
{
    for (size_t i = 0; i < s->n_entries; i++)
        for (const struct filter *f = s->entries[i]->filters; f; f = f->next)
            if (f->waiting && seccomp_pending(f->source.fd, NULL))
                return true;
    return false;
}

static void look_later(struct server *s)
{
    if (s->look_at)
        return;
    s->turns = s->serving ? atomic_load(&s->serving->turns) : 0;
    s->pending = any_pending(s);
    s->look_at = clock_ms() + STAND_IN_MS;
}

static void wait_for_teremd(struct server *s, struct filter *f)
{
    f->waiting = true;
    look_later(s);
}

void filter_event(struct server *s, struct filter *f)
{
    bool ended;
    if (!ours(s)) {
        if (!seccomp_pending(f->source.fd, &ended) && ended)
            filter_close(s, f);
        else
            wait_for_teremd(s, f);
    } else if (!serving_pass_on(s->serving, f->source.fd, PASS_ON_MAX, &ended)) {
        wait_for_teremd(s, f);
    } else if (ended) {
        filter_close(s, f);
    } else {
        arm(s, f);
    }
}

int filter_timeout(const struct server *s)
{
    int64_t left = s->look_at - clock_ms();
    return !s->look_at ? -1 : left > 0 ? (int)left : 0;
}

static void arm_those(struct server *s, bool waiting_only)
{
    s->look_at = 0;
    for (size_t i = 0; i < s->n_entries; i++)
        for (struct filter *f = s->entries[i]->filters; f; f = f->next)
            if (f->waiting || !waiting_only)
                arm(s, f);
}

static void pass_on(struct server *s, const struct serving_slot *slot)
{
    struct entry *e = slot->call.id ? entry_find(s, slot->ve) : NULL;
    for (struct filter *f = e ? e->filters : NULL; f; f = f->next)
        seccomp_pass_on(f->source.fd, slot->call.id); /* ids begin at random: only its own */
}

/* What teremd had received waits for an answer that will not come. */
static void pass_on_received(struct server *s)
{
    for (size_t i = 0; i < SERVING_SLOTS; i++)
        pass_on(s, &s->serving->slots[i]);
}

/* What teremd has received and not answered from one look to the next, the kernel carries out:
 * teremd may have been stopped in between.  The last one of a VE that has no other call to wait
 * for would hang without another look. */
static void look_at_received(struct server *s)
{
    for (size_t i = 0; i < SERVING_SLOTS; i++) {
        const struct serving_slot *slot = &s->serving->slots[i];
        uint64_t id = slot->call.id;
        if (id && id == s->received[i] && serving_take(s->serving, i) == id)
            pass_on(s, slot);
        else if (id)
            look_later(s);
        s->received[i] = id;
    }
}

void filter_look(struct server *s)
{
    if (!s->look_at || filter_timeout(s) > 0)
        return;
    /* One that has nothing to look at does not look: a call has waited all the while. */
    s->stalled =
        s->serving && s->pending && any_pending(s) && atomic_load(&s->serving->turns) == s->turns;
    arm_those(s, true); /* whose call was answered meanwhile stays silent */
    if (s->serving)
        look_at_received(s);
}

void filter_teremd_gone(struct server *s)
{
    if (!s->serving)
        return;
    pass_on_received(s);
    serving_unmap(s->serving);
    s->serving = NULL;
    s->server = NULL;
    s->stalled = false;
    arm_those(s, true);
}

int filter_serve(struct server *s, struct control *c, int page, struct err *err)
{
    auto_fd int fd = page;
    struct serving *serving = NULL;
    int r = serving_map(fd, &serving, err);
    if (r < 0)
        return r;
    filter_teremd_gone(s);
    s->serving = serving;
    s->server = c;
    arm_those(s, false); /* for more than before */
    return 0;
}
