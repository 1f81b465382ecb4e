/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/test_make.h"

#include "base/path.h"
#include "template/look.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define T_GZIP "application/vnd.oci.image.layer.v1.tar+gzip"
#define T_ZSTD "application/vnd.oci.image.layer.v1.tar+zstd"
#define T_TAR  "application/vnd.oci.image.layer.v1.tar"

/* An image being laid out in DIR/image; each text can be spoilt before it is written. */
struct layout {
    char dir[96];
    char *layers;   /* JSON of the descriptors */
    char *diff_ids; /* JSON */
    const char *config_tail, *config_os, *index_tail, *manifest_type, *config_type;
    size_t n;
};

static void blob(struct layout *l, const struct bytes *b, char digest[HASH_TEXT])
{
    sha256_of(b, digest);
    auto_free char *path = str_format("%s/blobs/sha256/%s", l->dir, digest + 7);
    write_file(path, b->p, b->n);
}

static void blob_text(struct layout *l, const char *text, char digest[HASH_TEXT])
{
    struct bytes b = {(unsigned char *)(uintptr_t)text, strlen(text), 0};
    blob(l, &b, digest);
}

static void layout_begin(struct fixture *f, struct layout *l)
{
    *l = (struct layout){.layers = strdup(""), .diff_ids = strdup("")};
    str_print(l->dir, sizeof(l->dir), "%s/image", f->dir);
    path_remove_tree_at(AT_FDCWD, l->dir, NULL);
    auto_free char *blobs = str_format("%s/blobs/sha256", l->dir);
    OK(f, path_make_dirs(blobs, 0755, &f->err));
}

static void layout_done(struct layout *l)
{
    free(l->layers);
    free(l->diff_ids);
}
#define auto_layout __attribute__((cleanup(layout_done)))

static void replace(char **text, char *with)
{
    free(*text);
    *text = with;
}

static void layout_layer(struct layout *l, const struct bytes *tar, const char *type,
                         void (*pack)(const struct bytes *, struct bytes *))
{
    auto_bytes struct bytes packed = {0};
    char digest[HASH_TEXT], diff[HASH_TEXT];
    if (pack)
        pack(tar, &packed);
    else
        bytes_add(&packed, tar->p, tar->n);
    blob(l, &packed, digest);
    sha256_of(tar, diff);
    const char *comma = l->n++ ? "," : "";
    replace(&l->layers, str_format("%s%s{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu}",
                                   l->layers, comma, type, digest, packed.n));
    replace(&l->diff_ids, str_format("%s%s\"%s\"", l->diff_ids, comma, diff));
}

static void write_in(struct layout *l, const char *name, const char *text)
{
    auto_free char *path = str_format("%s/%s", l->dir, name);
    write_file(path, text, strlen(text));
}

static void layout_end(struct layout *l)
{
    char config[HASH_TEXT], manifest[HASH_TEXT];
    auto_free char *c = str_format(
        "{\"architecture\":\"amd64\",\"os\":\"%s\",\"rootfs\":{\"type\":\"layers\","
        "\"diff_ids\":[%s]}%s}",
        l->config_os ? l->config_os : "linux", l->diff_ids, l->config_tail ? l->config_tail : "");
    blob_text(l, c, config);
    auto_free char *m = str_format(
        "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu},"
        "\"layers\":[%s]}",
        l->config_type ? l->config_type : "application/vnd.oci.image.config.v1+json", config,
        strlen(c), l->layers);
    blob_text(l, m, manifest);
    auto_free char *i = str_format(
        "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu,"
        "\"annotations\":{\"org.opencontainers.image.ref.name\":\"latest\"}}%s]}",
        l->manifest_type ? l->manifest_type : "application/vnd.oci.image.manifest.v1+json",
        manifest, strlen(m), l->index_tail ? l->index_tail : "");
    write_in(l, "index.json", i);
    write_in(l, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
}

static int import(struct fixture *f, const char *source)
{
    struct template_request rq = {.name = "t", .source = source};
    f->err = (struct err){0};
    return template_import(f->store, &rq, &f->err);
}

static void base_layer(struct bytes *b)
{
    tar_add(b, &(struct tar_item){"etc/", '5'});
    tar_add(b, &(struct tar_item){"etc/old", '0', .data = "old"});
    tar_add(b, &(struct tar_item){"etc/kept", '0', .data = "kept"});
    tar_add(b, &(struct tar_item){"opt/a/one", '0', .data = "1"});
    tar_add(b, &(struct tar_item){"bin", '2', .link = "usr/bin"});
    tar_add(b, &(struct tar_item){"usr/bin/app", '0', .mode = 0755, .data = "#!"});
    tar_end(b);
}

static void upper_layer(struct bytes *b)
{
    tar_add(b, &(struct tar_item){"etc/.wh.old", '0'});
    tar_add(b, &(struct tar_item){"opt/a/.wh..wh..opq", '0'});
    tar_add(b, &(struct tar_item){"opt/a/two", '0', .data = "2"});
    tar_add(b, &(struct tar_item){".wh..wh.plnk", '5'});
    /* A whiteout and then the directory of the same name: what was below is hidden. */
    tar_add(b, &(struct tar_item){".wh.srv", '0'});
    tar_add(b, &(struct tar_item){"srv/new", '0', .data = "n"});
    /* The other way round: what this very layer brings stays. */
    tar_add(b, &(struct tar_item){"var/new", '0', .data = "n"});
    tar_add(b, &(struct tar_item){".wh.var", '0'});
    tar_add(b, &(struct tar_item){"run/file", '0', .data = "n"});
    tar_add(b, &(struct tar_item){"run/.wh.file", '0'});
    tar_end(b);
}

static bool opaque(int root, const char *path)
{
    auto_fd int fd = openat(root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char v = 0;
    return fd >= 0 && fgetxattr(fd, "user.overlay.opaque", &v, 1) == 1 && v == 'y';
}

static void check_image(struct fixture *f)
{
    auto_template struct template *t = NULL;
    OK(f, template_get(f->store, "t", &t, &f->err));
    assert_int_equal(t->n_layers, 2);
    assert_int_equal(t->start, TEMPLATE_APP);
    assert_null(t->init_path);
    assert_string_equal(t->command[0], "/usr/bin/app");
    assert_string_equal(t->command[1], "--serve");
    assert_null(t->command[2]);
    assert_string_equal(t->env[1], "MODE=fast=1");
    assert_string_equal(t->workdir, "/srv");
    assert_string_equal(t->user, "33:33");
    auto_fd int low = fixture_root(f, "t", 0);
    auto_fd int up = fixture_root(f, "t", 1);
    struct stat st;
    assert_int_equal(fstatat(up, "etc/old", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0));
    assert_true(opaque(up, "opt/a") && opaque(up, "srv") && opaque(up, "var"));
    assert_false(opaque(up, "run") || opaque(up, "etc"));
    assert_int_equal(fstatat(up, "run/file", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(faccessat(up, ".wh..wh.plnk", F_OK, AT_SYMLINK_NOFOLLOW), -1);
    int roots[2] = {low, up};
    char path[PATH_MAX];
    assert_int_equal(look_find(roots, 2, "/etc/old", path, &st, NULL), -ERR_NOT_FOUND);
    assert_int_equal(look_find(roots, 2, "/opt/a/one", path, &st, NULL), -ERR_NOT_FOUND);
    assert_int_equal(look_find(roots, 2, "/opt/a/two", path, &st, NULL), 0);
    assert_int_equal(look_find(roots, 2, "/etc/kept", path, &st, NULL), 0);
    assert_int_equal(look_find(roots, 2, "../bin/./app", path, &st, NULL), 0);
    assert_string_equal(path, "usr/bin/app");
    assert_int_equal(look_find(roots, 2, "/etc/kept/x", path, &st, NULL), -ERR_NOT_FOUND);
}

static void whole_image(struct fixture *f, struct layout *l)
{
    auto_bytes struct bytes low = {0}, up = {0};
    base_layer(&low);
    upper_layer(&up);
    layout_begin(f, l);
    layout_layer(l, &low, T_GZIP, pack_gzip);
    layout_layer(l, &up, T_ZSTD, pack_zstd);
    l->config_tail = ",\"config\":{\"Entrypoint\":[\"/usr/bin/app\"],\"Cmd\":[\"--serve\"],"
                     "\"Env\":[\"PATH=/usr/bin\",\"MODE=fast=1\"],\"WorkingDir\":\"/srv\","
                     "\"User\":\"33:33\"}";
}

/* The image's directory as one tar; the blobs in the order of the file system. */
static void archive_of(struct layout *l, struct bytes *b)
{
    static const char *const dirs[] = {"", "blobs/", "blobs/sha256/"};
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        auto_free char *path = str_format("%s/%s", l->dir, dirs[i]);
        auto_dir DIR *d = opendir(path);
        struct dirent *e;
        while ((e = readdir(d))) {
            if (e->d_type != DT_REG)
                continue;
            auto_free char *file = str_format("%s/%s", path, e->d_name);
            auto_free char *name = str_format("%s%s", dirs[i], e->d_name);
            auto_free char *data = NULL;
            auto_fd int fd = open(file, O_RDONLY | O_CLOEXEC);
            struct stat st;
            assert_int_equal(fstat(fd, &st), 0);
            data = malloc((size_t)st.st_size + 1);
            assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
            tar_add(b, &(struct tar_item){name, '0', .data = data, .len = (size_t)st.st_size});
        }
    }
    tar_end(b);
}

static void test_layout(void **state)
{
    struct fixture *f = *state;
    auto_layout struct layout l = {0};
    whole_image(f, &l);
    layout_end(&l);
    auto_free char *plain = str_format("%s", l.dir), *oci = str_format("oci:%s", l.dir),
                   *tagged = str_format("oci:%s:latest", l.dir),
                   *wrong = str_format("oci:%s:nope", l.dir);
    const char *const sources[] = {plain, oci, tagged};
    for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
        OK(f, import(f, sources[i]));
        check_image(f);
        OK(f, fixture_remove(f, "t", NULL, 0));
        fixture_assert_nothing(f);
    }
    assert_int_equal(import(f, wrong), -ERR_NOT_FOUND);
    /* As an archive, plain and packed, and cut off anywhere. */
    auto_bytes struct bytes tar = {0}, packed = {0};
    archive_of(&l, &tar);
    pack_gzip(&tar, &packed);
    OK(f, import_bytes(f, &tar, NULL));
    check_image(f);
    OK(f, fixture_remove(f, "t", NULL, 0));
    OK(f, import_bytes(f, &packed, NULL));
    check_image(f);
    OK(f, fixture_remove(f, "t", NULL, 0));
    for (size_t n = 0; n < tar.n; n += 512) {
        struct bytes cut = {tar.p, n, n};
        assert_int_equal(import_bytes(f, &cut, NULL), -ERR_CORRUPT);
        fixture_assert_nothing(f);
    }
}

/* `umoci insert` ends a layer with the last byte of the last file; data that lacks is told. */
static void test_no_end(void **state)
{
    struct fixture *f = *state;
    auto_free char *data = calloc(1, 1500);
    memset(data, 'x', 1499);
    for (size_t lack = 0; lack < 1300; lack += lack ? 100 : 1) {
        auto_bytes struct bytes tar = {0};
        tar_add(&tar, &(struct tar_item){"f", '0', .data = data});
        tar.n = 512 + 1499 - lack;
        auto_layout struct layout l = {0};
        layout_begin(f, &l);
        layout_layer(&l, &tar, T_GZIP, pack_gzip);
        layout_end(&l);
        assert_int_equal(import(f, l.dir), lack ? -ERR_CORRUPT : 0);
        if (lack) {
            fixture_assert_nothing(f);
            continue;
        }
        OK(f, fixture_remove(f, "t", NULL, 0));
    }
}

/* Layers that are there are shared, and not even read. */
static void test_shared(void **state)
{
    struct fixture *f = *state;
    auto_layout struct layout l = {0};
    whole_image(f, &l);
    layout_end(&l);
    OK(f, import(f, l.dir));
    auto_layout struct layout second = {0};
    auto_bytes struct bytes low = {0};
    base_layer(&low);
    layout_begin(f, &second);
    layout_layer(&second, &low, T_GZIP, pack_gzip);
    layout_layer(&second, &low, T_TAR, NULL); /* the same again: an overlay takes it once */
    second.config_tail = ",\"config\":{\"Cmd\":null}";
    layout_end(&second);
    struct template_request rq = {.name = "u", .source = second.dir};
    OK(f, template_import(f->store, &rq, &f->err));
    assert_int_equal(fixture_entries(f, "layers"), 2);
    auto_template struct template *t = NULL;
    OK(f, template_get(f->store, "u", &t, &f->err));
    assert_int_equal(t->n_layers, 1);
    assert_null(t->command);
    OK(f, fixture_remove(f, "t", NULL, 0));
    assert_int_equal(fixture_entries(f, "layers"), 1);
    OK(f, fixture_remove(f, "u", NULL, 0));
    fixture_assert_nothing(f);
}

static void refuse(struct fixture *f, struct layout *l, int kind, const char *say)
{
    int r = import(f, l->dir);
    if (r != -kind || !strstr(f->err.text, say))
        fail_msg("%d \"%s\" where \"%s\" is due", r, f->err.text, say);
    fixture_assert_nothing(f);
}

static void test_wrong_types(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes low = {0};
    base_layer(&low);
    static const struct {
        const char *layer, *manifest, *config, *os, *tail, *say;
        int kind;
    } cases[] = {
        {"application/vnd.oci.image.layer.v1.tar+bzip2", .say = "media type",
         .kind = ERR_UNSUPPORTED},
        {"text/plain", .say = "media type", .kind = ERR_UNSUPPORTED},
        {"", .say = "media type", .kind = ERR_UNSUPPORTED},
        {T_TAR, .say = "compressed as", .kind = ERR_CORRUPT},
        {T_ZSTD, .say = "compressed as", .kind = ERR_CORRUPT},
        {T_GZIP, .manifest = "application/json", .say = "media type", .kind = ERR_UNSUPPORTED},
        {T_GZIP, .config = "application/vnd.oci.empty.v1+json", .say = "media type",
         .kind = ERR_UNSUPPORTED},
        {T_GZIP, .os = "windows", .say = "windows/amd64", .kind = ERR_UNSUPPORTED},
        {T_GZIP, .tail = ",\"config\":{\"Env\":[\"=x\"]}", .say = "KEY=VALUE", .kind = ERR_CORRUPT},
        {T_GZIP, .tail = ",\"config\":{\"Cmd\":[1]}", .say = "not text", .kind = ERR_CORRUPT},
        {T_GZIP, .tail = ",\"config\":{\"Cmd\":\"sh\"}", .say = "not a list", .kind = ERR_CORRUPT},
        {T_GZIP, .tail = ",\"os\":\"linux\"", .say = "damaged", .kind = ERR_CORRUPT},
        {T_GZIP, .tail = ",,", .say = "damaged", .kind = ERR_CORRUPT},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        auto_layout struct layout l = {0};
        layout_begin(f, &l);
        layout_layer(&l, &low, cases[i].layer, pack_gzip);
        l.manifest_type = cases[i].manifest;
        l.config_type = cases[i].config;
        l.config_os = cases[i].os;
        l.config_tail = cases[i].tail;
        layout_end(&l);
        refuse(f, &l, cases[i].kind, cases[i].say);
    }
}

/* A descriptor that says another digest or size than the layer has. */
static void test_wrong_digests(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes low = {0}, up = {0};
    base_layer(&low);
    upper_layer(&up);
    for (int i = 0; i < 4; i++) {
        auto_layout struct layout l = {0};
        layout_begin(f, &l);
        layout_layer(&l, &low, T_GZIP, pack_gzip);
        layout_layer(&l, &up, T_GZIP, pack_gzip);
        char *digit = NULL;
        if (i == 0) /* last hex digit of the second diffID */
            digit = l.diff_ids + strlen(l.diff_ids) - 2;
        else if (i == 1) /* the size of the second layer */
            digit = l.layers + strlen(l.layers) - 2;
        if (digit)
            *digit = *digit == '1' ? '2' : '1';
        layout_end(&l);
        if (i >= 2) { /* the second blob itself: another byte, or a byte less */
            char *hex = strstr(strstr(l.layers, "}"), "sha256:") + 7;
            auto_free char *path = str_format("%s/blobs/sha256/%.64s", l.dir, hex);
            auto_fd int fd = open(path, O_RDWR | O_CLOEXEC);
            struct stat st;
            assert_int_equal(fstat(fd, &st), 0);
            if (i == 2) /* "operating system" in gzip's header: only the digest can tell */
                assert_int_equal(pwrite(fd, "\x07", 1, 9), 1);
            else
                assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
        }
        refuse(f, &l, ERR_CORRUPT, i == 1 || i == 3 ? "size" : "digest");
    }
}

static void test_bad_documents(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name, *text, *say;
        int kind;
    } cases[] = {
        {"oci-layout", "{}", "version", ERR_UNSUPPORTED},
        {"oci-layout", "{\"imageLayoutVersion\":\"2.0\"}", "version", ERR_UNSUPPORTED},
        {"index.json", "", "damaged", ERR_CORRUPT},
        {"index.json", "[]", "damaged", ERR_CORRUPT},
        {"index.json", "{\"schemaVersion\":1,\"manifests\":[]}", "version 2", ERR_CORRUPT},
        {"index.json", "{\"schemaVersion\":2,\"manifests\":[]}", "no image", ERR_UNSUPPORTED},
        {"index.json",
         "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":"
         "\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:../../../etc/passwd\","
         "\"size\":1}]}",
         "digest", ERR_CORRUPT},
        {"index.json",
         "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":"
         "\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha512:00\",\"size\":1}]}",
         "SHA-512", ERR_UNSUPPORTED},
        {"index.json",
         "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":"
         "\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:"
         "0000000000000000000000000000000000000000000000000000000000000000\",\"size\":1}]}",
         "no usable file", ERR_CORRUPT},
        {"index.json",
         "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":"
         "\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:"
         "0000000000000000000000000000000000000000000000000000000000000000\",\"size\":-1}]}",
         "size", ERR_CORRUPT},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        auto_layout struct layout l = {0};
        whole_image(f, &l);
        layout_end(&l);
        write_in(&l, cases[i].name, cases[i].text);
        refuse(f, &l, cases[i].kind, cases[i].say);
    }
    /* A blob that is a link out of the image, or a fifo that would never answer. */
    auto_layout struct layout l = {0};
    whole_image(f, &l);
    layout_end(&l);
    char *hex = strstr(l.layers, "sha256:") + 7;
    auto_free char *path = str_format("%s/blobs/sha256/%.64s", l.dir, hex);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    refuse(f, &l, ERR_CORRUPT, "no usable file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    refuse(f, &l, ERR_CORRUPT, "no usable file");
}

/* Several images in one layout, and an index for several machines. */
static void test_choice(void **state)
{
    struct fixture *f = *state;
    auto_layout struct layout l = {0};
    whole_image(f, &l);
    l.index_tail = ",{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":"
                   "\"sha256:0000000000000000000000000000000000000000000000000000000000000000\","
                   "\"size\":7,\"annotations\":{\"org.opencontainers.image.ref.name\":\"other\"}}";
    layout_end(&l);
    refuse(f, &l, ERR_USAGE, "latest, other");
    auto_free char *tagged = str_format("oci:%s:latest", l.dir);
    OK(f, import(f, tagged));
    check_image(f);
    OK(f, fixture_remove(f, "t", NULL, 0));

    /* The same manifest behind a nested index, between other machines'. */
    auto_free char *index = NULL, *outer = NULL;
    auto_free char *path = str_format("%s/index.json", l.dir);
    auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[4096] = "";
    assert_true(read(fd, text, sizeof(text) - 1) > 0);
    char *digest = strstr(text, "sha256:"), *size = strstr(text, "\"size\":");
    index = str_format(
        "{\"schemaVersion\":2,\"manifests\":["
        "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"%.71s\","
        "\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"riscv64\"}},"
        "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"%.71s\","
        "%.*s,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}},"
        "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"%.71s\","
        "\"size\":1,\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}}]}",
        digest, digest, (int)strcspn(size, ",}"), size, digest);
    char sum[HASH_TEXT];
    blob_text(&l, index, sum);
    outer = str_format("{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":"
                       "\"application/vnd.oci.image.index.v1+json\",\"digest\":\"%s\","
                       "\"size\":%zu}]}",
                       sum, strlen(index));
    write_in(&l, "index.json", outer);
    OK(f, import(f, l.dir));
    check_image(f);
}

static void test_docker(void **state)
{
    struct fixture *f = *state;
    auto_layout struct layout l = {0};
    whole_image(f, &l);
    auto_bytes struct bytes low = {0}, up = {0};
    base_layer(&low);
    upper_layer(&up);
    auto_free char *config =
        str_format("{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\","
                   "\"diff_ids\":[%s]}%s}",
                   l.diff_ids, l.config_tail);
    struct bytes c = {(unsigned char *)config, strlen(config), 0};
    char sum[HASH_TEXT];
    sha256_of(&c, sum);
    auto_free char *name = str_format("%s.json", sum + 7);
    auto_free char *manifest =
        str_format("[{\"Config\":\"%s\",\"RepoTags\":[\"app:1\"],\"Layers\":[\"a/layer.tar\","
                   "\"b/layer.tar\"]}]",
                   name);
    for (int spoil = 0; spoil < 2; spoil++) {
        if (spoil)
            *strstr(config, "fast") = 'F';
        auto_bytes struct bytes tar = {0};
        tar_add(&tar, &(struct tar_item){"a/layer.tar", '0', .data = (char *)low.p, .len = low.n});
        tar_add(&tar, &(struct tar_item){"b/layer.tar", '0', .data = (char *)up.p, .len = up.n});
        tar_add(&tar, &(struct tar_item){name, '0', .data = config});
        tar_add(&tar, &(struct tar_item){"manifest.json", '0', .data = manifest});
        tar_end(&tar);
        if (spoil) {
            assert_int_equal(import_bytes(f, &tar, NULL), -ERR_CORRUPT);
            assert_non_null(strstr(f->err.text, "digest"));
            fixture_assert_nothing(f);
            break;
        }
        OK(f, import_bytes(f, &tar, NULL));
        check_image(f);
        OK(f, fixture_remove(f, "t", NULL, 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_layout, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_no_end, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_shared, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_wrong_types, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_wrong_digests, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_bad_documents, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_choice, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_docker, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
