# SPDX-License-Identifier: GPL-2.0-or-later
"""Huge pages, kernel memory and socket buffers: counted, limited where the kernel can."""
import os
import shutil
import subprocess

import pytest

from events import Events
from node import wait_for

PAGES = "/proc/sys/vm/nr_hugepages"
PROGRAM = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int n, char **arg)
{
    size_t size = strtoul(arg[1], NULL, 10) << 20;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    if (p == MAP_FAILED)
        return printf("%s\n", strerror(errno)), 1;
    memset(p, 1, size);
    puts("held");
    fflush(stdout);
    if (n > 2)
        pause();
    return 0;
}
"""


@pytest.fixture
def pages():
    """Four huge pages for a moment."""
    if not os.path.exists("/sys/kernel/mm/hugepages/hugepages-2048kB"):
        pytest.skip("this machine has no huge pages of 2M")
    with open(PAGES, encoding="ascii") as file:
        before = file.read().strip()
    try:
        with open(PAGES, "w", encoding="ascii") as file:
            file.write(str(int(before) + 4))
        with open(PAGES, encoding="ascii") as file:
            if int(file.read()) < int(before) + 4:
                pytest.skip("there is no room for four huge pages")
        yield
    finally:
        with open(PAGES, "w", encoding="ascii") as file:
            file.write(before)


@pytest.fixture
def program(tmp_path):
    if not shutil.which("cc"):
        pytest.skip("there is no compiler")
    source, out = tmp_path / "huge.c", tmp_path / "huge"
    source.write_text(PROGRAM)
    subprocess.run(["cc", "-static", "-o", out, source], check=True)
    return str(out)


def test_hugepages(node, pages, program):
    node.ve("web1", params={"hugepages.limit": "0"})
    node.terem("push", "web1", program, "/root/huge")
    with Events(node) as events:
        events.begin("web1")
        done = node.run("web1", "/root/huge", "2", check=False)
        assert done["stdout"] == "Cannot allocate memory\n", done
        assert node.counter("web1", "hugepages.limit")["failcnt"] == 1
        told = events.wait("ve.refused", ve="web1", key="hugepages.limit")
        assert told["count"] == 1 and told["process"] is None, told
        assert told["text"] == "hugepages.limit 0 is reached", told
        events.seen.clear()
        node.terem("set", "web1", "hugepages.limit=5M")  # rounded down to whole pages
        assert node.run("web1", "/root/huge", "4")["stdout"] == "held\n"
        assert node.run("web1", "/root/huge", "6", check=False)["stdout"] == "Cannot allocate memory\n"
        events.wait("ve.refused", ve="web1", key="hugepages.limit", count=1)
    node.sh("web1", "/root/huge 4 stay >/dev/null 2>&1 </dev/null &")
    wait_for(lambda: node.counter("web1", "hugepages.limit")["held"] == 4 << 20)
    now = node.counter("web1", "hugepages.limit")
    assert now["limit"] == 5 << 20 and now["failcnt"] == 2, now
    node.terem("set", "web1", "hugepages.limit=unlimited")
    node.run("web1", "/bin/busybox", "killall", "huge")


def buffers(node, name, **params):
    """What one TCP socket of a VE may have: least, default and most, for each direction."""
    if params:
        node.ve(name, params={key.replace("_", "."): value for key, value in params.items()})
    text = node.sh(name, "cd /proc/sys/net/ipv4 && cat tcp_rmem tcp_wmem").splitlines()
    return {key: [int(n) for n in line.split()] for key, line in zip(("tcp_rmem", "tcp_wmem"), text)}


def test_kernel_memory_and_sockets_are_counted(node):
    node.ve("web1", params={"memory.limit": "64M"})
    kernel = node.counter("web1", "memory.kernel")
    assert kernel["held"] > 0 and kernel["limit"] is None, kernel
    refused = node.terem("set", "web1", "memory.kernel=8M", check=False)
    assert "memory.kernel is a counter and cannot be set" in refused.stderr, refused
    sockets = node.counter("web1", "memory.sockets")
    assert sockets["held"] is not None
    whole = buffers(node, "web1")
    assert whole["tcp_rmem"][2] > 1 << 18
    node.terem("set", "web1", "memory.sockets=1M")
    capped = buffers(node, "web1")
    assert {key: min(n) for key, n in capped.items()} == {key: min(n) for key, n in whole.items()}
    assert all(n[2] == 1 << 18 and n[1] <= 1 << 18 for n in capped.values()), capped
    checks = {c["name"]: c["ok"] for c in node.ok("GET", "/v1/doctor")["checks"]}
    wider = "echo 4096 131072 33554432 >/proc/sys/net/ipv4/tcp_rmem"
    if checks["BPF on cgroups"]:
        assert "not permitted" in node.sh("web1", f"({wider}) 2>&1; true")
        assert buffers(node, "web1") == capped
    node.terem("set", "web1", "memory.sockets=unlimited")
    assert buffers(node, "web1") == whole
    node.sh("web1", wider)  # without a limit they are the VE's own
    assert buffers(node, "born", memory_sockets="256K")["tcp_wmem"][2] == 1 << 16
    if not os.path.exists("/sys/fs/cgroup/memory/memory.kmem.tcp.limit_in_bytes"):
        return
    node.terem("set", "web1", "memory.sockets=1M")
    top = f"/sys/fs/cgroup/memory/{node.cgroup_name}/ve-{node.show('web1')['id']}/"

    def tcp():
        with open(top + "memory.kmem.tcp.limit_in_bytes", encoding="ascii") as file:
            return int(file.read())
    assert tcp() == 1 << 20
    node.terem("set", "web1", "memory.sockets=unlimited")
    assert tcp() == 64 << 20  # memory.limit holds them, too
