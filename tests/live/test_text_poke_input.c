/* SPDX-License-Identifier: MIT */
/*
 * What text_poke_bp() is given by mistake, or as a compiler other than ours wrote it: bytes of a
 * static call's trampoline, nops with prefixes, the library's own memory; and a key that
 * nothing defines.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "../common/site_code.h"

#include "../api/tap.h"

/* A nop of each length, or of no length that a site has there. */
#ifdef __aarch64__
#define TRAMP_SIZE 16
static const uint8_t nop[SITE_LEN] = SITE_NOP;
static const uint8_t eight_bytes[2][SITE_LEN] = {SITE_NOP, SITE_NOP};
#define NOP_OF(len) ((void)(len), (const void *)eight_bytes)
#else
#include "../common/nops_x86_64.h"

#define TRAMP_SIZE  10
static const uint8_t nop[SITE_LEN] = SITE_NOP;
static const uint8_t eight_bytes[8] = {0x0f, 0x1f, 0x44, 0, 0, 0x90, 0x90, 0x90};
#define NOP_OF(len) ((const void *)nops[len])
#endif

static int one(void)
{
	return 1;
}

static int two(void)
{
	return 2;
}

DEFINE_STATIC_CALL(not_own, one);

KEEP static int call_it(void)
{
	return static_call(not_own)() + 0;
}

int undefined_target(void);
DECLARE_STATIC_CALL(undefined, undefined_target);
DECLARE_STATIC_KEY_TRUE(undefined_branch);
__asm__(".weak __SCK__undefined\n.weak __SCT__undefined\n.weak undefined_branch");

static bool is_control;

int __real_shunt_port_overlaps_trampoline(uintptr_t addr, size_t len);
int __wrap_shunt_port_overlaps_trampoline(uintptr_t addr, size_t len);

int __wrap_shunt_port_overlaps_trampoline(uintptr_t addr, size_t len)
{
	return is_control ? 0 : __real_shunt_port_overlaps_trampoline(addr, len);
}

bool __real_shunt_is_memory_of_libshunt(uintptr_t addr);
bool __wrap_shunt_is_memory_of_libshunt(uintptr_t addr);

bool __wrap_shunt_is_memory_of_libshunt(uintptr_t addr)
{
	return !is_control && __real_shunt_is_memory_of_libshunt(addr);
}

static uint8_t *tramp_of(void)
{
	return (uint8_t *)(uintptr_t)STATIC_CALL_TRAMP(not_own);
}

static bool can_be_site(const uint8_t *at, int len)
{
	return SITE_ALIGN == 1 || (len == SITE_LEN && !((uintptr_t)at % SITE_ALIGN));
}

/* What nobody refuses in it any more: a jmp; elsewhere nothing in it can be poked at all. */
static void trampoline_unseen(uint8_t *tramp, const uint8_t *before)
{
	is_control = true;
	if (SITE_ALIGN == 1) {
		ok(!text_poke_bp(tramp + 4, NOP_OF(6), 6) && !memcmp(tramp + 4, NOP_OF(6), 6),
		   "control: its jmp can be poked where nobody asks");
		ok(!text_poke_bp(tramp + 4, before + 4, 6) && !memcmp(before, tramp, TRAMP_SIZE),
		   "control: and poked back");
	} else {
		ok(text_poke_bp(tramp + 4, NOP_OF(4), 4) &&
			   !strstr(shunt_last_error(), "trampoline") &&
			   !memcmp(before, tramp, TRAMP_SIZE),
		   "control: that is not the reason where nobody asks: %s", shunt_last_error());
	}
	is_control = false;
}

/* Each site of each length that has a byte of it, and those beside it. */
static void trampolines(void)
{
	uint8_t *tramp = tramp_of(), before[TRAMP_SIZE];
	bool refused = true, only_those = true;

	memcpy(before, tramp, TRAMP_SIZE);
	for (int len = 1; len <= 6; len++)
		for (int off = -len; off <= TRAMP_SIZE; off++) {
			struct text_poke poke = {tramp + off, NOP_OF(len), (size_t)len,
						 "\xcc\xcc\xcc\xcc\xcc\xcc", NULL};
			int ret = text_poke_bp(tramp + off, NOP_OF(len), (size_t)len);
			bool told = strstr(shunt_last_error(), "trampoline");

			if (!can_be_site(tramp + off, len)) { /* which is seen before */
				only_those &= ret && !told;
			} else if (off == -len || off == TRAMP_SIZE) {
				ret = text_poke_bp_batch(&poke, 1);
				only_those &= ret && !strstr(shunt_last_error(), "trampoline");
			} else {
				refused &= ret == -EINVAL && told;
			}
		}
	ok(refused, "a site in a trampoline is refused");
	ok(only_those, "beside it, that is not the reason");
	ok(!memcmp(before, tramp, TRAMP_SIZE) && call_it() == 1, "nothing has changed");
	trampoline_unseen(tramp, before);
}

/* What compilers write, and what is written by hand. */
#ifdef __aarch64__
static const struct {
	uint32_t word;
	bool is_site;
} words[] = {
	{0xd503201f, true}, /* nop */
	{0x14000001, true}, /* b .+4 */
	{0xd503203f, false} /* yield */,
	{0xd503245f, false} /* bti c */,
	{0xd50330df, false} /* isb #0 */,
	{0xd65f03c0, false} /* ret */,
	{0x54000020, false} /* b.eq .+4 */,
	{0x34000020, false} /* cbz w0, .+4 */,
	{0x36000020, false} /* tbz w0, #0, .+4 */,
	{0xaa1f03ff, false} /* mov xzr, xzr */,
	{0xd4200000, false} /* brk #0 */,
	{0xd4000001, false} /* svc #0 */,
	{0, false} /* udf #0 */,
};

/* To each and from each: in code that is run after each poke. */
static void prefixed(void)
{
	uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int (*run)(void) = (int (*)(void))(uintptr_t)page;

	if (page == MAP_FAILED) {
		skip("instructions", "no writable code here");
		return;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		/* mov w0, #7; the site; add w0, w0, #1; ret */
		uint32_t code[] = {0x528000e0, words[i].word, 0x11000400, 0xd65f03c0};
		const void *bytes = &words[i].word;
		uint8_t *site = page + 4;

		write_code(page, code, sizeof(code));
		if (words[i].is_site) {
			ok(run() == 8 && !text_poke_bp(site, nop, 4) && run() == 8 &&
				   !text_poke_bp(site, bytes, 4) && !memcmp(site, bytes, 4) &&
				   run() == 8 && !text_poke_bp(site, nop, 4, bytes) && run() == 8,
			   "%08x is a site, before and after", words[i].word);
		} else {
			bool same =
				text_poke_bp(site, nop, 4) == -EINVAL && !memcmp(site, bytes, 4);

			write_code(site, nop, 4);
			ok(same && text_poke_bp(site, bytes, 4) == -EINVAL && run() == 8,
			   "%08x is none", words[i].word);
		}
		text_poke_forget(page, 4096);
	}
	(void)munmap(page, 4096);
}
#else
static const struct {
	int len;
	const char *bytes;
} forms[] = {
	{3, "\x66\x66\x90"},
	{4, "\x66\x66\x66\x90"},
	{5, "\x66\x66\x66\x66\x90"},
	{6, "\x2e\x66\x66\x66\x66\x90"},
	{2, "\x2e\x90"},
	{2, "\x3e\x90"},
	{3, "\x0f\x1f\xc0"},
	{4, "\x66\x0f\x1f\x00"},
	{5, "\x66\x66\x0f\x1f\x00"},
	{5, "\x66\x0f\x1f\x40\x00"},
	{6, "\x66\x66\x0f\x1f\x40\x00"},
	{6, "\x2e\x0f\x1f\x44\x00\x00"},
	{6, "\x66\x2e\x0f\x1f\x40\x00"},
	{4, "\x0f\x1f\x04\x00"},
	{5, "\x0f\x1f\x44\x88\x77"},
	{2, "\x31\xc0"},
	{2, "\x33\xc0"},
	{3, "\x2e\x31\xc0"},
	{4, "\x3e\x2e\x33\xc0"},
	{2, "\xf3\xc3"},
};

static const struct {
	int len;
	const char *bytes;
} others[] = {
	{2, "\xf3\x90"},         {3, "\x66\xf3\x90"},       {2, "\x41\x90"},
	{3, "\x66\x31\xc0"},     {3, "\x0f\x1f\xc8"},       {4, "\xf3\x0f\x1f\x00"},
	{4, "\x66\x0f\x1f\x40"}, {6, "\x0f\x1f\x80\0\0\0"}, {6, "\x66\x90\x90\x90\x90\x90"},
	{2, "\xf2\xc3"},         {4, "\xf3\x0f\x1e\xfa"},   {3, "\x48\x31\xc0"},
};

/* To each and from each: in code that is run after each poke. */
static void prefixed(void)
{
	uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int (*run)(void) = (int (*)(void))(uintptr_t)page;

	if (page == MAP_FAILED) {
		skip("nops with prefixes", "no writable code here");
		return;
	}
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		size_t len = (size_t)forms[i].len;
		const char *bytes = forms[i].bytes;
		bool zeroes = strchr("\x31\x33", bytes[len - 2]) && bytes[len - 2] &&
			      (uint8_t)bytes[len - 1] == 0xc0;
		bool ends = (uint8_t)bytes[len - 1] == 0xc3;
		int behind, good;

		/* mov $7,%eax; the site; add $1,%eax; ret */
		memcpy(page, "\xb8\x07\x00\x00\x00", 5);
		memcpy(page + 5, bytes, len);
		memcpy(page + 5 + len, "\x83\xc0\x01\xc3", 4);
		behind = ends ? 7 : zeroes ? 1 : 8;
		good = run() == behind;
		good &= !text_poke_bp(page + 5, NOP_OF(len), len) && run() == 8;
		good &= !text_poke_bp(page + 5, bytes, len) && run() == behind;
		good &= !text_poke_bp(page + 5, NOP_OF(len), len, bytes) && run() == 8;
		ok(good, "%02x %02x (%zu) is a site, before and after", (uint8_t)bytes[0],
		   (uint8_t)bytes[1], len);
		text_poke_forget(page, 4096);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		size_t len = (size_t)others[i].len;
		const char *bytes = others[i].bytes;
		bool same;

		memcpy(page, bytes, len);
		same = text_poke_bp(page, NOP_OF(len), len) == -EINVAL && !memcmp(page, bytes, len);
		memcpy(page, NOP_OF(len), len);
		ok(same && text_poke_bp(page, bytes, len) == -EINVAL &&
			   !memcmp(page, NOP_OF(len), len),
		   "%02x %02x (%zu) is none", (uint8_t)bytes[0], (uint8_t)bytes[1], len);
	}
	(void)munmap(page, 4096);
}

#endif

/* ------------------------------------------------------ the library's own memory */

/* Each byte is another one than the nop has. */
static const uint8_t jump[SITE_LEN] = SITE_JMP(SITE_ALIGN == 1 ? 0x4030206 : 0x100408);

/* At @at, in a batch behind @good sites that are code, from @first on. */
static int poke_with(uint8_t *first, size_t good, uint8_t *at)
{
	static struct text_poke pokes[101];

	for (size_t i = 0; i < good; i++)
		pokes[i] = (struct text_poke){first + 8 * i, jump, SITE_LEN, NULL, NULL};
	pokes[good] = (struct text_poke){at, jump, SITE_LEN, NULL, NULL};
	return text_poke_bp_batch(pokes, good + 1);
}

static void *sleep_for_good(void *arg)
{
	(void)pause();
	return arg;
}

/* Sites that begin in code and end there; or the other way; all of it there; the last of many. */
static void own_by(const char *way, uint8_t *code, size_t good)
{
	uint8_t before[3 * 4096];
#if SITE_ALIGN == 1
	static const int offsets[] = {4096 - 1, 4096 - 3, 4096 - 4, 4096, 4096 + 100, 2 * 4096 - 2};
#else /* none is on two pages */
	static const int offsets[] = {4096, 4096 + 4, 4096 + 100, 2 * 4096 - 4};
#endif
	int refused = 0, same = 0, changed = 0, n = sizeof(offsets) / sizeof(offsets[0]);

	for (int i = 0; i < n; i++) {
		for (size_t at = 0; at < 3 * 4096; at += 8)
			write_code(code + at, eight_bytes, sizeof(eight_bytes));
		write_code(code + offsets[i], nop, SITE_LEN);
		memcpy(before, code, sizeof(before));
		refused += poke_with(code, good, code + offsets[i]) == -EFAULT &&
			   strstr(shunt_last_error(), "own memory");
		same += !memcmp(code, before, sizeof(before));
		is_control = true;
		changed += !poke_with(code, good, code + offsets[i]) &&
			   !memcmp(code + offsets[i], jump, SITE_LEN);
		is_control = false;
		text_poke_forget(code, 3 * 4096);
	}
	ok(refused == n, "%s, %zu sites: its own memory is refused: %d", way, good + 1, refused);
	ok(same == n, "and nothing has changed: %d", same);
	ok(changed == n, "control: taken for the program's it is written: %d", changed);
}

/* Three pages of code, the middle one of which has been unmapped, and taken by the library since.
 */
static uint8_t *make_code(void)
{
	uint8_t *code = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (code == MAP_FAILED || munmap(code + 4096, 4096))
		return NULL;
	for (int i = 0; i < 100; i++)
		if (shunt_port_alloc(4096) == code + 4096)
			return code;
	return NULL;
}

static void own_memory(void)
{
	static const char *const names[] = {"auto", "int3", "remap", "atomic"};
	uint8_t *code = make_code();
	pthread_t thread;

	if (!code) {
		skip("its own memory", "no writable code here, or the hole is not filled");
		return;
	}
	for (int threads = 0; threads < 2; threads++) {
		for (int policy = SHUNT_POKE_AUTO; policy <= SHUNT_POKE_ATOMIC; policy++)
			if (policy != SHUNT_POKE_REMAP &&
			    !shunt_set_poke((enum shunt_poke_policy)policy)) {
				own_by(names[policy], code, 0);
				own_by(names[policy], code, 100);
			}
		if (!threads && pthread_create(&thread, NULL, sleep_for_good, NULL))
			break;
	}
	ok(!shunt_set_poke(SHUNT_POKE_AUTO), "by auto again");
	shunt_port_free(code + 4096, 4096);
	ok(mmap(code + 4096, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == code + 4096 &&
		   memcpy(code + 4096, nop, SITE_LEN) && !poke_with(code, 0, code + 4096),
	   "what it has given back is the program's");
}

/* ------------------------------------------------------- what cannot be read */

static sigjmp_buf out;

static void leave(int sig)
{
	(void)sig;
	siglongjmp(out, 1);
}

int __real_shunt_port_lock(void);
int __wrap_shunt_port_lock(void);
static const volatile char *early; /* read when the lock has been taken */

int __wrap_shunt_port_lock(void)
{
	int ret = __real_shunt_port_lock();

	if (early)
		(void)*early;
	return ret;
}

static void *update_it(void *arg)
{
	return (void *)(intptr_t)static_call_update(not_own, arg ? two : one);
}

/* Whether another thread's update, and one of this thread, goes through. */
static bool others_update(void)
{
	pthread_t thread;
	void *ret = NULL;

	return !static_call_update(not_own, one) &&
	       !pthread_create(&thread, NULL, update_it, &out) && !pthread_join(thread, &ret) &&
	       !ret && call_it() == 2;
}

/* Pokes from memory that is not there, with a handler that leaves by siglongjmp(). */
static void unreadable(void)
{
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *edge =
		mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct text_poke good = {code, nop, SITE_LEN, NULL, NULL};
	struct text_poke *many = (struct text_poke *)(edge + 4096) - 20;
	struct text_poke bad[] = {
		{code, edge + 4096 - 2, SITE_LEN, NULL, NULL},
		{code, nop, SITE_LEN, edge + 4096 - 2, NULL},
		{code, nop, SITE_LEN, NULL, edge + 4096 - 2},
	};
	static bool left = true;

	if (code == MAP_FAILED || edge == MAP_FAILED || munmap(edge + 4096, 4096)) {
		skip("what cannot be read", "no memory");
		return;
	}
	write_code(code, nop, SITE_LEN);
	(void)signal(SIGSEGV, leave);
	for (volatile size_t i = 0; i < 3; i++)
		if (!sigsetjmp(out, 1))
			left &= text_poke_bp_batch(&bad[i], 1) != 0;
	for (int i = 0; i < 20; i++) {
		many[i] = good;
		many[i].addr = code + 8 * i;
		write_code(code + 8 * i, nop, SITE_LEN);
	}
	if (!sigsetjmp(out, 1))
		left &= text_poke_bp_batch(many + 19, 2) != 0;
	if (!sigsetjmp(out, 1))
		left &= text_poke_bp_batch(many, 21) != 0;
	if (!sigsetjmp(out, 1))
		left &= text_poke_bp_batch((struct text_poke *)8, 1) != 0;
	ok(left && others_update(), "pokes that cannot be read: later updates go through");
	if (!fork()) {
		early = edge + 4096;
		if (!sigsetjmp(out, 1))
			(void)!text_poke_bp_batch(&good, 1);
		early = NULL;
		_exit(static_call_update(not_own, one) == -EDEADLK ? 42 : 1);
	} else {
		int status = -1;

		(void)wait(&status);
		ok(WIFEXITED(status) && WEXITSTATUS(status) == 42,
		   "control: read under the lock, which is never free again: %x", (unsigned)status);
	}
	(void)signal(SIGSEGV, SIG_DFL);
}

static void undefined_keys(void)
{
	ok(!static_call_query(undefined), "a key that nothing defines: query tells NULL");
	ok(static_call_update(undefined, (void *)one) == -EINVAL, "and an update is refused");
	ok(static_call_query(not_own) == (void *)one, "control: query of one that is defined");
	ok(!static_key_count(&undefined_branch), "a static key that nothing defines counts 0");
	ok(static_branch_enable(&undefined_branch) == -EINVAL, "and is not enabled");
}

/* At the end of the address space, where a look at the next page begins at 0 again: MAP_FAILED. */
static void last_page(void)
{
	static const int8_t insn[8] = {0};
	int refused = 0, n = 0;

	for (intptr_t at = -4096 - 4; at < 0; at += at < -4090 || at > -8 ? 1 : 64, n++) {
		pid_t child = fork();
		int status = -1;

		if (!child) {
			int one = text_poke_bp((void *)(at & -SITE_ALIGN), insn, SITE_LEN);

			_exit(one == -EFAULT || (SITE_ALIGN > 1 && one == -EINVAL) ? 0 : 1);
		}
		refused += child > 0 && waitpid(child, &status, 0) == child && !status;
	}
	ok(refused == n, "the last page of the address space: %d of %d are refused", refused, n);
}

int main(void)
{
	shunt_set_log(NULL, NULL);
	last_page();
	trampolines();
	prefixed();
	undefined_keys();
	own_memory();
	unreadable();
	return tap_done();
}
