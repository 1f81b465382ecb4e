# SPDX-License-Identifier: GPL-2.0-or-later
"""The log of usage: exactly what the cable carried, written once, whoever is killed, restarted or
destroyed meanwhile."""
import os
import random
import time

import pytest

from capture import Cable, pcap_sums
from far import far  # noqa: F401, a fixture
from node import PATIENCE, Node, wait_for
from test_classes import HEADERS, counts, send, sent

NOBODY = "198.18.79.200"  # of class wide; nobody answers there


@pytest.fixture
def metered(build):
    """A node whose records are of a second."""
    with Node(build, usage_interval="1s") as node:
        node.terem("network", "class", "add", "wide", "198.18.79.0/24")
        yield node


def records(node, limit=1000):
    """All of them, as who bills reads them: page by page."""
    found, after = [], 0
    while True:
        page = node.ok("GET", f"/v1/usage/records?after={after}&limit={limit}")
        found += page["records"]
        after = page["last"]
        if not page["more"]:
            break
    numbers = [r["number"] for r in found]
    assert numbers == sorted(set(numbers))
    keys = [(r["ve"], r["meter"], r["class"], r["start"]) for r in found]
    assert len(set(keys)) == len(keys)
    assert all(r["start"] % 1000 == 0 and r["seconds"] >= 1 for r in found)
    return found


def written(node, ve, cls, way="out"):
    """(packets, bytes) of a VE's id and class in all records."""
    mine = [r for r in records(node) if (r["ve"], r["class"], r["meter"]) == (ve, cls, "net." + way)]
    return sum(r["packets"] for r in mine), sum(r["amount"] for r in mine)


def settled(node, ve, cls, expected, way="out"):
    """It takes as long as a period does; then it is exactly this, and stays so."""
    wait_for(lambda: written(node, ve, cls, way) == expected)
    time.sleep(1.2)
    assert written(node, ve, cls, way) == expected


def test_agrees_with_tcpdump_and_iperf(metered, far):
    node = metered
    node.terem("network", "class", "add", "near", far.address + "/32")
    node.ve("web1")
    ve = node.show("web1")
    cable = Cable(ve["pid"], far)
    told, pcap = cable.run(far.address, "-n", "3M")
    seen = pcap_sums(pcap, cable.mac)
    assert told["sum_sent"]["bytes"] >= 3 << 20, told
    assert seen["out"][1] > told["sum_received"]["bytes"] > 0, seen  # it ends with some of that unsent
    for way in ("out", "in"):
        settled(node, ve["id"], "near", seen[way], way)
    # What is added up and what is printed are the same.
    for by in ("5m", "hour", "day", "month"):
        rows = node.terem("usage", "web1", "--by", by, "--csv").stdout.splitlines()
        assert rows[0] == "start,ve,name,meter,class,amount,packets"
        out = [r.split(",") for r in rows[1:] if r.split(",")[2:5] == ["web1", "net.out", "near"]]
        assert sum(int(r[5]) for r in out) == seen["out"][1]
        assert sum(int(r[6]) for r in out) == seen["out"][0]
    assert str(seen["out"][1]) in node.terem("usage").stdout


def test_killed_many_times(metered):
    """Killed in the middle of whatever it does, twenty times, while VEs send."""
    node = metered
    size, count = HEADERS[4] + 100, 3000
    node.ve("web1")
    node.ve("web2")
    ids = [node.show(name)["id"] for name in ("web1", "web2")]
    senders = [send(node.show(name)["pid"], NOBODY, count, 100, 0.002)
               for name in ("web1", "web2")]
    dice = random.Random(5)
    for _ in range(20):
        time.sleep(dice.random() * 0.5)
        node.kill()
        node.start()
    assert [s.wait(PATIENCE) for s in senders] == [0, 0]
    for ve in ids:
        settled(node, ve, "wide", (count, count * size))
    assert len({r["start"] for r in records(node)}) > 3


def test_restarts_and_the_end(metered):
    node = metered
    size = HEADERS[4] + 100
    node.ve("web1")
    ve = node.show("web1")["id"]
    sent(node.show("web1")["pid"], NOBODY, 10, 100)
    node.job("POST", "/v1/ves/web1/restart")
    sent(node.show("web1")["pid"], NOBODY, 20, 100)
    settled(node, ve, "wide", (30, 30 * size))
    # A name is no key: another one has it later, and a class's goes.
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    node.ok("PATCH", "/v1/ves/web1", {"name": "web9"})
    node.job("POST", "/v1/ves/web9/start")
    node.terem("network", "class", "remove", "wide")
    sent(node.show("web9")["pid"], NOBODY, 5, 100)
    assert counts(node, "web9")[("wide", "out")][0] == 30
    wait_for(lambda: written(node, ve, "any")[0] == 5)
    node.terem("network", "class", "add", "wide", "198.18.79.0/24")
    # The node's stop takes the kernel's counters away; what they had is in the log.
    sent(node.show("web9")["pid"], NOBODY, 7, 100)
    node.terem("node", "stop")
    wait_for(lambda: not node.alive())
    node.start()
    settled(node, ve, "wide", (37, 37 * size))
    assert {r["name"] for r in records(node) if r["ve"] == ve} == {"web9"}
    # Destroyed in the middle of a period, teremd killed at once: its last records are there.
    node.job("POST", "/v1/ves/web9/start")
    sent(node.show("web9")["pid"], NOBODY, 9, 100)
    node.terem("destroy", "--force", "web9")
    node.kill()
    node.start()
    settled(node, ve, "wide", (46, 46 * size))
    assert "web9" in node.terem("usage", "web9", "--by", "5m").stdout
    # Another VE of that name is another one.
    node.ve("web9")
    other = node.show("web9")["id"]
    assert other != ve
    sent(node.show("web9")["pid"], NOBODY, 3, 100)
    settled(node, other, "wide", (3, 3 * size))
    assert written(node, ve, "wide") == (46, 46 * size)


def test_counters_out_of_reach(metered):
    """A teremd that cannot open the counters writes nothing of them; the next one goes on from where the
    one before it was."""
    node, size = metered, HEADERS[4] + 100
    node.ve("web1")
    ve = node.show("web1")
    sent(ve["pid"], NOBODY, 10, 100)
    settled(node, ve["id"], "wide", (10, 10 * size))
    node.term()
    node.wrapper = ["strace", "-D", "-f", "-qq", "-o", os.devnull, "-e", "trace=bpf", "-e", "inject=bpf:error=ENOMEM"]
    node.start()
    assert node.ok("GET", "/v1/network")["not_counted"]
    sent(ve["pid"], NOBODY, 5, 100)
    settled(node, ve["id"], "wide", (10, 10 * size))
    node.term()
    node.wrapper = []
    node.start()
    sent(ve["pid"], NOBODY, 1, 100)
    settled(node, ve["id"], "wide", (16, 16 * size))


def test_pages_and_bad_input(metered):
    node = metered
    node.ve("web1")
    for _ in range(3):
        sent(node.show("web1")["pid"], NOBODY, 2, 100)
        time.sleep(1.1)
    wait_for(lambda: written(node, node.show("web1")["id"], "wide")[0] == 6)
    assert records(node, limit=1)[:3] == records(node)[:3]
    for path, why in [("records?limit=0", "limit must be from 1 to 5000"),
                      ("records?limit=5001", "limit must be from 1 to 5000"),
                      ("records?after=x", "after"),
                      ("records?after=-1", "after"),
                      ("sums?by=week", "5m, hour, day or month"),
                      ("sums?from=yesterday", "from"),
                      ("sums?ve=..", "name")]:
        answer = node.api("GET", "/v1/usage/" + path)
        assert answer.status == 400 and why in answer.json["error"]["message"], answer
    assert node.api("GET", "/v1/usage/sums?ve=web2").status == 404
    for words, why in [(["web2"], "there is no such VE; did you mean web1?"),
                       (["--by", "week"], "choose 5m, hour, day or month"),
                       (["--from", "soon"], "is no time"),
                       (["--from", "2026-13-01"], "is no time"),
                       (["--from", "1h", "--to", "2h"], "--to must be later"),
                       (["--csv", "--json"], "choose one")]:
        done = node.terem("usage", *words, check=False)
        assert done.returncode != 0 and why in done.stderr and done.stderr.count("\n") == 1
    assert node.json("usage", "--from", "1h", "web1")[0]["name"] == "web1"


def test_a_file_that_cannot_be_used(node):
    """Everything else goes on, and what was counted meanwhile is written later."""
    node.ve("web1")
    node.kill()
    node.setting("usage.interval", "1s")
    log = next(os.path.join(top, "usage.db") for top, _, files in os.walk(node.root)
               if "usage.db" in files)
    kept = os.path.join(os.path.dirname(log), "kept")
    os.mkdir(kept)
    for end in ("", "-wal", "-shm"):
        os.rename(log + end, os.path.join(kept, "usage.db" + end))
    with open(log, "w", encoding="ascii") as file:
        file.write("this is not a log\n" * 1000)
    node.start()
    node.terem("network", "class", "add", "wide", "198.18.79.0/24")
    sent(node.show("web1")["pid"], NOBODY, 10, 100)
    answer = node.api("GET", "/v1/usage/records")
    assert answer.status == 422 and "usage.db is damaged" in answer.json["error"]["message"]
    assert "what VEs use is not written" in node.words(100000)
    os.unlink(log)
    for end in ("-shm", "-wal", ""):
        os.rename(os.path.join(kept, "usage.db" + end), log + end)
    os.rmdir(kept)
    settled(node, node.show("web1")["id"], "wide", (10, 10 * (HEADERS[4] + 100)))
    assert "what VEs use is written again" in node.words(100000)
