/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Floods from inside a VE, by its root; each sends what it was told to and ends.
 *
 *     flood packets     ADDRESS COUNT     datagrams of one connection
 *     flood connections ADDRESS COUNT     a connection each: ports change
 *     flood spoofed     ADDRESS COUNT     with sources of 10.0.0.0/8 that change
 *     flood fragments   ADDRESS COUNT     first fragments of which no others come
 *     flood big         ADDRESS SIZE      one datagram, in fragments
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct header { /* RFC 791, RFC 768 */
    uint8_t version, tos;
    uint16_t length, id, fragment;
    uint8_t ttl, protocol;
    uint16_t check;
    uint32_t from, to;
    uint16_t port, to_port, size, sum;
    char data[32];
};

static struct sockaddr_in to = {.sin_family = AF_INET};

static int opened(int type, int protocol)
{
    int fd = socket(AF_INET, type, protocol), size = 4 << 20;
    if (fd < 0) {
        perror("socket");
        exit(1);
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
    return fd;
}

static void packets(unsigned long count)
{
    int fd = opened(SOCK_DGRAM, 0);
    for (unsigned long i = 0; i < count; i++)
        while (sendto(fd, "x", 1, 0, (void *)&to, sizeof(to)) < 0 && errno == ENOBUFS)
            ;
}

static void connections(unsigned long count)
{
    int fd = -1;
    for (unsigned long i = 0; i < count; i++) {
        if (i % 20000 == 0) { /* the same ports again, from another of its own */
            close(fd);
            fd = opened(SOCK_DGRAM, 0);
        }
        to.sin_port = htons((uint16_t)(20000 + i % 20000));
        while (sendto(fd, "x", 1, 0, (void *)&to, sizeof(to)) < 0 && errno == ENOBUFS)
            ;
    }
}

static void raw(unsigned long count, int spoofed, uint32_t own)
{
    int fd = opened(SOCK_RAW, IPPROTO_RAW);
    for (unsigned long i = 0; i < count; i++) {
        struct header h = {.version = 0x45,
                           .length = htons(sizeof(h)),
                           .id = htons((uint16_t)i),
                           .fragment = htons(spoofed ? 0 : 0x2000),
                           .ttl = 64,
                           .protocol = IPPROTO_UDP,
                           .from = spoofed ? htonl(0x0a000000 + (uint32_t)i) : own,
                           .to = to.sin_addr.s_addr,
                           .port = htons((uint16_t)(1024 + i)),
                           .to_port = htons(9),
                           .size = htons(40)};
        while (sendto(fd, &h, sizeof(h), 0, (void *)&to, sizeof(to)) < 0 && errno == ENOBUFS)
            ;
    }
}

static uint32_t own_address(void)
{
    struct sockaddr_in a;
    socklen_t len = sizeof(a);
    int fd = opened(SOCK_DGRAM, 0);
    if (connect(fd, (void *)&to, sizeof(to)) < 0 || getsockname(fd, (void *)&a, &len) < 0)
        exit(1);
    close(fd);
    return a.sin_addr.s_addr;
}

int main(int argc, char **argv)
{
    static char big[65000];
    if (argc != 4 || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
        return 2;
    unsigned long count = strtoul(argv[3], NULL, 10);
    to.sin_port = htons(9);
    if (strcmp(argv[1], "packets") == 0)
        packets(count);
    else if (strcmp(argv[1], "connections") == 0)
        connections(count);
    else if (strcmp(argv[1], "spoofed") == 0)
        raw(count, 1, 0);
    else if (strcmp(argv[1], "fragments") == 0)
        raw(count, 0, own_address());
    else if (strcmp(argv[1], "big") == 0 && count <= sizeof(big))
        return sendto(opened(SOCK_DGRAM, 0), big, count, 0, (void *)&to, sizeof(to)) < 0;
    else
        return 2;
    return 0;
}
