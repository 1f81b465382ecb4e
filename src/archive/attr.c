/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "archive/attr.h"

#include "archive/tree.h"
#include "base/str.h"

#include <endian.h>
#include <linux/capability.h>
#include <linux/posix_acl_xattr.h>
#include <linux/xattr.h>
#include <stdint.h>
#include <string.h>

_Static_assert(ATTR_CAPABILITY_V2 == XATTR_CAPS_SZ_2, "linux/capability.h");

static uint32_t word(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

/* Version 3 names the root of the user namespace that it is good for; ids in a layer are those of
 * the VE, so that root can only be 0, which is what version 2 says. */
static bool keep_capability(const void **value, size_t *size, unsigned char *buf)
{
    const unsigned char *p = *value;
    if (*size < sizeof(uint32_t))
        return false;
    uint32_t magic = word(p), revision = magic & VFS_CAP_REVISION_MASK;
    if (revision == VFS_CAP_REVISION_2 && *size == XATTR_CAPS_SZ_2)
        return true;
    if (revision != VFS_CAP_REVISION_3 || *size != XATTR_CAPS_SZ_3)
        return false;
    memcpy(buf, p, XATTR_CAPS_SZ_2);
    uint32_t v2 = htole32(VFS_CAP_REVISION_2 | (magic & VFS_CAP_FLAGS_EFFECTIVE));
    memcpy(buf, &v2, sizeof(v2));
    *value = buf;
    *size = XATTR_CAPS_SZ_2;
    return true;
}

/* The kernel checks the order of the entries; we check that their ids exist in a VE. */
static bool keep_acl(const void *value, size_t size)
{
    const unsigned char *p = value;
    const size_t head = sizeof(struct posix_acl_xattr_header),
                 each = sizeof(struct posix_acl_xattr_entry);
    if (size < head || (size - head) % each != 0 || word(p) != POSIX_ACL_XATTR_VERSION)
        return false;
    for (size_t at = head; at < size; at += each) {
        uint16_t tag;
        memcpy(&tag, p + at, sizeof(tag));
        tag = le16toh(tag);
        bool named = tag == 0x02 /* ACL_USER */ || tag == 0x08 /* ACL_GROUP */;
        if (named && word(p + at + 4) > TREE_ID_MAX)
            return false;
    }
    return true;
}

#define UUID_SIZE 16

bool attr_keep(const char *name, bool exact, const void **value, size_t *size,
               unsigned char buf[ATTR_CAPABILITY_V2])
{
    if (strlen(name) > XATTR_NAME_MAX || *size > XATTR_SIZE_MAX)
        return false;
    if (str_starts(name, "user."))
        return (exact || !str_starts(name, "user.overlay.")) && name[5] != '\0';
    if (str_eq(name, "security.capability"))
        return keep_capability(value, size, buf);
    if (str_eq(name, "system.posix_acl_access") || str_eq(name, "system.posix_acl_default"))
        return keep_acl(*value, *size);
    return false;
}

bool attr_exact(const char *name, const void *value, size_t size, bool dir)
{
    static const char overlay[] = "user.overlay.";
    if (!str_starts(name, overlay))
        return true;
    const char *what = name + strlen(overlay), *v = value;
    bool yes = dir && size == 1 && v[0] == 'y';
    if (str_eq(what, "opaque") || str_eq(what, "impure"))
        return yes;
    if (str_eq(what, "uuid"))
        return dir && size == UUID_SIZE;
    if (str_eq(what, "protattr"))
        return size >= 1 && size <= 2 && memchr("ia", v[0], 2) && memchr("ia", v[size - 1], 2);
    return str_eq(what, "origin");
}
