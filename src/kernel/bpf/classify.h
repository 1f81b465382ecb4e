/* SPDX-License-Identifier: GPL-2.0-or-later */
/* classify — what the programs of classify.bpf.c and kernel/classify.c agree upon. */
#pragma once

#include <linux/types.h>

#define CLASSIFY_LAYOUT 1 /* of the maps; another one is another directory in the bpffs */

#define CLASSIFY_ANY    1 /* what no prefix holds */
#define CLASSIFY_LOCAL  2 /* what stays on the node */
#define CLASSIFY_OTHERS 0 /* of leaves: see there */

#define CLASSIFY_ENDS_MAX     65536
#define CLASSIFY_LEAVES_MAX   131072
#define CLASSIFY_COUNTS_MAX   262144 /* 16 classes, both ways, of 8192 VEs; 16 bytes each at once */
#define CLASSIFY_PREFIXES_MAX 262144

/* Keys of the tries: as many bits of the address as count, in network order. */
struct classify_prefix4 {
    __u32 length;
    __u8 address[4];
};
struct classify_prefix6 {
    __u32 length;
    __u8 address[16];
};

/* map "ends": whose an interface is, by its index. */
struct classify_end {
    __u64 ve;
};

/* Of maps "leaves" and "counts".  A leaf (__u32) is the minor number of a class of HTB, where the
 * packets of a VE and class wait; that of CLASSIFY_OTHERS is for all classes but CLASSIFY_LOCAL
 * that have none of their own, and without one a packet does not wait. */
struct classify_key {
    __u64 ve;
    __u32 class;
    __u32 in; /* 1: towards the VE */
};

/* map "counts": only programs write it, so nothing is lost between reading and writing. */
struct classify_count {
    __u64 bytes, packets;
};

/* map "stamps": of VEs that are watched for use, by id.  Made by teremd, from then on written by
 * programs alone. */
struct classify_stamp {
    __u64 used_ns; /* CLOCK_MONOTONIC of the last packet that is use */
};

/* map "asleep": of VEs that sleep, by id.  Made and taken away by teremd. */
struct classify_sleep {
    __u64 used_ns; /* of its stamp, when it was put to sleep */
    __u64 told;    /* 1: a packet came, and the ring "wakes" has the VE's id */
};

#define CLASSIFY_STAMPS_MAX 65536
#define CLASSIFY_WAKES_SIZE 65536 /* bytes; an id is told once, in 16 of them */

/* map "settings", of one place. */
struct classify_settings {
    __u32 uplink; /* index of the interface that leads out; 0: none */
    __u32 lender; /* of the IFB where what comes in waits */
    __u32 handle; /* major number of both trees, in the upper half */
    __u32 pad;
};
