/* SPDX-License-Identifier: MIT */
/*
 * Modules' files that cannot be read, so that it is not known which functions could be traced:
 * register and the filters return the error where that is so of all; else a message names the file
 * and the system call, once. What can be read later is found by the next call.
 *
 *	unreadable PLUGIN    (modules_plugin.c)
 *
 * Controls (SHUNT_CONTROL, by the linker's --wrap): silent: no module is told; unknown: it is not
 * known that none can be read; not_again: they are not looked at again.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "../common/cpu.h"
#include "../common/filter.h"
#include "control.h"
#include "linux/base/base.h"
#include "linux/entry/modules.h"

DEFINE_CONTROL(is_silent, "silent");
DEFINE_CONTROL(is_unknown, "unknown");
DEFINE_CONTROL(is_not_again, "not_again");

static volatile long sink;
static const char *plugin;

long traced(long n);
KEEP __attribute__((patchable_function_entry(5))) long traced(long n)
{
	sink = n;
	return n + 1;
}

/* ------------------------------------------------------- what cannot be read */

static const char *refused; /* a part of names */

int __real_shunt_file_map(struct shunt_file *file, const char *path);
int __wrap_shunt_file_map(struct shunt_file *file, const char *path);
int __wrap_shunt_file_map(struct shunt_file *file, const char *path)
{
	if (!refused || !strstr(path, refused))
		return __real_shunt_file_map(file, path);
	file->size = 0;
	shunt_failed_call = "open";
	return -EMFILE;
}

bool __real_shunt_modules_untold(char *text, size_t size);
bool __wrap_shunt_modules_untold(char *text, size_t size);
bool __wrap_shunt_modules_untold(char *text, size_t size)
{
	return !is_silent && __real_shunt_modules_untold(text, size);
}

int __real_shunt_port_entries_unknown(const char **what);
int __wrap_shunt_port_entries_unknown(const char **what);
int __wrap_shunt_port_entries_unknown(const char **what)
{
	return is_unknown ? 0 : __real_shunt_port_entries_unknown(what);
}

void __real_shunt_modules_update(bool again);
void __wrap_shunt_modules_update(bool again);
void __wrap_shunt_modules_update(bool again)
{
	__real_shunt_modules_update(again && !is_not_again);
}

/* ----------------------------------------------------------- who traces */

static unsigned long calls;
static unsigned messages;
static char last_message[600];

static void on_call(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		    struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)regs;
	calls++;
}

static void on_message(const char *message, void *arg)
{
	(void)arg;
	messages++;
	(void)snprintf(last_message, sizeof(last_message), "%s", message);
}

static struct ftrace_ops ops = {.func = on_call};

static bool are_calls(unsigned long n)
{
	calls = 0;
	sink = traced(1);
	if (calls == n)
		return true;
	fprintf(stderr, "# %lu calls, not %lu\n", calls, n);
	return false;
}

static bool says(const char *file, const char *call, const char *error)
{
	if (strstr(last_message, file) && strstr(last_message, call) && strstr(last_message, error))
		return true;
	fprintf(stderr, "# it says: %s\n", last_message);
	return false;
}

static bool returns(int ret, int expected)
{
	if (ret != expected)
		fprintf(stderr, "# %d, not %d: %s\n", ret, expected, shunt_last_error());
	return ret == expected;
}

/* ---------------------------------------------------------------- rows */

static int none_by_filter(void)
{
	if (!answer_syscall(SYS_openat, EACCES))
		return 77;
	if (!returns(ftrace_set_filter(&ops, "traced", 0, 1), -EACCES) ||
	    !returns(register_ftrace_function(&ops), -EACCES))
		return 1;
	/* Where sites trap the first two are of the dynamic linker's function that is called for a
	 * module that is loaded: auto cannot look whether a thread blocks SIGTRAP; it is not told.
	 */
	if (!says("trace_unreadable", "open", "Permission denied") ||
	    messages != (CPU_HAS_TRAPS ? 5 : 3))
		return 2;
	return unregister_ftrace_function(&ops) == -EINVAL && are_calls(0) ? 0 : 3;
}

static int none_for_a_while(void)
{
	refused = "";
	if (!returns(register_ftrace_function(&ops), -EMFILE) || !are_calls(0))
		return 1;
	refused = NULL;
	return returns(register_ftrace_function(&ops), 0) && are_calls(1) ? 0 : 2;
}

/* The program's own file, by each of its names. */
static int the_program(void)
{
	refused = "e"; /* exe, trace_unreadable; libc.so.6 has none */
	if (!returns(register_ftrace_function(&ops), 0) || !are_calls(0))
		return 1;
	if (messages != 1 || !says("trace_unreadable", "open", "Too many open files"))
		return 2;
	if (!returns(ftrace_set_filter(&ops, "traced", 0, 1), -EINVAL) || messages != 2)
		return 3;
	refused = NULL;
	if (!returns(ftrace_set_filter(&ops, "traced", 0, 1), 0) || !are_calls(1))
		return 4;
	return messages == 2 ? 0 : 5;
}

/* One that is loaded later. */
static int a_plugin(void)
{
	int (*plug)(int);
	void *module;

	if (!returns(ftrace_set_filter(&ops, "plug", 0, 1), -EINVAL) ||
	    !returns(register_ftrace_function(&ops), 0))
		return 1;
	refused = "modules_plugin";
	messages = 0;
	module = dlopen(plugin, RTLD_NOW);
	*(void **)&plug = module ? dlsym(module, "plug") : NULL;
	if (!plug || messages != 1 || !says("modules_plugin", "open", "Too many open files"))
		return 2;
	calls = 0;
	sink = plug(1);
	if (calls)
		return 3;
	refused = NULL;
	if (!returns(ftrace_set_filter(&ops, "plug", 0, 1), 0))
		return 4;
	sink = plug(1);
	return calls == 1 && messages == 1 && !dlclose(module) ? 0 : 5;
}

static void row(int (*fn)(void), const char *what)
{
	int status = in_child(fn);

	if (status == 77)
		ok(true, "%s # SKIP no filter is to be had", what);
	else
		ok(!status, "%s (%d)", what, status);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	plugin = argv[1];
	shunt_set_log(on_message, NULL);
	row(none_by_filter, "openat() is refused: an error");
	row(none_for_a_while, "no file can be read for a while: an error, and then not");
	row(the_program, "the program's cannot: it is said once");
	row(a_plugin, "one that is loaded later cannot: it is said");
	return tap_done();
}
