#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Coroutines that are left in a traced call and go on in another thread, in real programs: what `shunt report` says of
how long their calls took, also where their stacks lie side by side and two threads take them in turn.

    moved.py SHUNT FOLDER

*Control:* a coroutine that nothing resumes stays open, and one that stays in its thread returns there. TAP.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

SHUNT, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
FILE = FOLDER / "m.trace"
WAIT_NS = 300e6
FIBRES = 20

PROGRAM = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>
#define NOT __attribute__((patchable_function_entry(0), no_instrument_function, noinline))
enum { FIBRES = 20, STACK = 1 << 16 };
static ucontext_t fibres[FIBRES], *back;
static int now, n = FIBRES;
NOT static void yield_(void) { (void)swapcontext(&fibres[now], back); }
__attribute__((noinline)) int inner(int x) { __asm__ volatile("" : "+r"(x)); return x; }
__attribute__((noinline)) int job(int x)
{
	int r = inner(x);

	yield_();
	r += inner(x);
	__asm__ volatile("" : "+r"(r));
	return r;
}
NOT static void run(void) { (void)job(1); yield_(); }
NOT static void resume_all(void)
{
	ucontext_t me;

	back = &me;
	for (now = 0; now < n; now++)
		(void)swapcontext(&me, &fibres[now]);
}
NOT static void *other(void *arg) { (void)arg; resume_all(); return NULL; }
NOT int main(int argc, char **argv)
{
	static char stacks[FIBRES][STACK];
	pthread_t thread;

	(void)argc;
	for (int i = 0; i < FIBRES; i++) {
		(void)getcontext(&fibres[i]);
		fibres[i].uc_stack.ss_sp = stacks[i];
		fibres[i].uc_stack.ss_size = STACK;
		makecontext(&fibres[i], run, 0);
	}
	resume_all();
	n = strcmp(argv[1], "left") ? FIBRES : FIBRES / 2;
	if (!strcmp(argv[1], "stays"))
		resume_all();
	else if (pthread_create(&thread, NULL, other, NULL) || pthread_join(thread, NULL))
		return 1;
	return usleep(300000);
}
"""

# Fibres on stacks side by side that two threads take in turn; what leaf() and part() took is counted by the program itself.
SWARM = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sched.h>
#include <time.h>
#include <ucontext.h>
#define NOT __attribute__((patchable_function_entry(0), no_instrument_function, noinline))
enum { FIBRES = 3, ROUNDS = 100, LEAF_NS = 20000 };
static struct fibre { ucontext_t here, *back; struct fibre *next; int done, thread; } fibres[FIBRES], *first, **last = &first;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread struct fibre *now;
static __thread int self;
static int alive = FIBRES;
static long parts_ns, moves;
NOT static long clock_ns(void) { struct timespec t; (void)clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000L + t.tv_nsec; }
NOT static struct fibre *mine(void) { __asm__ volatile("" ::: "memory"); return now; }
NOT static void yield_(void) { struct fibre *f = mine(); (void)swapcontext(&f->here, f->back); }
__attribute__((noinline)) void leaf(void) { for (long end = clock_ns() + LEAF_NS; clock_ns() < end;) ; }
__attribute__((noinline)) void part(void) { leaf(); yield_(); leaf(); __asm__ volatile(""); }
__attribute__((noinline)) void whole(void)
{
	for (int i = 0; i < ROUNDS; i++) {
		long ns = clock_ns();

		part();
		(void)__atomic_add_fetch(&parts_ns, clock_ns() - ns, __ATOMIC_RELAXED);
	}
	__asm__ volatile("");
}
NOT static void run(void) { whole(); mine()->done = 1; yield_(); }
NOT static void *take(void *number)
{
	ucontext_t me;

	self = (int)(long)number;
	while (__atomic_load_n(&alive, __ATOMIC_RELAXED)) {
		struct fibre *f;

		(void)pthread_mutex_lock(&lock);
		f = first && first->thread != self ? first : NULL;
		if (f && !(first = f->next))
			last = &first;
		(void)pthread_mutex_unlock(&lock);
		if (!f) {
			(void)sched_yield();
			continue;
		}
		(void)__atomic_add_fetch(&moves, f->thread && f->thread != self, __ATOMIC_RELAXED);
		f->thread = self;
		f->back = &me;
		now = f;
		(void)swapcontext(&me, &f->here);
		(void)pthread_mutex_lock(&lock);
		f->next = NULL;
		if (f->done) {
			alive--;
		} else {
			*last = f;
			last = &f->next;
		}
		(void)pthread_mutex_unlock(&lock);
	}
	return NULL;
}
NOT int main(int argc, char **argv)
{
	long size = atol(argv[1]);
	char *stacks = malloc((size_t)(FIBRES * size));
	pthread_t threads[2];

	(void)argc;
	for (int i = 0; i < FIBRES; i++) {
		struct fibre *f = &fibres[i];

		(void)getcontext(&f->here);
		f->here.uc_stack.ss_sp = stacks + i * size;
		f->here.uc_stack.ss_size = (size_t)size;
		makecontext(&f->here, run, 0);
		*last = f;
		last = &f->next;
	}
	for (long i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, take, (void *)(i + 1)))
			return 1;
	for (int i = 0; i < 2; i++)
		(void)pthread_join(threads[i], NULL);
	return printf("%ld %ld\n", parts_ns, moves) < 0;
}
"""


def swarm(size):
    """Stacks of @size bytes beside each other."""
    said, of, done = record(FOLDER / "swarm", str(size), "-F", "leaf part whole")
    truth, moves = map(int, done.stdout.split())
    lines = [json.loads(line) for line in subprocess.run([SHUNT, "replay", "--json", FILE], capture_output=True, text=True, timeout=60,
                                                         check=True).stdout.splitlines()]
    part, leaf, whole = of["part"], of["leaf"], of["whole"]
    ok(not said["lost"] and moves > 150 and (part["calls"], leaf["calls"], whole["calls"]) == (300, 600, 3) and
       all(line["end"] == "return" for line in lines) and leaf["self_ns"] == leaf["total_ns"] and
       min(line["duration_ns"] for line in lines if line["function"] == "leaf") >= 19900 and
       min(line["duration_ns"] for line in lines if line["function"] == "part") >= 39900 and
       0.75 * truth <= part["total_ns"] <= truth * 1.0001 and whole["total_ns"] >= part["total_ns"],
       f"stacks of {size} side by side: {moves} moves, and the times are those of the program", truth, said)


def record(program, what, *options):
    FILE.unlink(missing_ok=True)
    done = subprocess.run([SHUNT, "trace", "--keep-all", "-o", FILE, *options, "--", program, what], timeout=60,
                          capture_output=True, text=True, check=False)
    report = subprocess.run([SHUNT, "report", "--json", FILE], capture_output=True, text=True, timeout=60, check=True)
    said = json.loads(report.stdout)
    return said, {row["function"]: row for row in said["functions"]}, done


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    (FOLDER / "moved.c").write_text(PROGRAM)
    for flags in "-fpatchable-function-entry=5", "-pg -mfentry", "-finstrument-functions":
        program = FOLDER / "moved"
        subprocess.run(["gcc", "-O2", "-w", "-pthread", *flags.split(), "-o", program, FOLDER / "moved.c"], check=True)
        said, of, done = record(program, "moves", "-F", "job inner")
        job = of["job"]
        ok((job["calls"], job["timed"], job["open"], said["returns_without_entry"]) == (FIBRES, FIBRES, 0, 0) and
           job["self_ns"] < job["total_ns"] < FIBRES * WAIT_NS / 2, f"{flags}: they return in another thread", job, said, done)
        said, of, done = record(program, "stays", "-F", "job inner")
        job = of["job"]
        ok((job["calls"], job["timed"], job["open"], said["returns_without_entry"]) == (FIBRES, FIBRES, 0, 0),
           f"control: {flags}: they stay in theirs", job, said, done)
        said, of, done = record(program, "left", "-F", "job inner")
        job = of["job"]
        ok((job["calls"], job["open"], said["returns_without_entry"]) == (FIBRES, FIBRES / 2, 0) and job["max_ns"] > WAIT_NS and
           job["p99_ns"] < WAIT_NS / 2, f"control: {flags}: of half of them, which nothing resumes, nobody knows more", job, said, done)
        _, of, done = record(program, "moves", "-F", "job inner", "--flight")
        ok(of["job"]["calls"] == FIBRES and not of["job"]["open"] and of["job"]["total_ns"] < FIBRES * WAIT_NS / 2,
           f"{flags}: --flight: no time is shown that is not known", of, done)
    (FOLDER / "swarm.c").write_text(SWARM)
    subprocess.run(["gcc", "-O2", "-w", "-pthread", "-fpatchable-function-entry=5", "-o", FOLDER / "swarm", FOLDER / "swarm.c"], check=True)
    for size in 16384, 65536, 262144:
        swarm(size)
    return finish()


sys.exit(main())
