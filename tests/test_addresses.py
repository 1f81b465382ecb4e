# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses of pools: given, taken away, moved and reserved while VEs run, met from the outside and
spoken with; what is asked for wrongly is refused; after a kill -9 the kernel has what the registry
says."""
import contextlib
import os
import subprocess

import pytest

from far import Far, enter
from node import PATIENCE, Node, killed_at, wait_for

# The far host's cable has a network of its own: another run on this machine has another.
NET = 100 + os.getpid() % 100
HERE = f"198.18.{NET}.1"
LAN, ELSE = f"192.168.{NET}", f"192.168.{NET + 50}"
NEAR4, NEAR6 = f"198.18.{NET}.20", f"fd5f:{NET}::20"
ASK = """
import socket, sys, time
address, port, until = sys.argv[1], int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
while True:
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(max(until - time.monotonic(), 0.01))
    try:
        s.connect((address, port))
        break
    except ConnectionRefusedError:
        raise
    except OSError:  # or no neighbour has answered as yet
        if time.monotonic() > until:
            raise
s.settimeout(60)
print(s.recv(100).decode().strip())
"""
# Tells who asks, and who it is itself, to whoever connects.
ANSWER = """
import socket
s = socket.create_server(("::", 7100), family=socket.AF_INET6, dualstack_ipv6=True)
print("up", flush=True)
while True:
    c, who = s.accept()
    c.sendall(who[0].replace("::ffff:", "").encode())
    c.close()
"""


@pytest.fixture
def far():
    number = os.getpid() % 10000
    host = Far(f"terem-near{number}", f"teremn{number}", NET, 24)
    try:
        yield host
    finally:
        host.close()


@pytest.fixture
def wired(build, far):
    """A node whose uplink is the far host's cable."""
    with Node(build, network_uplink=far.link) as node:
        yield node
    assert subprocess.run(["ip", "neigh", "show", "proxy", "dev", far.link], check=True, capture_output=True,
                          text=True).stdout == ""


@contextlib.contextmanager
def answering(where):
    """Something answers at port 7100 of a network namespace."""
    with subprocess.Popen([*enter(where), "/usr/bin/python3", "-c", ANSWER], stdout=subprocess.PIPE,
                          text=True) as process:
        try:
            assert process.stdout.readline() == "up\n"
            yield
        finally:
            process.kill()


def ask(where, address, port=7100, patience=PATIENCE):
    """Whom `address` takes us for; None: nobody answers."""
    done = subprocess.run([*enter(where), "/usr/bin/python3", "-c", ASK, address, str(port), str(patience)],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def nobody(where, address, port=7100):
    """Nobody answers there; there is no end to wait for."""
    return ask(where, address, port, 4) is None


def pid(node, name):
    return node.show(name)["pid"]


def inside(node, name):
    """Addresses of eth0 as the VE's root sees them, without link-local ones."""
    text = subprocess.run([*enter(pid(node, name)), "ip", "-o", "addr", "show", "dev", "eth0"],
                          check=True, capture_output=True, text=True).stdout
    found = [line.split()[3].split("/")[0] for line in text.splitlines()]
    return sorted(a for a in found if not a.startswith("fe80"))


def routed(node, name):
    """Addresses that the host sends to the VE."""
    link = f"terem{node.number}-{node.show(name)['id']}"
    found = []
    for family in "-4", "-6":
        text = subprocess.run(["ip", family, "route", "show", "dev", link], check=True,
                              capture_output=True, text=True).stdout
        found += [line.split()[0] for line in text.splitlines()]
    return sorted(a for a in found if not a.startswith("fe80"))


def agree(node, *names):
    """The kernel, both ends, and the registry tell the same of each VE."""
    for name in names:
        told = sorted(node.show(name)["addresses"])
        assert inside(node, name) == told and routed(node, name) == told, name


def given(node):
    return {a["address"]: a["ve"] for a in node.ok("GET", "/v1/network/addresses")}


def pools(node):
    node.terem("network", "pool", "create", "near", f"198.18.{NET}.16/28", "--public")
    node.terem("network", "pool", "create", "near6", f"fd5f:{NET}::/64", "--range",
               f"fd5f:{NET}::20-fd5f:{NET}::2f", "--public")
    node.terem("network", "pool", "create", "lan", f"{LAN}.0/29")


def test_outside_world(wired, far):
    node = wired
    pools(node)
    node.ve("web1")
    node.ve("web2")
    shown = {p["name"]: p for p in node.ok("GET", "/v1/network/pools")}
    assert shown["near"]["announced"] == far.link and shown["lan"]["announced"] is None
    assert not shown["lan"]["public"] and shown["lan"]["free"] == 6
    own = node.show("web1")["addresses"]
    with answering(pid(node, "web1")), answering(far.space):
        assert ask(pid(node, "web1"), far.address) == HERE
        said = node.terem("network", "address", "add", "web1", NEAR4, "--name", "www",
                          "--reverse", "www.example.org").stdout
        assert said == f"{NEAR4}: given to web1\n"
        node.terem("network", "address", "add", "web1", "--pool", "near6")
        assert node.show("web1")["addresses"] == [*own, NEAR4, NEAR6]
        assert NEAR4 in node.terem("list").stdout and own[0] not in node.terem("list").stdout
        agree(node, "web1", "web2")
        assert ask(far.space, NEAR4) == far.address and ask(far.space, NEAR6) == far.address6
        assert ask(pid(node, "web1"), far.address) == NEAR4
        assert ask(pid(node, "web1"), far.address6) == NEAR6
        assert ask(pid(node, "web2"), NEAR4) == node.show("web2")["addresses"][0]
        # Connections of its other addresses are its own.
        wait_for(lambda: held(node, "web1") == 0)  # what was asked ends on both sides
        nobody_answers(far.space, NEAR4)
        assert held(node, "web1") == 1
        # It may be named everywhere; the other VE has it at once, and the first no more.
        node.terem("network", "address", "move", "www", "web2")
        assert ask(pid(node, "web1"), far.address) == HERE
    agree(node, "web1", "web2")
    with answering(pid(node, "web2")):
        assert ask(far.space, NEAR4) == far.address
    # What its root sets by itself is nobody's.
    subprocess.run([*enter(pid(node, "web1")), "ip", "addr", "add", NEAR4 + "/32", "dev", "eth0"],
                   check=True)
    with answering(pid(node, "web1")):
        assert nobody(far.space, NEAR4)
    # All are there before its first process, at each start.
    node.job("POST", "/v1/ves/web2/restart", {"timeout": 0})
    agree(node, "web2")
    node.terem("network", "address", "remove", NEAR4)
    agree(node, "web2")
    assert given(node) == {NEAR6: "web1"}


def held(node, name):
    return node.counter(name, "connections")["held"]


def nobody_answers(where, address):
    """To a datagram, which is a tracked connection for a while."""
    subprocess.run([*enter(where), "/usr/bin/python3", "-c", "import socket, sys; socket.socket("
                    "socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', (sys.argv[1], 7199))",
                    address], check=True)


ELSEWHERE = "02:00:00:00:00:99"


def known(far, address):
    """By which hardware address the far host knows it."""
    text = subprocess.run([*enter(far.space), "ip", "neigh", "show", address, "dev", "far0"],
                          check=True, capture_output=True, text=True).stdout.split()
    return text[text.index("lladdr") + 1]


def test_neighbours_learn(wired, far):
    """Who knew an address by another machine's hardware address knows it by ours at once: when a
    running VE gets it, and when one that has it starts."""
    node = wired
    with open(f"/sys/class/net/{far.link}/address", encoding="ascii") as file:
        ours = file.read().strip()
    pools(node)
    node.ve("web1")

    def elsewhere():
        for address in NEAR4, NEAR6:
            subprocess.run([*enter(far.space), "ip", "neigh", "replace", address, "lladdr",
                            ELSEWHERE, "dev", "far0", "nud", "reachable"], check=True)

    elsewhere()
    node.terem("network", "address", "add", "web1", NEAR4)
    assert known(far, NEAR4) == ours and known(far, NEAR6) == ELSEWHERE
    node.terem("network", "address", "add", "web1", NEAR6)
    assert known(far, NEAR6) == ours
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    elsewhere()
    node.job("POST", "/v1/ves/web1/start")
    assert known(far, NEAR4) == known(far, NEAR6) == ours
    with answering(pid(node, "web1")):
        assert ask(far.space, NEAR4) == far.address and ask(far.space, NEAR6) == far.address6


def test_class_of_a_pool(wired, far):
    """What a class has within a pool that is made later is of this node, whatever is longer."""
    node = wired
    node.terem("network", "class", "add", "near", f"{LAN}.0/30")
    pools(node)
    node.ve("web1")
    node.ve("web2")
    node.terem("network", "address", "add", "web1", f"{LAN}.1")
    nobody_answers(pid(node, "web2"), f"{LAN}.1")
    assert "near" not in counts(node, "web2")


def counts(node, name):
    return next(ve["classes"] for ve in node.ok("GET", "/v1/network")["ves"] if ve["name"] == name)


def test_reserved(node):
    node.terem("network", "pool", "create", "lan", f"{LAN}.0/29")
    node.ve("web1")
    node.ve("web2", start=False)
    assert node.terem("network", "address", "reserve", f"{LAN}.2", "--name",
                      "mail").stdout == f"{LAN}.2: reserved\n"
    for name, last in ("web1", 1), ("web2", 3):
        got = node.json("network", "address", "add", name, "--json")
        assert got["address"] == f"{LAN}.{last}" and got["ve"] == name
    node.terem("network", "address", "add", "web2", "mail")
    assert given(node) == {f"{LAN}.1": "web1", f"{LAN}.2": "web2",
                           f"{LAN}.3": "web2"}
    # In the order in which it got them, and set at its start.
    assert node.show("web2")["addresses"][2:] == [f"{LAN}.3", f"{LAN}.2"]
    node.job("POST", "/v1/ves/web2/start")
    agree(node, "web1", "web2")
    hosts = node.run("web2", "cat", "/etc/hosts")["stdout"]
    assert node.show("web2")["addresses"][0] in hosts and f"{LAN}" not in hosts
    # A copy has none of them; what is destroyed gives back what is not reserved.
    node.job("POST", "/v1/ves/web2/clone", {"name": "web3", "start": True})
    assert len(node.show("web3")["addresses"]) == 2
    agree(node, "web3")
    node.job("DELETE", "/v1/ves/web2?force=true")
    assert given(node) == {f"{LAN}.1": "web1", f"{LAN}.2": None}
    node.terem("network", "address", "release", "mail")
    node.terem("network", "address", "remove", f"{LAN}.1")
    assert given(node) == {}
    agree(node, "web1")
    node.terem("network", "pool", "remove", "lan")
    assert node.ok("GET", "/v1/network/pools") == []


def refused(node, *words):
    done = node.terem("network", *words, check=False)
    assert done.returncode != 0 and done.stdout == ""
    sentence = done.stderr.strip()
    assert sentence.startswith("terem: ") and "\n" not in sentence
    return sentence


def test_bad_input(wired, far):
    node = wired
    node.ve("web1")
    node.ve("web2", start=False)
    own = node.show("web1")["addresses"][0]
    node.terem("network", "pool", "create", "near", f"198.18.{NET}.0/24", "--range",
               f"198.18.{NET}.0-198.18.{NET}.255", "--public")
    node.terem("network", "pool", "create", "tiny", f"{LAN}.4/31")
    node.terem("network", "pool", "create", "wide", f"{LAN}.16/28")
    node.terem("network", "address", "add", "web1", f"{LAN}.4")
    before = given(node), node.ok("GET", "/v1/network/pools")
    for words, why in [
            (["pool", "create", "a", "0.0.0.0/0"], "choose a prefix length from 8 to 32"),
            (["pool", "create", "a", "::/0"], "choose a prefix length from 16 to 128"),
            (["pool", "create", "a", f"{LAN}.1/24"], f"did you mean {LAN}.0/24?"),
            (["pool", "create", "a", "x"], "is not an IPv4 network"),
            (["pool", "create", "a", "224.0.0.0/24"], "cannot be used for VEs"),
            (["pool", "create", "a", f"{LAN}.0/24"],
             f"overlaps {LAN}.4/31 of address pool tiny"),
            (["pool", "create", "a", own + "/32"], "that of VEs' own addresses"),
            (["pool", "create", "tiny", "192.168.214.0/24"], "of this name already; choose another"),
            (["pool", "create", "A", "192.168.214.0/24"], "is not a usable name"),
            (["pool", "create", "a", "192.168.214.0/24", "--range", "192.168.214.9-192.168.214.2"],
             "ends before it begins"),
            (["pool", "create", "a", "192.168.214.0/24", "--range", "192.168.215.1-192.168.215.2"],
             "is not within 192.168.214.0/24"),
            (["pool", "create", "a", "192.168.214.0/24", "--range", "7"], "is not a range"),
            (["pool", "create", "a", "192.168.214.0/24", "--public", "--private"], "not both"),
            (["pool", "remove", "tiny"], f"it is in use: {LAN}.4 (web1)"),
            (["pool", "remove", "tony"], "did you mean tiny?"),
            (["address", "add", "web2", f"{LAN}.4"], f"{LAN}.4 is web1's; terem network "
             "address move gives it to another"),
            (["address", "add", "web1", f"{LAN}.4"], f"web1 has {LAN}.4 already"),
            (["address", "add", "web1", "192.168.99.1"], "is in no address pool"),
            (["address", "add", "web1", f"{LAN}.16"],
             f"is the own address of the network {LAN}.16/28, of which address pool wide gives {LAN}.17 to {LAN}.30"),
            (["address", "add", "web1", f"{LAN}.31"], f"is in {LAN}.16/28, of which address pool wide"),
            (["address", "add", "web1", f"{LAN}.5", "--pool", "near"],
             "is not in address pool near"),
            (["address", "add", "web1"], "there are 3 address pools; say which"),
            (["address", "add", "web1", "1.2.3"], "is not an address"),
            (["address", "add", "web1", "www"], "no address is named www"),
            (["address", "add", "nobody", f"{LAN}.5"], "nobody: there is no such VE"),
            (["address", "add", "web1", HERE], "an address of this machine itself"),
            (["address", "add", "web1", f"198.18.{NET}.0"], f"of the network 198.18.{NET}.0/24"),
            (["address", "add", "web1", f"198.18.{NET}.255"], f"of the network 198.18.{NET}.0/24"),
            (["address", "add", "web1", f"{LAN}.5", "--reverse", "-x-.org"],
             "is not a host name"),
            (["address", "add", "web1", f"{LAN}.5", "--name", "A"], "is not a usable name"),
            (["address", "move", f"{LAN}.4", "web1"], f"web1 has {LAN}.4 already"),
            (["address", "move", f"{LAN}.5", "web1"], "it is not reserved"),
            (["address", "remove", "x y"], "is no address"),
            (["address", "set", f"{LAN}.4"], "neither --name nor --reverse was given; give one")]:
        sentence = refused(node, *words)
        assert why in sentence, f"{words}: {sentence}"
    assert (given(node), node.ok("GET", "/v1/network/pools")) == before
    node.terem("network", "address", "reserve", "--pool", "tiny", "--name", "last")
    assert "has no free address" in refused(node, "address", "add", "web2", "--pool", "tiny")
    assert f"{LAN}.5 is named last already; choose another name" in refused(node, "address", "set", f"{LAN}.4",
                                                    "--name", "last")
    # Somebody else's network, with the interface that leads there.
    link = f"teremx{os.getpid() % 10000}"
    subprocess.run(["ip", "link", "add", link, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", f"{ELSE}.1/24", "dev", link], check=True)
        subprocess.run(["ip", "link", "set", link, "up"], check=True)
        assert f"{ELSE}.0/24, which is reached through {link}" in refused(
            node, "pool", "create", "a", f"{ELSE}.128/25")
    finally:
        subprocess.run(["ip", "link", "del", link], check=True)
    agree(node, "web1")


def test_killed_in_a_move(wired, far):
    """Wherever teremd is killed between a move's steps, exactly one VE has the address afterwards:
    the one that the registry says.  A commit writes some times; then each end of each cable is a
    setns or two and some sends."""
    node = wired
    pools(node)
    node.ve("web1")
    node.ve("web2")
    node.terem("network", "address", "add", "web1", NEAR6)
    node.terem("network", "address", "add", "web1", NEAR4)
    points = [("pwrite64,fdatasync", 2), ("setns", 1), ("setns", 2), ("setns", 3),
              *(("sendto,sendmsg", n) for n in range(1, 11, 2))]
    ended = set()
    for calls, count in points:
        here = given(node)[NEAR4]
        there = "web2" if here == "web1" else "web1"
        with killed_at(node, calls, count):
            node.terem("network", "address", "move", NEAR4, there, check=False)
        node.kill()
        node.start()
        assert node.state("web1") == node.state("web2") == "running"
        owner = given(node)[NEAR4]
        ended.add(owner == there)
        assert given(node) == {NEAR4: owner, NEAR6: "web1"}, (calls, count)
        agree(node, "web1", "web2")
    assert ended == {False, True}
    with answering(pid(node, owner)):
        assert ask(far.space, NEAR4) == far.address
    node.terem("network", "address", "remove", NEAR4)
    node.terem("network", "address", "remove", NEAR6)
    agree(node, "web1", "web2")
