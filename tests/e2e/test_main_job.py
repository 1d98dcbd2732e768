#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job: from a line in logs.out to a freed descriptor."""
import contextlib
import time

import lab as e2e
from lab import FLASK_JAIL, SCALE, Daemon, Flask, Lab, NormalClient

CLOSE_TO_IDLE = 10


def judge(tap, lab, flask, daemon, client, sources, name):
    """What must hold at the end of every run."""
    back = e2e.eventually(lambda: flask.fds() <= flask.idle + CLOSE_TO_IDLE, 3)
    tap.ok(back, f"{name}: descriptors are back at {flask.fds()} (idle {flask.idle})")
    count, lost = client.finish()
    tap.ok(count >= SCALE.seconds and len(lost) <= 1,
           f"{name}: {count - len(lost)} of {count} answers for the normal client", lost)
    listed = daemon.banned()
    kernel = lab.sets()
    missing = [source for source in sources if source not in listed]
    tap.ok(not missing, f"{name}: every attacker is in the ban list", missing)
    missing = [source for source in sources if not e2e.covering(kernel, source)]
    tap.ok(not missing, f"{name}: every attacker is in the kernel's sets", missing)
    tap.ok(e2e.NORMAL not in listed and not e2e.covering(kernel, e2e.NORMAL),
           f"{name}: the normal client is not banned")
    tap.ok(daemon.alive(), f"{name}: the daemon lives")
    if tap.failed:
        tap.note(daemon.tail())


@contextlib.contextmanager
def scene():
    """A service, the daemon beside it, and the normal client."""
    with Lab() as lab:
        flask = Flask(lab)
        daemon = Daemon(lab, FLASK_JAIL.format(log=flask.log)).start()
        client = NormalClient(lab, 4 * SCALE.seconds + 30)
        yield lab, flask, daemon, client
        daemon.stop()


def noise_first(tap, addresses):
    """Two offences of each, then silent connections from the same addresses."""
    with scene() as (lab, flask, daemon, client):
        sources = e2e.attackers(addresses)
        begin = time.monotonic()
        e2e.noise(lab, sources).wait()
        hold = e2e.silent(lab, SCALE.silent, sources, SCALE.rate,
                          SCALE.seconds - (time.monotonic() - begin))
        tap.note(hold.wait())
        judge(tap, lab, flask, daemon, client, sources, f"noise first, {addresses} addresses")


def noise_first_4(tap):
    """Noise, then silent connections, from 4 addresses."""
    noise_first(tap, 4)


def noise_first_50(tap):
    """Noise, then silent connections, from 50 addresses."""
    noise_first(tap, 50)


def silent_first(tap):
    """Silent connections first, noise later, twice: without the kill the second is too much."""
    with scene() as (lab, flask, daemon, client):
        end = time.monotonic() + SCALE.seconds
        for turn in range(2):
            sources = e2e.attackers(SCALE.first_addrs, 1 + turn * SCALE.first_addrs)
            hold = e2e.silent(lab, SCALE.first, sources, SCALE.rate * 2, 60)
            seen = e2e.eventually(lambda: flask.fds() >= SCALE.first, 15)
            name = f"silent first, turn {turn + 1}"
            tap.ok(seen, f"{name}: {flask.fds()} descriptors are taken")
            tap.ok(not daemon.is_banned(sources[0]), f"{name}: silence alone is no offence here")
            e2e.noise(lab, sources, "probe" if turn else "text").wait()
            freed = e2e.eventually(lambda: flask.fds() <= flask.idle + CLOSE_TO_IDLE, 5)
            tap.ok(freed, f"{name}: {flask.fds()} descriptors after the ban")
            killed = sum(entry["killed"] for entry in daemon.banned().values())
            tap.ok(killed >= SCALE.first * (turn + 1) * 0.95,
                   f"{name}: {killed} sockets killed, says the ban list")
            tap.note(hold.stop())
        time.sleep(max(0.0, end - time.monotonic()))
        judge(tap, lab, flask, daemon, client, e2e.attackers(2 * SCALE.first_addrs),
              "silent first")


if __name__ == "__main__":
    e2e.main(noise_first_4, noise_first_50, silent_first)
