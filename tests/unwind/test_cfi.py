#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Every piece of assembly has call frame information that covers all of it: the
library's, and the trampolines and veneers of programs, however they are compiled and
linked; and of veneers, a program has one area, in reach of its text. TAP.

    test_cfi.py [all] INCLUDE-FOLDER LIBSHUNT.SO COMPILER...

Without "all" six ways to build of fourteen.

.eh_frame, which unwinders read, unless the program has none of its own: with
-fno-asynchronous-unwind-tables and -g, C code has .debug_frame, and so has the
trampoline. Controls: a trampoline without CFI is found out; so is a second area.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ALL = sys.argv[1] == "all"
INCLUDE, LIBRARY, *COMPILER = sys.argv[1 + ALL:]

PROGRAM = r"""
#include <shunt/static_call.h>
static int one(int x) { return x + 1; }
static void nothing(void) { }
DEFINE_STATIC_CALL(cfi_call, one);
DEFINE_STATIC_CALL_NULL(cfi_null, nothing);
DEFINE_STATIC_CALL_RET0(cfi_ret0, one);
int main(int argc, char **argv)
{
	(void)argv;
	static_call(cfi_null)();
	return static_call(cfi_call)(argc) + static_call(cfi_ret0)(argc);
}
"""
BARE = r"""
__asm__(".pushsection .text\n.globl bare\n.type bare, @function\n"
	"bare: .byte 0xf3, 0x0f, 0x1e, 0xfa\njmp *key(%rip)\n.size bare, . - bare\n.popsection");
void *key;
int main(void) { return 0; }
"""
OTHER = r"""
#include <shunt/static_key.h>
DEFINE_STATIC_KEY_FALSE(cfi_key);
int other(void);
int other(void) { return static_branch_unlikely(&cfi_key); }
"""
AREA_TWICE = r"""
__asm__(".pushsection shunt_veneers, \"ax\"\n.zero 256\n.popsection");
"""
TRAMPOLINES = ["__SCT__cfi_call", "__SCT__cfi_null", "__SCT__cfi_ret0", "__shunt_veneers"]
AREA = 32 * 8  # bytes
OURS = ["__static_call_nop", "__static_call_return0", "shunt_selftest_1", "shunt_selftest_2",
        "shunt_selftest_call", "shunt_selftest_jmp", "shunt_selftest_jcc",
        "shunt_selftest_nop", "shunt_iret", "shunt_has_shadow_stack", "shunt_shadow_ret",
        "shunt_shadow_stubs"]


def run(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT).stdout


def covered(file, section):
    """Address ranges that have an FDE in @section."""
    out = run("readelf", "--wide", "--debug-dump=frames", file)
    parts = re.split(r"^Contents of the (\S+) section:", out, flags=re.M)
    text = dict(zip(parts[1::2], parts[2::2])).get(section, "")
    return {(int(a, 16), int(b, 16))
            for a, b in re.findall(r" FDE .*pc=([0-9a-f]+)\.\.([0-9a-f]+)", text)}


def symbols(file):
    out = run("readelf", "--wide", "--syms", file)
    found = re.findall(r"^ *\d+: ([0-9a-f]+) +(\d+) FUNC .* (\S+)$", out, flags=re.M)
    return {name: (int(start, 16), int(start, 16) + int(size)) for start, size, name in found}


def lacking(file, names, section=".eh_frame"):
    """Which of @names have no FDE of just their size there."""
    where, ranges = symbols(file), covered(file, section)
    return [name for name in names if where.get(name) not in ranges]


def areas(file):
    """How many areas of veneers there are."""
    found = re.findall(r" shunt_veneers +PROGBITS +\w+ +\w+ +(\w+)",
                       run("readelf", "--wide", "--sections", file))
    return sum(int(size, 16) for size in found) / AREA


def link_twice(directory, linker, flags):
    """Two source files, by way of a partial link."""
    objects = [f"{directory}/{name}.o" for name in ("program", "other")]
    for name in objects:
        run(*COMPILER, "-O2", "-I", INCLUDE, "-c", name[:-1] + "c", "-o", name)
    run(*COMPILER, "-r", f"-fuse-ld={linker}", *objects, "-o", f"{directory}/partial.o")
    run(*COMPILER, f"-fuse-ld={linker}", *flags, f"{directory}/partial.o", "-o",
        f"{directory}/program", "-Wl,--unresolved-symbols=ignore-all")


def main():
    count = failed = 0

    def ok(good, what):
        nonlocal count, failed
        count += 1
        failed += not good
        print(f"{'ok' if good else 'not ok'} {count} - {what}")

    is_clang = "clang" in " ".join(COMPILER)
    lack = lacking(LIBRARY, OURS)
    ok(not lack, f"libshunt: {len(OURS)} routines in assembly {lack}")
    builds = [("-O2", ".eh_frame"), ("-O0", ".eh_frame"), ("-O2 -g", ".eh_frame"),
              ("-O2 -masm=intel", ".eh_frame"), ("-O2 -fno-pie -no-pie", ".eh_frame"),
              ("-O2 -fno-asynchronous-unwind-tables", ".eh_frame"),
              ("-O2 -fno-asynchronous-unwind-tables -fexceptions -g", ".eh_frame"),
              ("-O2 -fno-asynchronous-unwind-tables -g", ".debug_frame"),
              ("-O0 -fno-asynchronous-unwind-tables -g", ".debug_frame"),
              ("-O2 -fomit-frame-pointer -fcf-protection=full", ".eh_frame"),
              ("-O2 -ffunction-sections -fdata-sections -Wl,--gc-sections", ".eh_frame"),
              ("-O2 -static-pie", ".eh_frame")]
    if not is_clang:
        builds += [("-O2 -flto", ".eh_frame"), ("-O2 -flto -ffat-lto-objects -g", ".eh_frame")]
    elif shutil.which("ld.lld"):
        builds += [("-O2 -flto -fuse-ld=lld", ".eh_frame"),
                   ("-O2 -flto=thin -fuse-ld=lld", ".eh_frame")]
    if not ALL:
        builds = [builds[i] for i in (0, 3, 5, 7, 10, 12) if i < len(builds)]
    with tempfile.TemporaryDirectory() as directory:
        source, program = pathlib.Path(directory, "program.c"), f"{directory}/program"
        other = pathlib.Path(directory, "other.c")
        source.write_text(PROGRAM)
        other.write_text(OTHER)
        for flags, section in builds:
            # It is looked at, not run, so it need not be linked with the library.
            run(*COMPILER, *flags.split(), "-I", INCLUDE, str(source), str(other), "-o", program,
                "-Wl,--emit-relocs", "-Wl,--unresolved-symbols=ignore-all")
            lack = lacking(program, TRAMPOLINES, section)
            ok(not lack, f"{flags}: trampolines, veneers, {section} {lack}")
            found = areas(program)
            if "thin" in flags:  # each of its objects keeps one
                ok(found in (1, 2), f"{flags}: {found:g} areas of veneers, of 2 files")
            else:
                ok(found == 1, f"{flags}: {found:g} areas of veneers, of 2 files")
        for linker in ("bfd", "lld", "gold"):
            if not shutil.which("ld." + linker):
                continue
            link_twice(directory, linker, ["-Wl,--emit-relocs"])
            lack, found = lacking(program, TRAMPOLINES), areas(program)
            ok(not lack and found == 1,
               f"{linker}, behind a partial link: {found:g} areas of veneers {lack}")
        other.write_text(OTHER + AREA_TWICE)
        link_twice(directory, "bfd", [])
        ok(areas(program) == 2, "control: a second area is found out")
        source.write_text(BARE)
        run(*COMPILER, "-O2", str(source), "-o", program)
        ok(lacking(program, ["bare"]) == ["bare"], "control: one without CFI is found out")
    print(f"1..{count}")
    return 1 if failed else 0


sys.exit(main())
