#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Honest people whose connections look like an attacker's, beside attacks: none cut, none banned.

Keep-alive pools, websockets, server-sent events, slow handlers, an upload of a byte a second,
browsers with a spare connection that stays silent (an office of twenty behind one address), health
checks of a load balancer, slow downloads. innocents.py says what each of them complains about.
"""
import time

import lab as e2e
import servers
import siege
from lab import SCALE
from siege import EVERYONE, FEW, MANY, Attack, Nobody, Siege, Tailban

ARRIVAL_SECONDS = 3.0
OFFICE = "10.71.8.1"
# A digit behind a kind: the same kind with other addresses.
CROWDS = {
    "small": {"keepalive": (10, "10.71.1.0"), "websocket": (8, "10.71.2.0"),
              "quiet": (2, "10.71.3.0"), "events": (8, "10.71.4.0"), "handler": (8, "10.71.5.0"),
              "upload": (6, "10.71.6.0"), "browser": (4, "10.71.7.0"), "browser2": (20, OFFICE),
              "health": (2, "10.71.9.0"), "download": (2, "10.71.10.0")},
    "full": {"keepalive": (50, "10.71.1.0"), "websocket": (40, "10.71.2.0"),
             "quiet": (10, "10.71.3.0"), "events": (40, "10.71.4.0"), "handler": (40, "10.71.5.0"),
             "upload": (20, "10.71.6.0"), "browser": (30, "10.71.7.0"), "browser2": (20, OFFICE),
             "health": (4, "10.71.9.0"), "download": (5, "10.71.10.0")},
}
CROWD = CROWDS[SCALE.name]
# How long a browser's spare connection is silent, how long a handler works, bytes of an upload: the
# first three times the limit `silent`, the last below `unanswered`.
HABITS = {"defaults": {"silent": 60, "handler": 60, "upload": 50},
          "4s/6s": {"silent": 12, "handler": 15, "upload": 5}}
WAVES = (Attack("silent", FEW), Attack("mixed", MANY),
         Attack("slow-header+slow-body+expect+unread+drip-body", MANY))
# With a budget that stays full these may be closed, never one that the server works on and never
# one with traffic both ways. Nobody may be banned for it.
MAY_BE_CUT = ("browser", "quiet", "keepalive", "upload")


def wave(scene, number, attack):
    """One more attack, from addresses of its own."""
    if attack.everyone:
        return attack.start(scene)
    names = e2e.crowd(attack.addresses, f"10.70.{100 + number}.0/24")
    return attack.start(scene, names)


def beside(kind, limits, seconds, attacks, each, guard=None):
    """The crowd beside one attack after another, `each` seconds apart; gives all figures."""
    with Siege(kind, guard, siege.LIMITS[limits], seconds=seconds) as scene:
        people, addresses = scene.people(CROWD, seconds, **HABITS[limits])
        time.sleep(ARRIVAL_SECONDS)
        begin = time.monotonic()
        holders, names = [], []
        for number in range(max(1, int((seconds - ARRIVAL_SECONDS) / each))):
            holder, sources = wave(scene, number, attacks[number % len(attacks)])
            holders.append(holder)
            names += sources
            time.sleep(max(0.0, begin + (number + 1) * each - time.monotonic()))
        outcome = people.wait(seconds + 60)
        result = scene.figures(begin, names, addresses, settle=3.0)
        result["office"] = OFFICE in result["strangers"]
        result["tail"] = scene.guard.daemon.tail() if isinstance(scene.guard, Tailban) else ""
        for holder in holders:
            holder.stop()
        return result, outcome


def judge(tap, name, result, outcome, everyone=False):
    """None cut, none banned; all attackers banned, or none when each held one connection."""
    if siege.defender() is Nobody:
        tap.ok(outcome["cut"] + outcome["failed"] > 0, f"{name}: an outage", outcome)
        return
    if siege.defender() is not Tailban:
        tap.ok(True, f"{name}: measured")
        return
    siege.judge_up(tap, name, result)
    for kind, counts in outcome["kinds"].items():
        fine = (everyone and kind in MAY_BE_CUT) or counts["cut"] == counts["failed"] == 0
        tap.ok(fine and counts["done"] > 0, f"{name}: {counts['people']} {kind}: {counts['done']} "
               f"done, {counts['cut']} cut, {counts['failed']} failed", outcome["problems"])
    tap.equal(result["banned"], 0 if everyone else result["attackers"],
              f"{name}: {'no' if everyone else 'every'} attacker is banned")


def note(tap, result, outcome):
    tap.note(f"{result['answered']} of {result['asked']} answered; descriptors idle "
             f"{result['idle']} peak {result['peak']} of {result['limit']}; {result['banned']} of "
             f"{result['attackers']} attackers and {len(result['strangers'])} honest addresses "
             f"banned (the office: {'yes' if result['office'] else 'no'})")
    tap.note(outcome["kinds"])
    if outcome["problems"] and siege.defender() is Tailban:
        tap.note(result["tail"])


def run(tap, kind, limits, seconds, attacks=WAVES, each=6.0):
    everyone = attacks[0].everyone
    if servers.missing(kind):
        siege.without(tap, kind, servers.missing(kind))
        return
    result, outcome = beside(kind, limits, seconds, attacks, each)
    name = f"{kind}, {limits}" + (", attack from everywhere" if everyone else "")
    judge(tap, name, result, outcome, everyone)
    note(tap, result, outcome)


def flask(tap):
    """Waves of attackers that hold many connections each, on Flask's development server."""
    if SCALE.name == "full":
        run(tap, "flask", "defaults", 600, each=30.0)
        run(tap, "flask", "4s/6s", 120, each=20.0)
    else:
        run(tap, "flask", "4s/6s", 21)


def uvicorn(tap):
    """The same on an event loop, where connections are kept alive."""
    if SCALE.name == "full":
        run(tap, "uvicorn", "defaults", 600, each=30.0)
        run(tap, "uvicorn", "4s/6s", 120, each=20.0)
    else:
        run(tap, "uvicorn", "4s/6s", 9, WAVES[1:])


def everywhere(tap):
    """A connection from each of a thousand addresses: the budget stays full, nobody is banned."""
    full = SCALE.name == "full"
    run(tap, "flask", "defaults", 60 if full else 10, [Attack("silent", EVERYONE)],
        50.0 if full else 7.0)


if __name__ == "__main__":
    e2e.main(flask, uvicorn, everywhere, seconds=2400, needs_daemon=siege.needs_daemon())
