/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * announce — tells the neighbours on a link that an address is met at this machine from now on:
 * those who knew it by another hardware address learn ours at once.
 *
 * I own the frames: an ARP announcement (RFC 5227, section 3) and an unsolicited neighbour
 * advertisement (RFC 4861, section 7.2.6).  I answer nobody: see netlink_proxy_add().
 *
 *     int fd;
 *     announce_open(&fd, err);
 *     announce_send(fd, ifindex, &ip, err);
 */
#pragma once

#include "kernel/netlink.h"

/* To be kept: the last closing of such a socket waits until no processor handles packets of before
 * (packet_release() of Linux 6.18; 0.5 to 21 ms were seen).  It receives nothing. */
int announce_open(int *ret_fd, struct err *err);
/* ERR_UNSUPPORTED: the link is not of Ethernet's kind, so nobody there has learnt anything. */
int announce_send(int fd, int ifindex, const struct netlink_ip *ip, struct err *err);
