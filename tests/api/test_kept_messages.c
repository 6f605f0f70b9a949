/* SPDX-License-Identifier: MIT */
/*
 * Messages from before main(): of a program whose static calls are not known (it is linked without
 * --emit-relocs), of variables of the environment that are none of their values, of the self-test.
 * The first function of shunt_set_log() is given them, once, also where SHUNT_LOG=0.
 *
 * Control: linked with a library that keeps no message (-DCONTROL): none comes.
 */
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "tap.h"

static int one(void)
{
	return 1;
}

DEFINE_STATIC_CALL(key, one);

#ifdef CONTROL
void __wrap_shunt_note(const char *message);
void __wrap_shunt_note(const char *message)
{
	(void)message;
}
void __wrap_shunt_message(const char *format, ...);
void __wrap_shunt_message(const char *format, ...)
{
	(void)format;
}
#endif

enum { MAX = 16 };
static char messages[MAX][512];
static int nr_messages;

static void keep(const char *message, void *arg)
{
	(void)arg;
	if (nr_messages < MAX)
		strncpy(messages[nr_messages++], message, sizeof(messages[0]) - 1);
}

static int other_calls;

static void count(const char *message, void *arg)
{
	(void)message;
	(void)arg;
	other_calls++;
}

/* How many messages have both words. */
static int with(const char *word, const char *other)
{
	int n = 0;

	for (int i = 0; i < nr_messages; i++)
		n += strstr(messages[i], word) && strstr(messages[i], other);
	return n;
}

int main(void)
{
	shunt_set_log(keep, NULL);
#ifdef CONTROL
	ok(nr_messages == 0, "no message where none is kept");
	return tap_done();
#endif
	ok(with("kept_messages", "-Wl,--emit-relocs") == 1,
	   "the program's sites are not known: one message says what to do");
	ok(with("SHUNT_POKE=interrupt", "auto, int3, remap or atomic") == 1,
	   "SHUNT_POKE: one message with the words that are allowed");
	ok(with("SHUNT_SYNC=none", "membarrier or signal") == 1, "SHUNT_SYNC");
	ok(with("SHUNT_WRITE=yes", "mem or mprotect") == 1, "SHUNT_WRITE");
	ok(with("SHUNT_SELFTEST=yes", "0 or 1") == 1 || with("self-test: ", "works: flip") == 1,
	   "SHUNT_SELFTEST: the words, or which ways it has tried");
	for (int i = 0; i < nr_messages; i++)
		printf("# %s\n", messages[i]);
	shunt_set_log(count, NULL);
	ok(other_calls == 0, "the second function is given none of them");
	return tap_done();
}
