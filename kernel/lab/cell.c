/* SPDX-License-Identifier: MIT */
/* The cell that is tried: what is wrong with a call in it, and how many were (hazards.h). */
#include "hazards.h"

struct lab_cell lab_cell;

/* Which target a change to number @n leads to: what is switched has two, on and off. */
static int32_t reached(unsigned n)
{
	return (int32_t)(lab_is_switch(lab_scheme->form) ? n % 2 : n);
}

uint32_t lab_wrong(const struct lab_result *result, unsigned a, unsigned b)
{
	uint32_t wrong = result->wrong;

	if (!lab_cell.hazard->registers && !(result->flags & ~(lab_scheme->flags | RFLAGS_IF)))
		wrong &= ~(uint32_t)LAB_WRONG_FLAGS;
	if (!lab_cell.hazard->registers && !(result->registers & ~lab_scheme->clobbers))
		wrong &= ~(uint32_t)LAB_REGISTERS;
	if (!lab_cell.hazard->lockdep)
		wrong &= ~(uint32_t)LAB_WRONG_SOFT;
	/* A call that ended in a fault has no target to be judged. */
	if (wrong & (LAB_FAULT | LAB_UNKNOWN_INT3))
		return wrong;
	if (result->target != reached(a) && result->target != reached(b))
		wrong |= LAB_WRONG_TARGET;
	return wrong;
}

/* The first one of them, for the report. */
static void keep(struct lab_result *first, const struct lab_result *result, uint32_t wrong)
{
	*first = *result;
	first->wrong = wrong;
}

void lab_count(const struct lab_result *result, unsigned a, unsigned b)
{
	uint32_t wrong = lab_wrong(result, a, b);

	lab_cell.calls++;
	if (!wrong || lab_cell.bad++)
		return;
	keep(&lab_cell.how, result, wrong);
	lab_cell.first_bad = lab_cell.calls;
}

void lab_count_other(const struct lab_result *result)
{
	uint32_t wrong = lab_wrong(result, 2, 3);

	if (wrong && !lab_cell.bad_other++)
		keep(&lab_cell.how_other, result, wrong);
}
