#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""A service in another network namespace, as Docker, podman and `ip netns` make them.

The server namespace is the host: the daemon runs there, port 8066 is translated (DNAT) to port 80
of a container namespace behind it, and a service of its own listens on the host's port 80, which
nobody may touch. The container's log is a file that the host sees.
"""
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import time

import lab as e2e
from lab import Daemon, Lab, LabError
from test_idle import wakeups

PUBLISHED = 8066
INSIDE = 80
HOST = "10.77.0.1"
BOX = "10.77.0.2"
FLOOD = 180 if e2e.SCALE.name == "small" else 1100
RATE = 240

# A port that a jail names is one of the namespace in which its log is written.
JAILS = """\
[flask]
enabled = yes
filter = werkzeug
logpath = {log}
port = 80
scope = port
[held]
enabled = yes
backend = sockets
logpath = {log}
silent = 2s
unanswered = 3s
stalled = 3s
maxretry = 3
findtime = 10m
bantime = 1h
"""


class Service:
    """The Flask service in a namespace of the laboratory, on port 80."""

    def __init__(self, lab, space, log):
        command = f"ulimit -n {e2e.SCALE.nofile}; exec {e2e.PYTHON} {e2e.RUN_PY} >> {log} 2>&1"
        environment = dict(os.environ, HOST="0.0.0.0", PORT=str(INSIDE))
        self.child = lab.spawn(space, ["/bin/bash", "-c", command], cwd=lab.tmp, env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self.child.pid

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Container:
    """A namespace behind the host, with the service in it, reached by DNAT from port 8066."""

    def __init__(self, lab, log):
        self.lab = lab
        self.space = lab.add_space()
        lab.ip(lab.server, [f"link add box type veth peer name eth0 netns {self.space.path}",
                            f"addr add {HOST}/24 dev box", "link set box up"])
        lab.ip(self.space, ["link set lo up", f"addr add {BOX}/24 dev eth0", "link set eth0 up",
                            f"route add default via {HOST}"])
        self.service = Service(lab, self.space, log)
        if not e2e.eventually(self.answers, 20):
            raise LabError("the container does not answer")
        e2e.eventually(lambda: self.service.fds() <= 6, 2, 0.02)
        self.idle = self.service.fds()

    def answers(self):
        """Through DNAT."""
        return e2e.http_get(self.lab.good, (e2e.SERVER_FOR_CLIENT, PUBLISHED))

    @property
    def inode(self):
        return self.space.inode

    def peers(self):
        """The addresses that hold connections, as the container's kernel shows them."""
        out = self.lab.run(self.space, ["ss", "-Htan", "state", "established", "sport", "=",
                                        f":{INSIDE}"]).stdout
        return [line.split()[-1].rpartition(":")[0] for line in out.splitlines()]

    def stop(self):
        """The namespace goes with its last process, unless somebody else keeps it."""
        e2e.end_child(self.service.child, 3, signal.SIGKILL)
        self.lab.spaces.remove(self.space)
        self.space.close()


def publish(lab):
    """What a container engine sets up in the host."""
    lab.run(lab.server, ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"], check=True)
    lab.nft("add", "table", "ip", "engine")
    lab.nft("add", "chain", "ip", "engine", "nat",
            "{ type nat hook prerouting priority dstnat; }")
    lab.nft("add", "rule", "ip", "engine", "nat", "tcp", "dport", str(PUBLISHED), "dnat", "to",
            f"{BOX}:{INSIDE}")


class Traffic(e2e.Child):
    """The people of the laboratory, in front of a port of their own."""

    def __init__(self, lab, space, kind, port, sources, **options):
        target = e2e.SERVER if space is lab.bad else e2e.SERVER_FOR_CLIENT
        program = [e2e.HOLDERS, "silent"] if kind == "hold" else [e2e.TRAFFIC, kind]
        super().__init__(lab, space, [*program, "--target", f"{target}:{port}", "--from",
                                      ",".join(sources)], **options)


class Probes:
    """A normal client that asks through DNAT twice a second."""

    def __init__(self, lab, seconds):
        self.path = os.path.join(lab.tmp, "probes.jsonl")
        self.traffic = Traffic(lab, lab.good, "client", PUBLISHED, [e2e.NORMAL], seconds=seconds,
                               every=0.5, timeout=1.0, out=self.path)

    def finish(self):
        self.traffic.stop()
        with open(self.path, encoding="utf-8") as lines:
            probes = [json.loads(line) for line in lines]
        return len(probes), [probe for probe in probes if not probe["answered"]]


def held_in_host(lab, port=INSIDE):
    """(peer, ...) of the host's own service on the same port."""
    out = lab.run(lab.server, ["ss", "-Htan", "state", "established", "sport", "=",
                               f":{port}"]).stdout
    return sorted(line.split()[-1] for line in out.splitlines())


def hold_on_host(lab, sources):
    """Connections to the host's own service, from addresses that will be banned."""
    held = []
    for source in sources:
        with lab.bad.inside():
            sock = socket.socket()
        sock.bind((source, 0))
        sock.connect((e2e.SERVER, INSIDE))
        held.append(sock)
    return held


def services(daemon):
    return daemon.status().get("services", [])


def found_in(daemon, inode, pid, seconds=10):
    """The service entry of port 80 in that namespace."""
    def entry():
        return next((s for s in services(daemon) if s.get("netns") == inode and
                     s["port"] == INSIDE and s["pid"] == pid), None)
    return e2e.eventually(entry, seconds)


def censuses_of(daemon, pid):
    return [c for c in daemon.status().get("sockets", []) if c["pid"] == pid]


def set_up(lab):
    publish(lab)
    log = os.path.join(lab.tmp, "container.out")
    other = Service(lab, lab.server, os.path.join(lab.tmp, "host.out"))
    box = Container(lab, log)
    if not e2e.eventually(lambda: e2e.http_get(lab.good, (e2e.SERVER_FOR_CLIENT, INSIDE)), 20):
        raise LabError("the host's own service does not answer")
    return log, box, other


def banned_all(daemon, sources, seconds):
    return e2e.eventually(lambda: set(sources) <= set(daemon.banned()), seconds)


def attack(tap, lab, daemon, box, sources, name):
    """Silent connections through DNAT: seen with their real addresses, banned, cut."""
    flood = Traffic(lab, lab.bad, "hold", PUBLISHED, sources, count=FLOOD, rate=RATE, seconds=60)
    tap.ok(e2e.eventually(lambda: set(sources) <= set(box.peers()), 10),
           f"{name}: the container sees the attackers' own addresses", box.peers())
    tap.ok(banned_all(daemon, sources, 12), f"{name}: every silent attacker is banned",
           (sorted(set(sources) - set(daemon.banned())), daemon.tail()))
    tap.ok(e2e.eventually(lambda: box.service.fds() <= box.idle + 8, 5),
           f"{name}: {box.service.fds()} descriptors in the container, {box.idle} when idle",
           box.peers())
    tap.ok(not set(sources) & set(box.peers()), f"{name}: none of their sockets is left there")
    kernel = lab.sets()
    tap.ok(all(e2e.covering(kernel, source) for source in sources),
           f"{name}: and the drop is in the host", kernel)
    flood.stop()


def log_driven(tap, lab, daemon, box, sources):
    """Bad requests: the ban comes from the log, the kill happens in the container."""
    quiet = Traffic(lab, lab.bad, "hold", PUBLISHED, sources, count=3 * len(sources), rate=100,
                    seconds=60)
    tap.ok(e2e.eventually(lambda: len([p for p in box.peers() if p in sources]) ==
                          3 * len(sources), 5), "few silent connections each", box.peers())
    Traffic(lab, lab.bad, "noise", PUBLISHED, sources, kinds="text", each=2).wait()
    tap.ok(banned_all(daemon, sources, 5), "who sends bad requests is banned", daemon.tail())
    tap.ok(e2e.eventually(lambda: not set(sources) & set(box.peers()), 3),
           "and loses its sockets in the container", box.peers())
    jails = {daemon.banned()[source]["jail"] for source in sources}
    tap.equal(jails, {"flask"}, "by the log")
    everywhere = lab.sets().get("ban4", {})
    tap.ok(all(source in everywhere for source in sources),
           "scope = port: the port before DNAT is not known, the drop covers all", everywhere)
    tap.equal(daemon.log_text().count("bans with scope = port drop everywhere"), 1, "said once")
    killed = sum(daemon.banned()[source]["killed"] for source in sources)
    tap.ok(killed >= 3 * len(sources), f"{killed} sockets were killed there")
    quiet.stop()


def restart(tap, lab, daemon, log, box):
    """A container that is started again has another namespace; the old one is let go."""
    old = box.service.pid
    box.stop()
    gone = e2e.eventually(lambda: "box" not in lab.run(lab.server, ["ip", "-o", "link"]).stdout, 5)
    tap.ok(gone, "the stopped container's namespace is not kept alive",
           lab.run(lab.server, ["ip", "-o", "link"]).stdout + daemon.tail())
    box = Container(lab, log)
    begin = time.monotonic()
    tap.ok(found_in(daemon, box.inode, box.service.pid),
           f"its new namespace is found after {time.monotonic() - begin:.1f} s", services(daemon))
    censuses = e2e.eventually(lambda: censuses_of(daemon, box.service.pid), 3)
    tap.ok(len(censuses) == 1, "and a census is taken there", daemon.status().get("sockets"))
    tap.ok(not censuses_of(daemon, old), "and no longer in the old one")
    return box


def child_named(daemon, name):
    for pid in daemon.pids():
        with open(f"/proc/{pid}/comm", encoding="ascii") as comm:
            if comm.read().strip() == name:
                return pid
    return None


def shake(tap, daemon, box):
    """A reload and a new prober: the namespace is still the one that is looked at."""
    tap.equal(daemon.ctl("reload").rc, 0, "the configuration is read again")
    os.kill(child_named(daemon, "tailban-prober"), signal.SIGKILL)

    def looked_at():
        before = [c["censuses"] for c in censuses_of(daemon, box.service.pid)]
        time.sleep(0.3)
        return before and [c["censuses"] for c in censuses_of(daemon, box.service.pid)] > before
    tap.ok(e2e.eventually(looked_at, 8), "a new prober goes on in the same namespace",
           (daemon.status().get("sockets"), daemon.tail()))
    tap.ok(found_in(daemon, box.inode, box.service.pid, 2), "the service is still known",
           services(daemon))


def container(tap):
    """All of it: census, ban, kill and drop for a service behind DNAT, over a restart."""
    with Lab(40) as lab:
        log, box, other = set_up(lab)
        daemon = Daemon(lab, JAILS.format(log=log)).start()
        entry = found_in(daemon, box.inode, box.service.pid)
        tap.ok(entry, "the service is found in its namespace", (services(daemon), daemon.tail()))
        tap.ok(entry and "in another network namespace" in entry["text"],
               "and status says where it lives", entry)
        attackers = e2e.attackers(6)
        noisy = e2e.attackers(3, first=21)
        on_host = hold_on_host(lab, attackers + noisy)
        wanted = held_in_host(lab)
        tap.equal(len(wanted), len(on_host), "the same addresses hold the host's own port 80")
        probes = Probes(lab, 60)
        attack(tap, lab, daemon, box, attackers, "first")
        log_driven(tap, lab, daemon, box, noisy)
        asked, lost = probes.finish()
        tap.ok(asked >= 4 and len(lost) <= 1, f"{asked - len(lost)} of {asked} probes of the "
               "normal client answered through DNAT", lost)
        tap.ok(not daemon.is_banned(e2e.NORMAL), "who is not banned")
        box = restart(tap, lab, daemon, log, box)
        shake(tap, daemon, box)
        attack(tap, lab, daemon, box, e2e.attackers(6, first=31), "after the restart")
        tap.equal(held_in_host(lab), wanted, "no connection of the host's own port 80 was closed")
        tap.ok(e2e.http_get(lab.good, (e2e.SERVER_FOR_CLIENT, INSIDE)), "and it still answers")
        tap.ok(other.child.poll() is None, "and lives")
        daemon.stop()
        for sock in on_host:
            sock.close()


BOTH = """\
[box]
enabled = yes
filter = werkzeug
logpath = {log}
[web]
enabled = yes
filter = werkzeug
logpath = {other}
[held]
enabled = yes
backend = sockets
silent = 2s
maxretry = 3
findtime = 10m
bantime = 1h
"""


def both(tap):
    """One sockets jail for a service in the host and one in a container: a census in each."""
    with Lab(4) as lab:
        log, box, other = set_up(lab)
        jails = BOTH.format(log=log, other=os.path.join(lab.tmp, "host.out"))
        daemon = Daemon(lab, jails).start()

        def places():
            return {(c["netns"], c["pid"]) for c in daemon.status().get("sockets", [])}
        wanted = {(None, other.pid), (box.inode, box.service.pid)}
        tap.ok(e2e.eventually(lambda: places() == wanted, 5), "a census in each namespace",
               daemon.status().get("sockets"))
        first, second = e2e.attackers(2)
        floods = [Traffic(lab, lab.bad, "hold", port, [source], count=20, rate=100, seconds=30)
                  for port, source in ((PUBLISHED, first), (INSIDE, second))]
        tap.ok(e2e.eventually(lambda: len(box.peers()) >= 20 and len(held_in_host(lab)) >= 20, 5),
               "one attacker holds the container, another the host")
        tap.ok(banned_all(daemon, [first, second], 8), "both are banned", daemon.tail())
        tap.ok(e2e.eventually(lambda: not box.peers() and not held_in_host(lab), 3),
               "and lose their sockets", (box.peers(), held_in_host(lab)))
        for flood in floods:
            flood.stop()
        # By hand: the ban protects what any jail protects, here and there.
        third = e2e.attacker(3)
        on_host = hold_on_host(lab, [third])
        quiet = Traffic(lab, lab.bad, "hold", PUBLISHED, [third], count=2, rate=100, seconds=30)
        e2e.eventually(lambda: len(box.peers()) == 2, 3)
        daemon.ctl("ban", third)
        tap.ok(e2e.eventually(lambda: not box.peers() and not held_in_host(lab), 3),
               "a ban by hand reaches both", (box.peers(), held_in_host(lab)))
        tap.equal(daemon.ctl("ban", BOX, "--jail", "box").rc, 4,
                  "the container's own address cannot be banned")
        quiet.stop()
        daemon.stop()
        for sock in on_host:
            sock.close()


def slept(daemon, pids, seconds):
    """{task: wake-ups} of those that woke."""
    before = wakeups(pids)
    time.sleep(seconds)
    after = wakeups(pids)
    return {task: after.get(task, 0) - count for task, count in before.items()
            if after.get(task) != count}


def quiet(tap):
    """Nobody connects: nothing wakes. A SYN to the published port does, and not for the host."""
    with Lab(4) as lab:
        log, box, other = set_up(lab)
        jails = BOTH.format(log=log, other=os.path.join(lab.tmp, "host.out"))
        daemon = Daemon(lab, jails).start()

        def both_taken():
            taken = {c["netns"]: c for c in daemon.status().get("sockets", [])}
            return taken if set(taken) == {None, box.inode} else None

        def counts():
            return {netns: c["censuses"] for netns, c in (both_taken() or {}).items()}
        taken = e2e.eventually(both_taken, 5)
        tap.ok(taken and not any(c["polls"] for c in taken.values()),
               "the bell is there for both services", taken)
        tap.ok("bell_any" in lab.nft("list", "table", "inet", "tailban"), "also in the kernel")
        box.answers()
        time.sleep(3)
        if e2e.sanitized():
            tap.skip("nothing wakes", "a sanitizer build is not judged by time")
        else:
            pids = daemon.pids()
            woken = slept(daemon, pids, 8)
            tap.ok(not woken, f"{len(pids)} processes slept for 8 s", woken)
        before = counts()
        hold = Traffic(lab, lab.bad, "hold", PUBLISHED, [e2e.attacker(1)], count=1, rate=100,
                       seconds=30)
        time.sleep(2)
        after = counts()  # `status` takes a census of its own in each place
        tap.ok(after[box.inode] > before[box.inode] + 1,
               "a connection through DNAT makes a census in the container", (before, after))
        tap.equal(after[None], before[None] + 1, "and none in the host")
        hold.stop()
        # Somebody else's flush, then a container that is not reached through this host.
        lab.nft("flush", "table", "inet", "tailban")
        back = e2e.eventually(lambda: "bell_any" in lab.nft("list", "chain", "inet", "tailban",
                                                            "prerouting"), 5)
        tap.ok(back, "the bell comes back after a flush", daemon.tail())
        lab.ip(box.space, ["route replace default via 10.77.0.9"])
        daemon.stop()
        daemon = Daemon(lab, jails, name="again").start()
        taken = e2e.eventually(both_taken, 5)
        tap.ok(taken and taken[box.inode]["polls"] and not taken[None]["polls"],
               "a container with another gateway is looked at each second", taken)
        tap.ok("bell_any" not in lab.nft("list", "table", "inet", "tailban"),
               "and then there is no bell for it")
        daemon.stop()


def there(lab, box, *words):
    """nft in the container."""
    done = lab.run(box.space, ["nft", *words])
    return done.stdout if done.returncode == 0 else ""


def ask_and_reset(lab, source, times):
    """A bad request through DNAT, and a reset before any answer."""
    with lab.bad.inside(), contextlib.suppress(TimeoutError):
        for _ in range(times):
            sock = socket.socket()
            sock.settimeout(1)
            sock.bind((source, 0))
            sock.connect((e2e.SERVER, PUBLISHED))
            sock.sendall(b"123\r\n\r\n")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            time.sleep(0.05)


def ask_and_keep(lab, source, times):
    """Bad requests through DNAT, whose answers are read; the sockets stay open."""
    kept = []
    for _ in range(times):
        with lab.bad.inside():
            kept.append(socket.socket())
        kept[-1].settimeout(5)
        kept[-1].bind((source, 0))
        kept[-1].connect((e2e.SERVER, PUBLISHED))
        kept[-1].sendall(b"123\r\n\r\n")
        with contextlib.suppress(OSError):
            while kept[-1].recv(4096):
                pass
    return kept


def write(log, text):
    with open(log, "ab") as lines:
        lines.write(text)


def witness_of(daemon):
    return daemon.status()["health"]["witness"]


STRANGERS = [f"198.51.100.{n}" for n in range(1, 101)]


def offend(lab, box, log, sources):
    """Forged lines beside real offences: who asked, who reset, whom nobody has seen there."""
    asked, reset, neighbour = sources
    host = hold_on_host(lab, [neighbour])  # of the host's own service, not of the container's
    host[0].sendall(b"GET / HTTP/1.0\r\n\r\n")
    strangers = STRANGERS + [neighbour]
    write(log, b"".join(e2e.bad_request(name) * 2 for name in strangers))
    for _ in range(4):
        write(log, e2e.bad_request(e2e.NORMAL) * 20)
        time.sleep(0.3)
    Traffic(lab, lab.bad, "noise", PUBLISHED, [asked], kinds="text", each=3).wait()
    ask_and_reset(lab, reset, 6)
    host[0].close()
    return strangers


def forged(tap):
    """Lines in the container's log that name who was never there."""
    with Lab(8) as lab:
        log, box, _ = set_up(lab)
        daemon = Daemon(lab, JAILS.format(log=log)).start()
        tap.ok(e2e.eventually(lambda: witness_of(daemon) == "ok", 5), "there is a witness",
               (witness_of(daemon), daemon.tail()))
        tap.ok(there(lab, box, "list", "table", "inet", "tailban_record"), "in the container")
        probes = Probes(lab, 20)
        time.sleep(1)
        sources = asked, reset, _ = e2e.attackers(3)
        strangers = offend(lab, box, log, sources)
        tap.ok(banned_all(daemon, [asked], 5), "a bad request through DNAT bans",
               (daemon.ctl("why", asked).out, daemon.tail()))
        tap.ok(banned_all(daemon, [reset], 5), "and one that was reset at once",
               (daemon.ctl("why", reset).out, daemon.tail()))
        tap.equal(sorted(set(daemon.banned()) - {asked, reset}), [], "nobody else is banned")
        refused = daemon.status()["unwitnessed"]
        tap.ok(refused >= len(strangers), f"{refused} bans were refused")
        why = daemon.ctl("why", strangers[-1], json_out=True).data
        tap.ok(not why["witness"]["seen"], "why says that nobody has seen a stranger", why)
        why = daemon.ctl("why", e2e.NORMAL, json_out=True).data
        tap.ok(why["witness"]["seen"] and why["witness"]["lines"] > why["witness"]["connections"],
               "and that the normal client has more lines than connections", why["witness"])
        # The ruler of the container flushes its tables: the next question puts them right.
        there(lab, box, "flush", "ruleset")
        write(log, e2e.bad_request(STRANGERS[0]) * 2)
        back = e2e.eventually(lambda: "@seen4" in there(lab, box, "list", "table", "inet",
                                                        "tailban_record"), 5)
        tap.ok(back, "a record that was flushed there comes back")
        Traffic(lab, lab.bad, "noise", PUBLISHED, [e2e.attacker(4)], kinds="text", each=3).wait()
        tap.ok(banned_all(daemon, [e2e.attacker(4)], 5), "and sees the next one", daemon.tail())
        asked_for, lost = probes.finish()
        tap.ok(len(lost) <= 1, f"{asked_for - len(lost)} of {asked_for} probes answered", lost)
        daemon.stop()
        tap.ok(there(lab, box, "list", "table", "inet", "tailban_record"),
               "the record goes on without the daemon")
        Daemon(lab, JAILS.format(log=log), name="last", args=["--flush-on-stop"]).start().stop()
        tap.equal(there(lab, box, "list", "table", "inet", "tailban_record"), "",
                  "and goes with --flush-on-stop")


# What the container's ruler can put in the way: a rule of his own with another set of that name.
IN_THE_WAY = """\
table inet tailban_record {
    set conn4 { type ipv4_addr; }
    chain mine { ip saddr @conn4 accept; }
}
"""


def without_record(tap):
    """No record can be kept in the container: its sockets decide, and status says so."""
    with Lab(4) as lab:
        log, box, _ = set_up(lab)
        lab.run(box.space, ["nft", "-f", "-"], check=True, input=IN_THE_WAY)
        daemon = Daemon(lab, JAILS.format(log=log)).start()
        said = e2e.eventually(lambda: "its sockets decide" in witness_of(daemon), 5)
        tap.ok(said and str(box.inode) in witness_of(daemon), "status says so",
               witness_of(daemon))
        asked, _, neighbour = e2e.attackers(3)
        host = hold_on_host(lab, [neighbour])
        strangers = STRANGERS + [neighbour]
        write(log, b"".join(e2e.bad_request(name) * 2 for name in strangers))
        kept = ask_and_keep(lab, asked, 2)
        tap.ok(banned_all(daemon, [asked], 5), "a bad request through DNAT bans",
               (daemon.ctl("why", asked).out, daemon.tail()))
        tap.equal(sorted(set(daemon.banned()) - {asked}), [], "nobody else is banned")
        tap.ok(daemon.status()["unwitnessed"] >= len(strangers), "the others were refused")
        for sock in host + kept:
            sock.close()
        daemon.stop()


def without_right(tap):
    """Without CAP_SYS_ADMIN the namespace is named, nothing is killed, the drop holds."""
    with Lab(4) as lab:
        log, box, _ = set_up(lab)
        daemon = Daemon(lab, JAILS.format(log=log),
                        wrap=("setpriv", "--bounding-set=-sys_admin")).start()
        health = daemon.status()["health"]
        tap.ok("CAP_SYS_ADMIN" in health["privileges"], "status names what is missing", health)

        def entry():
            return next((s for s in services(daemon) if "cannot be entered" in s["text"]), None)
        tap.ok(e2e.eventually(entry, 5), "and where the service lives", services(daemon))
        tap.ok(entry() and entry()["netns"] == box.inode and entry()["port"] is None,
               "with the namespace, without a port", entry())
        sources = e2e.attackers(2)
        on_host = hold_on_host(lab, sources)
        wanted = held_in_host(lab)
        hold = Traffic(lab, lab.bad, "hold", PUBLISHED, sources, count=6, rate=100, seconds=30)
        e2e.eventually(lambda: len(box.peers()) >= 6, 5)
        Traffic(lab, lab.bad, "noise", PUBLISHED, sources, kinds="text", each=2).wait()
        tap.ok(banned_all(daemon, sources, 5), "bans go on", daemon.tail())
        time.sleep(0.5)
        tap.equal(sum(daemon.banned()[source]["killed"] for source in sources), 0,
                  "nothing was killed")
        tap.equal(held_in_host(lab), wanted, "neither on the host's port 80")
        with contextlib.suppress(OSError):
            hold.stop()
        daemon.stop()
        for sock in on_host:
            sock.close()


def nobody_writes(tap):
    """A port that is named, and a log that no process holds open: it is this namespace's port."""
    with Lab(4) as lab:
        flask = e2e.Flask(lab)
        log = os.path.join(lab.tmp, "lines.log")
        with open(log, "wb"):
            pass
        daemon = Daemon(lab, e2e.LAB_JAIL.format(log=log, maxretry=2), e2e.LAB_FILTER).start()
        sources = e2e.attackers(3)
        hold = Traffic(lab, lab.bad, "hold", e2e.PORT, sources, count=9, rate=200, seconds=30)
        e2e.eventually(lambda: len(lab.sockets()) >= 9, 5)
        time.sleep(1.5)  # what was known at the start is outdated by now
        for source, pause in zip(sources, (0.3, 1.2, 0.0)):
            with open(log, "ab") as lines:
                lines.write(e2e.log_line(source) * 2)
            time.sleep(pause)
        tap.ok(banned_all(daemon, sources, 5), "all are banned", daemon.tail())
        tap.ok(e2e.eventually(lambda: not lab.sockets(), 3), "and lose their connections",
               lab.sockets())
        tap.equal([daemon.banned()[source]["killed"] for source in sources], [3, 3, 3],
                  "by the kill")
        tap.ok(flask.answers(), "the service answers")
        hold.stop()
        daemon.stop()


if __name__ == "__main__":
    e2e.main(container, both, quiet, forged, without_record, without_right, nobody_writes)
