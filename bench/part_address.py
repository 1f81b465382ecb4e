# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses of pools: giving one to a VE that runs, moving it to another and taking it away, durably.

"In teremd" is its own processor time (schedstat), which others on the machine do not lengthen by
being there; the other figure is the answer as a client sees it."""
import statistics
import time

TITLE = "Addresses of running VEs"
VES, ROUNDS = 100, 60


def run(bench):
    from node import Node
    node = bench.own(Node(bench.options.build)).start()
    node.template("busybox")
    line = node.connection()
    bench.closing.append(line.close)
    for number in range(VES):
        node.ok("POST", "/v1/ves", {"name": f"v{number}", "template": "busybox", "kind": "app",
                                    "command": ["/bin/sleep", "1000000"]}, connection=line)
        node.job("POST", f"/v1/ves/v{number}/start", connection=line)
    for name, prefix in ("b4", "192.168.90.0/24"), ("b6", "fd5f:90::/64"):
        node.ok("POST", "/v1/network/pools", {"name": name, "prefix": prefix, "public": True},
                connection=line)

    times = {}

    def timed(what, ask):
        at, before = time.monotonic(), node.spent()
        answer = ask()
        wall, own = (time.monotonic() - at) * 1e3, node.spent() - before
        if answer.status >= 300:
            raise RuntimeError(str(answer))
        times.setdefault(what, []).append((wall, own))
        return answer.json

    for _ in range(ROUNDS):
        for family in "4", "6":
            got = timed(f"an IPv{family} address given", lambda family=family: node.api(
                "POST", "/v1/network/addresses", {"ve": "v0", "pool": "b" + family},
                connection=line))
            path = "/v1/network/addresses/" + got["address"]
            for what, ve in ("moved", "v1"), ("taken away", None):
                timed(f"an IPv{family} address {what}", lambda path=path, ve=ve: node.api(
                    "PATCH", path, {"ve": ve}, connection=line))
    for what, values in times.items():
        for name, part in (what, 0), (what + ": in teremd", 1):
            one = sorted(v[part] for v in values)
            bench.row("address", name, "ms", statistics.median(one), ROUNDS, one[ROUNDS // 10],
                      one[ROUNDS * 9 // 10])
