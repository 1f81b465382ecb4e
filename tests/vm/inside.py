# SPDX-License-Identifier: GPL-2.0-or-later
"""In the machine: what a VE sees of its own machine, with swap and cgroup v2 alone."""
import os
import sys
import time

sys.path.insert(0, "/work/tests")
from steps import run  # noqa: E402

WAIT = 120


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def sh(command):
    assert os.system(command) == 0, command


class Inside:
    """Steps, in the order of their definition; each goes on from what the earlier ones left."""

    def __init__(self, node):
        self.node = node

    def start(self):
        self.node.start(WAIT)
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
        sh("swapoff /data/swap; rm /data/swap")

    def teremd_is_killed(self):
        """Nobody hangs, and the next one answers again."""
        self.node.ve("left", params={"memory.limit": "64M"})
        self.node.sh("left", "(while :; do free >/root/new; mv /root/new /root/seen; "
                             "usleep 300000; done) >/dev/null 2>&1 &")
        seen = f"/proc/{self.node.show('left')['pid']}/root/root/seen"

        def wait_for(what):
            deadline = time.monotonic() + WAIT
            while time.monotonic() < deadline:
                try:
                    if (int(read(seen).split()[7]) == 64 << 10) == what:
                        return
                except (OSError, IndexError):
                    pass
                time.sleep(0.1)
            raise AssertionError(f"free inside does not say what it should: {read(seen)}")
        wait_for(True)
        self.node.kill()
        wait_for(False)
        self.node.start(WAIT)
        wait_for(True)

    def node_stop(self):
        left = self.node.close()
        assert not left, left


run(Inside)
