# SPDX-License-Identifier: GPL-2.0-or-later
"""Ports of the machine that lead to VEs."""
import json
import signal
import socket
import subprocess

import pytest

from far import far  # noqa: F401, a fixture
from node import wait_for
from test_addresses import answering, ask, nobody, pid

BEHIND = 7100  # where who is answering listens


@pytest.fixture
def here(far):
    """An address of this machine that the far host knows."""
    return far.address.rsplit(".", 1)[0] + ".1"


def free_port():
    with socket.create_server(("", 0)) as s:
        return s.getsockname()[1]


def leads(node):
    return {p["id"]: (p["ve"], p["to"]) for p in node.ok("GET", "/v1/network/ports")}


def test_published(node, far, here):
    node.ve("web1")
    node.ve("web2")
    port = free_port()
    with answering(pid(node, "web1")):
        assert nobody(far.space, here, port)
        said = node.terem("publish", "web1", f"{port}:{BEHIND}").stdout
        assert said == f"tcp:{port}: leads to port {BEHIND} of web1, by this machine's addresses, not by localhost\n"
        assert f"\nports       tcp:{port} to port {BEHIND}\n" in node.terem("show", "web1").stdout
        assert "\nports " not in node.terem("show", "web2").stdout
        assert node.json("network", "ports") == [
            {"id": f"tcp:{port}", "protocol": "tcp", "address": None, "port": port, "ve": "web1", "to": BEHIND}]
        assert ask(far.space, here, port) == far.address
        assert ask(None, here, port) == here
        assert ask(pid(node, "web2"), here, port) == node.show("web2")["addresses"][0]
        itself = ask(pid(node, "web1"), here, port)  # as this machine: else the answer would not leave it
        assert subprocess.check_output(["ip", "route", "get", itself], text=True).startswith("local ")
    # It is the VE's, not its process's; and whoever begins again.
    node.terem("restart", "web1")
    node.daemon.send_signal(signal.SIGKILL)
    node.daemon.wait()
    node.start()
    with answering(pid(node, "web1")):
        assert ask(far.space, here, port) == far.address
        subprocess.run(["nft", "delete", "table", "inet", f"terem_{node.number}"], check=True)
        wait_for(lambda: ask(far.space, here, port) == far.address)
        node.terem("unpublish", str(port))
        assert nobody(far.space, here, port) and leads(node) == {}
    with socket.create_server(("", port)):
        pass  # it is free again


def test_one_address(node, far, here):
    node.ve("web1")
    node.ve("web2")
    port = free_port()
    node.terem("publish", "web1", f"{here}:{port}:{BEHIND}")
    other = next(at["local"] for link in json.loads(subprocess.run(
        ["ip", "-j", "-4", "address", "show", "up"], check=True, capture_output=True).stdout)
        for at in link["addr_info"] if link["ifname"] != "lo" and at["local"] != here)
    node.terem("publish", "web2", f"{other}:{port}:{BEHIND}")
    with answering(pid(node, "web1")):
        assert ask(far.space, here, port) == far.address
    # A VE that goes takes its ports with it.
    node.terem("destroy", "web1", "--force")
    assert leads(node) == {f"tcp:{other}:{port}": ("web2", BEHIND)}
    node.terem("unpublish", f"tcp:{other}:{port}")
    assert leads(node) == {}


def test_what_is_refused(node, here):
    node.ve("web1", start=False)
    with socket.create_server(("", 0)) as mine:
        taken = mine.getsockname()[1]
        for words, args in [
                (f"a program of this machine has port {taken}/tcp", ("web1", f"{taken}:80")),
                ("does not have the address 192.0.2.77", ("web1", "192.0.2.77:8000:80")),
                ("none: there is no such VE", ("none", "8000:80")),
                ("is no port such as 80:8080", ("web1", "80")),
                ("is no port such as 80:8080", ("web1", "0:80")),
                ("is no port such as 80:8080", ("web1", "70000:80")),
                ("is no port such as 80:8080", ("web1", "80:80/icmp")),
                ("a loopback address leads to no VE", ("web1", "127.0.0.1:8000:80")),
                ("a loopback address leads to no VE", ("web1", "[::1]:8000:80")),
                ("is not an address", ("web1", "x:80:80"))]:
            failed = node.terem("publish", *args, check=False)
            assert failed.returncode != 0 and words in failed.stderr, (args, failed)
    port = free_port()
    node.terem("publish", "web1", f"{port}:80/udp")
    again = node.terem("publish", "web1", f"{here}:{port}:81/udp", check=False)
    assert f"udp:{port} leads to port 80 of web1 already; terem unpublish udp:{port} frees it" in again.stderr
    assert leads(node) == {f"udp:{port}": ("web1", 80)}
    gone = node.terem("unpublish", "1", check=False)
    assert "tcp:1 is not published; terem network ports shows what is" in gone.stderr
