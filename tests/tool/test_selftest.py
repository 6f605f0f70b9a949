#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
`shunt selftest` in surroundings that take something away: it must say so, end with
the right status, and not hang.

    test_selftest.py SHUNT HAZARD [no-cause]

no-cause: SHUNT is the control, which is not told why a way is not gone: it must be noticed
that a way fails for no cause that is known, and all else be as it is.
"""

import ctypes
import os
import resource
import signal
import struct
import subprocess
import sys

SHUNT, HAZARD = sys.argv[1:3]
NO_CAUSE = sys.argv[3:] == ["no-cause"]
POLICY = "remap" if HAZARD == "remap-only" else "auto"
WAYS = ["alone", "remap", "int3", "atomic", "flip"]

# What must be named as missing, and the ways that do not work. Under a filter nobody asks
# whether the process is alone: the system call for that may be one that kills.
EXPECTED = {
    "blocked": (["SIGTRAP"], ["int3"]),
    "traced": (["no"], []),
    "fork-forbidden": (["poking"], WAYS),
    "mem-forbidden": (["/proc/self/mem"], ["alone", "flip"]),
    "sync-forbidden": ([], ["alone"]),
    "remap-forbidden": (["mremap"], ["alone", "remap"]),
    "remap-only": (["mremap", "poking"], ["alone", "remap"]),  # no site was made direct
}
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
    elif HAZARD in ("remap-forbidden", "remap-only"):
        forbid(25)  # mremap


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
                              env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0",
                                       SHUNT_POKE=POLICY))
    except PermissionError:
        print("1..0 # SKIP the program cannot be run by another user")
        return 0
    lines = done.stdout.splitlines()
    for line in lines:
        print("# " + line)
    said = {verdict: [line.split()[1] for line in lines if line.split()[0] == verdict]
            for verdict in ("ok", "MISSING", "-")}
    missing, broken = EXPECTED[HAZARD]
    failed = [way for way in WAYS if way in said["MISSING"]]
    works = "poking" in said["ok"]
    # A form that does not work is named before its way; under atomic some sites need int3.
    good = [
        (set(missing) <= set(said["MISSING"]), f"says that {missing} are missing"),
        (failed == broken or failed == sorted(broken + ["atomic"], key=WAYS.index), f"{failed} do not work"),
        (all((way in said["ok"]) != (way in failed) for way in WAYS), "each way has its line"),
        (works == (HAZARD not in ("fork-forbidden", "remap-only")), f"works: {works}"),
        (done.returncode == (0 if works else 1), f"status {done.returncode} is the verdict"),
    ]
    all_known = all("not known" not in line.split(None, 2)[-1] for line in lines
                    if line.split()[1] in WAYS)
    good.append((all_known != NO_CAUSE, "control: a way fails for a cause that is not known"
                 if NO_CAUSE else "no way fails for a cause that is not known"))
    traced = [line.split()[0] for line in lines if line.split()[1].startswith("trace-")]
    good.append((all((verdict == "ok") == works for verdict in traced),
                 f"entries are traced where poking works, by the policy: {' '.join(traced)}"))
    if HAZARD == "sync-forbidden":
        good.append(("membarrier" in said["-"] and all(
            "core sync: signals" in line for line in lines
            if line.split()[0] == "ok" and line.split()[1] in WAYS),
            "cores are synchronised by signals"))
    for i, (ok, what) in enumerate(good, 1):
        print(f"{'' if ok else 'not '}ok {i} - {what}")
    print(f"1..{len(good)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
