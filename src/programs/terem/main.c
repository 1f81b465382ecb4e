/* SPDX-License-Identifier: GPL-2.0-or-later */
/* terem — the command line of Terem.  Reads its words, runs one command, tells one sentence. */
#include "cli.h"
#include "command.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static void look_around(struct cli *cli, const struct args *a)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    bool able = term && !str_eq(term, "dumb") && *term;
    cli->json = args_has(a, "json");
    cli->quiet = args_has(a, "quiet");
    cli->out_tty = isatty(STDOUT_FILENO);
    cli->err_live = able && isatty(STDERR_FILENO);
    cli->color = able && cli->out_tty && !(no_color && *no_color);
    cli->status = -1;
}

static int run(struct cli *cli, const struct args *a, struct err *err)
{
    look_around(cli, a);
    if (args_has(a, "version"))
        return cmd_version.run(NULL, a, err);
    if (!a->command || args_has(a, "help"))
        return cmd_help.run(cli, a, err);
    int r = place_init(&cli->place, args_get(a, "root"), err);
    return r < 0 ? r : a->command->run(cli, a, err);
}

int main(int argc, char **argv)
{
    struct cli cli = {.status = -1};
    struct err err = {0};
    struct args args = {0};
    /* A reader that went away ends us quietly, even when our parent ignored the signal. */
    signal(SIGPIPE, SIG_DFL);
    int r = args_parse(argc, argv, &args, &err);
    if (r == 0)
        r = run(&cli, &args, &err);
    if (fflush(stdout) == EOF && r == 0)
        r = err_sys(&err, "cannot write to standard output");
    if (r < 0 && err.text[0])
        cli_complain("%s", err.text);
    int status = cli.status >= 0 ? cli.status : r < 0 ? err_row(-r)->exit_status : 0;
    /* exec and the like keep 1 and 2 for the command inside. */
    if (r < 0 && cli.status < 0 && args.command && args.command->rest == REST_FREE)
        status = 125;
    args_done(&args);
    if (cli.died_of) { /* not exit(130): a shell ends its loop only with who died of the signal */
        signal(cli.died_of, SIG_DFL);
        raise(cli.died_of);
    }
    return status;
}
