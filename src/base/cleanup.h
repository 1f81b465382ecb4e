/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cleanup — owners that release themselves.
 *
 * An owner is initialised where it is declared and carries an attribute that releases it at the
 * end of its scope.  Ownership moves only through steal_fd() and steal_ptr().  Cleanups accept
 * NULL, -1 and what is already clean, and keep errno.
 *
 *     auto_fd int fd = open(…);
 *     auto_free char *text = strdup(…);
 *     *ret_fd = steal_fd(&fd);
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define auto_fd   __attribute__((cleanup(cleanup_fd)))
#define auto_free __attribute__((cleanup(cleanup_free)))
#define auto_dir  __attribute__((cleanup(cleanup_dir)))
#define auto_file __attribute__((cleanup(cleanup_file)))
/* For an owner of a room's own type: auto_clean(registry_close_p) struct registry *r = NULL; */
#define auto_clean(fn) __attribute__((cleanup(fn)))

static inline void cleanup_fd(int *fd)
{
    int keep = errno;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = keep;
}

static inline void cleanup_free(void *pp)
{
    void **p = pp;
    free(*p);
    *p = NULL;
}

static inline void cleanup_dir(DIR **d)
{
    int keep = errno;
    if (*d)
        closedir(*d);
    *d = NULL;
    errno = keep;
}

static inline void cleanup_file(FILE **f)
{
    int keep = errno;
    if (*f)
        fclose(*f);
    *f = NULL;
    errno = keep;
}

static inline int steal_fd(int *fd)
{
    int f = *fd;
    *fd = -1;
    return f;
}

static inline void *steal_ptr_impl(void *pp)
{
    void **p = pp, *v = *p;
    *p = NULL;
    return v;
}
#define steal_ptr(pp) ((__typeof__(*(pp)))steal_ptr_impl(pp))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
