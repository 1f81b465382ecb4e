#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""In the machine: memory and disk throughput with cgroup v2.  Prints TAP.

Nothing is timed: what is asserted are counters of the kernel.
"""
import os
import re
import sys

sys.path[:0] = ["/work/tests", "/work/tests/vm"]
from press import NEIGHBOURS, Press  # noqa: E402
from steps import Steps, read, run, write  # noqa: E402

PROGRAM = "/work/build/src/resource/bench_memory"


class Memory(Steps):
    _helpers = ("hold",)

    def hold(self, name, megabytes):
        """A process that keeps so much, and does nothing.  Not zeros: Linux 6.12 gives huge pages
        that hold mostly zeros back without swap, and more of them than was asked for."""
        self.node.sh(name, f"(head -c {megabytes << 20} /dev/zero | tr '\\0' x; sleep 1000) | "
                           "tail -n1 >/dev/null 2>&1 &")
        for _ in range(600):
            held = self.node.sh(name, "for p in /proc/[0-9]*; do grep -q '^Name:.tail' $p/status && "
                                      "grep VmRSS $p/status; done; true")
            if held and int(held.split()[1]) > megabytes * 1024:
                return
        raise AssertionError(f"it does not hold {megabytes}M: {held}")

    def start(self):
        conf = self.node.root + ".conf"
        with open(conf, "w", encoding="ascii") as file:
            file.write("reserve.memory = 64M\n")
        self.node.daemon_args = ["--config", conf]
        self.node.start()
        self.node.template()

    def a_victim_is_named(self):
        self.node.ve("web1", params={"memory.limit": "64M"})
        self.node.run("web1", "/bin/sh", "-c", "tail -n1 </dev/zero", check=False)
        said = re.search("memory.limit 64M was reached and nothing more could be given back: tail was "
                         "killed, since its .*", self.node.words(20000))
        assert said, self.node.words()
        print(f"# {said[0]}")
        assert self.node.counter("web1", "memory.limit")["failcnt"] == 1

    def lowered_by_force(self):
        """Nobody goes but the one that holds most."""
        self.hold("web1", 40)
        refused = self.node.terem("set", "web1", "memory.limit=16M", check=False)
        assert "processes inside would be killed until it fits" in refused.stderr, refused.stderr
        # By counters: page cache is not given back for what is refused, nor is there any need to.
        self.node.sh("web1", "dd if=/dev/zero of=/root/file bs=64k count=200 2>/dev/null; sync")
        before = self.node.counter("web1", "memory.limit")["held"]
        refused = self.node.terem("set", "web1", "memory.limit=46M", check=False)
        assert "leaves too little beside the 4" in refused.stderr, refused.stderr
        assert self.node.counter("web1", "memory.limit")["held"] > before - (2 << 20), before
        least = re.search(r"choose at least (\S+)$", refused.stderr.strip())[1]
        self.node.terem("set", "web1", f"memory.limit={least}")
        assert "tail" in self.node.sh("web1", "ps")
        self.node.terem("set", "web1", "memory.limit=16M", "--force")
        assert self.cgroup("web1", "memory.max") == str(16 << 20)
        assert "tail" not in self.node.sh("web1", "ps")
        assert "memory.limit was lowered by force" in self.node.words(20000), self.node.words()
        self.node.terem("set", "web1", "memory.limit=100M")

    def kernel_memory_and_sockets(self):
        kernel = self.node.counter("web1", "memory.kernel")
        assert kernel["held"] > 0 and kernel["limit"] is None, kernel
        assert self.node.counter("web1", "memory.sockets")["held"] is not None
        row = next(r for r in self.node.ok("GET", "/v1/params") if r["key"] == "memory.sockets")
        assert row["here"] and "cgroup v2 charges socket buffers to memory.limit" in row["partly"], row
        self.node.terem("set", "web1", "memory.sockets=1M")
        for key in ("tcp_rmem", "tcp_wmem"):
            said = self.node.sh("web1", f"cat /proc/sys/net/ipv4/{key}; echo 1 2 3 >/proc/sys/net/ipv4/{key}",
                                check=False)
            assert said.split()[2] == str(1 << 18), said
            assert self.node.sh("web1", f"cat /proc/sys/net/ipv4/{key}") == said
        self.node.terem("set", "web1", "memory.sockets=unlimited")

    def squeeze(self):
        self.hold("web1", 40)
        if os.path.exists("/proc/swaps") and len(read("/proc/swaps").splitlines()) < 2:
            job = self.node.job("POST", "/v1/ves/web1/squeeze")
            assert job["result"]["swapped"] == 0 and "has no swap" in job["text"], job
            assert not os.system("dd if=/dev/zero of=/data/swap bs=1M count=128 2>/dev/null && "
                                 "chmod 600 /data/swap && mkswap /data/swap >/dev/null && "
                                 "swapon /data/swap")
        try:
            job = self.node.job("POST", "/v1/ves/web1/squeeze", {"to": "20M"})
            assert job["result"]["swapped"] > 4 << 20 and job["result"]["after"] < 24 << 20, job
            job = self.node.job("POST", "/v1/ves/web1/squeeze")
            print(f"# {job['text']}")
            assert job["result"]["after"] < 16 << 20, job
            # Nothing of it may go to swap: then it does not.
            self.node.run("web1", "/bin/busybox", "killall", "tail")
            self.node.terem("set", "web1", "swap.limit=0")
            self.hold("web1", 30)
            job = self.node.job("POST", "/v1/ves/web1/squeeze")
            assert job["text"].endswith("swap.limit 0 keeps the rest"), job
        finally:
            self.node.run("web1", "/bin/busybox", "killall", "tail", check=False)
            os.system("swapoff /data/swap && rm /data/swap")

    def disk_throughput(self):
        device = os.stat(self.node.root).st_dev
        disk = f"{os.major(device)}:{os.minor(device)}"
        self.node.terem("set", "web1", "io.read=5M,100iops", "io.write=2M")
        assert self.cgroup("web1", "io.max") == f"{disk} rbps=5242880 wbps=2097152 riops=100 wiops=max"
        self.node.terem("set", "web1", "io.read=unlimited")
        assert self.cgroup("web1", "io.max") == f"{disk} rbps=max wbps=2097152 riops=max wiops=max"
        before = self.node.show("web1")["usage"]["written"]
        self.node.sh("web1", "dd if=/dev/zero of=/root/file bs=64k count=64 conv=fsync 2>/dev/null")
        usage = self.node.show("web1")["usage"]
        assert usage["written"] - before >= 4 << 20, (before, usage)
        self.node.terem("set", "web1", "io.write=unlimited")
        assert self.cgroup("web1", "io.max") == ""

    def disk_weight(self):
        """iocost has to be turned on for the disk; then the weight is taken."""
        device = os.stat(self.node.root).st_dev
        disk = f"{os.major(device)}:{os.minor(device)}"
        refused = self.node.terem("set", "web1", "io.weight=300", check=False)
        assert "nothing divides disk vdc by weight; turn it on with" in refused.stderr, refused.stderr
        write("/sys/fs/cgroup/io.cost.qos", f"{disk} enable=1")
        try:
            self.node.terem("set", "web1", "io.weight=300")
            assert self.cgroup("web1", "io.weight") == "default 300"
            self.node.terem("set", "web1", "io.weight=100")
        finally:
            write("/sys/fs/cgroup/io.cost.qos", f"{disk} enable=0")
        self.node.job("DELETE", "/v1/ves/web1?force=true")

    def a_guarantee_is_kept(self):
        """A quarter of the machine's memory, while ten neighbours stream four times of it, as often
        as it takes until a server without a guarantee has lost half of its files."""
        press = Press(self.node, PROGRAM, guarantee_mb=192, file_mb=144, own_mb=24, rate=40)
        total = 4 * 768 // NEIGHBOURS
        without = press.measure(False, total, until=50)
        kept = press.measure(True, total, rounds=without["rounds"])
        for name, got in (("without", without), ("with a guarantee", kept)):
            print(f"# {name}: {got}", flush=True)
        assert without["resident"] <= 50 and without["major_faults"] > 100, without
        assert kept["resident"] >= 95 and kept["refaulted_mb"] < 8, kept


run(Memory)
