# SPDX-License-Identifier: GPL-2.0-or-later
"""Many subscribers to a node's events, in one thread: what each gets, byte by byte."""
import select
import socket
import threading


class Listener:
    """One connection of GET /v1/events.  chunks: of HTTP, of which a telling of events makes one for each
    4 KiB."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path)
        self.sock.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        self.bytes = b""

    def take(self):
        piece = self.sock.recv(1 << 16)
        self.bytes += piece
        return bool(piece)

    @property
    def subscribed(self):
        return self.bytes.startswith(b"HTTP/1.1 200") and b"\r\n\r\n" in self.bytes

    def heard(self):
        """(what was told, in how many chunks)"""
        text, rest, chunks = b"", self.bytes.partition(b"\r\n\r\n")[2], 0
        while (end := rest.find(b"\r\n")) > 0:
            size = int(rest[:end], 16)
            if len(rest) < end + 2 + size:
                break
            text += rest[end + 2:end + 2 + size]
            rest = rest[end + 4 + size:]
            chunks += 1
        return text, chunks


class Listeners:
    """count of them; those after the first `reading` take nothing until they are told to.  When they are
    entered, teremd has every one among its subscribers."""

    def __init__(self, node, count, reading=None):
        self.path, self.count, self.reading = node.socket, count, count if reading is None else reading
        self.all, self.end = [], False
        self.poll, self.by_fd = select.epoll(), {}
        self.reader = threading.Thread(target=self.read, daemon=True)

    def read(self):
        while not self.end:
            for fd, _ in self.poll.poll(0.05, 512):
                if not self.by_fd[fd].take():
                    self.poll.unregister(fd)

    def watch(self, one):
        self.by_fd[one.sock.fileno()] = one
        self.poll.register(one.sock.fileno(), select.EPOLLIN)

    def __enter__(self):
        for _ in range(self.count):
            one = Listener(self.path)
            self.all.append(one)
            while not one.subscribed:
                assert one.take(), one.bytes
        for one in self.all[:self.reading]:
            self.watch(one)
        self.reader.start()
        return self

    def __exit__(self, *unused):
        self.end = True
        self.reader.join()
        self.poll.close()
        for one in self.all:
            one.sock.close()
