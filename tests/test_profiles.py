# SPDX-License-Identifier: GPL-2.0-or-later
"""Profiles: what a VE has is defaults, over them its profile, over them its own; a change of a
profile reaches all its VEs or none."""
import http.client
import os
import shutil
import sqlite3

import pytest

from node import Node, killed_at
from test_lifecycle import limit
from test_params import V1, written


def processes(pid):
    return limit(pid, "pids", "pids.max", "pids.max")


def message(answer):
    return answer.json["error"]["message"]


def test_the_first_three(shared):
    names = [p["name"] for p in shared.json("profile", "list")]
    assert names[:3] == ["large", "medium", "small"]
    small = shared.json("profile", "show", "small")
    assert small == {"name": "small", "ves": [],
                     "params": {"cpu.limit": "100", "memory.limit": "512M", "processes": "200"}}
    shown = shared.terem("profile").stdout
    assert "small" in shown and "memory.limit=512M" in shown


def test_defaults_profile_own(node):
    node.template()
    said = node.terem("create", "web1", "--profile", "small", "--set", "processes=50", "--start").stdout
    assert said == "web1: created from template busybox and started\n"
    ve = node.show("web1")
    pid = ve["pid"]
    assert ve["profile"] == "small" and ve["params"] == {"processes": "50"}
    assert ve["profile_params"]["memory.limit"] == "512M"
    assert processes(pid) == "50"
    assert limit(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(512 << 20)
    shown = node.terem("show", "web1").stdout
    assert "profile     small" in shown
    assert "processes=50  (its own; profile small: 200)" in shown
    assert "memory.limit=512M  (profile small)" in shown
    # Another profile, a value of its own taken back, no profile: all live.
    said = node.terem("set", "web1", "--profile", "medium").stdout
    assert "its own values stay, before those of profile medium: processes;" in said
    said = node.terem("set", "web1", "--profile", "medium", "processes=default").stdout
    assert said == "web1: set\n" and processes(pid) == "500" and node.show("web1")["params"] == {}
    node.terem("set", "web1", "--profile", "none")
    assert processes(pid) == "4096" and node.show("web1")["profile"] is None
    assert node.show("web1")["profile_params"] is None
    # A profile's limit and the VE's own soft limit contradict each other.
    node.terem("set", "web1", "memory.soft=1G")
    said = node.terem("set", "web1", "--profile", "small", check=False)
    assert said.returncode == 2 and "web1: with profile small: memory.soft 1G is above" in said.stderr
    assert node.show("web1")["profile"] is None and processes(pid) == "4096"
    # Where the profile has no part in it, it is not blamed.
    said = node.terem("set", "web1", "--profile", "small", "memory.soft=default",
                      "cpu.guarantee=5", "cpu.limit=3", check=False)
    assert said.returncode == 2 and "web1: cpu.guarantee 5 is above cpu.limit 3" in said.stderr
    said = node.terem("set", "web1", "--profile", "smal", check=False)
    assert "there is no profile smal; did you mean small?" in said.stderr


def test_a_change_reaches_all(node):
    pids = [node.ve(f"web{i}", profile="small")["pid"] for i in (1, 2)]
    node.ve("own", profile="small", params={"processes": "77"})
    node.ve("down", profile="small", start=False)
    said = node.terem("profile", "set", "small", "processes=150", "cpu.limit=default")
    assert said.stdout == "profile small: set, and applied to 4 VEs\n"
    assert [processes(p) for p in pids] == ["150", "150"]
    assert processes(node.show("own")["pid"]) == "77"
    node.terem("start", "down")
    assert processes(node.show("down")["pid"]) == "150"
    assert limit(pids[0], "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] in ("-1", "max")
    node.kill()
    node.start()
    assert node.json("profile", "show", "small")["params"] == \
        {"memory.limit": "512M", "processes": "150"}
    assert node.show("web1")["profile_params"]["processes"] == "150"
    said = node.terem("profile", "remove", "small", check=False)
    assert said.returncode == 1 and "profile small is used by down, own, web1, web2;" in said.stderr
    node.terem("profile", "remove", "large")
    assert node.terem("profile", "show", "large", check=False).returncode == 1


def test_one_that_cannot_names_itself(node):
    """Nothing is changed: neither those before it nor the profile."""
    pids = {name: node.ve(name, profile="small")["pid"] for name in ("a", "m", "z")}
    node.sh("m", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 60 </dev/null >/dev/null 2>&1 & done")
    said = node.terem("profile", "set", "small", "processes=9", "cpu.limit=50", check=False)
    assert said.returncode == 1 and "profile small: m: processes 9 is below the" in said.stderr
    assert [processes(p) for p in pids.values()] == ["200"] * 3
    assert node.json("profile", "show", "small")["params"]["processes"] == "200"
    node.terem("set", "z", "cpu.limit=20", "cpu.burst=20ms")
    answer = node.api("PATCH", "/v1/profiles/small", {"params": {"processes": "210",
                                                                 "cpu.burst": "30ms"}})
    assert answer.status == 200, answer
    answer = node.api("PATCH", "/v1/profiles/small", {"params": {"memory.soft": "1G"}})
    assert answer.error == "usage" and message(answer).startswith("profile small: memory.soft 1G")
    node.terem("set", "z", "memory.limit=32M")
    answer = node.api("PATCH", "/v1/profiles/small", {"params": {"memory.soft": "64M"}})
    assert answer.error == "usage" and \
        message(answer).startswith("profile small: z: memory.soft 64M is above memory.limit 32M")
    node.terem("profile", "set", "small", "processes=9", "--force")
    assert [processes(p) for p in pids.values()] == ["9"] * 3


@pytest.mark.skipif(not V1, reason="a value that the kernel refuses though all checks passed: v1 "
                                   "takes no quota above that of the group above")
def test_a_late_refusal_puts_those_before_it_back(node):
    """`a` has a cpu.limit of its own; for `m` the kernel says no only when it is written."""
    node.terem("profile", "create", "p", "processes=200", "-s", "cpu.limit=30", "--set", "memory.limit=512M")
    pids = {name: node.ve(name, profile="p", params={"cpu.limit": "10"} if name == "a" else {})["pid"]
            for name in ("a", "m", "z")}
    with open(f"/sys/fs/cgroup/cpu/{node.cgroup_name}/cpu.cfs_quota_us", "w",
              encoding="ascii") as file:
        file.write("50000")

    def kernel():
        return [(processes(p), limit(p, "memory", "memory.limit_in_bytes", "memory.max"),
                 limit(p, "cpu", "cpu.cfs_quota_us", "cpu.max")) for p in pids.values()]
    before = kernel()
    said = node.terem("profile", "set", "p", "processes=90", "cpu.limit=80", "memory.limit=256M",
                      check=False)
    assert said.returncode == 1 and "profile p: m: cpu.limit: cannot write" in said.stderr, said
    assert kernel() == before
    assert node.json("profile", "show", "p")["params"]["processes"] == "200"
    node.terem("profile", "set", "p", "processes=90", "cpu.limit=40")
    assert [processes(p) for p in pids.values()] == ["90"] * 3


def test_guarantees_are_admitted_together(build):
    whole = 100 * len(os.sched_getaffinity(0))
    with Node(build, reserve_cpu=whole - 100) as node:
        for name in "abc":
            node.ve(name, profile="small", start=False)
        # Each alone would fit, and so would two of them.
        said = node.terem("profile", "set", "small", "cpu.guarantee=40", check=False)
        assert said.returncode == 1 and "profile small: a: cannot guarantee 40%" in said.stderr
        assert "cpu.guarantee" not in node.json("profile", "show", "small")["params"]
        node.terem("profile", "set", "small", "cpu.guarantee=33")
        # The one that grows by its own value is not what is refused.
        node.terem("set", "a", "cpu.guarantee=34")
        said = node.terem("profile", "set", "small", "cpu.guarantee=33.5", check=False)
        assert said.returncode == 1 and "profile small: b: cannot guarantee" in said.stderr


@pytest.mark.parametrize("words,says", [
    (["create", "None"], "is not a usable name"), (["create", "none"], "takes a profile off"),
    (["create", "small"], "there is a profile small already"),
    (["create", "x", "memory.limt=1"], "did you mean memory.limit?"),
    (["create", "x", "memory.soft=2G", "memory.limit=1G"], "profile x: memory.soft 2G is above"),
    (["create", "x", "memory.limit=default"], "memory.limit"),
    (["set", "x", "processes=9"], "there is no profile x"),
    (["set", "small"], "a word is missing"), (["remove", "smal"], "did you mean small?")])
def test_bad_words(shared, words, says):
    said = shared.terem("profile", *words, check=False)
    assert said.returncode in (1, 2) and says in said.stderr, said
    assert "x" not in [p["name"] for p in shared.json("profile", "list")]


def test_a_profile_that_is_gone_or_damaged(node):
    node.ve("web1", profile="small", params={"processes": "60"})
    node.ve("web2", profile="medium", start=False)
    assert node.term() == 0
    with sqlite3.connect(os.path.join(node.root, "lib/registry.db")) as db:
        db.execute("DELETE FROM profile WHERE name = 'small'")
        db.execute("UPDATE profile SET params = '[1' WHERE name = 'medium'")
    db.close()
    node.start()
    assert node.state("web1") == "running" and processes(node.show("web1")["pid"]) == "60"
    assert node.show("web1")["profile_params"] is None
    assert "web1: its profile small is gone" in node.words() and "profile medium cannot be read" in \
        node.words()
    assert "(profile small is gone: its own only)" in node.terem("show", "web1").stdout
    node.terem("start", "web2")
    # Made again, it holds for those that name it.
    said = node.terem("profile", "create", "medium", "processes=123").stdout
    assert said == "profile medium: created, and applied to 1 VE\n"
    assert processes(node.show("web2")["pid"]) == "123"


# ---- teremd is killed between any two writes of one change ----
OLD = {"processes": "100", "cpu.weight": "50", "memory.limit": "64M"}
NEW = {"processes": "200", "cpu.weight": "150", "memory.limit": "128M"}


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace to kill at a chosen write")
def test_killed_between_two_writes(node):
    node.ok("POST", "/v1/profiles", {"name": "p", "params": OLD})
    pids = [node.ve(name, profile="p")["pid"] for name in ("a", "b")]

    def kernel():
        return [(processes(pid), written(pid, "cpu.weight"),
                 limit(pid, "memory", "memory.limit_in_bytes", "memory.max")) for pid in pids]
    kernels, seen = {"old": kernel()}, []
    node.ok("PATCH", "/v1/profiles/p", {"params": NEW})
    kernels["new"] = kernel()
    for count in range(1, 60):
        node.ok("PATCH", "/v1/profiles/p", {"params": OLD})
        with killed_at(node, "write,pwrite64", count):
            try:
                alive = node.api("PATCH", "/v1/profiles/p", {"params": NEW}).status == 200
            except (OSError, http.client.HTTPException):
                alive = False
        if not node.alive():
            node.start()
        params = node.ok("GET", "/v1/profiles/p")["params"]
        which = "old" if params == OLD else "new"
        assert params in (OLD, NEW)
        assert kernel() == kernels[which], f"killed at write {count}: {params}"
        assert node.show("a")["profile_params"] == params
        seen.append(which)
        if alive:
            break
    assert "old" in seen and seen[-1] == "new" and len(seen) > 10, seen
