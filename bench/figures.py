#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The figures of README.md (What it costs, Tracing), of doc/figures.md and of shunt_set_poke(3) (COSTS), each from its row.

    build/tools/shunt bench --json out.json && bench/figures.py out.json
    build/tools/shunt bench trace --json trace.json && bench/figures.py trace.json

Prints the lines as they belong there: the last column has the rows that they come from, as JSON names
them ("group: row").
"""
import json
import sys

AUTO = "auto: remap, "


class Rows:
    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            root = json.load(file)
        self.machine = root["machine"]
        self.rows = {(r["group"], r["name"]): r for r in root["rows"]}
        self.used = {}

    def get(self, group, name, what="median"):
        names = self.used.setdefault(group, [])
        if name not in names:
            names.append(name)
        return self.rows.get((group, name), {}).get(what, float("nan"))

    def take_used(self):
        text = "; ".join(f"{group}: " + "; ".join(names) for group, names in self.used.items())
        self.used = {}
        return text

    def ratio(self, group, name):
        return self.get(group, name, "ratio")


def calls(r):
    names = [
        ("**static call**", "static call"),
        ("static call, target beyond 2 GiB (a plugin)", "static call, far (veneer)"),
        ("static call on its trampoline", "static call, trampoline"),
        ("ifunc", "ifunc"),
        ("function pointer, always the same target", "pointer, one target"),
        ("call through the PLT", "PLT of a shared object"),
        ("retpoline", "retpoline"),
    ]
    yield f"direct call ({r.get('call', 'direct'):.2f} ns) | 1.00"
    for what, name in names:
        yield f"{what} | {r.ratio('call', name):.2f}"
    yield (
        "function pointer, 2 random targets; 8 | "
        f"{r.ratio('call', 'pointer, 2 random targets'):.1f}; "
        f"{r.ratio('call', 'pointer, 8 random targets'):.1f}"
    )
    yield f"(text) a static branch | {r.ratio('branch', 'static branch'):.2f} of a load and test"


def updater(r):
    one, int3, remap = "update, one thread", "update, int3", "update, remap"
    yield (
        "one update of one site, the process's only thread | "
        f"{r.get(one, 'static_call_update, auto'):.2f} us, "
        f"{r.ratio(one, 'static_call_update, auto'):.1f} x the bare write and `iret`; "
        f"all its system calls, bare: {r.get(one, 'all its system calls, auto'):.2f} us"
    )
    yield (
        f"the same by `int3` | {r.get(one, 'static_call_update, int3'):.1f} us, "
        f"{r.ratio(one, 'static_call_update, int3'):.1f} x its 3 bare writes and syncs"
    )
    yield (
        "another thread running: by `int3`; by remap (the default) | "
        f"{r.get(int3, 'static_call_update, a thread'):.1f} us, "
        f"{r.ratio(int3, 'static_call_update, a thread'):.1f} x its floor; "
        f"{r.get(remap, 'static_call_update, a thread, auto'):.1f} us, "
        f"{r.ratio(remap, 'static_call_update, a thread, auto'):.1f} x"
    )
    yield (
        "1,000 threads asleep, by remap | "
        f"{r.get(remap, 'static_call_update, 1,000 asleep, auto'):.1f} us, "
        f"{r.ratio(remap, 'static_call_update, 1,000 asleep, auto'):.1f} x its floor"
    )
    yield (
        "(shunt_set_poke(3)) the updater, hammered: int3; remap | "
        f"{r.get(int3, 'static_call_update, hammered'):.1f}; "
        f"{r.get(remap, 'static_call_update, hammered, auto'):.1f} us"
    )
    yield (
        "one update of 100,000 sites, another thread running | "
        f"{r.get('sites', '100000: one update, a thread'):.0f} ns a site; "
        f"{r.get('sites', '100000: 16 MiB, one update, a thread'):.0f} ns where they lie 160 bytes apart"
    )


def switches(r):
    one, flip = "update, one thread", "update, flip"
    yield (
        "one update of a static key: the process's only thread; another thread running; in the branch without end | "
        f"{r.get(one, 'static_branch_enable, flip'):.1f} us, {r.ratio(one, 'static_branch_enable, flip'):.1f} x "
        "the write of a byte and the core sync, bare; "
        f"{r.get(flip, 'static_branch_enable, a thread'):.1f} us, {r.ratio(flip, 'static_branch_enable, a thread'):.1f} x; "
        f"{r.get(flip, 'static_branch_enable, hammered'):.1f} us, {r.ratio(flip, 'static_branch_enable, hammered'):.1f} x; "
        f"all its system calls, bare: {r.get(flip, 'all its system calls, a thread'):.1f} us"
    )
    yield (
        "(shunt_set_poke(3)) a flip: the updater, a thread; hammered; floor; its system calls | "
        f"{r.get(flip, 'static_branch_enable, a thread'):.1f}; {r.get(flip, 'static_branch_enable, hammered'):.1f}; "
        f"{r.get(flip, 'floor, a thread'):.1f}; {r.get(flip, 'all its system calls, a thread'):.1f} us"
    )
    yield (
        "of 100,000 static branches, another thread running | "
        f"{r.get('sites', '100000: one switch, branches, a thread'):.0f} ns a branch, "
        f"{r.ratio('sites', '100000: one switch, branches, a thread'):.1f} x its floor; "
        f"{r.get('sites', '100000: 16 MiB, one switch, branches, a thread'):.0f} ns, "
        f"{r.ratio('sites', '100000: 16 MiB, one switch, branches, a thread'):.1f} x, where they lie 168 bytes apart"
    )
    yield (
        "a thread in the branch without end is held up by each; keeps, at 10,000 a second | "
        f"{r.get('stall', 'branches, 10,000 flips/s'):.1f} us; "
        f"{100 * r.ratio('hammer', 'branches, 10,000 flips/s'):.1f}% of its branches (of another key: "
        f"{r.get('stall', 'branches, 10,000 flips/s elsewhere'):.1f} us; "
        f"{100 * r.ratio('hammer', 'branches, 10,000 flips/s elsewhere'):.1f}%; of core syncs alone: "
        f"{100 * r.ratio('hammer', 'branches, 10,000 core syncs/s'):.1f}%)"
    )


def others(r):
    yield (
        "a thread calling at the site without end is held up by each update: by `int3`; by remap; by the same "
        "updates of a site on another page | "
        f"{r.get('stall', 'int3, 1,000 updates/s'):.0f} us; "
        f"{r.get('stall', 'remap, 1,000 updates/s'):.0f} us, asleep; "
        f"{r.get('stall', 'int3, 1,000 updates/s elsewhere'):.1f}, "
        f"{r.get('stall', 'remap, 1,000 updates/s elsewhere'):.1f} us"
    )
    yield (
        "(shunt_set_poke(3)) the same, 100 updates/s: int3; remap | "
        f"{r.get('stall', 'int3, 100 updates/s'):.0f}; {r.get('stall', AUTO + '100 updates/s'):.0f} us"
    )
    for wanted in ("1,000", "10,000"):
        ways = [f"{way}, {wanted} {what}" for way, what in (("int3", "updates/s"), ("remap", "updates/s"), ("branches", "flips/s"))]
        yield (
            f"it keeps, of its calls, at {wanted} updates a second: by `int3`; by remap; by flip (with the rate that was "
            "reached; and by the same updates of a site on another page) | "
            + "; ".join(
                f"{100 * r.ratio('hammer', way):.1f}% ({r.get('rate', way):,.0f} a second; "
                f"{100 * r.ratio('hammer', way + ' elsewhere'):.1f}%)"
                for way in ways
            )
        )
    work = [100 * r.ratio("hammer", f"{way}, 1,000 updates/s, with work") for way in ("int3", "remap")]
    yield (
        "the same at 1,000, with arithmetic between the calls: by `int3`; by remap | "
        f"{work[0]:.1f}%; {work[1]:.1f}% ({100 * r.ratio('hammer', 'no updates, 1,000 sleeps of 10 us/s'):.1f}% where a "
        "thread without arithmetic sleeps 10 us as often and nothing is updated)"
    )


def start(r):
    times = [r.get("startup", f"constructors, {n}") for n in ("scanned", "baked", "no sites known")]
    yield f"start-up with 100,000 sites: scanned; baked; none | {times[0]:.1f} ms; {times[1]:.2f} ms; {times[2]:.2f} ms"
    names = ("in the file, baked", "private and dirty at main, scanned", "private and dirty at main, baked")
    sizes = [r.get("memory", n) for n in names]
    yield (
        "memory a site: in a baked file; private, scanned; private, baked before the first update | "
        f"{sizes[0]:.0f} bytes; {sizes[1]:.0f}; {sizes[2]:.0f}"
    )


def tracing(r):
    kinds = ["-fpatchable-function-entry", "-pg -mfentry", "-fxray-instrument", "-finstrument-functions"]
    off = [r.ratio("trace, off", f"{k}, off") for k in kinds]
    yield (
        f"a function that can be traced and is not: {'; '.join(f'`{k}`' for k in kinds)} | "
        f"{'; '.join(f'{x:.2f}' for x in off)} x compiled without ({r.get('trace, off', 'compiled without'):.2f} ns)"
    )
    above = [r.get("trace, callback", f"{k}, counts, above") for k in kinds]
    yield (
        "a callback that counts: above the call, kinds as above (a bare stub that calls it); where it may change vector registers | "
        f"{'; '.join(f'{x:.1f}' for x in above)} ns ({r.get('trace, callback', 'a bare stub, counts, above'):.1f}); "
        f"{r.get('trace, callback', 'counts, vector registers saved'):.0f} ns"
    )
    one = [r.get("trace, callback", f"{k}, counts") for k in kinds]
    two = [r.get("trace, callback", f"{k}, counts, 2 threads") for k in kinds]
    yield (
        "the same on two threads at once, against one | "
        f"{'; '.join(f'{b / a:.2f}' for a, b in zip(one, two))} x"
    )
    clock = r.get("trace, recorded", "two clock reads")
    beyond = [r.get("trace, recorded", f"{k}, beyond two reads") for k in kinds]
    yield (
        "entry and return recorded, kinds as above, beyond two clock reads | "
        f"{'; '.join(f'{x:.0f}' for x in beyond)} ns ({clock:.0f} ns)"
    )
    one = [r.get("trace, recorded", f"{k}, recorded") for k in kinds]
    two = [r.get("trace, recorded", f"{k}, recorded, 2 threads") for k in kinds]
    yield (
        "the same on two threads at once, against one | "
        f"{'; '.join(f'{b / a:.2f}' for a, b in zip(one, two))} x"
    )
    yield (
        "recorded by others: uftrace; XRay's FDR, basic; counted alone: uprobe; int3 and signal | "
        f"{r.get('trace, peers', 'uftrace record'):.0f}; {r.get('trace, peers', 'LLVM XRay, FDR mode'):.0f}, "
        f"{r.get('trace, peers', 'LLVM XRay, basic mode'):.0f}; "
        f"{r.get('trace, peers', 'uprobe that counts'):.0f}; "
        f"{r.get('trace, peers', 'int3 and SIGTRAP that counts'):.0f} ns a call"
    )


def switching(r):
    def each(name):
        return f"{r.get('trace, switch', name):.0f}"

    for n in ("10", "10000"):
        rows = [f"{n}: functions, {way}, a thread in them" for way in ("on", "off")]
        poke = [f"{n}: text_poke_bp_batch, {way}, a thread in them" for way in ("on", "off")]
        yield (
            f"{int(n):,} functions switched on; off, with a thread in them | "
            f"{'; '.join(each(x) for x in rows)} ns a function "
            f"(a poke of as many places: {'; '.join(each(x) for x in poke)} ns)"
        )
    yield (
        "memory of a function: known; traced; of a thread: callbacks; recorded | "
        f"{r.get('trace, memory', 'a function that can be traced'):.0f}; "
        f"{r.get('trace, memory', 'a function that is traced'):.0f}; "
        f"{r.get('trace, memory', 'a thread in which a callback ran'):.0f}; "
        f"{r.get('trace, memory', 'a thread with one event'):.0f} bytes, and the ring"
    )


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    rows = Rows(sys.argv[1])
    machine = rows.machine
    print(machine["cpu"], machine["cpus"], "CPUs, Linux", machine["kernel"], machine["compiler"])
    print(f"load {machine['load_before']:.2f} .. {machine['load_after']:.2f}, quick: {machine['quick']}\n")
    is_trace = any(group.startswith("trace") for group, _ in rows.rows)
    for part in (tracing, switching) if is_trace else (calls, updater, switches, others, start):
        for line in part(rows):
            print(f"| {line} | {rows.take_used()} |")


if __name__ == "__main__":
    main()
