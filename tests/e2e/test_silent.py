#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks that write nothing to the log: silent connections, unfinished requests, dripping.

Each on Flask's development server, which they kill without a defender (E2E_DEFENDER=nobody). In the
small size each attack once, in the full size from few and from many addresses, with both limits.
"""
import lab as e2e
import siege
from siege import EVERYONE, FEW, MANY, THIN, Attack

SMALL = (
    (Attack("silent", FEW), "flask", "defaults"),
    (Attack("silent", MANY, v6=True), "flask", "4s/6s"),
    (Attack("slow-header+slow-body", MANY), "flask", "defaults"),
    (Attack("drip-header+drip-body", MANY), "flask", "4s/6s"),
    (Attack("mixed", MANY, reconnect=True), "flask", "defaults"),
    (Attack("silent", EVERYONE), "flask", "defaults"),
)
PLAYS = ("silent", "slow-header", "slow-body", "drip-header", "drip-body", "mixed")


def full():
    for limits in siege.LIMITS:
        for addresses in (FEW, MANY):
            for play in PLAYS:
                yield Attack(play, addresses), "flask", limits
            for play in ("silent", "mixed"):
                yield Attack(play, addresses, reconnect=True), "flask", limits
        yield Attack("silent", MANY, v6=True), "flask", limits
        yield Attack("silent", THIN), "flask", limits
        yield Attack("silent", EVERYONE), "flask", limits
        yield Attack("mixed", EVERYONE), "flask", limits


if __name__ == "__main__":
    TABLE = full() if e2e.SCALE.name == "full" else SMALL
    e2e.main(*siege.rows(TABLE), seconds=2400, needs_daemon=siege.needs_daemon())
