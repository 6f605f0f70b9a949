#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The pictures of README.md, as SVG that can be read on a light and on a dark page.

    doc/pictures/draw.py            writes calls.svg, site.svg, ways.svg, layers.svg, tracing.svg beside it
    doc/pictures/draw.py --check    whether they are what it would write, and each text can be read on what is under it

calls.svg is of bench.json, what `shunt bench --json` wrote in the run that the picture names; tracing.svg of
slow_request.json, a session of examples/slow_request.c (`shunt trace --keep-all`, `shunt export --chrome`).
"""
import html
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
STYLE = """<style>
text{font:13px sans-serif;fill:#1f2328}.m{font-family:monospace}.s{font-size:11px;fill:#57606a}.b{font-weight:bold}
.own{fill:#0969da}.peer{fill:#8c959f}.warn{fill:#bc4c00}.line{stroke:#57606a;fill:none}.grid{stroke:#d0d7de}
.box{fill:#f6f8fa;stroke:#57606a}.mark{fill:#ddf4ff;stroke:#0969da}.hot{fill:#fff1e5;stroke:#bc4c00}.one{stroke:#cf222e;stroke-dasharray:4 3}
.on-own,.on-peer,.on-warn{font-size:11px}.on-own,.on-warn{fill:#ffffff}.on-peer{fill:#1f2328}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#c3cad3}.own{fill:#1f6feb}.peer{fill:#484f58}.warn{fill:#db6d28}
.line{stroke:#c3cad3}.grid{stroke:#30363d}.box{fill:#161b22;stroke:#9198a1}.mark{fill:#0c2453;stroke:#4493f8}
.hot{fill:#3d2400;stroke:#db6d28}.one{stroke:#f85149}
.on-peer{fill:#e6edf3}.on-warn{fill:#0d1117}}
</style>"""
PAGES = {"light": "#ffffff", "dark": "#0d1117"}
# What stands on what: text's class, shape's ("": the page).
TEXTS = [(text, shape) for text in ("text", ".s") for shape in ("", ".box", ".mark", ".hot")]
TEXTS += [(f".on-{kind}", f".{kind}") for kind in ("own", "peer", "warn")]


def fills(scheme):
    """Selector -> colour, on a light or on a dark page."""
    light, _, dark = STYLE.partition("@media (prefers-color-scheme:dark){")
    found = {"": PAGES[scheme]}
    for part in (light, dark) if scheme == "dark" else (light,):
        for names, rules in re.findall(r"([.\w,-]+)\{([^}]*)\}", part):
            fill = re.search(r"fill:(#[0-9a-f]{6})", rules)
            found.update({name: fill.group(1) for name in names.split(",") if fill})
    return found


def contrast(one, other):
    """Of two colours, as WCAG 2 defines it: 1 to 21; for text 4.5 is asked for."""
    def luminance(colour):
        parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def unreadable():
    """Lines that name the texts of too little contrast; the control is a pair that there once was."""
    assert contrast("#0d1117", "#484f58") < 4.5
    return [f"{scheme}: {text} on {shape or 'the page'}: {value:.1f}"
            for scheme in PAGES for text, shape in TEXTS
            if (value := contrast(fills(scheme)[text], fills(scheme)[shape])) < 4.5]


class Picture:
    def __init__(self, width, height, title):
        self.size = width, height
        self.parts = [f"<title>{html.escape(title)}</title>", STYLE]

    def add(self, text):
        self.parts.append(text)

    def text(self, x, y, words, kind="", anchor="start"):
        self.add(f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{html.escape(words)}</text>')

    def rect(self, x, y, w, h, kind):
        self.add(f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="3" class="{kind}"/>')

    def line(self, x1, y1, x2, y2, kind="line", arrow=False):
        self.add(f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" class="{kind}"/>')
        if arrow:
            dx, dy = x2 - x1, y2 - y1
            length = (dx * dx + dy * dy) ** 0.5
            ux, uy = dx / length, dy / length
            left = (x2 - 8 * ux + 4 * uy, y2 - 8 * uy - 4 * ux)
            right = (x2 - 8 * ux - 4 * uy, y2 - 8 * uy + 4 * ux)
            self.add(f'<path d="M{left[0]:g} {left[1]:g}L{x2:g} {y2:g}L{right[0]:g} {right[1]:g}" class="line"/>')

    def labelled(self, x, y, w, h, kind, lines):
        self.rect(x, y, w, h, kind)
        top = y + h / 2 - 9 * len(lines) + 13  # of all lines, the middle is the box's
        for i, (words, how) in enumerate(lines):
            self.text(x + 10, top + 18 * i, words, how)

    def write(self):
        w, h = self.size
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}">\n'
                + "\n".join(self.parts) + "\n</svg>\n")


def calls():
    with open(HERE / "bench.json", encoding="utf-8") as file:
        root = json.load(file)
    rows = {r["name"]: r for r in root["rows"] if r["group"] == "call" and "median" in r}
    names = [("direct", "direct call"), ("static call", "static call"), ("pointer, one target", "function pointer, one target"),
             ("ifunc", "ifunc"), ("static call, trampoline", "static call on its trampoline"), ("PLT of a shared object", "PLT of a shared object"),
             ("static call, far (veneer)", "static call, target beyond 2 GiB"), ("pointer, 2 random targets", "function pointer, 2 random targets"),
             ("pointer, 8 random targets", "function pointer, 8 random targets"), ("retpoline", "retpoline")]
    left, top, bar, scale = 250, 62, 26, 52
    p = Picture(860, top + bar * len(names) + 78, "What a call costs")
    bottom = top + bar * len(names) + 4
    p.text(20, 24, "What a call costs, in direct calls of the same run", "b")
    p.text(20, 42, "shorter is better; bars: medians, from zero; lines: from the lower to the upper quartile, against the median direct call", "s")
    for x in range(0, 12, 2):
        p.line(left + scale * x, top - 4, left + scale * x, bottom, "grid")
        p.text(left + scale * x, bottom + 16, f"{x}", "s", "middle")
    direct = rows["direct"]["median"]
    for i, (row, label) in enumerate(names):
        r, y = rows[row], top + bar * i
        ratio = r["ratio"]
        p.text(left - 8, y + 16, label, "b" if row.startswith("static") else "", "end")
        p.rect(left, y + 3, scale * ratio, bar - 8, "own" if row.startswith("static") else "peer")
        low, high = ratio * r["low_quartile"] / r["median"], ratio * r["high_quartile"] / r["median"]
        p.line(left + scale * low, y + bar / 2 - 1, left + scale * high, y + bar / 2 - 1)
        p.text(left + scale * max(ratio, high) + 6, y + 16, f"{ratio:.2f}")
    p.line(left + scale, top - 4, left + scale, bottom, "one")
    p.text(left + scale, bottom + 32, f"1 = a direct call, {direct:.2f} ns", "s", "middle")
    machine = root["machine"]
    p.text(20, bottom + 54, f"shunt bench at {root['commit']}, {root['date']}: {machine['cpu']}, {machine['cpus']} CPUs (virtual), "
           f"Linux {machine['kernel'].split('-')[0]}, {machine['compiler']}", "s")
    p.text(20, bottom + 70, "blue: static calls; grey: what they are compared with", "s")
    return p.write()


def site():
    p = Picture(860, 300, "A site, its trampoline and its targets, before and after an update")
    for x, title, target, code in ((20, "before", "add()", "call  add"), (445, "after static_call_update(op, mul)", "mul()", "call  mul")):
        p.text(x, 26, title, "b")
        p.labelled(x, 44, 175, 62, "mark", [("the site, in your function", "s"), (code, "m b")])
        p.labelled(x + 225, 44, 160, 40, "mark" if target == "add()" else "box", [("add()", "m")])
        p.labelled(x + 225, 104, 160, 40, "mark" if target == "mul()" else "box", [("mul()", "m")])
        p.line(x + 175, 75, x + 225, 64 if target == "add()" else 124, arrow=True)
        p.labelled(x, 172, 175, 62, "box", [("the trampoline, __SCT__op", "s"), ("jmp  *key.func", "m")])
        p.labelled(x + 225, 172, 160, 62, "box", [("the key, __SCK__op", "s"), ("func = " + target[:-2], "m")])
        p.line(x + 175, 203, x + 225, 203, arrow=True)
    p.text(20, 262, "The update rewrites the four bytes of the site's displacement. Whatever calls the trampoline (a pointer to it, code that ran", "s")
    p.text(20, 280, "before the library was loaded, a module without relocations) goes through the key: the same function, one jump more.", "s")
    return p.write()


def ways():
    p = Picture(860, 360, "One update by int3 and by remap, in time")

    def lane(y, name, steps):
        p.text(20, y + 24, name, "b")
        x = 130
        for words, width, kind in steps:
            p.rect(x, y, width, 38, kind)
            p.text(x + width / 2, y + 23, words, "s", "middle")
            x += width

    p.text(20, 26, "by int3: three steps of single bytes, each with a core sync", "b")
    lane(40, "updater", [("cc over the first byte", 150, "hot"), ("core sync", 70, "box"), ("the tail", 80, "mark"), ("core sync", 70, "box"),
                         ("the first byte", 110, "mark"), ("core sync", 70, "box")])
    lane(90, "a caller", [("calls old", 130, "box"), ("traps: SIGTRAP handler does the call, old or new", 290, "hot"), ("calls new", 260, "mark")])
    p.text(130, 146, "the commit, one store, stands between old and new; a trap whose handler comes late reads the byte again and returns to it", "s")
    p.text(20, 190, "by remap: the page is exchanged whole", "b")
    lane(204, "updater", [("map the file's page again", 170, "box"), ("copy, with the change", 150, "box"), ("mremap() over the old", 150, "hot"), ("core sync", 70, "box")])
    lane(254, "a caller", [("calls old", 320, "box"), ("waits in its page fault", 150, "hot"), ("calls new", 210, "mark")])
    p.text(130, 310, "no trap, no signal: whoever comes to the page while it is exchanged sleeps until it is there", "s")
    p.text(20, 342, "Widths are not to scale: what each costs is in the table of costs.", "s")
    return p.write()


def layers():
    p = Picture(860, 330, "The layers of Shunt")
    p.labelled(20, 20, 820, 50, "mark", [("your program: static_call(op)(...), static_branch_unlikely(&flag), register_ftrace_function(), text_poke_bp()", "")])
    p.labelled(20, 86, 820, 66, "box", [("src/core: the protocol, freestanding", "b"), ("keys, sites, batches; int3, remap, flip; emulation of a trapped call; function tracing. No libc, no system call, no lock of its own", "s")])
    p.labelled(20, 168, 820, 40, "hot", [("include/shunt/port.h: write text, sync cores, deliver traps, lock, allocate", "")])
    p.labelled(20, 224, 400, 86, "box", [("src/linux: a process", "b"), ("/proc/self/mem, mremap, membarrier, SIGTRAP,", "s"), ("modules and their relocations, inspection", "s")])
    p.labelled(440, 224, 400, 86, "box", [("kernel/: ring 0", "b"), ("the very same objects of the core, under interrupts and NMIs,", "s"), ("on QEMU and Bochs", "s")])
    return p.write()


def recorded_calls():
    """Thread -> calls (name, from, to, depth), in us since the first event; the threads in order of their coming."""
    with open(HERE / "slow_request.json", encoding="utf-8") as file:
        events = [e for e in json.load(file)["traceEvents"] if e["ph"] in "BE"]
    begin = min(e["ts"] for e in events)
    threads, stacks = {}, {}
    for e in sorted(events, key=lambda e: e["tid"]):
        threads.setdefault(e["tid"], [])
        stack = stacks.setdefault(e["tid"], [])
        if e["ph"] == "B":
            stack.append(e)
        else:
            began = stack.pop()
            threads[e["tid"]].append((began["name"], began["ts"] - begin, e["ts"] - begin, len(stack)))
    return threads


KIND_OF = {"main": "box", "serve": "mark", "handle_request": "own", "look_up": "peer", "wait_for_disk": "warn"}


def draw_calls(p, x, y, width, span, threads):
    """Lanes of one thread each, for the time from span[0] to span[1] us; what would be narrower than half a pixel is drawn so."""
    scale = width / (span[1] - span[0])
    for tid, found in threads.items():
        p.text(20, y + 14, "main thread" if any(c[0] == "main" for c in found) else f"thread {tid}", "s")
        deepest, drawn_to = max(c[3] for c in found), {}
        for name, start, end, depth in sorted(found, key=lambda c: (c[3], c[1])):
            left, right = x + scale * (max(start, span[0]) - span[0]), x + scale * (min(end, span[1]) - span[0])
            w = max(right - left, 0.5)
            if start > span[1] or end < span[0] or (w < 2 and left < drawn_to.get(depth, 0)):
                continue
            drawn_to[depth] = left + w + 0.5
            p.add(f'<rect x="{left:.1f}" y="{y + 18 * depth}" width="{w:.1f}" height="17" class="{KIND_OF[name]}"/>')
            if w > 7 * len(name) + 8:
                p.text(left + 4, y + 18 * depth + 13, name, f"on-{KIND_OF[name]}" if KIND_OF[name] in ("own", "peer", "warn") else "s")
        y += 18 * (deepest + 1) + 12
    return y


def tracing():
    threads = recorded_calls()
    last = max(c[2] for found in threads.values() for c in found)
    slow = max((c for found in threads.values() for c in found if c[0] == "handle_request"), key=lambda c: c[2] - c[1])
    count = sum(c[0] == "handle_request" for found in threads.values() for c in found)
    early = min(c[1] for found in threads.values() for c in found if c[0] == "serve") - 5
    p = Picture(860, 470, "A recorded session: a server with one slow request")
    p.text(20, 24, f"examples/slow_request.c, recorded by shunt trace: {count} requests, one of {(slow[2] - slow[1]) / 1000:.1f} ms", "b")
    p.text(20, 42, f"the whole session, {last / 1000:.1f} ms: the other requests are the lines at its left", "s")
    y = draw_calls(p, 120, 56, 720, (0, last), threads)
    p.text(20, y + 18, f"the first {160 - early:.0f} us of the two threads that serve, where all but one of the requests are answered", "s")
    serving = dict(list(threads.items())[1:])
    y = draw_calls(p, 120, y + 30, 720, (early, 160), serving)
    x = 120
    for name, kind in KIND_OF.items():
        p.rect(x, y + 6, 14, 14, kind)
        p.text(x + 20, y + 18, name + "()", "s")
        x += 140
    p.size = 860, y + 34
    return p.write()


def main():
    wrong = 0
    for name, draw in ("calls", calls), ("site", site), ("ways", ways), ("layers", layers), ("tracing", tracing):
        path = HERE / f"{name}.svg"
        text = draw()
        if sys.argv[1:] != ["--check"]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path.name} is not what draw.py writes", file=sys.stderr)
            wrong = 1
    for line in unreadable():
        print(f"too little contrast: {line}", file=sys.stderr)
        wrong = 1
    return wrong


sys.exit(main())
