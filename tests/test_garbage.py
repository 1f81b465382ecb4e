# SPDX-License-Identifier: GPL-2.0-or-later
"""Layers that nobody stands on go, and no others: beside clients who make and remove templates and VEs,
after a kill -9, and when asked for."""
import os
import time

from node import PATIENCE, together, wait_for
from test_layers import begin_build, layers, script, small, trees  # noqa: F401, a fixture


def trash(node):
    """What waits to be deleted: in the directory of layers and in the pool."""
    pool = os.path.join(node.pool(), ".trash")
    return [name for name in layers(node) if name.startswith(".")] + \
        (os.listdir(pool) if os.path.exists(pool) else [])


def test_create_remove_prune(node, tmp_path):
    """Templates come and go, and so do VEs made from them, and layers are collected all the time:
    a VE that was made has its files."""
    node.template()
    sources = [small(tmp_path, i) for i in range(2)]
    begun, wrong, made = time.monotonic(), [], []

    def going():
        """Twelve seconds; on a slow machine as long as it takes to make some."""
        return time.monotonic() < begun + (12 if len(made) > 5 or wrong else PATIENCE)

    def rebuild():
        number = 0
        while going():
            number += 1
            node.api("POST", "/v1/templates?wait=true", {"name": "t", "import": sources[number % 2]})
            if number % 3 == 0:
                node.api("POST", "/v1/templates/t/update?wait=true")
            node.api("DELETE", "/v1/templates/t?force=true&wait=true")

    def prune():
        while going():
            answer = node.api("POST", "/v1/prune?wait=true")
            if answer.status != 200 and answer.error != "busy":
                wrong.append(answer)

    def use(who):
        number = 0
        while going():
            number += 1
            name = f"v{who}-{number}"
            answer = node.api("POST", "/v1/ves", {"name": name, "template": "t", "kind": "app",
                                                  "command": ["/none"]})
            if answer.status == 404:  # it is gone just now
                continue
            if answer.status != 201:
                wrong.append(answer)
                return
            made.append(name)
            pulled = node.api("GET", f"/v1/ves/{name}/files?path=/srv/which")
            listed = node.api("GET", f"/v1/ves/{name}/files?path=/srv")
            if pulled.body not in (b"0\n", b"1\n") or listed.body.count(b"x" * 1000) != 50:
                wrong.append((name, pulled, listed.status, node.show(name)["layers"], layers(node)))
            node.api("DELETE", f"/v1/ves/{name}?force=true&wait=true")

    together((rebuild,), (prune,), (use, 1), (use, 2))
    assert not wrong, wrong[0]
    assert len(made) > 5
    node.api("DELETE", "/v1/templates/t?wait=true")
    node.job("POST", "/v1/prune")
    wait_for(lambda: len(layers(node)) == 1 and trees(node) == [] and trash(node) == [],
             lambda: (layers(node), trees(node), trash(node)))


def test_one_in_use_is_not_removed(node, script):
    node.template()
    node.terem("template", "build", "mid", "--from", "busybox", "--run", script("echo 1 > /mid"))
    node.ve("web1", start=False)
    refused = node.terem("template", "remove", "busybox", check=False)
    assert refused.returncode == 1 and "VE web1, and template mid are made from it" in \
        refused.stderr and "--force" in refused.stderr
    for number in range(2, 8):
        node.ve(f"web{number}", template="mid", start=False)
    said = node.terem("template", "remove", "mid", check=False).stderr
    assert "VEs web2, web3, web4, web5, web6 and 1 more are made from" in said
    assert node.api("DELETE", "/v1/templates/mid").error == "state"
    node.terem("template", "remove", "busybox", "--force")
    node.terem("destroy", *(f"web{number}" for number in range(2, 8)))
    node.terem("template", "remove", "mid")
    assert node.json("template", "list") == []


def test_prune(node, script, tmp_path):
    node.template()
    assert node.terem("template", "prune").stdout == "nothing to delete: every layer is in use\n"
    node.terem("template", "import", "t", small(tmp_path, 1))
    node.ve("web1", template="t", start=False, kind="app", command=["/none"])
    node.terem("template", "remove", "t", "--force")
    assert node.json("template", "prune")["result"]["layers"] == 0 and len(layers(node)) == 2
    # While a template is being made nothing is taken away; and then it goes by itself.
    job = begin_build(node)
    node.terem("destroy", "web1")
    result = node.json("template", "prune")["result"]
    assert result["layers"] == 0 and result["waits_for"] == job
    node.api("DELETE", f"/v1/jobs/{job}?wait=true")
    wait_for(lambda: len(layers(node)) == 1 and not trash(node), lambda: layers(node))


def test_repair_keeps_its_layer(node):
    """The rescue system's layer is no template's: it stays as long as a VE stands on it."""
    node.template()
    node.ve("web1", start=False)
    node.ve("web2", start=False)
    node.terem("repair", "web1")
    node.job("DELETE", "/v1/templates/busybox?force=true")
    node.job("POST", "/v1/prune")
    assert node.sh("web1", "ls /repair/bin/busybox; ls /template/bin/busybox") == \
        "/repair/bin/busybox\n/template/bin/busybox\n"
    node.kill()
    node.start()
    node.job("POST", "/v1/prune")
    assert node.sh("web1", "ls /template/bin/busybox") == "/template/bin/busybox\n"


def test_half_deleted(node, tmp_path):
    """Killed while it deletes, what is left goes after the next start."""
    node.template()
    for i in range(6):
        node.job("POST", "/v1/templates", {"name": "t", "import": small(tmp_path, i)})
        node.ve("web1", template="t", start=False, kind="app", command=["/none"])
        node.ok("PUT", "/v1/ves/web1/files?path=/mine", b"x" * 100000,
                headers={"Content-Type": "application/octet-stream"})
        node.api("DELETE", "/v1/ves/web1")
        node.api("DELETE", "/v1/templates/t?force=true")
        time.sleep(0.01 * i)
        node.kill()
        node.start()
        if node.api("GET", "/v1/ves/web1").status == 200:
            node.job("DELETE", "/v1/ves/web1")
        if node.api("GET", "/v1/templates/t").status == 200:
            node.job("DELETE", "/v1/templates/t")
        wait_for(lambda: not trash(node) and len(layers(node)) == 1, lambda: (trash(node), layers(node)))
        assert trees(node) == []
