# SPDX-License-Identifier: GPL-2.0-or-later
"""`far`: a host beyond this one, for what VEs send out and get."""
import contextlib
import fcntl
import os
import subprocess

import pytest

LISTEN = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
s.bind((sys.argv[1], int(sys.argv[2])))
print("up", flush=True)
sys.stdin.readline()
s.settimeout(0.3)
n = 0
try:
    while True:
        s.recv(10)
        n += 1
except TimeoutError:
    print(n, flush=True)
"""


def enter(where):
    """Into the network namespace of a process, or of one that has a name; None: none."""
    return [] if where is None else ["nsenter", f"--net=/proc/{where}/ns/net"] if isinstance(where, int) else \
        ["ip", "netns", "exec", where]


class Far:
    """A host of its own beyond a veth of this machine; it goes away with the fixture."""

    def __init__(self, space, link, net=79, length=30):
        self.space, self.link = space, link
        self.address, self.address6 = f"198.18.{net}.2", f"fd5f:{net}::2"
        here, here6 = f"198.18.{net}.1", f"fd5f:{net}::1"
        run = lambda *a: subprocess.run(a, check=True, capture_output=True, text=True)
        others = run("ip", "-br", "addr", "show", "to", f"198.18.{net}.0/{length}").stdout
        assert not others, f"another run has the far host's addresses, or left them: {others}"
        try:
            run("ip", "netns", "add", space)
            run("ip", "link", "add", link, "type", "veth", "peer", "name", "far0", "netns", space)
            run("ip", "addr", "add", f"{here}/{length}", "dev", link)
            run("ip", "link", "set", link, "up")
            run("ip", "-n", space, "addr", "add", f"{self.address}/{length}", "dev", "far0")
            run("ip", "addr", "add", here6 + "/64", "dev", link, "nodad")
            run("ip", "-n", space, "addr", "add", self.address6 + "/64", "dev", "far0", "nodad")
            run("ip", "-n", space, "link", "set", "far0", "up")
            run("ip", "-n", space, "route", "add", "default", "via", here)
            run("ip", "-n", space, "-6", "route", "add", "default", "via", here6)
        except subprocess.CalledProcessError:
            self.close()
            raise

    def close(self):
        subprocess.run(["ip", "netns", "del", self.space], check=False)
        subprocess.run(["ip", "link", "del", self.link], check=False, capture_output=True)

    def received(self, port, send):
        """How many datagrams arrive of those that send() sends."""
        with subprocess.Popen(["ip", "netns", "exec", self.space, "/usr/bin/python3", "-c", LISTEN,
                               self.address, str(port)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as listener:
            try:
                assert listener.stdout.readline() == "up\n"
                send()
                listener.stdin.write("\n")
                listener.stdin.flush()
                return int(listener.stdout.readline())
            finally:
                listener.kill()


@contextlib.contextmanager
def far_alone():
    """Its addresses are this machine's: who else runs tests or benches here has them only
    afterwards."""
    number = os.getpid() % 10000
    lock = os.open("/sys/class/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        host = Far(f"terem-out{number}", f"teremo{number}")
        try:
            yield host
        finally:
            host.close()
    finally:
        os.close(lock)


@pytest.fixture
def far():
    with far_alone() as host:
        yield host
