# SPDX-License-Identifier: GPL-2.0-or-later
"""What a VE's cable carries to the host beside a bare veth between two network namespaces, with one
VE and with 1,000 VEs' rules; and whether its counters are what a capture inside saw.

The host is a network namespace of its own, in which teremd runs: other instances' rules are not in
the way.  All take turns of a second, and each turn is compared with the bare one beside it: ratios
are medians of those of the turns, so that a machine that others use divides out.  The floor is a
network namespace that is the host's neighbour by a veth, without anything of Terem's for it: it
meets the host's connection tracking and routes, as whatever ends on the host does.

What a packet costs is also told apart from who waits for whom: bench/alone.c does both ends' work
in one thread on one processor."""
import json
import os
import statistics
import subprocess

import peers
from flows import Flows

TITLE = "A VE's cable beside a bare veth"
MANY, TURNS, PINGS, ALONE = 1000, 15, 2000, 3000
ECHO = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 7200))
print("up", flush=True)
while True:
    data, who = s.recvfrom(100)
    s.sendto(data, who)
"""
PING = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 7200))
s.settimeout(1)
took = []
for _ in range(int(sys.argv[2])):
    at = time.perf_counter()
    s.send(b"x" * 64)
    s.recv(100)
    took.append(time.perf_counter() - at)
took.sort()
print(took[len(took) * 99 // 100] * 1e6, took[len(took) // 2] * 1e6)
"""
BARE, HOST, FLOOR = "198.18.83.2", "198.18.84.1", "198.18.84.2"


class Spaces:
    """Network namespaces, joined by veths: two of a bare one; a host; its neighbour; what it meets
    by its uplink."""

    def __init__(self):
        self.all = {name: f"terem-{name}{os.getpid()}" for name in
                    ("bare1", "bare2", "host", "near", "far")}
        try:
            self.make()
        except BaseException:
            self.close()
            raise

    def make(self):
        for name, space in self.all.items():
            self.run("netns", "add", space)
            self.run("-n", space, "link", "set", "lo", "up")
        self.join("bare1", "bare2", "x0", "198.18.83.1/30", BARE + "/30")
        self.join("near", "host", "x1", FLOOR + "/30", HOST + "/30")
        self.join("far", "host", "up0", self.address + "/30", "198.18.79.1/30")
        self.run("-n", self.space, "addr", "add", self.address6 + "/64", "dev", "up0", "nodad")
        self.run("-n", self.all["host"], "addr", "add", "fd5f:79::1/64", "dev", "up0", "nodad")
        for way, via in ("-4", "198.18.79.1"), ("-6", "fd5f:79::1"):
            self.run("-n", self.space, way, "route", "add", "default", "via", via)
        self.run("-n", self.all["host"], "route", "add", "default", "via", self.address)

    address, address6 = "198.18.79.2", "fd5f:79::2"

    @property
    def space(self):
        return self.all["far"]

    @staticmethod
    def run(*words):
        subprocess.run(["ip", *words], check=True)

    def join(self, one, other, link, here, there):
        self.run("link", "add", link, "netns", self.all[one], "type", "veth", "peer", "name", link,
                 "netns", self.all[other])
        for name, address in (one, here), (other, there):
            self.run("-n", self.all[name], "addr", "add", address, "dev", link)
            self.run("-n", self.all[name], "link", "set", link, "up")

    def close(self):
        for space in self.all.values():
            subprocess.run(["ip", "netns", "del", space], check=False)


def turn(client, server, address, port):
    """(Gbit/s, p99 and median of round trips in µs)"""
    flows = Flows()
    try:
        flows.serve(server, port)
        run = flows.client(client, address, port, 1, "-J")
        out = json.loads(run.communicate(timeout=60)[0])
        rate = out["end"]["sum_received"]["bits_per_second"] / 1e9
        echo = flows.start(server, "/usr/bin/python3", "-c", ECHO, address)
        assert echo.stdout.readline() == "up\n"
        asked = flows.start(client, "/usr/bin/python3", "-c", PING, address, str(PINGS))
        return rate, *map(float, asked.communicate(timeout=60)[0].split())
    finally:
        flows.close()


def compare(bench, places, when):
    """places: {name: (client, server, address)}; the first is what the others are compared with."""
    names, seen = list(places), {name: [] for name in places}
    for number in range(TURNS):
        for i in range(len(names)):  # nobody is always behind the same one
            name = names[(i + number) % len(names)]
            seen[name].append(turn(*places[name], 5600 + 10 * number + i))
    for k, (what, unit) in enumerate((("TCP", "Gbit/s"), ("round trip, p99", "µs"),
                                      ("round trip, median", "µs"))):
        for name in names:
            values = sorted(one[k] for one in seen[name])
            ratio = statistics.median(a[k] / b[k] for a, b in zip(seen[name], seen[names[0]]))
            bench.row("cable", f"{when}: {what}, {name}", unit, statistics.median(values), TURNS,
                      values[TURNS // 10], values[TURNS * 9 // 10], ratio)


def alone(bench, places, when):
    program = peers.compile_own(bench.work, "alone.c")
    path = lambda where: f"/proc/{where}/ns/net" if isinstance(where, int) else f"/run/netns/{where}"
    words = [word for i, (one, other, address) in enumerate(places.values())
             for word in (str(i), path(one), path(other), address)]
    seen = [line.split()[1:] for line in subprocess.run(
        [program, str(ALONE), *words], check=True, capture_output=True, text=True,
        timeout=180).stdout.splitlines()]
    for k, what in enumerate(("a datagram there and back", "64 KiB of TCP, acknowledged")):
        for name, values in zip(places, seen):
            bench.row("cable", f"{when}: one processor's time, {what}, {name}", "µs",
                      float(values[k]) / 1e3, ALONE, of=float(values[k]) / float(seen[0][k]))


def exact(bench, node, far, name):
    """By how much counted and captured are apart."""
    from capture import Cable, pcap_sums
    from test_classes import counts
    cable = Cable(node.show(name)["pid"], far)
    apart, carried = 0, 0
    for address in far.address, far.address6:
        for words in [], ["-R"], ["-u", "-b", "100M"], ["-u", "-b", "100M", "-R"]:
            before = counts(node, name)
            _, pcap = cable.run(address, "-n", "20M", *words)
            after, seen = counts(node, name), pcap_sums(pcap, cable.mac)
            for way in "out", "in":
                old = before.get(("near", way), (0, 0))
                apart += sum(abs(b - a - c) for a, b, c in zip(old, after["near", way], seen[way]))
                carried += seen[way][1]
    bench.row("cable", "captured inside: TCP, UDP, both ways, IPv4, IPv6", "MB", carried / 1e6)
    bench.row("cable", "counted and captured are apart by, bytes and packets", "", apart)


def run(bench):
    from node import Node
    spaces = bench.own(Spaces())
    host = spaces.all["host"]
    node = bench.own(Node(bench.options.build,
                          wrapper=["nsenter", f"--net=/run/netns/{host}"])).start()
    node.terem("network", "class", "add", "near", spaces.address, spaces.address6)
    node.template("busybox")
    app = {"template": "busybox", "kind": "app", "command": ["/bin/sleep", "1000000"]}
    node.ve("first", **app)
    gateway = node.ok("GET", "/v1/ves/first")["addresses"][0].rsplit(".", 1)[0] + ".1"
    places = {"bare veth": (spaces.all["bare1"], spaces.all["bare2"], BARE),
              "namespace to host, the floor": (spaces.all["near"], host, HOST),
              "VE to host": (node.show("first")["pid"], host, gateway)}
    alone(bench, places, "1 VE")
    compare(bench, places, "1 VE")
    exact(bench, node, spaces, "first")
    line = node.connection()
    for i in range(MANY - 1):
        node.ok("POST", "/v1/ves", {"name": f"n{i}", **app,
                                    "params": {"net.out.near": "20M", "net.in.near": "20M"}},
                connection=line)
    line.close()
    subprocess.run([node.cli, "--root", node.root, "start", "--all", "--quiet"], check=True)
    alone(bench, places, f"{MANY} VEs")
    compare(bench, places, f"{MANY} VEs")
    subprocess.run([node.cli, "--root", node.root, "kill", "--all", "--quiet"], check=True)
