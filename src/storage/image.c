/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image — a file system in a file: made, mounted once, grown, unmounted.
 *
 * The file's blocks are all allocated from the start and never given back: a file system whose
 * writes fail because the disk below it is full is lost.  Two loop devices on one image, or two
 * mounts that do not know of each other, would destroy it as well: who looks for the device and
 * makes one holds a lock on the file meanwhile.
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/path.h"
#include "base/str.h"
#include "kernel/loop.h"
#include "kernel/mount.h"
#include "storage/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LABEL         "terem-pool"
#define NEW           ".new"
#define MIB           (UINT64_C(1) << 20)
#define MOUNTINFO_MAX (4u << 20)
#define GONE_TRIES    400 /* of 10 ms, for the kernel to take a file system down */

/* ---- the file ---- */

/* Where each file system has its name and its label. */
static const struct {
    const char *type, *magic;
    off_t magic_at, label_at;
} known[] = {
    {"btrfs", "_BHRfS_M", 0x10040, 0x1012b},
    {"xfs", "XFSB", 0, 108},
};

static bool is_ours(int image, const char *type)
{
    char text[16];
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        size_t n = strlen(known[i].magic);
        if (str_eq(known[i].type, type))
            return pread(image, text, n, known[i].magic_at) == (ssize_t)n &&
                   memcmp(text, known[i].magic, n) == 0 &&
                   pread(image, text, sizeof(LABEL) - 1, known[i].label_at) == sizeof(LABEL) - 1 &&
                   memcmp(text, LABEL, sizeof(LABEL) - 1) == 0;
    }
    return false;
}

static int check_room(const char *dir, uint64_t bytes, struct err *err)
{
    struct statvfs fs;
    char want[NUMBER_TEXT], have[NUMBER_TEXT];
    if (statvfs(dir, &fs) < 0)
        return err_sys(err, "cannot measure the disk of %s", dir);
    uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (bytes <= free_bytes)
        return 0;
    return err_set(err, ERR_EXHAUSTED,
                   "%s are wanted and %s are free on the disk of %s; free some or choose less",
                   number_format_size(bytes, want), number_format_size(free_bytes, have), dir);
}

static int allocate(int fd, uint64_t from, uint64_t size, struct err *err)
{
    int r;
    do
        r = fallocate(fd, 0, (off_t)from, (off_t)(size - from));
    while (r < 0 && errno == EINTR);
    if (r == 0)
        return 0;
    if (errno == EOPNOTSUPP)
        return err_set(err, ERR_UNSUPPORTED,
                       "the file system of the image cannot set blocks aside for it (fallocate), "
                       "and without that a full disk would destroy the pool");
    if (errno == ENOSPC || errno == EDQUOT)
        return err_set(err, ERR_EXHAUSTED,
                       "cannot set the blocks of the image aside: its disk has no space left; free "
                       "some or choose less");
    return err_sys(err, "cannot set the blocks of the image aside");
}

/* Runs mkfs; what it says last on stderr is the reason of a failure. */
static int run(const char *const *argv, struct err *err)
{
    int out[2];
    char said[256] = "";
    if (pipe2(out, O_CLOEXEC) < 0)
        return err_sys(err, "cannot start %s", argv[0]);
    auto_fd int in = out[0];
    pid_t pid = fork();
    if (pid == 0) {
        static char path[] = "PATH=" PATH_PROGRAMS;
        char *env[] = {path, NULL};
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(out[1], 2) < 0)
            _exit(126);
        fd_close_others(NULL, 0);
        execvpe(argv[0], (char *const *)argv, env);
        _exit(127);
    }
    close(out[1]);
    if (pid < 0)
        return err_sys(err, "cannot start %s", argv[0]);
    size_t len = 0;
    char rest[256];
    for (ssize_t n; (n = read(in, said + len, sizeof(said) - 1 - len)) > 0;)
        len += (size_t)n;
    while (read(in, rest, sizeof(rest)) > 0)
        ;
    said[len] = '\0';
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s is not installed; install btrfs-progs or xfsprogs and try again",
                       argv[0]);
    return err_set(err, ERR_SYSTEM, "%s failed: %s", argv[0], str_trim(said));
}

static int make_file_system(const char *file, const struct storage_image *kind, struct err *err)
{
    const char *argv[24];
    size_t n = 0;
    for (; kind->mkfs[n]; n++)
        argv[n] = kind->mkfs[n];
    argv[n++] = "-L";
    argv[n++] = LABEL;
    argv[n++] = file;
    argv[n] = NULL;
    return run(argv, err);
}

/* Under another name until it is whole. */
static int fill_new(const char *file, uint64_t size, const struct storage_image *kind,
                    struct err *err)
{
    auto_fd int fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "cannot make %s", file);
    /* On btrfs every write would take new blocks, which a full disk has not. */
    int flags = FS_NOCOW_FL;
    ioctl(fd, FS_IOC_SETFLAGS, &flags);
    int r = allocate(fd, 0, size, err);
    if (r < 0 || (r = make_file_system(file, kind, err)) < 0)
        return r;
    return fsync(fd) < 0 ? err_sys(err, "cannot write %s", file) : 0;
}

static int sync_dir(const char *dir, struct err *err)
{
    auto_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? err_sys(err, "cannot write the directory %s", dir) : 0;
}

static int make_new(const char *image, uint64_t size, const struct storage_image *kind,
                    struct err *err)
{
    auto_free char *tmp = str_format("%s" NEW, image), *copy = strdup(image);
    if (!tmp || !copy)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    const char *dir = dirname(copy);
    int r = path_make_dirs(dir, 0700, err);
    if (r < 0 || (r = check_room(dir, size, err)) < 0)
        return r;
    unlink(tmp); /* of one that was killed */
    if ((r = fill_new(tmp, size, kind, err)) < 0) {
        unlink(tmp);
        return r;
    }
    if (renameat2(AT_FDCWD, tmp, AT_FDCWD, image, RENAME_NOREPLACE) < 0) {
        r = err_sys(err, "cannot give the image its name");
        unlink(tmp);
        return r;
    }
    return sync_dir(dir, err);
}

void image_drop_new(const char *image)
{
    auto_free char *tmp = str_format("%s" NEW, image);
    if (tmp)
        unlink(tmp);
}

int image_make(const struct storage_spec *spec, const struct storage_image *kind, bool *ret_new,
               struct err *err)
{
    uint64_t size = spec->size / MIB * MIB;
    char least[NUMBER_TEXT];
    auto_fd int fd = open(spec->image, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT)
        return err_sys(err, "cannot open the image %s", spec->image);
    *ret_new = fd < 0;
    if (fd >= 0 && is_ours(fd, kind->type))
        return 0;
    if (fd >= 0)
        return err_set(err, ERR_EXISTS,
                       "%s is there already and is not the image of a pool with %s; choose another "
                       "name or remove it",
                       spec->image, kind->type);
    if (size < kind->min)
        return err_set(err, ERR_USAGE, "an image with %s needs at least %s", kind->type,
                       number_format_size(kind->min, least));
    int r = make_new(spec->image, size, kind, err);
    return r < 0 ? err_wrap(err, "cannot make the image %s", spec->image) : 0;
}

/* ---- the mount ---- */

/* The lock is not taken on the descriptor that the loop device gets, which lives as long as it. */
static int lock(const char *image, int *ret_fd, struct err *err)
{
    int fd = open(image, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open the image %s", image);
    if (flock(fd, LOCK_EX) < 0) {
        int r = err_sys(err, "cannot lock the image %s", image);
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

/* The mount id of what is mounted exactly here; 0: nothing is. */
static uint64_t mounted_at(const char *path)
{
    struct statx st;
    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_MNT_ID, &st) < 0 ||
        !(st.stx_attributes & STATX_ATTR_MOUNT_ROOT))
        return 0;
    return st.stx_mnt_id;
}

/* Looks for a mount of the device: at the mount `id`, or (elsewhere) any other. */
static bool shows_device(const char *mountinfo, const char *device, uint64_t id, bool elsewhere)
{
    for (const char *line = mountinfo; line && *line;) {
        const char *next = strchr(line, '\n');
        auto_free char *own = strndup(line, next ? (size_t)(next - line) : strlen(line));
        char *dash = own ? strstr(own, " - ") : NULL, *save = NULL;
        char *type = dash ? strtok_r(dash + 3, " ", &save) : NULL;
        char *source = type ? strtok_r(NULL, " ", &save) : NULL;
        uint64_t line_id = 0;
        if (own)
            own[strcspn(own, " ")] = '\0';
        if (source && number_parse(own, 0, UINT64_MAX, &line_id, NULL) == 0 &&
            str_eq(source, device) && (line_id == id) != elsewhere)
            return true;
        line = next ? next + 1 : NULL;
    }
    return false;
}

/* 1: it is mounted at the path; 0: nowhere. */
static int find_mount(const char *path, const char *device, struct err *err)
{
    auto_free char *text = NULL;
    uint64_t id = mounted_at(path);
    int r = fd_read_file_at(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL, err);
    if (r < 0)
        return r;
    if (device[0] && id && shows_device(text, device, id, false))
        return 1;
    if (id)
        return err_set(err, ERR_EXISTS, "something else is mounted at %s; unmount it first", path);
    if (device[0] && shows_device(text, device, id, true))
        return err_set(err, ERR_BUSY, "the image is mounted elsewhere already, from %s", device);
    return 0;
}

static bool is_empty(const char *path)
{
    auto_dir DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        if (!str_eq(e->d_name, ".") && !str_eq(e->d_name, ".."))
            return false;
    return true;
}

static int mount_with(const char *device, const char *path, const char *type,
                      const char *const *more, struct err *err)
{
    const char *options[8];
    size_t n = 0;
    for (; more[n]; n++)
        options[n] = more[n];
    auto_free char *source = str_format("source=%s", device);
    auto_fd int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;
    if (!source || dir < 0)
        return err_sys(err, "cannot open %s", path);
    options[n++] = source;
    options[n] = NULL;
    int r = mount_new(type, options, MOUNT_ATTR_NOATIME, &fd, err);
    return r < 0 ? r : mount_attach(fd, dir, "", err);
}

static int mount_device(const char *device, const char *path, const struct storage_image *kind,
                        struct err *err)
{
    int r = mount_with(device, path, kind->type, kind->mount_options, err);
    return r < 0 && kind->other_options
               ? mount_with(device, path, kind->type, kind->other_options, err)
               : r;
}

int image_mount(const struct storage_spec *spec, const struct storage_image *kind, struct err *err)
{
    char device[LOOP_PATH] = "";
    auto_fd int locked = -1, held = -1;
    int r = lock(spec->image, &locked, err);
    if (r < 0 || (r = path_make_dirs(spec->path, 0700, err)) < 0)
        return r;
    auto_fd int image = open(spec->image, O_RDWR | O_CLOEXEC);
    if (image < 0)
        return err_sys(err, "cannot open the image %s", spec->image);
    if (!is_ours(image, kind->type))
        return err_set(err, ERR_CORRUPT, "%s is not the image of a pool with %s", spec->image,
                       kind->type);
    r = loop_find(image, device, err);
    if (r < 0 && r != -ERR_NOT_FOUND)
        return r;
    if ((r = find_mount(spec->path, device, err)) != 0)
        return r < 0 ? r : 0;
    if (!is_empty(spec->path))
        return err_set(err, ERR_STATE,
                       "%s has files that the mount of the image would hide; move them away",
                       spec->path);
    if (!device[0] && (r = loop_attach(image, device, &held, err)) < 0)
        return r;
    r = mount_device(device, spec->path, kind, err);
    return r < 0 ? err_wrap(err, "cannot mount the image %s", spec->image) : 0;
}

/* The device ends by itself once nothing has it mounted, VEs' own mounts included. */
static bool device_goes(int image)
{
    char device[LOOP_PATH];
    for (int i = 0; i < GONE_TRIES; i++) {
        if (loop_find(image, device, NULL) < 0)
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

static int busy(const struct storage_spec *spec, const char *device, struct err *err)
{
    char holder[160];
    image_holder(spec->path, device, holder, sizeof(holder));
    if (*holder)
        return err_set(err, ERR_BUSY, "the pool %s is in use: %s; end that process", spec->path,
                       holder);
    return err_set(err, ERR_BUSY, "the pool %s is in use; stop its VEs", spec->path);
}

/* A process that is about to end, a worker that has said its last word, has what it opened here for
 * a moment yet. */
static int take_mount(const char *path, bool wait)
{
    for (int i = 0;; i++) {
        if (umount2(path, UMOUNT_NOFOLLOW) == 0)
            return 0;
        if (errno != EBUSY || !wait || i >= GONE_TRIES)
            return -1;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

int image_unmount(const struct storage_spec *spec, const struct storage_image *kind, bool wait,
                  struct err *err)
{
    char device[LOOP_PATH];
    auto_fd int locked = -1;
    if (faccessat(AT_FDCWD, spec->image, F_OK, 0) < 0 && errno == ENOENT)
        return 0;
    int r = lock(spec->image, &locked, err);
    if (r < 0)
        return r;
    r = loop_find(locked, device, err);
    if (r == -ERR_NOT_FOUND)
        return 0;
    if (r < 0 || (r = find_mount(spec->path, device, err)) < 0)
        return r;
    if (r == 1 && take_mount(spec->path, wait) < 0)
        return errno == EBUSY ? busy(spec, device, err)
                              : err_sys(err, "cannot unmount the pool %s", spec->path);
    if (!wait || device_goes(locked))
        return 0;
    if (r == 1)
        mount_device(device, spec->path, kind, NULL);
    return busy(spec, device, err);
}

int image_grow(const char *image, uint64_t size, struct err *err)
{
    struct stat st;
    char device[LOOP_PATH], now[NUMBER_TEXT];
    auto_free char *copy = strdup(image);
    auto_fd int locked = -1;
    int r = lock(image, &locked, err);
    if (r < 0)
        return r;
    auto_fd int fd = open(image, O_RDWR | O_CLOEXEC);
    if (!copy || fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, "cannot open the image %s", image);
    uint64_t old = (uint64_t)st.st_size;
    size = size / MIB * MIB;
    if (size < old)
        return err_set(err, ERR_USAGE, "the image %s has %s and cannot become smaller", image,
                       number_format_size(old, now));
    if (size > old && ((r = check_room(dirname(copy), size - old, err)) < 0 ||
                       (r = allocate(fd, old, size, err)) < 0)) {
        if (ftruncate(fd, st.st_size) < 0 && err) /* nobody knows of more yet */
            err->sys = errno;
        return r;
    }
    if (fsync(fd) < 0)
        return err_sys(err, "cannot write the image %s", image);
    /* Also when it is that large already: the one before us may have been killed here. */
    r = loop_find(fd, device, err);
    return r < 0 ? r : loop_resize(device, err);
}
