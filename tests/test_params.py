# SPDX-License-Identifier: GPL-2.0-or-later
"""Each row that this version enforces, down to the kernel's file, at start and live."""
import os

import pytest

from test_lifecycle import limit

V1 = not os.path.isfile("/sys/fs/cgroup/cgroup.controllers")


def written(pid, key):
    return limit(pid, *{
        "cpu.weight": ("cpu", "cpu.shares", "cpu.weight"),
        "cpu.burst": ("cpu", "cpu.cfs_burst_us", "cpu.max.burst"),
        "memory.soft": ("memory", "memory.soft_limit_in_bytes", "memory.high"),
        "swap.limit": ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
    }[key])


def weight(n):
    return str(n * 1024 // 100 if V1 else n)


def test_rows_are_written_at_start_and_live(node):
    params = {"cpu.limit": "50", "cpu.burst": "20ms", "cpu.weight": "250", "memory.soft": "32M",
              "memory.limit": "64M", "swap.limit": "16M"}
    pid = node.ve("web1", params=params)["pid"]
    assert written(pid, "cpu.weight") == weight(250)
    assert written(pid, "cpu.burst") == "20000"
    assert written(pid, "memory.soft") == str(32 << 20)
    assert written(pid, "swap.limit") == str((80 if V1 else 16) << 20)
    node.terem("set", "web1", "cpu.weight=50", "cpu.burst=5ms", "cpu.limit=10", "memory.soft=48M",
               "memory.limit=128M")
    assert written(pid, "cpu.weight") == weight(50)
    assert written(pid, "cpu.burst") == "5000"
    assert written(pid, "memory.soft") == str(48 << 20)
    assert written(pid, "swap.limit") == str((144 if V1 else 16) << 20)
    node.ok("PATCH", "/v1/ves/web1", {"params": {k: None for k in params}})
    assert written(pid, "cpu.weight") == weight(100)
    assert written(pid, "cpu.burst") == "0"
    assert node.show("web1")["params"] == {}


@pytest.mark.parametrize("text", ["0", "10001", "1.5", "-1", "unlimited"])
def test_weights_that_are_none(shared, text):
    shared.template()
    answer = shared.api("POST", "/v1/ves", {"name": "w", "template": "busybox",
                                            "params": {"cpu.weight": text}})
    assert answer.error == "usage" and "cpu.weight" in answer.json["error"]["message"]


def test_rows_that_contradict_each_other(shared):
    shared.ve("contra", start=False)
    for params, words in [({"memory.soft": "64M", "memory.limit": "32M"}, "memory.soft 64M is above"),
                          ({"cpu.burst": "50ms", "cpu.limit": "10"}, "the most is 10ms")]:
        answer = shared.api("PATCH", "/v1/ves/contra", {"params": params})
        assert answer.error == "usage" and words in answer.json["error"]["message"], answer
    if V1:
        answer = shared.api("PATCH", "/v1/ves/contra", {"params": {"swap.limit": "8M"}})
        assert answer.error == "unsupported" and "memory.limit" in answer.json["error"]["message"]
    assert shared.show("contra")["params"] == {}
