#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Boot the test kernel on an emulator and pass on what it says, as TAP.

usage: run.py qemu|bochs [--cpus N] [--append WORDS] [--timeout SECONDS]
              [--image FILE] [--control REGEX] [--schedule SEED [--turns N]] [--mce]
              [--icount] [--keep]

The image is kernel.multiboot for QEMU and kernel.disk for Bochs, by default those
in the current directory or in $SHUNT_KERNEL. With --control the run is a negative
control: it is good when the kernel fails a check that matches REGEX. Where the emulator
is not installed the run is skipped.

--schedule (Bochs): from the kernel's schedule_point() on, N turns of one CPU each, of
1 to 400 instructions, drawn from SEED; or, where SEED is "lockstep", N turns of one
instruction on every CPU. The same seed gives the same run. (Devices stand still in
single turns: no timer.)

--mce (QEMU): the kernel may ask for machine checks (mce.py). --icount (QEMU): time is
counted in instructions, so that timers come in anywhere, and each run is the same.
Exit status: 0 good, 1 not.
"""
import argparse
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True  # not into the source tree
import mce  # pylint: disable=wrong-import-position

SECTOR = 512
LAST_LINE = re.compile(r"# kernel: exit (\d+)")
# What Bochs's debugger says behind each turn, perhaps in the middle of a line of ours.
CHATTER = re.compile(rb"Next at t=\d+\n(?:\(\d\).*\n)+")
LINE = re.compile(r"((?:not )?ok \d+ - |# |1\.\.\d)")

QEMU = ("qemu-system-x86_64 -accel tcg,thread=single -cpu max -M q35 -m 64 -nodefaults"
        " -display none -monitor none -serial none -debugcon stdio -no-reboot"
        " -device isa-debug-exit,iobase=0xf4,iosize=4")

BOCHSRC = """\
display_library: term
megs: 64
cpu: model=tigerlake, count={cpus}, quantum=1, ips=1000000, reset_on_triple_fault=0, \
ignore_bad_msrs=1
clock: sync=none, time0=0
port_e9_hack: enabled=1
magic_break: enabled=1
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
log: {directory}/log
romimage: file=$BXSHARE/BIOS-bochs-latest
vgaromimage: file=$BXSHARE/VGABIOS-lgpl-latest
ata0-master: type=disk, path="{disk}", mode=flat, cylinders={cylinders}, heads=16, spt=63
boot: disk
"""


def qemu(options, append, directory):
    """The command that boots the image on QEMU."""
    command = shlex.split(QEMU) + ["-smp", str(options.cpus), "-kernel", options.image,
                                   "-append", append]
    if options.icount:
        command += ["-icount", "shift=0,sleep=off"]
    if options.mce:
        path = os.path.join(directory, "gdb")
        command += ["-chardev", f"socket,id=gdb,path={path},server=on,wait=off",
                    "-gdb", "chardev:gdb"]
    return command


def turns(options):
    """Commands for Bochs's debugger."""
    yield "c\n"
    if options.schedule == "lockstep":
        yield f"s all {options.turns}\n"
    elif options.schedule:
        draw = random.Random(options.schedule)
        for _ in range(options.turns):
            yield f"s {draw.randrange(options.cpus)} {int(400 ** draw.random())}\n"
    yield "c\n"


def bochs(options, append, directory):
    """The same for Bochs: a disk with the command line in sector 1, and settings."""
    disk = os.path.join(directory, "disk")
    with open(options.image, "rb") as file:
        image = bytearray(file.read())
    line = b"kernel " + append.encode()
    if len(line) >= SECTOR:
        sys.exit("run.py: the command line is too long")
    image[SECTOR:2 * SECTOR] = line + bytes(SECTOR - len(line))
    with open(disk, "wb") as file:
        file.write(image)
    settings = os.path.join(directory, "bochsrc")
    with open(settings, "w", encoding="ascii") as file:
        file.write(BOCHSRC.format(cpus=options.cpus, directory=directory, disk=disk,
                                  cylinders=len(image) // (16 * 63 * SECTOR)))
    commands = os.path.join(directory, "debugger")
    with open(commands, "w", encoding="ascii") as file:
        file.writelines(turns(options))
    return ["bochs-bin", "-q", "-f", settings, "-rc", commands]


def lines_of(stream, scheduled):
    """Lines of a kernel's output, among whatever else the emulator writes."""
    for raw in CHATTER.sub(b"", stream.read()).splitlines() if scheduled else stream:
        text = raw.decode("ascii", "replace").rstrip()
        start = LINE.search(text)
        if start:
            yield text[start.start():]


DID_NOT_FINISH = "did not finish"


def run(command, options, on_line):
    """Run an emulator to its end; what the kernel's last line says, None without one,
    DID_NOT_FINISH where the time was over."""
    status = None
    over = threading.Event()

    def end(process):
        over.set()
        os.killpg(process.pid, signal.SIGKILL)

    env = dict(os.environ, TERM="xterm", BXSHARE=os.environ.get("BXSHARE", "/usr/share/bochs"))
    env.pop("MALLOC_PERTURB_", None)  # meson's; Bochs 2.7 does not survive it
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, env=env,
                          start_new_session=True) as process:
        timer = threading.Timer(options.timeout, end, (process,))
        timer.start()
        for line in lines_of(process.stdout, options.schedule):
            last = LAST_LINE.match(line)
            if last:
                status = int(last.group(1))
            if options.injector:
                options.injector.look(line)
            on_line(line)
        timer.cancel()
    return DID_NOT_FINISH if status is None and over.is_set() else status


def plain(command, options):
    """A test: its TAP is passed on; a run without a last line is a failure."""
    count = 0

    def show(line):
        nonlocal count
        count += bool(re.match(r"(not )?ok ", line))
        print(line, flush=True)

    status = run(command, options, show)
    if status == DID_NOT_FINISH:
        print(f"not ok {count + 1} - {DID_NOT_FINISH} within {options.timeout:g} s\n"
              f"1..{count + 1}", flush=True)
    elif status is None:
        print(f"not ok {count + 1} - the emulator ended before the kernel\n1..{count + 1}",
              flush=True)
    return status != 0


def control(command, options):
    """A negative control: one check, that a check of the kernel failed as expected."""
    found = []

    def look(line):
        print("# " + line.lstrip("# "), flush=True)
        if line.startswith("not ok ") and re.search(options.control, line):
            found.append(line)

    status = run(command, options, look)
    if status == DID_NOT_FINISH and not found:
        print(f"not ok 1 - {DID_NOT_FINISH} within {options.timeout:g} s\n1..1", flush=True)
        return True
    result = "ok" if found else "not ok"
    print(f"{result} 1 - the control fails: {options.control}\n1..1", flush=True)
    return not found


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("emulator", choices=("qemu", "bochs"))
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--append", default="selftest")
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--image")
    parser.add_argument("--control")
    parser.add_argument("--schedule", metavar="SEED")
    parser.add_argument("--turns", type=int, default=20000)
    parser.add_argument("--mce", action="store_true")
    parser.add_argument("--icount", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep the temporary directory")
    options = parser.parse_args()
    if options.mce and options.emulator != "qemu":
        parser.error("--mce: QEMU only")
    if not options.image:
        name = "kernel.multiboot" if options.emulator == "qemu" else "kernel.disk"
        options.image = os.path.join(os.environ.get("SHUNT_KERNEL", "."), name)
    return options


def main():
    options = arguments()
    make = {"qemu": qemu, "bochs": bochs}[options.emulator]
    directory = tempfile.mkdtemp(prefix="shunt-kernel-")
    options.injector = None
    if options.mce:
        options.append += " mce"
        options.injector = mce.Injector(os.path.join(directory, "gdb"),
                                        lambda text: print("# run.py: " + text, flush=True))
    try:
        command = make(options, f"cpus={options.cpus} {options.append}", directory)
        if not shutil.which(command[0]):
            print(f"1..0 # SKIP {command[0]} is not installed")
            return 0
        if options.control:
            return control(command, options)
        return plain(command, options)
    finally:
        if options.keep:
            print(f"# kept: {directory}")
        else:
            shutil.rmtree(directory)


sys.exit(main())
