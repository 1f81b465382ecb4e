/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/err.h"

#include "base/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct err_row rows[ERR__COUNT] = {
    [ERR_NONE] = {"ok", 0, 200, "Nothing went wrong."},
    [ERR_USAGE] = {"usage", 2, 400, "The request is malformed; the sentence says which part."},
    [ERR_NOT_FOUND] = {"not-found", 1, 404, "The named thing does not exist."},
    [ERR_EXISTS] = {"exists", 1, 409, "A thing of this name exists already."},
    [ERR_STATE] = {"state", 1, 409, "The thing's present state does not allow this."},
    [ERR_BUSY] = {"busy", 1, 409, "Another operation is at work on the thing; try again."},
    [ERR_EXHAUSTED] = {"exhausted", 1, 507,
                       "Disk, memory, ids or addresses are used up, or a limit "
                       "was met; the sentence says which."},
    [ERR_UNSUPPORTED] = {"unsupported", 1, 501,
                         "This kernel, file system or build lacks what is "
                         "needed; see terem doctor."},
    [ERR_DENIED] = {"denied", 1, 403, "Not permitted."},
    [ERR_CORRUPT] = {"corrupt", 1, 422,
                     "Stored or supplied bytes are damaged or not what they "
                     "claim to be."},
    [ERR_TIMEOUT] = {"timeout", 1, 504, "A deadline passed."},
    [ERR_CANCELLED] = {"cancelled", 1, 409, "The operation was cancelled."},
    [ERR_UNAVAILABLE] = {"unavailable", 1, 503, "A needed service does not answer."},
    [ERR_SYSTEM] = {"system", 1, 500, "The kernel refused; the sentence ends with its reason."},
    [ERR_INTERNAL] = {"internal", 1, 500, "A bug in Terem; please report it."},
};

const struct err_row *err_row(int kind)
{
    if (kind < 0 || kind >= ERR__COUNT)
        kind = ERR_INTERNAL;
    return &rows[kind];
}

int err_kind_from_name(const char *name)
{
    for (int k = 0; k < ERR__COUNT; k++)
        if (name && strcmp(rows[k].name, name) == 0)
            return k;
    return ERR_INTERNAL;
}

int err_kind_from_errno(int sys)
{
    switch (sys) {
    case ENOENT:
    case ESRCH:
    case ENODEV:
    case ENXIO:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EBUSY:
    case EAGAIN:
        return ERR_BUSY;
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EUSERS:
        return ERR_EXHAUSTED;
    case ENOSYS:
    case EOPNOTSUPP:
        return ERR_UNSUPPORTED;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_DENIED;
    case ETIMEDOUT:
    case ETIME:
        return ERR_TIMEOUT;
    case ECANCELED:
        return ERR_CANCELLED;
    case ECONNREFUSED:
        return ERR_UNAVAILABLE;
    default:
        return ERR_SYSTEM;
    }
}

/* What raises a bound that has but one name; "": it depends on what was attempted. */
static const char *advice(int sys)
{
    switch (sys) {
    case EMFILE:
        return "; raise LimitNOFILE of terem.service";
    case ENFILE:
        return "; raise the sysctl fs.file-max";
    default:
        return "";
    }
}

static void fill(struct err *err, int kind, int sys, const char *fmt, va_list ap)
{
    if (!err)
        return;
    err->kind = kind;
    err->sys = sys;
    int n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
    if (sys && n >= 0 && (size_t)n < sizeof(err->text))
        str_print(err->text + n, sizeof(err->text) - (size_t)n, ": %s%s", strerror(sys),
                  advice(sys));
}

int err_set(struct err *err, enum err_kind kind, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(err, (int)kind, 0, fmt, ap);
    va_end(ap);
    return -(int)kind;
}

int err_sysno(struct err *err, int sys, const char *fmt, ...)
{
    int kind = err_kind_from_errno(sys);
    va_list ap;
    va_start(ap, fmt);
    fill(err, kind, sys, fmt, ap);
    va_end(ap);
    return -kind;
}

int err_sys(struct err *err, const char *fmt, ...)
{
    int sys = errno, kind = err_kind_from_errno(sys);
    va_list ap;
    va_start(ap, fmt);
    fill(err, kind, sys, fmt, ap);
    va_end(ap);
    return -kind;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    if (!err)
        return -ERR_INTERNAL;
    char cause[sizeof(err->text)];
    memcpy(cause, err->text, sizeof(cause));
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(err->text))
        str_print(err->text + n, sizeof(err->text) - (size_t)n, ": %s", cause);
    if (err->kind == ERR_NONE)
        err->kind = ERR_INTERNAL;
    return -err->kind;
}

void err_clear(struct err *err)
{
    if (err)
        *err = (struct err){0};
}
