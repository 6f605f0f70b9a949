/* SPDX-License-Identifier: MIT */
/*
 * The poke protocol: with int3, or by new pages where the platform can swap them
 * (poke_swap()). The first is after text_poke_bp_batch() and
 * poke_int3_handler() of the Linux kernel, which is what the debate of 2018 to 2020
 * arrived at:
 *
 *	int3 over the first bytes; core sync;
 *	the tails;                 core sync;
 *	the first bytes;           core sync.
 *
 * A thread that runs into an int3 gets the effect of the site's instruction from
 * the trap handler, shunt_trap(). What that instruction is, old or new, is decided
 * by one store, the commit, while all the int3 stand.
 *
 * It differs from the kernel's in what a process can do to it: a handler may run
 * long after its trap (late traps), a write may fail (everything goes back), and
 * an int3 may be somebody else's (never claimed).
 */
#include "core/poke.h"
#include "arch/x86_64/emulate.h"
#include "core/error.h"
#include "core/sort.h"

struct shunt_poke_stats shunt_poke_stats;

/*
 * Counts the pokes that ended. Bumped when the last int3 is gone and before the
 * sites' poked marks are: a handler that saw the int3 but no mark any more finds
 * it changed, and looks again.
 */
static _Atomic unsigned long ended;

/* ------------------------------------------------------------------ writing */

/* Writes on their way to the port; guarded by the update lock. */
static struct {
	struct shunt_write w[256];
	size_t n, bytes;
} queue;

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	/* One writer at a time, so this need not be a locked instruction. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static int flush(void)
{
	size_t n = queue.n;

	if (!n)
		return 0;
	count(&shunt_poke_stats.writes, n);
	count(&shunt_poke_stats.bytes, queue.bytes);
	queue.n = 0;
	queue.bytes = 0;
	return shunt_port_text_write(queue.w, n);
}

static int put(uint8_t *addr, uint64_t bytes, size_t len)
{
	struct shunt_write *w = &queue.w[queue.n++];
	uint64_t after = bytes << 8 | len;

	w->addr = addr;
	__builtin_memcpy(&w->len, &after, sizeof(after)); /* and w->bytes */
	queue.bytes += len;
	return queue.n == sizeof(queue.w) / sizeof(queue.w[0]) ? flush() : 0;
}

typedef struct {
	uint32_t value;
} __attribute__((packed, may_alias)) word32_t;

typedef struct {
	uint16_t value;
} __attribute__((packed, may_alias)) word16_t;

/* The @len bytes of a site as a number, the first lowest: compared in one step. */
static uint64_t word(const uint8_t *bytes, size_t len)
{
	uint64_t w = 0;

	if (len == 5)
		return ((const word32_t *)bytes)->value | (uint64_t)bytes[4] << 32;
	if (len == 6)
		return ((const word32_t *)bytes)->value |
		       (uint64_t)((const word16_t *)(bytes + 4))->value << 32;
	for (size_t i = 0; i < len; i++)
		w |= (uint64_t)bytes[i] << 8 * i;
	return w;
}

static uint64_t live(const struct shunt_poke *p)
{
	return word(p->addr, p->len);
}

/* All but the first byte. */
static uint64_t tail(uint64_t w)
{
	return w & ~(uint64_t)0xff;
}

/* Write those bytes of the tail that change from @from to @to, run by run. */
static int put_tail(const struct shunt_poke *p, uint64_t from, uint64_t to)
{
	uint64_t differ = tail(from ^ to);

	while (differ) {
		unsigned start = (unsigned)__builtin_ctzll(differ) / 8, end = start;
		int ret;

		while (differ >> 8 * end & 0xff)
			end++;
		differ = differ >> 8 * end << 8 * end;
		ret = put(p->addr + start, to >> 8 * start, end - start);
		if (ret)
			return ret;
	}
	return 0;
}

/*
 * All that changes at a site in one write: for sites that need no int3, because nobody
 * else runs the text or the platform makes one store of it.
 */
static int put_whole(const struct shunt_poke *p, uint64_t from, uint64_t to)
{
	uint64_t differ = from ^ to;
	unsigned start, end;

	if (!differ)
		return 0;
	start = (unsigned)__builtin_ctzll(differ) / 8;
	end = 8 - (unsigned)__builtin_clzll(differ) / 8;
	return put(p->addr + start, to >> 8 * start, end - start);
}

static int sync(void)
{
	count(&shunt_poke_stats.syncs, 1);
	return shunt_port_core_sync();
}

/* ---------------------------------------------------------- before the poke */

/* Batches mostly come sorted: see without a call for each. */
static bool is_sorted(const struct shunt_poke *p, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (p[i - 1].addr > p[i].addr)
			return false;
	return true;
}

static uintptr_t address(const void *poke)
{
	return (uintptr_t)((const struct shunt_poke *)poke)->addr;
}

static bool is_poked(const struct shunt_poke *p)
{
	return atomic_load_explicit(&p->site->poked, memory_order_relaxed);
}

static bool any_poked(const struct shunt_poke *pokes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (is_poked(&pokes[i]))
			return true;
	return false;
}

static int fail(struct shunt_report *report, const struct shunt_poke *p, const char *what,
		int error)
{
	report->error = error;
	report->what = what;
	report->site = p ? p->addr : NULL;
	return error;
}

/* Refuse the batch if any site is not as it should be. Nothing is written yet. */
static int verify(const struct shunt_poke *pokes, size_t n, struct shunt_report *report)
{
	for (size_t i = 0; i < n; i++) {
		const struct shunt_poke *p = &pokes[i];

		if (i && p[-1].addr + p[-1].len > p->addr)
			return fail(report, p, "two sites overlap", -SHUNT_EINVAL);
		/* An int3 of ours, left by a poke that could not be undone: any tail. */
		if (is_poked(p) && p->addr[0] == SHUNT_INT3)
			continue;
		if (live(p) == word(p->old, p->len))
			continue;
		report->nbytes = p->len;
		for (size_t b = 0; b < p->len; b++) {
			report->found[b] = p->addr[b];
			report->expected[b] = p->old[b];
		}
		return fail(report, p, "foreign bytes stand at the site", -SHUNT_EBUSY);
	}
	return 0;
}

/* Whether what changes at @p lies in one aligned word of 8 bytes. */
static bool is_in_a_word(const struct shunt_poke *p)
{
	uint64_t differ = word(p->old, p->len) ^ word(p->new, p->len);
	unsigned at = (unsigned)(uintptr_t)p->addr % 8;

	if (is_poked(p))
		return false; /* its tail may be anything */
	return !differ || (at + (unsigned)__builtin_ctzll(differ) / 8) / 8 ==
				  (at + 7 - (unsigned)__builtin_clzll(differ) / 8) / 8;
}

/* Which sites go by one write. Returns whether all do: then there is no int3. */
static bool choose_at_once(struct shunt_poke *pokes, size_t n, enum shunt_way way)
{
	bool all = true;

	for (size_t i = 0; i < n; i++) {
		pokes[i].at_once = way == SHUNT_WAY_ALONE ||
				   (way == SHUNT_WAY_STORE && is_in_a_word(&pokes[i]));
		all = all && pokes[i].at_once;
	}
	return all;
}

/* ----------------------------------------------------------------- the steps */

static void mark(const struct shunt_poke *p, uint8_t poked)
{
	/* Pairs with the acquire load in shunt_trap(). */
	atomic_store_explicit(&p->site->poked, poked, memory_order_release);
}

static int write_int3(const struct shunt_poke *pokes, size_t n)
{
	int ret = 0;

	for (size_t i = 0; i < n; i++)
		if (!pokes[i].at_once)
			mark(&pokes[i], 1);
	for (size_t i = 0; i < n && !ret; i++)
		if (!pokes[i].at_once && pokes[i].addr[0] != SHUNT_INT3)
			ret = put(pokes[i].addr, SHUNT_INT3, 1);
	return ret ? ret : flush();
}

/* Where the poke is going, or going back to. */
static uint64_t goal(const struct shunt_poke *p, bool back)
{
	return word(back ? p->old : p->new, p->len);
}

static bool tails_change(const struct shunt_poke *pokes, size_t n, bool back)
{
	for (size_t i = 0; i < n; i++)
		if (!pokes[i].at_once && tail(live(&pokes[i]) ^ goal(&pokes[i], back)))
			return true;
	return false;
}

static int write_tails(const struct shunt_poke *pokes, size_t n, bool back)
{
	int ret = 0;

	for (size_t i = 0; i < n && !ret; i++)
		if (!pokes[i].at_once)
			ret = put_tail(&pokes[i], live(&pokes[i]), goal(&pokes[i], back));
	return ret ? ret : flush();
}

/* On the way back some may never have been touched, because they cannot be. */
static int write_first_bytes(const struct shunt_poke *pokes, size_t n, bool back)
{
	int ret = 0;

	for (size_t i = 0; i < n && !ret; i++) {
		const struct shunt_poke *p = &pokes[i];
		uint8_t first = back ? p->old[0] : p->new[0];

		if (p->at_once)
			ret = put_whole(p, live(p), goal(p, back));
		else if (p->addr[0] != first)
			ret = put(p->addr, first, 1);
	}
	return ret ? ret : flush();
}

/*
 * The poke is over: where its int3 is gone, traps are no longer ours. It is gone
 * everywhere, unless the way back has failed.
 */
static void release(const struct shunt_poke *pokes, size_t n)
{
	/* One writer at a time, so this need not be a locked instruction. */
	atomic_store_explicit(&ended, atomic_load_explicit(&ended, memory_order_relaxed) + 1,
			      memory_order_release);
	for (size_t i = 0; i < n; i++)
		if (pokes[i].addr[0] != SHUNT_INT3)
			mark(&pokes[i], 0);
}

static const char LEFT_ON_INT3[] = "write text, or undo it; sites are left on a breakpoint";
static const char LEFT_CHANGED[] = "write text, or undo it; sites are left changed";

/* How far a batch has come. */
struct progress {
	const char *step; /* in words, for the message */
	bool committed;
	bool mending; /* sites were left on an int3, with tails that no sync has followed */
	bool at_once; /* no site gets an int3 */
	bool no_sync; /* what has failed is a core sync, which every way needs */
};

static int step(struct progress *at, const char *name, int ret)
{
	if (ret)
		at->step = name;
	return ret;
}

static int sync_step(struct progress *at, const char *name)
{
	int ret = step(at, name, sync());

	at->no_sync = ret != 0;
	return ret;
}

/*
 * Every call from here on is the new one: each site traps, or soon is new. Said to be
 * committed before it is, because what is not there cannot be taken back too often.
 */
static void commit(struct shunt_change *change, struct progress *at)
{
	at->committed = true;
	change->commit(change);
}

/* The three steps. On failure, text is anything between old and new. */
static int advance(const struct shunt_poke *pokes, size_t n, struct shunt_change *change,
		   struct progress *at)
{
	int ret = 0;

	if (!at->at_once) {
		ret = step(at, "write int3", write_int3(pokes, n));
		if (!ret)
			ret = sync_step(at, "core sync after int3");
	}
	if (!ret && tails_change(pokes, n, false)) {
		ret = step(at, "write the tails", write_tails(pokes, n, false));
		if (!ret)
			ret = sync_step(at, "core sync after the tails");
	}
	if (ret)
		return ret;
	commit(change, at);
	ret = step(at, at->at_once ? "write the sites" : "write the first bytes",
		   write_first_bytes(pokes, n, false));
	return ret ? ret : sync_step(at, "core sync after the first bytes");
}

/*
 * Back to the old bytes from wherever advance() stopped, by the same three steps.
 * A site that is not wholly old gets an int3 first, because its tail, or another
 * CPU's idea of it, may be the new one. Where no tail has been touched, the first
 * byte alone is put back: int3 or not, the site is the old instruction.
 */
static int go_back(const struct shunt_poke *pokes, size_t n, struct shunt_change *change,
		   struct progress *at)
{
	int ret;

	if (!at->at_once && (at->committed || at->mending || tails_change(pokes, n, true))) {
		ret = write_int3(pokes, n);
		if (!ret)
			ret = sync();
		if (!ret)
			ret = write_tails(pokes, n, true);
		if (!ret)
			ret = sync();
		if (ret)
			return ret;
	}
	if (at->committed)
		change->revert(change);
	at->committed = false;
	ret = write_first_bytes(pokes, n, true);
	if (!ret)
		(void)sync(); /* only ends the trapping; a late trap is retried */
	return ret;
}

/* Whether every site without an int3 is the new instruction. */
static bool is_new_or_int3(const struct shunt_poke *pokes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (pokes[i].addr[0] != SHUNT_INT3 && live(&pokes[i]) != goal(&pokes[i], false))
			return false;
	return true;
}

/* Forward, or else back. */
static int poke_in_steps(const struct shunt_poke *pokes, size_t n, struct shunt_change *change,
			 struct progress *at, struct shunt_report *report)
{
	int ret = at->at_once ? 0 : shunt_port_take_traps();

	if (ret) /* and so no int3 may be written */
		return fail(report, pokes, "take traps", ret);
	ret = advance(pokes, n, change, at);
	if (!ret) {
		release(pokes, n);
		return 0;
	}
	fail(report, pokes, at->step, ret);
	if (!go_back(pokes, n, change, at)) {
		release(pokes, n);
		return ret;
	}
	/*
	 * Neither forward nor back. What is left are sites with an int3, still
	 * marked, that have the effect of the new instruction if it was committed
	 * and of the old one if not, beside sites that are wholly so. Those that go
	 * without an int3 may be old still when the others are new already.
	 */
	release(pokes, n);
	if (at->committed && !is_new_or_int3(pokes, n)) {
		change->revert(change);
		at->committed = false;
	}
	report->what = LEFT_ON_INT3;
	return at->committed ? 0 : ret;
}

/* ------------------------------------------------------------------ the swap */

static int text_swap(const struct shunt_poke *pokes, size_t n)
{
	count(&shunt_poke_stats.writes, n);
	return shunt_port_text_swap(&pokes[0].to, n, sizeof(pokes[0]));
}

static bool is_old(const struct shunt_poke *pokes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (live(&pokes[i]) != goal(&pokes[i], true))
			return false;
	return true;
}

/* Whether it is for us to put @p back: somebody else may have written there meanwhile. */
static bool is_ours(const struct shunt_poke *p)
{
	return live(p) == goal(p, false) || (is_poked(p) && p->addr[0] == SHUNT_INT3);
}

/* Pages with the old bytes again, as many at a time as there is room for. */
static int swap_back(const struct shunt_poke *pokes, size_t n)
{
	int ret = 0;

	for (size_t i = 0; i < n && !ret;) {
		size_t k = 0;

		for (; k < sizeof(queue.w) / sizeof(queue.w[0]) && i < n; i++) {
			if (!is_ours(&pokes[i]))
				continue;
			queue.w[k].addr = pokes[i].addr;
			queue.w[k].len = pokes[i].len;
			for (size_t b = 0; b < SHUNT_SITE_MAX; b++)
				queue.w[k].bytes[b] = pokes[i].old[b];
			k++;
		}
		ret = shunt_port_text_swap(queue.w, k, sizeof(queue.w[0]));
	}
	return ret ? ret : sync();
}

/*
 * By new pages: no thread traps, and a site is the old instruction or the new one at
 * any moment. Sites that another way has left on an int3 are mended by it.
 */
static int poke_swap(const struct shunt_poke *pokes, size_t n, struct shunt_change *change,
		     struct progress *at, struct shunt_report *report)
{
	int ret = step(at, "swap pages", text_swap(pokes, n));

	if (!ret) {
		commit(change, at);
		ret = sync_step(at, "core sync after the swap");
	}
	if (ret) {
		fail(report, pokes, at->step, ret);
		if (at->committed)
			change->revert(change);
		if (!is_old(pokes, n))
			(void)swap_back(pokes, n); /* if not, put_right() is tried */
	}
	if (at->mending)
		release(pokes, n);
	return ret;
}

/* ------------------------------------------------------------------ the batch */

/*
 * The poke that is going on. Not for the thread that makes it: a copy of the process, made
 * by a raw clone() of another thread, has nothing else to find its way back by.
 */
static struct {
	struct shunt_poke *pokes;
	size_t n;
	struct shunt_change *change;
	bool over; /* all is as it should be, but for change->done() */
} going_on;

static int poke_by(enum shunt_way way, struct shunt_poke *pokes, size_t n,
		   struct shunt_change *change, struct shunt_report *report, bool *no_sync)
{
	struct progress at = {.mending = any_poked(pokes, n)};
	int ret;

	if (way == SHUNT_WAY_SWAP) {
		ret = poke_swap(pokes, n, change, &at, report);
	} else {
		at.at_once = choose_at_once(pokes, n, way);
		ret = poke_in_steps(pokes, n, change, &at, report);
	}
	*no_sync = at.no_sync;
	return ret;
}

/* Back to the old bytes, by @way, from whatever is there. Nothing is committed. */
static int put_right(enum shunt_way way, struct shunt_poke *pokes, size_t n,
		     struct shunt_change *change)
{
	struct progress at = {.mending = true};
	int ret = 0;

	if (is_old(pokes, n)) {
		ret = 0; /* but for marks, if it was stopped before its first int3 */
	} else if (way == SHUNT_WAY_SWAP) {
		ret = swap_back(pokes, n);
	} else {
		at.at_once = choose_at_once(pokes, n, way);
		if (!at.at_once)
			ret = shunt_port_take_traps();
		if (!ret)
			ret = go_back(pokes, n, change, &at);
	}
	release(pokes, n);
	return ret;
}

/* No way has worked: what the message is to say of the sites. */
static int leave(const struct shunt_poke *pokes, size_t n, struct shunt_report *report, int ret)
{
	if (!is_old(pokes, n))
		report->what = any_poked(pokes, n) ? LEFT_ON_INT3 : LEFT_CHANGED;
	else if (report->what == LEFT_ON_INT3)
		report->what = "write text; it was undone by another way";
	return ret;
}

/*
 * By one way after the other, until one works or none is left. Where a core sync has failed
 * no other is tried, because each needs it; but text that is not as it was is put right.
 */
static int poke_by_any(struct shunt_poke *pokes, size_t n, struct shunt_change *change,
		       struct shunt_report *report)
{
	unsigned tried = 0;
	bool no_sync = false;
	int ret = 0;

	while (!no_sync || !is_old(pokes, n)) {
		int way = shunt_port_poke_begin(n, tried);

		if (way < 0 && !tried)
			return fail(report, NULL, "make ready to poke", way);
		if (way < 0)
			return leave(pokes, n, report, ret);
		if (tried && (put_right((enum shunt_way)way, pokes, n, change) || no_sync)) {
			shunt_port_poke_end();
			return leave(pokes, n, report, ret);
		}
		report->error = 0; /* what another way has failed in did no harm */
		ret = poke_by((enum shunt_way)way, pokes, n, change, report, &no_sync);
		shunt_port_poke_end();
		if (!ret)
			return 0;
		if (ret == -SHUNT_EBUSY && verify(pokes, n, report))
			return ret; /* no other way may write there either */
		tried |= 1u << way;
	}
	return leave(pokes, n, report, ret);
}

int shunt_poke_batch(struct shunt_poke *pokes, size_t n, struct shunt_change *change,
		     struct shunt_report *report)
{
	int ret;

	if (!is_sorted(pokes, n))
		shunt_sort(pokes, n, sizeof(pokes[0]), address);
	ret = shunt_port_text_check(&pokes[0].to, n, sizeof(pokes[0]));
	if (ret)
		return fail(report, pokes, "read the sites", ret);
	ret = verify(pokes, n, report);
	if (ret)
		return ret;
	if (!n) {
		change->commit(change);
		if (change->done)
			change->done(change);
		return 0;
	}
	going_on.pokes = pokes;
	going_on.change = change;
	atomic_signal_fence(memory_order_release); /* a copy finds it whole, or not at all */
	going_on.n = n;
	ret = poke_by_any(pokes, n, change, report);
	if (!ret) {
		count(&shunt_poke_stats.pokes, 1);
		going_on.over = true;
		if (change->done)
			change->done(change);
	}
	going_on.n = 0;
	going_on.over = false;
	return ret;
}

void shunt_poke_repair(void)
{
	size_t n = going_on.n;
	int way;

	/* Writes that the thread had not handed to the port: no update may ever do so. */
	queue.n = 0;
	queue.bytes = 0;
	if (!n)
		return;
	going_on.n = 0;
	if (going_on.over) {
		if (going_on.change->done)
			going_on.change->done(going_on.change);
		going_on.over = false;
		return;
	}
	going_on.change->revert(going_on.change);
	way = shunt_port_poke_begin(n, 0);
	if (way < 0) {
		release(going_on.pokes, n); /* an int3 that is left does the right thing */
		return;
	}
	(void)put_right((enum shunt_way)way, going_on.pokes, n, going_on.change);
	shunt_port_poke_end();
}
/* ------------------------------------------------------------ the trap path */

static uint8_t read_text(uintptr_t addr)
{
	return atomic_load_explicit((_Atomic uint8_t *)addr, memory_order_acquire);
}

/*
 * Whether the int3 at @addr, in front of which a thread has trapped, is gone
 * (late), or is ours, or neither.
 */
static enum shunt_trap whose(uintptr_t addr, struct shunt_site *site)
{
	for (;;) {
		unsigned long seen = atomic_load_explicit(&ended, memory_order_acquire);

		if (read_text(addr) != SHUNT_INT3)
			return SHUNT_TRAP_LATE;
		/* Pairs with mark(). */
		if (atomic_load_explicit(&site->poked, memory_order_acquire))
			return SHUNT_TRAP_EMULATED;
		/*
		 * An int3 without a mark: another's, unless the poke that it was
		 * read in has ended since. Pairs with release().
		 */
		if (atomic_load_explicit(&ended, memory_order_acquire) == seen)
			return SHUNT_TRAP_FOREIGN;
	}
}

enum shunt_trap shunt_trap(struct shunt_regs *regs)
{
	uintptr_t addr = regs->ip - 1;
	struct shunt_insn insn;
	struct shunt_site *site = shunt_site_find(addr, &insn);
	enum shunt_trap trap;

	if (!site)
		return SHUNT_TRAP_FOREIGN;
	trap = whose(addr, site);
	if (trap == SHUNT_TRAP_LATE)
		regs->ip = addr;
	else if (trap == SHUNT_TRAP_EMULATED && !shunt_emulate(regs, addr, &insn))
		return SHUNT_TRAP_FOREIGN;
	return trap;
}
