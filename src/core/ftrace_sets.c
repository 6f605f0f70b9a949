/* SPDX-License-Identifier: MIT */
/* Sets of entries come and go: what the ops that are registered want of them. */
#include "core/error.h"
#include "core/ftrace_internal.h"

/* What the tracers that are registered want of @set, beside what they have. */
static int grow_tracers(struct shunt_entries *set)
{
	for (struct shunt_tracer *t = shunt_tracers; t; t = t->next) {
		const struct shunt_bits *active = t->active;

		if (!t->is_registered)
			continue;
		t->next_active = shunt_bits_alloc();
		if (!t->next_active)
			return shunt_port_no_memory();
		for (size_t i = 0; active && i < active->nr_words; i++)
			t->next_active->words[i] = active->words[i];
		shunt_rules_eval(shunt_rules_of(t), t->ops->flags & SHUNT_FTRACE_EXITS,
				 t->next_active, set);
		shunt_changing_join(t);
	}
	return 0;
}

static void name_ops(struct shunt_report *report)
{
	for (struct shunt_tracer *t = shunt_tracers; t && !report->ops; t = t->next)
		report->ops = t->is_changing ? t->ops : NULL;
}

/* The change is over, well or not. */
static void end_change(struct shunt_report *report, int ret)
{
	if (ret)
		name_ops(report);
	for (struct shunt_tracer *t = shunt_changing; t; t = t->next_changing) {
		/* Stubs only read it; and the other one, where the change failed behind its commit.
		 */
		shunt_bits_retire(ret ? t->next_active
				      : (struct shunt_bits *)(uintptr_t)t->last_active);
	}
	shunt_changing_end();
}

int shunt_entries_add(struct shunt_entries *set)
{
	struct shunt_report report = {0};
	int ret = shunt_entries_link(set);

	if (ret)
		return ret;
	ret = grow_tracers(set);
	if (!ret)
		ret = shunt_ftrace_change(set, false, &report);
	else
		report.what = "allocate a set of entries";
	end_change(&report, ret);
	if (ret) {
		report.error = ret;
		shunt_port_report(&report);
	}
	return ret;
}

/* Its bits, in sets that stubs may be reading: of entries that no thread is in any more. */
static void forget_bits(const struct shunt_entry *entry)
{
	for (struct shunt_tracer *t = shunt_tracers; t; t = t->next) {
		struct shunt_bits *active = (struct shunt_bits *)(uintptr_t)t->active;

		if (shunt_bits_have(active, entry->index))
			shunt_bits_set(active, entry->index, false);
	}
}

void shunt_entries_remove(struct shunt_entries *set)
{
	struct shunt_entries *known = shunt_entries_first();

	while (known && known != set)
		known = known->next;
	if (!known)
		return;
	shunt_ftrace_drop(set);
	for (struct shunt_tracer *tracer = shunt_tracers; tracer; tracer = tracer->next)
		shunt_rules_forget(shunt_rules_of(tracer), set);
	for (size_t i = 0; i < set->n; i++)
		forget_bits(&set->entries[i]);
	shunt_entries_unlink(set);
}
