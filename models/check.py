#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks the models of the poke with Spin: every reachable state, no approximation.

    check.py                 all configurations, as TAP; exit status 1 if one is wrong
    check.py --explain TEXT  the counterexample of each control whose name has TEXT

A configuration is a model with some preprocessor switches (README.md). It is to be
verified, or it is a control, something taken out of the protocol, for which Spin must
find the very failure that is named here. All is skipped where Spin is missing.
"""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
DEPTH = 8_000_000
MEGABYTES = 4096

# Name; switches; for a control what is to be found: an assertion's word, or a "cycle"
# without progress. Each is checked for 2 and 3 CPUs, those with PROGRESS for 2: a CPU
# that goes round for ever must not hide behind another one that gets on.
POKE = [
    ("full protocol", "", None),
    ("no int3 is fetched outside of an update", "QUIET", None),
    ("thread with a shadow stack retries instead", "SHADOW_STACK", None),
    ("failing writes and syncs, the way back too", "FAILURES", None),
    ("question: no last sync", "NO_SYNC3", None),
    ("question: no last sync, only first bytes change", "NO_SYNC3 FIRST_ONLY", None),
    ("question: no last sync, only tails change", "NO_SYNC3 TAIL_ONLY", None),
    ("question: no last sync, int3 outside of an update", "NO_SYNC3 QUIET", "updating"),
    ("question: commit before the first sync, old and new both right", "EARLY_COMMIT WEAK", None),
    ("control: no int3 phase", "NO_INT3", "torn"),
    ("control: no first sync", "NO_SYNC1", "torn"),
    ("control: no first sync, only first bytes change", "NO_SYNC1 FIRST_ONLY", "stale"),
    ("control: no middle sync", "NO_SYNC2", "torn"),
    ("control: no middle sync, only tails change", "NO_SYNC2 TAIL_ONLY", "torn"),
    ("control: no retry of late traps", "NO_RETRY", "foreign"),
    ("control: no second look at ended", "NO_RECHECK", "foreign"),
    ("control: ended bumped after the marks", "LATE_BUMP", "foreign"),
    ("control: marks cleared before the int3 is gone", "EARLY_CLEAR", "foreign"),
    ("control: marks set after the int3", "LATE_MARK", "foreign"),
    ("control: commit before the first sync", "EARLY_COMMIT", "stale"),
    ("control: failures, all marks cleared", "FAILURES CLEAR_ALWAYS", "foreign"),
    ("control: failures, sites left behind forgotten", "FAILURES FORGET_MENDING", "torn"),
]
IRET = "PROGRESS SERIALISING_IRET"
PROGRESS = [
    ("every call ends", "PROGRESS", None),
    ("every call ends, with a shadow stack", "PROGRESS SHADOW_STACK", None),
    ("every call ends, failures", IRET + " FAILURES", None),
    ("every call ends, no last sync", IRET + " NO_SYNC3", None),
    ("control: no last sync, and iret does not serialise", "PROGRESS NO_SYNC3", "cycle"),
    ("control: int3 left behind, shadow stack", IRET + " FAILURES SHADOW_STACK", "cycle"),
]
REMAP = [
    ("atomic poke", "ATOMIC", None),
    ("control: atomic, no sync", "ATOMIC NO_SYNC", "stale"),
    ("control: atomic, site in two words", "ATOMIC STRADDLES", "torn"),
    ("control: atomic, never old after new", "ATOMIC ORDER", "stale"),
    ("remap, never old after new", "REMAP ORDER", None),
    ("remap, site in two pages, never old after new", "REMAP STRADDLES ORDER", None),
    ("question: remap, no sync but the shootdown", "REMAP STRADDLES ORDER NO_SYNC", None),
    ("remap, shootdown without interrupts", "REMAP BROADCAST", None),
    ("control: remap, shootdown without interrupts, no sync", "REMAP BROADCAST NO_SYNC", "stale"),
    ("control: remap, shootdown without interrupts, in two pages", "REMAP BROADCAST STRADDLES",
     "torn"),
    ("control: remap, shootdown without interrupts, never old after new",
     "REMAP BROADCAST ORDER", "stale"),
]

FLIP = [
    ("flip", "", None),
    ("flip, a sync that fails and the way back", "FAILURES", None),
    ("control: flip, no sync", "NO_SYNC", "stale"),
    ("control: flip, the tail changes too", "TWO_BYTES", "torn"),
    ("control: flip, behind a tail that no sync has followed", "NO_TAIL_SYNC", "stale"),
    ("control: flip, no sync on the way back", "FAILURES NO_SYNC_BACK", "stale"),
    ("question: another target behind the off form, no int3", "TAIL_WHILE_OFF", None),
    ("question: the same, syncs that fail", "TAIL_WHILE_OFF FAILURES", None),
    ("control: another target behind the off form, no sync behind the tail",
     "TAIL_WHILE_OFF NO_TAIL_SYNC", "torn"),
]

AARCH64 = [
    ("aarch64: store, clean, invalidate, sync", "", None),
    ("aarch64, a sync that fails and the way back", "FAILURES", None),
    ("aarch64, a new veneer", "FAR", None),
    ("aarch64, a new veneer, syncs that fail", "FAR FAILURES", None),
    ("aarch64, caches that are coherent: neither clean nor invalidate", "IDC DIC NO_CLEAN NO_INVALIDATE", None),
    ("control: aarch64, no DC CVAU", "NO_CLEAN", "stale"),
    ("control: aarch64, no IC IVAU", "NO_INVALIDATE", "stale"),
    ("control: aarch64, no sync", "NO_SYNC", "stale"),
    ("control: aarch64, IC IVAU before DC CVAU", "INVALIDATE_FIRST", "stale"),
    ("control: aarch64, the sync before both", "SYNC_FIRST", "stale"),
    ("control: aarch64, coherent caches, no sync", "IDC DIC NO_CLEAN NO_INVALIDATE NO_SYNC", "stale"),
    ("control: aarch64, no IC IVAU on the way back", "FAILURES NO_INVALIDATE_BACK", "stale"),
    ("control: aarch64, no sync on the way back", "FAILURES NO_SYNC_BACK", "stale"),
    ("control: aarch64, no IC IVAU of a new veneer", "FAR NO_VENEER_INVALIDATE", "unwritten"),
    ("control: aarch64, no sync between a new veneer and the branch", "FAR NO_VENEER_SYNC", "unwritten"),
    ("control: aarch64, an instruction that may not be exchanged", "NOT_LISTED", "unpredictable"),
    ("control: aarch64, never old after new", "ORDER", "stale"),
]


def configurations():
    """Yields (name, model, switches, what is to be found)."""
    for model, rows, cpus in (("poke", POKE, (2, 3)), ("poke", PROGRESS, (2,)),
                              ("remap", REMAP, (2, 3)), ("flip", FLIP, (2, 3)),
                              ("aarch64", AARCH64, (2, 3))):
        for name, switches, wanted in rows:
            for n in cpus:
                yield f"{name}, {n} CPUs", model, switches.split() + [f"NR={n - 1}"], wanted


def build(model, switches, wanted, directory):
    """Makes pan, the checker of one configuration; returns the command to run it."""
    subprocess.run(["spin", "-a"] + ["-D" + s for s in switches] + [str(HERE / (model + ".pml"))],
                   cwd=directory, check=True, capture_output=True, text=True)
    command = ["./pan", f"-m{DEPTH}"]
    if "PROGRESS" in switches:
        options = ["-DNP", "-DCOLLAPSE"]
        command += ["-l", "-f"]  # cycles without progress, weak fairness
    elif wanted:
        options = ["-DSAFETY", "-DBFS"]  # breadth first: the shortest counterexample
    else:
        options = ["-DSAFETY", "-DCOLLAPSE"]
    optimise = "-O0" if wanted or model in ("remap", "flip", "aarch64") else "-O2"  # most are done in no time
    subprocess.run(["cc", optimise, "-w", f"-DMEMLIM={MEGABYTES}", *options, "-o", "pan", "pan.c"],
                   cwd=directory, check=True, capture_output=True, text=True)
    return command


def judge(output, wanted):
    """Returns whether pan said what was wanted, and that in words."""
    errors = re.search(r"errors: (\d+)", output)
    states = re.search(r"(\d+) states, stored", output)
    if not errors or not states:
        return False, "pan did not come to an end"
    found = re.search(r"pan:1: (?:assertion violated +!?\(?(\w+)\)?|non-progress (cycle)|(.*))"
                      r".*\(at depth (\d+)\)", output)
    if found:
        what = found[1] or found[2] or found[3]
        return what == wanted, f"{what} found in {found[4]} steps"
    if errors[1] != "0" or re.search(r"not completed|too small|out of memory|limit", output):
        return False, "the search is not complete"
    return wanted is None, f"verified, {states[1]} states"


def check(configuration, explain=False):
    _, model, switches, wanted = configuration
    with tempfile.TemporaryDirectory() as directory:
        try:
            command = build(model, switches, wanted, directory)
        except subprocess.CalledProcessError as error:
            return False, "no checker", error.stdout + error.stderr
        output = subprocess.run(command, cwd=directory, capture_output=True, text=True).stdout
        right, words = judge(output, wanted)
        if explain and (pathlib.Path(directory) / (model + ".pml.trail")).exists():
            output = subprocess.run(
                ["spin", "-t", "-T", "-w", "-k", model + ".pml.trail"]
                + ["-D" + s for s in switches] + [str(HERE / (model + ".pml"))],
                cwd=directory, capture_output=True, text=True).stdout
    return right, words, output


def explain(text):
    for configuration in configurations():
        if text in configuration[0] and configuration[3]:
            _, words, trail = check(configuration, True)
            print(f"{configuration[0]}: {words}\n{trail}")


def main():
    if not shutil.which("spin"):
        print("1..0 # SKIP spin is not installed")
        return 0
    if sys.argv[1:2] == ["--explain"] and len(sys.argv) == 3:
        return explain(sys.argv[2])

    rows = list(configurations())
    # The big ones first, so that no CPU waits for them at the end.
    order = sorted(rows, key=lambda row: (bool(row[3]), "FAILURES" not in row[2]))
    failed = False
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = {row[0]: pool.submit(check, row) for row in order}
        print(f"1..{len(rows)}", flush=True)
        for number, row in enumerate(rows, 1):
            right, words, output = results[row[0]].result()
            print(f"{'ok' if right else 'not ok'} {number} - {row[0]}: {words}", flush=True)
            if not right:
                failed = True
                print(f"# wanted: {row[3] or 'verified'}", *output.splitlines(), sep="\n# ")
    return failed


sys.exit(main())
