# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading GET /metrics."""
import re
import subprocess

SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\\]|\\\\.)*",?)+)\})? (\S+)$')


def scrape(node, accept=None):
    answer = node.api("GET", "/metrics", headers={"Accept": accept} if accept else {})
    assert answer.status == 200
    return answer.headers["Content-Type"], answer.body.decode()


def samples(text):
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = SAMPLE.match(line).groups()
        labels = tuple(sorted(re.findall(r'([a-z]+)="([^"]*)"', labels or "")))
        assert (name, labels) not in found, line
        found[name, labels] = float(value)
    return found


def check_promtool(text):
    said = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                          capture_output=True, check=False)
    assert said.returncode == 0 and not said.stderr, said


def check_openmetrics(node):
    """Families have heads, samples stand below them, and both formats tell the same."""
    kind, text = scrape(node, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n") and text.count("# EOF") == 1
    types, family = {}, None
    for line in text.splitlines()[:-1]:
        word = line.split(" ")
        if word[0] == "#":
            if word[1] == "TYPE":
                assert word[2] not in types
                family = word[2]
                types[family] = word[3]
            assert word[2] == family
            if word[1] == "UNIT":
                assert family.endswith("_" + word[3])
        else:  # samples stand below the head of their family
            name = SAMPLE.match(line).group(1)
            assert name == family + ("_total" if types[family] == "counter" else ""), line
    _, plain = scrape(node)
    assert {key[0] for key in samples(text)} == {key[0] for key in samples(plain)}


def check_counters(node, ve, found):
    """What is counted of a VE is told, and nothing else."""
    for row in node.ok("GET", f"/v1/ves/{ve}/counters"):
        labels = (("row", row["key"]), ("ve", ve))
        for member, name in (("held", "held"), ("maxheld", "maxheld"), ("barrier", "barrier"),
                             ("limit", "limit"), ("failcnt", "failcnt_total")):
            assert (row[member] is None) == (("terem_ve_resource_" + name, labels) not in found), \
                (row, name)
