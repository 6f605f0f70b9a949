/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into programs that nobody here wrote (script/real-programs): traces all that can be
 * traced in them, entries and returns, throughout or on and off.
 *
 *	REAL_TRACE   "on": from main() to the end; "N": on and off N times a second
 *	REAL_COUNTS  a file to which each process appends what it has seen
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>

/* A line for each, so that threads count without much waiting for each other. */
static struct {
	_Alignas(64) _Atomic unsigned long n;
} entries[64], returns[64];
static _Atomic unsigned long switches, failures;
static unsigned rate;

static unsigned long line_of(unsigned long sp)
{
	return sp >> 16 & 63;
}

static SHUNT_GENERAL_REGS int on_entry(struct ftrace_graph_ent *trace, struct fgraph_ops *gops,
				       struct ftrace_regs *fregs)
{
	(void)trace, (void)gops, (void)fregs;
	entries[line_of((unsigned long)__builtin_frame_address(0))].n++;
	return 1;
}

static SHUNT_GENERAL_REGS void on_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
					 struct ftrace_regs *fregs)
{
	(void)trace, (void)gops, (void)fregs;
	returns[line_of((unsigned long)__builtin_frame_address(0))].n++;
}

static struct fgraph_ops gops = {
	.entryfunc = on_entry, .retfunc = on_return, .ops = {.flags = SHUNT_FTRACE_GENERAL_REGS}};

static void failed(const char *what, int error)
{
	char line[256];
	int n = snprintf(line, sizeof(line), "tracer: %s: %d: %s\n", what, error,
			 shunt_last_error());

	failures++;
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		_exit(99);
}

static void *toggle(void *arg)
{
	struct timespec half = {0, 500000000L / (long)rate};
	bool on = false;

	for (;; nanosleep(&half, NULL)) {
		int ret = on ? unregister_ftrace_graph(&gops) : register_ftrace_graph(&gops);

		if (ret)
			failed(on ? "off" : "on", ret);
		else
			on = !on;
		switches++;
	}
	return arg;
}

static void start_thread(void)
{
	pthread_t thread;
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&thread, NULL, toggle, NULL))
		failed("pthread_create", 0);
	else
		pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

__attribute__((constructor)) static void start(void)
{
	const char *how = getenv("REAL_TRACE");
	int ret;

	if (!how)
		return;
	rate = (unsigned)atoi(how);
	if (rate) {
		start_thread();
		return;
	}
	ret = register_ftrace_graph(&gops);
	if (ret)
		failed("register", ret);
}

__attribute__((destructor)) static void end(void)
{
	const char *path = getenv("REAL_COUNTS");
	unsigned long in = 0, out = 0;
	char line[128];
	int fd, n;

	for (size_t i = 0; i < 64; i++) {
		in += entries[i].n;
		out += returns[i].n;
	}
	fd = path && in ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
	n = snprintf(line, sizeof(line), "%lu %lu %lu %lu\n", in, out, switches, failures);
	if (fd >= 0) {
		if (write(fd, line, (size_t)n) != n)
			failed("write", 0);
		close(fd);
	}
}
