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
    """teremd sleeps: it is not switched to while nobody asks."""
    node.ve("a")
    time.sleep(1.5)

    def switches():
        with open(f"/proc/{node.daemon.pid}/status", encoding="ascii") as file:
            return sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
    before = switches()
    time.sleep(3)
    assert switches() - before <= 2
