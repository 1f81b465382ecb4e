# SPDX-License-Identifier: GPL-2.0-or-later
"""A VE floods the machine: every packet is accounted for, and its neighbour is served meanwhile."""
import os
import re
import socket
import subprocess
import threading

import pytest

from node import wait_for

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(scope="module")
def flood(build):
    out = os.path.join(build, "check", "flood")
    os.makedirs(os.path.dirname(out), exist_ok=True)
    subprocess.run(["musl-gcc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", out,
                    os.path.join(HERE, "src", "flood.c")], check=True)
    return out


@pytest.fixture(scope="module")
def street(shared, flood):
    """`evil` floods; `calm` serves a page."""
    shared.ve("evil", params={"memory.limit": "128M"})
    shared.ve("calm", params={"memory.limit": "64M"})
    with open(flood, "rb") as file:
        program = file.read()
    for name in ("evil", "calm"):
        answer = shared.api("PUT", f"/v1/ves/{name}/files?path=/flood&mode=0755", program)
        assert answer.status < 300, answer
    shared.sh("calm", "mkdir -p /www && echo served >/www/page && busybox httpd -p 80 -h /www")
    return shared


def refused(node, name):
    return {row["key"]: row["failcnt"] for row in node.ok("GET", f"/v1/ves/{name}/counters")}


def held(node, name):
    return {row["key"]: row["held"]
            for row in node.ok("GET", f"/v1/ves/{name}/counters")}["connections"]


def limits(node, name, **params):
    node.ok("PATCH", f"/v1/ves/{name}",
            {"params": {k.replace("__", "."): v for k, v in params.items()}, "force": True})


def address(node, name):
    return node.show(name)["addresses"][0]


def page(where):
    with socket.create_connection((where, 80), 20) as line:
        line.sendall(b"GET /page HTTP/1.0\r\n\r\n")
        line.settimeout(20)
        data = b""
        while part := line.recv(1000):
            data += part
    return data


def flooded(node, *what):
    """Runs a flood and asks calm for its page until it has ended: every answer comes."""
    where, answers, ended = address(node, "calm"), 0, threading.Event()
    result = []

    def run():
        try:
            result.append(node.run("evil", "/flood", *map(str, what), check=False, timeout=300))
        finally:
            ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        while not ended.is_set() or not answers:
            assert b"served" in page(where)
            answers += 1
    finally:
        thread.join()
    assert result and result[0]["exit"] == 0, result
    return answers


def received(node, name):
    """Datagrams that a VE has been given, to a port where nobody listens."""
    lines = [line.split() for line in node.sh(name, "cat /proc/net/snmp").splitlines()
             if line.startswith("Udp:")]
    return int(dict(zip(*lines))["NoPorts"])


def tracked():
    with open("/proc/sys/net/netfilter/nf_conntrack_count", encoding="ascii") as file:
        return int(file.read())


def test_packets(street):
    limits(street, "evil", net__packets="1000")
    before, got = refused(street, "evil")["net.packets"], received(street, "calm")
    flooded(street, "packets", address(street, "calm"), 300000)
    first = got

    def accounted():
        return refused(street, "evil")["net.packets"] - before, received(street, "calm") - first
    wait_for(lambda: sum(accounted()) >= 300000, accounted)
    dropped, got = accounted()
    # What its kernel sends by itself (neighbour discovery, answers) is counted too.
    assert 300000 <= dropped + got <= 300100, (dropped, got)
    assert dropped > 100000
    assert all(not n for key, n in refused(street, "calm").items() if key.startswith("net."))
    limits(street, "evil", net__packets="unlimited")


def test_connections(street):
    """More than it may hold, all to its neighbour, whose own room is not used up by it."""
    open_before = held(street, "evil")  # not counted against a limit that is changed
    limits(street, "evil", connections="2000")
    before = refused(street, "evil")["connections"]
    flooded(street, "connections", address(street, "calm"), 60000)
    dropped = refused(street, "evil")["connections"] - before
    now = held(street, "evil")
    assert 1000 <= now <= 2000 + open_before, now
    assert dropped > 50000
    assert refused(street, "calm")["connections"] == 0
    assert held(street, "calm") < 2000
    limits(street, "evil", connections="unlimited")


def test_rate(street):
    limits(street, "evil", connections__rate="100")
    before = refused(street, "evil")["connections.rate"]
    flooded(street, "connections", address(street, "calm"), 40000)
    assert refused(street, "evil")["connections.rate"] - before > 20000
    assert refused(street, "calm")["connections.rate"] == 0
    limits(street, "evil", connections__rate="unlimited")


def counter(node, name):
    text = subprocess.run(["nft", "list", "counter", "inet", f"terem_{node.number}", name],
                          capture_output=True, text=True, check=True).stdout
    return int(re.search(r"packets (\d+)", text)[1])


def test_false_sources(street):
    """None of them is tracked, or reaches anybody."""
    before, got, spoofed = tracked(), received(street, "calm"), counter(street, "spoofed4")
    flooded(street, "spoofed", address(street, "calm"), 100000)
    assert counter(street, "spoofed4") - spoofed >= 100000 - 1  # its own address may be among them
    assert received(street, "calm") - got <= 1
    assert tracked() - before < 10000  # what the rest of the machine did, and the pages


def test_fragments(street):
    """The memory of waiting fragments is not used up for the neighbour."""
    before = refused(street, "evil")["net.packets"]
    flooded(street, "fragments", address(street, "calm"), 50000)
    assert refused(street, "evil")["net.packets"] - before > 20000
    whole = reassembled()
    street.run("calm", "/flood", "big", gateway(street), "8000")
    assert reassembled() > whole


def reassembled():
    with open("/proc/net/snmp", encoding="ascii") as file:
        lines = [line.split() for line in file if line.startswith("Ip:")]
    return int(dict(zip(*lines))["ReasmOKs"])


def gateway(node):
    return subprocess.run(["ip", "-4", "-o", "addr", "show", f"terem{node.number}"], check=True,
                          capture_output=True, text=True).stdout.split()[3].split("/")[0]
