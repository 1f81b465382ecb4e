# SPDX-License-Identifier: GPL-2.0-or-later
"""In the machine: disk limits on file systems whose quotas the builder's kernel lacks: projects of
ext4 and xfs, and btrfs; what they refuse, counted by programs at the kernel's functions."""
import os
import sys

sys.path[:0] = ["/work/tests", "/work/tests/vm"]
from events import Events  # noqa: E402
from node import PATIENCE, Node, wait_for  # noqa: E402
from steps import Steps, run  # noqa: E402

MIB = 1 << 20
PROGRAM = "/work/build/src/programs/terem-init/use_disk"
MAKE = {
    "ext4": ("mkfs.ext4 -q -O quota,project -E quotatype=usrquota:grpquota:prjquota {}", "loop,prjquota"),
    "xfs": ("mkfs.xfs -q {}", "loop,prjquota"),
    "btrfs": ("mkfs.btrfs -q {}", "loop"),
}


def sh(command):
    assert os.system(command) == 0, command


class Place:
    """A node with a pool on a file system of its own."""

    def __init__(self, kind):
        self.kind, self.at, self.disk = kind, f"/data/{kind}", f"/data/{kind}.disk"
        make, options = MAKE[kind]
        os.makedirs(self.at)
        sh(f"truncate -s 400M {self.disk} && {make.format(self.disk)} >/dev/null && "
           f"mount -o {options} {self.disk} {self.at}")
        self.node = Node("/data/terem")
        with open(os.path.join(self.node.root, "terem.conf"), "w", encoding="ascii") as file:
            file.write("disk.look = 1s\n")
        self.node.start()
        driver = "btrfs" if kind == "btrfs" else "dir"
        self.node.job("POST", "/v1/pools", {"name": "fast", "driver": driver, "path": self.at + "/pool"})
        self.node.template()

    def close(self):
        for ve in self.node.ok("GET", "/v1/ves"):
            self.node.job("DELETE", f"/v1/ves/{ve['name']}?force=true")
        self.node.job("DELETE", "/v1/pools/fast")
        left = self.node.close()
        assert not left, left
        sh(f"umount {self.at} && rmdir {self.at} && rm {self.disk}")

    def use(self, *words):
        out = self.node.run("web1", "/root/disk", *map(str, words), timeout=4 * PATIENCE)["stdout"].split()
        return [int(word) if word.isdigit() else word for word in out]

    def row(self, key):
        return self.node.counter("web1", key)

    def failed(self, key="disk.space"):
        return self.row(key)["failcnt"]

    def space(self):
        return self.node.show("web1")["disk"]["space"]


def try_all(kind):
    place = Place(kind)
    try:
        limits(place)
        ways_around(place)
        soft(place)
    finally:
        place.close()


def limits(place):
    node, kind = place.node, place.kind
    params = {"disk.space": "24M"} if kind == "btrfs" else {"disk.space": "24M", "disk.inodes": "300"}
    node.ve("web1", pool="fast", params=params)
    node.terem("push", "web1", PROGRAM, "/root/disk", "--mode", "0755")
    wait_for(lambda: place.failed() is not None)  # that takes seconds
    assert place.use("stat", "/")[0] == 24 << 10, "df does not tell the VE's own size"
    with Events(node) as events:
        events.begin("web1")
        done, refused = place.use("fill", "/root/big", 60 * MIB)
        print(f"# {kind}: {done} of {24 * MIB} written, {refused} refused")
        assert 18 * MIB < done <= 24 * MIB and refused > 0
        assert place.failed() == refused, (place.row("disk.space"), refused)
        assert events.wait("ve.refused", ve="web1", key="disk.space")["process"] == "disk"
    total, free, *_ = place.use("stat", "/")
    assert total == 24 << 10 and free < 6 << 10
    if kind != "btrfs":
        before = place.failed("disk.inodes")
        made, refused = place.use("tiny", "/root", 400)
        node.sh("web1", "rm /root/big")
        more, again = place.use("dirs", "/tmp", 400)
        print(f"# {kind}: {made} files and {more} directories made, {refused} and {again} refused")
        assert made + more < 320 and again > 0
        assert place.failed("disk.inodes") >= before + again, place.row("disk.inodes")
        node.sh("web1", "rm -rf /root/[0-9]* /tmp/*")
        assert place.row("disk.inodes")["held"] < 100
    node.sh("web1", "rm -f /root/big; sync")
    assert place.use("fill", "/root/after", 8 * MIB) == [8 * MIB, 0]
    node.sh("web1", "rm /root/after; sync")


def ways_around(place):
    node = place.node
    before = place.failed()
    assert place.use("reserve", "/root/x", 100 * MIB)[0] in ("EDQUOT", "ENOSPC")
    assert place.failed() == before + 1, (before, place.row("disk.space"))
    node.sh("web1", "rm -f /root/x; sync")
    done, why = place.use("map", "/root/x", 60 * MIB)
    assert done <= 24 * MIB and why == "SIGBUS"
    # A fault is refused, too.
    assert place.failed() == before + 2, (before, place.row("disk.space"))
    node.sh("web1", "rm -f /root/x; sync")
    done, why = place.use("sparse", "/root/x", 4096 * MIB)
    assert done <= 24 * MIB and why in ("EDQUOT", "ENOSPC")
    node.sh("web1", "rm -f /root/x; >/root/x; mkdir -p /root/y; sync")
    assert place.use("project", "/root/x", 77)[0] not in ("0", 0), "it left its project"
    assert place.use("gone", "/root/z", 60 * MIB)[0] <= 24 * MIB
    # Names are neither room nor inodes, and what has many is there once.
    assert place.use("fill", "/root/l", 8 * MIB) == [8 * MIB, 0]
    inodes = place.row("disk.inodes")["held"]
    assert place.use("links", "/root/l", 100)[0] == 100
    assert place.space()["used"] < 16 * MIB and place.row("disk.inodes")["held"] == inodes
    node.sh("web1", "rm -f /root/l*; sync")
    assert place.use("move", "/root/x", "/root/y", 10 * MIB)[0] <= 24 * MIB
    node.sh("web1", "rm -rf /root/x /root/y; sync")
    assert node.sh("web1", "echo on") == "on\n"


def soft(place):
    node = place.node
    with Events(node) as events:
        events.begin("web1")
        node.terem("set", "web1", "disk.space=10M:24M", "disk.grace=1h")
        assert place.use("fill", "/root/big", 14 * MIB) == [14 * MIB, 0]
        events.wait("ve.disk_soft", ve="web1", key="disk.space")
        wait_for(lambda: "delete some" in node.sh("web1", "cat /run/motd.d/* 2>&1", check=False))
        node.terem("set", "web1", "disk.grace=1s")
        events.wait("ve.disk_held", ve="web1", key="disk.space")
        wait_for(lambda: "nothing can be added" in node.sh("web1", "cat /run/motd.d/* 2>&1", check=False))
        assert place.use("fill", "/root/more", 6 * MIB)[0] <= 2 * MIB
        node.sh("web1", "rm -f /root/big /root/more; sync")
        events.wait("ve.disk_ok", ve="web1", key="disk.space")
    assert place.use("fill", "/root/big", 8 * MIB) == [8 * MIB, 0]
    node.kill()
    node.start()
    node.terem("set", "web1", "disk.space=24M")
    assert place.space()["limit"] == 24 * MIB


class Disk(Steps):
    """Steps, in the order of their definition."""

    def ext4(self):
        try_all("ext4")

    def xfs(self):
        try_all("xfs")

    def btrfs(self):
        try_all("btrfs")


run(Disk)
