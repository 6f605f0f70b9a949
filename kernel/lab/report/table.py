# SPDX-License-Identifier: MIT
"""kernel/lab/table.txt: the verdict of every cell. A run is held against it."""
import os

from . import cells
from .boots import TOP
from .cells import Cell

PATH = os.path.join(TOP, "kernel", "lab", "table.txt")
HEAD = ("# SPDX-License-Identifier: MIT\n"
        "# scheme hazard emulator verdict[: how] [@schedule]; by script/ring0 --accept. A run that\n"
        "# finds another verdict fails.\n")


def read(path=PATH):
    with open(path, encoding="utf-8") as file:
        lines = [line.rstrip("\n").split(" ", 3) for line in file if line[0] != "#"]
    return {(scheme, hazard, emulator): Cell.of_text(text)
            for scheme, hazard, emulator, text in lines}


def order(debate):
    schemes = [s["id"] for s in debate["schemes"]] + ["core"]
    hazards = cells.hazards_of(debate["groups"]) + ["cost"] + \
        [r["id"] + tail for r in debate["core"] for tail in ("", "-2", "-3", "-4")]
    return lambda key: (schemes.index(key[0]), hazards.index(key[1]), key[2])


def write(results, debate, path=PATH):
    with open(path, "w", encoding="utf-8") as file:
        file.write(HEAD)
        for key in sorted(results, key=order(debate)):
            file.write(" ".join(key) + " " + results[key].text() + "\n")


def changes(found, expected, debate, whole=True):
    """What is not as it was; a list of lines. @whole: a cell that was not run is a change too."""
    schemes = {s["id"]: s for s in debate["schemes"]}
    lines = []
    for key, cell in found.items():
        before = expected.get(key)
        if cell.verdict == cells.UNFINISHED or cells.by_chance(schemes.get(key[0], {}), key[1]):
            continue
        if before is None:
            lines.append(f"{' '.join(key)}: not in the table, found {cell.text()}")
        elif cells.differ(key[1], cell, before):
            lines.append(f"{' '.join(key)}: {before.text()} -> {cell.text()}")
    if whole:
        lines += [f"{' '.join(key)}: {cell.text()} -> not run"
                  for key, cell in expected.items() if key not in found]
    return lines


def unfinished(found):
    return [" ".join(key) for key, cell in found.items() if cell.verdict == cells.UNFINISHED]


def broken_controls(found, debate):
    """Controls that nothing was held against: they would prove nothing."""
    failing = {scheme for (scheme, _, _), cell in found.items() if cell.verdict == "fails"}
    return [f"the control {s['id']} does not fail" for s in debate["schemes"]
            if s.get("kind") == "control" and s["id"] not in failing]


def false_claims(results, debate):
    """What a text says of a cell that is not so."""
    for scheme in debate["schemes"]:
        for claim in scheme.get("claims", []):
            name, hazard, verdict, *emulator = claim.split()
            found = {cell.verdict for (s, h, e), cell in results.items()
                     if (s, h) == (name, hazard) and e in (emulator or ("qemu", "bochs"))}
            if not emulator:
                found -= {"cannot", "held"}
            if found != {verdict}:
                yield f"{scheme['id']}: says {claim}; found {', '.join(sorted(found)) or 'no cell'}"
