#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""No files of the kernel call each other in a circle, but for the trap path with the port, and a file
in C with its own assembly.

usage: test_circles.py DIRECTORY-OF-OBJECTS
"""
import glob
import os
import subprocess
import sys

ALLOWED = [{"port.c", "trap.S", "trap.c"}, {"ftrace.c", "ftrace_stubs.S"}, {"smp.c", "boot_ap.S"}]


def symbols(path):
    """What an object defines, and what it wants."""
    defined, wanted = set(), set()
    for line in subprocess.run(["nm", path], check=True, capture_output=True,
                               text=True).stdout.splitlines():
        kind, name = line.split()[-2:]
        if kind == "U":
            wanted.add(name)
        elif kind.isupper():
            defined.add(name)
    return defined, wanted


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
    objects = {}
    for path in glob.glob(os.path.join(sys.argv[1], "*.o")):
        name = os.path.basename(path).removesuffix(".o")
        if not name.startswith(("lab_", "test_")):
            objects[name] = symbols(path)
    graph = {name: {other for other, (defined, _) in objects.items()
                    if other != name and wanted & defined}
             for name, (_, wanted) in objects.items()}
    found = circles(graph)
    for circle in found:
        print("# " + ", ".join(sorted(circle)))
    checks = [(len(objects) > 15, f"{len(objects)} files of the kernel"),
              (found <= {frozenset(a) for a in ALLOWED}, "no circle but those that may be"),
              (circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == {frozenset("abc")},
               "control: a circle is seen")]
    for i, (good, what) in enumerate(checks, 1):
        print("ok" if good else "not ok", i, "-", what)
    print(f"1..{len(checks)}")
    return not all(good for good, _ in checks)


sys.exit(main())
