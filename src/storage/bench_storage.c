/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Does to a pool what it reads ("save 1 10") and prints how many seconds that took.
 * bench/part_storage.py drives it.
 *
 * usage: bench_storage DRIVER PATH [IMAGE BYTES]
 */
#include "base/number.h"
#include "base/str.h"
#include "storage/storage.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int act(struct storage_pool *p, const char *what, int64_t a, int64_t b, struct err *err)
{
    if (str_eq(what, "create"))
        return storage_create(p, a, err);
    if (str_eq(what, "save"))
        return storage_save(p, a, b, NULL, err);
    if (str_eq(what, "restore"))
        return storage_restore(p, a, b, NULL, err);
    if (str_eq(what, "clone"))
        return storage_clone_into(p, b, p, a, false, NULL, err);
    if (str_eq(what, "remove"))
        return storage_remove(p, a, err);
    if (str_eq(what, "forget"))
        return storage_saved_remove(p, a, err);
    if (str_eq(what, "trash"))
        return storage_empty_trash(p, err);
    return err_set(err, ERR_USAGE, "there is no \"%s\"", what);
}

int main(int argc, char **argv)
{
    struct err err = {0};
    struct storage_spec spec = {0};
    struct storage_pool *p = NULL;
    char line[128];
    if (argc < 3)
        return 2;
    spec.driver = argv[1];
    spec.path = argv[2];
    if (argc > 4) {
        spec.image = argv[3];
        if (number_parse(argv[4], 0, UINT64_MAX, &spec.size, &err) < 0)
            return 2;
    }
    if (storage_make(&spec, &err) < 0 || storage_pool_open(&spec, &p, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    while (printf("ready\n"), fflush(stdout), fgets(line, sizeof(line), stdin)) {
        char what[16] = "";
        int64_t a = 0, b = 0;
        if (sscanf(line, "%15s %" SCNd64 " %" SCNd64, what, &a, &b) < 1 || str_eq(what, "end"))
            break;
        double at = now();
        if (act(p, what, a, b, &err) < 0) {
            fprintf(stderr, "%s: %s\n", what, err.text);
            return 1;
        }
        printf("%.6f\n", now() - at);
    }
    storage_pool_close(p);
    /* Mount namespaces that others made meanwhile may hold it a little longer. */
    return spec.image && umount2(spec.path, MNT_DETACH) < 0 ? 1 : 0;
}
