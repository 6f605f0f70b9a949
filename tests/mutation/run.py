#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Mutation: single faults are put into the library, each one that a user would suffer, and the
tests must notice each. Not a part of script/test: all of it takes some hours.

    tests/mutation/run.py                          all mutants of mutants/*.toml
    tests/mutation/run.py --only core/poke         those whose name or file has that in it
    tests/mutation/run.py --list                   say what there is, run nothing
    tests/mutation/run.py --check                  see that each applies, run nothing

A mutant is a table [[mutant]] of a TOML file:

    name      short, unique
    file      the source file
    old, new  the text that is replaced, which must occur exactly once, and by what
    harm      what a user would suffer
    by        tests that are tried first, if it is known which notice it; each must be there
    needs     a flag of the CPU (/proc/cpuinfo) without which it shows nothing: not tried there
    survives  why no test can notice it here; without it a mutant that survives is a failure

The sources are copied to a scratch directory for each job. There each mutant is put in, what a
test needs is built, and the tests are run, the cheapest first, until one fails. What came
of it is kept as JSON (--results): a mutant that was noticed is not tried again while it and its
file are what they were, one that survives while the tests are too. Exit status: 0 if every
mutant applies and compiles, and those that survive have a reason.
"""

import argparse
import hashlib
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

try:
    import tomllib
except ImportError:
    print("mutation: needs Python 3.11 or newer (tomllib)")
    sys.exit(77)  # to meson, a test that is skipped

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent

# Tests by suite, the cheapest first. Those of no suite named here are not run.
STAGES = [["unit"], ["api", "live", "keys", "traps", "bind"],
          ["modules", "closure", "interleave", "preserve"],
          ["sync", "signals", "unwind"], ["hostile", "tool", "torture", "gdb"], ["matrix"]]
LEAST_SECONDS = 30  # that a test is given, and ten times what it takes without a mutant
HANGS = "more than"


class Mutant:
    def __init__(self, table, entry):
        self.entry = entry  # the file that has it
        self.name, self.file = table["name"], table["file"]
        self.old, self.new = table["old"], table["new"]
        self.harm, self.by = table["harm"], table.get("by", [])
        self.survives, self.needs = table.get("survives"), table.get("needs")
        unknown = table.keys() - {"name", "file", "old", "new", "harm", "by", "needs", "survives"}
        if unknown or self.old == self.new or not self.harm:
            sys.exit(f"mutation: {self.name}: bad entry {' '.join(sorted(unknown))}")

    def put_into(self, text):
        """The changed text; None where it does not apply."""
        return text.replace(self.old, self.new) if text.count(self.old) == 1 else None


def read_mutants(directory, only):
    mutants = []
    for path in sorted(directory.glob("*.toml")):
        with open(path, "rb") as file:
            mutants += [Mutant(table, path.name) for table in tomllib.load(file)["mutant"]]
    names = [mutant.name for mutant in mutants]
    for name in {name for name in names if names.count(name) > 1}:
        sys.exit(f"mutation: two mutants are named {name}")
    return [m for m in mutants if not only or any(o in m.name or o in m.file for o in only)]


def flags_of_cpu():
    words = re.findall(r"(?m)^(?:flags|Features)\s*:(.*)$", pathlib.Path("/proc/cpuinfo").read_text())
    return set(words[0].split()) if words else set()


def digest(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def tracked_files():
    out = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                         cwd=SOURCE, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [path for path in out.split("\0") if path and (SOURCE / path).is_file()]


def is_failure(line):
    return re.match(r"\s*not ok |\[  FAILED  \] ", line) and "# TODO" not in line


class Test:
    def __init__(self, entry, targets, build):
        self.name = entry["name"]
        self.suites = [suite.split(":")[-1] for suite in entry["suite"]]
        self.command, self.env = entry["cmd"], entry["env"]
        self.workdir, self.protocol = entry["workdir"] or build, entry["protocol"]
        self.targets = [targets[name] for name in entry["depends"] if name in targets]

    def run(self, seconds):
        """None if it passes, or how it fails."""
        child = subprocess.Popen(self.command, cwd=self.workdir, env={**os.environ, **self.env},
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, errors="replace", start_new_session=True)
        running.add(child)
        late = threading.Event()
        timer = threading.Timer(seconds, lambda: (late.set(), end_group(child)))
        timer.start()
        # What it has left behind, with its output open, must not be waited for.
        threading.Thread(target=lambda: (child.wait(), end_group(child)), daemon=True).start()
        bad = next(filter(is_failure, child.stdout), None)
        if bad:
            end_group(child)  # the rest does not matter
        child.stdout.close()
        status = child.wait()
        running.discard(child)
        timer.cancel()
        if late.is_set():
            return f"{HANGS} {seconds:.0f} s"
        if bad:
            return bad.strip()[:160]
        if status and not (self.protocol == "exitcode" and status == 77):
            return f"exit status {status}"
        return None


running = set()  # a mutant may go round for ever


def end_all(*_):
    for child in list(running):
        end_group(child)
    os._exit(1)


def end_group(child):
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


class Scratch:
    """A copy of the sources, and a build directory."""

    def __init__(self, path):
        self.source, self.build = path / "source", path / "build"
        self.applied = None
        self.copy()
        if not (self.build / "build.ninja").exists():
            self.set_up()
        self.library = []
        self.tests = self.read_tests()

    def copy(self):
        wanted = set(tracked_files())
        for path in self.source.rglob("*") if self.source.exists() else []:
            if path.is_file() and str(path.relative_to(self.source)) not in wanted:
                path.unlink()
        for path in wanted:
            text = (SOURCE / path).read_bytes()
            there = self.source / path
            if not there.exists() or there.read_bytes() != text:
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_bytes(text)
                shutil.copymode(SOURCE / path, there)

    def set_up(self):
        env = dict(os.environ)
        if shutil.which("ccache") and "CC" not in env:
            env |= {"CC": "ccache gcc", "CXX": "ccache g++"}
        self.build.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["meson", "setup", self.build, self.source, "-Dtests=enabled",
                        "-Dman=disabled"], check=True, env=env,
                       stdout=subprocess.DEVNULL)

    def introspect(self, what):
        out = subprocess.run(["meson", "introspect", self.build, what], check=True,
                             stdout=subprocess.PIPE, text=True).stdout
        return json.loads(out)

    def read_tests(self):
        subprocess.run(["ninja", "-C", self.build, "build.ninja"], check=True,
                       stdout=subprocess.DEVNULL)
        targets = {target["id"]: os.path.relpath(target["filename"][0], self.build)
                   for target in self.introspect("--targets")}
        self.library = [path for path in targets.values() if path == "src/libshunt.a"]
        return [Test(entry, targets, self.build) for entry in self.introspect("--tests")]

    def make(self, tests):
        """What went wrong, or None. Without tests the library alone is compiled."""
        targets = sorted({target for test in tests for target in test.targets}) or self.library
        child = subprocess.Popen(["ninja", "-C", self.build, "--quiet", *targets], errors="replace",
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        running.add(child)
        said = child.communicate()[0]
        running.discard(child)
        return said[-3000:] if child.returncode else None

    def unknown(self, mutant):
        return set(mutant.by) - {test.name for test in self.tests}

    def put(self, mutant):
        self.take_out()
        path = self.source / mutant.file
        self.before = path.read_text()
        path.write_text(mutant.put_into(self.before))
        self.applied = mutant

    def take_out(self):
        if self.applied:
            (self.source / self.applied.file).write_text(self.before)
            self.applied = None

    def in_stages(self, by, deepest):
        """Lists of tests, in the order in which they are run, none twice."""
        yield [test for test in self.tests if test.name in by]
        seen = set(by)
        for suites in STAGES[:deepest]:
            stage = [test for suite in suites for test in self.tests
                     if suite in test.suites and not {"matrix", "long"} & set(test.suites) - {suite}
                     and test.name not in seen]
            seen |= {test.name for test in stage}
            yield stage


class Results:
    def __init__(self, path):
        self.path, self.lock = path, threading.Lock()
        self.all = json.loads(path.read_text()) if path.exists() else {}
        self.all.setdefault("tests", {})
        self.all.setdefault("mutants", {})

    def keep(self, kind, name, value):
        with self.lock:
            self.all[kind][name] = value
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps(self.all, indent=1, sort_keys=True) + "\n")
            new.replace(self.path)

    def seconds(self, test):
        return self.all["tests"].get(test.name, {}).get("seconds")


def measure(scratch, tests, results):
    """Each of @tests that was not, without a mutant. Those that fail are left out."""
    left = [test for test in tests if results.seconds(test) is None]
    if not left:
        return
    applied = scratch.applied
    scratch.take_out()
    error = scratch.make(left)
    if error:
        sys.exit(f"mutation: the sources do not build:\n{error}")
    for test in left:
        start = time.monotonic()
        wrong = test.run(600)
        results.keep("tests", test.name,
                     {"seconds": -1 if wrong else round(time.monotonic() - start, 1)})
        if wrong:
            print(f"# {test.name} fails without a mutant, and is left out: {wrong}", flush=True)
    if applied:
        scratch.put(applied)


def try_mutant(scratch, mutant, results, deepest):
    if scratch.unknown(mutant):
        return {"outcome": "names no test", "how": " ".join(sorted(scratch.unknown(mutant)))}
    scratch.put(mutant)
    for stage in scratch.in_stages(mutant.by, deepest):
        measure(scratch, stage, results)
        error = scratch.make(stage)
        if error:
            return {"outcome": "does not compile", "how": error}
        for test in sorted(stage, key=results.seconds):
            seconds = results.seconds(test)
            if seconds < 0:
                continue
            wrong = test.run(max(LEAST_SECONDS, 10 * seconds))
            if wrong:
                return {"outcome": "noticed", "by": test.name, "how": wrong}
    return {"outcome": "survives"}


def say(mutant, result):
    outcome = result["outcome"]
    words = {"noticed": f"by {result.get('by')}: {result.get('how')}",
             "survives": mutant.survives or mutant.harm}.get(outcome, result.get("how", ""))
    print(f"{outcome:9} {mutant.name}  ({mutant.file}): {words}", flush=True)


def work(scratch_path, todo, results, deepest):
    scratch = None
    while True:
        try:
            mutant, about = todo.get_nowait()
        except queue.Empty:
            break
        scratch = scratch or Scratch(scratch_path)
        start = time.monotonic()
        result = try_mutant(scratch, mutant, results, deepest)
        result |= about | {"seconds": round(time.monotonic() - start, 1)}
        results.keep("mutants", mutant.name, result)
        say(mutant, result)
    if scratch:
        scratch.take_out()


def key_of(mutant):
    return digest(mutant.old, mutant.new, (SOURCE / mutant.file).read_text())


def digest_of_tests():
    return digest(*(str(path) + (SOURCE / path).read_text(errors="replace")
                    for path in sorted(tracked_files())
                    if path.startswith("tests/") and not path.startswith("tests/mutation")))


def conclude(mutants, results, lacking):
    outcomes = {m.name: results.all["mutants"].get(m.name, {"outcome": "not run"}) for m in mutants}
    outcomes |= {m.name: {"outcome": "not tried"} for m in lacking}
    kinds = [outcome["outcome"] for outcome in outcomes.values()]
    bad = 0
    print()
    for mutant in mutants:
        outcome = outcomes[mutant.name]["outcome"]
        if outcome == "survives":
            print(f"{'survives, as is known' if mutant.survives else 'SURVIVES'}: {mutant.name}: "
                  f"{mutant.survives or mutant.harm}")
            bad += not mutant.survives
        elif outcome == "not tried":
            print(f"not tried, this CPU has no {mutant.needs}: {mutant.name}")
        elif outcome != "noticed":
            print(f"{outcome}: {mutant.name}")
            bad += 1
        elif outcomes[mutant.name]["how"].startswith(HANGS):
            print(f"noticed by a hang alone, which a busy machine can imitate: {mutant.name}")
        elif mutant.survives:
            print(f"noticed, though it is said to survive: {mutant.name}")
    print(f"{len(mutants)} mutants: {kinds.count('noticed')} noticed, {kinds.count('survives')} survive, "
          f"{len(mutants) - kinds.count('noticed') - kinds.count('survives')} neither")
    return bad != 0


def check(mutants):
    bad = [m for m in mutants if not (SOURCE / m.file).exists()
           or m.put_into((SOURCE / m.file).read_text()) is None]
    for mutant in bad:
        path = SOURCE / mutant.file
        n = path.read_text().count(mutant.old) if path.exists() else 0
        print(f"does not apply: {mutant.name}: {mutant.file} has the text {n} times: "
              f"bring `old` in {mutant.entry} up to date")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", action="append", metavar="TEXT", help="mutants with this in name or file")
    parser.add_argument("--list", action="store_true", help="list the mutants")
    parser.add_argument("--check", action="store_true", help="see that each applies")
    parser.add_argument("--mutants", type=pathlib.Path, default=HERE / "mutants",
                        help="directory of the TOML files")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at a time")
    parser.add_argument("--stages", type=int, default=len(STAGES), metavar="N",
                        help=f"no more than the first N of {len(STAGES)} stages of tests; 0: `by` alone")
    parser.add_argument("--scratch", type=pathlib.Path, default=SOURCE / "build-mutation",
                        help="directory for copies and builds")
    parser.add_argument("--results", type=pathlib.Path, help="JSON (default: in the scratch directory)")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    args = parser.parse_args()
    mutants = read_mutants(args.mutants, args.only)
    if args.list:
        for mutant in mutants:
            print(f"{mutant.name}  ({mutant.file}): {mutant.harm}"
                  + (f" [survives: {mutant.survives}]" if mutant.survives else ""))
        print(f"{len(mutants)} mutants")
        return 0
    bad = check(mutants)
    if args.check or bad:
        print(f"{len(mutants) - len(bad)} of {len(mutants)} mutants apply")
        return bool(bad)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_all)
    args.scratch.mkdir(parents=True, exist_ok=True)
    results = Results(args.results or args.scratch / "results.json")
    todo, tests, flags = queue.Queue(), digest_of_tests(), flags_of_cpu()
    lacking = [mutant for mutant in mutants if mutant.needs and mutant.needs not in flags]
    for mutant in mutants:
        if mutant in lacking:
            continue
        key, known = key_of(mutant), results.all["mutants"].get(mutant.name, {})
        same = known.get("key") == key and (
            known["outcome"] == "noticed"
            or known["tests"] == tests and known["stages"] >= args.stages)
        if args.again or not same:
            todo.put((mutant, {"key": key, "tests": tests, "stages": args.stages}))
    print(f"{todo.qsize()} of {len(mutants)} mutants to be tried", flush=True)
    threads = [threading.Thread(target=work, args=(args.scratch / str(i), todo, results, args.stages))
               for i in range(args.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return conclude(mutants, results, lacking)


if __name__ == "__main__":
    sys.exit(main())
