/* SPDX-License-Identifier: MIT */
/*
 * Text with PROT_BTI, where a br or blr may only lead to a landing pad, has it while its pages are
 * open for writing (SHUNT_WRITE=mprotect), afterwards, in a copy of the process that is made
 * meanwhile, and behind a remap; and other text is not given it, which would kill whoever calls it.
 * Pages of both kinds in one batch; with a list of mappings to ask (/proc/self/smaps), and without:
 * then a plugin has what its note says. It is seen in smaps, and by a call that must die of SIGILL.
 *
 * Controls: no text is taken to have it, as where /proc/self/maps is believed, which does not show
 * it; and all text is (shunt_area_ask_prot_cpu()).
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/text_poke.h>

#include "../common/child.h"
#include "../common/filter.h"
#include "../common/remap_first.h"
#include "../common/site_code.h"
#include "linux/text/area_prot.h"

#include "../api/tap.h"

#define BTI  0x10 /* PROT_BTI */
#define PAGE ((size_t)sysconf(_SC_PAGESIZE))

static const uint8_t nop[SITE_LEN] = SITE_NOP, jmp[SITE_LEN] = SITE_JMP(12);

/* A landing pad, a site, and what returns 1 and 2. */
static const uint32_t code[] = {0xd503245f, 0xd503201f, 0x52800020,
				0xd65f03c0, 0x52800040, 0xd65f03c0};

/* --------------------------------------------------------- what is taken out, or seen */

/* @taken is @control from the first update of a case on: a plugin's sites are written when it is
 * loaded. */
static enum { RIGHT, NONE_HAS_IT, ALL_HAVE_IT } taken, control;

int __real_shunt_area_ask_prot_cpu(uintptr_t addr, struct shunt_range *range);
int __wrap_shunt_area_ask_prot_cpu(uintptr_t addr, struct shunt_range *range);
int __real_mprotect(void *addr, size_t len, int prot);
int __wrap_mprotect(void *addr, size_t len, int prot);

int __wrap_shunt_area_ask_prot_cpu(uintptr_t addr, struct shunt_range *range)
{
	return taken == NONE_HAS_IT   ? 0
	       : taken == ALL_HAVE_IT ? SHUNT_PROT_CPU
				      : __real_shunt_area_ask_prot_cpu(addr, range);
}

int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	return begin_remap_first(n, flips, tried);
}

/* The texts of a case, and which of them have it. */
static struct {
	uint8_t *at;
	bool has_it;
} texts[4];
static size_t nr_texts;

static unsigned opened, wrong; /* calls that open a text; that give it another protection */
static void (*when_open)(void);

int __wrap_mprotect(void *addr, size_t len, int prot)
{
	int ret = __real_mprotect(addr, len, prot);

	for (size_t i = 0; i < nr_texts; i++)
		if ((uintptr_t)texts[i].at - (uintptr_t)addr < len) {
			opened += (prot & PROT_WRITE) != 0;
			wrong += !(prot & BTI) == texts[i].has_it;
		}
	if (prot & PROT_WRITE && when_open)
		when_open();
	return ret;
}

/* ------------------------------------------------------------------ what text has */

static FILE *smaps;

static void open_smaps(void)
{
	smaps = fopen("/proc/self/smaps", "re");
	if (!smaps)
		abort();
}

static bool is_listed_with_it(uintptr_t addr)
{
	unsigned long start, end;
	char line[4352], prot[5];
	bool found = false;

	rewind(smaps);
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx %4s", &start, &end, prot) == 3)
			found = addr - start < end - start;
		else if (found && !strncmp(line, "VmFlags:", 8))
			return strstr(line, " bt") != NULL;
	}
	abort();
}

static uint8_t *called;

static int call(void)
{
	int (*fn)(void);

	memcpy(&fn, &called, sizeof(fn));
	return fn();
}

/* What goes through its landing pad gives @value; what goes past it arrives, or dies. */
static bool is_right(size_t i, int value)
{
	bool has_it = texts[i].has_it;

	called = texts[i].at;
	if (is_listed_with_it((uintptr_t)called) != has_it || in_child(call) != value)
		return false;
	called += sizeof(code[0]);
	return in_child(call) == (has_it ? 1000 + SIGILL : value);
}

static bool are_right(int value)
{
	for (size_t i = 0; i < nr_texts; i++)
		if (!is_right(i, value))
			return false;
	return true;
}

static int poke_all(const uint8_t *insn)
{
	struct text_poke batch[4];

	for (size_t i = 0; i < nr_texts; i++)
		batch[i] = (struct text_poke){
			.addr = texts[i].at + sizeof(code[0]), .insn = insn, .len = SITE_LEN};
	return text_poke_bp_batch(batch, nr_texts);
}

/* Memory of no file, page by page with it and without; the kernel keeps a mapping of each. */
static void add_pages(void)
{
	uint8_t *p =
		mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	for (size_t i = 0; i < 3; i++) {
		bool has_it = i != 1;

		write_code(p + i * PAGE, code, sizeof(code));
		if (__real_mprotect(p + i * PAGE, PAGE, PROT_READ | PROT_EXEC | (has_it ? BTI : 0)))
			abort();
		texts[nr_texts].at = p + i * PAGE;
		texts[nr_texts++].has_it = has_it;
	}
}

static char **plugins; /* with a note; with a note and a key; with neither */

static void add_plugin(size_t i)
{
	void *plugin = dlopen(plugins[i], RTLD_NOW);

	texts[nr_texts].at = plugin ? dlsym(plugin, "plugin_text") : NULL;
	texts[nr_texts].has_it = i < 2;
	if (!texts[nr_texts++].at) {
		fprintf(stderr, "%s\n", dlerror());
		abort();
	}
}

/* --------------------------------------------------------------------------- cases */

enum { GOOD, NOT_READY = 2, FAILS, NOT_OPENED, WRONG_WHILE_OPEN, WRONG_BEHIND, WRONG_IN_COPY };

static int update(bool by_opening)
{
	if (!are_right(1))
		return NOT_READY;
	taken = control;
	for (int i = 0; i < 2; i++) {
		opened = wrong = 0;
		if (poke_all(i ? nop : jmp))
			return FAILS;
		if (by_opening && opened < nr_texts)
			return NOT_OPENED;
		if (!are_right(i ? 1 : 2))
			return WRONG_BEHIND;
		if (wrong)
			return WRONG_WHILE_OPEN;
	}
	return GOOD;
}

static int pages(void)
{
	add_pages();
	return update(true);
}

static int in_plugins(void)
{
	for (size_t i = 0; i < 3; i++)
		add_plugin(i);
	return update(true);
}

/* No descriptor is to be had, and a filter is in force: of pages of no object it cannot be known.
 */
static int in_plugins_without_list(void)
{
	for (size_t i = 0; i < 3; i++)
		add_plugin(i);
	return answer_syscall(SYS_openat, EPERM) ? update(true) : NOT_READY;
}

static int pages_without_list(void)
{
	add_pages();
	texts[0] = texts[1]; /* the one that has it not, and must not be given it */
	nr_texts = 1;
	return answer_syscall(SYS_openat, EPERM) ? update(true) : NOT_READY;
}

static int by_remap(void)
{
	for (size_t i = 0; i < 3; i++)
		add_plugin(i);
	return shunt_set_poke(SHUNT_POKE_REMAP) ? NOT_READY : update(false);
}

static int status_of_copy = -1;

static void *make_copy(void *arg)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!pid) {
		open_smaps();
		_exit(poke_all(nop) || !are_right(1) ? WRONG_IN_COPY : GOOD);
	}
	status_of_copy = child_status(pid);
	return arg;
}

/* By another thread: for this one it would be an update within an update. */
static void copy_once(void)
{
	pthread_t thread;

	when_open = NULL;
	if (pthread_create(&thread, NULL, make_copy, NULL) || pthread_join(thread, NULL))
		abort();
}

static int copied_while_open(void)
{
	add_pages();
	if (!are_right(1))
		return NOT_READY;
	taken = control;
	when_open = copy_once;
	if (poke_all(jmp) || status_of_copy < 0)
		return FAILS;
	if (status_of_copy)
		return status_of_copy;
	return are_right(2) ? GOOD : WRONG_BEHIND;
}

/* ----------------------------------------------------------------------------- */

static int (*chosen)(void);

static int run_chosen(void)
{
	(void)alarm(60);
	open_smaps();
	return chosen();
}

static void test(const char *name, int (*fn)(void), bool some_have_it)
{
	int status;

	chosen = fn;
	status = in_child(run_chosen);
	ok(!status, "%s: %d", name, status);
	if (some_have_it) {
		control = NONE_HAS_IT;
		status = in_child(run_chosen);
		ok(status > NOT_OPENED && status < 1000,
		   "control: %s, none is taken to have it: %d", name, status);
	}
	control = ALL_HAVE_IT;
	status = in_child(run_chosen);
	ok(status > NOT_OPENED && status < 1000, "control: %s, all are taken to have it: %d", name,
	   status);
	control = RIGHT;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	plugins = argv + 1;
	shunt_set_log(NULL, NULL);
	if (!(getauxval(AT_HWCAP2) >> 17 & 1)) {
		skip("text with PROT_BTI", "no BTI on this CPU");
		return tap_done();
	}
	test("pages of both kinds", pages, true);
	test("plugins", in_plugins, true);
	test("plugins, without /proc", in_plugins_without_list, true);
	test("pages, without /proc", pages_without_list, false);
	test("plugins, by remap", by_remap, true);
	test("a copy of the process", copied_while_open, true);
	return tap_done();
}
