#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each figure of README.md's and doc/figures.md's tables names its rows: in each line of a table that has a column "row" there are some,
and bench/figures.py, which prints these tables, reads each. TAP. Controls: a line without rows, and with a row of another name.
(bench-rows looks whether a run has them.)
"""
import os
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, os.path.join(HERE, os.pardir, "tests", "common"))
from tap import finish, ok

import figures

PAGES = [HERE.parent / "README.md", HERE.parent / "doc" / "figures.md"]


class AnyRow(figures.Rows):
    """All rows that bench/figures.py reads."""

    def __init__(self):  # pylint: disable=super-init-not-called
        self.rows, self.used, self.all = {}, {}, set()

    def get(self, group, name, what="median"):
        self.all.add((group, name))
        return 1.0


GROUPS = "call|branch|update, [a-z0-9 ]+|sites|stall|hammer|rate|startup|memory|trace, [a-z]+"


def named(text):
    """(group, row) of the tables whose last column is "row", where it has "group: name; name; group: name"; group None: not so."""
    found, is_table = set(), False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            is_table = False
        elif cells[-1] == "row":
            is_table = True
        elif is_table and not cells[-1].startswith("-"):
            group = None
            for part in cells[-1].split("; "):
                begin = re.match(rf"({GROUPS}): ", part)
                group, part = (begin[1], part[begin.end():]) if begin else (group, part)
                found.add((group, part))
    return found


def unread(text):
    """Rows that are named there and that nothing has read."""
    known = AnyRow()
    for part in figures.calls, figures.updater, figures.switches, figures.others, figures.start, figures.tracing, figures.switching:
        list(part(known))
    return sorted(named(text) - known.all, key=str)


def main():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        ok(named(text) and not unread(text), f"{page.name}: each row that is named is read", str(unread(text)))
        other = text.replace("static_branch_enable, flip", "static_branch_enable, flop")
        ok(("update, one thread", "static_branch_enable, flop") in unread(other), f"{page.name}: control: another name")
        without = re.sub(r"\| update, one thread: [^|]*\|$", "| |", text, count=1, flags=re.MULTILINE)
        ok((None, "") in unread(without), f"{page.name}: control: none")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
