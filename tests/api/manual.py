#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The examples of the manual compile as they stand, with gcc and clang, without a warning.

usage: manual.py INCLUDE FOLDER

FOLDER has the pages (*.scd). A block of C below a page's EXAMPLES is compiled with the headers of its SYNOPSIS and what
the page takes for granted (GIVEN): its definitions at file scope, its statements in a function. Each page of
section 3 whose EXAMPLES has C is tried. Control: the same block without GIVEN, or where it has none, with a word misspelt,
does not compile (by clang that of one page). A page of section 3 that tells to call shunt_last_error() says which header
has it. Control: the same page without that header.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

INCLUDE, FOLDER = sys.argv[1:3]
HEADERS = "".join(f"#include <{name}.h>\n" for name in (
    "dlfcn", "sched", "stdatomic", "stdbool", "stdint", "stdio", "string", "syslog", "shunt/control", "shunt/ftrace",
    "shunt/inspect", "shunt/static_call", "shunt/static_key", "shunt/text_poke", "shunt/trace", "shunt/version"))
CHECKSUM = "int checksum_plain(int x); int checksum_avx2(int x); "
GIVEN = {  # what a page's examples name and do not define
    "register_ftrace_function.3": "void work(void);",
    "shunt-kernel.7": "void trace(void);",
    "shunt_set_keys.3": CHECKSUM,
    "static_branch_enable.3": "struct listener; void list_add(struct listener *l);",
    "static_call_batch.3": "int encode_v1(int x); int encode_v2(int x); int decode_v2(int x);"
                           "DECLARE_STATIC_CALL(encode, encode_v1); DECLARE_STATIC_CALL(decode, encode_v1); DECLARE_STATIC_KEY_FALSE(is_v2);",
    "static_call_query.3": CHECKSUM + "DECLARE_STATIC_CALL(checksum, checksum_plain);",
    "static_call_update.3": CHECKSUM + "DECLARE_STATIC_CALL(checksum, checksum_plain); int keep_volume(int x);"
                            "DECLARE_STATIC_CALL(filter, keep_volume); struct { atomic_ulong calls; } thread[8], *me;"
                            "extern void *plugin; extern int sample, i, n;",
    "static_key.3": "struct request; void trace(struct request *r); void serve(struct request *r);",
    "text_poke_bp.3": "extern unsigned char *site; int function(void);",
}
ERR = r"\berr\b"
STATEMENT = re.compile(r"(if|for|while|return|int err|int32_t|unsigned char insn|struct static_call_batch \w+ =|err =|sample =|[a-z_]+\()")


def blocks(text):
    """The blocks of C of a page's EXAMPLES."""
    part = re.search(r"^# EXAMPLES\n(.*?)(?=^# )", text, re.DOTALL | re.MULTILINE)
    found = re.findall(r"^```\n(.*?)^```", part.group(1), re.DOTALL | re.MULTILINE) if part else []
    return [block.replace("\\\\", "\\") for block in found if ";" in block and "$ " not in block and "| jq" not in block]


def paragraphs(block):
    """Pieces that are each a definition with its body, or statements."""
    pieces, here, depth = [], [], 0
    for line in block.splitlines():
        if not line and not depth:
            pieces.append(here)
            here = []
            continue
        here.append(line)
        depth += line.count("{") - line.count("}")
    return ["\n".join(piece) for piece in [*pieces, here] if piece]


def program(page, text):
    scope, body = [], []
    for block in text:
        inside = []
        for piece in paragraphs(block):
            (inside if STATEMENT.match(piece) else scope).append(piece)
        body.append("\n".join(inside))
    functions = [f"int example{n}(void);\nint example{n}(void)\n{{\n{given_error(lines)}{lines}\nreturn {'err' if re.search(ERR, lines) else 0};\n}}" for n, lines in enumerate(body) if lines]
    return HEADERS + GIVEN.get(page, "") + "\n" + "\n".join(scope + functions) + "\n"


def given_error(lines):
    return "int err;\n" if re.search(ERR, lines) and "int err" not in lines else ""


def compiles(folder, compiler, source, *how):
    path = pathlib.Path(folder) / "example.c"
    path.write_text(source, encoding="utf-8")
    done = subprocess.run([compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-I", INCLUDE, *how, str(path)],
                          capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stderr


def names_header(text):
    prose = text.split("# SEE ALSO")[0]
    return "shunt_last_error" not in prose or "<shunt/inspect.h>" in prose


def headers():
    pages = {path.name: path.read_text(encoding="utf-8") for path in sorted(pathlib.Path(FOLDER).glob("*.3.scd"))}
    without = [name for name, text in pages.items() if not names_header(text)]
    ok(not without, "a page that tells to call shunt_last_error() says which header has it", without)
    ok(sum(not names_header(text.replace("<shunt/inspect.h>", "")) for text in pages.values()) >= 9, "control: without the header")


def main():
    tried = 0
    headers()
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(pathlib.Path(FOLDER).glob("*.scd")):
            page = path.name[:-len(".scd")]
            text = blocks(path.read_text(encoding="utf-8"))
            if not text:
                continue
            tried += 1
            for compiler in "gcc", "clang":
                source = program(page, text)
                # (gcc warns of some things on its way to code alone, clang of these before it.)
                made, said = compiles(folder, compiler, source, *(["-c", "-o", os.devnull] if compiler == "gcc" else ["-fsyntax-only"]))
                ok(made, f"{compiler}: the examples of {page}", said + source)
                if compiler != "gcc" and tried > 1:
                    continue
                made, said = compiles(folder, compiler, source.replace(GIVEN.get(page, ";"), "", 1), "-fsyntax-only", "-Wfatal-errors")
                ok(not made, f"{compiler}: control: {page}", said)
        ok(tried >= 12, f"{tried} pages have examples of C")
    return finish()


sys.exit(main())
