/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The form of a manifest (docs/backup.md), the same for who restores and who verifies.
 *
 * What is in a VE's record, and nothing else under its name: a field that were passed over would
 * leave a VE that is not like the one that was backed up.  null: it had none.
 */
#include "backup/backup.h"

#include "base/cleanup.h"
#include "base/name.h"

#include <string.h>

#define NAME_MAX_BYTES (NAME_SIZE - 1)

enum form {
    TEXT,
    LINE, /* a text without control characters */
    COUNT,
    YES_NO,
    OBJECT,
    OBJECT_OF_TEXTS,
    LIST,
    LIST_OF_TEXTS,
};

struct field {
    const char *key;
    enum form form;
    size_t most; /* bytes of a text */
    bool must;
};

static const struct field top_fields[] = {
    {"kind", LINE, 16, true}, {"terem", LINE, 255, true},   {"created", COUNT, 0, true},
    {"saved", COUNT},         {"snapshot", LINE, NAME_MAX}, {"layers", LIST},
    {"tree", OBJECT},         {"ve", OBJECT, .must = true},
};
static const struct field tree_fields[] = {
    {"bytes", COUNT},
    {"entries", COUNT},
    {"fingerprint", LINE, BACKUP_ID - 1},
};
static const struct field ve_fields[] = {
    {"name", LINE, NAME_MAX, true},
    {"id", COUNT},
    {"spec", OBJECT, .must = true},
    {"profile_params", OBJECT},
};
static const struct field spec_fields[] = {
    {"template", LINE, NAME_MAX_BYTES, true},
    {"layers", LIST_OF_TEXTS, .must = true},
    {"kind", LINE, 16},
    {"init", LINE, 16},
    {"init_path", TEXT, PATH_MAX - 1},
    {"command", LIST_OF_TEXTS},
    {"env", OBJECT_OF_TEXTS},
    {"user", LINE, 255},
    {"workdir", TEXT, PATH_MAX - 1},
    {"labels", OBJECT_OF_TEXTS},
    {"params", OBJECT},
    {"profile", LINE, NAME_MAX_BYTES},
    {"pool", LINE, NAME_MAX_BYTES},
    {"restart", LINE, 16},
    {"autostart", YES_NO},
    {"priority", COUNT},
    {"nesting", YES_NO},
    {"schedule", OBJECT},
};

static int bad_field(const char *key, const char *must, struct err *err)
{
    return err_set(
        err, ERR_CORRUPT,
        "the backup's manifest is not one that Terem writes: its field \"%s\" must be %s", key,
        must);
}

static bool is_text(const json_t *v, size_t most, bool line)
{
    const char *text = json_string_value(v);
    if (!text || strlen(text) != json_string_length(v) || strlen(text) > most)
        return false;
    for (const unsigned char *p = (const unsigned char *)text; line && *p; p++)
        if (*p < ' ' || *p == 0x7f)
            return false;
    return true;
}

static bool are_texts(const json_t *v)
{
    const char *key;
    json_t *one;
    size_t i;
    json_array_foreach((json_t *)v, i, one) if (!is_text(one, SIZE_MAX, false)) return false;
    json_object_foreach((json_t *)v, key, one) if (!is_text(one, SIZE_MAX, false)) return false;
    return true;
}

static int check_field(const json_t *v, const struct field *f, struct err *err)
{
    char must[80];
    bool ok = false;
    switch (f->form) {
    case TEXT:
    case LINE:
        str_print(must, sizeof(must), "a text of at most %zu bytes%s", f->most,
                  f->form == LINE ? " without control characters" : "");
        ok = is_text(v, f->most, f->form == LINE);
        break;
    case COUNT:
        str_print(must, sizeof(must), "a number from 0 on");
        ok = json_is_integer(v) && json_integer_value(v) >= 0;
        break;
    case YES_NO:
        str_print(must, sizeof(must), "true or false");
        ok = json_is_boolean(v);
        break;
    case OBJECT:
    case OBJECT_OF_TEXTS:
        str_print(must, sizeof(must), "an object%s", f->form == OBJECT ? "" : " of texts");
        ok = json_is_object(v) && (f->form == OBJECT || are_texts(v));
        break;
    case LIST:
    case LIST_OF_TEXTS:
        str_print(must, sizeof(must), "a list%s", f->form == LIST ? "" : " of texts");
        ok = json_is_array(v) && (f->form == LIST || are_texts(v));
        break;
    }
    return ok ? 0 : bad_field(f->key, must, err);
}

static int check_fields(const json_t *o, const struct field *fields, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(o, fields[i].key);
        if ((!v || json_is_null(v)) && !fields[i].must)
            continue;
        int r = check_field(v, &fields[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int one_of(const json_t *o, const char *key, const char *const names[], const char *must,
                  struct err *err)
{
    const char *text = json_string_value(json_object_get(o, key));
    for (; text && *names; names++)
        if (str_eq(text, *names))
            return 0;
    return text ? bad_field(key, must, err) : 0;
}

bool backup_digest_ok(const char *text)
{
    static const char start[] = "sha256:";
    if (!text || !str_starts(text, start) || strlen(text) != HASH_TEXT - 1)
        return false;
    return strspn(text + strlen(start), "0123456789abcdef") == strlen(text) - strlen(start);
}

static int check_layers(const json_t *m, const json_t *spec, struct err *err)
{
    size_t i;
    json_t *layer;
    if (json_array_size(json_object_get(spec, "layers")) == 0)
        return err_set(err, ERR_CORRUPT, "the backup's manifest names no layers");
    json_array_foreach(json_object_get(spec, "layers"), i, layer)
    {
        if (!backup_digest_ok(json_string_value(layer)))
            return err_set(err, ERR_CORRUPT, "the backup's manifest names a bad layer");
    }
    json_array_foreach(json_object_get(m, "layers"), i, layer)
    {
        const json_t *own = json_object_get(layer, "embedded");
        if (!backup_digest_ok(json_string_value(json_object_get(layer, "digest"))) ||
            (own && !json_is_null(own) &&
             (!backup_digest_ok(json_string_value(json_object_get(own, "digest"))) ||
              !json_is_integer(json_object_get(own, "size")))))
            return err_set(err, ERR_CORRUPT, "the backup's manifest names a bad layer");
    }
    return 0;
}

int backup_manifest_check(const json_t *m, struct err *err)
{
    static const char *const kinds[] = {"system", "app", NULL};
    static const char *const inits[] = {"none", "systemd", "busybox", "sysv", NULL};
    const json_t *format = json_object_get(m, "format"), *ve = json_object_get(m, "ve"),
                 *spec = json_object_get(ve, "spec"), *since = json_object_get(m, "since");
    const char *id = json_string_value(json_object_get(m, "id"));
    const char *const kind[] = {since ? "incremental" : "full", NULL};
    int r;
    if (!backup_id_ok(id))
        return err_set(err, ERR_CORRUPT, "the backup's manifest cannot be read");
    if (!json_is_integer(format) || json_integer_value(format) < 1)
        return bad_field("format", "a number from 1 on", err);
    if (json_integer_value(format) != 1)
        return err_set(err, ERR_UNSUPPORTED,
                       "backup %.8s was made by a newer Terem; restore it with that", id);
    if (since && !backup_id_ok(json_string_value(since)))
        return bad_field("since", "the id of a backup", err);
    if ((r = check_fields(m, top_fields, ARRAY_SIZE(top_fields), err)) < 0 ||
        (r = one_of(m, "kind", kind, "full, or incremental with \"since\"", err)) < 0 ||
        (r = check_fields(json_object_get(m, "tree"), tree_fields, ARRAY_SIZE(tree_fields), err)) <
            0 ||
        (r = check_fields(ve, ve_fields, ARRAY_SIZE(ve_fields), err)) < 0 ||
        (r = check_fields(spec, spec_fields, ARRAY_SIZE(spec_fields), err)) < 0 ||
        (r = one_of(spec, "kind", kinds, "system or app", err)) < 0 ||
        (r = one_of(spec, "init", inits, "one that Terem knows", err)) < 0)
        return r;
    const char *path = json_string_value(json_object_get(spec, "init_path"));
    if (path && *path != '/')
        return bad_field("init_path", "a path from / on", err);
    return check_layers(m, spec, err);
}
