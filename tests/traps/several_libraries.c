/* SPDX-License-Identifier: MIT */
/*
 * More than one libshunt in a process: plugins that were linked with libshunt.a, in this
 * namespace and in another. All update by int3, in any order and again and again; traps of
 * each must come to it, and the program's own to its handler, once. And one that is
 * unloaded: what it leaves must not lead into it.
 *
 *	test_traps_copies PLUGIN PLUGIN UNPINNED PLUGIN CHAINED
 *
 * Controls: the copies do not know each other's handlers, and do not know a trap that has
 * come round; one does not keep itself for the sake of what it has registered; one that is unloaded
 * leaves the others as they are, or does not wait for who is on the way from it to another handler.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "../common/idle_thread.h"
#include "key.h"
#include "linux/trap/sigtrap.h"
#include "linux/trap/trap_chain.h"
#include "rows.h"

static const char *paths[5];
static bool forgets, is_strict;

bool __real_shunt_trap_next(ucontext_t *uc, unsigned entry, struct shunt_action *next);
bool __wrap_shunt_trap_next(ucontext_t *uc, unsigned entry, struct shunt_action *next);
bool __wrap_shunt_trap_next(ucontext_t *uc, unsigned entry, struct shunt_action *next)
{
	if (forgets)
		uc->uc_link = NULL;
	if (is_strict && uc->uc_mcontext.__reserved1[6]) /* four have been here */
		return false;
	return __real_shunt_trap_next(uc, entry, next);
}

bool __real_shunt_trap_reaches_us(uintptr_t handler, bool *others);
bool __wrap_shunt_trap_reaches_us(uintptr_t handler, bool *others);
bool __wrap_shunt_trap_reaches_us(uintptr_t handler, bool *others)
{
	if (forgets)
		return shunt_trap_entry_of(handler) >= 0;
	return __real_shunt_trap_reaches_us(handler, others);
}

/* The program's own. */
static KEEP void breakpoint(void)
{
	__asm__ volatile("int3\n.globl after_breakpoint\nafter_breakpoint:" ::: "memory");
}
extern const char after_breakpoint[];

/* ------------------------------------------------------------------------ copies */

struct copy {
	void *handle;
	int (*call)(void), (*set)(int), (*policy)(int);
	int (*point)(int (*function)(void));
	void (*take)(void);
	void (*log)(void (*)(const char *, void *));
};

static void find(const struct copy *copy, const char *name, void *function)
{
	void *symbol = dlsym(copy->handle, name);

	must(symbol != NULL);
	memcpy(function, &symbol, sizeof(symbol));
}

static struct copy load(int i, Lmid_t space)
{
	struct copy copy = {.handle = dlmopen(space, paths[i], RTLD_NOW | RTLD_LOCAL)};

	if (!copy.handle)
		_exit(SKIPPED);
	find(&copy, "plugin_call", &copy.call);
	find(&copy, "plugin_set", &copy.set);
	find(&copy, "plugin_policy", &copy.policy);
	find(&copy, "plugin_log", &copy.log);
	find(&copy, "plugin_take", &copy.take);
	find(&copy, "plugin_point", &copy.point);
	return copy;
}

static void update_own(int new)
{
	must(!static_call_update(key, new ? new_function : old_function));
	must(go() == 1 + new);
}

static void update(const struct copy *copy, int new)
{
	must(!copy->set(new));
	must(copy->call() == 1 + new);
}

static struct sigaction before;
static _Atomic unsigned late;

/*
 * It may be called for one of ours too, and passes it on: that of a thread which has trapped, and
 * whose handler begins when the update is over and this has been installed.
 */
static void report(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;

	if (uc->uc_mcontext.gregs[REG_RIP] == (greg_t)(uintptr_t)after_breakpoint)
		counts->first++;
	else
		late++;
	if (before.sa_flags & SA_SIGINFO && before.sa_sigaction)
		before.sa_sigaction(sig, info, context);
}

static void count(int sig)
{
	(void)sig;
	counts->second++;
}

static void install(void)
{
	struct sigaction act = {.sa_sigaction = report, .sa_flags = SA_SIGINFO};

	must(!sigaction(SIGTRAP, &act, &before));
}

/* ------------------------------------------------------------------------- calls */

static _Atomic bool over;
static struct copy called[2];

static void *call_all(void *arg)
{
	while (!over) {
		int a = called[0].call(), b = called[1].call(), c = go();

		must((a == 1 || a == 2) && (b == 1 || b == 2) && (c == 1 || c == 2));
	}
	return arg;
}

static void all_at_once(Lmid_t space)
{
	pthread_t thread;

	must(!shunt_set_poke(SHUNT_POKE_INT3));
	called[0] = load(0, LM_ID_BASE);
	called[1] = load(1, space);
	must(!called[0].policy(SHUNT_POKE_INT3) && !called[1].policy(SHUNT_POKE_INT3));
	must(!pthread_create(&thread, NULL, call_all, NULL));
	for (int i = 0; i < 800; i++) {
		update(&called[i % 2], i / 2 % 2);
		update_own(i % 2);
		update(&called[1 - i % 2], i / 2 % 2);
		if (i % 40 == 39 && i < 400)
			install();
	}
	over = true;
	must(!pthread_join(thread, NULL));
	breakpoint();
}

static void in_one_namespace(void)
{
	all_at_once(LM_ID_BASE);
}

static void in_two_namespaces(void)
{
	all_at_once(LM_ID_NEWLM);
}

/* The default action, behind three of them and a handler between. */
static void handler_between(void)
{
	struct copy a = load(0, LM_ID_BASE), b = load(1, LM_ID_BASE);

	must(!a.policy(SHUNT_POKE_INT3) && !b.policy(SHUNT_POKE_INT3));
	for (int i = 0; i < 50; i++) {
		update(&a, i % 2);
		install();
		update(&b, i % 2);
	}
	breakpoint();
}

static void handler_between_forgotten(void)
{
	must(!shunt_set_poke(SHUNT_POKE_INT3));
	forgets = true;
	for (int i = 0; i < 50; i++) {
		update_own(i % 2);
		install();
	}
	update_own(1);
	breakpoint();
}

/* More than there is room for in a signal frame: this one is the last that is asked. */
static void many(void)
{
	struct copy copies[6];

	install();
	must(!shunt_set_poke(SHUNT_POKE_INT3));
	for (int i = 0; i < 6; i++) {
		copies[i] = load(0, LM_ID_NEWLM);
		must(!copies[i].policy(SHUNT_POKE_INT3));
	}
	called[0] = copies[0];
	called[1] = copies[5];
	must(!pthread_create(&(pthread_t){0}, NULL, call_all, NULL));
	for (int i = 0; i < 240; i++) {
		update(&copies[i % 6], i / 6 % 2);
		update_own(i % 2);
	}
	breakpoint();
}

static void many_strict(void)
{
	is_strict = true;
	many();
}

/* ------------------------------------------------------------------------ message */

static void note(const char *message, void *arg)
{
	(void)arg;
	if (strstr(message, "another libshunt"))
		counts->first++;
}

/* Stderr of the copy that comes second, and what it tells the program when it updates. */
static void is_told(void)
{
	int ends[2];
	char text[512] = "";
	struct copy copy;

	must(!pipe(ends) && dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
	copy = load(0, LM_ID_BASE);
	must(read(ends[0], text, sizeof(text) - 1) > 0);
	copy.log(note); /* is told the same, which was kept for it */
	must(!copy.policy(SHUNT_POKE_INT3) && !shunt_set_poke(SHUNT_POKE_INT3));
	update_own(1);
	update(&copy, 1);
	update(&copy, 0);
}

static void is_told_of_namespace(void)
{
	struct copy copy = load(0, LM_ID_NEWLM);

	shunt_set_log(note, NULL);
	copy.log(note);
	must(!copy.policy(SHUNT_POKE_INT3));
	update(&copy, 1);
	must(!shunt_set_poke(SHUNT_POKE_INT3));
	update_own(1);
	update_own(0);
}

/* ----------------------------------------------------------------------- unloading */

static int count_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/*
 * With a thread beside it, `auto` does not go alone; @policy -1: as it is. Where the plugin is not
 * pinned it leaves no descriptor behind.
 */
static void load_and_unload(int policy, bool with_thread)
{
	int at_first = count_descriptors();
	pthread_t thread;

	if (with_thread)
		must(!pthread_create(&thread, NULL, idle, NULL));
	for (int i = 0; i < 3; i++) {
		struct copy copy = load(i % 2, LM_ID_BASE);

		must(policy < 0 || !copy.policy(policy));
		update(&copy, 1);
		update(&copy, 0);
		must(!dlclose(copy.handle));
		must(policy != SHUNT_POKE_AUTO || count_descriptors() == at_first);
	}
}

static void default_after(void)
{
	load_and_unload(SHUNT_POKE_INT3, true);
	(void)raise(SIGTRAP);
}

static void handler_after(void)
{
	must(signal(SIGTRAP, count) != SIG_ERR);
	load_and_unload(SHUNT_POKE_INT3, false);
	(void)raise(SIGTRAP);
	breakpoint();
}

/* Somebody has its address. */
static void chained_after(void)
{
	struct copy copy = load(0, LM_ID_BASE);

	must(!copy.policy(SHUNT_POKE_INT3));
	update(&copy, 1);
	install();
	must(!dlclose(copy.handle));
	breakpoint();
}

/* Nothing is pinned under that policy: what it had to take is given back. */
static void auto_after_int3(void)
{
	struct sigaction now;
	struct copy copy;

	must(signal(SIGTRAP, count) != SIG_ERR);
	copy = load(0, LM_ID_BASE);
	update(&copy, 1);
	copy.take();
	must(!sigaction(SIGTRAP, NULL, &now) && now.sa_handler != count);
	must(!dlclose(copy.handle) && !dlopen(paths[0], RTLD_NOW | RTLD_NOLOAD));
	must(!sigaction(SIGTRAP, NULL, &now) && now.sa_handler == count);
	(void)raise(SIGTRAP);
	breakpoint();
}

/* It wants to be told when the module goes that its key points into. */
static void go_before_target(int i)
{
	struct copy copy = load(i, LM_ID_BASE);
	void *module = dlopen("libm.so.6", RTLD_NOW), *found;
	int (*function)(void);

	found = module ? dlsym(module, "fegetround") : NULL;
	memcpy(&function, &found, sizeof(function));
	must(function && !copy.point(function) && copy.call() == function());
	must(!dlclose(copy.handle) && !dlclose(module));
	exit(0); /* with all handlers */
}

static void target_after(void)
{
	go_before_target(0);
}

static void target_after_unpinned(void)
{
	go_before_target(2);
}

/* What it had registered for exit() is not run. */
static void exit_after(void)
{
	struct copy copy = load(0, LM_ID_BASE);

	update(&copy, 1);
	must(!dlclose(copy.handle) && !dlopen(paths[0], RTLD_NOW | RTLD_NOLOAD));
	exit(0);
}

static void auto_after(void)
{
	load_and_unload(SHUNT_POKE_AUTO, true);
	if (!fork())
		_exit(0);
	(void)wait(NULL);
	(void)raise(SIGTRAP);
}

/* -------------------------------------------------------------- unloaded in each order */

/* Where the program's handler comes: put on before all, after the first, after all; or taken off.
 */
enum where { NOWHERE, BEFORE, BETWEEN, BEHIND, TAKEN_OFF, NR_WHERE };

static struct sigaction under;

static void put_on(void)
{
	struct sigaction act = {.sa_handler = count, .sa_flags = SA_NODEFER};

	must(!sigaction(SIGTRAP, &act, &under));
}

/* A breakpoint, and a SIGTRAP that is sent: to the handler, once each; or they kill. */
static void trap_twice(bool handled)
{
	unsigned was = counts->second;

	for (int sent = 0; sent < 2; sent++) {
		int status = -1;
		pid_t child = fork();

		if (!child) {
			if (sent)
				(void)raise(SIGTRAP);
			else
				breakpoint();
			_exit(0);
		}
		must(child > 0 && waitpid(child, &status, 0) == child);
		must(handled ? !status : WIFSIGNALED(status) && WTERMSIG(status) == SIGTRAP);
	}
	must(counts->second == was + (handled ? 2 : 0));
}

static struct copy loaded[3];
static const int orders[6][3] = {{0, 1, 2}, {1, 0, 2}, {0, 2, 1}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
static int third = 3; /* the path of the last one */

static void one_order(int n, const int *take, const int *leave, enum where where, Lmid_t space)
{
	for (int i = 0; i < n; i++) {
		int path = i == n - 1 ? third : i;

		loaded[i] = load(path, i == n - 1 ? space : LM_ID_BASE);
	}
	if (where == BEFORE)
		put_on();
	for (int i = 0; i < n; i++) {
		update(&loaded[take[i]], 1);
		loaded[take[i]].take();
		if (where == BETWEEN && !i)
			put_on();
	}
	if (where == BEHIND || where == TAKEN_OFF)
		put_on();
	for (int i = 0; i < n; i++) {
		must(!dlclose(loaded[leave[i]].handle));
		if (where == TAKEN_OFF && !i && leave[0] != take[n - 1])
			must(!sigaction(SIGTRAP, &under, NULL));
		trap_twice(where != NOWHERE && (where != TAKEN_OFF || leave[0] == take[n - 1]));
		for (int k = i + 1; k < n; k++)
			update(&loaded[leave[k]], i % 2);
	}
}

static int part = 1; /* of three in each order only every part-th */

static void each_order(int n, int nr_orders, Lmid_t space)
{
	int nth = 0;

	for (int take = 0; take < nr_orders; take++)
		for (int leave = 0; leave < nr_orders; leave++)
			for (int where = NOWHERE; where < NR_WHERE; where++) {
				int status = -1;
				pid_t child;

				if (n == 3 && nth++ % part)
					continue;
				/* A handler of a namespace's is not found behind the program's. */
				if (where == TAKEN_OFF && space != LM_ID_BASE)
					continue;
				child = fork();
				if (!child) {
					one_order(n, orders[take], orders[leave], (enum where)where,
						  space);
					_exit(0);
				}
				must(child > 0 && waitpid(child, &status, 0) == child);
				if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
					_exit(SKIPPED);
				if (status)
					diag("order %d, %d, handler %d: %x", take, leave, where,
					     (unsigned)status);
				must(!status);
			}
	counts->second = 0;
}

static void two_in_each_order(void)
{
	each_order(2, 2, LM_ID_BASE);
}

static void three_in_each_order(void)
{
	each_order(3, 6, LM_ID_BASE);
}

static void three_in_two_namespaces(void)
{
	each_order(3, 6, LM_ID_NEWLM);
}

static void two_unchained(void)
{
	third = 4;
	two_in_each_order();
}

static _Atomic unsigned long trapped;

static void *keep_trapping(void *arg)
{
	while (!over) {
		breakpoint();
		trapped++;
	}
	return arg;
}

/* With what the handler behind them was to have: a mask, and being put off once. */
static void under_traps(void)
{
	pthread_t thread;

	must(signal(SIGTRAP, count) != SIG_ERR);
	must(!pthread_create(&thread, NULL, keep_trapping, NULL));
	for (int i = 0; i < 40; i++) {
		for (int k = 0; k < 2; k++) {
			loaded[k] = load(k, LM_ID_BASE);
			loaded[k].take();
		}
		must(!dlclose(loaded[i % 2].handle) && !dlclose(loaded[1 - i % 2].handle));
	}
	over = true;
	must(!pthread_join(thread, NULL) && counts->second == trapped);
	counts->second = 0;
}

static _Atomic bool has_entered, is_gone;

static void stay(int sig)
{
	has_entered = true;
	for (int i = 0; !is_gone && i < 1000000; i++)
		(void)sched_yield();
	count(sig);
}

static void *trap_once(void *arg)
{
	breakpoint();
	return arg;
}

/* The program's handler, which the entry of one has passed a trap on to, returns when that is gone.
 */
static void under_handler(void)
{
	pthread_t thread;

	must(signal(SIGTRAP, stay) != SIG_ERR);
	for (int k = 0; k < 2; k++) {
		loaded[k] = load(k, LM_ID_BASE);
		loaded[k].take();
	}
	must(!pthread_create(&thread, NULL, trap_once, NULL));
	while (!has_entered)
		(void)sched_yield();
	must(!dlclose(loaded[1].handle) && !dlclose(loaded[0].handle));
	must(!dlopen(paths[0], RTLD_NOW | RTLD_NOLOAD) &&
	     !dlopen(paths[1], RTLD_NOW | RTLD_NOLOAD));
	is_gone = true;
	must(!pthread_join(thread, NULL));
}

static pthread_t trapping;
static const void *plugin;
static _Atomic bool is_met;

/* A signal that is let in where a trap is passed on finds the thread still in a plugin's code. */
static void stay_in_plugin(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	Dl_info found;

	(void)sig, (void)info;
	if (is_met || !dladdr((void *)uc->uc_mcontext.gregs[REG_RIP], &found) ||
	    found.dli_fbase != plugin)
		return;
	is_met = true;
	for (int i = 0; !is_gone && i < 20000; i++)
		(void)sched_yield();
}

static void signal_on_the_way(int which)
{
	struct sigaction act = {.sa_sigaction = stay_in_plugin, .sa_flags = SA_SIGINFO};
	Dl_info found;
	void *symbol;

	must(signal(SIGTRAP, count) != SIG_ERR && !sigaction(SIGUSR1, &act, NULL));
	loaded[0] = load(which, LM_ID_BASE);
	symbol = dlsym(loaded[0].handle, "plugin_take");
	must(symbol && dladdr(symbol, &found));
	plugin = found.dli_fbase;
	loaded[0].take();
	must(!pthread_create(&trapping, NULL, keep_trapping, NULL));
	while (!is_met)
		must(!pthread_kill(trapping, SIGUSR1));
	must(!dlclose(loaded[0].handle));
	must(!dlopen(paths[which], RTLD_NOW | RTLD_NOLOAD));
	is_gone = over = true;
	must(!pthread_join(trapping, NULL) && counts->second == trapped);
	counts->second = 0;
}

static void under_signal(void)
{
	signal_on_the_way(0);
}

static void under_signal_unawaited(void)
{
	signal_on_the_way(2);
}

/* The mask and flags of an action come with it. */
static void action_moves(void)
{
	struct sigaction act = {.sa_handler = count, .sa_flags = (int)SA_RESETHAND};

	must(!sigaction(SIGTRAP, &act, NULL));
	for (int k = 0; k < 2; k++) {
		loaded[k] = load(k, LM_ID_BASE);
		loaded[k].take();
	}
	must(!dlclose(loaded[0].handle));
	breakpoint();
	breakpoint();
}

static const struct row rows[] = {
	{"three in one namespace", in_one_namespace, SIGTRAP, 1, 0, false},
	{"one in a namespace of its own", in_two_namespaces, SIGTRAP, 1, 0, false},
	{"a handler between each of their updates", handler_between, SIGTRAP, 1, 0, false},
	{"seven, six of them in namespaces", many, 0, 1, 0, false},
	{"only four are asked", many_strict, 0, 1, 0, true},
	{"a second one is told of", is_told, 0, 1, 0, false},
	{"one in another namespace is told of", is_told_of_namespace, 0, 1, 0, false},
	{"unloaded: the default action", default_after, SIGTRAP, 0, 0, false},
	{"unloaded: the program's handler", handler_after, 0, 0, 2, false},
	{"unloaded: a handler that goes on with it", chained_after, SIGTRAP, 1, 0, false},
	{"unloaded: by auto", auto_after, SIGTRAP, 0, 0, false},
	{"unloaded: by auto that came to int3", auto_after_int3, 0, 0, 2, false},
	{"unloaded: before the module of a target", target_after, 0, 0, 0, false},
	{"unloaded: and exit()", exit_after, 0, 0, 0, false},
	{"unloaded: two, in each order", two_in_each_order, 0, 0, 0, false},
	{"unloaded: three, in each order", three_in_each_order, 0, 0, 0, false},
	{"unloaded: one of a namespace, in each order", three_in_two_namespaces, 0, 0, 0, false},
	{"unloaded: while a thread traps", under_traps, 0, 0, 0, false},
	{"unloaded: while a thread is in the program's handler", under_handler, 0, 0, 1, false},
	{"unloaded: while a thread is on the way there", under_signal, 0, 0, 0, false},
	{"unloaded: an action for once", action_moves, SIGTRAP, 0, 1, false},
	{"unloaded in each order, out of no chain", two_unchained, 0, 0, 0, true},
	{"unloaded: on the way there, not waited for", under_signal_unawaited, 0, 0, 0, true},
	{"unloaded before the module of a target", target_after_unpinned, 0, 0, 0, true},
	{"they do not know each other", handler_between_forgotten, SIGTRAP, 1, 0, true},
};

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--some")) {
		part = 7; /* prime to the numbers of orders and handlers: each of these comes */
		argv++;
		argc--;
	}
	if (argc < 6)
		return 2;
	for (int i = 0; i < 5; i++)
		paths[i] = argv[1 + i];
	return run_rows(rows, sizeof(rows) / sizeof(rows[0]));
}
