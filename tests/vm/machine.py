# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine of QEMU (TCG: no help of the processor is needed) that runs shell commands.

    with Machine(image, "6.1", folders={"build": ..., "tests": ...}) as vm:
        status = vm.run("uname -r", print)

It boots once; a snapshot of the running machine is kept beside the image, and every later machine
begins there, about a second after it was asked for.  Two ports: the console goes into a file, and
the other one carries commands (guest/serve).  Folders of the host are mounted read-only (9p)
after the snapshot: a machine with such a mount cannot be saved.  The root, which is read-only, has
places for two of them below /work; others are in /data.
"""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time

MEMORY = 768
PLACES = {"build": "/work/build", "tests": "/work/tests"}
DISK = 4 << 30
BOOT_SECONDS, LOAD_SECONDS = 300, 60


class Machine:
    def __init__(self, image, kernel, folders, counted=False, memory=MEMORY):
        """counted: its clock counts instructions, so that what else the host does cannot show in
        what it measures.  Such a machine begins with a boot, and so does one of other memory (MB)."""
        self.memory, self.boots = memory, counted or memory != MEMORY
        self.counted = ["-icount", "shift=4,sleep=off"] if counted else []
        self.image, self.kernel, self.folders = image, kernel, folders
        self.saved = os.path.join(image.where, kernel, "saved.qcow2")
        self.process = self.monitor = self.port = None
        self.buffer = b""
        # Sockets: their paths must be short.
        self.dir = tempfile.mkdtemp(prefix="terem-vm-", dir="/tmp")

    def __enter__(self):
        try:
            if not os.path.exists(self.saved):
                self.save()
            disk = os.path.join(self.dir, "disk.qcow2")
            subprocess.run(["cp", "--reflink=auto", "--sparse=always", self.saved, disk], check=True)
            self.start(disk, self.memory, *(self.counted if self.boots else ["-loadvm", "ready"]))
            self.connect(LOAD_SECONDS)
            if self.boots:
                self.wait_line("@@ready", 3 * BOOT_SECONDS)
            for name in self.folders:
                place = PLACES.get(name, f"/data/{name}")
                self.must(f"mkdir -p {place} && mount -t 9p -o ro,trans=virtio,msize=262144,cache=loose "
                          f"{name} {place}")
            self.must(f"date -s @{int(time.time())}")
            return self
        except BaseException:
            self.close()
            raise

    def __exit__(self, *unused):
        self.close()

    def save(self):
        """Boots on an empty disk and keeps the running machine."""
        raw, disk = (os.path.join(self.dir, name) for name in ("empty", "new.qcow2"))
        with open(raw, "wb") as file:
            file.truncate(DISK)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m0", "-O", "quota,project", raw], check=True)
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, disk], check=True)
        os.unlink(raw)
        self.start(disk, MEMORY)
        self.connect(5)
        self.wait_line("@@ready", BOOT_SECONDS)
        self.must("sync; echo 2 >/proc/sys/vm/drop_caches")
        said = self.command("human-monitor-command", {"command-line": "savevm ready"})
        if said:
            raise RuntimeError(f"the machine cannot be saved: {said}")
        try:
            self.command("quit")
        except (RuntimeError, OSError, ValueError):
            pass  # it may be gone before it answers
        self.process.wait(60)
        self.end()
        new = f"{self.saved}.{os.getpid()}"  # another run may do the same
        shutil.move(disk, new)
        os.rename(new, self.saved)

    def start(self, disk, memory, *more):
        # Both processors in one thread: with one each, QEMU 7.2 now and then runs an instruction
        # that the other one is just changing (static keys of Linux 6.12), and the kernel panics.
        argv = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", "tcg,thread=single", "-machine", "pc", "-cpu",
                "qemu64,+rdrand,+rdtscp,+ssse3,+sse4.1,+sse4.2,+popcnt", "-smp", "2", "-m", str(memory),
                "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                "-kernel", self.image.kernel(self.kernel),
                "-initrd", self.image.initramfs(self.kernel), "-append",
                "console=ttyS0 quiet panic=-1 mitigations=off audit=0 random.trust_cpu=on "
                "cgroup_no_v1=all no_timer_check tsc=unstable",
                "-drive", f"file={self.image.root},format=raw,if=virtio,readonly=on",
                "-drive", f"file={self.image.template},format=raw,if=virtio,readonly=on",
                "-drive", f"file={disk},format=qcow2,if=virtio,cache=unsafe,discard=unmap",
                "-device", "virtio-rng-pci",
                "-serial", f"file:{self.dir}/console",
                "-serial", f"unix:{self.dir}/port,server=on,wait=off",
                "-qmp", f"unix:{self.dir}/monitor,server=on,wait=off"]
        for name, path in self.folders.items():
            argv += ["-fsdev", f"local,id={name},path={path},security_model=none,readonly=on",
                     "-device", f"virtio-9p-pci,fsdev={name},mount_tag={name}"]
        with open(os.path.join(self.dir, "said"), "ab") as said:
            self.process = subprocess.Popen([*argv, *more], stdin=subprocess.DEVNULL, stdout=said,
                                            stderr=said)

    def text(self, name, size=2000):
        try:
            with open(os.path.join(self.dir, name), encoding="utf-8", errors="replace") as file:
                return file.read()[-size:]
        except OSError:
            return ""

    def why(self):
        return f"{self.text('said')}{self.text('console')}"

    def connect(self, seconds):
        self.monitor = self.open("monitor", seconds).makefile("rwb")
        self.port = self.open("port", seconds)
        self.buffer = b""
        json.loads(self.monitor.readline())  # its greeting
        self.command("qmp_capabilities")

    def open(self, name, seconds):
        deadline = time.monotonic() + seconds
        while True:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(seconds)
            try:
                connection.connect(os.path.join(self.dir, name))
                return connection
            except OSError:
                connection.close()
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"QEMU does not answer: {self.why()}") from None
                time.sleep(0.05)

    def command(self, name, arguments=None):
        self.monitor.write(json.dumps({"execute": name, "arguments": arguments or {}}).encode())
        self.monitor.flush()
        while True:
            line = self.monitor.readline()
            if not line:
                raise RuntimeError(f"QEMU ended: {self.why()}")
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"{name}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def line(self, deadline):
        """The next line that the machine says."""
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the machine said nothing more")
            self.port.settimeout(left)
            try:
                data = self.port.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                raise RuntimeError(f"the machine ended: {self.why()}")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")

    def wait_line(self, wanted, seconds):
        deadline = time.monotonic() + seconds
        try:
            while self.line(deadline) != wanted:
                pass
        except TimeoutError:
            raise RuntimeError(f"the machine did not come up: {self.why()}") from None

    def run(self, command, hear, seconds=300):
        """Exit status of a shell command of one line; hear() is told each line of its output."""
        try:
            self.port.settimeout(30)
            self.port.sendall(command.encode() + b"\n")
        except OSError as cause:
            raise RuntimeError(f"the machine ended ({cause}): {self.why()}") from None
        deadline = time.monotonic() + seconds
        while True:
            line = self.line(deadline)
            # Output that does not end its last line stands before it.
            before, mark, status = line.rpartition("@@done ")
            if mark:
                if before:
                    hear(before)
                return int(status)
            hear(line)

    def must(self, command):
        lines = []
        if self.run(command, lines.append) != 0:
            raise RuntimeError(f"{command}: {' '.join(lines)}")

    def end(self):
        """Nothing of it is to be kept: the snapshot is on the disk already."""
        if self.process:
            self.process.kill()
            self.process.wait()
        for connection in (self.monitor, self.port):
            try:
                if connection:
                    connection.close()
            except OSError:
                pass  # it had something to say to a machine that is gone
        self.process = self.monitor = self.port = None

    def close(self):
        self.end()
        shutil.rmtree(self.dir, ignore_errors=True)
