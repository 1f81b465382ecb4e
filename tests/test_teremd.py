# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon itself: how it is started, told, watched and burdened with clients."""
import json
import os
import re
import socket
import subprocess
import time

from node import PATIENCE, Node, memory, traced, wait_for

import pytest

DAEMON = "src/programs/teremd/teremd"


def test_help_and_version(build):
    for option, word in (("--help", "usage:"), ("--version", "teremd ")):
        done = subprocess.run([os.path.join(build, DAEMON), option], capture_output=True, text=True,
                              timeout=20, check=True)
        assert done.stdout.startswith(word) and not done.stderr


@pytest.mark.parametrize("line,words", [
    ("workes = 2", ["line 1", "did you mean workers"]),
    ("workers = 0", ["line 1", "workers"]),
    ("workers = many", ["line 1", "many"]),
    ("lxcfs = lxcfs", ["line 1", "absolute"]),
    ("log.level = loud", ["line 1", "loud"]),
    ("workers = 2\nworkers = 3", ["line 2", "twice"]),
    ("just words", ["line 1"]),
])
def test_settings_are_read_strictly(build, tmp_path, line, words):
    conf = tmp_path / "some.conf"
    conf.write_text(line + "\n")
    done = subprocess.run([os.path.join(build, DAEMON), "--root", str(tmp_path), "--config", str(conf)],
                          capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2, done
    assert len(done.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in done.stderr


def test_a_settings_file_that_is_asked_for_must_be_there(build, tmp_path):
    done = subprocess.run([os.path.join(build, DAEMON), "--root", str(tmp_path), "--config", "/none"],
                          capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1 and "/none" in done.stderr


def test_tells_systemd(node, monkeypatch, tmp_path):
    """READY=1 comes when the socket answers, STOPPING=1 at the end."""
    node.term()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(PATIENCE)
        node.wrapper = ["env", f"NOTIFY_SOCKET={tmp_path}/notify"]
        node.spawn()
        assert told.recv(100) == b"READY=1"
        assert node.ok("GET", "/v1")
        node.term()
        assert told.recv(100) == b"STOPPING=1"
    node.wrapper = []
    node.start()


def test_a_passed_socket(node, tmp_path):
    """Socket activation: it answers where systemd listens, and leaves that socket alone."""
    node.term()
    own, path = node.socket, str(tmp_path / "passed")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        os.set_inheritable(listening.fileno(), True)
        script = f'exec 3<&{listening.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
        with open(node.log, "ab") as log:
            node.daemon = subprocess.Popen(
                ["bash", "-c", script, "bash", node.program, "--root", node.root], stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
                pass_fds=[listening.fileno()])
        node.socket = path
        node.wait_answer()
        assert not os.path.exists(own)
        assert node.term() == 0
        assert os.path.exists(path)
    node.socket = own
    node.start()


def calls(node, seconds=3):
    """System calls of teremd, but for those by which it waits and hears what the kernel tells everybody: its
    log, and the packet rules of others.  A wait that ended by its own time is one: it had something to do."""
    log = os.path.join(node.root, "calls")
    with traced(node, log, "-yy", "-f"):
        time.sleep(seconds)
    with open(log, encoding="utf-8", errors="replace") as file:
        return [line for line in file if re.search(r"epoll_wait.* = 0$", line) or not re.search(
            r"/dev/kmsg|<NETLINK:|^\d+ +(epoll_wait|futex|restart_syscall)\(|resumed|strace: ", line)]


def test_idle_is_idle(build):
    """With a VE that runs: it does nothing at all while nobody looks, but for its log of usage.  Where the
    kernel does not tell of refused forks, a client that waits for events costs one look a second
    (ve/refusal.c)."""
    with Node(build, usage_interval="1h") as node:
        node.ve("web1")
        # What a start, or a client that comes, leaves to be done ends before.
        wait_for(lambda: not calls(node), lambda: calls(node))
        assert calls(node) == []
        line = node.connection()
        line.request("GET", "/v1/events")
        line.getresponse()

        def looks():
            return sum('"ve-' in call for call in calls(node))
        wait_for(lambda: looks() <= 4, lambda: calls(node))
        assert looks() <= 4
        line.close()


def knock(path):
    """A connection, or None when nobody opens within five seconds."""
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(20)
    for _ in range(500):
        try:
            line.connect(path)
            return line
        except BlockingIOError:
            time.sleep(0.01)
    line.close()
    return None


def test_many_clients(node):
    """More clients than there is room for: they wait for their turn, and nobody is lost."""
    lines = []
    try:
        for _ in range(700):
            line = knock(node.socket)
            if not line:
                break
            lines.append(line)
        assert len(lines) > 500
        for line in lines[:400]:
            line.sendall(b"GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n")
        for line in lines[:400]:
            assert line.recv(4096).startswith(b"HTTP/1.1 200")
    finally:
        for line in lines:
            line.close()
    line = knock(node.socket)
    assert line, "nobody opens any more"
    line.close()
    assert node.ok("GET", "/v1")
    wait_for(lambda: memory(node.daemon.pid) <= 24 * 1024, lambda: memory(node.daemon.pid))


def test_a_deaf_subscriber(node):
    """It holds nobody up, and is told how much it missed when it listens again."""
    node.ve("web1", start=False)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(node.socket)
        deaf.settimeout(PATIENCE)
        deaf.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert deaf.recv(8) == b"HTTP/1.1"
        size = memory(node.daemon.pid, "Rss")
        for number in range(1500):  # 3 MiB: what teremd keeps of events is one (api/feed.h)
            node.ok("PATCH", "/v1/ves/web1", {"labels": {f"n{i}": f"{number:0250}" for i in range(8)}})
        assert memory(node.daemon.pid, "Rss") < size + 4096
        text = b""
        while b"events.lost" not in text:
            more = deaf.recv(65536)
            assert more
            text += more
        line = next(part for part in text.splitlines() if b"events.lost" in part)
        assert json.loads(line)["count"] > 100


def test_the_document_is_openapi(shared):
    """By openapi-spec-validator where it is; each schema by jsonschema; names within it always."""
    document = shared.ok("GET", "/v1/openapi.json")
    schemas = document["components"]["schemas"]
    names = set()

    def walk(value):
        if isinstance(value, dict):
            if "$ref" in value:
                names.add(value["$ref"].rsplit("/", 1)[1])
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(document)
    assert names <= set(schemas)
    ids = [operation["operationId"] for item in document["paths"].values()
           for operation in item.values()]
    assert len(ids) == len(set(ids))
    for path, item in document["paths"].items():
        for operation in item.values():
            inside = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert inside == {part[1:-1] for part in path.split("/") if part.startswith("{")}
            assert operation["responses"]
    try:
        import jsonschema
    except ImportError:
        pytest.skip("python3-jsonschema is not installed: only the names were checked")
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    shape = {"$ref": "#/components/schemas/Ve", "components": document["components"]}
    shared.template()
    if shared.api("GET", "/v1/ves/shaped").status == 404:
        shared.ve("shaped", start=False)
    for path, name in (("/v1", "Node"), ("/v1/doctor", "Doctor"), ("/v1/params", "ParamList"),
                       ("/v1/ves", "VeList"), ("/v1/ves/shaped", "Ve"),
                       ("/v1/templates", "TemplateList"), ("/v1/jobs?all=true", "JobList")):
        jsonschema.Draft202012Validator(
            {**shape, "$ref": f"#/components/schemas/{name}"}).validate(shared.ok("GET", path))
    try:
        import openapi_spec_validator
    except ImportError:
        return
    openapi_spec_validator.validate(document)


def test_what_is_alike_is_each_ones_own(node):
    """What was asked for VEs alike is kept once: who changes one changes no other."""
    for name in ("web1", "web2", "web3"):
        node.ve(name, start=False, labels={"tier": "front"}, params={"processes": "100"})
    node.job("POST", "/v1/ves/web1/snapshots", {"name": "one"})
    node.kill()
    node.start()
    told = {name: node.show(name) for name in ("web2", "web3")}
    for change in ({"labels": {"tier": "back"}}, {"params": {"processes": "50"}}, {"schedule": {"daily": 2}},
                   {"restart": "always"}):
        node.ok("PATCH", "/v1/ves/web1", change)
        assert {name: node.show(name) for name in told} == told, change
    node.job("POST", "/v1/ves/web1/rollback", {"snapshot": "one"})
    node.job("POST", "/v1/ves/web2/clone", {"name": "web4", "labels": {"tier": "new"}})
    node.job("DELETE", "/v1/ves/web3")
    node.kill()
    node.start()
    assert node.show("web2") == told["web2"]
    assert node.show("web1")["labels"] == {"tier": "back"} and node.show("web4")["labels"] == {"tier": "new"}
