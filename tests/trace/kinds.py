#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
kinds.c with each compiler, kind and way of linking. Usage: kinds.py LIBSHUNT INCLUDE [all]

Without "all": of each compiler the first flags of a kind, optimised, in one of the two ways of linking in turn; those with
room in front of a function and a landing pad; and the first of all as a PIE, optimised, and at a fixed address, not optimised.
"""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LIB, INCLUDE = (os.path.abspath(x) for x in sys.argv[1:3])
ALL = sys.argv[3:] == ["all"]
KINDS = [("gcc", f.split()) for f in (
    "-fpatchable-function-entry=5", "-fpatchable-function-entry=8,3",
    "-fpatchable-function-entry=5 -fcf-protection", "-fpatchable-function-entry=8,3 -fcf-protection",
    "-pg -mfentry", "-pg -mfentry -fcf-protection", "-finstrument-functions",
    "-finstrument-functions -fno-plt")] + [("clang", f.split()) for f in (
        "-fpatchable-function-entry=5", "-fpatchable-function-entry=8,3 -fcf-protection",
        "-fpatchable-function-entry=6", "-fpatchable-function-entry=8",
        "-fpatchable-function-entry=20", "-pg -mfentry",
        "-fxray-instrument -fxray-instruction-threshold=1", "-finstrument-functions",
        "-finstrument-functions -fno-plt")]
LINKS = [["-fPIE", "-pie"], ["-fno-pie", "-no-pie"]]
NO_PIE = ["-pg -mfentry -mrecord-mcount", "-pg -mfentry -mrecord-mcount -mnop-mcount"]


def all_cases():
    """(compiler, flags, way of linking, level) of each."""
    cases = [(cc, flags, link) for cc, flags in KINDS for link in LINKS]
    cases += [("gcc", flags.split(), LINKS[1]) for flags in NO_PIE]
    return [(*case, level) for case in cases for level in ("-O0", "-O2")]


def some_cases():
    cases, seen = [], set()
    for cc, flags in KINDS:
        kind = (cc, flags[0].partition("=")[0])
        if not seen:
            cases += [(cc, flags, link, level) for link, level in zip(LINKS, ("-O2", "-O0"))]
        elif kind not in seen or (cc == "gcc" and flags == ["-fpatchable-function-entry=8,3", "-fcf-protection"]):
            cases.append((cc, flags, LINKS[len(cases) % 2], "-O2"))
        seen.add(kind)
    return cases + [("gcc", NO_PIE[-1].split(), LINKS[1], "-O2")]


def main():
    count = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "kinds")
        for cc, flags, link, opt in all_cases() if ALL else some_cases():
            if not shutil.which(cc):
                continue
            count += 1
            name = " ".join([cc, opt] + link + flags)
            built = subprocess.run(
                [cc, "-w", opt, *flags, *link, "-D_GNU_SOURCE", "-I" + INCLUDE,
                 os.path.join(HERE, "kinds.c"), "-o", path, LIB,
                 "-Wl,-rpath," + os.path.dirname(LIB)],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            out = built
            if not built.returncode:
                out = subprocess.run([path], cwd=folder, stdout=subprocess.PIPE, timeout=60,
                                     stderr=subprocess.STDOUT, text=True)
            failed += out.returncode != 0
            print("not ok" if out.returncode else "ok", count, "-", name)
            if out.returncode:
                for line in out.stdout.splitlines():
                    if not line.startswith("ok"):
                        print("#", line)
                print("# status", out.returncode)
    print("1..%d" % count)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
