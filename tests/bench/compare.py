#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""The same attacks on the same service: nobody defends it, fail2ban does, tailban does.

    compare.py [--json [FILE]] [--seconds S] [noise-first | silent-first | burst | restart] ...

Environment: RUNS (3), TAILBAN_BUILD, TAILBAN_DATADIR. The defenders take turns within each run, in
another order each time; the tables show medians. --json alone prints all numbers of all runs
instead of the tables; with FILE it writes them beside the tables. Needs python3-flask and Debian's
fail2ban, which is started in the laboratory's namespace only, with a configuration of its own.
README.md says how each number is taken. Ends with 1 and a sentence when something could not be
measured.
"""
import argparse
import collections
import contextlib
import ctypes
import datetime
import errno
import json
import os
import platform
import re
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import lab as e2e  # noqa: E402  pylint: disable=wrong-import-position

NOFILE = e2e.SCALES["full"].nofile
CLOSE_TO_IDLE = 10
PROBE_EVERY = 0.25
LEAVE_SECONDS = 5
BURST = 2000
RESTART_BANS = 1000
# Senders among the banned; prime to traffic.py's "a SYN with every tenth", so that all send SYNs.
SENDERS = 21
PATIENCE = 180
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

FAIL2BAN_CONF = """\
[DEFAULT]
loglevel = INFO
logtarget = {home}/fail2ban.log
syslogsocket = auto
socket = {home}/socket
pidfile = {home}/pid
dbfile = {database}
dbpurgeage = 1d
dbmaxmatches = 10
[Definition]
"""
FAIL2BAN_JAIL = """\
[DEFAULT]
banaction = nftables-multiport
action_ = %(banaction)s[port="%(port)s", protocol="tcp"]
action = %(action_)s
[flask]
enabled = true
filter = flask
logpath = {log}
port = 8001
backend = pyinotify
usedns = no
maxretry = 2
findtime = 10m
bantime = 1h
"""
FAIL2BAN_KILL = """\
         ss-kill
"""
FAIL2BAN_FILTER = """\
[Definition]
failregex = ^<HOST> - - \\[\\] code 400, message Bad
            ^<HOST> - - \\[\\] "(?:GET|POST) /(?:login|admin|wp-|phpmyadmin|\\.env)[^"]*" 404 -$
"""
FAIL2BAN_SS_KILL = """\
[Definition]
actionban = ss -K dst <ip> sport = :8001
"""
TAILBAN_PORT = "port = 8001\n"


def say(text):
    print(f"# {text}", file=sys.stderr, flush=True)


# ---- Observers: threads that only listen. ----

class Observer(threading.Thread):
    """Calls `take` whenever `fd` is readable, or `every` seconds, until `close`."""

    def __init__(self, fd=None, every=0.2):
        super().__init__(daemon=True)
        self.fd = fd
        self.every = every
        self.over = threading.Event()

    def run(self):
        while not self.over.is_set():
            if self.fd is None:
                time.sleep(self.every)
                self.take()
            elif select.select([self.fd], [], [], self.every)[0]:
                self.take()

    def take(self):
        raise NotImplementedError

    def close(self):
        self.over.set()
        self.join()


class Descriptors(Observer):
    """How many descriptors the service had, and when."""

    def __init__(self, flask):
        super().__init__(every=0.02)
        self.path = f"/proc/{flask.pid}/fd"
        self.flask = flask
        self.samples = []
        # Since Linux 6.2 the size of the directory is the number.
        self.cheap = os.stat(self.path).st_size > 0
        self.start()

    def take(self):
        with contextlib.suppress(OSError):
            count = os.stat(self.path).st_size if self.cheap else self.flask.fds()
            self.samples.append((time.monotonic(), count))

    def peak(self):
        return max(count for _, count in self.samples)

    def last_above(self, limit, until):
        return max((when for when, count in self.samples if count > limit and when <= until),
                   default=None)


class LogWatch(Observer):
    """When the offending lines of each address came into the log."""

    OFFENCE = re.compile(rb"^(\S+) - - \[[^\]]*\] code 400, message ")
    IN_MODIFY = 2

    def __init__(self, path):
        self.file = open(path, "rb")  # pylint: disable=consider-using-with
        self.file.seek(0, os.SEEK_END)
        self.rest = b""
        self.offences = collections.defaultdict(list)
        fd = e2e.LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if fd < 0 or e2e.LIBC.inotify_add_watch(fd, os.fsencode(path), self.IN_MODIFY) < 0:
            raise e2e.LabError(f"inotify: {os.strerror(ctypes.get_errno())}")
        super().__init__(fd)
        self.start()

    def take(self):
        now = time.monotonic()
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 65536)
        *lines, self.rest = (self.rest + self.file.read()).split(b"\n")
        for line in lines:
            match = self.OFFENCE.match(line)
            if match:
                self.offences[match[1].decode("ascii", "replace")].append(now)

    def first(self):
        return min((times[0] for times in self.offences.values()), default=None)

    def close(self):
        super().close()
        os.close(self.fd)
        self.file.close()


def attributes(data):
    """(type, payload) of netlink attributes."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & 0x3fff, data[at + 4:at + length]
        at += (length + 3) & ~3


class Elements(Observer):
    """The ban sets of the laboratory's server, followed by the kernel's own messages."""

    NFNLGRP_NFTABLES = 7
    NEWSETELEM, DELSETELEM, DELSET = 0xa0c, 0xa0e, 0xa0b
    SO_RCVBUFFORCE = 33

    def __init__(self, lab):
        with lab.server.inside():
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, self.SO_RCVBUFFORCE, 32 << 20)
        self.socket.bind((0, 1 << (self.NFNLGRP_NFTABLES - 1)))
        self.first = {}
        self.live = {}
        super().__init__(self.socket.fileno())
        self.start()

    def take(self):
        data = self.socket.recv(1 << 20)
        now = time.monotonic()
        at = 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            if kind in (self.NEWSETELEM, self.DELSETELEM, self.DELSET):
                self.change(kind, data[at + 20:at + length], now)
            at += (length + 3) & ~3

    def change(self, kind, body, now):
        """NFTA_SET_ELEM_LIST_SET is 2, ..._ELEMENTS 3; NFTA_SET_NAME is 2 too."""
        found = dict(attributes(body))
        name = found.get(2, b"").rstrip(b"\0").decode("ascii", "replace")
        if not (e2e.is_ban_set(name) or name.startswith("addr-set-")):
            return
        if kind == self.DELSET:
            self.live.pop(name, None)
            return
        live = self.live.setdefault(name, set())
        for address in self.addresses(found.get(3, b"")):
            if kind == self.NEWSETELEM:
                live.add(address)
                self.first.setdefault(address, now)
            else:
                live.discard(address)

    @staticmethod
    def addresses(elements):
        """NFTA_LIST_ELEM, NFTA_SET_ELEM_KEY and NFTA_DATA_VALUE are all 1."""
        for _, element in attributes(elements):
            value = dict(attributes(dict(attributes(element)).get(1, b""))).get(1, b"")
            if len(value) == 4:
                yield socket.inet_ntoa(value)

    def count(self):
        return sum(len(live) for live in list(self.live.values()))

    def close(self):
        super().close()
        self.socket.close()


class Forks(Observer):
    """Processes that the defender's processes started, by the kernel's process events."""

    NETLINK_CONNECTOR, CN_IDX_PROC, CN_VAL_PROC = 11, 1, 1
    LISTEN, IGNORE, FORK = 1, 2, 1

    def __init__(self, pids):
        self.family = set(pids)
        self.count = 0 if pids else None
        self.socket = None
        if not pids:
            return
        try:
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM,
                                        self.NETLINK_CONNECTOR)
            self.socket.setsockopt(socket.SOL_SOCKET, Elements.SO_RCVBUFFORCE, 32 << 20)
            self.socket.bind((0, self.CN_IDX_PROC))
            self.ask(self.LISTEN)
        except OSError:
            self.count = None  # a user namespace, or a kernel without the connector
            return
        super().__init__(self.socket.fileno())
        self.start()

    def ask(self, what):
        body = struct.pack("=IIIIHHI", self.CN_IDX_PROC, self.CN_VAL_PROC, 0, 0, 4, 0, what)
        self.socket.send(struct.pack("=IHHII", 16 + len(body), 3, 0, 0, 0) + body)

    def take(self):
        """nlmsghdr 16, cn_msg 20, then what, cpu, timestamp, and at 16 the four ids of a fork."""
        try:
            data = self.socket.recv(65536)
        except OSError as problem:
            if problem.errno != errno.ENOBUFS:
                raise
            self.count = None
            return
        if self.count is None or len(data) < 68:
            return
        if struct.unpack_from("=I", data, 36)[0] != self.FORK:
            return
        _, parent, child, group = struct.unpack_from("=4I", data, 52)
        if parent in self.family and child == group:
            self.family.add(child)
            self.count += 1

    def close(self):
        if self.socket is None:
            return
        if self.ident:
            super().close()
            with contextlib.suppress(OSError):
                self.ask(self.IGNORE)
        self.socket.close()


# ---- Defenders ----

class Nobody:
    """No defence."""
    key = "nobody"
    title = "nobody"

    def __init__(self, lab, log, service=True, database=":memory:"):
        pass

    def start(self):
        return self

    def pids(self):
        return []

    def ready(self):
        return True

    def stop(self):
        pass


class Fail2ban:
    """Debian's fail2ban, set up as its manual says."""
    key = "fail2ban"
    title = "fail2ban"
    kill = False

    def __init__(self, lab, log, service=True, database=":memory:"):
        del service
        self.lab = lab
        self.home = os.path.join(lab.tmp, "fail2ban")
        self.child = None
        actions = os.path.join(self.home, "action.d")
        os.makedirs(actions)
        for name in os.listdir("/etc/fail2ban/action.d"):
            os.symlink(os.path.join("/etc/fail2ban/action.d", name), os.path.join(actions, name))
        if database != ":memory:":
            database = os.path.join(self.home, database)
        self.write("fail2ban.conf", FAIL2BAN_CONF.format(home=self.home, database=database))
        jail = FAIL2BAN_JAIL.format(log=log)
        if self.kill:
            jail = jail.replace("action = %(action_)s\n", "action = %(action_)s\n" + FAIL2BAN_KILL)
        self.write("jail.conf", jail)
        self.write("filter.d/flask.conf", FAIL2BAN_FILTER)
        self.write("action.d/ss-kill.conf", FAIL2BAN_SS_KILL)

    def write(self, path, text):
        full = os.path.join(self.home, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as out:
            out.write(text)

    def argv(self, program, *words):
        return [program, "-c", self.home, "-s", os.path.join(self.home, "socket"),
                "-p", os.path.join(self.home, "pid"), *words]

    def start(self):
        with open(os.path.join(self.home, "out"), "ab") as out:
            self.child = self.lab.spawn(self.lab.server,
                                        self.argv("fail2ban-server", "-f", "-x", "start"),
                                        stdout=out, stderr=out)
        if not e2e.eventually(self.ready, 30, 0.1):
            raise e2e.LabError(f"fail2ban is not ready:\n{self.tail()}")
        return self

    def ready(self):
        if self.child.poll() is not None:
            raise e2e.LabError(f"fail2ban ended with {self.child.returncode}:\n{self.tail()}")
        return self.lab.run(self.lab.server,
                            self.argv("fail2ban-client", "status", "flask")).returncode == 0

    def tail(self):
        text = ""
        for name in ("out", "fail2ban.log"):
            with contextlib.suppress(OSError), open(os.path.join(self.home, name),
                                                    encoding="utf-8", errors="replace") as file:
                text += "".join(file.readlines()[-15:])
        return e2e.visible(text)

    def pids(self):
        return e2e.descendants(self.child.pid)

    def stop(self):
        e2e.end_child(self.child, 60)


class Fail2banKill(Fail2ban):
    """fail2ban with a second action."""
    key = "fail2ban_ss"
    title = "fail2ban + `ss -K`"
    kill = True


class Tailban:
    """tailband with its shipped jail for Flask."""
    key = "tailban"
    title = "tailban"

    def __init__(self, lab, log, service=True, database=":memory:"):
        del database
        # Without a service there is no listener to find the port by.
        self.daemon = e2e.Daemon(lab, e2e.FLASK_JAIL.format(log=log) +
                                 ("" if service else TAILBAN_PORT))

    def start(self):
        self.daemon.start()
        return self

    def ready(self):
        return self.daemon.ctl("status").rc == 0

    def pids(self):
        return self.daemon.pids()

    def stop(self):
        self.daemon.stop()


DEFENDERS = (Nobody, Fail2ban, Fail2banKill, Tailban)


def cpu_seconds(pids):
    """Of the processes and of all children that they have waited for."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                fields = stat.read().rpartition(")")[2].split()
            own = sum(map(int, fields[11:13])) / CLOCK_TICKS
            total += max(own, exact_seconds(pid)) + sum(map(int, fields[13:15])) / CLOCK_TICKS
    return total


def exact_seconds(pid):
    """Nanoseconds from the scheduler: ticks are too coarse for a daemon that sleeps."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/schedstat",
                                                encoding="ascii") as stat:
            total += int(stat.read().split()[0])
    return total / 1e9


def memory_mib(pids):
    """(sum of RSS, sum of PSS); pages that processes share count once in PSS."""
    rss = pss = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup",
                                                encoding="ascii") as rollup:
            for line in rollup:
                rss += int(line.split()[1]) if line.startswith("Rss:") else 0
                pss += int(line.split()[1]) if line.startswith("Pss:") else 0
    return rss / 1024, pss / 1024


class Costs:
    """What the defender costs from now until `result`."""

    def __init__(self, defender):
        self.defender = defender
        pids = defender.pids()
        self.before = cpu_seconds(pids)
        self.forks = Forks(pids)

    def result(self):
        pids = self.defender.pids()
        if not pids:
            self.forks.close()
            return {}
        cpu = cpu_seconds(pids) - self.before
        rss, pss = memory_mib(pids)
        self.forks.close()
        return {"cpu_s": cpu, "rss_mib": rss, "pss_mib": pss, "processes": self.forks.count}


# ---- Attacks on the service ----

def noise_first(lab, flask):
    """Two bad requests of each, then silent connections from the same addresses."""
    del flask
    sources = e2e.attackers(50)
    e2e.noise(lab, sources).wait()
    return sources, e2e.silent(lab, 1100, sources, 250, 120)


def silent_first(lab, flask):
    """Silent connections, and when they stand two bad requests of each address."""
    sources = e2e.attackers(20)
    hold = e2e.silent(lab, 600, sources, 500, 120)
    e2e.eventually(lambda: flask.fds() >= 600, 10)
    e2e.noise(lab, sources).wait()
    return sources, hold


ATTACKS = {
    "noise-first": (noise_first, "Two bad requests, then 1,100 silent connections, 50 addresses"),
    "silent-first": (silent_first, "600 silent connections, then two bad requests, 20 addresses"),
}


def attack(kind, seconds):
    """Measures one attack on a service defended by `kind`, at the end of `seconds`."""
    def measure(run):
        with e2e.Lab() as lab:
            flask = e2e.Flask(lab, nofile=NOFILE)
            defender = kind(lab, flask.log).start()
            elements, log = Elements(lab), LogWatch(flask.log)
            descriptors, costs = Descriptors(flask), Costs(defender)
            client = e2e.NormalClient(lab, 200, every=PROBE_EVERY)
            time.sleep(1.0)
            begin = time.monotonic()
            sources, hold = run(lab, flask)
            time.sleep(max(0.0, begin + seconds - time.monotonic()))
            end = time.monotonic()
            result = {"idle": flask.idle, "end": flask.fds(), "threads": flask.threads(),
                      "peak": descriptors.peak(), "addresses": len(sources)}
            result |= probes(client, begin, end)
            result |= timing(log, elements, sources)
            result["back_s"] = back(descriptors, log, flask.idle + CLOSE_TO_IDLE, end,
                                    result["end"])
            result |= costs.result()
            result["attack"] = hold.stop()
            e2e.eventually(lambda: flask.fds() <= flask.idle + CLOSE_TO_IDLE, LEAVE_SECONDS)
            result["left"] = flask.fds()
            client.finish()
            for observer in (elements, log, descriptors):
                observer.close()
            defender.stop()
            return result
    return measure


def probes(client, begin, end):
    """Only probes whose time was over when the measurement ended."""
    asked = [probe for probe in client.probes() if begin <= probe["t"] <= end - 1.0]
    answered = [probe["t"] for probe in asked if probe["answered"]]
    marks = [begin, *answered, end - 1.0]
    return {"asked": len(asked), "answered": len(answered),
            "gap_s": max(b - a for a, b in zip(marks, marks[1:]))}


def timing(log, elements, sources):
    first = log.first()
    drops = {source: elements.first[source] for source in sources if source in elements.first}
    second = [drops[source] - log.offences[source][1] for source in drops
              if len(log.offences[source]) > 1]
    live = set().union(*elements.live.values())
    since = [drop - first for drop in drops.values()]
    return {"banned": len(live.intersection(sources)), "innocent": len(live.difference(sources)),
            "first_drop_s": min(since, default=None), "last_drop_s": max(since, default=None),
            "second_to_drop_s": statistics.median(second) if second else None}


def back(descriptors, log, limit, end, now):
    """Seconds from the first offending line until the descriptors were back for good."""
    if now > limit or log.first() is None:
        return None
    last = descriptors.last_above(limit, end)
    return max(0.0, last - log.first()) if last else 0.0


# ---- Many addresses, and a restart ----

def fill(path, addresses):
    """Two bad requests of each address, in one write."""
    data = b"".join(e2e.bad_request(address) * 2 for address in addresses)
    with open(path, "ab", buffering=0) as log:
        begin = time.monotonic()
        if log.write(data) != len(data):
            raise e2e.LabError("the log took only a part")
    return begin


@contextlib.contextmanager
def without_service(kind, database=":memory:"):
    """A defender on a log of its own."""
    with e2e.Lab(SENDERS) as lab:
        path = os.path.join(lab.tmp, "service.log")
        with open(path, "wb") as log:
            log.write(e2e.log_line("192.0.2.1", '"GET /hello_world HTTP/1.1" 200 -'))
        elements = Elements(lab)
        defender = kind(lab, path, service=False, database=database).start()
        time.sleep(1.0)
        yield lab, path, elements, defender
        elements.close()
        defender.stop()


def banned_all(elements, count):
    if not e2e.eventually(lambda: elements.count() >= count, PATIENCE, 0.01):
        raise e2e.LabError(f"{elements.count()} of {count} bans after {PATIENCE} s")


def burst(kind):
    """One write, and the time until the last address is in the kernel's set."""
    with without_service(kind) as (_, path, elements, defender):
        costs = Costs(defender)
        addresses = [f"198.18.{n // 250}.{1 + n % 250}" for n in range(BURST)]
        begin = fill(path, addresses)
        banned_all(elements, BURST)
        times = [elements.first[address] - begin for address in addresses]
        return {"first_s": min(times), "last_s": max(times)} | costs.result()


def restart_addresses():
    """Real senders, spread evenly over the log and in the middle of the sorted addresses.

    fail2ban restores in the order of the address as text; being first or last would be luck.
    """
    every = RESTART_BANS // SENDERS
    result = []
    for n in range(RESTART_BANS):
        sender, rest = divmod(n, every)
        if rest == 0 and sender < SENDERS:
            result.append(e2e.attacker(1 + sender))
        else:
            result.append(f"{('10.65', '198.18')[n % 2]}.{n // 250}.{1 + n % 250}")
    return result


def count_arrivals(lab):
    """TCP packets of the senders before and after all rules of the defenders."""
    lab.nft("add table inet arrivals")
    for name, hook, priority in (("before", "prerouting", -500), ("after", "input", 500)):
        lab.nft(f"add chain inet arrivals {name} "
                f"{{ type filter hook {hook} priority {priority}; }}")
        lab.nft(f"add rule inet arrivals {name} ip saddr 10.66.1.0/24 tcp dport {e2e.PORT} counter")


def arrivals(lab):
    text = lab.nft("list", "table", "inet", "arrivals")
    return [int(number) for number in re.findall(r"packets (\d+)", text)]


def restart(kind):
    """TERM and start with all bans live, while banned addresses go on sending."""
    with without_service(kind, "fail2ban.sqlite3") as (lab, path, elements, defender):
        count_arrivals(lab)
        fill(path, restart_addresses())
        banned_all(elements, RESTART_BANS)
        time.sleep(1.0)
        sender = e2e.flood(lab, e2e.attackers(SENDERS), 1000, 250)
        time.sleep(1.0)
        before = arrivals(lab)
        begin = time.monotonic()
        defender.stop()
        defender.start()
        ready = time.monotonic() - begin
        banned_all(elements, RESTART_BANS)
        whole = time.monotonic() - begin
        sent, through = (b - a for a, b in zip(before, arrivals(lab)))
        sender.stop()
        return {"ready_s": ready, "whole_s": whole, "sent": sent, "through": through}


# ---- The report ----

def seconds_text(value):
    if value is None:
        return "-"
    if value < 0.001:
        return "< 1 ms"  # the observers are no better
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def back_text(value):
    return "never" if value is None else seconds_text(value)


def number_text(value):
    return "-" if value is None else f"{value:.0f}"


def cpu_text(value):
    return "-" if value is None else f"{value:.3f} s" if value < 0.1 else f"{value:.2f} s"


def mib_text(value):
    return "-" if value is None else f"{value:.1f} MiB"


Row = collections.namedtuple("Row", "text keys form")
COSTS = (
    Row("defender: CPU time", ("cpu_s",), cpu_text),
    Row("defender: RSS / PSS", ("rss_mib", "pss_mib"), mib_text),
    Row("defender: processes started", ("processes",), number_text),
)
ATTACK_ROWS = (
    Row("normal client: answers / requests", ("answered", "asked"), number_text),
    Row("normal client: longest gap", ("gap_s",), seconds_text),
    Row("descriptors: idle / peak", ("idle", "peak"), number_text),
    Row("descriptors at the end", ("end",), number_text),
    Row("threads at the end", ("threads",), number_text),
    Row("descriptors after the attackers hung up", ("left",), number_text),
    Row("attackers banned / all", ("banned", "addresses"), number_text),
    Row("others banned", ("innocent",), number_text),
    Row("first offending line to first drop", ("first_drop_s",), seconds_text),
    Row("first offending line to last drop", ("last_drop_s",), seconds_text),
    Row("second offence of an address to its drop", ("second_to_drop_s",), seconds_text),
    Row("first offending line to descriptors back", ("back_s",), back_text),
) + COSTS
BURST_ROWS = (
    Row("one write to first drop", ("first_s",), seconds_text),
    Row("one write to last drop", ("last_s",), seconds_text),
) + COSTS
RESTART_ROWS = (
    Row("TERM to ready", ("ready_s",), seconds_text),
    Row("TERM to all bans in force", ("whole_s",), seconds_text),
    Row("packets of banned addresses: let through / arrived", ("through", "sent"), number_text),
)


def median(results, key):
    """What was never reached, or not measured, is worse than any number."""
    values = [float("inf") if run.get(key) is None else run[key] for run in results]
    value = statistics.median_high(values)
    return None if value == float("inf") else value


def table(title, rows, cases):
    """`cases` is [(title of the defender, [result, ...])]."""
    print(f"\n**{title}**\n")
    print("| | " + " | ".join(name for name, _ in cases) + " |")
    print("|---" * (len(cases) + 1) + "|")
    for row in rows:
        cells = [" / ".join(row.form(median(results, key)) for key in row.keys)
                 for _, results in cases]
        cells = ["-" if set(cell) <= set("- /") else cell for cell in cells]
        print(f"| {row.text} | " + " | ".join(cells) + " |")


def first_line(*argv):
    done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return lines[0].strip() if lines else "?"


def processor():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        names = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    return names[0] if names else platform.machine()


def machine(runs, seconds):
    flask = first_line(e2e.PYTHON, "-c", "import importlib.metadata as m; "
                       "print('Flask', m.version('flask') + ', werkzeug', m.version('werkzeug'))")
    return {"kernel": f"{platform.system()} {platform.release()}", "processor": processor(),
            "cores": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[0], 1),
            "date": datetime.date.today().isoformat(), "service": flask,
            "python": platform.python_version(), "nofile": NOFILE,
            "fail2ban": "fail2ban " + first_line("fail2ban-server", "-V").split()[-1],
            "tailban": first_line(e2e.DAEMON, "-V"), "runs": runs, "seconds": seconds}


def report(facts, parts):
    print(f"{facts['kernel']}, {facts['processor']}, {facts['cores']} cores, "
          f"load {facts['load']} before, {facts['date']}; {facts['tailban']}, {facts['fail2ban']}; "
          f"{facts['service']}, Python {facts['python']}, ulimit -n {facts['nofile']}; "
          f"medians of {facts['runs']} runs, attacks of {facts['seconds']:.0f} s")
    for part in parts.values():
        table(part["title"], part["rows"],
              [(kind.title, part["results"][kind.key]) for kind in part["kinds"]])


def planned(names, seconds):
    """What is measured: {part: title, rows, defenders, function of a defender, results}."""
    parts = {}
    for name, (run, title) in ATTACKS.items():
        parts[name] = {"title": title, "rows": ATTACK_ROWS, "kinds": DEFENDERS,
                       "measure": lambda kind, run=run: attack(kind, seconds)(run)}
    parts["burst"] = {"title": f"{BURST:,} addresses in one write to the log", "rows": BURST_ROWS,
                      "kinds": (Fail2ban, Tailban), "measure": burst}
    parts["restart"] = {"title": f"Restart with {RESTART_BANS:,} bans", "rows": RESTART_ROWS,
                        "kinds": (Fail2ban, Tailban), "measure": restart}
    for part in parts.values():
        part["results"] = {kind.key: [] for kind in part["kinds"]}
    return {name: part for name, part in parts.items() if not names or name in names}


def measure_all(parts, runs):
    for turn in range(runs):
        for name, part in parts.items():
            kinds = part["kinds"]
            shift = turn % len(kinds)
            for kind in kinds[shift:] + kinds[:shift]:
                begin = time.monotonic()
                result = part["measure"](kind)
                part["results"][kind.key].append(result)
                say(f"run {turn + 1}/{runs}: {name}, {kind.key}: "
                    f"{time.monotonic() - begin:.0f} s {json.dumps(result)}")


def prepare():
    """A sentence when nothing can be measured here, or None."""
    os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
    os.environ.pop("PYTHONPATH", None)
    os.environ["LC_ALL"] = "C.UTF-8"
    reason = e2e.missing() or e2e.reexec_as_root()
    if reason:
        return reason
    if not os.path.isdir("/etc/fail2ban/action.d"):
        return "fail2ban is not installed (apt-get install fail2ban)"
    if not (os.path.exists(e2e.DAEMON) and os.path.exists(e2e.CLIENT)):
        return f"the programs are not built in {e2e.BUILD}"
    if e2e.sanitized():
        return "a sanitizer build is not measured"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, e2e.stop_on)
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("parts", nargs="*", metavar="part",
                        help="noise-first, silent-first, burst, restart; default: all")
    args = parser.parse_args()
    runs = max(1, int(os.environ.get("RUNS", "3")))
    parts = planned(args.parts, args.seconds)
    if set(args.parts) - set(parts):
        parser.error("a part is noise-first, silent-first, burst or restart")
    reason = prepare()
    if reason:
        sys.exit(f"compare.py: {reason}")
    e2e.take_turn()
    facts = machine(runs, args.seconds)
    try:
        measure_all(parts, runs)
    except e2e.LabError as problem:
        sys.exit(f"compare.py: {problem}")
    if args.json:
        text = json.dumps({"machine": facts} | {name: part["results"]
                                                for name, part in parts.items()}, indent=1)
        if args.json == "-":
            print(text)
            return
        with open(args.json, "w", encoding="utf-8") as out:
            out.write(text + "\n")
    report(facts, parts)


if __name__ == "__main__":
    main()
