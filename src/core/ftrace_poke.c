/* SPDX-License-Identifier: MIT */
/*
 * What is to stand at an entry, and the change of many in one batch. An entry is one of
 *
 *	what the compiler left          until it is traced for the first time
 *	e8 rel32	call stub       it is traced
 *	a9 imm32	test $imm,%eax  it is not; imm: as the call's before, so that one byte
 *	                                written (poke_flip.c) makes it that again
 *
 * A ret is c3 rel32 when it is off; and before a tail call, where the flags are live, off is the
 *jmp over the rest that the compiler left. Which stub is called changes from call to call, never
 * through a form that calls none: what two states both trace is never skipped. Of an instruction
 * of 6 bytes the last is left over: a nop from the first poke on, because a stub returns to it.
 *
 * What is no instruction of 5 bytes yet is prepared first, by a batch of its own that changes what
 *no thread can tell: five nops of one byte become one instruction, by the first byte alone,
 *
 *	90 90 90 90 90	->  a9 90 90 90 90	test $0x90909090,%eax
 *
 * behind which a thread that stands between two of them still finds nops; no thread comes there any
 * more, and when all have left (shunt_port_leave_nops()) the rest may be changed as well. Of
 * XRay's jmp over 9 bytes those that the call will return to become a nop; nothing leads to them.
 */
#include "core/error.h"
#include "core/ftrace_internal.h"
#include "core/text_site.h"

#define CALL_LEN 5

/* shunt_entry.state: which stub's displacement stands there, and whether it is called. */
static uint32_t state_of(unsigned id, bool on)
{
	return (uint32_t)id << 1 | on;
}

static unsigned id_in(uint32_t state)
{
	return state >> 1;
}

static bool is_on(uint32_t state)
{
	return state & 1;
}

static bool is_exit(const struct shunt_entry *e)
{
	return e->form == SHUNT_FORM_RETURN || e->form == SHUNT_FORM_TAIL ||
	       e->form == SHUNT_FORM_CALL_RETURN || e->form == SHUNT_FORM_JUMP_RETURN;
}

/* -------------------------------------------------------------- the instruction */

static void put(uint8_t *to, const uint8_t *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((volatile uint8_t *)to)[i] = from[i];
}

static bool call_bytes(const struct shunt_entry *e, unsigned id, uint8_t bytes[SHUNT_SITE_MAX])
{
	uintptr_t stub = shunt_port_trace_stub(e->form, id);

	if (!stub)
		return false;
	if (shunt_insn_plain(true, stub, e->ip, bytes))
		return true;
	stub = shunt_port_veneer(e->ip, stub);
	return stub && shunt_insn_plain(true, stub, e->ip, bytes);
}

/* The bytes at an entry in @state. False: the stub cannot be reached. */
static bool bytes_in(const struct shunt_entry *e, uint32_t state, uint8_t bytes[SHUNT_SITE_MAX])
{
	bool is_old = !state || (e->form == SHUNT_FORM_TAIL && !is_on(state));
	bool is_ret = e->form == SHUNT_FORM_RETURN;

	if (is_old) {
		put(bytes, e->old, e->len);
		return true;
	}
	if (!call_bytes(e, id_in(state), bytes))
		return false;
	if (!is_on(state))
		bytes[0] = is_ret ? 0xc3 : 0xa9;
	if (e->len > CALL_LEN)
		bytes[CALL_LEN] = is_ret || e->form == SHUNT_FORM_JUMP_RETURN ? 0xc3 : 0x90;
	return true;
}

/* For the trap handler. What is longer than its instruction goes on behind that. */
static int word_of(const uint8_t *bytes, unsigned len, uintptr_t ip, uint64_t *word)
{
	static const uint8_t nop[] = {0x0f, 0x1f, 0x44, 0x00, 0x00};

	if (!shunt_text_insn_decode(bytes, len, ip, word) ||
	    !shunt_text_insn_decode(bytes, CALL_LEN, ip, word))
		return 0;
	if (bytes[0] == 0x90) /* five of one byte: as if all had been executed */
		return shunt_text_insn_decode(nop, CALL_LEN, ip, word);
	return -SHUNT_EINVAL;
}

/* ------------------------------------------------------------------- the state */

static const struct shunt_bits *bits_after(const struct shunt_tracer *t)
{
	return t->is_changing ? t->next_active
			      : atomic_load_explicit(&t->active, memory_order_relaxed);
}

static bool is_traced(const struct shunt_entry *e, const struct shunt_tracer *t,
		      const struct shunt_bits *bits)
{
	return shunt_bits_have(bits, e->index) &&
	       (!is_exit(e) || (t->ops->flags & SHUNT_FTRACE_EXITS));
}

/* The stub that is to be called; 0: none. */
static unsigned wanted_id(const struct shunt_entry *e)
{
	const struct shunt_tracer *one = NULL;
	bool is_full = false;
	unsigned n = 0;

	for (const struct shunt_tracer *t = shunt_tracers; t; t = t->next) {
		if (!is_traced(e, t, bits_after(t)))
			continue;
		is_full |= t->is_full;
		one = t;
		n++;
	}
	if (n == 1 && e->form == SHUNT_FORM_HEAD && one->slot)
		return one->slot;
	if (!n)
		return 0;
	return is_full ? SHUNT_STUB_LIST_FULL : SHUNT_STUB_LIST;
}

static uint32_t state_after(const struct shunt_entry *e)
{
	unsigned id = wanted_id(e);

	return id ? state_of(id, true) : e->state & ~1u;
}

size_t shunt_entry_nr_ops(const struct shunt_entry *e)
{
	size_t n = 0;

	for (const struct shunt_tracer *t = shunt_tracers; t; t = t->next)
		n += is_traced(e, t, atomic_load_explicit(&t->active, memory_order_relaxed));
	return n;
}

/* Whether a tracer that is changing differs at it. */
static bool differs(const struct shunt_entry *e)
{
	for (const struct shunt_tracer *t = shunt_tracers; t; t = t->next)
		if (t->is_changing && shunt_bits_have(t->next_active, e->index) !=
					      shunt_bits_have(t->last_active, e->index))
			return true;
	return false;
}

/* -------------------------------------------------------------------- a batch */

struct batch {
	struct shunt_change change;
	struct shunt_poke *pokes;
	size_t n, max;
};

static struct shunt_text_site *record_of(const struct shunt_poke *p)
{
	return (struct shunt_text_site *)((char *)p->site - offsetof(struct shunt_text_site, site));
}

static void commit_text(struct shunt_change *change)
{
	struct batch *b = (struct batch *)change;

	for (size_t i = 0; i < b->n; i++)
		atomic_store_explicit(&record_of(&b->pokes[i])->insn,
				      record_of(&b->pokes[i])->next_insn, memory_order_release);
}

static void revert_text(struct shunt_change *change)
{
	struct batch *b = (struct batch *)change;

	for (size_t i = 0; i < b->n; i++)
		atomic_store_explicit(&record_of(&b->pokes[i])->insn,
				      record_of(&b->pokes[i])->last_insn, memory_order_release);
}

/* Who is called by the lists, and by a slot whose ops go away. Pairs with wants(), ftrace_run.c. */
static void commit(struct shunt_change *change)
{
	commit_text(change);
	for (struct shunt_tracer *t = shunt_tracers; t; t = t->next) {
		if (!t->is_changing)
			continue;
		atomic_store_explicit(&t->active, t->next_active, memory_order_release);
		if (!t->next_active && t->slot)
			atomic_store_explicit(&shunt_trace_slots[t->slot - 1].fast, 0,
					      memory_order_release);
	}
}

static void revert(struct shunt_change *change)
{
	revert_text(change);
	for (struct shunt_tracer *t = shunt_tracers; t; t = t->next) {
		if (!t->is_changing)
			continue;
		atomic_store_explicit(&t->active, t->last_active, memory_order_release);
		if (!t->next_active && t->slot)
			atomic_store_explicit(&shunt_trace_slots[t->slot - 1].fast, t->last_fast,
					      memory_order_release);
	}
}

/* All that is to be true of this change from here on, for a copy of the process too. */
static void done(struct shunt_change *change)
{
	struct batch *b = (struct batch *)change;

	for (size_t i = 0; i < b->n; i++) {
		struct shunt_entry *e = (struct shunt_entry *)(uintptr_t)shunt_entry_find(
			(uintptr_t)b->pokes[i].addr);

		if (e)
			e->state = state_after(e);
	}
	for (struct shunt_tracer *t = shunt_tracers; t; t = t->next)
		if (t->is_changing)
			t->is_registered = t->next_active != NULL;
}

/* Add a poke of @len bytes at @ip; @old and @new may be of a preparation. */
static int add(struct batch *b, uintptr_t ip, unsigned len, const uint8_t *old, const uint8_t *new,
	       struct shunt_report *report)
{
	struct shunt_poke *p = &b->pokes[b->n];
	struct shunt_text_site *s = shunt_text_site_make(ip);
	int ret = s ? 0 : -SHUNT_ENOMEM;

	report->what = "allocate a record";
	report->site = (const void *)ip; /* NOLINT(performance-no-int-to-ptr) */
	if (ret)
		return ret;
	p->addr = (uint8_t *)ip; /* NOLINT(performance-no-int-to-ptr) */
	p->len = (uint8_t)len;
	p->site = &s->site;
	put(p->old, old, len);
	put(p->new, new, len);
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

static bool begin_batch(struct batch *b, size_t max)
{
	b->n = 0;
	b->max = max;
	b->pokes = max ? shunt_port_alloc(max * sizeof(b->pokes[0])) : NULL;
	return !max || b->pokes;
}

static void end_batch(struct batch *b)
{
	if (b->pokes)
		shunt_port_free(b->pokes, b->max * sizeof(b->pokes[0]));
}

/* --------------------------------------------------------------- the preparation */

static bool must_prepare(const struct shunt_entry *e)
{
	return e->prepare != SHUNT_READY && !e->why;
}

#define XRAY_TAIL 5 /* where the nop begins that the call of an XRay sled returns to */

static int add_preparation(struct batch *b, const struct shunt_entry *e,
			   struct shunt_report *report)
{
	static const uint8_t nops[] = {0x90, 0x90, 0x90, 0x90, 0x90};
	static const uint8_t one[] = {0xa9, 0x90, 0x90, 0x90, 0x90};
	static const uint8_t nop6[] = {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00};
	const uint8_t over[] = {0xeb, (uint8_t)(e->old[1] - XRAY_TAIL)};
	uint8_t now[SHUNT_SITE_MAX];

	if (e->prepare == SHUNT_SINGLE_NOPS && e->old[0] == 0xa9)
		return 0; /* threads have not been seen to leave them: that is left to do */
	if (e->prepare == SHUNT_SINGLE_NOPS)
		return add(b, e->ip, CALL_LEN, nops, one, report);
	put(now, (const uint8_t *)e->ip + XRAY_TAIL, sizeof(now));
	if (e->prepare == SHUNT_LONG_NOP)
		return add(b, e->ip + XRAY_TAIL, sizeof(over), now, over, report);
	return add(b, e->ip + XRAY_TAIL, sizeof(nop6), now, nop6, report);
}

static int leave_nops(struct shunt_entry **entries, size_t n)
{
	uintptr_t *ips = shunt_port_alloc((n + 1) * sizeof(*ips));
	size_t nr = 0;
	int ret;

	if (!ips)
		return -SHUNT_ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (entries[i]->prepare == SHUNT_SINGLE_NOPS) {
			entries[i]->old[0] = 0xa9;
			ips[nr++] = entries[i]->ip;
		}
	ret = nr ? shunt_port_leave_nops(ips, nr) : 0;
	shunt_port_free(ips, (n + 1) * sizeof(*ips));
	return ret;
}

/* Long nops first: a jmp of 2 bytes over the rest, which has the same effect. */
static int jump_over_long_nops(struct shunt_entry **entries, size_t n, struct shunt_report *report)
{
	struct batch b = {.change = {commit_text, revert_text, NULL, NULL}};
	int ret = begin_batch(&b, n) ? 0 : -SHUNT_ENOMEM;

	for (size_t i = 0; i < n && !ret; i++) {
		struct shunt_entry *e = entries[i];
		struct shunt_insn nop;
		uint8_t jmp[2] = {0xeb};

		if (e->prepare != SHUNT_LONG_NOP || e->old[0] == jmp[0])
			continue;
		ret = shunt_insn_decode((const uint8_t *)e->ip, SHUNT_INSN_LONGEST, e->ip, &nop);
		if (ret < CALL_LEN + 2 || nop.op != SHUNT_OP_NOP)
			ret = -SHUNT_EBUSY;
		jmp[1] = (uint8_t)(nop.len - sizeof(jmp));
		if (ret > 0)
			ret = add(&b, e->ip, sizeof(jmp), e->old, jmp, report);
	}
	if (!ret && b.n) {
		revert_text(&b.change);
		ret = shunt_poke_batch(b.pokes, b.n, &b.change, report);
	}
	for (size_t i = 0; i < n && !ret; i++)
		if (entries[i]->prepare == SHUNT_LONG_NOP)
			put(entries[i]->old, (const uint8_t *)entries[i]->ip, CALL_LEN);
	end_batch(&b);
	return ret;
}

/* Update lock held. What has been prepared stays so, also where the change fails then. */
static int prepare(struct shunt_entry **entries, size_t n, struct shunt_report *report)
{
	struct batch b = {.change = {commit_text, revert_text, NULL, NULL}};
	int ret = jump_over_long_nops(entries, n, report);

	if (!ret)
		ret = begin_batch(&b, n) ? 0 : -SHUNT_ENOMEM;
	for (size_t i = 0; i < n && !ret; i++)
		ret = add_preparation(&b, entries[i], report);
	if (!ret) {
		revert_text(&b.change);
		ret = shunt_poke_batch(b.pokes, b.n, &b.change, report);
	}
	end_batch(&b);
	if (ret)
		return ret;
	report->site = (const void *)entries[0]->ip; /* NOLINT(performance-no-int-to-ptr) */
	report->what = "see to it that no thread stands between the nops";
	ret = leave_nops(entries, n);
	for (size_t i = 0; i < n && !ret; i++)
		entries[i]->prepare = SHUNT_READY;
	return ret;
}

/* ------------------------------------------------------------------- the change */

/* Somebody else's bytes: it is not traced, and said to be so, but no error. */
static bool is_foreign(struct shunt_entry *e)
{
	static const char changed[] = "somebody else has changed it";
	const struct shunt_text_site *s = shunt_text_site_at(e->ip);
	uint8_t bytes[SHUNT_SITE_MAX];
	bool is_same = bytes_in(e, e->state, bytes);

	for (unsigned i = 0; i < e->len && is_same; i++)
		is_same = bytes[i] == ((const volatile uint8_t *)e->ip)[i];
	if (s && atomic_load_explicit(&s->site.poked, memory_order_relaxed))
		is_same = true;
	if (is_same && e->why == changed)
		e->why = NULL;
	if (!is_same && !is_on(e->state))
		e->why = changed;
	return e->why != NULL;
}

struct wanted {
	struct shunt_entry **entries; /* that change */
	size_t n, max;
};

static int list_wanted(struct wanted *w, struct shunt_entries *only)
{
	w->max = 0;
	for (struct shunt_entries *s = only ? only : shunt_entries_first(); s;
	     s = only ? NULL : s->next)
		w->max += s->n;
	w->entries = w->max ? shunt_port_alloc(w->max * sizeof(w->entries[0])) : NULL;
	if (w->max && !w->entries)
		return -SHUNT_ENOMEM;
	for (struct shunt_entries *s = only ? only : shunt_entries_first(); s;
	     s = only ? NULL : s->next)
		for (size_t i = 0; i < s->n; i++) {
			struct shunt_entry *e = &s->entries[i];

			if (differs(e) && state_after(e) != e->state && !is_foreign(e))
				w->entries[w->n++] = e;
		}
	return 0;
}

static int prepare_wanted(const struct wanted *w, struct shunt_report *report)
{
	struct shunt_entry **entries;
	size_t n = 0;
	int ret;

	for (size_t i = 0; i < w->n; i++)
		n += must_prepare(w->entries[i]);
	if (!n)
		return 0;
	entries = shunt_port_alloc(n * sizeof(entries[0]));
	if (!entries)
		return -SHUNT_ENOMEM;
	n = 0;
	for (size_t i = 0; i < w->n; i++)
		if (must_prepare(w->entries[i]))
			entries[n++] = w->entries[i];
	ret = prepare(entries, n, report);
	shunt_port_free(entries, n * sizeof(entries[0]));
	return ret;
}

static int add_change(struct batch *b, struct shunt_entry *e, uint32_t to,
		      struct shunt_report *report)
{
	uint8_t old[SHUNT_SITE_MAX] = {0}, new[SHUNT_SITE_MAX] = {0};

	if (!bytes_in(e, e->state, old) || !bytes_in(e, to, new)) {
		report->site = (const void *)e->ip; /* NOLINT(performance-no-int-to-ptr) */
		report->what = "the stub is out of reach of the entry, and there is no veneer";
		return -SHUNT_ERANGE;
	}
	return add(b, e->ip, e->len, old, new, report);
}

/* Nothing is written: what stubs read changes alone. */
static int change_sets(struct batch *b, bool must_sync, struct shunt_report *report)
{
	int ret;

	commit(&b->change);
	ret = must_sync ? shunt_port_core_sync() : 0;
	report->what = "core sync";
	if (ret)
		revert(&b->change);
	else
		done(&b->change);
	return ret;
}

static int change_locked(struct shunt_entries *only, bool must_sync, struct shunt_report *report)
{
	struct batch b = {.change = {commit, revert, done, NULL}};
	struct wanted w = {0};
	int ret = list_wanted(&w, only);

	report->what = "allocate a batch";
	if (!ret)
		ret = prepare_wanted(&w, report);
	if (!ret && !begin_batch(&b, w.n))
		ret = -SHUNT_ENOMEM;
	for (size_t i = 0; i < w.n && !ret; i++)
		ret = add_change(&b, w.entries[i], state_after(w.entries[i]), report);
	if (w.entries)
		shunt_port_free(w.entries, w.max * sizeof(w.entries[0]));
	if (!ret && b.n) {
		revert_text(&b.change);
		ret = shunt_poke_batch(b.pokes, b.n, &b.change, report);
	} else if (!ret) {
		ret = change_sets(&b, must_sync, report);
	}
	end_batch(&b);
	return ret;
}

static void name_function(struct shunt_report *report)
{
	uintptr_t ip = (uintptr_t)report->site;
	const struct shunt_entry *e = ip ? shunt_entry_find(ip) : NULL;

	if (!e && ip)
		e = shunt_entry_find(ip - XRAY_TAIL);
	if (e)
		report->function = shunt_entry_names(shunt_entries_of(e), e);
}

int shunt_trace_change(struct shunt_entries *only, bool must_sync, struct shunt_report *report)
{
	int ret;

	for (struct shunt_tracer *t = shunt_tracers; t; t = t->next) {
		t->last_active = atomic_load_explicit(&t->active, memory_order_relaxed);
		if (t->slot)
			t->last_fast = atomic_load_explicit(&shunt_trace_slots[t->slot - 1].fast,
							    memory_order_relaxed);
	}
	report->what = "take the update lock";
	ret = shunt_port_lock();
	if (ret)
		return ret;
	ret = change_locked(only, must_sync, report);
	shunt_port_unlock();
	if (ret)
		name_function(report);
	return ret;
}

/* ------------------------------------------------------------- a set that goes */

void shunt_trace_drop(struct shunt_entries *set)
{
	struct batch b = {.change = {commit_text, revert_text, NULL, NULL}};
	struct shunt_report report = {0};

	if (shunt_port_lock())
		return;
	if (begin_batch(&b, set->n)) {
		for (size_t i = 0; i < set->n; i++)
			if (is_on(set->entries[i].state))
				(void)add_change(&b, &set->entries[i], set->entries[i].state & ~1u,
						 &report);
		revert_text(&b.change);
		if (b.n)
			(void)shunt_poke_batch(b.pokes, b.n, &b.change, &report);
		end_batch(&b);
	}
	for (size_t i = 0; i < set->n; i++)
		shunt_text_sites_forget(set->entries[i].ip, XRAY_TAIL + 1);
	shunt_port_unlock();
}
