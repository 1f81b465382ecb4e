#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""In the machine: cores of VEs, and what they weigh, with cgroup v2.  Prints TAP."""
import re
import sys

sys.path[:0] = ["/work/tests", "/work/tests/vm"]
from steps import KERNEL, Steps, read, run, write  # noqa: E402


class Cpu(Steps):
    _helpers = ("where", "mine", "check_owned", "seen")

    def where(self, name):
        """Where its first process may run."""
        status = read(f"/proc/{self.node.show(name)['pid']}/status")
        return re.search(r"Cpus_allowed_list:\s*(\S+)", status)[1]

    def mine(self):
        """Where the machine's own programs may run, this one among them."""
        return re.search(r"Cpus_allowed_list:\s*(\S+)", read("/proc/self/status"))[1]

    def check_owned(self):
        """From 6.7 on, nothing else on the machine runs on exclusive cores."""
        if KERNEL >= (6, 7):
            assert self.cgroup("one", "cpuset.cpus.partition") == "root", self.node.words()
        assert self.mine() == ("0" if KERNEL >= (6, 7) else "0-1"), self.mine()
        assert self.seen("one") == ["1", "1"]

    def seen(self, name):
        return self.node.sh(name, "nproc; grep -c ^processor /proc/cpuinfo").split()

    def start(self):
        self.node.start()
        self.node.template()

    def cores(self):
        self.node.ve("one", params={"cpu.cores": "1"})
        assert self.cgroup("one", "cpuset.cpus") == self.where("one") == "0"
        assert self.seen("one") == ["1", "1"], self.seen("one")
        self.node.ve("two")
        assert self.cgroup("two", "cpuset.cpus") == "" and self.where("two") == "0-1"
        self.node.terem("set", "one", "cpu.cores=unlimited")
        assert self.where("one") == "0-1" and self.seen("one") == ["2", "2"]

    def exclusive_cores(self):
        self.node.terem("set", "one", "cpu.cores=1-1,exclusive")
        assert (self.where("one"), self.where("two")) == ("1", "0")
        self.check_owned()
        refused = self.node.terem("set", "two", "cpu.cores=1-1", check=False)
        assert "core 1 is exclusive to one" in refused.stderr, refused.stderr
        self.node.kill()
        self.node.start()
        self.node.ve("three")
        assert self.where("three") == "0" and self.where("one") == "1"
        self.check_owned()
        # Given up and taken again, with others that come and go.
        self.node.terem("set", "one", "cpu.cores=unlimited")
        assert self.mine() == self.where("one") == self.where("three") == "0-1"
        self.node.terem("set", "one", "cpu.cores=1-1,exclusive")
        self.check_owned()
        self.node.terem("stop", "one", "--force")
        assert self.mine() == "0-1" and self.where("three") == "0"
        self.node.terem("start", "one")
        self.check_owned()

    def a_core_goes_away(self):
        """Its VE runs elsewhere meanwhile, as the kernel has it, and there again afterwards.  The
        last core of a partition cannot go away at all (EBUSY, seen on 6.12)."""
        self.node.terem("set", "one", "cpu.cores=1-1")
        assert (self.where("one"), self.where("two"), self.mine()) == ("1", "0-1", "0-1")
        switch = "/sys/devices/system/cpu/cpu1/online"
        write(switch, "0")
        try:
            assert self.where("one") == "0"
            said = self.node.terem("set", "two", "cpu.cores=1-1", check=False)
            assert "there is no core 1; this node has cores 0" in said.stderr, said.stderr
            self.node.terem("set", "two", "cpu.weight=50")
        finally:
            write(switch, "1")
        self.node.terem("set", "two", "cpu.weight=100")
        assert (self.where("one"), self.where("two")) == ("1", "0-1")
        self.node.terem("set", "one", "cpu.cores=1-1,exclusive")
        self.check_owned()
        for name in ("one", "two", "three"):
            self.node.job("DELETE", f"/v1/ves/{name}?force=true")
        assert self.mine() == "0-1"

    def reserve(self):
        """All VEs weigh against the machine's own groups what they have against its reserve."""
        parent = f"/sys/fs/cgroup/{self.node.cgroup_name}/cpu.weight"
        assert read(parent) == "100"
        self.node.ve("one", params={"cpu.guarantee": "10"})
        assert read(parent) == "1900" and self.cgroup("one", "cpu.weight") == "10000"
        self.node.job("DELETE", "/v1/ves/one?force=true")
        assert read(parent) == "100"


run(Cpu)
