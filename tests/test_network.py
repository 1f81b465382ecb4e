# SPDX-License-Identifier: GPL-2.0-or-later
"""A routed cable for each VE: reachable, able to reach, unable to lie about its address."""
import ipaddress
import os
import re
import subprocess

import pytest

from node import fetch


@pytest.fixture(scope="module")
def pair(shared):
    shared.ve("a1")
    shared.ve("b1")
    return shared


def addresses(node, name):
    four, six = node.show(name)["addresses"][:2]
    assert ipaddress.ip_address(four).version == 4 and ipaddress.ip_address(six).version == 6
    return four, six


def test_host_reaches_the_ve(pair):
    pair.sh("a1", "(while :; do echo hello | nc -l -p 8080; done) >/dev/null 2>&1 </dev/null &")
    for address in addresses(pair, "a1")[:1]:
        assert fetch(address, 8080) == b"hello\n"


@pytest.mark.parametrize("family", [4, 6])
def test_reach(pair, family):
    """The gateway and the neighbour, by both families."""
    index = 0 if family == 4 else 1
    other = addresses(pair, "b1")[index]
    flag = "-6" if family == 6 else "-4"
    pair.run("a1", "/bin/busybox", "ping", flag, "-c", "1", "-W", "3", other)
    host = subprocess.run(["ping", flag, "-c", "1", "-W", "3", addresses(pair, "a1")[index]],
                          capture_output=True, check=False) if os.path.exists("/bin/ping") else None
    assert host is None or host.returncode == 0, host.stdout


def test_only_lo_and_eth0(pair):
    names = set(pair.sh("a1", "ls /sys/class/net || cut -d: -f1 -s /proc/net/dev").split())
    assert names <= {"lo", "eth0"}, names


def pings(node, name):
    """Echo requests that a VE has received."""
    lines = [line.split() for line in node.sh(name, "cat /proc/net/snmp").splitlines()
             if line.startswith("Icmp:")]
    return int(dict(zip(*lines))["InEchos"])


def spoofed(node):
    """Packets that the node's rule against false sources has dropped."""
    text = subprocess.run(["nft", "list", "counters", "table", "inet", f"terem_{node.number}"],
                          capture_output=True, text=True, check=True).stdout
    return int(re.search(r"counter spoofed4 \{\s*packets (\d+)", text)[1])


def test_a_false_source_address_is_dropped(pair):
    """a1 sends with strangers' addresses and with its neighbour's: nothing leaves the cable."""
    theirs = addresses(pair, "b1")[0]
    before = pings(pair, "b1")
    pair.run("a1", "/bin/busybox", "ping", "-c", "1", "-W", "2", theirs)
    assert pings(pair, "b1") == before + 1, "the count works"
    dropped = spoofed(pair)
    for false in ("10.255.255.77", "8.8.8.8", theirs.rpartition(".")[0] + ".250"):
        pair.sh("a1", f"ip addr add {false}/32 dev eth0", check=False)
        pair.run("a1", "/bin/busybox", "ping", "-I", false, "-c", "1", "-W", "1", theirs, check=False)
        pair.sh("a1", f"ip addr del {false}/32 dev eth0", check=False)
    assert pings(pair, "b1") == before + 1
    assert spoofed(pair) >= dropped + 3, "they were sent, and the rule dropped them"


def test_addresses_are_not_used_twice(node):
    first = {name: node.ve(name, start=False)["addresses"] for name in ("a1", "b1", "c1")}
    assert len({tuple(v) for v in first.values()}) == 3
    node.job("DELETE", "/v1/ves/b1")
    again = node.ve("d1", start=False)["addresses"]
    assert again not in [first["a1"], first["c1"]]


def test_names_resolve(pair):
    text = pair.sh("a1", "cat /etc/resolv.conf; cat /etc/hosts; cat /etc/hostname")
    assert "nameserver" in text and "a1" in text and "localhost" in text


def test_it_is_masqueraded(pair):
    """What leaves the node carries the node's address: a host of its own beyond a veth sees it."""
    space = f"terem-far{os.getpid() % 1000}"
    link = f"teremf{os.getpid() % 1000}"
    run = lambda *a: subprocess.run(a, check=True, capture_output=True, text=True)
    run("ip", "netns", "add", space)
    try:
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "far0", "netns", space)
        run("ip", "addr", "add", "198.18.77.1/30", "dev", link)
        run("ip", "link", "set", link, "up")
        run("ip", "-n", space, "addr", "add", "198.18.77.2/30", "dev", "far0")
        run("ip", "-n", space, "link", "set", "far0", "up")
        server = subprocess.Popen(
            ["ip", "netns", "exec", space, "/usr/bin/python3", "-c",
             "import socket; s=socket.create_server(('198.18.77.2', 7777)); print('up', flush=True)\n"
             "c,a=s.accept(); print(a[0], flush=True); c.close()"],
            stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout.readline() == "up\n"
            pair.sh("a1", "echo x | nc -w 60 198.18.77.2 7777", check=False)
            assert server.stdout.readline().strip() == "198.18.77.1"
        finally:
            server.kill()
            server.wait()
            server.stdout.close()
    finally:
        subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)
        run("ip", "netns", "delete", space)


def test_cable_goes_with_the_ve(node):
    node.ve("web1")
    assert len(node.interfaces()) == 1
    node.job("POST", "/v1/ves/web1/kill")
    node.wait_no_interfaces()


def test_two_instances_side_by_side(build, node):
    """A second node on the same machine has its own addresses, interfaces, table and cgroup."""
    from node import Node
    with Node(build) as other:
        other.ve("web1")
        node.ve("web1")
        assert other.number != node.number
        assert addresses(other, "web1")[0] != addresses(node, "web1")[0]
        assert other.sh("web1", "hostname") == "web1\n"
        other.job("POST", "/v1/ves/web1/kill")
        assert node.state("web1") == "running"
        assert re.search("web1", node.sh("web1", "hostname"))
    assert node.sh("web1", "echo on") == "on\n"
