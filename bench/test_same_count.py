#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A loop with a static call executes the very number of instructions of a loop with a
direct call, counted by callgrind (count_main.c). --smc-check=all: the site is changed
through /proc/self/mem, where valgrind does not see it.

Usage: test_same_count.py PROGRAM. Exit status 77: no valgrind.
"""
import re
import shutil
import subprocess
import sys
import tempfile


def count(program, function, out):
    """Instructions in calls of @function, its callees included."""
    command = ["valgrind", "--tool=callgrind", "--smc-check=all", f"--toggle-collect={function}",
               f"--callgrind-out-file={out}/{function}", program]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(run.stderr)
    return int(re.search(r"Collected\s*:\s*(\d+)", run.stderr).group(1))


def main():
    if not shutil.which("valgrind"):
        print("no valgrind")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as out:
        direct = count(sys.argv[1], "loop_direct", out)
        static = count(sys.argv[1], "loop_static", out)
    print(f"instructions: direct {direct}, static call {static}")
    sys.exit(direct != static or direct < 100000)


main()
