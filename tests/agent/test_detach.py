#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
shunt detach, and trace -p of a process that it attached to, wait for the end of the agent's thread, and attach for its
beginning. TAP.

    test_detach.py SHUNT TARGET UNTRACEABLE LIBRARIES ENDS_LATE BEGINS_LATE WITHOUT

ENDS_LATE: an agent whose thread ends 1.5 seconds behind its socket. BEGINS_LATE: one whose thread has its name three seconds behind
that. WITHOUT: the tool without its wait for the thread, or any.
"""

import fcntl
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
from attaching import FOLDER, Target, beside, has_agent, shunt, use_tool  # noqa: E402
from tap import finish, ok  # noqa: E402
from waiting import wait_until  # noqa: E402

TRACE = ["trace", "--for", "20ms", "-o", FOLDER.name + "/trace", "-p"]


def ends(process, last, tool):
    """The commands, the last one of which ends the agent, and whether the agent's thread is there behind it."""
    said = ""
    if last == ["detach"]:
        status, said = shunt("attach", process.pid, tool=tool)
        if status:
            return status, said, False
    status, out = shunt(*last, process.pid, tool=tool)
    return status, said + out, has_agent(process)


def begin(program):
    if program == "untraceable":
        process = subprocess.Popen([UNTRACEABLE, "60"])
        wait_until(lambda: "sleep" in pathlib.Path(f"/proc/{process.pid}/comm").read_text())
        return process
    return Target(program, "idle")


def waits(program, late, control):
    for what, last, target, status in (("detach", ["detach"], program, 0), ("trace -p", TRACE, program, 0),
                                       ("trace -p that finds nothing to trace", TRACE, "untraceable", 1)):
        process = begin(target)
        got, said, stays = ends(process, last, late)
        ok(got == status and not stays, f"{what}: the agent's thread is gone behind it", f"{got}: {said}")
        os.environ["SHUNT_WITHOUT"] = "thread"
        got, said, stays = ends(process, last, control)
        del os.environ["SHUNT_WITHOUT"]
        ok(got == status and stays, f"control: {what} waits for its socket alone: the thread is there", f"{got}: {said}")
        process.kill()


def says(program, control):
    """The time is up."""
    os.environ["SHUNT_WITHOUT"] = "end"
    for what, last in ("detach", ["detach"]), ("trace", TRACE):
        process = begin(program)
        got, said, _ = ends(process, last, control)
        ok(got == 1 and f"shunt: {what}: process {process.pid}: the agent (thread " in said and "has not ended in 10 s" in said,
           f"{what}: an agent that does not end in time is told of", f"{got}: {said}")
        process.kill()
    del os.environ["SHUNT_WITHOUT"]


def begins(program, late, control):
    """It is there behind attach; and detach, which comes at once, waits for the end of a thread that has just begun."""
    process = begin(program)
    status, said = shunt("attach", process.pid, tool=late)
    ok(status == 0 and has_agent(process), "attach: the agent's thread is there behind it", said)
    process.kill()
    os.environ["SHUNT_WITHOUT"] = "start"
    process = begin(program)
    status, said = shunt("attach", process.pid, tool=control)
    there = has_agent(process)
    del os.environ["SHUNT_WITHOUT"]
    ok(status == 0 and not there, "control: attach does not wait for it: it is not", said)
    status, said = shunt("detach", process.pid, tool=late)
    ok(status == 0 and not has_agent(process) and process.stop() == 0, "detach behind that: the thread is gone", said)


def attach_beside(program, tool):
    """Another command has the lock of the process's folder. The status, what is said, and whether there is an agent."""
    process = begin(program)
    folder = os.open(f"/proc/{process.pid}", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    status, said = shunt("attach", "--timeout", "300ms", process.pid, tool=tool)
    os.close(folder)
    return process, status, said, has_agent(process)


def one_at_a_time(program, tool, control):
    process, status, said, there = attach_beside(program, tool)
    ok(status == 1 and "is being attached to already, by another command" in said and not there,
       "another command attaches: attach waits, not for ever, and says so", f"{status}: {said}")
    status, said = shunt("attach", process.pid, tool=tool)
    ok(status == 0 and has_agent(process), "when that has ended it attaches", said)
    process.kill()
    os.environ["SHUNT_WITHOUT"] = "lock"
    process, status, said, there = attach_beside(program, control)
    del os.environ["SHUNT_WITHOUT"]
    ok(status == 0 and there, "control: attach does not ask for the lock: both attach", f"{status}: {said}")
    process.kill()


SHUNT, TARGET, UNTRACEABLE, LIBRARIES, ENDS_LATE, BEGINS_LATE, WITHOUT = sys.argv[1:]
use_tool(SHUNT)
late_tool = beside(LIBRARIES, ENDS_LATE)
begins_late_tool = beside(LIBRARIES, BEGINS_LATE)
use_tool(WITHOUT)
control_tool = beside(LIBRARIES, ENDS_LATE, "control")
begins(TARGET, begins_late_tool, beside(LIBRARIES, BEGINS_LATE, "control of begins"))
one_at_a_time(TARGET, SHUNT, control_tool)
waits(TARGET, late_tool, control_tool)
says(TARGET, control_tool)
sys.exit(finish())
