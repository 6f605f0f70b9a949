/* SPDX-License-Identifier: MIT */
/*
 * What is to stand at an entry, and the change of many in one batch. An entry is one of
 *
 *	what the compiler left  until it is traced for the first time
 *	a call of a stub        it is traced
 *	its off form            it is not; it keeps the call's displacement, so that a flip
 *	                        (poke_flip.c) makes it that again
 *
 * with the bytes that shunt_insn_plain() and shunt_entry_fill() write (arch/CPU/plain.h). Where
 * each entry has a stub of its own (SHUNT_HAS_ENTRY_STUBS) it jumps to that, and off is what the
 * compiler left. The rest is of CPUs where entries share stubs.
 *
 * A ret that is off is one still; before a tail call, where the flags are live, off is what the
 * compiler left. So it is of a function's last jump, to a handler, which goes to a stub instead.
 * Which stub is called changes from call to call, never through a form that calls none: what two
 * states both trace is never skipped. Of an instruction longer than the call the rest is a nop from
 * the first poke on, because a stub returns to it.
 */
#include "core/error.h"
#include "core/ftrace_batch.h"
#include "core/text_site.h"

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

/* -------------------------------------------------------------- the instruction */

/*
 * A veneer is found once for each stub of an entry: another call may name another one, when the
 * module has come to be registered, or is no more.
 */
static uintptr_t known_target(const struct shunt_entry *e, unsigned id)
{
	return e->to && id == id_in(e->state) ? e->ip + (uintptr_t)(intptr_t)e->to : 0;
}

/* What the call or jump in @bytes leads to; 0: the stub cannot be reached (shunt_port_far_error()).
 */
static uintptr_t call_bytes(const struct shunt_entry *e, unsigned id, uint8_t bytes[SHUNT_SITE_MAX])
{
	uint8_t op = e->form == SHUNT_FORM_JUMP_RETURN ? SHUNT_OP_JMP : SHUNT_ENTRY_OP;
	uintptr_t to = SHUNT_HAS_ENTRY_STUBS ? 0 : known_target(e, id);

	if (!to)
		to = shunt_port_trace_stub(e->form, id);
	if (to && SHUNT_HAS_ENTRY_STUBS) {
		to = shunt_port_entry_stub(e->ip, to);
		return to && shunt_insn_plain(op, to, e->ip, bytes) ? to : 0;
	}
	if (!to || shunt_insn_plain(op, to, e->ip, bytes))
		return to;
	to = shunt_port_veneer(e->ip, to);
	return to && shunt_insn_plain(op, to, e->ip, bytes) ? to : 0;
}

/* The bytes at an entry in @state. False: the stub cannot be reached. */
static bool bytes_in(const struct shunt_entry *e, uint32_t state, uint8_t bytes[SHUNT_SITE_MAX])
{
	bool has_own_off = SHUNT_HAS_ENTRY_STUBS || e->form == SHUNT_FORM_TAIL ||
			   e->form == SHUNT_FORM_JUMP_RETURN;
	bool is_old = !state || (has_own_off && !is_on(state));
	bool is_ret = e->form == SHUNT_FORM_RETURN;

	if (is_old) {
		shunt_ftrace_copy(bytes, e->old, e->len);
		return true;
	}
	if (!call_bytes(e, id_in(state), bytes))
		return false;
	shunt_entry_fill(bytes, e->len, is_ret, is_on(state));
	return true;
}

/* ------------------------------------------------------------------- the state */

/* Whether the function's return is told neither by its own exits nor by nobody. */
static bool is_returned_by_stub(const struct shunt_entry *e, const struct shunt_tracer *t)
{
	return e->form == SHUNT_FORM_HEAD && e->kind != SHUNT_ENTRY_XRAY &&
	       (t->ops->flags & SHUNT_FTRACE_EXITS);
}

/* Whether @t alone is called by the stub of its slot, and not by a list. */
static bool has_slot_stub(const struct shunt_entry *e, const struct shunt_tracer *t)
{
	return t->slot &&
	       (e->form == SHUNT_FORM_HEAD || (e->form == SHUNT_FORM_CALL && !t->is_full));
}

/* The stub that is to be called; 0: none. */
static unsigned wanted_id(const struct shunt_entry *e)
{
	const struct shunt_tracer *one = NULL;
	bool is_full = false;
	unsigned n = 0;

	for (const struct shunt_tracer *t = shunt_tracers; t; t = t->next) {
		if (!shunt_is_traced(e, t, shunt_bits_after(t)))
			continue;
		is_full |= t->is_full;
		one = t;
		n++;
	}
	if (n == 1 && (one->ops->flags & SHUNT_FTRACE_RAW))
		return is_returned_by_stub(e, one) ? SHUNT_STUB_RAW : SHUNT_STUB_RAW_ENTRY;
	if (n == 1 && has_slot_stub(e, one))
		return one->slot;
	if (!n)
		return 0;
	return is_full ? SHUNT_STUB_LIST_FULL : SHUNT_STUB_LIST;
}

static uint32_t wanted_state(const struct shunt_entry *e)
{
	unsigned id = wanted_id(e);

	return id ? state_of(id, true) : e->state & ~1u;
}

/* Whether the stub that @e calls now, if any, calls @t. */
static bool is_served_to(const struct shunt_entry *e, const struct shunt_tracer *t)
{
	const unsigned id = id_in(e->state);

	return is_on(e->state) && (id == SHUNT_STUB_LIST_FULL || id == t->slot ||
				   (id == SHUNT_STUB_LIST && !t->is_full) ||
				   (id >= SHUNT_STUB_RAW && t->ops->flags & SHUNT_FTRACE_RAW));
}

/* Whether it calls one of those that are to trace @e. */
static bool is_served(const struct shunt_entry *e)
{
	for (const struct shunt_tracer *t = shunt_tracers; t; t = t->next)
		if (is_served_to(e, t) && shunt_is_traced(e, t, shunt_bits_after(t)))
			return true;
	return false;
}

/*
 * Decide what @e is to be, in e->next: what is wanted; or where the stub for that is out of reach,
 * and no memory for a veneer within it, as it is, as long as that calls anyone, else off. 0, or
 * what the stub could not be made for.
 */
static int choose_state(struct shunt_entry *e)
{
	uint8_t bytes[SHUNT_SITE_MAX];
	int ret;

	e->next = wanted_state(e);
	if (e->next == e->state || bytes_in(e, e->next, bytes))
		return 0;
	ret = shunt_port_far_error();
	if (ret != -SHUNT_ERANGE)
		return ret;
	e->why = shunt_entry_far;
	e->next = is_served(e) ? e->state : e->state & ~1u;
	return 0;
}

size_t shunt_entry_nr_ops(const struct shunt_entry *e)
{
	size_t n = 0;

	for (const struct shunt_tracer *t = shunt_tracers; t; t = t->next)
		n += is_served_to(e, t) &&
		     shunt_is_traced(e, t, atomic_load_explicit(&t->active, memory_order_relaxed));
	return n;
}

static uint64_t word_in(const struct shunt_bits *bits, size_t i)
{
	return bits && i < bits->nr_words ? bits->words[i] : 0;
}

/* Of the 64 entries from number 64 * @i on: those at which a tracer that is changing differs. */
static uint64_t differing(size_t i)
{
	uint64_t bits = 0;

	for (const struct shunt_tracer *t = shunt_changing; t; t = t->next_changing)
		bits |= word_in(t->next_active, i) ^ word_in(t->last_active, i);
	return bits;
}

/* -------------------------------------------------------------------- a batch */

/* Who is called by the lists, and by a slot whose ops go away. Pairs with wants(), ftrace_run.c. */
static void commit(struct shunt_change *change)
{
	shunt_ftrace_commit_text(change);
	for (struct shunt_tracer *t = shunt_changing; t; t = t->next_changing) {
		atomic_store_explicit(&t->active, t->next_active, memory_order_release);
		if (!t->next_active && t->slot)
			atomic_store_explicit(&shunt_ftrace_slots[t->slot - 1].fast, 0,
					      memory_order_release);
	}
}

static void revert(struct shunt_change *change)
{
	shunt_ftrace_revert_text(change);
	for (struct shunt_tracer *t = shunt_changing; t; t = t->next_changing) {
		atomic_store_explicit(&t->active, t->last_active, memory_order_release);
		if (!t->next_active && t->slot)
			atomic_store_explicit(&shunt_ftrace_slots[t->slot - 1].fast, t->last_fast,
					      memory_order_release);
	}
}

static void set_state(struct shunt_entry *e, uint32_t state)
{
	uint8_t bytes[SHUNT_SITE_MAX];

	e->to = (int32_t)(call_bytes(e, id_in(state), bytes) - e->ip);
	e->state = state;
}

/* All that is to be true of this change from here on, for a copy of the process too. */
static void done(struct shunt_change *change)
{
	struct shunt_ftrace_batch *b = (struct shunt_ftrace_batch *)change;

	for (size_t i = 0; i < b->n; i++) {
		struct shunt_entry *e = (struct shunt_entry *)(uintptr_t)shunt_entry_find(
			(uintptr_t)b->pokes[i].addr);

		if (e)
			set_state(e, e->next);
	}
	for (struct shunt_tracer *t = shunt_changing; t; t = t->next_changing)
		t->is_registered = t->next_active != NULL;
}

/* ------------------------------------------------------------------- the change */

static bool is_poked(uintptr_t ip)
{
	const struct shunt_text_site *s = shunt_text_site_at(ip);

	return s && atomic_load_explicit(&s->site.poked, memory_order_relaxed);
}

static const char *why_foreign(const struct shunt_entry *e)
{
	uint8_t bytes[SHUNT_SITE_MAX];
	bool is_same = bytes_in(e, e->state, bytes);

	for (unsigned i = 0; i < e->len && is_same; i++)
		is_same = bytes[i] == ((const volatile uint8_t *)e->ip)[i];
	return is_same || is_on(e->state) || is_poked(e->ip) ? NULL
							     : "somebody else has changed it";
}

const char *shunt_entry_why(const struct shunt_entry *e)
{
	const char *why = why_foreign(e);

	return why || e->why != shunt_entry_far ? why : e->why;
}

static bool must_prepare(const struct shunt_entry *e)
{
	return e->prepare != SHUNT_READY && !e->why;
}

/*
 * Entries may be left as they are where the change goes well: off, under somebody else's bytes, out
 * of reach of the stub, or on an int3 of ours. Ops have them all the same, and so no filter differs
 * by them that is set again: the next change looks at all entries.
 */
static bool is_any_left;

struct wanted {
	struct shunt_entry **entries; /* that change */
	size_t n, max;
	bool all, has_left; /* all were looked at; some are left as they are */
};

static bool is_of(const struct shunt_entry *e, const struct shunt_entries *set)
{
	return e >= set->entries && e < set->entries + set->n;
}

static int add_wanted(struct wanted *w, struct shunt_entry *e, const struct shunt_entries *only,
		      struct shunt_report *report)
{
	uint8_t expected[SHUNT_SITE_MAX] = {0};
	const char *told;
	int ret = 0;

	if (!e || (only && !is_of(e, only)) || (wanted_state(e) == e->state && !is_poked(e->ip)))
		return 0;
	told = e->why;
	e->why = why_foreign(e);
	if (!e->why)
		ret = choose_state(e);
	if (ret) {
		report->site = (const void *)e->ip; /* NOLINT(performance-no-int-to-ptr) */
		report->what = "make a stub or veneer for the entry";
		return ret;
	}
	if (!e->why || (e->why == shunt_entry_far && (e->next != e->state || is_poked(e->ip))))
		w->entries[w->n++] = e;
	if (!e->why)
		return 0;
	w->has_left = true;
	if (e->why != told) {
		(void)bytes_in(e, e->state, expected);
		shunt_ftrace_left(e, expected);
	}
	return 0;
}

static uint64_t looked_at(const struct wanted *w, size_t i)
{
	return w->all ? ~UINT64_C(0) : differing(i);
}

static int list_wanted(struct wanted *w, const struct shunt_entries *only,
		       struct shunt_report *report)
{
	int ret = 0;
	size_t words = (shunt_entries_numbers() + 63) / 64;

	w->all = is_any_left && !only;
	w->max = 0;
	for (size_t i = 0; i < words; i++)
		for (uint64_t bits = looked_at(w, i); bits; bits &= bits - 1)
			w->max++;
	w->entries = w->max ? shunt_port_alloc(w->max * sizeof(void *)) : NULL;
	if (w->max && !w->entries)
		return shunt_port_no_memory();
	for (size_t i = 0; i < words && w->max; i++)
		for (uint64_t bits = looked_at(w, i); bits && !ret; bits &= bits - 1) {
			size_t number = 64 * i + (unsigned)__builtin_ctzll(bits);

			ret = add_wanted(w, shunt_entry_number(number), only, report);
		}
	return ret;
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
	entries = shunt_port_alloc(n * sizeof(void *));
	if (!entries)
		return shunt_port_no_memory();
	n = 0;
	for (size_t i = 0; i < w->n; i++)
		if (must_prepare(w->entries[i]))
			entries[n++] = w->entries[i];
	ret = shunt_ftrace_prepare(entries, n, report);
	shunt_port_free(entries, n * sizeof(void *));
	return ret;
}

static int add_change(struct shunt_ftrace_batch *b, struct shunt_entry *e, uint32_t to,
		      struct shunt_report *report)
{
	uint8_t old[SHUNT_SITE_MAX] = {0}, new[SHUNT_SITE_MAX] = {0};

	if (!bytes_in(e, e->state, old) || !bytes_in(e, to, new)) {
		report->site = (const void *)e->ip; /* NOLINT(performance-no-int-to-ptr) */
		report->what = "make a stub or veneer for the entry";
		return shunt_port_far_error();
	}
	return shunt_ftrace_batch_add(b, e->ip, e->len, old, new, report);
}

/* Nothing is written: what stubs read changes alone. */
static int change_sets(struct shunt_ftrace_batch *b, bool must_sync, struct shunt_report *report)
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
	struct shunt_ftrace_batch b = {.change = {commit, revert, done, NULL}};
	struct wanted w = {0};
	int ret;

	report->what = "allocate a batch";
	ret = list_wanted(&w, only, report);
	if (!ret)
		ret = prepare_wanted(&w, report);
	if (!ret && !shunt_ftrace_batch_begin(&b, w.n))
		ret = shunt_port_no_memory();
	for (size_t i = 0; i < w.n && !ret; i++)
		ret = add_change(&b, w.entries[i], w.entries[i]->next, report);
	if (w.entries)
		shunt_port_free(w.entries, w.max * sizeof(void *));
	/* Stubs that have been written for it: before a CPU comes to them. */
	if (!ret && b.n && SHUNT_HAS_ENTRY_STUBS) {
		report->what = "core sync";
		ret = shunt_port_core_sync();
	}
	if (!ret && b.n) {
		shunt_ftrace_revert_text(&b.change);
		ret = shunt_poke_batch(b.pokes, b.n, &b.change, report);
	} else if (!ret) {
		ret = change_sets(&b, must_sync, report);
	}
	shunt_ftrace_batch_end(&b);
	is_any_left = ret || report->error || w.has_left || (is_any_left && !w.all);
	return ret;
}

static void name_function(struct shunt_report *report)
{
	uintptr_t ip = (uintptr_t)report->site;
	const struct shunt_entry *e = ip ? shunt_entry_find(ip) : NULL;

	if (!e && ip)
		e = shunt_entry_find(ip - SHUNT_CALL_LEN);
	if (e)
		report->function = shunt_entry_names(shunt_entries_of(e), e);
}

int shunt_ftrace_change(struct shunt_entries *only, bool must_sync, struct shunt_report *report)
{
	int ret;

	shunt_ftrace_left_begin();
	for (struct shunt_tracer *t = shunt_changing; t; t = t->next_changing) {
		t->last_active = atomic_load_explicit(&t->active, memory_order_relaxed);
		if (t->slot)
			t->last_fast = atomic_load_explicit(&shunt_ftrace_slots[t->slot - 1].fast,
							    memory_order_relaxed);
	}
	report->what = "take the update lock";
	ret = shunt_port_lock();
	if (ret)
		return ret;
	ret = change_locked(only, must_sync, report);
	shunt_port_unlock();
	if (ret || report->error)
		name_function(report);
	shunt_ftrace_left_tell();
	return ret;
}

/* ------------------------------------------------------------- a set that goes */

void shunt_ftrace_drop(struct shunt_entries *set)
{
	struct shunt_ftrace_batch b = {
		.change = {shunt_ftrace_commit_text, shunt_ftrace_revert_text, NULL, NULL}};
	struct shunt_report report = {0};

	if (shunt_port_lock())
		return;
	if (shunt_ftrace_batch_begin(&b, set->n)) {
		for (size_t i = 0; i < set->n; i++)
			if (is_on(set->entries[i].state))
				(void)add_change(&b, &set->entries[i], set->entries[i].state & ~1u,
						 &report);
		shunt_ftrace_revert_text(&b.change);
		if (b.n)
			(void)shunt_poke_batch(b.pokes, b.n, &b.change, &report);
		shunt_ftrace_batch_end(&b);
	}
	for (size_t i = 0; i < set->n; i++)
		shunt_text_sites_forget(set->entries[i].ip, SHUNT_CALL_LEN + 1);
	shunt_port_unlock();
}
