#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""The corpus test on mutated copies of the logs: no filter is fitted to the files.

Three fixed seeds and a random one, which is printed; MUTATION_SEED=n runs that one instead.
"""
import glob
import os
import random
import subprocess
import sys
import tempfile

import lab as e2e

CORPUS = os.path.join(e2e.SOURCE, "tests", "corpus")
JUDGE = os.path.join(e2e.BUILD, "tests", "unit", "test_corpus")
FIXED = (1, 2, 3)


def mutate(seed, directory):
    """Copies of all logs into `directory`; how many."""
    logs = sorted(glob.glob(os.path.join(CORPUS, "*.out")))
    for log in logs:
        subprocess.run([e2e.PYTHON, "-B", os.path.join(CORPUS, "mutate.py"), str(seed), log,
                        log[:-len(".out")] + ".tsv", directory], check=True)
    return len(logs)


def judge(directory):
    environment = dict(os.environ, CORPUS_DIR=directory, TAILBAN_DATADIR=e2e.SOURCE)
    environment.pop("CMOCKA_MESSAGE_OUTPUT", None)
    return subprocess.run([JUDGE], env=environment, check=False, text=True, errors="replace",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def mutations(tap):
    given = os.environ.get("MUTATION_SEED")
    seeds = (int(given),) if given else (*FIXED, random.randrange(1 << 31))
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="tailban-mutations-") as directory:
            count = mutate(seed, directory)
            done = judge(directory)
            said = [line[2:] for line in done.stdout.splitlines() if line.startswith("# ")]
            tap.ok(done.returncode == 0, f"{count} logs mutated with seed {seed}", done.stdout)
            tap.note(said[-1] if said else "nothing was said")


def main():
    e2e.must_exist(JUDGE)
    tap = e2e.Tap()
    mutations(tap)
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
