/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Many instances at once claim, leave behind and give back numbers: no two have the same. */
#include "base/cleanup.h"
#include "base/str.h"
#include "ve/instance.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PEOPLE 8
#define TIMES  300

struct shared {
    int holder[VE_INSTANCE_MAX + 1];
    int twice, failed;
};

static void one(struct shared *all, const char *dir, int who)
{
    for (int i = 0; i < TIMES; i++) {
        struct place place = {0};
        struct err e = {0};
        unsigned n;
        int nobody = 0;
        str_print(place.root, sizeof(place.root), "%s/%d-%d", dir, who, i);
        mkdir(place.root, 0700);
        if (ve_instance_claim(&place, (unsigned)(i % 3), &n, &e) < 0) {
            __atomic_fetch_add(&all->failed, 1, __ATOMIC_SEQ_CST);
            rmdir(place.root);
            continue;
        }
        if (!__atomic_compare_exchange_n(&all->holder[n], &nobody, who + 1, false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_SEQ_CST))
            __atomic_fetch_add(&all->twice, 1, __ATOMIC_SEQ_CST);
        sched_yield();
        __atomic_store_n(&all->holder[n], 0, __ATOMIC_SEQ_CST);
        if (i % 4 == 0) /* some end properly, most leave a claim without a directory */
            ve_instance_release(&place, n);
        rmdir(place.root);
    }
}

/* Claims whose directory is gone may be taken over: those of this test are given back. */
static void give_back(const char *dir)
{
    for (unsigned n = 1; n <= VE_INSTANCE_MAX; n++) {
        char path[64], owner[512];
        str_print(path, sizeof(path), "/run/terem-instances/%u", n);
        ssize_t len = readlink(path, owner, sizeof(owner) - 1);
        owner[len > 0 ? len : 0] = '\0';
        struct place place = {0};
        if (!str_starts(owner, dir))
            continue;
        str_print(place.root, sizeof(place.root), "%s", owner);
        ve_instance_release(&place, n);
    }
}

static void test_race(void **state)
{
    char dir[] = "/tmp/terem-instances-XXXXXX";
    pid_t pid[PEOPLE];
    struct shared *all =
        mmap(NULL, sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(all != MAP_FAILED && mkdtemp(dir));
    for (int i = 0; i < PEOPLE; i++) {
        if ((pid[i] = fork()) == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            one(all, dir, i);
            _exit(0);
        }
    }
    for (int i = 0; i < PEOPLE; i++)
        waitpid(pid[i], NULL, 0);
    give_back(dir);
    rmdir(dir);
    assert_int_equal(all->twice, 0);
    assert_int_equal(all->failed, 0);
    munmap(all, sizeof(*all));
}

/* An older registry tells no number, or one from before: what runs is known by the claim's. */
static void test_own_claim_wins(void **state)
{
    char dir[] = "/tmp/terem-instances-XXXXXX";
    struct place a = {0}, b = {0};
    unsigned of_a, of_b, again;
    assert_non_null(mkdtemp(dir));
    str_print(a.root, sizeof(a.root), "%s/a", dir);
    str_print(b.root, sizeof(b.root), "%s/b", dir);
    mkdir(a.root, 0700);
    mkdir(b.root, 0700);
    assert_int_equal(ve_instance_claim(&a, 0, &of_a, NULL), 0);
    assert_int_equal(ve_instance_claim(&b, 0, &of_b, NULL), 0);
    ve_instance_release(&a, of_a);
    for (unsigned wish = 0; wish <= of_a; wish += of_a) {
        assert_int_equal(ve_instance_claim(&b, wish, &again, NULL), 0);
        assert_int_equal(again, of_b);
    }
    ve_instance_release(&b, of_b);
    rmdir(a.root);
    rmdir(b.root);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_race),
                                       cmocka_unit_test(test_own_claim_wins)};
    if (geteuid() != 0) {
        puts("1..0 # SKIP claims lie in /run: needs root");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
