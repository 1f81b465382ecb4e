# SPDX-License-Identifier: GPL-2.0-or-later
"""Many VEs from one template: what its bytes cost on disk and in memory.

Each VE runs one process and reads the same file of 64 MiB of its template.  Beside it: the same with
a copy of the root for each, as directories without layers have it, of which few are enough to see
what one costs.
"""
import os
import shutil
import subprocess
import time

from test_layers import forget, resident

TITLE = "Many VEs from one template: bytes on disk and in memory"
BIG = 64 << 20
VES, COPIES = int(os.environ.get("TEREM_BENCH_VES", "1000")), 8


def cached(node):
    """Bytes of files in memory that count as any VE's; other programs of the machine have no part."""
    for top, row in (("/sys/fs/cgroup/memory", "total_cache"), ("/sys/fs/cgroup", "file")):
        path = f"{top}/{node.cgroup_name}/memory.stat"
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                return int(dict(line.split() for line in file)[row])
    return 0


def on_disk(path):
    done = subprocess.run(["du", "-s", "-B1", path], capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0])


def shared(bench, node):
    node.job("POST", "/v1/templates", {"name": "big", "from": "busybox",
                                       "run": f"head -c {BIG} /dev/urandom > /srv/big"}, timeout=600)
    layer = os.path.join(node.root, "lib/layers",
                         node.ok("GET", "/v1/templates/big")["layers"][-1].replace(":", "-"),
                         "root/srv/big")
    node.job("POST", "/v1/prune")  # what it was built in
    line = node.connection()
    pool, before = node.pool(), on_disk(node.pool())
    at = time.monotonic()
    for i in range(VES):
        answer = node.api("POST", "/v1/ves", {"name": f"v{i}", "template": "big", "kind": "app",
                                              "command": ["/bin/sleep", "100000"],
                                              "params": {"processes": "20"}}, connection=line)
        assert answer.status == 201, answer
    bench.row("layers", f"creating {VES} VEs", "ms each", (time.monotonic() - at) * 1e3 / VES)
    bench.row("layers", "disk of one that has written nothing", "KiB",
              (on_disk(pool) - before) / VES / 1024)
    at = time.monotonic()
    for i in range(VES):
        assert node.api("POST", f"/v1/ves/v{i}/start?wait=true", connection=line).status == 200
    bench.row("layers", f"starting {VES} VEs", "ms each", (time.monotonic() - at) * 1e3 / VES)
    forget(layer)
    before = cached(node)
    for i in range(VES):
        answer = node.api("POST", f"/v1/ves/v{i}/exec",
                          {"command": ["/bin/sh", "-c", "cat /srv/big >/dev/null"]}, connection=line)
        assert answer.status == 200 and answer.json["exit"] == 0, answer
    bench.row("layers", f"page cache after all {VES} have read 64 MiB", "MiB",
              (cached(node) - before) / (1 << 20))
    bench.row("layers", "of it the layer's file", "MiB", resident(layer) / (1 << 20))
    bench.row("layers", "layers on disk (two)", "MiB",
              on_disk(os.path.join(node.root, "lib/layers")) / (1 << 20))
    line.close()


def copied(bench, root):
    """A directory each."""
    trees = os.path.join(bench.work, "copies")
    os.makedirs(trees)
    disk = on_disk(trees)
    for i in range(COPIES):
        shutil.copytree(root, os.path.join(trees, str(i)), symlinks=True)
    for i in range(COPIES):
        forget(os.path.join(trees, str(i), "srv/big"))
    for i in range(COPIES):
        subprocess.run(["cat", os.path.join(trees, str(i), "srv/big")], stdout=subprocess.DEVNULL,
                       check=True)
    bench.row("layers", "a root copied for each: disk of one", "MiB",
              (on_disk(trees) - disk) / COPIES / (1 << 20))
    bench.row("layers", "a root copied for each: page cache of one", "MiB",
              sum(resident(os.path.join(trees, str(i), "srv/big")) for i in range(COPIES)) / COPIES /
              (1 << 20))
    shutil.rmtree(trees)


def run(bench):
    from node import Node
    if not shutil.which("fincore"):
        bench.note("layers: fincore (util-linux-extra) is not here")
        return
    node = bench.own(Node(bench.options.build)).start()
    bare = os.path.join(bench.work, "bare-busybox")

    def copied_by_hand():
        at = time.monotonic()
        os.makedirs(os.path.join(bare, "bin"))
        shutil.copy2(shutil.which("busybox"), os.path.join(bare, "bin"))
        subprocess.run(["busybox", "--install", os.path.join(bare, "bin")], check=True)
        took = time.monotonic() - at
        shutil.rmtree(bare)
        return took

    def built():
        at = time.monotonic()
        node.job("POST", "/v1/templates", {"name": "box", "build": "busybox"})
        took = time.monotonic() - at
        node.job("DELETE", "/v1/templates/box")
        return took

    bench.rounds("templates", {"busybox --install": copied_by_hand, "template build busybox": built})
    node.template()
    shared(bench, node)
    digest = node.ok("GET", "/v1/templates/big")["layers"][-1].replace(":", "-")
    copied(bench, os.path.join(node.root, "lib/layers", digest, "root"))
