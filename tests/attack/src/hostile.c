/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hostile — a neighbour as one fears it, and the customer who measures its victim.
 *
 *     hostile fork|memory|disk|sockets SECONDS       inside a VE
 *     hostile flood SECONDS ADDRESS PORT
 *     hostile customer SECONDS ADDRESS PORT RATE     prints one line per request: microseconds,
 *                                                    or -1 for a request without an answer
 *
 * Each bounds itself in time and ends what it began; the last line says what was refused.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (1 << 20)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Children that go on forking, and burn the processor when they cannot. */
static void bomb(double end)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (now() < end)
        if (fork() == 0)
            prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(0);
}

static unsigned long fork_bomb(double end)
{
    unsigned long refused = 0;
    for (int i = 0; i < 4; i++)
        if (fork() == 0)
            bomb(end);
    while (now() < end) {
        pid_t pid = fork();
        if (pid == 0)
            bomb(end);
        refused += pid < 0;
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
    return refused;
}

/* A child takes memory until it is killed, and then the next. */
static unsigned long memory_hog(double end)
{
    unsigned long killed = 0;
    while (now() < end) {
        pid_t pid = fork();
        if (pid == 0) {
            while (now() < end) {
                char *p =
                    mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                if (p == MAP_FAILED)
                    continue;
                memset(p, 0x5a, CHUNK);
            }
            _exit(0);
        }
        int status = 0;
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        killed += pid > 0 && WIFSIGNALED(status);
    }
    return killed;
}

/* Writes the same 256 MiB again and again, and syncs: bounded on disk, not in work. */
static unsigned long disk_filler(double end)
{
    static char block[CHUNK];
    unsigned long refused = 0;
    int fd = open("/filler", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    memset(block, 0x5a, sizeof(block));
    for (int i = 0; fd >= 0 && now() < end; i++) {
        refused += pwrite(fd, block, sizeof(block), (off_t)(i % 256) * CHUNK) < 0;
        if (i % 64 == 63)
            fdatasync(fd);
    }
    unlink("/filler");
    return refused;
}

static unsigned long socket_hoarder(double end)
{
    unsigned long refused = 0;
    for (int i = 0; i < 8; i++) {
        if (fork() != 0)
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (now() < end)
            if (socket(i % 2 ? AF_INET6 : AF_INET, i % 3 ? SOCK_STREAM : SOCK_DGRAM, 0) < 0)
                usleep(1000);
        _exit(0);
    }
    while (now() < end) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        refused += fd < 0 && errno != EMFILE;
        if (fd < 0)
            usleep(1000);
    }
    while (wait(NULL) > 0)
        ;
    return refused;
}

static struct sockaddr_in address(char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[4]))};
    if (inet_pton(AF_INET, argv[3], &to.sin_addr) != 1)
        exit(2);
    return to;
}

static unsigned long packet_flood(double end, char **argv)
{
    static const char bytes[64];
    unsigned long refused = 0;
    struct sockaddr_in to = address(argv);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    while (now() < end)
        for (int i = 0; i < 64; i++)
            refused += sendto(fd, bytes, sizeof(bytes), MSG_DONTWAIT, (struct sockaddr *)&to,
                              sizeof(to)) < 0;
    return refused;
}

/* One request on a connection of its own; false: no whole answer within 5 s. */
static bool request(const struct sockaddr_in *to)
{
    static const char text[] = "GET / HTTP/1.0\r\nHost: victim\r\n\r\n";
    struct timeval patience = {.tv_sec = 5};
    char buf[16384];
    ssize_t n, all = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    bool ok = connect(fd, (const struct sockaddr *)to, sizeof(*to)) == 0 &&
              send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(text) - 1;
    while (ok && (n = recv(fd, buf, sizeof(buf), 0)) != 0) {
        ok = n > 0;
        all += n;
    }
    close(fd);
    return ok && all > 100;
}

static void customer(double seconds, char **argv)
{
    struct sockaddr_in to = address(argv);
    double every = 1.0 / atoi(argv[5]), begin = now();
    for (double at = begin; at < begin + seconds; at += every) {
        double wait = at - now();
        if (wait > 0)
            usleep((useconds_t)(wait * 1e6));
        double sent = now();
        bool ok = request(&to);
        printf("%ld\n", ok ? (long)((now() - sent) * 1e6) : -1);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    double seconds = atof(argv[2]), end = now() + seconds;
    unsigned long refused = 0;
    if (strcmp(argv[1], "customer") == 0 && argc == 6) {
        customer(seconds, argv);
        return 0;
    }
    if (strcmp(argv[1], "fork") == 0)
        refused = fork_bomb(end);
    else if (strcmp(argv[1], "memory") == 0)
        refused = memory_hog(end);
    else if (strcmp(argv[1], "disk") == 0)
        refused = disk_filler(end);
    else if (strcmp(argv[1], "sockets") == 0)
        refused = socket_hoarder(end);
    else if (strcmp(argv[1], "flood") == 0 && argc == 5)
        refused = packet_flood(end, argv);
    else
        return 2;
    printf("refused %lu\n", refused);
    return 0;
}
