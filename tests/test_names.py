# SPDX-License-Identifier: GPL-2.0-or-later
"""Its name, address and resolver inside each kind of root; whatever network programs it has of its
own, they leave the address alone, and it leaves its owner's lines alone."""
import contextlib
import os
import subprocess

import pytest

import archive
from archive import entry
from far import far  # noqa: F401 (a fixture)
from node import PATIENCE, Node, wait_for

BEGIN = "# Terem: its own name, written at every start up to the next such line\n"
END = "# Terem: the end\n"
OWN = "127.0.0.%d" % (64 + os.getpid() % 128)


def network(node, name):
    """Addresses and default routes as its root has them, and as they have to be."""
    own = node.show(name)["addresses"]
    text = subprocess.run(["nsenter", f"--net=/proc/{node.show(name)['pid']}/ns/net", "sh", "-c",
                           "ip -o addr show dev eth0 scope global; ip route show default; ip -6 route show default"],
                          capture_output=True, text=True, check=True).stdout
    found = [line.split()[3].split("/")[0] for line in text.splitlines() if " eth0 " in line and "inet" in line]
    routes = [line.split()[2] for line in text.splitlines() if line.startswith("default")]
    return (sorted(found), routes), (sorted(own), ["169.254.1.1", "fe80::1"])


def keeps_network(node, name):
    is_, shall = network(node, name)
    assert is_ == shall


def file(node, name, path):
    return node.run(name, "/bin/cat", path)["stdout"]


def named(node, name):
    """The lines of its name are there, once."""
    four, six = node.show(name)["addresses"][:2]
    text = file(node, name, "/etc/hosts")
    assert text.count(BEGIN) == 1
    assert BEGIN + f"{four}\t{name}\n{six}\t{name}\n" + END in text, text
    assert file(node, name, "/etc/hostname") == name + "\n"
    assert file(node, name, "/proc/sys/kernel/hostname") == name + "\n"
    return text


# ---- busybox ----

def test_its_owners_lines_stay(shared):
    node = shared
    node.ve("web1")
    assert named(node, "web1").startswith("127.0.0.1\tlocalhost\n")
    keeps_network(node, "web1")
    node.sh("web1", "sed -i '1i 192.0.2.7 web1.example.org web1' /etc/hosts; echo 192.0.2.8 db >>/etc/hosts; "
                    "echo nameserver 192.0.2.9 >/etc/resolv.conf; echo other >/etc/hostname; chmod 600 /etc/hosts; "
                    "hostname other")
    node.job("POST", "/v1/ves/web1/restart", {"timeout": 0})
    text = named(node, "web1")
    assert text.startswith("192.0.2.7 web1.example.org web1\n") and text.endswith(END + "192.0.2.8 db\n")
    assert node.sh("web1", "stat -c %a /etc/hosts") == "600\n"
    assert file(node, "web1", "/etc/resolv.conf") == "nameserver 192.0.2.9\n"
    # Its copy has a name of its own, and all else.
    node.job("POST", "/v1/ves/web1/clone", {"name": "web2", "start": True})
    text = named(node, "web2")
    assert text.startswith("192.0.2.7 web1") and text.endswith("192.0.2.8 db\n") and "\tweb1" not in text
    # The first line taken away made it its own; without a word it is the node's again.
    node.sh("web1", ": >/etc/resolv.conf; rm /etc/hosts; ln -s nowhere /etc/hosts")
    node.job("POST", "/v1/ves/web1/restart", {"timeout": 0})
    assert file(node, "web1", "/etc/resolv.conf").startswith("# Written by Terem at every start;")
    assert named(node, "web1").startswith("127.0.0.1\tlocalhost\n")


def test_nothing_is_written_twice(shared):
    """A start that finds all as it shall be touches nothing."""
    shared.ve("web3")
    upper = os.path.join(shared.pool(), str(shared.show("web3")["id"]), "upper/etc")
    before = {name: os.stat(os.path.join(upper, name)).st_ino for name in os.listdir(upper)}
    assert {"hosts", "hostname", "resolv.conf"} <= set(before) and "network" not in before
    shared.job("POST", "/v1/ves/web3/restart", {"timeout": 0})
    assert before == {name: os.stat(os.path.join(upper, name)).st_ino for name in os.listdir(upper)}


def test_files_that_cannot_be_changed(shared):
    """Immutable ones are left, and the VE starts."""
    shared.ve("web4")
    shared.job("POST", "/v1/ves/web4/kill")
    path = os.path.join(shared.pool(), str(shared.show("web4")["id"]), "upper/etc/hosts")
    with open(path, "w", encoding="ascii") as hosts:
        hosts.write("mine\n")
    if subprocess.run(["chattr", "+i", path], check=False, capture_output=True).returncode != 0:
        pytest.skip("this file system has no immutable files")
    try:
        shared.job("POST", "/v1/ves/web4/start")
        assert file(shared, "web4", "/etc/hosts") == "mine\n"
        assert ".hosts.terem" not in shared.sh("web4", "ls -a /etc")
        keeps_network(shared, "web4")
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


# ---- like Alpine: OpenRC's networking over busybox's ifup ----

NETWORKING = b"""#!/bin/sh
interfaces() { awk '$1 == "auto" { for (i = 2; i <= NF; i++) print $i }' /etc/network/interfaces; }
case $1 in
start) for i in $(interfaces); do ifup $i || exit 1; done; echo started >/run/networking ;;
stop) for i in $(interfaces); do ifdown -f $i; done; rm /run/networking ;;
restart) "$0" stop; "$0" start ;;
esac
"""
INTERFACES = b"auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n\thostname alpine\n"
APPLETS = ("awk", "ifup", "ifdown", "ip", "udhcpc", "nslookup", "rm", "ifconfig", "route", "hostname", "run-parts",
           "grep")


def alpine(interfaces):
    folder = lambda name: entry(name, kind=archive.tarfile.DIRTYPE)
    extra = [entry("bin/" + name, kind=archive.tarfile.SYMTYPE, link="busybox") for name in APPLETS]
    extra += [folder(name) for name in ("etc/network", "etc/init.d", "var/run", "etc/network/if-up.d",
                                        "etc/network/if-down.d", "etc/network/if-pre-up.d",
                                        "etc/network/if-post-down.d")]
    extra += [entry("etc/init.d/networking", NETWORKING),
              entry("etc/inittab", b"::sysinit:/etc/init.d/networking start\n", mode=0o644),
              entry("etc/hostname", b"alpine\n", mode=0o644),
              entry("etc/hosts", b"127.0.0.1 localhost alpine\n", mode=0o644),
              entry("etc/resolv.conf", b"nameserver 10.0.2.3\n", mode=0o644)]
    if interfaces:
        extra.append(entry("etc/network/interfaces", interfaces, mode=0o644))
    return archive.tar(archive.system(extra))


@pytest.mark.parametrize("interfaces", [INTERFACES, None])
def test_like_alpine(shared, tmp_path, interfaces):
    node, name = shared, "alp1" if interfaces else "alp2"
    source = tmp_path / "alpine.tar"
    source.write_bytes(alpine(interfaces))
    node.terem("template", "import", name, str(source))
    node.ve(name, template=name)
    wait_for(lambda: node.run(name, "/bin/cat", "/run/networking", check=False)["exit"] == 0)
    keeps_network(node, name)
    assert named(node, name).startswith("127.0.0.1 localhost alpine\n")
    assert "10.0.2.3" not in file(node, name, "/etc/resolv.conf"), "of where the image was made"
    for command in "/etc/init.d/networking restart", "ifup -a", "ifdown -a; ifup -a":
        node.sh(name, command + " 2>&1", check=False)
        keeps_network(node, name)
    text = file(node, name, "/etc/network/interfaces")
    assert text.startswith("auto lo\n") and "\niface lo inet manual\n" in text
    assert (": auto eth0\n" in text and "\niface eth0 inet manual\n\thostname alpine\n" in text) == bool(interfaces)
    # A busybox without a word about eth0 raises it by hand without harm.
    if interfaces:
        node.sh(name, "ifup eth0")
        keeps_network(node, name)
    node.job("POST", f"/v1/ves/{name}/restart", {"timeout": 0})
    assert file(node, name, "/etc/network/interfaces") == text


def test_application(shared, tmp_path):
    """It has names, too; nothing in it sets up a network, so nothing is said to that."""
    source = tmp_path / "alpine.tar"
    source.write_bytes(alpine(INTERFACES))
    shared.terem("template", "import", "alp3", str(source))
    shared.ve("app1", template="alp3", kind="app", command=["/bin/sleep", "1000"])
    named(shared, "app1")
    keeps_network(shared, "app1")
    assert file(shared, "app1", "/etc/network/interfaces") == INTERFACES.decode()


# ---- Debian: ifupdown, systemd-networkd ----

def test_debian(debian):
    node = debian
    node.ve("deb1", template="debian-12")
    assert node.settled("deb1") == "running\n"
    named(node, "deb1")
    keeps_network(node, "deb1")
    assert node.sh("deb1", "hostname") == "deb1\n"
    own = node.show("deb1")["addresses"]
    assert node.sh("deb1", "getent ahosts deb1 | cut -d' ' -f1 | sort -u").split() == sorted(own[:2])
    # As an image for machines has it: everything asks for addresses that nobody gives.
    node.sh("deb1", "printf 'auto eth0\\niface eth0 inet dhcp\\nallow-hotplug eth0\\niface eth0 inet6 auto\\n' "
                    ">/etc/network/interfaces.d/50-cloud-init; "
                    "printf '[Match]\\nName=e*\\n[Network]\\nDHCP=yes\\n' >/etc/systemd/network/50-dhcp.network; "
                    "mkdir -p /etc/NetworkManager/conf.d; "
                    "systemctl unmask systemd-networkd-wait-online; systemctl enable systemd-networkd 2>&1; "
                    "ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf")
    node.job("POST", "/v1/ves/deb1/restart", {"timeout": 60})
    assert node.settled("deb1") == "running\n"
    keeps_network(node, "deb1")
    states = node.sh("deb1", "systemctl is-active networking systemd-networkd systemd-networkd-wait-online; "
                             "cat /run/network/ifstate").split()
    assert states == ["active", "active", "active", "lo=lo"]
    for command in ("systemctl restart systemd-networkd", "systemctl restart networking", "ifup -a", "ifdown -a; ifup -a",
                    "networkctl reload; networkctl reconfigure eth0",
                    "systemctl restart systemd-networkd-wait-online"):
        node.sh("deb1", command)
        keeps_network(node, "deb1")
    assert "eth0 ether routable configured" in " ".join(node.sh("deb1", "networkctl --no-legend").split())
    assert "interface-name:eth0" in file(node, "deb1", "/etc/NetworkManager/conf.d/00-terem.conf")
    assert file(node, "deb1", "/etc/resolv.conf").startswith("# Written by Terem")
    # An address that comes while it runs is kept as well, and what its owner has made of ours too.
    node.terem("network", "pool", "create", "lan", "192.168.77.0/29")
    node.terem("network", "address", "add", "deb1", "--pool", "lan")
    node.sh("deb1", "sed -i 1d /etc/systemd/network/00-terem.network; echo '# mine' >>"
                    "/etc/systemd/network/00-terem.network; systemctl restart systemd-networkd networking")
    keeps_network(node, "deb1")
    node.job("POST", "/v1/ves/deb1/restart", {"timeout": 60})
    assert file(node, "deb1", "/etc/systemd/network/00-terem.network").endswith("# mine\n")
    node.job("DELETE", "/v1/ves/deb1?force=true")
    node.terem("network", "pool", "remove", "lan")


# ---- who resolves names ----

@contextlib.contextmanager
def resolver(address):
    """A server that knows one name, and is asked by address."""
    with subprocess.Popen(["/usr/sbin/dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                           "--bind-interfaces", f"--listen-address={address}", "--pid-file=", "--log-facility=-",
                           "--address=/www.example.org/192.0.2.80",
                           "--address=/www.example.org/2001:db8::80", "--local=/#/"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True) as server:
        try:
            line = server.stderr.readline()
            assert "started" in line, line
            yield
        finally:
            server.terminate()


@pytest.mark.parametrize("where", ["loopback", "address"])
def test_names_resolve(build, far, where):  # noqa: F811
    """By the host's resolver, on its loopback or on an address of its own; the name alone by `search`."""
    address = OWN if where == "loopback" else far.address.rpartition(".")[0] + ".1"
    with Node(build, network_dns=address, network_search="example.org") as node, resolver(address):
        node.ve("web1")
        told = "169.254.1.1" if where == "loopback" else address
        assert file(node, "web1", "/etc/resolv.conf").splitlines()[1:] == [f"nameserver {told}", "search example.org"]
        for name in "www.example.org", "www":
            assert "192.0.2.80" in node.sh("web1", f"busybox nslookup {name}"), name
        assert node.run("web1", "/bin/busybox", "nslookup", "no.example.org", check=False)["exit"] != 0


def test_resolver_that_nobody_reaches(build):
    node = Node(build, network_dns="::1")
    try:
        assert node.spawn().wait(PATIENCE) != 0
        assert 'network.dns: "::1" is no address that VEs reach; give addresses of DNS servers' in node.words()
    finally:
        node.close()
