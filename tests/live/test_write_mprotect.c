/* SPDX-License-Identifier: MIT */
/*
 * Text that is opened for writing by mprotect() (SHUNT_WRITE=mprotect): the record of open pages in
 * a copy of the process that is made while it changes; more pieces than the record has room for;
 * and the bytes beside a site, which others may store in the middle of one of ours.
 *
 * Controls: a copy keeps the record (shunt_text_copied()); a page that is opened once more stays
 * closed (mprotect()); and the whole word is stored (the atomic way; where that stores the site
 * alone, a write that is made longer, shunt_port_text_write()).
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/text_poke.h>

#include "../common/child.h"
#include "../common/cpu.h"
#include "../common/emulated.h"
#include "../common/site_code.h"
#include "linux/text/text.h"

#include "../api/tap.h"

#define PAGE 4096ul
#define MOST 48 /* the record has room for 32 */

static const uint8_t nop[SITE_LEN] = SITE_NOP, jmp[SITE_LEN] = SITE_JMP(8);

/* Text of @n pages, one in @step of them mapped and with @prot; a nop at the start of each. */
static uint8_t *new_text(size_t n, size_t step, int prot)
{
	uint8_t *p = mmap(NULL, n * step * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	for (size_t i = 0; i < n; i++) {
		write_code(p + i * step * PAGE, nop, SITE_LEN);
		if (syscall(SYS_mprotect, p + i * step * PAGE, PAGE, prot))
			abort();
		if (step > 1 && munmap(p + (i * step + 1) * PAGE, (step - 1) * PAGE))
			abort();
	}
	return p;
}

static struct text_poke batch[MOST];
static size_t nr_pokes;

static void add(uint8_t *addr)
{
	batch[nr_pokes++] = (struct text_poke){.addr = addr, .len = SITE_LEN};
}

static int poke_all(const uint8_t *insn)
{
	for (size_t i = 0; i < nr_pokes; i++)
		batch[i].insn = insn;
	return text_poke_bp_batch(batch, nr_pokes);
}

static bool all_are(const uint8_t *insn)
{
	for (size_t i = 0; i < nr_pokes; i++)
		if (memcmp(batch[i].addr, insn, SITE_LEN) != 0)
			return false;
	return true;
}

/* How many of the pages may be written. */
static unsigned left_open(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long start, end;
	char line[512], prot[5];
	unsigned n = 0;

	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %4s", &start, &end, prot) != 3 || prot[1] != 'w')
			continue;
		for (size_t i = 0; i < nr_pokes; i++)
			n += (uintptr_t)batch[i].addr - start < end - start;
	}
	if (maps)
		(void)fclose(maps);
	return n;
}

/* ------------------------------------------------------ what is taken out, or seen */

int __real_mprotect(void *addr, size_t len, int prot);
int __wrap_mprotect(void *addr, size_t len, int prot);
int __real_shunt_area_is_writable(uintptr_t addr);
int __wrap_shunt_area_is_writable(uintptr_t addr);
void __real_shunt_text_copied(void);
void __wrap_shunt_text_copied(void);
int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);

static bool keeps_record, stays_closed; /* the controls */
static void (*before_mprotect)(int prot), (*in_sync)(void);
static bool opens_late; /* it says that it has opened the page */

/* The pages that are open or have been, in this batch. */
static uintptr_t been[2 * MOST];
static size_t nr_been;

static bool has_been(uintptr_t page)
{
	for (size_t i = 0; i < nr_been; i++)
		if (been[i] == page)
			return true;
	been[nr_been++ % (2 * MOST)] = page;
	return false;
}

int __wrap_mprotect(void *addr, size_t len, int prot)
{
	if (before_mprotect)
		before_mprotect(prot);
	if (prot & PROT_WRITE && (opens_late || (stays_closed && has_been((uintptr_t)addr))))
		return 0;
	return __real_mprotect(addr, len, prot);
}

/* What mprotect() says in this test is believed. */
int __wrap_shunt_area_is_writable(uintptr_t addr)
{
	return opens_late || stays_closed ? 1 : __real_shunt_area_is_writable(addr);
}

void __wrap_shunt_text_copied(void)
{
	if (!keeps_record)
		__real_shunt_text_copied();
}

int __wrap_shunt_port_core_sync(void)
{
	if (in_sync)
		in_sync();
	return __real_shunt_port_core_sync();
}

int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);

static bool is_longer; /* the control of CPUs whose sites are an aligned word themselves */

/* With what stands behind the site when the write begins. */
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	struct shunt_write one;

	if (!is_longer || n != 1)
		return __real_shunt_port_text_write(writes, n);
	one = *writes;
	memcpy(one.bytes + one.len, one.addr + one.len, sizeof(one.bytes) - one.len);
	one.len = sizeof(one.bytes);
	return __real_shunt_port_text_write(&one, 1);
}

static int in_child_with(int (*fn)(void), bool *control)
{
	pid_t pid = fork();

	if (!pid) {
		if (control)
			*control = true;
		(void)alarm(600); /* an emulator reads lists of mappings slowly, and so does a busy
				     host */
		_exit(fn());
	}
	return child_status(pid);
}

/* By auto an update by int3 waits only so long for a thread that starts with its signals blocked.
 */
static _Atomic bool has_started;

static void *idle(void *arg)
{
	has_started = true;
	(void)pause();
	return arg;
}

/* -------------------------------------------------------------- copies of the process */

static struct {
	int by_fork;
	int at; /* how many calls of mprotect() are before it */
	bool made;
	int status;
} copy;

/* What the copy does: its own updates, of the pages that the parent is at. */
static int update_in_copy(void)
{
	before_mprotect = NULL;
	if (poke_all(jmp) || !all_are(jmp) || left_open())
		return 1;
	return poke_all(nop) || !all_are(nop) || left_open() ? 2 : 0;
}

static void *make_copy(void *arg)
{
	pid_t pid = copy.by_fork ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!pid)
		_exit(update_in_copy());
	(void)waitpid(pid, &copy.status, 0);
	return arg;
}

/* By another thread: for this one it would be an update within an update. */
static void copy_at(int prot)
{
	pthread_t thread;

	(void)prot;
	if (copy.at--)
		return;
	copy.made = true;
	if (pthread_create(&thread, NULL, make_copy, NULL) || pthread_join(thread, NULL))
		abort();
}

static int copy_in_update(void)
{
	uint8_t *text = new_text(3, 2, PROT_READ | PROT_EXEC);

	for (size_t i = 0; i < 3; i++)
		add(text + i * 2 * PAGE);
	before_mprotect = copy_at;
	if (poke_all(jmp) || !copy.made)
		return 3;
	before_mprotect = NULL;
	if (!all_are(jmp) || left_open() || poke_all(nop) || !all_are(nop))
		return 4;
	return copy.status ? 42 : 0;
}

/*
 * Whether the record says that a page is open that is not, and the copy stores there before it has
 * closed all. Of six calls, the first three open pages and the others close them; by auto
 * its first writes are no stores. Where a site is written once, what stands there is old or new,
 * and a copy stores to those alone that are new.
 */
static bool is_wrong_in_copy(enum shunt_poke_policy policy, int at)
{
	if (!CPU_HAS_TRAPS)
		return policy != SHUNT_POKE_AUTO && at > 3;
	if (policy == SHUNT_POKE_INT3)
		return at != 0 && at != 3;
	return policy == SHUNT_POKE_ATOMIC && at > 3;
}

static void test_copies(enum shunt_poke_policy policy)
{
	for (copy.by_fork = 0; copy.by_fork < 2; copy.by_fork++)
		for (int at = 0; at < 6; at++) {
			int status;

			if (shunt_set_poke(policy))
				abort();
			copy.at = at;
			status = in_child_with(copy_in_update, NULL);
			ok(!status, "policy %d: a copy by %s() before the %d. mprotect(): %d",
			   policy, copy.by_fork ? "fork" : "clone", at + 1, status);
			if (!is_wrong_in_copy(policy, at))
				continue;
			status = in_child_with(copy_in_update, &keeps_record);
			ok(status == 42, "control: it keeps the record: %d", status);
		}
}

/* ------------------------------------------------------------- more than there is room for */

static int many(void)
{
	if (shunt_set_poke(SHUNT_POKE_INT3))
		return 9;
	for (int i = 0; i < 3; i++) {
		nr_been = 0;
		if (poke_all(jmp) || !all_are(jmp) || left_open())
			return 1;
		nr_been = 0;
		if (poke_all(nop) || !all_are(nop) || left_open())
			return 2;
	}
	return 0;
}

/* What is asked of the kernel grows with the square of it. On aarch64 fewer are no more than fit.
 */
static size_t more_than_there_is_room_for(void)
{
	return is_emulated() && CPU_HAS_TRAPS ? 36 : MOST;
}

static int many_pages(void)
{
	size_t n = more_than_there_is_room_for();
	uint8_t *text = new_text(n, 2, PROT_READ | PROT_EXEC);

	for (size_t i = 0; i < n; i++)
		add(text + i * 2 * PAGE);
	return many();
}

/* Every other page with another protection: the kernel keeps a piece for each. */
static void add_pieces(size_t n)
{
	uint8_t *text = new_text(n, 1, PROT_READ | PROT_EXEC);

	for (size_t i = 0; i < n; i++) {
		if (i % 2 && __real_mprotect(text + i * PAGE, PAGE, PROT_READ))
			abort();
		add(text + i * PAGE);
	}
}

/* The last of the room goes to the first piece of three that are opened together. */
static int pieces_at_the_end(void)
{
	uint8_t *text = new_text(31, 2, PROT_READ | PROT_EXEC);

	for (size_t i = 0; i < 31; i++)
		add(text + i * 2 * PAGE);
	add_pieces(3);
	return many();
}

static int many_pieces(void)
{
	add_pieces(more_than_there_is_room_for());
	return many();
}

static int pages_and_pieces(void)
{
	uint8_t *text = new_text(8, 2, PROT_READ | PROT_EXEC);

	add_pieces(more_than_there_is_room_for() / 2 - 4);
	for (size_t i = 0; i < 8; i++)
		add(text + i * 2 * PAGE);
	add_pieces(more_than_there_is_room_for() / 2 - 4);
	return many();
}

static void test_many(void)
{
	/* Each site is written several times; or, as where none traps, once. */
	static const struct {
		const char *what;
		int (*fn)(void);
		bool is_opened_again;
	} cases[] = {
		{"more pages apart than there is room for", many_pages, CPU_HAS_TRAPS},
		{"31 pages apart and 3 pieces", pieces_at_the_end, true},
		{"so many pieces of different protection", many_pieces, true},
		{"pieces and pages", pages_and_pieces, true},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int status = in_child_with(cases[i].fn, NULL);

		ok(!status, "%s in a batch: %d", cases[i].what, status);
		status = in_child_with(cases[i].fn, &stays_closed);
		if (cases[i].is_opened_again)
			ok(status == 1000 + SIGSEGV,
			   "control: what is opened again stays closed: %d", status);
		else
			ok(!status, "the same, and nothing is opened again: %d", status);
	}
}

/* -------------------------------------------------------------------- beside a site */

/* The page is opened when the store faults: somebody stores beside it, before it goes on. */
static struct {
	uint8_t *page;
	size_t at; /* of the site in the page, 8 and above */
	uint8_t stored;
	unsigned times;
} others;

static void store_beside(int sig)
{
	uint8_t *near = others.page + others.at - 8;

	(void)sig;
	if (syscall(SYS_mprotect, others.page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC))
		_exit(8);
	others.stored++;
	others.times++;
	for (size_t i = 0; i < 24; i++)
		if (i < 8 || i >= 8 + SITE_LEN)
			((volatile uint8_t *)near)[i] = others.stored;
}

static void close_page(void)
{
	if (syscall(SYS_mprotect, others.page, PAGE, PROT_READ | PROT_EXEC))
		_exit(8);
}

static bool are_theirs(void)
{
	for (size_t i = 0; i < 24; i++)
		if ((i < 8 || i >= 8 + SITE_LEN) && others.page[others.at - 8 + i] != others.stored)
			return false;
	return true;
}

static enum shunt_poke_policy policy;
static bool has_threads;

static int poke_beside(void)
{
	pthread_t thread;

	others.page = new_text(1, 1, PROT_READ | PROT_WRITE);
	write_code(others.page + others.at, nop, SITE_LEN);
	add(others.page + others.at);
	close_page();
	(void)signal(SIGSEGV, store_beside);
	if (shunt_set_poke(policy) || (has_threads && pthread_create(&thread, NULL, idle, NULL)))
		return 9;
	while (has_threads && !has_started)
		(void)sched_yield();
	opens_late = true;
	in_sync = close_page;
	for (int i = 0; i < 8; i++) {
		const uint8_t *insn = i % 2 ? nop : jmp;

		close_page();
		others.times = 0;
		if (poke_all(insn) || !all_are(insn))
			return 1;
		if (!others.times)
			return 2; /* nobody stored */
		if (!are_theirs())
			return 42;
	}
	return 0;
}

static void test_beside(void)
{
	for (others.at = 8; others.at < 16; others.at += SITE_ALIGN)
		for (int i = 0; i < 2; i++) {
			int status;

			has_threads = i;
			policy = SHUNT_POKE_INT3;
			status = in_child_with(poke_beside, NULL);
			ok(!status, "int3, a site at %zu of its word%s: %d", others.at % 8,
			   i ? ", threads" : "", status);
			policy = SHUNT_POKE_AUTO;
			status = in_child_with(poke_beside, NULL);
			ok(!status, "auto, the same: %d", status);
			policy = SHUNT_POKE_ATOMIC;
			status = in_child_with(poke_beside, CPU_HAS_TRAPS ? NULL : &is_longer);
			ok(status == 42, "control: the word is stored: %d", status);
		}
}

int main(void)
{
	shunt_set_log(NULL, NULL);
	test_copies(SHUNT_POKE_INT3);
	test_copies(SHUNT_POKE_AUTO);
	test_copies(SHUNT_POKE_ATOMIC);
	test_many();
	test_beside();
	return tap_done();
}
