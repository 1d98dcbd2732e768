#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""A restart, by TERM and by kill -9, lets not one packet of a banned address through."""
import os
import time

import lab as e2e
from lab import FLASK_JAIL, SERVER, Daemon, Flask, Lab

BANS = 1000
RATE = 1000


def banned_addresses():
    """One that sends, the others only fill the set."""
    return [e2e.attacker(1)] + [f"198.51.{100 + n // 250}.{1 + n % 250}" for n in range(BANS - 1)]


def arrived(lab):
    """Packets of the sender that came past the ban rules, counted by a table of our own."""
    text = lab.nft("list", "table", "inet", "arrivals")
    return int(text.split("packets ")[1].split()[0])


def count_arrivals(lab):
    lab.nft("add table inet arrivals")
    lab.nft("add chain inet arrivals input { type filter hook input priority 0; }")
    lab.nft(f"add rule inet arrivals input ip saddr {e2e.attacker(1)} counter")


def dropped(lab):
    return (lab.in_kernel(e2e.attacker(1)) or {}).get("packets", -1)


def term(daemon):
    """A restart as systemd does it."""
    code = daemon.stop()
    daemon.start()
    return code == 0


def kill(daemon):
    """The main process dies by kill -9; its children must follow."""
    pids = daemon.pids()
    daemon.kill9()
    gone = e2e.eventually(lambda: not any(alive(pid) for pid in pids), 5)
    daemon.start()
    return gone


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def restart(tap, way, name):
    """Bans, traffic, restart, and a look at both counters."""
    with Lab(2) as lab:
        flask = Flask(lab)
        daemon = Daemon(lab, FLASK_JAIL.format(log=flask.log)).start()
        count_arrivals(lab)
        e2e.flood(lab, [e2e.attacker(1)], RATE, 0.3).wait()
        tap.ok(arrived(lab) > 50, f"{name}: before the ban packets arrive", arrived(lab))
        path = os.path.join(lab.tmp, "list")
        with open(path, "w", encoding="ascii") as out:
            out.write("\n".join(banned_addresses()) + "\n")
        tap.equal(daemon.ctl("ban", "--file", path, "--for", "1h").rc, 0, f"{name}: ban --file")
        e2e.eventually(lambda: dropped(lab) >= 0, 5)
        time.sleep(0.2)
        before, ended = arrived(lab), lab.in_kernel(e2e.attacker(1))
        sender = e2e.flood(lab, [e2e.attacker(1)], RATE, 60)
        time.sleep(0.5)
        stopped = dropped(lab)
        begin = time.monotonic()
        tap.ok(way(daemon), f"{name}: it ended as it should", daemon.tail())
        passed = time.monotonic() - begin
        started = dropped(lab)
        time.sleep(0.5)
        sent = sender.stop()["sent"]
        time.sleep(0.2)
        tap.note(f"{sent} packets sent, restart took {passed * 1000:.0f} ms")
        tap.equal(arrived(lab) - before, 0, f"{name}: packets that passed in between")
        tap.ok(0 < stopped <= started <= dropped(lab),
               f"{name}: the ban counters go on", (stopped, started, dropped(lab)))
        tap.ok(dropped(lab) >= sent, f"{name}: every packet was counted", (sent, dropped(lab)))
        listed = daemon.banned()
        tap.equal(len(listed), BANS, f"{name}: the ban list after the restart")
        tap.ok(abs(ended["expires"] - lab.in_kernel(e2e.attacker(1))["expires"]) < 15,
               f"{name}: the ban keeps its end")
        tap.ok(listed.get(e2e.attacker(1), {}).get("dropped_packets", 0) >= stopped,
               f"{name}: the list shows the kernel's counter")
        daemon.stop()


def restart_by_term(tap):
    """TERM and start."""
    restart(tap, term, "TERM")


def restart_by_kill(tap):
    """kill -9 of the main process, and start."""
    restart(tap, kill, "kill -9")


if __name__ == "__main__":
    e2e.main(restart_by_term, restart_by_kill)
