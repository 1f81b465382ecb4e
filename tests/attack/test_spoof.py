# SPDX-License-Identifier: GPL-2.0-or-later
"""A VE's root sends what is not its to send, by raw frames: false addresses, false MACs, ARP and
NDP, router advertisements, DHCP answers, extension headers.  Each frame bears a mark; a capture at
the victim and one at the host see nothing of it, and a counter tells that it was refused."""
import os
import re
import socket
import struct
import subprocess

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))

MAGIC = bytes.fromhex("5e0f0bad")

# In a network namespace: says "up"; for each line that it reads it prints whatever bore a mark
# since the last one, frames at interfaces and what was delivered to this host itself, and "end".
CAPTURE = """
import select, socket, sys, time
magic, skipped = bytes.fromhex(sys.argv[1]), sys.argv[2]
frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
frames.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
local = [socket.socket(f, socket.SOCK_RAW, p) for f, p in (
    (socket.AF_INET, 1), (socket.AF_INET, 17), (socket.AF_INET6, 58), (socket.AF_INET6, 17))]
print("up", flush=True)
until = None

def take(s):
    data, who = s.recvfrom(4096)
    if magic in data and not (s is frames and who[0] == skipped):
        print("delivered" if s is not frames else "sent" if who[2] == 4 else "frame", who[0], data.hex())

while True:
    for s in select.select([frames, *local, *([] if until else [sys.stdin])], [], [], 0.05)[0]:
        if s is sys.stdin:
            if not s.readline():
                sys.exit()
            until = time.monotonic() + 0.2
            continue
        take(s)
    if until and time.monotonic() > until:
        for s in frames, *local:  # what came while this process had to wait for its turn
            for _ in range(100000):
                if not select.select([s], [], [], 0)[0]:
                    break
                take(s)
        print("end", flush=True)
        until = None
"""


@pytest.fixture(scope="module")
def street(shared, build):
    """`evil` sends; `calm` is whom it is after."""
    out = os.path.join(build, "check", "frames")
    os.makedirs(os.path.dirname(out), exist_ok=True)
    subprocess.run(["musl-gcc", "-static", "-O1", "-idirafter", "/usr/include", "-Wall", "-Wextra",
                    "-Werror", "-o", out, os.path.join(HERE, "src", "frames.c")], check=True)
    for name in ("evil", "calm"):
        shared.ve(name)
    with open(out, "rb") as file:
        answer = shared.api("PUT", "/v1/ves/evil/files?path=/frames&mode=0755", file.read())
    assert answer.status < 300, answer
    street = Street(shared)
    try:
        street.watch()
        yield street
    finally:
        street.close()


# ---- frames ----
def checksum(data):
    data += b"\0" * (len(data) % 2)
    n = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while n >> 16:
        n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff


def four(text):
    return socket.inet_aton(text)


def six(text):
    return socket.inet_pton(socket.AF_INET6, text)


def ip4(src, dst, payload, protocol=17, fragment=0, options=b"", ttl=64):
    def head(check):
        return struct.pack("!BBHHHBBH4s4s", 0x40 | (5 + len(options) // 4), 0,
                           20 + len(options) + len(payload), 77, fragment, ttl, protocol, check,
                           four(src), four(dst)) + options
    return head(checksum(head(0))) + payload


def ip6(src, dst, payload, following=17, hops=255):
    return struct.pack("!IHBB", 6 << 28, len(payload), following, hops) + six(src) + six(dst) + \
        payload


def pseudo6(src, dst, payload, protocol):
    return six(src) + six(dst) + struct.pack("!II", len(payload), protocol) + payload


def udp4(src, dst, data, sport=9, dport=9):
    def packet(check):
        return struct.pack("!HHHH", sport, dport, 8 + len(data), check) + data
    pseudo = four(src) + four(dst) + struct.pack("!BBH", 0, 17, 8 + len(data))
    return packet(checksum(pseudo + packet(0)))


def udp6(src, dst, data, sport=9, dport=9):
    def packet(check):
        return struct.pack("!HHHH", sport, dport, 8 + len(data), check) + data
    return packet(checksum(pseudo6(src, dst, packet(0), 17)))


def icmp6(src, dst, kind, body, code=0):
    def packet(check):
        return struct.pack("!BBH", kind, code, check) + body
    return packet(checksum(pseudo6(src, dst, packet(0), 58)))


def option(mark):
    """The mark as an option of NDP that nobody knows."""
    return struct.pack("!BB6x", 253, 2) + mark


def advertisement(src, dst, mark):
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xc0, 1800, 1800, 0) + six("2001:db8:bad::")
    return icmp6(src, dst, 134, struct.pack("!BBHII", 64, 0x80, 1800, 0, 0) + prefix + option(mark))


def redirect(src, dst, target, mark):
    return icmp6(src, dst, 137, b"\0" * 4 + six(src) + six(target) + option(mark))


def neighbour(src, dst, kind, target, mark):
    flags = 0x60000000 if kind == 136 else 0
    link = struct.pack("!BB", 2 if kind == 136 else 1, 1) + bytes.fromhex("02bad0bad001")
    return icmp6(src, dst, kind, struct.pack("!I", flags) + six(target) + link + option(mark))


def padding(following):
    """Destination options or hop-by-hop options that say nothing."""
    return struct.pack("!BBBB4x", following, 0, 1, 4)


def fragments(payload, following, first):
    """In two; the first has so many bytes."""
    number = next(Street.marks)
    head = lambda offset, more: struct.pack("!BBHI", following, 0, offset | more, number)
    return head(0, 1) + payload[:first], head(first, 0) + payload[first:]


def arp(kind, mac, sender, target_mac, target, mark):
    return struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, kind, mac, four(sender), target_mac,
                       four(target)) + mark


# ---- who is where ----
class Street:
    marks = iter(range(1, 1 << 20))

    def __init__(self, node):
        self.node = node
        self.evil, self.calm = node.show("evil"), node.show("calm")
        self.own4, self.own6 = self.evil["addresses"]
        self.their4, self.their6 = self.calm["addresses"]
        self.gate4 = self.own4.rpartition(".")[0] + ".1"
        self.gate6 = self.own6.rpartition("::")[0] + "::1"
        name = f"terem{self.node.number}"
        self.end = f"{name}-{self.evil['id']}"
        self.mac, self.link = self.inner("evil")
        self.their_mac, self.their_link = self.inner("calm")
        with open(f"/sys/class/net/{self.end}/address", encoding="ascii") as file:
            self.host_mac = bytes.fromhex(file.read().strip().replace(":", ""))
        self.watchers = []

    def watch(self):
        inside = ["nsenter", f"--net=/proc/{self.calm['pid']}/ns/net"]
        for where, skip in (inside, "lo"), ([], self.end):
            self.watchers.append(subprocess.Popen(
                [*where, "/usr/bin/python3", "-c", CAPTURE, MAGIC.hex(), skip],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0))
            assert self.watchers[-1].stdout.readline() == b"up\n"

    def inner(self, name):
        text = subprocess.run(["nsenter", f"--net=/proc/{self.node.show(name)['pid']}/ns/net", "ip",
                               "addr", "show", "eth0"], check=True, capture_output=True,
                              text=True).stdout
        return bytes.fromhex(re.search(r"link/ether (\S+)", text)[1].replace(":", "")), \
            re.search(r"inet6 (fe80:\S+)/", text)[1]

    def mark(self):
        return MAGIC + struct.pack("!I", next(self.marks))

    def ethernet(self, packet, kind=None, src=None, dst=None):
        kind = kind or (0x86dd if packet[0] >> 4 == 6 else 0x0800)
        return (dst or self.host_mac) + (src or self.mac) + struct.pack("!H", kind) + packet

    def counters(self):
        text = subprocess.run(["nft", "list", "counters", "table", "inet",
                               f"terem_{self.node.number}"], capture_output=True, text=True,
                              check=True).stdout
        return {n: int(c) for n, c in re.findall(r"counter (\w+) \{\s*packets (\d+)", text)}

    def header_errors(self):
        """Packets from the cable that the kernel refused for their addresses or headers."""
        with open(f"/proc/net/dev_snmp6/{self.end}", encoding="ascii") as file:
            counts = dict(line.split() for line in file)
        return int(counts["Ip6InHdrErrors"]) + int(counts["Ip6InAddrErrors"])

    def settings(self):
        """What a frame might change at the host: neighbours, addresses and routes of the cable."""
        said = ""
        for words in (["neigh"], ["-6", "neigh"], ["addr"], ["route"], ["-6", "route"]):
            said += subprocess.run(["ip", *words, "show", "dev", self.end], check=True,
                                   capture_output=True, text=True).stdout
        return re.sub(r" (used|expires) \S+", "", said)

    def seen(self, watcher, mark):
        watcher.stdin.write(b"\n")
        lines = []
        while (line := watcher.stdout.readline().decode()) != "end\n":
            assert line, "the capture has ended"
            lines.append(line)
        return [line for line in lines if mark.hex() in line]

    def close(self):
        for watcher in self.watchers:
            watcher.kill()
            watcher.communicate()

    def send(self, mark, *frames):
        """Sends; returns what victim and host saw of it."""
        self.node.run("evil", "/frames", *(f.hex() for f in frames))
        return [self.seen(watcher, mark) for watcher in self.watchers]

    def refused(self, mark, frames, counter=None, times=1):
        before, was = self.counters(), self.settings()
        victim, host = self.send(mark, *frames)
        assert not victim and not host, (victim[:3], host[:3])
        assert self.settings() == was
        after = self.counters()
        if counter:
            assert after[counter] - before[counter] >= times, (before, after)

    def refused_all(self, mark, ways):
        """Ways of one packet, some in two: of each at least one is counted."""
        self.refused(mark, [self.ethernet(p) for way in ways for p in way], "rogue", len(ways))


def test_the_captures_see(street):
    """What is allowed arrives, at both; so what they do not see was not there."""
    for make, datagram, src, dst, gate in (
            (ip4, udp4, street.own4, street.their4, "169.254.1.1"),
            (ip6, udp6, street.own6, street.their6, "fe80::1")):
        mark = street.mark()
        victim, _ = street.send(mark, street.ethernet(make(src, dst, datagram(src, dst, mark))))
        assert any(line.startswith("frame eth0") for line in victim)
        assert any(line.startswith("delivered") for line in victim)
        mark = street.mark()
        _, host = street.send(mark, street.ethernet(make(src, gate, datagram(src, gate, mark))))
        assert any(line.startswith("delivered") for line in host)


FALSE4 = ["theirs", "gateway", "169.254.1.1", "127.0.0.1", "0.0.0.0", "255.255.255.255",
          "224.0.0.1", "8.8.8.8", "10.255.255.77"]
FALSE6 = ["theirs", "gateway", "fe80::1", "fe80::bad", "their link", "::", "::1", "ff02::1",
          "2001:db8::1", "::ffff:8.8.8.8", "2a00::1"]


@pytest.mark.parametrize("false", FALSE4)
def test_source_address_v4(street, false):
    src = {"theirs": street.their4, "gateway": street.gate4}.get(false, false)
    mark, packets = street.mark(), []
    for dst in {street.their4, street.gate4, "203.0.113.9"} - {src}:
        whole = udp4(src, dst, mark * 2)
        packets += [ip4(src, dst, whole), ip4(src, dst, whole[:8], fragment=0x2000),
                    ip4(src, dst, whole[8:], fragment=1)]
    street.refused(mark, map(street.ethernet, packets), "spoofed4", len(packets))


@pytest.mark.parametrize("false", FALSE6)
def test_source_address_v6(street, false):
    src = {"theirs": street.their6, "gateway": street.gate6,
           "their link": street.their_link}.get(false, false)
    mark, packets = street.mark(), []
    for dst in {street.their6, street.gate6, "fe80::1", "2001:db8::9"} - {src}:
        first, last = fragments(udp6(src, dst, mark * 3), 17, 16)
        data = udp6(src, dst, mark)
        packets += [ip6(src, dst, data), ip6(src, dst, padding(17) + data, following=60),
                    ip6(src, dst, first, following=44), ip6(src, dst, last, following=44)]
    # Of these two the kernel itself says so, at each device.
    itself, before = false in ("::1", "ff02::1"), street.header_errors()
    street.refused(mark, map(street.ethernet, packets), None if itself else "spoofed6",
                   len(packets))
    assert not itself or street.header_errors() - before >= len(packets)


@pytest.mark.parametrize("family", [4, 6])
def test_macs(street, family):
    """A frame with another's MAC as its source goes on without it; one that is not to the host's
    MAC goes nowhere, nor does one in a VLAN."""
    def packet(mark):
        if family == 4:
            return ip4(street.own4, street.their4, udp4(street.own4, street.their4, mark))
        return ip6(street.own6, street.their6, udp6(street.own6, street.their6, mark))
    stranger = bytes.fromhex("02bad0bad001")
    mark, was = street.mark(), street.settings()
    victim, _ = street.send(mark, *(street.ethernet(packet(mark), src=src)
                                    for src in (street.their_mac, street.host_mac, stranger)))
    macs = {bytes.fromhex(line.split()[2])[6:12] for line in victim if line.startswith("frame ")}
    assert macs == {street.host_mac} and street.settings() == was
    mark = street.mark()
    street.refused(mark, [street.ethernet(packet(mark), dst=dst) for dst in (
        street.their_mac, b"\xff" * 6, stranger, bytes.fromhex("01005e000001"),
        bytes.fromhex("333300000001"))])
    mark = street.mark()
    street.refused(mark, [street.ethernet(struct.pack("!HH", 1, 0x0800 if family == 4 else 0x86dd) +
                                          packet(mark), kind=kind) for kind in (0x8100, 0x88a8)])


@pytest.mark.parametrize("sender", ["theirs", "gateway", "169.254.1.1", "8.8.8.8", "own", "0.0.0.0"])
def test_arp(street, sender):
    """Whoever it claims to be, nobody hears it, and the host keeps nothing of it."""
    sender = {"theirs": street.their4, "gateway": street.gate4, "own": street.own4}.get(sender,
                                                                                        sender)
    mark, stranger, every = street.mark(), bytes.fromhex("02bad0bad001"), b"\xff" * 6
    street.refused(mark, [
        street.ethernet(arp(kind, mac, sender, to, target, mark), kind=0x0806, src=mac, dst=dst)
        for target in (street.their4, street.gate4, "169.254.1.1", sender)
        for kind in (1, 2) for mac in (street.mac, stranger)
        for to, dst in ((b"\0" * 6, every), (street.host_mac, street.host_mac),
                        (street.their_mac, street.their_mac))])


@pytest.mark.parametrize("src", ["own", "link", "::"])
def test_neighbour_discovery(street, src):
    """Claims of others' addresses: to the victim they do not go, at the host they change nothing."""
    src = {"own": street.own6, "link": street.link}.get(src, src)
    targets = (street.their6, street.gate6, "fe80::1", street.their_link, street.own6)

    def frames(dst, mark, kinds):
        return [street.ethernet(ip6(src, dst, neighbour(src, dst, kind, target, mark),
                                    following=58)) for kind in kinds for target in targets]
    mark = street.mark()
    street.refused(mark, frames(street.their6, mark, (135, 136)), "rogue", 2 * len(targets))
    for dst in ("fe80::1", street.gate6, "ff02::1", "ff02::1:ff00:1"):
        was, mark = street.settings(), street.mark()
        victim, _ = street.send(mark, *frames(dst, mark, (135, 136)))
        assert not victim and street.settings() == was


def disguises(src, dst, upper, protocol):
    """The same behind extension headers, and in fragments, one of which hides what it is."""
    def in_two(payload, following, first):
        return [ip6(src, dst, part, following=44) for part in fragments(payload, following, first)]
    hidden = padding(60) + padding(protocol) + upper
    return [
        [ip6(src, dst, upper, following=protocol)],
        [ip6(src, dst, padding(protocol) + upper, following=60)],
        [ip6(src, dst, padding(protocol) + upper, following=0)],
        [ip6(src, dst, hidden, following=0)],
        [ip6(src, dst, struct.pack("!BBBB4x", protocol, 0, 4, 0) + upper, following=43)],
        [ip6(src, dst, struct.pack("!BBHI", protocol, 0, 0, 1) + upper, following=44)],
        in_two(upper, protocol, 8),
        in_two(hidden, 60, 16),
        in_two(hidden, 60, 8),
        in_two(padding(protocol) + upper, 60, 8)[::-1],
    ]


@pytest.mark.parametrize("to", ["theirs", "host", "all"])
@pytest.mark.parametrize("what", ["advertisement", "redirect"])
def test_router(street, what, to):
    dst = {"theirs": street.their6, "host": "fe80::1", "all": "ff02::1"}[to]
    for src in (street.link, street.own6):
        mark = street.mark()
        upper = advertisement(src, dst, mark) if what == "advertisement" else \
            redirect(src, dst, street.their6, mark)
        street.refused_all(mark, disguises(src, dst, upper, 58))


@pytest.mark.parametrize("to", ["theirs", "everybody", "gateway"])
def test_dhcp_server_v4(street, to):
    dst = {"theirs": street.their4, "everybody": "255.255.255.255", "gateway": street.gate4}[to]
    mark = street.mark()
    data = udp4(street.own4, dst, mark * 4, 67, 68)
    first = ip4(street.own4, dst, data[:16], fragment=0x2000)
    last = ip4(street.own4, dst, data[16:], fragment=2)
    street.refused_all(mark, [[ip4(street.own4, dst, data)],
                              [ip4(street.own4, dst, data, options=b"\x01" * 8)],
                              [first, last], [last, first]])


@pytest.mark.parametrize("to", ["theirs", "host"])
def test_dhcp_server_v6(street, to):
    dst = {"theirs": street.their6, "host": "fe80::1"}[to]
    src = street.own6 if to == "theirs" else street.link
    mark = street.mark()
    street.refused_all(mark, disguises(src, dst, udp6(src, dst, mark * 4, 547, 546), 17))


def test_source_routes(street):
    """By way of the host to the victim: routing headers of IPv6, and the options of IPv4."""
    for kind in (0, 2, 3, 4):
        mark = street.mark()
        route = struct.pack("!BBBBI", 17, 2, kind, 1, 0) + six(street.their6)
        data = udp6(street.own6, street.their6, mark)
        street.refused(mark, [street.ethernet(ip6(street.own6, via, route + data, following=43))
                              for via in (street.gate6, "fe80::1")], "rogue", 2)
    for kind in (131, 137):  # loose, strict
        mark = street.mark()
        options = struct.pack("!BBB4sB", kind, 7, 4, four(street.their4), 0)
        data = udp4(street.own4, street.their4, mark)
        street.refused(mark, [street.ethernet(ip4(street.own4, via, data, options=options))
                              for via in (street.gate4, "169.254.1.1")], "rogue", 2)
