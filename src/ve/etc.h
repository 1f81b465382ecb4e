/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * etc — what a VE finds in its /etc of its name, its address and who resolves names, and what its
 * own network programs must not do to an address that comes from outside.
 *
 * The functions are for container_file.merge: from what stands there, foreign bytes, they make what
 * shall stand there, or say that it is to be left.
 */
#pragma once

#include <stdbool.h>

struct str;

/* hosts(5).  text: the lines of the VE's own name, which stand between two marks; all else is kept.
 * A file that holds nothing gets localhost, too. */
bool etc_hosts(const char *now, bool own, const char *text, struct str *ret);
/* A file that is ours as long as its first line says so: `text`, which begins with ETC_MARK.  One
 * that the VE itself has written without that line is left. */
bool etc_marked(const char *now, bool own, const char *text, struct str *ret);
#define ETC_MARK "# Written by Terem at every start; without this line the file is yours.\n"
/* interfaces(5) of ifupdown, ifupdown-ng and busybox: nobody raises eth0 or takes it down by
 * itself, and who does so by hand finds the method "manual"; lo has it, too, since busybox fails
 * where 127.0.0.1 is there already.  A file that holds nothing gets `text`; a `text` of "": it is
 * left. */
bool etc_interfaces(const char *now, bool own, const char *text, struct str *ret);

/* What programs of the VE's own that set up a network must be told, where there are any. */
#define ETC_FILES 4
struct etc_file {
    const char *path, *text;
    bool (*merge)(const char *now, bool own, const char *text, struct str *ret);
};
extern const struct etc_file etc_files[ETC_FILES];
