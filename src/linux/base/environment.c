/* SPDX-License-Identifier: MIT */
/*
 * The environment: what each variable may be, and a message where one is something else,
 * which the user would otherwise take for granted.
 */
#include <stdlib.h>
#include <string.h>

#include "linux/base/base.h"
#include "linux/base/environment.h"
#include "linux/base/format.h"

#define MAX_VALUES 4

/* An empty variable counts as one that is not set. */
static const struct variable {
	const char *name;
	const char *values[MAX_VALUES]; /* as many as there are */
} variables[] = {
	[SHUNT_ENV_FRAMES] = {"SHUNT_FRAMES", {"0", "1"}},
	[SHUNT_ENV_LOG] = {"SHUNT_LOG", {"0", "1"}},
	[SHUNT_ENV_POKE] = {"SHUNT_POKE", {"auto", "int3", "remap", "atomic"}},
	[SHUNT_ENV_SELFTEST] = {"SHUNT_SELFTEST", {"0", "1"}},
	[SHUNT_ENV_SYNC] = {"SHUNT_SYNC", {"membarrier", "signal"}},
	[SHUNT_ENV_WRITE] = {"SHUNT_WRITE", {"mem", "mprotect"}},
};
#define VARIABLES (sizeof(variables) / sizeof(variables[0]))

static int index_of(const struct variable *v, const char *value)
{
	for (int i = 0; i < MAX_VALUES && v->values[i]; i++)
		if (!strcmp(value, v->values[i]))
			return i;
	return -1;
}

const char *shunt_environment_name(enum shunt_variable which, int value)
{
	return value >= 0 && value < MAX_VALUES ? variables[which].values[value] : NULL;
}

int shunt_environment_value(enum shunt_variable which)
{
	const char *value = secure_getenv(variables[which].name);

	return value ? index_of(&variables[which], value) : -1;
}

/* As much of @value as fits on a line of @room bytes, without what a terminal would obey. */
static void copy_printable(char *to, size_t room, const char *value)
{
	size_t i = 0;

	for (; i < room - 1 && value[i]; i++)
		to[i] = value[i] > ' ' && value[i] < 0x7f ? value[i] : '?';
	to[i] = '\0';
}

static void complain(const struct variable *v, const char *value)
{
	char text[SHUNT_MESSAGE_MAX] = "", shown[64];
	struct shunt_line line = {text, text + sizeof(text), 0};

	copy_printable(shown, sizeof(shown), value);
	shunt_append(&line, "%s=%s is none of its values, and ignored: %s", v->name, shown,
		     v->values[0]);
	for (int i = 1; i < MAX_VALUES && v->values[i]; i++)
		shunt_append(&line, "%s%s", i + 1 < MAX_VALUES && v->values[i + 1] ? ", " : " or ",
			     v->values[i]);
	shunt_note(text);
}

void shunt_check_environment(void)
{
	static _Atomic bool done;

	if (atomic_load_explicit(&done, memory_order_relaxed) || atomic_exchange(&done, true))
		return;
	for (size_t i = 0; i < VARIABLES; i++) {
		const char *value = secure_getenv(variables[i].name);

		if (value && *value && index_of(&variables[i], value) < 0)
			complain(&variables[i], value);
	}
}
