/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The job node-setup: what of the machine is made for VEs because its operator agreed, now swap in
 * compressed memory (zram), where memory of VEs that sleep or are squeezed goes.
 *
 * How much is wanted stands in the registry ("zram") once it is there; the device's number in
 * RUN/zram, which goes with the machine's boot as the device does.  What differs when teremd begins
 * is put right by another such job: made again after a boot, taken away after a crash half way.
 */
#include "ve/setup.h"

#include "base/fd.h"
#include "base/number.h"
#include "kernel/zram.h"
#include "ve/jobs.h"

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#define META      "zram"
#define ZRAM_MIN  (16ull << 20)
#define ZRAM_MAX  (1ull << 44) /* more than the pages that a swap area can have are not used */
#define PATH_SIZE (PLACE_MAX + 8)

static void path_of(const struct ve_node *node, char buf[PATH_SIZE])
{
    str_print(buf, PATH_SIZE, "%s/zram", node->config.place.run);
}

static bool read_number(const char *path, uint64_t *ret)
{
    auto_free char *text = NULL;
    return fd_read_file_at(AT_FDCWD, path, 64, &text, NULL, NULL) == 0 &&
           number_parse(str_trim(text), 0, INT32_MAX, ret, NULL) == 0;
}

static uint64_t wanted(struct ve_node *node)
{
    auto_free char *text = NULL;
    uint64_t n = 0;
    if (registry_meta_get(node->registry, META, &text, NULL) == 0 && text)
        number_parse(text, 0, ZRAM_MAX, &n, NULL);
    return n;
}

json_t *ve_setup_json(struct ve_node *node)
{
    uint64_t n = wanted(node);
    return n ? json_integer((json_int_t)n) : json_null();
}

/* ---- the work ---- */

static int take_away(const char *path, struct err *err)
{
    uint64_t number;
    if (!read_number(path, &number))
        return 0;
    int r = zram_remove((unsigned)number, err);
    if (r == 0)
        unlink(path);
    return r;
}

static int write_number(const char *path, unsigned number, struct err *err)
{
    char text[16];
    auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    str_print(text, sizeof(text), "%u\n", number);
    return fd < 0 ? err_sys(err, "cannot write %s", path)
                  : fd_write_all(fd, text, strlen(text), err);
}

static int make(const char *path, uint64_t size, unsigned *ret, struct err *err)
{
    struct err ignored = {0};
    int r = zram_add(ret, err);
    if (r < 0)
        return r;
    r = write_number(path, *ret, err);
    if (r == 0)
        r = zram_swap_on(*ret, size, err);
    if (r < 0 && zram_remove(*ret, &ignored) == 0)
        unlink(path);
    return r;
}

static int work_setup(struct job *job, struct err *err)
{
    char path[PATH_SIZE];
    uint64_t size = (uint64_t)json_integer_value(json_object_get(job->options, "zram"));
    unsigned number = 0;
    path_of(job->node, path);
    job_progress(job, -1,
                 size ? "making swap in compressed memory" : "bringing back what is in it");
    int r = take_away(path, err);
    if (r == 0 && size)
        r = make(path, size, &number, err);
    job->result[0] = number;
    return r < 0 ? err_wrap(err, "node: cannot %s swap in compressed memory",
                            size ? "make" : "take away")
                 : 0;
}

static int done_setup(struct job *job, struct err *err)
{
    uint64_t size = (uint64_t)json_integer_value(json_object_get(job->options, "zram"));
    char text[24], how_much[NUMBER_TEXT];
    str_print(text, sizeof(text), "%" PRIu64, size);
    str_print(job->text, sizeof(job->text), "without swap in compressed memory");
    if (size)
        str_print(job->text, sizeof(job->text), "%s of swap in compressed memory (zram%d)",
                  number_format_size(size, how_much), (int)job->result[0]);
    return registry_meta_set(job->node->registry, META, text, err);
}

const struct job_kind job_node_setup = {
    .name = "node-setup",
    .cancellable = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .work = work_setup,
    .done = done_setup,
};

/* ---- asking for it ---- */

int ve_setup_check(struct ve_node *node, const json_t *options, struct err *err)
{
    const json_t *zram = json_object_get(options, "zram");
    char low[NUMBER_TEXT], high[NUMBER_TEXT];
    json_int_t n = json_integer_value(zram);
    if (!json_is_integer(zram))
        return err_set(err, ERR_USAGE, "zram must be a number of bytes, or 0 to take it away");
    if (n && (n < (json_int_t)ZRAM_MIN || n > (json_int_t)ZRAM_MAX))
        return err_set(err, ERR_USAGE, "zram must be from %s to %s, or 0 to take it away",
                       number_format_size(ZRAM_MIN, low), number_format_size(ZRAM_MAX, high));
    return 0;
}

void ve_setup_begin(struct ve_node *node)
{
    char path[PATH_SIZE];
    struct err e = {0};
    uint64_t size = wanted(node), number;
    int64_t id;
    path_of(node, path);
    bool there = read_number(path, &number), serves = there && zram_is_swap((unsigned)number);
    if (size ? serves : !there)
        return;
    json_t *options = json_pack("{s:I}", "zram", (json_int_t)size);
    if (job_begin(node, &job_node_setup, "node", NULL, options, &id, &e) < 0)
        log_error(NULL, 0, "swap in compressed memory is not put right: %s", e.text);
    json_decref(options);
}
