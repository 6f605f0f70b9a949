/* SPDX-License-Identifier: MIT */
/*
 * flip: what is only switched on and off has two forms that differ in their first byte alone.
 *
 * Of no message: it is what Shunt does with such sites (src/core/poke_flip.c). On: `jmp target`, a
 * tail call. Off: `test $imm,%eax`, whose immediate is the displacement, which so never changes;
 * what stands behind comes next. An update writes one byte and interrupts all CPUs once.
 * There is no int3, so no trap, and at any offset, across lines and pages, there are no two parts
 * of a write. flip-call is the same with a call for its form that is on: e8, and a9.
 *
 * Its limits: it retargets nothing. A site has the one target, the same for all its life or until
 * it is poked by int3, and here the laboratory's targets are two for it: on and off. The test
 * changes flags, which mean nothing at a call or at the entry of a function; at a static branch,
 * which is an asm goto, the compiler is told so ("cc").
 *
 * What it rests on: a CPU fetches the byte old or new, behind the same tail. Schemes with an int3
 * write single bytes too, but there an int3 always lies between the old instruction and the new.
 * An emulator cannot show what else a CPU may do (doc/references.md).
 *
 * flip-two is the negative control: the off form's immediate is another than the displacement, so
 * that two bytes differ. A jmp that is fetched between the two writes goes astray.
 */
#include "internal.h"

#define JMP  0xe9
#define CALL 0xe8
#define TEST 0xa9

static bool is_on(const struct lab_change *c)
{
	return c->target == lab_targets[1] || c->target == lab_targets[3];
}

static uint8_t form_that_is_on(void)
{
	return lab_scheme->form == LAB_SWITCH_CALL ? CALL : JMP;
}

static void update(const struct lab_change *changes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint8_t first = is_on(&changes[i]) ? form_that_is_on() : TEST;

		changes[i].site->target = lab_targets[is_on(&changes[i])];
		port_write_text(changes[i].site->insn, &first, 1);
	}
	core_sync();
	lab_step(2);
}

static const struct lab_scheme lab_scheme_flip = {
	.id = "flip",
	.form = LAB_SWITCH,
	.update = update,
	.flags = RFLAGS_ARITH,
};
LAB_SCHEME(flip);

static const struct lab_scheme lab_scheme_flip_call = {
	.id = "flip-call",
	.form = LAB_SWITCH_CALL,
	.update = update,
	.flags = RFLAGS_ARITH,
};
LAB_SCHEME(flip_call);

/* ------------------------------------------------------------- two bytes that differ */

static void update_two(const struct lab_change *changes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct lab_site *site = changes[i].site;
		uint8_t bytes[5];

		site->target = lab_targets[is_on(&changes[i])];
		lab_encode(bytes, is_on(&changes[i]) ? JMP : TEST, site->insn, lab_targets[1]);
		if (!is_on(&changes[i]))
			bytes[1] ^= 0x10;
		lab_write(site->insn, bytes, 2);
	}
	core_sync();
	lab_step(2);
}

static const struct lab_scheme lab_scheme_flip_two = {
	.id = "flip-two",
	.form = LAB_SWITCH,
	.update = update_two,
	.flags = RFLAGS_ARITH,
};
LAB_SCHEME(flip_two);
