#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""The tool that is made for such attacks, Debian's slowhttptest, in its four modes."""
import os
import resource
import subprocess

import lab as e2e
import siege
from lab import SCALE

PROGRAM = "/usr/bin/slowhttptest"
MODES = {
    "slow headers": ["-H", "-i", "2", "-x", "24"],
    "slow body": ["-B", "-i", "2", "-s", "8192", "-x", "10"],
    "slow read": ["-X", "-w", "10", "-y", "20", "-n", "2", "-z", "8"],
    "ranges": ["-R", "-t", "GET", "-a", "10", "-b", "300"],
}
PATHS = {"slow body": "/upload", "slow read": "/big"}


class Tool:
    """One run of slowhttptest in the attackers' namespace; it has one address there."""
    everyone = False
    v6 = False

    def __init__(self, mode):
        self.mode = mode
        self.child = None

    def __str__(self):
        return f"slowhttptest, {self.mode}"

    def harmless(self, kind):
        """Flask serves no ranges: each is an ordinary request, only too many of them."""
        del kind
        return self.mode == "ranges"

    def undecidable(self, kind):
        """Flask has a thread for each connection, and these say what they wait for."""
        del kind
        return False

    def start(self, scene):
        url = f"http://{e2e.SERVER}:{e2e.PORT}{PATHS.get(self.mode, '/hello_world')}"
        argv = [PROGRAM, *MODES[self.mode], "-c", str(SCALE.silent), "-r", str(SCALE.rate), "-l",
                str(SCALE.seconds + 60), "-p", "1", "-v", "0", "-u", url]
        self.child = scene.lab.spawn(scene.lab.bad, argv, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL, cwd=scene.lab.tmp)
        return self, [e2e.attacker(1)]

    def stop(self):
        return {"ended": e2e.end_child(self.child, 3)}


def table():
    limits = list(siege.LIMITS)
    for number, mode in enumerate(MODES):
        for which in limits if SCALE.name == "full" else [limits[number % 2]]:
            yield Tool(mode), "flask", which


def absent(tap):
    siege.without(tap, "slowhttptest", "slowhttptest")


if __name__ == "__main__":
    _, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))
    TESTS = siege.rows(table()) if os.path.exists(PROGRAM) else [absent]
    e2e.main(*TESTS, seconds=900, needs_daemon=siege.needs_daemon())
