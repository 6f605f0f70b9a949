/* SPDX-License-Identifier: MIT */
/* Plugins with a libshunt of their own (plugin_copy.c), as plugin_copies.c and several_copies.c
 * load them. */
#ifndef TESTS_TRACE_PLUGIN_COPIES_H
#define TESTS_TRACE_PLUGIN_COPIES_H

#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

static const char *path, *second_path, *dependent, *module;

static inline bool is_control(const char *name)
{
	const char *control = getenv("SHUNT_CONTROL");

	return control && !strcmp(control, name);
}

struct copy {
	void *handle;
	int (*filter)(const char *), (*on)(const char *), (*off)(void);
	int (*graph_on)(const char *), (*graph_off)(void), (*list)(void), (*restore)(void);
	long (*calls)(void);
	const char *(*error)(void);
	void (*log)(void (*)(const char *, void *)), (*at_end)(void (*)(void));
};

static inline void find(void *handle, const char *name, void *function)
{
	void *symbol = dlsym(handle, name);

	if (!symbol)
		_exit(2);
	memcpy(function, &symbol, sizeof(symbol));
}

static inline struct copy load_in(Lmid_t space, const char *file)
{
	struct copy c = {.handle = dlmopen(space, file, RTLD_NOW | RTLD_LOCAL)};

	if (!c.handle)
		_exit(3);
	find(c.handle, "copy_filter", &c.filter);
	find(c.handle, "copy_on", &c.on);
	find(c.handle, "copy_off", &c.off);
	find(c.handle, "copy_graph_on", &c.graph_on);
	find(c.handle, "copy_graph_off", &c.graph_off);
	find(c.handle, "copy_list", &c.list);
	find(c.handle, "copy_restore", &c.restore);
	find(c.handle, "copy_calls", &c.calls);
	find(c.handle, "copy_error", &c.error);
	find(c.handle, "copy_log", &c.log);
	find(c.handle, "copy_at_end", &c.at_end);
	return c;
}

static inline struct copy load(void)
{
	return load_in(LM_ID_BASE, path);
}

static inline bool is_mapped(const char *file)
{
	void *handle = dlopen(file, RTLD_NOW | RTLD_NOLOAD);

	return handle && !dlclose(handle);
}

/* Something that the dynamic linker tells of. */
static inline bool load_another(void)
{
	void *handle = dlopen(module, RTLD_NOW | RTLD_LOCAL);

	return handle && !dlclose(handle);
}

static inline bool stays(const struct copy *c)
{
	return !dlclose(c->handle) && is_mapped(path) && load_another();
}

static inline bool traced_in_namespace(struct copy *c)
{
	void *handle;
	Lmid_t space;
	int (*plug)(int);
	bool good;

	if (dlinfo(c->handle, RTLD_DI_LMID, &space) || c->on(NULL))
		return false;
	handle = dlmopen(space, module, RTLD_NOW);
	if (!handle)
		return false;
	find(handle, "plug", &plug);
	(void)c->calls();
	good = plug(1) == 2 && c->calls() == 1;
	return good && !c->off() && !dlclose(handle);
}

/* PLUGIN SECOND DEPENDENT MODULE UNPINNED */
static inline void take_arguments(int argc, char **argv)
{
	if (argc < 6)
		exit(2);
	path = is_control("unpinned") ? argv[5] : argv[1];
	second_path = argv[2];
	dependent = argv[3];
	module = argv[4];
}

#endif
