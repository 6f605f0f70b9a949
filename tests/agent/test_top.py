#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""shunt trace --top, on a terminal (tmux), and where there is none.

usage: test_top.py TOOL TARGET

What is typed right behind the key that ends it, in the same write to the terminal, is the shell's.

Controls: what a terminal is left like is compared with what it was like before; a program that does not put it back
(a shell that switches echo off and shows the alternate screen) is seen. So is one that reads more than its key.
"""
import itertools
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

from agent_client import run, tap, target, wait_until

TOOL, TARGET = map(os.path.abspath, sys.argv[1:3])
check = tap.check
TABLE = re.compile(r"CALLS/S +CALLS +SELF% +AVG +MAX +FUNCTION")


def plain(folder):
    with target(TARGET) as (_, pid):
        out = run(TOOL, "trace", "-p", pid, "-F", "traced", "--top", "--for", "2500ms", cwd=folder)
        tables = TABLE.findall(out.stdout)
        rows = [int(n) for n in re.findall(r"^ +\d+ +(\d+) .* traced \[agent_target\]$", out.stdout, re.MULTILINE)]
        check(out.returncode == 0 and len(tables) >= 2 and "\033" not in out.stdout, "-p: lines, each second", out)
        check(rows == sorted(rows) and rows and rows[-1] > 10, "calls are counted", out.stdout)
        check(os.listdir(folder) == [], "no file is kept")
        out = run(TOOL, "trace", "-p", pid, "-F", "traced", "--top", "--for", "1200ms", "-o", folder + "/kept")
        report = run(TOOL, "report", folder + "/kept")
        check(out.returncode == 0 and report.returncode == 0 and " traced [" in report.stdout,
              "with -o one is", report)
        with subprocess.Popen([TOOL, "trace", "-p", str(pid), "-F", "traced", "--top"],
                              stdout=subprocess.PIPE) as top:
            top.stdout.readline()
            top.stdout.close()
            check(top.wait(60) == 0, "a reader that goes away ends it")
        with open("/dev/full", "w", encoding="ascii") as full:
            out = subprocess.run([TOOL, "trace", "-p", str(pid), "-F", "traced", "--top", "-o", folder + "/kept"], stdout=full,
                                 stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        check(out.returncode == 1 and "the table: standard output: No space left" in out.stderr and
              run(TOOL, "report", folder + "/kept").returncode == 0,
              "a table that cannot be written ends it and is said, and the file is whole", out)
    with subprocess.Popen([TOOL, "trace", "--top", "--", TARGET], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env={**os.environ, "TMPDIR": folder}) as top:
        pid = int(top.stdout.readline())
        words = ""
        while "traced [" not in words:
            words += top.stderr.readline()
        top.send_signal(signal.SIGTERM)
        words += top.stderr.read()
        check(top.wait(60) == -signal.SIGTERM and TABLE.search(words), "a command: on standard error", words)
        check(wait_until(lambda: not os.path.exists(f"/proc/{pid}")) and os.listdir(folder) == ["kept"],
              "nothing is left of it")


def switched_off(folder):
    with target(TARGET, "hot") as (_, pid):
        for options, wanted in ((), True), (("--keep-all",), False):
            if wanted and "EMULATED_MACHINE" in os.environ:
                tap.skip("what is switched off is counted", "an emulator makes too few calls a second")
                continue
            out = run(TOOL, "trace", "-p", pid, "-F", "traced", "--top", *options, "--for", "2s", cwd=folder)
            check(out.returncode == 0 and (", 1 switched off" in out.stdout) == wanted and TABLE.search(out.stdout),
                  "what is switched off is counted" if wanted else "control: with --keep-all nothing is", out.stdout)


class Terminal:
    """A terminal of its own, with a shell in it. One client in control mode asks for everything: to start one each time is dear."""

    def __init__(self, folder):
        self.tmux = ["tmux", "-f", "/dev/null", "-S", folder + "/tmux"]
        self.folder = folder
        run(*self.tmux, "new-session", "-d", "-x", "100", "-y", "30", "sh", env={**os.environ, "PS1": "$ "})
        self.client = subprocess.Popen([*self.tmux, "-C", "attach-session", "-f", "ignore-size,no-output"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", errors="replace")
        self.answer()

    def answer(self):
        """What stands between %begin and %end; around it there are notifications."""
        lines = iter(self.client.stdout.readline, "")
        number = next(line for line in lines if line.startswith("%begin ")).split()[1:]
        return "".join(itertools.takewhile(lambda line: line.split()[1:] != number or line.split()[0] not in ("%end", "%error"), lines))

    def do(self, *words):
        self.client.stdin.write(" ".join(map(shlex.quote, words)) + "\n")
        self.client.stdin.flush()
        return self.answer()

    def keys(self, *keys):
        self.do("send-keys", *keys)

    def show(self, *what):
        out = self.do("display-message", "-p", " ".join(what)).strip()
        return out.split(" ") if len(what) > 1 else out

    def screen(self):
        return self.do("capture-pane", "-p")

    def sees(self, what):
        return wait_until(lambda: re.search(what, self.screen(), re.MULTILINE))

    def state(self):
        """Modes of the terminal, whether the cursor is seen, and which screen is shown."""
        tty, *flags = self.show("#{pane_tty}", "#{cursor_flag}", "#{alternate_on}")
        return (run("stty", "-a", "-F", tty).stdout, *flags)

    def run_until(self, command, what):
        self.keys(command, "Enter")
        return self.sees(what)

    def ends_as(self, before, word, *keys):
        """After these keys the shell has what is typed behind them, maybe before it has shown its prompt."""
        self.keys(*keys, f"echo {word[0]}''{word[1:]}", "Enter")
        return self.sees(rf"^([#$] )?{word}$") and wait_until(lambda: self.state() == before)

    def close(self):
        run(*self.tmux, "kill-server")
        self.client.communicate()


def ends(terminal, before, pid):
    top = f"{shlex.quote(TOOL)} trace -p {pid} -F traced --top"
    for number, (name, key) in enumerate((("q", "q"), ("Ctrl-C", "C-c"))):
        check(terminal.run_until(top, "CALLS/S") and terminal.show("#{alternate_on}") == "1",
              f"a table on the alternate screen ({number})")
        check(terminal.sees(r"traced \[agent_target\]"), "with the function")
        check(terminal.ends_as(before, f"after{number}", key), f"{name} ends it and leaves the terminal as it was",
              (terminal.state(), before, terminal.screen()))
    terminal.keys("clear", "Enter")
    terminal.run_until(top, "CALLS/S")
    terminal.do("resize-window", "-x", "60", "-y", "12")
    check(wait_until(lambda: all(len(l) <= 60 for l in terminal.screen().splitlines()) and
                    "CALLS/S" in terminal.screen() and terminal.show("#{alternate_on}") == "1"),
          "it follows the window's size", terminal.screen())
    terminal.keys("C-z")
    check(wait_until(lambda: terminal.show("#{alternate_on}") == "0") and
          wait_until(lambda: terminal.state()[1:] == before[1:]), "Ctrl-Z leaves it")
    terminal.keys("fg", "Enter")
    check(wait_until(lambda: terminal.show("#{alternate_on}") == "1") and terminal.sees("CALLS/S"), "fg brings it back")
    terminal.keys("q")
    terminal.do("resize-window", "-x", "100", "-y", "30")
    before = wait_steady(terminal)
    check(terminal.ends_as(before, "afterwards") and before[2] == "0", "and q ends it")


def wait_steady(terminal):
    wait_until(lambda: terminal.show("#{alternate_on}") == "0")
    # tmux tells the terminal of a new size a moment later.
    wait_until(lambda: all(word in terminal.state()[0] for word in (" echo ", " icanon", "rows 30; columns 100")))
    return terminal.state()


def killed(terminal, before):
    with target(TARGET) as (process, pid):
        terminal.run_until(f"{shlex.quote(TOOL)} trace -p {pid} -F traced --top", "CALLS/S")
        process.kill()
        check(terminal.sees(f"process {pid} has ended") and terminal.ends_as(before, "gone"),
              "the process's end ends it, too", terminal.screen())


def command(terminal, before):
    script = terminal.folder + "/command"
    pathlib.Path(script).write_text(f"#!/bin/sh\necho out of it\necho err of it >&2\nexec {shlex.quote(TARGET)}\n")
    os.chmod(script, 0o755)
    terminal.run_until(f"{shlex.quote(TOOL)} trace -F traced --top -- {script}", r"traced \[agent_target\]")
    check("of it" not in terminal.screen(), "a command's words do not disturb the table", terminal.screen())
    terminal.keys("q")
    check(terminal.sees("out of it") and terminal.sees("err of it"), "they are shown behind it", terminal.screen())
    check(terminal.ends_as(before, "finished", "C-c"), "Ctrl-C ends the command",
          (terminal.state(), before, terminal.screen()))
    terminal.run_until(f"clear; {shlex.quote(TOOL)} trace -F traced --top -- {script}", r"traced \[agent_target\]")
    check(terminal.ends_as(before, "again", "C-c"), "Ctrl-C in the table ends both",
          (terminal.state(), before, terminal.screen()))


def control(terminal, before):
    terminal.run_until("clear; stty -icanon -echo min 13; echo re''ady; dd bs=64 count=1 of=/dev/null 2>&1; "
                       "stty icanon echo min 1", "^ready")
    terminal.keys("q", "echo l''ost", "Enter")
    check(terminal.sees("1[0-9] bytes") and terminal.ends_as(before, "behind") and "lost" not in terminal.screen(),
          "control: a program that reads what is typed behind its key is seen", terminal.screen())
    terminal.keys("stty -echo; printf '\\033[?1049h\\033[?25l'", "Enter")
    check(wait_until(lambda: terminal.state() != before and terminal.show("#{alternate_on}") == "1"),
          "control: a terminal that is left otherwise is seen")


with tempfile.TemporaryDirectory() as top_folder:
    os.mkdir(top_folder + "/plain")
    plain(top_folder + "/plain")
    switched_off(top_folder + "/plain")
    version = shutil.which("tmux") and re.search(r"(\d+)\.(\d+)", run("tmux", "-V").stdout)
    if version and (int(version[1]), int(version[2])) >= (3, 2):  # clients that leave the size and the output alone
        pane = Terminal(top_folder)
        try:
            pane.sees(r"^[#$]")
            state = wait_steady(pane)
            with target(TARGET) as (_, number):
                ends(pane, state, number)
            killed(pane, state)
            command(pane, state)
            control(pane, state)
        finally:
            pane.close()
    else:
        tap.skip("on a terminal", "there is no tmux, of 3.2 or later")
sys.exit(tap.end())
