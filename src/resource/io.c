/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * io — disk throughput: io.read, io.write and io.weight.
 *
 * Limits are written for each disk on which VEs' files lie, at the top of a stack of devices,
 * where a process's own requests enter.  The weight is one number for all disks, kept by bfq (an
 * I/O scheduler) or iocost (v2) on the disk at the bottom: where neither is on, nobody keeps it.
 */
#include "base/cleanup.h"
#include "base/number.h"
#include "base/str.h"
#include "resource/node.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#define BFQ_WEIGHT_MAX 1000
#define STAT_MAX       65536 /* a line of 100 bytes for every disk */

bool io_owns(const struct param_row *row)
{
    return row->controller && str_eq(row->controller, "io");
}

static bool is_weight(const struct param_row *row)
{
    return row->kind == PARAM_WEIGHT;
}

static int open_sys(struct err *err)
{
    int fd = open("/sys", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_sys(err, "cannot open /sys") : fd;
}

void resource_use_disk(struct resource_node *node, const char *dir)
{
    struct err e = {0};
    auto_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_fd int sys = open_sys(&e);
    if (fd < 0)
        err_sys(&e, "cannot open %s", dir);
    if (fd < 0 || sys < 0 || disk_find(sys, fd, node->disk, &node->n_disks, &e) < 0)
        str_print(node->no_disk, sizeof(node->no_disk), "%s", e.text);
}

/* io.cost.qos has a line "8:16 enable=1 …" for each disk where iocost was set up. */
static bool iocost_is_on(const struct resource_node *node, const struct disk *d)
{
    char text[4096], name[32];
    if (cgroup_read(node->branch[0].top, "io.cost.qos", text, sizeof(text), NULL) < 0)
        return false;
    str_print(name, sizeof(name), "%u:%u ", d->major, d->minor);
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        if (str_starts(line, name))
            return strstr(line, "enable=1");
    }
    return false;
}

static const char *bfq_file(bool v2)
{
    return v2 ? "io.bfq.weight" : "blkio.bfq.weight";
}

static int check_weight_on(const struct resource_node *node, const struct controller *c, int sys,
                           const struct disk *d, uint64_t weight, struct err *err)
{
    bool v2 = c->where == RESOURCE_V2;
    int fd = node->branch[c->branch].fd;
    if (disk_has_scheduler(sys, d, "bfq") && faccessat(fd, bfq_file(v2), F_OK, 0) == 0) {
        if (weight <= BFQ_WEIGHT_MAX)
            return 0;
        return err_set(err, ERR_UNSUPPORTED,
                       "%" PRIu64 " is more than %d, the highest that the scheduler bfq of disk %s "
                       "takes",
                       weight, BFQ_WEIGHT_MAX, d->name);
    }
    if (v2 && iocost_is_on(node, d) && faccessat(fd, "io.weight", F_OK, 0) == 0)
        return 0;
    return err_set(err, ERR_UNSUPPORTED,
                   "nothing divides disk %s by weight; turn it on with: echo bfq "
                   ">/sys/block/%s/queue/scheduler%s",
                   d->name, d->name, v2 ? ", or with io.cost.qos of cgroup v2" : "");
}

static int check_weight(const struct resource_node *node, const struct controller *c,
                        uint64_t weight, struct err *err)
{
    struct disk at_bottom[DISK_MAX];
    size_t n = 0;
    auto_fd int sys = open_sys(err);
    int r = sys < 0 ? sys : 0;
    for (size_t i = 0; r == 0 && i < node->n_disks; i++)
        r = disk_below(sys, &node->disk[i], at_bottom, &n, err);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = check_weight_on(node, c, sys, &at_bottom[i], weight, err);
    return r;
}

int io_check(const struct resource_node *node, const struct param_row *row,
             const struct controller *c, struct param_value v, struct err *err)
{
    const char *file = c->where == RESOURCE_V2 ? row->v2_file : row->v1_file;
    if (node->no_disk[0] || !node->n_disks)
        return err_set(err, ERR_UNSUPPORTED, "%s cannot be enforced here: %s", row->key,
                       node->no_disk[0] ? node->no_disk : "the disk of the VEs is not known");
    if (is_weight(row)) {
        int r = check_weight(node, c, v.n, err);
        return r < 0 ? err_wrap(err, "%s cannot be enforced here", row->key) : 0;
    }
    if (faccessat(node->branch[c->branch].fd, file, F_OK, 0) < 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s cannot be enforced here: this kernel has no %s (it was built without "
                       "CONFIG_BLK_DEV_THROTTLING)",
                       row->key, file);
    return 0;
}

/* Where bfq or iocost is turned on later, it finds the weight there. */
static int write_weight(bool v2, int fd, uint64_t weight, struct err *err)
{
    uint64_t bfq = weight < BFQ_WEIGHT_MAX ? weight : BFQ_WEIGHT_MAX;
    int r = 0;
    if (v2 && faccessat(fd, "io.weight", F_OK, 0) == 0)
        r = cgroup_write(fd, "io.weight", err, "default %" PRIu64 "\n", weight);
    if (r == 0 && faccessat(fd, bfq_file(v2), F_OK, 0) == 0)
        r = cgroup_write(fd, bfq_file(v2), err, "%" PRIu64 "\n", bfq);
    return r;
}

static uint64_t bytes_of(struct param_value v)
{
    return v.unlimited ? PARAM_NO_BOUND : v.n;
}

/* The kernel holds it in 32 bits; more than that no disk does. */
static uint64_t operations_of(struct param_value v)
{
    if (v.unlimited || v.form != PARAM_TWO || v.n2 == PARAM_NO_BOUND)
        return PARAM_NO_BOUND;
    return v.n2 < UINT32_MAX ? v.n2 : UINT32_MAX;
}

static const char *text_v2(uint64_t n, char buf[NUMBER_TEXT])
{
    if (n == PARAM_NO_BOUND)
        return "max";
    str_print(buf, NUMBER_TEXT, "%" PRIu64, n);
    return buf;
}

/* What a line leaves out stays as it is: both rows share the file, and each names its own part. */
static int write_v2(int fd, const struct disk *d, char way, struct param_value v, struct err *err)
{
    char bytes[NUMBER_TEXT], operations[NUMBER_TEXT];
    return cgroup_write(fd, "io.max", err, "%u:%u %cbps=%s %ciops=%s\n", d->major, d->minor, way,
                        text_v2(bytes_of(v), bytes), way, text_v2(operations_of(v), operations));
}

/* v1: a file for each, where 0 takes the limit away. */
static int write_v1(int fd, const struct disk *d, bool reads, struct param_value v, struct err *err)
{
    uint64_t bytes = bytes_of(v), operations = operations_of(v);
    int r = cgroup_write(
        fd, reads ? "blkio.throttle.read_bps_device" : "blkio.throttle.write_bps_device", err,
        "%u:%u %" PRIu64 "\n", d->major, d->minor, bytes == PARAM_NO_BOUND ? 0 : bytes);
    return r < 0 ? r
                 : cgroup_write(fd,
                                reads ? "blkio.throttle.read_iops_device"
                                      : "blkio.throttle.write_iops_device",
                                err, "%u:%u %" PRIu64 "\n", d->major, d->minor,
                                operations == PARAM_NO_BOUND ? 0 : operations);
}

int io_write(const struct resource_node *node, const struct param_row *row,
             const struct controller *c, int fd, struct param_value v, struct err *err)
{
    bool v2 = c->where == RESOURCE_V2, reads = str_eq(row->key, "io.read");
    if (is_weight(row))
        return write_weight(v2, fd, v.n, err);
    for (size_t i = 0; i < node->n_disks; i++) {
        const struct disk *d = &node->disk[i];
        int r = v2 ? write_v2(fd, d, reads ? 'r' : 'w', v, err) : write_v1(fd, d, reads, v, err);
        if (r < 0)
            return err_wrap(err, "disk %s", d->name);
    }
    return 0;
}

/* "rbytes=123" or "Read 123" after the disk's number; not there: nothing was moved. */
static uint64_t moved(const char *line, const char *word)
{
    uint64_t n;
    return number_after(line, word, UINT64_MAX, &n) ? n : 0;
}

static bool is_ours(const struct resource_node *node, const char *line)
{
    for (size_t i = 0; i < node->n_disks; i++) {
        char name[32];
        str_print(name, sizeof(name), "%u:%u ", node->disk[i].major, node->disk[i].minor);
        if (str_starts(line, name))
            return true;
    }
    return false;
}

bool io_usage(const struct resource_node *node, bool v2, int fd, uint64_t *ret_read,
              uint64_t *ret_written)
{
    auto_free char *text = malloc(STAT_MAX);
    uint64_t in = 0, out = 0;
    if (!text || !node->n_disks ||
        cgroup_read(fd, v2 ? "io.stat" : "blkio.throttle.io_service_bytes", text, STAT_MAX, NULL) <
            0)
        return false;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        if (!is_ours(node, line))
            continue;
        in += moved(line, v2 ? " rbytes=" : " Read ");
        out += moved(line, v2 ? " wbytes=" : " Write ");
    }
    *ret_read = in;
    *ret_written = out;
    return true;
}
