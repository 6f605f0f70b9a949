#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The manual as HTML (script/html-manual): each link leads to a page and to a place that are there, and each mention of
a page of ours is a link. TAP; skipped without scdoc or mandoc. Controls: a page that is taken away, and a mention of one
that there is not, are seen."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

ROOT = pathlib.Path(__file__).resolve().parents[2]
OURS = re.compile(r"<b>((?:shunt|static_|text_poke|ftrace_|register_|unregister_|DEFINE_|DECLARE_|EXPORT_STATIC)[\w-]*)</b>\((\d)\)")


def dead(pages):
    """Links that lead nowhere: {name: text} -> lines"""
    found = []
    for name, text in pages.items():
        for target in re.findall(r'href="([^"]+)"', text):
            page, _, place = target.partition("#")
            if re.match(r"https?:", target):
                continue
            there = pages.get(page or name)
            if there is None or (place and f'id="{place}"' not in there):
                found.append(f"{name}: {target}")
    return found


def unlinked(pages):
    return [f"{name}: {m.group(1)}({m.group(2)})" for name, text in pages.items() for m in OURS.finditer(text)]


def main():
    for tool in "scdoc", "mandoc":
        if not shutil.which(tool):
            print(f"1..0 # SKIP no {tool}")
            return 0
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([ROOT / "script/html-manual", folder], capture_output=True, text=True, check=False)
        ok(done.returncode == 0, "script/html-manual", done.stdout + done.stderr)
        pages = {path.name: path.read_text(encoding="utf-8") for path in pathlib.Path(folder).glob("*.html")}
    sources = {path.name[:-len(".scd")] + ".html" for path in (ROOT / "doc/man").glob("*.scd")}
    ok(sources | {"index.html"} == set(pages), "a page for each, and an index", str(sources ^ set(pages)))
    ok(not sources - set(re.findall(r'href="([^"]+)"', pages["index.html"])), "the index leads to each")
    ok(not dead(pages), "each link leads somewhere", "\n".join(dead(pages)))
    ok(not unlinked(pages), "each mention of a page is a link", "\n".join(unlinked(pages)))
    fewer = {name: text for name, text in pages.items() if name != "static_call.3.html"}
    ok("index.html: static_call.3.html" in dead(fewer), "control: a page is missing")
    ok(unlinked({"a": "<b>shunt_nothing</b>(3)"}), "control: a page that there is not")
    return finish()


sys.exit(main())
