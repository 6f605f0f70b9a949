#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
shunt attach to processes of several threads: the one that it makes loads the libraries. TAP.

    test_launcher.py SHUNT TARGET MALLOC LIBRARY ENDED NO_LAUNCHER LIST_UNTRIED ANY_STACK NAMES_ALONE TAKES_SETXID WITHOUT
                     UNWINDER

TARGET: launcher_target; MALLOC: the same with a malloc() of its own; LIBRARY: that malloc() as a library. The other
programs are the tool with one thing taken out, and ENDED is killed or stopped before one of its calls. UNWINDER: the
tool unwinds stacks.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
from tap import finish, ok  # noqa: E402
from waiting import wait_until  # noqa: E402

LIMIT = 120  # s, for anything: only what hangs gets there
OTHER_STACK = "1 on another stack than its own"
ALLOCATOR = "1 in malloc() or the dynamic linker"
FOLDER = tempfile.TemporaryDirectory()


class Target:
    def __init__(self, program, kind, **options):
        self.process = subprocess.Popen([program, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
        self.pid = self.process.pid
        self.is_ready = self.process.stdout.readline() == b"ready\n"

    def threads(self):
        names = []
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            try:
                names.append((task / "comm").read_text().strip())
            except OSError:
                pass
        return sorted(name for name in names if name.startswith("shunt-"))

    def libraries(self):
        """How often each is mapped."""
        text = pathlib.Path(f"/proc/{self.pid}/maps").read_text()
        return sorted(re.findall(r" 00000000 .*(libshunt[a-z-]*)\.so", text))

    def tell(self):
        """What it waits for has come."""
        self.process.stdin.write(b"g")
        self.process.stdin.flush()

    def end(self):
        """Its exit status."""
        self.process.stdin.close()
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def beside_libraries(program):
    """A link to @program at the place from which the tool finds its libraries."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=FOLDER.name))
    (folder / "tools").mkdir()
    (folder / "src").symlink_to(pathlib.Path(SHUNT).resolve().parent.parent / "src")
    os.link(program, folder / "tools" / "shunt") if os.stat(program).st_dev == os.stat(folder).st_dev else \
        (folder / "tools" / "shunt").write_bytes(pathlib.Path(program).read_bytes())
    (folder / "tools" / "shunt").chmod(0o755)
    return folder / "tools" / "shunt"


def shunt(*arguments, tool=None, **options):
    out = subprocess.run([tool or SHUNT, *map(str, arguments)], text=True, timeout=LIMIT, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)
    return out.returncode, out.stdout


def attached(what, target, *options, tool=None):
    """It is attached to, detached from, and ends as it would have."""
    status, out = shunt("attach", *options, target.pid, tool=tool)
    good = status == 0 and target.threads() == ["shunt-agent"]
    second = shunt("detach", target.pid) if good else (1, "")
    ended = target.end()
    ok(target.is_ready and good and second[0] == 0 and ended == 0, what, f"{status}: {out}{second} {ended}")


def refused(what, target, words, *options, tool=None, ends=0):
    status, out = shunt("attach", "--timeout", "0.3", *options, target.pid, tool=tool)
    ended = target.end()
    ok(target.is_ready and status == 1 and words in out and ended == ends, what, f"{status}: {out} {ended}")


# ------------------------------------------------------------------ the linker's list


def lists(program, no_launcher, list_untried):
    attached("a thread in dl_iterate_phdr() waits for the one that is held: attached", Target(program, "list"))
    target = Target(program, "list_for_good")
    status, out = shunt("attach", "--timeout", "0.3", target.pid)
    ok(status == 1 and "a lock of libc stayed taken" in out and "ends by itself" in out, "it stays there: that is said", out)
    ok(target.threads() == ["shunt-attach"], "the thread that waits is there", target.threads())
    status, out = shunt("attach", "--timeout", "0.3", target.pid)
    ok(status == 1 and "is being attached to already" in out, "a second attempt meanwhile is refused", out)
    target.tell()
    ok(wait_until(lambda: not target.threads()), "when the lock is free it ends", target.threads())
    attached("and attached then", target)
    attached("text cannot be mapped: by the held thread", Target(program, "no_text"), "--allow-seccomp")
    target = Target(program, "list_no_text")
    status, out = shunt("attach", "--allow-seccomp", "--timeout", "0.3", target.pid)
    ok(status == 1 and "the dynamic linker: a lock of libc stayed taken" in out, "and with the list's lock taken: refused", out)
    target.tell()
    ended = target.end()
    ok(ended == 0, "it goes on, and dlopen() works there", ended)
    target = Target(program, "list_for_good")
    status, out = shunt("attach", "--timeout", "0.3", target.pid, tool=beside_libraries(no_launcher))
    ok(status == 1 and "the dynamic linker: a lock of libc stayed taken" in out, "control: a held thread that tries the list's lock", out)
    target.end()
    target = Target(program, "list_for_good")
    status, out = shunt("attach", "--timeout", "0.3", target.pid, tool=beside_libraries(list_untried))
    ok(status == 1 and "dlopen(): a lock of libc stayed taken" in out, "control: and one that does not is stuck in dlopen()", out)
    target.process.kill()
    target.process.wait()


def errors(program, no_launcher):
    attached("what dlerror() is about to say stays", Target(program, "dlerror"))
    target = Target(program, "dlerror")
    status, out = shunt("attach", target.pid, tool=beside_libraries(no_launcher))
    ended = target.end()
    ok(status == 0 and ended == 1, "control: the held thread's is lost", f"{out} {ended}")


def users(program, takes_setxid):
    """A thread calls setresuid() for all threads every millisecond: none of them is lost."""
    for tool, what in ((None, "setuid() in all threads, all the time: attached 10 times"), (beside_libraries(takes_setxid), "control")):
        target, said = Target(program, "setuid"), []
        for _ in range(10 if not tool else 40):
            said.append(shunt("attach", target.pid, tool=tool))
            if target.process.poll() is not None or said[-1][0]:
                break
            shunt("detach", target.pid)
        wait_until(lambda t=target: t.process.poll() is not None, 12 if tool else 0)
        ended = target.end()
        if not tool:
            ok(not ended and not any(status for status, _ in said), what, said, ended)
        else:
            ok(ended == -signal.SIGALRM or any(status for status, _ in said), f"{what}: its signal is let through: a call is lost", said, ended)


# ------------------------------------------------------------------------------ stacks


def stacks(program, any_stack):
    for kind in ("fibre", "fibre_in_thread"):
        refused(f"{kind}: refused", Target(program, kind), OTHER_STACK)
        attached(f"{kind}: --allow-fibres does it", Target(program, kind), "--allow-fibres")
        attached(f"control: {kind}: no stack is looked at", Target(program, kind), tool=beside_libraries(any_stack))
    attached("a handler on an alternate stack that has interrupted a wait", Target(program, "handler"))
    attached("a stack that the program gave to pthread_create()", Target(program, "given_stack"))


def filters(program, without):
    refused("another thread than the first filters its system calls: refused", Target(program, "filter"), "seccomp mode 2")
    attached("and attached by --allow-seccomp", Target(program, "filter"), "--allow-seccomp")
    os.environ["SHUNT_WITHOUT"] = "threads"
    attached("control: with a look at the first thread alone it is", Target(program, "filter"), tool=beside_libraries(without))
    del os.environ["SHUNT_WITHOUT"]


def allocators(program, own_malloc, library, names_alone, has_chain):
    env = dict(os.environ, LD_PRELOAD=os.path.abspath(library))
    refused("a malloc() that is a library's, called through a pointer, and went on in another function: refused",
            Target(program, "malloc_pointer", env=env), ALLOCATOR)
    control = beside_libraries(names_alone)
    for what, options in ({"the program's": {}, "a library's": {"env": env}} if has_chain else {}).items():
        of = program if options else own_malloc
        refused(f"a malloc() that is {what}, and went on in another function: refused", Target(of, "malloc", **options), ALLOCATOR)
        attached(f"control: by the names of functions in its call chain: {what}", Target(of, "malloc", **options), tool=control)


# -------------------------------------------------------------------------- the tool


def ends(program, ended_tool):
    """The tool is killed before each of its calls: the thread goes by itself."""
    tool, calls, seen = beside_libraries(ended_tool), 0, 0
    while True:
        target = Target(program, "sleep")
        status, out = shunt("attach", target.pid, tool=tool,
                            env=dict(os.environ, INJECT_END_CALL=str(calls + 1), INJECT_END_SIGNAL="9"))
        if status != -signal.SIGKILL:
            break
        calls += 1
        seen += "shunt-attach" in target.threads()  # or it was the quicker one
        gone = wait_until(lambda t=target: not t.threads() or t.threads() == ["shunt-agent"], 30)
        again = shunt("attach", target.pid)
        ended = target.end()
        if not gone or again[0] or ended:
            out = f"call {calls}: {gone} {again} {ended}"
            break
    ok(status == 0 and calls > 3 and 2 * seen > calls, f"the tool is killed before each of {calls} calls: the thread ends by itself",
       f"{status}, seen {seen} times: {out}")
    target.end()
    target = Target(program, "sleep")
    with subprocess.Popen([tool, "attach", str(target.pid)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=dict(os.environ, INJECT_END_CALL="2", INJECT_END_SIGNAL=str(int(signal.SIGSTOP)))) as stopped:
        os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
        gone = wait_until(lambda: not target.threads())
        stopped.send_signal(signal.SIGCONT)
        out = stopped.communicate(timeout=LIMIT)[0]
    ok(gone and stopped.returncode == 1 and "was not heard of for too long" in out, "it is stopped for too long: that is said", out)
    attached("and attached to anew", target)


def at_once(program, rounds=10):
    """Two tools at the same process: one of them, or each after the other."""
    wrong = []
    for _ in range(rounds):
        target, said = Target(program, "sleep"), []
        tools = [threading.Thread(target=lambda t=target, to=said: to.append(shunt("attach", t.pid))) for _ in range(2)]
        for one in tools:
            one.start()
        for one in tools:
            one.join()
        busy = [out for status, out in said if status and ("traced already" in out or "being traced" in out)]
        done = [out for status, out in said if not status]
        if not done or len(done) + len(busy) != 2 or target.threads() != ["shunt-agent"] or len(set(target.libraries())) != len(target.libraries()):
            wrong.append(f"{said} {target.threads()} {target.libraries()}")
        ended = target.end()
        if ended:
            wrong.append(f"it ended with {ended}")
    ok(not wrong, f"two tools at once, {rounds} times: one agent, each library once", "\n".join(wrong))


SHUNT, TARGET, MALLOC, LIBRARY, ENDED, NO_LAUNCHER, LIST_UNTRIED, ANY_STACK, NAMES_ALONE, TAKES_SETXID, WITHOUT, UNWINDER = sys.argv[1:]
lists(TARGET, NO_LAUNCHER, LIST_UNTRIED)
errors(TARGET, NO_LAUNCHER)
users(TARGET, TAKES_SETXID)
stacks(TARGET, ANY_STACK)
filters(TARGET, WITHOUT)
allocators(TARGET, MALLOC, LIBRARY, NAMES_ALONE, UNWINDER == "unwinder")
ends(TARGET, ENDED)
at_once(TARGET)
sys.exit(finish())
