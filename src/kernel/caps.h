/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel/caps — which capabilities a VE keeps, and why.
 *
 * All are powers within the VE's own user namespace only: over its ids, its files, its network
 * namespace.  What asks for a power over the machine is refused by the kernel whatever is kept;
 * the rest is dropped so that a bug in the kernel's checks has less to offer.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>

enum caps_profile {
    CAPS_APPLICATION, /* one service: what the usual OCI engines leave */
    CAPS_SYSTEM,      /* a whole system that mounts and sets up its network itself */
};

/* Drops the rest from the bounding set, empties the ambient set.  Needs CAP_SETPCAP. */
int caps_bound(enum caps_profile profile, struct err *err);
/* What is left after caps_bound() becomes permitted and effective; inheritable is emptied. */
int caps_apply(enum caps_profile profile, struct err *err);
/* Drops every capability, now and over exec. */
int caps_drop_all(struct err *err);
/* Does the caller have it, in its own user namespace? */
bool caps_effective(int cap);
bool caps_kept(enum caps_profile profile, int cap);
