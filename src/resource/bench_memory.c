/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bench_memory — a server with a warm set of files, and neighbours that press on it.
 *
 *     bench_memory serve FILE MB SECONDS RATE   makes the file, reads it, says "warm"; then tries
 *                                               RATE requests a second, each 16 pages anywhere in
 *                                               the file, and says once a second how many it made
 *     bench_memory press FILE MB TOTAL          keeps MB of its own, and writes and reads a file of
 *                                               64 MB until TOTAL MB went through; says "held"
 *
 * The line of a second: "<requests> <major faults so far> <percent of the file in memory>".
 */
#include "base/number.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MB       (1024 * 1024ull)
#define PAGE     4096ull
#define PAGES    16 /* of a request */
#define STREAM   (64 * MB)
#define BLOCK    (256 * 1024)
#define NS       1000000000ll
#define RANDOM_A 6364136223846793005ull /* Knuth's MMIX */
#define RANDOM_C 1442695040888963407ull

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS + t.tv_nsec;
}

static void sleep_until(int64_t at)
{
    struct timespec t = {.tv_sec = at / NS, .tv_nsec = at % NS};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
        ;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void fill(int fd, uint64_t size, char *block)
{
    for (uint64_t at = 0; at < size; at += BLOCK)
        if (pwrite(fd, block, BLOCK, (off_t)at) != BLOCK)
            fail("write");
}

static unsigned resident(char *map, uint64_t size)
{
    static unsigned char in[1 << 20];
    uint64_t pages = size / PAGE, n = 0;
    if (pages > sizeof(in) || mincore(map, size, in) < 0)
        fail("mincore");
    for (uint64_t i = 0; i < pages; i++)
        n += in[i] & 1;
    return (unsigned)(n * 100 / pages);
}

static void tell(unsigned requests, char *map, uint64_t size)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    printf("%u %ld %u\n", requests, u.ru_majflt, resident(map, size));
    fflush(stdout);
}

static int serve(const char *path, uint64_t size, uint64_t seconds, uint64_t rate, char *block)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        fail(path);
    fill(fd, size, block);
    fsync(fd);
    char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED || madvise(map, size, MADV_RANDOM) < 0)
        fail("mmap");
    volatile char sink = 0;
    for (int round = 0; round < 3; round++) /* used more than once: the kernel's "active" */
        for (uint64_t at = 0; at < size; at += PAGE)
            sink += map[at];
    puts("warm");
    fflush(stdout);
    int64_t begin = now_ns(), next = begin, second = begin + NS;
    uint64_t random = 1;
    unsigned requests = 0;
    while (next < begin + (int64_t)seconds * NS) {
        for (int i = 0; i < PAGES; i++) {
            random = random * RANDOM_A + RANDOM_C;
            sink += map[(random >> 20) % (size / PAGE) * PAGE];
        }
        requests++;
        next += NS / (int64_t)rate;
        while (now_ns() >= second) {
            tell(requests, map, size);
            requests = 0;
            second += NS;
        }
        if (now_ns() > next + NS / 2) /* it does not make up for what it missed */
            next = now_ns();
        sleep_until(next);
    }
    return 0;
}

static int press(const char *path, uint64_t size, uint64_t total, char *block)
{
    char *own = malloc(size);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || !own)
        fail(path);
    for (uint64_t at = 0; at < size; at += PAGE)
        own[at] = (char)at | 1;
    puts("held");
    fflush(stdout);
    fill(fd, STREAM, block);
    for (uint64_t done = STREAM; done < total;) {
        for (uint64_t at = 0; at < STREAM && done < total; at += BLOCK, done += BLOCK)
            if (pread(fd, block, BLOCK, (off_t)at) != BLOCK)
                fail("read");
        for (uint64_t at = 0; at < size; at += PAGE) /* what it keeps is in use */
            own[at]++;
    }
    puts("done");
    return 0;
}

int main(int n, char **arg)
{
    static char block[BLOCK];
    uint64_t number[3] = {0};
    memset(block, 'x', sizeof(block));
    for (int i = 3; i < n && i < 6; i++)
        if (number_parse(arg[i], 1, 1 << 20, &number[i - 3], NULL) < 0)
            return 2;
    if (n == 6 && strcmp(arg[1], "serve") == 0)
        return serve(arg[2], number[0] * MB, number[1], number[2], block);
    if (n == 5 && strcmp(arg[1], "press") == 0)
        return press(arg[2], number[0] * MB, number[1] * MB, block);
    return 2;
}
