# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands, terminals, consoles and files, in and out of a VE."""
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import tarfile
import termios
import time
import fcntl

import pytest

from node import ENV, PATIENCE, wait_for


@pytest.fixture(scope="module")
def ve(shared):
    shared.ve("box", params={"processes": "200"})
    return shared


class Terminal:
    """The command line on a pty of ours."""

    def __init__(self, node, *args, rows=30, columns=100):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen([node.cli, "--root", node.root, *args], stdin=slave,
                                        stdout=slave, stderr=slave, start_new_session=True,
                                        env={**ENV, "TERM": "xterm"},
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.seen = b""

    def type(self, data):
        os.write(self.master, data)

    def until(self, pattern):
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, self.seen):
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} did not come: {self.seen!r}"
            try:
                data = os.read(self.master, 4096)
            except OSError:
                data = b""
            assert data, f"the terminal ended before {pattern!r}: {self.seen!r}"
            self.seen += data
        found = re.search(pattern, self.seen)
        self.seen = self.seen[found.end():]
        return found

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self):
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.master, 4096)
                except OSError:
                    pass
        return self.process.wait(1)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


def test_status_and_streams(ve):
    done = ve.terem("exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 42", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (42, "out\n", "err\n")


def test_stdin_reaches_its_end(ve):
    data = os.urandom(300000)
    done = ve.terem("exec", "box", "--", "cat", input=data, text=False)
    assert done.stdout == data


def test_killed_by_a_signal(ve):
    assert ve.terem("exec", "box", "--", "sh", "-c", "kill -9 $$", check=False).returncode == 137
    # Of this one terem dies, too, so that a shell ends its loop.
    assert ve.terem("exec", "box", "--", "sh", "-c", "kill -INT $$", check=False).returncode == -signal.SIGINT
    result = ve.run("box", "/bin/sh", "-c", "kill -TERM $$", check=False)
    assert result["signal"] == "TERM"


@pytest.mark.parametrize("first,second", [(signal.SIGINT, signal.SIGINT),
                                          (signal.SIGINT, signal.SIGTERM),
                                          (signal.SIGTERM, signal.SIGTERM)])
def test_a_second_signal_ends_the_client(ve, first, second):
    """The first goes to the command; one that does not care is left by the second."""
    with subprocess.Popen([ve.cli, "--root", ve.root, "exec", "box", "--", "sh", "-c",
                           "trap 'echo heard' INT TERM; echo ready; while :; do sleep 1 & wait; done"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          # A shell has it ignored by what it runs in the background, tests too.
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as client:
        try:
            assert client.stdout.readline() == "ready\n"
            client.send_signal(first)
            assert client.stdout.readline() == "heard\n"
            client.send_signal(second)
            assert client.wait(PATIENCE) == (-second if second == signal.SIGINT else 128 + second)
        finally:
            client.kill()


def test_a_command_that_is_not_there(ve):
    done = ve.terem("exec", "box", "--", "nothing-here", check=False)
    assert done.returncode == 127 and "nothing-here" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_user_or_directory_that_is_not_there(ve):
    for option, value in (("-u", "nosuch"), ("-w", "/nodir")):
        done = ve.terem("exec", option, value, "box", "--", "true", check=False)
        assert done.returncode == 125 and value in done.stderr


def test_user_env_and_workdir(ve):
    result = ve.run("box", "/bin/sh", "-c", "id -u; pwd; echo $COLOUR", user="1234:1235",
                    workdir="/tmp", env={"COLOUR": "green"})
    assert result["stdout"].split() == ["1234", "/tmp", "green"]


def test_nothing_of_the_host_comes_along(ve):
    environment = ve.terem("exec", "box", "--", "env", env={"SECRET_OF_HOST": "1"}).stdout
    assert "SECRET_OF_HOST" not in environment and "TEREM" not in environment.upper().replace(
        "CONTAINER=TEREM", "")
    fds = ve.sh("box", "ls /proc/self/fd").split()
    assert set(fds) <= {"0", "1", "2", "3"}, fds  # 3: ls reads its directory


def test_exec_sees_the_ves_own_kernel_objects(ve):
    pid = ve.show("box")["pid"]
    for kind in ("pid", "net", "ipc", "uts", "cgroup", "user", "mnt", "time"):
        inside = ve.sh("box", f"readlink /proc/self/ns/{kind}").strip()
        assert inside == os.readlink(f"/proc/{pid}/ns/{kind}"), kind
        assert inside != os.readlink(f"/proc/self/ns/{kind}"), kind


def test_exec_is_under_the_ves_limits(node):
    node.ve("tight", params={"processes": "12"})
    out = node.run("tight", "/bin/sh", "-c", "for i in $(seq 40); do sleep 5 & done; wait",
                   check=False)
    assert "fork: Resource temporarily unavailable" in out["stderr"], out


def test_exec_meets_a_pause(node):
    """One that is frozen from outside while the command begins is not said to have frozen itself."""
    number = node.ve("web1")["id"]
    [top] = [path for path in node.cgroups() if path.endswith(f"/ve-{number}") and
             os.path.exists(os.path.join(path, "cgroup.freeze"))]
    with open(os.path.join(top, "cgroup.freeze"), "w", encoding="ascii") as file:
        file.write("1")
    answer = node.api("POST", "/v1/ves/web1/exec", {"command": ["/bin/true"]})
    assert answer.error == "state" and "paused" in answer.json["error"]["message"], answer
    with open(os.path.join(top, "cgroup.freeze"), "w", encoding="ascii") as file:
        file.write("0")
    node.run("web1", "/bin/true")


def test_output_is_cut_at_a_bound(ve):
    result = ve.run("box", "/bin/sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' a")
    assert result["truncated"] is True and len(result["stdout"]) == 1 << 20


def test_bytes_that_are_not_text(ve):
    result = ve.run("box", "/bin/sh", "-c", r"printf 'a\377b\000c'")
    assert result["stdout"].startswith("a�b")


def test_enter_is_a_real_terminal(ve):
    def sleeps():
        return "sleep 1000" in ve.sh("box", "ps")

    terminal = Terminal(ve, "enter", "box", rows=33, columns=99)
    try:
        terminal.until(rb"[#$] ")
        terminal.type(b"stty size; tty; echo mark-$((40+2))\n")
        terminal.until(rb"33 99")
        terminal.until(rb"/dev/(pts/\d+|console)")
        terminal.until(rb"mark-42")
        terminal.resize(20, 70)
        terminal.type(b"until [ \"$(stty size)\" = '20 70' ]; do sleep 0.1; done; echo seen-$((40+2))\n")
        terminal.until(rb"seen-42")
        # Job control: ^C ends the foreground process and leaves the shell.
        terminal.type(b"echo first-$((1+1)); sleep 1000\n")
        terminal.until(rb"first-2")
        wait_for(sleeps)
        terminal.type(b"\x03")
        terminal.type(b"echo again-$((1+1))\n")
        terminal.until(rb"again-2")
        terminal.type(b"echo second-$((1+1)); sleep 1000\n")
        terminal.until(rb"second-2")
        wait_for(sleeps)
        terminal.type(b"\x1a")
        terminal.until(rb"(?i)stopped")
        # busybox asks once: "You have stopped jobs."
        terminal.type(b"kill -9 %1; exit 5\nexit 5\n")
        assert terminal.wait() == 5
    finally:
        terminal.close()


def test_console_log_and_bounds(node):
    node.ve("talk", kind="app", command=["/bin/sh", "-c",
                                         "echo first; i=0; while [ $i -lt 40 ]; do i=$((i+1)); "
                                         "head -c 100000 /dev/zero | tr '\\0' x; echo; done; "
                                         "echo last; sleep 1000"])
    wait_for(lambda: "last" in node.api("GET", "/v1/ves/talk/logs?lines=2").body.decode("utf-8", "replace"))
    size = sum(os.path.getsize(os.path.join(node.root, "lib/logs", name))
               for name in os.listdir(os.path.join(node.root, "lib/logs")))
    assert size <= (2 << 20) + 65536
    assert node.terem("logs", "talk").stdout.rstrip().endswith("last")


def test_push_and_pull_a_file(ve, tmp_path):
    source, back = tmp_path / "in", tmp_path / "out"
    source.write_bytes(os.urandom(200000))
    ve.terem("push", "box", str(source), "/root/data")
    assert ve.sh("box", "stat -c '%u %g %a %s' /root/data").split() == ["0", "0", "644", "200000"]
    ve.terem("pull", "box", "/root/data", str(back))
    assert back.read_bytes() == source.read_bytes()


def test_files_over_the_api(ve):
    assert ve.api("PUT", "/v1/ves/box/files?path=/etc/motd&mode=0600&uid=7&gid=8",
                  b"hello\n").status < 300
    assert ve.sh("box", "stat -c '%u %g %a' /etc/motd; cat /etc/motd").split() == \
        ["7", "8", "600", "hello"]
    assert ve.api("GET", "/v1/ves/box/files?path=/etc/motd").body == b"hello\n"
    assert ve.api("GET", "/v1/ves/box/files?path=/nowhere").error == "not-found"


def test_directory_goes_in_and_out_as_an_archive(ve):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, text in (("one", b"1"), ("deep/two", b"22")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    ve.sh("box", "mkdir -p /srv/tree")
    assert ve.api("PUT", "/v1/ves/box/files?path=/srv/tree", data.getvalue(),
                  {"Content-Type": "application/x-tar"}).status < 300
    assert ve.sh("box", "cat /srv/tree/deep/two") == "22"
    answer = ve.api("GET", "/v1/ves/box/files?path=/srv/tree")
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        names = {member.name.strip("./") for member in tar}
    assert {"one", "deep/two"} <= names


def test_files_of_a_stopped_ve(node):
    node.ve("off", start=False)
    assert node.api("PUT", "/v1/ves/off/files?path=/root/x", b"early").status < 300
    node.job("POST", "/v1/ves/off/start")
    assert node.sh("off", "cat /root/x") == "early"


def test_lxcfs_shows_the_ves_own_limits(node):
    """/proc/meminfo is the VE's; when lxcfs dies it is put back into running VEs."""
    node.ve("seen", params={"memory.limit": "64M"})
    checks = {c["name"]: c for c in node.ok("GET", "/v1/doctor")["checks"]}
    lxcfs = [c for n, c in checks.items() if "lxcfs" in n]
    assert lxcfs and lxcfs[0]["ok"], "lxcfs is in tools/packages/run.txt"

    def total():
        text = node.run("seen", "/bin/cat", "/proc/meminfo", check=False)["stdout"]
        found = re.search(r"MemTotal:\s+(\d+)", text)
        return int(found[1]) if found else None

    assert total() == 65536
    victims = [pid for pid, command in node.processes() if "lxcfs" in command.split(" ")[0]]
    assert victims
    os.kill(victims[0], 9)
    wait_for(lambda: total() == 65536, lambda: "lxcfs did not come back into the running VE")
