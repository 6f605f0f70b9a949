#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Processes that execute other programs: whether what they called before is all in their files, and what is said where it is
not; `shunt trace` and `shunt report` say the same.

    execs.py SHUNT EXECS.C FOLDER

*Control:* a process that executes one by a system call of its own, or is killed behind an exec() that has failed, is not
taken for whole. What the recorder does for it has mutants (exec-*, child-end-*). TAP.
"""
import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok, skip

SHUNT, SOURCE, FOLDER = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
PROGRAM, STATIC, FILE = FOLDER / "execs", FOLDER / "static", FOLDER / "sessions/x.trace"
UNSAID = "was killed, ended or executed another program without saying so, or could not write it; its last calls may be missing"
PAST = "called exec() while other threads were recorded"


def trace(*words, options=()):
    shutil.rmtree(FILE.parent, ignore_errors=True)
    FILE.parent.mkdir()
    return subprocess.run([SHUNT, "trace", "-o", FILE, "--keep-all", *options, "--", PROGRAM, *words], timeout=60,
                          capture_output=True, text=True, check=False)


def report(path):
    """Calls of each function, whether it is complete, and what is said besides."""
    out = subprocess.run([SHUNT, "report", "--json", path], capture_output=True, text=True, timeout=60, check=False)
    if out.returncode:
        return {}, False, out.stderr
    said = json.loads(out.stdout)
    return {row["function"]: row["calls"] for row in said["functions"]}, said["complete"], out.stderr


def others():
    return glob.glob(f"{FILE}.*")


def whole(**calls):
    return calls, True, ""


def children():
    for how in "execl", "execvp", "execvpe", "execveat", "fexecve", "failed-execl":
        for options in [], ["--flight"]:
            if options and how in ("execvpe", "execveat"):
                continue
            done = trace("child", how, options=options)
            found = [report(file) for file in others()]
            ok(done.returncode == 0 and not done.stderr and report(FILE) == whole(leaf=100) and
               found == [whole(leaf=20 if how.startswith("failed") else 10)],
               f"a child that executes another program: {how} {' '.join(options)}", done, found)
    for options in [], ["--flight"]:
        done = trace("again", "4", "none", options=options)
        found = [report(file) for file in (FILE, *others())]
        ok(done.returncode == 0 and not done.stderr and found == [whole(leaf=100)] * 5, f"one program behind the other {' '.join(options)}", done, found)
    for how in "posix_spawn", "vfork-/bin/true", "vfork-/nonexistent":
        done = trace(how)
        ok(done.returncode == 0 and not done.stderr and not others() and report(FILE) == whole(leaf=100, last=1),
           f"the parent of what has its memory: {how}", done, report(FILE))


def counts():
    """What a copy of the process has called is counted from 0: its parent's file is not its own."""
    for how in "fork", "_Fork", "clone", "twice-fork", "twice-clone", "_exit", "twice-_exit":
        done = trace("copy", how, FILE, options=["--ring", "16M"])
        ok(done.returncode == 0 and not done.stderr and not others() and report(FILE)[1:] == (True, ""),
           f"a copy that has called nothing, and executes a program or ends: {how}", done)
    done = trace("another", FILE, options=["--ring", "16M"])
    ok(done.returncode == 0 and "lost" not in done.stderr, "a session behind the command's, in which nothing is called", done)


def unsaid():
    """A system call that the recorder does not see."""
    done = trace("child", "bare")
    files = others()
    found = [report(file) for file in files]
    ok(done.returncode == 0 and len(files) == 1 and f"{files[0]} has no end: its process {UNSAID}" in done.stderr and
       len(done.stderr.splitlines()) == 1 and not found[0][1] and UNSAID in found[0][2], "control: a child, by a system call of its own: said", done, found)
    done = trace("bare")
    ok(done.returncode == 1 and "executed another program without saying so" in done.stderr and "no call" not in done.stderr and
       len(done.stderr.splitlines()) == 1, "control: the command: said, and not that nothing was called", done)
    done = trace("again", "1", "bare")
    ok(done.returncode == 1 and "executed another program without saying so" in done.stderr and report(FILE) == whole(leaf=100),
       "control: the command's second program: said, and the first is whole", done)
    done = trace("static-exec", FILE, STATIC)
    ok(done.returncode == 3 and not done.stderr and report(FILE)[1:] == (True, ""), "without a descriptor by which to say so: it is in the file", done, report(FILE))
    done = trace("static-bare", FILE, STATIC)
    ok(done.returncode == 3 and "ends early" in done.stderr and not report(FILE)[1], "control: and not by a system call of its own", done, report(FILE))


def failed():
    """Behind an exec() that has failed the recording goes on."""
    done = trace("failed-execl")
    ok(done.returncode == 0 and not done.stderr and report(FILE) == whole(leaf=110), "an exec() that fails, and another one", done, report(FILE))
    done = trace("failed-kill")
    found = report(FILE)
    ok(done.returncode == -signal.SIGKILL and "ends early" in done.stderr and not found[1] and UNSAID in found[2],
       "control: killed behind one that has failed: said", done, found)
    done = trace("again", "2", "failed-kill")
    ends = [file for file in (FILE, *map(pathlib.Path, others())) if not report(file)[1]]
    ok(done.returncode == -signal.SIGKILL and len(ends) == 1 and f"{ends[0]} ends early" in done.stderr and len(done.stderr.splitlines()) == 1,
       "control: the third program: its file is named", done, ends)
    done = trace("failed-kill", options=["--flight"])
    ok(done.returncode == -signal.SIGKILL and "ends early" in done.stderr, "control: and what is kept", done)
    done = trace("child", "failed-kill")
    files = others()
    found = [report(file) for file in files]
    ok(done.returncode == 0 and len(files) == 1 and f"{files[0]} has no end: its process {UNSAID}" in done.stderr and
       not found[0][1] and UNSAID in found[0][2], "control: a child", done, found)


def handlers():
    """A signal comes while the file is brought up to date: its handler runs before the system call."""
    done = trace("child", "handler", FILE.parent)
    if done.returncode == 0 and not done.stdout and not others():
        skip("a handler before the system call", "no F_NOTIFY")
        return
    found = [report(file) for file in others()]
    ok(done.stdout == "x" and not done.stderr and found == [whole(leaf=10, last=1)], "a handler before the system call: its calls are there", done, found)


def threads():
    """Others go on, while one executes another program or ends."""
    for how in "execl", "_exit":
        found, said, agree = [], "", True
        for _ in range(6):
            done = trace("child", f"busy-{how}")
            said += done.stderr
            last, is_whole, _ = report(others()[0])
            found.append(last.get("last"))
            agree &= is_whole != (PAST in done.stderr)
        ok(found == [10] * 6 and agree and "was killed" not in said, f"a child's thread, beside a busy one: {how}: what it called is there", found, said)
    seen, agree = 0, True
    for _ in range(10):
        done = trace("busy-path")
        calls, is_whole, words = report(FILE)
        seen += PAST in done.stderr
        agree &= calls.get("last") == 10 and is_whole == (PAST not in done.stderr) and (is_whole or PAST in words or "cut off" in words)
        if seen or not agree:
            break
    ok(agree and seen, "the command: it is said where others were recorded behind it", seen, done, calls, words)


def attached():
    """`shunt trace -p` of a program with which the recorder was loaded."""
    preload = dict(os.environ, LD_PRELOAD="libshunt-trace.so.0:libshunt-agent.so.0", SHUNT_AGENT="1")
    for how in "execl", "_exit", "bare":
        FILE.unlink(missing_ok=True)
        with subprocess.Popen([PROGRAM, f"await-{how}"], env=preload, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()
            done = subprocess.run([SHUNT, "trace", "-o", FILE, "-p", str(process.pid)], timeout=60, capture_output=True,
                                  text=True, check=False)
            process.kill()
        calls, is_whole, _ = report(FILE)
        if how == "bare":
            ok(done.returncode == 1 and "last calls (up to 10 ms) may not be in" in done.stderr and not is_whole,
               "control: trace -p: a system call of its own: said", done, calls)
        else:
            ok(done.returncode == 0 and "last calls" not in done.stderr and "until then" not in done.stderr and is_whole and
               calls.get("last") == 10, f"trace -p: {how}: all is there, and nothing else is said", done, calls)


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    subprocess.run(["gcc", "-O2", "-pthread", "-fpatchable-function-entry=5", "-w", "-o", PROGRAM, SOURCE], check=True)
    subprocess.run(["gcc", "-static", "-x", "c", "-", "-o", STATIC], input="int main(void) { return 3; }", text=True, check=True)
    children()
    counts()
    unsaid()
    failed()
    handlers()
    threads()
    attached()
    return finish()


if __name__ == "__main__":
    sys.exit(main())
