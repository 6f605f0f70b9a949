# SPDX-License-Identifier: MIT
"""Boots the kernel's laboratory on the emulators, and collects the cells."""
import os
import shutil
import subprocess

from . import cells
from .cells import Cell

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))
RUN = os.path.join(TOP, "kernel", "run.py")

# Seconds that a boot has, and by how much more it is tried again: 60, 240, 960.
PATIENCE, MORE, TRIES = 60, 4, 3


def emulators():
    return [e for e, program in (("qemu", "qemu-system-x86_64"), ("bochs", "bochs-bin"))
            if shutil.which(program)]


class Lab:
    """results[scheme, hazard, emulator]: Cell. @debate: what debate.toml says."""

    def __init__(self, images, debate, patience=PATIENCE, log=None):
        self.images, self.debate, self.patience, self.log = images, debate, patience, log
        self.results = {}
        self.controls = {s["id"] for s in debate["schemes"] if s.get("kind") == "control"}

    def boot(self, emulator, words, more=(), cpus=2, patience=None):
        """One run of the kernel: its lines, and whether it came to an end."""
        image = "kernel.multiboot" if emulator == "qemu" else "kernel.disk"
        run = subprocess.run(
            [RUN, emulator, "--cpus", str(cpus), "--timeout", str(patience or self.patience),
             "--image", os.path.join(self.images, image), "--append", words, *more],
            capture_output=True, text=True, check=False)
        lines = run.stdout.splitlines()
        return lines, not any("did not finish within" in line for line in lines)

    def put(self, scheme, hazard, emulator, cell):
        if hazard == "cost" and scheme in self.controls:
            return  # what a broken scheme costs is nobody's concern
        self.results[scheme, hazard, emulator] = cell
        if self.log:
            self.log(f"{scheme} {hazard} {emulator} {cell.text()} ({cell.details})")

    def boots(self, emulator, quick=False):
        """What is booted: hazards, the kernel's words, arguments of run.py, and the most rounds: a
        machine check takes a debugger ten messages and more. A storm is not aimed: its clock is
        the emulator's instructions, so that it is one. The timed NMI needs the CPUs in lockstep. @quick:
        what takes a boot of each emulator."""
        plain = [h for h in cells.hazards_of(self.debate["groups"])
                 if h not in cells.CET + cells.MACHINE_CHECKS + cells.STORMS
                 and h not in cells.SCHEDULED]
        if quick:
            return [(plain, "noselftest lab", [], 1000) if emulator == "qemu" else
                    (cells.TIMED_NMI, "noselftest timed-nmi lab",
                     ["--schedule", "lockstep", "--turns", "1000000000"], 100)]
        if emulator == "qemu":
            return [(plain, "noselftest lab", [], 1000),
                    (cells.MACHINE_CHECKS, "noselftest lab", ["--mce"], 60),
                    (["storm"], "noselftest lab", ["--icount"], 1000)]
        return [([h for h in plain if h not in cells.TIMED_NMI] + ["storm", "cost"],
                 "noselftest lab", [], 300),
                (cells.TIMED_NMI, "noselftest timed-nmi lab",
                 ["--schedule", "lockstep", "--turns", "1000000000"], 100),
                (cells.CET, "noselftest cet lab", [], 300)]

    def cells(self, emulator, words, schemes, hazards, more=()):
        """All @hazards for @schemes. A cell that ends the kernel is a failure; the next boot goes
        on behind it. A boot that does not come to its end says nothing of the cell that it was
        in: again, with more time. Yields scheme, hazard, Cell."""
        patience, tries = self.patience, 1
        left = [(s, h) for s in schemes for h in hazards]
        while left:
            which = sorted({s for s, _ in left})
            if len(which) > 1 and len(left) < len(schemes) * len(hazards):
                # Behind a boot that ended early: one by one. (A command line is a sector long.)
                for scheme in which:
                    yield from self.cells(emulator, words, [scheme],
                                          [h for s, h in left if s == scheme], more)
                return
            done, begun, death, finished = {}, None, "the emulator ended", True
            text = " ".join([words, "scheme=" + ("all" if len(which) > 1 else which[0]),
                             "hazard=" + ",".join(h for h in hazards
                                                  if any(l[1] == h for l in left))])
            lines, finished = self.boot(emulator, text, more, patience=patience)
            for line in lines:
                begin, cell = cells.BEGIN.match(line), cells.CELL.match(line)
                cost = cells.COST.match(line)
                if cost:
                    done[cost.group(1), "cost"] = Cell(cost.group(2))
                    begun = None
                elif begin:
                    begun = begin.groups()
                elif cell:
                    done[cell.group(1), cell.group(2)] = Cell.of_line(cell.group(3), cell.group(4))
                    begun = None
                elif cells.DEATH.match(line):
                    death = cells.DEATH.match(line).group(1)
            if begun and finished:
                done[begun] = Cell("fails", "the kernel ends", details=death)
            elif not finished and not done:
                if tries == TRIES:
                    stuck = begun or left[0]
                    done[stuck] = Cell(cells.UNFINISHED, details=f"{patience:g} s")
                    tries, patience = 1, self.patience
                else:
                    tries, patience = tries + 1, patience * MORE
            elif not done:
                return  # none of these are in this kernel
            for (scheme, hazard), cell in done.items():
                yield scheme, hazard, cell
            left = [l for l in left if l not in done]
            if finished and not begun:
                return

    def on(self, emulator, rounds, schemes, quick=False):
        """Everything that is the same each time, for @schemes in one boot of each sort."""
        for hazards, words, more, most in self.boots(emulator, quick):
            words += f" n={min(rounds, most)}"
            for s, h, cell in self.cells(emulator, words, schemes, hazards, more):
                self.put(s, h, emulator, cell)

    def schedules(self, schemes, seeds, rounds):
        """The two-CPU cells, left to themselves, under seeded schedules."""
        for scheme in schemes:
            for name, hazard in cells.SCHEDULED.items():
                self.put(scheme, name, "bochs", self.schedule(scheme, hazard, seeds, rounds))

    def schedule(self, scheme, hazard, seeds, rounds):
        hits, last = 0, Cell("unseen")
        for seed in seeds:
            more = ["--schedule", str(seed), "--turns", "20000"]
            for _, _, cell in self.cells("bochs", f"noselftest lab free n={rounds}", [scheme], [hazard],
                                         more):
                if cell.verdict in ("fails", cells.UNFINISHED):
                    cell.seed = str(seed)
                    return cell
                hits += cell.hits()
                last = cell
        return Cell("survives" if hits else last.verdict, details=f"{hits} hits")

    def core(self, runs, most_cpus=4):
        """The production path: not a scheme of the laboratory, but its row has the same form."""
        for run in runs:
            for cpus in run["cpus"]:
                if cpus <= most_cpus:
                    name = run["id"] + (f"-{cpus}" if len(run["cpus"]) > 1 else "")
                    self.put("core", name, run["emulator"], self.core_run(run, cpus))

    def core_run(self, run, cpus):
        patience = 5 * self.patience
        for _ in range(TRIES):
            lines, finished = self.boot(run["emulator"], run["words"], run.get("args", []), cpus,
                                        patience)
            if finished:
                break
            patience *= MORE
        else:
            return Cell(cells.UNFINISHED)
        bad = [line.partition(" - ")[2] for line in lines if line.startswith("not ok")]
        if "# kernel: exit 0" in lines and not bad:
            return Cell("survives", details="; ".join(
                line.partition(" - ")[2] for line in lines if line.startswith("ok")))
        return Cell("fails", (bad or ["the kernel ends"])[0].replace(": ", " "))
