# SPDX-License-Identifier: GPL-2.0-or-later
"""A server whose guarantee is a quarter of a node's memory, while ten neighbours stream.

cgroup v2 is measured in a machine (tests/vm/run --only memory).  Here: cgroup v1, in plain cgroups
under one whose limit plays a small node, with nothing done, with soft limits, and with the
neighbours under a limit of their own, which Terem does not do: what it sets aside nobody can
borrow.
"""
import os
import shutil
import statistics
import subprocess
import threading
import time

TITLE = "Request rate of a server while ten neighbours stream (cgroup v1, a node of 256 MB)"
TOP = "/sys/fs/cgroup/memory"
NODE, GUARANTEE, FILE, OWN, NEIGHBOURS, RATE = 256 << 20, 64 << 20, 48, 9, 10, 200
TIMES = 8  # the node's memory: more than the promise's 4, so that it lasts some seconds


class Small:
    """A memory cgroup that plays a node."""

    def __init__(self, bench, design):
        self.program = os.path.join(bench.options.build, "src/resource/bench_memory")
        self.top = f"{TOP}/terem-small-{os.getpid()}"
        self.files = os.path.join(bench.work, design)
        self.rest = self.top + "/rest" if design == "apart" else self.top
        self.groups = [self.top + "/victim"] + [f"{self.rest}/n{i}" for i in range(NEIGHBOURS)]
        self.processes = []
        os.mkdir(self.files)
        os.mkdir(self.top)
        self.write(self.top, "memory.limit_in_bytes", NODE)
        if design == "apart":
            os.mkdir(self.rest)
            self.write(self.rest, "memory.limit_in_bytes", NODE - GUARANTEE)
        for group in self.groups:
            os.mkdir(group)
            if design == "soft":
                self.write(group, "memory.soft_limit_in_bytes",
                           GUARANTEE if group == self.groups[0] else 0)

    @staticmethod
    def write(group, file, value):
        with open(f"{group}/{file}", "w", encoding="ascii") as out:
            out.write(str(value))

    def start(self, group, *args):
        process = subprocess.Popen(
            ["sh", "-c", f"echo $$ >{group}/cgroup.procs; exec \"$@\"", "sh", self.program,
             *map(str, args)], stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def measure(self):
        """Requests a second, of those before; and the smallest part of the files in memory."""
        server = self.start(self.groups[0], "serve", self.files + "/file", FILE, 600, RATE)
        assert server.stdout.readline() == "warm\n"
        seen = []
        threading.Thread(target=lambda: seen.extend(
            (time.monotonic(), *map(int, line.split())) for line in server.stdout),
            daemon=True).start()
        time.sleep(5)
        begin = time.monotonic()
        pressing = [self.start(group, "press", f"{self.files}/{i}", OWN,
                               TIMES * (NODE >> 20) // NEIGHBOURS)
                    for i, group in enumerate(self.groups[1:])]
        assert all(process.wait() == 0 for process in pressing)
        end = time.monotonic()
        quiet = [n for at, n, _, _ in seen if at < begin][1:]
        busy = [(n, share) for at, n, _, share in seen if begin + 1 < at < end]
        return (statistics.mean(n for n, _ in busy) / statistics.mean(quiet),
                min(share for _, share in busy))

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
        for group in [*self.groups, *({self.rest} - {self.top}), self.top]:
            for _ in range(100):
                try:
                    os.rmdir(group)
                    break
                except OSError:
                    time.sleep(0.02)
        shutil.rmtree(self.files, ignore_errors=True)


def run(bench):
    if not os.path.exists(TOP + "/memory.limit_in_bytes"):
        bench.note("memory: no cgroup v1 here; see tests/vm/run --only memory")
        return
    for design, name in (("none", "nothing done"), ("soft", "soft limits"),
                         ("apart", "neighbours under a limit of their own")):
        found = []
        for _ in range(3):
            small = Small(bench, design)
            try:
                found.append(small.measure())
            finally:
                small.close()
        bench.row("memory", f"{name}: of the quiet request rate (median of 3)", "%",
                  100 * statistics.median(rate for rate, _ in found), len(found))
        bench.row("memory", f"{name}: least part of the files that stayed in memory", "%",
                  min(share for _, share in found), len(found))
