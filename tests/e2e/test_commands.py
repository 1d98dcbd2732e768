#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands: exit statuses and JSON forms that other programs rely on."""
import os
import time

import lab as e2e
from lab import LAB_FILTER, LAB_JAIL, SERVER, Daemon, Lab, log_line

STATUS_KEYS = {"version", "ready", "uptime", "jit", "lines_read", "lag_ms", "bans", "kills",
               "refused", "sources", "services", "memory", "health"}
BANNED_KEYS = {"addr", "prefix", "jail", "since", "until", "count", "killed", "dropped_packets",
               "dropped_bytes", "source", "reason"}
MAXRETRY = 2


class Scene:
    """A daemon with the jail `lab` on one log, without a service."""

    def __init__(self, lab):
        self.log = os.path.join(lab.tmp, "logs.out")
        with open(self.log, "wb"):
            pass
        self.jail = LAB_JAIL.format(log=self.log, maxretry=MAXRETRY)
        self.daemon = Daemon(lab, self.jail, LAB_FILTER).start()

    def write(self, *lines):
        with open(self.log, "ab") as out:
            out.write(b"".join(lines))


def statuses(tap, daemon, wanted):
    """{words: exit status} in one go."""
    for words, code in wanted:
        done = daemon.ctl(*words)
        tap.ok(done.rc == code, f"tailban {' '.join(words)} gives {code}",
               f"{done.rc}: {done.out} {done.err}")


def state(tap):
    """status and banned."""
    with Lab(1) as lab:
        scene = Scene(lab)
        daemon = scene.daemon
        status = daemon.ctl("status", json_out=True)
        tap.equal(status.rc, 0, "status")
        tap.ok(STATUS_KEYS <= set(status.data), "status --json has its keys",
               STATUS_KEYS - set(status.data))
        tap.ok(status.data["ready"] is True, "ready")
        source = (status.data["sources"] or [{}])[0]
        tap.ok({"path", "position", "lag_bytes"} <= set(source) and source["path"] == scene.log,
               "sources name the log", source)
        tap.ok({"firewall", "kill", "store", "fleet"} <= set(status.data["health"]),
               "health has its keys", status.data["health"])
        tap.equal(bool(daemon.ctl("status", "--json").out.startswith("{")), True,
                  "--json may follow the command")
        tap.equal(daemon.ctl("banned", json_out=True).data, [], "no ban at the start")
        statuses(tap, daemon, [
            (("status", "lab"), 0), (("status", "nosuch"), 1),
            (("banned", "203.0.113.1"), 1), (("nosuch",), 2), ((), 2),
            (("banned", "--sort", "nosuch"), 2), (("status", "--nosuch"), 2)])
        text = daemon.ctl("status").out
        tap.ok("\x1b" not in text and text.strip(), "no colour where no terminal is", text)
        daemon.stop()
        tap.equal(daemon.ctl("status").rc, 3, "status without a daemon gives 3")
        tap.equal(daemon.ctl("ban", "203.0.113.1").rc, 3, "ban without a daemon gives 3")
        tap.equal(lab.leftovers(), [], "the daemon leaves no process behind")


def by_hand(tap):
    """ban and unban."""
    with Lab(1) as lab:
        daemon = Scene(lab).daemon
        done = daemon.ctl("ban", "203.0.113.7", "--for", "10m", "--reason", "spam by hand")
        tap.equal(done.rc, 0, "ban for 10 minutes")
        entry = daemon.banned().get("203.0.113.7", {})
        tap.ok(BANNED_KEYS <= set(entry), "banned --json has its keys", entry)
        tap.ok(entry.get("prefix") == 32 and entry.get("source") == "hand" and
               "spam by hand" in (entry.get("reason") or ""), "what was said is shown", entry)
        tap.ok(abs((entry.get("until") or 0) - time.time() - 600) < 5, "the end is right", entry)
        kernel = lab.in_kernel("203.0.113.7")
        tap.ok(kernel and 590 <= kernel["expires"] <= 600, "the kernel has it", kernel)
        daemon.ctl("ban", "203.0.113.8", "--for", "ever", "--jail", "lab")
        entry = daemon.banned().get("203.0.113.8", {"until": 0})
        tap.ok(entry["until"] is None and entry["jail"] == "lab", "for ever, in a jail", entry)
        daemon.ctl("ban", "203.0.113.64/26")
        tap.ok(lab.in_kernel("203.0.113.100") and not lab.in_kernel("203.0.113.130"),
               "a network", lab.sets())
        daemon.ctl("ban", "2001:db8::1")
        tap.ok(lab.in_kernel("2001:db8::ffff"), "IPv6 means its /64", lab.sets())
        daemon.ctl("ban", "2001:db8:1::1/128")
        tap.ok(lab.in_kernel("2001:db8:1::1") and not lab.in_kernel("2001:db8:1::2"),
               "/128 is said", lab.sets())
        statuses(tap, daemon, [
            (("banned", "203.0.113.7"), 0), (("banned", "203.0.113.7", "203.0.113.9"), 1),
            (("ban", "127.0.0.1"), 4), (("ban", "127.0.0.1", "--force"), 4), (("ban", SERVER), 4),
            (("ban", "10.66.0.0/16"), 4), (("ban", "192.0.2.10"), 4),
            (("ban", "192.0.2.10", "--force"), 0),
            (("ban", "300.1.1.1"), 2), (("ban", "1.2.3"), 2), (("ban", "203.0.113.1/33"), 2),
            (("ban", "example.org"), 2), (("ban", ""), 2), (("ban",), 2),
            (("ban", "203.0.113.1", "--jail", "nosuch"), 2),
            (("ban", "203.0.113.1", "--for", "soon"), 2), (("unban",), 2), (("unban", "x"), 2),
            (("ban", "--file", "/nonexistent"), 2),
            (("unban", "203.0.113.7"), 0), (("unban", "203.0.113.7"), 1),
            (("unban", "--all"), 0)])
        tap.equal(daemon.banned(), {}, "unban --all empties the list")
        left = [key for name, elements in lab.sets().items() if e2e.is_ban_set(name)
                for key in elements]
        tap.equal(left, [], "and the kernel's sets")
        daemon.stop()


def story(tap):
    """why, after a ban by the log."""
    with Lab(1) as lab:
        scene = Scene(lab)
        daemon = scene.daemon
        scene.write(*[log_line("203.0.113.5", '"GET /bad\x1b[31m HTTP/1.1" 404 -')] * MAXRETRY)
        banned = e2e.eventually(lambda: daemon.is_banned("203.0.113.5"), 5)
        tap.ok(banned, "banned by the log", daemon.tail())
        entry = daemon.banned().get("203.0.113.5", {})
        tap.ok(entry.get("source") == "log" and entry.get("jail") == "lab" and
               abs((entry.get("until") or 0) - entry.get("since", 0) - 3600) < 2,
               "the entry says by whom and until when", entry)
        done = daemon.ctl("why", "203.0.113.5")
        tap.ok(done.rc == 0 and "/bad" in done.out and "lab" in done.out, "why shows the line",
               done.out)
        tap.ok("\x1b" not in done.out, "control characters are made visible", repr(done.out))
        told = daemon.ctl("why", "203.0.113.5", json_out=True)
        tap.ok(told.rc == 0 and told.data, "why --json is a document", told.out)
        tap.equal(daemon.ctl("why", "203.0.113.77").rc, 1, "why of a stranger gives 1")
        tap.equal(daemon.ctl("why", "x").rc, 2, "why of no address gives 2")
        scene.write(*[log_line("192.0.2.10")] * (MAXRETRY + 1))
        scene.write(*[log_line("127.0.0.1")] * (MAXRETRY + 1))
        scene.write(*[log_line(SERVER)] * (MAXRETRY + 1))
        daemon.lines_read(4 * MAXRETRY + 3)
        tap.equal(sorted(daemon.banned()), ["203.0.113.5"], "the ignore list wins over the log")
        tap.ok(daemon.status().get("refused", 0) >= 3, "and what it refused is counted",
               daemon.status())
        daemon.stop()


def reload(tap):
    """reload is all or nothing."""
    with Lab(1) as lab:
        scene = Scene(lab)
        daemon = scene.daemon
        daemon.ctl("ban", "203.0.113.7")
        tap.equal(daemon.ctl("reload").rc, 0, "reload of the same configuration")
        tap.ok(daemon.is_banned("203.0.113.7"), "keeps the bans")
        daemon.write("jail.conf", scene.jail + "maxretri = 3\n")
        done = daemon.ctl("reload")
        line = scene.jail.count("\n") + 1
        tap.ok(done.rc == 4, "a broken configuration gives 4", done)
        said = done.out + done.err
        tap.ok(f"jail.conf:{line}:" in said and "maxretri" in said, "and says file:line", said)
        scene.write(*[log_line("203.0.113.5")] * MAXRETRY)
        banned = e2e.eventually(lambda: daemon.is_banned("203.0.113.5"), 5)
        tap.ok(banned, "the old one still works")
        daemon.write("jail.conf", scene.jail.replace("maxretry = 2", "maxretry = 5"))
        tap.equal(daemon.ctl("reload").rc, 0, "reload of a changed configuration")
        scene.write(*[log_line("203.0.113.6")] * 4)
        daemon.lines_read(MAXRETRY + 4)
        tap.ok(not daemon.is_banned("203.0.113.6"), "the new maxretry holds")
        scene.write(log_line("203.0.113.6"))
        tap.ok(e2e.eventually(lambda: daemon.is_banned("203.0.113.6"), 5), "and bans at 5")
        tap.equal(daemon.lines_read(), MAXRETRY + 5, "no line is read twice")
        tap.ok(daemon.is_banned("203.0.113.7"), "the bans are still there")
        daemon.stop()


SOCKETS_JAIL = """\
[sockets]
enabled = yes
"""


def sockets_status(tap, daemon, name):
    """`status sockets` shows a jail that reads no lines."""
    told = daemon.ctl("status", "sockets", json_out=True)
    rules = (told.data or {}).get("rules") or [{}]
    tap.ok(told.rc == 0 and len(rules) == 1 and rules[0].get("filter") == "sockets" and
           rules[0].get("maxretry") == 3 and rules[0].get("lines") == 0,
           f"{name}: status sockets", told)
    tap.equal((told.data or {}).get("sources"), [], f"{name}: shows no log")
    tap.equal(daemon.ctl("status", "sockets").rc, 0, f"{name}: and a page")


def sockets_alone(tap):
    """A sockets jail needs neither filter nor log."""
    with Lab(1) as lab:
        daemon = Daemon(lab, "", {"jail.d/s.conf": SOCKETS_JAIL + "port = 8001\n"}).start()
        status = daemon.status()
        tap.ok(status.get("ready") is True and status.get("jails") == ["sockets"],
               "a sockets jail alone is ready", status)
        tap.equal(status.get("sources"), [], "without a source")
        sockets_status(tap, daemon, "alone")
        done = daemon.ctl("ban", "203.0.113.7", "--jail", "sockets")
        tap.ok(done.rc == 0 and daemon.is_banned("203.0.113.7"), "a ban by hand in it", done)
        tap.equal(daemon.ctl("why", "203.0.113.7").rc, 0, "and why")
        tap.equal(daemon.ctl("reload").rc, 0, "reload")
        tap.ok(daemon.is_banned("203.0.113.7"), "keeps the ban", daemon.tail())
        daemon.stop()


def sockets_beside(tap):
    """A sockets jail beside a log jail, by configuration and by -q, takes no lines."""
    with Lab(1) as lab:
        scene = Scene(lab)
        scene.daemon.stop()
        for name, more in (("on the same log", f"logpath = {scene.log}\n"), ("without a log", ""),
                           ("on another log", f"logpath = {scene.log}.other\n")):
            daemon = Daemon(lab, scene.jail + SOCKETS_JAIL + more, LAB_FILTER,
                            name=name.replace(" ", "-")).start()
            before = daemon.lines_read()
            scene.write(*[log_line("203.0.113.5")] * MAXRETRY)
            tap.ok(e2e.eventually(lambda d=daemon: d.is_banned("203.0.113.5"), 5),
                   f"{name}: the log jail bans", daemon.tail())
            tap.equal(daemon.lines_read() - before, MAXRETRY, f"{name}: each line counts once")
            paths = [source["path"] for source in daemon.status().get("sources", [])]
            tap.equal(paths, [scene.log], f"{name}: one log is shown")
            sockets_status(tap, daemon, name)
            tap.equal(daemon.ctl("unban", "--all").rc, 0, f"{name}: unban")
            daemon.stop()
        quick = Daemon(lab, name="quick", quick=[scene.log]).start()
        tap.ok("sockets" in quick.status().get("jails", []), "-q has a sockets jail",
               quick.status())
        sockets_status(tap, quick, "-q")
        replay = quick.ctl("replay", scene.log)
        tap.ok(replay.rc in (0, 1) and "sockets" not in replay.out,
               "replay leaves the sockets jail alone", replay)
        quick.stop()


if __name__ == "__main__":
    e2e.main(state, by_hand, story, reload, sockets_alone, sockets_beside)
