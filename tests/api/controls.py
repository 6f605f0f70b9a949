#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Negative controls: a test must fail when what it stands for is taken out.

    controls.py [--every-test | --only-controls] CONTROL... -- PROGRAM [ARGUMENT...]

A CONTROL is "NAME: PATTERN". PROGRAM is run once as it is, and must pass; and once with
each control, SHUNT_CONTROL=NAME in the environment (NAME may be VARIABLE=VALUE instead),
and must fail: one of the tests that fail then, or the way in which the program ends, has
to match the regular expression PATTERN.

With --only-controls it is not run as it is: the same program is a test of its own.
With --every-test each test of the program must fail in one control at least, but for
those that match "except: PATTERN". Writes TAP.
"""

import os
import re
import resource
import signal
import subprocess
import sys
import threading

SECONDS = 120


def before_exec():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def how_it_ended(status, timed_out):
    if timed_out:
        return "timed out"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


def kill_all(child):
    """With the children that it may have left behind, which hold its output open."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(command, control, seconds, pattern=None):
    """The lines of the tests that pass, of those that fail, and the end of it. With a
    pattern, only until something has failed that matches it."""
    variable, _, value = control.partition("=") if "=" in control else ("SHUNT_CONTROL", "", control)
    environment = dict(os.environ)
    if control:
        environment[variable] = value
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True,
                             stderr=subprocess.DEVNULL, preexec_fn=before_exec,
                             start_new_session=True)
    timed_out = threading.Event()
    timer = threading.Timer(seconds, lambda: (timed_out.set(), kill_all(child)))
    timer.start()
    threading.Thread(target=lambda: (child.wait(), kill_all(child))).start()
    passed, failed = [], []
    for line in child.stdout:
        if line.startswith("ok ") and "# SKIP" not in line:
            passed.append(name_of(line))
        elif line.startswith("not ok "):
            failed.append(name_of(line))
            if pattern and re.search(pattern, failed[-1]):
                kill_all(child)
                break
    status = child.wait()
    timer.cancel()
    return passed, failed, how_it_ended(status, timed_out.is_set())


def name_of(line):
    return line.strip().split(" - ", 1)[1]


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def ok(self, good, name):
        self.count += 1
        self.failed += not good
        print(f"{'' if good else 'not '}ok {self.count} - {name}", flush=True)

    def done(self):
        print(f"1..{self.count}")
        return self.failed != 0


def try_control(tap, command, control, pattern):
    seconds = 10 if "timed out" in pattern else SECONDS
    _, failed, end = run(command, control, seconds, pattern)
    seen = [what for what in failed + [end] if re.search(pattern, what)]
    tap.ok(seen and (failed or end != "exit status 0"),
           f"control {control}: seen to fail: {seen[0] if seen else 'no'}")
    if not seen:
        for what in failed + [end]:
            print(f"# {what}")


def try_every(tap, command, names, controls, exempt):
    """Whole runs, as each test is to be seen."""
    failed = set()
    for control in controls:
        now = run(command, control, SECONDS)[1]
        failed |= set(now)
        tap.ok(now, f"control {control}: seen to fail: {len(now)} of {len(names)} tests")
    left = [name for name in names if name not in failed and not (exempt and re.search(exempt, name))]
    tap.ok(not left, "each test fails in one control at least")
    for name in left:
        print(f"# never fails: {name}")


def main():
    split = sys.argv.index("--")
    controls = [spec.split(": ", 1) for spec in sys.argv[1:split] if not spec.startswith("--")]
    command = sys.argv[split + 1:]
    tap = Tap()
    passed = []
    if "--only-controls" not in sys.argv[1:split]:
        passed, failed, end = run(command, "", SECONDS)
        tap.ok(passed and not failed and end == "exit status 0",
               f"without a control: {len(passed)} tests pass, {len(failed)} fail, {end}")
    if "--every-test" in sys.argv[1:split]:
        exempt = dict(controls).pop("except", None)
        try_every(tap, command, passed, [name for name, _ in controls if name != "except"], exempt)
    else:
        for control, pattern in controls:
            try_control(tap, command, control, pattern)
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
