# SPDX-License-Identifier: GPL-2.0-or-later
"""What of Terem is on this machine: processes, mounts, cgroups, interfaces, tables, directories.

snapshot() before and after a run must be equal; each entry is a readable line.
"""
import glob
import os
import re
import subprocess

WORD = re.compile(r"terem(?!inal)")


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def processes():
    """Programs of Terem, and whatever is in a cgroup of Terem."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            program = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            continue
        state = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        if not state or state[0] == "Z":
            continue
        command = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
        name = os.path.basename(program.removesuffix(" (deleted)"))
        lxcfs = name == "lxcfs" and "terem" in command
        cgroups = re.findall(r"^\d+:[^:]*:/(terem\S*)", _read(f"/proc/{pid}/cgroup"), re.M)
        if name in ("terem", "teremd", "terem-keep", "terem-init") or lxcfs or cgroups:
            yield f"process {pid} {name}: {command[:120]} {' '.join(sorted(set(cgroups)))}".strip()


def mounts():
    for line in _read("/proc/self/mountinfo").splitlines():
        fields = line.split()
        if WORD.search(os.path.basename(fields[4])) or re.search(r"/(terem|run/run)", fields[4]):
            yield f"mount {fields[4]}"


def cgroups():
    for pattern in ("/sys/fs/cgroup/terem*", "/sys/fs/cgroup/*/terem*"):
        for top in glob.glob(pattern):
            yield f"cgroup {top}"


def interfaces():
    for path in glob.glob("/sys/class/net/terem*"):
        yield f"interface {os.path.basename(path)}"


def tables():
    done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False) \
        if os.path.exists("/usr/sbin/nft") else None
    for line in done.stdout.splitlines() if done else []:
        if "terem" in line:
            yield f"nft {line}"


def loops():
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        backing = _read(path).strip()
        if "terem" in backing:
            yield f"loop {path.split('/')[3]} on {backing}"


def programs():
    """Terem's BPF programs, wherever they hang."""
    tool = "/usr/sbin/bpftool"
    done = subprocess.run([tool, "prog", "list"], capture_output=True, text=True, check=False) \
        if os.path.exists(tool) else None
    for number, kind, name in re.findall(r"^(\d+): (\w+)  name (terem_\w+)",
                                         done.stdout if done else "", re.M):
        yield f"BPF {kind} {number} {name}"


def directories():
    for pattern in ("/tmp/terem*", "/run/terem*", "/run/netns/terem*", "/var/lib/terem*",
                    "/var/tmp/terem*", "/dev/shm/terem*"):
        for path in glob.glob(pattern):
            yield f"path {path}"


def snapshot():
    found = set()
    for kind in (processes, mounts, cgroups, interfaces, tables, loops, programs, directories):
        found.update(kind())
    return found
