# SPDX-License-Identifier: GPL-2.0-or-later
"""From created to destroyed: every state and every move between states."""
import os
import sqlite3
import time

import pytest

from events import Events
from node import at_rest, wait_for


def test_whole_life(node):
    node.template()
    made = node.ok("POST", "/v1/ves", {"name": "web1", "template": "busybox",
                                       "labels": {"tier": "web"},
                                       "params": {"memory.limit": "64M", "processes": "40"}})
    assert made["state"] == "stopped" and made["labels"] == {"tier": "web"}
    job = node.job("POST", "/v1/ves/web1/start")
    assert job["state"] == "done" and job["subject"] == "web1"
    up = node.show("web1")
    assert up["state"] == "running" and up["pid"] > 1 and up["started"] >= up["created"]
    assert node.sh("web1", "echo $$; hostname; id -u").split()[1:] == ["web1", "0"]
    node.job("POST", "/v1/ves/web1/pause")
    assert node.state("web1") == "paused"
    node.job("POST", "/v1/ves/web1/resume")
    assert node.state("web1") == "running"
    node.job("POST", "/v1/ves/web1/stop")
    down = node.show("web1")
    assert down["state"] == "stopped" and down["pid"] is None
    node.job("DELETE", "/v1/ves/web1")
    assert node.api("GET", "/v1/ves/web1").error == "not-found"
    assert not node.cgroups()
    node.wait_no_interfaces()


def test_files_survive_a_stop_and_go_with_the_ve(node):
    node.ve("web1")
    node.sh("web1", "echo kept > /root/note; sync")
    node.job("POST", "/v1/ves/web1/restart")
    assert node.sh("web1", "cat /root/note") == "kept\n"
    node.job("POST", "/v1/ves/web1/kill")
    node.job("DELETE", "/v1/ves/web1")
    node.ve("web1")
    assert node.sh("web1", "ls /root/note", check=False) == ""


def test_two_ves_share_a_template_and_nothing_else(node):
    node.ve("a1")
    node.ve("b1")
    node.sh("a1", "echo mine > /etc/mark; rm /etc/passwd; sync")
    assert node.run("b1", "/bin/ls", "/etc/mark", check=False)["exit"] != 0
    assert "root" in node.sh("b1", "cat /etc/passwd")
    a, b = node.show("a1"), node.show("b1")
    assert a["layers"] == b["layers"] and a["addresses"] != b["addresses"]
    maps = [open(f"/proc/{ve['pid']}/uid_map", encoding="ascii").read().split() for ve in (a, b)]
    assert all(m[0] == "0" and m[2] == "65536" for m in maps)
    assert abs(int(maps[0][1]) - int(maps[1][1])) >= 65536 and int(maps[0][1]) >= 65536


@pytest.mark.parametrize("verb,state,wrong", [
    ("start", "running", ["start", "resume"]),
    ("pause", "paused", ["pause", "start"]),
    ("kill", "stopped", ["kill", "stop", "pause", "resume"]),
])
def test_wrong_moves_are_refused(shared, verb, state, wrong):
    """Each state refuses what does not belong to it, in a sentence, and stays what it is."""
    if shared.api("GET", "/v1/ves/moves").status == 404:
        shared.ve("moves", start=False)
    shared.job("POST", f"/v1/ves/moves/{verb}")
    assert shared.state("moves") == state
    for other in wrong:
        answer = shared.api("POST", f"/v1/ves/moves/{other}?wait=true")
        assert answer.error == "state", (other, answer)
        assert "moves" in answer.json["error"]["message"]
        assert shared.state("moves") == state


def test_destroy_of_a_running_ve_needs_force(node):
    node.ve("web1")
    assert node.api("DELETE", "/v1/ves/web1?wait=true").error == "state"
    assert node.state("web1") == "running"
    with Events(node) as events:
        events.begin("web1")
        node.job("DELETE", "/v1/ves/web1?force=true")
        last = events.wait("ve.exit", ve="web1")["last_exit"]
    assert last["signal"] == "KILL" and last["reason"] == "asked to stop", last
    assert node.api("GET", "/v1/ves/web1").status == 404


def test_the_first_process_is_born_after_its_clocks(node):
    """A birth before they begin would be shown as one in the year 2600."""
    for i in range(30):
        pid = node.ve(f"web{i}")["pid"]
        born, up = node.sh(f"web{i}", "cut -d' ' -f22 /proc/1/stat; cat /proc/uptime").splitlines()
        with open(f"/proc/{pid}/timens_offsets", encoding="ascii") as file:
            offset = next(int(line.split()[1]) for line in file if line.startswith("boottime"))
        now = time.clock_gettime(time.CLOCK_BOOTTIME) + offset + 1
        assert 0 <= int(born) / 100 <= now and float(up.split()[0]) < 60, (i, born, now, up)


def test_stop_kills_after_the_deadline(node):
    """An application that ignores the request to end is killed when its own time is over."""
    for name in ("long", "deaf"):
        node.trapping(name, "trap '' TERM INT")
    node.ok("POST", "/v1/ves/long/stop", {"timeout": 600})
    at = time.monotonic()
    node.job("POST", "/v1/ves/deaf/stop", {"timeout": 1})
    assert time.monotonic() - at >= 0.9
    last = node.show("deaf")["last_exit"]
    assert last["signal"] == "KILL" and last["reason"] == "killed after it did not shut down in time"
    assert (node.state("deaf"), node.state("long")) == ("stopped", "stopping")
    node.job("POST", "/v1/ves/long/kill")


def test_application_ends_and_says_how(node):
    node.ve("app1", kind="app", command=["/bin/sh", "-c", "exit 7"])
    node.wait_state("app1", "stopped")
    last = node.show("app1")["last_exit"]
    assert last["how"] == "exited" and last["status"] == 7, last


def test_restart_policy(node):
    node.ve("again", kind="app", restart="on-failure",
            command=["/bin/sh", "-c", "echo x >> /count; [ $(wc -l < /count) -ge 3 ] && sleep 1000; exit 1"])

    def thrice():
        answer = node.api("POST", "/v1/ves/again/exec", {"command": ["/bin/cat", "/count"]})
        return answer.status == 200 and answer.json["stdout"].count("x") >= 3
    wait_for(thrice, lambda: node.show("again"))
    node.job("POST", "/v1/ves/again/stop", {"timeout": 1})
    assert node.state("again") == "stopped", "a stop that was asked for is not a failure"


def test_a_guest_that_powers_off_is_stopped(node):
    node.ve("web1")
    node.run("web1", "/bin/busybox", "poweroff", check=False)
    node.wait_state("web1", "stopped")


def test_params_are_applied_and_changed_live(node):
    pid = node.ve("web1", params={"memory.limit": "64M", "processes": "30"})["pid"]
    assert limit(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert limit(pid, "pids", "pids.max", "pids.max") == "30"
    node.ok("PATCH", "/v1/ves/web1", {"params": {"memory.limit": "96M", "processes": "50"}})
    assert limit(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(96 << 20)
    assert limit(pid, "pids", "pids.max", "pids.max") == "50"
    # One bad value: none of them changes.
    answer = node.api("PATCH", "/v1/ves/web1", {"params": {"processes": "60", "memory.limit": "x"}})
    assert answer.error == "usage"
    assert limit(pid, "pids", "pids.max", "pids.max") == "50"
    assert node.show("web1")["params"] == {"memory.limit": "96M", "processes": "50"}
    node.ok("PATCH", "/v1/ves/web1", {"params": {"memory.limit": None}})
    assert "memory.limit" not in node.show("web1")["params"]


def limit(pid, controller, v1, v2):
    """A limit of the process's VE as the kernel has it, from v1 or from v2."""
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
        paths = {line.split(":")[1]: line.strip().split(":", 2)[2] for line in file}
    if controller in paths:
        folder, name = f"/sys/fs/cgroup/{controller}{paths[controller]}", v1
    else:
        top = "/sys/fs/cgroup/unified" if os.path.isdir("/sys/fs/cgroup/unified") else "/sys/fs/cgroup"
        folder, name = top + paths[""], v2
    while True:  # the limit is on the VE's own cgroup, above those that it made inside
        assert "/terem" in folder
        if os.path.basename(folder).startswith("ve-"):
            break
        folder = os.path.dirname(folder)
    with open(os.path.join(folder, name), encoding="ascii") as file:
        return file.read().strip()


def test_labels_choose(node):
    for name, tier in (("a1", "web"), ("b1", "db"), ("c1", "web")):
        node.ve(name, start=False, labels={"tier": tier})
    assert [ve["name"] for ve in node.ok("GET", "/v1/ves?label=tier%3Dweb")] == ["a1", "c1"]
    node.terem("start", "--label", "tier=web")
    assert [node.state(n) for n in ("a1", "b1", "c1")] == ["running", "stopped", "running"]
    node.terem("stop", "--all")
    assert [node.state(n) for n in ("a1", "b1", "c1")] == ["stopped"] * 3


def test_rename(node):
    node.ve("old", start=False)
    node.ok("PATCH", "/v1/ves/old", {"name": "new"})
    assert node.api("GET", "/v1/ves/old").status == 404
    assert node.state("new") == "stopped"


def test_host_carries_nothing_per_ve(node):
    """No host process and no host mount per VE."""
    node.ve("v0")

    def outside():
        count = 0
        for pid, _ in node.processes():
            try:
                with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
                    count += f"/{node.cgroup_name}/ve-" not in file.read()
            except OSError:  # it has just ended
                pass
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            return count, sum(node.root in line or f"/{node.cgroup_name}/" in line for line in file)

    before = at_rest(outside)  # a pool that was just made still has work for a process of its own
    for number in range(1, 9):
        node.ve(f"v{number}")
    assert at_rest(outside) == before


def test_the_node_waits_for_no_stop_by_force(node):
    """Also not for one that was asked for before, with all the time of the world."""
    node.trapping("deaf", "trap '' TERM INT")
    node.terem("stop", "--timeout", "1000", "--no-wait", "deaf")
    node.wait_state("deaf", "stopping")
    node.terem("node", "stop", "--force")
    wait_for(lambda: not node.alive())
    node.start()
    assert node.state("deaf") == "stopped" and node.show("deaf")["last_exit"]["signal"] == "KILL"


def test_autostart_after_the_node_was_stopped(node):
    node.ve("auto", autostart=True)
    node.ve("manual")
    node.terem("node", "stop")
    node.start()
    node.wait_state("auto", "running")
    assert node.state("manual") == "stopped"


def test_autostart(node):
    """After a boot of the machine, those that shall start do."""
    node.ve("auto", start=False, autostart=True)
    node.ve("manual", start=False)
    node.term()
    with sqlite3.connect(os.path.join(node.root, "lib/registry.db")) as registry:
        registry.execute("UPDATE meta SET value = 'an earlier one' WHERE key = 'boot'")
    registry.close()
    node.start()
    node.wait_state("auto", "running")
    assert node.state("manual") == "stopped"


def test_autostart_after_a_power_cut(node):
    """Those that ran when the machine lost its power, too; and the more important ones first."""
    for number, name in enumerate(["a", "b", "c", "d"]):
        node.ve(name, start=name != "d", autostart=name != "a", priority=number)
    node.kill()
    for pid, _ in node.processes():
        try:
            os.kill(pid, 9)
        except ProcessLookupError:  # the others of its VE went with its init
            pass
    with sqlite3.connect(os.path.join(node.root, "lib/registry.db")) as registry:
        registry.execute("UPDATE meta SET value = 'an earlier one' WHERE key = 'boot'")
    registry.close()
    node.setting("workers", 1)
    node.start()
    for name in ("b", "c", "d"):
        node.wait_state(name, "running")
    assert node.state("a") == "stopped"
    up = {name: node.show(name)["started"] for name in ("b", "c", "d")}
    assert up["d"] <= up["c"] <= up["b"] and len(set(up.values())) == 3, up
    [job] = [job for job in node.ok("GET", "/v1/jobs?all=true") if job["kind"] == "bulk"]
    assert node.ok("GET", f"/v1/jobs/{job['id']}?wait=true")["result"]["done"] == 3
