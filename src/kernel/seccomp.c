/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/seccomp.h"

#include "base/cleanup.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/seccomp_tables.h" /* made by seccomp_gen.c: seccomp_application, … */

int seccomp_load_policy(enum seccomp_policy policy, struct err *err)
{
    static const struct {
        const struct sock_filter *filter;
        size_t len;
    } tables[] = {
        [SECCOMP_APPLICATION] = {seccomp_application, ARRAY_SIZE(seccomp_application)},
        [SECCOMP_SYSTEM] = {seccomp_system, ARRAY_SIZE(seccomp_system)},
        [SECCOMP_NESTING] = {seccomp_nesting, ARRAY_SIZE(seccomp_nesting)},
    };
    _Static_assert(ARRAY_SIZE(tables) == SECCOMP__COUNT, "a policy without a filter");
    struct sock_fprog prog = {
        .len = (unsigned short)tables[policy].len,
        .filter = (struct sock_filter *)tables[policy].filter,
    };
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
        return err_sys(err, "cannot load the system call filter");
    return 0;
}
