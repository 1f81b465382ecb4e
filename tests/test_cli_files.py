# SPDX-License-Identifier: GPL-2.0-or-later
"""push and pull of directories and streams by the command line."""
import os
import stat

import pytest


@pytest.fixture(scope="module")
def ve(shared):
    shared.ve("box")
    return shared


def test_a_directory_goes_in_and_out(ve, tmp_path):
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_bytes(b"x" * 100000)
    (tree / "link").symlink_to("deep/file")
    os.chown(tree / "deep" / "file", 1000, 1000)  # ids of this machine stay here
    ve.terem("push", "box", tree, "/root/")
    assert ve.sh("box", "cd /root/tree; stat -c '%u %s' deep/file; readlink link").split() == \
        ["0", "100000", "deep/file"]
    ve.terem("push", "box", tree, "/root/other", "--uid", "7", "--gid", "8")
    assert ve.sh("box", "stat -c '%u %g' /root/other/deep/file").split() == ["7", "8"]
    back = tmp_path / "back"
    ve.terem("pull", "box", "/root/tree", back)
    assert (back / "deep" / "file").read_bytes() == b"x" * 100000
    assert os.readlink(back / "link") == "deep/file"
    ve.terem("pull", "box", "/root/tree", back)  # is a directory now: into it
    assert (back / "tree" / "deep" / "file").exists()


def test_streams(ve):
    ve.terem("push", "box", "-", "/root/in", input="from a pipe\n")
    assert ve.terem("pull", "box", "/root/in", "-").stdout == "from a pipe\n"


def test_nothing_special_comes_out(ve, tmp_path):
    """What a VE's root makes set-user-id is a plain file of the caller here."""
    ve.sh("box", "mkdir -p /root/s; echo x >/root/s/f; chown 5 /root/s/f; chmod 6777 /root/s/f; "
                 "cp /root/s/f /root/f; chmod 6777 /root/f")
    ve.terem("pull", "box", "/root/s", tmp_path / "s")
    ve.terem("pull", "box", "/root/f", tmp_path / "f")
    for path in (tmp_path / "s" / "f", tmp_path / "f"):
        found = path.stat()
        assert found.st_mode & (stat.S_ISUID | stat.S_ISGID) == 0
        assert found.st_uid == os.getuid()


def test_half_a_file_is_none(ve, tmp_path):
    target = tmp_path / "kept"
    target.write_text("old")
    done = ve.terem("pull", "box", "/root/none", target, check=False)
    assert done.returncode == 1 and "/root/none" in done.stderr
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["kept"]


def test_a_file_goes_into_a_directory(ve, tmp_path):
    source = tmp_path / "f1"
    source.write_text("one")
    ve.terem("push", "box", source, "/root")
    assert ve.sh("box", "cat /root/f1") == "one"
    ve.sh("box", "mkdir /root/f1d; ln -s f1d /root/link")
    ve.terem("push", source, "box:/root/link")
    assert ve.sh("box", "cat /root/f1d/f1") == "one"
    assert ve.terem("pull", "box:/root/f1d/f1", "-").stdout == "one"
    ve.sh("box", "mkdir -p /root/full/f1")
    done = ve.terem("push", "box", source, "/root/full", check=False)
    assert done.returncode == 1 and "directory" in done.stderr.lower()


@pytest.mark.parametrize("args,status", [
    (["push", "/etc/hostname", "/x"], 2), (["pull", "box"], 2), (["pull", "box:relative"], 2),
    (["push", "box", "/none", "/x"], 1), (["push", "box", "/etc/hostname", "relative"], 2),
    (["push", "box", "-", "/dir/"], 2), (["pull", "box", "relative"], 2),
    (["push", "box", "/etc/hostname", "/no/such/dir/x"], 1),
    (["push", "box", "/etc/hostname", "/x", "--mode", "999"], 2),
    (["push", "box", "/etc/hostname", "/x", "--uid", "65536"], 2)])
def test_mistakes(ve, args, status):
    done = ve.terem(*args, check=False)
    assert done.returncode == status and len(done.stderr.strip().splitlines()) == 1
