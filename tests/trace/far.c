/* SPDX-License-Identifier: MIT */
/*
 * Entries from which nothing that they could call is within reach, and no memory is free within
 * reach: they are left out, which is said, and all others are traced. Memory that is not to be had
 * at all, and text that cannot be written, are errors with nothing changed. The port is made to
 * answer so for the functions of a module that is loaded (modules_plugin.c), which is far from the
 * program where the program has the stubs.
 *
 * Controls: SHUNT_CONTROL=refused: what is out of reach is an error of another kind, as it was;
 * left_out: all is taken for out of reach.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>

#include "arch/arch.h"
#include "core/ftrace.h"

#include "control.h"
#include "tap.h"

#ifdef __clang__
#define TRACED __attribute__((noinline, patchable_function_entry(5)))
#else
#define TRACED __attribute__((noipa, patchable_function_entry(5)))
#endif
#define QUIET __attribute__((patchable_function_entry(0)))

DEFINE_CONTROL(is_refused, "refused");
DEFINE_CONTROL(is_left_out, "left_out");

static int answer; /* for the module: 0: as ever; or the error for which there is none */
static bool is_answered;
static unsigned long asked;
static const char *path;

QUIET static bool is_of_module(uintptr_t ip)
{
	Dl_info info;

	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	return dladdr((const void *)ip, &info) && info.dli_fname && !strcmp(info.dli_fname, path);
}

QUIET static bool is_denied(uintptr_t ip)
{
	is_answered = answer && is_of_module(ip);
	asked += is_answered;
	return is_answered;
}

uintptr_t __real_shunt_port_veneer(uintptr_t near, uintptr_t target);
uintptr_t __wrap_shunt_port_veneer(uintptr_t near, uintptr_t target);
QUIET uintptr_t __wrap_shunt_port_veneer(uintptr_t near, uintptr_t target)
{
	return is_denied(near) ? 0 : __real_shunt_port_veneer(near, target);
}

#if !SHUNT_HAS_ENTRY_STUBS
#define __real_shunt_port_entry_stub(ip, stub) 0
#else
uintptr_t __real_shunt_port_entry_stub(uintptr_t ip, uintptr_t stub);
#endif
/* What has been given is not denied: the same for the same. */
static struct {
	uintptr_t ip, stub;
} given[64];
static size_t nr_given;

QUIET static bool was_given(uintptr_t ip, uintptr_t stub)
{
	for (size_t i = 0; i < nr_given; i++)
		if (given[i].ip == ip && given[i].stub == stub)
			return true;
	return false;
}

uintptr_t __wrap_shunt_port_entry_stub(uintptr_t ip, uintptr_t stub);
QUIET uintptr_t __wrap_shunt_port_entry_stub(uintptr_t ip, uintptr_t stub)
{
	uintptr_t at;

	if (!was_given(ip, stub) && is_denied(ip))
		return 0;
	at = __real_shunt_port_entry_stub(ip, stub);
	if (at && !was_given(ip, stub) && is_of_module(ip) && nr_given < 64) {
		given[nr_given].ip = ip;
		given[nr_given++].stub = stub;
	}
	return at;
}

int __real_shunt_port_far_error(void);
int __wrap_shunt_port_far_error(void);
QUIET int __wrap_shunt_port_far_error(void)
{
	int error = is_answered ? answer : __real_shunt_port_far_error();

	if (error == -ERANGE && is_refused)
		return -EIO;
	return is_left_out ? -ERANGE : error;
}

/* ---------------------------------------------------------------------- who is traced */

TRACED int at_home(int x);
TRACED int at_home(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

static unsigned long calls[2];
static unsigned messages;
static char last_message[600];

QUIET static void count(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			struct ftrace_regs *fregs)
{
	(void)ip;
	(void)parent_ip;
	(void)fregs;
	++*(unsigned long *)ops->private;
}

static struct ftrace_ops a = {.func = count, .private = &calls[0]};
static struct ftrace_ops b = {.func = count, .private = &calls[1]};

QUIET static void count_message(const char *message, void *arg)
{
	(void)arg;
	messages++;
	(void)snprintf(last_message, sizeof(last_message), "%s", message);
}

static void *module;

QUIET static bool load(void)
{
	shunt_set_log(count_message, NULL);
	module = dlopen(path, RTLD_NOW);
	return module;
}

/* The calls that a and b see of at_home() and of the module's plug(): @home and @there, as "ab". */
QUIET static bool see(const char *home, const char *there)
{
	int (*plug)(int) = (int (*)(int))dlsym(module, "plug");
	bool good = plug;

	for (int i = 0; i < 2 && good; i++) {
		const char *want = i ? there : home;

		calls[0] = calls[1] = 0;
		if (i)
			(void)plug(1);
		else
			good = at_home(1) == 2;
		good = good && calls[0] == (strchr(want, 'a') != NULL) &&
		       calls[1] == (strchr(want, 'b') != NULL);
		if (!good)
			fprintf(stderr, "# %s: %lu and %lu calls, not of \"%s\"\n",
				i ? "plug" : "at_home", calls[0], calls[1], want);
	}
	return good;
}

struct listed {
	int why; /* -1: not listed */
	size_t nr_ops;
};

QUIET static int look(const struct shunt_function_info *info, void *arg)
{
	if (info->name && !strcmp(info->name, "plug"))
		*(struct listed *)arg = (struct listed){
			info->why && strstr(info->why, "out of reach"), info->nr_ops};
	return 0;
}

/* Whether plug() is listed with the reason, or without, and with as many ops as it calls. */
QUIET static bool is_said(bool is, size_t nr_ops)
{
	struct listed listed = {.why = -1};

	if (!shunt_for_each_function(look, &listed) && listed.why == is && listed.nr_ops == nr_ops)
		return true;
	fprintf(stderr, "# the reason that is listed: %d; ops: %zu\n", listed.why, listed.nr_ops);
	return false;
}

QUIET static bool left_out(void)
{
	bool good = load() && !ftrace_set_notrace(&a, "plug_*", 0, 1);

	answer = -ERANGE;
	good = good && !register_ftrace_function(&a) && asked && see("a", "") && is_said(true, 0) &&
	       messages == 1 && strstr(last_message, "out of reach") &&
	       strstr(last_message, "function plug");
	/* It is not said again; and traced when there is room, by whatever change. */
	good = good && !ftrace_set_notrace(&a, "plug_*", 0, 1) && messages == 1;
	answer = 0;
	good = good && !register_ftrace_function(&b) && see("ab", "ab") && is_said(false, 2);
	return good && !unregister_ftrace_function(&b) && !unregister_ftrace_function(&a) &&
	       see("", "") && messages == 1;
}

QUIET static bool by_name(void)
{
	bool good = load() && !ftrace_set_filter(&a, "plug", 0, 1);

	answer = -ERANGE;
	good = good && !register_ftrace_function(&a) && asked && see("", "") && messages == 1 &&
	       !ftrace_set_filter(&a, "at_home", 0, 0) && see("a", "");
	answer = 0;
	return good && !ftrace_set_filter(&a, "plug", 0, 0) && see("a", "a") &&
	       !unregister_ftrace_function(&a) && see("", "");
}

/* The constructor's function is one that is out of reach, too. */
QUIET static bool loaded_later(void)
{
	bool good = !register_ftrace_function(&a);

	answer = -ERANGE;
	good = good && load() && asked && see("a", "") && messages == 1 &&
	       strstr(last_message, "nor are others");
	answer = 0;
	good = good && !dlclose(module) && load() && see("a", "a");
	return good && !unregister_ftrace_function(&a);
}

/* Traced by one; what another would need is out of reach: nobody is lost by that. */
QUIET static bool second(void)
{
	bool good;

	/* b needs another stub beside a than a alone, on each CPU. */
	a.flags = SHUNT_FTRACE_GENERAL_REGS;
	good = load() && !register_ftrace_function(&a) && see("a", "a");
	answer = -ERANGE;
	good = good && !register_ftrace_function(&b) && asked && see("ab", "a") && is_said(true, 1);
	good = good && !unregister_ftrace_function(&b) && see("a", "a") &&
	       !register_ftrace_function(&b) && !unregister_ftrace_function(&a) && see("b", "");
	answer = 0;
	good = good && !register_ftrace_function(&a) && see("ab", "ab");
	return good && !unregister_ftrace_function(&a) && !unregister_ftrace_function(&b) &&
	       see("", "");
}

QUIET static bool fails(int error)
{
	bool good = load();

	answer = error;
	good = good && register_ftrace_function(&a) == error && asked && see("", "") &&
	       strstr(shunt_last_error(), "make a stub or veneer") != NULL;
	answer = 0;
	return good && !register_ftrace_function(&a) && see("a", "a") &&
	       !unregister_ftrace_function(&a);
}

QUIET static bool no_memory(void)
{
	return fails(-ENOMEM);
}

QUIET static bool not_written(void)
{
	return fails(-EPERM);
}

QUIET int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	path = argv[1];
	row_in_child(left_out,
		     "out of reach: left out, others are traced, and it when there is room");
	row_in_child(by_name, "a filter that names no other function");
	row_in_child(loaded_later, "of a module that is loaded later");
	row_in_child(second, "a second ops for which the stub is out of reach");
	row_in_child(no_memory, "no memory at all is an error, and nothing has changed");
	row_in_child(not_written, "so is text that cannot be written");
	return end_rows();
}
