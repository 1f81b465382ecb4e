# SPDX-License-Identifier: GPL-2.0-or-later
"""A pool that is full: what needs room in it is refused with the pool's name and what to do, nothing is
half there, the node goes on, and all of it works when there is room again."""
import os
import re

import pytest

import cuts
from node import Node, wait_for
from test_power import agree, settle, text_of

HOG = "cd /root; i=0; dd if=/dev/zero of=big bs=1M 2>/dev/null; sync; while dd if=/dev/zero of=more$i bs=4k 2>/dev/null; " \
      "[ -s more$i ]; do i=$((i+1)); sync; done; while echo 12345678 >x$i; do i=$((i+1)); done 2>/dev/null; sync; true"
TEXTS = {"web1": "mine", "idle": "idles", "far": "fars"}
SCRIPT = "dd if=/dev/urandom of=/srv/data bs=1M count=8 2>/dev/null && sync"


@pytest.fixture(params=["dir", "btrfs", "xfs"])
def node(build, request, tmp_path):
    """One whose first pool, `default`, is small and stays so; `other` has room."""
    size = "340M" if request.param == "dir" else "2G"
    with cuts.Disk(size) as disk, disk.mounted() as root:
        with Node(build, root=root, pool_driver=request.param, pool_size="320M", pool_grow="off") as node:
            node.driver = request.param
            node.template()
            (tmp_path / "pool").mkdir()
            node.job("POST", "/v1/pools", {"name": "other", "driver": "dir", "path": str(tmp_path / "pool")})
            try:
                yield node
            finally:
                node.terem("destroy", "--all", "--force", check=False)


def put(node, name, text):
    node.sh(name, "mkdir -p /root/d && cd /root/d && for i in 1 2 3 4 5; do echo " + text + " >$i; done; "
            "dd if=/dev/urandom of=/root/data bs=1M count=12 2>/dev/null; sync")


def has(node, name):
    ve = node.show(name)
    return text_of(os.path.join(node.pool(ve["pool"]), str(ve["id"])))


def attempts(tmp_path, turn):
    """What is asked for, and its words."""
    return [
        ("snapshot", ["snapshot", "create", "web1", f"s{turn}"]),
        ("snapshot of one that is stopped", ["snapshot", "create", "idle", f"s{turn}"]),
        ("clone", ["clone", "web1", f"clone{turn}"]),
        ("rollback", ["snapshot", "rollback", "web1", "base", "--restart"]),
        ("backup", ["backup", "web1", str(tmp_path / f"web1-{turn}")]),
        ("restore", ["restore", str(tmp_path / "file"), f"back{turn}", "--pool", "default"]),
        ("move", ["pool", "move", "far", "default"]),
        ("template build", ["template", "build", f"shop{turn}", "--from", "busybox", "--run", str(tmp_path / "script")]),
        ("create", ["create", f"new{turn}", "--template", "busybox"]),
    ]


NEEDS_ROOM = ("restore", "move")  # of file content, on every driver


def attempt(node, what, words):
    """Done, or refused in one sentence that names the pool and says what to do."""
    said = node.terem(*words, check=False)
    told = [line for line in said.stderr.splitlines() if line.startswith("terem: ")]
    settle(node)
    agree(node)
    assert {name: has(node, name) for name in TEXTS} == TEXTS, (what, said.stderr)
    if said.returncode == 0:
        assert what not in NEEDS_ROOM, said.stdout
        return True
    assert said.returncode == 1 and len(told) == 1, (what, said.stderr)
    # Of what is copied it is told before anything is touched, in numbers.
    copied = what == "move" or (what == "clone" and node.driver == "dir")
    why = r"needs \S+ in pool \S+, where \S+ is free" if copied else "no space or no inodes left"
    assert re.search(why, told[0]) and "default" in told[0], (what, told)
    assert "remove VEs or snapshots" in told[0], (what, told)
    return False


def test_full(node, tmp_path):
    (tmp_path / "script").write_text(SCRIPT)
    for name, text in TEXTS.items():
        node.ve(name, pool="other" if name == "far" else "default")
        put(node, name, text)
        if name != "web1":
            node.job("POST", f"/v1/ves/{name}/stop")
    node.terem("backup", "far", str(tmp_path / "file"))
    node.terem("snapshot", "create", "web1", "base")
    node.ve("hog")
    node.sh("hog", HOG, timeout=300)
    done = {what: attempt(node, what, words) for what, words in attempts(tmp_path, 1)}
    print(f"# {node.driver}: done all the same: {[what for what in done if done[what]]}")
    assert not os.path.exists(tmp_path / "web1-1") or done["backup"]
    node.terem("destroy", "hog", "--force")
    # btrfs gives the space of a tree back in the background.
    wait_for(lambda: node.ok("GET", "/v1/pools/default")["free"] > 100 << 20)
    for what, words in attempts(tmp_path, 2):
        node.terem(*words)
    agree(node)
    for name in ("web1", "idle", "far", "clone2", "back2", "new2"):
        if node.state(name) != "running":
            node.terem("start", name)
        node.run(name, "/bin/true")
