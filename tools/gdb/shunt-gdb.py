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
from gdb.FrameDecorator import FrameDecorator

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


# ------------------------------------------------------------------ the library

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


def all_veneers(lib):
    """(address, size, target) of each veneer: of the modules' areas, then of the pools."""
    size = lib["SHUNT_AREA_VENEER"]
    for loaded in lib.chain(number(lib["&loaded"]), "shunt_loaded.next"):
        module = lib.field(loaded, "shunt_loaded.module")
        if not module:
            continue
        start, end = (lib.field(module, "shunt_module." + name)
                      for name in ("veneers", "veneers_end"))
        for veneer in range(start, end, size):  # jmp *word(%rip)
            target = number(veneer + 6 + number(veneer + 2, 4, True))
            if target:
                yield veneer, size, target
    size = lib["sizeof shunt_veneer"]
    for pool in lib.chain(number(lib["&pools"]), "shunt_pool.next"):
        start = lib.field(pool, "shunt_pool.veneers")
        for veneer in range(start, start + size * lib.field(pool, "shunt_pool.n"), size):
            yield veneer, size, lib.field(veneer, "shunt_veneer.target")


# --------------------------------------------------------------- keys and sites

class Key:
    def __init__(self, lib, address, kind, module, why):
        self.lib, self.address, self.kind = lib, address, kind
        self.module, self.why = module, why
        self.name = string(self.field("name"))
        self.mods = self.field("mods")

    def field(self, name, size=8, signed=False):
        return self.lib.field(self.address, f"{self.kind}.{name}", size, signed)

    def is_call(self):
        return self.kind == "static_call_key"

    def value(self):
        if not self.is_call():
            state = "on" if self.field("on", 1) else "off"
            return f"{state}, count {self.field('count', 4, True)}"
        func = self.field("func")
        if func == self.lib["&nop"]:
            return "NULL"
        return "RET0" if func == self.lib["&return0"] else located(func)

    def sites(self):
        lib = self.lib
        for mod in lib.chain(self.mods, "shunt_mod.next"):
            table = lib.field(mod, "shunt_mod.sites")
            base = lib.field(table, "shunt_sites.table.base")
            array = lib.field(table, "shunt_sites.table.sites")
            size = lib["sizeof shunt_site"]
            raw = read(array, lib.field(table, "shunt_sites.table.nr_sites", 4) * size)
            index = lib.field(mod, "shunt_mod.first", 4)
            for _ in range(lib.field(mod, "shunt_mod.nr_sites", 4)):
                if not 0 < index <= len(raw) // size:
                    break
                site = Site(self, base, raw[(index - 1) * size:index * size])
                yield site
                index = site.next


class Site:
    LENGTHS = {"CALL": 5, "CALL_GOT": 6, "JMP": 5, "JMP_GOT": 6, "JCC": 6, "BRANCH": 5,
               "BRANCH2": 2}
    STATES = {"CALL": "inline", "CALL_GOT": "inline", "JMP": "tail", "JMP_GOT": "tail",
              "JCC": "conditional", "BRANCH": "branch", "BRANCH2": "branch"}
    WHY = {"WHY_NEW": "being registered", "WHY_FAR": "out of reach",
           "WHY_TOO_FAR": "out of reach, and no veneer is to be had",
           "WHY_FOREIGN": "foreign bytes at start-up", "WHY_WRITE": "not writable at start-up"}

    def __init__(self, key, base, raw):
        def field(name, size):
            at = key.lib[f"shunt_site.{name}"]
            return int.from_bytes(raw[at:at + size], "little")

        def named(names, value, prefix):
            return next((n for n in names if key.lib[prefix + n] == value), "")

        self.key = key
        self.address = base + field("off", 4)
        self.next = field("next", 4)
        self.kind = named(self.LENGTHS, field("kind", 1) & 0xf, "SHUNT_KIND_")
        self.why = named(self.WHY, field("why", 1), "SHUNT_")
        self.poked = field("poked", 1)
        self.length = self.LENGTHS.get(self.kind, 1)

    def state(self):
        state = self.STATES.get(self.kind, "?")
        if not self.why or state == "branch":
            return state
        return "far" if self.why == "WHY_FAR" else "trampoline"

    def notes(self):
        """What else there is to say: an update going on, and why it is not inline."""
        notes = []
        if number(self.address, 1) == 0xcc:
            notes.append("int3 of an update" if self.poked else "int3 of somebody else")
        if self.why:
            notes.append(self.WHY[self.why])
        return "; ".join(notes)


def all_keys(wanted=""):
    lib = Cache.get_library()
    is_wanted = re.compile(wanted).search
    for loaded in lib.chain(number(lib["&loaded"]), "shunt_loaded.next"):
        module = lib.field(loaded, "shunt_loaded.module")
        if not module:
            continue
        path = string(lib.field(loaded, "shunt_loaded.path"))
        if path == "/proc/self/exe":
            path = gdb.current_progspace().filename or path
        why = string(lib.field(loaded, "shunt_loaded.why"))
        if lib.field(loaded, "shunt_loaded.baked.nr_sites", 4):
            why = "baked, and not read before the first update"
        for kind, field in ("static_call_key", "call_keys"), ("shunt_static_key", "static_keys"):
            start = lib.field(module, f"shunt_module.{field}")
            end = lib.field(module, f"shunt_module.{field}_end")
            for address in range(start, end, lib[f"sizeof {kind}"]):
                key = Key(lib, address, kind, path, why)
                if is_wanted(key.name):
                    yield key


def site_at(address):
    for key in all_keys():
        for site in key.sites():
            if site.address <= address < site.address + site.length:
                return site
    return None


# ------------------------------------------------------------- traced functions

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


def veneer_at(address):
    """(start, target) of the veneer that has @address, or None."""
    for start, size, target in Cache.get_veneers():
        if start <= address < start + size:
            return start, target
    return None


# ---------------------------------------------------------------------- commands

def table(rows, none):
    """Columns as wide as they need be; the last is not padded. @none: where there is but a heading."""
    if len(rows) == 1:
        print(none)
        return
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


class InfoShunt(gdb.Command):
    """Show what libshunt knows: static calls, static keys and their sites."""

    def __init__(self):
        super().__init__("info shunt", gdb.COMMAND_STATUS, prefix=True)


class InfoShuntKeys(gdb.Command):
    """Show keys, their values and how many sites they have.
Usage: info shunt keys [REGEXP]
Of static calls the value is the current target, NULL or RET0; of static keys,
whether they are on, and the count. Inline are sites that reach it directly."""

    def __init__(self):
        super().__init__("info shunt keys", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        rows = [("Type", "Name", "Sites", "Inline", "Value", "Module")]
        for key in all_keys(argument):
            sites = list(key.sites())
            why = f" ({key.why})" if key.why else ""
            rows.append(("call" if key.is_call() else "branch", key.name, str(len(sites)),
                         str(sum(not site.why for site in sites)), key.value(),
                         key.module + why))
        table(rows, "No keys.")


class InfoShuntSites(gdb.Command):
    """Show the sites of keys: address, length, state, key, and where that is.
Usage: info shunt sites [REGEXP]
States are those of shunt_for_each_site(3). Where an update is under way, the int3
that stands at a site is said to be the update's."""

    def __init__(self):
        super().__init__("info shunt sites", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        rows = [("Address", "Len", "State", "Key", "Where", "")]
        for key in all_keys(argument):
            rows += [(f"{site.address:#018x}", str(site.length), site.state(), key.name,
                      symbol(site.address), site.notes()) for site in key.sites()]
        table(rows, "No sites.")


class InfoShuntVeneers(gdb.Command):
    """Show the veneers: stubs that calls of targets out of reach go through."""

    def __init__(self):
        super().__init__("info shunt veneers", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        rows = [("Address", "Target")]
        rows += [(f"{start:#018x}", located(target))
                 for start, _, target in all_veneers(Cache.get_library())]
        table(rows, "No veneers.")


class InfoShuntTraced(gdb.Command):
    """Show the functions that are traced, and the func of each ops that does.
Usage: info shunt traced [REGEXP]
Each line is an instruction that is a call: the function's entry, or where it returns. Ops of the
library's own are those of register_ftrace_graph(3) and of the recorder."""

    def __init__(self):
        super().__init__("info shunt traced", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        lib = Cache.get_library()
        tracers = list(all_tracers(lib)) if lib["&tracers"] else []
        rows = [("Address", "Kind", "At", "Function", "Ops", "")]
        for entry in all_entries(lib) if tracers else ():
            ops, function = entry.tracers(tracers), symbol(entry.function)
            if ops and re.search(argument, function):
                note = "int3 of a change" if number(entry.address, 1) == 0xcc else ""
                rows.append((f"{entry.address:#018x}", entry.kind,
                             "return" if entry.is_exit else "entry", function,
                             ", ".join(map(str, ops)), note))
        table(rows, "No function is traced.")


class InfoShuntAddress(gdb.Command):
    """Show what Shunt has at an address: a site, a veneer, a key, or an entry that can be traced.
Usage: info shunt address EXPRESSION"""

    def __init__(self):
        super().__init__("info shunt address", gdb.COMMAND_STATUS, gdb.COMPLETE_EXPRESSION)

    def invoke(self, argument, from_tty):
        if not argument:
            raise gdb.GdbError("Argument required (the address).")
        value = gdb.parse_and_eval(argument)
        if value.type.strip_typedefs().code == gdb.TYPE_CODE_FUNC:
            value = value.address
        address = int(value) & (1 << 64) - 1
        site, veneer, entry = site_at(address), veneer_at(address), entry_at(address)
        if site:
            notes = site.notes()
            print(f"{address:#x} is byte {address - site.address} of {site.length} of a site "
                  f"of {site.key.name}, {site.state()}{' (' + notes + ')' if notes else ''}.")
        elif veneer:
            print(f"{address:#x} is in the veneer at {veneer[0]:#x}, which goes to "
                  f"{located(veneer[1])}.")
        elif entry:
            ops = ", ".join(map(str, entry.tracers(all_tracers(Cache.get_library()))))
            print(f"{address:#x} is byte {address - entry.address} of 5 of an entry of "
                  f"{symbol(entry.function)}, traced by {ops or 'nobody'}.")
        else:
            key = next((k for k in all_keys() if k.address == address), None)
            print(f"{address:#x} is " + (f"the key {key.name}." if key else
                                         "nothing of Shunt's."))


class InfoShuntStats(gdb.Command):
    """Show what updates have done so far, and whether one is going on."""

    def __init__(self):
        super().__init__("info shunt stats", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        lib = Cache.get_library()
        process = number(lib["&process"])
        owner = lib.field(process, "shunt_process.lock", 4) if process else 0
        print("update lock: " + ("held, an update may be going on" if owner else "free"))
        for label, name in (("updates", "pokes"), ("writes", "writes"),
                            ("bytes written", "bytes"), ("core syncs", "syncs")):
            print(f"{label}: {number(lib['&stats'] + lib['shunt_poke_stats.' + name])}")


class InfoShuntWays(gdb.Command):
    """Show the state of the files that write text and synchronise cores.
Needs debug information of libshunt."""

    def __init__(self):
        super().__init__("info shunt ways", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        for label, function in ("write", "shunt_text_writer"), ("sync", "shunt_sync_method"):
            found = gdb.lookup_global_symbol(function)
            block = found.symtab.static_block() if found else ()
            state = [s for s in block if s.is_variable and s.name == "state"]
            print(f"{label}: " + (str(state[0].value()) if state else
                                  "not known without debug information of libshunt"))


class ShuntSite(gdb.Function):
    """$_shunt_site (ADDRESS): the first address of the site that has ADDRESS, or 0 if none."""

    def __init__(self):
        super().__init__("_shunt_site")

    def invoke(self, address):
        site = site_at(int(address) & (1 << 64) - 1)
        return site.address if site else 0


# ------------------------------------------------------------- names of veneers

class VeneerDecorator(FrameDecorator):
    def __init__(self, frame, target):
        super().__init__(frame)
        self.target = target

    def function(self):
        return "__SCV__" + (symbol(self.target) or f"{self.target:#x}")


class VeneerFilter:
    """Names the veneers in a backtrace."""

    def __init__(self):
        self.name, self.priority, self.enabled = "shunt-veneers", 100, True
        gdb.frame_filters[self.name] = self

    @staticmethod
    def decorate(frame):
        veneer = veneer_at(frame.inferior_frame().pc())
        return VeneerDecorator(frame, veneer[1]) if veneer else frame

    def filter(self, frames):
        return map(self.decorate, frames)


def start():
    for command in (InfoShunt, InfoShuntKeys, InfoShuntSites, InfoShuntVeneers, InfoShuntTraced,
                    InfoShuntAddress, InfoShuntStats, InfoShuntWays, ShuntSite, VeneerFilter):
        command()
    gdb.events.cont.connect(Cache.moved)
    gdb.events.memory_changed.connect(Cache.moved)
    gdb.events.new_objfile.connect(Cache.other_files)
    gdb.events.clear_objfiles.connect(Cache.other_files)
    gdb.events.exited.connect(Cache.other_files)


start()
