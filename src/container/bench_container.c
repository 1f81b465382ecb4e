/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bench_container [N] — how long a birth (without network), an exec and a death take: medians. */
#include "container/test_fixture.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"

#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *what, double *ms, size_t n)
{
    qsort(ms, n, sizeof(*ms), compare);
    printf("%-12s median %6.2f ms   min %6.2f   max %6.2f   n %zu\n", what, ms[n / 2], ms[0],
           ms[n - 1], n);
}

static int measure(struct fixture *f, size_t n, double *birth, double *exec, double *exec_exit,
                   double *death, struct err *err)
{
    const char *argv[] = {"/bin/true", NULL};
    for (size_t i = 0; i < n; i++) {
        struct container_plan plan = fixture_plan(f);
        struct container_process p;
        double t = now_ms();
        int r = fixture_boot(f, &plan, err);
        birth[i] = now_ms() - t;
        if (r < 0)
            return r;
        usleep(20000); /* its init settles */
        struct container_exec x = fixture_exec_of(f, argv);
        t = now_ms();
        if ((r = container_exec(&x, &p, err)) < 0)
            return r;
        exec[i] = now_ms() - t;
        waitpid(p.pid, NULL, 0);
        exec_exit[i] = now_ms() - t;
        cleanup_fd(&p.in);
        cleanup_fd(&p.out);
        cleanup_fd(&p.error);
        cleanup_fd(&p.pidfd);
        t = now_ms();
        fixture_kill(f);
        death[i] = now_ms() - t;
    }
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t n = 50;
    static double birth[1000], exec[1000], exec_exit[1000], death[1000];
    struct fixture f;
    struct err err = {0};
    const char *why = NULL;
    if (argc > 1 && number_parse(argv[1], 1, 1000, &n, &err) < 0) {
        fprintf(stderr, "bench_container: %s\n", err.text);
        return 2;
    }
    if (!fixture_make(&f, &why)) {
        fixture_remove(&f);
        fprintf(stderr, "bench_container: %s\n", why);
        return 1;
    }
    int r = measure(&f, n, birth, exec, exec_exit, death, &err);
    fixture_remove(&f);
    if (r < 0) {
        fprintf(stderr, "bench_container: %s\n", err.text);
        return 1;
    }
    print("birth", birth, n);
    print("exec", exec, n);
    print("exec+exit", exec_exit, n);
    print("death", death, n);
    return 0;
}
