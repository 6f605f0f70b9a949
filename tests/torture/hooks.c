/* SPDX-License-Identifier: MIT */
/*
 * Wrappers (ld --wrap) around the port and the trap. They see each step of a poke
 * from outside, can stop the updater between two steps and a trapped thread in its
 * handler, and so provoke the meetings that the protocol is about. Every wait is
 * bounded, and counted as missed where it gave up.
 *
 * The wrapper of shunt_trap() runs in the SIGTRAP handler: atomics and sched_yield()
 * alone. No sanitizer instruments this file.
 */
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <shunt/port.h>

#include "torture.h"

int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __real_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
int __real_shunt_port_core_sync(void);
int __real_shunt_port_poke_begin(size_t n, bool flips, unsigned tried);
enum shunt_trap __real_shunt_trap(struct shunt_regs *regs);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
int __wrap_shunt_port_core_sync(void);
int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried);
enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs);

static struct stats unshared;
struct stats *stats = &unshared;
struct hammered hammered[HAMMERS];

/* The updater's alone. */
static struct {
	bool on;
	struct control control;
	struct plan plan;
	uint64_t poke;   /* number of the current one */
	enum stage last; /* the step that was written last: INT3, TAILS or FIRST */
	bool synced;     /* since then */
	bool keeping;    /* traps of this poke are being kept */
	bool stores;     /* this poke goes by one store where it can */
	const uint8_t *sites[2 * TORTURE_SITES]; /* sorted */
} up;

/* Time in steps: number of the poke << 4 | stage. Never goes back. */
static _Atomic uint64_t now;
/* Traps are kept in the handler until then; 0: they are not. */
static _Atomic uint64_t release;
/* The last release that a trap was kept for, and that one was handled at. */
static _Atomic uint64_t waiting, done;

static uint64_t load(_Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_acquire);
}

static void store(_Atomic uint64_t *p, uint64_t value)
{
	atomic_store_explicit(p, value, memory_order_release);
}

static void add(_Atomic uint64_t *p)
{
	atomic_fetch_add_explicit(p, 1, memory_order_release);
}

/* ------------------------------------------------------------------- waiting */

#define TURNS 100000u /* a bound of 0.1 s where nobody else wants the CPU */

/*
 * Who yields may not be back for a whole time slice, and whoever is waited for is
 * most likely running: give the CPU away now and then only.
 */
static void turn(unsigned nth)
{
	for (int i = 0; i < 16; i++)
		relax_cpu();
	if (nth % 128 == 127)
		(void)sched_yield();
}

/* Until *p has come to @value. */
static bool wait_for(_Atomic uint64_t *p, uint64_t value)
{
	for (unsigned i = 0; i < TURNS; i++) {
		if (load(p) >= value)
			return true;
		turn(i);
	}
	return false;
}

/* Until a thread has gone through the site from end to end: one begun, one whole. */
static bool wait_for_calls(void)
{
	uint64_t old[HAMMERS];

	for (unsigned n = 0; n < HAMMERS; n++)
		old[n] = load(&hammered[n].calls);
	for (unsigned i = 0; i < TURNS; i++) {
		for (unsigned n = 0; n < HAMMERS; n++)
			if (load(&hammered[n].calls) > old[n] + 1)
				return true;
		turn(i);
	}
	return false;
}

static bool counted(bool came)
{
	add(came ? &stats->holds : &stats->missed);
	return came;
}

/* The poke has come to @stage: let time go on, and wait for whom the plan says. */
static void reach(enum stage stage)
{
	uint64_t then = load(&release);

	store(&now, up.poke << 4 | stage);
	if (up.plan.hold == stage && stage != BEGUN)
		(void)counted(wait_for_calls());
	if (!then)
		return;
	if (stage == SYNC1 && up.keeping && !counted(wait_for(&waiting, then)))
		store(&release, 0);
	else if (load(&now) >= then) {
		(void)counted(wait_for(&done, then));
		store(&release, 0);
	}
}

void hooks_plan(const struct plan *plan)
{
	up.plan = *plan;
}

void hooks_over(void)
{
	if (up.last != FIRST || !up.synced)
		add(&stats->disorder);
	reach(OVER);
}

/* ------------------------------------------------------------------- writing */

static int by_address(const void *a, const void *b)
{
	const uint8_t *x = *(const uint8_t *const *)a, *y = *(const uint8_t *const *)b;

	return (x > y) - (x < y);
}

/* The step that a write is part of: told by what it writes where. */
static enum stage step_of(const struct shunt_write *w)
{
	const uint8_t *addr = w->addr;

	if (!bsearch(&addr, up.sites, 2 * TORTURE_SITES, sizeof(addr), by_address))
		return TAILS;
	return w->len == 1 && w->bytes[0] == 0xcc ? INT3 : FIRST;
}

/* A poke of one step, by a remap or a store: there was none before it. */
static void watch_single_step(void)
{
	if (up.last != BEGUN)
		add(&stats->disorder);
	up.last = FIRST;
	up.synced = false;
}

/* Steps come in order, a sync between each and the next. */
static void watch_order(enum stage step)
{
	enum stage before = step == INT3 ? BEGUN : step == TAILS ? INT3 : TAILS;

	if (step == up.last && !up.synced)
		return; /* more of the same */
	if (up.last != before || (before != BEGUN && !up.synced))
		add(&stats->disorder);
	up.last = step;
	up.synced = false;
}

/* The first half of each word, and, when it has been run through, the other. */
static int put_halves(const struct shunt_write *w, size_t n)
{
	int ret = 0;

	for (size_t i = 0; i < n && !ret; i++) {
		struct shunt_write half = w[i];

		half.len = 2;
		ret = __real_shunt_port_text_write(&half, 1);
		(void)counted(wait_for_calls());
	}
	return ret ? ret : __real_shunt_port_text_write(w, n);
}

static int put(const struct shunt_write *w, size_t n)
{
	if (up.control.no_write)
		return 0;
	if (up.control.torn)
		return put_halves(w, n);
	if (!up.control.direct)
		return __real_shunt_port_text_write(w, n);
	for (size_t i = 0; i < n; i++)
		__builtin_memcpy(w[i].addr, w[i].bytes, w[i].len);
	return 0;
}

/*
 * Write the tails byte by byte and stop somewhere in the middle. A port may: it
 * promises nothing of the order or atomicity of these bytes.
 */
static int put_torn(const struct shunt_write *w, size_t n)
{
	size_t total = 0, stop, k = 0;
	int ret = 0;

	for (size_t i = 0; i < n; i++)
		total += w[i].len;
	stop = total > 1 ? 1 + up.poke / 7 % (total - 1) : 0;
	for (size_t i = 0; i < n && !ret; i++) {
		for (uint8_t b = 0; b < w[i].len && !ret; b++) {
			struct shunt_write one = {w[i].addr + b, 1, {w[i].bytes[b]}};

			ret = put(&one, 1);
			if (++k == stop)
				reach(TORN);
		}
	}
	return ret;
}

/* A veneer is written before the poke that it is for, and is no part of it. */
static bool is_veneer(const struct shunt_write *w)
{
	return w->addr < up.sites[0] || w->addr > up.sites[2 * TORTURE_SITES - 1] + 8;
}

int __wrap_shunt_port_text_write(const struct shunt_write *w, size_t n)
{
	enum stage step;
	int ret;

	if (!up.on || is_veneer(w))
		return __real_shunt_port_text_write(w, n);
	step = step_of(w);
	if (up.stores && up.last == BEGUN && step != INT3) {
		step = FIRST;
		add(&stats->stores);
		watch_single_step();
	} else {
		watch_order(step);
	}
	if (step == INT3 && up.control.no_int3)
		ret = 0;
	else if (step == TAILS && up.plan.hold == TORN && (load(&now) & 15) < TORN)
		ret = put_torn(w, n);
	else
		ret = put(w, n);
	reach(step);
	return ret;
}

static uint64_t all_calls(void)
{
	uint64_t sum = 0;

	for (unsigned n = 0; n < HAMMERS; n++)
		sum += load(&hammered[n].calls);
	return sum;
}

static bool crosses_pages(const struct shunt_write *w)
{
	return ((uintptr_t)w->addr ^ ((uintptr_t)w->addr + w->len - 1)) >> 12;
}

/* What is on the first page, and when it is seen there, the rest. */
static int remap_apart(const struct shunt_write *w)
{
	uint8_t first = (uint8_t)(-(uintptr_t)w->addr & 4095);
	struct shunt_write part[2] = {{.addr = w->addr, .len = first},
				      {.addr = w->addr + first, .len = (uint8_t)(w->len - first)}};
	int ret;

	__builtin_memcpy(part[0].bytes, w->bytes, first);
	__builtin_memcpy(part[1].bytes, w->bytes + first, part[1].len);
	ret = __real_shunt_port_text_remap(&part[0], 1, sizeof(part[0]));
	(void)counted(wait_for_calls());
	return ret ? ret : __real_shunt_port_text_remap(&part[1], 1, sizeof(part[1]));
}

int __wrap_shunt_port_text_remap(const struct shunt_write *w, size_t n, size_t stride)
{
	uint64_t before = all_calls();
	int ret;

	if (!up.on)
		return __real_shunt_port_text_remap(w, n, stride);
	watch_single_step();
	if (up.control.apart && n == 1 && crosses_pages(w))
		ret = remap_apart(w);
	else
		ret = __real_shunt_port_text_remap(w, n, stride);
	atomic_fetch_add_explicit(&stats->during, all_calls() - before, memory_order_relaxed);
	add(&stats->remaps);
	if (crosses_pages(w))
		add(&stats->crossing);
	reach(FIRST);
	return ret;
}

int __wrap_shunt_port_core_sync(void)
{
	unsigned nth = up.last == INT3 ? 1 : up.last == TAILS ? 2 : 3;
	bool skip = (up.control.skip_sync >> nth & 1) || (nth == 1 && up.control.no_int3);
	int ret;

	if (!up.on)
		return __real_shunt_port_core_sync();
	ret = skip ? 0 : __real_shunt_port_core_sync();
	up.synced = true;
	reach(up.last + 1);
	return ret;
}

int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	int way;

	if (up.on) {
		up.poke++;
		up.last = BEGUN;
		up.synced = false;
		up.keeping = false;
		/* One that is kept from the poke before comes first. */
		if (up.plan.until && !load(&release)) {
			up.keeping = true;
			store(&release, (up.poke + up.plan.ahead) << 4 | up.plan.until);
		}
		reach(BEGUN);
	}
	way = __real_shunt_port_poke_begin(n, flips, tried);
	up.stores = way == SHUNT_WAY_ATOMIC || (!CPU_HAS_TRAPS && way == SHUNT_WAY_FLIP);
	return way;
}

/* The pages of the sites, writable and executable: for plain stores. */
static void open_text(void)
{
	uintptr_t page = 4096;
	uintptr_t start = (uintptr_t)up.sites[0] & -page;
	uintptr_t end = ((uintptr_t)up.sites[2 * TORTURE_SITES - 1] + 8 + page - 1) & -page;

	if (mprotect((void *)start, end - start, PROT_READ | PROT_WRITE | PROT_EXEC))
		abort();
}

void hooks_start(const struct control *control)
{
	for (size_t i = 0; i < TORTURE_SITES; i++) {
		up.sites[2 * i] = torture_single[i].insn;
		up.sites[2 * i + 1] = torture_batch[i].insn;
	}
	qsort(up.sites, 2 * TORTURE_SITES, sizeof(up.sites[0]), by_address);
	up.control = *control;
	if (control->direct)
		open_text();
	up.on = true;
}

/* -------------------------------------------------------------------- trapping */

static void raise_to(_Atomic uint64_t *p, uint64_t value)
{
	uint64_t old = load(p);

	while (old < value && !atomic_compare_exchange_weak(p, &old, value))
		;
}

/* Keep a trap in its handler. Returns whether it was kept until it was released. */
static bool keep(uint64_t until)
{
	raise_to(&waiting, until);
	for (unsigned i = 0; i < 4 * TURNS; i++) {
		if (load(&now) >= until)
			return true;
		if (!load(&release))
			return false; /* called off */
		turn(i);
	}
	return false;
}

static enum shunt_trap without_retry(struct shunt_regs *regs, uintptr_t ip)
{
	regs->ip = ip;
	return up.control.resume ? SHUNT_TRAP_EMULATED : SHUNT_TRAP_FOREIGN;
}

enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs)
{
	uintptr_t ip = regs->ip;
	uint64_t until = load(&release), came = load(&now), at;
	enum shunt_trap trap;
	bool kept = came < until && keep(until);

	at = load(&now);
	trap = __real_shunt_trap(regs);
	add(&stats->traps[at & 15][trap]);
	if (kept) {
		add(&stats->held[at & 15][trap]);
		if (at >> 4 > came >> 4)
			add(&stats->next);
		raise_to(&done, until);
	}
	if (trap == SHUNT_TRAP_LATE && (up.control.resume || up.control.foreign))
		return without_retry(regs, ip);
	return trap;
}
