#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Attackers that the server has answered, at least with a byte, and who then do nothing more.

`Expect: 100-continue` and silence after the server's permission; a large answer that is never read;
one good request on a connection that is then kept. Flask's development server keeps no connection
alive, so the last is for gunicorn's threads and for uvicorn.
"""
import lab as e2e
import siege
from siege import EVERYONE, FEW, MANY, Attack

SMALL = (
    (Attack("expect+unread", MANY), "flask", "4s/6s"),
    (Attack("idle", FEW), "gthread", "defaults"),
    (Attack("idle", MANY), "uvicorn", "defaults"),
    (Attack("unread", EVERYONE), "uvicorn", "4s/6s"),
)
PAIRS = (("expect", "flask"), ("unread", "flask"), ("idle", "gthread"), ("expect", "uvicorn"),
         ("unread", "uvicorn"), ("idle", "uvicorn"))


def full():
    for limits in siege.LIMITS:
        for addresses in (FEW, MANY, EVERYONE):
            for play, kind in PAIRS:
                yield Attack(play, addresses), kind, limits


if __name__ == "__main__":
    TABLE = full() if e2e.SCALE.name == "full" else SMALL
    e2e.main(*siege.rows(TABLE), seconds=2400, needs_daemon=siege.needs_daemon())
