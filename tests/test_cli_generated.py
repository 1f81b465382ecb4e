# SPDX-License-Identifier: GPL-2.0-or-later
"""Man pages and completion: written by the program, readable by their readers."""
import os
import re
import shutil
import subprocess

import pytest

from node import ENV

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


@pytest.fixture(scope="module")
def cli(build):
    return os.path.join(build, "src/programs/terem/terem")


@pytest.fixture(scope="module")
def pages(cli, tmp_path_factory):
    where = tmp_path_factory.mktemp("man")
    subprocess.run([cli, "_generate", "man", where], check=True, env=ENV)
    return where


def commands(cli):
    return subprocess.run([cli, "_complete", "commands"], check=True, env=ENV, text=True,
                          capture_output=True).stdout.splitlines()


def test_a_page_for_each_command(cli, pages):
    for command in commands(cli):
        page = pages / f"terem-{command.replace(' ', '-')}.1"
        assert page.read_text().startswith(".\\\""), command
    assert (pages / "terem.1").exists() and (pages / "terem-parameters.7").exists()


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_pages_are_clean(pages):
    for page in sorted(pages.iterdir()):
        done = subprocess.run(["groff", "-man", "-ww", "-Tutf8", "-z", page], capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0 and done.stderr == "", page.name


def test_conf_page_names_what_teremd_reads(pages):
    with open(os.path.join(TOP, "src/programs/teremd/settings.c"), encoding="utf-8") as source:
        rows = re.search(r"\} rows\[\] = \{(.*?)\n\};", source.read(), re.S).group(1)
    read = set(re.findall(r'\{"([a-z0-9.-]+)"', rows))
    page = (pages / "terem.conf.5").read_text().replace("\\-", "-")
    assert read and read == set(re.findall(r"^\\fB(\S+)\\fR$", page, re.M))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_parse(cli, shell):
    script = subprocess.run([cli, "_generate", "completion", shell], check=True, env=ENV,
                            capture_output=True, text=True).stdout
    assert "_complete" in script
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == ""


BASH = """
PATH=%s:$PATH
source /dev/stdin <<'SCRIPT'
%s
SCRIPT
complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _terem
    printf '%%s\\n' "${COMPREPLY[@]}"; }
complete_line "$@"
"""


def complete(cli, *words, **env):
    script = subprocess.run([cli, "_generate", "completion", "bash"], check=True, env=ENV,
                            capture_output=True, text=True).stdout
    done = subprocess.run(["bash", "-c", BASH % (os.path.dirname(cli), script), "-", *words],
                          capture_output=True, text=True, check=True, env={**ENV, **env})
    return done.stdout.split()


def test_bash_completes(shared, cli):
    if shared.api("GET", "/v1/ves/web1").status == 404:
        shared.ve("web1", start=False)
    assert complete(cli, "terem", "crea") == ["create"]
    assert "remove" in complete(cli, "terem", "template", "")
    assert complete(cli, "terem", "start", "--no-w") == ["--no-wait"]
    assert complete(cli, "terem", "create", "x", "--restart", "on") == ["on-failure"]
    assert complete(cli, "terem", "start", "w", TEREM_ROOT=shared.root) == ["web1"]
    assert complete(cli, "terem", "--root", shared.root, "exec", "") == ["web1"]
    assert complete(cli, "terem", "set", "web1", "memory.li") == ["memory.limit="]
    assert complete(cli, "terem", "--root", shared.root, "create", "x", "-t", "") == ["busybox"]
    assert complete(cli, "terem", "help", "te") == ["template"]
    assert complete(cli, "terem", "help", "template", "re") == ["remove"]
    shared.ok("PATCH", "/v1/ves/web1", {"labels": {"tier": "web", "x": "$(touch /tmp/terem-bad)"}})
    assert complete(cli, "terem", "start", "--label", "", TEREM_ROOT=shared.root) == ["tier=web"]
    assert not os.path.exists("/tmp/terem-bad")
