# SPDX-License-Identifier: MIT
"""Functions that are traced, and by whom."""

from shunt_library import Cache, number, read, symbol

KINDS = {1: "patchable", 2: "fentry", 3: "xray", 4: "instrument"}


class Tracer:
    """An ops that is registered, and the entries that it traces, as bits by their index."""

    def __init__(self, lib, address, bits):
        self.ops = lib.field(address, "shunt_tracer.ops")
        self.func = lib.field(self.ops, "ftrace_ops.func")
        self.exits = bool(lib.field(self.ops, "ftrace_ops.flags") & lib["SHUNT_FTRACE_EXITS"])
        words = lib.field(bits, "shunt_bits.nr_words")
        self.bits = int.from_bytes(read(bits + lib["shunt_bits.words"], 8 * words), "little")

    def __str__(self):
        return symbol(self.func) or f"{self.func:#x}"


def all_tracers(lib):
    for address in lib.chain(number(lib["&tracers"]), "shunt_tracer.next"):
        bits = lib.field(address, "shunt_tracer.active")
        if bits:
            yield Tracer(lib, address, bits)


class Entry:
    """An instruction that is a call where its function is traced."""

    def __init__(self, lib, raw):
        def field(name, size):
            at = lib[f"shunt_entry.{name}"]
            return int.from_bytes(raw[at:at + size], "little")

        self.address, self.function, self.index = field("ip", 8), field("func", 8), field("index", 4)
        self.kind = KINDS.get(field("kind", 1), "?")
        self.is_exit = field("form", 1) not in (lib["SHUNT_FORM_HEAD"], lib["SHUNT_FORM_CALL"])

    def tracers(self, tracers):
        return [t for t in tracers if t.bits >> self.index & 1 and (t.exits or not self.is_exit)]


def all_entries(lib):
    if not lib["&tracers"] or not lib["&entries"]:
        return  # a static program that traces nothing
    size = lib["sizeof shunt_entry"]
    for entries in lib.chain(number(lib["&entries"]), "shunt_entries.next"):
        raw = read(lib.field(entries, "shunt_entries.entries"),
                   size * lib.field(entries, "shunt_entries.n"))
        for at in range(0, len(raw), size):
            yield Entry(lib, raw[at:at + size])


def entry_at(address):
    entries = all_entries(Cache.get_library())
    return next((entry for entry in entries if entry.address <= address < entry.address + 5), None)
