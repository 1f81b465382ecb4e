/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/place.h"

#include "base/str.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

int place_init(struct place *place, const char *root, struct err *err)
{
    struct place p = {0};
    if (!root)
        root = getenv("TEREM_ROOT");
    if (!root || !*root) {
        p.is_default = true;
        str_print(p.state, sizeof(p.state), "/var/lib/terem");
        str_print(p.run, sizeof(p.run), "/run/terem");
        str_print(p.conf, sizeof(p.conf), "/etc/terem/terem.conf");
    } else {
        char abs[PATH_MAX], cwd[PATH_MAX] = "";
        if (*root != '/' && !getcwd(cwd, sizeof(cwd)))
            return err_sys(err, "cannot tell the working directory");
        if (str_print(abs, sizeof(abs), "%s%s%s", cwd, *cwd ? "/" : "", root) < 0)
            return err_set(err, ERR_USAGE, "--root: the path is too long");
        for (size_t n = strlen(abs); n > 1 && abs[n - 1] == '/';)
            abs[--n] = '\0';
        int cut = str_print(p.root, sizeof(p.root), "%s", abs);
        cut |= str_print(p.state, sizeof(p.state), "%s/lib", abs);
        cut |= str_print(p.run, sizeof(p.run), "%s/run", abs);
        cut |= str_print(p.conf, sizeof(p.conf), "%s/terem.conf", abs);
        if (cut)
            return err_set(err, ERR_USAGE, "--root: the path is too long");
    }
    size_t room = sizeof(((struct sockaddr_un *)0)->sun_path);
    if (str_print(p.api, sizeof(p.api), "%s/teremd.sock", p.run) < 0 ||
        str_print(p.keep, sizeof(p.keep), "%s/keep.sock", p.run) < 0 || strlen(p.api) >= room)
        return err_set(err, ERR_USAGE,
                       "--root: %s is too long for a Unix socket; choose a shorter directory",
                       p.api);
    *place = p;
    return 0;
}
