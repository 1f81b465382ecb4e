/* SPDX-License-Identifier: GPL-2.0-or-later */
/* jansson's loops, as cppcheck, which reads no system header, must take them (make lint). */
#define json_array_foreach(a, i, v)          for (i = 0; (v = json_array_get(a, i)); i++)
#define json_object_foreach(o, k, v)         for (k = json_key(o); (v = json_next(o, k));)
#define json_object_foreach_safe(o, n, k, v) for (n = k = json_key(o); (v = json_next(o, k));)
/* What the build defines, and formats. */
#define JSON_INTEGER_FORMAT "lld"
#define TEREM_VERSION       "0"
/* libbpf's. */
#define SEC(name)
#define BPF_PROG(name, ...)          name(__VA_ARGS__)
#define LIBBPF_OPTS(type, name, ...) struct type name = {__VA_ARGS__}
