#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
`shunt sites` and `shunt bake` on a shared object for this CPU and on one for the other, both of fixture_lib.c; then a copy of the
program itself is baked, and runs. For machines without a compiler: tool/sites_bake and tool/arm64_files have all ways to build.

    test_both_cpus.py SHUNT FILE...

Where a call leads is read by a decoder of its own. Control: in the file that is not baked it finds the trampoline.
"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "common"))
from tap import finish, ok  # pylint: disable=wrong-import-position

SHUNT, *FILES = sys.argv[1:]
MACHINES = {62: "x86-64", 183: "aarch64"}


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


class Elf:
    def __init__(self, path):
        self.data = pathlib.Path(path).read_bytes()
        self.machine = struct.unpack_from("<H", self.data, 18)[0]
        programs, sections = struct.unpack_from("<QQ", self.data, 32)
        nr_programs, _, nr_sections = struct.unpack_from("<HHH", self.data, 56)
        self.loads = [p for p in struct.iter_unpack("<IIQQQQQQ", self.data[programs:programs + nr_programs * 56]) if p[0] == 1]
        table = list(struct.iter_unpack("<IIQQQQIIQQ", self.data[sections:sections + nr_sections * 64]))
        symtab = next(s for s in table if s[1] == 2)
        names = table[symtab[6]][4]
        self.symbols = {}
        for name, _, _, _, value, _ in struct.iter_unpack("<IBBHQQ", self.data[symtab[4]:symtab[4] + symtab[5]]):
            start = names + name
            self.symbols[self.data[start:self.data.index(b"\0", start)].decode()] = value

    def target(self, address):
        """Where the call at @address leads, by name; None: there is none."""
        load = next(p for p in self.loads if p[3] <= address < p[3] + p[5])
        at = address - load[3] + load[2]
        if self.machine == 62:
            opcode, distance = struct.unpack_from("<Bi", self.data, at)
            to = address + 5 + distance if opcode == 0xe8 else None
        else:
            word = struct.unpack_from("<I", self.data, at)[0]
            distance = (word & 0x3ffffff) - ((word & 0x2000000) << 1)
            to = address + 4 * distance if word >> 26 == 0x25 else None
        return [name for name, value in self.symbols.items() if value == to] if to else None


def sites(path):
    out = run(SHUNT, "sites", "--json", path)
    return json.loads(out.stdout) if out.returncode == 0 else {"keys": [], "sites": [], "baked": None, "said": out.stderr}


def shared_object(path, folder):
    cpu = MACHINES[Elf(path).machine]
    before = sites(path)
    ok({k["name"]: (k["type"], k["initial"]) for k in before["keys"]} ==
       {"lib_hidden": ("static call", "hidden_target"), "lib_call": ("static call", "lib_target"),
        "lib_key": ("static key", "off")} and before["baked"] is False, f"{cpu}: shunt sites has its keys", before)
    at = {s["key"]: int(s["address"], 16) for s in before["sites"] if s["function"] == "lib_work" and s["kind"] == "call"}
    if not ok(set(at) == {"lib_hidden", "lib_call"}, f"{cpu}: and its two calls", before):
        return
    found = {key: Elf(path).target(at[key]) for key in at}
    ok(all("__SCT__" + key in (found[key] or ()) for key in at), f"{cpu}: control: they lead to the trampolines", found)
    out = os.path.join(folder, cpu)
    said = run(SHUNT, "bake", "-o", out, path)
    after = sites(out)
    ok(said.returncode == 0 and after["baked"] is True and
       {s["key"]: s["state"] for s in after["sites"]} == {"lib_hidden": "baked", "lib_call": "inline"},
       f"{cpu}: shunt bake: the call of what is this file's alone is baked", said.stderr, after)
    if os.path.exists(out):
        found = {key: Elf(out).target(at[key]) for key in at}
        ok("hidden_target" in (found["lib_hidden"] or ()) and "__SCT__lib_call" in (found["lib_call"] or ()),
           f"{cpu}: it leads to its target, the other one to its trampoline", found)


def program(folder):
    copy = os.path.join(folder, "shunt")
    shutil.copy(SHUNT, copy)
    said = run(SHUNT, "bake", copy)
    ok(said.returncode == 0 and sites(copy)["baked"] is True, "a copy of shunt itself is baked", said.stderr)
    said = run(copy, "selftest")
    ok(said.returncode == 0, "and its self-test passes", said.stdout, said.stderr)


with tempfile.TemporaryDirectory() as work:
    print("TAP version 13")
    for file in FILES:
        shared_object(file, work)
    program(work)
sys.exit(finish())
