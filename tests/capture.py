# SPDX-License-Identifier: GPL-2.0-or-later
"""What a VE's own end of its cable sees, captured by tcpdump, while iperf3 works."""
import json
import struct
import subprocess
import threading

from node import PATIENCE, at_rest, wait_for


def captured(pid, address, run):
    """What tcpdump sees on the inner end of a cable of packets to and from an address."""
    with subprocess.Popen(["nsenter", f"--net=/proc/{pid}/ns/net", "tcpdump", "-i", "eth0", "-n",
                           "--immediate-mode", "-B", "16384", "-s", "96", "-U", "-w", "-", "host",
                           address],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as dump:
        line = b""
        while b"listening on" not in line:
            line = dump.stderr.readline()
            assert line, "tcpdump does not listen"
        pcap = bytearray()
        reader = threading.Thread(target=lambda: pcap.extend(dump.stdout.read()))
        reader.start()
        try:
            run()
            at_rest(lambda: len(pcap))
        finally:
            dump.terminate()
            reader.join()
        tail = dump.stderr.read().decode()
    assert "\n0 packets dropped by kernel" in tail, tail
    return pcap


def pcap_sums(pcap, own):
    """{"in": (packets, bytes), "out": …} of a capture; own: the MAC of the captured end."""
    sums, at = {"in": [0, 0], "out": [0, 0]}, 24
    while at + 16 <= len(pcap):
        _, _, kept, size = struct.unpack_from("<IIII", pcap, at)
        way = "out" if bytes(pcap[at + 22:at + 28]) == own else "in"
        sums[way][0] += 1
        sums[way][1] += size
        at += 16 + kept
    return {way: tuple(n) for way, n in sums.items()}


def datagrams(pcap, own, payload):
    """How many of so many bytes went out and came in."""
    found, at = {"in": 0, "out": 0}, 24
    while at + 16 <= len(pcap):
        kept, = struct.unpack_from("<I", pcap, at + 8)
        frame = pcap[at + 16:at + 16 + kept]
        udp = 14 + (40 if frame[12:14] == b"\x86\xdd" else 20)
        protocol = frame[20] if udp == 54 else frame[23]
        if protocol == 17 and struct.unpack_from(">H", frame, udp + 4)[0] == 8 + payload:
            found["out" if bytes(frame[6:12]) == own else "in"] += 1
        at += 16 + kept
    return found


class Cable:
    """iperf3 between a VE and the far host, and all that its own end of the cable saw of it."""

    def __init__(self, pid, far):
        self.pid, self.far = pid, far
        self.enter = ["nsenter", f"--net=/proc/{pid}/ns/net"]
        link = subprocess.run([*self.enter, "ip", "-o", "link", "show", "eth0"], check=True,
                              capture_output=True, text=True).stdout
        self.mac = bytes.fromhex(link.split("link/ether ")[1].split()[0].replace(":", ""))

    def _iperf(self, address, words):
        inside = ["ip", "netns", "exec", self.far.space]
        with subprocess.Popen([*inside, "iperf3", "-s", "-1"],
                              stdout=subprocess.DEVNULL) as server:
            try:
                wait_for(lambda: subprocess.run([*inside, "ss", "-Hltn", "sport = :5201"], check=True,
                                                capture_output=True).stdout)
                done = subprocess.run([*self.enter, "iperf3", "-c", address, "-J", *words],
                                      check=False, capture_output=True, text=True, timeout=PATIENCE)
                end = json.loads(done.stdout)["end"]
                server.wait(PATIENCE)
            finally:
                server.kill()
        return end

    def run(self, address, *words):
        """(what iperf3 told at its end, what was captured)"""
        told = {}
        pcap = captured(self.pid, address, lambda: told.update(self._iperf(address, words)))
        return told, pcap
