/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * terem-init — process 1 of application and rescue VEs.
 *
 *     terem-init FILE ARGV0 [ARGUMENT…]
 *
 * Executes FILE as its one service, forwards the signals that it receives, reaps whatever is left
 * to it, and ends with the service's exit status (128 + signal when a signal ended it).  What
 * still runs then is ended by the kernel, with the PID namespace.  A service that ignores SIGTERM
 * is not its matter: who sent the signal has a deadline.
 *
 * Statically linked and without any room of Terem: it is part of every VE.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void complain(const char *file, int error)
{
    char text[512];
    int n = snprintf(text, sizeof(text), "terem-init: cannot execute %.400s: %s\n", file,
                     strerror(error));
    if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
        return;
}

/* In the child: the signal mask of the service is empty, and it leads its own process group, so
 * that a signal to process 1 alone is not doubled by the terminal. */
static void run_service(char **argv, const sigset_t *old)
{
    setpgid(0, 0);
    sigprocmask(SIG_SETMASK, old, NULL);
    execv(argv[1], argv + 2);
    int error = errno;
    complain(argv[1], error);
    _exit(error == ENOENT ? 127 : 126);
}

static int status_of(int wstatus)
{
    return WIFSIGNALED(wstatus) ? 128 + WTERMSIG(wstatus) : WEXITSTATUS(wstatus);
}

/* Reaps all that have ended; 1 and its status when the service is among them. */
static int reap(pid_t service, int *ret_status)
{
    int wstatus;
    pid_t pid;
    while ((pid = waitpid(-1, &wstatus, WNOHANG)) > 0)
        if (pid == service) {
            *ret_status = status_of(wstatus);
            return 1;
        }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        static const char usage[] = "usage: terem-init FILE ARGV0 [ARGUMENT...]\n";
        if (write(STDERR_FILENO, usage, sizeof(usage) - 1) < 0)
            return 2;
        return 2;
    }
    prctl(PR_SET_NAME, "terem-init"); /* executed by descriptor, it would bear that number */
    /* Blocked and waited for: no handler, no race.  Process 1 would not even receive a signal
     * that it neither handles nor waits for. */
    sigset_t all, old;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    pid_t service = fork();
    if (service < 0) {
        complain(argv[1], errno);
        return 126;
    }
    if (service == 0)
        run_service(argv, &old);
    for (;;) {
        siginfo_t info;
        int sig = sigwaitinfo(&all, &info), status;
        if (sig < 0)
            continue;
        if (sig == SIGCHLD) {
            if (reap(service, &status))
                return status;
            continue;
        }
        /* The terminal's own stop signals mean nothing here; the rest is for the service. */
        if (sig == SIGTTIN || sig == SIGTTOU || sig == SIGTSTP)
            continue;
        kill(service, sig);
    }
}
