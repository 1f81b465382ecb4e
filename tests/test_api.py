# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTTP interface: its document, its errors, long work, events, and strangers at the door."""
import json
import os
import re
import select
import socket
import stat
import threading
import time

import pytest

from node import PATIENCE, together, wait_for


def test_document_and_routes_agree(shared):
    document = shared.ok("GET", "/v1/openapi.json")
    assert document["openapi"].startswith("3.1")
    described = {(method.upper(), re.sub(r"\{[^}]*\}", "{}", path))
                 for path, item in document["paths"].items()
                 for method in item if method in ("get", "post", "put", "patch", "delete")}
    with open(os.path.join(os.path.dirname(__file__), "..", "docs", "api.md"),
              encoding="utf-8") as file:
        text = file.read()
    written = set()
    for row in re.findall(r"^\| (`.*?) \|", text[text.index("## Routes"):], re.M):
        methods = []
        for word in re.findall(r"`([^`]+)`", row):
            found = re.match(r"((?:[A-Z]+(?:, )?)+) ?(/\S*)?", word)
            if found and found[1].isupper():
                methods += [m for m in found[1].split(", ") if m]
                if found[2]:
                    base = re.sub(r"\{[^}]*\}", "{}", found[2].split("?")[0])
                    written |= {(m, base) for m in methods}
                    methods = []
            elif re.fullmatch(r"[a-z]+", word):
                written.add(("POST", base.rsplit("/", 1)[0] + "/" + word))
    missing = written - described
    assert not missing, f"in docs/api.md and not in the document: {sorted(missing)}"
    # Every route of the document answers as itself: never as "there is no such route".
    for method, path in described:
        answer = shared.api(method, path.replace("{}", "none-such"), b"{}" if method != "GET" else None,
                            {"Content-Type": "application/json"}) \
            if path not in ("/v1/events", "/v1/node/stop") else None
        if answer is not None:
            assert answer.status != 405, (method, path)
            assert answer.status < 400 or "route" not in answer.json["error"]["message"], (method, path)


@pytest.mark.parametrize("method,path,body,status,kind", [
    ("GET", "/v1/nothing", None, 404, "not-found"),
    ("GET", "/", None, 404, "not-found"),
    ("GET", "/v1/ves/none-such", None, 404, "not-found"),
    ("DELETE", "/v1/ves", None, 405, None),
    ("POST", "/v1/ves", b"{", 400, "usage"),
    ("POST", "/v1/ves", b"[]", 400, "usage"),
    ("POST", "/v1/ves", b"", 400, "usage"),
    ("POST", "/v1/ves", b'{"name":"x","template":"none-such"}', 404, "not-found"),
    ("POST", "/v1/ves", b'{"name":5,"template":"busybox"}', 400, "usage"),
    ("POST", "/v1/ves", b'{"name":"x","template":"busybox","surprise":1}', 400, "usage"),
    ("POST", "/v1/ves", b'{"name":"x","template":"busybox","params":{"no.such":"1"}}', None, None),
    ("POST", "/v1/ves", b'{"name":"x\xff","template":"busybox"}', 400, "usage"),
    ("GET", "/v1/jobs/abc", None, None, None),
    ("GET", "/v1/jobs/99999999", None, 404, "not-found"),
    ("GET", "/v1/params/none", None, 404, "not-found"),
])
def test_errors(shared, method, path, body, status, kind):
    shared.template()
    answer = shared.api(method, path, body, {"Content-Type": "application/json"} if body else None)
    assert 400 <= answer.status < 500, answer
    assert status is None or answer.status == status, answer
    message = answer.json["error"]["message"]
    assert kind is None or answer.error == kind
    assert message and "\n" not in message
    assert shared.api("GET", "/v1/ves/x").status == 404


def test_did_you_mean(shared):
    if shared.api("GET", "/v1/ves/webserver").status == 404:
        shared.ve("webserver", start=False)
    assert "webserver" in shared.api("GET", "/v1/ves/webservr").json["error"]["message"]


def test_long_work_three_ways(node):
    node.template()
    node.ve("web1", start=False)
    answer = node.api("POST", "/v1/ves/web1/start")
    assert answer.status == 202 and answer.headers["Location"] == f"/v1/jobs/{answer.json['id']}"
    ended = node.ok("GET", answer.headers["Location"] + "?wait=true")
    assert ended["state"] == "done" and ended["ended"] >= ended["started"] >= ended["created"]
    answer = node.api("POST", "/v1/ves/web1/stop", {"timeout": 5},
                      {"Accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert lines and lines[-1]["ended"] and lines[-1]["state"] == "done"
    assert all(line["id"] == lines[0]["id"] for line in lines)
    assert node.job("POST", "/v1/ves/web1/start")["state"] == "done"


def test_events_tell_a_life(node):
    node.template()
    seen, ready = [], threading.Event()

    def listen():
        line = node.connection()
        try:
            line.request("GET", "/v1/events")
            stream = line.getresponse()
            ready.set()
            while raw := stream.readline():
                if raw.strip():
                    seen.append(json.loads(raw))
        except (OSError, ValueError):
            pass
        finally:
            line.close()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    node.ve("web1")
    node.job("POST", "/v1/ves/web1/kill")
    node.job("DELETE", "/v1/ves/web1")
    wait_for(lambda: any(e["type"] == "ve.destroyed" for e in seen), lambda: seen)
    types = [event["type"] for event in seen if event.get("ve") == "web1"]
    moves = [(e["from"], e["to"]) for e in seen if e["type"] == "ve.state"]
    assert types[0] == "ve.created" and "ve.exit" in types
    assert ("stopped", "starting") in moves and ("starting", "running") in moves
    assert all(isinstance(event["time"], int) for event in seen)


def test_cancel(node):
    """A long job ends as cancelled, and nothing of it stays."""
    answer = node.api("POST", "/v1/templates", {"name": "slow", "build": "debian-12"})
    assert answer.status == 202
    time.sleep(0.5)
    node.ok("DELETE", f"/v1/jobs/{answer.json['id']}")
    job = node.api("GET", f"/v1/jobs/{answer.json['id']}?wait=true")
    shown = node.ok("GET", f"/v1/jobs/{answer.json['id']}")
    assert shown["state"] == "cancelled", (job, shown)
    assert node.api("GET", "/v1/templates/slow").status == 404
    layers = os.path.join(node.root, "lib/layers")
    wait_for(lambda: not os.listdir(layers), lambda: os.listdir(layers))


def test_one_connection_serves_many_requests(shared):
    line = shared.connection()
    try:
        for _ in range(200):
            assert shared.api("GET", "/v1", connection=line).status == 200
    finally:
        line.close()


def test_many_at_once(node):
    """Twenty clients start twenty VEs at the same time."""
    node.template()

    def life(number):
        node.ve(f"v{number}")
        node.job("DELETE", f"/v1/ves/v{number}?force=true")

    together(*((life, n) for n in range(20)))
    assert node.ok("GET", "/v1/ves") == []


def test_same_ve_twice_at_once(node):
    """Two starts of one VE: one is done, the other is told why not."""
    node.ve("web1", start=False)
    answers = []
    together(*[(lambda: answers.append(node.api("POST", "/v1/ves/web1/start?wait=true")),)] * 4)
    good = [a for a in answers if a.status == 200]
    assert len(good) == 1 and all(a.error in ("busy", "state") for a in answers if a not in good), answers
    assert node.state("web1") == "running"


def test_socket_is_for_root(shared):
    mode = os.stat(shared.socket)
    assert stat.S_IMODE(mode.st_mode) & 0o007 == 0 and mode.st_uid == 0


@pytest.mark.parametrize("raw", [
    b"", b"\0" * 1000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /v1 HTTP/1.1\r\n" + b"A: b\r\n" * 20000,
    b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\n\r\n",
    b"POST /v1/ves HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n{}",
    b"POST /v1/ves HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
    b"POST /v1/ves HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"GET /v1/ves/%00 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /v1/ves/..%2f..%2fetc HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/ves/a/console HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
])
def test_garbage_at_the_door(shared, raw):
    """Whatever comes in, teremd goes on, and the process is the same one."""
    pid = shared.daemon.pid
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(2)
        line.connect(shared.socket)
        try:
            line.sendall(raw)
            line.shutdown(socket.SHUT_WR)
            answer = line.recv(4096)
            assert not answer.startswith(b"HTTP/1.1 2")
        except OSError:
            pass
    assert shared.alive() and shared.daemon.pid == pid
    assert shared.ok("GET", "/v1")


def test_a_body_beyond_all_measure(shared):
    answer = None
    try:
        answer = shared.api("POST", "/v1/ves", b'{"name":"' + b"a" * (16 << 20) + b'"}',
                            {"Content-Type": "application/json"})
    except OSError:
        pass
    assert answer is None or 400 <= answer.status < 500
    deep = shared.api("POST", "/v1/ves", b"[" * 100000, {"Content-Type": "application/json"})
    assert deep.status == 400
    assert shared.ok("GET", "/v1")


def test_slow_clients_do_not_hold_others(shared):
    lines = []
    try:
        for _ in range(50):
            line = socket.socket(socket.AF_UNIX)
            line.connect(shared.socket)
            line.sendall(b"GET /v1 HT")
            lines.append(line)
        assert shared.ok("GET", "/v1")
        # Not because they were sent away first.
        assert select.select(lines, [], [], 0)[0] == []
    finally:
        for line in lines:
            line.close()


def test_doctor_and_params(shared):
    checks = shared.ok("GET", "/v1/doctor")["checks"]
    assert len(checks) > 5
    for check in checks:
        assert check["ok"] or (check["costs"] and check["found"] is not None), check
    rows = shared.ok("GET", "/v1/params")
    rows = rows if isinstance(rows, list) else rows["params"]
    assert {"processes", "memory.limit", "cpu.limit"} <= {row["key"] for row in rows}
