#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
How a program is started, and what has been done to its file: an update works, or is
refused with a message and has changed nothing.

    test_startup.py PROGRAM SHUNT PLUGIN PRELOAD LIBRARY-PATH
"""

import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok, skip

PROGRAM, SHUNT, PLUGIN, PRELOAD, LIBRARIES = (os.path.abspath(a) for a in sys.argv[1:6])
WORK = tempfile.mkdtemp()
DEVNULL = subprocess.DEVNULL
ENV = dict(os.environ, LD_LIBRARY_PATH=LIBRARIES)
ENV.pop("SHUNT_LOG", None)


def run(*args, env=None, **more):
    p = subprocess.run(args, stdin=DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       cwd=WORK, env=dict(ENV, **(env or {})), text=True, timeout=60, check=False, **more)
    return p.returncode, p.stdout


def inline(text):
    m = re.search(r"key started_call: (\d+) sites, (\d+) inline", text)
    return int(m.group(2)) if m else -1


def works(name, *args, **more):
    """All updates work, all sites are inline, and functions have the program's names."""
    code, text = run(*args, **more)
    ok(code == 0 and "update 0, enable 0, disable 0" in text and inline(text) == 2
           and re.search("site of started_call in call\n", text), name, text)


def is_true(name, expected, *args, **more):
    """Each update does what it returns; @expected is said."""
    code, text = run(*args, **more)
    ok(code == 0 and re.search(expected, text), name, text)


def fresh(name="prog", baked=False):
    path = os.path.join(WORK, name)
    if os.path.exists(path):
        os.unlink(path)
    shutil.copy(PROGRAM, path)
    if baked:
        subprocess.run([SHUNT, "bake", path], stdout=DEVNULL, stderr=DEVNULL, check=True)
    return path


def interpreter():
    file = pathlib.Path(PROGRAM).read_bytes()
    headers, = struct.unpack_from("<Q", file, 32)
    size, count = struct.unpack_from("<HH", file, 54)
    for at in range(headers, headers + size * count, size):
        kind, = struct.unpack_from("<I", file, at)
        offset, = struct.unpack_from("<Q", file, at + 8)
        length, = struct.unpack_from("<Q", file, at + 32)
        if kind == 3:  # PT_INTERP
            return file[offset:offset + length].rstrip(b"\0").decode()
    return None


def started(ld):
    other = os.path.join(WORK, "other")
    shutil.copy(PLUGIN, other)
    for baked in False, True:
        kind = "baked, " if baked else ""
        path = fresh(baked=baked)
        works(kind + "by its path", path)
        works(kind + "relative", "./prog")
        works(kind + "ld.so ./prog", ld, "./prog")
        works(kind + "ld.so /absolute/prog", ld, path)
        works(kind + "ld.so --argv0", ld, "--argv0", "another", "./prog")
        with open(os.path.join(WORK, "script"), "w", encoding="utf-8") as f:
            f.write("#!%s\n" % path)
        os.chmod(os.path.join(WORK, "script"), 0o755)
        works(kind + "by a script", os.path.join(WORK, "script"))
        fd = os.open(path, os.O_RDONLY)
        works(kind + "by its descriptor", "/proc/self/fd/%d" % fd, pass_fds=[fd])
        works(kind + "ld.so, by its descriptor", ld, "/proc/self/fd/%d" % fd, pass_fds=[fd])
        os.unlink(path)
        works(kind + "deleted", "/proc/self/fd/%d" % fd, pass_fds=[fd])
        shutil.copy(PLUGIN, path)
        works(kind + "replaced", "/proc/self/fd/%d" % fd, pass_fds=[fd])
        os.close(fd)
        # AddressSanitizer asks to be the first that is loaded, which is PRELOAD's place.
        asan = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        meddled = {"LD_PRELOAD": PRELOAD, "UNLINK": path, "ASAN_OPTIONS": asan}
        fresh(baked=baked)
        works(kind + "deleted while it starts", path, env=meddled)
        fresh(baked=baked)
        refused = "update %s, enable 0, disable 0" % ("-95" if baked else "0")
        is_true(kind + "ld.so, deleted while it starts",
                "prog: the file cannot be read(.*\n)*" + refused, ld, path, env=meddled)
        fresh(baked=baked)
        is_true(kind + "ld.so, replaced while it starts",
                "prog: the file has been replaced(.*\n)*" + refused, ld, path,
                env=dict(meddled, BY=other))


def unwritable():
    """No text can be written: what is not baked follows by its trampoline, and what is baked does not follow."""
    code, text = run(fresh(), "unwritable")
    if "no filter" in text:
        skip("text that cannot be written", "no seccomp filter")
        return
    ok(code == 0 and text.count("\nupdate 0, enable -13, disable -13: call 6, tail 3, off 1, on 101") == 2
       and inline(text) == 0, "text that cannot be written: by the trampoline", text)
    code, text = run(fresh(baked=True), "unwritable")
    ok(code == 0 and len(re.findall("key started_call, site .*: Permission denied\n", text)) == 2
       and text.count("\nupdate -13, enable -13, disable -13: call 4, tail 2, off 1, on 101") == 2,
       "baked: an update fails with -EACCES and a message, and all calls are what they were", text)


def damaged(path):
    """The first site of the table at @path is of no kind: so none of them is taken."""
    table = path + ".table"
    subprocess.run(["objcopy", "--dump-section", ".shunt.sites=" + table, path, path + ".same"], check=True)
    data = bytearray(pathlib.Path(table).read_bytes())
    mods, = struct.unpack_from("<I", data, 8)
    data[32 + 32 * mods + 4] |= 0xf
    pathlib.Path(table).write_bytes(data)
    subprocess.run(["objcopy", "--update-section", ".shunt.sites=" + table, path], check=True)


def lost():
    """The table of a baked file is not there, or of no use: that is said, updates fail for good, and calls go on."""
    words = "prog: it was baked, and has no site table .*; those of its static calls that were baked hold direct calls, "
    for name, command in (("llvm-strip", "llvm-strip"), ("eu-strip", "eu-strip"), ("strip -R", "strip -R .shunt.sites"),
                          ("objcopy -R", "objcopy -R .shunt.sites"), ("a damaged site", None)):
        path = fresh(baked=True)
        if not shutil.which(command.split()[0] if command else "objcopy"):
            skip("baked, " + name, "not installed")
            continue
        if command is None:
            damaged(path)
            words = "prog: its site table does not fit the module; the key"
        else:
            subprocess.run([*command.split(), path], check=True)
        code, text = run(path)
        ok(code == 0 and re.search(words, text) and "trampolines" not in text and "(yet)" not in text and text.count(
            "\nupdate -95, enable 0, disable 0: call 4, tail 2,") == 2 and re.search(
                "key started_call: module .*prog: its? .*site table .*; the key's calls were baked, and cannot be changed", text),
           "baked, its table lost by " + name, text)
    path = fresh(baked=True)
    if not shutil.which("strip"):
        skip("control: stripped, with its table", "not installed")
        return
    subprocess.run(["strip", path], check=True)
    code, text = run(path)
    ok(code == 0 and text.count("update 0, enable 0, disable 0: call 6, tail 3") == 2, "control: stripped, with its table", text)


def elsewhere():
    """A plugin by a relative name, loaded from another directory than the program's first."""
    path = fresh()
    os.makedirs(os.path.join(WORK, "sub/deep"), exist_ok=True)
    shutil.copy(PLUGIN, os.path.join(WORK, "sub/plugin.so"))
    code, text = run(path, "chdir", "sub", "./plugin.so")
    ok(code == 0 and "module %s/sub/plugin.so, why -" % os.path.realpath(WORK) in text,
           "a plugin by a relative name behind chdir()", text)
    code, text = run(path, "chdir", "sub/deep", "../plugin.so")
    ok(code == 0 and re.search("sub/deep/../plugin.so, why -", text),
           "another by a name with ..", text)


def bolted():
    bolt = next((b for b in ["llvm-bolt"] + ["llvm-bolt-%d" % v for v in range(14, 22)]
                 if shutil.which(b)), None)
    if not bolt:
        skip("rearranged by llvm-bolt", "no llvm-bolt")
        return
    for baked in False, True:
        kind = "baked, " if baked else ""
        path = fresh(baked=baked)
        out = os.path.join(WORK, "bolted")
        p = subprocess.run([bolt, path, "-o", out, "-lite=0"], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, check=False)
        if p.returncode:
            skip(kind + "rearranged by llvm-bolt", "llvm-bolt fails")
            continue
        is_true(kind + "rearranged by llvm-bolt", "llvm-bolt has moved", out)
        if baked:
            continue
        hidden = os.path.join(WORK, "hidden")
        subprocess.run(["objcopy", "--rename-section", ".note.bolt_info=.note.other",
                        "--rename-section", ".bolt.org.text=.other.text", out, hidden],
                       stdout=DEVNULL, stderr=DEVNULL, check=True)
        code, text = run(hidden)
        if "moved" in text or "good" in text:
            skip("control: bolt's sections by other names", "objcopy does not take them")
        else:
            ok(code != 0, "control: bolt's sections by other names: updates go wrong", text)


try:
    LD = interpreter()
    if LD:
        started(LD)
    else:
        skip("started by the dynamic linker", "a static program")
    elsewhere()
    unwritable()
    lost()
    bolted()
finally:
    shutil.rmtree(WORK)
sys.exit(finish())
