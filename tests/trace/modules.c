/* SPDX-License-Identifier: MIT */
/*
 * Modules that come and go while functions are traced. Arguments: a plugin (modules_plugin.c), and
 * what is tried:
 *
 *	filter       a filter set before it is loaded applies to it, constructor and destructor too
 *	again        loaded and unloaded hundreds of times, traced and not: each call counted
 *	threads      two threads load and unload, one registers, one changes filters; ends
 *	dladdr       callbacks wait for the dynamic linker's lock while others load; ends
 *	constructor  one that calls the interface, while a callback waits for the dynamic linker's
 *	             lock, and an unregister for the callback: none waits for ever
 *	first        the first register, which loads libgcc_s, beside a thread in a constructor
 *	stubs        return stubs of functions that return to it are free behind its unload
 *	fork         a child of fork loads and traces
 *	namespace    loaded by dlmopen()
 *	window       a register when a module is unmapped, and the dynamic linker has not said so
 *	             yet
 *	stopped      a register, when another thread has had the notices stopped
 *	restoring    as threads, and one that restores all text
 *	mremap       all is found where mremap() is forbidden
 *	list         shunt_for_each_function() names each, with reasons
 *
 * Control: SHUNT_CONTROL (by the linker's --wrap): nobody sees whom a callback waits for; return
 * stubs are never free; the dynamic linker does not tell;
 * libgcc_s is loaded with the locks of tracing held; the lock of sets is not held while a module is
 * unmapped; a register does not see that the notices were stopped; what grows needs mremap().
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>

#include "../common/filter.h"
#include "linux/base/base.h"
#include "linux/entry/entries.h"
#include "linux/entry/modules.h"
#include "linux/entry/return_slots.h"

#define QUIET __attribute__((no_instrument_function, patchable_function_entry(0)))

static const char *plugin;
static _Atomic long calls;
static _Atomic bool stop;
static int number, failed;

QUIET static void result(bool good, const char *name)
{
	failed += !good;
	printf("%s %d - %s\n", good ? "ok" : "not ok", ++number, name);
	if (!good && shunt_last_error())
		printf("# %s\n", shunt_last_error());
	fflush(stdout);
}

QUIET static void count(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
			struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent;
	(void)ops;
	(void)regs;
	atomic_fetch_add(&calls, 1);
}

QUIET static void look_up(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
			  struct ftrace_regs *regs)
{
	Dl_info info;

	count(ip, parent, ops, regs);
	(void)dladdr((void *)ip, &info); /* takes the dynamic linker's lock of loading */
}

static struct ftrace_ops ops = {.func = count};

QUIET static void *load(void)
{
	void *handle = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);

	if (!handle) {
		printf("Bail out! %s\n", dlerror());
		exit(1);
	}
	return handle;
}

QUIET static int call(void *handle)
{
	int (*fn)(int);

	*(void **)&fn = dlsym(handle, "plug");
	return fn(1);
}

QUIET static void try_filter(void)
{
	void *handle = load();
	bool good = !ftrace_set_filter(&ops, "plug*", 0, 1);

	dlclose(handle);
	good = good && !register_ftrace_function(&ops);
	handle = load();
	result(good && calls == 1, "the constructor of what is loaded later");
	result(call(handle) == 2 && calls == 2, "a function of it, and no other");
	dlclose(handle);
	result(calls == 3, "its destructor");
	result(!unregister_ftrace_function(&ops), "unregistered without it");
	handle = load();
	result(call(handle) == 2 && calls == 3, "and not traced then");
	dlclose(handle);
}

QUIET static void try_again(void)
{
	bool good = true;
	void *handle = load();

	good = !ftrace_set_filter(&ops, "plug", 0, 1);
	dlclose(handle);
	for (int i = 0; i < 300 && good; i++) {
		if (i % 3 == 0)
			good = !register_ftrace_function(&ops);
		calls = 0;
		handle = load();
		good = good && call(handle) == 2 && calls == (i % 3 != 2);
		dlclose(handle);
		if (i % 3 == 1)
			good = good && !unregister_ftrace_function(&ops);
	}
	result(good, "300 times");
}

QUIET static void *load_on(void *arg)
{
	while (!stop) {
		void *handle = load();

		*(bool *)arg |= call(handle) != 2;
		dlclose(handle);
	}
	return NULL;
}

QUIET static void *register_on(void *arg)
{
	struct ftrace_ops *mine = arg;

	while (!stop)
		if (register_ftrace_function(mine) || unregister_ftrace_function(mine)) {
			printf("# %s\n", shunt_last_error());
			return arg;
		}
	return NULL;
}

/* As an agent that detaches, over and over. */
QUIET static void *restore_on(void *arg)
{
	size_t left;

	while (!stop) {
		if (shunt_entries_restore(&left)) {
			printf("# %s\n", shunt_last_error());
			return arg;
		}
		usleep(500);
	}
	return NULL;
}

/* Two that load, two that register, for a moment; and @another, if it is not NULL. */
QUIET static void race(void (*func)(unsigned long, unsigned long, struct ftrace_ops *,
				    struct ftrace_regs *),
		       void *(*another)(void *), const char *name)
{
	struct ftrace_ops two[2] = {{.func = func}, {.func = func}};
	bool wrong[2] = {false, false};
	pthread_t threads[5];
	void *bad[2], *bad_too = NULL;

	for (int i = 0; i < 2; i++) {
		pthread_create(&threads[i], NULL, load_on, &wrong[i]);
		pthread_create(&threads[2 + i], NULL, register_on, &two[i]);
	}
	if (another)
		pthread_create(&threads[4], NULL, another, two);
	/* Signals of the library's own may end a sleep. */
	for (time_t end = time(NULL) + 3; time(NULL) < end;)
		usleep(10000);
	stop = true;
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		pthread_join(threads[2 + i], &bad[i]);
	}
	if (another)
		pthread_join(threads[4], &bad_too);
	if (wrong[0] || wrong[1] || bad[0] || bad[1])
		printf("# %d %d %s %s\n", wrong[0], wrong[1], bad[0] ? "failed" : "good",
		       bad[1] ? "failed" : "good");
	result(!wrong[0] && !wrong[1] && !bad[0] && !bad[1] && !bad_too && calls, name);
}

/* --------------------------------------------- a constructor, and one that waits */

static void expect_other_owner(void);

/* The callback, the constructor; where the former sleeps is known: on the loader's lock. */
static _Atomic bool in_callback, in_loader, is_known;

bool __real_shunt_callback_waits_for_caller(void);
bool __wrap_shunt_callback_waits_for_caller(void);
bool __wrap_shunt_callback_waits_for_caller(void)
{
	bool was_known = is_known;
	bool is_seen = !getenv("SHUNT_CONTROL") && __real_shunt_callback_waits_for_caller();

	if (was_known && is_known && !is_seen)
		expect_other_owner();
	return is_seen;
}

/* Who waits for the callback has looked where it sleeps. */
void __real_shunt_callback_sleeps_at(uintptr_t futex);
void __wrap_shunt_callback_sleeps_at(uintptr_t futex);
void __wrap_shunt_callback_sleeps_at(uintptr_t futex)
{
	is_known = false;
	__real_shunt_callback_sleeps_at(futex);
	is_known = futex && in_loader;
}

void on_come(void);
void on_go(void);
static int stop_at_once(const struct shunt_function_info *info, void *arg);

static pthread_t in_constructor;
static bool is_other_unregistering;
static enum { NOWHERE, IN_CONSTRUCTOR, IN_DESTRUCTOR, IN_FIRST, IN_WINDOW } call_in;
static struct ftrace_ops second = {.func = count};

__attribute__((noinline, patchable_function_entry(5))) static void traced(void)
{
	__asm__ volatile("");
}

/* Once it is in the loader, its lock is that thread's. */
QUIET static void wait_for_loader(unsigned long ip, unsigned long parent, struct ftrace_ops *of,
				  struct ftrace_regs *regs)
{
	Dl_info info;

	count(ip, parent, of, regs);
	in_callback = true;
	while (!in_loader)
		usleep(100);
	(void)dladdr((void *)ip, &info);
}

/*
 * A thread has asked whether the callback waits for it, when it was known where that sleeps, and
 * was told no. If it is the owner of the loader's lock none of the three goes on: the program ends.
 */
QUIET static void expect_other_owner(void)
{
	if (!pthread_equal(pthread_self(), in_constructor))
		return;
	result(false, "the owner of a lock is told that a callback waits for it");
	_exit(1);
}

QUIET static void *call_traced(void *arg)
{
	traced();
	return arg;
}

QUIET static void *unregister(void *arg)
{
	return unregister_ftrace_function(&ops) ? NULL : arg;
}

/* In the loader's lock: another thread unregisters, or this one does. */
QUIET static void call_interface(const char *where)
{
	int ret;

	in_constructor = pthread_self();
	in_loader = true;
	if (!is_other_unregistering) {
		result(unregister_ftrace_function(&ops) == -EDEADLK &&
			       strstr(shunt_last_error(), "waits for a lock"),
		       where);
		return;
	}
	do /* until that one is at it */
		ret = shunt_for_each_function(stop_at_once, NULL);
	while (ret == 42);
	result(ret == -EDEADLK && register_ftrace_function(&second) == -EDEADLK &&
		       ftrace_set_filter(&second, "traced", 0, 0) == -EDEADLK,
	       where);
}

/* The first register in the process, which makes code that unwinders are to know. */
QUIET static void *register_first(void *arg)
{
	return register_ftrace_function(&ops) ? NULL : arg;
}

static pthread_t first;

QUIET static void call_beside_first(void)
{
	if (pthread_create(&first, NULL, register_first, &ops))
		abort();
	while (!calls) {
		traced();
		usleep(100);
	}
	result(shunt_for_each_function(stop_at_once, NULL) == 42,
	       "a constructor, when another thread has just registered for the first time");
}

QUIET void on_come(void)
{
	if (call_in == IN_FIRST)
		call_beside_first();
	if (call_in == IN_CONSTRUCTOR)
		call_interface("a constructor");
}

QUIET void on_go(void)
{
	if (call_in == IN_DESTRUCTOR)
		call_interface("a destructor");
}

QUIET static void in_the_loader(bool is_other)
{
	pthread_t caller, other;
	void *good = NULL;
	bool started;

	in_callback = in_loader = false;
	is_known = false;
	is_other_unregistering = is_other;
	ops = (struct ftrace_ops){.func = wait_for_loader};
	started = !ftrace_set_filter(&ops, "traced", 0, 1) && !register_ftrace_function(&ops) &&
		  !pthread_create(&caller, NULL, call_traced, NULL);
	while (started && !in_callback)
		usleep(100);
	if (is_other)
		started = started && !pthread_create(&other, NULL, unregister, &ops);
	dlclose(load());
	pthread_join(caller, NULL);
	if (is_other) {
		pthread_join(other, &good);
		result(started && good, "and who waited has unregistered");
		return;
	}
	calls = 0;
	traced();
	result(started && calls == 1, "and what could not be unregistered is still called");
	result(!unregister_ftrace_function(&ops), "until it can");
}

QUIET static void try_constructor(void)
{
	for (int i = 0; i < 4; i++) {
		call_in = i % 2 ? IN_DESTRUCTOR : IN_CONSTRUCTOR;
		in_the_loader(i < 2);
	}
	call_in = NOWHERE;
	result(!register_ftrace_function(&second) && !unregister_ftrace_function(&second),
	       "and all goes on");
}

/* Unwinders are told by libgcc_s, which is loaded for that: not with a lock of tracing. */
QUIET static void try_first(void)
{
	void *good = NULL;

	call_in = IN_FIRST;
	dlclose(load());
	call_in = NOWHERE;
	pthread_join(first, &good);
	result(good && !unregister_ftrace_function(&ops), "and that thread goes on");
}

/* ---------------------------------------------------------------------- controls */

static bool is_control(const char *name)
{
	const char *control = getenv("SHUNT_CONTROL");

	return control && !strcmp(control, name);
}

bool __real_shunt_holds_trace_lock(void);
bool __wrap_shunt_holds_trace_lock(void);
bool __wrap_shunt_holds_trace_lock(void)
{
	return !is_control("loading") && __real_shunt_holds_trace_lock();
}

int __real_shunt_notice_start(uintptr_t debug);
int __wrap_shunt_notice_start(uintptr_t debug);
int __wrap_shunt_notice_start(uintptr_t debug)
{
	return is_control("unnoticed") ? 0 : __real_shunt_notice_start(debug);
}

/* ------------------------------------------------------------ its return addresses */

void __real_shunt_return_stubs_forget(uintptr_t start, uintptr_t end);
void __wrap_shunt_return_stubs_forget(uintptr_t start, uintptr_t end);
void __wrap_shunt_return_stubs_forget(uintptr_t start, uintptr_t end)
{
	if (!getenv("SHUNT_CONTROL"))
		__real_shunt_return_stubs_forget(start, end);
}

/* Return stubs for addresses near @in, which the plugin's 64 KiB are. */
QUIET static unsigned stubs_near(uintptr_t in)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SHUNT_RETURN_STUBS; i++) {
		uintptr_t target = atomic_load(&shunt_return_slots[i]);

		n += target > in - 65536 && target < in + 65536;
	}
	return n;
}

QUIET static void on_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
			    struct ftrace_regs *regs)
{
	(void)trace;
	(void)gops;
	(void)regs;
	atomic_fetch_add(&calls, 1);
}

QUIET static void try_stubs(void)
{
	static struct fgraph_ops graph = {.retfunc = on_return};
	bool good =
		!ftrace_set_filter(&graph.ops, "traced", 0, 1) && !register_ftrace_graph(&graph);
	void *handle = load();
	void (*call_back)(void (*fn)(void));

	*(void **)&call_back = dlsym(handle, "plug_call");
	call_back(traced);
	result(good && calls == 1 && stubs_near((uintptr_t)call_back) == 1,
	       "a function that returns to it");
	dlclose(handle);
	result(stubs_near((uintptr_t)call_back) == 0, "its stub is free when it has gone");
	handle = load();
	*(void **)&call_back = dlsym(handle, "plug_call");
	call_back(traced);
	result(calls == 2 && !unregister_ftrace_graph(&graph), "and when it has come again");
	dlclose(handle);
}

QUIET static void try_fork(void)
{
	void *handle;
	int status = -1;
	pid_t pid;

	result(!register_ftrace_function(&ops), "registered");
	pid = fork();
	if (!pid) {
		calls = 0;
		handle = load();
		_exit(call(handle) != 2 || calls < 2 || unregister_ftrace_function(&ops));
	}
	waitpid(pid, &status, 0);
	result(status == 0, "a child loads, traces, unregisters");
	calls = 0;
	handle = load();
	result(call(handle) == 2 && calls >= 2, "its parent goes on");
}

QUIET static void try_namespace(void)
{
	bool good = !register_ftrace_function(&ops);
	void *handle = dlmopen(LM_ID_NEWLM, plugin, RTLD_NOW);

	calls = 0;
	result(good && handle && call(handle) == 2 && calls == 1,
	       "traced in a namespace of its own");
	if (handle)
		dlclose(handle);
	handle = load();
	calls = 0;
	result(call(handle) == 2 && calls == 1, "and outside of it afterwards");
}

/* ------------------------------------------------------------------ its unload */

static _Atomic int stands, may_go, has_ended, ended_in_window = -1;
static pthread_t other;

/* It has seen which modules there are, and takes the lock when one of them is unmapped. */
int __real_shunt_port_trace_lock(const char *what, const struct ftrace_ops *of);
int __wrap_shunt_port_trace_lock(const char *what, const struct ftrace_ops *of);
int __wrap_shunt_port_trace_lock(const char *what, const struct ftrace_ops *of)
{
	if (call_in == IN_WINDOW && pthread_equal(pthread_self(), other)) {
		stands = 1;
		while (!may_go)
			sched_yield();
	}
	return __real_shunt_port_trace_lock(what, of);
}

QUIET static void *register_in_window(void *arg)
{
	int ret = register_ftrace_function(&ops);

	has_ended = 1;
	return ret ? NULL : arg;
}

/*
 * The second time in an unload, the module is unmapped, and not yet forgotten. Another thread
 * registers: with the lock held it has not ended when it is given up to wait for it.
 */
bool __real_shunt_loader_is_deleting(void);
bool __wrap_shunt_loader_is_deleting(void);
bool __wrap_shunt_loader_is_deleting(void)
{
	bool deleting = __real_shunt_loader_is_deleting();

	if (call_in != IN_WINDOW)
		return deleting;
	if (deleting)
		return !is_control("window");
	may_go = 1;
	for (int i = 0; i < 100 && !has_ended; i++)
		usleep(200);
	ended_in_window = has_ended;
	return false;
}

QUIET static void try_window(void)
{
	void *good = NULL, *handle = load();
	bool done =
		!ftrace_set_filter(&ops, "plug", 0, 1) && !ftrace_set_filter(&ops, "traced", 0, 0);

	call_in = IN_WINDOW;
	done = done && !pthread_create(&other, NULL, register_in_window, &ops);
	while (done && !stands)
		sched_yield();
	dlclose(handle);
	call_in = NOWHERE;
	pthread_join(other, &good);
	result(done && good && ended_in_window == 0,
	       "a register while a module is unmapped waits until it is forgotten");
	calls = 0;
	traced();
	handle = load();
	result(call(handle) == 2 && calls == 2, "and what it has traced is traced");
	dlclose(handle);
}

/* ------------------------------------------------------------ no notices any more */

bool __real_shunt_notice_was_started(void);
bool __wrap_shunt_notice_was_started(void);
bool __wrap_shunt_notice_was_started(void)
{
	return (is_control("stopped") && stands) || __real_shunt_notice_was_started();
}

/* Meanwhile an agent detaches: nothing is traced, so the dynamic linker's text is put back. */
QUIET static void try_stopped(void)
{
	void *good = NULL, *handle = load();
	size_t left = 1;
	bool done = !ftrace_set_filter(&ops, "plug", 0, 1);

	dlclose(handle);
	call_in = IN_WINDOW;
	done = done && !pthread_create(&other, NULL, register_in_window, &ops);
	while (done && !stands)
		sched_yield();
	call_in = NOWHERE;
	done = done && !shunt_entries_restore(&left) && !left;
	may_go = 1;
	pthread_join(other, &good);
	handle = load();
	result(done && good && call(handle) == 2 && calls == 1,
	       "a register that has looked, and then nothing tells of modules: it looks again");
	dlclose(handle);
	result(!shunt_entries_restore(&left) && !left, "restored while nothing matches the filter");
	handle = load();
	calls = 0;
	result(call(handle) == 2 && calls == 1, "and what comes is traced");
	dlclose(handle);
}

/* --------------------------------------------------------------- without mremap() */

void *__real_shunt_memory_grow(void *p, size_t from, size_t to);
void *__wrap_shunt_memory_grow(void *p, size_t from, size_t to);
static unsigned grown;

void *__wrap_shunt_memory_grow(void *p, size_t from, size_t to)
{
	void *more;

	grown++;
	if (!is_control("mremap"))
		return __real_shunt_memory_grow(p, from, to);
	more = mremap(p, from, to, MREMAP_MAYMOVE);
	return more == MAP_FAILED ? NULL : more;
}

QUIET static int count_functions(const struct shunt_function_info *info, void *arg)
{
	*(unsigned *)arg += !strcmp(info->name ? info->name : "", "traced") && !info->why;
	return 0;
}

QUIET static void try_mremap(void)
{
	unsigned n = 0;
	bool good = answer_syscall(SYS_mremap, EPERM);

	result(good && !shunt_for_each_function(count_functions, &n) && n == 1 && grown,
	       "each function is found, by copying what grows");
	result(!ftrace_set_filter(&ops, "traced", 0, 1) && !register_ftrace_function(&ops),
	       "and traced");
	traced();
	result(calls == 1 && !unregister_ftrace_function(&ops), "once");
}

static int seen[4];

QUIET static int look(const struct shunt_function_info *info, void *arg)
{
	const char *name = info->name ? info->name : "";

	(void)arg;
	if (!strstr(info->module, "modules_plugin"))
		return 0;
	if (!strcmp(name, "plug"))
		seen[0] += info->entry && !info->why && info->nr_ops == 1 &&
			   info->kind != SHUNT_ENTRY_NONE;
	if (!strcmp(name, "plug_without"))
		seen[1] += !info->entry && info->why && info->kind == SHUNT_ENTRY_NONE;
	if (!strcmp(name, "plug_changed"))
		seen[2] += info->entry && info->why && strstr(info->why, "cc ") && !info->nr_ops;
	return 0;
}

QUIET static int stop_at_once(const struct shunt_function_info *info, void *arg)
{
	(void)info;
	(void)arg;
	return 42;
}

QUIET static void try_list(void)
{
	void *handle = load();
	void (*change)(void);

	*(void **)&change = dlsym(handle, "plug_change");
	change();
	result(!ftrace_set_filter(&ops, "modules_plugin*:plug", 0, 1) &&
		       !register_ftrace_function(&ops) && !shunt_for_each_function(look, NULL),
	       "the walk");
	result(seen[0] == 1, "what is traced, once");
	result(seen[1] == 1, "what has no entry, once");
	result(seen[2] == 1, "what somebody else has changed, with the bytes");
	result(shunt_for_each_function(stop_at_once, NULL) == 42, "the caller's answer ends it");
}

QUIET int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	plugin = argv[1];
	alarm(getenv("SHUNT_CONTROL") ? 3 : 60); /* a deadlock */
	if (!strcmp(argv[2], "filter"))
		try_filter();
	else if (!strcmp(argv[2], "again"))
		try_again();
	else if (!strcmp(argv[2], "threads"))
		race(count, NULL, "threads that load and register: no end but by us");
	else if (!strcmp(argv[2], "dladdr"))
		race(look_up, NULL, "callbacks that wait for the dynamic linker");
	else if (!strcmp(argv[2], "restoring"))
		race(count, restore_on, "threads that load, register, and restore all text");
	else if (!strcmp(argv[2], "constructor"))
		try_constructor();
	else if (!strcmp(argv[2], "first"))
		try_first();
	else if (!strcmp(argv[2], "stubs"))
		try_stubs();
	else if (!strcmp(argv[2], "fork"))
		try_fork();
	else if (!strcmp(argv[2], "namespace"))
		try_namespace();
	else if (!strcmp(argv[2], "window"))
		try_window();
	else if (!strcmp(argv[2], "stopped"))
		try_stopped();
	else if (!strcmp(argv[2], "mremap"))
		try_mremap();
	else
		try_list();
	printf("1..%d\n", number);
	return failed != 0;
}
