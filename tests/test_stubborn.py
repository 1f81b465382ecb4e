# SPDX-License-Identifier: GPL-2.0-or-later
"""VEs and clients that do not do their part: a stop, a kill and the disk must not depend on them."""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time

from node import Node

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
        deadline = time.monotonic() + 10
        while "yes" not in node.sh("flood", "ps"):
            assert time.monotonic() < deadline
        node.job("POST", "/v1/ves/flood/kill")
        assert node.state("flood") == "stopped"


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
    node.job("POST", "/v1/ves/ox/stop", {"timeout": 1}, timeout=60)
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


def test_a_full_disk_does_not_keep_ves_from_stopping(build):
    node = Node(build, root=tempfile.mkdtemp(prefix="terem-", dir="/tmp"))
    lib = os.path.join(node.root, "lib")
    os.mkdir(lib)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "terem", lib], check=True)
    try:
        node.start()
        node.ve("full")
        node.ve("other")
        fill_up(os.path.join(lib, "filler"))
        node.job("POST", "/v1/ves/full/kill")
        assert node.state("full") == "stopped"
        node.job("POST", "/v1/ves/other/stop", {"timeout": 2})
        assert node.state("other") == "stopped"
        refused = node.api("POST", "/v1/ves/full/start?wait=true")
        assert refused.status == 507, refused
        assert "goes on without its record" in node.words(10000)
        os.unlink(os.path.join(lib, "filler"))
        node.job("POST", "/v1/ves/full/start")
        node.kill()
        node.start()
        assert node.state("full") == "running"
        assert node.state("other") == "stopped"
    finally:
        left = node.close()
        subprocess.run(["umount", lib], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(node.root)
    assert [line for line in left if not line.startswith(("mount ", "teremd said"))] == []


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


def test_a_restart_loop_is_stopped(node):
    """Between two tries by its restart policy a VE is stopped, but stop still has something to do."""
    node.ve("loop", kind="app", restart="always", command=["/bin/sh", "-c", "exit 3"])
    deadline = time.monotonic() + 20
    while not node.show("loop")["restart_at"] or node.state("loop") != "stopped":
        assert time.monotonic() < deadline
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
        deadline = time.monotonic() + 20
        while "65536 kB" not in node.sh("seen", "grep MemTotal /proc/meminfo", check=False):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        node.ve("later", params={"memory.limit": "32M"})
        assert "32768 kB" in node.sh("later", "grep MemTotal /proc/meminfo")
    finally:
        for client in idle:
            client.close()
