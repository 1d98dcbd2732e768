# SPDX-License-Identifier: GPL-2.0-or-later
"""The end-to-end laboratory: network namespaces, a real Flask service, attackers, the daemon.

A `Lab` owns three network namespaces that have no name and no link to the host: the server, the
attackers (10.66.1.1 ... and fd66:1:0:1::1 ..., and all of 10.70.0.0/16 for attacks from many
addresses) and the normal client (10.66.2.2, fd66:2::2; other honest people have 10.71.0.0/16).
They are held by descriptors only, so they vanish with the last process in them, however a test
ends. Every process that a Lab starts carries PDEATHSIG and is ended by `close`.

Environment: TAILBAN_BUILD (build directory), TAILBAN_DATADIR (source tree), E2E_SIZE=small|full.
Needs root; `main` starts the test again under `unshare -Urn` when it is not root.
"""
import collections
import contextlib
import ctypes
import fcntl
import ipaddress
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("TAILBAN_DATADIR", os.path.join(HERE, "..", "..")))
BUILD = os.path.abspath(os.environ.get("TAILBAN_BUILD", os.path.join(SOURCE, "build")))
PYTHON = "/usr/bin/python3"
TRAFFIC = os.path.join(HERE, "traffic.py")
HOLDERS = os.path.join(HERE, "holders.py")
RUN_PY = os.path.join(HERE, "..", "..", "etc", "demo", "run.py")
DAEMON = os.path.join(BUILD, "daemon", "tailband")
CLIENT = os.path.join(BUILD, "client", "tailban")

PORT = 8001
SERVER = "10.66.1.254"
SERVER_FOR_CLIENT = "10.66.2.1"
SERVER6 = "fd66:1::fffe"
NORMAL = "10.66.2.2"
MAX_ATTACKERS = 250
CROWD = "10.70.0.0/16"   # each of its addresses is an attacker
PEOPLE = "10.71.0.0/16"  # each of its addresses is an honest client
CROWD_GATEWAY = "10.66.1.253"
PEOPLE_GATEWAY = "10.66.2.253"

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1

Scale = collections.namedtuple("Scale", "name nofile seconds silent first first_addrs rate")
SCALES = {
    "small": Scale("small", 256, 8, 280, 180, 6, 150),
    "full": Scale("full", 1024, 22, 1100, 600, 20, 250),
}
SCALE = SCALES[os.environ.get("E2E_SIZE", "small")]
Answer = collections.namedtuple("Answer", "rc out err data")

LIBC = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The laboratory itself could not be built, or something did not happen in time."""


def syscall(name, *args):
    if getattr(LIBC, name)(*args) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def attacker(number):
    return f"10.66.1.{number}"


def attackers(count, first=1):
    return [attacker(n) for n in range(first, first + count)]


def crowd(count, net=CROWD):
    """As many different addresses of a network, 250 from each block of 256."""
    first = int(ipaddress.ip_network(net).network_address)
    return [str(ipaddress.ip_address(first + (n // 250) * 256 + n % 250 + 1))
            for n in range(count)]


def attacker6(number):
    """Each in a /64 of its own, because that is what is counted and banned."""
    return f"fd66:1:0:{number:x}::1"


def eventually(predicate, seconds, every=0.05):
    """The first true value of `predicate`, or its last false one when time is over."""
    end = time.monotonic() + seconds
    while True:
        value = predicate()
        if value or time.monotonic() >= end:
            return value
        time.sleep(every)


def visible(text):
    """Bytes of a stranger for the terminal: no control characters."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


def log_line(address, body='"GET /bad HTTP/1.1" 404 -', when=None):
    """One line as werkzeug writes it, in local time."""
    stamp = time.strftime("%d/%b/%Y %H:%M:%S", time.localtime(when))
    return f"{address} - - [{stamp}] {body}\n".encode()


def bad_request(address, text="123"):
    """The two lines of one bad request."""
    return (log_line(address, f"code 400, message Bad request syntax ('{text}')") +
            log_line(address, f'"{text}" 400 -'))


class Namespace:
    """One network namespace, held by a descriptor."""

    def __init__(self):
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscall("unshare", CLONE_NEWNET)
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            syscall("setns", home, CLONE_NEWNET)
            os.close(home)

    @property
    def path(self):
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @property
    def inode(self):
        return os.fstat(self.fd).st_ino

    @contextlib.contextmanager
    def inside(self):
        """The calling thread is in the namespace; sockets made here stay in it."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscall("setns", self.fd, CLONE_NEWNET)
            yield
        finally:
            syscall("setns", home, CLONE_NEWNET)
            os.close(home)

    def enter_child(self):
        """For preexec_fn: in the namespace, and no life after the parent's."""
        syscall("setns", self.fd, CLONE_NEWNET)
        syscall("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def pids(self):
        found = []
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if name.isdigit() and os.stat(f"/proc/{name}/ns/net").st_ino == self.inode:
                    found.append(int(name))
        return [pid for pid in found if pid != os.getpid()]

    def close(self):
        os.close(self.fd)


class Lab:
    """`with Lab() as lab:` gives namespaces `lab.server`, `lab.bad` and `lab.good`."""

    def __init__(self, count=60):
        self.count = min(count, MAX_ATTACKERS)
        self.tmp = tempfile.mkdtemp(prefix=f"tailban-e2e-{os.getpid()}-")
        os.chmod(self.tmp, 0o755)
        self.children = []
        self.spaces = []
        self.closed = False
        try:
            self.build()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def build(self):
        self.server = self.add_space()
        self.bad = self.add_space()
        self.good = self.add_space()
        self.ip(self.server, [
            f"link add attack type veth peer name eth0 netns {self.bad.path}",
            f"link add people type veth peer name eth0 netns {self.good.path}",
            f"addr add {SERVER}/24 dev attack",
            f"addr add {SERVER_FOR_CLIENT}/24 dev people",
            f"addr add {SERVER6}/32 dev attack nodad",
            "addr add fd66:2::1/64 dev people nodad",
            "link set lo up", "link set attack up", "link set people up",
            f"route add {CROWD} via {CROWD_GATEWAY}",
            f"route add {PEOPLE} via {PEOPLE_GATEWAY}"])
        # A local route makes every address of a network one's own; one neighbour stands for all.
        self.ip(self.bad, ["link set lo up", "link set eth0 up"] +
                [f"addr add {attacker(n)}/24 dev eth0" for n in range(1, self.count + 1)] +
                [f"addr add {attacker6(n)}/32 dev eth0 nodad" for n in range(1, self.count + 1)] +
                [f"addr add {CROWD_GATEWAY}/24 dev eth0", f"route add local {CROWD} dev lo"])
        self.ip(self.good, ["link set lo up", "link set eth0 up",
                            f"addr add {NORMAL}/24 dev eth0",
                            f"addr add {PEOPLE_GATEWAY}/24 dev eth0",
                            f"route add local {PEOPLE} dev lo",
                            "addr add fd66:2::2/64 dev eth0 nodad"])

    def add_space(self):
        space = Namespace()
        self.spaces.append(space)
        return space

    def ip(self, space, lines):
        self.run(space, ["ip", "-batch", "-"], input="\n".join(lines) + "\n", check=True)

    def run(self, space, argv, check=False, timeout=30, **options):
        """Runs a program in `space` to its end. Text in, text out."""
        options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
        if "input" in options:
            del options["stdin"]
        done = subprocess.run(argv, preexec_fn=space.enter_child, timeout=timeout, text=True,
                              errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False, **options)
        if check and done.returncode != 0:
            raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done

    def spawn(self, space, argv, **options):
        """Starts a program in `space`; `close` ends it if it still runs."""
        options.setdefault("stdin", subprocess.DEVNULL)
        child = subprocess.Popen(argv, preexec_fn=space.enter_child, start_new_session=True,
                                 **options)
        self.children.append(child)
        return child

    def nft(self, *words):
        return self.run(self.server, ["nft", *words], check=True).stdout

    def sets(self, table="tailban"):
        return nft_sets(self.run(self.server, ["nft", "-j", "list", "table", "inet", table]))

    def in_kernel(self, address, table="tailban"):
        """The element that covers `address` in the ban sets, or None."""
        return covering(self.sets(table), address)

    def sockets(self, *states):
        """(local, peer) of the server's TCP sockets on PORT, for ss states such as established."""
        out = self.run(self.server, ["ss", "-Htan", "state", states[0] if states else "established",
                                     "sport", "=", f":{PORT}"]).stdout
        return [tuple(line.split()[-2:]) for line in out.splitlines()]

    def leftovers(self):
        """Processes in the laboratory that no `spawn` knows: the daemon left them behind."""
        known = {child.pid for child in self.children}
        return [pid for space in self.spaces for pid in space.pids() if pid not in known]

    def close(self):
        if self.closed:
            return
        self.closed = True
        with deaf():
            for child in reversed(self.children):
                end_child(child, 0.5)
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                left = [pid for space in self.spaces for pid in space.pids()]
                if not left:
                    break
                for pid in left:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)
            for space in self.spaces:
                space.close()
            shutil.rmtree(self.tmp, ignore_errors=True)


@contextlib.contextmanager
def deaf():
    """No second Ctrl-C into the cleaning up."""
    old = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        old[number] = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def end_child(child, patience, first=signal.SIGTERM):
    """Ends a child and says how it ended."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(first)
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(5)
    return child.returncode


def nft_sets(done):
    """{set: {element: {timeout, expires, packets, bytes}}} of `nft -j list table`."""
    if done.returncode != 0 or not done.stdout.strip():
        return {}
    result = {}
    for item in json.loads(done.stdout)["nftables"]:
        if "set" not in item:
            continue
        elements = result.setdefault(item["set"]["name"], {})
        for entry in item["set"].get("elem", []):
            entry = entry.get("elem", entry) if isinstance(entry, dict) else {"val": entry}
            counter = entry.get("counter") or {}
            elements[element_name(entry.get("val", entry))] = {
                "timeout": entry.get("timeout"), "expires": entry.get("expires"),
                "packets": counter.get("packets", 0), "bytes": counter.get("bytes", 0)}
    return result


def element_name(value):
    if isinstance(value, dict) and "prefix" in value:
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    if isinstance(value, dict) and "concat" in value:
        return " . ".join(str(part) for part in value["concat"])
    return str(value)


def is_ban_set(name):
    """ban4, ban6_64, banp4, force4 ...; not the ignore list beside them."""
    return name.startswith(("ban", "force"))


def covering(sets, address):
    """The element that covers `address`: ban and force sets, a prefix length after `_`."""
    wanted = ipaddress.ip_address(address)
    for name, elements in sets.items():
        if not is_ban_set(name):
            continue
        tail = name.rpartition("_")[2]
        for key, entry in elements.items():
            text = key.split(" . ")[0]
            with contextlib.suppress(ValueError):
                length = f"/{tail}" if tail.isdigit() and "/" not in text else ""
                if wanted in ipaddress.ip_network(text + length, strict=False):
                    return entry
    return None


class Flask:
    """`ulimit -n N; nohup python3 ./run.py > ./logs/logs.out 2>&1 &` in the server namespace."""

    def __init__(self, lab, nofile=None, host="0.0.0.0", name="app"):
        self.lab = lab
        self.nofile = nofile or SCALE.nofile
        self.home = os.path.join(lab.tmp, name)
        self.log = os.path.join(self.home, "logs", "logs.out")
        os.makedirs(os.path.dirname(self.log))
        for path in self.files():
            shutil.copy(path, self.home)
        command = (f"ulimit -n {self.nofile}; exec nohup {shlex.join(self.argv(host))} "
                   "> ./logs/logs.out 2>&1")
        environment = dict(os.environ, HOST=host, PORT=str(PORT))
        self.child = lab.spawn(lab.server, ["/bin/bash", "-c", command], cwd=self.home,
                               env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
        self.pid = self.child.pid
        if not eventually(self.answers, 20):
            raise LabError(f"the service does not answer: {self.log_text()[-500:]}")
        self.wait_idle()
        self.idle = self.fds()

    def files(self):
        return [RUN_PY]

    def argv(self, host):
        del host  # it is in the environment
        return [PYTHON, "./run.py"]

    def wait_idle(self):
        eventually(lambda: self.threads() == 1, 2, 0.02)

    def answers(self, timeout=1.0):
        """Does the service answer a normal client now?"""
        return http_get(self.lab.good, (SERVER_FOR_CLIENT, PORT), timeout)

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return int(self.status_field("Threads"))

    def vmsize_kib(self):
        return int(self.status_field("VmSize").split()[0])

    def status_field(self, key):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith(key + ":"):
                    return line.split(":", 1)[1].strip()
        raise LabError(f"the service {self.pid} has no {key}: is it dead?")

    def log_text(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def stop(self):
        return end_child(self.child, 3)


def http_get(space, target, timeout=1.0, source=None):
    """One GET from `space`; true when it was answered with 200."""
    with contextlib.ExitStack() as stack:
        try:
            with space.inside():
                family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
                sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.settimeout(timeout)
            if source:
                sock.bind((source, 0))
            sock.connect(target)
            sock.sendall(b"GET /hello_world?name=hejian HTTP/1.1\r\nHost: x\r\n\r\n")
            return b" 200 " in sock.recv(64)
        except OSError:
            return False


class Child:
    """A program of the laboratory whose last line says, as JSON, what happened."""

    def __init__(self, lab, space, argv, **options):
        argv = [PYTHON, "-B", *argv]
        for key, value in options.items():
            argv += ["--" + key] if value is True else ["--" + key, str(value)]
        self.child = lab.spawn(space, argv, stdout=subprocess.PIPE, text=True)

    def running(self):
        return self.child.poll() is None

    def wait(self, seconds=60):
        """What happened, as the program says it."""
        out, _ = self.child.communicate(timeout=seconds)
        return json.loads(out.strip().splitlines()[-1]) if out.strip() else {}

    def stop(self):
        if self.running():
            self.child.send_signal(signal.SIGTERM)
        return self.wait(10)


class Traffic(Child):
    """A child of traffic.py."""

    def __init__(self, lab, space, kind, target, sources, **options):
        super().__init__(lab, space, [TRAFFIC, kind, "--target", f"{target}:{PORT}", "--from",
                                      ",".join(sources)], **options)


def hold(lab, attack, count, sources, rate, seconds, **options):
    """Connections that are opened and kept as holders.py knows; sources: a list, or a network."""
    return Child(lab, lab.bad, [HOLDERS, attack, "--target", f"{SERVER}:{PORT}", "--target6",
                                f"[{SERVER6}]:{PORT}", "--from",
                                sources if isinstance(sources, str) else ",".join(sources)],
                 count=count, rate=rate, seconds=seconds, **options)


def silent(lab, count, sources, rate, seconds, **options):
    """Connections that are opened and kept without a word."""
    return hold(lab, "silent", count, sources, rate, seconds, **options)


def reconnect(lab, count, sources, rate, seconds):
    """The same, and what was cut is opened again."""
    return silent(lab, count, sources, rate, seconds, reconnect=True)


def noise(lab, sources, kinds="text", each=2, **options):
    """Raw text, other protocols and scanner paths."""
    return Traffic(lab, lab.bad, "noise", SERVER, sources, kinds=kinds, each=each, **options)


def brute(lab, sources, each=6):
    """Log-ins with wrong passwords."""
    return Traffic(lab, lab.bad, "brute", SERVER, sources, each=each)


def flood(lab, sources, rate, seconds):
    """UDP and SYN, whether somebody answers or not."""
    return Traffic(lab, lab.bad, "flood", SERVER, sources, rate=rate, seconds=seconds)


class NormalClient:
    """Asks twice a second and writes down each answer."""

    def __init__(self, lab, seconds, every=0.5, name="client"):
        self.path = os.path.join(lab.tmp, f"{name}.jsonl")
        self.traffic = Traffic(lab, lab.good, "client", SERVER_FOR_CLIENT, [NORMAL],
                               seconds=seconds, every=every, timeout=1.0, out=self.path)

    def probes(self):
        if not os.path.exists(self.path):
            return []
        with open(self.path, encoding="utf-8") as lines:
            whole = [json.loads(line) for line in lines if line.endswith("\n")]
        return sorted(whole, key=lambda probe: probe["t"])

    def finish(self):
        """(number of probes, those without an answer)."""
        self.traffic.stop()
        probes = self.probes()
        return len(probes), [probe for probe in probes if not probe["answered"]]


FLASK_JAIL = """\
[flask]
enabled = yes
filter = werkzeug
logpath = {log}
"""


# A jail whose name, filter and port are known to the tests.
LAB_JAIL = """\
[DEFAULT]
ignoreip = 192.0.2.10
[lab]
enabled = yes
filter = lab
logpath = {log}
port = 8001
maxretry = {maxretry}
findtime = 10m
bantime = 1h
"""
LAB_FILTER = {"filter.d/lab.conf": """\
[Definition]
failregex = ^<HOST> - - \\[[^]]*\\] "GET /bad[^"]*" 404 -$
"""}


class Daemon:
    """tailband with a configuration, a state directory and a socket of its own."""

    def __init__(self, lab, jails="", files=None, args=(), name="tailban", wrap=(), quick=()):
        self.lab = lab
        self.home = os.path.join(lab.tmp, name)
        self.conf = os.path.join(self.home, "conf")
        self.state = os.path.join(self.home, "state")
        self.socket = os.path.join(self.home, "control")
        self.log = os.path.join(self.home, "tailband.log")
        self.args = list(args)
        self.wrap = list(wrap)
        self.quick = ["-q", *quick] if quick else []
        self.child = None
        os.makedirs(os.path.join(self.conf, "filter.d"))
        os.makedirs(self.state)
        self.write("jail.conf", jails)
        for path, text in (files or {}).items():
            self.write(path, text)

    def write(self, path, text):
        """A file of the configuration directory."""
        full = os.path.join(self.conf, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as out:
            out.write(text)
        return full

    def argv(self, *more):
        conf = [] if self.quick else ["-c", self.conf]
        return [*self.wrap, DAEMON, *conf, "-s", self.socket, "-S", self.state, *more, *self.quick]

    def environment(self):
        drop = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        kept = {key: value for key, value in os.environ.items() if key not in drop}
        # A leak check cannot trace processes that have given up their user.
        return {"ASAN_OPTIONS": "detect_leaks=0"} | kept | {"TAILBAN_DATADIR": SOURCE}

    def start(self, wait=True):
        with open(self.log, "ab") as log:
            self.child = self.lab.spawn(self.lab.server, self.argv("-f", *self.args),
                                        stdout=log, stderr=log, env=self.environment())
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds=15):
        """Ready means that the control socket answers."""
        def answer():
            if self.child.poll() is not None:
                raise LabError(f"tailband ended with {self.child.returncode}:\n{self.tail()}")
            return self.ctl("status").rc == 0
        if not eventually(answer, seconds, 0.02):
            raise LabError(f"tailband is not ready after {seconds} s:\n{self.tail()}")

    def check(self, *args):
        """`tailband -t`, or with other arguments to its end; one that stays has returncode None."""
        argv = self.argv(*(args or ("-t",)))
        try:
            return self.lab.run(self.lab.server, argv, env=self.environment(), timeout=10)
        except subprocess.TimeoutExpired as late:
            return subprocess.CompletedProcess(argv, None, str(late.stdout), str(late.stderr))

    def stop(self, number=signal.SIGTERM, patience=10):
        return end_child(self.child, patience, number)

    def kill9(self):
        self.child.kill()
        return self.child.wait(5)

    @property
    def pid(self):
        return self.child.pid

    def alive(self):
        return self.child is not None and self.child.poll() is None

    def pids(self):
        """The main process and all its descendants."""
        return descendants(self.pid)

    def ctl(self, *words, json_out=False, **options):
        argv = [CLIENT, "-s", self.socket, *(["--json"] if json_out else []), *words]
        done = self.lab.run(self.lab.server, argv, env=self.environment(), **options)
        data = None
        if json_out and done.stdout.strip():
            with contextlib.suppress(ValueError):
                data = json.loads(done.stdout)
        return Answer(done.returncode, done.stdout, done.stderr, data)

    def status(self):
        return self.ctl("status", json_out=True).data or {}

    def banned(self):
        """{address without length: entry} of `tailban banned --json`."""
        entries = self.ctl("banned", json_out=True).data or []
        return {entry["addr"].split("/")[0]: entry for entry in entries}

    def is_banned(self, address):
        return self.ctl("banned", address).rc == 0

    def lines_read(self, wanted=None, seconds=10):
        """The counter; with `wanted`, waits until it is reached."""
        def read():
            return self.status().get("lines_read", -1)
        if wanted is not None:
            eventually(lambda: read() >= wanted, seconds)
        return read()

    def log_text(self):
        if not os.path.exists(self.log):
            return ""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def tail(self, lines=25):
        return visible("\n".join(self.log_text().splitlines()[-lines:]))


def descendants(pid):
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as children:
                    found += [int(word) for word in children.read().split()]
    return found


def sanitized():
    """Was the daemon built with a sanitizer? Then time and memory are not judged."""
    with open(DAEMON, "rb") as program:
        return b"__asan_init" in program.read()


class Tap:
    """Test Anything Protocol, as Automake's driver reads it."""

    def __init__(self, out=sys.stdout):
        self.out = out
        self.count = 0
        self.failed = 0

    def say(self, text):
        print(text, file=self.out, flush=True)

    def note(self, text):
        for line in visible(str(text)).splitlines():
            self.say(f"# {line}")

    def ok(self, good, name, detail=None):
        self.count += 1
        self.failed += not good
        self.say(f"{'ok' if good else 'not ok'} {self.count} - {name}")
        if not good and detail is not None:
            self.note(detail)
        return good

    def equal(self, got, wanted, name):
        return self.ok(got == wanted, name, f"got {got!r}, wanted {wanted!r}")

    def skip(self, name, reason):
        self.count += 1
        self.say(f"ok {self.count} - {name} # SKIP {reason}")

    def done(self):
        self.say(f"1..{self.count}")
        return 1 if self.failed else 0


def missing():
    """Why nothing can run here, or None."""
    for program in ("ip", "nft", "ss", "unshare"):
        if not shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            return f"the program {program} is not installed"
    try:
        subprocess.run([PYTHON, "-c", "import flask"], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return "python3-flask is not installed"
    return None


def reexec_as_root():
    """Root, or root of a user namespace of our own; else the reason why not."""
    if os.geteuid() == 0:
        try:
            Namespace().close()
            return None
        except OSError as problem:
            return f"no network namespace can be made here ({problem})"
    if os.environ.get("E2E_USERNS"):
        return "the user namespace gives no root"
    probe = subprocess.run(["unshare", "-Urn", "true"], check=False, stderr=subprocess.PIPE,
                           text=True)
    if probe.returncode != 0:
        return f"needs root, and the kernel allows no user namespace ({probe.stderr.strip()})"
    sys.stdout.flush()
    os.environ["E2E_USERNS"] = "1"
    os.execvp("unshare", ["unshare", "-Urn", PYTHON, *sys.argv])
    return None


def stop_on(number, _frame):
    """Ends the test by an exception, so that every Lab is closed."""
    if number == signal.SIGALRM:
        raise LabError("the test took too long")
    raise SystemExit(128 + number)


def take_turn():
    """One test at a time for each build, also under `make -j`: they measure time."""
    with contextlib.suppress(OSError):
        path = os.path.join(BUILD, ".e2e.lock")
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX)


def must_exist(*programs):
    """A program that was not built fails the test: a skip would hide that nothing was tried."""
    absent = [program for program in programs if not os.path.exists(program)]
    if absent:
        print(f"not ok 1 - {' and '.join(absent)} built\n1..1")
        sys.exit(1)


def main(*tests, seconds=280, needs_daemon=True):
    """Runs the test functions, each with a Tap, and ends the program.

    With names on the command line only those functions run.
    """
    chosen = [test for test in tests if test.__name__ in sys.argv[1:]] or tests
    os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
    os.environ.pop("PYTHONPATH", None)
    os.environ["LC_ALL"] = "C.UTF-8"
    if needs_daemon:
        must_exist(DAEMON, CLIENT)
    absent = missing()
    if absent and os.environ.get("CI"):
        print(f"not ok 1 - {absent}\n1..1")
        sys.exit(1)
    reason = absent or reexec_as_root()
    if reason:
        print(f"1..0 # SKIP {reason}")
        sys.exit(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, stop_on)
    take_turn()
    signal.alarm(seconds)
    tap = Tap()
    for test in chosen:
        before = tap.failed
        try:
            test(tap)
        except Exception:  # a test that breaks is a failed test, the others still run
            tap.ok(False, f"{test.__name__} ran to its end", traceback.format_exc())
        if tap.failed != before:
            tap.note(f"{test.__name__}: {(test.__doc__ or '').strip()}")
    signal.alarm(0)
    sys.exit(tap.done())
