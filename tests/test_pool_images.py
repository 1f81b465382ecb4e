# SPDX-License-Identifier: GPL-2.0-or-later
"""Pools in images that Terem makes: mounted, grown, filled, half made and half removed."""
import http.client
import os
import subprocess
import time

import pytest

from events import Events
from node import Node, dice, killed_at, wait_for
from test_pools import files, fill, pool, settled


def in_image(node, name, driver="btrfs", size="256M", **more):
    """Makes a pool in an image, or skips."""
    answer = node.api("POST", "/v1/pools?wait=true", {"name": name, "driver": driver, "size": size, **more})
    if answer.error == "unsupported":
        pytest.skip(answer.json["error"]["message"])
    assert answer.status == 200, answer
    return pool(node, name)


@pytest.mark.parametrize("driver", ["btrfs", "xfs"])
def test_a_pool_in_an_image(node, driver):
    size = "512M" if driver == "xfs" else "256M"
    loops = len(node.loops())  # of the first pool
    made = in_image(node, "fast", driver, size)
    assert made["image"] == os.path.join(node.root, "lib/pools/fast.img") and made["file_system"] == driver
    assert made["path"] in node.mounts() and len(node.loops()) == loops + 1
    node.ve("web1", pool="fast")
    fill(node, "web1")
    before = files(node, "web1")
    mounts = node.mounts()
    node.ve("web2", pool="fast")
    assert node.mounts() == mounts  # none for a VE
    for end in (node.kill, node.term):
        end()
        node.start()
        assert node.mounts() == mounts and len(node.loops()) == loops + 1
        assert files(node, "web1") == before
    node.terem("pool", "grow", "fast", "700M")
    assert pool(node, "fast")["size"] > made["size"] and files(node, "web1") == before
    for wish, kind in (("600M", "usage"), ("900000T", "exhausted"), ("nonsense", "usage")):
        assert node.api("PATCH", "/v1/pools/fast", {"size": wish}).error == kind
    for name in ("web1", "web2"):
        node.job("POST", f"/v1/ves/{name}/stop", {"force": True})
    # To another kind of pool and back.
    for to in ("default", "fast"):
        node.terem("pool", "move", "web1", to)
        node.terem("start", "web1")
        assert files(node, "web1") == before
        node.job("POST", "/v1/ves/web1/stop", {"force": True})
    for name in ("web1", "web2"):
        node.job("DELETE", f"/v1/ves/{name}")
    node.terem("pool", "remove", "fast")
    assert len(node.loops()) == loops and made["path"] not in node.mounts()
    assert not os.path.exists(made["image"]) and not os.path.exists(made["path"])


@pytest.mark.parametrize("driver, words", [
    ("dir", "are copies: the time and the space of what"), ("xfs", "share data until they change"),
    ("btrfs", "share what did not change")])
def test_what_a_snapshot_costs_is_said(node, driver, words):
    """And it is so: the data of a snapshot take space only where it says so."""
    node.job("POST", "/v1/pools", {"name": "fast", "driver": driver, **({} if driver == "dir" else {"size": "512M"})})
    assert words in node.terem("pool", "show", "fast").stdout
    node.ve("web1", pool="fast")
    node.sh("web1", "dd if=/dev/zero of=/root/big bs=1M count=60 conv=fsync 2>/dev/null")
    before = pool(node, "fast")["free"]
    node.job("POST", "/v1/ves/web1/snapshots", {"name": "one"})
    subprocess.run(["sync", "-f", node.pool("fast")], check=True)
    assert pool(node, "fast")["can"]["shares_data"] == (driver != "dir")
    if driver != "dir":  # where others write meanwhile
        assert before - pool(node, "fast")["free"] < 30 << 20


def test_an_image_that_is_gone(node):
    made = in_image(node, "fast")
    node.ve("web1", start=False, pool="fast")
    node.term()
    subprocess.run(["umount", made["path"]], check=True)
    os.rename(made["image"], made["image"] + "-away")
    node.start()
    assert "mount its disk, or put the image back" in node.show("web1")["broken"]
    assert pool(node, "fast")["state"] == "unavailable"
    assert node.api("PATCH", "/v1/pools/fast", {"size": "2G"}).error == "unavailable"
    os.rename(made["image"] + "-away", made["image"])
    node.job("POST", "/v1/ves/web1/start")
    assert pool(node, "fast")["state"] == "open"


def big(node):
    """All but 20M of what is free in the pool."""
    count = (pool(node, "fast")["free"] >> 20) - 20
    node.sh("web1", f"fallocate -l {count}M /root/big")


def test_a_pool_grows_by_itself(node):
    made = in_image(node, "fast")
    node.ve("web1", pool="fast")
    big(node)
    wait_for(lambda: pool(node, "fast")["size"] > made["size"])
    node.sh("web1", "dd if=/dev/urandom of=/root/more bs=1M count=20 2>/dev/null && md5sum /root/big >/dev/null")


def test_a_pool_grows_while_it_is_written(node):
    """More than it has, without a break and without an error."""
    made = in_image(node, "fast")
    node.ve("web1", pool="fast")
    node.sh("web1", "for i in $(seq 60); do dd if=/dev/zero bs=1M count=8 2>/dev/null || exit 1; sleep 0.1; done "
                    ">/root/big")
    assert pool(node, "fast")["size"] > 2 * made["size"]


def test_a_pool_that_may_not_grow_says_so(build):
    with Node(build, pool_grow="off") as node:
        made = in_image(node, "fast")
        node.ve("web1", pool="fast")
        def told():
            return [e["cause"] for e in events.seen if e["type"] == "pool.full" and e["pool"] == "fast"]
        with Events(node) as events:
            events.begin("web1")
            big(node)
            wait_for(told)
            wait_for(lambda: "pool fast is nearly full: the setting pool.grow is off" in node.words())
            # What was deleted makes it news again, and a job is when it is seen.
            node.sh("web1", "rm /root/big")
            wait_for(lambda: not subprocess.run(["sync", "-f", made["path"]], check=True).returncode and
                     pool(node, "fast")["free"] > 150 << 20)
            node.job("POST", "/v1/ves/web1/restart", {"force": True})
            big(node)
            wait_for(lambda: told() == 2 * ["the setting pool.grow is off"])
        assert pool(node, "fast")["size"] == made["size"]


def test_image_half_made_and_half_removed(node):
    in_image(node, "probe")
    node.job("DELETE", "/v1/pools/probe")
    for count in range(1, 12, 2):
        name = f"p{count}"
        with killed_at(node, "write,pwrite64", count):
            try:
                node.api("POST", "/v1/pools?wait=true", {"name": name, "driver": "btrfs", "size": "256M"})
                node.api("DELETE", f"/v1/pools/{name}?wait=true")
            except (OSError, http.client.HTTPException):
                pass
        settled(node, count)


def test_killed_while_an_image_is_made_or_removed(node):
    in_image(node, "probe")
    chance = dice()
    for turn in range(6):
        if turn % 2:
            node.ok("DELETE", "/v1/pools/probe")
        else:
            if [p for p in node.ok("GET", "/v1/pools") if p["name"] == "probe"]:
                node.job("DELETE", "/v1/pools/probe")
            node.ok("POST", "/v1/pools", {"name": "probe", "driver": "btrfs", "size": "256M"})
        time.sleep(chance.uniform(0, 0.2))
        node.kill()
        node.start()
        if turn % 2:
            settled(node, turn)
            node.job("POST", "/v1/pools", {"name": "probe", "driver": "btrfs", "size": "256M"})
        elif not [p for p in node.ok("GET", "/v1/pools") if p["name"] == "probe"]:
            settled(node, turn)
            node.job("POST", "/v1/pools", {"name": "probe", "driver": "btrfs", "size": "256M"})
    node.job("DELETE", "/v1/pools/probe")
    settled(node, "end")
