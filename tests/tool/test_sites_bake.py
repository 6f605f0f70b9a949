#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Tests `shunt sites` and `shunt bake` on a program and a shared object that are built
here in several ways, against readelf, objdump, the running program, and strip.

    test_sites_bake.py SHUNT INCLUDEDIR LIBDIR UNPROTECTED [all]

LIBDIR has libshunt.so and libshunt.a; UNPROTECTED is the tool with unprotected.c. Without `all` in the ways of CHOSEN, and with fewer mutants.
One line of TAP a check.
"""

import functools
import glob
import json
import os
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok, skip

HERE = os.path.dirname(os.path.abspath(__file__))
SHUNT, INCLUDE, LIB, UNPROTECTED = (os.path.abspath(a) for a in sys.argv[1:5])
ALL = sys.argv[5:] == ["all"]
KEEP = "-Wl,--emit-relocs,--build-id=sha1"
CALLS = {"call", "tail", "conditional", "call-got", "tail-got"}


def run(*command, env=None):
    return subprocess.run(command, capture_output=True, text=True, timeout=120,
                          env=dict(os.environ, SHUNT_LOG="0", LC_ALL="C", **(env or {})))


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def source(name):
    return os.path.join(HERE, name)


# ---------------------------------------------------------------- building fixtures

VARIANTS = {
    "gcc-pie": "gcc -O2",
    "gcc-O0": "gcc -O0",
    "gcc-debug": "gcc -O1 -g -ffunction-sections",
    "gcc-no-pie": "gcc -O2 -fno-pie -no-pie",
    "gcc-no-plt": "gcc -O2 -fno-plt",
    "gcc-lto": "gcc -O2 -flto",
    "gcc-lld": "gcc -O2 -fuse-ld=lld",
    "gcc-static": "gcc -O2 -static",
    "gcc-static-pie": "gcc -O2 -fPIE -static-pie",
    "gcc-one-libshunt": "gcc -O2 -DONE",
    "gcc-relr": "gcc -O2 -Wl,-z,pack-relative-relocs",
    # The ELF header is mapped with the text: 0 is an address of it, and no function's.
    "gcc-text-at-0": "gcc -O2 -Wl,-z,noseparate-code",
    "gcc-lld-text-at-0": "gcc -O2 -fuse-ld=lld -Wl,--no-rosegment",
    "clang-Os-text-at-0": "clang -Os -fPIE -pie -Wl,-z,noseparate-code",
    "gcc-ibt": "gcc -O2 -fcf-protection=full -Wl,-z,ibtplt",
    "clang-pie": "clang -O2 -fPIE -pie",
    "clang-Os": "clang -Os -fPIE -pie",
    "clang-no-pie": "clang -O2 -fno-pie -no-pie",
    "clang-no-plt": "clang -O2 -fno-plt -fPIE -pie",
    "clang-lld": "clang -O2 -fuse-ld=lld -fPIE -pie",
    "clang-static": "clang -O2 -static",
    "gcc-relr-ibt": "gcc -O2 -Wl,-z,pack-relative-relocs -fcf-protection=full -Wl,-z,ibtplt",
    "gcc-lto-static": "gcc -O2 -flto -static",
    "clang-lld-text-at-0": "clang -O2 -fuse-ld=lld -fPIE -pie -Wl,--no-rosegment",
}
# Each compiler and linker, each kind of file, and what has its own relocations or its own layout: several in one file.
CHOSEN = ("gcc-relr-ibt", "gcc-lto-static", "clang-lld-text-at-0")


def build(name, command):
    """The files of a variant, the program first; None: cannot be built here."""
    words = command.split()
    if not shutil.which(words[0]) or (
            "-fuse-ld=lld" in words and not shutil.which("ld.lld")):
        return None
    alone = "-static" in words or "-static-pie" in words or "-DONE" in words
    program, lib = f"{name}.exe", f"lib{name}.so"
    common = ["-I", INCLUDE, KEEP]
    main = words + common + [source("fixture.c"), source("fixture_jcc.S"), "-o", program]
    so = [f"{LIB}/libshunt.so", f"-Wl,-rpath,{LIB}:{os.getcwd()}"]
    if alone:
        made = run(*main, source("fixture_lib.c"), f"{LIB}/libshunt.a", "-lpthread", "-ldl")
        files = [program]
    else:
        shared = [w for w in words if w not in ("-fno-pie", "-no-pie", "-fPIE", "-pie")]
        made = run(*shared, *common, "-fPIC", "-shared", source("fixture_lib.c"), "-o", lib, *so)
        files = [program, lib]
        if made.returncode == 0:
            made = run(*main, lib, *so)
    if made.returncode:
        print("# " + made.stderr.strip().replace("\n", "\n# "))
        return None
    return files


# ---------------------------------------------------------------------- reading ELF

def sections(path):
    """name -> (type, address, offset, size, flags)"""
    return sections_in(path, hash(read(path)))


@functools.lru_cache(maxsize=16)
def sections_in(path, _content):
    found = {}
    for line in run("readelf", "-SW", path).stdout.splitlines():
        m = re.match(r"\s*\[ *\d+\] (\S+)\s+(\S+)\s+([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+) "
                     r"[0-9a-f]+\s+([A-Za-z]*)", line)
        if m:
            found[m[1]] = (m[2], *(int(x, 16) for x in m.group(3, 4, 5)), m[6])
    return found


def references(path):
    """How many kept relocations of loaded sections refer to trampolines: readelf's view."""
    n, counts = 0, False
    for line in run("readelf", "-rW", path).stdout.splitlines():
        m = re.match(r"Relocation section '([^']*)'", line)
        if m:
            counts = (m[1].startswith(".rela.") and m[1] not in (".rela.dyn", ".rela.plt")
                      and not m[1].startswith((".rela.debug", ".rela.eh_frame")))
        elif counts and " __SCT__" in line:
            n += 1
    return n


def jump_entries(path):
    """How many records of static branches stand for a site."""
    _, _, offset, size, _ = sections(path).get(".static_jumps", ("", 0, 0, 0, ""))
    with open(path, "rb") as f:
        f.seek(offset)
        return sum(record[0] != 0 for record in struct.iter_unpack("<iiiI", f.read(size)))


def loads(data):
    """(offset, address, size in the file) of each PT_LOAD."""
    phoff, = struct.unpack_from("<Q", data, 32)
    phnum, = struct.unpack_from("<H", data, 56)
    for i in range(phnum):
        kind, _, off, vaddr, _, filesz = struct.unpack_from("<IIQQQQ", data, phoff + 56 * i)
        if kind == 1:
            yield off, vaddr, filesz


def segment_bytes(data, address, size):
    """What the file maps at @address."""
    for off, vaddr, filesz in loads(data):
        if vaddr <= address and address + size <= vaddr + filesz:
            return data[off + address - vaddr:off + address - vaddr + size]
    return None


def table(path):
    """The site table as src/linux/elf/baked.h has it."""
    place = sections(path).get(".shunt.sites")
    if not place:
        return None
    data = read(path)[place[2]:place[2] + place[3]]
    magic, mods, sites, strings, base = struct.unpack_from("<8sIIQQ", data)
    out = {"magic": magic, "base": base, "mods": [], "sites": [], "offset": place[2]}
    for i in range(mods):
        key, tramp, slot, name, flags = struct.unpack_from("<QQQII", data, 32 + 32 * i)
        end = data.index(b"\0", strings + name)
        out["mods"].append((key, tramp, slot, data[strings + name:end].decode(), flags))
    for i in range(sites):
        out["sites"].append(struct.unpack_from("<II", data, 32 + 32 * mods + 8 * i))
    return out


def sites_of(path):
    done = run(SHUNT, "sites", "--json", path)
    return json.loads(done.stdout) if done.returncode == 0 else None


# --------------------------------------------------------------------- one variant

def check_sites(name, path):
    view = sites_of(path)
    if not ok(view is not None, f"{name}: sites --json is JSON"):
        return None
    calls = [s for s in view["sites"] if s["kind"] in CALLS]
    ok(len(calls) + len(view["references"]) == references(path),
       f"{name}: {len(calls)} call sites and {len(view['references'])} other references, "
       f"readelf has {references(path)}")
    entries = jump_entries(path)
    branches = [s for s in view["sites"] if s["kind"].startswith("branch")]
    ok(len(branches) == entries, f"{name}: {len(branches)} branches, the section has {entries}")
    keys = {k["name"]: k for k in view["keys"]}
    here = [k for k in keys.values() if k["defined"] == "here" and k["type"] == "static call"]
    if path.endswith(".exe"):
        ok(len(here) >= 5 and keys["null"]["initial"] == "NULL"
           and keys["ret0"]["initial"] == "RET0" and keys["call"]["initial"] == "twice"
           and keys["key_on"]["initial"] == "on" and keys["lib_call"]["sites"] >= 1,
           f"{name}: keys and their initial values")
    by_hand = all(s["straddles_line"] == (int(s["address"], 16) % 64 + s["length"] > 64)
                  and s["straddles_page"] == (int(s["address"], 16) % 4096 + s["length"] > 4096)
                  for s in view["sites"])
    ok(by_hand, f"{name}: cache lines and pages")
    text = run(SHUNT, "sites", path)
    ok(text.returncode == 0 and f"{len(calls)} call sites" in text.stdout,
       f"{name}: sites as a table")
    return view


def live(path):
    """(key, function, offset) -> bytes, of the running program."""
    out = run(f"./{path}", "live")
    return {tuple(line.split()[1:4]): line.split()[4]
            for line in out.stdout.splitlines() if line.startswith("live ")}


def only_expected_changes(before, after, path, view):
    """Whether the loaded bytes differ in sites, key flags and .dynsym's numbers only."""
    allowed = set()
    parts = sections(path)

    def allow(address, size):
        for off, vaddr, filesz in loads(before):
            if vaddr <= address < vaddr + filesz:
                allowed.update(range(off + address - vaddr, off + address - vaddr + size))

    for s in view["sites"]:
        if s["state"] == "baked":
            allow(int(s["address"], 16), s["length"])
    for k in view["keys"]:
        if k["type"] == "static call" and k["address"]:
            allow(int(k["address"], 16) + 32, 4)
    if ".dynsym" in parts:
        allow(parts[".dynsym"][1], parts[".dynsym"][3])
    allowed.update(range(0x28, 0x30))  # e_shoff
    allowed.update(range(0x3c, 0x40))  # e_shnum, e_shstrndx
    return all(i in allowed
               for off, _, size in loads(before)
               for i in range(off, off + size) if before[i] != after[i])


def check_table(name, path, view):
    t = table(path)
    if not ok(t is not None and t["magic"] == b"SHUNTBK2" and t["offset"] % 8 == 0,
              f"{name}: the table is there"):
        return
    calls = [s for s in view["sites"] if s["kind"] in CALLS]
    ok([t["base"] + s[0] for s in t["sites"]] == [int(s["address"], 16) for s in calls],
       f"{name}: the table has the sites, in order")
    ok([t["mods"][s[1] >> 9][3] for s in t["sites"]] == ["__SCT__" + s["key"] for s in calls]
       and all(m[4] == 0 for m in t["mods"]),
       f"{name}: and their keys")
    data = read(path)
    direct = {t["mods"][s[1] >> 9][0] for s in t["sites"] if s[1] & 0x100}
    flags = [struct.unpack("<I", segment_bytes(data, m[0] + 32, 4))[0] for m in t["mods"] if m[0]]
    ok([bool(f & 2) for f in flags] == [m[0] in direct for m in t["mods"] if m[0]],
       f"{name}: keys with direct sites are marked")


def check_direct(name, path, view):
    """By objdump: a site of key `call` in work() calls twice() itself."""
    site = [s for s in view["sites"] if s["key"] == "call" and s["function"] == "work"
            and s["state"] == "baked"]
    if not site:
        return
    text = run("objdump", "-d", "--no-show-raw-insn", "--disassemble=work", path).stdout
    line = re.search(rf"^ *{int(site[0]['address'], 16):x}:.*$", text, re.M)
    if not line:  # the site follows a prefix that objdump shows it with
        line = re.search(rf"^ *{int(site[0]['address'], 16) - 1:x}:.*$", text, re.M)
    ok(line is not None and "<twice" in line[0], f"{name}: objdump shows the direct call")


def check_live(name, path, before, view):
    """The bytes in the baked file are those that libshunt writes itself."""
    data = read(path)
    wrong = []
    n = 0
    for s in view["sites"]:
        bytes_ = before.get((s["key"], s["function"], str(s["offset"])))
        if s["state"] == "baked" and bytes_:
            n += 1
            if segment_bytes(data, int(s["address"], 16), s["length"]).hex() != bytes_:
                wrong.append(s["address"])
    ok(n > 0 and not wrong, f"{name}: {n} direct forms are what libshunt writes {wrong or ''}")


# What somebody writes over an instruction of five bytes or six.
OTHERS = {
    "nops": lambda old, _: b"\x90" * len(old),
    "a nop": lambda old, _: (b"\x66" + b"\x0f\x1f\x44\x00\x00")[-len(old):],
    "int3": lambda old, _: b"\xcc" * len(old),
    "a ret": lambda old, _: b"\xc3" + b"\xcc" * (len(old) - 1),
    "a call elsewhere": lambda old, _: (b"\xe8\x11\x22\x33\x00\x90")[:len(old)],
    "RET0": lambda old, _: (b"\x2e" * 4 + b"\x31\xc0")[-len(old):],
    "where it leads": lambda old, _: old[:-4] + struct.pack("<I", struct.unpack("<I", old[-4:])[0] ^ 16),
    "its first byte": lambda old, _: bytes([old[0] ^ 1]) + old[1:],
}


def altered(path, view, of_calls, other):
    """@path with other bytes at all its calls, or branches, in the file "altered": what is said of it, and of how many."""
    data, n = bytearray(read(path)), 0
    for s in view["sites"]:
        at, size = int(s["address"], 16), s["length"]
        if (s["kind"] in CALLS) != of_calls:
            continue
        at = next(off + at - vaddr for off, vaddr, filesz in loads(data) if vaddr <= at < vaddr + filesz)
        old = bytes(data[at:at + size])
        new = other(old, s)
        n += new != old
        data[at:at + size] = new
    write("altered", data)
    return sites_of("altered"), n


def check_altered(name, path, view):
    """Other instructions at the sites of a baked file are told: each, and none where it is as it was."""
    wrong = {}
    for what, other in OTHERS.items():
        now, n = altered(path, view, True, other)
        foreign = [s["why"] for s in now["sites"] if s["state"] == "foreign"] if now else []
        said = run(SHUNT, "sites", "--check", "altered")
        if not n or len(foreign) != n or said.returncode != 1 or said.stdout.count(": foreign: not the instruction") != n:
            wrong[what] = n, len(foreign), said.returncode
    ok(not wrong, f"{name}: all calls overwritten: each is foreign {wrong or ''}")
    none = [s for s in view["sites"] if s["state"] == "foreign"]
    ok(not none and ": foreign: not" not in run(SHUNT, "sites", "--check", path).stdout,
       f"{name}: control: as it was baked none is {none or ''}")
    one = [s["address"] for s in view["sites"] if s["kind"] in CALLS][-1]
    now, _ = altered(path, view, True, lambda old, s: b"\x90" * len(old) if s["address"] == one else old)
    ok([s["address"] for s in now["sites"] if s["state"] == "foreign"] == [one], f"{name}: one overwritten: that one alone")


def check_altered_as_linked(name, path, view):
    """The same before baking: they are no sites; and of branches, which never change."""
    wrong = {}
    for what in ("nops", "a nop", "int3", "a ret", "a call elsewhere"):
        now, n = altered(path, view, True, OTHERS[what])
        new = {r["why"] for r in now["references"]} - {r["why"] for r in view["references"]}
        if len(now["references"]) != len(view["references"]) + n or "address taken" in new or not new:
            wrong[what] = n, len(now["references"]), new
    ok(not wrong, f"{name}: all calls overwritten, not baked: none is a site, nor its address taken {wrong or ''}")
    wrong = {}
    for what in ("nops", "int3", "a ret", "a call elsewhere"):
        now, n = altered(path, view, False, lambda old, s, w=what: OTHERS[w](old, s)[:len(old)])
        left = [r for r in now["references"] if r["state"] == "as linked"]
        if len(left) != n or run(SHUNT, "sites", "--check", "altered").stdout.count(": as linked: no form") != n:
            wrong[what] = n, left
    ok(not wrong, f"{name}: all branches overwritten: none is a site {wrong or ''}")


def check_strip(name, path, wanted):
    """@path does as before after every strip; @wanted: its output."""
    for command in ("strip", "strip -g", "strip --strip-unneeded", "llvm-strip -g",
                    "llvm-strip --strip-unneeded", "llvm-strip --keep-section=.shunt.sites",
                    "eu-strip -g", "eu-strip --keep-section=.shunt.sites"):
        what = f"{name}: {command}"
        if not shutil.which(command.split()[0]):
            skip(what, "not installed")
            continue
        shutil.copy(path, "stripped.exe")
        made = run(*command.split(), "stripped.exe")
        if made.returncode:
            skip(what, made.stderr.strip()[:80])
            continue
        view = sites_of("stripped.exe")
        done = run("./stripped.exe", "update")
        ok(view is not None and view["baked"] and len(view["sites"]) > 0
           and not [s for s in view["sites"] if s["state"] == "foreign"] and done.stdout == wanted, what)


def check_earlier(name, path, wanted):
    """
    A file that an earlier `shunt bake` has made: what is off has no displacement. Control: the
    same with the magic of today, so that libshunt takes these sites for somebody else's.
    """
    t, data = table(path), bytearray(read(path))
    bare = {0: bytes.fromhex("0f1f440000"), 2: b"\xc3" + 4 * b"\xcc"}  # SHUNT_KIND_CALL, _JMP
    off = {0: 0xa9, 2: 0xc3}
    n = 0
    for address, what in t["sites"]:
        key = t["mods"][what >> 9][3]
        if key != "__SCT__null" or not what & 0x100:
            continue
        at = next(o + t["base"] + address - v for o, v, size in loads(data)
                  if v <= t["base"] + address < v + size)
        n += data[at] == off[what & 0xff] and data[at:at + 5] != bare[what & 0xff]
        data[at:at + 5] = bare[what & 0xff]
    shutil.copy(path, "earlier.exe")
    write("earlier.exe", data)
    control = run("./earlier.exe", "update")
    mixed = [s["key"] for s in sites_of("earlier.exe")["sites"] if s["state"] == "foreign"]
    data[t["offset"]:t["offset"] + 8] = b"SHUNTBK1"
    write("earlier.exe", data)
    view, done = sites_of("earlier.exe"), run("./earlier.exe", "update")
    ok(mixed == ["null"] * n and not [s for s in view["sites"] if s["state"] == "foreign"],
       f"{name}: by such a table these are no other instructions; control: by one of today they are")
    ok(n == 2 and view["baked"] and done.returncode == 0 and done.stdout == wanted,
       f"{name}: {n} sites baked without a displacement, by an earlier version: "
       f"{done.stdout.split()} {done.stderr.strip()}")
    ok(control.stdout != wanted, f"{name}: control: taken for baked by this one: "
       f"{control.stdout.split()}")


def check_bake(name, files):
    program = files[0]
    wanted = run(f"./{program}", "update").stdout
    before = live(program)
    for path in files:
        original = read(path)
        first = sites_of(path)
        check_altered_as_linked(name, path, first)
        os.chmod(path, 0o751)
        done = run(SHUNT, "bake", path)
        if not ok(done.returncode == 0, f"{name}: bake {path} {done.stderr.strip()}"):
            return
        view = sites_of(path)
        parts = sections(path)
        ok(os.path.getsize(path) < len(original) and os.stat(path).st_mode & 0o7777 == 0o751,
           f"{name}: {path} is smaller, with its mode")
        ok(not [s for s, p in parts.items() if p[0] == "RELA" and "A" not in p[4]],
           f"{name}: no relocations but the dynamic ones")
        ok(view["baked"] and [(s["address"], s["key"], s["kind"]) for s in view["sites"]]
           == [(s["address"], s["key"], s["kind"]) for s in first["sites"]],
           f"{name}: sites are the same from the table")
        ok(only_expected_changes(original, read(path), path, view),
           f"{name}: nothing else that is loaded has changed")
        lint = run("readelf", "-aW", path)
        ok(lint.returncode == 0 and "Warning" not in lint.stderr and "Error" not in lint.stderr,
           f"{name}: readelf has no complaint {lint.stderr.strip()[:200]}")
        check_altered(name, path, view)
        check_table(name, path, view)
        check_direct(name, path, view)
        if path == program:
            check_live(name, path, before, view)
        baked = read(path)
        again = run(SHUNT, "bake", path)
        ok(again.returncode == 0 and "baked already" in again.stdout and read(path) == baked,
           f"{name}: baking again changes nothing")
    done = run(f"./{program}", "update")
    ok(done.returncode == 0 and done.stdout == wanted and wanted,
       f"{name}: the baked program computes the same, updates too: "
       f"{done.stdout.split()} {done.stderr.strip()}")
    if name in (("gcc-pie", "gcc-static", "clang-lld") if ALL else CHOSEN[:1]):
        check_strip(name, program, wanted)
        check_earlier(name, program, wanted)


# ------------------------------------------------------------------------ bad input

@functools.lru_cache(maxsize=1)
def objects():
    """The fixture compiled once, for what is linked in other ways."""
    run("gcc", "-O2", "-I", INCLUDE, "-c", source("fixture.c"), source("fixture_jcc.S"), source("fixture_lib.c"))
    return ["fixture.o", "fixture_jcc.o", "fixture_lib.o"]


def refuses(path, what, message, exit_status=1):
    before = read(path) if os.path.isfile(path) else None
    there = sorted(os.listdir("."))
    done = run(SHUNT, "bake", path)
    ok(done.returncode == exit_status and message in done.stderr and "shunt:" in done.stderr
       and (before is None or read(path) == before) and sorted(os.listdir(".")) == there,
       f"bake: {what}: {done.stderr.strip()}")
    return done


def check_refusals(good):
    refuses("missing", "no such file", "No such file")
    os.mkdir("directory")
    refuses("directory", "a directory", "not a regular file")
    write("empty", b"")
    refuses("empty", "an empty file", "not an executable")
    write("text", b"#!/bin/sh\nexit 0\n")
    refuses("text", "a script", "not an executable")
    compiled = objects()
    refuses(compiled[0], "an object file", "not an executable")
    run("gcc", *compiled, f"{LIB}/libshunt.a", "-o", "plain", "-lpthread")
    refuses("plain", "no relocations", "--emit-relocs")
    shutil.copy(good, "stripped")
    run("strip", "stripped")
    refuses("stripped", "stripped", "stripped")
    write("nothing.c", b"int f(int x) { return x; }\nint main(void) { return f(0); }\n")
    run("gcc", "nothing.c", "-o", "nothing")
    done = refuses("nothing", "without static calls", "there is nothing to bake in it")
    ok("emit-relocs" not in done.stderr, "bake: and no other way to link is told")
    write("imports.c", b"#include <shunt/static_call.h>\nint f(int);\nDECLARE_STATIC_CALL(k, f);\n"
          b"int g(void);\nint g(void) { return static_call(k)(1); }\n")
    run("gcc", "-O2", "-shared", "-fPIC", "-I", INCLUDE, "imports.c", "-o", "imports.so")
    refuses("imports.so", "control: with calls of another module's key", "--emit-relocs")
    run(SHUNT, "bake", "-o", "lost", good)
    run("strip", "-R", ".shunt.sites", "lost")
    refuses("lost", "baked, and without its table", "was baked, and has no site table (section .shunt.sites) any more")
    for name, path in ("linked", good), ("baked", "lost"):
        if name == "baked":
            run(SHUNT, "bake", "-o", path, good)
        run("objcopy", "--only-keep-debug", path, name + ".debug")
        refuses(name + ".debug", f"the debugging information of a file, {name}", "holds no code")
        done = run(SHUNT, "sites", "--check", name + ".debug")
        ok(done.returncode == 1 and "holds no code" in done.stderr, f"sites: the same: {done.stderr.strip()}")
    data = read(good)
    write("appended", data + b"PK" * 100)
    refuses("appended", "data behind the sections", "behind or between its sections")
    write("appended", data + b"PAYLOAD\n")
    refuses("appended", "a word behind the sections", "behind or between its sections")
    # Behind a section that moves, where the next one's alignment leaves room.
    (start, size), (after, _) = gap_between_sections(data)
    write("gap", data[:start + size] + b"!" + data[start + size + 1:])
    refuses("gap", f"a byte between the sections (of {after - start - size})",
            "behind or between its sections")
    write("padded", data + bytes(5))
    done = run(SHUNT, "bake", "padded")
    ok(done.returncode == 0, f"bake: zeros behind the sections are padding {done.stderr.strip()!r}")


def gap_between_sections(data):
    """Two places in the file, each (offset, size), of sections that are not loaded, with room between."""
    shoff, = struct.unpack_from("<Q", data, 40)
    size, n = struct.unpack_from("<HH", data, 58)
    places = []
    for i in range(1, n):
        kind, flags, _, offset, length = struct.unpack_from("<IQQQQ", data, shoff + i * size + 4)
        if kind != 8 and not flags & 2:
            places.append((offset, length))
    places = sorted(places) + [(shoff, n * size)]
    return next((a, b) for a, b in zip(places, places[1:]) if a[0] + a[1] < b[0])


def bake_to(path, out, to, tool=SHUNT):
    """A bake whose standard output is directed by the shell."""
    return subprocess.run(["sh", "-c", f'exec "$@" {to}', "sh", tool, "bake", "-o", out, path],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)


def check_unsaid(good):
    """What cannot be said is not done."""
    for path, out in [("unsaid", "unsaid"), ("unsaid", "unsaid.out")]:
        shutil.copy(good, path)
        # Closed, its number is not the new file's: what is printed would go into that.
        for what, to in (("full", ">/dev/full"), ("closed", ">&-"), ("closed, and input", "<&- >&-")):
            done = bake_to(path, out, to)
            ok(done.returncode == 1 and done.stderr.count("standard output") == 1 and read(path) == read(good)
               and not os.path.exists("unsaid.out") and not glob.glob("unsaid*.??????"),
               f"bake: standard output is {what}: nothing is replaced or made {done.stderr.strip()!r}")
        done = bake_to(path, out, ">&-", UNPROTECTED)
        ok(done.returncode == 0 and not done.stderr and read(out) != read(good),
           "control: closed, and its number is the new file's: that is made, with what was printed in it")
        if out != path:
            os.unlink(out)


def check_truncated(good):
    """Cut off anywhere, a file is refused or, where all that counts is there, baked."""
    data = read(good)
    damaged = []
    random.seed(1)
    for size in [1, 63, 64, 65, 120, 4096] + [random.randrange(len(data)) for _ in range(60 if ALL else 5)] + \
            [len(data) - 1]:
        write("cut", data[:size])
        done = run(SHUNT, "bake", "cut")
        if done.returncode != 1 or not done.stderr or read("cut") != data[:size]:
            damaged.append(size)
    ok(not damaged, f"bake: {67 if ALL else 12} truncated files are refused and untouched {damaged}")


def branches_of(path):
    return [s for s in sites_of(path)["sites"] if s["kind"].startswith("branch")]


def terminal_sees(tool, *how):
    """What `sites` prints of the file "named", and what of it a terminal must not see."""
    text = subprocess.run([tool, "sites", *how, "named"], capture_output=True, check=False).stdout.decode(errors="replace")
    return text, sorted({c for c in text if c != "\n" and (not c.isprintable() or c == "\ufffd")})


def check_names(good):
    """A terminal sees no control character of a name, and nothing that is no UTF-8."""
    data = read(good)
    named = data
    for old, new in ((b"foreign\0", b"fore\x1bgn\0"), (b"ret0\0", b"r\xc2\x9b0\0")):
        for prefix in b"\0", b"__SCK__", b"__SCT__":
            named = named.replace(prefix + old, prefix + new)
    named = named.replace(b"\0ret0_tail\0", b"\0ret0\x9btail\0").replace(b"\0twice\0", b"\0tw\x7fce\0")
    write("named", named)
    keys = {k["name"]: k["initial"] for k in sites_of("named")["keys"]}
    ok(len(named) == len(data) and "fore\x1bgn" in keys and "r\x9b0" in keys and keys["unused"] == "tw\x7fce",
       f"control: they are in the file {keys}")
    for how, shown in ([], ("fore?gn", "r??0", "ret0?tail+0x", "tw?ce")), (["--check"], ["fore?gn"]):
        text, bad = terminal_sees(SHUNT, *how)
        ok(not bad and all(name in text for name in shown),
           f"{' '.join(['sites', *how])}: names without control characters {bad}")
        _, bad = terminal_sees(UNPROTECTED, *how)
        ok("\x1b" in bad, f"control: names as they are: {bad}")


def check_as_the_library(good):
    """What the library does not take for sites, these do not list."""
    there = len(branches_of(good))
    _, _, offset, size, _ = sections(good)[".static_jumps"]
    data = bytearray(read(good))
    record = next(at for at in range(offset, offset + size, 16)
                  if struct.unpack_from("<i", data, at)[0])
    struct.pack_into("<I", data, record + 12, 0)
    write("magic", data)
    ok(there > 1 and len(branches_of("magic")) == there - 1,
       f"sites: a record without its magic is none; control: {there} with it")
    write("note", b"note")
    made = run("objcopy", "--add-section", ".note.bolt_info=note", good, "moved")
    if made.returncode:
        skip("sites, bake: a file that llvm-bolt has been at", made.stderr.strip()[:80])
        return
    done, view = run(SHUNT, "sites", "moved"), sites_of("moved")
    ok(done.returncode == 0 and "llvm-bolt has moved its code" in done.stdout
       and not view["sites"] and view["why"] and view["keys"],
       f"sites: a file that llvm-bolt has been at: {view['why']}")
    refuses("moved", "a file that llvm-bolt has been at", "llvm-bolt has moved its code")
    run("objcopy", "--add-section", ".note.other=note", good, "other")
    ok(sites_of("other")["sites"] and run(SHUNT, "bake", "other").returncode == 0,
       "control: another section beside the others")


def check_garbage(good):
    """Bytes changed at random: no crash, and a file that is refused stays as it is."""
    data = read(good)
    shoff, = struct.unpack_from("<Q", data, 40)
    random.seed(2)
    bad = []
    refused = 0
    mutants = 200 if ALL else 12
    for i in range(mutants):
        mutant = bytearray(data)
        for _ in range(random.randrange(1, 20)):
            at = random.choice([random.randrange(0x400), random.randrange(len(data)),
                                shoff + random.randrange(len(data) - shoff)])
            mutant[at] = random.choice([0, 0xff, random.randrange(256)])
        write("mutant", mutant)
        done = run(SHUNT, "bake", "mutant")
        shown = run(SHUNT, "sites", "--json", "mutant")
        if done.returncode == 1:
            refused += 1
        if done.returncode not in (0, 1) or shown.returncode not in (0, 1) or \
                (done.returncode == 1 and read("mutant") != bytes(mutant)):
            bad.append(i)
    ok(not bad, f"bake, sites: {mutants} mutants, {refused} refused, no crash {bad}")
    ok(not [f for f in os.listdir(".") if f.startswith("mutant.") or f.startswith("cut.")],
       "bake: leaves no temporary file")


def interrupted(good, before_exec, marker, *command):
    """The status of a bake that something stops in the middle, and what it left."""
    os.mkdir(marker)
    path = os.path.join(marker, "prog")
    shutil.copy(good, path)
    old = read(path)
    done = subprocess.run([*command, SHUNT, "bake", path], preexec_fn=before_exec,
                          capture_output=True, text=True, check=False, timeout=60)
    return done, os.listdir(marker) == ["prog"] and read(path) == old


def check_interrupted(good):
    """A limit or a signal leaves the file as it was, and no temporary one."""
    def short_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done, clean = interrupted(good, short_files, "limit")
    ok(done.returncode == 1 and clean and "File too large" in done.stderr,
       f"bake: files may be no longer than a page: {done.returncode} {done.stderr.strip()}")
    if shutil.which("strace"):
        for name in "TERM", "INT", "HUP":
            done, clean = interrupted(good, None, "sig" + name, "strace", "-o", "/dev/null",
                                      "-e", "trace=fsync",
                                      "-e", f"inject=fsync:signal=SIG{name}:when=1")
            new = read(os.path.join("sig" + name, "prog")) != read(good)
            left = os.listdir("sig" + name)
            ok(left == ["prog"] and (new or clean), f"bake: SIG{name} before the new file is in "
               f"its place: {done.returncode} {left}")
        interrupted(good, None, "sigKILL", "strace", "-o", "/dev/null", "-e", "trace=fsync",
                    "-e", "inject=fsync:signal=SIGKILL:when=1")
        ok(len(os.listdir("sigKILL")) == 2,
           "control: SIGKILL, which cannot wait, leaves the temporary file")
    else:
        skip("bake: signals", "no strace")
    shutil.copy(good, "one")
    os.link("one", "two")
    done = run(SHUNT, "bake", "one")
    ok(done.returncode == 0 and "1 other name (hard link)," in done.stdout
       and read("two") == read(good),
       f"bake: a hard link keeps the old file, and it is said: {done.stdout.splitlines()[-1:]}")


def check_places(good):
    """Names as long as names may be, and links that lead to nothing yet."""
    os.mkdir("places")
    for size in 100, 248, 249, 255:
        path = os.path.join("places", "n" * size)
        shutil.copy(good, path)
        done = run(SHUNT, "bake", path)
        ok(done.returncode == 0 and sites_of(path)["baked"] and os.listdir("places") == ["n" * size],
           f"bake: a name of {size} bytes {done.stderr.strip()[-60:]}")
        os.unlink(path)
        done = run(SHUNT, "bake", "-o", path, good)
        ok(done.returncode == 0 and os.listdir("places") == ["n" * size], f"bake -o: a name of {size} bytes")
        os.unlink(path)
    done = run(SHUNT, "bake", "-o", os.path.join("places", "n" * 256), good)
    ok(done.returncode == 1 and "name too long" in done.stderr and not os.listdir("places"),
       f"control: 256 bytes are no name {done.stderr.strip()[-60:]}")
    os.mkdir("places/there")
    for link, to in (("first", "places/second"), ("places/second", "there/made"), ("places/lost", "nowhere/made")):
        os.symlink(to, link)
    done = run(SHUNT, "bake", "-o", "first", good)
    ok(done.returncode == 0 and os.path.islink("first") and os.path.islink("places/second")
       and os.listdir("places/there") == ["made"] and sites_of("first")["baked"],
       f"bake -o: through links to where no file is yet {done.stderr.strip()}")
    done = run(SHUNT, "bake", "-o", "places/lost", good)
    ok(done.returncode == 1 and "No such file" in done.stderr and os.path.islink("places/lost"),
       f"bake -o: through a link to where no folder is {done.stderr.strip()}")
    os.symlink("circle", "circle")
    done = run(SHUNT, "bake", "-o", "circle", good)
    ok(done.returncode == 1 and os.path.islink("circle"), f"bake -o: through a link to itself {done.stderr.strip()}")


def check_output(good):
    data = read(good)
    done = run(SHUNT, "bake", "-o", "out", good)
    ok(done.returncode == 0 and read(good) == data and os.access("out", os.X_OK)
       and sites_of("out")["baked"], "bake -o leaves the file alone")
    shutil.copy(good, "real")
    os.symlink("real", "link")
    done = run(SHUNT, "bake", "link")
    ok(done.returncode == 0 and os.path.islink("link") and sites_of("real")["baked"],
       "bake: a symlink stays, its target is baked")
    check_places(good)
    shutil.copy(good, "running")
    with subprocess.Popen(["./running", "wait"], stdin=subprocess.PIPE,
                          stdout=subprocess.DEVNULL) as process:
        done = run(SHUNT, "bake", "running")
        ok(done.returncode == 0, "bake: a program that runs")
        process.communicate()
    if os.getuid() == 0:
        shutil.copy(good, "owned")
        os.chown("owned", 1234, 5678)
        os.chmod("owned", 0o4755)
        run(SHUNT, "bake", "owned")
        st = os.stat("owned")
        ok((st.st_uid, st.st_gid, st.st_mode & 0o7777) == (1234, 5678, 0o4755),
           "bake: owner and mode, the set-user-ID bit too")
    else:
        skip("bake: owner and mode, the set-user-ID bit too", "not root")


# ------------------------------------------- what a file tells, and what it cannot

def default_visibility(compiler, code):
    """Assembly of @code with an exported trampoline that is not protected: its calls are bound."""
    run(*compiler.split(), "-I", INCLUDE, "-fPIC", "-S", code, "-o", "default.s")
    with open("default.s", encoding="ascii") as f:
        lines = [line for line in f
                 if not re.match(r"\s*\.(hidden|protected)\s+__SCT__filter", line)]
    write("default.s", "".join(lines).encode())
    return "default.s"


def claim(name, library, program):
    """The files of one way to build the pair of claims*.c; None: cannot be built here."""
    code = source("interposed_lib.c")
    if name == "default":
        code = default_visibility(library, code)
    made = run(*library.split(), "-I", INCLUDE, KEEP, "-fPIC", "-shared", code, "-o",
               f"lib{name}.so", f"{LIB}/libshunt.so")
    if made.returncode == 0:
        made = run(*program.split(), "-I", INCLUDE, KEEP, source("interposed.c"), "-o", f"{name}.exe",
                   f"lib{name}.so", f"{LIB}/libshunt.so",
                   f"-Wl,-rpath,{LIB}:{os.getcwd()}")
    return None if made.returncode else (f"lib{name}.so", f"{name}.exe")


def states(view, key):
    return [(s["state"], s["why"]) for s in view["sites"] if s["key"] == key]


def listed(view, name):
    return [(k["element"], k["defined"], k["sites"]) for k in view["keys"] if k["name"] == name]


def check_claims_listed(name, lib, program, interposable):
    """Which sites may be far; keys once; elements of arrays."""
    inside, outside = sites_of(lib), sites_of(program)
    got = states(inside, "filter")
    ok(got and all(s == "inline" and bool(w) == interposable and "another module's" in (w or
       "another module's") for s, w in got), f"{name}: a target in the file is near, "
       f"{'unless interposed' if interposable else 'for sure'}: {got[:1]}")
    got = states(outside, "filter")
    ok(got and all(s == "may be far" and "key is in another module" in w for s, w in got),
       f"{name}: that of an imported key may be far")
    ok(states(inside, "foreign")[0][0] == "may be far"
       and states(outside, "mine") == [("inline", None)],
       f"{name}: control: so may be another module's function, and the program's own is near")
    got = [s for v in (inside, outside) for s in v["sites"] if s["kind"].startswith("branch")]
    ok(len(got) == 4 and all(s["state"] == "inline" for s in got), f"{name}: no branch is far")
    ok(listed(inside, "filter") == [(None, "here", 1)] and
       listed(inside, "flag") == [(None, "here", 1)],
       f"{name}: a key that is exported and used is listed once")
    ok(listed(outside, "filter") == [(None, "imported", 1)] and
       listed(outside, "flag") == [(None, "imported", 1)],
       f"{name}: control: where it is imported, as imported")
    ok(listed(inside, "flags") == [(0, "here", 0), (1, "here", 0), (2, "here", 1), (3, "here", 0)]
       and listed(outside, "flags") == [(3, "imported", 1)]
       and listed(inside, "single") == [(None, "here", 0)],
       f"{name}: elements of arrays, here and imported; an array of one has none")
    text, other = run(SHUNT, "sites", lib).stdout, run(SHUNT, "sites", program).stdout
    ok("flags[2] " in text and "(0 imported); 2 call sites, 2 branches;" in text
       and "1 may be far" in text and "(3 imported); 2 call sites, 2 branches;" in other
       and "1 may be far" in other, f"{name}: the same as a table")


def check_claims_baked(name, lib, program, interposable):
    """A call of what may be interposed is not baked; that is said, and is as it is said."""
    off = [s["offset"] for s in sites_of(lib)["sites"] if s["key"] == "filter"][0]

    def targets():
        return run(f"./{program}", str(off)).stdout.split()

    ok(targets() == ["function", "function", "8"], f"{name}: not baked, direct when loaded")
    done = run(SHUNT, "bake", lib)
    first, *why = done.stdout.splitlines()
    left = [line for line in why if "1 site may be interposed: bound when loaded" in line]
    ok(done.returncode == 0 and f"2 sites of 2 keys, {0 if interposable else 1} with the direct "
       in first and len(left) == interposable and f"{lib}: 1 site may go to another module" in
       done.stdout, f"{name}: bake says what is left, and why: {why}")
    ok(targets() == ["trampoline" if interposable else "function", "function", "8"],
       f"{name}: baked, {'on the trampoline until the first update' if interposable else 'direct'}")
    made = run("gcc", "-shared", "-fPIC", "-DINTERPOSER", "-I", INCLUDE, source("interposed.c"), "-o",
               "interposer.so")
    done = run(f"./{program}", str(off), env={"LD_PRELOAD": "./interposer.so"})
    ok(made.returncode == 0 and done.stdout.split()[-1] == ("1007" if interposable else "8"),
       f"{name}: another module's function {'takes' if interposable else 'does not take'} "
       "the place")
    states_now = states(sites_of(lib), "filter")
    ok(states_now[0][0] == ("inline" if interposable else "baked"), f"{name}: its state, baked")


def check_claims():
    for name, library, program, interposable in (
            ("plain", "gcc -O2", "gcc -O2", True),
            ("noplt", "gcc -O2 -fno-plt", "gcc -O2 -fno-plt", True),
            ("default", "gcc -O2 -Wl,-z,now", "gcc -O2", True),
            ("clang", "clang -O2", "clang -O2 -fPIE -pie", True),
            ("lld", "gcc -O2 -fuse-ld=lld", "gcc -O2 -fuse-ld=lld", True),
            ("symbolic", "gcc -O2 -Wl,-Bsymbolic-functions", "gcc -O2", False),
            ("local", "gcc -O2 -DLOCAL=static", "gcc -O2 -fno-pie -no-pie", False)):
        if not ALL and name not in ("plain", "symbolic"):
            continue
        files = claim(name, library, program)
        if not files:
            skip(f"{name}: {library}", "cannot be built here")
            continue
        check_claims_listed(name, *files, interposable)
        check_claims_baked(name, *files, interposable)


KERNEL = """
#include <shunt/static_call.h>
const char room[ROOM] __attribute__((used, section(".shunt.sites")));
void first(int);
void first(int x) { (void)x; }
DEFINE_STATIC_CALL(key, first);
void _start(void);
void _start(void) { static_call(key)(1); static_call(key)(2); }
"""


ROOM = """
const char room[4096] __attribute__((used, section(".shunt.sites,\\"a\\",@progbits#")));
"""


def kernel(name, room):
    """A file as a kernel is: nothing but itself, with @room bytes for the table."""
    write(name + ".c", KERNEL.encode())
    return run("gcc", "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-O1",
               f"-DROOM={room}", "-I", INCLUDE, "-Wl,--emit-relocs", name + ".c", "-o", name)


def check_loaded_table():
    """A loaded section of the table's name gets the table; one too small is refused."""
    if kernel("kernel", 4096).returncode:
        skip("bake: a loaded table", "cannot be built here")
        return
    _, address, offset, size, flags = sections("kernel")[".shunt.sites"]
    ok(not sites_of("kernel")["baked"], "bake: an empty loaded table is none yet")
    done = run(SHUNT, "bake", "kernel")
    view, found = sites_of("kernel"), table("kernel")
    ok(done.returncode == 0 and view["baked"]
       and sections("kernel")[".shunt.sites"] == ("PROGBITS", address, offset, size, flags)
       and segment_bytes(read("kernel"), address, 8) == b"SHUNTBK2"
       and len(found["sites"]) == 2 and len(view["sites"]) == 2
       and list(sections("kernel")).count(".shunt.sites") == 1,
       f"bake: a loaded table is filled in its place {done.stderr.strip()}")
    ok(run(SHUNT, "bake", "kernel").stdout.strip().endswith("baked already"),
       "bake: a loaded table, once more")
    kernel("small", 64)
    refuses("small", "a loaded table that is too small", "too small")
    write("room.c", ROOM.encode())
    made = run("gcc", "-O2", "-I", INCLUDE, KEEP, *objects(), "room.c", f"{LIB}/libshunt.a", "-lpthread", "-ldl",
               "-o", "room")
    ok(made.returncode == 0 and any(key == "call" for key, _, _ in live("room"))
       and not sites_of("room")["baked"],
       f"room for a table in a program: none yet, to the library too {made.stderr.strip()}")


def check_command_line(good):
    for args, status in ((["--version"], 0), (["--help"], 0), ([], 2), (["nonsense"], 2),
                         (["sites"], 2), (["sites", "--nonsense", good], 2),
                         (["sites", good, good], 2), (["bake"], 2), (["bake", "--help"], 0),
                         (["sites", "--help"], 0), (["selftest", "--help"], 0),
                         (["selftest", "x"], 2), (["sites", "missing"], 1)):
        done = run(SHUNT, *args)
        ok(done.returncode == status and bool(done.stdout if status == 0 else done.stderr),
           f"shunt {' '.join(os.path.basename(a) for a in args)}: status {status}")
    for args in (["sites", good], ["bake", "--help"], ["--version"],
                 *((["sites", "--help"], ["--help"], ["-h"], ["help"]) if ALL else ())):
        name = " ".join(os.path.basename(a) for a in args)
        for what, to in (("full", ">/dev/full"), ("closed", ">&-")):
            done = subprocess.run(["sh", "-c", f'exec "$@" {to}', "sh", SHUNT, *args],
                                  stderr=subprocess.PIPE, check=False)
            ok(done.returncode == 1 and done.stderr,
               f"{name}: standard output that is {what} is an error")
        done = run(SHUNT, *args)
        ok(done.returncode == 0 and done.stdout and not done.stderr,
           f"control: {name}: standard output that is neither is none")


def main():
    work = tempfile.mkdtemp(prefix="shunt-tool-")
    os.chdir(work)
    try:
        good = None
        for name, command in VARIANTS.items():
            if not ALL and name not in CHOSEN:
                continue
            files = build(name, command)
            if not files:
                skip(f"{name}: {command}", "cannot be built here")
                continue
            for path in files:
                check_sites(f"{name} {path}", path)
            if not good:
                good = "good"
                shutil.copy(files[0], good)
            check_bake(name, files)
        check_refusals(good)
        check_truncated(good)
        check_unsaid(good)
        check_garbage(good)
        check_names(good)
        check_as_the_library(good)
        check_interrupted(good)
        check_claims()
        check_output(good)
        check_loaded_table()
        check_command_line(good)
    finally:
        os.chdir("/")
        shutil.rmtree(work)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
