#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad input: a clear message with file and line, the right exit status, and the daemon goes on."""
import contextlib
import os
import shutil
import socket
import time

import lab as e2e
from lab import LAB_FILTER, LAB_JAIL, Daemon, Lab, log_line

MAXRETRY = 2


def empty_log(lab, name="logs.out"):
    path = os.path.join(lab.tmp, name)
    with open(path, "wb"):
        pass
    return path


def works(daemon, log, address):
    """Two offences in the log still ban."""
    with open(log, "ab") as out:
        out.write(log_line(address) * MAXRETRY)
    return e2e.eventually(lambda: daemon.is_banned(address), 5)


def changed(text, key, value):
    """The text with another value for a key (or one more key), and the number of that line."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(key + " ="):
            lines[number] = f"{key} = {value}"
            break
    else:
        number = len(lines)
        lines.append(f"{key} = {value}")
    return "\n".join(lines) + "\n", number + 1


def configuration(tap):
    """tailband -t says file:line, what is wrong, and the offending text."""
    with Lab(1) as lab:
        good = LAB_JAIL.format(log=empty_log(lab), maxretry=MAXRETRY)
        count = 0

        def refused(name, jail, files, words):
            nonlocal count
            count += 1
            done = Daemon(lab, jail, LAB_FILTER | files, name=f"conf{count}").check()
            said = done.stdout + done.stderr
            tap.ok(done.returncode == 1, f"{name}: exit status 1", f"{done.returncode}: {said}")
            absent = [word for word in words if word not in said]
            tap.ok(not absent, f"{name}: says where and what", f"no {absent} in: {said}")
            return said

        for name, key, value, hint in (
                ("unknown key", "maxretri", "3", "maxretry"),
                ("bad number", "maxretry", "many", ""),
                ("bad time", "bantime", "soon", ""), ("bad address", "ignoreip", "300.1.1.1", ""),
                ("unknown filter", "filter", "nosuch", ""), ("bad port", "port", "70000", "")):
            jail, line = changed(good, key, value)
            wrong = f"'{key}'" if hint else f"{value}'"
            refused(name, jail, {}, [f"jail.conf:{line}:", wrong, hint])
        for name, key, value, words in (
                ("sockets key in a log jail", "silent", "4s", ["silent", "backend = sockets"]),
                ("filter in a sockets jail", "backend", "sockets", ["filter", "'filter = lab'"])):
            jail, line = changed(good, key, value)
            where = jail.splitlines().index("filter = lab") + 1 if key == "backend" else line
            refused(name, jail, {}, [f"jail.conf:{where}:", *words])
        alone = "[sockets]\nenabled = yes\nport = 8001\n"
        for key, value in (("descriptors", "80"), ("maxconns", "many"), ("raise_nofile", "yes"),
                           ("on_exhaustion", "kill"), ("idle", "never")):
            refused(f"bad {key}", alone + f"{key} = {value}\n", {},
                    ["jail.conf:4:", f"'{key} = {value}'"])
        refused("a sockets jail without ports", "[sockets]\nenabled = yes\n", {},
                ["jail.conf:2:", "no port"])
        refused("no section", "enabled = yes\n", {}, ["jail.conf:1:", "enabled"])
        broken = "[Definition]\nfailregex = ^<HOST> ok$\n            ^<HOST> (unclosed\n"
        said = refused("bad expression", good, {"filter.d/lab.conf": broken},
                       ["lab.conf:3:", "(unclosed"])
        tap.ok(any(c.isdigit() for c in said.partition("lab.conf:3:")[2]),
               "bad expression: shows the position", said)
        refused("no expression", good, {"filter.d/lab.conf": "[Definition]\n"}, ["lab"])
        empty = Daemon(lab, "", LAB_FILTER, name="empty").check()
        tap.ok(empty.returncode in (0, 1), "an empty jail.conf is no crash", empty)
        fine = Daemon(lab, good, LAB_FILTER, name="fine").check()
        tap.ok(fine.returncode == 0, "a good configuration gives 0", fine)


def start(tap):
    """Exit statuses of a start that cannot be."""
    with Lab(1) as lab:
        log = empty_log(lab)
        good = LAB_JAIL.format(log=log, maxretry=MAXRETRY)
        daemon = Daemon(lab, good, LAB_FILTER, name="none")
        shutil.rmtree(daemon.conf)
        done = daemon.check("-f")
        tap.ok(done.returncode == 1 and daemon.conf in done.stdout + done.stderr,
               "no configuration: 1, and named", done)
        daemon = Daemon(lab, good, LAB_FILTER, name="usage")
        tap.equal(daemon.check("--nosuch").returncode, 2, "an unknown option gives 2")
        tap.equal(daemon.check("-V").returncode, 0, "-V gives 0")
        tap.equal(daemon.check("-l", "nosuch", "-t").returncode, 2, "an unknown level gives 2")
        daemon = Daemon(lab, good, LAB_FILTER, name="caps",
                        wrap=["setpriv", "--bounding-set=-net_admin"])
        if os.environ.get("E2E_USERNS"):
            tap.skip("missing capability", "a user namespace gives every capability back")
        else:
            done = daemon.check("-f")
            said = (done.stdout + done.stderr).lower()
            tap.ok(done.returncode == 3 and "net_admin" in said,
                   "without CAP_NET_ADMIN: 3, and named", done)
        first = Daemon(lab, good, LAB_FILTER, name="first").start()
        second = Daemon(lab, good, LAB_FILTER, name="second")
        done = second.check("-f")
        tap.ok(done.returncode and done.stdout + done.stderr,
               "a second instance in the same namespace does not start", done)
        tap.ok(first.alive() and works(first, log, "203.0.113.1"), "the first one goes on",
               first.tail())
        first.stop()


def logs(tap):
    """A log that cannot be read does not stop the others."""
    with Lab(1) as lab:
        log = empty_log(lab)
        fifo = os.path.join(lab.tmp, "fifo")
        os.mkfifo(fifo)
        directory = os.path.join(lab.tmp, "directory")
        os.mkdir(directory)
        closed = empty_log(lab, "closed")
        os.chmod(closed, 0)
        paths = "\n    ".join((fifo, directory, closed, log))
        wrap = [] if os.environ.get("E2E_USERNS") else [
            "setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        daemon = Daemon(lab, LAB_JAIL.format(log=paths, maxretry=MAXRETRY), LAB_FILTER, wrap=wrap)
        if wrap:
            os.chown(closed, 1, 1)
        daemon.start()
        tap.ok(works(daemon, log, "203.0.113.1"), "the good log is read", daemon.tail())
        said = daemon.log_text()
        for path in (fifo, directory) + ((closed,) if wrap else ()):
            tap.ok(said.count(path) >= 1, f"{os.path.basename(path)} is named in the log",
                   daemon.tail())
        tap.ok(daemon.alive(), "the daemon lives")
        daemon.stop()


def talk(path, data, wait=0.3):
    """Speaks raw bytes on the control socket and reads what comes."""
    answer = b""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(wait)
        sock.connect(path)
        with contextlib.suppress(OSError):
            sock.sendall(data)
            while True:
                piece = sock.recv(4096)
                if not piece:
                    break
                answer += piece
    return answer


def garbage(tap):
    """Strangers on the control socket."""
    with Lab(1) as lab:
        log = empty_log(lab)
        daemon = Daemon(lab, LAB_JAIL.format(log=log, maxretry=MAXRETRY), LAB_FILTER).start()
        sentences = {
            "no JSON": b"hello\n", "bytes": bytes(range(256)) * 20 + b"\n", "an empty line": b"\n",
            "an array": b"[]\n", "no command": b'{"v":1}\n',
            "another version": b'{"v":99,"cmd":"status","args":{}}\n',
            "an unknown command": b'{"v":1,"cmd":"nosuch","args":{}}\n',
            "args of a wrong type": b'{"v":1,"cmd":"ban","args":[1,2]}\n',
            "a number for an address": b'{"v":1,"cmd":"ban","args":{"addr":5}}\n',
            "deep nesting": b'{"v":1,"cmd":"status","args":' + b"[" * 30000 + b"\n",
            "a NUL": b'{"v":1,"cmd":"sta\\u0000tus","args":{}}\n',
        }
        for name, data in sentences.items():
            answer = talk(daemon.socket, data)
            tap.ok(b'"ok":true' not in answer.replace(b" ", b""), f"{name} is refused", answer)
            tap.ok(daemon.ctl("status").rc == 0, f"{name}: the daemon answers others")
        talk(daemon.socket, b"x" * (1 << 20))
        talk(daemon.socket, b'{"v":1,"cmd"', 0.1)
        held = []
        for _ in range(40):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(1)
            with contextlib.suppress(OSError):
                sock.connect(daemon.socket)
            held.append(sock)
        tap.ok(daemon.alive(), "forty silent clients do no harm")
        begin = time.monotonic()
        back = e2e.eventually(lambda: daemon.ctl("status").rc == 0, 6, 0.2)
        tap.ok(back, f"status answers again after {time.monotonic() - begin:.1f} s")
        for sock in held:
            sock.close()
        tap.ok(works(daemon, log, "203.0.113.2"), "and a log line still bans", daemon.tail())
        daemon.stop()


if __name__ == "__main__":
    e2e.main(configuration, start, logs, garbage)
