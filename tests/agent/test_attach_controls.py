#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
The tool without its checks, and without its trial of the locks. TAP.

    test_attach_controls.py SHUNT TARGET OWN_MALLOC LOCAL_MALLOC ANY_MALLOC UNCHECKED UNPROBED ON_STACK NO_RESTART
                            LIBC_MALLOC KEEPS_STACK LOSES_ERRNO
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
import attaching  # noqa: E402
from attaching import LIMIT, ROUNDS, Target, beside_libraries, growth, shunt, use_tool  # noqa: E402
from tap import finish, ok  # noqa: E402
from waiting import wait_until  # noqa: E402


def on_held_lock(program, tool):
    """Attach with @tool to a process that sleeps on top of malloc(), its lock held."""
    target = Target(program, "held", ready=lambda t: t.word("is_held"))
    if not target.is_ready or not target.word("is_held"):
        return target, (None, "the lock was never met held")
    return target, shunt("attach", "--timeout", "0.5", target.pid, tool=tool)


def harmed_by(tool, kind, program):
    """Whether the process is, by attaching again and again."""
    target = Target(program, kind)
    for _ in range(20):
        shunt("attach", "--timeout", 5, target.pid, tool=tool)
        if target.word("wrong") or target.process.poll() is not None:
            break
        shunt("detach", target.pid)
    wait_until(lambda: target.word("wrong") or target.process.poll() is not None or
               target.word("rounds") > 3)
    return target.stop() != 0


def tried(program, tool):
    """How often the program's own malloc() was tried."""
    target = Target(program, "idle")
    status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid, tool=tool)
    n = target.word("allocated")
    shunt("detach", target.pid)
    return n if status == 0 and target.stop() == 0 else out


def beside_local_malloc(program, module, tool):
    """Attach with @tool where there is a malloc() that is a module's own."""
    target = Target(program, "local_malloc", env=dict(os.environ, ATTACH_MODULE=os.path.abspath(module)))
    status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid, tool=tool)
    ended = target.stop()
    return (status, out) if not ended else (None, f"it ended with {ended}: {out}")


def control(program, own_malloc, local_malloc, any_malloc, unchecked, unprobed, on_stack, no_restart, libc_malloc, keeps_stack, loses_errno):
    n = tried(own_malloc, attaching.TOOL)
    ok(n == 1, "the malloc() that the process has instead of libc's is tried", n)
    n = tried(own_malloc, beside_libraries(libc_malloc))
    ok(n == 0, "control: libc's alone", n)
    status, out = beside_local_malloc(program, local_malloc, attaching.TOOL)
    ok(status == 0, "the malloc() of a library that was loaded with RTLD_LOCAL is not called", out)
    status, out = beside_local_malloc(program, local_malloc, beside_libraries(any_malloc))
    ok(status == 1 and "malloc(): what was called in thread" in out, "control: that of any library is", out)
    grown, _ = growth(program, beside_libraries(keeps_stack))
    ok(grown[3] >= 4 * ROUNDS, f"control: memory grows by {grown[3]} KiB where the stack is not unmapped", grown)
    ok(harmed_by(beside_libraries(on_stack), "red_zone", program),
           "control: calls on the thread's own stack, the 128 bytes below it overwritten")
    ok(harmed_by(beside_libraries(no_restart), "epoll_wait", program),
           "control: a system call that is not restarted")
    ok(harmed_by(beside_libraries(loses_errno), "read", program), "control: errno is what the calls left")
    target, (status, out) = on_held_lock(program, attaching.TOOL)
    ok(status == 1 and "no thread slept" in out, "a lock held beneath a handler: refused", out)
    ok(target.stop() == 0, "that process goes on")
    target, (status, out) = on_held_lock(program, beside_libraries(unchecked))
    ok(status == 1 and "malloc(): a lock of libc stayed taken" in out,
           "control: without the checks of the thread it meets the held lock, before dlopen()", out)
    ok(target.stop() == 0, "and leaves the thread as it was")
    target, (status, out) = on_held_lock(program, beside_libraries(unprobed))
    ok(status == 1 and "dlopen(): a lock of libc stayed taken" in out,
           "control: without the trial of the locks, too, dlopen() is in a deadlock", out)
    target.kill()


use_tool(sys.argv[1])
control(*sys.argv[2:])
sys.exit(finish())
