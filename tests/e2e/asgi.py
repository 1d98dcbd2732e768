# SPDX-License-Identifier: GPL-2.0-or-later
"""app.py's routes for an event-loop server, on bare ASGI."""
import asyncio
import time
import urllib.parse

PIECE = bytes(65536)


async def read_body(receive):
    """The number of bytes, or None when the client has gone."""
    count = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        count += len(message.get("body", b""))
        if not message.get("more_body"):
            return count


async def begin(send, status, kind, length=None):
    headers = [(b"content-type", kind)]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def piece(send, body, more):
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def answer(send, text, status=200):
    body = text.encode()
    await begin(send, status, b"text/html; charset=utf-8", len(body))
    await piece(send, body, False)


async def hello(query, receive, send):
    del receive
    await answer(send, f"hello {query.get('name', 'world')}\n")


async def slow(query, receive, send):
    del receive
    await asyncio.sleep(float(query.get("seconds", "1")))
    await answer(send, "done\n")


async def upload(query, receive, send):
    del query
    count = await read_body(receive)
    if count is not None:
        await answer(send, f"{count} bytes\n")


async def big(query, receive, send):
    del receive
    size = min(int(query.get("bytes", "8388608")), 1 << 28)
    await begin(send, 200, b"application/octet-stream", size)
    for at in range(0, size, len(PIECE)):
        await piece(send, PIECE[:size - at], at + len(PIECE) < size)


async def events(query, receive, send):
    every = float(query.get("every", "2"))
    gone = asyncio.ensure_future(read_body(receive))
    await begin(send, 200, b"text/event-stream")
    while True:
        await piece(send, f"data: {time.time():.1f}\n\n".encode(), True)
        await asyncio.sleep(every)
        if gone.done():
            if gone.result() is None:
                return
            gone = asyncio.ensure_future(read_body(receive))


async def websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await send({"type": "websocket.send", "bytes": message.get("bytes"),
                    "text": message.get("text")})


ROUTES = {"/hello_world": hello, "/slow": slow, "/upload": upload, "/big": big, "/events": events}


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await websocket(receive, send)
    elif scope["type"] == "http":
        query = dict(urllib.parse.parse_qsl(scope["query_string"].decode("ascii", "replace")))
        route = ROUTES.get(scope["path"])
        if route:
            await route(query, receive, send)
        else:
            await answer(send, "not here\n", 404)
