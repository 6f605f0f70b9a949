/* SPDX-License-Identifier: MIT */
/* Keys whose names, or values, others have too; and those that no choice stands for. PLUGIN: a
 * module with keys of the same names. */
#include <shunt/control.h>
#include <shunt/static_key.h>

#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

static int one(int x)
{
	return x + 1;
}

static int two(int x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(op, one);
STATIC_CALL_CHOICE(op, two);
DEFINE_STATIC_KEY_FALSE(flag);
DEFINE_STATIC_KEY_ARRAY_FALSE(flags, 3);

int call(int x);
int call(int x)
{
	if (static_branch_unlikely(&flag) || static_branch_unlikely(&flags[1]))
		x++;
	return static_call(op)(x) * 2;
}

#ifndef PLUGIN
static int three(int x)
{
	return x + 3;
}

static void hook(void)
{
}

DEFINE_STATIC_CALL(moved, one);
DEFINE_STATIC_CALL(zeroed, one);
DEFINE_STATIC_CALL(clash, one);
DEFINE_STATIC_CALL(both, one);
DEFINE_STATIC_CALL_NULL(null, hook);
DEFINE_STATIC_CALL_RET0(ret0, one);
DEFINE_STATIC_KEY_TRUE(both);
DEFINE_STATIC_KEY_FALSE(counted);
DEFINE_STATIC_KEY_ARRAY_TRUE(single, 1);

#define TEN(text) text text text text text text text text text text

/* The second has the name of the function that clash begins with, and is another. */
static struct shunt_choice more[] = {
	{.key = &STATIC_CALL_KEY(op),
	 .name = TEN("a_name_of_20_letters"),
	 .func = (void (*)(void))one},
	{.key = &STATIC_CALL_KEY(clash), .name = "one", .func = (void (*)(void))two},
};

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!dlopen(argv[i], RTLD_NOW | RTLD_LOCAL)) {
			(void)fprintf(stderr, "%s\n", dlerror());
			return 2;
		}
	shunt_choice_add(&more[0]);
	shunt_choice_add(&more[1]);
	if (static_call_update(moved, three) || static_call_update(zeroed, STATIC_CALL_RET0) ||
	    static_branch_inc(&counted) || static_branch_inc(&counted) ||
	    static_branch_enable(&flags[2]) || shunt_agent_start())
		return 3;
	(void)printf("%d\n", (int)getpid());
	(void)fflush(stdout);
	for (;;)
		(void)pause();
}
#endif
