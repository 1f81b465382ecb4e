# SPDX-License-Identifier: GPL-2.0-or-later
"""VEs that sleep: what they hold before and after, and how long their first answer takes; and what
merging equal memory (memory.dedup) saves and costs.

Sleep: each VE runs busybox's httpd and a process with 32 MiB of its own, half of it text and half
random bytes.  Swap is compressed memory (zram), made by `terem node setup`, and taken away in the
end; without zram here the memory stays, and a note says so.  The first answer is timed from
connect(2) to the last byte of a page, over TCP from the host, with nothing else asked of the VE
since it fell asleep; a VE that is awake is asked in the same way beside it.

dedup: VEs whose processes have 32 MiB alike, page by page, which is what is best for it, after some
scans at the kernel's own pace; ksmd's processor time is the cost."""
import http.client
import os
import statistics
import time

from node import Node, wait_for

TITLE = "VEs that sleep (16 of 32 MiB), and memory.dedup (8)"
VES, ALIKES, MEGABYTES, IDLE = 16, 8, 32, "2s"
SCANS = 3  # a page is merged when two scans have found it unchanged
KSM = "/sys/kernel/mm/ksm"
HOLD = ("mkdir -p /www; echo hello >/www/index.html; httpd -h /www -p 80; "
        "({ %s; }; sleep 100000) | tail -n1 >/dev/null 2>&1 &")
MIXED = (f"yes a line of text that compresses | head -c {MEGABYTES << 19} | tr '\\n' ' '; "
         f"head -c {MEGABYTES << 19} /dev/urandom | tr '\\n' x")
ALIKE = (f"i=0; while [ $i -lt {MEGABYTES << 20 >> 12} ]; do printf '%04095d' $i; printf x; i=$((i + 1)); done")


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def first_answer(address):
    """Seconds until the page is there."""
    at = time.monotonic()
    with_ = http.client.HTTPConnection(address, 80, timeout=60)
    with_.request("GET", "/")
    assert with_.getresponse().read().strip() == b"hello"
    took = time.monotonic() - at
    with_.close()
    return took


def held(node):
    return sum(ve["usage"]["memory"] for ve in node.ok("GET", "/v1/ves?fields=usage.memory"))


def compressed(node):
    """Bytes of memory that zram has for what is in it; None: there is none."""
    try:
        return int(read(f"/sys/block/zram{read(node.root + '/run/zram').strip()}/mm_stat").split()[2])
    except OSError:
        return None


def spread(bench, name, seconds):
    seconds = sorted(s * 1e3 for s in seconds)
    bench.row("sleep", name, "ms", statistics.median(seconds), len(seconds), seconds[0], seconds[-1])


def start(node, names, script, **params):
    for name in names:
        node.ve(name, params=params)
        node.sh(name, HOLD % script)
    wait_for(lambda: held(node) > len(names) * (MEGABYTES << 20))


def states(node):
    return {ve["state"] for ve in node.ok("GET", "/v1/ves?fields=state")}


def sleeping(bench, node):
    names = [f"s{i}" for i in range(VES)]
    start(node, names, MIXED)
    before = held(node)
    addresses = [node.show(name)["addresses"][0] for name in names]
    spread(bench, "answer of one that is awake", [first_answer(a) for a in addresses])
    for name in names:
        node.terem("set", name, f"idle.sleep={IDLE}")
    seen = []
    for _ in range(2):
        wait_for(lambda: states(node) == {"sleeping"})
        last = [held(node)]

        def settled():
            time.sleep(2)
            last.append(held(node))
            return last[-1] == last[-2]
        wait_for(settled)
        if not seen:
            after, inside = held(node), compressed(node)
        seen += [first_answer(a) for a in addresses]
    spread(bench, "first answer of one that sleeps", seen)
    bench.row("sleep", "held by a VE awake", "KiB", before / VES / 1024)
    bench.row("sleep", "held by a VE asleep", "KiB", after / VES / 1024, of=after / before)
    if inside is not None:
        bench.row("sleep", "the same with what zram keeps for it", "KiB", (after + inside) / VES / 1024,
                  of=(after + inside) / before)
    for name in names:
        node.terem("destroy", name, "--force", "--yes")


def ksmd():
    """Seconds of processor that the kernel's thread has used."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = read(f"/proc/{pid}/stat")
        except OSError:
            continue
        if "(ksmd)" in stat:
            fields = stat.rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def dedup(bench, node):
    if not os.path.exists(KSM):
        bench.note("this kernel has no KSM: memory.dedup is not measured")
        return
    names = [f"d{i}" for i in range(ALIKES)]
    used = ksmd()
    start(node, names, ALIKE, **{"memory.dedup": "on"})
    page = os.sysconf("SC_PAGE_SIZE")
    at, scans = time.monotonic(), int(read(f"{KSM}/full_scans"))
    wait_for(lambda: int(read(f"{KSM}/full_scans")) >= scans + SCANS)
    took, saved = time.monotonic() - at, int(read(f"{KSM}/pages_sharing")) * page
    profit = int(read(f"{KSM}/general_profit")) if os.path.exists(f"{KSM}/general_profit") else saved
    bench.row("dedup", "alike in each VE", "MiB", MEGABYTES)
    bench.row("dedup", "saved, of what is alike and not the last copy", "%",
              100 * saved / ((ALIKES - 1) * (MEGABYTES << 20)))
    bench.row("dedup", "saved less what KSM keeps for it", "MiB", profit / 2**20)
    bench.row("dedup", f"for {SCANS} scans of all", "s", took)
    bench.row("dedup", "ksmd's processor time for it", "s", ksmd() - used)
    used, at = ksmd(), time.monotonic()
    time.sleep(10)
    bench.row("dedup", "ksmd's processor from then on, while nothing changes", "% of a core",
              100 * (ksmd() - used) / (time.monotonic() - at))
    for name in names:
        node.terem("destroy", name, "--force", "--yes")


def run(bench):
    node = bench.own(Node(bench.options.build)).start()
    node.template("busybox")
    done = node.terem("node", "setup", "--zram", "1G", "--yes", check=False)
    if done.returncode:
        bench.note(done.stderr.strip())
    try:
        sleeping(bench, node)
    finally:
        node.terem("node", "setup", "--no-zram", "--yes")
    dedup(bench, node)
