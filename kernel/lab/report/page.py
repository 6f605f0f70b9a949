# SPDX-License-Identifier: MIT
"""doc/debate.md, from table.txt and debate.toml: nothing in it depends on a run."""
from . import cells
from .cells import NAMES

# One letter for how a call went wrong, by the first of these that its description has.
LETTERS = [("#CP", "c", "#CP, the control protection fault of shadow stacks"),
           ("#", "x", "another exception"),
           ("the kernel ends", "x", ""),
           ("unknown int3", "i", "an int3 that nobody knows"),
           ("wrong target", "t", "the wrong target, perhaps a wrong return address too"),
           ("wrong return address", "r", "the right target, but a wrong return address"),
           ("wrong stack", "s", "a wrong stack pointer"),
           ("interrupts not as before", "f", "a flag that has changed, IF or another"),
           ("flags changed", "f", ""),
           ("registers changed", "g", "a general register that has changed"),
           ("lockdep", "l", "lockdep would take interrupts for off where they are on"),
           ("", "r", "")]
NOTHING = {"n/a": "never traps", "no-window": "no window", "held": "held back by the emulator",
           "missed": "missed", "cannot": "not shown here", "unseen": "unseen"}


def letter(how):
    return next(sign for text, sign, _ in LETTERS if text in how)


def of_group(results, scheme, group):
    """The cells of a scheme in a group of hazards: hazard, emulator, cell."""
    return [(h["id"], e, results[scheme, h["id"], e]) for h in group["hazards"]
            for e in ("qemu", "bochs") if (scheme, h["id"], e) in results]


def mark(found):
    """✓, ✗ with letters, or –."""
    verdicts = {cell.verdict for _, _, cell in found}
    if "fails" in verdicts:
        signs = {letter(cell.how) for _, _, cell in found if cell.verdict == "fails"}
        return "✗ " + "".join(sorted(signs))
    return "✓" if "survives" in verdicts else "–"


def matrix(results, debate, schemes):
    groups = debate["groups"]
    yield "| scheme | " + " | ".join(g["title"] for g in groups) + " |"
    yield "| --- |" + " :-: |" * len(groups)
    for s in schemes:
        marks = [mark(of_group(results, s["id"], g)) for g in groups]
        yield f"| [{s['id']}](#{s['id']}) | " + " | ".join(marks) + " |"


def of_kind(debate, kind):
    return [s for s in debate["schemes"] if s.get("kind", "scheme") == kind]


def replay(scheme, hazard, emulator, cell):
    """The command that shows a cell again."""
    words, more = "lab", ""
    name = hazard
    if hazard in cells.MACHINE_CHECKS:
        more = " --mce"
    elif hazard in cells.STORMS and emulator == "qemu":
        more = " --icount"
    elif hazard in cells.CET:
        words = "cet lab"
    elif hazard in cells.TIMED_NMI and emulator == "bochs":
        words, more = "timed-nmi lab", " --schedule lockstep --turns 1000000000"
    elif hazard in cells.SCHEDULED:
        name = cells.SCHEDULED[hazard]
        words, more = "lab free", f" --schedule {cell.seed} --turns 20000"
    return (f'kernel/run.py {emulator} --cpus 2{more} '
            f'--append "{words} scheme={scheme} hazard={name} n=100"')


def first_failure(results, debate, scheme):
    """A failure of a scheme, where a call is aimed at if there is one."""
    found = [c for g in debate["groups"] for c in of_group(results, scheme, g)
             if c[2].verdict == "fails"]
    return found[0] if found else None


def verdict_words(found):
    """The cells of one hazard in words: by emulator where these differ."""
    said = {}
    for _, emulator, cell in found:
        words = NOTHING.get(cell.verdict, cell.verdict)
        if cell.verdict == "fails":
            words = "**fails**: " + cell.how
        if cell.seed:
            words += f" (schedule {cell.seed})"
        said.setdefault(words, []).append(NAMES[emulator])
    if len(said) == 1:
        return f"{next(iter(said))} ({', '.join(next(iter(said.values())))})"
    return "; ".join(f"{', '.join(names)}: {words}" for words, names in said.items())


def section(results, debate, s):
    yield f"### {s['id']}\n"
    yield f"**{s['title']}.** {s['who']}; {s['when']}.\n"
    yield "```\n" + s["code"].strip("\n") + "\n```\n"
    yield f"*The code:* {s['source'].strip()}\n"
    yield f"*Expected:* {s['expected'].strip()}\n"
    yield f"*Against it:* {s['against'].strip()}\n"
    yield f"*The run:* {s['shown'].strip()}\n"
    failure = first_failure(results, debate, s["id"])
    if failure:
        hazard, emulator, cell = failure
        yield (f"The first failure (`{hazard}`, {cell.how}) again:\n\n"
               f"    {replay(s['id'], hazard, emulator, cell)}\n")


def costs(results, debate):
    yield "| scheme | traps a call | instructions | outside of handlers | core syncs an update | bytes a site "\
        "| memory |"
    yield "| --- | --: | --: | --: | --: | --: | --- |"
    for s in of_kind(debate, "scheme") + of_kind(debate, "variant"):
        cell = results.get((s["id"], "cost", "bochs"))
        traps, way, behind, syncs = [word.split()[0] for word in cell.verdict.split(", ")[:4]] \
            if cell else ["?"] * 4
        yield f"| {s['id']} | {traps} | {way} | {behind} | {syncs} | {s['bytes']} | {s['memory']} |"


def appendix(results, debate):
    for g in debate["groups"]:
        yield f"### {g['title'][0].upper()}{g['title'][1:]}\n"
        yield g["text"].strip() + "\n"
        yield "\n".join(f"- `{h['id']}`: {h['text']}" for h in g["hazards"]) + "\n"
        hazards = [h["id"] for h in g["hazards"]]
        yield "| scheme | " + " | ".join(hazards) + " |"
        yield "| --- |" + " --- |" * len(hazards)
        for s in debate["schemes"]:
            row = [verdict_words([c for c in of_group(results, s["id"], g) if c[0] == h]) or "–"
                   for h in hazards]
            row = [r + (", by chance" if cells.by_chance(s, h) else "")
                   for r, h in zip(row, hazards)]
            yield f"| {s['id']} | " + " | ".join(row) + " |"
        yield ""


def core_lines(results, debate):
    for run in debate["core"]:
        for cpus in run["cpus"]:
            name = run["id"] + (f"-{cpus}" if len(run["cpus"]) > 1 else "")
            cell = results.get(("core", name, run["emulator"]))
            said = cell.text() if cell else "not run"
            yield (f"| {NAMES[run['emulator']]} | {cpus} | {run['text']} | "
                   f"{'all checks hold' if said == 'survives' else '**' + said + '**'} |")


def letters_text(results, debate):
    """The letters of the matrices, as few as there are."""
    found = {sign for s in debate["schemes"] for g in debate["groups"]
             for sign in mark(of_group(results, s["id"], g))[2:]}
    return "; ".join(f"`{sign}` {text}" for _, sign, text in LETTERS if text and sign in found)


def compilers_text(results):
    """What the kernels were built by whose instructions were counted."""
    return ", ".join(sorted({cells.compiler_of(cell) for (_, hazard, _), cell in results.items()
                             if hazard == "cost"}))


def lines(results, debate, text):
    """@text: text.md, whose lines {{...}} are replaced."""
    schemes = of_kind(debate, "scheme")
    parts = {
        "matrix": lambda: matrix(results, debate, schemes),
        "columns": lambda: (f"- **{g['title']}**: {g['short']}" for g in debate["groups"]),
        "schemes": lambda: (line for s in schemes for line in section(results, debate, s)),
        "variants": lambda: (f"- **{s['id']}**: {s['title']}" for s in of_kind(debate, "variant")),
        "variant-matrix": lambda: matrix_plain(results, debate, of_kind(debate, "variant")),
        "controls": lambda: (f"- **{s['id']}**: {s['title']}" for s in of_kind(debate, "control")),
        "control-matrix": lambda: matrix_plain(results, debate, of_kind(debate, "control")),
        "costs": lambda: costs(results, debate),
        "core": lambda: core_lines(results, debate),
        "cells": lambda: appendix(results, debate),
    }
    for line in text.split("\n"):
        name = line[2:-2] if line.startswith("{{") and line.endswith("}}") else None
        yield from parts[name]() if name else [
            line.replace("{{letters}}", letters_text(results, debate))
                .replace("{{compiler}}", compilers_text(results))]


def matrix_plain(results, debate, schemes):
    for line in matrix(results, debate, schemes):
        name = line[3:].partition("]")[0] if line.startswith("| [") else None
        yield line.replace(f"[{name}](#{name})", name) if name else line


def markdown(results, debate, text):
    return "\n".join(lines(results, debate, text)).rstrip("\n") + "\n"
