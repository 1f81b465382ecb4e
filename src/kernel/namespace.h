/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel/namespace — making and entering namespaces.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* All namespaces of a VE, for namespace_enter(). */
#define NAMESPACE_ALL                                                                          \
    (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | \
     CLONE_NEWCGROUP | CLONE_NEWTIME)

/* clone3(2) as a fork(): 0 in the child, its pid in the parent; the child is born in the v2
 * cgroup when that is not -1.  ret_pidfd may be NULL.  The C library's fork handlers do not run:
 * for processes with one thread. */
pid_t namespace_fork(uint64_t flags, int cgroup, int *ret_pidfd, struct err *err);
/* unshare(2).  Where there are too many of a kind, which the kernel does not tell, it tries them
 * one by one: a process for which it failed has some of them, and is to end. */
int namespace_unshare(int flags, struct err *err);
/* What a clone(2) that has just failed lacked, from errno, and what raises it. */
int namespace_fork_failed(struct err *err);
/* namespace_fork() with CLONE_NEWUSER, so that the new user namespace belongs to `owner`: the
 * kernel charges what is counted per user (inotify, mqueue, namespaces…) to the owner as well, and
 * an owner shared by all VEs would let them starve each other.  Needs real root.  The child is
 * not dumpable: nobody in the new namespaces can look into it before it executes. */
pid_t namespace_fork_owned(uint64_t flags, int cgroup, uid_t owner, int *ret_pidfd,
                           struct err *err);
/* The user namespace of a process, by its pidfd. */
int namespace_open_user(int pidfd, int *ret_fd, struct err *err);
int namespace_open_net(int pidfd, int *ret_fd, struct err *err); /* its network namespace */
/* What a process sees as "/" (O_PATH): what lies below is in the VE's hands. */
int namespace_open_root(int pidfd, int *ret_fd, struct err *err);
/* The user namespace in which this one was made, and the uid that owns it.  ERR_STATE when that is
 * the caller's own. */
int namespace_around(int userns, int *ret_fd, uid_t *ret_owner, struct err *err);
/* Ids 0…count-1 of the process's user namespace are base… outside; groups likewise. */
int namespace_map_ids(pid_t pid, uid_t base, uint32_t count, struct err *err);
/* Sets the clocks "since boot" so that they began less than a second before the process, in the
 * time namespace that it has made and not yet joined.  Without time namespaces: does nothing. */
int namespace_zero_clocks(pid_t pid, struct err *err);
/* Joins the time namespace that the caller has made by unshare(CLONE_NEWTIME): its clocks can be
 * set no more.  By itself a process is in it after exec only since Linux 6.3; before, its children
 * would be, and not it.  Needs /proc. */
int namespace_join_clocks(struct err *err);
/* setns(2) by a pidfd into the given namespaces at once; those that the kernel lacks are left
 * out.  The pid namespace holds for children. */
int namespace_enter(int pidfd, int flags, struct err *err);
/* Becomes uid 0, gid 0 without other groups, in the user namespace where the caller is. */
int namespace_become_root(struct err *err);
