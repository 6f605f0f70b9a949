/* SPDX-License-Identifier: MIT */
/*
 * A batch of pokes at entries of function tracing, with the records that the trap handler finds;
 * and the tracers that take part in the change.
 */
#include "core/ftrace_batch.h"
#include "core/error.h"
#include "core/text_site.h"

struct shunt_tracer *shunt_changing;

void shunt_changing_join(struct shunt_tracer *t)
{
	if (t->is_changing)
		return;
	t->is_changing = true;
	t->next_changing = shunt_changing;
	shunt_changing = t;
}

void shunt_changing_end(void)
{
	for (struct shunt_tracer *t = shunt_changing; t; t = t->next_changing) {
		t->is_changing = false;
		t->next_active = NULL;
	}
	shunt_changing = NULL;
}

static struct shunt_text_site *record_of(const struct shunt_poke *p)
{
	return (struct shunt_text_site *)((char *)p->site - offsetof(struct shunt_text_site, site));
}

void shunt_ftrace_commit_text(struct shunt_change *change)
{
	struct shunt_ftrace_batch *b = (struct shunt_ftrace_batch *)change;

	for (size_t i = 0; i < b->n; i++)
		atomic_store_explicit(&record_of(&b->pokes[i])->insn,
				      record_of(&b->pokes[i])->next_insn, memory_order_release);
}

void shunt_ftrace_revert_text(struct shunt_change *change)
{
	struct shunt_ftrace_batch *b = (struct shunt_ftrace_batch *)change;

	for (size_t i = 0; i < b->n; i++)
		atomic_store_explicit(&record_of(&b->pokes[i])->insn,
				      record_of(&b->pokes[i])->last_insn, memory_order_release);
}

/*
 * The shortest nop, and more behind it: as if all had been executed. By itself: few entries are,
 * and all go by word_of().
 */
static __attribute__((noinline)) int word_of_nops(const uint8_t *bytes, uintptr_t ip,
						  uint64_t *word)
{
	const struct shunt_insn all = {.op = SHUNT_OP_NOP, .len = SHUNT_CALL_LEN};
	struct shunt_insn one;
	uint8_t nop[SHUNT_INSN_MAX];

	if (shunt_insn_decode(bytes, SHUNT_CALL_LEN, ip, &one) != SHUNT_INSN_ALIGN ||
	    one.op != SHUNT_OP_NOP || shunt_insn_encode(&all, ip, nop) < 0)
		return -SHUNT_EINVAL;
	return shunt_text_insn_decode(nop, SHUNT_CALL_LEN, ip, word);
}

/* For the trap handler. What is longer than its instruction goes on behind that. */
static int word_of(const uint8_t *bytes, unsigned len, uintptr_t ip, uint64_t *word)
{
	if (!shunt_text_insn_decode(bytes, len, ip, word) ||
	    !shunt_text_insn_decode(bytes, SHUNT_CALL_LEN, ip, word))
		return 0;
	return word_of_nops(bytes, ip, word);
}

int shunt_ftrace_batch_add(struct shunt_ftrace_batch *b, uintptr_t ip, unsigned len,
			   const uint8_t *old, const uint8_t *new, struct shunt_report *report)
{
	struct shunt_poke *p = &b->pokes[b->n];
	struct shunt_text_site *s = shunt_text_site_make(ip);
	int ret;

	report->what = "allocate a record";
	report->site = (const void *)ip; /* NOLINT(performance-no-int-to-ptr) */
	if (!s)
		return shunt_port_no_memory();
	p->addr = (uint8_t *)ip; /* NOLINT(performance-no-int-to-ptr) */
	p->len = (uint8_t)len;
	p->site = &s->site;
	shunt_ftrace_copy(p->old, old, len);
	shunt_ftrace_copy(p->new, new, len);
	report->what = "the instruction at the entry cannot be emulated";
	ret = word_of(new, len, ip, &s->next_insn);
	if (!ret && word_of(old, len, ip, &s->last_insn)) /* of bytes that nothing leads to */
		s->last_insn = s->next_insn;
	/* An int3 that could not be undone has the effect that the record says. */
	if (atomic_load_explicit(&s->site.poked, memory_order_relaxed))
		s->last_insn = atomic_load_explicit(&s->insn, memory_order_relaxed);
	if (!ret)
		b->n++;
	return ret;
}

bool shunt_ftrace_batch_begin(struct shunt_ftrace_batch *b, size_t max)
{
	b->n = 0;
	b->max = max;
	b->pokes = max ? shunt_port_alloc(max * sizeof(b->pokes[0])) : NULL;
	return !max || b->pokes;
}

void shunt_ftrace_batch_end(struct shunt_ftrace_batch *b)
{
	if (b->pokes)
		shunt_port_free(b->pokes, b->max * sizeof(b->pokes[0]));
}
