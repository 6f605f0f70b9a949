#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What script/ring0 makes of results: a changed verdict, pages that are not the table's, a claim
that is not so, a machine that is too slow.

usage: test_report.py IMAGES
"""
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from report import boots, cells, table  # pylint: disable=wrong-import-position

RING0 = os.path.join(boots.TOP, "script", "ring0")
WRITTEN = [table.PATH] + [os.path.join(boots.TOP, "doc", "debate." + e) for e in ("md", "html")]
CHECKS = []


def ok(good, what):
    CHECKS.append(good)
    print(("ok" if good else "not ok") + f" {len(CHECKS)} - {what}", flush=True)


def contents():
    return [open(path, encoding="utf-8").read() for path in WRITTEN]  # pylint: disable=R1732


def run(text):
    """script/ring0 with @text for results: exit status, what it says."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([sys.executable, RING0, "--from", file.name], capture_output=True,
                              text=True, check=False)
    return done.returncode, done.stderr + done.stdout


def turned(before, behind):
    text, n = re.subn(before, behind, contents()[0], count=1, flags=re.MULTILINE)
    assert n == 1, before
    return run(text)


def pages_and_verdicts():
    before = contents()
    status, said = run(before[0])
    ok(status == 0, f"the table as it is: exit 0, and the pages are what it says: {status}")
    for line in said.splitlines() if status else []:
        print("# " + line)
    for name, pattern, behind in (
            ("survives to fails", r"^(gap path-nmi qemu) survives$", r"\1 fails: wrong target"),
            ("fails to survives", r"^(percpu sti-db qemu) fails.*$", r"\1 survives"),
            ("another way to fail", r"^(thunk registers qemu) fails.*$", r"\1 fails: #GP"),
            ("held to missed", r"^(percpu sti-nmi bochs) held$", r"\1 missed"),
            ("a cell that is gone", r"^gap line bochs .*\n", ""),
            ("a core sync more", r"^(gap cost bochs .*), 3 syncs", r"\1, 4 syncs"),
            ("another number of instructions", r"^(gap cost bochs .*, )\d+( instructions)", r"\g<1>1\2")):
        status, said = turned(pattern, behind)
        ok(status == 1 and "changed: " in said, f"a verdict turned, {name}: exit {status}")
    status, _ = turned(r"^(percpu sti-db qemu) fails.*$", r"\1 unfinished")
    ok(status == 2, f"a cell that did not finish: exit {status}")
    status, said = turned(r"^(gap cost bochs .*, )\d+( instructions.* built by ).*$",
                          r"\g<1>1\2another compiler")
    ok(status == 0, f"another number of instructions by another compiler is no change: exit {status}")
    status, said = turned(r"^(gap cost bochs .*), 3 syncs, built by .*$",
                          r"\1, 4 syncs, built by another compiler")
    ok(status == 1, f"a core sync more by another compiler is one: exit {status}")
    ok(contents() == before, "nothing has been written")


def no_time(images):
    """A machine on which no boot comes to its end within its time."""
    lab = boots.Lab(images, {"groups": [], "schemes": []}, patience=1e-6)
    found = list(lab.cells("qemu", "lab n=1000", ["gap"], ["irqs-on", "path-nmi"]))
    ok(len(found) == 2 and {c.verdict for _, _, c in found} == {cells.UNFINISHED},
       "boots without time did not finish, and do not fail: " +
       ", ".join(f"{h} {c.text()}" for _, h, c in found))
    lab = boots.Lab(images, {"groups": [], "schemes": []}, patience=0.02)
    boots.MORE, more = 5000, boots.MORE
    found = list(lab.cells("qemu", "noselftest lab n=24", ["gap"], ["irqs-on", "path-nmi"]))
    boots.MORE = more
    ok({c.verdict for _, _, c in found} == {"survives"}, "with more time they are run again: " +
       ", ".join(f"{h} {c.text()}" for _, h, c in found))


def main():
    pages_and_verdicts()
    if "qemu" in boots.emulators():
        no_time(sys.argv[1])
    print(f"1..{len(CHECKS)}")
    return not all(CHECKS)


sys.exit(main())
