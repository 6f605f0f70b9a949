#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""FILE of `shunt trace -p`: what was there before, and what others do to it meanwhile. TAP.

usage: test_file.py TOOL ENDS_TARGET
"""
import contextlib
import os
import pathlib
import signal
import sys
import tempfile

from agent_client import run, tap, wait_until
from agent_session import in_process

TOOL, TARGET = map(os.path.abspath, sys.argv[1:3])
session = in_process(TOOL, TARGET)
check = tap.check


def is_begun(file):
    return os.path.exists(file) and os.path.getsize(file) > 0


def nothing_called(file):
    pathlib.Path(file).write_text("earlier", encoding="ascii")
    for options in (), ("--flight",):
        with session("-o", file, *options) as (_, _, said, trace):
            trace.terminate()
            words, status = said()
        check(status == 0 and f"nothing was recorded; {file} is as it was" in words and
              pathlib.Path(file).read_bytes() == b"earlier" and os.listdir() == ["trace"],
              f"{' '.join(('trace -p', *options))}, nothing was called: an earlier file stays", (words, status, os.listdir()))
    with session("-o", file) as (_, _, said, trace):
        trace.kill()
        said()
    check(pathlib.Path(f"{file}.earlier-{trace.pid}").read_bytes() == b"earlier", "the command is killed: it is beside FILE")
    for left in pathlib.Path().glob("trace*"):
        left.unlink()
    with session("-o", file) as (_, _, said, trace):
        trace.terminate()
        words, status = said()
    check(status == 0 and f" -> {file}" in words and run(TOOL, "report", file).returncode == 0,
          "where there was none there is one of no calls", (words, status))


def moved(file):
    def replace():
        pathlib.Path("other").write_text("other", encoding="ascii")
        os.rename("other", file)

    def make_folder():
        os.unlink(file)
        os.mkdir(file)

    for what, name in (os.unlink, "removed"), (lambda _: replace(), "replaced"), (lambda _: make_folder(), "replaced by a folder"):
        for does_end in False, True:
            with session("-o", file) as (_, do, said, trace):
                do("c")
                wait_until(lambda: is_begun(file))
                what(file)
                if does_end:
                    do("x")
                else:
                    trace.terminate()
                words, status = said()
            check(status == 1 and "others have removed or replaced it" in words and " -> " not in words,
                  f"FILE is {name} meanwhile{', and the process ends' if does_end else ''}: it is said", (words, status))
            with contextlib.suppress(OSError):
                os.unlink(file)
            with contextlib.suppress(OSError):
                os.rmdir(file)


def two(file):
    with session("-o", file) as (_, do, said, trace):
        do("c")
        wait_until(lambda: is_begun(file))
        with session("-o", file) as (_, _, other_said, _):
            words, status = other_said()
        check(status == 1 and "somebody is writing to it" in words, "a second session of the same FILE is refused", (words, status))
        trace.terminate()
        words, status = said()
    check(status == 0 and words.startswith("2000 events, 0 lost") and f" -> {file}" in words, "the first one has all", (words, status))
    with session("--flight", "-o", file) as (_, do, said, trace):
        do("c")
        pathlib.Path(file).write_text("other", encoding="ascii")
        trace.terminate()
        words, status = said()
    new = f"{file}.new-{trace.pid}"
    check(status == 1 and f"others have written to it meanwhile; what is recorded is in {new}" in words and
          pathlib.Path(file).read_bytes() == b"other" and "2000 events" in run(TOOL, "report", new).stdout,
          "--flight: what others have written to FILE stays, and so does what was kept", (words, status))
    with session("--flight", "-o", file) as (_, do, said, trace):
        do("c")
        os.unlink(f"{file}.new-{trace.pid}")
        trace.terminate()
        words, status = said()
    check(status == 1 and "the last of these" not in words and f"{file}: No such file" in words,
          "--flight: the save is removed before it has its place", (words, status))


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: "\nState:\tT" in pathlib.Path(f"/proc/{pid}/status").read_text())


def stopped(file):
    with session("-o", file) as (pid, do, said, trace):
        do("c")
        wait_until(lambda: is_begun(file))
        stop(pid)
        trace.terminate()
        first = trace.stdout.readline()
        trace.terminate()
        words, status = said()
    check(first == f"process {pid} is stopped: its session is ended when it goes on, within a minute; a signal (Ctrl-C) ends the wait\n" and
          status == -signal.SIGTERM and words.startswith("written until then: ") and f" -> {file}\n" in words and
          words.endswith(": interrupted\n"), "a stopped process: it is said, and what the file has", (first, words, status))
    with session("-o", file) as (pid, do, said, trace):
        do("c")
        stop(pid)
        trace.terminate()
        trace.stdout.readline()
        os.kill(pid, signal.SIGCONT)
        words, status = said()
    check(status == 0 and words.startswith("2000 events, 0 lost"), "and when it goes on", (words, status))


print("TAP version 13")
for rows in nothing_called, moved, two, stopped:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        rows(folder + "/trace")
        os.chdir("/")
sys.exit(tap.end())
