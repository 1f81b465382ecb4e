/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "resource/test_apart.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int test_apart(int (*run_all)(int (*tests)(void)), int (*tests)(void), int (*clean_up)(void))
{
    signal(SIGTERM, SIG_IGN); /* of a test runner that gave up: the child dies of it, we clean */
    signal(SIGINT, SIG_IGN);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGTERM, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        int r = run_all(tests);
        fflush(NULL);
        _exit(r ? 1 : 0);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 1;
    return clean_up() || !WIFEXITED(status) || WEXITSTATUS(status);
}
