#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""In the machine: the life of VEs on this kernel with cgroup v2 alone.  Prints TAP.

Compute is 30 to 90 times slower here, so nothing is timed and every deadline is generous.
"""
import concurrent.futures
import os
import re
import sys

sys.path[:0] = ["/work/tests", "/work/tests/vm"]
from events import Events  # noqa: E402
from node import PATIENCE, Node, wait_for  # noqa: E402
from steps import KERNEL, Steps, read, run, write  # noqa: E402


def sh(command):
    assert os.system(command) == 0, command


class Smoke(Steps):
    """Steps, in the order of their definition; each goes on from what the earlier ones left."""

    def start(self):
        self.node.start()

    def doctor(self):
        """Everything that a VE stands on is here, and only what this kernel is too old for is not."""
        checks = {c["name"]: c for c in self.node.ok("GET", "/v1/doctor")["checks"]}
        for check in checks.values():
            print(f"# {check['name']}: {check['found']}")
        old = set()
        if KERNEL < (6, 13):
            old = {"overlay layers by descriptor", "exit status by descriptor"}
        if KERNEL < (6, 7):
            old.add("merging of equal memory")
        # Neither package, uplink nor swap is in the machine, and its disk has no quota.
        ignored = {"mmdebstrap", "network", "pool default", "bandwidth outward",
                   "bandwidth inward", "swap"}
        bad = {name for name, check in checks.items() if not check["ok"]} - ignored
        assert bad == old, bad ^ old
        for name in ("memory", "cpu", "pids"):
            assert checks[f"cgroup controller {name}"]["found"] == "cgroup v2"

    def doctor_beside_others(self):
        """What its trials are made of is born beside threads that hold locks of malloc."""
        with concurrent.futures.ThreadPoolExecutor(4) as askers:
            asked = [askers.submit(self.node.ok, "GET", path)
                     for _ in range(12) for path in ("/v1/density", "/v1/doctor", "/v1/density")]
            for one in asked:
                assert one.result()

    def template(self):
        self.node.template()

    def create_and_start(self):
        shown = self.node.ve("web1", params={"memory.limit": "64M", "processes": "40",
                                             "cpu.limit": "50"})
        assert shown["state"] == "running"
        assert self.cgroup("web1", "memory.max") == str(64 << 20)
        assert self.cgroup("web1", "pids.max") == "40"
        assert self.cgroup("web1", "cpu.max") == "50000 100000"

    def exec_inside(self):
        out = self.node.sh("web1", "id -u; hostname; cat /proc/self/uid_map; echo $((6 * 7))")
        lines = out.split()
        assert lines[:2] == ["0", "web1"] and lines[-1] == "42", out
        assert self.node.run("web1", "/bin/false", check=False)["exit"] == 1

    def network(self):
        """The host reaches the VE and the other way round, at the first packet."""
        address = self.node.show("web1")["addresses"][0].partition("/")[0]
        gateway = self.node.sh("web1", "ip -4 route").split()[2]
        assert "1 packets received" in self.node.sh("web1", f"ping -c1 -W60 {gateway}")
        assert not os.system(f"/bin/busybox ping -c1 -W60 {address} >/dev/null")

    def processes_are_limited(self):
        out = self.node.sh("web1", "for i in $(seq 60); do sleep 300 & done 2>&1; true", check=False)
        assert re.search("fork|temporarily", out + " fork"), out
        assert int(self.cgroup("web1", "pids.current")) <= 40
        # Linux 6.1 counts in the cgroup of the process that forks, newer ones in the limited one.
        top = f"/sys/fs/cgroup/{self.node.cgroup_name}/ve-{self.node.show('web1')['id']}"
        assert any(read(os.path.join(folder, "pids.events")) != "max 0"
                   for folder, _, files in os.walk(top) if "pids.events" in files)
        # All forty are used: nothing more runs inside until there is room.
        self.node.terem("set", "web1", "processes=100")
        assert self.cgroup("web1", "pids.max") == "100"
        self.node.run("web1", "/bin/busybox", "killall", "sleep", check=False)

    def memory_is_limited(self):
        """tail keeps what has no line end: it is killed inside, the VE goes on."""
        done = self.node.run("web1", "/bin/sh", "-c", "tail -n1 </dev/zero", check=False)
        assert done["exit"] != 0 or done["signal"], done
        assert int(re.search(r"oom_kill (\d+)", self.cgroup("web1", "memory.events"))[1]) > 0
        assert self.node.sh("web1", "echo alive") == "alive\n"
        self.node.terem("set", "web1", "memory.limit=96M", "cpu.limit=25")
        assert self.cgroup("web1", "memory.max") == str(96 << 20)
        assert self.cgroup("web1", "cpu.max") == "25000 100000"
        # What lies in memory alone cannot be taken away: refused, and nobody is killed.
        self.node.sh("web1", "dd if=/dev/zero of=/dev/shm/held bs=1M count=24 2>/dev/null")
        refused = self.node.terem("set", "web1", "memory.limit=16M", check=False)
        assert refused.returncode == 1 and "in use, which cannot be given back" in refused.stderr, refused.stderr
        assert self.cgroup("web1", "memory.max") == str(96 << 20)
        self.node.sh("web1", "rm /dev/shm/held")

    def memory_is_told_by_kind(self):
        """With cgroup v2 the kernel tells the parts of its own memory; tests/test_density.py has the rest."""
        self.node.sh("web1", "dd if=/dev/zero of=/dev/shm/held bs=1M count=24 2>/dev/null")
        [ve] = self.node.ok("GET", "/v1/density?ve=web1")["ves"]
        assert ve["split"] and ve["kernel"] > 0 and ve["slab"] > 0, ve
        assert ve["shared"] >= 22 << 20 and ve["cgroups"] == 1, ve
        parts = sum(ve[part] for part in ("stacks", "tables", "slab", "percpu", "rest"))
        assert ve["kernel"] <= parts <= ve["kernel"] + (1 << 20), ve
        self.node.sh("web1", "rm /dev/shm/held")

    def files_and_sockets_are_counted(self):
        """All of it by BPF LSM, which Debian's kernels have and the builder's may not."""
        def row(key):
            return self.node.counter("web1", key)
        for name in ("BPF on cgroups", "BPF LSM", "BPF at functions"):
            check = next(c for c in self.node.ok("GET", "/v1/doctor")["checks"] if c["name"] == name)
            assert check["ok"], check
        before = row("files")
        limit = before["held"] + 80
        self.node.terem("set", "web1", f"files={limit}", f"sockets.other={row('sockets.other')['held'] + 1}")
        out = self.node.sh("web1", "i=10; while [ $i -lt 200 ]; do eval \"exec $i</dev/null\" || exit; "
                           "i=$((i + 1)); done 2>&1", check=False)
        assert "Too many open files in system" in out, out
        now = row("files")
        assert now["held"] <= limit and now["failcnt"] > before["failcnt"], (before, now)
        self.node.terem("set", "web1", "files=unlimited")
        wait_for(lambda: row("files")["held"] <= before["held"])
        # syslogd's socket is the last one that there is room for.
        self.node.sh("web1", "mkdir -p /run; syslogd -O /tmp/log; logger hello; logger again", check=False)
        assert row("sockets.other")["failcnt"] > 0, row("sockets.other")
        self.node.terem("set", "web1", "sockets.other=unlimited")
        self.node.sh("web1", "killall syslogd; true")

    def namespaces_and_inotify_are_counted(self):
        def row(key):
            return self.node.counter("web1", key)
        wanted = {"inotify": ("inotify.instances", 20, "EMFILE"), "watches": ("inotify.watches", 30, "ENOSPC"),
                  "net": ("namespaces", 3, "ENOSPC"), "user": ("namespaces", 3, "ENOSPC"),
                  "signals": ("signals", 64, "EAGAIN"), "ptys": ("ptys", 5, "ENOSPC")}
        self.node.job("POST", "/v1/ves/web1/stop", {"timeout": PATIENCE}, timeout=2 * PATIENCE)
        self.node.terem("set", "web1", "inotify.instances=20", "inotify.watches=30", "namespaces=3",
                        "signals=64", "ptys=5")
        self.node.job("POST", "/v1/ves/web1/start")
        self.node.terem("push", "web1", os.environ["TEREM_USE"], "/root/use")
        with Events(self.node) as events:
            events.begin("web1")
            for what, (key, most, error) in wanted.items():
                wait_for(lambda key=key: row(key)["held"] == 0)
                failed = row(key)["failcnt"]
                out = self.node.sh("web1", f"sh -c 'cp /root/use /tmp/u; chmod 755 /tmp/u; /tmp/u {what} 100'")
                assert out == f"{most} {error}\n", (what, out)
                assert row(key)["failcnt"] == failed + 1, (what, failed, row(key))
                if what != "user":  # the same row once more, within a second
                    told = events.wait("ve.refused", ve="web1", key=key)
                    assert told["process"] == "u" and told["pid"] > 1, told
        for key, most, _ in wanted.values():
            forced = key == "signals"  # kill(2) is not refused at the limit, and counted
            assert most <= row(key)["maxheld"] <= most + forced, row(key)
            wait_for(lambda key=key: row(key)["held"] == 0)
        self.node.job("POST", "/v1/ves/web1/stop", {"timeout": PATIENCE}, timeout=2 * PATIENCE)
        self.node.terem("set", "web1", "inotify.instances=1024", "inotify.watches=65536", "namespaces=128",
                        "signals=4096", "ptys=100")
        self.node.job("POST", "/v1/ves/web1/start")

    def forks_refused_have_names(self):
        with Events(self.node) as events:
            events.begin("web1")
            self.node.terem("set", "web1", "processes=30")
            self.node.sh("web1", "for i in $(seq 60); do sleep 300 & done 2>&1; true", check=False)
            told = events.wait("ve.refused", ve="web1", key="processes")
            assert told["process"] == "sh" and told["pid"] > 1, told
        self.node.terem("set", "web1", "processes=4096")
        self.node.sh("web1", "killall sleep; true", check=False)
        failed = self.node.counter("web1", "processes")["failcnt"]
        assert failed and failed > 0, failed

    def processor_is_limited(self):
        self.node.run("web1", "/bin/sh", "-c", "i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); done")
        throttled = re.search(r"nr_throttled (\d+)", self.cgroup("web1", "cpu.stat"))
        assert int(throttled[1]) > 0
        self.node.terem("set", "web1", "cpu.limit=unlimited")
        assert self.cgroup("web1", "cpu.max") == "max 100000"

    def exec_beside_controlled_children(self):
        """As systemd leaves its cgroup: no process in it, controllers handed to its children."""
        self.node.sh("web1", "cd /sys/fs/cgroup && mkdir init.scope && "
                             "for i in 1 2 3 4 5 6 7 8 9; do for p in $(cat cgroup.procs); do "
                             "echo $p >init.scope/cgroup.procs; done 2>/dev/null; "
                             "echo '+pids +memory' >cgroup.subtree_control && exit 0; done; exit 1")
        assert self.node.sh("web1", "cat /proc/self/cgroup") == "0::/terem.exec\n"
        # Its limits lie above what it was given.
        assert self.node.run("web1", "/bin/sh", "-c", "echo max >/sys/fs/cgroup/memory.max",
                             check=False)["exit"] != 0
        assert self.cgroup("web1", "memory.max") == str(96 << 20)

    def pause_and_resume(self):
        self.node.job("POST", "/v1/ves/web1/pause")
        assert self.node.state("web1") == "paused" and self.cgroup("web1", "cgroup.freeze") == "1"
        self.node.job("POST", "/v1/ves/web1/resume")
        assert self.node.sh("web1", "echo on") == "on\n"

    def push_and_pull(self):
        source, back = self.node.root + "-in", self.node.root + "-out"
        try:
            with open(source, "wb") as file:
                file.write(os.urandom(100000))
            self.node.terem("push", "web1", source, "/root/file")
            assert self.node.sh("web1", "stat -c %u:%s /root/file") == "0:100000\n"
            self.node.terem("pull", "web1", "/root/file", back)
            with open(source, "rb") as one, open(back, "rb") as two:
                assert one.read() == two.read()
        finally:
            for path in (source, back):
                if os.path.exists(path):
                    os.unlink(path)

    def recovery(self):
        """kill -9 of teremd: what runs goes on, what ends meanwhile is found out."""
        self.node.ve("brief", kind="app", command=["/bin/sh", "-c", "sleep 100; exit 3"])
        pid = self.node.show("web1")["pid"]
        brief = self.node.show("brief")["pid"]
        self.node.kill()
        os.kill(brief, 9)
        wait_for(lambda: not os.path.exists(f"/proc/{brief}"))
        self.node.start()
        assert self.node.show("web1")["pid"] == pid and self.node.state("web1") == "running"
        self.node.wait_state("brief", "stopped")
        print(f"# last exit of brief: {self.node.show('brief')['last_exit']}")
        assert self.node.sh("web1", "echo on") == "on\n"

    def exit_is_told(self):
        """Without a crash the status is known on every kernel."""
        self.node.ve("seven", kind="app", command=["/bin/sh", "-c", "exit 7"])
        self.node.wait_state("seven", "stopped")
        last = self.node.show("seven")["last_exit"]
        assert last["how"] == "exited" and last["status"] == 7, last

    def machine_runs_out(self):
        """Of what the kernel bounds for all of it: each failure names that and what raises it, and who runs goes on."""
        names = ["late1", "late2"]
        for name in names:
            self.node.ve(name, start=False)
        pid = self.node.show("web1")["pid"]
        for path, said in (("kernel/pty/max", "raise the VE's ptys, or the sysctl kernel.pty.max"),
                           ("user/max_net_namespaces", "raise the sysctl user.max_net_namespaces")):
            before = read(f"/proc/sys/{path}")
            write(f"/proc/sys/{path}", "0")
            try:
                job = self.node.job("POST", "/v1/bulk", {"verb": "start", "ves": names}, timeout=2 * PATIENCE)
                assert job["result"]["failed"] == len(names), job
                for item in job["result"]["items"]:
                    assert item["error"]["kind"] == "exhausted" and said in item["error"]["message"], item
                assert self.node.show("web1")["pid"] == pid and self.node.sh("web1", "echo on") == "on\n"
            finally:
                write(f"/proc/sys/{path}", before)
        job = self.node.job("POST", "/v1/bulk", {"verb": "start", "ves": names}, timeout=2 * PATIENCE)
        assert job["result"]["done"] == len(names), job
        for name in names:
            self.node.job("DELETE", f"/v1/ves/{name}?force=true")

    def stop_and_destroy(self):
        self.node.job("POST", "/v1/ves/web1/stop", {"timeout": PATIENCE}, timeout=2 * PATIENCE)
        assert self.node.state("web1") == "stopped"
        self.node.job("POST", "/v1/ves/web1/start")
        assert "file" in self.node.sh("web1", "ls /root")
        for name in ("web1", "brief", "seven"):
            self.node.job("DELETE", f"/v1/ves/{name}?force=true")
        wait_for(lambda: not self.node.cgroups() and not self.node.interfaces())

    def repair(self):
        """On kernels whose memory file systems have no attributes for the overlay, too."""
        self.node.ve("broken", start=False)
        self.node.job("POST", "/v1/ves/broken/start")
        self.node.sh("broken", "echo mine >/root/mine; rm -rf /etc/rc.d /sbin /bin/busybox", check=False)
        self.node.terem("kill", "broken")
        refused = self.node.terem("start", "broken", check=False)
        assert refused.returncode == 1 and "terem repair broken" in refused.stderr, refused.stderr
        self.node.terem("repair", "broken")
        assert self.node.state("broken") == "repair"
        self.node.sh("broken", "cp -a /template/sbin /template/bin/busybox /repair/tmp/ && "
                     "cp -a /template/sbin /repair/ && cp -a /template/bin/busybox /repair/bin/ && "
                     "mkdir /scratch && rm /etc/profile && mv /etc/hosts /scratch")
        self.node.terem("repair", "broken", "--done", timeout=2 * PATIENCE)
        assert self.node.sh("broken", "cat /root/mine") == "mine\n"
        self.node.job("DELETE", "/v1/ves/broken?force=true")

    def layers(self):
        """A template on another, its next revision, and a VE that moves to it."""
        body = {"name": "shop", "from": "busybox", "run": "echo 1 >/srv/v; rm /etc/nsswitch.conf; echo a >/srv/a"}
        self.node.job("POST", "/v1/templates", body, timeout=2 * PATIENCE)
        self.node.ve("one", template="shop", start=False)
        self.node.job("POST", "/v1/ves/one/start")
        assert self.node.sh("one", "cat /srv/v; ls /etc/nsswitch.conf 2>/dev/null; echo own >/srv/a",
                            check=False) == "1\n"
        self.node.job("DELETE", "/v1/templates/shop?force=true")
        body["run"] = "echo 2 >/srv/v; echo b >/srv/a"
        self.node.job("POST", "/v1/templates", body, timeout=2 * PATIENCE)
        job = self.node.job("POST", "/v1/ves/one/update", {"restart": True, "timeout": PATIENCE}, timeout=2 * PATIENCE)
        assert job["result"]["conflicts"] == [{"path": "/srv/a", "kind": "modified"}], job
        assert self.node.sh("one", "cat /srv/v /srv/a; ls /etc/nsswitch.conf") == \
            "2\nown\n/etc/nsswitch.conf\n"
        self.node.job("DELETE", "/v1/ves/one?force=true")

    @staticmethod
    def _check_file_system(node, name):
        works = name == "xfs" or KERNEL >= (6, 3)
        check = {c["name"]: c["ok"] for c in node.ok("GET", "/v1/doctor")["checks"]}
        assert check["idmapped mounts"] == works, (name, check)
        node.template()
        node.ok("POST", "/v1/ves", {"name": "web1", "template": "busybox"})
        started = node.api("POST", "/v1/ves/web1/start?wait=true")
        assert (started.status < 300) == works, (name, started)
        if works:
            node.sh("web1", "echo x >/root/x; rm /etc/passwd")
        else:
            assert "cannot shift ids" in started.json["error"]["message"], started

    def other_file_systems(self):
        """Where a VE's tree can lie: what shifts ids, and says so where it cannot."""
        for name in ("xfs", "tmpfs"):
            at, disk = f"/data/{name}", f"/data/{name}.disk"
            os.makedirs(at)
            if name == "tmpfs":
                sh(f"mount -t tmpfs tmpfs {at}")
            else:
                sh(f"truncate -s 400M {disk} && mkfs.xfs -q {disk} && mount -o loop {disk} {at}")
            os.mkdir(f"{at}/node")  # the node's settings for tests go there: a pool in a directory
            node = Node("/data/terem", root=f"{at}/node")
            try:
                node.start()
                self._check_file_system(node, name)
            finally:
                left = node.close()
            assert not left, left
            sh(f"umount {at} && rmdir {at} && rm -f {disk}")

    def node_stop(self):
        self.node.ve("last")
        left = self.node.close()
        assert not left, left


run(Smoke)
