#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""The laboratory shows what it must show, with a defender made of nft and `ss -K` by hand.

Without these facts the other tests would prove nothing: the service dies of silent connections,
a drop rule alone does not bring it back, a drop rule and a kill do.
"""
import time

import lab as e2e
from lab import SCALE, Flask, Lab, NormalClient


def outage(tap):
    """Silent connections take every descriptor; drop alone keeps them; the kill frees them."""
    with Lab() as lab:
        flask = Flask(lab)
        client = NormalClient(lab, 60)
        sources = e2e.attackers(4)
        hold = e2e.silent(lab, SCALE.silent, sources, SCALE.rate * 2, 60)
        full = e2e.eventually(lambda: flask.fds() >= SCALE.nofile - 1, 15)
        tap.ok(full, "silent connections fill the descriptors", f"{flask.fds()} descriptors")
        tap.note(f"{flask.fds()} descriptors, {flask.threads()} threads, "
                 f"{flask.vmsize_kib() // 1024} MiB")
        tap.ok(not flask.answers(), "the service answers nobody any more")
        lab.nft("add table inet tailban")
        lab.nft("add set inet tailban ban4 { type ipv4_addr; flags timeout; }")
        lab.nft("add chain inet tailban pre { type filter hook prerouting priority -300; }")
        lab.nft("add rule inet tailban pre ip saddr @ban4 drop")
        lab.nft("add element inet tailban ban4 { %s }" %
                ", ".join(f"{source} timeout 1h" for source in sources))
        tap.ok(lab.in_kernel(sources[0]) and not lab.in_kernel(e2e.NORMAL),
               "the ban list is read from the kernel", lab.sets())
        tap.note(hold.stop())
        time.sleep(1.0)
        tap.ok(flask.fds() >= SCALE.nofile - 10, "a drop rule alone frees nothing",
               f"{flask.fds()} descriptors")
        lab.run(lab.server, ["ss", "-K", "dst", "10.66.1.0/24", "sport", "=", f":{e2e.PORT}"])
        back = e2e.eventually(lambda: flask.fds() <= flask.idle + 10, 5)
        tap.ok(back, "with the sockets killed the descriptors are back", f"{flask.fds()}")
        tap.ok(flask.answers(), "and the service answers")
        count, lost = client.finish()
        tap.ok(count > 3 and lost, "the normal client has seen the outage", f"{count} probes")


def talkers(tap):
    """Every kind of noise reaches the log under its own address."""
    with Lab() as lab:
        flask = Flask(lab)
        kinds = ("text", "tls", "rtsp", "rdp", "smb", "http2", "probe")
        for number, kind in enumerate(kinds, 1):
            e2e.noise(lab, [e2e.attacker(number)], kind, 2).wait()
        e2e.brute(lab, [e2e.attacker(20)], 3).wait()
        text = flask.log_text()
        for number, kind in enumerate(kinds, 1):
            lines = [x for x in text.splitlines() if x.startswith(f"10.66.1.{number} - - [")]
            tap.ok(len(lines) >= 2 and not any(" 200 -" in x for x in lines),
                   f"{kind} is in the log", lines)
        tap.equal(text.count('10.66.1.20 - - ['), 3, "log-ins are in the log")
        tap.ok(" 401 -" in text, "and they failed")


def six(tap):
    """IPv6 and a dual-stack listener work."""
    with Lab(3) as lab:
        flask = Flask(lab, host="::")
        e2e.Traffic(lab, lab.bad, "noise", f"[{e2e.SERVER6}]", [e2e.attacker6(3)], kinds="text",
                    each=1).wait()
        e2e.noise(lab, [e2e.attacker(2)], "text", 1).wait()
        text = flask.log_text()
        tap.ok("fd66:1:0:3::1 - - [" in text, "an IPv6 peer is in the log", text)
        tap.ok("::ffff:10.66.1.2 - - [" in text, "a mapped IPv4 peer is in the log", text)
        tap.equal(lab.leftovers(), [], "every process in the laboratory is known")


if __name__ == "__main__":
    e2e.main(outage, talkers, six, needs_daemon=False)
