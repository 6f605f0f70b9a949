/* SPDX-License-Identifier: MIT */
/*
 * Functions of a module that uses Shunt, out of reach of the stubs: the veneers that its entries
 * call by are in a pool as long as libshunt does not know the module, and in its own text
 * afterwards. Traced before its constructors have run, and behind its destructors, which other
 * tracers then change.
 *
 * Control: SHUNT_CONTROL=anew: where an entry's call leads to is found anew each time.
 */
#include <dlfcn.h>
#include <string.h>

#include <shunt/ftrace.h>

#include "core/ftrace.h"
#include "tap.h"

bool __real_shunt_ftrace_batch_begin(void *batch, size_t max);
bool __wrap_shunt_ftrace_batch_begin(void *batch, size_t max);

/* Each change begins with this, with all locks held. */
bool __wrap_shunt_ftrace_batch_begin(void *batch, size_t max)
{
	const char *control = getenv("SHUNT_CONTROL");

	if (control && !strcmp(control, "anew"))
		for (struct shunt_entries *s = shunt_entries_first(); s; s = s->next)
			for (size_t i = 0; i < s->n; i++)
				s->entries[i].to = 0;
	return __real_shunt_ftrace_batch_begin(batch, max);
}

static const char *path;
static long calls, others, returns;
static void (*early)(void), (*late)(void);

void on_early(void);
void on_late(void);

void on_early(void)
{
	if (early)
		early();
}

void on_late(void)
{
	if (late)
		late();
}

static void count(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		  struct ftrace_regs *fregs)
{
	(void)ip;
	(void)parent_ip;
	(void)fregs;
	++*(long *)ops->private;
}

static void count_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
			 struct ftrace_regs *fregs)
{
	(void)trace;
	(void)gops;
	(void)fregs;
	returns++;
}

static struct ftrace_ops before = {.func = count, .private = &calls};
static struct ftrace_ops other = {.func = count, .private = &others};
static struct fgraph_ops graph = {.retfunc = count_return};

static bool call(void *module, long n)
{
	int (*plug)(int) = (int (*)(int))dlsym(module, "registered_plug");

	for (int i = 0; i < n; i++)
		if (!plug || plug(i) != i + 1)
			return false;
	return plug;
}

static bool come_and_go(void)
{
	for (int i = 0; i < 5; i++)
		if (register_ftrace_function(&other) || unregister_ftrace_function(&other))
			return false;
	return true;
}

/* An ops that was there before the module is taken off behind its registration. */
static bool taken_off(void)
{
	void *module;
	bool good;

	if (register_ftrace_function(&before) || !(module = dlopen(path, RTLD_NOW)))
		return false;
	good = call(module, 3) && calls == 3 && !unregister_ftrace_function(&before) &&
	       call(module, 3) && calls == 3;
	return good && !register_ftrace_function(&before) && call(module, 3) && calls == 6 &&
	       !unregister_ftrace_function(&before) && !dlclose(module);
}

/* It stays, and others come and go. */
static bool with_others(void)
{
	void *module;

	if (register_ftrace_function(&before) || !(module = dlopen(path, RTLD_NOW)))
		return false;
	return come_and_go() && call(module, 3) && calls == 3 && !others &&
	       !register_ftrace_function(&other) && call(module, 3) && calls == 6 && others == 3 &&
	       !unregister_ftrace_function(&before) && call(module, 3) && others == 6 &&
	       calls == 6 && !unregister_ftrace_function(&other) && !dlclose(module);
}

static bool returned(void)
{
	void *module;

	if (register_ftrace_graph(&graph) || !(module = dlopen(path, RTLD_NOW)))
		return false;
	return call(module, 3) && returns == 3 && !unregister_ftrace_graph(&graph) &&
	       call(module, 3) && returns == 3 && !dlclose(module);
}

static bool ends_well;

static void register_it(void)
{
	ends_well = !register_ftrace_function(&before);
}

static void unregister_it(void)
{
	ends_well = ends_well && come_and_go() && !unregister_ftrace_function(&before);
}

/* Registered by its own first constructor, unregistered by its last destructor. */
static bool within(void)
{
	void *module;
	bool good;

	early = register_it;
	late = unregister_it;
	module = dlopen(path, RTLD_NOW);
	good = module && ends_well && call(module, 3) && calls == 3;
	return good && !dlclose(module) && ends_well;
}

/* Registered when libshunt knows the module, unregistered when it does not any more. */
static bool behind(void)
{
	void *module = dlopen(path, RTLD_NOW);
	bool good;

	late = unregister_it;
	register_it();
	good = module && ends_well && call(module, 3) && calls == 3;
	return good && !dlclose(module) && ends_well;
}

int main(int argc, char **argv)
{
	void *module;

	if (argc < 2)
		return 2;
	path = argv[1];
	module = dlopen(path, RTLD_NOW); /* a filter must match something */
	if (!module || ftrace_set_filter(&before, "registered_*", 0, 1) ||
	    ftrace_set_filter(&other, "registered_*", 0, 1) ||
	    ftrace_set_filter(&graph.ops, "registered_*", 0, 1) || dlclose(module))
		return 1;
	row_in_child(taken_off, "traced before it is registered, and not afterwards");
	row_in_child(with_others, "traced before it is registered, others come and go");
	row_in_child(returned, "returns, traced before it is registered");
	row_in_child(within, "traced by its constructor, until its last destructor");
	row_in_child(behind, "traced until its last destructor");
	return end_rows();
}
