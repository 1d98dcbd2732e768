#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""An idle daemon that follows one log and guards its service's sockets does not wake, and all its
processes together stay small."""
import contextlib
import os
import time

import lab as e2e
from lab import FLASK_JAIL, Daemon, Flask, Lab

# libev alone would wake after 59.7 s: shorter than a minute would prove nothing.
SECONDS = 65
LIMIT_KIB = 10 * 1024


def wakeups(pids):
    """{task: voluntary context switches}: one for each return to sleep."""
    counts = {}
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as status:
                fields = dict(line.split(":", 1) for line in status if ":" in line)
            name = f"{fields['Name'].strip()} {pid}/{task}"
            counts[name] = int(fields["voluntary_ctxt_switches"])
    return counts


def pss_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
        for line in rollup:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def idle(tap):
    """No wake-up, little memory."""
    if e2e.sanitized():
        tap.skip("idle", "a sanitizer build is judged neither by time nor by memory")
        return
    with Lab(2) as lab:
        flask = Flask(lab)
        jails = FLASK_JAIL.format(log=flask.log) + "[sockets]\nenabled = yes\n"
        daemon = Daemon(lab, jails).start()
        flask.answers()
        time.sleep(3)
        pids = daemon.pids()
        before = wakeups(pids)
        time.sleep(SECONDS)
        after = wakeups(pids)
        woken = {task: after.get(task, 0) - count for task, count in before.items()
                 if after.get(task) != count}
        tap.ok(not woken, f"{len(before)} tasks slept for {SECONDS} s", woken)
        tap.equal(daemon.pids(), pids, "with the same processes")
        sizes = {}
        for pid in pids:
            with contextlib.suppress(OSError):
                sizes[pid] = pss_kib(pid)
        total = sum(sizes.values())
        tap.ok(total <= LIMIT_KIB, f"PSS of {len(pids)} processes is {total} KiB", sizes)
        daemon.stop()


if __name__ == "__main__":
    e2e.main(idle)
