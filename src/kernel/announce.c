/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/announce.h"

#include "base/cleanup.h"

#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netpacket/packet.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int announce_open(int *ret_fd, struct err *err)
{
    int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(err, "cannot open a packet socket");
    *ret_fd = fd;
    return 0;
}

static int hardware_address(int fd, int ifindex, uint8_t ret[ETH_ALEN], struct err *err)
{
    struct ifreq r = {0};
    if (!if_indextoname((unsigned)ifindex, r.ifr_name) || ioctl(fd, SIOCGIFHWADDR, &r) < 0)
        return err_sys(err, "cannot read the hardware address of a link");
    if (r.ifr_hwaddr.sa_family != ARPHRD_ETHER)
        return err_set(err, ERR_UNSUPPORTED, "%s has no hardware addresses", r.ifr_name);
    memcpy(ret, r.ifr_hwaddr.sa_data, ETH_ALEN);
    return 0;
}

static int send_arp(int fd, int ifindex, const struct in_addr *ip, const uint8_t mac[ETH_ALEN],
                    struct err *err)
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_ARP),
                             .sll_ifindex = ifindex,
                             .sll_halen = ETH_ALEN,
                             .sll_addr = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
    struct ether_arp a = {.ea_hdr = {.ar_hrd = htons(ARPHRD_ETHER),
                                     .ar_pro = htons(ETH_P_IP),
                                     .ar_hln = ETH_ALEN,
                                     .ar_pln = sizeof(*ip),
                                     .ar_op = htons(ARPOP_REQUEST)}};
    memcpy(a.arp_sha, mac, ETH_ALEN);
    memcpy(a.arp_spa, ip, sizeof(*ip));
    memcpy(a.arp_tpa, ip, sizeof(*ip));
    return sendto(fd, &a, sizeof(a), 0, (struct sockaddr *)&to, sizeof(to)) < 0
               ? err_sys(err, "cannot send an ARP announcement")
               : 0;
}

/* With the override flag, although the address is the machine's by proxy only: what others remember
 * is of a machine that has it no more. */
static int send_advert(int ifindex, const struct in6_addr *ip, const uint8_t mac[ETH_ALEN],
                       struct err *err)
{
    struct {
        struct nd_neighbor_advert na;
        struct nd_opt_hdr option;
        uint8_t mac[ETH_ALEN];
    } m = {.na.nd_na_hdr.icmp6_type = ND_NEIGHBOR_ADVERT,
           .na.nd_na_flags_reserved = ND_NA_FLAG_ROUTER | ND_NA_FLAG_OVERRIDE,
           .na.nd_na_target = *ip,
           .option = {ND_OPT_TARGET_LINKADDR, 1}};
    struct sockaddr_in6 to = {.sin6_family = AF_INET6,
                              .sin6_addr = {.s6_addr = {0xff, 0x02, [15] = 1}},
                              .sin6_scope_id = (uint32_t)ifindex};
    int hops = 255, off = 0;
    auto_fd int fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6);
    memcpy(m.mac, mac, ETH_ALEN);
    if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof(hops)) < 0 ||
        setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, &off, sizeof(off)) < 0 ||
        sendto(fd, &m, sizeof(m), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
        return err_sys(err, "cannot send a neighbour advertisement");
    return 0;
}

int announce_send(int fd, int ifindex, const struct netlink_ip *ip, struct err *err)
{
    uint8_t mac[ETH_ALEN];
    int r = hardware_address(fd, ifindex, mac, err);
    if (r < 0)
        return r;
    return ip->family == AF_INET ? send_arp(fd, ifindex, &ip->v4, mac, err)
                                 : send_advert(ifindex, &ip->v6, mac, err);
}
