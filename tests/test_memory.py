# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory: limits that kill inside the VE only and say whom, and lowering them by force."""
import os
import re
import subprocess

import pytest

from events import Events
from node import wait_for

HOG = "tail -n1 </dev/zero"  # keeps what has no line end


@pytest.fixture
def events(node):
    node.ve("web1", params={"memory.limit": "64M"})
    with Events(node) as heard:
        heard.begin("web1")
        yield heard


def test_the_victim_is_named(node, events):
    assert node.counter("web1", "memory.limit")["failcnt"] == 0
    done = node.run("web1", "/bin/sh", "-c", HOG, check=False)
    assert (done["exit"], done["signal"]) == (137, "KILL"), done
    event = events.wait("ve.oom", ve="web1")
    assert event["process"] == "tail" and event["limit"] == 64 << 20 and event["count"] == 1
    assert 32 << 20 < event["rss"] < 80 << 20
    assert re.match(r"memory.limit 64M was reached and nothing more could be given back: tail was "
                    r"killed, since its \d\S*M and its oom_score_adj of 0 together weighed most$",
                    event["text"]), event
    refused = events.wait("ve.refused", ve="web1", key="memory.limit")
    assert refused["process"] == "tail" and refused["count"] == 1
    # One process was killed, though the limit was hit often before page cache made no more room.
    assert node.counter("web1", "memory.limit")["failcnt"] == 1
    assert node.sh("web1", "echo alive") == "alive\n"


def test_a_forged_line_is_no_victim(node, events):
    """Whatever a program writes into the kernel's log is marked as a program's."""
    if not os.access("/dev/kmsg", os.W_OK):
        pytest.skip("/dev/kmsg cannot be written")
    base = int(node.sh("web1", "cat /proc/self/uid_map").split()[1])
    with open("/dev/kmsg", "w", encoding="ascii") as log:
        log.write("Memory cgroup out of memory: Killed process 7 (forged) total-vm:1kB, anon-rss:1kB"
                  f", file-rss:1kB, shmem-rss:0kB, UID:{base} pgtables:1kB oom_score_adj:0\n")
    node.run("web1", "/bin/sh", "-c", HOG, check=False)
    events.wait("ve.oom", ve="web1")
    assert "forged" not in str(events.seen)


def hold(node, name, megabytes):
    """A process that keeps so much, and one that keeps little."""
    node.sh(name, f"sleep 1000 >/dev/null 2>&1 & (head -c {megabytes << 20} /dev/zero | "
                  "tr '\\0' x; sleep 1000) | tail -n1 >/dev/null 2>&1 &")

    def held():
        """KB, as far as it is there."""
        told = node.sh(name, "for p in /proc/[0-9]*; do grep -q '^Name:.tail' $p/status && "
                             "grep VmRSS $p/status; done; true")
        return int(told.split()[1]) if told else 0
    wait_for(lambda: held() > megabytes * 1024, lambda: f"it does not hold {megabytes}M: {held()}")


def test_lowered_by_force(node, events):
    hold(node, "web1", 40)
    refused = node.terem("set", "web1", "memory.limit=20M", check=False)
    assert refused.returncode == 1
    assert re.match(r"terem: web1: memory.limit 20M is below the 4\dM in use, which cannot be given "
                    r"back: processes inside would be killed until it fits; set it with --force, or "
                    r"choose at least 5\dM$", refused.stderr.strip()), refused.stderr
    assert "tail" in node.sh("web1", "ps")
    node.terem("set", "web1", "memory.limit=20M", "--force")
    event = events.wait("ve.oom", ve="web1")
    assert event["process"] == "tail" and event["pid"] > 1
    assert re.match("memory.limit was lowered by force", event["text"])
    left = node.sh("web1", "ps")
    assert "tail" not in left and "sleep 1000" in left  # nobody else had to go
    assert node.counter("web1", "memory.limit")["limit"] == 20 << 20
    assert node.state("web1") == "running"


def test_refused_and_nothing_is_given_back(node, events):
    hold(node, "web1", 20)
    node.sh("web1", "dd if=/dev/zero of=/root/file bs=65536 count=400 2>/dev/null; sync")
    before = node.counter("web1", "memory.limit")["held"]
    assert before > 44 << 20
    refused = node.terem("set", "web1", "memory.limit=10M", check=False)
    assert "memory.limit 10M is below the 2" in refused.stderr, refused.stderr
    assert node.counter("web1", "memory.limit")["held"] > before - (2 << 20)
    # Nor does a profile that one of its VEs cannot have.
    node.terem("profile", "create", "tight", "processes=100")
    node.ve("web2", profile="tight")
    node.terem("set", "web1", "--profile", "tight", "memory.limit=default")
    hold(node, "web2", 40)
    said = node.terem("profile", "set", "tight", "memory.limit=36M", check=False)
    assert said.returncode == 1 and "web2: memory.limit 36M is below the 4" in said.stderr, said
    assert node.counter("web1", "memory.limit")["held"] > before - (2 << 20)


def test_what_is_advised_is_enough(node, events):
    """A limit that would be met at once is not for the asking either."""
    hold(node, "web1", 20)
    node.sh("web1", "dd if=/dev/zero of=/root/file bs=65536 count=400 2>/dev/null; sync")
    refused = node.terem("set", "web1", "memory.limit=26M", check=False)
    said = re.match(r"terem: web1: memory.limit 26M leaves too little beside the 2\dM in use, which "
                    r"cannot be given back: processes inside, the first one too, would be killed "
                    r"soon; set it with --force, or choose at least (3\dM)$", refused.stderr.strip())
    assert said, refused.stderr
    node.terem("set", "web1", f"memory.limit={said[1]}")
    assert node.sh("web1", "head -c 4000000 /dev/zero | tail -n1 | wc -c") == "4000000\n"
    assert "tail" in node.sh("web1", "ps")
    node.terem("set", "web1", "memory.limit=26M", "--force")
    assert node.counter("web1", "memory.limit")["limit"] == 26 << 20
    assert "tail" in node.sh("web1", "ps"), "it fits: nobody has to go"


def test_force_has_an_end(node, events):
    """What lies in files in memory goes with no process; the first process is not for sale."""
    node.sh("web1", "head -c 41943040 /dev/zero >/dev/shm/file; sleep 1000 >/dev/null 2>&1 &")
    pid = node.show("web1")["pid"]
    refused = node.terem("set", "web1", "memory.limit=20M", "--force", check=False)
    assert "cannot lower memory.limit: " in refused.stderr and "(tmpfs)" in refused.stderr
    assert node.show("web1")["pid"] == pid and node.state("web1") == "running"
    assert "sleep 1000" in node.sh("web1", "ps"), "nobody is killed in vain"
    assert node.counter("web1", "memory.limit")["limit"] == 64 << 20
    node.sh("web1", "rm /dev/shm/file")
    node.terem("set", "web1", "memory.limit=20M")


# ---- squeeze ----
def zram():
    """A swap device of our own for a moment; other VEs of the machine hardly notice."""
    try:
        with open("/sys/class/zram-control/hot_add", encoding="ascii") as file:
            number = file.read().strip()
    except OSError as cause:
        pytest.skip(f"no zram here: {cause}; tests/vm has swap")
    name = f"zram{number}"
    try:
        with open(f"/sys/block/{name}/disksize", "w", encoding="ascii") as file:
            file.write("256M")
        subprocess.run(["mkswap", f"/dev/{name}"], check=True, capture_output=True)
        subprocess.run(["swapon", f"/dev/{name}"], check=True)
        yield name
    finally:
        subprocess.run(["swapoff", f"/dev/{name}"], check=False, capture_output=True)
        with open("/sys/class/zram-control/hot_remove", "w", encoding="ascii") as file:
            file.write(number)


swap = pytest.fixture(zram)


def has_swap():
    with open("/proc/swaps", encoding="ascii") as file:
        return len(file.readlines()) > 1


def test_squeezed_to_swap(node, swap):
    node.ve("web1")
    hold(node, "web1", 40)
    node.sh("web1", "dd if=/dev/zero of=/root/file bs=65536 count=300 2>/dev/null; sync")
    job = node.job("POST", "/v1/ves/web1/squeeze")
    result = job["result"]
    assert result["before"] > 56 << 20 and result["after"] < 16 << 20, job
    assert result["swapped"] > 36 << 20 and result["cache"] > 15 << 20, job
    assert re.match(rf"held \S+M, holds \S+[KM]: \S+M to swap \(.*{swap}.*\), \S+M of page cache$",
                    job["text"]), job
    # What went is there: it comes back when it is used.
    assert "tail" in node.sh("web1", "ps")


def test_squeezed_so_far(node, swap):
    node.ve("web1", params={"memory.limit": "200M"})
    hold(node, "web1", 60)
    said = node.terem("squeeze", "web1", "--to", "40M")
    assert re.match(r"web1: held 6\S+M, holds [34]\S*M: \S+M to swap", said.stdout), said
    assert 24 << 20 < node.counter("web1", "memory.limit")["held"] < 42 << 20
    [item] = node.json("squeeze", "--all", "--to", "100M")["result"]["items"]
    assert item["result"]["swapped"] == 0  # nothing to do
    node.terem("pause", "web1")
    frozen = node.json("squeeze", "web1", "--to", "10M")
    frozen = frozen[0] if isinstance(frozen, list) else frozen
    assert frozen["result"]["after"] < 12 << 20, frozen
    node.terem("resume", "web1")


def test_squeezed_without_swap(node):
    if has_swap():
        pytest.skip("this machine has swap")
    node.ve("web1")
    hold(node, "web1", 20)
    node.sh("web1", "dd if=/dev/zero of=/root/file bs=65536 count=300 2>/dev/null; sync")
    job = node.job("POST", "/v1/ves/web1/squeeze")
    assert job["result"]["swapped"] == 0 and job["result"]["cache"] > 15 << 20, job
    assert job["text"].endswith("of page cache; this node has no swap for the rest"), job


def test_squeeze_refused(node):
    node.ve("web1", start=False)
    said = node.terem("squeeze", "web1", check=False)
    assert said.returncode == 1 and said.stderr == \
        "terem: web1: cannot squeeze: it is stopped and holds no memory\n"
    for body, words in (({"to": 5}, "must be"), ({"to": "5X"}, "5X"), ({"what": 1}, "what")):
        answer = node.api("POST", "/v1/ves/web1/squeeze", body)
        assert answer.status == 400 and words in answer.json["error"]["message"], answer
    assert node.terem("squeeze", "web1", "--to", "many", check=False).returncode == 2
