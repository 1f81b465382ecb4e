# SPDX-License-Identifier: GPL-2.0-or-later
"""connections, connections.rate, net.packets and firewall.rules: what comes through and what is
counted as refused add up exactly; the neighbour loses nothing; nothing is lost with teremd."""
import json
import subprocess

from far import far  # noqa: F401, a fixture
from node import PATIENCE, Node, wait_for
from test_memory import Events

# Runs in a network namespace: sends COUNT datagrams, each from a port of its own (a connection
# each) or all from one, or only listens; says what it did.
SEND = """
import json, socket, sys
address, port, count, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
for i in range(count):
    if i == 0 or first:
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.bind(("", first + i if first else 0))
    s.sendto(b"x", (address, port))
"""


class Ports:
    next = 20000


def send(node, name, address, port, count, one=False):
    send_from(node.show(name)["pid"], address, port, count, one)


def send_from(pid, address, port, count, one=False):
    first = 0 if one else Ports.next
    Ports.next += 0 if one else count
    subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "/usr/bin/python3", "-c", SEND, address,
                    str(port), str(count), str(first)], check=True, timeout=PATIENCE)


def counters(node, name):
    return {row["key"]: row for row in node.ok("GET", f"/v1/ves/{name}/counters")}


def failcnt(node, name, key):
    return counters(node, name)[key]["failcnt"]


def change(node, name, force=False, **params):
    return node.api("PATCH", f"/v1/ves/{name}",
                    {"params": {k.replace("__", "."): v for k, v in params.items()},
                     **({"force": True} if force else {})})


def test_connections(node, far):
    node.ve("web1", params={"connections": "5"})
    node.ve("web2")
    # Whoever had the address before may have left some that the kernel has not forgotten yet.
    old = {name: counters(node, name)["connections"]["held"] for name in ("web1", "web2")}
    assert far.received(7001, lambda: send(node, "web1", far.address, 7001, 20)) == 5
    row = counters(node, "web1")["connections"]
    assert (row["limit"], row["failcnt"], row["maxheld"]) == (5, 15, None)
    assert 5 <= row["held"] <= 5 + old["web1"]
    assert far.received(7001, lambda: send(node, "web2", far.address, 7001, 50)) == 50
    row = counters(node, "web2")["connections"]
    assert row["failcnt"] == 0 and 50 <= row["held"] <= 50 + old["web2"]
    # Live, below what is in use: only by force, and then it counts anew.
    refused = change(node, "web1", connections="3")
    assert refused.status == 409 and " in use" in refused.json["error"]["message"]
    assert change(node, "web1", force=True, connections="3").status == 200
    assert far.received(7001, lambda: send(node, "web1", far.address, 7001, 10)) == 3
    assert failcnt(node, "web1", "connections") == 22
    assert change(node, "web1", connections="unlimited").status == 200
    assert far.received(7001, lambda: send(node, "web1", far.address, 7001, 50)) == 50
    assert failcnt(node, "web1", "connections") == 22
    # A start begins its counters anew.
    node.job("POST", "/v1/ves/web1/restart")
    assert failcnt(node, "web1", "connections") == 0


def test_default_of_connections(node):
    """Bounded without anybody having said so."""
    node.ve("web1")
    with open("/proc/sys/net/netfilter/nf_conntrack_max", encoding="ascii") as file:
        expected = min(16384, int(file.read()) // 4)
    rules = subprocess.run(["nft", "list", "table", "inet", f"terem_{node.number}"], check=True,
                           capture_output=True, text=True).stdout
    assert f"jump connections-{expected}-out" in rules
    assert counters(node, "web1")["connections"]["limit"] == 16384


def test_rate_and_packets(node, far):
    node.ve("web1", params={"connections.rate": "5", "net.packets": "1000000"})
    node.ve("web2")
    sent = 300
    came = far.received(7002, lambda: send(node, "web1", far.address, 7002, sent))
    assert 5 <= came < sent
    assert came + failcnt(node, "web1", "connections.rate") == sent
    assert far.received(7002, lambda: send(node, "web2", far.address, 7002, sent)) == sent
    assert failcnt(node, "web2", "connections.rate") == 0
    assert change(node, "web1", connections__rate="unlimited", net__packets="50").status == 200
    before = failcnt(node, "web1", "net.packets")
    came = far.received(7002, lambda: send(node, "web1", far.address, 7002, 3000, one=True))
    after = failcnt(node, "web1", "net.packets")
    # Its kernel may say a word of its own (neighbour discovery) meanwhile.
    assert 1 <= came < 3000 and 3000 <= came + after - before <= 3020
    assert failcnt(node, "web2", "net.packets") == 0


def test_a_false_source_spends_its_own(node):
    """With its neighbour's address a VE spends its own packets, and none of the neighbour's."""
    node.ve("web1", params={"net.packets": "20"})
    node.ve("web2", params={"net.packets": "1000000"})
    theirs = node.show("web2")["addresses"][0]
    node.sh("web1", f"ip addr add {theirs.rpartition('.')[0]}.250/32 dev eth0")
    before = failcnt(node, "web1", "net.packets")
    pid = node.show("web1")["pid"]
    subprocess.run(
        ["nsenter", f"--net=/proc/{pid}/ns/net", "/usr/bin/python3", "-c",
         "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
         f"s.bind(('{theirs.rpartition('.')[0]}.250', 0))\n"
         f"for i in range(1000): s.sendto(b'x', ('{theirs}', 9))"], check=True, timeout=60)
    assert failcnt(node, "web1", "net.packets") - before > 500
    assert failcnt(node, "web2", "net.packets") == 0


def test_kill_keeps_rules_and_counts(node, far):
    pid = node.ve("web1", params={"connections": "4", "net.packets": "100000"})["pid"]
    old = counters(node, "web1")["connections"]["held"]
    assert far.received(7003, lambda: send(node, "web1", far.address, 7003, 10)) == 4
    node.kill()
    assert far.received(7003, lambda: send_from(pid, far.address, 7003, 3)) == 0
    node.start()
    assert far.received(7003, lambda: send(node, "web1", far.address, 7003, 3)) == 0
    row = counters(node, "web1")["connections"]
    assert row["failcnt"] == 12 and 4 <= row["held"] <= 4 + old


def test_deleted_rules_come_back(node, far):
    """Somebody deletes the table, with teremd there and without."""
    node.ve("web1", params={"connections": "2"})
    table = ["nft", "delete", "table", "inet", f"terem_{node.number}"]
    subprocess.run(table, check=True)
    wait_for(lambda: "are laid again" in node.words() and failcnt(node, "web1", "connections") is not None,
             node.words)
    assert far.received(7004, lambda: send(node, "web1", far.address, 7004, 10)) == 2
    node.kill()
    subprocess.run(table, check=True)
    node.start()
    assert far.received(7004, lambda: send(node, "web1", far.address, 7004, 10)) == 2
    assert failcnt(node, "web1", "connections") == 8


def test_refusals_are_told(node, far):
    """Each row's refusals by an event, and together they tell of all."""
    node.ve("web1", params={"connections": "5"})
    node.ve("web2")
    with Events(node) as events:
        events.begin("web2")
        assert far.received(7006, lambda: send(node, "web1", far.address, 7006, 20)) == 5
        event = events.wait("ve.refused", ve="web1", key="connections")
        assert event["count"] >= 1 and event["pid"] is None and event["process"] is None
        assert event["text"] == "connections that it opened were dropped"
        change(node, "web1", force=True, connections="unlimited", net__packets="20")
        far.received(7006, lambda: send(node, "web1", far.address, 7006, 2000, one=True))
        event = events.wait("ve.refused", ve="web1", key="net.packets")
        assert event["text"] == "packets that it sent were dropped"
        assert not [e for e in events.seen if e["type"] == "ve.refused" and e["ve"] == "web2"]


def test_nothing_is_left_of_a_stopped_ve(node):
    node.ve("web1", params={"connections": "7", "connections.rate": "9", "net.packets": "11"})
    number = node.show("web1")["id"] if "id" in node.show("web1") else 1
    node.job("POST", "/v1/ves/web1/stop", {"timeout": 5})
    rules = subprocess.run(["nft", "list", "table", "inet", f"terem_{node.number}"], check=True,
                           capture_output=True, text=True).stdout
    assert f"ve{number}-" not in rules and f'terem{node.number}-{number}"' not in rules


def test_firewall_rules(node):
    pid = node.ve("web1")["pid"]
    assert counters(node, "web1")["firewall.rules"]["held"] == 0
    subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "nft", "-f", "-"], check=True, text=True,
                   input="table inet own {\n chain c {\n  accept\n  drop\n }\n}\n")
    row = counters(node, "web1")["firewall.rules"]
    assert (row["held"], row["limit"], row["failcnt"]) == (2, None, None)
    refused = change(node, "web1", firewall__rules="10")
    assert refused.status == 501 and "charged to memory.limit" in refused.json["error"]["message"]


def test_guaranteed_rate(build, far):
    """The node's capacity is taken by one; the other still has what it was promised."""
    with Node(build, capacity_connections=50) as node:
        node.ve("web1", params={"connections.rate": "40:200"})
        node.ve("web2")
        refused = change(node, "web2", connections__rate="11:unlimited")
        assert refused.status == 507, refused
        assert "10 are left of the node's 50" in refused.json["error"]["message"]
        rate = node.ok("GET", "/v1")["resources"]["connections"]
        assert (rate["total"], rate["guaranteed"], rate["left"], rate["limits"]) == (50, 40, 10, 200)
        node.ok("PATCH", "/v1/ves/web2", {"params": {"connections.rate": "10:unlimited"}})
        assert "connections: nearly all is guaranteed" in node.terem("node", "show").stdout
        node.ok("PATCH", "/v1/ves/web2", {"params": {"connections.rate": None}})
        came = far.received(7005, lambda: send(node, "web2", far.address, 7005, 400))
        assert 10 <= came < 200 and came + failcnt(node, "web2", "connections.rate") == 400
        assert far.received(7005, lambda: send(node, "web1", far.address, 7005, 40)) == 40
        assert failcnt(node, "web1", "connections.rate") == 0


def test_a_guarantee_needs_a_capacity(node):
    node.template()
    answer = node.api("POST", "/v1/ves", {"name": "web1", "template": "busybox",
                                          "params": {"connections.rate": "10:20"}})
    assert answer.status == 507 and "capacity.connections" in json.dumps(answer.json)
