#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""In the machine: profiles, the live table and /metrics, with every controller in cgroup v2."""
import shutil
import sys

sys.path[:0] = ["/work/tests", "/work/tests/vm"]
from metrics import check_counters, check_openmetrics, check_promtool, samples, scrape  # noqa: E402
from steps import Steps, run  # noqa: E402


class Watch(Steps):
    """Steps, in the order of their definition; each goes on from what the earlier ones left."""

    def start(self):
        self.node.start()
        self.node.template()

    def profile_is_applied(self):
        self.node.ve("web1", profile="small", params={"processes": "90", "memory.guarantee": "16M"})
        self.node.ve("web2", profile="small")
        for name, most in (("web1", "90"), ("web2", "200")):
            assert self.cgroup(name, "pids.max") == most
            assert self.cgroup(name, "memory.max") == str(512 << 20)
            assert self.cgroup(name, "cpu.max") == "100000 100000"
        assert self.cgroup("web1", "memory.min") == str(16 << 20)

    def profile_changes_all(self):
        """All who use it, live; a value of a VE's own stays."""
        said = self.node.terem("profile", "set", "small", "processes=150", "memory.limit=256M",
                               "memory.soft=128M", "cpu.limit=default")
        assert said.stdout == "profile small: set, and applied to 2 VEs\n", said
        for name, most in (("web1", "90"), ("web2", "150")):
            assert self.cgroup(name, "pids.max") == most
            assert self.cgroup(name, "memory.max") == str(256 << 20)
            assert self.cgroup(name, "memory.high") == str(128 << 20)
            assert self.cgroup(name, "cpu.max") == "max 100000"

    def profile_changes_none(self):
        """What one of them cannot have, nobody gets."""
        self.node.sh("web2", "dd if=/dev/zero of=/dev/shm/held bs=1M count=40 2>/dev/null")
        said = self.node.terem("profile", "set", "small", "processes=140", "memory.limit=24M",
                               "memory.soft=default", check=False)
        assert said.returncode == 1 and "web2: " in said.stderr, said
        for name, most in (("web1", "90"), ("web2", "150")):
            assert self.cgroup(name, "pids.max") == most
            assert self.cgroup(name, "memory.max") == str(256 << 20)
        self.node.sh("web2", "rm /dev/shm/held")

    def top(self):
        self.node.sh("web1", "for i in 1 2 3 4 5; do sleep 300 & done")
        lines = self.node.terem("top", "--once", "--sort", "memory").stdout.splitlines()
        assert "run" in lines[0] and lines[1].startswith("NAME") and "\x1b" not in str(lines), lines
        assert {line.split()[0] for line in lines[2:]} >= {"web1", "web2"}, lines
        one = next(u for u in self.node.json("top") if u["name"] == "web1")
        assert one["cpu_percent"] >= 0 and one["usage"]["memory"] > 0 and "rising" in one, one
        assert all(one["usage"]["pressure"][kind] is not None for kind in ("cpu", "memory", "io")), one

    def metrics(self):
        self.node.sh("web1", "for i in $(seq 120); do sleep 30 & done 2>&1; true", check=False)
        kind, text = scrape(self.node)
        assert kind.startswith("text/plain; version=0.0.4")
        if shutil.which("promtool"):
            check_promtool(text)
        check_openmetrics(self.node)
        found, ve = samples(text), (("ve", "web1"),)
        for name in ("web1", "web2"):
            check_counters(self.node, name, found)
        assert found["terem_ve_memory_bytes", ve] > 0 and found["terem_ve_cpu_seconds_total", ve] > 0
        assert found["terem_ve_resource_limit", (("row", "processes"), ("ve", "web1"))] == 90
        failed = found["terem_ve_resource_failcnt_total", (("row", "processes"), ("ve", "web1"))]
        assert failed > 0, failed
        self.node.terem("set", "web1", "processes=4096")
        self.node.sh("web1", "killall sleep; true", check=False)

    def node_stop(self):
        left = self.node.close()
        assert not left, left


run(Watch)
