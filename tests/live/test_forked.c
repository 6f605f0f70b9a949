/* SPDX-License-Identifier: MIT */
/*
 * A copy of the process made at each step of an update, by fork() and by a raw clone() of another
 * thread, in each way that the update can go and each that it can have fallen back to: the child
 * finds the key and its sites as they were before, or takes them back with its first update, and
 * updates on. Where nothing can be written in the child, no update returns 0 over a site that does
 * something else. The update is held in the port's functions (ld --wrap).
 *
 * Usage: test_forked [all]. Without "all", each situation with two kinds of sites in turn, one for
 * copies that can write and one for those that cannot.
 *
 * Controls (SHUNT_CONTROL): "first-way", a child puts back by the policy's first way alone;
 * "untold", nobody is told of sites that are left changed; "blocks", a child puts nothing back that
 * was not listed.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "../common/site_code.h"
#include "core/poke.h"

#include "../api/tap.h"

#define PAGE       4096ul
#define JIT_SITES  40
#define SYS_MSEAL  462
#define SET_MDWE   65
#define IN_PAGE(x) __attribute__((noinline, section("forked_text"), x))

static bool only_first_way, is_untold, no_blocks;

static int one(void)
{
	return 1;
}

static int two(void)
{
	return 2;
}

DEFINE_STATIC_CALL(forked, one);
DEFINE_STATIC_KEY_FALSE(forked_branch);

/* Two pages of their own. */
#define SITE(name, how)                                                             \
	IN_PAGE(how) static int name(void)                                          \
	{                                                                           \
		int ret = static_call(forked)();                                    \
                                                                                    \
		__asm__ volatile("" : "+r"(ret));                                   \
		return ret + 10 * (static_branch_unlikely(&forked_branch) ? 1 : 0); \
	}
SITE(first, aligned(4096))
SITE(second, aligned(8))
SITE(third, aligned(4096))

/* More sites of a key than are listed (src/core/poke_flip_blocks.c). */
DEFINE_STATIC_KEY_FALSE(forked_many);
#define IS_ON       (static_branch_unlikely(&forked_many) ? 1 : 0)
#define ARE_ON_5    (IS_ON + IS_ON + IS_ON + IS_ON + IS_ON)
#define MANY_SITES  20
#define ARE_ON_MANY (ARE_ON_5 + ARE_ON_5 + ARE_ON_5 + ARE_ON_5)
IN_PAGE(aligned(8)) static int many(void)
{
	return ARE_ON_MANY;
}

IN_PAGE(aligned(4096)) __attribute__((used)) static void end_of_text(void)
{
}

/* Of the section, by the linker. */
extern char __start_forked_text[], __stop_forked_text[];

static size_t size_of_text(void)
{
	return ((size_t)(__stop_forked_text - __start_forked_text) + PAGE - 1) & -PAGE;
}

/* A site (of x86-64 in no aligned word of 8 bytes), and behind it "return 1" and "return 2". */
#define SITE_AT (SITE_ALIGN == 1 ? 3 : 4)
#define BEHIND  100
static uint8_t *jit;
static const uint8_t jumps[2][SITE_LEN] = {SITE_JMP(BEHIND - SITE_AT),
					   SITE_JMP(2 * BEHIND - SITE_AT)};

static void make_jit(void)
{
	jit = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (jit == MAP_FAILED)
		_exit(99);
	for (size_t i = 0; i < JIT_SITES; i++) {
		static const uint8_t code[2][CODE_RETURN_LEN] = {CODE_RETURN(1), CODE_RETURN(2)};
		uint8_t *at = jit + 512 * i;

		for (size_t to = 0; to < 2; to++)
			write_code(at + (to + 1) * BEHIND, code[to], CODE_RETURN_LEN);
		write_code(at + SITE_AT, jumps[0], SITE_LEN);
	}
	if (mprotect(jit, 8 * PAGE, PROT_READ | PROT_EXEC))
		_exit(99);
}

static int call_jit(size_t i)
{
	int (*func)(void);
	void *at = jit + 512 * i + SITE_AT;

	memcpy(&func, &at, sizeof(func));
	return func();
}

/* ------------------------------------------------------------------- what is updated */

enum kind { CALL, BRANCH, MANY, BOTH, JIT };
static enum kind kind;

static int update_both(bool to)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	int ret = static_call_batch_add(&batch, forked, to ? two : one);

	if (!ret)
		ret = to ? static_branch_batch_enable(&batch, &forked_branch)
			 : static_branch_batch_disable(&batch, &forked_branch);
	if (!ret)
		ret = static_call_batch_commit(&batch);
	static_call_batch_destroy(&batch);
	return ret;
}

static int update(bool to)
{
	struct text_poke pokes[JIT_SITES];

	if (kind == CALL)
		return static_call_update(forked, to ? two : one);
	if (kind == BRANCH)
		return to ? static_branch_enable(&forked_branch)
			  : static_branch_disable(&forked_branch);
	if (kind == MANY)
		return to ? static_branch_enable(&forked_many)
			  : static_branch_disable(&forked_many);
	if (kind == BOTH)
		return update_both(to);
	for (size_t i = 0; i < JIT_SITES; i++)
		pokes[i] = (struct text_poke){jit + 512 * i + SITE_AT, jumps[to], SITE_LEN, NULL,
					      NULL};
	return text_poke_bp_batch(pokes, JIT_SITES);
}

/* Whether every site is as it is with @to. */
static bool all_are(bool to)
{
	int want = kind == CALL ? 1 + to : kind == BRANCH ? 1 + 10 * to : 1 + 11 * to;

	if (kind == MANY)
		return many() == MANY_SITES * to;
	if (kind != JIT)
		return first() == want && second() == want && third() == want;
	for (size_t i = 0; i < JIT_SITES; i++)
		if (call_jit(i) != 1 + to)
			return false;
	return true;
}

/* What the keys say: 0 or 1; -1: half. For a JIT's, whose sites have no key, what they do. */
static int key_says(void)
{
	bool call = static_call_query(forked) == two, branch = static_key_enabled(&forked_branch);

	if (kind == CALL)
		return call;
	if (kind == BRANCH)
		return branch;
	if (kind == MANY)
		return static_key_enabled(&forked_many);
	if (kind == BOTH)
		return call == branch ? call : -1;
	return all_are(true) ? 1 : all_are(false) ? 0 : -1;
}

/* ---------------------------------------------------------------------- the children */

enum { GOOD, HALF, LIE, CANNOT };
static const char *const meaning[] = {"", "half an update", "0, and a site is otherwise",
				      "an update fails"};

static bool is_child, is_deaf;

static int text_key; /* not 0: the text has it, and the thread that copies no rights to it */

static int child_updates(bool was_forked)
{
	int says = key_says();

	if (was_forked && (says < 0 || !all_are(says)))
		return HALF;
	if (says < 0) { /* a raw clone has not had its repair */
		if (update(false))
			return CANNOT;
		says = 0;
	}
	for (int i = 0; i < 3; i++) {
		bool to = i ? !says : says;

		if (update(to))
			return CANNOT;
		if (key_says() != to || !all_are(to))
			return LIE;
		says = to;
	}
	return GOOD;
}

/* Nothing can be written: what returns 0 is true. Then all can, and it still is. */
static int deaf_child_updates(bool was_forked)
{
	(void)was_forked;
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 4; i++) {
			bool to = i / 2 ? !(i % 2) : i % 2;

			if (!update(to) && !all_are(to))
				return LIE;
			is_deaf = is_deaf && round == 0 && i < 3;
		}
		if (key_says() >= 0 && !update(key_says()) && !all_are(key_says()))
			return LIE;
	}
	return GOOD;
}

/* ------------------------------------------------------------- an update that is held */

static struct {
	_Atomic int wanted; /* a copy */
	size_t step, stop_at;
	int (*child)(bool);
	bool is_raw;
	int status;
	_Atomic bool over;
} held;

static void *copy_when_wanted(void *arg)
{
	while (!held.over) {
		pid_t pid;

		if (!held.wanted) {
			(void)sched_yield();
			continue;
		}
		is_deaf = held.child == deaf_child_updates;
		is_child = true; /* before it: fork() handlers update, too */
		pid = held.is_raw ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
		if (!pid) {
			alarm(20);
			if (text_key && pkey_set(text_key, 0))
				_exit(94);
			_exit(held.child(!held.is_raw));
		}
		is_child = is_deaf = false;
		if (pid < 0 || waitpid(pid, &held.status, 0) != pid)
			held.status = -1;
		held.wanted = 0;
	}
	return arg;
}

static void point(void)
{
	if (is_child || !held.stop_at || ++held.step != held.stop_at)
		return;
	held.wanted = 1;
	while (held.wanted)
		(void)sched_yield();
}

int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __real_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __real_shunt_port_poke_begin(size_t n, bool flips, unsigned tried);
int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried);
int __real_shunt_poke_batch(struct shunt_poke *pokes, size_t n, struct shunt_change *change,
			    struct shunt_report *report);
int __wrap_shunt_poke_batch(struct shunt_poke *pokes, size_t n, struct shunt_change *change,
			    struct shunt_report *report);
int __real_shunt_poke_flips(struct shunt_flips *flips, struct shunt_change *change,
			    struct shunt_report *report);
int __wrap_shunt_poke_flips(struct shunt_flips *flips, struct shunt_change *change,
			    struct shunt_report *report);
void __real_shunt_poke_flips_repair(void);
void __wrap_shunt_poke_flips_repair(void);

/* One by one, where a copy may be made between them. */
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	int ret = 0;

	if (is_child)
		return is_deaf ? -EPERM : __real_shunt_port_text_write(writes, n);
	for (size_t i = 0; i < n && !ret; i++) {
		if (i % 8 < 2)
			point();
		ret = __real_shunt_port_text_write(writes + i, 1);
	}
	point();
	return ret;
}

int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride)
{
	int ret = 0;

	if (is_child)
		return is_deaf ? -EPERM : __real_shunt_port_text_remap(writes, n, stride);
	for (size_t i = 0; i < n && !ret; i++) {
		const void *at = (const char *)writes + i * stride;

		point();
		ret = __real_shunt_port_text_remap(at, 1, stride);
	}
	point();
	return ret;
}

int __wrap_shunt_port_core_sync(void)
{
	int ret;

	point();
	ret = __real_shunt_port_core_sync();
	point();
	return ret;
}

/* The fault: a child by the first way only. */
int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	if (only_first_way && tried & SHUNT_PUT_BACK && tried != SHUNT_PUT_BACK)
		return -ENOSYS;
	return __real_shunt_port_poke_begin(n, flips, tried);
}

int __wrap_shunt_poke_batch(struct shunt_poke *pokes, size_t n, struct shunt_change *change,
			    struct shunt_report *report)
{
	if (is_untold)
		change->mixed = NULL;
	return __real_shunt_poke_batch(pokes, n, change, report);
}

int __wrap_shunt_poke_flips(struct shunt_flips *flips, struct shunt_change *change,
			    struct shunt_report *report)
{
	if (is_untold)
		change->mixed = NULL;
	return __real_shunt_poke_flips(flips, change, report);
}

void __wrap_shunt_poke_flips_repair(void)
{
	if (!no_blocks)
		__real_shunt_poke_flips_repair();
}

/* A copy at each step of updates there and back, until there are no more steps; the first fault. */
static int copy_at_each_step(int (*child)(bool), bool is_raw, size_t *steps)
{
	held.child = child;
	held.is_raw = is_raw;
	for (size_t k = 1;; k++) {
		bool to = k % 2;

		held.status = 0;
		held.step = 0;
		held.stop_at = k;
		if (update(to) || !all_are(to))
			return 90;
		held.stop_at = 0;
		*steps += held.step >= k;
		if (held.status)
			return WIFEXITED(held.status) ? WEXITSTATUS(held.status) : 91;
		if (held.step < k && !to)
			return 0;
	}
}

/* ------------------------------------------------------------------------ the text */

static bool protect(int prot)
{
	return !mprotect(__start_forked_text, size_of_text(), prot);
}

static bool leave_plain(void)
{
	return true;
}

static bool write_once(void)
{
	return protect(PROT_READ | PROT_WRITE | PROT_EXEC) && !update_both(true) &&
	       !update_both(false) && protect(PROT_READ | PROT_EXEC);
}

static bool leave_writable(void)
{
	return protect(PROT_READ | PROT_WRITE | PROT_EXEC);
}

static bool give_key(void)
{
	text_key = pkey_alloc(0, 0);
	return text_key > 0 &&
	       !pkey_mprotect(__start_forked_text, size_of_text(), PROT_READ | PROT_EXEC, text_key);
}

static bool seal(void)
{
	return !syscall(SYS_MSEAL, __start_forked_text, size_of_text(), 0);
}

static bool map_other_file(void)
{
	int fd = memfd_create("text", 0);

	return fd >= 0 &&
	       write(fd, __start_forked_text, size_of_text()) == (ssize_t)size_of_text() &&
	       mmap(__start_forked_text, size_of_text(), PROT_READ | PROT_EXEC,
		    MAP_PRIVATE | MAP_FIXED, fd, 0) != MAP_FAILED;
}

static bool deny_write_exec(void)
{
	return !prctl(SET_MDWE, 1, 0, 0, 0);
}

static const struct situation {
	const char *name;
	enum shunt_poke_policy policy;
	bool (*make)(void);
} situations[] = {
	{"auto, plain text", SHUNT_POKE_AUTO, leave_plain},
	{"auto, text that was writable once", SHUNT_POKE_AUTO, write_once},
	{"auto, text that is writable", SHUNT_POKE_AUTO, leave_writable},
	{"auto, text with a protection key", SHUNT_POKE_AUTO, give_key},
	{"auto, sealed text", SHUNT_POKE_AUTO, seal},
	{"auto, another file's text", SHUNT_POKE_AUTO, map_other_file},
	{"remap", SHUNT_POKE_REMAP, leave_plain},
	{"int3", SHUNT_POKE_INT3, leave_plain},
	{"atomic", SHUNT_POKE_ATOMIC, leave_plain},
	{"atomic, no text may be opened", SHUNT_POKE_ATOMIC, deny_write_exec},
	{"atomic, sealed text", SHUNT_POKE_ATOMIC, seal},
};

static const char *const kinds[] = {"a static call", "a static key", "a key of many sites", "both",
				    "a JIT's text"};

/* In a process of its own; 77: there is no such text here. */
static int run(const struct situation *s, int (*child)(bool))
{
	pthread_t copier;
	size_t steps = 0;
	int ret = 0;

	if (shunt_set_poke(s->policy) || pthread_create(&copier, NULL, copy_when_wanted, NULL))
		return 92;
	if (!s->make())
		return 77;
	for (int raw = 0; raw < 2 && !ret; raw++)
		ret = copy_at_each_step(child, raw, &steps);
	held.over = true;
	(void)pthread_join(copier, NULL);
	return ret ? ret : steps < 6 ? 93 : 0;
}

static void test(const struct situation *s, int (*child)(bool), const char *what)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(run(s, child));
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		status = -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip(s->name, "no such text here");
	else
		ok(!status, "%s, %s, %s: %#x %s", s->name, kinds[kind], what, status,
		   status >> 8 < 4 ? meaning[status >> 8 & 3] : "");
}

/* In each situation one kind, and of those whose copies cannot write another one; each kind twice
 * or more often. */
static bool is_chosen(size_t situation, bool is_deaf_row)
{
	/* (A JIT's text, which is the dearest, once.) */
	static const enum kind chosen[2][sizeof(situations) / sizeof(situations[0])] = {
		{MANY, CALL, JIT, CALL, BOTH, MANY, BRANCH, BOTH, CALL, BRANCH, MANY},
		{CALL, BOTH, BRANCH, MANY, CALL, BRANCH, BOTH, MANY, JIT, CALL, BRANCH},
	};

	return chosen[is_deaf_row][situation] == kind;
}

int main(int argc, char **argv)
{
	const bool all = argc > 1 && !strcmp(argv[1], "all");
	const char *control = getenv("SHUNT_CONTROL");

	only_first_way = control && !strcmp(control, "first-way");
	is_untold = control && !strcmp(control, "untold");
	no_blocks = control && !strcmp(control, "blocks");
	shunt_set_log(NULL, NULL);
	make_jit();
	for (size_t i = 0; i < sizeof(situations) / sizeof(situations[0]); i++)
		for (kind = CALL; kind <= JIT; kind++) {
			const struct situation *s = &situations[i];

			/* It cannot be remapped, and its protection is its own. */
			if (kind == JIT && (s->policy == SHUNT_POKE_REMAP || s->make == give_key ||
					    s->make == seal || s->make == map_other_file))
				continue;
			if (all || is_chosen(i, false))
				test(s, child_updates, "copies");
			if (all || is_chosen(i, true))
				test(s, deaf_child_updates, "copies that cannot write");
		}
	return tap_done();
}
