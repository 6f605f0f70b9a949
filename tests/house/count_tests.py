#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""script/count-tests: what it counts, and that what failed is named at the end of a log.

usage: count_tests.py COUNT-TESTS

Over logs as Meson writes them, made up. Control: without testlog.json a test that died behind rows that were
ok is not named.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
from xml.sax.saxutils import escape, quoteattr


class Logs:
    """The two logs of a run, test by test, written as Meson 1.0 does."""

    def __init__(self):
        self.suites, self.cases, self.records = [], [], []

    def add(self, name, result, output="", code=0, rows=(), kind=""):
        """rows: (name, "" or "failure", "error", "skipped"); kind: the same of a test without rows."""
        said = f"<system-out>{escape(output)}</system-out>"
        if rows:
            cases = "".join(f"<testcase name={quoteattr(row)}>{f'<{what} />' if what else ''}</testcase>"
                            for row, what in rows)
            self.suites.append(f"<testsuite name={quoteattr('shunt.' + name)}>{cases}{said}</testsuite>")
        else:
            what = f"<{kind} />" if kind else ""
            self.cases.append(f"<testcase name={quoteattr(name)}>{what}{said}</testcase>")
        self.records.append(json.dumps({"name": name, "stdout": output, "result": result, "returncode": code}))
        return self

    def write(self, directory, run, status=0, without=()):
        project = f"<testsuite name='shunt'>{''.join(self.cases)}</testsuite>" if self.cases else ""
        files = {".xml": f"<testsuites>{''.join(self.suites)}{project}</testsuites>",
                 ".json": "\n".join(self.records), ".status": f"{status}\n"}
        for suffix, text in files.items():
            if suffix not in without:
                (directory / (run + suffix)).write_text(text, encoding="utf-8")


PASSED = Logs().add("shunt:unit / a/ok", "OK", "1..2\nok 1 - x\nok 2 - y", rows=[("1 - x", ""), ("2 - y", "skipped")])
DIED = Logs().add("shunt:live / a/died", "ERROR", "1..2\nok 1 - x\nok 2 - y\n# its last words", -11,
                  [("1 - x", ""), ("2 - y", "")])


def row_failed(directory):
    rows = [(f"{at} - row", "failure" if at == 3 else "") for at in range(1, 101)]
    output = "".join(f"{'not ok' if what else 'ok'} {row}\n# about {row}\n" for row, what in rows)
    Logs().add("shunt:live / a/row", "FAIL", output, rows=rows).write(directory, "gcc", 1)
    PASSED.write(directory, "clang")


def without_rows(directory):
    logs = Logs().add("shunt:unit / b/fails", "FAIL", "said b", 1, kind="failure")
    logs.add("shunt:unit / b/slow", "TIMEOUT", "said slow", -15).add("shunt:unit / b/good", "OK")
    logs.add("shunt:unit / b/dies", "ERROR", "\x1b[1mbold", -6, kind="error")
    logs.add("shunt:unit / b/control", "EXPECTEDFAIL", "said", 1).add("shunt:unit / b/passes", "UNEXPECTEDPASS")
    logs.add("shunt:unit / b/gave-up", "SKIP", "1..9\nBail out! no memory", kind="skipped")
    logs.add("shunt:unit / b/skips", "SKIP", "1..0 # SKIP", kind="skipped").write(directory, "tsan", 1)


def expected_rows(directory):
    Logs().add("shunt:unit / c/control", "EXPECTEDFAIL", "not ok 1 - x", rows=[("1 - x", "failure")]).write(
        directory, "gcc")


def no_log(directory):
    (directory / "lint.one").write_text("1\n", encoding="utf-8")
    (directory / "lint.log").write_text("".join(f"line {n}\n" for n in range(40)), encoding="utf-8")
    (directory / "asan.one").write_text("0\n", encoding="utf-8")


def empty(directory):
    Logs().write(directory, "clang")
    PASSED.write(directory, "gcc")


def cut(directory):
    PASSED.write(directory, "gcc")
    (directory / "gcc.xml").write_text("", encoding="utf-8")


def skipped(directory):
    PASSED.write(directory, "gcc")
    (directory / "arm64-quick.skipped").write_text("", encoding="utf-8")


# what, the maker of logs, the last line, exit status, what else is said, what is not
CASES = [
    ("all passed", lambda d: PASSED.write(d, "gcc"), "1 passed, 0 failed", 0, [], ["FAILED", "--"]),
    ("one row failed", row_failed, "100 passed, 1 failed", 1,
     ["FAILED gcc: shunt:live / a/row: 3 - row", "not ok 3 - row", "# about 3 - row", "# about 100 - row"],
     ["FAILED clang", "# about 50 - row"]),
    ("a test died behind rows that were ok", lambda d: DIED.write(d, "gcc", 1), "2 passed, 1 failed", 1,
     ["FAILED gcc: shunt:live / a/died: result ERROR, killed by signal 11, behind 2 rows", "# its last words"], []),
    ("control: without testlog.json its name is not known", lambda d: DIED.write(d, "gcc", 1, [".json"]),
     "2 passed, 1 failed", 1, ["FAILED gcc: the run failed"], ["FAILED gcc: shunt:live / a/died"]),
    ("tests without rows", without_rows, "2 passed, 5 failed", 1,
     ["FAILED tsan: shunt:unit / b/fails: result FAIL, exit status 1", "said b", "said slow", "bold", "no memory",
      "b/slow: result TIMEOUT, killed by signal 15", "b/dies: result ERROR", "b/passes: result UNEXPECTEDPASS",
      "b/gave-up: result ERROR"], ["b/good", "b/control", "b/skips"]),
    ("rows of a test that should fail", expected_rows, "1 passed, 0 failed", 0, [], ["FAILED"]),
    ("runs without a log", no_log, "1 passed, 1 failed", 1,
     ["FAILED lint: exit status 1", "line 39"], ["line 24", "FAILED asan"]),
    ("a log without a test", empty, "1 passed, 1 failed", 1, ["FAILED clang: no test in its log"], ["FAILED gcc"]),
    ("a log that was cut", cut, "0 passed, 1 failed", 1, ["FAILED gcc: its test log cannot be read"], []),
    ("a run that could not be made", skipped, "1 passed, 0 failed", 0, ["NOT RUN: arm64-quick: "], ["NOT RUN: gcc"]),
    ("nothing ran", lambda d: None, "0 passed, 0 failed", 1, [], ["FAILED"]),
]


def try_case(script, maker, last, status, said, unsaid):
    """The output, if anything of it is not as it should be."""
    with tempfile.TemporaryDirectory() as directory:
        maker(pathlib.Path(directory))
        ended = subprocess.run([sys.executable, script, directory], capture_output=True, text=True, check=False)
    lines = ended.stdout.splitlines()
    good = (ended.returncode == status and lines and lines[-1] == last and not ended.stderr
            and all(text in ended.stdout for text in said) and not any(text in ended.stdout for text in unsaid))
    return None if good else f"exit status {ended.returncode}\n{ended.stdout}{ended.stderr}"


print(f"1..{len(CASES)}")
failed = 0
for number, (what, *case) in enumerate(CASES, 1):
    wrong = try_case(sys.argv[1], *case)
    print(f"{'not ok' if wrong else 'ok'} {number} - {what}")
    for line in (wrong or "").splitlines():
        print("# " + line)
    failed += bool(wrong)
sys.exit(bool(failed))
