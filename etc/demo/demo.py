#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Flask service under attack, first alone, then with tailban beside it.

Everything happens in network namespaces of its own; nothing of the host is touched. It takes
about half a minute, ends by itself and cleans up, also when it is interrupted.
Exit status: 0 when the defended service came through, 1 when not.
"""
import os
import re
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "e2e"))

import lab as e2e  # noqa: E402  (found by the line above)

NOFILE = 1024
HELD = 1100
HOLD_RATE = 300
SOURCES = 40
STEP = 0.5
ALONE_SECONDS = 9
DEFENDED_SECONDS = 12
BAR = 32
LIMIT_SECONDS = 58

UTF8 = "utf" in (sys.stdout.encoding or "").lower()
COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
LEVELS = " ▁▂▃▄▅▆▇█" if UTF8 else " .:-=+*%#"
FULL = "█" if UTF8 else "#"
EMPTY = "·" if UTF8 else "."


def paint(text, code):
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def good(text):
    return paint(text, "32")


def bad(text):
    return paint(text, "31")


def head(text):
    print("\n" + paint(text, "1"), flush=True)


def bar(value, full):
    cells = min(BAR, round(BAR * value / full))
    text = FULL * cells + EMPTY * (BAR - cells)
    return bad(text) if value >= 0.9 * full else text


def spark(values, full):
    """One character per half second."""
    top = len(LEVELS) - 1
    return "".join(LEVELS[max(1, min(top, round(top * value / full)))] for value in values)


def timeline(probes):
    return "".join(good(".") if probe["answered"] else bad("x") for probe in probes)


class Phase:
    """One run of the attack: samples each half second, the normal client's probes."""

    def __init__(self, lab, flask, seconds):
        self.lab = lab
        self.flask = flask
        self.seconds = seconds
        self.samples = []
        self.probes = []

    def row(self, second, client):
        fds, threads, vmsize = self.samples[-1]
        latest = client.probes()
        if not latest:
            word = ""
        elif latest[-1]["answered"]:
            word = good(f"answered in {latest[-1]['ms']:.0f} ms")
        else:
            word = bad("no answer within 1 s")
        print(f"  {second:3d} s  {bar(fds, NOFILE)} {fds:5d} {threads:8d} "
              f"{vmsize / 1048576:6.1f} GB  {word}", flush=True)

    def attack(self):
        sources = e2e.attackers(SOURCES)
        e2e.reconnect(self.lab, HELD, sources, HOLD_RATE, self.seconds)
        e2e.noise(self.lab, sources[::2], "text", 3, spread=2.5, gap=0.1)
        e2e.noise(self.lab, sources[1::2], "probe", 3, spread=2.5, gap=0.1)

    def run(self):
        title = f"descriptors in use, of {NOFILE}"
        print(f"   time  {title:<{BAR + 6}}  threads       VIRT  normal client")
        client = e2e.NormalClient(self.lab, self.seconds + 1, STEP)
        begin = time.monotonic()
        for step in range(int(self.seconds / STEP)):
            if step == int(1 / STEP):
                self.attack()
            time.sleep(max(0.0, begin + (step + 1) * STEP - time.monotonic()))
            self.samples.append((self.flask.fds(), self.flask.threads(),
                                 self.flask.vmsize_kib()))
            if (step + 1) * STEP % 1 == 0:
                self.row(int((step + 1) * STEP), client)
        client.finish()
        self.probes = client.probes()
        return self

    def answered(self):
        return sum(1 for probe in self.probes if probe["answered"])

    def peak(self, column):
        return max(sample[column] for sample in self.samples)


def alone():
    head("1. Without tailban")
    with e2e.Lab(SOURCES) as lab:
        return Phase(lab, e2e.Flask(lab, NOFILE), ALONE_SECONDS).run()


def defended():
    head("2. The same attack, with tailban beside the service")
    with e2e.Lab(SOURCES) as lab:
        flask = e2e.Flask(lab, NOFILE)
        daemon = e2e.Daemon(lab, quick=[flask.log])
        print("  started: tailband -q logs/logs.out", flush=True)
        daemon.start()
        phase = Phase(lab, flask, DEFENDED_SECONDS).run()
        listing = daemon.ctl("banned", "--sort", "dropped").out.splitlines()
        bans = daemon.banned()
        daemon.stop()
        return phase, listing, bans


def shown(text):
    """Columns that a text takes on a terminal."""
    return len(re.sub("\x1b\\[[0-9;]*m", "", text))


def row(label, before, after, width):
    print(f"  {label:<24}{before}{' ' * (width - shown(before))}   {after}", flush=True)


def picture(before, after, bans):
    """The table at the end; gives the number of banned attackers."""
    head("Before and after (one character is half a second)")
    banned = sum(1 for source in e2e.attackers(SOURCES) if source in bans)
    both = (before, after)
    rows = [
        ("", "without tailban", "with tailban"),
        ("descriptors", *(spark([s[0] for s in phase.samples], NOFILE) for phase in both)),
        ("  highest / at the end", *(f"{phase.peak(0)} / {phase.samples[-1][0]} of {NOFILE}"
                                     for phase in both)),
        ("threads", *(f"{phase.peak(1)} / {phase.samples[-1][1]}" for phase in both)),
        ("VIRT, highest", *(f"{phase.peak(2) / 1048576:.1f} GB" for phase in both)),
        ("normal client", *(timeline(phase.probes) for phase in both)),
        ("", *(f"{phase.answered()} of {len(phase.probes)} answered" for phase in both)),
        ("attackers banned", "-", f"{banned} of {SOURCES}"),
        ("normal client banned", "-", bad("yes") if e2e.NORMAL in bans else "no"),
    ]
    width = max(shown(before_text) for _, before_text, _ in rows)
    for label, before_text, after_text in rows:
        row(label, before_text, after_text, width)
    return banned


def ban_list(listing, rows=12):
    head("tailban banned")
    for text in listing[:rows]:
        print("  " + e2e.visible(text))
    if len(listing) > rows:
        print(f"  ... and {len(listing) - rows} more")


def main():
    os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
    reason = e2e.missing() or e2e.reexec_as_root()
    if not reason and not os.path.exists(e2e.DAEMON):
        reason = f"tailband is not built in {e2e.BUILD}"
    if reason:
        print(f"The demo cannot run here: {reason}.", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, e2e.stop_on)
    signal.alarm(LIMIT_SECONDS)
    print(f"A Flask service (python3 ./run.py > ./logs/logs.out, ulimit -n {NOFILE}) in a network\n"
          f"namespace of its own. {SOURCES} addresses hold {HELD} silent connections, send '123' "
          "and 'ccc',\nand look for /admin/ and /login. One normal client asks twice a second.")
    before = alone()
    after, listing, bans = defended()
    banned = picture(before, after, bans)
    ban_list(listing)
    through = (banned == SOURCES and e2e.NORMAL not in bans and
               after.answered() >= len(after.probes) - 1 and
               after.samples[-1][0] <= after.flask.idle + 10)
    head("The service came through." if through else "The service did not come through.")
    print("Your own service: ./quickstart run path/to/logs.out")
    return 0 if through else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (e2e.LabError, OSError) as problem:
        print(f"The demo stopped: {problem}", file=sys.stderr)
        sys.exit(1)
