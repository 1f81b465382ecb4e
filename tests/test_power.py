# SPDX-License-Identifier: GPL-2.0-or-later
"""Power cuts at random instants while a node works: registry and pools agree afterwards, nothing is
half there, and what a client was told as done is.

TEREM_POWER=SECONDS repeats each for so long, with another seed each time; TEREM_SEED=N begins with
that one.
"""
import contextlib
import copy
import os
import random
import threading
import time

import pytest

import cuts
from node import PATIENCE, Node, wait_for
from test_snapshots import rows

SECONDS = float(os.environ.get("TEREM_POWER", "0"))
CUTS = 4
FILES = 5  # each says the same
ANY = "any"


class Client(threading.Thread):
    """One who works with VEs of its own, and notes what it asks for and what it was told."""

    def __init__(self, node, name, seed, pools):
        super().__init__(daemon=True)
        self.node, self.name, self.dice, self.pools = node, name, random.Random(seed), pools
        self.now = {}  # what is there: (kind, name) → what it is
        self.told = [("", self.now)]  # (what was asked for or done, what is there then)
        self.number, self.halt, self.failure = 0, threading.Event(), None

    def run(self):
        try:
            while not self.halt.is_set():
                self.step()
        except BaseException as cause:  # pylint: disable=broad-exception-caught
            self.failure = cause

    def step(self):
        ves = [name for kind, name in self.now if kind == "ve"]
        verbs = [self.create] if len(ves) < 3 else []
        if ves:
            verbs += [self.write, self.write, self.snapshot, self.snapshot, self.delete, self.rollback,
                      self.backup, self.move, self.change, self.destroy]
            verbs += [self.clone, self.restore] if len(ves) < 5 else []
        verbs += [self.build, self.unbuild]
        verb = self.dice.choice(verbs)
        verb(*([self.dice.choice(ves)] if ves and verb not in (self.create, self.build, self.unbuild) else []))

    def fresh(self, kind):
        self.number += 1
        return f"{kind}{self.name}{self.number}"

    def begin(self, what, then):
        self.told.append((what, then))

    def done(self, what, then):
        self.now = then
        self.told.append((f"done: {what}", then))

    def with_(self, key, **changes):
        then = copy.deepcopy(self.now)
        then.setdefault(key, {}).update(changes)
        return then

    def without(self, key):
        return {k: v for k, v in self.now.items() if k != key}

    def asked(self, what, then, ask):
        self.begin(what, then)
        ask()
        self.done(what, then)

    # ---- what may be asked for ----
    def create(self):
        name, template = self.fresh("v"), self.dice.choice(
            ["busybox"] + [name for kind, name in self.now if kind == "template"])
        pool = self.dice.choice(self.pools)
        then = self.with_(("ve", name), pool=pool, text=None, snaps={}, current=None, template=template, limit=None)
        self.asked(f"create {name} of {template} in {pool}", then, lambda: self.node.ok(
            "POST", "/v1/ves", {"name": name, "template": template, "pool": pool}))
        if self.dice.random() < 0.8:
            self.node.job("POST", f"/v1/ves/{name}/start")

    def up(self, name):
        if self.node.state(name) != "running":
            self.node.job("POST", f"/v1/ves/{name}/start")

    def write(self, name):
        self.up(name)
        text = self.fresh("t")
        self.begin(f"write {text} in {name}", self.with_(("ve", name), text=ANY))
        self.node.sh(name, f"mkdir -p /root/d && cd /root/d && for i in $(seq {FILES}); do echo {text} >$i; done && sync")
        self.done(f"write {text} in {name}", self.with_(("ve", name), text=text))

    def snapshot(self, name):
        ve, snap = self.now["ve", name], self.fresh("s")
        then = self.with_(("ve", name), snaps={**ve["snaps"], snap: (ve["text"], ve["current"])}, current=snap)
        self.asked(f"snapshot {snap} of {name}", then, lambda: self.node.job(
            "POST", f"/v1/ves/{name}/snapshots", {"name": snap}))

    def delete(self, name):
        ve = self.now["ve", name]
        if not ve["snaps"]:
            return
        snap = self.dice.choice(list(ve["snaps"]))
        above = ve["snaps"][snap][1]
        snaps = {n: (text, above if parent == snap else parent) for n, (text, parent) in ve["snaps"].items() if n != snap}
        then = self.with_(("ve", name), snaps=snaps, current=above if ve["current"] == snap else ve["current"])
        self.asked(f"delete {snap} of {name}", then, lambda: self.node.ok(
            "DELETE", f"/v1/ves/{name}/snapshots/{snap}"))

    def rollback(self, name):
        ve = self.now["ve", name]
        if not ve["snaps"]:
            return
        snap = self.dice.choice(list(ve["snaps"]))
        then = self.with_(("ve", name), text=ve["snaps"][snap][0], current=snap)
        self.asked(f"rollback of {name} to {snap}", then, lambda: self.node.job(
            "POST", f"/v1/ves/{name}/rollback", {"snapshot": snap, "restart": True, "timeout": 0}))

    def clone(self, name):
        new = self.fresh("v")
        then = self.with_(("ve", new), **{**self.now["ve", name], "snaps": {}, "current": None})
        self.asked(f"clone of {name} as {new}", then, lambda: self.node.job(
            "POST", f"/v1/ves/{name}/clone", {"name": new, "start": self.dice.random() < 0.5}))

    def backup(self, name):
        path = os.path.join(self.node.root, self.fresh("b"))
        ve = self.now["ve", name]
        self.asked(f"backup of {name} as {path}", self.with_(("backup", path), **{**ve, "snaps": {}, "current": None}),
                   lambda: self.node.terem("backup", name, path))
        old = [path for kind, path in self.now if kind == "backup"]
        if len(old) > 3:
            self.done("forget a backup", self.without(("backup", old[0])))
            os.unlink(old[0])

    def restore(self, _):
        files = [path for kind, path in self.now if kind == "backup"
                 and self.now["backup", path]["template"] == "busybox"]
        if not files:
            return
        path, new, pool = self.dice.choice(files), self.fresh("v"), self.dice.choice(self.pools)
        then = self.with_(("ve", new), **{**self.now["backup", path], "pool": pool})
        self.asked(f"restore of {path} as {new} in {pool}", then, lambda: self.node.terem(
            "restore", path, new, "--pool", pool))

    def move(self, name):
        pool = next(p for p in self.pools if p != self.now["ve", name]["pool"])
        self.asked(f"move of {name} to {pool}", self.with_(("ve", name), pool=pool), lambda: self.node.job(
            "POST", f"/v1/ves/{name}/move", {"pool": pool, "restart": True, "timeout": 0}))

    def change(self, name):
        limit = f"{self.dice.randrange(64, 128)}M"
        self.asked(f"limit of {name}: {limit}", self.with_(("ve", name), limit=limit), lambda: self.node.terem(
            "set", name, f"memory.limit={limit}"))

    def destroy(self, name):
        self.asked(f"destroy {name}", self.without(("ve", name)), lambda: self.node.job(
            "DELETE", f"/v1/ves/{name}?force=true"))

    def build(self):
        name = self.fresh("l")
        if len([k for k in self.now if k[0] == "template"]) < 2:
            self.asked(f"build {name}", self.with_(("template", name)), lambda: self.node.job(
                "POST", "/v1/templates", {"name": name, "from": "busybox", "run": f"echo {name} >/etc/built"}))

    def unbuild(self):
        used = [ve["template"] for (kind, _), ve in self.now.items() if kind == "ve"]
        for kind, name in self.now:
            if kind == "template" and name not in used:
                self.asked(f"remove {name}", self.without(("template", name)), lambda: self.node.job(
                    "DELETE", f"/v1/templates/{name}"))
                return


class Cut:
    """What may be there after a cut: what was true before it, and what was asked for until its end."""

    def __init__(self, disk, clients, name):
        self.name, self.clients = name, clients
        before = [len(c.told) for c in clients]
        disk.cut(name)
        self.story = []
        for client, n in zip(clients, before):
            told = list(client.told)
            first = max(i for i in range(n) if i == 0 or told[i][0].startswith("done"))
            self.story.append(told[first:])

    def may_be(self, key):
        """Every value that it may have; None: not there."""
        return [then.get(key) for told in self.story if any(key in then for _, then in told) for _, then in told]

    def keys(self, kind):
        return sorted({name for told in self.story for _, then in told for k, name in then if k == kind})

    def words(self):
        return [[what for what, _ in told] for told in self.story]


def text_of(tree):
    """What all files of a tree say, or that they do not agree."""
    said = set()
    for i in range(1, FILES + 1):
        try:
            with open(os.path.join(tree, f"upper/root/d/{i}"), encoding="ascii") as file:
                said.add(file.read().strip())
        except FileNotFoundError:
            said.add(None)
    return said.pop() if len(said) == 1 else f"mixed: {said}"


def seen(node, ve):
    pool = node.pool(ve["pool"])
    snaps = node.ok("GET", f"/v1/ves/{ve['name']}/snapshots")
    assert not [s for s in snaps if s["damaged"]], (snaps, node.words())
    current = [s["name"] for s in snaps if s["current"]]
    return {"pool": ve["pool"], "text": text_of(os.path.join(pool, str(ve["id"]))),
            "snaps": {s["name"]: (text_of(os.path.join(pool, ".saved", str(s["id"]))), s["parent"]) for s in snaps},
            "current": current[0] if current else None, "template": ve["template"],
            "limit": ve["params"].get("memory.limit")}


def fits(have, want):
    return want is not None and all(want[key] == ANY or have[key] == want[key] for key in want)


def settle(node):
    wait_for(lambda: not node.ok("GET", "/v1/jobs"))


def agree(node):
    """Registry and pools."""
    ves, saved = node.ok("GET", "/v1/ves"), {number for number, _ in rows(node)}
    found = set()
    for pool in node.ok("GET", "/v1/pools"):
        assert pool["state"] == "open", pool
        trees = {int(name) for name in os.listdir(pool["path"]) if name.isdigit()}
        assert trees == {ve["id"] for ve in ves if ve["pool"] == pool["name"]}, (pool["name"], trees, node.words())
        found |= {int(name) for name in os.listdir(os.path.join(pool["path"], ".saved"))}
        trash, deadline = os.path.join(pool["path"], ".trash"), time.monotonic() + 180
        while os.listdir(trash):
            assert time.monotonic() < deadline, (pool["name"], os.listdir(trash), node.processes(), node.words())
            time.sleep(0.05)
    assert found == saved, (found, saved, node.words())


def look(node, cut):
    settle(node)
    agree(node)
    ves = {ve["name"]: ve for ve in node.ok("GET", "/v1/ves")}
    assert set(ves) <= set(cut.keys("ve")), (set(ves) - set(cut.keys("ve")))
    for name in cut.keys("ve"):
        may_be = cut.may_be(("ve", name))
        if name not in ves:
            assert None in may_be, f"{name} is lost"
            continue
        # One runs when its rollback with a restart was done again.
        assert ves[name]["state"] in ("stopped", "running"), (ves[name], node.words())
        have = seen(node, node.show(name))
        assert any(fits(have, want) for want in may_be), f"{name} is {have}, and may be {may_be}"
        if ves[name]["state"] == "stopped":
            node.job("POST", f"/v1/ves/{name}/start")
        assert node.sh(name, "cat /root/d/1 2>/dev/null || true").strip() == (have["text"] or "") or \
            have["text"].startswith("mixed")
    templates = [t["name"] for t in node.ok("GET", "/v1/templates")]
    for name in cut.keys("template"):
        assert name in templates or None in cut.may_be(("template", name)), f"template {name} is lost"
    for name in sorted(set(templates) - {"busybox"}):
        assert name in cut.keys("template")
        node.ve(f"of-{name}", template=name)
        assert node.sh(f"of-{name}", "cat /etc/built") == f"{name}\n"
    for path in cut.keys("backup"):
        if None not in cut.may_be(("backup", path)):
            node.terem("backup", "verify", path)


def go_on(node, cut, pools):
    """And nothing is left in the end."""
    for pool in pools:
        node.ve(f"new-{pool}", pool=pool)
        node.job("POST", f"/v1/ves/new-{pool}/snapshots", {"name": "one"})
    agree(node)
    node.terem("destroy", "--all", "--force")
    for name in sorted((t["name"] for t in node.ok("GET", "/v1/templates")), key=lambda name: name == "busybox"):
        node.job("DELETE", f"/v1/templates/{name}")
    agree(node)
    for kind in ("layers", "tmp"):
        at = os.path.join(node.root, "lib", kind)
        wait_for(lambda at=at: not os.listdir(at))


@contextlib.contextmanager
def serving(build, root, pools):
    """A node with these pools."""
    with open(os.path.join(root, "terem.conf"), "w", encoding="ascii") as file:
        file.write(f"pool.driver = {pools['default']}\npool.size = 384M\n")
    with Node(build, root=root) as node:
        node.template()
        for name, driver in pools.items():
            if name != "default":
                more = {} if driver == "dir" else {"size": "384M"}
                node.job("POST", "/v1/pools", {"name": name, "driver": driver, **more})
        yield node


def work(disk, build, seed, pools):
    with disk.mounted() as root:
        dice, cut = random.Random(seed), []
        with serving(build, root, pools) as node:
            clients = [Client(node, name, seed * 10 + i, list(pools)) for i, name in enumerate("ab")]
            for client in clients:
                client.start()
            try:
                time.sleep(1.5)
                for i in range(CUTS):
                    time.sleep(dice.uniform(0.1, 1))
                    cut.append(Cut(disk, clients, f"cut{i}"))
            finally:
                for client in clients:
                    client.halt.set()
                for client in clients:
                    client.join(PATIENCE)
            for client in clients:
                assert not client.is_alive(), "a client hangs"
                if client.failure:
                    raise client.failure
            print(f"# {sum(len(c.told) for c in clients) // 2} operations")
            node.terem("destroy", "--all", "--force")
        return cut


@pytest.mark.parametrize("first,other", [("dir", "dir"), ("btrfs", "dir"), ("dir", "xfs")])
def test_power_cuts(build, first, other):
    seed = int(os.environ.get("TEREM_SEED", time.time_ns() % 1000000))
    pools = {"default": first, "other": other}
    until = time.monotonic() + SECONDS
    while True:
        print(f"TEREM_SEED={seed}")
        with cuts.Disk() as disk:
            for cut in work(disk, build, seed, pools):
                with disk.mounted(cut.name) as root:
                    cuts.booted(root)
                    try:
                        with Node(build, root=root) as node:
                            look(node, cut)
                            go_on(node, cut, list(pools))
                    except BaseException:
                        print(f"{cut.name}: {cut.words()}")
                        raise
                disk.drop(cut.name)
        seed += 1
        if time.monotonic() > until:
            break


def touch(node, what):
    """A new VE, used in one way."""
    node.ve("web1", start=what not in ("created", "pushed"))
    if what == "pushed":
        node.terem("push", "web1", "-", "/root/x", input="mine")
    if what == "stopped":
        node.sh("web1", "echo mine >/root/x")
        node.job("POST", "/v1/ves/web1/stop")


@pytest.mark.parametrize("what", ["created", "started", "pushed", "stopped"])
@pytest.mark.parametrize("driver", ["dir", "btrfs", "xfs"])
def test_a_new_ve(build, driver, what):
    """Its row is on the disk, its tree need not be: it was just made, and is not lost.  What was pushed, and
    what was written by one that stopped, is there."""
    with cuts.Disk() as disk:
        with disk.mounted() as root, serving(build, root, {"default": driver}) as node:
            touch(node, what)
            disk.cut("cut")
        with disk.mounted("cut") as root:
            cuts.booted(root)
            with Node(build, root=root) as node:
                settle(node)
                agree(node)
                assert node.state("web1") == "stopped", (node.show("web1"), node.words())
                node.job("POST", "/v1/ves/web1/start")
                node.run("web1", "/bin/true")
                if what in ("pushed", "stopped"):
                    assert node.sh("web1", "cat /root/x").strip() == "mine"


def test_while_it_is_asked(build):
    """What one VE was asked for is on the disk before it hears of it."""
    with cuts.Disk() as disk:
        with disk.mounted() as root, serving(build, root, {"default": "dir"}) as node:
            node.trapping("deaf", "trap '' TERM")
            settle(node)
            stop = node.ok("POST", "/v1/ves/deaf/stop", {"timeout": 1000})
            disk.cut("cut")
            node.terem("kill", "deaf")
        with disk.mounted("cut") as root:
            cuts.booted(root)
            with Node(build, root=root) as node:
                settle(node)
                job = node.ok("GET", f"/v1/jobs/{stop['id']}")
                assert (job["kind"], job["state"]) == ("stop", "failed"), job
                assert node.state("deaf") == "stopped"
