/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stage of this room's tests: the real terem-keep in a directory of the test's own, with ptys
 * and processes of its own.
 */
#pragma once

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "keep/frame.h"
#include "keep/keep.h"
#include "keep/protocol.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#include <cmocka.h>

extern const char *program; /* terem-keep */
extern char dir[64], sock_path[96];
extern struct keep *keep; /* the test's connection */
extern pid_t keep_pid;

/* stdio, lock, socket, epoll, the spare one, and the test's connection. */
#define DESCRIPTORS 8

/* A VE with a console: its process, both sides of its pty. */
struct ve {
    pid_t pid;
    int pidfd, master, slave;
};

struct client {
    int fd;
    struct frame_reader reader;
};

int begin(void);
int setup(void **state);
int teardown(void **state);
/* A process that lives until it is killed, and its pidfd. */
pid_t sleeper(int *ret_pidfd);
void end(pid_t pid);
struct ve make_ve(int64_t id);
void end_ve(struct ve *v);
struct client *attach(int64_t id);
void detach(struct client *c);
/* The next frame within 5 seconds; false at the end of file. */
bool next(struct client *c, struct frame *f);
/* Reads output until `text` came. */
void expect(struct client *c, const char *text);
void say(int fd, const char *text);
/* What comes out at the VE's side. */
void expect_input(int slave, const char *text);
/* A number of a file of /proc about terem-keep. */
long field(const char *file, const char *name);
/* Counted, not timed: it slept in one epoll_wait all the while. */
void assert_asleep(void);
/* It closes what it needs no longer right after it answered, so we give it a moment. */
void assert_descriptors(int wanted);

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
/* A main of such tests: its only argument, or TEREM_KEEP, is the program. */
int stage_main(int argc, char **argv);
