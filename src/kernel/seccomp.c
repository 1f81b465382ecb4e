/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/seccomp.h"

#include "base/cleanup.h"

#include <errno.h>
#include <linux/filter.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/seccomp_tables.h" /* made by seccomp_gen.c: seccomp_application, … */

#define FILTER_MAX 4096 /* BPF_MAXINSNS */

static const struct table {
    const struct sock_filter *filter;
    size_t len;
} tables[][SECCOMP_TOLD__COUNT] = {
    [SECCOMP_APPLICATION] = {{seccomp_application, ARRAY_SIZE(seccomp_application)},
                             {seccomp_application_disk, ARRAY_SIZE(seccomp_application_disk)}},
    [SECCOMP_SYSTEM] = {{seccomp_system, ARRAY_SIZE(seccomp_system)},
                        {seccomp_system_disk, ARRAY_SIZE(seccomp_system_disk)}},
    [SECCOMP_NESTING] = {{seccomp_nesting, ARRAY_SIZE(seccomp_nesting)},
                         {seccomp_nesting_disk, ARRAY_SIZE(seccomp_nesting_disk)}},
};
_Static_assert(ARRAY_SIZE(tables) == SECCOMP__COUNT, "a policy without a filter");

/* With a listener a caller that was received waits for its answer whatever signals come, else each
 * signal would ask anew (5.19). */
static int load(const struct sock_filter *filter, size_t len, bool listen)
{
    unsigned flags = listen ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0;
#ifdef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    flags |= listen ? SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV : 0;
#endif
    struct sock_fprog prog = {.len = (unsigned short)len, .filter = (struct sock_filter *)filter};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

static int load_unheard(enum seccomp_policy policy)
{
    struct sock_filter filter[FILTER_MAX];
    const struct table *t = &tables[policy][SECCOMP_TOLD_MACHINE];
    size_t len = t->len;
    if (len > FILTER_MAX) {
        errno = EINVAL;
        return -1;
    }
    memcpy(filter, t->filter, len * sizeof(*filter));
    for (size_t i = 0; i < len; i++)
        if (filter[i].code == (BPF_RET | BPF_K) && filter[i].k == SECCOMP_RET_USER_NOTIF)
            filter[i].k = SECCOMP_RET_ALLOW;
    return load(filter, len, false);
}

int seccomp_load_policy(enum seccomp_policy policy, enum seccomp_told told, int *ret_listener,
                        struct err *err)
{
    int fd = -1;
    if (ret_listener)
        fd = load(tables[policy][told].filter, tables[policy][told].len, true);
    if (fd < 0 && load_unheard(policy) < 0)
        return err_sys(err, "cannot load the system call filter");
    if (ret_listener)
        *ret_listener = fd;
    return 0;
}

bool seccomp_is_listener(int fd)
{
    uint64_t none = 0;
    return ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &none) == 0 || errno == ENOENT;
}

bool seccomp_pending(int listener, bool *ret_ended)
{
    struct pollfd p = {.fd = listener, .events = POLLIN};
    if (poll(&p, 1, 0) < 0)
        p.revents = 0;
    if (ret_ended)
        *ret_ended = !(p.revents & POLLIN) && (p.revents & (POLLHUP | POLLNVAL));
    return p.revents & POLLIN;
}

int seccomp_receive(int listener, struct seccomp_notif *call)
{
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, call);
}

bool seccomp_waits(int listener, uint64_t id)
{
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

int seccomp_answer(int listener, uint64_t id, int64_t value, int error)
{
    struct seccomp_notif_resp resp = {.id = id, .val = value, .error = -error};
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

int seccomp_pass_on(int listener, uint64_t id)
{
    struct seccomp_notif_resp resp = {.id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}
