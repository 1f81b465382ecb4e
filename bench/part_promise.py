# SPDX-License-Identifier: GPL-2.0-or-later
"""The victim's p99 while five neighbours attack at once (tests/attack/promise)."""
import json
import os
import subprocess

TITLE = "The promise under attack: fork bomb, memory hog, disk filler, socket hoarder, packet flood"
PROMISE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "attack",
                       "promise")


def run(bench):
    path = os.path.join(bench.work, "promise.json")
    said = subprocess.run([PROMISE, "--build", bench.options.build, "--seconds", "20", "--json",
                           path], check=False, capture_output=True, text=True)
    if not os.path.exists(path):
        raise RuntimeError((said.stdout + said.stderr)[-500:])
    with open(path, encoding="ascii") as file:
        found = json.load(file)
    bench.row("promise", "the victim's p99, neighbours quiet", "ms", found["quiet_p99_us"] / 1e3,
              of=1.0)
    bench.row("promise", "the victim's p99, attacked", "ms", found["attacked_p99_us"] / 1e3,
              of=found["ratio"])
    bench.row("promise", "the operator's slowest answer", "s", found["operator_worst_s"],
              found["operator_answers"])
    bench.row("promise", "requests without an answer", "", found["lost"], found["requests"])
    for name, row in found["refused"].items():
        bench.row("promise", f"{name}: refused, {row['key']}", "", row["failcnt"] or 0)
    for line in said.stdout.splitlines():
        if line.startswith(("not kept", "not here")):
            bench.note(line)
