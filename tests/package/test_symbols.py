#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
What the headers mark SHUNT_API is what libshunt exports, and what has a manual page.

    test_symbols.py SOURCE-FOLDER LIBSHUNT.SO LIBSHUNT-SIGNALS.SO LIBSHUNT-TRACE.SO LIBSHUNT-AGENT.SO

TAP. A macro for users needs a page as well: one whose name begins with neither an
underscore nor a prefix of the headers' own business.
"""

import pathlib
import re
import subprocess
import sys

# Macros that are not for users, though their names are in their scope.
INTERNAL = {
    "SHUNT_API", "STATIC_CALL_KEY", "STATIC_CALL_TRAMP", "STATIC_CALL_NULLABLE",
    "STATIC_CALL_BAKED", "STATIC_CALL_GONE", "STATIC_CALL_KNOWN", "STATIC_CALL_NO_RET0",
    "STATIC_CALL_STALE", "STATIC_JUMP_MAGIC", "STATIC_JUMP_MAGIC_TEST",
}


def strip_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def functions(text):
    """Names that are declared SHUNT_API: the last word before the first parenthesis."""
    text = re.sub(r"^#.*(\\\n.*)*", "", text, flags=re.M)
    return set(re.findall(r"\bSHUNT_API\b[^;(]*?(\w+)\s*\(", text))


def macros(text):
    names = set(re.findall(r"^#define\s+([A-Za-z]\w*)", text, flags=re.M))
    return {n for n in names if n not in INTERNAL and not n.endswith("_H")}


def exported(library):
    """Defined dynamic symbols with their versions, but neither a version's own name nor those of
    SHUNT_PRIVATE, which are between libshunt and libshunt-trace, of SHUNT_TRACE_PRIVATE, which are
    between that and libshunt-agent, and of SHUNT_AGENT_PRIVATE, which is what `shunt attach` calls."""
    out = subprocess.run(["nm", "-D", "--defined-only", library], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    return {line.split()[-1] for line in out.splitlines() if line.split()[-2] != "A"
            and not line.endswith(("@SHUNT_PRIVATE", "@SHUNT_TRACE_PRIVATE", "@SHUNT_AGENT_PRIVATE"))}


def page_names(page):
    line = page.read_text().split("# NAME", 1)[1].split(" - ", 1)[0].strip()
    return [name.replace("\\", "") for name in line.split(", ")]


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def ok(self, what, wrong):
        self.count += 1
        self.failed += bool(wrong)
        print(f"{'not ok' if wrong else 'ok'} {self.count} - {what}")
        for line in sorted(wrong):
            print(f"#   {line}")


def interposed(source):
    """The names in the table of shunt-signals(7)."""
    table = (source / "doc/man/shunt-signals.7.scd").read_text().split("[[", 1)[1]
    rows = [line for line in table.split("\n\n", 1)[0].splitlines() if line.startswith("|")]
    return set(re.findall(r"\*([\w\\]+)\*", "\n".join(rows).replace("\\", "")))


def main(source, library, signals, trace, agent):
    source, tap = pathlib.Path(source), Tap()
    headers = [p for p in (source / "include/shunt").glob("*.h") if p.name != "port.h"]
    text = "\n".join(strip_comments(p.read_text()) for p in headers)
    recorder = functions(strip_comments((source / "include/shunt/trace.h").read_text()))
    # Of <shunt/control.h> the keys are libshunt's.
    control = {name for name in functions(strip_comments((source / "include/shunt/control.h")
                                                         .read_text()))
               if name.startswith("shunt_agent_")}
    api, symbols = functions(text) - recorder - control, exported(library)
    # What libshunt-trace calls of libshunt has a version of its own.
    symbols = {s for s in symbols if not s.endswith("@@SHUNT_PRIVATE")}
    bare = {s.split("@")[0] for s in symbols}
    pages = {}
    for page in (source / "doc/man").glob("*.scd"):
        for name in page_names(page):
            pages.setdefault(name, []).append(page.name)

    tap.ok(f"libshunt exports what the headers declare, {len(api)} names (src/libshunt.map)",
           api - bare)
    tap.ok("and nothing else", bare - api)
    tap.ok("with a version", {s for s in symbols if "@@SHUNT_" not in s})
    # What stands before the C library's has no version, so that it matches any.
    before = {name for file in ("changes", "execs", "exits", "hidden_actions", "names") for name in re.findall(
        r"^(?:EXPORT \w+ \*?|BEHIND_OPENING\([^,\n]*, [^,\n]*,\s|BY_EACH_THREAD\(|OF_DESCRIPTORS\([^,\n]*, )(\w+)[(,]",
        (source / f"src/trace/{file}.c").read_text(), flags=re.M)}
    tap.ok("libshunt-trace exports what <shunt/trace.h> declares, and what its files mark so",
           ({f"{name}@@SHUNT_TRACE_0" for name in recorder} | before) ^ exported(trace))
    tap.ok("libshunt-agent exports the agent's functions of <shunt/control.h>, and nothing else",
           {f"{name}@@SHUNT_AGENT_0" for name in control} ^ exported(agent))
    documented = {n for n in api | recorder | control if not n.startswith("_")} | macros(text)
    tap.ok(f"each has a manual page, {len(documented)} names", documented - set(pages))
    sections = {n: {p.split(".")[-2] for p in where} for n, where in pages.items()}
    tap.ok("and one page only", {n for n, where in pages.items()
                                 if len(where) != len(sections[n])})
    listed = (source / "doc/man/meson.build").read_text()
    tap.ok("and every page is built", {p.name for p in (source / "doc/man").glob("*.scd")
                                       if f"'{p.stem}'" not in listed})
    referred = {}
    for page in (source / "doc/man").glob("*.scd"):
        for name, section in re.findall(r"\*([\w-]+)\*\((\d)\)", page.read_text()):
            if name.startswith(("shunt", "static_", "text_poke", "DEFINE_", "EXPORT_")):
                referred.setdefault((name, section), page.name)
    tap.ok("and every page that one refers to exists",
           {f"{n}({s}), in {page}" for (n, s), page in referred.items()
            if s not in sections.get(n, set())})
    names = interposed(source)
    tap.ok(f"libshunt-signals exports what its page lists, {len(names)} names",
           names ^ exported(signals))
    print(f"1..{tap.count}")
    return 1 if tap.failed else 0


sys.exit(main(*sys.argv[1:]))
