/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ve/firstkeys.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "container/container.h"
#include "template/template.h"
#include "ve/hostkey.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct {
    const char *type, *private, *public;
} kinds[FIRSTKEYS_TYPES] = {
    {"rsa", "/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_rsa_key.pub"},
    {"ecdsa", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_ecdsa_key.pub"},
    {"ed25519", "/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ed25519_key.pub"},
};

bool firstkeys_wanted(const int *layers, size_t n, int tree)
{
    bool made_at_start = false;
    for (size_t i = 0; i < n && !made_at_start; i++) {
        auto_fd int conf = -1;
        made_at_start = path_open_beneath(layers[i], TEMPLATE_HOST_KEYS, O_PATH | O_NOFOLLOW, 0,
                                          &conf, &(struct err){0}) == 0;
    }
    struct stat st;
    auto_fd int etc = -1;
    if (!made_at_start)
        return false;
    if (path_open_beneath(tree, "upper/etc", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0, &etc,
                          &(struct err){0}) < 0)
        return fstatat(tree, "upper/etc", &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
    return fstatat(etc, "ssh", &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

/* What is there stays. */
static bool where_there_is_none(const char *now, bool own, const char *text, struct str *ret)
{
    (void)own;
    if (*now)
        return false;
    str_add(ret, "%s", text);
    return true;
}

int firstkeys_make(struct firstkeys *keys, const char *comment, struct container_file *files,
                   size_t *n_files, struct err *err)
{
    for (size_t i = 0; i < FIRSTKEYS_TYPES; i++) {
        char **private = &keys->texts[2 * i], **public = &keys->texts[2 * i + 1];
        if (hostkey_make(kinds[i].type, 0, comment, private, public, err) < 0)
            return -err->kind;
        files[(*n_files)++] = (struct container_file){kinds[i].private, *private,
                                                      .merge = where_there_is_none, .mode = 0600};
        files[(*n_files)++] =
            (struct container_file){kinds[i].public, *public, .merge = where_there_is_none};
    }
    return 0;
}

void firstkeys_free(struct firstkeys *keys)
{
    for (size_t i = 0; i < ARRAY_SIZE(keys->texts); i++) {
        if (keys->texts[i])
            explicit_bzero(keys->texts[i], strlen(keys->texts[i]));
        free(keys->texts[i]);
        keys->texts[i] = NULL;
    }
}
