/* SPDX-License-Identifier: MIT */
/*
 * xchg: the handler takes the target from the instruction that is being changed.
 *
 * Proposed by Linus Torvalds (LKML 2019-05-06 [L4]): caches keep data coherent with data, even
 * where they promise nothing for instruction fetch. So the writer stores the four bytes behind
 * the int3 with xchg, the handler reads them with a locked read, and gets the old displacement
 * or the new one, never a mixture, also across a cache line. No table of targets is needed, and
 * the trap does what the old or the new instruction would do. The call itself is emulated as in
 * gap.
 *
 * Held against it: nothing; the same message holds against ftrace that it emulated neither
 * the old nor the new call. It needs the gap.
 *
 * What the run shows: survives all. xchg-bytes is the negative control: the writer stores
 * the bytes one by one, and a handler that reads in between calls a mixture.
 */
#include "../test/locked.h"
#include "emulate.h"

/* The read is a cmpxchg, and needs a page that can be written: the alias. */
static int32_t locked_read(const uint8_t *displacement)
{
	int32_t *at = alias(displacement);
	int32_t value = 0;

	__asm__ volatile("lock cmpxchgl %2, %1" : "+a"(value), "+m"(*at) : "r"(0) : "memory");
	return value;
}

static bool trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	uintptr_t end = frame->rip + 4;

	if (!site)
		return false;
	return lab_emulate_call(frame, end, end + (uintptr_t)(intptr_t)locked_read(site->insn + 1),
				ssp);
}

static void write_first(const struct lab_change *changes, unsigned n, uint8_t byte)
{
	for (unsigned i = 0; i < n; i++)
		port_write_text(changes[i].site->insn, &byte, 1);
	core_sync();
}

static void poke(const struct lab_change *changes, unsigned n,
		 void (*write)(uint8_t *at, const uint8_t *bytes, size_t len))
{
	for (unsigned i = 0; i < n; i++)
		changes[i].site->armed = true;
	write_first(changes, n, 0xcc);
	lab_step(1);
	for (unsigned i = 0; i < n; i++) {
		uint8_t call[5];

		lab_encode(call, 0xe8, changes[i].site->insn, changes[i].target);
		write(changes[i].site->insn + 1, call + 1, 4);
		changes[i].site->target = changes[i].target;
	}
	core_sync();
	lab_step(2);
	write_first(changes, n, 0xe8);
	for (unsigned i = 0; i < n; i++)
		changes[i].site->armed = false;
	lab_step(3);
}

static void write_whole(uint8_t *at, const uint8_t *bytes, size_t len)
{
	locked_write(at, bytes, len);
}

static void update(const struct lab_change *changes, unsigned n)
{
	poke(changes, n, write_whole);
}

static void update_bytes(const struct lab_change *changes, unsigned n)
{
	poke(changes, n, lab_write);
}

static const struct lab_scheme lab_scheme_xchg = {
	.id = "xchg",
	.update = update,
	.trap = trap,
	.entry = lab_entry_gap,
};
LAB_SCHEME(xchg);

static const struct lab_scheme lab_scheme_xchg_bytes = {
	.id = "xchg-bytes",
	.update = update_bytes,
	.trap = trap,
	.entry = lab_entry_gap,
};
LAB_SCHEME(xchg_bytes);
