/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cgroup_map — which hierarchies there are, and which controllers they have. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "kernel/cgroup.h"

#include <fcntl.h>
#include <stdint.h>

#define MOUNTINFO_MAX (16 << 20) /* a host may have tens of thousands of mounts */
#define CGROUPS_MAX   16384

static bool has_name(const char *names, const char *name)
{
    char word[80];
    return str_print(word, sizeof(word), " %s ", name) == 0 && strstr(names, word);
}

static int add_name(char names[CGROUP_NAMES_MAX], const char *name, size_t len, struct err *err)
{
    size_t n = strlen(names);
    if (str_print(names + n, CGROUP_NAMES_MAX - n, "%s%.*s ", n ? "" : " ", (int)len, name) < 0)
        return err_set(err, ERR_EXHAUSTED, "there are too many cgroup controllers");
    return 0;
}

/* The n-th field of a line, fields being parted by one space; empty when there are fewer. */
static const char *field(const char *line, unsigned n, size_t *ret_len)
{
    while (n-- && *line) {
        line += strcspn(line, " ");
        line += *line == ' ';
    }
    *ret_len = strcspn(line, " ");
    return line;
}

/* Three digits of one byte. */
static bool is_octal(const char *s)
{
    return s[0] >= '0' && s[0] <= '3' && s[1] >= '0' && s[1] <= '7' && s[2] >= '0' && s[2] <= '7';
}

/* Space, tab, newline and backslash are \ooo in mountinfo (proc(5)). */
static int unescape(const char *src, size_t len, char dst[CGROUP_PATH_MAX], struct err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)src[i];
        if (c == '\\' && i + 3 < len && is_octal(&src[i + 1])) {
            c = (unsigned char)((src[i + 1] - '0') << 6 | (src[i + 2] - '0') << 3 |
                                (src[i + 3] - '0'));
            i += 3;
        }
        if (n + 1 >= CGROUP_PATH_MAX)
            return err_set(err, ERR_EXHAUSTED, "the path of a cgroup mount is too long");
        dst[n++] = (char)c;
    }
    dst[n] = '\0';
    return 0;
}

/* v1 controllers stand among the super block's options; what is no controller is skipped by
 * /proc/cgroups, which lists all there are. */
static int add_v1_controllers(struct cgroup_hierarchy *h, const struct cgroup_map *map,
                              const char *options, struct err *err)
{
    while (*options) {
        size_t len = strcspn(options, ",");
        char name[64];
        if (str_print(name, sizeof(name), "%.*s", (int)len, options) == 0 &&
            has_name(map->known, name) && add_name(h->controllers, options, len, err) < 0)
            return -ERR_EXHAUSTED;
        options += len;
        options += *options == ',';
    }
    return 0;
}

static int add_v2_controllers(struct cgroup_hierarchy *h, struct err *err)
{
    auto_fd int fd = -1;
    char text[CGROUP_NAMES_MAX];
    if (cgroup_open_path(h->path, &fd, err) < 0 ||
        cgroup_read(fd, "cgroup.controllers", text, sizeof(text), err) < 0)
        return err_wrap(err, "cannot read the controllers of %s", h->path);
    for (char *p = text; *p;) {
        size_t len = strcspn(p, " ");
        if (len && add_name(h->controllers, p, len, err) < 0)
            return -ERR_EXHAUSTED;
        p += len;
        p += *p == ' ';
    }
    return 0;
}

/* A second mount of a v1 hierarchy already in the map adds nothing. */
static bool is_known(const struct cgroup_map *map, const struct cgroup_hierarchy *h)
{
    for (size_t i = 0; i < map->n; i++)
        if (!map->h[i].v2 && strcmp(map->h[i].controllers, h->controllers) == 0)
            return true;
    return false;
}

/* 36 35 98:0 /root /mount/point rw,noatime shared:1 - type source super,options */
static int add_mount(struct cgroup_map *map, const char *line, bool want_writable, struct err *err)
{
    const char *tail = strstr(line, " - ");
    struct cgroup_hierarchy h = {0};
    size_t root_len, path_len, flags_len, type_len, options_len;
    if (!tail)
        return 0;
    tail += 3;
    const char *type = field(tail, 0, &type_len);
    h.v2 = type_len == 7 && memcmp(type, "cgroup2", 7) == 0;
    if (!h.v2 && !(type_len == 6 && memcmp(type, "cgroup", 6) == 0))
        return 0;
    /* Only a mount of the hierarchy's own root: a bind mount of something below it, or of what is
     * above our cgroup namespace ("/.."), is somebody's view for a container. */
    const char *root = field(line, 3, &root_len), *path = field(line, 4, &path_len);
    if (root_len != 1 || root[0] != '/')
        return 0;
    const char *flags = field(line, 5, &flags_len);
    h.writable = flags_len >= 2 && memcmp(flags, "rw", 2) == 0;
    if (h.writable != want_writable || (h.v2 && map->v2 >= 0))
        return 0;
    const char *options = field(tail, 2, &options_len);
    if (unescape(path, path_len, h.path, err) < 0)
        return -ERR_EXHAUSTED;
    int r = h.v2 ? add_v2_controllers(&h, err) : add_v1_controllers(&h, map, options, err);
    if (r < 0)
        return r;
    if (!h.v2 && (!h.controllers[0] || is_known(map, &h))) /* none: name=systemd, for one */
        return 0;
    if (map->n == CGROUP_HIERARCHIES_MAX)
        return err_set(err, ERR_EXHAUSTED, "there are more than %d cgroup hierarchies",
                       CGROUP_HIERARCHIES_MAX);
    if (h.v2)
        map->v2 = (int)map->n;
    map->h[map->n++] = h;
    return 0;
}

/* #subsys_name hierarchy num_cgroups enabled, parted by tabs */
static int add_known(struct cgroup_map *map, const char *line, struct err *err)
{
    size_t len = strcspn(line, "\t ");
    const char *last = strrchr(line, '\t');
    if (line[0] == '#' || len == 0 || len > 63)
        return 0;
    if (last && strcmp(last + 1, "0") == 0)
        return add_name(map->disabled, line, len, err);
    return add_name(map->known, line, len, err);
}

static int each_line(const char *text, struct cgroup_map *map,
                     int (*item)(struct cgroup_map *map, const char *line, struct err *err),
                     struct err *err)
{
    auto_free char *copy = strdup(text);
    if (!copy)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (char *line = copy, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        int r = item(map, line, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int add_writable(struct cgroup_map *map, const char *line, struct err *err)
{
    return add_mount(map, line, true, err);
}

static int add_read_only(struct cgroup_map *map, const char *line, struct err *err)
{
    return add_mount(map, line, false, err);
}

int cgroup_map_parse(const char *mountinfo, const char *cgroups, struct cgroup_map *ret,
                     struct err *err)
{
    auto_free struct cgroup_map *map = calloc(1, sizeof(*map));
    if (!map)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    map->v2 = -1;
    int r = cgroups ? each_line(cgroups, map, add_known, err) : 0;
    if (r == 0)
        r = each_line(mountinfo, map, add_writable, err);
    if (r == 0)
        r = each_line(mountinfo, map, add_read_only, err);
    if (r == 0)
        *ret = *map;
    return r;
}

int cgroup_map_read(struct cgroup_map *ret, struct err *err)
{
    auto_free char *mountinfo = NULL, *cgroups = NULL;
    int r = fd_read_file_at(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &mountinfo, NULL, err);
    if (r < 0)
        return r;
    if (fd_read_file_at(AT_FDCWD, "/proc/cgroups", CGROUPS_MAX, &cgroups, NULL, NULL) < 0)
        cgroups = NULL; /* a kernel without CONFIG_CGROUPS_V1 may lack it: then there is only v2 */
    return cgroup_map_parse(mountinfo, cgroups, ret, err);
}

int cgroup_map_find(const struct cgroup_map *map, const char *controller, bool v2)
{
    for (size_t i = 0; i < map->n; i++)
        if (map->h[i].v2 == v2 && has_name(map->h[i].controllers, controller))
            return (int)i;
    return -1;
}

const char *cgroup_map_why_absent(const struct cgroup_map *map, const char *controller)
{
    if (has_name(map->disabled, controller))
        return "it is switched off on the kernel's command line (cgroup_disable=)";
    if (map->known[0] && !has_name(map->known, controller))
        return "this kernel was built without it";
    if (map->n == 0)
        return "no cgroup hierarchy is mounted";
    return "no mounted cgroup hierarchy has it";
}
