#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds src/ to its plan: who may include whom, and that no two files need each other.

usage: arrows.py SOURCE-ROOT [BUILD]

    core            core, arch/arch.h, error numbers, freestanding headers, <shunt/...>
    arch/CPU        its own folder, arch/arch.h, core/error.h, freestanding headers, <shunt/...>;
                    elf_code.c also arch/elf_code.h, core/site.h, <elf.h>, <string.h>
                    process.h, breakpoint.h, vectors.c, which are for a process: also linux/base,
                    linux/sync and the system's headers; entries.c and prepare.c: also core/ftrace.h
                    (arch/generic is no CPU but a library of its own)
    arch/*.h        arch/CPU: arch.h for the core, process.h and selftest.h for a process
    linux/ROOM      arch/*.h; the rooms below it: show -> entry -> module -> text -> sync, trap -> elf, base
                    trap, and signals, are there on x86-64 alone: also arch/x86_64/breakpoint.h
    trace           its own folder, core/ftrace_raw.h, linux/base
    agent           its own folder, linux/base, linux/sync/sync.h, linux/entry/entries.h
    signals         its own folder, linux/

An instruction's bytes, a CPU's registers and its name are in none of core, linux, trace, agent, comments aside: numbers of
two hexadecimal digits, but for those in NUMBERS.

Headers that include each other in a circle are found from the sources; files that need
each other in one, by the symbols of the objects in BUILD, those of the program `shunt` too. (Assembly, and the C that it calls
and is called by, are one; shunt_port_*() are called by design from below.) A file that lies in src/linux itself, in no room, is not looked at.

Behind the checks stand their controls: an include, a byte or a call is planted, and must be found.
"""
import pathlib
import re
import subprocess
import sys

FREESTANDING = {"limits.h", "stdarg.h", "stdatomic.h", "stdbool.h", "stddef.h", "stdint.h"}
ELF_CODE = {'"arch/elf_code.h"', '"core/site.h"', "<elf.h>", "<string.h>"}
# Of a CPU's folder: what is for a process and not for the core. And who dispatches.
PROCESS = {"process.h", "breakpoint.h", "vectors.c"}
ENTRIES = {"entries.c", "prepare.c"}
DISPATCH = {"arch/arch.h", "arch/process.h", "arch/selftest.h"}
BREAKPOINT = "arch/x86_64/breakpoint.h"
ROOMS = {"base": 0, "elf": 1, "sync": 2, "trap": 2, "text": 3, "module": 4, "entry": 5, "show": 6}
QUOTED = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def read_includes(top):
    """file below src -> what it includes, "quoted" or <in angle brackets>."""
    files = sorted(p for p in (top / "src").rglob("*") if p.suffix in (".c", ".h", ".S"))
    return {str(p.relative_to(top / "src")): [f'"{q}"' if q else f"<{a}>" for q, a in
                                              QUOTED.findall(p.read_text(encoding="utf-8"))]
            for p in files}


def room_of(path):
    """The room of a file in src/linux; None: it is in none."""
    parts = path.split("/")
    return parts[1] if parts[0] == "linux" and len(parts) > 2 else None


def may_include(path, what):
    top, name = path.split("/")[0], what[1:-1]
    if top in ("core", "arch") and not path.startswith("arch/generic/"):
        if path.endswith("/elf_code.c") and what in ELF_CODE:
            return True
        if top == "arch" and path.split("/")[-1] in ENTRIES and name == "core/ftrace.h":
            return True
        if top == "arch" and path.split("/")[-1] in PROCESS and name.startswith(("sys/", "asm/", "cpuid.h", "unistd.h", "linux/base/", "linux/sync/")):
            return True
        if what[0] == "<":
            return name in FREESTANDING or name.startswith("shunt/") or path.endswith(".S")
        if top == "core":
            return name.startswith("core/") or name == "arch/arch.h"
        own = "/".join(path.split("/")[:2]) + "/"
        return name in ("arch/arch.h", "core/error.h") or (
            name.startswith("arch/") if path in DISPATCH else name.startswith(own))
    if what[0] == "<":
        return True
    if top == "linux":
        room, other = room_of(path), room_of(name)
        if name == BREAKPOINT:
            return room == "trap"
        if not room or not other:
            return name in DISPATCH or name.startswith(("core/", "arch/elf_code.h", "linux/"))
        return other == room or ROOMS.get(other, 99) < ROOMS.get(room, -1)
    if top == "trace":
        return name.startswith(("trace/", "linux/base/")) or name in ("core/ftrace.h", "core/ftrace_raw.h")
    if top == "agent":
        return name.startswith(("agent/", "linux/base/")) or name in ("linux/sync/sync.h", "linux/entry/entries.h")
    return name.startswith((top + "/", "linux/", "core/", "arch/arch.h", BREAKPOINT)) or "/" not in name


# Masks and formats: file -> numbers.
NUMBERS = {"core/poke_write.c": {"0xff"}, "core/poke_write.h": {"0xff"}, "linux/base/environment.c": {"0x7f"},
           "linux/base/tasks.c": {"0x10"}, "linux/entry/context.c": {"0x22"}, "linux/text/frames.c": {"0x78"},
           "linux/entry/find_functions.c": {"0x1b", "0x03", "0x3b"}}
NO_CODE = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
OF_A_CPU = re.compile(r"\b(0x[0-9a-f]{2}|REG_[A-Z0-9]+|__x86_64__|__aarch64__|__riscv(?:_xlen)?|__powerpc64__|__s390x__|__loongarch__|__asm__)\b", re.IGNORECASE)


def of_a_cpu(path, text):
    return [f"{path} has {found}" for found in OF_A_CPU.findall(NO_CODE.sub(" ", text))
            if found not in NUMBERS.get(path, ())]


def read_of_a_cpu(top):
    return [found for folder in ("core", "linux", "trace", "agent") for p in sorted((top / "src" / folder).rglob("*.[ch]"))
            for found in of_a_cpu(str(p.relative_to(top / "src")), p.read_text(encoding="utf-8"))]


def against_arrows(includes):
    return [f"{path} includes {what}" for path, names in includes.items() for what in names
            if not may_include(path, what)]


def is_outside(path):
    return path.startswith("linux/") and not room_of(path)


def include_graph(includes):
    return {path: {what[1:-1] for what in names if what[0] == '"'}
            for path, names in includes.items() if not is_outside(path)}


LIBSHUNT = ("libshunt-core.a.p", "libshunt-trap.a.p", "libshunt.so.0.p")
# Folders of src whose objects are named as in that folder, not in src.
APART = {"signals/": "signals/libshunt-signals.so.0.p", "trace/": "trace/libshunt-trace.so.0.p",
         "agent/": "agent/libshunt-agent.so.0.p"}


def tools_graph(top, build):
    """The same of the program `shunt`."""
    return objects_graph({path: path.stem for path in
                          (pathlib.Path(build) / "tools/shunt.p").glob("*.c.o")
                          if (pathlib.Path(top) / "tools" / path.stem).exists()})


def symbol_graph(build, paths, prefix=""):
    """source -> the sources that define what is undefined in its object; of libshunt, or of what
    is in the folder @prefix of src."""
    folders = (APART[prefix],) if prefix else LIBSHUNT
    sources = {path.removeprefix(prefix).replace("/", "_") + ".o": path for path in paths
               if not is_outside(path) and path.endswith(".c")
               and (path.startswith(prefix) if prefix else not path.startswith(tuple(APART)))}
    return objects_graph({path: sources[path.name] for folder in folders for path in
                          (pathlib.Path(build) / "src" / folder).glob("*.o")
                          if path.name in sources})


def objects_graph(objects):
    """By the symbols of @objects: object -> its source."""
    defined, needed = {}, {}
    out = subprocess.run(["nm", "--format=posix", "--print-file-name", *objects], check=True,
                         capture_output=True, text=True).stdout
    for line in out.splitlines():
        path, rest = line.split(": ", 1)
        source, (symbol, kind) = objects[pathlib.Path(path)], rest.split()[:2]
        if kind in "TDBRVWC":
            defined[symbol] = source
        elif kind == "U" and not symbol.startswith("shunt_port_"):
            needed.setdefault(source, set()).add(symbol)
    return {name: {defined[s] for s in symbols if s in defined} - {name}
            for name, symbols in needed.items()}


def find_circle(graph):
    """A circle as a list of names, or None."""
    done = set()

    def walk(node, way):
        if node in way:
            return way[way.index(node):] + [node]
        if node in done:
            return None
        for other in sorted(graph.get(node, ())):
            circle = walk(other, way + [node])
            if circle:
                return circle
        done.add(node)
        return None

    for node in sorted(graph):
        circle = walk(node, [])
        if circle:
            return circle
    return None


def planted(includes, path, what):
    return {**includes, path: includes.get(path, []) + [what]}


def main():
    includes = read_includes(pathlib.Path(sys.argv[1]))
    wrong = against_arrows(includes)
    circle = find_circle(include_graph(includes))
    results = [(len(includes) > 40 and not wrong,
                f"{len(includes)} files include what they may {'; '.join(wrong)}"),
               (not circle, f"no circle by includes {' -> '.join(circle or ())}")]
    named = read_of_a_cpu(pathlib.Path(sys.argv[1]))
    results += [(not named, f"no instruction, and no CPU, is named outside of arch {'; '.join(named)}")]
    for text in ("static const uint8_t nop[] = {0x0f, 0x1f};", "e->old[0] == 0xEB", "gregs[REG_RIP]", "#ifdef __x86_64__"):
        results.append((of_a_cpu("core/planted.c", text) and not of_a_cpu("core/planted.c", f"/* {text} */"),
                        f"control: {text} is found"))
    for path, what in (("core/poke.c", '"linux/linux.h"'), ("core/update.c", "<string.h>"),
                       ("core/poke.c", '"arch/x86_64/plain.h"'),
                       ("arch/x86_64/insn.c", '"core/poke.h"'),
                       ("linux/text/planted.c", '"linux/module/planted.h"'),
                       ("linux/sync/planted.c", '"linux/trap/planted.h"'),
                       ("linux/module/planted.c", '"linux/entry/planted.h"'),
                       ("trace/planted.c", '"linux/entry/planted.h"'),
                       ("trace/planted.c", '"core/key.h"'),
                       ("agent/planted.c", '"trace/state.h"'),
                       ("agent/planted.c", '"linux/entry/modules.h"')):
        results.append((f"{path} includes {what}" in against_arrows(planted(includes, path, what)),
                        f"control: {path} including {what} is found"))
    results.append((find_circle(include_graph(planted(includes, "core/site.h", '"core/key.h"'))),
                    "control: a circle by includes is found"))
    if len(sys.argv) > 2:
        graphs = [("libshunt", symbol_graph(sys.argv[2], includes), 40,
                   "core/sort.c", "core/poke.c"),
                  ("libshunt-signals", symbol_graph(sys.argv[2], includes, "signals/"), 5,
                   "signals/mirror.c", "signals/masks.c"),
                  ("libshunt-trace", symbol_graph(sys.argv[2], includes, "trace/"), 20,
                   "trace/stream.c", "trace/hooks.c"),
                  ("libshunt-agent", symbol_graph(sys.argv[2], includes, "agent/"), 7,
                   "agent/reply.c", "agent/list.c")]
        if (pathlib.Path(sys.argv[2]) / "tools/shunt.p").is_dir():
            graphs.append(("shunt", tools_graph(*sys.argv[1:3]), 30, "complain.c", "bake.c"))
        for name, graph, least, low, high in graphs:
            circle = find_circle(graph)
            results.append((len(graph) >= least and not circle,
                            f"no circle by symbols among {len(graph)} objects of {name} "
                            f"{' -> '.join(circle or ())}"))
            graph[low] = {high}
            results.append((find_circle(graph), f"control: a circle in {name} is found"))
    print(f"1..{len(results)}")
    for i, (good, text) in enumerate(results, 1):
        print(f"{'ok' if good else 'not ok'} {i} - {text.strip()}")
    return 0 if all(good for good, _ in results) else 1


sys.exit(main())
