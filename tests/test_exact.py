# SPDX-License-Identifier: GPL-2.0-or-later
"""What is counted of a VE is to the byte and packet what a capture inside it saw, and holds what
iperf3 says it carried: TCP and UDP, both ways, IPv4 and IPv6."""
from capture import Cable, datagrams, pcap_sums
from far import far  # noqa: F401, a fixture
from test_classes import counts

DATAGRAM = 1200
AMOUNT = 3 << 20


def test_exact(node, far):
    udp = ["-u", "-b", "40M", "-l", str(DATAGRAM)]
    node.terem("network", "class", "add", "near", far.address + "/32", far.address6 + "/128")
    node.ve("web1")
    cable = Cable(node.show("web1")["pid"], far)
    for address in far.address, far.address6:
        for words in [], ["-R"], udp, [*udp, "-R"]:
            before = counts(node, "web1")
            told, pcap = cable.run(address, "-n", str(AMOUNT), *words)
            after, seen = counts(node, "web1"), pcap_sums(pcap, cable.mac)
            for way in "out", "in":
                old = before.get(("near", way), (0, 0))
                grown = tuple(b - a for a, b in zip(old, after[("near", way)]))
                assert grown == seen[way], (address, words, way)
            way = "in" if "-R" in words else "out"
            if "-u" not in words:
                assert seen[way][1] > told["sum_received"]["bytes"] > 0
                assert told["sum_sent"]["bytes"] >= AMOUNT
                continue
            stream = told["streams"][0]["udp"]
            assert stream["bytes"] == stream["packets"] * DATAGRAM and stream["bytes"] >= AMOUNT
            carried = datagrams(pcap, cable.mac, DATAGRAM)
            assert carried["in" if way == "out" else "out"] == 0
            # All that was sent is there; of what came in, what was read before the end.
            if way == "out":
                assert carried[way] == stream["packets"]
            else:
                assert carried[way] >= stream["packets"] - stream["lost_packets"]
