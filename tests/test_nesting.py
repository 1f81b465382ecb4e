# SPDX-License-Identifier: GPL-2.0-or-later
"""A container engine inside a VE: podman of Debian, as root of the VE, with an image made there."""
import pytest

from conftest import serve

# Overlay over overlay is not supported by podman; its files are copies.
STORAGE = """[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""
IMAGE = """set -e
mkdir -p /root/image/bin
cp /bin/busybox /root/image/bin/
for name in sh id cat httpd sleep; do ln -sf busybox /root/image/bin/$name; done
tar -C /root/image -c . | podman import --quiet - localhost/box
podman image exists localhost/box
"""


@pytest.fixture(name="nest", scope="module")
def nest_node(build):
    """A VE with podman and an image of busybox alone; no registry is asked."""
    serving = serve(build)
    node = next(serving)
    try:
        node.job("POST", "/v1/templates",
                 {"name": "podman", "build": "debian-12", "include": ["podman", "busybox-static"]}, timeout=900)
        node.ve("nest", template="podman", nesting=True)
        node.settled("nest")
        # Within a quarter of an hour of a first boot it removes images that have no name yet.
        node.sh("nest", "systemctl mask --now podman-auto-update.timer podman-auto-update.service", timeout=300)
        node.run("nest", "/bin/sh", "-c", "mkdir -p /etc/containers; cat >/etc/containers/storage.conf",
                 stdin=STORAGE)
        node.sh("nest", IMAGE, timeout=300)
        # Where the kernel has no controller of version 2 to delegate, podman must not want one.
        node.pids = "" if "pids" in node.sh("nest", "cat /sys/fs/cgroup/cgroup.controllers") else \
            "--pids-limit=0"
        yield node
    finally:
        next(serving, None)


def podman(node, command):
    return node.sh("nest", f"podman {command} 2>&1", timeout=300).strip()


def test_a_container_runs(nest):
    out = podman(nest, f"run --rm {nest.pids} localhost/box /bin/sh -c 'id -u; cat /proc/1/comm; true'")
    assert out.split() == ["0", "sh"], out
    assert podman(nest, "ps -aq") == ""


def test_a_service_in_a_container(nest):
    """In the background, with a network of its own and a port of the VE's; entered, and stopped."""
    podman(nest, f"run -d --name web {nest.pids} -p 8080:80 localhost/box /bin/sh -c "
                 "'mkdir -p /www; echo served >/www/index.html; exec httpd -f -p 80 -h /www'")
    try:
        address = podman(nest, "inspect web --format '{{.NetworkSettings.IPAddress}}'")
        for at in (f"{address}:80", "127.0.0.1:8080"):
            assert nest.sh("nest", f"for i in $(seq 60); do busybox wget -q -O - http://{at}/ && exit; "
                                   "sleep 1; done; exit 1") == "served\n", at
        assert podman(nest, "exec web cat /www/index.html") == "served"
    finally:
        podman(nest, "rm -f -t 0 web")
    assert podman(nest, "ps -aq") == ""


def test_nothing_of_it_leaves_the_ve(nest):
    """Its mounts, processes and interfaces go with the VE."""
    podman(nest, f"run -d {nest.pids} localhost/box sleep 1000")
    nest.job("POST", "/v1/ves/nest/kill")
    assert not nest.odd_mounts()
    nest.wait_no_interfaces()
    assert not [words for _, words in nest.processes() if "sleep 1000" in words]
