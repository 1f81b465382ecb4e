# SPDX-License-Identifier: GPL-2.0-or-later
"""GET /metrics: taken by promtool, told as counters and usage tell it, documented."""
import os
import re
import shutil
import subprocess

import pytest

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "metrics.md")
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


@pytest.fixture
def busy(shared):
    if shared.api("GET", "/v1/ves/counted").status == 404:
        shared.ve("counted", params={"memory.limit": "64M", "memory.soft": "32M",
                                     "processes": "20", "cpu.guarantee": "2.5"})
        shared.run("counted", "/bin/sh", "-c",
                   "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done", check=False)
    return shared


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (package prometheus) is missing")
def test_promtool_takes_it(busy):
    kind, text = scrape(busy)
    assert kind.startswith("text/plain; version=0.0.4")
    said = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                          capture_output=True, check=False)
    assert said.returncode == 0 and not said.stderr, said


def test_openmetrics(busy):
    kind, text = scrape(busy, "application/openmetrics-text; version=1.0.0")
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
    _, plain = scrape(busy)
    assert {key[0] for key in samples(text)} == {key[0] for key in samples(plain)}


def test_what_it_tells(busy):
    found = samples(scrape(busy)[1])
    ve = (("ve", "counted"),)
    assert found["terem_ves", (("state", "running"),)] == 1
    assert found["terem_jobs", (("state", "running"),)] == 0
    assert found["terem_ve_cpu_guarantee_cores", ve] == 0.025
    assert found["terem_node_cpu_guaranteed_cores", ()] == 0.025
    assert found["terem_node_cpu_cores", ()] == os.cpu_count()
    assert found["terem_ve_memory_bytes", ve] > 0 and found["terem_ve_cpu_seconds_total", ve] > 0
    assert found["terem_node_memory_limits_bytes", ()] == 64 << 20
    for row in busy.ok("GET", "/v1/ves/counted/counters"):
        labels = (("row", row["key"]), ("ve", "counted"))
        for member, name in (("held", "held"), ("maxheld", "maxheld"), ("barrier", "barrier"),
                             ("limit", "limit"), ("failcnt", "failcnt_total")):
            assert (row[member] is None) == (("terem_ve_resource_" + name, labels) not in found), \
                (row, name)
    failed = found.get(("terem_ve_resource_failcnt_total",
                        (("row", "processes"), ("ve", "counted"))))
    assert failed is None or failed > 0


def test_every_name_is_documented(busy):
    with open(DOCS, encoding="utf-8") as file:
        named = set(re.findall(r"`(terem_[a-z_]+)", file.read()))
    heads = set(re.findall(r"^# TYPE (\S+)", scrape(busy)[1], re.M))
    assert heads == named
