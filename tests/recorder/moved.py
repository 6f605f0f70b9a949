#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Coroutines that are left in a traced call and go on in another thread, in real programs: what `shunt report` says of
how long their calls took.

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
    return finish()


sys.exit(main())
