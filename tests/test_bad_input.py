# SPDX-License-Identifier: GPL-2.0-or-later
"""What bad input and bad luck get: a sentence, and nothing lost."""
import gzip
import hashlib
import lzma
import os
import shutil
import sqlite3
import stat
import subprocess
import tarfile
import tempfile
import threading
import time

import pytest

import archive
from archive import entry, oci, tar
from node import PATIENCE, Node, wait_for

NAMES = ["..", ".", "/", "a/b", "", "a" * 64, "a" * 300, "a\nb", "a\x1b[31m", "Web1", "-a", "a-",
         "a b", "ä", "a\u0000b", "web1\r", "%2e%2e", "a.b"]


@pytest.mark.parametrize("name", NAMES, ids=lambda n: ascii(n)[:24])
def test_names(shared, name):
    shared.template()
    answer = shared.api("POST", "/v1/ves", {"name": name, "template": "busybox"})
    assert answer.error == "usage", answer
    message = answer.json["error"]["message"]
    assert message and message.isprintable()
    if "\0" not in name:
        done = shared.terem("create", "--template", "busybox", "--", name, check=False)
        assert done.returncode == 2, done
        assert done.stderr.strip().isprintable() and "\x1b" not in done.stderr
    assert shared.ok("GET", "/v1/ves") == []


def test_a_name_that_is_no_text(shared):
    done = shared.terem("create", b"\xff\xfe", "--template", "busybox", check=False)
    assert done.returncode == 2 and done.stderr.strip().isprintable()


def test_an_option_that_is_no_text(shared):
    """It is named as it was written."""
    done = shared.terem("create", "web1", "--user", b"\xff", check=False)
    assert done.returncode == 2 and "the value of --user is not valid UTF-8" in done.stderr, done


def test_a_name_in_use(node):
    node.ve("web1", start=False)
    answer = node.api("POST", "/v1/ves", {"name": "web1", "template": "busybox"})
    assert answer.error == "exists" and "web1" in answer.json["error"]["message"]


# ---- archives ----
def stored(node):
    """The layers on disk, whole ones and half ones."""
    return sorted(os.listdir(os.path.join(node.root, "lib/layers")))


def hostile():
    long = "d/" * 2000 + "x"
    return {
        "dot-dot": [entry("../escaped", b"x")],
        "deep dot-dot": [entry("a/../../../escaped", b"x")],
        "absolute": [entry("/terem-escaped", b"x")],
        "through an absolute symlink": [entry("l", kind=tarfile.SYMTYPE, link="/tmp"),
                                        entry("l/terem-escaped", b"x")],
        "through a parent symlink": [entry("l", kind=tarfile.SYMTYPE, link="../../../../../tmp"),
                                     entry("l/terem-escaped", b"x")],
        "hardlink outside": [entry("h", kind=tarfile.LNKTYPE, link="../../../../etc/passwd")],
        "absolute hardlink": [entry("h", kind=tarfile.LNKTYPE, link="/etc/shadow")],
        "hardlink through a symlink": [entry("l", kind=tarfile.SYMTYPE, link="/etc"),
                                       entry("h", kind=tarfile.LNKTYPE, link="l/shadow")],
        "block device": [entry("sda", kind=tarfile.BLKTYPE, devmajor=8, devminor=0)],
        "character device": [entry("mem", kind=tarfile.CHRTYPE, devmajor=1, devminor=1)],
        "whiteout device": [entry("wh", kind=tarfile.CHRTYPE, devmajor=0, devminor=0)],
        "name too long": [entry(long, b"x")],
        "part too long": [entry("p" * 300, b"x")],
        "file as directory": [entry("f", b"x"), entry("f/g", b"x")],
        "negative id": [entry("n", b"x", uid=4294967295, gid=4294967295)],
        "huge id": [entry("n", b"x", uid=2097151 * 8)],
    }


# What these say can be done within the layer; all others are refused.
HARMLESS = {"absolute", "block device", "character device", "file as directory", "whiteout device"}


@pytest.mark.parametrize("what", sorted(hostile()))
def test_hostile_archive(shared, tmp_path, what):
    """Refused with a sentence, or unpacked with every byte inside the layer."""
    path = tmp_path / "a.tar"
    path.write_bytes(tar(archive.system(hostile()[what]), format=tarfile.PAX_FORMAT))
    passwd, before = open("/etc/passwd", "rb").read(), stored(shared)
    answer = shared.api("POST", "/v1/templates?wait=true", {"name": "evil", "import": str(path)})
    layers = os.path.join(shared.root, "lib/layers")
    try:
        assert open("/etc/passwd", "rb").read() == passwd
        for outside in ("/tmp/terem-escaped", "/terem-escaped", shared.root + "/escaped",
                        shared.root + "/lib/escaped", layers + "/escaped"):
            assert not os.path.lexists(outside), outside
        assert (answer.status == 200) == (what in HARMLESS), answer
        if answer.status == 200:
            for folder, _, files in os.walk(layers):
                for name in files:
                    info = os.lstat(os.path.join(folder, name))
                    assert not stat.S_ISBLK(info.st_mode)
                    assert not stat.S_ISCHR(info.st_mode) or info.st_rdev == 0
                    assert info.st_uid < 65536 and info.st_gid < 65536
        else:
            assert answer.error == ("unsupported" if what.endswith(" id") else "corrupt"), answer
            assert answer.json["error"]["message"].isprintable(), answer
            assert shared.api("GET", "/v1/templates/evil").status == 404
            assert stored(shared) == before
    finally:
        if answer.status == 200:
            shared.job("DELETE", "/v1/templates/evil")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress],
                         ids=["plain", "gz", "xz"])
def test_truncated_anywhere(shared, tmp_path, pack):
    """Cut at 40 places: refused each time, and nothing stays."""
    data = pack(tar(archive.system()))
    before = stored(shared)
    places = sorted({int(len(data) * n / 40) // (512 if pack is bytes else 1) *
                     (512 if pack is bytes else 1) for n in range(40)} | {1, 511, 513})
    for place in places:
        path = tmp_path / "cut.tar"
        path.write_bytes(data[:place])
        answer = shared.api("POST", "/v1/templates?wait=true", {"name": "cut", "import": str(path)})
        assert answer.status >= 400, (place, len(data))
        assert answer.error in ("corrupt", "usage"), answer
        assert stored(shared) == before and shared.api("GET", "/v1/templates/cut").status == 404


def test_bombs(shared, tmp_path):
    """A sparse file of 8 TiB, and a gzip of endless zeros: refused before the disk is full."""
    before, free = stored(shared), shutil.disk_usage(shared.root).free
    info = tarfile.TarInfo("huge")
    info.size = 1 << 43
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "huge.tar").write_bytes(header + b"\0" * 10240)
    answer = shared.api("POST", "/v1/templates?wait=true",
                        {"name": "bomb", "import": str(tmp_path / "huge.tar")})
    assert answer.status >= 400
    # GNU sparse 1.0 through PAX: one real byte, a declared petabyte.
    sparse = tarfile.TarInfo("sparse")
    body = b"1\n1125899906842623\n1\n".ljust(512, b"\0") + b"x".ljust(512, b"\0")
    sparse.size = len(body)
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
                          "GNU.sparse.name": "sparse", "GNU.sparse.realsize": "1125899906842624"}
    (tmp_path / "sparse.tar").write_bytes(sparse.tobuf(tarfile.PAX_FORMAT) + body + b"\0" * 10240)
    answer = shared.api("POST", "/v1/templates?wait=true",
                        {"name": "bomb", "import": str(tmp_path / "sparse.tar")})
    assert answer.status >= 400, answer
    assert shutil.disk_usage(shared.root).free > free * 0.9
    assert stored(shared) == before


def test_too_many_entries(shared, tmp_path):
    """Ten million files in a small archive: bounded, and a cancel stops it at once.  (The bound
    itself is a unit test of the template room; to meet it here takes minutes.)"""
    before = stored(shared)
    block = tarfile.TarInfo("d").tobuf(tarfile.USTAR_FORMAT)
    path = tmp_path / "many.tar.gz"
    chunk = block * 20000
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(500):
            file.write(chunk)
        file.write(b"\0" * 1024)
    job = shared.ok("POST", "/v1/templates", {"name": "many", "import": str(path)})["id"]
    wait_for(lambda: shared.ok("GET", f"/v1/jobs/{job}")["state"] == "running")
    for _ in range(50):
        shared.ok("GET", "/v1/ves")
    # All were served meanwhile.
    assert shared.ok("GET", f"/v1/jobs/{job}")["state"] == "running"
    shared.ok("DELETE", f"/v1/jobs/{job}")
    shared.api("GET", f"/v1/jobs/{job}?wait=true")
    assert shared.ok("GET", f"/v1/jobs/{job}")["state"] == "cancelled"
    assert shared.api("GET", "/v1/templates/many").status == 404
    wait_for(lambda: stored(shared) == before)


def lies():
    def digest(manifest, image):
        manifest["layers"][0]["digest"] = "sha256:" + "0" * 64

    def size(manifest, image):
        manifest["layers"][0]["size"] += 1

    def diff(manifest, image):
        image["rootfs"]["diff_ids"][0] = "sha256:" + "1" * 64

    def path(manifest, image):
        manifest["layers"][0]["digest"] = "sha256:../../../../../../etc/passwd"

    def media(manifest, image):
        manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+brotli"

    def count(manifest, image):
        image["rootfs"]["diff_ids"].append("sha256:" + "2" * 64)

    def kind(manifest, image):
        manifest["layers"] = "none"

    def command(manifest, image):
        image["config"] = {"Cmd": "not a list", "Env": 5}

    return {"wrong digest": digest, "wrong size": size, "wrong diffID": diff,
            "digest that is a path": path, "unknown media type": media,
            "more diffIDs than layers": count, "layers that are no list": kind,
            "configuration of wrong types": command}


@pytest.mark.parametrize("what", sorted(lies()))
def test_image_that_lies(shared, tmp_path, what):
    before = stored(shared)
    folder = oci(str(tmp_path / "image"), [tar(archive.system())], spoil=lies()[what])
    answer = shared.api("POST", "/v1/templates?wait=true", {"name": "lie", "import": "oci:" + folder})
    not_ours = what in ("unknown media type", "layers that are no list")
    assert answer.error == ("unsupported" if not_ours else "corrupt"), answer
    assert shared.api("GET", "/v1/templates/lie").status == 404
    assert stored(shared) == before


def test_unknown_compression(shared, tmp_path):
    before = stored(shared)
    for name, data in (("noise", os.urandom(4096)), ("empty", b""), ("text", b"hello\n" * 100)):
        path = tmp_path / name
        path.write_bytes(data)
        answer = shared.api("POST", "/v1/templates?wait=true", {"name": "odd", "import": str(path)})
        assert answer.error in ("corrupt", "usage", "unsupported"), (name, answer)
    for source in ("/nowhere/at/all", "relative/path", "oci:/nowhere", str(tmp_path / "fifo"), "/dev/zero"):
        if source.endswith("fifo"):
            os.mkfifo(source)
        answer = shared.api("POST", "/v1/templates?wait=true", {"name": "odd", "import": source})
        assert answer.status >= 400, source
    assert stored(shared) == before


# ---- disks ----
class Disk:
    """A small ext4 of its own at a node's root."""

    def __init__(self, size="192M", options=()):
        self.image = tempfile.mktemp(prefix="terem-disk-", dir="/tmp")
        self.at = tempfile.mkdtemp(prefix="terem-", dir="/tmp")
        subprocess.run(["truncate", "-s", size, self.image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", *options, self.image], check=True)
        subprocess.run(["mount", "-o", "loop", self.image, self.at], check=True)

    def fill(self):
        """Leaves no free block."""
        path = os.path.join(self.at, "filler")
        with open(path, "ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while file.write(b"x" * size) == size:
                        pass
                except OSError:
                    pass
        return path

    def fill_inodes(self):
        folder = os.path.join(self.at, "files")
        os.mkdir(folder)
        try:
            for number in range(100000):
                with open(os.path.join(folder, str(number)), "w", encoding="ascii"):
                    pass
        except OSError:
            pass
        return folder

    def remount(self, how):
        subprocess.run(["mount", "-o", f"remount,{how}", self.at], check=True)

    def close(self):
        for _ in range(100):
            if subprocess.run(["umount", self.at], check=False, capture_output=True).returncode == 0:
                break
            time.sleep(0.05)
        else:
            subprocess.run(["umount", "-l", self.at], check=False)
        os.rmdir(self.at)
        os.unlink(self.image)


@pytest.fixture
def disk(build, request):
    disk = Disk(*getattr(request, "param", ()))
    node = Node(build, root=disk.at)
    left = []
    try:
        yield disk, node
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk.at], check=False, capture_output=True)
        left = node.close()
        disk.close()
    assert not left, left


def clean_sentence(answer, *kinds):
    assert answer.status >= 400, answer
    assert answer.error in kinds, answer
    assert answer.json["error"]["message"].isprintable()


def test_full_disk(disk, tmp_path):
    disk, node = disk
    node.start()
    node.ve("web1")
    (tmp_path / "a.tar").write_bytes(tar(archive.system()))
    filler = disk.fill()
    answer = node.api("POST", "/v1/templates?wait=true",
                      {"name": "more", "import": str(tmp_path / "a.tar")})
    clean_sentence(answer, "exhausted")
    node.run("web1", "/bin/true")           # what runs goes on
    assert node.state("web1") == "running"
    for _ in range(40):                     # whether or not each has room: an answer, no damage
        answer = node.api("POST", "/v1/ves", {"name": "web2", "template": "busybox"})
        assert answer.status == 201 or answer.error == "exhausted", answer
        if answer.status == 201:
            done = node.api("POST", "/v1/ves/web2/start?wait=true")
            assert done.status == 200 or done.error == "exhausted", done
            done = node.api("DELETE", "/v1/ves/web2?force=true&wait=true")
            assert done.status == 200 or done.error == "exhausted", done
            if node.api("GET", "/v1/ves/web2").status == 200:
                break
    node.kill()                             # even a crash loses nothing
    node.start()
    assert node.state("web1") == "running"
    os.unlink(filler)
    assert node.state("web1") == "running"
    if node.api("GET", "/v1/ves/web2").status == 200:
        node.job("DELETE", "/v1/ves/web2?force=true")
    node.ve("web3")
    node.run("web3", "/bin/true")
    assert node.api("GET", "/v1/templates/more").status == 404


def test_jobs_without_a_record(disk):
    """What is stopped on a full disk has a number of its own, and who waits for it hears of its end."""
    disk, node = disk
    node.start()
    deaf = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
    pids = {name: node.ve(name, kind="app", restart="no", command=deaf)["pid"] for name in ("web1", "web2", "web3")}
    sleeper = node.ve("web4", params={"idle.sleep": "1s"})["name"]
    node.job("POST", f"/v1/ves/{sleeper}/snapshots", {"name": "one"})
    node.wait_state(sleeper, "sleeping")
    filler = disk.fill()
    # What is refused leaves it as it was: it sleeps when nobody uses it.
    refused = node.api("POST", f"/v1/ves/{sleeper}/rollback?wait=true", {"snapshot": "one", "restart": True})
    clean_sentence(refused, "exhausted")
    heard = {}

    def stop(name):
        heard[name] = node.job("POST", f"/v1/ves/{name}/stop", {"timeout": 1000})
    waiting = {name: threading.Thread(target=stop, args=(name,)) for name in pids}
    for thread in waiting.values():
        thread.start()
    wait_for(lambda: len(node.ok("GET", "/v1/jobs")) == 3)
    assert len({job["id"] for job in node.ok("GET", "/v1/jobs")}) == 3, node.ok("GET", "/v1/jobs")
    for at, (name, pid) in enumerate(pids.items()):
        os.kill(pid, 9)
        waiting[name].join(PATIENCE)
        assert heard[name]["subject"] == name and len(heard) == at + 1, heard
    os.unlink(filler)
    node.wait_state(sleeper, "sleeping")
    wait_for(lambda: set(node.state(name) for name in pids) == {"stopped"})


@pytest.mark.parametrize("disk", [("64M", ("-N", "600"))], indirect=True)
def test_full_inodes(disk):
    disk, node = disk
    node.start()
    node.ve("web1")
    folder = disk.fill_inodes()
    failed = None
    for number in range(30):
        answer = node.api("POST", "/v1/ves", {"name": f"n{number}", "template": "busybox"})
        if answer.status == 201:
            answer = node.api("POST", f"/v1/ves/n{number}/start?wait=true")
        if answer.status >= 400:
            failed = answer
            break
    assert failed is not None
    clean_sentence(failed, "exhausted")
    assert node.state("web1") == "running"
    shutil.rmtree(folder)
    node.ve("later")
    node.run("later", "/bin/true")


def test_read_only(disk):
    disk, node = disk
    node.start()
    node.ve("web1", start=False)
    node.ok("POST", "/v1/node/stop", {"force": True})
    node.daemon.wait(PATIENCE)
    disk.remount("ro")
    done = subprocess.run([node.program, "--root", node.root], capture_output=True, text=True,
                          timeout=PATIENCE, check=False)
    assert done.returncode == 1 and "ead-only" in done.stderr, done
    assert len(done.stderr.strip().splitlines()) == 1
    disk.remount("rw")
    node.start()
    assert node.state("web1") == "stopped"


# ---- the daemon and its registry ----
def refuses_to_start(node):
    done = subprocess.run([node.program, "--root", node.root], capture_output=True, text=True,
                          timeout=PATIENCE, check=False)
    assert done.returncode in (1, 2), done
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


def test_two_daemons(node):
    pid = node.ve("web1")["pid"]
    text = refuses_to_start(node)
    assert f"another teremd (process {node.daemon.pid}) serves {node.root}/lib" in text, text
    assert node.show("web1")["pid"] == pid


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def stop_and_keep(node):
    node.ve("web1", start=False)
    node.term()
    return os.path.join(node.root, "lib/registry.db")


def test_registry_of_a_newer_version(node):
    path = stop_and_keep(node)
    with sqlite3.connect(path) as db:
        was = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute("PRAGMA user_version = 9999")
    db.close()
    before = digest(path)
    text = refuses_to_start(node)
    assert "9999" in text and "newer" in text, text
    assert digest(path) == before
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {was}")
    db.close()
    node.start()
    assert node.state("web1") == "stopped"


@pytest.mark.parametrize("damage", ["header", "middle", "cut", "empty"])
def test_registry_damaged(node, damage):
    path = stop_and_keep(node)
    good = open(path, "rb").read()
    for name in ("-wal", "-shm"):
        if os.path.exists(path + name):
            os.unlink(path + name)
    bad = {"header": b"not a database at all" + good[21:], "cut": good[:len(good) // 2 + 100],
           "middle": good[:4096] + os.urandom(8192) + good[12288:], "empty": good[:10]}[damage]
    with open(path, "wb") as file:
        file.write(bad)
    text = refuses_to_start(node)
    assert "registry" in text
    assert open(path, "rb").read() == bad, "a damaged registry is kept as it was found"
    saved = path + ".good"
    assert os.path.exists(saved) and "registry.db.good" in text
    shutil.copy(saved, path)                # what the sentence says to do
    node.start()
    assert isinstance(node.ok("GET", "/v1/ves"), list)


@pytest.mark.parametrize("args", [["--nonsense"], ["--root"], ["--root", "/tmp/" + "x" * 200]])
def test_teremd_wrong_usage(build, args):
    program = os.path.join(build, "src/programs/teremd/teremd")
    done = subprocess.run([program, *args], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) <= 2, done


def test_settings_with_a_mistake(build, node):
    node.term()
    with open(os.path.join(node.root, "terem.conf"), "w", encoding="utf-8") as file:
        file.write("no.such.setting = 1\n")
    text = refuses_to_start(node)
    assert "no.such.setting" in text and "line 1" in text
    os.unlink(os.path.join(node.root, "terem.conf"))
    node.start()


def test_state_is_closed_to_other_users(node):
    """A setuid file that a VE's root makes must not be within reach of the host's users."""
    node.ve("web1")
    node.sh("web1", "cp /bin/busybox /root/su; chmod 4755 /root/su; sync")
    found = [os.path.join(folder, "su") for folder, _, files in os.walk(node.pool())
             if "su" in files]
    assert found
    os.chmod(node.root, 0o755)  # as /var/lib is
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                           found[0], "true"], capture_output=True, check=False)
    assert done.returncode != 0
