/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of what jobs there are; each kind stands in the file of its subject.
 */
#include "ve/internal.h"
#include "ve/jobs.h"

/* One a line, so that each addition is a line of its own. */
/* clang-format off */
static const struct job_kind *const kinds[] = {
    &job_start,
    &job_stop,
    &job_restart,
    &job_kill,
    &job_exit,
    &job_pause,
    &job_resume,
    &job_squeeze,
    &job_snapshot,
    &job_rollback,
    &job_clone,
    &job_destroy,
    &job_template_build,
    &job_template_import,
    &job_template_remove,
    &job_backup,  &job_backup_send,    &job_restore,
    &job_repair,
    &job_repair_done,
    &job_pool_create,
    &job_pool_remove,
    &job_pool_grow,
    &job_move,
    &job_move_restart,
    &job_template_update,
    &job_template_prune,
    &job_update,
    &job_update_check,
    &job_update_restart,
    &job_bulk,
    &job_node_setup,
};
/* clang-format on */

const struct job_kind *job_kind_find(const char *name, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (str_eq(kinds[i]->name, name))
            return kinds[i];
    err_set(err, ERR_USAGE, "there is no operation \"%.40s\"", name);
    return NULL;
}
