#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Other servers than Flask's own under attack from few addresses.

uvicorn ends at its descriptors, so it stays up (in the small size test_kept.py shows it). The
others stop serving long before the descriptors are full, for reasons of their own (servers.py says
them): there the attack is over as soon as it can be told, when `silent` or `unanswered` has passed,
and the service is back with every holder banned.
"""
import lab as e2e
import servers
import siege
from lab import SCALE
from siege import FEW, Attack

EARLY = ("sync", "gthread", "uwsgi", "waitress")
LAST_PROBES = 2
SMALL = (("silent", "sync"), ("slow-header", "gthread"), ("silent", "uwsgi"),
         ("slow-body", "waitress"))
PLAYS = ("silent", "slow-header", "slow-body", "expect", "unread", "mixed")


def judge_late(tap, name, result):
    """Back before the end, every holder banned, nobody else."""
    asked, lost = result["asked"], result["lost"]
    back = asked - len(lost) >= LAST_PROBES and all(when < result["seconds"] - 1.0 -
                                                    LAST_PROBES / 2 for when in lost)
    tap.ok(back, f"{name}: the last {LAST_PROBES} probes are answered", lost)
    tap.ok(result["peak"] < siege.PEAK * result["limit"] or "gthread" in name,
           f"{name}: at most {result['peak']} of {result['limit']} descriptors")
    tap.equal(result["strangers"], [], f"{name}: no innocent is banned")
    tap.ok(result["alive"], f"{name}: the defender lives")
    if "slow" in name and "waitress" in name:  # undecidable, see siege.py
        tap.equal(result["banned"], 0, f"{name}: nobody is banned for what cannot be told")
        return
    tap.ok(result["end"] <= result["idle"] + siege.CLOSE,
           f"{name}: {result['end']} descriptors at the end (idle {result['idle']})")
    tap.equal(result["banned"], result["attackers"], f"{name}: every holder is banned")


def row(play, kind, limits):
    def test(tap):
        siege.run_case(tap, Attack(play, FEW), kind, limits,
                       judges=judge_late if kind in EARLY else None,
                       seconds=SCALE.seconds + (25 if limits == "defaults" else 0))
    test.__name__ = f"{play}_{kind}_{limits}".replace("-", "_")
    test.__doc__ = f"{play} on {kind}, limits {limits}"
    return test


def tests():
    if SCALE.name != "full":
        return [row(play, kind, "4s/6s") for play, kind in SMALL]
    return [row(play, kind, limits) for limits in siege.LIMITS for kind in servers.KINDS
            if kind != "flask" for play in PLAYS]


if __name__ == "__main__":
    e2e.main(*tests(), seconds=5400, needs_daemon=siege.needs_daemon())
