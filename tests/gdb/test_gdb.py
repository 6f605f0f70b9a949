#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
The gdb script: what it prints is what shunt_for_each_key() and shunt_for_each_site()
say, in a process stopped between updates and in the middle of one, in a core dump of
that, without any symbols of the library, and in a static program; and a backtrace names
a veneer and goes on from it. Breakpoints beside a site, found by the script, are hit while
it is updated by remap. TAP; skipped without gdb, or where gdb may not trace.

    test_gdb.py SHUNT-GDB.PY LIBSHUNT.SO PROGRAM PROGRAM-WITH-STATIC-LIBSHUNT
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SCRIPT, LIBRARY, PROGRAM, STATIC = sys.argv[1:]
KEYS, SITES, TRACED, VENEERS = "info shunt keys", "info shunt sites", "info shunt traced", "info shunt veneers"


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def ok(self, good, what, output=""):
        self.count += 1
        self.failed += not good
        print(f"{'ok' if good else 'not ok'} {self.count} - {what}", flush=True)
        if not good:
            print("".join(f"# {line}\n" for line in output.splitlines()), flush=True)
        return good


tap = Tap()


def gdb(commands, program, *files, library_path=None, options=(), way="int3"):
    """What gdb prints: of each command behind a line "== COMMAND"."""
    env = dict(os.environ, SHUNT_POKE=way, SHUNT_LOG="0", LC_ALL="C",
               ASAN_OPTIONS="detect_leaks=0")  # the leak checker traces, as gdb does
    env.pop("DEBUGINFOD_URLS", None)
    arguments = ["gdb", "-nx", "-batch", *options, "-iex", "set width 0"]
    if library_path:
        arguments += ["-ex", f"set environment LD_LIBRARY_PATH {library_path}"]
    for command in commands:
        arguments += ["-ex", f"echo == {command}\\n", "-ex", command]
    out = subprocess.run([*arguments, program, *files], env=env, text=True, timeout=120,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    return out.stdout


def answers(out, command):
    """What each time was printed for @command."""
    parts = re.split(r"^== (.*)\n", out, flags=re.M)
    return [text for name, text in zip(parts[1::2], parts[2::2]) if name == command]


def printed_keys(text):
    """(type, name, sites, inline, value) of each key, from "info shunt keys"."""
    keys = set()
    for line in text.splitlines():
        found = re.match(r"(call|branch) +(\w+) +(\d+) +(\d+) +(.*?)  +/", line)
        if found:
            value = found.group(5).split(" <")[0]
            value = hex(int(value, 16)) if value.startswith("0x") else value
            keys.add((*found.groups()[:4], value))
    return keys


def said_keys(out, which):
    """The same, as the program said it the first or the second time."""
    keys = [line.split(None, 5)[1:] for line in out.splitlines() if line.startswith("key ")]
    keys = keys[len(keys) // 2 * which:][:len(keys) // 2] if which is not None else keys
    return {("call" if kind == "1" else "branch", name, sites, inline, value)
            for kind, name, sites, inline, value in keys}


def printed_sites(text):
    found = re.findall(r"^0x([0-9a-f]+) +(\d) +(\w+) +(\w+)", text, flags=re.M)
    return {(key, int(address, 16), length, state) for address, length, state, key in found}


def said_sites(out):
    found = re.findall(r"^site (\w+) 0x([0-9a-f]+) (\d) (\w+)", out, flags=re.M)
    return {(key, int(address, 16), length, state) for key, address, length, state in found}


def printed_traced(text):
    """(function, address, number of ops), from "info shunt traced"."""
    found = re.findall(r"^0x([0-9a-f]+) +patchable +entry +(\w+) +(.*)", text, flags=re.M)
    return {(name, int(address, 16), len(ops.split(","))) for address, name, ops in found}


def said_traced(out):
    found = re.findall(r"^traced (\w+) 0x([0-9a-f]+) (\d+)", out, flags=re.M)
    return {(name, int(address, 16), int(ops)) for name, address, ops in found}


def compare(out, what, which=None, nr=0):
    """What is printed against what is said."""
    keys, sites = printed_keys(answers(out, KEYS)[nr]), said_keys(out, which)
    tap.ok(keys and keys == sites, f"{what}: {len(keys)} keys as shunt_for_each_key() has them",
           out)


TO_FIRST_STOP = ["break target_stop", "run"]
LOAD = [f"source {SCRIPT}"]


def between_and_in_the_middle(core):
    out = gdb(TO_FIRST_STOP + LOAD +
              [KEYS, SITES, VENEERS, "info shunt stats", "break shunt_port_core_sync", "continue",
               "continue", SITES + " gdb_call", "info shunt stats", KEYS,
               "print $_shunt_site($pc)", f"gcore {core}", "delete 2", "continue", KEYS,
               "continue"], PROGRAM)
    compare(out, "between updates", 0)
    sites = printed_sites(answers(out, SITES)[0])
    tap.ok(sites and sites == said_sites(out),
           f"between updates: {len(sites)} sites as shunt_for_each_site() has them", out)
    tap.ok("update lock: free" in answers(out, "info shunt stats")[0], "the update lock is free",
           out)
    middle = answers(out, SITES + " gdb_call")[0]
    tap.ok(middle.count("int3 of an update") == 2 and len(printed_sites(middle)) == 2,
           "in the middle of an update: both sites are on its int3", out)
    tap.ok("update lock: held" in answers(out, "info shunt stats")[1], "the update lock is held",
           out)
    compare(out, "in the middle of an update", 0, 1)
    compare(out, "behind it, in another state", 1, 2)
    tap.ok("exited normally" in out and answers(out, "print $_shunt_site($pc)") == ["$1 = 0\n"],
           "the program goes on and ends", out)
    return out


def core_dump(live, core):
    commands = [SITES + " gdb_call", "info shunt stats", KEYS, SITES, VENEERS]
    out = gdb(LOAD + commands, PROGRAM, core)
    same = all(answers(out, c)[0] == answers(live, c)[-1] for c in commands[:1]) and \
        answers(out, KEYS)[0] == answers(live, KEYS)[1] and \
        answers(out, commands[1])[0] == answers(live, commands[1])[1]
    tap.ok(same and "int3 of an update" in answers(out, SITES)[0],
           "a core dump made there: the same, word for word", out)
    tap.ok("<far_a>" in answers(out, VENEERS)[0], "and its veneers", out)


# From the script: what it says then of keys (0), sites (1) or functions (2) is to be seen to differ. One of each at a time.
TAKEN_OUT = {
    "NULL is not told": ('if func == self.lib["&nop"]:', "if False:", 0),
    "the count is one off": ("{self.field('count', 4, True)}",
                             "{self.field('count', 4, True) + 1}", 0),
    "one site of each key": ("                index = site.next\n", "                break\n", 1),
    "addresses are one off": ('base + field("off", 4)', 'base + field("off", 4) + 1', 1),
    "all sites are calls": ('state = self.STATES.get(self.kind, "?")', 'state = "inline"', 1),
    "each ops traces all": ("if t.bits >> self.index & 1 and", "if", 2),
    "one ops of each list": ("        if bits:\n            yield Tracer(lib, address, bits)",
                             "        if bits:\n            yield Tracer(lib, address, bits)\n            return", 2),
}


def controls(directory):
    """The comparisons fail where the script is wrong."""
    text = pathlib.Path(SCRIPT).read_text(encoding="utf-8")
    left, rounds, commands = dict(TAKEN_OUT), [], []
    while left:
        taken = {}
        for what, (_, _, view) in left.items():
            if view not in [TAKEN_OUT[other][2] for other in taken]:
                taken[what] = left[what]
        wrong = text
        for what, (old, new, _) in taken.items():
            del left[what]
            wrong = wrong.replace(old, new)
        script = pathlib.Path(directory) / f"wrong{len(rounds)}.py"
        script.write_text(wrong, encoding="utf-8")
        rounds.append(taken)
        commands += [f"source {script}", KEYS, SITES, TRACED]
    out = gdb(TO_FIRST_STOP + commands, PROGRAM)
    for number, taken in enumerate(rounds):
        same = (printed_keys(answers(out, KEYS)[number]) == said_keys(out, None),
                printed_sites(answers(out, SITES)[number]) == said_sites(out),
                printed_traced(answers(out, TRACED)[number]) == said_traced(out))
        for what, (old, _, view) in taken.items():
            tap.ok(old in text and not same[view] and "Python Exception" not in out,
                   f"control: {what} in the script: seen", out)
        tap.ok(all(same[view] for view in {0, 1, 2} - {t[2] for t in taken.values()}), "control: and of nothing else", out)


def addresses(live):
    """(gdb switches the randomisation of addresses off, so those of another run hold.)"""
    sites = {key: address for key, address, _, _ in printed_sites(answers(live, SITES)[0])}
    veneers = dict(re.findall(r"^(0x\w+) +0x\w+ <(\w+)>", answers(live, VENEERS)[0],
                              flags=re.M))
    veneer = next(a for a, target in veneers.items() if target == "far_a")
    return sites["gdb_call"], veneer


def of_an_address(site):
    return [f"print $_shunt_site({site}) == {site}", f"print $_shunt_site({site} + 4) == {site}",
            f"info shunt address {site} + 1", "info shunt address $pc", "info shunt address &__SCK__gdb_call"]


def an_address(out):
    tap.ok("$1 = 1" in out and "$2 = 1" in out, "$_shunt_site: first and last byte of a site", out)
    tap.ok("is byte 1 of 5 of a site of gdb_call, inline." in out and
           "nothing of Shunt's" in out and "is the key gdb_call." in out,
           "info shunt address: a site, a key, neither", out)


def frames(text):
    return re.findall(r"^#\d+ +(?:0x\w+ in )?(\S+)", text, flags=re.M)


def in_a_veneer(site, veneer):
    out = gdb(TO_FIRST_STOP + LOAD + of_an_address(site) + OF_TRACED +
              [f"break *{veneer}", "delete 1", "continue", "info shunt address $pc", "bt",
               "bt -no-filters",
               "break target_stop", "signal SIGUSR1", "backtrace"], PROGRAM)
    an_address(out)
    traced(out)
    with_it, without = [frames(answers(out, c)[0]) for c in ("bt", "bt -no-filters")]
    tap.ok("is in the veneer" in answers(out, "info shunt address $pc")[1], "in a veneer", out)
    tap.ok(with_it[0] == "__SCV__far_a" and with_it[1] == "far_call" and with_it[-1] == "main",
           "backtrace: " + " ".join(with_it), out)
    tap.ok(without[0] == "__shunt_veneers" and without[1:] == with_it[1:],
           "control: without the script: " + " ".join(without), out)
    handler = answers(out, "backtrace")[0]
    tap.ok("<signal handler called>" in handler and frames(handler)[-len(with_it):] == with_it,
           "from a signal handler that interrupted it: " + " ".join(frames(handler)), out)


def stripped(directory):
    """A library without symbols and debug information; found by its name as auto-load."""
    library = pathlib.Path(directory) / pathlib.Path(LIBRARY).name
    shutil.copy(LIBRARY, library)
    subprocess.run(["strip", str(library)], check=True)
    out = gdb(TO_FIRST_STOP + LOAD + ["info sharedlibrary", KEYS, SITES, "info shunt ways"],
              PROGRAM, library_path=directory)
    tap.ok(str(library) in out, "with a stripped libshunt", out)
    compare(out, "stripped")
    tap.ok(printed_sites(answers(out, SITES)[0]) == said_sites(out), "stripped: sites", out)
    tap.ok(out.count("not known without debug information") == 2,
           "stripped: what needs debug information says so", out)
    shutil.copy(SCRIPT, str(library) + "-gdb.py")
    safe = ("-iex", f"set auto-load safe-path {directory}")
    out = gdb(TO_FIRST_STOP + [KEYS], PROGRAM, library_path=directory, options=safe)
    compare(out, "loaded by itself, as LIBRARY-gdb.py")


def others():
    out = gdb(LOAD + [KEYS] + TO_FIRST_STOP + [KEYS, TRACED], STATIC)
    tap.ok("The program is not being run." in answers(out, KEYS)[0], "not running: says so", out)
    compare(out, "a program with libshunt.a", nr=1)
    tap.ok(printed_traced(answers(out, TRACED)[0]) == said_traced(out) != set(),
           "traced, with libshunt.a", out)
    out = gdb(["break exit", "run"] + LOAD + [KEYS, "bt"], "/bin/true")
    tap.ok("does not use libshunt" in out and "exit" in answers(out, "bt")[0],
           "a program without libshunt: says so, and backtraces work", out)


def breakpoints_in_updates():
    """
    On the instruction behind a site and the one in front of it, with "continue": a thread runs
    into them while the other is held in the middle of an update of that site; then a thousand
    updates. Control: the same by int3, where gdb keeps the trap.
    """
    updates, times = 1000, 15
    site = "gdb.execute('info shunt sites gdb_busy', to_string=True).split('0x')[1].split()[0]"
    commands = ["set pagination off", f"set args {updates}", "break update_busily", "run", *LOAD,
                f"python gdb.set_convenience_variable('site', int({site}, 16))",
                "print $_shunt_site($site + 4) == $site", "break go_through", "continue",
                "delete", "break shunt_port_core_sync", "continue", "delete", "set scheduler-locking on", "thread 2",
                "break *($site + 5)", "break *busy_site", *["continue"] * times,
                "set scheduler-locking off", "delete", "continue"]
    for way in ("int3", "remap"):
        out = gdb(commands, PROGRAM, way=way)
        hits = len(re.findall(r"hit Breakpoint [45],", out))
        right = f"{updates} updates, 0 failed, 0 wrong" in out and "exited normally" in out
        if way == "int3":
            tap.ok(not right and "received signal SIGTRAP" in out,
                   f"control: breakpoints beside a site, updated by int3: SIGTRAP, {hits} hit", out)
            continue
        tap.ok(right and hits == times and " = 1\n" in out,
               f"breakpoints beside a site, in an update by remap: {hits} hit, "
               f"{updates} updates", out)


OF_TRACED = [TRACED, TRACED + " once", "info shunt address traced_twice", "info shunt address traced_never"]


def traced(out):
    functions = printed_traced(answers(out, TRACED)[0])
    tap.ok(len(functions) == 2 and functions == said_traced(out),
           "traced: 2 functions as shunt_for_each_function() has them", out)
    tap.ok(re.search(r" traced_twice +call_back_too, call_back$| traced_twice +call_back, call_back_too$",
                     answers(out, TRACED)[0], flags=re.M) and
           re.search(r" traced_once +call_back$", answers(out, TRACED + " once")[0], flags=re.M) and
           "twice" not in answers(out, TRACED + " once")[0], "by which ops; one of them alone", out)
    tap.ok("of an entry of traced_twice, traced by call_back" in out and
           "of an entry of traced_never, traced by nobody" in out,
           "info shunt address: an entry", out)


def main():
    if not shutil.which("gdb"):
        print("1..0 # SKIP no gdb")
        return 0
    out = gdb(["python print('python: yes')", *TO_FIRST_STOP], PROGRAM)
    if "\npython: yes" not in out:
        print("1..0 # SKIP gdb without Python")
        return 0
    if "Breakpoint 1, " not in out:
        print("1..0 # SKIP gdb cannot run a program here")
        return 0
    with tempfile.TemporaryDirectory() as directory:
        core = directory + "/core"
        live = between_and_in_the_middle(core)
        core_dump(live, core)
        in_a_veneer(*addresses(live))
        stripped(directory)
        others()
        breakpoints_in_updates()
        controls(directory)
    print(f"1..{tap.count}")
    return 1 if tap.failed else 0


sys.exit(main())
