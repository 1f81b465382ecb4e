# SPDX-License-Identifier: GPL-2.0-or-later
"""A VE's root makes the machine believe that its connections are closed, or sends what belongs to
none: neither gives it more of them, nor a way past the translation of its address."""
import subprocess
import sys

import pytest

LIMIT = 20

# In the network namespace of the one that is asked.
ANSWERS = """
import selectors, socket
listener, seen = socket.create_server(("0.0.0.0", 80), backlog=200), selectors.DefaultSelector()
seen.register(listener, selectors.EVENT_READ)
print("up", flush=True)
while True:
    for key, _ in seen.select():
        if key.fileobj is listener:
            seen.register(listener.accept()[0], selectors.EVENT_READ)
            continue
        try:
            data = key.fileobj.recv(100)
        except OSError:
            data = b""
        if data:
            key.fileobj.send(data)
        else:
            seen.unregister(key.fileobj)
            key.fileobj.close()
"""

# In the namespace of the one that attacks: opens connections, resets those that it opens by a
# segment that the other never gets (of which the kernel that sends knows nothing either), and says
# how many answer.  seq and ack are asked of the socket by TCP_REPAIR.
OPENS = """
import socket, struct, sys
to, count, resets = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "reset"
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff

def segment(source, port, seq, ack, flags):
    both = socket.inet_aton(source) + socket.inet_aton(to)
    tcp = struct.pack("!HHIIBBHHH", port, 80, seq, ack, 0x50, flags, 0, 0, 0)
    tcp = tcp[:16] + struct.pack("!H", checksum(both + struct.pack("!HH", 6, 20) + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0x4000, 1, 6, 0) + both
    raw.sendto(ip + tcp, (to, 0))

def reset(s):
    s.setsockopt(6, 19, 1)
    queues = []
    for queue in (2, 1):
        s.setsockopt(6, 20, queue)
        queues.append(s.getsockopt(6, 21) & 0xffffffff)
    s.setsockopt(6, 19, -1)
    segment(*s.getsockname(), *queues, 0x14)

opened, answered = [], 0
for _ in range(count):
    s = socket.socket()
    s.settimeout(0.5)
    try:
        s.connect((to, 80))
    except OSError:
        continue
    opened.append(s)
    if resets:
        reset(s)
for s in opened:
    if not resets:  # then each of them is answered
        s.settimeout(60)
    try:
        s.send(b"ping")
        answered += s.recv(10) == b"ping"
    except OSError:
        pass
print(len(opened), answered)
"""


def inside(node, name, program, *words):
    return ["nsenter", "-t", str(node.show(name)["pid"]), "-n", sys.executable, "-c", program, *words]


@pytest.fixture(scope="module")
def street(shared):
    shared.ve("greedy", params={"connections": str(LIMIT)})
    shared.ve("asked")
    server = subprocess.Popen(inside(shared, "asked", ANSWERS), stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "up\n"
        yield shared
    finally:
        server.kill()
        server.wait()


def stale(node):
    table = subprocess.run(["nft", "list", "counter", "inet", f"terem_{node.number}", "stale"],
                           capture_output=True, text=True, check=True).stdout.split()
    return int(table[table.index("packets") + 1])


def test_what_belongs_to_no_connection(street):
    before = stale(street)
    # SYN and FIN at once: connection tracking calls that invalid, and nothing would translate it.
    program = OPENS.split("opened, answered")[0] + "segment(sys.argv[4], 7, 1, 0, 0x03)\n"
    subprocess.run(inside(street, "greedy", program, street.show("asked")["addresses"][0], "0", "",
                          street.show("greedy")["addresses"][0]), check=True)
    assert stale(street) == before + 1


@pytest.mark.parametrize("how", ["plain", "reset"])
def test_no_more_than_its_connections(street, how):
    to, before = street.show("asked")["addresses"][0], stale(street)
    done = subprocess.run(inside(street, "greedy", OPENS, to, str(2 * LIMIT), how),
                          capture_output=True, text=True, check=True).stdout
    opened, answered = map(int, done.split())
    assert opened >= LIMIT >= answered, (opened, answered)
    if how == "reset":
        assert opened > LIMIT and stale(street) > before  # it was tried
    else:
        assert answered == LIMIT
