# SPDX-License-Identifier: MIT
"""A debugger at QEMU that injects machine checks where the kernel asks for them.

QEMU raises a machine check by a command of its monitor only. That reaches the guest at no
particular instruction, unless it stands still. So this speaks the protocol of gdb (GDB
manual, appendix "Remote Serial Protocol") to QEMU's stub: a breakpoint stops the machine at the
instruction, the monitor's command goes through the same connection (qRcmd), and the CPU takes
the machine check when it goes on, in front of that instruction.

The kernel's side is machine_check.c: mce_request(at, steps) is where the first breakpoint
lies.
"""
import re
import socket
import struct
import threading

# MCi_STATUS: valid, uncorrected, enabled. MCG_STATUS: in progress, rip is right, go on.
STATUS = 1 << 63 | 1 << 61 | 1 << 60
MCG_STATUS = 7
REQUEST = re.compile(r"# mce: request ([0-9a-f]+), answer ([0-9a-f]+)")
RDI, RSI = 5, 4  # in the order of gdb's registers


class Stub:
    """The connection. To open it stops the machine."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rb")
        self.packet()  # it says that it has stopped

    def packet(self):
        """The next packet, with its acknowledgement sent."""
        while True:
            byte = self.stream.read(1)
            if not byte:
                raise EOFError
            if byte == b"$":
                break
        data = b""
        while not data.endswith(b"#"):
            byte = self.stream.read(1)
            if not byte:
                raise EOFError
            data += byte
        self.stream.read(2)
        self.socket.sendall(b"+")
        return data[:-1].decode("ascii")

    def send(self, text):
        self.socket.sendall(f"${text}#{sum(text.encode()) & 255:02x}".encode())

    def ask(self, text):
        self.send(text)
        return self.packet()

    def must(self, text):
        answer = self.ask(text)
        if answer != "OK":
            raise RuntimeError(f"{text}: {answer}")

    def monitor(self, command):
        """What QEMU's monitor says to @command."""
        self.send("qRcmd," + command.encode().hex())
        said = ""
        while (answer := self.packet()).startswith("O") and answer != "OK":
            said += bytes.fromhex(answer[1:]).decode("ascii", "replace")
        return said.strip()

    def breakpoint(self, at, there):
        self.must(f"{'Z' if there else 'z'}0,{at:x},1")

    def write(self, at, byte):
        self.must(f"M{at:x},1:{byte:02x}")

    def read(self, at):
        return int(self.ask(f"m{at:x},1"), 16)

    def register(self, number):
        words = self.ask("g")[16 * number:16 * number + 16]
        return struct.unpack("<Q", bytes.fromhex(words))[0]


class Injector:
    """Serves one kernel, in a thread of its own, until QEMU ends."""

    def __init__(self, path, complain):
        self.path, self.complain = path, complain
        self.stub = self.point = None
        self.request = self.answer = self.steps = 0

    def look(self, line):
        """Each line that the kernel prints."""
        found = REQUEST.match(line)
        if found:
            numbers = [int(number, 16) for number in found.groups()]
            threading.Thread(target=self.serve, args=numbers, daemon=True).start()

    def serve(self, request, answer):
        try:
            self.stub = Stub(self.path)
            self.request = request
            self.stub.breakpoint(request, True)
            self.answer = answer
            self.stub.write(answer, 1)
            while True:
                self.stopped(self.stub.ask("c"))
        except (EOFError, OSError):
            pass
        except Exception as error:  # pylint: disable=broad-except
            self.complain(f"the debugger: {error}")

    def stopped(self, why):
        """The machine stands at a breakpoint, on the CPU that @why names."""
        if not why.startswith("T"):  # QEMU has come to its end
            raise EOFError
        thread = re.search(r"thread:([^;]*)", why).group(1)
        if self.stub.register(16) == self.request:
            self.take_request(thread)
        else:
            self.at_point(thread)

    def at_point(self, thread):
        """Inject, unless the CPU has a machine check already: a second would end it."""
        cpu = int(thread.rsplit(".", maxsplit=1)[-1], 16) - 1
        busy = self.answer + 1 + cpu
        if not self.stub.read(busy):
            for _ in range(self.steps):
                self.step(thread)
            self.stub.write(busy, 1)
            self.inject(cpu)
        self.set_point(None)

    def take_request(self, thread):
        at, self.steps = self.stub.register(RDI), self.stub.register(RSI) & 0xffffffff
        self.stub.breakpoint(self.request, False)
        self.step(thread)
        self.stub.breakpoint(self.request, True)
        self.set_point(at or None)

    def step(self, thread):
        """One instruction of this CPU, and none of the others."""
        self.stub.ask(f"vCont;s:{thread}")

    def set_point(self, at):
        if self.point:
            self.stub.breakpoint(self.point, False)
        self.point = at
        if at:
            self.stub.breakpoint(at, True)

    def inject(self, cpu):
        said = self.stub.monitor(f"mce {cpu} 0 {STATUS:#x} {MCG_STATUS:#x} 0 0")
        if re.search(r"CPU \d|error|not", said):
            self.complain(f"QEMU: {said}")
