# SPDX-License-Identifier: MIT
"""A program of fibres that go from thread to thread, made at random: its events, and of each call what became of it."""
import random
import zlib

from trace_writer import ENTRY, RETURN

BASE, HANDLERS = 0x7F0000100000, 0x7F0040000000
F = {name: 0x401000 + 16 * i for i, name in enumerate([*(f"f{i}" for i in range(8)), "fibre", "generator", "handler"])}


class Call:
    def __init__(self, function, thread, start, place, caller):
        self.function, self.thread, self.start, self.place, self.caller = function, thread, start, place, caller
        self.end = self.returned_in = self.unwound = None

    def is_recursive(self):
        caller = self.caller
        while caller and caller.function != self.function:
            caller = caller.caller
        return bool(caller)


class Stack:
    def __init__(self, base, size):
        self.base = self.sp = base
        self.least = base - size + 1500
        self.open, self.within = [], []  # within: the generators that run in it


class Program:
    """size: of each stack; they lie side by side. The other numbers are how likely a thing is."""

    def __init__(self, seed, threads=3, stacks=6, size=65536, steps=1500, unwind=0.0, abandon=0.0, signals=0.0, generators=0.0,
                 big=False, deepest=12):
        self.random, self.now, self.calls, self.big = random.Random(seed), 1000, [], big
        self.events = {t: [] for t in range(threads)}
        self.runs = {t: [] for t in range(threads)}
        self.free = [Stack(BASE + size * (i + 1) - 64, size) for i in range(stacks)]
        self.random.shuffle(self.free)
        self.ready, self.moves = [], 0
        for _ in range(steps):
            self.now += self.random.randrange(300, 3000)
            thread = self.random.randrange(threads)
            if not self.runs[thread]:
                self.resume(thread, abandon)
            else:
                self.step(thread, unwind, signals, generators, deepest)
        self.end = self.now + 1000

    def take_free(self):
        stack = self.free.pop(self.random.randrange(len(self.free)))
        stack.sp, stack.open = stack.base, []
        return stack

    def resume(self, thread, abandon):
        if self.ready and self.random.random() < abandon:
            stack = self.ready.pop(self.random.randrange(len(self.ready)))
            for one in [stack, *stack.within]:
                self.unwind(one, len(one.open))
                self.free.append(one)
            stack.within = []
        elif self.ready and (not self.free or self.random.random() < 0.7):
            stack = self.ready.pop(self.random.randrange(len(self.ready)))
            self.runs[thread] = [stack, *stack.within]
            stack.within = []
            self.moves += bool(stack.open) and stack.thread != thread
        elif self.free:
            self.runs[thread] = [self.take_free()]
            self.enter(thread, self.runs[thread][0], "fibre")

    def step(self, thread, unwind, signals, generators, deepest):
        chain, chance = self.runs[thread], self.random.random()
        stack = chain[-1]
        stack.thread = chain[0].thread = thread
        if self.random.random() < signals:
            self.handle(thread)
        elif chance < 0.35 and stack.sp > stack.least + 12100 * self.big and len(stack.open) < deepest:
            self.enter(thread, stack, f"f{self.random.randrange(6)}")
        elif chance < 0.65:
            self.leave(thread, stack)
            if not stack.open:
                self.free.append(chain.pop())
        elif chance < 0.65 + unwind and len(stack.open) > 2:
            self.unwind(stack, self.random.randrange(1, len(stack.open) - 1))
            self.enter(thread, stack, "f7")
        elif chance < 0.7 + generators and self.free and len(chain) < 3:
            chain.append(self.take_free())
            self.enter(thread, chain[-1], "generator")
        else:
            chain[0].within, self.runs[thread] = chain[1:], []
            self.ready.append(chain[0])

    def enter(self, thread, stack, function):
        call = Call(function, thread, self.now, stack.sp, stack.open[-1] if stack.open else None)
        stack.sp -= 12008 if self.big and function == "f3" else 48 + 8 * (zlib.crc32(function.encode()) % 40)
        stack.open.append(call)
        self.calls.append(call)
        self.events[thread].append((ENTRY, self.now, call.place, F[function]))

    def leave(self, thread, stack):
        call = stack.open.pop()
        call.end, call.returned_in, stack.sp = self.now, thread, call.place
        self.events[thread].append((RETURN, self.now, call.place, 0))

    def unwind(self, stack, n):
        for _ in range(n):
            call = stack.open.pop()
            call.unwound, stack.sp = self.now, call.place

    def handle(self, thread):
        stack = Stack(HANDLERS + 65536 * thread, 32768)
        for function in "handler", "f1":
            self.now += 10
            self.enter(thread, stack, function)
        for _ in range(2):
            self.now += 10
            self.leave(thread, stack)
