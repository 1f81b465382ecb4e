#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""In the machine: sleep with cgroup v2 alone, and this kernel's zram.  Prints TAP."""
import http.client
import sys

sys.path[:0] = ["/work/tests", "/work/tests/vm"]
from node import wait_for  # noqa: E402
from steps import Steps, run  # noqa: E402

MEGABYTES = 24


class Sleep(Steps):
    _helpers = ("asks", "held")

    def asks(self):
        """What web1 serves."""
        with_ = http.client.HTTPConnection(self.node.show("web1")["addresses"][0], 80)
        try:
            with_.request("GET", "/")
            return with_.getresponse().read().decode().strip()
        finally:
            with_.close()

    def held(self):
        return self.node.show("web1")["usage"]["memory"]

    def start(self):
        self.node.start()
        self.node.template()

    def swap_is_made(self):
        self.node.terem("node", "setup", "--zram", "128M", "--yes")
        check = next(c for c in self.node.json("doctor")["checks"] if c["name"] == "swap")
        assert check["ok"] and "zram" in check["found"], check

    def falls_asleep(self):
        self.node.ve("web1")
        self.node.sh("web1", "mkdir -p /www && echo hello >/www/index.html && httpd -h /www -p 80")
        self.node.sh("web1", f"(head -c {MEGABYTES << 20} /dev/zero | tr '\\0' x; sleep 10000) | "
                             "tail -n1 >/dev/null 2>&1 &")
        wait_for(lambda: self.held() > MEGABYTES << 20)
        self.node.terem("set", "web1", "idle.sleep=4s")
        self.node.wait_state("web1", "sleeping")
        wait_for(lambda: "frozen 1" in self.cgroup("web1", "cgroup.events"))
        wait_for(lambda: self.held() < MEGABYTES << 19)
        print(f"# holds {self.held() >> 10}K")

    def is_woken_by_a_request(self):
        assert self.asks() == "hello"
        assert self.node.state("web1") == "running"

    def is_woken_after_a_crash(self):
        self.node.wait_state("web1", "sleeping")
        self.node.kill()
        self.node.start()
        assert self.node.state("web1") == "sleeping"
        assert self.asks() == "hello"

    def without_swap_it_sleeps_as_well(self):
        self.node.terem("node", "setup", "--no-zram", "--yes")
        self.node.wait_state("web1", "sleeping")
        assert self.asks() == "hello"


run(Sleep)
