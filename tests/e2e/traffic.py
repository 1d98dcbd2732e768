#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""The people in front of the service: attackers that talk and one normal client.

A child of lab.py, run in a network namespace of the laboratory. Every kind is bounded in count
and in time. The last line of standard output is one JSON object that says what happened.

    traffic.py noise  --target ADDR:PORT --from ADDRS --kinds text,probe --each N
    traffic.py brute  --target ADDR:PORT --from ADDRS --each N
    traffic.py flood  --target ADDR:PORT --from ADDRS --rate R --seconds S
    traffic.py client --target ADDR:PORT --from ADDR --every S --seconds S --out FILE

ADDRS is a list separated by commas. Attackers that hold connections are in holders.py, other honest
clients in innocents.py.
"""
import argparse
import concurrent.futures
import json
import resource
import signal
import socket
import sys
import threading
import time

MAX_SECONDS = 900.0

TLS_HELLO = (b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03" + bytes(range(0x20, 0x40)) +
             b"\x00\x00\x04\x13\x01\x00\xff\x01\x00\n")

# What strangers send to a plain HTTP port. `http` kinds are well-formed requests.
NOISE = {
    "text": [b"123\r\n", b"ccc\r\n"],
    "tls": [TLS_HELLO],
    "rtsp": [b"OPTIONS / RTSP/1.0\r\nCSeq: 1\r\n\r\n"],
    "rdp": [b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\n"],
    "smb": [b"\x00\x00\x00\x2f\xffSMB\x72\x00\x00\x00\x00\x18\x01\x28\x00\x00\n"],
    "http2": [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    "probe": [b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % p
              for p in (b"/admin/", b"/login", b"/.env", b"/.git/config", b"/phpmyadmin/")],
}


def split_target(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def new_socket(source, nonblocking=False):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(not nonblocking)
    sock.bind((source, 0))
    return sock


def say(source, target, payload):
    """One connection that says `payload`; true when the server answered or closed."""
    try:
        with new_socket(source) as sock:
            sock.settimeout(1.0)
            sock.connect(target)
            sock.sendall(payload)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                pass
            return True
    except OSError:
        return False


def talk(args, payloads_of):
    """Every source says its payloads one after another; sources talk at the same time."""
    target = split_target(args.target)

    def one(index):
        time.sleep(args.spread * index / max(1, len(args.sources)))
        answered = 0
        for payload in payloads_of(index):
            answered += say(args.sources[index], target, payload)
            time.sleep(args.gap)
        return answered

    with concurrent.futures.ThreadPoolExecutor(max_workers=64) as pool:
        counts = list(pool.map(one, range(len(args.sources))))
    return {"sources": len(args.sources), "answered": sum(counts)}


def noise(args):
    pool = [payload for kind in args.kinds.split(",") for payload in NOISE[kind]]
    return talk(args, lambda index: [pool[n % len(pool)] for n in range(args.each)])


def brute(args):
    body = b"user=admin&secret=%d"
    head = b"POST /account HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"

    def payloads(_):
        texts = [body % n for n in range(args.each)]
        return [head % len(text) + text for text in texts]

    return talk(args, payloads)


def flood(args):
    """UDP datagrams, and a TCP SYN with every tenth, at a fixed rate from each source in turn."""
    target = split_target(args.target)
    udp = []
    for source in args.sources:
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind((source, 0))
        udp.append(sock)
    sent = 0
    waiting = []
    begin = time.monotonic()
    while running() and time.monotonic() - begin < min(args.seconds, MAX_SECONDS):
        due = int((time.monotonic() - begin) * args.rate)
        while sent < due:
            try:
                udp[sent % len(udp)].sendto(b"x", target)
            except ConnectionRefusedError:
                pass
            if sent % 10 == 0:
                sock = new_socket(args.sources[sent % len(udp)], nonblocking=True)
                sock.connect_ex(target)
                waiting.append(sock)
                if len(waiting) > 50:
                    waiting.pop(0).close()
            sent += 1
        time.sleep(0.001)
    return {"sent": sent}


def probe(args, target, out, lock):
    begin = time.monotonic()
    answer = b""
    error = ""
    try:
        with new_socket(args.sources[0]) as sock:
            sock.settimeout(args.timeout)
            sock.connect(target)
            sock.sendall(b"GET /hello_world?name=hejian HTTP/1.1\r\nHost: x\r\n"
                         b"Connection: close\r\n\r\n")
            while time.monotonic() - begin < args.timeout:
                sock.settimeout(max(0.01, args.timeout - (time.monotonic() - begin)))
                piece = sock.recv(4096)
                if not piece:
                    break
                answer += piece
    except OSError as problem:
        error = str(problem)
    answered = answer.startswith(b"HTTP/1.") and b" 200 " in answer[:20] and b"hejian" in answer
    record = {"t": begin, "answered": answered,
              "ms": round((time.monotonic() - begin) * 1000, 1), "error": error}
    with lock:
        out.write(json.dumps(record) + "\n")
        out.flush()


def client(args):
    """The normal client. Probes do not wait for one another."""
    target = split_target(args.target)
    lock = threading.Lock()
    threads = []
    begin = time.monotonic()
    with open(args.out, "a", encoding="utf-8") as out:
        while running() and time.monotonic() - begin < min(args.seconds, MAX_SECONDS):
            thread = threading.Thread(target=probe, args=(args, target, out, lock))
            thread.start()
            threads.append(thread)
            time.sleep(max(0.0, begin + len(threads) * args.every - time.monotonic()))
        for thread in threads:
            thread.join()
    return {"probes": len(threads)}


STOPPED = threading.Event()


def running():
    return not STOPPED.is_set()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("noise", "brute", "flood", "client"))
    parser.add_argument("--target", required=True)
    parser.add_argument("--from", dest="sources", required=True,
                        type=lambda text: text.split(","))
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--kinds", default="text")
    parser.add_argument("--each", type=int, default=2)
    parser.add_argument("--gap", type=float, default=0.02)
    parser.add_argument("--spread", type=float, default=0.0)
    parser.add_argument("--every", type=float, default=0.5)
    parser.add_argument("--timeout", type=float, default=1.0)
    parser.add_argument("--out")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: STOPPED.set())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kinds = {"noise": noise, "brute": brute, "flood": flood, "client": client}
    print(json.dumps(kinds[args.kind](args)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
