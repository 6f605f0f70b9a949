#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every command of `shunt`: -h and --help say how it is called; a wrong call says what was wrong, on standard
error, and exits with 2.

usage: test_usage.py SHUNT

Control: a right call (--help) must not be taken for a wrong one, and the words are compared.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

SHUNT = sys.argv[1]
WRONG = [  # arguments, words of the message
    (["sites"], "FILE is missing"), (["sites", "a", "b"], "one FILE only, and not also: b"),
    (["bake"], "FILE is missing"), (["replay", "a", "b"], "and not also: b"),
    (["export", "file"], "the format is missing"), (["export", "--chrome", "--flame", "file"], "one format only"),
    (["selftest", "x"], "no argument is expected: x"), (["trace"], "COMMAND is missing"),
    (["list"], "PID is missing"), (["list", "x"], "x: not the number of a process"),
    (["list", "1", "nonsense"], "it lists keys, functions, modules"), (["ps", "1"], "it takes no arguments"),
    (["set"], "PID is missing"), (["set", "1"], "KEY=VALUE is missing"), (["set", "1", "a"], "a: not KEY=VALUE"),
    (["stats"], "PID is missing"), (["snapshot", "1", "2"], "one PID only, and not also: 2"),
    (["trace", "-p", "1", "--flight", "--signal", "USR1"], "--signal is for a command"),
    (["trace", "-p", "1", "ls"], "-p and a command: ls"), (["trace", "--for", "1s", "--", "ls"], "--for is for -p"),
    (["trace", "--top", "--flight", "--", "ls"], "--top shows all calls"),
    (["attach"], "PID is missing"), (["attach", "x"], "x: not the number of a process"), (["attach", "1", "2"], "and not also: 2"),
    (["attach", "--timeout", "soon", "1"], "--timeout soon: not a time"), (["attach", "--timeout", "2d", "1"], "as 500ms, 10s"),
    (["detach"], "PID is missing"), (["detach", "0"], "0: not the number of a process"),
    (["report", "--sort", "colour", "file"], "--sort colour: total, self"),
    (["help", "nonsense"], "no such command: nonsense"), (["-x"], "no such command: -x"),
    (["nonsense"], "no such command: nonsense"), ([], "usage: shunt COMMAND"),
]


def run(*arguments):
    return subprocess.run([SHUNT, *arguments], capture_output=True, text=True, check=False)


listed = re.findall(r"^  (\w+) ", run("--help").stdout, re.MULTILINE)
ok(len(listed) >= 8, f"--help lists the commands: {' '.join(listed)}")
for command in listed:
    for call in (command, "-h"), (command, "--help"), ("help", command):
        done = run(*call)
        ok(done.returncode == 0 and f"usage: shunt {command}" in done.stdout and not done.stderr,
           " ".join(call), done.stdout + done.stderr)
        others = [line for line in done.stdout.splitlines()[1:] if line.startswith(f"{command} ")]
        ok(not others, f"{' '.join(call)}: each way to call it is a command line", "\n".join(others))
    ok(re.search(rf"^examples?:\n(  .*\n)*?  shunt {command}\b", run(command, "--help").stdout, re.MULTILINE),
       f"{command} --help has an example")
    done = run(command, "--no-such-option")
    ok(done.returncode == 2 and f"shunt {command}: unrecognized option '--no-such-option'" in done.stderr
       and not done.stdout, f"{command}: an option that there is not", done.stdout + done.stderr)
for arguments, words in WRONG:
    done = run(*arguments)
    ok(done.returncode == 2 and words in done.stderr and not done.stdout,
       f"{' '.join(['shunt', *arguments])}: {words}", done.stdout + done.stderr)
with open("/dev/full", "w", encoding="ascii") as full:  # its JSON is larger than what stdio keeps
    done = subprocess.run([SHUNT, "sites", "--json", SHUNT], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
ok(done.returncode == 1 and done.stderr == "shunt: standard output: No space left on device\n",
   "--json, standard output is full: that alone is said", done.stderr)
if "bench" in listed:
    done = run("bench", "--quick", "--json", "/nonexistent/file")
    ok(done.returncode == 1 and "/nonexistent/file" in done.stderr and "calls" not in done.stderr,
       "bench opens its files before it measures", done.stderr)
library = pathlib.Path(SHUNT).resolve().parents[1] / "src/trace/libshunt-trace.so.0"
if library.exists():  # LD_PRELOAD has no way to name a path with a space in it; control: one without
    with tempfile.TemporaryDirectory() as top:
        for name, words in ("a folder", "LD_PRELOAD cannot name"), ("folder", "no function of true can be traced"):
            folder = pathlib.Path(top) / name
            for part, source in ("tools", SHUNT), ("src/trace", library), ("src", library.parents[1] / "libshunt.so.0"):
                (folder / part).mkdir(parents=True, exist_ok=True)
                shutil.copy(source, folder / part)
            done = subprocess.run([folder / "tools/shunt", "trace", "-o", folder / "out", "--", "true"],
                                  capture_output=True, text=True, check=False)
            ok(done.returncode == 1 and words in done.stderr, f"trace, installed in '{name}': {words}", done.stderr)
sys.exit(finish())
