#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
How a traced command ends, and what `shunt trace` says of it: by _exit(), quick_exit(), exec(), a
signal; a file that takes no more; filters that leave nothing; programs that cannot be traced; what only a
process of one thread may do.

    ends.py SHUNT ENDING.C FOLDER [all]     without "all": most of them either with --flight or without it, in turn,
                                            and what is another name of the same thing once

*Control:* a command that ends by a bare system call is not seen to be whole; one that does not know
whom to tell is not said to have ended so; children that are not let look at what is there make files
beside a pipe; and where all is well nothing is said. TAP.
"""
import glob
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

MANUAL = pathlib.Path(__file__).resolve().parents[2] / "doc/man/shunt-trace.1.scd"
NUMBERS = pathlib.Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
# What the program and the C library ask for themselves.
OWN_CALLS = "exit exit_group clone3 set_robust_list rseq mprotect brk newfstatat".split()
SHUNT, SOURCE, FOLDER = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
FILE = FOLDER / "e.trace"
ALL = sys.argv[4:] == ["all"]
# Commands that are to die of a signal do not ignore it because who runs the test does (nohup).
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)


def trace(*words, options=(), file=FILE, **more):
    for old in glob.glob(f"{FILE}*"):
        os.unlink(old)
    return subprocess.run([SHUNT, "trace", "-o", file, "--keep-all", *options, "--", *words], timeout=60,
                          capture_output=True, text=True, check=False, **more)


def calls(path=FILE):
    """Function -> calls, and whether the session ended in good order; None: no file."""
    out = subprocess.run([SHUNT, "report", "--json", path], capture_output=True, text=True,
                         timeout=60, check=False)
    if out.returncode:
        return None, False
    report = json.loads(out.stdout)
    return {row["function"]: row["calls"] for row in report["functions"]}, report["complete"]


def is_whole(path=FILE, **more):
    found, complete = calls(path)
    return complete and all(found.get(name, 0) == n for name, n in {"leaf": 100, **more}.items())


BOTH = (), ("--flight",)
turn = 0


def either():
    """With --flight and without it; without "all" one of these, in turn."""
    global turn
    turn += 1
    return BOTH if ALL else (BOTH[turn % 2],)


OF_ALL = {"_Exit", "execlp", "execve", *(f"raise {sig:d}" for sig in (
    signal.SIGHUP, signal.SIGPIPE, signal.SIGALRM, signal.SIGUSR1, signal.SIGXCPU))}


def in_order(program):
    """Each way to end that a program has."""
    for how, status, more in (
            ("", 0, {}), ("_exit", 3, {}), ("_Exit", 3, {}), ("quick_exit", 3, {}),
            ("execl", 0, {}), ("execlp", 0, {}), ("execle", 4, {}), ("execve", 0, {}),
            ("execvp", 0, {}), ("vfork", 6, {"last": 1}), ("vfork exec", 6, {"last": 1}),
            ("actions", 6, {}), ("segv", -signal.SIGSEGV, {}), ("abort", -signal.SIGABRT, {}),
            *((f"raise {sig:d}", -sig, {}) for sig in (
                signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGALRM,
                signal.SIGUSR1, signal.SIGXCPU))):
        if how in OF_ALL and not ALL:
            continue
        for options in either():
            done = trace(program, *how.split(), options=options)
            found, complete = calls()
            good = found and found.get("leaf") == 100 and all(
                found.get(name) == n for name, n in more.items())
            ok(done.returncode == status and not done.stderr and good and complete,
               f"{how or 'exit'} {' '.join(options)}", done, found, complete)
    done = trace(program, "actions-of-libc")
    ok(done.returncode == 7, "control: libc's sigaction() shows the recorder's handler", done)
    done = trace(program, "execv-not-there")
    ok(done.returncode == 6 and not done.stderr and is_whole(last=1), "exec() that fails", done)
    for how in "", "-unheld":
        done = trace(program, "execv-interrupted" + how)
        found = calls()[0].get("on_usr2", 0) if done.stdout else None
        ok(done.returncode == 7 and (found == int(done.stdout or -1)) == (not how),
           "control: handlers that run while the file is brought up to date are missed" if how else
           "handlers in the middle of an exec() that fails", done, found)
    done = trace(program, "fork")
    other = [name for name in glob.glob(f"{FILE}.*")]
    ok(done.returncode == 3 and is_whole() and len(other) == 1 and calls(other[0])[1] and
       calls(other[0])[0].get("last") == 1, "_exit() in a child of fork()", done, other)
    for sig in (signal.SIGTERM, signal.SIGUSR2, signal.SIGRTMIN + 3) if ALL else (signal.SIGRTMIN + 3,):
        done = trace("sh", "-c", f"trap 'exit 9' {int(sig)}; kill -{int(sig)} $PPID; "
                     "while :; do sleep 0.01; done")
        ok(done.returncode == 9, f"signal {int(sig)} to shunt goes to the command", done)


def words(program, static):
    """What is said, and the status that there is besides."""
    # Where the machine is so slow that the recorder has written before it, there is a file.
    done = trace(program, "system-call")
    text = "ends early" if FILE.exists() else "before anything was written"
    ok(done.returncode == 1 and text in done.stderr and len(done.stderr.splitlines()) == 1,
       "said: a bare system call", done)
    for name, done, status, text in (
            ("SIGKILL", trace(program, "kill"), -9, "killed by signal 9"),
            ("SIGKILL later", trace(program, "kill-later", FILE), -9, "ends early"),
            ("a static program", trace(static), 1, "linked statically"),
            ("no room", trace("true"), 1, "no function of true can be traced"),
            ("a filter and no room", trace("true", options=["-F", "main"]), 1, "can be traced"),
            ("a filter that takes nothing", trace(program, "_exit", options=["-F", "no*such"]), 1,
             '"no*such": matches no function'),
            ("that leaves nothing", trace(program, "_exit", options=["-N", "*"]), 1,
             "leave no function"),
            ("nothing called", trace(program, options=["-F", "not_called"]), 1, "function that is traced was seen"),
            ("nothing as long as --min", trace(program, options=["--min", "1000s"]), 1, "took as long as --min"),
            ("/dev/full", trace(program, file="/dev/full"), 1, "No space left"),
            ("/dev/full, and a status", trace(program, "_exit", file="/dev/full"), 3,
             "No space left"),
            ("a folder", trace("sh", "-c", "exit 9", file=FOLDER), 1, "Is a directory"),
            ("no command", trace("/nonexistent"), 127, "No such file"),
            ("no folder", trace(program, file="/nonexistent/file"), 1, "No such file"),
            ("a file's limit", trace("sh", "-c", f"ulimit -f 100; exec {program} many"), 1,
             "File too large")):
        ok(done.returncode == status and text in done.stderr and len(done.stderr.splitlines()) == 1,
           f"said: {name}", done)
    read, write = os.pipe()
    os.close(read)
    done = trace(program, file=f"/dev/fd/{write}", pass_fds=[write])
    ok(done.returncode == 1 and "Broken pipe" in done.stderr, "said: a pipe that nobody reads", done)
    for options, text in ((["--ring", "8G"], "--ring 8G"), (["--ring", "0"], "--ring 0"),
                          (["--ring", "many"], "--ring many"), (["--min", "1e15s"], "--min"), (["-F", " ,"], "-F"),
                          (["--min", "3x"], "--min 3x"), (["--min", "3"], "--min 3"),
                          (["--flight", "--signal", "9"], "--signal 9"),
                          (["--flight", "--signal", "FOO"], "--signal FOO"),
                          (["--signal", "USR1"], "--flight"),
                          (["--entries", "--min", "1ms"], "--min"), (["-F", ""], "-F")):
        done = trace("touch", FOLDER / "e.trace.ran", options=options)
        ok(done.returncode == 2 and text in done.stderr and not (FOLDER / "e.trace.ran").exists(),
           f"wrong, and the command does not run: {' '.join(options)}", done)
    done = subprocess.run([SHUNT, "trace", "--help"], capture_output=True, text=True, check=False)
    ok(done.returncode == 0 and "examples:" in done.stdout, "--help")


def givers_up(program):
    """What the file is opened with is given up before anything has been written."""
    root = FOLDER / "root"
    root.mkdir(exist_ok=True)
    ways = ["descriptors", "prlimit"] + (["chroot", "setuid", "setresgid"] if not os.geteuid() else [])
    for number, options in enumerate(BOTH):
        for way in ways if ALL else set(ways) & {"descriptors" if number else "chroot", "setresgid" if number else "setuid"}:
            done = trace(program, "give-up", way, root, options=options)
            ok(done.returncode == 6 and not done.stderr and is_whole(last=1) and not glob.glob(f"{FILE}.*"),
               f"whole all the same: {way} {' '.join(options)}", done)
        for way in set(ways) & ({"descriptors", "chroot"} if ALL else {"descriptors" if number else "chroot"}):
            whole = 0
            while whole < 5:  # the recorder may have written by then
                done = trace(program, "give-up", "bare-" + way, root, options=options)
                if done.returncode != 6 or not is_whole(last=1):
                    break
                whole += 1
            ok(whole < 5, f"control: not by a system call that is not seen: {way} {' '.join(options)}", done, whole)
        if number and not ALL:
            continue
        done = trace(program, "give-up", "daemon", options=options)
        for _ in range(1000):  # of the one that goes on, which nobody waits for
            other = glob.glob(f"{FILE}.*")
            if other and calls(other[0])[1]:
                break
            time.sleep(0.01)
        ok(done.returncode == 0 and not done.stderr and is_whole() and len(other) == 1 and
           calls(other[0])[0].get("last") == 1 and calls(other[0])[1],
           f"daemon(): both are whole {' '.join(options)}", done, other)
    if "setuid" in ways:
        done = trace(program, "give-up", "setuid-signal", options=("--flight", "--signal", "USR1"))
        ok(done.returncode == -signal.SIGUSR2 and is_whole(last=2),
           "--flight: saved by a signal, and by another that ends it, behind setuid()", done, calls())
    if "setuid" in ways and ALL:
        done = trace(program, "give-up", "setuid-removed", FILE, options=("--flight",))
        ok(done.returncode == 6 and not done.stderr and is_whole(last=1),
           "--flight: others have removed its file between two of them", done, calls())


def images(program):
    """What one process is, one image behind the other, has a file each."""
    for options in either():
        done = trace(program, "again", "3", options=options)
        files = glob.glob(f"{FILE}*")
        ok(done.returncode == 6 and len(files) == 4 and all(calls(f)[0] == {"main": 1, "leaf": 100}
                                                            for f in files),
           f"four images, four files {' '.join(options)}", done, files, [calls(f) for f in files])
    done = trace(program, "again", "1", "child")
    files = glob.glob(f"{FILE}*")
    found = [calls(f)[0] for f in files]
    ok(done.returncode == 6 and len(files) == 4 and [1 for f in found if f.get("last")] == [1] and
       sum(f.get("leaf", 0) for f in found) == 300, "a child's calls before it is another image", done, files, found)
    done = trace("env", "-u", "SHUNT_TRACE_SINCE", program, "again", "3")
    files = glob.glob(f"{FILE}*")
    # (Two; one more where an image starts within the tick of the clock in which another one has ended.)
    ok(done.returncode == 6 and len(files) < 4, "control: without the command's start they are written over the last",
       done, files)


def alone(program):
    """What a process of one thread may do, it may with the recorder's."""
    if not os.geteuid():
        for options in either():
            done = trace(program, "uneven", options=options)
            ok(done.returncode == 6 and not done.stderr and is_whole(last=1),
               f"rights that its only thread has changed {' '.join(options)}", done, calls())
        done = trace(program, "uneven-blind")
        ok(done.returncode == -signal.SIGABRT, "control: where that is not seen the C library ends it", done)
    done = trace(program, "alone-often")
    found = calls()
    ok(done.returncode == 6 and not done.stderr and int(done.stdout) > 0 and is_whole(last=int(done.stdout)),
       "signal handlers while the recorder's thread comes and goes", done, found)
    if subprocess.run([program, "namespace", "user"], check=False).returncode != 6:
        ok(True, "user namespaces # SKIP not to be had")
        return
    for how in ("user", "pid"):
        for options in either():
            done = trace(program, "namespace", how, options=[*options, "--ring", "16M"])
            ok(done.returncode == 6 and not done.stderr and is_whole(last=1, leaf=100100),
               f"unshare() of a namespace: {how} {' '.join(options)}", done, calls())
    done = trace(program, "namespace", "bare")
    ok(done.returncode == 9, "control: not by a system call that is not seen", done)


def changed(program):
    """Others have changed an entry: the engine does not take it back, and what was recorded is written."""
    done = trace(program, "changed")
    ok(done.returncode == 1 and "foreign bytes" in done.stderr and is_whole() and len(done.stderr.splitlines()) == 1,
       "said: entries that others have changed, and all is whole besides", done, calls())
    done = trace(program, "changed", "mended")
    ok(done.returncode == 0 and not done.stderr and is_whole(), "control: they are as they were", done, calls())


def for_musl():
    """A program of the other C library runs as ever, and is said not to be traced."""
    compiler = shutil.which("musl-gcc")
    if not compiler:
        ok(True, "a program that is linked to musl # SKIP no musl-gcc")
        return
    (FOLDER / "musl.c").write_text("int main(void) { return 3; }\n")
    subprocess.run([compiler, "-o", FOLDER / "musl", FOLDER / "musl.c"], check=True)
    if subprocess.run([FOLDER / "musl"], check=False).returncode != 3:
        ok(True, "a program that is linked to musl # SKIP it does not run here")
        return
    done = trace(FOLDER / "musl")
    ok(done.returncode == 3 and "linked to musl" in done.stderr and len(done.stderr.splitlines()) == 1,
       "said: a program that is linked to musl", done)
    done = trace("sh", "-c", f"exec {FOLDER / 'musl'}")
    ok(done.returncode == 127, "control: with the recorder preloaded it does not begin", done)


def unreadable(program):
    """A program that its user may execute, and not read."""
    what = "a program that may not be read"
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        copy = shutil.copy(program, place + "/unreadable")
        os.chmod(copy, 0o755)
        if os.geteuid() or subprocess.run([SHUNT, "--version"], capture_output=True, check=False, **nobody).returncode:
            ok(True, f"said: {what} # SKIP not root, or the build is for root alone")
            return
        done = subprocess.run([SHUNT, "trace", "-o", place + "/trace", "--", copy], timeout=60, capture_output=True,
                              text=True, check=False, **nobody)
        ok(not done.stderr and not done.returncode, "control: of one that may be read nothing is said", done)
        os.chmod(copy, 0o711)
        done = subprocess.run([SHUNT, "trace", "-o", place + "/trace2", "--", copy], timeout=60, capture_output=True,
                              text=True, check=False, **nobody)
        ok(done.returncode == 1 and "may not be read" in done.stderr and "compiled" not in done.stderr,
           f"said: {what}", done)


def listing(folder="/dev"):
    return set(os.listdir(folder))


def places(program):
    """What is no regular file: nothing is made beside it, and children share it or are told."""
    before = listing()
    done = trace(program, "forks", file="/dev/null")
    ok(done.returncode == 5 and not done.stderr, "/dev/null, and children", done)
    done = trace(program, "forks", file="/dev/full")
    ok(done.returncode == 5 and "No space left" in done.stderr, "/dev/full, and children", done)
    if ALL:
        done = trace("sh", "-c", f"{program}; {program}", file="/dev/null")
        ok(done.returncode == 0 and not done.stderr, "/dev/null, and programs", done)
    for options in either():
        reader, folder = FOLDER / "read", FOLDER / "pipes"
        folder.mkdir(exist_ok=True)
        pipe = folder / "pipe"
        if not pipe.exists():
            os.mkfifo(pipe)
        with open(reader, "wb") as to, subprocess.Popen(["cat", pipe], stdout=to) as cat:
            done = subprocess.run([SHUNT, "trace", "-o", pipe, "--keep-all", *options, "--", program,
                                   "forks"], timeout=60, capture_output=True, text=True, check=False)
            if done.returncode != 5:
                cat.kill()
        ok(done.returncode == 5 and is_whole(reader) and listing(folder) == {"pipe"} and
           "Device or resource busy" in done.stderr,
           f"a FIFO is one process's, and its children are told {' '.join(options)}", done,
           calls(reader), listing(folder))
    ok(listing() == before, "nothing was made in /dev", listing() - before)


def folders(program):
    """What can be neither made nor moved aside where it is to be: it is said, and the command is not run."""
    def run(file, **more):
        return subprocess.run([SHUNT, "trace", "-o", file, "--", program], timeout=60, capture_output=True, text=True,
                              check=False, **more)
    loop = FOLDER / "loop"
    loop.unlink(missing_ok=True)
    loop.symlink_to(loop)
    for file, text in (FOLDER, "Is a directory"), (loop, "Too many levels"), (FOLDER / "not/there", "No such file"):
        done = run(file)
        ok(done.returncode == 1 and f"{file}: {text}" in done.stderr and len(done.stderr.splitlines()) == 1,
           f"said, and nothing is run: {text}", done)
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    if os.geteuid() or subprocess.run([SHUNT, "--version"], capture_output=True, check=False, **nobody).returncode:
        ok(True, "folders that refuse # SKIP not root, or the build is for root alone")
        return
    for name, mode, owner, text in (("sticky", 0o1777, 0, "Operation not permitted"), ("closed", 0o755, 65534, "Permission denied"),
                                    ("open", 0o777, 0, "")):
        with tempfile.TemporaryDirectory() as place:
            os.chmod(place, 0o755)
            folder = pathlib.Path(place, name)
            folder.mkdir()
            file = folder / "trace"
            file.write_text("earlier")
            file.chmod(0o666)
            os.chown(file, owner, owner)
            folder.chmod(mode)
            copy = shutil.copy(program, place + "/program")
            done = subprocess.run([SHUNT, "trace", "-o", file, "--", copy], timeout=60, capture_output=True, text=True,
                                  check=False, **nobody)
            if not text:
                ok(done.returncode == 0 and is_whole(file) and listing(folder) == {"trace"}, f"control: {name}", done)
                continue
            ok(done.returncode == 1 and f"{file}: what is there cannot be moved aside in the folder {folder}: {text}" in done.stderr and
               file.read_text() == "earlier" and listing(folder) == {"trace"}, f"said, and nothing is run: {name}", done)
            done = subprocess.run([SHUNT, "trace", "-o", folder / "new", "--", copy], timeout=60, capture_output=True, text=True,
                                  check=False, **nobody)
            ok((done.returncode == 0) == (name == "sticky") and
               (name == "sticky" or f"it cannot be made in the folder {folder}: {text}" in done.stderr),
               f"and a new file: {name}", done)


def links(program):
    """Of a link, what it leads to is the file; it stays."""
    folder = FOLDER / "links"
    folder.mkdir(exist_ok=True)
    link, file = folder / "link", folder / "file"
    link.unlink(missing_ok=True)
    link.symlink_to("file")
    for there in (False, True) if ALL else (True,):
        for old in glob.glob(f"{file}*"):
            os.unlink(old)
        if there:
            file.write_text("old")
        done = subprocess.run([SHUNT, "trace", "-o", link, "--keep-all", "--", program, "forks"],
                              timeout=60, capture_output=True, text=True, check=False)
        others = listing(folder) - {"link", "file"}
        ok(done.returncode == 5 and not done.stderr and link.is_symlink() and is_whole(file) and
           len(others) == 3 and all(name.startswith("file.") and name.count(".") == 1 and
                                    calls(folder / name)[1] for name in others),
           f"a link to a file that is {'there' if there else 'not there'}", done, others)
    link.unlink()
    link.symlink_to("/proc/self/fd/1")
    with open(FOLDER / "out", "wb") as out:
        done = subprocess.run([SHUNT, "trace", "-o", link, "--", program, "_exit"], stdout=out,
                              stderr=subprocess.PIPE, timeout=60, check=False)
    ok(done.returncode == 3 and is_whole(FOLDER / "out") and link.is_symlink(),
       "what /dev/stdout is, where that is a file", done)


def takers(program):
    """What others have put where a child's file goes."""
    folder = FOLDER / "takers"
    folder.mkdir(exist_ok=True)
    victim = folder / "victim"
    for kind in ("link", "pipe", "folder") if ALL else ("link",):
        victim.write_text("precious")
        done = trace(program, "fork-beside", kind, FILE, victim)
        ok(done.returncode == 3 and victim.read_text() == "precious" and "session" in done.stderr,
           f"a {kind} where a child's file would be: left alone, and said", done)
        for name in glob.glob(f"{FILE}.*"):
            (os.rmdir if os.path.isdir(name) and not os.path.islink(name) else os.unlink)(name)
    if not os.getuid():
        for what, mode in ("write", 0o755), ("look", 0o700):
            os.chmod(FOLDER, mode)
            done = trace(program, "fork-setuid")
            ok(done.returncode == 3 and is_whole() and "Permission denied" in done.stderr,
               f"a child that may not {what} there: said", done)
        os.chmod(FOLDER, 0o755)
        done = trace(program, "fork-chroot", folder)
        ok(done.returncode == 3 and is_whole() and "No such file" in done.stderr,
           "a child that has another root: said", done)
    inside = os.path.join(FOLDER, "e.trace")
    ok(not os.path.exists(f"{inside}.ran"), "and nothing else was made")


def limits(program):
    """What a program may take from itself: what is lost is counted, and nothing untrue is said."""
    done = trace(program, "no-memory")
    report = subprocess.run([SHUNT, "report", "--json", FILE], capture_output=True, text=True, timeout=60,
                            check=False)
    report = json.loads(report.stdout or "{}")
    found = calls()[0] or {}
    ok(done.returncode == 7 and report.get("lost") == 2000 and "last" not in found and
       "trace: 2000 events are lost" in done.stderr,
       "a thread without memory for a ring: its calls are counted as lost, and it is said", done, found,
       report.get("lost"))
    done = trace(program, "no-descriptor", FILE)
    found, complete = calls()
    ok(done.returncode == 0 and not done.stderr and complete and found["leaf"] >= 100,
       "no descriptor to be had: the session is whole, and nothing is said", done)
    done = trace(program, "no-descriptor", options=["--flight"])
    ok(done.returncode == 0 and is_whole(), "nor for what is kept: it had one", done)
    done = trace(program, "give-up", "bare-descriptors", options=["--flight"])
    ok(done.returncode == 6 and "ended without saying so" in done.stderr and not FILE.exists(),
       "no descriptor to be had for what is kept: said", done)


def sandbox(program):
    """A filter that kills for all but the system calls that the manual says."""
    if not NUMBERS.exists():
        ok(True, f"{NUMBERS} # SKIP not there")
        return
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", NUMBERS.read_text()))
    said = re.search(r"that kills must allow: ([\w, ]+)", " ".join(MANUAL.read_text().replace("\\", "").split()))[1]
    said = said.replace(" and ", ", ").split(", ")
    for options in either():
        # Of either thread's 200,000 events the half wake the recorder, and all have room: none is lost on a busy machine.
        done = trace(program, "sandbox", *(numbers[name] for name in said + OWN_CALLS), options=[*options, *(["--signal", "WINCH"] if options else []), "--ring", "4M"])
        found, complete = calls()
        ok(done.returncode == 8 and not done.stderr and complete and found["leaf"] == 200100,
           f"a filter that allows what the manual says {' '.join(options)}", done, found)
    done = trace(program, "sandbox", *(numbers[name] for name in said[:-1] + OWN_CALLS))
    ok(done.returncode == -signal.SIGSYS, f"control: and not {said[-1]}", done)


def controls(program):
    trace(program, "system-call")
    ok(not is_whole(), "control: a bare system call ends it: its calls are missed")
    done = trace("env", "-u", "SHUNT_TRACE_TELL", program, "system-call")
    ok("before anything was written" not in done.stderr, "control: nobody is told", done)
    folder = FOLDER / "pipes"
    with subprocess.Popen(["cat", folder / "pipe"], stdout=subprocess.DEVNULL) as cat:
        done = subprocess.run([SHUNT, "trace", "-o", folder / "pipe", "--", program, "forks-blind"],
                              timeout=60, capture_output=True, text=True, check=False)
        cat.kill()
    ok(len(listing(folder)) > 1, "control: children that do not look make files beside a FIFO", done)
    done = trace(program)
    ok(not ("linked statically" in done.stderr or done.returncode), "control: nothing to be said", done)


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    subprocess.run(["gcc", "-O2", "-pthread", "-fpatchable-function-entry=5", "-c", SOURCE, "-w", "-o", FOLDER / "ending.o"],
                   check=True)
    link = ["gcc", "-pthread", FOLDER / "ending.o", "-w", "-o"]
    subprocess.run([*link, FOLDER / "ending"], check=True)
    subprocess.run([*link, FOLDER / "ending-static", "-static", "-Wl,-w"], check=True)
    in_order(FOLDER / "ending")
    words(FOLDER / "ending", FOLDER / "ending-static")
    givers_up(FOLDER / "ending")
    images(FOLDER / "ending")
    alone(FOLDER / "ending")
    changed(FOLDER / "ending")
    for_musl()
    unreadable(FOLDER / "ending")
    places(FOLDER / "ending")
    folders(FOLDER / "ending")
    links(FOLDER / "ending")
    takers(FOLDER / "ending")
    limits(FOLDER / "ending")
    sandbox(FOLDER / "ending")
    controls(FOLDER / "ending")
    return finish()


sys.exit(main())
