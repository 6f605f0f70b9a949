#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Processes that cannot be attached to, and why. TAP.

    test_refused.py SHUNT TARGET STATIC MODULE LIBRARIES LOUD WITHOUT TSAN
"""

import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
import attaching  # noqa: E402
from attaching import FOLDER, LIMIT, Target, attach_and_detach, beside, beside_libraries, shunt, use_tool  # noqa: E402
from tap import finish, ok, skip  # noqa: E402
from waiting import wait_until  # noqa: E402

NOBODY = 65534


def refused(what, pid, words, *options, **kwargs):
    status, out = shunt("attach", "--timeout", "0.2", *options, pid, **kwargs)
    ok(status == 1 and words in out, f"refused: {what}", f"{status}: {out}")


def refused_states(program):
    target = Target(program, "idle")
    target.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: " T " in pathlib.Path(f"/proc/{target.pid}/stat").read_text())
    refused("a stopped process", target.pid, "is stopped")
    target.process.send_signal(signal.SIGCONT)
    libc = ctypes.CDLL(None, use_errno=True)
    seize, detach = 0x4206, 17
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(seize, target.pid, None, None) == 0:
        refused("a traced process", target.pid, f"traced already, by process {os.getpid()}")
        os.kill(target.pid, signal.SIGSTOP)
        os.waitpid(target.pid, 0)
        libc.ptrace(detach, target.pid, None, None)
        os.kill(target.pid, signal.SIGCONT)
    else:
        skip("refused: a traced process", os.strerror(ctypes.get_errno()))
    ok(target.stop() == 0, "it goes on")
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    refused("a zombie", child, "a zombie")
    os.waitpid(child, 0)
    refused("no process", child, f"no process {child}")
    mixed = Target(program, "read")
    thread = max(map(int, os.listdir(f"/proc/{mixed.pid}/task")))
    refused("a thread", thread, f"is a thread of process {mixed.pid}")
    ok(mixed.stop() == 0, "the thread's process goes on")


def no_more_threads(libraries=None):
    """Behind unshare() of a PID namespace; the reason is for who attaches, not for the process's standard error. With
    @libraries the tool is one that has these beside it, whose agent says it there: the control."""
    code = ("import ctypes, sys\n"
            "print(ctypes.CDLL(None).unshare(0x20000000), flush=True)\n"
            "sys.stdin.read()\n")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        if process.stdout.readline() != "0\n":
            skip("refused: a process that may start no thread", "no namespaces may be made")
            process.kill()
            return
        tool = beside(*libraries) if libraries else None
        status, out = shunt("attach", "--timeout", LIMIT / 2, process.pid, tool=tool)
        ok(status == 1 and "agent: pthread_create: " in out, "refused: a process that may start no thread", f"{status}: {out}")
        said = process.communicate()[1]
        if libraries:
            ok("agent: pthread_create: " in said, "control: with an agent that says it there, too, it does", said)
        else:
            ok(process.returncode == 0 and not said, "which goes on, and says nothing of it", said)


def filtered(program):
    """A system call that the agent's start makes is refused: a line says which, and nothing is left."""
    for name, words in (("mmap", "mmap"), ("openat", "cannot open shared object file"), ("pipe2", "agent: its pipe"), ("socket", "agent: the socket in"),
                        ("bind", "agent: the socket in"), ("clone3", "agent: pthread_create")):
        target = Target(program, "refuse_" + name, stderr=subprocess.PIPE)
        before = target.names("fd"), target.names("task")
        status, out = shunt("attach", "--allow-seccomp", target.pid)
        after = target.names("fd"), target.names("task")
        ok(status == 1 and words in out and "Operation not permitted" in out, f"{name} is refused: it is said", f"{status}: {out}")
        ended = target.stop()
        said = target.process.stderr.read()
        ok(not ended and before == after and not said, f"{name} is refused: the process goes on as before",
               f"{ended}, {before}, {after}, {said}")


def under_tsan(program, without):
    """Its report of threads at the end would name the agent's, and change the exit status."""
    if program == "none":
        skip("refused: a process under ThreadSanitizer", "there is none here")
        return
    target = Target(program, "idle")
    refused("a process under ThreadSanitizer", target.pid, "runs under ThreadSanitizer")
    ok(target.stop() == 0, "which ends as it would have")
    target = Target(program, "idle", stderr=subprocess.DEVNULL)
    env = dict(os.environ, SHUNT_WITHOUT="tsan")
    said = [shunt(*words, target.pid, tool=beside_libraries(without), env=env) for words in (["attach", "--timeout", LIMIT / 2], ["detach"])]
    ended = target.stop()
    ok(not any(status for status, _ in said) and ended != 0, f"control: attached and detached all the same it ends with {ended}", said)


INIT = """
import ctypes, os, sys
# The first process of a namespace cannot end before all others there have been waited for: one is this program's, which
# does not wait until it is told to.
libc = ctypes.CDLL(None, use_errno=True)
if libc.setns(os.open(f"/proc/{sys.argv[1]}/ns/pid", os.O_RDONLY), 0x20000000):
    sys.exit(os.strerror(ctypes.get_errno()))
child = os.fork()
if not child:
    os.execvp("sleep", ["sleep", "1000"])
print(child, flush=True)
sys.stdin.read()
os.waitpid(child, 0)
"""


def about_to_end():
    """In the middle of exit(): it has no memory any more, and is no zombie yet."""
    unshare = shutil.which("unshare")
    options = ["--pid", "--fork", "--kill-child"]
    if os.geteuid() or not unshare or subprocess.run([unshare, *options, "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        skip("refused: a process that is about to end", "no namespaces may be made")
        return
    with subprocess.Popen([unshare, *options, "sleep", "1000"], stdin=subprocess.DEVNULL) as parent:
        wait_until(lambda: children_of(parent.pid))
        pid = children_of(parent.pid)[0]
        with subprocess.Popen([sys.executable, "-c", INIT, str(pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            other.stdout.readline()
            status, out = shunt("list", pid)
            ok(status == 1 and f"process {pid} has no agent in it" in out, "control: before, it is a process as any other", out)
            os.kill(pid, signal.SIGKILL)
            is_ending = wait_until(lambda: "VmSize" not in pathlib.Path(f"/proc/{pid}/status").read_text())
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            ok(is_ending and state not in "ZX", "its memory is gone, and it is no zombie", state)
            for command in "attach", "list", "detach":
                status, out = shunt(command, pid)
                ok(status == 1 and f"process {pid} is about to end" in out, f"{command}: a process that is about to end", f"{status}: {out}")
            status, out = shunt("trace", "-o", "/dev/null", "-p", pid)
            ok(status == 1 and f"process {pid} is about to end" in out, "trace -p: a process that is about to end", f"{status}: {out}")
            other.communicate()
        parent.wait()
    ok(not os.path.exists(f"/proc/{pid}"), "it has ended")


def children_of(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def refused_users(program):
    if os.geteuid():
        refused("another user's process", 1, "another user's")
        return
    folder = pathlib.Path(FOLDER.name)
    folder.chmod(0o755)
    tool, copy = folder / "shunt", folder / "target"
    shutil.copy(attaching.TOOL, tool)
    shutil.copy(program, copy)

    def as_nobody():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    target = Target(program, "idle")
    refused("another user's process", target.pid, "is another user's", tool=tool,
            preexec_fn=as_nobody)
    status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid)
    ok(status == 0, "root attaches to it", out)
    refused("another user's process that has an agent", target.pid, "is another user's", tool=tool, preexec_fn=as_nobody)
    ok(target.stop() == 0, "root's process goes on")
    target = Target(copy, "undumpable", preexec_fn=as_nobody)
    refused("one that may not be dumped", target.pid, "dumpable", tool=tool,
            preexec_fn=as_nobody)
    ok(target.stop() == 0, "that goes on")


def without_first_thread():
    """Its first thread has ended, which is not the process's end."""
    code = ("import ctypes, threading, time\n"
            "def run():\n while True: time.sleep(0.01)\n"
            "threading.Thread(target=run).start()\n"
            "ctypes.CDLL(None).syscall(60, 0)\n")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL) as process:
        pid = process.pid
        gone = wait_until(lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        ok(gone and not pathlib.Path(f"/proc/{pid}/maps").read_text(), "control: its own folder has no memory")
        for words in (["attach", pid], ["list", pid, "modules"], ["stats", pid], ["detach", pid]):
            status, out = shunt(*words)
            ok(status == 0, f"its first thread has ended: {words[0]}", out)
        ok(process.poll() is None, "and it goes on")
        process.kill()


def linker_is_held(program, module):
    """The dynamic linker's lock is another thread's for longer than a thread is looked for: a constructor's."""
    held = FOLDER.name + "/held"
    target = Target(program, "linker", env=dict(os.environ, ATTACH_MODULE=module, ATTACH_HELD=held),
                    ready=lambda t: os.path.exists(held))
    refused("the dynamic linker's lock stays taken", target.pid, "the dynamic linker: a lock of libc stayed taken")
    with subprocess.Popen([attaching.TOOL, "attach", str(target.pid)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as command:
        time.sleep(6)
        os.unlink(held)
        out = command.communicate(timeout=LIMIT)[0]
        ok(command.returncode == 0, "it is waited for longer than for a thread", out)
    status, out = shunt("detach", target.pid)
    ok(status == 0 and target.stop() == 0, "that process goes on", out)


def refused_kinds(program, static):
    target = Target(program, "seccomp")
    refused("a filter of system calls", target.pid, "seccomp mode 2")
    status, out = shunt("attach", "--allow-seccomp", target.pid)
    ok(status == 0, "--allow-seccomp does it", out)
    status, out = shunt("detach", target.pid)
    ok(status == 0 and target.stop() == 0, "the filtered process goes on", out)
    if static != "none":
        target = Target(static, "idle")
        refused("a static program", target.pid, "statically")
        ok(target.stop() == 0, "the static program goes on")
    target = Target(program, "no_headers")
    refused("damaged headers of libc in its memory", target.pid, "is mapped, but its headers and symbols in memory are not those")
    ok(target.stop() == 0, "which it does not need")
    target = Target(program, "handler_wait")
    wrong = attach_and_detach(target)
    ok(not wrong, "in a handler that has interrupted a wait: attached", wrong)
    ok(target.stop() == 0, "it goes on, too")
    target = Target(program, "handler_code")
    refused("in a handler that has interrupted anything else", target.pid, "in a signal handler")
    ok(target.stop() == 0, "which goes on")
    target = Target(program, "allocating", ready=lambda t: t.word("allocated"))
    refused("a process that is in malloc() all the time", target.pid, "no thread slept")
    ok(target.stop() == 0, "that goes on allocating")


use_tool(sys.argv[1])
program, static, module = sys.argv[2:5]
refused_states(program)
no_more_threads()
no_more_threads(sys.argv[5:7])
filtered(program)
under_tsan(sys.argv[8], sys.argv[7])
about_to_end()
refused_users(program)
refused_kinds(program, static)
linker_is_held(program, module)
without_first_thread()
sys.exit(finish())
