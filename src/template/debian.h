/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * debian — a base system of Debian through mmdebstrap(1).
 *
 * mmdebstrap runs in PID and mount namespaces of its own, so that whatever ends it leaves neither
 * process nor mount; its temporary files are in the draft `tmp`, which vanishes with the job.
 */
#pragma once

#include "template/child.h"
#include "template/store.h"

struct debian {
    const char *base;  /* "debian-12" */
    const char *suite; /* "bookworm" */
    const char *title; /* "Debian 12" */
};

/* NULL: no such base. */
const struct debian *debian_find(const char *base);
/* Starts it; its output is the tar.  tmp: path of a directory for its temporary files. */
int debian_start(const struct debian *d, const char *include, const char *tmp, struct child *ret,
                 struct err *err);
/* child_explain(), with what apt says of packages as a sentence. */
int debian_explain(const struct debian *d, struct child *c, int r, struct err *err);
