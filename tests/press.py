# SPDX-License-Identifier: GPL-2.0-or-later
"""A server with a warm set of files, and ten neighbours that allocate and stream.

Used by tests/vm, which asserts what the kernel counts and tells the rate.
"""
import re
import statistics

from node import wait_for

NEIGHBOURS = 10
MOST_ROUNDS = 8
WAIT = 600


def least(lines):
    """Percent of its files that the server had in memory."""
    return min(int(line.split()[2]) for line in lines)


class Press:
    def __init__(self, node, program, guarantee_mb, file_mb, own_mb, rate):
        self.node, self.program = node, program
        self.guarantee_mb = guarantee_mb
        self.file_mb, self.own_mb, self.rate = file_mb, own_mb, rate
        self.said = {}  # what each program said, by name

    def lines(self, name):
        """Read from outside: a command inside would press, too."""
        try:
            with open(self.said[name], encoding="ascii") as file:
                return [line for line in file.read().splitlines(True) if line.endswith("\n")]
        except FileNotFoundError:
            return []

    def wait(self, done):
        wait_for(done, lambda: {name: self.lines(name)[-3:] for name in self.said}, timeout=WAIT)

    def refaulted(self, name):
        """Bytes that came back after they had been taken away."""
        node_id = self.node.show(name)["id"]
        for top in (f"/sys/fs/cgroup/{self.node.cgroup_name}",
                    f"/sys/fs/cgroup/memory/{self.node.cgroup_name}"):
            try:
                with open(f"{top}/ve-{node_id}/memory.stat", encoding="ascii") as file:
                    return 4096 * int(re.search(r"^workingset_refault_file (\d+)", file.read(),
                                                re.M)[1])
            except OSError:
                continue
        raise AssertionError("there is no memory.stat")

    def begin(self, name, **params):
        self.node.ve(name, params=params)
        self.said[name] = f"/proc/{self.node.show(name)['pid']}/root/root/out"
        self.node.terem("push", name, self.program, "/root/program")

    def run(self, name, *args):
        self.node.sh(name, f"rm -f /root/out; /root/program {' '.join(map(str, args))} "
                           ">/root/out 2>&1 </dev/null &")

    def press(self, names, total_mb):
        """All neighbours, until each has streamed so much."""
        for name in names:
            self.run(name, "press", "/root/file", self.own_mb, total_mb)
        self.wait(lambda: all(self.lines(name)[-1:] not in ([], ["held\n"]) for name in names))
        for name in names:
            assert self.lines(name)[-1] == "done\n", (name, self.lines(name))

    def measure(self, guarantee, total_mb, rounds=MOST_ROUNDS, until=0):
        """What the server did while the neighbours pressed, in relation to before: in so many
        rounds, or until no more than that part of its files was left."""
        names = [f"n{i}" for i in range(NEIGHBOURS)]
        more = {"memory.guarantee": f"{self.guarantee_mb}M"} if guarantee else {}
        self.said = {}
        try:
            # The processor is not what is measured.
            self.begin("victim", **{"cpu.weight": "10000"}, **more)
            for name in names:
                self.begin(name)
            self.run("victim", "serve", "/root/file", self.file_mb, 3600, self.rate)
            self.wait(lambda: len(self.lines("victim")) > 8)
            calm = len(self.lines("victim"))
            refaulted = self.refaulted("victim")
            for done in range(1, rounds + 1):
                self.press(names, total_mb)
                self.wait(lambda: len(self.lines("victim")) > calm)
                if least(self.lines("victim")[calm:]) <= until:
                    break
            lines = self.lines("victim")
            quiet, busy = ([int(line.split()[0]) for line in some]
                           for some in (lines[3:calm], lines[calm:]))
            faults = [int(lines[at].split()[1]) for at in (calm - 1, -1)]
            return {"ratio": round(statistics.mean(busy) / statistics.mean(quiet), 3),
                    "seconds": len(busy),
                    "rounds": done,
                    "major_faults": faults[1] - faults[0],
                    "resident": least(lines[calm:]),
                    "refaulted_mb": (self.refaulted("victim") - refaulted) >> 20}
        finally:
            for name in ["victim", *names]:
                self.node.api("DELETE", f"/v1/ves/{name}?force=true&wait=true", timeout=WAIT)
