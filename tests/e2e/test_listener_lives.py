#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Killing a peer whose connections are already gone never reaches the listener.

A kill without the socket's cookie falls back to the listening socket when the connection is gone
and closes the protected service. Here peers are killed again and again while they come and go.
"""
import contextlib
import os
import signal
import socket
import time

import lab as e2e
from lab import FLASK_JAIL, PORT, SERVER, Daemon, Flask, Lab

ROUNDS = 20


def hold(lab, source, count):
    """Open connections of one attacker, made in this process."""
    sockets = []
    with lab.bad.inside():
        for _ in range(count):
            sock = socket.socket()
            sock.bind((source, 0))
            sock.settimeout(1)
            with contextlib.suppress(OSError):
                sock.connect((SERVER, PORT))
            sockets.append(sock)
    return sockets


def close_all(sockets):
    for sock in sockets:
        sock.close()


def listening(lab):
    return len(lab.sockets("listening"))


def ban_again(daemon, address):
    """A ban of an address twice, each with its kill."""
    return [daemon.ctl("ban", address).rc, daemon.ctl("unban", address).rc,
            daemon.ctl("ban", address).rc]


def killed_then_killed(tap):
    """The connection dies by the first kill; the second finds nothing."""
    with Lab() as lab:
        flask = Flask(lab)
        daemon = Daemon(lab, FLASK_JAIL.format(log=flask.log)).start()
        source = e2e.attacker(1)
        sockets = hold(lab, source, 10)
        e2e.eventually(lambda: flask.fds() >= flask.idle + 10, 3)
        codes = ban_again(daemon, source)
        tap.equal(codes, [0, 0, 0], "ban, unban, ban")
        tap.ok(e2e.eventually(lambda: flask.fds() <= flask.idle, 3), "the sockets are killed",
               f"{flask.fds()} descriptors, idle {flask.idle}; {daemon.tail()}")
        tap.equal(listening(lab), 1, "the listener lives")
        tap.ok(flask.answers(), "a new connection is answered")
        close_all(sockets)
        daemon.stop()


def come_and_go(tap):
    """Peers close, reset and reconnect while they are banned and unbanned."""
    with Lab() as lab:
        flask = Flask(lab)
        daemon = Daemon(lab, FLASK_JAIL.format(log=flask.log)).start()
        lost = 0
        for number in range(ROUNDS):
            source = e2e.attacker(1 + number % 3)
            sockets = hold(lab, source, 5)
            for sock in sockets[::2]:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if number % 2:
                close_all(sockets)
            ban_again(daemon, source)
            close_all(sockets)
            ban_again(daemon, source)
            daemon.ctl("unban", source)
            lost += not flask.answers()
        tap.equal(lost, 0, f"answers in {ROUNDS} rounds")
        tap.equal(listening(lab), 1, "the listener lives")
        tap.ok(e2e.eventually(lambda: flask.fds() <= flask.idle + 1, 3), "no descriptor is left")
        daemon.stop()


def accept_queue(tap):
    """Connections that the service has not accepted yet are killed too, twice."""
    with Lab() as lab:
        flask = Flask(lab)
        daemon = Daemon(lab, FLASK_JAIL.format(log=flask.log)).start()
        source = e2e.attacker(1)
        os.kill(flask.pid, signal.SIGSTOP)
        try:
            sockets = hold(lab, source, 8)
            waiting = sum(1 for _, peer in lab.sockets() if source in peer)
            tap.equal(waiting, 8, "connections wait in the accept queue")
            ban_again(daemon, source)
            gone = e2e.eventually(
                lambda: not any(source in peer for _, peer in lab.sockets()), 3)
            tap.ok(gone, "they are killed there", lab.sockets())
            ban_again(daemon, source)
            tap.equal(listening(lab), 1, "the listener lives")
        finally:
            os.kill(flask.pid, signal.SIGCONT)
        tap.ok(e2e.eventually(flask.answers, 3), "the service answers again")
        tap.ok(e2e.eventually(lambda: flask.fds() <= flask.idle, 3), "no descriptor is left")
        close_all(sockets)
        time.sleep(0.1)
        daemon.stop()


if __name__ == "__main__":
    e2e.main(killed_then_killed, come_and_go, accept_queue)
