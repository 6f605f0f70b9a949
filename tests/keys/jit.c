/* SPDX-License-Identifier: MIT */
/*
 * text_poke_bp() as a JIT uses it: code in a page that is never writable and executable
 * at once, with call, jmp and nop sites that are poked between two targets while two
 * threads run through them. The history of each site tells which results are right.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/text_poke.h>

#include "../api/tap.h"
#include "hooks.h"

#define SIZE  (8 * 4096)
#define SITES 200 /* of a kind */

enum kind { CALL, JMP, NOP, KINDS };

struct site {
	int (*fn)(void);
	uint8_t *insn;
	uint8_t bytes[2][5]; /* for either target; NOP: a nop, and a jmp */
	enum kind kind;
	_Alignas(64) _Atomic uint64_t begun, done;
};

static struct site sites[KINDS * SITES];
static uint8_t *code;

static struct {
	_Atomic bool stop;
	_Atomic unsigned focus;
	_Atomic uint64_t wrong, settled, seen;
} run;

/* ---------------------------------------------------------------- the compiler */

static uint8_t *emit(uint8_t *at, const void *bytes, size_t n)
{
	memcpy(at, bytes, n);
	return at + n;
}

/* mov $value, %eax; ret */
static uint8_t *emit_return(uint8_t *at, int value)
{
	*at++ = 0xb8;
	at = emit(at, &value, 4);
	*at++ = 0xc3;
	return at;
}

static void rel32(uint8_t bytes[5], uint8_t opcode, const uint8_t *at, const uint8_t *target)
{
	int32_t rel = (int32_t)(target - (at + 5));

	bytes[0] = opcode;
	memcpy(bytes + 1, &rel, 4);
}

/*
 * Site @i of its kind at all offsets of a cache line in turn, and its targets far enough
 * from each other that the displacements differ in two bytes.
 *
 *	CALL  sub $8, %rsp; call target[0|1]; add $8, %rsp; ret
 *	JMP   jmp target[0|1]
 *	NOP   nop or jmp over; return 1; over: return 2
 */
static uint8_t *compile(struct site *s, enum kind kind, unsigned i, uint8_t *at, uint8_t *target[2])
{
	static const uint8_t nop5[] = {0x0f, 0x1f, 0x44, 0, 0};
	size_t before = kind == CALL ? 4 : 0;

	while (((uintptr_t)at + before) % 64 != i * 7 % 64)
		*at++ = 0xcc;
	s->fn = (int (*)(void))at;
	s->kind = kind;
	if (kind == CALL)
		at = emit(at, "\x48\x83\xec\x08", 4);
	s->insn = at;
	if (kind == NOP) {
		memcpy(s->bytes[0], nop5, 5);
		rel32(s->bytes[1], 0xe9, at, at + 5 + 6);
	} else {
		rel32(s->bytes[0], kind == CALL ? 0xe8 : 0xe9, at, target[0]);
		rel32(s->bytes[1], kind == CALL ? 0xe8 : 0xe9, at, target[1]);
	}
	at = emit(at, s->bytes[0], 5);
	if (kind == CALL)
		return emit(at, "\x48\x83\xc4\x08\xc3", 5);
	if (kind == NOP)
		at = emit_return(emit_return(at, 1), 2);
	return at;
}

static bool build(void)
{
	uint8_t *at, *target[2];

	code = mmap(NULL, 4 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED)
		return false;
	memset(code, 0xcc, 4 * SIZE);
	target[0] = code + 16;
	(void)emit_return(target[0], 1);
	target[1] = code + 3 * SIZE + 0x1234;
	(void)emit_return(target[1], 2);
	at = code + 64;
	for (unsigned i = 0; i < KINDS * SITES; i++)
		at = compile(&sites[i], i % KINDS, i / KINDS, at, target);
	return at < code + 3 * SIZE && !mprotect(code, 4 * SIZE, PROT_READ | PROT_EXEC);
}

/* The permissions of the code's mapping, as the kernel tells them; "?" if it was split. */
static const char *permissions(void)
{
	static char perms[5];
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long start, end;
	char line[512];

	memcpy(perms, "?", 2);
	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %4s", &start, &end, perms) == 3 &&
		    start <= (uintptr_t)code && (uintptr_t)code < end)
			break;
	if (maps)
		(void)fclose(maps);
	return perms;
}

/* -------------------------------------------------------------------- hammering */

static void evaluate(struct site *s)
{
	uint64_t done = s->done, begun;
	int value = s->fn();

	begun = s->begun;
	run.seen++;
	if (begun == done)
		run.settled++;
	if ((value != 1 && value != 2) || (begun == done && value != 1 + (int)(done & 1)))
		if (!run.wrong++)
			diag("site %zu of kind %d says %d; done %" PRIu64 ", begun %" PRIu64,
			     (size_t)(s - sites), s->kind, value, done, begun);
}

static void *hammer(void *arg)
{
	unsigned self = *(unsigned *)arg;

	for (unsigned i = 0; !run.stop; i++) {
		unsigned n = i % 4 == 3 ? i / 4 * 7 % (KINDS * SITES) : run.focus;

		evaluate(&sites[n]);
		hooks.passed[self]++;
	}
	return NULL;
}

static bool passed_since(void *arg)
{
	const uint64_t *old = arg;

	return hooks.passed[0] > old[0] + 2 || hooks.passed[1] > old[1] + 2;
}

static void settle(void)
{
	uint64_t old[2] = {hooks.passed[0], hooks.passed[1]};

	(void)hooks_wait(passed_since, old);
}

static int poke_one(unsigned n)
{
	struct site *s = &sites[n];
	uint64_t next = s->done + 1;
	int ret;

	run.focus = n;
	hooks.step = 0;
	s->begun = next;
	ret = text_poke_bp(s->insn, s->bytes[next & 1], 5);
	if (!ret)
		s->done = next;
	return ret;
}

static int poke_many(unsigned n)
{
	struct text_poke pokes[KINDS * SITES];
	int ret;

	hooks.step = 0;
	for (unsigned i = 0; i < n; i++) {
		struct site *s = &sites[i];
		uint64_t next = s->done + 1;

		s->begun = next;
		/* In no order. */
		pokes[(i * 7 + 3) % n] = (struct text_poke){s->insn, s->bytes[next & 1], 5,
							    s->bytes[!(next & 1)], NULL};
	}
	ret = text_poke_bp_batch(pokes, n);
	for (unsigned i = 0; i < n && !ret; i++)
		sites[i].done = sites[i].begun;
	/* One that failed leaves no thread that looks: test_failures() is alone. */
	for (unsigned i = 0; i < n && ret; i++)
		sites[i].begun = sites[i].done;
	return ret;
}

#define POKES 1200 /* each site twice; six of ten are held at a step */

static void test_pokes(void)
{
	static unsigned self[2] = {0, 1};
	struct shunt_stats before, after;
	pthread_t threads[2];
	unsigned errors = 0, n = 0;

	for (unsigned t = 0; t < 2; t++)
		if (pthread_create(&threads[t], NULL, hammer, &self[t]))
			abort();
	for (unsigned i = 0; i < POKES; i++) {
		hooks.hold_at = i / 3 % 10; /* 0, and above 6: none */
		errors += poke_one(i * 7 % (KINDS * SITES)) != 0;
		if (i % 2)
			settle();
	}
	hooks.hold_at = 0;
	ok(!errors && !run.wrong && run.settled > POKES / 6,
	   "%d pokes of call, jmp and nop sites: %" PRIu64 " results right, %" PRIu64
	   " of them when one alone was",
	   POKES, (uint64_t)run.seen, (uint64_t)run.settled);
	ok(hooks.held > POKES / 6 && hooks.traps[SHUNT_TRAP_EMULATED] > POKES / 6,
	   "%" PRIu64 " waits within a poke (%" PRIu64 " given up), %" PRIu64 " traps, %" PRIu64
	   " late",
	   (uint64_t)hooks.held, (uint64_t)hooks.missed, (uint64_t)hooks.traps[SHUNT_TRAP_EMULATED],
	   (uint64_t)hooks.traps[SHUNT_TRAP_LATE]);

	shunt_get_stats(&before);
	for (unsigned i = 0; i < 80; i++) {
		hooks.hold_at = i % 10;
		/* 5: single writes. All: runs of pages. 3 * 199: 7 has no part in it. */
		errors += poke_many(i % 2 ? 5 : KINDS * SITES - 1) != 0;
		n++;
		settle();
	}
	hooks.hold_at = 0;
	shunt_get_stats(&after);
	ok(!errors && !run.wrong && after.syncs - before.syncs == 3 * n,
	   "%u batches of 5 or %d sites, three syncs each", n, KINDS * SITES - 1);

	run.stop = true;
	for (unsigned t = 0; t < 2; t++)
		(void)pthread_join(threads[t], NULL);
}

static void test_failures(void)
{
	uint8_t *before = malloc(4 * SIZE);
	unsigned n = 0, wrong = 0;

	if (!before)
		return;
	for (unsigned kind = 0; kind < 2; kind++)
		for (unsigned nth = 1; nth < 100; nth++) {
			int ret;

			memcpy(before, code, 4 * SIZE);
			hooks.seen_writes = hooks.seen_syncs = 0;
			hooks.fail_write = kind ? 0 : nth;
			hooks.fail_sync = kind ? nth : 0;
			ret = poke_many(20);
			hooks.fail_write = hooks.fail_sync = 0;
			if (!ret)
				break;
			n++;
			wrong += ret != -EIO || memcmp(before, code, 4 * SIZE) != 0;
			for (unsigned i = 0; i < KINDS * SITES; i++)
				evaluate(&sites[i]);
		}
	ok(n == 6 && !wrong && !run.wrong, "each of %u writes and syncs fails: text is as before",
	   n);
	memcpy(before, code, 4 * SIZE);
	ok(!poke_many(20) && memcmp(before, code, 4 * SIZE) != 0, "and then it goes through");
	free(before);
}

static void test_refused(void)
{
	static const uint8_t nop5[] = {0x0f, 0x1f, 0x44, 0, 0}, push = 0x50, int3 = 0xcc;
	uint8_t *site = sites[NOP].insn, before[5];
	struct text_poke two[2] = {{site, nop5, 5, NULL, NULL}, {site, nop5, 5, NULL, NULL}};
	struct text_poke old = {site, nop5, 5, "\xe9\x01\x02\x03\x04", NULL};

	memcpy(before, site, 5);
	ok(text_poke_bp(site, nop5, 0) == -EINVAL && text_poke_bp(site, nop5, 7) == -EINVAL &&
		   text_poke_bp(NULL, nop5, 5) == -EINVAL && text_poke_bp(site, NULL, 5) == -EINVAL,
	   "bad addresses and lengths");
	ok(text_poke_bp(site, &push, 1) == -EINVAL && text_poke_bp(site, &int3, 1) == -EINVAL,
	   "what cannot be emulated");
	ok(text_poke_bp_batch(two, 2) == -EINVAL, "twice the same site");
	ok(text_poke_bp_batch(&old, 1) == -EBUSY, "other bytes than the caller expects");
	ok(text_poke_bp_batch(NULL, 0) == 0 && text_poke_bp_batch(NULL, 1) == -EINVAL, "no pokes");
	ok(!memcmp(before, site, 5), "nothing of this changed a byte");
}

/* Code comes and goes at the same address. */
static void test_forget(void)
{
	unsigned errors = 0, i;

	for (i = 0; i < 20; i++) {
		text_poke_forget(code, 4 * SIZE);
		errors += munmap(code, 4 * SIZE) != 0;
		memset(sites, 0, sizeof(sites));
		errors += !build();
		errors += poke_many(KINDS * SITES) != 0;
		for (unsigned s = 0; s < KINDS * SITES; s++)
			evaluate(&sites[s]);
	}
	ok(!errors && !run.wrong, "%u rounds of new code", i);
	text_poke_forget(code, 4 * SIZE);
	text_poke_forget(NULL, 0);
}

/* Negative control: behind a poke that never was written, the history does not fit. */
static void test_control(void)
{
	uint64_t wrong = run.wrong;

	hooks.drop_int3 = hooks.drop_rest = true;
	(void)poke_one(1);
	hooks.drop_int3 = hooks.drop_rest = false;
	evaluate(&sites[1]);
	ok(run.wrong == wrong + 1, "a poke that is not written is noticed");
}

int main(void)
{
	shunt_set_log(NULL, NULL);
	if (!ok(build(), "the code"))
		return tap_done();
	for (unsigned i = 0; i < KINDS * SITES; i++)
		evaluate(&sites[i]);
	ok(!run.wrong, "before the first poke");
	test_pokes();
	ok(!strcmp(permissions(), "r-xp"), "the page is %s", permissions());
	test_failures();
	test_refused();
	test_forget();
	test_control();
	return tap_done();
}
