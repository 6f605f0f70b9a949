#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
A system call with a part of its work done is not disturbed; a thread alone below sem_wait() and others. TAP.

    test_reads.py SHUNT READS ANY_READ TARGET NO_TAILS ANY_CALL
"""

import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
import attaching  # noqa: E402
from attaching import LIMIT, Target, beside_libraries, is_asleep, shunt, use_tool  # noqa: E402
from tap import finish, ok, skip  # noqa: E402
from waiting import wait_until  # noqa: E402

# What it gives when it is whole. A part is done when the tool comes: the thread is not taken.
PARTS = {"recv_waitall": 10, "recv_waitall_tcp": 10, "recvmsg_waitall": 10, "read_rcvlowat_tcp": 10, "recv_rcvlowat": 10,
         "read_tty_vmin": 10}
ELSEWHERE = {"readv_tty_vmin": 10, "recvmmsg": 2, "write_pipe": 1 << 20, "writev_pipe": 1 << 20, "write_socket": 1 << 20,
             "send_socket": 1 << 20, "sendfile_socket": 1 << 20, "msgrcv": 10, "semop": 0}
# Nothing is done yet: it is.
WHOLE = {"read_pipe": 10, "read_socket": 10, "read_socket_limit": 10, "recv_tcp": 10, "recvmsg_datagram": 10, "accept": 10,
         "accept_limit": 10, "read_tty_lines": 10, "read_tty_one": 10, "read_master": 10, "read_eventfd": 8,
         "read_timerfd": 8, "read_inotify": 16}
PAUSE_32 = "29"  # i386's
KEPT = 77  # errno, before the call


def attach_in_call(program, kind, tool=None):
    """What the tool said, and what the call gave: result and errno."""
    with subprocess.Popen([program, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        pid = process.stdout.readline().strip()
        status, out = shunt("attach", "--timeout", "0.2", pid, tool=tool)
        try:
            rest = process.communicate("\n", timeout=LIMIT)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            rest = "-1 0"
        return status, out, [int(word) for word in rest.split()]


def alone(program, no_tails):
    """One thread alone, which waits for good: for a lock or for anything else."""
    for kind in ("sem", "sem_limit", "barrier", "mutex", "mutex_limit", "bare_futex"):
        for tool in (attaching.TOOL, beside_libraries(no_tails)):
            target = Target(program, "alone_" + kind)
            status, out = shunt("attach", "--timeout", "0.5", target.pid, tool=tool)
            is_lock = kind.startswith(("mutex", "bare")) or tool != attaching.TOOL
            ok((status == 1 and "1 in futex(), but in none of libc's waits" in out) if is_lock else status == 0,
                   f"{'control: ' * (tool != attaching.TOOL)}alone in {kind}: {'refused' if is_lock else 'attached'}", f"{status}: {out}")
            if not status:
                status, out = shunt("detach", target.pid)
                ok(status == 0 and target.process.poll() is None and not target.word("wrong"), f"alone in {kind}: it waits on", out)
            target.kill()


def by_int80(program, any_call):
    """A system call as of a program of 32 bits, whose numbers are others."""
    for tool, words in ((attaching.TOOL, "1 in a system call by int 0x80"), (beside_libraries(any_call), None)):
        target = Target(program, "alone_int80")
        wait_until(lambda now=target: target.process.poll() is not None or is_asleep(now.pid, now.pid, [PAUSE_32]))
        if target.process.poll() is not None:
            skip("int 0x80", "this kernel has no such calls")
            return
        status, out = shunt("attach", "--timeout", "0.2", target.pid, tool=tool)
        ok(status == 1 and (words in out if words else "int 0x80" not in out),
               f"{'' if words else 'control: '}in a system call by int 0x80", f"{status}: {out}")
        target.kill()


def held_beside_limit(program, tool):
    """Whether the main thread is held, whose recv() has a time limit, though another sleeps without one."""
    target = Target(program, "socket_limit")
    recvfrom, pause = "45", "34"  # x86-64's
    wait_until(lambda: {recvfrom, pause} == {pathlib.Path(f"/proc/{target.pid}/task/{task}/syscall").read_text().split()[0]
                                             for task in os.listdir(f"/proc/{target.pid}/task")})
    status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid, tool=tool)
    target.kill()
    return f"thread {target.pid} was held" in out if status == 0 else out


def reads(program, any_read, target, no_tails, any_call):
    by_int80(target, any_call)
    held = held_beside_limit(target, attaching.TOOL)
    ok(held is False, "SO_RCVTIMEO: another thread is taken first", held)
    held = held_beside_limit(target, beside_libraries(any_read))
    ok(held is True, "control: the first one", held)
    alone(target, no_tails)
    for kinds, wanted, words in ((PARTS, 1, "1 in reads that would return a part"), (ELSEWHERE, 1, "1 in other system calls"),
                                 (WHOLE, 0, "attached")):
        for kind, whole in kinds.items():
            status, out, got = attach_in_call(program, kind)
            ok(status == wanted and words in out and got == [whole, KEPT], f"{kind}: {'not taken' if wanted else 'attached'}, and whole",
                   f"{status}: {out}{got}")
    tool = beside_libraries(any_read)
    for kind in PARTS:
        status, out, got = attach_in_call(program, kind, tool)
        ok(got[:1] == [2], f"control: {kind}: taken, it returns a part", f"{status}: {out}{got}")


use_tool(sys.argv[1])
reads(*sys.argv[2:])
sys.exit(finish())
