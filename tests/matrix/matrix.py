#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
The build matrix: compiles the portable suite (../api/suite*.c) and its plugins in
many ways, against one libshunt, and runs each. One line of TAP a variant.

    matrix.py BUILDDIR [--jobs N] [--few | --quick | --all] [--only TEXT] [--plan]

BUILDDIR has src/libshunt.so and src/libshunt.a. The axes are compiler, optimisation,
kind of executable, code generation and linker. Running all combinations takes
minutes; a run takes a subset in which every combination of three settings
occurs that can (--quick: of two; --few: each setting; --all: all of them), and a list of single variants
besides (--few: three of them; --quick: each with one of the compilers, by turns, and those that can meet in one
variant, three by three; without LTO most of the suite is compiled as one file, and run with a twentieth of the updates
while threads call, which api/suite makes whole).

What cannot be inlined is no surprise: EXCEPTIONS and SINGLES say which variants stay
on trampolines, or partly so, or cannot be built, and why. A variant that behaves
otherwise, better or worse, is "not ok".
"""

import argparse
import concurrent.futures
import itertools
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
API = os.path.join(TOP, "tests", "api")
SUITE = [os.path.join(API, f) for f in (
    "suite.c", "suite_targets.c", "suite_calls.c", "suite_threads.c", "suite_early.c",
    "suite_inspect.c", "suite_modules.c", "suite_jcc.S")]
ONE_FILE = [os.path.join(API, f) for f in ("whole_suite.c", "suite_targets.c", "suite_jcc.S")]

AXES = {
    "cc": ["gcc", "clang"],
    "opt": ["-O0", "-O2", "-O3"],
    "kind": ["pie", "no-pie", "static", "static-pie"],
    "code": ["plain", "lto", "cf-protection", "no-plt", "cf-protection+no-plt"],
    "ld": ["bfd", "lld"],
}

CODE = {
    "plain": [],
    "lto": ["-flto"],
    "cf-protection": ["-fcf-protection=full"],
    "no-plt": ["-fno-plt"],
    "cf-protection+no-plt": ["-fcf-protection=full", "-fno-plt"],
}

KIND = {  # what to compile with, what to link with
    "pie": (["-fPIE"], ["-pie"]),
    "no-pie": (["-fno-pie"], ["-no-pie"]),
    "static": (["-fno-pie", "-DSUITE_STATIC"], ["-static", "-no-pie"]),
    "static-pie": (["-fPIE", "-DSUITE_STATIC"], ["-static-pie"]),
}

INLINE, PARTIAL, TRAMPOLINE, UNBUILDABLE = "inline", "partial", "trampoline", "unbuildable"

GCC_LTO_LLD = "lld reads no gcc LTO objects: it has no plugin interface"
CLANG_NO_PLT = ("clang -fno-plt takes the address of a trampoline that is only declared into a "
                "register where it is called more than once")


# What stops a compiler from making tail calls, and not the other.
NO_TAILS = {"gcc": [], "clang": ["-DSUITE_NO_TAILS"]}


class Variant:
    """One way of building: a value on each axis, and what else to say."""

    def __init__(self, name, expect=INLINE, why=None, compile=(), link=(), libs_link=None,
                 relocs=True, strip=False, env=None, **axes):
        self.name = name
        self.expect, self.why = expect, why
        self.compile, self.link = list(compile), list(link)
        self.libs_link = list(link if libs_link is None else libs_link)
        self.relocs, self.strip, self.env = relocs, strip, env or {}
        self.axes = {"cc": "gcc", "opt": "-O2", "kind": "pie", "code": "plain", "ld": "bfd"}
        self.axes.update(axes)

    def __getattr__(self, name):
        try:
            return self.__dict__["axes"][name]
        except KeyError:
            raise AttributeError(name) from None

    def is_static(self):
        return self.kind in ("static", "static-pie")


def exception(axes):
    """(expectation, why) of a combination."""
    if axes["cc"] == "gcc" and axes["code"] == "lto" and axes["ld"] == "lld":
        return UNBUILDABLE, GCC_LTO_LLD
    if axes["cc"] == "clang" and "no-plt" in axes["code"] and axes["opt"] != "-O0":
        return PARTIAL, CLANG_NO_PLT
    return INLINE, None


def combinations():
    for values in itertools.product(*AXES.values()):
        axes = dict(zip(AXES, values))
        expect, why = exception(axes)
        yield Variant(" ".join(values), expect, why, **axes)


def settings(variant, n):
    return set(itertools.combinations(sorted(variant.axes.items()), n))


def cover(variants, n):
    """A subset that has every combination of n settings: greedily, the same each time."""
    good = [v for v in variants if v.expect != UNBUILDABLE]
    missing = set().union(*(settings(v, n) for v in good))
    chosen = []
    while missing:
        best = max(good, key=lambda v: len(settings(v, n) & missing))
        chosen.append(best)
        missing -= settings(best, n)
    return chosen + [v for v in variants if v.expect == UNBUILDABLE][:1]


def singles():
    """What has no place on an axis, with both compilers."""
    for cc in AXES["cc"]:
        def v(name, *args, cc=cc, **kwargs):
            return Variant(cc + " " + name, *args, cc=cc, **kwargs)

        yield v("-Os", opt="-Os")
        yield v("-O1 -g3", opt="-O1", compile=["-g3", "-DSUITE_NO_TAILS"])
        yield v("no relocations", TRAMPOLINE, "linked without --emit-relocs",
                relocs=False)
        yield v("strip -s", TRAMPOLINE, "strip -s drops the relocations and .symtab", strip=True)
        yield v("--strip-debug", link=["-Wl,--strip-debug"])
        yield v("--gc-sections", compile=["-g0", "-ffunction-sections", "-fdata-sections"],
                link=["-Wl,--gc-sections"])
        yield v("--gc-sections lld", compile=["-g0", "-ffunction-sections", "-fdata-sections"],
                link=["-Wl,--gc-sections"], ld="lld")
        yield v("-z now", link=["-Wl,-z,now"])
        yield v("-z lazy", link=["-Wl,-z,lazy"])
        yield v("-z lazy lld", link=["-Wl,-z,lazy"], ld="lld")
        yield v("-z noseparate-code", link=["-Wl,-z,noseparate-code"])
        yield v("--build-id=none", link=["-Wl,--build-id=none"])
        yield v("-Bsymbolic", link=["-Wl,-Bsymbolic"])
        yield v("-fvisibility=hidden", compile=["-fvisibility=hidden"])
        yield v("-masm=intel", compile=["-masm=intel"])
        yield v("-march=native", compile=["-march=native"])
        yield v("-fno-omit-frame-pointer", compile=["-fno-omit-frame-pointer"])
        yield v("-fstack-protector-all", compile=["-fstack-protector-all"] + NO_TAILS[cc])
        yield v("-fPIC executable", compile=["-fPIC"])
        yield v("-mcmodel=medium", compile=["-mcmodel=medium"])
        yield v("SHUNT_WRITE=mprotect", env={"SHUNT_WRITE": "mprotect"})
        yield v("--icf=all lld", link=["-Wl,--icf=all"], ld="lld")
        for what, more in ("address", []), ("thread", ["-DSUITE_NO_TAILS"]), ("undefined", []):
            yield v("-fsanitize=" + what, link=["-fsanitize=" + what],
                    compile=["-fsanitize=" + what, "-g"] + more)
        yield v("-mcmodel=large", PARTIAL, "calls go through a register",
                compile=["-mcmodel=large"], kind="static")
    yield Variant("gcc -flto -flto-partition=max", code="lto", compile=["-flto-partition=max"],
                  link=["-flto-partition=max"])
    yield Variant("gcc -flto -ffat-lto-objects", code="lto", compile=["-ffat-lto-objects"])
    yield Variant("clang -flto=thin lld", cc="clang", compile=["-flto=thin"],
                  link=["-flto=thin"], ld="lld")


def run(command, cwd=None, env=None, timeout=300):
    return subprocess.run(command, cwd=cwd, env=env, timeout=timeout, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")


def sources_of(v, quick):
    """What is compiled together is no test of LTO."""
    return list(ONE_FILE if quick and not any("lto" in option for option in CODE[v.code] + v.compile) else SUITE)


def commands(v, build, out, quick):
    """The commands that build a variant, in order."""
    src = os.path.join(build, "src")
    base = [v.cc, v.opt, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE",
            "-I" + os.path.join(TOP, "include")] + CODE[v.code] + v.compile
    base += ["-Wno-unused-command-line-argument"] if v.cc == "clang" else []
    link = ["-fuse-ld=" + v.ld] + (["-Wl,--emit-relocs"] if v.relocs else [])
    libs = (["-L" + src, "-lshunt", "-Wl,-rpath," + src]
            if not v.is_static() else [os.path.join(src, "libshunt.a")]) + ["-lpthread"]
    lib_source = os.path.join(API, "plugin_lib.c")
    kind_compile, kind_link = KIND[v.kind]
    sources = sources_of(v, quick)
    if v.is_static():
        sources.append(lib_source)
    else:
        shared = base + ["-fPIC", "-shared"] + link + v.libs_link
        yield shared + [lib_source, "-o", out + "/libplugin_lib.so"] + libs
        yield shared + [os.path.join(API, "plugin_dl.c"), "-o", out + "/plugin_dl.so",
                        "-L" + out, "-lplugin_lib", "-Wl,-rpath," + out] + libs
        libs = ["-L" + out, "-lplugin_lib", "-Wl,-rpath," + out] + libs
    yield base + kind_compile + sources + link + kind_link + v.link + [
        "-o", out + "/suite"] + libs
    if v.strip:
        yield ["strip", "-s", out + "/suite", out + "/plugin_dl.so", out + "/libplugin_lib.so"]


def build_and_run(v, build, out, quick):
    """(good, lines to show) of a variant."""
    for command in commands(v, build, out, quick):
        result = run(command)
        if result.returncode:
            if v.expect == UNBUILDABLE:
                return True, []
            return False, ["cannot be built: " + " ".join(command)] + \
                result.stdout.splitlines()[-20:]
    if v.expect == UNBUILDABLE:
        return False, ["can be built, against expectation"]
    command = [out + "/suite"]
    if v.expect != INLINE:
        command.append("--" + v.expect)
    if not v.is_static():
        command += ["--plugin", out + "/plugin_dl.so"]
    if quick:
        command += ["--updates", "100"]
    env = dict(os.environ, SHUNT_LOG="0", **v.env)
    result = run(command, env=env)
    lines = result.stdout.splitlines()
    bad = [line for line in lines if line.startswith("not ok")]
    good = result.returncode == 0 and not bad and any(l.startswith("1..") for l in lines)
    if good:
        return True, []
    return False, ["exit status %d" % result.returncode] + \
        (bad or lines)[-20:] + ["command: " + " ".join(command)]


def try_variant(v, build, quick):
    out = tempfile.mkdtemp(prefix="shunt-matrix-")
    try:
        return build_and_run(v, build, out, quick)
    except subprocess.TimeoutExpired as e:
        return False, ["timed out: " + " ".join(map(str, e.cmd))]
    finally:
        shutil.rmtree(out, ignore_errors=True)


def can_meet(v):
    """Nothing but options of the compiler or linker, which take nothing away, besides what --quick has anyway."""
    plain = Variant("", cc=v.cc, ld=v.ld)
    return (v.expect == INLINE and v.relocs and not v.strip and not v.env and v.axes == plain.axes and
            v.libs_link == v.link and not {"-masm=intel", "-DSUITE_NO_TAILS"} & set(v.compile) and
            "sanitize" not in v.name)


def joined(some):
    """Three by three, where they are of one compiler and linker, and none of their options is another's opposite."""
    groups = {}
    rest = []
    for v in some:
        if not can_meet(v):
            rest.append(v)
            continue
        of_kind = groups.setdefault((v.cc, v.ld), [])
        opposite = {"-z now": "-z lazy", "-z lazy": "-z now"}.get(" ".join(v.name.split()[1:3]), "none")
        for group in of_kind:
            if len(group) < 3 and not any(opposite in g.name for g in group):
                group.append(v)
                break
        else:
            of_kind.append([v])
    for (cc, ld), of_kind in groups.items():
        for group in of_kind:
            name = " + ".join([group[0].name] + [v.name.split(" ", 1)[1] for v in group[1:]])
            rest.append(Variant(name, cc=cc, ld=ld, compile=sum((v.compile for v in group), []),
                                link=sum((v.link for v in group), [])))
    return rest


# Of the single variants, for --few: what leaves sites on trampolines, and what an asm of the headers may be read by.
FEW = ("gcc no relocations", "clang -masm=intel", "clang -mcmodel=large")


def select(args):
    all_of_them = list(combinations())
    some = list(singles())
    if args.few:
        some = [v for v in some if v.name in FEW]
    elif args.quick:
        nth = {name: i for i, name in enumerate(dict.fromkeys(v.name.split(" ", 1)[1] for v in some))}
        some = [v for v in some if v.cc == AXES["cc"][nth[v.name.split(" ", 1)[1]] % 2]
                or "intel" in v.name]
        some = joined(some)
    chosen = (all_of_them if args.all else cover(all_of_them, 1 if args.few else 2 if args.quick else 3)) + some
    tools = {"gcc": shutil.which("gcc"), "clang": shutil.which("clang"),
             "bfd": shutil.which("ld.bfd"), "lld": shutil.which("ld.lld")}
    present = [v for v in chosen if tools[v.cc] and tools[v.ld]]
    return [v for v in present if args.only in v.name], len(all_of_them)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--plan", action="store_true")
    args = parser.parse_args()
    args.quick |= args.few
    variants, total = select(args)

    print("# %d variants; the axes alone have %d" % (len(variants), total))
    print("1..%d" % len(variants), flush=True)
    if args.plan:
        for v in variants:
            print("# %-12s %s" % (v.expect, v.name))
        return 0
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        results = pool.map(lambda v: try_variant(v, args.build, args.quick), variants)
        for number, (v, (good, lines)) in enumerate(zip(variants, results), 1):
            failed += not good
            print("%sok %d - %s: %s" % ("" if good else "not ", number, v.name, v.expect))
            if v.why:
                print("# why: " + v.why)
            for line in lines:
                print("# " + line)
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
