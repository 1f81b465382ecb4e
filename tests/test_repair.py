# SPDX-License-Identifier: GPL-2.0-or-later
"""Repair: a VE that does not start is opened in a rescue system, mended, and starts again."""
import os
import time

import pytest

from node import wait_for

# What somebody did to the VE (as its root), and what mends it in the rescue system.
DAMAGE = {
    "usr": ("/bin/rm -rf /usr", "cp -a /template/usr /repair/"),
    "init": ("rm -f /sbin/init; mkdir /sbin/init",
             "rm -rf /repair/sbin/init; cp -a /template/sbin/init /repair/sbin/"),
    "passwd": (": > /etc/passwd", "cp -a /template/etc/passwd /repair/etc/passwd"),
    "libc": ("P=$(find /usr/lib /bin -name libc.so.6 -o -name busybox | head -1); "
             "head -c 4096 $P > $P.new; chmod 755 $P.new; mv $P.new $P",
             "cd /template; P=$(find usr/lib bin -name libc.so.6 -o -name busybox | head -1); "
             "cp -a $P /repair/$P"),
    "etc": ("mv /etc /etc.old; echo gone > /etc", "rm /repair/etc; mv /repair/etc.old /repair/etc"),
    "proc": ("true", "rm -f /repair/proc; mkdir /repair/proc"),
}


def upper(node, name):
    return os.path.join(node.pool(), str(node.show(name)["id"]), "upper")


def damage(node, name, how):
    node.sh(name, DAMAGE[how][0], check=False)
    node.job("POST", f"/v1/ves/{name}/stop", {"force": True})
    if how == "proc":  # which nobody can do from inside: something is mounted there
        os.symlink("/root", os.path.join(upper(node, name), "proc.new"))
        if os.path.isdir(os.path.join(upper(node, name), "proc")):
            os.rmdir(os.path.join(upper(node, name), "proc"))
        os.rename(os.path.join(upper(node, name), "proc.new"),
                  os.path.join(upper(node, name), "proc"))


def told(node, name, how):
    """What a normal start says; what is damaged may come to light at once or a moment later."""
    refused = node.terem("start", name, check=False)
    if refused.returncode:
        return refused.stderr
    if how in ("etc", "passwd"):  # init comes up all the same, more or less
        node.job("POST", f"/v1/ves/{name}/stop", {"force": True})
        return ""
    node.wait_state(name, "stopped")
    return node.show(name)["last_exit"]["reason"]


def mend(node, name, how):
    before = node.show(name)
    node.terem("repair", name)
    now = node.show(name)
    assert now["state"] == "repair" and now["addresses"] == before["addresses"]
    assert [ve["state"] for ve in node.ok("GET", "/v1/ves") if ve["name"] == name] == ["repair"]
    assert node.sh(name, "hostname; ls -d /repair/root; ls -d /template/bin") == \
        f"{name}\n/repair/root\n/template/bin\n"
    assert "read-only" in node.run(name, "/bin/touch", "/template/x", check=False)["stderr"].lower()
    assert node.sh(name, "chroot /template /bin/sh -c 'echo works'") == "works\n"
    node.sh(name, DAMAGE[how][1])
    node.terem("repair", name, "--done")


@pytest.mark.parametrize("how", sorted(DAMAGE))
def test_repair_busybox(shared, how):
    name = f"box-{how}"
    shared.ve(name)
    shared.sh(name, "echo mine > /root/mine")
    damage(shared, name, how)
    if how != "usr":  # where nothing is that it starts with
        said = told(shared, name, how)
        assert how in ("etc", "passwd") or f"terem repair {name}" in said, said
    mend(shared, name, how)
    assert shared.state(name) == "running"
    assert shared.sh(name, "cat /root/mine; id -un") == "mine\nroot\n"
    shared.terem("destroy", "--force", name)


@pytest.mark.parametrize("how", sorted(DAMAGE))
def test_repair_debian(debian, how):
    name = f"deb-{how}"
    debian.ve(name, template="debian-12")
    debian.settled(name)  # or the boot writes to /etc (groups, mtab) while it is moved away
    debian.sh(name, "echo mine > /root/mine")
    damage(debian, name, how)
    said = told(debian, name, how)
    assert how in ("etc", "passwd") or f"terem repair {name}" in said, said
    mend(debian, name, how)
    assert debian.state(name) == "running"
    assert debian.sh(name, "cat /root/mine; id -un") == "mine\nroot\n"
    debian.terem("destroy", "--force", name)


def test_templates_tools_mend_the_root(debian):
    debian.ve("deb-dpkg", template="debian-12", start=False)
    debian.terem("repair", "deb-dpkg")
    listed = debian.sh("deb-dpkg", "mount --bind /repair /template/mnt && "
                       "chroot /template dpkg --root=/mnt -l nginx")
    assert "ii  nginx" in listed
    debian.terem("destroy", "--force", "deb-dpkg")


def test_same_parameters_and_net(shared):
    shared.ve("same", params={"processes": "40", "memory.limit": "64M"}, start=False)
    shared.terem("repair", "same")
    rows = {r["key"]: r for r in shared.ok("GET", "/v1/ves/same/counters")}
    assert rows["processes"]["limit"] == 40 and rows["memory.limit"]["limit"] == 64 << 20
    assert shared.show("same")["addresses"][0] in shared.sh("same", "ip addr")
    shared.terem("destroy", "--force", "same")


def test_states_and_words(shared):
    shared.ve("word")
    refused = shared.terem("repair", "word", check=False)
    assert refused.returncode == 1 and "stop it first" in refused.stderr
    refused = shared.terem("repair", "word", "--done", check=False)
    assert refused.returncode == 1 and "not in repair but running; terem repair word begins it" in refused.stderr
    shared.terem("stop", "-f", "word")
    said = shared.terem("repair", "word").stdout
    assert "in repair" in said and "/repair" in said
    assert "terem enter word" in said and "terem repair word --done" in said
    assert "already" in shared.terem("repair", "word", check=False).stderr
    assert "terem repair word --done leaves" in shared.terem("start", "word", check=False).stderr
    assert "repair" in shared.terem("list").stdout and "repair" in shared.terem("show", "word").stdout
    assert 'terem_ves{state="repair"} 1' in shared.api("GET", "/metrics").body.decode()
    shared.terem("stop", "word")  # leaves it, too
    assert shared.state("word") == "stopped"
    shared.terem("start", "word")
    assert shared.state("word") == "running" and not shared.run("word", "ls", "/repair", check=False)["stdout"]
    shared.terem("stop", "-f", "word")
    shared.terem("repair", "word")
    shared.terem("restart", "--all")
    assert shared.state("word") == "running"
    shared.terem("destroy", "-f", "word")


def test_of_one_that_runs(shared):
    shared.ve("runs")
    refused = shared.terem("repair", "runs", check=False)
    assert refused.returncode == 1 and "--restart" in refused.stderr
    assert shared.state("runs") == "running"
    shared.terem("repair", "runs", "--restart", "--timeout", "0s")
    assert shared.state("runs") == "repair"
    assert "already" in shared.terem("repair", "runs", "--restart", check=False).stderr
    shared.terem("repair", "runs", "--done")
    # For one command: it ran, and runs again.
    done = shared.terem("repair", "runs", "--restart", "--", "sh", "-c",
                        "echo mended > /repair/root/x; exit 3", check=False)
    assert done.returncode == 3 and shared.state("runs") == "running"
    assert shared.sh("runs", "cat /root/x") == "mended\n"
    shared.terem("pause", "runs")
    shared.terem("repair", "runs", "--restart")
    assert shared.state("runs") == "repair"
    shared.terem("stop", "-f", "runs")
    shared.terem("repair", "runs", "--restart")  # and of one that does not run
    assert shared.state("runs") == "repair"
    assert "beginning" in shared.terem("repair", "runs", "--done", "--restart", check=False).stderr
    shared.terem("destroy", "-f", "runs")


def test_one_command(shared):
    shared.ve("once", start=False)
    done = shared.terem("repair", "once", "--", "sh", "-c", "echo x > /repair/root/x; cat; exit 7",
                        input="in", check=False)
    assert (done.returncode, done.stdout) == (7, "in")
    assert shared.state("once") == "stopped"
    shared.terem("start", "once")
    assert shared.sh("once", "cat /root/x") == "x\n"
    shared.terem("destroy", "-f", "once")


def test_reboot_inside_is_a_normal_start(shared):
    shared.ve("again", start=False, restart="always")
    shared.terem("repair", "again")
    shared.sh("again", "/sbin/reboot", check=False)  # which ends all processes, the asking one too
    wait_for(lambda: shared.state("again") == "running", lambda: shared.show("again"))
    shared.terem("stop", "-f", "again")
    shared.terem("repair", "again")
    shared.sh("again", "poweroff", check=False)
    shared.wait_state("again", "stopped")  # its restart policy is about its own init
    shared.terem("destroy", "-f", "again")


def test_teremd_killed(node):
    node.ve("web1", start=False)
    node.terem("repair", "web1")
    node.sh("web1", "sleep 1000 & echo $! > /tmp/pid")
    node.kill()
    node.start()
    assert node.state("web1") == "repair"
    assert node.sh("web1", "kill -0 $(cat /tmp/pid) && ls -d /repair/root") == "/repair/root\n"
    node.terem("repair", "web1", "--done")
    assert node.state("web1") == "running"
    node.terem("stop", "-f", "web1")
    # Killed at any moment of the beginning, it goes on to what was asked for, and never further.
    for pause in (0, 0.002, 0.005, 0.01, 0.02, 0.04):
        node.api("POST", "/v1/ves/web1/repair")
        time.sleep(pause)
        node.kill()
        node.start()
        wait_for(lambda: node.state("web1") == "repair", lambda: node.show("web1"))
        node.terem("kill", "web1")
        assert node.state("web1") == "stopped"
    assert "repair" not in node.show("web1")


def test_console(shared):
    shared.ve("cons", start=False)
    shared.terem("repair", "cons")
    wait_for(lambda: "press Enter" in shared.terem("logs", "cons").stdout,
             lambda: shared.terem("logs", "cons").stdout)
    shared.terem("destroy", "-f", "cons")


def test_no_rollback_while_somebody_repairs(node):
    node.ve("web1")
    node.terem("snapshot", "create", "web1", "s1")
    node.sh("web1", "echo later > /root/file")
    node.terem("repair", "web1", "--restart")
    for more in ([], ["--restart"]):
        refused = node.terem("snapshot", "rollback", "web1", "s1", *more, check=False)
        assert refused.returncode == 1 and "it is in repair; stop it first" in refused.stderr, refused.stderr
    assert node.state("web1") == "repair" and node.sh("web1", "cat /repair/root/file") == "later\n"
    node.terem("stop", "web1")
    node.terem("snapshot", "rollback", "web1", "s1", "--start")
    assert node.state("web1") == "running" and node.sh("web1", "ls /root") == ""
