#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Tests what `shunt bake` makes of functions that gcc has compiled with -fpatchable-function-entry=5: the
five nops at each entry are one instruction, every other byte is what it was, and the program does the same.

    test_bake_entries.py SHUNT INCLUDEDIR LIBDIR [all]     without "all": CHOSEN, and a static call in one of them

Controls: nops that no table lists, or too few of them, stay; so do those of clang, which are one already.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

SHUNT, INCLUDE, LIB = (os.path.abspath(a) for a in sys.argv[1:4])
SINGLES, NOP = bytes([0x90] * 5), bytes([0x0F, 0x1F, 0x44, 0, 0])
ENDBR64 = bytes([0xF3, 0x0F, 0x1E, 0xFA])

# Three functions that are listed, one whose nops are too few, one whose nops are its own.
SOURCE = """
#include <stdio.h>
CALLS
__attribute__((noipa)) int f1(int x) { return x + 1; }
static __attribute__((noipa)) int f2(int x) { return 2 * x; }
__attribute__((noipa, patchable_function_entry(3))) int few(int x) { return x - 1; }
__attribute__((noipa, patchable_function_entry(0))) int own(int x)
{
    __asm__ volatile("nop; nop; nop; nop; nop");
    return x + 3;
}
int main(void) { printf("%d\\n", f1(1) + f2(2) + few(5) + own(1) + USE); return 0; }
"""
CALLS = """
#include <shunt/static_call.h>
static __attribute__((patchable_function_entry(0))) int one(void) { return 1; }
DEFINE_STATIC_CALL(call, one);
"""

VARIANTS = {
    "gcc": "gcc -O2",
    "gcc -O0": "gcc -O0",
    "gcc -fno-pie": "gcc -O2 -fno-pie -no-pie",
    "gcc -fcf-protection": "gcc -O2 -fcf-protection=full",
    "gcc, packed relocations": "gcc -O2 -Wl,-z,pack-relative-relocs",
    "gcc, lld": "gcc -O2 -fuse-ld=lld",
    "gcc, stripped": "gcc -O2 -s",
    "clang": "clang -O2 -Dnoipa=noinline",
}
CHOSEN = {"gcc", "gcc -fcf-protection", "gcc, lld", "gcc, stripped", "clang"}
ALL = sys.argv[4:] == ["all"]


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False,
                          env=dict(os.environ, SHUNT_LOG="0", LC_ALL="C"))


def read(path):
    with open(path, "rb") as f:
        return f.read()


def build(name, words, with_calls):
    path = "calls" if with_calls else "plain"
    text = SOURCE.replace("CALLS", CALLS if with_calls else "")
    text = text.replace("USE", "static_call(call)()" if with_calls else "1")
    with open(path + ".c", "w", encoding="ascii") as f:
        f.write(text)
    more = ["-I", INCLUDE, "-Wl,--emit-relocs", f"{LIB}/libshunt.so", f"-Wl,-rpath,{LIB}"]
    made = run(*words, "-fpatchable-function-entry=5", path + ".c", "-o", path,
               *(more if with_calls else []))
    if made.returncode:
        print(f"# {name}: {made.stderr.strip().splitlines()[:1]}")
    return None if made.returncode else path


def functions(path):
    """name -> offset in the file; name -> size"""
    load, found, sizes = [], {}, {}
    for line in run("readelf", "-lW", path).stdout.splitlines():
        m = re.match(r"\s*LOAD +(0x\S+) (0x\S+) \S+ (0x\S+)", line)
        if m:
            load.append([int(x, 16) for x in m.groups()])
    for line in run("readelf", "-sW", path).stdout.splitlines():
        words = line.split()
        if len(words) == 8 and words[3] == "FUNC" and words[6] != "UND":
            for offset, address, size in load:
                if address <= int(words[1], 16) < address + size:
                    found[words[7]] = int(words[1], 16) - address + offset
                    sizes[words[7]] = int(words[2], 0)
    return found, sizes


def entry(data, at):
    return at + 4 if data[at:at + 4] == ENDBR64 else at


def said(done):
    return "; ".join((done.stdout or done.stderr).replace(os.getcwd() + "/", "").splitlines())


def check(name, path, stripped):
    before, wanted = read(path), run("./" + path).stdout
    made = run(SHUNT, "bake", path)
    after = read(path)
    where, sizes = functions(path)
    listed = [entry(before, where[f]) for f in ("f1", "f2", "main") if f in where]
    is_gcc = "clang" not in name
    ok(made.returncode == (0 if is_gcc or path == "calls" else 1),
       f"{name}: baked: {said(made)}")
    if is_gcc and not stripped:
        ok(len(listed) == 3 and all(before[at:at + 5] == SINGLES for at in listed),
           f"{name}: five nops at each of {len(listed)} entries before")
        ok(all(after[at:at + 5] == NOP for at in listed), f"{name}: one nop at each behind")
    if is_gcc:
        # The header's own have none.
        ok("3 functions with five nops" in made.stdout,
           f"{name}: it says so")
    if path == "plain":
        changed = [i for i in range(len(before)) if before[i] != after[i]] \
            if len(before) == len(after) else None
        ok(changed is not None and len(changed) == (15 if is_gcc else 0) and
           (stripped or not is_gcc or all(any(at <= i < at + 5 for at in listed) for i in changed)),
           f"{name}: no other byte has changed")
    if not stripped:
        few, own = where["few"], where["own"]
        end = own + sizes["own"]
        ok(before.count(SINGLES, own, end) == after.count(SINGLES, own, end) == 1,
           f"{name}: control: nops that no table lists are what they were")
        ok(before[entry(before, few):][:5] == after[entry(after, few):][:5],
           f"{name}: control: so is an entry of three")
    ok(run("./" + path).stdout == wanted != "", f"{name}: the program does the same")
    again = run(SHUNT, "bake", path)
    ok(read(path) == after and (again.returncode == 1 or "baked already" in again.stdout),
       f"{name}: once is enough: {said(again)}")


def main():
    work = tempfile.mkdtemp(prefix="shunt-entries-")
    os.chdir(work)
    try:
        for name, command in VARIANTS.items():
            words = command.split()
            for with_calls in (False, True):
                stripped = "-s" in words
                if not ALL and (name not in CHOSEN or (with_calls and name != "gcc, lld")):
                    continue
                if not shutil.which(words[0]) or (stripped and with_calls):
                    continue
                path = build(name, words, with_calls)
                if path:
                    check(name + (", with a static call" if with_calls else ""), path, stripped)
    finally:
        os.chdir("/")
        shutil.rmtree(work)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
