# SPDX-License-Identifier: GPL-2.0-or-later
"""Private networks: VEs of one owner reach each other and nobody else, whatever is started, left or
killed meanwhile; what is asked for wrongly is refused."""
import glob
import json
import os
import subprocess

import pytest

from far import enter
from node import killed_at, wait_for
from test_addresses import answering, ask, nobody, pid, refused

NET = 10 + os.getpid() % 200
RANGE, RANGE6 = f"172.23.{NET}", f"fd5e:{NET:x}:"


def inside(node, name, link):
    """Addresses of an interface as the VE's root sees them; None: there is no such one."""
    done = subprocess.run([*enter(pid(node, name)), "ip", "-o", "addr", "show", "dev", link], check=False,
                          capture_output=True, text=True)
    found = [line.split()[3] for line in done.stdout.splitlines()]
    return sorted(a for a in found if not a.startswith("fe80")) if done.returncode == 0 else None


def member(node, name, network="back"):
    return next((n for n in node.show(name)["networks"] if n["network"] == network), None)


def links(node):
    return sorted(name for name in os.listdir("/sys/class/net") if name.startswith(f"terem{node.number}.")
                  and name != f"terem{node.number}.in")


def rules(node):
    done = subprocess.run(["/usr/sbin/nft", "list", "table", "bridge", f"terem_{node.number}"], check=False,
                          capture_output=True, text=True)
    return done.stdout


def agree(node, *names):
    """The kernel and the registry tell the same of each of these VEs, which run, and of no other."""
    ends = []
    for name in names:
        shown = node.show(name)
        for at in range(1, 10):
            there = next((n for n in shown["networks"] if n["interface"] == f"eth{at}"), None)
            found = inside(node, name, f"eth{at}")
            assert (found is None) == (there is None), (name, at, found, there)
            if there:
                assert sorted(a.split("/")[0] for a in found) == sorted(there["addresses"])
                ends.append(f"terem{node.number}.{shown['id']}.{at}")
                assert f"chain ve{shown['id']}.{at} " in rules(node)
    assert [name for name in links(node) if ".n" not in name] == sorted(ends)


def make(node, name="back", range4=RANGE, range6=RANGE6, *more):
    return node.json("network", "private", "create", name, "--range", f"{range4}.0/24", "--range6",
                     f"{range6}:/64", *more)


def join(node, name, network="back", *more):
    return node.json("network", "private", "join", name, network, *more)


def programs(ends):
    """Numbers of the programs that packets of each of these interfaces pass."""
    return [[f["options"]["prog"]["id"] for way in ("ingress", "egress")
             for f in json.loads(subprocess.run(["/usr/sbin/tc", "-j", "filter", "show", "dev", end, way], check=True,
                                                capture_output=True, text=True).stdout) if "options" in f]
            for end in ends]


def editions(node):
    return [path for path in glob.glob(f"{node.root}/run/bpf/classify-*") if "-maps-" not in path]


def test_members_only(node):
    made = make(node)
    assert made == {"name": "back", "range4": f"{RANGE}.0/24", "range6": f"{RANGE6}:/64", "owner": None,
                    "members": []}
    for name in "web1", "web2", "web3":
        node.ve(name)
    first, second = join(node, "web1"), join(node, "web2")
    assert f"\nnetworks    back: eth1, {', '.join(first['addresses'])}\n" in node.terem("show", "web1").stdout
    assert first == {"ve": "web1", "state": "running", "interface": "eth1",
                     "addresses": [f"{RANGE}.1", f"{RANGE6}:1"]}
    assert second["addresses"] == [f"{RANGE}.2", f"{RANGE6}:2"]
    agree(node, "web1", "web2", "web3")
    with answering(pid(node, "web2")):
        assert ask(pid(node, "web1"), f"{RANGE}.2") == f"{RANGE}.1"
        assert ask(pid(node, "web1"), f"{RANGE6}:2") == f"{RANGE6}:1"
        # Neither who is no member nor the machine itself, whatever it tries.
        assert nobody(pid(node, "web3"), f"{RANGE}.2")
        assert nobody(os.getpid(), f"{RANGE}.2") and nobody(os.getpid(), f"{RANGE6}:2")
        # Its own way out is as it was.
        own = node.show("web2")["addresses"][0]
        assert ask(pid(node, "web3"), own) == node.show("web3")["addresses"][0]
    # Nothing leads out of it: not by the bridge, which takes no frame for the machine.
    bridge = next(name for name in links(node) if ".n" in name)
    with open(f"/sys/class/net/{bridge}/address", encoding="ascii") as file:
        mac = file.read().strip()
    here = node.show("web3")["addresses"][0]
    for line in f"route add {here} dev eth1 src {RANGE}.1", f"neigh add {here} lladdr {mac} dev eth1":
        subprocess.run([*enter(pid(node, "web1")), "ip", *line.split()], check=True)
    with answering(pid(node, "web3")):
        assert nobody(pid(node, "web1"), here)
    assert subprocess.run(["ip", "addr", "show", "dev", bridge], check=True, capture_output=True,
                          text=True).stdout.count("inet") == 0


def test_spoofs(node):
    """What a member's root claims to be is dropped; the rules are tried frame by frame in
    src/network/test_private.c."""
    make(node)
    for name in "web1", "web2":
        node.ve(name)
        join(node, name)
    web1 = enter(pid(node, "web1"))

    def told(counter):
        line = rules(node).split(f"counter {counter} {{")[1].split("}")[0]
        return int(line.split()[1])
    with answering(pid(node, "web2")):
        assert ask(pid(node, "web1"), f"{RANGE}.2")
        for words in (["addr", "add", f"{RANGE}.77/32", "dev", "eth1"],
                      ["route", "replace", f"{RANGE}.2/32", "dev", "eth1", "src", f"{RANGE}.77"]):
            subprocess.run([*web1, "ip", *words], check=True)
        before = told("spoofed")
        assert nobody(pid(node, "web1"), f"{RANGE}.2")
        assert told("spoofed") > before
        subprocess.run([*web1, "ip", "route", "del", f"{RANGE}.2/32"], check=True)
        assert ask(pid(node, "web1"), f"{RANGE}.2")
        before = told("spoofed")
        subprocess.run([*web1, "ip", "link", "set", "eth1", "address", "02:02:02:02:02:02"], check=True)
        assert nobody(pid(node, "web1"), f"{RANGE}.2")
        assert told("spoofed") > before


def test_takes_no_mac(node):
    """Frames to groups that a bridge keeps to itself teach it nothing, also not one that an older
    teremd has laid; they are tried group by group in src/network/test_private.c."""
    make(node)
    for name in "web1", "web2", "web3":
        node.ve(name)
        join(node, name)
    bridge = next(name for name in links(node) if ".n" in name)
    ends = {name: f"terem{node.number}.{node.show(name)['id']}.1" for name in ("web1", "web2", "web3")}

    def stations():
        """Where the bridge believes whom, the machine's own left out."""
        text = subprocess.run(["bridge", "fdb", "show", "br", bridge], check=True, capture_output=True,
                              text=True).stdout
        return {line.split()[0]: line.split()[2] for line in text.splitlines() if "permanent" not in line}
    before = stations()
    assert sorted(before.values()) == sorted(ends.values())
    web2 = next(mac for mac, end in before.items() if end == ends["web2"])

    def claim(count):
        """web1 sends as web2, and as `count` that nobody is."""
        subprocess.run([*enter(pid(node, "web1")), "/usr/bin/python3", "-c", "import socket, sys\n"
                        "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n"
                        "s.bind(('eth1', 0))\n"
                        "def say(mac):\n"
                        " s.send(bytes.fromhex('0180c200000e') + mac + b'\\x88\\xcc' + bytes(46))\n"
                        "for i in range(int(sys.argv[2])): say(b'\\2\\2' + i.to_bytes(4, 'big'))\n"
                        "say(bytes.fromhex(sys.argv[1].replace(':', '')))", web2, str(count)], check=True)
    with answering(pid(node, "web2")):
        assert ask(pid(node, "web3"), f"{RANGE}.2") == f"{RANGE}.3"
        claim(20000)
        assert stations() == before
        assert ask(pid(node, "web3"), f"{RANGE}.2") == f"{RANGE}.3"
    # As a teremd without all that left it.
    for end in ends.values():
        subprocess.run(["ip", "link", "set", end, "type", "bridge_slave", "learning", "on", "flood", "on",
                        "group_fwd_mask", "0"], check=True)
    for mac, end in before.items():
        subprocess.run(["bridge", "fdb", "del", mac, "dev", end, "master"], check=True)
    claim(10)
    assert stations()[web2] == ends["web1"]
    node.kill()
    node.start()
    assert stations() == before
    claim(10)
    assert stations() == before
    with answering(pid(node, "web2")):
        assert ask(pid(node, "web3"), f"{RANGE}.2") == f"{RANGE}.3"


def test_life(node):
    """It is there at each start, comes and goes while the VE runs, and is not lost with teremd."""
    make(node)
    make(node, "front", f"172.24.{NET}", f"fd5d:{NET:x}:")
    node.ve("web1")
    node.ve("web2", start=False)
    join(node, "web2", "back", "--address", f"{RANGE}.50")
    assert member(node, "web2")["addresses"] == [f"{RANGE}.50", f"{RANGE6}:32"]
    join(node, "web1")
    join(node, "web1", "front", "--address", f"fd5d:{NET:x}::9")
    assert [n["interface"] for n in node.show("web1")["networks"]] == ["eth1", "eth2"]
    node.job("POST", "/v1/ves/web2/start")
    agree(node, "web1", "web2")

    def meet():
        with answering(pid(node, "web2")):
            assert ask(pid(node, "web1"), f"{RANGE}.50") == f"{RANGE}.1"
            assert ask(pid(node, "web1"), f"{RANGE6}:32") == f"{RANGE6}:1"
    meet()
    node.job("POST", "/v1/ves/web1/restart", {"timeout": 0})
    agree(node, "web1", "web2")
    meet()
    node.kill()
    node.start()
    agree(node, "web1", "web2")
    meet()
    # What somebody deletes comes back.
    subprocess.run(["/usr/sbin/nft", "delete", "table", "bridge", f"terem_{node.number}"], check=True)
    wait_for(lambda: "chain ve" in rules(node))
    meet()
    # eth1 goes, eth2 stays; the next network takes eth1 again.
    node.terem("network", "private", "leave", "web1", "back")
    agree(node, "web1", "web2")
    assert join(node, "web1")["interface"] == "eth1"
    meet()
    shown = node.terem("network", "show").stdout
    assert f"{RANGE}.1 back" in shown and f"{RANGE}.50 back" in shown
    back = next(line for line in shown.splitlines() if line.startswith("back "))
    assert back.split()[1:] == [f"{RANGE}.0/24", f"{RANGE6}:/64", "-", "web1,", "web2"]
    # A copy has addresses of its own; one that is destroyed gives them back.
    node.job("POST", "/v1/ves/web1/clone", {"name": "web3", "start": True})
    assert member(node, "web3")["addresses"][0] == f"{RANGE}.2"
    assert member(node, "web3", "front")["interface"] == "eth2"
    agree(node, "web1", "web2", "web3")
    node.job("DELETE", "/v1/ves/web3?force=true")
    node.job("POST", "/v1/ves/web2/stop", {"timeout": 0})
    agree(node, "web1")
    assert [m["ve"] for m in node.json("network", "private", "show", "back", )["members"]] == \
        ["web1", "web2"]
    for name, network in ("web1", "back"), ("web1", "front"), ("web2", "back"):
        node.terem("network", "private", "leave", name, network)
    assert "chain ve" not in rules(node) and "limit ve" not in rules(node)
    for network in "back", "front":
        node.terem("network", "private", "remove", network)
    assert links(node) == [] and inside(node, "web1", "eth1") is None


def test_limit(node):
    """net.packets holds in private networks, is changed while the VE runs, and refusals count."""
    make(node)
    for name in "web1", "web2":
        node.ve(name, params={"net.packets": "50"} if name == "web1" else {})
        join(node, name)

    def failed():
        return node.counter("web1", "net.packets")["failcnt"]

    def flood():
        subprocess.run([*enter(pid(node, "web1")), "/usr/bin/python3", "-c", "import socket\n"
                        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                        f"for i in range(500): s.sendto(b'x', ('{RANGE}.2', 7000))"], check=True)
    before = failed()
    flood()
    assert 0 < failed() - before < 500  # there is a burst that passes
    node.terem("set", "web1", "net.packets=unlimited")
    before = failed()
    flood()
    assert failed() == before
    node.terem("set", "web1", "net.packets=20")
    flood()
    assert failed() > before
    # Nothing of it stands in the machine's table of connections.
    with open("/proc/net/nf_conntrack", encoding="ascii") as file:
        assert f"{RANGE}.2" not in file.read()


def test_owners(node):
    bad = node.api("POST", "/v1/network/private", {"name": "x", "owner": "a\x1b[2J"})
    assert bad.status == 400 and "control character" in bad.json["error"]["message"], bad
    make(node, "acme", RANGE, RANGE6, "--owner", "acme")
    node.ve("web1", start=False, labels={"owner": "acme"})
    node.ve("web2", start=False)
    join(node, "web1", "acme")
    assert "web2 is of owner nobody and private network acme of acme" in refused(
        node, "private", "join", "web2", "acme")
    done = node.terem("set", "web1", "--label", "owner=zeta", check=False)
    assert done.returncode == 1 and "its label owner cannot change while it is in private network acme" \
        in done.stderr
    node.terem("set", "web1", "--label", "tier=web")
    # A clone that is another owner's is not in it, and somebody is told.
    node.job("POST", "/v1/ves/web1/clone", {"name": "web3", "labels": {"owner": "zeta"}})
    assert node.show("web3")["networks"] == []
    # What one has of a backup depends on what is there.
    backup = os.path.join(node.root, "web1.tzst")
    node.terem("backup", "web1", backup)
    node.terem("restore", backup, "web4")
    assert member(node, "web4", "acme")["addresses"][0] == f"{RANGE}.2"
    for name in "web1", "web4":
        node.job("DELETE", f"/v1/ves/{name}")
    node.terem("restore", backup, "web5")
    assert member(node, "web5", "acme")["addresses"][0] == f"{RANGE}.1"
    node.job("DELETE", "/v1/ves/web5")
    node.terem("network", "private", "remove", "acme")
    node.terem("restore", backup, "web6")
    assert node.show("web6")["networks"] == []
    assert "web6: it is not in private network acme" in node.words(20000)


def test_bad_input(node):
    node.ve("web1", start=False)
    make(node)
    node.terem("network", "private", "create", "tiny", "--range", f"172.25.{NET}.0/30", "--range6", "none")
    node.terem("network", "pool", "create", "lan", f"172.26.{NET}.0/24")
    for name in "web2", "web3", "web4":
        node.ve(name, start=False)
        if name != "web4":
            join(node, name, "tiny")
    before = node.ok("GET", "/v1/network/private")
    own = node.show("web1")["addresses"][0]
    for words, why in [
            (["create", "back"], "there is a private network of this name already; choose another"),
            (["create", "Back"], "is not a usable name"),
            (["create", "a", "--range", f"{RANGE}.128/25"],
             f"overlaps {RANGE}.0/24 of private network back"),
            (["create", "a", "--range6", f"{RANGE6}:/64"], "of private network back"),
            (["create", "a", "--range", f"172.26.{NET}.0/28"], "of address pool lan"),
            (["create", "a", "--range", own.rsplit(".", 1)[0] + ".0/24"], "that of VEs' own addresses"),
            (["create", "a", "--range", f"172.27.{NET}.1/24"], f"did you mean 172.27.{NET}.0/24?"),
            (["create", "a", "--range", "172.27.0.0/8"], "did you mean"),
            (["create", "a", "--range", "10.0.0.0/8"], "choose a prefix length from 16 to 30"),
            (["create", "a", "--range", "8.8.8.0/24"], "routed on the internet"),
            (["create", "a", "--range", "fd00::/64"], "is not an IPv4 network"),
            (["create", "a", "--range", "none", "--range6", "none"], "neither an IPv4 nor an IPv6 range"),
            (["remove", "tiny"], "web2, web3 are in it"),
            (["remove", "bakc"], "did you mean back?"),
            (["join", "web4", "tiny"], "private network tiny is full"),
            (["join", "web2", "tiny"], "web2 is in private network tiny already"),
            (["join", "web4", "tiny", "--address", f"172.25.{NET}.2"], "is web3's in private network tiny"),
            (["join", "web4", "tiny", "--address", f"172.25.{NET}.3"], "is not an address for a member"),
            (["join", "web4", "back", "--address", "10.1.1.1"], "is not an address for a member"),
            (["join", "web4", "back", "--address", "x"], "is not an address such as"),
            (["join", "web9", "back"], "web9: there is no such VE"),
            (["join", "back", "web4"], "back is the network and web4 the VE, which comes first"),
            (["join", "web4", "nowhere"], "there is no private network nowhere"),
            (["leave", "web4", "back"], "web4 is not in private network back; terem network private show back tells")]:
        sentence = refused(node, "private", *words)
        assert why in sentence, f"{words}: {sentence}"
    assert node.ok("GET", "/v1/network/private") == before
    assert f"overlaps {RANGE}.0/24 of private network back" in refused(
        node, "pool", "create", "a", f"{RANGE}.0/28")
    # As many as may be.
    for at in range(9):
        node.terem("network", "private", "create", f"n{at}")
        join(node, "web1", f"n{at}")
    assert "web1 is in 9 private networks, as many as may be; take it out of one" in refused(
        node, "private", "join", "web1", "back")
    node.job("POST", "/v1/ves/web1/start")
    agree(node, "web1")


def test_interface_taken(node):
    """The VE's root has made an eth1 of its own: the VE is not in the network, and nothing stays."""
    make(node)
    node.ve("web1")
    subprocess.run([*enter(pid(node, "web1")), "ip", "link", "add", "eth1", "type", "bridge"], check=True)
    assert "cannot make eth1" in refused(node, "private", "join", "web1", "back")
    assert node.show("web1")["networks"] == []
    assert [name for name in links(node) if ".n" not in name] == [] and "chain ve" not in rules(node)
    subprocess.run([*enter(pid(node, "web1")), "ip", "link", "del", "eth1"], check=True)
    join(node, "web1")
    agree(node, "web1")


@pytest.mark.parametrize("way", ["join", "leave"])
def test_killed_in_between(node, way):
    """Wherever teremd is killed, afterwards the kernel has what the registry says."""
    make(node)
    node.ve("web1")
    node.ve("web2")
    join(node, "web2")
    points = [("pwrite64,fdatasync", 2), ("setns", 1), *(("sendto,sendmsg", n) for n in range(1, 24, 3))]
    ended = set()
    for calls, count in points:
        if (member(node, "web1") is None) != (way == "join"):
            node.terem("network", "private", "leave" if way == "join" else "join", "web1", "back")
        with killed_at(node, calls, count):
            node.terem("network", "private", way, "web1", "back", check=False)
        node.kill()
        node.start()
        assert node.state("web1") == node.state("web2") == "running"
        ended.add(member(node, "web1") is not None)
        agree(node, "web1", "web2")
        if member(node, "web1"):
            with answering(pid(node, "web2")):
                assert ask(pid(node, "web1"), f"{RANGE}.1") == f"{RANGE}.2"
    assert ended == {True, False}


def test_new_programs(node):
    """Terem was upgraded: the ends of VEs that run have the new edition's programs, and of the old
    one nothing is kept."""
    make(node)
    node.ve("web1")
    join(node, "web1")
    ends = [name for name in links(node) if ".n" not in name] + [f"terem{node.number}-{node.show('web1')['id']}"]
    before = programs(ends)
    node.kill()
    edition, = editions(node)
    old = f"{edition[:-16]}{'0' * 16}"
    os.rename(edition, old)  # as if another Terem had loaded them
    counts, = glob.glob(f"{node.root}/run/bpf/classify-maps-*/counts")
    os.unlink(counts)
    subprocess.run(["bpftool", "map", "create", counts, "type", "hash", "key", "16", "value", "16",
                    "entries", "4096", "name", "counts", "flags", "1"], check=True)  # and had room for fewer
    node.start()
    after = programs(ends)
    assert len(ends) == 2 and [len(of) for of in after] == [2, 2]
    assert not set(sum(before, [])) & set(sum(after, [])), (before, after)
    assert editions(node) == [edition]
    kept = json.loads(subprocess.check_output(["bpftool", "-j", "map", "show", "pinned", counts]))
    assert kept["max_entries"] == 4096
    agree(node, "web1")


def test_interfaces_of_the_owner(node):
    """What a VE's root does to interfaces is told, with what to do."""
    make(node)
    node.ve("web1")
    ip = lambda *words: subprocess.run([*enter(pid(node, "web1")), "ip", "link", *words], check=True)
    ip("add", "eth1", "type", "bridge")
    done = node.terem("network", "private", "join", "web1", "back", check=False)
    assert done.returncode == 1 and "cannot make eth1: the VE has an interface of that name" in done.stderr
    assert member(node, "web1") is None and not [name for name in links(node) if ".n" not in name]
    ip("del", "eth1")
    join(node, "web1")
    assert "deleted_interfaces" not in node.show("web1")
    ip("del", "eth1")
    assert node.show("web1")["deleted_interfaces"] == ["eth1"]
    ip("del", "eth0")
    assert node.show("web1")["deleted_interfaces"] == ["eth0", "eth1"]
    listed = node.ok("GET", "/v1/ves?fields=name,deleted_interfaces")
    assert listed == [{"name": "web1", "deleted_interfaces": ["eth0", "eth1"]}]
    text = node.terem("show", "web1").stdout
    assert "\ndeleted     eth0, eth1\n            inside; terem restart web1 makes them anew\n" in text
    node.terem("network", "pool", "create", "more", f"198.19.{NET}.0/28", "--public")
    done = node.terem("network", "address", "add", "web1", f"198.19.{NET}.3", check=False)
    assert done.returncode == 1 and "eth0 was deleted inside; restart the VE" in done.stderr
    node.terem("restart", "web1")
    assert "deleted_interfaces" not in node.show("web1")
    agree(node, "web1")
