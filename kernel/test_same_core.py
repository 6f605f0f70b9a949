#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The kernel is linked from the very objects of core that the library holds.

usage: test_same_core.py BUILD KERNEL.MAP LIBSHUNT.A

The linker's map names each file that went into the kernel; the members of the library
are compared with these, byte by byte (by their SHA-256).
"""
import hashlib
import os
import re
import subprocess
import sys


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def linked_objects(build, path):
    """What the kernel was linked from: base name -> checksum, of core's objects."""
    with open(path, encoding="utf-8", errors="replace") as file:
        names = re.findall(r"^LOAD (\S*libshunt-core\S*\.o)$", file.read(), re.MULTILINE)
    objects = {}
    for name in names:
        with open(os.path.join(build, name), "rb") as file:
            objects[os.path.basename(name)] = sha256(file.read())
    return objects


def members(library):
    """The library's members that come from core, and of arch what core uses (not what reads
    files, which the kernel has none of, or asks what vector registers there are): name -> checksum."""
    names = subprocess.run(["ar", "t", library], check=True, capture_output=True,
                           text=True).stdout.split()
    return {name: sha256(subprocess.run(["ar", "p", library, name], check=True,
                                        capture_output=True).stdout)
            for name in names if re.match(r"(core|arch_(?!.*_(elf_code|entries|operands|vectors)\.))_?.*\.c\.o$", name)}


def main():
    build, map_path, library = sys.argv[1:]
    kernel, process = linked_objects(build, map_path), members(library)
    names = sorted(kernel.keys() | process.keys())
    print(f"1..{len(names) + 1}")
    print(("ok" if names else "not ok") + f" 1 - {len(names)} objects of core")
    for i, name in enumerate(names, 2):
        same = kernel.get(name) is not None and kernel.get(name) == process.get(name)
        print(("ok" if same else "not ok") + f" {i} - {name} {kernel.get(name, 'missing')[:16]}")


main()
