#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
What a user of `shunt trace` gets wrong, and what must not be there: an earlier recording stays where a session is
refused, names of C++ in filters are explained, options are named, and of the headers' own functions in a program none
can be traced.

    mistakes.py SHUNT INCLUDE SRC FOLDER     SRC: where libshunt was built

*Control:* a session that is written replaces an earlier recording; and with headers that do not keep their functions
out these are recorded. TAP.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

SHUNT, INCLUDE, SRC, FOLDER = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3], pathlib.Path(sys.argv[4])
PROGRAM = """
#include <shunt/control.h>
#include <shunt/static_key.h>
DEFINE_STATIC_KEY_FALSE(verbose);
#ifdef __cplusplus
namespace app {
#endif
static int __attribute__((noinline)) one(int x) { __asm__ volatile(""); return x + 1; }
int parse_line(int x);
int __attribute__((noinline)) parse_line(int x) { __asm__ volatile(""); return one(x) + 1; }
DEFINE_STATIC_CALL(op, one);
STATIC_CALL_CHOICE(op, one);
#ifdef __cplusplus
}
using namespace app;
#endif
int main(void) { return parse_line(1) + static_branch_unlikely(&verbose) + static_key_enable(&verbose.key) == 3 ? 0 : 1; }
"""
KINDS = [["gcc", "-fpatchable-function-entry=5"], ["gcc", "-pg", "-mfentry"], ["gcc", "-finstrument-functions"],
         ["clang", "-fpatchable-function-entry=5"], ["clang", "-fxray-instrument", "-fxray-instruction-threshold=1"],
         ["clang", "-finstrument-functions"]]


def run(*args):
    return subprocess.run([*map(str, args)], capture_output=True, text=True, timeout=60, check=False, cwd=FOLDER)


def build(name, command, include=INCLUDE):
    language = "c++" if command[0].endswith("++") else "c"
    subprocess.run([*command, "-O0", f"-I{include}", "-x", language, "-c", "-", "-o", f"{FOLDER}/{name}.o", "-w"],
                   input=PROGRAM, text=True, check=True)
    subprocess.run([command[0], f"{FOLDER}/{name}.o", "-o", FOLDER / name, f"-L{SRC}", "-lshunt", f"-Wl,-rpath,{SRC}", "-Wl,--emit-relocs",
                    *(["-fxray-instrument"] if "-fxray-instrument" in command else [])], check=True)
    return FOLDER / name


def functions(program):
    run(SHUNT, "trace", "-o", "t.trace", "--keep-all", "--", program)
    rows = json.loads(run(SHUNT, "report", "--json", "t.trace").stdout or '{"functions": []}')["functions"]
    return {row["function"] for row in rows}


def earlier(program):
    file = FOLDER / "old.trace"

    def is_kept(words, *command):
        file.write_text("earlier")
        out = run(SHUNT, "trace", "-o", file, *command)
        kept = file.exists() and file.read_text() == "earlier" and not list(FOLDER.glob("old.trace.*"))
        ok(out.returncode and kept and words in out.stderr, f"an earlier recording stays: {' '.join(map(str, command))}", out)

    is_kept("no function of such a name", "-F", "no_such", "--", program)
    is_kept("is as it was", "-F", "*one*", "--min", "1000s", "--", program)
    kinds = "2 (what -pg, " if os.uname().machine == "aarch64" else "5, -pg -mfentry"
    is_kept(f"can be traced: nothing in it is an entry of -fpatchable-function-entry={kinds}", "--", shutil.which("true"))
    is_kept("No such file", "--", "./no-such-program")
    file.write_text("earlier")
    out = run(SHUNT, "trace", "-o", file, "--", program)
    ok(not out.returncode and not out.stderr and run(SHUNT, "report", file).returncode == 0 and
       not list(FOLDER.glob("old.trace.*")), "control: one that is written replaces it, without a word", out)


def cxx(program):
    for glob, words in ("app::parse*", '"*3app*parse*"'), ("app::parse_line(int)", '"*3app10parse_line*"'), \
            ("*:app::parse_line", '"*:*3app10parse_line*"'):
        out = run(SHUNT, "trace", "-o", "c.trace", "-F", glob, "--", program)
        ok(out.returncode and "mangled" in out.stderr and words in out.stderr and out.stderr.count("\n") == 1,
           f"a name of C++: {glob}, in one line", out)
        taken = words.strip('"')
        out = run(SHUNT, "trace", "-o", "c.trace", "--filter", taken, "--", program)
        ok(not out.returncode and "app::parse_line(int)" in run(SHUNT, "report", "c.trace").stdout, f"and {taken} takes it", out)


def options(program):
    for words, *given in (("with its unit", "--min", "1"), ("from 4K", "--ring", "3"), ("a pattern", "--filter", ""),
                          ("a pattern", "--notrace", " "), ("not the number of a process", "--pid", "x"), ("a file", "--output", "")):
        out = run(SHUNT, "trace", *given, "--", program)
        ok(out.returncode == 2 and words in out.stderr, f"{' '.join(given)}: {words}", out)
    out = run(SHUNT, "trace", "--output", "long.trace", "--notrace", "one", "--", program)
    ok(not out.returncode and (FOLDER / "long.trace").exists(), "the long forms", out)


def own_functions():
    open_headers = FOLDER / "open"
    shutil.copytree(INCLUDE, open_headers, dirs_exist_ok=True)
    module = open_headers / "shunt/module.h"
    module.write_text(module.read_text() + "\n")
    text = module.read_text()
    start = text.index("#define __SHUNT_UNTRACED")
    end = text.index("\n", text.index("__SHUNT_NO_PROFILE", start))
    module.write_text(text[:start] + "#define __SHUNT_UNTRACED" + text[end:])
    for command in KINDS:
        if not shutil.which(command[0]):
            continue
        own = {f for f in functions(build("own", command)) if "shunt" in f or f.startswith("static_key")}
        theirs = functions(FOLDER / "own")
        ok(not own and {"main", "parse_line"} <= theirs, f"{' '.join(command)}: functions of the headers cannot be traced", own, theirs)
    seen = {f for f in functions(build("seen", KINDS[0], open_headers)) if "shunt" in f or f.startswith("static_key")}
    ok({"__shunt_module_init", "static_key_enable"} <= seen, "control: with other headers they are recorded", seen)


shutil.rmtree(FOLDER, ignore_errors=True)
FOLDER.mkdir(parents=True)
plain = build("plain", KINDS[0])
earlier(plain)
options(plain)
if shutil.which("g++"):
    cxx(build("cxx", ["g++", "-fpatchable-function-entry=5"]))
own_functions()
sys.exit(finish())
