#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tests/machine: what is made of an emulated machine's console; and that a test that ends or hangs the machine is
named, with the others run behind it.

usage: machine.py TOP     the source folder

The machine is a script here that prints what init.c would. Control: with the same tests behind a machine that stays
up, each of them passes.
"""
import pathlib
import subprocess
import sys
import tempfile

TOP = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(TOP / "tests" / "machine"))
sys.dont_write_bytecode = True
import console  # pylint: disable=wrong-import-position
import results  # pylint: disable=wrong-import-position

# A test is what the machine prints of it; None: the machine ends there, "hang": it stays, and says nothing.
GOOD = "|1..2\n|ok 1 - a\n|ok 2 - b\n#end {n} exit 0 5\n"
EMULATOR = """
import sys, time
first, tests = int(sys.argv[1]), eval(sys.argv[2])
print("[    0.1] Linux", flush=True)
if "no-init" in tests:
    time.sleep(60)
for n, text in list(enumerate(tests))[first:]:
    print("#begin", n)
    print("[    1.0] a line of the kernel's")
    if text is None:
        print("Kernel panic - not syncing: of test", n, flush=True)
        sys.exit(0)
    sys.stdout.flush()
    if text == "hang":
        time.sleep(60)
    print(text.format(n=n), end="", flush=True)
print("#done", flush=True)
"""
count = failed = 0


def ok(good, name, text=""):
    global count, failed  # pylint: disable=global-statement
    count += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {count} - {name}")
    if not good:
        print("".join(f"# {line}\n" for line in str(text).splitlines()), end="")


def run(texts, **more):
    """The judgements, and what was wrong with the machine."""
    tests = [{"name": f"t{n}", "title": f"shunt:x / t{n}", "protocol": "tap", "should_fail": False, **more} for n in range(len(texts))]
    found, wrong = console.run_tests(lambda first: [sys.executable, "-c", EMULATOR, str(first), repr(texts)],
                                     [1] * len(texts), lambda number, result: None)
    return [(tests[n], found[n], results.judge(tests[n], found[n])) for n in sorted(found)], wrong


def judged(text, **more):
    told, _ = run([text], **more)
    return told[0][2]


def counted(told):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        results.write(folder, told)
        (folder / "testlog.junit.xml").rename(folder / "arm64.xml")
        (folder / "testlog.json").rename(folder / "arm64.json")
        done = subprocess.run([TOP / "script" / "count-tests", folder], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout


def try_machine():
    told, wrong = run([GOOD, GOOD, GOOD])
    status, text = counted(told)
    ok(not wrong and status == 0 and text == "6 passed, 0 failed\n", "control: a machine that stays up: all rows pass", text)
    told, wrong = run([GOOD, None, GOOD])
    status, text = counted(told)
    ok(not wrong and status == 1 and text.endswith("FAILED arm64: shunt:x / t1: result ERROR\n4 passed, 1 failed\n"),
       "a test that ends the machine is named, the others run", text)
    ok("Kernel panic" in text, "with what the machine said last", text)
    console.GRACE = 5
    told, wrong = run([GOOD, "hang", GOOD])
    console.GRACE = 60
    status, text = counted(told)
    ok(not wrong and "t1: result ERROR" in text and text.endswith("4 passed, 1 failed\n"),
       "a test that hangs the machine is named, the others run", text)
    console.BOOT_SECONDS = 2
    told, wrong = run(["no-init", GOOD])
    console.BOOT_SECONDS = 60
    ok(not told and wrong and wrong.startswith("the machine hung before test 0"), "a boot that hangs ends", wrong)
    told, wrong = run([])
    ok(counted(told)[0] == 1, "no test is no success")


def try_judge():
    rows = "|1..2\n|ok 1 - a\n|{row} 2 - b\n#end {{n}} {end} 5\n"
    for name, text, result in (
            ("a row that is not ok", rows.format(row="not ok", end="exit 1"), "FAIL"),
            ("rows that are ok, and exit status 1", rows.format(row="ok", end="exit 1"), "ERROR"),
            ("a row that is missing", "|1..3\n|ok 1 - a\n#end {n} exit 0 5\n", "ERROR"),
            ("no plan", "|ok 1 - a\n#end {n} exit 0 5\n", "ERROR"),
            ("rows on standard error, of a child for one", "|1..2\n!ok 1 - c\n|ok 1 - a\n!not ok 2 - d\n|ok 2 - b\n#end {n} exit 0 5\n", "OK"),
            ("one that gives up", "|1..1\n|ok 1 - a\n|Bail out! no more\n#end {n} exit 0 5\n", "ERROR"),
            ("one that is killed", rows.format(row="ok", end="signal 11"), "FAIL"),
            ("one that takes too long", rows.format(row="ok", end="timeout 9"), "TIMEOUT"),
            ("all skipped", "|1..0 # SKIP no such thing\n#end {n} exit 0 5\n", "SKIP"),
            ("exit status 77", "|no such thing\n#end {n} exit 77 5\n", "SKIP")):
        found = judged(text)
        ok(found.result == result, f"{name}: {result}", found.result)
        if result == "SKIP":
            ok(found.why == "no such thing", f"{name}: why", found.why)
    ok(judged(rows.format(row="not ok", end="exit 1"), should_fail=True).result == "EXPECTEDFAIL", "one that is to fail and does")
    ok(judged(rows.format(row="ok", end="exit 0"), should_fail=True).result == "UNEXPECTEDPASS", "one that is to fail and does not")
    ok(judged("#end {n} exit 0 5\n", protocol="exitcode").result == "OK", "without rows")


console.BOOT_SECONDS = console.GRACE = 60
console.PATIENCE = 1
if __name__ == "__main__":
    try_machine()
    try_judge()
    print(f"1..{count}")
    sys.exit(failed != 0)
