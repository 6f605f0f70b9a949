#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A process that becomes another program, by itself or by another thread's exec(), in the middle of shunt attach and of
shunt trace -p.

usage: test_exec.py TIMES TOOL TARGET IMAGE_STAYS ENDS_SLEEPS

Each attempt works or says why: what went wrong in an image that is gone did so because it is gone. The process goes on,
untraced, and no image of it sees anything of it: descriptors, signals, arguments, time. Controls: a descriptor that outlives
exec(), a signal that is ignored, and sleeps that attach ends, are seen; attach without a look at whether the image is still there gives other reasons.
"""
import mmap
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

from agent_client import LIMIT, default_signals, exit_status, tap, wait_until

TIMES, TOOL, TARGET, IMAGE_STAYS, ENDS_SLEEPS = int(sys.argv[1]), *map(os.path.abspath, sys.argv[2:6])
# Not what happened to a process that goes on.
OTHERS = re.compile("thread N has ended|N has ended|no dlopen|its memory|statically|no glibc|is mapped, but")
check = tap.check
STOP, ROUNDS, WRONG, INTERRUPTED, MOST_MS = range(5)


class Target:
    def __init__(self, folder, **options):
        path = pathlib.Path(folder) / "words"
        path.write_bytes(bytes(4096))
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 4096)
        self.process = subprocess.Popen([TARGET, path], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, **options)
        self.pid = self.process.pid
        wait_until(lambda: self.word(ROUNDS) > 2 or self.process.poll() is not None)

    def word(self, number):
        return struct.unpack_from("Q", self.memory, 8 * number)[0]

    def goes_on(self):
        before = self.word(ROUNDS)
        return wait_until(lambda: self.word(ROUNDS) > before + 1 or self.process.poll() is not None) and \
            self.process.poll() is None

    def tracer(self):
        return re.search(r"^TracerPid:\s*(\d+)", pathlib.Path(f"/proc/{self.pid}/status").read_text(),
                         re.MULTILINE)[1]

    def stop(self):
        struct.pack_into("Q", self.memory, 8 * STOP, 1)
        return exit_status(self.process)


def attempt(target, words):
    """Whether it works; and what is wrong."""
    out = subprocess.run([TOOL, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=LIMIT, check=False)
    if out.returncode not in (0, 1) or (out.returncode and not re.search(r"^shunt: .*\w", out.stdout, re.MULTILINE)):
        return False, f"{words[0]}: {out.returncode}: {out.stdout}"
    if target.tracer() != "0":
        return False, f"{words[0]}: it is still traced: {out.stdout}"
    if "not permitted" in out.stdout:
        return False, f"{words[0]}: it may be attached to: {out.stdout}"
    why = "" if not out.returncode else re.sub(r"\d+", "N", out.stdout.strip().splitlines()[-1])
    REASONS[why] = REASONS.get(why, 0) + 1
    return not out.returncode, None if target.goes_on() else f"{words[0]}: it does not go on: {out.stdout}"


def reason(command):
    """What a control says, where that is not what has happened."""
    out = subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True, timeout=LIMIT, check=False).stdout
    out = re.sub(r"\d+", "N", out.strip())
    return out if OTHERS.search(out) else ""


def with_libraries(folder, program):
    """A control in a tree of its own: an attach that finds no libshunt beside it soon ends."""
    root = pathlib.Path(folder) / os.path.basename(program)
    (root / "tools").mkdir(parents=True)
    (root / "src").symlink_to(pathlib.Path(TOOL).parent.parent / "src")
    return shutil.copy(program, root / "tools/shunt")


REASONS = {}


def attempts(folder):
    target, worked, wrong = Target(folder), 0, []
    commands = (["attach", "--timeout", "0.5", target.pid],
                ["trace", "-p", target.pid, "--for", "20ms", "-o", "/dev/null"])
    for number in range(TIMES):
        works, what = attempt(target, commands[number % 4 == 3])
        worked += works
        wrong += [what] * bool(what)
        if wrong:
            break
    check(not wrong, f"{TIMES} attempts: each works or says why", "\n".join(wrong))
    check(0 < worked < TIMES, f"some do ({worked}), and some do not")
    for why, n in sorted(REASONS.items()):
        print(f"# {n} times: {why or 'it works'}")
    check(not any(map(OTHERS.search, REASONS)), "no reason is another than that it executed a program")
    status = target.stop()
    check(status == 0 and not target.word(WRONG), "no image saw anything of it",
          f"status {status}, wrong: {target.word(WRONG):#x}")
    # Calls that were made in a thread that slept end no sleep: one in twenty attempts at most, by a core sync.
    check(target.word(INTERRUPTED) <= TIMES / 20, f"{target.word(INTERRUPTED)} sleeps were ended by a signal")


def in_the_middle(folder):
    """It sleeps for 2 ms at most: most attempts see several images. The control is to see what they are not to say."""
    target = Target(folder)
    struct.pack_into("Q", target.memory, 8 * MOST_MS, 2)
    others = [reason([TOOL, "attach", "--timeout", "0.5", target.pid]) for _ in range(TIMES)]
    check(not any(others), f"nor is it where it does all the time: {TIMES} attempts", "\n".join(filter(None, others)))
    other, tool = "", with_libraries(folder, IMAGE_STAYS)
    for _ in range(10 * TIMES):
        other = other or reason([tool, "attach", "--timeout", "0.5", target.pid])
    check(other, f"control: where the image is not looked at there is another: {other}")
    status = target.stop()
    check(status == 0 and not target.word(WRONG), "no image saw anything of these",
          f"status {status}, wrong: {target.word(WRONG):#x}")


def ends_sleeps(folder):
    target = Target(folder)
    for _ in range(TIMES):
        if target.word(INTERRUPTED) > TIMES / 20:
            break
        reason([ENDS_SLEEPS, "attach", "--timeout", "0.5", target.pid])
    target.stop()
    check(target.word(INTERRUPTED) > TIMES / 20,
          f"control: attach that ends the sleep of its thread is seen: {target.word(INTERRUPTED)} were ended")


def controls(folder):
    with open(folder + "/open", "w", encoding="ascii") as file:
        target = Target(folder, pass_fds=[file.fileno()])
        check(target.stop() == 1 and target.word(WRONG) == 1, "control: one descriptor more is seen", target.word(WRONG))
    target = Target(folder)
    target.process.send_signal(signal.SIGUSR2)
    check(target.goes_on() and target.stop() == 0, "a signal that it blocks does nothing")
    target = Target(folder, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    check(target.stop() == 1 and target.word(WRONG) & 4, "control: a signal that is ignored is seen", target.word(WRONG))


default_signals()
with tempfile.TemporaryDirectory() as top:
    attempts(top)
    in_the_middle(top)
    controls(top)
    ends_sleeps(top)
sys.exit(tap.end())
