#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Sessions of `shunt trace -p` that end by themselves: what is said of them. TAP.

usage: test_ended.py TOOL ENDS_TARGET

A process ends, by exit(), a signal; its file takes no more, before the end or at it.
"""
import os
import pathlib
import re
import sys
import tempfile

from agent_client import run, tap, wait_until
from agent_session import ENDS, in_process

TOOL, TARGET = map(os.path.abspath, sys.argv[1:3])
session = in_process(TOOL, TARGET)
check = tap.check


def counted(file):
    """Events and lost ones of the whole file, as the report has them."""
    out = run(TOOL, "report", file)
    found = re.search(r"(\d+) events?, (\d+) lost", out.stdout)
    return found.groups() if found else out


def process_ends(file):
    for what, name in ENDS.items():
        with session("-o", file) as (pid, do, said, _):
            do("c")
            do(what)
            words, status = said()
        whole = f"process {pid} has ended\n2000 events, 0 lost, 0 without a return, 1 thread -> {file}\n"
        cut = f"process {pid} has ended\n"
        lost = f"its last calls (up to 10 ms) may not be in {file}, nor counted\n"
        check((words, status) == (whole, 0) if what == "x" else
              status == 1 and "written until then: " in words and words.startswith(cut) and words.endswith(lost) and
              (f" -> {file}\n" in words or f"nothing was recorded; {file} is as it was\n" in words),
              f"the process ends by {name}: what the file has is said", (words, status))
    with session("--top") as (pid, do, said, _):
        do("c")
        do("x")
        words, status = said()
    check(status == 0 and words.endswith(f"process {pid} has ended\n2000 events, 0 lost, 0 without a return, 1 thread\n"),
          "--top: the totals alone", (words, status))
    with session("--flight", "-o", file) as (pid, do, said, _):
        do("c")
        do("x")
        words, status = said()
    check(status == 0 and words.endswith(f"the last 2000 events, 0 lost, 0 without a return, 1 thread -> {file}\n"),
          "--flight: what it has kept", (words, status))


def totals(words):
    found = re.search(r"^(\d+) events?, (\d+) lost", words, re.MULTILINE)
    return sum(map(int, found.groups())) if found else words


def full(file):
    """RLIMIT_FSIZE stands for a full disk."""
    cause = f"the file of its session: {file}: File too large; it is not recorded any further"
    with session("-o", file) as (_, do, said, trace):
        do("rccc")
        wait_until(lambda: os.path.exists(file) and os.path.getsize(file) > 8192)
        trace.terminate()
        words, status = said()
    check(status == 1 and cause in words and totals(words) == 6000 and "no session" not in words,
          "a file that took no more before the end: its cause, and all calls are counted", (words, status))
    with session("-o", file) as (_, do, said, _):
        do("rccc")
        do("x")
        words, status = said()
    check(status == 1 and cause in words and totals(words) == 6000, "and where the process ends", (words, status))
    with session("--top") as (_, do, said, trace):
        do("rccc")
        trace.terminate()
        words, status = said()
    check(status == 1 and "File too large" in words and "no session" not in words, "--top: the cause", (words, status))


def full_flight(file):
    """What was there stays, and the cause is said."""
    def earlier():
        pathlib.Path(file).write_text("earlier", encoding="ascii")

    def stays():
        return pathlib.Path(file).read_bytes() == b"earlier" and os.listdir(os.path.dirname(file)) == [os.path.basename(file)]

    earlier()
    for name, last in ("the process ends", lambda do, pid, trace: do("x")), \
            ("somebody detaches", lambda do, pid, trace: run(TOOL, "detach", pid)), \
            ("the command ends it", lambda do, pid, trace: trace.terminate()):
        with session("--flight", "-o", file) as (pid, do, said, trace):
            do("rccc")
            last(do, pid, trace)
            words, status = said()
        check(status == 1 and "File too large" in words and stays(), f"--flight, {name}: the cause is said, and FILE stays",
              (words, status, os.listdir(os.path.dirname(file))))


def closed():
    """Standard output is closed."""
    with session() as (pid, _, said, trace):
        trace.terminate()
        said()
        out = run("sh", "-c", f"exec '{TOOL}' trace -p {pid} --top --for 1s >&-")
        check(out.returncode == 1 and "standard output" in out.stderr, "--top with standard output closed: it is said", out)


print("TAP version 13")
for rows in process_ends, full, full_flight:
    with tempfile.TemporaryDirectory() as folder:
        rows(folder + "/trace")
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    closed()
    os.chdir("/")
sys.exit(tap.end())
