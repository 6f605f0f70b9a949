# SPDX-License-Identifier: MIT
"""
gdb on programs with static calls and static keys.

    info shunt keys [REGEXP]     keys and what they are now
    info shunt sites [REGEXP]    the sites of keys, and what state each is in
    info shunt veneers           the stubs that far calls go through
    info shunt traced [REGEXP]   functions that are traced, and by which ops
    info shunt address EXPR      what Shunt has at an address
    info shunt stats             what updates have done, and whether one is going on
    info shunt ways              how text is written (needs debug information)
    $_shunt_site (ADDRESS)       the start of the site that ADDRESS is in, or 0

All of it is read from memory, of a process or of a core dump, and nothing is called:
it works anywhere, in the middle of an update too. Where things are is said by a table
in the library (src/linux/show/debug.c), so that no debug information is needed.

Besides, veneers, which have no symbols of their own, get names in backtraces: __SCV__ and
the name of the target. (To unwind out of one gdb needs no help: those of modules have call
frame information, and in code without symbols, such as the others, it takes the return
address to be on top of the stack, which in a veneer it is.)

Loaded by itself where it is installed as the library's auto-load script; else:

    (gdb) source shunt-gdb.py
"""

import re
import struct

import gdb

ENTRY = struct.Struct("=40sQ")
HEADER = struct.Struct("=8sII")


def read(address, size):
    return bytes(gdb.selected_inferior().read_memory(address, size)) if size else b""


def number(address, size=8, signed=False):
    return int.from_bytes(read(address, size), "little", signed=signed)


def string(address):
    """A C string; read to the end of its page at most, then on."""
    out = b""
    while address and b"\0" not in out and len(out) < 4096:
        out += read(address + len(out), min(64, 4096 - (address + len(out)) % 4096))
    return out.split(b"\0")[0].decode(errors="replace")


def symbol(address):
    """The symbol at an address, with an offset if it is not its start; "" if none."""
    line = gdb.execute(f"info symbol {address:#x}", to_string=True)
    return "" if line.startswith("No symbol") else line.split(" in section ")[0].replace(" ", "")


def located(address):
    name = symbol(address)
    return f"{address:#018x}" + (f" <{name}>" if name else "")


class Library:
    """The library's own table, by which everything else is found."""

    def __init__(self):
        self.entries = {}
        start = self.section()
        magic, version, n = HEADER.unpack(read(start, HEADER.size))
        if magic != b"SHUNTDBG" or version != 2:
            raise gdb.GdbError("This libshunt is another version than this script is for.")
        for name, value in ENTRY.iter_unpack(read(start + HEADER.size, n * ENTRY.size)):
            self.entries[name.split(b"\0")[0].decode()] = value

    @staticmethod
    def section():
        if not gdb.selected_inferior().pid:
            raise gdb.GdbError("The program is not being run.")
        for line in gdb.execute("info files", to_string=True).splitlines():
            found = re.match(r"\s*(0x[0-9a-f]+) - 0x[0-9a-f]+ is shunt_debug\b", line)
            if found:
                return int(found.group(1), 16)
        raise gdb.GdbError("The program does not use libshunt, or has not loaded it yet.")

    def __getitem__(self, name):
        try:
            return self.entries[name]
        except KeyError:
            raise gdb.GdbError(f"This libshunt does not say where {name} is.") from None

    def field(self, address, name, size=8, signed=False):
        return number(address + self[name], size, signed)

    def chain(self, first, link):
        """Elements of a list; one that is in the middle of a change ends all the same."""
        seen = set()
        while first and first not in seen:
            seen.add(first)
            yield first
            first = self.field(first, link)


class Cache:
    """What holds while the program stands still."""
    library = None
    veneers = None

    @classmethod
    def get_library(cls):
        if cls.library is None:
            cls.library = Library()
        return cls.library

    @classmethod
    def get_veneers(cls):
        """(address, size, target) of each veneer; nothing where there is no library."""
        if cls.veneers is None:
            try:
                cls.veneers = list(all_veneers(cls.get_library()))
            except (gdb.error, gdb.GdbError):
                cls.veneers = []
        return cls.veneers

    @classmethod
    def moved(cls, _event=None):
        cls.veneers = None

    @classmethod
    def other_files(cls, _event=None):
        cls.library = cls.veneers = None


def veneer_word(veneer, size):
    """The address of the word that a module's own veneer jumps through."""
    if size == 8:  # x86-64: jmp *word(%rip)
        return veneer + 6 + number(veneer + 2, 4, True)
    # aarch64: bti c; adrp x16, word; ldr x16, [x16, #:lo12:word]; br x16
    adrp, ldr = number(veneer + 4, 4), number(veneer + 8, 4)
    pages = (adrp >> 5 & 0x7ffff) << 2 | adrp >> 29 & 3
    pages -= (pages & 1 << 20) << 1
    return (veneer + 4 & ~0xfff) + (pages << 12) + (ldr >> 10 & 0xfff) * 8


def all_veneers(lib):
    """(address, size, target) of each veneer: of the modules' areas, then of the pools."""
    size = lib["SHUNT_AREA_VENEER"]
    for loaded in lib.chain(number(lib["&loaded"]), "shunt_loaded.next"):
        module = lib.field(loaded, "shunt_loaded.module")
        if not module:
            continue
        start, end = (lib.field(module, "shunt_module." + name)
                      for name in ("veneers", "veneers_end"))
        for veneer in range(start, end, size):
            target = number(veneer_word(veneer, size))
            if target:
                yield veneer, size, target
    size = lib["sizeof shunt_veneer"]
    for pool in lib.chain(number(lib["&pools"]), "shunt_pool.next"):
        start = lib.field(pool, "shunt_pool.veneers")
        for veneer in range(start, start + size * lib.field(pool, "shunt_pool.n"), size):
            yield veneer, size, lib.field(veneer, "shunt_veneer.target")


def veneer_at(address):
    """(start, target) of the veneer that has @address, or None."""
    for start, size, target in Cache.get_veneers():
        if start <= address < start + size:
            return start, target
    return None
