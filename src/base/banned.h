/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * banned — calls that this house does not use, refused by the compiler.  Included before every
 * file by the build.  Use str_print() and str_add(), number_parse(), and fork with exec.
 */
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef TEREM_BPF /* for kernel/bpf*.c: it names BPF helpers strtol and strtoul */
#include <linux/bpf.h>
#endif

#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf gets strtok
#pragma GCC poison atoi atol atoll strtol strtoul strtoll strtoull tmpnam mktemp
/* system() and popen() cannot be poisoned, because `system` names one kind of VE; the linker
 * would not know them either way: this declaration makes a call an error. */
#ifndef __clang__ /* which takes that attribute on the first declaration only */
int system(const char *command) __attribute__((error("fork and exec instead of system()")));
FILE *popen(const char *command, const char *type)
    __attribute__((error("fork and exec instead of popen()")));
#endif
