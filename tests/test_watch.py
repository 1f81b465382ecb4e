# SPDX-License-Identifier: GPL-2.0-or-later
"""What an operator watches: counters and usage of all VEs at once."""
import os
import time


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
    if one["processes"]["failcnt"] is not None:
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


def test_nobody_looks_nothing_is_read(node):
    """No file of a VE's cgroups is opened while nobody asks."""
    node.ve("a")
    time.sleep(1.5)

    def read_calls():
        with open(f"/proc/{node.daemon.pid}/io", encoding="ascii") as file:
            return [int(line.split()[1]) for line in file if line.startswith("syscr")][0]
    before = read_calls()
    time.sleep(3)
    assert read_calls() - before <= 5  # wake-ups by others' events are no looks
    node.ok("GET", "/v1/usage")
    assert read_calls() - before > 10


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
    assert line[-5:] == ["times;", "1", "VE", "unlimited"] or line[6:] == \
        ["2", "times;", "1", "VE", "unlimited"], line
