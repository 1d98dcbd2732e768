#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Without the kill a ban frees nothing, not even when the attackers have gone.

This proves that the kill is what helps in test_main_job.py: a fast ban alone could hide it.
"""
import time

import lab as e2e
from lab import FLASK_JAIL, SCALE, Daemon, Flask, Lab

ALLOWED_LOSS = 10


def kill_off(tap):
    """kill = no: the drop rule swallows the attackers' FIN, the descriptors stay."""
    with Lab() as lab:
        flask = Flask(lab)
        jail = FLASK_JAIL.format(log=flask.log) + "kill = no\n"
        daemon = Daemon(lab, jail).start()
        sources = e2e.attackers(SCALE.first_addrs)
        hold = e2e.silent(lab, SCALE.first, sources, SCALE.rate * 2, 60)
        seen = e2e.eventually(lambda: flask.fds() >= SCALE.first, 15)
        tap.ok(seen, f"{flask.fds()} descriptors are taken")
        e2e.noise(lab, sources).wait()
        banned = e2e.eventually(lambda: all(source in daemon.banned() for source in sources), 5)
        tap.ok(banned, "every attacker is banned", daemon.tail())
        kernel = lab.sets()
        tap.ok(all(e2e.covering(kernel, source) for source in sources),
               "and is in the kernel's sets", kernel)
        time.sleep(2)
        wanted = SCALE.first - ALLOWED_LOSS
        tap.ok(flask.fds() >= wanted, f"{flask.fds()} descriptors stay held")
        closed = hold.stop()
        tap.note(closed)
        time.sleep(SCALE.seconds / 2)
        tap.ok(flask.fds() >= wanted,
               f"{flask.fds()} descriptors stay held after the attackers have closed")
        killed = sum(entry["killed"] for entry in daemon.banned().values())
        tap.equal(killed, 0, "no socket was killed")
        daemon.stop()


if __name__ == "__main__":
    e2e.main(kill_off)
