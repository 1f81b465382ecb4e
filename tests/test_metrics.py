# SPDX-License-Identifier: GPL-2.0-or-later
"""GET /metrics: taken by promtool, told as counters and usage tell it, documented."""
import os
import re
import shutil

import pytest

from metrics import check_counters, check_openmetrics, check_promtool, samples, scrape

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "metrics.md")


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
    check_promtool(text)


def test_openmetrics(busy):
    check_openmetrics(busy)


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
    check_counters(busy, "counted", found)
    assert found["terem_ve_resource_failcnt_total",
                 (("row", "processes"), ("ve", "counted"))] > 0


def test_every_name_is_documented(busy):
    with open(DOCS, encoding="utf-8") as file:
        named = set(re.findall(r"`(terem_[a-z_]+)", file.read()))
    heads = set(re.findall(r"^# TYPE (\S+)", scrape(busy)[1], re.M))
    assert heads == named


def test_every_state_is_told_and_documented(busy):
    states = busy.ok("GET", "/v1/openapi.json")["components"]["schemas"]["Ve"]["properties"]["state"]["enum"]
    with open(DOCS, encoding="utf-8") as file:
        row = re.search(r"`terem_ves\{state\}` \| gauge \| VEs that are (.*) \|", file.read())[1]
    told = [dict(labels)["state"] for name, labels in samples(scrape(busy)[1]) if name == "terem_ves"]
    assert sorted(row.split(", ")) == sorted(told) == sorted(states)
