/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acl — POSIX ACLs from libarchive's entries to the kernel's attribute form.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct archive_entry;

/* The value of system.posix_acl_access or _default (linux/posix_acl_xattr.h), which the caller
 * frees; *ret_size 0 when the entry has none. */
int acl_from_entry(struct archive_entry *e, bool is_default, void **ret, size_t *ret_size,
                   struct err *err);
