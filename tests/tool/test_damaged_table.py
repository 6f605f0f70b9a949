#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
A baked program whose site table is damaged, one field at a time: it is never read outside
of the file, nor is text outside of the module; every call reaches a function of its key. And
`shunt sites`, which reads the table by the same code, lists none of it.

    test_damaged_table.py SHUNT PROGRAM CONTROL [all]      without "all": with the table at the end of the file alone,
                                                           where what is read behind it is not there

CONTROL is the same program over a reader that believes what the table says: some of its calls
go astray, or it dies: without "all" the first four are enough. Writes TAP. The layout of the table: src/linux/elf/baked.h.
"""
import os
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

SHUNT, PROGRAM, CONTROL = sys.argv[1:4]
ALL = sys.argv[4:] == ["all"]
LEAST = 4  # of the damages that the control is seen to go wrong with
SECTION = b".shunt.sites\0"
HEADER, MOD, SITE = 32, 32, 8


class File:
    """An ELF file in memory, and where its table is."""

    def __init__(self, data):
        self.data = bytearray(data)
        shoff, = struct.unpack_from("<Q", data, 0x28)
        size, number, names = struct.unpack_from("<HHH", data, 0x3a)
        strings, = struct.unpack_from("<Q", data, shoff + names * size + 0x18)
        for i in range(number):
            self.header = shoff + i * size
            name, = struct.unpack_from("<I", data, self.header)
            if data[strings + name:].startswith(SECTION):
                break
        else:
            sys.exit("no site table")
        self.at, self.size = struct.unpack_from("<QQ", data, self.header + 0x18)
        self.mods, self.sites = struct.unpack_from("<II", data, self.at + 8)

    def table(self):
        return bytes(self.data[self.at:self.at + self.size])

    def put(self, offset, layout, *values):
        struct.pack_into(layout, self.data, self.at + offset, *values)

    def move_to_the_end(self):
        """So that the file, and what is mapped of it, ends with the table."""
        table = self.table()
        self.data += bytes(-(len(self.data) + self.size) % 4096)
        self.at = len(self.data)
        self.data += table
        struct.pack_into("<Q", self.data, self.header + 0x18, self.at)


def damages(file):
    """(name, function that makes it) of each."""
    mods, sites = HEADER, HEADER + file.mods * MOD
    strings = sites + file.sites * SITE

    def put(name, offset, layout, *values):
        return name, lambda f: f.put(offset, layout, *values)

    yield put("magic", 0, "<8s", b"SHUNTBK0")
    for number in (0xffffffff, 0x7ffffff, 1000):
        yield put(f"{number} mods", 8, "<I", number)
        yield put(f"{number} sites", 12, "<I", number)
    for offset in (0, strings + 1, 1 << 40, 2 ** 64 - 1):
        yield put(f"strings at {offset:#x}", 16, "<Q", offset)
    yield put("base far away", 24, "<Q", 1 << 46)
    yield put("base wraps", 24, "<Q", 2 ** 64 - 4096)
    yield "no end of the strings", lambda f: f.put(f.size - 1, "<B", 0x41)
    yield "no end of the strings, at the end of the file", lambda f: (
        f.put(strings, f"<{f.size - strings}s", b"A" * (f.size - strings)))
    for i in range(file.mods):
        for field, name in ((0, "key"), (8, "trampoline"), (16, "slot")):
            for value in (1, 1 << 45, 2 ** 64 - 8):
                yield put(f"mod {i}: {name} {value:#x}", mods + i * MOD + field, "<Q", value)
        yield put(f"mod {i}: name", mods + i * MOD + 24, "<I", 0x7fffffff)
        name, = struct.unpack_from("<I", file.table(), mods + i * MOD + 24)
        yield put(f"mod {i}: name without __SCT__", mods + i * MOD + 24, "<I", name + 7)
    keys = [struct.unpack_from("<QQ", file.table(), mods + i * MOD) for i in range(file.mods)]
    yield put("mod 0: another key's trampoline", mods + 8, "<Q", keys[1][1])
    yield put("mod 0: another key", mods, "<Q", keys[1][0])
    for i in range(file.sites):
        at = sites + i * SITE
        what, = struct.unpack_from("<I", file.table(), at + 4)
        for off in (0xffffffff, 0xfffffff0, 0x7ffff000, 0x10000000):
            yield put(f"site {i} at {off:#x}", at, "<I", off)
        yield put(f"site {i}: mod", at + 4, "<I", what | 0xfffffe00)
        yield put(f"site {i}: kind", at + 4, "<I", what | 0xf)
        yield put(f"site {i}: a condition", at + 4, "<I", what | 0xf0)
        if i:
            before, = struct.unpack_from("<I", file.table(), at - SITE)
            yield put(f"site {i} at the one before it", at, "<I", before)
            yield put(f"site {i} within the one before it", at, "<I", before + 4)
            yield put(f"site {i} before the one before it", at, "<I", before - 8)
    # Of the module, but not executable: its ELF header, and data.
    base, = struct.unpack_from("<Q", file.table(), 24)
    last = sites + (file.sites - 1) * SITE
    yield put("the first site in the ELF header", sites, "<I", 0)
    yield put("the last site in a key", last, "<I", keys[0][0] - base)
    yield put("the last site behind a key", last, "<I", keys[0][0] + 64 - base)
    yield "truncated", lambda f: f.put(12, "<I", file.sites + 1)


def run(data, directory):
    path = os.path.join(directory, "damaged")
    with open(path, "wb") as out:
        out.write(data)
    os.chmod(path, 0o755)
    done = subprocess.run([path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "SHUNT_POKE": "int3"})
    return done.returncode, done.stdout.strip(), done.stderr


def bake(program, directory):
    baked = os.path.join(directory, "baked")
    subprocess.run([SHUNT, "bake", "-o", baked, program], check=True, stdout=subprocess.DEVNULL)
    with open(baked, "rb") as file:
        return file.read()


def control(directory):
    data = bake(CONTROL, directory)
    status, out, _ = run(data, directory)
    ok(status == 0 and out == "0 0", f"control, as it is: updates {out} ({status})")
    seen = []
    for name, damage in damages(File(data)):
        if len(seen) >= LEAST and not ALL:
            break
        file = File(data)
        damage(file)
        status, _, _ = run(file.data, directory)
        if status:
            seen.append(f"{name} ({status})")
    ok(len(seen) >= LEAST, f"control, the table is believed: {len(seen)} go wrong: {', '.join(seen)}")


def main():
    with tempfile.TemporaryDirectory() as directory:
        data = bake(PROGRAM, directory)
        for moved in (False, True):
            good = File(data)
            if moved:
                good.move_to_the_end()
            where = "at the end of the file: " if moved else ""
            status, out, err = run(good.data, directory)
            listed = subprocess.run([SHUNT, "sites", os.path.join(directory, "damaged")],
                                    capture_output=True, text=True, check=False)
            ok(status == 0 and out == "0 0" and not err and good.sites >= 3
               and listed.returncode == 0 and "damaged_a" in listed.stdout,
               f"{where}as it is: {good.mods} mods, {good.sites} sites, updates {out} ({status})")
            for name, damage in damages(good) if moved or ALL else ():
                file = File(data)
                if moved:
                    file.move_to_the_end()
                damage(file)
                status, out, err = run(file.data, directory)
                listed = subprocess.run([SHUNT, "sites", os.path.join(directory, "damaged")],
                                        capture_output=True, text=True, check=False)
                ok(status == 0 and listed.returncode == 1 and "malformed" in listed.stderr,
                   f"{where}{name}: updates {out} ({status}); {listed.stderr.strip()}")
        control(directory)
    return finish()


sys.exit(main())
