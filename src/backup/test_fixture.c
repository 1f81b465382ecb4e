/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/test_fixture.h"

#include <stdlib.h>

int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->from = dir_new("from", f->from_path);
    f->to = dir_new("to", f->to_path);
    *state = f;
    return 0;
}

int teardown(void **state)
{
    struct fixture *f = *state;
    dir_trash(f->from_path, f->from);
    dir_trash(f->to_path, f->to);
    memory_done(&f->m);
    backup_info_done(&f->info);
    free(f);
    return 0;
}
