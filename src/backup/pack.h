/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pack — bytes of a tar into frames, by several threads, written in order.  Inside backup only.
 *
 * The maker adds bytes; whole pieces of FRAME_PLAIN go to threads that compress and hash; one more
 * thread writes what is ready, in order.  Nobody else waits for the output.  Where frames are cut
 * depends on the bytes only, so that an interrupted file can go on at any frame.
 */
#pragma once

#include "backup/format.h"

struct pack;

int pack_open(const struct backup_request *rq, struct pack **ret, struct err *err);
/* Ends the threads; what was not written is lost. */
void pack_free(struct pack *p);
#define auto_pack __attribute__((cleanup(pack_freep)))
static inline void pack_freep(struct pack **p)
{
    pack_free(*p);
    *p = NULL;
}

/* Who what is added now belongs to. */
void pack_entry(struct pack *p, const char *name);
int pack_add(struct pack *p, const void *buf, size_t len, struct err *err);
/* Ends the frame here, whatever it holds. */
int pack_cut(struct pack *p, struct err *err);
uint64_t pack_plain(const struct pack *p); /* bytes added so far */
/* Writes what is left and the trailer. */
int pack_end(struct pack *p, uint64_t list_at, uint64_t list_size, uint64_t *ret_packed,
             struct err *err);
