# SPDX-License-Identifier: GPL-2.0-or-later
"""A VE whose own files are all of a Debian system, backed up, beside tar and zstd on the same tree,
whose files are in the page cache, and (in a pool of the kind btrfs) beside tar and zstd of a fresh
snapshot of it, whose files are not: that is what a backup of one moment is by hand, and what Terem
packs.

All write into the same kind of file, without waiting for the disk, and both at the priority at
which Terem's workers do this (nice 10, last of best effort); what Terem does beside them (its
record, checksums of all parts, a list of files with the sum of each) is in its time.  Then the way
back: restore beside zstd and tar.
"""
import glob
import os
import shutil
import subprocess
import time

from node import ENV, Node

TITLE = "Backup and restore of a Debian VE, beside tar and zstd"
ROUNDS = 10
MODEST = ["nice", "-n", "10", "ionice", "-c", "2", "-n", "7", "sh", "-c"]


def timed(command, **more):
    begin = time.monotonic()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env=ENV,
                   stderr=subprocess.DEVNULL, **more)
    return time.monotonic() - begin


def run(bench):
    node = bench.own(Node(bench.options.build)).start()
    node.job("POST", "/v1/templates", {"name": "debian-12", "build": "debian-12"}, timeout=900)
    node.ve("web1", template="debian-12", start=False)
    ve = node.show("web1")
    top = os.path.join(node.pool(ve["pool"]), str(ve["id"]), "upper")
    for root in glob.glob(os.path.join(node.root, "lib/layers/sha256-*/root")):
        subprocess.run(["cp", "-a", root + "/.", top], check=True)
    terem = [node.cli, "--root", node.root, "--quiet"]
    ours, theirs, out = (os.path.join(bench.work, n) for n in ("ours", "theirs", "out"))

    def backup():
        with open(ours, "wb") as file:
            return timed([*terem, "backup", "web1", "-"], stdout=file)

    def tar():
        return timed([*MODEST, f"tar --xattrs --xattrs-include='*' -C {top} -cf - . | "
                               f"zstd -T0 -q >{theirs}"])

    def tar_snapshot():
        snapshot = os.path.join(node.pool(ve["pool"]), "bench-snapshot")
        took = timed(["btrfs", "subvolume", "snapshot", "-r", os.path.dirname(top), snapshot],
                     stdout=subprocess.DEVNULL)
        took += timed([*MODEST, f"tar --xattrs --xattrs-include='*' -C {snapshot}/upper -cf - . | "
                                f"zstd -T0 -q >{theirs}"])
        subprocess.run(["btrfs", "subvolume", "delete", snapshot], check=True,
                       stdout=subprocess.DEVNULL)
        return took

    def restore():
        took = timed([*terem, "restore", ours, "back"])
        node.job("DELETE", "/v1/ves/back")
        return took

    def untar():
        shutil.rmtree(out, ignore_errors=True)
        os.mkdir(out)
        return timed([*MODEST, f"zstd -dc {theirs} | tar --xattrs --xattrs-include='*' -C {out} "
                               f"-xf - && sync -f {out}"])

    contenders = {"tar | zstd -T0": tar}
    if node.ok("GET", "/v1/pools/" + ve["pool"])["driver"] == "btrfs":
        contenders["tar | zstd -T0 of a fresh snapshot"] = tar_snapshot
    bench.rounds("backup", {**contenders, "terem backup": backup}, ROUNDS)
    bench.rounds("backup", {"zstd -d | tar x, synced": untar, "terem restore": restore}, ROUNDS // 2)
    bench.row("backup", "size of the file, to that of tar | zstd", "", os.path.getsize(ours),
              of=os.path.getsize(ours) / os.path.getsize(theirs))
