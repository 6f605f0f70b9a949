#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What an idle agent costs: memory, part by part, and time. TAP.

usage: test_cost.py TOOL TARGET SOURCES KEEPS_TEXT

TARGET is attached to, and has nothing of Shunt before. SOURCES: the folder src of the build. KEEPS_TEXT: an agent
that leaves text mapped while it sleeps: the control.
"""
import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from agent_client import run, tap, waits_for

TOOL, TARGET, SOURCES, KEEPS_TEXT = map(os.path.abspath, sys.argv[1:5])
BOUND = 200  # KiB, of all parts but libc's text, which every process has mapped
check = tap.check


def resident(pid):
    """KiB of each mapping, by its place and file."""
    found, key = collections.Counter(), None
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split(None, 5)
        if re.match(r"[0-9a-f]+-", line):
            key = words[0].split("-")[0], words[1], words[5] if len(words) == 6 else "anonymous"
        elif line.startswith("Rss:"):
            found[key] += int(words[1])
    return found


def part(key):
    name = os.path.basename(key[2])
    if name.startswith(("libshunt", "shunt-agent")):
        return f"{name} {'data' if 'w' in key[1] else 'text and constants'}"
    return {"[heap]": "malloc()", "anonymous": "data without a file, stacks"}.get(key[2], "other files")


def parts(before, after):
    """What has come, by name; of memory that was there, what has grown."""
    grown = collections.Counter()
    for key, size in (after - before).items():
        if "libc.so" not in key[2] and "ld-linux" not in key[2]:
            grown[part(key)] += size
    return grown


def threads(pid):
    return {t: pathlib.Path(f"/proc/{pid}/task/{t}/comm").read_text().strip() for t in os.listdir(f"/proc/{pid}/task")}


def sleeps(pid):
    """Whether its agent does, and has been at nothing else since."""
    tid = next((t for t, name in threads(pid).items() if name == "shunt-agent"), None)
    return tid and pathlib.Path(f"/proc/{pid}/task/{tid}/syscall").read_text().split()[0] == "7"


def idle(tool, ask):
    """The parts, with an agent that has answered @ask."""
    process = subprocess.Popen([TARGET], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        pid = process.pid
        waits_for(lambda: "pipe" in os.readlink(f"/proc/{pid}/fd/0") and
                  pathlib.Path(f"/proc/{pid}/syscall").read_text().split()[0] == "0")
        before = resident(pid)
        done = [run(tool, "attach", "--timeout", 30, pid)] + [run(tool, *words, pid) for words in ask]
        assert all(d.returncode == 0 for d in done), done
        waits_for(lambda: sleeps(pid))
        # It may have been on its way: until nothing has changed for a while.
        seen = []
        while len(seen) < 3 or seen[-3:] != seen[-1:] * 3:
            time.sleep(0.1)
            seen.append(parts(before, resident(pid)))
        return seen[-1]
    finally:
        process.kill()
        process.wait()


def say(grown):
    return ", ".join(f"{name} {size}" for name, size in sorted(grown.items()))


with tempfile.TemporaryDirectory() as folder:
    total = idle(TOOL, [])
    print(f"# an idle agent, KiB: {say(total)}")
    check(sum(total.values()) < BOUND, f"an idle agent takes {sum(total.values())} KiB, below {BOUND}", say(total))
    asked = idle(TOOL, [["stats"], ["list"]])
    check(sum(asked.values()) < BOUND + 56, f"and {sum(asked.values())} when it has answered for keys and counters: no "
          "arena of malloc()", say(asked))
    for sub in "tools", "src/agent":
        pathlib.Path(folder, sub).mkdir(parents=True)
    shutil.copy(TOOL, folder + "/tools/shunt")
    os.symlink(SOURCES + "/libshunt.so.0", folder + "/src/libshunt.so.0")
    os.symlink(SOURCES + "/trace", folder + "/src/trace")
    shutil.copy(KEEPS_TEXT, folder + "/src/agent/libshunt-agent.so.0")
    kept = idle(folder + "/tools/shunt", [])
    check(sum(kept.values()) > BOUND, f"control: {sum(kept.values())} with the text that its start has used", say(kept))
sys.exit(tap.end())
