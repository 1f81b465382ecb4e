# SPDX-License-Identifier: GPL-2.0-or-later
"""In the machine: what a VE sees of its own machine, with swap and cgroup v2 alone."""
import os
import sys

sys.path.insert(0, "/work/tests")
from events import Events  # noqa: E402
from node import wait_for  # noqa: E402
from steps import Steps, read, run  # noqa: E402


def sh(command):
    assert os.system(command) == 0, command


class Inside(Steps):
    """Steps, in the order of their definition; each goes on from what the earlier ones left."""

    def start(self):
        self.node.start()
        checks = {c["name"]: c["ok"] for c in self.node.ok("GET", "/v1/doctor")["checks"]}
        assert checks["sysinfo(2)"] and checks["counters inside"] and checks["lxcfs"], checks
        self.node.template()

    def sees_its_own_machine(self):
        """free, which asks by sysinfo(2), /proc/meminfo and what was set agree, swap too."""
        sh("dd if=/dev/zero of=/data/swap bs=1M count=96 2>/dev/null; chmod 600 /data/swap; "
           "mkswap /data/swap >/dev/null; swapon /data/swap")
        self.node.ve("seer", params={"memory.limit": "80M", "swap.limit": "48M", "processes": "60"})

        def seen():
            free = [line.split() for line in self.node.sh("seer", "free").splitlines()]
            files = {line.split(":")[0]: int(line.split()[1]) for line in
                     self.node.sh("seer", "cat /proc/meminfo").splitlines()}
            print(f"# free {free[1:]}, meminfo {files['MemTotal']} {files['MemFree']} "
                  f"{files['SwapTotal']} {files['SwapFree']}")
            assert int(free[1][1]) == files["MemTotal"]
            assert abs(int(free[1][3]) - files["MemFree"]) < 8192
            return int(free[1][1]), int(free[2][1]), int(free[2][2])
        assert seen() == (80 << 10, 48 << 10, 0)
        self.node.terem("set", "seer", "memory.limit=64M", "swap.limit=1G")
        assert seen()[:2] == (64 << 10, (96 << 10) - 4)  # no more than the machine has
        # More than fits goes to swap, and is seen there.
        self.node.sh("seer", "dd if=/dev/zero of=/dev/shm/held bs=1M count=80 2>/dev/null", check=False)
        assert seen()[2] > 1024
        uptime = float(self.node.sh("seer", "cat /proc/uptime").split()[0])
        assert uptime < float(read("/proc/uptime").split()[0]) - 5
        assert "0 min" in self.node.sh("seer", "uptime") or uptime > 59

    def reads_its_counters(self):
        lines = self.node.sh("seer", "cat /proc/fs/user_beancounters").splitlines()
        rows = {line.split()[-6]: [int(n) for n in line.split()[-5:]] for line in lines[2:]}
        assert lines[0] == "Version: 2.5" and rows["physpages"][3] == (64 << 20) // 4096
        assert rows["numproc"][0] > 0 and rows["numproc"][3] == 60 and rows["swappages"][0] > 0
        held = rows["numproc"][0]
        self.node.sh("seer", "for i in 1 2 3 4 5 6 7 8; do sleep 300 & done")
        text = self.node.sh("seer", "sleep 1; grep numproc /proc/fs/user_beancounters")
        assert int(text.split()[1]) >= held + 6
        self.node.job("DELETE", "/v1/ves/seer?force=true")

    def swap_refused_is_told(self):
        """The kernel tells that a counter has risen, and teremd hears it."""
        # The kernel begins no batch of pages when none is left: an odd number of them makes the
        # last batch meet the limit on 6.1; 6.12 keeps away from it and refuses nothing.
        self.node.ve("full", params={"memory.limit": "32M", "swap.limit": "1020K"})
        refused = 0
        with Events(self.node) as events:
            events.begin("full")
            for _ in range(3):
                self.node.sh("full", "dd if=/dev/zero of=/dev/shm/held bs=1M count=40 2>/dev/null; "
                                     "rm -f /dev/shm/held", check=False)
                refused = self.node.counter("full", "swap.limit")["failcnt"]
            print(f"# refused: {refused}")
            if refused:
                told = events.wait("ve.refused", ve="full", key="swap.limit")
                assert told["text"] in (None, "swap.limit 1020K is reached") and told["count"] > 0, told
        assert refused or os.uname().release >= "6.12"
        self.node.job("DELETE", "/v1/ves/full?force=true")
        sh("swapoff /data/swap; rm /data/swap")

    def teremd_is_killed(self):
        """Nobody hangs, and the next one answers again."""
        self.node.ve("left", params={"memory.limit": "64M"})
        self.node.sh("left", "(while :; do free >/root/new; mv /root/new /root/seen; "
                             "usleep 300000; done) >/dev/null 2>&1 &")
        seen = f"/proc/{self.node.show('left')['pid']}/root/root/seen"

        def own():
            try:
                return int(read(seen).split()[7]) == 64 << 10
            except (OSError, IndexError):
                return None
        wait_for(lambda: own() is True)
        self.node.kill()
        wait_for(lambda: own() is False)
        self.node.start()
        wait_for(lambda: own() is True)

    def node_stop(self):
        left = self.node.close()
        assert not left, left


run(Inside)
