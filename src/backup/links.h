/* SPDX-License-Identifier: GPL-2.0-or-later */
/* links — names of files with several links, by inode.  Inside backup only. */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

struct links;
struct links *links_new(void); /* NULL: out of memory */
void links_free(struct links *l);
/* The first name of this inode; NULL: this is it (or memory is out: *failed). */
const char *links_first(struct links *l, const struct stat *st, const char *name, bool *failed);
