/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/debian.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "template/record.h"
#include "template/sources.h"

#include <string.h>

#define ARGS_MAX    64
#define INCLUDE_MAX 8192

static const struct debian bases[] = {{"debian-12", "bookworm", "Debian 12"},
                                      {"debian-13", "trixie", "Debian 13"}};

/*
 * What people expect of a server that they log in to, and no more.  minbase brings dpkg, apt and
 * the essential packages; addresses are set from outside, so no program for it is here.
 */
static const char packages[] = "systemd,systemd-sysv,dbus,libpam-systemd,login,passwd,mount,"
                               "hostname,procps,iproute2,iputils-ping,netbase,ca-certificates,"
                               "tzdata,less,nano";

/* Runs with the new system's root as $1, as mmdebstrap's last step. */
static const char finish[] =
    "set -e\n"
    "cd \"$1\"\n"
    /* Of each VE its own: filled in at its first start. */
    ": >etc/machine-id\n"
    "rm -f var/lib/dbus/machine-id etc/ssh/ssh_host_*_key etc/ssh/ssh_host_*_key.pub\n"
    "rm -f etc/resolv.conf etc/hostname var/lib/systemd/random-seed "
    "var/lib/systemd/credential.secret\n"
    ": >etc/resolv.conf\n"
    "echo localhost >etc/hostname\n"
    "printf '127.0.0.1\\tlocalhost\\n::1\\tlocalhost ip6-localhost ip6-loopback\\n' >etc/hosts\n"
    "[ -e etc/default/locale ] || echo LANG=C.UTF-8 >etc/default/locale\n"
    /* What only waits or fails where there is no hardware and the network comes from outside;
     * tmp.mount and run-lock.mount (Debian 13) would cost two file systems for each VE. */
    "mkdir -p etc/systemd/system\n"
    "for unit in systemd-networkd-wait-online.service systemd-journald-audit.socket \\\n"
    "    systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \\\n"
    "    systemd-udev-trigger.service systemd-modules-load.service \\\n"
    "    sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \\\n"
    "    sys-fs-fuse-connections.mount dev-hugepages.mount tmp.mount \\\n"
    "    run-lock.mount proc-sys-fs-binfmt_misc.automount systemd-remount-fs.service \\\n"
    "    e2scrub_reap.service e2scrub_all.timer; do\n"
    "    ln -sf /dev/null \"etc/systemd/system/$unit\"\n"
    "done\n"
    /* A host key of its own for each VE: made before sshd first looks for it. */
    TEMPLATE_HOST_KEYS_SCRIPT
    "rm -rf var/lib/apt/lists/* var/cache/apt/*.bin var/log/*.log var/log/apt/* "
    "var/cache/ldconfig/aux-cache\n"
    "mkdir -p var/lib/apt/lists/partial\n"
    /* Nothing is to be brought up to date at the first start (systemd-update-done.service). */
    "touch -r usr etc/.updated var/.updated\n";

const struct debian *debian_find(const char *base)
{
    for (size_t i = 0; i < ARRAY_SIZE(bases); i++)
        if (str_eq(bases[i].base, base))
            return &bases[i];
    return NULL;
}

/* Package names as Debian's policy (5.6.7) has them, with "=version" or "/suite" allowed. */
static int check_include(const char *include, struct err *err)
{
    for (const char *p = include; *p;) {
        size_t n = strcspn(p, ",");
        bool first = (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9');
        size_t good = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789+-.:=~/");
        if (n < 2 || !first || good < n) {
            auto_str struct str s = str_init(512);
            str_escape(&s, p, n < 64 ? n : 64);
            return err_set(err, ERR_USAGE,
                           "\"%s\" is not the name of a package; give names with commas between, "
                           "like nginx,openssh-server",
                           str_c(&s));
        }
        p += n;
        if (*p == ',' && !*++p)
            return err_set(err, ERR_USAGE, "the list of packages ends with a comma");
    }
    if (strlen(include) > INCLUDE_MAX)
        return err_set(err, ERR_USAGE, "the list of packages is too long");
    return 0;
}

int debian_start(const struct debian *d, const char *include, const char *tmp, struct child *ret,
                 struct err *err)
{
    int r = include ? check_include(include, err) : 0;
    if (r < 0)
        return r;
    auto_free char *list = str_format("--include=%s%s%s", packages, include && *include ? "," : "",
                                      include ? include : "");
    /* Through the environment: mmdebstrap prints a hook's text, and stat(2)s it. */
    auto_free char *script = str_format("TEREM_FINISH=%s", finish);
    auto_clean(strings_freep) char **lines = NULL;
    if (!list || !script)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if ((r = sources_for_suite("/etc/apt", d->suite, &lines, err)) < 0)
        return r;
    const char *argv[ARGS_MAX] = {
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=tar",
        "--components=main", /* used only when no line of sources says them */
        "--skip=check/empty",
        list,
        "--customize-hook=eval \"$TEREM_FINISH\"",
        d->suite,
        "-",
    };
    size_t n = 10;
    /* None found: mmdebstrap itself knows Debian's default. */
    for (size_t i = 0; lines[i] && n + 1 < ARGS_MAX; i++)
        argv[n++] = lines[i];
    return child_start(argv, &(struct child_how){.isolate = true, .tmpdir = tmp, .env = script},
                       ret, err);
}

/* The word behind `before` in text, without the marks around it. */
static bool word_after(const char *text, const char *before, char *ret, size_t size)
{
    if (!str_starts(text, before))
        return false;
    text += strlen(before);
    return str_print(ret, size, "%.*s", (int)strcspn(text, " '"), text) == 0 && *ret;
}

int debian_explain(const struct debian *d, struct child *c, int r, struct err *err)
{
    char name[256];
    r = child_explain(c, "mmdebstrap", r, err);
    if (r != -ERR_SYSTEM)
        return r;
    /* What apt 2.6 and 3.0 write; the names came through check_include(). */
    if (word_after(c->why, "E: Unable to locate package ", name, sizeof(name)) ||
        word_after(c->why, "E: Couldn't find any package by glob '", name, sizeof(name)) ||
        word_after(c->why, "E: Couldn't find any package by regex '", name, sizeof(name)))
        return err_set(err, ERR_NOT_FOUND, "there is no package %s in %s (%s)", name, d->title,
                       d->suite);
    if (word_after(c->why, "E: Package '", name, sizeof(name)) &&
        strstr(c->why, "has no installation candidate"))
        return err_set(err, ERR_NOT_FOUND, "the package %s cannot be installed from %s (%s)", name,
                       d->title, d->suite);
    return r;
}
