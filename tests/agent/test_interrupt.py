#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A signal ends each command that waits: for an agent, for a pipe's reader.

usage: test_interrupt.py TOOL TARGET UNINTERRUPTED BLOCKING

UNINTERRUPTED is a library to preload, under which poll() sees no signals; BLOCKING, under which writes wait. Control:
with them the command goes on waiting.
"""
import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import queue
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading

from agent_client import HAS_ATTACH, LIMIT, NO_ATTACH, default_signals, run, system_call, tap, target, wait_until

TOOL, TARGET, UNINTERRUPTED, BLOCKING = map(os.path.abspath, sys.argv[1:5])
check = tap.check


def signals(process, kind):
    """Those of a process that are pending ("ShdPnd") or blocked ("SigBlk")."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(rf"^{kind}:\s*(\w+)", status, re.MULTILINE).group(1), 16)


def has(process, kind, number):
    return bool(signals(process, kind) >> (number - 1) & 1)


def looks_for_signals(process):
    """An update blocks all of them for a moment."""
    return has(process, "SigBlk", signal.SIGINT) and not has(process, "SigBlk", signal.SIGUSR1)


def searches(process):
    """It waits for its child, which looks at the threads, all signals blocked."""
    return system_call(process.pid)[0] in ("poll", "ppoll") and has(process, "SigBlk", signal.SIGUSR1)


def is_tracing(pid):
    return json.loads(run(TOOL, "stats", "--json", pid).stdout)["tracer"]


@contextlib.contextmanager
def command(*args, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    with subprocess.Popen([TOOL, *map(str, args)], **options) as process:
        try:
            yield process
        finally:
            process.kill()


def is_ended(process):
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(LIMIT) == -signal.SIGINT
    return False


def take(process):
    """A signal that it takes: one more is another one."""
    process.send_signal(signal.SIGINT)
    return wait_until(lambda: process.poll() is not None or not has(process, "ShdPnd", signal.SIGINT))


class Mute:
    """
    This process itself listens where an agent would, and does not answer what is not in answers. Anybody's `shunt ps` finds
    it, and asks: who has asked what is kept apart.
    """

    def __init__(self, folder):
        os.mkdir(folder + "/shunt-mute")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"{folder}/shunt-mute/{os.getpid()}-1")
        self.listener.listen(8)
        self.answers = {"hello": b"ok 11\nprotocol\t1\n"}
        self.asked = {}  # by the number of the process that asks
        threading.Thread(target=self.run, daemon=True).start()

    def asked_by(self, pid):
        return self.asked.setdefault(pid, queue.Queue())

    def run(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        asks = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        with client, contextlib.suppress(OSError):
            while word := client.recv(4096).decode().split("\n")[0].split("\t")[0]:
                if word in self.answers:
                    client.sendall(self.answers[word])
                else:
                    self.asked_by(asks).put(word)

    def waits(self, process, word):
        with contextlib.suppress(queue.Empty):
            return self.asked_by(process.pid).get(timeout=LIMIT) == word
        return False


def unanswered(folder):
    mute, pid = Mute(folder), os.getpid()
    kept = pathlib.Path(folder + "/kept")
    kept.write_text("what was there")
    for word, *args in (("keys", "list", pid), ("stats", "stats", pid), ("set", "set", pid, "a=on"), ("detach", "detach", pid),
                        ("snapshot", "snapshot", "-o", kept, pid), ("trace", "trace", "-o", kept, "-p", pid)):
        with command(*args) as process:
            check(mute.waits(process, word) and take(process) and is_ended(process), f"{args[0]}: an agent that does not answer")
            words = process.stderr.read()
            if word in ("snapshot", "trace"):
                check("interrupted" in words and kept.read_text() == "what was there" and
                      sorted(os.listdir(folder)) == ["kept", "shunt-mute"], "it says so, and leaves files as they were",
                      words)
    with command("trace", "-o", folder + "/kept", "-p", pid,
                 env={**os.environ, "LD_PRELOAD": UNINTERRUPTED}) as process:
        check(mute.waits(process, "trace") and not take_for(process, 1), "control: without looking for signals it waits")
    with command("ps") as stranger:
        check(mute.waits(stranger, "keys") and stranger.wait(LIMIT) == 0, "a `shunt ps` of anybody asks in between")
    mute.answers |= {"trace": b"ok 0\n", "stats": b"ok 18\ntrace_functions\t1\n"}
    with command("trace", "-o", folder + "/last", "-p", pid) as process:
        steps = (lambda: wait_until(lambda: os.path.exists(folder + "/last")), lambda: take(process), lambda: mute.waits(process, "stop"),
                 lambda: take(process), lambda: is_ended(process))
        passed = list(itertools.takewhile(lambda step: step(), steps))
        check(len(passed) == len(steps), "trace -p: an agent that does not end the session",
              f"step {len(passed) + 1}, status {process.poll()}: "
              f"{process.stderr.read() if process.poll() is not None else 'runs'}")


def searching():
    """attach looks for a thread that sleeps, and has all signals blocked meanwhile."""
    with subprocess.Popen([sys.executable, "-c", "print(1, flush=True)\nwhile True: pass"],
                          stdout=subprocess.PIPE) as busy:
        busy.stdout.readline()
        attach = "attach", "--timeout", 5 * LIMIT, busy.pid
        for args in attach, ("trace", "-p", busy.pid, "-o", "/dev/null"):
            with command(*args) as process:
                check(wait_until(lambda now=process: searches(now)) and take(process) and
                      is_ended(process), f"{args[0]}: a process no thread of which sleeps")
        with command(*attach, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) as process:
            check(wait_until(lambda: searches(process)) and not take_for(process, 1),
                  "one that is ignored does not end it")
        with command(*attach, env={**os.environ, "LD_PRELOAD": UNINTERRUPTED}) as process:
            check(wait_until(lambda: searches(process)) and not take_for(process, 1),
                  "control: attach that does not look for signals goes on")
        check(busy.poll() is None, "the process goes on, too")
        busy.kill()


def take_for(process, seconds):
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is not None


def is_stuck(process):
    """In a poll() of a descriptor and of signals, without an end."""
    name, *args = system_call(process.pid)
    return args[1:] in {"poll": ([2, 0xffffffff], [2, 2 ** 64 - 1]), "ppoll": ([2, 0],)}.get(name, ())


def is_writing(process):
    return system_call(process.pid)[0] == "write"


def is_behind(process):
    """It has had the time for a table, which it could not write; it looks for signals all the time."""
    def turns():
        return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)",
                             pathlib.Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)[1])
    end = turns() + 20
    return wait_until(lambda: turns() >= end)


def full_pipe():
    ends = os.pipe()
    flags = fcntl.fcntl(ends[1], fcntl.F_GETFL)
    fcntl.fcntl(ends[1], fcntl.F_SETFL, flags | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(ends[1], bytes(4096))
    fcntl.fcntl(ends[1], fcntl.F_SETFL, flags)
    return ends


def unread(folder):
    fifo = folder + "/fifo"
    os.mkfifo(fifo)
    with target(TARGET) as (_, pid):
        for args in ("snapshot", "-o", fifo, pid), ("trace", "-o", fifo, "-p", pid):
            with command(*args) as process:
                check(wait_until(lambda now=process: looks_for_signals(now)) and take(process) and
                      is_ended(process), f"{args[0]}: a pipe that nobody opens")
        ends = full_pipe()
        with command("trace", "-o", "/dev/stdout", "-p", pid, stdout=ends[1]) as process:
            steps = (lambda: wait_until(lambda: is_tracing(pid)), lambda: take(process), process.stderr.readline,
                     lambda: take(process), lambda: is_ended(process))
            passed = list(itertools.takewhile(lambda step: step(), steps))
            check(len(passed) == len(steps), "trace -p: a pipe that nobody reads", f"step {len(passed) + 1}, status {process.poll()}")
        with command("trace", "--top", "-p", pid, stdout=ends[1]) as process:
            check(wait_until(lambda: is_tracing(pid)) and is_behind(process) and take(process) and
                  process.wait(LIMIT) == 0 and not is_tracing(pid), "--top: a pipe that nobody reads")
        with command("trace", "--top", "-p", pid, "--for", "1s", stdout=ends[1]) as process:
            check(wait_until(lambda: is_tracing(pid)) and wait_until(lambda: is_stuck(process)) and take(process) and
                  is_ended(process), "--top: its last table waits for a reader, or a signal")
        with command("trace", "--top", "-p", pid, stdout=ends[1], stderr=ends[1]) as process:
            check(wait_until(lambda: is_tracing(pid)) and is_behind(process) and take(process) and
                  wait_until(lambda: is_stuck(process)) and take(process) and process.wait(LIMIT) == -signal.SIGINT and
                  not is_tracing(pid), "--top: standard error is the same pipe")
        with command("trace", "--top", "--", TARGET, stderr=ends[1]) as process:
            child = int(process.stdout.readline())
            check(is_behind(process) and take(process) and is_ended(process) and not os.path.exists(f"/proc/{child}"),
                  "--top of a command: a pipe that nobody reads")
        with command("trace", "--top", "--", TARGET, stderr=ends[1],
                     env={**os.environ, "LD_PRELOAD": BLOCKING}) as process:
            child = int(process.stdout.readline())
            check(wait_until(lambda: is_writing(process)) and not take_for(process, 1),
                  "control: where its writes wait, it waits")
            os.kill(child, signal.SIGKILL)
        for end in ends:
            os.close(end)
        with command("trace", "-o", folder + "/trace", "-p", pid,
                     preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
            check(wait_until(lambda: looks_for_signals(process)) and
                  not has(process, "SigBlk", signal.SIGHUP), "what nohup has switched off stays so")


default_signals()
with tempfile.TemporaryDirectory() as top:
    for part in unanswered, unread:
        where = f"{top}/{part.__name__}"
        os.mkdir(where)
        part(where)
if HAS_ATTACH:
    searching()
else:
    tap.skip("attach and trace -p look for a thread", NO_ATTACH)
sys.exit(tap.end())
