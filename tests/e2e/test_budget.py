#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""The descriptor budget: first aid by a higher limit, the last resort, who is spared, restarts."""
import contextlib
import os
import resource
import socket
import time

import lab as e2e
from lab import FLASK_JAIL, PORT, SCALE, SERVER_FOR_CLIENT, Daemon, Flask, Lab

SOCKETS = "[sockets]\nenabled = yes\nport = 8001\n"
NOFILE = 256
# A server on select(2), which cannot look at descriptors beyond 1023.
SELECTING = """
import select, socket
listener = socket.create_server(("0.0.0.0", 8001), backlog=128)
held = [listener]
while True:
    for s in select.select(held, [], [])[0]:
        if s is listener:
            held.append(s.accept()[0])
        elif not s.recv(4096):
            held.remove(s)
            s.close()
        else:
            s.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nhi")
            held.remove(s)
            s.close()
"""


def service_of(daemon):
    return daemon.status()["sockets"][0]


def limit_of(pid):
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)


def raised(tap):
    """raise_nofile = hard: the running process gets room at once, nobody is turned away."""
    with Lab(60) as lab:
        flask = Flask(lab, nofile=4 * NOFILE)
        resource.prlimit(flask.pid, resource.RLIMIT_NOFILE, (NOFILE, 4 * NOFILE))
        jail = FLASK_JAIL.format(log=flask.log) + SOCKETS + "raise_nofile = hard\nkill = no\n"
        daemon = Daemon(lab, jail).start()
        e2e.silent(lab, NOFILE + 40, e2e.attackers(50), SCALE.rate, 30)
        lifted = e2e.eventually(lambda: limit_of(flask.pid)[0] == 4 * NOFILE, 8)
        tap.ok(lifted, f"the soft limit is lifted to the hard one: {limit_of(flask.pid)}",
               daemon.tail())
        tap.ok(e2e.eventually(lambda: flask.fds() >= NOFILE + 40, 8),
               f"{flask.fds()} descriptors in use, more than the old limit")
        tap.ok(flask.answers(), "and the service answers")
        daemon.stop()


def selecting(tap):
    """A server on select(2) is left at its limit, and it is said why."""
    with Lab(60) as lab:
        home = os.path.join(lab.tmp, "select.py")
        with open(home, "w", encoding="ascii") as out:
            out.write(SELECTING)
        server = lab.spawn(lab.server, ["/bin/bash", "-c",
                                        f"ulimit -n {4 * NOFILE}; exec {e2e.PYTHON} {home}"])
        answers = lambda: e2e.http_get(lab.good, (SERVER_FOR_CLIENT, PORT))  # noqa: E731
        tap.ok(e2e.eventually(answers, 10), "the server answers")
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (NOFILE, 4 * NOFILE))
        daemon = Daemon(lab, SOCKETS + "raise_nofile = hard\nkill = no\n").start()
        e2e.silent(lab, NOFILE - 20, e2e.attackers(50), SCALE.rate, 20)
        e2e.eventually(lambda: service_of(daemon)["short_limits"], 8)
        time.sleep(1.5)
        tap.equal(limit_of(server.pid)[0], NOFILE, "the limit stays")
        daemon.stop()


def last_resort(tap):
    """Nothing may be closed, nobody can be accepted: on_exhaustion runs, once."""
    with Lab(60) as lab:
        flask = Flask(lab, nofile=NOFILE)
        mark = os.path.join(lab.tmp, "resort")
        jail = (FLASK_JAIL.format(log=flask.log) + SOCKETS + "descriptors = off\n"
                f'on_exhaustion = run[command="echo $TAILBAN_EVENT $TAILBAN_JAIL >> {mark}"]\n')
        daemon = Daemon(lab, jail).start()
        e2e.silent(lab, NOFILE + 40, e2e.attackers(60), SCALE.rate, 40)
        tap.ok(e2e.eventually(lambda: flask.fds() >= NOFILE, 8), "the service is full")
        ran = e2e.eventually(lambda: os.path.exists(mark), 20)
        tap.ok(ran, "the command ran", daemon.tail())
        time.sleep(3)
        with contextlib.suppress(OSError), open(mark, encoding="ascii") as lines:
            tap.equal(lines.read(), "exhaustion sockets\n", "once, with event and jail")
        tap.equal(sorted(daemon.banned()), [], "and nobody was banned for it")
        daemon.stop()


def spared(tap):
    """Connections of the ignore list are never closed; others make the room."""
    with Lab(60) as lab:
        flask = Flask(lab, nofile=NOFILE)
        friend = e2e.attacker(1)
        jail = FLASK_JAIL.format(log=flask.log) + SOCKETS + f"ignoreip = {friend}\n"
        daemon = Daemon(lab, jail).start()
        mine = e2e.silent(lab, 150, [friend], SCALE.rate * 2, 30)
        tap.ok(e2e.eventually(lambda: flask.fds() >= 150, 8), "a friend holds 150 connections")
        e2e.silent(lab, 120, e2e.attackers(30, 2), SCALE.rate, 30)
        tap.ok(e2e.eventually(lambda: service_of(daemon)["cut"] >= 10, 8),
               f"{service_of(daemon)['cut']} connections are closed")
        time.sleep(1)
        held = [peer for _, peer in lab.sockets() if peer.startswith(friend + ":")]
        tap.equal(len(held), 150, "none of the friend's")
        tap.ok(not daemon.is_banned(friend), "who is not banned")
        tap.ok(flask.answers(), "the service answers")
        mine.stop()
        daemon.stop()


def restarted(tap):
    """The service ends and comes back: its new process is the one that is counted."""
    with Lab(20) as lab:
        flask = Flask(lab, nofile=NOFILE)
        daemon = Daemon(lab, FLASK_JAIL.format(log=flask.log) + SOCKETS).start()
        tap.equal(service_of(daemon)["pid"], flask.pid, "the service is found")
        flask.stop()
        tap.ok(e2e.eventually(lambda: service_of(daemon)["pid"] is None, 5),
               "its end is noticed", service_of(daemon))
        again = Flask(lab, nofile=NOFILE, name="again")
        tap.ok(e2e.eventually(lambda: service_of(daemon)["pid"] == again.pid, 5),
               "its successor is found", service_of(daemon))
        e2e.silent(lab, 230, e2e.attackers(4), SCALE.rate, 20)
        tap.ok(e2e.eventually(lambda: len(daemon.banned()) == 4, 10),
               "and guarded", daemon.tail())
        daemon.stop()


def said(tap):
    """ "Too many open files" in the log is a reason to look, and accuses nobody."""
    with Lab(20) as lab:
        flask = Flask(lab, nofile=NOFILE)
        daemon = Daemon(lab, FLASK_JAIL.format(log=flask.log) + SOCKETS).start()
        time.sleep(1)
        before, offences = service_of(daemon)["censuses"], daemon.status()["offences"]
        with open(flask.log, "ab") as log:
            log.write(b"OSError: [Errno 24] Too many open files: 'app.py'\n" +
                      e2e.log_line(e2e.NORMAL, '"GET /hello_world HTTP/1.1" 500 -'))
        e2e.eventually(lambda: daemon.status()["out_of_descriptors_said"] == 1, 5)
        status = daemon.status()
        tap.equal(status["out_of_descriptors_said"], 1, "it was read")
        tap.ok(status["sockets"][0]["censuses"] > before + 1, "a census was taken")
        tap.equal((status["offences"], sorted(daemon.banned())), (offences, []), "nobody is accused")
        daemon.stop()


def nobody_home(tap):
    """A port on which nobody listens: said once, and found when somebody does."""
    with Lab(20) as lab:
        daemon = Daemon(lab, SOCKETS).start()
        time.sleep(1.5)
        tap.equal(daemon.log_text().count("nobody listens"), 1, "it is said once")
        with lab.good.inside(), contextlib.suppress(OSError), socket.socket() as s:
            s.settimeout(1)
            s.connect((SERVER_FOR_CLIENT, PORT))
        flask = Flask(lab, nofile=NOFILE)
        tap.ok(e2e.eventually(lambda: service_of(daemon)["pid"] == flask.pid, 5),
               "the service is found when it is there")
        daemon.stop()


if __name__ == "__main__":
    e2e.main(raised, selecting, last_resort, spared, restarted, said, nobody_home)
