# SPDX-License-Identifier: GPL-2.0-or-later
"""Man pages and completion: written by the program, readable by their readers."""
import glob
import json
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


def test_a_command_that_is_a_group(cli, pages):
    page = (pages / "terem-backup.1").read_text().replace("\\-", "-")
    assert "--since" in page and "--resume" in page and ".SH OPTIONS" in page
    assert "terem-backup-verify (1)" in page and "terem-backup-show (1)" in page
    for words in ["help", "backup"], ["backup", "--help"]:
        text = subprocess.run([cli, *words], check=True, env=ENV, text=True,
                              capture_output=True).stdout
        assert "--since" in text and "backup verify" in text


def test_help_of_every_command(cli):
    for command in commands(cli):
        text = subprocess.run([cli, "help", *command.split()], check=True, env=ENV, text=True,
                              capture_output=True).stdout
        assert f"Usage: terem {command} " in text
        assert not [line for line in text.splitlines() if len(line) > 80], command


def test_help_as_json(cli):
    def said(*words):
        return json.loads(subprocess.run([cli, *words, "--json"], check=True, env=ENV, text=True,
                                         stdout=subprocess.PIPE).stdout)
    assert [command["name"] for command in said("help")] == commands(cli)
    assert all(command["name"].startswith("pool ") for command in said("help", "pool"))
    assert {"name": "label", "letter": "l", "value": "K=V", "summary": "only VEs that have this label"} \
        in said("list", "--help")["options"]


def test_help_stands_in_columns(cli):
    for words in (), ("network",), ("snapshot",):
        text = subprocess.run([cli, "help", *words], check=True, env=ENV, text=True,
                              capture_output=True).stdout
        rows = [line for line in text.splitlines() if re.match(r"  [a-z]", line)]
        assert len({re.match(r"  [a-z]+( [a-z]+)*  +", row).end() for row in rows}) == 1, text
        assert max(map(len, text.splitlines())) <= 80, text


def test_help_stands_under_headings(cli, pages):
    under, heading = {}, None
    for line in subprocess.run([cli, "help"], check=True, env=ENV, text=True,
                               capture_output=True).stdout.splitlines():
        if re.fullmatch(r"[A-Z][^:]*:", line):
            heading = line[:-1]
            under[heading] = []
        elif row := re.match(r"  ([a-z]+(?: [a-z]+)*)  ", line):
            under[heading].append(row[1])
    assert under.pop("Options of every command") == []
    assert sum(under.values(), []) == commands(cli)
    assert all(under.values()) and len(under) > 8 and max(map(len, under.values())) < 30
    assert "backup" in under["Snapshots and backups"] and "doctor" in under["The node"]
    assert re.findall(r"^\.SS (.*)$", (pages / "terem.1").read_text(), re.M) == list(under)


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_pages_are_clean(pages):
    written = [os.path.join(TOP, "docs/man", name) for name in os.listdir(os.path.join(TOP, "docs/man"))]
    for page in [*sorted(pages.iterdir()), *written]:
        done = subprocess.run(["groff", "-mandoc", "-ww", "-Tutf8", "-z", page], capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0 and done.stderr == "", page


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
COMP_LINE=$1
shift
complete_line "$@"
"""


def complete(cli, *words, **env):
    return typed(cli, " ".join(words), *words, **env)


def typed(cli, line, *words, **env):
    """What completes the last of the words, into which bash has divided the line."""
    script = subprocess.run([cli, "_generate", "completion", "bash"], check=True, env=ENV,
                            capture_output=True, text=True).stdout
    done = subprocess.run(["bash", "-c", BASH % (os.path.dirname(cli), script), "-", line, *words],
                          capture_output=True, text=True, check=True, env={**ENV, **env})
    return done.stdout.split()


def test_bash_completes(shared, cli):
    if shared.api("GET", "/v1/ves/web1").status == 404:
        shared.ve("web1", start=False)
    assert complete(cli, "terem", "crea") == ["create"]
    assert "remove" in complete(cli, "terem", "template", "")
    assert complete(cli, "terem", "start", "--no-w") == ["--no-wait"]
    assert complete(cli, "terem", "create", "x", "--restart", "on") == ["on-failure"]
    assert complete(cli, "terem", "list", "--state", "st") == ["stopped", "starting", "stopping"]
    assert complete(cli, "terem", "start", "w", TEREM_ROOT=shared.root) == ["web1"]
    assert complete(cli, "terem", "--root", shared.root, "exec", "") == ["web1"]
    assert complete(cli, "terem", "set", "web1", "memory.li") == ["memory.limit="]
    for which in ["--all"], ["-a"], ["--select", "tier=web"], ["--select=tier=web"], ["-s", "tier=web"]:
        assert complete(cli, "terem", "set", *which, "memory.li") == ["memory.limit="], which
    assert complete(cli, "terem", "set", "--all", "web1", "memory.li") == ["memory.limit="]
    assert "labels" in complete(cli, "terem", "list", "--columns", "")
    assert complete(cli, "terem", "--root", shared.root, "create", "x", "-t", "") == ["busybox"]
    assert complete(cli, "terem", "backup", "", TEREM_ROOT=shared.root) == ["web1", "verify", "show"]
    assert "--since" in complete(cli, "terem", "backup", "--")
    assert complete(cli, "terem", "backup", "web1", "--snap") == ["--snapshot"]
    assert complete(cli, "terem", "backup", "verify", "/etc/host")[0].startswith("/etc/host")
    assert complete(cli, "terem", "help", "te") == ["template"]
    assert complete(cli, "terem", "help", "template", "re") == ["remove"]
    # What can be set here, with the classes there are; of params, all.
    there = {"TEREM_ROOT": shared.root}
    shared.ok("PATCH", "/v1/network/classes/europe", {"add": ["192.0.2.0/24"]})
    offered = complete(cli, "terem", "set", "web1", "net.out.", **there)
    here = {row["key"] for row in shared.ok("GET", "/v1/params") if row["here"]}
    assert sorted(offered) == (["net.out.any=", "net.out.europe=", "net.out.local="]
                               if "net.out.CLASS" in here else [])
    assert len(here) > 20 and "disk.users" not in here
    assert complete(cli, "terem", "set", "web1", "disk.us", **there) == []
    assert complete(cli, "terem", "params", "disk.us", **there) == ["disk.users"]
    assert complete(cli, "terem", "pool", "move", "", **there) == ["web1"]
    assert complete(cli, "terem", "pool", "move", "web1", "", **there) == ["default", "web1"]
    shared.ok("PATCH", "/v1/ves/web1", {"labels": {"tier": "web", "x": "$(touch /tmp/terem-bad)"}})
    assert complete(cli, "terem", "start", "--label", "", TEREM_ROOT=shared.root) == ["tier=web"]
    assert not os.path.exists("/tmp/terem-bad")
    assert complete(cli, "terem", "template", "build", "b") == ["busybox"]
    assert complete(cli, "terem", "events", "--type", "snapshot.d") == ["snapshot.deleted"]


def test_every_type_of_event_is_named(shared, cli):
    """What teremd tells, the document, what --type takes and its help are one and the same."""
    schema = shared.ok("GET", "/v1/openapi.json")["components"]["schemas"]["Event"]["properties"]["type"]
    types = set(schema["description"].split(", "))
    groups = {kind.split(".")[0] for kind in types}
    told = {"job"}
    for path in [*glob.glob(os.path.join(TOP, "src/ve/*.c")), os.path.join(TOP, "src/api/feed.c")]:
        with open(path, encoding="utf-8") as file:
            source = file.read()
        told |= set(re.findall(rf'"((?:{"|".join(groups)})\.[a-z_-]+)"', source))
        # Of a group that nobody knows yet.
        told |= set(re.findall(r'"type",\s*"([a-z-]+\.[a-z_-]+)"', source))
    assert told == types
    offered = complete(cli, "terem", "events", "--type", "")
    assert set(offered) == types | groups and len(offered) == len(set(offered))
    text = subprocess.run([cli, "help", "events"], check=True, env=ENV, text=True, capture_output=True).stdout
    assert set(offered) <= set(text.replace(".\n", "\n").split())


def test_a_type_of_event_that_there_is_not(shared):
    for given, says in ("ve.stat", "did you mean ve.state?"), ("snapshots", "did you mean snapshot?"), \
            ("v", "did you mean ve?"), ("nonsense", "terem help events lists them"):
        done = shared.terem("events", "--type", given, check=False, timeout=60)
        assert done.returncode == 2 and says in done.stderr, (given, done.stderr)


def test_bash_divides_at_colons_and_equal_signs(shared, cli):
    """What stands behind the last of them is replaced, and so is what completes it."""
    if shared.api("GET", "/v1/ves/web1").status == 404:
        shared.ve("web1", start=False)
    there = {"TEREM_ROOT": shared.root}
    for port in (47080, 47443):
        shared.ok("POST", "/v1/network/ports", {"ve": "web1", "protocol": "tcp", "port": port, "to": 80})
    try:
        assert typed(cli, "terem unpublish t", "terem", "unpublish", "t", **there) == ["tcp:47080", "tcp:47443"]
        assert typed(cli, "terem unpublish tcp:", "terem", "unpublish", "tcp", ":", **there) == ["47080", "47443"]
        assert typed(cli, "terem unpublish tcp:474", "terem", "unpublish", "tcp", ":", "474", **there) == ["47443"]
    finally:
        for port in (47080, 47443):
            shared.ok("DELETE", f"/v1/network/ports/tcp:{port}")
    line = "terem create x --restart=on"
    assert typed(cli, line, "terem", "create", "x", "--restart", "=", "on") == ["on-failure"]
    # A value is no word of the command: what follows is still its first one.
    line = "terem start --label=a=b w"
    assert typed(cli, line, "terem", "start", "--label", "=", "a", "=", "b", "w", **there) == ["web1"]
