/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * attr — which extended attributes of a foreign file enter a layer, and in what form.
 *
 * Kept: user.* (but never user.overlay.*, which would steer the overlay), security.capability
 * (as version 2, whose root is the layer's own), POSIX ACLs whose ids are below 65536.
 * Exact (a backup): user.overlay.* as well, as far as the overlay writes them itself with what
 * Terem mounts: opaque, impure and uuid of directories, origin, protattr.  Never redirect,
 * metacopy, whiteout, nlink, upper. Dropped: everything else (trusted.*, security.selinux, …).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ATTR_CAPABILITY_V2 20 /* bytes: struct vfs_cap_data with two words (linux/capability.h) */

/* Is it to be kept?  A capability is rewritten through *value and *size into buf. */
bool attr_keep(const char *name, bool exact, const void **value, size_t *size,
               unsigned char buf[ATTR_CAPABILITY_V2]);
/* May an exact tree have it?  What is not the overlay's may be anywhere. */
bool attr_exact(const char *name, const void *value, size_t size, bool dir);
