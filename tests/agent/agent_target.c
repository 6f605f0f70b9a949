/* SPDX-License-Identifier: MIT */
/* A program with keys, choices and an entry to trace, and what else its arguments ask for. */
#include <shunt/control.h>
#include <shunt/static_key.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int plus_one(int x)
{
	return x + 1;
}

static int plus_two(int x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(op, plus_one);
STATIC_CALL_CHOICE(op, plus_one);
STATIC_CALL_CHOICE(op, plus_two);
DEFINE_STATIC_KEY_FALSE(debug);

__attribute__((noinline, noipa, patchable_function_entry(5, 0))) static int traced(int x)
{
	return static_call(op)(x) + static_branch_unlikely(&debug);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int sum = 0;

	if (strcmp(what, "env") && shunt_agent_start())
		return 1;
	if (!strcmp(what, "fork") && fork() < 0)
		return 1;
	if (!strcmp(what, "closed"))
		for (int fd = 3; fd < 1024; fd++)
			(void)close(fd);
	(void)printf("%d\n", (int)getpid());
	(void)fflush(stdout);
	if (!strcmp(what, "idle"))
		for (;;)
			(void)pause();
	for (;;) {
		sum += traced(sum);
		(void)usleep(1000);
	}
}
