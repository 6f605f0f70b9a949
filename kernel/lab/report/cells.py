# SPDX-License-Identifier: MIT
"""The cells of the laboratory: which there are, and what a boot of the kernel says of them.

A cell is a scheme in a hazard on an emulator. Its verdict is a word of lab.h, or

    unfinished   the emulator had more time than it should need, and did not come to the end;
                 so nothing is known
"""
import re

NAMES = {"qemu": "QEMU", "bochs": "Bochs"}

# What no boot may be taken for: a scheme that fails. It is run again with more time.
UNFINISHED = "unfinished"
VERDICTS = ("survives", "fails", "no-window", "n/a", "held", "missed", "cannot", "unseen")

CET = ["shadow-stack", "shadow-irq", "shadow-storm"]
MACHINE_CHECKS = ["path-mc", "mc-call", "sti-mc", "reuse-mc"]
TIMED_NMI = ["sti-nmi", "reuse-nmi"]
STORMS = ["storm", "shadow-storm"]
SCHEDULED = {"line-schedules": "line", "page-schedules": "page"}

CELL = re.compile(r"# lab (\S+) (\S+) (" + "|".join(VERDICTS) + r"): (.*)")
COST = re.compile(r"# lab cost (\S+): (.*)")
BEGIN = re.compile(r"# lab begin (\S+) (\S+)")
DEATH = re.compile(r"not ok \d+ - (.*)")


class Cell:
    """One result. @how: what was wrong, of the first call that was. @seed: the schedule that
    showed it."""

    def __init__(self, verdict, how="", seed="", details=""):
        self.verdict, self.how, self.seed, self.details = verdict, how, seed, details

    @classmethod
    def of_line(cls, verdict, details):
        """From what the kernel says."""
        how = re.split(r"[,;]", details)[0] if verdict == "fails" else ""
        return cls(verdict, how, details=details)

    @classmethod
    def of_text(cls, text):
        """From the table."""
        text, _, seed = text.partition(" @")
        verdict, _, how = text.partition(": ")
        return cls(verdict, how, seed)

    def text(self):
        return self.verdict + (f": {self.how}" if self.how else "") + \
            (f" @{self.seed}" if self.seed else "")

    def hits(self):
        found = re.search(r"(\d+) hits", self.details)
        return int(found.group(1)) if found else 0


def hazards_of(groups):
    return [hazard["id"] for group in groups for hazard in group["hazards"]]


def by_chance(scheme, hazard):
    """A storm is not aimed: where a failure takes two events in a row, it may find it or not."""
    return hazard in STORMS and scheme.get("storm") == "chance"


def compiler_of(cost):
    """By what the kernel of a cell of the costs was built."""
    return cost.verdict.rpartition(", built by ")[2]


def differ(hazard, cell, other):
    """Whether @cell is not as in the table. A storm may find one failure before another, a schedule
    may show it under another seed, and how many instructions a handler has is the compiler's: they
    are compared where it is the same one."""
    if hazard == "cost":
        if compiler_of(cell) == compiler_of(other):
            return cell.verdict != other.verdict
        rest = [re.sub(r"\d+ instructions, |, built by .*", "", c.verdict) for c in (cell, other)]
        return rest[0] != rest[1]
    if hazard in STORMS:
        return cell.verdict != other.verdict
    return cell.text().partition(" @")[0] != other.text().partition(" @")[0]
