/* SPDX-License-Identifier: MIT */
/*
 * Every interleaving of an updater and a runner, as an explicit-state model checker
 * goes through them (Holzmann, "The Model Checker SPIN", 1997), with the real
 * machine code for a model.
 *
 * The updater is stepped instruction by instruction. Wherever something changes that
 * a runner can see (text, mark, key, count of pokes), and at each side of each sync,
 * it stands still, and that is one step. There, the runner is put into every
 * state that it has been in at this step or any earlier one, and goes on from it by one
 * instruction; what comes of it is a state again, new or known. A runner that was in a
 * state at step a and is taken up again at step b is a thread that has been delayed
 * from a to b. So when no new state turns up any more, every way to cut the
 * runner's path in two or more pieces and to spread them over the steps has been gone.
 *
 * Each call is linearisable: it reaches a version that was the key's value at some
 * time between the call's first instruction and its arrival, and two calls of one
 * thread reach them in order. That implies what static_call_update() promises. (Where the site is
 * flipped, its first byte takes the value's place: that is written before the commit.)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/site_table.h"
#include "interleave.h"
#include "symbol.h"

#define MAX_STATES 100000u
#define BUCKETS    65536u
#define MAX_SITES  2

#define FLAG_CF 0x1u
#define FLAG_PF 0x4u
#define FLAG_AF 0x10u
#define FLAG_ZF 0x40u
#define FLAG_TF 0x100u
#define FLAG_RF 0x10000u
#define RESULT  0x8d5u /* all that a test changes; unit/emulate holds it against the CPU */

extern const char __executable_start[], etext[];

/* A state that a runner has been in. */
struct node {
	struct node *next; /* in its bucket */
	uint64_t hash;
	unsigned done;         /* the step at which it was last taken up */
	unsigned arrived;      /* the step at which a runner last came here */
	unsigned arrivals;     /* the number of such steps */
	struct il_state state; /* without the part of the stack that is not in use */
};

/* What a runner can see of an update. */
struct world {
	uint64_t text[MAX_SITES], value, ended;
	uint32_t step;
	uint16_t poked[MAX_SITES]; /* a byte; no padding, worlds are compared as such */
};

static struct {
	struct il_tracer t;
	const struct il_case *c;
	struct il_result *r;
	struct node *buckets[BUCKETS], *nodes[MAX_STATES];
	unsigned nr_nodes;
	struct il_state fresh, ref[MAX_SITES];
	bool has_ref[MAX_SITES];
	unsigned version;   /* of the update that runs */
	unsigned committed; /* the version that the key's value says */
	uint64_t value;     /* before the update */
	const void *ended;
	const struct shunt_site *site[MAX_SITES];
} x;

#define FAIL(...) (snprintf(x.r->failure, sizeof(x.r->failure), __VA_ARGS__), false)

/* ------------------------------------------------------------------ the states */

/* The head and the used part of the stack are what a state is. */
static size_t head_size(void)
{
	return offsetof(struct il_state, stack);
}

static const uint8_t *stack_of(const struct il_state *s)
{
	return s->stack + (IL_STACK - s->len);
}

static uint64_t hash_bytes(uint64_t h, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	for (; len >= 8; len -= 8, p += 8) {
		uint64_t word;

		memcpy(&word, p, 8);
		h = (h ^ word) * 0x9e3779b97f4a7c15u;
		h ^= h >> 29;
	}
	while (len--)
		h = (h ^ *p++) * 0x100000001b3u;
	return h;
}

static struct node *make_node(const struct il_state *s, uint64_t hash)
{
	size_t stack = offsetof(struct node, state) + head_size();
	struct node *n = malloc(stack + s->len);

	if (!n)
		abort();
	n->hash = hash;
	n->done = n->arrived = n->arrivals = 0;
	memcpy(&n->state, s, head_size());
	memcpy((uint8_t *)n + stack, stack_of(s), s->len);
	n->next = x.buckets[hash % BUCKETS];
	x.buckets[hash % BUCKETS] = n;
	x.nodes[x.nr_nodes++] = n;
	return n;
}

/* The node of @s, made if it is new; NULL: there are too many. */
static struct node *node_of(const struct il_state *s)
{
	uint64_t hash = hash_bytes(hash_bytes(1, s, head_size()), stack_of(s), s->len);
	struct node *n = x.buckets[hash % BUCKETS];

	for (; n; n = n->next)
		if (n->hash == hash && !memcmp(&n->state, s, head_size()) &&
		    !memcmp((uint8_t *)&n->state + head_size(), stack_of(s), s->len))
			return n;
	return x.nr_nodes < MAX_STATES ? make_node(s, hash) : NULL;
}

static void load_node(const struct node *n, struct il_state *s)
{
	memcpy(s, &n->state, head_size());
	memcpy(s->stack + (IL_STACK - s->len), (const uint8_t *)&n->state + head_size(), s->len);
}

static void free_nodes(void)
{
	for (unsigned i = 0; i < x.nr_nodes; i++)
		free(x.nodes[i]);
}

/* A runner came to @n at this step: one more step from which it can be delayed. */
static void arrive(struct node *n)
{
	if (n->arrived == x.r->steps)
		return;
	n->arrived = x.r->steps;
	n->arrivals++;
	x.r->combinations += n->done == x.r->steps;
}

/* ------------------------------------------------------------------ the checks */

/* The word at @addr of @s's stack. */
static uint64_t word_at(const struct il_state *s, uint64_t addr)
{
	uint64_t word = 0, off = addr - (uint64_t)il_stack;

	if (off >= IL_STACK - s->len && off <= IL_STACK - sizeof(word))
		memcpy(&word, s->stack + off, sizeof(word));
	return word;
}

/* Stack and red zone are as they were, but for a word that has been pushed. */
static bool same_stack(const struct il_state *ref, const struct il_state *s, bool push)
{
	uint32_t len = ref->len < s->len ? ref->len : s->len;
	uint64_t pushed = ref->regs.rsp - 8 - (uint64_t)il_stack;

	for (size_t i = IL_STACK - len; i < IL_STACK; i++)
		if (ref->stack[i] != s->stack[i] && !(push && i - pushed < 8))
			return false;
	return true;
}

/* All registers: general, flags, segments, x87 and vectors. */
static bool same_registers(const struct il_state *want, const struct il_state *s, uint64_t ignore)
{
	struct user_regs_struct a = want->regs, b = s->regs;

	ignore |= FLAG_TF | FLAG_RF;
	a.eflags &= ~ignore;
	b.eflags &= ~ignore;
	return !memcmp(&a, &b, sizeof(a)) &&
	       !memcmp(&want->fp, &s->fp, offsetof(struct user_fpregs_struct, padding));
}

/* Whether @s is what instruction @version makes of the state before the site. */
static bool is_landing(const struct il_state *s, unsigned version)
{
	static struct il_state want;
	const struct il_state *ref = &x.ref[s->site];
	struct il_landing to;

	il_landing(x.c, s->site, version, &to);
	memcpy(&want, ref, head_size());
	want.regs.rip = to.rip;
	if (to.push)
		want.regs.rsp -= 8;
	if (to.pop) {
		want.regs.rip = word_at(ref, ref->regs.rsp);
		want.regs.rsp += 8;
	}
	if (to.ret0) {
		want.regs.rax = 0;
		want.regs.eflags &= ~(uint64_t)(FLAG_CF | 0x80 | 0x800);
		want.regs.eflags |= FLAG_ZF | FLAG_PF;
	}
	if (!same_registers(&want, s,
			    to.test   ? RESULT
			    : to.ret0 ? FLAG_AF
				      : 0) ||
	    !same_stack(ref, s, to.push))
		return false;
	return !to.push || word_at(s, s->regs.rsp) == (uint64_t)x.c->sites[s->site].next;
}

/* The runner has executed the site's instruction, by itself or in the handler. */
static bool land(struct il_state *s)
{
	for (unsigned v = s->low; v <= x.committed; v++) {
		if (!is_landing(s, v))
			continue;
		s->low = (uint8_t)v;
		if (++s->site == x.c->nr_sites)
			s->low = 0; /* nothing depends on it any more */
		return true;
	}
	return FAIL("from site %p to %#llx, rsp %+lld: not the effect of versions %u to %u",
		    (const void *)x.c->sites[s->site].insn, s->regs.rip,
		    (long long)(s->regs.rsp - x.ref[s->site].regs.rsp), s->low, x.committed);
}

static bool is_at_site(const struct il_state *s)
{
	return !s->in_handler && !s->pending && s->site < x.c->nr_sites &&
	       s->regs.rip == (uint64_t)x.c->sites[s->site].insn;
}

/* A thread comes to its site as ever, at first and when the site is tried again. */
static bool check_before_site(const struct il_state *s)
{
	if (!x.has_ref[s->site]) {
		memcpy(&x.ref[s->site], s, sizeof(*s));
		x.has_ref[s->site] = true;
	}
	if (!same_registers(&x.ref[s->site], s, 0) || !same_stack(&x.ref[s->site], s, false))
		return FAIL("not all is preserved when the site is tried again");
	return true;
}

/* What the handler does next is allowed; *@returns: it is its return. */
static bool check_handler(const struct il_state *s, bool *returns)
{
	const char *ip = (const char *)s->regs.rip;

	/* The handler's text is the same here. */
	if (ip < __executable_start || ip >= etext)
		return FAIL("the handler is at %p", (const void *)ip);
	*returns = !memcmp(ip, "\x0f\x05", 2);
	if (*returns && s->regs.rax != SYS_rt_sigreturn)
		return FAIL("the handler makes system call %llu: the trap is taken for foreign",
			    s->regs.rax);
	return true;
}

static bool check_return(struct il_state *s)
{
	s->in_handler = false;
	if (il_mask(&x.t))
		return FAIL("the handler returned with another signal mask");
	if (is_at_site(s)) {
		x.r->late++;
		return true;
	}
	x.r->emulated++;
	return land(s);
}

/* One instruction of the runner from @s, and all that can be said of it. */
static bool advance(struct il_state *s)
{
	bool at_site = is_at_site(s), returns = false;
	uint64_t rip = s->regs.rip;
	enum il_stopped how;

	if (at_site && !check_before_site(s))
		return false;
	if (s->in_handler && !check_handler(s, &returns))
		return false;
	how = il_advance(&x.t, s);
	x.r->instructions++;
	if (how == IL_SIGNAL)
		return FAIL("signal %d at %#lx", x.t.signal, (unsigned long)rip);
	if (how == IL_INT3 && (!at_site || s->regs.rip != rip + 1))
		return FAIL("an int3 at %#lx, which is no site", (unsigned long)rip);
	if (how != IL_INT3 && how != IL_STEPPED)
		return FAIL("the runner is gone, at %#lx", (unsigned long)rip);
	if (!s->len)
		return FAIL("rsp is %#llx after %#lx", s->regs.rsp, (unsigned long)rip);
	if (returns)
		return check_return(s);
	if (at_site && how == IL_STEPPED)
		return land(s);
	return true;
}

static bool is_over(const struct il_state *s)
{
	return s->regs.rip == (uint64_t)il_end && !s->in_handler;
}

static bool check_end(const struct il_state *s)
{
	x.r->ended++;
	if (s->regs.rsp != x.fresh.regs.rsp + 8 || s->site != x.c->nr_sites)
		return FAIL("a call returned with another rsp");
	return true;
}

/* ------------------------------------------------------------- the exploration */

/* From @n on as far as there is something that has not been done at this step. */
static bool go_on_from(struct node *n)
{
	static struct il_state s;

	load_node(n, &s);
	il_restore(&x.t, &s);
	for (;;) {
		n->done = x.r->steps;
		x.r->combinations += n->arrivals;
		if (!advance(&s))
			return false;
		if (is_over(&s))
			return check_end(&s);
		n = node_of(&s);
		if (!n)
			return FAIL("more than %u states", MAX_STATES);
		arrive(n);
		if (n->done == x.r->steps)
			return true;
	}
}

/* The updater stands still: every runner goes every way. */
static bool explore_step(void)
{
	struct node *n;

	x.r->steps++;
	x.fresh.low = (uint8_t)x.committed;
	n = node_of(&x.fresh);
	if (!n)
		return FAIL("more than %u states", MAX_STATES);
	arrive(n);
	for (unsigned i = 0; i < x.nr_nodes; i++)
		if (x.nodes[i]->done != x.r->steps && !go_on_from(x.nodes[i]))
			return false;
	return true;
}

static void look(struct world *w)
{
	size_t len;
	const void *value = il_value_word(x.c, &len);

	memset(w, 0, sizeof(*w));
	for (unsigned i = 0; i < x.c->nr_sites; i++) {
		il_peek(&x.t, x.c->sites[i].insn, &w->text[i], 8);
		il_peek(&x.t, (const void *)&x.site[i]->poked, &w->poked[i], 1);
	}
	il_peek(&x.t, value, &w->value, len);
	il_peek(&x.t, x.ended, &w->ended, sizeof(w->ended));
	il_peek(&x.t, (const void *)&il_step, &w->step, sizeof(w->step));
}

/* A site without an int3 has other bytes than before the update. */
static bool is_flipped(const struct world *start, const struct world *now)
{
	for (unsigned i = 0; i < x.c->nr_sites; i++)
		if (!now->poked[i] && now->text[i] != start->text[i])
			return true;
	return false;
}

static bool explore_update(void)
{
	struct world start, now, before;
	enum il_stopped how;

	look(&before);
	start = before;
	x.value = before.value;
	if (!il_continue(&x.t))
		return FAIL("the updater did not begin to poke");
	while ((how = il_step_thread(&x.t, x.t.updater, 0)) == IL_STEPPED) {
		look(&now);
		if (!memcmp(&now, &before, sizeof(now)))
			continue;
		before = now;
		if (now.value != x.value || is_flipped(&start, &now))
			x.committed = x.version;
		if (!explore_step())
			return false;
	}
	if (how != IL_STOPPED)
		return FAIL("the updater is gone");
	return x.committed == x.version || FAIL("the update returned without a commit");
}

/* Registers that differ all, flags as the case wants them, a stack with a pattern. */
static void make_fresh(void)
{
	struct il_state *s = &x.fresh;
	struct user_regs_struct *r;

	memset(s, 0, sizeof(*s));
	il_save(&x.t, s);
	r = &s->regs;
	r->rax = 0x0101010101010101;
	r->rbx = 0x1212121212121212;
	r->rcx = 0x2323232323232323;
	r->rdx = 0x3434343434343434;
	r->rsi = 0x4545454545454545;
	r->rdi = 0x5656565656565656;
	r->rbp = 0x6767676767676767;
	r->r8 = 0x7878787878787878;
	r->r9 = 0x8989898989898989;
	r->r10 = 0x9a9a9a9a9a9a9a9a;
	r->r11 = 0xabababababababab;
	r->r12 = 0xbcbcbcbcbcbcbcbc;
	r->r13 = 0xcdcdcdcdcdcdcdcd;
	r->r14 = 0xdededededededede;
	r->r15 = 0xefefefefefefefef;
	r->eflags = 0x202 | FLAG_CF | FLAG_AF | (x.c->taken ? 0 : FLAG_ZF);
	r->rip = (uint64_t)x.c->sites[0].start;
	r->rsp = (uint64_t)(il_stack + IL_STACK - 72);
	for (size_t i = 0; i < sizeof(s->fp.xmm_space) / sizeof(s->fp.xmm_space[0]); i++)
		s->fp.xmm_space[i] = 0x01000193u * (unsigned)(i + 1);
	s->len = 72 + 128;
	for (size_t i = IL_STACK - s->len; i < IL_STACK; i++)
		s->stack[i] = (uint8_t)(i * 7 + 1);
	memcpy(s->stack + IL_STACK - 72, &(uint64_t){(uint64_t)il_end}, 8);
}

static bool prepare(void)
{
	struct shunt_insn insn;

	x.ended = il_symbol("ended", sizeof(unsigned long));
	if (!x.ended)
		return FAIL("no variable \"ended\": what counts the pokes that are over?");
	for (unsigned i = 0; i < x.c->nr_sites; i++) {
		x.site[i] = shunt_site_find((uintptr_t)x.c->sites[i].insn, &insn);
		if (!x.site[i])
			return FAIL("the library does not know the site");
	}
	il_case = x.c; /* the child inherits these */
	if (il_start(&x.t)) {
		make_fresh();
		return true;
	}
	x.r->skipped = x.t.forbidden;
	return FAIL("the process under test did not start");
}

bool il_explore(const struct il_case *c, unsigned versions, enum il_control control,
		struct il_result *r)
{
	bool good;

	memset(&x, 0, sizeof(x));
	memset(r, 0, sizeof(*r));
	x.c = c;
	x.r = r;
	il_control = control;
	good = prepare() && explore_step();
	for (x.version = 1; good && x.version < versions; x.version++)
		good = explore_update() && explore_step();
	il_kill(&x.t);
	r->states = x.nr_nodes;
	free_nodes();
	return good;
}
