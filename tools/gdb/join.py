#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
join.py PART...: the parts of shunt-gdb.py as one file, to standard output, for gdb loads one file.
The lines by which a part imports others are left out.
"""
import sys


def main():
    for number, path in enumerate(sys.argv[1:]):
        with open(path, encoding="utf-8") as part:
            lines = [line for line in part if not line.startswith("from shunt_")]
        if number:
            print("\n")
            lines = lines[1:]  # the licence
        sys.stdout.writelines(lines)


main()
