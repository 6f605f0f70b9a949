#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
A breakpoint of gdb's on the entry of a function that can be traced: set before tracing begins, the
function is refused with the reason, and the others are traced; set while it is traced, it stays so, and
what would change its entry says that it cannot. The breakpoint is hit each time, and no result is wrong.

    test_gdb_entry.py PROGRAM (entry.c)

*Control:* without a breakpoint nothing is refused, and all is traced. TAP.
"""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

ON_ENTRY = 'break *broken\ncommands\nsilent\nprintf "hit\\n"\ncontinue\nend\n'
BEFORE = f"set pagination off\nbreak main\nrun\n{ON_ENTRY}continue\n"
MEANWHILE = f"set pagination off\nbreak step\nrun\ncontinue\n{ON_ENTRY}continue\ncontinue\n"


def run(commands):
    with tempfile.NamedTemporaryFile("w", suffix=".gdb", encoding="utf-8") as file:
        file.write(commands or "")
        file.flush()
        words = ["gdb", "-q", "-nx", "-batch", "-x", file.name] if commands else []
        done = subprocess.run([*words, sys.argv[1]], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=100, check=False)
    return done.stdout, done.stdout + done.stderr


def states(text):
    return [line.split("broken() is ")[1] for line in text.splitlines() if "broken() is " in line]


def calls(text):
    return [int(line.split("calls ")[1].split(",")[0]) for line in text.splitlines() if "calls " in line]


def main():
    if not shutil.which("gdb"):
        print("1..0 # SKIP no gdb")
        return 0
    text, both = run(None)
    ok(states(text) == ["traced", "traced", "off", "traced"] and calls(text) == [2, 2, 0, 2] and
       text.count("register 0") == 4, "control: no breakpoint: all is traced", both)
    text, both = run(BEFORE)
    ok(states(text) == ["refused"] * 4 and calls(text) == [1, 1, 0, 1] and text.count("register 0") == 4,
       "before: it is refused, the other one is traced", both)
    ok(text.count("results 23") == 4 and text.count("hit") == 4, "hit at each call, and the results are right", both)
    text, both = run(MEANWHILE)
    ok(states(text) == ["traced"] * 4 and calls(text) == [2] * 4 and text.count("unregister -16") == 2 and
       "foreign bytes stand at the site" in both, "meanwhile: it stays traced, and the unregister says why", both)
    ok(text.count("results 23") == 4 and text.count("hit") == 3, "hit at each call, and the results are right", both)
    return finish()


sys.exit(main())
