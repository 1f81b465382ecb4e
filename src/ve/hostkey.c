/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ve/hostkey.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <endian.h>
#include <nettle/base64.h>
#include <nettle/bignum.h>
#include <nettle/ecc-curve.h>
#include <nettle/ecdsa.h>
#include <nettle/eddsa.h>
#include <nettle/rsa.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

#define BLOB_MAX  16384
#define RSA_BITS  3072
#define LINE      70
#define CIPHER_BS 8 /* block size of the cipher "none" */

static void fill_random(void *ctx, size_t n, uint8_t *dst)
{
    bool *failed = ctx;
    while (n) {
        ssize_t k = getrandom(dst, n, 0);
        if (k < 0) {
            *failed = true;
            memset(dst, 0, n); /* whoever asks for odd or prime numbers must end */
            return;
        }
        dst += k;
        n -= (size_t)k;
    }
}

/* ---- strings with a key in them ---- */

/* Of its whole size at once: growing would leave copies behind. */
static struct str secret_init(size_t max)
{
    struct str s = str_init(max);
    s.buf = calloc(1, max + 1);
    s.cap = s.buf ? max + 1 : 0;
    return s;
}

static void secret_done(struct str *s)
{
    if (s->buf)
        explicit_bzero(s->buf, s->cap);
    str_done(s);
}

/* ---- the wire's types (RFC 4251, 5) ---- */

static void put_u32(struct str *s, uint32_t v)
{
    uint32_t be = htobe32(v);
    str_add_bytes(s, &be, sizeof(be));
}

static void put_string(struct str *s, const void *p, size_t n)
{
    put_u32(s, (uint32_t)n);
    str_add_bytes(s, p, n);
}

static void put_text(struct str *s, const char *text)
{
    put_string(s, text, strlen(text));
}

static void put_mpint(struct str *s, const mpz_t x)
{
    uint8_t buf[2048];
    size_t n = nettle_mpz_sizeinbase_256_s(x); /* with a zero before a high bit */
    if (n > sizeof(buf)) {
        s->failed = true;
        return;
    }
    nettle_mpz_get_str_256(n, buf, x);
    put_string(s, buf, mpz_sgn(x) ? n : 0);
    explicit_bzero(buf, sizeof(buf));
}

/* ---- the three kinds: the public part, and what follows it in the private one ---- */

static bool make_ed25519(struct str *pub, struct str *priv)
{
    uint8_t key[2 * ED25519_KEY_SIZE]; /* the seed, then the public key */
    bool failed = false;
    fill_random(&failed, ED25519_KEY_SIZE, key);
    ed25519_sha512_public_key(key + ED25519_KEY_SIZE, key);
    put_text(pub, "ssh-ed25519");
    put_string(pub, key + ED25519_KEY_SIZE, ED25519_KEY_SIZE);
    str_add_bytes(priv, pub->buf, pub->len);
    put_string(priv, key, sizeof(key));
    explicit_bzero(key, sizeof(key));
    return !failed;
}

static bool make_rsa(unsigned bits, struct str *pub, struct str *priv)
{
    struct rsa_public_key public;
    struct rsa_private_key private;
    bool failed = false;
    rsa_public_key_init(&public);
    rsa_private_key_init(&private);
    mpz_set_ui(public.e, 65537);
    if (!rsa_generate_keypair(&public, &private, &failed, fill_random, NULL, NULL, bits, 0))
        failed = true;
    put_text(pub, "ssh-rsa");
    put_mpint(pub, public.e);
    put_mpint(pub, public.n);
    put_text(priv, "ssh-rsa");
    put_mpint(priv, public.n);
    put_mpint(priv, public.e);
    put_mpint(priv, private.d);
    put_mpint(priv, private.c);
    put_mpint(priv, private.p);
    put_mpint(priv, private.q);
    rsa_public_key_clear(&public);
    rsa_private_key_clear(&private);
    return !failed;
}

static void put_point(struct str *s, const struct ecc_point *point, unsigned bits)
{
    uint8_t buf[1 + 2 * 66] = {4}; /* not compressed (SEC 1, 2.3.3) */
    size_t n = (bits + 7) / 8;
    mpz_t x, y;
    mpz_init(x);
    mpz_init(y);
    ecc_point_get(point, x, y);
    nettle_mpz_get_str_256(n, buf + 1, x);
    nettle_mpz_get_str_256(n, buf + 1 + n, y);
    mpz_clear(x);
    mpz_clear(y);
    put_string(s, buf, 1 + 2 * n);
}

static bool make_ecdsa(unsigned bits, struct str *pub, struct str *priv)
{
    const struct ecc_curve *curve = bits == 256   ? nettle_get_secp_256r1()
                                    : bits == 384 ? nettle_get_secp_384r1()
                                                  : nettle_get_secp_521r1();
    struct ecc_point point;
    struct ecc_scalar scalar;
    char type[40], name[16];
    bool failed = false;
    mpz_t d;
    ecc_point_init(&point, curve);
    ecc_scalar_init(&scalar, curve);
    mpz_init(d);
    ecdsa_generate_keypair(&point, &scalar, &failed, fill_random);
    ecc_scalar_get(&scalar, d);
    str_print(type, sizeof(type), "ecdsa-sha2-nistp%u", bits);
    str_print(name, sizeof(name), "nistp%u", bits);
    put_text(pub, type);
    put_text(pub, name);
    put_point(pub, &point, bits);
    str_add_bytes(priv, pub->buf, pub->len);
    put_mpint(priv, d);
    mpz_clear(d);
    ecc_point_clear(&point);
    ecc_scalar_clear(&scalar);
    return !failed;
}

/* ---- the files ---- */

static void add_base64(struct str *out, const struct str *bytes, size_t line)
{
    size_t n = BASE64_ENCODE_RAW_LENGTH(bytes->len);
    auto_free char *text = malloc(n + 1);
    if (!text || bytes->failed) {
        out->failed = true;
        return;
    }
    base64_encode_raw(text, bytes->len, (const uint8_t *)bytes->buf);
    for (size_t at = 0; at < n; at += line) {
        str_add_bytes(out, text + at, n - at < line ? n - at : line);
        if (line < n)
            str_add(out, "\n");
    }
    explicit_bzero(text, n);
}

static void write_private(struct str *out, const struct str *pub, const struct str *priv,
                          const char *comment)
{
    static const char magic[] = "openssh-key-v1"; /* with its NUL */
    auto_clean(secret_done) struct str list = secret_init(BLOB_MAX), file = secret_init(BLOB_MAX);
    bool failed = false;
    uint32_t check; /* twice the same: tells who decrypts whether the password was right */
    fill_random(&failed, sizeof(check), (uint8_t *)&check);
    put_u32(&list, check);
    put_u32(&list, check);
    str_add_bytes(&list, priv->buf, priv->len);
    put_text(&list, comment);
    for (char pad = 1; list.len % CIPHER_BS && !list.failed; pad++)
        str_add_bytes(&list, &pad, 1);
    str_add_bytes(&file, magic, sizeof(magic));
    put_text(&file, "none");
    put_text(&file, "none");
    put_text(&file, "");
    put_u32(&file, 1);
    put_string(&file, pub->buf, pub->len);
    put_string(&file, list.buf, list.len);
    str_add(out, "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    add_base64(out, &file, LINE);
    str_add(out, "-----END OPENSSH PRIVATE KEY-----\n");
    out->failed |= list.failed || failed;
}

int hostkey_make(const char *type, unsigned bits, const char *comment, char **ret_private,
                 char **ret_public, struct err *err)
{
    auto_str struct str pub = str_init(BLOB_MAX), line = str_init(BLOB_MAX);
    auto_clean(secret_done) struct str priv = secret_init(BLOB_MAX),
                                       file = secret_init(2 * BLOB_MAX);
    bool made;
    char wire[40];
    str_print(wire, sizeof(wire), "ssh-%s", type);
    if (str_eq(type, "ed25519")) {
        made = make_ed25519(&pub, &priv);
    } else if (str_eq(type, "rsa")) {
        made = make_rsa(bits ? bits : RSA_BITS, &pub, &priv);
    } else if (str_eq(type, "ecdsa") && (!bits || bits == 256 || bits == 384 || bits == 521)) {
        made = make_ecdsa(bits ? bits : 256, &pub, &priv);
        str_print(wire, sizeof(wire), "ecdsa-sha2-nistp%u", bits ? bits : 256);
    } else {
        return err_set(err, ERR_UNSUPPORTED, "a host key of type %s cannot be made", type);
    }
    str_add(&line, "%s ", wire);
    add_base64(&line, &pub, SIZE_MAX);
    str_add(&line, " %s\n", comment);
    write_private(&file, &pub, &priv, comment);
    if (!made || file.failed || line.failed || priv.failed)
        return err_set(err, ERR_EXHAUSTED, "cannot make a host key: out of memory or of chance");
    *ret_private = str_steal(&file);
    *ret_public = str_steal(&line);
    return 0;
}
