/* SPDX-License-Identifier: MIT */
/*
 * Handlers of SIGTRAP that call, or put back, what they found when they were installed: before
 * libshunt, between two of its updates, again and again, several of them. A breakpoint of
 * the program must come to each once, and then have the action that the program began with.
 *
 * Controls: the trap that comes round is not recognised, or each update has the same entry,
 * as if there were no chain.
 */
#include <string.h>
#include <ucontext.h>

#include <setjmp.h>
#include <stdio.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "key.h"
#include "linux/trap/sigtrap.h"
#include "linux/trap/trap_chain.h"
#include "rows.h"

/* ------------------------------------------------------------ what is taken out */

static bool forgets; /* marks in the frame */
static bool is_one;  /* entry for all */
static bool leaks;   /* a page for each update */

bool __real_shunt_trap_next(ucontext_t *uc, unsigned entry, struct shunt_action *next);
bool __wrap_shunt_trap_next(ucontext_t *uc, unsigned entry, struct shunt_action *next);
bool __wrap_shunt_trap_next(ucontext_t *uc, unsigned entry, struct shunt_action *next)
{
	if (forgets)
		uc->uc_link = NULL;
	return __real_shunt_trap_next(uc, entry, next);
}

unsigned __real_shunt_trap_entry_for(const struct shunt_action *action);
unsigned __wrap_shunt_trap_entry_for(const struct shunt_action *action);
unsigned __wrap_shunt_trap_entry_for(const struct shunt_action *action)
{
	unsigned entry = __real_shunt_trap_entry_for(action);

	if (leaks)
		(void)!mmap(NULL, 4096, PROT_READ | (entry ? PROT_WRITE : 0),
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (!is_one || !entry)
		return entry;
	shunt_trap_records[0] = *action;
	return 0;
}

/* ----------------------------------------------------------------- the program */

static void update(void)
{
	static bool is_new;

	is_new = !is_new;
	must(!static_call_update(key, is_new ? new_function : old_function));
	must(go() == (is_new ? 2 : 1));
}

static KEEP void breakpoint(void)
{
	__asm__ volatile("int3" ::: "memory");
}

static void go_on_with(const struct sigaction *old, int sig, siginfo_t *info, void *context)
{
	if (old->sa_flags & SA_SIGINFO) {
		old->sa_sigaction(sig, info, context);
	} else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
		old->sa_handler(sig);
	} else {
		(void)signal(SIGTRAP, SIG_DFL);
		(void)raise(SIGTRAP);
	}
}

static struct sigaction before_first, before_second;

static void first(int sig, siginfo_t *info, void *context)
{
	counts->first++;
	go_on_with(&before_first, sig, info, context);
}

static void second(int sig, siginfo_t *info, void *context)
{
	counts->second++;
	go_on_with(&before_second, sig, info, context);
}

/* Hands on a copy of the frame. */
static void first_by_copy(int sig, siginfo_t *info, void *context)
{
	siginfo_t other_info = *info;
	ucontext_t other = *(const ucontext_t *)context;

	counts->first++;
	go_on_with(&before_first, sig, &other_info, &other);
	*(ucontext_t *)context = other;
}

static void install(void (*handler)(int, siginfo_t *, void *), int flags, struct sigaction *old)
{
	struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};

	must(!sigaction(SIGTRAP, &act, old));
}

/* Does not go on with anybody. */
static void last(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
	counts->second++;
}

/* ------------------------------------------------------------------------ rows */

static void found_default(void)
{
	install(first, 0, &before_first);
	update();
	breakpoint();
}

static void found_us(void)
{
	update();
	install(first, 0, &before_first);
	update();
	breakpoint();
}

/* Without an update behind it: the kernel enters the program's handler first. */
static void in_front(void)
{
	update();
	install(first, 0, &before_first);
	breakpoint();
}

static void again_and_again(void)
{
	for (int i = 0; i < 5; i++) {
		update();
		install(first, 0, &before_first);
	}
	update();
	breakpoint();
}

static void two_in_turn(void)
{
	for (int i = 0; i < 5; i++) {
		update();
		install(first, 0, &before_first);
		update();
		install(second, SA_NODEFER, &before_second);
	}
	update();
	breakpoint();
}

static void by_copy(void)
{
	update();
	install(first_by_copy, 0, &before_first);
	update();
	install(first_by_copy, 0, &before_first);
	update();
	breakpoint();
}

static void sent_by_kill(void)
{
	for (int i = 0; i < 3; i++) {
		update();
		install(first, 0, &before_first);
	}
	update();
	(void)kill(getpid(), SIGTRAP);
}

static void ignored_and_sent(void)
{
	(void)signal(SIGTRAP, SIG_IGN);
	update();
	install(first, 0, &before_first);
	update();
	(void)kill(getpid(), SIGTRAP);
}

static void put_back(void)
{
	update();
	install(first, 0, &before_first);
	update();
	must(!sigaction(SIGTRAP, &before_first, NULL));
	breakpoint();
}

static void put_back_to_handler(void)
{
	install(last, 0, NULL);
	update();
	install(first, 0, &before_first);
	update();
	must(!sigaction(SIGTRAP, &before_first, NULL));
	update();
	breakpoint();
}

static void with_handler_behind(void)
{
	install(last, 0, NULL);
	again_and_again();
}

static void reset(void)
{
	install(last, (int)SA_RESETHAND, NULL);
	update();
	breakpoint();
	update();
	breakpoint();
}

/* A handler that installs another. */
static void install_last(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
	counts->first++;
	install(last, 0, NULL);
}

static void handler_installs(void)
{
	install(install_last, 0, NULL);
	update();
	breakpoint();
	breakpoint();
	update();
	breakpoint();
}

/* A handler with a breakpoint of its own. */
static void nested(int sig, siginfo_t *info, void *context)
{
	if (counts->first++ == 0)
		breakpoint();
	go_on_with(&before_first, sig, info, context);
}

static void handler_traps(void)
{
	install(last, 0, NULL);
	update();
	install(nested, SA_NODEFER, &before_first);
	update();
	install(nested, SA_NODEFER, &before_first);
	update();
	breakpoint();
}

static sigjmp_buf out;

static void leave(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
	counts->second++;
	siglongjmp(out, 1);
}

/* What a trap leaves behind must not be taken for the next one's: the same frame, the same ip. */
static void left_by_jump(void)
{
	static volatile int i;

	install(leave, 0, NULL);
	update();
	install(first, 0, &before_first);
	for (i = 0; i < 100; i++) {
		if (i == 50)
			update();
		if (!sigsetjmp(out, 1))
			breakpoint();
	}
}

/* The default action comes to the wait, whatever is blocked around it. */
static void in_sigsuspend(void)
{
	sigset_t set, none;

	update();
	(void)sigemptyset(&none);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTRAP);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	(void)raise(SIGTRAP);
	(void)sigsuspend(&none);
}

static unsigned long resident(void)
{
	unsigned long size = 0, pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	must(f && fscanf(f, "%lu %lu", &size, &pages) == 2);
	(void)fclose(f);
	return pages;
}

static void many_updates(void)
{
	unsigned long pages = resident();

	for (int i = 0; i < 2000; i++) {
		install(i % 3 ? first : second, i % 2 ? SA_NODEFER : 0, NULL);
		update();
	}
	counts->first = resident() > pages + 100;
}

/* More different ones than there are entries. */
static void many_handlers(void)
{
	struct sigaction act = {.sa_sigaction = last, .sa_flags = SA_SIGINFO};

	for (int i = 0; i < 100; i++) {
		(void)sigemptyset(&act.sa_mask);
		(void)sigaddset(&act.sa_mask, 1 + i % 8);
		(void)sigaddset(&act.sa_mask, 34 + i / 8);
		must(!sigaction(SIGTRAP, &act, NULL));
		update();
	}
	breakpoint();
}

/* -------------------------------------------------------------------- controls */

static void found_us_forgetful(void)
{
	forgets = true;
	again_and_again();
}

static void put_back_to_one(void)
{
	is_one = true;
	put_back_to_handler();
}

static void many_updates_leaking(void)
{
	leaks = true;
	many_updates();
}

static const struct row rows[] = {
	{"a handler that found the default action", found_default, SIGTRAP, 1, 0, false},
	{"a handler that found ours", found_us, SIGTRAP, 1, 0, false},
	{"the same, and no update since", in_front, SIGTRAP, 1, 0, false},
	{"installed again after each update", again_and_again, SIGTRAP, 1, 0, false},
	{"two in turn", two_in_turn, SIGTRAP, 1, 1, false},
	{"one that hands on a copy of the frame", by_copy, SIGTRAP, 1, 0, false},
	{"a SIGTRAP that is sent", sent_by_kill, SIGTRAP, 1, 0, false},
	{"the same where it was ignored before", ignored_and_sent, 0, 1, 0, false},
	{"put back what was found", put_back, SIGTRAP, 0, 0, false},
	{"the same with a handler before it", put_back_to_handler, 0, 0, 1, false},
	{"a handler behind all", with_handler_behind, 0, 1, 1, false},
	{"SA_RESETHAND", reset, SIGTRAP, 0, 1, false},
	{"a handler installs another", handler_installs, 0, 1, 2, false},
	{"a handler traps", handler_traps, 0, 2, 2, false},
	{"a handler that is left by siglongjmp()", left_by_jump, 0, 100, 100, false},
	{"the default action in sigsuspend()", in_sigsuspend, SIGTRAP, 0, 0, false},
	{"memory of 2,000 updates behind new handlers", many_updates, 0, 0, 0, false},
	{"more handlers than entries", many_handlers, 0, 0, 1, false},
	{"no marks in the frame", found_us_forgetful, SIGTRAP, 1, 0, true},
	{"one entry for all", put_back_to_one, 0, 0, 1, true},
	{"a page for each update", many_updates_leaking, 0, 0, 0, true},
};

int main(void)
{
	if (shunt_set_poke(SHUNT_POKE_INT3))
		return 1;
	return run_rows(rows, sizeof(rows) / sizeof(rows[0]));
}
