/* SPDX-License-Identifier: MIT */
/*
 * Negative controls: a trap path that is wrong in one thing (spoil.h). What is spoiled is the
 * frame that resumes, behind the trap path itself.
 */
#include "spoil.h"

#include "hooks.h"
#include "kernel.h"
#include "trap.h"

#define JCC_LE 0x8e /* the second byte of jle */

static void carry(struct trapframe *frame, const struct trapframe *before)
{
	(void)before;
	frame->rflags |= RFLAGS_CF;
}

static void rdi(struct trapframe *frame, const struct trapframe *before)
{
	(void)before;
	frame->rdi ^= 1;
}

static void irqs_off(struct trapframe *frame, const struct trapframe *before)
{
	(void)before;
	frame->rflags &= ~RFLAGS_IF;
}

/* An emulated call returns one byte too far. */
static void return_address(struct trapframe *frame, const struct trapframe *before)
{
	if (frame->rsp == before->rsp - 8)
		++*(uint64_t *)frame->rsp;
}

/* "Less or equal" is taken as "less": with ZF alone it is not taken. */
static void less(struct trapframe *frame, const struct trapframe *before)
{
	const uint8_t *insn = (const uint8_t *)before->rip - 1;
	uint64_t flags = before->rflags;

	if (insn[1] == JCC_LE && flags & RFLAGS_ZF && !(flags & RFLAGS_SF) == !(flags & RFLAGS_OF))
		frame->rip = (uintptr_t)insn + 6;
}

/* A late trap goes on behind the site, as if it had been emulated. */
static void no_retry(struct trapframe *frame, const struct trapframe *before)
{
	if (before->rip == test_hooks.late_from && frame->rip == test_hooks.late_to - 1)
		frame->rip += 5;
}

static void install(void (*spoil)(struct trapframe *, const struct trapframe *))
{
	test_spoil = spoil;
	idt_set(VEC_BP, test_entry_spoiled, 0);
}

void spoil_carry(void)
{
	install(carry);
}

void spoil_by_name(void)
{
	static const struct {
		const char *name;
		void (*spoil)(struct trapframe *, const struct trapframe *);
	} all[] = {
		{"carry", carry},       {"rdi", rdi},
		{"irqs-off", irqs_off}, {"return-address", return_address},
		{"less", less},         {"no-retry", no_retry},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
		if (cmdline_is("control", all[i].name))
			install(all[i].spoil);
	test_hooks.no_ipi = cmdline_is("control", "no-ipi");
}
