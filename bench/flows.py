# SPDX-License-Identifier: GPL-2.0-or-later
"""iperf3 and other programs in network namespaces, ended together."""
import subprocess
import time

from far import enter


class Flows:
    def __init__(self):
        self.processes = []

    def start(self, where, *command):
        process = subprocess.Popen([*enter(where), *command], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        self.processes.append(process)
        return process

    def serve(self, sink, port, *more):
        self.start(sink, "iperf3", "-s", "-1", "-p", str(port), *more)
        for _ in range(500):
            if subprocess.run([*enter(sink), "ss", "-Hltn", f"sport = :{port}"], check=True,
                              capture_output=True).stdout:
                return
            time.sleep(0.01)
        raise RuntimeError("iperf3 does not listen")

    def client(self, source, address, port, seconds, *more):
        return self.start(source, "iperf3", "-c", address, "-p", str(port), "-t", str(seconds),
                          *more)

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes = []
