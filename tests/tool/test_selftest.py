#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
`shunt selftest` in surroundings that take something away: it must say so, end with
the right status, and not hang.

    test_selftest.py SHUNT HAZARD
"""

import ctypes
import os
import resource
import signal
import struct
import subprocess
import sys

SHUNT, HAZARD = sys.argv[1:3]
libc = ctypes.CDLL(None, use_errno=True)


def forbid(number, argument=None, value=None):
    """A seccomp filter: system call @number (with an argument of that value) fails with EPERM."""
    load, jump, give = 0x20, 0x15, 0x06
    code = [(load, 0, 0, 0), (jump, 0, 3 if argument is not None else 1, number)]
    if argument is not None:
        code += [(load, 0, 0, 16 + 8 * argument), (jump, 0, 1, value)]
    code += [(give, 0, 0, 0x00050001), (give, 0, 0, 0x7fff0000)]
    program = b"".join(struct.pack("<HBBI", *c) for c in code)
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(buffer))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, fprog, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def before_exec():
    if HAZARD == "blocked":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTRAP})
    elif HAZARD == "fork-forbidden":
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        libc.setresuid(65534, 65534, 65534)
    elif HAZARD == "mem-forbidden":
        forbid(18)  # pwrite64
    elif HAZARD == "sync-forbidden":
        forbid(324)  # membarrier


def main():
    command = [SHUNT, "selftest"]
    if HAZARD == "traced":
        if subprocess.run(["which", "strace"], capture_output=True, check=False).returncode:
            print("1..0 # SKIP no strace")
            return 0
        command = ["strace", "-f", "-o", "/dev/null"] + command
    try:
        # A leak checker cannot work under a tracer, and would make the status its own.
        done = subprocess.run(command, preexec_fn=before_exec, capture_output=True, text=True,
                              timeout=100, check=False,
                              env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
    except PermissionError:
        print("1..0 # SKIP the program cannot be run by another user")
        return 0
    lines = done.stdout.splitlines()
    for line in lines:
        print("# " + line)
    missing = [line.split()[1] for line in lines if line.startswith("MISSING")]
    works = any(line.split()[:3] == ["ok", "trap", "path"] for line in lines)
    expected = {
        "blocked": "SIGTRAP", "traced": "no", "fork-forbidden": "trap",
        "mem-forbidden": "/proc/self/mem", "sync-forbidden": "membarrier",
    }[HAZARD]
    good = [
        (expected in missing, f"says that {expected} is missing"),
        (done.returncode == (0 if works else 1), f"status {done.returncode} is the verdict"),
    ]
    for i, (ok, what) in enumerate(good, 1):
        print(f"{'' if ok else 'not '}ok {i} - {what}")
    print(f"1..{len(good)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
