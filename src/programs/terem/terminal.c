/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "terminal.h"

#include "base/cleanup.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* Mutable globals, against the house's habit: handlers and exits must reach them. */
static int raw_fd = -1;
static unsigned raw_flags;
static struct termios before, raw;

static const int fatal[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGABRT, SIGSEGV, SIGBUS};

static void screen(const char *text)
{
    ssize_t n = raw_flags & TERMINAL_SCREEN ? write(STDOUT_FILENO, text, strlen(text)) : 0;
    (void)n; /* a terminal that cannot be written to needs no restoring */
}

static void apply(void)
{
    tcsetattr(raw_fd, TCSADRAIN, &raw);
    screen("\x1b[?1049h\x1b[?25l");
}

static void undo(void)
{
    screen("\x1b[?25h\x1b[?1049l");
    /* Not TCSADRAIN: output that is stopped by Ctrl-S must not keep us. */
    tcsetattr(raw_fd, TCSANOW, &before);
}

static void on_fatal(int sig)
{
    undo();
    signal(sig, SIG_DFL);
    raise(sig);
}

static void on_stop(int sig)
{
    int keep = errno;
    undo();
    raise(SIGSTOP);
    apply();
    errno = keep;
}

int terminal_raw(int fd, unsigned flags, struct err *err)
{
    struct sigaction sa = {.sa_handler = on_fatal}, stop = {.sa_handler = on_stop}, old;
    if (tcgetattr(fd, &before) < 0)
        return err_sys(err, "cannot read the terminal's settings");
    raw = before;
    cfmakeraw(&raw);
    raw_fd = fd;
    raw_flags = flags;
    for (size_t i = 0; i < ARRAY_SIZE(fatal); i++)
        if (sigaction(fatal[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(fatal[i], &sa, NULL);
    sigaction(SIGTSTP, &stop, NULL);
    apply();
    return 0;
}

void terminal_restore(void)
{
    if (raw_fd < 0)
        return;
    undo();
    for (size_t i = 0; i < ARRAY_SIZE(fatal); i++)
        signal(fatal[i], SIG_DFL);
    signal(SIGTSTP, SIG_DFL);
    raw_fd = -1;
}
