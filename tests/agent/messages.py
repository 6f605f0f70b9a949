#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Each message of shunt attach, as its source has it, is in shunt-attach(1): the longest piece between what is filled in. TAP.

    messages.py TOOLS MANUAL
"""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
from tap import finish, ok  # noqa: E402

CALLS = re.compile(r'\b(?:inject_fail|refuse|fail|tracee_fail)\([^;"]*?((?:"(?:[^"\\]|\\.)*"\s*(?:LAUNCHER_THREAD_NAME\s*)?)+)', re.S)
VERDICTS = re.compile(r'\[THREAD_[A-Z_]+\] = "([^"]*)"')
LEAST = 6  # letters: what is shorter is a name and a reason


def messages(text):
    for call in CALLS.finditer(text):
        yield "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', call[1]))
    yield from VERDICTS.findall(text)


def pieces(message):
    """Longest first."""
    found = [piece.strip(" :;,(\\n)") for piece in re.split(r"%[-#.0-9]*l*[a-z]", message)]
    return sorted((piece for piece in found if len(piece) >= LEAST), key=len, reverse=True)


def plain(text):
    return " ".join(text.replace("\\", "").replace("*", "").replace("_", " ").split())


def missing(tools, manual):
    """Messages that are not in the manual; and how many there are."""
    words, found, n = plain(manual), [], 0
    for file in sorted([*tools.glob("inject*.c"), *tools.glob("tracee*.c"), tools / "launcher.c"]):
        for message in messages(file.read_text(encoding="utf-8")):
            n += 1
            known = pieces(message)
            if known and plain(known[0]) not in words:
                found.append(f"{file.name}: {message}")
    return found, n


text = pathlib.Path(sys.argv[2]).read_text(encoding="utf-8")
lacks, total = missing(pathlib.Path(sys.argv[1]), text)
ok(not lacks and total > 50, f"each of {total} messages is in shunt-attach(1)", *lacks)
lacks, _ = missing(pathlib.Path(sys.argv[1]), re.sub(r"# MESSAGES.*?\n# ", "", text, flags=re.S))
ok(len(lacks) > 30, f"control: without its section MESSAGES it lacks {len(lacks)}")
sys.exit(finish())
