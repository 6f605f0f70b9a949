/* SPDX-License-Identifier: MIT */
/*
 * Operations of the library's interface, for test_refused_calls.c. Each returns what the library
 * has; is_wrong: that is not what has become of it.
 */
#ifndef SHUNT_TESTS_REFUSED_OPERATIONS_H
#define SHUNT_TESTS_REFUSED_OPERATIONS_H

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include <shunt/control.h>
#include <shunt/ftrace.h>
#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "../api/tap.h"
#include "../common/one_two.h"
#include "../common/site_code.h"

DEFINE_STATIC_CALL(call, one);
DEFINE_STATIC_KEY_FALSE(key);

KEEP static int site(void)
{
	return static_call(call)() + 0;
}

KEEP static int branch(void)
{
	return static_branch_unlikely(&key) ? 10 : 0;
}

KEEP __attribute__((patchable_function_entry(5))) static void traced(void)
{
	__asm__ volatile("");
}

static bool is_wrong;

static int update(void)
{
	int (*to)(void) = static_call_query(call) == one ? two : one;
	int was = site(), ret = static_call_update(call, to);

	is_wrong = site() != (ret ? was : to());
	return ret;
}

static int flip(void)
{
	bool on = !static_key_count(&key);
	int ret = on ? static_branch_enable(&key) : static_branch_disable(&key);

	is_wrong = (branch() != 0) != (ret ? !on : on);
	return ret;
}

static int update_by_remap(void)
{
	int ret = shunt_set_poke(SHUNT_POKE_REMAP);

	return ret ? ret : update();
}

/* To a function that is out of reach of a direct call, in another module. */
static int update_far(void)
{
	int (*to)(void) = static_call_query(call) == getpagesize ? one : getpagesize;
	int was = site(), ret = static_call_update(call, to);

	is_wrong = site() != (ret ? was : to());
	return ret;
}

/* By the name that only its file tells. */
static int set_function(void)
{
	const struct shunt_setting setting = {"call", "one"};
	int ret = static_call_query(call) == one ? static_call_update(call, two) : 0;

	if (ret)
		return ret;
	ret = shunt_set_keys(&setting, 1);
	is_wrong = site() != (ret ? 2 : 1);
	return ret;
}

static int set_by_name(void)
{
	const bool on = !static_key_count(&key);
	const struct shunt_setting setting = {"key", on ? "on" : "off"};
	int ret = shunt_set_keys(&setting, 1);

	is_wrong = (branch() != 0) != (ret ? !on : on);
	return ret;
}

static uint8_t *poked;
static const uint8_t off[SITE_LEN] = SITE_NOP, on[SITE_LEN] = SITE_JMP(8);

static int poke(void)
{
	const bool is = !memcmp(poked, on, SITE_LEN);
	int ret = text_poke_bp(poked, is ? off : on, SITE_LEN, NULL);

	is_wrong = memcmp(poked, (ret == 0) == is ? off : on, SITE_LEN) != 0;
	return ret;
}

static const char *plugin;
static bool is_loader; /* what failed is the dynamic linker's */

static int load(void)
{
	void *handle = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
	int (*plugin_call)(void), (*plugin_update)(int);
	void *symbols[2];
	int ret;

	if (!handle) {
		is_loader = true;
		return 0;
	}
	symbols[0] = dlsym(handle, "plugin_call");
	symbols[1] = dlsym(handle, "plugin_update");
	memcpy(&plugin_call, &symbols[0], sizeof(plugin_call));
	memcpy(&plugin_update, &symbols[1], sizeof(plugin_update));
	ret = plugin_update(1);
	is_wrong = plugin_call() != (ret ? 100 : 101);
	(void)dlclose(handle);
	return ret;
}

static unsigned long hits;

static void hit(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
		struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent;
	(void)ops;
	(void)regs;
	hits++;
}

static struct ftrace_ops ops = {.func = hit};

static int filter(void)
{
	return ftrace_set_filter(&ops, "traced", 0, 1);
}

static int trace(void)
{
	unsigned long before = hits;
	int ret = ops.__state ? 0 : filter();

	ret = ret ? ret : register_ftrace_function(&ops);
	traced();
	is_wrong = hits - before != (ret == 0);
	if (ret)
		return ret;
	ret = unregister_ftrace_function(&ops);
	before = hits;
	traced();
	is_wrong = is_wrong || hits - before != (ret != 0);
	return ret;
}

static int hit_return_entry(struct ftrace_graph_ent *trace_, struct fgraph_ops *gops,
			    struct ftrace_regs *regs)
{
	(void)trace_;
	(void)gops;
	(void)regs;
	return 1;
}

static void hit_return(struct ftrace_graph_ret *trace_, struct fgraph_ops *gops,
		       struct ftrace_regs *regs)
{
	(void)trace_;
	(void)gops;
	(void)regs;
	hits++;
}

static struct fgraph_ops graph = {.entryfunc = hit_return_entry, .retfunc = hit_return};

static int trace_returns(void)
{
	unsigned long before = hits;
	int ret = graph.ops.__state ? 0 : ftrace_set_filter(&graph.ops, "traced", 0, 1);

	ret = ret ? ret : register_ftrace_graph(&graph);
	traced();
	is_wrong = hits - before != (ret == 0);
	if (ret)
		return ret;
	ret = unregister_ftrace_graph(&graph);
	before = hits;
	traced();
	is_wrong = is_wrong || hits - before != (ret != 0);
	return ret;
}

static unsigned long seen;
static const char *refused = "none";
static bool is_refused_at_start;

static int see_function(const struct shunt_function_info *info, void *arg)
{
	(void)arg;
	seen += info->name && !strcmp(info->name, "traced");
	/* Of a file that cannot be read the reason, and the call. */
	seen += !info->name && info->why && strstr(info->why, refused) &&
		strstr(info->module, "refused_calls");
	return 0;
}

static int list_functions(void)
{
	int ret;

	seen = 0;
	ret = shunt_for_each_function(see_function, NULL);
	is_wrong = !ret && seen != 1;
	return ret;
}

static int see_site(const struct shunt_site_info *info, void *arg)
{
	(void)info;
	(void)arg;
	seen++;
	return 0;
}

static int see_key(const struct shunt_key_info *info, void *arg)
{
	(void)info;
	(void)arg;
	seen++;
	return 0;
}

static int list_sites(void)
{
	int ret;

	seen = 0;
	ret = shunt_for_each_site(NULL, see_site, NULL);
	/* Of a file that could not be read when the program started there are none: told then. */
	is_wrong = !ret && seen < 2 && !is_refused_at_start;
	return ret;
}

static int list_keys(void)
{
	int ret;

	seen = 0;
	ret = shunt_for_each_key(see_key, NULL);
	is_wrong = !ret && seen != 2;
	return ret;
}

static const struct operation {
	const char *name;
	int (*run)(void);
} operations[] = {
	{"static_call_update()", update},
	{"static_branch_enable()", flip},
	{"shunt_set_keys()", set_by_name},
	{"shunt_set_keys(), a function", set_function},
	{"static_call_update(), far", update_far},
	{"static_call_update(), remap", update_by_remap},
	{"text_poke_bp()", poke},
	{"a plugin's update", load},
	{"ftrace_set_filter()", filter},
	{"register_ftrace_function()", trace},
	{"register_ftrace_graph()", trace_returns},
	{"shunt_for_each_function()", list_functions},
	{"shunt_for_each_site()", list_sites},
	{"shunt_for_each_key()", list_keys},
	{"shunt_selftest()", shunt_selftest},
};

#define OPERATIONS (sizeof(operations) / sizeof(operations[0]))

#endif
