# SPDX-License-Identifier: GPL-2.0-or-later
"""Idle VEs of Terem beside the floor (floor.c), each in a machine that has just booted: QEMU with
Debian's kernels and cgroup v2 alone, as tests/vm boots them.  What a kernel remembers of earlier
mounts, or holds for other programs, is in nobody's sum; that the processor is emulated does not
change what is allocated.

run() boots them.  Inside, this file is the program: booted.py WHO COUNT, which prints JSON.
"""
import concurrent.futures
import importlib.machinery
import importlib.util
import json
import os
import shutil
import sys

import peers
from node import Node
from part_density import Weighing, bulk, make

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.join(HERE, "..", "tests")
PROGRAMS = {"floor.c": (), "pause.c": ("-static", "-nostdlib", "-ffreestanding")}  # there is no compiler inside
MEGABYTES, EACH = 1024, 2  # of a machine: for itself, and for each VE
SECONDS = 7200  # until one has said what it saw: with 1,000 VEs about a quarter of an hour
CONTENDERS = {"floor": "the floor", "terem": "terem"}
PARTS = {"stack": "kernel_stack", "page tables": "pagetables", "slab": "slab", "for each processor": "percpu"}
LEAST = 0.5  # KB of a slab cache for each VE that is told


# ---- in the machine ----

def slabs():
    """KB of each slab cache (slabinfo(5))."""
    with open("/proc/slabinfo", encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[2:]]
    return {row[0]: int(row[14]) * int(row[5]) * 4 for row in rows}


def memory_stat(cgroup):
    """KB that a cgroup and those below it are charged."""
    with open(f"/sys/fs/cgroup/{cgroup}/memory.stat", encoding="ascii") as file:
        return {key: int(value) / 1024 for key, value in map(str.split, file)}


def less(after, before, count):
    return {key: (value - before.get(key, 0)) / count for key, value in after.items()}


def begin_floor(work, count, root):
    floor = peers.Floor(work, "terembg", count, root)
    return floor.start, lambda: "terembg"


def begin_terem(_work, count, root):
    from steps import install  # pylint: disable=import-outside-toplevel # of tests/vm
    node = Node(install()).start()
    node.job("POST", "/v1/templates", {"name": "pause", "import": root})
    make(node, count, "pause")
    return lambda: bulk(node, "start", timeout=SECONDS), lambda: node.cgroup_name


def inside(who, count):
    """Nothing is taken away: the machine ends."""
    work = "/data/bench-work"
    shutil.copytree("/data/made", work)
    start, cgroup = {"floor": begin_floor, "terem": begin_terem}[who](work, count, peers.pause_root(work))
    weight, slab_before = Weighing(), slabs()
    start()
    weight.settle()
    print(json.dumps({"taken": weight.taken / count, "kernel": weight.kernel / count,
                      "slabs": less(slabs(), slab_before, count),
                      "stat": less(memory_stat(cgroup()), {}, count)}))


# ---- on the host ----

def machines(bench):
    """The images of tests/vm, built where they are not there, and what boots one."""
    path = os.path.join(TESTS, "vm", "run")
    spec = importlib.util.spec_from_loader("vm_run", importlib.machinery.SourceFileLoader("vm_run", path))
    vm = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(vm)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    build = os.path.abspath(bench.options.build)
    image = vm.Image(os.environ.get("TEREM_VM_CACHE") or os.path.join(build, "vm"), build,
                     [os.path.join(build, name.split()[0]) for name in vm.PROGRAMS + vm.UNITS])
    if not image.ready():
        image.build()
    image.use()
    return vm, image


def weigh(bench, vm, image, kernel, who, count, begun):
    folders = {"build": os.path.abspath(bench.options.build), "tests": TESTS, "bench": HERE,
               "made": os.path.join(bench.work, "made")}
    lines = []
    with vm.Machine(image, kernel, folders, memory=MEGABYTES + EACH * count) as machine:
        begun.append(machine)
        status = machine.run("PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/work/tests:/work/tests/vm "
                             f"python3 /data/bench/booted.py {who} {count}", lines.append, SECONDS)
        if status:
            raise RuntimeError(f"{who} on {kernel}: exit {status}: " + "\n".join(lines[-30:]))
    return json.loads(lines[-1])


def show(bench, kernel, count, seen):
    floor = seen["floor"]
    for who, name in CONTENDERS.items():
        one = seen[who]
        what = f"{name}, Linux {kernel}, cgroup v2"
        bench.row("density", f"{what}: each of {count} idle VEs", "KB", one["taken"], of=one["taken"] / floor["taken"])
        bench.row("density", f"{what}: of it in the kernel", "KB", one["kernel"], of=one["kernel"] / floor["kernel"])
        for part, key in PARTS.items():
            bench.row("density", f"{what}: charged, {part}", "KB", one["stat"][key])
    apart = less(seen["terem"]["slabs"], floor["slabs"], 1)
    told = sorted(((kb, cache) for cache, kb in apart.items() if abs(kb) >= LEAST), reverse=True)
    bench.note(f"Linux {kernel}, {count} VEs: slab caches of terem's above the floor's, KB of a VE: " +
               ", ".join(f"{cache} {kb:+.1f}" for kb, cache in told))


def run(bench, count):
    vm, image = machines(bench)
    made = os.path.join(bench.work, "made")
    os.makedirs(made)
    for source, flags in PROGRAMS.items():
        peers.compile_own(made, source, *flags)
    for kernel in vm.KERNELS:
        begun = []
        with concurrent.futures.ThreadPoolExecutor(len(CONTENDERS)) as pool:
            asked = {who: pool.submit(weigh, bench, vm, image, kernel, who, count, begun) for who in CONTENDERS}
            try:
                seen = {who: one.result() for who, one in asked.items()}
            except BaseException:  # also a signal: the threads clean up when their machines are gone
                for machine in begun:
                    if machine.process:
                        machine.process.kill()
                raise
        show(bench, kernel, count, seen)


if __name__ == "__main__":
    inside(sys.argv[1], int(sys.argv[2]))
