/* SPDX-License-Identifier: GPL-2.0-or-later */
/* backup_layers — whether a backup can be restored without its template. */
#pragma once

#include "cli.h"

/* All layers that the VE stands on are in the file, or in one that it stands on. */
bool backup_layers_within(const json_t *layers);
/* Those of them that an incremental backup on this one need not have. */
json_t *backup_layers_kept(const json_t *manifest);
/* Says so, or else exactly what must be on a node and whether this one has it now. */
void backup_layers_say(struct cli *cli, const char *file, const char *template_name,
                       const json_t *layers);
