#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The commands that ask a running process: their files, messages, limits; several clients; an agent that lies.

usage: test_commands.py [--all] TOOL TARGET UNPROTECTED

Without --all a lie of an agent that is made at random is told to one command in turn, and there are fewer requests of any kind.

Controls: UNPROTECTED is TARGET with an agent that keeps the sessions of clients that have gone, writes to any
descriptor, says what it refuses on the process's standard error, and saves nothing at its end; a tool that opens its file first.
"""
import fcntl
import functools
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time

from agent_client import (HAS_ATTACH, LIMIT, answer, ask, connect, fds_of, is_well, run, socket_path, system_call,
                          take_place, tap, target, wait_until)

ALL = sys.argv[1] == "--all"
TOOL, TARGET, UNPROTECTED = map(os.path.abspath, sys.argv[1 + ALL:4 + ALL])
tool = functools.partial(run, TOOL)
check = tap.check
FORKS = 500 if ALL else 150  # many times what fills a small pipe with what their calls are recorded as
MANY = 60 if ALL else 30  # clients at once, of which an agent takes 16
REQUESTS = 600 if ALL else 200
NO_CHILDREN = {**os.environ, "SHUNT_AGENT_FORK": "0"}


def stats(pid):
    """Asked from here: to start the tool each time would take longer than what is waited for."""
    path = socket_path(pid)
    with connect(path) as client:
        text = ask(client, "stats") or ""
    return dict(line.split("\t", 1) for line in text.splitlines()[1:])


def tracer(pid):
    return stats(pid)["tracer"] or None


def has_events(pid):
    return int(stats(pid)["trace_events"]) > 20


def waits_for_end(pid):
    """Whether trace -p has begun its session: behind its last request it waits for keys, signals, the agent."""
    call = system_call(pid)
    return call[0] in ("poll", "ppoll") and call[2] == 3


# ------------------------------------------------------------------------------ files


def is_kept(pid, name, command):
    """Whether a request that is refused leaves the file's contents."""
    pathlib.Path(name).write_text("earlier")
    out = run(*command, "trace", "-p", pid, "-F", "no_such_function", "--for", "1ms", "-o", name)
    assert out.returncode == 1 and "no_such_function" in out.stderr, out
    return pathlib.Path(name).read_text() == "earlier"


def calls(name):
    out = tool("report", "--json", name)
    return sum(f["calls"] for f in json.loads(out.stdout)["functions"]) if out.returncode == 0 else 0


def files(folder):
    name = folder + "/out.trace"
    with target(TARGET) as (_, pid):
        check(is_kept(pid, name, [TOOL]), "trace -p: a refused request leaves an earlier file")
        script = folder + "/truncating"
        pathlib.Path(script).write_text(f'#!/bin/sh\nfor last; do :; done\n: >"$last"\nexec {TOOL} "$@"\n')
        os.chmod(script, 0o755)
        check(not is_kept(pid, name, [script]), "control: a tool that opens it first is seen")
        pathlib.Path(name).write_text("earlier")
        out = tool("snapshot", "-o", name, pid)
        check(out.returncode == 1 and "there has been no session" in out.stderr and
              pathlib.Path(name).read_text() == "earlier", "snapshot: and so does one without a session", out)
        check(sorted(os.listdir(folder)) == ["out.trace", "truncating"], "nothing is left beside it", os.listdir(folder))
        os.chmod(name, 0o640)
        link = folder + "/link"
        os.symlink("out.trace", link)
        trace = functools.partial(tool, "trace", "-p", pid, "-F", "traced", "--for", "100ms", "-o")
        check(trace(link).returncode == 0 and os.path.islink(link) and calls(name) > 0 and
              stat.S_IMODE(os.stat(name).st_mode) == 0o640, "a link's file is replaced, its mode stays")
        os.symlink("link-to-new", folder + "/dangling")
        os.symlink("new.trace", folder + "/link-to-new")
        check(trace(folder + "/dangling").returncode == 0 and os.path.islink(folder + "/dangling") and
              calls(folder + "/new.trace") > 0, "so is one to a file that is not there, and the link stays")
        os.symlink("round", folder + "/round")
        out = trace(folder + "/round")
        check(out.returncode == 1 and "round: Too many levels" in out.stderr and os.path.islink(folder + "/round"),
              "a link to itself", out)
        out = trace("/dev/null")
        check(out.returncode == 0 and stat.S_ISCHR(os.stat("/dev/null").st_mode), "a device stays one")
        check("0 lost, 0 without a return, 1 thread, 1 function, 0 switched off" in out.stderr, "the totals in words", out.stderr)
        out = trace("/dev/full")
        check(out.returncode == 1 and "No space left" in out.stderr, "a full one is said", out)
        fifo = folder + "/fifo"
        os.mkfifo(fifo)
        with open(folder + "/copy", "wb") as copy, subprocess.Popen(["cat", fifo], stdout=copy) as cat:
            check(trace(fifo).returncode == 0 and cat.wait() == 0 and calls(folder + "/copy") > 0,
                  "a pipe gets all at the end")
        out = trace(folder + "/none/out")
        check(out.returncode == 1 and "none/out: No such file" in out.stderr, "a folder that is not there", out)
        check(tracer(pid) is None, "and no session is left")
        tracing = subprocess.Popen([TOOL, "trace", "-p", str(pid), "-F", "traced", "-o", name],
                                   stderr=subprocess.DEVNULL)
        check(wait_until(lambda: tracer(pid)), "a session without an end")
        kept = folder + "/kept"
        pathlib.Path(kept).write_text("earlier")
        snapshot = tool("snapshot", "-o", kept, pid)
        check(snapshot.returncode == 1 and "keeps no calls to be saved" in snapshot.stderr and
              pathlib.Path(kept).read_text() == "earlier", "keeps nothing for snapshot, which leaves an earlier file", snapshot)
        tracing.kill()
        tracing.wait()
        check(wait_until(lambda: tracer(pid) is None) and calls(name) > 0,
              "a tool that is killed leaves a whole file, and no session")
        snapshot = tool("snapshot", "-o", kept, pid)
        check(snapshot.returncode == 1 and "no session runs, and the last one has kept no calls" in snapshot.stderr and
              pathlib.Path(kept).read_text() == "earlier", "of which snapshot says that it has kept nothing", snapshot)


# By the tool; by the program, in shunt_agent_stop(), which its target calls.
AGENT_ENDS = {"detach": lambda pid: tool("detach", pid), "shunt_agent_stop()": lambda pid: os.kill(pid, signal.SIGHUP)}


def agent_ended(program, end, name, *options):
    """The agent ends in the middle of a session: the tool's status and words, and whether the program goes on."""
    pathlib.Path(name).write_text("earlier")
    with target(program) as (process, pid):
        with subprocess.Popen([TOOL, "trace", "-p", str(pid), "-F", "traced", *options, "-o", name],
                              stderr=subprocess.PIPE, text=True) as tracing:
            wait_until(lambda: has_events(pid) and waits_for_end(tracing.pid))
            end(pid)
            words = tracing.stderr.read()
            # The tool ends with its connection, which the agent closes before it closes its socket.
            status, is_gone = tracing.wait(), wait_until(lambda: socket_path(pid) is None)
            return status, words, process.poll() is None and is_gone


def flight(folder):
    name = folder + "/flight.trace"
    for sig in signal.SIGUSR1, signal.SIGTERM, signal.SIGSEGV, signal.SIGKILL:
        with target(TARGET) as (process, pid):
            pathlib.Path(name).write_text("earlier")
            with subprocess.Popen([TOOL, "trace", "-p", str(pid), "-F", "traced", "--flight", "-o", name],
                                  stderr=subprocess.PIPE, text=True) as tracing:
                wait_until(lambda p=pid: tracer(p) and has_events(p))
                os.kill(pid, sig)
                process.wait()
                words = tracing.stderr.read()
                status = tracing.wait()
        if sig == signal.SIGKILL:
            check(status == 1 and "is lost" in words and pathlib.Path(name).read_text() == "earlier",
                  "control: what SIGKILL ends is lost, which is said, and the earlier file stays", words)
        else:
            check(status == 0 and calls(name) > 5,
                  f"--flight: what was kept when the process ended by {sig.name} is saved", words)
    for program, (what, end) in itertools.product((TARGET, UNPROTECTED), AGENT_ENDS.items()):
        status, words, goes_on = agent_ended(program, end, name, "--flight")
        if program == TARGET:
            check(status == 0 and goes_on and calls(name) > 5, f"--flight: what was kept when the agent was ended by {what} "
                  "is saved", words)
        else:
            check(status == 1 and "its agent has ended without saving it" in words and pathlib.Path(name).read_text() == "earlier",
                  f"control: an agent that does not save it, ended by {what}: it is lost, which is said", words)
    with target(TARGET) as (process, pid):
        check(tool("trace", "-p", pid, "-F", "traced", "--flight", "--for", "50ms", "-o", name).returncode == 0,
              "--flight ends")
        os.kill(pid, signal.SIGTERM)
        check(process.wait() == -signal.SIGTERM, "and the process's signals are as they were")


# --------------------------------------------------------------------- words and names


def cut_short(folder):
    """A recorded process that ends: whether its last calls are in the file."""
    name = folder + "/cut.trace"
    for sig in signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL:
        pathlib.Path(name).unlink(missing_ok=True)
        with target(TARGET) as (process, pid):
            with subprocess.Popen([TOOL, "trace", "-p", str(pid), "-F", "traced", "-o", name],
                                  stderr=subprocess.PIPE, text=True) as tracing:
                # What is in a ring only is not in the file yet: that is read while it is being written.
                assert wait_until(lambda p=pid: tracer(p) and calls(name) > 5)
                os.kill(pid, sig)
                process.wait()
                said = tracing.stderr.read()
                status = tracing.wait()
        if sig == signal.SIGUSR1:
            check(status == 0 and "last calls" not in said and calls(name) > 5, "control: exit() ends the file", said)
        else:
            check(status == 1 and f"last calls (up to 10 ms) may not be in {name}" in said and calls(name) > 5,
                  f"{sig.name}: its last calls are said not to be there", f"{status} {said}")
    for what, end in AGENT_ENDS.items():
        status, said, goes_on = agent_ended(TARGET, end, name)
        check(status == 0 and goes_on and "last calls" not in said and calls(name) > 5,
              f"an agent that is ended by {what} ends its recording, the program goes on", f"{status} {said}")
    status, said, goes_on = agent_ended(UNPROTECTED, AGENT_ENDS["shunt_agent_stop()"], name)
    check(status == 1 and goes_on and "last calls" in said, "control: one that does not leaves it without its end",
          f"{status} {said}")


def words():
    with target(TARGET) as (_, pid):
        keys = {k["name"]: k for k in json.loads(tool("list", pid, "--json").stdout)["keys"]}
        check(len(keys["many"]["choices"]) == 321, "a key with 320 choices has them all, and initial")
        line = next(l for l in tool("list", pid).stdout.splitlines() if " many " in l)
        check(line.count("plus_two") == 320, "in the table, too")


def names(folder):
    odd = os.fsencode(folder) + b'/a "b"\n\t\\c \xff\xc0\x80 \x1b[31m'
    os.mkdir(odd)
    program = odd + b"/prog\xe9 'x'"
    shutil.copy(TARGET, program)
    env = {**os.environ, "LD_LIBRARY_PATH": ":".join(library_folders())}
    with target(program, env=env) as (_, pid):
        wanted = program.decode("utf-8", "replace")
        for command in ["list", pid, "keys"], ["list", pid, "modules"], ["list", pid, "functions"], ["ps"]:
            out = tool(*command, "--json", text=False)
            try:
                text = json.dumps(json.loads(out.stdout), ensure_ascii=False)
            except ValueError as error:
                text = f"{error}: {out}"
            check("prog\ufffd 'x'" in text, f"JSON of {command[0]} {command[-1]} has an odd name", text[:300])
            table = tool(*command, text=False).stdout
            check(b"prog? 'x'" in table and b"\x1b" not in table and b"\xff" not in table,
                  f"the table of {command[0]} {command[-1]} has nothing that a terminal must not see")
        modules = json.loads(tool("list", pid, "modules", "--json").stdout)["modules"]
        check(any("".join(m["path"].split("\ufffd")) == "".join(wanted.split("\ufffd")) for m in modules),
              "its newline, tab, quote and backslash are as they are")


def words_of_keys():
    """What list prints set takes; by default the functions that can be traced."""
    with target(TARGET) as (_, pid):
        def value(name):
            return [r.split()[2:4] for r in tool("list", pid).stdout.splitlines() if r.split()[1] == name][0]
        check(value("debug")[0] == "off", "list: a static key is off")
        for to, shown in ("true", "on"), ("false", "off"), ("1", "on"), ("0", "off"):
            check(tool("set", pid, f"debug={to}").returncode == 0 and value("debug")[0] == shown, f"set: {to}")
        check(not tool("set", pid, "debug=+1").returncode and not tool("set", pid, "debug=+1").returncode and
              value("debug")[0] == "on" and "count: 2" in tool("list", pid, "-F", "debug").stdout, "list: and its count, above 1", tool("list", pid).stdout)
        check(json.loads(tool("list", "--json", "-F", "debug", pid).stdout)["keys"][0]["value"] == 2, "list: of JSON it is the count")
        check(tool("set", pid, "debug=maybe").returncode == 1, "set: nothing else")
        choices = tool("list", pid, "--values", "op").stdout.split()
        check(choices == ["initial", "plus_one", "plus_two"] and
              all(tool("set", pid, f"op={c}").returncode == 0 for c in choices), "list: all that set takes", choices)
        none = tool("list", pid, "-F", "nothing")
        check(none.stdout == "no keys of such a name\n", "list: no keys", none)
        few, many = tool("list", pid, "functions").stdout.splitlines(), tool("list", pid, "functions", "--all").stdout.splitlines()
        check(any(" traced " in r for r in few[1:]) and not any(r.split()[1:2] == ["no"] for r in few) and
              "cannot be traced (--all lists them)" in "\n".join(few) and len(many) > 10 * len(few) and
              any(r.split()[1] == "no" for r in many[1:]), "list: functions that can be traced, and how many others", few[:5])


def library_folders():
    with target(TARGET) as (_, pid):
        maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
    return {os.path.dirname(line[line.index("/"):]) for line in maps.splitlines() if "/libshunt" in line}


def silence(folder):
    requests = [["nonsense"], ["set", "debug=maybe"], ["set", "nothing=on"], ["trace", "filter=no_such_function"],
                ["trace", "nothing=1"], ["snapshot"], ["stop"]]
    for program, loud in (TARGET, False), (UNPROTECTED, True):
        with open(folder + "/stderr", "w+", encoding="utf-8") as file, target(program, stderr=file) as (_, pid):
            with connect(socket_path(pid)) as client, open(folder + "/file", "wb") as out:
                answers = [ask(client, *r, fds=[out.fileno()]) for r in requests]
            check(all(a and a.startswith("error ") for a in answers), "requests are refused", answers)
            said = pathlib.Path(file.name).read_text(encoding="utf-8")
            if loud:
                check(said, "control: one without protection says so on the process's standard error")
            else:
                check(not said, "and the process's standard error has no word of it", said)


# ----------------------------------------------------------------------- nothing to trace


def without_entries(process, folder, is_refused):
    for options in [], ["--flight"], ["--top"], ["--entries"]:
        check(*swap(is_refused(process.pid, *options, words="-fpatchable-function-entry"),
                    f"trace -p {' '.join(options)}: a program without entries: what to compile with"))
    check(*swap(is_refused(process.pid, "-F", "malloc", words="was compiled without room"),
                "-F: a function that has none"))
    check(*swap(is_refused(process.pid, "-F", "no*such", words="there is no function of such a name"),
                "-F: a name that nothing has"))
    check(wait_until(lambda: not socket_path(process.pid)), "no agent is left")
    tool("attach", process.pid)
    with connect(socket_path(process.pid)) as client, open(folder + "/raw", "wb") as out:
        check(ask(client, "trace", fds=[out.fileno()]).startswith("ok "),
              "control: asked by itself the agent begins a session of nothing")
    os.unlink(folder + "/raw")


def nothing(folder):
    """A word, status 1, and an earlier file stays: of a program without entries, and of filters that leave none."""
    name, program = folder + "/out.trace", shutil.which("cat")
    pathlib.Path(name).write_text("earlier")

    def is_refused(pid, *options, words):
        out = tool("trace", "-p", pid, "--for", "10ms", *options, "-o", name)
        return (out.returncode == 1 and words in out.stderr and len(out.stderr.splitlines()) == 1 and
                pathlib.Path(name).read_text() == "earlier" and os.listdir(folder) == ["out.trace"]), out

    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: system_call(process.pid)[0] == "read")
        if not HAS_ATTACH:
            check(*swap(is_refused(process.pid, words="SHUNT_AGENT=1 LD_PRELOAD=libshunt-agent.so.0"),
                        "trace -p: a program without an agent, where none can be put into it"))
        else:
            without_entries(process, folder, is_refused)
        process.stdin.close()
    with target(TARGET) as (_, pid):
        check(*swap(is_refused(pid, "-N", "*", words="that could be traced the filters leave none"), "-N: nothing is left"))
        check(*swap(is_refused(pid, "-F", "main", words="was compiled without room"), "-F: without an entry, beside one"))
        check(*swap(is_refused(pid, "-F", "traced", "-F", "no*such", words='"no*such"'), "-F: one of two matches nothing"))


def not_processes():
    """Each command has a word for what can have no agent, and status 1; 2 for what is no number of a process."""
    def refused(pid, words, status=1):
        bad = []
        for command in (["list"], ["stats"], ["set", "PID", "debug=on"], ["snapshot", "-o", "/dev/null"], ["detach"],
                        ["attach", "--timeout", "0.2"], ["trace", "--for", "1ms", "-o", "/dev/null", "-p"]):
            out = tool(*[pid if w == "PID" else w for w in command], *([] if "PID" in command else [pid]))
            if out.returncode != status or not out.stderr or (words not in out.stderr):
                bad.append(out)
        return bad

    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    check(*swap(empty(refused(child, "has ended (a zombie)")), "a zombie"))
    os.waitpid(child, 0)
    check(*swap(empty(refused(child, "no process")), "a process that is not there"))
    with target(TARGET) as (_, pid):
        thread = max(map(int, os.listdir(f"/proc/{pid}/task")))
        check(*swap(empty(refused(thread, f"is a thread of process {pid}")), "a thread of a process with an agent"))
    if "Kthread:\t1" in pathlib.Path("/proc/2/status").read_text():
        check(*swap(empty(refused(2, "is a thread of the kernel")), "a thread of the kernel"))
    for number in "0", "12x", "99999999999999999999":
        check(*swap(empty(refused(number, "", 2)), f"{number}: not the number of a process"))


def empty(bad):
    return not bad, bad


def together():
    """Two clients that set two keys each, at once: never one of one and one of the other."""
    with target(TARGET) as (_, pid):
        def setting(values):
            for _ in range(60):
                with connect(socket_path(pid)) as client:
                    ask(client, "set", *values)
        threads = [threading.Thread(target=setting, args=[v])
                   for v in (["debug=on", "op=plus_two"], ["debug=off", "op=plus_one"])]
        for thread in threads:
            thread.start()
        seen = set()
        while any(t.is_alive() for t in threads):
            with connect(socket_path(pid)) as client:
                rows = [line.split("\t") for line in ask(client, "keys").splitlines()]
            seen.add(tuple(r[3] for name in ("debug", "op") for r in rows if r[1:2] == [name]))
        check(seen <= {("1", "plus_two"), ("0", "plus_one")} and seen, "two clients that set at once: either's keys", seen)


def swap(found, what):
    return found[0], what, found[1]


# ----------------------------------------------------------------------------- clients


def places():
    with target(TARGET) as (_, pid):
        clients = [take_place(socket_path(pid)) for _ in range(16)]
        with subprocess.Popen([TOOL, "stats", str(pid)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
            time.sleep(0.2)
            late = waiting.poll()
            clients.pop().close()
            check(late is None and waiting.wait(LIMIT) == 0, "a client waits for a place")
        clients.append(take_place(socket_path(pid)))
        with connect(socket_path(pid)) as client:
            check(answer(client).startswith("error 11 "), "control: one that does not wait is refused")
        began = time.monotonic()
        out = tool("list", pid)
        check(out.returncode == 1 and "as many clients as it takes" in out.stderr and
              time.monotonic() - began >= 4.9, "for a limited time, and says so", out)
        check(json.loads(tool("ps", "--json").stdout)["version"] == 1, "ps goes on")
        for client in clients:
            client.close()
        many = [subprocess.Popen([TOOL, "stats", str(pid)], stdout=subprocess.DEVNULL) for _ in range(MANY)]
        check(not any([p.wait(LIMIT) for p in many]), f"{MANY} at once are all answered")


def stopped():
    with target(TARGET) as (_, pid):
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
        out = json.loads(tool("ps", "--json").stdout)["processes"]
        check([(p["state"], p["why"]) for p in out if p["pid"] == pid] == [("agent", "the process is stopped")],
              "ps does not wait for a process that is stopped")
        os.kill(pid, signal.SIGCONT)


def mute(listener, words):
    """An agent of this process that says @words to each client, one byte in a while, and nothing else."""
    def serve(client):
        with client:
            try:
                client.recv(4096)
                client.sendall(b"ok 11\nprotocol\t1\n")
                for i in range(len(words)):
                    client.sendall(words[i:i + 1])
                    time.sleep(0.3)
                while client.recv(4096):
                    pass
            except OSError:
                pass

    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def mute_processes(folder, kinds):
    """A process for each of @kinds, which are words."""
    children = []
    for words in kinds:
        ends = os.pipe()
        children.append(os.fork())
        if not children[-1]:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"{folder}/shunt-mute/{os.getpid()}-1")
            listener.listen(8)
            os.write(ends[1], b"x")
            mute(listener, words)
        os.read(ends[0], 1)
        for end in ends:
            os.close(end)
    return children


def silent(folder):
    """Agents that say hello and then nothing, or a byte now and then: ps has a limit for all of what each says."""
    os.mkdir(folder + "/shunt-mute")
    pids = mute_processes(folder, [b""] * 20 + [b"ok 900\n" + b"x" * 900])
    try:
        with target(TARGET) as (_, pid), subprocess.Popen([TOOL, "list", str(pids[0])], stdout=subprocess.DEVNULL,
                                                          stderr=subprocess.DEVNULL) as waiting:
            began = time.monotonic()
            found = {p["pid"]: p for p in json.loads(tool("ps", "--json").stdout)["processes"]}
            took = time.monotonic() - began
            check(all(p in found and "does not answer" in (found[p]["why"] or "") and found[p]["keys"] is None for p in pids),
                  "ps: agents that do not answer are said not to", [found.get(p) for p in pids])
            check(found[pid]["keys"] and not found[pid]["why"], "and those that do are not", found[pid])
            # One after the other it would be two seconds each.
            check(took < 2 * len(pids), f"{len(pids)} of them are not waited for one after the other", took)
            check(waiting.poll() is None, "control: list waits for an answer still")
            waiting.kill()
    finally:
        for child in pids:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def dead_clients(folder):
    for program, keeps in (TARGET, False), (UNPROTECTED, True):
        with target(program) as (_, pid):
            tracing = subprocess.Popen([TOOL, "trace", "-p", str(pid), "-F", "traced", "-o", folder + "/dead"],
                                       stderr=subprocess.DEVNULL)
            check(wait_until(lambda: tracer(pid)), "it is traced")
            out = tool("trace", "-p", pid, "--for", "1ms", "-o", folder + "/other")
            check(out.returncode == 1 and f"by process {tracing.pid} " in out.stderr and "traced" in out.stderr,
                  "another client is told by whom, and what", out)
            listed = [p for p in json.loads(tool("ps", "--json").stdout)["processes"] if p["pid"] == pid]
            check(listed[0]["tracer"].startswith(f"{tracing.pid} ") and listed[0]["traced_functions"] == 1,
                  "ps says so, too", listed)
            tracing.kill()
            tracing.wait()
            with connect(socket_path(pid)) as client, open(folder + "/new", "wb") as out:
                end = time.monotonic() + (1 if keeps else LIMIT)
                text = "error"
                while text.startswith("error") and time.monotonic() < end:
                    text = ask(client, "trace", "filter=traced", fds=[out.fileno()])
            if keeps:
                check(text.startswith("error 16 "), "control: without protection its session stays for ever", text)
            else:
                check(text.startswith("ok "), "one that dies takes its session back", text)


def beats(process, pid, patience):
    """Whether a process that forks all the time goes on, with a session to a pipe that nobody reads."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    with connect(socket_path(pid)) as client:
        try:
            text = ask(client, "trace", "filter=traced", "ring=4096", fds=[ends[1]])
        except OSError:
            text = "error"
        # Until the pipe is full, and once more as long.
        got, still = 0, time.monotonic()
        while got < FORKS and time.monotonic() - still < patience:
            more = os.read(process.stdout.fileno(), 4096) if readable(process.stdout) else b""
            got += len(more)
            still = time.monotonic() if more else still
    for end in ends:
        os.close(end)
    return text, got >= FORKS


def readable(file):
    import select  # pylint: disable=import-outside-toplevel
    return select.select([file], [], [], 0.1)[0]


def pipes():
    for program, is_safe in (TARGET, True), (UNPROTECTED, False):
        with target(program, "forking", env=NO_CHILDREN) as (process, pid):
            # A fork() waits for two seconds, and is made then all the same.
            text, goes_on = beats(process, pid, 10 if is_safe else 1.5)
            if is_safe:
                check(text.startswith("error 22 ") and goes_on, "no session to a pipe: the process goes on", text)
            else:
                check(text.startswith("ok ") and not goes_on,
                      "control: one to a pipe that nobody reads holds up its fork()", text)


# ------------------------------------------------------------------------------- fuzz


def descriptors(folder):
    """Of each kind that is no file to write to."""
    path = folder + "/read-only"
    pathlib.Path(path).write_text("x")
    pair = socket.socketpair()
    yield "a folder", os.open(folder, os.O_RDONLY)
    yield "a path", os.open(path, os.O_PATH)
    yield "a file for reading", os.open(path, os.O_RDONLY)
    yield "a socket", pair[0].detach()
    yield "a device", os.open("/dev/null", os.O_RDWR)
    yield "a terminal", os.openpty()[1]
    yield "an event counter", os.eventfd(0)
    yield "a process", os.pidfd_open(os.getpid())


def wrong_descriptors(folder):
    with target(TARGET) as (process, pid):
        path, before = socket_path(pid), fds_of(pid)
        for name, fd in descriptors(folder):
            with connect(path) as client:
                answers = [ask(client, *r, fds=[fd]) for r in (["trace", "filter=traced"], ["snapshot"],
                                                               ["trace", "mode=flight"])]
            check(all(a.startswith(("error 22 ", "error 9 ")) for a in answers), f"{name} is refused", answers)
            os.close(fd)
        check(wait_until(lambda: fds_of(pid) <= before) and process.poll() is None, "and none is left there")


def mutate(rng):
    known = [b"hello", b"keys", b"functions", b"modules", b"stats", b"set", b"trace", b"stop", b"snapshot"]
    words_of = [b"debug=on", b"debug=+1", b"op=plus_two", b"filter=traced", b"min=18446744073709551616", b"ring=0",
                b"ring=99999999999999", b"mode=flight", b"entries=1", b"path=/", b"=", b"a=", b"\\", b"\\x", b"*",
                b"[", b"\xff\xfe", b"\x00", b"%s%n", b"x" * 5000]
    text = b"\t".join([rng.choice(known)] + [rng.choice(words_of) for _ in range(rng.randrange(5))])
    if rng.random() < 0.3:
        text = bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
    if rng.random() < 0.2:
        text = text[:rng.randrange(len(text) + 1)]
    return text + (b"\n" if rng.random() < 0.9 else b"")


def fuzz():
    rng = random.Random(14)
    with target(TARGET) as (process, pid), tempfile.TemporaryFile() as file:
        path, before = socket_path(pid), fds_of(pid)
        for _ in range(REQUESTS):
            client = connect(path)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, file.fileno().to_bytes(4, "little"))]
            try:
                client.sendmsg([mutate(rng) or b"\n"], rights if rng.random() < 0.5 else [])
                if rng.random() < 0.5:
                    client.shutdown(socket.SHUT_WR)
                    client.recv(100)
            except OSError:
                pass
            client.close()
        check(is_well(path) and process.poll() is None, f"{REQUESTS} requests of any kind: the agent answers, the process lives")
        check(wait_until(lambda: fds_of(pid) <= before), "no descriptor is left")


def lie(listener, answers):
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            try:
                client.recv(4096)
                client.sendall(b"ok 11\nprotocol\t1\n")
                client.recv(4096)
                client.sendall(answers[0])
            except OSError:
                pass


def lying_agents(folder):
    """This process itself listens where an agent would."""
    os.mkdir(folder + "/shunt-lies")
    path = f"{folder}/shunt-lies/{os.getpid()}-1"
    answers = [b""]
    rng = random.Random(15)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)
        threading.Thread(target=lie, args=(listener, answers), daemon=True).start()
        kinds = [b"", b"ok", b"ok \n", b"ok -1\n", b"ok 99999999999999999999\n", b"ok 268435457\n", b"ok 5\nab",
                 b"error\n", b"error 0 x\n", b"error 99999 x\n", b"x" * 4096, b"\n", b"ok 0\n", b"ok 4\nkey\n",
                 b"ok 8\n\t\t\t\t\t\t\t\n", b"ok 6\n\\\\\\\t\\\n", b"ok 3\n\x00\x00\n"]
        by_hand = len(kinds)
        kinds += [b"ok 64\n" + bytes(rng.choice(b"key\tfunction\n\\\xff\x00 on") for _ in range(64)) for _ in range(60)]
        bad = []
        commands = [["list", os.getpid()], ["list", os.getpid(), "functions", "--json"], ["stats", "--json", os.getpid()],
                    ["set", os.getpid(), "a=on"]]
        for number, answers[0] in enumerate(kinds):
            for command in commands if ALL or number < by_hand else commands[number % 4:][:1]:
                out = tool(*command, text=False)
                if out.returncode not in (0, 1) or (out.returncode == 1) != bool(out.stderr):
                    bad.append((answers[0], command, out))
        check(not bad, f"{len(kinds)} lies of an agent: the tool ends in order", bad[:3])
        answers[0] = b"ok 4\nkey\n"
        check(tool("list", os.getpid()).returncode == 0, "control: a line that is too short is shown")


with tempfile.TemporaryDirectory() as top:
    for part in files, flight, cut_short, words, words_of_keys, names, silence, nothing, not_processes, together, places, stopped, silent, dead_clients, pipes, wrong_descriptors, fuzz, \
            lying_agents:
        where = f"{top}/{part.__name__}"
        os.mkdir(where)
        part(*[where] * part.__code__.co_argcount)
sys.exit(tap.end())
