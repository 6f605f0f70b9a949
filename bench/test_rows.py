#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The rows of a hammered thread, of a quick run: each way has its share of calls, how long an update holds the
thread up, the rate that was reached, and beside it the same updates elsewhere. The plot says what, where and when, and a
direct call is 1. And each row that README.md and doc/figures.md name for a figure is there, as far as the run has its
group. Only that they are there: no figure is judged. TAP. Controls: with a row taken out of the results, or a line of
the plot moved, the same checks fail.

Usage: test_rows.py PROGRAM
"""
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "tests", "common"))
from tap import finish, ok, skip

from test_figures import PAGES, named

WAYS = [f"{way}, {rate} updates/s" for rate in ("100", "1,000", "10,000") for way in ("int3", "remap")]
WAYS += [f"branches, {rate} flips/s" for rate in ("1,000", "10,000")]

def missing(rows, way):
    """What there is not of that way and of its control; "" where a way cannot be had here, and the row says so."""
    found = {(r["group"], r["name"]): r for r in rows}
    skipped = found.get(("hammer", way), {}).get("skipped")
    if skipped in ("goes another way here", "one CPU"):
        return ""
    for name in way, way + " elsewhere":
        for group, unit in ("hammer", "Mcall/s"), ("rate", "a second"), ("stall", "us"):
            row = found.get((group, name), {})
            if row.get("unit") != unit or row.get("median", -1) < 0:
                return f"{group}: {name}"
    return ""


def wrong_in_plot(svg):
    """What the plot of the calls does not say; "" where it says all. Its first bar is a direct call."""
    for words in (rf"shunt bench \d+\.\d+\.\d+, {datetime.datetime.now(datetime.timezone.utc).year}-\d\d-\d\d: .*CPUs, Linux ", "bars: medians, blue is Shunt's",
                  "from the lower to the upper quartile", "a call, in direct calls .*; shorter is better; dashed: 1, a direct call",
                  "a test of a flag, ns; shorter", "one update by int3, us; shorter"):
        if not re.search(words, svg):
            return words
    bar = re.search(r'<rect class="other" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)
    line = re.search(r'<line class="floor" x1="([\d.]+)"', svg)
    one = re.search(r'<text x="([\d.]+)" [^>]*>0</text>', svg)
    if abs(float(bar[1]) + float(bar[2]) - float(line[1])) > 0.2 or one[1] != f"{float(bar[1]):.1f}":
        return "the line at the end of the direct call's bar, and a zero where the bars begin"
    return ""


def check_names(rows):
    there = {(r["group"], r["name"]) for r in rows}
    # What needs programs of -Dbench=enabled may be left out.
    whole = {r["group"] for r in rows} - {r["group"] for r in rows if "skipped" in r and r["group"] in ("sites", "startup", "memory")}
    for path in PAGES:
        lack = [(group, name) for group, name in named(path.read_text(encoding="utf-8")) - there if group in whole]
        ok(not lack, f"{path.name}: the rows that it names are there, of the groups that this run has", str(lack))


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/out.json"
        run = subprocess.run([sys.argv[1], "--quick", "--json", path, "--svg", f"{folder}/out.svg"],
                             capture_output=True, text=True, check=False)
        ok(run.returncode == 0, "a quick run", run.stderr)
        with open(path, encoding="utf-8") as file:
            rows = json.load(file)["rows"]
        svg = pathlib.Path(f"{folder}/out.svg").read_text(encoding="utf-8")
    ok(not wrong_in_plot(svg), "the plot", wrong_in_plot(svg))
    ok(wrong_in_plot(svg.replace('"floor" x1="', '"floor" x1="1')), "control: the line stands elsewhere")
    check_names(rows)
    if len(os.sched_getaffinity(0)) < 2:
        skip("the hammered thread", "one CPU")
        return finish()
    for way in WAYS:
        lack = missing(rows, way)
        ok(not lack, f"{way}, and elsewhere", lack)
    ok(any(r["group"] == "rate" and r["name"].startswith("auto: ") for r in rows), "auto, with the way that it went")
    for group in "hammer", "rate", "stall":
        cut = [r for r in rows if (r["group"], r["name"]) != (group, WAYS[0] + " elsewhere")]
        ok(missing(cut, WAYS[0]), f"control: without the row of {group} elsewhere")
    return finish()


sys.exit(main())
