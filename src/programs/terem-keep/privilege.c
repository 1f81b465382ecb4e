/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "privilege.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * It stays user 0, since the log directory and the socket's directory belong to root, and teremd
 * accepts nobody else at the other end.  No capability is kept: each descriptor it works on was
 * opened by teremd, the logs are files of its own user in a directory of its own user, and what
 * it asks of a console (read, write, TIOCSWINSZ, TIOCSIG) asks for none.
 */
int privilege_drop(struct err *err)
{
    /* The bounding set first: that needs CAP_SETPCAP.  EINVAL ends it: no such capability. */
    for (int c = 0; c < 64; c++)
        if (prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
            break;
    /* Without this an exec would give user 0 everything back (capabilities(7)). */
    if (prctl(PR_SET_SECUREBITS,
              SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                  SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                  SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
              0, 0, 0) < 0)
        return err_sys(err, "cannot lock the privileges of root away");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_sys(err, "cannot set no_new_privs");
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    if (syscall(SYS_capset, &head, none) < 0)
        return err_sys(err, "cannot drop capabilities");
    return 0;
}
