# SPDX-License-Identifier: GPL-2.0-or-later
"""In the machine: steps of a class, in the order of their definition, as TAP.  Each goes on from
what the earlier ones left; names that begin with "_" and those in `_helpers` are no steps."""
import os
import re
import shutil
import sys
import time
import traceback

from node import Node

KERNEL = tuple(int(n) for n in re.match(r"(\d+)\.(\d+)", os.uname().release).groups())


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def install():
    """On the machine's own disk, as an installed Terem is."""
    build = "/data/terem"
    for name in ("terem", "teremd", "terem-keep", "terem-init"):
        os.makedirs(f"{build}/src/programs/{name}", exist_ok=True)
        shutil.copy(f"/work/build/src/programs/{name}/{name}", f"{build}/src/programs/{name}/")
    shutil.rmtree(f"{build}/libexec", ignore_errors=True)  # links are not copied over links
    shutil.copytree("/work/build/libexec", f"{build}/libexec", symlinks=True)
    return build


class Steps:
    """What the classes of steps have in common; none of it is a step."""

    def __init__(self, node):
        self.node = node

    def cgroup(self, name, file):
        return read(f"/sys/fs/cgroup/{self.node.cgroup_name}/ve-{self.node.show(name)['id']}/{file}")


def run(kind):
    names = [name for name in vars(kind)
             if not name.startswith("_") and name not in getattr(kind, "_helpers", ())]
    print(f"1..{len(names)}")
    node = Node(install())
    steps, failed = kind(node), False
    try:
        for name in names:
            at = time.monotonic()
            if failed:
                print(f"not ok - {name} # was not reached", flush=True)
                continue
            try:
                getattr(steps, name)()
                print(f"ok - {name} # {time.monotonic() - at:.1f} s", flush=True)
            except Exception:  # pylint: disable=broad-except
                failed = True
                for line in (traceback.format_exc() + node.words()).splitlines():
                    print("#", line)
                print(f"not ok - {name}", flush=True)
    finally:
        node.close()
    sys.exit(failed)
