/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hostkey — new SSH host keys, in the formats that OpenSSH writes.
 *
 * They are made here and not by the VE's own ssh-keygen(1): it would be a foreign program at work
 * on the host's side, and it may not be there.
 */
#pragma once

#include "base/err.h"

/* *ret_private: as in "ssh_host_rsa_key" (openssh-key-v1, PROTOCOL.key of OpenSSH); *ret_public:
 * the line of "ssh_host_rsa_key.pub".  Both are freed by the caller.  type: "rsa", "ecdsa",
 * "ed25519"; another: ERR_UNSUPPORTED.  bits: of ecdsa 256, 384 or 521; of rsa a size; 0: what
 * ssh-keygen takes.  comment: a word for the end of the line. */
int hostkey_make(const char *type, unsigned bits, const char *comment, char **ret_private,
                 char **ret_public, struct err *err);
