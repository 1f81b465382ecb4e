/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VE's first process between clone and exec; birth.c forks it. */
#pragma once

#include "container/internal.h"

/* Never returns; sock: its end of the pair; sysctls: for limits_write_ipc(). */
_Noreturn void init_main(const struct container_plan *plan, int sock, int sysctls);
