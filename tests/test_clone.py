# SPDX-License-Identifier: GPL-2.0-or-later
"""Clones: a VE from a copy of another's files, with an identity of its own."""
import contextlib
import os
import shutil
import subprocess
import time

import pytest

from events import Events
from node import Node, dice
from test_bad_input import Disk
from test_recovery import settle
from test_snapshots import LOCKSTEP, frozen, kill_worker, node, saved, take, tree  # noqa: F401 (a fixture)


def clone(node, source, name, **more):
    return node.job("POST", f"/v1/ves/{source}/clone", {"name": name, **more})


def pull(node, ve, path):
    return node.api("GET", f"/v1/ves/{ve}/files?path={path}").body


def push(node, ve, path, data, mode="0644"):
    node.ok("PUT", f"/v1/ves/{ve}/files?path={path}&mode={mode}", data,
            headers={"Content-Type": "application/octet-stream"})


def trees(node):
    """Of both pools: none twice."""
    names = [int(name) for pool in (node.where, "default") for name in os.listdir(node.pool(pool))
             if name.isdigit()]
    assert len(set(names)) == len(names), names
    return set(names)


def test_of_one_that_runs(node):
    """The same files, parameters and labels; another name, addresses and ids; neither sees what the
    other writes; all of one instant."""
    source = node.ve("web1", labels={"tier": "web", "a": "b"}, params={"memory.limit": "64M"})
    node.sh("web1", f"echo same >/root/x; chown 33:44 /root/x; cat >/root/writer <<'E'\n{LOCKSTEP}\n"
                    "E\nsetsid sh /root/writer </dev/null >/dev/null 2>&1 & until [ -s /root/z/second ]; do usleep 10000; done")
    clone(node, "web1", "web2", start=True, labels={"a": "c"}, params={"processes": "60"})
    copy = node.show("web2")
    assert copy["state"] == "running" and node.state("web1") == "running" and \
        not frozen(node, "web1")
    assert copy["labels"] == {"tier": "web", "a": "c"} and copy["template"] == source["template"]
    assert copy["params"] == {"memory.limit": "64M", "processes": "60"}
    assert not set(copy["addresses"]) & set(source["addresses"]) and copy["id"] != source["id"]
    assert node.sh("web2", "cat /root/x; stat -c %u:%g /root/x; hostname") == "same\n33:44\nweb2\n"
    assert node.sh("web1", "hostname") == "web1\n"
    first, second = (len(pull(node, "web2", f"/root/{name}").splitlines())
                     for name in ("a/first", "z/second"))
    assert first > 0 and first - second in (0, 1), (first, second)
    node.sh("web2", "echo other >/root/x")
    assert node.sh("web1", "cat /root/x") == "same\n"
    assert node.run("web2", "/bin/ps", check=False)["stdout"].count("writer") == 0


def test_of_a_snapshot(node):
    node.ve("web1", start=False)
    node.ok("PATCH", "/v1/ves/web1", {"schedule": {"hourly": 2}})
    push(node, "web1", "/root/x", "one")
    take(node, "web1", "one")
    push(node, "web1", "/root/x", "two")
    node.terem("clone", "web1", "web2", "--snapshot", "one")
    assert pull(node, "web2", "/root/x") == b"one" and pull(node, "web1", "/root/x") == b"two"
    copy = node.show("web2")
    assert copy["snapshots"] == 0 and copy["schedule"] == {"hourly": 2} and copy["state"] == "stopped"
    assert tree(node, "web2") == ({}, None)
    # The two have nothing in common: each snapshot is of one of them.
    take(node, "web2", "one")
    assert tree(node, "web2") == ({"one": None}, "one")
    node.terem("destroy", "web1")
    assert pull(node, "web2", "/root/x") == b"one" and len(saved(node)) == 1
    wrong = node.terem("clone", "web2", "web3", "--snapshot", "ona", check=False)
    assert wrong.returncode == 1 and "did you mean one" in wrong.stderr


def test_refusals(node):
    node.ve("web1", start=False, params={"cpu.guarantee": f"{os.cpu_count() * 60}"})
    for body, kind in (({"name": "web1"}, "exists"), ({"name": "Web"}, "usage"),
                       ({"name": "web2", "params": {"nix": "1"}}, "usage"),
                       ({"name": "web2", "labels": {"!": "x"}}, "usage"),
                       ({"name": "web2"}, "exhausted"),  # guaranteed to both is more than there is
                       ({}, "usage")):
        answer = node.api("POST", "/v1/ves/web1/clone", body)
        assert answer.error == kind, (body, answer)
    assert node.api("POST", "/v1/ves/web9/clone", {"name": "web2"}).error == "not-found"
    clone(node, "web1", "web3", params={"cpu.guarantee": None})
    node.job("DELETE", "/v1/ves/web3")
    assert [ve["name"] for ve in node.ok("GET", "/v1/ves")] == ["web1"] and len(trees(node)) == 1


def test_identity(node, tmp_path):
    """machine-id and SSH host keys are its own; the source keeps its; keys work."""
    kinds = {"rsa": ["-b", "2048"], "ecdsa": ["-b", "384"], "ed25519": [], "dsa": []}
    node.ve("web1", start=False)
    node.job("POST", "/v1/ves/web1/start")
    node.sh("web1", "mkdir -p /etc/ssh /var/lib/dbus; ln -s /etc/machine-id /var/lib/dbus/machine-id;"
                    " echo 0123456789abcdef0123456789abcdef >/etc/machine-id")
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    old = {}
    for kind, options in kinds.items():
        made = str(tmp_path / f"ssh_host_{kind}_key")
        done = subprocess.run(["ssh-keygen", "-q", "-t", kind, *options, "-N", "", "-f", made],
                              check=False, capture_output=True)
        if done.returncode:  # newer ones make no DSA keys: any bytes will do
            for name in (made, made + ".pub"):
                with open(name, "w", encoding="ascii") as file:
                    file.write("old\n")
        for name, mode in ((made, "0640" if kind == "rsa" else "0600"), (made + ".pub", "0644")):
            with open(name, "rb") as file:
                old[os.path.basename(name)] = file.read()
            push(node, "web1", f"/etc/ssh/{os.path.basename(name)}", old[os.path.basename(name)], mode)
    clone(node, "web1", "web2")
    assert pull(node, "web1", "/etc/machine-id") == b"0123456789abcdef0123456789abcdef\n"
    machine_id = pull(node, "web2", "/etc/machine-id")
    assert len(machine_id) == 33 and machine_id[12:13] == b"4" and int(machine_id, 16)
    assert pull(node, "web2", "/var/lib/dbus/machine-id") == machine_id
    assert machine_id != pull(node, "web1", "/etc/machine-id")
    for kind in ("rsa", "ecdsa", "ed25519"):
        name = f"ssh_host_{kind}_key"
        private, public = (pull(node, "web2", f"/etc/ssh/{file}") for file in (name, name + ".pub"))
        assert private != old[name] and public != old[name + ".pub"], kind
        assert pull(node, "web1", f"/etc/ssh/{name}") == old[name]
        path = str(tmp_path / f"new-{kind}")
        with open(path, "wb") as file:
            file.write(private)
        os.chmod(path, 0o600)
        derived = subprocess.run(["ssh-keygen", "-y", "-f", path], check=True, text=True,
                                 capture_output=True).stdout.split()
        assert derived[:2] == public.decode().split()[:2] and \
            public.decode().split()[2] == "root@web2"
        # What it signs its public half verifies.
        subprocess.run(["ssh-keygen", "-Y", "sign", "-n", "test", "-f", path], check=True,
                       input=b"text", capture_output=True)
        signed = subprocess.run(["ssh-keygen", "-Y", "sign", "-n", "test", "-f", path], check=True,
                                input=b"text", capture_output=True).stdout
        (tmp_path / "signature").write_bytes(signed)
        (tmp_path / "signers").write_text("me " + " ".join(public.decode().split()[:2]) + "\n")
        subprocess.run(["ssh-keygen", "-Y", "verify", "-n", "test", "-I", "me", "-f",
                        str(tmp_path / "signers"), "-s", str(tmp_path / "signature")],
                       check=True, input=b"text", capture_output=True)
    node.job("POST", "/v1/ves/web2/start")
    listed = node.sh("web2", "cd /etc/ssh && stat -c '%n %a %u' * | sort").splitlines()
    assert "ssh_host_rsa_key 640 0" in listed and "ssh_host_ed25519_key 600 0" in listed
    assert "521" not in " ".join(listed) and not [line for line in listed if "dsa_key" in line and
                                                  "ecdsa" not in line]
    assert b"nistp384" in pull(node, "web2", "/etc/ssh/ssh_host_ecdsa_key.pub")
    assert "ssh_host_dsa_key" in node.words(100000)
    assert pull(node, "web1", "/etc/ssh/ssh_host_dsa_key") == old["ssh_host_dsa_key"]


def test_identity_of_its_template(node, tmp_path):
    """What a template brought along is not the clone's either."""
    root = tmp_path / "root"
    for folder in ("bin", "etc/ssh", "proc", "dev", "sys", "tmp", "run", "root", "var"):
        (root / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    node.terem("template", "import", "odd", str(root))
    node.terem("create", "web1", "--template", "odd", *(["--pool", "cow"] if node.where == "cow" else []),
               "--", "/bin/sh", "-c", "sleep 1000")
    was = pull(node, "web1", "/etc/machine-id")
    clone(node, "web1", "web2")
    assert pull(node, "web1", "/etc/machine-id") == was
    assert was.startswith(b"0123456789")
    assert pull(node, "web2", "/etc/machine-id") not in (b"", was)


def test_what_a_ve_laid_in_the_way(node):
    """Links and odd files of a hostile VE lead nowhere."""
    node.ve("web1")
    node.sh("web1", "mkdir -p /etc/ssh/ssh_host_dir_key; ln -s /etc/passwd /etc/ssh/ssh_host_rsa_key;"
                    "mkfifo /etc/ssh/ssh_host_ed25519_key; ln -s / /var/lib; rm -f /etc/machine-id;"
                    "mkfifo /etc/machine-id; ln -s /etc/passwd /etc/ssh/.terem-new;"
                    "cp /etc/passwd /root/passwd")
    answer = node.api("POST", "/v1/ves/web1/clone?wait=true", {"name": "web2"})
    # A directory in the place of a key cannot be removed: that is said, and nothing is left.
    assert answer.status >= 400 and "ssh_host_dir_key" in answer.json["error"]["message"], answer
    assert len(trees(node)) == 1
    node.sh("web1", "rmdir /etc/ssh/ssh_host_dir_key")
    clone(node, "web1", "web2", start=True)
    assert node.sh("web2", "cat /etc/passwd") == node.sh("web1", "cat /root/passwd")
    assert node.sh("web2", "ls /etc/ssh") == ""


@pytest.mark.parametrize("more", [{}, {"start": True}, {"pool": "default"}],
                         ids=["stopped", "started", "elsewhere"])
def test_killed_in_the_middle(node, more):
    """kill -9 of teremd at random instants: the clone is there whole, or not at all."""
    chance = dice()
    node.ve("web1")
    node.sh("web1", "mkdir /root/many; i=0; while [ $i -lt 400 ]; do i=$((i+1)); "
                    "echo $i >/root/many/$i; done; echo 0123456789abcdef0123456789abcdef "
                    ">/etc/machine-id")
    made = 0
    for number in range(12):
        name = f"c{number}"
        job = node.ok("POST", "/v1/ves/web1/clone", {"name": name, **more})
        if number == 11:  # one at least is whole
            node.ok("GET", f"/v1/jobs/{job['id']}?wait=true")
        time.sleep(chance.choice([0, 0.01, 0.05, 0.2]) * chance.random())
        node.kill()
        node.start()
        settle(node)
        ves = {ve["name"]: ve for ve in node.ok("GET", "/v1/ves")}
        assert trees(node) == {ve["id"] for ve in ves.values()}
        assert ves["web1"]["state"] == "running" and not frozen(node, "web1")
        node.run("web1", "/bin/true")
        if name in ves:
            made += 1
            assert ves[name]["state"] in ("running", "stopped")
            if ves[name]["state"] == "stopped":
                node.job("POST", f"/v1/ves/{name}/start")
            assert node.sh(name, "ls /root/many | wc -l").strip() == "400"
            assert "0123456789abcdef" not in node.sh(name, "cat /etc/machine-id")
            node.job("DELETE", f"/v1/ves/{name}?force=true")
    assert made


def test_into_another_pool(node):
    node.ve("web1", labels={"tier": "web"})
    node.sh("web1", "echo one >/root/x; ln /root/x /root/y; chown 33:44 /root/x")
    node.terem("snapshot", "create", "web1", "one")
    node.sh("web1", "echo two >/root/x")
    node.terem("clone", "web1", "web2", "--pool", "default", "--start")
    node.terem("clone", "web1", "web3", "--pool", "default", "--snapshot", "one", "--start")
    for name, text in (("web2", "two"), ("web3", "one")):
        copy = node.show(name)
        assert copy["pool"] == "default" and copy["labels"] == {"tier": "web"}
        assert node.sh(name, "cat /root/y; stat -c %u:%g:%h /root/x; hostname") == \
            f"{text}\n33:44:2\n{name}\n"
        assert str(copy["id"]) in os.listdir(node.pool("default")) and node.json("snapshot", "list", name) == []
    node.terem("clone", "web2", "web4", "--pool", node.where, "--start")  # and back
    assert node.sh("web4", "cat /root/x") == "two\n"
    assert len(trees(node)) == 4 and not frozen(node, "web1")
    for pool, words in (("nowhere", "there is no pool nowhere"), ("defualt", "did you mean default?")):
        refused = node.terem("clone", "web1", "web5", "--pool", pool, check=False)
        assert refused.returncode == 1 and words in refused.stderr
    refused = node.terem("clone", "web1", "web5", "--pool", "default", "--set", "disk.inodes=1000", check=False)
    assert refused.returncode == 1 and "cannot be enforced in pool default" in refused.stderr
    assert node.api("GET", "/v1/ves/web5").status == 404 and len(trees(node)) == 4


def test_a_worker_killed_in_the_middle(node):
    node.ve("web1")
    node.sh("web1", "mkdir /root/many; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); "
                    "echo $i >/root/many/$i; done")
    node.sh("web1", "echo 0123456789abcdef0123456789abcdef >/etc/machine-id")
    killed = 0
    for wait in (0, 0.005, 0.01, 0.02, 0.03, 0.1):
        job = node.ok("POST", "/v1/ves/web1/clone", {"name": "web2"})
        time.sleep(wait)
        killed += kill_worker(node)
        ended = node.ok("GET", f"/v1/jobs/{job['id']}?wait=true")
        assert not frozen(node, "web1")
        node.run("web1", "/bin/true")
        if ended["state"] == "done":
            node.job("DELETE", "/v1/ves/web2")
        assert node.api("GET", "/v1/ves/web2").status == 404 and len(trees(node)) == 1
    assert killed, "every clone was faster"
    # The source is not held any more.
    node.job("POST", "/v1/ves/web1/stop", {"force": True})


def test_killed_while_it_is_made(node):
    """A kill ends the clone, which takes the new VE away, and has nothing to do then: it says so."""
    node.ve("web1")
    node.sh("web1", "mkdir /root/many; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); "
                    "echo $i >/root/many/$i; done")
    late = 0
    for _ in range(10):
        made = node.ok("POST", "/v1/ves/web1/clone", {"name": "web2"})
        kill = node.api("POST", "/v1/ves/web2/kill")
        if kill.status < 300:  # the clone was not whole yet
            ended = node.ok("GET", f"/v1/jobs/{made['id']}?wait=true")
            kill = node.ok("GET", f"/v1/jobs/{kill.json['id']}?wait=true")
            if ended["state"] == "cancelled":
                assert kill["error"]["kind"] == "not-found" and "cannot kill it: it is gone already" in \
                    kill["error"]["message"], kill
                late += 1
        node.api("DELETE", "/v1/ves/web2?wait=true&force=true")
        assert node.ok("GET", "/v1/jobs") == [] and len(trees(node)) == 1
    assert late, "every clone was faster than its kill"


def test_room_is_looked_for_first(build):
    """Where all of it is copied, it is refused before anything is written."""
    with Node(build, pool_grow="off") as node, contextlib.closing(Disk("200M")) as disk:
        node.terem("pool", "create", "small", "--driver", "btrfs", "--size", "256M")
        node.terem("pool", "create", "plain", "--driver", "dir", "--path", f"{disk.at}/pool")
        node.ve("web1")
        node.sh("web1", "dd if=/dev/zero of=/root/big bs=1M count=300 2>/dev/null")
        node.terem("snapshot", "create", "web1", "one")
        node.ve("web2", pool="plain")
        node.sh("web2", "dd if=/dev/zero of=/root/big bs=1M count=110 2>/dev/null")
        for words in (["web1", "--pool", "small"], ["web1", "--pool", "small", "--snapshot", "one"], ["web2"]):
            refused = node.terem("clone", words[0], "web9", *words[1:], check=False)
            assert refused.returncode == 1 and "M in pool " in refused.stderr and \
                "M is free; remove VEs or snapshots in it" in refused.stderr, refused.stderr
            assert node.api("GET", "/v1/ves/web9").status == 404 and node.state(words[0]) == "running"
        node.setting("pool.grow", "on")
        node.term()
        node.start()
        with Events(node) as events:
            events.begin("web1")
            node.terem("clone", "web1", "web9", "--pool", "small", "--start")
            grown = events.wait("pool.grown", pool="small", by_itself=True)
        assert grown["size"] > 300 << 20
        assert node.ok("GET", "/v1/pools/small")["size"] >= grown["size"] - (1 << 20)
        assert node.sh("web9", "stat -c %s /root/big").strip() == str(300 << 20)
