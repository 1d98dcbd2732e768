#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines that crash the engine are no off switch: every other line counts once, bans stay.

tailband_crash is the daemon with an engine that ends by a trap on each line with `crash-here` in it.
An offender needs two offences: who has two is banned once, who has one never, so a line that is lost
and a line that is counted twice both show. A banned address sends datagrams all the time.
"""
import os
import random
import re
import socket
import threading
import time

import lab as e2e
from lab import LAB_FILTER, LAB_JAIL, Daemon, Lab, log_line

PROGRAM = os.path.join(e2e.BUILD, "tests", "e2e", "tailband_crash")
LINES, GUILTY = (100_000, 200) if e2e.SCALE.name == "full" else (10_000, 20)
BANNED = e2e.attacker(1)
CRASHER = "203.0.113.99"
UDP_PORT = 9999
SECONDS = 240
BAD = '"GET /bad?n=%d HTTP/1.1" 404 -'


class CrashDaemon(Daemon):
    def argv(self, *more):
        words = super().argv(*more)
        return [PROGRAM if word == e2e.DAEMON else word for word in words]


def address(number):
    return f"198.18.{number // 250}.{1 + number % 250}"


def make_log(rng):
    """(lines, who has two offences, who has one, numbers of the guilty lines)."""
    when = time.time()
    lines = [None] * LINES
    twice = [address(n) for n in range(LINES // 5)]
    once = [address(len(twice) + n) for n in range(LINES // 50)]
    places = rng.sample(range(LINES - 3), 2 * len(twice) + len(once))
    for number, place in enumerate(places[:2 * len(twice)]):
        lines[place] = log_line(twice[number % len(twice)], BAD % number, when)
    for number, place in enumerate(places[2 * len(twice):]):
        lines[place] = log_line(once[number], BAD % number, when)
    free = [place for place in range(LINES) if lines[place] is None]
    # The last line, two that follow each other, and right behind an offence as often as not.
    guilty = {LINES - 1, LINES - 2}
    behind = [place + 1 for place in places if place + 1 < LINES and lines[place + 1] is None]
    guilty.update(rng.sample(behind, GUILTY // 2))
    while len(guilty) < GUILTY:
        guilty.add(rng.choice(free))
    for place in guilty:
        lines[place] = log_line(CRASHER, '"GET /bad?crash-here HTTP/1.1" 404 -', when)
    good = log_line("198.51.100.1", '"GET /hello_world HTTP/1.1" 200 -', when)
    return [line or good for line in lines], twice, once, sorted(guilty)


def append(path, lines, rng):
    """In writes of many sizes, so that guilty lines have all kinds of neighbours."""
    with open(path, "ab", buffering=0) as log:
        at = 0
        while at < len(lines):
            size = rng.choice((1, 1, 3, 20, 200, 700, 2000))
            log.write(b"".join(lines[at:at + size]))
            at += size
            time.sleep(0.001)


class Datagrams:
    """The banned address sends all the time; what arrives is counted."""

    def __init__(self, lab):
        with lab.server.inside():
            self.receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.receiver.bind((e2e.SERVER, UDP_PORT))
        self.receiver.setblocking(False)
        with lab.bad.inside():
            self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.bind((BANNED, 0))
        self.sent = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def send(self):
        try:
            self.sender.sendto(b"x", (e2e.SERVER, UDP_PORT))
            self.sent += 1
        except OSError:
            pass

    def run(self):
        while not self.ended.is_set():
            self.send()
            time.sleep(0.001)

    def arrived(self):
        count = 0
        try:
            while self.receiver.recv(16):
                count += 1
        except BlockingIOError:
            return count
        return count

    def stop(self):
        self.ended.set()
        self.thread.join()
        time.sleep(0.05)
        return self.arrived()


def saved(daemon):
    """Offsets of the saved guilty lines."""
    path = os.path.join(daemon.state, "guilty-lines")
    if not os.path.exists(path):
        return []
    with open(path, "rb") as file:
        return [int(m) for m in re.findall(rb"^/[^\n]*:(\d+)\n[^\n]*crash-here", file.read(), re.M)]


def wait_read(daemon, wanted):
    """The control socket answers in between, from whichever engine is there."""
    end = time.monotonic() + SECONDS
    status = {}
    while time.monotonic() < end:
        status = daemon.status() or status
        if status.get("lines_read", 0) >= wanted:
            time.sleep(0.3)
            return daemon.status() or status
        time.sleep(0.2)
    return status


def guilty_lines(tap):
    """Every other line is counted once and a banned address stays out."""
    e2e.must_exist(PROGRAM)
    seed = int(os.environ.get("TEST_SEED", random.randrange(1 << 31)))
    rng = random.Random(seed)
    tap.note(f"TEST_SEED={seed}")
    lines, twice, once, guilty = make_log(rng)
    offsets, offset = [], 0
    first = [log_line(BANNED, BAD % n) for n in range(2)]
    for line in first + lines:
        offsets.append(offset)
        offset += len(line)
    with Lab(2) as lab:
        path = os.path.join(lab.tmp, "app.log")
        open(path, "w", encoding="ascii").close()
        daemon = CrashDaemon(lab, LAB_JAIL.format(log=path, maxretry=2), LAB_FILTER).start()
        datagrams = Datagrams(lab)
        datagrams.send()
        tap.ok(e2e.eventually(datagrams.arrived, 2), "a datagram arrives before the ban")
        append(path, first, rng)
        tap.ok(e2e.eventually(lambda: lab.in_kernel(BANNED), 5), "the first offender is banned")
        datagrams.arrived()
        datagrams.thread.start()
        begin = time.monotonic()
        append(path, lines, rng)
        status = wait_read(daemon, LINES + 2)
        tap.note(f"{len(lines)} lines with {GUILTY} guilty ones: {time.monotonic() - begin:.1f} s")
        got_through = datagrams.stop()
        tap.equal(status.get("lines_read"), LINES + 2, "every line was read once")
        tap.equal(status.get("bytes_read"), offset, "every byte was read once")
        tap.equal(status.get("offences"), 2 + 2 * len(twice) + len(once),
                  "every offence beside them counted once")
        tap.equal(status.get("guilty_lines"), GUILTY, "every guilty line was found")
        tap.equal(status.get("health", {}).get("engine_crashes"), GUILTY, "each by one crash")
        tap.equal(status.get("bans_total"), 1 + len(twice), "every offender was banned once")
        wanted = {BANNED, *twice}
        judge_set(tap, set(daemon.banned()), wanted, "the ban list")
        kernel = {key for name, elements in lab.sets().items() if e2e.is_ban_set(name)
                  for key in elements}
        judge_set(tap, kernel, wanted, "the kernel's set")
        tap.ok(datagrams.sent > 100 and got_through == 0,
               f"none of {datagrams.sent} datagrams of the banned address arrived", got_through)
        tap.equal(sorted(saved(daemon)), [offsets[place + 2] for place in guilty],
                  "exactly the guilty lines are saved")
        tap.equal(daemon.stop(), 0, "the daemon ends well")


def judge_set(tap, got, wanted, name):
    tap.ok(got == wanted, f"{name} has every offender and nobody else",
           f"missing {sorted(wanted - got)[:10]} ({len(wanted - got)}), "
           f"too many {sorted(got - wanted)[:10]} ({len(got - wanted)})")


if __name__ == "__main__":
    e2e.main(guilty_lines, seconds=SECONDS + 60)
