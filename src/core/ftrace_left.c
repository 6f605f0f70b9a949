/* SPDX-License-Identifier: MIT */
/*
 * Entries that a change leaves as they are, which is no error: somebody else's bytes stand there,
 * or no stub is within reach. It is told once, with the first of them.
 */
#include "core/error.h"
#include "core/ftrace_batch.h"

const char shunt_entry_far[] =
	"what it would call is out of reach of its entry, and no memory is free within reach";

enum kind { FOREIGN, FAR, KINDS };

/* Of the change that is going on. */
static struct {
	struct shunt_report report; /* of the first one */
	const struct shunt_entry *entry;
	size_t n;
} left[KINDS];

void shunt_ftrace_left_begin(void)
{
	for (int kind = 0; kind < KINDS; kind++)
		left[kind].n = 0;
}

void shunt_ftrace_left(const struct shunt_entry *e, const uint8_t expected[SHUNT_SITE_MAX])
{
	enum kind kind = e->why == shunt_entry_far ? FAR : FOREIGN;
	struct shunt_report *r = &left[kind].report;

	if (left[kind].n++)
		return;
	left[kind].entry = e;
	*r = (struct shunt_report){.error = kind == FAR ? -SHUNT_ERANGE : -SHUNT_EBUSY,
				   .refused = true};
	r->site = (const void *)e->ip; /* NOLINT(performance-no-int-to-ptr) */
	if (kind == FAR)
		return;
	r->nbytes = e->len;
	shunt_ftrace_copy(r->found, (const uint8_t *)e->ip, e->len);
	shunt_ftrace_copy(r->expected, expected, e->len);
}

void shunt_ftrace_left_tell(void)
{
	static const char *const words[KINDS][2] = {
		[FOREIGN] = {"somebody else has changed its entry: it is not traced",
			     "somebody else has changed its entry, and those of other functions: "
			     "they are not traced"},
		[FAR] = {"what it would call is out of reach of its entry, and no memory is free "
			 "within reach: it is not traced",
			 "what it would call is out of reach of its entry, and no memory is free "
			 "within reach: it is not traced, nor are others for the same reason"},
	};

	for (int kind = 0; kind < KINDS; kind++) {
		struct shunt_report *r = &left[kind].report;
		const struct shunt_entry *e = left[kind].entry;

		if (!left[kind].n)
			continue;
		r->function = shunt_entry_names(shunt_entries_of(e), e);
		r->what = words[kind][left[kind].n > 1];
		for (struct shunt_tracer *t = shunt_tracers; t; t = t->next)
			if (shunt_is_traced(e, t, shunt_bits_after(t)))
				r->ops = t->ops;
		shunt_port_report(r);
	}
}
