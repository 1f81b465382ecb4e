# SPDX-License-Identifier: GPL-2.0-or-later
"""Backups and restores that end before they are done: interrupted, cancelled, overtaken; and how they go on."""
import functools
import os
import random
import signal
import subprocess

import pytest

from node import ENV, PATIENCE, wait_for
from test_backup import leases, place, upper  # noqa: F401, a fixture
from test_recovery import settle


def slow_backup(node, file, name="web1", size=200_000, *more):
    """A backup that a slow reader takes, until `size` bytes are in the file; its process."""
    out = open(file, "ab")
    proc = subprocess.Popen([node.cli, "--root", node.root, "backup", *more, name, "-"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV)
    while size > 0:
        data = proc.stdout.read(min(size, 65536))
        assert data, proc.stderr.read()
        out.write(data)
        size -= len(data)
    out.close()
    return proc


def end(proc):
    proc.kill()
    proc.stdout.close()
    proc.stderr.close()
    proc.wait()


def fill_ve(node, name="web1", size=24):
    node.sh(name, f"for i in 1 2 3 4; do dd if=/dev/urandom of=/root/$i bs=1M count={size // 4} "
                  "2>/dev/null; done")


@pytest.mark.parametrize("who", ["client", "teremd"])
@pytest.mark.parametrize("running", [True, False])
def test_interrupted(node, place, tmp_path, who, running):
    """kill -9 in the middle; --resume goes on with what was frozen then."""
    file = tmp_path / "web1.tzst"
    node.ve("web1", pool=place)
    fill_ve(node)
    node.sh("web1", "echo then >/root/x")
    if not running:
        node.job("POST", "/v1/ves/web1/stop", {"force": True})
    proc = slow_backup(node, file, size=13_000_000)
    if who == "teremd":
        node.kill()
    end(proc)
    if who == "teremd":
        node.start()
    settle(node)
    kept = file.stat().st_size
    if running:
        assert len(leases(node, place)) == 1
        node.sh("web1", "echo now >/root/x")
    refused = node.terem("backup", "verify", str(file), check=False)
    assert refused.returncode != 0 and "ends too early" in refused.stderr
    node.terem("backup", "--resume", "web1", str(file))
    assert file.stat().st_size > kept
    node.terem("backup", "verify", str(file))
    node.terem("restore", str(file), "web2")
    with open(os.path.join(upper(node, "web2"), "root/x"), encoding="ascii") as text:
        assert text.read() == "then\n"
    assert leases(node, place) == []
    refused = node.terem("backup", "--resume", "web1", str(file), check=False)
    assert "there is nothing to resume" in refused.stderr


def test_moved_meanwhile(node, tmp_path):
    """What is kept for an interrupted backup stays in the pool that the VE has left, and goes from there."""
    node.job("POST", "/v1/pools", {"name": "other", "driver": "dir"})
    node.ve("web1")
    fill_ve(node)
    node.sh("web1", "echo then >/root/x")
    for turn in ("resumed", "destroyed"):
        file, here = tmp_path / turn, node.show("web1")["pool"]
        end(slow_backup(node, file, size=13_000_000))
        settle(node)
        there = "other" if here == "default" else "default"
        node.terem("pool", "move", "web1", there, "--restart", "--timeout", "0s")
        node.kill()
        node.start()
        assert len(leases(node, here)) == 1 and leases(node, there) == []
        if turn == "resumed":
            node.sh("web1", "echo now >/root/x")
            node.terem("backup", "--resume", "web1", str(file))
            node.terem("restore", str(file), "web2")
            with open(os.path.join(upper(node, "web2"), "root/x"), encoding="ascii") as text:
                assert text.read() == "then\n"
        else:
            refused = node.terem("pool", "remove", here, check=False)
            assert "a backup of web1 that was cut off" in refused.stderr, refused
            node.terem("destroy", "--force", "web1")
        assert leases(node, "default") == leases(node, "other") == []


def test_nothing_to_resume(node, tmp_path):
    """What was kept is gone, or is of something else: a sentence says what to do."""
    file = tmp_path / "web1.tzst"
    node.job("POST", "/v1/pools", {"name": "plain", "driver": "dir"})
    node.ve("web1", start=False, pool="plain")
    node.ve("web2", start=False)
    with open(os.path.join(upper(node, "web1"), "data"), "wb") as data:
        data.write(random.Random(1).randbytes(16 << 20))
    end(slow_backup(node, file, size=9_000_000))
    settle(node)
    wrong = node.terem("backup", "--resume", "web2", str(file), check=False)
    assert "the file is a backup of web1" in wrong.stderr
    with open(os.path.join(upper(node, "web1"), "data"), "ab") as data:
        data.write(b"more")
    changed = node.terem("backup", "--resume", "web1", str(file), check=False)
    assert changed.returncode != 0 and "begin a new" in changed.stderr, changed.stderr
    short = tmp_path / "short"
    short.write_bytes(file.read_bytes()[:100])
    nothing = node.terem("backup", "--resume", "web1", str(short), check=False)
    assert "nothing of" in nothing.stderr


def test_cancelled(node, tmp_path):
    """A cancelled backup keeps nothing; its VE is free while it is packed."""
    node.ve("web1")
    fill_ve(node)
    proc = slow_backup(node, tmp_path / "x", size=5_000_000)
    jobs = node.ok("GET", "/v1/jobs")
    job = next(j for j in jobs if j["kind"] == "backup")
    node.job("POST", "/v1/ves/web1/stop", {"force": True})  # does not wait for the backup
    node.ok("DELETE", f"/v1/jobs/{job['id']}")
    said = proc.communicate(timeout=PATIENCE)[1].decode()
    assert proc.returncode != 0 and "cancelled" in said, said
    settle(node)
    assert leases(node) == []


def test_the_node_stops_in_time(node, tmp_path):
    """Nobody who reads slowly keeps it up, of a VE that is stopped either."""
    node.ve("web1")
    fill_ve(node)
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    proc = slow_backup(node, tmp_path / "x", size=5_000_000)
    node.terem("node", "stop", "--within", "4s")
    assert node.daemon.wait(PATIENCE) == 0
    end(proc)
    node.start()
    assert node.state("web1") == "stopped"
    assert [job["state"] for job in node.ok("GET", "/v1/jobs?all=true") if job["kind"] == "backup"] == ["cancelled"]


def test_destroyed_meanwhile(node, tmp_path):
    node.ve("web1")
    fill_ve(node)
    proc = slow_backup(node, tmp_path / "x", size=5_000_000)
    node.terem("destroy", "--force", "web1")
    said = proc.communicate(timeout=PATIENCE)[1].decode()
    assert proc.returncode == 1 and "its files were removed while they were packed" in said, said
    settle(node)
    assert leases(node) == []


def test_client_leaves_restore(node, tmp_path):
    """kill -9 of the client or of teremd in the middle of a restore: nothing of it stays."""
    file = tmp_path / "web1.tzst"
    node.ve("web1", start=False)
    with open(os.path.join(upper(node, "web1"), "data"), "wb") as data:
        data.write(random.Random(1).randbytes(24 << 20))
    node.terem("backup", "web1", str(file))
    bytes_ = file.read_bytes()
    pool = node.pool()
    for who in ("client", "teremd"):
        proc = subprocess.Popen([node.cli, "--root", node.root, "restore", "-", "web2"], env=ENV,
                                stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        proc.stdin.write(bytes_[:15_000_000])
        proc.stdin.flush()
        if who == "teremd":
            node.kill()
        proc.kill()
        proc.communicate()
        if who == "teremd":
            node.start()
        settle(node)
        assert [v["name"] for v in node.ok("GET", "/v1/ves")] == ["web1"]
        assert [n for n in os.listdir(pool) if n.isdigit()] == [str(node.show("web1")["id"])]
    node.terem("restore", str(file), "web2")


def test_a_signal_tells_how_to_go_on(node, tmp_path):
    """Ctrl-C: what is kept, and the command that goes on with it; of a restore, that nothing is."""
    file, base = tmp_path / "web1.tzst", tmp_path / "base.tzst"
    node.ve("web1", start=False)
    node.terem("backup", "web1", str(base))
    with open(os.path.join(upper(node, "web1"), "data"), "wb") as data:
        data.write(random.Random(1).randbytes(96 << 20))
    begin = functools.partial(subprocess.Popen, stderr=subprocess.PIPE, env=ENV, text=True,
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    with begin([node.cli, "--root", node.root, "backup", "--since", str(base), "web1", str(file)]) as proc:
        wait_for(lambda: file.exists() and file.stat().st_size > 12 << 20)
        proc.send_signal(signal.SIGINT)
        said = proc.communicate(timeout=PATIENCE)[1].splitlines()[-1]
    again = f"terem backup --resume --since {base} web1 {file}"
    assert proc.returncode == -signal.SIGINT and again in said and "a day" in said, said
    settle(node)
    shown = node.terem("backup", "show", str(file), check=False)
    assert shown.returncode == 1 and "of web1, incremental" in shown.stdout and \
        "unfinished or damaged at its end" in shown.stderr, shown
    node.terem(*again.split()[1:])
    assert "of web1, incremental" in node.terem("backup", "show", str(file)).stdout
    node.terem("backup", "verify", str(base), str(file))
    with begin([node.cli, "--root", node.root, "restore", "-", "web2"], stdin=subprocess.PIPE) as proc:
        proc.stdin.buffer.write(base.read_bytes())
        proc.stdin.flush()
        wait_for(lambda: any(j["kind"] == "restore" for j in node.ok("GET", "/v1/jobs")))
        proc.send_signal(signal.SIGINT)
        said = proc.communicate(timeout=PATIENCE)[1].splitlines()[-1]
    assert proc.returncode == -signal.SIGINT and "web2: the restore was interrupted; nothing of it stays" in said, said
    settle(node)
    assert [v["name"] for v in node.ok("GET", "/v1/ves")] == ["web1"]
