/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keep — the client's side of terem-keep, the small process that outlives teremd.
 *
 * terem-keep holds for each running VE: the pidfd of its first process, the master of its
 * console pty, the file that the console is logged to, and the listeners of its system call
 * filters.  It drains the console into the log (STATE/logs/<id>.log, rotated once at 1 MiB to
 * <id>.log.1: bounded) and to whoever is attached. It decides nothing.  It never parses what a VE
 * writes.
 *
 * Requests travel over a SOCK_SEQPACKET Unix socket (place.keep, 0600), one message each with
 * its descriptors, one answer each; keep's own main lives in programs/terem-keep and includes
 * keep/protocol.h.  Calls are synchronous and answered at once (terem-keep never blocks on a VE).
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct keep;

/* Connects; spawn: starts `program` (terem-keep) as a process of its own session when nobody
 * answers, and waits until it listens (20 seconds).  Every call has a deadline of one second, after
 * which it is ERR_UNAVAILABLE, and so is each further one at once, until terem-keep has answered:
 * whether it does is tried by one call in ten seconds.  A request that was given up may still be
 * carried out, once terem-keep goes on. */
int keep_connect(const char *socket_path, const char *program, bool spawn, struct keep **ret,
                 struct err *err);
void keep_close(struct keep *k);
void keep_close_p(struct keep **k); /* for auto_clean() */
int keep_fd(const struct keep *k);  /* becomes readable (end of file) when terem-keep dies */

/* Gives it the VE's descriptors (duplicates; the caller keeps its own).  console_fd, log_dir_fd
 * may be -1.  The console becomes non-blocking, for all who share it.  An entry of that id is
 * replaced; who watched its console is told that it ended. */
int keep_put(struct keep *k, int64_t id, int pidfd, int console_fd, int log_dir_fd,
             struct err *err);
/* Copies of the descriptors; ERR_NOT_FOUND; *ret_console is -1 when there is none. */
int keep_get(struct keep *k, int64_t id, int *ret_pidfd, int *ret_console, struct err *err);
int keep_drop(struct keep *k, int64_t id, struct err *err);
int keep_list(struct keep *k, int64_t **ret, size_t *ret_n, struct err *err);
/* Hands a client's stream socket over: from now on terem-keep copies between it and the console,
 * in the frames of keep/frame.h.  Many clients may watch one console; each first gets the last 4
 * KB of the log.  One that reads too slowly is dismissed with FRAME_ERROR.  FRAME_EXIT comes when
 * the VE's first process is gone (with its status when the kernel tells it by then, else 0).
 * client_fd is closed here, on failure also.  ERR_NOT_FOUND: no such entry; ERR_STATE: it has no
 * console or has ended. */
int keep_attach(struct keep *k, int64_t id, int client_fd, struct err *err);
/* How many clients watch its console now. */
int keep_viewers(struct keep *k, int64_t id, size_t *ret, struct err *err);
/* One more listener of a VE that it holds (kernel/seccomp.h); it lets go of it when no process has
 * the filter any more.  ERR_NOT_FOUND: no such VE. */
int keep_put_filter(struct keep *k, int64_t id, int listener, struct err *err);
/* *number: in, 0 or that of the last one; out, that of the one given.  ERR_NOT_FOUND: no more. */
int keep_get_filter(struct keep *k, int64_t id, uint32_t *number, int *ret_listener,
                    struct err *err);
/* From now on until this connection ends the caller answers at the listeners, by the page that
 * serving_make() made; before and after that calls go to the kernel. */
int keep_serve(struct keep *k, int page, struct err *err);
/* Asks it to end: used by make clean-run and tests.  While a VE runs that it holds: ERR_STATE. */
int keep_quit(struct keep *k, struct err *err);
