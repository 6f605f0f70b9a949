# SPDX-License-Identifier: MIT
"""What gdb gets: commands, a function, names of veneers in backtraces."""

import re

import gdb
from gdb.FrameDecorator import FrameDecorator
from shunt_keys import all_keys, site_at
from shunt_library import Cache, all_veneers, located, number, symbol, veneer_at
from shunt_traced import all_entries, all_tracers, entry_at


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
