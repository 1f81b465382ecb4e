# SPDX-License-Identifier: GPL-2.0-or-later
"""What people do to a node in a day, at random: a few workers, each with a connection of its own."""
import collections
import http.client
import random
import threading
import time

POOL, POOL6, NETWORK = "soak", "soak6", "back"

# What an operation may be told because another was quicker (a destroy by force cancels), or because the node was
# just killed.
REFUSALS = {"not-found", "exists", "state", "busy", "cancelled"}
KILLED = {"unavailable"}


class Unexpected(Exception):
    pass


class Churn:
    """Within the block workers are at work on the VEs names[…]; killing: seconds between two kill -9 of
    teremd, at random up to twice as long, or None."""

    def __init__(self, node, names, seed, workers=4, killing=None):
        self.node, self.names, self.killing = node, names, killing
        self.done, self.refused, self.failed = collections.Counter(), collections.Counter(), []
        self.kills, self.over = 0, threading.Event()
        self.up, self.lock = threading.Event(), threading.Lock()
        self.up.set()
        self.threads = [threading.Thread(target=self.work, args=(random.Random(f"{seed} {n}"),))
                        for n in range(workers)]
        if killing:
            self.threads.append(threading.Thread(target=self.kill, args=(random.Random(f"{seed} kill"),)))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *unused):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def go_on(self, seconds):
        """Until the time is over or something has failed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.failed:
            time.sleep(0.2)
        self.judge()

    def judge(self):
        if self.failed:
            raise Unexpected("; ".join(self.failed[:5]))

    # ---- one who kills teremd ----
    def kill(self, dice):
        while not self.over.wait(dice.uniform(0.2, 2) * self.killing):
            self.up.clear()
            self.node.kill()
            self.kills += 1
            try:
                self.node.start()
            except AssertionError as cause:
                self.failed.append(str(cause))
            self.up.set()

    # ---- those who work ----
    def work(self, dice):
        line = None
        while not self.over.is_set() and not self.failed:
            try:
                line = line or self.node.connection(120)
                self.one(dice, line)
            except (OSError, http.client.HTTPException, ValueError) as cause:
                if line:
                    line.close()
                line = None
                if not self.killing:
                    self.failed.append(f"the connection broke: {cause!r}")
                self.up.wait(60)
                self.over.wait(0.05)
        if line:
            line.close()

    def one(self, dice, line):
        what = dice.choices(list(VERBS), [weight for weight, _ in VERBS.values()])[0]
        before = self.kills
        name = dice.choice(self.names)
        for method, path, body in VERBS[what][1](name, dice, self.names):
            answer = self.node.api(method, path, body, connection=line)
            if answer.status < 300:
                continue
            error = answer.json["error"]
            if error["kind"] in REFUSALS or (error["kind"] in KILLED and self.killing and
                                             (self.kills != before or not self.up.is_set())):
                with self.lock:
                    self.refused[what] += 1
            else:
                self.failed.append(f"{what}: {method} {path} {body}: {error['kind']}: {error['message']}")
            return
        with self.lock:
            self.done[what] += 1


def spec(name, dice):
    """Half of them boot an init, half are one program."""
    body = {"name": name, "template": "busybox", "params": {"memory.limit": "64M", "processes": "40"}}
    if dice.random() < 0.5:
        body |= {"kind": "app", "command": ["/bin/sleep", "100000"]}
    return body


def wait(name, verb, body=None):
    return [("POST", f"/v1/ves/{name}/{verb}?wait=true", body or {})]


def create(name, dice, names):
    return [("POST", "/v1/ves", spec(name, dice))]


def create_and_start(name, dice, names):
    return create(name, dice, names) + wait(name, "start")


def execute(name, dice, names):
    script = dice.choice(["true", "ps | wc -l", "head -c 100000 /dev/zero | md5sum; exit 3",
                          "echo x > /root/x; sync", "i=0; while [ $i -lt 20 ]; do true & i=$((i+1)); done; wait"])
    return [("POST", f"/v1/ves/{name}/exec", {"command": ["/bin/sh", "-c", script]})]


def change(name, dice, names):
    body = dice.choice([{"params": {"processes": str(dice.randint(30, 90))}},
                        {"params": {"memory.limit": f"{dice.randint(48, 96)}M"}},
                        {"params": {"cpu.limit": str(dice.randint(10, 90)), "sockets.tcp": str(dice.randint(50, 500))}},
                        {"labels": {"round": str(dice.randint(0, 9))}}, {"autostart": dice.random() < 0.5}])
    return [("PATCH", f"/v1/ves/{name}", body)]


def snapshot(name, dice, names):
    return [("POST", f"/v1/ves/{name}/snapshots?wait=true", {"name": f"s{dice.randint(0, 2)}"})]


def drop_snapshot(name, dice, names):
    return [("DELETE", f"/v1/ves/{name}/snapshots/s{dice.randint(0, 2)}", None)]


def roll_back(name, dice, names):
    return wait(name, "rollback", {"snapshot": f"s{dice.randint(0, 2)}", "timeout": 1})


def clone(name, dice, names):
    return wait(name, "clone", {"name": dice.choice(names), "start": dice.random() < 0.3})


def destroy(name, dice, names):
    return [("DELETE", f"/v1/ves/{name}?force=true&wait=true", None)]


def add_address(name, dice, names):
    return [("POST", "/v1/network/addresses", {"ve": name, "pool": dice.choice([POOL, POOL6])})]


def take_address(name, dice, names):
    number = dice.randint(1, 60)
    address = f"100.127.0.{number}" if dice.random() < 0.5 else f"fd00:50a4::{number:x}"
    return [("PATCH", f"/v1/network/addresses/{address}", {"ve": None})]


def join(name, dice, names):
    return [("POST", f"/v1/network/private/{NETWORK}/members", {"ve": name})]


def leave(name, dice, names):
    return [("DELETE", f"/v1/network/private/{NETWORK}/members/{name}", None)]


def look(name, dice, names):
    return [("GET", dice.choice(["/v1/ves", "/v1/counters", "/v1/usage", "/metrics", f"/v1/ves/{name}",
                                 f"/v1/ves/{name}/logs", "/v1/jobs?all=true&limit=50", "/v1/pools"]), None)]


VERBS = {  # how often, and what it asks for
    "create": (6, create), "create and start": (10, create_and_start), "start": (14, lambda n, d, a: wait(n, "start")),
    "exec": (14, execute), "set": (12, change), "snapshot": (5, snapshot), "snapshot deleted": (4, drop_snapshot),
    "rollback": (2, roll_back), "clone": (4, clone), "stop": (6, lambda n, d, a: wait(n, "stop", {"timeout": 1})),
    "kill": (5, lambda n, d, a: wait(n, "kill")), "restart": (2, lambda n, d, a: wait(n, "restart", {"timeout": 1})),
    "pause": (2, lambda n, d, a: wait(n, "pause")), "resume": (2, lambda n, d, a: wait(n, "resume")),
    "destroy": (8, destroy), "address added": (6, add_address), "address taken": (6, take_address),
    "joined": (3, join), "left": (3, leave), "looked": (5, look),
}
