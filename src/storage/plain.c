/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "storage/copy.h"
#include "storage/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int plain_fill(int from, int tree, const struct storage_step *step, struct err *err)
{
    auto_fd int in = openat(from, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    auto_fd int out = openat(tree, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (in < 0 || out < 0)
        return err_sys(err, "cannot open a tree");
    int r = copy_tree(in, out, tree, 0, step, err);
    if (r < 0 || (r = tree_mark_copy(from, tree, err)) < 0)
        return r;
    /* Of the whole file system: an fsync(2) of each of many files is far slower. */
    return syncfs(tree) < 0 ? pool_sys(err, errno, "cannot write the copy to the disk") : 0;
}
