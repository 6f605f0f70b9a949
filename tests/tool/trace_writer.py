# SPDX-License-Identifier: MIT
"""Writes files of recorded sessions, as src/trace/format.h says."""
import struct

ENTRY, RETURN, TAIL, CALL = range(4)
SESSION, CLOCK, MODULE, FUNCTION, THREAD, EVENTS, OFF, END, THREAD_END, EXEC = range(1, 11)
ENTRY_ONLY = 1

_table = []
for _i in range(256):
    for _ in range(8):
        _i = _i >> 1 ^ (0x82F63B78 if _i & 1 else 0)
    _table.append(_i)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def event(kind, ticks, sp, addr):
    stack = sp >> 3 & (1 << 30) - 1
    return struct.pack('<QQ', (ticks & (1 << 49) - 1) << 15 | stack & 0x7FFF, kind << 62 | stack >> 15 << 47 | addr)


class Writer:
    def __init__(self, clock=1, argv=('prog', 'arg'), header_size=16, min_ns=0, flags=0, realtime=0, mode=0):
        self.out = bytearray(struct.pack('<8sII', b'SHUNTTRC', 1, header_size).ljust(header_size, b'\0'))
        self.threads = {}
        self.chunks = []  # where each begins
        words = b''.join(w.encode() + b'\0' for w in argv)
        self.chunk(SESSION, struct.pack('<IIQQQIIII', 77, mode, 0, realtime, min_ns, clock, flags, len(argv), 0) + words)

    def chunk(self, kind, data, crc=None):
        self.chunks.append(len(self.out))
        crc = crc32c(data) if crc is None else crc
        self.out += struct.pack('<IIQ', kind, crc, len(data)) + data + bytes(-len(data) % 8)

    def clock(self, ticks, ns):
        self.chunk(CLOCK, struct.pack('<QQQ', ticks, ns, 1))

    def module(self, number, path, start, loaded=0, unloaded=0, build_id=b'\1\2'):
        self.chunk(MODULE, struct.pack('<II32sQQQQ', number, len(build_id), build_id, start, start + 0x10000, loaded,
                                       unloaded) + path.encode() + b'\0')

    def functions(self, module, names, kind=0):
        """names: {address: name}"""
        data = b''
        for addr, name in names.items():
            name = name if isinstance(name, bytes) else name.encode()
            record = struct.pack('<QQIIII', addr + (5 if kind == 4 else 0), addr, module, kind, len(name), 16) + name + b'\0'
            data += record + bytes(-len(record) % 8)
        self.chunk(FUNCTION, data)

    def thread(self, number, tid, name='thread', started=0, pid=77):
        self.chunk(THREAD, struct.pack('<IIIIQ', number, tid, pid, 0, started) + name.encode() + b'\0')

    def events(self, thread, events, lost=0):
        self.chunk(EVENTS, struct.pack('<IIQ', thread, len(events), lost) + b''.join(event(*e) for e in events))

    def off(self, addr, calls, ticks, total):
        self.chunk(OFF, struct.pack('<QQQQ', addr, calls, ticks, total))

    def thread_end(self, thread, alive, ended):
        self.chunk(THREAD_END, struct.pack('<IIQQ', thread, 0, alive, ended))

    def exec(self, ticks):
        self.chunk(EXEC, struct.pack('<Q', ticks))

    def end(self, ticks, events, lost=0):
        self.chunk(END, struct.pack('<QQQQ', ticks, events, lost, 0))
