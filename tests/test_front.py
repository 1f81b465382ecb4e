# SPDX-License-Identifier: GPL-2.0-or-later
"""The front door: make run, make clean-run, make install, make uninstall."""
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request

import leftovers

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def make(*words, check=True, timeout=900, **env):
    done = subprocess.run(["make", "--no-print-directory", *words], cwd=TOP, capture_output=True,
                          text=True, timeout=timeout, check=False, env={**os.environ, **env})
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def test_run_twice_and_clean(build):
    """A page from inside a VE; the second time at once; and then nothing is left."""
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
        at = time.monotonic()
        assert "Welcome to nginx" in make("run", *words).stdout
        assert time.monotonic() - at < 10
    finally:
        done = make("clean-run", *words, check=False)
    assert done.returncode == 0 and "still mounted" not in done.stderr, done
    assert not os.path.exists(root)
    assert "nothing to clean" in make("clean-run", *words).stdout
    for _ in range(50):
        left = {line for line in leftovers.snapshot() - before if root in line}
        if not left:
            break
        time.sleep(0.1)
    assert not left, left


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
        terem = [path for path in found if path.endswith("bin/terem")][0]
        done = subprocess.run([os.path.join(dest, terem), "--version"], capture_output=True,
                              text=True, check=True)
        assert "terem" in done.stdout
        make("uninstall", f"BUILD={build}", f"DESTDIR={dest}")
        assert not [names for _, _, names in os.walk(dest) if names]
    finally:
        shutil.rmtree(dest)


def test_help_names_every_target():
    text = make("help").stdout
    for target in ("build", "run", "clean-run", "check", "unit", "system", "attack", "fuzz", "bench",
                   "sanitize", "format", "lint", "install", "uninstall", "clean"):
        assert re.search(rf"^  make {target} ", text, re.M), target
