# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo's Flask application (run.py, beside it) with the routes that long connections need.

    /slow?seconds=N     a handler at work (run.py has it)
    /upload             reads the whole body, says how many bytes it had
    /big?bytes=N        a download, in pieces of 64 KiB
    /events?every=S     server-sent events
    /echo               a websocket by hand, on the socket that werkzeug and gunicorn hand out

asgi.py has the same routes for event-loop servers. HOST and PORT come from the environment.
"""
import base64
import hashlib
import os
import struct
import time

from flask import Response, request
from run import app

PIECE = bytes(65536)
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@app.route("/upload", methods=["POST"])
def upload():
    count = 0
    while True:
        piece = request.stream.read(4096)
        if not piece:
            return f"{count} bytes\n"
        count += len(piece)


@app.route("/big")
def big():
    size = min(int(request.args.get("bytes", "8388608")), 1 << 28)

    def pieces():
        for at in range(0, size, len(PIECE)):
            yield PIECE[:size - at]
    return Response(pieces(), mimetype="application/octet-stream",
                    headers={"Content-Length": str(size)})


@app.route("/events")
def events():
    every = float(request.args.get("every", "2"))

    def lines():
        while True:
            yield f"data: {time.time():.1f}\n\n"
            time.sleep(every)
    return Response(lines(), mimetype="text/event-stream")


def exactly(sock, count):
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise ConnectionError("the websocket's client has gone")
        data += piece
    return data


def frame(sock):
    """(opcode, payload) of one short frame of a client."""
    opcode, length = struct.unpack("BB", exactly(sock, 2))
    mask = exactly(sock, 4)
    payload = exactly(sock, length & 0x7f)
    return opcode & 0x0f, bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))


def echo(environ):
    """A websocket from its handshake to its end."""
    sock = environ.get("werkzeug.socket") or environ["gunicorn.socket"]
    key = environ["HTTP_SEC_WEBSOCKET_KEY"] + WEBSOCKET_GUID
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    sock.sendall("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    opcode = 0
    while opcode != 8:
        opcode, payload = frame(sock)
        sock.sendall(struct.pack("BB", 0x80 | opcode, len(payload)) + payload)


def with_websocket(inner):
    """WSGI has no way to give a connection away: each server has an exception of its own for it."""
    def outer(environ, start_response):
        if environ.get("PATH_INFO") != "/echo":
            return inner(environ, start_response)
        try:
            echo(environ)
        except (OSError, IndexError):
            pass
        if "werkzeug.socket" in environ:
            raise ConnectionError("the websocket is over")
        raise StopIteration
    return outer


app.wsgi_app = with_websocket(app.wsgi_app)

if __name__ == "__main__":
    app.run(host=os.environ.get("HOST", "0.0.0.0"), port=int(os.environ.get("PORT", "8001")))
