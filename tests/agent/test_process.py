#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What programs do to an agent in them, and who may ask it. TAP.

usage: test_process.py TOOL PROCESS SECURE LIBRARIES QUICK NO_OURS NO_RIGHTS KEEPS_FILES ... NO_SPARE NEVER_DEAF POLLS_ALL NAPS NOT_ROBUST SEES_NO_COPY

PROCESS has an agent, SECURE is the same program without Shunt in it. LIBRARIES: the folder src of the build.
QUICK and the others are agents to preload that look after their descriptors often; and without one protection.
"""
import contextlib
import json
import os
import pathlib
import random
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
from waiting import wait_until  # noqa: E402

TOOL, PROCESS, SECURE, LIBRARIES, QUICK, NO_OURS, NO_RIGHTS, KEEPS_FILES = sys.argv[1:9]
NO_SPARE, NEVER_DEAF, POLLS_ALL, NAPS, NOT_ROBUST, SEES_NO_COPY = sys.argv[-6:]
NOBODY = 65534
LIMIT = 30
count = failed = 0


def check(good, what, detail=""):
    global count, failed
    count += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {count} - {what}", flush=True)
    if not good:
        print("".join(f"# {line}\n" for line in str(detail).splitlines()), end="", flush=True)


def skip(what, why):
    global count
    count += 1
    print(f"ok {count} - {what} # SKIP {why}", flush=True)


@contextlib.contextmanager
def process(*mode, preload=None, env=None):
    """The process, and its number as it says."""
    env = dict(env or os.environ)
    if preload:
        env["LD_PRELOAD"] = preload
    p = subprocess.Popen([PROCESS, *mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    try:
        yield p, int(p.stdout.readline() or 0)
    finally:
        p.stdin.close()
        try:
            p.wait(LIMIT)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()


def tool(*arguments, **options):
    out = subprocess.run([TOOL, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=LIMIT, check=False, **options)
    return out.returncode, out.stdout


def answers(pid):
    return tool("stats", pid)[0] == 0


def sockets(pid):
    """Paths that were bound by a process of that number and are still there."""
    return [p for folder in (f"/run/user/{os.geteuid()}/shunt", f"/tmp/shunt-{os.geteuid()}")
            for p in pathlib.Path(folder).glob(f"{pid}-*")]


def lives():
    for mode in (["exec-start"], ["daemon"]):
        with process(*mode) as (_, pid):
            check(answers(pid), f"{mode[0]}: its agent answers", tool("stats", pid))
    with process("exec") as (_, pid):
        status, out = tool("stats", pid)
        check(status == 1 and "has no agent" in out, "exec of a program without: there is none", out)
    if os.geteuid():
        skip("chroot", "not root")
        skip("dropped rights", "not root")
        return
    with tempfile.TemporaryDirectory() as folder:
        with process("chroot", folder) as (_, pid):
            check(answers(pid), "behind chroot() it is reached", tool("stats", pid))
            status, out = tool("trace", "-p", pid, "--for", "10ms", "-o", "/dev/null")
            check(status == 1 and "no module's file could be read" in out and "(none)" not in out,
                  "and says that no function is found there, without /proc", out)
    with process("drop") as (_, pid):
        check(answers(pid), "behind setuid() root reaches it", tool("stats", pid))
        with tempfile.TemporaryDirectory() as place:
            os.chmod(place, 0o755)
            copy = [shutil.copy(TOOL, place), "stats", str(pid)]  # the other may be where nobody sees it
            out = as_nobody(lambda: subprocess.run(copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False).stdout)
            check(b"was started as another user" in out, "its new user is told that root does", out)


def copies():
    """By a bare fork(), which no handler sees: the agent stays the parent's, and the copy can have its own."""
    for what, text in (("exit", "a copy that exits"), ("stop", "that stops the agent it has not"),
                       ("start", "that starts one of its own"), ("fork", "that forks")):
        with process("copy", what) as (p, pid):
            check(pid and answers(pid), f"{text}: the parent's agent answers", (p.poll(), pid, pid and tool("stats", pid)))
    with process("copy", "exit", preload=SEES_NO_COPY) as (_, pid):
        check(pid and not answers(pid), "control: a copy that is not seen takes the parent's socket away", pid)
    with process("copy", "stop", preload=SEES_NO_COPY) as (_, pid):
        check(not pid, "control: and waits for ever for a thread that is not in it", pid)


def namespaces():
    """The program's first thread leaves those in which its agent is."""
    if os.geteuid():
        skip("namespaces", "not root")
        return
    with tempfile.TemporaryDirectory() as folder:
        for mode, what, is_hidden in (
                (["netns"], "network", lambda pid, path: path not in pathlib.Path(f"/proc/{pid}/net/unix").read_text()),
                (["mntns", folder], "mount", lambda pid, path: not os.path.exists(f"/proc/{pid}/root{path}"))):
            with process(*mode) as (p, pid):
                if not pid:
                    skip(f"another {what} namespace", "it may not be left")
                    continue
                check(is_hidden(pid, str(sockets(pid)[0])), f"control: by the first thread's {what} namespace it is not found")
                check(answers(pid), "by the agent's thread it is", tool("stats", pid))
                status, out = tool("detach", pid)
                check(status == 0 and p.poll() is None, "and detached", out)


def descriptors():
    with process("takes", preload=QUICK) as (p, pid):
        check(wait_until(lambda: p.poll() is not None or answers(pid)) and p.poll() is None,
              "all descriptors closed: it listens again", p.poll())
        time.sleep(0.3)  # a look more at what is the program's; either way it must be left alone
        check(p.poll() is None, "and the program's sockets under its numbers are left alone", p.poll())
    with process("takes", preload=NO_OURS) as (p, pid):
        time.sleep(0.5)  # five of its looks
        check(not answers(pid), "control: without the look whose they are it does not listen again", p.poll())


def ticks(pid):
    """Of the agent's thread."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rsplit(")", 1)
        if fields[0].endswith("(shunt-agent"):
            return sum(map(int, fields[1].split()[11:13]))
    return 0


def ask_one(pid):
    """A request that gets no answer: the connection's end is one."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(sockets(pid)[0]))
        client.sendall(b"hello\n")
    return True


def is_let_in(pid, limit=1):
    """Whether the agent answers, within so many seconds."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(sockets(pid)[0]))
        client.sendall(b"hello\n")
        client.settimeout(limit)
        with contextlib.suppress(TimeoutError):
            return client.recv(10).startswith(b"ok")
    return False


def full():
    """No number is left for another descriptor: whoever asks is answered, and it takes no CPU."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, limits[1]))  # below what poll() could be given
    try:
        with process("full") as (p, pid):
            before = descriptors_of(pid)
            got = [tool("stats", pid) for _ in range(3)]
            check(all(status == 0 for status, _ in got), "no descriptor is left: one client at a time is answered", got)
            with tempfile.TemporaryDirectory() as place:
                status, out = tool("trace", "-p", pid, "--for", "1s", "-o", place + "/trace")
            check(status == 1 and "no descriptor left" in out, "and told why nothing can be recorded", out)
            check(wait_until(lambda: descriptors_of(pid) == before), "its descriptors are as before", descriptors_of(pid))
            status, out = tool("detach", pid)
            check(status == 0 and p.poll() is None, "it can be detached", out)
        with process("full", preload=NO_SPARE) as (_, pid), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(sockets(pid)[0]))
            client.sendall(b"hello\n")
            client.settimeout(1)
            before = ticks(pid)
            try:
                got = client.recv(10)
            except TimeoutError:
                got = None
            check(got is None, "control: without a descriptor of its own it lets nobody in", got)
            check(ticks(pid) - before < 20, "and who waits there takes no CPU", ticks(pid) - before)
        with process("start") as (_, pid):
            check(is_let_in(pid, LIMIT), "a limit below the entries that poll() could be given: it answers")
        with process("start", preload=POLLS_ALL) as (_, pid):
            check(not is_let_in(pid), "control: one that gives poll() all of them does not")
        with process("full", preload=NEVER_DEAF) as (_, pid), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(sockets(pid)[0]))
            check(wait_until(lambda: ticks(pid) > 40), "control: looked for without a break it takes a CPU", ticks(pid))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def filters():
    """Filters of system calls that are put on all threads (TSYNC) are the agent's, too."""
    with process("filter", "refuse", "socket") as (_, pid):
        modes = [line.split()[1] for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
                 for line in (task / "status").read_text().splitlines() if line.startswith("Seccomp:")]
        check(answers(pid) and modes == ["2", "2"], "a filter for all threads that lets it: it answers", modes)
    for names in (["poll"], ["accept4"], ["poll", "accept4", "clock_nanosleep"]):
        with process("filter", "refuse", *names) as (p, pid):
            check(not is_let_in(pid, 0.4) and p.poll() is None and ticks(pid) < 20,
                  f"{' '.join(names)} refused: nobody is answered, and it takes no CPU", f"{p.poll()}, {ticks(pid)} ticks")
    with process("filter", "refuse", "poll", "clock_nanosleep", preload=NAPS) as (_, pid):
        check(wait_until(lambda: ticks(pid) > 40), "control: one that sleeps by a call that is refused takes a CPU", ticks(pid))
    with process("filter", "refuse", "mmap") as (p, pid):
        out = json.loads(tool("ps", "--json")[1])
        whys = [found["why"] for found in out["processes"] if found["pid"] == pid]
        check(whys == [f"the agent of process {pid} has disconnected"] and p.poll() is None,
              "mmap refused: it disconnects, and that alone is said", whys)
    with process("filter", "process", "sendto") as (p, pid):
        status, out = tool("stats", pid)
        check(status == 1 and f"process {pid} has ended" in out, "sendto() kills: the process has ended, which is said", out)
        check(p.wait(LIMIT) == -signal.SIGSYS, "by the filter", p.returncode)
    for preload, what in ((None, "its thread is killed by recvmsg(): the process forks as before"),
                          (NOT_ROBUST, "control: with a lock of fork() that dies with it the process does not")):
        with process("filter", "thread", "recvmsg", preload=preload) as (p, pid):
            threads = pathlib.Path(f"/proc/{pid}/task")
            check(len(os.listdir(threads)) == 2 and ask_one(pid) and wait_until(lambda d=threads: len(os.listdir(d)) == 1),
                  "recvmsg() kills the thread: it ends", p.poll())
            p.stdin.write("f")
            p.stdin.flush()
            forks = bool(select.select([p.stdout], [], [], LIMIT if not preload else 0.5)[0])
            check(forks == (not preload), what, p.poll())
            if not forks:
                p.kill()
    out = subprocess.run([PROCESS, "filtered", "socket"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True, check=False).stdout
    check(": Operation not permitted" in out, "a filter before its start: what is refused is said", out)


def left_by_children(p):
    """Of this process: other tests kill agents at the same time."""
    return [path for child in p.stdout.readline().split() for path in sockets(child)]


def folder():
    with process("children") as (p, pid):
        left = left_by_children(p)
        check(not left, "children that end by _exit() leave no sockets", left)
        check(len(sockets(pid)) == 1, "the parent has its own", sockets(pid))
    with process("children", preload=KEEPS_FILES) as (p, pid):
        left = left_by_children(p)
        check(len(left) >= 10, "control: where they keep the files they do", len(left))
        live = sockets(pid)
        for path in left + live:
            os.utime(path, (1, 1))
        with process("start"):
            check(not any(path.exists() for path in left), "which the next agent takes away")
            check(all(path.exists() for path in live) and answers(pid), "and not those of the living", live)
    with process("start", preload=QUICK) as (_, pid):
        with process("children", preload=KEEPS_FILES) as (p, _):
            left = left_by_children(p)
            for path in left:
                os.utime(path, (1, 1))
            check(left and wait_until(lambda: not any(path.exists() for path in left)),
                  "an agent that lives takes them away, too", left)


def names():
    """A process whose number another one had, whose socket is still there."""
    with process("start") as (_, other), process("nothing") as (_, pid):
        where = sockets(other)[0].parent
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(f"{where}/{pid}-1")
        status, out = tool("stats", pid)
        check(status == 1 and "has no agent" in out, "a stale socket of its number is not its agent", out)
        stale.listen()
        status, out = tool("stats", pid)
        check(status == 1 and "has no agent" in out, "nor one on which somebody else listens", out)
        stale.close()
        os.unlink(f"{where}/{pid}-1")


def ask(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.settimeout(LIMIT)
        with contextlib.suppress(BrokenPipeError):  # who is refused need not be read
            client.sendall(b"hello\n")
        return client.recv(4096)


def as_nobody(function):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, function())
        except OSError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read()


def rights():
    if os.geteuid():
        skip("another user", "not root")
        return
    for preload, words, what in (
            (None, b"error 1 ", "another user that the folder lets in is refused all the same"),
            (NO_RIGHTS, b"ok ", "control: without the look at who it is he is answered")):
        with process("start", preload=preload) as (_, pid):
            path = sockets(pid)[0]
            answer = as_nobody(lambda p=path: ask(p))
            if not preload:
                check(b"denied" in answer, "another user is kept out by the folder", answer)
            mode = path.parent.stat().st_mode & 0o777
            try:
                os.chmod(path.parent, 0o777)
                os.chmod(path, 0o777)
                answer = as_nobody(lambda p=path: ask(p))
            finally:
                os.chmod(path.parent, mode)
            check(answer.startswith(words), what, answer)


def secure():
    if os.geteuid():
        skip("AT_SECURE", "not root")
        return
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        program = shutil.copy(SECURE, place + "/secure")
        os.chown(program, NOBODY, NOBODY)
        os.chmod(program, 0o4755)
        libraries = [f"{LIBRARIES}/libshunt.so.0", f"{LIBRARIES}/trace/libshunt-trace.so.0",
                     f"{LIBRARIES}/agent/libshunt-agent.so.0"]
        out = subprocess.run([program, "secure", *libraries], env=dict(os.environ, SHUNT_AGENT="1"), check=False,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if out.returncode == 77:
            skip("AT_SECURE", "set-user-ID programs do not gain rights here")
            return
        check(out.returncode == 0 and "other rights" in out.stdout, "a set-user-ID program never has an agent",
              f"{out.returncode}: {out.stdout}")


def descriptors_of(pid):
    """But for those with which libshunt writes text, which it keeps."""
    links = []
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.readlink(entry))
    return sorted(link for link in links if not link.startswith("/proc/"))


def fuzz():
    """Requests of all kinds, whole and cut, and bytes."""
    chance = random.Random(7)
    words = [b"hello", b"keys", b"functions", b"modules", b"stats", b"set", b"trace", b"stop", b"snapshot", b"mode=flight",
             b"filter=*", b"ring=1", b"ring=99999999999999999999", b"min=-1", b"a=b", b"=", b"*", b"\\", b"\\t", b"\xff\xfe",
             b"%s%n", b"x" * 5000, b"path=/nowhere/x", b"auto_off=0"]
    with process("start") as (p, pid):
        path, fds = sockets(pid)[0], descriptors_of(pid)
        for _ in range(400):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.settimeout(LIMIT)
                line = b"\t".join(chance.choices(words, k=chance.randint(1, 6))) + b"\n"
                if chance.random() < 0.3:
                    line = chance.randbytes(chance.randint(1, 300))
                if chance.random() < 0.3:
                    line = line[:chance.randint(0, len(line))]
                with contextlib.suppress(OSError):
                    client.sendall(line)
                    if line.endswith(b"\n") and chance.random() < 0.7:
                        client.recv(100)
        check(p.poll() is None and answers(pid), "400 requests of all kinds: it answers", p.poll())
        # A `shunt ps` of anybody may be connected at either time.
        check(wait_until(lambda: len(descriptors_of(pid)) <= len(fds)), "with the same descriptors",
              f"{fds} {descriptors_of(pid)}")


print("TAP version 13")
for part in (lives, copies, namespaces, descriptors, full, filters, folder, names, rights, secure, fuzz):
    part()
print(f"1..{count}")
sys.exit(bool(failed))
