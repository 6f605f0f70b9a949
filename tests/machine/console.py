# SPDX-License-Identifier: MIT
"""Boots an emulated machine, as often as needed, and reads from its console what init.c says of the tests."""
import os
import re
import selectors
import subprocess
import time

# Seconds of the emulator's CPU time, which a busy host does not use up; and so many times as much of real time, for a
# machine that does nothing.
BOOT_SECONDS = 120  # until the first test begins
GRACE = 30  # by which the machine may be later than a test's own limit
PATIENCE = 10
SAID = 40  # lines of the console that are told of a machine that a test has ended


class Result:
    """How a test ended: "exit", "signal" or "timeout" with a value, or "machine": it took that with it. @spent: seconds of the
    emulator's CPU time, of which a busy host makes no more."""

    def __init__(self, how, value, seconds, output, spent=0):
        self.how, self.value, self.seconds, self.output, self.spent = how, value, seconds, output, spent


class Boot:
    """One run of the emulator. @limits: each test's limit in seconds. @copy: a file that gets what the console says."""

    def __init__(self, command, limits, tell, copy=None):
        self.limits, self.tell, self.copy = limits, tell, copy
        self.results, self.current, self.output, self.other = {}, None, [], []
        self.done = False
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.mark()

    def run(self):
        """Reads until the machine ends, or says nothing new of the tests for too long: then it is ended."""
        try:
            return self.read()
        finally:
            self.process.kill()
            self.process.wait()

    def read(self):
        selector = selectors.DefaultSelector()
        selector.register(self.process.stdout, selectors.EVENT_READ)
        os.set_blocking(self.process.stdout.fileno(), False)
        rest = b""
        while self.seconds_left() > 0:
            if not selector.select(min(self.seconds_left(), 5)):
                continue
            bytes_read = self.process.stdout.read()
            if bytes_read is None:
                continue
            if not bytes_read:
                return "ended"
            if self.copy:
                self.copy.write(bytes_read)
                self.copy.flush()
            *lines, rest = (rest + bytes_read).split(b"\n")
            for line in lines:
                self.line(line.decode("utf-8", "replace").rstrip("\r"))
        return "hung"

    def mark(self):
        self.since, self.spent = time.monotonic(), self.cpu_seconds()

    def cpu_seconds(self):
        try:
            with open(f"/proc/{self.process.pid}/stat", encoding="utf-8", errors="replace") as file:
                user, system = file.read().rpartition(")")[2].split()[11:13]
            return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        except OSError:
            return 0

    def seconds_left(self):
        limit = BOOT_SECONDS if self.current is None else self.limits[self.current] + GRACE
        return min(self.spent + limit - self.cpu_seconds(), self.since + limit * PATIENCE - time.monotonic())

    def line(self, line):
        begin = re.match(r"#begin (\d+)", line)
        end = re.match(r"#end (\d+) (\w+) (\d+) (\d+)", line)
        if begin:
            self.current, self.output, self.other = int(begin[1]), [], []
            self.mark()
        elif end and int(end[1]) == self.current:
            self.results[self.current] = Result(end[2], int(end[3]), int(end[4]) / 1000, "\n".join(self.output),
                                                self.cpu_seconds() - self.spent)
            self.tell(self.current, self.results[self.current])
            self.current = None
            self.mark()
        elif line.startswith("#done"):
            self.done = True
        elif line.startswith("|") and self.current is not None:
            self.output.append(line[1:])
        elif line.startswith("!") and self.current is not None:
            self.output.append(line)  # of standard error: as it is marked, no row is read in it
        else:
            self.other.append(line)

    def machine_result(self, how):
        """Of the test that was running when the machine @how."""
        said = self.output + [f"the machine {how}; its console:"] + self.other[-SAID:]
        return Result("machine", 0, time.monotonic() - self.since, "\n".join(said), self.cpu_seconds() - self.spent)


def run_tests(command, limits, tell, copy=None):
    """@command(first): the emulator's command, to begin with that test. @copy: as Boot has it. Returns the results, in which those that
    were not run are missing, and what was wrong with the machine itself, or None."""
    results, first = {}, 0
    while first < len(limits):
        boot = Boot(command(first), limits, tell, copy)
        how = boot.run()
        results.update(boot.results)
        if boot.done:
            return results, None
        if boot.current is None:
            return results, f"the machine {how} before test {first + len(boot.results)}:\n" + "\n".join(boot.other[-SAID:])
        results[boot.current] = boot.machine_result(how)
        tell(boot.current, results[boot.current])
        first = boot.current + 1
    return results, None
