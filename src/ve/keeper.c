/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When terem-keep ends (nobody but an operator or the kernel's want of memory ends it), another one
 * is started at once and given what teremd has of every VE that runs: the process and the
 * listeners for sysinfo(2).  Consoles are lost until the VE's next start: their descriptors were
 * terem-keep's alone.
 */
#include "ve/beside.h"
#include "ve/internal.h"

#define AGAIN_MS   10000 /* when one ends soon after it began */
#define AT_ONCE_MS 10

static void on_timer(uv_timer_t *timer);

static void wait_and_start(struct ve_node *node)
{
    int64_t now = ve_now_ms();
    bool soon = now - node->keep_started < AGAIN_MS && now >= node->keep_started;
    if (node->closing || node->keep_timer || !(node->keep_timer = calloc(1, sizeof(uv_timer_t))))
        return;
    uv_timer_init(node->loop, node->keep_timer);
    node->keep_timer->data = node;
    uv_timer_start(node->keep_timer, on_timer, soon ? AGAIN_MS : AT_ONCE_MS, 0);
}

static void on_end(uv_poll_t *poll, int status, int events)
{
    struct ve_node *node = poll->data;
    ve_handle_close(&node->keep_poll);
    if (node->stopping)
        return; /* it was asked to */
    log_warn(NULL, 0, "terem-keep has ended; another one is started");
    wait_and_start(node);
}

static void give(struct ve *ve)
{
    struct err e = {0};
    if (ve->pidfd < 0 || ve->gone)
        return;
    if (keep_put(ve->node->keep, ve->rec.id, ve->pidfd, -1, ve->node->logs_fd, &e) < 0)
        log_warn(ve->rec.name, 0, "its process is not kept: %s", e.text);
    else
        answer_keep_again(ve);
}

static void on_timer(uv_timer_t *timer)
{
    struct ve_node *node = timer->data;
    struct keep *fresh = NULL;
    struct err e = {0};
    ve_handle_close(&node->keep_timer);
    node->keep_started = ve_now_ms();
    if (keep_connect(node->config.place.keep, node->keep_program, true, &fresh, &e) < 0) {
        log_error(NULL, 0, "cannot start terem-keep again: %s", e.text);
        wait_and_start(node);
        return;
    }
    keep_close(node->keep);
    node->keep = fresh;
    for (size_t i = 0; i < node->n_ves; i++)
        give(node->ves[i]);
    if (answer_serve(node, &e) < 0)
        log_warn(NULL, 0, "sysinfo(2) inside VEs tells about the machine: %s", e.text);
    keeper_watch(node);
    log_warn(NULL, 0,
             "terem-keep was started again; VEs that run have no console until their "
             "next start");
}

void keeper_watch(struct ve_node *node)
{
    node->keep_poll = calloc(1, sizeof(*node->keep_poll));
    if (!node->keep_poll)
        return;
    node->keep_poll->data = node;
    uv_poll_init(node->loop, node->keep_poll, keep_fd(node->keep));
    uv_poll_start(node->keep_poll, UV_DISCONNECT, on_end);
}

void keeper_unwatch(struct ve_node *node)
{
    ve_handle_close(&node->keep_poll);
    ve_handle_close(&node->keep_timer);
}
