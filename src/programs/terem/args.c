/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "command.h"
#include "help.h"

#include "base/name.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < command_table_size; i++)
        if (str_eq(command_table[i]->name, name))
            return command_table[i];
    return NULL;
}

const struct command_group *command_group_find(const char *name)
{
    for (const struct command_group *g = command_groups; g->name; g++)
        if (str_eq(g->name, name))
            return g;
    return NULL;
}

const char *command_heading(const struct command *c)
{
    for (const struct command_heading *h = command_headings; h->title; h++)
        if (h->first == c)
            return h->title;
    return NULL;
}

static const char *group_find(const char *name)
{
    const struct command_group *g = command_group_find(name);
    return g ? g->name : NULL;
}

/* The word that follows the group in a name; NULL: the name is not in the group. */
static const char *word_after(const char *group, const char *name)
{
    size_t n = group ? strlen(group) : 0;
    if (!group)
        return name;
    return str_starts(name, group) && name[n] == ' ' ? name + n + 1 : NULL;
}

static bool same_word(const char *a, const char *b)
{
    size_t n = strcspn(a, " ");
    return n == strcspn(b, " ") && strncmp(a, b, n) == 0;
}

void command_words(struct str *s, const char *group, const char *between)
{
    bool first = true;
    for (size_t i = 0; i < command_table_size; i++) {
        const char *word = word_after(group, command_table[i]->name);
        bool again = !word || help_hidden(command_table[i]);
        for (size_t k = 0; k < i && !again; k++) {
            const char *other = word_after(group, command_table[k]->name);
            again = other && same_word(word, other);
        }
        if (again)
            continue;
        str_add(s, "%s%.*s", first ? "" : between, (int)strcspn(word, " "), word);
        first = false;
    }
}

/* Word i of those that stand one behind the other, the last one empty. */
static const char *next_word(void *ctx, size_t i)
{
    const char *word = ctx;
    while (i-- && *word)
        word += strlen(word) + 1;
    return *word ? word : NULL;
}

/* The word of the group that is nearest, or NULL; it points into words. */
static const char *near_word(struct str *words, const char *group, const char *word)
{
    command_words(words, group, " ");
    str_add(words, " ");
    for (size_t i = 0; i < words->len; i++)
        if (words->buf[i] == ' ')
            words->buf[i] = '\0';
    return name_suggest(word, next_word, words->buf);
}

int command_unknown(const char *group, const char *word, struct err *err)
{
    auto_str struct str s = str_init(512), words = str_init(4096), names = str_init(4096);
    for (const char *const *later = command_later; !group && *later; later++)
        if (str_eq(*later, word))
            return err_set(
                err, ERR_USAGE,
                "this version of Terem does not have %s yet; terem help lists what it has", word);
    for (const struct command_elsewhere *e = command_elsewhere; !group && e->word; e++)
        if (str_eq(e->word, word))
            return err_set(err, ERR_USAGE, "there is no command %s; terem %s does that", word,
                           e->here);
    const char *in = group ? group : "", *space = group ? " " : "";
    str_add(&s, "there is no command %s%s", in, space);
    str_escape(&s, word, strnlen(word, 40));
    const char *near = near_word(&words, group, word);
    if (near)
        return err_set(err, ERR_USAGE, "%s; did you mean %s%s%s?", str_c(&s), in, space, near);
    if (!group)
        return err_set(err, ERR_USAGE, "%s; terem help lists them", str_c(&s));
    command_words(&names, group, ", ");
    return err_set(err, ERR_USAGE, "%s; use one of: %s", str_c(&s), str_c(&names));
}

static int word_missing(const char *group, struct err *err)
{
    auto_str struct str names = str_init(4096);
    command_words(&names, group, ", ");
    return err_set(err, ERR_USAGE, "terem %s needs one of: %s", group, str_c(&names));
}

/* "GROUP WORD"; NULL when there is none such. */
static const struct command *in_group(const char *group, const char *word)
{
    char both[64];
    return str_print(both, sizeof(both), "%s %s", group, word) == 0 ? command_find(both) : NULL;
}

static const char *group_in(const char *group, const char *word)
{
    char both[64];
    return str_print(both, sizeof(both), "%s %s", group, word) == 0 ? group_find(both) : NULL;
}

struct option_walk {
    const struct command *command;
};

static const struct option_spec *option_at(const struct command *c, size_t i)
{
    size_t own = 0;
    if (c && c->options)
        while (c->options[own].name)
            own++;
    if (i < own)
        return &c->options[i];
    for (size_t g = 0; command_global_options[g].name; g++)
        if (g == i - own)
            return &command_global_options[g];
    return NULL;
}

static const char *next_option(void *ctx, size_t i)
{
    const struct option_walk *w = ctx;
    const struct option_spec *o = option_at(w->command, i);
    return o ? o->name : NULL;
}

static int unknown_option(const struct command *c, const char *text, struct err *err)
{
    struct option_walk w = {c};
    auto_str struct str shown = str_init(256), word = str_init(256);
    str_escape(&shown, text, strnlen(text, 40));
    str_add(&word, "%.*s", (int)strcspn(text, "="), text);
    const char *near =
        text[1] == '-' && word.len > 2 ? name_suggest(str_c(&word) + 2, next_option, &w) : NULL;
    if (near)
        return err_set(err, ERR_USAGE, "there is no option %s; did you mean --%s?", str_c(&shown),
                       near);
    return err_set(err, ERR_USAGE, "there is no option %s; see terem help%s%s", str_c(&shown),
                   c ? " " : "", c ? c->name : "");
}

static void give(struct args *a, const struct option_spec *o, const char *value)
{
    a->given[a->n_given].spec = o;
    a->given[a->n_given++].value = value;
}

/* "--name", "--name=value", "--name value".  *i is the index of the word. */
static int long_option(struct args *a, char **argv, int argc, int *i, struct err *err)
{
    const char *text = argv[*i] + 2;
    size_t n = strcspn(text, "=");
    const struct option_spec *o = NULL;
    for (size_t k = 0; (o = option_at(a->command, k)); k++)
        if (strlen(o->name) == n && memcmp(o->name, text, n) == 0)
            break;
    if (!o)
        return unknown_option(a->command, argv[*i], err);
    if (!o->arg && text[n])
        return err_set(err, ERR_USAGE, "--%s takes no value", o->name);
    if (!o->arg)
        give(a, o, "");
    else if (text[n])
        give(a, o, text + n + 1);
    else if (*i + 1 < argc)
        give(a, o, argv[++*i]);
    else
        return err_set(err, ERR_USAGE, "--%s needs a value: %s", o->name, o->arg);
    return 0;
}

/* "-a", "-abc", "-nVALUE", "-n VALUE". */
static int short_options(struct args *a, char **argv, int argc, int *i, struct err *err)
{
    for (const char *p = argv[*i] + 1; *p; p++) {
        const struct option_spec *o = NULL;
        for (size_t k = 0; (o = option_at(a->command, k)); k++)
            if (o->letter == *p)
                break;
        if (!o)
            return unknown_option(a->command, argv[*i], err);
        if (!o->arg) {
            give(a, o, "");
            if (a->n_given >= ARGS_MAX)
                return err_set(err, ERR_USAGE, "the command line is too long");
            continue;
        }
        if (p[1])
            give(a, o, p + 1);
        else if (*i + 1 < argc)
            give(a, o, argv[++*i]);
        else
            return err_set(err, ERR_USAGE, "-%c needs a value: %s", o->letter, o->arg);
        return 0;
    }
    return 0;
}

/* "use: terem list [OPTION...]" */
static void add_usage(struct str *s, const struct command *c)
{
    str_add(s, "use: terem %s [OPTION...]%s%s", c->name, *c->usage ? " " : "", c->usage);
}

static int check_count(const struct args *a, struct err *err)
{
    const struct command *c = a->command;
    if (!c && a->group && !args_has(a, "help"))
        return word_missing(a->group, err);
    if (!c || args_has(a, "help") || (a->n_pos >= c->min && a->n_pos <= c->max))
        return 0;
    auto_str struct str use = str_init(512);
    add_usage(&use, c);
    if (a->n_pos > c->max) {
        auto_str struct str s = str_init(256);
        str_escape(&s, a->pos[c->max], strnlen(a->pos[c->max], 40));
        if (strchr(a->pos[c->max], '=') && str_eq(c->name, "create"))
            return err_set(err, ERR_USAGE, "\"%s\" is one word too many; use --set %s", str_c(&s),
                           str_c(&s));
        if (str_eq(c->name, "list"))
            str_add(&use, "; terem show %s shows one VE", str_c(&s));
        return err_set(err, ERR_USAGE, "\"%s\" is one word too many; %s", str_c(&s), str_c(&use));
    }
    return err_set(err, ERR_USAGE, "a word is missing; %s", str_c(&use));
}

static int command_word(struct args *a, const char *text, struct err *err)
{
    const char *outer = a->group, *group = outer ? group_in(outer, text) : group_find(text);
    if (group) {
        a->group = group;
        a->command = in_group(group, "list"); /* the group alone lists, where there is a list */
        if (!a->command)
            a->command = command_find(group);
        return 0;
    }
    if (outer) {
        const struct command *c = in_group(outer, text), *itself = command_find(outer);
        a->group = NULL;
        a->command = c ? c : itself; /* "backup verify FILE", and "backup VE FILE" */
        if (!c && itself)
            a->pos[a->n_pos++] = text;
        return a->command ? 0 : command_unknown(outer, text, err);
    }
    a->command = command_find(text);
    return a->command ? 0 : command_unknown(NULL, text, err);
}

static int word(struct args *a, char **argv, int *i, struct err *err)
{
    if (!a->command || a->group)
        return command_word(a, argv[*i], err);
    if (a->command->rest == REST_FREE && a->n_pos == a->command->max) {
        a->has_rest = true;
        (*i)--; /* this word belongs to the rest */
        return 0;
    }
    a->pos[a->n_pos++] = argv[*i];
    return 0;
}

int args_parse(int argc, char **argv, struct args *ret, struct err *err)
{
    if (argc > ARGS_MAX)
        return err_set(err, ERR_USAGE, "the command line has more than %d words", ARGS_MAX);
    *ret = (struct args){0};
    ret->pos = calloc((size_t)argc + 1, sizeof(*ret->pos));
    ret->rest = calloc((size_t)argc + 1, sizeof(*ret->rest));
    ret->given = calloc(2 * ARGS_MAX, sizeof(*ret->given));
    if (!ret->pos || !ret->rest || !ret->given)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (int i = 1; i < argc; i++) {
        int r = 0;
        if (ret->has_rest)
            ret->rest[ret->n_rest++] = argv[i];
        else if (str_eq(argv[i], "--") && ret->command)
            ret->has_rest = true;
        else if (str_starts(argv[i], "--"))
            r = long_option(ret, argv, argc, &i, err);
        else if (argv[i][0] == '-' && argv[i][1])
            r = short_options(ret, argv, argc, &i, err);
        else
            r = word(ret, argv, &i, err);
        if (r < 0)
            return r;
        if (ret->n_given >= ARGS_MAX)
            return err_set(err, ERR_USAGE, "the command line is too long");
    }
    if (ret->command && ret->command->rest == REST_NONE && ret->has_rest) {
        /* "--" only ends the options: what follows are words. */
        for (size_t i = 0; i < ret->n_rest; i++)
            ret->pos[ret->n_pos++] = ret->rest[i];
        ret->n_rest = 0;
    }
    /* A name that might be taken for an option may stand behind "--" as well. */
    while (ret->command && ret->command->rest == REST_DASHES && ret->n_rest &&
           ret->n_pos < ret->command->min) {
        ret->pos[ret->n_pos++] = ret->rest[0];
        memmove(ret->rest, ret->rest + 1, --ret->n_rest * sizeof(*ret->rest));
    }
    return check_count(ret, err);
}

void args_done(struct args *a)
{
    free(a->pos);
    free(a->rest);
    free(a->given);
    *a = (struct args){0};
}

const char *args_get(const struct args *a, const char *option)
{
    for (size_t i = a->n_given; i-- > 0;)
        if (str_eq(a->given[i].spec->name, option))
            return a->given[i].value;
    return NULL;
}

bool args_has(const struct args *a, const char *option)
{
    return args_get(a, option) != NULL;
}

const char *args_each(const struct args *a, const char *option, size_t i)
{
    for (size_t k = 0; k < a->n_given; k++)
        if (str_eq(a->given[k].spec->name, option) && i-- == 0)
            return a->given[k].value;
    return NULL;
}
