/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asks sysinfo(2) in all the ways that a VE may: run inside by tests/test_inside.py.
 *
 *     sysinfo show           one line per field, of the native and the 32-bit call
 *     sysinfo bad            pointers that nobody may write to, one errno a line
 *     sysinfo die N          N callers that are killed while they wait
 *     sysinfo flood N S      N threads ask for S seconds; how often they were answered, and wrongly
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int show(void)
{
    struct sysinfo s;
    if (syscall(SYS_sysinfo, &s) < 0)
        return 1;
    printf("uptime %ld\ntotal %lu\nfree %lu\nshared %lu\nbuffer %lu\nswap %lu\nswapfree %lu\n"
           "procs %u\nunit %u\nload %lu\n",
           s.uptime, s.totalram, s.freeram, s.sharedram, s.bufferram, s.totalswap, s.freeswap,
           s.procs, s.mem_unit, s.loads[0]);
#ifdef __x86_64__
    uint32_t *w =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    long r;
    w[16] = 0x5a5a5a5a; /* what lies behind the 64 bytes stays */
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(116), "b"(w) : "memory");
    printf("total32 %llu\nunit32 %u\nuptime32 %u\nbehind32 %x\nresult32 %ld\n",
           (unsigned long long)w[4] * w[13], w[13], w[0], w[16], r);
#endif
    return 0;
}

static void try_pointer(const char *name, void *p)
{
    long r = syscall(SYS_sysinfo, p);
    printf("%s %s\n", name, r == 0 ? "OK" : strerror(errno));
}

static int bad(void)
{
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    try_pointer("null", NULL);
    try_pointer("unmapped", page + 4096);
    try_pointer("across", page + 4096 - 8);
    try_pointer("kernel", (void *)0xffffffff80000000ul);
    try_pointer("noncanonical", (void *)0x8000000000000000ul);
    try_pointer("good", page);
    return 0;
}

static int die(int n)
{
    for (int i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid == 0)
            for (struct sysinfo s;;)
                syscall(SYS_sysinfo, &s);
        struct timespec t = {.tv_nsec = 50000 + 1000 * (i % 500)};
        nanosleep(&t, NULL);
        kill(pid, SIGKILL);
        int status;
        if (waitpid(pid, &status, 0) != pid)
            return 1;
    }
    puts("all ended");
    return 0;
}

static volatile int stop;
static unsigned long total;
static unsigned long answers, wrong;

static void *ask(void *thread)
{
    struct sysinfo s;
    while (!stop) {
        if (syscall(SYS_sysinfo, &s) == 0)
            __atomic_fetch_add(&answers, 1, __ATOMIC_RELAXED);
        if (s.totalram * s.mem_unit != total)
            __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static int flood(int n, int seconds)
{
    struct sysinfo s;
    syscall(SYS_sysinfo, &s);
    total = s.totalram * s.mem_unit;
    for (int i = 0; i < n; i++) {
        pthread_t t;
        if (pthread_create(&t, NULL, ask, NULL) != 0)
            return 1;
    }
    sleep((unsigned)seconds);
    printf("answers %lu\nwrong %lu\n", answers, wrong);
    fflush(stdout);
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "show") == 0)
        return show();
    if (argc == 2 && strcmp(argv[1], "bad") == 0)
        return bad();
    if (argc == 3 && strcmp(argv[1], "die") == 0)
        return die(atoi(argv[2]));
    if (argc == 4 && strcmp(argv[1], "flood") == 0)
        return flood(atoi(argv[2]), atoi(argv[3]));
    return 2;
}
