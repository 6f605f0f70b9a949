/* SPDX-License-Identifier: MIT */
/* The laboratory: what the schemes use (lab.h). */
#include "internal.h"

const struct lab_scheme *lab_scheme;
bool lab_stepwise, lab_nmi_stub;
void (*lab_on_step)(unsigned sync);
void (*lab_on_trap)(struct trapframe *frame, const struct lab_site *site, bool behind);
_Atomic uint64_t lab_traps, lab_all_traps;
uint32_t lab_nmis[MAX_CPUS];

const uintptr_t lab_targets[LAB_TARGETS] = {(uintptr_t)lab_target_0, (uintptr_t)lab_target_1,
					    (uintptr_t)lab_target_2, (uintptr_t)lab_target_3};

/* ------------------------------------------------------------------------ pokes */

void lab_write(uint8_t *at, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		port_write_text(at + i, bytes + i, 1);
		lab_step(0);
		cpu_relax();
	}
}

void lab_encode(uint8_t *out, uint8_t opcode, const uint8_t *at, uintptr_t target)
{
	uint32_t displacement = (uint32_t)(target - ((uintptr_t)at + 5));

	out[0] = opcode;
	memcpy(out + 1, &displacement, sizeof(displacement));
}

void lab_step(unsigned sync)
{
	if (lab_on_step)
		lab_on_step(sync);
}

/* What shall stand at the site: 5 bytes or 6. */
static size_t whole(uint8_t *out, const struct lab_change *c)
{
	uint8_t *insn = c->site->insn;

	if (lab_scheme->form == LAB_PREFIX) {
		out[0] = 0x2e;
		lab_encode(out + 1, 0xe8, insn + 1, c->target);
		return 6;
	}
	lab_encode(out, lab_scheme->form == LAB_TRAMPOLINE ? 0xe9 : 0xe8, insn, c->target);
	return 5;
}

static void arm(const struct lab_change *c)
{
	static const uint8_t int3 = 0xcc;

	c->site->target = c->target;
	c->site->armed = true;
	port_write_text(c->site->insn, &int3, 1);
}

static void write_tail(const struct lab_change *c)
{
	uint8_t bytes[6];
	size_t n = whole(bytes, c);

	if (lab_stepwise)
		lab_write(c->site->insn + 1, bytes + 1, n - 1);
	else
		port_write_text(c->site->insn + 1, bytes + 1, n - 1);
}

static void write_first(const struct lab_change *c)
{
	uint8_t bytes[6];

	whole(bytes, c);
	port_write_text(c->site->insn, bytes, 1);
}

static void sync(unsigned nr)
{
	core_sync();
	lab_step(nr);
}

void lab_poke(const struct lab_change *changes, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		arm(&changes[i]);
	sync(1);
	for (unsigned i = 0; i < n; i++)
		write_tail(&changes[i]);
	sync(2);
	for (unsigned i = 0; i < n; i++)
		write_first(&changes[i]);
	core_sync();
	for (unsigned i = 0; i < n; i++)
		changes[i].site->armed = false;
	lab_step(3);
}

/* ------------------------------------------------------------------------ traps */

static const struct lab_site *trapped(uintptr_t insn)
{
	for (unsigned place = 0; place < LAB_PLACES; place++) {
		const struct lab_site *site = &lab_sites[lab_scheme->form][place];

		if ((uintptr_t)site->insn == insn && site->armed)
			return site;
	}
	return NULL;
}

bool lab_in_nmi(void)
{
	return lab_nmis[this_cpu()->id];
}

/* At %gs:56: 0 or 1; with bit 1 once it was found wrong. */
static uint64_t *soft(void)
{
	return &this_cpu()->scratch[6];
}

void lab_soft_set(bool irqs)
{
	*soft() = irqs;
}

void lab_soft_trap_begins(const struct trapframe *frame)
{
	bool irqs = frame->rflags & RFLAGS_IF;

	*soft() = *soft() == irqs ? 0 : 2;
}

/* (An exit to where interrupts are off has nothing to say.) */
void lab_soft_trap_ends(const struct trapframe *frame)
{
	if (frame->rflags & RFLAGS_IF)
		*soft() |= 1;
}

void lab_trap(struct trapframe *frame, uint64_t ssp)
{
	const struct lab_site *site = trapped(frame->rip - 1);

	lab_traps += site != NULL;
	lab_all_traps++;
	lab_soft_trap_begins(frame);
	if (site && lab_on_trap)
		lab_on_trap(frame, site, false);
	if (!lab_scheme->trap(frame, site, ssp))
		lab_bad(LAB_UNKNOWN_INT3, 0);
	if (site && lab_on_trap)
		lab_on_trap(frame, site, true);
	lab_soft_trap_ends(frame);
}

void lab_shadow_rip(uint64_t ssp, uint64_t rip)
{
	wrss(ssp + 16, rip);
}

bool lab_resume(struct trapframe *frame, uintptr_t rip, uint64_t ssp)
{
	frame->rip = rip;
	if (ssp)
		lab_shadow_rip(ssp, rip);
	return true;
}

/* The frame moves down by a word, into the gap, and the value takes the word's place. */
void lab_shadow_push(uint64_t ssp, uint64_t value, uint64_t rip)
{
	const uint64_t *word = (const uint64_t *)ssp;
	uint64_t interrupted = word[1] - 8, cs = word[3];

	wrss(interrupted, value);
	wrss(ssp, interrupted);
	wrss(ssp + 8, rip);
	wrss(ssp + 16, cs);
}
