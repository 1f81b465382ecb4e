# SPDX-License-Identifier: GPL-2.0-or-later
"""What a VE sees of its machine agrees with what it has: the calls, the files and the tools."""
import glob
import os
import re
import signal
import subprocess
import threading

from node import wait_for

import pytest

MIB = 1 << 20
LIMITS = {"memory.limit": "256M", "processes": "200"}


@pytest.fixture(scope="module")
def asker(tmp_path_factory):
    """The static program tests/src/sysinfo.c."""
    program = tmp_path_factory.mktemp("asker") / "sysinfo"
    source = os.path.join(os.path.dirname(__file__), "src", "sysinfo.c")
    subprocess.run(["musl-gcc", "-static", "-O1", "-Wall", "-Wextra", "-Wno-unused-parameter", "-o", program, source],
                   check=True)
    return program


def put(node, ve, program):
    node.terem("push", ve, str(program), "/root/sysinfo")


def ask(node, ve, *words):
    """Runs the asker inside: {first word of a line: the rest}."""
    lines = node.run(ve, "/root/sysinfo", *words)["stdout"].splitlines()
    return {line.split(" ", 1)[0]: line.split(" ", 1)[-1] for line in lines}


def numbers(answer):
    return {key: int(value, 16 if key == "behind32" else 10) for key, value in answer.items()}


def meminfo(node, ve):
    """Bytes."""
    return {key: int(value.split()[0]) * 1024 for key, value in
            (line.split(":") for line in node.sh(ve, "cat /proc/meminfo").splitlines())}


def free(node, ve):
    """The columns of free's two lines, in bytes (total, used, free, shared, cache, available)."""
    lines = node.sh(ve, "free").splitlines()
    return [[int(n) * 1024 for n in line.split()[1:]] for line in lines[1:3]]


def uptime(node, ve):
    return float(node.sh(ve, "cat /proc/uptime").split()[0])


def agree(node, ve, memory, slack=4 * MIB):
    """Every way to ask tells of a machine with so much memory."""
    begun = uptime(node, ve)
    call, files, (mem, swap) = numbers(ask(node, ve, "show")), meminfo(node, ve), free(node, ve)
    assert call["total"] == files["MemTotal"] == mem[0] == memory
    assert abs(call["free"] - files["MemFree"]) < slack and abs(mem[2] - files["MemFree"]) < slack
    assert abs(call["shared"] - files["Shmem"]) < slack
    assert call["buffer"] == files.get("Buffers", 0)
    assert call["swap"] == files["SwapTotal"] == swap[0]
    assert call["swapfree"] <= call["swap"]
    assert call["unit"] == 1
    assert begun - 1 <= call["uptime"] <= uptime(node, ve) + 1
    return call


def test_a_busybox_ve(shared, asker):
    shared.ve("bb", params=LIMITS)
    put(shared, "bb", asker)
    call = agree(shared, "bb", 256 * MIB)
    assert 0 < call["procs"] < 20 and 0 <= call["uptime"] < 600
    assert call["result32"] == 0 and call["behind32"] == 0x5a5a5a5a
    assert call["total32"] == 256 * MIB and call["unit32"] == 1
    assert abs(call["uptime32"] - call["uptime"]) <= 1
    # What it uses is its own.
    shared.sh("bb", "dd if=/dev/zero of=/dev/shm/block bs=1M count=40 2>/dev/null")
    more = agree(shared, "bb", 256 * MIB)
    assert more["shared"] >= 40 * MIB and more["free"] <= call["free"] - 39 * MIB
    shared.sh("bb", "rm /dev/shm/block")
    top = shared.sh("bb", "top -bn1 | head -1")
    used, left = (int(n) for n in re.findall(r"(\d+)K (?:used|free)", top))
    assert used + left == 256 * 1024


def test_what_changes_is_seen_at_once(shared, asker):
    """Also by who was there before, and by init's children as by commands from outside."""
    shared.ve("live", params=LIMITS)
    put(shared, "live", asker)
    shared.sh("live", "(while :; do /root/sysinfo show >/root/new; mv /root/new /root/seen; "
                      "usleep 20000; done) >/dev/null 2>&1 &")
    for limit in (96, 512, 128):
        shared.ok("PATCH", "/v1/ves/live", {"params": {"memory.limit": f"{limit}M"}})
        agree(shared, "live", limit * MIB)
        wait_for(lambda now=f"total {limit * MIB}": now in
                 shared.sh("live", "cat /root/seen", check=False).splitlines(),
                 lambda: shared.sh("live", "cat /root/seen", check=False))
    shared.ok("PATCH", "/v1/ves/live", {"params": {"memory.limit": "unlimited"}})
    with open("/proc/meminfo", encoding="utf-8") as file:
        machine = int(file.readline().split()[1]) * 1024
    agree(shared, "live", machine)


def test_processors(shared):
    cores = sorted(os.sched_getaffinity(0))
    template = shared.template() or "busybox"
    if shared.api("POST", "/v1/ves", {"name": "few", "template": template,
                                      "params": {"cpu.cores": "1"}}).error == "unsupported":
        pytest.skip("cpu.cores is not enforced here")
    shared.job("POST", "/v1/ves/few/start")
    shared.ve("all")
    for ve, count in (("few", 1), ("all", len(cores))):
        assert int(shared.sh(ve, "nproc")) == count
        assert shared.sh(ve, "grep -c ^processor /proc/cpuinfo").strip() == str(count)
        assert shared.sh(ve, "grep -c '^cpu[0-9]' /proc/stat").strip() == str(count)
    shared.ok("PATCH", "/v1/ves/few", {"params": {"cpu.cores": str(len(cores))}})
    assert int(shared.sh("few", "nproc")) == len(cores)
    assert shared.sh("few", "grep -c ^processor /proc/cpuinfo").strip() == str(len(cores))


def test_an_application_ve(shared, asker):
    shared.ve("app", start=False, kind="app", params=LIMITS,
              command=["/bin/sh", "-c", "free > /root/free; exec sleep 1000"])
    put(shared, "app", asker)
    shared.job("POST", "/v1/ves/app/start")
    agree(shared, "app", 256 * MIB)
    assert shared.sh("app", "cat /root/free").split()[7] == str(256 * 1024)


def test_debian(debian, asker):
    """procps, coreutils and systemd, under init's children and as a command from outside."""
    debian.ve("deb", template="debian-12", params=LIMITS)
    debian.settled("deb")  # while it boots its memory is another at each look
    put(debian, "deb", asker)
    agree(debian, "deb", 256 * MIB, slack=16 * MIB)
    top = debian.sh("deb", "top -bn1 | head -5")
    assert re.search(r"MiB Mem :\s+256\.0 total", top), top
    assert "load average" in debian.sh("deb", "uptime")
    assert debian.sh("deb", "df --output=target / | tail -1").strip() == "/"
    assert int(debian.sh("deb", "getconf _PHYS_PAGES")) * 4096 == 256 * MIB
    debian.sh("deb", "systemd-run --wait --pipe -q /root/sysinfo show > /root/by-init")
    by_init = dict(line.split() for line in debian.sh("deb", "cat /root/by-init").splitlines())
    assert int(by_init["total"]) == 256 * MIB and int(by_init["total32"]) == 256 * MIB
    debian.job("POST", "/v1/ves/deb/kill")
    debian.job("DELETE", "/v1/ves/deb")


# ---- who asks badly ----
def test_bad_pointers_and_dying_callers(shared, asker):
    shared.ve("bad", params=LIMITS)
    put(shared, "bad", asker)
    answer = ask(shared, "bad", "bad")
    assert answer.pop("good") == "OK"
    assert answer and all(text == "Bad address" for text in answer.values()), answer
    assert ask(shared, "bad", "die", "300") == {"all": "ended"}
    agree(shared, "bad", 256 * MIB)


def test_a_flood_leaves_others_alone(shared, asker):
    """100 threads ask without end: all get right answers, teremd serves others meanwhile."""
    shared.ve("flood", params=LIMITS)
    shared.ve("quiet", params=LIMITS)
    for ve in ("flood", "quiet"):
        put(shared, ve, asker)
    result = {}
    thread = threading.Thread(target=lambda: result.update(ask(shared, "flood", "flood", "100", "3")))
    thread.start()
    for _ in range(10):
        assert ask(shared, "quiet", "show")["total"] == str(256 * MIB)
        shared.ok("GET", "/v1/ves")
    thread.join()
    assert int(result["wrong"]) == 0 and int(result["answers"]) > 100


# ---- the file of counters ----
BEANS = "/proc/fs/user_beancounters"


def beans(text):
    """{name: [held, maxheld, barrier, limit, failcnt]}, read as monitoring tools of OpenVZ do."""
    lines = text.splitlines()
    assert lines[0] == "Version: 2.5"
    assert lines[1].split() == ["uid", "resource", "held", "maxheld", "barrier", "limit", "failcnt"]
    first = re.fullmatch(r"\s*(\d+):\s+(\w+)((?:\s+\d+){5})", lines[2])
    rows = {first[2]: [int(n) for n in first[3].split()]}
    for line in lines[3:]:
        name, *values = line.split()
        rows[name] = [int(n) for n in values]
    return int(first[1]), rows


def numproc(first):
    return beans(inside(first, BEANS))[1]["numproc"]


def test_beancounters(shared):
    show = shared.ve("beans", params={**LIMITS, "processes": "30"})
    uid, rows = beans(shared.sh("beans", f"cat {BEANS}"))
    assert uid == show["id"]
    assert rows["physpages"][3] == 65536 and rows["privvmpages"][3] == 65536
    assert rows["numproc"][2:4] == [30, 30] and rows["numproc"][4] == 0
    # Fresh at each open, refusals too, but for a tenth of a second.
    shared.sh("beans", "for i in $(seq 60); do sleep 2 & done", check=False)
    wait_for(lambda: numproc(show["pid"])[1] == 30 and numproc(show["pid"])[4] > 0)
    key = shared.counter("beans", "processes")
    assert numproc(show["pid"])[4] == key["failcnt"]
    shared.ok("PATCH", "/v1/ves/beans", {"params": {"processes": "40"}})
    wait_for(lambda: numproc(show["pid"])[3] == 40 and numproc(show["pid"])[0] < 10)


def test_beancounters_are_not_the_ves_to_write(shared):
    shared.ve("liar")
    before = shared.sh("liar", f"cat {BEANS}")
    said = shared.sh("liar", f"for i in 1 2; do echo x > {BEANS}; chmod 666 {BEANS}; rm {BEANS}; "
                             "touch /proc/fs/x; mount -o remount,bind,rw /proc/fs; done 2>&1; "
                             f"chown root {BEANS} 2>&1; :", check=False)
    assert "ead-only" in said and "denied" in said
    assert shared.sh("liar", f"cat {BEANS}").split()[:9] == before.split()[:9]
    assert shared.sh("liar", "ls /proc/fs").split() == ["user_beancounters"]


def test_beancounters_survive_teremd(shared):
    first = shared.ve("left", params=LIMITS)["pid"]
    assert numproc(first)[0] > 0
    shared.kill()
    assert numproc(first)[0] > 0
    shared.start()
    shared.sh("left", "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done")
    wait_for(lambda: numproc(first)[0] >= 8)
    shared.job("POST", "/v1/ves/left/kill")
    assert str(shared.show("left")["id"]) not in os.listdir(shared.root + "/run/counters")


def test_who_opens_it_without_end_leaves_others_alone(shared):
    shared.ve("opener", params=LIMITS)
    shared.ve("reader")
    shared.sh("opener", "for i in $(seq 50); do (while :; do : < /proc/fs/user_beancounters; done) "
                        "& done")
    for _ in range(10):
        assert beans(shared.sh("reader", f"cat {BEANS}"))[1]["numproc"][0] > 0
        shared.ok("GET", "/v1/ves")
    shared.job("POST", "/v1/ves/opener/kill")


def test_nested_containers_still_get_a_clean_proc(shared):
    shared.ve("nest", nesting=True)
    out = shared.sh("nest", "unshare -m -p -f sh -c 'mount -t proc proc /mnt && ls /mnt/fs'")
    assert out.split() and "user_beancounters" not in out


# ---- while teremd is not there ----
def test_teremd_dies_in_the_middle_of_answers(shared, asker):
    """Calls that it had taken are answered all the same, and the next teremd goes on."""
    shared.ve("orphan", params=LIMITS)
    put(shared, "orphan", asker)
    shared.sh("orphan", "(/root/sysinfo flood 20 1000; echo ended >/root/ended) >/dev/null 2>&1 & "
                        "(while :; do /root/sysinfo show >/root/new && mv /root/new /root/seen; "
                        "usleep 50000; done) >/dev/null 2>&1 &")
    first = shared.show("orphan")["pid"]

    assert seen(first, 256 * MIB, True)
    for _ in range(5):
        shared.kill()
        # The kernel answers now; nobody hangs.
        assert seen(first, 256 * MIB, False)
        nobody_waits(first)
        shared.start()
        assert seen(first, 256 * MIB, True)
    agree(shared, "orphan", 256 * MIB)


def test_a_stopped_teremd_does_not_stop_ves(shared, asker):
    shared.ve("held", params=LIMITS)
    put(shared, "held", asker)
    shared.sh("held", "(while :; do /root/sysinfo show >/root/new && mv /root/new /root/seen; "
                      "usleep 10000; done) >/dev/null 2>&1 &")
    first = shared.show("held")["pid"]
    assert seen(first, 256 * MIB, True)
    os.kill(shared.daemon.pid, signal.SIGSTOP)
    try:
        assert seen(first, 256 * MIB, False), "nobody stood in for teremd"
    finally:
        os.kill(shared.daemon.pid, signal.SIGCONT)
    agree(shared, "held", 256 * MIB)


def inside(first, path):
    """A file of the VE whose first process is `first`, without teremd's help."""
    with open(f"/proc/{first}/root{path}", encoding="utf-8") as file:
        return file.read()


def seen(first, total, what):
    """Until that total is in /root/seen of the VE whose first process is `first`, or another one is."""
    def told():
        try:
            words = inside(first, "/root/seen").split()
            return (int(words[words.index("total") + 1]) == total) == what
        except (OSError, ValueError):
            return False
    return wait_for(told)


def nobody_waits(first):
    """No task in the pid namespace of `first` hangs in sysinfo(2)."""
    def now():
        found = set()
        name = os.readlink(f"/proc/{first}/ns/pid")
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/ns/pid") != name:
                    continue
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/syscall", encoding="utf-8") as file:
                        number = file.read().split()[0]
                    with open(f"/proc/{pid}/task/{task}/status", encoding="utf-8") as file:
                        switches = re.findall(r"ctxt_switches:\s*(\d+)", file.read())
                    if number == "99":
                        found.add((task, *switches))
            except OSError:
                pass
        return found
    before = now()
    wait_for(lambda: not before & now(), lambda: f"they wait for a dead teremd: {before & now()}")


def test_processor_time_is_its_own(node):
    """What top shows as the machine's is the VE's: lxcfs, by v1's cpuacct."""
    if not glob.glob("/sys/fs/cgroup/*/cpuacct.usage_all"):
        pytest.skip("lxcfs knows it by cgroup v1's cpuacct only")
    node.ve("web1")
    node.sh("web1", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
    user, nice, system = map(int, node.sh("web1", "head -n1 /proc/stat").split()[1:4])
    used = node.show("web1")["usage"]["cpu_usec"] / 10000
    assert 5 < user + nice + system < used * 1.2 + 20, (user, nice, system, used)
