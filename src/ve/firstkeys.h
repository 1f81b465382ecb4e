/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * firstkeys — a VE's SSH host keys, before its sshd first looks for them.
 *
 * Templates with an sshd have no host keys; their ssh.service runs ssh-keygen -A, which makes those
 * that are missing.  Its RSA key was more than a third of the processor's time that a Debian VE
 * with nginx and sshd took until it answered: nettle makes one in a quarter of that.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct container_file;

#define FIRSTKEYS_TYPES 3 /* those of ssh-keygen -A: rsa, ecdsa, ed25519 */
#define FIRSTKEYS_FILES (2 * FIRSTKEYS_TYPES)

struct firstkeys {
    char *texts[FIRSTKEYS_FILES];
};

/* Does the template leave them to the first start, and has nothing been written to /etc/ssh since?
 * layers: n O_PATH directories; tree: what holds upper/.  Ask only for a VE that has never been up
 * and stopped (ve_tree_is_filled()): its root could bring that state back, and have keys made on
 * the node's time again and again. */
bool firstkeys_wanted(const int *layers, size_t n, int tree);
/* Adds FIRSTKEYS_FILES files whose texts are in *keys, to be freed when they have been written. */
int firstkeys_make(struct firstkeys *keys, const char *comment, struct container_file *files,
                   size_t *n_files, struct err *err);
void firstkeys_free(struct firstkeys *keys);
