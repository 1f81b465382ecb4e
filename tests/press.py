# SPDX-License-Identifier: GPL-2.0-or-later
"""A server with a warm set of files, and ten neighbours that allocate and stream.

Used by tests/vm, which asserts what the kernel counts, and by the bench, which tells the rate.
"""
import re
import statistics
import time

NEIGHBOURS = 10
WAIT = 600


class Press:
    def __init__(self, node, program, node_mb, guarantee_mb, file_mb, own_mb, rate):
        self.node, self.program = node, program
        self.node_mb, self.guarantee_mb = node_mb, guarantee_mb
        self.file_mb, self.own_mb, self.rate = file_mb, own_mb, rate

    def lines(self, name):
        return self.node.sh(name, "cat /root/out 2>/dev/null; true").splitlines()

    def wait(self, name, done):
        deadline = time.monotonic() + WAIT
        while not done(self.lines(name)):
            assert time.monotonic() < deadline, f"{name}: {self.lines(name)[-3:]}"
            time.sleep(0.5)

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

    def begin(self, name, *args, **params):
        self.node.ve(name, params=params)
        self.node.terem("push", name, self.program, "/root/program")
        self.node.sh(name, f"/root/program {' '.join(map(str, args))} >/root/out 2>&1 </dev/null &")

    def measure(self, guarantee):
        """What the server did while the neighbours pressed, in relation to before."""
        names = [f"n{i}" for i in range(NEIGHBOURS)]
        more = {"memory.guarantee": f"{self.guarantee_mb}M"} if guarantee else {}
        try:
            # The processor is not what is measured.
            self.begin("victim", "serve", "/root/file", self.file_mb, 3600, self.rate,
                       **{"cpu.weight": "10000"}, **more)
            self.wait("victim", lambda lines: len(lines) > 8)
            quiet = [int(line.split()[0]) for line in self.lines("victim")[3:]]
            refaulted = self.refaulted("victim")
            for name in names:
                self.begin(name, "press", "/root/file", self.own_mb, 4 * self.node_mb // NEIGHBOURS)
            begun = len(self.lines("victim"))
            for name in names:
                self.wait(name, lambda lines: lines and lines[-1] != "held")
            lines = [line.split() for line in self.lines("victim")]
            for name in names:
                assert self.lines(name)[-1] == "done", (name, self.lines(name))
            busy = lines[begun:] or lines[-1:]
            return {"ratio": round(statistics.mean(int(n) for n, _, _ in busy) /
                                   statistics.mean(quiet), 3),
                    "seconds": len(busy),
                    "major_faults": int(lines[-1][1]) - int(lines[begun - 1][1]),
                    "resident": min(int(share) for _, _, share in busy),
                    "refaulted_mb": (self.refaulted("victim") - refaulted) >> 20}
        finally:
            for name in ["victim", *names]:
                self.node.api("DELETE", f"/v1/ves/{name}?force=true&wait=true", timeout=WAIT)
