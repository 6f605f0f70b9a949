#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The commands in doc/debate.md that show a first failure again do so, in the words of the page.

usage: test_replays.py IMAGES
"""
import os
import re
import shutil
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))
REPLAY = re.compile(r"The first failure \(`(\S+)`, (.*)\) again:\n\n    (kernel/run\.py (\S+) .*)\n")


def run(command, images):
    """What the laboratory says of its cells."""
    done = subprocess.run(command, shell=True, cwd=TOP, env=dict(os.environ, SHUNT_KERNEL=images),
                          capture_output=True, text=True, check=False)
    return re.findall(r"^# lab (?!begin)(\S+ \S+ \S+: .*)", done.stdout, re.MULTILINE)


def shows(said, hazard, how):
    return any(line.split(" ", 1)[1].startswith(f"{hazard} fails: {how}") for line in said)


def main():
    with open(os.path.join(TOP, "doc", "debate.md"), encoding="utf-8") as file:
        replays = REPLAY.findall(file.read())
    good, number = len(replays) > 8, 1
    print("ok" if good else "not ok", f"1 - {len(replays)} commands")
    for hazard, how, command, emulator in replays:
        number += 1
        if not shutil.which({"qemu": "qemu-system-x86_64", "bochs": "bochs-bin"}[emulator]):
            print(f"ok {number} - {command} # SKIP no {emulator}")
            continue
        said = run(command, os.path.abspath(sys.argv[1]))
        fine = shows(said, hazard, how)
        print("ok" if fine else "not ok", f"{number} - {command}: {said}", flush=True)
        good = good and fine
    # The control: a scheme that survives shows no failure.
    said = run('kernel/run.py qemu --cpus 2 --append "lab scheme=gap hazard=path-nmi n=8"',
               os.path.abspath(sys.argv[1]))
    fine = not shows(said, "path-nmi", "")
    print("ok" if fine else "not ok", f"{number + 1} - control: gap does not fail: {said}")
    print(f"1..{number + 1}")
    return not (good and fine)


sys.exit(main())
