# SPDX-License-Identifier: GPL-2.0-or-later
"""The servers that people put in front of such an application, each as its manual starts it.

Where each of them breaks by itself, without any defender, and what no defender can help:

flask     werkzeug's development server: a thread and a descriptor for each connection, no time-out
          of its own. Ends at its descriptors; accept() fails and spins.
sync      gunicorn's default worker: one connection at a time, a slow client occupies the worker
          until gunicorn kills it (30 s). As many silent connections as workers are an outage, long
          before any budget is reached; what waits behind them stands in the accept queue.
gthread   gunicorn with threads: the main thread accepts, a silent or unfinished connection
          occupies one of the threads for ever, a kept-alive one none. Silent ones end it at
          `threads`. Of kept-alive ones it keeps `worker_connections` - `threads` (936) and closes
          others after their answer, so it outlives them with 1,024 descriptors; with fewer the
          worker dies of EMFILE and is started again: all its clients are cut.
uwsgi     a thread for each connection that it works on; the rest waits in the accept queue (100).
          A silent or unfinished client is given up after `socket-timeout` (4 s). It sets
          TCP_DEFER_ACCEPT (4 s): the kernel keeps a silent connection half-open (SYN_RECV) for
          the first seconds, so a hundred of them fill the queue before one is ESTABLISHED.
waitress  one thread with select() for all connections, threads for finished requests. Accepts no
          more than `connection_limit` (100), so a hundred held connections are an outage at a
          tenth of the descriptors. Gives up idle ones after two minutes.
uvicorn   an event loop: a connection costs a descriptor and no thread. Ends at its descriptors; at
          EMFILE it stops accepting for a second at a time.
"""
import contextlib
import os

import lab as e2e

KEEP_ALIVE = 75
GTHREADS = 64
SYNC_WORKERS = 4
UWSGI_PROCESSES, UWSGI_THREADS = 2, 8
FILES = ("app.py", "asgi.py")


def wsgi(*words):
    return [e2e.PYTHON, "/usr/bin/gunicorn", "--bind", "{host}:{port}", *words, "app:app"]


KINDS = {
    "flask": [e2e.PYTHON, "./app.py"],
    "sync": wsgi("--workers", str(SYNC_WORKERS)),
    "gthread": wsgi("--worker-class", "gthread", "--threads", str(GTHREADS),
                    "--keep-alive", str(KEEP_ALIVE), "--access-logfile", "-"),
    "uwsgi": ["/usr/bin/uwsgi_python3", "--http-socket", "{host}:{port}", "--master",
              "--die-on-term", "--processes", str(UWSGI_PROCESSES), "--threads",
              str(UWSGI_THREADS), "--module", "app:app"],
    "waitress": [e2e.PYTHON, "/usr/bin/waitress-serve", "--host", "{host}", "--port", "{port}",
                 "--threads", "8", "app:app"],
    "uvicorn": [e2e.PYTHON, "-m", "uvicorn", "--host", "{host}", "--port", "{port}",
                "--timeout-keep-alive", str(KEEP_ALIVE), "--http", "h11", "--ws", "wsproto",
                "asgi:app"],
}
MODULES = "/usr/lib/python3/dist-packages"
NEEDS = {
    "flask": {},
    "sync": {"gunicorn": "/usr/bin/gunicorn"},
    "gthread": {"gunicorn": "/usr/bin/gunicorn"},
    "uwsgi": {"uwsgi-core": "/usr/bin/uwsgi-core",
              "uwsgi-plugin-python3": "/usr/bin/uwsgi_python3"},
    "waitress": {"python3-waitress": "/usr/bin/waitress-serve"},
    "uvicorn": {"python3-uvicorn": f"{MODULES}/uvicorn", "python3-wsproto": f"{MODULES}/wsproto"},
}


def missing(kind):
    """The Debian package that a kind of server lacks here, or None."""
    return next((package for package, path in NEEDS[kind].items() if not os.path.exists(path)),
                None)


class Server(e2e.Flask):
    """One of KINDS in the server namespace, with the routes of app.py."""

    def __init__(self, lab, kind="flask", **options):
        self.kind = kind
        super().__init__(lab, **options)

    def files(self):
        return [e2e.RUN_PY, *(os.path.join(e2e.HERE, name) for name in FILES)]

    def argv(self, host):
        return [word.format(host=f"[{host}]" if ":" in host and self.kind != "uvicorn" else host,
                            port=e2e.PORT) for word in KINDS[self.kind]]

    def workers(self):
        """The processes that serve; a master that only watches them is none when it has any."""
        return e2e.descendants(self.pid)[1:] or [self.pid]

    def fds(self):
        """Of the fullest process: each has a limit of its own."""
        return max((count_fds(pid) for pid in self.workers()), default=0)

    def threads(self):
        total = 0
        for pid in self.workers():
            with contextlib.suppress(OSError):
                total += len(os.listdir(f"/proc/{pid}/task"))
        return total

    def wait_idle(self):
        """Flask has one thread; others have started when nothing changes any more."""
        if self.kind == "flask":
            super().wait_idle()
            return
        seen = []

        def steady():
            seen.append((self.workers(), self.fds(), self.threads()))
            return len(seen) > 4 and len({str(look) for look in seen[-4:]}) == 1
        e2e.eventually(steady, 5, 0.1)


def count_fds(pid):
    """Since Linux 6.2 the size of the directory is the number."""
    path = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        return os.stat(path).st_size or len(os.listdir(path))
    return 0
