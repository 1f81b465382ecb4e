# SPDX-License-Identifier: GPL-2.0-or-later
"""Pools: where the files of VEs are."""
import contextlib
import glob
import http.client
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest

from events import Events
from node import PATIENCE, Node, dice, killed_at, wait_for


@pytest.mark.parametrize("name", ["default", "disk"])
def test_a_pool_whose_disk_is_gone(build, name):
    """teremd starts without it; its VEs say why they do not, and go on when it is back."""
    with Node(build, pool_driver="dir") as node:
        if name != "default":
            node.terem("pool", "create", name, "--driver", "dir")
        whose_disk_is_gone(node, name)


def whose_disk_is_gone(node, where):
    node.ve("web1", pool=where)
    node.sh("web1", "echo mine > /root/file")
    node.ve("web2", start=False, pool=where)
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    assert node.show("web1")["pool"] == where
    pool, away = node.pool(where), os.path.join(node.root, "away")
    node.term()
    os.rename(pool, away)
    node.start()
    for name in ("web1", "web2"):
        assert f"pool {where} cannot be opened: there is no pool at" in node.show(name)["broken"]
        answer = node.api("POST", f"/v1/ves/{name}/start")
        assert answer.error == "unavailable" and "mount its disk" in answer.json["error"]["message"]
    refused = node.terem("create", "web3", "--pool", where, check=False)
    assert refused.returncode == 1 and f"web3: pool {where} cannot be opened" in refused.stderr
    refused = node.terem("destroy", "web2", check=False)
    assert refused.returncode == 1 and "--force" in refused.stderr
    node.terem("destroy", "web2", "--force")
    checks = {c["name"]: c for c in node.ok("GET", "/v1/doctor")["checks"]}
    assert not checks[f"pool {where}"]["ok"] and "mount its disk" in checks[f"pool {where}"]["found"]
    # An empty mount point is not the pool either.
    os.mkdir(pool)
    assert node.api("POST", "/v1/ves/web1/start").error == "unavailable"
    os.rmdir(pool)
    os.rename(away, pool)
    node.job("POST", "/v1/ves/web1/start")
    assert "broken" not in node.show("web1")
    assert node.sh("web1", "cat /root/file") == "mine\n"
    trees = sorted(name for name in os.listdir(pool) if name.isdigit())
    assert trees == [str(node.show("web1")["id"])]


def files(node, name):
    return node.sh(name, "cd /root && find . -type f | sort | xargs -r md5sum")


def fill(node, name, count=200):
    node.sh(name, f"cd /root && for i in $(seq {count}); do mkdir -p d$((i % 7)); echo $i > d$((i % 7))/$i; done; "
                  "dd if=/dev/urandom of=big bs=1M count=3 2>/dev/null; ln big big2; ln -s /root/big l")


def pool(node, name):
    return node.ok("GET", f"/v1/pools/{name}")


def test_create_use_and_remove(node):
    node.terem("pool", "create", "other", "--driver", "dir")
    listed = {p["name"]: p for p in node.json("pool", "list")}
    assert sorted(listed) == ["default", "other"]
    assert listed["other"]["state"] == "open" and listed["other"]["driver"] == "dir"
    assert listed["other"]["path"] == os.path.join(node.root, "lib/pools/other")
    text = node.terem("pool", "list").stdout
    assert "other" in text and "open" in text
    node.template()
    node.terem("create", "web1", "--pool", "other", "--start")
    assert "pool        other" in node.terem("show", "web1").stdout
    assert node.terem("list", "--columns", "name,pool").stdout.split()[-2:] == ["web1", "other"]
    assert os.path.isdir(os.path.join(node.root, "lib/pools/other", str(node.show("web1")["id"])))
    node.sh("web1", "echo x > /root/y")
    refused = node.terem("pool", "remove", "other", check=False)
    assert refused.returncode == 1 and "of web1; move them" in refused.stderr
    refused = node.terem("pool", "remove", "default", check=False)
    assert refused.returncode == 1 and "cannot be removed" in refused.stderr
    # It is there again after both kinds of end.
    for end in (node.kill, node.term):
        end()
        node.start()
        assert node.sh("web1", "cat /root/y") == "x\n"
        assert pool(node, "other")["ves"] == ["web1"]
    node.terem("destroy", "web1", "--force")
    node.terem("pool", "remove", "other")
    assert not os.path.exists(os.path.join(node.root, "lib/pools/other"))
    assert [p["name"] for p in node.json("pool", "list")] == ["default"]
    node.terem("pool", "create", "other")
    node.terem("pool", "remove", "other")


def test_what_is_refused(node):
    state, mine = os.path.join(node.root, "lib"), os.path.join(node.root, "mine")
    os.makedirs(mine)
    with open(os.path.join(mine, "letter"), "w", encoding="ascii") as file:
        file.write("dear")
    for body, kind, words in [
            ({"name": "Bad"}, "usage", "Bad"),
            ({"name": "default"}, "exists", "there is a pool default already"),
            ({"name": "a", "driver": "zfs"}, "usage", "dir, btrfs or xfs"),
            ({"name": "a", "driver": "dir", "size": "1G"}, "usage", "no size of its own"),
            ({"name": "a", "driver": "dir", "path": "relative"}, "usage", "absolute"),
            ({"name": "a", "driver": "dir", "path": mine + "/../x"}, "usage", "plain path"),
            ({"name": "a", "driver": "dir", "path": mine}, "exists", "not empty (letter)"),
            ({"name": "a", "driver": "dir", "path": mine + "/letter"}, "usage", "no directory"),
            ({"name": "a", "driver": "dir", "path": state + "/inside"}, "usage", "in the way"),
            ({"name": "a", "driver": "dir", "path": node.root}, "usage", "in the way"),
            ({"name": "a", "driver": "btrfs", "size": "1M"}, "usage", "256M"),
            ({"name": "a", "driver": "xfs", "size": "319M"}, "usage", "an image with xfs has at least 320M"),
            ({"name": "a", "driver": "btrfs", "size": "900000T"}, "exhausted", "no room"),
            ({"name": "a", "driver": "btrfs", "image": mine + "/letter"}, "exists", "there already")]:
        answer = node.api("POST", "/v1/pools?wait=true", body)
        assert answer.error == kind and words in answer.json["error"]["message"], (body, answer)
    assert os.listdir(mine) == ["letter"]
    assert not any("xfs" in str(job) for job in node.ok("GET", "/v1/jobs?all=true"))  # not by a job
    assert [p["name"] for p in node.ok("GET", "/v1/pools")] == ["default"]
    for method, path, body in [("GET", "/v1/pools/none", None), ("DELETE", "/v1/pools/none", None),
                               ("PATCH", "/v1/pools/none", {"size": "2G"})]:
        assert node.api(method, path, body).error == "not-found"
    node.terem("pool", "create", "plain", "--driver", "dir")
    answer = node.api("PATCH", "/v1/pools/plain", {"size": "900G"})
    assert answer.error == "state" and "directory" in answer.json["error"]["message"]
    node.template()
    answer = node.api("POST", "/v1/ves",
                      {"name": "web1", "template": "busybox", "pool": "defualt"})
    assert answer.error == "not-found" and "did you mean default?" in answer.json["error"]["message"]


def test_two_pools_do_not_lie_in_each_other(node):
    outer = os.path.join(node.root, "outer")
    node.job("POST", "/v1/pools", {"name": "outer", "driver": "dir", "path": outer})
    for path in (outer, outer + "/inner"):
        answer = node.api("POST", "/v1/pools?wait=true", {"name": "b", "driver": "dir", "path": path})
        assert answer.error == "exists" and "pool outer" in answer.json["error"]["message"]
    node.job("DELETE", "/v1/pools/outer")


def test_a_file_system_is_counted_once(node):
    host = os.statvfs(node.root)
    size = host.f_blocks * host.f_frsize
    node.job("POST", "/v1/pools", {"name": "plain", "driver": "dir"})  # the first one may be in an image
    node.job("POST", "/v1/pools", {"name": "other", "driver": "dir"})
    node.job("POST", "/v1/pools", {"name": "image", "driver": "btrfs", "size": "256M"})
    assert node.ok("GET", "/v1")["resources"]["disk"]["total"] == size
    node.job("DELETE", "/v1/pools/other")
    assert node.ok("GET", "/v1")["resources"]["disk"]["total"] == size


def test_move(node):
    node.ve("web1")
    fill(node, "web1")
    before = files(node, "web1")
    node.terem("pool", "create", "other", "--driver", "dir")
    refused = node.terem("pool", "move", "web1", "other", check=False)
    assert refused.returncode == 1 and "--restart" in refused.stderr
    with Events(node) as events:
        events.begin("web1")
        node.job("POST", "/v1/ves/web1/move", {"pool": "other", "restart": True, "timeout": 0})
        events.wait("ve.moved", ve="web1", **{"from": "default", "to": "other"})
    assert node.show("web1")["pool"] == "other" and node.state("web1") == "running"
    assert files(node, "web1") == before
    refused = node.terem("pool", "move", "web1", "other", check=False)
    assert refused.returncode == 1 and "in pool other already" in refused.stderr
    node.terem("pool", "move", "web1", "default", "--restart", "--timeout", "0s")
    assert node.show("web1")["pool"] == "default" and node.state("web1") == "running"
    node.terem("stop", "web1", "--force")
    told = node.terem("pool", "move", "web1", "other").stderr.splitlines()
    assert re.search(r"copied [0-9.]*[1-9][0-9.]*[KMG]? in [1-9][0-9]* files?$", told[-1]), told
    assert node.state("web1") == "stopped"
    node.terem("pool", "move", "web1", "default")
    node.terem("pool", "remove", "other")
    node.terem("start", "web1")
    assert files(node, "web1") == before


def where(node, name):
    """Pools in which it has a tree."""
    number = str(node.show(name)["id"])
    return [p["name"] for p in node.ok("GET", "/v1/pools") if os.path.isdir(os.path.join(p["path"], number))]


def moved_or_not(node, before, when):
    """After any end: it is whole, and in the one pool that its record names."""
    if not node.alive():
        node.start()
    at = node.show("web1")["pool"]
    assert where(node, "web1") == [at], f"{when}: {at}\n{node.words()}"
    node.terem("start", "web1")
    assert files(node, "web1") == before, when
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    return at


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace to kill at a chosen write")
def test_move_killed_at_each_step(node):
    """teremd is killed at its first write of a move, at its second, and so on."""
    node.ve("web1")
    fill(node, "web1", 30)
    before = files(node, "web1")
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    node.terem("pool", "create", "other", "--driver", "dir")
    seen = set()
    for count in range(1, 60):
        here = node.show("web1")["pool"]
        to = "other" if here == "default" else "default"
        with killed_at(node, "write,pwrite64,renameat2", count):
            try:
                done = node.api("POST", "/v1/ves/web1/move?wait=true", {"pool": to}).status == 200
            except (OSError, http.client.HTTPException):
                done = False
        seen.add(moved_or_not(node, before, f"killed at step {count}") == to)
        if done:
            break
    assert seen == {False, True} and count > 5, (seen, count)


def test_move_killed_while_it_copies(node):
    """teremd or the worker ends somewhere in the middle of the copy."""
    node.ve("web1")
    fill(node, "web1", 3000)
    before = files(node, "web1")
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    node.terem("pool", "create", "other", "--driver", "dir")
    chance = dice()
    for turn in range(6):
        to = "other" if node.show("web1")["pool"] == "default" else "default"
        job = node.ok("POST", "/v1/ves/web1/move", {"pool": to})
        time.sleep(chance.uniform(0, 0.15))
        if turn % 2:
            for pid, command in node.processes():
                if command.startswith("terem-worker: move"):
                    os.kill(pid, signal.SIGKILL)
            node.api("GET", f"/v1/jobs/{job['id']}?wait=true")
        else:
            node.kill()
        moved_or_not(node, before, f"turn {turn}")


def test_move_cancelled(node):
    node.ve("web1")
    fill(node, "web1", 3000)
    before = files(node, "web1")
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    node.terem("pool", "create", "other", "--driver", "dir")
    job = node.ok("POST", "/v1/ves/web1/move", {"pool": "other"})
    node.api("DELETE", f"/v1/jobs/{job['id']}?wait=true")
    moved_or_not(node, before, "cancelled")


def settled(node, when):
    """What was half made or half removed is whole or gone; what is whole is removed here."""
    if not node.alive():
        node.start()
    for p in node.ok("GET", "/v1/pools"):
        assert p["state"] == "open", (when, p)
        if p["name"] != "default":
            node.job("DELETE", f"/v1/pools/{p['name']}")
    left = os.listdir(os.path.join(node.root, "lib/pools"))
    assert [name for name in left if not name.startswith("default")] == [], (when, node.words())
    assert len(node.loops()) == (pool(node, "default")["image"] is not None), (when, node.loops())


def test_half_made_and_half_removed(node):
    """Killed while a pool is made or removed: it is there whole, or it is not."""
    for count in range(1, 12):
        name = f"p{count}"
        with killed_at(node, "write,pwrite64", count):
            try:
                node.api("POST", "/v1/pools?wait=true", {"name": name, "driver": "dir"})
                node.api("DELETE", f"/v1/pools/{name}?wait=true")
            except (OSError, http.client.HTTPException):
                pass
        settled(node, count)


# ---- the first pool ----
def test_the_first_pool_is_what_serves_best(build):
    """A whole life in it: first start, VEs, a crash, the node's stop and its next start."""
    with Node(build, pool_size="1G", pool_driver="auto") as node:
        first = pool(node, "default")
        assert first["state"] == "open" and first["why"], first
        if first["driver"] == "btrfs":
            assert first["can"]["space"] and first["can"]["cheap_copies"]
        node.ve("web1")
        fill(node, "web1")
        before = files(node, "web1")
        node.kill()
        node.start()
        assert files(node, "web1") == before
        mounts = node.mounts()
        node.ve("web2")
        assert node.mounts() == mounts
        node.terem("snapshot", "create", "web1", "one")
        node.sh("web1", "rm -rf /root/*")
        node.job("POST", "/v1/ves/web1/stop", {"force": True})
        node.terem("snapshot", "rollback", "web1", "one")
        node.terem("node", "stop", "--force")
        node.daemon.wait(PATIENCE)
        wait_for(lambda: not node.mounts() and not node.loops())
        node.start()
        node.terem("start", "web1")
        assert files(node, "web1") == before and pool(node, "default")["path"] == first["path"]


def test_a_pool_that_stays_in_use_is_told(build):
    """Somebody's mount namespace holds it: the end of the node says who that is."""
    with Node(build, pool_size="512M", pool_driver="btrfs") as node:
        if pool(node, "default")["driver"] == "dir":
            pytest.skip(pool(node, "default")["why"])
        with subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 600"],
                              stdout=subprocess.PIPE) as holder:
            try:
                holder.stdout.readline()
                said = node.terem("node", "stop", "--force").stderr
                assert "pool default stays mounted" in said and f"process {holder.pid} (" in said, said
                assert "a mount namespace of its own; end that process" in said
            finally:
                holder.kill()
        node.daemon.wait(PATIENCE)
        wait_for(lambda: not node.loops())


@pytest.mark.parametrize("driver", ["dir", "btrfs"])
def test_the_first_pool_as_asked_for(build, driver):
    with Node(build, pool_size="512M", pool_driver=driver) as node:
        first = pool(node, "default")
        if driver == "btrfs" and first["driver"] == "dir":
            pytest.skip(first["why"])
        assert first["driver"] == driver and first["why"] == "it was asked for"


# ---- recovery ----
def tree(node, name):
    ve = node.show(name)
    return os.path.join(pool(node, ve["pool"])["path"], str(ve["id"]))


def test_what_is_nobodys_goes(node):
    """Trees and saved trees without a row, in every pool."""
    node.terem("pool", "create", "other", "--driver", "dir")
    node.ve("web1", start=False, pool="other")
    strangers = []
    for p in node.ok("GET", "/v1/pools"):
        strangers += [os.path.join(p["path"], "777"), os.path.join(p["path"], ".saved/778")]
    # One that moved away, and whose old place was not cleaned.
    strangers.append(os.path.join(pool(node, "default")["path"], str(node.show("web1")["id"])))
    node.kill()
    for path in strangers:
        os.makedirs(path + "/upper")
    node.start()
    assert not [path for path in strangers if os.path.exists(path)]
    assert os.path.isdir(tree(node, "web1"))


def test_what_cannot_go_is_tried_less_and_less(build):
    """A tree in the trash that nobody can delete: it is told once, and does not keep teremd awake.  In a
    directory: btrfs deletes a subvolume whatever is in it."""
    with Node(build, pool_driver="dir") as node:
        node.ve("web1", start=False)
        fixed = os.path.join(tree(node, "web1"), "upper/fixed")
        with open(fixed, "w", encoding="ascii"):
            pass
        subprocess.run(["chattr", "+i", fixed], check=True)
        trash = os.path.join(pool(node, "default")["path"], ".trash")

        def tries():
            """Each is a process that teremd waits for."""
            with open(f"/proc/{node.daemon.pid}/stat", encoding="ascii") as file:
                return int(file.read().rsplit(")", 1)[1].split()[8])  # cminflt: of children that ended
        try:
            node.job("DELETE", "/v1/ves/web1")
            assert os.listdir(trash)
            wait_for(lambda: "still takes its space" in node.words())
            seen = 0
            for _ in range(24):  # 12 seconds: 3 tries after the first second, or 12 and more
                before = tries()
                time.sleep(0.5)
                seen += tries() != before
            assert seen <= 8, node.words()
            assert node.words().count("still takes its space") == 1
        finally:
            for found in glob.glob(f"{trash}/**/fixed", recursive=True):
                subprocess.run(["chattr", "-i", found], check=True)
        node.terem("template", "prune")
        wait_for(lambda: not os.listdir(trash))


def test_trees_that_are_not_there(node):
    """A power cut may take the tree of a VE that was just made; any other loss is told."""
    node.ve("fresh", start=False)
    node.ve("pushed", start=False)
    node.api("PUT", "/v1/ves/pushed/files?path=/root/x", "mine", {"Content-Type": "application/octet-stream"})
    for name in ("used", "gone"):
        node.ve(name)
        node.job("POST", f"/v1/ves/{name}/stop", {"force": True})
    paths = {name: tree(node, name) for name in ("fresh", "pushed", "used", "gone")}
    node.kill()
    shutil.rmtree(paths["fresh"])
    for name in ("pushed", "used"):
        os.rename(paths[name], paths[name] + "-away")
    node.start()
    assert node.state("fresh") == "stopped" and "made again" in node.words()
    node.job("POST", "/v1/ves/fresh/start")
    for name in ("pushed", "used"):
        ve = node.show(name)
        assert ve["state"] == "broken" and "not in pool default" in ve["broken"], ve
        assert "terem restore" in ve["broken"]
        assert node.api("POST", f"/v1/ves/{name}/start").error == "state"
    # Put back, they are what they were.
    node.kill()
    os.rename(paths["used"] + "-away", paths["used"])
    node.start()
    assert node.state("used") == "stopped" and node.state("pushed") == "broken"
    node.job("POST", "/v1/ves/used/start")
    # Found at a start.
    shutil.rmtree(paths["gone"])
    answer = node.api("POST", "/v1/ves/gone/start?wait=true")
    assert answer.status >= 400
    assert node.state("gone") == "broken" and "not in pool default" in node.show("gone")["broken"]
    for name in ("pushed", "gone"):
        node.job("DELETE", f"/v1/ves/{name}")
    shutil.rmtree(paths["pushed"] + "-away")


def test_an_older_instance_goes_on_in_its_directory(node):
    """It had STATE/pool, and no row that says so."""
    assert node.pool() == os.path.join(node.root, "lib/pools/default")
    node.ve("web1")
    node.sh("web1", "echo mine > /root/file")
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    node.ve("web2", start=False, pool="default")
    node.job("POST", "/v1/pools", {"name": "old", "driver": "dir"})
    node.terem("pool", "move", "web1", "web2", "old")
    node.term()
    lib = os.path.join(node.root, "lib")
    os.rename(lib + "/pools/old", lib + "/pool")
    subprocess.run(["umount", lib + "/pools/default"], check=False, capture_output=True)
    with contextlib.closing(sqlite3.connect(lib + "/registry.db")) as db, db:
        db.execute("DELETE FROM pool")
        for number, spec in db.execute("SELECT id, spec FROM ve").fetchall():
            spec = json.loads(spec)
            del spec["pool"]
            db.execute("UPDATE ve SET spec = ? WHERE id = ?", (json.dumps(spec), number))
    node.start()
    assert node.pool() == os.path.join(node.root, "lib/pool")
    assert pool(node, "default")["driver"] == "dir" and pool(node, "default")["ves"] == ["web1", "web2"]
    node.terem("start", "web1", "web2")
    assert node.sh("web1", "cat /root/file") == "mine\n"


def test_doctor_tells_of_each_pool(node):
    node.terem("pool", "create", "other", "--driver", "dir")
    checks = {c["name"]: c for c in node.ok("GET", "/v1/doctor")["checks"]}
    for name in ("default", "other"):
        check = checks[f"pool {name}"]
        assert "free" in check["found"]
        can = pool(node, name)["can"]
        assert check["ok"] == (can["space"] and can["cheap_copies"])
        if not can["space"]:
            assert "disk.space is refused: " in check["costs"] and check["hint"]
    text = node.terem("pool", "show", "other").stdout
    for key in ("size", "disk.space", "disk.inodes", "snapshots", "because"):
        assert f"\n{key}" in text


def test_metrics(node):
    node.terem("pool", "create", "other", "--driver", "dir")
    text = node.api("GET", "/metrics").body.decode()
    for name in ("default", "other"):
        assert f'terem_pool_size_bytes{{pool="{name}"}} ' in text and f'terem_pool_free_bytes{{pool="{name}"}} ' in text


def with_snapshots(node, size=60, count=3):
    """web1 runs, and each of its snapshots has files that no other has."""
    node.ve("web1")
    for i in range(count):
        node.sh("web1", f"dd if=/dev/urandom of=/root/big bs=1M count={size} 2>/dev/null")
        node.terem("snapshot", "create", "web1", f"s{i}")


def test_move_has_room_before_the_ve_is_stopped(build):
    """Snapshots that share nothing there need more than the VE: the pool grows first, or refuses."""
    with Node(build, pool_grow="off") as node:
        with_snapshots(node)
        node.terem("pool", "create", "small", "--driver", "btrfs", "--size", "256M")
        before, pid = files(node, "web1"), node.show("web1")["pid"]
        refused = node.terem("pool", "move", "web1", "small", "--restart", check=False)
        assert refused.returncode == 1 and "terem pool grow small SIZE" in refused.stderr, refused.stderr
        assert re.search(r"needs 2[4-9][0-9][.0-9]*M in pool \S+, where 2[0-9][0-9][.0-9]*M is free", refused.stderr), \
            refused.stderr
        assert node.show("web1")["pid"] == pid and node.show("web1")["pool"] == "default"
        node.setting("pool.grow", "on")
        node.term()
        node.start()
        with Events(node) as events:
            events.begin("web1")
            node.terem("pool", "move", "web1", "small", "--restart", "--timeout", "0s")
            grown = events.wait("pool.grown", pool="small", by_itself=True)
        assert grown["size"] > 256 << 20 and pool(node, "small")["size"] >= grown["size"] - (1 << 20)
        assert node.show("web1")["pool"] == "small" and files(node, "web1") == before


def test_move_that_fails_brings_the_ve_back(node):
    """The job of a move has ended when the VE runs again."""
    node.ve("web1")
    fill(node, "web1", 30)
    before, pid = files(node, "web1"), node.show("web1")["pid"]
    node.terem("pool", "create", "other", "--driver", "dir")
    os.mkdir(os.path.join(node.pool("other"), str(node.show("web1")["id"])))  # in its way
    job = node.ok("POST", "/v1/ves/web1/move", {"pool": "other", "restart": True, "timeout": 0})
    ended = node.api("GET", f"/v1/jobs/{job['id']}?wait=true").json
    assert ended["state"] == "failed" and "exists already" in ended["error"]["message"], ended
    assert node.state("web1") == "running" and node.show("web1")["pid"] != pid
    assert node.show("web1")["pool"] == "default" and where(node, "web1") == ["default"]
    assert files(node, "web1") == before
