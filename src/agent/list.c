/* SPDX-License-Identifier: MIT */
/* What is in the process: keys, functions, modules, counters; a line each. */
#include <errno.h>
#include <fnmatch.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <shunt/control.h>
#include <shunt/ftrace.h>
#include <shunt/inspect.h>
#include <shunt/trace.h>

#include "agent/agent.h"
#include "linux/base/dl_list.h"

static void check(struct agent_reply *reply, const char *what, int err)
{
	if (err)
		agent_reply_fail(reply, -err, "%s: %s", what, strerror(-err));
}

/* The program's own file has its name in the kernel alone. */
static const char *path_of(const char *module)
{
	static char own[4096];
	ssize_t n;

	if (!module || (*module && strcmp(module, "/proc/self/exe") != 0))
		return module;
	n = readlink("/proc/self/exe", own, sizeof(own) - 1);
	if (n <= 0) /* the first thread has ended */
		n = readlink("/proc/thread-self/exe", own, sizeof(own) - 1);
	own[n > 0 ? n : 0] = '\0';
	return n > 0 ? own : module;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* ------------------------------------------------------------------------- keys */

enum { WHY_MAX = 400 };

/* key NAME call|branch VALUE SITES INLINE MODULE WHY CHOICE... */
struct choices_of {
	struct agent_reply *reply;
	const struct shunt_key_info *key;
};

static int add_choice(const struct shunt_choice_info *choice, void *arg)
{
	const struct choices_of *of = arg;

	if (!strcmp(choice->key, of->key->name) && choice->module == of->key->module)
		agent_reply_word(of->reply, choice->name);
	return 0;
}

/* What a call is set to, as shunt_set_keys() takes it: a choice may have another name than its
 * symbol, and the symbol may be that of another one. */
struct choice_at {
	const struct shunt_key_info *key;
	struct agent_reply *reply; /* NULL when it has been found */
	bool is_others;            /* the symbol's name is that of a choice */
};

static int add_name_at(const struct shunt_choice_info *choice, void *arg)
{
	struct choice_at *at = arg;

	if (strcmp(choice->key, at->key->name) != 0 || choice->module != at->key->module)
		return 0;
	if (choice->func != at->key->target) {
		at->is_others = at->is_others || (at->key->target_function &&
						  !strcmp(choice->name, at->key->target_function));
		return 0;
	}
	agent_reply_word(at->reply, choice->name);
	at->reply = NULL;
	return 1;
}

/* The name of the choice that it is, or of the function; else "initial", or the address. */
static void add_function_value(struct agent_reply *reply, const struct shunt_key_info *key)
{
	struct choice_at at = {key, reply, false};
	char address[32];

	(void)shunt_for_each_choice(add_name_at, &at);
	if (!at.reply)
		return;
	(void)snprintf(address, sizeof(address), "%p", key->target);
	agent_reply_word(reply, key->target_function && !at.is_others ? key->target_function
				: key->takes & SHUNT_KEY_IS_INITIAL   ? "initial"
								      : address);
}

static void add_value(struct agent_reply *reply, const struct shunt_key_info *key)
{
	char address[32];

	if (key->type == SHUNT_KEY_BRANCH) {
		(void)snprintf(address, sizeof(address), "%d", key->count);
		agent_reply_word(reply, address);
	} else if (!key->target) {
		agent_reply_word(reply, "NULL");
	} else if (key->target == (void *)(uintptr_t)__static_call_return0) {
		agent_reply_word(reply, "RET0");
	} else {
		add_function_value(reply, key);
	}
}

static void add_choices(struct agent_reply *reply, const struct shunt_key_info *key)
{
	struct choices_of of = {reply, key};

	agent_reply_word(reply, "initial");
	if (key->takes & SHUNT_KEY_TAKES_NULL)
		agent_reply_word(reply, "NULL");
	if (key->takes & SHUNT_KEY_TAKES_RET0)
		agent_reply_word(reply, "RET0");
	(void)shunt_for_each_choice(add_choice, &of);
}

/* Of the first call that does not reach its function directly; the text stays for a while. */
static int take_why(const struct shunt_site_info *site, void *arg)
{
	char *why = arg;

	if (!site->why)
		return 0;
	(void)snprintf(why, WHY_MAX, "%s: %s", shunt_site_state_name(site->state), site->why);
	return 1;
}

static void add_why(struct agent_reply *reply, const struct shunt_key_info *key)
{
	char why[WHY_MAX] = "";

	if (!key->why && key->type == SHUNT_KEY_CALL && key->inline_sites < key->sites)
		(void)shunt_for_each_site(key->name, take_why, why);
	agent_reply_word(reply, key->why ? key->why : why);
}

static int add_key(const struct shunt_key_info *key, void *arg)
{
	agent_reply_word(arg, "key");
	agent_reply_word(arg, key->name);
	agent_reply_word(arg, key->type == SHUNT_KEY_CALL ? "call" : "branch");
	add_value(arg, key);
	agent_reply_number(arg, NULL, key->sites);
	agent_reply_number(arg, NULL, key->inline_sites);
	agent_reply_word(arg, path_of(key->module));
	add_why(arg, key);
	if (key->type == SHUNT_KEY_CALL)
		add_choices(arg, key);
	agent_reply_line(arg);
	return 0;
}

void agent_list_keys(struct agent_reply *reply)
{
	check(reply, "the keys", shunt_for_each_key(add_key, reply));
}

/* ---------------------------------------------------------------------- functions */

struct functions {
	struct agent_reply *reply;
	const char *glob; /* NULL: all */
};

static const char *kind_name(enum shunt_entry_kind kind)
{
	static const char *const names[] = {
		[SHUNT_ENTRY_NONE] = "none",
		[SHUNT_ENTRY_PATCHABLE] = "patchable",
		[SHUNT_ENTRY_FENTRY] = "fentry",
		[SHUNT_ENTRY_XRAY] = "xray",
		[SHUNT_ENTRY_INSTRUMENT] = "instrument",
	};

	return kind < sizeof(names) / sizeof(names[0]) && names[kind] ? names[kind] : "unknown";
}

/* As ftrace_set_filter() matches: "GLOB", or "MODULE:GLOB". */
static bool is_matched(const char *glob, const char *module, const char *name)
{
	const char *colon = strchr(glob, ':');
	char of_module[256];

	if (!fnmatch(glob, name, 0))
		return true;
	if (!colon || (size_t)(colon - glob) >= sizeof(of_module))
		return false;
	memcpy(of_module, glob, (size_t)(colon - glob));
	of_module[colon - glob] = '\0';
	return !fnmatch(of_module, base_name(module), 0) && !fnmatch(colon + 1, name, 0);
}

/* function NAME MODULE KIND OPS WHY */
static int add_function(const struct shunt_function_info *f, void *arg)
{
	const struct functions *to = arg;
	const char *module = path_of(f->module);

	if (to->glob && !(f->name && is_matched(to->glob, module ? module : "", f->name)))
		return 0;
	agent_reply_word(to->reply, "function");
	agent_reply_word(to->reply, f->name);
	agent_reply_word(to->reply, module);
	agent_reply_word(to->reply, kind_name(f->kind));
	agent_reply_number(to->reply, NULL, f->nr_ops);
	agent_reply_word(to->reply, f->why);
	agent_reply_line(to->reply);
	return to->reply->error ? -ENOMEM : 0;
}

void agent_list_functions(struct agent_reply *reply, const char *glob)
{
	struct functions to = {reply, glob};

	check(reply, "the functions", shunt_for_each_function(add_function, &to));
}

/* ------------------------------------------------------------------------ modules */

struct module {
	size_t path; /* where in the paths */
	unsigned long long start, functions, traceable, traced, keys;
};

struct modules {
	struct module *all;
	char *paths; /* one behind the other, each with its NUL */
	size_t n, max, paths_size, paths_max;
	bool is_out_of_memory;
};

/* Room for twice as many, where @n of *max of @size are in use and @more are to be. */
static bool make_room(void *array, size_t *max, size_t n, size_t more, size_t size)
{
	size_t wanted = *max ? *max : 64;
	void *old, *larger;

	if (n + more <= *max)
		return true;
	while (wanted < n + more)
		wanted *= 2;
	memcpy(&old, array, sizeof(old));
	larger = agent_resize(old, wanted * size);
	if (!larger)
		return false;
	memcpy(array, &larger, sizeof(larger));
	*max = wanted;
	return true;
}

static struct module *find_module(struct modules *m, const char *path)
{
	size_t size = strlen(path) + 1;

	for (size_t i = m->n; i-- > 0;)
		if (!strcmp(m->paths + m->all[i].path, path))
			return &m->all[i];
	if (!make_room(&m->all, &m->max, m->n, 1, sizeof(*m->all)) ||
	    !make_room(&m->paths, &m->paths_max, m->paths_size, size, 1))
		return NULL;
	memcpy(m->paths + m->paths_size, path, size);
	m->all[m->n] = (struct module){.path = m->paths_size};
	m->paths_size += size;
	return &m->all[m->n++];
}

static int see_loaded(struct dl_phdr_info *info, size_t size, void *arg)
{
	const char *path = path_of(info->dlpi_name && *info->dlpi_name ? info->dlpi_name : "");
	struct modules *m = arg;
	struct module *module = find_module(m, path);

	(void)size;
	if (module)
		module->start = info->dlpi_addr;
	else
		m->is_out_of_memory = true;
	return 0;
}

static int count_function(const struct shunt_function_info *f, void *arg)
{
	struct modules *m = arg;
	struct module *module = find_module(m, f->module ? path_of(f->module) : "");

	if (!module) {
		m->is_out_of_memory = true;
		return 1;
	}
	module->functions++;
	module->traceable += !f->why;
	module->traced += f->nr_ops != 0;
	return 0;
}

static int count_key(const struct shunt_key_info *key, void *arg)
{
	struct modules *m = arg;
	struct module *module = find_module(m, key->module ? path_of(key->module) : "");

	if (module)
		module->keys++;
	else
		m->is_out_of_memory = true;
	return 0;
}

/* module PATH FUNCTIONS TRACEABLE TRACED KEYS */
void agent_list_modules(struct agent_reply *reply)
{
	struct modules m = {0};
	int err;

	(void)shunt_dl_iterate(see_loaded, &m);
	err = shunt_for_each_function(count_function, &m);
	if (!err)
		err = shunt_for_each_key(count_key, &m);
	check(reply, "the modules", m.is_out_of_memory ? -ENOMEM : err);
	for (size_t i = 0; i < m.n; i++) {
		agent_reply_word(reply, "module");
		agent_reply_word(reply, m.paths + m.all[i].path);
		agent_reply_number(reply, NULL, m.all[i].functions);
		agent_reply_number(reply, NULL, m.all[i].traceable);
		agent_reply_number(reply, NULL, m.all[i].traced);
		agent_reply_number(reply, NULL, m.all[i].keys);
		agent_reply_line(reply);
	}
	agent_free(m.all);
	agent_free(m.paths);
}

/* -------------------------------------------------------------------------- stats */

static void add_text(struct agent_reply *reply, const char *name, const char *value)
{
	agent_reply_word(reply, name);
	agent_reply_word(reply, value);
	agent_reply_line(reply);
}

void agent_list_stats(struct agent_reply *reply)
{
	struct shunt_trace_stats trace;
	struct shunt_stats stats;
	struct shunt_ways ways;

	shunt_get_stats(&stats);
	shunt_get_ways(&ways);
	shunt_trace_get_stats(&trace);
	agent_reply_number(reply, "updates", stats.updates);
	agent_reply_number(reply, "traps", stats.traps);
	agent_reply_number(reply, "late_traps", stats.late_traps);
	agent_reply_number(reply, "foreign_traps", stats.foreign_traps);
	agent_reply_number(reply, "writes", stats.writes);
	agent_reply_number(reply, "bytes_written", stats.bytes_written);
	agent_reply_number(reply, "syncs", stats.syncs);
	add_text(reply, "write", ways.write);
	add_text(reply, "sync", ways.sync);
	add_text(reply, "poke", ways.poke);
	add_text(reply, "policy", ways.policy);
	add_text(reply, "why", ways.why);
	add_text(reply, "tracer", agent_session_owner());
	add_text(reply, "tracing", agent_session_what());
	agent_reply_number(reply, "trace_events", trace.events);
	agent_reply_number(reply, "trace_lost", trace.lost);
	agent_reply_number(reply, "trace_functions", trace.functions);
	agent_reply_number(reply, "trace_threads", trace.threads);
}
