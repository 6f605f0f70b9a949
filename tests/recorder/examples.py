#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
The examples of the manual and of --help are run as they stand there, on a recording of a small
program: each ends well, says nothing is wrong, and prints something or makes its file.

    examples.py SHUNT EXAMPLE.C MAN_FOLDER FOLDER

Left out are those of another process (-p, which tests/agent has), and those whose other programs are
not here. *Control:* where there is no recording, those that read one say so. TAP.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

SHUNT, SOURCE, MAN, FOLDER = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
COMMANDS = ("report", "replay", "graph", "export", "trace")
OTHERS = ("jq", "less", "callgrind_annotate")


def shell(line, folder):
    path = os.pathsep.join((str(FOLDER / "bin"), os.environ["PATH"]))
    done = subprocess.run(["sh", "-c", line], cwd=folder, env={**os.environ, "PATH": path}, timeout=60,
                          capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def examples():
    """(where, the line)"""
    for command in COMMANDS:
        text = subprocess.run([SHUNT, command, "--help"], capture_output=True, text=True, check=True).stdout
        for line in text.partition("examples:\n")[2].splitlines():
            yield f"shunt {command} --help", line.strip()
    for page in ("shunt-report.1.scd", "shunt-trace.1.scd"):
        text = (MAN / page).read_text(encoding="utf-8")
        block = re.search(r"# EXAMPLES\n\n```\n(.*?)```", text, re.DOTALL)
        for line in block[1].splitlines() if block else ():
            yield page, line.removeprefix("$ ")


def is_left_out(line):
    return " -p " in line or any(re.search(rf"\b{other}\b", line) and not shutil.which(other) for other in OTHERS)


def fresh(name, recorded=True):
    """A folder with what the examples read."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for program in ("program", "server"):
        (folder / program).symlink_to(FOLDER / "example")
    (folder / "input").write_text("some\nlines\n", encoding="utf-8")
    if recorded:
        for recording in ("out.trace", "shunt.trace"):
            shutil.copy(FOLDER / "recording", folder / recording)
    return folder


def run(where, line, tid):
    folder = fresh("run")
    before = {f.name: f.stat().st_mtime_ns for f in folder.iterdir()}
    status, out, err = shell(line.replace("4711", str(tid)), folder)
    made = [f.name for f in folder.iterdir() if before.get(f.name) != f.stat().st_mtime_ns]
    ok(status == 0 and "shunt:" not in err and (out or made), f"{where}: {line}", f"{status}\n{out}{err}")
    if "trace" not in line.split()[1]: # it reads one
        _, out, err = shell(line, fresh("empty", False))
        ok("No such file or directory" in err, f"control: {line}: no recording", f"{out}{err}")


def main():
    (FOLDER / "bin").mkdir(parents=True, exist_ok=True)
    link = FOLDER / "bin/shunt"
    link.unlink(missing_ok=True)
    link.symlink_to(pathlib.Path(SHUNT).resolve())
    subprocess.run(["gcc", "-O1", "-fpatchable-function-entry=5", "-o", FOLDER / "example", SOURCE], check=True)
    subprocess.run([SHUNT, "trace", "-o", FOLDER / "recording", "--", FOLDER / "example"], check=True)
    said = subprocess.run([SHUNT, "report", "--json", "--thread", FOLDER / "recording"], capture_output=True,
                          text=True, check=True).stdout
    tid = json.loads(said)["functions"][0]["tid"]
    all_of_them = list(examples())
    ok(len({where for where, _ in all_of_them}) == len(COMMANDS) + 2, f"{len(all_of_them)} examples, in each place some")
    for where, line in all_of_them:
        if is_left_out(line):
            ok(True, f"{where}: {line} # SKIP a program that is not here, or another process")
        else:
            run(where, line, tid)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
