# SPDX-License-Identifier: GPL-2.0-or-later
"""A pool that VEs have filled to the last byte: their owners can empty it."""
import os

import pytest

from node import Node, wait_for
from test_bad_input import Disk

# Space in large and small pieces, then links, of which each needs a little of the metadata.
FILL = """
cd /root; mkdir -p names; n=$$
for bs in 1M 4k 512; do dd if=/dev/zero of=big.$n.$bs bs=$bs 2>/dev/null; done
i=0; misses=0; long=$(printf %03000d 0)
while [ $misses -lt 20 ] && [ $i -lt 30000 ]; do
    i=$((i+1)); ln -s $long names/$n.$i 2>/dev/null || misses=$((misses+1))
done
echo $misses
"""


@pytest.fixture(params=["dir", "btrfs", "xfs"])
def node(build, request):
    """VEs are in a small pool, which may not grow."""
    disk = Disk("200M", ["-N", "20000"]) if request.param == "dir" else None
    try:
        with Node(build, pool_grow="off") as node:
            node.template()
            how = ["--path", f"{disk.at}/pool"] if disk else ["--size", "400M"]
            node.terem("pool", "create", "small", "--driver", request.param, *how)
            yield node
    finally:
        if disk:
            disk.close()


def fill(node, ve):
    assert node.sh(ve, FILL, timeout=300).strip() == "20"


def test_what_is_full_can_be_emptied(node):
    for ve in ("web1", "web2"):
        node.ve(ve, pool="small")
        node.sh(ve, "dd if=/dev/zero of=/root/mine bs=1M count=16 2>/dev/null; sync")
    node.job("POST", "/v1/ves/web1/snapshots", {"name": "then"})
    for _ in range(2):
        fill(node, "web1")
        for ve in ("web1", "web2"):
            node.job("POST", f"/v1/ves/{ve}/kill")
            node.job("POST", f"/v1/ves/{ve}/start")
            assert node.sh(ve, "echo on") == "on\n"
    # What was there before is deleted, of a VE that did not fill it.
    node.sh("web2", "rm /root/mine")
    node.job("POST", "/v1/ves/web2/stop", {"force": True})
    node.ok("DELETE", "/v1/ves/web1/snapshots/then")
    node.job("POST", "/v1/ves/web1/kill")
    node.job("POST", "/v1/ves/web1/start")
    node.sh("web1", "rm -r /root/names /root/big*")
    spare = os.path.join(node.pool("small"), ".spare")
    node.job("POST", "/v1/ves/web1/stop", {"force": True})
    wait_for(lambda: len([name for name in os.listdir(spare) if name.startswith("ballast")]) == 8)
    node.job("POST", "/v1/ves/web1/start")
    node.sh("web1", "dd if=/dev/zero of=/root/new bs=1M count=16 2>/dev/null")


def test_what_is_full_can_be_destroyed(node):
    for ve in ("web1", "web2"):
        node.ve(ve, pool="small")
    node.job("POST", "/v1/ves/web1/snapshots", {"name": "then"})
    fill(node, "web1")
    node.job("POST", "/v1/ves/web1/kill")
    if node.ok("GET", "/v1/pools/small")["driver"] == "btrfs":  # a copy that takes no space is a way out, too
        node.job("POST", "/v1/ves/web1/rollback", {"snapshot": "then"})
        assert node.ok("GET", "/v1/ves/web1/snapshots")[0]["current"]
    for ve in ("web1", "web2"):
        node.job("DELETE", f"/v1/ves/{ve}?force=true")
    free = node.ok("GET", "/v1/pools/small")["size"] // 2
    wait_for(lambda: node.ok("GET", "/v1/pools/small")["free"] > free)
