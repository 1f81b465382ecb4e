/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/nft.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <errno.h>
#include <malloc.h>
#include <nftables/libnftables.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

static void nft_ctx_freep(struct nft_ctx **ctx)
{
    if (*ctx)
        nft_ctx_free(*ctx);
}

static int run_in_context(const char *commands, bool dry, char **ret, struct err *err)
{
    auto_clean(nft_ctx_freep) struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    if (!ctx || nft_ctx_buffer_error(ctx) || nft_ctx_buffer_output(ctx))
        return err_set(err, ERR_EXHAUSTED, "cannot start nftables: out of memory");
    nft_ctx_set_dry_run(ctx, dry);
    errno = 0;
    if (nft_run_cmd_from_buffer(ctx, commands) == 0) {
        char *text = ret ? strdup(nft_ctx_get_output_buffer(ctx)) : NULL;
        if (ret && !text)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        if (ret)
            *ret = text;
        return 0;
    }
    int sys = errno;
    const char *text = nft_ctx_get_error_buffer(ctx);
    int cut = text ? (int)strcspn(text, "\n") : 0;
    if (cut == 0)
        return sys ? err_sysno(err, sys, "nftables refused")
                   : err_set(err, ERR_SYSTEM, "nftables refused");
    /* Errors of the kernel reach us only as text that ends with strerror(). */
    enum err_kind kind = strstr(text, strerror(EPERM)) ? ERR_DENIED
                         : strstr(text, strerror(EOPNOTSUPP)) || strstr(text, strerror(ENOENT))
                             ? ERR_UNSUPPORTED
                             : ERR_SYSTEM;
    return err_set(err, kind, "nftables refused: %.*s", cut, text);
}

static int run(const char *commands, bool dry, char **ret, struct err *err)
{
    /* It takes a wait that a signal ended for the kernel's refusal (libnftables 1.0.6), and a
     * daemon is told of each child that ends by one. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int r = run_in_context(commands, dry, ret, err);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    /* 500 KB of the heap that a daemon would keep for good (libnftables 1.0.6). */
    malloc_trim(0);
    return r;
}

int nft_run(const char *commands, struct err *err)
{
    return run(commands, false, NULL, err);
}

int nft_try(const char *commands, struct err *err)
{
    return run(commands, true, NULL, err);
}

int nft_list(const char *command, char **ret, struct err *err)
{
    return run(command, false, ret, err);
}
