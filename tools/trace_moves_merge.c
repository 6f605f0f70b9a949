/* SPDX-License-Identifier: MIT */
/* Events of several threads in order of time. */
#include "trace_moves_parts.h"

static uint64_t next_ticks(const struct finder *s, uint32_t part)
{
	return s->parts[part].t.events[s->parts[part].at].ticks;
}

static bool is_before(const struct finder *s, uint32_t a, uint32_t b)
{
	uint64_t x = next_ticks(s, a), y = next_ticks(s, b);

	return x != y ? x < y : a < b;
}

static void sift(struct finder *s, uint32_t i)
{
	for (uint32_t child; (child = 2 * i + 1) < s->heap_n; i = child) {
		uint32_t part = s->heap[i];

		if (child + 1 < s->heap_n && is_before(s, s->heap[child + 1], s->heap[child]))
			child++;
		if (!is_before(s, s->heap[child], part))
			return;
		s->heap[i] = s->heap[child];
		s->heap[child] = part;
	}
}

void moves_rewind(struct finder *s)
{
	s->heap_n = 0;
	for (uint32_t i = 0; i < s->n; i++) {
		s->parts[i].at = 0;
		if (s->parts[i].t.n)
			s->heap[s->heap_n++] = i;
	}
	for (uint32_t i = s->heap_n / 2; i--;)
		sift(s, i);
}

bool moves_next(const struct finder *s, struct ref *ref)
{
	if (!s->heap_n)
		return false;
	*ref = (struct ref){s->heap[0], s->parts[s->heap[0]].at};
	return true;
}

void moves_step(struct finder *s)
{
	struct part *p = &s->parts[s->heap[0]];

	if (++p->at == p->t.n)
		s->heap[0] = s->heap[--s->heap_n];
	sift(s, 0);
}
