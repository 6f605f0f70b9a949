#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What an idle agent costs: memory, part by part; and that it forgets nothing for that. TAP.

usage: test_cost.py TOOL TARGET SOURCES KEEPS_TEXT FORGETS_TEXT

TARGET is attached to, and has nothing of Shunt before. SOURCES: the folder src of the build. Controls: KEEPS_TEXT, an
agent that leaves text mapped while it sleeps, and FORGETS_TEXT, one that lets what others have written there go, too.
"""
import collections
import contextlib
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

from agent_client import connect, run, socket_path, system_call, tap, wait_until

TOOL, TARGET, SOURCES, KEEPS_TEXT, FORGETS_TEXT = map(os.path.abspath, sys.argv[1:6])
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
    return tid and system_call(f"{pid}/task/{tid}")[0] == "poll"


@contextlib.contextmanager
def attached(tool):
    """A process with an agent, and what it had mapped before that."""
    # What Meson has libc do writes to all that is freed.
    env = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    process = subprocess.Popen([TARGET], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env)
    try:
        pid = process.pid
        wait_until(lambda: "pipe" in os.readlink(f"/proc/{pid}/fd/0") and
                  system_call(pid)[0] == "read")
        before = resident(pid)
        ask(tool, pid, ["attach", "--timeout", 30])
        yield pid, before
    finally:
        process.kill()
        process.wait()


def ask(tool, pid, words):
    done = run(tool, *words, pid)
    assert done.returncode == 0, done


def rests(pid, look):
    """What @look sees when the agent sleeps, and nothing has changed for a while: it may have been on its way."""
    wait_until(lambda: sleeps(pid))
    seen = []
    while len(seen) < 3 or seen[-3:] != seen[-1:] * 3:
        time.sleep(0.1)
        seen.append(look())
    return seen[-1]


def idle(tool, asked):
    """The parts, with an agent that has answered @asked."""
    with attached(tool) as (pid, before):
        for words in asked:
            ask(tool, pid, words)
        # The tool had the files mapped as well, perhaps still when the agent fell asleep. This client has not.
        connect(socket_path(pid)).close()
        return rests(pid, lambda: parts(before, resident(pid)))


def least(tool, asked, bound):
    """The same, at most three times, until it is below @bound: the kernel leaves a page that it has just begun to handle."""
    for _ in range(3):
        grown = idle(tool, asked)
        if sum(grown.values()) < bound:
            break
    return grown


def pages(pid, start, end):
    """Of each page whether somebody has written to it: present or swapped, and not the file's."""
    with open(f"/proc/{pid}/pagemap", "rb", 0) as pagemap:
        pagemap.seek(start // 4096 * 8)
        words = struct.unpack(f"{(end - start) // 4096}Q", pagemap.read((end - start) // 4096 * 8))
    return [bool(word >> 62 & 3) and not word >> 61 & 1 for word in words]


def forgotten(tool):
    """Of the pages of the agent's text, each written to as a debugger does: how many are not as it left them."""
    with attached(tool) as (pid, _), open(f"/proc/{pid}/mem", "r+b", 0) as memory:
        rests(pid, lambda: None)
        line = next(line for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
                    if "libshunt-agent" in line and "r-xp" in line)
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        for page in range(start, end, 4096):
            memory.seek(page)
            byte = memory.read(1)
            memory.seek(page)
            memory.write(byte)
        assert all(pages(pid, start, end)), "what is written is a page of its own"
        ask(tool, pid, ["stats"])
        return rests(pid, lambda: pages(pid, start, end).count(False)), (end - start) // 4096


def copy(folder, agent):
    """The tool and its libraries; pages that another process has mapped as well would stay."""
    for sub in "tools", "src/agent", "src/trace":
        pathlib.Path(folder, sub).mkdir(parents=True)
    for name in "libshunt.so.0", "trace/libshunt-trace.so.0":
        shutil.copy(f"{SOURCES}/{name}", f"{folder}/src/{name}")
    shutil.copy(agent, folder + "/src/agent/libshunt-agent.so.0")
    for file in pathlib.Path(folder, "src").rglob("*.so.0"):  # what is still to be written to the disk would stay, too
        with open(file, "rb") as copied:
            os.fsync(copied.fileno())
    return shutil.copy(TOOL, folder + "/tools/shunt")


def say(grown):
    return ", ".join(f"{name} {size}" for name, size in sorted(grown.items()))


with tempfile.TemporaryDirectory() as top:
    own = copy(top + "/own", SOURCES + "/agent/libshunt-agent.so.0")
    total = least(own, [], BOUND)
    print(f"# an idle agent, KiB: {say(total)}")
    check(sum(total.values()) < BOUND, f"an idle agent takes {sum(total.values())} KiB, below {BOUND}", say(total))
    total = least(own, [["stats"], ["list"]], BOUND + 56)
    check(sum(total.values()) < BOUND + 56, f"and {sum(total.values())} when it has answered for keys and counters: no "
          "arena of malloc()", say(total))
    total = least(copy(top + "/keeps", KEEPS_TEXT), [], BOUND)
    check(sum(total.values()) > BOUND, f"control: {sum(total.values())} with the text that its start has used", say(total))
    lost, all_pages = forgotten(own)
    check(not lost and all_pages, f"of {all_pages} pages of its text that somebody has written to none is forgotten", lost)
    lost, all_pages = forgotten(copy(top + "/forgets", FORGETS_TEXT))
    check(lost, f"control: with MADV_DONTNEED {lost} of {all_pages} are")
sys.exit(tap.end())
