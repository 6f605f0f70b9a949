/* SPDX-License-Identifier: MIT */
/*
 * SIGTRAPs of the CPU that are no breakpoint: a program that steps through its sites, icebp,
 * and `int $3`. A step, or an icebp, right behind a site of one byte has the address of a late
 * trap. Through a site that is left on its int3 (a poke that can go neither forward nor back)
 * each step must be seen where it is seen when the site has its instruction.
 *
 * Controls: the program's handler, in front of ours, passes a step on as a breakpoint; and
 * the trap flag is hidden from the handler when it emulates.
 */
#include <string.h>
#include <ucontext.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "../common/left_on_int3.h"
#include "rows.h"

#define TRAP_FLAG 0x100

/* ------------------------------------------------------------- what is taken out */

static bool hides; /* the trap flag */

enum shunt_trap __real_shunt_trap(struct shunt_regs *regs);
enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs);
enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs)
{
	enum shunt_trap trap = __real_shunt_trap(regs);

	if (hides)
		regs->flags &= ~(uintptr_t)TRAP_FLAG;
	return trap;
}

/* --------------------------------------------------------------- a site of one byte */

static struct sigaction before;
static bool passes_on;

static void count_step(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	counts->first++;
	if (!passes_on)
		return;
	info->si_code = SI_KERNEL;
	uc->uc_mcontext.gregs[REG_TRAPNO] = 3;
	before.sa_sigaction(sig, info, context);
}

static void install(void (*handler)(int, siginfo_t *, void *), struct sigaction *old)
{
	struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};

	must(!sigaction(SIGTRAP, &act, old));
}

/* Steps from a site of one byte on: popf; SITE; nop; pushf; clear the flag; popf; ret. */
static const uint8_t stepping[] = {
	0x9c, 0x48, 0x81, 0x0c, 0x24, 0,    1,    0,    0,    0x9d, 0x90, 0x90,
	0x9c, 0x48, 0x81, 0x24, 0x24, 0xff, 0xfe, 0xff, 0xff, 0x9d, 0xc3,
};
/* SITE; icebp; int $3; ret */
static const uint8_t trapping[] = {0x90, 0xf1, 0xcd, 0x03, 0xc3};

static KEEP int old_function(int x)
{
	return x + 1;
}

static KEEP int new_function(int x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(key, old_function);

static KEEP int through_tail(int x)
{
	return static_call(key)(x);
}

/* A site of one byte is written at once; our handler is there for those of five. */
static void take_sigtrap(void)
{
	struct sigaction act;

	must(!static_call_update(key, new_function) && through_tail(1) == 3);
	must(!static_call_update(key, old_function) && through_tail(1) == 2);
	must(!sigaction(SIGTRAP, NULL, &act) && act.sa_flags & SA_SIGINFO &&
	     act.sa_sigaction != count_step);
	if (alarm(20) <= 1) /* a step that is taken for a late trap is made for ever, and so is what
			       a control makes */
		(void)alarm(1);
}

static uint8_t *make(const uint8_t *code, size_t size, size_t site)
{
	uint8_t *page =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(page != MAP_FAILED);
	memcpy(page, code, size);
	must(!mprotect(page, 4096, PROT_READ | PROT_EXEC));
	must(!text_poke_bp(page + site, "\xc3", 1));
	must(!text_poke_bp(page + site, "\x90", 1));
	take_sigtrap();
	return page;
}

static void call(const uint8_t *code)
{
	void (*function)(void);

	memcpy(&function, &code, sizeof(function));
	function();
}

static void one_byte(void)
{
	install(count_step, NULL);
	call(make(stepping, sizeof(stepping), 10));
}

/* Our own handler is asked last. */
static void one_byte_chained(void)
{
	uint8_t *code = make(stepping, sizeof(stepping), 10);

	install(count_step, &before);
	call(code);
}

static void one_byte_passed_on(void)
{
	passes_on = true;
	one_byte_chained();
}

static void leave_second(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
	if (counts->first++)
		_exit(SKIPPED);
}

/* QEMU 7.2 lets a program that executes it die of SIGILL. */
static void skip_without_icebp(void)
{
	pid_t child = fork();
	int status = 0;

	if (!child) {
		__asm__ volatile(".byte 0xf1" ::: "memory");
		_exit(0);
	}
	must(child > 0 && waitpid(child, &status, 0) == child);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGILL)
		_exit(SKIPPED);
}

/* There are hypervisors, seen on a Zen 3 under KVM, that begin it anew for ever, without us too. */
static void want_icebp(void)
{
	skip_without_icebp();
	install(leave_second, NULL);
	__asm__ volatile(".byte 0xf1" ::: "memory");
	must(counts->first == 1);
	counts->first = 0;
}

static void other_traps(void)
{
	want_icebp();
	install(count_step, NULL);
	call(make(trapping, sizeof(trapping), 0));
}

static void int_3(void)
{
	static const uint8_t code[] = {0x90, 0xcd, 0x03, 0xc3};

	install(count_step, NULL);
	call(make(code, sizeof(code), 0));
}

static void other_traps_default(void)
{
	skip_without_icebp();
	call(make(trapping, sizeof(trapping), 0));
}

static void default_of_int_3(void)
{
	static const uint8_t code[] = {0x90, 0xcd, 0x03, 0xc3};

	call(make(code, sizeof(code), 0));
}

/* ------------------------------------------------------------ sites of five bytes */

DEFINE_STATIC_KEY_FALSE(branch);

static KEEP int through_all(int x)
{
	if (static_branch_unlikely(&branch))
		x += 16;
	x = static_call(key)(x) + x;
	return x;
}

static struct path {
	size_t n;
	uintptr_t ip[256], sp[256];
} * path;

static void record_step(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;

	(void)sig;
	if (info->si_code != TRAP_TRACE || path->n == 256)
		counts->second++;
	else if (info->si_addr != (void *)uc->uc_mcontext.gregs[REG_RIP])
		counts->second++;
	path->ip[path->n] = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
	path->sp[path->n++] = (uintptr_t)uc->uc_mcontext.gregs[REG_RSP];
}

static KEEP int step_through(struct path *new)
{
	int x;

	path = new;
	__asm__ volatile("pushfq; orq %0, (%%rsp); popfq" ::"i"(TRAP_FLAG) : "memory", "cc");
	x = through_all(1);
	x += through_tail(1);
	__asm__ volatile("pushfq; andq %0, (%%rsp); popfq" ::"i"(~TRAP_FLAG) : "memory", "cc");
	return x;
}

/* The same steps with the int3 of an update standing, and with the instructions. */
static void on_int3(void)
{
	static struct path trapped, plain;

	install(record_step, NULL);
	fails = true;
	must(static_branch_enable(&branch));
	must(static_call_update(key, new_function));
	fails = false;
	counts->first = step_through(&trapped) == through_all(1) + through_tail(1);
	must(!static_branch_enable(&branch) && !static_branch_disable(&branch));
	must(!static_call_update(key, new_function) && !static_call_update(key, old_function));
	(void)step_through(&plain);
	must(plain.n > 15 && trapped.n == plain.n);
	must(!memcmp(&trapped, &plain, sizeof(plain)));
}

static void on_int3_hidden(void)
{
	hides = true;
	on_int3();
}

static const struct row rows[] = {
	{"a step behind a site of one byte", one_byte, 0, 5, 0, false},
	{"the same, with a handler in front", one_byte_chained, 0, 5, 0, false},
	{"icebp and int $3 behind a site of one byte", other_traps, 0, 2, 0, false},
	{"the same, by default", other_traps_default, SIGTRAP, 0, 0, false},
	{"int $3 behind a site of one byte", int_3, 0, 1, 0, false},
	{"int $3 by default", default_of_int_3, SIGTRAP, 0, 0, false},
	{"steps through sites that are left on an int3", on_int3, 0, 1, 0, false},
	{"a step passed on as a breakpoint", one_byte_passed_on, 0, 5, 0, true},
	{"the trap flag hidden", on_int3_hidden, 0, 1, 0, true},
};

int main(void)
{
	(void)setenv("SHUNT_LOG", "0", 1);
	if (shunt_set_poke(SHUNT_POKE_INT3))
		return 1;
	return run_rows(rows, sizeof(rows) / sizeof(rows[0]));
}
