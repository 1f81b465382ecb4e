# SPDX-License-Identifier: GPL-2.0-or-later
"""Cores and guarantees of the processor: what is written, what a VE sees, what is refused."""
import glob
import os
import re

import pytest

from node import Node
from test_lifecycle import limit
from test_params import V1

with open("/sys/devices/system/cpu/online", encoding="ascii") as online:
    CORES = sorted(os.sched_getaffinity(0))
    ALL = online.read().strip()
LAST = CORES[-1]
pytestmark = pytest.mark.skipif(len(CORES) < 2 or ALL != f"0-{LAST}",
                                reason="needs two cores or more, in one row")


def kernel(pid):
    """Where the kernel lets a process run."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return re.search(r"Cpus_allowed_list:\s*(\S+)", file.read())[1]


def seen(node, name):
    """What programs inside count: by affinity, and in three files of lxcfs."""
    told = node.sh(name, "nproc; grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat; "
                         # not by sendfile(2), as cat does: see lxcfs.c
                         "dd if=/sys/devices/system/cpu/online bs=100 2>/dev/null").split()
    first, _, last = told[3].partition("-")
    return [int(n) for n in told[:3]] + [int(last or first) - int(first) + 1]


def refused(node, *assignments):
    done = node.terem("set", *assignments, check=False)
    assert done.returncode != 0, done
    return done.stderr.strip()


def test_a_number_of_cores(node):
    pid = node.ve("web1", params={"cpu.cores": "1"})["pid"]
    assert seen(node, "web1") == [1] * 4 and "-" not in kernel(pid)
    before = kernel(pid)
    # What starts later runs there as well; teremd's end moves nobody.
    other = node.ve("web2", params={"cpu.cores": "1"})["pid"]
    assert kernel(other) != before
    node.kill()
    node.start()
    node.terem("set", "web2", "cpu.guarantee=5")
    assert kernel(pid) == before
    node.terem("set", "web1", "cpu.cores=2")
    assert seen(node, "web1") == [2] * 4
    node.terem("set", "web1", "cpu.cores=1000")  # limits nothing
    assert kernel(pid) == ALL
    node.terem("set", "web1", f"cpu.cores={LAST}-{LAST}")
    assert kernel(pid) == str(LAST) and seen(node, "web1") == [1] * 4
    assert node.show("web1")["params"]["cpu.cores"] == f"{LAST}-{LAST}"
    node.terem("set", "web1", "cpu.cores=unlimited")
    assert kernel(pid) == ALL and seen(node, "web1") == [len(CORES)] * 4


def test_exclusive_cores(node):
    one = node.ve("one")["pid"]
    rest = ALL.replace(str(LAST), str(LAST - 1)) if LAST > 1 else "0"
    two = node.ve("two", params={"cpu.cores": f"{LAST}-{LAST},exclusive"})["pid"]
    assert (kernel(one), kernel(two)) == (rest, str(LAST))
    three = node.ve("three", params={"cpu.cores": "1000"})["pid"]
    assert kernel(three) == rest
    assert refused(node, "one", f"cpu.cores={LAST}-{LAST}") == (
        f"terem: one: cpu.cores: core {LAST} is exclusive to two; choose another core")
    assert refused(node, "one", f"cpu.cores=0-{LAST - 1},exclusive" if LAST > 1 else
                   "cpu.cores=0-0,exclusive").endswith(
        "would leave no core for the rest of the node; at least one must be left: name fewer")
    assert kernel(one) == rest and "cpu.cores" not in node.show("one")["params"]
    # It is kept while its owner is stopped, and after teremd's end.
    node.terem("stop", "two", "--force")
    node.kill()
    node.start()
    assert kernel(node.ve("four")["pid"]) == kernel(one) == rest
    node.terem("start", "two")
    assert kernel(node.show("two")["pid"]) == str(LAST)
    node.terem("destroy", "two", "--force")
    assert kernel(one) == kernel(three) == ALL
    node.terem("set", "one", "cpu.cores=0-0")
    assert refused(node, "three", "cpu.cores=0-0,exclusive") == (
        "terem: three: cpu.cores: core 0 cannot be exclusive: cpu.cores of one names it; choose "
        "another core, or change one first")


def test_teremd_dies_before_the_others_have_moved(node):
    """Exclusive cores are recorded first: the next teremd moves whoever is still there."""
    one = node.ve("one")["pid"]
    node.ve("two")
    node.terem("set", "two", f"cpu.cores={LAST}-{LAST},exclusive")
    node.kill()
    path = glob.glob(f"/sys/fs/cgroup/**/{node.cgroup_name}/ve-{node_id(one)}/cpuset.cpus",
                     recursive=True)[0]
    with open(path, "w", encoding="ascii") as file:
        file.write(ALL)
    assert kernel(one) == ALL
    node.start()
    assert str(LAST) not in kernel(one)


def node_id(pid):
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
        return re.search(r"/ve-(\d+)", file.read())[1]


def test_what_does_not_fit_is_refused(node):
    node.ve("one", start=False)
    node.ve("two", start=False, params={"cpu.cores": "1", "cpu.guarantee": "60"})
    there = f"there is no core {LAST + 1}; this node has cores {ALL}"
    for words, *assignments in [
            (there, f"cpu.cores={LAST + 1}-{LAST + 1}"),
            (there, f"cpu.cores={LAST}-{LAST + 1},exclusive"),
            ("is not a number of cores such as 2, or a list", "cpu.cores=1.5"),
            ("0 is not between 1 and 4096", "cpu.cores=0"),
            ("is not a number of cores", "cpu.cores=-1"),
            ("is not a number of cores", "cpu.cores=1-0"),
            ("is not a number of cores", "cpu.cores=0-0,shared"),
            ("cpu.guarantee 101 is above the 100% that cpu.cores 1 can give", "cpu.cores=1",
             "cpu.guarantee=101"),
            ("cpu.guarantee 50 is above cpu.limit 40", "cpu.guarantee=50", "cpu.limit=40"),
            ("percentage", "cpu.guarantee=half"), ("two decimals", "cpu.guarantee=1.001"),
            ("is not a clock such as 1000MHz", "cpu.guarantee=1.5MHz"),
            ("is more than any machine has", "cpu.guarantee=99999999MHz"),
            ("cpu.weight: ", "cpu.weight=1.5")]:
        said = refused(node, "one", *assignments)
        assert words in said, said
        assert "\n" not in said and said.startswith("terem: ")
    assert node.show("one")["params"] == {}


def test_guarantees_on_cores(build):
    with Node(build, reserve_cpu=0) as node:
        node.ve("one", start=False, params={"cpu.cores": "0-0", "cpu.guarantee": "60"})
        node.ve("two", start=False, params={"cpu.cores": "0-0"})
        assert refused(node, "two", "cpu.guarantee=41") == (
            "terem: two: cannot guarantee 41% of a core on cores 0: 40% is left of them after other "
            "guarantees and the node's reserve; lower it or choose other cores")
        whole = 100 * len(CORES)
        node.terem("set", "two", "cpu.cores=unlimited", f"cpu.guarantee={whole - 60}")
        node.ve("three", start=False)
        assert "the guarantees of the other VEs do not fit on the cores that are left to them" in \
            refused(node, "three", f"cpu.cores={LAST}-{LAST},exclusive")
        node.terem("set", "two", f"cpu.guarantee={whole - 160}")
        node.terem("set", "three", f"cpu.cores={LAST}-{LAST},exclusive")
        assert "of a core on cores" in refused(node, "two", f"cpu.guarantee={whole - 159}")


def clock():
    with open("/proc/cpuinfo", encoding="ascii") as file:
        told = re.search(r"^cpu MHz\s*: (\d+)", file.read(), re.M)
    path = "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"
    if os.path.exists(path):
        with open(path, encoding="ascii") as file:
            return int(file.read()) // 1000
    return int(told[1]) if told else None


@pytest.mark.skipif(not clock(), reason="this machine does not tell its clock")
def test_megahertz(build):
    whole = 100 * len(CORES)
    with Node(build, reserve_cpu=whole - 100) as node:
        # A third of a core in MHz against the same in percent.
        first = node.ve("one", params={"cpu.guarantee": f"{clock() // 3}MHz"})["pid"]
        second = node.ve("two", params={"cpu.guarantee": "33.33"})["pid"]
        assert node.show("one")["params"]["cpu.guarantee"] == f"{clock() // 3}MHz"
        weights = [int(limit(pid, "cpu", "cpu.shares", "cpu.weight")) for pid in (first, second)]
        assert 0.99 < weights[0] / weights[1] < 1.01
        assert "cannot guarantee" in refused(node, "two", f"cpu.guarantee={clock()}MHz")


def test_the_node_keeps_its_reserve(build):
    """All VEs together weigh against the node's own programs what they have against its reserve,
    as long as there is a guarantee."""
    with Node(build, reserve_cpu=50) as node:
        node.ve("one")
        path = [p for p in glob.glob(f"/sys/fs/cgroup/**/{node.cgroup_name}/cpu.shares",
                                     recursive=True) +
                glob.glob(f"/sys/fs/cgroup/**/{node.cgroup_name}/cpu.weight", recursive=True)][0]

        def weight():
            with open(path, encoding="ascii") as file:
                return int(file.read())

        def scaled(n):
            return n * 1024 // 100 if V1 else n
        assert weight() == scaled(100)
        node.terem("set", "one", "cpu.guarantee=10")
        assert weight() == scaled(100 * (100 * len(CORES) - 50) // 50)
        node.kill()
        node.start()
        assert weight() == scaled(100 * (100 * len(CORES) - 50) // 50)
        node.terem("stop", "one", "--force")  # a promise all the same
        assert weight() > scaled(100)
        node.terem("destroy", "one")
        assert weight() == scaled(100)


def test_a_profile_with_cores(node):
    """What one may have and two may not is refused for all of them."""
    pids = [node.ve(name, profile="small")["pid"] for name in ("one", "two")]
    said = node.terem("profile", "set", "small", f"cpu.cores={LAST}-{LAST},exclusive", check=False)
    assert said.returncode == 1 and f"core {LAST} is exclusive to" in said.stderr, said
    assert [kernel(pid) for pid in pids] == [ALL, ALL]
    node.terem("profile", "set", "small", "cpu.cores=1")
    assert sorted(map(kernel, pids)) == ["0", "1"]


def test_time_without_a_processor(node):
    """Its limit makes it wait, and the wait is counted; without PSI it is not counted, and said so."""
    node.ve("web1", params={"cpu.limit": "1"})
    node.sh("web1", "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done", timeout=120)
    usage = node.show("web1")["usage"]
    shown = node.terem("show", "web1").stdout
    counted = os.path.exists("/proc/pressure/cpu")
    if counted:
        assert usage["steal"] > 100 and "without a processor" in shown, (usage, shown)
    else:
        assert usage["steal"] is None and "not counted on this kernel" in shown, (usage, shown)
    assert 0 < usage["uptime"] < 10 ** 7
    for key in ("uptime", "steal", "pressure"):
        done = node.terem("set", "web1", f"{key}=1", check=False)
        assert done.returncode == 2 and f"{key} is a counter and cannot be set" in done.stderr
