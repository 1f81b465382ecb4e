/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "param/param.h"

#include "base/name.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CLASS_SUFFIX ".CLASS"

/* "net.out.europe" for the row "net.out.CLASS": a class is one more word of a template's kind. */
static bool is_class_of(const struct param_row *row, const char *key)
{
    size_t stem = strlen(row->key) - strlen("CLASS");
    return str_ends(row->key, CLASS_SUFFIX) && strncmp(key, row->key, stem) == 0 &&
           name_check_template(key + stem, NULL) == 0;
}

const char *param_class_of(const struct param_row *row, const char *key)
{
    if (!row || !str_ends(row->key, CLASS_SUFFIX) || str_eq(row->key, key))
        return NULL;
    return key + strlen(row->key) - strlen("CLASS");
}

static int by_key(const void *a, const void *b)
{
    const struct param_row *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

/* Asked for every VE when one changes: the table is sorted by what is shown together, so an order
 * of our own is made at first use. */
const struct param_row *param_find(const char *key)
{
    static const struct param_row *sorted[PARAM_MAX];
    const struct param_row wanted = {.key = key}, *p = &wanted;
    if (!sorted[0]) {
        for (size_t i = 0; i < param_table_size; i++)
            sorted[i] = &param_table[i];
        qsort(sorted, param_table_size, sizeof(*sorted), by_key);
    }
    const struct param_row **found = bsearch(&p, sorted, param_table_size, sizeof(*sorted), by_key);
    if (found)
        return *found;
    for (size_t i = 0; i < param_table_size; i++)
        if (is_class_of(&param_table[i], key))
            return &param_table[i];
    return NULL;
}

static const char *next_key(void *ctx, size_t i)
{
    return i < param_table_size ? param_table[i].key : NULL;
}

/* Is this one of the words of "kmemsize, dcachesize"?  Any case. */
static bool is_ancestor(const char *list, const char *key)
{
    size_t len = strlen(key);
    for (const char *p = list; p && len && *p; p += strspn(p, ", ")) {
        size_t word = strcspn(p, ", ");
        if (word == len && strncasecmp(p, key, len) == 0)
            return true;
        p += word;
    }
    return false;
}

/* The row that OpenVZ called so. */
static const struct param_row *find_ancestor(const char *key)
{
    for (size_t i = 0; i < param_table_size; i++)
        if (is_ancestor(param_table[i].ancestor, key))
            return &param_table[i];
    return NULL;
}

/* "MEMORY.Limit" for "memory.limit". */
static const char *other_case(const char *key)
{
    for (size_t i = 0; i < param_table_size; i++)
        if (strcasecmp(param_table[i].key, key) == 0)
            return param_table[i].key;
    return NULL;
}

const struct param_row *param_find_err(const char *key, struct err *err)
{
    const struct param_row *row = param_find(key);
    if (row)
        return row;
    auto_str struct str shown = str_init(512);
    str_escape(&shown, key, strnlen(key, NAME_SIZE));
    const struct param_row *heir = find_ancestor(key);
    const char *near = other_case(key);
    if (!near && !heir)
        near = name_suggest(key, next_key, NULL);
    if (!near && heir)
        err_set(err, ERR_USAGE, "there is no parameter \"%s\"; %s is what %s was in OpenVZ",
                str_c(&shown), heir->key, str_c(&shown));
    else if (near)
        err_set(err, ERR_USAGE, "there is no parameter \"%s\"; did you mean %s?", str_c(&shown),
                near);
    else
        err_set(err, ERR_USAGE, "there is no parameter \"%s\"; terem params lists them",
                str_c(&shown));
    return NULL;
}

size_t param_index(const struct param_row *row)
{
    return (size_t)(row - param_table);
}

const char *param_type_name(enum param_type t)
{
    static const char *const names[] = {
        [PARAM_SIZE] = "size",     [PARAM_COUNT] = "count", [PARAM_PERCENT] = "percent",
        [PARAM_SWITCH] = "switch", [PARAM_TIME] = "time",   [PARAM_CORES] = "cores",
        [PARAM_IO] = "io",         [PARAM_RATE] = "rate",
    };
    return names[t];
}

const char *param_kind_name(enum param_kind k)
{
    static const char *const names[] = {
        [PARAM_GUARANTEE] = "guarantee", [PARAM_SOFT] = "soft",       [PARAM_LIMIT] = "limit",
        [PARAM_WEIGHT] = "weight",       [PARAM_SETTING] = "setting", [PARAM_COUNTER] = "counter",
    };
    return names[k];
}

void param_set_init(struct param_set *set)
{
    memset(set, 0, sizeof(*set));
    for (size_t i = 0; i < param_table_size; i++)
        set->v[i] = param_table[i].def;
}

void param_set_put(struct param_set *set, const struct param_row *row, struct param_value v)
{
    size_t i = param_index(row);
    set->given[i] = true;
    set->v[i] = v;
}

static int compare_classed(const struct param_classed *c, const struct param_row *row,
                           const char *class)
{
    return c->row == row ? strcmp(c->class, class) : c->row < row ? -1 : 1;
}

int param_set_put_key(struct param_set *set, const struct param_row *row, const char *key,
                      struct param_value v, struct err *err)
{
    const char *class = param_class_of(row, key);
    if (!str_ends(row->key, CLASS_SUFFIX)) {
        param_set_put(set, row, v);
        return 0;
    }
    int stem = (int)(strlen(row->key) - strlen("CLASS"));
    if (!class)
        return err_set(err, ERR_USAGE, "%s: put the name of a class for CLASS, as in %.*sany", key,
                       stem, key);
    if (strlen(class) >= PARAM_CLASS_NAME)
        return err_set(err, ERR_USAGE, "%s: a class's name has at most %d characters", key,
                       PARAM_CLASS_NAME - 1);
    size_t i = 0;
    while (i < set->n_classed && compare_classed(&set->classed[i], row, class) < 0)
        i++;
    struct param_classed *at = &set->classed[i];
    if (i == set->n_classed || compare_classed(at, row, class) != 0) {
        if (set->n_classed == PARAM_CLASSED_MAX)
            return err_set(err, ERR_EXHAUSTED,
                           "%s: a VE has values for at most %d classes, both ways together", key,
                           PARAM_CLASSED_MAX);
        memmove(at + 1, at, (set->n_classed - i) * sizeof(*at));
        set->n_classed++;
        memset(at, 0, sizeof(*at));
        at->row = row;
        str_print(at->class, sizeof(at->class), "%s", class);
    }
    at->v = v;
    return 0;
}

struct param_value param_set_get_class(const struct param_set *set, const char *key,
                                       const char *class)
{
    const struct param_row *row = param_find(key);
    for (size_t i = 0; i < set->n_classed; i++)
        if (compare_classed(&set->classed[i], row, class) == 0)
            return set->classed[i].v;
    return row ? row->def : (struct param_value){.unlimited = true};
}

bool param_set_has_class(const struct param_set *set, const char *class)
{
    for (size_t i = 0; i < set->n_classed; i++)
        if (str_eq(set->classed[i].class, class))
            return true;
    return false;
}

bool param_set_same(const struct param_set *a, const struct param_set *b)
{
    for (size_t i = 0; i < param_table_size; i++)
        if (!param_value_same(a->v[i], b->v[i]))
            return false;
    for (size_t i = 0; a->n_classed == b->n_classed && i < a->n_classed; i++)
        if (compare_classed(&a->classed[i], b->classed[i].row, b->classed[i].class) != 0 ||
            !param_value_same(a->classed[i].v, b->classed[i].v))
            return false;
    return a->n_classed == b->n_classed;
}

struct param_value param_set_get(const struct param_set *set, const char *key)
{
    const struct param_row *row = param_find(key);
    return row ? set->v[param_index(row)] : (struct param_value){.unlimited = true};
}

int param_set_parse(struct param_set *set, const char *assignment, struct err *err)
{
    const char *eq = strchr(assignment, '=');
    if (!eq || eq == assignment) {
        auto_str struct str shown = str_init(512);
        str_escape(&shown, assignment, strnlen(assignment, NAME_SIZE));
        return err_set(err, ERR_USAGE, "\"%s\" is not key=value", str_c(&shown));
    }
    char key[2 * NAME_SIZE];
    if (str_print(key, sizeof(key), "%.*s", (int)(eq - assignment < 1024 ? eq - assignment : 1024),
                  assignment) < 0)
        return err_set(err, ERR_USAGE, "a parameter's name has at most %d characters",
                       NAME_SIZE - 1);
    const struct param_row *row = param_find_err(key, err);
    if (!row)
        return -ERR_USAGE;
    struct param_value v;
    int r = param_parse(row, key, eq + 1, &v, err);
    if (r < 0)
        return r;
    return param_set_put_key(set, row, key, v, err);
}

struct param_counter *param_counters_of(struct param_counters *list, const struct param_row *row)
{
    for (size_t i = 0; i < list->n; i++)
        if (list->c[i].row == row)
            return &list->c[i];
    /* There are no more rows than places. */
    struct param_counter *c = &list->c[list->n++];
    *c = (struct param_counter){.row = row};
    return c;
}
