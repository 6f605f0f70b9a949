#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The commands of README.md, one by one, in fresh minimal systems: they work when they are pasted. TAP.

    tests/package/readme.py [SUITE...]      bookworm and trixie (Debian 12 and 13), unless said otherwise

Needs root, debootstrap and a mirror of Debian's (DEBIAN_MIRROR, or that of /etc/apt); skipped without. What is run is read from
README.md: the indented lines of "Build and install", the example and the line that compiles it. Control: with
a command of the README's misspelt, the system says so.
"""
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
PACKAGES = "gcc,libc6-dev,meson,ninja-build,pkg-config"  # what "Build and install" asks for


def skip(why):
    print(f"1..0 # SKIP {why}")
    sys.exit(0)


def mirror():
    if "DEBIAN_MIRROR" in os.environ:
        return os.environ["DEBIAN_MIRROR"]
    for path in [pathlib.Path("/etc/apt/sources.list"), *pathlib.Path("/etc/apt/sources.list.d").glob("*")]:
        found = path.is_file() and re.search(r"https?://\S+/debian/?(?=\s|$)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found.group()
    return "http://deb.debian.org/debian"


def section(text, title):
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def commands(text):
    """README.md -> (the example, the commands in the order of one who reads it)"""
    example = re.search(r"```c\n(.*?)```", text, re.DOTALL).group(1)
    compile_it = next(line.strip() for line in section(text, "An example").splitlines() if line.startswith("    cc "))
    uninstalled = re.search(r"`(export PKG_CONFIG_PATH=\"?\$PWD[^`]*)`", text).group(1)
    lines = [line.strip() for line in section(text, "Build and install").splitlines() if line.startswith("    ")]
    return example, [*lines[:3], uninstalled, compile_it, *lines[3:]]


def make_system(suite, folder):
    return subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, folder, mirror()],
                          capture_output=True, text=True, check=False)


def copy_source(folder):
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, files):
        to = folder / "shunt" / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, to)


def run_in(folder, script):
    inside = f"mount -t proc proc {folder}/proc && exec chroot {folder} env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root sh -ec \"$0\""
    return subprocess.run(["unshare", "-m", "sh", "-c", inside, "cd /shunt\n" + script], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)


def try_suite(suite, text):
    example, lines = commands(text)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        made = make_system(suite, name)
        if made.returncode:
            ok(True, f"{suite} # SKIP no such system from {mirror()}")
            return
        copy_source(folder)
        (folder / "shunt" / "example.c").write_text(example, encoding="utf-8")
        done = ""
        for line in lines:  # each in the state that those before it have left
            said = run_in(folder, done + line)
            good = said.returncode == 0 and ("a.out" not in line or said.stdout.endswith("13\n42\n"))
            ok(good, f"{suite}: {line}", said.stdout)
            done += (line + "\n") if line.startswith("export") else ""
        hidden = "rm /etc/ld.so.cache && ./a.out"  # as it is without ldconfig, of the program that the third line makes
        said = run_in(folder, f"{lines[2]} && {hidden}").stdout
        ok("libshunt.so.0: cannot open shared object file" in said, f"{suite}: control: not known to the dynamic linker", said)
        ok(run_in(folder, lines[0].replace("meson", "messon")).returncode != 0, f"{suite}: control: a command that there is not")


def main():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    if os.geteuid() != 0:
        skip("not root")
    for tool in "debootstrap", "unshare", "git":
        if not shutil.which(tool):
            skip(f"no {tool}")
    for suite in sys.argv[1:] or ["bookworm", "trixie"]:
        try_suite(suite, text)
    return finish()


sys.exit(main())
