#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks that write nothing to the log, against nobody, fail2ban, a shell loop and tailban.

    held.py [--json FILE] [--only WORD] [--defenders KEY,KEY]

A row is an attack of tests/e2e at its full size (E2E_SIZE=small: the size of `make check`), a cell
one siege of 22 s: answers of the normal client, the highest and the last number of descriptors, how
many of the attackers are banned, and honest addresses that are. With --only just the rows whose
text holds the word. fail2ban is Debian's, with `ss -K` as a second action, as in compare.py.
README.md says more.
"""
import argparse
import json
import os
import sys
import time

os.environ.setdefault("E2E_SIZE", "full")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import compare  # noqa: E402  pylint: disable=wrong-import-position
import lab as e2e  # noqa: E402  pylint: disable=wrong-import-position
import siege  # noqa: E402  pylint: disable=wrong-import-position
import test_innocents  # noqa: E402  pylint: disable=wrong-import-position
from siege import (  # noqa: E402  pylint: disable=wrong-import-position
    EVERYONE, FEW, MANY, THIN, Attack)


class Fail2ban(siege.Nobody):
    """fail2ban with a second action that kills; it reads the log, of which there is none here."""
    key = "fail2ban"
    title = "fail2ban + `ss -K`"

    def __init__(self, lab, log, limits="", kind="flask"):
        super().__init__(lab, log, limits, kind)
        self.inner = compare.Fail2banKill(lab, log)

    def start(self):
        self.inner.start()
        return self

    def sets(self):
        found = {}
        for elements in self.lab.sets("f2b-table").values():
            found.update(elements)
        return {"ban4": found}

    def pids(self):
        return self.inner.pids()

    def alive(self):
        return self.inner.ready()

    def stop(self):
        self.inner.stop()


DEFENDERS = {kind.key: kind for kind in (siege.Nobody, Fail2ban, siege.Loop, siege.Tailban)}

ROWS = (
    (Attack("silent", FEW), "flask"),
    (Attack("silent", MANY), "flask"),
    (Attack("silent", MANY, v6=True), "flask"),
    (Attack("silent", THIN), "flask"),
    (Attack("silent", EVERYONE), "flask"),
    (Attack("slow-header", MANY), "flask"),
    (Attack("slow-body", MANY), "flask"),
    (Attack("drip-header+drip-body", MANY), "flask"),
    (Attack("mixed", MANY, reconnect=True), "flask"),
    (Attack("expect", MANY), "flask"),
    (Attack("unread", MANY), "flask"),
    (Attack("idle", MANY), "gthread"),
    (Attack("idle", MANY), "uvicorn"),
    (Attack("idle", EVERYONE), "uvicorn"),
)
CROWD_ROW = "250 honest clients, 20 of them in one office, beside attacks"


def with_crowd(guard):
    """The honest crowd for a while; the figures of both."""
    result, outcome = test_innocents.beside("flask", "defaults", 70, test_innocents.WAVES, 22.0,
                                            guard)
    result["cut"] = outcome["cut"]
    result["crowd"] = outcome
    return result


def cell(result):
    full = "" if result["full_s"] is None else f", full after {result['full_s']:.1f} s"
    text = (f"{result['answered']} of {result['asked']}; {result['peak']} / {result['end']}{full}; "
            f"{result['banned']} of {result['attackers']}; {len(result['strangers'])}")
    if "cut" in result:
        text += f", {result['cut']} cut"
    return text


def measure(wanted, kinds):
    """{row: {defender: figures}}"""
    table = {}
    plan = [(f"{attack}, {kind}", lambda guard, attack=attack, kind=kind:
             siege.besiege(attack, kind, guard)) for attack, kind in ROWS]
    plan.append((CROWD_ROW, with_crowd))
    for name, run in plan:
        if wanted not in name:
            continue
        table[name] = {}
        for guard in kinds:
            begin = time.monotonic()
            table[name][guard.key] = run(guard)
            compare.say(f"{name}, {guard.key}: {cell(table[name][guard.key])} "
                        f"({time.monotonic() - begin:.0f} s)")
    return table


def report(table, kinds):
    print(f"Answers; descriptors at most / at the end (limit {e2e.SCALE.nofile}); attackers "
          "banned; honest addresses banned\n")
    print("| | " + " | ".join(kind.title for kind in kinds) + " |")
    print("|---" * (len(kinds) + 1) + "|")
    for name, results in table.items():
        print(f"| {name} | " + " | ".join(cell(results[kind.key]) for kind in kinds) + " |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--defenders", default=",".join(DEFENDERS), metavar="KEYS")
    args = parser.parse_args()
    unknown = set(args.defenders.split(",")) - set(DEFENDERS)
    if unknown:
        parser.error(f"a defender is {', '.join(DEFENDERS)}")
    kinds = [DEFENDERS[key] for key in args.defenders.split(",")]
    reason = compare.prepare()
    if reason:
        sys.exit(f"held.py: {reason}")
    e2e.take_turn()
    try:
        table = measure(args.only, kinds)
    except e2e.LabError as problem:
        sys.exit(f"held.py: {problem}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump(table, out, indent=1)
            out.write("\n")
    report(table, kinds)


if __name__ == "__main__":
    main()
