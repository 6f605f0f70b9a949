/* SPDX-License-Identifier: MIT */
/*
 * Every function of find_source.c's kind is called and counted: once a call, with the right
 * address, and not at all behind the unregister, after which its text is as it was or as the manual
 * says. kinds.py compiles it in many ways.
 */
#include <stdio.h>
#include <string.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>

#ifdef __clang__
#define QUIET \
	__attribute__((no_instrument_function, patchable_function_entry(0), xray_never_instrument))
#else
#define QUIET __attribute__((no_instrument_function, patchable_function_entry(0)))
#endif
#define KEEP __attribute__((noinline, used))

static volatile int sink;

KEEP static int traced_local(int x)
{
	return x + sink;
}

KEEP int traced_global(int x)
{
	return traced_local(x) * 3;
}

KEEP void traced_tiny(void)
{
	__asm__ volatile("");
}

KEEP int traced_tail(int x)
{
	sink++;
	return traced_global(x + 1);
}

KEEP long double traced_many(int a, int b, int c, int d, int e, int f, int g, long double h)
{
	return h * (a + b + c + d + e + f + g);
}

static struct {
	void *func;
	const char *name;
	int calls, wanted;
} all[] = {
	{(void *)traced_local, "traced_local", 0, 3},
	{(void *)traced_global, "traced_global", 0, 2},
	{(void *)traced_tiny, "traced_tiny", 0, 1},
	{(void *)traced_tail, "traced_tail", 0, 1},
	{(void *)traced_many, "traced_many", 0, 1},
};

#define N (sizeof(all) / sizeof(all[0]))

static int wrong, listed[N], number, failed;

/* The function that @ip is in: the last that starts before it. */
QUIET static void count(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
			struct ftrace_regs *regs)
{
	size_t best = N;

	(void)ops;
	(void)parent;
	for (size_t i = 0; i < N; i++)
		if ((unsigned long)all[i].func <= ip && (best == N || all[i].func > all[best].func))
			best = i;
	if (best == N || ip - (unsigned long)all[best].func > 96 ||
	    ftrace_regs_get_instruction_pointer(regs) != ip)
		wrong++;
	else
		all[best].calls++;
}

static struct ftrace_ops ops = {.func = count};

QUIET static int look(const struct shunt_function_info *info, void *arg)
{
	(void)arg;
	for (size_t i = 0; info->name && i < N; i++)
		if (!strcmp(info->name, all[i].name) && info->addr == all[i].func)
			listed[i] += info->entry && !info->why;
	return 0;
}

QUIET static void result(int good, const char *name)
{
	failed += !good;
	printf("%s %d - %s\n", good ? "ok" : "not ok", ++number, name);
	if (!good)
		printf("# %s\n", shunt_last_error() ? shunt_last_error() : "");
}

QUIET static int run(int wanted)
{
	int good;

	for (size_t i = 0; i < N; i++)
		all[i].calls = 0;
	wrong = sink = 0;
	good = traced_local(1) == 1 && traced_global(1) == 3 && traced_tail(1) == 9 &&
	       traced_many(1, 2, 3, 4, 5, 6, 7, 2.0L) == 56.0L;
	traced_tiny();
	for (size_t i = 0; i < N; i++) {
		if (all[i].calls != (wanted ? all[i].wanted : 0))
			printf("# %s: %d calls\n", all[i].name, all[i].calls);
		good = good && all[i].calls == (wanted ? all[i].wanted : 0);
	}
	return good && !wrong;
}

QUIET int main(void)
{
	int good = 1;

	result(run(0), "not traced yet");
	result(!shunt_for_each_function(look, NULL), "the walk");
	for (size_t i = 0; i < N; i++)
		good = good && listed[i] == 1;
	result(good, "each is listed once");
	result(!ftrace_set_filter(&ops, "traced_*", 0, 1), "the filter");
	for (int i = 0; i < 3; i++) {
		result(!register_ftrace_function(&ops), "registered");
		result(run(1), "each call once");
		result(!unregister_ftrace_function(&ops), "unregistered");
		result(run(0), "none");
	}
	printf("1..%d\n", number);
	return failed != 0;
}
