# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: exit status, one sentence, --json, and what is generated from its tables."""
import json
import os
import pty
import re
import select
import subprocess

import pytest

from events import Events
from node import ENV


def test_list_and_show(shared):
    if shared.api("GET", "/v1/ves/web1").status == 404:
        shared.ve("web1", labels={"tier": "web"})
    assert [ve["name"] for ve in shared.json("list")] == ["web1"]
    shown = shared.json("show", "web1")
    shown = shown[0] if isinstance(shown, list) else shown
    assert shown["state"] == "running"
    text = shared.terem("list").stdout
    assert "web1" in text and "running" in text and "\x1b" not in text


def test_refusals_name_the_next_step(node):
    node.ve("one", start=False)
    node.ve("two", start=False)
    for words, says in (
            (("set", "one", "--name", "two"), "one: there is a VE named two already; choose another name"),
            (("counters", "one"), "one: it is stopped: nothing is counted until it is started"),
            (("repair", "one", "--done"), "not in repair but stopped; terem repair one begins it")):
        refused = node.terem(*words, check=False)
        assert refused.returncode == 1 and says in refused.stderr, refused
    ended = str(node.job("POST", "/v1/ves/one/start")["id"])
    refused = node.terem("jobs", "cancel", ended, check=False)
    assert refused.stderr == f"terem: job {ended} has ended already; terem jobs show {ended} tells how\n", refused


def test_a_template_that_cannot_be_is_refused_before_it_begins(shared):
    for words, status, says in (
            (("ubuntu",), 1, 'there is no base system "ubuntu"; there are busybox, debian-12 and debian-13'),
            (("debian12", "--name", "x"), 1, 'there is no base system "debian12"; did you mean debian-12?'),
            (("busybox", "--name", "x", "-i", "nginx"), 2, "busybox has no packages to include; build debian-12 or debian-13")):
        refused = shared.terem("template", "build", *words, check=False)
        assert (refused.returncode, refused.stdout, refused.stderr) == (status, "", f"terem: {says}\n"), refused


def test_list_by_state(node):
    node.ve("up", labels={"tier": "web"})
    node.ve("down", start=False, labels={"tier": "web"})
    node.ve("other", start=False)
    for state, names in (("running", ["up"]), ("stopped", ["down", "other"]), ("paused", [])):
        assert [ve["name"] for ve in node.json("list", "--state", state)] == names
        assert node.terem("list", "-q", "--state", state).stdout.split() == names
        lines = node.terem("list", "--state", state, "--columns", "name,id").stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["NAME", *names]
    assert node.terem("list", "-q", "--state", "stopped", "--label", "tier=web").stdout == "down\n"
    for wrong, says in (("runing", "did you mean running?"), ("up", "choose running, stopped, ")):
        refused = node.terem("list", "--state", wrong, check=False)
        assert refused.returncode == 2 and f"there is no state \"{wrong}\"; {says}" in refused.stderr, refused
    # What may be asked for is what the API tells.
    words = node.terem("list", "--state", "up", check=False).stderr.split("choose ")[1]
    state = node.api("GET", "/v1/openapi.json").json["components"]["schemas"]["Ve"]["properties"]["state"]
    assert sorted(re.findall("[a-z]+", words.replace(" or ", " "))) == sorted(state["enum"])


def test_list_counts_as_people_do(node):
    names = ["a", "b2", "b10", "b100", "ba"]
    for name in reversed(names):
        node.ve(name, start=False)
    assert node.terem("list", "-q").stdout.split() == names
    lines = node.terem("list", "--columns", "state").stdout.splitlines()
    assert len(lines) == 1 + len(names)


def test_json_of_one_and_of_many(node):
    """As terem(1) says what a script may rely on."""
    for name in "a", "b":
        node.ve(name)
    (one,) = node.json("stop", "--timeout", "1", "a")
    assert one["kind"] == "stop" and one["subject"] == "a" and one["state"] == "done"
    assert node.json("snapshot", "create", "a")["kind"] == "snapshot"
    assert node.json("set", "a", "processes=99")["name"] == "a"
    assert json.loads(node.terem("exec", "--json", "b", "--", "true").stdout)["exit"] == 0
    for words in ["start", "--all"], ["snapshot", "create", "--all"], ["set", "--all", "processes=98"], \
            ["set", "a", "b", "processes=97"], ["exec", "--all", "--", "true"]:
        many = json.loads(node.terem(words[0], "--json", *words[1:]).stdout)
        assert {"total", "done", "failed", "cancelled", "items"} <= set(many["result"]), words
        assert {"ve", "state", "error"} <= set(many["result"]["items"][0]), words


def test_create_start_exec_destroy_by_commands(shared):
    shared.template()
    shared.terem("create", "cli1", "--template", "busybox", "--set", "memory.limit=64M",
                 "--label", "a=b", "--start")
    assert shared.terem("exec", "cli1", "--", "hostname").stdout == "cli1\n"
    shared.terem("set", "cli1", "processes=100", "memory.limit=80M")
    assert shared.show("cli1")["params"] == {"memory.limit": "80M", "processes": "100"}
    shared.terem("pause", "cli1")
    shared.terem("resume", "cli1")
    shared.terem("restart", "cli1")
    shared.terem("stop", "cli1")
    shared.terem("destroy", "cli1")
    assert shared.api("GET", "/v1/ves/cli1").status == 404


@pytest.mark.parametrize("args,status,words", [
    (["frobnicate"], 2, "frobnicate"),
    (["strt", "x"], 2, "start"),
    (["start"], 2, ""),
    (["start", "--colour"], 2, "colour"),
    (["create", "Web1"], 2, "Web1"),
    (["create", "x", "--set", "memory.limt=1G"], None, "memory.limit"),
    (["create", "x", "--set", "memory.limit=banana"], 2, "banana"),
    (["show", "none-such"], 1, "none-such"),
    (["start", "none-such"], 1, "none-such"),
    (["exec", "none-such", "--", "true"], None, "none-such"),
    (["exec", "web1", "--label", "tier=web", "--", "true"], 125, "a name, or --all, or --label: not more than one"),
    (["exec", "--label", "tier=web", "true"], 125, "behind --: terem exec --label K=V -- true"),
    (["logs", "none-such"], 1, "none-such"),
    (["set", "web1", "memory.limit"], 2, "memory.limit needs a value"),
    (["set", "web1", "memory.limit", "64M"], 2, "one word: write memory.limit=64M"),
    (["set", "web1", "processes", "64"], 2, "one word: write processes=64"),
    (["set", "memory.limit=64M", "web1"], 2, "the VE comes first: terem set web1 memory.limit=64M"),
    (["set", "--all", "memory.limit", "64M"], 2, "one word: write memory.limit=64M"),
    (["set", "--all", "memory.limit", "=", "64M"], 2, "one word: write memory.limit=64M"),
    (["set", "--select", "a=b", "processes", "9"], 2, "one word: write processes=9"),
    (["set", "--all", "web1", "memory.limit=64M"], 2, "give names, or --all"),
    (["set", "web1", "autostart=on"], 2, "autostart is no parameter; use --autostart on"),
    (["push", "/none-such", "web1", "/"], 2, "VE: \"/none-such\" is not a usable name"),
    (["params", "no.such"], None, "no.such"),
    (["jobs", "show", "4711"], 1, "there is no job 4711; terem jobs list --all shows them"),
    (["jobs", "cancel", "4711"], 1, "terem jobs list --all"),
    (["migrate"], 2, "does not have migrate yet; terem help lists what it has"),
    (["help", "migrate"], 2, "does not have migrate yet; terem help lists what it has"),
])
def test_mistakes(shared, args, status, words):
    done = shared.terem(*args, check=False)
    assert done.returncode != 0 and (status is None or done.returncode == status), done
    assert done.stdout == "" and words in done.stderr
    lines = done.stderr.strip().splitlines()
    assert 1 <= len(lines) <= 2, "errors are one sentence: " + done.stderr
    assert "\x1b" not in done.stderr


def test_json_error(shared):
    done = shared.terem("show", "none-such", "--json", check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("terem: none-such: there is no such VE; "), done.stderr


def test_no_daemon(build, tmp_path):
    cli = os.path.join(build, "src/programs/terem/terem")
    done = subprocess.run([cli, "--root", "/tmp/terem-none", "list"], env=ENV, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 1 and "teremd" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not os.path.exists("/tmp/terem-none")


def test_no_colour_when_not_wanted(shared):
    """On a terminal there may be colour; with NO_COLOR never."""
    shared.template()
    def on_a_terminal(**env):
        master, slave = pty.openpty()
        child = subprocess.Popen([shared.cli, "--root", shared.root, "list"], stdin=slave,
                                 stdout=slave, stderr=slave, env={**ENV, "TERM": "xterm", **env})
        os.close(slave)
        data = b""
        try:
            while part := os.read(master, 4096):
                data += part
        except OSError:
            pass
        child.wait()
        os.close(master)
        return data
    assert b"\x1b[3" not in on_a_terminal(NO_COLOR="1")


@pytest.mark.parametrize("command", [
    "doctor", "list", "jobs", "params", "template list"])
def test_json_everywhere(shared, command):
    json.loads(shared.terem(*command.split(), "--json").stdout)


def test_help_of_every_command(shared):
    text = shared.terem("help").stdout
    names = re.findall(r"^  +([a-z]+(?: [a-z]+)?)  ", text, re.M)
    for promised in ("create", "start", "stop", "destroy", "list", "show", "exec", "enter", "console",
                     "logs", "set", "params", "doctor", "push", "pull", "events", "jobs"):
        assert re.search(rf"\b{promised}\b", text), promised
    for name in names:
        done = shared.terem("help", *name.split(), check=False)
        assert done.returncode == 0, (name, done.stderr)


def test_events_and_jobs(shared):
    if shared.api("GET", "/v1/ves/ev1").status == 404:
        shared.ve("ev1")
    with Events(shared) as events:
        events.begin("ev1")
        assert {(e["type"], e["ve"]) for e in events.seen} == {("ve.updated", "ev1")}


def test_events_in_words(shared):
    """Of one VE alone, and of a job what it comes to and not each step."""
    for name in ("ev1", "ev2"):
        if shared.api("GET", f"/v1/ves/{name}").status == 404:
            shared.ve(name)
    child = subprocess.Popen([shared.cli, "--root", shared.root, "events", "--ve", "ev1"], env=ENV,
                             stdout=subprocess.PIPE)
    try:
        for i in range(200):
            shared.ok("PATCH", "/v1/ves/ev2", {"labels": {"n": str(i)}})
            shared.ok("PATCH", "/v1/ves/ev1", {"labels": {"n": str(i)}})
            if select.select([child.stdout], [], [], 0.1)[0]:
                break
        shared.terem("restart", "ev1")
        lines = []
        while not lines or " restart done" not in lines[-1]:
            lines.append(child.stdout.readline().decode())
            assert "ev1: " in lines[-1]
        running = [line for line in lines if " restart running" in line]
        assert len(running) <= 1, lines
        assert lines[-1].endswith(" restart done\n"), "its last step is not what came of it"
        assert any("ev1: starting → running" in line for line in lines)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_quiet_names_alone(shared):
    rows = shared.ok("GET", "/v1/params")
    every = shared.terem("params", "-q").stdout.split()
    assert every == [row["key"] for row in rows] and "memory.limit" in every
    assert shared.terem("node", "show", "-q").stdout.strip() == shared.api("GET", "/v1").json["name"]
    if shared.api("GET", "/v1/ves/cnt").status == 404:
        shared.ve("cnt", params={"processes": "50"})
    counted = shared.terem("counters", "-q", "cnt").stdout.split()
    assert "processes" in counted and set(counted) <= set(every)


def test_groups_of_parameters(shared):
    keys = shared.terem("params", "cpu", "-q").stdout.split()
    assert "cpu.limit" in keys and all(key.startswith("cpu.") for key in keys)
    assert [row["key"] for row in shared.json("params", "cpu")] == keys
    assert "memory." not in shared.terem("params", "cpu").stdout
    assert "there is no parameter" in shared.terem("params", "cpux", check=False).stderr


def test_numbers_are_short(node):
    node.ve("web1", start=False, params={"cpu.limit": "41.47"})
    assert '"limits":41.47,' in node.terem("node", "show", "--json").stdout.replace(" ", "")
    said = node.terem("squeeze", "web1", "10M", check=False)
    assert said.returncode == 2 and "10M is a size and no VE; use --to 10M" in said.stderr


def test_counters(shared):
    if shared.api("GET", "/v1/ves/cnt").status == 404:
        shared.ve("cnt", params={"processes": "50"})
    text = shared.terem("counters", "cnt").stdout
    assert "processes" in text and "50" in text and "FAILCNT" in text


def test_many_at_once(node):
    """--all and --label mean the VEs that the verb can change, and none is no failure."""
    node.ve("up", labels={"set": "a"})
    node.ve("down", start=False, labels={"set": "a"})
    done = node.terem("destroy", "--label", "set=b")
    assert "no VE has the label set=b" in done.stderr and done.stdout == ""
    done = node.terem("destroy", "--label", "set=a")
    assert done.stdout.endswith("up is not stopped; terem destroy --label set=a --force destroys it, too\n"), done
    assert [ve["name"] for ve in node.json("list")] == ["up"]
    done = node.terem("destroy", "--all", check=False)
    assert done.returncode == 1 and done.stdout == "" and done.stderr == \
        "terem: nothing was destroyed: up is not stopped; terem destroy --all --force destroys it, too\n", done
    done = node.terem("stop", "--all", "up", check=False)
    assert done.returncode == 2 and "not more than one" in done.stderr
    assert len(node.json("jobs", "list", "--all", "--limit", "2")) == 2
    node.terem("destroy", "--all", "--force")
    assert node.json("list") == [] and node.terem("destroy", "--all").stdout == "no VE to destroy\n"


def test_a_first_start_that_fails(node):
    node.template()
    done = node.terem("create", "x", "--start", "--", "/none", check=False)
    assert done.returncode == 1 and "created and stopped: terem start x" in done.stderr
    assert "terem repair x opens its files in a rescue system" in done.stderr, done.stderr
    assert node.show("x")["state"] == "stopped"
    assert "did not start (x: cannot start: /none: not found" in node.terem("show", "x").stdout, node.terem("show", "x")
    done = node.terem("create", "x", check=False)
    assert done.returncode == 1 and "choose another name" in done.stderr


def test_a_restart_that_fails(node):
    node.ve("y", kind="app", command=["/bin/sleep", "1000"])
    node.terem("exec", "y", "--", "/bin/rm", "/bin/sleep")
    assert "not found" in node.terem("restart", "y", check=False).stderr
    refused = node.terem("exec", "y", "--", "/bin/true", check=False)
    assert "y: it is stopped; start it first" in refused.stderr, refused.stderr


def test_whoever_has_just_ended_has_deleted_nothing(node):
    """Its interfaces go with its namespaces, a moment before its end is known."""
    node.ve("x", start=False, kind="app", command=["/bin/false"])
    for _ in range(20):
        node.job("POST", "/v1/ves/x/start")
        assert "deleted_interfaces" not in node.show("x")
        node.wait_state("x", "stopped")


def test_how_it_ended(node):
    node.template()
    node.terem("create", "x", "--start", "--", "/bin/sh", "-c", "exit 4")
    node.wait_state("x", "stopped")
    assert "exited with 4 (ended by itself), 20" in node.terem("show", "x").stdout
    node.terem("destroy", "x")


def test_node_stop_leaves_nothing(node):
    node.ve("one")
    node.terem("node", "stop", "--force")
    assert not node.alive()


def test_every_list(node):
    """Each list of the table without a row, and then with one."""
    commands = [c for c in node.terem("_complete", "commands").stdout.splitlines() if c.split()[-1] == "list"]
    assert {"list", "pool list", "network pool list", "network address list", "snapshot list"} <= set(commands)

    def print_all(rows):
        for command in commands:
            more = {"snapshot list": ["web1"], "jobs list": ["--all"]}.get(command, [])
            if command == "snapshot list" and not rows:
                continue
            assert rows <= len(json.loads(node.terem(*command.split(), *more, "--json").stdout)), command
            lines = node.terem(*command.split(), *more).stdout.splitlines()
            assert len(lines) > rows and lines[0].isupper(), (command, lines)
            assert len(node.terem(*command.split(), *more, "-q").stdout.splitlines()) >= rows, command

    print_all(0)
    node.ve("web1", start=False)
    node.terem("snapshot", "create", "web1", "s1")
    node.terem("profile", "create", "own", "memory.limit=64M")
    node.terem("network", "pool", "create", "front", "198.51.100.0/28")
    node.terem("network", "address", "add", "web1")
    node.terem("network", "private", "create", "back", "--range", "198.18.77.0/24", "--range6", "none")
    print_all(1)
