# SPDX-License-Identifier: GPL-2.0-or-later
"""Templates: built, imported from tarballs, directories and OCI images; shared; removed."""
import gzip
import lzma
import os
import subprocess
import tarfile

import pytest

import archive
from archive import entry, oci, tar
from node import PATIENCE, fetch, wait_for


def bring(node, name, source, check=True):
    answer = node.api("POST", "/v1/templates?wait=true", {"name": name, "import": str(source)},
                      timeout=300)
    if check:
        assert answer.status == 200, answer
    return answer


def test_busybox(node):
    node.terem("template", "build", "busybox")
    shown = node.ok("GET", "/v1/templates/busybox")
    assert shown["init"] == "busybox" and len(shown["layers"]) == 1 and shown["ves"] == []
    assert shown["layers"][0].startswith("sha256:")


@pytest.mark.parametrize("pack", ["plain", "gz", "xz", "zst"])
def test_tarball(node, tmp_path, pack):
    data = tar(archive.system([entry("etc/mark", b"tarball", mode=0o640, uid=3, gid=4)]))
    path = tmp_path / f"root.tar{'' if pack == 'plain' else '.' + pack}"
    path.write_bytes({"plain": bytes, "gz": gzip.compress, "xz": lzma.compress, "zst": zstd}[pack](data))
    bring(node, "own", path)
    node.ve("web1", template="own")
    assert node.sh("web1", "cat /etc/mark; stat -c '%u %g %a' /etc/mark") == "tarball3 4 640\n"


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


def test_same_layer_is_stored_once(node, tmp_path):
    """The digest is of the uncompressed tar: packed differently it is the same layer."""
    data = tar(archive.system())
    (tmp_path / "a.tar").write_bytes(data)
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(data))
    bring(node, "one", tmp_path / "a.tar")
    bring(node, "two", tmp_path / "b.tar.gz")
    one, two = (node.ok("GET", f"/v1/templates/{n}") for n in ("one", "two"))
    assert one["layers"] == two["layers"]
    assert len(os.listdir(os.path.join(node.root, "lib/layers"))) == 1
    node.job("DELETE", "/v1/templates/one")
    assert len(os.listdir(os.path.join(node.root, "lib/layers"))) == 1
    node.job("DELETE", "/v1/templates/two")
    assert os.listdir(os.path.join(node.root, "lib/layers")) == []


def test_directory(node, tmp_path):
    root = tmp_path / "root"
    with tarfile.open(fileobj=__import__("io").BytesIO(tar(archive.system()))) as file:
        file.extractall(root)
    (root / "etc/mark").write_text("directory")
    bring(node, "own", root)
    node.ve("web1", template="own")
    assert node.sh("web1", "cat /etc/mark") == "directory"


def test_layer_goes_with_its_last_user(node):
    node.ve("web1")
    assert node.ok("GET", "/v1/templates/busybox")["ves"] == ["web1"]
    answer = node.api("DELETE", "/v1/templates/busybox?wait=true")
    assert answer.status == 409 and "VE web1 is made from" in answer.json["error"]["message"]
    node.job("DELETE", "/v1/templates/busybox?force=true")
    # The template goes, its layer stays while the VE stands on it.
    assert node.api("GET", "/v1/templates/busybox").status == 404
    assert len(os.listdir(os.path.join(node.root, "lib/layers"))) == 1
    node.run("web1", "/bin/true")
    node.job("POST", "/v1/ves/web1/restart")
    node.run("web1", "/bin/true")


def test_what_was_half_made_goes_behind(node):
    """A draft of 270 MB kept teremd from answering for 43 s at its start."""
    node.template()
    node.term()
    layers = os.path.join(node.root, "lib/layers")
    os.makedirs(os.path.join(layers, ".new-1-2-3/root/etc"))
    node.start()
    assert not [name for name in os.listdir(layers) if name.startswith(".new")]
    wait_for(lambda: len(os.listdir(layers)) <= 1, lambda: os.listdir(layers))
    assert "deleted in the background" in node.words()


LAYERS = [
    tar(archive.system([entry("data", kind=tarfile.DIRTYPE), entry("data/old", b"old"),
                        entry("data/gone", b"gone"), entry("hidden", kind=tarfile.DIRTYPE),
                        entry("hidden/below", b"x")])),
    tar([entry("data", kind=tarfile.DIRTYPE), entry("data/.wh.gone"), entry("data/new", b"new"),
         entry("hidden", kind=tarfile.DIRTYPE), entry("hidden/.wh..wh..opq"),
         entry("hidden/above", b"y")]),
    tar([entry("data", kind=tarfile.DIRTYPE), entry("data/old", b"changed")]),
]


@pytest.mark.parametrize("form", ["layout", "archive", "tag"])
def test_oci_image(node, tmp_path, form):
    """Several layers, whiteouts, opaque directories; entrypoint, environment, directory, user."""
    folder = oci(str(tmp_path / "image"), LAYERS, {
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo $GREETING; sleep 1000"],
        "Env": ["PATH=/bin:/sbin", "GREETING=from-the-image"], "WorkingDir": "/data",
        "User": "12:13"}, tag="v1")
    source = f"oci:{folder}"
    if form == "archive":
        with tarfile.open(tmp_path / "image.tar", "w") as file:
            file.add(folder, arcname=".")
        source = f"oci:{tmp_path / 'image.tar'}"
    elif form == "tag":
        source += ":v1"
    bring(node, "app", source)
    shown = node.ok("GET", "/v1/templates/app")
    assert shown["kind"] == "app" and len(shown["layers"]) == 3
    node.ve("a1", template="app")
    look = "cd /data; cat old new; ls gone; ls /hidden"
    out = node.run("a1", "/bin/sh", "-c", look, check=False, user="0")["stdout"]
    assert out == "changednewabove\n", out
    ids = node.run("a1", "/bin/sh", "-c", "cat /proc/[0-9]*/status | grep -m40 Uid", user="0")["stdout"]
    assert "12\t12" in ids
    wait_for(lambda: b"from-the-image" in node.api("GET", "/v1/ves/a1/logs").body)


def test_progress_is_shown(node, tmp_path):
    (tmp_path / "a.tar").write_bytes(tar(archive.system()))
    done = node.terem("template", "import", "own", str(tmp_path / "a.tar"))
    assert "own" in done.stdout + done.stderr
    assert node.terem("template", "list").stdout.count("own") == 1
    assert node.terem("template", "remove", "own").returncode == 0


def test_debian_12_boots(debian):
    """systemd comes up without a failed unit, nginx answers, poweroff is clean."""
    debian.ve("d12", template="debian-12")
    address = debian.show("d12")["addresses"][0]
    assert b"200 OK" in fetch(address, 80, b"GET / HTTP/1.0\r\n\r\n")
    state = debian.run("d12", "/usr/bin/systemctl", "is-system-running", "--wait", check=False)
    failed = debian.run("d12", "/usr/bin/systemctl", "list-units", "--failed", "--plain", "--no-legend",
                        check=False)["stdout"]
    assert state["stdout"].strip() == "running", failed
    debian.job("POST", "/v1/ves/d12/stop", {"timeout": PATIENCE}, timeout=2 * PATIENCE)
    # It went by itself, and was not killed when its time was over.  The kernel ends the first process of a pid namespace that powered off with SIGINT (reboot(2)).
    assert debian.show("d12")["last_exit"]["signal"] in (None, "INT"), debian.show("d12")["last_exit"]


def test_debian_12_again_after_changes(debian):
    """A second VE of the template, and packages' own tools inside it."""
    debian.ve("d12b", template="debian-12")
    debian.settled("d12b")  # or sysusers of its first boot writes the users, too
    assert "Debian GNU/Linux 12" in debian.sh("d12b", "cat /etc/os-release")
    debian.sh("d12b", "useradd -m alice && su alice -c 'echo hi > ~/x' && dpkg --audit")
    assert debian.run("d12b", "/usr/bin/id", "-un", user="alice")["stdout"] == "alice\n"
    debian.job("POST", "/v1/ves/d12b/kill")
    debian.job("DELETE", "/v1/ves/d12b")


def test_container_room_with_debian(debian, build):
    """The container room's own test, which needs a Debian root: it is skipped among the unit
    tests, and has the template's layer here."""
    digest = debian.ok("GET", "/v1/templates/debian-12")["layers"][0].split(":")[1]
    layers = os.path.join(debian.root, "lib/layers")
    root = [os.path.join(layers, name, "root") for name in os.listdir(layers) if digest in name][0]
    folder = os.path.join(build, "src/programs/terem-init")
    done = subprocess.run([os.path.join(folder, "test_debian")], capture_output=True, text=True,
                          timeout=300, check=False, env={
                              **os.environ, "TEREM_TEST_DEBIAN": root, "CMOCKA_MESSAGE_OUTPUT": "TAP",
                              "TEREM_INIT": os.path.join(folder, "terem-init"),
                              "TEREM_PROBE": os.path.join(folder, "probe_inside")})
    assert done.returncode == 0 and "\nok " in done.stdout, done.stdout + done.stderr
