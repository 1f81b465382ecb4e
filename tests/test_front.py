# SPDX-License-Identifier: GPL-2.0-or-later
"""The front door: make run, make clean-run, make install, make uninstall."""
import json
import glob
import os
import re
import shutil
import subprocess
import tempfile
import urllib.request

import leftovers
from node import wait_for

DOCUMENT = r"\bdocs/([a-z/0-9-]+\.md)"
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def make(*words, check=True, timeout=900, **env):
    done = subprocess.run(["make", "--no-print-directory", *words], cwd=TOP, capture_output=True,
                          text=True, timeout=timeout, check=False, env={**os.environ, **env})
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def now(build, root):
    """Its templates, the first process of its VE, and what has ever been done."""
    def told(*words):
        return json.loads(subprocess.check_output([terem, "--root", root, *words, "--json"]))
    terem = os.path.join(build, "src/programs/terem/terem")
    return told("template", "list"), told("show", "web1")["pid"], told("jobs", "list", "--all")


def test_run_twice_and_clean(build):
    """A page from inside a VE; the second time nothing is made again; and then nothing is left."""
    before = leftovers.snapshot()
    root = tempfile.mkdtemp(prefix="terem-run-", dir="/tmp")
    os.rmdir(root)
    words = [f"RUN={root}", f"BUILD={build}"]
    try:
        text = make("run", *words).stdout
        assert "Welcome to nginx" in text and "make clean-run" in text
        address = re.search(r"its address +(http://\S+)", text)[1]
        # What the last lines say is true.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(address, timeout=10) as page:
            assert b"nginx" in page.read()
        command = re.search(r"run a command +(.* exec web1 -- ps ax)", text)[1]
        assert "nginx" in subprocess.run(command.split(), capture_output=True, text=True,
                                         check=True).stdout
        # A second address, which this machine does not reach.
        for join in ("create", "back"), ("join", "web1", "back"):
            subprocess.run([command.split()[0], "--root", root, "network", "private", *join], check=True)
        before_second = now(build, root)
        assert "Welcome to nginx" in make("run", *words).stdout
        assert now(build, root) == before_second
    finally:
        done = make("clean-run", *words, check=False)
    assert done.returncode == 0 and "still mounted" not in done.stderr, done
    assert not os.path.exists(root)
    assert "nothing to clean" in make("clean-run", *words).stdout

    def left():
        return {line for line in leftovers.snapshot() - before if root in line}
    wait_for(lambda: not left(), left)


def lead_somewhere(pages):
    """Links between documents."""
    for page in pages:
        with open(page, encoding="utf-8") as file:
            text = file.read()
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            assert "://" in link or os.path.exists(os.path.join(os.path.dirname(page), link)), (page, link)


def documents(dest, found):
    """Those that man pages, units and completion name."""
    told = set()
    for path in found:
        if not re.search(r"/doc/terem/|/s?bin/|/libexec/", path):
            with open(os.path.join(dest, path), encoding="utf-8") as file:
                told |= set(re.findall(DOCUMENT, file.read()))
    return told


def help_of(terem, *word):
    """Of one command, or of all; on one line."""
    words = [word] if word else [line.split() for line in subprocess.check_output(
        [terem, "_complete", "words"], text=True).splitlines()]
    return " ".join(" ".join(subprocess.run([terem, "help", *one], capture_output=True, text=True,
                                            check=True).stdout.split()) for one in words)


def test_install_and_uninstall(build):
    dest = tempfile.mkdtemp(prefix="terem-dest-", dir="/tmp")
    try:
        make("install", f"BUILD={build}", f"DESTDIR={dest}")
        found = {os.path.relpath(os.path.join(folder, name), dest)
                 for folder, _, names in os.walk(dest) for name in names}
        for ending in ("bin/terem", "sbin/teremd", "libexec/terem/terem-keep",
                       "libexec/terem/terem-init", "system/terem.service", "system/terem-ves.service",
                       "man1/terem.1", "man8/teremd.8", "bash-completion/completions/terem",
                       "site-functions/_terem", "vendor_completions.d/terem.fish"):
            assert any(path.endswith(ending) for path in found), ending
        unit = [path for path in found if path.endswith("system/terem.service")][0]
        with open(os.path.join(dest, unit), encoding="utf-8") as file:
            program = re.search(r"^ExecStart=(\S+)", file.read(), re.M)[1]
        assert os.path.exists(dest + program)
        terem = os.path.join(dest, [path for path in found if path.endswith("bin/terem")][0])
        assert "terem" in subprocess.check_output([terem, "--version"], text=True)
        told = documents(dest, found) | set(re.findall(DOCUMENT, help_of(terem)))
        assert {"density.md", "benchmarks.md", "api.md"} <= told
        folder = re.search(r"installed in (\S+)\.", help_of(terem, "density"))[1]
        assert not {name for name in told if not os.path.exists(f"{dest}{folder}/{name}")}
        lead_somewhere(glob.glob(f"{dest}{folder}/**/*.md", recursive=True))
        make("uninstall", f"BUILD={build}", f"DESTDIR={dest}")
        assert not [names for _, _, names in os.walk(dest) if names]
        assert not glob.glob(f"{dest}/**/terem", recursive=True)
    finally:
        shutil.rmtree(dest)


def test_documents_lead_somewhere(build):
    """Links between documents, and README's table: a row for each command, or for its group."""
    pages = glob.glob(os.path.join(TOP, "*.md")) + glob.glob(os.path.join(TOP, "docs/**/*.md"), recursive=True)
    lead_somewhere(pages)
    with open(os.path.join(TOP, "README.md"), encoding="utf-8") as file:
        named = set(re.findall(r"[a-z]+", " ".join(re.findall(r"`[^`]*`", file.read()))))
    words = subprocess.run([os.path.join(build, "src/programs/terem/terem"), "_complete", "words"], check=True,
                           capture_output=True, text=True).stdout.split()
    assert len(words) > 30 and not set(words) - named


def test_help_names_every_target():
    text = make("help").stdout
    for target in ("build", "run", "clean-run", "check", "unit", "system", "attack", "fuzz", "bench",
                   "sanitize", "format", "lint", "install", "uninstall", "clean"):
        assert re.search(rf"^  make {target} ", text, re.M), target
