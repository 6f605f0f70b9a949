#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
The rows of the table of hostile processes in which another program looks on: gdb with
breakpoints beside the sites, gdb that attaches and detaches in mid-update, strace, perf,
a uprobe, valgrind, rr. Nothing is set by the user. Controls: the same by int3, where it is to
fail; the same with something taken out of remap (target_control.c); and for valgrind a program that
changes its text unseen. TAP, and the lines that table.py reads.

    test_tools.py [--few] TARGET VALGRIND-CONTROL INT3-CONTROL TARGET_CONTROL
"""

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

FEW = sys.argv[1] == "--few"  # fewer ways, and not auto, which goes by remap here
TARGET, NOT_TOLD, UNDETECTED, TARGET_CONTROL = map(os.path.realpath, sys.argv[1 + FEW:])
WAYS = ("int3", "remap", "flip") if FEW else ("int3", "remap", "auto", "flip")


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
    """
    Of a way; or of what TARGET_CONTROL is to take out of remap. The target goes by flip, under
    each policy, where it is told to switch its key.
    """
    is_taken_out = way in ("torn", "nofile", "unverified")
    policy = {"flip": "auto"}.get(way, "remap" if is_taken_out else way)
    env = dict(os.environ, SHUNT_POKE=policy, SHUNT_LOG="0", LC_ALL="C", TARGET_CONTROL=way)
    env.pop("TARGET_FLIPS", None)
    if way == "flip":
        env["TARGET_FLIPS"] = "1"
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
    """
    The target's last line as a dictionary; empty where it did not come to that. (Another's
    output may stand before it on the line.)
    """
    found = re.search(r"updates \d+ calls .*", out)
    words = found.group(0).split() if found else []
    return dict(zip(words[::2], words[1::2]))


def holds(out, updates, way):
    """Whether all was right, and went that way."""
    c = counts(out)
    return (c.get("updates") == str(updates) and c["wrong"] == "0" and c["failed"] == "0" and
            (way not in ("int3", "remap", "flip") or c["poke"] == way))


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


def started(program, way):
    """The target, updating without end."""
    child = subprocess.Popen([program, str(10 ** 9), "2"], env=environment(way), text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    time.sleep(0.2)  # not waited for, only to begin with a process that is at it
    return child


def ended(child):
    """What it prints on SIGTERM."""
    child.send_signal(15)
    try:
        return child.communicate(timeout=10)[0]
    except subprocess.TimeoutExpired:
        child.kill()
        return child.communicate()[0] + "\nhangs"


# ------------------------------------------------------------------------------- gdb

def gdb(commands, way, *arguments, timeout=90):
    words = ["gdb", "-nx", "-batch", "-iex", "set width 0", "-iex", "set confirm off"]
    for command in commands:
        words += ["-ex", command]
    return run([*words, *arguments], way, timeout)[0]


@functools.lru_cache
def disassembly(program, function):
    return gdb([f"disassemble {function}"], "auto", program)


def neighbours():
    """Instructions beside the sites: one before and one behind each, as offsets."""
    found = []
    for function in ("call_site", "test_site"):
        text = disassembly(TARGET, function)
        offsets = re.findall(r"^ +0x\w+ <\+(\d+)>:\t(\S+)", text, flags=re.M)
        site = next((i for i, (_, name) in enumerate(offsets)
                     if name.startswith(("call", "nop", "jmp", "test"))), None)
        if site is None:
            continue
        found += [(function, offsets[i][0]) for i in (site - 1, site + 1)
                  if 0 <= i < len(offsets)]
    return found


def gdb_breakpoints():
    """Breakpoints on the neighbours of the sites, each hit many times during updates."""
    updates, hits = (2000, 15) if FEW else (5000, 40)
    places = neighbours()
    title("gdb-breakpoints", "runs under gdb, breakpoints on the sites' neighbours",
          "stops in mid-run")
    control = ""
    for way in WAYS:
        commands = ["set pagination off", "break between_updates", "run"]
        commands += [f"break *((char *){function}+{offset})" for function, offset in places]
        commands += ["info breakpoints"] + ["continue"] * hits + ["delete", "continue"]
        # By int3 it fails as soon as a thread runs into one, which a run may do without.
        for _ in range(5 if way == "int3" else 1):
            out = gdb(commands, way, "--args", TARGET, str(updates), "2")
            stops = len(re.findall(r"hit Breakpoint", out))
            good = holds(out, updates, way)
            if not good:
                break
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
    control = ""
    for way in ("unverified", *WAYS[1:]):
        program = TARGET_CONTROL if way == "unverified" else TARGET
        function, site = ("test_site", "test +[$]") if way == "flip" else ("call_site", "call")
        found = re.search(rf"<\+(\d+)>:\t{site}", disassembly(program, function))
        if not found:
            tap.skip(name, "no site is seen")
            return
        out = gdb(["break between_updates", "run",
                   f"break *((char *){function}+{found.group(1)})", "delete 1",
                   "ignore 2 1000000", "continue"],
                  way, "--args", program, "10", "0")
        c = counts(out)
        good = bool(c) and c["wrong"] == "0" and int(c["failed"]) > 0
        if way == "unverified":
            control = f"the bytes at the site are not looked at: fails ({how(out)})"
            tap.ok(not good, f"{name}: control, {control}", out)
            continue
        tap.ok(good, f"{name}, {way}: refused, nothing wrong: {how(out)}", out)
        row(name, way, c.get("failed", 0), good, control,
            "reports (-EBUSY)" if good else how(out))


def attach(pid, way, places):
    """Once: breakpoints beside the sites, hit a few times, and taken back. What gdb prints."""
    commands = ["set pagination off", "thread apply all backtrace 6"]
    commands += [f"break *((char *){function}+{offset})" for function, offset in places]
    return gdb(commands + ["continue"] * 4 + ["delete", "detach"], way, "-p", str(pid), timeout=30)


def attach_often(way, places, least, most):
    """
    Until some were in mid-update. Whether the target holds, at each time; attachments, of them in
    mid-update; hits; how it ended; output.
    """
    child = started(TARGET, way)
    times = stops = inside = hits = 0
    while times < most and (times < least or inside < 2) and child.poll() is None:
        times += 1
        out = attach(child.pid, way, places)
        stops += "detached]" in out
        hits += len(re.findall(r"hit Breakpoint", out))
        inside += "shunt_poke" in out or "shunt_port" in out or "shunt_change" in out
    alive = child.poll() is None
    out = ended(child)
    good = alive and stops == times and holds(out, counts(out).get("updates"), way)
    what = how(out) if counts(out) or child.returncode >= 0 else f"signal {-child.returncode}"
    return good, stops, inside, hits, what, out


def gdb_attach():
    """
    gdb attaches to a process in mid-update, sets breakpoints, has them hit, and lets it go,
    again and again.
    """
    least, most = (2, 12) if FEW else (6, 16)
    name = "gdb-attach"
    title(name, "gdb attaches in mid-update, breaks beside the sites, and detaches", "attachments")
    control = ""
    places = neighbours()
    for way in WAYS[:2] if FEW else WAYS:
        for _ in range(5):  # by int3 it need not fail each time
            good, stops, inside, hits, what, out = attach_often(way, places, least, most)
            if way != "int3" or not good:
                break
        said = f"{stops} attachments, {inside} in mid-update, {hits} breakpoints hit, {what}"
        if way == "int3":
            control = f"by int3: fails ({what})"
            tap.ok(not good, f"{name}: control, {control}: {said}", out)
        else:
            tap.ok(good and inside > 1 and hits > 2 * stops,
                   f"{name}, {way}: {said}", out)
        row(name, way, stops, good, control or "-", "holds" if good else f"fails ({what})")


# -------------------------------------------------------------------- strace and perf

def strace():
    """Control: sites are written in two parts."""
    updates = 300
    title("strace", "runs under strace -f", "updates")
    control = ""
    for way in ("torn", *WAYS):
        program = TARGET_CONTROL if way == "torn" else TARGET
        with tempfile.NamedTemporaryFile() as log:
            out, status = run(["strace", "-f", "-o", log.name, program, str(updates), "2"], way)
            text = open(log.name, errors="replace").read()
        good = status == 0 and holds(out, updates, way)
        if way == "torn":
            killed = re.search(r"killed by (SIG\w+)", text)
            control = f"written in parts: fails ({killed.group(0) if killed else how(out)})"
            tap.ok(not good, f"strace: control, {control}", out)
            continue
        traps = text.count("SIGTRAP {")
        seen = text.count("pwrite64(" if way in ("int3", "flip") else "mremap(")
        enough = seen >= updates and (way == "int3" or not traps)
        tap.ok(good and enough, f"strace, {way}: {seen} pokes and {traps} traps seen, {how(out)}",
               out)
        row("strace", way, updates, good, control, "holds" if good else how(out))


PERF = ["perf", "record", "-e", "cpu-clock", "-F", "5000", "-o"]


def perf_samples(program, way, data):
    """perf attaches in mid-update: samples in the program's file, in no file; the output."""
    child = started(program, way)
    said = run([*PERF, data, "-p", str(child.pid), "sleep", "0.5"], way)[0]
    out = ended(child)
    script = run(["perf", "script", "-i", data, "-F", "ip,sym,dso"], way)[0]
    lost = len(re.findall(r"\((?:\[unknown\]|//anon|/tmp/perf-\d+\.map)\)", script))
    return script.count(f"({program})"), lost, out + said


def perf_finds(program, way, data):
    """
    The same, and how often perf had to attach: one mapping that is being replaced may be
    missing in what the kernel lists (seen on Linux 6.18), and so in what perf reads at first.
    """
    for times in range(1, 9):
        samples, lost, out = perf_samples(program, way, data)
        if (samples and not lost) or way == "nofile":
            break
    return samples, lost, out, times


def perf():
    """Samples are found in the program's file. Control: its pages become those of no file."""
    title("perf", "perf record attaches in mid-update", "samples")
    control = ""
    with tempfile.TemporaryDirectory() as directory:
        data = directory + "/data"
        if run([*PERF, data, "true"], "auto")[1]:
            for way in WAYS:
                tap.skip(f"perf, {way}", "perf is not permitted, or not there")
            return
        for way in ("nofile", "remap") if FEW else ("nofile", *WAYS):
            samples, lost, out, times = perf_finds(TARGET_CONTROL if way == "nofile" else TARGET, way,
                                                   data)
            good = holds(out, counts(out).get("updates"), way) and not lost
            if way == "nofile":
                control = f"pages of no file: fails ({lost} samples in none)"
                tap.ok(not good and lost > 0, f"perf: control, {control}", out)
                continue
            tap.ok(good and samples > 20, f"perf, {way}: {samples} samples in the program's "
                   f"text, {lost} in no file, {how(out)}, attached {times} times", out)
            row("perf", way, samples, good, control, "holds" if good else how(out))


# ---------------------------------------------------------------------------- uprobes

def file_offset(program, function):
    """Of its first instruction, in the program's file."""
    symbols = run(["readelf", "-sW", program], "auto")[0]
    segments = run(["readelf", "-lW", program], "auto")[0]
    address = int(re.search(rf"(\w+) +\d+ FUNC .* {function}$", symbols, re.M).group(1), 16)
    for offset, start, size in re.findall(r"LOAD +0x(\w+) 0x(\w+) 0x\w+ 0x(\w+)", segments):
        if 0 <= address - int(start, 16) < int(size, 16):
            return address - int(start, 16) + int(offset, 16)
    return None


def with_uprobe(program, directory, way, updates):
    offset = file_offset(program, "between_updates")
    with open(f"{directory}/uprobe_events", "w") as f:
        f.write(f"p:shunt_hostile {program}:0x{offset:x}")
    try:
        with open(f"{directory}/events/uprobes/enable", "w") as f:
            f.write("1")
        out, status = run([program, str(updates), "1"], way)
        profile = open(f"{directory}/uprobe_profile").read()
        return out, status, int(profile.split()[2])
    finally:
        with open(f"{directory}/events/uprobes/enable", "w") as f:
            f.write("0")
        with open(f"{directory}/uprobe_events", "w") as f:
            f.write("")


def uprobes():
    """
    A uprobe, the kernel's own int3, on the page of the sites: it stays, and counts. Control:
    the pages become those of no file, where the kernel does not know it.
    """
    updates = 300
    title("uprobe", "has a uprobe on the page of its sites", "hits of the probe")
    directory = tempfile.mkdtemp()
    mounted = run(["mount", "-t", "tracefs", "none", directory], "auto")[1] == 0
    try:
        if not mounted or not os.path.exists(directory + "/uprobe_events"):
            tap.skip("uprobe", "tracefs cannot be mounted here")
            return
        control = ""
        for way in ("nofile", *WAYS):
            program = TARGET_CONTROL if way == "nofile" else TARGET
            out, status, hits = with_uprobe(program, directory, way, updates)
            good = status == 0 and holds(out, updates, way) and hits == updates
            if way == "nofile":
                control = f"pages of no file: fails ({hits} hits, status {status})"
                tap.ok(not good, f"uprobe: control, {control}", out)
                continue
            tap.ok(good, f"uprobe, {way}: {hits} of {updates} hits, {how(out)}", out)
            row("uprobe", way, hits, good, control, "holds" if good else how(out))
    except OSError as error:
        tap.skip("uprobe", f"not permitted: {error}")
    finally:
        if mounted:
            run(["umount", directory], "auto")
        os.rmdir(directory)


# --------------------------------------------------------------------------- valgrind

def valgrind():
    updates = 20 if FEW else 60
    tool = ["valgrind", "--fair-sched=yes", "--error-exitcode=99"]
    title("valgrind", "runs under valgrind, with no setting", "updates")
    out, _ = run([*tool, NOT_TOLD], "auto")
    stale = re.search(r"(\d+) of 100 calls stale", out)
    control = "text changed unseen: " + (stale.group(0) if stale else "?")
    tap.ok(stale and int(stale.group(1)) > 10, f"valgrind: control, {control}", out)
    for threads in (2,) if FEW else (0, 2):
        for way in ("remap", "flip") if FEW else ("remap", "auto", "atomic", "flip"):
            out, status = run([*tool, TARGET, str(updates), str(threads)], way, 120)
            good = status == 0 and holds(out, updates, way) and "ERROR SUMMARY: 0 " in out
            tap.ok(good, f"valgrind, {way}, {threads} threads: {how(out)}", out)
            if threads and way in WAYS:
                row("valgrind", way, updates, good, control, "holds" if good else how(out))


def valgrind_int3():
    """By int3 too, where threads come into the handler. Control: it uses an instruction that
    valgrind does not know."""
    updates = 20 if FEW else 60
    tool = ["valgrind", "--fair-sched=yes", "--error-exitcode=99"]
    for _ in range(8):  # it runs a thread at a time, and not each time one at the int3
        out, status = run([*tool, UNDETECTED, str(updates), "2"], "int3", 120)
        if counts(out).get("traps") != "0":
            break
    tap.ok(status != 0 and "SIGILL" in out, "valgrind, int3: control, it is not asked: SIGILL", out)
    for _ in range(8):
        out, status = run([*tool, TARGET, str(updates), "2"], "int3", 120)
        traps = re.search(r"traps (\d+)", out)
        good = status == 0 and holds(out, updates, "int3") and "ERROR SUMMARY: 0 " in out
        if not good or (traps and int(traps.group(1)) > 0):
            break
    good = good and traps and int(traps.group(1)) > 0
    tap.ok(good, f"valgrind, int3, 2 threads: {how(out)}", out)
    row("valgrind", "int3", updates, good, "it is not asked: SIGILL",
        "holds" if good else how(out))


def valgrind_rows():
    out = run(["valgrind", TARGET, "1", "0"], "auto")[0]
    if "debuginfo reader" in out and "Giving up" in out:
        tap.skip("valgrind", "it cannot read the debug information of this compiler")
        return
    valgrind()
    valgrind_int3()


def rr():
    """Recorded and replayed; only where rr can record anything at all."""
    with tempfile.TemporaryDirectory() as traces:
        def record(name, way, *command):
            return run(["rr", "record", "-n", "-o", f"{traces}/{name}", *command], way)

        out, status = record("true", "auto", "true")
        if status:
            tap.skip("rr", f"it cannot record /bin/true here: {out.strip().splitlines()[0][:100]}")
            return
        for way in WAYS:
            out, status = record(way, way, TARGET, "300", "2")
            replayed, again = run(["rr", "replay", "-a", f"{traces}/{way}"], way)
            tap.ok(status == 0 and again == 0 and holds(out, 300, way) and
                   holds(replayed, 300, way),
                   f"rr, {way}: {how(out)}; replayed: {how(replayed)}", out + replayed)


def main():
    for tool, rows in {"gdb": [gdb_breakpoints, gdb_on_a_site, gdb_attach], "strace": [strace],
                       "perf": [perf], "mount": [uprobes], "valgrind": [valgrind_rows],
                       "rr": [rr]}.items():
        if not shutil.which(tool):
            tap.skip(tool, "not installed")
            continue
        for test in rows:
            test()
    print(f"1..{tap.count}")
    return 1 if tap.failed else 0


sys.exit(main())
