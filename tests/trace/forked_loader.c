/* SPDX-License-Identifier: MIT */
/*
 * A copy of the process, by fork(), _Fork() or a bare system call, while another thread has the
 * dynamic linker's lock of its list: in a callback of its own dl_iterate_phdr(); in libshunt's walk
 * of the list; in dlopen() and dlclose(), at each notice of the dynamic linker's. In the copy
 * functions are traced, and listed. So are they where the copy has threads that load and unload,
 * and where a module in the list is half there.
 *
 * What is held is held until the copy has ended; of libshunt's own walk until fork() has waited for
 * it. What a thread was unloading is unmapped in the copy, too: a fork() between that and the end
 * of dlclose().
 *
 * *Control:* SHUNT_CONTROL: "original": the copy is taken for the process itself, and waits for the
 * lock; "walking": fork() does not wait for libshunt's walk; "kept": what was being unloaded is
 * still taken to be, in the copy; "left": and what was being loaded; "whole": a module that is half
 * there is taken for a whole one.
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "../api/tap.h"
#include "../common/copies.h"
#include "../common/emulated.h"
#include "../common/one_two.h"
#include "linux/base/base.h"
#include "linux/base/dl_list.h"
#include "linux/entry/entries.h"
#include "linux/entry/modules.h"

#define TRACED __attribute__((noinline, patchable_function_entry(5)))
/* Seconds. Signals are blocked in a change: nothing else ends it. */
enum { PATIENCE = 20, OF_CONTROL = 2 };

static bool is_control(const char *name)
{
	const char *control = getenv("SHUNT_CONTROL");

	return control && !strcmp(control, name);
}

static void nap(long ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* ------------------------------------------------------- what a thread is held in */

static const char *plugin;
static _Atomic bool is_held, may_go, fork_begins;
static __thread int hold_at; /* the notice; 0: none */
static __thread bool holds_walk, holds_unload;

static void hold(void)
{
	is_held = true;
	while (!may_go)
		sched_yield();
}

static int hold_list(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)info;
	(void)size;
	(void)arg;
	hold();
	return 1;
}

static void *in_callback(void *arg)
{
	(void)dl_iterate_phdr(hold_list, NULL);
	return arg;
}

bool __real_shunt_loader_is_adding(void);
bool __wrap_shunt_loader_is_adding(void);
bool __wrap_shunt_loader_is_adding(void)
{
	if (hold_at && !--hold_at)
		hold();
	return __real_shunt_loader_is_adding();
}

/* With the lock of sets held. */
void __real_shunt_sets_in_loader(bool is);
void __wrap_shunt_sets_in_loader(bool is);
void __wrap_shunt_sets_in_loader(bool is)
{
	__real_shunt_sets_in_loader(is);
	if (is && holds_unload)
		hold();
}

/* Until fork() has begun, and then some: where it does not wait the copy is made meanwhile. */
void __real_shunt_module_look_for_handlers(struct shunt_traced_module *m);
void __wrap_shunt_module_look_for_handlers(struct shunt_traced_module *m);
void __wrap_shunt_module_look_for_handlers(struct shunt_traced_module *m)
{
	__real_shunt_module_look_for_handlers(m);
	if (!holds_walk)
		return;
	holds_walk = false;
	is_held = true;
	while (!fork_begins)
		sched_yield();
	nap(300);
}

/* Returns @arg, NULL: it could not. */
static void *load_and_unload(void *arg)
{
	void *handle = dlopen(plugin, RTLD_NOW);

	return handle && !dlclose(handle) ? arg : NULL;
}

static void *before_load(void *arg)
{
	hold_at = 1; /* RT_ADD: nothing is mapped yet */
	return load_and_unload(arg);
}

static void *behind_load(void *arg)
{
	hold_at = 2; /* mapped, in the list, and not relocated */
	return load_and_unload(arg);
}

static void *in_other_namespace(void *arg)
{
	void *handle;

	hold_at = 1;
	handle = dlmopen(LM_ID_NEWLM, plugin, RTLD_NOW);
	return handle && !dlclose(handle) ? arg : NULL;
}

static void *in_unload(void *arg)
{
	void *handle = dlopen(plugin, RTLD_NOW);

	holds_unload = true;
	return handle && !dlclose(handle) ? arg : NULL;
}

/* The same; the copy unmaps what was being unloaded. */
static uintptr_t unloaded[2];

static int see_unloaded(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	if (strcmp(info->dlpi_name, plugin) != 0)
		return 0;
	unloaded[0] = info->dlpi_addr;
	for (size_t i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD)
			unloaded[1] = (info->dlpi_addr + info->dlpi_phdr[i].p_vaddr +
				       info->dlpi_phdr[i].p_memsz + getauxval(AT_PAGESZ) - 1) &
				      -getauxval(AT_PAGESZ);
	return 1;
}

static void *in_unmapping(void *arg)
{
	void *handle = dlopen(plugin, RTLD_NOW);

	if (!handle || !dl_iterate_phdr(see_unloaded, NULL))
		return NULL;
	holds_unload = true;
	return dlclose(handle) ? NULL : arg;
}

static void *in_walk(void *arg)
{
	holds_walk = true; /* which a notice is */
	return load_and_unload(arg);
}

/* ------------------------------------------------------------------------ controls */

int __real_pthread_atfork(void (*before)(void), void (*parent)(void), void (*child)(void));
int __wrap_pthread_atfork(void (*before)(void), void (*parent)(void), void (*child)(void));
int __wrap_pthread_atfork(void (*before)(void), void (*parent)(void), void (*child)(void))
{
	return before && is_control("walking") ? 0 : __real_pthread_atfork(before, parent, child);
}

void __real_shunt_loader_copied(void);
void __wrap_shunt_loader_copied(void);
void __wrap_shunt_loader_copied(void)
{
	if (!is_control("left"))
		__real_shunt_loader_copied();
}

unsigned __real_shunt_sets_abandoned(void);
unsigned __wrap_shunt_sets_abandoned(void);
unsigned __wrap_shunt_sets_abandoned(void)
{
	return is_control("kept") ? 0 : __real_shunt_sets_abandoned();
}

/* ---------------------------------------------------------------------- in the copy */

static _Atomic unsigned long calls;

static void count(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
		  struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent;
	(void)ops;
	(void)regs;
	calls++;
}

long traced(long n);
TRACED long traced(long n)
{
	__asm__ volatile("" : "+r"(n));
	return n + 1;
}

long other(long n);
TRACED long other(long n)
{
	__asm__ volatile("" : "+r"(n));
	return n + 2;
}

DEFINE_STATIC_CALL(call, one);

static const char *wanted;
static unsigned long found;

static int see_function(const struct shunt_function_info *info, void *arg)
{
	(void)arg;
	found += info->name && !strcmp(info->name, wanted);
	return 0;
}

static unsigned long listed(const char *name)
{
	wanted = name;
	found = 0;
	return shunt_for_each_function(see_function, NULL) ? 100 : found;
}

static int see_key(const struct shunt_key_info *key, void *arg)
{
	(void)key;
	(void)arg;
	return 0;
}

/* 0, or the step that went wrong. */
static int trace_all(void)
{
	static struct ftrace_ops ops = {.func = count};
	size_t left;

	if (register_ftrace_function(&ops))
		return 2;
	calls = 0;
	if (traced(1) != 2 || calls != 1)
		return 3;
	if (listed("traced") != 1)
		return 4;
	if (unregister_ftrace_function(&ops))
		return 5;
	calls = 0;
	if (traced(1) != 2 || calls)
		return 6;
	if (static_call_update(call, two) || shunt_for_each_key(see_key, NULL))
		return 7;
	return shunt_entries_restore(&left) ? 8 : 0;
}

static int in_copy(void)
{
	if (is_control("original"))
		shunt_process()->is_original = true;
	return trace_all();
}

static int behind_unmapping(void)
{
	return munmap((void *)unloaded[0], unloaded[1] - unloaded[0]) ? 22 : in_copy();
}

/* libshunt's walk is over: the list can be had by the C library's own function. */
static int patience(void)
{
	return getenv("SHUNT_CONTROL") ? OF_CONTROL : PATIENCE;
}

static int walks_itself(void)
{
	Dl_info info;
	int n = 0;

	(void)alarm((unsigned)patience() / 2);
	(void)dl_iterate_phdr(hold_list, &n);
	if (!dladdr((void *)(uintptr_t)traced, &info))
		return 9;
	return in_copy();
}

/* In the copy, whose own thread does the same at the same time. */
static void *register_too(void *arg)
{
	static struct ftrace_ops ops = {.func = count};

	for (int i = 0; i < 5 && !*(int *)arg; i++)
		if (ftrace_set_filter(&ops, "other", 0, 1) || register_ftrace_function(&ops) ||
		    unregister_ftrace_function(&ops))
			*(int *)arg = 10;
	return NULL;
}

static int with_own_thread(void)
{
	pthread_t thread;
	int ret = 0, own;

	if (pthread_create(&thread, NULL, register_too, &ret))
		return 11;
	own = in_copy();
	pthread_join(thread, NULL);
	return own ? own : ret;
}

/* What is loaded in the copy is traced at once, and forgotten when it goes. */
static int loads(void)
{
	static struct ftrace_ops ops = {.func = count};
	int (*plug)(int);
	void *handle;

	if (register_ftrace_function(&ops))
		return 14;
	handle = dlopen(plugin, RTLD_NOW);
	*(void **)&plug = handle ? dlsym(handle, "plug") : NULL;
	calls = 0;
	if (!plug || plug(1) < 1 || calls != 1)
		return 15;
	return dlclose(handle) || listed("plug") || unregister_ftrace_function(&ops) ? 16 : 0;
}

/* Nobody had the lock: the copy's own threads load and unload. */
static void *load_until_done(void *arg)
{
	while (!is_held && arg)
		arg = load_and_unload(arg);
	return arg;
}

static int while_it_loads(void)
{
	pthread_t thread;
	void *went = NULL;
	int ret = 0;
	static struct ftrace_ops ops = {.func = count};

	is_held = false;
	if (pthread_create(&thread, NULL, load_until_done, &went))
		return 11;
	for (int i = 0; i < 20 && !ret; i++)
		ret = register_ftrace_function(&ops) || listed("traced") != 1 ||
				      unregister_ftrace_function(&ops)
			      ? 12
			      : 0;
	is_held = true;
	pthread_join(thread, &went);
	if (ret || !went)
		return ret ? ret : 13;
	return ftrace_set_filter(&ops, "plug", 0, 1) == -EINVAL ? loads() : 17;
}

static int see_half(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	return !strcmp(info->dlpi_name, "/half.so");
}

static bool is_half_seen(void)
{
	return shunt_dl_iterate(see_half, NULL);
}

static struct r_debug *find_debug(void)
{
	for (const ElfW(Dyn) *dyn = _DYNAMIC; dyn->d_tag != DT_NULL; dyn++)
		if (dyn->d_tag == DT_DEBUG)
			return (struct r_debug *)dyn->d_un.d_ptr;
	return NULL;
}

/* A module that is in the list, and has been unmapped, or not been relocated. */
static int with_half_module(void)
{
	static struct link_map half = {.l_name = (char *)"/half.so"};
	struct r_debug *debug = find_debug();
	struct link_map *whole = dlopen(plugin, RTLD_NOW);
	char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!debug || !whole || page == MAP_FAILED)
		return 17;
	half.l_addr = (ElfW(Addr))page;
	half.l_ld = (ElfW(Dyn) *)page;
	half.l_next = debug->r_map->l_next;
	debug->r_map->l_next = &half;
	if (is_half_seen()) /* which is where it is not read as memory */
		return 18;
	if (mprotect(page, 4096, PROT_READ | PROT_WRITE))
		return 17;
	memcpy(page, (void *)whole->l_addr, 4096);
	if (!is_half_seen())
		return 19;
	if (!is_control("whole"))
		debug->r_state = RT_ADD;
	if (is_half_seen() || listed("plug") != 1)
		return 20;
	debug->r_state = RT_DELETE;
	return is_half_seen() || listed("plug") != 1 ? 21 : trace_all();
}

/* ------------------------------------------------------------------------ the rows */

/* @fn in a copy that is made while a thread is held in @held, if that is not NULL. */
static int status_of(enum copy_way how, void *(*held)(void *), int (*fn)(void))
{
	pthread_t thread;
	void *went = NULL;
	pid_t pid;
	int status;

	is_held = may_go = fork_begins = false;
	if (held && pthread_create(&thread, NULL, held, &went))
		return -1;
	while (held && !is_held)
		sched_yield();
	fork_begins = true;
	pid = make_copy(how);
	may_go = true; /* in the copy, too */
	if (!pid)
		_exit(fn());
	may_go = false;
	status = status_in_time(pid, patience());
	may_go = true;
	if (held)
		pthread_join(thread, &went);
	return status ? status : held && !went ? -2 : 0;
}

int main(int argc, char **argv)
{
	static struct {
		void *(*held)(void *);
		int (*fn)(void);
		const char *name;
	} rows[] = {
		{in_callback, in_copy, "a thread in its own dl_iterate_phdr()"},
		{in_callback, with_own_thread, "the same, two threads of the copy"},
		{before_load, in_copy, "a thread at the begin of dlopen()"},
		{behind_load, in_copy, "a thread in dlopen(), behind mapping"},
		{in_unload, in_copy, "a thread in dlclose()"},
		{in_unmapping, behind_unmapping, "a thread in dlclose(), behind unmapping"},
		{NULL, while_it_loads, "a thread of the copy loads and unloads"},
		{NULL, with_half_module, "a module that is half there"},
	};
	struct r_debug *debug = find_debug();
	size_t left;
	int status;

	if (argc < 2 || !debug)
		return EXIT_FAILURE;
	plugin = argv[1];
	ok(!shunt_entries_restore(&left) && !shunt_traced_modules,
	   "before anything is traced no module is looked at to restore it");
	debug->r_state = RT_DELETE;
	for (enum copy_way how = BY_FORK; how <= BY_SYSTEM_CALL; how++) {
		status = status_of(how, NULL, trace_all);
		ok(!status, "%s, the first look of all: a thread in dlclose() (%d)", copy_ways[how],
		   status);
	}
	debug->r_state = RT_CONSISTENT;
	status = status_of(BY_FORK, in_callback, in_copy);
	ok(!status, "fork(), the first look of all: a thread in its own dl_iterate_phdr() (%d)",
	   status);
	ok(!trace_all() && listed("traced") == 1, "the process traces");
	for (enum copy_way how = BY_FORK; how <= BY_SYSTEM_CALL; how++)
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			status = status_of(how, rows[i].held, rows[i].fn);
			ok(!status, "%s: %s (%d)", copy_ways[how], rows[i].name, status);
		}
	status = status_of(BY_FORK, in_other_namespace, loads);
	ok(!status, "fork(): a thread in dlmopen(): the copy loads (%d)", status);
	/* It waits for two seconds at most, in which an emulated machine may get nowhere. */
	for (int tries = is_emulated() ? 3 : 1; tries > 0; tries--) {
		status = status_of(BY_FORK, in_walk, walks_itself);
		tries = status ? tries : 0;
	}
	ok(!status, "fork() waits for libshunt's own walk (%d)", status);
	ok(!trace_all(), "and the parent goes on");
	return tap_done();
}
