# SPDX-License-Identifier: MIT
"""What tests of the agent share: TAP, a process with an agent, clients that speak its protocol."""
import array
import contextlib
import glob
import os
import pathlib
import signal
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
from waiting import wait_until  # noqa: E402, F401: the tests have it from here

LIMIT = 60  # s, for what hangs
HAS_ATTACH = os.uname().machine == "x86_64"  # `shunt attach` puts an agent into a process that has none
NO_ATTACH = "not on this CPU"


class Tap:
    count = failed = 0

    def check(self, good, what, detail=""):
        self.count += 1
        self.failed += not good
        print(f"{'ok' if good else 'not ok'} {self.count} - {what}", flush=True)
        if not good and detail:
            print("".join(f"# {line}\n" for line in str(detail).splitlines()), end="", flush=True)

    def skip(self, what, why):
        self.count += 1
        print(f"ok {self.count} - {what} # SKIP {why}", flush=True)

    def end(self):
        print(f"1..{self.count}")
        return bool(self.failed)


tap = Tap()


def socket_path(pid):
    inodes = set()
    for fd in glob.glob(f"/proc/{pid}/fd/*"):
        with contextlib.suppress(OSError):
            link = os.readlink(fd)
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    for line in pathlib.Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[6] in inodes and "/shunt" in words[7]:
            return words[7]
    return None


@contextlib.contextmanager
def target(program, *args, **options):
    process = subprocess.Popen([program, *args], stdout=subprocess.PIPE, text=True,
                               start_new_session=True, **options)
    try:
        yield process, int(process.stdout.readline())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)  # one that must not wait would be turned away by a full backlog
    client.settimeout(20)
    return client


def answer(client):
    text = b""
    while b"\n" not in text:
        got = client.recv(65536)
        if not got:
            return None
        text += got
    head, body = text.split(b"\n", 1)
    if head.startswith(b"ok "):
        while len(body) < int(head[3:]):
            body += client.recv(65536)
    return (head + b"\n" + body).decode()


def ask(client, *words, fds=()):
    line = ("\t".join(words) + "\n").encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    client.sendmsg([line], rights)
    return answer(client)


def take_place(path):
    """A client that the agent has taken: a `shunt ps` of anybody may have the last place for a moment."""
    while True:
        client = connect(path)
        with contextlib.suppress(OSError):
            if (ask(client, "hello") or "").startswith("ok "):
                return client
        client.close()


def is_well(path):
    with connect(path) as client:
        return ask(client, "hello").startswith("ok ")


def default_signals():
    """What who runs the test has ignored (nohup, a shell's background jobs), its children would ignore."""
    for number in signal.SIGHUP, signal.SIGINT, signal.SIGQUIT:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def run(*args, **options):
    return subprocess.run([*map(str, args)], capture_output=True, timeout=100, check=False,
                          **{"text": True, **options})


def exit_status(process, limit=LIMIT):
    """Of one that has been told to end."""
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return "it does not end"


CALLS = {"x86_64": {0: "read", 1: "write", 7: "poll", 230: "clock_nanosleep", 271: "ppoll"},
         "aarch64": {63: "read", 64: "write", 73: "ppoll", 115: "clock_nanosleep"}}[os.uname().machine]


def system_call(pid):
    """The name of that in which the process or thread (PID/task/TID) is, and three arguments; None: another, or it runs."""
    words = pathlib.Path(f"/proc/{pid}/syscall").read_text().split()
    return [CALLS.get(int(words[0])), *(int(word, 0) for word in words[1:4])] if words[0].isdigit() else [None]


def fds_of(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))
