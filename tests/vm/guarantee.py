#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""In the machine: what 20 busy VEs get of their guarantees with cgroup v2.  Prints TAP.

The machine's clock counts its instructions: what else the host does cannot show.  Its two
processors take turns, so that shares are rather coarse: over half a minute that does not show.
"""
import sys

sys.path[:0] = ["/work/tests", "/work/tests/vm"]
from shares import Crowd  # noqa: E402
from steps import run  # noqa: E402

SECONDS = 30


class Guarantee:
    def __init__(self, node):
        self.node = node
        self.crowd = None

    def start(self):
        self.node.start()
        self.crowd = Crowd(self.node)

    def one_alone_has_both_cores(self):
        _, alone = self.crowd.alone(SECONDS / 3)
        print(f"# alone: {alone:.4f} of what it and idleness had of both cores")
        assert alone >= 0.98, alone

    def all_have_their_guarantees(self):
        self.crowd.go()
        worst = []
        for _ in range(2):
            ratios, total = self.crowd.measure(SECONDS)
            worst.append(min(ratio for _, ratio in ratios))
            print(f"# the worst of 20 VEs got {worst[-1]:.4f} of its guarantee; all together "
                  f"{total:.3f} of the machine")
            print("# " + " ".join(f"{g:.0f}:{r:.2f}" for g, r in ratios), flush=True)
        assert max(worst) >= 0.97, worst


run(Guarantee)
