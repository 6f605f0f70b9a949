#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""No files of the kernel, its tests and its laboratory call each other in a circle, but for the trap
path with the port, and a file in C with its own assembly.

usage: test_circles.py DIRECTORY-OF-OBJECTS
"""
import glob
import os
import re
import subprocess
import sys

ALLOWED = [{"port.c", "trap.S", "trap.c"}, {"smp.c", "boot_ap.S"}]


def may_be(circle):
    """Whether it is one of these, or NAME.c with NAME.S, NAME_stubs.S or NAME_sites.S."""
    stems = {re.sub(r"(_stubs|_sites)?\.S$|\.c$", "", name) for name in circle}
    return set(circle) in ALLOWED or (len(circle) == 2 and len(stems) == 1)


def symbols(paths):
    """By object, what it defines and what it wants; in one run of nm."""
    found = {}
    for line in subprocess.run(["nm", "-A", *paths], check=True, capture_output=True, text=True).stdout.splitlines():
        path, rest = line.split(":", 1)
        kind, name = rest.split()[-2:]
        defined, wanted = found.setdefault(os.path.basename(path).removesuffix(".o"), (set(), set()))
        if kind == "U":
            wanted.add(name)
        elif kind.isupper():
            defined.add(name)
    return found


def reach(graph, start):
    """All that @start calls, directly or not."""
    seen, left = set(), list(graph[start])
    while left:
        node = left.pop()
        if node not in seen:
            seen.add(node)
            left += graph[node]
    return seen


def circles(graph):
    reached = {node: reach(graph, node) for node in graph}
    return {frozenset(n for n in reached[node] if node in reached[n])
            for node in graph if node in reached[node]}


def main():
    objects = symbols(glob.glob(os.path.join(sys.argv[1], "*.o")))
    graph = {name: {other for other, (defined, _) in objects.items()
                    if other != name and wanted & defined}
             for name, (_, wanted) in objects.items()}
    found = circles(graph)
    for circle in found:
        print("# " + ", ".join(sorted(circle)))
    checks = [(len(objects) > 60, f"{len(objects)} files of the kernel"),
              (all(map(may_be, found)), "no circle but those that may be"),
              (circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == {frozenset("abc")},
               "control: a circle is seen"),
              (not may_be({"a.c", "b.S"}) and not may_be({"a.c", "a.S", "b.c"}),
               "control: one with another file's assembly, and one of three, may not be")]
    for i, (good, what) in enumerate(checks, 1):
        print("ok" if good else "not ok", i, "-", what)
    print(f"1..{len(checks)}")
    return not all(good for good, _ in checks)


sys.exit(main())
