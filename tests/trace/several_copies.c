/* SPDX-License-Identifier: MIT */
/*
 * Several libshunts that trace, of this program and of plugins (plugin_copy.c): each is told of
 * modules that come and go, in whichever order they begin and stop; and one that is not says so.
 *
 *	trace_several_copies PLUGIN SECOND DEPENDENT MODULE UNPINNED
 *
 * Controls: SHUNT_CONTROL=unknown: the libshunt of this program does not know the hook of another;
 * silent: it does not say either that it is not told; unlocked: it changes the text of the dynamic
 * linker while others do, and does not look again; unawaited: it begins while a module is unmapped.
 */
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>

#include "../common/thread_state.h"
#include "linux/entry/entries.h"
#include "linux/entry/modules.h"
#include "plugin_copies.h"

uintptr_t __real_shunt_replaced_function(uintptr_t func, uintptr_t start, uintptr_t end, size_t i);
uintptr_t __wrap_shunt_replaced_function(uintptr_t func, uintptr_t start, uintptr_t end, size_t i);
uintptr_t __wrap_shunt_replaced_function(uintptr_t func, uintptr_t start, uintptr_t end, size_t i)
{
	return is_control("unknown") ? 0 : __real_shunt_replaced_function(func, start, end, i);
}

bool __real_shunt_notice_untold(char *text, size_t size);
bool __wrap_shunt_notice_untold(char *text, size_t size);
bool __wrap_shunt_notice_untold(char *text, size_t size)
{
	return !is_control("silent") && __real_shunt_notice_untold(text, size);
}

/* Of the hook alone: the lock under which copies change the dynamic linker's text. */
static bool is_hooking;

int __real_dl_iterate_phdr(int (*fn)(struct dl_phdr_info *info, size_t size, void *arg), void *arg);
int __wrap_dl_iterate_phdr(int (*fn)(struct dl_phdr_info *info, size_t size, void *arg), void *arg);
int __wrap_dl_iterate_phdr(int (*fn)(struct dl_phdr_info *info, size_t size, void *arg), void *arg)
{
	bool is_hook = is_hooking;

	is_hooking = false;
	return is_hook ? fn(NULL, 0, arg) : __real_dl_iterate_phdr(fn, arg);
}

static void behind_hook(void);

enum shunt_notice_place __real_shunt_notice_hook(uintptr_t brk, int *error);
enum shunt_notice_place __wrap_shunt_notice_hook(uintptr_t brk, int *error);
enum shunt_notice_place __wrap_shunt_notice_hook(uintptr_t brk, int *error)
{
	enum shunt_notice_place place;

	is_hooking = is_control("unlocked");
	place = __real_shunt_notice_hook(brk, error);
	behind_hook();
	return place;
}

static void meanwhile(void);

size_t __real_shunt_empty_function_sites(uintptr_t func, uintptr_t start, uintptr_t end,
					 uintptr_t *sites, size_t max, uint8_t *op);
size_t __wrap_shunt_empty_function_sites(uintptr_t func, uintptr_t start, uintptr_t end,
					 uintptr_t *sites, size_t max, uint8_t *op);
size_t __wrap_shunt_empty_function_sites(uintptr_t func, uintptr_t start, uintptr_t end,
					 uintptr_t *sites, size_t max, uint8_t *op)
{
	static size_t before;
	size_t n = __real_shunt_empty_function_sites(func, start, end, sites, max, op);

	/* It looks once more before it pokes, which the lock makes needless. */
	if (!n && is_control("unlocked"))
		n = before;
	before = n;
	meanwhile();
	return n;
}

/* -------------------------------------------------------------- several that trace */

static long calls, notices;

static void count(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
		  struct ftrace_regs *regs)
{
	(void)ip, (void)parent, (void)ops, (void)regs;
	calls++;
}

static struct ftrace_ops ops = {.func = count};

static void note(const char *message, void *arg)
{
	(void)arg;
	notices += strstr(message, "that are loaded later are traced only after") &&
		   strstr(message, "at 0x") && strstr(message, "is not empty");
}

/* The first plugin traces plug() of MODULE, the second plug_changed(), this program the others. */
static bool begin_own(void)
{
	void *handle = dlopen(module, RTLD_NOW | RTLD_LOCAL); /* a filter must match something */

	shunt_set_log(note, NULL);
	return handle && !ftrace_set_notrace(&ops, "plug", 0, 0) &&
	       !ftrace_set_notrace(&ops, "plug_c*", 0, 0) && !dlclose(handle) &&
	       !register_ftrace_function(&ops);
}

/* Locks are let go of in the reverse order, by which each gives back the mask that it found. */
static bool is_mask_empty(void)
{
	sigset_t mask;

	(void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
	for (int i = 1; i < 65; i++)
		if (sigismember(&mask, i) > 0)
			return false;
	return true;
}

/* MODULE comes and goes: @first and @second trace a function of it each, this program others. */
static bool told(const struct copy *first, long a, const struct copy *second, long b, bool own)
{
	int (*plug)(int), (*changed)(int);
	void *handle = dlopen(module, RTLD_NOW | RTLD_LOCAL);
	bool good;

	if (!handle)
		return false;
	(void)first->calls();
	(void)second->calls();
	calls = 0;
	find(handle, "plug", &plug);
	find(handle, "plug_changed", &changed);
	(void)plug(1);
	(void)changed(1);
	good = first->calls() == a && second->calls() == b;
	good = !dlclose(handle) && good && (calls > 0) == own && is_mask_empty();
	return good && !is_mapped(module);
}

static struct copy pair[2];

static void load_pair(void)
{
	pair[0] = load();
	pair[1] = load_in(LM_ID_BASE, second_path);
}

static bool begin(int i)
{
	void *handle = dlopen(module, RTLD_NOW | RTLD_LOCAL);

	return handle && !pair[i].filter(i ? "plug_changed" : "plug") && !dlclose(handle) &&
	       !pair[i].on(NULL);
}

static bool told_all(void)
{
	return told(&pair[0], 1, &pair[1], 1, true);
}

/* Who begins. */
static bool in_order(const int *order)
{
	bool good = true;

	load_pair();
	for (int i = 0; i < 3 && good; i++)
		good = order[i] < 2 ? begin(order[i]) : begin_own();
	return good && told_all() && told_all() && !notices;
}

static bool plugins_first(void)
{
	static const int order[] = {0, 1, 2};

	return in_order(order) && !pair[0].off() && told(&pair[0], 0, &pair[1], 1, true);
}

static bool program_first(void)
{
	static const int order[] = {2, 1, 0};

	return in_order(order) && !pair[0].off() && told(&pair[0], 0, &pair[1], 1, true);
}

static bool program_between(void)
{
	static const int order[] = {1, 2, 0};

	return in_order(order) && !unregister_ftrace_function(&ops) &&
	       told(&pair[0], 1, &pair[1], 1, false);
}

/* The first one stops, by which the others are told; and begins once more. One behind it, too. */
static bool stopped(void)
{
	static const int order[] = {0, 1, 2};

	if (!in_order(order))
		return false;
	for (int i = 0; i < 4; i++) {
		struct copy *c = &pair[i % 2];

		if (c->off() || c->restore() || !told(&pair[0], i % 2, &pair[1], !(i % 2), true) ||
		    c->on(NULL) || !told_all())
			return false;
	}
	return true;
}

static int sum_linker(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
		const unsigned char *text = (void *)(info->dlpi_addr + ph->p_vaddr);

		if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X) ||
		    _r_debug.r_brk - (uintptr_t)text >= ph->p_memsz)
			continue;
		for (size_t k = 0; k < ph->p_filesz; k++)
			*(unsigned long *)arg = *(unsigned long *)arg * 31 + text[k];
	}
	return 0;
}

static unsigned long linker_text(void)
{
	unsigned long sum = 0;

	(void)dl_iterate_phdr(sum_linker, &sum);
	return sum;
}

/* The only one gives the dynamic linker's text back, and takes it again. */
static bool stopped_alone(void)
{
	unsigned long before = linker_text();
	struct copy c = load();

	for (int i = 0; i < 3; i++)
		if (c.list() || linker_text() == before || c.restore() || linker_text() != before ||
		    !load_another())
			return false;
	return true;
}

/* This program has seen that the function is empty; then a plugin begins, or waits to. */
static bool is_raced;
static _Atomic pid_t racer, second;
static _Atomic bool has_ended;
static pthread_t racing;

static void *begin_meanwhile(void *arg)
{
	racer = gettid();
	if (pair[0].list())
		arg = NULL;
	has_ended = true;
	return arg;
}

static void meanwhile(void)
{
	if (!is_raced)
		return;
	is_raced = false;
	if (pthread_create(&racing, NULL, begin_meanwhile, &pair))
		_exit(5);
	while (!racer)
		(void)sched_yield();
	for (int looks = 0; !has_ended && looks < 2000; looks++) {
		if (!thread_sleeps(racer))
			looks = 0;
		(void)sched_yield();
	}
}

static bool one_by_one(void)
{
	void *good = NULL;

	load_pair();
	is_raced = true;
	return begin_own() && !is_raced && !pthread_join(racing, &good) && good && begin(0) &&
	       begin(1) && told_all() && !notices;
}

/* A thread is within an unload, of which a plugin has been told; this program had stopped. */
static _Atomic bool stops_unload, stands, may_unload, has_unloaded;

void shunt_on_notice(void);
void __real_shunt_on_notice(void);
void __wrap_shunt_on_notice(void);
void __wrap_shunt_on_notice(void)
{
	__real_shunt_on_notice();
	if (!stops_unload || !shunt_loader_is_deleting())
		return;
	stops_unload = false;
	stands = true;
	while (!may_unload)
		(void)sched_yield();
}

bool __real_shunt_loader_is_deleting(void);
bool __wrap_shunt_loader_is_deleting(void);
bool __wrap_shunt_loader_is_deleting(void)
{
	if (is_control("unawaited") && (racer == gettid() || second == gettid()))
		return false;
	return __real_shunt_loader_is_deleting();
}

static void *unload(void *handle)
{
	int ret = dlclose(handle);

	has_unloaded = true;
	return ret ? NULL : handle;
}

static void *begin_again(void *arg)
{
	racer = gettid();
	if (register_ftrace_function(&ops))
		arg = NULL;
	has_ended = true;
	return arg;
}

/* Another one that begins, when the first one waits already. */
static void *begin_second(void *arg)
{
	static struct ftrace_ops others = {.func = count};

	second = gettid();
	if (register_ftrace_function(&others) || unregister_ftrace_function(&others))
		arg = NULL;
	has_ended = true;
	return arg;
}

/* Well within the second that they wait, also where others have the CPU. */
static void look_while_asleep(const _Atomic pid_t *tid, int times)
{
	while (!*tid)
		(void)sched_yield();
	for (int looks = 0; !has_ended && looks < times;)
		looks += thread_sleeps(*tid);
}

static bool within_unload(void)
{
	void *handle, *good = NULL, *began = NULL, *too = NULL;
	pthread_t thread, beside;
	size_t left;
	bool waited;

	load_pair();
	handle = dlopen(module, RTLD_NOW | RTLD_LOCAL);
	if (!handle || !begin(0) || !begin_own() || unregister_ftrace_function(&ops) ||
	    shunt_entries_restore(&left))
		return false;
	stops_unload = true;
	(void)pthread_create(&thread, NULL, unload, handle);
	while (!stands && !has_unloaded) /* untold, in a control */
		(void)sched_yield();
	(void)pthread_create(&racing, NULL, begin_again, &pair);
	look_while_asleep(&racer, 50);
	(void)pthread_create(&beside, NULL, begin_second, &pair);
	look_while_asleep(&second, 50);
	waited = !has_ended;
	may_unload = true;
	(void)pthread_join(thread, &good);
	(void)pthread_join(racing, &began);
	(void)pthread_join(beside, &too);
	return waited && good && began && too && begin(1) && told_all();
}

/* Behind the hook, and before it is seen whether an unload has begun: one has, and waits. */
static void *unloaded_behind_hook;
static pthread_t unloading;

static void *unload_told(void *handle)
{
	second = gettid();
	return dlclose(handle) ? NULL : handle;
}

static void behind_hook(void)
{
	if (!unloaded_behind_hook)
		return;
	(void)pthread_create(&unloading, NULL, unload_told, unloaded_behind_hook);
	while (!second || !__real_shunt_loader_is_deleting() || !thread_sleeps(second))
		(void)sched_yield();
	unloaded_behind_hook = NULL;
}

static bool own_is_told(void)
{
	void *handle;

	calls = 0;
	handle = dlopen(module, RTLD_NOW | RTLD_LOCAL);
	return handle && !dlclose(handle) && calls > 0 && is_mask_empty() && !is_mapped(module);
}

/* It cannot end before this one has begun. */
static bool beside_told_unload(void)
{
	void *handle = dlopen(module, RTLD_NOW | RTLD_LOCAL), *good = NULL;

	unloaded_behind_hook = handle;
	return handle && !register_ftrace_function(&ops) && !pthread_join(unloading, &good) &&
	       good && own_is_told();
}

static bool beside_namespace(void)
{
	struct copy c = load_in(LM_ID_NEWLM, path);

	return traced_in_namespace(&c) && begin_own() && traced_in_namespace(&c) &&
	       told(&c, 0, &c, 0, true) && !notices;
}

/* While one thread loads and unloads, others register and unregister. */
static _Atomic bool over;

static void *load_on(void *arg)
{
	while (!over)
		if (!load_another())
			return NULL;
	return arg;
}

static bool under_loads(void)
{
	pthread_t thread;
	void *good = NULL;

	load_pair();
	if (!begin(0) || !begin(1) || pair[0].off() || pair[1].off() || !begin_own() ||
	    pthread_create(&thread, NULL, load_on, &pair))
		return false;
	for (int i = 0; i < 40; i++)
		for (int k = 0; k < 2; k++)
			if (pair[k].on(NULL) || pair[k].off() ||
			    (i % 4 == 3 && pair[k].restore() && pair[k].restore()))
				return false;
	over = true;
	return !pthread_join(thread, &good) && good && !pair[0].on(NULL) && !pair[1].on(NULL) &&
	       told_all();
}

/* ------------------------------------------------------------------ one that is not told */

static void step_over(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig, (void)info;
#ifdef __x86_64__
	uc->uc_mcontext.gregs[REG_RIP] = *(greg_t *)uc->uc_mcontext.gregs[REG_RSP];
	uc->uc_mcontext.gregs[REG_RSP] += 8;
#else
	uc->uc_mcontext.pc = uc->uc_mcontext.regs[30];
#endif
}

/* As a debugger has it, whose stop the program does not see. */
static bool put_breakpoint(void)
{
#ifdef __x86_64__
	static const unsigned char code[] = {0xcc};
#else
	static const unsigned char code[] = {0x00, 0x00, 0x20, 0xd4}; /* brk #0 */
#endif
	struct sigaction act = {.sa_sigaction = step_over, .sa_flags = SA_SIGINFO};
	const uintptr_t brk = _r_debug.r_brk, page = brk & ~(uintptr_t)4095;

	/* NOLINTBEGIN(performance-no-int-to-ptr) */
	if (sigaction(SIGTRAP, &act, NULL) ||
	    mprotect((void *)page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC))
		return false;
	memcpy((void *)brk, code, sizeof(code));
	__builtin___clear_cache((char *)brk, (char *)brk + sizeof(code));
	return !mprotect((void *)page, 8192, PROT_READ | PROT_EXEC);
	/* NOLINTEND(performance-no-int-to-ptr) */
}

/* It is said, once; and what is loaded is found by the next call. */
static bool untold(void)
{
	static struct ftrace_ops other = {.func = count};
	int (*plug)(int);
	void *handle;

	if (!put_breakpoint() || !begin_own() || register_ftrace_function(&other) || notices != 1)
		return false;
	handle = dlopen(module, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return false;
	find(handle, "plug", &plug);
	calls = 0;
	if (plug(1) != 2 || calls)
		return false;
	return !unregister_ftrace_function(&other) && !register_ftrace_function(&other) &&
	       plug(1) == 2 && calls == 1 && notices == 1;
}

/* A plugin's messages, when this program has no word of it. */
static bool untold_plugin(void)
{
	struct copy c = load();

	c.log(note);
	return put_breakpoint() && !c.on(NULL) && !c.off() && !c.on(NULL) && notices == 1 &&
	       stays(&c);
}

int main(int argc, char **argv)
{
	sigset_t none;

	take_arguments(argc, argv);
	(void)sigemptyset(&none);
	(void)pthread_sigmask(SIG_SETMASK, &none, NULL);
	row_in_child(plugins_first, "two plugins, then the program: each is told");
	row_in_child(program_first, "the program, then two plugins: each is told");
	row_in_child(program_between, "the program between two plugins: each is told");
	row_in_child(stopped, "one stops and begins: the others are told");
	row_in_child(stopped_alone, "one alone stops: the dynamic linker's text is as it was");
	row_in_child(one_by_one, "one begins while another is at it: each is told");
	row_in_child(within_unload, "one begins within an unload: it waits");
	row_in_child(beside_told_unload,
		     "an unload begins within one's begin: nobody waits for ever");
	row_in_child(beside_namespace, "one of another namespace, and the program: each is told");
	row_in_child(under_loads, "two register and unregister while modules come and go");
	row_in_child(untold,
		     "a breakpoint in the dynamic linker: said once, found by the next call");
	row_in_child(untold_plugin, "a breakpoint in the dynamic linker: a plugin says so once");
	return end_rows();
}
