# SPDX-License-Identifier: GPL-2.0-or-later
"""Disk throughput: what is set stands in the kernel's files, counts, and is refused with a reason.

Nothing is timed: the kernel's own files and counters say what was limited.
"""
import os
import re
import shutil
import subprocess

import pytest

from node import Node

V1 = "/sys/fs/cgroup/blkio"


def disk_of(path):
    """The whole disk below a path, as cgroup files name it."""
    number = os.stat(path).st_dev
    at = os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if os.path.exists(at + "/partition"):
        at = os.path.dirname(at)
    with open(at + "/dev", encoding="ascii") as file:
        return file.read().strip()


def io_file(node, name, file):
    path = f"{V1}/{node.cgroup_name}/ve-{node.show(name)['id']}/{file}"
    with open(path, encoding="ascii") as opened:
        return dict(line.split() for line in opened.read().splitlines())


def written(node, name):
    """What the disk of the node's files counts for the VE."""
    with open(f"{V1}/{node.cgroup_name}/ve-{node.show(name)['id']}/"
              "blkio.throttle.io_service_bytes", encoding="ascii") as file:
        counts = dict(re.findall(rf"^{disk_of(node.root)} (\w+) (\d+)", file.read(), re.M))
    return int(counts.get("Write", 0))


@pytest.mark.skipif(not os.path.isdir(V1), reason="blkio is not a v1 controller here; tests/vm "
                    "looks at cgroup v2")
class TestV1:
    def test_limits_are_written_and_taken_away(self, node):
        node.ve("web1", params={"io.read": "5M,100iops"})
        disk = disk_of(node.root)
        assert io_file(node, "web1", "blkio.throttle.read_bps_device") == {disk: str(5 << 20)}
        assert io_file(node, "web1", "blkio.throttle.read_iops_device") == {disk: "100"}
        assert io_file(node, "web1", "blkio.throttle.write_bps_device") == {}
        node.terem("set", "web1", "io.write=2M", "io.read=50iops")
        assert io_file(node, "web1", "blkio.throttle.read_bps_device") == {}
        assert io_file(node, "web1", "blkio.throttle.read_iops_device") == {disk: "50"}
        assert io_file(node, "web1", "blkio.throttle.write_bps_device") == {disk: str(2 << 20)}
        node.terem("set", "web1", "io.write=unlimited", "io.read=unlimited")
        for file in ("read_bps", "read_iops", "write_bps", "write_iops"):
            assert io_file(node, "web1", f"blkio.throttle.{file}_device") == {}

    def test_limit_holds(self, node):
        """A megabyte past the cache, in 16 writes: the kernel counts each, and holds it back until
        its time has come."""
        node.ve("web1", params={"io.write": "1M"})
        write = "dd if=/dev/zero of=/root/file bs=64k count=16 oflag=direct 2>/dev/null"
        span = node.sh("web1", f"s=$(cut -d' ' -f1 /proc/uptime); {write}; "
                               "e=$(cut -d' ' -f1 /proc/uptime); echo $s $e").split()
        counted = dict(re.findall(r"\d+:\d+ (\w+) (\d+)", open(
            f"{V1}/{node.cgroup_name}/ve-{node.show('web1')['id']}/"
            "blkio.throttle.io_service_bytes", encoding="ascii").read()))
        assert int(counted["Write"]) >= 1 << 20
        # A megabyte at a megabyte a second: nothing on this machine makes that faster.
        assert float(span[1]) - float(span[0]) >= 0.8

    def test_limit_holds_in_an_image(self, node):
        """The loop device of a pool's image passes requests on in the VE's name: the disk below it
        is the one that bounds and counts, once."""
        if "btrfs" not in open("/proc/filesystems", encoding="ascii").read():
            pytest.skip("this kernel has no btrfs")
        node.terem("pool", "create", "cow", "--driver", "btrfs", "--size", "1G")
        node.template()
        node.terem("create", "web1", "--template", "busybox", "--pool", "cow", "--start")
        node.terem("set", "web1", "io.write=1M")
        assert io_file(node, "web1", "blkio.throttle.write_bps_device") == \
            {disk_of(node.root): str(1 << 20)}
        before = written(node, "web1")
        for write in ("oflag=direct", "conv=fsync"):  # past the page cache, and through it
            span = node.sh("web1", "s=$(cut -d' ' -f1 /proc/uptime); dd if=/dev/zero of=/root/file "
                                   f"bs=64k count=16 {write} 2>/dev/null; "
                                   "e=$(cut -d' ' -f1 /proc/uptime); echo $s $e").split()
            assert float(span[1]) - float(span[0]) >= 0.8
        counted = written(node, "web1") - before
        assert 2 << 20 <= counted < 4 << 20, counted

    def test_weight_needs_a_scheduler(self, node):
        """bfq on a loop device of our own; without it the refusal says how to turn it on."""
        node.ve("web1")
        refused = node.terem("set", "web1", "io.weight=300", check=False)
        if refused.returncode == 0:
            pytest.skip("the disk of this machine is divided by bfq already")
        assert re.search(r"io.weight cannot be enforced here: nothing divides disk \w+ by weight; "
                         r"turn it on with: echo bfq >/sys/block/\w+/queue/scheduler",
                         refused.stderr), refused.stderr
        assert node.terem("set", "web1", "io.weight=100").returncode == 0


def losetup(*args):
    return subprocess.run(["losetup", *args], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def disk(tmp_path):
    """A mounted disk of our own, which may have another scheduler."""
    image, at = tmp_path / "image", tmp_path / "disk"
    at.mkdir()
    loop = None
    with open(image, "wb") as file:
        file.truncate(300 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    try:
        loop = losetup("-f", "--show", str(image))
        subprocess.run(["mount", loop, at], check=True)
        yield str(at), os.path.basename(loop)
    finally:
        subprocess.run(["umount", at], check=False, capture_output=True)
        if loop:
            losetup("-d", loop)


@pytest.mark.skipif(not os.path.isdir(V1) or not shutil.which("losetup"), reason="no blkio of v1")
def test_weight_with_bfq_below_the_loop(build, disk):
    """The scheduler that counts is that of the disk under the loop device's file: refused still."""
    at, loop = disk
    with open(f"/sys/block/{loop}/queue/scheduler", "w", encoding="ascii") as file:
        file.write("bfq")
    with Node(build, root=at + "/node") as node:
        node.ve("web1")
        refused = node.terem("set", "web1", "io.weight=300", check=False)
        assert loop not in refused.stderr
        node.terem("set", "web1", "io.read=1M")
        with open(f"/sys/block/{loop}/dev", encoding="ascii") as file:
            number = file.read().strip()
        assert io_file(node, "web1", "blkio.throttle.read_bps_device") == {number: str(1 << 20)}


def test_no_disk_at_all(build, tmp_path):
    at = tmp_path / "memory"
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", at], check=True)
    try:
        with Node(build, root=str(at) + "/node") as node:
            node.ve("web1")
            refused = node.api("PATCH", "/v1/ves/web1", {"params": {"io.read": "1M"}})
            assert refused.error == "unsupported", refused
            assert "its files lie in memory (tmpfs), not on a disk" in refused.json["error"]["message"]
    finally:
        subprocess.run(["umount", at], check=True)
