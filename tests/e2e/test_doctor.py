#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""doctor and conns: numbers that agree with ss and /proc, names of culprits, remedies that help."""
import collections
import json
import os
import shutil
import time

import lab as e2e
from lab import CLIENT, FLASK_JAIL, PORT, PYTHON, SERVER, Daemon, Flask, Lab, eventually

NOFILE = 256
SILENT = 280
ADDRESSES = 4
LINES = 45
WIDTH = 100
SECONDS = 2.5
NOBODY = 65534

# Listens on loopback and does nothing; its name is an attack on the terminal.
LOOPBACK = """
import ctypes, socket, sys, time
ctypes.CDLL(None).prctl(15, b"\\x1b[31mred\\n", 0, 0, 0)
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", 8002))
s.listen(16)
kept = []
while True:
    kept.append(s.accept())
"""
# A proxy: listens where the world is and holds three connections to the one behind it.
PROXY = """
import socket, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", 8713))
s.listen(16)
kept = [socket.create_connection(("127.0.0.1", 8002)) for _ in range(3)]
time.sleep(60)
"""
# Half-open connections: the answers to these SYNs are dropped on their way back.
HALF_OPEN = """
import socket, sys, time
kept = []
for n in range(100):
    s = socket.socket()
    s.setblocking(False)
    s.bind((f"10.66.1.{1 + n % 4}", 0))
    s.connect_ex((sys.argv[1], int(sys.argv[2])))
    kept.append(s)
time.sleep(20)
"""


class Page:
    """One call of the client without a daemon, or with the one that `daemon` is."""

    def __init__(self, lab, *words, daemon=None, space=None, wrap=(), client=CLIENT):
        socket = daemon.socket if daemon else os.path.join(lab.tmp, "nowhere")
        begin = time.monotonic()
        done = lab.run(space or lab.server, [*wrap, client, "-s", socket, *words])
        self.seconds = time.monotonic() - begin
        self.rc, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.lines = self.out.splitlines()

    def data(self):
        return json.loads(self.out)

    def fits(self, tap, name):
        widest = max([len(line) for line in self.lines] or [0])
        tap.ok(len(self.lines) <= LINES and widest <= WIDTH,
               f"{name}: a page of {len(self.lines)} lines, {widest} columns", self.out)
        tap.ok("\x1b" not in self.out and not self.err, f"{name}: no colour and no complaint",
               repr(self.err))
        tap.ok(self.seconds < SECONDS or e2e.sanitized(),
               f"{name}: {self.seconds:.2f} s")


def findings(data, level=None):
    """{what: finding}"""
    return {entry["what"]: entry for entry in data["findings"]
            if level is None or entry["level"] == level}


def by_ss(lab, *condition):
    """{peer: connections} as ss counts them."""
    out = lab.run(lab.server, ["ss", "-Htan", *condition, "sport", "=", f":{PORT}"]).stdout
    return collections.Counter(line.split()[-1].rpartition(":")[0].strip("[]").
                               removeprefix("::ffff:") for line in out.splitlines())


def attacked(lab):
    """A service without a descriptor left, and who holds them."""
    flask = Flask(lab, NOFILE)
    hold = e2e.silent(lab, SILENT, e2e.attackers(ADDRESSES), 280, 60)
    full = eventually(lambda: flask.fds() >= NOFILE and len(lab.sockets()) == SILENT, 15)
    if not full:
        raise e2e.LabError(f"the attack did not fill the service: {flask.fds()}")
    time.sleep(2.2)
    return flask, hold


def check_page(tap, page, flask, name):
    page.fits(tap, name)
    tap.equal(page.rc, 1, f"{name}: something fails")
    missing = [address for address in e2e.attackers(ADDRESSES) if address not in page.out]
    tap.ok(not missing, f"{name}: names the culprits", missing)
    for word in (f"pid {flask.pid}", f"{NOFILE} of {NOFILE}", "Too many open files",
                 f"prlimit --pid {flask.pid} --nofile=", "8.0 MiB of stack", "in recv"):
        tap.ok(word in page.out, f"{name}: says '{word}'", page.out)


def check_numbers(tap, data, flask, name):
    tap.ok({"findings", "services", "system", "kernel", "daemon"} <= set(data),
           f"{name}: JSON has its keys", sorted(data))
    failed = findings(data, "FAIL")
    tap.ok({"descriptors", "silent"} <= set(failed) and
           all(entry["remedy"] for entry in failed.values()),
           f"{name}: descriptors and silence fail, with a remedy", failed)
    service = data["services"][0]
    process = service["processes"][0]
    tap.equal((process["pid"], process["descriptors"], process["soft"], process["hard"]),
              (flask.pid, NOFILE, NOFILE, NOFILE), f"{name}: whose, how many, of how many")
    tap.ok(abs(process["threads"] - flask.threads()) <= 2 and process["threads"] > 200,
           f"{name}: {process['threads']} threads")
    tap.ok(abs(process["virt_bytes"] / 1024 - flask.vmsize_kib()) < 65536,
           f"{name}: VIRT is that of /proc")
    tap.ok(service["threads"].get("recv", 0) > 200, f"{name}: they sleep in recv",
           service["threads"])
    tap.ok((service["waits_for"] or {}).get("client", 0) > 200,
           f"{name}: the server waits for its clients", service["waits_for"])
    tap.equal((service["connections"], service["silent"], service["npeers"]),
              (SILENT, SILENT, ADDRESSES), f"{name}: connections, silent ones, peers")
    tap.equal(service["listeners"][0]["queue"], service["unaccepted"],
              f"{name}: the queue is what nobody accepted")
    tap.ok(service["descriptors"]["sockets"] >= NOFILE - 10, f"{name}: the descriptors are sockets",
           service["descriptors"])


def check_conns(tap, lab, daemon, name):
    """conns counts as ss does."""
    page = Page(lab, "--json", "conns", daemon=daemon)
    rows = {row["addr"]: row for row in page.data()}
    tap.equal({addr: row["states"].get("ESTABLISHED", 0) for addr, row in rows.items()},
              dict(by_ss(lab, "state", "established")), f"{name}: conns counts as ss does")
    tap.equal(page.rc, 0, f"{name}: conns gives 0")
    tap.ok(all(row["silent"] == row["connections"] and row["oldest_silent_s"] >= 1 and
               row["bytes_received"] == 0 for row in rows.values()),
           f"{name}: all of them are silent", rows)
    tap.equal({row["banned"] for row in rows.values()}, {False if daemon else None},
              f"{name}: who is banned is known where the daemon is")
    text = Page(lab, "conns", daemon=daemon)
    tap.ok(max(map(len, text.lines)) <= WIDTH and "10.66.1.1 " in text.out,
           f"{name}: a table for people", text.out)
    tap.equal(Page(lab, "conns", "--port", "9", daemon=daemon).rc, 1,
              f"{name}: nobody on another port gives 1")
    tap.equal(Page(lab, "--json", "conns", "--port", "9").out, "[]\n",
              f"{name}: and an empty array")


def families(tap):
    """A dual-stack listener: mapped addresses are IPv4, IPv6 is added up by /64."""
    with Lab(4) as lab:
        Flask(lab, host="::")
        e2e.silent(lab, 3, [e2e.attacker(1)], 100, 30)
        e2e.silent(lab, 2, [e2e.attacker6(2)], 100, 30)
        eventually(lambda: len(lab.sockets()) == 5, 5)
        rows = {(row["addr"], row["prefix"]): row["connections"]
                for row in Page(lab, "--json", "conns", "--silent").data()}
        tap.equal(rows, {("10.66.1.1", 32): 3, ("fd66:1:0:2::", 64): 2}, "peers of both families")
        tap.equal(sum(by_ss(lab, "state", "established").values()), 5, "as many as ss counts")
        tap.ok("fd66:1:0:2::/64" in Page(lab, "conns").out, "the network is shown as one")
        tap.equal(Page(lab, "doctor").rc, 0, "three silent connections are no failure")


def remedy(data, what, begin):
    """The line of a remedy that begins so."""
    for line in findings(data)[what]["remedy"].splitlines():
        if line.startswith(begin):
            return line
    return None


def dying_service(tap):
    """Without the daemon."""
    with Lab() as lab:
        flask, _ = attacked(lab)
        check_page(tap, Page(lab, "doctor"), flask, "no daemon")
        check_page(tap, Page(lab, "doctor", "--port", str(PORT)), flask, "--port")
        check_page(tap, Page(lab, "doctor", "--log", flask.log), flask, "--log")
        data = Page(lab, "--json", "doctor").data()
        check_numbers(tap, data, flask, "no daemon")
        tap.equal(data["daemon"]["reachable"], False, "the daemon is not there")
        tap.ok(remedy(data, "silent", f"tailband -q {flask.log}"), "its log is known",
               findings(data)["silent"])
        check_conns(tap, lab, None, "no daemon")
        by_hand = remedy(data, "silent", "by hand")
        command = by_hand.partition(": ")[2]
        lab.run(lab.server, ["/bin/sh", "-c", command], check=True)
        back = eventually(lambda: flask.fds() <= flask.idle + 3, 3)
        tap.ok(back, f"the remedy by hand helps: {flask.fds()} descriptors", command)
        tap.equal(Page(lab, "doctor").rc, 0, "then nothing fails")


def dying_service_guarded(tap):
    """With the daemon, which does not look at silence here."""
    with Lab() as lab:
        flask, _ = attacked(lab)
        daemon = Daemon(lab, FLASK_JAIL.format(log=flask.log)).start()
        page = Page(lab, "doctor", daemon=daemon)
        check_page(tap, page, flask, "with the daemon")
        data = Page(lab, "--json", "doctor", daemon=daemon).data()
        check_numbers(tap, data, flask, "with the daemon")
        tap.ok(data["daemon"]["reachable"] and data["daemon"]["ready"] and
               findings(data)["daemon"]["level"] == "OK", "the daemon is seen", data["daemon"])
        tap.ok("log" in findings(data), "its log is looked at")
        check_conns(tap, lab, daemon, "with the daemon")
        command = remedy(data, "silent", "tailban ban")
        tap.ok(command, "the remedy is a ban", findings(data)["silent"])
        daemon.ctl(*command.split()[1:])
        back = eventually(lambda: flask.fds() <= flask.idle + 3, 3)
        tap.ok(back, f"the remedy helps: {flask.fds()} descriptors", command)
        hold = e2e.silent(lab, 12, [e2e.attacker(9)], 100, 20)
        eventually(lambda: len(lab.sockets()) >= 12, 5)
        daemon.ctl("ban", "10.66.1.0/29")
        rows = {row["addr"]: row["banned"]
                for row in Page(lab, "--json", "conns", "--silent", daemon=daemon).data()}
        tap.equal(rows.get(e2e.attacker(9)), False, "a peer outside of a banned network is free")
        hold.stop()
        os.environ["SSH_CONNECTION"] = "203.0.113.50 40000 10.66.1.254 22"
        try:
            guest = findings(json.loads(daemon.ctl("doctor", json_out=True).out)).get("lock-out")
        finally:
            del os.environ["SSH_CONNECTION"]
        tap.ok(guest and guest["level"] == "WARN" and "203.0.113.50" in guest["text"],
               "an ssh peer that could be banned is named", guest)
        daemon.stop()


def healthy(tap):
    """An idle service, with and without the daemon; one that is used."""
    with Lab() as lab:
        flask = Flask(lab)
        page = Page(lab, "doctor")
        tap.ok(page.rc == 0 and "FAIL " not in page.out, "idle: nothing fails", page.out)
        page.fits(tap, "idle")
        tap.equal(Page(lab, "conns").rc, 1, "idle: no connections")
        tap.ok("no connections" in Page(lab, "conns").out, "idle: says so")
        daemon = Daemon(lab, FLASK_JAIL.format(log=flask.log)).start()
        client = e2e.NormalClient(lab, 30)
        time.sleep(2)
        page = Page(lab, "doctor", daemon=daemon)
        tap.ok(page.rc == 0 and "FAIL " not in page.out, "in use: nothing fails", page.out)
        data = Page(lab, "--json", "doctor", daemon=daemon).data()
        tap.equal(findings(data, "FAIL"), {}, "in use: no FAIL in JSON")
        client.finish()
        for words, code in ((("doctor", "--port", "0"), 2), (("doctor", "--log", "/nowhere"), 2),
                            (("doctor", "--port", "1", "--log", flask.log), 2),
                            (("doctor", "x"), 2), (("conns", "--port", "http"), 2),
                            (("conns", "x"), 2), (("doctor", "--port", "9"), 1)):
            tap.equal(Page(lab, *words).rc, code, f"tailban {' '.join(words[:2])} gives {code}")
        daemon.stop()


def ordinary_user(tap):
    """A user who may not look into the service's process."""
    if os.environ.get("E2E_USERNS"):
        tap.skip("ordinary user", "this user namespace has no other user")
        return
    with Lab() as lab:
        attacked(lab)
        client = os.path.join(lab.tmp, "tailban")
        shutil.copy(CLIENT, client)
        wrap = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        page = Page(lab, "doctor", wrap=wrap, client=client)
        page.fits(tap, "ordinary user")
        tap.ok("cannot be seen by you" in page.out and "sudo tailban doctor" in page.out,
               "ordinary user: what is not seen is said", page.out)
        tap.ok("10.66.1.1" in page.out, "ordinary user: the peers are seen", page.out)
        data = Page(lab, "--json", "doctor", wrap=wrap, client=client).data()
        service = data["services"][0]
        tap.equal((service["processes"], service["silent"], data["kernel"]["nftables"]),
                  ([], SILENT, None), "ordinary user: nothing is guessed")
        page = Page(lab, "--json", "conns", wrap=wrap, client=client)
        tap.equal(sum(row["connections"] for row in page.data()), SILENT,
                  "ordinary user: conns needs no right")


def forwarded(tap):
    """A service on loopback behind a proxy, and one in another network namespace."""
    with Lab(4) as lab:
        behind = lab.spawn(lab.server, [PYTHON, "-c", LOOPBACK])
        eventually(lambda: "8002" in lab.run(lab.server, ["ss", "-Hltn"]).stdout, 5)
        proxy = lab.spawn(lab.server, [PYTHON, "-c", PROXY])
        eventually(lambda: lab.run(lab.server, ["ss", "-Htn", "state", "established", "dport", "=",
                                                ":8002"]).stdout.count("\n") == 3, 5)
        data = Page(lab, "--json", "doctor", "--port", "8002").data()
        found = findings(data)["proxy"]
        tap.ok(found["level"] == "WARN" and f"(pid {proxy.pid}, port 8713)" in found["text"],
               "the proxy in front is named", found)
        page = Page(lab, "doctor", "--port", "8002")
        tap.ok(f"\\x1b[31mred\\x0a (pid {behind.pid}" in page.out and "\x1b" not in page.out,
               "a hostile name is made visible", page.out)
        page = Page(lab, "doctor", "--port", "8713", space=lab.good)
        tap.equal(page.rc, 1, "a listener in another network namespace is a failure")
        tap.ok(f"nsenter -t {behind.pid} -n tailban doctor --port 8713" in page.out or
               f"nsenter -t {proxy.pid} -n tailban doctor --port 8713" in page.out,
               "and the way there is said", page.out)


def traps(tap):
    """Logs: one address, dates of another zone, descriptors that ran out; half-open floods."""
    with Lab(4) as lab:
        flask = Flask(lab)
        with open(flask.log, "ab") as log:
            log.write(b"OSError: [Errno 24] Too many open files: 'app.py'\n")
            for _ in range(30):
                log.write(e2e.log_line("10.9.9.9", when=time.time() - 7200))
        found = findings(Page(lab, "--json", "doctor", "--log", flask.log).data())
        tap.ok("10.9.9.9" not in str(found.get("one address")),
               "two addresses are no proxy", found.get("one address"))
        tap.ok("2h" in found["dates"]["text"] and "zone" in found["dates"]["text"],
               "dates of another zone", found.get("dates"))
        tap.ok("1 of its last lines" in found["emfile"]["text"], "the line of a full table",
               found.get("emfile"))
        alone = os.path.join(lab.tmp, "alone.log")
        with open(alone, "wb") as log:
            log.write(e2e.log_line("127.0.0.1") * 40)
        found = findings(Page(lab, "--json", "doctor", "--log", alone).data())
        tap.ok("proxy on this host" in found["one address"]["text"], "one address is a proxy",
               found)
        tap.ok(found["service"]["level"] != "OK" and "no " in found["service"]["text"],
               "a log that nobody writes", found["service"])
        lab.run(lab.bad, ["nft", "-f", "-"], check=True,
                input="table inet t { chain c { type filter hook input priority 0; "
                      "tcp flags & (syn | ack) == (syn | ack) drop; }; }")
        lab.spawn(lab.bad, [PYTHON, "-c", HALF_OPEN, SERVER, str(PORT)])
        eventually(lambda: sum(by_ss(lab, "state", "syn-recv").values()) >= 90, 5)
        found = findings(Page(lab, "--json", "doctor").data())["half-open"]
        tap.ok(found["level"] == "WARN" and "SYN flood" in found["remedy"],
               "half-open connections over half of the backlog", found)


if __name__ == "__main__":
    e2e.main(dying_service, dying_service_guarded, healthy, families, ordinary_user,
             forwarded, traps)
