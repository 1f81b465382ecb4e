# SPDX-License-Identifier: GPL-2.0-or-later
"""An instance of Terem of its own: its daemon, its command line, its API, and its end.

    with Node(build) as node:
        node.terem("create", "web1", "--template", "busybox", "--start")
        node.api("GET", "/v1/ves").json

close() stops everything and returns what was left behind, line by line; nothing is the promise.
"""
import glob
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time


ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
       "HOME": "/root", **{k: v for k, v in os.environ.items() if k.endswith(("_proxy", "_PROXY"))
                           or k.endswith("SAN_OPTIONS")}}


class UnixConnection(http.client.HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, path, timeout=60):
        super().__init__("terem", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self.path)
        except BaseException:
            self.sock.close()
            raise


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The error's kind, or None."""
        return self.json["error"]["kind"] if self.status >= 400 else None

    def __repr__(self):
        return f"<{self.status} {self.body[:400]!r}>"


class Node:
    def __init__(self, build, root=None, daemon_args=(), wrapper=()):
        self.build = os.path.abspath(build)
        self.own_root = root is None
        # Short: the sockets' paths must fit in 107 bytes.
        self.root = root or tempfile.mkdtemp(prefix="terem-", dir="/tmp")
        self.cli = os.path.join(self.build, "src/programs/terem/terem")
        self.program = os.path.join(self.build, "src/programs/teremd/teremd")
        self.socket = os.path.join(self.root, "run/teremd.sock")
        # Outside of the root: some tests make it full or read-only.
        self.log = self.root.rstrip("/") + ".log"
        self.daemon_args, self.wrapper = list(daemon_args), list(wrapper)
        self.daemon = None
        self.instance = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *unused):
        left = self.close()
        assert not left, left

    # ---- the daemon ----
    def spawn(self):
        with open(self.log, "ab") as log:
            self.daemon = subprocess.Popen(
                [*self.wrapper, self.program, "--root", self.root, *self.daemon_args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=ENV)
        return self.daemon

    def start(self, timeout=20):
        self.spawn()
        self.wait_answer(timeout)
        if self.instance is None:
            self.instance = self.api("GET", "/v1").json["instance"]
        return self

    def wait_answer(self, timeout=20):
        deadline = time.monotonic() + timeout
        while True:
            try:
                if self.api("GET", "/v1").status == 200:
                    return
            except OSError:
                pass
            if self.daemon and self.daemon.poll() is not None:
                raise AssertionError(f"teremd ended with {self.daemon.returncode}: {self.words()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"teremd does not answer: {self.words()}")
            time.sleep(0.01)

    def words(self, size=3000):
        """The last words of the daemon."""
        try:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                return log.read()[-size:]
        except OSError as cause:
            return str(cause)

    def kill(self):
        """kill -9 of teremd alone."""
        self.daemon.kill()
        self.daemon.wait()

    def term(self, timeout=20):
        self.daemon.terminate()
        return self.daemon.wait(timeout)

    def alive(self):
        return self.daemon is not None and self.daemon.poll() is None

    # ---- clients ----
    def terem(self, *args, check=True, timeout=120, **more):
        """Runs the command line; returns the finished process (text)."""
        done = subprocess.run([self.cli, "--root", self.root, *args], env={**ENV, **more.pop("env", {})},
                              stdin=more.pop("stdin", None if "input" in more else subprocess.DEVNULL),
                              capture_output=True, text=more.pop("text", True), timeout=timeout,
                              check=False, **more)
        if check and done.returncode != 0:
            raise AssertionError(f"terem {' '.join(map(str, args))}: exit {done.returncode}: "
                                 f"{done.stderr.strip()} {done.stdout.strip()}\n{self.words(1500)}")
        return done

    def json(self, *args):
        return json.loads(self.terem(*args, "--json").stdout)

    def connection(self, timeout=60):
        return UnixConnection(self.socket, timeout)

    def api(self, method, path, body=None, headers=None, timeout=60, connection=None):
        http_ = connection or self.connection(timeout)
        try:
            if body is not None and not isinstance(body, (bytes, str)):
                body = json.dumps(body)
                headers = {"Content-Type": "application/json", **(headers or {})}
            http_.request(method, path, body=body, headers=headers or {})
            answer = http_.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            if connection is None:
                http_.close()

    def ok(self, method, path, body=None, **more):
        answer = self.api(method, path, body, **more)
        assert answer.status < 300, f"{method} {path}: {answer}\n{self.words(1500)}"
        return answer.json if answer.body else None

    def job(self, method, path, body=None, **more):
        """A request that begins a job, and its end."""
        return self.ok(method, path + ("&" if "?" in path else "?") + "wait=true", body, **more)

    # ---- what tests say often ----
    def template(self, name="busybox"):
        if self.api("GET", f"/v1/templates/{name}").status == 404:
            self.job("POST", "/v1/templates", {"name": name, "build": name}, timeout=600)

    def ve(self, name, start=True, template="busybox", **spec):
        self.template(template)
        self.ok("POST", "/v1/ves", {"name": name, "template": template, **spec})
        if start:
            self.job("POST", f"/v1/ves/{name}/start")
        return self.show(name)

    def show(self, name):
        return self.ok("GET", f"/v1/ves/{name}")

    def state(self, name):
        return self.show(name)["state"]

    def wait_state(self, name, state, timeout=20):
        deadline = time.monotonic() + timeout
        while (now := self.state(name)) != state:
            assert time.monotonic() < deadline, f"{name} is {now}, not {state}: {self.words(1500)}"
            time.sleep(0.02)

    def run(self, name, *command, check=True, timeout=60, **request):
        """Runs a command inside through the API; returns {"exit","signal","stdout","stderr"}."""
        result = self.ok("POST", f"/v1/ves/{name}/exec", {"command": list(command), **request},
                         timeout=timeout)
        if check:
            assert result["exit"] == 0, f"{command} in {name}: {result}"
        return result

    def sh(self, name, script, check=True, **request):
        return self.run(name, "/bin/sh", "-c", script, check=check, **request)["stdout"]

    # ---- what there is of this instance on the machine ----
    @property
    def number(self):
        return str(self.instance) if self.instance else "0"

    @property
    def cgroup_name(self):
        return f"terem-{self.instance}" if self.instance else "terem"

    def cgroups(self):
        tops = glob.glob("/sys/fs/cgroup/" + self.cgroup_name) + \
            glob.glob("/sys/fs/cgroup/*/" + self.cgroup_name)
        return [os.path.join(top, name) for top in tops for name in os.listdir(top)
                if os.path.isdir(os.path.join(top, name))]

    def interfaces(self):
        return [name for name in os.listdir("/sys/class/net")
                if name.startswith(f"terem{self.number}-")]

    def processes(self):
        """Processes of the instance: in its cgroups, or programs started for its root."""
        mine = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().decode("utf-8", "replace").split("\0")
                with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
                    cgroup = file.read()
                with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                    state = file.read().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state == "Z" or int(pid) == os.getpid():
                continue
            if f":/{self.cgroup_name}/" in cgroup or f":/{self.cgroup_name}\n" in cgroup or \
                    (re.search("terem|lxcfs", words[0]) and
                     any(word == self.root or word.startswith(self.root + "/") for word in words)):
                mine.append((int(pid), " ".join(words).strip()))
        return mine

    def mounts(self):
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            return [line.split()[4] for line in file if line.split()[4].startswith(self.root + "/")]

    def odd_mounts(self):
        """Those that are not the node's own."""
        return [at for at in self.mounts() if os.path.basename(at) not in ("lxcfs", "counters", "bpf")]

    def tables(self):
        done = subprocess.run(["/usr/sbin/nft", "list", "tables"], capture_output=True, text=True,
                              check=False) if os.path.exists("/usr/sbin/nft") else None
        return [line for line in (done.stdout.splitlines() if done else [])
                if line.split()[-1] == f"terem_{self.number}"]

    def taken_over(self):
        """Has another instance claimed our number since we gave it back?"""
        try:
            return os.readlink(f"/run/terem-instances/{self.number}") != self.root
        except OSError:
            return False

    def left(self):
        """What is on the machine although the node has stopped."""
        mounts, others = [f"mount {at}" for at in self.mounts()], self.taken_over()
        found = mounts + [f"process {pid}: {command}" for pid, command in self.processes()]
        found += [f"cgroup {path}" for path in glob.glob("/sys/fs/cgroup/" + self.cgroup_name) +
                  glob.glob("/sys/fs/cgroup/*/" + self.cgroup_name)]
        found += [f"interface {name}" for name in self.interfaces()]
        found += [f"interface {name}" for name in os.listdir("/sys/class/net")
                  if name == f"terem{self.number}"]
        found += [f"nft {line}" for line in self.tables()]
        # Our number may have been given to another instance meanwhile, and taken back.
        return mounts if others or self.taken_over() else found

    # ---- the end ----
    def close(self):
        left = []
        try:
            if self.instance is not None or os.path.exists(os.path.join(self.root, "lib/registry.db")):
                if not self.alive():
                    self.start()
                self.api("POST", "/v1/node/stop", {"force": True}, timeout=60)
                status = self.daemon.wait(60)
                if status != 0:  # also what a sanitizer found
                    left.append(f"teremd ended with {status}: {self.words()}")
        except (AssertionError, OSError, http.client.HTTPException,
                subprocess.TimeoutExpired) as cause:
            left.append(f"the node did not stop: {cause}")
        if self.alive():
            self.daemon.kill()
            self.daemon.wait()
        if self.instance is not None:
            for _ in range(100):  # namespaces and cgroups go in the background
                now = self.left()
                if not now:
                    break
                time.sleep(0.05)
            left += now
            if left:
                left.append(f"teremd said: {self.words(2000)}")
            if left:
                self.force()
        if self.own_root:
            shutil.rmtree(self.root, ignore_errors=True)
        if os.path.exists(self.log):
            os.unlink(self.log)
        if self.own_root:
            if os.path.exists(self.root):
                left.append(f"directory {self.root}")
        self.instance = None
        return left

    def force(self):
        """Takes away what a failed test left, so that the next one starts on clean ground."""
        for at in reversed(self.mounts()):
            subprocess.run(["umount", "-l", at], check=False, capture_output=True)
        if self.taken_over():
            return
        for pid, _ in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for name in self.interfaces() + [f"terem{self.number}"]:
            if os.path.exists(f"/sys/class/net/{name}"):
                subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
        for line in self.tables():
            subprocess.run(["nft", "delete", *line.split()], check=False, capture_output=True)
        for _ in range(50):
            tops = glob.glob("/sys/fs/cgroup/" + self.cgroup_name) + \
                glob.glob("/sys/fs/cgroup/*/" + self.cgroup_name)
            for top in tops:
                for folder, _, _ in os.walk(top, topdown=False):
                    try:
                        os.rmdir(folder)
                    except OSError:
                        pass
            if not tops:
                break
            time.sleep(0.02)


