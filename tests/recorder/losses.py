#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
What a session has lost, and what is said of it: a process that is killed before its file has a beginning, calls
whose returns are not recorded, entries that cannot be used.

    losses.py SHUNT FOLDER

The process is killed where the recorder has created the file, and has written nothing, or the header alone: by a
filter (seccomp) at a writev() of so many parts. *Control:* a file that has begun takes the earlier one's place, one
that nobody writes to is not kept, and of a session that lacks nothing nothing is said. TAP.
"""
import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok

SHUNT, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
FILE = FOLDER / "l.trace"

# 100 calls; killed when the recorder writes, or when its file has begun.
KILLED = r"""
#define _GNU_SOURCE
#include <signal.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((noinline)) int leaf(int x) { __asm__ volatile("" : "+r"(x)); return x + 1; }

/* A writev() of @parts parts is the process's last: it is killed as by SIGKILL. */
static void die_at(unsigned parts)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_writev, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, parts, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {sizeof(code) / sizeof(*code), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter))
		_exit(77);
}

__attribute__((no_instrument_function, patchable_function_entry(0))) int main(int argc, char **argv)
{
	struct stat st;

	if (argc > 2 && !strcmp(argv[1], "exec")) {
		(void)leaf(1);
		(void)execl(argv[0], argv[0], argv[2], NULL);
	}
	if (argc > 2) { /* its session has begun: that is more than a header and a chunk */
		while (stat(argv[2], &st) || st.st_size < 512)
			(void)leaf(1);
		(void)kill(getpid(), SIGKILL);
	}
	if (argc > 1)
		die_at((unsigned)atoi(argv[1]));
	for (int i = 0; i < 100; i++)
		(void)leaf(i);
	return 0;
}
"""

# More return addresses than there are stubs for returns (65,536).
STUBS = r"""
#include <sys/wait.h>
#include <unistd.h>
__attribute__((noinline)) void leaf(void) { __asm__ volatile(""); }
void many(void);
__asm__(".globl many\n.type many, @function\nmany:\n\tsub $8, %rsp\n\t.rept 70000\n\tcall leaf\n\t.endr\n\tadd $8, %rsp\n\tret\n"
	".size many, .-many\n");
int main(int argc, char **argv)
{
	if (argc > 1)
		many();
	else
		leaf();
	if (argc > 2 && !fork()) {
		many();
		_exit(0);
	}
	return argc > 2 && wait(0) < 0;
}
"""

OWN_HANDLERS = r"""
void __cyg_profile_func_enter(void *a, void *b);
void __cyg_profile_func_exit(void *a, void *b);
static volatile long n;
#define NOT __attribute__((no_instrument_function, noinline))
NOT void __cyg_profile_func_enter(void *a, void *b) { (void)a, (void)b; n++; __asm__ volatile("" ::: "memory"); }
NOT void __cyg_profile_func_exit(void *a, void *b) { (void)a, (void)b; n++; __asm__ volatile("" ::: "memory"); }
int pause(void);
int main(int argc, char **argv) { return argc > 1 && pause(); }
"""

# Before the recorder looks, by a constructor that comes first, others have changed the entry, of which they say nothing.
CHANGED = r"""
#include <string.h>
#include <sys/mman.h>
#include <stdint.h>
__attribute__((noinline)) int leaf(int x) { __asm__ volatile("" : "+r"(x)); return x + 1; }
#define NOT __attribute__((patchable_function_entry(0)))
NOT static void change(void)
{
	unsigned char *code = (unsigned char *)leaf, other[] = {0x0f, 0x1f, 0x44, 0x00, 0x01};
	char *page = (char *)((uintptr_t)code & -4096ul);

	if (!memcmp(code, "\xf3\x0f\x1e\xfa", 4))
		code += 4;
	(void)mprotect(page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC);
	memcpy(code, other, 5);
}
__attribute__((section(".preinit_array"), used)) static void (*const first)(void) = change;
NOT int main(void) { return leaf(1) != 2; }
"""


def build(name, source, *options):
    (FOLDER / f"{name}.c").write_text(source)
    subprocess.run(["gcc", "-O2", "-w", *options, "-o", FOLDER / name, FOLDER / f"{name}.c"], check=True)
    return FOLDER / name


def trace(*words, options=()):
    return subprocess.run([SHUNT, "trace", "-o", FILE, "--keep-all", *options, "--", *words], timeout=60,
                          capture_output=True, text=True, check=False)


def clean():
    for old in glob.glob(f"{FILE}*"):
        os.unlink(old)


def earlier(program):
    clean()
    trace(program)
    return FILE.read_bytes()


def killed(program):
    """Of the parts that a file begins with, the header is one; a chunk has two or more."""
    if subprocess.run([program, "99"], check=False).returncode == 77:
        ok(True, "killed before the file has begun # SKIP no seccomp")
        return
    for parts, what in (1, "nothing"), (2, "the header alone"):
        old = earlier(program)
        done = trace(program, str(parts))
        ok(done.returncode == -signal.SIGSYS and FILE.read_bytes() == old and glob.glob(f"{FILE}*") == [str(FILE)] and
           "before anything was written" in done.stderr and "is as it was" in done.stderr and
           "ends early" not in done.stderr, f"killed with {what} in the file: the earlier one is as it was", done)
        clean()
        done = trace(program, str(parts))
        ok(done.returncode == -signal.SIGSYS and not glob.glob(f"{FILE}*") and "there is no" in done.stderr,
           f"killed with {what} in the file: it is not left", done)
    old = earlier(program)
    done = trace(program, "1", options=["--flight"])
    ok(done.returncode == -signal.SIGSYS and FILE.read_bytes() == old and "is as it was" in done.stderr,
       "killed while what was kept is saved", done)
    done = trace("sh", "-c", f"{program} 1; {program}")
    ok(not done.returncode and FILE.read_bytes() == old and len(glob.glob(f"{FILE}*")) == 2,
       "killed, and another process of the command has its own", done, glob.glob(f"{FILE}*"))
    clean()
    done = trace(program, "exec", "1")
    ok(done.returncode == -signal.SIGSYS and glob.glob(f"{FILE}*") == [str(FILE)] and "ends early" not in done.stderr and
       "before anything of its last program was written" in done.stderr, "killed behind an exec(), with nothing in the second file",
       done, glob.glob(f"{FILE}*"))
    old = earlier(program)
    done = trace(program, "late", FILE)
    ok(done.returncode == -signal.SIGKILL and FILE.read_bytes() != old and "ends early" in done.stderr and glob.glob(f"{FILE}*") == [str(FILE)] and
       not subprocess.run([SHUNT, "report", FILE], capture_output=True, check=False).returncode,
       "control: one that has begun takes the earlier one's place", done)


def written_still(program):
    """Somebody who goes on has the file open, and nothing in it yet: it is his."""
    old = earlier(program)
    read, write = os.pipe()
    script = f"exec 9>{FILE}; (read x <&{read}) >/dev/null 2>&1 & :"
    done = subprocess.run([SHUNT, "trace", "-o", FILE, "--", "sh", "-c", script], timeout=60, capture_output=True,
                          text=True, check=False, pass_fds=[read])
    kept = glob.glob(f"{FILE}.earlier-*")
    ok(FILE.exists() and not FILE.read_bytes() and len(kept) == 1 and pathlib.Path(kept[0]).read_bytes() == old and
       "the earlier" in done.stderr, "a file that somebody is about to write to: the earlier one stays aside, and it is said", done)
    os.write(write, b"\n")
    os.close(read)
    os.close(write)
    old = earlier(program)
    done = trace("sh", "-c", f"exec 9>{FILE}")
    ok(FILE.read_bytes() == old and glob.glob(f"{FILE}*") == [str(FILE)], "control: one that nobody writes to", done)


def no_returns(program):
    said = "recorded without a return"
    for options in ([], ["--flight"]):
        clean()
        done = trace(program, "x", options=["--ring", "16M", *options])
        report = subprocess.run([SHUNT, "report", FILE], capture_output=True, text=True, check=False)
        of_json = json.loads(subprocess.run([SHUNT, "report", "--json", FILE], capture_output=True, text=True,
                                            check=False).stdout)
        leaf = [row for row in of_json["functions"] if row["function"] == "leaf"][0]
        n = of_json["no_return"]
        ok(70000 - 65536 <= n == leaf["calls"] - leaf["timed"] and leaf["calls"] == 70000 and not done.returncode and
           f"trace: {n} calls are {said}" in done.stderr and f"\n{n} calls are {said}" in report.stdout,
           f"return stubs are used up: said {' '.join(options)}", done, of_json, report)
        for words in (["export", "--folded"], ["export", "--chrome"], ["graph"]):
            out = subprocess.run([SHUNT, *words, FILE], capture_output=True, text=True, check=False)
            ok(f"{n} calls are {said}" in out.stderr, f"and by {' '.join(words)}", out)
    clean()
    done = trace(program, "x", "fork", options=["--ring", "16M"])
    all_of = [json.loads(subprocess.run([SHUNT, "report", "--json", name], capture_output=True, text=True,
                                        check=False).stdout)["no_return"] for name in glob.glob(f"{FILE}*")]
    ok(not done.returncode and len(all_of) == 2 and min(all_of) > 4000 and f"trace: {sum(all_of)} calls are {said}" in done.stderr,
       "a child's are its own, and both are said", done, all_of)
    for words, options in ((), ()), (("x",), ("--entries", "--ring", "16M")):
        done = trace(program, *words, options=options)
        report = subprocess.run([SHUNT, "report", FILE], capture_output=True, text=True, check=False)
        ok(not done.returncode and said not in done.stderr + report.stdout,
           f"control: nothing is said where nothing is missing {' '.join(options)}", done, report)


def running(program, what, words):
    with subprocess.Popen([program, "x"]) as process:
        done = subprocess.run([SHUNT, "trace", "-o", FILE, "-p", str(process.pid)], timeout=60, capture_output=True,
                              text=True, check=False)
        process.kill()
    if "none of its functions" not in done.stderr and "ptrace" in done.stderr:
        ok(True, f"{what} # SKIP {done.stderr.strip()}")
        return
    ok(done.returncode == 1 and all(word in done.stderr for word in words), what, done)


def unusable():
    own = build("own", OWN_HANDLERS, "-finstrument-functions", "-fno-ipa-icf")
    clean()
    done = trace(own)
    ok(done.returncode == 1 and "handler of the" in done.stderr and "cannot be used (main: " in done.stderr and
       "nothing in it" not in done.stderr, "said: its calls lead to handlers of its own", done)
    running(own, "said: the same of a process that runs", ("handler of the", "cannot be used (main: "))
    changed = build("changed", CHANGED, "-fpatchable-function-entry=5")
    done = trace(changed)
    ok(done.returncode == 1 and "no call of the one function that is traced was seen" in done.stderr and
       "cannot be used (leaf: somebody else has changed its entry" in done.stderr,
       "said: entries that others had changed before", done)
    plain = build("plain", "int pause(void); int main(int argc, char **argv) { return argc > 1 && pause(); }\n")
    running(plain, "control: a process without entries", ("nothing in it is an entry of", "200 instructions"))
    done = trace(plain)
    ok("nothing in it is an entry of" in done.stderr and "200 instructions" in done.stderr and
       "cannot be used" not in done.stderr, "control: a program without entries", done)


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    program = build("killed", KILLED, "-fpatchable-function-entry=5")
    killed(program)
    written_still(program)
    no_returns(build("stubs", STUBS, "-fpatchable-function-entry=5"))
    unusable()
    return finish()


sys.exit(main())
