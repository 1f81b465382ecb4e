/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * alone ROUNDS NAME FROM TO ADDRESS … — what one processor spends on a datagram there and back, and
 * on 64 KiB of TCP with their acknowledgement, between two network namespaces (paths of them).
 *
 * One thread, tied to one processor, has both sockets of a connection: nothing waits for a wake-up
 * or another processor, so medians stay within some percent while the machine is busy.  The places
 * take turns.  Prints "NAME datagram-ns segment-ns" for each.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PLACES 8
#define WARM   500
#define BLOCKS 4 /* of 128 KiB, for one value */
#define BLOCK  (128 << 10)

struct place {
    const char *name;
    int udp_from, udp_to, tcp_from, tcp_to;
    double *datagram, *segment;
};

static char buffer[1 << 20];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void enter(const char *space)
{
    int fd = open(space, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
        err(1, "%s", space);
    close(fd);
}

static int open_socket(int type)
{
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        err(1, "socket");
    return fd;
}

static void lay(struct place *p, char **words, size_t rounds)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7333)};
    int one = 1, size = 4 << 20;
    p->name = words[0];
    p->datagram = calloc(rounds, sizeof(double));
    p->segment = calloc(rounds, sizeof(double));
    if (!p->datagram || !p->segment || inet_pton(AF_INET, words[3], &at.sin_addr) != 1)
        errx(1, "%s: no memory, or no address", words[3]);
    enter(words[2]);
    p->udp_to = open_socket(SOCK_DGRAM);
    int listener = open_socket(SOCK_STREAM);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    if (bind(p->udp_to, (void *)&at, sizeof(at)) < 0 ||
        bind(listener, (void *)&at, sizeof(at)) < 0 || listen(listener, 1) < 0)
        err(1, "%s", words[3]);
    enter(words[1]);
    p->udp_from = open_socket(SOCK_DGRAM);
    p->tcp_from = open_socket(SOCK_STREAM);
    setsockopt(p->tcp_from, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    setsockopt(p->tcp_from, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5); /* does not pace */
    if (connect(p->udp_from, (void *)&at, sizeof(at)) < 0 ||
        connect(p->tcp_from, (void *)&at, sizeof(at)) < 0 ||
        (p->tcp_to = accept(listener, NULL, NULL)) < 0)
        err(1, "%s", words[3]);
    close(listener);
}

static double there_and_back(const struct place *p)
{
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    double begin = now();
    if (send(p->udp_from, buffer, 64, 0) < 0 ||
        recvfrom(p->udp_to, buffer, 100, 0, (void *)&from, &len) < 0 ||
        sendto(p->udp_to, buffer, 64, 0, (void *)&from, len) < 0 ||
        recv(p->udp_from, buffer, 100, 0) < 0)
        err(1, "%s", p->name);
    return now() - begin;
}

static double carry(const struct place *p)
{
    double begin = now();
    for (int i = 0; i < BLOCKS; i++) {
        if (send(p->tcp_from, buffer, BLOCK, 0) != BLOCK)
            err(1, "%s", p->name);
        for (ssize_t got = 0, n; got < BLOCK; got += n)
            if ((n = recv(p->tcp_to, buffer, sizeof(buffer), 0)) <= 0)
                err(1, "%s", p->name);
    }
    return (now() - begin) / (BLOCKS * (BLOCK >> 16));
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 0, n = (size_t)(argc - 2) / 4;
    struct place places[PLACES] = {0};
    cpu_set_t one;
    if (rounds == 0 || argc < 6 || n > PLACES)
        errx(2, "alone ROUNDS NAME FROM TO ADDRESS ...");
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    if (sched_setaffinity(0, sizeof(one), &one) < 0)
        err(1, "sched_setaffinity");
    for (size_t i = 0; i < n; i++)
        lay(&places[i], argv + 2 + 4 * i, rounds);
    for (size_t r = 0; r < WARM + rounds; r++)
        for (size_t i = 0; i < n; i++) {
            size_t at = r < WARM ? 0 : r - WARM;
            places[i].datagram[at] = there_and_back(&places[i]);
            places[i].segment[at] = carry(&places[i]);
        }
    for (size_t i = 0; i < n; i++) {
        qsort(places[i].datagram, rounds, sizeof(double), compare);
        qsort(places[i].segment, rounds, sizeof(double), compare);
        printf("%s %.0f %.0f\n", places[i].name, places[i].datagram[rounds / 2],
               places[i].segment[rounds / 2]);
    }
    return 0;
}
