#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`shunt sites` and `bake` of files without section headers, without their names, of which a section has another name, cut off:
the keys are those of the file before, and --check says of the sites what the process finds. For x86-64 and for aarch64
(by the cross compiler; libshunt is a stub then, and nothing is run).

usage: test_sites_headers.py SHUNT INCLUDE LIB

Controls: the file before has status 0; one without Shunt, too; one whose description is not to be found is said to be so.
"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok, skip  # noqa: E402

SHUNT, INCLUDE, LIB = (os.path.abspath(a) for a in sys.argv[1:4])
CPUS = {"x86-64": "gcc", "aarch64": "aarch64-linux-gnu-gcc"}
STUB = """
void shunt_module_register(const void *m) { (void)m; }
void shunt_module_unregister(const void *m) { (void)m; }
void __static_call_nop(void) {}
long __static_call_return0(void) { return 0; }
int __static_call_update(void *key, void (*func)(void)) { (void)key; (void)func; return -1; }
int __static_key_enable(void *key) { (void)key; return 0; }
"""
# Status: 0 each call and branch is as was said, 3 the static call could not be updated; else it is wrong.
PROGRAM = """
#include <errno.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#define KEEP __attribute__((noinline, used))
static int one(int n) { return n + 1; }
static int two(int n) { return n + 2; }
static void hook(int n) { (void)n; }
DEFINE_STATIC_CALL(op, one);
DEFINE_STATIC_CALL_NULL(null, hook);
DEFINE_STATIC_CALL_RET0(ret0, one);
DEFINE_STATIC_KEY_FALSE(flag);
DEFINE_STATIC_KEY_ARRAY_TRUE(flags, 3);
KEEP int call_op(int n) { return static_call(op)(n) * 2; }
KEEP int call_others(int n) { static_call_cond(null)(n); return static_call(ret0)(n) * 2; }
KEEP int branch(int n) { if (static_branch_unlikely(&flag)) return n * 3; return n - 1; }
KEEP int element(int n) { if (static_branch_likely(&flags[2])) return n * 3; return n - 1; }
#ifdef PLUGIN
int plugin(int n);
int plugin(int n) { return call_op(n) + call_others(n) + branch(n) + element(n); }
#else
int main(void)
{
	int err;
	if (call_op(1) != 4 || call_others(1) || branch(2) != 1 || element(2) != 6)
		return 4;
	err = static_call_update(op, two);
	if (static_branch_enable(&flag) || branch(2) != 6)
		return 5;
	if (call_op(1) != (err ? 4 : 6))
		return 6;
	return !err ? 0 : err == -EOPNOTSUPP ? 3 : 7;
}
#endif
"""
# Its records stand before the one that the file leads libshunt to.
EARLY = """
#define SHUNT_NO_MODULE
#include <shunt/static_key.h>
DECLARE_STATIC_KEY_FALSE(flag);
int early(int n);
int early(int n) { if (static_branch_unlikely(&flag)) return n * 5; return n - 2; }
"""
# A module that has no key of its own.
USER = """
#include <shunt/static_call.h>
int one(int n);
DECLARE_STATIC_CALL(op, one);
int user(int n);
int user(int n) { return static_call(op)(n) * 2; }
"""
PLAIN = "int plain(int n);\nint plain(int n) { return n; }\n"


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=60)


def write(path, data):
    pathlib.Path(path).write_bytes(data)
    os.chmod(path, 0o755)


def segments(data):
    """Type, offset and size in the file of each."""
    phoff, = struct.unpack_from("<Q", data, 32)
    return [struct.unpack_from("<I4xQ16xQ", data, phoff + 56 * i) for i in range(struct.unpack_from("<H", data, 56)[0])]


def no_headers(data):
    """As llvm-objcopy --strip-sections and sstrip leave it: the file ends with what is loaded."""
    some = bytearray(data[:max(offset + size for _, offset, size in segments(data))])
    struct.pack_into("<Q", some, 40, 0)
    struct.pack_into("<HHH", some, 58, 0, 0, 0)
    return some


def no_number(data):
    """e_shnum is 0, and so is what stands in the first header for it."""
    some = bytearray(data)
    struct.pack_into("<H", some, 60, 0)
    return some


def no_table_of_names(data):
    some = bytearray(data)
    struct.pack_into("<H", some, 62, 0)
    return some


def no_names(data):
    """The table is there, and has nothing in it."""
    some = bytearray(data)
    shoff, = struct.unpack_from("<Q", data, 40)
    offset, size = struct.unpack_from("<QQ", data, shoff + 64 * struct.unpack_from("<H", data, 62)[0] + 24)
    some[offset:offset + size] = bytes(size)
    return some


def other_names(data):
    """Those that are asked for; but not that of the table, which a baked file keeps."""
    some = bytearray(data)
    shoff, = struct.unpack_from("<Q", data, 40)
    offset, size = struct.unpack_from("<QQ", data, shoff + 64 * struct.unpack_from("<H", data, 62)[0] + 24)
    names = bytes(some[offset:offset + size])
    for name in b"static_call_keys", b"static_keys", b".static_jumps":
        names = names.replace(b"\0" + name + b"\0", b"\0" + b"x" * len(name) + b"\0")
    some[offset:offset + size] = names
    return some


def no_sizes(data):
    """The sections of keys and records have their names, and are said to be empty."""
    some = bytearray(data)
    shoff, = struct.unpack_from("<Q", data, 40)
    names, = struct.unpack_from("<Q", data, shoff + 64 * struct.unpack_from("<H", data, 62)[0] + 24)
    for i in range(struct.unpack_from("<H", data, 60)[0]):
        at = names + struct.unpack_from("<I", data, shoff + 64 * i)[0]
        if data[at:data.index(b"\0", at)] in (b"static_call_keys", b"static_keys", b".static_jumps"):
            struct.pack_into("<Q", some, shoff + 64 * i + 32, 0)
    return some


WAYS = {"no headers": no_headers, "e_shnum 0": no_number, "no table of names": no_table_of_names, "empty names": no_names,
        "other names": other_names, "no sizes": no_sizes}
LOSES_SITES = {"no headers", "e_shnum 0"}       # of a file that is not baked
LOSES_TABLE = set(WAYS) - {"other names", "no sizes"}
INITIAL = {"NULL", "RET0", "on", "off"}


def check(path):
    done = run(SHUNT, "sites", "--check", path)
    return done.returncode, [line.removeprefix(path + ": ") for line in done.stdout.splitlines()], done.stderr


def keys_of(path):
    """What the file defines, and its branches; of functions, which have no names then, whether there is any."""
    found = json.loads(run(SHUNT, "sites", "--json", path).stdout)
    keys = [(k["name"], k["element"], k["type"], k["address"], k["initial"] if k["initial"] in INITIAL else bool(k["initial"]))
            for k in found["keys"] if k["defined"] == "here"]
    return keys, [(s["address"], s["key"], s["element"], s["kind"]) for s in found["sites"] if s["kind"].startswith("branch")]


def build(cpu, name, source, *options):
    """The program; None: it cannot be built here."""
    if cpu == "x86-64":
        library = [f"{LIB}/libshunt.a", "-lpthread"] if "-static" in options or "-static-pie" in options else [
            f"{LIB}/libshunt.so", f"-Wl,-rpath,{LIB}"]
    else:
        library = ["stub.c"] if "-static" in options else ["./libstub.so"]
    made = run(CPUS[cpu], "-O2", "-Wl,--emit-relocs", "-I", INCLUDE, *options, source, "-o", name, *library)
    if made.returncode:
        print("# " + made.stderr.strip().replace("\n", "\n# "))
    return None if made.returncode else name


def check_way(name, path, way, runs):
    """Of the file @path and of the baked one."""
    for file, is_baked in (path, False), (path + ".b", True):
        what = f"{name}, {way}" + (", baked" if is_baked else "")
        write("changed", WAYS[way](pathlib.Path(file).read_bytes()))
        loses = way in (LOSES_TABLE if is_baked else LOSES_SITES)
        status, lines, said = check("changed")
        keys, wanted = keys_of("changed"), keys_of(file)
        if loses and path.endswith("-static"):  # there NULL and RET0 are functions of the file's, which have lost their names
            keys, wanted = ([[k[:4] for k in found[0]], found[1]] for found in (keys, wanted))
        ok(keys == wanted and len(keys[0]) == 7 and len(keys[1]) == 3, f"{what}: the keys and branches are those of the file",
           f"{keys} {wanted}")
        stuck = [line for line in lines if "cannot be updated: was baked, and has no site table" in line]
        trampoline = [line for line in lines if line.startswith("all static calls: trampoline: ")]
        if loses:
            ok(status == 1 and (bool(stuck), bool(trampoline)) == (is_baked, not is_baked), f"{what}: --check says it, with status 1",
               f"{status} {lines} {said}")
        else:
            ok((status, lines) == check(file)[:2], f"{what}: --check says what it does of the file", f"{status} {lines} {said}")
        done = run(SHUNT, "bake", "-o", "again", "changed")
        ok("nothing to bake" not in done.stderr and (done.returncode or not loses), f"{what}: bake refuses, and says why", f"{done}")
        if runs:
            done = run("./changed")
            ok(done.returncode == (3 if loses and is_baked else 0) and ("through their trampolines" in done.stderr) == (loses and not is_baked),
               f"{what}: so it is in the process", f"{done}")


def check_kinds(cpu, x):
    rows = [  # name, options, ways
        ("pie", ["-fPIE", "-pie"], WAYS),
        ("no-pie", ["-fno-pie", "-no-pie", "-Wl,--hash-style=sysv"], ["no headers", "no table of names"]),
        ("static", ["-static"], ["no headers"]),
        ("shared", ["-fPIC", "-shared", "-DPLUGIN"], ["no headers", "empty names"]),
    ]
    if cpu == "x86-64" and shutil.which("ld.lld"):
        rows.append(("relr", ["-fPIE", "-pie", "-fuse-ld=lld", "-Wl,--pack-dyn-relocs=relr"], ["no headers"]))
    for row, options, ways in rows:
        name, path = f"{cpu}, {row}", build(cpu, f"{x}-{row}", "program.c", *options, "early.c")
        if not path:
            skip(name, "cannot be built here")
            continue
        done = run(SHUNT, "bake", "-o", path + ".b", path)
        known = [line for line in check(path)[1] if ": may be far: " not in line]
        ok(done.returncode == 0 and not known, f"{name}, control: the sites of the file are known", f"{known} {done.stderr}")
        for way in ways:
            # With DT_RELR glibc wants a version of itself that not all linkers name.
            check_way(name, path, way, cpu == "x86-64" and row in ("pie", "no-pie", "static"))


def check_imports(cpu, x):
    """A module that calls another one's key alone: what libshunt sees are the slots."""
    path = build(cpu, f"{x}-user.so", "user.c", "-fPIC", "-shared")
    strip = "strip" if cpu == "x86-64" else "aarch64-linux-gnu-strip"
    run(strip, "-o", "stripped", path)
    rows = {"stripped": check("stripped"), "control: as it was linked": check(path)}
    write("changed", no_headers(pathlib.Path(path).read_bytes()))
    rows["no headers"] = check("changed")
    for what, (status, lines, _) in rows.items():
        said = any(line.startswith("all static calls: trampoline: has no ") for line in lines)
        ok(said == ("control" not in what) and (status == 1 or not said), f"{cpu}, calls of another module's key, {what}", f"{status} {lines}")


def check_unknown(cpu, x):
    path = f"{x}-pie"
    data = no_headers(pathlib.Path(path).read_bytes())
    size = struct.pack("<Q", 72)
    at = [i for i in range(0, len(data), 8) if data[i:i + 8] == size]
    for i in at:
        data[i:i + 8] = struct.pack("<Q", 80)
    write("changed", data)
    status, lines, _ = check("changed")
    ok(at and status == 1 and lines == ["all keys: not known: what it registers with libshunt is not found in it"],
       f"{cpu}: a description that is not known", f"{at} {status} {lines}")
    done = run(SHUNT, "sites", "changed")
    ok("its keys and their sites are not known" in done.stdout, f"{cpu}: so the summary says", done.stdout)
    plain = run(CPUS[cpu], "-O2", "-shared", "-fPIC", "plain.c", "-o", "plain.so")
    write("changed", no_headers(pathlib.Path("plain.so").read_bytes()))
    status, lines, said = check("changed")
    ok(plain.returncode == 0 and (status, lines, said) == (0, [], ""), f"{cpu}, control: nothing is said of a module without Shunt",
       f"{status} {lines} {said}")
    done = run(SHUNT, "bake", "-o", "again", "changed")
    ok(done.returncode == 1 and "has no section headers" in done.stderr, f"{cpu}: bake does not know that there is nothing to bake in it", done)
    for file in path, path + ".b":
        whole = pathlib.Path(file).read_bytes()
        last = max((offset, size) for kind, offset, size in segments(whole) if kind == 1)
        for what, data in ("headers", whole), ("no headers", no_headers(whole)):
            write("changed", data[:last[0] + last[1] // 2])
            status, lines, said = check("changed")
            done = run(SHUNT, "bake", "-o", "again", "changed")
            ok(status == 1 and not lines and said and done.returncode == 1 and "nothing to bake" not in done.stderr,
               f"{cpu}, {file}, {what}, cut off: an error", f"{status} {lines} {said} {done}")


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    for file, text in ("stub.c", STUB), ("early.c", EARLY), ("program.c", PROGRAM), ("user.c", USER), ("plain.c", PLAIN):
        pathlib.Path(file).write_text(text, encoding="utf-8")
    for one in CPUS:
        if not shutil.which(CPUS[one]):
            skip(one, f"no {CPUS[one]}")
            continue
        if one == "aarch64":
            run(CPUS[one], "-shared", "-fPIC", "stub.c", "-o", "libstub.so")
        check_kinds(one, one[0])
        check_imports(one, one[0])
        check_unknown(one, one[0])
    os.chdir("/")
sys.exit(finish())
