# SPDX-License-Identifier: GPL-2.0-or-later
"""SSH host keys that a template leaves to the first start: made by Terem then, and never again."""
import os
import subprocess
import tarfile

import archive
from archive import entry

SSH = "/etc/ssh/ssh_host_{}_key"
KINDS = ("rsa", "ecdsa", "ed25519")
LEFT = [entry(name, kind=tarfile.DIRTYPE) for name in
        ("etc/systemd", "etc/systemd/system", "etc/systemd/system/ssh.service.d", "etc/ssh")] + [
    entry("etc/systemd/system/ssh.service.d/host-keys.conf", b"[Service]\n", mode=0o644)]


def template(node, name, extra):
    path = os.path.join(node.root, f"{name}.tar")
    with open(path, "wb") as file:
        file.write(archive.tar(archive.system(extra)))
    node.job("POST", "/v1/templates", {"name": name, "import": path})


def pull(node, name, path):
    return node.run(name, "/bin/cat", path)["stdout"]


def listed(node, name):
    return node.run(name, "/bin/ls", "/etc/ssh", check=False)["stdout"].split()


def restart(node, name):
    node.job("POST", f"/v1/ves/{name}/stop", {"force": True})
    node.job("POST", f"/v1/ves/{name}/start")


def test_at_the_first_start(shared, tmp_path):
    node = shared
    template(node, "keys", LEFT)
    seen = {}
    for name in ("web1", "web2"):
        node.ve(name, template="keys")
        assert listed(node, name) == sorted(f"ssh_host_{kind}_key{end}" for kind in KINDS for end in ("", ".pub"))
        for kind in KINDS:
            private, public = pull(node, name, SSH.format(kind)), pull(node, name, SSH.format(kind) + ".pub")
            assert node.run(name, "/bin/stat", "-c", "%a %u %g", SSH.format(kind))["stdout"] == "600 0 0\n"
            assert node.run(name, "/bin/stat", "-c", "%a", SSH.format(kind) + ".pub")["stdout"] == "644\n"
            assert public.split()[2] == f"root@{name}"
            path = tmp_path / f"{name}-{kind}"
            path.write_text(private)
            path.chmod(0o600)
            told = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True, check=True)
            assert told.stdout.split()[:2] == public.split()[:2]
            seen[name, kind] = private
    assert len(set(seen.values())) == len(seen)
    # They stay; what is removed stays away (its sshd makes them), and so does the directory.
    node.sh("web1", "busybox rm /etc/ssh/ssh_host_rsa_key")
    node.sh("web2", "busybox rm -r /etc/ssh; busybox mkdir /etc/ssh")
    for name in ("web1", "web2"):
        restart(node, name)
    assert pull(node, "web1", SSH.format("ed25519")) == seen["web1", "ed25519"]
    assert "ssh_host_rsa_key" not in listed(node, "web1") and "ssh_host_rsa_key.pub" in listed(node, "web1")
    assert listed(node, "web2") == []
    # Its root makes a state as before the first start, by a new /etc over the old one.
    node.sh("web2", "busybox cp -a /etc /old; busybox rm -rf /etc; busybox mkdir /etc; cd /old; "
                    "busybox rm -r ssh; busybox cp -a . /etc; busybox mkdir /etc/ssh")
    restart(node, "web2")
    assert listed(node, "web2") == []
    node.sh("web2", "busybox rm -r /etc/ssh")
    restart(node, "web2")  # with upper/etc and no upper/etc/ssh
    node.sh("web2", "busybox mkdir /etc/ssh")
    assert listed(node, "web2") == []


def test_where_nobody_asked(shared):
    """A template without that promise, with keys of its own, or whose directories lead astray."""
    node = shared
    own = entry("etc/ssh/ssh_host_rsa_key", b"own\n", mode=0o600)
    empty = entry("etc/ssh/ssh_host_ecdsa_key", b"", mode=0o644)
    template(node, "plain", [entry("etc/ssh", kind=tarfile.DIRTYPE)])
    template(node, "own", LEFT + [own, empty])
    template(node, "bare", [one for one in LEFT if one[0].name != "etc/ssh"])
    template(node, "link", LEFT[:3] + [LEFT[4], entry("etc/ssh", kind=tarfile.SYMTYPE, link="/root")])
    for name in ("plain", "own", "bare", "link"):
        node.ve(name, template=name)
    assert listed(node, "plain") == [] and listed(node, "bare") == []
    assert pull(node, "own", SSH.format("rsa")) == "own\n" and len(listed(node, "own")) == 6
    assert node.run("own", "/bin/stat", "-c", "%a", SSH.format("ecdsa"))["stdout"] == "600\n"
    assert len(node.run("link", "/bin/ls", "/root")["stdout"].split()) == 6  # inside, where it leads
