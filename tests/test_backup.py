# SPDX-License-Identifier: GPL-2.0-or-later
"""Backups: there and back bit by bit, from what runs, interrupted, damaged, on another node."""
import contextlib
import json
import os
import random
import stat
import subprocess
import tarfile

import pytest

from node import ENV, Node, wait_for
from test_bad_input import Disk
from test_recovery import settle

# Two files that always say the same, but for the moment between two writes.
LOCKSTEP = """
i=0
while :; do
    i=$((i+1))
    echo $i >>/root/first
    echo $i >>/root/second
done
"""

ODD = r"""
mkdir -p /root/deep/er /root/empty; chmod 1777 /root/empty
echo secret >/root/deep/er/secret; chmod 600 /root/deep/er/secret; chown 33:33 /root/deep/er/secret
ln /root/deep/er/secret /root/linked; ln -s /nowhere /root/symlink; mkfifo -m 620 /root/fifo
dd if=/dev/zero of=/root/sparse bs=1 count=1 seek=3000000 2>/dev/null
printf 'x' >"/root/$(printf 'odd\nname\377')"
touch -d '2001-02-03 04:05:06' /root/old; cp /bin/busybox /root/suid; chmod 4755 /root/suid
rm -rf /home; rm /etc/issue 2>/dev/null; rm -rf /tmp; mkdir /tmp; chmod 1777 /tmp
"""


def upper(node, name):
    ve = node.show(name)
    return os.path.join(node.pool(ve["pool"]), str(ve["id"]), "upper")


def data_map(file):
    """Where its data are.  How many blocks it has depends on where they lie, too."""
    found, end = [], 0
    with contextlib.suppress(OSError):  # ENXIO: nothing but a hole is left
        while True:
            begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            found.append((begin, end))
    return found


def tree(top):
    """{name: everything that a backup keeps}; links as the set of names of one file."""
    found, names = {}, {}
    for folder, folders, files in os.walk(os.fsencode(top)):
        for name in [b"."] + folders + files:
            path = os.path.normpath(os.path.join(folder, name))
            st = os.lstat(path)
            if stat.S_ISSOCK(st.st_mode):
                continue
            attrs = {a: os.getxattr(path, a, follow_symlinks=False)
                     for a in os.listxattr(path, follow_symlinks=False)}
            data = None
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as file:
                    data = (file.read(), data_map(file) if st.st_size > 1 << 20 else None)
            elif stat.S_ISLNK(st.st_mode):
                data = os.readlink(path)
            short = os.path.relpath(path, os.fsencode(top))
            found[short] = (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, st.st_rdev,
                            tuple(sorted(attrs.items())), data)
            if not stat.S_ISDIR(st.st_mode) and st.st_nlink > 1:
                names.setdefault(st.st_ino, set()).add(short)
    # The overlay keeps a link of its own to its whiteouts.
    return found, sorted(sorted(group) for group in names.values() if len(group) > 1)


def assert_same(a, b):
    (a, a_links), (b, b_links) = a, b
    assert a.keys() == b.keys()
    assert not [name for name in a if a[name] != b[name]]
    assert a_links == b_links


@pytest.fixture(params=["dir", "btrfs"])
def place(request, node):
    """A pool where copying takes as long as the files are large, and one where it costs nothing."""
    more = {"size": "512M"} if request.param == "btrfs" else {}
    node.job("POST", "/v1/pools", {"name": "place", "driver": request.param, **more})
    return "place"


def odd_ve(node, name="web1", pool="default"):
    """A stopped VE with one of each kind of file."""
    node.ve(name, pool=pool)
    node.sh(name, ODD)
    node.job("POST", f"/v1/ves/{name}/stop", {"force": True})
    top = upper(node, name)
    os.setxattr(os.path.join(top, "root/suid"), "security.capability",
                bytes([1, 0, 0, 2, 0, 0x20]) + bytes(14))
    os.setxattr(os.path.join(top, "root/old"), "user.note", b"\0kept\n")
    # user::rw- user:33:r-- group::r-- mask::r-- other::r--
    acl = bytes([2, 0, 0, 0]) + b"".join(
        bytes([tag, 0, perm, 0]) + who.to_bytes(4, "little") for tag, perm, who in
        ((1, 6, 2**32 - 1), (2, 4, 33), (4, 4, 2**32 - 1), (16, 4, 2**32 - 1), (32, 4, 2**32 - 1)))
    for kind in ("access", "default"):
        os.setxattr(os.path.join(top, "root/deep"), "system.posix_acl_" + kind, acl)
    kinds = {os.lstat(os.path.join(folder, n)).st_mode & 0o170000
             for folder, d, f in os.walk(top) for n in d + f}
    assert kinds >= {stat.S_IFCHR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFREG, stat.S_IFDIR}
    return tree(top)


def leases(node, pool="default"):
    """Saved trees, of which only backups can have made any here."""
    return os.listdir(os.path.join(node.pool(pool), ".saved"))


def test_there_and_back(node, place, tmp_path):
    before = odd_ve(node, pool=place)
    file = tmp_path / "web1.tzst"
    node.ok("PATCH", "/v1/ves/web1", {"params": {"memory.limit": "256M"}, "labels": {"tier": "web"}})
    made = node.json("backup", "web1", str(file))
    assert made["kind"] == "full" and made["bytes"] == file.stat().st_size
    assert file.stat().st_mode & 0o777 == 0o600
    node.terem("restore", str(file), "web2", "--pool", place)
    assert_same(before, tree(upper(node, "web2")))
    web1, web2 = node.show("web1"), node.show("web2")
    assert web2["params"]["memory.limit"] == "256M" and web2["labels"] == {"tier": "web"}
    assert web1["id"] != web2["id"] and web2["state"] == "stopped"
    shown = node.json("backup", "show", str(file))
    assert shown["ve"]["name"] == "web1" and shown["id"] == made["id"]
    checked = node.json("backup", "verify", str(file))
    assert checked[0]["entries"] == len(before[0]) and checked[0]["id"] == made["id"]
    node.terem("restore", str(file), "web3", "--start", "--set", "memory.limit=128M")
    assert node.show("web3")["pool"] == place
    assert node.show("web3")["params"]["memory.limit"] == "128M"
    assert node.sh("web3", "cat /root/linked") == "secret\n"
    # tar and zstd alone can read it
    listed = subprocess.run(f"zstd -dc {file} | tar t", shell=True, check=True,
                            capture_output=True).stdout.decode("utf-8", "replace").split("\n")
    assert listed[0] == "terem/manifest.json" and "root/root/linked" in listed
    refused = node.terem("backup", "web1", str(file), check=False)
    assert refused.returncode == 1 and "is there already" in refused.stderr
    refused = node.terem("restore", str(file), "web2", check=False)
    assert refused.returncode == 1 and "there is a VE of this name already" in refused.stderr
    assert leases(node, place) == []


def test_what_an_owner_can_make(node, tmp_path):
    """What is backed up can be restored: holes cost nothing, and attributes are many."""
    node.job("POST", "/v1/pools", {"name": "cow", "driver": "btrfs", "size": "512M"})
    node.ve("web1", pool="cow")
    node.sh("web1", "truncate -s 2000000000000000 /root/big && touch /root/many")
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    many = os.path.join(upper(node, "web1"), "root/many")
    for number in range(100):
        os.setxattr(many, f"user.k{number}", b"x")
    file = tmp_path / "web1.tzst"
    node.terem("backup", "web1", str(file))
    node.terem("restore", str(file), "web2")
    assert os.path.getsize(os.path.join(upper(node, "web2"), "root/big")) == 2000000000000000
    assert len(os.listxattr(os.path.join(upper(node, "web2"), "root/many"))) == 100


def test_pipes(node):
    before = odd_ve(node)
    cli = [node.cli, "--root", node.root]
    with subprocess.Popen([*cli, "backup", "web1", "-"], stdout=subprocess.PIPE, env=ENV) as out:
        done = subprocess.run([*cli, "restore", "-", "web2"], stdin=out.stdout, env=ENV, check=False,
                              capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(before, tree(upper(node, "web2")))


def test_a_running_ve(node, place, tmp_path):
    """What is written in step is in step in the backup, and the VE runs on."""
    node.ve("web1", pool=place)
    slow = node.ok("GET", f"/v1/pools/{place}")["driver"] == "dir"
    node.terem("push", "web1", "-", "/root/lockstep", input=LOCKSTEP)
    node.sh("web1", "sh /root/lockstep >/dev/null 2>&1 & until [ -s /root/second ]; do usleep 10000; done")
    for n in range(3):
        file = tmp_path / f"{n}.tzst"
        told = node.terem("backup", "web1", str(file)).stderr
        assert ("frozen while its files are copied" in told) == slow, told
        assert node.state("web1") == "running"
        node.terem("restore", str(file), f"back{n}")
        top = os.path.join(upper(node, f"back{n}"), "root")
        with open(os.path.join(top, "first"), encoding="ascii") as first, \
                open(os.path.join(top, "second"), encoding="ascii") as second:
            first, second = first.read().split(), second.read().split()
        assert len(first) - len(second) in (0, 1) and first[:len(second)] == second
    before = node.sh("web1", "wc -l </root/first")
    wait_for(lambda: int(node.sh("web1", "wc -l </root/first")) > int(before))
    assert leases(node, place) == []
    assert node.ok("GET", "/v1/ves/web1/snapshots") == []


def test_of_a_snapshot(node, tmp_path):
    node.ve("web1")
    node.sh("web1", "echo then >/root/x")
    node.job("POST", "/v1/ves/web1/snapshots", {"name": "then"})
    node.sh("web1", "echo now >/root/x")
    node.terem("backup", "--snapshot", "then", "web1", str(tmp_path / "then"))
    node.terem("restore", str(tmp_path / "then"), "web2", "--start")
    assert node.sh("web2", "cat /root/x") == "then\n"
    assert [s["name"] for s in node.ok("GET", "/v1/ves/web1/snapshots")] == ["then"]
    refused = node.terem("backup", "--snapshot", "them", "web1", str(tmp_path / "no"), check=False)
    assert "did you mean then?" in refused.stderr and not (tmp_path / "no").exists()


def test_incremental(node, place, tmp_path):
    """A chain of three, of a VE that is stopped and of one that runs; and wrong chains."""
    odd_ve(node, pool=place)
    full, one, two = (str(tmp_path / n) for n in ("full", "one", "two"))
    node.job("POST", "/v1/ves/web1/start")
    node.sh("web1", "dd if=/dev/urandom of=/root/big bs=1M count=8 2>/dev/null")
    node.terem("backup", "web1", full)
    node.sh("web1", "rm -r /root/deep; echo more >>/root/linked; mv /root/old /root/older; "
                    "rm /root/fifo; mkdir /root/fifo; echo x >/root/fifo/in")
    node.terem("backup", "--since", full, "web1", one)
    assert os.path.getsize(one) < os.path.getsize(full) / 4
    node.sh("web1", "ln /root/suid /root/suid2; rm /root/sparse; chmod 700 /root/empty")
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    node.terem("backup", "--since", one, "web1", two)
    node.terem("backup", "verify", full, one, two)
    other = str(tmp_path / "other")  # of which nothing stands on the others, nor they on it
    node.terem("backup", "web1", other)
    assert node.terem("backup", "verify", other, full, one, two).stdout.count(": whole: ") == 4
    assert "to be restored it needs backup" in node.terem("backup", "verify", one).stdout
    node.terem("restore", full, one, two, "web2", "--pool", place)
    assert_same(tree(upper(node, "web1")), tree(upper(node, "web2")))
    for files, word in (((one,), "give the full one first"), ((full, two), "does not stand on"),
                        ((one, full), "give the full one first"), ((full, full), "does not stand")):
        refused = node.terem("restore", *files, "web3", check=False)
        assert refused.returncode != 0 and word in refused.stderr, refused.stderr
    refused = node.terem("backup", "verify", full, two, check=False)
    assert refused.returncode != 0 and "stands on backup" in refused.stderr
    assert node.api("GET", "/v1/ves/web3").status == 404


def test_damaged(node, tmp_path):
    """One flipped byte: refused with the part's name, and nothing of it is there afterwards."""
    node.ve("web1", start=False)
    top = upper(node, "web1")
    rng = random.Random(4)
    for name in ("ibdata1", "other"):
        with open(os.path.join(top, name), "wb") as file:
            file.write(rng.randbytes(5 << 20))
    good = tmp_path / "good"
    node.terem("backup", "web1", str(good))
    data = good.read_bytes()
    pool = node.pool()
    ids = sorted(n for n in os.listdir(pool) if n.isdigit())
    bad = tmp_path / "bad"
    cases = [(5, "its head"), (40, "its head"), (300, "its manifest"), (len(data) // 3, "ibdata1"),
             (len(data) - len(data) // 4, "other"), (len(data) - 20, "its trailer"),
             (len(data) - 1, "its trailer")]
    cases += [(rng.randrange(len(data)), "") for _ in range(12)]
    for at, part in cases:
        bad.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1:])
        for done in (node.terem("backup", "verify", str(bad), check=False),
                     node.terem("restore", str(bad), "web2", check=False)):
            assert done.returncode != 0 and part in done.stderr, (at, part, done.stderr)
            assert "damaged" in done.stderr
    for wrong, part in ((data[:-1], "trailer"), (data[:len(data) // 2], "ends too early"),
                        (data + b"\0", "behind its trailer"), (data + data, "behind its trailer"),
                        (b"", "not a backup"), (b"PK\3\4" * 100, "not a backup")):
        bad.write_bytes(wrong)
        done = node.terem("restore", str(bad), "web2", check=False)
        assert done.returncode != 0 and part in done.stderr, done.stderr
        assert part in node.terem("backup", "verify", str(bad), check=False).stderr
    assert [v["name"] for v in node.ok("GET", "/v1/ves")] == ["web1"]
    settle(node)
    assert sorted(n for n in os.listdir(pool) if n.isdigit()) == ids
    node.terem("restore", str(good), "web2")


def test_another_node(node, build, tmp_path):
    """One that lacks the template says so; embedded layers go with the file, and are checked."""
    before = odd_ve(node)
    bare, full, inc = (str(tmp_path / n) for n in ("bare", "full", "inc"))
    node.terem("backup", "web1", bare)
    node.terem("backup", "--embed", "web1", full)
    node.terem("backup", "--since", full, "web1", inc)
    with Node(build) as other:
        refused = other.terem("restore", bare, "web1", check=False)
        assert refused.returncode != 0
        assert "stands on template busybox" in refused.stderr and "--embed" in refused.stderr
        other.terem("restore", full, "web1", "--start")
        assert other.sh("web1", "cat /root/linked") == "secret\n"
        other.terem("restore", full, inc, "web2")
        assert_same(before, tree(upper(other, "web2")))
        layers = os.listdir(os.path.join(other.root, "lib/layers"))
        assert len([n for n in layers if n.startswith("sha256-")]) == 1
        other.terem("restore", full, "web3", "--start")
        node.terem("restore", full, "web2", "--start")
        other.terem("destroy", "--force", "web1", "web2", "web3")
    # the layer of the file is a tar like any other
    with subprocess.Popen(["zstd", "-dc", full], stdout=subprocess.PIPE) as plain, \
            tarfile.open(fileobj=plain.stdout, mode="r|") as file:
        names = [m.name for m in file if m.name.startswith("terem/layers/")]
    assert len(names) == 1


def test_layers_that_leave(node, tmp_path):
    """What a file needs is told; when the template has other layers by now they are in the file, once."""
    node.ve("web1", start=False)
    early, late, inc = (str(tmp_path / n) for n in ("early", "late", "inc"))
    layer = node.ok("GET", "/v1/templates/busybox")["layers"][0]
    said = node.terem("backup", "web1", early).stdout
    assert "exactly these layers of template busybox" in said and "this node has now" in said and layer[:19] in said
    node.terem("template", "remove", "busybox", "--force")
    assert "any node can restore it" in node.terem("backup", "web1", late).stdout
    assert "any node can restore it" in node.terem("backup", "--since", late, "web1", inc).stdout
    assert os.path.getsize(inc) < os.path.getsize(late) / 4
    assert "this node has now" in node.terem("backup", "show", early).stdout
    node.terem("destroy", "--force", "web1")
    node.terem("template", "prune")
    assert "not all of which this node has" in node.terem("backup", "show", early).stdout
    refused = node.terem("restore", early, "web2", check=False)
    assert refused.returncode != 0 and "on a node that still has it" in refused.stderr
    node.terem("restore", late, inc, "web2", "--start")


def test_full_disks(node, tmp_path):
    """No room for the file, and no room for the tree: told, and nothing is left behind."""
    node.ve("web1", start=False)
    with open(os.path.join(upper(node, "web1"), "data"), "wb") as data:
        data.write(random.Random(1).randbytes(30 << 20))
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "terem-small", str(small)], check=True)
    try:
        refused = node.terem("backup", "web1", str(small / "x"), check=False)
        assert refused.returncode != 0 and "No space left" in refused.stderr, refused.stderr
        settle(node)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    file = tmp_path / "web1.tzst"
    node.terem("backup", "web1", str(file))
    image = tmp_path / "image"
    subprocess.run(["truncate", "-s", "40M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(root)], check=True)
    try:
        with Node(node.build, root=str(root)) as other:
            other.template()
            refused = other.terem("restore", str(file), "web1", check=False)
            assert refused.returncode != 0, refused
            assert other.ok("GET", "/v1/ves") == []
    finally:
        subprocess.run(["umount", str(root)], check=True)


def manifest_of(file):
    """The text of a backup's first member."""
    with subprocess.Popen(["zstd", "-dc", file], stdout=subprocess.PIPE) as plain, \
            tarfile.open(fileobj=plain.stdout, mode="r|") as tar:
        text = tar.extractfile(tar.next()).read().decode()
        plain.kill()
    return text


def test_fields_of_a_manifest(node, tmp_path):
    """What is not as Terem writes it is refused by its name, not passed over."""
    node.ve("web1", start=False)
    file = str(tmp_path / "web1")
    node.terem("backup", "web1", file)
    text = manifest_of(file)
    good = json.loads(text)
    assert good["ve"]["spec"]["kind"] == "system"
    for key, value in (("kind", 1), ("kind", "machine"), ("pool", ["x"]), ("profile", {}), ("profile", "p" * 300),
                       ("schedule", "daily"), ("schedule", {"daily": "many"}), ("user", 0), ("user", "u" * 256),
                       ("workdir", "/" + "w" * 4096), ("init_path", "/" + "i" * 5000), ("init_path", False),
                       ("params", []), ("labels", 1), ("autostart", "yes"), ("profile_params", "x"),
                       ("command", [1]), ("init", "a\nb\x1b[2J"), ("user", "root\nx"), ("env", {"A": 1}),
                       ("TOP format", None), ("TOP format", []), ("TOP format", -1), ("TOP kind", []), ("TOP kind", {}),
                       ("TOP kind", -1), ("TOP kind", "xxx"), ("TOP kind", "incremental"), ("TOP layers", "x"),
                       ("TOP saved", []), ("TOP terem", 1), ("TOP tree", 3), ("TOP created", "xxx"),
                       ("TOP ve", None), ("TOP ve", -1), ("TOP ve", []), ("TOP since", [])):
        bad = json.loads(text)
        top, key = key.startswith("TOP "), key.removeprefix("TOP ")
        (bad if top else bad["ve"] if key == "profile_params" else bad["ve"]["spec"])[key] = value
        answer = node.api("POST", "/v1/restore", {"name": "w", "manifests": [json.dumps(bad)]})
        assert answer.status >= 400 and f'"{key}"' in answer.json["error"]["message"], (key, answer)
    node.terem("restore", file, "web2")


def test_nesting_is_told(node, tmp_path):
    """More than a VE has by itself does not come with a file in silence, and can be left behind."""
    node.ve("web1", start=False, nesting=True)
    file = str(tmp_path / "web1")
    node.terem("backup", "web1", file)
    assert "nesting" in node.terem("restore", file, "web2").stdout
    assert node.ok("GET", "/v1/ves/web2")["nesting"] is True
    assert "nesting" not in node.terem("restore", file, "web3", "--no-nesting").stdout
    assert node.ok("GET", "/v1/ves/web3")["nesting"] is False


def test_room_that_is_just_becoming_free(build, tmp_path):
    """A restore right after a destroy, in a pool with room for one of the two."""
    file = str(tmp_path / "web1")
    with Node(build, pool_grow="off") as node:
        node.template()
        node.terem("pool", "create", "small", "--driver", "btrfs", "--size", "400M")
        node.ve("web1", pool="small", start=False)
        with open(os.path.join(upper(node, "web1"), "data"), "wb") as data:
            for seed in range(200):
                data.write(random.Random(seed).randbytes(1 << 20))
        node.terem("backup", "web1", file)
        for old, new in (("web1", "web2"), ("web2", "web3")):
            node.terem("destroy", "--force", old)
            node.terem("restore", file, new, "--pool", "small")
        node.terem("destroy", "--force", "web3")


def test_a_layer_that_has_no_room(node, build, tmp_path):
    """An embedded layer larger than what is free is refused before it is unpacked."""
    node.ve("web1", start=False)
    file = str(tmp_path / "web1")
    node.terem("backup", "--embed", "web1", file)
    disk = Disk("24M")
    try:
        with Node(build, root=disk.at) as other:
            with open(os.path.join(disk.at, "filler"), "wb") as filler:
                free = os.statvfs(disk.at)
                os.posix_fallocate(filler.fileno(), 0, free.f_bavail * free.f_frsize - (2 << 20))
            refused = other.terem("restore", file, "web1", check=False)
            assert refused.returncode != 0 and "has room for" in refused.stderr, refused.stderr
            assert other.ok("GET", "/v1/ves") == [] and os.listdir(os.path.join(disk.at, "lib/tmp")) == []
    finally:
        disk.close()


@pytest.mark.parametrize("name, levels, kept", [("d" * 200, 30, 20), ("e", 400, 254)])
def test_paths_without_an_end(node, place, tmp_path, name, levels, kept):
    """A path that is longer than any, or deeper, is left out with a word; all else is there and back, also
    of an incremental backup."""
    node.ve("web1", pool=place)
    node.sh("web1", "echo before >/root/a; echo after >/root/z")
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    folder = os.open(os.path.join(upper(node, "web1"), "root"), os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=folder)
        below = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
        os.close(os.open("at", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
    os.close(folder)
    node.job("POST", "/v1/ves/web1/start")
    told = node.terem("backup", "web1", str(tmp_path / "full")).stderr
    assert "web1: its backup is without 1 path of more than" in told and "the first is in root/" in told
    assert "web1: its backup is without 1 path of more than" in node.words(4000)
    node.sh("web1", "echo more >/root/more; rm /root/z")
    node.terem("backup", "--since", str(tmp_path / "full"), "web1", str(tmp_path / "inc"))
    node.terem("restore", str(tmp_path / "full"), str(tmp_path / "inc"), "web2", "--pool", place)
    root = os.path.join(upper(node, "web2"), "root")
    assert {"a", "more", name} <= set(os.listdir(root)) and "z" not in os.listdir(root)
    top = os.open(root, os.O_RDONLY)
    assert sum("at" in files for _, _, files, _ in os.fwalk(".", dir_fd=top)) == kept
    os.close(top)
    node.terem("destroy", "--force", "web1", "web2")


def test_by_hand(node):
    """Over the API: who does not upgrade is told; a request that makes no sense is refused."""
    node.ve("web1", start=False)
    assert node.api("POST", "/v1/ves/web1/backup", {}).status == 426
    assert node.api("POST", "/v1/ves/nobody/backup", {}).error == "not-found"
    bad = {"since": {"id": "x" * 32, "bytes": 5}}
    assert node.api("POST", "/v1/ves/web1/backup", bad).error == "usage"
    for manifests in ([], ["{}"], ["x"], [json.dumps({"id": "0" * 32})]):
        assert node.api("POST", "/v1/restore", {"name": "w", "manifests": manifests}).status >= 400


def test_told_once(node, tmp_path):
    """Elsewhere than on a terminal a line is a change, not a step."""
    file = tmp_path / "web1.tzst"
    node.ve("web1", start=False)
    with open(os.path.join(upper(node, "web1"), "data"), "wb") as data:
        data.write(random.Random(1).randbytes(16 << 20))
    for told in node.terem("backup", "web1", str(file)), node.terem("restore", str(file), "web2"):
        lines = told.stderr.splitlines()
        assert lines and len(lines) == len(set(lines)), lines
