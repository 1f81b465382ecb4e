/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes_backup — backups out of a VE and into a new one, as frames (docs/backup.md). */
#include "api/request.h"

static int take_backup(struct request *r, int sock, struct err *err)
{
    return ve_backup(r->api->node, r->name, r->json, sock, err);
}

int on_backup(struct request *r, struct err *err)
{
    if (!r->json && !(r->json = json_object()))
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int rc = ve_backup_check(r->api->node, r->name, r->json, err);
    return rc < 0 ? rc : session_upgrade(r, "a backup", take_backup, err);
}

static int take_restore(struct request *r, int sock, struct err *err)
{
    return ve_restore(r->api->node, r->json, sock, err);
}

int on_restore(struct request *r, struct err *err)
{
    int rc = ve_restore_check(r->api->node, r->json, err);
    return rc < 0 ? rc : session_upgrade(r, "a restore", take_restore, err);
}
