#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the finder finds in files of each compiler, kind, linker and way of linking.

Usage: find.py FIND_LIST [all]

Without "all": the first flags in all ways of linking; the first of each other kind as a shared library and as a program at a
fixed address; of the others SOME, in turn as one and the other, optimised, one in two stripped, too.

Each function of find_source.c that the kind instruments must have one entry, and no other function
may have one. Where entries stand is checked against objdump, which knows nothing of the finder.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

HERE = os.path.dirname(os.path.abspath(__file__))
FIND = os.path.abspath(sys.argv[1])
ALL = "all" in sys.argv[2:]
FUNCTIONS = {"local", "global", "tiny", "with_cold", "tail", "several_returns", "many", "twin_one",
             "twin_two", "early", "chosen_impl", "resolver", "main"}


def run(*args, **how):
    return subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def listed(*files):
    out = run(FIND, *files)
    entries = []
    for line in out.stdout.splitlines():
        if line.startswith("entry"):
            fields = line.split(" ", 8)
            entries.append(dict(zip(("ip", "func", "name", "kind", "form", "prepare", "len", "why"),
                                    [int(fields[1], 16), int(fields[2], 16)] + fields[3:7] +
                                    [int(fields[7]), fields[8]])))
    return out.returncode, entries


def disassembled(path, entries):
    """From address to instruction in words; from the first entry to the last one."""
    code = {}
    at = [e["ip"] for e in entries] or [0]
    for line in run("objdump", "-d", "--no-show-raw-insn", "--start-address=%d" % min(at),
                    "--stop-address=%d" % (max(at) + 16), path).stdout.splitlines():
        match = re.match(r"\s*([0-9a-f]+):\s+(.*)", line)
        if match:
            code[int(match.group(1), 16)] = match.group(2)
    return code


def symbols(path):
    """The functions of .symtab."""
    found = {}
    for line in run("readelf", "-sW", path).stdout.partition("'.symtab'")[2].splitlines():
        fields = line.split()
        if len(fields) == 8 and fields[3] in ("FUNC", "IFUNC") and fields[6] != "UND":
            found.setdefault(fields[7], int(fields[1], 16))
    return found


SHAPES = {
    "single-nops": r"nop$",
    "ready": r"nop|call|addr32 call|ret|jmp",
    "long-nop": r"(cs |data16 )*nop[wl]",
    "xray-head": r"jmp ",
}


def check(name, path, kind, stripped_of=None, folded=False):
    status, entries = listed(path)
    names = symbols(stripped_of or path)
    code = disassembled(path, entries)
    bad = []
    if status:
        bad.append("status %d" % status)
    heads = {}
    for e in entries:
        if e["kind"] != kind:
            bad.append("of kind %(kind)s: %(name)s" % e)
        if e["why"]:
            bad.append("%(name)s at %(ip)#x: %(why)s" % e)
        if not re.match(SHAPES[e["prepare"]], code.get(e["ip"], "")):
            bad.append("no such instruction at %#x: %s" % (e["ip"], code.get(e["ip"])))
        if e["form"] in ("head", "call"):
            heads.setdefault(e["func"], []).append(e)
    known = {}
    for function, addr in names.items():
        known.setdefault(addr, set()).add(function)
    for addr, of in heads.items():
        if not known.get(addr, set()) & FUNCTIONS:
            bad.append("an entry of none of the functions at %#x: %s" % (addr, known.get(addr)))
        if len(of) != 1 and kind != "instrument":
            bad.append("%d entries at %#x" % (len(of), addr))
    for function in FUNCTIONS:
        if function in names and names[function] not in heads:
            bad.append("no entry of " + function)
    if folded and names["twin_one"] != names["twin_two"]:
        bad.append("the linker has not folded twins")
    if kind in ("xray", "instrument"):
        exits = {e["func"] for e in entries if e["form"] not in ("head", "call")}
        bad += ["no return of %#x" % f for f in heads if f not in exits]
    ok(not bad, name, *bad[:12])
    return entries


KINDS = [
    ("gcc", "patchable", ["-fpatchable-function-entry=5"]),
    ("gcc", "patchable", ["-fpatchable-function-entry=8,3"]),
    ("gcc", "patchable", ["-fpatchable-function-entry=5", "-fcf-protection"]),
    ("gcc", "patchable", ["-fpatchable-function-entry=8,3", "-fcf-protection"]),
    ("gcc", "patchable", ["-fpatchable-function-entry=12"]),
    ("clang", "patchable", ["-fpatchable-function-entry=5"]),
    ("clang", "patchable", ["-fpatchable-function-entry=8,3"]),
    ("clang", "patchable", ["-fpatchable-function-entry=5", "-fcf-protection"]),
    ("clang", "patchable", ["-fpatchable-function-entry=8,3", "-fcf-protection"]),
    ("clang", "patchable", ["-fpatchable-function-entry=6"]),
    ("clang", "patchable", ["-fpatchable-function-entry=8"]),
    ("clang", "patchable", ["-fpatchable-function-entry=20"]),
    ("gcc", "fentry", ["-pg", "-mfentry"]),
    ("gcc", "fentry", ["-pg", "-mfentry", "-fcf-protection"]),
    ("gcc", "fentry", ["-pg", "-mfentry", "-mrecord-mcount"]),
    ("gcc", "fentry", ["-pg", "-mfentry", "-mrecord-mcount", "-mnop-mcount"]),
    ("clang", "fentry", ["-pg", "-mfentry"]),
    ("clang", "fentry", ["-pg", "-mfentry", "-fcf-protection"]),
    ("clang", "xray", ["-fxray-instrument", "-fxray-instruction-threshold=1"]),
    ("clang", "xray", ["-fxray-instrument", "-fxray-instruction-threshold=1", "-fcf-protection"]),
    ("gcc", "instrument", ["-finstrument-functions"]),
    ("gcc", "instrument", ["-finstrument-functions", "-fno-plt"]),
    ("gcc", "instrument", ["-finstrument-functions", "-fcf-protection"]),
    ("clang", "instrument", ["-finstrument-functions"]),
    ("clang", "instrument", ["-finstrument-functions", "-fno-plt"]),
    ("clang", "instrument", ["-finstrument-functions", "-mcmodel=medium"]),
]
# What of these has a form of its own, or is another compiler's.
SOME = {
    ("gcc", "-fpatchable-function-entry=8,3", "-fcf-protection"),
    ("clang", "-fpatchable-function-entry=5"),
    ("clang", "-fpatchable-function-entry=20"),
    ("gcc", "-pg", "-mfentry", "-mrecord-mcount", "-mnop-mcount"),
    ("clang", "-pg", "-mfentry", "-fcf-protection"),
    ("gcc", "-finstrument-functions", "-fno-plt"),
    ("clang", "-finstrument-functions", "-mcmodel=medium"),
}
LINKS = [
    ("pie", ["-fPIE", "-pie"]),
    ("no-pie", ["-fno-pie", "-no-pie"]),
    ("shared", ["-fPIC", "-shared"]),
    ("static", ["-fno-pie", "-no-pie", "-static"]),
    ("static-pie", ["-fPIE", "-static-pie"]),
]
LINKERS = ["", "-fuse-ld=lld", "-fuse-ld=gold"]


def built(path, source, cc, opt, linker, flags, how, objects):
    """Links path; what is compiled alike is compiled once. What the compiler says where it fails."""
    key = (cc, opt, *flags, how[0])
    if key not in objects:
        done = run(cc, "-w", opt, *flags, how[0], "-c", source, "-o", path + ".o")
        if done.returncode:
            return done.stderr or "fails"
        with open(path + ".o", "rb") as file:
            objects[key] = file.read()
    with open(path + ".o", "wb") as file:
        file.write(objects[key])
    done = run(cc, "-w", opt, *flags, *how, *([linker] if linker else []), path + ".o", "-o", path)
    return (done.stderr or "fails") if done.returncode else ""


def is_possible(kind, flags, link, linker):
    if "-mcmodel=medium" in flags and link != "no-pie":
        return False  # what is said differs there: the argument as 64 bits
    if "-mnop-mcount" in flags and link not in ("no-pie", "static"):
        return False
    if "-mrecord-mcount" in flags and linker == "-fuse-ld=lld" and link in ("pie", "shared",
                                                                           "static-pie"):
        return False  # text relocations
    if kind == "xray" and (link == "shared" or link.startswith("static")):
        return link == "shared"
    # The C library's own handlers are one function, and its __fentry__ does something.
    return not (link.startswith("static") and kind in ("fentry", "instrument") and
                "-mnop-mcount" not in flags)


def main():
    source = os.path.join(HERE, "find_source.c")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")
        bare, objects, seen, some = os.path.join(folder, "stripped"), {}, set(), 0
        for number, (cc, kind, flags) in enumerate(KINDS):
            if not shutil.which(cc):
                continue
            whole = ALL or kind not in seen
            seen.add(kind)
            if not whole:
                if (cc, *flags) not in SOME:
                    continue
                some += 1
            for link, how in LINKS:
                for opt in ("-O0", "-O2"):
                    for linker in LINKERS:
                        # All linkers with the commonest; the rest with one.
                        if linker and (opt == "-O0" or link != "pie"):
                            continue
                        if opt == "-O0" and link != "no-pie":
                            continue
                        if not ALL and number and (opt == "-O0" or linker or link not in ("shared", "no-pie")):
                            continue
                        in_turn = ("shared", "no-pie")[some % 2]
                        if not whole and link != in_turn and is_possible(kind, flags, in_turn, linker):
                            continue
                        if not is_possible(kind, flags, link, linker):
                            continue
                        name = " ".join([cc, opt, link, linker] + flags)
                        wrong = built(path, source, cc, opt, linker, flags, how, objects)
                        if wrong:
                            ok(False, name, *wrong.splitlines()[:6])
                            continue
                        check(name, path, kind)
                        # A static program has no table of where functions start (.eh_frame_hdr).
                        if linker or opt == "-O0" or link == "static" or not whole and some % 4 > 1:
                            continue
                        run("strip", "-o", bare, path)
                        check(name + ", stripped", bare, kind, stripped_of=path)
        if shutil.which("ld.lld") and shutil.which("clang"):
            run("clang", "-w", "-O2", "-ffunction-sections", "-fpatchable-function-entry=5",
                "-fuse-ld=lld", "-Wl,--icf=all", "-fno-pie", "-no-pie", source, "-o", path)
            check("identical functions folded into one", path, "patchable", folded=True)
        damaged(path, source)
        changed(folder, source)
        foreign(folder, source)
    return finish()


def damaged(path, source):
    """Copies with bytes changed and cut off: no crash, and an end."""
    for flags in (["-fpatchable-function-entry=8,3"], ["-pg", "-mfentry"],
                  ["-finstrument-functions"]):
        run("gcc", "-w", "-O2", *flags, source, "-o", path)
        for seed in range(2):
            out = run(FIND, "--damage", str(seed), path, timeout=120)
            ok(out.returncode == 0, "damaged: %s, seed %d" % (flags[0], seed),
                   *out.stderr.splitlines()[:5])


def changed(folder, source):
    """One entry is not as the file says: that one alone is refused."""
    path, other = os.path.join(folder, "a"), os.path.join(folder, "b")
    run("gcc", "-w", "-O2", "-fno-pie", "-no-pie", "-fpatchable-function-entry=5", source, "-o",
        path)
    victim = [e for e in listed(path)[1] if e["name"] == "tail"][0]
    with open(path, "rb") as file:
        image = bytearray(file.read())
    sections = run("readelf", "-SW", path).stdout
    addr, off = [int(x, 16) for x in
                 re.search(r" \.text\s+PROGBITS\s+([0-9a-f]+)\s+([0-9a-f]+)", sections).groups()]
    image[victim["ip"] - addr + off] = 0xcc
    with open(other, "wb") as file:
        file.write(image)
    entries = listed(path, other)[1]
    refused = [e["name"] for e in entries if e["why"]]
    ok(refused == ["tail"], "an entry with a breakpoint on it", repr(refused))
    refused = [e["name"] for e in listed(path)[1] if e["why"]]
    ok(refused == [], "control: without the look at the live bytes it is not seen")


def foreign(folder, source):
    """A module that has handlers of its own keeps them, unless they do nothing."""
    path, own = os.path.join(folder, "a"), os.path.join(folder, "own.c")
    for body, refused in (("n++;", True), ("", False)):
        with open(own, "w") as file:
            file.write("static volatile int n;\n#define H __attribute__((no_instrument_function))\n"
                       "H void __cyg_profile_func_enter(void *f, void *c) { %s }\n"
                       "H void __cyg_profile_func_exit(void *f, void *c) { %s }\n" % (body, body))
        run("gcc", "-w", "-O2", "-c", own, "-o", own + ".o")
        run("gcc", "-w", "-O2", "-finstrument-functions", source, own + ".o", "-o", path)
        entries = listed(path)[1]
        good = entries and all(bool(e["why"]) == refused for e in entries)
        ok(good, "own handlers that do %s" % ("something" if refused else "nothing"),
               *{e["why"] for e in entries})


if __name__ == "__main__":
    sys.exit(main())
