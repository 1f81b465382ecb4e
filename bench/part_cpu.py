# SPDX-License-Identifier: GPL-2.0-or-later
"""What 20 VEs, each with four busy processes, get of guarantees of the processor from 1% to 40%
(scaled where the machine has more than two cores), and what one of them gets alone.

The machine's own programs are part of the picture: how much they use is measured first.  Where they
take more than the node's reserve, VEs are compared with their part of what is left.
"""
import statistics
import time

from node import Node
from shares import Crowd, busy

TITLE = "20 VEs with guarantees of the processor from 1% to 40%, all busy"
SECONDS = 10
SHOWN = (0, 4, 9, 13, 16, 19)


def noise():
    """What the machine uses without any VE being busy, in percent of all cores."""
    used, idle = busy()
    time.sleep(SECONDS)
    used, idle = (after - before for after, before in zip(busy(), (used, idle)))
    return 100 * used / (used + idle)


def run(bench):
    node = bench.own(Node(bench.options.build)).start()
    crowd = Crowd(node)
    quiet = [noise() for _ in range(3)]
    bench.row("cpu", "the machine's own programs meanwhile, of all cores", "%",
              statistics.median(quiet))
    whole, left = crowd.alone(SECONDS)
    bench.row("cpu", "a VE alone gets of all cores", "%", 100 * whole)
    bench.row("cpu", "a VE alone gets of what the machine's own programs leave", "%", 100 * left)
    crowd.go()
    runs = [crowd.measure(SECONDS) for _ in range(max(5, bench.options.rounds // 4))]
    bench.row("cpu", "all VEs busy: together, of all cores (median)", "%",
              100 * statistics.median(total for _, total in runs), len(runs))
    worst = [100 * min(ratio for _, ratio in ratios) for ratios, _ in runs]
    bench.row("cpu", f"the worst VE gets of its guarantee (median of {len(runs)} times {SECONDS} s)",
              "%", statistics.median(worst), len(runs))
    bench.row("cpu", "the worst VE gets of its guarantee (worst time)", "%", min(worst), len(runs))
    for i in SHOWN:
        got = [100 * ratios[i][1] for ratios, _ in runs]
        bench.row("cpu", f"the VE with {crowd.guarantees[i]:.0f}% gets of it (median)", "%",
                  statistics.median(got), len(got))
