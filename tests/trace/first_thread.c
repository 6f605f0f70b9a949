/* SPDX-License-Identifier: MIT */
/*
 * main() has ended by pthread_exit(), and other threads run: /proc/self has no memory and no file
 * of the program any more. Functions are traced all the same, also when the thread that opened
 * what is kept open has ended, too, and in a child of fork().
 *
 * Control: SHUNT_CONTROL=unnoticed: that it has ended is not noticed, and what cannot be read is
 * taken for "not mapped", where it would be found by trial.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <shunt/ftrace.h>

#include "linux/base/first_thread.h"
#include "linux/text/proc_maps.h"
#include "tap.h"

#define KEEP __attribute__((noinline))

static bool is_unnoticed(void)
{
	const char *control = getenv("SHUNT_CONTROL");

	return control && !strcmp(control, "unnoticed");
}

bool __real_shunt_first_thread_has_ended(void);
bool __wrap_shunt_first_thread_has_ended(void);
bool __wrap_shunt_first_thread_has_ended(void)
{
	return !is_unnoticed() && __real_shunt_first_thread_has_ended();
}

int __real_shunt_maps_find(uintptr_t addr, struct shunt_maps_line *line);
int __wrap_shunt_maps_find(uintptr_t addr, struct shunt_maps_line *line);
int __wrap_shunt_maps_find(uintptr_t addr, struct shunt_maps_line *line)
{
	int ret = __real_shunt_maps_find(addr, line);

	return ret && is_unnoticed() ? -EFAULT : ret;
}

static volatile long calls;

__attribute__((patchable_function_entry(0))) static void
count(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)fregs;
	calls = calls + 1;
}

KEEP int first_traced(int x);
KEEP int first_traced(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

static struct ftrace_ops ops = {.func = count};

static bool trace_once(void)
{
	bool good =
		!ftrace_set_filter(&ops, "first_traced", 0, 1) && !register_ftrace_function(&ops);

	calls = 0;
	good = good && first_traced(1) == 2 && calls == 1;
	return !unregister_ftrace_function(&ops) && good && first_traced(1) == 2 && calls == 1;
}

static char state_of_first(void)
{
	char line[200] = "", *behind;
	FILE *file = fopen("/proc/self/stat", "re");

	if (file && !fgets(line, sizeof(line), file))
		line[0] = '\0';
	if (file)
		(void)fclose(file);
	behind = strrchr(line, ')');
	return (char)(behind ? behind[2] : '?');
}

static void *trace_and_end(void *good)
{
	*(bool *)good = trace_once();
	return NULL;
}

/* By a thread that ends, too. */
static bool trace_elsewhere(void)
{
	pthread_t thread;
	bool good = false;

	return !pthread_create(&thread, NULL, trace_and_end, &good) &&
	       !pthread_join(thread, NULL) && good;
}

static bool trace_in_child(void)
{
	int status = 1;
	pid_t pid = fork();

	if (!pid)
		_exit(trace_once() ? 0 : 1);
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

static bool at_once(void)
{
	return trace_once();
}

static bool by_others(void)
{
	return trace_elsewhere() && trace_once() && trace_elsewhere() && trace_elsewhere();
}

static bool copied(void)
{
	return trace_once() && trace_in_child() && trace_once() && trace_elsewhere() &&
	       trace_in_child();
}

static void *run(void *how)
{
	while (state_of_first() != 'Z')
		(void)usleep(1000);
	_exit((*(bool (**)(void))how)() ? 0 : 1);
}

/* In a process whose first thread begins the one that runs @how, and ends. */
static bool without_first(bool (*how)(void), bool traces_before)
{
	int status = 1;
	pid_t pid = fork();
	pthread_t thread;

	if (!pid) {
		static bool (*is_run)(void);

		is_run = how;
		(void)alarm(60);
		if ((traces_before && !trace_once()) || pthread_create(&thread, NULL, run, &is_run))
			_exit(1);
		pthread_exit(NULL);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

int main(void)
{
	row(without_first(at_once, false), "traced when the first thread has ended");
	row(without_first(by_others, false), "by threads that end, too");
	row(without_first(copied, false), "in children of fork()");
	row(without_first(at_once, true), "traced before, and when the first thread has ended");
	row(without_first(by_others, true), "traced before, by threads that end, too");
	return end_rows();
}
