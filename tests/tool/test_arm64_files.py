#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Tests `shunt sites` and `shunt bake` on files for aarch64, whatever this machine is: programs and
shared objects of gcc and clang, linked by ld.bfd and lld, against readelf and a decoder of b, bl
and nop of its own.

    test_arm64_files.py SHUNT INCLUDEDIR [all]

Without "all": SOME of the ways to build.

What cannot be built here is skipped. The baked program is run where it can be (qemu-aarch64);
libshunt is a stub then, so nothing is patched. Controls: files whose code or relocations have been
changed by hand, which must not be taken for what they were. One line of TAP a check.
"""

import json
import mmap
import os
import platform
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SHUNT, INCLUDE = (os.path.abspath(a) for a in sys.argv[1:3])
NATIVE = platform.machine() == "aarch64"
COMPILERS = {"gcc": "gcc" if NATIVE else "aarch64-linux-gnu-gcc",
             "clang": "clang" if NATIVE else "clang --target=aarch64-linux-gnu"}
KEEP = "-Wl,--emit-relocs,--build-id=sha1"
NOP = 0xd503201f
CALLS = {"call", "tail"}
SOME = {"clang-lld-843419", "far-843419"}
ALL = sys.argv[3:] == ["all"]
count = failed = 0


def ok(good, what):
    global count, failed
    count += 1
    failed += not good
    print(f"{'' if good else 'not '}ok {count} - {what}", flush=True)
    return good


def skip(what, why):
    global count
    count += 1
    print(f"ok {count} - {what} # SKIP {why}", flush=True)


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, check=False,
                          env=dict(os.environ, LC_ALL="C"))


def read(path):
    with open(path, "rb") as f:
        return f.read()


def mapped(path):
    """The same of a file that may have hundreds of megabytes between its sections, to look at some of it."""
    with open(path, "rb") as f:
        return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


# ---------------------------------------------------------------- building fixtures

# What stands for libshunt.
STUB = """
void shunt_module_register(const void *m) { (void)m; }
void shunt_module_unregister(const void *m) { (void)m; }
void __static_call_nop(void) {}
long __static_call_return0(void) { return 0; }
int __static_call_update(void *key, void (*func)(void)) { (void)key; (void)func; return -1; }
int shunt_for_each_site(void *a, void *b, void *c) { (void)a; (void)b; (void)c; return -1; }
int __static_key_disable(void *key) { (void)key; return -1; }
"""

# What fixture_jcc.S does on x86-64: tail calls behind a condition.
JCC = """
	.text
	.globl conditional, conditional_ret0
	.type conditional, %function
	.type conditional_ret0, %function
conditional:
	hint #34
	tbz x0, #63, 1f
	b __SCT__call
1:	mov x0, #0
	ret
	.size conditional, . - conditional
conditional_ret0:
	hint #34
	tbz x0, #63, 1f
	b __SCT__ret0
1:	mov x0, #0
	ret
	.size conditional_ret0, . - conditional_ret0
	.section .note.GNU-stack, "", %progbits
"""

# 160 MiB from what it calls: behind the linker's stubs.
FAR = """
	.section .distant, "ax", %progbits
	.globl distant
	.type distant, %function
distant:
	stp x29, x30, [sp, #-16]!
	mov x29, sp
	bl __SCT__call
	bl __SCT__lib_call
	ldp x29, x30, [sp], #16
	b __SCT__null
	.size distant, . - distant
	.section .very_distant, "ax", %progbits
	.globl very_distant
	.type very_distant, %function
very_distant:
	stp x29, x30, [sp, #-16]!
	mov x29, sp
	bl __SCT__call
	ldp x29, x30, [sp], #16
	ret
	.size very_distant, . - very_distant
	.section .note.GNU-stack, "", %progbits
"""

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
    "gcc-relr": "gcc -O2 -Wl,-z,pack-relative-relocs",
    "gcc-bti": "gcc -O2 -mbranch-protection=standard -Wl,-z,force-bti",
    "gcc-pac-plt": "gcc -O2 -mbranch-protection=standard -Wl,-z,force-bti,-z,pac-plt",
    "gcc-lld-pac-plt": "gcc -O2 -mbranch-protection=standard -fuse-ld=lld -Wl,-z,force-bti,-z,pac-plt",
    "gcc-843419": "gcc -O2 -mfix-cortex-a53-843419",
    "clang-pie": "clang -O2 -fPIE -pie",
    "clang-Os": "clang -Os -fPIE -pie",
    "clang-no-pie": "clang -O2 -fno-pie -no-pie",
    "clang-no-plt": "clang -O2 -fno-plt -fPIE -pie",
    "clang-lld": "clang -O2 -fuse-ld=lld -fPIE -pie",
    "clang-lld-843419": "clang -O2 -fuse-ld=lld -fPIE -pie -Wl,--fix-cortex-a53-843419",
    "clang-lld-no-pie": "clang -O2 -fuse-ld=lld -fno-pie -no-pie",
    "clang-static": "clang -O2 -static",
}


def compiler(command):
    """The words of the command; None: it is not installed."""
    first, *rest = command.split()
    words = COMPILERS[first].split() + rest
    if not shutil.which(words[0]):
        return None
    if "-fuse-ld=lld" in words:
        if not shutil.which("ld.lld"):
            return None
        words.insert(1, "-B" + os.path.abspath("linkers"))  # gcc looks for its target's own there
    return words


def is_static(words):
    return "-static" in words or "-static-pie" in words


def build(name, command, *more):
    """The files of a variant, the program first; None: cannot be built here."""
    words = compiler(command)
    if not words:
        return None
    program, lib = f"{name}.exe", f"lib{name}.so"
    common = ["-I", INCLUDE, KEEP]
    fixture, other = (os.path.join(HERE, f) for f in ("fixture.c", "fixture_lib.c"))
    main = words + common + [fixture, "jcc.S", "-o", program, *more]
    # ("libshunt.so" of each variant's own flags: a PLT of BTI is made for objects of it.)
    stub = "stub.c"
    if is_static(words):
        made = run(*main, other, stub)
        files = [program]
    else:
        shared = [w for w in words if w not in ("-fno-pie", "-no-pie", "-fPIE", "-pie")]
        made = run(*shared, "-fPIC", "-shared", stub, "-o", f"libstub-{name}.so")
        so = [f"./libstub-{name}.so"]
        if made.returncode == 0:
            made = run(*shared, *common, "-fPIC", "-shared", other, "-o", lib, *so)
        files = [program, lib]
        if made.returncode == 0:
            made = run(*main, "./" + lib, *so)
    if made.returncode:
        print("# " + made.stderr.strip().replace("\n", "\n# "))
        return None
    return files


# ---------------------------------------------------------------------- reading ELF

def relocations(path):
    """(offset, type) of each kept relocation of a loaded section against a trampoline."""
    found, counts = [], False
    for line in run("readelf", "-rW", path).stdout.splitlines():
        m = re.match(r"Relocation section '([^']*)'", line)
        if m:
            counts = (m[1].startswith(".rela.") and m[1] not in (".rela.dyn", ".rela.plt")
                      and not m[1].startswith((".rela.debug", ".rela.eh_frame")))
        elif counts and " __SCT__" in line:
            words = line.split()
            found.append((int(words[0], 16), words[2]))
    return found


def symbols(path):
    """name -> value, of symbols that have an address, be it that of their PLT entry."""
    found = {}
    for line in run("readelf", "-sW", path).stdout.splitlines():
        words = line.split()
        if len(words) >= 8 and words[0][:-1].isdigit() and int(words[1], 16):
            found.setdefault(words[-1].split("@")[0], int(words[1], 16))
    return found


def loads(data):
    phoff, = struct.unpack_from("<Q", data, 32)
    phnum, = struct.unpack_from("<H", data, 56)
    for i in range(phnum):
        kind, _, off, vaddr, _, filesz = struct.unpack_from("<IIQQQQ", data, phoff + 56 * i)
        if kind == 1:
            yield off, vaddr, filesz


def offset_of(data, address):
    return next(off + address - vaddr for off, vaddr, size in loads(data)
                if vaddr <= address < vaddr + size)


def word(data, address):
    return struct.unpack_from("<I", data, offset_of(data, address))[0]


def branch(data, address):
    """("bl" or "b", target) of what stands at @address; ("nop", None); (None, None)."""
    w = word(data, address)
    if w == NOP:
        return "nop", None
    if w >> 26 not in (0x05, 0x25):
        return None, None
    by = (w & 0x3ffffff) << 2
    return "bl" if w >> 31 else "b", address + (by - (1 << 28) if by >> 27 else by)


def sites_of(path):
    done = run(SHUNT, "sites", "--json", path)
    return json.loads(done.stdout) if done.returncode == 0 else None


def calls_of(view):
    return [(s, int(s["address"], 16)) for s in view["sites"] if s["kind"] in CALLS]


# --------------------------------------------------------------------- one variant

def check_sites(name, path):
    view = sites_of(path)
    if not ok(view is not None, f"{name}: sites --json"):
        return
    data, kept = mapped(path), relocations(path)
    direct = {off for off, kind in kept if kind in ("R_AARCH64_CALL26", "R_AARCH64_JUMP26")}
    calls = calls_of(view)
    ok((direct or "no-plt" in name) and {a for _, a in calls} == direct,
       f"{name}: {len(calls)} call sites, readelf has {len(direct)} of CALL26 and JUMP26")
    # An address that adrp is the first half of is one reference.
    others = [kind for off, kind in kept if off not in direct and "ADR_GOT_PAGE" not in kind and "ADR_PREL_PG" not in kind]
    ok(len(view["references"]) == len(others),
       f"{name}: {len(view['references'])} other references, readelf has {len(others)}")
    ok(all(branch(data, a)[0] == ("bl" if s["kind"] == "call" else "b") and s["length"] == 4
           and a % 4 == 0 and not s["straddles_line"] for s, a in calls),
       f"{name}: each is a bl or b")
    branches = [s for s in view["sites"] if s["kind"].startswith("branch")]
    ok(all(branch(data, int(s["address"], 16))[0] == {"branch-nop4": "nop", "branch-jmp4": "b"}
           [s["kind"]] for s in branches), f"{name}: {len(branches)} branches, nop or b")
    keys = {(k["name"], k["element"]): k for k in view["keys"]}
    if path.endswith(".exe"):
        ok(len(branches) == 4 and keys["null", None]["initial"] == "NULL"
           and keys["ret0", None]["initial"] == "RET0" and keys["call", None]["initial"] == "twice"
           and keys["key_on", None]["initial"] == "on" and (keys["lib_call", None]["sites"] >= 1 or "no-plt" in name)
           and (keys["keys", 0]["sites"], keys["keys", 1]["sites"]) == (1, 0),
           f"{name}: keys and their initial values")
    text = run(SHUNT, "sites", path).stdout
    ok(f"{len(calls)} call sites" in text and "2 GiB" not in text
       and ("may be far" not in text or " 0 may be far" in text or "beyond 128 MiB" in text),
       f"{name}: sites as a table")


TARGETS = {"call": "twice", "null": "__static_call_nop", "ret0": "__static_call_return0",
           "lib_hidden": "hidden_target", "foreign": "strlen", "lib_call": "lib_target"}


def expected(key, kind, found, alone):
    """
    What a site becomes: the instruction and its target; None: it stays; "?": either. @alone: no
    other module is there.
    """
    if key == "null" and kind == "call":
        return "nop", None
    if key == "lib_call" and not alone:
        return None  # imported, or to be interposed
    if key == "foreign" and alone:
        return "?"  # of an ifunc no address is known
    target = found.get(TARGETS[key])
    return ("bl" if kind == "call" else "b", target) if target else None


def check_direct(name, before, path, view, alone):
    found, data, wrong = symbols(path), read(path), []
    for site, address in calls_of(view):
        want = expected(site["key"], site["kind"], found, alone)
        got = branch(data, address)
        if want is None:
            good = site["state"] != "baked" and word(data, address) == word(before, address)
        elif want == "?":
            good = True
        else:
            good = site["state"] == "baked" and got == want
        if not good:
            wrong.append((site["address"], site["key"], got, want))
    ok(not wrong, f"{name}: each site has the direct call, or stays {wrong or ''}")


def only_expected_changes(before, after, view):
    allowed = set()
    for s in view["sites"]:
        if s["state"] == "baked":
            at = offset_of(before, int(s["address"], 16))
            allowed.update(range(at, at + 4))
    for k in view["keys"]:
        if k["type"] == "static call" and k["address"]:
            at = offset_of(before, int(k["address"], 16)) + 32
            allowed.update(range(at, at + 4))
    allowed.update(range(0x28, 0x30))  # e_shoff
    allowed.update(range(0x3c, 0x40))  # e_shnum, e_shstrndx
    return allowed, [i for off, _, size in loads(before) for i in range(off, off + size)
                     if before[i] != after[i] and i not in allowed]


def altered(path, view, calls, new):
    """What is said of @path with the word @new(old) at all its calls, or branches; and of how many."""
    data, n = bytearray(read(path)), 0
    for s in view["sites"]:
        if (s["kind"] in CALLS) == calls:
            at = offset_of(data, int(s["address"], 16))
            old, = struct.unpack_from("<I", data, at)
            n += new(old) != old
            struct.pack_into("<I", data, at, new(old))
    write("altered", data)
    return sites_of("altered"), n


def check_altered(name, path, view):
    """Other instructions at the sites of a baked file are told, and where a branch was."""
    wrong = {}
    for what, new in {"nop": lambda _: NOP, "brk": lambda _: 0xd4200000, "ret": lambda _: 0xd65f03c0,
                      "elsewhere": lambda old: old ^ 4, "b for bl": lambda old: old ^ 0x80000000}.items():
        now, n = altered(path, view, True, new)
        foreign = [s for s in now["sites"] if s["state"] == "foreign"]
        said = run(SHUNT, "sites", "--check", "altered")
        if n < any(s["kind"] in CALLS for s in view["sites"]) or len(foreign) != n or (n and said.returncode != 1) or said.stdout.count(": foreign: not the instruction") != n:
            wrong[what] = n, len(foreign)
    ok(not wrong and not [s for s in view["sites"] if s["state"] == "foreign"],
       f"{name}: all calls overwritten: each is foreign; control: as it was baked none is {wrong or ''}")
    for what, new in {"brk": lambda _: 0xd4200000, "ret": lambda _: 0xd65f03c0, "bl": lambda _: 0x94000004}.items():
        now, n = altered(path, view, False, new)
        if len([r for r in now["references"] if r["state"] == "as linked"]) != n:
            wrong[what] = n, now["references"]
    ok(not wrong, f"{name}: all branches overwritten: none is a site {wrong or ''}")


def emulate(name, program):
    """Its output; None: not to be had here."""
    words = [] if NATIVE else ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]
    if words and not shutil.which(words[0]):
        return None
    done = run(*words, f"./{program}")
    return done.stdout if done.returncode == 0 else f"{name}: {done.returncode} {done.stderr}"


def check_bake(name, files, alone):
    wanted = emulate(name, files[0])
    for path in files:
        before, first = read(path), sites_of(path)
        done = run(SHUNT, "bake", path)
        if not ok(done.returncode == 0, f"{name}: bake {path} {done.stderr.strip()}"):
            return
        after, view = read(path), sites_of(path)
        ok(view["baked"] and [(s["address"], s["key"], s["kind"]) for s in view["sites"]]
           == [(s["address"], s["key"], s["kind"]) for s in first["sites"]]
           and not relocations(path), f"{name}: {path}: sites are the same from the table")
        check_direct(f"{name}: {path}", before, path, view, alone)
        check_altered(f"{name}: {path}", path, view)
        # .dynsym has the numbers of sections; its bytes are told from others by readelf.
        m = re.search(r" \.dynsym +DYNSYM +([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+) ",
                      run("readelf", "-SW", path).stdout)
        allowed = range(int(m[2], 16), int(m[2], 16) + int(m[3], 16)) if m else ()
        others = [i for i in only_expected_changes(before, after, view)[1] if i not in allowed]
        ok(not others, f"{name}: {path}: nothing else that is loaded has changed {others[:4]}")
        ok(run(SHUNT, "bake", path).stdout.strip().endswith("baked already"),
           f"{name}: {path}: once more")
    now = emulate(name, files[0])
    if wanted is None:
        skip(f"{name}: does as before", "qemu-aarch64 is not installed")
    elif "force-bti" in VARIANTS[name] and "-4" in wanted:
        skip(f"{name}: does as before", "the C library's start-up files have no landing pads")
    else:
        ok(now == wanted and wanted.strip().lstrip("-").isdigit(),
           f"{name}: does as before: {now.split()}")


# ----------------------------------------------------------------- stubs of linkers

def check_far():
    """A bl that does not reach: through stubs, of which a key has several."""
    for name, command in {"far-gcc": "gcc -O2 -fno-pie -no-pie", "far-clang": "clang -O2 -fno-pie -no-pie",
                          "far-lld": "gcc -O2 -fno-pie -no-pie -fuse-ld=lld",
                          "far-lld-clang": "clang -O2 -fPIE -pie -fuse-ld=lld",
                          "far-static": "gcc -O2 -static", "far-843419":
                          "gcc -O2 -fno-pie -no-pie -mfix-cortex-a53-843419"}.items():
        if not ALL and name not in SOME:
            continue
        words = compiler(command)
        files = words and build(name, command, "far.S",
                                "-Wl,--section-start=.distant=0xa000000",
                                "-Wl,--section-start=.very_distant=0x18000000")
        if not files:
            skip(f"{name}: {command}", "cannot be built here")
            continue
        program = files[0]
        check_sites(name, program)
        view, data, where = sites_of(program), mapped(program), symbols(program)
        tramps = {where[n] for n in where if n.startswith("__SCT__")}
        away = [(s, a) for s, a in calls_of(view) if s["function"] in ("distant", "very_distant")
                and branch(data, a)[1] not in tramps]
        stubs = {branch(data, a)[1] for s, a in away if s["key"] == "call"}
        # (ld.lld puts one of the two functions beside what it calls.)
        ok((len(away), len(stubs)) == ((3, 1) if "lld" in name else (4, 2)),
           f"{name}: {len(away)} sites behind stubs, {len(stubs)} of one key")
        ok(all(s["state"] == "may be far" and "out of reach" in s["why"]
               for s, _ in away if s["key"] == "call"), f"{name}: that they may be far is said")
        before = {a: word(data, a) for _, a in away}
        done = run(SHUNT, "bake", program)
        after, again = mapped(program), sites_of(program)
        ok(done.returncode == 0 and "out of reach of the target" in done.stdout
           and all(word(after, a) == before[a] for _, a in away)
           and [s["address"] for s in again["sites"]] == [s["address"] for s in view["sites"]]
           and any(s["state"] == "baked" for s in again["sites"]),
           f"{name}: baked, they stay as linked, and are in the table {done.stderr.strip()}")


# ------------------------------------------------------------------ what is no site

def changed(good, how):
    data = bytearray(read(good))
    how(data)
    write("changed", data)
    return sites_of("changed")


def check_controls(good):
    """What is not as the relocation says is no site."""
    view = sites_of(good)
    site, address = next((s, a) for s, a in calls_of(view)
                         if s["key"] == "call" and s["kind"] == "call")
    sites = len(calls_of(view))

    def put(data, value, at=address):
        struct.pack_into("<I", data, offset_of(data, at), value)

    def whys(found):
        return [r["why"] for r in found["references"] if int(r["address"], 16) == address]

    for what, value, why in (("a ret", 0xd65f03c0, "not a bl or b"),
                             ("a nop", NOP, "not a bl or b"),
                             ("a blr", 0xd63f0000, "not a bl or b"),
                             ("a bl of itself", 0x94000000, "does not go to the trampoline"),
                             ("a bl of the word behind", 0x94000001, "does not go to the trampoline")):
        found = changed(good, lambda data, value=value: put(data, value))
        ok(len(calls_of(found)) == sites - 1 and whys(found) == [why], f"control: {what}: {why}")
    tramp = symbols(good)["__SCT__call"]
    for i, what in enumerate(("bti c", "adrp", "ldr", "br")):
        found = changed(good, lambda data, i=i: put(data, NOP, tramp + 4 * i))
        ok(not [s for s, _ in calls_of(found) if s["key"] == "call"],
           f"control: a trampoline without its {what} is none")
    for machine, what in ((243, "riscv64"), (62, "x86-64"), (0, "none")):
        data = bytearray(read(good))
        struct.pack_into("<H", data, 18, machine)
        write("changed", data)
        done = run(SHUNT, "sites", "--json", "changed")
        if machine == 62:
            found = json.loads(done.stdout) if done.returncode == 0 else {"sites": []}
            ok(not calls_of(found), "control: by the other decoder there is no site")
        else:
            ok(done.returncode == 1 and "x86-64 or aarch64" in done.stderr,
               f"a file for {what} is refused")


def check_damaged(good):
    """Cut off, or with bytes changed: an answer or an error, and the file stays as it is."""
    data, rng, bad = read(good), random.Random(16), []
    for size in sorted({0, 1, 63, 64, len(data) - 1} | {rng.randrange(len(data)) for _ in range(40 if ALL else 6)}):
        write("damaged", data[:size])
        done = run(SHUNT, "bake", "damaged")
        if done.returncode != 1 or read("damaged") != data[:size]:
            bad.append((size, done.returncode, done.stderr))
    ok(not bad, f"cut off: an error, and nothing is written {bad[:2]}")
    for i in range(150 if ALL else 10):
        some = bytearray(data)
        for _ in range(rng.randrange(1, 20)):
            some[rng.randrange(len(some)) if i % 3 else rng.randrange(2048)] = rng.randrange(256)
        write("damaged", some)
        for command in ("sites", "bake"):
            done = run(SHUNT, command, "damaged")
            if done.returncode not in (0, 1) or (command == "bake" and done.returncode == 1
                                                 and read("damaged") != some):
                bad.append((i, command, done.returncode, done.stderr))
    ok(not bad, f"with bytes changed: no crash, and an error changes nothing {bad[:2]}")


def check_nothing():
    """Entries that can be traced are of one instruction each here: there is nothing to bake in them."""
    write("entries.c", b"int f(int x) { return x; }\nint main(void) { return f(0); }\n")
    words = compiler("gcc") or compiler("clang")
    run(*words, "-fpatchable-function-entry=2", "entries.c", "-o", "entries")
    done = run(SHUNT, "bake", "entries")
    ok(done.returncode == 1 and "there is nothing to bake in it" in done.stderr and "relink" not in done.stderr,
       f"entries alone: {done.stderr.strip()}")


def main():
    work = tempfile.mkdtemp(prefix="shunt-arm64-")
    os.chdir(work)
    try:
        if not compiler("gcc") and not compiler("clang"):
            skip("all", "no compiler for aarch64")
            return 0
        write("stub.c", STUB.encode())
        write("jcc.S", JCC.encode())
        write("far.S", FAR.encode())
        os.mkdir("linkers")
        if shutil.which("ld.lld"):
            os.symlink(shutil.which("ld.lld"), "linkers/ld.lld")
        good = None
        for name, command in VARIANTS.items():
            if not ALL and name not in SOME:
                continue
            files = build(name, command)
            if not files and compiler(command) and name in ("gcc-pie", "clang-pie"):
                ok(False, f"{name}: {command}: can be built where the compiler is")
            if not files:
                skip(f"{name}: {command}", "cannot be built here")
                continue
            for path in files:
                check_sites(f"{name} {path}", path)
            if not good:
                good = "good"
                shutil.copy(files[0], good)
            check_bake(name, files, len(files) == 1)
        check_far()
        if good:
            check_controls(good)
            check_damaged(good)
            check_nothing()
    finally:
        os.chdir("/")
        shutil.rmtree(work)
        print(f"1..{count}")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
