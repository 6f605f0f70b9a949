#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
shunt attach, shunt detach. TAP.

    test_attach.py waits ATTACHMENTS SHUNT TARGET INSTRUMENTED
                                                    again and again while each kind of wait checks itself
    test_attach.py refused SHUNT TARGET STATIC MODULE LIBRARIES LOUD
                                                    processes that cannot be attached to, and why
    test_attach.py reads SHUNT READS ANY_READ TARGET NO_TAILS ANY_CALL
                                                    a system call with a part of its work done: not disturbed; a thread
                                                    alone below sem_wait() and others
    test_attach.py stacks SHUNT NO_CHAIN DISMISS_WORDS FORGETS_FUTEX MODULE STACK...
                                                    words of a stack that are of its call chain, and those that are not
    test_attach.py forks SHUNT FORK LIBRARIES FORGETS_FORKER ENDS_LATE
                                                    in handlers of fork()
    test_attach.py contained SHUNT TARGET           other namespaces, a library that is not seen
    test_attach.py killed SHUNT WAIT TARGET KILLED NO_ALTSTACK LOST NO_WAY LATE_RESTART TRUSTS_NUMBER NO_WORKER KEEPS_AGENT
                            LATE_ERRNO
    test_attach.py killed-all ...                   the tool is killed in the middle, or its child that holds the thread
                                                    (-all: at each step, in more kinds of wait); and without what leads
                                                    the thread back; and the process is
    test_attach.py control SHUNT TARGET OWN_MALLOC LOCAL_MALLOC ANY_MALLOC UNCHECKED UNPROBED ON_STACK NO_RESTART
                            LIBC_MALLOC KEEPS_STACK LOSES_ERRNO
                                                    the tool without its checks, and without its trial of the locks
"""

import ctypes
import mmap
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

from agent_client import exit_status

WORDS = ["stop", "rounds", "wrong", "allocated", "loaded", "forked", "handled", "is_held"]
KINDS = ["read", "poll", "poll_limit", "select", "epoll_wait", "epoll_pwait", "sigsuspend",
         "nanosleep", "cond", "cond_limit", "sem", "sem_limit", "barrier", "waitpid", "red_zone"]
FEW_KINDS = ["poll_limit", "epoll_pwait", "red_zone"]
LIMIT = 120  # s, for anything: only what hangs gets there
FOLDER = tempfile.TemporaryDirectory()
NOBODY = 65534


class Tap:
    count = failed = 0

    def ok(self, good, what, detail=""):
        Tap.count += 1
        Tap.failed += not good
        print(f"{'ok' if good else 'not ok'} {Tap.count} - {what}", flush=True)
        if not good:
            print("".join(f"# {line}\n" for line in str(detail).splitlines()), flush=True)
        return good

    def skip(self, what, why):
        Tap.count += 1
        print(f"ok {Tap.count} - {what} # SKIP {why}", flush=True)


tap = Tap()


def wait_until(condition):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.002)
    return False


class Target:
    """The program, and what it tells through its file."""

    def __init__(self, program, kind, wrap=(), ready=lambda t: t.word("rounds"), **options):
        self.file = tempfile.NamedTemporaryFile(dir=FOLDER.name)
        self.file.write(bytes(4096))
        self.file.flush()
        os.chmod(self.file.name, 0o666)
        self.memory = mmap.mmap(self.file.fileno(), 4096)
        # A child of a thread's fork() that ends at once need not have an agent.
        options.setdefault("env", dict(os.environ, SHUNT_AGENT_FORK="0"))
        self.process = subprocess.Popen([*wrap, program, kind, self.file.name],
                                        stdin=subprocess.DEVNULL, **options)
        self.pid = self.process.pid
        self.places = []
        self.is_ready = wait_until(lambda: ready(self) or self.process.poll() is not None)

    def word(self, name):
        return struct.unpack_from("Q", self.memory, 8 * WORDS.index(name))[0]

    def stop(self):
        struct.pack_into("Q", self.memory, 0, 1)
        return exit_status(self.process, LIMIT)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def names(self, folder):
        found = set()
        for entry in pathlib.Path(f"/proc/{self.pid}/{folder}").iterdir():
            try:
                found.add(os.readlink(entry) if folder == "fd" else entry.name)
            except OSError:
                pass
        return sorted(re.sub(r"\d+", "N", name) if folder == "fd" else name for name in found)

    def maps(self):
        text = pathlib.Path(f"/proc/{self.pid}/maps").read_text()
        return [line for line in text.splitlines() if "[heap]" not in line]

    def count(self):
        return len(self.names("fd")), len(self.maps()), len(self.names("task"))

    def text(self, of=None):
        """What stands where files' text is mapped privately, but for ours; of the file @of alone, or of all."""
        if not self.places:
            lines = [line.split(None, 5) for line in self.maps()]
            self.places = [(words[0], words[5]) for words in lines if words[1] == "r-xp" and
                           len(words) == 6 and words[5][0] == "/" and
                           not re.search("libshunt|libresolv", words[5])]  # which comes and goes
        found = {}
        with open(f"/proc/{self.pid}/mem", "rb", 0) as memory:
            for place in (p for p in self.places if of in (None, os.path.basename(p[1]))):
                start, end = (int(word, 16) for word in place[0].split("-"))
                memory.seek(start)
                found[place] = memory.read(end - start)
        return found


def shunt(*arguments, tool=None, **options):
    out = subprocess.run([tool or TOOL, *map(str, arguments)], text=True, timeout=LIMIT,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, **options)
    return out.returncode, out.stdout


def attach_and_detach(target):
    """None, or what went wrong."""
    status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid)
    if status:
        return out
    status, out = shunt("detach", target.pid)
    return out if status else None


def same_in_the_end(target, folder, wanted):
    """Other threads open and close, so a moment is looked for."""
    return wait_until(lambda: target.names(folder) == wanted)


# ------------------------------------------------------------------- one system call

# What it gives when it is whole. A part is done when the tool comes: the thread is not taken.
PARTS = {"recv_waitall": 10, "recv_waitall_tcp": 10, "recvmsg_waitall": 10, "read_rcvlowat_tcp": 10, "recv_rcvlowat": 10,
         "read_tty_vmin": 10}
ELSEWHERE = {"readv_tty_vmin": 10, "recvmmsg": 2, "write_pipe": 1 << 20, "writev_pipe": 1 << 20, "write_socket": 1 << 20,
             "send_socket": 1 << 20, "sendfile_socket": 1 << 20, "msgrcv": 10, "semop": 0}
# Nothing is done yet: it is.
WHOLE = {"read_pipe": 10, "read_socket": 10, "read_socket_limit": 10, "recv_tcp": 10, "recvmsg_datagram": 10, "accept": 10,
         "accept_limit": 10, "read_tty_lines": 10, "read_tty_one": 10, "read_master": 10, "read_eventfd": 8,
         "read_timerfd": 8, "read_inotify": 16}
PAUSE_32 = "29"  # i386's
KEPT = 77  # errno, before the call


def attach_in_call(program, kind, tool=None):
    """What the tool said, and what the call gave: result and errno."""
    with subprocess.Popen([program, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        pid = process.stdout.readline().strip()
        status, out = shunt("attach", "--timeout", "0.2", pid, tool=tool)
        try:
            rest = process.communicate("\n", timeout=LIMIT)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            rest = "-1 0"
        return status, out, [int(word) for word in rest.split()]


def alone(program, no_tails):
    """One thread alone, which waits for good: for a lock or for anything else."""
    for kind in ("sem", "sem_limit", "barrier", "mutex", "mutex_limit", "bare_futex"):
        for tool in (TOOL, beside_libraries(no_tails)):
            target = Target(program, "alone_" + kind)
            status, out = shunt("attach", "--timeout", "0.5", target.pid, tool=tool)
            is_lock = kind.startswith(("mutex", "bare")) or tool != TOOL
            tap.ok((status == 1 and "1 in futex(), but in none of libc's waits" in out) if is_lock else status == 0,
                   f"{'control: ' * (tool != TOOL)}alone in {kind}: {'refused' if is_lock else 'attached'}", f"{status}: {out}")
            if not status:
                status, out = shunt("detach", target.pid)
                tap.ok(status == 0 and target.process.poll() is None and not target.word("wrong"), f"alone in {kind}: it waits on", out)
            target.kill()


def by_int80(program, any_call):
    """A system call as of a program of 32 bits, whose numbers are others."""
    for tool, words in ((TOOL, "1 in a system call by int 0x80"), (beside_libraries(any_call), None)):
        target = Target(program, "alone_int80")
        wait_until(lambda now=target: target.process.poll() is not None or is_asleep(now.pid, now.pid, [PAUSE_32]))
        if target.process.poll() is not None:
            tap.skip("int 0x80", "this kernel has no such calls")
            return
        status, out = shunt("attach", "--timeout", "0.2", target.pid, tool=tool)
        tap.ok(status == 1 and (words in out if words else "int 0x80" not in out),
               f"{'' if words else 'control: '}in a system call by int 0x80", f"{status}: {out}")
        target.kill()


def held_beside_limit(program, tool):
    """Whether the main thread is held, whose recv() has a time limit, though another sleeps without one."""
    target = Target(program, "socket_limit")
    recvfrom, pause = "45", "34"  # x86-64's
    wait_until(lambda: {recvfrom, pause} == {pathlib.Path(f"/proc/{target.pid}/task/{task}/syscall").read_text().split()[0]
                                             for task in os.listdir(f"/proc/{target.pid}/task")})
    status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid, tool=tool)
    target.kill()
    return f"thread {target.pid} was held" in out if status == 0 else out


def reads(program, any_read, target, no_tails, any_call):
    by_int80(target, any_call)
    held = held_beside_limit(target, TOOL)
    tap.ok(held is False, "SO_RCVTIMEO: another thread is taken first", held)
    held = held_beside_limit(target, beside_libraries(any_read))
    tap.ok(held is True, "control: the first one", held)
    alone(target, no_tails)
    for kinds, wanted, words in ((PARTS, 1, "1 in reads that would return a part"), (ELSEWHERE, 1, "1 in other system calls"),
                                 (WHOLE, 0, "attached")):
        for kind, whole in kinds.items():
            status, out, got = attach_in_call(program, kind)
            tap.ok(status == wanted and words in out and got == [whole, KEPT], f"{kind}: {'not taken' if wanted else 'attached'}, and whole",
                   f"{status}: {out}{got}")
    tool = beside_libraries(any_read)
    for kind in PARTS:
        status, out, got = attach_in_call(program, kind, tool)
        tap.ok(got[:1] == [2], f"control: {kind}: taken, it returns a part", f"{status}: {out}{got}")


# ------------------------------------------------------------------------------ stacks

ALLOCATOR, HANDLER, LOCK, ATTACHED = ("1 in malloc() or the dynamic linker", "1 in a signal handler", " in futex(), but in none of libc's waits",
                                      "was held")
# What the words alone say, and what is the case. Below a function without call frame information words are looked at again.
STACKS = {"none": (ATTACHED, ATTACHED), "malloc": (ALLOCATOR, ATTACHED), "libc_malloc": (ALLOCATOR, ATTACHED),
          "linker": (ALLOCATOR, ATTACHED), "signal_frame": (HANDLER, ATTACHED), "handler_of_wait": (ALLOCATOR, ATTACHED),
          "handler_on_stack": (ALLOCATOR, ATTACHED), "in_malloc": (ALLOCATOR, ALLOCATOR), "far_in_malloc": (ALLOCATOR, ALLOCATOR), "in_dlopen": (ALLOCATOR, ALLOCATOR),
          "in_iterate": (ALLOCATOR, ALLOCATOR), "in_handler": (HANDLER, HANDLER), "in_lock": (ALLOCATOR, LOCK)}
FEW_STACKS = ["linker", "signal_frame", "in_malloc"]  # of all programs but the first
NO_CFI_STACKS = ["none", "malloc", "signal_frame", "in_malloc"]


def attach_to_stack(program, kind, how, module, limit, tool):
    """What the tool says, and whether the process is there still."""
    env = {name: value for name, value in os.environ.items() if name != "ATTACH_HELD"}
    with subprocess.Popen([program, kind, *([how] if how else [])], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          env=dict(env, ATTACH_MODULE=os.path.abspath(module))) as process:
        said = process.stdout.readline()
        wait_until(lambda: all(is_asleep(process.pid, task) for task in os.listdir(f"/proc/{process.pid}/task")))
        status, out = shunt("attach", "--timeout", limit, process.pid, tool=tool)
        is_there = said == b"ready\n" and process.poll() is None
        process.kill()
    return status, out, is_there


def is_asleep(pid, task, numbers=("34", "202", "219")):  # x86-64's pause(), futex() and restart_syscall()
    return pathlib.Path(f"/proc/{pid}/task/{task}/syscall").read_text().split()[0] in numbers


def again_in_lock(program, tool):
    """What the second attempt says: the first one has stopped the thread, whose system call is restart_syscall() since."""
    with subprocess.Popen([program, "in_lock"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        wait_until(lambda: is_asleep(process.pid, process.pid))
        shunt("attach", "--timeout", 0.1, process.pid, tool=TOOL)
        is_again = wait_until(lambda: is_asleep(process.pid, process.pid, ["219"]))
        out = shunt("attach", "--timeout", 0.1, process.pid, tool=tool)[1]
        process.kill()
    return out if is_again else "it is in futex() still"


def stacks(no_chain, dismiss_words, forgets_futex, module, *programs):
    out = again_in_lock(programs[0], TOOL)
    tap.ok("1 in futex(), but in none of libc's waits" in out, "in a lock, for the second time: refused", out)
    out = again_in_lock(programs[0], beside_libraries(forgets_futex))
    tap.ok(ATTACHED in out, "control: what goes on as restart_syscall() is taken for a sleep", out)
    tools = {"": TOOL, "control: by words alone: ": beside_libraries(no_chain),
             "control: by no words: ": beside_libraries(dismiss_words)}
    for program in programs:
        rows = [(kind, how) for kind in (STACKS if program == programs[0] else FEW_STACKS) for how in ("", "thread")]
        for kind, how in rows + [(kind, "no_cfi") for kind in NO_CFI_STACKS]:
            for control, tool in tools.items():
                by_words, so = STACKS[kind]
                # Each control where it is to be another result.
                if (control and by_words == so) if tool != tools["control: by no words: "] else so == ATTACHED:
                    continue
                limit = LIMIT / 2 if not control and so == ATTACHED else 0.1
                status, out, is_there = attach_to_stack(program, kind, how, module, limit, tool)
                if tool == TOOL:
                    good = (status == (so != ATTACHED)) and so in out
                elif "by words" in control:
                    good = status == 1 and by_words in out
                else:
                    good = ATTACHED in out or "a lock of libc stayed taken" in out
                tap.ok(good and is_there, f"{control}{os.path.basename(program)}: {kind} {how}", f"{status}: {out}{is_there}")


# ------------------------------------------------------------------------------- waits

def waits_of(kind, program, times):
    busy = ("rounds", "allocated", "loaded", "forked", "handled")
    target = Target(program, kind, ready=lambda t: all(map(t.word, busy)))
    threads = target.names("task")
    wrong = attach_and_detach(target)
    before = {name: target.word(name) for name in WORDS}
    for _ in range(times):
        wrong = wrong or attach_and_detach(target)
    # With a time of its own the wait ends although it is disturbed all the time.
    while not wrong and target.word("rounds") < before["rounds"] + 2:
        wrong = attach_and_detach(target)
    goes_on = all(wait_until(lambda n=name: target.word(n) > before[n])
                  for name in busy)
    tap.ok(not wrong, f"{kind}: attached and detached", wrong)
    tap.ok(goes_on, f"{kind}: all threads go on")
    tap.ok(same_in_the_end(target, "task", threads), f"{kind}: the same threads",
           f"{threads} {target.names('task')}")
    status = target.stop()
    tap.ok(status == 0 and not target.word("wrong"), f"{kind}: no wait saw anything of it",
           f"status {status}, {target.word('wrong')} wrong")


def idle_is_as_before(program, times):
    target = Target(program, "idle")
    fds, threads = target.names("fd"), target.names("task")

    def again():
        return attach_and_detach(target)

    # What is loaded, and libc's store of stacks, stays.
    wrong = [again(), again()]
    before = target.maps(), fds, threads
    wrong = [w for w in wrong + [again() for _ in range(times)] if w]
    after = target.maps(), target.names("fd"), target.names("task")
    tap.ok(before == after and not wrong, "mappings, descriptors and threads are as before",
           f"{wrong}\n{set(before[0]) ^ set(after[0])}\n{before[1:]}\n{after[1:]}")
    first, second = shunt("attach", target.pid), shunt("attach", target.pid)
    tap.ok(first[0] == second[0] == 0 and "attached already" in second[1],
           "a second attach finds the first", second)
    status, out = shunt("detach", target.pid)
    gone, text = shunt("detach", target.pid)
    tap.ok(status == 0 and gone == 1 and "has no agent" in text, "a second detach finds none",
           out + text)
    tap.ok(target.stop() == 0, "it ends as it would have")


ROUNDS = 20
FEW = 10  # attachments or less: of each kind of row one


def growth(program, tool=None, rounds=ROUNDS):
    """Descriptors, mappings, threads more after @rounds of attaching, tracing, detaching; and what went wrong."""
    target, wrong = Target(program, "idle"), []
    threads = target.names("task")

    def round_of_all():
        for words in (["attach", "--timeout", LIMIT / 2, target.pid],
                      ["trace", "-p", target.pid, "--for", "10ms", "-o", "/dev/null"], ["detach", target.pid]):
            status, out = shunt(*words, tool=tool if words[0] == "attach" else None)
            wrong.extend([out] * bool(status))
        same_in_the_end(target, "task", threads)

    # What is loaded, and libc's store of stacks and arenas, stays.
    for _ in range(3):
        round_of_all()
    before = target.count()
    for _ in range(rounds):
        round_of_all()
    after = target.count()
    if target.stop():
        wrong.append("the program saw something of it")
    return [last - first for first, last in zip(before, after)], wrong


def nothing_grows(program, rounds):
    grown, wrong = growth(program, rounds=rounds)
    # What the recorder takes may fall into one mapping or two.
    tap.ok(grown[0] == grown[2] == 0 and abs(grown[1]) < max(rounds / 4, 2) and not wrong, f"{rounds} rounds: descriptors, mappings, threads grow by {grown}", wrong)


def differences(before, after):
    """Where text is another, in words; of what is in @after."""
    lines = []
    for place, text in [(p, text) for p, text in before.items() if p in after]:
        at = [i for i, byte in enumerate(text) if byte != after[place][i]]
        if at:
            lines.append(f"{place}: {len(at)} bytes, the first at {at[0]:#x}: {text[at[0]:at[0] + 8].hex(' ')} -> "
                         f"{after[place][at[0]:at[0] + 8].hex(' ')}")
    return lines


def record(target, before, *options):
    """A session during which text is another; what went wrong."""
    file = FOLDER.name + "/recorded"
    pathlib.Path(file).unlink(missing_ok=True)  # it is there when the session has been answered for
    tracing = subprocess.Popen([TOOL, "trace", "-p", str(target.pid), "-o", file, *options],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    # The program's own alone: to read all of it takes longer than what is waited for.
    program = os.path.basename(target.process.args[0])
    changed = wait_until(lambda: tracing.poll() is not None or
                         (os.path.exists(file) and differences(before, target.text(of=program))))
    rounds = target.word("rounds")
    wait_until(lambda: target.word("rounds") > rounds + 1)
    tracing.send_signal(signal.SIGINT)
    out = tracing.communicate(timeout=LIMIT)[0]
    if not changed or tracing.returncode or ", 0 events" in ", " + out:
        return f"control: text is another while it is traced: {changed}, {out}"
    return None


def text_is_as_before(program, kind="text", times=3):
    """Byte for byte, of the program and its libraries, however often it was traced."""
    target = Target(program, "poll")
    before, fds = target.text(), target.names("fd")
    for what in ("attached by trace -p", "attached before", "attached and not traced"):
        wrong = None
        for _ in range(times):
            if what != "attached by trace -p":
                status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid)
                wrong = wrong or (out if status else None)
            if what != "attached and not traced":
                wrong = wrong or record(target, before)
            if what != "attached by trace -p":
                status, out = shunt("detach", target.pid)
                wrong = wrong or (out if status or "not as in" in out else None)
            else:
                wait_until(lambda: not has_agent(target))
        tap.ok(not wrong, f"{kind}, {what}: sessions", wrong)
        changed = differences(before, target.text())
        tap.ok(not changed, f"{kind}, {what}: byte for byte as before", "\n".join(changed))
        tap.ok(same_in_the_end(target, "fd", fds), f"{kind}, {what}: descriptors as before",
               f"{fds} {target.names('fd')}")
    tap.ok(target.stop() == 0 and not target.word("wrong"), f"{kind}: it ends as it would have")


def has_agent(target):
    for task in os.listdir(f"/proc/{target.pid}/task"):
        try:
            if "shunt-agent" in pathlib.Path(f"/proc/{target.pid}/task/{task}/comm").read_text():
                return True
        except OSError:
            pass  # it has just ended
    return False


def waits(attachments, program, instrumented):
    few = int(attachments) <= FEW
    idle_is_as_before(program, 2 if few else 5)
    text_is_as_before(program, times=1 if few else 3)
    if not few:
        text_is_as_before(instrumented, "text of -finstrument-functions")
    nothing_grows(program, 4 if few else ROUNDS)
    kinds = FEW_KINDS if few else KINDS
    for kind in kinds:
        waits_of(kind, program, -(-int(attachments) // len(kinds)))


# ----------------------------------------------------------------------------- refusals

def refused(what, pid, words, *options, **kwargs):
    status, out = shunt("attach", "--timeout", "0.2", *options, pid, **kwargs)
    tap.ok(status == 1 and words in out, f"refused: {what}", f"{status}: {out}")


def refused_states(program):
    target = Target(program, "idle")
    target.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: " T " in pathlib.Path(f"/proc/{target.pid}/stat").read_text())
    refused("a stopped process", target.pid, "is stopped")
    target.process.send_signal(signal.SIGCONT)
    libc = ctypes.CDLL(None, use_errno=True)
    seize, detach = 0x4206, 17
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(seize, target.pid, None, None) == 0:
        refused("a traced process", target.pid, f"traced already, by process {os.getpid()}")
        os.kill(target.pid, signal.SIGSTOP)
        os.waitpid(target.pid, 0)
        libc.ptrace(detach, target.pid, None, None)
        os.kill(target.pid, signal.SIGCONT)
    else:
        tap.skip("refused: a traced process", os.strerror(ctypes.get_errno()))
    tap.ok(target.stop() == 0, "it goes on")
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    refused("a zombie", child, "a zombie")
    os.waitpid(child, 0)
    refused("no process", child, f"no process {child}")
    mixed = Target(program, "read")
    thread = max(map(int, os.listdir(f"/proc/{mixed.pid}/task")))
    refused("a thread", thread, f"is a thread of process {mixed.pid}")
    tap.ok(mixed.stop() == 0, "the thread's process goes on")


def no_more_threads(libraries=None):
    """Behind unshare() of a PID namespace; the reason is for who attaches, not for the process's standard error. With
    @libraries the tool is one that has these beside it, whose agent says it there: the control."""
    code = ("import ctypes, sys\n"
            "print(ctypes.CDLL(None).unshare(0x20000000), flush=True)\n"
            "sys.stdin.read()\n")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        if process.stdout.readline() != "0\n":
            tap.skip("refused: a process that may start no thread", "no namespaces may be made")
            process.kill()
            return
        tool = beside(*libraries) if libraries else None
        status, out = shunt("attach", "--timeout", LIMIT / 2, process.pid, tool=tool)
        tap.ok(status == 1 and "agent: pthread_create: " in out, "refused: a process that may start no thread", f"{status}: {out}")
        said = process.communicate()[1]
        if libraries:
            tap.ok("agent: pthread_create: " in said, "control: with an agent that says it there, too, it does", said)
        else:
            tap.ok(process.returncode == 0 and not said, "which goes on, and says nothing of it", said)


def beside(folder, agent):
    """The tool once more, beside the libraries of a build's folder src and this agent."""
    root = pathlib.Path(FOLDER.name) / os.path.basename(agent)
    for name in ("tools", "src/trace", "src/agent"):
        (root / name).mkdir(parents=True)
    for name in ("libshunt.so.0", "trace/libshunt-trace.so.0"):
        (root / "src" / name).symlink_to(f"{folder}/{name}")
    (root / "src/agent/libshunt-agent.so.0").symlink_to(os.path.abspath(agent))
    return shutil.copy(TOOL, root / "tools/shunt")


def filtered(program):
    """A system call that the agent's start makes is refused: a line says which, and nothing is left."""
    for name, words in (("mmap", "mmap"), ("openat", "cannot open shared object file"), ("eventfd2", "agent: eventfd"), ("socket", "agent: the socket in"),
                        ("bind", "agent: the socket in"), ("clone3", "agent: pthread_create")):
        target = Target(program, "refuse_" + name, stderr=subprocess.PIPE)
        before = target.names("fd"), target.names("task")
        status, out = shunt("attach", "--allow-seccomp", target.pid)
        after = target.names("fd"), target.names("task")
        tap.ok(status == 1 and words in out and "Operation not permitted" in out, f"{name} is refused: it is said", f"{status}: {out}")
        ended = target.stop()
        said = target.process.stderr.read()
        tap.ok(not ended and before == after and not said, f"{name} is refused: the process goes on as before",
               f"{ended}, {before}, {after}, {said}")


def refused_users(program):
    if os.geteuid():
        refused("another user's process", 1, "another user's")
        return
    folder = pathlib.Path(FOLDER.name)
    folder.chmod(0o755)
    tool, copy = folder / "shunt", folder / "target"
    shutil.copy(TOOL, tool)
    shutil.copy(program, copy)

    def as_nobody():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    target = Target(program, "idle")
    refused("another user's process", target.pid, "is another user's", tool=tool,
            preexec_fn=as_nobody)
    status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid)
    tap.ok(status == 0, "root attaches to it", out)
    refused("another user's process that has an agent", target.pid, "is another user's", tool=tool, preexec_fn=as_nobody)
    tap.ok(target.stop() == 0, "root's process goes on")
    target = Target(copy, "undumpable", preexec_fn=as_nobody)
    refused("one that may not be dumped", target.pid, "dumpable", tool=tool,
            preexec_fn=as_nobody)
    tap.ok(target.stop() == 0, "that goes on")


def without_first_thread():
    """Its first thread has ended, which is not the process's end."""
    code = ("import ctypes, threading, time\n"
            "def run():\n while True: time.sleep(0.01)\n"
            "threading.Thread(target=run).start()\n"
            "ctypes.CDLL(None).syscall(60, 0)\n")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL) as process:
        pid = process.pid
        gone = wait_until(lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        tap.ok(gone and not pathlib.Path(f"/proc/{pid}/maps").read_text(), "control: its own folder has no memory")
        for words in (["attach", pid], ["list", pid, "modules"], ["stats", pid], ["detach", pid]):
            status, out = shunt(*words)
            tap.ok(status == 0, f"its first thread has ended: {words[0]}", out)
        tap.ok(process.poll() is None, "and it goes on")
        process.kill()


def linker_is_held(program, module):
    """The dynamic linker's lock is another thread's for longer than a thread is looked for: a constructor's."""
    held = FOLDER.name + "/held"
    target = Target(program, "linker", env=dict(os.environ, ATTACH_MODULE=module, ATTACH_HELD=held),
                    ready=lambda t: os.path.exists(held))
    refused("the dynamic linker's lock stays taken", target.pid, "the dynamic linker: a lock of libc stayed taken")
    with subprocess.Popen([TOOL, "attach", str(target.pid)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as attaching:
        time.sleep(6)
        os.unlink(held)
        out = attaching.communicate(timeout=LIMIT)[0]
        tap.ok(attaching.returncode == 0, "it is waited for longer than for a thread", out)
    status, out = shunt("detach", target.pid)
    tap.ok(status == 0 and target.stop() == 0, "that process goes on", out)


def refused_kinds(program, static):
    target = Target(program, "seccomp")
    refused("a filter of system calls", target.pid, "seccomp mode 2")
    status, out = shunt("attach", "--allow-seccomp", target.pid)
    tap.ok(status == 0, "--allow-seccomp does it", out)
    status, out = shunt("detach", target.pid)
    tap.ok(status == 0 and target.stop() == 0, "the filtered process goes on", out)
    if static != "none":
        target = Target(static, "idle")
        refused("a static program", target.pid, "statically")
        tap.ok(target.stop() == 0, "the static program goes on")
    target = Target(program, "no_headers")
    refused("damaged headers of libc in its memory", target.pid, "is mapped, but its headers and symbols in memory are not those")
    tap.ok(target.stop() == 0, "which it does not need")
    target = Target(program, "handler_wait")
    wrong = attach_and_detach(target)
    tap.ok(not wrong, "in a handler that has interrupted a wait: attached", wrong)
    tap.ok(target.stop() == 0, "it goes on, too")
    target = Target(program, "handler_code")
    refused("in a handler that has interrupted anything else", target.pid, "in a signal handler")
    tap.ok(target.stop() == 0, "which goes on")
    target = Target(program, "allocating", ready=lambda t: t.word("allocated"))
    refused("a process that is in malloc() all the time", target.pid, "no thread slept")
    tap.ok(target.stop() == 0, "that goes on allocating")


# --------------------------------------------------------------------------- containers

def can_unshare(*options):
    return not subprocess.run(["unshare", *options, "true"], stderr=subprocess.DEVNULL,
                              check=False).returncode


def contained(program):
    """The process's own number is another one in there, and libraries of the build are hidden."""
    options = ["--user", "--map-root-user", "--pid", "--mount", "--net", "--fork"]
    if not shutil.which("unshare") or not can_unshare(*options):
        tap.skip("attached in a container", "no namespaces may be made")
        return
    source = pathlib.Path(TOOL).resolve().parent.parent / "src"
    script = (f'mount -t proc proc /proc && mount -t tmpfs none "{source}" && '
              f'mount -t tmpfs none /run && exec "$0" "$@"')
    target = Target(program, "nanosleep", wrap=["unshare", *options, "sh", "-c", script])
    child = pathlib.Path(f"/proc/{target.pid}/task/{target.pid}/children").read_text().split()
    target.pid = int(child[0]) if child else target.pid
    status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid)
    tap.ok(status == 0, "attached in a container, by descriptors", out)
    maps = "\n".join(target.maps())
    tap.ok("memfd:libshunt-agent.so.0" in maps, "the libraries came by descriptors",
           maps)
    tap.ok(not any("memfd" in name for name in target.names("fd")), "which are closed again")
    status, out = shunt("detach", target.pid)
    tap.ok(status == 0, "detached", out)
    wrong = [w for w in (attach_and_detach(target) for _ in range(3)) if w]
    tap.ok(not wrong, "attached and detached again", wrong)
    tap.ok(target.stop() == 0 and not target.word("wrong"), "it ends as it would have")


# ------------------------------------------------------------------- handlers of fork()

class Forking:
    """A process of one thread that is in one of its handlers of pthread_atfork() nearly all the time."""

    def __init__(self, program, kind):
        self.out = tempfile.TemporaryFile(dir=FOLDER.name)
        self.process = subprocess.Popen([program, kind, "100"], stdin=subprocess.DEVNULL, stdout=self.out)
        self.pid = self.process.pid
        self.is_ready = self.goes_on()

    def rounds(self):
        return os.fstat(self.out.fileno()).st_size

    def goes_on(self, limit=LIMIT):
        before, end = self.rounds(), time.monotonic() + limit
        while self.rounds() == before and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        return self.rounds() > before

    def has(self):
        return [sorted(os.listdir(f"/proc/{self.pid}/{what}")) for what in ("task", "fd")]

    def kill(self):
        self.process.kill()
        self.process.wait()


def in_handler(program, kind, times, tool=None, limit=LIMIT / 2):
    """None, or what is wrong where it is attached to again and again."""
    target, wrong = Forking(program, kind), None
    before = target.has()
    for number in range(times):
        for words in (["attach", "--timeout", limit, target.pid], ["detach", target.pid]):
            status, out = shunt(*words, tool=tool)
            if status:
                wrong = out.strip()
            elif words[0] == "detach" and target.has() != before:
                wrong = f"{before}, {target.has()}"
            elif not target.goes_on(limit):
                wrong = f"behind {words[0]} it does not go on"
            if wrong:
                target.kill()
                return f"{number}: {wrong}"
    target.kill()
    return None


def forks(program, libraries, forgets_forker, ends_late):
    for kind in ("prepare", "parent", "nested"):
        wrong = in_handler(program, kind, 4)
        tap.ok(not wrong, f"in a handler of pthread_atfork(), {kind}: attached and detached, again and again", wrong)
    wrong = in_handler(program, "nested", 2, beside(libraries, forgets_forker), limit=2)
    tap.ok(wrong, f"control: an agent that waits for the fork() of its own thread: {wrong}")
    wrong = in_handler(program, "parent", 1, beside(libraries, ends_late))
    tap.ok(not wrong, "detach waits for the agent's thread, which ends half a second behind its socket", wrong)


# ------------------------------------------------------------------------- a dead tool

COMMAND = "0"  # it is killed, and its child goes on
SUBREAPER = 36
STEPS_MAX = 2000
LAST = 12
AMID = 30  # a step behind the mapping of the page


def wait_for_orphans(target):
    """The child of a command that was killed, which is this process's now."""
    for task in os.listdir("/proc/self/task"):
        for child in pathlib.Path(f"/proc/self/task/{task}/children").read_text().split():
            if int(child) != target.pid:
                os.waitpid(int(child), 0)


def die_at(tool, step, target, victim=None):
    """Before its request @step of ptrace the child is killed, or the command is, or process @victim."""
    env = dict(os.environ, INJECT_DIE=str(step))
    if victim is not None:
        env["INJECT_VICTIM"] = victim
    status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid, tool=tool, env=env)
    wait_for_orphans(target)
    return "killed" if status == -signal.SIGKILL or "has been killed" in out else "attached" if status == 0 else f"{status}, {out}"


def goes_on(target, rounds=1):
    before = target.word("rounds")
    return wait_until(lambda: target.word("rounds") >= before + rounds or target.process.poll() is not None) and \
        target.process.poll() is None


def kill_at(tool, step, target, victim):
    """None, or what is wrong then; and whether it was killed."""
    said = die_at(tool, step, target, victim)
    wrong = None
    if said not in ("killed", "attached"):
        wrong = f"step {step}: {said}"
    elif victim == COMMAND and said == "killed" and has_agent(target):
        wrong = f"step {step}: the agent stays"
    elif not goes_on(target, 2) or target.word("wrong"):
        wrong = f"step {step}: {target.word('wrong')} wrong, status {target.process.poll()}"
    if not wrong and has_agent(target):
        status, out = shunt("detach", target.pid)
        wrong = out if status else None
    return wrong, said == "killed"


def kill_at_steps(tool, kind, program, victim, every, every_of_first):
    """The first attach to a process loads the libraries, and has more steps; after each of its kills another process."""
    # What the kernel has ended is begun anew by who holds the thread, and no sooner than it can.
    first = 6 if kind == "epoll_wait" and victim != COMMAND else 1
    wrong, kills, kills_of_first, status = None, 0, 0, 0
    for step in range(first, STEPS_MAX, every_of_first):
        target = Target(program, kind)
        wrong, is_killed = kill_at(tool, step, target, victim)
        kills_of_first += is_killed
        status = status or target.stop()
        if wrong or not is_killed:
            break
    target = Target(program, kind)
    wrong = wrong or attach_and_detach(target)
    for step in range(first, STEPS_MAX, every):
        if wrong:
            break
        wrong, is_killed = kill_at(tool, step, target, victim)
        kills += is_killed
        if not is_killed:
            break
    # The thread is given back in the last ones.
    for step in range(max(first, step - every - LAST), step):
        if not wrong:
            wrong, is_killed = kill_at(tool, step, target, victim)
            kills += is_killed
    wrong = wrong or attach_and_detach(target)
    status = status or target.stop()
    who = "command" if victim == COMMAND else "child"
    tap.ok(not wrong and not status and kills >= 3 and kills_of_first >= 3,
           f"{kind}: the {who} is killed at {kills_of_first} steps of a first attach, {kills} of another: nothing is seen of it", (wrong, status))


def harmed_at(tool, kind, program, steps, victim=None):
    """The step at which the process sees anything of it, or keeps the agent; or None."""
    for step in steps:
        target = Target(program, kind)
        wrong, _ = kill_at(tool, step, target, victim)
        target.kill()
        if wrong:
            return wrong
    return None


def harmed_in_the_end(tool, program):
    """The same at each of the last steps of an attach that loads no libraries."""
    target = Target(program, "read")
    wrong, step, is_killed = attach_and_detach(target), 1, True
    while is_killed and not wrong:
        step += LAST
        wrong, is_killed = kill_at(tool, step, target, None)
    for step in range(step - 2 * LAST, step):
        wrong = wrong or kill_at(tool, step, target, None)[0]
    target.kill()
    return wrong


def harmed_again(tool, program):
    """The same where the wait was stopped before, and goes on as restart_syscall()."""
    target = Target(program, "sem/1500")
    goes_on(target)
    wrong = attach_and_detach(target)
    is_again = wait_until(lambda: is_asleep(target.pid, target.pid, ["219"]))
    wrong = wrong or kill_at(tool, AMID, target, None)[0]
    target.kill()
    return wrong if is_again else "its call was another one"


def process_dies(tool, program, every):
    """The process is killed at each step of the tool, which says so, and ends."""
    step, wrong, refused_at = 1, [], 0
    while step < 2000:
        target = Target(program, "idle")
        status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid, tool=tool,
                            env=dict(os.environ, INJECT_DIE=str(step), INJECT_VICTIM=str(target.pid)))
        target.kill()
        if status == 0:
            break
        refused_at += 1
        if status != 1 or out.count("\n") != 1 or f"process {target.pid}" not in out or "ended" not in out:
            wrong.append(f"step {step}: {status}, {out}")
        step += every
    tap.ok(not wrong and refused_at > 10 and step < 2000, f"the process is killed at {refused_at} steps: each time it is said",
           "\n".join(wrong[:5]))


def killed(kinds, every_of_process, waiting, program, killed_tool, no_altstack, lost, no_way, late_restart,
           trusts_number, no_worker, keeps_agent, late_errno):
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    tool = beside_libraries(killed_tool)
    for kind, (every, every_of_first) in kinds.items():
        for victim in (None, COMMAND):
            kill_at_steps(tool, kind, waiting, victim, every, every_of_first)
    wrong = harmed_again(tool, waiting)
    tap.ok(not wrong, "a wait that was stopped before: nothing is seen of it", wrong)
    for what, control, kind, steps in (
            ("a frame that is right about the alternate stack changes it", no_altstack, "read", range(10, 40)),
            ("without what leads back it is harmed", lost, "read", range(AMID, AMID + 10)),
            ("without a way back before the page is mapped", no_way, "read", range(5, 20)),
            ("epoll_wait() is begun anew when the thread is released, not when it is stopped", late_restart, "epoll_wait", [6])):
        wrong = harmed_at(beside_libraries(control), kind, waiting, steps)
        tap.ok(wrong, f"control: {what}: {wrong}")
    # Not each attempt leaves another errno in the moment in which the tool is killed.
    control = beside_libraries(late_errno)
    wrong = next((w for w in (harmed_in_the_end(control, waiting) for _ in range(8)) if w), None)
    tap.ok(wrong, f"control: errno is put back behind the page that does so: {wrong}")
    wrong = harmed_again(beside_libraries(trusts_number), waiting)
    tap.ok(wrong, f"control: restart_syscall() is made anew: {wrong}")
    wrong = harmed_at(beside_libraries(no_worker), "epoll_wait", waiting, range(3, 6))
    tap.ok(wrong, f"control: the command does it itself: {wrong}")
    wrong = harmed_at(beside_libraries(keeps_agent), "read", waiting, [3], COMMAND)
    tap.ok(wrong and "stays" in wrong, f"control: the child of a command that was killed does not look: {wrong}")
    process_dies(tool, program, every_of_process)


# ----------------------------------------------------------------------------- controls

def beside_libraries(program):
    """A copy of @program at the place from which the tool finds its libraries."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=FOLDER.name))
    (folder / "tools").mkdir()
    (folder / "src").symlink_to(pathlib.Path(TOOL).resolve().parent.parent / "src")
    return shutil.copy(program, folder / "tools" / "shunt")


def on_held_lock(program, tool):
    """Attach with @tool to a process that sleeps on top of malloc(), its lock held."""
    target = Target(program, "held", ready=lambda t: t.word("is_held"))
    if not target.is_ready or not target.word("is_held"):
        return target, (None, "the lock was never met held")
    return target, shunt("attach", "--timeout", "0.5", target.pid, tool=tool)


def harmed_by(tool, kind, program):
    """Whether the process is, by attaching again and again."""
    target = Target(program, kind)
    for _ in range(20):
        shunt("attach", "--timeout", 5, target.pid, tool=tool)
        if target.word("wrong") or target.process.poll() is not None:
            break
        shunt("detach", target.pid)
    wait_until(lambda: target.word("wrong") or target.process.poll() is not None or
               target.word("rounds") > 3)
    return target.stop() != 0


def tried(program, tool):
    """How often the program's own malloc() was tried."""
    target = Target(program, "idle")
    status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid, tool=tool)
    n = target.word("allocated")
    shunt("detach", target.pid)
    return n if status == 0 and target.stop() == 0 else out


def beside_local_malloc(program, module, tool):
    """Attach with @tool where there is a malloc() that is a module's own."""
    target = Target(program, "local_malloc", env=dict(os.environ, ATTACH_MODULE=os.path.abspath(module)))
    status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid, tool=tool)
    ended = target.stop()
    return (status, out) if not ended else (None, f"it ended with {ended}: {out}")


def control(program, own_malloc, local_malloc, any_malloc, unchecked, unprobed, on_stack, no_restart, libc_malloc, keeps_stack, loses_errno):
    n = tried(own_malloc, TOOL)
    tap.ok(n == 1, "the malloc() that the process has instead of libc's is tried", n)
    n = tried(own_malloc, beside_libraries(libc_malloc))
    tap.ok(n == 0, "control: libc's alone", n)
    status, out = beside_local_malloc(program, local_malloc, TOOL)
    tap.ok(status == 0, "the malloc() of a library that was loaded with RTLD_LOCAL is not called", out)
    status, out = beside_local_malloc(program, local_malloc, beside_libraries(any_malloc))
    tap.ok(status == 1 and "malloc(): what was called in thread" in out, "control: that of any library is", out)
    grown, _ = growth(program, beside_libraries(keeps_stack))
    tap.ok(grown[1] >= ROUNDS, f"control: mappings grow by {grown[1]} where the stack is not unmapped", grown)
    tap.ok(harmed_by(beside_libraries(on_stack), "red_zone", program),
           "control: calls on the thread's own stack, the 128 bytes below it overwritten")
    tap.ok(harmed_by(beside_libraries(no_restart), "epoll_wait", program),
           "control: a system call that is not restarted")
    tap.ok(harmed_by(beside_libraries(loses_errno), "read", program), "control: errno is what the calls left")
    target, (status, out) = on_held_lock(program, TOOL)
    tap.ok(status == 1 and "no thread slept" in out, "a lock held beneath a handler: refused", out)
    tap.ok(target.stop() == 0, "that process goes on")
    target, (status, out) = on_held_lock(program, beside_libraries(unchecked))
    tap.ok(status == 1 and "malloc(): a lock of libc stayed taken" in out,
           "control: without the checks of the thread it meets the held lock, before dlopen()", out)
    tap.ok(target.stop() == 0, "and leaves the thread as it was")
    target, (status, out) = on_held_lock(program, beside_libraries(unprobed))
    tap.ok(status == 1 and "dlopen(): a lock of libc stayed taken" in out,
           "control: without the trial of the locks, too, dlopen() is in a deadlock", out)
    target.kill()


what, arguments = sys.argv[1], sys.argv[2:]
if what == "waits":
    attachments = arguments.pop(0)
TOOL = arguments[0]
if what == "waits":
    waits(attachments, *arguments[1:])
elif what == "refused":
    refused_states(arguments[1])
    no_more_threads()
    no_more_threads(arguments[4:6])
    filtered(arguments[1])
    refused_users(arguments[1])
    refused_kinds(*arguments[1:3])
    linker_is_held(arguments[1], arguments[3])
    without_first_thread()
elif what == "forks":
    forks(*arguments[1:])
elif what == "reads":
    reads(*arguments[1:])
elif what == "stacks":
    stacks(*arguments[1:])
elif what == "contained":
    contained(arguments[1])
elif what == "killed":
    killed({"sem": (11, 90)}, 40, *arguments[1:])
elif what == "killed-all":
    killed({"sem": (1, 7), "epoll_wait": (1, 30), "cond": (5, 30), "read": (5, 30), "poll": (5, 30), "sleep": (5, 30)}, 7, *arguments[1:])
else:
    control(*arguments[1:])
print(f"1..{tap.count}")
sys.exit(tap.failed != 0)
