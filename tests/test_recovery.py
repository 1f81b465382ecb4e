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
import subprocess
import threading
import time

import pytest

from node import PATIENCE, Node, wait_for
from test_exec import Terminal

CHURN_KILLS = int(os.environ.get("TEREM_KILLS", "210"))
VES = 30


def bounded(node):
    """Ids of VEs that the packet rules know."""
    def rules():
        return subprocess.run(["nft", "list", "counters", "table", "inet", f"terem_{node.number}"], check=False,
                              capture_output=True, text=True)
    wait_for(lambda: rules().returncode == 0, node.words)  # somebody may just have deleted them
    return {int(number) for number in re.findall(r"counter ve(\d+)-", rules().stdout)}


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

    def wrong():
        cgroups = {int(re.search(r"ve-(\d+)", path)[1]) for path in node.cgroups()
                   if re.search(r"ve-(\d+)$", path)}
        cables = {int(name.rpartition("-")[2]) for name in node.interfaces()}
        trees = {int(name) for name in os.listdir(node.pool()) if name.isdigit()}
        inside = set()
        for pid, command in node.processes():
            try:
                with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
                    inside |= {int(n) for n in re.findall(rf"/{node.cgroup_name}/ve-(\d+)", file.read())}
            except OSError:
                pass
        return [(what, sorted(have ^ want)) for what, have, want in (
            ("cgroups", cgroups, up), ("cables", cables, up), ("trees", trees, ids),
            ("processes", inside, up), ("packet rules", bounded(node), up)) if have != want]
    wait_for(lambda: not wrong(), lambda: f"orphans or losses: {wrong()}\n{node.words()}")
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
            except BaseException as cause:  # pylint: disable=broad-exception-caught
                self.strange.append(f"{step} {name}: {cause!r}")

    def step(self, dice, name, step):
        node = self.node
        if step == "create":
            answer = node.api("POST", "/v1/ves", {"name": name, "template": "busybox",
                                                  "start": dice.random() < 0.7})
        elif step == "exec":
            answer = node.api("POST", f"/v1/ves/{name}/exec", {"command": ["/bin/true"]})
        elif step == "destroy":
            answer = node.api("DELETE", f"/v1/ves/{name}?force=true&wait=true")
        elif step == "pause":
            answer = node.api("POST", f"/v1/ves/{name}/pause?wait=true")
            node.api("POST", f"/v1/ves/{name}/resume?wait=true")
        else:
            answer = node.api("POST", f"/v1/ves/{name}/{step}?wait=true", {"timeout": 1}
                              if step == "stop" else None)
        if answer.status >= 500 and answer.error not in ("unavailable", "timeout"):
            self.strange.append(f"{step} {name}: {answer}")

    def stop(self):
        self.halt.set()
        for thread in self.threads:
            thread.join(PATIENCE)
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


def settle(node):
    """Until no job is open and no VE is on its way."""
    def at_work():
        return [ve["name"] for ve in node.ok("GET", "/v1/ves") if ve["state"] in ("starting", "stopping")] + \
            node.ok("GET", "/v1/jobs")
    wait_for(lambda: not at_work(), lambda: (at_work(), node.words()))


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


@pytest.mark.parametrize("moment", [0, 0.005, 0.01, 0.02, 0.05])
def test_killed_while_a_stop_waits(node, moment):
    """What was asked last holds, also when its turn had not come."""
    node.ve("web1", start=False)
    node.api("POST", "/v1/ves/web1/start")
    assert node.api("POST", "/v1/ves/web1/stop", {"timeout": 0}).status == 202
    time.sleep(moment)
    node.kill()
    node.start()
    settle(node)
    truth(node)
    node.wait_state("web1", "stopped")


@pytest.mark.parametrize("moment", [0.05, 0.3, 1, 3])
def test_killed_while_a_template_is_made(node, moment):
    """Import and build are whole or not there; what they were making goes."""
    node.api("POST", "/v1/templates", {"name": "half", "build": "debian-12"})
    time.sleep(moment)
    node.kill()
    node.start()
    settle(node)
    assert node.api("GET", "/v1/templates/half").status == 404

    def left():
        return os.listdir(os.path.join(node.root, "lib/layers")) + node.odd_mounts() + \
            [command for _, command in node.processes() if "mmdebstrap" in command]
    wait_for(lambda: not left(), left)


def test_a_ve_that_died_meanwhile(node):
    pid = node.ve("web1")["pid"]
    node.kill()
    os.kill(pid, 9)
    node.start()
    node.wait_state("web1", "stopped")
    last = node.show("web1")["last_exit"]
    # Unknown: this kernel does not keep it, or nobody has reaped it.
    assert (last["how"], last["signal"]) in (("killed", "KILL"), ("unknown", None)), last
    truth(node)


def workers_of(node):
    """{pid: effective uid}"""
    found = {}
    for pid, command in node.processes():
        if command.startswith("terem-worker"):
            try:
                with open(f"/proc/{pid}/status", encoding="ascii") as file:
                    found[pid] = int(re.search(r"^Uid:\s+\d+\s+(\d+)", file.read(), re.M)[1])
            except OSError:  # it has just ended
                pass
    return found


def test_a_worker_that_outlives_teremd(node):
    """While it is another user the signal of its parent's end does not reach it; slow calls do not let it die at once."""
    node.ve("web1", start=False, kind="app", command=["/bin/sleep", "1000"], restart="no")
    node.term()
    node.wrapper = ["strace", "-D", "-f", "-qq", "-o", os.devnull, "-e", "trace=setresuid",
                    "-e", "inject=setresuid:delay_exit=2000000"]
    node.start()
    node.ok("POST", "/v1/ves/web1/start")
    wait_for(lambda: any(workers_of(node).values()))
    left = set(workers_of(node))
    node.kill()
    node.wrapper = []
    node.start()
    settle(node)
    if node.state("web1") == "running":
        node.job("POST", "/v1/ves/web1/kill")
    wait_for(lambda: not left & set(workers_of(node)))
    truth(node)


def test_restart_of_one_that_ended_meanwhile(node):
    """It was asked to shut down, and did while teremd was dead: it is started, whatever its restart policy is."""
    for at, (verb, after) in enumerate((("restart", "running"), ("stop", "stopped"), (None, "stopped"))):
        name = f"web{at}"
        pid = node.trapping(name, "trap '' TERM", restart="no")["pid"]
        if verb:
            node.ok("POST", f"/v1/ves/{name}/{verb}", {"timeout": 1000})
            node.wait_state(name, "stopping")
        node.kill()
        os.kill(pid, 9)
        node.start()
        settle(node)
        node.wait_state(name, after)
        assert node.show(name)["pid"] != pid
    truth(node)


def test_rules_of_those_that_died_meanwhile(build):
    """Their workers take them away while teremd, slow here with each fork, looks at what else there is."""
    with Node(build) as node:
        node.template()
        pids = [node.ve(f"web{n}", kind="app", command=["/bin/sleep", "1000"], restart="no")["pid"] for n in range(6)]
        node.kill()
        for pid in pids[1:]:
            os.kill(pid, 9)
        node.wrapper = ["strace", "-D", "-qq", "-o", os.devnull, "-e", "trace=clone,clone3",
                        "-e", "inject=clone,clone3:delay_exit=700000"]
        node.start()
        settle(node)
        truth(node)
        assert node.state("web0") == "running" and node.state("web5") == "stopped"


def test_rules_deleted_on_the_way(node):
    """Who starts meanwhile has its own all the same, unless it met none and says so; who ends leaves none."""
    node.template()
    names = [f"web{n}" for n in range(6)]
    for name in names:
        node.ve(name, start=False, kind="app", command=["/bin/sleep", "1000"], restart="no")
    for verb in ("start", "kill") * 8:
        asked = [node.api("POST", f"/v1/ves/{name}/{verb}") for name in names]
        subprocess.run(["nft", "delete", "table", "inet", f"terem_{node.number}"], check=True)
        settle(node)
        ended = [node.ok("GET", f"/v1/jobs/{job.json['id']}") for job in asked if job.status < 300]
        assert all(job["state"] == "done" or verb == "start" for job in ended), ended
        up = {ve["id"] for ve in node.ok("GET", "/v1/ves") if ve["state"] == "running"}
        assert up or verb == "kill"
        wait_for(lambda up=up: bounded(node) == up, lambda up=up: f"{bounded(node)} not {up}: {node.words()}")


def keeps(node):
    return [pid for pid, command in node.processes() if "terem-keep" in command.split(" ")[0]]


def test_keep_dies(node):
    """terem-keep killed: VEs run on, another one is started and given what runs."""
    node.ve("web1")
    [first] = keeps(node)
    os.kill(first, 9)
    wait_for(lambda: "terem-keep was started again" in node.words())
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
