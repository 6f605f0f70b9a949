# SPDX-License-Identifier: MIT
"""Keys, their values, their sites."""

import re

import gdb
from shunt_library import Cache, located, number, read, string


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
        self.kind = named(self.STATES, field("kind", 1) & 0xf, "SHUNT_KIND_")
        self.why = named(self.WHY, field("why", 1), "SHUNT_")
        self.poked = field("poked", 1)
        self.length = key.lib["SHUNT_SITE_LENGTHS"] >> 4 * (field("kind", 1) & 0xf) & 0xf

    def state(self):
        state = self.STATES.get(self.kind, "?")
        if not self.why or state == "branch":
            return state
        return "far" if self.why == "WHY_FAR" else "trampoline"

    def notes(self):
        """What else there is to say: an update going on, and why it is not inline."""
        notes = []
        if self.key.lib["SHUNT_HAS_TRAPS"] and number(self.address, 1) == 0xcc:
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
