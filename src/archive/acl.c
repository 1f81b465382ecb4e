/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "archive/acl.h"

#include "base/cleanup.h"

#include <archive.h>
#include <archive_entry.h>
#include <endian.h>
#include <linux/posix_acl_xattr.h>
#include <stdlib.h>

#define ACL_ENTRIES_MAX 1024
#define UNDEFINED_ID    UINT32_MAX

/* In the order in which the kernel wants them (posix_acl_valid() in fs/posix_acl.c). */
static const struct {
    int archive_tag;
    uint16_t tag;
} tags[] = {
    {ARCHIVE_ENTRY_ACL_USER_OBJ, 0x01},  {ARCHIVE_ENTRY_ACL_USER, 0x02},
    {ARCHIVE_ENTRY_ACL_GROUP_OBJ, 0x04}, {ARCHIVE_ENTRY_ACL_GROUP, 0x08},
    {ARCHIVE_ENTRY_ACL_MASK, 0x10},      {ARCHIVE_ENTRY_ACL_OTHER, 0x20},
};

static size_t tag_index(int archive_tag)
{
    size_t i = 0;
    while (i < ARRAY_SIZE(tags) && tags[i].archive_tag != archive_tag)
        i++;
    return i;
}

static int by_kernel_order(const void *a, const void *b)
{
    const struct posix_acl_xattr_entry *x = a, *y = b;
    if (x->e_tag != y->e_tag)
        return le16toh(x->e_tag) < le16toh(y->e_tag) ? -1 : 1;
    return le32toh(x->e_id) < le32toh(y->e_id) ? -1 : le32toh(x->e_id) > le32toh(y->e_id);
}

int acl_from_entry(struct archive_entry *e, bool is_default, void **ret, size_t *ret_size,
                   struct err *err)
{
    int kind = is_default ? ARCHIVE_ENTRY_ACL_TYPE_DEFAULT : ARCHIVE_ENTRY_ACL_TYPE_ACCESS;
    int n = archive_entry_acl_reset(e, kind);
    *ret_size = 0;
    if (n <= 0)
        return 0;
    if (n > ACL_ENTRIES_MAX)
        return err_set(err, ERR_CORRUPT, "an entry has more than %d rows of ACL", ACL_ENTRIES_MAX);
    struct posix_acl_xattr_header *head =
        malloc(sizeof(*head) + (size_t)n * sizeof(struct posix_acl_xattr_entry));
    if (!head)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    struct posix_acl_xattr_entry *list = (void *)(head + 1);
    int type, perm, tag, id, used = 0;
    const char *name;
    while (used < n &&
           archive_entry_acl_next(e, kind, &type, &perm, &tag, &id, &name) == ARCHIVE_OK) {
        size_t i = tag_index(tag);
        if (i == ARRAY_SIZE(tags))
            continue;
        bool named = tags[i].tag == 0x02 || tags[i].tag == 0x08;
        list[used++] = (struct posix_acl_xattr_entry){
            .e_tag = htole16(tags[i].tag),
            .e_perm = htole16((uint16_t)(perm & 7)),
            .e_id = htole32(named ? (uint32_t)id : UNDEFINED_ID),
        };
    }
    if (used == 0) {
        free(head);
        return 0;
    }
    head->a_version = htole32(POSIX_ACL_XATTR_VERSION);
    qsort(list, (size_t)used, sizeof(*list), by_kernel_order);
    *ret = head;
    *ret_size = sizeof(*head) + (size_t)used * sizeof(*list);
    return 0;
}
