#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The list of system calls in shunt(7), against those that updates make: for each way the
calls of a traced run (calls.c) are in the rows that apply, and what these rows name has been seen,
but for what is said here to depend on more. Controls: a list without one of them, and one with one
more. TAP. Usage: test_calls.py CALLS shunt.7.scd CC"""

import os
import re
import subprocess
import sys

calls, manual, compiler = sys.argv[1:4]

# What a row names that the runs here do not come to.
RARE = {"futex", "munmap", "mmap", "rt_sigreturn", "nanosleep", "process_vm_readv", "poll", "ppoll", "sendto",
        "rt_sigtimedwait", "close", "gettid", "tgkill", "openat", "fcntl", "fstat", "getpid", "pread64",
        "readlinkat", "sched_yield", "socket"}  # (which is a word there)

EVERY, FIRST, SYNC, ALONE = "every update", "the first update to", "core sync", "while the C library"
AUTO = "_auto_, _remap_"
RUNS = [  # mode, SHUNT_SYNC, SHUNT_WRITE, the rows that apply
    ("auto", "", "", [ALONE, AUTO]),
    ("auto+first", "", "", [FIRST, ALONE, AUTO]),
    ("auto+threads", "", "", [AUTO]),
    ("auto+threads+first", "", "", [FIRST, AUTO]),
    ("remap+threads", "", "", [AUTO]),
    ("int3", "", "", [ALONE, "_int3_, and"]),
    ("int3+threads", "", "", ["_int3_, and"]),
    ("int3+threads+first", "", "", [FIRST, "_int3_, and"]),
    ("int3+threads+many", "", "", ["_int3_, and"]),
    ("auto+many", "", "", [ALONE, AUTO, "64 sites or more in one"]),
    ("atomic+threads", "", "", ["_atomic_", "_int3_, and"]),
    ("auto+threads", "", "mprotect", [AUTO, "refused"]),
    ("int3+threads", "signal", "", ["_int3_, and", "refused"]),
    ("auto+threads", "signal", "", [AUTO, "refused"]),
    ("int3+threads", "", "mprotect", ["_int3_, and", "refused"]),
    ("auto+message", "", "", ["every message", "the first message", "a message to standard"]),
    ("auto+message+first", "", "", ["every message", "the first message", "a message to standard"]),
]


def numbers():
    text = subprocess.run([*compiler.split(), "-dM", "-E", "-include", "asm/unistd.h", "-x", "c",
                           "/dev/null"], stdout=subprocess.PIPE, check=True, text=True).stdout
    return {int(n): name for name, n in re.findall(r"#define __NR_(\w+) (\d+)", text)}


def words(text, known):
    return {w for w in re.findall(r"[a-z][a-z0-9_]+", text.replace("\\", "")) if w in known}


def rows(text, known):
    """Each row's calls, by its first words; "refused": what is tried in place of others."""
    section = text.split("# SYSTEM CALLS")[1].split("\n# ")[0]
    table, rest = section.split("\n\nA filter that refuses one of them", 1)
    found = {}
    for row in table.split("\n|  ")[1:]:
        when, _, what = row.partition("\n:  ")
        found[when] = words(what, known)
    found["refused"] = words(rest.split("A filter that answers")[0], known)
    return found


def look_up(table, start):
    names = [name for name in table if name.startswith(start)]
    assert len(names) == 1, (start, names)
    return table[names[0]]


def run(mode, sync, write):
    env = dict(os.environ, SHUNT_LOG="1")
    for name, value in (("SHUNT_SYNC", sync), ("SHUNT_WRITE", write)):
        env.pop(name, None)
        if value:
            env[name] = value
    done = subprocess.run([calls, mode], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env,
                          check=False, text=True)
    if done.returncode == 77:
        print("1..0 # SKIP no ptrace here")
        sys.exit(0)
    return done.returncode, {int(n) for n in done.stdout.split()}


def compare(text, seen, known):
    """What is made and not listed, by run; what is listed in a row of theirs and never made."""
    table = rows(text, set(known.values()))
    missing, named, made = {}, set(), set()
    for (mode, sync, write, which), (_, got) in seen.items():
        apply = set().union(*(look_up(table, r) for r in [EVERY, SYNC, *which]))
        got = {known[n] for n in got}
        if got - apply:
            missing[mode, sync, write] = sorted(got - apply)
        named |= apply
        made |= got
    return missing, named - made - RARE


def main():
    known = numbers()
    with open(manual, encoding="utf-8") as f:
        text = f.read()
    seen, count = {}, 0

    def ok(good, what):
        nonlocal count
        count += 1
        print(f"{'ok' if good else 'not ok'} {count} - {what}", flush=True)
        return good

    good = True
    for mode, sync, write, which in RUNS:
        key = (mode, sync, write, tuple(which))
        seen[key] = run(mode, sync, write)
        good &= ok(seen[key][0] == 0, f"{mode} {sync} {write} runs: {seen[key][0]}")
    missing, unseen = compare(text, seen, known)
    good &= ok(not missing, f"what is made is listed; not: {missing}")
    good &= ok(not unseen, f"what is listed is made; not: {sorted(unseen)}")
    for name in ("membarrier", "rt_sigpending", "pwrite64", "mprotect", "unshare"):
        missing, _ = compare(text.replace(name, ""), seen, known)
        good &= ok(any(name in m for m in missing.values()), f"control: {name} is not listed")
    _, unseen = compare(text.replace(":  membarrier", ":  membarrier, ptrace"), seen, known)
    good &= ok(unseen == {"ptrace"}, "control: ptrace is listed")
    print(f"1..{count}")
    return 0 if good else 1


sys.exit(main())
