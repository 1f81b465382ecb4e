/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * place — where an instance keeps its things.
 *
 * The default instance: state in /var/lib/terem, sockets in /run/terem, settings in
 * /etc/terem/terem.conf.  With --root DIR (or TEREM_ROOT): DIR/lib, DIR/run, DIR/terem.conf.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>

#define PLACE_MAX 512

struct place {
    bool is_default;
    char root[PLACE_MAX];  /* "" for the default instance, else the absolute DIR */
    char state[PLACE_MAX]; /* registry, pool, layers, templates, logs */
    char run[PLACE_MAX];   /* sockets, pids, the lxcfs mount */
    char conf[PLACE_MAX];  /* terem.conf */
    char api[PLACE_MAX];   /* Unix socket of teremd */
    char keep[PLACE_MAX];  /* Unix socket of terem-keep */
};

/* root: NULL takes TEREM_ROOT from the environment, and without it the default instance.
 * The socket paths must fit sockaddr_un (107 bytes): else ERR_USAGE. */
int place_init(struct place *place, const char *root, struct err *err);
