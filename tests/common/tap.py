# SPDX-License-Identifier: MIT
"""TAP: a line for each row of a test, behind one that failed the end of what was said, and the plan."""

LINES = 40  # of what was said
rows = failures = 0


def ok(good, name, *said, show=False):
    """Returns whether it is. With @show what was said is shown of a good row, too."""
    global rows, failures
    rows += 1
    failures += not good
    print(f"{'ok' if good else 'not ok'} {rows} - {name}", flush=True)
    if not good or show:
        for line in "\n".join(map(str, said)).splitlines()[-LINES:]:
            print(f"# {line}", flush=True)
    return good


def skip(name, why):
    global rows
    rows += 1
    print(f"ok {rows} - {name} # SKIP {why}", flush=True)


def finish():
    """Behind the last row: the program's exit status."""
    print(f"1..{rows}", flush=True)
    return 1 if failures else 0
