#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Completions of bash and zsh, by the Tab key on a terminal of theirs.

usage: test_completions.py TOOL TARGET FOLDER

Names are what another process says: none is expanded, neither by Tab nor by the line that it leaves.

Controls: a shell that has not read the file completes none of it; with words that bash expands (compgen -W), or that
zsh does not quote (compadd -Q), a name's command runs.
"""
import contextlib
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import sys
import tempfile
import time

from agent_client import run, tap, target

TOOL, TARGET, FOLDER = map(os.path.abspath, sys.argv[1:4])
check = tap.check
DONE = "line-is-"
LIMIT = 60


class Shell:
    def __init__(self, folder, *command):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            env = {**os.environ, "PATH": f"{os.path.dirname(TOOL)}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb",
                   "HOME": folder, "ZDOTDIR": folder, "INPUTRC": "/dev/null"}
            os.chdir(folder)
            os.execvpe(command[0], command, env)
        self.text = ""

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def sees(self, what):
        end = time.monotonic() + LIMIT
        while not re.search(what, self.text):
            if time.monotonic() > end or not select.select([self.fd], [], [], 1)[0]:
                if time.monotonic() > end:
                    return False
                continue
            with contextlib.suppress(OSError):
                self.text += os.read(self.fd, 65536).decode(errors="replace")
        return True

    def do(self, line):
        """Run it; true when it has ended."""
        mark = f"{DONE}{time.monotonic_ns()}"
        self.type(f"{line}; echo '{mark[:4]}''{mark[4:]}'\r")
        return self.sees(re.escape(mark))

    def complete(self, line):
        """What becomes of the line when Tab is pressed behind it."""
        self.text = ""
        # The line is an argument of one that prints it, in brackets of its own.
        self.type(line + "\t")
        time.sleep(0.05)
        self.type("\x01shown \x05\r")
        if not self.sees(r"<[^\n]*>end"):
            return self.text
        return re.findall(r"<([^\n]*)>end", self.text)[-1]

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def try_all(shell, name, pid):
    check(shell.complete("shunt snap") == "shunt snapshot", f"{name}: a command")
    check(shell.complete("shunt list --js") == "shunt list --json", f"{name}: an option, as --help has it")
    check(shell.complete("shunt trace --keep") == "shunt trace --keep-all", f"{name}: one of trace")
    start = str(pid)[:-1]
    check(str(pid) in shell.complete(f"shunt stats {start}").split()[-1] or
          shell.complete(f"shunt stats {pid}") == f"shunt stats {pid}", f"{name}: a process that has an agent")
    check(shell.complete(f"shunt trace -p {pid}") == f"shunt trace -p {pid}", f"{name}: behind -p")
    check(shell.complete(f"shunt set {pid} deb") == f"shunt set {pid} debug=", f"{name}: a key")
    check(shell.complete(f"shunt set {pid} op=plus_t") == f"shunt set {pid} op=plus_two", f"{name}: a choice")
    check(shell.complete(f"shunt set {pid} debug=of") == f"shunt set {pid} debug=off", f"{name}: a value")
    check(shell.complete(f"shunt list {pid} fun") == f"shunt list {pid} functions", f"{name}: what is listed")


RUNS = "touch ran"
# What begins each is the test's, for Tab to find it by.
NAMES = [start + name for start, name in zip("abcdefghwjklnqrstuv", (
    f"$({RUNS})", f"`{RUNS}`", f";{RUNS};", f"\n{RUNS}", f"|{RUNS}", f"<({RUNS})", "$HOME", "${HOME}", " b", "'s", 'quo"te',
    "*", "?[a-z]", "co:lon", "!!", "\\back", "{x,y}", "~root", "(e)"))]
DASH = "-dash $(touch ran)"
KEY = f"k$({RUNS}) 'key'"


def try_hostile(shell, name, pid, folder):
    ran = pathlib.Path(folder, "ran")
    for choice in [*NAMES, DASH]:
        printed = choice.replace("\n", "?")
        got = shell.complete(f"shunt set {pid} op={choice[:2] if choice == DASH else choice[0]}")
        check(got.rstrip() == f"shunt set {pid} op={printed}".rstrip() and not ran.exists(), f"{name}: {printed} is a name", got)
    got = shell.complete(f"shunt set {pid} k")
    check(got == f"shunt set {pid} {KEY}=" and not ran.exists(), f"{name}: that of a key, too", got)
    shell.complete(f"shunt set {pid} \t")
    shell.complete(f"shunt set {pid} op=\t")
    check(not ran.exists(), f"{name}: and where all of them are listed")


def try_control(shell, name, pid, folder):
    got = shell.complete(f"shunt set {pid} op=a")
    check(pathlib.Path(folder, "ran").exists(), f"{name}, control: the command in a name runs", got)


# "shown A B" prints what it was given.
SHOWN = "shown() { printf '<%s>end\\n' \"$*\"; }"


def try_shell(name, command, setup, pid):
    for is_control in False, True:
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, ".zshrc").write_text("unsetopt zle_bracketed_paste prompt_cr prompt_sp; bindkey -e\n")
            shell = Shell(folder, *command)
            try:
                ready = shell.do(SHOWN) and all(shell.do(line) for line in ([] if is_control else setup))
                check(ready, f"{name} runs", shell.text)
                if is_control:
                    check(shell.complete("shunt snap") == "shunt snap", f"{name}, control: without it nothing comes")
                else:
                    try_all(shell, name, pid)
            finally:
                shell.close()


def try_names(name, command, setup, weaken, pid):
    """@weaken: a text of the file, and what the control has instead."""
    for is_control in False, True:
        # What the control's shell has begun may still be making its file.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            pathlib.Path(folder, ".zshrc").write_text("unsetopt zle_bracketed_paste prompt_cr prompt_sp; bindkey -e\n")
            for file in "shunt.bash", "_shunt":
                text = pathlib.Path(FOLDER, file).read_text()
                pathlib.Path(folder, file).write_text(text.replace(*weaken) if is_control else text)
            shell = Shell(folder, *command)
            try:
                check(shell.do(SHOWN) and all(shell.do(line.replace(FOLDER, folder)) for line in setup), f"{name} runs again", shell.text)
                (try_control if is_control else try_hostile)(shell, name, pid, folder)
            finally:
                shell.close()


EXPANDED = ("done\n}", 'done < /dev/null\n\tmapfile -t COMPREPLY < <(compgen -W "$(cat)" -- "$1")\n}')

with target(TARGET) as (_, number), target(TARGET, "names", KEY, *NAMES, DASH) as (_, hostile):
    for shell_name, arguments, lines in (
            ("bash", ["bash", "--norc", "--noprofile", "-i"], [f"source '{FOLDER}/shunt.bash'"]),
            ("zsh", ["zsh", "-i"], [f"fpath=('{FOLDER}' $fpath)", "autoload -Uz compinit", "compinit -u -D"])):
        if shutil.which(shell_name):
            try_shell(shell_name, arguments, lines, number)
            try_names(shell_name, arguments, lines, EXPANDED if shell_name == "bash" else ("compadd --", "compadd -Q --"), hostile)
        else:
            tap.skip(shell_name, f"there is no {shell_name}")
    listed = re.findall(r"^  (\w+) ", run(TOOL, "--help").stdout, re.MULTILINE)
    for file in "shunt.bash", "_shunt":
        text = pathlib.Path(FOLDER, file).read_text()
        missing = [c for c in listed if c not in ("ps", "selftest", "bench") and not re.search(rf"\b{c}\b", text)]
        check(not missing, f"{file} knows what each command takes", missing)
sys.exit(tap.end())
