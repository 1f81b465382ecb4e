# SPDX-License-Identifier: GPL-2.0-or-later
"""Listening to what a node tells."""
import json
import subprocess
import threading

from node import PATIENCE


class Events:
    """What a node tells while the block runs."""

    def __init__(self, node):
        self.node, self.seen, self.more = node, [], threading.Condition()
        self.process = subprocess.Popen([node.cli, "--root", node.root, "events", "--json"],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)

    def read(self):
        for line in self.process.stdout:
            with self.more:
                self.seen.append(json.loads(line))
                self.more.notify_all()

    def __enter__(self):
        self.reader.start()
        return self

    def __exit__(self, *unused):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.process.stdout.close()
        self.process.stderr.close()

    def begin(self, name, key="processes"):
        """The first event shows that the stream has begun."""
        for i in range(200):
            self.node.terem("set", name, f"{key}={1000 + i}")
            with self.more:
                if self.more.wait_for(lambda: self.seen, 0.1):
                    return
        raise AssertionError(f"no event came: {self.process.poll()}")

    def wait(self, kind, **fields):
        def found():
            return next((e for e in self.seen if e["type"] == kind and
                         all(e.get(k) == v for k, v in fields.items())), None)
        with self.more:
            assert self.more.wait_for(lambda: found() is not None, PATIENCE), (kind, fields, self.seen)
            return found()
