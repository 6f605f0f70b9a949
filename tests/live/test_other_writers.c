/* SPDX-License-Identifier: MIT */
/*
 * Text that others write to, or have given a protection of their own: a JIT's, a patcher's
 * that opens a page, stores and closes it, a page with a protection key, shared memory, text
 * that has gone. By every policy: it works, nobody's store is lost and the protection is as
 * it was; or it is an error and nothing has changed.
 *
 * A tool that writes beside sites through /proc/self/mem, of a program that has chosen int3 or
 * atomic, loses nothing either, however many sites are switched.
 *
 * Controls: the port is told that all memory is private text of a file (shunt_area_find()), or
 * that it may write what is between the sites (shunt_text_begin()).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/text_poke.h>

#include "../common/child.h"
#include "../common/filter.h"
#include "../common/idle_thread.h"
#include "../common/one_two.h"
#include "../common/remap_first.h"
#include "../common/site_code.h"
#include "linux/base/descriptor.h"
#include "linux/text/area.h"

#include "../api/tap.h"

#define PAGE 4096ul

DEFINE_STATIC_CALL(own, one);

/*
 * On a page of its own, with room for somebody else's code behind it: in this order, which gcc else
 * changes, and behind the last one there may be read-only data.
 */
#if __has_attribute(no_reorder)
#define IN_ORDER __attribute__((no_reorder))
#else
#define IN_ORDER
#endif
#define OWN_PAGE IN_ORDER __attribute__((aligned(4096), section("others_text")))

OWN_PAGE KEEP static int site(void)
{
	return static_call(own)() + 0;
}

OWN_PAGE KEEP static int behind(void)
{
	return 7;
}

static int turn(void)
{
	return static_call_update(own, static_call_query(own) == one ? two : one);
}

static bool is_right(void)
{
	return site() == (static_call_query(own) == one ? 1 : 2);
}

/* ---------------------------------------------------------------------- control */

int __real_shunt_area_find(uintptr_t addr, struct shunt_area *area);
int __wrap_shunt_area_find(uintptr_t addr, struct shunt_area *area);
bool __real_shunt_area_is_readable(uintptr_t addr);
bool __real_shunt_area_are_readable(uintptr_t addr, size_t len);
bool __wrap_shunt_area_are_readable(uintptr_t addr, size_t len);
bool __wrap_shunt_area_is_readable(uintptr_t addr);

static bool is_blind;  /* everything is private text of a file, and can be read */
static bool by_listed; /* what can be read is told by how it is mapped */

int __wrap_shunt_area_find(uintptr_t addr, struct shunt_area *area)
{
	int ret = __real_shunt_area_find(addr, area);

	if (is_blind && !ret) {
		area->prot = PROT_READ | PROT_EXEC;
		area->is_private = true;
		area->is_listed = true;
		area->ino = area->ino ? area->ino : 1;
	}
	return ret;
}

bool __wrap_shunt_area_is_readable(uintptr_t addr)
{
	struct shunt_area area;

	if (by_listed)
		return !__real_shunt_area_find(addr, &area) && area.prot & PROT_READ;
	return is_blind || __real_shunt_area_is_readable(addr);
}

bool __wrap_shunt_area_are_readable(uintptr_t addr, size_t len)
{
	return is_blind || by_listed ? __wrap_shunt_area_is_readable(addr)
				     : __real_shunt_area_are_readable(addr, len);
}

int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	return begin_remap_first(n, flips, tried);
}

void __real_shunt_text_begin(size_t n, enum shunt_way way, bool may_run);
void __wrap_shunt_text_begin(size_t n, enum shunt_way way, bool may_run);

static bool in_runs; /* whatever the policy */

void __wrap_shunt_text_begin(size_t n, enum shunt_way way, bool may_run)
{
	__real_shunt_text_begin(n, way, may_run || in_runs);
}

/* ----------------------------------------------------------------------- threads */

static void start_idle(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, idle, NULL))
		abort();
}

static const char *const policies[] = {"auto", "int3", "remap", "atomic"};

static void set(unsigned policy)
{
	if (shunt_set_poke((enum shunt_poke_policy)policy))
		abort();
}

/* -------------------------------------------------------------------------- a JIT */

static const uint8_t nop[SITE_LEN] = SITE_NOP, jmp[SITE_LEN] = SITE_JMP(8);

static uint8_t *new_code(int prot, int flags, int fd)
{
	uint8_t *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED)
		abort();
	for (size_t i = 0; i < PAGE / 8; i++)
		write_code(p + 8 * i, nop, SITE_LEN);
	if (mprotect(p, PAGE, prot))
		abort();
	return p;
}

#define WORDS 256

static struct {
	uint8_t *page;
	bool closes; /* makes the page writable for its stores only */
	_Atomic bool over;
	_Atomic unsigned long rounds, lost;
} emitter;

/* Stores into its page, beside what is poked there, and reads it again. */
static void *emit(void *arg)
{
	volatile uint32_t *words = (volatile uint32_t *)(emitter.page + PAGE / 2);

	for (uint32_t round = 1; !emitter.over; round++) {
		if (emitter.closes)
			(void)mprotect(emitter.page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
		for (int i = 0; i < WORDS; i++)
			words[i] = round;
		for (int i = 0; i < WORDS; i++)
			emitter.lost += words[i] != round;
		if (emitter.closes)
			(void)mprotect(emitter.page, PAGE, PROT_READ | PROT_EXEC);
		emitter.rounds++;
	}
	return arg;
}

static pthread_t start_emitter(uint8_t *page, bool closes)
{
	pthread_t thread;

	emitter.page = page;
	emitter.closes = closes;
	emitter.over = false;
	emitter.rounds = emitter.lost = 0;
	if (pthread_create(&thread, NULL, emit, NULL))
		abort();
	while (emitter.rounds < 3)
		(void)sched_yield();
	return thread;
}

static unsigned long end_emitter(pthread_t thread)
{
	emitter.over = true;
	(void)pthread_join(thread, NULL);
	return emitter.lost;
}

/* @n sites until the emitter has gone on for a while. The first error. */
static int poke_beside(uint8_t *page, size_t n, unsigned long rounds)
{
	struct text_poke pokes[PAGE / 16];
	unsigned long end = emitter.rounds + rounds;
	int ret = 0;

	for (bool on = true; emitter.rounds < end && !ret && !emitter.lost; on = !on) {
		for (size_t i = 0; i < n; i++)
			pokes[i] = (struct text_poke){
				.addr = page + 8 * i, .insn = on ? jmp : nop, .len = SITE_LEN};
		ret = text_poke_bp_batch(pokes, n);
	}
	return ret;
}

static void jit(size_t n)
{
	for (unsigned policy = 0; policy < 4; policy++) {
		uint8_t *page = new_code(PROT_READ | PROT_WRITE | PROT_EXEC,
					 MAP_PRIVATE | MAP_ANONYMOUS, -1);
		pthread_t thread = start_emitter(page, false);
		unsigned long lost;
		int ret;

		set(policy);
		ret = poke_beside(page, n, 1000);
		lost = end_emitter(thread);
		ok(!lost && (policy == SHUNT_POKE_REMAP ? ret == -EOPNOTSUPP : !ret),
		   "%s, %zu sites in a page that a JIT writes to: %d, %lu words lost",
		   policies[policy], n, ret, lost);
		text_poke_forget(page, PAGE);
		(void)munmap(page, PAGE);
	}
}

static void emitter_faults(int sig)
{
	_exit(sig == SIGSEGV ? 42 : 1);
}

/* The new page has lost what was stored, or the emitter cannot store there any more. */
static int jit_unseen(void)
{
	uint8_t *page = new_code(PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	(void)signal(SIGSEGV, emitter_faults);
	(void)start_emitter(page, true);
	is_blind = true;
	set(SHUNT_POKE_REMAP);
	while (!emitter.lost && emitter.rounds < 1000000)
		(void)poke_beside(page, 1, 1);
	return emitter.lost ? 42 : 0;
}

static int many_unseen(void)
{
	uint8_t *page =
		new_code(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	(void)signal(SIGSEGV, emitter_faults);
	(void)start_emitter(page, false);
	is_blind = true;
	in_runs = true;
	set(SHUNT_POKE_INT3);
	write_code(page + PAGE - 8, nop, SITE_LEN);
	for (bool on = true; !emitter.lost && emitter.rounds < 1000000; on = !on) {
		struct text_poke pokes[65];

		for (size_t i = 0; i < 65; i++)
			pokes[i] = (struct text_poke){.addr = page + (i < 64 ? 8 * i : PAGE - 8),
						      .insn = on ? jmp : nop,
						      .len = SITE_LEN};
		if (text_poke_bp_batch(pokes, 65))
			return 1;
	}
	return emitter.lost ? 42 : 0;
}

/* ------------------------------------------------- a tool that writes beside sites */

#define SPARED 100 /* sites, with a byte of the tool's behind each */

static const uint8_t off[SITE_LEN] = SITE_OFF(8), on[SITE_LEN] = SITE_JMP(8);

static uint8_t *new_text(void)
{
	static uint8_t bytes[PAGE];
	FILE *file = tmpfile();
	uint8_t *p;

	for (size_t i = 0; i < SPARED; i++)
		memcpy(bytes + 16 * i, off, SITE_LEN);
	if (!file || fwrite(bytes, PAGE, 1, file) != 1 || fflush(file))
		abort();
	p = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(file), 0);
	if (p == MAP_FAILED)
		abort();
	return p;
}

/* One round: a byte behind each site, read again a round later. */
static void *write_beside(void *arg)
{
	int fd = open("/proc/self/mem", O_RDWR);

	if (fd < 0)
		abort();
	for (uint8_t round = 1; !emitter.over; round++) {
		for (size_t i = 0; i < SPARED; i++) {
			volatile const uint8_t *at = emitter.page + 16 * i + 8;

			emitter.lost += emitter.rounds && *at != (uint8_t)(round - 1);
			if (pwrite(fd, &round, 1, (off_t)(uintptr_t)at) != 1)
				abort();
		}
		emitter.rounds++;
	}
	(void)close(fd);
	return arg;
}

static int switch_many(unsigned policy, unsigned long rounds)
{
	struct text_poke pokes[SPARED];
	pthread_t thread;
	int ret = 0;

	emitter.page = new_text();
	emitter.over = false;
	emitter.rounds = emitter.lost = 0;
	if (pthread_create(&thread, NULL, write_beside, NULL))
		abort();
	while (emitter.rounds < 3)
		(void)sched_yield();
	set(policy);
	for (bool now = true; emitter.rounds < rounds && !ret && !emitter.lost; now = !now) {
		for (size_t i = 0; i < SPARED; i++)
			pokes[i] = (struct text_poke){.addr = emitter.page + 16 * i,
						      .insn = now ? on : off,
						      .len = SITE_LEN,
						      .old = now ? off : on};
		ret = text_poke_bp_batch(pokes, SPARED);
	}
	(void)end_emitter(thread);
	return ret;
}

static int spared(void)
{
	struct shunt_ways ways;
	int ret = switch_many(SHUNT_POKE_INT3, 2000);

	shunt_get_ways(&ways);
	if (!ret && !emitter.lost && strcmp(ways.poke, "flip") != 0)
		return 3;
	if (!ret && !emitter.lost)
		ret = switch_many(SHUNT_POKE_ATOMIC, 2000);
	return ret ? 1 : emitter.lost ? 2 : 0;
}

static int spared_in_runs(void)
{
	in_runs = true;
	return !switch_many(SHUNT_POKE_INT3, 1000000) && emitter.lost ? 42 : 0;
}

/* --------------------------------------------------------------------- a patcher */

/*
 * In the module's own text, in a page with a site. An update has seen it open before: the first one
 * that meets such a patcher may make him fault (text_poke_bp(3)). Not where that is opened for
 * writing by mprotect(): of two that open and close a page one closes it under the other.
 */
static int patched(void)
{
	const char *write = getenv("SHUNT_WRITE");
	pthread_t thread;
	int ret = 0;

	if (write && !strcmp(write, "mprotect"))
		return 0;
	if (mprotect((void *)(uintptr_t)site, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) || turn() ||
	    mprotect((void *)(uintptr_t)site, PAGE, PROT_READ | PROT_EXEC))
		return 3;
	thread = start_emitter((uint8_t *)(uintptr_t)site, true);

	while (emitter.rounds < 2000 && !ret && !emitter.lost)
		ret = turn() || !is_right();
	return end_emitter(thread) || ret;
}

/* ------------------------------------------------------------------ the protection */

struct look {
	char prot[8];
	int key;
};

/* As /proc/self/smaps has it. */
static struct look look_at_page(const void *page)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	struct look l = {"", -1};
	char line[512];
	bool here = false;

	while (f && fgets(line, sizeof(line), f)) {
		char prot[8];
		int key;

		if (sscanf(line, "%lx-%lx %7s", &start, &end, prot) == 3) {
			here = (uintptr_t)page - start < end - start;
			if (here)
				memcpy(l.prot, prot, sizeof(prot));
		} else if (here && sscanf(line, "ProtectionKey: %d", &key) == 1) {
			l.key = key;
		}
	}
	if (f)
		(void)fclose(f);
	return l;
}

static void stays(const char *what, const char *prot, int key)
{
	for (unsigned policy = 0; policy < 4; policy++) {
		int was = site(), ret;
		struct look l;

		set(policy);
		ret = turn();
		l = look_at_page((const void *)site);
		ok((ret ? ret == -EOPNOTSUPP && policy == SHUNT_POKE_REMAP && site() == was
			: is_right() && site() != was) &&
			   !strcmp(l.prot, prot) && l.key == key,
		   "%s, by %s: %d, then %s, key %d", what, policies[policy], ret, l.prot, l.key);
	}
}

/* Others' stores are known for good: the writable page comes last. */
static void protection_stays(void)
{
	void *page = (void *)site;
	int plain = look_at_page(page).key, key = pkey_alloc(0, PKEY_DISABLE_WRITE);

	if (key < 0 || pkey_mprotect(page, PAGE, PROT_READ | PROT_EXEC, key)) {
		skip("protection keys", "there are none");
	} else {
		stays("text with a protection key", "r-xp", key);
		ok(pkey_get(key) == PKEY_DISABLE_WRITE, "this thread's rights are as they were");
		if (pkey_mprotect(page, PAGE, PROT_READ | PROT_EXEC, 0) || pkey_free(key))
			abort();
	}
	if (mprotect(page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC))
		abort();
	stays("writable text", "rwxp", plain);
	if (mprotect(page, PAGE, PROT_READ | PROT_EXEC))
		abort();
}

/* A page that may not be run, as a JIT has it while it writes: it is not to be run afterwards. */
static void not_executable(void)
{
	for (unsigned policy = 0; policy < 4; policy++) {
		uint8_t *page = new_code(PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		struct text_poke poke = {.addr = page, .insn = jmp, .len = SITE_LEN, .old = nop};
		struct look l;
		int ret;

		set(policy);
		ret = text_poke_bp_batch(&poke, 1);
		l = look_at_page(page);
		ok((policy == SHUNT_POKE_REMAP ? ret == -EOPNOTSUPP : !ret) &&
			   !memcmp(page, ret ? nop : jmp, SITE_LEN) && !strcmp(l.prot, "r--p"),
		   "a page that is not executable, by %s: %d, then %s", policies[policy], ret,
		   l.prot);
		text_poke_forget(page, PAGE);
		(void)munmap(page, PAGE);
	}
}

static int writable_unseen(void)
{
	start_idle();
	if (mprotect((void *)site, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC))
		return 1;
	is_blind = true;
	set(SHUNT_POKE_REMAP);
	return !turn() && !strcmp(look_at_page((void *)site).prot, "r-xp") ? 42 : 0;
}

/* ----------------------------------------------------------------- shared memory */

static bool is_refused(uint8_t *page, int error)
{
	struct text_poke poke = {.addr = page, .insn = jmp, .len = SITE_LEN, .old = nop};
	bool good = true;

	for (unsigned policy = 0; policy < 4; policy++) {
		int ret;

		set(policy);
		ret = text_poke_bp_batch(&poke, 1);
		if (!ret || (error && ret != error) || !shunt_last_error()[0]) {
			diag("%s: %d, %s", policies[policy], ret, shunt_last_error());
			good = false;
		}
	}
	return good;
}

static int shared_error = -EACCES; /* 0: any */

static int refuse_shared(void)
{
	int fd = memfd_create("shared", MFD_CLOEXEC);
	uint8_t *pages[] = {
		new_code(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1),
		new_code(PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1),
		ftruncate(fd, (long)PAGE) ? NULL : new_code(PROT_READ | PROT_EXEC, MAP_SHARED, fd),
	};

	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		if (!is_refused(pages[i], shared_error) || memcmp(pages[i], nop, SITE_LEN) != 0)
			return (int)i + 1;
	return 0;
}

static int refuse_shared_beside_threads(void)
{
	start_idle();
	return refuse_shared();
}

static int shared_unseen(void)
{
	is_blind = true;
	return refuse_shared() ? 42 : 0;
}

/* A private mapping of a file that is open for writing is as good as any. */
static int private_works(void)
{
	int fd = memfd_create("private", MFD_CLOEXEC);
	uint8_t *page =
		ftruncate(fd, (long)PAGE) ? NULL : new_code(PROT_READ | PROT_EXEC, MAP_PRIVATE, fd);
	uint8_t in_file[SITE_LEN] = {1};

	set(SHUNT_POKE_AUTO);
	if (text_poke_bp(page, jmp, SITE_LEN) || memcmp(page, jmp, SITE_LEN) != 0)
		return 1;
	return pread(fd, in_file, SITE_LEN, 0) != SITE_LEN || in_file[0];
}

/* ------------------------------------------------------------------- without /proc */

int __real_shunt_fd_open_kept(const char *path, int flags, int64_t *mark);
int __wrap_shunt_fd_open_kept(const char *path, int flags, int64_t *mark);

static bool no_maps; /* /proc/self/maps is not there */

int __wrap_shunt_fd_open_kept(const char *path, int flags, int64_t *mark)
{
	return no_maps && strstr(path, "maps") ? -ENOENT
					       : __real_shunt_fd_open_kept(path, flags, mark);
}

static unsigned count_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned n = 0;
	int c;

	while (f && (c = fgetc(f)) != EOF)
		n += c == '\n';
	if (f)
		(void)fclose(f);
	return n;
}

/* A page of protection @prot is poked by each policy, and has its protection then. */
static bool keeps(int prot, const char *as_listed)
{
	bool good = true;

	for (unsigned policy = 0; policy < 4; policy++) {
		uint8_t *page = new_code(prot, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		int ret;

		set(policy);
		ret = text_poke_bp(page, jmp, SITE_LEN);
		if ((policy == SHUNT_POKE_REMAP ? !ret : ret) ||
		    strcmp(look_at_page(page).prot, as_listed) != 0) {
			diag("%s: %d, %s", policies[policy], ret, look_at_page(page).prot);
			good = false;
		}
		text_poke_forget(page, PAGE);
		(void)munmap(page, PAGE);
	}
	return good;
}

/* What is mapped is found by trial. */
static int without_maps(void)
{
	unsigned before = 0;

	start_idle();
	shared_error = 0; /* remap does without an answer, and says so */
	no_maps = true;
	(void)close_range(3, ~0u, 0);
	if (!keeps(PROT_READ | PROT_EXEC, "r-xp"))
		return 1;
	if (!keeps(PROT_READ | PROT_WRITE | PROT_EXEC, "rwxp"))
		return 2;
	for (int i = 0; i < 4; i++) {
		if (refuse_shared())
			return 3;
		if (i == 0) /* what is allocated once is there */
			before = count_mappings();
	}
	if (count_mappings() <= before + 3 * 3) /* those of the test */
		return 0;
	diag("%u mappings, then %u", before, count_mappings());
	return 4;
}

/* Before Linux 6.11, or under a filter: the list is read. */
static int without_query(void)
{
	start_idle();
	if (!answer_syscall(SYS_ioctl, ENOTTY))
		return 0; /* there are no filters here */
	if (!keeps(PROT_READ, "r--p") || !keeps(PROT_READ | PROT_EXEC, "r-xp") ||
	    !keeps(PROT_READ | PROT_WRITE | PROT_EXEC, "rwxp"))
		return 1;
	return refuse_shared() ? 2 : 0;
}

static int without_query_unseen(void)
{
	is_blind = true;
	return without_query() ? 42 : 0;
}

static int without_maps_unseen(void)
{
	is_blind = true;
	return without_maps() ? 42 : 0;
}

/* ------------------------------------------------------------------ text that goes */

static int refuse_what_is_gone(void)
{
	uint8_t *page = new_code(PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (text_poke_bp(page, jmp, SITE_LEN) || text_poke_bp(page, nop, SITE_LEN))
		return 1;
	if (mprotect(page, PAGE, PROT_NONE) || !is_refused(page, -EFAULT))
		return 2;
	if (munmap(page, PAGE) || !is_refused(page, -EFAULT))
		return 3;
	return is_refused((uint8_t *)8, -EFAULT) ? 0 : 4;
}

static int gone_unseen(void)
{
	is_blind = true;
	return refuse_what_is_gone();
}

/* The file has become shorter: what is mapped behind its end is readable, says the kernel. */
static int refuse_what_is_cut_off(void)
{
	int fd = memfd_create("cut off", MFD_CLOEXEC);
	uint8_t *page =
		ftruncate(fd, (long)PAGE) ? NULL : new_code(PROT_READ | PROT_EXEC, MAP_PRIVATE, fd);

	return ftruncate(fd, 0) || !is_refused(page, -EFAULT);
}

static int cut_off_unseen(void)
{
	by_listed = true;
	return refuse_what_is_cut_off();
}

/* Of so many pages that one call asks for all of them, one in the middle. */
static int refuse_what_is_gone_among_many(void)
{
	enum { PAGES = 16 };
	struct text_poke pokes[PAGES];
	uint8_t *code = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (code == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < PAGES; i++) {
		memcpy(code + i * PAGE, nop, SITE_LEN);
		pokes[i] = (struct text_poke){
			.addr = code + i * PAGE, .insn = jmp, .len = SITE_LEN, .old = nop};
	}
	if (mprotect(code, PAGES * PAGE, PROT_READ | PROT_EXEC) ||
	    mprotect(code + 7 * PAGE, PAGE, PROT_NONE))
		return 2;
	if (text_poke_bp_batch(pokes, PAGES) != -EFAULT || memcmp(code, nop, SITE_LEN) != 0)
		return 3;
	if (mprotect(code + 7 * PAGE, PAGE, PROT_READ | PROT_EXEC))
		return 4;
	return text_poke_bp_batch(pokes, PAGES) ? 5 : memcmp(code + 7 * PAGE, jmp, SITE_LEN) != 0;
}

static int gone_among_many_unseen(void)
{
	is_blind = true;
	return refuse_what_is_gone_among_many();
}

/* A module's text: unmapped, and something else mapped there. */
static int refuse_module_gone(void)
{
	void *page = (void *)site;

	if (munmap(page, PAGE) || turn() != -EFAULT || static_call_query(own) != one)
		return 1;
	if (mmap(page, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) != page)
		return 2;
	return turn() == -EBUSY && strstr(shunt_last_error(), "foreign bytes") ? 0 : 3;
}

/*
 * MADV_DONTNEED brings back what the file has: the call through the trampoline, which goes
 * where the key says. The next update finds bytes that it does not know.
 */
static int taken_back(void)
{
	if (turn() || site() != 2 || madvise((void *)site, PAGE, MADV_DONTNEED) || site() != 2)
		return 1;
	return turn() == -EBUSY && strstr(shunt_last_error(), "foreign bytes") && site() == 2 ? 0
											      : 2;
}

/* SHUNT_WRITE=mem opens no page for writing, by atomic neither. Control: any other value does. */
static void atomic_and_mem(void)
{
	const char *write = getenv("SHUNT_WRITE");
	bool mem = write && !strcmp(write, "mem");
	struct shunt_ways ways;
	int ret;

	set(SHUNT_POKE_ATOMIC);
	ret = turn() || !is_right();
	shunt_get_ways(&ways);
	ok(!ret &&
		   !strcmp(ways.poke, !CPU_HAS_TRAPS ? "flip"
				      : mem          ? "int3"
						     : "atomic") &&
		   !strcmp(ways.write, mem ? "/proc/self/mem" : "mprotect"),
	   "atomic with SHUNT_WRITE=%s: %s, %s", write ? write : "", ways.poke, ways.write);
}

int main(void)
{
	static const struct {
		const char *what;
		int (*fn)(void);
		int status;
	} children[] = {
		{"shared memory is refused", refuse_shared, 0},
		{"shared memory is refused, beside a thread", refuse_shared_beside_threads, 0},
		{"control: shared memory that is not known for it", shared_unseen, 42},
		{"a private mapping of a file open for writing", private_works, 0},
		{"without /proc/self/maps", without_maps, 0},
		{"control: the same, all is taken for text of a file", without_maps_unseen, 42},
		{"without the ioctl() that asks what is mapped", without_query, 0},
		{"control: the same, all is taken for text of a file", without_query_unseen, 42},
		{"text that is gone is refused", refuse_what_is_gone, 0},
		{"control: text that is gone is read", gone_unseen, 1000 + SIGSEGV},
		{"text whose file has become shorter is refused", refuse_what_is_cut_off, 0},
		{"control: its mapping is asked, not its page", cut_off_unseen, 1000 + SIGBUS},
		{"a page of many that is gone is refused", refuse_what_is_gone_among_many, 0},
		{"control: it is read", gone_among_many_unseen, 1000 + SIGSEGV},
		{"a module's text is gone", refuse_module_gone, 0},
		{"MADV_DONTNEED: the call stays right, the update is refused", taken_back, 0},
		{"a patcher that opens the page and closes it", patched, 0},
		{"control: a JIT's page that is taken for text of a file", jit_unseen, 42},
		{"control: the same by int3, many sites", many_unseen, 42},
		{"control: a writable page that is not known for it", writable_unseen, 42},
		{"int3, atomic: what a tool writes beside many sites that are switched", spared, 0},
		{"control: what is between them is written too", spared_in_runs, 42},
	};

	shunt_set_log(NULL, NULL);
	for (size_t i = 0; i < sizeof(children) / sizeof(children[0]); i++) {
		const char *write = getenv("SHUNT_WRITE");
		int status;

		if (children[i].fn == spared_in_runs && write && !strcmp(write, "mprotect")) {
			skip(children[i].what, "there are no runs by mprotect()");
			continue;
		}
		status = in_child(children[i].fn);
		ok(status == children[i].status, "%s: %d", children[i].what, status);
	}
	start_idle();
	atomic_and_mem();
	protection_stays();
	not_executable();
	jit(1);
	jit(80);
	return behind() == 7 ? tap_done() : 2;
}
