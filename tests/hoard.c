/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hoard WHAT PROCESSES EACH SECONDS — run inside a VE: that many processes open that many each, at
 * once, keep them, and it prints "GOT REFUSED" (and the last error) when all have tried.
 *
 * WHAT: tcp, udp, unix, file, or close (tcp, each closed again at once).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
    volatile int ready, go, got, refused, error, done;
} * all;

static int open_one(const char *what)
{
    if (strcmp(what, "file") == 0)
        return open("/dev/null", O_RDONLY);
    return socket(strcmp(what, "unix") == 0 ? AF_UNIX : AF_INET,
                  strcmp(what, "udp") == 0 || strcmp(what, "unix") == 0 ? SOCK_DGRAM : SOCK_STREAM,
                  0);
}

static void hoard(const char *what, int each, int seconds)
{
    __sync_fetch_and_add(&all->ready, 1);
    while (!all->go)
        usleep(1000);
    for (int i = 0; i < each; i++) {
        int fd = open_one(what);
        if (fd < 0)
            all->error = errno;
        __sync_fetch_and_add(fd < 0 ? &all->refused : &all->got, 1);
        if (strcmp(what, "close") == 0 && fd >= 0)
            close(fd);
    }
    __sync_fetch_and_add(&all->done, 1);
    sleep((unsigned)seconds);
    _exit(0);
}

int main(int argc, char **argv)
{
    struct rlimit most;
    if (argc != 5)
        return 2;
    int processes = atoi(argv[2]);
    getrlimit(RLIMIT_NOFILE, &most);
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_NOFILE, &most);
    all = mmap(NULL, sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < processes; i++)
        if (fork() == 0)
            hoard(argv[1], atoi(argv[3]), atoi(argv[4]));
    while (all->ready < processes)
        usleep(1000);
    all->go = 1;
    while (all->done < processes)
        usleep(1000);
    printf("%d %d %s\n", all->got, all->refused, all->refused ? strerror(all->error) : "-");
    return 0;
}
