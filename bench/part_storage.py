# SPDX-License-Identifier: GPL-2.0-or-later
"""Pools by themselves: copies of trees on btrfs beside the bare ioctl, with 200 MiB and 2 GiB; copies
on the host's own file system beside `cp -a`; what a tree takes on the disk before it is written to;
removal of 100 trees.

The bare ioctl is made on the same subvolume, and what it made is deleted uncounted.
"""
import os
import shutil
import subprocess
import time

import peers

TITLE = "Trees: copied, removed, and what they take"
TREES = 100


class Pool:
    def __init__(self, bench, driver, image=None, size=0):
        self.path = os.path.join(bench.work, f"storage-{driver}")
        argv = [os.path.join(bench.options.build, "src/storage/bench_storage"), driver, self.path]
        self.image = image and os.path.join(bench.work, image)
        if image:
            argv += [self.image, str(size)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.wait()

    def wait(self):
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("bench_storage failed")

    def do(self, what, *numbers):
        print(what, *numbers, file=self.process.stdin, flush=True)
        took = self.process.stdout.readline()
        self.wait()
        return float(took)

    def close(self):
        self.process.communicate("end\n")
        return [] if self.process.returncode == 0 else [f"the pool {self.path} is left"]


def fill(path, megabytes):
    """Files of a megabyte, and a small one beside each."""
    block = os.urandom(1 << 20)
    for i in range(megabytes):
        folder = os.path.join(path, f"d{i % 50}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"big{i}"), "wb") as file:
            file.write(block)
        with open(os.path.join(folder, f"small{i}"), "wb") as file:
            file.write(block[:900])
    os.sync()


def bare(pool, tree):
    one = peers.Bare(os.path.join(pool.path, str(tree)), pool.path)
    try:
        return one.create()
    finally:
        one.close()


def on_btrfs(bench):
    pool = bench.own(Pool(bench, "btrfs", "storage.img", 6 << 30))
    numbers = iter(range(1000, 1000000))
    pool.do("trash")
    os.sync()
    stat = os.statvfs(pool.path)
    for tree in range(100, 100 + TREES):
        pool.do("create", tree)
    os.sync()
    taken = (stat.f_bfree - os.statvfs(pool.path).f_bfree) * stat.f_frsize / TREES
    bench.row("storage", "btrfs: a tree before it is written to", "KiB", taken / 1024, n=TREES)
    bench.row("storage", "btrfs: removal of 100 trees", "ms",
              1000 * sum(pool.do("remove", tree) for tree in range(100, 100 + TREES)), n=TREES)
    bench.row("storage", "btrfs: their trash", "ms", 1000 * pool.do("trash"))
    for tree, megabytes in ((1, 200), (2, 2048)):
        pool.do("create", tree)
        fill(os.path.join(pool.path, str(tree), "upper"), megabytes)
        saved, target = next(numbers), tree + 10
        pool.do("save", tree, saved)
        pool.do("restore", saved, target)

        def save(tree=tree):
            number = next(numbers)
            took = pool.do("save", tree, number)
            pool.do("forget", number)
            return took

        def clone(tree=tree):
            number = next(numbers)
            took = pool.do("clone", tree, number)
            pool.do("remove", number)
            return took

        def restore(saved=saved, target=target):
            return pool.do("restore", saved, target)

        bench.rounds(f"storage, btrfs, {megabytes} MiB", {
            "the bare ioctl": lambda tree=tree: bare(pool, tree), "save": save, "restore": restore,
            "clone": clone})


def on_host(bench):
    pool = bench.own(Pool(bench, "dir"))
    pool.do("create", 1)
    source = os.path.join(pool.path, "1", "upper")
    fill(source, 300)
    copy = os.path.join(bench.work, "storage-cp")
    numbers = iter(range(1000, 1000000))

    def cp():
        at = time.monotonic()
        subprocess.run(["cp", "-a", source, copy], check=True)
        subprocess.run(["sync", "-f", copy], check=True)  # a copy of a pool is on the disk
        took = time.monotonic() - at
        shutil.rmtree(copy)
        return took

    def save():
        number = next(numbers)
        took = pool.do("save", 1, number)
        pool.do("forget", number)
        pool.do("trash")
        return took

    bench.rounds("storage, dir, 300 MiB", {"cp -a and sync -f": cp, "save": save}, rounds=5)
    bare_path = os.path.join(pool.path, "bare")

    def bare_tree():
        at = time.monotonic()
        for folder in "", "upper", "work":
            os.mkdir(os.path.join(bare_path, folder))
        shutil.rmtree(bare_path)
        return time.monotonic() - at

    def tree():
        number = next(numbers)
        return pool.do("create", number) + pool.do("remove", number)

    bench.rounds("storage, dir, a tree", {"three mkdir and rmdir": bare_tree, "create and remove": tree})
    pool.do("trash")


def run(bench):
    on_btrfs(bench)
    on_host(bench)
