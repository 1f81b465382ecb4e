# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures: `node`, an instance for one test; `shared`, one for a whole module; `debian`, one for
the session with the template debian-12 (systemd, ifupdown, nginx).  Each verifies at its end that nothing
of it is left on the machine."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from node import Node  # noqa: E402

BUILD = os.environ.get("TEREM_BUILD", os.path.join(os.path.dirname(__file__), "..", "build"))


@pytest.fixture(scope="session")
def build():
    return os.path.abspath(BUILD)


def serve(build):
    with Node(build) as node:
        yield node


@pytest.fixture
def node(build):
    yield from serve(build)


@pytest.fixture(scope="module")
def shared(build):
    yield from serve(build)


@pytest.fixture(scope="session")
def debian(build):
    serving = serve(build)
    node = next(serving)
    try:
        node.job("POST", "/v1/templates",
                 {"name": "debian-12", "build": "debian-12", "include": ["nginx", "ifupdown", "nftables", "iptables"]}, timeout=900)
        yield node
    finally:
        next(serving, None)
