#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Calls that have not returned when a session ends, as `shunt report` and `shunt trace --top` show them; calls that end
by longjmp() in a session with --min; a process that becomes another program. Functions that are inlined, as
-finstrument-functions tells of them, do not end what they are inlined in.

    unfinished.py SHUNT UNFINISHED.C FOLDER

*Control:* calls that have returned are not marked, nor is anything when the program's standard input ends; without
--min the short calls are there; a process that is killed is not said to have ended. TAP.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

SHUNT, SOURCE, FOLDER = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
PROGRAM, FILE = FOLDER / "unfinished", FOLDER / "u.trace"


def report():
    """None: there is none yet."""
    done = subprocess.run([SHUNT, "report", "--json", FILE], capture_output=True, text=True, timeout=60, check=False)
    said = json.loads(done.stdout or "null")
    return said, {row["function"]: row for row in said["functions"]} if said else {}, done.stderr


def record(what, *options, until=None, program=PROGRAM):
    """Its standard input is open as long as it runs, or until that function's call is in the file."""
    FILE.unlink(missing_ok=True)
    with subprocess.Popen([SHUNT, "trace", "--keep-all", "-o", FILE, *options, "--", program, what],
                          stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        limit = time.monotonic() + 60
        while until and until not in report()[1] and time.monotonic() < limit:
            os.sched_yield()
        if until:
            process.stdin.close()
        process.wait(60)
    return report()


def threads(*options):
    said, of, words = record("threads", *options)
    name = " ".join(("threads", *options))
    ok(said["complete"] and not words and all(of[f]["open"] == 1 for f in ("main", "hung", "leaves")) and
       of["returns"]["open"] == 0, f"{name}: which calls are open", of, words)
    ok(of["hung"]["total_ns"] > of["returns"]["total_ns"] > 0 and of["hung"]["min_ns"] is None,
       f"{name}: what began before and had not returned took longer", of)
    ok(of["leaves"]["total_ns"] < of["main"]["total_ns"] - of["returns"]["total_ns"],
       f"{name}: what its thread has left ended with it", of)
    text = subprocess.run([SHUNT, "report", FILE], capture_output=True, text=True, timeout=60, check=True).stdout
    ok(re.search(r"^ +1 +>[^-]*-[^-]*-[^-]*- +>.* hung ", text, re.MULTILINE) and
       not re.search(r">.* returns ", text), f"{name}: and they are marked", text)


def jumps():
    _, of, _ = record("jump")
    ok(of["jumps"]["calls"] == 100 and of["jumps"]["unwound"] > 0, "control: 100 calls that end by longjmp()", of)
    _, of, _ = record("jump", "--min", "10s", "-F", "jumps returns main")
    ok(not FILE.exists() or "jumps" not in of, "--min: they are left out", of)


def becomes_another():
    said, of, words = record("exec")
    ok(said["complete"] and not words and of["main"]["open"] == 1 and
       of["main"]["total_ns"] > of["returns"]["total_ns"], "exec(): an end", said, words)
    said, _, words = record("killed", until="hung")
    ok(not said["complete"] and "no end is recorded" in words, "control: it is killed", said, words)


def inlined(compiler):
    program = FOLDER / f"inlined_{compiler}"
    subprocess.run([compiler, "-O1", "-pthread", "-finstrument-functions", "-o", program, SOURCE], check=True)
    for options in [], ["--flight"]:
        name = " ".join([compiler, *options])
        _, of, _ = record("serves", *options, program=program)
        ok(of["wants"]["calls"] == 20 and of["serves"]["open"] == 1 and of["serves"]["unwound"] == 0 and
           of["serves"]["total_ns"] > of["wants"]["total_ns"] and of["main"]["open"] == 1, f"{name}: a call with inlined ones is open", of)
        _, of, _ = record("served", *options, program=program)
        ok(of["wants"]["calls"] == 20 and of["serves"]["open"] == of["serves"]["unwound"] == 0 and
           of["serves"]["total_ns"] > of["wants"]["total_ns"], f"control: {name}: it returns", of)
    top(program, "serves long", "serves")


def top(program=PROGRAM, what="hung", function="hung"):
    """
    hung(), or what has called it, is shown while it runs, as one that does once it has for half a second; it goes on
    when that was seen, or when 30 tables have not shown it, or 60 lines are there.
    """
    with subprocess.Popen([SHUNT, "trace", "--keep-all", "--top", "--", program, what], stdin=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        lines, shown = [process.stderr.readline()], 0
        while lines[-1] and not re.search(rf">\S+ \S+ +{function} \[", lines[-1]) and shown < 30 and len(lines) < 60:
            shown += f" {function} [" in lines[-1]
            lines.append(process.stderr.readline())
        ok(re.match(rf" +0 +1 +0\.0 +- +>\S+ \S+ +{function} \[", lines[-1]) or
           re.match(rf" +\d+ +1 .* >\S+ \S+ +{function} \[", lines[-1]),
           f"{program.name}, --top: a call of {function}() that runs, and how long it has", *lines)
        process.stdin.close()
        rest = process.stderr.read()
        last = [line for line in rest.splitlines() if f" {function} [" in line][-1:]
        ok(process.wait(60) == 0 and last and ">" not in last[0], "control: when it has returned it is not marked", rest)
        ok(not re.search(r">.* returns ", rest), "control: nor is one that has returned", rest)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O1", "-pthread", "-fpatchable-function-entry=5", "-o", PROGRAM, SOURCE], check=True)
    threads()
    threads("--flight")
    jumps()
    becomes_another()
    top()
    for compiler in "gcc", "clang":
        if shutil.which(compiler):
            inlined(compiler)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
