# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshot, rollback and clone of a VE with 2 GiB on btrfs, beside the bare ioctl and lxc-copy -s.

All work on the same file system, an image that Terem made, and on the same subvolume, the VE's;
lxc-copy on a copy of it.  What a measurement made is deleted between measurements and not counted.
The bare ioctl is what none can go below: BTRFS_IOC_SNAP_CREATE_V2 waits for a commit of the file
system.  The snapshots are of a VE that runs: Terem freezes and thaws it."""
import os
import shutil
import subprocess
import time

import peers

TITLE = "Snapshot, rollback and clone of 2 GiB (btrfs in an image)"
SIZE_MB = 2048


class LxcCopy:
    """lxc-copy -s of a container whose root is a subvolume with the same files."""

    def __init__(self, path, source):
        self.path, self.n = path, 0
        base = os.path.join(path, "base")
        os.makedirs(base)
        root = os.path.join(base, "rootfs")
        subprocess.run(["btrfs", "subvolume", "snapshot", source, root], check=True,
                       stdout=subprocess.DEVNULL)
        with open(os.path.join(base, "config"), "w", encoding="ascii") as config:
            config.write(f"lxc.uts.name = base\nlxc.rootfs.path = btrfs:{root}\n")

    def run(self):
        self.n += 1
        name = f"copy{self.n}"
        at = time.monotonic()
        peers.call(["/usr/bin/lxc-copy", "-P", self.path, "-p", self.path, "-n", "base", "-N", name,
                    "-s", "-B", "btrfs"], env=peers.LXC_PATH)
        took = time.monotonic() - at
        peers.call(["/usr/bin/lxc-destroy", "-P", self.path, "-n", name], env=peers.LXC_PATH)
        return took

    def close(self):
        for name in os.listdir(self.path):
            root = os.path.join(self.path, name, "rootfs")
            if os.path.isdir(root):
                subprocess.run(["btrfs", "subvolume", "delete", root], check=False,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.path, ignore_errors=True)


def run(bench):
    from node import Node
    node = bench.own(Node(bench.options.build)).start()
    node.terem("pool", "create", "cow", "--driver", "btrfs", "--size", "6G")
    ids = {}
    for name in ("still", "busy"):
        ids[name] = node.ve(name, start=name == "busy", pool="cow")["id"]
    node.terem("start", "still")
    node.sh("busy", f"dd if=/dev/urandom of=/root/data bs=1M count={SIZE_MB} 2>/dev/null; sync /root/data",
            timeout=600)
    node.terem("kill", "still")
    # Both have the same 2 GiB.
    node.job("POST", "/v1/ves/busy/snapshots", {"name": "base"})
    node.terem("destroy", "still")
    node.job("POST", "/v1/ves/busy/clone", {"name": "still"})
    node.job("POST", "/v1/ves/still/snapshots", {"name": "base"})
    pool = node.pool("cow")
    own = os.path.join(pool, "bench")
    os.mkdir(own)
    bare = bench.own(peers.Bare(os.path.join(pool, str(ids["busy"])), own))
    line = node.connection()
    bench.closing.append(line.close)

    def ask(method, path, body=None):
        answer = node.api(method, path, body, connection=line)
        if answer.status >= 300:
            raise RuntimeError(str(answer))

    def timed(method, path, body=None):
        at = time.monotonic()
        ask(method, path, body)
        return time.monotonic() - at

    def snapshot():
        took = timed("POST", "/v1/ves/busy/snapshots?wait=true", {"name": "b"})
        ask("DELETE", "/v1/ves/busy/snapshots/b")
        return took

    def rollback():
        return timed("POST", "/v1/ves/still/rollback?wait=true", {"snapshot": "base"})

    def clone():
        took = timed("POST", "/v1/ves/busy/clone?wait=true", {"name": "copy"})
        ask("DELETE", "/v1/ves/copy?wait=true")
        return took

    contenders = {"the bare ioctl": bare.create}
    try:
        lxc = bench.own(LxcCopy(os.path.join(pool, "bench-lxc"),
                                os.path.join(pool, str(ids["busy"]))))
        lxc.run()
        contenders["lxc-copy -s"] = lxc.run
    except (OSError, RuntimeError, subprocess.CalledProcessError) as cause:
        bench.note(f"snapshot: lxc-copy -s left out: {cause}")
    contenders.update({"terem: snapshot of one that runs": snapshot, "terem: rollback": rollback,
                       "terem: clone of one that runs": clone})
    bench.rounds("snapshot", contenders)
    os.rmdir(own)
