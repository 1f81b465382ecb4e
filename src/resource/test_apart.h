/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests in a child, whose parent cleans up after them however it ended. */
#pragma once

/* run_all(tests) in the child; clean_up() is 0 when nothing is left.  Returned from main(). */
int test_apart(int (*run_all)(int (*tests)(void)), int (*tests)(void), int (*clean_up)(void));
