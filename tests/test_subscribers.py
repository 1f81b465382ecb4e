# SPDX-License-Identifier: GPL-2.0-or-later
"""A thousand clients listen to the events of one node: each hears all, and the node is none the slower."""
import json
import time

from listeners import Listeners
from node import wait_for

MANY = 1000
STUCK = 20
EVENTS = 300


def heard(one):
    return [json.loads(line) for line in one.heard()[0].splitlines()]


def labels(one):
    return [event["changes"]["labels"]["n"] for event in heard(one) if event["type"] == "ve.updated"]


def test_a_thousand_subscribers(node):
    """Also those that take nothing for a while; and as long as events come one upon another, nobody is told
    more often than ten times a second."""
    node.ve("web1", start=False)
    with Listeners(node, MANY, MANY - STUCK) as listeners:
        line, began = node.connection(), time.monotonic()
        for n in range(EVENTS):
            node.ok("PATCH", "/v1/ves/web1", {"labels": {"n": str(n)}}, connection=line)
        took = time.monotonic() - began
        line.close()
        reading = listeners.all[:MANY - STUCK]
        last = f'"n":"{EVENTS - 1}"'.encode()
        wait_for(lambda: all(last in one.bytes for one in reading))
        expected = [str(n) for n in range(EVENTS)]
        first = reading[0].heard()[0]
        assert labels(reading[0]) == expected
        assert all(one.heard()[0] == first for one in reading)
        # Those of the same moment come together.
        bytes_ = len(first)
        assert max(one.heard()[1] for one in reading) <= 10 * took + bytes_ / 4096 + 3
        # The others find all that they have not taken yet.
        for one in listeners.all[MANY - STUCK:]:
            assert not labels(one)
            listeners.watch(one)
        wait_for(lambda: all(last in one.bytes for one in listeners.all))
        assert all(labels(one) == expected for one in listeners.all[MANY - STUCK:])
        assert node.ok("GET", "/v1")["ves"] == 1


def test_one_that_takes_nothing(node):
    """It is told how much it lost, between what it had and the newest; the others lose nothing."""
    node.template()
    names = [f"v{n}" for n in range(20)]
    for name in names:
        node.ok("POST", "/v1/ves", {"name": name, "template": "busybox"})
    with Listeners(node, 3, 2) as listeners:
        stuck = listeners.all[2]
        rounds = 0
        # Until a socket's buffer and the feed are more than full.
        while len(listeners.all[0].bytes) < 3 << 19:
            job = node.job("POST", "/v1/bulk", {"verb": "set", "all": True, "options": {
                "labels": {"n": str(rounds), **{f"x{n}": "y" * 63 for n in range(30)}}}})
            assert job["state"] == "done"
            rounds += 1
        last = f'"n":"{rounds - 1}"'.encode()
        wait_for(lambda: listeners.all[0].bytes.count(last) >= len(names))
        listeners.watch(stuck)
        wait_for(lambda: listeners.all[0].heard()[0].endswith(stuck.heard()[0][-2000:]) and
                 b"events.lost" in stuck.bytes)
        full, part = heard(listeners.all[0]), heard(stuck)
        assert heard(listeners.all[1]) == full
        lost = [n for n, event in enumerate(part) if event["type"] == "events.lost"]
        assert len(lost) == 1, lost
        before, after, missing = part[:lost[0]], part[lost[0] + 1:], part[lost[0]]["count"]
        assert before == full[:len(before)] and after == full[len(before) + missing:] and before and after
