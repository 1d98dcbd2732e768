#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rotation of every kind, half lines and hostile lines: no line lost, none counted twice.

Each case has a log and an address of its own and makes exactly one offence less than maxretry:
a line counted twice bans too early. One more line then bans: a lost line bans too late.
"""
import os
import shutil
import time

import lab as e2e
from lab import LAB_FILTER, LAB_JAIL, Daemon, Lab, log_line

MAXRETRY = 40
OFFENCES = MAXRETRY - 1


class Log:
    """One log with its writer, its address and the number of lines written."""

    def __init__(self, path, address):
        self.path = path
        self.address = address
        self.written = 0
        self.left = OFFENCES
        self.file = None

    def open(self):
        self.file = open(self.path, "ab", buffering=0)
        return self.file

    def offences(self, count, out=None):
        for _ in range(count):
            (out or self.file).write(log_line(self.address))
        self.written += count
        self.left -= count

    def rest(self):
        self.offences(self.left)

    def raw(self, line):
        """A line that is no offence."""
        self.file.write(line + b"\n")
        self.written += 1


def by_rename(log, _):
    """rename; the writer goes on in the old file; then a new one."""
    log.offences(13)
    os.rename(log.path, log.path + ".1")
    log.offences(13)
    log.open()
    log.rest()


def by_copytruncate(log, settle):
    """copy and truncate; the writer never notices."""
    log.offences(20)
    settle()
    shutil.copy(log.path, log.path + ".1")
    os.truncate(log.path, 0)
    log.offences(10)
    settle()
    log.rest()


def by_symlink(log, _):
    """logs.out is a symbolic link that is switched to a new file."""
    log.offences(13)
    second = log.path + "-2"
    with open(second, "ab"):
        pass
    os.symlink(second, log.path + ".new")
    os.rename(log.path + ".new", log.path)
    log.file = open(second, "ab", buffering=0)
    log.rest()


def by_directory(log, _):
    """The whole directory is renamed and made again."""
    log.offences(13)
    home = os.path.dirname(log.path)
    os.rename(home, home + ".old")
    log.offences(5)
    os.mkdir(home)
    log.open()
    log.rest()


def by_delete(log, settle):
    """Deleted and made again, often with the same inode number."""
    log.offences(20)
    log.file.close()
    settle()
    os.unlink(log.path)
    log.open()
    log.rest()


def by_delete_while_open(log, _):
    """Deleted while the writer goes on, then made again."""
    log.offences(13)
    os.unlink(log.path)
    log.offences(5)
    log.open()
    log.rest()


def in_pieces(log, _):
    """Three write() calls a line, as coloured werkzeug lines come."""
    while log.left:
        line = log_line(log.address)
        for piece in (line[:30], line[30:-7], line[-7:]):
            log.file.write(piece)
            time.sleep(0.002)
        log.written += 1
        log.left -= 1


def hostile(log, _):
    """Lines of 200 kB, NULs, escapes, bad UTF-8, lone carriage returns."""
    other = "203.0.113.99"
    log.raw(log_line(other, '"GET /' + "x" * 200000 + ' HTTP/1.1" 200 -')[:-1])
    for piece in (b"\0", b"\xff\xfe", b"\x1b[31m", b"\r", b"\xc2\x85", b"\xe2\x80\xa8"):
        for _ in range(MAXRETRY // 6 + 1):
            log.raw(piece + log_line(other)[:-1])
        log.file.write(log_line(log.address, '"GET /bad@ HTTP/1.1" 404 -').replace(b"@", piece))
        log.written += 1
        log.left -= 1
    log.raw(b"")
    log.raw(b"\0" * 9000)
    log.file.write(b"y" * 200000)
    time.sleep(0.05)
    log.raw(b"y")
    log.rest()


def late(log, _):
    """Neither the file nor its directory is there when the daemon starts."""
    os.mkdir(os.path.dirname(log.path))
    log.open()
    log.rest()


CASES = [by_rename, by_copytruncate, by_symlink, by_directory, by_delete, by_delete_while_open,
         in_pieces, hostile, late]


def prepare(lab, number, case):
    home = os.path.join(lab.tmp, case.__name__)
    log = Log(os.path.join(home, "logs.out"), f"203.0.113.{number}")
    if case is late:
        return log
    os.mkdir(home)
    if case is by_symlink:
        os.symlink(log.path + "-1", log.path)
    log.open()
    return log


def rotation(tap):
    """lines_read is what was written, and offences are counted once."""
    with Lab(1) as lab:
        logs = [prepare(lab, number, case) for number, case in enumerate(CASES, 1)]
        paths = "\n    ".join(log.path for log in logs)
        daemon = Daemon(lab, LAB_JAIL.format(log=paths, maxretry=MAXRETRY), LAB_FILTER).start()

        def settle():
            return daemon.lines_read(sum(log.written for log in logs))

        for log, case in zip(logs, CASES):
            what = case.__doc__.rstrip(".")
            case(log, settle)
            settle()
            time.sleep(0.2)
            tap.equal(settle(), sum(x.written for x in logs), f"lines read: {what}")
            tap.ok(not daemon.is_banned(log.address), f"none doubled: {what}")
            log.offences(1)
            banned = e2e.eventually(lambda log=log: daemon.is_banned(log.address), 5)
            tap.ok(banned, f"none lost: {what}")
        tap.ok(not daemon.is_banned("203.0.113.99"), "no offence is found inside a hostile line")
        tap.ok(daemon.alive(), "the daemon lives")
        if tap.failed:
            tap.note(daemon.tail())
            tap.note(daemon.status().get("sources"))
        daemon.stop()


if __name__ == "__main__":
    e2e.main(rotation)
