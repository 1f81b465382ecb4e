# SPDX-License-Identifier: GPL-2.0-or-later
"""teremd itself with a thousand VEs that run: how long it needs to find them again after a kill -9, what a list
takes, what it does while nobody asks, and what a thousand subscribers to its events cost.

"In teremd" is its own processor time (schedstat), which others on the machine do not lengthen by being there."""
import resource
import statistics
import subprocess
import time

TITLE = "teremd with 1000 VEs"
MANY = 1000
SUBSCRIBERS = 1000
IDLE = 20


def fill(node):
    node.template("busybox")
    line = node.connection()
    for number in range(MANY):
        node.ok("POST", "/v1/ves", {"name": f"v{number}", "template": "busybox", "kind": "app", "profile": "small",
                                    "command": ["/bin/sleep", "1000000"]}, connection=line)
    line.close()
    subprocess.run([node.cli, "--root", node.root, "start", "--all", "--quiet"], check=True)


def told(bench, name, values, unit="ms"):
    values = sorted(values)
    bench.row("teremd", name, unit, statistics.median(values), len(values), values[0], values[-1])


def restart(bench, node):
    walls, own = [], []
    for _ in range(7):
        node.kill()
        at = time.monotonic()
        node.start()
        walls.append((time.monotonic() - at) * 1e3)
        own.append(node.spent())
        if sum(ve["state"] == "running" for ve in node.ok("GET", "/v1/ves?fields=state")) != MANY:
            raise RuntimeError("not all VEs were found")
    told(bench, f"killed, until it answers with {MANY} running VEs adopted", walls)
    told(bench, "the same: in teremd", own)


def lists(bench, node):
    times = []
    for _ in range(20):
        at = time.monotonic()
        subprocess.run([node.cli, "--root", node.root, "list"], check=True, stdout=subprocess.DEVNULL)
        times.append((time.monotonic() - at) * 1e3)
    told(bench, "terem list, the command from its start to its end", times)


def idle(bench, node):
    """What it does by itself: once its connections are gone."""
    time.sleep(3)
    before, at = node.spent(), time.monotonic()
    time.sleep(IDLE)
    bench.row("teremd", "at work while nobody asks, of one processor", "%",
              (node.spent() - before) / (time.monotonic() - at) / 10)


def change(node, rounds, label):
    """Events one upon another; milliseconds of teremd for each of them."""
    line = node.connection()
    before = node.spent()
    for n in range(rounds):
        node.ok("PATCH", "/v1/ves/v0", {"labels": {label: str(n)}}, connection=line)
    line.close()
    time.sleep(0.5)
    return (node.spent() - before) / rounds


def single(node, rounds):
    """Events with time between them: each is told to all at once."""
    line, before = node.connection(), node.spent()
    for n in range(rounds):
        node.ok("PATCH", "/v1/ves/v0", {"labels": {"one": str(n)}}, connection=line)
        time.sleep(0.25)
    line.close()
    return (node.spent() - before) / rounds


def subscribers(bench, node):
    from listeners import Listeners
    from node import memory
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    change(node, 20, "warm")
    alone = [change(node, 200, "a") for _ in range(3)], [single(node, 12)]
    told(bench, "one event, nobody listens: in teremd", alone[0])
    with Listeners(node, SUBSCRIBERS):
        many = [change(node, 200, "b") for _ in range(3)]
        told(bench, f"one of many events, {SUBSCRIBERS} listen: in teremd", many)
        bench.row("teremd", f"an event alone, {SUBSCRIBERS} listen: in teremd, besides", "ms",
                  single(node, 12) - alone[1][0])
        pss = memory(node.daemon.pid)
    bench.row("teremd", f"its memory (PSS) with {MANY} VEs and {SUBSCRIBERS} subscribers", "MB", pss / 1024)


def run(bench):
    from node import Node
    node = bench.own(Node(bench.options.build)).start()
    fill(node)
    for part in restart, lists, idle, subscribers:
        part(bench, node)
