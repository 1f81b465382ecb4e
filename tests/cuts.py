# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk of its own for an instance, whose power can be cut.

    with Disk() as disk, disk.mounted() as root:
        ... work below root, meanwhile disk.cut("name") ...
    with disk.mounted("name") as root:
        ... what is there after the power went at that instant ...

The disk is a file on an xfs, and a cut is a copy of it in one instant (FICLONE): all that had
reached the disk by then, and nothing of what was only in memory.
"""
import contextlib
import fcntl
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time

FICLONE = 0x40049409
BTRFS_IOC_FORGET_DEV = 0x50009405


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


def unmount(at):
    """Mount namespaces that were made meanwhile, by others too, may hold what it lies on until they end."""
    for _ in range(100):
        if subprocess.run(["umount", at], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.05)
    run("umount", "-l", at)


def forget_devices():
    """btrfs knows copies of a file system by one number, and takes the last device that it saw."""
    with contextlib.suppress(OSError), open("/dev/btrfs-control", "rb") as control:
        fcntl.ioctl(control, BTRFS_IOC_FORGET_DEV, bytearray(4096))


class Disk:
    def __init__(self, size="2G"):
        self.size, self.top = size, None

    def __enter__(self):
        self.top = tempfile.mkdtemp(prefix="terem-", dir="/tmp")
        try:
            self.outer = os.path.join(self.top, "outer")
            os.mkdir(self.outer)
            os.mkdir(self.root)
            below = os.path.join(self.top, "below")
            run("truncate", "-s", "24G", below)
            run("mkfs.xfs", "-q", "-s", "size=4096", below)
            run("mount", "-o", "loop,noatime", below, self.outer)
            run("truncate", "-s", self.size, self.image())
            run("mkfs.ext4", "-q", self.image())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused):
        for at in (self.root, self.outer):
            if os.path.ismount(at):
                unmount(at)
        shutil.rmtree(self.top)

    @property
    def root(self):
        return os.path.join(self.top, "r")

    def image(self, name="disk"):
        return os.path.join(self.outer, name)

    @contextlib.contextmanager
    def mounted(self, name="disk"):
        run("mount", "-o", "loop", self.image(name), self.root)
        try:
            yield self.root
        finally:
            unmount(self.root)

    def cut(self, name):
        with open(self.image(), "rb") as disk, open(self.image(name), "wb") as copy:
            fcntl.ioctl(copy, FICLONE, disk.fileno())

    def drop(self, name):
        os.unlink(self.image(name))


def booted(root):
    """The machine has started since: what lies in memory alone is gone, and its number is another."""
    shutil.rmtree(os.path.join(root, "run"), ignore_errors=True)
    forget_devices()
    with contextlib.closing(sqlite3.connect(os.path.join(root, "lib/registry.db"))) as db, db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.execute("UPDATE meta SET value = 'before' WHERE key = 'boot'")
