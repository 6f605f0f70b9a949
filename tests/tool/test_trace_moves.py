#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Calls that begin in one thread and return in another, for their coroutine has moved there, as shunt report, replay and
graph show them: on files that trace_writer.py makes, where each time is known.

And programs of many fibres on stacks side by side, made at random (fibre_program.py): each call is compared with what it was.

*Control:* the same where another call can have been at that place of the stack meanwhile: nothing is joined, and no
time is shown that is not known.

usage: test_trace_moves.py SHUNT
"""
import json
import os
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
import fibre_program
from tap import finish, ok
from trace_writer import CALL, ENTRY, RETURN, TAIL, Writer

SHUNT = os.path.abspath(sys.argv[1])
FOLDER = tempfile.TemporaryDirectory()
PATH = os.path.join(FOLDER.name, "trace")
F = {name: 0x401000 + 16 * i for i, name in enumerate(["main", "job", "inner", "outer", "work"])}
NAMES = {addr: name for name, addr in F.items()}
FLIGHT, INSTRUMENT = 1, 4
FIBRE = 0x7F0000100000  # the stack that moves
INNER = FIBRE - 64
HOME = {1: 0x7FFD00010000, 2: 0x7F1000010000, 3: 0x7F2000030000}  # those of the threads


def enter(ticks, place, name):
    return ENTRY, ticks, place, F[name]


def leave(ticks, place, kind=RETURN, name=None):
    return kind, ticks, place, F[name] if name else 0


def write(threads, end=10000, mode=0, kind=1):
    """threads: by number their events, in which a number is that of lost events."""
    w = Writer(mode=mode)
    w.clock(0, 5000)
    w.module(1, "/usr/bin/prog", 0x400000)
    w.functions(1, {addr: name for name, addr in F.items()}, kind)
    n = 0
    for number, events in threads.items():
        pieces, lost = [(0, [])], 0
        for event in events:
            if isinstance(event, int):
                pieces.append((event, []))
                lost += event
            else:
                pieces[-1][1].append(event)
                n += 1
        first = [event for event in events if not isinstance(event, int)][0]
        w.thread(number, 1000 + number, f"worker {number}", started=first[1])
        for gap, of in pieces:
            if of or gap:
                w.events(number, of, gap)
    w.clock(10**9, 5000 + 10**9)
    w.end(end, n)
    with open(PATH, "wb") as file:
        file.write(w.out)


def run(*words):
    return subprocess.run([SHUNT, *words, PATH], capture_output=True, text=True, timeout=60, check=False)


def report(*words):
    said = json.loads(run("report", "--json", *words).stdout)
    return said, {row["function"]: row for row in said["functions"]}


def is_joined(name, threads, total, most, self_ns=None, calls=1, **options):
    write(threads, **options)
    said, of = report()
    job = of["job"]
    ok((job["calls"], job["total_ns"], job["max_ns"], job["open"], job["timed"]) == (calls, total, most, 0, calls) and
       (self_ns is None or job["self_ns"] == self_ns) and not said["open"] and not said["returns_without_entry"], name, said)


def is_not(name, threads, shown, orphans=1, **options):
    """shown: calls of job(), those with a time, open ones, the time of all"""
    write(threads, **options)
    said, of = report()
    job = of["job"]
    ok((job["calls"], job["timed"], job["open"], job["total_ns"]) == shown and said["returns_without_entry"] == orphans,
       f"control: {name}", said)


MOVES = {1: [enter(100, FIBRE, "job"), enter(110, INNER, "inner"), leave(150, INNER)],
         2: [enter(40, HOME[2], "work"), leave(60, HOME[2]), enter(300, INNER, "inner"), leave(350, INNER), leave(400, FIBRE)]}
OPEN = 10000 - 100  # of a call that begins at 100, until the end


def joined():
    is_joined("a call that returns in another thread", MOVES, 300, 300, 160)
    text = run("replay").stdout
    ok("returned in thread 1002" in text and "not recorded" not in text and "open" not in text, "replay says where", text)
    lines = [json.loads(line) for line in run("replay", "--json").stdout.splitlines()]
    ok([line.get("returned_in") for line in lines if line["function"] == "job"] == [1002], "and in its JSON", lines)
    text = run("graph").stdout
    ok(">" not in text and "300 ns" in text, "graph has its time", text)
    text = run("export", "--folded").stdout
    ok("job 160\n" in text and "job;inner 40\n" in text, "and export", text)
    _, of = report("--tid", "1001")
    ok(of["job"]["total_ns"] == 300, "of its thread alone", of)
    at_home = [enter(50, HOME[1], "main"), *MOVES[1], enter(200, HOME[1] - 64, "work"), leave(900, HOME[1] - 64), leave(950, HOME[1])]
    is_joined("while other calls run where it was", {1: at_home, 2: MOVES[2]}, 300, 300, 60)
    ok(report()[1]["work"]["self_ns"] == 720, "control: which have their own time", report())
    is_joined("there and back, and so again", {
        1: [enter(100, FIBRE, "job"), leave(400, FIBRE), enter(500, FIBRE, "job"), leave(800, FIBRE)],
        2: [leave(200, FIBRE), enter(300, FIBRE, "job"), leave(600, FIBRE), enter(700, FIBRE, "job")]}, 400, 100, calls=4)
    is_joined("a hundred times, of one stack", {
        1: [enter(100 * i, FIBRE, "job") for i in range(1, 101)], 2: [leave(100 * i + 30, FIBRE) for i in range(1, 101)]},
              3000, 30, calls=100, end=20000)
    is_joined("two calls, one in the other", {1: [enter(90, FIBRE + 64, "outer"), *MOVES[1]], 2: [*MOVES[2], leave(450, FIBRE + 64)]},
              300, 300)
    ok(report()[1]["outer"]["total_ns"] == 360, "and the outer one", report())
    is_joined("the outer one alone returns, for the inner one ends by longjmp()", {
        1: [enter(90, FIBRE + 64, "job"), enter(100, FIBRE, "inner")], 2: [leave(450, FIBRE + 64)]}, 360, 360)
    is_joined("where it returns by a tail call", {1: MOVES[1], 2: [*MOVES[2][:-1], leave(400, FIBRE, TAIL),
                                                                  enter(401, FIBRE, "outer"), leave(500, FIBRE)]}, 300, 300)
    is_joined("-finstrument-functions", {1: [enter(100, FIBRE, "job")], 2: [
        enter(300, FIBRE, "inner"), leave(350, FIBRE, name="inner"), leave(400, FIBRE, name="job")]}, 300, 300, kind=INSTRUMENT)
    is_joined("events were lost before it began", {1: MOVES[1], 2: [enter(40, HOME[2], "work"), 5, leave(60, HOME[2]), *MOVES[2][2:]]},
              300, 300)
    is_joined("of a flight recorder, whose thread was there before", MOVES, 300, 300, mode=FLIGHT)


def not_joined():
    is_not("it never returns", {1: MOVES[1], 2: MOVES[2][:-1]}, (1, 1, 1, OPEN), 0)
    is_not("another call was at its place, and has returned: it had ended", {**MOVES, 3: [enter(200, FIBRE, "outer"), leave(250, FIBRE)]},
           (1, 1, 0, 100))
    later = {1: MOVES[1], 2: [*MOVES[2][:-1], leave(4000, FIBRE)], 3: [enter(200, FIBRE, "outer")]}
    is_not("another call was at its place, and returns: it had ended", later, (1, 1, 0, 100), 0)
    is_not("a return from before it began", {1: [enter(500, FIBRE, "job")], 2: [leave(90, FIBRE)]}, (1, 1, 1, OPEN - 400))
    twice = {1: [enter(1000, FIBRE, "job"), leave(9000, FIBRE)], 2: [enter(2000, FIBRE + (1 << 33), "outer"), leave(9500, FIBRE + (1 << 33))]}
    is_not("two stacks whose places are the same in 30 bits", twice, (1, 1, 0, 8000), 0)
    is_not("another place", {1: MOVES[1], 2: [leave(400, FIBRE + 8)]}, (1, 1, 1, OPEN))
    is_not("another function", {1: [enter(100, FIBRE, "job")], 2: [leave(400, FIBRE, name="inner")]}, (1, 1, 0, 300), kind=INSTRUMENT)
    for name, threads in {"where it returns": {1: MOVES[1], 2: [*MOVES[2][:-1], 5, MOVES[2][-1]]},
                          "where it began": {1: [*MOVES[1], 5, enter(300, HOME[1], "work"), leave(310, HOME[1])], 2: MOVES[2]},
                          "in a third thread": {**MOVES, 3: [enter(20, HOME[3], "work"), 5, leave(380, HOME[3])]}}.items():
        is_not(f"events were lost {name}: its time is not known", threads, (1, 0, 0, 0))
    is_not("of a flight recorder, whose thread may have been anywhere", {1: MOVES[1], 2: MOVES[2][2:]}, (1, 0, 0, 0), mode=FLIGHT)


def clocks():
    """Two CPUs' clocks are a little apart: a return stands before its entry, or behind the next one at its place."""
    is_joined("a return that its clock has put before the entry", {1: [enter(1000, FIBRE, "job"), enter(5000, FIBRE, "job")],
                                                                  2: [leave(950, FIBRE), leave(5300, FIBRE)]}, 300, 300, calls=2)
    is_joined("a return that its clock has put behind the next entry", {
        1: [enter(1000, FIBRE, "job"), leave(2050, FIBRE)], 2: [enter(2000, FIBRE, "job"), leave(2500, FIBRE)]}, 1550, 1050, calls=2)
    is_not("by more than clocks are apart", {1: [enter(1000, FIBRE, "job")], 2: [leave(700, FIBRE), enter(5000, HOME[2], "work"),
                                                                                 leave(5001, HOME[2])]}, (1, 1, 1, 9000))


def of_program(program, has_callers):
    """Calls that are not shown as they were."""
    data = Writer()
    data.clock(0, 5000)
    data.module(1, "/usr/bin/prog", 0x400000)
    data.functions(1, {addr: name for name, addr in fibre_program.F.items()}, 1)
    for thread, events in program.events.items():
        data.thread(thread + 1, 1001 + thread, "worker", started=events[0][1])
        data.events(thread + 1, events)
    data.clock(10**9, 5000 + 10**9)
    data.end(program.end, sum(len(events) for events in program.events.values()))
    with open(PATH, "wb") as file:
        file.write(data.out)
    lines = sorted((json.loads(line) for line in run("replay", "--json").stdout.splitlines()), key=lambda line: line["start_ns"])
    shown, callers, stacks = {}, {}, {}
    for line in lines:
        key = line["tid"], line["start_ns"]
        above = stacks.setdefault((line["tid"], line["stack"]), [])
        del above[line["depth"]:]
        shown[key], callers[key] = line, above[-1] if above else None
        above.append(key)
    return [(call.function, call.start, line) for call in program.calls for key in [(1001 + call.thread, call.start)]
            for line in [shown.get(key)] if not line or not returned(call, line) or (has_callers and not is_as(call, line, program.end, callers[key]))]


def is_as(call, line, end, caller):
    took, thread, own = line["duration_ns"], line.get("returned_in") or line["tid"], call.caller
    ended = (line["end"], took, thread) == ("return", call.end - call.start, 1001 + call.returned_in) if call.end else \
        line["end"] in ("unwound", "open") and took >= call.unwound - call.start if call.unwound else \
        (line["end"], took) == ("open", end - call.start)
    in_thread = (1001 + own.thread, own.start) if own and own.thread == call.thread else None
    # What runs on another stack may be shown within what it interrupts, or is resumed by.
    return ended and line["self_ns"] <= took and (caller == in_thread or not own)


def returned(call, line):
    return not call.end or (line["end"], line["duration_ns"], line.get("returned_in") or line["tid"]) == (
        "return", call.end - call.start, 1001 + call.returned_in)


def totals_differ(program):
    """Functions whose calls' time in all is another than that of those that are not within one of the same."""
    said, of = report()
    want = {}
    for call in program.calls:
        if not call.is_recursive():
            want[call.function] = want.get(call.function, 0) + (call.end or program.end) - call.start
    tree = json.loads(run("graph", "--json").stdout)
    folded = [int(line.rsplit(" ", 1)[1]) for line in run("export", "--folded").stdout.splitlines()]
    return [(name, total, of[name]) for name, total in want.items() if of[name]["total_ns"] != total] or \
        said["returns_without_entry"] or sum(folded) != own_time(tree["calls"]) or sum(folded) != sum(row["self_ns"] for row in of.values())


def own_time(nodes):
    return sum((node["self_ns"] or 0) + own_time(node["children"]) for node in nodes)


PROGRAMS = {
    "of 64 KiB": {}, "of 16 KiB": {"size": 16384}, "of 1 MiB": {"size": 1 << 20},
    "many of them": {"stacks": 200, "size": 16384, "threads": 4},
    "and signal handlers": {"signals": 0.05}, "and generators": {"generators": 0.05, "stacks": 12, "size": 16384},
    "and longjmp()": {"unwind": 0.05, "size": 16384}}
# Where nothing tells which of two stacks a call is on: what returns is as it was.
UNCLEAR = {
    "of 4 KiB": {"size": 4096, "deepest": 5}, "and big frames": {"size": 1 << 18, "big": True},
    "that are given up, and used again": {"abandon": 0.2, "size": 16384},
    "all of these": {"unwind": 0.03, "abandon": 0.1, "signals": 0.03, "generators": 0.03, "stacks": 20, "size": 16384, "steps": 3000}}


def programs():
    for name, how in {**PROGRAMS, **UNCLEAR}.items():
        wrong, moves = [], 0
        for seed in range(2):
            program = fibre_program.Program(seed, **how)
            wrong += of_program(program, name in PROGRAMS)
            moves += program.moves
            if name in PROGRAMS and "unwind" not in how:
                wrong += [totals_differ(program)] if totals_differ(program) else []
        ok(not wrong and moves > 30, f"stacks side by side, {name}: each call is as it was", moves, wrong[:3])


def anything(seed):
    """Events in any order, at few places: no crash, and each call and each return is counted once."""
    random.seed(seed)
    threads = {}
    for number in 1, 2, 3:
        ticks, events = 0, []
        for _ in range(random.choice((3, 30, 300))):
            ticks += random.randrange(0, 5)
            place = FIBRE - 8 * random.randrange(0, 4)
            kind = random.choice((ENTRY, ENTRY, RETURN, RETURN, TAIL, CALL))
            events.append((kind, ticks, place, random.choice(list(NAMES)) if kind in (ENTRY, CALL) else 0))
            if random.random() < 0.02:
                events.append(3)
        threads[number] = [*events, enter(ticks, FIBRE, "job")]
    write(threads, mode=random.choice((0, FLIGHT)))
    counts = [sum(not isinstance(e, int) and e[0] in kinds for of in threads.values() for e in of) for kinds in ((ENTRY, CALL), (RETURN, TAIL))]
    done = run("report", "--json")
    said = json.loads(done.stdout or "{}")
    rows = said.get("functions", [])
    ended = sum(row["timed"] - row["open"] - row["unwound"] for row in rows)
    return not run("replay").returncode and sum(row["calls"] for row in rows) == counts[0] and \
        ended <= counts[1] - said["returns_without_entry"] <= ended + sum(row["unwound"] for row in rows)


def main():
    joined()
    not_joined()
    clocks()
    programs()
    bad = [seed for seed in range(60) if not anything(seed)]
    ok(not bad, "events in any order: each is counted once", bad)
    return finish()


sys.exit(main())
