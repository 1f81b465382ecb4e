# SPDX-License-Identifier: GPL-2.0-or-later
"""Layers: templates on top of others, their revisions, VEs that move to them, and garbage."""
import os
import shutil
import subprocess
import time

import pytest

from node import PATIENCE, wait_for

SHOP = """#!/bin/sh
set -e
echo "unpacking the shop"
echo v1 > /etc/shop
mkdir /srv/shop; echo page > /srv/shop/index; ln /srv/shop/index /srv/shop/same
rm /etc/nsswitch.conf
rm -r /etc/rc.d; mkdir /etc/rc.d; echo "$SECRET" > /etc/secret
echo x > /tmp/x; echo x > /run/x; echo 0123 > /etc/machine-id
mkdir -p /etc/ssh; echo key > /etc/ssh/ssh_host_rsa_key; echo config > /etc/ssh/sshd_config
chown 33:33 /srv/shop
"""


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "script"
        path.write_text(text)
        return str(path)
    return write


def layers(node):
    return sorted(name for name in os.listdir(os.path.join(node.root, "lib/layers")))


def trees(node):
    return [name for name in os.listdir(node.pool()) if name.isdigit()]


def small(tmp_path, number):
    """A source to import a template from: one file that says which."""
    root = tmp_path / f"root{number}"
    (root / "srv").mkdir(parents=True)
    (root / "srv/which").write_text(f"{number}\n")
    for i in range(50):
        (root / f"srv/{i}").write_text("x" * 1000)
    return str(root)


def nothing_left(node, before):
    """No trace of a build: layer, draft, tree, VE, cgroup, interface, template."""
    wait_for(lambda: layers(node) == before and not node.interfaces() and not trees(node) and
             not [path for path in node.cgroups() if "ve-" in path],
             lambda: (layers(node), node.interfaces(), trees(node), node.cgroups()))
    assert node.ok("GET", "/v1/ves") == []
    assert [t["name"] for t in node.ok("GET", "/v1/templates")] == ["busybox"]


def test_build_from(node, script):
    node.template()
    said = node.terem("template", "build", "shop", "--from", "busybox", "--run", script(SHOP),
                      "--env", "SECRET=abc", "--cmd", "cat /etc/shop; exec sleep 1000")
    assert "unpacking the shop" in said.stderr + said.stdout
    base, shop = node.json("template", "show", "busybox"), node.json("template", "show", "shop")
    assert shop["layers"][:-1] == base["layers"] and len(shop["layers"]) == 2
    assert shop["revision"] == 1 and shop["kind"] == "app" and shop["recipe"]["from"] == "busybox"
    assert node.terem("template", "log", "shop", check=False).returncode == 1
    assert len(layers(node)) == 2 and trees(node) == []
    node.ve("web1", template="shop")
    node.ve("web2", template="shop")
    for name in ("web1", "web2"):
        assert node.sh(name, "cat /etc/shop /etc/secret; cat /srv/shop/same; echo $SECRET; "
                       "stat -c %u:%g:%h /srv/shop /srv/shop/index") == \
            "v1\nabc\npage\nabc\n33:33:2\n0:0:2\n"
        for gone in ("/etc/nsswitch.conf", "/tmp/x", "/run/x", "/etc/machine-id",
                     "/etc/ssh/ssh_host_rsa_key", "/.terem-build", "/.terem-build.run"):
            assert node.run(name, "ls", gone, check=False)["exit"] != 0, gone
        assert node.sh(name, "ls /etc/rc.d; cat /etc/ssh/sshd_config") == "config\n"
    assert "v1" in node.terem("logs", "web1").stdout
    # The same bytes: the second VE wrote nothing of it.
    top = os.path.join(node.root, "lib/layers", shop["layers"][1].replace(":", "-"), "root")
    assert os.path.exists(os.path.join(top, "etc/shop"))
    whiteout = os.stat(os.path.join(top, "etc/nsswitch.conf"))
    assert whiteout.st_rdev == 0 and os.getxattr(os.path.join(top, "etc/rc.d"),
                                                "user.overlay.opaque") == b"y"
    # On top of that one, too; and a VE in it needs no name in the world.
    node.terem("template", "build", "more", "--from", "shop", "--run", script("echo 2 > /etc/2"))
    assert len(node.json("template", "show", "more")["layers"]) == 3


def test_update_with_another_script(node, script):
    node.template()
    node.terem("template", "build", "shop", "--from", "busybox", "--run",
               script("echo $WHO > /etc/shop\n"), "--env", "WHO=one", "--cmd", "sleep 1000")
    # What is not given stays as it was, and what fails changes nothing.
    failed = node.terem("template", "update", "shop", "--run", script("exit 7\n"), check=False)
    assert failed.returncode == 1 and "status 7" in failed.stderr
    assert node.json("template", "show", "shop")["recipe"]["run"] == "echo $WHO > /etc/shop\n"
    node.terem("template", "update", "shop", "--run",
               script("echo new $WHO $SIZE > /etc/shop\n"), "--env", "SIZE=big")
    shop = node.json("template", "show", "shop")
    assert shop["revision"] == 2 and shop["command"] == ["/bin/sh", "-c", "sleep 1000"]
    assert shop["recipe"]["env"] == {"WHO": "one", "SIZE": "big"}
    shown = node.terem("template", "show", "shop").stdout
    assert "script    echo new $WHO $SIZE > /etc/shop" in shown
    node.terem("template", "update", "shop", "--cmd", "sleep 2000")  # and the next one knows them
    node.ve("web1", template="shop")
    assert node.sh("web1", "cat /etc/shop") == "new one big\n"
    assert node.json("template", "show", "shop")["command"][-1] == "sleep 2000"
    # Others are made in other ways.
    refused = node.terem("template", "update", "busybox", "--run", script("true\n"), check=False)
    assert refused.returncode == 2 and "--from busybox" in refused.stderr
    refused = node.terem("template", "update", "shop", "--include", "NO THANKS", check=False)
    assert refused.returncode == 2 and "package names" in refused.stderr
    node.terem("destroy", "-f", "web1")


def test_build_is_the_same_again(node, script):
    """Equal files make an equal layer, whatever the order they were written in."""
    node.template()
    text = "touch -d @1000000000 /a /b /etc; mkdir /c; touch -d @1000000000 /c\n"
    node.terem("template", "build", "one", "--from", "busybox", "--run", script(text))
    node.terem("template", "build", "two", "--from", "busybox", "--run",
               script("touch -d @1000000000 /b; mkdir /c; touch -d @1000000000 /c /a /etc\n"))
    one, two = (node.json("template", "show", name)["layers"] for name in ("one", "two"))
    root = os.path.join(node.root, "lib/layers")
    assert sorted(os.listdir(os.path.join(root, one[1].replace(":", "-"), "root"))) == \
        sorted(os.listdir(os.path.join(root, two[1].replace(":", "-"), "root")))


def test_failed_build(node, script):
    node.template()
    before = layers(node)
    done = node.terem("template", "build", "bad", "--from", "busybox", "--run",
                      script("echo first; echo last words; exit 3"), check=False)
    assert done.returncode == 1 and "the script ended with status 3: last words" in done.stderr
    assert "terem template log bad" in done.stderr
    assert node.terem("template", "log", "bad").stdout.splitlines() == ["first", "last words"]
    nothing_left(node, before)
    done = node.terem("template", "build", "bad", "--from", "busybox", "--include", "nginx",
                      check=False)
    assert done.returncode == 1 and "the packages could not be installed: there is no package manager" in done.stderr
    done = node.terem("template", "build", "bad", "--from", "busybox", "--timeout", "1s", "--run",
                      script("sleep 100"), check=False)
    assert done.returncode == 1 and "--timeout" in done.stderr
    for words, said in ((["--from", "nothing", "--run", "/dev/null"], "no template nothing"),
                        (["--from", "busybox"], "--run or --include"),
                        (["--run", "/dev/null"], "--run goes with --from"),
                        (["--from", "busybox", "--run", "/nowhere"], "cannot open /nowhere")):
        done = node.terem("template", "build", "bad", *words, check=False)
        assert done.returncode != 0 and said in done.stderr, done.stderr
    nothing_left(node, before)
    # It succeeds then, and the log goes.
    node.terem("template", "build", "bad", "--from", "busybox", "--run", script("true"))
    assert node.terem("template", "log", "bad", check=False).returncode == 1


def test_build_without_a_shell(node, script, tmp_path):
    """Nothing to run a script with: that is told, and of no VE."""
    node.terem("template", "import", "bare", small(tmp_path, 1))
    done = node.terem("template", "build", "t", "--from", "bare", "--run", script("true"), check=False)
    assert done.returncode == 1 and "/bin/sh: not found" in done.stderr, done.stderr
    assert ".build" not in done.stderr and "repair" not in done.stderr
    assert trees(node) == [] and node.ok("GET", "/v1/ves") == []


def test_bounded_build(node, script):
    """What a script may take is bounded, and it is told what was refused."""
    node.template()
    before = layers(node)
    done = node.terem("template", "build", "hog", "--from", "busybox", "--set", "memory.limit=32M",
                      "--run", script("head -c 200000000 /dev/zero | tail\n"), check=False)
    assert done.returncode == 1 and "memory" in done.stderr, done.stderr
    done = node.terem("template", "build", "hog", "--from", "busybox", "--set", "processes=20",
                      "--run", script("for i in $(seq 50); do sleep 100 & done; exit 9"), check=False)
    assert done.returncode == 1
    nothing_left(node, before)


def begin_build(node, name="slow", text="echo begun; sleep 1000"):
    job = node.ok("POST", "/v1/templates", {"name": name, "from": "busybox", "run": text})["id"]
    wait_for(lambda: node.ok("GET", f"/v1/jobs/{job}")["text"] == "begun", lambda: node.ok("GET", f"/v1/jobs/{job}"))
    return job


def test_cancelled_and_hidden(node):
    node.template()
    before = layers(node)
    job = begin_build(node)
    assert node.ok("GET", "/v1/ves") == [] and node.ok("GET", "/v1/usage") == []
    assert node.ok("GET", "/v1")["ves"] == 0 and len(node.interfaces()) == 1
    assert ".build" not in node.api("GET", "/metrics").body.decode()
    assert node.api("POST", "/v1/templates", {"name": "slow", "from": "busybox", "run": "true"}).error == "busy"
    assert node.api("DELETE", f"/v1/jobs/{job}?wait=true").error == "cancelled"
    assert node.ok("GET", f"/v1/jobs/{job}")["state"] == "cancelled"
    nothing_left(node, before)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
        return [int(child) for child in file.read().split()]


def words(pid):
    with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
        return file.read()


@pytest.mark.parametrize("who", ["teremd", "worker", "stop"])
def test_killed_in_the_middle(node, who):
    node.template()
    before = layers(node)
    begin_build(node)
    if who == "teremd":
        node.kill()
        node.start()
    elif who == "worker":
        workers = [pid for pid in children(node.daemon.pid) if "template-build" in words(pid)]
        assert len(workers) == 1
        os.kill(workers[0], 9)
    else:
        node.ok("POST", "/v1/node/stop", {"force": True})
        node.daemon.wait(PATIENCE)
        node.start()
    nothing_left(node, before)
    assert all(job["state"] != "running" for job in node.ok("GET", "/v1/jobs?all=true"))


def test_killed_at_any_time(node):
    node.template()
    before = layers(node)
    made = 0
    for i in range(12):
        job = node.ok("POST", "/v1/templates", {"name": "t", "from": "busybox", "run": "echo x > /x"})
        if i == 11:  # one at least is whole
            node.ok("GET", f"/v1/jobs/{job['id']}?wait=true")
        time.sleep(0.01 * i)
        node.kill()
        node.start()
        if node.api("GET", "/v1/templates/t").status == 200:
            assert len(layers(node)) >= 2
            node.job("DELETE", "/v1/templates/t")
            made += 1
        nothing_left(node, before)
    assert made


# ---- revisions, and VEs that move to them ----

FIRST = """mkdir /srv/a /srv/keep; echo 1 > /srv/a/changed; echo 1 > /srv/a/same; echo 1 > /srv/a/goes
echo 1 > /srv/a/kind; echo 1 > /srv/a/deleted; echo 1 > /srv/a/other; mkdir /srv/a/dir; echo 1 > /srv/a/dir/x
mkdir /srv/tree; echo 1 > /srv/tree/x; echo 1 > /srv/mode; ln -s one /srv/link; echo 1 > /srv/agreed
"""
SECOND = """mkdir /srv/a /srv/keep; echo 2 > /srv/a/changed; echo 1 > /srv/a/same; echo 2 > /srv/a/comes
mkdir /srv/a/kind; echo 2 > /srv/a/deleted; echo 2 > /srv/a/other; mkdir /srv/a/dir; echo 2 > /srv/a/dir/x
mkdir /srv/tree; echo 2 > /srv/tree/x; echo 1 > /srv/mode; chmod 600 /srv/mode; ln -s two /srv/link
"""
OWN = """echo own > /srv/a/changed; echo own > /srv/a/same; echo own > /srv/a/goes; echo own > /srv/a/comes
echo own > /srv/a/kind; rm /srv/a/deleted; echo own > /srv/keep/mine; rm -r /srv/tree; mkdir /srv/tree
echo own > /srv/tree/y; echo own >> /srv/mode; rm /srv/link /srv/agreed; echo own > /srv/link
"""
EXPECTED = {"/srv/a/changed": "modified", "/srv/a/goes": "removed", "/srv/a/comes": "added",
            "/srv/a/kind": "type", "/srv/a/deleted": "deleted", "/srv/tree": "modified",
            "/srv/mode": "modified", "/srv/link": "modified"}


def again(node, name, text):
    """Another script for the template, and what is said of its new revision."""
    return node.terem("template", "update", name, "--run", "/dev/stdin", input=text).stdout


def conflicts(report):
    return {c["path"]: c["kind"] for c in report["conflicts"]}


def test_update(node, script):
    node.template()
    node.terem("template", "build", "shop", "--from", "busybox", "--run", script(FIRST))
    node.ve("web1", template="shop")
    node.ve("web2", template="shop", start=False)
    node.sh("web1", OWN)
    old = node.json("template", "show", "shop")
    assert "2 VEs stay on an earlier revision" in again(node, "shop", SECOND)
    row = next(r for r in node.terem("template", "list").stdout.splitlines() if r.startswith("shop")).split()
    assert (row[3], row[5], row[6]) == ("2", "2", "2"), row
    new = node.json("template", "show", "shop")
    assert (old["revision"], new["revision"]) == (1, 2) and new["outdated"] == ["web1", "web2"]
    assert new["layers"] != old["layers"] == node.show("web1")["layers"]
    assert "web1 web2" in node.terem("template", "show", "shop").stdout
    # Only a look, while it runs.
    said = node.terem("update", "--check", "web1").stdout
    assert "8 files of its own hide what has changed in template shop (revision 2)" in said
    assert "it was not moved: it runs, and terem update --restart web1 does that" in said
    said = node.terem("update", "--check", "web1", "--to", "busybox").stdout
    assert "it was not moved: it runs, and terem update --restart web1 --to busybox does that" in said
    node.terem("snapshot", "create", "web2", "early")
    assert node.show("web1")["layers"] == old["layers"] and node.state("web1") == "running"
    refused = node.terem("update", "web1", check=False)
    assert refused.returncode == 1 and "--restart" in refused.stderr
    items = node.json("update", "--restart", "web1", "web2")["result"]["items"]
    reports = {item["ve"]: item["result"] for item in items}
    assert conflicts(reports["web1"]) == EXPECTED and conflicts(reports["web2"]) == {}
    assert all(r["updated"] and r["revision"] == 2 for r in reports.values())
    assert node.state("web1") == "running" and node.state("web2") == "stopped"
    assert node.sh("web1", "cat /srv/a/changed /srv/a/other /srv/a/dir/x /srv/keep/mine; ls /srv/tree") \
        == "own\n2\n2\nown\ny\n"
    assert node.show("web1")["layers"] == new["layers"]
    assert node.json("template", "show", "shop")["outdated"] == []
    assert node.json("snapshot", "show", "web2", "early")["layers"] == old["layers"]
    assert "shop, not the layers of its present revision 2" in node.terem("snapshot", "show", "web2", "early").stdout
    back = node.terem("snapshot", "rollback", "web2", "early").stdout
    earlier = "an earlier revision of template shop than the present 2; terem update web2"
    assert earlier in back, back
    assert earlier in node.terem("show", "web2").stdout
    assert "it was not moved" not in node.terem("update", "web2").stdout
    node.terem("snapshot", "delete", "web2", "early")
    # The old layer goes when nobody stands on it any more.
    wait_for(lambda: len(layers(node)) == 2, lambda: layers(node))
    assert node.json("update", "web2")[0]["result"]["current"] is True
    assert "it has what template shop has now" in node.terem("update", "web2").stdout


def test_a_current_one_is_left_alone(node, script):
    def pids():
        return [node.show(name)["pid"] for name in ("web1", "web2")]

    node.template()
    node.terem("template", "build", "shop", "--from", "busybox", "--run", script("echo 1 > /v"))
    node.ve("web1", template="shop")
    node.ve("web2", template="shop")
    node.ve("web3", start=False)
    node.terem("pause", "web2")
    before = pids()
    again(node, "shop", "echo 2 > /v")
    said = node.terem("update", "--all").stdout
    assert "2 VEs run and are left as they are; terem update --restart moves them, too" in said, said
    assert pids() == before
    node.terem("update", "--all", "--restart")
    moved = pids()
    assert not set(before) & set(moved)
    # Now there is nothing to get: nobody stops, with --restart or without.
    node.terem("pause", "web2")
    said = node.terem("update", "--all", "--restart").stdout
    assert said.count("it has what template shop has now (revision 2)") == 2 and \
        "it has what template busybox has now" in said and "updated" not in said
    assert "web1: left as it is" in node.terem("update", "web1").stdout
    [job] = node.json("update", "web1", "--restart")
    assert job["kind"] == "update-check" and job["result"]["current"] and not job["result"]["updated"]
    assert pids() == moved
    assert (node.state("web1"), node.state("web2"), node.state("web3")) == \
        ("running", "paused", "stopped")
    assert node.terem("update", "web1", "--to", "busybox", check=False).returncode == 1


def test_update_to_another_template(node, script):
    node.template()
    node.terem("template", "build", "app", "--from", "busybox", "--run", script("echo 1 > /one"),
               "--cmd", "sleep 1000")
    node.terem("template", "build", "sys", "--from", "busybox", "--run", script("echo 2 > /two"))
    node.ve("web1", start=False)
    refused = node.terem("update", "web1", "--to", "app", check=False)
    assert refused.returncode == 1 and "has none" in refused.stderr
    refused = node.terem("update", "web1", "--to", "sis", check=False)
    assert refused.returncode == 1 and "did you mean sys" in refused.stderr
    node.terem("update", "web1", "--to", "sys")
    assert node.show("web1")["template"] == "sys"
    node.terem("start", "web1")
    assert node.sh("web1", "cat /two") == "2\n"


def test_update_follows_its_base(node, script):
    node.template()
    node.terem("template", "build", "mid", "--from", "busybox", "--run", script("echo 1 > /mid"))
    node.terem("template", "build", "top", "--from", "mid", "--run", script("cat /mid > /top"))
    again(node, "mid", "echo 2 > /mid")
    top = node.json("template", "show", "top")
    assert top["base_is_newer"] is True and "newer" in node.terem("template", "show", "top").stdout
    node.terem("template", "update", "top")
    now = node.json("template", "show", "top")
    assert now["base_is_newer"] is False and now["revision"] == 2
    node.ve("web1", template="top")
    assert node.sh("web1", "cat /mid /top") == "2\n2\n"
    # A base system is made again from what it was made of; an import from its source.
    node.terem("template", "update", "busybox")
    assert node.json("template", "show", "busybox")["revision"] == 2
    # A failed one changes nothing.
    before = node.json("template", "show", "mid")
    assert node.terem("template", "update", "mid", "--run", script("exit 5"), check=False).returncode == 1
    assert node.json("template", "show", "mid")["layers"] == before["layers"]
    node.job("DELETE", "/v1/templates/busybox?force=true")
    refused = node.terem("template", "update", "mid", check=False)
    assert refused.returncode == 1 and "busybox" in refused.stderr


def test_update_and_kill(node, script):
    """Killed at any moment, the VE stands on all of the old layers or on all of the new, and both
    are there."""
    node.template()
    node.terem("template", "build", "shop", "--from", "busybox", "--run", script("echo 1 > /v"))
    node.ve("web1", template="shop", start=False)
    for i in range(10):
        again(node, "shop", f"echo {i + 2} > /v")
        node.api("POST", "/v1/ves/web1/update", {})
        time.sleep(0.004 * i)
        node.kill()
        node.start()
        node.job("POST", "/v1/ves/web1/start")
        moved = node.show("web1")["layers"] == node.json("template", "show", "shop")["layers"]
        assert node.sh("web1", "cat /v") == f"{i + 2 if moved else i + 1}\n"
        node.job("POST", "/v1/ves/web1/kill")
        node.terem("update", "web1")


# ---- one copy on disk, one in memory ----

BIG = 32 << 20


def resident(path):
    done = subprocess.run(["fincore", "-b", "-n", "-o", "RES", path], capture_output=True, text=True,
                          check=True)
    return int(done.stdout)


def forget(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached(node, name):
    """Bytes of files in memory that count as the VE's."""
    number = node.show(name)["id"]
    for top, row in (("/sys/fs/cgroup/memory", "total_cache"), ("/sys/fs/cgroup", "file")):
        path = f"{top}/{node.cgroup_name}/ve-{number}/memory.stat"
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                return int(dict(line.split() for line in file)[row])
    return None


def on_disk(path):
    return sum(os.lstat(os.path.join(folder, name)).st_blocks * 512
               for folder, folders, files in os.walk(path) for name in folders + files)


@pytest.mark.skipif(not shutil.which("fincore"), reason="fincore (util-linux-extra) is not here")
def test_one_copy(node, script):
    node.template()
    node.terem("template", "build", "big", "--from", "busybox", "--run",
               script(f"head -c {BIG} /dev/urandom > /srv/big"))
    names = [f"web{i}" for i in range(4)]
    for name in names:
        node.ve(name, template="big", start=False)
        assert on_disk(os.path.join(node.pool(), str(node.show(name)["id"]))) <= 64 << 10
        node.terem("start", name)
    layer = os.path.join(node.root, "lib/layers",
                         node.json("template", "show", "big")["layers"][-1].replace(":", "-"),
                         "root/srv/big")
    forget(layer)
    assert resident(layer) < BIG // 10
    before = {name: cached(node, name) for name in names}
    sums = {node.sh(names[0], "sha256sum < /srv/big")}
    # What the first one read are the pages of the layer's own file (of which a busy machine may have
    # taken some back already), ...
    assert resident(layer) > BIG * 3 // 4
    for name in names[1:]:
        sums.add(node.sh(name, "sha256sum < /srv/big"))
        node.sh(name, "cat /srv/big > /dev/null")
    assert len(sums) == 1
    # ... and the others used them: they hold nothing of it themselves.
    if before[names[0]] is not None:
        assert cached(node, names[0]) - before[names[0]] > BIG // 2
        for name in names[1:]:
            assert cached(node, name) - before[name] < BIG // 3, name
    for name in names:
        assert on_disk(os.path.join(node.pool(), str(node.show(name)["id"]))) < BIG // 10


# ---- a real distribution ----

def test_build_from_debian(debian):
    """Packages by the template's own package manager, out of a VE's own network."""
    before = debian.json("template", "show", "debian-12")
    debian.terem("template", "build", "shop", "--from", "debian-12", "--include", "hello,openssh-server",
                 timeout=600)
    shop = debian.json("template", "show", "shop")
    assert shop["layers"][:-1] == before["layers"] and shop["kind"] == "system"
    debian.ve("shop1", template="shop")
    assert debian.sh("shop1", "hello -g hi; ls /etc/ssh/*_key 2>/dev/null; ls /var/lib/apt/lists /tmp "
                     "/usr/sbin/policy-rc.d 2>/dev/null; true").split()[0] == "hi"
    top = os.path.join(debian.root, "lib/layers", shop["layers"][-1].replace(":", "-"), "root")
    for gone in ("etc/machine-id", "etc/resolv.conf", "usr/sbin/policy-rc.d", "var/cache/apt/pkgcache.bin"):
        assert not os.path.lexists(os.path.join(top, gone)), gone
    assert not [name for name in os.listdir(os.path.join(top, "etc/ssh")) if name.endswith("_key")]
    # Each has host keys of its own.
    debian.ve("shop2", template="shop")
    keys = set()
    for name in ("shop1", "shop2"):
        debian.settled(name)
        debian.sh(name, "systemctl is-active ssh")
        keys.add(debian.sh(name, "cat /etc/ssh/ssh_host_ed25519_key.pub"))
    assert len(keys) == 2
