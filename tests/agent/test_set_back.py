#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
What `shunt list` shows as a key and as its value `shunt set` takes, and then nothing has changed: in its table, its names, its
JSON, and each value of --values. Of keys whose names others have too (elements of arrays, other modules of the same
file name, a static call and a static key), and of values that are no choice; in a stripped program, too. TAP.

    test_set_back.py SHUNT PROGRAM STRIPPED PLUGIN

Controls: the name that several keys have is refused, with what tells them apart; so is a value that the key does not have.
"""

import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from agent_client import tap, target  # noqa: E402

SHUNT, PROGRAM, STRIPPED, PLUGIN = sys.argv[1:]
check = tap.check


def tool(*words):
    return subprocess.run([SHUNT, *map(str, words)], capture_output=True, text=True, timeout=60, check=False)


def keys_of(pid):
    return json.loads(tool("list", pid, "--json").stdout)["keys"]


def table_of(pid):
    return [line.split()[:3] for line in tool("list", pid).stdout.splitlines()[1:]]


def set_all(pid, settings, before, what):
    wrong = []
    for name, value in settings:
        done = tool("set", pid, f"{name}={value}")
        if done.returncode or keys_of(pid) != before:
            wrong.append(f"{name}={value}: {done.stderr}")
    check(settings and not wrong, f"{what}: {len(settings)} keys are set to what they are", "\n".join(wrong))


def set_back(pid, what, modules):
    before = keys_of(pid)
    names = [k["name"] for k in before]
    twice = [n for n, count in collections.Counter(names).items() if count > 1]
    check(len(names) == 14 + 5 * modules and not twice, f"{what}: each key has a name of its own", f"{twice} {names}")
    check(tool("list", pid, "--names").stdout.splitlines() == names and [row[1] for row in table_of(pid)] == names, f"{what}: one in all forms",
          table_of(pid))
    set_all(pid, [(k["name"], k["value"]) for k in before], before, f"{what}, JSON")
    set_all(pid, [row[1:] for row in table_of(pid)], before, f"{what}, the table")
    together = tool("set", pid, *(f"{row[1]}={row[2]}" for row in table_of(pid)))
    check(together.returncode == 0 and keys_of(pid) == before, f"{what}: all at once", together)
    if not modules:
        set_values(pid, what, before)


def set_values(pid, what, before):
    wrong = []
    for key in before:
        values = tool("list", pid, "--values", key["name"]).stdout.splitlines()
        if not values or set(key["choices"]) - set(values):
            wrong.append(f"{key['name']}: {values}")
        for value in values if key["type"] == "call" else ["on", "+1", "-1"]:
            done = tool("set", pid, f"{key['name']}={value}")
            now = next(k for k in keys_of(pid) if k["name"] == key["name"])
            if done.returncode or tool("set", pid, f"{key['name']}={now['value']}").returncode:
                wrong.append(f"{key['name']}={value}: {done.stderr}, {now}")
    check(not wrong, f"{what}: what --values shows is taken, and what list shows of it then", "\n".join(wrong))


def control(pid):
    for name in "flags", "flag", "both", "plugin.so:flag", "plugin.so:flags[1]":
        done = tool("set", pid, f"{name}=on")
        check(done.returncode == 1 and "keys have that name" in done.stderr and "NAME[INDEX]" in done.stderr, f"control: {name} is several", done)
    for setting in "flags[3]=on", "flags[-1]=on", "flags[1]x=on", "single[0]=on", "counted=3", "call:flag=on", "op=0x10", "both=two":
        done, before = tool("set", pid, setting), keys_of(pid)
        check(done.returncode == 1 and keys_of(pid) == before, f"control: {setting} is refused", done)
    globbed = [json.loads(tool("list", pid, "--json", "-F", glob).stdout)["keys"] for glob in ("flags", "*flags?1?")]
    check([len(found) for found in globbed] == [9, 3], "-F: by the name, and by that with its index", globbed)


def moves(pid):
    """Each of them is the one that it says, and no other."""
    for key in [k for k in keys_of(pid) if k["type"] == "branch" and k["value"] == 0]:
        before = {k["name"]: k["value"] for k in keys_of(pid)}
        tool("set", pid, f"{key['name']}=on")
        after = {k["name"]: k["value"] for k in keys_of(pid)}
        tool("set", pid, f"{key['name']}=off")
        check([n for n in after if after[n] != before[n]] == [key["name"]], f"{key['name']}=on sets it alone", f"{before} {after}")


with tempfile.TemporaryDirectory() as folder:
    plugins = [f"{folder}/{name}" for name in ("a/plugin.so", "b=1:on=2/plugin.so")]
    for plugin in plugins:
        os.mkdir(os.path.dirname(plugin))
        shutil.copy(PLUGIN, plugin)
    with target(PROGRAM) as (_, number):
        values = {k["name"]: k["value"] for k in keys_of(number)}
        check(values["clash"] == "initial" and values["call:both"] == "one",
              "the name of a function is shown, but not where a choice has it that is another one", values)
        set_back(number, "a program", 0)
    with target(PROGRAM, *plugins) as (_, number):
        control(number)
        moves(number)
        set_back(number, "with two plugins of one name", 2)
    with target(STRIPPED) as (_, number):
        values = {k["name"]: k["value"] for k in keys_of(number)}
        check(values["call:both"] == "initial" and values["moved"].startswith("0x"),
              "stripped: a function without a name is \"initial\", or an address", values)
        set_back(number, "stripped", 0)
sys.exit(tap.end())
