/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/busybox.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "template/child.h"

#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUSYBOX_MAX ((size_t)16 << 20)
#define APPLETS_MAX ((size_t)64 << 10)
/* Fixed, so that two builds are one layer. */
#define BUILT_TIME 1735689600 /* 2025-01-01 */

static const struct {
    const char *path;
    mode_t mode;
} dirs[] = {
    {"./", 0755},
    {"bin", 0755},
    {"dev", 0755},
    {"etc", 0755},
    {"etc/rc.d", 0755},
    {"home", 0755},
    {"lib", 0755},
    {"mnt", 0755},
    {"opt", 0755},
    {"proc", 0555},
    {"root", 0700},
    {"run", 0755},
    {"sbin", 0755},
    {"srv", 0755},
    {"sys", 0555},
    {"tmp", 01777},
    {"usr", 0755},
    {"usr/bin", 0755},
    {"usr/lib", 0755},
    {"usr/local", 0755},
    {"usr/local/bin", 0755},
    {"usr/sbin", 0755},
    {"usr/share", 0755},
    {"var", 0755},
    {"var/cache", 0755},
    {"var/lib", 0755},
    {"var/log", 0755},
    {"var/spool", 0755},
    {"var/spool/cron", 0755},
    {"var/spool/cron/crontabs", 0755},
    {"var/tmp", 01777},
    {"var/www", 0755},
};

static const struct {
    const char *path;
    mode_t mode;
    const char *text;
} files[] = {
    {"etc/inittab", 0644,
     "# What busybox init runs (busybox.net, init/init.c); \"kill -HUP 1\" reads it again.\n"
     "::sysinit:/etc/rc start\n"
     "::askfirst:-/bin/sh\n"
     "::ctrlaltdel:/sbin/reboot\n"
     "::restart:/sbin/init\n"
     "::shutdown:/etc/rc stop\n"},
    {"etc/rc", 0755,
     "#!/bin/sh\n"
     "# Runs the executable files of /etc/rc.d with \"start\" at boot and, in reverse order, with\n"
     "# \"stop\" at the end.\n"
     "case $1 in\n"
     "start)\n"
     "    rm -f /run/reboot\n"
     "    for script in /etc/rc.d/*; do\n"
     "        [ -x \"$script\" ] && [ -f \"$script\" ] && \"$script\" start\n"
     "    done\n"
     "    ;;\n"
     "stop)\n"
     "    for script in $(ls -r /etc/rc.d); do\n"
     "        script=/etc/rc.d/$script\n"
     "        [ -x \"$script\" ] && [ -f \"$script\" ] && \"$script\" stop\n"
     "    done\n"
     "    # init would now wait for two seconds whatever still runs: end the rest here, wait "
     "until\n"
     "    # it is gone (5 seconds at most), and go at once.\n"
     "    kill -TERM -1 2>/dev/null\n"
     "    kill -HUP -1 2>/dev/null # a shell at a terminal heeds only this\n"
     "    tries=0\n"
     "    while [ $tries -lt 100 ]; do\n"
     "        others=\n"
     "        for status in /proc/[0-9]*/stat; do\n"
     "            read -r pid name state rest 2>/dev/null <\"$status\" || continue\n"
     "            [ \"$pid\" = 1 ] || [ \"$pid\" = $$ ] || [ \"$state\" = Z ] || others=$pid\n"
     "        done\n"
     "        [ -z \"$others\" ] && break\n"
     "        usleep 50000\n"
     "        tries=$((tries + 1))\n"
     "    done\n"
     "    # Our own files: sync alone walks over every file system of the machine, and without -n\n"
     "    # the other two do it again.\n"
     "    sync -f / || sync\n"
     "    if [ -e /run/reboot ]; then busybox reboot -n -f; else poweroff -n -f; fi\n"
     "    ;;\n"
     "esac\n"},
    {"sbin/reboot", 0755,
     "#!/bin/sh\n"
     "# Leaves word for /etc/rc, which cannot see what init was asked for.  The function of the\n"
     "# same name in /etc/profile is there because busybox sh takes its own applet first.\n"
     ": >/run/reboot\n"
     "exec busybox reboot \"$@\"\n"},
    {"etc/passwd", 0644,
     "root:x:0:0:root:/root:/bin/sh\n"
     "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
     "bin:x:2:2:bin:/bin:/bin/false\n"
     "www-data:x:33:33:www-data:/var/www:/bin/false\n"
     "nobody:x:65534:65534:nobody:/:/bin/false\n"},
    {"etc/group", 0644,
     "root:x:0:\ndaemon:x:1:\nbin:x:2:\ntty:x:5:\ndisk:x:6:\nwww-data:x:33:\nusers:x:100:\n"
     "nogroup:x:65534:\n"},
    {"etc/shadow", 0600,
     "root:*:20089:0:99999:7:::\ndaemon:*:20089:0:99999:7:::\nbin:*:20089:0:99999:7:::\n"
     "www-data:*:20089:0:99999:7:::\nnobody:*:20089:0:99999:7:::\n"},
    {"etc/profile", 0644,
     "export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
     "export PAGER=less ENV=/etc/profile\n"
     "reboot() { /sbin/reboot \"$@\"; }\n"
     "[ \"$PS1\" ] && PS1='\\u@\\h:\\w\\$ '\n"
     "umask 022\n"
     "# What whoever logs in should know, as pam_motd(8) has it.\n"
     "case $0 in -*) cat /run/motd.d/* 2>/dev/null ;; esac\n"},
    {"etc/shells", 0644, "/bin/sh\n/bin/ash\n"},
    {"etc/hostname", 0644, "localhost\n"},
    {"etc/hosts", 0644, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
    {"etc/resolv.conf", 0644, ""},
    {"etc/nsswitch.conf", 0644, "hosts: files dns\n"},
    {"etc/os-release", 0644,
     "ID=busybox\nNAME=\"Busybox\"\nPRETTY_NAME=\"Busybox (Terem's built-in system)\"\n"},
};

static int add(struct archive *a, const char *path, mode_t mode, const char *link, const void *data,
               size_t len, struct err *err)
{
    struct archive_entry *e = archive_entry_new();
    if (!e)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    archive_entry_set_pathname(e, path);
    archive_entry_set_mode(e, mode);
    archive_entry_set_mtime(e, BUILT_TIME, 0);
    archive_entry_set_size(e, (la_int64_t)len);
    if (link)
        archive_entry_set_symlink(e, link);
    bool ok = archive_write_header(a, e) == ARCHIVE_OK &&
              (len == 0 || archive_write_data(a, data, len) == (la_ssize_t)len);
    archive_entry_free(e);
    return ok ? 0 : err_set(err, ERR_SYSTEM, "cannot pack %s: %s", path, archive_error_string(a));
}

static int add_tree(struct archive *a, struct err *err)
{
    int r;
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        if ((r = add(a, dirs[i].path, S_IFDIR | dirs[i].mode, NULL, NULL, 0, err)) < 0)
            return r;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        if ((r = add(a, files[i].path, S_IFREG | files[i].mode, NULL, files[i].text,
                     strlen(files[i].text), err)) < 0)
            return r;
    return 0;
}

/* "bin/ls\nusr/bin/awk\n…" → a relative symbolic link for each. */
static int add_applets(struct archive *a, char *list, struct err *err)
{
    char *save = NULL;
    for (char *path = strtok_r(list, "\n", &save); path; path = strtok_r(NULL, "\n", &save)) {
        const char *link;
        if (str_starts(path, "usr/bin/") || str_starts(path, "usr/sbin/"))
            link = "../../bin/busybox";
        else if (str_starts(path, "sbin/"))
            link = "../bin/busybox";
        else if (str_starts(path, "bin/"))
            link = "busybox";
        else
            continue; /* "linuxrc" */
        if (str_eq(path, "bin/busybox") || str_eq(path, "sbin/reboot"))
            continue;
        int r = add(a, path, S_IFLNK | 0777, link, NULL, 0, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* A static program has no interpreter: one with it would not run in the template. */
static bool is_static(const char *program, size_t len)
{
    Elf64_Ehdr head;
    if (len < sizeof(head))
        return false;
    memcpy(&head, program, sizeof(head));
    if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
        head.e_phentsize != sizeof(Elf64_Phdr))
        return false;
    for (size_t i = 0; i < head.e_phnum; i++) {
        Elf64_Phdr part;
        size_t at = head.e_phoff + i * sizeof(part);
        if (at > len || len - at < sizeof(part))
            return false;
        memcpy(&part, program + at, sizeof(part));
        if (part.p_type == PT_INTERP)
            return false;
    }
    return true;
}

static int find_busybox(const char **ret_path, char **ret, size_t *ret_len, struct err *err)
{
    static const char *const places[] = {"/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static",
                                         "/usr/lib/busybox/busybox"};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        auto_free char *program = NULL;
        size_t len = 0;
        if (fd_read_file_at(AT_FDCWD, places[i], BUSYBOX_MAX, &program, &len, NULL) < 0 ||
            !is_static(program, len))
            continue;
        *ret = steal_ptr(&program);
        *ret_len = len;
        *ret_path = places[i];
        return 0;
    }
    return err_set(err, ERR_NOT_FOUND,
                   "there is no static busybox on this machine; install the package "
                   "busybox-static and try again");
}

int busybox_tar(int *ret_fd, struct err *err)
{
    auto_free char *program = NULL, *applets = NULL;
    size_t len = 0;
    const char *path = NULL;
    int r = find_busybox(&path, &program, &len, err);
    if (r < 0)
        return r;
    const char *const argv[] = {path, "--list-full", NULL};
    if ((r = child_output(argv, APPLETS_MAX, &applets, err)) < 0)
        return r;
    auto_fd int fd = memfd_create("busybox.tar", MFD_CLOEXEC);
    struct archive *a = archive_write_new();
    if (fd < 0 || !a)
        return err_sys(err, "cannot make room for the archive");
    if (archive_write_set_format_pax_restricted(a) != ARCHIVE_OK ||
        archive_write_open_fd(a, fd) != ARCHIVE_OK)
        r = err_set(err, ERR_SYSTEM, "cannot pack: %s", archive_error_string(a));
    if (r == 0 && (r = add_tree(a, err)) == 0 &&
        (r = add(a, "bin/busybox", S_IFREG | 0755, NULL, program, len, err)) == 0)
        r = add_applets(a, applets, err);
    if (r == 0 && archive_write_close(a) != ARCHIVE_OK)
        r = err_set(err, ERR_SYSTEM, "cannot pack: %s", archive_error_string(a));
    archive_write_free(a);
    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
        r = err_sys(err, "cannot read the archive");
    if (r < 0)
        return r;
    *ret_fd = steal_fd(&fd);
    return 0;
}
