# SPDX-License-Identifier: GPL-2.0-or-later
"""`house`: a node with two VEs, `evil` (whose root attacks) and `calm` (the victim), and the
attack program in /attack of the first."""
import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from helpers import arm  # noqa: E402


@pytest.fixture(scope="session")
def program(build):
    out = os.path.join(build, "check", "attack")
    os.makedirs(os.path.dirname(out), exist_ok=True)
    subprocess.run(["musl-gcc", "-static", "-O1", "-Wall", "-Wextra", "-Wno-unused-parameter",
                    "-Werror", "-o", out, os.path.join(HERE, "src", "attack.c")], check=True)
    return out


@pytest.fixture(scope="module")
def house(shared, program):
    shared.ve("evil", params={"processes": "200", "memory.limit": "128M"})
    shared.ve("calm", params={"processes": "100", "memory.limit": "64M"})
    arm(shared, "evil", program)
    return shared
