/* SPDX-License-Identifier: MIT */
/* The laboratory: the scheme that is tried, and the poke that most schemes use (lab.h). */
#include "internal.h"

const struct lab_scheme *lab_scheme;
bool lab_stepwise, lab_nmi_stub;
void (*lab_on_step)(unsigned sync);

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
