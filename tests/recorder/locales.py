#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Recordings and what is made of them do not depend on the locale: of Turkish, where "i" in capitals is
no "I", and of German, where decimals have a comma. Locales are made by localedef. In each, each
command is run on one recording, also where the process has set its locale (the tool never
does; a library that does is preloaded), and a program that has set it is recorded.

    locales.py SHUNT EXAMPLE.C FOLDER [all]     without "all": of Turkish in one byte a character, which has
                                                both, and where the process has set it

*Control:* the preloaded library sets the locale: a decimal point in an option is then no number. TAP.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

SHUNT, SOURCE, FOLDER = os.path.realpath(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
LOCALES = {"tr_TR.UTF-8": ("tr_TR", "UTF-8"), "tr_TR.ISO-8859-9": ("tr_TR", "ISO-8859-9"),
           "de_DE.UTF-8": ("de_DE", "UTF-8")}
ALL = sys.argv[4:] == ["all"]
if not ALL:
    LOCALES = {"tr_TR.ISO-8859-9": LOCALES["tr_TR.ISO-8859-9"]}
READ = [["report"], ["report", "--json"], ["report", "--thread", "--json"], ["replay"], ["graph"]]
EXPORTS = ["chrome", "perfetto", "folded", "callgrind", "flame"]
SETS = '''#include <locale.h>
#include <stdlib.h>
__attribute__((constructor)) static void set(void) { if (!setlocale(LC_ALL, "")) abort(); }
'''


def run(locale, is_set, *words):
    """Standard output, or None where it failed."""
    environment = {**os.environ, "LC_ALL": locale, "LOCPATH": str(FOLDER.resolve() / "locales")}
    command = [f"LD_PRELOAD={FOLDER.resolve()}/sets.so", *words] if is_set else words
    done = subprocess.run(["env", *command], cwd=FOLDER, env=environment, capture_output=True, timeout=60, check=False)
    return None if done.returncode else done.stdout


def exported(locale, is_set, form):
    out = FOLDER / "out"
    out.unlink(missing_ok=True)
    said = run(locale, is_set, SHUNT, "export", f"--{form}", "recording", "-o", "out")
    return None if said is None else out.read_bytes()


def calls(text):
    """Of each function: how often it is called."""
    found = json.loads(text or '{"functions": []}')["functions"]
    return sorted((f["function"], f["module"], f["calls"]) for f in found)


def source_of(name):
    """That of the C library; without "all" with another order of characters, which takes localedef half of its time."""
    if ALL:
        return name
    path = FOLDER / (name + ".source")
    parts = "IDENTIFICATION CTYPE COLLATE MONETARY NUMERIC TIME MESSAGES PAPER NAME ADDRESS TELEPHONE MEASUREMENT".split()
    path.write_text("".join(f'LC_{part}\ncopy "{"POSIX" if part == "COLLATE" else name}"\nEND LC_{part}\n' for part in parts),
                    encoding="ascii")
    return path


def make():
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "locales").mkdir(parents=True)
    (FOLDER / "sets.c").write_text(SETS, encoding="ascii")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", FOLDER / "sets.so", FOLDER / "sets.c"], check=True)
    subprocess.run(["gcc", "-O1", "-fpatchable-function-entry=5", "-o", FOLDER / "Iıiİ", SOURCE, FOLDER / "sets.c"],
                   check=True)
    for name, (source, charmap) in LOCALES.items():
        made = subprocess.run(["localedef", "-i", source_of(source), "-f", charmap, FOLDER / "locales" / name],
                              capture_output=True, text=True, check=False)
        if not (FOLDER / "locales" / name / "LC_NUMERIC").exists():
            return made.stderr
    return ""


def main():
    why = make() if shutil.which("localedef") else "no localedef"
    if why:
        print(f"1..0 # SKIP {why.splitlines()[-1]}")
        return 0
    ok(run("C", False, SHUNT, "trace", "-o", "recording", "--", "./Iıiİ") is not None, "a recording")
    expected = {tuple(words): run("C", False, SHUNT, *words, "recording") for words in READ}
    expected |= {form: exported("C", False, form) for form in EXPORTS}
    recorded = calls(expected[("report", "--json")])
    ok(all(expected.values()) and len(recorded) > 3, f"{len(expected)} files")
    for locale in LOCALES:
        for is_set in (False, True) if ALL else (True,):
            bad = [form for form, text in expected.items()
                   if text != (exported(locale, is_set, form) if form in EXPORTS else
                               run(locale, is_set, SHUNT, *form, "recording"))]
            ok(not bad, f"{locale}{', set by a library' if is_set else ''}: the same", bad)
        ok(run(locale, False, SHUNT, "trace", "-o", "other", "--", "./Iıiİ") is not None, f"{locale}: it is recorded in it")
        again = calls(run("C", False, SHUNT, "report", "--json", "other"))
        ok(again == recorded, f"{locale}: a recording of a program that has set it", again)
        ok(run(locale, False, SHUNT, "trace", "--min", "1.5us", "-o", "other", "--", "./Iıiİ") is not None,
           f"{locale}: a decimal point in an option")
    ok(run([*LOCALES][-1], True, SHUNT, "trace", "--min", "1.5us", "-o", "other", "--", "./Iıiİ") is None,
       "control: where the locale is set it is none")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
