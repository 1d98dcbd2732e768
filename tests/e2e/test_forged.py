#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Log lines can be forged, connections cannot: the witness.

An application that prints what clients send writes lines that are perfect in form. They name
strangers who were never there, also after packets with the strangers' source addresses (SYN twice,
challenge acknowledgements, stepped acknowledgements), and the normal client, who is there all the
time. None of them may be banned; real offenders of the same file are, also those that send and
reset at once.
"""
import contextlib
import ctypes
import os
import random
import socket
import struct
import time

import lab as e2e
from lab import FLASK_JAIL, NORMAL, PORT, SCALE, SERVER, Daemon, Flask, Lab, NormalClient

STRANGERS = {"small": 2000, "full": 10000}[SCALE.name]
IN_ITS_NAME = {"small": 200, "full": 1000}[SCALE.name]
STEPS = {"small": 4000, "full": 71582}[SCALE.name]
SYS_PIDFD_GETFD = 438  # the same number on every architecture
VICTIMS = 12  # of the strangers, in whose names packets are sent; addresses of the attackers' host
SYN, RST, PSH, ACK, FIN = 0x02, 0x04, 0x08, 0x10, 0x01


def stranger(number):
    return f"198.51.{number // 250}.{number % 250 + 1}"


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff


def packet(source, port, flags, seq=0, ack=0, data=b""):
    """An IPv4 packet with a TCP segment to the server."""
    ends = socket.inet_aton(source) + socket.inet_aton(SERVER)
    tcp = struct.pack("!HHIIBBHHH", port, PORT, seq, ack, 5 << 4, flags, 64240, 0, 0) + data
    tcp = tcp[:16] + struct.pack("!H", checksum(
        ends + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp)) + tcp)) + tcp[18:]
    head = struct.pack("!BBHHHBBH8s", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0, ends)
    return head + tcp


def spoof(lab, victims):
    """In the victims' names, who are silent: each kind of packet that might pass for presence."""
    lab.run(lab.bad, ["nft", "-f", "-"], check=True, input=(
        "table ip silent { chain in { type filter hook input priority 0;\n"
        f"ip daddr {{ {', '.join(victims)} }} drop\n}}\n}}\n"))
    with lab.bad.inside():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sent = 0

    def send(*args, **options):
        nonlocal sent
        sent += 1
        raw.sendto(packet(*args, **options), (SERVER, 0))

    for number, victim in enumerate(victims):
        port = 20000 + number
        seq = 1000
        send(victim, port, SYN, seq)
        send(victim, port, SYN, seq)
        send(victim, port, SYN, seq + (1 << 31))
        send(victim, port, PSH, seq + 1 + (1 << 31))
        send(victim, port, FIN, seq + 1 + (1 << 31))
        send(victim, port + 100, ACK, seq, 12345)
        send(victim, port + 100, FIN | ACK, seq, 12345)
        send(victim, port + 200, SYN, seq)
        send(victim, port + 200, ACK | PSH, seq + 1, random.getrandbits(32), b"123\r\n")
        send(victim, port + 300, SYN, seq)
        send(victim, port + 300, RST, seq + 1)
    send(victims[0], 30000, SYN, 1000)
    for step in range(STEPS):
        send(victims[0], 30000, ACK, 1001, step * 60000 & 0xffffffff)
    raw.close()
    return sent


def send_and_reset(lab, source, times):
    """A bad request, and a reset before any answer; until it is locked out."""
    with lab.bad.inside(), contextlib.suppress(TimeoutError):
        for _ in range(times):
            s = socket.socket()
            s.settimeout(1)
            s.bind((source, 0))
            s.connect((SERVER, PORT))
            s.sendall(b"123\r\n\r\n")
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
            time.sleep(0.05)


def standard_output(pid):
    """The process' own, so that what is written there is what it printed."""
    pidfd = os.pidfd_open(pid)
    try:
        fd = e2e.LIBC.syscall(SYS_PIDFD_GETFD, pidfd, 1, 0)
    finally:
        os.close(pidfd)
    if fd < 0:
        raise e2e.LabError("pidfd_getfd: " + os.strerror(ctypes.get_errno()))
    return os.fdopen(fd, "wb", buffering=0)


def forged(tap):
    with Lab(40) as lab:
        flask = Flask(lab)
        daemon = Daemon(lab, FLASK_JAIL.format(log=flask.log)).start()
        victims = e2e.attackers(VICTIMS)
        log = standard_output(flask.pid)
        found = e2e.eventually(lambda: daemon.status()["health"]["witness"].startswith("ok"), 5)
        tap.ok(found, "the port is recorded", daemon.status()["health"]["witness"])
        client = NormalClient(lab, SCALE.seconds + 12)
        time.sleep(2)
        tap.note(f"{spoof(lab, victims)} packets in the names of {len(victims)} strangers")

        strangers = victims + [stranger(n) for n in range(STRANGERS - len(victims))]
        log.write(b"".join(e2e.bad_request(name) * 2 for name in strangers))
        for _ in range(4):
            log.write(e2e.bad_request(NORMAL) * (IN_ITS_NAME // 4))
            time.sleep(0.5)
        offender, resetter = e2e.attacker(30), e2e.attacker(31)
        e2e.noise(lab, [offender]).wait()
        send_and_reset(lab, resetter, 6)

        tap.ok(e2e.eventually(lambda: daemon.is_banned(offender), 5),
               "a real offender of the same log is banned", daemon.ctl("why", offender).out)
        tap.ok(e2e.eventually(lambda: daemon.is_banned(resetter), 5),
               "and one that sends and resets", daemon.ctl("why", resetter).out)
        banned = daemon.banned()
        tap.equal(sorted(set(banned) - {offender, resetter}), [], "nobody else is")
        status = daemon.status()
        tap.ok(status["unwitnessed"] >= STRANGERS, f"{status['unwitnessed']} bans were refused")
        why = daemon.ctl("why", strangers[-1], json_out=True).data
        tap.ok(not why["witness"]["seen"] and
               any("has not seen" in event.get("text", "") for event in why["history"]),
               "why says that the kernel has not seen a stranger", why)
        why = daemon.ctl("why", NORMAL, json_out=True).data
        tap.ok(why["witness"]["seen"] and why["witness"]["lines"] > why["witness"]["connections"],
               "and that the normal client has more lines than connections", why["witness"])
        probes, unanswered = client.finish()
        tap.ok(len(unanswered) <= 1, f"{probes - len(unanswered)} of {probes} probes answered")
        daemon.stop()


def before_the_start(tap):
    """What was forged before the daemon came is forged, too; a restart keeps the kernel's record."""
    with Lab(40) as lab:
        flask = Flask(lab)
        log = standard_output(flask.pid)
        log.write(b"".join(e2e.bad_request(stranger(n)) * 2 for n in range(50)))
        jail = FLASK_JAIL.format(log=flask.log)
        daemon = Daemon(lab, jail).start()
        refused = e2e.eventually(lambda: daemon.status()["unwitnessed"] >= 50, 8)
        tap.ok(refused, f"{daemon.status()['unwitnessed']} bans were refused", daemon.tail())
        tap.equal(sorted(daemon.banned()), [], "no stranger is banned")
        offender = e2e.attacker(30)
        daemon.stop()
        e2e.noise(lab, [offender]).wait()
        time.sleep(1)
        daemon = Daemon(lab, jail, name="again").start()
        tap.ok(e2e.eventually(lambda: daemon.is_banned(offender), 8),
               "who offended while it was away is banned", daemon.ctl("why", offender).out)
        daemon.stop()


def two_jails(tap):
    """One line that is an offence in two jails is one line."""
    with Lab(10) as lab:
        flask = Flask(lab)
        jail = FLASK_JAIL.format(log=flask.log)
        daemon = Daemon(lab, jail + jail.replace("[flask]", "[again]") + "bantime = 2h\n").start()
        e2e.eventually(lambda: daemon.status()["health"]["witness"].startswith("ok"), 5)
        log = standard_output(flask.pid)
        client = NormalClient(lab, 12)
        time.sleep(1)
        for _ in range(20):
            log.write(e2e.bad_request(NORMAL))
            time.sleep(0.1)
        time.sleep(1)
        tap.equal(sorted(daemon.banned()), [], "the normal client is not banned")
        client.finish()
        daemon.stop()


if __name__ == "__main__":
    e2e.main(forged, before_the_start, two_jails)
