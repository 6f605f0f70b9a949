#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
What `shunt bake` takes for the function of NULL, __static_call_nop: a symbol whose value is an
address, not one that is a number, a size, an offset or nothing in the file, be that the address of
another function. Calls of that function are left as they are, then.

    test_bake_symbols.py SHUNT INCLUDE

Control: the symbol as it was linked, a function of that address: the calls are of NULL. Writes TAP.
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

SHUNT, INCLUDE = (os.path.abspath(path) for path in sys.argv[1:3])
PROGRAM = """
#include <shunt/static_call.h>
void first(int);
void first(int x) { (void)x; }
DEFINE_STATIC_CALL(key, first);
void _start(void);
void _start(void) { static_call(key)(1); static_call(key)(2); }
"""
NAME = b"__static_call_nop\0"
ABS, COMMON = 0xfff1, 0xfff2  # sections
SECTION, FILE, TLS = 3, 4, 6  # types
CALL, TEST = 0xe8, 0xa9       # first bytes of a call, and of what is in its place


def symbol_tables(data):
    """(offset, size, of its strings) of each."""
    shoff, = struct.unpack_from("<Q", data, 0x28)
    number, = struct.unpack_from("<H", data, 0x3c)
    for i in range(number):
        header = shoff + 64 * i
        kind, = struct.unpack_from("<I", data, header + 4)
        link, = struct.unpack_from("<I", data, header + 40)
        if kind in (2, 11):  # SHT_SYMTAB, SHT_DYNSYM
            yield (*struct.unpack_from("<QQ", data, header + 24),
                   struct.unpack_from("<Q", data, shoff + 64 * link + 24)[0])


def change_symbol(data, kind, section):
    """Its type and section, where they are given, in each table. How many there were."""
    found = 0
    for at, size, strings in symbol_tables(data):
        for symbol in range(at, at + size, 24):
            name, info, _, index = struct.unpack_from("<IBBH", data, symbol)
            if data[strings + name:strings + name + len(NAME)] != NAME:
                continue
            found += 1
            struct.pack_into("<BBH", data, symbol + 4, info & 0xf0 | (info & 0xf if kind is None
                             else kind), 0, index if section is None else section)
    return found


def first_bytes(path):
    """Of the sites."""
    done = subprocess.run([SHUNT, "sites", "--json", path], capture_output=True, text=True,
                          check=True)
    with open(path, "rb") as file:
        data = file.read()
    return [segment_byte(data, int(site["address"], 16))
            for site in json.loads(done.stdout)["sites"]]


def segment_byte(data, address):
    phoff, = struct.unpack_from("<Q", data, 32)
    number, = struct.unpack_from("<H", data, 56)
    for header in range(phoff, phoff + 56 * number, 56):
        kind, _, offset, start, _, size = struct.unpack_from("<IIQQQQ", data, header)
        if kind == 1 and start <= address < start + size:
            return data[offset + address - start]
    return None


def bake(data, kind, section):
    changed = bytearray(data)
    found = change_symbol(changed, kind, section)
    with open("changed", "wb") as file:
        file.write(changed)
    done = subprocess.run([SHUNT, "bake", "-o", "baked", "changed"], capture_output=True, text=True,
                          check=False)
    return found, done, first_bytes("baked") if done.returncode == 0 else []


def check(how, arguments, tables):
    made = subprocess.run(["gcc", "-ffreestanding", "-nostdlib", "-O1", "-I", INCLUDE,
                           "-Wl,--emit-relocs,--defsym=__static_call_nop=first", *arguments,
                           "program.c", "-o", "program"], capture_output=True, text=True,
                          check=False)
    if made.returncode:
        ok(False, f"{how}: {made.stderr.strip()}")
        return
    with open("program", "rb") as file:
        data = file.read()
    found, done, seen = bake(data, None, None)
    ok(found == tables and seen == [TEST, TEST],
       f"control, {how}, a function: {found} symbols, calls of NULL: {seen} {done.stderr.strip()}")
    for what, kind, section in (("absolute", None, ABS), ("common", None, COMMON),
                                ("thread-local", TLS, None), ("a section", SECTION, None),
                                ("a file", FILE, None)):
        found, done, seen = bake(data, kind, section)
        ok(found == tables and seen == [CALL, CALL],
           f"{how}, {what}: direct calls: {seen} {done.stderr.strip()}")


def main():
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        with open("program.c", "w", encoding="ascii") as file:
            file.write(PROGRAM)
        check("static", ["-static", "-no-pie"], 1)
        check("with dynamic symbols", ["-fPIE", "-pie", "-Wl,-E"], 2)
        os.chdir("/")
    return finish()


sys.exit(main())
