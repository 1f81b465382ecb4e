/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of commands.  Everything about a command that is not code stands here, once. */
#include "cli.h"
#include "command.h"

#define END \
    {       \
        0   \
    }

const struct option_spec command_global_options[] = {
    {"root", 0, "DIR", "the instance that lives in DIR (default: TEREM_ROOT, else the system's)",
     COMPLETE_FILES},
    {"json", 0, NULL, "print JSON, in the shapes of the API"},
    {"quiet", 'q', NULL, "print no progress and no confirmation; of lists, only the names"},
    {"help", 'h', NULL, "explain the command"},
    {"version", 0, NULL, "print the version of terem"},
    END,
};

const char *const command_later[] = {"snapshot", "clone",  "backup",  "restore", "repair",
                                     "network",  "switch", "suspend", "migrate", NULL};

const struct command_group command_groups[] = {
    {"template", "base systems that VEs are made from"},
    {"profile", "named sets of parameters"},
    {"jobs", "long work"},
    {"node", "the machine as a whole"},
    END,
};

#define OPT_NO_WAIT                                                       \
    {                                                                     \
        "no-wait", 0, NULL, "do not wait: print the job's number and end" \
    }
#define OPT_ALL                                                   \
    {                                                             \
        "all", 'a', NULL, "every VE in a state that this changes" \
    }
#define OPT_LABEL                                                                 \
    {                                                                             \
        "label", 'l', "K=V", "every such VE that has this label", COMPLETE_LABELS \
    }
#define OPT_ENV                                                                   \
    {                                                                             \
        "env", 'e', "NAME=VALUE", "set an environment variable (may be repeated)" \
    }
#define OPT_USER                                                                \
    {                                                                           \
        "user", 'u', "USER", "run as this user of the VE: a name, or UID[:GID]" \
    }
#define OPT_WORKDIR                                              \
    {                                                            \
        "workdir", 'w', "DIR", "run in this directory of the VE" \
    }

static const struct option_spec life_options[] = {OPT_ALL, OPT_LABEL, OPT_NO_WAIT, END};

static const struct option_spec stop_options[] = {
    OPT_ALL,
    OPT_LABEL,
    {"timeout", 't', "TIME", "how long the VE may take before it is killed (default: 30s)"},
    {"force", 'f', NULL, "kill it at once"},
    OPT_NO_WAIT,
    END,
};

static const struct option_spec squeeze_options[] = {
    OPT_ALL,
    OPT_LABEL,
    {"to", 0, "SIZE", "how much memory the VE may keep (default: what it uses now)"},
    OPT_NO_WAIT,
    END,
};

static const struct option_spec destroy_options[] = {
    OPT_ALL,
    OPT_LABEL,
    {"force", 'f', NULL, "also when it runs: kill it first"},
    {"yes", 'y', NULL, "do not ask"},
    OPT_NO_WAIT,
    END,
};

static const struct option_spec create_options[] = {
    {"template", 't', "NAME", "the template it is made from (default: busybox)",
     COMPLETE_TEMPLATES},
    {"profile", 'p', "NAME", "the profile whose parameters it has where --set says nothing else",
     COMPLETE_PROFILES},
    {"set", 's', "KEY=VALUE", "a resource parameter (may be repeated)", COMPLETE_ASSIGNMENTS},
    {"label", 'l', "K=V", "a label (may be repeated)", COMPLETE_LABELS},
    {"app", 0, NULL, "an application VE: one command, no init of its own"},
    OPT_ENV,
    OPT_USER,
    OPT_WORKDIR,
    {"autostart", 0, NULL, "start it when teremd starts"},
    {"restart", 0, "WHEN", "start it again when it ends: no, on-failure or always", COMPLETE_WORDS,
     "no on-failure always"},
    {"nesting", 0, NULL, "let it run containers of its own inside"},
    {"start", 0, NULL, "start it at once"},
    OPT_NO_WAIT,
    END,
};

static const struct option_spec profile_set_options[] = {
    {"force", 'f', NULL, "also set a limit below what a VE uses, with what that does"},
    END,
};

static const struct option_spec show_options[] = {
    {"all", 'a', NULL, "every parameter in force, with where it comes from"},
    END,
};

static const struct option_spec events_options[] = {
    {"ve", 0, "NAME", "only what happens to this VE", COMPLETE_VES},
    {"type", 0, "TYPE", "only events of this type, or of this group: ve.state, ve"},
    {"progress", 0, NULL, "also each step of a job"},
    END,
};

static const struct option_spec set_options[] = {
    {"profile", 'p', "NAME", "have the parameters of this profile; none: of no profile",
     COMPLETE_PROFILES},
    {"label", 'l', "K[=V]", "set a label; without =V remove it (may be repeated)", COMPLETE_LABELS},
    {"autostart", 0, "on|off", "start it when teremd starts", COMPLETE_WORDS, "on off"},
    {"restart", 0, "WHEN", "start it again when it ends: no, on-failure or always", COMPLETE_WORDS,
     "no on-failure always"},
    {"name", 0, "NAME", "give it another name"},
    {"force", 'f', NULL, "also set a limit below what is in use, with what that does"},
    END,
};

static const struct option_spec counters_options[] = {
    {"failed", 0, NULL, "only those whose limit said no; without VE, of all that run"},
    END,
};

static const struct option_spec top_options[] = {
    {"label", 'l', "K=V", "only VEs that have this label", COMPLETE_LABELS},
    {"filter", 0, "TEXT", "only VEs with this in their name"},
    {"sort", 0, "ORDER",
     "cpu (the default), memory, pressure, io, traffic, processes, refused or name", COMPLETE_WORDS,
     "cpu memory pressure io traffic processes refused name"},
    {"interval", 0, "TIME", "how often it is renewed (default: 2s)"},
    {"once", '1', NULL, "print it once and end"},
    END,
};

static const struct option_spec list_options[] = {
    {"label", 'l', "K=V", "only VEs that have this label", COMPLETE_LABELS},
    {"columns", 'c', "NAMES",
     "which columns: among name, id, state, kind, template, address, memory, pids, uptime, labels, "
     "created"},
    END,
};

static const struct option_spec exec_options[] = {
    {"tty", 't', NULL, "give the command a terminal (default: when input and output are one)"},
    {"no-tty", 'T', NULL, "give it no terminal"},
    OPT_ENV,
    OPT_USER,
    OPT_WORKDIR,
    END,
};

static const struct option_spec enter_options[] = {OPT_ENV, OPT_USER, OPT_WORKDIR, END};

static const struct option_spec logs_options[] = {
    {"follow", 'f', NULL, "go on with what is written from now on"},
    {"lines", 'n', "COUNT", "how many lines from the end (default: 100)"},
    {"raw", 'r', NULL, "leave control bytes as they are, also on a terminal"},
    END,
};

static const struct option_spec push_options[] = {
    {"mode", 'm', "MODE", "octal mode of the file (default: that of the source)"},
    {"uid", 'u', "UID", "owner inside the VE (default: 0)"},
    {"gid", 'g', "GID", "group inside the VE (default: 0)"},
    END,
};

static const struct option_spec build_options[] = {
    {"include", 'i', "PKG,...", "packages to install on top (may be repeated)"},
    {"name", 0, "NAME", "what the template is called (default: the name of its base)"},
    OPT_NO_WAIT,
    END,
};

static const struct option_spec no_wait_options[] = {OPT_NO_WAIT, END};
static const struct option_spec jobs_options[] = {
    {"all", 'a', NULL, "also those that have ended, the newest first"},
    {"limit", 'n', "COUNT", "at most so many (default: 50)"},
    END,
};
static const struct option_spec params_options[] = {
    {"all", 'a', NULL, "also those that this version cannot set yet"}, END};
static const struct option_spec node_options[] = {
    {"force", 'f', NULL, "kill the VEs at once"}, OPT_NO_WAIT, END};

#define LIFE_USAGE "VE... | --all | --label K=V"
#define MANY       (ARGS_MAX)
#define LIFE                                                              \
    .usage = LIFE_USAGE, .min = 0, .max = MANY, .complete = COMPLETE_VES, \
    .complete_more = COMPLETE_VES
#define LIFE_DETAIL                                                                         \
    "Several VEs are worked on at the same time. Each one that fails is named on standard " \
    "error, the others are done nevertheless, and the exit status is 1. With --all or "     \
    "--label there may be none: that is told, and is no failure.\n\n"                       \
    "SIGINT (Ctrl-C) ends the waiting, not the work: terem jobs cancel ends the work."

const struct command command_table[] = {
    {.name = "doctor",
     .summary = "tell what this machine offers and what is missing",
     .usage = "",
     .run = cmd_doctor,
     .detail = "Prints each feature of the kernel and each program that Terem can use, whether it "
               "is here, what its absence costs, and what to do about it.",
     .examples = {"terem doctor"}},
    {.name = "template build",
     .summary = "build a template from a distribution's packages",
     .usage = "BASE",
     .min = 1,
     .max = 1,
     .options = build_options,
     .run = cmd_template_build,
     .detail = "BASE is busybox, debian-12 or debian-13. The packages come from the package "
               "archive that this machine is set up for. It is built as a job: interrupted or "
               "failed, it leaves nothing behind.",
     .examples = {"terem template build debian-12",
                  "terem template build debian-12 --include nginx,openssh-server --name web"}},
    {.name = "template import",
     .summary = "make a template from an archive, a directory or an OCI image",
     .usage = "NAME SOURCE",
     .min = 2,
     .max = 2,
     .complete_more = COMPLETE_FILES,
     .options = no_wait_options,
     .run = cmd_template_import,
     .detail = "SOURCE is an archive of a root file system (.tar, .tar.gz, .tar.xz, .tar.zst), a "
               "directory, or oci:PATH[:TAG], an OCI image as a layout directory or as an archive. "
               "teremd opens it: the path is one of this machine.",
     .examples = {"terem template import alpine ./alpine-rootfs.tar.gz",
                  "terem template import nginx oci:./nginx.tar"}},
    {.name = "template list",
     .summary = "list the templates",
     .usage = "",
     .run = cmd_template_list,
     .detail = "SIZE is that of its layers' files. Layers are shared: templates with common "
               "layers need less than the sum.",
     .examples = {"terem template list"}},
    {.name = "template show",
     .summary = "show one template",
     .usage = "NAME",
     .min = 1,
     .max = 1,
     .complete = COMPLETE_TEMPLATES,
     .run = cmd_template_show,
     .detail = "Prints how it starts, where it came from, its layers, and the VEs made from it.",
     .examples = {"terem template show debian-12"}},
    {.name = "template remove",
     .summary = "remove a template",
     .usage = "NAME",
     .min = 1,
     .max = 1,
     .complete = COMPLETE_TEMPLATES,
     .options = no_wait_options,
     .run = cmd_template_remove,
     .detail = "VEs that were made from it keep their layers; layers that nobody needs are "
               "deleted.",
     .examples = {"terem template remove debian-12"}},
    {.name = "create",
     .summary = "make a VE",
     .usage = "VE [-- COMMAND...]",
     .min = 1,
     .max = 1,
     .rest = REST_DASHES,
     .options = create_options,
     .run = cmd_create,
     .detail = "Makes a VE from a template. Its name is 1 to 63 of a-z, 0-9 and -. A system VE "
               "boots the init of its template; an application VE (--app, or a COMMAND) runs one "
               "command, by default that of its template.\n\n"
               "Parameters are those of terem-parameters(7).",
     .examples = {"terem create web1 --template debian-12 --start",
                  "terem create web1 -t debian-12 -s memory.limit=512M -s cpu.limit=50 -l tier=web",
                  "terem create job1 -t busybox --start -- /bin/sh -c 'echo hello'"}},
    {.name = "start",
     .summary = "start VEs",
     LIFE,
     .options = life_options,
     .run = cmd_start,
     .detail = LIFE_DETAIL,
     .examples = {"terem start web1 web2", "terem start --label tier=web"}},
    {.name = "stop",
     .summary = "shut VEs down",
     LIFE,
     .options = stop_options,
     .run = cmd_stop,
     .detail = "Asks the VE's init to power off, and kills what is left when the time is "
               "over.\n\n" LIFE_DETAIL,
     .examples = {"terem stop web1", "terem stop --all --timeout 2m"}},
    {.name = "restart",
     .summary = "shut VEs down and start them again",
     LIFE,
     .options = stop_options,
     .run = cmd_restart,
     .detail = LIFE_DETAIL,
     .examples = {"terem restart web1"}},
    {.name = "kill",
     .summary = "kill every process of VEs at once",
     LIFE,
     .options = life_options,
     .run = cmd_kill,
     .detail = "Like pulling the plug: nothing inside is asked.\n\n" LIFE_DETAIL,
     .examples = {"terem kill web1"}},
    {.name = "pause",
     .summary = "freeze VEs where they stand",
     LIFE,
     .options = life_options,
     .run = cmd_pause,
     .detail = "The processes keep their memory and get no processor time.\n\n" LIFE_DETAIL,
     .examples = {"terem pause web1"}},
    {.name = "resume",
     .summary = "let paused VEs go on",
     LIFE,
     .options = life_options,
     .run = cmd_resume,
     .detail = LIFE_DETAIL,
     .examples = {"terem resume web1"}},
    {.name = "squeeze",
     .summary = "push cold memory of VEs to swap",
     LIFE,
     .options = squeeze_options,
     .run = cmd_squeeze,
     .detail = "What an idle VE holds and does not use is given back to the node: memory of its "
               "processes goes to swap or zram, what was used longest ago first, and page cache "
               "is dropped; it comes back when it is used again. It ends when what was given back "
               "is wanted again at once, or, with --to, when the VE holds no more than that. The "
               "work is done at idle priority. Where the node has no swap, or swap.limit is 0, "
               "only page cache is given back. With zram a part of what went there is still in "
               "memory, compressed, and no longer counted as the VE's.\n\n" LIFE_DETAIL,
     .examples = {"terem squeeze web1", "terem squeeze --all --to 64M"}},
    {.name = "destroy",
     .summary = "delete VEs with all their files",
     LIFE,
     .options = destroy_options,
     .run = cmd_destroy,
     .detail = "There is no way back. On a terminal it asks first, in a pipe it does not. A VE "
               "that runs is refused without --force; --all and --label mean those that are "
               "stopped or broken, with --force all.\n\n" LIFE_DETAIL,
     .examples = {"terem destroy web1", "terem destroy --label tier=test --force --yes"}},
    {.name = "list",
     .summary = "list the VEs",
     .usage = "",
     .options = list_options,
     .run = cmd_list,
     .detail = "With --quiet only the names, one a line.",
     .examples = {"terem list", "terem list --label tier=web --columns name,state,labels",
                  "terem list --json | jq -r '.[].addresses[0]'"}},
    {.name = "show",
     .summary = "show all about one VE",
     .usage = "VE",
     .min = 1,
     .max = 1,
     .complete = COMPLETE_VES,
     .options = show_options,
     .run = cmd_show,
     .detail = "Prints its settings, addresses, usage, and how it ended last. Parameters that the "
               "VE and its profile do not set are shown with --all.",
     .examples = {"terem show web1", "terem show --all web1"}},
    {.name = "top",
     .summary = "watch what the running VEs use",
     .usage = "",
     .options = top_options,
     .run = cmd_top,
     .detail =
         "A table that is renewed every two seconds; in a pipe, or with --once, it is printed "
         "once. CPU% and GUAR, the guarantee, are of one core; MEM stands beside its LIMIT. C/M/I "
         "is the pressure: the percentage of the last ten seconds in which something in the VE "
         "waited for the processor, for memory and for disks. IO/s and NET/s are bytes a second, "
         "both ways. REFUSED names the limit that said no most often and how often since the VE's "
         "start, with what all others refused as (+225); while one rises it is marked with ! and "
         "by how much it rose. With 112 "
         "columns and more each number has a column of its own.\n\n"
         "Keys: q quits. c, m, s, i, t, p, f, n order by cpu, memory, pressure (stalls), io, "
         "traffic, processes, refusals and name. / types a filter of names, Esc takes it away. "
         "Arrows, space, Page Up, Page Down, g and G scroll. teremd reads nothing while nobody "
         "looks.",
     .examples = {"terem top", "terem top --sort memory --label tier=web",
                  "terem top --once --sort refused",
                  "terem top --json | jq '.[] | "
                  "select(.rising)'"}},
    {.name = "exec",
     .summary = "run a command in a VE",
     .usage = "VE [--] COMMAND...",
     .min = 1,
     .max = 1,
     .rest = REST_FREE,
     .complete = COMPLETE_VES,
     .options = exec_options,
     .run = cmd_exec,
     .detail = "Standard input, output and error are those of terem. Without a terminal the "
               "signals HUP, INT, QUIT, TERM, USR1 and USR2 are passed on to the command; a "
               "second INT or TERM also ends terem itself (130, 143). With --json the command runs "
               "to its end and status and output are printed as one "
               "object.",
     .examples = {"terem exec web1 -- ls -l /", "echo hello | terem exec web1 -- tee /tmp/x",
                  "terem exec -u www-data web1 -- id"},
     .status = "That of the command; 128 + N when signal N killed it. 125: terem itself failed, or "
               "the user or directory is not there, 126: the command cannot be run, 127: there is "
               "no such command."},
    {.name = "enter",
     .summary = "open a login shell in a VE",
     .usage = "VE",
     .min = 1,
     .max = 1,
     .complete = COMPLETE_VES,
     .options = enter_options,
     .run = cmd_enter,
     .detail = "Runs /bin/bash where the VE has it, else /bin/sh, on a terminal of its own; the "
               "size of the window follows yours. The shell ends with exit or Ctrl-D.",
     .examples = {"terem enter web1"},
     .status = "That of the shell; 125: terem itself failed."},
    {.name = "console",
     .summary = "join the console of a VE",
     .usage = "VE",
     .min = 1,
     .max = 1,
     .complete = COMPLETE_VES,
     .run = cmd_console,
     .detail = "The console is where the VE's init writes and where a login may wait. Ctrl-] "
               "leaves it; the VE goes on. Several may look at one console at a time.",
     .examples = {"terem console web1"}},
    {.name = "logs",
     .summary = "print what a VE's console showed",
     .usage = "VE",
     .min = 1,
     .max = 1,
     .complete = COMPLETE_VES,
     .options = logs_options,
     .run = cmd_logs,
     .detail = "On a terminal colours are kept and every other control byte is shown as \\xNN, so "
               "that a VE cannot act on your terminal. In a pipe the bytes are left as they are.",
     .examples = {"terem logs web1", "terem logs -f -n 20 web1"}},
    {.name = "set",
     .summary = "change a VE's parameters and settings",
     .usage = "VE [KEY=VALUE...]",
     .min = 1,
     .max = MANY,
     .complete = COMPLETE_VES,
     .complete_more = COMPLETE_ASSIGNMENTS,
     .options = set_options,
     .run = cmd_set,
     .detail =
         "All changes are made together or not at all, and live unless terem-parameters(7) says "
         "otherwise. KEY=default takes the parameter's default again. A limit below what is in use "
         "is refused with what it would do; --force does it.",
     .examples = {"terem set web1 memory.limit=1G cpu.limit=200", "terem set web1 --label tier=db",
                  "terem set web1 cpu.limit=default --autostart on"}},
    {.name = "profile list",
     .summary = "list the profiles",
     .usage = "",
     .run = cmd_profile_list,
     .detail = "A profile is a named set of parameters. A VE that uses it has them where it has no "
               "value of its own: terem create --profile, terem set --profile. The profiles small, "
               "medium and large are there from the beginning, to be changed or removed.",
     .examples = {"terem profile list", "terem create web1 --profile small"}},
    {.name = "profile show",
     .summary = "show one profile",
     .usage = "NAME",
     .min = 1,
     .max = 1,
     .complete = COMPLETE_PROFILES,
     .run = cmd_profile_show,
     .detail = "Prints its parameters and the VEs that use it.",
     .examples = {"terem profile show small"}},
    {.name = "profile create",
     .summary = "make a profile",
     .usage = "NAME [KEY=VALUE...]",
     .min = 1,
     .max = MANY,
     .complete_more = COMPLETE_ASSIGNMENTS,
     .run = cmd_profile_create,
     .detail = "Its name is like that of a VE. Parameters are those of terem-parameters(7).",
     .examples = {"terem profile create web memory.limit=1G cpu.limit=150 processes=300"}},
    {.name = "profile set",
     .summary = "change a profile, and all VEs that use it",
     .usage = "NAME KEY=VALUE...",
     .min = 2,
     .max = MANY,
     .complete = COMPLETE_PROFILES,
     .complete_more = COMPLETE_ASSIGNMENTS,
     .options = profile_set_options,
     .run = cmd_profile_set,
     .detail = "The new parameters are checked for, and applied to, every VE that uses the "
               "profile, live, together or not at all: when one cannot have them it is named and "
               "nothing is changed. A VE's own parameters stay. KEY=default takes a parameter out "
               "of the profile.",
     .examples = {"terem profile set small memory.limit=768M", "terem profile set web "
                                                               "cpu.limit=default"}},
    {.name = "profile remove",
     .summary = "remove a profile that no VE uses",
     .usage = "NAME",
     .min = 1,
     .max = 1,
     .complete = COMPLETE_PROFILES,
     .run = cmd_profile_remove,
     .detail = "One that is in use is refused, with the names of its VEs.",
     .examples = {"terem profile remove web"}},
    {.name = "params",
     .summary = "list the resource parameters, or explain one",
     .usage = "[KEY | GROUP]",
     .max = 1,
     .complete = COMPLETE_PARAMS,
     .options = params_options,
     .run = cmd_params,
     .detail =
         "The table of terem-parameters(7). HERE tells whether this node can enforce it; what it "
         "cannot is listed below with the reason. Without teremd that column is missing. GROUP is "
         "what stands before the point: cpu for all of the processor.",
     .examples = {"terem params", "terem params cpu", "terem params memory.limit"}},
    {.name = "counters",
     .summary = "show what a VE holds of each limited resource",
     .usage = "VE | --failed",
     .max = 1,
     .complete = COMPLETE_VES,
     .options = counters_options,
     .run = cmd_counters,
     .detail = "HELD now and MAXHELD at most since its start, beside BARRIER (the soft limit) and "
               "LIMIT; FAILCNT is how often the limit said no. What this kernel does "
               "not count is shown as ?. The VE itself reads the same in "
               "/proc/fs/user_beancounters.",
     .examples = {"terem counters web1", "terem counters --failed"}},
    {.name = "push",
     .summary = "copy a file or a directory into a VE",
     .usage = "VE SOURCE PATH | SOURCE VE:PATH",
     .min = 2,
     .max = 3,
     .complete = COMPLETE_VES,
     .complete_more = COMPLETE_FILES,
     .options = push_options,
     .run = cmd_push,
     .detail = "SOURCE is a file, a directory, or - for standard input. PATH is absolute inside "
               "the VE; when it ends with / the source's name is added, and a file goes into a "
               "directory that is there. Of a directory the "
               "contents go below PATH. What is made belongs to root there unless --uid and --gid "
               "say otherwise.",
     .examples = {"terem push web1 ./site.conf /etc/nginx/conf.d/",
                  "terem push web1 ./htdocs /var/www/html",
                  "echo hi | terem push web1 - /etc/motd"}},
    {.name = "pull",
     .summary = "copy a file or a directory out of a VE",
     .usage = "VE PATH [DEST] | VE:PATH [DEST]",
     .min = 1,
     .max = 3,
     .complete = COMPLETE_VES,
     .complete_more = COMPLETE_FILES,
     .run = cmd_pull,
     .detail = "DEST is a file, a directory to put it into (default: the current one), or - for "
               "standard output, where a directory comes as a tar archive. Owners, special bits "
               "and devices stay in the VE.",
     .examples = {"terem pull web1 /etc/hostname", "terem pull web1 /var/log ./logs-of-web1",
                  "terem pull web1 /etc - | tar -t"}},
    {.name = "events",
     .summary = "watch what happens on the node",
     .usage = "",
     .options = events_options,
     .run = cmd_events,
     .detail = "Prints each event from now on, until Ctrl-C. With --json one object a line, with "
               "all steps of jobs.",
     .examples = {"terem events", "terem events --ve web1 --type ve.refused",
                  "terem events --json | jq 'select(.type == \"ve.exit\")'"}},
    {.name = "jobs list",
     .summary = "list the open jobs",
     .usage = "",
     .options = jobs_options,
     .run = cmd_jobs_list,
     .detail = "Every operation that takes time is a job of teremd. It goes on when its client "
               "goes away.",
     .examples = {"terem jobs", "terem jobs list --all"}},
    {.name = "jobs show",
     .summary = "show one job",
     .usage = "JOB",
     .min = 1,
     .max = 1,
     .complete = COMPLETE_JOBS,
     .run = cmd_jobs_show,
     .detail = "Prints its state, times, and why it failed.",
     .examples = {"terem jobs show 12"}},
    {.name = "jobs cancel",
     .summary = "ask a job to stop",
     .usage = "JOB",
     .min = 1,
     .max = 1,
     .complete = COMPLETE_JOBS,
     .run = cmd_jobs_cancel,
     .detail = "What the job has half done is undone. A job that is faster ends as done.",
     .examples = {"terem jobs cancel 12"}},
    {.name = "node show",
     .summary = "show what the node has, has promised, and has oversold",
     .usage = "",
     .run = cmd_node_show,
     .detail =
         "GUARANTEED is the sum of what all VEs are guaranteed, stopped ones too; it never exceeds "
         "the node less its RESERVE (reserve.memory and reserve.cpu of terem.conf), and LEFT is "
         "what may still be guaranteed. LIMITS is the sum of all limits, which may exceed the "
         "node: OVERSOLD tells by how much, and how many VEs have no limit at all. Processors are "
         "in percent of one core.",
     .examples = {"terem node show"}},
    {.name = "node stop",
     .summary = "stop every VE and teremd, leaving nothing running",
     .usage = "",
     .options = node_options,
     .run = cmd_node_stop,
     .detail = "Waits until teremd has ended. To restart teremd alone, restart its service: VEs "
               "run on meanwhile.",
     .examples = {"terem node stop"}},
    {.name = "version",
     .summary = "print the versions of terem and of the teremd that answers",
     .usage = "",
     .run = cmd_version,
     .detail = "terem --version prints only its own.",
     .examples = {"terem version"}},
    {.name = "help",
     .summary = "explain a command",
     .usage = "[COMMAND]",
     .max = 2,
     .complete = COMPLETE_COMMANDS,
     .complete_more = COMPLETE_IN_GROUP,
     .run = cmd_help,
     .detail = "Without a command it lists them all.",
     .examples = {"terem help", "terem help create"}},
    /* Names that begin with '_' are for the build and for completion: not listed. */
    {.name = "_generate",
     .summary = "write the man pages or a completion script",
     .usage = "man DIR | completion bash|zsh|fish",
     .min = 2,
     .max = 2,
     .run = cmd_generate,
     .detail = "For the build."},
    {.name = "_complete",
     .summary = "print the words that may stand here",
     .usage = "ves|templates|jobs|params|labels|commands|words [GROUP]",
     .min = 1,
     .max = 2,
     .run = cmd_complete,
     .detail = "For completion scripts."},
};
const size_t command_table_size = sizeof(command_table) / sizeof(command_table[0]);
