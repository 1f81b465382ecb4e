# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line on a terminal: it is given back as it was, and a VE cannot act on it."""
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time

import pytest

from node import ENV, PATIENCE, wait_for


def own_terminal():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for sig in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):  # tests may run under nohup
        signal.signal(sig, signal.SIG_DFL)


class Screen:
    """A pty with `terem` as its foreground process, or with a bash that runs it as "$@"."""

    def __init__(self, node, *args, rows=24, columns=80, shell=None, **env):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        within = ["bash", "-c", shell, "bash"] if shell else []
        self.process = subprocess.Popen([*within, node.cli, "--root", node.root, *args], stdin=self.slave,
                                        stdout=self.slave, stderr=self.slave,
                                        start_new_session=True, env={**ENV, "TERM": "xterm", **env},
                                        preexec_fn=own_terminal)
        self.seen = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.slave)
        os.close(self.master)

    def read(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            self.seen += os.read(self.master, 65536)

    def until(self, pattern):
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, self.seen):
            assert time.monotonic() < deadline, f"{pattern!r} did not come: {self.seen!r}"
            self.read(0.1)

    def type(self, data):
        os.write(self.master, data)

    def end(self):
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end: {self.seen!r}"
            self.read(0.05)
        self.read(0)
        return self.process.returncode

    def as_before(self):
        return termios.tcgetattr(self.slave) == self.before


@pytest.fixture(scope="module")
def ve(shared):
    shared.ve("box")
    return shared


def test_exit_status_and_terminal(ve):
    with Screen(ve, "enter", "box") as screen:
        screen.until(rb"[#$] ")
        assert not screen.as_before()
        screen.type(b"exit 7\n")
        assert screen.end() == 7 and screen.as_before()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_gives_the_terminal_back(ve, sig):
    with Screen(ve, "enter", "box") as screen:
        screen.until(rb"[#$] ")
        screen.process.send_signal(sig)
        assert screen.end() == -sig and screen.as_before()


def test_a_terminal_outlives_teremd(node):
    node.ve("box")
    with Screen(node, "enter", "box") as screen:
        screen.until(rb"[#$] ")
        node.kill()
        screen.type(b"echo still-$((40+2))\n")
        screen.until(rb"still-42")
        node.start()
        screen.type(b"exit 9\n")
        assert screen.end() == 9 and screen.as_before()


def test_console_is_left_by_its_key(ve):
    with Screen(ve, "console", "box") as screen:
        screen.until(b"Ctrl-]")
        screen.type(b"\n")
        screen.type(b"\x1d")
        assert screen.end() == 0 and screen.as_before()
        assert b"You left the console of box" in screen.seen
    assert ve.show("box")["state"] == "running"


def test_a_console_tells_why_it_is_silent(ve):
    ve.terem("pause", "box")
    says = "box is paused: nothing comes from it until terem resume box lets it go on."
    try:
        with Screen(ve, "console", "box") as screen:
            screen.until(says.encode())
            screen.type(b"\x1d")
            assert screen.end() == 0
        with Screen(ve, "enter", "box") as screen:  # is refused, and that is told once
            assert screen.end() == 125 and screen.seen.count(b"paused") == 1, screen.seen
    finally:
        ve.terem("resume", "box")
    with Screen(ve, "console", "box") as screen:
        screen.until(b"Ctrl-]")
        screen.type(b"\x1d")
        assert screen.end() == 0 and b"paused" not in screen.seen


def shown(node, console):
    node.sh("box", "echo shown >/dev/console")
    return select.select([console.stdout], [], [], 0.2)[0]


def test_console_without_a_terminal_ends_when_asked(ve):
    """There is no command in the VE for which the signal could be meant."""
    console = subprocess.Popen([ve.cli, "--root", ve.root, "console", "box"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE)
    try:
        wait_for(lambda: shown(ve, console))
        console.send_signal(signal.SIGTERM)
        assert console.wait(PATIENCE) == -signal.SIGTERM
    finally:
        console.kill()
        console.wait()
        console.stdout.close()


def test_top_quits(ve):
    with Screen(ve, "top") as screen:
        screen.until(b"box")
        assert b"\x1b[?1049h" in screen.seen
        screen.type(b"m")
        screen.type(b"q")
        assert screen.end() == 0 and screen.as_before()
        assert screen.seen.rstrip().endswith(b"\x1b[?1049l")
        # Each line is addressed by itself, and only those that differ are sent.
        lines = re.sub(rb"\x1b\[\d+;1H", b"\n", screen.seen)
        for line in re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", lines).splitlines():
            assert len(line.decode()) <= 80, line
        assert screen.seen.count(b"NAME ") == 1


def test_top_filters_and_scrolls(ve):
    with Screen(ve, "top", "--sort", "name") as screen:
        screen.until(b"box")
        screen.type(b"/")
        screen.until(b"show names with: _")
        screen.type(b"nosuch\r")
        screen.until(b"0-0 of 0 with nosuch by name")
        screen.type(b"\x1b")
        screen.until(b"by name  q quit")
        screen.type(b"f\x1b[6~G")
        screen.until(b"by refused")
        screen.type(b"\x03")
        assert screen.end() == 0 and screen.as_before()


@pytest.mark.parametrize("columns", [80, 50])
def test_list_tells_the_disk_where_it_fits(ve, columns):
    with Screen(ve, "list", columns=columns) as screen:
        assert screen.end() == 0
        head = screen.seen.decode().splitlines()[0].split()
    assert ("DISK" in head) == (columns == 80) and head[-1] == "UPTIME"
    assert "DISK" in ve.terem("list").stdout.splitlines()[0]


@pytest.mark.parametrize("command,hint", [
    ("network pool list", "terem network pool create"), ("network address list", "terem network address add"),
    ("network ports", "terem publish"), ("jobs", "terem jobs list --all"), ("snapshot list box", "terem snapshot create"),
    ("usage --from 2001-01-01 --to 2001-01-02", "every 5 minutes")])
def test_an_empty_list_tells_what_makes_it_longer(ve, command, hint):
    with Screen(ve, *command.split()) as screen:
        assert screen.end() == 0
        lines = screen.seen.decode().splitlines()
    assert len(lines) == 1 and hint in lines[0] and len(lines[0]) <= 80
    assert ve.terem(*command.split(), "-q").stdout == "" or command.startswith("usage")


def test_a_long_name_gives_way(ve):
    """And no column does, nor a number; in a pipe it stands as it is."""
    name = "long-" * 11 + "name"
    ve.ok("POST", "/v1/ves", {"name": name, "template": "busybox"})
    try:
        for command in (("list",), ("network", "show")):
            with Screen(ve, *command, columns=80) as screen:
                assert screen.end() == 0
                lines = screen.seen.decode().splitlines()
            assert any(line.startswith("long-long-") and "…" in line for line in lines)
            assert not [line for line in lines if len(line) > 80 or line.endswith("…")]
            assert name in ve.terem(*command).stdout
            assert command != ("list",) or "DISK" in lines[0]
    finally:
        ve.terem("destroy", name)


def test_top_once(ve):
    for args in (("top",), ("top", "--once", "--filter", "box", "--sort", "memory")):
        lines = ve.terem(*args).stdout.splitlines()
        assert "run" in lines[0] and lines[1].startswith("NAME") and "\x1b" not in str(lines)
        assert any(line.startswith("box ") for line in lines[2:])
    assert ve.terem("top", "--filter", "nosuch").stdout.count("\n") == 2
    one = [u for u in ve.json("top") if u["name"] == "box"][0]
    assert one["cpu_percent"] >= 0 and one["net_in_rate"] >= 0 and "rising" in one
    for bad, says in ((("--sort", "disk"), "--sort takes cpu, memory"),
                      (("--interval", "0"), "--interval takes"), (("--label", "x"), "is not a label")):
        said = ve.terem("top", *bad, check=False)
        assert said.returncode == 2 and says in said.stderr


def test_logs_as_json(ve):
    """One object; what comes from now on, an object a line."""
    assert list(ve.json("logs", "box")) == ["text"]
    with subprocess.Popen([ve.cli, "--root", ve.root, "logs", "-f", "--json", "box"], stdout=subprocess.PIPE) as said:
        try:
            assert list(json.loads(said.stdout.readline())) == ["text"]
            ve.sh("box", r"printf 'as \033[2Jjson\n' >/dev/console")
            text = ""
            while "json\n" not in text:
                text += json.loads(said.stdout.readline())["text"]
            assert "as \\x1b[2Jjson" in text
        finally:
            said.terminate()


def test_logs_cannot_act_on_the_terminal(ve):
    ve.sh("box", r"printf '\033]0;owned\007\033[2J\033[31mred\033[0m\r\nlast\n' > /dev/console")
    wait_for(lambda: b"last" in ve.api("GET", "/v1/ves/box/logs").body)
    with Screen(ve, "logs", "box") as screen:
        assert screen.end() == 0
        screen.until(b"last")
        assert rb"\x1b]0;owned\x07\x1b[2J" in screen.seen and b"\x1b[31mred" in screen.seen
    with Screen(ve, "logs", "box", NO_COLOR="1") as screen:
        assert screen.end() == 0
        screen.until(b"last")
        assert b"\x1b" not in screen.seen and b"red" in screen.seen
    with Screen(ve, "logs", "--raw", "box") as screen:
        assert screen.end() == 0
        screen.until(b"\x1b\\[2J")


def test_destroy_asks(ve):
    ve.ve("gone", start=False)
    with Screen(ve, "destroy", "gone") as screen:
        screen.until(rb"\[y/N\]")
        screen.type(b"\n")
        assert screen.end() == 1
    assert ve.show("gone")["state"] == "stopped"
    with Screen(ve, "destroy", "gone") as screen:
        screen.until(rb"\[y/N\]")
        screen.type(b"y\n")
        assert screen.end() == 0
    assert ve.api("GET", "/v1/ves/gone").error == "not-found"


def test_deleting_all_snapshots_asks(ve):
    ve.terem("snapshot", "create", "box", "one")
    ve.terem("snapshot", "create", "box", "two")
    with Screen(ve, "snapshot", "delete", "box", "--all") as screen:
        screen.until(rb"Delete all 2 snapshots of box\? \[y/N\]")
        screen.type(b"\n")
        assert screen.end() == 1
    assert len(ve.ok("GET", "/v1/ves/box/snapshots")) == 2
    with Screen(ve, "snapshot", "delete", "box", "--all") as screen:
        screen.until(rb"\[y/N\]")
        screen.type(b"y\n")
        assert screen.end() == 0
    assert ve.ok("GET", "/v1/ves/box/snapshots") == []
    with Screen(ve, "snapshot", "delete", "box", "--all") as screen:  # nothing to ask for
        assert screen.end() == 0 and b"box has no snapshot" in screen.seen
    ve.terem("snapshot", "create", "box", "three")
    with Screen(ve, "snapshot", "delete", "box", "--all", "--yes") as screen:
        assert screen.end() == 0 and b"[y/N]" not in screen.seen
    assert ve.ok("GET", "/v1/ves/box/snapshots") == []


def test_node_stop_counts_what_runs(node):
    """Neither the stopped nor the broken are waited for."""
    for name, start in (("up", True), ("down", False), ("lost", False)):
        node.ve(name, start=start)
    node.api("PUT", "/v1/ves/lost/files?path=/root/x", "mine", {"Content-Type": "application/octet-stream"})
    tree = os.path.join(node.pool(), str(node.show("lost")["id"]))
    node.kill()
    shutil.rmtree(tree)
    node.start()
    assert node.state("lost") == "broken"
    with Screen(node, "node", "stop", "--within", "1m") as screen:
        assert screen.end() == 0
        assert b"waiting until 1 VE has stopped;" in screen.seen, screen.seen


def test_an_interrupt_leaves_the_job(node):
    node.trapping("slow", "trap '' TERM")
    again = 'for i in 1 2; do "$@"; echo then $?; done'
    with Screen(node, "stop", "--timeout", "1000", "slow", shell=again, columns=200) as screen:
        screen.until(b"slow: ")
        screen.type(b"\x03")
        assert screen.end() == -signal.SIGINT and screen.as_before()  # the loop has ended with it
        screen.until(rb"job (\d+) goes on; terem jobs wait \1 waits for it again, terem jobs cancel \1 ends it")
        assert b"then" not in screen.seen
    assert [job["kind"] for job in node.ok("GET", "/v1/jobs")] == ["stop"]
    node.job("POST", "/v1/ves/slow/kill")
    assert node.state("slow") == "stopped"


def test_progress_is_one_line(ve):
    with Screen(ve, "restart", "box") as screen:
        assert screen.end() == 0
        assert screen.seen.rstrip().endswith(b"box: restarted")
        assert screen.seen.count(b"\n") == 1


@pytest.mark.parametrize("command", ["doctor", "params", "jobs list --all"])
def test_reasons_are_wrapped(ve, command):
    if "jobs" in command:
        for _ in range(4):
            ve.terem("start", "box", "nobody", check=False)
    with Screen(ve, *command.split()) as screen:
        assert screen.end() == 0
        while select.select([screen.master], [], [], 0)[0]:
            screen.read(0)
        lines = re.sub(rb"\x1b\[[0-9;]*m", b"", screen.seen).decode().splitlines()
        assert len(lines) > 10 and max(map(len, lines)) <= 80, max(lines, key=len)
        if "jobs" in command:  # beside long names of others
            assert "cannot start: it is running already" in " ".join(" ".join(lines).split())
        else:
            assert "…" not in "".join(lines)


@pytest.mark.parametrize("columns", [80, 40, 300])
def test_density_fits(ve, columns):
    """Whole columns, and the names of those for which there is no room."""
    heads = ve.terem("density").stdout.splitlines()[0].split()
    with Screen(ve, "density", columns=columns) as screen:
        assert screen.end() == 0
        while select.select([screen.master], [], [], 0)[0]:
            screen.read(0)
        lines = screen.seen.decode().splitlines()
    shown = lines[0].split()
    assert shown[:3] == ["VE", "(KB)", "TOTAL"] and shown == heads[:len(shown)]
    assert max(map(len, lines)) <= columns and "…" not in "".join(lines)
    text = " ".join(lines)
    assert (columns == 300) == (shown == heads) == ("no room" not in text)
    if columns != 300:
        assert f"For {', '.join(heads[len(shown):])} there is no room here" in text


def test_errors_break_between_words(shared):
    said = shared.terem("template", "frobnicate", check=False).stderr
    assert said.count("\n") == 1
    with Screen(shared, "template", "frobnicate", columns=40) as screen:
        assert screen.end() == 2
        screen.until(rb"remove\r\n")
        lines = screen.seen.decode().splitlines()
    assert len(lines) > 2 and max(map(len, lines)) <= 40
    assert " ".join(line.strip() for line in lines) == said.strip()
