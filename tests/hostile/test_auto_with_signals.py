#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Why `auto` does not go by int3, which holds threads up less, in a process that has
libshunt-signals: rows of the table of hostile processes with that library preloaded, which
hold by auto, and as controls by int3, where they fail. TAP.

    test_auto_with_signals.py LIBSHUNT-SIGNALS MASKS STACKS
"""

import os
import signal
import subprocess
import sys

SIGNALS, MASKS, STACKS = map(os.path.realpath, sys.argv[1:])

# What that library cannot see, and what it cannot help; and one row that it makes hold.
ROWS = (
    (MASKS, "blocked-system-call", -signal.SIGTRAP),
    (STACKS, "small-thread", -signal.SIGSEGV),
    (STACKS, "coroutine", -signal.SIGSEGV),
    (MASKS, "blocked-sigprocmask", 0),
)


def run(program, row, way):
    """Exit status of one row, negative where a signal has killed it; and its output."""
    done = subprocess.run([program, row, way], env={**os.environ, "LD_PRELOAD": SIGNALS},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=100, check=False)
    return done.returncode, done.stdout


def main():
    count = failed = 0
    for program, row, by_int3 in ROWS:
        for way, wanted in (("auto", 0), ("int3", by_int3)):
            status, output = run(program, row, way)
            count += 1
            failed += status != wanted
            print(f"{'ok' if status == wanted else 'not ok'} {count} - {row} by {way}: "
                  f"{'holds' if not wanted else signal.Signals(-wanted).name}", flush=True)
            if status != wanted:
                print(f"# {status}: {output}", flush=True)
    print(f"1..{count}")
    return failed > 0


sys.exit(main())
