# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine comes up: the VEs with autostart are started, the highest priority first, and those that are up
already go on answering."""
import contextlib
import http.client
import os
import sqlite3
import subprocess
import threading

import pytest

from node import PATIENCE, Node, wait_for

MANY = 48
CALM, STALLED = "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", "full avg10=50.00 avg60=9.00 avg300=1.00 total=9\n"
INSTEAD = """
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int openat64(int dir, const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    return syscall(SYS_openat, dir, strcmp(path, "/proc/pressure/memory") ? path : SAID, flags, mode);
}
"""


def boot(node):
    """As after the machine's start: teremd finds that another one was the last it ran on."""
    node.kill()
    with contextlib.closing(sqlite3.connect(os.path.join(node.root, "lib/registry.db"))) as registry, registry:
        registry.execute("UPDATE meta SET value = 'an earlier one' WHERE key = 'boot'")
    node.start()


def make(node):
    """VEs with autostart, made in another order than that of their priorities; their names by those."""
    node.template()
    for n in range(MANY):
        priority = n * 29 % MANY
        node.ok("POST", "/v1/ves", {"name": f"p{priority:02}", "template": "busybox", "autostart": True,
                                    "priority": priority})
    return [f"p{priority:02}" for priority in reversed(range(MANY))]


def begun(node, names):
    """Their starts, in the order in which they were begun, when all have ended."""
    whole = next(job["id"] for job in node.ok("GET", "/v1/jobs?all=true") if job["kind"] == "bulk")
    result = node.ok("GET", f"/v1/jobs/{whole}?wait=true")["result"]
    assert result["done"] == len(names) and not result["failed"], result
    starts = [job for job in node.ok("GET", f"/v1/jobs?all=true&limit={4 * MANY}")
              if job["kind"] == "start" and job["id"] > whole]
    return sorted(starts, key=lambda job: job["id"])


class Asking:
    """Within the block a VE is asked for its page, again and again; each time it must answer."""

    def __init__(self, address):
        self.address, self.answered, self.failure = address, 0, None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.ask)

    def ask(self):
        try:
            while not self.over.wait(0.005):
                with contextlib.closing(http.client.HTTPConnection(self.address, 80, timeout=PATIENCE)) as line:
                    line.request("GET", "/")
                    assert line.getresponse().read() == b"hello\n"
                self.answered += 1
        except BaseException as cause:  # pylint: disable=broad-exception-caught
            self.failure = cause

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *unused):
        self.over.set()
        self.thread.join()
        if self.failure:
            raise self.failure


def test_by_priority_beside_one_that_is_up(node):
    names = make(node)
    pid = node.ve("up")["pid"]
    node.sh("up", "mkdir /www && echo hello >/www/index.html && httpd -h /www -p 80")
    with Asking(node.show("up")["addresses"][0]) as asking:
        wait_for(lambda: asking.answered)
        boot(node)
        before = asking.answered
        assert [job["subject"] for job in begun(node, names)] == names
        assert asking.answered > before  # it was asked while they were started
    assert node.show("up")["pid"] == pid and {node.state(name) for name in names} == {"running"}


@pytest.fixture
def stalls(build, tmp_path):
    """A node that reads of the machine's memory what stands in a file.  (Nothing can lie over a file of /proc
    where VEs are to have a /proc of their own.)"""
    said, code, shim = tmp_path / "memory", tmp_path / "shim.c", tmp_path / "shim.so"
    said.write_text(CALM)
    code.write_text(INSTEAD)
    subprocess.run(["cc", "-shared", "-fPIC", f'-DSAID="{said}"', "-o", shim, code], check=True)
    with Node(build, wrapper=["env", f"LD_PRELOAD={shim}"]) as node:
        node.said = said
        yield node


def test_one_after_the_other_where_memory_stalls(stalls):
    """Whoever is up and waits for memory has what there is; on a calm machine several are started at once."""
    names = make(stalls)

    def at_once():
        """Starts that were begun before the one ahead of them had ended."""
        starts = begun(stalls, names)
        assert [job["subject"] for job in starts] == names
        return sum(after["started"] < before["ended"] for before, after in zip(starts, starts[1:]))
    boot(stalls)
    assert at_once() > 0
    stalls.terem("stop", "--all", "--force")
    stalls.said.write_text(STALLED)
    boot(stalls)
    assert at_once() == 0
