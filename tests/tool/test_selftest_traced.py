#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
`shunt selftest` traces a function of each kind of entry that it was compiled with. The control, in
which nothing is traced and nobody says so, must be seen to fail for each.

    test_selftest_traced.py SHUNT CONTROL
"""
import subprocess
import sys


def lines(program):
    """The verdicts of each kind: name -> (verdict, details); that it does not work is said last."""
    out = subprocess.run([program, "selftest"], capture_output=True, text=True, timeout=100,
                         check=False).stdout
    words = [line.split(None, 2) for line in out.splitlines()]
    return {word[1]: (word[0], word[2]) for word in reversed(words) if word[1].startswith("trace-")}


def main():
    good, control = (lines(program) for program in sys.argv[1:])
    checks = [(len(good) > 1, f"{len(good)} kinds of entries: {', '.join(good)}")]
    checks += [(verdict == "ok", f"{kind}: {details}") for kind, (verdict, details) in good.items()]
    checks += [(kind in control and control[kind][0] == "MISSING" and "not traced" in control[kind][1],
                f"control: {kind}: {control.get(kind, ('', ''))[1]}") for kind in good]
    for i, (ok, what) in enumerate(checks, 1):
        print(f"{'' if ok else 'not '}ok {i} - {what}")
    print(f"1..{len(checks)}")


main()
