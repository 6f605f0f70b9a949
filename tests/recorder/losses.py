#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
What a session has lost, and what is said of it: a process that is killed before its file has a beginning, or in the
middle of a second save, calls whose returns are not recorded, entries that cannot be used; and what processes leave
that have recorded nothing.

    losses.py SHUNT FOLDER

The process is killed where the recorder has created the file, and has written nothing, or the header alone: by a
filter (seccomp) at a writev() of so many parts. *Control:* where the recorder can make no new file (EROFS) a second save
that is killed costs the first; a file that has begun takes the earlier one's place, one
that nobody writes to is not kept, and of a session that lacks nothing nothing is said. TAP.
"""
import glob
import json
import os
import pathlib
import re
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
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline)) int leaf(int x) { __asm__ volatile("" : "+r"(x)); return x + 1; }

/* From now on system call @nr, with argument @arg of @least or more, or with none of the bits @without, is answered so. */
static void answer(unsigned nr, unsigned arg, unsigned least, unsigned without, unsigned how)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * arg),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, least, 0, 2),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, without, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, how),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {sizeof(code) / sizeof(*code), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter))
		_exit(77);
}

/* A writev() of so many parts is the process's last, or where it asks for a thread's name, or renames a file: it is killed
 * as by SIGKILL. */
static void die_at(const char *what)
{
	if (!strcmp(what, "name"))
		answer(SYS_openat, 2, 0, O_CREAT, SECCOMP_RET_KILL_PROCESS);
	else if (!strcmp(what, "rename"))
		answer(SYS_renameat, 0, 0, 0, SECCOMP_RET_KILL_PROCESS);
	else
		answer(SYS_writev, 2, (unsigned)atoi(what), 0, SECCOMP_RET_KILL_PROCESS);
}

__attribute__((no_instrument_function, patchable_function_entry(0))) static int call(int n)
{
	for (int i = 0; i < n; i++)
		(void)leaf(i);
	return 0;
}

/* What was saved is more by 50 calls. */
__attribute__((no_instrument_function, patchable_function_entry(0))) static int save_twice(const char *parts, const char *how)
{
	(void)call(50);
	(void)raise(SIGUSR1);
	(void)call(50);
	if (how) /* no file is made; what is there can be opened */
		answer(SYS_openat, 2, O_CREAT, O_TRUNC | O_NONBLOCK, SECCOMP_RET_ERRNO | EROFS);
	die_at(parts);
	return raise(SIGUSR1);
}

/* 50 calls, which are saved; 50 more. It ends. */
__attribute__((no_instrument_function, patchable_function_entry(0))) static int save_and_end(const char *save, const char *end, char *program)
{
	(void)call(50);
	if (!strcmp(save, "signal"))
		(void)raise(SIGUSR1);
	if (!strcmp(save, "held"))
		(void)setuid(getuid());
	if (!strcmp(save, "failed-exec"))
		(void)execl("/nonexistent", "nothing", NULL);
	if (!strcmp(save, "exec"))
		(void)execl(program, program, "saved", "nothing", end, NULL);
	(void)call(50);
	if (strstr(end, "no-descriptor"))
		(void)setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, 0});
	if (!strncmp(end, "bare", 4))
		(void)syscall(SYS_exit_group, 0);
	if (!strcmp(end, "stop"))
		return ((int (*)(void))dlsym(RTLD_DEFAULT, "shunt_trace_stop"))();
	_exit(0);
}

/* A child that does nothing, or is killed when it writes, or has called something. */
__attribute__((no_instrument_function, patchable_function_entry(0))) static int be_parent(const char *how)
{
	pid_t pid;

	(void)call(100);
	pid = fork();
	if (!pid && !strcmp(how, "exec"))
		(void)execl("/bin/true", "true", NULL);
	if (!pid && atoi(how))
		die_at(how);
	if (!pid && (atoi(how) || !strcmp(how, "calls")))
		(void)call(1);
	if (!pid && !strcmp(how, "exit"))
		exit(0);
	if (!pid)
		_exit(0);
	return waitpid(pid, NULL, 0) != pid;
}

__attribute__((no_instrument_function, patchable_function_entry(0))) int main(int argc, char **argv)
{
	struct stat st;

	if (argc > 2 && !strcmp(argv[1], "exec")) {
		(void)leaf(1);
		(void)execl(argv[0], argv[0], argv[2], NULL);
	}
	if (argc > 2 && !strcmp(argv[1], "fork"))
		return be_parent(argv[2]);
	if (argc > 2 && !strcmp(argv[1], "twice"))
		return save_twice(argv[2], argv[3]);
	if (argc > 2 && !strcmp(argv[1], "await")) {
		unsigned char first[16];

		memcpy(first, (void *)leaf, sizeof(first));
		while (!memcmp(first, (void *)leaf, sizeof(first))) /* its entry is changed when it is traced */
			(void)usleep(1000);
		(void)usleep((unsigned)atoi(argv[3]) * 1000); /* the agent is to say so yet */
		(void)call(100);
		die_at(argv[2]);
		return 0;
	}
	if (argc > 2 && !strcmp(argv[1], "limited")) { /* what is saved at the end does not fit */
		unsigned char first[16];

		memcpy(first, (void *)leaf, sizeof(first));
		while (!memcmp(first, (void *)leaf, sizeof(first)))
			(void)usleep(1000);
		(void)usleep((unsigned)atoi(argv[3]) * 1000);
		(void)call(10000);
		(void)setrlimit(RLIMIT_FSIZE, &(struct rlimit){(rlim_t)atol(argv[2]), (rlim_t)atol(argv[2])});
		if (argc > 4)
			abort();
		return 0;
	}
	if (argc > 3 && !strcmp(argv[1], "saved")) /* and is to end otherwise */
		return save_and_end(argv[2], argv[3], argv[0]);
	if (argc > 2 && !strcmp(argv[1], "held")) { /* setrlimit() may forbid to open files: that of the session stays open */
		struct rlimit limit;

		(void)call(50);
		(void)getrlimit(RLIMIT_NOFILE, &limit);
		(void)setrlimit(RLIMIT_NOFILE, &limit);
		(void)call(50);
		die_at(argv[2]);
		return 0;
	}
	if (argc > 1 && !strcmp(argv[1], "nothing"))
		return 0;
	if (argc > 2) { /* its session has begun: that is more than a header and a chunk */
		while (stat(argv[2], &st) || st.st_size < 512)
			(void)leaf(1);
		(void)kill(getpid(), SIGKILL);
	}
	if (argc > 1)
		die_at(argv[1]);
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


def report_of(path):
    out = subprocess.run([SHUNT, "report", "--json", path], capture_output=True, text=True, check=False)
    if out.returncode:
        return None, False
    report = json.loads(out.stdout)
    return sum(row["calls"] for row in report["functions"] if row["function"] == "leaf"), report["complete"]


def killed_again(program):
    """The first save is whole; the process is killed in the second one."""
    if subprocess.run([program, "99"], check=False).returncode == 77:
        ok(True, "killed in the second save # SKIP no seccomp")
        return
    options = ["--flight", "--signal", "USR1"]
    for parts, what in ("1", "nothing"), ("2", "the header alone"), ("name", "some of it"), ("rename", "all of it"):
        clean()
        done = trace(program, "twice", parts, options=options)
        left = [name for name in glob.glob(f"{FILE}*") if name != str(FILE)]
        ok(done.returncode == -signal.SIGSYS and report_of(FILE) == (50, True),
           f"killed in the second save, with {what} written: the first is whole", done, report_of(FILE))
        is_left = not parts.isdigit()
        ok(len(left) == is_left and ("was killed while it saved" in done.stderr) == is_left and
           (not is_left or (report_of(left[0])[0], report_of(left[0])[1]) == {"name": (0, False), "rename": (100, True)}[parts]),
           "and what was written of the second is said, if it says what it is of", done, left)
    clean()
    done = trace(program, "twice", "9", options=options)
    ok(done.returncode == 0 and glob.glob(f"{FILE}*") == [str(FILE)] and report_of(FILE) == (100, True),
       "not killed: the last one alone is there", done)
    clean()
    done = trace(program, "twice", "name", "over", options=options)
    ok(done.returncode == -signal.SIGSYS and report_of(FILE) == (50, True), "where no new file can be made it is so, too", done)
    clean()
    done = trace(program, "twice", "9", "over", options=options)
    ok(not done.returncode and report_of(FILE) == (100, True), "and not killed there: the last one is there", done, report_of(FILE))


def saved_and_ended(program):
    """An earlier save has an end: that is not the process's."""
    options = ["--flight", "--signal", "USR1"]
    for save, calls in ("signal", 50), ("held", 50), ("failed-exec", 50), ("exec", 50):
        clean()
        done = trace(program, "saved", save, "bare", options=options)
        ok(done.returncode == 1 and "ended without saying so" in done.stderr and len(done.stderr.splitlines()) == 1 and
           report_of(FILE) == (calls, True) and ("of its last program" in done.stderr) == (save == "exec"),
           f"saved by {save}, and ended by a system call of its own: said", done, report_of(FILE))
    for save, end in ("signal", "_exit"), ("held", "_exit"), ("held", "_exit-no-descriptor"), ("failed-exec", "_exit"), ("exec", "_exit"), ("signal", "stop"):
        clean()
        done = trace(program, "saved", save, end, options=options)
        ok(done.returncode == 0 and not done.stderr and report_of(FILE) == (50 if save == "exec" or end == "stop" else 100, True),
           f"control: saved by {save}, and by {end}: nothing is said", done, report_of(FILE))
    clean()
    done = trace(program, "saved", "held", "bare-no-descriptor", options=options)
    ok(done.returncode == 1 and "ends early" in done.stderr, "and without a descriptor, by a system call of its own: said", done, report_of(FILE))


def killed_held(program):
    """The same of a file that stays open, for the process may not open it again."""
    for what, wanted in ("99", 100), ("name", 50), ("2", 50):
        clean()
        done = trace(program, "held", what, options=["--flight"])
        said = subprocess.run([SHUNT, "report", FILE], capture_output=True, text=True, check=False)
        ok(done.returncode == (0 if wanted == 100 else -signal.SIGSYS) and report_of(FILE) == (wanted, True) and not said.stderr and
           glob.glob(f"{FILE}*") == [str(FILE)],
           f"a file that stays open: killed in the second save, at {what}" if wanted == 50 else "control: not killed", done, said)


def killed_at_exit(program):
    """What another process keeps is saved when it exits."""
    for what in "2", "name", "99":
        old = earlier(program)
        for wait in 100, 400, 1600, 6400:
            with subprocess.Popen([program, "await", what, str(wait)]) as process:
                done = subprocess.run([SHUNT, "trace", "--flight", "-o", FILE, "-p", str(process.pid)], timeout=60, capture_output=True,
                                      text=True, check=False)
                process.kill()
            if "disconnected" not in done.stderr:
                break
        if "ptrace" in done.stderr:
            ok(True, f"trace -p --flight: killed in its save # SKIP {done.stderr.strip()}")
            return
        if what == "99":
            ok(done.returncode == 0 and report_of(FILE) == (100, True), "control: not killed", done, report_of(FILE))
        else:
            ok(done.returncode == 1 and FILE.read_bytes() == old and "is lost" in done.stderr and glob.glob(f"{FILE}*") == [str(FILE)],
               f"trace -p --flight: killed in its save, at {what}: the earlier file is as it was, and it is said", done, report_of(FILE))


def too_long_at_exit(program):
    """And where that does not fit the earlier file stays."""
    for limit, *how in ("20000",), ("20000", "abort"), ("10000000",):
        old = earlier(program)
        for wait in 100, 400, 1600, 6400:
            with subprocess.Popen([program, "limited", limit, str(wait), *how]) as process:
                done = subprocess.run([SHUNT, "trace", "--flight", "--keep-all", "-o", FILE, "-p", str(process.pid)], timeout=60,
                                      capture_output=True, text=True, check=False)
                process.kill()
            if "disconnected" not in done.stderr:
                break
        if "ptrace" in done.stderr:
            ok(True, f"trace -p --flight: it does not fit # SKIP {done.stderr.strip()}")
            return
        if limit == "10000000":
            ok(done.returncode == 0 and report_of(FILE) == (10000, True), "control: it fits", done, report_of(FILE))
        else:
            ok(done.returncode == 1 and FILE.read_bytes() == old and glob.glob(f"{FILE}*") == [str(FILE)],
               f"trace -p --flight: its save does not fit: the earlier file is as it was {' '.join(how)}", done, report_of(FILE))


def nothing_recorded(program):
    for options in [], ["--flight"]:
        old = earlier(program)
        done = trace(program, "nothing", options=options)
        ok(done.returncode == 1 and "no call of" in done.stderr and FILE.read_bytes() == old and
           glob.glob(f"{FILE}*") == [str(FILE)], f"nothing was called: the earlier one is as it was {' '.join(options)}", done)
        for how in "_exit", "exit", "exec", "1", "2":
            clean()
            done = trace(program, "fork", how, options=options)
            if how in "12" and not options: # it has called something
                others = glob.glob(f"{FILE}.*")
                ok(done.returncode == 0 and report_of(FILE) == (100, True) and len(others) == 1 and
                   f"{others[0]} has no end" in done.stderr, f"a child that is killed at its first call has a file, and it is said: {how}",
                   done, others)
                continue
            ok(done.returncode == 0 and glob.glob(f"{FILE}*") == [str(FILE)] and report_of(FILE) == (100, True),
               f"a child that has recorded nothing has no file: {how} {' '.join(options)}", done, glob.glob(f"{FILE}*"))
        clean()
        done = trace(program, "fork", "calls", options=options)
        files = glob.glob(f"{FILE}.*")
        ok(done.returncode == 0 and len(files) == 1 and report_of(files[0]) == (1, True),
           f"control: one that has {' '.join(options)}", done, files)
    clean()
    others = [pathlib.Path(f"{FILE}.{name}") for name in ("1x", "old", "12.new-x", "5")]
    for file in others[:-1]:
        file.write_text("")
    others[-1].write_text("what somebody else has written")
    trace(program)
    ok(all(file.exists() for file in others), "what has another name, or is no recording, stays")


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
    for words, wanted in (("x",), True), ((), False):
        done = subprocess.run([SHUNT, "trace", "--keep-all", "--ring", "16M", "--top", "--", program, *words], timeout=60,
                              capture_output=True, text=True, check=False)
        found = re.findall(r" lost, (\d+) without a return, ", done.stderr)
        ok(done.returncode == 0 and (70000 - 65536 <= int(found[-1]) < 70000 if found else False) == wanted,
           "and by --top" if wanted else "control: not where nothing is missing", done)
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
    ok(done.returncode == 1 and "no function of" in done.stderr and
       "cannot be used (leaf: somebody else has changed its entry" in done.stderr,
       "said: entries that others had changed before", done)
    plain = build("plain", "int pause(void); int main(int argc, char **argv) { return argc > 1 && pause(); }\n")
    kinds = "cannot be used on this CPU" if os.uname().machine == "aarch64" else "200 instructions"
    running(plain, "control: a process without entries", ("nothing in it is an entry of", kinds))
    done = trace(plain)
    ok("nothing in it is an entry of" in done.stderr and kinds in done.stderr and
       "cannot be used" not in done.stderr, "control: a program without entries", done)


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    program = build("killed", KILLED, "-fpatchable-function-entry=5")
    killed(program)
    killed_again(program)
    saved_and_ended(program)
    killed_held(program)
    killed_at_exit(program)
    too_long_at_exit(program)
    nothing_recorded(program)
    written_still(program)
    no_returns(build("stubs", STUBS, "-fpatchable-function-entry=5"))
    unusable()
    return finish()


sys.exit(main())
