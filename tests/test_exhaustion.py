# SPDX-License-Identifier: GPL-2.0-or-later
"""Something runs out in the middle of a mass operation: those that run go on, each failure names what has
run out and what raises it, the rest goes on or stops as asked, and all is well when there is room again."""
import glob
import os
import re
import resource
import subprocess

import pytest

from node import PATIENCE, Node, wait_for

MANY = 10


@pytest.fixture
def node(build):
    """One that starts one VE after the other: which of them is the last that finds room is known."""
    with Node(build, workers="1") as node:
        yield node


def make(node, count=MANY):
    node.template()
    for n in range(count):
        node.ok("POST", "/v1/ves", {"name": f"v{n:02}", "template": "busybox", "kind": "app",
                                    "command": ["/bin/sleep", "100000"], "restart": "no"})


def start_all(node, **more):
    return node.job("POST", "/v1/bulk", {"verb": "start", "all": True, **more})


def running(node):
    """{name: (first process, since when)}"""
    return {ve["name"]: (ve["pid"], ve["started"]) for ve in node.ok("GET", "/v1/ves") if ve["state"] == "running"}


def errors(job):
    return {item["ve"]: item["error"] for item in job["result"]["items"] if item["error"]}


def top(node, controller):
    """The instance's own cgroup: what is bounded there bounds nobody else."""
    found = glob.glob(f"/sys/fs/cgroup/{controller}/{node.cgroup_name}") or \
        glob.glob(f"/sys/fs/cgroup/{node.cgroup_name}")
    return found[0]


def laid(node):
    """What the packet rules hold of VEs."""
    return [line for table in node.tables()
            for line in subprocess.run(["/usr/sbin/nft", "list", *table.split()], check=True, capture_output=True,
                                       text=True).stdout.splitlines() if re.search(r"\bve\d+-", line)]


class Bound:
    """Within the block a file of the instance's cgroup holds a number that is soon reached."""

    def __init__(self, node, controller, file, value, free="max"):
        self.path, self.value, self.free = os.path.join(top(node, controller), file), value, free

    def write(self, value):
        with open(self.path, "w", encoding="ascii") as file:
            file.write(str(value))

    def __enter__(self):
        self.write(self.value)

    def __exit__(self, *unused):
        self.write(self.free)


class Descriptors:
    """Within the block teremd may open as many more as a few VEs need: numbers below its lock's."""

    def __init__(self, node, more):
        self.pid, self.more = node.daemon.pid, more
        self.before = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)

    def __enter__(self):
        used = set(map(int, os.listdir(f"/proc/{self.pid}/fd")))
        free = [fd for fd in range(512) if fd not in used]
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (free[self.more], self.before[1]))

    def __exit__(self, *unused):
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, self.before)


BOUNDS = {
    "processes": (lambda node: Bound(node, "pids", "pids.max", 8),
                  "as many as may be; raise the VE's processes, or pids.max of a cgroup above it"),
    "cgroups": (lambda node: Bound(node, "unified", "cgroup.max.descendants", 6), "raise cgroup.max.descendants"),
    "descriptors": (lambda node: Descriptors(node, 24), "Too many open files; raise LimitNOFILE of terem.service"),
}


@pytest.mark.parametrize("what", BOUNDS)
def test_in_a_mass_start(node, what):
    bound, said = BOUNDS[what]
    many = 3 * MANY  # what teremd cannot open besides their first processes it goes without
    make(node, many)
    for name in "v00", "v01":
        node.job("POST", f"/v1/ves/{name}/start")
    before = running(node)
    with bound(node):
        job = start_all(node)
        failed = errors(job)
        assert job["state"] == "failed" and failed and len(failed) < many - 2, job
        for name, error in failed.items():
            assert error["kind"] == "exhausted" and said in error["message"], error
            assert error["message"].startswith(f"{name}: cannot start: ") or what == "descriptors", error
        assert f"{len(failed)} of {many - 2} failed; first " in job["error"]["message"]
        # Those that ran run, and are served.
        assert {name: running(node).get(name) for name in before} == before
        assert node.show("v00")["state"] == "running"
    # With room again everything is as if nothing had been.
    wait_for(lambda: not node.ok("GET", "/v1/jobs"))
    start_all(node)
    assert len(running(node)) == many
    assert {name: running(node)[name] for name in before} == before
    assert node.sh("v00", "echo here") == "here\n"


def test_memory(node):
    """Of the whole instance, as of a machine that is too small: whom the kernel kills it chooses itself."""
    make(node)
    v2 = os.path.exists(os.path.join(top(node, "memory"), "memory.max"))
    with Bound(node, "memory", *(("memory.max", "4M", "max") if v2 else ("memory.limit_in_bytes", "1200K", "-1"))):
        job = start_all(node)
        failed = errors(job)
        assert job["state"] == "failed" and failed, job
        for name, error in failed.items():
            assert error["message"] == f"{name}: cannot start: the kernel killed its first process for want of " \
                "memory; stop or shrink others, or give the machine more" or \
                "its first process died while it was being prepared" in error["message"] or \
                "Cannot allocate memory" in error["message"], error
    # The end of one that was killed at last may not be heard of yet.
    wait_for(lambda: start_all(node)["state"] == "done" and len(running(node)) == MANY)


def test_a_start_that_fails_leaves_no_rules(node):
    """Also when it fails at the very end: its files lack an init, which is known when all else is there."""
    node.template()
    for name in "web1", "web2":
        node.ve(name)
        node.sh(name, "rm /sbin/init")
    node.terem("stop", "--all", "--force")
    before = laid(node)
    failed = errors(start_all(node))
    assert len(failed) == 2 and "/sbin/init" in failed["web1"]["message"], failed
    assert laid(node) == before == []


def test_the_rest_is_not_begun_when_asked(node):
    make(node, 40)
    with BOUNDS["cgroups"][0](node):
        job = start_all(node, stop_on_failure=True)
        result = job["result"]
        assert job["state"] == "failed" and result["failed"] and result["cancelled"], job
        assert "the rest were not begun" in job["error"]["message"]
    done = node.terem("start", "--all", "--stop-on-failure")
    assert done.stdout.splitlines()[-1].endswith("started") and len(running(node)) == 40


def test_descriptors_and_a_restart(node):
    """A teremd that may not open what its VEs need would take those it cannot find for dead: it says so and ends,
    and they go on."""
    make(node, 160)
    start_all(node)
    before = running(node)
    assert len(before) == 160
    node.kill()
    node.wrapper = ["prlimit", "--nofile=540"]
    assert node.spawn().wait(60) != 0
    assert "160 VEs run, which takes" in node.words() and "raise LimitNOFILE of terem.service" in node.words()
    node.wrapper = []
    node.start()
    assert running(node) == before and not node.ok("GET", "/v1/jobs")


def test_too_few_descriptors_to_begin_with(node):
    """The sentence names what raises it."""
    node.term()
    node.wrapper = ["prlimit", "--nofile=256"]
    assert node.spawn().wait(PATIENCE) == 1
    assert node.words().splitlines()[-1].endswith(
        "teremd needs more than 512 open files (ulimit -n); raise LimitNOFILE of terem.service")
    node.wrapper = []
    node.start()


def test_places(build):
    """As many VEs as the node's network has addresses for."""
    with Node(build, network_pool4="10.99.7.0/28") as node:
        make(node, 13)
        answer = node.api("POST", "/v1/ves", {"name": "more", "template": "busybox"})
        assert answer.error == "exhausted" and answer.json["error"]["message"] == \
            "more: cannot create: all 13 places for VEs on this node are taken; destroy one first, or give the node a " \
            "larger network.pool4"
        start_all(node)
        assert len(running(node)) == 13
        node.job("DELETE", "/v1/ves/v05?force=true")
        node.ok("POST", "/v1/ves", {"name": "more", "template": "busybox"})


def test_addresses(node):
    make(node)
    start_all(node)
    node.ok("POST", "/v1/network/pools", {"name": "few", "prefix": "100.127.9.0/29",
                                          "range": "100.127.9.1-100.127.9.4"})
    given = [node.api("POST", "/v1/network/addresses", {"ve": f"v{n:02}", "pool": "few"}) for n in range(MANY)]
    assert [answer.status for answer in given] == [201] * 4 + [507] * (MANY - 4)
    for answer in given[4:]:
        assert answer.json["error"]["message"] == \
            "address pool few has no free address; remove or release one, or make another pool"
    node.ok("PATCH", "/v1/network/addresses/100.127.9.2", {"ve": None})
    assert node.ok("POST", "/v1/network/addresses", {"ve": "v09", "pool": "few"})["address"] == "100.127.9.2"
