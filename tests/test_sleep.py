# SPDX-License-Identifier: GPL-2.0-or-later
"""VEs that nobody uses fall asleep (idle.sleep), and whoever uses them wakes them."""
import http.client
import ipaddress
import os
import re
import resource
import socket
import subprocess
import sys

import pytest

from events import Events
from node import PATIENCE, wait_for
from test_memory import hold

PAGE = "hello"
SERVE = f"mkdir -p /www && echo {PAGE} >/www/index.html && httpd -h /www -p 80"

BROADCAST = """import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to:
    to.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    for _ in range(5):
        to.sendto(b"is anybody there?", (sys.argv[1], 9))
        time.sleep(0.1)
"""


def sleeper(node, name="web1", **spec):
    """One that serves a page and sleeps after a second; its address."""
    node.ve(name, params={"idle.sleep": "1s"}, **spec)
    node.sh(name, SERVE)
    return node.show(name)["addresses"][0]


def asks(address):
    with_ = http.client.HTTPConnection(address, 80, timeout=30)
    try:
        with_.request("GET", "/")
        return with_.getresponse().read().decode().strip()
    finally:
        with_.close()


def frozen(node, name):
    """Does the kernel say so?"""
    for cgroup in node.cgroups():
        path = os.path.join(cgroup, "cgroup.events")
        if cgroup.endswith(f"/ve-{node.show(name)['id']}") and os.path.exists(path):
            with open(path, encoding="ascii") as file:
                return "frozen 1" in file.read()
    raise AssertionError("it has no cgroup")


def sleeps(node, name="web1"):
    """When it has fallen asleep: since then."""
    node.wait_state(name, "sleeping")
    return node.show(name)["asleep"]


def woken(node, since, name="web1"):
    """It has been awake since; where nobody had a look for a second it may sleep anew."""
    is_frozen, now = frozen(node, name), node.show(name)
    assert (now["state"], now["asleep"]) == ("running", None) or \
        (now["state"] == "sleeping" and now["asleep"] > since), now
    assert not is_frozen or now["state"] == "sleeping", now


def ping(address):
    subprocess.run(["ping", "-c", "3", "-i", "0.2", "-W", "5", address], check=True, stdout=subprocess.DEVNULL)


def test_falls_asleep_and_is_woken(node):
    address = sleeper(node)
    with Events(node) as events:
        events.begin("web1")
        assert asks(address) == PAGE  # it may sleep already
        assert events.wait("ve.asleep", ve="web1")["idle"] >= 1000
        node.wait_state("web1", "sleeping")
        wait_for(lambda: frozen(node, "web1"))
        show = node.show("web1")
        assert show["asleep"] and show["usage"]["pids"] > 1
        assert " sleeping " in node.terem("list").stdout
        told = node.terem("show", "web1").stdout
        assert "\nstate       sleeping" in told and "\nasleep      20" in told, told
        assert "asleep" in node.terem("top", "--once").stdout
        assert 'terem_ves{state="sleeping"} 1' in node.api("GET", "/metrics").body.decode()
        # What the kernel answers for it is no use of it.
        ping(address)
        assert node.state("web1") == "sleeping"
        # The first request is answered: it waited in the socket.
        assert asks(address) == PAGE
        woken(node, show["asleep"])
        assert events.wait("ve.awake", ve="web1", by="packet")["slept"] > 0
        # Who enters it uses it, too: what it tells then counts from there.
        node.wait_state("web1", "sleeping")
        node.terem("exec", "web1", "--", "true")
        awake = events.wait("ve.awake", ve="web1", by="exec")["time"]
        node.wait_state("web1", "sleeping")
        wait_for(lambda: [one for one in events.seen if one["type"] == "ve.asleep" and one["time"] > awake])
        asleep = [one for one in events.seen if one["type"] == "ve.asleep"][-1]
        assert 1000 <= asleep["idle"] <= asleep["time"] - awake + 500


@pytest.mark.parametrize("words", [
    ["exec", "web1", "--", "true"], ["resume", "web1"], ["snapshot", "create", "web1"], ["restart", "web1"],
    ["stop", "web1"], ["pause", "web1"], ["kill", "web1"]], ids=lambda words: words[0])
def test_commands(shared_sleeper, words):
    node = shared_sleeper
    if node.state("web1") == "paused":
        node.terem("resume", "web1")
    if node.state("web1") == "stopped":
        node.terem("start", "web1")
    since = sleeps(node)
    node.terem(*words)
    left = {"stop": "stopped", "kill": "stopped", "pause": "paused"}.get(words[0])
    if left:
        assert node.state("web1") == left
    else:
        woken(node, since)


@pytest.fixture(scope="module")
def shared_sleeper(shared):
    sleeper(shared)
    return shared


def test_files_and_values_of_one_that_sleeps(shared_sleeper, tmp_path):
    node = shared_sleeper
    if node.state("web1") != "running":
        node.terem("resume" if node.state("web1") == "paused" else "start", "web1")
    node.wait_state("web1", "sleeping")
    # What can be written while it is frozen leaves it asleep.
    node.terem("set", "web1", "memory.limit=300M")
    assert node.state("web1") == "sleeping"
    (tmp_path / "file").write_text("new")
    node.terem("push", "web1", str(tmp_path / "file"), "/www/new")
    assert node.sh("web1", "cat /www/new") == "new"
    node.wait_state("web1", "sleeping")
    node.terem("clone", "web1", "copy")
    node.terem("destroy", "copy")
    # Of one whose time is taken away nobody would know when to wake it.
    node.wait_state("web1", "sleeping")
    node.terem("set", "web1", "idle.sleep=0")
    node.wait_state("web1", "running")
    node.terem("set", "web1", "idle.sleep=1s")
    node.wait_state("web1", "sleeping")


def test_who_is_busy_does_not_sleep(node):
    """Neither who computes, nor who is inside; not after a kill -9 either."""
    sleeper(node, "busy")
    sleeper(node, "open")
    sleeper(node, "watched")
    sleeper(node, "idle")
    node.sh("busy", "(while :; do :; done) & echo $! >/run/pid")
    inside = subprocess.Popen([node.cli, "--root", node.root, "exec", "open", "--", "sleep", "1000"])
    watching = subprocess.Popen([node.cli, "--root", node.root, "console", "watched"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
    try:
        assert watching.stdout.read(1)  # of the log: terem-keep has it
        wait_for(lambda: "sleep 1000" in node.sh("open", "ps"))
        node.wait_state("idle", "sleeping")
        node.kill()
        node.start()
        assert node.state("idle") == "sleeping"
        # Long enough for each to have fallen asleep twice: idle.sleep of this one is longer.
        node.ve("later", params={"idle.sleep": "4s"})
        node.wait_state("later", "sleeping")
        assert [node.state(name) for name in ("busy", "open", "watched")] == ["running"] * 3
    finally:
        for client in (inside, watching):
            client.kill()
            client.communicate()
    node.sh("busy", "kill $(cat /run/pid)")
    node.wait_state("busy", "sleeping")
    node.wait_state("open", "sleeping")
    node.wait_state("watched", "sleeping")


def test_shorter_than_idleness_can_be(node):
    """To look at what was used a moment ago would be all that teremd does."""
    node.ve("w1", start=False)
    answer = node.api("PATCH", "/v1/ves/w1", {"params": {"idle.sleep": "999ms"}})
    assert answer.status == 400 and "at least 1s" in answer.json["error"]["message"], answer
    node.ok("PATCH", "/v1/ves/w1", {"params": {"idle.sleep": "0"}})


def test_kill_of_teremd_while_it_sleeps(node):
    address = sleeper(node)
    node.wait_state("web1", "sleeping")
    node.kill()
    node.start()
    assert node.state("web1") == "sleeping" and frozen(node, "web1")
    assert asks(address) == PAGE
    since = sleeps(node)
    node.kill()
    with_ = http.client.HTTPConnection(address, 80, timeout=30)
    with_.request("GET", "/")  # taken by its kernel, and nobody is there to wake it
    node.start()
    assert with_.getresponse().read().decode().strip() == PAGE
    with_.close()
    woken(node, since)
    # Its first process ends while it sleeps: that is seen to as ever.
    node.wait_state("web1", "sleeping")
    os.kill(node.show("web1")["pid"], 9)
    node.wait_state("web1", "stopped")


def test_one_that_cannot_be_woken_yet(node):
    """A packet is told once: it is not lost where teremd has no descriptor to wake the VE with."""
    address = sleeper(node)
    node.wait_state("web1", "sleeping")
    wait_for(lambda: frozen(node, "web1"))
    limits = resource.prlimit(node.daemon.pid, resource.RLIMIT_NOFILE)
    with socket.socket() as line:
        line.settimeout(PATIENCE)
        resource.prlimit(node.daemon.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            line.connect((address, 80))
            line.sendall(b"GET / HTTP/1.0\r\n\r\n")
            wait_for(lambda: "it cannot be woken yet" in node.words())
        finally:
            resource.prlimit(node.daemon.pid, resource.RLIMIT_NOFILE, limits)
        assert PAGE.encode() in b"".join(iter(lambda: line.recv(4096), b""))
    assert node.words(10**6).count("it cannot be woken yet") == 1


def test_a_neighbour_wakes_it(node):
    address = sleeper(node)
    node.ve("web2")
    since = sleeps(node)
    assert node.sh("web2", f"wget -q -O - http://{address}/").strip() == PAGE
    woken(node, since)
    # In bulk it is one of those that run.
    node.wait_state("web1", "sleeping")
    assert "web1" in node.terem("stop", "--all").stdout
    assert node.state("web1") == "stopped"


# ---- swap in compressed memory ----
@pytest.fixture
def swapping(node):
    """A node that has some; it is taken away in the end."""
    done = node.terem("node", "setup", "--zram", "256M", "--yes", check=False)
    if "has no zram" in done.stderr:
        pytest.skip(f"{done.stderr.strip()}; tests/vm has it")
    try:
        assert done.returncode == 0, done.stderr
        yield node
    finally:
        node.terem("node", "setup", "--no-zram", "--yes")


def device(node):
    with open(f"{node.root}/run/zram", encoding="ascii") as file:
        return f"zram{file.read().strip()}"


def swaps():
    with open("/proc/swaps", encoding="ascii") as file:
        return file.read()


def test_memory_goes_to_swap(swapping):
    node = swapping
    assert f"/{device(node)} " in swaps()
    check = next(c for c in node.json("doctor")["checks"] if c["name"] == "swap")
    assert check["ok"] and device(node) in check["found"]
    address = sleeper(node)
    hold(node, "web1", 40)
    node.wait_state("web1", "sleeping")
    wait_for(lambda: node.show("web1")["usage"]["memory"] < 10 << 20)
    assert asks(address) == PAGE
    assert "tail" in node.sh("web1", "ps")


def test_setup(swapping):
    node = swapping
    first = device(node)
    assert node.json("node", "show")["zram"] == 256 << 20
    assert "has " in node.terem("node", "setup").stdout  # nothing is to be done
    # It outlives teremd, and what is gone after a boot is made again.
    node.kill()
    node.start()
    assert f"/{first} " in swaps()
    node.kill()
    subprocess.run(["swapoff", f"/dev/{first}"], check=True)
    node.start()
    wait_for(lambda: os.path.exists(f"{node.root}/run/zram") and f"/{device(node)} " in swaps())
    node.terem("node", "setup", "--zram", "128M", "--yes")
    assert node.json("node", "show")["zram"] == 128 << 20
    last = device(node)
    node.terem("node", "setup", "--no-zram", "--yes")
    assert f"/{last} " not in swaps() and not os.path.exists(f"/sys/block/{last}")
    assert node.json("node", "show")["zram"] is None
    assert "nothing is to be done" in node.terem("node", "setup", "--no-zram").stdout
    for words, code in ((["--zram", "1K", "--yes"], 2), (["--zram", "256M", "--no-zram"], 2), (["--zram", "1G"], 2)):
        assert node.terem("node", "setup", *words, check=False).returncode == code
    assert not os.path.exists(f"{node.root}/run/zram")


def test_private_network_wakes_it(node):
    sleeper(node)
    node.ve("web2")
    node.terem("network", "private", "create", "back")
    for name in ("web1", "web2"):
        node.terem("network", "private", "join", name, "back")
    inside = next(n for n in node.show("web1")["networks"] if n["network"] == "back")["addresses"][0]
    since = sleeps(node)
    assert node.sh("web2", f"wget -q -O - http://{inside}/").strip() == PAGE
    woken(node, since)
    # So does it after its next start, when the interface is made with the VE.
    node.wait_state("web1", "sleeping")
    node.terem("restart", "web1")
    node.sh("web1", SERVE)
    node.wait_state("web1", "sleeping")
    assert node.sh("web2", f"wget -q -O - http://{inside}/").strip() == PAGE
    node.wait_state("web1", "sleeping")
    node.sh("web2", f"ping -c 3 {inside}")
    with Events(node) as events:  # what is meant for everybody is meant for nobody
        events.begin("web2")
        own = re.search(r"inet (\S+)", node.sh("web2", "ip -4 addr show eth1"))[1]
        everybody = str(ipaddress.ip_interface(own).network.broadcast_address)
        subprocess.run(["nsenter", "-n", "-t", str(node.show("web2")["pid"]), sys.executable, "-c", BROADCAST, everybody],
                       check=True)
        node.terem("pause", "web2")
        events.wait("ve.state", ve="web2", to="paused")
        assert not [one for one in events.seen if one["type"] == "ve.awake"], events.seen
    assert node.state("web1") == "sleeping"
