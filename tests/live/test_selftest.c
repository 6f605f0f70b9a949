/* SPDX-License-Identifier: MIT */
/*
 * The library's self-test: under each policy it passes here, and it notices each way of
 * poking that is broken (by wrappers of the trap path, the remap and the write), where the
 * policy may come to that way. A way that only fails is none: the next one serves. SIGTRAP's action
 * is what it was (mutant trap-give-back). Where the first writer is refused the other one serves in
 * each way (mutant selftest-first-writer-alone), but not for what the program changes then
 * (mutant selftest-keeps-writer).
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_key.h>

#include "../api/tap.h"
#include "../common/cpu.h"
#include "../common/filter.h"
#include "arch/arch.h"

enum shunt_trap __real_shunt_trap(struct shunt_regs *regs);
enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs);
int __real_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);

static enum breakage {
	NOTHING,
	TRAP,     /* emulated calls and jumps go to wrong() instead */
	REMAP,    /* says that it is done, and has done nothing */
	NO_REMAP, /* fails */
	WRITE,    /* says that it is done, and has done nothing */
	FLIP,     /* the same of a flip alone: a single write of a byte */
	NO_WRITE, /* fails, by either writer */
	BREAKAGES,
} broken;

static unsigned remaps, traps, writes;

static int wrong(void)
{
	return 7;
}

enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs)
{
	enum shunt_trap trap = __real_shunt_trap(regs);

	traps++;
	if (broken == TRAP && trap == SHUNT_TRAP_EMULATED)
		regs->ip = (uintptr_t)wrong;
	return trap;
}

int __wrap_shunt_port_text_remap(const struct shunt_write *w, size_t n, size_t stride)
{
	remaps++;
	if (broken == NO_REMAP)
		return -EPERM;
	return broken == REMAP ? 0 : __real_shunt_port_text_remap(w, n, stride);
}

int __wrap_shunt_port_text_write(const struct shunt_write *w, size_t n)
{
	writes++;
	if (broken == FLIP && (n == 1 || !CPU_HAS_TRAPS) && w->len == SHUNT_FLIP_LEN)
		return 0;
	if (broken == NO_WRITE)
		return -EPERM;
	return broken == WRITE ? 0 : __real_shunt_port_text_write(w, n);
}

/* By policy: what is tried, and what is to be said of each breakage. */
static const struct {
	enum shunt_poke_policy policy;
	const char *name;
	bool writes, remaps, traps;
	int result[BREAKAGES];
} policies[] = {
#if !CPU_HAS_TRAPS /* flips are for every change, also where the policy's own way fails */
	{SHUNT_POKE_AUTO, "auto", true, true, false, {0, 0, -EIO, 0, -EIO, -EIO, 0}},
	{SHUNT_POKE_INT3, "int3", true, false, false, {0, 0, 0, 0, -EIO, -EIO, -EPERM}},
	{SHUNT_POKE_REMAP, "remap", true, true, false, {0, 0, -EIO, 0, -EIO, -EIO, 0}},
	{SHUNT_POKE_ATOMIC, "atomic", true, false, false, {0, 0, 0, 0, -EIO, -EIO, -EPERM}},
#else
	{SHUNT_POKE_AUTO, "auto", true, true, true, {0, -EIO, -EIO, 0, -EIO, -EIO, 0}},
	{SHUNT_POKE_INT3, "int3", true, false, true, {0, -EIO, 0, 0, -EIO, -EIO, -EPERM}},
	{SHUNT_POKE_REMAP, "remap", true, true, false, {0, 0, -EIO, -EPERM, -EIO, -EIO, 0}},
	{SHUNT_POKE_ATOMIC, "atomic", true, false, true, {0, -EIO, 0, 0, -EIO, -EIO, -EPERM}},
#endif
};

static const char *const names[] = {"nothing broken",
				    "a trap that goes to the wrong function",
				    "a remap that does nothing",
				    "a remap that fails",
				    "a write that does nothing",
				    "a flip that does nothing",
				    "a write that fails"};

/* In a child, because one that is broken is not to be used again: its result. */
static int run_broken(enum breakage what)
{
	int status = -1, ret;
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (!pid) {
		broken = what;
		ret = shunt_selftest();
		if (ret) {
			diag("%s: %s", names[what], shunt_last_error());
			if (!strstr(shunt_last_error(), "(self-test, "))
				ret = -200;
		}
		_exit(-ret);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -201;
	return -WEXITSTATUS(status);
}

static unsigned own_traps;

static void on_trap(int sig)
{
	(void)sig;
	own_traps++;
}

/* The program's action for SIGTRAP before the self-test is that behind it. */
static bool is_given_back(void (*handler)(int))
{
	struct sigaction act = {.sa_handler = handler}, now = {0};
	unsigned before = own_traps;

	if (sigaction(SIGTRAP, &act, NULL) || shunt_selftest() || sigaction(SIGTRAP, NULL, &now) ||
	    now.sa_handler != handler)
		return false;
	if (handler != SIG_DFL)
		(void)raise(SIGTRAP);
	return own_traps == before + (handler == on_trap);
}

/* ------------------------------------------------------- system calls that are refused */

DEFINE_STATIC_KEY_FALSE(key);

static bool refuse(long nr)
{
	return filter_syscall(nr, SECCOMP_RET_ERRNO | EPERM, 0);
}

/* What a program says at its start to which system call @nr is refused; "": nothing. */
static void read_what_is_told(const char *policy, long nr, const char *program, char *text,
			      size_t size)
{
	int ends[2], status;
	ssize_t n = 0;
	size_t len = 0;
	pid_t pid;

	*text = '\0';
	if (pipe(ends))
		return;
	pid = fork();
	if (!pid) {
		(void)dup2(ends[1], STDERR_FILENO);
		(void)close(ends[0]);
		(void)setenv("SHUNT_POKE", policy, 1);
		if (refuse(nr))
			(void)execl(program, program, "told", NULL);
		_exit(127);
	}
	(void)close(ends[1]);
	while (pid > 0 && len < size - 1 && (n = read(ends[0], text + len, size - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	(void)close(ends[0]);
	if (pid > 0)
		(void)waitpid(pid, &status, 0);
}

static void told_at_start(const char *program)
{
	static const struct {
		const char *policy, *refused;
		long nr;
		const char *told;
	} rows[] = {
#if CPU_HAS_TRAPS
		{"auto", "pwrite", SYS_pwrite64,
		 "ok, the trap path works; works: flip, plain writes, remap, int3\n"},
		{"int3", "pwrite", SYS_pwrite64, "ok, the trap path works; works: flip, int3\n"},
		{"remap", "pwrite", SYS_pwrite64, "ok; works: flip, remap\n"},
		{"atomic", "pwrite", SYS_pwrite64,
		 "ok, the trap path works; works: flip, atomic, int3\n"},
		/* Nothing is said of traps, which were not tried. */
		{"remap", "mremap", SYS_mremap, "failed; works: flip; does not work: remap\n"},
#else
		{"auto", "pwrite", SYS_pwrite64, "ok; works: flip, remap, atomic\n"},
		{"int3", "pwrite", SYS_pwrite64, "ok; works: flip, atomic\n"},
		{"remap", "pwrite", SYS_pwrite64, "ok; works: flip, remap\n"},
		{"atomic", "pwrite", SYS_pwrite64, "ok; works: flip, atomic\n"},
		{"remap", "mremap", SYS_mremap, "ok; works: flip; does not work: remap\n"},
#endif
	};
	static const char begin[] = "shunt: self-test: ";
	char text[4096];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *told;

		read_what_is_told(rows[i].policy, rows[i].nr, program, text, sizeof(text));
		told = strstr(text, begin);
		ok(told && !strcmp(told + strlen(begin), rows[i].told), "%s, no %s: %.*s",
		   rows[i].policy, rows[i].refused, (int)strcspn(told ? told : "", "\n"),
		   told ? told : "");
	}
}

/* A program's flip goes by remap then, also behind a self-test: no page is writable meanwhile. */
static int flip_behind_selftest(void)
{
	struct shunt_ways used;

	if (!refuse(SYS_pwrite64) || shunt_set_poke(SHUNT_POKE_AUTO))
		return 10;
	if (shunt_selftest())
		return 11;
	if (static_branch_enable(&key) || !static_branch_unlikely(&key))
		return 12;
	shunt_get_ways(&used);
	return strcmp(used.poke, "remap") ? 13 : 0;
}

static int status_of(int (*run)(void))
{
	int status = -1;
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(run());
	return pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)
		       ? -1
		       : WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
	int left;

	if (argc > 1)
		return 0; /* it has been told */
	shunt_set_log(NULL, NULL);
	for (size_t p = 0; p < sizeof(policies) / sizeof(policies[0]); p++) {
		if (shunt_set_poke(policies[p].policy))
			return 2;
		writes = remaps = traps = 0;
		ok(shunt_selftest() == 0 && shunt_selftest() == 0, "%s: it works, twice",
		   policies[p].name);
		ok(!writes == !policies[p].writes && !remaps == !policies[p].remaps &&
			   !traps == !policies[p].traps,
		   "%s: %u writes, %u remaps, %u traps", policies[p].name, writes, remaps, traps);
		ok(is_given_back(SIG_DFL) && is_given_back(SIG_IGN) && is_given_back(on_trap),
		   "%s: SIGTRAP's action is what it was", policies[p].name);
		for (enum breakage what = NOTHING; what < BREAKAGES; what++) {
			int ret = run_broken(what);

			ok(ret == policies[p].result[what], "%s, %s: %d", policies[p].name,
			   names[what], ret);
		}
	}
	told_at_start(argv[0]);
	left = status_of(flip_behind_selftest);
	ok(left == 0, "behind a self-test updates go the way that they went before it: %d", left);
	return tap_done();
}
