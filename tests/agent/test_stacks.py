#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Words of a stack that are of its call chain, and those that are not. TAP.

    test_stacks.py SHUNT NO_CHAIN DISMISS_WORDS FORGETS_FUTEX MODULE STACK...
"""

import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
import attaching  # noqa: E402
from attaching import LIMIT, beside_libraries, is_asleep, shunt, use_tool  # noqa: E402
from tap import finish, ok  # noqa: E402
from waiting import wait_until  # noqa: E402

ALLOCATOR, HANDLER, LOCK, ATTACHED = ("1 in malloc() or the dynamic linker", "1 in a signal handler", " in futex(), but in none of libc's waits",
                                      "was held")
# What the words alone say, and what is the case. Below a function without call frame information words are looked at again.
STACKS = {"none": (ATTACHED, ATTACHED), "malloc": (ALLOCATOR, ATTACHED), "libc_malloc": (ALLOCATOR, ATTACHED),
          "linker": (ALLOCATOR, ATTACHED), "signal_frame": (HANDLER, ATTACHED), "handler_of_wait": (ALLOCATOR, ATTACHED),
          "handler_on_stack": (ALLOCATOR, ATTACHED), "in_malloc": (ALLOCATOR, ALLOCATOR), "far_in_malloc": (ALLOCATOR, ALLOCATOR), "in_dlopen": (ALLOCATOR, ALLOCATOR),
          "in_iterate": (ALLOCATOR, ALLOCATOR), "in_handler": (HANDLER, HANDLER), "in_lock": (ALLOCATOR, LOCK)}
FEW_STACKS = ["linker", "signal_frame", "in_malloc"]  # of all programs but the first
NO_CFI_STACKS = ["none", "malloc", "signal_frame", "in_malloc"]


def attach_to_stack(program, kind, how, module, limit, tool):
    """What the tool says, and whether the process is there still."""
    env = {name: value for name, value in os.environ.items() if name != "ATTACH_HELD"}
    with subprocess.Popen([program, kind, *([how] if how else [])], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          env=dict(env, ATTACH_MODULE=os.path.abspath(module))) as process:
        said = process.stdout.readline()
        wait_until(lambda: all(is_asleep(process.pid, task) for task in os.listdir(f"/proc/{process.pid}/task")))
        status, out = shunt("attach", "--timeout", limit, process.pid, tool=tool)
        is_there = said == b"ready\n" and process.poll() is None
        process.kill()
    return status, out, is_there


def again_in_lock(program, tool):
    """What the second attempt says: the first one has stopped the thread, whose system call is restart_syscall() since."""
    with subprocess.Popen([program, "in_lock"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        wait_until(lambda: is_asleep(process.pid, process.pid))
        shunt("attach", "--timeout", 0.1, process.pid, tool=attaching.TOOL)
        is_again = wait_until(lambda: is_asleep(process.pid, process.pid, ["219"]))
        out = shunt("attach", "--timeout", 0.1, process.pid, tool=tool)[1]
        process.kill()
    return out if is_again else "it is in futex() still"


def stacks(no_chain, dismiss_words, forgets_futex, module, *programs):
    out = again_in_lock(programs[0], attaching.TOOL)
    ok("1 in futex(), but in none of libc's waits" in out, "in a lock, for the second time: refused", out)
    out = again_in_lock(programs[0], beside_libraries(forgets_futex))
    ok(ATTACHED in out, "control: what goes on as restart_syscall() is taken for a sleep", out)
    tools = {"": attaching.TOOL, "control: by words alone: ": beside_libraries(no_chain),
             "control: by no words: ": beside_libraries(dismiss_words)}
    for program in programs:
        rows = [(kind, how) for kind in (STACKS if program == programs[0] else FEW_STACKS) for how in ("", "thread")]
        for kind, how in rows + [(kind, "no_cfi") for kind in NO_CFI_STACKS]:
            for control, tool in tools.items():
                by_words, so = STACKS[kind]
                # Each control where it is to be another result.
                if (control and by_words == so) if tool != tools["control: by no words: "] else so == ATTACHED:
                    continue
                limit = LIMIT / 2 if not control and so == ATTACHED else 0.1
                status, out, is_there = attach_to_stack(program, kind, how, module, limit, tool)
                if tool == attaching.TOOL:
                    good = (status == (so != ATTACHED)) and so in out
                elif "by words" in control:
                    good = status == 1 and by_words in out
                else:
                    good = ATTACHED in out or "a lock of libc stayed taken" in out
                ok(good and is_there, f"{control}{os.path.basename(program)}: {kind} {how}", f"{status}: {out}{is_there}")


use_tool(sys.argv[1])
stacks(*sys.argv[2:])
sys.exit(finish())
