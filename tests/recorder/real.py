#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Sessions of real programs: compiled with room for tracing by each compiler and kind, run by `shunt
trace`, and each function's calls in the file compared with those that the program makes.

    real.py SHUNT TRACED.C FOLDER [all]     without "all": by SOME of the compilers and kinds, of these FEW of what programs
                                            do by all but the first, and a plugin comes and goes less often

*Control:* without room (no flag) nothing is recorded; the counts that are expected, one off, are
seen not to fit; a plugin that is unloaded unseen has no names; and two of one path are mixed where
nobody says which they are. TAP.
"""
import collections
import glob
import json
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

KINDS = {
    "gcc -fpatchable-function-entry=5": ["gcc", "-fpatchable-function-entry=5"],
    "gcc -mfentry": ["gcc", "-pg", "-mfentry"],
    "gcc -finstrument-functions": ["gcc", "-finstrument-functions"],
    "clang -fpatchable-function-entry=5": ["clang", "-fpatchable-function-entry=5"],
    "clang -fxray-instrument": ["clang", "-fxray-instrument", "-fxray-instruction-threshold=1"],
    "clang -finstrument-functions": ["clang", "-finstrument-functions"],
}
SOME = ("gcc -fpatchable-function-entry=5", "gcc -finstrument-functions")
FEW = ("jumps", "fork")
ALL = sys.argv[4:] == ["all"]
RELOADS = 300 if ALL else 40
ROUNDS, THREADS = 300, 200
BASE = {"main": 1, "middle": ROUNDS, "leaf": 10 * ROUNDS, "nothing": ROUNDS, "around_nothing": ROUNDS}
SHUNT, SOURCE, FOLDER = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
orphans = [] # returns without an entry, of each file


made = {}  # what has been built: bytes by command


def build(name, command, *more):
    out = FOLDER / name
    key = (*command, *more)
    if key not in made:
        compile_to(out, command, *more)
        made[key] = out.read_bytes()
    out.unlink(missing_ok=True)
    out.write_bytes(made[key])
    out.chmod(0o755)
    return out


def compile_to(out, command, *more):
    # Linked without -pg, which would have a profiling timer go off behind exec().
    other = out.with_name(out.name + ".o")
    subprocess.run([*command, "-O2", "-g", *more, "-c", SOURCE, "-o", other, "-w"], check=True)
    subprocess.run([*(word for word in command if word not in ("-pg", "-mfentry")), *(w for w in more if w == "-shared"), other,
                    "-o", out, "-pthread", "-ldl", "-w"], check=True)


def trace(program, *args, options=(), env=None):
    """The exit status, and what each file says: function -> calls."""
    for old in glob.glob(str(FOLDER / "t.trace*")):
        os.unlink(old)
    done = subprocess.run([SHUNT, "trace", "-o", FOLDER / "t.trace", "--keep-all", *options, "--",
                           program, *args], timeout=60, env={**os.environ, **(env or {})},
                          capture_output=True, text=True)
    files = sorted(glob.glob(str(FOLDER / "t.trace*")), key=len)
    return done.returncode, [calls(f) for f in files], done.stderr


def calls(path):
    out = subprocess.run([SHUNT, "report", "--json", path], capture_output=True, text=True,
                         timeout=60).stdout
    rows = json.loads(out or "[]")
    if isinstance(rows, dict):
        orphans.append(rows.get("returns_without_entry"))
    rows = rows.get("functions", rows) if isinstance(rows, dict) else rows
    return {row["function"]: row["calls"] for row in rows}


def fits(found, expected):
    return all(found.get(name, 0) == n for name, n in expected.items())


def with_more(**more):
    return {**BASE, **more, "leaf": BASE["leaf"] + more.get("leaf", 0),
            "middle": BASE["middle"] + more.get("middle", 0)}


def rows_of(name, program, flags):
    orphans.clear()
    few = not ALL and name != SOME[0]
    plain = "" if few else build("plugin.so", flags, "-shared", "-fPIC", "-Dmain=in_plugin_main",
                                 "-include", str(FOLDER / "plugin.h"))
    for what, expected, status in (
            ("", BASE, 5),
            ("threads", with_more(leaf=3 * THREADS, last_destructor=THREADS), 5),
            ("handlers", with_more(leaf=ROUNDS, on_signal=ROUNDS), 5),
            ("jumps", with_more(jump=ROUNDS), 5),
            ("plugin", with_more(in_plugin=ROUNDS), 5)):
        if few and what not in FEW:
            continue
        rc, files, err = trace(program, what, plain)
        ok(rc == status and len(files) == 1 and fits(files[0], expected),
           f"{name}: {what or 'plain'}", rc, files, expected, err)
    if not few:
        rc, files, err = trace(program, "plugin", plain, env={"CLOSE": "1"})
        ok(rc == 5 and len(files) == 1 and fits(files[0], with_more(in_plugin=ROUNDS)),
           f"{name}: a plugin that has gone", rc, files, err)
    ok(not any(orphans), f"{name}: each return has its entry", orphans)
    rc, files, err = trace(program, "fork")
    ok(rc == 7 and len(files) == 2 and fits(files[0], BASE) and
       fits(files[1], {"middle": 1, "leaf": 10}), f"{name}: fork", rc, files, err)
    if few:
        return
    rc, files, err = trace(program, "exec")
    ok(rc == 5 and len(files) == 2 and all(f.get("leaf") == BASE["leaf"] for f in files),
       f"{name}: exec", rc, files, err)
    rc, files, err = trace(program, "crash", options=["--flight"])
    ok(rc == -11 and len(files) == 1 and fits(files[0], BASE), f"{name}: flight recorder, SIGSEGV",
       rc, files, err)


def control_of_unload():
    """Nobody says that a module goes: sooner or later it has gone before it was seen."""
    flags = KINDS["gcc -fpatchable-function-entry=5"]
    program, deaf = build("traced", flags), FOLDER / "deaf.so"
    plain = build("plugin.so", flags, "-shared", "-fPIC", "-Dmain=in_plugin_main", "-include",
                  str(FOLDER / "plugin.h"))
    (FOLDER / "deaf.c").write_text("void shunt_raw_on_unload(void *fn) {}\n", encoding="utf-8")
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", FOLDER / "deaf.c", "-o", deaf], check=True)
    seen = 0
    while seen < 50 and "in_plugin" in trace(program, "plugin", plain, env={
            "CLOSE": "1", "LD_PRELOAD": str(deaf)})[1][0]:
        seen += 1
    ok(seen < 50, "control: an unload that is not told leaves no names")


def reloaded(program, flags, **env):
    """The calls of each row of a plugin's function, which two files of one path have."""
    files = [build(name, flags, "-shared", "-fPIC", "-Wl,--build-id", "-Dmain=in_plugin_main", f"-DPLUGIN={i}", "-include",
                   str(FOLDER / "plugin.h")) for i, name in enumerate(("reloaded.so", "other.so"))]
    for old in glob.glob(str(FOLDER / "t.trace*")):
        os.unlink(old)
    subprocess.run([SHUNT, "trace", "-o", FOLDER / "t.trace", "--keep-all", "--ring", "4M", "--", program, "reload", *files, str(RELOADS)],
                   timeout=100, env={**os.environ, "CLOSE": "1", **env}, capture_output=True, check=False)
    out = subprocess.run([SHUNT, "report", "--json", FOLDER / "t.trace"], capture_output=True, text=True, timeout=60,
                         check=False).stdout
    return [row["calls"] for row in json.loads(out or "{\"functions\":[]}")["functions"] if row["function"] == "in_plugin"]


def rows_of_reloads():
    """Of those loads that end before anyone has seen them the build-id is known by the engine alone."""
    flags, deaf = KINDS["gcc -fpatchable-function-entry=5"], FOLDER / "no_build.so"
    program = build("traced", flags)
    found = reloaded(program, flags)
    ok(found == [RELOADS * ROUNDS // 2] * 2, "a plugin that comes and goes is one row, another file of its name is another",
       found)
    (FOLDER / "no_build.c").write_text("""
#define _GNU_SOURCE
#include <dlfcn.h>
struct gone { const char *path; unsigned long start, end; const void *set, *build_id; unsigned long build_id_len; };
static void (*told)(const struct gone *);
static void tell(const struct gone *gone) { struct gone without = *gone; without.build_id_len = 0; told(&without); }
void shunt_raw_on_unload(void (*fn)(const struct gone *))
{
	told = fn;
	((void (*)(void (*)(const struct gone *)))dlsym(RTLD_NEXT, "shunt_raw_on_unload"))(fn ? tell : 0);
}
""", encoding="utf-8")
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", FOLDER / "no_build.c", "-o", deaf, "-ldl"], check=True)
    found = reloaded(program, flags, LD_PRELOAD=str(deaf))
    ok(found != [RELOADS * ROUNDS // 2] * 2, "control: without the engine's build-ids the two are mixed", found)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "plugin.h").write_text("__attribute__((noinline)) void in_plugin(void);\n"
                                     "void in_plugin(void) { __asm__ volatile(\"\"); }\n"
                                     "#ifdef PLUGIN\nint plugin_number = PLUGIN;\n#endif\n",
                                     encoding="utf-8")
    for name, flags in KINDS.items():
        if not shutil.which(flags[0]) or not (ALL or name in SOME):
            continue
        rows_of(name, build("traced", flags), flags)
    control_of_unload()
    rows_of_reloads()
    flags = KINDS["gcc -mfentry"]
    rc, files, err = trace(build("own_malloc", flags, "-DOWN_MALLOC"), "threads")
    ok(rc == 5 and files and files[0].get("malloc", 0) + files[0].get("calloc", 0) > 0 and
       fits(files[0], with_more(leaf=3 * THREADS)), "malloc is traced", rc, files, err)
    named = json.loads(subprocess.run([SHUNT, "report", "--json", FOLDER / "t.trace"], capture_output=True,
                                      text=True, timeout=60, check=True).stdout)["threads"]
    names = collections.Counter(t["name"] for t in named)
    ok(names == {"short one": THREADS, "own_malloc": 1}, "threads have their names, also those that have ended", names)
    rc, files, err = trace(FOLDER / "traced", "", options=["-F", "middle"])
    ok(files == [{"middle": ROUNDS}], "-F", files, err)
    rc, files, err = trace(FOLDER / "traced", "", options=["-N", "leaf"])
    ok("leaf" not in files[0] and files[0]["middle"] == ROUNDS, "-N", files, err)
    ok(not fits(files[0], BASE), "control: a function that is not recorded is missed")
    rc, files, err = trace(build("without", ["gcc"]), "")
    ok(rc == 5 and not files and "can be traced" in err, "control: no room: no file, and it says so",
       rc, files, err)
    return finish()


sys.exit(main())
