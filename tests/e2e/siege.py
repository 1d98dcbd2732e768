# SPDX-License-Identifier: GPL-2.0-or-later
"""Sieges: one attack that holds connections, one server, one defender or none, and what came of it.

`besiege` gives plain figures; tests judge them, tests/bench/held.py prints them side by side. The
defender of a test is tailband. E2E_DEFENDER=nobody shows that each attack is an outage (then that
is what the tests assert), E2E_DEFENDER=loop gives the figures of tests/bench/loop.sh and judges
nothing.
"""
import contextlib
import ipaddress
import os
import threading
import time

import lab as e2e
import servers
from lab import SCALE, Lab, NormalClient

PEAK = 0.98  # of the limit: beyond that the service may have refused somebody
LEAD_SECONDS = 1.0
AFTER_SECONDS = 5.0
LOOP = os.path.join(e2e.HERE, "..", "bench", "loop.sh")
INNOCENTS = os.path.join(e2e.HERE, "innocents.py")

FEW = 4
MANY = {"small": 12, "full": 50}[SCALE.name]
THIN = {"small": 25, "full": 100}[SCALE.name]  # eleven connections each
CLOSE = {"small": 10, "full": 30}[SCALE.name]
EVERYONE = "all"

SHORT = "silent = 4s\nunanswered = 6s\n"
LIMITS = {"defaults": "", "4s/6s": SHORT}

DRIP_EVERY = {"small": 2.0, "full": 5.0}[SCALE.name]


class Attack:
    """An attack by holders.py: `play` is a name that it knows, `addresses` a number, or EVERYONE
    when each connection comes from another. v6: every second address is an IPv6 one."""

    def __init__(self, play, addresses, reconnect=False, v6=False):
        self.play = play
        self.addresses = addresses
        self.reconnect = reconnect
        self.v6 = v6
        self.everyone = addresses == EVERYONE

    def __str__(self):
        words = [self.play, *(["reconnecting"] if self.reconnect else []),
                 *(["IPv4 and IPv6"] if self.v6 else [])]
        count = SCALE.silent if self.everyone else self.addresses
        return f"{' '.join(words)} from {count} addresses"

    def harmless(self, kind):
        """Servers without keep-alive close after the answer; for gthread see servers.py."""
        return self.play == "idle" and kind in ("flask", "sync", "uwsgi", "gthread")

    def undecidable(self, kind):
        """An event loop shows a half request as it shows a handler at work: closed, never banned."""
        return self.play in ("slow-header", "slow-body", "expect") and kind in ("waitress",
                                                                                "uvicorn")

    def names(self):
        if self.everyone:
            return e2e.crowd(SCALE.silent)
        names = (e2e.attackers if self.addresses <= MANY else e2e.crowd)(self.addresses)
        if self.v6:
            names[::2] = [e2e.attacker6(n) for n in range(1, len(names) + 1, 2)]
        return names

    def start(self, siege, names=None, count=None):
        """The attackers' process, and the addresses that they come from."""
        # A third of the mixed ones are answered and closed.
        count = count or round(SCALE.silent * (1.6 if self.play == "mixed" else 1))
        names = names or self.names()
        options = {"reconnect": True} if self.reconnect else {}
        sources = e2e.CROWD if self.everyone else names
        return e2e.hold(siege.lab, self.play, count, sources, SCALE.rate, siege.seconds + 60,
                        every=DRIP_EVERY, **options), names


# ---- What is looked at meanwhile ----

class Meter(threading.Thread):
    """How many descriptors the service has, each 20 ms."""

    def __init__(self, service):
        super().__init__(daemon=True)
        self.service = service
        self.samples = []
        self.over = threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.02):
            self.samples.append((time.monotonic(), self.service.fds()))

    def peak(self):
        return max((count for _, count in self.samples), default=0)

    def first_at(self, limit):
        return next((when for when, count in self.samples if count >= limit), None)

    def close(self):
        self.over.set()
        self.join()


def banned_of(sets, addresses):
    """Those of `addresses` that a ban set covers. By look-ups: there may be a thousand of both."""
    exact = set()
    networks = []
    for name, elements in sets.items():
        if not e2e.is_ban_set(name):
            continue
        length = name.rpartition("_")[2]
        for key in elements:
            text = key.split(" . ")[0]
            with contextlib.suppress(ValueError):
                net = ipaddress.ip_network(text + (f"/{length}" if length.isdigit() else ""),
                                           strict=False)
                if net.num_addresses == 1:
                    exact.add(net.network_address)
                else:
                    networks.append(net)
    found = []
    for address in addresses:
        wanted = ipaddress.ip_address(address)
        if wanted in exact or any(wanted in net for net in networks):
            found.append(address)
    return found


# ---- Defenders ----

class Nobody:
    """No defence."""
    key = "nobody"
    title = "nobody"

    def __init__(self, lab, log, limits="", kind="flask"):
        del log, limits, kind
        self.lab = lab

    def start(self):
        return self

    def sets(self):
        return {}

    def pids(self):
        return []

    def alive(self):
        return True

    def stop(self):
        pass


class Loop(Nobody):
    """The twenty-line shell loop."""
    key = "loop"
    title = "loop.sh"
    child = None

    def start(self):
        self.child = self.lab.spawn(self.lab.server, ["/bin/sh", LOOP, str(e2e.PORT)])
        if not e2e.eventually(lambda: "ban4" in self.sets(), 5):
            raise e2e.LabError("loop.sh has not made its sets")
        return self

    def sets(self):
        return self.lab.sets("loop")

    def pids(self):
        return e2e.descendants(self.child.pid)

    def alive(self):
        return self.child.poll() is None

    def stop(self):
        e2e.end_child(self.child, 3)


class Tailban(Nobody):
    """tailband: the shipped jail `sockets`, and for Flask's log the shipped jails of werkzeug."""
    key = "tailban"
    title = "tailban"

    def __init__(self, lab, log, limits="", kind="flask"):
        super().__init__(lab, log)
        files = {"jail.d/sockets.conf": f"[sockets]\nenabled = yes\nport = {e2e.PORT}\n{limits}"}
        if kind == "flask":
            files["jail.d/flask.conf"] = e2e.FLASK_JAIL.format(log=log)
        self.daemon = e2e.Daemon(lab, files=files)

    def start(self):
        self.daemon.start()
        return self

    def sets(self):
        return self.lab.sets()

    def pids(self):
        return self.daemon.pids()

    def alive(self):
        return self.daemon.alive() and self.daemon.ctl("status").rc == 0

    def facts(self, names):
        """What the daemon says of the siege: the service, what was killed, who banned them."""
        status = self.daemon.status()
        wanted = set(names)
        listed = [entry for address, entry in self.daemon.banned().items() if address in wanted]
        return {"limits": [row.get("limit") for row in status.get("services", [])
                           if row.get("port") == e2e.PORT],
                "kills": status.get("kills", 0), "tail": self.daemon.tail(),
                "sources": sorted({str(entry.get("source")) for entry in listed})}

    def stop(self):
        self.daemon.stop()


DEFENDERS = {kind.key: kind for kind in (Nobody, Loop, Tailban)}


def defender():
    return DEFENDERS[os.environ.get("E2E_DEFENDER", "tailban")]


def needs_daemon():
    return defender() is Tailban


# ---- The siege ----

class Siege:
    """`with Siege(...) as siege:` has a service, its defender, the normal client and a meter."""

    def __init__(self, kind="flask", guard=None, limits="", host="0.0.0.0", seconds=SCALE.seconds):
        self.stack = contextlib.ExitStack()
        self.seconds = seconds
        try:
            self.lab = self.stack.enter_context(Lab())
            self.service = servers.Server(self.lab, kind, host=host)
            self.guard = (guard or defender())(self.lab, self.service.log, limits, kind).start()
            self.stack.callback(self.guard.stop)
            self.meter = Meter(self.service)
            self.stack.callback(self.meter.close)
            self.client = NormalClient(self.lab, 2 * seconds + 60)
        except BaseException:
            self.stack.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def people(self, crowd, seconds, **options):
        """Honest clients, {kind: (how many, network)}; gives the process and their addresses."""
        spec = ",".join(f"{kind.rstrip('0123456789')}:{count}:{net}"
                        for kind, (count, net) in crowd.items())
        addresses = []
        for count, net in crowd.values():
            head, _, tail = net.rpartition(".")
            addresses += [f"{head}.{n + 1}" for n in range(count)] if tail == "0" else [net]
        child = e2e.Child(self.lab, self.lab.good, [
            INNOCENTS, "--target", f"{e2e.SERVER_FOR_CLIENT}:{e2e.PORT}", "--crowd", spec],
            seconds=seconds, **options)
        return child, addresses

    def is_back(self):
        return self.service.fds() <= self.service.idle + CLOSE

    def figures(self, begin, names, strangers=(), settle=1.0):
        """Everything that is known at the end, while the attackers are still there."""
        e2e.eventually(self.is_back, settle)
        end = time.monotonic()
        sets = self.guard.sets()
        result = {"idle": self.service.idle, "end": self.service.fds(), "peak": self.meter.peak(),
                  "limit": self.service.nofile, "seconds": end - begin,
                  "threads": self.service.threads(),
                  "attackers": len(names), "banned": len(banned_of(sets, names)),
                  "strangers": banned_of(sets, [e2e.NORMAL, *strangers]),
                  "alive": self.guard.alive()}
        full = self.meter.first_at(PEAK * self.service.nofile)
        result["full_s"] = full - begin if full else None
        return result | probes(self.client, begin - LEAD_SECONDS, end)


def probes(client, begin, end):
    """Only probes whose time was over when the measurement ended."""
    asked = [probe for probe in client.probes() if begin <= probe["t"] <= end - 1.0]
    good = [probe["t"] for probe in asked if probe["answered"]]
    marks = [begin, *good, end - 1.0]
    return {"asked": len(asked), "answered": len(good),
            "gap_s": max(b - a for a, b in zip(marks, marks[1:])),
            "lost": [round(probe["t"] - begin - LEAD_SECONDS, 1) for probe in asked
                     if not probe["answered"]]}


def besiege(attack, kind="flask", guard=None, limits="", seconds=SCALE.seconds):
    """One attack from its begin to the attackers' leaving."""
    host = "::" if getattr(attack, "v6", False) else "0.0.0.0"
    with Siege(kind, guard, limits, host, seconds) as siege:
        time.sleep(LEAD_SECONDS)
        begin = time.monotonic()
        holder, names = attack.start(siege)
        time.sleep(max(0.0, begin + seconds - time.monotonic()))
        result = siege.figures(begin, names)
        if isinstance(siege.guard, Tailban):
            result |= siege.guard.facts(names)
        held = holder.stop()
        result["holder"] = held
        first = held.get("first_reset")
        result["first_cut_s"] = first - begin if first else None
        e2e.eventually(siege.is_back, AFTER_SECONDS)
        result["left"] = siege.service.fds()
        return result


def seconds_text(value):
    return "never" if value is None else f"{value:.1f} s"


def line(result):
    """The figures of a siege in one line."""
    return (f"{result['answered']} of {result['asked']} answered, longest gap "
            f"{result['gap_s']:.1f} s; descriptors idle {result['idle']} peak {result['peak']} end "
            f"{result['end']} left {result['left']} of {result['limit']}, full after "
            f"{seconds_text(result['full_s'])}; {result['banned']} of {result['attackers']} "
            f"banned, first cut after {seconds_text(result['first_cut_s'])}")


# ---- Judgement ----

def judge_outage(tap, name, result):
    """Without a defender: the attack is one."""
    tap.ok(result["answered"] < result["asked"] - 1, f"{name}: without a defender it is an outage",
           result)


def judge_up(tap, name, result):
    """What holds in every siege."""
    tap.ok(result["asked"] >= SCALE.seconds and result["answered"] >= result["asked"] - 1,
           f"{name}: {result['answered']} of {result['asked']} probes answered", result["lost"])
    tap.ok(result["peak"] < PEAK * result["limit"],
           f"{name}: at most {result['peak']} of {result['limit']} descriptors")
    tap.equal(result["strangers"], [], f"{name}: no innocent is banned")
    tap.ok(result["alive"], f"{name}: the defender lives")


def judge_few(tap, name, result):
    """Attackers that hold many connections each are all banned, and nothing of theirs is left."""
    judge_up(tap, name, result)
    tap.ok(result["end"] <= result["idle"] + CLOSE,
           f"{name}: {result['end']} descriptors at the end (idle {result['idle']})")
    tap.equal(result["banned"], result["attackers"], f"{name}: every holder is banned")
    tap.ok(result["kills"] > 0, f"{name}: {result['kills']} connections killed, says `status`")
    tap.ok(result["limit"] in result["limits"], f"{name}: `status` knows the service and its limit",
           result["limits"])


def judge_undecidable(tap, name, result):
    """Connections of an event loop that may be at work: closed so that the service is up."""
    judge_up(tap, name, result)
    tap.equal(result["banned"], 0, f"{name}: nobody is banned for what cannot be told")
    tap.ok(result["kills"] > 0, f"{name}: {result['kills']} connections killed, says `status`")


def judge_everyone(tap, name, result):
    """A connection from each of a thousand addresses: closed, but nobody is banned for one."""
    judge_up(tap, name, result)
    tap.equal(result["banned"], 0, f"{name}: nobody is banned for one connection")
    tap.ok(result["kills"] > 0, f"{name}: {result['kills']} connections killed, says `status`")
    tap.ok(result["left"] <= result["idle"] + CLOSE,
           f"{name}: {result['left']} descriptors when they have gone (idle {result['idle']})")


def without(tap, name, package):
    """A server or a tool is not installed: a skip, where everything must be there a failure."""
    if os.environ.get("CI"):
        tap.ok(False, f"{name}: the package {package} is installed")
    else:
        tap.skip(name, f"the package {package} is not installed")


def run_case(tap, attack, kind="flask", limits="defaults", judges=None, seconds=SCALE.seconds):
    """A row of a table of attacks. judges: for tailban, instead of the usual ones."""
    guard = defender()
    name = f"{attack}, {kind}, {limits}"
    absent = servers.missing(kind)
    if absent:
        return without(tap, name, absent)
    result = besiege(attack, kind, guard, LIMITS[limits], seconds)
    failed = tap.failed
    if guard is Nobody and attack.harmless(kind):
        tap.ok(True, f"{name}: no outage, also without a defender")
    elif guard is Nobody:
        judge_outage(tap, name, result)
    elif guard is Tailban:
        judge = (judge_everyone if attack.everyone else
                 judge_undecidable if attack.undecidable(kind) else judge_few)
        (judges or judge)(tap, name, result)
    else:
        tap.ok(True, f"{name}: measured")
    tap.note(line(result) + (f"; by {', '.join(result['sources'])}" if result.get("sources")
                             else ""))
    if tap.failed != failed:
        tap.note(result["holder"])
        tap.note(result.get("tail", ""))


def rows(table, **options):
    """Test functions for lab.main, one for each (attack, kind, limits)."""
    tests = []
    for number, (attack, kind, limits) in enumerate(table, 1):
        def test(tap, attack=attack, kind=kind, limits=limits):
            run_case(tap, attack, kind, limits, **options)
        test.__name__ = f"row{number}"
        test.__doc__ = f"{attack}, {kind}, limits {limits}"
        tests.append(test)
    return tests
