/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "container/internal.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENV_MAX    512
#define ARG_MAX_N  4096
#define NOFILE_MAX 524288 /* as distributions have it; programs close them all one by one */

int process_detach(struct err *err)
{
    /* Raw numbers: the C library hides the real-time signals that it keeps for itself, and a
     * disposition of "ignore" survives exec. */
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        unsigned long mask;
    } dfl = {0};
    for (int sig = 1; sig <= 64; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            syscall(SYS_rt_sigaction, sig, &dfl, NULL, sizeof(dfl.mask));
    unsigned long none = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none));
    umask(022);
    struct sched_param normal = {0};
    sched_setscheduler(0, SCHED_OTHER,
                       &normal); /* what the caller lowered, where that is allowed */
    setpriority(PRIO_PROCESS, 0, 0);
    syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, 0);
    prctl(PR_SET_TIMERSLACK, 0);
    personality(PER_LINUX);
    if (setsid() < 0 && errno != EPERM)
        return err_sys(err, "cannot make a session");
    return 0;
}

void process_expose(pid_t pid)
{
    char path[48];
    auto_free char *own = NULL;
    /* It has ours; to write it the kernel looks at every process of the machine, as the child
     * shares its memory with another (__set_oom_adj() in 6.18). */
    if (fd_read_file_at(AT_FDCWD, "/proc/self/oom_score_adj", 16, &own, NULL, NULL) == 0 &&
        str_eq(str_trim(own), "0"))
        return;
    str_print(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
    /* Refused when the caller's is above 0 and it may not lower it: then so be it. */
    fd_write_value_at(AT_FDCWD, path, NULL, "0");
}

int process_join(const int *procs, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++)
        if (write(procs[i], "0", 1) < 0)
            return err_sys(err, "cannot join its cgroup");
    return 0;
}

/* The kernel's own for the first process, with what distributions raise. */
static const struct {
    int resource;
    rlim_t soft, hard;
} limits[] = {
    {RLIMIT_CORE, 0, RLIM_INFINITY},
    {RLIMIT_CPU, RLIM_INFINITY, RLIM_INFINITY},
    {RLIMIT_DATA, RLIM_INFINITY, RLIM_INFINITY},
    {RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY},
    {RLIMIT_AS, RLIM_INFINITY, RLIM_INFINITY},
    {RLIMIT_RSS, RLIM_INFINITY, RLIM_INFINITY},
    {RLIMIT_LOCKS, RLIM_INFINITY, RLIM_INFINITY},
    {RLIMIT_NPROC, RLIM_INFINITY, RLIM_INFINITY}, /* the pids cgroup counts */
    {RLIMIT_STACK, 8 << 20, RLIM_INFINITY},
    {RLIMIT_MSGQUEUE, 819200, 819200},
    {RLIMIT_NICE, 0, 0},
    {RLIMIT_RTPRIO, 0, 0},
};

/* Those that parameters give; each soft limit is at most `soft`. */
static const struct {
    int resource;
    size_t offset; /* in struct container_limits */
    rlim_t soft;
    const char *key;
} given[] = {
    {RLIMIT_NOFILE, offsetof(struct container_limits, nofile), 1024, "files"},
    {RLIMIT_MEMLOCK, offsetof(struct container_limits, locked), RLIM_INFINITY, "memory.locked"},
    {RLIMIT_SIGPENDING, offsetof(struct container_limits, signals), RLIM_INFINITY, "signals"},
};

#define N_LIMITS (ARRAY_SIZE(limits) + ARRAY_SIZE(given))

static int limit_at(const struct container_limits *l, size_t i, struct rlimit *ret)
{
    if (i < ARRAY_SIZE(limits)) {
        *ret = (struct rlimit){limits[i].soft, limits[i].hard};
        return limits[i].resource;
    }
    i -= ARRAY_SIZE(limits);
    uint64_t n;
    memcpy(&n, (const char *)l + given[i].offset, sizeof(n));
    if (given[i].resource == RLIMIT_NOFILE && n > NOFILE_MAX)
        n = NOFILE_MAX;
    *ret = (struct rlimit){.rlim_max = n == UINT64_MAX ? RLIM_INFINITY : (rlim_t)n};
    ret->rlim_cur = ret->rlim_max < given[i].soft ? ret->rlim_max : given[i].soft;
    return given[i].resource;
}

void process_raise_limits(const struct container_limits *l)
{
    for (size_t i = 0; i < N_LIMITS; i++) {
        struct rlimit now, want;
        int resource = limit_at(l, i, &want);
        if (getrlimit(resource, &now) < 0 || now.rlim_max >= want.rlim_max)
            continue;
        now.rlim_max = want.rlim_max;
        /* Refused without CAP_SYS_RESOURCE (a machine that is itself a container). */
        setrlimit(resource, &now);
    }
}

/* Kept over fork and exec since Linux 6.7 (container_limits_check() has looked). */
static int set_dedup(const struct container_limits *l, struct err *err)
{
    if (l->dedup && prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) < 0)
        return err_sys(err, "cannot let the kernel merge its memory (memory.dedup)");
    return 0;
}

int process_check_limits(const struct container_limits *l, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(given); i++) {
        struct rlimit now, want;
        uint64_t n;
        memcpy(&n, (const char *)l + given[i].offset, sizeof(n));
        int resource = limit_at(l, ARRAY_SIZE(limits) + i, &want);
        if (n == UINT64_MAX || getrlimit(resource, &now) < 0 || now.rlim_max >= want.rlim_max ||
            caps_effective(CAP_SYS_RESOURCE))
            continue;
        return err_set(err, ERR_EXHAUSTED,
                       "%s: %llu is above the %llu that this node itself may have, and it lacks "
                       "CAP_SYS_RESOURCE to raise that; choose at most that",
                       given[i].key, (unsigned long long)n, (unsigned long long)now.rlim_max);
    }
    return 0;
}

int process_set_limits(const struct container_limits *l, struct err *err)
{
    for (size_t i = 0; i < N_LIMITS; i++) {
        struct rlimit now, want;
        int resource = limit_at(l, i, &want);
        if (getrlimit(resource, &now) < 0)
            return err_sys(err, "cannot read resource limits");
        if (want.rlim_max > now.rlim_max)
            want.rlim_max = now.rlim_max;
        if (want.rlim_cur > want.rlim_max)
            want.rlim_cur = want.rlim_max;
        if (setrlimit(resource, &want) < 0)
            return err_sys(err, "cannot set resource limits");
    }
    return set_dedup(l, err);
}

int process_stdio(int in, int out, int error, const int *keep, size_t n_keep, struct err *err)
{
    /* Sources may lie in 0…2 themselves: first out of the way. */
    int from[3] = {in, out, error};
    for (int i = 0; i < 3; i++) {
        from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 10);
        if (from[i] < 0)
            return err_sys(err, "cannot prepare its standard input and output");
    }
    for (int i = 0; i < 3; i++)
        if (dup2(from[i], i) < 0)
            return err_sys(err, "cannot prepare its standard input and output");
    fd_close_others(keep, n_keep);
    return 0;
}

struct env {
    const char *vars[ENV_MAX + 1];
    size_t n;
};

static void env_put(struct env *e, const char *var)
{
    size_t key = strcspn(var, "=");
    for (size_t i = 0; i < e->n; i++)
        if (strncmp(e->vars[i], var, key) == 0 && e->vars[i][key] == '=') {
            e->vars[i] = var;
            return;
        }
    if (e->n < ENV_MAX)
        e->vars[e->n++] = var;
}

static const char *env_get(const struct env *e, const char *key)
{
    size_t len = strlen(key);
    for (size_t i = 0; i < e->n; i++)
        if (strncmp(e->vars[i], key, len) == 0 && e->vars[i][len] == '=')
            return e->vars[i] + len + 1;
    return NULL;
}

/* The file of a command, as execvp(3) finds it.  Relative parts of PATH are the VE's matter. */
static int find_program(const char *name, const char *path, char ret[PATH_MAX], struct err *err)
{
    struct stat st;
    if (strchr(name, '/')) {
        if (stat(name, &st) < 0)
            return errno == ENOENT || errno == ENOTDIR
                       ? err_set(err, ERR_NOT_FOUND, "%s: not found", name)
                       : err_sys(err, "%s", name);
        if (S_ISDIR(st.st_mode))
            return err_set(err, ERR_DENIED, "%s: is a directory", name);
        if (str_print(ret, PATH_MAX, "%s", name) < 0)
            return err_set(err, ERR_USAGE, "the command's name is too long");
        return 0;
    }
    bool denied = false;
    for (const char *p = path; *name; p++) {
        size_t len = strcspn(p, ":");
        if (str_print(ret, PATH_MAX, "%.*s/%s", (int)len, len ? p : ".", name) == 0 &&
            stat(ret, &st) == 0 && S_ISREG(st.st_mode)) {
            if (access(ret, X_OK) == 0)
                return 0;
            denied = true;
        }
        p += len;
        if (!*p)
            break;
    }
    return denied ? err_set(err, ERR_DENIED, "%s: may not be executed", name)
                  : err_set(err, ERR_NOT_FOUND, "%s: not found", name);
}

/* Groups while CAP_SETGID is still there; the uid last. */
static int become(const struct user *u, struct err *err)
{
    if (setgroups(u->n_groups, u->groups) < 0 || setresgid(u->gid, u->gid, u->gid) < 0)
        return err_sys(err, "cannot take the groups of user %s", u->name);
    if (setresuid(u->uid, u->uid, u->uid) < 0)
        return err_sys(err, "cannot become user %u", u->uid);
    return 0;
}

/* Its standard streams are its own, so that it can open /dev/stdout and change its terminal. */
static void own_streams(const struct user *u)
{
    struct stat st;
    for (int i = 0; u->uid != 0 && i < 3; i++)
        if (fstat(i, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(i)))
            if (fchown(i, u->uid, (gid_t)-1) < 0)
                return;
}

/* The listener is closed by exec: the VE must not answer for us. */
static int load_filter(const struct process_spec *spec, struct err *err)
{
    enum seccomp_policy policy = spec->nesting    ? SECCOMP_NESTING
                                 : spec->own_init ? SECCOMP_SYSTEM
                                                  : SECCOMP_APPLICATION;
    auto_fd int listener = -1;
    enum seccomp_told told = spec->listen_disk ? SECCOMP_TOLD_DISK : SECCOMP_TOLD_MACHINE;
    int r = seccomp_load_policy(policy, told, spec->listen ? &listener : NULL, err);
    if (r == 0 && listener >= 0)
        r = message_send(spec->sock, MESSAGE_FILTER, 0, &listener, 1, err);
    return r;
}

static int confine(const struct process_spec *spec, const struct user *user, struct err *err)
{
    bool whole = spec->own_init || spec->nesting;
    enum caps_profile caps = whole ? CAPS_SYSTEM : CAPS_APPLICATION;
    int r = caps_bound(caps, err);
    if (r < 0)
        return r;
    /* Possessed by uid 0 of this VE, empty, and gone with the last process. */
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0) < 0 && errno != ENOSYS)
        return err_sys(err, "cannot make a session keyring");
    if (!spec->new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_sys(err, "cannot forbid new privileges");
    r = load_filter(spec, err);
    if (r == 0)
        r = become(user, err);
    if (r == 0)
        r = user->uid == 0 ? caps_apply(caps, err) : caps_drop_all(err);
    /* Each change of credentials has set this to fs.suid_dumpable. */
    prctl(PR_SET_DUMPABLE, 0);
    return r;
}

static int run(const struct process_spec *spec, const char *file, const struct env *env,
               struct err *err)
{
    char *const *envp = (char *const *)env->vars;
    if (spec->program < 0) {
        execve(file, (char *const *)spec->argv, envp);
    } else {
        const char *argv[ARG_MAX_N + 2] = {"terem-init", file};
        size_t n = 0;
        while (n < ARG_MAX_N - 1 && spec->argv[n])
            n++;
        if (spec->argv[n])
            return err_set(err, ERR_USAGE, "more than %d arguments", ARG_MAX_N - 1);
        for (size_t i = 0; i <= n; i++) /* the NULL as well */
            argv[i + 2] = spec->argv[i];
        syscall(SYS_execveat, spec->program, "", argv, envp, AT_EMPTY_PATH);
    }
    if (errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "%s: its interpreter is missing", spec->argv[0]);
    if (errno == ENOEXEC)
        return err_set(err, ERR_USAGE, "%s: not a program for this machine", spec->argv[0]);
    return err_sys(err, "cannot execute %s", spec->argv[0]);
}

int process_execute(const struct process_spec *spec, struct err *err)
{
    struct user user;
    struct env env = {0};
    char home[300], name[80], logname[80], shell[300], file[PATH_MAX];
    int r = user_lookup(spec->user, &user, err);
    if (r < 0)
        return r;
    str_print(home, sizeof(home), "HOME=%s", user.home);
    str_print(name, sizeof(name), "USER=%s", user.name);
    str_print(logname, sizeof(logname), "LOGNAME=%s", user.name);
    str_print(shell, sizeof(shell), "SHELL=%s", user.shell);
    env_put(&env, "container=terem");
    env_put(&env, "PATH=" PATH_PROGRAMS);
    env_put(&env, "TERM=vt220");
    env_put(&env, home);
    if (user.name[0]) {
        env_put(&env, name);
        env_put(&env, logname);
    }
    env_put(&env, shell);
    for (const char *const *v = spec->env; v && *v; v++)
        if (strchr(*v, '=') && **v != '=')
            env_put(&env, *v);

    own_streams(&user);
    if ((r = confine(spec, &user, err)) < 0)
        return r;
    const char *dir = spec->workdir ? spec->workdir : "/";
    /* ERR_NOT_FOUND is only for the command itself: a shell tells the two apart by it. */
    if (chdir(dir) < 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? err_set(err, ERR_USAGE, "there is no directory %s", dir)
                   : err_sys(err, "cannot enter directory %s", dir);
    const char *path = env_get(&env, "PATH");
    if ((r = find_program(spec->argv[0], path && *path ? path : PATH_PROGRAMS, file, err)) < 0)
        return r;
    /* From here on it no longer dies with the caller. */
    prctl(PR_SET_PDEATHSIG, 0);
    return run(spec, file, &env, err);
}
