# SPDX-License-Identifier: GPL-2.0-or-later
"""Ten VEs saturate an uplink of 200 Mbit/s in two classes; how soon a guarantee comes back.

Shares are read from the leaves of the trees, in bytes with Ethernet headers, as guarantees are.
Inward the far host's end plays the line: it sends 200 Mbit/s at most.  UDP there is a little more
than its guarantee: who does not slow down is the line's own affair."""
import json
import os
import statistics
import subprocess
import time

from far import enter
from flows import Flows

TITLE = "Guarantees by destination class on an uplink of 200 Mbit/s"
LINE, INWARD = 200, 195
GUARANTEES = [5, 6, 8, 10, 12, 15, 18, 22, 30, 60]  # no two alike: a leaf is known by its rate
NEAR, OTHER = "198.18.79.2", "198.18.81.2"
TCP = ["-C", "cubic"]  # always has something waiting; bbr asks for less where a path has no length
is_udp = lambda i: i // 2 % 2 == 0

# Prints the milliseconds from its first datagram's sending until FRESH_MS in which so many bytes
# came of it; told of the beginning on standard input.
ARRIVE = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
s.bind((sys.argv[1], 7100))
rate, window = float(sys.argv[2]), 0.05
print("up", flush=True)
came, total = [], 0
s.settimeout(5)
begin = float(s.recv(2000).split(b" ")[0])
while True:
    n = len(s.recv(2000)) + 42
    now = time.monotonic()
    came.append((now, n))
    total += n
    while came[0][0] < now - window:
        total -= came.pop(0)[1]
    if now - begin > window and total * 8 >= rate * window:
        print((now - begin) * 1e3, flush=True)
        break
"""
FLOOD = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
begin = time.monotonic()
packet = (b"%.6f " % begin).ljust(1200)
n = 0
while time.monotonic() - begin < 3:
    if n * 1242 * 8 < (time.monotonic() - begin) * 80e6:
        s.sendto(packet, (sys.argv[1], 7100))
        n += 1
"""
def sent(link):
    """Bytes that each leaf has let go, by its guarantee in Mbit/s."""
    found, rate = {}, None
    for line in subprocess.run(["tc", "-s", "class", "show", "dev", link], check=True,
                               capture_output=True, text=True).stdout.splitlines():
        words = line.split()
        if words[:2] == ["class", "htb"]:
            rate = words[words.index("rate") + 1].removesuffix("Mbit") \
                if int(words[2].split(":")[1], 16) >= 16 else ""
        elif words[:1] == ["Sent"] and rate.isdigit() and int(rate) in GUARANTEES:
            found[int(rate)] = int(words[1])
    return found


def begun(where, addresses):
    """What programs there give their own network to send, to each of the addresses."""
    rules = "".join(f"  ip daddr {a} counter\n" for a in addresses)
    subprocess.run([*enter(where), "nft", "-f", "-"], check=True, text=True, input=
                   "table inet offered {\n chain out {\n  type filter hook output priority 0;\n"
                   f"{rules} }}\n}}\n")


def offered(where):
    """{address: bytes}, each packet with its Ethernet header."""
    out = json.loads(subprocess.run([*enter(where), "nft", "-j", "list", "table", "inet", "offered"],
                                    check=True, capture_output=True, text=True).stdout)
    rules = [item["rule"]["expr"] for item in out["nftables"] if "rule" in item]
    return {match["match"]["right"]: count["counter"]["bytes"] + 14 * count["counter"]["packets"]
            for match, count in rules}


def shares(bench, flows, link, name, begin, asked=dict):
    """asked: what those whose sending does not follow what arrives have offered until now, by
    guarantee: the machine may not let them send what they are to."""
    try:
        begin()
        time.sleep(3)
        at, first, wanted = time.monotonic(), sent(link), asked()
        time.sleep(8)
        seconds, last, wanting = time.monotonic() - at, sent(link), asked()
    finally:
        flows.close()
    mbit = lambda old, new: {g: (new[g] - old[g]) * 8 / seconds / 1e6 for g in new}
    rate, offer = mbit(first, last), mbit(wanted, wanting)
    print(f"{name}: {', '.join(f'{g}: {rate[g]:.2f} of {offer.get(g, 0):.2f}' for g in sorted(rate))}")
    claim = {g: min(g, offer.get(g, g)) for g in GUARANTEES}
    for what, whole in ("of its guarantee", dict(zip(GUARANTEES, GUARANTEES))), \
            ("of what was sent to it of its guarantee", claim):
        worst = min(GUARANTEES, key=lambda g: rate[g] / whole[g])
        if whole != claim or offer:
            bench.row("classes", f"{name}: the least {what} ({worst} Mbit/s)", "%",
                      100 * rate[worst] / whole[worst], len(GUARANTEES))
    bench.row("classes", f"{name}: all together, of the line", "%",
              100 * sum(rate[g] for g in GUARANTEES) / LINE)


def share(bench, node, far):
    ves = [(node.show(f"v{g}")["pid"], node.show(f"v{g}")["addresses"][0]) for g in GUARANTEES]
    flows = Flows()

    def outward():
        for i in range(len(ves)):
            flows.serve(far.space, 5400 + i, "-B", OTHER if i % 2 else NEAR)
        for i, (pid, _) in enumerate(ves):
            flows.client(pid, OTHER if i % 2 else NEAR, 5400 + i, 60,
                         *(["-u", "-b", f"{GUARANTEES[i] + 20}M", "-l", "1200"] if is_udp(i)
                           else TCP))

    def inward():
        for i, (pid, _) in enumerate(ves):
            flows.serve(pid, 5400 + i)
        for i, (_, address) in enumerate(ves):
            rate = f"{GUARANTEES[i] * 1.05 * 1200 / 1242:.2f}M"
            flows.client(far.space, address, 5400 + i, 60, "-B", OTHER if i % 2 else NEAR,
                         *(["-u", "-b", rate, "-l", "1200"] if is_udp(i) else TCP))

    def asked():
        now = offered(far.space)
        return {GUARANTEES[i]: now[address] for i, (_, address) in enumerate(ves) if is_udp(i)}

    shares(bench, flows, far.link, "outward", outward)
    begun(far.space, [address for _, address in ves])
    shares(bench, flows, f"terem{node.number}.in", "inward", inward, asked)


def lent(bench, node, far, inward):
    """Nine flood with what the tenth is guaranteed; then it wants it.  Inward the line, which knows
    no guarantees, is made wide enough for all that they send: only the tree divides."""
    if inward:
        far_line(far, "change", 2 * LINE)
    ves = [(node.show(f"v{g}")["pid"], node.show(f"v{g}")["addresses"][0]) for g in GUARANTEES]
    took = []
    for _ in range(5):
        flows = Flows()
        try:
            for i, (pid, address) in enumerate(ves[:-1]):
                flows.serve(pid if inward else far.space, 5500 + i)
            for i, (pid, address) in enumerate(ves[:-1]):
                flows.client(far.space if inward else pid, address if inward else NEAR, 5500 + i, 60,
                             "-u", "-b", "25M", "-l", "1200")
            pid, address = ves[-1]
            source, sink, to = (far.space, pid, address) if inward else (pid, far.space, NEAR)
            arrive = flows.start(sink, "/usr/bin/python3", "-c", ARRIVE, to, str(0.95 * 60e6))
            assert arrive.stdout.readline() == "up\n"
            time.sleep(1)
            flows.start(source, "/usr/bin/python3", "-c", FLOOD, to)
            took.append(float(arrive.stdout.readline()))
        finally:
            flows.close()
    took.sort()
    bench.row("classes", f"{'inward' if inward else 'outward'}: a lent guarantee of 60 Mbit/s is back "
              "after", "ms", statistics.median(took), len(took), took[0], took[-1])


def far_line(far, verb, rate):
    subprocess.run(["ip", "netns", "exec", far.space, "tc", "class", verb, "dev", "far0", "parent",
                    "1:", "classid", "1:1", "htb", "rate", f"{rate}mbit", "burst", "50k"], check=True)


def a_line(far):
    """The far host sends no more than the line carries, and is in both classes."""
    run = lambda *words: subprocess.run(["ip", "netns", "exec", far.space, *words], check=True)
    run("ip", "addr", "add", OTHER + "/32", "dev", "far0")
    run("tc", "qdisc", "add", "dev", "far0", "root", "handle", "1:", "htb", "default", "1")
    far_line(far, "add", LINE)
    run("tc", "qdisc", "add", "dev", "far0", "parent", "1:1", "bfifo", "limit", "500k")
    subprocess.run(["ip", "route", "add", OTHER + "/32", "dev", far.link], check=True)


def run(bench):
    from far import far_alone
    from node import Node
    alone = far_alone()
    far = alone.__enter__()
    bench.closing.append(lambda: alone.__exit__(None, None, None))
    a_line(far)
    node = Node(bench.options.build)
    with open(os.path.join(node.root, "terem.conf"), "a", encoding="ascii") as file:
        file.write(f"network.uplink = {far.link}\nnetwork.out = {LINE}M\n"
                   f"network.in = {INWARD}M\n")
    bench.own(node).start()
    node.terem("network", "class", "add", "near", NEAR)
    node.terem("network", "class", "add", "other", OTHER)
    node.template("busybox")
    app = {"template": "busybox", "kind": "app", "command": ["/bin/sleep", "1000000"]}
    for i, g in enumerate(GUARANTEES):
        name = "other" if i % 2 else "near"
        node.ve(f"v{g}", params={f"net.{way}.{name}": f"{g}M:unlimited" for way in ("out", "in")},
                **app)
    share(bench, node, far)
    for g in GUARANTEES:  # for the loan all send to one class
        node.ok("PATCH", f"/v1/ves/v{g}",
                {"params": {f"net.{way}.{name}": value for way in ("out", "in")
                            for name, value in (("other", None), ("near", f"{g}M:unlimited"))}})
    lent(bench, node, far, False)
    lent(bench, node, far, True)
