/* SPDX-License-Identifier: MIT */
/*
 * What is traced across namespaces (dlmopen()): by the libshunt of a plugin in one of its own the
 * functions of the program, and of modules of any namespace, loaded before and later; and so by the
 * program's. What goes away is forgotten, whoever traces it.
 *
 *	trace_namespaces PLUGIN SECOND DEPENDENT MODULE UNPINNED OWN INSTRUMENTED
 *
 * Control: SHUNT_CONTROL=own: libshunt looks at the modules of its own namespace alone: the
 * program's, and that of OWN in the place of PLUGIN.
 */
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>

#include "../common/filter.h"
#include "plugin_copies.h"

#define TRACED __attribute__((noinline, patchable_function_entry(5)))

TRACED int host_function(int x);
TRACED int host_function(int x)
{
	__asm__ volatile("");
	return x + 1;
}

void __real_shunt_loader_others(void (*fn)(uintptr_t base, const char *name));
void __wrap_shunt_loader_others(void (*fn)(uintptr_t base, const char *name));
void __wrap_shunt_loader_others(void (*fn)(uintptr_t base, const char *name))
{
	if (!is_control("own"))
		__real_shunt_loader_others(fn);
}

/* ----------------------------------------------------------------------- a module */

struct loaded {
	void *handle;
	int (*plug)(int);
};

static struct loaded load_module(Lmid_t space)
{
	struct loaded l = {.handle = dlmopen(space, module, RTLD_NOW)};

	if (!l.handle)
		_exit(4);
	find(l.handle, "plug", &l.plug);
	return l;
}

static Lmid_t space_of(void *handle)
{
	Lmid_t space;

	return dlinfo(handle, RTLD_DI_LMID, &space) ? LM_ID_BASE : space;
}

/* How many of three calls of @l's function @c is called for. */
static long traced(const struct copy *c, const struct loaded *l)
{
	(void)c->calls();
	for (int i = 0; i < 3; i++)
		(void)l->plug(i);
	return c->calls();
}

/* ---------------------------------------------------------------------- a plugin's */

static const char *own_path, *instrumented_path;

static struct copy load_apart(void)
{
	return load_in(LM_ID_NEWLM, is_control("own") ? own_path : path);
}

static bool traces_program(void)
{
	struct copy c = load_apart();

	if (c.filter("host_function") || c.on(NULL) || host_function(1) != 2 || c.calls() != 1)
		return false;
	return !c.off() && host_function(1) == 2 && !c.calls();
}

static bool traces_earlier(void)
{
	struct loaded base = load_module(LM_ID_BASE), third = load_module(LM_ID_NEWLM);
	struct copy c = load_apart();

	return !c.filter("plug") && !c.on(NULL) && traced(&c, &base) == 3 &&
	       traced(&c, &third) == 3 && !c.off() && !traced(&c, &base);
}

static bool traces_later(void)
{
	struct copy c = load_apart();
	const Lmid_t spaces[] = {LM_ID_BASE, LM_ID_NEWLM, space_of(c.handle)};

	if (c.filter("plug*") != -EINVAL || c.on(NULL)) /* none is there; then all are wanted */
		return false;
	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
			struct loaded l = load_module(spaces[i]);

			if (traced(&c, &l) != 3 || dlclose(l.handle))
				return false;
		}
	return !c.off();
}

/* The program's own, which its -finstrument-functions tells. */
static volatile long told;

void __cyg_profile_func_enter(void *func, void *site);
void __cyg_profile_func_enter(void *func, void *site)
{
	(void)func, (void)site;
	told++;
}

static bool leaves_told(void)
{
	void *handle = dlopen(instrumented_path, RTLD_NOW);
	struct copy c = load_apart();
	int (*instrumented)(int);

	find(handle, "instrumented", &instrumented);
	return c.filter("instrumented") == -EINVAL && !c.on(NULL) && instrumented(1) == 2 &&
	       told == 1 && !c.off();
}

/* A filter keeps it from asking the kernel what is mapped. */
static bool traces_filtered(void)
{
	struct copy c = load_apart();
	struct loaded l;

	if (!answer_syscall(SYS_process_vm_readv, EPERM) || c.on(NULL))
		return false;
	l = load_module(LM_ID_BASE);
	return traced(&c, &l) == 3 && host_function(1) == 2 && c.calls() == 1 && !c.off() &&
	       !dlclose(l.handle);
}

/* -------------------------------------------------------------------- the program's */

static long calls;

static void count(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
		  struct ftrace_regs *regs)
{
	(void)ip, (void)parent, (void)ops, (void)regs;
	calls++;
}

static struct ftrace_ops ops = {.func = count};

static long traced_by_program(const struct loaded *l)
{
	calls = 0;
	for (int i = 0; i < 3; i++)
		(void)l->plug(i);
	return calls;
}

static bool program_traces(void)
{
	struct loaded early = load_module(LM_ID_NEWLM), late;

	if (register_ftrace_function(&ops) || traced_by_program(&early) != 3)
		return false;
	for (int round = 0; round < 3; round++) {
		late = load_module(round % 2 ? space_of(early.handle) : LM_ID_NEWLM);
		if (traced_by_program(&late) != 3 || dlclose(late.handle))
			return false;
	}
	return traced_by_program(&early) == 3 && !unregister_ftrace_function(&ops) &&
	       !traced_by_program(&early);
}

/* ------------------------------------------------------------ while modules come and go */

static _Atomic bool over;
static _Atomic unsigned loads;

static void *load_on(void *arg)
{
	while (!over) {
		struct loaded l = load_module(LM_ID_BASE);

		if (l.plug(1) < 2 || dlclose(l.handle))
			return NULL;
		loads++;
	}
	return arg;
}

static bool under_loads(void)
{
	struct copy c = load_apart();
	pthread_t thread;
	void *good = NULL;

	if (pthread_create(&thread, NULL, load_on, &c))
		return false;
	for (int i = 0; i < 60; i++) {
		unsigned before = loads;

		if (c.on(NULL) || c.list() || c.off() || (i % 4 == 3 && c.restore()))
			return false;
		while (loads < before + 2)
			(void)sched_yield();
	}
	over = true;
	return !pthread_join(thread, &good) && good;
}

int main(int argc, char **argv)
{
	take_arguments(argc, argv);
	own_path = argv[argc - 2];
	instrumented_path = argv[argc - 1];
	row_in_child(traces_program, "a plugin's traces the program");
	row_in_child(traces_earlier, "a plugin's traces modules that were there, of any namespace");
	row_in_child(traces_later, "a plugin's traces modules that come later, of any namespace");
	row_in_child(leaves_told, "a plugin's leaves what tells a tracer of the program's own");
	row_in_child(traces_filtered, "a plugin's, where the kernel may not be asked");
	row_in_child(program_traces, "the program's traces modules of any namespace");
	row_in_child(under_loads, "a plugin's, while modules of the program come and go");
	return end_rows();
}
