/* SPDX-License-Identifier: MIT */
/*
 * The program of test_gdb_entry.py, which sets breakpoints on the entries of functions: step one
 * before tracing begins, step two while it is on. Its answers are in what it prints.
 */
#include <stdio.h>
#include <string.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>

#define TRACED __attribute__((noinline, patchable_function_entry(5)))

int broken(int x), other(int x);
void step(int number);

static unsigned long calls;
static const char *why;

TRACED int broken(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

TRACED int other(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 2;
}

/* gdb stops here. */
__attribute__((noinline)) void step(int number)
{
	__asm__ volatile("" : : "r"(number) : "memory");
}

static void count(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
		  struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent;
	(void)ops;
	(void)regs;
	calls++;
}

static int look(const struct shunt_function_info *info, void *arg)
{
	(void)arg;
	if (info->name && !strcmp(info->name, "broken"))
		why = info->why ? "refused" : info->nr_ops ? "traced" : "off";
	return 0;
}

static void say(const char *when)
{
	int results;

	calls = 0;
	results = broken(1) * 10 + other(1);
	why = "not listed";
	(void)shunt_for_each_function(look, NULL);
	printf("%s: results %d, calls %lu, broken() is %s\n", when, results, calls, why);
	(void)fflush(stdout);
}

int main(void)
{
	static struct ftrace_ops ops = {.func = count};

	step(1);
	printf("register %d\n", ftrace_set_filter(&ops, "broken", 0, 1) |
					ftrace_set_filter(&ops, "other", 0, 0) |
					register_ftrace_function(&ops));
	say("on");
	step(2);
	say("again");
	printf("unregister %d\n", unregister_ftrace_function(&ops));
	say("off");
	step(3);
	printf("register %d\n", register_ftrace_function(&ops));
	say("on again");
	printf("unregister %d\n", unregister_ftrace_function(&ops));
	return 0;
}
