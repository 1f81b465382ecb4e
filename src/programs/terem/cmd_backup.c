/* SPDX-License-Identifier: GPL-2.0-or-later */
/* backup: writes one; what happens on the connection is docs/backup.md. */
#include "backup/backup.h"
#include "backup_layers.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "cli.h"
#include "command.h"
#include "link.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static int open_backup(const char *name, int *ret_fd, struct err *err)
{
    if (str_eq(name, "-"))
        return err_set(err, ERR_USAGE, "this needs a file, not a stream");
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open %s", name);
    *ret_fd = fd;
    return 0;
}

struct backup {
    struct cli *cli;
    const char *ve, *file, *since;
    int fd;
    json_t *request;
    char *list; /* of the backup that it stands on */
    size_t list_len;
    struct backup_part part;
    uint64_t bytes; /* that came */
    struct link *link;
};

static void backup_done(struct backup *b)
{
    cleanup_fd(&b->fd);
    json_decref(b->request);
    free(b->list);
    backup_part_done(&b->part);
    link_close(b->link);
}

static int take_since(struct backup *b, const char *name, struct err *err)
{
    auto_fd int fd = -1;
    struct backup_info info = {0};
    int r = open_backup(name, &fd, err);
    if (r < 0)
        return r;
    const struct backup_in in = {backup_read_fd, &fd};
    if ((r = backup_show(&in, &info, err)) == 0)
        r = backup_list(fd, &b->list, &b->list_len, err);
    auto_json json_t *m = r == 0 ? json_loads(info.manifest, 0, NULL) : NULL;
    backup_info_done(&info);
    if (r < 0)
        return err_wrap(err, "%s", name);
    json_object_set_new(b->request, "since",
                        json_pack("{s:s, s:I, s:o}", "id", info.id, "bytes",
                                  (json_int_t)b->list_len, "layers", backup_layers_kept(m)));
    return 0;
}

static int take_part(struct backup *b, struct err *err)
{
    int r = backup_part_read(b->fd, &b->part, err);
    if (r == -ERR_EXISTS)
        return err_set(err, ERR_STATE, "%s is a whole backup; there is nothing to resume", b->file);
    if (r < 0)
        return err_wrap(err, "%s", b->file);
    if (!b->part.manifest || b->part.n_rows == 0)
        return err_set(err, ERR_STATE,
                       "nothing of %s is whole; remove it and begin again without --resume",
                       b->file);
    json_t *m = json_loads(b->part.manifest, 0, NULL);
    const char *since = json_string_value(json_object_get(m, "since"));
    const char *given =
        json_string_value(json_object_get(json_object_get(b->request, "since"), "id"));
    if (!str_eq(since, given))
        r = err_set(err, ERR_USAGE,
                    since ? "the backup in %s stands on backup %.8s; give that one with --since"
                          : "the backup in %s is a full one; leave out --since",
                    b->file, since);
    json_decref(m);
    if (r < 0)
        return r;
    char chain[BACKUP_CHAIN];
    backup_chain_text(b->part.chain, chain);
    json_object_set_new(b->request, "resume",
                        json_pack("{s:s, s:I, s:s}", "manifest", b->part.manifest, "frames",
                                  (json_int_t)b->part.n_rows, "chain", chain));
    if (ftruncate(b->fd, (off_t)b->part.size) < 0 || lseek(b->fd, 0, SEEK_END) < 0)
        return err_sys(err, "cannot write to %s", b->file);
    return 0;
}

static int open_file(struct backup *b, bool resume, struct err *err)
{
    if (str_eq(b->file, "-")) {
        if (resume || b->cli->json)
            return err_set(err, ERR_USAGE, "--%s needs a file, not a stream",
                           resume ? "resume" : "json");
        if (b->cli->out_tty)
            return err_set(err, ERR_USAGE,
                           "a backup is not for a terminal; name a file, or send it into a pipe");
        b->fd = fd_again(STDOUT_FILENO);
        return b->fd < 0 ? err_sys(err, "cannot use standard output") : 0;
    }
    b->fd = resume ? open(b->file, O_RDWR | O_CLOEXEC)
                   : open(b->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (b->fd >= 0)
        return 0;
    if (errno == EEXIST)
        return err_set(err, ERR_EXISTS,
                       "%s is there already; name another file, or use --resume if it was "
                       "interrupted",
                       b->file);
    return err_sys(err, "cannot open %s", b->file);
}

static int on_data(void *ctx, const void *buf, size_t len, struct err *err)
{
    struct backup *b = ctx;
    b->bytes += len;
    return fd_write_all(b->fd, buf, len, err) < 0 ? err_wrap(err, "cannot write to %s", b->file)
                                                  : 0;
}

/* "terem backup --resume web1 web1.tzst". */
static void add_resume(struct str *s, const struct backup *b)
{
    str_add(s, "terem backup --resume ");
    if (b->since)
        str_add(s, "--since %s ", b->since);
    str_add(s, "%s %s", b->ve, b->file);
}

/* To be said when it is interrupted from now on. */
static int say_when_interrupted(struct backup *b, struct err *err)
{
    auto_str struct str s = str_init(16384);
    struct stat st;
    bool file = fstat(b->fd, &st) == 0 && S_ISREG(st.st_mode) && !str_eq(b->file, "-");
    str_add(&s, "%s: the backup was interrupted", b->ve);
    if (file) {
        str_add(&s, "; what is to be in %s is kept for a day: ", b->file);
        add_resume(&s, b);
        str_add(&s, " goes on with it");
    }
    if (s.failed)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    return link_interrupted_says(b->link, str_c(&s), file ? b->file : NULL, err);
}

/* An interrupted one is kept if there is something to go on with. */
static int leave_file(struct backup *b, struct err *err)
{
    struct stat st;
    bool file = !str_eq(b->file, "-") && fstat(b->fd, &st) == 0 && S_ISREG(st.st_mode);
    if (!file)
        return -err->kind;
    if (st.st_size == 0) {
        unlink(b->file);
        return -err->kind;
    }
    struct err why = *err;
    auto_str struct str s = str_init(16384);
    add_resume(&s, b);
    return err_set(err, (enum err_kind)why.kind, "%s; %s goes on with it", why.text, str_c(&s));
}

/* What came after what was there: is it one backup? */
static int check_file(struct backup *b, struct backup_info *ret, struct err *err)
{
    const struct backup_in in = {backup_read_fd, &b->fd};
    const struct backup_restore rs = {.root = -1, .any = true};
    if (lseek(b->fd, 0, SEEK_SET) < 0)
        return err_sys(err, "cannot read %s", b->file);
    int r = b->part.n_rows ? backup_read(&in, &rs, ret, err) : backup_show(&in, ret, err);
    return r < 0 ? err_wrap(err, "%s", b->file) : 0;
}

static int tell_backup(struct backup *b, struct err *err)
{
    struct stat st;
    struct backup_info info = {0};
    char size[TEXT_SIZE];
    if (str_eq(b->file, "-"))
        return 0;
    /* A pipe or a device that was named cannot be synced. */
    if (fsync(b->fd) < 0 && errno != EINVAL)
        return err_sys(err, "cannot write %s to the disk", b->file);
    if (fstat(b->fd, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    int r = check_file(b, &info, err);
    if (r < 0)
        return r;
    cli_say(b->cli, "%s: backed up to %s (%s)", b->ve, b->file,
            text_size((uint64_t)st.st_size, size));
    auto_json json_t *m = json_loads(info.manifest, 0, NULL);
    const json_t *layers = json_object_get(m, "layers");
    const json_t *spec = json_object_get(json_object_get(m, "ve"), "spec");
    backup_layers_say(b->cli, b->file, cli_text(spec, "template"), layers);
    if (b->cli->json) {
        auto_json json_t *doc =
            json_pack("{s:s, s:s, s:s, s:s, s:I, s:b}", "ve", b->ve, "file", b->file, "id", info.id,
                      "kind", *info.since ? "incremental" : "full", "bytes", (json_int_t)st.st_size,
                      "independent", backup_layers_within(layers));
        if (*info.since)
            json_object_set_new(doc, "since", json_string(info.since));
        r = cli_out_json(b->cli, doc, err);
    }
    backup_info_done(&info);
    return r;
}

static int make_backup(struct backup *b, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    bool resume = args_has(a, "resume");
    const char *since = b->since, *snapshot = args_get(a, "snapshot");
    int r = cli_ve_path(&path, b->ve, "/backup", err);
    if (r < 0 || (since && (r = take_since(b, since, err)) < 0))
        return r;
    if (args_has(a, "embed"))
        json_object_set_new(b->request, "embed", json_true());
    if (snapshot)
        json_object_set_new(b->request, "snapshot", json_string(snapshot));
    if ((r = open_file(b, resume, err)) < 0 || (resume && (r = take_part(b, err)) < 0))
        return r;
    r = link_open(b->cli, str_c(&path), b->request, &b->link, err);
    if (r < 0 || (r = say_when_interrupted(b, err)) < 0)
        return resume ? r : leave_file(b, err);
    link_listen(b->link, b->ve, on_data, b);
    if (args_has(a, "progress"))
        link_loud(b->link);
    if ((b->part.n_rows &&
         (r = link_send(b->link, b->part.rows, b->part.n_rows * sizeof(*b->part.rows), err)) < 0) ||
        (since && (r = link_send(b->link, b->list, b->list_len, err)) < 0) ||
        (r = link_finish(b->link, err)) < 0)
        return leave_file(b, err);
    return tell_backup(b, err);
}

static int run_backup(struct cli *cli, const struct args *a, struct err *err)
{
    auto_clean(backup_done) struct backup b = {.cli = cli,
                                               .ve = a->pos[0],
                                               .file = a->pos[1],
                                               .since = args_get(a, "since"),
                                               .fd = -1,
                                               .request = json_object()};
    return make_backup(&b, a, err);
}

static const struct option_spec backup_options[] = {
    {"since", 0, "FILE", "only what differs from this earlier backup", COMPLETE_FILES},
    {"embed", 0, NULL, "put the layers of its template into the file, too"},
    {"snapshot", 0, "NAME", "of this snapshot instead of now", COMPLETE_SNAPSHOTS},
    {"resume", 0, NULL, "go on with an interrupted backup in FILE"},
    {"progress", 0, NULL, "show progress even with --quiet"},
    END,
};

command_row cmd_backup = {
    .name = "backup",
    .summary = "write a VE's own files into one file",
    .usage = "VE FILE",
    .min = 2,
    .max = 2,
    .complete = COMPLETE_VES,
    .complete_more = COMPLETE_FILES,
    .options = backup_options,
    .run = run_backup,
    .detail =
        "FILE, or - for standard output, gets what the VE has written over its template, with its "
        "record: owners, modes, times, ACLs, extended attributes, capabilities, links and holes "
        "are kept. A VE that runs is saved first, frozen for that moment only, and goes on. "
        "Everything in the file is checksummed. With --since only what differs from an earlier "
        "backup is written, and that one is needed to restore.\n\n"
        "A restore needs the very layers that the VE stands on, of that revision of its template: "
        "they are on the node while the template has them, or a VE or snapshot stands on them. "
        "With --embed they are in the file, and any node can restore it; they are put in by "
        "themselves when the template has others by now or is gone.\n\n"
        "What was interrupted is kept for a day: --resume goes on with it where the file ends. "
        "Anybody can look into the file: zstd -dc FILE | tar t.",
    .examples = {"terem backup web1 web1.tzst", "terem backup --since web1.tzst web1 monday.tzst",
                 "terem backup --embed web1 - | ssh vault 'cat >web1.tzst'"},
};
