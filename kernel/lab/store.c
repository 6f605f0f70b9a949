/* SPDX-License-Identifier: MIT */
/*
 * A store to a displacement as another CPU's instruction fetch sees it. Within a cache line
 * it is one. Across two lines it may be seen as two, even where it was one locked store to
 * the data side (Torvalds, LKML 2019-05-06 [L4]); the emulators would not show that, so two are
 * made.
 */
#include "store.h"

#define LINE 64

static size_t left_in_line(const uint8_t *at)
{
	return LINE - (uintptr_t)at % LINE;
}

bool lab_crosses_line(const uint8_t *at, size_t len)
{
	return left_in_line(at) < len;
}

void lab_store_displacement(uint8_t *insn, uintptr_t target, void (*half)(void))
{
	uint8_t bytes[5], *at = insn + 1;
	size_t first = left_in_line(at);

	lab_encode(bytes, *insn, insn, target);
	if (first >= 4) {
		port_write_text(at, bytes + 1, 4);
		return;
	}
	port_write_text(at, bytes + 1, first);
	half();
	port_write_text(at + first, bytes + 1 + first, 4 - first);
}

void lab_half_step(void)
{
	cpu_relax();
	lab_step(0);
}
