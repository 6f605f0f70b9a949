/* SPDX-License-Identifier: MIT */
/*
 * fgraph_ops: each is an ftrace_ops whose func is here. At an entry whose entryfunc wants the
 * return, an activation record is filled in and, where the function's returns are not traced
 * themselves (XRay, -finstrument-functions), its return address replaced by a stub's.
 *
 * Up to GOPS of them have a number, which is their bit in the records. A number may go to another
 * fgraph_ops while records, and stubs on stacks, are left of the one before: an epoch in each
 * record says since when it is.
 */
#include <errno.h>
#include <stddef.h>

#include "arch/arch.h"
#include "core/ftrace.h"
#include "linux/entry/activation.h"
#include "linux/entry/context.h"
#include "linux/entry/fgraph.h"
#include "linux/entry/return_slots.h"

#define GOPS 16u

bool shunt_has_shadow_stack(void); /* shadow.S */

/* @born is written before @gops, and constant while that is there. */
static struct {
	struct fgraph_ops *_Atomic gops;
	_Atomic uint32_t born;
} graph[GOPS];

static _Atomic uint32_t epoch;
static _Atomic uint64_t missed;
_Atomic uint8_t shunt_returns_wanted;
shunt_raw_return_fn *_Atomic shunt_raw_return;

/*
 * In regs->form, which is the entry's: whether there was a stub in the place of the return address
 * has been looked up; and there was one; an fgraph_ops has filled in the record already.
 */
#define LOOKED   ((uint64_t)1 << 32)
#define TAIL     ((uint64_t)1 << 33)
#define RECORDED ((uint64_t)1 << 34)

static inline unsigned form_of(const struct ftrace_regs *regs)
{
	return (unsigned)(regs->form & UINT32_MAX);
}

uint64_t shunt_returns_missed(void)
{
	return atomic_load_explicit(&missed, memory_order_relaxed);
}

static struct fgraph_ops *gops_of(struct ftrace_ops *ops)
{
	return (struct fgraph_ops *)((char *)ops - offsetof(struct fgraph_ops, ops));
}

static unsigned number_of(const struct fgraph_ops *gops)
{
	return (unsigned)(uintptr_t)gops->__reserved[0];
}

/* ---------------------------------------------------------------------- returns */

/* The guard is set: an fgraph_ops that is seen here stays until it has been left. */
static void tell(unsigned i, struct ftrace_graph_ret *trace, uint32_t entered,
		 struct ftrace_regs *regs)
{
	/* Pairs with the release in claim(). */
	struct fgraph_ops *gops = atomic_load_explicit(&graph[i].gops, memory_order_acquire);

	if (!gops || entered < atomic_load_explicit(&graph[i].born, memory_order_relaxed))
		return;
	if (gops->ops.flags & SHUNT_FTRACE_GENERAL_REGS)
		gops->retfunc(trace, gops, regs);
	else
		shunt_call_saving_vectors(gops->retfunc, trace, gops, regs);
}

/* The function of @a has ended: tell those of @mask that want to know. */
static void end(struct shunt_activation *a, unsigned mask, struct ftrace_regs *regs)
{
	struct ftrace_graph_ret trace = {.func = a->func, .depth = (int)a->depth};
	uint32_t entered = a->epoch;

	mask &= a->mask;
	a->mask &= (uint16_t)~mask;
	if (!a->mask)
		shunt_activation_end(a);
	for (unsigned i = 0; i < GOPS; i++)
		if (mask >> i & 1)
			tell(i, &trace, entered, regs);
}

void shunt_graph_returned(struct ftrace_regs *regs, uintptr_t guard)
{
	uintptr_t sp = shunt_regs_returned_sp(regs);
	struct shunt_activation *a = shunt_activation_find(sp, false);
	uintptr_t depth;

	if (atomic_load_explicit(&shunt_returns_wanted, memory_order_relaxed) & SHUNT_WANTS_RAW) {
		shunt_raw_return_fn *hook =
			atomic_load_explicit(&shunt_raw_return, memory_order_acquire);

		if (hook)
			hook(0, sp);
	}
	/* One that was left by longjmp(): it was to return by another stub. */
	if (!a || !a->mask || a->word != shunt_regs_stub(regs) || !shunt_guard_enter(guard, &depth))
		return;
	end(a, a->mask, regs);
	shunt_guard_leave(depth);
}

/* ---------------------------------------------------------------------- entries */

/*
 * Where an entry's record is, and what it will say.
 */
struct place {
	struct shunt_activation *a; /* NULL: no memory */
	struct shunt_activation *parent;
	uintptr_t func, sp, ip;
	bool is_call;     /* the function's calls tell: -finstrument-functions */
	bool is_replaced; /* its return is told by a stub */
};

bool shunt_replace_return(uintptr_t *word)
{
	uintptr_t stub;

	if (shunt_is_return_stub(*word))
		return true;
	stub = shunt_has_shadow_stack() ? 0 : shunt_return_stub(*word);
	if (stub)
		*word = stub;
	else
		atomic_fetch_add_explicit(&missed, 1, memory_order_relaxed);
	return stub != 0;
}

bool shunt_is_tail_call(struct ftrace_regs *regs)
{
	if (!(regs->form & LOOKED))
		regs->form |=
			LOOKED | (shunt_is_return_stub(*shunt_regs_return_word(regs)) ? TAIL : 0);
	return regs->form & TAIL;
}

static bool begin(const struct place *p, struct ftrace_regs *regs)
{
	if (!p->a || !shunt_activation_begin(p->a, p->parent, p->func, p->sp, p->is_call)) {
		atomic_fetch_add_explicit(&missed, 1, memory_order_relaxed);
		return false;
	}
	if (p->is_replaced && !shunt_replace_return(shunt_regs_return_word(regs))) {
		shunt_activation_end(p->a);
		return false;
	}
	if (p->is_call)
		shunt_activation_note_call(p->a, p->ip, shunt_regs_site(regs));
	else
		p->a->word = *shunt_regs_return_word(regs);
	regs->form |= RECORDED;
	return true;
}

static void find_place(struct place *p, unsigned long ip, struct ftrace_regs *regs)
{
	const struct shunt_entry *entry = shunt_entry_find(ip);

	p->is_call = form_of(regs) == FTRACE_FORM_CALL;
	p->func = p->is_call ? shunt_regs_function(regs) : entry->func;
	p->sp = shunt_regs_sp(regs);
	p->ip = ip;
	p->is_replaced = !p->is_call && entry->kind != SHUNT_ENTRY_XRAY;
	p->a = shunt_activation_get(p->sp, p->is_call);
	if (regs->form & RECORDED) {
		p->parent = p->a->parent;
		return;
	}
	if (p->is_call)
		shunt_activation_drop_left(p->a, ip, shunt_regs_site(regs));
	/* The function that was entered before with this return address has ended. */
	if (!p->is_call && shunt_is_tail_call(regs) && p->a && p->a->mask)
		end(p->a, p->a->mask, regs);
	p->parent = shunt_activation_parent(p->sp, p->is_call);
}

static void on_entry(struct fgraph_ops *gops, unsigned long ip, struct ftrace_regs *regs)
{
	struct ftrace_graph_ent trace;
	struct place p;

	find_place(&p, ip, regs);
	trace.func = p.func;
	trace.depth = p.parent ? (int)p.parent->depth + 1 : 0;
	if ((gops->entryfunc && !gops->entryfunc(&trace, gops, regs)) || !gops->retfunc)
		return;
	if (!(regs->form & RECORDED) && !begin(&p, regs))
		return;
	p.a->mask |= (uint16_t)(1u << number_of(gops));
	p.a->epoch = atomic_load_explicit(&epoch, memory_order_relaxed);
}

/* The function's own exit: XRay's sleds, the calls of -finstrument-functions. */
static void on_exit(struct fgraph_ops *gops, unsigned form, struct ftrace_regs *regs)
{
	uintptr_t sp = shunt_regs_sp(regs);
	struct shunt_activation *a;

	if (form == FTRACE_FORM_CALL_RETURN)
		a = shunt_activation_of_call(shunt_regs_function(regs), sp);
	else if (form == FTRACE_FORM_JUMP_RETURN)
		a = shunt_activation_of_jump(shunt_regs_function(regs), sp);
	else
		a = shunt_activation_find(sp, false);
	if (a)
		end(a, 1u << number_of(gops), regs);
}

static void graph_func(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		       struct ftrace_regs *regs)
{
	struct fgraph_ops *gops = gops_of(ops);

	(void)parent_ip;
	switch (form_of(regs)) {
	case FTRACE_FORM_HEAD:
	case FTRACE_FORM_CALL:
		on_entry(gops, ip, regs);
		break;
	default:
		on_exit(gops, form_of(regs), regs);
	}
}

/* ------------------------------------------------------------ register, unregister */

void shunt_returns_begin(uint8_t wanted)
{
	shunt_return_range.slots = (const uintptr_t *)shunt_return_slots;
	*(volatile uintptr_t *)&shunt_return_range.stubs = (uintptr_t)shunt_return_stubs;
	atomic_fetch_or(&shunt_returns_wanted, wanted);
}

/* Ftrace lock held: one at a time; and so are the two below. */
static int claim(struct fgraph_ops *gops)
{
	for (unsigned i = 0; i < GOPS; i++) {
		if (atomic_load(&graph[i].gops))
			continue;
		/* An epoch later than any that a record has: before it can be seen. */
		atomic_store(&graph[i].born, atomic_fetch_add(&epoch, 1) + 1);
		gops->__reserved[0] = (void *)(uintptr_t)i; /* NOLINT(performance-no-int-to-ptr) */
		return 0;
	}
	return -ENOSPC;
}

static int refuse(const struct fgraph_ops *gops, const char *what, int error)
{
	const struct shunt_report report = {
		.error = error, .what = what, .ops = gops ? &gops->ops : NULL, .refused = true};

	shunt_port_report(&report);
	return error;
}

/* @again: under the number and since the epoch that it had: records say so. */
static int begin_returns(struct ftrace_ops *ops, bool again)
{
	struct fgraph_ops *gops = gops_of(ops);
	int ret = again ? 0 : claim(gops);

	if (ret)
		return refuse(gops, "register_ftrace_graph: there are 16 already", ret);
	if (gops->retfunc)
		shunt_returns_begin(SHUNT_WANTS_GRAPH);
	atomic_store_explicit(&graph[number_of(gops)].gops, gops, memory_order_release);
	return 0;
}

/*
 * When the entries have been poked away: a function that is entered until then is told as long as
 * that poke may fail, and its return, by a stub, is told as well. (Functions that tell of their own
 * exits lose those with their entries, in one poke. One that fails behind its commit has not told
 * of those that came before it was taken back.)
 *
 * Who is told of a return sets its guard and then looks here. The caller makes a core sync behind
 * this store: a thread whose guard it does not see set afterwards looks behind the store, and finds
 * nobody; the others are waited for, as those in an entry's callback are.
 */
static void end_returns(struct ftrace_ops *ops)
{
	atomic_store(&graph[number_of(gops_of(ops))].gops, NULL);
}

int register_ftrace_graph(struct fgraph_ops *gops)
{
	static const struct shunt_ops_returns returns = {begin_returns, end_returns};

	shunt_port_trace_called(SHUNT_CALLED_AT);
	if (!gops || (!gops->entryfunc && !gops->retfunc))
		return refuse(gops, "register_ftrace_graph: neither entryfunc nor retfunc",
			      -EINVAL);
	gops->ops.func = graph_func;
	gops->ops.flags |= SHUNT_FTRACE_EXITS;
	return shunt_ops_register(&gops->ops, &returns);
}

int unregister_ftrace_graph(struct fgraph_ops *gops)
{
	shunt_port_trace_called(SHUNT_CALLED_AT);
	if (!gops)
		return refuse(gops, "unregister_ftrace_graph: no ops", -EINVAL);
	return unregister_ftrace_function(&gops->ops);
}
