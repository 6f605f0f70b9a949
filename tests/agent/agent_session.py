# SPDX-License-Identifier: MIT
"""A session of `shunt trace -p`, in a process (ends_target.c) that does what it is told."""
import contextlib
import pathlib
import subprocess

from agent_client import LIMIT, wait_until

ENDS = {"x": "exit()", "a": "abort()", "k": "SIGKILL"}


def waits_for_end(trace):
    words = pathlib.Path(f"/proc/{trace.pid}/syscall").read_text().split()
    return len(words) > 2 and words[2] == "0x3"


def in_process(tool, target):
    """@session: the process's number, how it is told something, what the command says in the end, and the command."""
    @contextlib.contextmanager
    def session(*options):
        process = subprocess.Popen([target], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        pid = int(process.stdout.readline())
        trace = subprocess.Popen([tool, "trace", "-p", str(pid), *options], stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True)
        wait_until(lambda: trace.poll() is not None or waits_for_end(trace))

        def do(what):
            process.stdin.write(what)
            process.stdin.flush()
            if what not in ENDS:
                process.stdout.read(len(what))

        try:
            yield pid, do, lambda: (trace.communicate(timeout=LIMIT)[0], trace.returncode), trace
        finally:
            process.kill()
            process.wait()
    return session
