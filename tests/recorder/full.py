#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
A recording that is longer than a file may be: what `shunt trace` and the commands that read it say.

    full.py SHUNT FOLDER

*Control:* one that fits, also over an earlier one. TAP.
"""
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

SHUNT, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
FILE = FOLDER / "f.trace"
LIMIT = 200000
CALLS = 20000

PROGRAM = r"""
#include <unistd.h>
__attribute__((noinline)) int leaf(int x) { __asm__ volatile("" : "+r"(x)); return x + 1; }
__attribute__((noinline)) int waits(int calls) { for (int i = 0; i < calls; i++) (void)leaf(i); return usleep(300000); }
int main(void) { return waits(20000) || leaf(1) != 2; }
"""


def limit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def record(program, *options, limited=limit):
    FILE.unlink(missing_ok=True)
    done = subprocess.run([SHUNT, "trace", "--keep-all", "-o", FILE, *options, "--", program], timeout=60,
                          capture_output=True, text=True, check=False, preexec_fn=limited)
    report = subprocess.run([SHUNT, "report", "--json", FILE], capture_output=True, text=True, timeout=60, check=False)
    said = json.loads(report.stdout or "{}")
    return done, report, said, {row["function"]: row for row in said.get("functions", [])}


def earlier_stays(program):
    """A save that does not fit is in nobody's place, and what there is of it is told."""
    record(program, "--flight", limited=None)
    old = FILE.read_bytes()
    done = subprocess.run([SHUNT, "trace", "--keep-all", "-o", FILE, "--flight", "--", program], timeout=60,
                          capture_output=True, text=True, check=False, preexec_fn=limit)
    cut = list(FOLDER.glob("f.trace.*"))
    ok(done.returncode == 1 and FILE.read_bytes() == old and len(cut) == 1 and str(cut[0]) in done.stderr and
       "could not be saved: File too large" in done.stderr, "--flight: the earlier file is as it was", done, cut)
    report = subprocess.run([SHUNT, "report", *cut], capture_output=True, text=True, timeout=60, check=False)
    ok("writing it failed: File too large; " in report.stderr, "and what there is can be read", report)
    for file in cut:
        file.unlink()
    record(program, "--flight", limited=None)
    ok(FILE.read_bytes() != old and not list(FOLDER.glob("f.trace.*")), "control: one that fits takes its place")


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    (FOLDER / "full.c").write_text(PROGRAM)
    program = FOLDER / "full"
    subprocess.run(["gcc", "-O2", "-fpatchable-function-entry=5", "-o", program, FOLDER / "full.c"], check=True)
    for options, events in ([], 2 * (CALLS + 3)), (["--entries"], CALLS + 3), (["--flight"], 2 * (CALLS + 3) - 1):
        name = " ".join(["longer than it may be", *options])
        done, report, said, of = record(program, *options)
        ok(LIMIT - 1024 < FILE.stat().st_size <= LIMIT and LIMIT / 16 - 64 < said["events"] < LIMIT / 16, f"{name}: it is full",
           FILE.stat(), said["events"])
        ok(abs(said["events"] + said["lost"] - events) <= 1 and not said["complete"] and said["failure"] == "File too large",
           f"{name}: the others are counted, and why is told", said["events"], said["lost"], events, said["failure"])
        ok("writing it failed: File too large; " in report.stderr and "killed" not in report.stderr, f"{name}: so says report",
           report.stderr)
        ok(done.returncode == 1 and "File too large" in done.stderr, f"{name}: and trace", done)
        ok("--flight" in options or "--entries" in options or
           (of["waits"]["open"] == 1 and of["waits"]["total_ns"] < 300e6 and of["leaf"]["calls"] > LIMIT / 32 - 64),
           f"{name}: a call that was open then ran no longer than is known", of)
    done, report, said, _ = record(program, limited=None)
    ok(not done.returncode and not report.stderr and said["complete"] and said["failure"] is None and not said["lost"],
       "control: one that fits", done, report.stderr, said["lost"])
    earlier_stays(program)
    return finish()


sys.exit(main())
