#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A process that ends while a command is at it, and another one that has its number since. TAP.

usage: test_ends.py --few|--all TOOL TARGET AT_STEP     --few: at a fourth of the steps, and not each command with each end

AT_STEP is a library to preload into the tool, which stops before each of its steps in turn: there the process is killed,
and gone, or gone and replaced. Controls: the steps are counted, and the last one is behind the command's end; a tool
that does not ask for errors in the place of SIGPIPE dies at one of them, unworded.
"""
import ctypes
import functools
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile

from agent_client import HAS_ATTACH, LIMIT, tap, wait_until

FEW = sys.argv[1] == "--few"
TOOL, TARGET, AT_STEP = map(os.path.abspath, sys.argv[2:5])
check = tap.check
CLONE3 = 435
STEPS_MAX = 400


def clone_with(pid):
    """As fork(), with a number that is asked for; -1: it cannot be had."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_int(pid)
    # flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size
    args = struct.pack("10Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(number), 1)
    return libc.syscall(CLONE3, args, len(args))


class Process:
    """TARGET, with an agent or without."""

    def __init__(self, *args, fork=os.fork):
        ends = os.pipe()
        self.pid = fork()
        if not self.pid:
            os.dup2(ends[1], 1)
            os.dup2(os.open("/dev/null", os.O_RDWR), 0)
            os.execv(TARGET, [TARGET, *args])
        os.close(ends[1])
        self.is_there = self.pid > 0
        if self.is_there:
            os.read(ends[0], 64)  # it is ready
        os.close(ends[0])

    def kill(self):
        """Whether it is gone then: what is traced is its tracer's to let go."""
        os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: " Z " in pathlib.Path(f"/proc/{self.pid}/stat").read_text())
        self.is_there = "TracerPid:\t0\n" not in pathlib.Path(f"/proc/{self.pid}/status").read_text()
        if not self.is_there:
            os.waitpid(self.pid, 0)
        return not self.is_there

    def end(self):
        if self.is_there:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.is_there = False


def at_step(step, words, mode, after, **more):
    """
    The command, with the process killed before @step, and another one in its place as @after says. Whether it came
    there; its status, or None where it does not end; what it said.
    """
    process, other = Process(*mode), None
    ours, theirs = socket.socketpair()
    env = {**os.environ, "LD_PRELOAD": AT_STEP, "AT_STEP": str(step), "AT_STEP_FD": str(theirs.fileno()), **more}
    with subprocess.Popen([TOOL, *[str(process.pid) if w == "PID" else w for w in words]], env=env, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          pass_fds=[theirs.fileno()]) as command:
        theirs.close()
        has_come = ours.recv(1) != b""
        if has_come:
            if process.kill() and after is not None:
                other = Process(*after, fork=functools.partial(clone_with, process.pid))
            ours.send(b"x")
        try:
            out = command.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            command.kill()
            out = command.communicate()
            command.returncode = None
    ours.close()
    for p in process, other:
        if p:
            p.end()
    return has_come, command.returncode, out


def is_worded(status, out):
    """Done all the same, or a line that says why not."""
    if status not in (0, 1):
        return False
    return status == 0 or bool(re.search(r"^shunt: \w+: .*\w", out[1], re.MULTILINE)) or "has ended" in out[1]


def ends(words, mode, after, what, stride):
    step, failed, bad = 1, 0, []
    while step < STEPS_MAX:
        has_come, status, out = at_step(step, words, mode, after)
        if not is_worded(status, out):
            bad.append((step, status, out))
        failed += status == 1
        if not has_come:
            break
        step += stride
    # Who has the number since may be attached to.
    check(not bad and step < STEPS_MAX and (failed or after is not None), f"{words[0]}: {what} at each of {step} steps, "
          f"{failed} times it could not be done",
          "\n".join(map(str, bad[:3])))


def control():
    for step in range(1, STEPS_MAX):
        has_come, status, out = at_step(step, ["stats", "PID"], [], None, AT_STEP_SIGPIPE="1")
        if not has_come or not is_worded(status, out):
            break
    check(status == -signal.SIGPIPE, f"control: without MSG_NOSIGNAL the tool dies of SIGPIPE, at step {step}: {status}")


COMMANDS = [
    (["list", "PID"], []), (["stats", "PID"], []), (["set", "PID", "debug=on"], []), (["detach", "PID"], []),
    (["snapshot", "-o", "OUT", "PID"], []), (["trace", "-p", "PID", "-F", "traced", "--for", "20ms", "-o", "OUT"], []),
    *([(["attach", "--timeout", "2", "PID"], ["env"])] if HAS_ATTACH else []),
]

print("TAP version 13")
with tempfile.TemporaryDirectory() as folder:
    probe = Process("env")
    probe.end()
    again = Process("env", fork=lambda: clone_with(probe.pid))
    may_clone = again.is_there and again.pid == probe.pid
    again.end()
    control()
    for command, given in COMMANDS:
        if FEW and command[0] in ("list", "set"):  # they ask as stats does
            continue
        command = [folder + "/out" if w == "OUT" else w for w in command]
        ends(command, given, None, "the process ends", 8 if FEW else 2)
        if FEW and command[0] == "snapshot":
            continue
        if not may_clone:
            tap.skip(f"{command[0]}: another process has its number", "no numbers may be asked for")
            continue
        ends(command, given, ["env"], "another process has its number", 11 if FEW else 5)
        if given or (FEW and command[0] != "trace"):
            continue
        ends(command, given, [], "another process with an agent has its number", 11 if FEW else 5)
sys.exit(tap.end())
