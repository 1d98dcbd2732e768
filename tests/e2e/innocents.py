#!/usr/bin/python3 -B
# SPDX-License-Identifier: GPL-2.0-or-later
"""Honest clients whose connections look like an attacker's from outside.

    innocents.py --target ADDR:PORT --crowd SPEC --seconds S [--silent S] [--handler S] [--upload N]

SPEC is KIND:COUNT:NET[,...]: so many clients of that kind, each with an address of its own in the
network (10.71.3.0: 10.71.3.1, 10.71.3.2 ...), or all behind one when NET is a single address that
does not end with .0. Kinds:

    keepalive  a request every 3 s on one connection, as a pool of a program does it
    websocket  a message every 3 s, echoed
    quiet      a websocket on which nobody says anything after one message
    events     server-sent events, one every 2 s
    handler    requests that the server works on for --handler seconds
    upload     --upload bytes, one a second
    download   8 MB, read at 1 MB a second
    browser    a page (one request), and one more connection that stays silent for --silent seconds;
               then the next page
    health     a load balancer: connect and close each second

Each client writes down what an honest client would complain about: a connection that was cut (RST,
or end of file before its own end), one that could not be opened within 3 s, a wrong answer. A
server that closes after a whole answer has cut nothing. The last line of standard output is one
JSON object: {kind: {people, done, cut, failed}} and the first problems.
"""
import argparse
import asyncio
import base64
import contextlib
import json
import os
import resource
import signal
import struct
import sys
import time

import traffic

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
MAX_PROBLEMS = 20
TALK_EVERY = 3.0


class Trouble(Exception):
    """What an honest client complains about. `kind` is cut or failed."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


class Line:
    """One connection of an honest client."""

    def __init__(self, person, reader, writer):
        self.person = person
        self.reader = reader
        self.writer = writer
        self.begin = time.monotonic()

    def cut(self, why):
        age = time.monotonic() - self.begin
        return Trouble("cut", f"{why} after {age:.1f} s")

    async def send(self, data):
        try:
            self.writer.write(data)
            await self.writer.drain()
        except OSError as problem:
            raise self.cut(f"cannot send: {problem}") from problem

    async def take(self, what, seconds):
        """Awaits a read; what is cut, late or at its end is trouble."""
        try:
            return await asyncio.wait_for(what, seconds)
        except asyncio.TimeoutError as problem:
            raise Trouble("failed", f"no answer within {seconds:.0f} s") from problem
        except asyncio.IncompleteReadError as problem:
            raise self.cut("end of file") from problem
        except OSError as problem:
            raise self.cut(str(problem)) from problem

    async def head(self, seconds=ANSWER_SECONDS):
        """(status, {header: value}) of an answer."""
        text = (await self.take(self.reader.readuntil(b"\r\n\r\n"), seconds)).decode("latin-1")
        first, *lines = text.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        return int(first.split()[1]), headers

    async def answer(self, seconds=ANSWER_SECONDS):
        """A whole answer with a known length; gives its headers."""
        status, headers = await self.head(seconds)
        body = await self.take(self.reader.readexactly(int(headers["content-length"])), seconds)
        if status != 200:
            raise Trouble("failed", f"answer {status}: {body[:40]!r}")
        return headers

    async def silence(self, seconds):
        """Nothing is said, nothing may come."""
        try:
            data = await asyncio.wait_for(self.reader.read(100), seconds)
        except asyncio.TimeoutError:
            return
        except OSError as problem:
            raise self.cut(str(problem)) from problem
        raise self.cut("end of file") if not data else Trouble("failed", f"sudden {data!r}")


class Person:
    """A client with an address; runs one kind again and again until the end."""

    def __init__(self, kind, source, args, end):
        self.kind = kind
        self.source = source
        self.args = args
        self.end = end
        self.target = traffic.split_target(args.target)
        self.done = self.cut = self.failed = 0
        self.problems = []

    def left(self):
        return self.end - time.monotonic()

    @contextlib.asynccontextmanager
    async def line(self):
        host, port = self.target
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(host, port, local_addr=(self.source, 0)), CONNECT_SECONDS)
        except asyncio.TimeoutError as problem:
            raise Trouble("failed", "cannot connect") from problem
        except OSError as problem:
            raise Trouble("failed", f"cannot connect: {problem}") from problem
        try:
            yield Line(self, reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def live(self, delay):
        await asyncio.sleep(delay)
        while self.left() > 0:
            begin = time.monotonic()
            try:
                await getattr(self, self.kind)()
                self.done += 1
            except Trouble as trouble:
                setattr(self, trouble.kind, getattr(self, trouble.kind) + 1)
                self.problems.append(f"{begin:.2f} {self.kind} {self.source}: {trouble.kind}: "
                                     f"{trouble}")
                await asyncio.sleep(1.0)

    def request(self, path, method="GET", headers=""):
        return f"{method} {path} HTTP/1.1\r\nHost: {self.target[0]}\r\n{headers}\r\n".encode()

    async def keepalive(self):
        async with self.line() as line:
            while self.left() > 0:
                await line.send(self.request("/hello_world?name=pool"))
                headers = await line.answer()
                closed = headers.get("connection") == "close"
                await (asyncio.sleep if closed else line.silence)(min(TALK_EVERY, self.left()))
                self.done += 1
                if closed:
                    return

    async def shake(self, line):
        key = base64.b64encode(os.urandom(16)).decode()
        await line.send(self.request(
            "/echo", headers="Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"))
        status, _ = await line.head()
        if status != 101:
            raise Trouble("failed", f"answer {status} to a websocket")

    async def message(self, line, opcode=1):
        payload = f"{self.source} {self.done}".encode() if opcode == 1 else b""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
        await line.send(struct.pack("BB", 0x80 | opcode, 0x80 | len(payload)) + mask + masked)
        head = await line.take(line.reader.readexactly(2), ANSWER_SECONDS)
        echo = await line.take(line.reader.readexactly(head[1] & 0x7f), ANSWER_SECONDS)
        if opcode == 1 and echo != payload:
            raise Trouble("failed", f"echo {echo!r}")

    async def websocket(self):
        async with self.line() as line:
            await self.shake(line)
            while self.left() > 0:
                await self.message(line)
                self.done += 1
                await line.silence(min(TALK_EVERY, max(0.0, self.left())))
            await self.message(line, 8)

    async def quiet(self):
        async with self.line() as line:
            await self.shake(line)
            await self.message(line)
            await line.silence(max(0.0, self.left()))
            await self.message(line)

    async def events(self):
        async with self.line() as line:
            await line.send(self.request("/events?every=2"))
            await line.head()
            while self.left() > 0:
                await line.take(line.reader.readuntil(b"data: "), ANSWER_SECONDS)
                self.done += 1

    async def handler(self):
        seconds = min(self.args.handler, self.left())
        if seconds < 1.0:
            return await asyncio.sleep(seconds)
        async with self.line() as line:
            await line.send(self.request(f"/slow?seconds={seconds:.1f}"))
            await line.answer(seconds + ANSWER_SECONDS)
        return None

    async def upload(self):
        count = int(min(self.args.upload, self.left()))
        if count < 2:
            return await asyncio.sleep(1.0)
        async with self.line() as line:
            await line.send(self.request("/upload", "POST", f"Content-Length: {count}\r\n"))
            for n in range(count):
                await line.send(b"u")
                if n < count - 1:
                    await line.silence(1.0)
            await line.answer()
        return None

    async def download(self):
        left = 8 << 20
        async with self.line() as line:
            await line.send(self.request(f"/big?bytes={left}"))
            await line.head()
            while left > 0:
                piece = min(left, 1 << 18)
                await line.take(line.reader.readexactly(piece), ANSWER_SECONDS)
                left -= piece
                await asyncio.sleep(0.25)

    async def browser(self):
        async with self.line() as spare, self.line() as page:
            await page.send(self.request("/hello_world?name=browser"))
            headers = await page.answer()
            if headers.get("connection") == "close":
                page.writer.close()
            await spare.silence(min(self.args.silent, max(0.0, self.left())))

    async def health(self):
        async with self.line():
            pass
        await asyncio.sleep(1.0)


def crowd(args, end):
    people = []
    for part in args.crowd.split(","):
        kind, count, net = part.split(":")
        head, _, tail = net.rpartition(".")
        for n in range(int(count)):
            source = f"{head}.{n + 1}" if tail == "0" else net
            people.append(Person(kind, source, args, end))
    return people


async def run(args):
    people = crowd(args, time.monotonic() + min(args.seconds, traffic.MAX_SECONDS))
    # Everybody has come after the first tenth of the time, within 3 s.
    gap = min(3.0, args.seconds / 10) / len(people)
    tasks = [asyncio.ensure_future(person.live(n * gap)) for n, person in enumerate(people)]
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: [t.cancel() for t in tasks])
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    return result(people)


def result(people):
    kinds = {}
    for person in people:
        kind = kinds.setdefault(person.kind, dict.fromkeys(("people", "done", "cut", "failed"), 0))
        kind["people"] += 1
        for key in ("done", "cut", "failed"):
            kind[key] += getattr(person, key)
    problems = sorted(text for person in people for text in person.problems)
    return {"kinds": kinds, "cut": sum(kind["cut"] for kind in kinds.values()),
            "failed": sum(kind["failed"] for kind in kinds.values()),
            "addresses": sorted({person.source for person in people}),
            "problems": problems[:MAX_PROBLEMS]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", required=True)
    parser.add_argument("--crowd", required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--silent", type=float, default=60.0)
    parser.add_argument("--handler", type=float, default=60.0)
    parser.add_argument("--upload", type=int, default=30)
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(asyncio.run(run(args))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
