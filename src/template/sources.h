/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sources — which Debian mirror this machine is configured with.
 *
 * I read apt's sources.list and sources.list.d/ in both formats (sources.list(5)).  Lines of the
 * wanted suite are taken as they are; if there are none, those of the machine's own Debian suite
 * are taken with the suite's name exchanged, because a mirror carries them all.
 * Other archives (somebody's packages for the same suite) are told from Debian's own by their key.
 */
#pragma once

#include "base/err.h"

/* apt_dir: "/etc/apt".  *ret: one-line entries, NULL-terminated, freed by strings_free(); empty
 * when nothing fits. */
int sources_for_suite(const char *apt_dir, const char *suite, char ***ret, struct err *err);
