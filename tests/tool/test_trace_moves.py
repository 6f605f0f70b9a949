#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Calls that begin in one thread and return in another, for their coroutine has moved there, as shunt report, replay and
graph show them: on files that trace_writer.py makes, where each time is known.

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
HOME = {1: 0x7FFD00010000, 2: 0x7F1000010000, 3: 0x7F2000010000}  # those of the threads


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
    is_not("another call was at its place, and has returned", {**MOVES, 3: [enter(200, FIBRE, "outer"), leave(250, FIBRE)]},
           (1, 1, 1, OPEN))
    is_not("another call was at its place, and is open", {**MOVES, 3: [enter(200, FIBRE, "outer")]}, (1, 1, 1, OPEN), 0)
    is_not("a return from before it began", {1: MOVES[1], 2: [leave(90, FIBRE)]}, (1, 1, 1, OPEN))
    is_not("another place", {1: MOVES[1], 2: [leave(400, FIBRE + 8)]}, (1, 1, 1, OPEN))
    is_not("another function", {1: [enter(100, FIBRE, "job")], 2: [leave(400, FIBRE, name="inner")]}, (1, 1, 1, OPEN), kind=INSTRUMENT)
    for name, threads in {"where it returns": {1: MOVES[1], 2: [*MOVES[2][:-1], 5, MOVES[2][-1]]},
                          "where it began": {1: [*MOVES[1], 5, enter(300, HOME[1], "work"), leave(310, HOME[1])], 2: MOVES[2]},
                          "in a third thread": {**MOVES, 3: [enter(20, HOME[3], "work"), 5, leave(380, HOME[3])]}}.items():
        is_not(f"events were lost {name}: its time is not known", threads, (1, 0, 0, 0))
    is_not("of a flight recorder, whose thread may have been anywhere", {1: MOVES[1], 2: MOVES[2][2:]}, (1, 0, 0, 0), mode=FLIGHT)


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
    bad = [seed for seed in range(60) if not anything(seed)]
    ok(not bad, "events in any order: each is counted once", bad)
    return finish()


sys.exit(main())
