/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel/seccomp — the system calls that a VE may not make.
 *
 * The filters are compiled by libseccomp when Terem is built (seccomp_gen.c holds the list with
 * the reason of each entry), so that loading one costs a VE nothing but the system call, and no
 * program of Terem carries the compiler.
 */
#pragma once

#include "base/err.h"

enum seccomp_policy {
    SECCOMP_APPLICATION, /* one service: no namespaces, no mounts either */
    SECCOMP_SYSTEM,      /* a whole system: its service manager mounts and unshares */
    SECCOMP_NESTING,     /* also containers of its own */
    SECCOMP__COUNT
};

/* For the calling thread and all that it becomes.  Needs CAP_SYS_ADMIN in the user namespace, or
 * no_new_privs. */
int seccomp_load_policy(enum seccomp_policy policy, struct err *err);
