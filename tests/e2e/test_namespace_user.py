#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job as a plain user, in a user namespace that maps one id (`unshare -Urn`)."""
import os
import shutil
import subprocess
import tempfile

import lab as e2e

NOBODY = 65534


def copy_tree(target):
    """What a plain user needs, where a plain user can read it."""
    for part in ("daemon/tailband", "client/tailban"):
        os.makedirs(os.path.join(target, "build", os.path.dirname(part)), exist_ok=True)
        shutil.copy(os.path.join(e2e.BUILD, part), os.path.join(target, "build", part))
    for part in ("filters", "actions", "etc", "tests/e2e"):
        source = os.path.join(e2e.SOURCE, part)
        if os.path.isdir(source):
            shutil.copytree(source, os.path.join(target, part),
                            ignore=shutil.ignore_patterns("__pycache__"))
    for home, _, files in os.walk(target):
        os.chown(home, NOBODY, NOBODY)
        os.chmod(home, 0o755)
        for name in files:
            os.chown(os.path.join(home, name), NOBODY, NOBODY)


def as_user(target):
    environment = dict(os.environ, E2E_SIZE="small", TMPDIR=target, HOME=target,
                       TAILBAN_BUILD=os.path.join(target, "build"), TAILBAN_DATADIR=target)
    argv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", e2e.PYTHON, "-B",
            os.path.join(target, "tests", "e2e", "test_main_job.py"), "silent_first"]
    return subprocess.run(argv, cwd=target, env=environment, text=True, check=False, timeout=200,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def plain_user(tap):
    """Every result of the short main job counts here as well."""
    name = "the main job as a plain user"
    if os.environ.get("E2E_USERNS"):
        tap.skip(name, "all tests run as a plain user already")
        return
    target = tempfile.mkdtemp(prefix=f"tailban-e2e-user-{os.getpid()}-")
    try:
        copy_tree(target)
        done = as_user(target)
    finally:
        shutil.rmtree(target, ignore_errors=True)
    if done.stdout.startswith("1..0 # SKIP"):
        tap.skip(name, done.stdout.split("SKIP", 1)[1].strip())
        return
    for line in done.stdout.splitlines():
        good = line.startswith("ok ")
        if good or line.startswith("not ok "):
            tap.ok(good, "as a plain user: " + line.partition(" - ")[2])
        else:
            tap.note(line.removeprefix("# "))
    tap.equal(done.returncode, 0, name)


if __name__ == "__main__":
    e2e.main(plain_user)
