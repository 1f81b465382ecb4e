# SPDX-License-Identifier: GPL-2.0-or-later
"""A kill behind what is at work: whatever that is, and whatever follows from its end, both jobs end, and the VE
does not run."""
from node import Node, wait_for

FOREVER = ["/bin/sleep", "100000"]


def many(node, name, files=3000):
    node.sh(name, f"mkdir -p /root/many; i=0; while [ $i -lt {files} ]; do i=$((i+1)); echo $i >/root/many/$i; done")


def ended(node, job):
    """With what it said; nothing may be queued for ever behind it."""
    return node.ok("GET", f"/v1/jobs/{job['id']}?wait=true")


def nothing_waits(node):
    wait_for(lambda: not node.ok("GET", "/v1/jobs"), lambda: f"never ended: {node.ok('GET', '/v1/jobs')}")


def test_behind_a_rollback(node):
    """It fails, and the VE that ran is not started again: the kill waits, and comes to its end."""
    node.ve("web1")
    many(node, "web1")
    node.job("POST", "/v1/ves/web1/snapshots", {"name": "then"})
    late = 0
    for _ in range(3):
        back = node.ok("POST", "/v1/ves/web1/rollback", {"snapshot": "then", "restart": True, "timeout": 0})
        wait_for(lambda: node.state("web1") != "stopping")
        kill = node.api("POST", "/v1/ves/web1/kill")
        if kill.status < 300:
            kill = ended(node, kill.json)
            assert kill["state"] == "done", kill
            late += ended(node, back)["state"] == "failed" or ended(node, back)["state"] == "cancelled"
            assert node.state("web1") == "stopped"
        ended(node, back)
        nothing_waits(node)
        if node.state("web1") == "stopped":
            node.job("POST", "/v1/ves/web1/start")
        assert node.sh("web1", "ls /root/many | wc -l").strip() == "3000"
    assert late, "every rollback was faster than its kill"


def test_rollback_asks(node):
    """A rollback that restarts asks for the time it was told, as any restart does."""
    node.trapping("web1", "trap 'echo asked >/dev/console; exit 0' TERM")
    node.job("POST", "/v1/ves/web1/snapshots", {"name": "then"})
    node.job("POST", "/v1/ves/web1/rollback", {"snapshot": "then", "restart": True, "timeout": 100})
    assert node.state("web1") == "running"
    last = node.show("web1")["last_exit"]
    assert (last["how"], last["status"]) == ("exited", 0), last
    # One that does not obey is killed at once by a kill.
    node.trapping("deaf", "trap '' TERM INT")
    node.job("POST", "/v1/ves/deaf/snapshots", {"name": "then"})
    back = node.ok("POST", "/v1/ves/deaf/rollback", {"snapshot": "then", "restart": True, "timeout": 10000})
    assert node.job("POST", "/v1/ves/deaf/kill")["state"] == "done"
    assert ended(node, back)["state"] == "cancelled" and node.state("deaf") == "stopped"
    nothing_waits(node)


def test_behind_a_queued_one(build):
    """What waits for a worker is cancelled, and the VE ends although all workers are at work."""
    with Node(build, workers="1") as node:
        node.ve("web1")
        many(node, "web1")
        node.ve("web2", kind="app", command=FOREVER)
        late = 0
        for n in range(3):
            busy = node.ok("POST", "/v1/ves/web1/snapshots", {"name": f"s{n}"})
            queued = node.ok("POST", "/v1/ves/web2/snapshots", {"name": f"s{n}"})
            was = node.ok("GET", f"/v1/jobs/{queued['id']}")["state"]
            kill = node.job("POST", "/v1/ves/web2/kill")
            assert kill["state"] == "done", kill
            late += was == "queued" and ended(node, queued)["state"] == "cancelled"
            ended(node, busy)
            nothing_waits(node)
            node.job("POST", "/v1/ves/web2/start")
        assert late


def test_many_behind_many(build):
    """Those that wait for a worker are cancelled one by one, and each makes room for the next, of another job."""
    with Node(build, workers="1") as node:
        node.template()
        names = [f"web{n}" for n in range(40)]
        for name in names:
            node.ve(name, start=False, kind="app", command=FOREVER)
        for _ in range(3):
            starts = [node.ok("POST", "/v1/bulk", {"verb": "start", "ves": part})
                      for part in (names[:16], names[16:28], names[28:])]
            kills = [node.ok("POST", "/v1/bulk", {"verb": "kill", "ves": names[16:]}) for _ in range(3)]
            for job in (*starts, *kills):
                ended(node, job)
            nothing_waits(node)
            node.job("POST", "/v1/bulk", {"verb": "kill", "all": True})
            assert {ve["state"] for ve in node.ok("GET", "/v1/ves")} == {"stopped"}


def test_many_behind_snapshots(build):
    """Who is cancelled while it waits for a worker makes room for the next of its own job, before the kill that
    cancelled it begins: that is still of the kill's."""
    with Node(build, workers="1") as node:
        node.ve("busy")
        many(node, "busy")
        names = [f"web{n}" for n in range(4)]
        for name in names:
            node.ve(name, kind="app", command=FOREVER)
        for n in range(3):
            first = node.ok("POST", "/v1/ves/busy/snapshots", {"name": f"s{n}"})
            saves = node.ok("POST", "/v1/bulk", {"verb": "snapshot", "ves": names, "options": {"name": f"s{n}"}})
            kills = node.ok("POST", "/v1/bulk", {"verb": "kill", "ves": names})
            for job in (first, saves, kills):
                ended(node, job)
            nothing_waits(node)
            node.job("POST", "/v1/bulk", {"verb": "start", "all": True})


def test_many_behind_clones(node):
    """Also where the clones go with what they made."""
    node.ve("web1")
    many(node, "web1", 1000)
    for _ in range(3):
        jobs = []
        for n in range(4):
            clone = node.api("POST", "/v1/ves/web1/clone", {"name": f"copy{n}", "start": n % 2 == 0})
            if clone.status < 300:
                jobs.append(clone.json)
        jobs.append(node.ok("POST", "/v1/bulk", {"verb": "kill", "ves": [f"copy{n}" for n in range(4)]}))
        for job in jobs:
            ended(node, job)
        nothing_waits(node)
        node.job("POST", "/v1/bulk", {"verb": "kill", "all": True})
        for n in range(4):
            node.api("DELETE", f"/v1/ves/copy{n}?wait=true&force=true")
        nothing_waits(node)
        node.job("POST", "/v1/ves/web1/start")
