/* SPDX-License-Identifier: MIT */
/*
 * What stubs may be reading is not freed. A set of entries comes while ops are registered, and a
 * write or a core sync of that change fails, each in turn: where it fails behind the commit, stubs
 * have been shown for a moment which entries the ops are called for. Those bits are freed behind a
 * wait for callbacks, and not before. So are those of ops that are being registered.
 *
 * Control: bits are freed at once.
 */
#include <shunt/inspect.h>

#include "core/ftrace_internal.h"
#include "counting.h"
#include "entries.h"
#include "linux/base/base.h"
#include "made_module.h"
#include "tap.h"

/* nop of 5; ret */
static const uint8_t code[] = {0x0f, 0x1f, 0x44, 0, 0, 0xc3};

enum { N = 3, BITS_MAX = 64 };
static struct shunt_entry many[N];
static char many_names[N * 8];
static struct shunt_entries plugin = {
	.entries = many, .n = N, .module = "plugin.so", .names = many_names};

TRACED unsigned long stays(unsigned long argument);
TRACED unsigned long stays(unsigned long argument)
{
	__asm__ volatile("" : "+r"(argument));
	return argument + 1;
}

/* ------------------------------------------------------------------- what is seen */

static const void *shown[BITS_MAX]; /* to stubs, since the last wait for callbacks */
static unsigned nr_shown, nr_early, nr_late, nr_failed_behind;

static void note_shown(void)
{
	for (const struct shunt_tracer *t = shunt_tracers; t; t = t->next) {
		unsigned i = 0;

		while (i < nr_shown && shown[i] != t->active)
			i++;
		if (t->active && i == nr_shown && i < BITS_MAX)
			shown[nr_shown++] = t->active;
	}
}

void __real_shunt_port_free(void *p, size_t size);
void __wrap_shunt_port_free(void *p, size_t size);
void __wrap_shunt_port_free(void *p, size_t size)
{
	for (unsigned i = 0; i < nr_shown; i++)
		nr_early += shown[i] == p;
	nr_late += !nr_shown;
	__real_shunt_port_free(p, size);
}

/* Behind it no stub reads what is not shown any more. */
int __real_shunt_port_trace_wait(void);
int __wrap_shunt_port_trace_wait(void);
int __wrap_shunt_port_trace_wait(void)
{
	int ret = __real_shunt_port_trace_wait();

	nr_shown = ret ? nr_shown : 0;
	return ret;
}

#ifdef CONTROL
void __wrap_shunt_bits_retire(struct shunt_bits *bits);
void __wrap_shunt_bits_retire(struct shunt_bits *bits)
{
	shunt_bits_free(bits);
}
#endif

/* -------------------------------------------------------------------- what fails */

static int left = -1; /* that go through before one fails; below 0: none fails */
static int fails(void)
{
	unsigned before = nr_shown;

	if (left < 0)
		return 0;
	note_shown();
	if (left--)
		return 0;
	nr_failed_behind += nr_shown > before || nr_shown > 1;
	return -EIO;
}

int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	return fails() ? -EIO : __real_shunt_port_text_write(writes, n);
}

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void)
{
	return fails() ? -EIO : __real_shunt_port_core_sync();
}

/* ------------------------------------------------------------------------ the rows */

static void unload(void)
{
	if (shunt_port_trace_lock("test", &ops))
		return;
	shunt_entries_remove(&plugin);
	shunt_port_trace_unlock();
}

/* Whether it fails with the call number @n; *fewer: there are not so many. */
static bool come(int n, bool *fewer)
{
	bool has_failed;

	left = n;
	has_failed = !load_made(&plugin, many, many_names, NULL, code, sizeof(code));
	*fewer = left >= 0;
	left = -1;
	unload();
	return has_failed;
}

static bool is_kept(unsigned changes)
{
	bool good = !nr_early && nr_failed_behind && changes;

	if (!good)
		fprintf(stderr,
			"# %u changes failed, %u behind their commit; freed too early: %u\n",
			changes, nr_failed_behind, nr_early);
	return good;
}

static bool by_set(void)
{
	bool fewer = false;
	unsigned changes = 0;

	if (shunt_set_poke(SHUNT_POKE_INT3) || add_entries() || register_ftrace_function(&ops) ||
	    stays(1) != 2 || called != 1)
		return false;
	for (int n = 0; !fewer && n < 100; n++) {
		nr_shown = 0;
		changes += come(n, &fewer);
	}
	return is_kept(changes);
}

static bool by_register(void)
{
	bool fewer = false;
	unsigned changes = 0;

	if (shunt_set_poke(SHUNT_POKE_INT3) || add_entries())
		return false;
	for (int n = 0; !fewer && n < 100; n++) {
		bool has_failed;

		nr_shown = 0;
		left = n;
		has_failed = register_ftrace_function(&ops);
		fewer = left >= 0;
		left = -1;
		changes += has_failed;
		if (!has_failed && unregister_ftrace_function(&ops))
			return false;
	}
	return is_kept(changes);
}

/* They are freed some time. */
static bool freed_later(void)
{
	bool fewer = false;

	if (shunt_set_poke(SHUNT_POKE_INT3) || add_entries() || register_ftrace_function(&ops))
		return false;
	for (int n = 0; !fewer && n < 100; n++)
		(void)come(n, &fewer);
	nr_shown = nr_late = 0;
	return !unregister_ftrace_function(&ops) && nr_late > 2;
}

int main(void)
{
	shunt_set_log(NULL, NULL);
	row_in_child(by_set,
		     "bits of a set that comes, the change of which fails behind its commit");
	row_in_child(by_register, "bits of ops the register of which fails behind its commit");
#ifndef CONTROL
	row_in_child(freed_later, "they are freed behind a wait for callbacks");
#else
	(void)freed_later;
#endif
	return end_rows();
}
