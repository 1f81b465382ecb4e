/* SPDX-License-Identifier: GPL-2.0-or-later */
/* backup — what the two files of backups share.  Inside ve only. */
#pragma once

#include "ve/internal.h"

/* The manifest of an interrupted backup, as the client found it in its file; NULL: there is none.
 */
json_t *backup_resumed(const json_t *options);
/* Says that `count` paths were left out, the first of them below `dir`. */
#define BACKUP_BEYOND_TEXT 256
const char *backup_beyond(int64_t count, const char *dir, char ret[BACKUP_BEYOND_TEXT]);
/* In the worker: packs the tree (job->aim: a saved one, 0: the VE's own) and sends it. */
int backup_send_work(struct job *job, struct err *err);
