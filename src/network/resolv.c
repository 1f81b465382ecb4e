/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "base/fd.h"
#include "network/internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>

#define RESOLV_MAX  65536
#define BETWEEN     ", \t" /* words of a setting */
#define SERVERS_MAX 3      /* MAXNS of resolv.conf(5): resolvers read no more */

/* Loopback is the VE's own, link-local is the host's link, and a family that VEs do not have is
 * out of reach. */
static bool reachable(const char *text, bool has_v4, bool has_v6)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        uint32_t a = ntohl(v4.s_addr);
        return has_v4 && a >> 24 != 127 && a >> 24 != 0 && a >> 28 != 0xe;
    }
    if (inet_pton(AF_INET6, text, &v6) == 1)
        return has_v6 && !IN6_IS_ADDR_LOOPBACK(&v6) && !IN6_IS_ADDR_UNSPECIFIED(&v6) &&
               !IN6_IS_ADDR_LINKLOCAL(&v6) && !IN6_IS_ADDR_V4MAPPED(&v6) &&
               !IN6_IS_ADDR_MULTICAST(&v6);
    return false; /* also fe80::1%eth0 */
}

static const char *word_after(const char *line, const char *key)
{
    size_t n = strlen(key);
    if (!str_starts(line, key) || !isspace((unsigned char)line[n]))
        return NULL;
    line += n;
    while (isspace((unsigned char)*line))
        line++;
    return line;
}

static void read_line(char *line, bool has_v4, bool has_v6, struct network_resolv *r)
{
    line = str_trim(line);
    const char *server = word_after(line, "nameserver");
    if (server) {
        char word[64];
        int len = (int)strcspn(server, " \t#;");
        if (str_print(word, sizeof(word), "%.*s", len, server) < 0 ||
            !reachable(word, has_v4, has_v6)) {
            struct in_addr a;
            r->unusable = true;
            if (!r->loopback.s_addr && inet_pton(AF_INET, word, &a) == 1 &&
                ntohl(a.s_addr) >> 24 == 127)
                r->loopback = a;
        } else if (r->n_servers < SERVERS_MAX) {
            str_add(&r->servers, "nameserver %s\n", word);
            r->n_servers++;
        }
    } else if (word_after(line, "search") || word_after(line, "options") ||
               word_after(line, "domain")) {
        str_add(&r->others, "%s\n", line);
    }
}

void network_resolv_read(const char *text, bool has_v4, bool has_v6, struct network_resolv *r)
{
    while (*text) {
        char line[1024];
        size_t len = strcspn(text, "\n");
        /* A line that does not fit is left out whole. */
        if (str_print(line, sizeof(line), "%.*s", (int)len, text) == 0)
            read_line(line, has_v4, has_v6, r);
        text += len;
        if (*text)
            text++;
    }
}

static void resolv_done(struct network_resolv *r)
{
    str_done(&r->servers);
    str_done(&r->others);
}

static int add_server(const struct network_node *n, const char *word, struct str *s,
                      struct err *err)
{
    struct in_addr a;
    bool own = inet_pton(AF_INET, word, &a) == 1 && ntohl(a.s_addr) >> 24 == 127;
    if (!reachable(word, n->pool4.base.family, n->pool6.base.family) &&
        !(own && n->pool4.base.family))
        return err_set(err, ERR_USAGE,
                       "network.dns: \"%.60s\" is no address that VEs reach; give addresses of DNS "
                       "servers such as 192.0.2.53",
                       word);
    str_add(s, "nameserver %s\n", word);
    return 0;
}

static int add_domain(const char *word, struct str *s, struct err *err)
{
    for (const char *p = word; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("-_.", *p))
            return err_set(err, ERR_USAGE, "network.search: \"%.60s\" is not the name of a domain",
                           word);
    str_add(s, "%s%s", s->len ? " " : "search ", word);
    return 0;
}

int network_resolv_config(struct network_node *n, const char *servers, const char *search,
                          struct err *err)
{
    auto_str struct str list = str_init(RESOLV_MAX), domains = str_init(RESOLV_MAX);
    auto_free char *dns = strdup(servers ? servers : ""), *names = strdup(search ? search : "");
    if (!dns || !names)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (char *save = NULL, *w = strtok_r(dns, BETWEEN, &save); w;
         w = strtok_r(NULL, BETWEEN, &save))
        if (add_server(n, w, &list, err) < 0)
            return -err->kind;
    for (char *save = NULL, *w = strtok_r(names, BETWEEN, &save); w;
         w = strtok_r(NULL, BETWEEN, &save))
        if (add_domain(w, &domains, err) < 0)
            return -err->kind;
    n->dns = str_steal(&list);
    n->search = str_steal(&domains);
    return n->dns && n->search ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory");
}

/* systemd-resolved writes the real servers to the second file when the first has only its own. */
static const char *const sources[] = {"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"};

static void read_sources(const struct network_node *n, struct network_resolv *r)
{
    *r = (struct network_resolv){.servers = str_init(RESOLV_MAX), .others = str_init(RESOLV_MAX)};
    if (*n->dns)
        network_resolv_read(n->dns, n->pool4.base.family, n->pool6.base.family, r);
    for (size_t i = 0; i < ARRAY_SIZE(sources) && !*n->dns && r->n_servers == 0; i++) {
        auto_free char *text = NULL;
        if (fd_read_file_at(AT_FDCWD, sources[i], RESOLV_MAX, &text, NULL, NULL) < 0)
            continue; /* a host without resolver has VEs without one */
        str_clear(&r->others);
        network_resolv_read(text, n->pool4.base.family != 0, n->pool6.base.family != 0, r);
    }
    if (*n->search) {
        str_clear(&r->others);
        str_add(&r->others, "%s\n", n->search);
    }
}

struct in_addr network_resolv_loopback(const struct network_node *n)
{
    auto_clean(resolv_done) struct network_resolv r = {0};
    read_sources(n, &r);
    struct in_addr none = {0};
    return r.n_servers || !n->pool4.base.family ? none : r.loopback;
}

int network_resolv_conf(const struct network_node *n, char **ret, struct err *err)
{
    auto_str struct str out = str_init(RESOLV_MAX);
    auto_clean(resolv_done) struct network_resolv r = {0};
    read_sources(n, &r);
    if (r.n_servers)
        str_add(&out, "%s", str_c(&r.servers));
    else if (n->resolver.s_addr)
        str_add(&out, "nameserver " NETWORK_GATEWAY4 "\n");
    else
        str_add(&out, "# %s\n",
                r.unusable ? "The host's resolver listens where a VE cannot reach it."
                           : "The host has no resolver.");
    str_add(&out, "%s", str_c(&r.others));
    char *text = r.servers.failed || r.others.failed ? NULL : str_steal(&out);
    if (!text)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *ret = text;
    return 0;
}
