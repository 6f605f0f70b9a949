/* SPDX-License-Identifier: MIT */
/*
 * Log statements that cost a nop while their level is off, and a hook that every line
 * goes to, which is a nop while nobody listens. Levels and hook change while the
 * program runs, from any thread.
 *
 *	cc loglevel.c $(pkg-config --cflags --libs shunt) && ./a.out
 */
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include <stdio.h>

enum level { QUIET, INFO, DEBUG };

DEFINE_STATIC_KEY_FALSE(log_info);
DEFINE_STATIC_KEY_FALSE(log_debug);

static void to_stdout(const char *level, const char *line)
{
	printf("%s: %s\n", level, line);
}

static void to_alarm(const char *level, const char *line)
{
	printf("(%s) %s!\n", level, line);
}

DEFINE_STATIC_CALL_NULL(log_hook, to_stdout);

#define info(line)                                                \
	do {                                                      \
		if (static_branch_unlikely(&log_info))            \
			static_call_cond(log_hook)("info", line); \
	} while (0)
#define debug(line)                                                \
	do {                                                       \
		if (static_branch_unlikely(&log_debug))            \
			static_call_cond(log_hook)("debug", line); \
	} while (0)

/* Both keys in one go: no thread sees debug without info for longer than the update. */
static int set_level(enum level level)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	int err = level >= INFO ? static_branch_batch_enable(&batch, &log_info)
				: static_branch_batch_disable(&batch, &log_info);

	if (!err)
		err = level >= DEBUG ? static_branch_batch_enable(&batch, &log_debug)
				     : static_branch_batch_disable(&batch, &log_debug);
	if (!err)
		err = static_call_batch_commit(&batch);
	static_call_batch_destroy(&batch);
	return err;
}

static void serve(int request)
{
	printf("request %d\n", request);
	info("a request");
	debug("all its details");
}

int main(void)
{
	serve(1); /* silent: the level is off */
	if (set_level(DEBUG))
		return 1;
	serve(2); /* silent: nobody listens */
	if (static_call_update(log_hook, to_stdout))
		return 1;
	serve(3);
	if (set_level(INFO) || static_call_update(log_hook, to_alarm))
		return 1;
	serve(4);
	if (set_level(QUIET) || static_call_update(log_hook, NULL))
		return 1;
	serve(5);
	return 0;
}
