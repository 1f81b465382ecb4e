# SPDX-License-Identifier: GPL-2.0-or-later
"""What a node holds of the machine: things that are counted, and memory.

Counts of two moments with the same VEs must be equal: nothing is estimated.  The soak runs in a network
namespace of its own, so that what is counted of the network is the node's alone.
"""
import collections
import glob
import json
import os
import re
import socket
import subprocess

ROOTS = ("teremd", "terem-keep", "lxcfs")


def output(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def daemons(node):
    """{"teremd": pid, …}"""
    found = {}
    for pid, command in node.processes():
        name = os.path.basename(command.split()[0])
        if name in ROOTS and os.stat(f"/proc/{pid}").st_uid == 0:
            found[name] = pid
    return found


def memory(node):
    """KiB that each daemon has for itself."""
    found = {}
    for name, pid in daemons(node).items():
        rows = dict(line.split(":", 1) for line in read(f"/proc/{pid}/smaps_rollup").splitlines()[1:])
        found[name] = sum(int(rows[key].split()[0]) for key in ("Pss_Anon", "SwapPss"))
    return found


def slab():
    """KiB of kernel memory that it cannot give back at will: SUnreclaim, and what it has in pages for the
    likes of page tables, kernel stacks, and each processor's own."""
    rows = dict(line.split(":", 1) for line in read("/proc/meminfo").splitlines())
    return sum(int(rows[key].split()[0]) for key in ("SUnreclaim", "KernelStack", "PageTables", "Percpu"))


def dying(node):
    """cgroups of the node that are removed, and still held by something."""
    found = 0
    for top in glob.glob(f"/sys/fs/cgroup/{node.cgroup_name}") + glob.glob(f"/sys/fs/cgroup/*/{node.cgroup_name}"):
        path = os.path.join(top, "cgroup.stat")
        if os.path.exists(path):
            found += int(dict(line.split() for line in read(path).splitlines())["nr_dying_descendants"])
    return found


def cgroups(node):
    tops = glob.glob(f"/sys/fs/cgroup/{node.cgroup_name}") + glob.glob(f"/sys/fs/cgroup/*/{node.cgroup_name}")
    # What a VE's own init makes below is its affair.
    return sum(len(glob.glob(os.path.join(top, "*/"))) for top in tops)


def files(node):
    """How many entries the directories of the node have, but for VEs' own trees."""
    found = 0
    for top, depth in (("lib", 4), ("run", 3)):
        base = os.path.join(node.root, top)
        for folder, folders, names in os.walk(base):
            below = folder[len(base):].count("/")
            names = [name for name in names if ".db-" not in name]  # SQLite's own
            found += len(folders) + len(names)
            if below + 1 >= depth or os.path.basename(folder) in ("layers", "lxcfs", "bpf"):
                folders.clear()
    return found


def maps(node):
    """Entries of BPF maps that hold what comes and goes."""
    found = 0
    for path in glob.glob(os.path.join(node.root, "run/bpf/**"), recursive=True):
        if os.path.isfile(path):
            done = subprocess.run(["/usr/sbin/bpftool", "-j", "map", "show", "pinned", path],
                                  capture_output=True, text=True, check=False)
            shown = json.loads(done.stdout) if done.returncode == 0 else {}
            if "hash" in shown.get("type", "") or shown.get("type") == "lpm_trie":
                dump = json.loads(output("/usr/sbin/bpftool", "-j", "map", "dump", "pinned", path))
                found += len(dump)
    return found


def rules(node):
    """What is in the node's tables, by its kind and name: elements of sets and maps, rules of chains, counters."""
    found = collections.Counter()
    for line in node.tables():
        for item in json.loads(output("/usr/sbin/nft", "-j", "list", *line.split()))["nftables"]:
            [(kind, body)] = item.items()
            name = re.sub(r"\d+", "N", str(body.get("chain" if kind == "rule" else "name", "")))
            found[f"{kind} {name}".strip()] += 1
            if kind in ("set", "map"):
                found[f"elements of {name}"] += len(body.get("elem", []))
    return {f"nft: {name}": count for name, count in found.items() if count}


def qdiscs():
    done = []
    for _, name in socket.if_nameindex():
        done += output("tc", "class", "show", "dev", name).splitlines()
    return len(done) + len(output("tc", "qdisc", "show").splitlines())


def connections():
    try:
        return int(read("/proc/sys/net/netfilter/nf_conntrack_count"))
    except OSError:
        return 0


def descriptors(name, pid):
    """By what they are of."""
    found = collections.Counter()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            of = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        kind = re.sub(r":?\[?\d+\]?$", "", of) if of[0] != "/" else os.path.basename(re.sub(r"\d+", "N", of))
        found[f"descriptors of {name}: {kind}"] += 1
    return dict(found)


def counted(node):
    """{what: how many}"""
    found = {}
    for name, pid in daemons(node).items():
        found |= descriptors(name, pid)
        found[f"children of {name}"] = len(read(f"/proc/{pid}/task/{pid}/children").split())
    found |= {
        "processes": len([one for one in node.processes() if one[1]]),
        "cgroups": cgroups(node),
        "dying cgroups": dying(node),
        "mounts": len(node.mounts()),
        "loop devices": len(node.loops()),
        "files and directories": files(node),
        "entries of BPF maps": maps(node),
        "interfaces": len(socket.if_nameindex()),
        "network namespaces": len(output("ip", "netns", "list-id").splitlines()),
        "routes": len(output("ip", "route", "show", "table", "all").splitlines()) +
        len(output("ip", "-6", "route", "show", "table", "all").splitlines()),
        "neighbours": len(output("ip", "neigh", "show", "proxy").splitlines()),
        "queues and classes": qdiscs(),
        "connections": connections(),
        "addresses": len(node.ok("GET", "/v1/network/addresses")),
        "id ranges up to": max_range(node),
    }
    return found | rules(node)


def max_range(node):
    """The highest range of ids that a VE has: with the lowest free one for each new VE it does not climb."""
    uids = [0]
    for pid, _ in node.processes():
        try:
            uids.append(os.stat(f"/proc/{pid}").st_uid)
        except OSError:
            pass
    return max(uids) >> 16
