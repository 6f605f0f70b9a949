/* SPDX-License-Identifier: MIT */
/*
 * The negative control of test_regs.c: a trap path that breaks something must be
 * seen to break it. The linker puts a wrapper around shunt_trap()
 * (-Wl,--wrap=shunt_trap) that lets the real one work and then does harm, each
 * kind in a child of its own.
 *
 * What the kernel keeps in the signal frame (vectors, x87) is out of the
 * handler's reach; there, the site's own function changes something, to show that
 * the comparison looks at it.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/port.h>

#include "phase.h"
#include "regs_key.h"
#include "tap.h"

DEFINE_STATIC_CALL_NULL(regs, regs_target_a);

/* The signal handler is none of a sanitizer's business. */
#define NOT_SANITIZED __attribute__((no_sanitize("address", "undefined", "thread")))

/* -------------------------------------------------------- the broken handler */

enum harm {
	HARM_NONE,
	HARM_AX,
	HARM_FLAG,       /* one of them */
	HARM_RED_ZONE,   /* sixteen bytes below the site's sp */
	HARM_RED_ZONE_1, /* the last byte of it */
	HARM_STACK,      /* above */
	HARM_SP,         /* a call's: the return address eight bytes too low */
	HARM_TWICE,      /* execute the site again */
};

static struct {
	enum harm harm;
	uintptr_t flag;
} broken;

enum shunt_trap __real_shunt_trap(struct shunt_regs *regs);
enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs);

NOT_SANITIZED static void do_harm(const struct shunt_regs *old, struct shunt_regs *regs)
{
	switch (broken.harm) {
	case HARM_AX:
		regs->ax ^= (uintptr_t)1 << 63;
		break;
	case HARM_FLAG:
		regs->flags ^= broken.flag;
		break;
	case HARM_RED_ZONE:
		*(volatile uint8_t *)(old->sp - 16) ^= 1;
		break;
	case HARM_RED_ZONE_1:
		*(volatile uint8_t *)(old->sp - 128) ^= 1;
		break;
	case HARM_STACK:
		*(volatile uint8_t *)(old->sp + 8) ^= 1;
		break;
	case HARM_SP:
		regs->sp -= 8;
		*(volatile uintptr_t *)regs->sp = *(volatile uintptr_t *)(regs->sp + 8);
		break;
	case HARM_TWICE:
		/* Return to the site instead of behind it, once. */
		*(volatile uintptr_t *)regs->sp = old->ip - 1;
		broken.harm = HARM_NONE;
		break;
	case HARM_NONE:
		break;
	}
}

NOT_SANITIZED enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs)
{
	struct shunt_regs old = *regs;
	enum shunt_trap trap = __real_shunt_trap(regs);

	if (trap == SHUNT_TRAP_EMULATED)
		do_harm(&old, regs);
	return trap;
}

/* ----------------------------------------------------------- the comparison */

static const struct regs_frag *frag;
static struct regs_result reference;
static unsigned *seen; /* in what the child saw a difference; shared with it */
static unsigned *trapped;

/* Only in one phase: harm is done once. */
static void on_phase(enum phase phase)
{
	struct regs_result result;
	uint64_t traps = phase_count_traps();

	if (phase != PHASE_TAILS)
		return;
	regs_execute(frag, 9, false, &result);
	*seen = regs_compare(&reference, &result);
	*trapped = (unsigned)(phase_count_traps() - traps);
}

static void compare_broken(enum harm harm, uintptr_t flag)
{
	regs_execute(frag, 9, false, &reference);
	broken.harm = harm;
	broken.flag = flag;
	phase_begin(PHASE_HERE, on_phase);
	phase_update(regs_update, REGS_B);
	phase_end();
}

/*
 * @expected: what must be seen; a change of sp or of the path has others in its
 * wake, so more may be.
 */
static void check_harm(const char *name, const struct regs_frag *f, enum harm harm, uintptr_t flag,
		       unsigned expected)
{
	bool more = harm == HARM_SP || harm == HARM_TWICE;
	int status;
	pid_t pid;

	frag = f;
	*seen = ~0u;
	*trapped = 0;
	(void)fflush(stdout);
	pid = fork();
	if (!pid) {
		compare_broken(harm, flag);
		_exit(0);
	}
	tap_check(pid > 0 && waitpid(pid, &status, 0) == pid && !status, "the child failed");
	tap_check(*trapped == (harm == HARM_TWICE ? 2 : 1), "%u traps", *trapped);
	tap_check(more ? *seen != ~0u && (*seen & expected) == expected : *seen == expected,
		  "%s at %s: seen is %s", name, f->name,
		  *seen == ~0u ? "nothing at all" : regs_diff_text(*seen));
	tap_case("%s at %s: seen is \"%s\"", name, f->name, regs_diff_text(*seen));
}

static void check_handler(void)
{
	static const struct {
		const char *name;
		uintptr_t bit;
	} flags[] = {{"CF", 1},    {"PF", 4},     {"AF", 0x10},  {"ZF", 0x40},
		     {"SF", 0x80}, {"DF", 0x400}, {"OF", 0x800}, {"AC", 1 << 18}};
	const struct regs_frag *call = &regs_frags[0], *tail = &regs_frags[1];
	const struct regs_frag *taken = &regs_frags[4], *not_taken = &regs_frags[5];

	check_harm("nothing", call, HARM_NONE, 0, 0);
	check_harm("nothing", tail, HARM_NONE, 0, 0);
	check_harm("rax", call, HARM_AX, 0, DIFF_GPR);
	check_harm("rax", not_taken, HARM_AX, 0, DIFF_GPR);
	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		check_harm(flags[i].name, call, HARM_FLAG, flags[i].bit, DIFF_FLAGS);
	check_harm("red zone", tail, HARM_RED_ZONE, 0, DIFF_RED_ZONE);
	check_harm("red zone", taken, HARM_RED_ZONE, 0, DIFF_RED_ZONE);
	check_harm("red zone", not_taken, HARM_RED_ZONE, 0, DIFF_RED_ZONE);
	check_harm("end of the red zone", tail, HARM_RED_ZONE_1, 0, DIFF_RED_ZONE);
	check_harm("stack", tail, HARM_STACK, 0, DIFF_STACK);
	check_harm("sp", call, HARM_SP, 0, DIFF_SP);
	check_harm("executed twice", call, HARM_TWICE, 0, DIFF_PATH);
}

/* ------------------------------------------------------- the spoilt functions */

void spoil_nothing(void);
void spoil_gpr(void);
void spoil_flags(void);
void spoil_direction(void);
void spoil_red_zone(void);
void spoil_stack(void);
void spoil_st(void);
void spoil_fcw(void);
void spoil_mxcsr(void);
void spoil_xmm(void);
void spoil_ymm(void);
void spoil_zmm(void);
void spoil_opmask(void);

static const struct {
	struct regs_frag frag;
	unsigned expected;
} spoilt[] = {
	{{"nothing", spoil_nothing, false, false}, 0},
	{{"r12", spoil_gpr, false, false}, DIFF_GPR},
	{{"carry flag", spoil_flags, false, false}, DIFF_FLAGS},
	{{"direction flag", spoil_direction, false, false}, DIFF_FLAGS},
	{{"red zone", spoil_red_zone, false, false}, DIFF_RED_ZONE},
	{{"stack", spoil_stack, false, false}, DIFF_STACK},
	{{"st(0)", spoil_st, false, false}, DIFF_X87},
	{{"x87 control word", spoil_fcw, false, false}, DIFF_X87},
	{{"mxcsr", spoil_mxcsr, false, false}, DIFF_MXCSR},
	{{"xmm15", spoil_xmm, false, false}, DIFF_XMM},
	{{"ymm, high halves", spoil_ymm, false, false}, DIFF_YMM},
	{{"zmm31", spoil_zmm, false, false}, DIFF_ZMM},
	{{"k5", spoil_opmask, false, false}, DIFF_OPMASK},
};

/* Against the plain tail call, both of them trapping. */
static void on_spoilt(enum phase phase)
{
	struct regs_result plain, result;

	if (phase != PHASE_TAILS)
		return;
	regs_execute(&regs_frags[1], 9, false, &plain);
	regs_execute(frag, 9, false, &result);
	*seen = regs_compare(&plain, &result);
}

static void check_spoilt(void)
{
	for (unsigned i = 0; i < sizeof(spoilt) / sizeof(spoilt[0]); i++) {
		unsigned expected = spoilt[i].expected, more;

		frag = &spoilt[i].frag;
		if (!regs_has(expected)) {
			tap_skip(frag->name, "the CPU has it not");
			continue;
		}
		/*
		 * vzeroupper clears zmm's high halves too, and a component that is
		 * all zeroes may count as not in use.
		 */
		more = expected & DIFF_YMM ? DIFF_ZMM | DIFF_HEADER : 0;
		phase_begin(PHASE_HERE, on_spoilt);
		phase_update(regs_update, i % 2 ? REGS_A : REGS_B);
		phase_end();
		tap_check((*seen & ~more) == expected, "seen is %s", regs_diff_text(*seen));
		tap_case("%s changed by the program: seen is \"%s\"", frag->name,
			 regs_diff_text(*seen));
	}
}

int main(void)
{
	seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED)
		return 1;
	trapped = seen + 1;
	if (!regs_init()) {
		tap_skip("negative control", "no xsave on this machine");
		return tap_done();
	}
	tap_check(!regs_update(REGS_A), "static_call_update");
	check_handler();
	check_spoilt();
	return tap_done();
}
