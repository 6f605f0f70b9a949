/* SPDX-License-Identifier: MIT */
/*
 * Function tracing, after the Linux kernel's kernel/trace/ftrace.c (Steven Rostedt): who traces
 * what. Each change is one batch of pokes (ftrace_poke.c), with all or nothing of it.
 *
 * Lifetime: ops are the caller's, who may free them when they are unregistered: what would
 * still read them has been waited for (shunt_ftrace_settle(), linux/entry/wait.c). What is kept
 * of them is a record, struct shunt_tracer, with their filter: never freed, because stubs walk
 * the list; it is used again for others (ftrace_free_filter(), or other ops at that address).
 */
#include "core/error.h"
#include "core/ftrace_internal.h"

/* ---------------------------------------------------------------- the tracers */

static void free_tracer(struct shunt_tracer *t)
{
	shunt_known_forget(&t->known);
	shunt_rules_drop(shunt_rules_of(t), NULL);
	t->last_slot = 0;
	t->ops = NULL;
}

/* The record of @ops, NULL: there is none. Of ops that were there before, it is given up. */
static struct shunt_tracer *find_tracer(struct ftrace_ops *ops)
{
	for (struct shunt_tracer *t = shunt_tracers; t; t = t->next) {
		if (t->ops != ops)
			continue;
		if (t->is_registered || ops->__state == t)
			return t;
		free_tracer(t);
	}
	return NULL;
}

/* Records that were never used: many in a page, because lists of them are walked. */
enum { RECORDS = 16 };
static struct shunt_tracer *unused;
static size_t nr_unused;

static struct shunt_tracer *unused_record(void)
{
	if (!nr_unused) {
		unused = shunt_port_alloc(RECORDS * sizeof(*unused));
		nr_unused = unused ? RECORDS : 0;
	}
	return nr_unused ? &unused[--nr_unused] : NULL;
}

static struct shunt_tracer *make_tracer(struct ftrace_ops *ops)
{
	struct shunt_tracer *t = find_tracer(ops);

	if (t)
		return t;
	for (t = shunt_tracers; t && t->ops; t = t->next)
		;
	if (!t) {
		t = unused_record();
		if (!t)
			return NULL;
		t->next = shunt_tracers;
		/* Pairs with shunt_ftrace_first_ops(). */
		atomic_store_explicit(&shunt_tracers, t, memory_order_release);
	}
	t->ops = ops;
	ops->__state = t;
	return t;
}

/* ------------------------------------------------------------------ the change */

/* With @ret 0, too, a poke may have something to tell: entries that are left on an int3. */
static int report(struct shunt_report *r, const struct ftrace_ops *ops, int ret)
{
	if (ret)
		r->error = ret;
	r->ops = ops;
	if (r->error)
		shunt_port_report(r);
	return ret;
}

static int refuse(const struct ftrace_ops *ops, const char *what, int ret)
{
	struct shunt_report r = {.what = what, .refused = true};

	return report(&r, ops, ret);
}

/* @t is to trace what @next says (NULL: nothing any more), which is the tracer's from here on. */
static int change(struct shunt_tracer *t, struct shunt_bits *next, struct shunt_report *r)
{
	bool must_sync = !next;
	int ret;

	t->next_active = next;
	shunt_changing_join(t);
	if (next && !t->is_registered)
		shunt_ftrace_slot_take(t);
	if (next && t->slot)
		shunt_ftrace_slot_note_used(t->slot - 1, next);
	ret = shunt_ftrace_change(NULL, must_sync, r);
	shunt_changing_end();
	if (ret) {
		/* Stubs may have read it for a moment. */
		shunt_bits_retire(next);
		return ret;
	}
	shunt_bits_retire((struct shunt_bits *)(uintptr_t)t->last_active);
	return 0;
}

static bool has_exits(const struct shunt_tracer *t)
{
	return t->ops->flags & SHUNT_FTRACE_EXITS;
}

/* What @t's rules take; NULL: no memory. */
static struct shunt_bits *eval(struct shunt_tracer *t)
{
	if (!shunt_is_known(&t->known, has_exits(t)) &&
	    shunt_rules_know(shunt_rules_of(t), has_exits(t), NULL, NULL, &t->known))
		return NULL;
	return shunt_known_bits(&t->known);
}

/*
 * What was to be called for @t is taken away: behind the core sync that is made here a thread finds
 * it no more, or is seen in it (shunt_ftrace_settle()).
 */
static int end_calls(struct shunt_tracer *t, struct shunt_report *r)
{
	int ret;

	if (t->returns)
		t->returns->end(t->ops);
	r->what = "take the update lock";
	ret = shunt_port_lock();
	if (ret)
		return ret;
	r->what = "core sync behind what was called";
	ret = shunt_port_core_sync();
	shunt_port_unlock();
	return ret;
}

/* It was not to be, but stubs may have called its ops for a moment. */
static void take_back_register(struct shunt_tracer *t)
{
	struct shunt_report r = {0};

	shunt_ftrace_slot_leave(t);
	(void)end_calls(t, &r);
	t->returns = NULL;
	(void)shunt_ftrace_settle();
}

/* An error where functions are not known because they could not be looked for. */
static int check_known(const struct ftrace_ops *ops)
{
	struct shunt_report r = {0};

	if (shunt_entries_first())
		return 0;
	return report(&r, ops, shunt_port_entries_unknown(&r.what));
}

static int register_locked(struct ftrace_ops *ops, const struct shunt_ops_returns *returns)
{
	struct shunt_report r = {.what = "register_ftrace_function: allocate a record"};
	struct shunt_tracer *t = make_tracer(ops);
	struct shunt_bits *next;
	int ret;

	if (!t)
		return report(&r, ops, shunt_port_no_memory());
	if (t->is_registered)
		return refuse(ops,
			      returns ? "register_ftrace_graph: registered already"
				      : "register_ftrace_function: registered already",
			      -SHUNT_EBUSY);
	ret = check_known(ops);
	if (ret)
		return ret;
	next = eval(t);
	if (!next)
		return report(&r, ops, shunt_port_no_memory());
	ret = returns ? returns->begin(ops, false) : 0;
	if (ret) {
		shunt_bits_free(next);
		return ret;
	}
	t->returns = returns;
	t->is_full = !(ops->flags & SHUNT_FTRACE_GENERAL_REGS);
	ret = change(t, next, &r);
	(void)report(&r, ops, ret); /* before there is another system call */
	if (ret)
		take_back_register(t);
	return ret;
}

int shunt_ops_register(struct ftrace_ops *ops, const struct shunt_ops_returns *returns)
{
	int ret = shunt_port_entries_lock("register_ftrace_function", ops);

	if (ret)
		return ret;
	ret = register_locked(ops, returns);
	shunt_port_trace_unlock();
	return ret;
}

int register_ftrace_function(struct ftrace_ops *ops)
{
	shunt_port_trace_called(SHUNT_CALLED_AT);
	if (!ops || !ops->func)
		return refuse(ops, "register_ftrace_function: no func", -SHUNT_EINVAL);
	return shunt_ops_register(ops, NULL);
}

/*
 * What runs of it cannot be waited for: it is registered again, with @bits; where that cannot be
 * either, it is not, and has nothing that others could use. Returns @ret.
 */
static int stay(struct shunt_tracer *t, struct shunt_bits *bits, struct shunt_report *r, int ret)
{
	int failed;

	(void)report(r, t->ops, ret);
	shunt_ftrace_slot_leave(t);
	if (t->returns)
		(void)t->returns->begin(t->ops, true);
	failed = change(t, bits, r);
	if (failed) {
		(void)report(r, t->ops, failed);
		take_back_register(t);
	}
	return ret;
}

/*
 * Entries end first, and returns when the poke that ends the entries has been made: while that may
 * still fail, or an entry be told, each return is. Then a core sync, behind which a thread whose
 * guard is not set finds neither; and then who is in one of them is waited for.
 */
static int unregister_locked(struct ftrace_ops *ops)
{
	struct shunt_report r = {0};
	struct shunt_tracer *t = find_tracer(ops);
	struct shunt_bits *again; /* what it has, should it have to stay */
	int ret;

	if (!t || !t->is_registered)
		return refuse(ops, "unregister_ftrace_function: not registered", -SHUNT_EINVAL);
	again = eval(t);
	if (!again) {
		r.what = "unregister_ftrace_function: allocate a set of entries";
		return report(&r, ops, shunt_port_no_memory());
	}
	ret = change(t, NULL, &r);
	if (ret) {
		shunt_bits_free(again);
		return report(&r, ops, ret);
	}
	(void)report(&r, ops, 0);
	r = (struct shunt_report){0};
	if (t->returns)
		ret = end_calls(t, &r);
	if (!ret) {
		r.what = "unregister_ftrace_function: wait for callbacks";
		ret = shunt_ftrace_settle();
	}
	if (ret)
		return stay(t, again, &r, ret);
	shunt_bits_free(again);
	t->returns = NULL;
	shunt_ftrace_slot_leave(t);
	return 0;
}

bool shunt_any_ops_are_registered(void)
{
	const struct shunt_tracer *t = shunt_tracers;

	while (t && !t->is_registered)
		t = t->next;
	return t;
}

bool shunt_ops_are_registered(const struct ftrace_ops *ops)
{
	const struct shunt_tracer *t = shunt_tracers;

	while (t && (t->ops != ops || !t->is_registered))
		t = t->next;
	return t;
}

int unregister_ftrace_function(struct ftrace_ops *ops)
{
	int ret;

	shunt_port_trace_called(SHUNT_CALLED_AT);
	if (!ops)
		return refuse(ops, "unregister_ftrace_function: no ops", -SHUNT_EINVAL);
	ret = shunt_port_trace_lock("unregister_ftrace_function", ops);
	if (ret)
		return ret;
	ret = unregister_locked(ops);
	shunt_port_trace_unlock();
	return ret;
}

/* ----------------------------------------------------------------- the filters */

/* @t's rules are to be @rules, which are its other ones, with @added. */
static int set_rules(struct shunt_tracer *t, struct shunt_rules *rules,
		     const struct shunt_rule_added *added, struct shunt_report *r)
{
	struct shunt_rules *old = shunt_rules_of(t);
	struct shunt_known known = {0};
	struct shunt_bits *next;
	int ret = 0;

	r->what = "allocate a set of entries";
	if (t->is_registered) {
		ret = shunt_rules_know(rules, has_exits(t), &t->known, added, &known);
		next = ret ? NULL : shunt_known_bits(&known);
		ret = next ? change(t, next, r) : shunt_port_no_memory();
	}
	if (ret) {
		shunt_known_forget(&known);
		shunt_rules_drop(rules, old);
		return ret;
	}
	t->rules_at = !t->rules_at;
	shunt_known_forget(&t->known);
	t->known = known;
	shunt_rules_drop(old, rules);
	return 0;
}

struct words {
	char text[200];
	size_t n;
};

static void add_words(struct words *w, const char *words, size_t len)
{
	for (size_t i = 0; i < len && w->n < sizeof(w->text) - 1; i++)
		((volatile char *)w->text)[w->n++] = words[i];
	w->text[w->n] = '\0';
}

#define ADD_WORDS(w, literal) add_words((w), (literal), sizeof(literal) - 1)

/* A name as C++ has it in the source, with a "::" or parameters. */
static bool is_demangled(const char *glob, size_t len)
{
	bool is = false;

	for (size_t i = 0; i < len; i++)
		is |= glob[i] == '(' || (i && glob[i] == ':' && glob[i - 1] == ':');
	return is;
}

static int refuse_rule(const struct ftrace_ops *ops, const struct shunt_rule_added *f)
{
	bool is_glob = f->kind == SHUNT_RULE_FILTER || f->kind == SHUNT_RULE_NOTRACE;
	struct words w = {.n = 0};

	if (!is_glob)
		return refuse(ops, "no function that can be traced is at that address",
			      -SHUNT_EINVAL);
	ADD_WORDS(&w, "the filter \"");
	add_words(&w, f->data, f->len < 100 ? f->len : 100);
	ADD_WORDS(&w, "\" matches no function that can be traced");
	if (is_demangled(f->data, f->len))
		ADD_WORDS(&w, " (names of C++ are mangled: app::f is _ZN3app1f...)");
	return refuse(ops, w.text, -SHUNT_EINVAL);
}

static int filter_locked(struct ftrace_ops *ops, const struct shunt_rule_added *f)
{
	struct shunt_report r = {.what = "allocate a filter"};
	struct shunt_tracer *t = make_tracer(ops);
	struct shunt_rules *rules;
	int ret = 0;

	if (f->len)
		ret = check_known(ops);
	if (ret)
		return ret;
	if (f->len && !shunt_rule_matches(f->kind, f->data, f->len))
		return refuse_rule(ops, f);
	if (!t)
		return report(&r, ops, shunt_port_no_memory());
	rules = &t->rules[!t->rules_at];
	ret = shunt_rules_with(shunt_rules_of(t), f, rules);
	if (!ret)
		ret = set_rules(t, rules, f, &r);
	return report(&r, ops, ret);
}

static int set_filter(struct ftrace_ops *ops, const struct shunt_rule_added *f)
{
	int ret;

	if (!ops)
		return refuse(ops, "ftrace_set_filter: no ops", -SHUNT_EINVAL);
	ret = shunt_port_entries_lock("ftrace_set_filter", ops);
	if (ret)
		return ret;
	ret = filter_locked(ops, f);
	shunt_port_trace_unlock();
	return ret;
}

/* @len 0: up to the NUL. */
static int set_glob(struct ftrace_ops *ops, enum shunt_rule kind, const char *glob, int len,
		    int reset)
{
	struct shunt_rule_added f = {kind, glob, len > 0 ? (size_t)len : 0, reset != 0};

	if (len < 0)
		return refuse(ops, "ftrace_set_filter: a length below 0", -SHUNT_EINVAL);
	while (!len && glob && glob[f.len])
		f.len++;
	if (!f.len && !reset)
		return refuse(ops, "ftrace_set_filter: no pattern", -SHUNT_EINVAL);
	return set_filter(ops, &f);
}

int ftrace_set_filter(struct ftrace_ops *ops, const char *glob, int len, int reset)
{
	shunt_port_trace_called(SHUNT_CALLED_AT);
	return set_glob(ops, SHUNT_RULE_FILTER, glob, len, reset);
}

int ftrace_set_notrace(struct ftrace_ops *ops, const char *glob, int len, int reset)
{
	shunt_port_trace_called(SHUNT_CALLED_AT);
	return set_glob(ops, SHUNT_RULE_NOTRACE, glob, len, reset);
}

int ftrace_set_filter_ip(struct ftrace_ops *ops, unsigned long ip, int remove, int reset)
{
	struct shunt_rule_added f = {remove ? SHUNT_RULE_NOT_IP : SHUNT_RULE_IP, &ip, sizeof(ip),
				     reset != 0};

	shunt_port_trace_called(SHUNT_CALLED_AT);
	return set_filter(ops, &f);
}

void ftrace_free_filter(struct ftrace_ops *ops)
{
	struct shunt_tracer *t;

	shunt_port_trace_called(SHUNT_CALLED_AT);
	if (!ops || shunt_port_trace_lock("ftrace_free_filter", ops))
		return;
	t = find_tracer(ops);
	if (t && !t->is_registered) {
		free_tracer(t);
		ops->__state = NULL;
	}
	shunt_port_trace_unlock();
}

/* --------------------------------------------------------- copies of the process */

/*
 * The poke has been taken back, or is done (shunt_poke_repair()); who was changing is registered or
 * not by what was true then. Memory that the change had is lost.
 */
void shunt_ftrace_repair(void)
{
	shunt_changing = NULL;
	for (struct shunt_tracer *t = shunt_tracers; t; t = t->next) {
		t->is_changing = false;
		t->next_active = NULL;
		if (t->is_registered)
			continue;
		if (t->returns)
			t->returns->end(t->ops);
		t->returns = NULL;
		if (!t->slot)
			continue;
		atomic_store_explicit(&t->active, NULL, memory_order_relaxed);
		shunt_ftrace_slot_leave(t);
	}
	shunt_entries_repair();
}
