# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameters and counters of a node with a thousand VEs: setting ten, reading all; what teremd takes
of memory with them, and how long it needs to find them again.

"In teremd" is its own processor time (schedstat), which others on the machine do not lengthen by
being there; the other figure is the answer as a client sees it."""
import itertools
import statistics
import subprocess
import time

TITLE = "Parameters and counters of 1000 VEs"
MANY = 1000
TEN = [{"cpu.limit": "50", "cpu.burst": "5ms", "cpu.weight": "150", "memory.limit": "96M",
        "memory.soft": "48M", "processes": "120", "io.read": "50M", "io.write": "50M",
        "sockets.tcp": "2000", "sockets.other": "5000"},
       {"cpu.limit": "60", "cpu.burst": "6ms", "cpu.weight": "160", "memory.limit": "97M",
        "memory.soft": "49M", "processes": "121", "io.read": "51M", "io.write": "51M",
        "sockets.tcp": "2001", "sockets.other": "5001"}]


def usable(node, params):
    """Those that this kernel can enforce, and how many others would be ten."""
    return {key: value for key, value in params.items()
            if node.api("PATCH", "/v1/ves/v0", {"params": {key: value}}).status == 200}


def run(bench):
    from node import Node, memory
    node = bench.own(Node(bench.options.build)).start()
    node.template("busybox")
    line = node.connection()
    for number in range(MANY):
        node.ok("POST", "/v1/ves", {
            "name": f"v{number}", "template": "busybox", "kind": "app", "profile": "small",
            "command": ["/bin/sleep", "1000000"]}, connection=line)
    line.close()
    subprocess.run([node.cli, "--root", node.root, "start", "--all", "--quiet"], check=True)
    line = node.connection(timeout=300)  # an idle one is let go after a minute
    bench.closing.append(line.close)

    def measure(name, ask, rounds):
        ask()
        walls, own = [], []
        for _ in range(rounds):
            at, before = time.monotonic(), node.spent()
            answer = ask()
            walls.append((time.monotonic() - at) * 1e3)
            own.append(node.spent() - before)
            if answer.status >= 300:
                raise RuntimeError(str(answer))
        for what, values in ((name, walls), (name + ": in teremd", own)):
            values.sort()
            bench.row("params", what, "ms", statistics.median(values), rounds,
                      values[rounds // 10], values[rounds * 9 // 10])

    keys = usable(node, TEN[0])
    if len(keys) < len(TEN[0]):
        bench.note(f"params: {len(keys)} of {len(TEN[0])} parameters can be set on this kernel")
    sets = itertools.cycle([{k: ten[k] for k in keys} for ten in TEN])
    measure(f"{len(keys)} parameters of a running VE, durably",
            lambda: node.api("PATCH", "/v1/ves/v0", {"params": next(sets)}, connection=line), 40)
    shown = "name,state,addresses,template,usage.memory,disk,usage.pids,started"
    for name, path in (("all counters of all VEs (GET /v1/counters)", "/v1/counters"),
                       ("only those that failed", "/v1/counters?failed=true"),
                       ("what all VEs use (GET /v1/usage: terem top)", "/v1/usage"),
                       ("GET /metrics", "/metrics"),
                       ("what terem list shows (GET /v1/ves?fields=…)", f"/v1/ves?fields={shown}"),
                       ("GET /v1/ves (terem list --json)", "/v1/ves"),
                       ("names and states (start --all and the like)", "/v1/ves?fields=name,state")):
        measure(name, lambda path=path: node.api("GET", path, connection=line), 10)
    sizes = itertools.cycle(["memory.limit", "processes"])
    values = {"memory.limit": itertools.cycle(["300M", "512M"]),
              "processes": itertools.cycle(["150", "200"])}

    def profile():
        key = next(sizes)
        return node.api("PATCH", "/v1/profiles/small", {"params": {key: next(values[key])}},
                        connection=line)
    measure(f"one parameter of a profile, applied to {MANY} running VEs", profile, 6)
    time.sleep(3)
    with open(f"/proc/{node.daemon.pid}/io", encoding="ascii") as file:
        before = [int(text.split()[1]) for text in file if text.startswith("syscr")][0]
    time.sleep(10)
    with open(f"/proc/{node.daemon.pid}/io", encoding="ascii") as file:
        after = [int(text.split()[1]) for text in file if text.startswith("syscr")][0]
    bench.row("params", "reads by teremd in 10 s while nobody looks", "", after - before)
    bench.row("params", "teremd: memory (PSS) after all this", "MB", memory(node.daemon.pid) / 1024)
    took = []
    for _ in range(5):
        node.kill()
        at = time.monotonic()
        node.start()
        took.append(time.monotonic() - at)
    bench.row("params", "teremd killed, until it answers again with all VEs adopted", "s",
              statistics.median(took), len(took), min(took), max(took))
    bench.row("params", "teremd: memory (PSS) then", "MB", memory(node.daemon.pid) / 1024)
