/* SPDX-License-Identifier: GPL-2.0-or-later */
/* publish — ports of the machine that lead to VEs.  Inside ve only. */
#pragma once

#include "ve/internal.h"

/* After recovery: the kernel has what the registry says, and the ports are held. */
void ve_publish_settle(struct ve_node *node);
/* The packet rules were laid anew. */
void ve_publish_lay(struct ve_node *node);
void ve_publish_done(struct ve_node *node);
/* A VE is destroyed: its ports are free.  In its transaction. */
int ve_publish_forget(const struct ve *ve, struct err *err);
