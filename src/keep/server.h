/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * server — the inside of terem-keep: one thread, one epoll, nothing that waits.
 *
 *     server.c       the loop, the socket, requests and their answers
 *     entry.c        one VE: its process, its console, its log
 *     filter.c       listeners of its system call filters
 *     viewer.c       one attached client: frames out, input in
 *     console_log.c  a log file that stays below its bound
 *
 * What is removed while events of the same round may still point at it is only buried, and freed
 * at the end of the round.
 */
#pragma once

#include "base/err.h"
#include "keep/frame.h"
#include "keep/serving.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CONSOLE_LOG_MAX     (1 << 20) /* then FILE becomes FILE.1 */
#define CONSOLE_CHUNK       32768     /* of one console in one round, so that none starves others */
#define SCROLLBACK          4096
#define VIEWERS_PER_VE      16
#define VIEWERS_MAX         256
#define VIEWERS_LEAVING_MAX 32
#define CONTROLS_MAX        64
#define FILTERS_PER_VE      1024 /* one of its own, and one of each command run in it */
#define VIEWER_QUEUE        (128 * 1024)
#define VIEWER_LAST_WORD    512 /* room that is left in the queue for the final frame */

enum source_kind {
    SOURCE_LISTENER,
    SOURCE_CONTROL,
    SOURCE_PROCESS,
    SOURCE_CONSOLE,
    SOURCE_VIEWER,
    SOURCE_FILTER
};

/* Begins every struct that the loop frees. */
struct thing {
    bool buried;
    struct thing *next;
};

/* What an epoll event points at. */
struct source {
    enum source_kind kind;
    int fd;
    bool added;
    uint32_t events;
    struct thing *owner;
};

struct server;

/* console_log.c: errors are swallowed there, since a full disk must not stop a console; what
 * could not be written is lost to the log only. */
struct console_log {
    int dir; /* not owned; -1: no log */
    int fd;
    int64_t id;
    off_t size;
};
void console_log_open(struct console_log *l, int dir, int64_t id);
void console_log_write(struct console_log *l, const void *buf, size_t len);
/* The last bytes, from the beginning of a line on when there are more than that. */
size_t console_log_tail(struct console_log *l, char *buf, size_t size);
void console_log_close(struct console_log *l);

/* viewer.c */
struct viewer {
    struct thing thing;
    struct source source;
    struct entry *entry;        /* NULL: leaving */
    struct viewer *next, *prev; /* of the entry, or of those leaving */
    struct frame input;         /* being written to the console, from input_done on */
    size_t input_done;
    bool paused; /* the console takes no more input at present */
    size_t out_at, out_end;
    struct frame_reader reader;
    uint8_t out[VIEWER_QUEUE];
};
int viewer_add(struct server *s, struct entry *e, int fd, struct err *err);
void viewer_event(struct server *s, struct viewer *v, uint32_t events);
void viewer_output(struct server *s, struct viewer *v, const uint8_t *buf, size_t len);
/* At once, without a word. */
void viewer_close(struct server *s, struct viewer *v);
/* The console has room again. */
void viewer_resume(struct server *s, struct viewer *v);
/* Says the last frame and closes, at once or when the client has read it. */
void viewer_finish(struct server *s, struct viewer *v, enum frame_type type, const void *buf,
                   size_t len);

/* filter.c */
struct filter {
    struct thing thing;
    struct source source;
    struct entry *entry;
    struct filter *next; /* of the entry, oldest first */
    uint32_t serial;     /* rising within the entry */
    bool waiting;        /* for teremd; not watched */
};
struct control;
/* The descriptor becomes ours, on failure too. */
int filter_add(struct server *s, struct entry *e, int listener, struct err *err);
/* The first whose serial is above; NULL. */
struct filter *filter_after(struct entry *e, uint32_t serial);
void filter_close_all(struct server *s, struct entry *e);
void filter_event(struct server *s, struct filter *f);
/* From now on teremd at this connection answers.  The page becomes ours, on failure too. */
int filter_serve(struct server *s, struct control *c, int page, struct err *err);
void filter_teremd_gone(struct server *s);
/* Milliseconds until filter_look(), or -1. */
int filter_timeout(const struct server *s);
/* Has teremd looked at what waits? */
void filter_look(struct server *s);

/* entry.c */
struct log_dir {
    dev_t dev;
    ino_t ino;
    int fd;
    size_t refs;
    struct log_dir *next;
};
struct entry {
    struct thing thing;
    int64_t id;
    struct source process, console;
    bool ended;
    struct log_dir *dir;
    struct console_log log;
    struct viewer *viewers;
    size_t n_viewers;
    struct filter *filters;
    size_t n_filters;
    uint32_t last_filter;
};
/* The descriptors become the entry's, on failure too. */
int entry_put(struct server *s, int64_t id, int pidfd, int console, int log_dir, struct err *err);
struct entry *entry_find(struct server *s, int64_t id);
void entry_drop(struct server *s, struct entry *e);
void entry_process_event(struct server *s, struct entry *e);
void entry_console_event(struct server *s, struct entry *e, uint32_t events);
/* Watches the console for room, while input waits for it. */
void entry_watch_console(struct server *s, struct entry *e);

/* server.c */
struct server {
    int epoll;
    int lock;
    int spare; /* given up for a moment when no descriptor is left */
    char *path;
    struct source listener;
    struct entry **entries; /* ascending by id */
    size_t n_entries, cap_entries;
    struct log_dir *dirs;
    struct viewer *leaving; /* the newest first */
    struct control *controls;
    size_t n_viewers, n_leaving, n_controls;
    struct serving *serving; /* shared with teremd at the connection `server`, or NULL */
    struct control *server;
    bool stalled;    /* teremd looks at nothing */
    uint64_t turns;  /* of teremd, when the first of those that wait began to … */
    bool pending;    /* … and whether a call waited for it then */
    int64_t look_at; /* when filter_look() is due; 0: nobody waits */
    uint64_t received[SERVING_SLOTS]; /* calls that teremd was at when it was last looked */
    struct thing *graves;
    bool quit;
};
/* Takes the lock, binds and listens.  Another instance on the same path: ERR_BUSY. */
int server_open(struct server *s, const char *path, struct err *err);
/* Until a client asks to quit. */
int server_run(struct server *s, struct err *err);
void server_close(struct server *s);
/* Sets what a source is watched for; with 0 still for its end (EPOLLHUP); -1 and errno. */
int server_watch(struct server *s, struct source *source, uint32_t events);
/* Needed before a descriptor is closed of which others hold copies: epoll goes by what is open,
 * not by our number of it (epoll(7)). */
void server_unwatch(struct server *s, struct source *source);
void server_bury(struct server *s, struct thing *t);
