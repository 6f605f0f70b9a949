# SPDX-License-Identifier: MIT
"""What tests of `shunt attach` share: the tool, programs that are attached to, what they have before and behind it."""

import atexit
import mmap
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
from agent_client import exit_status  # noqa: E402
from waiting import wait_until  # noqa: E402

WORDS = ["stop", "rounds", "wrong", "allocated", "loaded", "forked", "handled", "is_held"]
LIMIT = 120  # s, for anything: only what hangs gets there
ROUNDS = 20
FOLDER = tempfile.TemporaryDirectory()
TOOL = None  # the program shunt: use_tool()


def use_tool(tool):
    global TOOL
    TOOL = tool


def end(process):
    """Of a test that fails in the middle: the process has its output open, whose end is waited for."""
    process.kill()
    process.wait()


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
        atexit.register(end, self.process)
        self.pid = self.process.pid
        self.places = []
        self.is_ready = wait_until(lambda: ready(self) or self.process.poll() is not None)

    def word(self, name):
        return struct.unpack_from("Q", self.memory, 8 * WORDS.index(name))[0]

    def stop(self):
        struct.pack_into("Q", self.memory, 0, 1)
        return exit_status(self.process, LIMIT)

    def kill(self):
        end(self.process)

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

    def anonymous(self):
        """KiB of its own that are of no file."""
        text = pathlib.Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Anonymous: *(\d+)", text, re.M)[1])

    def count(self):
        return len(self.names("fd")), len(self.maps()), len(self.names("task")), self.anonymous()

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


def has_agent(target):
    for task in os.listdir(f"/proc/{target.pid}/task"):
        try:
            if "shunt-agent" in pathlib.Path(f"/proc/{target.pid}/task/{task}/comm").read_text():
                return True
        except OSError:
            pass  # it has just ended
    return False


def is_asleep(pid, task, numbers=("34", "202", "219")):  # x86-64's pause(), futex() and restart_syscall()
    return pathlib.Path(f"/proc/{pid}/task/{task}/syscall").read_text().split()[0] in numbers


def beside_libraries(program):
    """A copy of @program at the place from which the tool finds its libraries."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=FOLDER.name))
    (folder / "tools").mkdir()
    (folder / "src").symlink_to(pathlib.Path(TOOL).resolve().parent.parent / "src")
    return shutil.copy(program, folder / "tools" / "shunt")


def beside(folder, agent, name=None):
    """The tool once more, beside the libraries of a build's folder src and this agent; in a folder @name."""
    root = pathlib.Path(FOLDER.name) / (name or os.path.basename(agent))
    for part in ("tools", "src/trace", "src/agent"):
        (root / part).mkdir(parents=True)
    for part in ("libshunt.so.0", "trace/libshunt-trace.so.0"):
        (root / "src" / part).symlink_to(f"{folder}/{part}")
    (root / "src/agent/libshunt-agent.so.0").symlink_to(os.path.abspath(agent))
    return shutil.copy(TOOL, root / "tools/shunt")


def growth(program, tool=None, rounds=ROUNDS):
    """Descriptors, mappings, threads, KiB of memory more after @rounds of attaching, tracing, detaching; and what went wrong."""
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
