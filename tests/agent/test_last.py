#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A process whose threads all end by pthread_exit() ends as without an agent, and no sooner. TAP.

usage: test_last.py TOOL LAST_THREADS LIBRARIES NEVER_ALONE ALWAYS_LOOKS FIRST_LEAVES

LIBRARIES: the folder src of the build. Controls: NEVER_ALONE, an agent that does not look who is left; ALWAYS_LOOKS, one that does so each
second whatever tells it; FIRST_LEAVES, one on whose own stack the last exit() is run.
"""
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from agent_client import HAS_ATTACH, LIMIT, NO_ATTACH, run, socket_path, tap, wait_until

TOOL, TARGET, LIBRARIES, NEVER_ALONE, ALWAYS_LOOKS, FIRST_LEAVES = map(os.path.abspath, sys.argv[1:7])
AGENT = LIBRARIES + "/agent/libshunt-agent.so.0"
check = tap.check
TELLS = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) >= (6, 9)  # PIDFD_THREAD


@contextlib.contextmanager
def process(*words, agent=None):
    env = {**os.environ, "SHUNT_AGENT": "1", "LD_PRELOAD": agent} if agent else os.environ
    p = subprocess.Popen([TARGET, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    try:
        yield p, int(p.stdout.readline())
    finally:
        p.kill()
        p.wait()


def step(p):
    """The first thread ends, or then the second."""
    p.stdin.write("x")
    p.stdin.flush()


def ends(p):
    """Its status and what it has said, or None."""
    try:
        return p.wait(LIMIT), p.stdout.read()
    except subprocess.TimeoutExpired:
        return None, ""


def first_has_ended(pid):
    return wait_until(lambda: "State:\tZ" in pathlib.Path(f"/proc/{pid}/status").read_text())


def agent_thread(pid):
    return next((t for t in os.listdir(f"/proc/{pid}/task")
                 if pathlib.Path(f"/proc/{pid}/task/{t}/comm").read_text() == "shunt-agent\n"), None)


def one(how, *words, agent=None, wanted="exit\n"):
    with process(*words, agent=agent) as (p, pid):
        if not agent:
            out = run(TOOL, "attach", pid)
            assert out.returncode == 0, out
        path = socket_path(pid)
        step(p)
        out = ends(p)
        check(out == (0, wanted) and path and ("close" in words or not os.path.exists(path)),
              f"{how}: {' '.join(words) or 'one thread'}: its exit() is run", (out, path))


def wakes(status):
    return int(status.read_text().rsplit("\nvoluntary_ctxt_switches:\t")[1].split()[0])


def others_go_on(how, *words, agent=None):
    with process(*words, agent=agent) as (p, pid):
        if not agent:
            run(TOOL, "attach", pid)
        step(p)
        first_has_ended(pid)
        wait_until(lambda: agent_thread(pid))
        # Longer than three looks would take.
        time.sleep(0.4)
        out = run(TOOL, "stats", pid)
        check(p.poll() is None and out.returncode == 0,
              f"{how}: {' '.join(words)}: a process without its first thread goes on, and is answered for", out)
        step(p)
        wanted = "second\nexit\nchild\nexit\n" if "fork" in words else "second\nexit\n"
        out = ends(p)
        check(out == (0, wanted), f"{how}: {' '.join(words)}: and ends with the last thread", out)


def waits_for_end(pid):
    """Whether the command does: poll() of keys, signals and the agent."""
    words = pathlib.Path(f"/proc/{pid}/syscall").read_text().split()
    return len(words) > 2 and words[2] == "0x3"


def sessions(folder):
    for words, options in ((), ()), (("thread",), ()), (("fork",), ()), ((), ("--flight",)):
        file = f"{folder}/{len(os.listdir(folder))}.trace"
        with process(*words) as (p, pid):
            with subprocess.Popen([TOOL, "trace", "-p", str(pid), *options, "-o", file], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True) as trace:
                wait_until(lambda: waits_for_end(trace.pid))
                step(p)
                if words:
                    first_has_ended(pid)
                    step(p)
                out = ends(p)
                said = trace.communicate(timeout=LIMIT)[0]
            report = run(TOOL, "report", file)
            check(out[0] == 0 and out[1].endswith("exit\n") and trace.returncode == 0 and "has ended" in said and
                  report.returncode == 0,
                  f"trace -p: {' '.join((*words, *options)) or 'one thread'}: the session ends as at an exit",
                  (out, trace.returncode, said, report))


@contextlib.contextmanager
def traced(file, *words):
    """A process in a session; what is called with the command says how that ends."""
    with process(*words) as (p, pid):
        with subprocess.Popen([TOOL, "trace", "-p", str(pid), "-o", file], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True) as trace:
            wait_until(lambda: waits_for_end(trace.pid))
            yield p, lambda: (trace.communicate(timeout=LIMIT)[0], trace.returncode)


def unasked(folder):
    """A session ends while the process lives."""
    file = folder + "/closed"
    with traced(file, "thread", "close") as (p, end):
        step(p)
        said, status = end()
        check(status == 1 and "has closed the agent's connection, and is recorded until then" in said and
              p.poll() is None and run(TOOL, "report", file).returncode == 0,
              "trace -p: a process that closes all is recorded until that is seen, and told so", (said, status))
    file = folder + "/moved"
    with traced(file, "thread", "close") as (p, end):
        os.rename(file, file + ".elsewhere")
        step(p)
        said, status = end()
        check(status == 1 and "and the recorder's file: what it called from then on is not in" in said,
              "control: a file that is not where it was: that the rest is missing", (said, status))
    with traced(folder + "/exec", "exec") as (p, end):
        step(p)
        said, status = end()
        check("has executed another program" in said and p.poll() is None, "trace -p: exec() is told", (said, status))
    with traced(folder + "/detached") as (p, end):
        run(TOOL, "detach", p.pid)
        said, status = end()
        check(status == 0 and "has ended" in said and p.poll() is None,
              "control: an agent that is ended is no such thing", (said, status))


def is_woken(pid):
    """Whether the agent is, in 2.5 seconds: what comes behind its last client may be under way in the first ones."""
    switches = pathlib.Path(f"/proc/{pid}/task/{agent_thread(pid)}/status")
    for _ in range(4):
        before = wakes(switches)
        time.sleep(2.5)
        if wakes(switches) == before:
            return False
    return True


def idle():
    """In a process of one thread, of two, and of two the first of which has ended."""
    with process(agent=AGENT) as (_, pid):
        wait_until(lambda: agent_thread(pid))
        check(not is_woken(pid), "an idle agent is not woken: the first thread tells of its end")
    if not TELLS:
        tap.skip("an idle agent is not woken where another thread is watched", "Linux before 6.9")
        return
    with process("thread", agent=AGENT) as (p, pid):
        step(p)
        first_has_ended(pid)
        check(not is_woken(pid), "an idle agent is not woken: another thread's end is told")
    with process("thread", agent=ALWAYS_LOOKS) as (p, pid):
        step(p)
        first_has_ended(pid)
        check(is_woken(pid), "control: one that looks is seen to be woken")


def control():
    with process(agent=NEVER_ALONE) as (p, pid):
        step(p)
        first_has_ended(pid)
        time.sleep(3)
        check(p.poll() is None, "control: an agent that does not look keeps the process")


def stack():
    with process(agent=FIRST_LEAVES) as (p, _):
        step(p)
        status, _ = ends(p)
        check(status == -signal.SIGSEGV, "control: exit() on the agent's own stack overflows that", status)


print("TAP version 13")
HOW = [("preloaded", AGENT)] + ([("attached", None)] if HAS_ATTACH else [])
for how, agent in HOW:
    for words in (), ("close",), ("full",), ("masked",):
        one(how, *words, agent=agent)
    for words in ("thread",), ("fork",), ("thread", "close"):
        others_go_on(how, *words, agent=agent)
if HAS_ATTACH:
    with tempfile.TemporaryDirectory() as place:
        sessions(place)
        unasked(place)
else:
    tap.skip("trace -p", NO_ATTACH)
idle()
control()
stack()
sys.exit(tap.end())
