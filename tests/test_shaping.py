# SPDX-License-Identifier: GPL-2.0-or-later
"""net.out.CLASS and net.in.CLASS: ceilings hold, guarantees are kept beside a neighbour that floods,
what cannot be promised is refused, and the uplink is only ever ours when nobody else has it."""
import contextlib
import json
import subprocess
import time

import pytest

from far import enter, far  # noqa: F401, a fixture
from node import PATIENCE, Node, wait_for
from test_classes import counts, whole

PORT = 5300


@pytest.fixture
def sharing(build, far):
    """A node whose uplink is the far host's cable and carries 20 Mbit/s outward, 19 inward."""
    with Node(build, network_uplink=far.link, network_out="20M", network_in="19M") as node:
        node.terem("network", "class", "add", "near", "198.18.79.0/24")
        yield node
    assert "htb" not in tc("qdisc", far.link)


def tc(what, link, *more):
    return subprocess.run(["tc", *more, what, "show", "dev", link], check=True, capture_output=True,
                          text=True).stdout


def lender(node):
    return f"terem{node.number}.in"


def leaves(node, link):
    """Classes of VEs: (rate, ceiling) as tc tells them, those without a guarantee left out."""
    rows = [line.split() for line in tc("class", link).splitlines()]
    return sorted((r[r.index("rate") + 1], r[r.index("ceil") + 1]) for r in rows
                  if int(r[2].split(":")[1], 16) >= 16)


class Flow:
    """UDP or TCP from one place to an address in another, at a rate, until result() is asked."""
    ports = iter(range(PORT, PORT + 500))

    def __init__(self, source, sink, address, rate="40M", udp=True, seconds=3):
        port = str(next(self.ports))
        self.server = subprocess.Popen([*enter(sink), "iperf3", "-s", "-1", "-J", "-p", port],
                                       stdout=subprocess.PIPE, text=True)
        wait_for(lambda: subprocess.run([*enter(sink), "ss", "-Hltn", f"sport = :{port}"], check=True,
                                        capture_output=True).stdout)
        self.client = subprocess.Popen(
            [*enter(source), "iperf3", "-c", address, "-p", port, "-t", str(seconds),
             *(["-u", "-b", rate, "-l", "1200"] if udp else [])], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for process in (self.client, self.server):
            process.kill()
            process.wait()
        self.server.stdout.close()

    def result(self):
        """Bits a second that arrived."""
        with self:
            self.client.wait(PATIENCE)
            end = json.loads(self.server.communicate(timeout=PATIENCE)[0])["end"]
        if "sum_received" in end and end["sum_received"]["bits_per_second"]:
            return end["sum_received"]["bits_per_second"]
        one = end["sum"]
        return one["bits_per_second"] * (1 - one["lost_packets"] / max(1, one["packets"]))


def pid(node, name):
    return node.show(name)["pid"]


def refused(node, name, **params):
    answer = node.api("PATCH", f"/v1/ves/{name}", {"params": {k.replace("__", "."): v
                                                              for k, v in params.items()}})
    assert answer.status >= 400
    return answer.json["error"]["message"]


def test_ceilings(sharing, far):
    node = sharing
    node.ve("web1", params={"net.out.near": "4M", "net.in.near": "3M"})
    a4 = node.show("web1")["addresses"][0]
    assert leaves(node, far.link) == [("1Kbit", "20Mbit"), ("1Kbit", "4Mbit")]
    # One after the other: each would drown the answers to the other's beginning.
    out = Flow(pid(node, "web1"), far.space, far.address).result()
    back = Flow(far.space, pid(node, "web1"), a4).result()
    assert 3.2e6 < out < 4.1e6 and 2.4e6 < back < 3.1e6
    # What the tree dropped on the way in was not counted.
    now, there = whole(node, "web1")
    assert abs(now[1] - there[1]) < 1000
    # Live, and for TCP.
    node.terem("set", "web1", "net.out.near=8M", "net.in.near=default")
    assert leaves(node, lender(node)) == [("1Kbit", "19Mbit")]
    out = Flow(pid(node, "web1"), far.space, far.address, udp=False).result()
    assert 6e6 < out < 8.2e6
    node.terem("set", "web1", "net.out.near=default")
    assert leaves(node, far.link) == [("1Kbit", "20Mbit")]
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    assert leaves(node, far.link) == [] and leaves(node, lender(node)) == []


class Leaf:
    """A class of a tree by what tc tells: its rate as text, bytes that it let go, bytes that wait."""

    def __init__(self, lines):
        head = lines[0].split()
        self.number, self.rate = head[2].split(":")[1], head[head.index("rate") + 1]
        self.sent = int(lines[1].split()[1])
        self.waits = next(tc_size(line.split()[1]) for line in lines if line.startswith(" backlog"))


def tc_size(text):
    return int(float(text.rstrip("bKM")) * {"b": 1, "K": 1024, "M": 1 << 20}[text.lstrip("0123456789.")[0]])


def look(link):
    """{number: Leaf} without the whole tree's own class."""
    found = [Leaf(part.splitlines()) for part in tc("class", link, "-s").strip().split("\n\n")]
    return {leaf.number: leaf for leaf in found if leaf.number != "1"}


def divided(link, busy, amount):
    """How a tree divides while `busy` leaves want more than they get: ({rate: part of all}, bits a
    second of all, at least and at most), over `amount` bytes.  What is compared are bytes that the same
    tree let go in the same intervals, and an interval counts only when each of the busy had more waiting
    at its beginning than it sent in it: nobody was ever without a packet, however late its sender was.
    How long it was is known but for the time that tc took at either end."""
    sent, whole, inner, outer, deadline = {}, 0, 0, 0, time.monotonic() + 120
    while whole < amount:
        assert time.monotonic() < deadline, f"{whole} bytes: {tc('class', link, '-s')}"
        at, before, began = time.monotonic(), look(link), time.monotonic()
        time.sleep(0.005)
        ended, after, now = time.monotonic(), look(link), time.monotonic()
        got = {number: after[number].sent - before[number].sent for number in before}
        wanting = [n for n in before if before[n].waits > max(got[n], 20000)]
        if len(wanting) != busy:
            continue
        inner += ended - began
        outer += now - at
        whole += sum(got.values())
        for number in wanting:
            rate = before[number].rate
            sent[rate] = sent.get(rate, 0) + got[number]
    return {rate: n / whole for rate, n in sent.items()}, whole * 8 / outer, whole * 8 / inner


def test_guarantees(sharing, far):
    """Parts of what the trees let go, which a busy machine leaves as they are; how near the rates
    come to what they shall be is measured by the bench "classes"."""
    node = sharing
    near = {f"net.{way}.near": "12M:unlimited" for way in ("out", "in")}
    node.ve("quiet", params=near)
    node.ve("loud1")
    node.ve("loud2", params={"net.out.near": "1M:unlimited"})
    ve = {name: (pid(node, name), node.show(name)["addresses"][0])
          for name in ("quiet", "loud1", "loud2")}
    assert ("12Mbit", "20Mbit") in leaves(node, far.link)
    assert ("1Mbit", "20Mbit") in leaves(node, far.link)
    assert ("12Mbit", "19Mbit") in leaves(node, lender(node))
    # Nobody else wants it: it is lent.  More than that never leaves.
    with Flow(ve["loud1"][0], far.space, far.address, seconds=600):
        parts, least, most = divided(far.link, 1, 1_000_000)
        assert least < 21e6 and most > 10e6 and parts["1Kbit"] > 0.95, (parts, least, most)
    with contextlib.ExitStack() as flows:
        for name in ("loud1", "loud2", "quiet"):
            flows.enter_context(Flow(ve[name][0], far.space, far.address, seconds=600))
        parts, least, most = divided(far.link, 3, 3_000_000)
        assert parts["12Mbit"] > 0.97 * 12 / 20 and parts["1Mbit"] > 0.97 / 20, parts
        assert parts["1Kbit"] > 0.02 and least < 21e6 and most > 5e6, (parts, least, most)
    with contextlib.ExitStack() as flows:
        for name in ("loud1", "loud2", "quiet"):
            flows.enter_context(Flow(far.space, *ve[name], seconds=600))
        parts, least, most = divided(lender(node), 3, 3_000_000)
        assert parts["12Mbit"] > 0.97 * 12 / 19 and parts["1Kbit"] > 0.04, parts
        assert least < 20e6 and most > 5e6, (parts, least, most)


def test_local(sharing):
    node = sharing
    node.ve("web1")
    node.ve("web2")
    one, two, address = pid(node, "web1"), pid(node, "web2"), node.show("web2")["addresses"][0]
    assert Flow(one, two, address, udp=False).result() > 21e6  # not of the uplink
    node.terem("set", "web1", "net.out.local=3M")
    assert 2.4e6 < Flow(one, two, address, rate="50M").result() < 3.1e6
    node.terem("set", "web1", "net.out.local=default")
    node.terem("set", "web2", "net.in.local=2M")
    assert 1.6e6 < Flow(one, two, address, rate="50M").result() < 2.1e6
    assert 1.6e6 < Flow(one, two, node.show("web2")["addresses"][1], rate="50M").result() < 2.1e6
    assert "ceiling alone" in refused(node, "web1", net__out__local="1M:2M")


def test_refusals(sharing, far):
    node = sharing
    node.ve("web1", params={"net.out.near": "15M:20M"})
    before = leaves(node, far.link)
    for params, why in [
            ({"net__out__any": "6M:unlimited"},
             "cannot guarantee 21Mbit/s outgoing: 20Mbit/s is left of the node's 20Mbit/s"),
            ({"net__in__any": "20M:unlimited"}, "cannot guarantee 20Mbit/s incoming"),
            ({"net__out__nera": "1M"}, "did you mean near?"),
            ({"net__out__CLASS": "1M"}, "as in net.out.any"),
            ({"net__out__near": "20M:10M"}, "above the limit"),
            ({"net__out__near": "1.5M"}, "is not a rate"),
            ({"net__out__near": "15M:20M", "net__in__none": "1M"}, "there is no class none")]:
        assert why in refused(node, "web1", **params), params
        assert leaves(node, far.link) == before
    answer = node.api("POST", "/v1/ves", {"name": "web2", "params": {"net.out.near": "6M:7M"}})
    assert answer.status == 507 and "5Mbit/s is left" in answer.json["error"]["message"]
    # A class in use stays, whoever uses it.
    done = node.terem("network", "class", "remove", "near", check=False)
    assert done.returncode == 1 and "is used by web1" in done.stderr
    node.terem("set", "web1", "net.out.near=default")
    node.terem("profile", "create", "fast", "net.in.near=5M")
    done = node.terem("network", "class", "remove", "near", check=False)
    assert done.returncode == 1 and "profile fast" in done.stderr
    node.terem("profile", "remove", "fast")
    node.terem("network", "class", "remove", "near")
    resources = node.ok("GET", "/v1")["resources"]
    assert resources["net_out"]["total"] == 20e6 and resources["net_out"]["left"] == 20e6


def test_killed(sharing, far):
    """The trees keep on without teremd, and a new one finds and mends them."""
    node = sharing
    node.ve("web1", params={"net.out.near": "5M:9M"})
    node.ve("web2", params={"net.out.near": "2M:7M"})
    before = tc("class", far.link), tc("class", lender(node))
    flow = Flow(pid(node, "web1"), far.space, far.address)
    node.kill()
    node.start()
    assert 1e6 < flow.result() < 9.2e6
    assert (tc("class", far.link), tc("class", lender(node))) == before
    node.kill()
    # While it is not there: a class that nobody wrote down, and then the whole tree is gone.
    handle = tc("qdisc", far.link).split("htb ")[1].split(":")[0]
    subprocess.run(["tc", "class", "add", "dev", far.link, "parent", f"{handle}:1", "classid",
                    f"{handle}:7777", "htb", "rate", "1mbit"], check=True)
    node.start()
    assert "7777" not in tc("class", far.link)
    node.kill()
    subprocess.run(["tc", "qdisc", "del", "dev", far.link, "root"], check=True)
    node.start()
    assert sorted(leaves(node, far.link)) == sorted([("5Mbit", "9Mbit"), ("2Mbit", "7Mbit"),
                                                     ("1Kbit", "20Mbit"), ("1Kbit", "20Mbit")])
    assert 1e6 < Flow(pid(node, "web1"), far.space, far.address).result() < 9.2e6


def test_somebody_elses(build, far):
    """A discipline that somebody chose is named and left alone."""
    subprocess.run(["tc", "qdisc", "add", "dev", far.link, "root", "handle", "77:", "bfifo"],
                   check=True)
    with Node(build, network_uplink=far.link, network_out="20M") as node:
        node.ve("web1")
        why = refused(node, "web1", net__out__any="1M")
        assert f"{far.link} has a queueing discipline that somebody else chose (bfifo 77:)" in why
        node.terem("set", "web1", "net.in.any=5M")  # inward needs none of the uplink
        told = {c["name"]: c for c in node.ok("GET", "/v1/doctor")["checks"]}
        assert not told["bandwidth outward"]["ok"] and "bfifo 77:" in \
            told["bandwidth outward"]["found"]
        assert told["bandwidth inward"]["ok"] and told["traffic by class"]["ok"]
    assert "bfifo 77:" in tc("qdisc", far.link)


def test_without_rates(build, far):
    """Where nobody has said what the uplink carries there are ceilings and no guarantees, and the
    uplink has its own discipline again after the last of them."""
    with Node(build, network_uplink=far.link) as node:
        node.ve("web1")
        assert "htb" not in tc("qdisc", far.link)
        assert "set network.out in terem.conf" in refused(node, "web1", net__out__any="1M:2M")
        node.terem("set", "web1", "net.out.any=2M")
        assert Flow(pid(node, "web1"), far.space, far.address).result() < 2.1e6
        node.terem("set", "web1", "net.out.any=default")
        assert "htb" not in tc("qdisc", far.link)
        assert counts(node, "web1")[("any", "out")][0] > 0


@pytest.mark.parametrize("link", ["terem-none", "terem-fifteen15"])
def test_no_such_uplink(build, link):
    with Node(build, network_uplink=link, network_out="20M") as node:
        node.ve("web1")
        assert f"the uplink {link}" in refused(node, "web1", net__out__any="1M")


def test_uplink_longer_than_linux_allows(build):
    node = Node(build, network_uplink="terem-sixteen-16")
    with pytest.raises(AssertionError, match="network.uplink: it is longer than 15 bytes"):
        node.start()
    assert node.close() == []

