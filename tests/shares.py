# SPDX-License-Identifier: GPL-2.0-or-later
"""Twenty VEs with guarantees of the processor from 1% to 40%, all busy with four processes each:
what each gets of what it was promised.  For the benches and for the machines of tests/vm.

    crowd = Crowd(node)         # makes and starts them, idle
    print(crowd.alone(10))      # the largest alone: part of all cores
    crowd.go()
    for guarantee, ratio in crowd.measure(10): …
"""
import os
import signal
import time

GUARANTEES = [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 8, 8, 10, 12, 15, 20, 25, 40]
CORES = 2  # that these are made for: on more, each is that much larger
THREADS = 4
# Idle until it is told: what is busy already would slow the start of the others.
COMMAND = """trap : USR1; sleep 100000 & wait
for i in $(seq {}); do (while :; do :; done) & done; wait; wait"""


def busy():
    """Processor time of the whole machine in seconds: used, and idle."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK"), idle / os.sysconf("SC_CLK_TCK")


class Crowd:
    def __init__(self, node, guarantees=None, threads=THREADS, reserve=10):
        self.node, self.cores = node, os.cpu_count()
        scale = self.cores / CORES
        self.guarantees = [g * scale for g in guarantees or GUARANTEES]
        self.kept = 100 * self.cores - reserve  # what may be guaranteed
        self.names = [f"g{i:02}" for i in range(len(self.guarantees))]
        node.template()
        for name, guarantee in zip(self.names, self.guarantees):
            node.ve(name, kind="app", command=["/bin/sh", "-c", COMMAND.format(threads)],
                    params={"cpu.guarantee": f"{guarantee:.2f}"})

    def tell(self, names):
        for name in names:
            os.kill(self.node.show(name)["pid"], signal.SIGUSR1)

    def go(self, settle=5):
        self.tell(self.names)
        time.sleep(settle)

    def used(self):
        return {ve["name"]: ve["usage"]["cpu_usec"] / 1e6 for ve in self.node.ok("GET", "/v1/ves")
                if ve["usage"]}

    def measure(self, seconds):
        """[(guarantee in percent, what was got of it)], and the part of the machine that all had
        together.  Where programs of the machine itself took more than its reserve, what VEs got is
        compared with their part of what was left."""
        at, before = time.monotonic(), self.used()
        time.sleep(seconds)
        took, after = time.monotonic() - at, self.used()
        got = [100 * (after[name] - before[name]) / took for name in self.names]
        # The clock of a machine whose processors take turns makes it more than all now and then.
        there = max(min(1, sum(got) / self.kept), sum(got) / 100 / self.cores)
        return ([(g, used / g / there) for g, used in zip(self.guarantees, got)],
                sum(got) / 100 / self.cores)

    def alone(self, seconds, settle=3):
        """The largest one busy alone: its part of all cores, and of what the machine's own programs
        left of them: what nobody used it should have had."""
        name = self.names[-1]
        self.tell([name])
        time.sleep(settle)
        at, before, idle_before = time.monotonic(), self.used()[name], busy()[1]
        time.sleep(seconds)
        used, idle = self.used()[name] - before, busy()[1] - idle_before
        return used / (time.monotonic() - at) / self.cores, used / (used + idle)
