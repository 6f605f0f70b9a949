#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Children of fork() of a process that is attached to or traced: what they have of it, and for how long. TAP.

usage: test_children.py [--all] TOOL TARGET LEAVES CLOSES

Without --all they are not looked at for descriptors, which takes hundreds of forks.

Controls: agents to preload: LEAVES, under which a session goes on in children for ever, and CLOSES, which closes
descriptors while the process forks.
"""
import contextlib
import functools
import glob
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

from agent_client import HAS_ATTACH, LIMIT, NO_ATTACH, ask, connect, run, socket_path, tap, target, wait_until

ALL = sys.argv[1] == "--all"
TOOL, TARGET, LEAVES, CLOSES = map(os.path.abspath, sys.argv[1 + ALL:5 + ALL])
tool = functools.partial(run, TOOL)
check = tap.check
NONE = {**os.environ, "SHUNT_AGENT_FORK": "0"}


def text(pid):
    """
    What stands where the program's own text is mapped: written pages are mappings of their own. A page that is about
    to be put there is elsewhere for a moment.
    """
    places = [[int(word, 16) for word in line.split()[0].split("-")]
              for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
              if line.endswith(TARGET) and "r-xp" in line]
    end = places[0][0]
    for place in places:
        end = place[1] if place[0] == end else end
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        memory.seek(places[0][0])
        return memory.read(end - places[0][0])


def threads(pid):
    names = []
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            names.append(pathlib.Path(f"/proc/{pid}/task/{tid}/comm").read_text().strip())
        except OSError:
            pass  # it has just ended
    return sorted(names)


def shunts_descriptors(pid):
    """But for those with which libshunt writes text, which it keeps in a program with keys."""
    links = (os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if int(fd) > 2)
    return [link for link in links if not link.startswith("/proc/") and link != TARGET and
            link not in map(os.path.realpath, glob.glob("/proc/self/fd/*"))]


def child_of(process, pid):
    os.kill(pid, signal.SIGUSR2)
    return int(process.stdout.readline())


def is_traced(pid):
    return json.loads(tool("stats", "--json", pid).stdout)["tracer"]


class Tracing:
    """trace -p, until it is ended."""

    def __init__(self, pid, file):
        before = text(pid)
        self.process = subprocess.Popen([TOOL, "trace", "-p", str(pid), "-F", "traced", "-o", file],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True)
        self.runs = wait_until(lambda: text(pid) != before)

    def end(self, sig=signal.SIGINT):
        self.process.send_signal(sig)
        return self.process.communicate(timeout=LIMIT)[0]


def calls(name):
    out = tool("report", "--json", name)
    return sum(f["calls"] for f in json.loads(out.stdout)["functions"]) if out.returncode == 0 else 0


def attached():
    for options, has in ([], False), (["--children"], True):
        with target(TARGET, "env") as (process, pid):
            out = tool("attach", *options, "--timeout", 30, pid)
            child = child_of(process, pid)
            what = "attached " + " ".join(options)
            check(out.returncode == 0 and (wait_until(lambda c=child: socket_path(c)) if has else not socket_path(child)),
                  f"{what}: a child has {'an' if has else 'no'} agent", out)
            # It has its name a moment after it has begun.
            check(wait_until(lambda c=child: "shunt-agent" in threads(c)) if has else len(threads(child)) == 1,
                  f"{what}: and {'its' if has else 'no'} thread", threads(child))
            out = tool("detach", pid)
            check(out.returncode == 0 and tool("detach", child).returncode == (0 if has else 1), f"{what}: ended", out)
            check(wait_until(lambda c=child, p=pid: threads(c) == threads(p) == ["agent_target"]),
                  f"{what}: no thread is left", threads(child))


def sessions(folder):
    """Recorded into a file of its own until the parent's session ends; then all is as before."""
    for what, mode, sig in (("attached by trace -p", "env", signal.SIGINT), ("started by the program", "", signal.SIGINT),
                            ("whose tool is killed", "env", signal.SIGKILL)):
        if mode == "env" and not HAS_ATTACH:
            tap.skip(f"{what}: its children", NO_ATTACH)
            continue
        name = f"{folder}/{what.split()[0]}"
        with target(TARGET, mode, env=NONE) as (process, pid):
            before = text(pid)
            tracing = Tracing(pid, name)
            child = child_of(process, pid)
            grandchild = child_of(process, child)
            pids = child, grandchild
            check(tracing.runs and all(text(p) != before for p in pids), f"{what}: a child's calls are traced, too")
            out = tracing.end(sig)
            check(wait_until(lambda p=pids, b=before: all(text(c) == b for c in p)),
                  f"{what}: its text is as before when the session has ended", out)
            check(wait_until(lambda p=pids: all(threads(c) == ["agent_target"] for c in p)), f"{what}: no thread is left")
            check(wait_until(lambda p=pids: all(shunts_descriptors(c) == [] for c in p)), f"{what}: no descriptor",
                  shunts_descriptors(child))
            check(all(wait_until(lambda c=c, n=name: calls(f"{n}.{c}") > 0) for c in pids),
                  f"{what}: each has a file of its own")
            if not HAS_ATTACH:
                tap.skip(f"{what}: the child can be traced by itself", NO_ATTACH)
                continue
            out = tool("trace", "-p", child, "-F", "traced", "--for", "50ms", "-o", name + ".again")
            check(out.returncode == 0 and calls(name + ".again") > 0, f"{what}: the child can be traced by itself", out)


def temporary(folder):
    """The agent that trace -p has put there goes with it, however that ends."""
    for sig in signal.SIGINT, signal.SIGKILL:
        with target(TARGET, "env") as (_, pid):
            before = threads(pid)
            Tracing(pid, folder + "/temporary").end(sig)
            check(wait_until(lambda p=pid, b=before: threads(p) == b and not socket_path(p)),
                  f"trace -p ended by {sig.name}: the agent that it has put there goes", threads(pid))
    with target(TARGET, "env") as (_, pid):
        tool("attach", pid)
        with connect(socket_path(pid)) as client:
            ask(client, "hello")
        with connect(socket_path(pid)) as client:
            check(ask(client, "stats") and "shunt-agent" in threads(pid),
                  "control: one of whom that is not asked stays when its client has gone", threads(pid))


def dead_parent(folder):
    with target(TARGET, env=NONE) as (process, pid):
        before = text(pid)
        tracing = Tracing(pid, folder + "/dead")
        child = child_of(process, pid)
        os.kill(pid, signal.SIGKILL)
        check(wait_until(lambda: text(child) == before), "the parent is killed: the session in the child ends")
        tracing.process.communicate(timeout=LIMIT)


def asked_by_attaching(folder):
    """A child without an agent that is asked while its parent's session runs is told whose it is."""
    with target(TARGET, env=NONE) as (process, pid):
        before = text(pid)
        tracing = Tracing(pid, folder + "/asked")
        child = child_of(process, pid)
        out = tool("trace", "-p", child, "--for", "10ms", "-o", folder + "/second")
        check(out.returncode == 1 and f"already, by process {tracing.process.pid}" in out.stderr,
              "a session of the child's: it is the parent's client's", out)
        tracing.end()
        check(wait_until(lambda: text(child) == before), "which an agent that was put there ends as well", threads(child))


def asked(folder):
    """And one that has an agent."""
    with target(TARGET) as (process, pid):
        tracing = Tracing(pid, folder + "/asked")
        child = child_of(process, pid)
        check(wait_until(lambda: socket_path(child)) and is_traced(child), "a child that has an agent: the session is in it")
        tracing.end()
        check(wait_until(lambda: not is_traced(child)) and "shunt-agent" in threads(child), "which goes on afterwards")


def control(folder):
    with target(TARGET, env={**NONE, "LD_PRELOAD": LEAVES}) as (process, pid):
        before = text(pid)
        tracing = Tracing(pid, folder + "/control")
        child = child_of(process, pid)
        tracing.end()
        check(wait_until(lambda: text(pid) == before or not is_traced(pid)) and text(child) != before and
              threads(child) == ["agent_target"], "control: without a thread that waits for it, it goes on in the child")


def ask_often(path, file, is_over):
    """Clients one after the other, each with a descriptor to be refused."""
    while not is_over.is_set():
        with contextlib.suppress(OSError), connect(path) as client:
            ask(client, "snapshot", fds=[file.fileno()])


def copied(folder):
    """What the agent closes while the process forks is not open in the child."""
    for preload, forks in (None, 120), (CLOSES, 100000):
        env = {**NONE, **({"LD_PRELOAD": preload} if preload else {})}
        with target(TARGET, "copies", env=env) as (process, pid), open(folder + "/passed", "wb") as file:
            is_over, end, seen = threading.Event(), time.monotonic() + LIMIT, ""
            clients = [threading.Thread(target=ask_often, args=(socket_path(pid), file, is_over)) for _ in range(3)]
            for client in clients:
                client.start()
            while len(seen) < forks and "x" not in seen and time.monotonic() < end:
                seen += os.read(process.stdout.fileno(), 4096).decode()
            is_over.set()
            for client in clients:
                client.join()
        if preload:
            check("x" in seen, f"control: closed in the middle of a fork(), a descriptor stays in the child: of {len(seen)}")
        else:
            check(len(seen) > 50 and "x" not in seen, f"{len(seen)} children have none of the agent's descriptors",
                  f"one of {len(seen)} has")


print("TAP version 13")
with tempfile.TemporaryDirectory() as place:
    for attaches, *args in (attached,), (temporary, place), (asked_by_attaching, place):
        if HAS_ATTACH:
            attaches(*args)
        else:
            tap.skip(attaches.__name__, NO_ATTACH)
    sessions(place)
    dead_parent(place)
    asked(place)
    control(place)
    if ALL:
        copied(place)
sys.exit(tap.end())
