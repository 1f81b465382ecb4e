/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sleep — VEs that are frozen while nobody uses them, and woken by whoever does (idle.sleep).
 *
 * A VE that sleeps is VE_SLEEPING: frozen, its memory in swap as far as there is some, and its
 * network left as it was, so that the kernel goes on taking connections and data for it.  Whoever
 * needs it running calls ve_wake() first; jobs do that when they begin, but for kinds that leave it
 * asleep (.asleep).  Inside ve only.
 */
#pragma once

#include "ve/internal.h"

/* A back end of apply.c: can this node see who is used? */
int ve_sleep_check(struct ve_node *node, const struct param_set *set, struct err *err);
/* After recovery: packets are heard; who was called meanwhile is woken, and the rest sleeps on. */
void ve_sleep_begin(struct ve_node *node);
void ve_sleep_end(struct ve_node *node);
/* After every commit that changed its parameters; and the same of all. */
void ve_sleep_changed(struct ve *ve);
void ve_sleep_settle(struct ve_node *node);
/* By ve_move(): it has another state now. */
void ve_sleep_moved(struct ve *ve, enum ve_state from);
/* If it sleeps it runs when this returns; where that cannot be done it sleeps on, and is woken when
 * it can.  by: who wants it, for the event: "packet", "exec"; a constant. */
void ve_wake(struct ve *ve, const char *by);
bool ve_sleep_child_ended(struct ve_node *node, pid_t pid);
void ve_sleep_doctor(const struct ve_node *node, ve_check_fn check, json_t *list);
