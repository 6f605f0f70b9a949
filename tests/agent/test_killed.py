#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
The tool is killed in the middle, or its child that holds the thread; and without what leads the thread back; and the
process is. TAP.

    test_killed.py [--all] SHUNT WAIT TARGET KILLED NO_ALTSTACK LOST NO_WAY LATE_RESTART TRUSTS_NUMBER NO_WORKER
                   KEEPS_AGENT LATE_ERRNO

--all: at each step, in more kinds of wait.
"""

import ctypes
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
from attaching import LIMIT, Target, attach_and_detach, beside_libraries, has_agent, is_asleep, shunt, use_tool  # noqa: E402
from tap import finish, ok  # noqa: E402
from waiting import wait_until  # noqa: E402

COMMAND = "0"  # it is killed, and its child goes on
SUBREAPER = 36
STEPS_MAX = 2000
LAST = 12
AMID = 30  # a step behind the mapping of the page


def wait_for_orphans(target):
    """The child of a command that was killed, which is this process's now."""
    for task in os.listdir("/proc/self/task"):
        for child in pathlib.Path(f"/proc/self/task/{task}/children").read_text().split():
            if int(child) != target.pid:
                os.waitpid(int(child), 0)


def die_at(tool, step, target, victim=None):
    """Before its request @step of ptrace the child is killed, or the command is, or process @victim."""
    env = dict(os.environ, INJECT_DIE=str(step))
    if victim is not None:
        env["INJECT_VICTIM"] = victim
    status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid, tool=tool, env=env)
    wait_for_orphans(target)
    return "killed" if status == -signal.SIGKILL or "has been killed" in out else "attached" if status == 0 else f"{status}, {out}"


def goes_on(target, rounds=1):
    before = target.word("rounds")
    return wait_until(lambda: target.word("rounds") >= before + rounds or target.process.poll() is not None) and \
        target.process.poll() is None


def kill_at(tool, step, target, victim):
    """None, or what is wrong then; and whether it was killed."""
    said = die_at(tool, step, target, victim)
    wrong = None
    if said not in ("killed", "attached"):
        wrong = f"step {step}: {said}"
    elif victim == COMMAND and said == "killed" and has_agent(target):
        wrong = f"step {step}: the agent stays"
    elif not goes_on(target, 2) or target.word("wrong"):
        wrong = f"step {step}: {target.word('wrong')} wrong, status {target.process.poll()}"
    if not wrong and has_agent(target):
        status, out = shunt("detach", target.pid)
        wrong = out if status else None
    return wrong, said == "killed"


def kill_at_steps(tool, kind, program, victim, every, every_of_first):
    """The first attach to a process loads the libraries, and has more steps; after each of its kills another process."""
    # What the kernel has ended is begun anew by who holds the thread, and no sooner than it can.
    first = 6 if kind == "epoll_wait" and victim != COMMAND else 1
    wrong, kills, kills_of_first, status = None, 0, 0, 0
    for step in range(first, STEPS_MAX, every_of_first):
        target = Target(program, kind)
        wrong, is_killed = kill_at(tool, step, target, victim)
        kills_of_first += is_killed
        status = status or target.stop()
        if wrong or not is_killed:
            break
    target = Target(program, kind)
    wrong = wrong or attach_and_detach(target)
    for step in range(first, STEPS_MAX, every):
        if wrong:
            break
        wrong, is_killed = kill_at(tool, step, target, victim)
        kills += is_killed
        if not is_killed:
            break
    # The thread is given back in the last ones.
    for step in range(max(first, step - every - LAST), step):
        if not wrong:
            wrong, is_killed = kill_at(tool, step, target, victim)
            kills += is_killed
    wrong = wrong or attach_and_detach(target)
    status = status or target.stop()
    who = "command" if victim == COMMAND else "child"
    ok(not wrong and not status and kills >= 3 and kills_of_first >= 3,
           f"{kind}: the {who} is killed at {kills_of_first} steps of a first attach, {kills} of another: nothing is seen of it", (wrong, status))


def harmed_at(tool, kind, program, steps, victim=None):
    """The step at which the process sees anything of it, or keeps the agent; or None."""
    for step in steps:
        target = Target(program, kind)
        wrong, _ = kill_at(tool, step, target, victim)
        target.kill()
        if wrong:
            return wrong
    return None


def harmed_in_the_end(tool, program):
    """The same at each of the last steps of an attach that loads no libraries."""
    target = Target(program, "read")
    wrong, step, is_killed = attach_and_detach(target), 1, True
    while is_killed and not wrong:
        step += LAST
        wrong, is_killed = kill_at(tool, step, target, None)
    for step in range(step - 2 * LAST, step):
        wrong = wrong or kill_at(tool, step, target, None)[0]
    target.kill()
    return wrong


def harmed_again(tool, program):
    """The same where the wait was stopped before, and goes on as restart_syscall()."""
    target = Target(program, "sem/1500")
    goes_on(target)
    wrong = attach_and_detach(target)
    is_again = wait_until(lambda: is_asleep(target.pid, target.pid, ["219"]))
    wrong = wrong or kill_at(tool, AMID, target, None)[0]
    target.kill()
    return wrong if is_again else "its call was another one"


def process_dies(tool, program, every):
    """The process is killed at each step of the tool, which says so, and ends."""
    step, wrong, refused_at = 1, [], 0
    while step < 2000:
        target = Target(program, "idle")
        status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid, tool=tool,
                            env=dict(os.environ, INJECT_DIE=str(step), INJECT_VICTIM=str(target.pid)))
        target.kill()
        if status == 0:
            break
        refused_at += 1
        if status != 1 or out.count("\n") != 1 or f"process {target.pid}" not in out or "ended" not in out:
            wrong.append(f"step {step}: {status}, {out}")
        step += every
    ok(not wrong and refused_at > 10 and step < 2000, f"the process is killed at {refused_at} steps: each time it is said",
           "\n".join(wrong[:5]))


def killed(kinds, every_of_process, waiting, program, killed_tool, no_altstack, lost, no_way, late_restart,
           trusts_number, no_worker, keeps_agent, late_errno):
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    tool = beside_libraries(killed_tool)
    for kind, (every, every_of_first) in kinds.items():
        for victim in (None, COMMAND):
            kill_at_steps(tool, kind, waiting, victim, every, every_of_first)
    wrong = harmed_again(tool, waiting)
    ok(not wrong, "a wait that was stopped before: nothing is seen of it", wrong)
    for what, control, kind, steps in (
            ("a frame that is right about the alternate stack changes it", no_altstack, "read", range(10, 40)),
            ("without what leads back it is harmed", lost, "read", range(AMID, AMID + 10)),
            ("without a way back before the page is mapped", no_way, "read", range(5, 20)),
            ("epoll_wait() is begun anew when the thread is released, not when it is stopped", late_restart, "epoll_wait", [6])):
        wrong = harmed_at(beside_libraries(control), kind, waiting, steps)
        ok(wrong, f"control: {what}: {wrong}")
    # Not each attempt leaves another errno in the moment in which the tool is killed.
    control = beside_libraries(late_errno)
    wrong = next((w for w in (harmed_in_the_end(control, waiting) for _ in range(8)) if w), None)
    ok(wrong, f"control: errno is put back behind the page that does so: {wrong}")
    wrong = harmed_again(beside_libraries(trusts_number), waiting)
    ok(wrong, f"control: restart_syscall() is made anew: {wrong}")
    wrong = harmed_at(beside_libraries(no_worker), "epoll_wait", waiting, range(3, 6))
    ok(wrong, f"control: the command does it itself: {wrong}")
    wrong = harmed_at(beside_libraries(keeps_agent), "read", waiting, [3], COMMAND)
    ok(wrong and "stays" in wrong, f"control: the child of a command that was killed does not look: {wrong}")
    process_dies(tool, program, every_of_process)


arguments = sys.argv[1:]
if arguments[0] == "--all":
    kinds = {"sem": (1, 7), "epoll_wait": (1, 30), "cond": (5, 30), "read": (5, 30), "poll": (5, 30), "sleep": (5, 30)}
    every_of_process = 7
    del arguments[0]
else:
    kinds, every_of_process = {"sem": (11, 90)}, 40
use_tool(arguments[0])
killed(kinds, every_of_process, *arguments[1:])
sys.exit(finish())
