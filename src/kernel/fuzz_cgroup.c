/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_cgroup — arbitrary bytes as mountinfo: whoever may mount chooses the names in it.
 */
#include "base/fuzz.h"
#include "kernel/cgroup.h"

/* The part before the first NUL is mountinfo, the rest /proc/cgroups. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    auto_free char *text = fuzz_texts(data, size, 65536, 2);
    auto_free struct cgroup_map *map = malloc(sizeof(*map));
    if (!text || !map)
        return 0;
    if (cgroup_map_parse(text, text + strlen(text) + 1, map, NULL) < 0)
        return 0;
    if (map->n > CGROUP_HIERARCHIES_MAX || map->v2 >= (int)map->n)
        abort();
    for (size_t i = 0; i < map->n; i++)
        if (strnlen(map->h[i].path, CGROUP_PATH_MAX) == CGROUP_PATH_MAX ||
            (map->v2 == (int)i) != map->h[i].v2)
            abort();
    cgroup_map_find(map, "memory", false);
    cgroup_map_why_absent(map, "memory");
    return 0;
}
