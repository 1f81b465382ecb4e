# SPDX-License-Identifier: GPL-2.0-or-later
"""Destination classes: what is taken and what is refused, all or nothing, and after a restart; what
VEs send and get is counted by class to the byte, whoever is restarted or killed meanwhile."""
import subprocess

from far import enter, far  # noqa: F401, a fixture
from node import PATIENCE



def prefixes(node, name):
    return node.ok("GET", f"/v1/network/classes/{name}")["prefixes"]


def classes(node):
    return {c["name"]: c["count"] for c in node.ok("GET", "/v1/network/classes")}


def refused(node, *words):
    done = node.terem("network", "class", *words, check=False)
    assert done.returncode != 0 and done.stdout == ""
    sentence = done.stderr.strip()
    assert sentence.startswith("terem: ") and "\n" not in sentence
    return sentence


def test_lists(node, tmp_path):
    before = classes(node)
    assert before["any"] == 0 and before["local"] == 2
    node.terem("network", "class", "add", "europe", "192.0.2.0/24", "2001:db8::/32")
    listed = tmp_path / "ripe.txt"
    listed.write_text("# a list\n198.51.100.0/24  203.0.113.0/25 # two\n\n203.0.113.128/25\n")
    said = node.terem("network", "class", "add", "europe", "--file", str(listed)).stdout
    assert said == "class europe: 3 prefixes added, 5 in all\n"
    node.terem("network", "class", "add", "russia", "192.0.2.128/25")
    assert classes(node) == {**before, "europe": 5, "russia": 1}
    shown = node.terem("network", "class", "show", "europe").stdout
    assert shown.splitlines()[:3] == ["# class europe", "# used by no VE", "192.0.2.0/24"]
    assert "europe" in node.terem("network", "class").stdout.split()
    # What show prints, add reads.
    node.terem("network", "class", "remove", "europe")
    assert "europe" not in classes(node)
    again = tmp_path / "again.txt"
    again.write_text(shown)
    node.terem("network", "class", "add", "europe", "-f", str(again))
    node.terem("network", "class", "remove", "europe", "2001:db8::/32", "192.0.2.0/24")
    assert prefixes(node, "europe") == ["198.51.100.0/24", "203.0.113.0/25", "203.0.113.128/25"]
    node.kill()
    node.start()
    assert classes(node) == {**before, "europe": 3, "russia": 1}
    assert prefixes(node, "russia") == ["192.0.2.128/25"]


def test_bad_input(shared, tmp_path):
    node = shared
    node.terem("network", "class", "add", "europe", "192.0.2.0/24")
    node.terem("network", "class", "add", "russia", "198.51.100.0/24")
    before = classes(node)
    local = prefixes(node, "local")[0]
    inside = local.split("/")[0].rsplit(".", 1)[0] + ".0/24"
    for words, why in [
            (["add", "europe", "203.0.113.0/24", "0.0.0.0/0"], "0.0.0.0/0 is every address"),
            (["add", "europe", "203.0.113.0/24", "::/0"], "::/0 is every address"),
            (["add", "europe", "203.0.113.0/24", "198.51.100.0/24"],
             "198.51.100.0/24 is in class russia already; take it out there first"),
            (["add", "europe", "203.0.113.0/24", "192.0.2.0/24"],
             "192.0.2.0/24 is in class europe already; leave it out"),
            (["add", "europe", "203.0.113.0/24", "203.0.113.0/24"], "203.0.113.0/24 is given twice"),
            (["add", "asia", "203.0.113.0/24", "203.0.113.0/24"], "203.0.113.0/24 is given twice"),
            (["add", "europe", "203.0.113.1/24"], "did you mean 203.0.113.0/24?"),
            (["add", "europe", "203.0.113.0/24", "x"], "\"x\" is not a prefix"),
            (["add", "europe", inside], "does not leave this node"),
            (["add", "any", "203.0.113.0/24"], "it has no list"),
            (["add", "local", "203.0.113.0/24"], "network.pool4"),
            (["add", "Europe", "203.0.113.0/24"], "is not a usable name"),
            (["add", "e" * 32, "203.0.113.0/24"], "at most 31 characters"),
            (["add", "europe"], "no prefix was given; name one such as 192.0.2.0/24"),
            (["remove", "europe", "203.0.113.0/24"], "it has no prefix 203.0.113.0/24, or that was given twice; terem "
             "network class show tells what it has"),
            (["remove", "europe", "198.51.100.0/24"], "it has no prefix 198.51.100.0/24"),
            (["remove", "europ"], "did you mean europe?"),
            (["remove", "local"], "network.pool4"),
            (["remove", "asia", "203.0.113.0/24"], "there is no such class"),
            (["show", "asia"], "there is no class asia"),
            (["grow", "europe"], "use one of: list, show, add, remove"),
            (["add", "europe", "--file", str(tmp_path / "none")], "cannot read the list"),
    ]:
        assert why in refused(node, *words), words
        assert classes(node) == before
    body = node.api("PATCH", "/v1/network/classes/europe", {"add": "203.0.113.0/24"})
    assert body.status == 400
    assert node.api("PATCH", "/v1/network/classes/europe", {"put": []}).status == 400


def test_real_sizes(shared, tmp_path):
    """Twenty thousand at once; a million is refused with the bound, and nothing of it stays."""
    node = shared
    def write(name, first, count):
        path = tmp_path / name
        path.write_text("".join(f"{a >> 16 & 255}.{a >> 8 & 255}.{a & 255}.0/24\n"
                                for a in range(first, first + count)))
        return str(path)
    node.terem("network", "class", "add", "big", "--file", write("big", 0x200000, 20000))
    assert classes(node)["big"] == 20000
    million = write("million", 0x400000, 1000000)
    assert "more than 32768 prefixes" in refused(node, "add", "huge", "--file", million)
    for i in range(3):
        node.terem("network", "class", "add", "big", "--file",
                   write(f"more{i}", 0x300000 + i * 32768, 32768))
    assert "131072" in refused(node, "add", "big", "--file", write("last", 0x800000, 32768))
    assert classes(node)["big"] == 20000 + 3 * 32768
    assert "huge" not in classes(node)
    node.terem("network", "class", "remove", "big")


# In a network namespace: sends COUNT datagrams of SIZE bytes.
SEND = """
import socket, sys, time
address, count, size, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(count):
    s.sendto(b"x" * size, (address, 9))
    time.sleep(pause)
"""
HEADERS = {4: 14 + 20 + 8, 6: 14 + 40 + 8}


def send(where, address, count, size, pause=0.0):
    """where: a VE's first process, or a network namespace's name."""
    return subprocess.Popen([*enter(where), "/usr/bin/python3", "-c", SEND, address, str(count),
                             str(size), str(pause)])


def sent(*args):
    assert send(*args).wait(PATIENCE) == 0


def counts(node, name):
    """{(class, way): (packets, bytes)}"""
    classes = next(ve["classes"] for ve in node.ok("GET", "/v1/network")["ves"]
                   if ve["name"] == name)
    return {(c, way): (n[way]["packets"], n[way]["bytes"])
            for c, n in classes.items() for way in ("out", "in")}


def grown(node, name, before):
    now = counts(node, name)
    diff = {k: (n[0] - before.get(k, (0, 0))[0], n[1] - before.get(k, (0, 0))[1])
            for k, n in now.items()}
    return {k: n for k, n in diff.items() if n != (0, 0) and k[0] != "local"}


def cable(node, name):
    """What the VE's own interface counted: (got packets, got bytes, sent packets, sent bytes)."""
    line = next(l for l in node.sh(name, "cat /proc/net/dev").splitlines()
                if l.strip().startswith("eth0:"))
    n = [int(w) for w in line.split(":")[1].split()]
    return n[1], n[0], n[9], n[8]


def whole(node, name):
    """All classes together and the cable, both as it tells, at a moment when nothing passes."""
    for _ in range(50):
        now, there, after = counts(node, name), cable(node, name), counts(node, name)
        if now == after:
            break
    return [sum(n[i] for (_, w), n in now.items() if w == way)
            for way in ("in", "out") for i in (0, 1)], list(there)


def test_counts(node, far):
    near, six, ve_class = (far.address + "/32", far.address6 + "/128", "198.18.79.0/24")
    node.terem("network", "class", "add", "near", near, six)
    node.terem("network", "class", "add", "wide", ve_class)
    node.ve("web1")
    node.ve("web2")
    pid = node.show("web1")["pid"]
    a4, a6 = node.show("web1")["addresses"]
    before, other = counts(node, "web1"), counts(node, "web2")
    sent(pid, far.address, 50, 100)
    sent(pid, far.address6, 40, 200)
    sent(far.space, a4, 30, 300)
    sent(far.space, a6, 20, 400)
    sent(pid, "198.18.79.200", 10, 50)
    sent(pid, "203.0.113.7", 7, 60)
    got = grown(node, "web1", before)
    # The far host, and what routes answer, may say that a port is closed: that is traffic too.
    assert got.pop(("near", "out"))[0] >= 90
    assert got[("near", "in")][0] >= 50
    assert got[("wide", "out")] == (10, 10 * (HEADERS[4] + 50))
    assert got[("any", "out")] == (7, 7 * (HEADERS[4] + 60))
    assert grown(node, "web2", other) == {}
    # All classes together are what the interface inside has counted, once its own beginning (the
    # kernel's reports of multicast groups, before the cable takes packets) is over.
    first = whole(node, "web1")
    sent(pid, far.address, 50, 1000)
    sent(far.space, a6, 50, 1000)
    last = whole(node, "web1")
    assert [b - a for a, b in zip(first[0], last[0])] == [b - a for a, b in zip(first[1], last[1])]
    assert last[0][3] - first[0][3] >= 50 * (HEADERS[4] + 1000)
    # A VE's neighbour is local, both ways.
    pid2 = node.show("web2")["pid"]
    local = {name: counts(node, name) for name in ("web1", "web2")}
    sent(pid2, a4, 25, 70)
    for name, way in (("web2", "out"), ("web1", "in")):
        grew = counts(node, name)[("local", way)]
        assert grew[0] - local[name][("local", way)][0] >= 25
        assert grown(node, name, local[name]) == {}
    text = node.terem("network", "show").stdout
    assert "web1" in text and "near" in text and a4 in text
    assert max(len(line) for line in text.splitlines()) <= 80
    text = node.terem("network", "show", "web1").stdout
    assert a4 in text and "near" in text and "PACKETS" in text and node.show("web2")["addresses"][0] not in text
    assert node.json("network", "show", "web1")["classes"]["near"]["out"]["packets"] > 0
    assert "web1?" in node.terem("network", "show", "web11", check=False).stderr
    metrics = node.api("GET", "/metrics").body.decode()
    assert 'terem_ve_network_class_out_packets_total{ve="web1",class="wide"} 10' in metrics
    assert node.show("web1")["usage"]["net_classes"]["wide"]["out"]["packets"] == 10


def test_counts_stay(node, far):
    node.terem("network", "class", "add", "wide", "198.18.79.0/24")
    node.ve("web1")
    address = "198.18.79.200"  # nobody answers there
    size = HEADERS[4] + 100
    # teremd is killed while the VE sends, and nothing is lost or counted twice.
    sender = send(node.show("web1")["pid"], address, 300, 100, 0.002)
    node.kill()
    node.start()
    assert sender.wait(PATIENCE) == 0
    assert counts(node, "web1")[("wide", "out")] == (300, 300 * size)
    # The VE's own restart ends nothing either, nor does its class's removal.
    node.job("POST", "/v1/ves/web1/restart")
    sent(node.show("web1")["pid"], address, 10, 100)
    assert counts(node, "web1")[("wide", "out")] == (310, 310 * size)
    node.terem("network", "class", "remove", "wide")
    any_before = counts(node, "web1").get(("any", "out"), (0, 0))
    sent(node.show("web1")["pid"], address, 5, 100)
    now = counts(node, "web1")
    assert now[("wide", "out")][0] == 310 and now[("any", "out")][0] == any_before[0] + 5
    assert "wide (removed)" in node.terem("network", "show").stdout
    node.terem("network", "class", "add", "wide", "198.18.79.0/24")
    sent(node.show("web1")["pid"], address, 5, 100)
    assert counts(node, "web1")[("wide", "out")] == (315, 315 * size)
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    assert counts(node, "web1")[("wide", "out")] == (315, 315 * size)
    # One that takes its place has its own.
    node.job("DELETE", "/v1/ves/web1")
    node.ve("web1")
    assert ("wide", "out") not in counts(node, "web1")
