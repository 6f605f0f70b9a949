#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
`shunt selftest` in surroundings that take something away: what each line says of it, and the status. Whatever is taken: the
status is 1 where a line says MISSING, and no other; each way has one line; no line says that something works by what
another one says is not to be had.

    test_selftest.py SHUNT HAZARD [no-cause]

no-cause: SHUNT is the control, which is not told why a way is not gone: it must be noticed
that a way fails for no cause that is known, and all else be as it is.
"""

import collections
import ctypes
import errno
import os
import pathlib
import platform
import resource
import shutil
import signal
import struct
import subprocess
import sys

sys.dont_write_bytecode = True  # not into the source tree
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "common"))
import tap  # pylint: disable=wrong-import-position

SHUNT, HAZARD = sys.argv[1:3]
NO_CAUSE = sys.argv[3:] == ["no-cause"]
IS_ARM = platform.machine() == "aarch64"
POLICY = "remap" if HAZARD == "remap-only" else "auto"
WAYS = ["flip", "remap", "atomic"] if IS_ARM else ["alone", "remap", "int3", "atomic", "flip"]
NUMBERS = {"pwrite64": 68, "membarrier": 283, "mremap": 216, "ptrace": 117} if IS_ARM else {
    "pwrite64": 18, "membarrier": 324, "mremap": 25, "ptrace": 101}
FORBIDDEN = {"mem-forbidden": ["pwrite64"], "sync-forbidden": ["membarrier"], "remap-forbidden": ["mremap"],
             "remap-only": ["mremap"], "mem-and-remap-forbidden": ["pwrite64", "mremap"], "mem-and-remap-faked": ["pwrite64", "mremap"],
             "ptrace-forbidden": ["ptrace"]}

Expected = collections.namedtuple("Expected", "no missing unknown", defaults=[set(), set()])
TRACED = {"trace"}  # of whatever kinds there are
# Flips, before another way has come to the other writer, which is kept then: on x86-64 the program's first update has.
BY_FIRST_WRITER = {"flip"} if IS_ARM else set()

# What is not to be had, what is missing for that, what was not tried. Under a filter nobody asks whether the process is
# alone: the system call for that may be one that kills.
EXPECTED = {
    "nothing": Expected(set()),
    "blocked": Expected({"SIGTRAP", "int3", "atomic"}),  # by which some sites need int3
    "traced": Expected({"no tracer"}),
    "fork-forbidden": Expected(set(), {"poking"} | TRACED, {"/proc/self/mem", "mprotect", "mremap"} | set(WAYS)),
    "mem-forbidden": Expected({"/proc/self/mem", "alone", "flip"}),
    "sync-forbidden": Expected({"membarrier", "alone"}),
    "remap-forbidden": Expected({"mremap", "alone", "remap"}),
    # No site was made direct; but where nothing traps flips do it.
    "remap-only": Expected({"mremap", "alone", "remap"}, set() if IS_ARM else {"sites", "poking"} | TRACED),
    "mem-and-remap-forbidden": Expected({"/proc/self/mem", "mremap", "alone", "remap"} | BY_FIRST_WRITER),
    # Nothing is done, and 0 returned.
    "mem-and-remap-faked": Expected({"/proc/self/mem", "mremap", "alone", "remap"} | BY_FIRST_WRITER),
    "ptrace-forbidden": Expected({"alone"}),
    "no-writable-text": Expected({"mprotect", "atomic"}),
    "no-proc": Expected({"/proc/self/mem"} | BY_FIRST_WRITER, set(), {"no tracer"}),
    # Opened before it begins to try: a program's updates go on.
    "few-descriptors": Expected(set(), TRACED, {"/proc/self/mem"}),
}
CANNOT = 77  # be taken away here: the status of what would have been the program
libc = ctypes.CDLL(None, use_errno=True)


def answer(names, error):
    """A seccomp filter: what these system calls come to."""
    load, jump, give = 0x20, 0x15, 0x06
    code = [(load, 0, 0, 0)]
    for name in names:
        code += [(jump, 0, 1, NUMBERS[name]), (give, 0, 0, 0x00050000 | error)]
    code.append((give, 0, 0, 0x7fff0000))
    program = b"".join(struct.pack("<HBBI", *c) for c in code)
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(buffer))
    return not libc.prctl(38, 1, 0, 0, 0) and not libc.prctl(22, 2, fprog, 0, 0)


def hide_proc():
    """In a mount namespace of its own; by another user than root in a user namespace."""
    new_mounts, new_user, private = 0x20000, 0x10000000, 0x44000
    return (not libc.unshare(new_mounts | (new_user if os.geteuid() else 0)) and
            not libc.mount(b"none", b"/", None, private, None) and
            not libc.mount(b"none", b"/proc", b"tmpfs", 0, None))


def take_away():
    if HAZARD == "blocked":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTRAP})
    elif HAZARD == "fork-forbidden":
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        return not libc.setresuid(65534, 65534, 65534)
    elif HAZARD == "few-descriptors":
        resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6))
    elif HAZARD == "no-writable-text":
        return not libc.prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE; Linux 6.3
    elif HAZARD == "no-proc":
        return hide_proc()
    elif HAZARD in FORBIDDEN:
        return answer(FORBIDDEN[HAZARD], 0 if "faked" in HAZARD else errno.EPERM)
    return True


def before_exec():
    if not take_away():
        os._exit(CANNOT)


def run():
    command = ["strace", "-f", "-o", "/dev/null"] if HAZARD == "traced" else []
    # A leak checker cannot work under a tracer, and would make the status its own.
    return subprocess.run([*command, SHUNT, "selftest"], preexec_fn=before_exec, capture_output=True, text=True,
                          timeout=100, check=False,
                          env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0", SHUNT_POKE=POLICY))


Line = collections.namedtuple("Line", "verdict subject details")


def subjects(lines, verdict):
    """Those that are said to be so; of the kinds of entries one word."""
    found = {line.subject for line in lines if line.verdict == verdict}
    return {"trace" if subject.startswith("trace-") else subject for subject in found}


def contradictions(said):
    """What works by something that is not to be had."""
    good = {subject: line for subject, line in said.items() if line.verdict == "ok"}
    found = ["remap"] if "remap" in good and said["mremap"].verdict in ("no", "MISSING") else []
    for way in WAYS:
        if way in good and "; write: " in good[way].details:
            writer = good[way].details.split("; write: ")[1].split(";")[0]
            found += [f"{way}: {writer}"] if writer not in said or said[writer].verdict in ("no", "MISSING") else []
    return found


def main():
    if HAZARD == "traced" and not shutil.which("strace"):
        print("1..0 # SKIP no strace")
        return 0
    try:
        done = run()
    except PermissionError:
        print("1..0 # SKIP the program cannot be run by another user")
        return 0
    if done.returncode == CANNOT:
        print(f"1..0 # SKIP {HAZARD}: not to be had here")
        return 0
    print("# " + "\n# ".join(done.stdout.splitlines()))
    lines = [Line(line[:8].strip(), line[9:33].strip(), line[34:]) for line in done.stdout.splitlines()]
    said = {line.subject: line for line in lines}
    expected = EXPECTED[HAZARD]
    ways = [line.subject for line in lines if line.subject in WAYS]
    no, missing, unknown = (subjects(lines, verdict) for verdict in ("no", "MISSING", "-"))
    wanted = expected.no - ({"alone"} if IS_ARM else set())
    tap.ok(no == wanted, f"not to be had: {sorted(no)}", f"expected: {sorted(wanted)}")
    tap.ok(missing == expected.missing, f"missing: {sorted(missing)}")
    tap.ok(expected.unknown <= unknown, f"not tried, or not known: {sorted(expected.unknown)}")
    tap.ok(ways == WAYS, f"each way has its line: {' '.join(ways)}")
    tap.ok(len(lines) == len(said), "nothing has two")
    tap.ok(lines[-1].subject == "poking" and lines[-1].verdict in ("ok", "MISSING"), f"the last: {lines[-1]}")
    tap.ok(done.returncode == (1 if missing else 0), f"status {done.returncode} is the verdict")
    tap.ok(not contradictions(said), "nothing works by what is not to be had", contradictions(said))
    all_known = all("not known why" not in said[way].details for way in ways)
    tap.ok(all_known != NO_CAUSE, "control: a way fails for a cause that is not known" if NO_CAUSE else
           "no way fails for a cause that is not known")
    if HAZARD == "sync-forbidden":
        tap.ok(all("core sync: signals" in said[way].details for way in ways if said[way].verdict == "ok"),
               "cores are synchronised by signals")
    return tap.finish()


if __name__ == "__main__":
    sys.exit(main())
