# SPDX-License-Identifier: GPL-2.0-or-later
"""terem density: where the memory of VEs goes, told by who uses it."""
import os

from node import at_rest, wait_for

MB = 1 << 20


def of(node, name):
    [ve] = [one for one in node.ok("GET", "/v1/density")["ves"] if one["name"] == name]
    return ve


def test_each_kind_of_memory_is_where_it_belongs(node):
    node.ve("quiet")
    node.ve("busy")
    at_rest(lambda: of(node, "busy")["processes"]["count"])
    before = of(node, "busy")
    # 24 MB of a process's own, held as the value of a shell's variable, and 16 MB of a file in memory.
    node.sh("busy", "dd if=/dev/zero of=/dev/shm/block bs=1M count=16 2>/dev/null")
    node.sh("busy", "(x=$(head -c 25165824 /dev/zero | tr '\\0' x); : >/tmp/held; sleep 1000; echo $x) "
            ">/dev/null 2>&1 </dev/null &")
    wait_for(lambda: node.run("busy", "test", "-e", "/tmp/held", check=False)["exit"] == 0)
    wait_for(lambda: of(node, "busy")["processes"]["count"] == before["processes"]["count"] + 2)  # and its sleep
    after, quiet = of(node, "busy"), of(node, "quiet")
    assert after["processes"]["anonymous"] - before["processes"]["anonymous"] >= 24 * MB
    assert after["shared"] - before["shared"] >= 15 * MB  # the kernel adds it up now and then
    assert quiet["processes"]["anonymous"] < 8 * MB and quiet["shared"] < MB
    kernel = after["kernel"] if after["kernel"] is not None else after["stacks"] + after["tables"]
    assert after["total"] == sum((after["processes"]["anonymous"], after["processes"]["mapped"],
                                  after["shared"], kernel))
    for ve in after, quiet:
        assert ve["stacks"] >= 4096 * ve["processes"]["count"] and ve["tables"] >= 4096
        assert ve["mounts"] >= 5 and 4 <= ve["superblocks"] < ve["mounts"]
        own = [path for path in node.cgroups() if path.endswith(f"/ve-{node.show(ve['name'])['id']}")]
        assert ve["cgroups"] == len(own)
        if ve["kernel"] is not None:  # a controller counts it
            assert ve["slab"] > 0 and ve["stacks"] + ve["tables"] + ve["slab"] <= ve["kernel"] + MB


def test_what_the_command_says(node):
    node.template("busybox")
    assert node.terem("density").stdout.splitlines()[1].startswith("The node's programs: teremd ")
    for name in "a1", "a2":
        node.ve(name)
    node.ve("stopped", start=False)
    document = node.json("density")
    assert sorted(ve["name"] for ve in document["ves"]) == ["a1", "a2"]
    programs = {one["name"]: one["memory"] for one in document["programs"]}
    assert {"teremd", "terem-keep"} <= set(programs) and programs["teremd"] > MB
    assert document["machine"]["slab"] > 0
    lines = node.terem("density").stdout.splitlines()
    assert lines[0].split()[:4] == ["VE", "(KB)", "TOTAL", "OWN"]
    assert [line.split()[0] for line in lines[1:3]] == ["average", "sum"]
    assert {line.split()[0] for line in lines[3:5]} == {"a1", "a2"}
    total = float(lines[1].split()[1])
    assert abs(2 * total - float(lines[2].split()[1])) < 0.3
    assert "teremd" in lines[5] and "for each VE that runs" in lines[5]
    parts = dict(line.split()[-2:] for line in node.terem("density", "a2").stdout.splitlines())
    assert parts["(KB)"] == "a2" and float(parts["TOTAL"]) > 0 and int(parts["MOUNTS"]) >= 5
    assert node.json("density", "stopped")["ves"] == []
    node.terem("set", "a1", "--label", "tier=web")
    assert [ve["name"] for ve in node.json("density", "--label", "tier=web")["ves"]] == ["a1"]
    assert "teremd" not in node.terem("density", "-l", "tier=web").stdout
    assert len(node.terem("density", "-l", "tier=no").stdout.splitlines()) == 1
    assert "not both" in node.terem("density", "a1", "-l", "tier=web", check=False).stderr
    refused = node.terem("density", "stopped", check=False)
    assert refused.returncode == 1 and "stopped: " in refused.stderr and "does not run; start it" in refused.stderr
    assert refused.stdout == ""
    refused = node.terem("density", "nobody", check=False)
    assert refused.returncode == 1 and "nobody" in refused.stderr
    assert node.api("GET", "/v1/density?ve=nobody").error == "not-found"


def test_no_descriptor_stays_open(node):
    node.ve("a1")

    def count():
        return len(os.listdir(f"/proc/{node.daemon.pid}/fd"))
    node.ok("GET", "/v1/density")
    before = count()
    for _ in range(50):
        node.ok("GET", "/v1/density")
    wait_for(lambda: count() <= before)
