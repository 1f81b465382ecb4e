/* SPDX-License-Identifier: GPL-2.0-or-later */
/* instance — the number of this instance on this machine, and the id ranges it gives. */
#pragma once

#include "base/err.h"
#include "base/place.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define VE_INSTANCE_MAX 40

/* wish: the number from the registry, or 0; a claim that the root has already is kept. */
int ve_instance_claim(const struct place *place, unsigned wish, unsigned *ret, struct err *err);
void ve_instance_release(const struct place *place, unsigned n);
/* Is there a claim of any other instance that still has its directory, after ours was released? */
bool ve_instance_others(void);
uint32_t ve_instance_slots(unsigned n);
uid_t ve_instance_id_base(unsigned n, uint32_t slot);
