#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Attached to in handlers of fork(). TAP.

    test_forks.py SHUNT FORK LIBRARIES FORGETS_FORKER
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
from attaching import FOLDER, LIMIT, beside, shunt, use_tool  # noqa: E402
from tap import finish, ok  # noqa: E402


class Forking:
    """A process of one thread that is in one of its handlers of pthread_atfork() nearly all the time."""

    def __init__(self, program, kind):
        self.out = tempfile.TemporaryFile(dir=FOLDER.name)
        self.process = subprocess.Popen([program, kind, "100"], stdin=subprocess.DEVNULL, stdout=self.out)
        self.pid = self.process.pid
        self.is_ready = self.goes_on()

    def rounds(self):
        return os.fstat(self.out.fileno()).st_size

    def goes_on(self, limit=LIMIT):
        before, end = self.rounds(), time.monotonic() + limit
        while self.rounds() == before and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        return self.rounds() > before

    def has(self):
        return [sorted(os.listdir(f"/proc/{self.pid}/{what}")) for what in ("task", "fd")]

    def kill(self):
        self.process.kill()
        self.process.wait()


def in_handler(program, kind, times, tool=None, limit=LIMIT / 2):
    """None, or what is wrong where it is attached to again and again."""
    target, wrong = Forking(program, kind), None
    before = target.has()
    for number in range(times):
        for words in (["attach", "--timeout", limit, target.pid], ["detach", target.pid]):
            status, out = shunt(*words, tool=tool)
            if status:
                wrong = out.strip()
            elif words[0] == "detach" and target.has() != before:
                wrong = f"{before}, {target.has()}"
            elif not target.goes_on(limit):
                wrong = f"behind {words[0]} it does not go on"
            if wrong:
                target.kill()
                return f"{number}: {wrong}"
    target.kill()
    return None


def forks(program, libraries, forgets_forker):
    for kind in ("prepare", "parent", "nested"):
        wrong = in_handler(program, kind, 4)
        ok(not wrong, f"in a handler of pthread_atfork(), {kind}: attached and detached, again and again", wrong)
    wrong = in_handler(program, "nested", 2, beside(libraries, forgets_forker), limit=2)
    ok(wrong, f"control: an agent that waits for the fork() of its own thread: {wrong}")


use_tool(sys.argv[1])
forks(*sys.argv[2:])
sys.exit(finish())
