# SPDX-License-Identifier: GPL-2.0-or-later
"""A VE's firewall inside, by nft and by iptables: it does what its owner says, and is its owner's alone."""
import socket
import subprocess

from node import wait_for


def answers(address, port=80):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as s:
        s.settimeout(4)  # what is dropped: longer than a busy machine takes to answer
        try:
            s.connect((address, port))
            return True
        except OSError:
            return False


def ruleset(node):
    """The machine's, but for those of other instances, without counts and without what sets learn."""
    def nft(*words):
        return subprocess.run(["nft", "-s", "-t", "list", *words], check=True, capture_output=True, text=True).stdout
    others = [line for line in nft("tables").splitlines() if " terem" not in line]
    return nft("table", "inet", f"terem_{node.number}") + "".join(nft(*line.split()) for line in others)


def test_its_own(debian):
    node = debian
    four, six = node.ve("fw1", template="debian-12")["addresses"][:2]
    wait_for(lambda: answers(four) and answers(six))
    host = ruleset(node)
    node.sh("fw1", "nft add table inet mine && nft 'add chain inet mine in { type filter hook input priority 0; }' &&"
                   "nft add rule inet mine in tcp dport 80 drop")
    assert not answers(four) and not answers(six)
    assert node.sh("fw1", "nft list tables") == "table inet mine\n"
    assert node.run("fw1", "/usr/sbin/nft", "delete", "table", "inet", f"terem_{node.number}", check=False)["exit"] != 0
    node.sh("fw1", "nft flush ruleset")
    wait_for(lambda: answers(four) and answers(six))
    node.sh("fw1", "iptables -A INPUT -p tcp --dport 80 -j REJECT && ip6tables -A INPUT -p tcp --dport 80 -j DROP")
    assert not answers(four) and not answers(six)
    node.sh("fw1", "iptables -F && ip6tables -F")
    wait_for(lambda: answers(four) and answers(six))
    assert not answers(four, 8080)
    node.sh("fw1", "iptables -t nat -A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 80 &&"
                   "iptables -A INPUT -m conntrack --ctstate INVALID -j DROP")
    wait_for(lambda: answers(four, 8080))
    assert ruleset(node) == host
    # As its owner would have it at each start.
    node.sh("fw1", "printf 'table inet mine {\\n chain in {\\n  type filter hook input priority 0;\\n"
                   "  tcp dport 80 drop\\n }\\n}\\n' >/etc/nftables.conf && systemctl enable nftables")
    node.job("POST", "/v1/ves/fw1/restart", {"timeout": 30})
    wait_for(lambda: "dport 80 drop" in node.sh("fw1", "nft list ruleset"))
    wait_for(lambda: node.run("fw1", "/usr/bin/systemctl", "is-active", "nginx", check=False)["exit"] == 0)
    assert not answers(four) and not answers(six)
    node.job("DELETE", "/v1/ves/fw1?force=true")
