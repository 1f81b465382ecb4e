/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * floor — the least that VEs of this kind can cost: the same namespaces, cgroups, veth pair and
 * overlay as Terem's, the same static program as their init, and nothing else.
 *
 * usage: floor COUNT JOBS ROOT WORK NAME PROGRAM [CONTROLLER...]
 *   ROOT     the overlay's lower tree; PROGRAM is a path in it
 *   WORK     an existing directory for the upper trees
 *   NAME     of the cgroups, and the beginning of the interfaces' names (at most 8 characters)
 *   CONTROLLER  each has a cgroup in its v1 hierarchy; where there is none, each is handed down to
 *            the cgroup that one has in v2
 * Prints "started SECONDS" when all run, waits for a line or the end of stdin, ends and removes
 * all of them, and prints "stopped SECONDS".  The parent cgroups and WORK are the caller's to
 * remove.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define IDS      65536
#define V1_MOST  16
#define PATH_LEN 512

static const char *root, *work, *name, *program;
static char v2[PATH_LEN];
static char enable[128];           /* for cgroup.subtree_control; "" where v1 has the controllers */
static char v1[V1_MOST][PATH_LEN]; /* our parent cgroup in each hierarchy */
static int n_v1;

__attribute__((noreturn)) static void die(const char *what)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

__attribute__((format(printf, 2, 3))) static void put(const char *path, const char *format, ...)
{
    char text[sizeof(enable)];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, (size_t)len) != len)
        die(path);
    close(fd);
}

static char *at(char buf[PATH_LEN], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(buf, PATH_LEN, format, args);
    va_end(args);
    return buf;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- the cable ---- */

struct request {
    struct nlmsghdr head;
    struct ifinfomsg link;
    char attributes[512];
};

static struct rtattr *add(struct request *q, int type, const void *data, size_t len)
{
    struct rtattr *a = (struct rtattr *)((char *)q + NLMSG_ALIGN(q->head.nlmsg_len));
    a->rta_type = (unsigned short)type;
    a->rta_len = (unsigned short)RTA_LENGTH(len);
    if (len)
        memcpy(RTA_DATA(a), data, len);
    q->head.nlmsg_len = NLMSG_ALIGN(q->head.nlmsg_len) + RTA_ALIGN(a->rta_len);
    return a;
}

static void end(struct request *q, struct rtattr *nest)
{
    nest->rta_len = (unsigned short)((char *)q + q->head.nlmsg_len - (char *)nest);
}

static void lay_cable(int netlink, int i, pid_t pid)
{
    struct request q = {
        .head = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
                 .nlmsg_type = RTM_NEWLINK,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL},
        .link = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP}};
    static const struct ifinfomsg peer;
    char ifname[IFNAMSIZ], answer[1024];
    uint32_t one = 1, where = (uint32_t)pid;
    snprintf(ifname, sizeof(ifname), "%.8s-%d", name, i);
    add(&q, IFLA_IFNAME, ifname, strlen(ifname) + 1);
    add(&q, IFLA_NUM_TX_QUEUES, &one, sizeof(one));
    add(&q, IFLA_NUM_RX_QUEUES, &one, sizeof(one));
    struct rtattr *info = add(&q, IFLA_LINKINFO, NULL, 0);
    add(&q, IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = add(&q, IFLA_INFO_DATA, NULL, 0);
    struct rtattr *other = add(&q, VETH_INFO_PEER, &peer, sizeof(peer));
    add(&q, IFLA_IFNAME, "eth0", 5);
    add(&q, IFLA_NUM_TX_QUEUES, &one, sizeof(one));
    add(&q, IFLA_NUM_RX_QUEUES, &one, sizeof(one));
    add(&q, IFLA_NET_NS_PID, &where, sizeof(where));
    end(&q, other);
    end(&q, data);
    end(&q, info);
    if (send(netlink, &q, q.head.nlmsg_len, 0) < 0 || recv(netlink, answer, sizeof(answer), 0) < 0)
        die("netlink");
    const struct nlmsgerr *e = NLMSG_DATA((struct nlmsghdr *)answer);
    if (e->error) {
        errno = -e->error;
        die(ifname);
    }
}

/* ---- inside ---- */

static void raise_link(const char *link)
{
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq q = {.ifr_flags = IFF_UP | IFF_RUNNING};
    strcpy(q.ifr_name, link);
    if (s < 0 || ioctl(s, SIOCSIFFLAGS, &q) < 0)
        die(link);
    close(s);
}

__attribute__((noreturn)) static void inside(int i, int go)
{
    char options[PATH_LEN], path[PATH_LEN], byte;
    if (read(go, &byte, 1) != 1)
        exit(1);
    close(go);
    if (syscall(SYS_setresgid, 0, 0, 0) < 0 || syscall(SYS_setresuid, 0, 0, 0) < 0)
        die("cannot become its root");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    raise_link("lo");
    raise_link("eth0");
    at(options, "lowerdir=%s,upperdir=%s/%d/upper,workdir=%s/%d/work", root, work, i, work, i);
    at(path, "%s/%d/root", work, i);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("overlay", path, "overlay", 0, options) < 0)
        die("overlay");
    if (chdir(path) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
        die("pivot_root");
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    execl(program, program, (char *)NULL);
    _exit(127);
}

/* ---- one ---- */

static void make_upper(int i)
{
    char path[PATH_LEN];
    uid_t base = (uid_t)(i + 1) * IDS;
    if (mkdir(at(path, "%s/%d", work, i), 0755) < 0)
        die(path);
    static const char *const dirs[] = {"upper", "work", "root"};
    for (size_t k = 0; k < 3; k++)
        if (mkdir(at(path, "%s/%d/%s", work, i, dirs[k]), 0755) < 0 || chown(path, base, base) < 0)
            die(path);
}

static pid_t make(int i, int netlink)
{
    char path[PATH_LEN];
    int go[2];
    make_upper(i);
    if (mkdir(at(path, "%s/%d", v2, i), 0755) < 0)
        die(path);
    int cgroup = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (cgroup < 0 || pipe2(go, O_CLOEXEC) < 0)
        die("pipe");
    struct clone_args args = {.flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET |
                                       CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP |
                                       CLONE_NEWTIME | CLONE_INTO_CGROUP,
                              .exit_signal = SIGCHLD,
                              .cgroup = (uint64_t)cgroup};
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid < 0)
        die("clone3");
    if (pid == 0)
        inside(i, go[0]);
    close(go[0]);
    close(cgroup);
    put(at(path, "/proc/%d/uid_map", pid), "0 %d %d", (i + 1) * IDS, IDS);
    put(at(path, "/proc/%d/gid_map", pid), "0 %d %d", (i + 1) * IDS, IDS);
    for (int k = 0; k < n_v1; k++) {
        if (mkdir(at(path, "%s/%d", v1[k], i), 0755) < 0)
            die(path);
        put(at(path, "%s/%d/cgroup.procs", v1[k], i), "%d", pid);
    }
    lay_cable(netlink, i, pid);
    if (write(go[1], "", 1) != 1)
        die("pipe");
    close(go[1]);
    return pid;
}

static void remove_cgroup(const char *path)
{
    for (int turn = 0; rmdir(path) < 0 && errno == EBUSY && turn < 10000; turn++)
        usleep(200);
}

static void take_away(int i, pid_t pid)
{
    char path[PATH_LEN];
    waitpid(pid, NULL, 0);
    remove_cgroup(at(path, "%s/%d", v2, i));
    for (int k = 0; k < n_v1; k++)
        remove_cgroup(at(path, "%s/%d", v1[k], i));
}

/* ---- all ---- */

static bool executes(pid_t pid)
{
    char path[PATH_LEN], exe[PATH_LEN];
    ssize_t n = readlink(at(path, "/proc/%d/exe", pid), exe, sizeof(exe) - 1);
    if (n < 0)
        return false;
    exe[n] = '\0';
    return strcmp(exe, program) == 0;
}

/* One of several that share the work: `share` of `jobs`. */
static void worker(int share, int jobs, int count, int tell, int hear)
{
    pid_t *pids = calloc((size_t)count, sizeof(*pids));
    struct sockaddr_nl any = {.nl_family = AF_NETLINK};
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!pids || netlink < 0 || bind(netlink, (struct sockaddr *)&any, sizeof(any)) < 0)
        die("netlink");
    for (int i = share; i < count; i += jobs)
        pids[i] = make(i, netlink);
    for (int i = share; i < count; i += jobs)
        while (!executes(pids[i])) {
            if (waitpid(pids[i], NULL, WNOHANG) != 0)
                die("one has ended");
            usleep(1000);
        }
    if (write(tell, "", 1) != 1)
        die("pipe");
    while (read(hear, &byte, 1) > 0)
        ;
    for (int i = share; i < count; i += jobs)
        kill(pids[i], SIGKILL);
    for (int i = share; i < count; i += jobs)
        take_away(i, pids[i]);
    exit(0);
}

/* A new one has neither cores nor memory, and takes no process. */
static void prepare_cpuset(const char *parent)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    for (size_t i = 0; i < 2; i++) {
        char path[PATH_LEN], text[64] = "";
        int fd = open(at(path, "%s/../%s", parent, files[i]), O_RDONLY | O_CLOEXEC);
        if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
            die(path);
        close(fd);
        put(at(path, "%s/%s", parent, files[i]), "%s", text);
        put(at(path, "%s/cgroup.clone_children", parent), "1");
    }
}

static void find_parents(int n, char *const *controllers)
{
    char path[PATH_LEN];
    struct stat st;
    bool hybrid = stat("/sys/fs/cgroup/unified", &st) == 0;
    at(v2, "/sys/fs/cgroup/%s%s", hybrid ? "unified/" : "", name);
    if (mkdir(v2, 0755) < 0 && errno != EEXIST)
        die(v2);
    for (int i = 0; !hybrid && i < n; i++)
        snprintf(enable + strlen(enable), sizeof(enable) - strlen(enable), "+%s ", controllers[i]);
    if (enable[0])
        put(at(path, "%s/cgroup.subtree_control", v2), "%s", enable);
    for (n_v1 = 0; hybrid && n_v1 < n && n_v1 < V1_MOST; n_v1++) {
        at(v1[n_v1], "/sys/fs/cgroup/%s/%s", controllers[n_v1], name);
        if (mkdir(v1[n_v1], 0755) < 0 && errno != EEXIST)
            die(v1[n_v1]);
        if (strcmp(controllers[n_v1], "cpuset") == 0)
            prepare_cpuset(v1[n_v1]);
    }
}

int main(int argc, char **argv)
{
    int told[2], stop[2];
    char byte, line[8];
    if (argc < 7) {
        fprintf(stderr, "usage: floor COUNT JOBS ROOT WORK NAME PROGRAM [CONTROLLER...]\n");
        return 2;
    }
    int count = atoi(argv[1]), jobs = atoi(argv[2]), left = 0;
    root = argv[3];
    work = argv[4];
    name = argv[5];
    program = argv[6];
    find_parents(argc - 7, argv + 7);
    double from = now();
    if (pipe2(told, O_CLOEXEC) < 0 || pipe2(stop, O_CLOEXEC) < 0)
        die("pipe");
    for (int i = 0; i < jobs; i++)
        if (fork() == 0) {
            close(stop[1]);
            close(told[0]);
            worker(i, jobs, count, told[1], stop[0]);
        }
    close(told[1]);
    for (int i = 0; i < jobs; i++)
        if (read(told[0], &byte, 1) != 1)
            return 1;
    printf("started %.3f\n", now() - from);
    fflush(stdout);
    (void)!read(0, line, sizeof(line));
    from = now();
    close(stop[1]);
    for (int status; wait(&status) > 0;)
        left |= status;
    printf("stopped %.3f\n", now() - from);
    return left ? 1 : 0;
}
