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
