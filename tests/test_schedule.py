# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots by the clock: teremd has a clock of its own here, which the test sets."""
import datetime
import os
import shutil
import subprocess
import time

import pytest

from events import Events
from node import Node, wait_for
from test_recovery import settle

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
/* The real time and the seconds that stand in the file $TEREM_TEST_CLOCK. */
int clock_gettime(clockid_t clock, struct timespec *ts)
{
    static int (*real)(clockid_t, struct timespec *);
    const char *path = getenv("TEREM_TEST_CLOCK");
    char text[32] = "";
    int fd;
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int r = real(clock, ts);
    if (r == 0 && clock == CLOCK_REALTIME && path && (fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0) {
        if (read(fd, text, sizeof(text) - 1) > 0)
            ts->tv_sec += atoll(text);
        close(fd);
    }
    return r;
}
"""

pytestmark = [
    pytest.mark.skipif(not shutil.which("cc"), reason="no compiler here to make a clock with"),
    pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="the sanitizer wants to be loaded first")]


class Clock:
    def __init__(self, folder):
        self.file, source = os.path.join(folder, "offset"), os.path.join(folder, "clock.c")
        self.library = os.path.join(folder, "clock.so")
        with open(source, "w", encoding="ascii") as file:
            file.write(CLOCK)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", self.library, source, "-ldl"], check=True)

    def set(self, *when):
        """Local time of the node, from now on."""
        offset = datetime.datetime(*when, tzinfo=datetime.timezone.utc).timestamp() - time.time()
        with open(self.file + ".new", "w", encoding="ascii") as file:
            file.write(f"{round(offset)}")
        os.rename(self.file + ".new", self.file)

    def minute(self):
        with open(self.file, encoding="ascii") as file:
            now = datetime.datetime.fromtimestamp(time.time() + int(file.read()), datetime.timezone.utc)
        return now.strftime("%H:%M")


@pytest.fixture
def clock(tmp_path):
    return Clock(str(tmp_path))


@pytest.fixture
def node(build, clock):
    clock.set(2026, 11, 21, 20, 59, 30)
    with Node(build, wrapper=["env", "TZ=UTC0", f"LD_PRELOAD={clock.library}",
                              f"TEREM_TEST_CLOCK={clock.file}"]) as node:
        yield node


def names(node, ve="web1"):
    return [s["name"] for s in node.ok("GET", f"/v1/ves/{ve}/snapshots")]


def wait_names(node, wanted, ve="web1"):
    wait_for(lambda: names(node, ve) == wanted, lambda: (names(node, ve), wanted, node.words()))


def test_at_the_full_hour(node, clock):
    """The timer is armed for the hour, and not before; of a VE that runs."""
    node.ve("web1")
    node.terem("snapshot", "schedule", "web1", "--hourly", "3")
    assert node.show("web1")["schedule"] == {"hourly": 3}
    assert names(node) == []
    with Events(node) as events:
        events.begin("web1")
        # teremd's timer counts real time: it is armed anew when the schedule is set again.
        clock.set(2026, 11, 21, 20, 59, 50)
        node.terem("snapshot", "schedule", "web1", "--hourly", "2")
        assert names(node) == []
        events.wait("snapshot.created", ve="web1", schedule="hourly")
    assert names(node) == ["hourly-20261121-2100"]
    [snapshot] = node.ok("GET", "/v1/ves/web1/snapshots")
    assert snapshot["schedule"] == "hourly" and snapshot["current"]
    assert node.state("web1") == "running"


def test_a_restored_one_has_it(node, clock, tmp_path):
    """Its timer is armed though nobody else has a schedule any more."""
    file = str(tmp_path / "web1.tzst")
    node.ve("web1", start=False)
    node.ok("PATCH", "/v1/ves/web1", {"schedule": {"hourly": 2}})
    node.terem("backup", "web1", file)
    node.ok("PATCH", "/v1/ves/web1", {"schedule": None})
    for turn in range(10):
        clock.set(2026, 11, 21, 20, 59, 50)
        node.terem("restore", file, f"back{turn}")
        if clock.minute() == "20:59":  # else it is for the next hour
            break
    assert node.show(f"back{turn}")["schedule"] == {"hourly": 2}
    wait_for(lambda: names(node, f"back{turn}") == ["hourly-20261121-2100"])


def restart_at(node, clock, *when):
    """Some seconds after that time."""
    node.kill()
    clock.set(*when, 5)
    node.start()
    settle(node)


def test_missed_ones_and_how_many_are_kept(node, clock):
    node.ve("web1", start=False)
    node.job("POST", "/v1/ves/web1/snapshots", {"name": "own"})
    node.ok("PATCH", "/v1/ves/web1", {"schedule": {"hourly": 2, "daily": 1, "weekly": 1}})
    # Three hours were missed: one is taken.
    restart_at(node, clock, 2026, 11, 21, 23, 20)
    assert names(node) == ["own", "hourly-20261121-2320"]
    restart_at(node, clock, 2026, 11, 21, 23, 50)
    assert names(node) == ["own", "hourly-20261121-2320"]
    # An hour and a day are due: one snapshot serves both.
    restart_at(node, clock, 2026, 11, 22, 0, 10)
    assert names(node) == ["own", "hourly-20261121-2320", "daily-20261122-0010"]
    restart_at(node, clock, 2026, 11, 22, 1, 0)
    restart_at(node, clock, 2026, 11, 22, 2, 0)
    assert names(node) == ["own", "daily-20261122-0010", "hourly-20261122-0100",
                           "hourly-20261122-0200"]
    # The week: the day's stays, though it was that day's, too.
    restart_at(node, clock, 2026, 11, 23, 0, 1)
    assert names(node) == ["own", "daily-20261122-0010", "hourly-20261122-0100",
                           "hourly-20261122-0200", "weekly-20261123-0001"]
    restart_at(node, clock, 2026, 11, 24, 0, 0)
    assert names(node) == ["own", "hourly-20261122-0100", "hourly-20261122-0200",
                           "weekly-20261123-0001", "daily-20261124-0000"]
    # They hang on each other still: what went was re-parented.
    parents = {s["name"]: s["parent"] for s in node.ok("GET", "/v1/ves/web1/snapshots")}
    assert parents["own"] is None and parents["hourly-20261122-0100"] == "own"
    # A clock that was set back does not stop it for good.
    restart_at(node, clock, 2026, 11, 20, 5, 30)
    assert names(node)[-1] == "weekly-20261120-0530"
    node.terem("snapshot", "schedule", "web1", "--off")
    before = names(node)
    restart_at(node, clock, 2026, 12, 24, 12, 0)
    assert names(node) == before and node.show("web1")["schedule"] is None


def test_many_at_once(node, clock):
    """All come, a few at a time; a VE that is busy has its turn when it is not."""
    ves = [f"web{n}" for n in range(6)]
    for name in ves:
        node.ve(name, start=False)
        node.ok("PATCH", f"/v1/ves/{name}", {"schedule": {"hourly": 1}})
    node.kill()
    clock.set(2026, 11, 21, 22, 0, 1)
    node.start()
    for name in ves:
        wait_names(node, ["hourly-20261121-2200"], name)
    settle(node)


def test_failure_is_told_and_tried_again(node, clock):
    node.ve("web1", start=False)
    node.ok("PATCH", "/v1/ves/web1", {"schedule": {"hourly": 5}})
    number = node.show("web1")["id"]
    tree, away = (os.path.join(node.pool(), name) for name in (str(number), "away"))
    os.rename(tree, away)
    with Events(node) as events:
        events.begin("web1")
        clock.set(2026, 11, 21, 21, 59, 50)
        node.ok("PATCH", "/v1/ves/web1", {"schedule": {"hourly": 4}})
        failed = events.wait("snapshot.failed", ve="web1", schedule="hourly")
    assert failed["text"] and names(node) == []
    os.rename(away, tree)
    time.sleep(0.5)
    assert names(node) == []  # not before its next time
    restart_at(node, clock, 2026, 11, 21, 23, 0)
    wait_names(node, ["hourly-20261121-2300"])


def test_bad_values(node):
    node.ve("web1", start=False)
    for bad in ({"hourly": -1}, {"hourly": 1001}, {"hourly": "1"}, {"monthly": 1}, [], "daily"):
        assert node.api("PATCH", "/v1/ves/web1", {"schedule": bad}).error == "usage", bad
    wrong = node.terem("snapshot", "schedule", "web1", "--off", "--daily", "3", check=False)
    assert wrong.returncode == 2
    assert "none" in node.terem("snapshot", "schedule", "web1").stdout
