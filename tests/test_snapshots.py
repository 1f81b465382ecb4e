# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots: taken of what runs, rolled back to, deleted, by the clock, and after crashes."""
import functools
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time

import pytest

from conftest import serve
from node import dice
from test_layers import again
from test_recovery import settle

LOCKSTEP = """
mkdir -p /root/a /root/z
i=0
while :; do
    i=$((i+1))
    echo $i >>/root/a/first; sync /root/a/first
    echo $i >>/root/z/second; sync /root/z/second
done
"""


@pytest.fixture(params=["dir", "btrfs"])
def node(build, request):
    """VEs are in a pool that copies files, and in one that shares their blocks."""
    serving = serve(build)
    node = next(serving)
    try:
        if request.param == "btrfs":
            node.terem("pool", "create", "cow", "--driver", "btrfs", "--size", "1G")
            node.where = "cow"
        else:
            node.terem("pool", "create", "plain", "--driver", "dir")
            node.where = "plain"
        node.ve = functools.partial(node.ve, pool=node.where)
        yield node
    finally:
        next(serving, None)


def tree(node, ve):
    """{name: parent}, and the name of the one that the VE stands on."""
    found = node.ok("GET", f"/v1/ves/{ve}/snapshots")
    assert not [s for s in found if s["damaged"]], found
    current = [s["name"] for s in found if s["current"]]
    assert len(current) <= 1
    return {s["name"]: s["parent"] for s in found}, (current or [None])[0]


def take(node, ve, name, **more):
    return node.job("POST", f"/v1/ves/{ve}/snapshots", {"name": name, **more})["result"]


def roll_back(node, ve, name, **more):
    return node.job("POST", f"/v1/ves/{ve}/rollback", {"snapshot": name, "timeout": 0, **more})


def saved(node):
    """Numbers of the trees that are saved in the pool."""
    return {int(name) for name in os.listdir(os.path.join(node.pool(node.where), ".saved"))}


def rows(node):
    """[(number, state)] of the registry, read from a copy: teremd alone may open it."""
    with tempfile.TemporaryDirectory(prefix="terem-") as folder:
        # This one first: it may be written into the other, and begun anew, between the two.
        for name in ("registry.db-wal", "registry.db"):
            shutil.copy(os.path.join(node.root, "lib", name), folder)
        with sqlite3.connect(os.path.join(folder, "registry.db")) as db:
            return db.execute("SELECT id, state FROM snapshot ORDER BY id").fetchall()


def test_back_and_forth(node):
    """Files, owners, modes and links are those of then; a branch begins where it was rolled back."""
    node.ve("web1")
    node.sh("web1", "echo one >/root/x; ln /root/x /root/link; mkdir /root/d; chown 33:33 /root/d; "
                    "chmod 750 /root/d; ln -s x /root/sym; rm -rf /home")
    first = take(node, "web1", "one", note="the first")
    assert first["note"] == "the first" and first["parent"] is None and first["current"]
    node.sh("web1", "echo two >/root/x; rmdir /root/d; mkdir /home; echo h >/home/h")
    take(node, "web1", "two")
    assert tree(node, "web1") == ({"one": None, "two": "one"}, "two")
    refused = node.api("POST", "/v1/ves/web1/rollback", {"snapshot": "one"})
    assert refused.error == "state" and "--restart" in refused.json["error"]["message"]
    pid = node.show("web1")["pid"]
    roll_back(node, "web1", "one", restart=True)
    assert node.state("web1") == "running" and node.show("web1")["pid"] != pid
    assert node.sh("web1", "cat /root/link; stat -c '%a %u' /root/d; stat -c '%a %u %h' /root/x; readlink /root/sym; "
                           "ls -d /home 2>&1 || true").split("\n")[:4] == \
        ["one", "750 33", "644 0 2", "x"]
    assert node.run("web1", "/bin/ls", "/home", check=False)["exit"]
    take(node, "web1", "three")
    assert tree(node, "web1") == ({"one": None, "two": "one", "three": "one"}, "three")
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    roll_back(node, "web1", "two")
    assert node.state("web1") == "stopped" and tree(node, "web1")[1] == "two"
    roll_back(node, "web1", "two", start=True)
    assert node.sh("web1", "cat /root/link /root/x /home/h") == "two\ntwo\nh\n"


def test_delete_re_parents(node):
    node.ve("web1", start=False)
    for name in ("a", "b", "c"):
        take(node, "web1", name)
    roll_back(node, "web1", "b")
    take(node, "web1", "d")
    node.ok("DELETE", "/v1/ves/web1/snapshots/b")
    assert tree(node, "web1") == ({"a": None, "c": "a", "d": "a"}, "d")
    # The one that it stands on: from then on it stands on the parent, also after a restart.
    node.ok("DELETE", "/v1/ves/web1/snapshots/d")
    assert tree(node, "web1") == ({"a": None, "c": "a"}, "a")
    node.kill()
    node.start()
    assert tree(node, "web1") == ({"a": None, "c": "a"}, "a")
    node.ok("DELETE", "/v1/ves/web1/snapshots/a")
    assert tree(node, "web1") == ({"c": None}, None)
    take(node, "web1", "e")
    assert tree(node, "web1") == ({"c": None, "e": None}, "e")
    assert {row[0] for row in rows(node)} == saved(node) and len(saved(node)) == 2


def test_names_and_notes(node):
    node.ve("web1", start=False)
    default = node.terem("snapshot", "create", "web1").stdout.split()[2]
    assert default == tree(node, "web1")[1] and default.startswith("20")
    take(node, "web1", "a")
    assert node.api("POST", "/v1/ves/web1/snapshots", {"name": "a"}).error == "exists"
    for bad in ("A", "-a", "a/b", "", "x" * 64):
        assert node.api("POST", "/v1/ves/web1/snapshots", {"name": bad}).error == "usage", bad
    node.terem("snapshot", "rename", "web1", "a", "b")
    node.terem("snapshot", "note", "web1", "b", "wörd")
    shown = node.json("snapshot", "show", "web1", "b")
    assert (shown["note"], shown["parent"]) == ("wörd", default)
    assert node.api("PATCH", "/v1/ves/web1/snapshots/b", {"name": default}).error == "exists"
    wrong = node.terem("snapshot", "show", "web1", "bb", check=False)
    assert wrong.returncode == 1 and "did you mean b" in wrong.stderr
    listed = node.terem("snapshot", "list", "web1").stdout
    assert "└─ b" in listed and "   └─ (now)" in listed and "wörd" in listed
    assert node.terem("_complete", "snapshots", "web1").stdout.split() == [default, "b"]
    both = node.terem("snapshot", "delete", "web1", "b", "none", check=False)
    assert both.returncode == 1 and "b deleted" in both.stdout and "no snapshot none" in both.stderr
    assert node.show("web1")["snapshots"] == 1


def test_delete_all(node):
    node.ve("web1", start=False)
    for name in "abc":
        take(node, "web1", name)
    for words, says in (((), "name the snapshots, or give --all"), (("a", "--all"), "not both")):
        refused = node.terem("snapshot", "delete", "web1", *words, check=False)
        assert refused.returncode == 2 and says in refused.stderr, refused
    assert len(node.ok("GET", "/v1/ves/web1/snapshots")) == 3
    # In a pipe it does not ask, as destroy does not.
    said = node.terem("snapshot", "delete", "web1", "--all")
    assert said.stdout == "".join(f"web1: snapshot {name} deleted\n" for name in "abc")
    assert node.ok("GET", "/v1/ves/web1/snapshots") == [] and not saved(node)
    assert "web1 has no snapshot" in node.terem("snapshot", "delete", "web1", "--all").stdout
    assert node.json("snapshot", "delete", "web1", "--all") == []


def test_destroy_takes_them_along(node):
    node.ve("web1", start=False)
    take(node, "web1", "a")
    take(node, "web1", "b")
    assert "snapshots   2" in node.terem("show", "web1").stdout
    assert node.terem("destroy", "web1").stdout == "web1: destroyed, with 2 snapshots\n"
    assert saved(node) == set() and rows(node) == []


def frozen(node, ve):
    with open(f"/sys/fs/cgroup/unified/{node.cgroup_name}/ve-{node.show(ve)['id']}/cgroup.freeze"
              if os.path.isdir("/sys/fs/cgroup/unified") else
              f"/sys/fs/cgroup/{node.cgroup_name}/ve-{node.show(ve)['id']}/cgroup.freeze",
              encoding="ascii") as file:
        return file.read().strip() == "1"


def test_a_paused_one_stays_paused(node):
    node.ve("web1")
    node.job("POST", "/v1/ves/web1/pause")
    take(node, "web1", "a")
    assert node.state("web1") == "paused" and frozen(node, "web1")
    node.job("POST", "/v1/ves/web1/resume")
    take(node, "web1", "b")
    assert node.state("web1") == "running" and not frozen(node, "web1")


def test_all_of_one_instant(node):
    """A writer that appends to two files in turn, durably: no snapshot has the second ahead."""
    node.ve("web1")
    # Beside each of the two, so that a copy comes to them at different times.
    node.sh("web1", "for d in a z; do mkdir /root/$d; i=0; while [ $i -lt 700 ]; do i=$((i+1)); "
                    "echo $i >/root/$d/$i; done; done")
    node.sh("web1", f"cat >/root/writer <<'E'\n{LOCKSTEP}\nE\nsetsid sh /root/writer </dev/null "
                    ">/dev/null 2>&1 &")
    names, chance = [f"s{n}" for n in range(5)], dice()
    for name in names:
        node.sh("web1", "n=$(cat /root/z/second | wc -l); until [ $(cat /root/z/second | wc -l) -gt $n ]; do :; done")
        time.sleep(chance.random() / 10)
        take(node, "web1", name)
        assert node.state("web1") == "running"
    node.job("POST", "/v1/ves/web1/kill")
    seen = []
    for name in names:
        roll_back(node, "web1", name)
        pulled = [node.api("GET", f"/v1/ves/web1/files?path=/root/{file}").body.splitlines()
                  for file in ("a/first", "z/second")]
        first, second = (len(lines) for lines in pulled)
        assert first - second in (0, 1), (name, first, second)
        assert pulled[0] == [b"%d" % n for n in range(1, first + 1)]
        seen.append(first)
    assert seen == sorted(seen) and seen[-1] > seen[0], "the writer did not run between them"


def test_damage_is_shown(node):
    node.ve("web1", start=False)
    take(node, "web1", "a")
    [number] = saved(node)
    gone = os.path.join(node.pool(node.where), f".saved/{number}")
    node.term()
    if node.where == "cow":
        subprocess.run(["btrfs", "subvolume", "delete", gone], check=True, capture_output=True)
    else:
        shutil.rmtree(gone)
    node.start()
    [shown] = node.ok("GET", "/v1/ves/web1/snapshots")
    assert shown["damaged"] and "damaged" in node.terem("snapshot", "list", "web1").stdout
    assert node.api("POST", "/v1/ves/web1/rollback", {"snapshot": "a"}).error == "corrupt"
    node.ok("DELETE", "/v1/ves/web1/snapshots/a")
    assert node.ok("GET", "/v1/ves/web1/snapshots") == []


def test_layers_of_then(node, tmp_path):
    """A VE that moved to a newer template goes back to the layers that its files were over."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho 1 >/srv/version\n")
    node.template()
    node.terem("template", "build", "shop", "--from", "busybox", "--run", str(script))
    before = node.ve("web1", template="shop")["layers"]
    node.sh("web1", "echo own >/srv/own")
    take(node, "web1", "then")
    again(node, "shop", "#!/bin/sh\necho 2 >/srv/version\n")
    node.terem("update", "--restart", "web1")
    now = node.show("web1")["layers"]
    assert node.sh("web1", "cat /srv/version") == "2\n" and now != before
    take(node, "web1", "now")
    node.terem("template", "prune")
    node.kill()
    node.start()
    roll_back(node, "web1", "then", restart=True)
    assert node.sh("web1", "cat /srv/version /srv/own") == "1\nown\n"
    assert node.show("web1")["layers"] == before
    # What a crash interrupts is done again, and ends with the layers of its files.
    for wait in (0.01, 0.03, 0.1):
        for name, version, layers in (("now", "2", now), ("then", "1", before)):
            node.api("POST", "/v1/ves/web1/rollback", {"snapshot": name, "restart": True, "timeout": 0})
            time.sleep(wait)
            node.kill()
            node.start()
            settle(node)
            assert node.show("web1")["layers"] == layers and tree(node, "web1")[1] == name
            assert node.sh("web1", "cat /srv/version").strip() == version
    node.job("POST", "/v1/ves/web1/clone", {"name": "web2", "snapshot": "now", "start": True})
    assert node.sh("web2", "cat /srv/version /srv/own") == "2\nown\n"


# ---- bad luck ----

def fill(node, ve, files=400):
    node.sh(ve, f"mkdir -p /root/many; i=0; while [ $i -lt {files} ]; do i=$((i+1)); "
                "echo $i >/root/many/$i; done")


def check_whole(node, ve, files=400):
    """The rows are those of the trees, every snapshot is whole, and the VE starts with its files."""
    settle(node)
    listed = node.ok("GET", f"/v1/ves/{ve}/snapshots")
    assert not [s for s in listed if s["damaged"]]
    whole = {s["id"] for s in listed}
    assert whole == saved(node), (listed, saved(node))
    assert {number for number, state in rows(node) if state == 1} == whole
    assert not [state for _, state in rows(node) if state == 0]
    for one in sorted(whole):
        many = os.path.join(node.pool(node.where), f".saved/{one}/upper/root/many")
        assert len(os.listdir(many)) == files, one
    if node.state(ve) == "stopped":
        node.job("POST", f"/v1/ves/{ve}/start")
    assert node.state(ve) == "running" and not frozen(node, ve)
    assert node.sh(ve, "ls /root/many | wc -l").strip() == str(files)


@pytest.mark.parametrize("what", ["create", "rollback", "delete"])
def test_killed_in_the_middle(node, what):
    """kill -9 of teremd at random instants: no snapshot is half there, and the VE starts."""
    chance = dice()
    node.ve("web1")
    fill(node, "web1")
    take(node, "web1", "base")
    for number in range(int(os.environ.get("TEREM_SNAPSHOT_KILLS", "14"))):
        if what == "create":
            node.api("POST", "/v1/ves/web1/snapshots", {"name": f"s{number}"})
        elif what == "rollback":
            # force: what is asked for here is the rollback
            node.api("POST", "/v1/ves/web1/rollback",
                     {"snapshot": "base", "restart": True, "timeout": 0})
        else:
            take(node, "web1", f"s{number}")
            connection = node.connection()
            connection.request("DELETE", f"/v1/ves/web1/snapshots/s{number}")
        time.sleep(chance.choice([0, 0.002, 0.01, 0.05, 0.1]) * chance.random())
        node.kill()
        node.start()
        check_whole(node, "web1")
    parents, current = tree(node, "web1")
    assert parents["base"] is None and (current in parents)


def registry_files(node):
    return [os.path.join(node.root, "lib", name) for name in ("registry.db", "registry.db-wal")]


def test_a_power_cut_takes_the_row(node, tmp_path):
    """The row of a snapshot may reach the disk after its tree.  What has a tree and no row goes, and
    a number that is given again leads nobody to somebody else's snapshot."""
    for ve in ("web1", "web2"):
        node.ve(ve, start=False)
    take(node, "web1", "base")
    node.term()
    for path in registry_files(node):
        if os.path.exists(path):
            shutil.copy(path, tmp_path)
    node.start()
    lost = take(node, "web1", "lost")["id"]
    assert node.ok("POST", "/v1/ves/web1/snapshots?wait=true", {"name": "lost2"})["state"] == "done"
    assert tree(node, "web1")[1] == "lost2" and lost in saved(node)
    node.kill()
    for path in registry_files(node):
        old = tmp_path / os.path.basename(path)
        os.unlink(path)
        if old.exists():
            shutil.copy(old, path)
    node.start()
    assert saved(node) == {number for number, _ in rows(node)} and tree(node, "web1") == ({"base": None}, "base")
    assert take(node, "web2", "other")["id"] == lost
    assert tree(node, "web1") == ({"base": None}, "base")
    assert take(node, "web1", "next")["parent"] == "base"
    roll_back(node, "web1", "base")
    assert tree(node, "web1") == ({"base": None, "next": "base"}, "base")


def kill_worker(node):
    """kill -9 of whoever is at work; False: nobody was."""
    with open(f"/proc/{node.daemon.pid}/task/{node.daemon.pid}/children", encoding="ascii") as file:
        children = file.read().split()
    for pid in children:
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                if file.read().strip() == "terem-worker":
                    os.kill(int(pid), 9)
                    return True
        except OSError:
            pass
    return False


def test_a_worker_killed_in_the_middle(node):
    """The VE goes on, and nothing of the snapshot is left."""
    node.ve("web1")
    fill(node, "web1", 3000)
    killed = 0
    for wait in (0, 0.002, 0.005, 0.01, 0.03, 0.1):
        job = node.ok("POST", "/v1/ves/web1/snapshots", {"name": "a"})
        time.sleep(wait)
        killed += kill_worker(node)
        ended = node.ok("GET", f"/v1/jobs/{job['id']}?wait=true")
        assert not frozen(node, "web1")
        node.run("web1", "/bin/true")
        if ended["state"] == "done":
            node.ok("DELETE", "/v1/ves/web1/snapshots/a")
        assert saved(node) == set()
        assert not [state for _, state in rows(node) if state == 0]
    check_whole(node, "web1", 3000)
    assert killed, "every snapshot was faster"


def test_cancelled(node):
    node.ve("web1")
    fill(node, "web1", 5000)
    ended = []
    for name in ("a", "b", "c"):
        job = node.ok("POST", "/v1/ves/web1/snapshots", {"name": name})
        node.api("DELETE", f"/v1/jobs/{job['id']}?wait=true")
        ended.append(node.ok("GET", f"/v1/jobs/{job['id']}")["state"])
        there = ended.count("done")  # some were faster
        assert len(saved(node)) == len(rows(node)) == there
        assert there + ended.count("cancelled") == len(ended), ended
        assert not frozen(node, "web1")
        node.run("web1", "/bin/true")
    if node.where == "plain":  # copies 5000 files
        assert "cancelled" in ended
