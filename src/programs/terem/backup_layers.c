/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup_layers.h"

#include "text.h"

static bool is_within(const json_t *layer)
{
    return json_is_object(json_object_get(layer, "embedded")) ||
           json_is_true(json_object_get(layer, "earlier"));
}

bool backup_layers_within(const json_t *layers)
{
    size_t i;
    json_t *layer;
    json_array_foreach((json_t *)layers, i, layer)
    {
        if (!is_within(layer))
            return false;
    }
    return json_array_size(layers) > 0;
}

json_t *backup_layers_kept(const json_t *manifest)
{
    json_t *out = json_array(), *layer;
    size_t i;
    json_array_foreach(json_object_get(manifest, "layers"), i, layer)
    {
        if (is_within(layer))
            json_array_append(out, json_object_get(layer, "digest"));
    }
    return out;
}

/* 1: the node has it, 0: not, -1: nobody answers. */
static int is_here(struct cli *cli, const char *digest)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *answer = NULL;
    str_add(&path, "/v1/layers/%s", digest);
    if (cli_call(cli, "GET", str_c(&path), NULL, &answer, NULL) < 0)
        return -1;
    return json_is_true(json_object_get(answer, "here"));
}

void backup_layers_say(struct cli *cli, const char *file, const char *template_name,
                       const json_t *layers)
{
    static const char *const now[] = {"which nobody could be asked for now",
                                      "not all of which this node has",
                                      "all of which this node has now"};
    auto_str struct str s = str_init(TEXT_MAX);
    size_t i, n = 0;
    json_t *layer;
    int here = 1;
    if (backup_layers_within(layers)) {
        cli_say(cli, "%s: it holds the layers of template %s; any node can restore it", file,
                template_name);
        return;
    }
    json_array_foreach((json_t *)layers, i, layer)
    {
        if (is_within(layer))
            continue;
        str_add(&s, "%s%.*s", n++ ? ", " : "", TEXT_DIGEST, cli_text(layer, "digest"));
        if (here > 0)
            here = is_here(cli, cli_text(layer, "digest"));
    }
    cli_say(cli,
            "%s: to be restored it needs exactly these layers of template %s on the node, %s: %s; "
            "they go when the template is updated or removed and no VE stands on them; a backup "
            "with --embed holds them",
            file, template_name, now[here + 1], str_c(&s));
}
