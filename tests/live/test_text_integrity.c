/* SPDX-License-Identifier: MIT */
/*
 * What updates leave of the program's text, and what others see of it meanwhile, in each way to
 * poke and to write: no page that may be written and executed stays behind, be the update one that
 * goes through or one whose sync fails; and by single stores, a word of text is old or new to who
 * reads it all the time, at each place in the word.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>

#include "../api/tap.h"
#include "../common/cpu.h"
#include "../common/emulated.h"

int __real_shunt_port_core_sync(void);
int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_core_sync(void);

/*
 * One before the sites and two behind them: every byte of the displacement differs; with the last
 * one all but the lowest, so that a write ends with its word and is no aligned word of 4 bytes.
 */
void one(void);
void two(void);
void behind_256(void);

DEFINE_STATIC_CALL(text_call, one);

/* A call at each place in an aligned word of 8 bytes that it fits into. */
void text_sites(void);
#ifdef __aarch64__
__asm__(".pushsection .text\n.balign 64\n.globl text_sites, one, two\n"
	"one:	ret\n.balign 8\n"
	"text_sites:	stp x29, x30, [sp, #-16]!\n.balign 8\n"
	"	bl __SCT__text_call\n	nop\n	nop\n	bl __SCT__text_call\n"
	"	bl __SCT__text_call\n	nop\n	nop\n	bl __SCT__text_call\n"
	"	ldp x29, x30, [sp], #16\n	ret\n"
	"two:	ret\n.balign 256\n.globl behind_256\nbehind_256:	ret\n.popsection\n");
#define CALL_AT(i)   (i % 2 * 4 + 3)
#define IS_CALL(top) (((top)&0xfc) == 0x94)
#else
#define CALL         "	call __SCT__text_call@PLT\n.balign 8, 0x90\n"
__asm__(".pushsection .text\n.balign 256\n.globl text_sites\n"
	"one:	ret\n.balign 8, 0x90\n"
	"text_sites:	sub $8, %rsp\n.balign 8, 0x90\n"
	"" CALL "	nop\n" CALL "	nop\n	nop\n" CALL "	nop\n	nop\n	nop\n" CALL
	"	add $8, %rsp\n	ret\n"
	"two:	ret\n.balign 256, 0x90\n"
	"behind_256:	ret\n.popsection\n");
#define CALL_AT(i)   (i)
#define IS_CALL(top) ((top) == 0xe8)
#endif

/* ------------------------------------------------------------------ what is left */

/* How many mappings may be both written and executed. */
static unsigned writable_text(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], perms[5];
	unsigned n = 0;

	while (maps && fgets(line, sizeof(line), maps))
		n += sscanf(line, "%*x-%*x %4s", perms) == 1 && perms[1] == 'w' && perms[2] == 'x';
	if (maps)
		(void)fclose(maps);
	return n;
}

static unsigned fail_sync; /* the nth one from now on; 0: none */
static void (*in_sync)(void);

/* The control where there is no int3: a word by its two halves. */
static bool writes_halves;

int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	for (size_t i = 0; writes_halves && i < n; i++) {
		struct shunt_write half = writes[i];

		half.len = 2;
		if (__real_shunt_port_text_write(&half, 1))
			return -EIO;
		if (in_sync)
			in_sync();
	}
	return __real_shunt_port_text_write(writes, n);
}

int __wrap_shunt_port_core_sync(void)
{
	if (in_sync)
		in_sync();
	return fail_sync && !--fail_sync ? -EIO : __real_shunt_port_core_sync();
}

static void *stay(void *arg)
{
	while (!*(_Atomic bool *)arg)
		(void)sched_yield();
	return NULL;
}

/* In a process of its own: 0, or which of its steps went wrong. */
static int leave_text(void)
{
	static _Atomic bool stop;
	pthread_t thread;
	int wrong = writable_text() ? 4 : 0; /* by what it has written while it registered */

	shunt_set_log(NULL, NULL);
	for (unsigned threads = 0; threads < 2; threads++) {
		if (threads && pthread_create(&thread, NULL, stay, (void *)&stop))
			return 1;
		for (unsigned i = 0; i < 8 && !wrong; i++) {
			fail_sync = i / 2; /* each place, from either side */
			if (i & 1 ? static_call_update(text_call, one)
				  : static_call_update(text_call, two))
				wrong = fail_sync || i < 2 ? 2 : 0;
			fail_sync = 0;
			wrong = writable_text() ? 3 : wrong;
		}
		text_sites();
	}
	stop = true;
	(void)pthread_join(thread, NULL);
	return wrong;
}

static void test_leave(const char *poke, const char *write)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		(void)setenv("SHUNT_POKE", poke, 1);
		(void)setenv("SHUNT_WRITE", write, 1);
		(void)execl("/proc/self/exe", "test_text", "leave", NULL);
		_exit(99);
	}
	(void)waitpid(pid, &status, 0);
	ok(!status, "SHUNT_POKE=%s, SHUNT_WRITE=%s: no text stays writable (%d)", poke, write,
	   WIFEXITED(status) ? WEXITSTATUS(status) : -status);
}

/* ------------------------------------------------------------------ what others see */

static struct {
	uint64_t *word; /* four */
	uint64_t is[2][4];
	_Atomic bool stop;
	_Atomic uint64_t looks, seen[2], wrong;
} reader;

__attribute__((no_sanitize("thread", "address"))) static void *read_text(void *arg)
{
	(void)arg;
	for (unsigned i = 0; !reader.stop; i++) {
		/* Mostly at the last one, which ends with its word: as often as it can. */
		const volatile uint64_t *word = &reader.word[i % 8 < 4 ? i % 8 : 3];
		uint64_t old = reader.is[0][word - reader.word], seen[2] = {0, 0};
		uint64_t new = reader.is[1][word - reader.word];

		for (unsigned k = 0; k < 256; k++) {
			uint64_t now = *word;

			seen[0] += now == old;
			seen[1] += now == new;
		}
		reader.seen[0] += seen[0];
		reader.seen[1] += seen[1];
		reader.wrong += seen[0] + seen[1] != 256;
		reader.looks++;
	}
	return NULL;
}

static void wait_looks(void)
{
	uint64_t then = reader.looks;

	for (unsigned i = 0; i < 10000 && reader.looks < then + 2; i++)
		(void)sched_yield();
}

static int read_words(void)
{
	uint64_t *word = (uint64_t *)(((uintptr_t)text_sites + 4 + 7) & ~(uintptr_t)7);
	unsigned errors = 0;
	pthread_t thread;

	shunt_set_log(NULL, NULL);
	reader.word = word;
	errors += static_call_update(text_call, two) != 0;
	memcpy(reader.is[1], word, 32);
	errors += static_call_update(text_call, one) != 0;
	memcpy(reader.is[0], word, 32);
	for (unsigned i = 0; i < 4; i++)
		errors += !IS_CALL(((const uint8_t *)&word[i])[CALL_AT(i)]) ||
			  reader.is[0][i] == reader.is[1][i];
	if (errors || pthread_create(&thread, NULL, read_text, NULL))
		return 1;
	for (unsigned i = 0; i < (is_emulated() ? 200 : 1000); i++) {
		in_sync = i % 16 < 2 ? wait_looks : NULL; /* at each step; and either at rest */
		errors += i & 1 ? static_call_update(text_call, one) != 0
				: static_call_update(text_call, two) != 0;
		if (in_sync)
			wait_looks();
	}
	reader.stop = true;
	(void)pthread_join(thread, NULL);
	return errors ? 1 : reader.wrong ? 2 : !reader.seen[0] || !reader.seen[1] ? 3 : 0;
}

/* The control: int3 is a third thing, and is seen; or halves. */
#define CONTROL (CPU_HAS_TRAPS ? "int3" : "halves")

static void test_words(const char *poke)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		(void)setenv("SHUNT_POKE", poke, 1);
		(void)execl("/proc/self/exe", "test_text", "words", NULL);
		_exit(99);
	}
	(void)waitpid(pid, &status, 0);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == (strcmp(poke, CONTROL) ? 0 : 2),
	   "SHUNT_POKE=%s: a word of text is old or new%s (%d)", poke,
	   strcmp(poke, CONTROL) ? "" : ": the control is seen to fail", status);
}

/* ------------------------------------------------------- the same, step by step */

/* The thread that updates is stopped behind each of its instructions, and its text looked at. */
static int step_through(pid_t pid, uint64_t is[2][4])
{
	const uint64_t *word = reader.word;
	int status, others = 0;

	while (!ptrace(PTRACE_SINGLESTEP, pid, 0, 0) && waitpid(pid, &status, 0) == pid &&
	       WIFSTOPPED(status))
		for (unsigned i = 0; i < 4; i++) {
			uint64_t now = (uint64_t)ptrace(PTRACE_PEEKTEXT, pid, word + i, 0);

			others += now != is[0][i] && now != is[1][i];
		}
	return others;
}

static int step_words(void (*other)(void))
{
	uint64_t *word = (uint64_t *)(((uintptr_t)text_sites + 4 + 7) & ~(uintptr_t)7);
	int status = -1;
	pid_t pid;

	reader.word = word;
	if (static_call_update(text_call, one))
		return 3;
	memcpy(reader.is[0], word, 32);
	if (static_call_update(text_call, other))
		return 3;
	memcpy(reader.is[1], word, 32);
	pid = fork();
	if (!pid) {
		(void)!static_call_update(text_call, other);
		if (ptrace(PTRACE_TRACEME, 0, 0, 0) || raise(SIGSTOP))
			_exit(3);
		_exit(static_call_update(text_call, one) != 0);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return 3;
	return step_through(pid, reader.is) ? 2 : 0;
}

static __attribute__((unused)) void test_steps(const char *poke, const char *how)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		(void)setenv("SHUNT_POKE", poke, 1);
		(void)execl("/proc/self/exe", "test_text", how, NULL);
		_exit(99);
	}
	(void)waitpid(pid, &status, 0);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == (strcmp(poke, CONTROL) ? 0 : 2),
	   "SHUNT_POKE=%s, %s: a word of text is old or new%s (%d)", poke, how,
	   strcmp(poke, CONTROL) ? "" : ": the control is seen to fail", status);
}

int main(int argc, char **argv)
{
	static const char *const pokes[] = {"int3", "remap", "auto", "atomic"};

	writes_halves = getenv("SHUNT_POKE") && !strcmp(getenv("SHUNT_POKE"), "halves");
	if (argc > 1)
		return !strcmp(argv[1], "steps")          ? step_words(two)
		       : !strcmp(argv[1], "steps of 256") ? step_words(behind_256)
		       : !strcmp(argv[1], "leave")        ? leave_text()
							  : read_words();
	for (unsigned i = 0; i < 4; i++) {
		test_leave(pokes[i], "mem");
		test_leave(pokes[i], "mprotect");
	}
	test_words("atomic");
	test_words("remap");
	test_words(CONTROL);
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) /* too many steps */
	test_steps("atomic", "steps");
	test_steps("atomic", "steps of 256");
	test_steps("remap", "steps");
	test_steps(CONTROL, "steps");
#endif
	return tap_done();
}
