/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/ahead.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

/* How far it is before the packer: what may be pushed out of memory again unread is little, and
 * enough is under way that the disk is never waited for.  A file counts as what is asked for of it
 * and a little, so that many empty ones are bounded, too. */
#define FRONT      ((uint64_t)32 << 20)
#define FILE_FRONT ((off_t)1 << 20)
#define FILE_COSTS 4096

struct ahead {
    int root;
    bool (*wanted)(const void *ctx, const struct walk_file *f);
    const void *ctx;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t asked, passed;
    bool waiting, ending;
};

static uint64_t cost(const struct stat *st)
{
    off_t size = !S_ISREG(st->st_mode) ? 0 : st->st_size < FILE_FRONT ? st->st_size : FILE_FRONT;
    return (uint64_t)size + FILE_COSTS;
}

/* What cannot be opened the packer tells of. */
static void ask(const struct walk_file *f)
{
    auto_fd int fd = openat(f->dir, f->base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0)
        (void)posix_fadvise(fd, 0, FILE_FRONT, POSIX_FADV_WILLNEED);
}

static int look(void *ctx, const struct walk_file *f, struct err *err)
{
    struct ahead *a = ctx;
    pthread_mutex_lock(&a->lock);
    a->asked += cost(&f->st);
    while (!a->ending && a->asked > a->passed + FRONT) {
        a->waiting = true;
        pthread_cond_wait(&a->changed, &a->lock);
    }
    a->waiting = false;
    bool ending = a->ending;
    pthread_mutex_unlock(&a->lock);
    if (ending)
        return err_set(err, ERR_CANCELLED, "it has ended");
    if (S_ISREG(f->st.st_mode) && f->st.st_blocks && (!a->wanted || a->wanted(a->ctx, f)))
        ask(f);
    return 0;
}

static void *run(void *ctx)
{
    struct ahead *a = ctx;
    struct err err = {0};
    (void)walk(a->root, look, walk_pass_over, a, &err); /* what fails here fails in the packer */
    return NULL;
}

struct ahead *ahead_new(int root, bool (*wanted)(const void *ctx, const struct walk_file *f),
                        const void *ctx)
{
    struct ahead *a = calloc(1, sizeof(*a));
    if (!a)
        return NULL;
    *a = (struct ahead){.root = root, .wanted = wanted, .ctx = ctx};
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    if (pthread_create(&a->thread, NULL, run, a) == 0)
        return a;
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    free(a);
    return NULL;
}

void ahead_passed(struct ahead *a, const struct stat *st)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->passed += cost(st);
    /* woken for many files at once, not for each */
    if (a->waiting && a->asked <= a->passed + FRONT / 2)
        pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
}

void ahead_free(struct ahead *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->ending = true;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    free(a);
}
