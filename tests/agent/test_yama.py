#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
shunt attach where yama restricts ptrace, faked in the tool (fake_yama.c), for few kernels have it. TAP.

    test_yama.py SHUNT TARGET FAKE_YAMA WITHOUT
"""

import os
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
import attaching  # noqa: E402
from attaching import FOLDER, LIMIT, Target, WORDS, beside_libraries, shunt, use_tool  # noqa: E402
from tap import finish, ok  # noqa: E402
from waiting import wait_until  # noqa: E402

REASONS = {"1": "only a parent may, or root", "2": "only root may", "3": "nobody may"}


def refused(program, yama):
    for scope, words in REASONS.items():
        target = Target(program, "idle")
        status, out = shunt("attach", target.pid, env=dict(os.environ, LD_PRELOAD=yama, FAKE_YAMA=scope))
        ok(status == 1 and f"is not permitted: /proc/sys/kernel/yama/ptrace_scope is {scope} ({words})" in out,
           f"ptrace_scope {scope}: refused, and said", f"{status}: {out}")
        status, out = shunt("attach", target.pid, env=dict(os.environ, LD_PRELOAD=yama, FAKE_YAMA="0"))
        ok(status == 0 and shunt("detach", target.pid)[0] == 0 and target.stop() == 0, "control: with 0 it is attached to", out)


def by_parent(program, yama, without):
    """The command is the process's parent, and its own child is not an ancestor: it has none then."""
    for tool, check in ((attaching.TOOL, ""), (beside_libraries(without), "yama")):
        with tempfile.NamedTemporaryFile(dir=FOLDER.name) as file:
            file.write(bytes(4096))
            file.flush()
            # The shell becomes the command.
            script = (f'"{program}" idle "{file.name}" >/dev/null 2>&1 & echo $!; '
                      f'exec env FAKE_YAMA=1 SHUNT_WITHOUT={check} LD_PRELOAD="{yama}" "{tool}" attach $!')
            with subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True) as command:
                pid = int(command.stdout.readline())
                out = command.communicate(timeout=LIMIT)[0]
            before = rounds(file)
            goes_on = wait_until(lambda now=file, then=before: rounds(now) > then + 1)
            if check:
                ok(command.returncode == 1 and "not permitted" in out and goes_on,
                   "control: a command that does not know of yama: its child is refused", f"{command.returncode}: {out}")
            else:
                ok(command.returncode == 0 and f"{pid}: attached" in out and goes_on, "ptrace_scope 1: a parent attaches by itself",
                   f"{command.returncode}: {out}")
                status, out = shunt("detach", pid)
                ok(status == 0, "and detaches", out)
            os.kill(pid, signal.SIGKILL)


def rounds(file):
    return struct.unpack_from("Q", pathlib.Path(file.name).read_bytes(), 8 * WORDS.index("rounds"))[0]


use_tool(sys.argv[1])
refused(sys.argv[2], os.path.abspath(sys.argv[3]))
by_parent(os.path.abspath(sys.argv[2]), os.path.abspath(sys.argv[3]), sys.argv[4])
sys.exit(finish())
