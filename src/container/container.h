/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * container — VEs that share the host's kernel: a plan of descriptors in, a process out.
 *
 * I own the birth of a VE's first process: namespaces and their limits, ids, root, /dev, /proc,
 * /sys, capabilities, seccomp, session; and entering a running one.  I use kernel/.
 * I know nothing of templates, registries, nft or names on disk.
 *
 * Birth has two steps so that the network can be laid between them, while the child already
 * builds its root on the other core:
 *
 *     struct container_plan plan = {…};
 *     struct container_birth *b = NULL;
 *     container_birth_begin(&plan, &b, err);          // namespaces exist, child at work
 *     network_attach(net, id, container_birth_netns(b), &addr, err);
 *     container_birth_finish(b, &ret, err);           // init is executed; descriptors in ret
 *     container_birth_free(b);                        // before finish: kills and reaps the child
 *
 * Ownership: the plan's pointers and descriptors stay the caller's.  Descriptors in
 * container_started become the caller's.
 *
 * Nothing of the caller reaches the VE: descriptors, environment, working directory, terminal,
 * session, keyring, signal mask and dispositions, rlimits that were lowered, /proc/self/exe.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CONTAINER_ID_COUNT 65536
#define CONTAINER_V1_MAX   8

struct str;

struct container_file { /* a small file written inside, as the VE's root, at every start */
    const char *path;   /* "/etc/hostname"; symlinks resolve inside the VE only.  "/etc/x/" and a
                           star: each regular file that is there.  Where its directory is not there
                           nothing is written */
    const char *text;
    bool must; /* where it cannot be written the start fails */
    /* NULL: `text` takes the place of whatever is there.  Else what shall be there is made of what
     * is, foreign bytes without a NUL ("": nothing that can be read); `own`: the VE has written it,
     * not its layers.  false: it is left as it is. */
    bool (*merge)(const char *now, bool own, const char *text, struct str *ret);
    unsigned mode; /* of one that was not there; 0: 0644 */
};

/* What namespaces, rlimits and mounts bound.  UINT64_MAX: as far as the kernel and the node go. */
struct container_limits {
    uint64_t namespaces; /* of each type, beside the VE's own */
    uint64_t inotify_instances, inotify_watches;
    uint64_t ipc_queues, ipc_semaphores, ipc_segments;
    uint64_t shared; /* bytes of /dev/shm, and of System V segments */
    /* Set at birth and by exec only: */
    uint64_t signals, locked; /* locked in bytes */
    uint64_t nofile;          /* open files of each process */
    uint64_t ptys;            /* beside the console */
    uint64_t sockets; /* bytes: of TCP's buffers; a quarter is a socket's ceiling each way */
    bool dedup;       /* the kernel may merge equal pages */
};
/* Those of a VE that has none given. */
extern const struct container_limits container_limits_default;
/* Can this node give them?  A finite one above what the node itself may have is ERR_EXHAUSTED,
 * dedup on a kernel without it ERR_UNSUPPORTED; the sentence begins with the parameter's key. */
int container_limits_check(const struct container_limits *l, struct err *err);
/* Changes a running VE, all or nothing: what was written before a failure is put back when `old`
 * is there.  old NULL: writes all, whatever stands there.  Lowering below what is in use takes
 * nothing back, except `shared`, which is then refused (ERR_STATE).  What is set at birth only is
 * left as it is. */
int container_limits_apply(int pidfd, const struct container_limits *old,
                           const struct container_limits *new, struct err *err);
/* System V objects in a running VE's own IPC namespace.  Visits it for a moment: by processes that
 * use none themselves. */
struct container_ipc {
    uint64_t queues, semaphores, segments;
};
int container_count_ipc(int pidfd, struct container_ipc *ret, struct err *err);
/* Where "/", /dev and /dev/pts of a VE lay at its birth. */
struct container_pts {
    uint64_t device[3]; /* st_dev */
};
/* Ptys in the devpts that the VE was born with, beside its console.  Never waits for the VE.
 * ERR_NOT_FOUND: its root has covered or moved /dev/pts. */
int container_count_ptys(int pidfd, const struct container_pts *born, uint64_t *ret,
                         struct err *err);

/* A root that is mended from a rescue system: the same as in a plan. */
struct container_repair {
    const int *layers;
    size_t n_layers;
    int tree;
};

struct container_plan {
    const char *hostname;
    uid_t id_base;     /* host id of the VE's root; 65,536 ids from here are its own */
    const int *layers; /* O_PATH directories, lowest first; ids 0–65535 on disk */
    size_t n_layers;
    int tree;                           /* directory that holds upper/ and work/ */
    int cgroup;                         /* v2 directory, or -1 */
    int cgroup_procs[CONTAINER_V1_MAX]; /* v1 cgroup.procs, open for writing */
    size_t n_cgroup_procs;
    bool own_init;    /* boots its own init with a console; else runs argv under terem-init */
    int init_program; /* application VEs: descriptor of terem-init; else -1 */
    const char *const *argv; /* NULL-terminated; argv[0] is a path or found in PATH inside */
    const char *const *env;  /* NULL-terminated additions */
    const char *workdir;     /* "/" when NULL */
    const char *user;        /* application VEs: "uid[:gid]" or a name inside; NULL: root */
    bool nesting;            /* may make namespaces and mounts for containers of its own */
    bool new_privileges;     /* false: no_new_privs (application VEs by default) */
    const struct container_file *files;
    size_t n_files;
    int lxcfs;   /* directory of the lxcfs mount, or -1 */
    int proc_fs; /* directory that is shown, read-only, as /proc/fs; or -1 */
    const struct container_limits *limits; /* NULL: container_limits_default */
    bool no_network;                       /* keep only lo */
    bool old_overlay; /* stack layers as kernels before 6.13 need it, also on newer ones */
    bool listen;      /* for the calls that kernel/seccomp.h says are answered */
    bool listen_disk; /* for statfs(2), too */
    /* Not NULL: `layers` are those of a rescue system, which writes into memory (`tree` is -1) and
     * finds this root at /repair and, read-only, what its layers alone show at /template.  Nothing
     * of either is executed or followed. */
    const struct container_repair *repair;
};

struct container_birth;
struct container_started {
    int pidfd;    /* of the VE's first process */
    pid_t pid;    /* its host pid */
    int console;  /* pty master; for application VEs stdout and stderr go there too; or -1 */
    int listener; /* when the plan asked for it and the kernel gives one; else -1 */
    struct container_pts pts; /* device[0] tells its overlay from all else mounted inside */
};

int container_birth_begin(const struct container_plan *plan, struct container_birth **ret,
                          struct err *err);
int container_birth_netns(const struct container_birth *b);
int container_birth_finish(struct container_birth *b, struct container_started *ret,
                           struct err *err);
void container_birth_free(struct container_birth *b);
/* Instead of finish: waits until the root is built, and executes nothing.  *ret_pidfd (of the
 * waiting child, valid until container_birth_free()) is for container_enter_files(): this is how
 * files of a stopped VE are reached. */
int container_birth_root(struct container_birth *b, int *ret_pidfd, struct err *err);

struct container_exec {
    int pidfd;  /* of the VE's first process */
    int cgroup; /* as in the plan */
    int cgroup_procs[CONTAINER_V1_MAX];
    size_t n_cgroup_procs;
    const char *const *argv;
    const char *const *env;
    const char *workdir;
    const char *user;
    bool own_init; /* as in the plan, like the next two */
    bool nesting, new_privileges;
    const struct container_limits *limits; /* as in the plan */
    bool tty;               /* a pty of the VE's own devpts is the controlling terminal */
    uint16_t rows, columns; /* of that pty; 0: 24×80 */
    bool listen;            /* as in the plan; the command has a filter of its own */
    bool listen_disk;       /* as in the plan */
};
struct container_process {
    pid_t pid; /* a child of the caller: waitpid() for it */
    int pidfd;
    int in, out, error; /* our ends: pipes, or the pty master in `in` and -1 for the others */
    int listener;       /* or -1 */
};
/* Runs a command inside.  A command that is not there: ERR_NOT_FOUND "sh: not found in web1"-like
 * text without the VE's name (the caller adds it). */
int container_exec(const struct container_exec *x, struct container_process *ret, struct err *err);
/* A descriptor to the VE's root directory for push and pull, to be used only through
 * path_open_in_root().  Opened inside its mount namespace, ids as the VE sees them need
 * container_as_root(): the caller forks, and the child calls this, which enters the VE's user and
 * mount namespaces, changes to its root directory and becomes its root for good. */
int container_enter_files(int pidfd, struct err *err);

/* Looks its files up, before the first VEs would do so all at once. */
void container_look_up_lxcfs(int lxcfs_dir);
/* Puts lxcfs's files (again) over the running VE's /proc files. */
int container_mount_lxcfs(int pidfd, int lxcfs_dir, struct err *err);

/* What this kernel can do of what we want; for doctor. */
struct container_support {
    bool userns, timens, cgroupns, clone_into_cgroup, idmapped_mounts, overlay_userns,
        overlay_fd_layers, pidfd_info, seccomp, lxcfs;
};
/* state: a directory on the pool's file system to try idmapped mounts and overlays on. */
int container_probe(const char *state, struct container_support *ret, struct err *err);
