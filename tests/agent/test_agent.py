#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The agent of a process, by clients that behave and clients that do not.

usage: test_agent.py TOOL TARGET
"""
import contextlib
import functools
import json
import os
import pathlib
import signal
import struct
import sys
import tempfile
import time

import agent_client
from agent_client import answer, ask, connect, fds_of, is_well, run, socket_path, tap, wait_until

TOOL, TARGET = sys.argv[1:3]
target = functools.partial(agent_client.target, TARGET)
tool = functools.partial(run, TOOL)
check = tap.check


def protocol():
    with target() as (process, pid):
        path = socket_path(pid)
        before = fds_of(pid)
        for name, data in {"garbage": os.urandom(4096) + b"\n", "an empty line": b"\n",
                           "words without end": b"a\t" * 5000 + b"\n",
                           "a flood": b"x" * (1 << 20), "two requests at once": b"hello\nhello\n",
                           "half a line": b"hel"}.items():
            client = connect(path)
            with contextlib.suppress(OSError):
                client.sendall(data)
            client.close()
            check(is_well(path) and process.poll() is None, f"{name}: the agent answers others")
        client = connect(path)
        client.sendall(b"functions\n")
        client.recv(10)
        check(is_well(path), "a client that does not read its answer holds nobody up")
        client.close()
        clients = [connect(path) for _ in range(40)]
        with contextlib.suppress(OSError):
            for client in clients:
                client.sendall(b"hello\n")
        heads = []
        for client in clients:
            try:
                heads.append(answer(client) or "")
            except OSError:
                heads.append("")
        # A `shunt ps` of anybody may have one of the places meanwhile.
        check(13 <= sum(h.startswith("ok ") for h in heads) <= 16 and
              all(h.startswith(("ok ", "error 11 ")) or not h for h in heads),
              "of 40 connections 16 are taken, the others are told")
        for client in clients:
            client.close()
        null = os.open("/dev/null", os.O_RDWR)
        with connect(path) as client:
            check(ask(client, "hello", fds=[null] * 20).startswith("ok "), "descriptors in excess")
        os.close(null)
        check(wait_until(lambda: fds_of(pid) <= before), "no descriptor is left behind")


def sessions():
    with target() as (process, pid), tempfile.TemporaryFile() as file:
        path = socket_path(pid)
        client = connect(path)
        check(ask(client, "trace", "filter=traced", fds=[file.fileno()]).startswith("ok "),
              "a session starts")
        with connect(path) as other:
            text = ask(other, "trace", fds=[file.fileno()])
            check(text.startswith("error 16 ") and str(os.getpid()) in text,
                  "a second tracer is told whose it is")
            client.close()
            check(wait_until(lambda: ask(other, "trace", "filter=traced", fds=[file.fileno()])
                            .startswith("ok ")), "a client that goes takes its session back")
        check(wait_until(lambda: "trace_functions" in
                        tool("stats", pid, "--json").stdout), "the program goes on")
        check(process.poll() is None, "and lives")
        out = tool("trace", "-p", pid, "-F", "traced", "--for", "300ms", "-o", "/dev/null")
        check(out.returncode == 0, "shunt trace -p: " + out.stderr.strip())
        with tempfile.TemporaryDirectory() as folder:
            name = folder + "/flight.trace"
            check(tool("trace", "-p", pid, "-F", "traced", "--flight", "--for", "200ms", "-o",
                       name).returncode == 0, "--flight")
            report = json.loads(tool("report", "--json", name).stdout)
            check([f["function"] for f in report["functions"]] == ["traced"] and
                  report["functions"][0]["calls"] > 10, "what it kept is there")


def symbol(path, name):
    """The value of @name in the 64-bit ELF file @path. (No nm on an emulated machine.)"""
    data = pathlib.Path(path).read_bytes()
    offset, count = struct.unpack_from("<Q", data, 0x28)[0], struct.unpack_from("<H", data, 0x3c)[0]
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, offset + i * 64) for i in range(count)]
    table = next(section for section in sections if section[1] == 2)  # SHT_SYMTAB
    strings = sections[table[6]][4]
    for at in range(table[4], table[4] + table[5], 24):
        start = strings + struct.unpack_from("<I", data, at)[0]
        if data[start:data.index(b"\0", start)] == name.encode():
            return struct.unpack_from("<Q", data, at + 8)[0]
    raise KeyError(name)


def address_of(pid, name):
    """Of a function of the target, which is position-independent or not."""
    offset = symbol(TARGET, name)
    program = os.readlink(f"/proc/{pid}/exe")
    maps = [line for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines() if line.endswith(program)]
    start = int(maps[0].split("-")[0], 16)
    return offset if offset >= start else start + offset


# What is no entry's, and does nothing: a nop of 5 bytes; mov x16, x16.
FOREIGN = {"x86_64": b"\x0f\x1f\x44\x00\x00", "aarch64": b"\xf0\x03\x10\xaa"}[os.uname().machine]


def refusals():
    """Somebody else has changed an entry: the engine refuses to take it back, until it is its own again."""
    with target() as (process, pid), tempfile.NamedTemporaryFile() as file, \
            open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory, connect(socket_path(pid)) as client:
        at = address_of(pid, "traced")

        def write(text):
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda: " T " in pathlib.Path(f"/proc/{pid}/stat").read_text())
            was = os.pread(memory.fileno(), len(text), at)
            os.pwrite(memory.fileno(), text, at)
            os.kill(pid, signal.SIGCONT)
            return was

        def trace():
            return ask(client, "trace", "filter=traced", fds=[file.fileno()])

        check(trace().startswith("ok "), "a session starts")
        own = write(FOREIGN)
        check(ask(client, "stop").startswith("error 16 ") and
              json.loads(tool("report", "--json", file.name).stdout)["complete"],
              "a session that cannot be ended has written what there is")
        size = os.stat(file.name).st_size
        text = trace()
        check(text.startswith("error 16 ") and "last session has not ended" in text and "foreign" in text,
              "the next one is told that, and why: " + text)
        write(own)
        check(wait_until(lambda: "trace_functions" in tool("stats", pid, "--json").stdout) and
              os.stat(file.name).st_size == size, "meanwhile nothing is written")
        check(trace().startswith("ok ") and ask(client, "stop").startswith("ok ") and process.poll() is None,
              "control: with the entry as it was there is another one")


def value(pid, name):
    keys = json.loads(tool("list", pid, "--json").stdout)["keys"]
    return next(k["value"] for k in keys if k["name"] == name)


def settings():
    with target() as (_, pid):
        check(tool("set", pid, "debug=on", "op=plus_two").returncode == 0 and
              (value(pid, "debug"), value(pid, "op")) == (1, "plus_two"), "two keys at once")
        for bad in (["debug=off", "op=main"], ["debug=off", "nothing=on"],
                    ["debug=off", "debug=on"], ["op=initial", "debug=maybe"]):
            out = tool("set", pid, *bad)
            check(out.returncode == 1 and out.stderr and
                  (value(pid, "debug"), value(pid, "op")) == (1, "plus_two"),
                  f"{' '.join(bad)}: refused, nothing is changed")
        hint = "STATIC_CALL_CHOICE()"
        check(hint in tool("set", pid, "without=plus_two").stderr and hint not in tool("set", pid, "op=main").stderr,
              "a static call without choices: how it gets them is said")
        check(tool("set", pid, "many=plus_two").returncode == 0 and value(pid, "many") == "plus_two", "control: another one than its initial function")
        out = tool("set", pid, "many=plus_one", "debug=maybe")
        check(out.returncode == 1 and "debug" in out.stderr and value(pid, "many") == "plus_two", "the name of that beside a value that is refused: nothing is changed")
        check(tool("set", pid, "without=plus_one", "many=plus_one").returncode == 0 and value(pid, "many") == "plus_one",
              "the names of initial functions, as list shows them")
        check(tool("set", pid, "op=initial", "debug=-1").returncode == 0 and
              (value(pid, "debug"), value(pid, "op")) == (0, "plus_one"), "and back")


def processes():
    with target("fork") as (process, pid):
        other = int(process.stdout.readline())
        check(socket_path(pid) and socket_path(other) and socket_path(pid) != socket_path(other),
              "a child of fork has an agent of its own")
        listed = {p["pid"]: p["state"] for p in json.loads(tool("ps", "--json").stdout)["processes"]}
        check(listed.get(pid) == listed.get(other) == "agent", "shunt ps has both")
    with target("fork", env={**os.environ, "SHUNT_AGENT_FORK": "0"}) as (process, pid):
        pids = [pid, int(process.stdout.readline())]
        check([bool(socket_path(p)) for p in pids].count(True) == 1, "SHUNT_AGENT_FORK=0: none")
    with target("env", env={**os.environ, "SHUNT_AGENT": "1"}) as (_, pid):
        check(socket_path(pid), "SHUNT_AGENT=1 starts it")
    for value, is_said in ("yes", True), ("0", False):
        with tempfile.TemporaryFile("w+") as said:
            with target("env", env={**os.environ, "SHUNT_AGENT": value}, stderr=said) as (_, pid):
                check(not socket_path(pid), f"SHUNT_AGENT={value} does not")
            said.seek(0)
            check(("none of its values" in said.read()) == is_said, f"which is {'' if is_said else 'not '}said")
    with target("env") as (_, pid):
        check(not socket_path(pid), "control: without it there is none")


def rights():
    with target() as (_, pid):
        path = socket_path(pid)
        mode = os.stat(path).st_mode & 0o777, os.stat(os.path.dirname(path)).st_mode & 0o777
        check(mode == (0o600, 0o700), "the socket is its user's alone")
        if os.getuid():
            check(True, "another user is refused # SKIP not root")
            return
        child = os.fork()
        if not child:
            os.setuid(65534)
            try:
                connect(path)
            except PermissionError:
                os._exit(0)
            os._exit(1)
        check(os.waitpid(child, 0)[1] == 0, "another user is refused")


def idle():
    def ticks():
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(stat[11]) + int(stat[12])

    def is_idle():
        before = ticks()
        time.sleep(10)
        return ticks() == before

    with target("idle") as (_, pid):
        time.sleep(0.2)
        # Unless a `shunt ps` of anybody has asked it meanwhile.
        check(any(is_idle() for _ in range(6)), "an idle agent takes no time in 10 s")


print("TAP version 13")
for part in (protocol, sessions, refusals, settings, processes, rights, idle):
    part()
sys.exit(tap.end())
