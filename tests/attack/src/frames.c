/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sends each argument, the bytes of an Ethernet frame in hexadecimal, out of eth0. */
#include <arpa/inet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    unsigned char frame[2048];
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("eth0")};
    int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    if (fd < 0 || !to.sll_ifindex) {
        perror("a raw socket on eth0");
        return 1;
    }
    for (int i = 1; i < argc; i++) {
        size_t n = strlen(argv[i]) / 2;
        for (size_t k = 0; k < n && k < sizeof(frame); k++)
            if (sscanf(argv[i] + 2 * k, "%2hhx", &frame[k]) != 1)
                return 2;
        if (sendto(fd, frame, n, 0, (void *)&to, sizeof(to)) != (ssize_t)n) {
            perror("send");
            return 1;
        }
    }
    return 0;
}
