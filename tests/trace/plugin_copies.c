/* SPDX-License-Identifier: MIT */
/*
 * Plugins that trace by a libshunt of their own (plugin_copy.c): they stay mapped, whatever calls
 * of theirs were first, since their code is led to by the dynamic linker's text, by entries and by
 * return stubs on stacks.
 *
 *	trace_plugin_copies PLUGIN SECOND DEPENDENT MODULE UNPINNED
 *
 * DEPENDENT needs PLUGIN; MODULE is modules_plugin.c.
 *
 * Control: SHUNT_CONTROL=unpinned: UNPINNED in the place of PLUGIN, which does not pin itself.
 */
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "plugin_copies.h"

#define TRACED __attribute__((noinline, patchable_function_entry(5)))

/* The plugins' dlopen(), too. */
static bool refuses;

void *dlopen(const char *file, int flags)
{
	static void *(*real)(const char *, int);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "dlopen");
	return refuses && flags & RTLD_NODELETE ? NULL : real(file, flags);
}

/* ----------------------------------------------------------------- it stays mapped */

static _Atomic int phase;

TRACED int host_function(int x);
TRACED int host_function(int x)
{
	__asm__ volatile("");
	return x + 1;
}

TRACED int host_waits(int x);
TRACED int host_waits(int x)
{
	phase = 1;
	while (phase == 1)
		(void)sched_yield();
	return x + 1;
}

static bool without(void)
{
	struct copy c = load();

	return !dlclose(c.handle) && !is_mapped(path) && load_another();
}

static bool filter_alone(void)
{
	struct copy c = load();

	return !c.filter("host_*") && stays(&c);
}

static bool list_alone(void)
{
	struct copy c = load();

	return !c.list() && stays(&c);
}

static bool again(void)
{
	for (int i = 0; i < 3; i++) {
		struct copy c = load();

		if (c.filter("host_function") || c.on(NULL) || host_function(1) != 2 ||
		    c.calls() != 1 || c.off() || host_function(1) != 2 || c.calls() || !stays(&c))
			return false;
	}
	return true;
}

static bool while_registered(void)
{
	struct copy c = load();
	bool good = !c.filter("host_function") && !c.on(NULL) && stays(&c);

	return good && host_function(1) == 2 && c.calls() == 1;
}

static void *call_host(void *arg)
{
	return host_waits(3) == 4 ? arg : NULL;
}

/* It returns to the plugin's return stub. */
static bool on_a_stack(void)
{
	struct copy c = load();
	pthread_t thread;
	void *good = NULL;

	if (c.graph_on("host_*") || pthread_create(&thread, NULL, call_host, &c))
		return false;
	while (!phase)
		(void)sched_yield();
	if (c.graph_off() || !stays(&c))
		return false;
	phase = 2;
	return !pthread_join(thread, &good) && good;
}

/* What another module needs, which alone is closed. */
static bool needed(void)
{
	void *handle = dlopen(dependent, RTLD_NOW | RTLD_LOCAL);
	struct copy c = load();

	return handle && !c.filter("host_*") && !dlclose(c.handle) && !dlclose(handle) &&
	       !is_mapped(dependent) && is_mapped(path) && load_another();
}

static bool in_namespace(void)
{
	struct copy c = load_in(LM_ID_NEWLM, path);

	return traced_in_namespace(&c) && !dlclose(c.handle) && load_another() && !c.list();
}

/* ---------------------------------------------------------- it cannot, and is told so */

static bool refused(void)
{
	const struct r_debug *debug = &_r_debug;
	unsigned char was[8], is[8];
	struct copy c = load();
	bool good;

	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	memcpy(was, (const void *)debug->r_brk, sizeof(was));
	refuses = true;
	good = c.filter("host_*") == -EAGAIN && strstr(c.error(), "RTLD_NODELETE") &&
	       c.on(NULL) == -EAGAIN && c.list() == -EAGAIN && c.graph_on("host_*") == -EAGAIN;
	refuses = false;
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	memcpy(is, (const void *)debug->r_brk, sizeof(is));
	return good && !memcmp(was, is, sizeof(was)) && !dlclose(c.handle) && !is_mapped(path) &&
	       load_another();
}

/* And then it can be had. */
static bool refused_once(void)
{
	struct copy c = load();
	bool good;

	refuses = true;
	good = c.filter("host_*") == -EAGAIN;
	refuses = false;
	return good && !c.filter("host_function") && !c.on(NULL) && host_function(1) == 2 &&
	       c.calls() == 1 && stays(&c);
}

static struct copy ending;
static int in_destructor = -1;

static void trace_at_end(void)
{
	in_destructor = ending.filter("host_function");
}

/* Where it is unmapped in any case. */
static bool first_in_destructor(void)
{
	ending = load();
	ending.at_end(trace_at_end);
	return !dlclose(ending.handle) && !is_mapped(path) && in_destructor == -EAGAIN &&
	       load_another();
}

/* ------------------------------------------------------------------------------- exit */

static void call_at_exit(void)
{
	host_function(1);
	if (!load_another() || ending.calls() < 1)
		_exit(4);
}

/* The last dlclose() before: its destructors run within exit(), and it is called behind them. */
static bool ends(bool is_closed)
{
	ending = load();
	if (ending.filter("host_function") || ending.on(NULL) || atexit(call_at_exit) ||
	    (is_closed && dlclose(ending.handle)))
		return false;
	exit(0);
}

static bool ends_closed(void)
{
	return ends(true);
}

static bool ends_open(void)
{
	return ends(false);
}

int main(int argc, char **argv)
{
	take_arguments(argc, argv);
	row_in_child(without, "a plugin that has not traced is unmapped");
	row_in_child(filter_alone, "it stays: a filter alone");
	row_in_child(list_alone, "it stays: functions listed alone");
	row_in_child(again, "it stays, and traces again when it is loaded again");
	row_in_child(while_registered, "it stays, and what is registered is called");
	row_in_child(on_a_stack, "it stays: a function returns to its stub");
	row_in_child(needed, "it stays: closed as another module's dependency");
	row_in_child(in_namespace, "it stays in a namespace of its own, and is told there");
	row_in_child(refused, "it cannot stay: nothing is traced or changed");
	row_in_child(refused_once, "it cannot stay once, and then can");
	row_in_child(first_in_destructor, "in its own destructor it is refused");
	row_in_child(ends_closed, "it is called up to the end of exit(), closed");
	row_in_child(ends_open, "it is called up to the end of exit(), not closed");
	return end_rows();
}
