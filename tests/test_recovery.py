# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 of teremd at random instants, and what is true afterwards.

CHURN_KILLS kills in all, spread over three kinds of churn; after each the daemon starts again and
must tell the truth: a VE that is called running has a process, one that is called stopped has
none, and what no VE owns does not exist.
"""
import http.client
import json
import os
import random
import re
import select
import threading
import time

import pytest

from node import Node
from test_exec import Terminal

CHURN_KILLS = int(os.environ.get("TEREM_KILLS", "210"))
VES = 30


def truth(node):
    """Compares what teremd says with what the kernel and the disk have."""
    ves = node.ok("GET", "/v1/ves")
    ids = {ve["id"] for ve in ves}
    for ve in ves:
        assert ve["state"] in ("stopped", "running", "paused"), (ve["name"], ve["state"], ve.get("broken"))
        if ve["state"] == "stopped":
            assert ve["pid"] is None, ve
        else:
            with open(f"/proc/{ve['pid']}/cgroup", encoding="ascii") as file:
                assert f"/{node.cgroup_name}/ve-{ve['id']}" in file.read(), ve
    up = {ve["id"] for ve in ves if ve["state"] != "stopped"}
    deadline = time.monotonic() + 10
    while True:
        cgroups = {int(re.search(r"ve-(\d+)", path)[1]) for path in node.cgroups()
                   if re.search(r"ve-(\d+)$", path)}
        cables = {int(name.rpartition("-")[2]) for name in node.interfaces()}
        pool = os.path.join(node.root, "lib/pool")
        trees = {int(name) for name in os.listdir(pool) if name.isdigit()}
        inside = set()
        for pid, command in node.processes():
            try:
                with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
                    inside |= {int(n) for n in re.findall(rf"/{node.cgroup_name}/ve-(\d+)", file.read())}
            except OSError:
                pass
        wrong = [(what, sorted(have ^ want)) for what, have, want in (
            ("cgroups", cgroups, up), ("cables", cables, up), ("trees", trees, ids),
            ("processes", inside, up)) if have != want]
        if not wrong:
            break
        assert time.monotonic() < deadline, f"orphans or losses: {wrong}\n{node.words()}"
        time.sleep(0.05)
    assert not node.odd_mounts()
    layers = [n for n in os.listdir(os.path.join(node.root, "lib/layers")) if n.startswith(".new")]
    assert not layers
    return ves


class Churn:
    """Clients that create, start, exec, stop and destroy VEs without end, and take every error
    that a daemon's death explains."""

    def __init__(self, node, seed, workers=4):
        self.node, self.random = node, random.Random(seed)
        self.halt = threading.Event()
        self.strange, self.done = [], 0
        self.threads = [threading.Thread(target=self.work, args=(random.Random(seed * 100 + n),),
                                         daemon=True) for n in range(workers)]
        for thread in self.threads:
            thread.start()

    def work(self, dice):
        while not self.halt.is_set():
            name = f"c{dice.randrange(VES)}"
            step = dice.choice(["create", "start", "start", "exec", "exec", "stop", "kill", "pause",
                                "destroy"])
            try:
                self.step(dice, name, step)
                self.done += 1
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                time.sleep(0.005)  # teremd is dead just now

    def step(self, dice, name, step):
        node = self.node
        if step == "create":
            answer = node.api("POST", "/v1/ves", {"name": name, "template": "busybox",
                                                  "start": dice.random() < 0.7}, timeout=20)
        elif step == "exec":
            answer = node.api("POST", f"/v1/ves/{name}/exec", {"command": ["/bin/true"]}, timeout=20)
        elif step == "destroy":
            answer = node.api("DELETE", f"/v1/ves/{name}?force=true&wait=true", timeout=20)
        elif step == "pause":
            answer = node.api("POST", f"/v1/ves/{name}/pause?wait=true", timeout=20)
            node.api("POST", f"/v1/ves/{name}/resume?wait=true", timeout=20)
        else:
            answer = node.api("POST", f"/v1/ves/{name}/{step}?wait=true", {"timeout": 1}
                              if step == "stop" else None, timeout=20)
        if answer.status >= 500 and answer.error not in ("unavailable", "timeout"):
            self.strange.append(f"{step} {name}: {answer}")

    def stop(self):
        self.halt.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"


def test_killed_during_churn(node):
    seed = int(os.environ.get("TEREM_SEED", time.time_ns() % 100000))
    print(f"TEREM_SEED={seed}")
    dice = random.Random(seed)
    node.template()
    # Two that nobody touches: they must run through all of it, terminal included.
    first = {name: node.ve(name)["pid"] for name in ("calm", "term")}
    terminal = Terminal(node, "enter", "term")
    churn = Churn(node, seed)
    try:
        terminal.until(rb"[#$] ")
        for number in range(CHURN_KILLS):
            time.sleep(dice.choice([0, 0.002, 0.01, 0.03, 0.08, 0.2]) * dice.random())
            node.kill()
            node.start()
            if number % 10 == 0:
                terminal.type(b"echo alive-$((%d+0))\n" % number)
                terminal.until(rb"alive-%d\b" % number)
                assert {name: node.show(name)["pid"] for name in first} == first
            if number % 35 == 34:
                churn.stop()
                settle(node)
                truth(node)
                strange = churn.strange
                assert not strange, strange[:3]
                churn = Churn(node, seed + number)
        churn.stop()
        settle(node)
        ves = truth(node)
        assert {name: node.show(name)["pid"] for name in first} == first
        assert not churn.strange, churn.strange[:3]
        # Everybody that is left can still be used.
        for ve in ves:
            if ve["state"] == "paused":
                node.job("POST", f"/v1/ves/{ve['name']}/resume")
            elif ve["state"] == "stopped":
                node.job("POST", f"/v1/ves/{ve['name']}/start")
            node.run(ve["name"], "/bin/true")
        truth(node)
    finally:
        churn.halt.set()
        terminal.close()


def settle(node, timeout=30):
    """Until no job is open and no VE is on its way."""
    deadline = time.monotonic() + timeout
    while True:
        moving = [ve["name"] for ve in node.ok("GET", "/v1/ves")
                  if ve["state"] in ("starting", "stopping")]
        jobs = node.ok("GET", "/v1/jobs")
        if not moving and not jobs:
            return
        assert time.monotonic() < deadline, (moving, jobs, node.words())
        time.sleep(0.05)


@pytest.mark.parametrize("moment", [0, 0.002, 0.005, 0.01, 0.02, 0.05])
def test_killed_while_one_starts(node, moment):
    node.ve("web1", start=False)
    node.api("POST", "/v1/ves/web1/start")
    time.sleep(moment)
    node.kill()
    node.start()
    settle(node)
    truth(node)
    if node.state("web1") != "running":
        node.job("POST", "/v1/ves/web1/start")
    node.run("web1", "/bin/true")


@pytest.mark.parametrize("moment", [0.05, 0.3, 1, 3])
def test_killed_while_a_template_is_made(node, moment):
    """Import and build are whole or not there; what they were making goes."""
    node.api("POST", "/v1/templates", {"name": "half", "build": "debian-12"})
    time.sleep(moment)
    node.kill()
    node.start()
    settle(node)
    assert node.api("GET", "/v1/templates/half").status == 404
    deadline = time.monotonic() + 20
    while True:
        left = os.listdir(os.path.join(node.root, "lib/layers"))
        busy = [c for _, c in node.processes() if "mmdebstrap" in c]
        if not left and not busy and not node.odd_mounts():
            break
        assert time.monotonic() < deadline, (left, busy, node.odd_mounts())
        time.sleep(0.1)


def test_a_ve_that_died_meanwhile(node):
    pid = node.ve("web1")["pid"]
    node.kill()
    os.kill(pid, 9)
    node.start()
    node.wait_state("web1", "stopped")
    assert node.show("web1")["last_exit"]["how"] in ("killed", "exited", "unknown")
    truth(node)


def keeps(node):
    return [pid for pid, command in node.processes() if "terem-keep" in command.split(" ")[0]]


def test_keep_dies(node):
    """terem-keep killed: VEs run on, another one is started and given what runs."""
    node.ve("web1")
    [first] = keeps(node)
    os.kill(first, 9)
    deadline = time.monotonic() + 20
    while "terem-keep was started again" not in node.words():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    [second] = keeps(node)
    assert second != first
    assert node.state("web1") == "running"
    node.sh("web1", "free")  # sysinfo(2): its listener is with both of them again
    node.ve("web2")
    node.kill()
    node.start()
    assert node.state("web1") == "running" and node.state("web2") == "running"
    assert keeps(node) == [second]
    node.sh("web1", "free")
    node.job("POST", "/v1/ves/web1/kill")
    truth(node)


def test_clean_stop_leaves_ves_running(node):
    pid = node.ve("web1")["pid"]
    assert node.term() == 0
    os.kill(pid, 0)
    node.start()
    assert node.show("web1")["pid"] == pid and node.state("web1") == "running"
