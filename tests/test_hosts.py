# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts that are not as Terem would like: IPv6 off, forwarding off, a firewall of somebody else's.
Each host is a network namespace of its own, in which teremd runs."""
import contextlib
import os
import subprocess

import pytest

from node import Node


class Host:
    def __init__(self):
        self.space = f"terem-host{os.getpid()}"
        subprocess.run(["ip", "netns", "add", self.space], check=True)
        self.enter = ["nsenter", f"--net=/run/netns/{self.space}"]
        self.run("ip", "link", "set", "lo", "up")

    def close(self):
        subprocess.run(["ip", "netns", "del", self.space], check=False)

    def run(self, *words, **more):
        return subprocess.run([*self.enter, *words], check=True, capture_output=True, text=True,
                              **more).stdout

    def sysctl(self, name, value=None):
        if value is not None:
            self.run("sysctl", "-q", "-w", f"{name}={value}")
        return self.run("sysctl", "-n", name).strip()

    @contextlib.contextmanager
    def node(self, build):
        with Node(build, wrapper=self.enter) as node:
            yield node


@pytest.fixture
def host():
    one = Host()
    try:
        yield one
    finally:
        one.close()


def told(node):
    """What the doctor has to say of the network."""
    return [c["found"] for c in node.ok("GET", "/v1/doctor")["checks"] if c["name"] == "network"]


@pytest.mark.parametrize("which", ["all", "default"])
def test_ipv6_off(build, host, which):
    """VEs live with IPv4 alone, and everybody is told why."""
    host.sysctl(f"net.ipv6.conf.{which}.disable_ipv6", 1)
    why = "VEs have no IPv6: IPv6 is off "
    with host.node(build) as node:
        assert why in node.words() and f"net.ipv6.conf.{which}.disable_ipv6 to 0" in node.words()
        assert [t for t in told(node) if t.startswith(why)]
        ve = node.ve("web1")
        assert len(ve["addresses"]) == 1 and "." in ve["addresses"][0]
        host.run("ping", "-c", "1", "-W", "5", ve["addresses"][0])
        done = node.terem("network", "pool", "create", "six", "2001:db8:77::/64", check=False)
        assert done.returncode == 1 and "IPv6 is off" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        node.terem("network", "pool", "create", "four", "192.168.77.0/29")
        node.terem("network", "address", "add", "web1")
        # It is back with the next start of teremd, for VEs that are started then.
        node.term()
        host.sysctl(f"net.ipv6.conf.{which}.disable_ipv6", 0)
        node.start()
        assert [t for t in told(node) if t.startswith(why)] == []
        node.job("POST", "/v1/ves/web1/restart", {"timeout": 0})
        six = next(a for a in node.show("web1")["addresses"] if ":" in a)
        host.run("ping", "-c", "1", "-W", "5", six)


def test_forwarding_off(build, host):
    """It is turned on, and off again at the end."""
    before = {n: host.sysctl(n, 0) for n in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")}
    with host.node(build) as node:
        assert {host.sysctl(n) for n in before} == {"1"}
        node.ve("web1")
        # Somebody turns it off: the doctor says so, and the next start of teremd mends it.
        host.sysctl("net.ipv4.ip_forward", 0)
        assert [t for t in told(node) if "net.ipv4.ip_forward" in t]
        node.term()
        node.start()
        assert host.sysctl("net.ipv4.ip_forward") == "1"
        assert [t for t in told(node) if "forward" in t] == []
    assert {n: host.sysctl(n) for n in before} == before


FIREWALL = """
table inet filter {
    chain input {
        type filter hook input priority 0; policy accept;
        tcp dport 22 accept
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
        ip saddr 192.0.2.1 drop
    }
}
table ip nat {
    chain post {
        type nat hook postrouting priority 100; policy accept;
        ip saddr 192.0.2.2 masquerade
    }
}
"""


def test_somebody_elses_firewall(build, host):
    host.run("nft", "-f", "-", input=FIREWALL)
    theirs = lambda: host.run("nft", "list", "table", "inet", "filter") + \
        host.run("nft", "list", "table", "ip", "nat")
    before = theirs()
    with host.node(build) as node:
        node.ve("web1")
        node.terem("publish", "web1", "8099:80/tcp")
        told_of = [t for t in told(node) if "drops what is forwarded" in t]
        assert len(told_of) == 1 and '"inet filter"' in told_of[0] and "chain forward" in told_of[0]
        assert theirs() == before
    assert theirs() == before
    assert "terem" not in host.run("nft", "list", "tables")
