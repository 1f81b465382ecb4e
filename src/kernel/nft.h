/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel/nft — runs a text of nftables commands as one transaction.
 *
 * I use libnftables in this process.  Its context is made for the call and freed after it, as it
 * holds some hundred KB.
 */
#pragma once

#include "base/err.h"

/* All of it or nothing.  The error is nft's own first line. */
int nft_run(const char *commands, struct err *err);
/* Asks the kernel whether it would take them, and changes nothing. */
int nft_try(const char *commands, struct err *err);
/* What a list command prints; freed by the caller. */
int nft_list(const char *command, char **ret, struct err *err);
