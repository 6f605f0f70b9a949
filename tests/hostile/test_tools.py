#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
The rows of the table of hostile processes in which another program looks on: gdb with
breakpoints beside the sites, gdb that attaches and detaches in mid-update, strace, perf,
valgrind. Nothing is set by the user. Controls: the same by int3, where it is to fail; and
for valgrind a program that changes its text unseen. TAP, and the lines that table.py reads.

    test_tools.py TARGET VALGRIND-CONTROL
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

TARGET, UNSEEN = map(os.path.realpath, sys.argv[1:])
WAYS = ("int3", "remap", "auto")


class Tap:
    count = failed = 0

    def ok(self, good, what, output=""):
        self.count += 1
        self.failed += not good
        print(f"{'ok' if good else 'not ok'} {self.count} - {what}", flush=True)
        if not good:
            print("".join(f"# {line}\n" for line in output.splitlines()[-30:]), flush=True)

    def skip(self, what, why):
        self.count += 1
        print(f"ok {self.count} - {what} # SKIP {why}", flush=True)


tap = Tap()


def environment(way):
    env = dict(os.environ, SHUNT_POKE=way, SHUNT_LOG="0", LC_ALL="C")
    env.pop("DEBUGINFOD_URLS", None)
    return env


def run(command, way, timeout=60):
    """What it prints, and its status; None: it hangs, and is killed."""
    child = subprocess.Popen(command, env=environment(way), text=True, errors="replace",
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, start_new_session=True)
    try:
        return child.communicate(timeout=timeout)[0], child.returncode
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, 9)
        return child.communicate()[0] + "\nhangs", None


def counts(out):
    """The target's last line as a dictionary; empty where it did not come to that."""
    found = re.search(r"^updates .*", out, flags=re.M)
    words = found.group(0).split() if found else []
    return dict(zip(words[::2], words[1::2]))


def holds(out, updates):
    c = counts(out)
    return c.get("updates") == str(updates) and c["wrong"] == "0" and c["failed"] == "0"


def row(name, way, provoked, good, control, words):
    print(f"# row|{name}|{way}|{provoked}|{0 if good else 1}|{control}|{words}", flush=True)


def title(name, what, unit):
    print(f"# title|{name}|{what}|{unit}", flush=True)


def how(out):
    """In words, what has become of the target."""
    c = counts(out)
    if c:
        return (f"{c['wrong']} wrong, {c['failed']} failed, {c['traps']} traps, "
                f"by {c['poke']}")
    found = re.search(r"SIG(TRAP|SEGV|ILL|BUS)", out)
    return f"killed or stopped by {found.group(0)}" if found else "no counts"


# ------------------------------------------------------------------------------- gdb

def gdb(commands, way, *arguments, timeout=90):
    words = ["gdb", "-nx", "-batch", "-iex", "set width 0", "-iex", "set confirm off"]
    for command in commands:
        words += ["-ex", command]
    return run([*words, *arguments], way, timeout)[0]


def neighbours():
    """Instructions beside the sites: one before and one behind each, as offsets."""
    found = []
    for function in ("call_site", "test_site"):
        text = gdb([f"disassemble {function}"], "auto", TARGET)
        offsets = re.findall(r"^ +0x\w+ <\+(\d+)>:\t(\S+)", text, flags=re.M)
        site = next((i for i, (_, name) in enumerate(offsets)
                     if name.startswith(("call", "nop", "jmp"))), None)
        if site is None:
            continue
        found += [(function, offsets[i][0]) for i in (site - 1, site + 1)
                  if 0 <= i < len(offsets)]
    return found


def gdb_breakpoints():
    """Breakpoints on the neighbours of the sites, each hit many times during updates."""
    updates, hits = 5000, 40
    places = neighbours()
    title("gdb-breakpoints", "runs under gdb, breakpoints on the sites' neighbours",
          "stops in mid-run")
    control = ""
    for way in WAYS:
        commands = ["set pagination off", "break between_updates", "run"]
        commands += [f"break *((char *){function}+{offset})" for function, offset in places]
        commands += ["info breakpoints"] + ["continue"] * hits + ["delete", "continue"]
        out = gdb(commands, way, "--args", TARGET, str(updates), "2")
        stops = len(re.findall(r"hit Breakpoint", out))
        good = holds(out, updates)
        if way == "int3":
            control = "by int3: " + how(out)
            tap.ok(not good, f"gdb-breakpoints: control, {control}", out)
            row("gdb-breakpoints", way, stops, good, "-", "fails (" + how(out) + ")")
            continue
        tap.ok(good and stops > hits // 2 and counts(out).get("traps") == "0",
               f"gdb-breakpoints, {way}: {stops} stops, {how(out)}", out)
        row("gdb-breakpoints", way, stops, good, control, "holds" if good else how(out))


def gdb_on_a_site():
    """A breakpoint on the very site: the update is refused, and the next one works."""
    name = "gdb-on-a-site"
    title(name, "runs under gdb, a breakpoint on a site", "refused updates")
    text = gdb(["disassemble call_site"], "auto", TARGET)
    found = re.search(r"<\+(\d+)>:\tcall", text)
    if not found:
        tap.skip(name, "no call is seen")
        return
    for way in ("remap", "auto"):
        out = gdb(["break between_updates", "run",
                   f"break *((char *)call_site+{found.group(1)})", "delete 1",
                   "ignore 2 1000000", "continue"],
                  way, "--args", TARGET, "10", "0")
        c = counts(out)
        good = bool(c) and c["wrong"] == "0" and int(c["failed"]) > 0
        tap.ok(good, f"{name}, {way}: refused, nothing wrong: {how(out)}", out)
        row(name, way, c.get("failed", 0), good, "without the breakpoint: gdb-breakpoints",
            "reports (-EBUSY)" if good else how(out))


def gdb_attach():
    """gdb attaches to a process in mid-update, and lets it go, again and again."""
    updates, times = 10 ** 9, 12
    name = "gdb-attach"
    title(name, "gdb attaches and detaches in mid-update", "attachments")
    control = ""
    for way in WAYS:
        child = subprocess.Popen([TARGET, str(updates), "2"], env=environment(way), text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        time.sleep(0.2)  # not waited for, only to begin with a process that is at it
        stops = inside = 0
        for _ in range(times):
            if child.poll() is not None:
                break
            out = gdb(["thread apply all backtrace 6", "detach"], way, "-p", str(child.pid),
                      timeout=30)
            stops += "detached]" in out
            inside += "shunt_poke" in out or "shunt_port" in out or "shunt_change" in out
        alive = child.poll() is None
        child.send_signal(15)
        try:
            out = child.communicate(timeout=10)[0]
            ended = True
        except subprocess.TimeoutExpired:
            child.kill()
            out, ended = child.communicate()[0], False
        good = alive and ended and holds(out, counts(out).get("updates"))
        said = f"{stops} attachments, {inside} in mid-update, {how(out)}"
        if way == "int3":
            control = "by int3: " + (how(out) if not good else "holds this time")
            tap.ok(True, f"{name}: {way} (may fail): {said}")
        else:
            tap.ok(good and stops == times and inside > 0, f"{name}, {way}: {said}", out)
        row(name, way, stops, good, control or "-", "holds" if good else f"fails ({how(out)})")


# -------------------------------------------------------------------- strace and perf

def strace():
    updates = 300
    title("strace", "runs under strace -f", "updates")
    for way in WAYS:
        with tempfile.NamedTemporaryFile() as log:
            out, status = run(["strace", "-f", "-o", log.name, TARGET, str(updates), "2"], way)
            text = open(log.name, errors="replace").read()
        good = status == 0 and holds(out, updates)
        traps = text.count("SIGTRAP {")
        seen = text.count("mremap(") if way != "int3" else text.count("pwrite64(")
        enough = seen >= updates and (way == "int3" or not traps)
        tap.ok(good and enough, f"strace, {way}: {seen} pokes and {traps} traps seen, {how(out)}",
               out)
        row("strace", way, updates, good, f"strace sees {traps} traps", "holds" if good else how(out))


def perf():
    updates = 3000
    title("perf", "runs under perf record", "samples")
    with tempfile.TemporaryDirectory() as directory:
        data = directory + "/data"
        out, status = run(["perf", "record", "-e", "cpu-clock", "-F", "5000", "-o", data, "true"], "auto")
        if status:
            for way in WAYS:
                tap.skip(f"perf, {way}", "perf is not permitted, or not there")
            return
        for way in WAYS:
            out, status = run(["perf", "record", "-e", "cpu-clock", "-F", "5000", "-o", data,
                               TARGET, str(updates), "2"], way)
            script = run(["perf", "script", "-i", data, "-F", "ip,sym,dso"], way)[0]
            samples = script.count(f"({TARGET})")
            lost = script.count("([unknown])")
            good = status == 0 and holds(out, updates) and not lost
            tap.ok(good and samples > 20, f"perf, {way}: {samples} samples in the program's "
                   f"text, {lost} in no file, {how(out)}", out)
            row("perf", way, samples, good, f"{lost} samples in no file",
                "holds" if good else how(out))


# ---------------------------------------------------------------------------- uprobes

def file_offset(function):
    """Of the first instruction behind endbr64, in the target's file."""
    symbols = run(["readelf", "-sW", TARGET], "auto")[0]
    segments = run(["readelf", "-lW", TARGET], "auto")[0]
    address = int(re.search(rf"(\w+) +\d+ FUNC .* {function}$", symbols, re.M).group(1), 16)
    for offset, start, size in re.findall(r"LOAD +0x(\w+) 0x(\w+) 0x\w+ 0x(\w+)", segments):
        if 0 <= address - int(start, 16) < int(size, 16):
            return address - int(start, 16) + int(offset, 16)
    return None


def with_uprobe(events, directory, way, updates):
    with open(f"{directory}/uprobe_events", "w") as f:
        f.write(events)
    try:
        with open(f"{directory}/events/uprobes/enable", "w") as f:
            f.write("1")
        out, status = run([TARGET, str(updates), "1"], way)
        profile = open(f"{directory}/uprobe_profile").read()
        return out, status, int(profile.split()[2])
    finally:
        with open(f"{directory}/events/uprobes/enable", "w") as f:
            f.write("0")
        with open(f"{directory}/uprobe_events", "w") as f:
            f.write("")


def uprobes():
    """A uprobe, the kernel's own int3, on the page of the sites: it stays, and counts."""
    updates = 300
    title("uprobe", "has a uprobe on the page of its sites", "hits of the probe")
    directory = tempfile.mkdtemp()
    mounted = run(["mount", "-t", "tracefs", "none", directory], "auto")[1] == 0
    try:
        if not mounted or not os.path.exists(directory + "/uprobe_events"):
            tap.skip("uprobe", "tracefs cannot be mounted here")
            return
        event = f"p:shunt_hostile {TARGET}:0x{file_offset('between_updates'):x}"
        for way in WAYS:
            out, status, hits = with_uprobe(event, directory, way, updates)
            good = status == 0 and holds(out, updates) and hits == updates
            tap.ok(good, f"uprobe, {way}: {hits} of {updates} hits, {how(out)}", out)
            row("uprobe", way, hits, good, "the hits are counted", "holds" if good else how(out))
    except OSError as error:
        tap.skip("uprobe", f"not permitted: {error}")
    finally:
        if mounted:
            run(["umount", directory], "auto")
        os.rmdir(directory)


# --------------------------------------------------------------------------- valgrind

def valgrind():
    updates = 60
    tool = ["valgrind", "--fair-sched=yes", "--error-exitcode=99"]
    title("valgrind", "runs under valgrind, with no setting", "updates")
    out, _ = run([*tool, UNSEEN], "auto")
    stale = re.search(r"(\d+) of 100 calls stale", out)
    control = "text changed unseen: " + (stale.group(0) if stale else "?")
    tap.ok(stale and int(stale.group(1)) > 10, f"valgrind: control, {control}", out)
    for threads in (0, 2):
        for way in ("remap", "auto", "atomic"):
            out, status = run([*tool, TARGET, str(updates), str(threads)], way, 120)
            good = status == 0 and holds(out, updates) and "ERROR SUMMARY: 0 " in out
            tap.ok(good, f"valgrind, {way}, {threads} threads: {how(out)}", out)
            if threads and way in WAYS:
                row("valgrind", way, updates, good, control, "holds" if good else how(out))


def main():
    for tool, rows in {"gdb": [gdb_breakpoints, gdb_on_a_site, gdb_attach], "strace": [strace],
                       "perf": [perf], "mount": [uprobes], "valgrind": [valgrind]}.items():
        if not shutil.which(tool):
            tap.skip(tool, "not installed")
            continue
        for test in rows:
            test()
    tap.skip("rr", "needs hardware counters; not tried" if shutil.which("rr") else "not installed")
    print(f"1..{tap.count}")
    return 1 if tap.failed else 0


sys.exit(main())
