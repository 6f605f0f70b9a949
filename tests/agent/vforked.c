/* SPDX-License-Identifier: MIT */
/*
 * A child of vfork(), or of clone() with CLONE_VM, runs in its parent's memory, and is none of its
 * threads. What changes tracing, records, or starts and stops the agent is refused there (-EPERM),
 * and changes nothing: with other threads and without, as the first call of all, in a child of a
 * copy that no handler of fork() has seen, and while a thread of the parent has the locks. What
 * updates keys is not.
 *
 * *Control:* SHUNT_CONTROL (the linker's --wrap): the child is taken for the process itself.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <shunt/control.h>
#include <shunt/ftrace.h>
#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/trace.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "../common/one_two.h"
#include "linux/base/base.h"

#define TRACED __attribute__((noinline, patchable_function_entry(5)))

bool __real_shunt_is_in_others_memory(void);
bool __wrap_shunt_is_in_others_memory(void);
bool __wrap_shunt_is_in_others_memory(void)
{
	return !getenv("SHUNT_CONTROL") && __real_shunt_is_in_others_memory();
}

int __real_shunt_look_whose_memory(void);
int __wrap_shunt_look_whose_memory(void);
int __wrap_shunt_look_whose_memory(void)
{
	return getenv("SHUNT_CONTROL") ? 0 : __real_shunt_look_whose_memory();
}

static _Atomic bool holds, is_held, may_go;

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void)
{
	if (atomic_exchange(&holds, false)) {
		is_held = true;
		while (!may_go)
			sched_yield();
	}
	return __real_shunt_port_core_sync();
}

/* ---------------------------------------------------------------------- what is called */

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

static int on_entry(struct ftrace_graph_ent *trace, struct fgraph_ops *gops,
		    struct ftrace_regs *regs)
{
	(void)trace;
	(void)gops;
	(void)regs;
	calls++;
	return 0;
}

static struct ftrace_ops parents = {.func = count}, childs = {.func = count};
static struct fgraph_ops graph = {.entryfunc = on_entry}, parents_graph = {.entryfunc = on_entry};

long traced(long n);
TRACED long traced(long n)
{
	__asm__ volatile("" : "+r"(n));
	return n + 1;
}

DEFINE_STATIC_CALL(call, one);
DEFINE_STATIC_KEY_FALSE(key);

static int see(const struct shunt_function_info *info, void *arg)
{
	(void)info;
	(void)arg;
	return 0;
}

static int register_it(void)
{
	return register_ftrace_function(&childs);
}

static int unregister_it(void)
{
	return unregister_ftrace_function(&parents);
}

static int register_graph(void)
{
	return register_ftrace_graph(&graph);
}

static int unregister_graph(void)
{
	return unregister_ftrace_graph(&parents_graph);
}

static int set_filter(void)
{
	return ftrace_set_filter(&parents, "main", 0, 1);
}

static int set_notrace(void)
{
	return ftrace_set_notrace(&parents, "traced", 0, 1);
}

static int set_address(void)
{
	return ftrace_set_filter_ip(&parents, (unsigned long)(uintptr_t)traced, 0, 1);
}

static int list(void)
{
	return shunt_for_each_function(see, NULL);
}

static int start(void)
{
	return shunt_trace_start(
		&(struct shunt_trace_options){.path = "/dev/null", .filter = "traced"});
}

static int stop(void)
{
	return shunt_trace_stop();
}

static int save(void)
{
	return shunt_trace_save("/dev/null");
}

static int start_agent(void)
{
	return shunt_agent_start();
}

static int stop_agent(void)
{
	return shunt_agent_stop();
}

static int update(void)
{
	return static_call_update(call, two) || static_call_update(call, one);
}

static int enable(void)
{
	return static_branch_enable(&key) || static_branch_disable(&key);
}

/* ------------------------------------------------------------------------ the child */

static int (*volatile called)(void);
static volatile int result;

static void call_it(void)
{
	result = called();
}

static int run(void *arg)
{
	(void)arg;
	call_it();
	_exit(0);
}

static int by_vfork(int (*fn)(void))
{
	pid_t pid;

	called = fn;
	result = 1000;
	pid = vfork();
	if (!pid) {
		call_it();
		_exit(0);
	}
	return child_status(pid) ? 2000 : result;
}

static int by_clone(int (*fn)(void))
{
	static char stack[1 << 18] __attribute__((aligned(16)));
	pid_t pid;

	called = fn;
	result = 1000;
	pid = clone(run, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	return child_status(pid) ? 2000 : result;
}

static bool is_traced_once(void)
{
	calls = 0;
	return traced(1) == 2 && calls == 1;
}

static const struct {
	const char *name;
	int (*fn)(void);
	int result;
} rows[] = {
	{"register", register_it, -EPERM},
	{"unregister", unregister_it, -EPERM},
	{"register of returns", register_graph, -EPERM},
	{"unregister of returns", unregister_graph, -EPERM},
	{"ftrace_set_filter()", set_filter, -EPERM},
	{"ftrace_set_notrace()", set_notrace, -EPERM},
	{"ftrace_set_filter_ip()", set_address, -EPERM},
	{"shunt_for_each_function()", list, -EPERM},
	{"shunt_trace_start()", start, -EPERM},
	{"shunt_trace_save()", save, -EPERM},
	{"shunt_trace_stop()", stop, -EPERM},
	{"shunt_agent_stop()", stop_agent, -EPERM},
	{"shunt_agent_start()", start_agent, -EPERM},
	{"static_call_update()", update, 0},
	{"static_branch_enable()", enable, 0},
};

static void all(const char *what, int (*in)(int (*)(void)))
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int ret = in(rows[i].fn);

		ok(ret == rows[i].result && is_traced_once(), "%s: %s (%d)", what, rows[i].name,
		   ret);
		if (ret == 1000 || getenv("SHUNT_CONTROL"))
			return; /* a control leaves what nobody can go on with */
	}
}

static void *register_slowly(void *arg)
{
	static struct ftrace_ops ops = {.func = count};

	holds = true;
	*(int *)arg = register_ftrace_function(&ops) || unregister_ftrace_function(&ops);
	return NULL;
}

/* In a copy that is made by a bare system call, whose first change its child of vfork() makes. */
static int in_copy(void)
{
	(void)alarm(30);
	if (by_vfork(unregister_it) != -EPERM || by_vfork(list) != -EPERM ||
	    by_vfork(start_agent) != -EPERM || by_vfork(stop) != -EPERM)
		return 1;
	return is_traced_once() && !unregister_it() && !register_it() && is_traced_once() ? 0 : 2;
}

static bool in_bare_copy(void)
{
	long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!pid)
		_exit(in_copy());
	return child_status((pid_t)pid) == 0;
}

int main(void)
{
	pthread_t thread;
	int ret = 1;

	(void)alarm(100);
	shunt_set_log(NULL, NULL);
	ret = by_vfork(register_it);
	calls = 0;
	ok(ret == -EPERM && traced(1) == 2 && !calls, "the first call of all: register (%d)", ret);
	if (ftrace_set_filter(&childs, "traced", 0, 1) ||
	    ftrace_set_filter(&parents, "traced", 0, 1) || register_ftrace_function(&parents))
		return EXIT_FAILURE;
	all("vfork()", by_vfork);
	all("clone(CLONE_VM)", by_clone);
	ok(in_bare_copy(), "a bare copy: its child's are refused, its own are not");
	if (getenv("SHUNT_CONTROL"))
		return tap_done();
	if (pthread_create(&thread, NULL, register_slowly, &ret))
		return EXIT_FAILURE;
	while (!is_held)
		sched_yield();
	for (size_t i = 0; i < 9; i++) {
		int in = by_vfork(rows[i].fn);

		ok(in == -EPERM, "while a thread of the parent changes: %s (%d)", rows[i].name, in);
	}
	may_go = true;
	pthread_join(thread, NULL);
	ok(!ret && is_traced_once(), "which goes on");
	all("vfork(), with a thread", by_vfork);
	ok(!start() && by_vfork(stop) == -EPERM, "a session goes on");
	ok(!shunt_trace_stop(), "and its process stops it");
	return tap_done();
}
