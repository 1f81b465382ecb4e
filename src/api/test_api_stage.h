/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stage of the API's tests: the server in a process of its own, on a fake of the room ve, and
 * a client that sees every byte.
 */
#pragma once

#include "api/request.h"
#include "api/schema.h"
#include "test_fake.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "keep/frame.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

extern struct place place;
extern pid_t server;

struct answer {
    int status;
    char head[2048];
    char body[65536];
    size_t len;
    json_t *json;
};
#define auto_answer __attribute__((cleanup(answer_done)))

#define expect(a, code, part)                                                                      \
    do {                                                                                           \
        if ((a).status != (code) || !strstr((a).body, (part)))                                     \
            fail_msg("expected %d with \"%s\", got %d: %s", (code), (part), (a).status, (a).body); \
    } while (0)

int connect_api(void);
int start(void **state);
int end(void **state);
int make_root(void **state);
int remove_root(void **state);
/* 32 clients, of which 24 may wait, and 64 that are refused. */
int start_small(void **state);
void answer_done(struct answer *a);
void send_text(int fd, const char *text, size_t n);
/* Reads until `end` stands in the buffer, or until the end of file when it is NULL. */
size_t read_until(int fd, char *buf, size_t size, const char *end);
void parse_answer(char *text, size_t len, struct answer *a);
void ask_raw(const char *request, size_t n, struct answer *a);
void ask_with(const char *method, const char *target, const char *headers, const char *body,
              struct answer *a);
void ask(const char *method, const char *target, const char *body, struct answer *a);
const char *message(const struct answer *a);
const char *field(const struct answer *a, const char *key);
int watches(void);
void wait_for_watches(int wanted);
int subscribe(const char *headers, char *buf, size_t size);
