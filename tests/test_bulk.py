# SPDX-License-Identifier: GPL-2.0-or-later
"""The same to many VEs: one job, which names each failure, can be cancelled and outlives teremd."""
import contextlib
import json
import os
import subprocess
import time

import pytest

from node import PATIENCE, dice, wait_for

MANY = 24
DEAF = ["/bin/sh", "-c", "trap '' TERM; >/deaf; while :; do sleep 1; done"]


@pytest.fixture
def many(node):
    """VEs v00 … v23, stopped; the even ones have the label half=even."""
    node.template()
    for n in range(MANY):
        node.ok("POST", "/v1/ves", {"name": f"v{n:02}", "template": "busybox",
                                    "labels": {"half": "odd" if n % 2 else "even"}})
    return [f"v{n:02}" for n in range(MANY)]


def bulk(node, verb, options=None, **which):
    return node.job("POST", "/v1/bulk", {"verb": verb, "options": options or {}, **which})


@contextlib.contextmanager
def waiting(node, *words):
    """A command that goes on meanwhile."""
    with subprocess.Popen([node.cli, "--root", node.root, *words], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


def make_deaf(node, *names):
    """Who does not end when asked to."""
    for name in names:
        node.ve(name, kind="app", command=DEAF)
        node.sh(name, "while [ ! -e /deaf ]; do sleep 0.1; done")


def states(node):
    return {ve["name"]: ve["state"] for ve in node.ok("GET", "/v1/ves")}


def counts(job):
    return tuple(job["result"][key] for key in ("done", "failed", "cancelled"))


def test_life(node, many):
    job = bulk(node, "start", all=True)
    assert job["state"] == "done" and job["kind"] == "bulk" and job["subject"] == "start", job
    assert counts(job) == (MANY, 0, 0)
    assert [item["ve"] for item in job["result"]["items"]] == many
    assert set(states(node).values()) == {"running"}
    # Those that the verb does not change are not meant.
    assert counts(bulk(node, "start", all=True)) == (0, 0, 0)
    assert counts(bulk(node, "stop", {"timeout": 5}, label="half=even")) == (MANY // 2, 0, 0)
    assert list(states(node).values()).count("running") == MANY // 2
    assert counts(bulk(node, "pause", all=True)) == (MANY // 2, 0, 0)
    assert counts(bulk(node, "resume", all=True)) == (MANY // 2, 0, 0)
    assert counts(bulk(node, "restart", ves=["v01", "v03"])) == (2, 0, 0)
    assert counts(bulk(node, "kill", all=True)) == (MANY // 2, 0, 0)
    assert counts(bulk(node, "snapshot", {"name": "before"}, all=True)) == (MANY, 0, 0)
    assert {s["name"] for name in many for s in node.ok("GET", f"/v1/ves/{name}/snapshots")} == {"before"}
    job = bulk(node, "destroy", all=True)
    assert counts(job) == (MANY, 0, 0) and not states(node)
    assert job["result"]["items"][0]["result"]["snapshots"] == 1
    # What became of each is still told when it is history.
    for n in range(3):
        node.ok("POST", "/v1/ves", {"name": f"w{n}", "template": "busybox"})
        node.job("DELETE", f"/v1/ves/w{n}")
    later = node.ok("GET", f"/v1/jobs/{job['id']}")
    assert counts(later) == (MANY, 0, 0) and len(later["result"]["items"]) == MANY


def test_each_failure_is_named(node, many):
    node.job("POST", "/v1/ves/v00/start")
    job = bulk(node, "start", ves=["v00", "v01", "nobody", "v01"])
    assert job["state"] == "failed" and counts(job) == (1, 2, 0), job
    assert [item["ve"] for item in job["result"]["items"]] == ["v00", "v01", "nobody"]
    said = {item["ve"]: item["error"] for item in job["result"]["items"]}
    assert said["v01"] is None and said["nobody"]["kind"] == "not-found"
    assert "running already" in said["v00"]["message"]
    assert job["error"]["message"].startswith("2 of 3 failed; first v00: "), job["error"]
    # The rest goes on, unless asked to stop.
    job = bulk(node, "start", ves=["v00", *many[2:]], stop_on_failure=True)
    assert job["state"] == "failed" and counts(job)[1] == 1 and counts(job)[2] > 0, job
    assert "the rest were not begun" in job["error"]["message"]


def test_set(node, many):
    job = bulk(node, "set", {"params": {"processes": "77"}, "labels": {"tier": "web"}}, all=True)
    assert counts(job) == (MANY, 0, 0), job
    assert all(node.show(name)["params"]["processes"] == "77" and node.show(name)["labels"]["tier"] == "web"
               for name in many)
    job = bulk(node, "set", {"params": {"cpu.cores": "127-127"}}, ves=many[:2])
    assert counts(job) == (0, 2, 0) and job["result"]["items"][0]["error"]["message"]


@pytest.mark.parametrize("verb,options,said", [
    ("snapshot", {"name": "a b"}, "snapshot"),
    ("squeeze", {"to": "much"}, "to: "),
    ("update", {"check": True, "restart": True}, "choose one"),
    ("update", {"to": "../x"}, "usable name"),
    ("update", {"to": "none"}, "none"),
    ("set", {"params": {"memory.limits": "1G"}}, "did you mean memory.limit"),
    ("set", {"params": {"memory.limit": "much"}}, "memory.limit"),
    ("set", {"labels": {"a b": "c"}}, "label"),
    ("set", {"profile": "none"}, "none"),
    ("set", {"schedule": {"yearly": 1}}, "yearly"),
    ("set", {"name": "x"}, "one name"),
    ("exec", {"command": [""]}, "command"),
    ("exec", {"command": ["true"], "env": {"a=b": "c"}}, "env"),
])
def test_what_no_ve_could_take_is_refused_once(shared, verb, options, said):
    answer = shared.api("POST", "/v1/bulk", {"verb": verb, "all": True, "options": options})
    assert answer.status in (400, 404) and said in answer.json["error"]["message"], answer


def test_what_this_node_cannot_enforce_is_refused_once(shared):
    rows = {row["key"]: row["why_not"] for row in shared.ok("GET", "/v1/params")
            if not row["here"] and row["key"] in ("memory.guarantee", "file-locks", "firewall.rules")}
    assert rows, "every kernel lacks one of these"
    for key, why in rows.items():
        value = "64M" if key.startswith("memory") else "200"
        answer = shared.api("POST", "/v1/bulk", {"verb": "set", "all": True, "options": {"params": {key: value}}})
        assert answer.status >= 400 and why in answer.json["error"]["message"], answer
    # What goes only together with another value is the matter of each VE that may have it.
    answer = shared.api("POST", "/v1/bulk", {"verb": "set", "all": True, "options": {"params": {"swap.limit": "1G"}}})
    assert answer.status < 400 or "without memory.limit" not in answer.json["error"]["message"], answer


@pytest.mark.parametrize("label", ["", "tier", "=web"])
def test_a_label_without_key_or_value_is_refused(shared, label):
    asked = [("POST", "/v1/bulk", {"verb": "stop", "label": label})]
    asked += [("GET", f"/v1/{what}?label={label}", None) for what in ("ves", "counters", "usage")]
    for method, path, body in asked:
        answer = shared.api(method, path, body)
        assert answer.status == 400, (path, answer)
        assert "a key and a value, such as tier=web" in answer.json["error"]["message"], (path, answer)


def test_exec(node, many):
    bulk(node, "start", ves=many[:4])
    seen = {}
    connection = node.connection()
    connection.request("POST", "/v1/bulk", json.dumps(
        {"verb": "exec", "all": True, "options": {"command": ["/bin/sh", "-c", "hostname; test $(hostname) != v02"]}}),
        {"Content-Type": "application/json", "Accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in connection.getresponse().read().splitlines() if line.strip()]
    connection.close()
    for line in lines:
        if "item" in line:
            seen[line["item"]["ve"]] = line["item"]["result"]["stdout"]
    assert seen == {name: f"{name}\n" for name in many[:4]}
    end = lines[-1]
    assert end["state"] == "failed" and counts(end) == (3, 1, 0)
    assert end["error"]["message"] == "1 of 4 failed; first v02: the command ended with status 1"
    told = node.terem("jobs", "show", str(end["id"])).stdout
    assert f"\nfailed   1 VE; terem jobs show {end['id']} --json names each with its error\n" in told, told
    assert "100%" not in told


def cancelled(node):
    """A start of all that was cancelled in the middle of its work; all may be over where we wait for our turn."""
    for _ in range(20):
        begun = node.ok("POST", "/v1/bulk", {"verb": "start", "all": True})
        assert begun["state"] == "running"
        wait_for(lambda number=begun["id"]: (node.ok("GET", f"/v1/jobs/{number}")["percent"] or 0) > 0)
        node.api("DELETE", f"/v1/jobs/{begun['id']}")
        job = node.ok("GET", f"/v1/jobs/{begun['id']}?wait=true")
        if job["state"] == "cancelled" and "not begun" in job["error"]["message"]:
            break
        bulk(node, "kill", all=True)
    return job


def test_cancel(node, many):
    """What has not begun is not begun; what is at work is cancelled."""
    for name in many:
        node.ok("PATCH", f"/v1/ves/{name}", {"labels": {"x": "y"}})
    begun = job = cancelled(node)
    done, failed, rest = counts(job)
    assert job["state"] == "cancelled" and failed == 0 and done + rest == MANY and rest, job
    assert list(states(node).values()).count("running") == done
    assert not node.ok("GET", "/v1/jobs")
    # Whoever waits is told what was left out.
    said = job["error"]["message"]
    assert said.startswith(f"cancelled: {done} of {MANY} were done") and said.endswith(" were not begun"), said
    again = node.terem("jobs", "wait", str(begun["id"]), check=False)
    assert again.returncode == 1 and again.stderr.splitlines()[-1] == f"terem: {said}", again
    # It stands above those that it began; what is over without being done is not called done.
    listed = node.terem("jobs", "list", "--all", "--limit", "1")
    assert listed.stdout.splitlines()[1].split()[:2] == [str(begun["id"]), "bulk"], listed
    assert "more than these 1; --limit 10 shows more" in listed.stderr
    assert "cancelled" in node.terem("jobs", "show", str(begun["id"])).stdout
    assert "%" not in node.terem("jobs", "show", str(begun["id"])).stdout


def test_a_crash_brings_back_nothing_that_was_cancelled(node, many):
    node.kill()
    node.setting("workers", 1)
    node.start()
    begun = node.ok("POST", "/v1/bulk", {"verb": "start", "all": True})
    node.ok("DELETE", f"/v1/jobs/{begun['id']}")
    node.kill()
    node.start()
    wait_for(lambda: not node.ok("GET", "/v1/jobs"))
    job = node.ok("GET", f"/v1/jobs/{begun['id']}")
    done, failed, rest = counts(job)
    assert job["ended"] and failed == 0 and done + rest == MANY and rest >= MANY // 2, job
    # The one that was at work may be started again, as it is wanted to run.
    assert list(states(node).values()).count("running") <= done + 1


def test_a_crash_starts_nothing_that_was_to_be_stopped(node, many):
    """A stop that came while many were started is what was asked last, also where teremd ends with both."""
    def asked(path, body=None):
        node.ok("POST", "/v1/bulk", {"verb": "start", "all": True})
        node.ok("POST", path, body)
        wait_for(lambda: "stop" in (kinds := {job["kind"] for job in node.ok("GET", "/v1/jobs")}) or not kinds)
        node.kill()
        node.start()
        wait_for(lambda: not node.ok("GET", "/v1/jobs"))
    for _ in range(3):
        asked("/v1/bulk", {"verb": "stop", "all": True})
        assert set(states(node).values()) == {"stopped"}
    asked("/v1/ves/v00/stop")
    assert states(node) == {name: "stopped" if name == "v00" else "running" for name in many}


def test_cancelled_in_the_middle_of_a_stop_and_killed(node):
    """What had begun is told as it ended."""
    node.template()
    for n in range(6):
        node.trapping(f"deaf{n}", "trap '' TERM")
    begun = node.ok("POST", "/v1/bulk", {"verb": "stop", "all": True, "options": {"timeout": 1000}})
    wait_for(lambda: set(states(node).values()) == {"stopping"})
    said = node.ok("GET", f"/v1/jobs/{begun['id']}")
    assert said["text"] == "0 of 6 done, 6 at work", said
    node.ok("DELETE", f"/v1/jobs/{begun['id']}")
    node.kill()
    node.start()
    node.terem("stop", "--all", "--force")
    job = node.ok("GET", f"/v1/jobs/{begun['id']}?wait=true")
    assert job["state"] == "done" and counts(job) == (6, 0, 0), job  # nothing was left out
    assert set(states(node).values()) == {"stopped"}


def test_cancelled_restarts_leave_nobody_stopped(node, many):
    bulk(node, "start", all=True)
    begun = node.ok("POST", "/v1/bulk", {"verb": "restart", "all": True})
    wait_for(lambda: (said := node.ok("GET", f"/v1/jobs/{begun['id']}"))["percent"] or said["ended"])
    node.api("DELETE", f"/v1/jobs/{begun['id']}")
    job = node.ok("GET", f"/v1/jobs/{begun['id']}?wait=true")
    assert counts(job)[1] == 0 and job["state"] == ("cancelled" if counts(job)[2] else "done"), job
    assert set(states(node).values()) == {"running"}


def test_cancelled_commands_end(node):
    node.ve("web1")
    node.ve("web2")
    begun = node.ok("POST", "/v1/bulk", {"verb": "exec", "all": True, "options": {"command": ["sleep", "1000"]}})
    deaf = node.ok("POST", "/v1/bulk", {"verb": "exec", "all": True, "options":
                                        {"command": ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"]}})
    for job in (begun, deaf):
        wait_for(lambda number=job["id"]: "2 at work" in node.ok("GET", f"/v1/jobs/{number}")["text"])
        node.ok("DELETE", f"/v1/jobs/{job['id']}")
        job = node.ok("GET", f"/v1/jobs/{job['id']}?wait=true")
        assert job["state"] == "cancelled" and counts(job) == (0, 0, 2), job


def test_much_output(node):
    """None is lost, neither beside a slow reader nor behind a NUL; what is cut is told."""
    for n in range(6):
        node.ve(f"web{n}")
    done = node.terem("exec", "--all", "--", "/bin/sh", "-c", "seq 12000; printf 'a\\0b\\n' >&2; test $(hostname) != web3",
                      check=False)
    assert done.returncode == 1 and "terem: 1 of 6 failed" in done.stderr
    for n in range(6):
        assert f"web{n}: 1\nweb{n}: 2\n" in done.stdout and f"web{n}: 11000\n" in done.stdout
        assert f"web{n}: a\\x00b\n" in done.stderr
    assert "terem: web3: the command ended with status 1" in done.stderr
    done = node.terem("exec", "--all", "--", "/bin/sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x")
    assert [line[6:] for line in sorted(done.stdout.splitlines())] == ["x" * 65536] * 6
    assert done.stderr.count("it printed more than is kept") == 6


def test_refused_before_it_begins(node):
    for body, said in [({"verb": "snapshot", "all": True, "options": {"name": "a b"}}, "snapshot: "),
                       ({"verb": "start"}, "give one of"), ({"verb": "start", "all": True, "ves": []}, "give one of"),
                       ({"verb": "update", "all": True, "options": {"x": 1}}, "options: ")]:
        answer = node.api("POST", "/v1/bulk", body)
        assert answer.status == 400 and said in answer.json["error"]["message"], answer
    assert not node.ok("GET", "/v1/jobs?all=true")


def test_many_names(node, many):
    """The daemon serves others meanwhile."""
    names = [f"n{n}" for n in range(20000)]
    begun = node.ok("POST", "/v1/bulk", {"verb": "stop", "ves": names + many + names})
    assert node.ok("GET", "/v1")["ves"] == MANY
    job = node.ok("GET", f"/v1/jobs/{begun['id']}?wait=true")
    assert job["result"]["total"] == 20000 + MANY and len(job["result"]["items"]) == job["result"]["total"]


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "destroy", "set", "snapshot"])
def test_killed(node, many, verb):
    """kill -9 of teremd in the middle: the same job goes on, and does to each what it was asked to, once."""
    options = {"set": {"params": {"processes": "99"}}, "stop": {"timeout": 10}}.get(verb, {})
    if verb in ("stop", "restart"):
        job = bulk(node, "start", all=True)
        assert counts(job) == (MANY, 0, 0), job["error"]
    started = {ve["name"]: ve["started"] for ve in node.ok("GET", "/v1/ves")}
    begun = node.ok("POST", "/v1/bulk", {"verb": verb, "all": True, "options": options})
    ended, chance = False, dice()
    for _ in range(3):
        time.sleep(chance.uniform(0, 0.15))
        node.kill()
        node.start()
        ended = node.ok("GET", f"/v1/jobs/{begun['id']}")["ended"] is not None
        if ended:
            break
    job = node.ok("GET", f"/v1/jobs/{begun['id']}?wait=true")
    assert job["state"] == "done" and counts(job) == (MANY, 0, 0), (job, node.words())
    wait_for(lambda: not node.ok("GET", "/v1/jobs"))
    now = states(node)
    if verb == "destroy":
        assert not now
    elif verb in ("start", "restart"):
        assert set(now.values()) == {"running"}
    else:
        assert set(now.values()) == {"stopped"}
    if verb == "restart":
        assert all(ve["started"] > started[ve["name"]] for ve in node.ok("GET", "/v1/ves"))
    if verb == "set":
        assert all(node.show(name)["params"]["processes"] == "99" for name in many)
    if verb == "snapshot":
        assert all(len(node.ok("GET", f"/v1/ves/{name}/snapshots")) == 1 for name in many)


def test_others_are_served_meanwhile(node, many):
    """A single start does not wait for all that were asked for before it."""
    for _ in range(20):  # all may be over where this process waits for its turn
        begun = node.ok("POST", "/v1/bulk", {"verb": "start", "ves": many[:-1]})
        node.job("POST", f"/v1/ves/{many[-1]}/start")
        job = node.ok("GET", f"/v1/jobs/{begun['id']}")
        assert node.ok("GET", f"/v1/jobs/{begun['id']}?wait=true")["state"] == "done"
        if job["ended"] is None:
            break
        bulk(node, "kill", all=True)
    assert job["ended"] is None, "it was served last"


def test_others_are_served_beside_snapshots(node):
    """Nor for what one of many keeps a worker busy with."""
    node.term()
    node.setting("workers", 1)
    node.start()
    node.ve("big")
    node.sh("big", "mkdir /root/many; i=0; while [ $i -lt 1500 ]; do i=$((i+1)); echo $i >/root/many/$i; done")
    node.ve("web1", start=False)
    for n in range(20):  # all may be over where this process waits for its turn
        begun = node.ok("POST", "/v1/bulk", {"verb": "snapshot", "ves": ["big"], "options": {"name": f"s{n}"}})
        node.job("POST", "/v1/ves/web1/start")
        job = node.ok("GET", f"/v1/jobs/{begun['id']}")
        assert node.ok("GET", f"/v1/jobs/{begun['id']}?wait=true")["state"] == "done"
        if job["ended"] is None:
            break
        node.job("POST", "/v1/ves/web1/kill")
    assert job["ended"] is None, "it was served last"


def test_a_name_that_another_has_now(node):
    """What waits for its turn is that VE, and not the next one of its name."""
    node.template()
    names = [f"v{n}" for n in range(66)]  # more than are at work at once
    for name in names:
        node.ve(name, start=False, kind="app", command=["/bin/sleep", "100000"])
    bulk(node, "start", ves=names)
    until = ["/bin/sh", "-c", "until [ -e /tmp/go ]; do usleep 100000; done"]
    begun = node.ok("POST", "/v1/bulk", {"verb": "exec", "ves": names, "options": {"command": until}})
    for name in names[-2:]:
        node.job("DELETE", f"/v1/ves/{name}?force=true")
    node.ve(names[-1])
    node.sh(names[-1], "mkdir -p /tmp; touch /tmp/go")
    for name in names[:-2]:
        node.sh(name, "mkdir -p /tmp; touch /tmp/go")
    job = node.ok("GET", f"/v1/jobs/{begun['id']}?wait=true")
    assert counts(job) == (len(names) - 2, 2, 0), job
    for item in job["result"]["items"][-2:]:
        assert item["error"] == {"kind": "not-found", "message": f"{item['ve']}: cannot exec it: it is gone already"}


def test_restart_waits_for_all_at_once(node):
    """However few workers there are: to wait for those that shut down slowly costs nothing."""
    node.setting("workers", 1)
    node.term()
    node.start()
    names = [f"v{n}" for n in range(6)]
    for name in names:
        node.trapping(name, "trap '' TERM")
    before = {name: node.show(name)["pid"] for name in names}
    begun = node.ok("POST", "/v1/bulk", {"verb": "restart", "ves": names, "options": {"timeout": 1000}})
    wait_for(lambda: set(states(node).values()) == {"stopping"})
    for pid in before.values():
        os.kill(pid, 9)
    job = node.ok("GET", f"/v1/jobs/{begun['id']}?wait=true")
    assert counts(job) == (len(names), 0, 0) and set(states(node).values()) == {"running"}, job
    assert not {node.show(name)["pid"] for name in names} & set(before.values())


def test_node_stop_ends_it(node, many):
    node.ok("POST", "/v1/bulk", {"verb": "start", "all": True})
    node.api("POST", "/v1/node/stop", {"force": True})
    node.daemon.wait(PATIENCE)
    node.start()
    assert set(states(node).values()) == {"stopped"} and not node.ok("GET", "/v1/jobs")


def test_command_line(node, many):
    done = node.terem("start", "--all")
    assert sorted(done.stdout.splitlines()) == sorted([f"{name}: started" for name in many] + [f"{MANY} VEs: started"])
    done = node.terem("start", "v00", "v01", "nobody", check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert sorted(done.stderr.splitlines())[0] == "terem: 3 of 3 failed" and "terem: nobody: there is no such VE" in done.stderr
    # One cause is said once, and named are the first of many.
    assert "terem: v00, v01: cannot start: it is running already" in done.stderr and done.stderr.count("running already") == 1
    done = node.terem("start", *many, check=False)
    said = done.stderr.splitlines()
    assert "running already" in said[0] and said[0].startswith("terem: v00, v01, v02, v03, v04 and 19 more: "), done
    number = node.ok("GET", "/v1/jobs?all=true&limit=1")[0]["id"]
    assert said[1:] == [f"terem: terem jobs show {number} --json names each of them", f"terem: {MANY} of {MANY} failed"]
    job = node.json("jobs", "show", str(number))
    assert [item["ve"] for item in job["result"]["items"] if item["error"]] == many
    assert node.terem("start", "--all").stdout == "no VE to start\n"
    node.terem("pause", "v00", "v02")
    told = "no VE to start; 2 are paused: terem resume {} lets them go on\n"
    assert node.terem("start", "--all").stdout == told.format("--all")
    assert node.terem("start", "--label", "half=even").stdout == told.format("--label half=even")
    assert node.terem("start", "--label", "half=odd").stdout == "no VE to start\n"
    node.terem("resume", "--all")
    assert "no VE has the label a=b" in node.terem("stop", "--label", "a=b").stderr
    job = json.loads(node.terem("exec", "--json", "--label", "half=odd", "--", "hostname").stdout)
    assert counts(job) == (MANY // 2, 0, 0)
    done = node.terem("exec", "--all", "--", "/bin/sh", "-c", "echo a; echo b >&2; hostname; test $(hostname) = v03", check=False)
    assert done.returncode == 1 and f"terem: {MANY - 1} of {MANY} failed" in done.stderr
    assert "v07: a\n" in done.stdout and "v07: v07\n" in done.stdout and "v07: b\n" in done.stderr
    assert "terem: v03" not in done.stderr and " and 18 more: the command ended with status 1" in done.stderr
    node.terem("set", "v00", "v01", "processes=44")
    assert node.show("v01")["params"]["processes"] == "44" and "processes" not in node.show("v02")["params"]
    node.terem("set", "--select", "half=odd", "--label", "tier=web", "processes=55")
    assert [name for name in many if node.show(name)["params"].get("processes") == "55"] == many[1::2]
    assert node.show("v01")["labels"] == {"half": "odd", "tier": "web"}
    node.terem("snapshot", "create", "--label", "half=even", "first", "--note", "n")
    assert [len(node.ok("GET", f"/v1/ves/{name}/snapshots")) for name in many] == [1, 0] * (MANY // 2)
    number = node.terem("stop", "--all", "--timeout", "5", "--no-wait").stdout.strip()
    assert node.ok("GET", f"/v1/jobs/{number}?wait=true")["state"] == "done"
    assert counts(node.json("destroy", "--all")) == (MANY, 0, 0)


@pytest.mark.parametrize("words, said", [
    (["start"], "needs names of VEs, or --label, or --all"),
    (["start", "v00", "--all"], "give names, or --all, or --label: not more than one"),
    (["destroy", "v00", "--all"], "give names, or --all, or --label: not more than one"),
    (["set", "processes=4"], "needs names of VEs, or --select, or --all"),
    (["set", "--all"], "terem set needs something to change"),
    (["set", "--all", "--name", "x"], "many VEs cannot have one name"),
    (["exec", "--", "ls"], "a VE is missing"),
    (["exec", "--all", "ls"], "terem exec --all -- ls"),
    (["exec", "--all", "--tty", "--", "ls"], "has no terminal"),
    (["snapshot", "create", "--all", "a", "b"], "only the snapshot's name"),
    (["stop", "--label", "=", "--json"], "label"),
])
def test_wrong_words(shared, words, said):
    done = shared.terem(*words, check=False)
    assert done.returncode in (2, 125) and said in done.stderr and done.stdout == "", done


def test_what_is_cancelled_is_no_success(node):
    """A kill that came between: the summary names it, and neither the job nor its command has done all."""
    make_deaf(node, "deaf0", "deaf1", "deaf2")
    with waiting(node, "stop", "--all", "--timeout", "600") as stop:
        wait_for(lambda: set(states(node).values()) == {"stopping"})
        os.kill(node.show("deaf0")["pid"], 9)
        node.terem("kill", "deaf1")
        node.terem("kill", "deaf2")
        said, errors = stop.communicate(timeout=PATIENCE)
    assert stop.returncode == 1 and said == "deaf0: stopped\n", (said, errors)
    assert errors == "terem: deaf1, deaf2: cancelled\nterem: 2 of 3 were cancelled\n", errors
    [job] = [job for job in node.ok("GET", "/v1/jobs?all=true") if job["kind"] == "bulk"]
    assert job["state"] == "cancelled" and job["error"]["message"] == "2 of 3 were cancelled", job


def test_a_cancelled_job_is_no_success(node):
    make_deaf(node, "deaf0", "deaf1", "deaf2")
    with waiting(node, "stop", "--all", "--timeout", "600") as stop:
        wait_for(lambda: set(states(node).values()) == {"stopping"})
        [number] = [job["id"] for job in node.ok("GET", "/v1/jobs") if job["kind"] == "bulk"]
        node.terem("jobs", "cancel", str(number))
        node.terem("kill", *states(node))
        said, errors = stop.communicate(timeout=PATIENCE)
    assert stop.returncode == 1, (said, errors)
    assert "terem: cancelled: 0 of 3 were done, 3 were cancelled at work\n" in errors, errors


def test_cancelled_too_late(node):
    """Nothing was left out: it is done, as its command says."""
    make_deaf(node, "deaf0", "deaf1")
    with waiting(node, "stop", "--all", "--timeout", "600") as stop:
        wait_for(lambda: set(states(node).values()) == {"stopping"})
        [number] = [job["id"] for job in node.ok("GET", "/v1/jobs") if job["kind"] == "bulk"]
        node.terem("jobs", "cancel", str(number))
        said = "cancelling: 0 of 2 done, 2 at work: deaf0, deaf1"
        assert said in node.terem("jobs", "list").stdout, node.terem("jobs", "list")
        for name in ("deaf0", "deaf1"):
            os.kill(node.show(name)["pid"], 9)
        said, errors = stop.communicate(timeout=PATIENCE)
    assert stop.returncode == 0 and errors == "", (said, errors)
    assert sorted(said.splitlines()) == ["deaf0: stopped", "deaf1: stopped"]
    assert node.ok("GET", f"/v1/jobs/{number}")["state"] == "done"


def test_who_waits_hears_of_the_job_that_goes_on(node):
    make_deaf(node, "deaf0", "deaf1")
    with waiting(node, "stop", "--all", "--timeout", "600") as stop:
        wait_for(lambda: set(states(node).values()) == {"stopping"})
        [number] = [job["id"] for job in node.ok("GET", "/v1/jobs") if job["kind"] == "bulk"]
        node.kill()
        said, errors = stop.communicate(timeout=PATIENCE)
    assert stop.returncode == 1 and said == "", (said, errors)
    assert errors == f"terem: teremd went away; job {number} goes on when it is there again, and terem jobs wait " \
                     f"{number} waits for it\n"
    node.start()
    for name in ("deaf0", "deaf1"):
        os.kill(node.show(name)["pid"], 9)
    done = node.terem("jobs", "wait", str(number))
    assert sorted(done.stdout.splitlines()) == ["deaf0: stopped", "deaf1: stopped"]


def test_waiting_again(node):
    """The number that --no-wait prints is waited for as the command that began it would: words and exit status."""
    make_deaf(node, "deaf0", "deaf1", "deaf2")
    number = node.terem("stop", "deaf0", "deaf1", "--timeout", "600", "--no-wait").stdout.strip()
    wait_for(lambda: [node.state(name) for name in ("deaf0", "deaf1")] == ["stopping"] * 2)
    with waiting(node, "jobs", "wait", number) as again:
        os.kill(node.show("deaf0")["pid"], 9)
        node.wait_state("deaf0", "stopped")
        node.terem("kill", "deaf1")
        said, errors = again.communicate(timeout=PATIENCE)
    assert again.returncode == 1 and said == "deaf0: stopped\n", (said, errors)
    assert "terem: 1 of 2 were cancelled" in errors, errors
    done = node.terem("jobs", "wait", number, check=False)  # also when it is over
    assert done.returncode == 1 and done.stdout == "deaf0: stopped\n" and "terem: deaf1: cancelled" in done.stderr, done
    assert node.terem("jobs", "wait", number, "--json", check=False).returncode == 1
    number = str(json.loads(node.terem("stop", "deaf2", "--timeout", "600", "--no-wait", "--json").stdout)[0]["id"])
    wait_for(lambda: node.state("deaf2") == "stopping")
    with waiting(node, "jobs", "wait", number) as again:
        os.kill(node.show("deaf2")["pid"], 9)
        said, errors = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0 and said == "deaf2: stopped\n", (said, errors)
    assert node.json("jobs", "wait", number)["state"] == "done"
    done = node.terem("jobs", "wait", "1000000", check=False)
    assert done.returncode == 1 and "there is no job 1000000" in done.stderr, done


def test_waiting_again_for_what_fails(node):
    node.ve("none", start=False, kind="app", command=["/none"])
    first = node.terem("start", "none", check=False)
    number = node.terem("start", "none", "--no-wait").stdout.strip()
    again = node.terem("jobs", "wait", number, check=False)
    assert again.returncode == first.returncode == 1
    assert again.stderr.splitlines()[-1] == first.stderr.splitlines()[-1] and "/none" in again.stderr, again


def test_stop_behind_starts(node, many):
    """Those that are on their way up come down again."""
    node.term()
    node.setting("workers", 1)
    node.start()
    for _ in range(3):
        start = node.ok("POST", "/v1/bulk", {"verb": "start", "all": True})
        wait_for(lambda: "starting" in states(node).values() or not node.ok("GET", "/v1/jobs"))
        job = bulk(node, "stop", all=True)
        assert job["state"] == "done", job
        node.ok("GET", f"/v1/jobs/{start['id']}?wait=true")
        assert set(states(node).values()) == {"stopped"}
        start = node.ok("GET", f"/v1/jobs/{start['id']}")
        assert counts(start)[1] == 0, start
        for item in start["result"]["items"]:
            assert item["error"] is None or item["error"]["message"] == \
                f"{item['ve']}: not started: it was to be stopped meanwhile", item
    # One by itself, and a kill that comes before both.
    begun = node.ok("POST", "/v1/ves/v00/start")
    node.job("POST", "/v1/ves/v00/stop")
    assert node.state("v00") == "stopped" and node.ok("GET", f"/v1/jobs/{begun['id']}")["ended"]
    for verb in ("start", "stop", "kill"):
        node.ok("POST", f"/v1/ves/v00/{verb}")
    wait_for(lambda: not node.ok("GET", "/v1/jobs"))
    assert node.state("v00") == "stopped"


def test_stop_behind_restarts(node):
    """What is on its way down to come up again comes down for good, all of them and one by itself."""
    for name in ("slow0", "slow1"):
        node.trapping(name, "trap 'sleep 2; exit 0' TERM")
    def restart():
        node.ok("POST", "/v1/bulk", {"verb": "restart", "all": True})
        wait_for(lambda: "stopping" in states(node).values() or not node.ok("GET", "/v1/jobs"))
    restart()
    assert counts(bulk(node, "stop", all=True)) == (2, 0, 0)
    wait_for(lambda: not node.ok("GET", "/v1/jobs"))
    assert states(node) == {"slow0": "stopped", "slow1": "stopped"}
    bulk(node, "start", all=True)
    restart()
    node.job("POST", "/v1/ves/slow0/stop")
    wait_for(lambda: not node.ok("GET", "/v1/jobs"))
    assert states(node) == {"slow0": "stopped", "slow1": "running"}
