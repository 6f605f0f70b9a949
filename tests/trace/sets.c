/* SPDX-License-Identifier: MIT */
/*
 * Sets of entries that come and go while ops are registered: code that is mapped, run, unmapped,
 * and mapped again at the same address, beside a program's own that stays. Filters apply to what
 * comes later; an address that was asked for is forgotten with its set. Many entries, and many ops:
 * more than there are slots. What is registered again has what its filter takes by then.
 *
 * Controls: addresses are not forgotten; what a filter takes is not looked up again.
 */
#include <sys/mman.h>

#include <shunt/inspect.h>

#include "counting.h"
#include "entries.h"
#include "made_module.h"
#include "tap.h"

TRACED unsigned long stays(unsigned long argument);
TRACED unsigned long stays(unsigned long argument)
{
	__asm__ volatile("" : "+r"(argument));
	return argument + 1;
}

#if defined(KNOWN_FOR_EVER)
size_t __wrap_shunt_entries_changes(void);
size_t __wrap_shunt_entries_changes(void)
{
	return 0;
}
#elif defined(CONTROL)
void __wrap_shunt_rules_forget(void *rules, const struct shunt_entries *gone);
void __wrap_shunt_rules_forget(void *rules, const struct shunt_entries *gone)
{
	(void)rules;
	(void)gone;
}
#endif

/* ------------------------------------------------------- code that comes and goes */

#define N 1000

/* nop of 5; lea 2(%rdi), %rax; ret */
static const uint8_t code[] = {0x0f, 0x1f, 0x44, 0, 0, 0x48, 0x8d, 0x47, 0x02, 0xc3};

typedef unsigned long (*function)(unsigned long);

static struct shunt_entry many[N];
static char many_names[N * 8];
static struct shunt_entries plugin = {
	.entries = many, .n = N, .module = "plugin.so", .names = many_names};
static uint8_t *text;

/* g0 ... g999, at the same address each time. */
static int load(void)
{
	text = load_made(&plugin, many, many_names, (void *)0x200000000, code, sizeof(code));
	return text ? 0 : -1;
}

static int unload(void)
{
	if (shunt_port_trace_lock("test", &ops))
		return -1;
	shunt_entries_remove(&plugin);
	shunt_port_trace_unlock();
	return munmap(text, N * MADE_EACH);
}

static bool see_own(unsigned long of_program)
{
	called = 0;
	return stays(1) == 2 && called == of_program;
}

static bool see(unsigned long of_plugin, unsigned long of_program)
{
	bool good = true;

	called = 0;
	for (size_t i = 0; i < N; i++) {
		function f;

		memcpy(&f, &many[i].ip, sizeof(f));
		good = good && f(i) == i + 2;
	}
	good = good && called == of_plugin;
	good = good && see_own(of_program);
	if (!good)
		printf("# called %lu\n", called);
	return good;
}

#ifndef CONTROL
static bool comes_and_goes(void)
{
	bool good = !add_entries() && !register_ftrace_function(&ops);

	for (int i = 0; i < 5; i++)
		good = good && !load() && see(N, 1) && !unload() && stays(1) == 2;
	return good && called == 2 && !load() && !unregister_ftrace_function(&ops) && see(0, 0);
}

static bool filtered(void)
{
	bool good = !add_entries() && !load() && !ftrace_set_filter(&ops, "plugin*:g?", 0, 1) &&
		    !register_ftrace_function(&ops) && see(10, 0) && !unload();

	good = good && !load() && see(10, 0) && !unload();
	return good && !load() && !ftrace_set_notrace(&ops, "*5", 0, 0) && see(9, 0) && !unload() &&
	       !load() && see(9, 0) && !ftrace_set_filter(&ops, "test:*", 0, 1) && see(0, 1);
}
#endif

#if defined(KNOWN_FOR_EVER) || !defined(CONTROL)
static bool again(void)
{
	bool good = !add_entries() && !register_ftrace_function(&ops) && see_own(1);

	good = good && !unregister_ftrace_function(&ops) && !load() &&
	       !register_ftrace_function(&ops) && see(N, 1);
	return good && !unregister_ftrace_function(&ops) && see(0, 0) &&
	       !ftrace_set_filter(&ops, "g?", 0, 1) && !register_ftrace_function(&ops) &&
	       see(10, 0) && !unload() && see_own(0);
}
#endif

#ifndef KNOWN_FOR_EVER
static bool forgotten(void)
{
	bool good = !add_entries() && !load() &&
		    !ftrace_set_filter_ip(&ops, (unsigned long)text, 0, 1) &&
		    !ftrace_set_filter_ip(&ops, (unsigned long)stays, 0, 0);

	good = good && !register_ftrace_function(&ops) && see(1, 1) && !unload();
	return good && !load() && see(0, 1) &&
	       !ftrace_set_filter_ip(&ops, (unsigned long)text, 0, 0) && see(1, 1);
}
#endif

#ifndef CONTROL
#define OPS 300

/* Each function is traced by all; then one after the other leaves. */
static bool many_ops(void)
{
	static struct ftrace_ops all[OPS];
	bool good = !add_entries() && !load();

	for (int i = 0; i < OPS && good; i++) {
		all[i].func = count;
		all[i].flags = SHUNT_FTRACE_GENERAL_REGS;
		if (i % 3)
			good = !ftrace_set_filter(&all[i], "g1", 0, 1);
		good = good && !register_ftrace_function(&all[i]);
	}
	good = good && see(OPS + (N - 1) * OPS / 3ul, OPS / 3);
	for (int i = 0; i < OPS && good; i++)
		good = !unregister_ftrace_function(&all[OPS - 1 - i]);
	return good && see(0, 0);
}
#endif

int main(void)
{
#ifdef KNOWN_FOR_EVER
	row_in_child(again, "registered again");
#else
	row_in_child(forgotten, "an address is forgotten with its code");
#endif
#ifndef CONTROL
	row_in_child(again, "registered again");
	row_in_child(comes_and_goes, "code that is loaded and unloaded while it is traced");
	row_in_child(filtered, "filters apply to what is loaded later");
	row_in_child(many_ops, "300 ops");
#endif
	return end_rows();
}
