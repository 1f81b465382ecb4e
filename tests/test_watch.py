# SPDX-License-Identifier: GPL-2.0-or-later
"""What an operator watches: counters and usage of all VEs at once."""
import os
import time

from node import traced, wait_for


def rows(list_):
    return {one["ve"]: {row["key"]: row for row in one["counters"]} for one in list_}


def test_all_counters_at_once(node):
    for name in ("a", "b"):
        node.ve(name, params={"processes": "20"}, labels={"tier": name})
    node.ve("down", start=False)
    all_ = rows(node.ok("GET", "/v1/counters"))
    assert sorted(all_) == ["a", "b"]
    one = {row["key"]: row for row in node.ok("GET", "/v1/ves/a/counters")}
    assert {k: (r["limit"], r["barrier"], r["type"]) for k, r in all_["a"].items()} == \
        {k: (r["limit"], r["barrier"], r["type"]) for k, r in one.items()}
    assert sorted(rows(node.ok("GET", "/v1/counters?label=tier=b"))) == ["b"]
    node.run("a", "/bin/sh", "-c", "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done",
             check=False)
    failed = rows(node.ok("GET", "/v1/counters?failed=true"))
    assert failed["a"]["processes"]["failcnt"] >= 1 and "processes" not in failed.get("b", {})
    used = {u["name"]: u for u in node.ok("GET", "/v1/usage")}
    assert used["a"]["failed"]["processes"] == failed["a"]["processes"]["failcnt"]
    assert "processes" not in used["b"]["failed"]
    assert "processes" in node.terem("counters", "--failed").stdout
    assert node.api("GET", "/v1/counters?faild=true").error == "usage"


def test_usage_of_all(node):
    ve = node.ve("a", params={"memory.limit": "64M", "cpu.guarantee": "12.5"})
    node.ve("b")
    node.ve("down", start=False)
    used = {u["name"]: u for u in node.ok("GET", "/v1/usage")}
    assert sorted(used) == ["a", "b"]
    assert used["a"]["cpu_guarantee"] == 12.5 and used["a"]["memory_limit"] == 64 << 20
    assert used["b"]["memory_limit"] is None and used["a"]["id"] == ve["id"]
    assert set(used["a"]["usage"]) == set(node.show("a")["usage"])
    before = node.show("a")["usage"]
    os.system(f"ping -c 3 -i 0.01 -s 1000 -q {ve['addresses'][0]} >/dev/null")
    for after in (node.show("a")["usage"], node.ok("GET", "/v1/usage")[0]["usage"],
                  [v for v in node.ok("GET", "/v1/ves") if v["name"] == "a"][0]["usage"]):
        assert 3000 < after["net_in_bytes"] - before["net_in_bytes"] < 20000
        assert 3000 < after["net_out_bytes"] - before["net_out_bytes"] < 20000


def opened(node, what):
    """Of cgroups, what teremd itself opens meanwhile."""
    log = os.path.join(node.root, "opened")
    with traced(node, log, "-e", "trace=openat"):
        what()
    with open(log, encoding="utf-8") as file:
        return [line for line in file if '"ve-' in line or "cgroup" in line]


def test_nobody_looks_nothing_is_read(node):
    """No file of a VE's cgroups is opened while nobody asks."""
    node.ve("a")
    # What its start leaves to be done is done.
    wait_for(lambda: not opened(node, lambda: time.sleep(1)))
    assert not opened(node, lambda: time.sleep(3))
    assert opened(node, lambda: node.ok("GET", "/v1/usage"))


def test_only_what_is_asked_for(node):
    """Some members of every VE: they are those of the whole, and no others are read."""
    node.ve("a", labels={"tier": "web"}, params={"processes": "20"})
    node.ve("down", start=False)
    whole = {ve["name"]: ve for ve in node.ok("GET", "/v1/ves")}
    assert set(whole["a"]) == set(node.show("a")) and whole["down"]["usage"] is None
    for name in whole["a"]:
        assert [set(ve) for ve in node.ok("GET", f"/v1/ves?fields={name}")] == [{name}] * 2
    same = ("id", "name", "state", "template", "labels", "params", "addresses", "created", "started", "pid")
    assert node.ok("GET", f"/v1/ves?fields={','.join(same)}") == \
        [{key: whole[name][key] for key in same} for name in ("a", "down")]
    up, down = node.ok("GET", "/v1/ves?fields=name,usage.memory,usage.pids,disk")
    assert set(up) == {"name", "usage", "disk"} and set(up["usage"]) == {"memory", "pids"}
    assert up["usage"]["pids"] > 0 < up["usage"]["memory"] and down["usage"] is None
    assert set(up["disk"]) == {"space", "inodes"} == set(down["disk"])
    for name in whole["a"]["usage"]:
        assert set(node.ok("GET", f"/v1/ves?fields=usage.{name}&label=tier=web")[0]["usage"]) == {name}
    assert not opened(node, lambda: node.ok("GET", "/v1/ves?fields=name,state,labels,pending"))
    assert opened(node, lambda: node.ok("GET", "/v1/ves"))
    for wrong, right in (("stat", "state"), ("usage.memry", "memory"), ("usage.", ""), ("", "")):
        answer = node.api("GET", f"/v1/ves?fields={wrong}")
        assert answer.error == "usage" and right in answer.json["error"]["message"]


def test_the_node_tells_how_far_it_is_oversold(node):
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    node.ve("a", params={"memory.limit": str(memory), "cpu.guarantee": "7.5"}, start=False)
    node.ve("b", params={"memory.limit": str(memory), "cpu.limit": "50"}, start=False)
    node.ve("c", start=False)
    resources = node.ok("GET", "/v1")["resources"]
    assert resources["memory"]["total"] == memory
    assert resources["memory"]["limits"] == 2 * memory and resources["memory"]["unlimited"] == 1
    cpu = resources["cpu"]
    assert cpu["guaranteed"] == 7.5 and cpu["limits"] == 50 and cpu["unlimited"] == 2
    assert cpu["total"] == 100 * os.cpu_count()
    assert cpu["left"] == cpu["total"] - cpu["reserve"] - 7.5
    assert resources["processes"]["limits"] == 3 * 4096 and resources["processes"]["total"] > 1000
    here = next(row for row in node.ok("GET", "/v1/params") if row["key"] == "memory.guarantee")
    assert ("memory.guarantee cannot be given here: " in node.terem("node", "show").stdout) == \
        (here["here"] is False)
    shown = [line.split() for line in node.terem("node", "show").stdout.splitlines()]
    line = [words for words in shown if words[:1] == ["memory"]][0]
    assert line[6:] == ["2", "times;", "1", "VE", "unlimited"], line
    node.terem("set", "a", "memory.limit=900T")
    line = next(line for line in node.terem("node", "show").stdout.splitlines() if line.startswith("memory"))
    assert int(line.split()[6]) > 1000, line
