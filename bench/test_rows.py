#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The rows of a hammered thread, of a quick run: each way has its share of calls, how long an update holds the
thread up, the rate that was reached, and beside it the same updates elsewhere. Only that they are there:
no figure is judged. TAP. Control: with a row taken out of the results the same
check fails.

Usage: test_rows.py PROGRAM
"""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "tests", "common"))
from tap import finish, ok, skip

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


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/out.json"
        run = subprocess.run([sys.argv[1], "--quick", "--json", path], capture_output=True, text=True, check=False)
        ok(run.returncode == 0, "a quick run", run.stderr)
        with open(path, encoding="utf-8") as file:
            rows = json.load(file)["rows"]
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
