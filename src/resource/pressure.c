/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pressure — how much of the time work in the VE was stalled (Documentation/accounting/psi.rst). */
#include "base/cleanup.h"
#include "base/number.h"
#include "base/str.h"
#include "resource/node.h"

#include <string.h>

/* "some avg10=1.25 avg60=…": hundredths of a percent; -1 where the kernel does not tell. */
static int some_avg10(int fd, const char *file)
{
    char text[256], number[16];
    uint64_t whole, part;
    if (cgroup_read(fd, file, text, sizeof(text), NULL) < 0 || !str_starts(text, "some avg10="))
        return -1;
    str_print(number, sizeof(number), "%s", text + strlen("some avg10="));
    number[strcspn(number, " ")] = '\0';
    char *point = strchr(number, '.');
    if (!point || strlen(point) != 3)
        return -1;
    *point = '\0';
    if (number_parse(number, 0, 100, &whole, NULL) < 0 ||
        number_parse(point + 1, 0, 99, &part, NULL) < 0)
        return -1;
    return (int)(whole * 100 + part);
}

int resource_pressure(struct resource_node *node, int64_t id, struct resource_pressure *ret,
                      struct err *err)
{
    auto_fd int fd = -1;
    int r = ve_open(node, 0, id, &fd, err);
    if (r < 0)
        return r;
    *ret = (struct resource_pressure){.cpu = some_avg10(fd, "cpu.pressure"),
                                      .memory = some_avg10(fd, "memory.pressure"),
                                      .io = some_avg10(fd, "io.pressure")};
    return 0;
}
