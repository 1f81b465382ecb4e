/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "settings.h"

#include "base/cleanup.h"
#include "base/conf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/name.h"
#include "base/number.h"
#include "base/str.h"
#include "param/param.h"

#include <fcntl.h>
#include <limits.h>

/* Below the build directory: where this program is, and where it finds the others. */
#define BUILD_PLACE   "/src/programs/teremd/teremd"
#define BUILD_LIBEXEC "/libexec"

#define WORKERS_MAX 256

static int put_text(char *dst, size_t size, const char *value, struct err *err)
{
    if (str_print(dst, size, "%s", value) < 0)
        return err_set(err, ERR_USAGE, "it is longer than %zu bytes", size - 1);
    return 0;
}

static int put_pool4(struct ve_config *c, const char *value, struct err *err)
{
    return put_text(c->pool4, sizeof(c->pool4), value, err);
}

static int put_pool6(struct ve_config *c, const char *value, struct err *err)
{
    return put_text(c->pool6, sizeof(c->pool6), value, err);
}

static int put_dns(struct ve_config *c, const char *value, struct err *err)
{
    return put_text(c->dns, sizeof(c->dns), value, err);
}

static int put_search(struct ve_config *c, const char *value, struct err *err)
{
    return put_text(c->search, sizeof(c->search), value, err);
}

static int put_lxcfs(struct ve_config *c, const char *value, struct err *err)
{
    if (strcmp(value, "none") == 0)
        value = "";
    else if (*value != '/')
        return err_set(err, ERR_USAGE, "give the absolute path of the program, or none");
    return put_text(c->lxcfs, sizeof(c->lxcfs), value, err);
}

static int put_workers(struct ve_config *c, const char *value, struct err *err)
{
    uint64_t n;
    int rc = number_parse(value, 1, WORKERS_MAX, &n, err);
    if (rc == 0)
        c->workers_max = (uint32_t)n;
    return rc;
}

static int put_reserve_memory(struct ve_config *c, const char *value, struct err *err)
{
    return number_parse_size(value, &c->reserve_memory, err);
}

static int put_reserve_cpu(struct ve_config *c, const char *value, struct err *err)
{
    struct param_value v;
    int rc = param_parse_value(param_find("cpu.guarantee"), value, &v, err);
    if (rc == 0)
        c->reserve_cpu = v.n;
    return rc;
}

static int put_capacity_connections(struct ve_config *c, const char *value, struct err *err)
{
    return number_parse(value, 1, 1000000000, &c->capacity_connections, err);
}

static int put_disk_look(struct ve_config *c, const char *value, struct err *err)
{
    uint64_t ms;
    int rc = number_parse_time(value, &ms, err);
    if (rc < 0)
        return rc;
    if (ms < 1000 || ms > 86400000)
        return err_set(err, ERR_USAGE, "give a time from 1s to 1d");
    c->disk_look_ms = ms;
    return 0;
}

static int put_uplink(struct ve_config *c, const char *value, struct err *err)
{
    return put_text(c->uplink, sizeof(c->uplink), value, err);
}

static int put_rate(const char *key, const char *value, uint64_t *ret, struct err *err)
{
    struct param_value v;
    int rc = param_parse_value(param_find(key), value, &v, err);
    if (rc == 0 && (v.unlimited || v.form != PARAM_PLAIN || v.n < 8000))
        return err_set(err, ERR_USAGE, "give a rate in bits per second such as 200M, 8k at least");
    if (rc == 0)
        *ret = v.n;
    return rc;
}

static int put_net_out(struct ve_config *c, const char *value, struct err *err)
{
    return put_rate("net.out.CLASS", value, &c->net_out, err);
}

static int put_net_in(struct ve_config *c, const char *value, struct err *err)
{
    return put_rate("net.in.CLASS", value, &c->net_in, err);
}

/* A sixteenth of the memory, at most 1 GiB, and a tenth of one core. */
static void default_reserve(struct ve_config *c)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    uint64_t part = pages > 0 ? (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) / 16 : 0;
    c->reserve_memory = part < 1ull << 30 ? part : 1ull << 30;
    c->reserve_cpu = 1000;
    c->disk_look_ms = 60000;
}

static int put_pool_driver(struct ve_config *c, const char *value, struct err *err)
{
    static const char *const known[] = {"dir", "btrfs", "xfs"};
    if (strcmp(value, "auto") == 0) {
        c->pool_driver[0] = '\0';
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (strcmp(value, known[i]) == 0)
            return put_text(c->pool_driver, sizeof(c->pool_driver), value, err);
    return err_set(err, ERR_USAGE, "it is auto, dir, btrfs or xfs, not %.32s", value);
}

static int put_pool_size(struct ve_config *c, const char *value, struct err *err)
{
    int rc = number_parse_size(value, &c->pool_size, err);
    if (rc == 0 && c->pool_size < 256u << 20)
        return err_set(err, ERR_USAGE, "a pool's image has at least 256M");
    return rc;
}

static int put_pool_grow(struct ve_config *c, const char *value, struct err *err)
{
    if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
        return err_set(err, ERR_USAGE, "it is on or off, not %.32s", value);
    c->pool_grow = strcmp(value, "on") == 0;
    return 0;
}

static int put_seconds(const char *value, uint64_t low, uint64_t high, const char *wrong,
                       uint64_t *ret_ms, struct err *err)
{
    uint64_t ms;
    int rc = number_parse_time(value, &ms, err);
    if (rc < 0)
        return rc;
    if (ms < low * 1000 || ms > high * 1000 || ms % 1000)
        return err_set(err, ERR_USAGE, "%s", wrong);
    *ret_ms = ms;
    return 0;
}

static int put_usage_interval(struct ve_config *c, const char *value, struct err *err)
{
    return put_seconds(value, 1, 3600, "give whole seconds from 1s to 1h", &c->usage_interval_ms,
                       err);
}

static int put_usage_keep(struct ve_config *c, const char *value, struct err *err)
{
    return put_seconds(value, 86400, 36500ull * 86400, "give a time from 1d to 36500d",
                       &c->usage_keep_ms, err);
}

static int put_log_level(struct ve_config *c, const char *value, struct err *err)
{
    return settings_log_level(value, err);
}

static const struct setting {
    const char *key;
    int (*put)(struct ve_config *config, const char *value, struct err *err);
} rows[] = {
    {"network.pool4", put_pool4},
    {"network.pool6", put_pool6},
    {"network.dns", put_dns},
    {"network.search", put_search},
    {"network.uplink", put_uplink},
    {"network.out", put_net_out},
    {"network.in", put_net_in},
    {"lxcfs", put_lxcfs},
    {"workers", put_workers},
    {"log.level", put_log_level},
    {"reserve.memory", put_reserve_memory},
    {"reserve.cpu", put_reserve_cpu},
    {"capacity.connections", put_capacity_connections},
    {"disk.look", put_disk_look},
    {"pool.driver", put_pool_driver},
    {"pool.size", put_pool_size},
    {"pool.grow", put_pool_grow},
    {"usage.interval", put_usage_interval},
    {"usage.keep", put_usage_keep},
};

static const char *next_key(void *ctx, size_t i)
{
    return i < ARRAY_SIZE(rows) ? rows[i].key : NULL;
}

static int put(void *ctx, const char *key, const char *value, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (strcmp(rows[i].key, key) == 0)
            return rows[i].put(ctx, value, err) < 0 ? err_wrap(err, "%s", key) : 0;
    const char *near = name_suggest(key, next_key, NULL);
    return err_set(err, ERR_USAGE, "there is no setting %.64s; %s%s%s", key,
                   near ? "did you mean " : "terem.conf(5) has all of them", near ? near : "",
                   near ? "?" : "");
}

int settings_read(struct ve_config *config, const char *file, struct err *err)
{
    static const char lxcfs[] = "/usr/bin/lxcfs";
    auto_free char *text = NULL;
    default_reserve(config);
    config->pool_size = 20ull << 30;
    config->pool_grow = true;
    config->usage_interval_ms = 300 * 1000;
    config->usage_keep_ms = 396ull * 86400 * 1000; /* thirteen months */
    if (access(lxcfs, X_OK) == 0)
        str_print(config->lxcfs, sizeof(config->lxcfs), "%s", lxcfs);
    const char *path = file ? file : config->place.conf;
    int rc = fd_read_file_at(AT_FDCWD, path, CONF_TEXT_MAX, &text, NULL, err);
    if (rc == -ERR_NOT_FOUND && !file) {
        err_clear(err);
        return 0;
    }
    if (rc < 0)
        return rc;
    return conf_parse(text, path, put, config, err);
}

int settings_log_level(const char *level, struct err *err)
{
    static const struct {
        const char *name;
        enum log_level level;
    } levels[] = {{"error", LOG_LEVEL_ERROR},
                  {"warning", LOG_LEVEL_WARNING},
                  {"info", LOG_LEVEL_INFO},
                  {"debug", LOG_LEVEL_DEBUG}};
    if (!level)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
        if (strcmp(levels[i].name, level) == 0) {
            log_set_level(levels[i].level);
            return 0;
        }
    return err_set(err, ERR_USAGE, "the log level is error, warning, info or debug, not %.32s",
                   level);
}

int settings_libexec(struct ve_config *config, struct err *err)
{
    char self[PATH_MAX], dir[PATH_MAX];
    const char *from = getenv("TEREM_LIBEXEC");
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[n < 0 ? 0 : n] = '\0';
    if (!from && str_ends(self, BUILD_PLACE)) {
        str_print(dir, sizeof(dir), "%.*s" BUILD_LIBEXEC, (int)(n - (ssize_t)strlen(BUILD_PLACE)),
                  self);
        if (access(dir, X_OK) == 0)
            from = dir;
    }
    if (str_print(config->libexec, sizeof(config->libexec), "%s", from ? from : LIBEXECDIR) < 0)
        return err_set(err, ERR_USAGE, "TEREM_LIBEXEC is too long");
    return 0;
}
