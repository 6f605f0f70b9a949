#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`shunt sites --check`: 0 where every call will be direct, 1 with the reasons where one will not. And what an executable
exports in vain: beside what `dlopen()` says of it.

usage: test_sites_check.py SHUNT INCLUDE LIB

The files of which it must complain are the control of those of which it must not.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok, skip

SHUNT, INCLUDE, LIB = sys.argv[1:4]
HEAD = """#include <shunt/static_call.h>
#include <shunt/static_key.h>
static int one(int n) { return n + 1; }
"""
CALL = HEAD + "DEFINE_STATIC_CALL(key, one);\nint main(int argc, char **argv) { (void)argv; return static_call(key)(argc); }\n"
ADDRESS = HEAD + """DEFINE_STATIC_CALL(key, one);
int (*volatile pointer)(int) = __SCT__key;
int main(int argc, char **argv) { (void)argv; return pointer(argc); }
"""
BRANCH = HEAD + "DEFINE_STATIC_KEY_FALSE(key);\nint main(void) { return static_branch_unlikely(&key) ? one(1) : 0; }\n"
PLAIN = "int main(void) { return 0; }\n"
RELOCATIONS = ["-Wl,--emit-relocs"]

rows = [  # name, text, options, exit status, words
    ("every call is direct", CALL, RELOCATIONS, 0, []),
    ("a static key needs no relocations", BRANCH, [], 0, []),
    ("a file without static calls", PLAIN, [], 0, []),
    ("linked without --emit-relocs", CALL, [], 1, ["all static calls: trampoline", "--emit-relocs"]),
    ("stripped", CALL, ["strip"], 1, ["all static calls: trampoline"]),
    ("the address of a trampoline", ADDRESS, RELOCATIONS, 1, ["key: trampoline: "]),
]
EXPORTS = HEAD + """#include <dlfcn.h>
#include <stdio.h>
DEFINE_STATIC_CALL(seen, one);
EXPORT_STATIC_CALL(seen);
DEFINE_STATIC_KEY_FALSE(flag);
EXPORT_STATIC_KEY(flag);
DEFINE_STATIC_CALL(inner, one);
DEFINE_STATIC_KEY_FALSE(inner_flag);
DEFINE_STATIC_KEY_TRUE(inner_true);
DEFINE_STATIC_KEY_ARRAY_FALSE(inner_array, 2);
static DEFINE_STATIC_KEY_FALSE(inner_static);
int main(int argc, char **argv) {
	if (static_branch_unlikely(&inner_flag) || !static_branch_likely(&inner_true) ||
	    static_branch_unlikely(&inner_array[1]) || static_branch_unlikely(&inner_static))
		return 2;
	void *plugin = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
	if (!plugin) puts(argc > 1 ? dlerror() : "");
	return static_call(seen)(0) + static_call(inner)(0) == 2 && !static_branch_unlikely(&flag) && plugin ? 0 : 1;
}
"""
PLUGIN = HEAD + "DECLARE_STATIC_CALL(seen, one);\nint use(int n);\nint use(int n) { return static_call(seen)(n); }\n"


def build(folder, number, text, options):
    path = os.path.join(folder, f"program{number}")
    strip = options == ["strip"]
    subprocess.run(["gcc", "-O2", "-I", INCLUDE, "-x", "c", "-", "-o", path, "-L", LIB, "-lshunt",
                    *([] if strip else options)], input=text, text=True, check=True)
    if strip:
        subprocess.run(["strip", "-s", path], check=True)
    return path


def run(*arguments):
    return subprocess.run([SHUNT, "sites", *arguments], capture_output=True, text=True, check=False)


with tempfile.TemporaryDirectory() as folder:
    for number, (name, text, options, status, words) in enumerate(rows):
        path = build(folder, number, text, options)
        done = run("--check", path)
        ok(done.returncode == status and all(word in done.stdout for word in words) and
           bool(done.stdout) == bool(status), name, f"status {done.returncode}\n{done.stdout}{done.stderr}")
        done = run("--check", "--json", path)
        ok(done.returncode == status and json.loads(done.stdout)["version"] == 1,
           name + ": as JSON, with its version", done.stdout + done.stderr)
    plugin = build(folder, "plugin.so", PLUGIN, [*RELOCATIONS, "-shared", "-fPIC"])
    for name, options, unseen in ("without -rdynamic", [], ["seen", "flag"]), ("with -rdynamic", ["-rdynamic"], []), (
            "no executable", ["-shared", "-fPIC"], []):
        path = build(folder, name.replace("-r", "r").replace(" ", ""), EXPORTS, [*RELOCATIONS, *options])
        done = run(path)
        ok(done.returncode == 0 and all(f"exports {key}, but not to plugins: link it with -rdynamic\n" in done.stdout for key in unseen)
           and done.stdout.count("-rdynamic") == len(unseen), f"exported keys, {name}", done.stdout)
        ok(json.loads(run("--json", path).stdout)["unseen_exports"] == unseen, f"exported keys, {name}: as JSON")
        if name != "no executable":
            done = subprocess.run([path, plugin], capture_output=True, text=True, check=False, env={"LD_LIBRARY_PATH": LIB})
            ok(done.returncode == bool(unseen) and ("undefined symbol: __SCT__seen" in done.stdout) == bool(unseen),
               f"exported keys, {name}: a plugin that uses them", done.stdout + done.stderr)
    # Without -rdynamic: what is exported is named, and nothing else, by each linker and compiler; baked, and with all keys exported.
    ALL = EXPORTS.replace("int main", "".join(f"EXPORT_STATIC_KEY({key});\n" for key in (
        "inner_flag", "inner_true", "inner_array", "inner_static")) + "EXPORT_STATIC_CALL(inner);\nint main")
    NONE = "".join(line for line in EXPORTS.splitlines(True) if not line.startswith("EXPORT_"))
    for linker in "bfd", "gold", "lld":
        if not shutil.which("ld." + linker):
            skip(f"ld.{linker}", "it is not here")
            continue
        for text, keys in (EXPORTS, {"seen", "flag"}), (NONE, set()), (
                ALL, {"seen", "flag", "inner", "inner_flag", "inner_true", "inner_array", "inner_static"}):
            path = build(folder, f"{linker}{len(keys)}", text, [*RELOCATIONS, "-fuse-ld=" + linker])
            subprocess.run([SHUNT, "bake", "-o", path + ".baked", path], stdout=subprocess.DEVNULL, check=True)
            for file in path, path + ".baked":
                said = json.loads(run("--json", file).stdout)["unseen_exports"]
                ok(set(said) == keys and len(said) == len(keys), f"ld.{linker}: {len(keys)} keys are exported in vain", f"{said}")
    # Baked, and without the table: the keys with baked calls are named, and no trampoline; the others go by theirs.
    for name, text, left in ("one key", CALL, 0), ("beside a key without a call", CALL + "DEFINE_STATIC_CALL(other, one);\n", 1):
        path = build(folder, f"lost{left}", text, RELOCATIONS)
        subprocess.run([SHUNT, "bake", path], stdout=subprocess.DEVNULL, check=True)
        done = run("--check", path)
        ok(done.returncode == 0 and not done.stdout, f"baked, {name}: control: with its table", done.stdout)
        subprocess.run(["strip", "-R", ".shunt.sites", path], check=True)
        done = run("--check", path)
        said = done.stdout.splitlines()
        lost = "was baked, and has no site table (section .shunt.sites) any more"
        ok(done.returncode == 1 and said == [f"{path}: key: baked: cannot be updated: {lost}", *(
            [f"{path}: all other static calls: trampoline: {lost}"] * left)], f"baked, without its table, {name}", done.stdout + done.stderr)
        done = run(path)
        ok(done.returncode == 0 and "1 key whose calls hold the direct call that was baked, and cannot be updated" in done.stdout,
           f"the same, listed: {name}", done.stdout)
        done = run("--check", "--json", path)
        ok(done.returncode == 1 and json.loads(done.stdout)["why"] == lost, f"the same as JSON: {name}")
    done = run("--check", os.path.join(folder, "none"))
    ok(done.returncode == 1 and "none" in done.stderr, "a file that is not there", done.stderr)
sys.exit(finish())
