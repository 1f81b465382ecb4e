# SPDX-License-Identifier: GPL-2.0-or-later
"""Many VEs shut down at once, and the machine's shutdown: each is asked at once and has its own time, and all
is over in the time that the unit gives."""
import contextlib
import glob
import os
import re
import signal
import subprocess

import pytest

from node import PATIENCE, at_rest, wait_for

DEAF = "trap 'echo asked >/asked' TERM"
GOOD = "trap 'echo asked >/asked; exit 0' TERM"
LONG = 600


@pytest.fixture
def one_worker(node):
    """A node of one worker."""
    node.term()
    node.setting("workers", 1)
    return node.start()


def make(node, names, trap, **spec):
    for name in names:
        node.trapping(name, trap, **spec)


def was_asked(node, name):
    """The VE has written that down."""
    return glob.glob(os.path.join(node.pool(), str(node.show(name)["id"]), "**/asked"), recursive=True)


def states(node, names):
    return {node.state(name) for name in names}


def workers(node):
    return [command for _, command in node.processes() if "terem-worker" in command]


def workers_of(node):
    """Children of teremd that bear the name, without those that they make VEs of."""
    with open(f"/proc/{node.daemon.pid}/task/{node.daemon.pid}/children", encoding="ascii") as file:
        for pid in file.read().split():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as words:
                if b"terem-worker" in words.read():
                    yield int(pid)


def test_all_are_asked_at_once(one_worker):
    """Those that wait hold nobody up, have no process, and can still be killed."""
    node, names = one_worker, [f"deaf{n}" for n in range(10)]
    make(node, names, DEAF)
    begun = node.ok("POST", "/v1/bulk", {"verb": "stop", "ves": names, "options": {"timeout": LONG}})
    wait_for(lambda: all(was_asked(node, name) for name in names))
    assert states(node, names) == {"stopping"}
    wait_for(lambda: not workers(node))
    node.ve("other")  # another one starts meanwhile, by the only worker
    node.job("POST", "/v1/ves/other/stop")
    assert states(node, names) == {"stopping"}
    node.terem("stop", *names, "--fast")
    job = node.ok("GET", f"/v1/jobs/{begun['id']}?wait=true")
    assert states(node, names) == {"stopped"}
    assert {item["state"] for item in job["result"]["items"]} == {"cancelled"}, job


def test_each_has_its_own_time(one_worker):
    """Who obeys has stopped long before those who do not."""
    node, deaf, good = one_worker, ["deaf0", "deaf1"], ["good0", "good1", "good2"]
    make(node, deaf, DEAF)
    make(node, good, GOOD)
    slow = node.ok("POST", "/v1/bulk", {"verb": "stop", "ves": deaf, "options": {"timeout": LONG}})
    job = node.job("POST", "/v1/bulk", {"verb": "stop", "ves": good})
    assert job["result"]["done"] == 3 and states(node, deaf) == {"stopping"}
    assert {node.show(name)["last_exit"]["status"] for name in good} == {0}
    node.kill()  # in the middle: it goes on, and what was asked is asked again
    node.start()
    assert node.ok("GET", f"/v1/jobs/{slow['id']}")["ended"] is None
    node.terem("kill", *deaf)
    assert states(node, deaf) == {"stopped"}


def test_its_time_is_over(node):
    make(node, ["deaf0", "deaf1"], DEAF)
    job = node.job("POST", "/v1/bulk", {"verb": "stop", "all": True, "options": {"timeout": 1}})
    assert job["state"] == "done" and job["result"]["done"] == 2
    for name in ("deaf0", "deaf1"):
        assert was_asked(node, name)
        assert node.show(name)["last_exit"]["reason"] == "killed after it did not shut down in time"


def test_a_crew_s_worker_is_killed(one_worker):
    """What it had not begun is done by another; what it was at work for fails, alone."""
    node, names = one_worker, [f"v{n:02}" for n in range(24)]
    node.template()
    for name in names:
        node.ok("POST", "/v1/ves", {"name": name, "template": "busybox"})
    for _ in range(20):  # where this process waited for its turn all may be over before
        killed, begun = 0, node.ok("POST", "/v1/bulk", {"verb": "start", "all": True})
        wait_for(lambda job=begun["id"]: node.ok("GET", f"/v1/jobs/{job}")["percent"] > 20)
        for pid in workers_of(node):
            with contextlib.suppress(ProcessLookupError):  # its work is done
                os.kill(pid, 9)
                killed += 1
        if killed:
            break
        node.job("POST", "/v1/bulk", {"verb": "stop", "all": True, "options": {"force": True}})
    assert killed
    job = node.ok("GET", f"/v1/jobs/{begun['id']}?wait=true")
    assert job["result"]["failed"] <= killed and job["result"]["done"] >= len(names) - killed, job
    for item in job["result"]["items"]:
        assert node.state(item["ve"]) == ("running" if item["state"] == "done" else "stopped"), item
        assert item["state"] == "done" or "its worker was killed by signal 9" in item["error"]["message"], item


def test_a_crash_in_a_mass_stop(one_worker):
    """Those whose cgroup had gone already are nothing to be told of."""
    node, names = one_worker, [f"v{n:02}" for n in range(24)]
    for name in names:
        node.ve(name)
    begun = node.ok("POST", "/v1/bulk", {"verb": "stop", "all": True, "options": {"force": True}})
    wait_for(lambda: node.ok("GET", f"/v1/jobs/{begun['id']}")["percent"] > 20)
    os.kill(node.daemon.pid, signal.SIGSTOP)  # its worker goes on, and nobody writes down what it has done
    at_rest(lambda: len(node.cgroups()))
    node.kill()
    node.start()
    for name in names:
        node.wait_state(name, "stopped")
    assert "cannot open cgroup" not in node.words(10**6)


def unit(node):
    """What terem-ves.service runs at the machine's shutdown, and the seconds that systemd gives it."""
    with open(os.path.join(node.build, "packaging/terem-ves.service"), encoding="utf-8") as file:
        text = file.read()
    words = re.search(r"^ExecStop=(.*)$", text, re.M).group(1).split()
    return words, int(re.search(r"^TimeoutStopSec=(\d+)$", text, re.M).group(1))


def test_the_unit_ends_in_time(node):
    words, allowed = unit(node)
    assert os.path.basename(words[0]) == "terem" and words[1:-1] == ["node", "stop", "--within"]
    assert int(words[-1].removesuffix("s")) + 5 <= allowed


def test_shutdown_of_the_machine(one_worker):
    """As systemd does it, with less time: all are asked, who does not obey is killed, a job in the way too; those
    with autostart run after the next boot."""
    node, deaf, good = one_worker, ["deaf0", "deaf1", "deaf2"], ["good0", "good1"]
    make(node, deaf, DEAF, autostart=True)
    make(node, good, GOOD, autostart=True)
    make(node, ["manual"], GOOD)
    make(node, ["busy"], DEAF)
    node.ok("POST", "/v1/ves/busy/stop", {"timeout": LONG})
    words, allowed = unit(node)
    node.ok("POST", "/v1/bulk", {"verb": "restart", "ves": ["deaf2"], "options": {"timeout": LONG}})
    with subprocess.Popen([node.cli, "--root", node.root, *words[1:-1], "8s"], stdin=subprocess.DEVNULL) as stop:
        assert stop.wait(allowed) == 0
    assert node.daemon.wait(allowed) == 0
    assert not node.cgroups() and not node.processes()
    node.start()
    for name in deaf + good:
        node.wait_state(name, "running")
    assert states(node, ["manual", "busy"]) == {"stopped"}
    for name in deaf[:2] + good:
        assert was_asked(node, name)
    reasons = {name: node.show(name)["last_exit"]["reason"] for name in deaf[:2] + good}
    assert {reasons[name] for name in deaf[:2]} == {"killed after it did not shut down in time"}, reasons
    assert {reasons[name] for name in good} == {"asked to stop"}, reasons
    node.term()  # and what still runs then is fast to end
    node.start()
    node.terem("node", "stop", "--fast")
    node.daemon.wait(60)


def test_stop_of_the_node_asked_again(node):
    """Whoever asks again waits, too; with --fast what still runs is killed.  Meanwhile many can be killed."""
    names = [f"deaf{n}" for n in range(4)]
    make(node, names, DEAF)
    for name in names:  # longer than any test waits
        node.ok("POST", f"/v1/ves/{name}/stop", {"timeout": LONG})
    words = [node.cli, "--root", node.root, "node", "stop"]
    with contextlib.ExitStack() as stack:
        stops = [stack.enter_context(subprocess.Popen(words, stdin=subprocess.DEVNULL)) for _ in range(2)]
        for stop in stops:
            stack.callback(stop.kill)
        wait_for(lambda: node.ok("GET", "/v1")["state"] == "stopping")
        assert "terem node stop waits for it" in node.terem("node", "stop", "--no-wait").stdout
        assert node.json("node", "stop", "--no-wait") == {"stopped": False, "left": []}
        assert node.terem("start", "--all", check=False).stderr == "terem: the node is stopping\n"
        killed = node.terem("kill", *names[:2]).stdout.splitlines()
        assert sorted(killed) == [f"{name}: killed" for name in names[:2]]
        assert states(node, names[2:]) == {"stopping"} and [stop.poll() for stop in stops] == [None, None]
        node.terem("node", "stop", "--fast")
        assert [stop.wait(PATIENCE) for stop in stops] == [0, 0]
    assert node.daemon.wait(PATIENCE) == 0 and not node.cgroups() and not node.processes()
