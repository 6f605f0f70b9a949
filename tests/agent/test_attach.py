#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
shunt attach, shunt detach, again and again while each kind of wait checks itself; the process is as before. TAP.

    test_attach.py ATTACHMENTS SHUNT TARGET INSTRUMENTED
"""

import os
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
import attaching  # noqa: E402
from attaching import FOLDER, LIMIT, ROUNDS, Target, WORDS, attach_and_detach, growth, has_agent, same_in_the_end, shunt, use_tool  # noqa: E402
from tap import finish, ok  # noqa: E402
from waiting import wait_until  # noqa: E402

KINDS = ["read", "poll", "poll_limit", "select", "epoll_wait", "epoll_pwait", "sigsuspend",
         "nanosleep", "cond", "cond_limit", "sem", "sem_limit", "barrier", "waitpid", "red_zone"]
FEW_KINDS = ["poll_limit", "epoll_pwait", "red_zone"]


def waits_of(kind, program, times):
    busy = ("rounds", "allocated", "loaded", "forked", "handled")
    target = Target(program, kind, ready=lambda t: all(map(t.word, busy)))
    threads = target.names("task")
    wrong = attach_and_detach(target)
    before = {name: target.word(name) for name in WORDS}
    for _ in range(times):
        wrong = wrong or attach_and_detach(target)
    # With a time of its own the wait ends although it is disturbed all the time.
    while not wrong and target.word("rounds") < before["rounds"] + 2:
        wrong = attach_and_detach(target)
    goes_on = all(wait_until(lambda n=name: target.word(n) > before[n])
                  for name in busy)
    ok(not wrong, f"{kind}: attached and detached", wrong)
    ok(goes_on, f"{kind}: all threads go on")
    ok(same_in_the_end(target, "task", threads), f"{kind}: the same threads",
           f"{threads} {target.names('task')}")
    status = target.stop()
    ok(status == 0 and not target.word("wrong"), f"{kind}: no wait saw anything of it",
           f"status {status}, {target.word('wrong')} wrong")


def print_to_full(*words):
    """The command's status, and what it says on standard error, where standard output takes nothing."""
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([attaching.TOOL, *map(str, words)], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=LIMIT, check=False)
    return done.returncode, done.stderr


def idle_is_as_before(program, times):
    target = Target(program, "idle")
    fds, threads = target.names("fd"), target.names("task")

    def again():
        return attach_and_detach(target)

    # What is loaded, and libc's store of stacks, stays.
    wrong = [again(), again()]
    before = target.maps(), fds, threads
    wrong = [w for w in wrong + [again() for _ in range(times)] if w]
    after = target.maps(), target.names("fd"), target.names("task")
    ok(before == after and not wrong, "mappings, descriptors and threads are as before",
           f"{wrong}\n{set(before[0]) ^ set(after[0])}\n{before[1:]}\n{after[1:]}")
    first, second = shunt("attach", target.pid), shunt("attach", target.pid)
    ok(first[0] == second[0] == 0 and "attached already" in second[1],
           "a second attach finds the first", second)
    said = print_to_full("attach", target.pid)
    ok(said == (1, f"shunt: attach: process {target.pid}: it was attached already; standard output: No space left on device\n"),
       "what cannot be printed is said, and that it is done", said)
    said = print_to_full("detach", target.pid)
    ok(said == (1, f"shunt: detach: process {target.pid}: it is detached; standard output: No space left on device\n") and
       not has_agent(target), "so it is of detach", said)
    said = print_to_full("attach", target.pid)
    ok(said == (1, f"shunt: attach: process {target.pid}: it is attached; standard output: No space left on device\n") and
       has_agent(target), "and of attach", said)
    status, out = shunt("detach", target.pid)
    gone, text = shunt("detach", target.pid)
    ok(status == 0 and gone == 1 and "has no agent" in text, "a second detach finds none",
           out + text)
    ok(target.stop() == 0, "it ends as it would have")


FEW = 10  # attachments or less: of each kind of row one


def nothing_grows(program, rounds):
    (fds, mappings, threads, memory), wrong = growth(program, rounds=rounds)
    # What the recorder takes may fall into one mapping or two. A page for each session would be 4 KiB.
    ok(fds == threads == 0 and abs(mappings) < max(rounds / 4, 2) and memory < 2 * rounds and not wrong,
       f"{rounds} rounds: {fds} descriptors, {mappings} mappings, {threads} threads, {memory} KiB of memory more", wrong)


def differences(before, after):
    """Where text is another, in words; of what is in @after."""
    lines = []
    for place, text in [(p, text) for p, text in before.items() if p in after]:
        at = [i for i, byte in enumerate(text) if byte != after[place][i]]
        if at:
            lines.append(f"{place}: {len(at)} bytes, the first at {at[0]:#x}: {text[at[0]:at[0] + 8].hex(' ')} -> "
                         f"{after[place][at[0]:at[0] + 8].hex(' ')}")
    return lines


def record(target, before, *options):
    """A session during which text is another; what went wrong."""
    file = FOLDER.name + "/recorded"
    pathlib.Path(file).unlink(missing_ok=True)  # it is there when the session has been answered for
    tracing = subprocess.Popen([attaching.TOOL, "trace", "-p", str(target.pid), "-o", file, *options],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    # The program's own alone: to read all of it takes longer than what is waited for.
    program = os.path.basename(target.process.args[0])
    changed = wait_until(lambda: tracing.poll() is not None or
                         (os.path.exists(file) and differences(before, target.text(of=program))))
    rounds = target.word("rounds")
    wait_until(lambda: target.word("rounds") > rounds + 1)
    tracing.send_signal(signal.SIGINT)
    out = tracing.communicate(timeout=LIMIT)[0]
    if not changed or tracing.returncode or ", 0 events" in ", " + out:
        return f"control: text is another while it is traced: {changed}, {out}"
    return None


def text_is_as_before(program, kind="text", times=3):
    """Byte for byte, of the program and its libraries, however often it was traced."""
    target = Target(program, "poll")
    before, fds = target.text(), target.names("fd")
    for what in ("attached by trace -p", "attached before", "attached and not traced"):
        wrong = None
        for _ in range(times):
            if what != "attached by trace -p":
                status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid)
                wrong = wrong or (out if status else None)
            if what != "attached and not traced":
                wrong = wrong or record(target, before)
            if what != "attached by trace -p":
                status, out = shunt("detach", target.pid)
                wrong = wrong or (out if status or "not as in" in out else None)
            else:
                wait_until(lambda: not has_agent(target))
        ok(not wrong, f"{kind}, {what}: sessions", wrong)
        changed = differences(before, target.text())
        ok(not changed, f"{kind}, {what}: byte for byte as before", "\n".join(changed))
        ok(same_in_the_end(target, "fd", fds), f"{kind}, {what}: descriptors as before",
               f"{fds} {target.names('fd')}")
    ok(target.stop() == 0 and not target.word("wrong"), f"{kind}: it ends as it would have")


def waits(attachments, program, instrumented):
    few = int(attachments) <= FEW
    idle_is_as_before(program, 2 if few else 5)
    text_is_as_before(program, times=1 if few else 3)
    if not few:
        text_is_as_before(instrumented, "text of -finstrument-functions")
    nothing_grows(program, 4 if few else ROUNDS)
    kinds = FEW_KINDS if few else KINDS
    for kind in kinds:
        waits_of(kind, program, -(-int(attachments) // len(kinds)))


use_tool(sys.argv[2])
waits(sys.argv[1], *sys.argv[3:])
sys.exit(finish())
