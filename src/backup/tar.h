/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tar — files of a tree as entries of a pax archive.  Inside backup only.
 *
 * Written by hand and not by libarchive: whatever version is installed, the same tree gives the
 * same bytes every time, and times have nanoseconds without fields that GNU tar does not know.
 * Kept: owner, mode, time to the nanosecond, extended attributes and ACLs in the kernel's own form
 * (SCHILY.xattr.…), hard links, holes.
 */
#pragma once

#include "backup/list.h"
#include "backup/walk.h"

struct tar_out;

typedef int (*tar_sink)(void *ctx, const void *buf, size_t len, struct err *err);
int tar_open(tar_sink sink, void *ctx, struct tar_out **ret, struct err *err);
void tar_free(struct tar_out *t);
#define auto_tar __attribute__((cleanup(tar_freep)))
static inline void tar_freep(struct tar_out **t)
{
    tar_free(*t);
    *t = NULL;
}

struct tar_entry {
    const char *prefix; /* before the name in the archive */
    const char *link;   /* name of an earlier entry that this one is a hard link to, or "" */
    bool oci;           /* whiteouts as images have them: ".wh.NAME" */
    const struct walk_file *file;
    struct list_item *item; /* data and attrs are filled in */
};
int tar_put(struct tar_out *t, const struct tar_entry *e, struct err *err);
/* Only fills in data and attrs. */
int tar_look(const struct walk_file *f, struct list_item *item, struct err *err);
/* A member that is no file of a tree: its header, exactly `size` bytes, its end. */
int tar_member(struct tar_out *t, const char *name, uint64_t size, struct err *err);
int tar_data(struct tar_out *t, const void *buf, size_t len, struct err *err);
int tar_member_end(struct tar_out *t, struct err *err);
/* Writes the end marker. */
int tar_end(struct tar_out *t, struct err *err);
