# SPDX-License-Identifier: GPL-2.0-or-later
"""Each known way out of a VE, tried by its root; what happened is in the test's output."""
import ctypes
import hashlib
import os
import re
import secrets
import subprocess

import pytest

from helpers import arm
from node import wait_for

LIBC = ctypes.CDLL(None, use_errno=True)


def attack(node, verb, *args, ve="evil", **request):
    result = node.run(ve, "/attack", verb, *map(str, args), check=False, **request)
    print(result["stdout"])
    assert result["exit"] == 0 and "BROKEN" not in result["stdout"], result
    return result["stdout"]


@pytest.mark.parametrize("verb", ["mount", "unmask", "remount", "mknod", "devices", "calls",
                                  "handle", "processes"])
def test_refused(house, verb):
    assert "held" in attack(house, verb) or verb == "devices"


@pytest.mark.parametrize("verb", ["mount", "unmask", "remount", "mknod", "calls", "handle"])
def test_refused_in_a_user_namespace_below(house, verb):
    attack(house, "nested", verb)


def test_an_application_makes_no_namespaces(house, program):
    house.ve("plain", kind="app", command=["/bin/sleep", "1000"])
    try:
        arm(house, "plain", program)
        attack(house, "namespaces", ve="plain")
        attack(house, "calls", ve="plain")
    finally:
        house.job("DELETE", "/v1/ves/plain?force=true")


# What a VE's root may write outside its own files: kernel objects of its own namespaces.
OWN = re.compile(
    # (pid_max is the pid namespace's since Linux 6.14; lxcfs opens what it then refuses to write)
    r"/proc/(sys/kernel/pid_max|(stat|swaps|uptime|cpuinfo|loadavg|meminfo|diskstats|slabinfo)$|sys/net/|sys/kernel/(hostname|domainname|shm|msg|sem|auto_msgmni|ns_last_pid|ngroups)"
    r"|sys/user/max_|sys/fs/mqueue/|pressure/)|/sys/fs/cgroup/|/sys/devices/system/cpu/online|/sys/devices/virtual/net/")


def test_nothing_global_is_writable(house):
    lines = re.findall(r"^writable (\S+)$", attack(house, "writable", "/proc", "/sys"), re.M)
    foreign = [line for line in lines if not OWN.match(line)]
    assert not foreign, foreign


def processes(house):
    return house.counter("evil", "processes")


def test_cgroup_files_are_only_its_own(house):
    """Its own limits are above it: it cannot raise them, nor leave its cgroup."""
    house.sh("evil", "for f in memory.max pids.max memory.limit_in_bytes cgroup.subtree_control; do "
                     "[ -e /sys/fs/cgroup/$f ] && echo max > /sys/fs/cgroup/$f; done", check=False)
    pid = house.show("evil")["pid"]
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
        text = file.read()
    mine = [line for line in text.splitlines() if "/" + house.cgroup_name in line]
    assert mine and all(f"/ve-{house.show('evil')['id']}" in line for line in mine), text
    out = house.run("evil", "/bin/sh", "-c",
                    "i=0; while [ $i -lt 300 ]; do sleep 2 & i=$((i+1)); done 2>&1; wait",
                    check=False, timeout=60)
    assert "can't fork: Resource temporarily unavailable" in out["stdout"] + out["stderr"], out
    wait_for(lambda: processes(house)["held"] < 50)


def test_keys_of_the_host(house):
    """The host's keys are neither found nor read; the VE's own keyring is its own."""
    name = f"terem-{secrets.token_hex(8)}".encode()
    serial = LIBC.syscall(248, b"user", name, b"secret", 6, -4)  # add_key to the user keyring
    assert serial > 0, os.strerror(ctypes.get_errno())
    try:
        attack(house, "keys", name.decode(), serial)
        made = house.run("evil", "/attack", "keys", "none", check=False)
        assert "secret" not in made["stdout"]
    finally:
        LIBC.syscall(250, 9, serial, -4, 0, 0)  # KEYCTL_UNLINK


def test_another_ve_by_its_host_pid(house):
    attack(house, "processes", house.show("calm")["pid"])


def test_signals_stay_inside(house):
    others = [pid for pid, words in house.processes() if re.search("teremd|terem-keep|lxcfs", words.split(" ")[0])]
    assert len(others) >= 2
    house.run("evil", "/bin/busybox", "kill", "-9", "-1", check=False)
    house.run("calm", "/bin/true")
    house.wait_state("evil", "running")
    for pid in [*others, house.show("calm")["pid"]]:
        os.kill(pid, 0)
    assert house.alive()


def test_files_of_another_ve_and_of_the_host(house):
    mark = "terem-mark-" + secrets.token_hex(8)
    house.sh("calm", f"echo secret > /{mark}; sleep 300 >/dev/null 2>&1 </dev/null & ")
    attack(house, "roots", mark)
    path = "/tmp/" + mark
    with open(path, "w", encoding="ascii"):
        pass
    try:
        attack(house, "chroot", path[1:])
        attack(house, "roots", path[1:])
    finally:
        os.unlink(path)


def digests(node):
    found = {}
    for name in ("terem/terem", "teremd/teremd", "terem-keep/terem-keep", "terem-init/terem-init"):
        with open(os.path.join(node.build, "src/programs", name), "rb") as file:
            found[name] = hashlib.sha256(file.read()).hexdigest()
    return found


def test_replacing_the_runtime(house):
    """CVE-2019-5736: who enters the VE must not carry a writable way to the host's binary."""
    before = digests(house)
    watch = subprocess.Popen([house.cli, "--root", house.root, "exec", "evil", "--", "/attack",
                              "overwrite", "25"], stdout=subprocess.PIPE, text=True,
                             stdin=subprocess.DEVNULL)
    try:
        assert watch.stdout.readline() == "watching\n"
        # The program that is executed is /proc/self/exe itself.
        house.sh("evil", "printf '#!/proc/self/exe\\n' > /trap; chmod 755 /trap")
        for number in range(100):
            house.api("POST", "/v1/ves/evil/exec",
                      {"command": ["/trap"] if number % 2 else ["/bin/true"]})
        house.run("evil", "/bin/sh", "-c", "exec /proc/self/exe -c true", check=False)
    finally:
        watch.kill()
        seen = watch.stdout.read()
        watch.wait()
        watch.stdout.close()
        house.run("evil", "/bin/busybox", "killall", "attack", check=False)
    print(seen)
    assert "BROKEN" not in seen
    assert digests(house) == before
    house.run("calm", "/bin/true")


def test_application_cannot_replace_its_init(house, program):
    """terem-init is the host's file: the application that runs under it cannot write it."""
    before = digests(house)
    house.ve("app", kind="app", command=["/bin/sleep", "1000"])
    arm(house, "app", program)
    out = house.run("app", "/bin/sh", "-c", "for p in /proc/[0-9]*/exe; do : 2>/dev/null >> $p && echo wrote $p; done",
                    check=False)
    assert "terem" not in out["stdout"]
    assert digests(house) == before
    house.job("DELETE", "/v1/ves/app?force=true")


def test_descriptors_of_an_exec(house):
    """CVE-2024-21626: nothing but the three streams comes along."""
    lines = re.findall(r"^fd (\d+) -> (.*)$", attack(house, "descriptors"), re.M)
    assert {number for number, _ in lines} <= {"0", "1", "2"}, lines
    assert all(re.match(r"(pipe|socket|anon_inode):|/dev/(null|pts)", link) for _, link in lines), lines
    init = re.findall(r"^fd (\d+) -> (.*)$", attack(house, "descriptors", "/proc/1/fd"), re.M)
    assert all(house.root not in link and "terem" not in link for _, link in init), init


def test_working_directory_through_a_descriptor(house):
    for number in range(3, 40):
        answer = house.api("POST", "/v1/ves/evil/exec",
                           {"command": ["/bin/sh", "-c", "ls ..; cat ../../../../etc/hostname"],
                            "workdir": f"/proc/self/fd/{number}"})
        if answer.status == 200 and answer.json["exit"] == 0:
            assert "evil" in answer.json["stdout"], answer
    assert house.sh("evil", "readlink /proc/1/cwd").strip() == "/"


@pytest.mark.parametrize("path,link", [
    ("/etc", "/../../../../../../tmp"), ("/proc", "/tmp"), ("/sys", "/etc"), ("/dev", "/root"),
    ("/etc/hostname", "../../../../../../../../tmp/terem-swapped"),
    ("/etc/resolv.conf", "/tmp/terem-swapped"), ("/etc/hosts", "/tmp/terem-swapped"),
    ("/etc/network", "/../../../../../../tmp"), ("/etc/systemd", "/proc/1/root/tmp"), ("/dev/shm", "/etc"), ("/run", "/proc/1/root/tmp"),
    ("/tmp", "/proc/self/cwd"), ("/sbin", "/proc/1/root/bin"),
])
def test_symlinks_where_things_are_mounted(house, path, link):
    """The VE starts with its own files where links point, or not at all; the host is untouched."""
    before = {name: os.lstat(name).st_mtime_ns for name in ("/etc/hostname", "/etc/resolv.conf", "/etc/hosts")
              if os.path.lexists(name)}
    host = {os.path.join("/tmp", name) for name in os.listdir("/tmp")}
    house.ve("swap", start=False)
    try:
        house.job("POST", "/v1/ves/swap/start")
        base = os.path.basename(path)
        house.sh("swap", f"busybox rm -rf /.old; busybox mkdir /.old; busybox mv {path} /.old/{base} 2>/dev/null; "
                         f"busybox umount -l {path} 2>/dev/null; busybox rm -rf {path}; busybox ln -s {link} {path}",
                 check=False)
        house.job("POST", "/v1/ves/swap/kill")
        upper = os.path.join(house.pool(), str(house.show("swap")["id"]), "upper")
        target = os.path.join(upper, path[1:])
        # What the running VE could not move (a mount point) is planted as a restored backup might.
        if not os.path.islink(target):
            subprocess.run(["rm", "-rf", target], check=True)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.symlink(link, target)
        answer = house.api("POST", "/v1/ves/swap/start?wait=true")
        print(path, link, answer)
        if answer.status == 200:
            out = house.run("swap", "/bin/busybox", "cat", "/proc/mounts", check=False)["stdout"]
            assert house.root not in out
        else:
            assert answer.json["error"]["message"].isprintable()
        assert not os.path.lexists("/tmp/terem-swapped")
        assert before == {name: os.lstat(name).st_mtime_ns for name in before}
        new = {os.path.join("/tmp", name) for name in os.listdir("/tmp")} - host
        assert not [name for name in new if not name.startswith("/tmp/terem") and
                    os.path.basename(name) in ("hostname", "resolv.conf", "hosts", "interfaces", "network", "shm", "pts", "null")]
    finally:
        house.job("DELETE", "/v1/ves/swap?force=true")


def test_swapping_while_files_go_in(house):
    """A directory that turns into a symlink to / and back while the host pushes below it."""
    mark = "/tmp/terem-race-" + secrets.token_hex(4)
    house.sh("evil", "mkdir -p /race/real /race/x; "
                     "(while [ ! -e /race/stop ]; do mv /race/x /race/y; ln -s ../../../../../../../tmp /race/x; "
                     "rm /race/x; mv /race/y /race/x; done) >/dev/null 2>&1 </dev/null &", check=False)
    try:
        for _ in range(200):
            house.api("PUT", f"/v1/ves/evil/files?path=/race/x/{os.path.basename(mark)}", b"x")
            house.api("GET", "/v1/ves/evil/files?path=/race/x/../../../../etc/hostname")
    finally:
        house.sh("evil", "echo > /race/stop", check=False)
    assert not os.path.lexists(mark)


def test_escapes_do_not_reach_a_terminal(house):
    """What a VE writes is data: logs, lists and errors show it without control bytes."""
    bad = "\x1b]0;owned\x07\x1b[2J\x9b31m"
    house.ve("loud", kind="app", command=["/bin/sh", "-c",
                                          "printf '\\033]0;owned\\007\\033[2Jhello\\n'; sleep 1000"])
    wait_for(lambda: b"hello" in house.api("GET", "/v1/ves/loud/logs").body)
    try:
        import pty
        master, slave = pty.openpty()
        child = subprocess.Popen([house.cli, "--root", house.root, "logs", "loud"], stdin=slave,
                                 stdout=slave, stderr=slave)
        os.close(slave)
        shown = b""
        try:
            while part := os.read(master, 4096):
                shown += part
        except OSError:
            pass
        child.wait()
        os.close(master)
        assert b"hello" in shown and b"\x1b]0" not in shown and b"\x1b[2J" not in shown
        for args in (["exec", "loud", "--", bad], ["show", bad], ["create", bad],
                     ["create", "ok", "--label", "k=" + bad], ["start", bad]):
            done = house.terem(*args, check=False)
            assert "\x1b" not in done.stderr + done.stdout and "\x9b" not in done.stderr, args
        house.api("DELETE", "/v1/ves/ok?force=true&wait=true")
        house.ve("label", start=False, labels={"k": "v"})
        house.api("PATCH", "/v1/ves/label", {"labels": {"k": bad}})
        for args in (["list"], ["show", "label"], ["jobs"], ["template", "list"]):
            assert "\x1b" not in house.terem(*args).stdout, args
    finally:
        house.job("DELETE", "/v1/ves/loud?force=true")
        house.api("DELETE", "/v1/ves/label?force=true&wait=true")


def test_terminal_tricks(house):
    """TIOCSTI and TIOCLINUX on the terminal of an exec."""
    from test_exec import Terminal
    terminal = Terminal(house, "exec", "--tty", "evil", "--", "/attack", "tiocsti")
    try:
        terminal.wait()
        text = terminal.seen.decode("utf-8", "replace")
        assert "BROKEN" not in text and "held TIOCSTI" in text, text
    finally:
        terminal.close()


# ---- exhaustion: the victim's promise holds ----
def test_fork_bomb(house):
    """How long the victim's requests take meanwhile is measured by the bench "promise"."""
    def refused():
        return processes(house)["failcnt"]

    before = refused()
    house.run("evil", "/bin/sh", "-c", "b() { b | b & }; b 2>/dev/null & exit 0", check=False)
    wait_for(lambda: refused() > before)
    for _ in range(20):  # while it goes on
        house.run("calm", "/bin/true")
    assert refused() > before + 20
    house.job("POST", "/v1/ves/evil/kill")
    assert house.state("calm") == "running"
    house.job("POST", "/v1/ves/evil/start")


def test_memory_hog(house):
    """Out of memory kills inside the VE only."""
    calm = house.show("calm")["pid"]
    out = house.run("evil", "/bin/sh", "-c", "busybox tail /dev/zero", check=False)
    assert out["exit"] != 0
    house.run("calm", "/bin/true")
    assert house.show("calm")["pid"] == calm and house.alive()


def test_the_page_names_what_is_kept():
    """docs/security.md and the tables in src/kernel say the same."""
    top = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    with open(os.path.join(top, "docs/security.md"), encoding="utf-8") as file:
        page = file.read()
    with open(os.path.join(top, "src/kernel/caps.c"), encoding="utf-8") as file:
        rows = re.findall(r"\{CAP_(\w+), (APP \| SYS|SYS|APP)\}", file.read())
    assert len(rows) > 20
    every, system = page.split("| every VE |")[1].split("| system VEs |")
    system = system.split("\n\n")[0]
    for name, profiles in rows:
        assert re.search(rf"\b{name}\b", system if profiles == "SYS" else every), name
