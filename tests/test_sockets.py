# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows that BPF counts: sockets and files are never more than the limit, every refusal is counted
once and named, and the counts go on whoever of Terem is killed."""
import os
import signal
import socket
import subprocess
import time

import pytest

from events import Events
from node import wait_for

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("terem-hoard") / "hoard")
    subprocess.run(["musl-gcc", "-static", "-O1", "-o", path, os.path.join(HERE, "hoard.c")],
                   check=True)
    return path


def checks(node):
    return {c["name"]: c for c in node.ok("GET", "/v1/doctor")["checks"]}


def row(node, key, name="web1"):
    return node.counter(name, key)


def settles(read, wanted):
    """The kernel frees some sockets a little later."""
    wait_for(lambda: read() == wanted, lambda: (read(), wanted))


def begin(node, program, name="web1", **params):
    if not checks(node)["BPF on cgroups"]["ok"]:
        pytest.skip(checks(node)["BPF on cgroups"]["found"])
    node.ve(name, params={key: str(value) for key, value in params.items()})
    node.terem("push", name, program, "/bin/hoard")
    node.sh(name, "chmod 755 /bin/hoard")


def hoard(node, what, processes, each, seconds=0, name="web1"):
    """How many it got, how many were refused, and the last error; they are kept for a while."""
    out = node.sh(name, f"hoard {what} {processes} {each} {seconds}")
    got, refused, error = out.split(None, 2)
    return int(got), int(refused), error.strip()


def test_exactly_the_limit(node, program):
    begin(node, program, **{"sockets.tcp": 333, "sockets.other": 100})
    got, refused, error = hoard(node, "tcp", 100, 10, 300)
    assert (got, refused, error) == (333, 667, "No buffer space available")
    now = row(node, "sockets.tcp")
    assert (now["held"], now["maxheld"], now["failcnt"], now["limit"]) == (333, 333, 667, 333)
    # Live; and nobody's files are closed for it.
    assert "333 in use" in node.terem("set", "web1", "sockets.tcp=300", check=False).stderr
    node.terem("set", "web1", "sockets.tcp=300", "--force")
    assert hoard(node, "tcp", 1, 5)[:2] == (0, 5)
    node.terem("set", "web1", "sockets.tcp=340")
    assert hoard(node, "tcp", 1, 20)[:2] == (7, 13)
    settles(lambda: row(node, "sockets.tcp")["held"], 333)
    assert row(node, "sockets.tcp")["failcnt"] == 667 + 5 + 13
    # Another row has its own count.
    assert hoard(node, "udp", 10, 20, 300)[:2] == (100, 100)
    assert row(node, "sockets.other")["failcnt"] == 100
    node.sh("web1", "killall -9 hoard")
    settles(lambda: row(node, "sockets.other")["held"], 0)
    settles(lambda: row(node, "sockets.tcp")["held"], 0)
    assert "sockets.tcp" in node.terem("counters", "web1", "--failed").stdout
    # A new start counts anew.
    node.job("POST", "/v1/ves/web1/restart")
    assert row(node, "sockets.tcp")["failcnt"] == 0


def test_neighbours_are_apart(node, program):
    begin(node, program, **{"sockets.tcp": 10})
    node.ve("web2")
    assert hoard(node, "tcp", 1, 20, 300)[:2] == (10, 10)
    assert row(node, "sockets.tcp", "web2")["held"] == 0
    node.sh("web2", "nc -l -p 80 & until grep -q ':0050 ' /proc/net/tcp*; do usleep 10000; done; kill $!")
    assert row(node, "sockets.tcp", "web2")["failcnt"] == 0
    assert row(node, "sockets.tcp", "web2")["maxheld"] >= 1


def test_counts_survive(node, program):
    begin(node, program, **{"sockets.tcp": 50})
    assert hoard(node, "tcp", 5, 8, 300)[:2] == (40, 0)
    pid = node.show("web1")["pid"]
    node.kill()
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
        path = file.read().rpartition("0::")[2].split("\n")[0]
    # While there is no teremd: one of the five ends, and a process that joins the VE is refused.
    base = next(line.split()[4] for line in open("/proc/self/mountinfo", encoding="utf-8")
                if " - cgroup2 " in line)
    with open(f"{base}{path}/cgroup.procs", encoding="ascii") as file:
        hoarders = [int(p) for p in file.read().split()
                    if "hoard" in os.readlink(f"/proc/{p}/exe")]
    os.kill(hoarders[0], signal.SIGKILL)
    done = subprocess.run(
        ["sh", "-c", f'echo $$ >"{base}{path}/cgroup.procs"; exec "{program}" tcp 10 10 0'],
        capture_output=True, text=True, check=True)
    got, refused = map(int, done.stdout.split()[:2])
    assert got + refused == 100 and got >= 10
    node.start()
    settles(lambda: row(node, "sockets.tcp")["held"], 32)
    now = row(node, "sockets.tcp")
    assert (now["maxheld"], now["failcnt"]) == (50, refused)
    assert hoard(node, "tcp", 1, 20)[:2] == (18, 2)
    assert row(node, "sockets.tcp")["failcnt"] == refused + 2
    node.sh("web1", "killall -9 hoard")
    settles(lambda: row(node, "sockets.tcp")["held"], 0)


def test_refusals_have_names(node, program):
    begin(node, program, **{"sockets.tcp": 3})
    with Events(node) as events:
        events.begin("web1")
        assert hoard(node, "tcp", 1, 4)[:2] == (3, 1)
        told = events.wait("ve.refused", ve="web1", key="sockets.tcp")
    assert told["process"] == "hoard" and told["pid"] > 1 and told["count"] == 1
    assert told["text"] == "sockets.tcp 3 is reached"
    assert abs(told["time"] / 1000 - time.time()) < 60
    # What is held back is told, too, and a name that is not UTF-8 hides nothing.
    node.sh("web1", "cp /bin/hoard \"$(printf '/bin/caf\\351')\"; exec \"$(printf '/bin/caf\\351')\" tcp 1 20 0")
    with Events(node) as events:
        events.begin("web1")
        node.sh("web1", "exec \"$(printf '/bin/caf\\351')\" tcp 1 23 0", check=False)

        def count():
            return sum(e["count"] for e in list(events.seen) if e["type"] == "ve.refused" and
                       e["process"] and e["process"].startswith("caf\\x"))
        wait_for(lambda: count() >= 20, count)


def test_connections_from_outside(node, program):
    """The listener and two connections: the third waits until one is closed."""
    begin(node, program, **{"sockets.tcp": 3})
    address = node.show("web1")["addresses"][0].split("/")[0]
    node.sh("web1", "nc -ll -p 7 -e cat </dev/null >/dev/null 2>&1 &")
    lines = []
    settles(lambda: row(node, "sockets.tcp")["held"], 1)  # it listens
    for _ in range(2):
        lines.append(socket.create_connection((address, 7), 20))
    settles(lambda: row(node, "sockets.tcp")["held"], 3)
    late = socket.socket()
    late.settimeout(0.5)
    with pytest.raises(TimeoutError):
        late.connect((address, 7))
    assert row(node, "sockets.tcp")["failcnt"] >= 1
    assert row(node, "sockets.tcp")["maxheld"] == 3
    late.close()
    for line in lines:
        line.close()
    settles(lambda: row(node, "sockets.tcp")["held"], 1)
    socket.create_connection((address, 7), 20).close()


def test_root_cannot_raise_its_limits(node, program):
    begin(node, program)
    for name in ("user/max_inotify_instances", "kernel/shmmni", "kernel/msgmni", "kernel/sem",
                 "fs/mqueue/queues_max"):
        said = node.sh("web1", f"cat /proc/sys/{name} >/dev/null && "
                               f"cat /proc/sys/{name} >/tmp/v && cat /tmp/v >/proc/sys/{name}; "
                               "echo $?")
        assert said.endswith("1\n"), (name, said)
    assert node.sh("web1", "echo 65 >/proc/sys/net/ipv4/ip_default_ttl; echo $?") == "0\n"


def test_files(node, program):
    begin(node, program)
    lsm = checks(node)["BPF LSM"]
    if not lsm["ok"]:
        now = row(node, "files")
        assert now["held"] is None and now["failcnt"] is None
        assert "each process" in lsm["costs"]
        # The next start gives it to each process.
        node.terem("set", "web1", "files=128")
        node.job("POST", "/v1/ves/web1/restart")
        assert node.sh("web1", "ulimit -n; ulimit -Hn") == "128\n128\n"
        pytest.skip(f"{lsm['found']}; the VM tier has it")
    before = row(node, "files")["held"]
    node.terem("set", "web1", f"files={before + 300}")
    got, refused, error = hoard(node, "file", 10, 100, 300)
    assert got + refused == 1000 and refused >= 700 and "Too many open files in system" in error
    now = row(node, "files")
    assert now["maxheld"] == before + 300 and now["failcnt"] >= refused
    node.terem("set", "web1", "files=unlimited")
    node.sh("web1", "killall -9 hoard")
    assert hoard(node, "unix", 3, 5)[:2] == (15, 0)
    assert row(node, "sockets.other")["maxheld"] >= 15


def test_refused_forks(node):
    """Counted once each, and told; with the name where BPF can hear of it."""
    node.ve("web1", params={"processes": "20"})
    named = checks(node)["BPF at functions"]["ok"]
    with Events(node) as events:
        events.begin("web1", "sockets.tcp")
        node.sh("web1", "i=0; while [ $i -lt 40 ]; do sleep 300 & i=$((i + 1)); done 2>&1; true",
                check=False)
        told = events.wait("ve.refused", ve="web1", key="processes")
    assert told["process"] == ("sh" if named else None) and told["count"] >= 1
    assert told["text"] == "processes 20 is reached"
    assert row(node, "processes")["failcnt"] >= told["count"]
    # The next teremd tells only of what happens then.
    node.kill()
    node.start()
    before = row(node, "processes")["failcnt"]
    with Events(node) as events:
        events.begin("web1", "sockets.tcp")
        assert not [e for e in events.seen if e["type"] == "ve.refused"]
        # The shell that was refused has ended, which left room for one.
        node.ok("PATCH", "/v1/ves/web1", {"params": {"processes": "10"}, "force": True})
        full = node.api("POST", "/v1/ves/web1/exec", {"command": ["/bin/true"]})
        assert full.error == "exhausted" and "processes" in str(full.body), full
        told = events.wait("ve.refused", ve="web1", key="processes")
        assert row(node, "processes")["failcnt"] >= before + told["count"]


def test_locks_need_lsm(node):
    """Refused with the reason where nothing could keep it."""
    node.ve("web1", start=False)
    done = node.terem("set", "web1", "file-locks=100", check=False)
    if checks(node)["BPF LSM"]["ok"]:
        assert done.returncode == 0, done
    else:
        assert done.returncode != 0 and "file-locks cannot be enforced here: it needs BPF LSM" \
            in done.stderr, done
