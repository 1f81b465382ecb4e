/* SPDX-License-Identifier: GPL-2.0-or-later */
/* setup — what of the machine is made for VEs because its operator agreed.  Inside ve only. */
#pragma once

#include "ve/internal.h"

/* {"zram": bytes or 0} */
int ve_setup_check(struct ve_node *node, const json_t *options, struct err *err);
/* After recovery: what is wanted is there, soon. */
void ve_setup_begin(struct ve_node *node);
/* Bytes of swap in compressed memory that were asked for, or null. */
json_t *ve_setup_json(struct ve_node *node);
