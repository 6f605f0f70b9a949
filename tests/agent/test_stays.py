#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whose agent it is: somebody's `shunt trace -p` has put it there, and somebody else wants it to stay. TAP.

usage: test_stays.py TOOL ENDS_TARGET LIBRARIES NEVER_STAYS

LIBRARIES: the folder src of the build. Control: NEVER_STAYS, an agent that says that it stays, and ends.
"""
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from agent_client import LIMIT, run, tap, wait_until
from attaching import beside, use_tool

TOOL, TARGET, LIBRARIES, NEVER_STAYS = map(os.path.abspath, sys.argv[1:5])
check = tap.check
use_tool(TOOL)
STAYS = "attached already by a shunt trace -p; the agent stays behind its end"


class Process:
    def __init__(self, **options):
        self.process = subprocess.Popen([TARGET], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
        self.pid = int(self.process.stdout.readline())

    def do(self, what):
        self.process.stdin.write(what)
        self.process.stdin.flush()
        return self.process.stdout.read(len(what)) == what

    def agents(self):
        found = []
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(OSError):
                if pathlib.Path(f"/proc/{self.pid}/task/{task}/comm").read_text() == "shunt-agent\n":
                    found.append(task)
        return found


@contextlib.contextmanager
def begun(**options):
    p = Process(**options)
    try:
        yield p
    finally:
        p.process.kill()
        p.process.wait()


def waits_for_end(trace):
    """poll() of keys, signals and the agent."""
    words = pathlib.Path(f"/proc/{trace.pid}/syscall").read_text().split()
    return len(words) > 2 and words[2] == "0x3"


def trace(p, *options, tool=TOOL):
    started = subprocess.Popen([tool, "trace", "-p", str(p.pid), *options], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: started.poll() is not None or waits_for_end(started))
    return started


def end(started, sig=signal.SIGINT):
    started.send_signal(sig)
    return started.communicate(timeout=LIMIT)[0], started.returncode


def is_there(p):
    """Longer than an agent lives that is about to end."""
    time.sleep(1.2)
    return len(p.agents()) == 1 and run(TOOL, "stats", p.pid).returncode == 0


def attached_meanwhile(file):
    with begun() as p:
        started = trace(p, "-o", file)
        out = run(TOOL, "attach", p.pid)
        second = run(TOOL, "attach", p.pid)
        said = end(started)
        check(out.returncode == 0 and STAYS in out.stdout and second.stdout == f"{p.pid}: attached already\n" and
              said[1] == 0 and is_there(p), "attach during a trace -p: the agent stays, and it is said", (out, second, said))
        out = run(TOOL, "trace", "-p", p.pid, "--for", "50ms", "-o", file)
        check(out.returncode == 0 and is_there(p), "and behind the next trace -p, too", out)
    with begun() as p:
        started = trace(p, "-o", file)
        out = run(TOOL, "attach", p.pid)
        end(started, signal.SIGKILL)
        check(STAYS in out.stdout and is_there(p), "and where that is killed", out)
    with begun(env={**os.environ, "LD_PRELOAD": f"{LIBRARIES}/agent/libshunt-agent.so.0"}) as p:
        started = trace(p, "-o", file)
        did = p.do("s")
        said = end(started)
        check(did and is_there(p), "the program starts it by itself meanwhile: it stays", said)


def about_to_end(file):
    wrong = []
    with begun() as p:
        for _ in range(8):
            end(trace(p, "-o", file), signal.SIGKILL)
            out = run(TOOL, "attach", p.pid)
            time.sleep(0.05)
            if out.returncode or len(p.agents()) != 1 or run(TOOL, "detach", p.pid).returncode or p.agents():
                wrong.append((out, p.agents()))
        check(not wrong, "attach behind a trace -p that was killed: 8 times there is one", wrong)
        started = trace(p, "-o", file)
        p.do("cd")
        out = run(TOOL, "attach", p.pid)
        said = started.communicate(timeout=LIMIT)[0]
        check(out.returncode == 0 and "has closed the agent's connection" in said and "2000 events, 0 lost" in said and
              is_there(p), "attach behind one whose connection the program has closed", (out, said))


def others(file):
    with begun() as p:
        started = trace(p, "-o", file)
        second = run(TOOL, "trace", "-p", p.pid, "-o", file + ".second")
        said = end(started)
        check(second.returncode == 1 and "traced already" in second.stderr and said[1] == 0 and not p.agents(),
              "two trace -p: the agent goes with the first", (second, said, p.agents()))
        started = trace(p, "-o", file)
        p.do("c")
        out = run(TOOL, "detach", p.pid)
        said = started.communicate(timeout=LIMIT)[0]
        check(out.returncode == 0 and started.returncode == 0 and "has ended\n2000 events, 0 lost" in said and not p.agents(),
              "detach during a trace -p: that says so, and what it has", (out, said))


def closer(file):
    """It closes all descriptors each 30 ms."""
    with begun() as p:
        p.do("D")
        out = run(TOOL, "trace", "-p", p.pid, "--for", "5s", "-o", file)
        check(out.returncode == 1 and f"process {p.pid}" in out.stderr and "ended" not in out.stderr,
              "trace -p of a process that closes all descriptors again and again: no other cause is said", out)
        check(wait_until(lambda: not p.agents()), "and no agent is left", p.agents())
        wrong = []
        for _ in range(8):
            wait_until(lambda: run(TOOL, "attach", p.pid).returncode == 0)  # its pipe may be closed while it begins
            time.sleep(0.05)
            out = run(TOOL, "detach", p.pid)
            if out.returncode or p.agents():
                wrong.append((out, p.agents()))
        check(not wrong, "detach ends one there, 8 times", wrong)


def control(file):
    tool = beside(LIBRARIES, NEVER_STAYS)
    with begun() as p:
        started = trace(p, "-o", file, tool=tool)
        out = run(tool, "attach", p.pid)
        end(started)
        check(STAYS in out.stdout and not is_there(p), "control: an agent that does not stay is seen to be gone", out)


print("TAP version 13")
with tempfile.TemporaryDirectory() as folder:
    for rows in attached_meanwhile, about_to_end, others, closer, control:
        rows(folder + "/trace")
sys.exit(tap.end())
