# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory of the machine for each VE: idle ones beside the floor (floor.c), crun and lxc, and small servers.

Taken is MemTotal - MemFree - what processors keep free - the page cache that can be given back
(active and inactive files), before and after COUNT starts, each time when all that can be dropped
was dropped (drop_caches, empty slabs) and what is free stood still; divided by COUNT.  What the kernel alone has (Slab, Percpu,
KernelStack, PageTables) stands beside it: other programs of the machine disturb it least.

A memory cgroup has memory for each superblock that the machine ever had at once: compare on a
machine that has just booted.  There the floor is measured first, since those that come later
leave it more than they found.

--mass N: how many idle VEs (200); --servers N: busybox VEs with init, dropbear and httpd (200); --systems N:
Debian 12 VEs with systemd, nginx and sshd, beside lxc's (0: they take minutes).  The whole is 1000, 1000 and 300.
--booted N: idle VEs in machines of QEMU that have just booted (booted.py; 0: it takes half an hour)."""
import concurrent.futures
import glob
import os
import re
import shutil
import socket
import subprocess
import time

import peers
from node import Node

TITLE = "Memory of the machine for each VE"
SERVED = (80, b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1."), (22, b"", b"SSH-2.0")
SCRIPTS = {"10-sshd": "exec /usr/sbin/dropbear -R -r /etc/dropbear/key", "20-httpd": "exec /bin/httpd -h /var/www"}


# ---- the machine ----

def meminfo():
    """KB of each, and Idle: free pages that the processors keep for themselves (zoneinfo), which
    MemFree does not count; up to some tens of megabytes."""
    with open("/proc/meminfo", encoding="ascii") as file:
        m = {line.split(":")[0]: int(line.split()[1]) for line in file}
    with open("/proc/zoneinfo", encoding="ascii") as file:
        return {**m, "Idle": 4 * sum(int(line.split()[1]) for line in file if line.split()[0] == "count:")}


def settled():
    """/proc/meminfo when nothing more can be dropped and nothing goes on in the background."""
    os.sync()
    last, now = None, meminfo()
    for _ in range(8):
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("3")
        for path in glob.glob("/sys/kernel/slab/*/shrink"):
            try:
                with open(path, "w", encoding="ascii") as file:
                    file.write("1")
            except OSError:  # a cache that has just gone
                pass
        time.sleep(1)
        now = meminfo()
        if last is not None and abs(now["MemFree"] + now["Idle"] - last) < 512:
            break
        last = now["MemFree"] + now["Idle"]
    return now


def taken(m):
    return m["MemTotal"] - m["MemFree"] - m["Idle"] - m["Active(file)"] - m["Inactive(file)"]


def kernel(m):
    return m["Slab"] + m["Percpu"] + m["KernelStack"] + m["PageTables"]


class Weighing:
    """What is taken from the machine between begin and settle(), KB."""

    def __init__(self):
        self.before = settled()
        self.taken = self.kernel = self.time = self.idle = 0
        self.programs = {}

    def settle(self):
        after = settled()
        self.taken, self.kernel = taken(after) - taken(self.before), kernel(after) - kernel(self.before)


# ---- idle ones ----

def weigh_peer(bench, peer):
    bench.own(peer)
    weight = Weighing()
    peer.start()
    weight.settle()
    peer.stop()
    return weight


def bulk(node, verb, timeout=900, **options):
    at = time.monotonic()
    job = node.job("POST", "/v1/bulk", {"verb": verb, "options": options, "all": True}, timeout=timeout)
    if job["state"] != "done" or job["result"]["failed"]:
        raise RuntimeError(f"{verb}: {job}")
    return time.monotonic() - at


def make(node, count, template):
    line = node.connection(600)
    for i in range(count):
        node.ok("POST", "/v1/ves", {"name": f"v{i:04}", "template": template, "params": {"memory.limit": "256M"}},
                connection=line)
    line.close()


def cpu_seconds(node):
    ticks = 0
    for pid, command in node.processes():
        if re.search("teremd|terem-keep|lxcfs", command.split()[0]):
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                ticks += sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def pss(node, program):
    from node import memory
    for pid, command in node.processes():
        if command.split()[0].endswith(program):
            return memory(pid) / 1024
    return 0


def idle(node, seconds=20):
    """Percent of a core that the node takes while nothing happens."""
    before, at = cpu_seconds(node), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(node) - before) / (time.monotonic() - at) * 100


def weigh_terem(bench, root, count):
    node = bench.own(Node(bench.options.build)).start()
    node.job("POST", "/v1/templates", {"name": "pause", "import": root})
    make(node, count, "pause")
    weight = Weighing()
    bulk(node, "start")
    weight.settle()
    weight.idle = idle(node)
    weight.programs = {name: pss(node, name) for name in ("teremd", "terem-keep", "lxcfs")}
    bulk(node, "destroy", force=True)
    return weight


def part_idle(bench, count):
    root = peers.pause_root(bench.work)
    theirs = os.path.join(bench.work, "pause-shifted")
    shutil.copytree(root, theirs, symlinks=True)
    peers.shift(theirs, 1000000)
    contenders = (("the floor", lambda: weigh_peer(bench, peers.Floor(bench.work, "terembg", count, root))),
                  ("terem", lambda: weigh_terem(bench, root, count)),
                  ("crun (no cable, no overlay)",
                   lambda: weigh_peer(bench, peers.CrunMany(bench.work, "/usr/bin/crun", "terembd12", theirs, count))),
                  ("lxc (no overlay)", lambda: weigh_peer(bench, peers.LxcMany(bench.work, "terembd", theirs, count))))
    floor = None
    for name, weigh in contenders:
        weight = weigh()
        floor = floor or weight
        bench.row("density", f"{name}: each of {count} idle VEs", "KB", weight.taken / count,
                  of=weight.taken / floor.taken)
        bench.row("density", f"{name}: of it in the kernel", "KB", weight.kernel / count,
                  of=weight.kernel / floor.kernel)
        if name == "terem":
            bench.row("density", f"terem: the node at rest with {count} VEs", "% of a core", weight.idle)
            for program, size in weight.programs.items():
                bench.row("density", f"{program}: memory (PSS) with {count} VEs", "MB", size)


# ---- small servers ----

def server_root(bench, node):
    """Terem's own busybox with dropbear and a page."""
    node.template("busybox")
    root = os.path.join(bench.work, "server-root")
    [layer] = node.ok("GET", "/v1/templates/busybox")["layers"]
    [source] = glob.glob(os.path.join(node.root, "lib/layers", "*" + layer.split(":")[1]))
    inner = os.path.join(source, "root")
    shutil.copytree(inner if os.path.isdir(inner) else source, root, symlinks=True)
    told = subprocess.run(["ldd", "/usr/sbin/dropbear"], check=True, capture_output=True, text=True).stdout
    for path in ["/usr/sbin/dropbear", *re.findall(r"(/\S+) \(", told)]:
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        shutil.copy(path, root + path)
    for folder in ("etc/dropbear", "etc/rc.d", "var/www"):
        os.makedirs(os.path.join(root, folder), exist_ok=True)
    peers.call(["dropbearkey", "-t", "ed25519", "-f", os.path.join(root, "etc/dropbear/key")])
    with open(os.path.join(root, "var/www/index.html"), "w", encoding="ascii") as file:
        file.write("here\n")
    if not os.path.lexists(os.path.join(root, "bin/httpd")):
        os.symlink("busybox", os.path.join(root, "bin/httpd"))
    for name, line in SCRIPTS.items():
        path = os.path.join(root, "etc/rc.d", name)
        with open(path, "w", encoding="ascii") as file:
            file.write(f"#!/bin/sh\n[ \"$1\" = start ] || exit 0\n{line}\n")
        os.chmod(path, 0o755)
    return root


def answer(address, port, request, want, deadline):
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, port), 5) as line:
                line.settimeout(5)
                line.sendall(request)
                if line.recv(len(want)).startswith(want):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"{address}:{port} does not answer")


def answers(node, deadline):
    """Until every VE has answered HTTP and SSH."""
    addresses = [ve["addresses"][0] for ve in node.ok("GET", "/v1/ves", timeout=120)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for port, request, want in SERVED:
            list(pool.map(lambda one, p=port, r=request, w=want: answer(one, p, r, w, deadline), addresses))


def part_servers(bench, count):
    node = bench.own(Node(bench.options.build)).start()
    node.job("POST", "/v1/templates", {"name": "server", "import": server_root(bench, node)})
    make(node, count, "server")
    weight = Weighing()
    at = time.monotonic()
    bulk(node, "start")
    answers(node, at + 600)
    started = time.monotonic() - at
    weight.settle()
    what = f"{count} busybox VEs with init, dropbear and httpd"
    bench.row("density", f"{what}: memory of the machine", "MB", weight.taken / 1024)
    bench.row("density", f"{what}: started, each answering HTTP and SSH", "s", started)
    bench.row("density", f"{what}: the node at rest", "% of a core", idle(node))
    bench.row("density", f"{what}: stopped", "s", bulk(node, "stop"))


# ---- systems ----

class LxcSystems(peers.LxcMany):
    """As many Debians in lxc, each with an overlay of its own on the tree that all share."""

    def configure(self, name, cable, root, init, systemd, base):
        super().configure(name, cable, root, init, True, base)
        folder = os.path.join(self.path, name)
        config, upper = os.path.join(folder, "config"), os.path.join(folder, "upper")
        for path in (upper, os.path.join(folder, "work")):  # lxc makes them as the container's root, and may not
            os.makedirs(path)
            os.chown(path, base, base)
        number = int(name.rpartition("-")[2]) if "-" in name else 0
        with open(config, encoding="utf-8") as file:
            text = file.read()
        text = text.replace(f"dir:{root}", f"overlay:{root}:{upper}")
        text = re.sub(r"(lxc.idmap = [ug] 0) \d+", rf"\1 {base}", text)
        text = text.replace("10.254.253.2/24", f"10.254.{number // 250}.{2 + number % 250}/16")
        with open(config, "w", encoding="utf-8") as file:
            file.write(text)


def debian_roots(bench, node):
    node.job("POST", "/v1/templates", {"name": "debian-12", "build": "debian-12",
                                       "include": ["nginx", "openssh-server"]}, timeout=900)
    shifted = os.path.join(bench.work, "debian-shifted")
    for digest in node.ok("GET", "/v1/templates/debian-12")["layers"]:
        [layer] = glob.glob(os.path.join(node.root, "lib/layers", "*" + digest.split(":")[1]))
        inner = os.path.join(layer, "root")
        peers.call(["cp", "-a", (inner if os.path.isdir(inner) else layer) + "/.", shifted], timeout=600)
    peers.shift(shifted, 1000000)
    return shifted


def part_systems(bench, count):
    node = bench.own(Node(bench.options.build)).start()
    shifted = debian_roots(bench, node)
    line = node.connection(600)
    for i in range(count):
        node.ok("POST", "/v1/ves", {"name": f"v{i:04}", "template": "debian-12"}, connection=line)
    line.close()
    ours = Weighing()
    at = time.monotonic()
    bulk(node, "start")
    answers(node, at + 1800)
    ours.time = time.monotonic() - at
    ours.settle()
    bulk(node, "destroy", force=True)
    lxc = bench.own(LxcSystems(bench.work, "terembs", shifted, count))
    theirs = Weighing()
    at = time.monotonic()
    lxc.start()
    for i in range(count):
        pid = subprocess.check_output(["/usr/bin/lxc-info", "-P", lxc.path, "-n", f"{lxc.name}-{i}", "-p", "-H"],
                                      env=peers.LXC_PATH)
        for port, request, want in SERVED:
            peers.wait_port_in(f"/proc/{int(pid)}/ns/net", port, at + 1800, request, want)
    theirs.time = time.monotonic() - at
    theirs.settle()
    what = f"{count} Debian 12 with systemd, nginx and sshd"
    for name, weight in (("lxc", theirs), ("terem", ours)):
        bench.row("density", f"{what}, {name}: memory of the machine", "MB", weight.taken / 1024,
                  of=weight.taken / theirs.taken)
        bench.row("density", f"{what}, {name}: all answer after", "s", weight.time, of=weight.time / theirs.time)


def run(bench):
    if bench.options.mass:
        part_idle(bench, bench.options.mass)
    if bench.options.servers:
        part_servers(bench, bench.options.servers)
    if bench.options.systems:
        part_systems(bench, bench.options.systems)
    if bench.options.booted:
        import booted  # pylint: disable=import-outside-toplevel # it weighs with what stands here
        booted.run(bench, bench.options.booted)
