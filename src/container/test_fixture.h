/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A throw-away VE for the tests of this room: busybox layer, tree, cgroup.  Needs root. */
#pragma once

#include "container/container.h"

#include <stdbool.h>

#define FIXTURE_BASE 1900000000u

struct fixture {
    char dir[64];
    int dirfd;
    int layer, tree, cgroup, init_program;
    char cgroup_path[128];
    struct container_started ve; /* pidfd -1: not running */
    char output[65536];          /* of the last fixture_exec() */
};

/* Returns false when the machine lacks something; `why` then says what. */
bool fixture_make(struct fixture *f, const char **why);
void fixture_remove(struct fixture *f);
/* The plan of a VE with busybox init; change what is wanted. */
struct container_plan fixture_plan(const struct fixture *f);
int fixture_boot(struct fixture *f, const struct container_plan *plan, struct err *err);
/* Kills the VE and waits. */
void fixture_kill(struct fixture *f);
/* Runs a shell line inside as its root; exit status, or -kind. */
int fixture_exec(struct fixture *f, const char *line, struct err *err);
/* Any command; output and errors go to f->output. */
int fixture_run(struct fixture *f, const struct container_exec *x, struct err *err);
struct container_exec fixture_exec_of(const struct fixture *f, const char *const *argv);
