# SPDX-License-Identifier: GPL-2.0-or-later
"""The promise of tests/attack/promise without its times (those are measured by bench/bench): every
request is answered, every hostile neighbour's refusals are counted, the operator is answered."""
import importlib.machinery
import importlib.util
import os

HERE = os.path.dirname(os.path.abspath(__file__))
LOADER = importlib.machinery.SourceFileLoader("promise", os.path.join(HERE, "promise"))
promise = importlib.util.module_from_spec(importlib.util.spec_from_loader("promise", LOADER))
LOADER.exec_module(promise)


def test_the_promise(debian, tmp_path):
    program = promise.compile_program(str(tmp_path / "hostile"))
    try:
        found = promise.measure(debian, program, 8, 100)
    finally:
        for ve in debian.ok("GET", "/v1/ves"):
            debian.job("DELETE", f"/v1/ves/{ve['name']}?force=true")
    print(found)
    assert not promise.broken(found, timing=False), found
    assert found["operator_answers"] > 0
