/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * table — every resource parameter, once.
 *
 * The command line, the API's schema, the man page and completion are generated from here.
 *
 * Long, and whole: sets and counters are arrays beside this one, row by row, and its order is that
 * of the man page.  Parts in files of their own would need another list of what is in them.
 */
#include "base/cleanup.h"
#include "param/param.h"

#define NO_LIMIT          \
    {                     \
        .unlimited = true \
    }

#define KiB 1024ull
#define MiB (1024 * KiB)
#define PiB (1024 * 1024 * 1024 * MiB)

#define SIZE_MAX_ROW    PiB
#define COUNT_MAX_ROW   1000000000ull /* what an int of the kernel surely holds */
#define IPC_MAX_ROW     32768ull      /* IPCMNI of the kernel (ipc/util.h) */
#define PROCESSES_MAX   4194304ull    /* PID_MAX_LIMIT of 64-bit kernels; pids.max takes no more */
#define PERCENT_MAX_ROW 40960000ull   /* 4096 cores */
#define RATE_MAX_ROW    1000000000000ull

const struct param_row param_table[] = {
    /* ---- processor ---- */
    {.key = "cpu.guarantee",
     .type = PARAM_PERCENT,
     .kind = PARAM_GUARANTEE,
     .flags = PARAM_DERIVED | PARAM_MHZ,
     .max = PERCENT_MAX_ROW,
     .controller = "cpu",
     .v2_file = "cpu.weight",
     .v1_file = "cpu.shares",
     .ancestor = "cpuunits",
     .summary = "processor time that the VE always gets when it wants it",
     .detail =
         "In percent of one core, with at most two decimals, or in MHz (1000MHz), which "
         "become percent of this node's clock. When every VE is busy, each "
         "still gets at least its own guarantee, and what is above all guarantees in "
         "proportion to cpu.weight. The kernel's weight of every VE is derived from all "
         "guarantees, of stopped and idle VEs too, and what those leave unused goes to the VEs "
         "that want it in proportion to these whole weights: once nearly all of the node is "
         "promised, a VE without a guarantee gets little beside a busy one with a large one "
         "(2 to 3% each were seen beside one of 80%), and what they leave is free for it. The sum "
         "over all VEs never exceeds the node's cores less reserve.cpu of terem.conf: "
         "what cannot be kept is refused. From the first guarantee on all VEs together weigh as "
         "much more than one busy group of the node's own programs (one process, on cgroup "
         "v1) as their part is larger than reserve.cpu; "
         "many busy ones of the node take more. The default 0 guarantees "
         "nothing. OpenVZ's cpuunits became a promise only when all VEs were added up by "
         "hand."},
    {.key = "cpu.limit",
     .type = PARAM_PERCENT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .min = 100,
     .max = PERCENT_MAX_ROW,
     .def = NO_LIMIT,
     .controller = "cpu",
     .v2_file = "cpu.max",
     .v1_file = "cpu.cfs_quota_us",
     .ancestor = "cpulimit",
     .summary = "most processor time that the VE can use",
     .detail =
         "In percent of one core: 50 is half a core, 250 is two and a half, with at most two "
         "decimals; 1 is the least. It is enforced in periods of 100 ms, so a VE that used up "
         "its share waits for the next period. More than the node's cores is accepted and "
         "limits nothing. OpenVZ's cpulimit counted in the same unit."},
    {.key = "cpu.burst",
     .type = PARAM_TIME,
     .kind = PARAM_SOFT,
     .max = 1000,
     .controller = "cpu",
     .v2_file = "cpu.max.burst",
     .v1_file = "cpu.cfs_burst_us",
     .summary = "processor time that an idle VE saves up beyond cpu.limit",
     .detail = "A time of at most 1s, such as 20ms; it is effective together with cpu.limit. "
               "Time that the VE leaves unused below cpu.limit is saved up to this much, and "
               "spent above cpu.limit when it is busy again. It cannot be longer than what "
               "cpu.limit gives in one period of 100 ms: 50ms for cpu.limit=50. The default 0s "
               "saves nothing."},
    {.key = "cpu.weight",
     .type = PARAM_COUNT,
     .kind = PARAM_WEIGHT,
     .min = 1,
     .max = 10000,
     .def = {.n = 100},
     .controller = "cpu",
     .v2_file = "cpu.weight",
     .v1_file = "cpu.shares",
     .ancestor = "cpuunits",
     .summary = "the VE's part of processor time above the guarantees",
     .detail = "A number without unit from 1 to 10000; a VE of 200 gets twice what one of 100 "
               "gets when both want more than there is, and either gets all when the others "
               "are idle. By default 100. On cgroup v1 it becomes cpu.shares, where 100 is "
               "1024. OpenVZ's cpuunits had a free scale: divide them so that an ordinary VE "
               "has 100."},
    {.key = "cpu.cores",
     .type = PARAM_CORES,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED | PARAM_DERIVED,
     .min = 1,
     .max = 4096,
     .def = NO_LIMIT,
     .controller = "cpuset",
     .v2_file = "cpuset.cpus",
     .v1_file = "cpuset.cpus",
     .ancestor = "cpus, cpumask",
     .summary = "number of processor cores that the VE sees and runs on",
     .detail = "A whole number of cores, such as 2; a list such as 0-3,6 names them; a list that "
               "ends in ,exclusive keeps all other VEs off them. One core alone is 0-0, for 0 "
               "would be a number. Of a number the node chooses the cores that "
               "carry least and keeps to them while it can; more than there are is accepted and "
               "limits nothing. nproc and /proc/cpuinfo inside show these cores. Cores of an "
               "exclusive list belong to the VE while it is stopped, too; programs of the node "
               "itself are kept off while the VE runs, where the kernel can (cgroup v2 from 6.7 "
               "on). Refused are a core that the node "
               "does not have, one that is exclusive to another VE, an exclusive list that names "
               "what another list names or leaves no core for the rest, and whatever would keep "
               "a cpu.guarantee from fitting on the cores that are left. By default the VE runs "
               "on all cores that are nobody's alone. OpenVZ's cpus was such a number, its cpumask "
               "such a list."},

    /* ---- memory ---- */
    {.key = "memory.guarantee",
     .type = PARAM_SIZE,
     .kind = PARAM_GUARANTEE,
     .max = SIZE_MAX_ROW,
     .controller = "memory",
     .v2_file = "memory.min",
     .v1_why = "cgroup v1 cannot protect memory against the reclaim of neighbours",
     .ancestor = "vmguarpages, oomguarpages",
     .summary = "memory that is not taken from the VE while others press",
     .detail = "In bytes. Page cache and memory of the VE up to this much are never reclaimed for "
               "others. The sum over all VEs, stopped ones too, "
               "never exceeds the node's memory less reserve.memory of terem.conf: what cannot "
               "be kept is refused. It needs cgroup v2 (memory.min), mounted with "
               "memory_recursiveprot, as systemd mounts it, so that it holds for groups that "
               "the VE makes inside; without that it holds for processes that are in none. "
               "Where memory.limit or memory.soft is about as low, an eighth of it stays free "
               "to be reclaimed at the VE's own limit. On cgroup v1 it is refused: its soft "
               "limit presses on those who have one and protects nobody (a quarter of the request "
               "rate was left in the measurement of docs/benchmarks.md). The default 0 "
               "guarantees nothing. OpenVZ's vmguarpages counted in pages of 4 KiB."},
    {.key = "memory.soft",
     .type = PARAM_SIZE,
     .kind = PARAM_SOFT,
     .flags = PARAM_UNLIMITED,
     .min = 4 * MiB,
     .max = SIZE_MAX_ROW,
     .def = NO_LIMIT,
     .controller = "memory",
     .v2_file = "memory.high",
     .v1_file = "memory.soft_limit_in_bytes",
     .ancestor = "privvmpages (barrier)",
     .summary = "memory above which the VE is slowed and its pages are reclaimed",
     .detail = "In bytes, at least 4M. The VE may exceed it, at the price of speed: on cgroup "
               "v2 its pages are reclaimed at once and it is slowed while it grows further. On "
               "cgroup v1 nothing happens while the node has free memory; when the node runs "
               "short, VEs above their memory.soft give back pages before all others, down to "
               "less than memory.soft if it must be, and are not slowed otherwise."},
    {.key = "memory.limit",
     .type = PARAM_SIZE,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .min = 4 * MiB,
     .max = SIZE_MAX_ROW,
     .def = NO_LIMIT,
     .controller = "memory",
     .v2_file = "memory.max",
     .v1_file = "memory.limit_in_bytes",
     .ancestor = "physpages, privvmpages",
     .summary = "most memory that the VE can use",
     .detail = "In bytes, with K, M, G, T or P for powers of 1024; at least 4M. The kernel rounds "
               "it down to whole pages. Page cache, sockets and kernel memory of the VE are in it. "
               "At the limit page cache is given back first; then a process inside the VE, and "
               "never one outside, is killed. The event ve.oom says which one, how "
               "much it held and why it: the kernel takes the process that weighs most by what "
               "it holds plus its oom_score_adj, a part in 1000 of the limit; a group of the VE "
               "with memory.oom.group goes as a whole. Lowering it is refused, and nothing "
               "is given back, unless what cannot be given back (all but page cache and what "
               "fits into swap) fits with a quarter of it, at least 8M, to spare; by force "
               "processes inside are killed in that order until it fits, but for the first one. "
               "OpenVZ's physpages and privvmpages counted pages of 4 KiB: "
               "physpages=131072 becomes memory.limit=512M."},
    {.key = "swap.limit",
     .type = PARAM_SIZE,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = SIZE_MAX_ROW,
     .def = NO_LIMIT,
     .controller = "memory",
     .v2_file = "memory.swap.max",
     .v1_file = "memory.memsw.limit_in_bytes",
     .ancestor = "swappages",
     .summary = "most swap space that the VE can use",
     .detail = "In bytes; 0 keeps the VE out of swap. On cgroup v1 the kernel bounds memory "
               "and swap together (memory.memsw), so it can be set only beside memory.limit, "
               "and what the VE does not use of memory.limit it may use of swap; v1 kernels "
               "that do not account swap (swapaccount=0) refuse it. Lowering it below what is "
               "in use is refused on v1; on v2 nothing is taken back from swap, and nothing "
               "more goes there."},
    {.key = "memory.kernel",
     .type = PARAM_SIZE,
     .kind = PARAM_COUNTER,
     .flags = PARAM_UNLIMITED,
     .max = SIZE_MAX_ROW,
     .def = NO_LIMIT,
     .controller = "memory",
     .ancestor = "kmemsize, dcachesize",
     .summary = "kernel memory that the VE holds",
     .detail = "In bytes: what the kernel keeps for the VE's processes, files, sockets and page "
               "tables. It is charged to memory.limit and counted apart; kernels have no limit "
               "of its own for it any more (memory.kmem.limit_in_bytes of cgroup v1 is accepted "
               "and ignored since Linux 5.16), so it cannot be set. OpenVZ's kmemsize was a hard "
               "limit, and a program that met it failed in odd places: give memory.limit "
               "instead."},
    {.key = "memory.sockets",
     .type = PARAM_SIZE,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED | PARAM_V2_PART,
     .min = 64 * KiB,
     .max = SIZE_MAX_ROW,
     .def = NO_LIMIT,
     .controller = "memory",
     .v1_file = "memory.kmem.tcp.limit_in_bytes",
     .v2_why = "it bounds each TCP socket, not all together: cgroup v2 charges socket buffers to "
               "memory.limit and has no limit of their own; set memory.limit, or sockets.tcp",
     .ancestor = "tcpsndbuf, tcprcvbuf, othersockbuf, dgramrcvbuf",
     .summary = "memory in the VE's socket buffers",
     .detail = "In bytes, at least 64K. On cgroup v1 it bounds the buffers of TCP sockets, sent "
               "and received together: at the limit connections become slow and none is broken; "
               "a lower memory.limit bounds them, too; what other sockets hold is not counted "
               "there. A quarter of it is what one TCP socket gets for each direction, so that one "
               "connection does not starve the others: net.ipv4.tcp_rmem and tcp_wmem inside, "
               "which the VE's root cannot change while there is a limit and otherwise can. A "
               "program that asks for a buffer of a size (SO_RCVBUF, SO_SNDBUF) gets up to twice "
               "net.core.rmem_max and wmem_max of the node all the same; UDP has no other bound. "
               "On cgroup v2 these ceilings are all that holds: every socket's buffers are charged "
               "to memory.limit and counted apart, and the kernel has no limit of their own. "
               "OpenVZ's four rows were one for each kind and direction."},
    {.key = "memory.locked",
     .backend = PARAM_IN_NAMESPACE,
     .type = PARAM_SIZE,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED | PARAM_RESTART,
     .max = SIZE_MAX_ROW,
     .def = {.n = 8 * MiB},
     .ancestor = "lockedpages",
     .summary = "memory that each process of the VE can lock against reclaim",
     .detail = "In bytes; takes effect at the next start. It is the hard RLIMIT_MEMLOCK of every "
               "process, which the VE's root cannot raise: mlock(2) is bounded for each process, "
               "locked System V segments for each user of the VE. The kernel has no such bound "
               "for a VE as a whole: all that is locked is charged to memory.limit, which is what "
               "keeps it. It cannot be more than the node itself may have where that lacks "
               "CAP_SYS_RESOURCE. By default 8M. OpenVZ's lockedpages counted pages of 4 KiB over "
               "the VE."},
    {.key = "memory.shared",
     .backend = PARAM_IN_NAMESPACE,
     .type = PARAM_SIZE,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = SIZE_MAX_ROW,
     .def = {.n = 256 * MiB},
     .ancestor = "shmpages",
     .summary = "System V shared memory, and files in /dev/shm, of the VE",
     .detail =
         "In bytes. It bounds two things, each for itself: the size of /dev/shm, and System V "
         "segments one by one and together (kernel.shmmax, kernel.shmall). Both are charged "
         "to memory.limit as well. A tmpfs that the VE's root mounts itself, on /run or "
         "/tmp, and segments in an IPC namespace that it makes itself (see namespaces) are "
         "bounded by memory.limit only. Lowering it below what the files in /dev/shm need "
         "is refused; segments that exist stay. By default 256M. OpenVZ's shmpages counted "
         "pages of 4 KiB of both together."},
    {.key = "memory.dedup",
     .backend = PARAM_IN_NAMESPACE,
     .type = PARAM_SWITCH,
     .kind = PARAM_SETTING,
     .flags = PARAM_RESTART,
     .max = 1,
     .ancestor = "pfcache",
     .summary = "merge equal memory pages of the VE with others",
     .detail = "on or off, by default off; takes effect at the next start. The kernel's samepage "
               "merging (KSM) looks for equal pages in the anonymous memory of all processes of "
               "VEs where it is on, and keeps one copy. It costs processor time, and it is a side "
               "channel: by the time that a write takes, a VE can find out whether another has a "
               "page with the same content, so use it only among VEs of one owner. It needs Linux "
               "6.7 or newer with CONFIG_KSM and is refused elsewhere. Terem turns KSM on when "
               "the first VE with memory.dedup starts, and puts it back as it was when the node "
               "is stopped; what is saved on the node is in /sys/kernel/mm/ksm. Files need no "
               "merging: VEs of one template share them. pfcache merged files, which templates "
               "do here."},
    {.key = "hugepages.limit",
     .type = PARAM_SIZE,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = SIZE_MAX_ROW,
     .def = NO_LIMIT,
     .controller = "hugetlb",
     .v2_file = "hugetlb.2MB.max",
     .v1_file = "hugetlb.2MB.limit_in_bytes",
     .summary = "memory in huge pages that the VE can take",
     .detail = "In bytes; the kernel rounds it down to whole huge pages, and 0 forbids them. It "
               "holds for each size of huge pages that the machine has (2M and 1G, say), used or "
               "only reserved: beyond it mmap(2) with MAP_HUGETLB fails with ENOMEM. These are "
               "the pages that the operator set aside (vm.nr_hugepages); memory.limit does not "
               "count them, and transparent huge pages are ordinary memory. A refusal is counted "
               "in failcnt and makes no event."},

    /* ---- things that are counted ---- */
    {.key = "processes",
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .min = 8,
     .max = PROCESSES_MAX,
     .def = {.n = 4096},
     .controller = "pids",
     .v2_file = "pids.max",
     .v1_file = "pids.max",
     .below = "nothing is ended, and nothing new starts",
     .ancestor = "numproc",
     .summary = "most processes and threads in the VE",
     .detail = "A whole number of at least 8; a thread counts as a process does. At the limit fork "
               "and clone fail with EAGAIN inside the VE. It can be lowered below what is running: "
               "nothing is killed, and nothing new starts. By default 4096, so that a fork bomb "
               "stays inside. OpenVZ's numproc counted the same."},
    {.key = "files",
     .backend = PARAM_IN_BPF,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .min = 64,
     .max = COUNT_MAX_ROW,
     .def = NO_LIMIT,
     .below = "nothing is closed, and nothing new opens",
     .ancestor = "numfile",
     .summary = "most open files in the VE",
     .detail = "A whole number of at least 64, over all processes of the VE. Sockets, pipes and "
               "whatever else has a descriptor are files; one that several descriptors share, by "
               "dup, fork or a message over a Unix socket, is one, and the VE that opened it has "
               "it until the last of them is closed. At the limit what opens one fails with "
               "ENFILE. It is counted and limited by BPF LSM. On a kernel without it (`terem "
               "doctor` tells) it is not counted, and limits the open files of each single "
               "process (RLIMIT_NOFILE) from the next start of the VE on: the whole VE then holds "
               "at most that many times processes. OpenVZ's numfile counted the same."},
    {.key = "file-locks",
     .backend = PARAM_IN_BPF,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = COUNT_MAX_ROW,
     .def = NO_LIMIT,
     .below = "nothing is unlocked, and nothing new is locked",
     .ancestor = "numflock",
     .summary = "most file locks in the VE",
     .detail = "A whole number, over all processes of the VE. Locks of flock(2) count, and those "
               "of fcntl(2) and lockf(3), one for each range that is locked; a request that waits "
               "for another's lock is one; leases are none. At the limit a request, also one that "
               "would change a lock, fails with ENOLCK; unlocking never does, and may cut one "
               "lock in two. Of one file's locks the first 65536 are looked at. It is counted and "
               "limited by BPF LSM, and cannot be set on a kernel without it (`terem doctor` "
               "tells). OpenVZ's numflock counted the same."},
    {.key = "sockets.tcp",
     .backend = PARAM_IN_BPF,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = COUNT_MAX_ROW,
     .def = NO_LIMIT,
     .below = "nothing is closed, and nothing new opens",
     .ancestor = "numtcpsock",
     .summary = "most TCP sockets in the VE",
     .detail = "A whole number. A socket counts from socket(2), or from the end of the handshake "
               "of a client's connection, accepted or not, until the kernel frees it: one that "
               "was closed and still sends is one. At the limit socket(2) fails with ENOBUFS, and "
               "packets that open a connection from outside are dropped, each counted as a "
               "refusal, so that clients try again. A VE with such a limit has each of its "
               "incoming packets looked at. It can be lowered below what is open. OpenVZ's "
               "numtcpsock counted the same."},
    {.key = "sockets.other",
     .backend = PARAM_IN_BPF,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = COUNT_MAX_ROW,
     .def = {.n = 4096},
     .below = "nothing is closed, and nothing new opens",
     .ancestor = "numothersock",
     .summary = "most sockets in the VE that are not TCP",
     .detail = "A whole number. UDP and raw sockets count, and Unix, netlink and packet sockets; "
               "a connection over a Unix socket is one more of the listener's, from connect(2) "
               "on. At the limit socket(2) fails with ENOBUFS, connect(2) to a Unix socket with "
               "ECONNREFUSED. Other than Internet sockets are seen by BPF LSM alone: on a kernel "
               "without it (`terem doctor` tells) UDP and raw sockets are counted and limited and "
               "the others are not. It can be lowered below what is open. By default 4096: what "
               "waits in a netlink socket is memory that the kernel charges to nobody. OpenVZ's "
               "numothersock counted the same."},
    {.key = "ptys",
     .backend = PARAM_IN_NAMESPACE,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED | PARAM_RESTART,
     .min = 1,
     .max = 1048575,
     .def = {.n = 1024},
     .ancestor = "numpty",
     .summary = "most pseudo-terminals in the VE",
     .detail = "A whole number, beside the VE's console; takes effect at the next start. It bounds "
               "the /dev/pts that Terem mounts, which is where logins and commands find theirs. A "
               "devpts that the VE's root mounts itself has no such bound: its memory is charged "
               "to memory.limit, and Terem widens kernel.pty.max so that one VE cannot use up "
               "the node's. What is held is read in that /dev/pts; where the VE's root has "
               "covered it, it is not counted. By default 1024."},
    {.key = "signals",
     .backend = PARAM_IN_NAMESPACE,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED | PARAM_RESTART,
     .min = 64,
     .max = COUNT_MAX_ROW,
     .def = {.n = 16384},
     .ancestor = "numsiginfo",
     .summary = "most queued signals in the VE",
     .detail = "A whole number of at least 64, over all users of the VE; takes effect at the next "
               "start. It is the hard RLIMIT_SIGPENDING of every process and the bound of the VE's "
               "user namespace for all together; POSIX timers count too. At the limit sigqueue(3) "
               "fails with EAGAIN; kill(2) still works. It cannot be more than the node itself may "
               "have where that lacks CAP_SYS_RESOURCE. By default 16384. OpenVZ's numsiginfo "
               "counted the same."},
    {.key = "ipc.queues",
     .backend = PARAM_IN_NAMESPACE,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = IPC_MAX_ROW,
     .def = {.n = 1024},
     .below = "queues that exist stay, and none is made",
     .summary = "most message queues in the VE",
     .detail = "A whole number up to 32768; System V and POSIX queues each (kernel.msgmni, "
               "fs.mqueue.queues_max). POSIX queues of all users of the VE together hold at most "
               "819200 bytes besides (RLIMIT_MSGQUEUE). An IPC namespace that the VE's root makes "
               "itself has the kernel's own limits for System V queues: how many of those there "
               "are is bounded by namespaces, and all their memory by memory.limit. By default "
               "1024."},
    {.key = "ipc.semaphores",
     .backend = PARAM_IN_NAMESPACE,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = COUNT_MAX_ROW,
     .def = {.n = 32000},
     .below = "semaphores that exist stay, and none is made",
     .summary = "most System V semaphores in the VE",
     .detail =
         "A whole number, over all sets (kernel.sem); a set has at most 32000. IPC namespaces "
         "that the VE's root makes itself have the kernel's own limits, as for ipc.queues. "
         "By default 32000."},
    {.key = "ipc.segments",
     .backend = PARAM_IN_NAMESPACE,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = IPC_MAX_ROW,
     .def = {.n = 4096},
     .below = "segments that exist stay, and none is made",
     .ancestor = "shmpages",
     .summary = "most System V shared memory segments in the VE",
     .detail =
         "A whole number up to 32768 (kernel.shmmni); their size is bounded by memory.shared. "
         "IPC namespaces that the VE's root makes itself have the kernel's own limits, as "
         "for ipc.queues. By default 4096."},
    {.key = "inotify.instances",
     .backend = PARAM_IN_NAMESPACE,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = COUNT_MAX_ROW,
     .def = {.n = 1024},
     .below = "instances that are open stay, and none is opened",
     .summary = "most inotify instances in the VE",
     .detail = "A whole number, over all users of the VE; as many fanotify groups are allowed "
               "besides. At the limit inotify_init(2) fails with EMFILE. Terem widens "
               "fs.inotify.max_user_instances of the node, 128 on many, to 65536, which is the "
               "most that one VE can be given then. By default 1024."},
    {.key = "inotify.watches",
     .backend = PARAM_IN_NAMESPACE,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = COUNT_MAX_ROW,
     .def = {.n = 65536},
     .below = "watches that are set stay, and none is set",
     .summary = "most inotify watches in the VE",
     .detail = "A whole number, over all users of the VE; as many fanotify marks are allowed "
               "besides. A watch takes about a kilobyte of memory.limit and keeps its inode in "
               "memory. At the limit inotify_add_watch(2) fails with ENOSPC. Terem widens "
               "fs.inotify.max_user_watches of the node to 4194304, which is the most that one VE "
               "can be given then. By default 65536."},
    {.key = "namespaces",
     .backend = PARAM_IN_NAMESPACE,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = COUNT_MAX_ROW,
     .def = {.n = 128},
     .below = "namespaces that exist stay, and none is made",
     .summary = "most namespaces of each type in the VE",
     .detail = "A whole number for each type (user, pid, mount, network, IPC, UTS, cgroup, time), "
               "over all users of the VE and beside the VE's own; 0 forbids containers inside, and "
               "services that want a private /tmp or network run without or fail. A container of "
               "podman takes one of each, a service of systemd often one of mounts. A network "
               "namespace costs the machine about as much memory again as memory.limit is charged "
               "for it. At the limit clone(2) and unshare(2) fail with ENOSPC. By default 128."},
    {.key = "connections",
     .backend = PARAM_IN_NETWORK,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = COUNT_MAX_ROW,
     .def = {.n = 16384},
     .below = "connections that are open stay, and are not counted against the new limit",
     .summary = "most tracked connections of the VE",
     .detail =
         "A whole number: connections of any protocol that the node tracks at a time, from and to "
         "the VE, IPv4 and IPv6 together; the first packet of one more is dropped and counted. "
         "One that was closed does not count, a ping or a datagram counts until it is forgotten "
         "(net.netfilter.nf_conntrack_udp_timeout and the like); one between two VEs is the one's "
         "that opened it. By default 16384, or a quarter "
         "of net.netfilter.nf_conntrack_max where that is less. One that was closed keeps its "
         "place in the table that all share for up to two minutes all the same "
         "(net.netfilter.nf_conntrack_tcp_timeout_time_wait): connections.rate bounds how many of "
         "those a VE leaves. Above 2047 they are counted in equal parts of 1024 to 2047, into "
         "which they fall by chance: never more than the limit, but refusals may begin at nine "
         "tenths of it. A full part is looked at again after 100 ms. A limit that is changed "
         "while the VE runs counts anew: connections that are open are not counted against it. "
         "maxheld is not counted."},
    {.key = "connections.rate",
     .backend = PARAM_IN_NETWORK,
     .first = PARAM_GUARANTEE_FIRST,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .min = 1,
     .max = COUNT_MAX_ROW,
     .def = NO_LIMIT,
     .summary = "new connections per second to and from the VE",
     .detail =
         "A whole number of new connections each second, from and to the VE together, or two as "
         "guarantee:limit; one between two VEs is the one's that opens it. A second's worth may "
         "come at once. The first packet of one more is "
         "dropped and counted; programs try again, TCP after a second. The guarantee is kept "
         "where capacity.connections of terem.conf says how many new connections a second the "
         "node serves: VEs without a guarantee, and what goes beyond one, share what is left of "
         "it, and the sum of guarantees never exceeds it. By default unlimited and nothing "
         "guaranteed."},
    {.key = "firewall.rules",
     .backend = PARAM_IN_NETWORK,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = COUNT_MAX_ROW,
     .def = NO_LIMIT,
     .ancestor = "numiptent",
     .summary = "rules in the VE's own firewall",
     .detail = "Counted when somebody asks: rules of nftables in the VE's network namespace, and "
               "entries of the older iptables. The stock kernel refuses none, so the only value is "
               "unlimited; the memory of rules is charged to memory.limit, which refuses. OpenVZ's "
               "numiptent was a limit."},

    /* ---- disk ---- */
    {.key = "disk.space",
     .backend = PARAM_IN_STORAGE,
     .first = PARAM_SOFT_FIRST,
     .type = PARAM_SIZE,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = SIZE_MAX_ROW,
     .def = NO_LIMIT,
     .ancestor = "diskspace",
     .summary = "disk space of the VE's own files",
     .detail =
         "In bytes, such as 10G, or soft:hard, such as 9G:10G. The hard half is never exceeded: "
         "a write gets \"disk quota exceeded\" (EDQUOT) and is counted. The soft half may be "
         "exceeded for disk.grace; the VE's users are told at login, and then nothing can be "
         "added until enough is deleted. Files of the shared template are not counted; what "
         "the file system needs for the VE's files may be. df inside shows the VE's own size "
         "where its file system does, else for commands and services that were started after "
         "the limit was set. Lowered below what is in use, with --force, it takes nothing "
         "away. Held on btrfs, and on ext4 and xfs with project quotas; other pools refuse "
         "it. OpenVZ's diskspace."},
    {.key = "disk.inodes",
     .backend = PARAM_IN_STORAGE,
     .first = PARAM_SOFT_FIRST,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = COUNT_MAX_ROW,
     .def = NO_LIMIT,
     .ancestor = "diskinodes",
     .summary = "number of the VE's own files and directories",
     .detail = "A whole number, or soft:hard, as in disk.space. Held on ext4 and xfs with project "
               "quotas. btrfs makes inodes as it needs them and has no quota for them: refused "
               "there, and disk.space bounds them, since each takes space."},
    {.key = "disk.grace",
     .backend = PARAM_IN_STORAGE,
     .type = PARAM_TIME,
     .kind = PARAM_SETTING,
     .max = 365ull * 86400000,
     .def = {.n = 7ull * 86400000},
     .ancestor = "quotatime",
     .summary = "how long the soft disk limits may be exceeded",
     .detail = "A time such as 12h or 7d; a bare number is seconds. By default a week; 0 makes the "
               "soft half a hard one as soon as it is seen. Time in which the VE or the node is "
               "off counts. What is used is looked at once a minute (disk.look in terem.conf), so "
               "the time begins up to a minute late."},
    {.key = "disk.users",
     .backend = PARAM_IN_STORAGE,
     .type = PARAM_SWITCH,
     .kind = PARAM_SETTING,
     .max = 1,
     .ancestor = "quotaugidlimit",
     .summary = "quotas for users and groups inside the VE",
     .detail = "off. On is refused: quotas of the second level do not work in a pool whose file "
               "system many VEs share. The ordinary quota tools need quotactl(2), which asks for "
               "power over the whole file system, overlay, which the VE sees, has none, and user "
               "1000 of one VE is user 1000 of all on disk. OpenVZ's quotaugidlimit."},
    {.key = "io.weight",
     .type = PARAM_COUNT,
     .kind = PARAM_WEIGHT,
     .min = 1,
     .max = 10000,
     .def = {.n = 100},
     .controller = "io",
     .v2_file = "io.weight",
     .v1_file = "blkio.bfq.weight",
     .ancestor = "ioprio",
     .summary = "the VE's part of disk throughput",
     .detail = "A number without unit from 1 to 10000, by default 100; when the disk is busy, a "
               "VE of 200 gets twice what one of 100 gets. Somebody has to divide the disk: its "
               "scheduler bfq (weights to 1000), or on cgroup v2 iocost (io.cost.qos). Where "
               "neither is on for a disk on which VEs' files lie, it is refused with what turns "
               "it on. OpenVZ's ioprio, 0 to 7, was a level of the scheduler CFQ."},
    {.key = "io.read",
     .type = PARAM_IO,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .min = 1,
     .max = SIZE_MAX_ROW,
     .def = NO_LIMIT,
     .controller = "io",
     .v2_file = "io.max",
     .v1_file = "blkio.throttle.read_bps_device",
     .ancestor = "iolimit, iopslimit",
     .summary = "most that the VE reads from disk per second",
     .detail = "Bytes each second, operations each second, or both: 50M, 1000iops, "
               "50M,1000iops. It holds for each disk on which files of VEs lie; a partition "
               "counts as its disk. What is in the page cache already is not read from disk. A "
               "VE at its limit waits, and nothing fails. It is refused where the disk cannot "
               "be told, as on tmpfs, overlay and network file systems. OpenVZ's iolimit and "
               "iopslimit were one limit for reading and writing together."},
    {.key = "io.write",
     .type = PARAM_IO,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .min = 1,
     .max = SIZE_MAX_ROW,
     .def = NO_LIMIT,
     .controller = "io",
     .v2_file = "io.max",
     .v1_file = "blkio.throttle.write_bps_device",
     .ancestor = "iolimit, iopslimit",
     .summary = "most that the VE writes to disk per second",
     .detail = "Bytes each second, operations each second, or both: 50M, 1000iops, "
               "50M,1000iops, as io.read. What is written to files goes to the page cache "
               "first, and to disk later: cgroup v2 charges that to the VE, too; on cgroup v1 "
               "it is the kernel's own work, and only direct and synchronous writes are "
               "limited."},

    /* ---- network ---- */
    {.key = "net.out.CLASS",
     .backend = PARAM_IN_NETWORK,
     .first = PARAM_GUARANTEE_FIRST,
     .type = PARAM_RATE,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = RATE_MAX_ROW,
     .def = NO_LIMIT,
     .ancestor = "rate, ratebound, TOTALRATE",
     .summary = "rate of traffic from the VE to a destination class",
     .detail =
         "guarantee:ceiling in bits per second, with k, M, G and T for powers of 1000, such as "
         "5M:20M; one value alone is the ceiling. CLASS is the name of a destination class (terem "
         "network class), any for what no class holds, or local for this node's VEs. What is "
         "guaranteed comes first, also when every VE wants all it can get, and what others "
         "borrowed "
         "of it comes back at once; what is left of the node's rate goes in equal parts to all who "
         "want it, up to their ceilings. The sum of guarantees over all VEs and classes never "
         "exceeds network.out of terem.conf: what cannot be kept is refused. Packets over the "
         "ceiling wait in a queue of 10 ms at the ceiling's rate, at least 256 KiB, and are "
         "dropped "
         "when it is full; rates count Ethernet headers. Local traffic needs no uplink: it can "
         "have "
         "a ceiling, no guarantee. By default unlimited."},
    {.key = "net.in.CLASS",
     .backend = PARAM_IN_NETWORK,
     .first = PARAM_GUARANTEE_FIRST,
     .type = PARAM_RATE,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .max = RATE_MAX_ROW,
     .def = NO_LIMIT,
     .ancestor = "rate, ratebound, TOTALRATE",
     .summary = "rate of traffic to the VE from a destination class",
     .detail =
         "As net.out.CLASS, for what the VE gets from addresses of the class by the uplink; "
         "guarantees are admitted up to network.in of terem.conf. What comes in waits before it "
         "goes to its VE, so TCP's senders slow down to their parts; what others send without "
         "slowing down takes its place on the line before, and what the host itself gets is not "
         "shared. By default unlimited."},
    {.key = "net.packets",
     .backend = PARAM_IN_NETWORK,
     .type = PARAM_COUNT,
     .kind = PARAM_LIMIT,
     .flags = PARAM_UNLIMITED,
     .min = 1,
     .max = COUNT_MAX_ROW,
     .def = NO_LIMIT,
     .summary = "most packets per second from the VE, and to it",
     .detail =
         "A whole number of IP packets each second, for each direction of its own; a tenth of a "
         "second's worth, at least 10, may come at once. What is over is dropped and counted, "
         "from the VE before anything else is done for it, whatever its source address. Segments "
         "that the kernel carries as one large packet count once. By default unlimited. "
         "Fragments from a VE are bounded always: those over 200 a second, which the node would "
         "have to keep until the others come, are dropped and counted here."},

    /* ---- sleep ---- */
    {.key = "idle.sleep",
     .backend = PARAM_IN_NODE,
     .type = PARAM_TIME,
     .kind = PARAM_SETTING,
     .max = 365ull * 86400000,
     .summary = "how long nobody uses the VE before it is put to sleep",
     .detail =
         "A time such as 10m or 2h, at least 1s; a bare number is seconds; the default 0 never "
         "puts it to sleep. A VE that sleeps is frozen and its memory goes to swap (terem node "
         "setup makes "
         "some in compressed memory); without swap it gives "
         "back its page cache alone. It keeps "
         "its addresses and connections: the kernel takes packets for it, and the first one that "
         "is use wakes it and is served. So do exec, enter, console, push, pull, and every job "
         "but squeeze, stop, restart and kill; terem resume wakes it, too. Use is a packet to or "
         "from an "
         "address of the VE that is TCP with data or opens a connection, UDP, or anything else "
         "but ICMP: not ARP and neighbour discovery, multicast, broadcast, pings, "
         "acknowledgements, keep-alives and ends of connections. Use is also more than 0.2% of a "
         "core (at least 20 ms) in the last three quarters of the time; cron and timers that do "
         "little are none. While a command or terminal of terem exec, enter or console is open, "
         "files go in or out, or a job is at work on it, it does not fall asleep. Timers of the "
         "VE's own do not run while it sleeps: a cron job that is due waits for its waking. "
         "Looked at once in a while, so it falls asleep up to a sixteenth of the time (10 s at "
         "most) late."},

    /* ---- shown, never set ---- */
    {.key = "uptime",
     .backend = PARAM_IN_NODE,
     .type = PARAM_TIME,
     .kind = PARAM_COUNTER,
     .max = UINT64_MAX,
     .summary = "time since the VE was started",
     .detail = "By the clock of the wall; usage.uptime of the API, in milliseconds."},
    {.key = "steal",
     .backend = PARAM_IN_NODE,
     .type = PARAM_TIME,
     .kind = PARAM_COUNTER,
     .max = UINT64_MAX,
     .summary = "time in which the VE could run and nothing of it did",
     .detail = "Since its start: something in the VE waited for a processor, and nothing of the VE "
               "had one, because others did or because cpu.limit was used up. It is \"full\" of "
               "the VE's processor pressure; kernels that do not count pressure (psi=1 on their "
               "command line) do not count it. usage.steal of the API, in milliseconds."},
    {.key = "pressure",
     .backend = PARAM_IN_NODE,
     .type = PARAM_PERCENT,
     .kind = PARAM_COUNTER,
     .max = 10000,
     .summary = "part of the time in which work in the VE was stalled",
     .detail = "In percent of the last ten seconds, for processor, memory and disk each: how long "
               "something in the VE waited for it. Kernels that do not count pressure (psi=1 on "
               "their command line) do not tell. usage.pressure of the API."},
};

const size_t param_table_size = ARRAY_SIZE(param_table);

_Static_assert(ARRAY_SIZE(param_table) <= PARAM_MAX, "struct param_set is too small for the table");
