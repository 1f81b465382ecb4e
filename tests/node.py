# SPDX-License-Identifier: GPL-2.0-or-later
"""An instance of Terem of its own: its daemon, its command line, its API, and its end.

    with Node(build) as node:
        node.terem("create", "web1", "--template", "busybox", "--start")
        node.api("GET", "/v1/ves").json

close() stops everything and returns what was left behind, line by line; nothing is the promise.
"""
import contextlib
import glob
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time


ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
       "HOME": "/root", **{k: v for k, v in os.environ.items() if k.endswith(("_proxy", "_PROXY"))
                           or k.endswith("SAN_OPTIONS")}}


PATIENCE = 120  # seconds until a state is given up: in QEMU compute is 30 to 90 times slower


def wait_for(true, told=lambda: "it did not happen", timeout=PATIENCE):
    """What true() tells as soon as it is something; told() says how far it came."""
    deadline = time.monotonic() + timeout
    while not (value := true()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)
    return value


def at_rest(look):
    """What look() tells as soon as it tells the same for a second and a half: what a start leaves to be done
    is done then."""
    now = look()
    for _ in range(40):
        before = now
        time.sleep(1.5)
        now = look()
        if now == before:
            return now
    raise AssertionError(f"it does not come to rest: {before}, {now}")


def fetch(address, port, asked=b""):
    """What a server says to the end of the connection, as soon as there is one; None: it does not answer."""
    def once():
        try:
            with socket.create_connection((address, port), 5) as line:
                line.sendall(asked)
                said = b""
                while part := line.recv(4096):
                    said += part
                return said
        except OSError:
            return None
    return wait_for(once, lambda: f"{address}:{port} does not answer")


def together(*works):
    """Runs functions at once, each in a tuple with its arguments; what one of them raises is raised."""
    raised = []

    def one(function, *words):
        try:
            function(*words)
        except BaseException as cause:  # pylint: disable=broad-exception-caught
            raised.append(cause)

    threads = [threading.Thread(target=one, args=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def memory(pid, what="Pss"):
    """In KB.  Of its Pss others that end leave it more, and its own workers have a part while they live."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return int(next(line.split()[1] for line in file if line.startswith(what + ":")))


def dice():
    """Chance whose seed a failure shows; TEREM_SEED throws the same again."""
    seed = int(os.environ.get("TEREM_SEED", time.time_ns() % 100000))
    print(f"TEREM_SEED={seed}")
    return random.Random(seed)


@contextlib.contextmanager
def traced(node, log, *words):
    """Within the block strace, told these words, writes down what teremd calls."""
    def begun():
        """It is traced, or was killed by what it called already, by itself."""
        with open(f"/proc/{node.daemon.pid}/status", encoding="ascii") as file:
            status = file.read()
        return "TracerPid:\t0" not in status or "State:\tZ" in status
    with subprocess.Popen(["strace", "-qq", "-o", log, "-p", str(node.daemon.pid), *words],
                          stderr=subprocess.DEVNULL) as tracer:
        try:
            wait_for(begun)
            yield
        finally:
            tracer.terminate()


@contextlib.contextmanager
def killed_at(node, calls, count):
    """Within the block teremd is killed at its count-th system call of these."""
    with traced(node, os.devnull, "-e", f"trace={calls}", "-e", f"inject={calls}:signal=KILL:when={count}"):
        yield
    node.daemon.poll()


# Most tests look into the pool's directories; TEREM_TEST_POOL=auto runs them as an instance of its own
# choice would be.
SETTINGS = {"pool.size": "2G", "pool.driver": os.environ.get("TEREM_TEST_POOL", "dir")}


class UnixConnection(http.client.HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, path, timeout=PATIENCE):
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
    def __init__(self, build, root=None, daemon_args=(), wrapper=(), **settings):
        """settings: of its terem.conf, each with _ for the dot."""
        self.settings = {**SETTINGS, **{key.replace("_", "."): value for key, value in settings.items()}}
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
        try:
            return self.start()
        except BaseException:
            print("\n".join(self.close()))
            raise

    def __exit__(self, *unused):
        left = self.close()
        assert not left, "left behind:\n" + "\n".join(left)

    # ---- the daemon ----
    def settle(self):
        """Writes those settings that its file does not have."""
        conf = os.path.join(self.root, "terem.conf")
        if self.daemon is not None or not os.path.isdir(self.root):
            return
        try:
            with open(conf, "a+", encoding="utf-8") as file:
                file.seek(0)
                there = file.read()
                file.writelines(f"{key} = {value}\n" for key, value in self.settings.items() if key not in there)
        except OSError:  # some tests give it a full or a read-only disk
            pass

    def setting(self, key, value):
        """Of its terem.conf, whatever stood there; counts from its next start on."""
        conf = os.path.join(self.root, "terem.conf")
        with open(conf, encoding="utf-8") as file:
            others = [line for line in file if line.partition("=")[0].strip() != key]
        with open(conf, "w", encoding="utf-8") as file:
            file.writelines([*others, f"{key} = {value}\n"])

    def spawn(self):
        self.settle()
        with open(self.log, "ab") as log:
            self.daemon = subprocess.Popen(
                [*self.wrapper, self.program, "--root", self.root, *self.daemon_args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=ENV)
        return self.daemon

    def start(self):
        self.spawn()
        self.wait_answer()
        if self.instance is None:
            self.instance = self.api("GET", "/v1").json["instance"]
        return self

    def wait_answer(self):
        def answers():
            with contextlib.suppress(OSError):
                if self.api("GET", "/v1").status == 200:
                    return True
            if self.daemon and self.daemon.poll() is not None:
                raise AssertionError(f"teremd ended with {self.daemon.returncode}: {self.words()}")
            return False
        wait_for(answers, lambda: f"teremd does not answer: {self.words()}")

    def spent(self):
        """Milliseconds of processor time so far, in all threads of teremd."""
        total = 0
        for path in glob.glob(f"/proc/{self.daemon.pid}/task/*/schedstat"):
            with open(path, encoding="ascii") as file:
                total += int(file.read().split()[0])
        return total / 1e6

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

    def term(self):
        self.daemon.terminate()
        return self.daemon.wait(PATIENCE)

    def alive(self):
        return self.daemon is not None and self.daemon.poll() is None

    # ---- clients ----
    def terem(self, *args, check=True, timeout=PATIENCE, **more):
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

    def connection(self, timeout=PATIENCE):
        return UnixConnection(self.socket, timeout)

    def api(self, method, path, body=None, headers=None, timeout=PATIENCE, connection=None):
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

    def trapping(self, name, trap, **spec):
        """An application that is a shell with this trap.  It has set it: what is told to end before that ends."""
        self.ve(name, kind="app", command=["/bin/sh", "-c", f"{trap}; echo set; while :; do sleep 0.1; done"], **spec)
        wait_for(lambda: b"set" in self.api("GET", f"/v1/ves/{name}/logs").body)
        return self.show(name)

    def show(self, name):
        return self.ok("GET", f"/v1/ves/{name}")

    def counter(self, name, key):
        """One row of what is counted of a VE."""
        return next(row for row in self.ok("GET", f"/v1/ves/{name}/counters") if row["key"] == key)

    def state(self, name):
        return self.show(name)["state"]

    def wait_state(self, name, state):
        wait_for(lambda: self.state(name) == state,
                 lambda: f"{name} is {self.state(name)}, not {state}: {self.words(1500)}")

    def settled(self, name):
        """What systemd inside says, and what failed, when it has started everything; before that it may be
        offline, or say nothing at all while its bus is not there."""
        def says():
            said.append(self.sh(name, "systemctl is-system-running --wait; "
                                      "systemctl --failed --plain --no-legend", check=False, timeout=180))
            return said[-1] not in ("", "offline\n")
        said = []
        wait_for(says)
        return said[-1]

    def pool(self, name="default"):
        """The directory of a pool: trees are below it, by the VEs' numbers."""
        return self.ok("GET", f"/v1/pools/{name}")["path"]

    def run(self, name, *command, check=True, timeout=PATIENCE, **request):
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

    def wait_no_interfaces(self):
        """A cable goes with its VE's network namespace, which the kernel takes down in the background,
        one after another, those of others too."""
        wait_for(lambda: not self.interfaces(), self.interfaces)

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
        """Those that are not the node's own: its three, and one for each pool in an image."""
        pools = os.path.join(self.root, "lib/pools")
        return [at for at in self.mounts() if os.path.basename(at) not in ("lxcfs", "counters", "bpf")
                and os.path.dirname(at) != pools]

    def loops(self):
        """Loop devices on files below the root."""
        found = []
        for name in glob.glob("/sys/block/loop*/loop/backing_file"):
            try:
                with open(name, encoding="utf-8", errors="replace") as file:
                    if file.read().startswith(self.root + "/"):
                        found.append("/dev/" + name.split("/")[3])
            except OSError:  # it has just gone
                pass
        return found

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
        mounts += [f"loop device {name}" for name in self.loops()]
        found = mounts + [f"process {pid}: {command}" for pid, command in self.processes()]
        found += [f"cgroup {path}" for path in glob.glob("/sys/fs/cgroup/" + self.cgroup_name) +
                  glob.glob("/sys/fs/cgroup/*/" + self.cgroup_name)]
        found += [f"interface {name}" for name in self.interfaces()]
        found += [f"interface {name}" for name in os.listdir("/sys/class/net")
                  if name == f"terem{self.number}" or name.startswith(f"terem{self.number}.")]
        found += [f"nft {line}" for line in self.tables()]
        # Our number may have been given to another instance meanwhile, and taken back.
        return mounts if others or self.taken_over() else found

    # ---- the end ----
    def claimed(self):
        """Our number, when teremd has never told it; None: it has none."""
        for path in glob.glob("/run/terem-instances/*"):
            if os.path.islink(path) and os.readlink(path) == self.root:
                return int(os.path.basename(path))
        return None

    def close(self):
        left = []
        self.instance = self.instance or self.claimed()
        try:
            if self.instance is not None or os.path.exists(os.path.join(self.root, "lib/registry.db")):
                if not self.alive():
                    self.start()
                self.api("POST", "/v1/node/stop", {"force": True})
                status = self.daemon.wait(PATIENCE)
                if status != 0:  # also what a sanitizer found
                    left.append(f"teremd ended with {status}: {self.words()}")
        except (AssertionError, OSError, http.client.HTTPException,
                subprocess.TimeoutExpired) as cause:
            left.append(f"the node did not stop: {cause}")
        if self.alive():
            self.daemon.kill()
            self.daemon.wait()
        if self.instance is not None:
            for turn in range(2400):  # namespaces and cgroups go in the background
                now = self.left()
                # A mount namespace that another program made meanwhile holds a pool's file system
                # until that program ends.
                if not now or (turn >= 100 and [one for one in now if not one.startswith("loop device")]):
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
        for name in self.loops():
            subprocess.run(["losetup", "-d", name], check=False, capture_output=True)
        if self.taken_over():
            return
        for pid, _ in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        own = [name for name in os.listdir("/sys/class/net") if name.startswith(f"terem{self.number}.")]
        for name in self.interfaces() + own + [f"terem{self.number}"]:
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


