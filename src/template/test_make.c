/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/test_make.h"

#include "base/path.h"

#include <dirent.h>
#include <fcntl.h>
#include <lzma.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    str_print(f->dir, sizeof(f->dir), "/tmp/terem-template-XXXXXX");
    if (!f || !mkdtemp(f->dir))
        return -1;
    str_print(f->state, sizeof(f->state), "%s/state", f->dir);
    str_print(f->outside, sizeof(f->outside), "%s/outside", f->dir);
    str_print(f->file, sizeof(f->file), "%s/archive", f->dir);
    char victim[128];
    str_print(victim, sizeof(victim), "%s/victim", f->outside);
    mkdir(f->outside, 0755);
    write_file(victim, "untouched", 9);
    *state = f;
    return template_store_open(f->state, &f->store, &f->err);
}

int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    template_store_close(f->store);
    int r = path_remove_tree_at(AT_FDCWD, f->dir, NULL);
    free(f);
    return r;
}

static size_t count(const char *path)
{
    auto_dir DIR *d = opendir(path);
    size_t n = 0;
    struct dirent *e;
    while (d && (e = readdir(d)))
        n += !str_eq(e->d_name, ".") && !str_eq(e->d_name, "..");
    return n;
}

size_t fixture_entries(struct fixture *f, const char *below)
{
    auto_free char *path = str_format("%s/%s", f->state, below);
    return count(path);
}

void fixture_assert_nothing(struct fixture *f)
{
    assert_int_equal(fixture_entries(f, "layers"), 0);
    assert_int_equal(fixture_entries(f, "templates"), 0);
    char victim[128];
    struct stat st;
    str_print(victim, sizeof(victim), "%s/victim", f->outside);
    assert_int_equal(count(f->outside), 1);
    assert_int_equal(stat(victim, &st), 0);
    assert_int_equal(st.st_size, 9);
    assert_int_equal(st.st_nlink, 1);
}

int fixture_root(struct fixture *f, const char *name, size_t i)
{
    auto_template struct template *t = NULL;
    OK(f, template_get(f->store, name, &t, &f->err));
    assert_true(i < t->n_layers);
    const char *digest = t->layers[i];
    int fd = -1;
    OK(f, template_open_layers(f->store, &digest, 1, &fd, &f->err));
    /* O_PATH is all that users need; the tests also list. */
    int dir = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close(fd);
    return dir;
}

void bytes_add(struct bytes *b, const void *p, size_t n)
{
    while (b->n + n > b->room) {
        b->room = b->room ? b->room * 2 : 4096;
        b->p = realloc(b->p, b->room);
        assert_non_null(b->p);
    }
    if (p)
        memcpy(b->p + b->n, p, n);
    else
        memset(b->p + b->n, 0, n);
    b->n += n;
}

void bytes_done(struct bytes *b)
{
    free(b->p);
    *b = (struct bytes){0};
}

static void pad(struct bytes *b)
{
    bytes_add(b, NULL, (512 - b->n % 512) % 512);
}

struct ustar { /* POSIX.1-2017, pax, "ustar Interchange Format" */
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100], magic[6],
        version[2], uname[32], gname[32], major[8], minor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct ustar) == 512, "one block");

void tar_add(struct bytes *b, const struct tar_item *item)
{
    struct ustar h = {.type = item->type, .magic = "ustar", .version = {'0', '0'}};
    size_t len = item->len ? item->len : item->data ? strlen(item->data) : 0;
    memcpy(h.name, item->name, strnlen(item->name, sizeof(h.name)));
    if (item->link)
        memcpy(h.link, item->link, strnlen(item->link, sizeof(h.link)));
    unsigned mode = item->mode ? item->mode : item->type == '5' ? 0755 : 0644;
    str_print(h.mode, sizeof(h.mode), "%07o", mode);
    str_print(h.uid, sizeof(h.uid), "%07o", item->uid);
    str_print(h.gid, sizeof(h.gid), "%07o", item->gid);
    str_print(h.size, sizeof(h.size), "%011zo", len);
    str_print(h.mtime, sizeof(h.mtime), "%011o", 1000000000u);
    str_print(h.major, sizeof(h.major), "%07o", item->major);
    str_print(h.minor, sizeof(h.minor), "%07o", item->minor);
    memset(h.sum, ' ', sizeof(h.sum));
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof(h); i++)
        sum += ((unsigned char *)&h)[i];
    str_print(h.sum, sizeof(h.sum), "%06o", sum);
    bytes_add(b, &h, sizeof(h));
    bytes_add(b, item->data, len);
    pad(b);
}

void tar_pax(struct bytes *b, const char *key, const void *value, size_t len)
{
    /* "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
    size_t body = strlen(key) + len + 3, total = body + 1, before;
    do {
        char digits[24];
        before = total;
        str_print(digits, sizeof(digits), "%zu", total);
        total = body + strlen(digits);
    } while (total != before);
    auto_bytes struct bytes record = {0};
    auto_free char *head = str_format("%zu %s=", total, key);
    bytes_add(&record, head, strlen(head));
    bytes_add(&record, value, len);
    bytes_add(&record, "\n", 1);
    tar_add(b, &(struct tar_item){.name = "PaxHeaders/x",
                                  .type = 'x',
                                  .data = (const char *)record.p,
                                  .len = record.n});
}

void tar_long(struct bytes *b, char type, const char *text)
{
    tar_add(b, &(struct tar_item){
                   .name = "././@LongLink", .type = type, .data = text, .len = strlen(text) + 1});
}

void tar_end(struct bytes *b)
{
    bytes_add(b, NULL, 1024);
}

void pack_gzip(const struct bytes *in, struct bytes *out)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t most = deflateBound(&z, in->n);
    auto_free unsigned char *buf = malloc(most);
    z.next_in = in->p;
    z.avail_in = (uInt)in->n;
    z.next_out = buf;
    z.avail_out = (uInt)most;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    bytes_add(out, buf, most - z.avail_out);
    deflateEnd(&z);
}

void pack_xz(const struct bytes *in, struct bytes *out)
{
    size_t most = lzma_stream_buffer_bound(in->n), n = 0;
    auto_free unsigned char *buf = malloc(most);
    assert_int_equal(
        lzma_easy_buffer_encode(1, LZMA_CHECK_CRC64, NULL, in->p, in->n, buf, &n, most), LZMA_OK);
    bytes_add(out, buf, n);
}

void pack_zstd(const struct bytes *in, struct bytes *out)
{
    size_t most = ZSTD_compressBound(in->n);
    auto_free unsigned char *buf = malloc(most);
    size_t n = ZSTD_compress(buf, most, in->p, in->n, 3);
    assert_false(ZSTD_isError(n));
    bytes_add(out, buf, n);
}

void sha256_of(const struct bytes *b, char ret[HASH_TEXT])
{
    struct hash *h = hash_new();
    hash_add(h, b->p, b->n);
    hash_end(h, ret);
    hash_free(h);
}

void write_file(const char *path, const void *p, size_t n)
{
    auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_true(write(fd, p, n) == (ssize_t)n);
}

int import_bytes(struct fixture *f, const struct bytes *b, const struct template_request *rq)
{
    struct template_request r = rq ? *rq : (struct template_request){0};
    if (!r.name)
        r.name = "t";
    r.source = f->file;
    write_file(f->file, b->p, b->n);
    f->err = (struct err){0};
    return template_import(f->store, &r, &f->err);
}

int fixture_remove(struct fixture *f, const char *name, const char *const *used, size_t n_used)
{
    int r = template_remove(f->store, name, &f->err);
    if (r == 0)
        r = template_collect(f->store, used, n_used, &f->err);
    return r < 0 ? r : template_empty_trash(f->store, NULL, &f->err);
}
