# SPDX-License-Identifier: GPL-2.0-or-later
"""What a VE may take of its pool: limits, the soft half, what is refused, and what df says.

On btrfs in a file, which this kernel has; project quotas of ext4 and xfs are in tests/vm/disk.py.
"""
import os
import pty
import signal
import subprocess
import time

import pytest

from events import Events
from node import PATIENCE, wait_for

MIB = 1 << 20
SLACK = 6 * MIB  # what btrfs counts beside the content of files, and later than it is written


def serve_pool(node):
    node.job("POST", "/v1/pools", {"name": "fast", "driver": "btrfs", "size": "2G"})
    return node


@pytest.fixture(scope="module")
def house(shared):
    """With the pool `fast` on btrfs."""
    yield serve_pool(shared)
    for ve in shared.ok("GET", "/v1/ves"):
        shared.job("DELETE", f"/v1/ves/{ve['name']}?force=true")


@pytest.fixture
def program(build):
    return os.path.join(build, "src/programs/terem-init/use_disk")


def make(node, name, program, limit, **more):
    params = {"disk.space": limit, **more.pop("params", {})}
    node.ve(name, pool="fast", params=params, **more)
    node.terem("push", name, program, "/root/disk", "--mode", "0755")
    wait_for(lambda: row(node, name)["failcnt"] is not None)  # counting has begun
    return name


def use(node, name, *words, check=True):
    """Runs tests/src/disk.c inside: its words."""
    return node.run(name, "/root/disk", *map(str, words), check=check)["stdout"].split()


def numbers(words):
    return [int(word) for word in words]


def row(node, name, key="disk.space"):
    return node.counter(name, key)


def failed(node, name):
    return row(node, name)["failcnt"]


def space(node, name):
    return node.show(name)["disk"]["space"]


# ---- what is refused before anything is written ----
def test_pools_that_cannot(house):
    house.template()
    house.job("POST", "/v1/pools", {"name": "plain", "driver": "dir"})
    for key, value, pool, why in [
            ("disk.space", "10M", "plain", "disk.space cannot be enforced in pool plain: "),
            ("disk.space", "1M:unlimited", "plain", "and --pool chooses one; --set disk.space=unlimited does without"),
            ("disk.inodes", "100", "plain", "disk.inodes cannot be enforced in pool plain: "),
            ("disk.inodes", "100", "fast", "disk.inodes cannot be enforced in pool fast: btrfs"),
            ("disk.users", "on", "fast", "disk.users on cannot be enforced: ")]:
        answer = house.api("POST", "/v1/ves", {"name": "no", "pool": pool, "params": {key: value}})
        assert answer.error == "unsupported" and why in answer.json["error"]["message"], answer
    house.ok("POST", "/v1/ves", {"name": "no", "pool": "plain"})
    answer = house.api("PATCH", "/v1/ves/no", {"params": {"disk.space": "10M"}})
    assert answer.error == "unsupported" and "terem pool move" in answer.json["error"]["message"], answer
    house.ok("PATCH", "/v1/ves/no", {"params": {"disk.users": "off", "disk.grace": "1h"}})
    # Nor by a move, nor by a profile.
    house.ok("POST", "/v1/ves", {"name": "held", "pool": "fast", "params": {"disk.space": "10M"}})
    refused = house.terem("pool", "move", "held", "plain", check=False)
    assert refused.returncode == 1 and "cannot be enforced in pool plain" in refused.stderr and \
        "terem set held disk.space=unlimited takes the bound away" in refused.stderr, refused.stderr
    house.ok("POST", "/v1/profiles", {"name": "tight", "params": {"disk.space": "12M"}})
    answer = house.api("PATCH", "/v1/ves/no", {"profile": "tight"})
    assert answer.error == "unsupported", answer
    house.ok("PATCH", "/v1/ves/held", {"profile": "tight", "params": {"disk.space": None}})
    assert house.show("held")["disk"]["space"]["limit"] == 12 * MIB
    house.ok("PATCH", "/v1/profiles/tight", {"params": {"disk.space": "14M"}})
    assert house.show("held")["disk"]["space"]["limit"] == 14 * MIB


def test_what_is_not_counted(house, program):
    """By a file system, not by the kernel: the words name it."""
    make(house, "words", program, "40M")
    assert row(house, "words", "disk.space")["uncounted"] is None
    assert row(house, "words", "disk.inodes")["uncounted"].startswith("btrfs neither counts nor")
    said = house.terem("counters", "words").stdout
    assert "\ndisk.inodes is not counted: btrfs neither" in said and "disk.space is not" not in said
    listed = next(line for line in house.terem("list").stdout.splitlines() if line.startswith("words"))
    assert "/40M " in listed


# ---- the hard half ----
def test_space_is_limited_and_counted(house, program):
    """Live, and once for each call that is refused."""
    make(house, "full", program, "40M")
    with Events(house) as events:
        events.begin("full")
        done, refused = numbers(use(house, "full", "fill", "/root/big", 100 * MIB))
        assert 40 * MIB - SLACK < done <= 40 * MIB and refused > 0
        assert failed(house, "full") == refused
        told = events.wait("ve.refused", ve="full", key="disk.space")
        assert told["process"] == "disk" and told["pid"] > 1 and "disk.space 40M" in told["text"]
    more = numbers(use(house, "full", "again", "/root/big", 100))[0]
    assert more >= 80 and failed(house, "full") == refused + more
    assert "disk.space" in house.terem("counters", "full", "--failed").stdout
    held = row(house, "full")
    assert 40 * MIB - SLACK < held["held"] <= 40 * MIB and held["limit"] == 40 * MIB
    # What is full can still be used: exec worked above; a console too.
    assert house.sh("full", "echo on") == "on\n"
    # Deleted, there is room again, at once.
    house.sh("full", "rm /root/big")
    done, _ = numbers(use(house, "full", "fill", "/root/other", 20 * MIB))
    assert done == 20 * MIB
    # More and less, live.
    house.terem("set", "full", "disk.space=60M")
    assert numbers(use(house, "full", "fill", "/root/third", 30 * MIB))[0] == 30 * MIB
    low = house.terem("set", "full", "disk.space=30M", check=False)
    assert low.returncode == 1 and "in use: nothing can be written until as much is deleted" in \
        low.stderr and "--force" in low.stderr
    assert space(house, "full")["limit"] == 60 * MIB and "counted within seconds: try again" in low.stderr
    house.terem("set", "full", "disk.space=30M", "--force")
    assert numbers(use(house, "full", "fill", "/root/fourth", MIB))[0] < MIB
    house.sh("full", "rm /root/third /root/other /root/fourth")
    assert numbers(use(house, "full", "fill", "/root/fifth", 10 * MIB))[0] == 10 * MIB
    house.sh("full", "sync /root/fifth; rm /root/fifth")
    wait_for(lambda: house.terem("set", "full", "disk.space=8M", check=False).returncode == 0)
    assert "disk" in house.terem("show", "full").stdout
    house.job("DELETE", "/v1/ves/full?force=true")


def test_a_full_ve_starts_and_can_be_emptied(house, program):
    """An overlay over a tree that takes nothing more would be read-only."""
    make(house, "brim", program, "8M")
    house.sh("brim", "mkdir /var/t; i=0; while mkdir /var/t/d$i && echo x > /var/t/d$i/f; do "
             "i=$((i+1)); done 2>/dev/null; dd if=/dev/zero of=/var/t/big bs=4k 2>/dev/null; "
             "while echo 12345678 >> /var/t/small; do :; done 2>/dev/null; true")
    house.job("POST", "/v1/ves/brim/restart", {"force": True})
    assert house.sh("brim", "grep ' / ' /proc/mounts").split()[3].split(",")[0] == "rw"
    house.sh("brim", "rm -rf /var/t && echo back > /root/file")
    wait_for(lambda: row(house, "brim")["held"] < 5 * MIB)
    use(house, "brim", "fill", "/root/big", 20 * MIB)  # the limit is what it was
    assert row(house, "brim")["held"] <= 8 * MIB + SLACK
    house.job("POST", "/v1/ves/brim/stop", {"force": True})
    house.terem("push", "brim", program, "/root/more")  # of a stopped one too, while it is full


def test_no_room_is_left_of_a_start_that_failed(house):
    """What a start needs above the limits goes with it, also when it does not get far."""
    house.ve("tight", pool="fast", params={"disk.space": "8M"})
    house.job("POST", "/v1/ves/tight/stop", {"force": True})
    tree = f"{house.ok('GET', '/v1/pools/fast')['path']}/{house.show('tight')['id']}"
    assert os.getxattr(tree, "trusted.terem.space") == str(8 * MIB).encode()
    top = "/sys/fs/cgroup/unified" if os.path.isdir("/sys/fs/cgroup/unified") else "/sys/fs/cgroup"
    most = f"{top}/{house.cgroup_name}/cgroup.max.descendants"
    with open(most, "w", encoding="ascii") as file:
        file.write("0")
    try:
        refused = house.terem("start", "tight", check=False)
        assert refused.returncode and "cgroups is limited" in refused.stderr, refused.stderr
    finally:
        with open(most, "w", encoding="ascii") as file:
            file.write("max")
    assert os.getxattr(tree, "trusted.terem.space") == str(8 * MIB).encode()
    house.job("DELETE", "/v1/ves/tight")


def test_a_stopped_ve_is_limited(house, program):
    make(house, "asleep", program, "30M")
    house.job("POST", "/v1/ves/asleep/stop", {"force": True})
    house.terem("set", "asleep", "disk.space=12M")
    data = os.urandom(MIB) * 20
    answer = house.api("PUT", "/v1/ves/asleep/files?path=/root/in", data)
    assert answer.status >= 400, answer
    house.job("POST", "/v1/ves/asleep/start")
    house.sh("asleep", "rm -f /root/in")
    assert numbers(use(house, "asleep", "fill", "/root/big", 30 * MIB))[0] <= 12 * MIB
    refused = house.terem("set", "asleep", "disk.space=4M", check=False)
    assert "in use" in refused.stderr
    house.job("DELETE", "/v1/ves/asleep?force=true")


def test_nobody_gets_around_it(house, program):
    """Every way to take space that a VE's root knows."""
    limit = 10 * MIB
    make(house, "sly", program, "10M")

    def clean():
        house.sh("sly", "rm -rf /root/x; mkdir -p /root/x/y")
        assert numbers(use(house, "sly", "fill", "/root/x/probe", 3 * MIB))[0] == 3 * MIB
        house.sh("sly", "rm /root/x/probe")

    def bounded():
        now = space(house, "sly")["used"]
        assert now <= limit + MIB, now
    house.sh("sly", "mkdir -p /root/x/y")
    assert use(house, "sly", "reserve", "/root/x/r", 100 * MIB) == ["EDQUOT"]
    clean()
    done, why = use(house, "sly", "sparse", "/root/x/s", 4096 * MIB)
    assert limit // 2 < int(done) <= limit and why == "EDQUOT"
    bounded()
    clean()
    done, why = use(house, "sly", "map", "/root/x/m", 100 * MIB)
    assert limit // 2 < int(done) <= limit and why == "SIGBUS"
    bounded()
    clean()
    made, refused = numbers(use(house, "sly", "tiny", "/root/x", 30000))
    assert made < 30000 and refused > 0
    bounded()
    clean()
    made, _ = numbers(use(house, "sly", "dirs", "/root/x", 30000))
    assert made > 1000  # a directory takes next to nothing
    bounded()
    clean()
    # A file without a name counts as long as it is open.
    assert limit // 2 < numbers(use(house, "sly", "gone", "/root/x/g", 100 * MIB))[0] <= limit
    clean()
    # Another name or place is neither more room nor none.
    assert numbers(use(house, "sly", "fill", "/root/x/l", 4 * MIB))[0] == 4 * MIB
    assert int(use(house, "sly", "links", "/root/x/l", 300)[0]) == 300
    assert space(house, "sly")["used"] < 7 * MIB
    clean()
    moved = numbers(use(house, "sly", "move", "/root/x/v", "/root/x/y", 2 * MIB))[0]
    assert limit // 2 < moved <= limit
    bounded()
    clean()
    # Nor is a project of its own.
    house.sh("sly", ">/root/x/p")
    assert use(house, "sly", "project", "/root/x/p", 77)[0] != "0"
    # A file of the template that is written to becomes the VE's own.
    house.sh("sly", "for i in $(seq 40); do cp /bin/busybox /root/x/$i || break; done", check=False)
    assert house.run("sly", "/bin/sh", "-c", ": >>/bin/busybox", check=False)["exit"] != 0
    bounded()
    clean()
    assert house.sh("sly", "echo on") == "on\n"
    house.job("DELETE", "/v1/ves/sly?force=true")


def booted(node, name):
    said = node.run(name, "systemctl", "is-system-running", check=False)["stdout"].strip()
    return said in ("running", "degraded")


def test_a_full_debian_can_be_entered(debian, program):
    """Its sshd's and nginx' place is taken by nobody: console, exec and the page still answer."""
    if "fast" not in [p["name"] for p in debian.ok("GET", "/v1/pools")]:
        serve_pool(debian)
    make(debian, "deb", program, "60M", template="debian-12")
    try:
        wait_for(lambda: booted(debian, "deb"))
        debian.sh("deb", "systemctl start nginx")
        done, refused = numbers(use(debian, "deb", "fill", "/root/big", 100 * MIB))
        assert refused and done
        assert failed(debian, "deb") >= refused  # journald and others are refused, too
        address = debian.show("deb")["addresses"][0].partition("/")[0]
        page = subprocess.run(["curl", "-sS", "--max-time", "20", f"http://{address}/"],
                              capture_output=True, text=True, check=True).stdout
        assert "nginx" in page
        assert int(debian.sh("deb", "df --output=avail / | tail -1")) < SLACK // 1024
        size, used = debian.sh("deb", "df --output=size,used / | tail -1").split()
        assert int(size) == 60 * 1024 and int(used) > (60 * MIB - SLACK) // 1024
        debian.sh("deb", "df -h; df -i /")
        debian.job("POST", "/v1/ves/deb/restart", timeout=180)
        wait_for(lambda: booted(debian, "deb"))
        debian.sh("deb", "rm /root/big; touch /root/new")
    finally:
        debian.job("DELETE", "/v1/ves/deb?force=true")


# ---- df ----
def test_df_tells_of_the_ves_own(house, program):
    make(house, "seer", program, "50M")
    assert numbers(use(house, "seer", "fill", "/root/big", 20 * MIB))[0] == 20 * MIB
    pool = numbers(use(house, "seer", "fstat", "/"))  # the kernel's own answer
    assert pool[0] > 1024 * 1024

    def own(line):
        total, free, left, *_ = numbers(line)
        assert total == 50 * 1024 and free == left
        assert abs((total - free) - 20 * 1024) < SLACK // 1024
    paths = ["/", "/root", "/root/big", "/etc/passwd", "/root/../etc/."]
    house.sh("seer", "ln -s /root/big /root/link; ln -s ../.. /root/up; mkdir -p /root/in/etc; chmod 711 /root")
    for path in paths + ["/root/link", "/root/up"]:
        own(use(house, "seer", "stat", path))
    # From where it stands, and in roots of its own, of a process and of a thread.
    out = house.run("seer", "/root/disk", "stat", ".", "big", "..", workdir="/root")["stdout"]
    lines = out.splitlines()
    own(lines[0].split())
    own(lines[1].split())
    own(lines[2].split())
    for folder, path in (("/root", "../root/.."), ("/", ".."), ("/root/in/etc", "../../../etc/passwd"),
                         ("/root", "up/root")):
        own(house.run("seer", "/root/disk", "stat", path, workdir=folder)["stdout"].split())
    assert numbers(house.run("seer", "/root/disk", "stat", "../dev/shm", workdir="/root")["stdout"].split())[0] \
        != 50 * 1024
    house.sh("seer", "cp /root/disk /root/in/disk")
    own(house.sh("seer", "chroot /root/in /disk stat /etc").split())
    own(use(house, "seer", "in", "/root/in", "stat", "/etc"))
    # What is mounted elsewhere is told by the kernel, and a link of proc leads nowhere wrong.
    for path, size in (("/dev/shm", (256 << 10) + 256), ("/proc", 0), ("/sys", 0)):  # memory.shared and the nodes
        assert int(use(house, "seer", "stat", path)[0]) == size, path
    assert int(use(house, "seer", "stat", "/proc/self/root")[0]) in (50 * 1024, pool[0])
    # Errors are the kernel's.
    assert use(house, "seer", "bad") == ["EFAULT", "EFAULT", "EFAULT", "EFAULT", "ENOENT", "ENOENT",
                                         "0"]
    house.sh("seer", "mkdir -m 700 /root/closed; >/root/closed/there")
    assert use(house, "seer", "as", 1000, "stat", "/root/closed/there", "/root/closed/not") == \
        ["EACCES", "EACCES"]
    own(use(house, "seer", "as", 1000, "stat", "/"))
    own(house.run("seer", "/root/disk", "as", "1000", "stat", "..", workdir="/etc")["stdout"].split())
    # The tools.
    total, used = house.sh("seer", "df -k / | tail -1").split()[1:3]
    assert int(total) == 50 * 1024 and abs(int(used) - 20 * 1024) < SLACK // 1024
    assert house.sh("seer", "busybox stat -f -c '%b %S' /").split() == [str(50 * MIB // 4096), "4096"]
    house.sh("seer", "df -i /")
    # Live: the limit changes, and goes.
    house.terem("set", "seer", "disk.space=80M")
    assert int(use(house, "seer", "stat", "/")[0]) == 80 * 1024
    house.terem("set", "seer", "disk.space=unlimited")
    assert numbers(use(house, "seer", "stat", "/"))[0] == pool[0]
    house.terem("set", "seer", "disk.space=50M")
    own(use(house, "seer", "stat", "/"))


def test_df_in_repair(house, program):
    """The rescue system is on the pool; the files that are repaired, on the VE's own disk."""
    make(house, "mended", program, "50M")
    use(house, "mended", "fill", "/root/big", 20 * MIB)
    house.terem("repair", "mended", "--restart")

    def total(path, workdir="/"):
        return numbers(house.run("mended", "/repair/root/disk", "stat", path, workdir=workdir)["stdout"].split())[0]
    house.sh("mended", "ln -s /etc /repair/root/away")
    for path in ("/repair", "/repair/", "//repair/root/big", "/repair/root/../etc"):
        assert total(path) == 50 * 1024, path
    assert total(".", "/repair/root") == 50 * 1024
    for path in ("/", "/repair/root/away", "/template", "/dev/shm"):
        assert total(path) != 50 * 1024, path
    size, used = house.sh("mended", "df -k /repair | tail -1").split()[1:3]
    assert int(size) == 50 * 1024 and 20 * 1024 - SLACK // 1024 < int(used) < 30 * 1024
    house.job("DELETE", "/v1/ves/mended?force=true")


def test_df_without_teremd(house, program):
    """Nobody hangs while it is dead, stopped, or callers die; the next one answers again."""
    if not any(ve["name"] == "seer" for ve in house.ok("GET", "/v1/ves")):
        make(house, "seer", program, "50M")
    house.sh("seer", "(while :; do /root/disk stat / >/root/new && mv /root/new /root/seen; "
                     "usleep 50000; done) >/dev/null 2>&1 & /root/disk die 200")
    first = house.show("seer")["pid"]

    def seen(own):
        def look():
            try:
                with open(f"/proc/{first}/root/root/seen", encoding="ascii") as file:
                    return (int(file.read().split()[0]) == 50 * 1024) == own
            except (OSError, IndexError):
                return False
        wait_for(look)
    seen(True)
    house.kill()
    seen(False)
    house.start()
    seen(True)
    os.kill(house.daemon.pid, signal.SIGSTOP)
    try:
        seen(False)
    finally:
        os.kill(house.daemon.pid, signal.SIGCONT)
    seen(True)
    house.job("DELETE", "/v1/ves/seer?force=true")


# ---- the soft half ----
@pytest.fixture
def quick(node):
    """Looks every second."""
    node.setting("disk.look", "1s")
    node.term()
    node.start()
    yield serve_pool(node)
    for ve in node.ok("GET", "/v1/ves"):
        node.job("DELETE", f"/v1/ves/{ve['name']}?force=true")


def login(node, name):
    return node.sh(name, "cat /run/motd.d/* 2>/dev/null; true")


def enter(node, name):
    """What who enters by a terminal is told."""
    master, slave = pty.openpty()
    process = subprocess.Popen([node.cli, "--root", node.root, "enter", name], stdin=slave,
                               stdout=slave, stderr=subprocess.PIPE, text=True)
    try:
        os.write(master, b"exit\n")
        return process.communicate(timeout=PATIENCE)[1]
    finally:
        os.close(master)
        os.close(slave)


def test_who_is_above_is_looked_at_soon(house, program):
    """Though nobody asks, and the others' time is a minute's."""
    make(house, "above", program, "20M:40M")
    assert numbers(use(house, "above", "fill", "/root/big", 28 * MIB))[0] == 28 * MIB
    assert house.show("above")["disk"]["space"]["over_since"]
    with Events(house) as events:
        events.begin("above")
        house.sh("above", "rm /root/big")
        os.sync()
        events.wait("ve.disk_ok", ve="above", key="disk.space")
    house.job("DELETE", "/v1/ves/above?force=true")


def test_soft_is_looked_at_when_asked(house, program):
    """The timer of this node is a minute's: who asks is told what is now."""
    make(house, "asked", program, "20M:40M", params={"disk.grace": "0s"})
    with Events(house) as events:
        events.begin("asked")
        use(house, "asked", "fill", "/root/big", 25 * MIB)
        house.terem("counters", "asked")
        events.wait("ve.disk_soft", ve="asked", key="disk.space")
        house.terem("counters", "asked")
        events.wait("ve.disk_held", ve="asked", key="disk.space")
        house.sh("asked", "rm -f /root/big; sync")
        wait_for(lambda: not space(house, "asked")["held"])
    house.terem("destroy", "--force", "asked")


def test_soft_is_warned_held_and_reset(quick, program):
    make(quick, "web1", program, "20M:40M", params={"disk.grace": "1h"})
    with Events(quick) as events:
        events.begin("web1")
        assert numbers(use(quick, "web1", "fill", "/root/big", 25 * MIB)) == [25 * MIB, 0]
        told = events.wait("ve.disk_soft", ve="web1", key="disk.space")
        assert told["used"] > told["soft"] == 20 * MIB
        over = space(quick, "web1")
        assert over["over_since"] and over["until"] == over["over_since"] + 3600000 and \
            not over["held"]
        wait_for(lambda: "delete some until" in login(quick, "web1"))
        assert "is above the soft half of disk.space, 20M: delete some until" in enter(quick, "web1")
        assert "above the soft half" in quick.terem("show", "web1").stdout
        # Within its time it may write; teremd's death does not begin it anew.
        quick.kill()
        quick.start()
        assert space(quick, "web1")["over_since"] == over["over_since"]
        assert numbers(use(quick, "web1", "fill", "/root/more", 5 * MIB)) == [5 * MIB, 0]
    with Events(quick) as events:
        events.begin("web1")
        quick.terem("set", "web1", "disk.grace=2s")
        events.wait("ve.disk_held", ve="web1", key="disk.space")
        assert space(quick, "web1")["held"]
        wait_for(lambda: "nothing can be added" in login(quick, "web1"))
        before = failed(quick, "web1")
        done, refused = numbers(use(quick, "web1", "fill", "/root/yet", 5 * MIB))
        assert done <= 2 * MIB and refused and failed(quick, "web1") == before + refused
        quick.kill()
        quick.start()
        assert space(quick, "web1")["held"]
        assert numbers(use(quick, "web1", "fill", "/root/yet", 5 * MIB))[0] <= 2 * MIB
    with Events(quick) as events:
        events.begin("web1")
        quick.sh("web1", "rm -f /root/big /root/yet; sync")
        events.wait("ve.disk_ok", ve="web1", key="disk.space")
        wait_for(lambda: login(quick, "web1") == "")
        over = space(quick, "web1")
        assert over["over_since"] is None and not over["held"]
        assert numbers(use(quick, "web1", "fill", "/root/big", 8 * MIB)) == [8 * MIB, 0]
    # A change of the limits is looked at when it is made, not a minute later.
    quick.terem("set", "web1", "disk.space=5M:40M", "disk.grace=1d")
    assert space(quick, "web1")["over_since"]
    quick.terem("set", "web1", "disk.space=40M")
    assert space(quick, "web1")["over_since"] is None
    # Of a VE that is stopped, too.
    quick.job("POST", "/v1/ves/web1/stop", {"force": True})
    quick.terem("set", "web1", "disk.space=5M:40M", "disk.grace=0")
    wait_for(lambda: space(quick, "web1")["held"])


def test_killed_between_any_two_steps(quick, program):
    """The record and the pool say the same after every death of teremd."""
    make(quick, "web1", program, "30M")
    values = ["30M", "60M"]
    for i in range(12):
        setter = subprocess.Popen([quick.cli, "--root", quick.root, "set", "web1",
                                   f"disk.space={values[i % 2]}"], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        time.sleep(0.004 * (i % 6))
        quick.kill()
        setter.wait(PATIENCE)
        quick.start()
        limit = space(quick, "web1")["limit"]
        done = numbers(use(quick, "web1", "fill", f"/root/{i}", 100 * MIB))[0]
        assert limit - SLACK < done <= limit, (limit, done)
        quick.sh("web1", f"rm /root/{i}; sync")
