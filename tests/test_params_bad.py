# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad values of every row, by the command line and by the API: one sentence that names the row,
and nothing half applied."""
import os

import pytest

from test_params import NEW, OLD, in_kernel

ANY = ["", " ", "-1", "-0", "1x", "nan", "inf", "0x10", "1e3", "+5", "99999999999999999999999999",
       "18446744073709551616", " 8", "8 ", "\u0661", "8;9", "unlimited:", ":8", "8:"]
BY_TYPE = {
    "size": ["1.0001", "0.3", "64Q", "64MM", "-5M", "1.5", "9000000P", "64M64M"],
    "count": ["1.5", "8.0", "8.5K", "8%"],
    "percent": ["0.001", "5%%", "10.125", "10GHz", "-10", "1000MHzz", ".5"],
    "time": ["5y", "1msms", "-5ms", "10 ms"],
    "switch": ["maybe", "1on", "ON ", "2"],
    "cores": ["1-0", "0-", "-1-2", "a", "0,,1", "0-1,exklusive", "exclusive", "1.5", "0-128",
              "100000"],
    "rate": ["64Q", "-5M", "5%", "1iops", "1.0001", "10MM"],
    "io": ["50M,50M", "iops", "-1iops", "1.5iops", "5iops,6iops", "50M,", "1000iop"],
}
PAIR = ["9:8", "a:b", "8:9:10", "unlimited:8", "-1:8"]


@pytest.fixture(scope="module")
def rows(shared):
    shared.ve("bad", start=False)
    return shared.ok("GET", "/v1/params")


def cases(row):
    values = ANY + BY_TYPE[row["type"]]
    if ":" in row["detail"] and ("soft:hard" in row["detail"] or "guarantee:" in row["detail"]):
        values = values + PAIR
    if not row["unlimited"]:
        values = values + ["unlimited"]
    return values


def one_sentence(text, key):
    assert text and "\n" not in text and len(text) < 500, text
    assert key.removesuffix("any") in text, (key, text)
    assert not any(word in text for word in ("(null)", "%s", "errno", "  ")), text


def test_every_row_by_the_api(shared, rows):
    for row in rows:
        key = row["key"].replace("CLASS", "any")
        for value in cases(row):
            answer = shared.api("PATCH", "/v1/ves/bad", {"params": {key: value}})
            assert answer.status in (400, 409, 422, 501, 507), (key, value, answer)
            assert answer.error in ("usage", "unsupported", "exhausted"), (key, value, answer)
            one_sentence(answer.json["error"]["message"], key)
        for value in (5, 1.5, True, [], {}):
            answer = shared.api("PATCH", "/v1/ves/bad", {"params": {key: value}})
            assert answer.error == "usage", (key, value, answer)
    assert shared.show("bad")["params"] == {}


def test_every_row_by_the_command_line(shared, rows):
    for row in rows:
        key = row["key"].replace("CLASS", "any")
        for value in cases(row)[::2]:
            said = shared.terem("set", "bad", f"{key}={value}", check=False)
            assert said.returncode in (1, 2) and not said.stdout, (key, value, said)
            assert said.stderr.startswith("terem: ") and said.stderr.count("\n") == 1, said
            one_sentence(said.stderr.strip(), key)
    assert shared.show("bad")["params"] == {}


def test_unknown_keys(shared, rows):
    for wrong, right in (("memory.limt", "memory.limit"), ("cpu.limits", "cpu.limit"),
                         ("proceses", "processes"), ("memory_limit", "memory.limit")):
        answer = shared.api("PATCH", "/v1/ves/bad", {"params": {wrong: "1"}})
        assert answer.error == "usage" and f"did you mean {right}?" in str(answer.body), answer
        said = shared.terem("set", "bad", f"{wrong}=1", check=False)
        assert said.returncode == 2 and f"did you mean {right}?" in said.stderr
        said = shared.terem("create", "none", "--set", f"{wrong}=1", check=False)
        assert said.returncode == 2 and f"did you mean {right}?" in said.stderr


def test_counters_cannot_be_set(shared, rows):
    for row in rows:
        if row["kind"] == "counter":
            answer = shared.api("PATCH", "/v1/ves/bad", {"params": {row["key"]: "1"}})
            assert answer.error == "usage" and row["key"] in str(answer.body), answer


@pytest.mark.parametrize("params", [
    {"cpu.guarantee": "20", "cpu.limit": "10"}, {"memory.soft": "2G", "memory.limit": "1G"},
    {"memory.guarantee": "2G", "memory.limit": "1G"}, {"memory.shared": "2G", "memory.limit": "1G"},
    {"cpu.burst": "50ms", "cpu.limit": "10"}])
def test_values_that_contradict_each_other(shared, rows, params):
    answer = shared.api("PATCH", "/v1/ves/bad", {"params": params})
    assert answer.error in ("usage", "unsupported"), answer
    assert list(params)[0] in answer.json["error"]["message"]
    assert shared.show("bad")["params"] == {}


def test_what_the_node_does_not_have(shared, rows):
    cores = os.cpu_count()
    for value in ("126-127", f"{cores}-{cores}", f"0,{cores}"):
        answer = shared.api("PATCH", "/v1/ves/bad", {"params": {"cpu.cores": value}})
        assert answer.status >= 400 and "cpu.cores" in str(answer.body), (value, answer)
    answer = shared.api("PATCH", "/v1/ves/bad", {"params": {"cpu.guarantee": "40000"}})
    assert answer.error == "exhausted" and "cannot guarantee 40000%" in str(answer.body)
    for row in rows:
        if row["here"] is not False:
            assert row["why_not"] is None
            continue
        assert row["why_not"] and "\n" not in row["why_not"], row
        value = row["minimum"] if row["minimum"] != row["default"] else row["maximum"]
        if row["type"] not in ("size", "count", "percent", "time"):
            continue
        answer = shared.api("PATCH", "/v1/ves/bad",
                            {"params": {row["key"].replace("CLASS", "any"): value}})
        assert answer.error in ("unsupported", "exhausted", "usage"), (row, value, answer)
    assert shared.show("bad")["params"] == {}


def test_params_tell_what_is_enforced_here(shared, rows):
    shown = {words[0]: words for words in
             (line.split() for line in shared.terem("params").stdout.splitlines()) if words}
    for row in rows:
        here = "partly" if row["partly"] else {True: "yes", False: "no", None: "-"}[row["here"]]
        assert shown[row["key"]][3] == here, row
        one = shared.terem("params", row["key"]).stdout
        if row["here"] is False:
            assert f"  here      no: {row['why_not']}" in one
            assert f"  {row['key']}: {row['why_not']}" in shared.terem("params").stdout
        if row["partly"]:
            assert row["here"] is True and f"  here      partly: {row['partly']}" in one
            assert f"  {row['key']}: {row['partly']}" in shared.terem("params").stdout
    lsm = next(c for c in shared.ok("GET", "/v1/doctor")["checks"] if c["name"] == "BPF LSM")
    partly = {r["key"] for r in rows if r["partly"]}
    assert partly == (set() if lsm["ok"] else {"files", "sockets.other"}), partly
    assert {r["key"]: r["here"] for r in rows}["processes"] is True


@pytest.mark.parametrize("key,value", [("cpu.weight", "0"), ("io.read", "x"), ("uptime", "1"),
                                       ("memory.limt", "1"), ("cpu.cores", "126-127"),
                                       ("memory.guarantee", "900T"), ("cpu.guarantee", "40000")])
def test_one_bad_among_good_changes_nothing(node, key, value):
    pid = node.ve("web1", params=OLD)["pid"]
    before = in_kernel(pid)
    mixed = {**NEW, "io.read": "50M", "connections": "1000", key: value}
    for method, path, body in (("PATCH", "/v1/ves/web1", {"params": mixed, "labels": {"a": "b"}}),
                               ("POST", "/v1/ves", {"name": "web2", "template": "busybox",
                                                    "params": mixed}),
                               ("PATCH", "/v1/profiles/small", {"params": mixed}),
                               ("POST", "/v1/profiles", {"name": "p", "params": mixed})):
        answer = node.api(method, path, body)
        if "profiles" in path and key in ("cpu.cores", "memory.guarantee", "cpu.guarantee"):
            continue  # what the node can give is asked for each VE that uses it
        assert answer.status >= 400, (method, path, answer)
    assert in_kernel(pid) == before
    ve = node.show("web1")
    assert ve["params"] == OLD and ve["labels"] == {}
    assert [v["name"] for v in node.ok("GET", "/v1/ves")] == ["web1"]
    said = node.terem("set", "web1", *[f"{k}={v}" for k, v in mixed.items()], check=False)
    assert said.returncode in (1, 2) and said.stderr.count("\n") == 1
    assert in_kernel(pid) == before
