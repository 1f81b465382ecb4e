# SPDX-License-Identifier: GPL-2.0-or-later
"""VEs and clients that do not do their part: a stop, a kill and the disk must not depend on them."""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import pytest

from node import Node, wait_for

STUBBORN = """
#include <signal.h>
#include <unistd.h>
int main(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, 0);
    for (;;)
        pause();
}
"""


QUEUE = """
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void)
{
    static char block[65536];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int big = 8 << 20, door = socket(AF_INET, SOCK_STREAM, 0);
    long held = 0;
    setsockopt(door, SOL_SOCKET, SO_RCVBUF, &big, sizeof(big));
    if (bind(door, (void *)&a, len) || listen(door, 100) || getsockname(door, (void *)&a, &len))
        return 1;
    for (int i = 0; i < 60; i++) {
        int s = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(s, (void *)&a, len) || accept(door, 0, 0) < 0)
            return 2;
        fcntl(s, F_SETFL, O_NONBLOCK);
        for (int idle = 0; idle < 20;) {
            long n = write(s, block, sizeof(block));
            held += n > 0 ? n : 0;
            idle = n > 0 ? 0 : idle + 1;
            if (n <= 0)
                usleep(500);
        }
    }
    printf("%ld", held);
    return 0;
}
"""


def upgrade(node, name, command):
    """The socket of an exec whose output nobody reads."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(60)
    sock.connect(node.socket)
    body = json.dumps({"command": command})
    sock.sendall((f"POST /v1/ves/{name}/exec HTTP/1.1\r\nHost: terem\r\nConnection: Upgrade\r\n"
                  "Upgrade: terem-stream/1\r\nContent-Type: application/json\r\n"
                  f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
    assert sock.recv(12).startswith(b"HTTP/1.1 101")
    return sock


def test_a_client_that_does_not_read(node):
    """The command is reaped all the same: an unreaped process would keep the VE from ending."""
    node.ve("flood")
    with upgrade(node, "flood", ["yes"]):
        wait_for(lambda: "yes" in node.sh("flood", "ps"))
        node.job("POST", "/v1/ves/flood/kill")
        assert node.state("flood") == "stopped"


def frame(kind, data=b""):
    return struct.pack(">BI", kind, len(data)) + data


def test_input_that_comes_at_once_with_its_end(node):
    """All of it is in the relay's memory then, and nothing else wakes it to look there again."""
    node.ve("fed")
    for data in (b"one", b""), (b"one", b"two"), (b"x" * 60000, b"y" * 5000):
        with upgrade(node, "fed", ["/bin/sh", "-c", "echo ready; wc -c"]) as sock:
            said = b""
            while b"ready" not in said:
                said += sock.recv(4096)
            time.sleep(0.2)  # it knows by now all that it will be told
            sock.sendall(b"".join(frame(0, part) for part in data if part) + frame(0))
            while piece := sock.recv(4096):
                said += piece
        assert str(len(b"".join(data))).encode() + b"\n" in said
        assert said.endswith(frame(5, b"\0\0"))


def test_an_init_that_does_not_go(node, tmp_path):
    """SysV's way of powering off is a program of the VE's own: it may hang, the stop may not."""
    source, root = tmp_path / "s.c", tmp_path / "root"
    source.write_text(STUBBORN)
    for name in ("sbin", "bin", "etc", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    subprocess.run(["gcc", "-static", "-o", root / "sbin/init", source], check=True)
    (root / "sbin/poweroff").write_bytes((root / "sbin/init").read_bytes())
    os.chmod(root / "sbin/poweroff", 0o755)
    node.job("POST", "/v1/templates", {"name": "stubborn", "import": str(root)})
    assert node.ok("GET", "/v1/templates/stubborn")["init"] == "sysv"
    node.ve("ox", template="stubborn")
    node.job("POST", "/v1/ves/ox/stop", {"timeout": 1})
    last = node.show("ox")["last_exit"]
    assert node.state("ox") == "stopped" and last["how"] == "killed", last


def test_a_stop_right_after_a_start(node):
    """A signal that comes before an init listens is lost: the stop waits until it would not be."""
    node.ve("quick", start=False)
    for _ in range(5):
        node.job("POST", "/v1/ves/quick/start")
        node.job("POST", "/v1/ves/quick/stop")
        assert node.show("quick")["last_exit"]["reason"] == "asked to stop"


def fill_up(path):
    try:
        with open(path, "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
    except OSError:
        pass


@contextlib.contextmanager
def small(build):
    """A node whose registry and VEs lie on a disk that is soon full, and what fills it."""
    node = Node(build, root=tempfile.mkdtemp(prefix="terem-", dir="/tmp"))
    lib = os.path.join(node.root, "lib")
    os.mkdir(lib)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "terem", lib], check=True)
    try:
        node.start()
        yield node, os.path.join(lib, "filler")
    finally:
        left = node.close()
        subprocess.run(["umount", lib], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(node.root)
    assert [line for line in left if not line.startswith(("mount ", "teremd said"))] == []


def test_a_full_disk_does_not_keep_ves_from_stopping(build):
    with small(build) as (node, filler):
        node.ve("full")
        node.ve("other")
        fill_up(filler)
        node.job("POST", "/v1/ves/full/kill")
        assert node.state("full") == "stopped"
        node.job("POST", "/v1/ves/other/stop", {"timeout": 2})
        assert node.state("other") == "stopped"
        refused = node.api("POST", "/v1/ves/full/start?wait=true")
        assert refused.status == 507, refused
        assert "goes on without its record" in node.words(10000)
        os.unlink(filler)
        node.job("POST", "/v1/ves/full/start")
        node.kill()
        node.start()
        assert node.state("full") == "running"
        assert node.state("other") == "stopped"


EMPTY_LOG = """
import os, sqlite3, sys
registry = sqlite3.connect(sys.argv[1])
registry.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
os._exit(0)
"""


def start_full(node, filler):
    """A teremd that finds the log of the registry's changes as after a crash, empty, and no room for it to grow."""
    node.kill()
    subprocess.run([sys.executable, "-c", EMPTY_LOG, os.path.join(node.root, "lib/registry.db")], check=True)
    fill_up(filler)
    node.start()


def begin_deaf(node):
    """One that does not shut down when it is asked, asked by a job over many."""
    node.trapping("deaf", "trap : TERM")
    begun = node.ok("POST", "/v1/bulk", {"verb": "stop", "ves": ["deaf"], "options": {"timeout": 600}})
    node.wait_state("deaf", "stopping")
    return begun["id"]


def test_a_full_disk_does_not_keep_teremd_from_starting(build):
    """What was cut off is told and dealt with, and recorded when there is room."""
    with small(build) as (node, filler):
        pid = node.ve("web1")["pid"]
        begin_deaf(node)
        start_full(node, filler)
        assert "cannot record the ends of jobs that were cut off yet: " in node.words(10000)
        assert node.show("web1")["pid"] == pid and node.sh("web1", "echo on") == "on\n"
        [cut] = [job for job in node.ok("GET", "/v1/jobs?all=true") if job["kind"] == "stop"][-1:]
        assert cut["state"] == "failed" and cut["error"]["message"] == "teremd ended while it was at work", cut
        node.terem("kill", "deaf")
        os.unlink(filler)
        node.ve("later")
        assert node.ok("GET", f"/v1/jobs/{cut['id']}") == cut
        node.kill()
        node.start()
        assert node.ok("GET", f"/v1/jobs/{cut['id']}") == cut
        assert [node.state(name) for name in ("web1", "deaf", "later")] == ["running", "stopped", "running"]


def stop_worker(node, job):
    """Its worker stands still from now on; False: the job has ended before."""
    def state():
        return node.ok("GET", f"/v1/jobs/{job}")["state"]

    def words(pid):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
        return b""
    while state() in ("queued", "running"):
        with open(f"/proc/{node.daemon.pid}/task/{node.daemon.pid}/children", encoding="ascii") as file:
            for pid in file.read().split():
                if words(pid).startswith(b"terem-worker: rollback"):
                    os.kill(int(pid), signal.SIGSTOP)
                    return {state(), state()} == {"running"}  # what it had said before is heard by now
    return False


def test_a_rollback_that_was_cut_off_on_a_full_disk(build):
    """It is done again, though that cannot be recorded, and recorded when there is room."""
    with small(build) as (node, filler):
        os.mkdir(os.path.join(node.root, "roomy"))
        node.job("POST", "/v1/pools", {"name": "roomy", "driver": "dir", "path": os.path.join(node.root, "roomy")})
        ve = node.ve("web1", pool="roomy")
        node.sh("web1", "mkdir /root/many; for i in $(seq 3000); do echo $i >/root/many/$i; done; echo then >/root/x")
        node.job("POST", "/v1/ves/web1/snapshots", {"name": "then"})
        file = os.path.join(node.pool("roomy"), str(ve["id"]), "upper/root/x")

        def text():
            with open(file, encoding="ascii") as now:
                return now.read()
        node.job("POST", "/v1/ves/web1/kill")
        for _ in range(20):
            with open(file, "w", encoding="ascii") as now:
                now.write("now\n")
            if stop_worker(node, node.ok("POST", "/v1/ves/web1/rollback", {"snapshot": "then"})["id"]):
                break
        start_full(node, filler)
        wait_for(lambda: not node.ok("GET", "/v1/jobs"))
        assert "rollback goes on without its record" in node.words(10000) and text() == "then\n"
        os.unlink(filler)
        node.job("POST", "/v1/ves/web1/start")
        node.sh("web1", "echo later >/root/x")
        node.kill()
        node.start()
        assert node.sh("web1", "cat /root/x") == "later\n"


def test_a_job_over_many_that_ended_on_a_full_disk(build):
    """It has ended, though its end is recorded later: it does not go on at the next start."""
    with small(build) as (node, filler):
        job = begin_deaf(node)
        start_full(node, filler)
        node.terem("kill", "deaf")
        assert node.ok("GET", f"/v1/jobs/{job}?wait=true")["state"] == "done"
        assert "cannot record the end of bulk yet" in node.words(10000)
        os.unlink(filler)
        node.job("POST", "/v1/ves/deaf/start")
        node.kill()
        node.start()
        assert node.ok("GET", f"/v1/jobs/{job}")["state"] == "done"
        assert node.state("deaf") == "running"


def test_many_are_killed_on_a_full_disk(build):
    """As one is: their job goes on without its record, and those that follow are not taken for it."""
    with small(build) as (node, filler):
        for n in range(3):
            node.ve(f"web{n}")
        start_full(node, filler)
        assert node.api("POST", "/v1/bulk", {"verb": "start", "all": True}).status == 507
        said = node.terem("stop", "--all", "--fast", "--no-wait")
        assert said.stdout == "" and "begun, but not recorded" in said.stderr, said
        wait_for(lambda: {ve["state"] for ve in node.ok("GET", "/v1/ves")} == {"stopped"})
        assert "bulk goes on without its record" in node.words(10000)
        os.unlink(filler)
        node.job("POST", "/v1/bulk", {"verb": "start", "all": True})
        node.kill()
        node.start()
        assert {ve["state"] for ve in node.ok("GET", "/v1/ves")} == {"running"}


def test_sleep_on_a_full_disk(build):
    """Who cannot be put to sleep goes on, which is told once, and sleeps when there is room."""
    told = "it cannot be put to sleep yet"
    with small(build) as (node, filler):
        node.ve("idle", params={"idle.sleep": "1s"})
        start_full(node, filler)

        def refused():
            if node.state("idle") == "sleeping":  # it was quicker
                node.sh("idle", "true")
            return told in node.words(10000)
        wait_for(refused)
        time.sleep(3)
        assert node.words(100000).count(told) == 1
        os.unlink(filler)
        node.wait_state("idle", "sleeping")


def test_a_pull_is_no_larger_than_the_file(node):
    """Holes stay holes on the host's disk, and what has no end is cut."""
    node.ve("sparse")
    node.sh("sparse", "truncate -s 3G /hole; echo end >> /hole")
    answer = node.connection()
    answer.request("GET", "/v1/ves/sparse/files?path=/hole")
    head = answer.getresponse()
    assert head.status == 200 and int(head.getheader("Content-Length")) == 3 * 2 ** 30 + 4
    answer.close()
    assert node.api("GET", "/v1/ves/sparse/files?path=/proc/version").status == 200


@pytest.mark.parametrize("many", [False, True])
def test_a_restart_loop_is_stopped(node, many):
    """Between two tries by its restart policy a VE is stopped, but stop still has something to do."""
    node.ve("loop", kind="app", restart="always", command=["/bin/sh", "-c", "exit 3"])
    # Each wait is longer than the one before: one in which the stop comes before the next try.
    wait_for(lambda: (node.show("loop")["restart_at"] or 0) > (time.time() + 5) * 1000)
    assert node.state("loop") == "stopped"
    if many:
        node.terem("stop", "--all")
    else:
        node.job("POST", "/v1/ves/loop/stop")
    last = node.show("loop")
    assert last["restart_at"] is None
    time.sleep(2)
    assert node.show("loop")["last_exit"] == last["last_exit"]


def test_tcp_buffers_are_under_the_memory_limit(node, tmp_path):
    """What lies unread in TCP's queues is the VE's memory."""
    node.ve("queue", params={"memory.limit": "64M"})
    source = tmp_path / "q.c"
    source.write_text(QUEUE)
    subprocess.run(["gcc", "-static", "-o", tmp_path / "q", source], check=True)
    with open(tmp_path / "q", "rb") as program:
        node.api("PUT", "/v1/ves/queue/files?path=/q&mode=0755", program.read())
    held = int(node.run("queue", "/q")["stdout"])
    assert 0 < held < 2 * 64 * 2 ** 20, held


def test_lxcfs_comes_back_among_many_clients(node):
    """Its new descriptor has a high number then, and workers need it all the same."""
    node.ve("seen", params={"memory.limit": "64M"})
    idle = [socket.socket(socket.AF_UNIX) for _ in range(80)]
    try:
        for client in idle:
            client.connect(node.socket)
        node.ok("GET", "/v1")
        with open(os.path.join(node.root, "run/lxcfs.pid"), encoding="ascii") as file:
            os.kill(int(file.read()), 9)
        wait_for(lambda: "65536 kB" in node.sh("seen", "grep MemTotal /proc/meminfo", check=False))
        node.ve("later", params={"memory.limit": "32M"})
        assert "32768 kB" in node.sh("later", "grep MemTotal /proc/meminfo")
    finally:
        for client in idle:
            client.close()


def test_lxcfs_that_died_with_teremd(node):
    """The files of the one that the next teremd starts are put into the VEs that run."""
    node.ve("web1")
    node.kill()
    with open(os.path.join(node.root, "run/lxcfs.pid"), encoding="ascii") as file:
        os.kill(int(file.read()), signal.SIGKILL)
    node.start()
    wait_for(lambda: "MemTotal" in node.sh("web1", "cat /proc/meminfo", check=False))


def test_teremd_that_dies_before_lxcfs_serves_all(build, tmp_path):
    """The next one finds an lxcfs that serves, whose files nobody has got yet."""
    hold, program = (tmp_path / name for name in ("hold", "lxcfs"))
    program.write_text(f"#!/bin/sh\nwhile [ -e {hold} ]; do sleep 0.01; done\nexec lxcfs \"$@\"\n")
    program.chmod(0o755)
    with Node(build, lxcfs=str(program)) as node:
        node.ve("web1", params={"memory.limit": "64M"})
        hold.touch()
        with open(os.path.join(node.root, "run/lxcfs.pid"), encoding="ascii") as file:
            os.kill(int(file.read()), signal.SIGKILL)
        wait_for(lambda: "it was started, and has not mounted its files yet" in str(node.ok("GET", "/v1/doctor")))
        node.kill()
        hold.unlink()
        wait_for(lambda: os.path.exists(os.path.join(node.root, "run/lxcfs/proc/meminfo")))
        node.start()
        wait_for(lambda: "65536 kB" in node.sh("web1", "grep MemTotal /proc/meminfo", check=False))


def test_lxcfs_that_hangs_beside_a_new_teremd(node):
    """It is ended, and another one serves the VEs that run."""
    node.ve("web1", params={"memory.limit": "64M"})
    with open(os.path.join(node.root, "run/lxcfs.pid"), encoding="ascii") as file:
        pid = int(file.read())
    os.kill(pid, signal.SIGSTOP)
    try:
        node.kill()
        node.start()
        wait_for(lambda: "65536 kB" in node.sh("web1", "grep MemTotal /proc/meminfo", check=False))
        assert "lxcfs does not answer" in node.words()
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"))
    finally:
        if os.path.exists(f"/proc/{pid}"):
            os.kill(pid, signal.SIGKILL)


def test_ves_that_start_while_lxcfs_comes_back(build, tmp_path):
    """Some are born of workers that were forked without it, and run after the others got its files."""
    hold, program = (tmp_path / name for name in ("hold", "lxcfs"))
    program.write_text(f"#!/bin/sh\nwhile [ -e {hold} ]; do sleep 0.01; done\nexec lxcfs \"$@\"\n")
    program.chmod(0o755)
    names = [f"born{i}" for i in range(24)]
    with Node(build, lxcfs=str(program)) as node:
        for name in names:
            node.ve(name, params={"memory.limit": "64M"}, start=False)
        hold.touch()
        with open(os.path.join(node.root, "run/lxcfs.pid"), encoding="ascii") as file:
            os.kill(int(file.read()), signal.SIGKILL)
        wait_for(lambda: "lxcfs has died" in node.words(), node.words)
        begun = node.ok("POST", "/v1/bulk", {"verb": "start", "all": True})
        wait_for(lambda: any(ve["state"] == "running" for ve in node.ok("GET", "/v1/ves")))
        hold.unlink()
        assert node.ok("GET", f"/v1/jobs/{begun['id']}?wait=true")["state"] == "done"
        for name in names:
            wait_for(lambda name=name: "65536 kB" in node.sh(name, "grep MemTotal /proc/meminfo", check=False), lambda name=name: name)


def test_others_are_served_while_lxcfs_starts(build, tmp_path):
    """One that takes its time, and then one that always ends at once: both are told."""
    hold, fail, program = (tmp_path / name for name in ("hold", "fail", "lxcfs"))
    program.write_text(f"#!/bin/sh\nwhile [ -e {hold} ]; do sleep 0.1; done\ntest -e {fail} && exit 1\nexec lxcfs \"$@\"\n")
    program.chmod(0o755)
    with Node(build, lxcfs=str(program)) as node:
        def found():
            return {c["name"]: c["found"] for c in node.ok("GET", "/v1/doctor")["checks"]}["lxcfs"]

        def end():
            with open(os.path.join(node.root, "run/lxcfs.pid"), encoding="ascii") as file:
                os.kill(int(file.read()), signal.SIGKILL)
        node.ve("seen", params={"memory.limit": "64M"})
        assert found() == "running"
        hold.touch()
        end()
        wait_for(lambda: "it was started, and has not mounted its files yet" in found(), found)
        hold.unlink()
        wait_for(lambda: found() == "running", found)
        wait_for(lambda: "65536 kB" in node.sh("seen", "grep MemTotal /proc/meminfo", check=False))
        fail.touch()
        end()
        wait_for(lambda: "it has died, and is started again in " in found(), found)
        wait_for(lambda: re.search(r"lxcfs has died; it is started again in \d", node.words()), node.words)
        fail.unlink()
        wait_for(lambda: found() == "running", found)
