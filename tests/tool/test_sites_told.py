#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `shunt sites --check` says of a file is what `shunt bake` says of it, what it says of the baked file, stripped too, and
what the process finds: calls out of reach, what is not a site, static branches without the code of one. For x86-64 and for
aarch64 (by the cross compiler; libshunt is a stub then, and nothing is run). And when `bake` tells what it has done.

usage: test_sites_told.py SHUNT INCLUDE LIB

Controls: the same file without the fault has status 0; a table without the list of references is said to be so.
"""
import json
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok, skip

SHUNT, INCLUDE, LIB = (os.path.abspath(a) for a in sys.argv[1:4])
CPUS = {"x86-64": "gcc", "aarch64": "aarch64-linux-gnu-gcc"}
STUB = """
void shunt_module_register(const void *m) { (void)m; }
void shunt_module_unregister(const void *m) { (void)m; }
void __static_call_nop(void) {}
long __static_call_return0(void) { return 0; }
int __static_call_update(void *key, void (*func)(void)) { (void)key; (void)func; return -1; }
int shunt_for_each_site(void *a, void *b, void *c) { (void)a; (void)b; (void)c; return -1; }
const char *shunt_site_state_name(int s) { (void)s; return ""; }
"""
PROGRAM = """
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/inspect.h>
#include <stdio.h>
#include <string.h>
#define FAR __attribute__((section(".fartext"), noinline))
#define KEEP __attribute__((noinline, used))
static int one(int n) { return n + 1; }
FAR static int far_one(int n) { return n + 1; }
FAR int exported(int n);
FAR int exported(int n) { return n + 1; }
static void hook(int n) { (void)n; }
static int (*chosen(void))(int) { return one; }
int made(int n) __attribute__((ifunc("chosen")));
DEFINE_STATIC_CALL(op, one);
DEFINE_STATIC_CALL(far_op, far_one);
DEFINE_STATIC_CALL(made_op, made);
DEFINE_STATIC_CALL_NULL(null, hook);
DEFINE_STATIC_CALL_RET0(ret0, one);
DEFINE_STATIC_KEY_FALSE(flag);
DEFINE_STATIC_KEY_ARRAY_FALSE(flags, 2);
#ifdef CLAIMED
DEFINE_STATIC_CALL(claimed, exported);
KEEP int call_claimed(int n) { return static_call(claimed)(n) + 1; }
#endif
#ifdef ADDRESS
int (*volatile taken)(int) = (int (*)(int))__SCT__op;
#endif
KEEP int call_op(int n) { return static_call(op)(n) + 1; }
KEEP int call_far(int n) { return static_call(far_op)(n) + 1; }
KEEP int call_made(int n) { return static_call(made_op)(n) + 1; }
KEEP int call_ret0(int n) { return static_call(ret0)(n) + 1; }
KEEP int tail_ret0(int n) { return static_call(ret0)(n); }
KEEP void call_null(int n) { static_call_cond(null)(n); __asm__ volatile(""); }
KEEP void tail_null(int n) { static_call_cond(null)(n); }
FAR int far_call(int n) { return static_call(op)(n) + 1; }
KEEP int branch(int n) { if (static_branch_unlikely(&flag)) return n * 3; return n - 1; }
KEEP int element(int n) { if (static_branch_unlikely(&flags[1])) return n * 3; return n - 1; }
static int show(const struct shunt_site_info *s, void *unused)
{
	(void)unused;
	printf("%s+0x%zx %s\\n", s->function ? s->function : "?", s->offset, shunt_site_state_name(s->state));
	return 0;
}
int main(int argc, char **argv)
{
	(void)argv;
	int n = call_op(argc) + call_far(argc) + call_made(argc) + call_ret0(argc) + tail_ret0(argc) + far_call(argc) + branch(argc) + element(argc);
	call_null(n), tail_null(n);
	shunt_for_each_site(NULL, show, NULL);
	return static_call_update(op, far_one) || call_op(3) != 5;
}
"""
CLEAN = """
#include <shunt/static_call.h>
static int one(int n) { return n + 1; }
static int two(int n) { return n + 2; }
DEFINE_STATIC_CALL(op, one);
int main(int argc, char **argv)
{
	(void)argv;
	return static_call(op)(argc) != 2 || static_call_update(op, two) || static_call(op)(argc) != 3;
}
"""


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=60, **more)


def build(cpu, name, *options):
    """The program; None: it cannot be built here."""
    compiler = CPUS[cpu]
    static = "-static" in options
    if cpu == "x86-64":
        library = [f"{LIB}/libshunt.a", "-lpthread"] if static else [f"{LIB}/libshunt.so", f"-Wl,-rpath,{LIB}"]
    else:
        library = ["stub.c"] if static else ["./libstub.so"]
    made = run(compiler, "-O2", "-Wl,--emit-relocs", "-I", INCLUDE, *options, "program.c", "-o", name, *library)
    if made.returncode:
        print("# " + made.stderr.strip().replace("\n", "\n# "))
    return None if made.returncode else name


def check(path):
    done = run(SHUNT, "sites", "--check", path)
    return done.returncode, [line.removeprefix(path + ": ") for line in done.stdout.splitlines()]


def view(path):
    done = run(SHUNT, "sites", "--json", path)
    return json.loads(done.stdout) if done.returncode == 0 else None


def told(text, words):
    """The number that `bake` says of @words."""
    found = re.search(rf": (\d+) [^\n]*{words}", text)
    return int(found[1]) if found else 0


def agree(name, path):
    """Both commands, and --check of the baked file and the stripped one."""
    status, lines = check(path)
    done = run(SHUNT, "bake", "-o", path + ".b", path)
    said = done.stdout
    far = sum(": may be far: " in line for line in lines)
    by_bake = sum(told(said, words) for words in ("may go to another module", "out of reach", "made at run time"))
    not_sites = sum(": trampoline: " in line for line in lines)
    branches = sum(": as linked: " in line for line in lines)
    ok(done.returncode == 0 and (far, not_sites, branches) == (by_bake, told(said, "on the trampoline for good"), told(said, "never changed"))
       and status == bool(lines), f"{name}: bake says what --check does: {far} may be far, {not_sites} references, {branches} branches",
       "\n".join(lines) + "\n" + said + done.stderr)
    ok(check(path + ".b") == (status, lines), f"{name}: baked, the same", f"{check(path + '.b')}")
    first, second = view(path), view(path + ".b")
    ok(second and first["references"] == second["references"] and second["references_known"], f"{name}: baked, the same references as JSON")
    if not second:
        return lines
    shutil.copy(path + ".b", path + ".s")
    stripped = run("strip" if path.startswith("x") else "aarch64-linux-gnu-strip", path + ".s")
    addresses = sorted(int(x["address"], 16) for x in first["references"] + [s for s in first["sites"] if s["state"] == "may be far"])
    there = check(path + ".s")
    found = sorted(int(line.split(":")[0], 16) if re.match("0x[0-9a-f]+: ", line) else line for line in there[1])
    # Exported functions keep their names.
    ok(stripped.returncode == 0 and there[0] == status and len(there[1]) == len(lines) and set(found) <= set(addresses) | {
        line for line in there[1] if line in lines}, f"{name}: stripped, as many, with their addresses", f"{there} {stripped.stderr}")
    return lines


def keys_and_places(lines):
    return {tuple(line.split(": ")[:2]) for line in lines}


def functions(lines):
    return {line.split("+")[0] for line in lines}


def check_reach(cpu, x):
    """Which calls of each kind of program may be far."""
    far = "-Wl,--section-start=.fartext=" + ("0x20000000" if cpu == "aarch64" else "0x90000000")
    libshunts = {"call_ret0", "tail_ret0", "tail_null"} if cpu == "aarch64" else {"tail_ret0"}
    rows = [  # name, options, functions whose calls may be far
        ("pie", ["-fPIE", "-pie"], libshunts | {"call_made"}),
        # (There aarch64's linker has a PLT entry stand for an ifunc.)
        ("static", ["-static"], {"call_made"} if cpu == "x86-64" else set()),
    ]
    if cpu == "aarch64":
        rows += [("pie-far", ["-fPIE", "-pie", far], libshunts | {"call_made", "call_far", "far_call"}),
                 ("static-far", ["-static", far], {"call_far", "far_call"}),
                 ("shared-far", ["-fPIC", "-shared", "-DCLAIMED", far], libshunts | {"call_made", "call_far", "far_call", "call_claimed"}),
                 ("shared", ["-fPIC", "-shared", "-DCLAIMED"], libshunts | {"call_made"})]
    for row, options, wanted in rows:
        path = build(cpu, f"{x}-{row}", *options)
        name = f"{cpu}, {row}"
        if not path:
            skip(name, "cannot be built here")
            continue
        lines = agree(name, path)
        # Calls of main() are of the functions that gcc has inlined nowhere; .fartext may be any function's.
        ok(functions(lines) == wanted, f"{name}: may be far are those of {sorted(wanted)}", "\n".join(lines))
        if cpu == "x86-64":
            for file in path, path + ".b", path + ".s":
                done = run("./" + file)
                seen = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" far")}
                # The file cannot know where an ifunc leads.
                may = {line.split(":")[0] for line in lines if "made at run time" not in line}
                ok(done.returncode == 0 and (seen == may or file.endswith(".s")), f"{name}: {file}: far in the process, too: {sorted(seen)}",
                   f"{done.returncode} {done.stdout}{done.stderr} {sorted(may)}")


def check_not_sites(cpu, x):
    plain = keys_and_places(agree(f"{cpu}, control of what is not a site", build(cpu, f"{x}-plain", "-fPIE", "-pie")))
    taken = agree(f"{cpu}, an address", build(cpu, f"{x}-address", "-fPIE", "-pie", "-DADDRESS"))
    ok(len(keys_and_places(taken) - plain) == 1 and any("op: trampoline: address stands in data" in line for line in taken),
       f"{cpu}: an address in data is one line", "\n".join(taken))
    if cpu == "aarch64":
        lines = agree(f"{cpu}, -fno-plt", build(cpu, f"{x}-noplt", "-fPIE", "-pie", "-fno-plt"))
        loads = run("aarch64-linux-gnu-readelf", "-rW", f"{x}-noplt").stdout
        n = len(re.findall(r"R_AARCH64_LD64_GOT_LO12_NC .* __SCT__", loads))
        ok(n > 5 and sum("-fno-plt" in line for line in lines) == n, f"{cpu}: -fno-plt: one line for each load ({n})", "\n".join(lines))


def table_of(data):
    """Offset and size of the table's section."""
    shoff, = struct.unpack_from("<Q", data, 40)
    size, n, names = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<IIQQQQ", data, shoff + i * size) for i in range(n)]
    for name, _, _, _, offset, length in headers:
        at = headers[names][4] + name
        if data[at:data.index(b"\0", at)] == b".shunt.sites":
            return offset, length
    return None


def check_table(x):
    """By the rules that were before the list: header, mods, sites, and strings that end in NUL. And without the list."""
    path = f"{x}-address.b"
    data = bytearray(pathlib.Path(path).read_bytes())
    offset, size = table_of(data)
    magic, mods, sites, strings, _ = struct.unpack_from("<8sIIQQ", data, offset)
    names = [data[offset + strings + struct.unpack_from("<I", data, offset + 32 + 32 * i + 24)[0]:].split(b"\0")[0] for i in range(mods)]
    ok(magic == b"SHUNTBK2" and strings == 32 + 32 * mods + 8 * sites and mods and all(n.startswith(b"__SCT__") for n in names)
       and data[offset + size - 1] == 0, "an earlier libshunt reads the table", f"{names}")
    list_at = offset + strings
    ok(data[list_at:list_at + 8] == b"SHUNTRF1", "the list stands in front of the strings")
    run(CPUS["x86-64"], "-O2", "-Wl,--emit-relocs", "-I", INCLUDE, "clean.c", "-o", "clean", f"{LIB}/libshunt.so", f"-Wl,-rpath,{LIB}")
    done = run(SHUNT, "bake", "clean")
    ok(done.returncode == 0 and check("clean") == (0, []) and run("./clean").returncode == 0, "control: a baked file of which nothing is to be said",
       f"{check('clean')} {done}")
    earlier = bytearray(pathlib.Path("clean").read_bytes())
    offset_of_list = earlier.index(b"SHUNTRF1")
    earlier[offset_of_list:offset_of_list + 8] = b"__SCT__x"
    pathlib.Path("earlier").write_bytes(earlier)
    os.chmod("earlier", 0o755)
    ok(run("./earlier").returncode == 0, "the library does not look at the list")
    status, lines = check("earlier")
    ok(status == 1 and len(lines) == 1 and any("baked by an earlier shunt" in line for line in lines) and not view("earlier")["references_known"],
       "control: a table without it: that it is not known is said, with status 1", f"{status} {lines}")
    rng, bad = random.Random(16), []
    for i in range(60):
        some = data.copy()
        for _ in range(rng.choice((1, 1, 4))):
            some[rng.randrange(list_at, offset + size)] = rng.choice((0, 255, 27, rng.randrange(256)))
        pathlib.Path("damaged").write_bytes(some)
        done = run(SHUNT, "sites", "--check", "damaged")
        if done.returncode not in (0, 1) or "\x1b" in done.stdout or run(SHUNT, "sites", "--json", "damaged").returncode not in (0, 1):
            bad.append((i, done))
    ok(not bad, "60 damaged lists: an answer or an error, and no control characters", f"{bad[:1]}")


def check_branches(cpu, x):
    """The code of a branch is put another in the place of."""
    data = pathlib.Path(f"{x}-plain").read_bytes()
    before = view(f"{x}-plain")
    plain = keys_and_places(check(f"{x}-plain")[1])
    replacements = {
        "aarch64": (("a mov", "e0031faa"), ("a ret", "c0035fd6"), ("a b to elsewhere", "80000014"), ("a bl", "01000094")),
        "x86-64": (("a mov", "b800000000"), ("int3", "cccccccccc"), ("a jmp to elsewhere", "e900010000"), ("a jmp of 2 bytes to elsewhere", "eb7f"),
                   ("an off form to elsewhere", "a900010000"), ("a nop, where the record has the off form", "0f1f440000")),
    }
    for function, key in ("branch", "flag"), ("element", "flags"):
        site = next(s for s in before["sites"] if s["function"] == function and s["key"] == key)
        address = int(site["address"], 16)
        for what, code in replacements[cpu]:
            code = bytes.fromhex(code)
            if len(code) > site["length"]:
                code = code[:site["length"]]
            some = bytearray(data)
            phoff, = struct.unpack_from("<Q", data, 32)
            for i in range(struct.unpack_from("<H", data, 56)[0]):
                kind, _, off, vaddr, _, filesz = struct.unpack_from("<IIQQQQ", data, phoff + 56 * i)
                if kind == 1 and vaddr <= address < vaddr + filesz:
                    some[off + address - vaddr:off + address - vaddr + len(code)] = code
            path = f"{x}-branch"
            pathlib.Path(path).write_bytes(some)
            lines = agree(f"{cpu}, {key}: {what}", path)
            more = keys_and_places(lines) - plain
            found = view(path)
            ok(len(more) == 1 and next(iter(more))[0].startswith(function + "+") and len(found["sites"]) == len(before["sites"]) - 1
               and [(r["key"], r["element"], r["state"]) for r in found["references"]] == [(key, site["element"], "as linked")],
               f"{cpu}, {key}: {what} is no branch, and one line", "\n".join(lines))
            text = run(SHUNT, "sites", path).stdout
            ok("never change" in text and text.count(f"{function}+") == 1, f"{cpu}, {key}: {what}: in the table, too", text)


def check_told_when_there(x):
    """What is told is there; what is not told is not."""
    good = f"{x}-plain"
    done = run(SHUNT, "bake", "-o", "", good)
    ok(done.returncode == 1 and not done.stdout and "rename" in done.stderr, "bake -o '': nothing is told", done.stdout + done.stderr)
    if not shutil.which("strace"):
        skip("bake: failing renames", "no strace")
        return
    for what, faults, told_first in (
            ("EBUSY (a file that is a mount point)", ["renameat2:error=EBUSY"], False), ("a directory that is read-only", ["renameat2:error=EROFS"], False),
            ("a file system without exchange, then EBUSY", ["renameat2:error=EINVAL", "rename:error=EBUSY"], True)):
        for out, there in ("out", False), ("in", True):
            shutil.copy(good, "in")
            pathlib.Path("out").unlink(missing_ok=True)
            before = pathlib.Path("in").read_bytes()
            done = run("strace", "-o", "/dev/null", "-e", "trace=rename,renameat,renameat2", *(w for f in faults for w in ("-e", "inject=" + f)),
                       SHUNT, "bake", *(() if there else ("-o", out)), "in")
            ok(done.returncode == 1 and bool(done.stdout) == told_first and "rename: " in done.stderr and pathlib.Path("in").read_bytes() == before
               and not os.path.exists("out") and not list(pathlib.Path().glob("in.*")) and not list(pathlib.Path().glob("out.*")),
               f"bake: {what}, {'a file' if there else 'none'} in the place", f"{done}")
    shutil.copy(good, "in")
    done = run("strace", "-o", "/dev/null", "-e", "trace=renameat2", "-e", "inject=renameat2:error=EINVAL", SHUNT, "bake", "in")
    ok(done.returncode == 0 and done.stdout and view("in")["baked"], "control: without exchange, and a rename that succeeds", f"{done}")
    for name in "new", "in":
        done = run(SHUNT, "bake", "-o", name, good)
        ok(done.returncode == 0 and done.stdout and view(name)["baked"] and not list(pathlib.Path().glob(name + ".*")),
           f"control: bake -o {name}: told, there, and no other file", f"{done}")


def main():
    work = tempfile.mkdtemp(prefix="shunt-told-")
    os.chdir(work)
    try:
        pathlib.Path("program.c").write_text(PROGRAM, encoding="ascii")
        pathlib.Path("clean.c").write_text(CLEAN, encoding="ascii")
        pathlib.Path("stub.c").write_text(STUB, encoding="ascii")
        for cpu, compiler in CPUS.items():
            x = cpu[0] if cpu == "x86-64" else "a"
            if not shutil.which(compiler) or (cpu == "aarch64" and run(compiler, "-shared", "-fPIC", "stub.c", "-o", "libstub.so").returncode):
                skip(cpu, f"no {compiler}")
                continue
            check_reach(cpu, x)
            check_not_sites(cpu, x)
            check_branches(cpu, x)
        check_table("x")
        check_told_when_there("x")
    finally:
        os.chdir("/")
        shutil.rmtree(work)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
