# SPDX-License-Identifier: GPL-2.0-or-later
"""Many VEs started as one job, and stopped and removed as one: beside crun and lxc, which are called
one after another, and beside the floor (floor.c), which shares the work among the cores.

Each has own user and network namespaces, limits of memory and processes, and a static program that
waits as its init.  crun lays no cable and stacks no overlay; lxc lays a cable and stacks none.
--mass N: how many, by all of them.
"""
import os
import shutil
import time

import peers
from node import Node

TITLE = "Many VEs started, and stopped and removed"
LIMITS = {"memory.limit": "256M", "processes": "512"}


def bulk(node, verb, count, **options):
    at = time.monotonic()
    job = node.job("POST", "/v1/bulk", {"verb": verb, "options": options, "all": True}, timeout=900)
    took = time.monotonic() - at
    if job["state"] != "done" or job["result"]["done"] != count:
        raise RuntimeError(f"{verb} of {count}: {job['error']}, {job['result']['done']} done")
    return took


def terem(bench, root, count):
    node = bench.own(Node(bench.options.build)).start()
    node.job("POST", "/v1/templates", {"name": "pause", "import": root})
    line = node.connection(600)
    at = time.monotonic()
    for i in range(count):
        node.ok("POST", "/v1/ves", {"name": f"v{i:04}", "template": "pause", "params": LIMITS}, connection=line)
    made = time.monotonic() - at
    line.close()
    settle()
    start = bulk(node, "start", count)
    settle()
    stop = bulk(node, "destroy", count, force=True)
    return made, start, stop


def settle():
    """What the kernel does in the background after namespaces and cgroups goes on a while."""
    time.sleep(3)


def measure(bench, peer):
    bench.own(peer)
    settle()
    start = peer.start()
    settle()
    return start, peer.stop()


def run(bench):
    count = bench.options.mass
    root = peers.pause_root(bench.work)
    theirs = os.path.join(bench.work, "pause-shifted")
    shutil.copytree(root, theirs, symlinks=True)
    peers.shift(theirs, 1000000)
    made, start, stop = terem(bench, root, count)
    crun = measure(bench, peers.CrunMany(bench.work, "/usr/bin/crun", "terembm12", theirs, count))
    lxc = measure(bench, peers.LxcMany(bench.work, "terembm", theirs, count))
    floor = measure(bench, peers.Floor(bench.work, "terembf", count, root))
    rows = (("crun run", "crun delete --force", crun), ("lxc-start", "lxc-stop -k, rm -r", lxc),
            ("the floor", "the floor", floor), ("terem start", "terem destroy --force", (start, stop)))
    for i, what in enumerate(("start", "stop and remove")):
        for *names, times in rows:
            bench.row("mass", f"{what} {count}: {names[i]}", "s", times[i], of=times[i] / crun[i])
    bench.row("mass", f"create {count}: terem, one connection", "s", made, of=made / crun[0])
