/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keep/serving.h"

#include "base/cleanup.h"
#include "kernel/seccomp.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int map(int fd, struct serving **ret, struct err *err)
{
    void *p = mmap(NULL, SERVING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_sys(err, "cannot map a shared page");
    madvise(p, SERVING_SIZE, MADV_DONTFORK);
    *ret = p;
    return 0;
}

int serving_make(struct serving **ret, int *ret_fd, struct err *err)
{
    auto_fd int fd = memfd_create("terem-serving", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, SERVING_SIZE) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return err_sys(err, "cannot make a shared page");
    int r = map(fd, ret, err);
    if (r == 0)
        *ret_fd = steal_fd(&fd);
    return r;
}

int serving_map(int fd, struct serving **ret, struct err *err)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    /* One that may shrink under us would end us by SIGBUS. */
    if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 || st.st_size != SERVING_SIZE)
        return err_set(err, ERR_USAGE, "what was given as a shared page is none");
    return map(fd, ret, err);
}

void serving_unmap(struct serving *s)
{
    if (s)
        munmap(s, SERVING_SIZE);
}

static struct serving_slot *free_slot(struct serving *s)
{
    for (size_t i = 0; i < SERVING_SLOTS; i++)
        if (s->slots[i].call.id == 0)
            return &s->slots[i];
    return NULL;
}

struct serving_slot *serving_receive(struct serving *s, int64_t ve, int listener)
{
    struct serving_slot *slot = free_slot(s);
    atomic_fetch_add(&s->turns, 1);
    if (!slot)
        return NULL;
    slot->ve = ve;
    atomic_store(&s->receiving, 1);
    bool got = !atomic_load(&s->standing_in) && seccomp_pending(listener, NULL) &&
               seccomp_receive(listener, &slot->call) == 0;
    if (got)
        atomic_store(&s->states[slot - s->slots], SERVING_RECEIVED);
    atomic_store(&s->receiving, 0);
    return got ? slot : NULL;
}

bool serving_answer(struct serving *s, const struct serving_slot *slot)
{
    unsigned received = SERVING_RECEIVED;
    return atomic_compare_exchange_strong(&s->states[slot - s->slots], &received,
                                          SERVING_ANSWERING);
}

void serving_release(struct serving *s, struct serving_slot *slot)
{
    atomic_store(&s->states[slot - s->slots], SERVING_FREE);
    slot->call = (struct seccomp_notif){0};
}

uint64_t serving_take(struct serving *s, size_t slot)
{
    unsigned received = SERVING_RECEIVED;
    bool mine = atomic_compare_exchange_strong(&s->states[slot], &received, SERVING_PASSED_ON);
    return mine ? s->slots[slot].call.id : 0;
}

bool serving_pass_on(struct serving *s, int listener, unsigned max, bool *ret_ended)
{
    bool mine = true;
    *ret_ended = false;
    if (s) {
        atomic_store(&s->standing_in, 1);
        mine = !atomic_load(&s->receiving);
    }
    for (unsigned i = 0; mine && i < max && seccomp_pending(listener, ret_ended); i++) {
        struct seccomp_notif call = {0};
        if (seccomp_receive(listener, &call) == 0)
            seccomp_pass_on(listener, call.id);
    }
    if (s)
        atomic_store(&s->standing_in, 0);
    return mine;
}
