/* SPDX-License-Identifier: MIT */
/* The function tracer (ftrace.h). */
#include "ftrace.h"

#include <shunt/text_poke.h>
#include <stdatomic.h>

#include "core/error.h"
#include "core/sort.h"
#include "kernel.h"
#include "port.h"
#include "trap.h"

_Static_assert(offsetof(struct cpu, in_stub) == CPU_IN_STUB, "the stubs count there");

struct ftrace_test ftrace_test;

extern const uintptr_t __start_ftrace_entries[], __stop_ftrace_entries[]; /* by the compiler */
extern const struct ftrace_name __start_ftrace_names[], __stop_ftrace_names[];
extern uint8_t ftrace_stubs[], ftrace_stubs_end[];

static const uint8_t nop[FTRACE_INSN_SIZE] = {0x0f, 0x1f, 0x44, 0x00, 0x00};

static struct entry {
	uintptr_t ip;
	uintptr_t stub;        /* what it calls; 0: nothing */
	uintptr_t last;        /* what it called last; 0: it never did */
} entries[FTRACE_MAX_ENTRIES]; /* sorted */
static size_t nr_entries;

/*
 * Read by the stubs without a lock. A slot is given to other ops only when no CPU is in
 * a stub (synchronize()).
 */
static struct ftrace_ops *_Atomic slots[FTRACE_MAX_OPS];

/* Guards the ops and the entries. The holder waits for others with interrupts on. */
static _Atomic bool locked;

static int lock(void)
{
	if (this_cpu()->tracing)
		return -SHUNT_EDEADLK;
	while (atomic_exchange(&locked, true))
		cpu_relax();
	return 0;
}

static void unlock(void)
{
	locked = false;
}

/* ------------------------------------------------------------------------ sets */

static bool contains(const struct ftrace_set *set, size_t i)
{
	return set->word[i / 64] >> i % 64 & 1;
}

static void add(struct ftrace_set *set, size_t i)
{
	set->word[i / 64] |= 1ul << i % 64;
}

static void copy(struct ftrace_set *to, const struct ftrace_set *from)
{
	for (size_t i = 0; i < FTRACE_WORDS; i++)
		to->word[i] = from->word[i];
}

/* The number of the entry at @ip; nr_entries: there is none. */
static size_t find(uintptr_t ip)
{
	size_t low = 0, high = nr_entries;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (entries[middle].ip < ip)
			low = middle + 1;
		else
			high = middle;
	}
	return low < nr_entries && entries[low].ip == ip ? low : nr_entries;
}

static bool matches(const char *glob, const char *name)
{
	if (*glob == '*')
		return matches(glob + 1, name) || (*name && matches(glob, name + 1));
	if (!*glob || !*name)
		return *glob == *name;
	return (*glob == '?' || *glob == *name) && matches(glob + 1, name + 1);
}

size_t ftrace_nr_entries(void)
{
	return nr_entries;
}

bool ftrace_has_entry(uintptr_t ip)
{
	return find(ip) != nr_entries;
}

uintptr_t ftrace_list_stub(void)
{
	return (uintptr_t)ftrace_stubs + (size_t)FTRACE_MAX_OPS * FTRACE_STUB_SIZE;
}

/* ------------------------------------------------------------- what stubs call */

static void run_list(struct ftrace_regs *regs)
{
	uintptr_t ip = regs->return_ip - FTRACE_INSN_SIZE;
	size_t entry = find(ip);

	for (size_t i = 0; i < FTRACE_MAX_OPS; i++) {
		struct ftrace_ops *ops = slots[i];

		if (ops && contains(&ops->active, entry))
			ops->func(ip, regs->parent_ip, ops, regs);
	}
}

static void run_one(struct ftrace_regs *regs, struct ftrace_ops *ops)
{
	ops->func(regs->return_ip - FTRACE_INSN_SIZE, regs->parent_ip, ops, regs);
}

void ftrace_run(struct ftrace_regs *regs, unsigned slot);
void ftrace_run(struct ftrace_regs *regs, unsigned slot)
{
	struct cpu *cpu = this_cpu();

	if (cpu->tracing && !ftrace_test.no_guard)
		return;
	cpu->tracing = true;
	if (slot == FTRACE_MAX_OPS)
		run_list(regs);
	else
		run_one(regs, slots[slot]);
	cpu->tracing = false;
}

/* ------------------------------------------------------------------ the entries */

static uintptr_t stub_of(size_t slot)
{
	return (uintptr_t)ftrace_stubs + slot * FTRACE_STUB_SIZE;
}

/* What the entry number @i is to call, by the filters that are active. */
static uintptr_t wanted_stub(size_t i)
{
	uintptr_t stub = 0;

	for (size_t slot = 0; slot < FTRACE_MAX_OPS; slot++) {
		const struct ftrace_ops *ops = slots[slot];

		if (ops && contains(&ops->active, i))
			stub = stub ? stub_of(FTRACE_MAX_OPS) : stub_of(slot);
	}
	return stub;
}

/*
 * The instruction at the entry @e that calls @stub. One that calls nothing any more is the off form
 * of its last call, `test $displacement,%eax`: on and off are one byte apart, a flip.
 */
static void encode(uint8_t insn[FTRACE_INSN_SIZE], const struct entry *e, uintptr_t stub)
{
	uint32_t distance = (uint32_t)((stub ? stub : e->last) - (e->ip + FTRACE_INSN_SIZE));

	memcpy(insn, nop, FTRACE_INSN_SIZE);
	if (stub || e->last) {
		insn[0] = stub ? 0xe8 : 0xa9;
		memcpy(insn + 1, &distance, sizeof(distance));
	}
}

/* Bring all entries up to the active filters, in one batch. */
static int update_entries(void)
{
	static struct {
		uint8_t old[FTRACE_INSN_SIZE], new[FTRACE_INSN_SIZE];
	} insns[FTRACE_MAX_ENTRIES];
	static struct text_poke pokes[FTRACE_MAX_ENTRIES];
	size_t n = 0;
	int ret;

	for (size_t i = 0; i < nr_entries; i++) {
		struct entry *e = &entries[i];
		uintptr_t stub = wanted_stub(i);

		if (stub == e->stub)
			continue;
		encode(insns[n].old, e, e->stub);
		encode(insns[n].new, e, stub);
		pokes[n] = (struct text_poke){.addr = (void *)e->ip,
					      .insn = insns[n].new,
					      .len = FTRACE_INSN_SIZE,
					      .old = insns[n].old};
		n++;
	}
	ret = text_poke_bp_batch(pokes, n);
	for (size_t i = 0; !ret && i < nr_entries; i++) {
		entries[i].stub = wanted_stub(i);
		if (entries[i].stub && !ftrace_test.nops)
			entries[i].last = entries[i].stub;
	}
	return ret;
}

/* Make @set what @ops wants; back to what it was where that fails. */
static int activate(struct ftrace_ops *ops, const struct ftrace_set *set)
{
	struct ftrace_set before;
	int ret;

	copy(&before, &ops->active);
	/* In the list this is in force at once; an entry that changes follows. */
	copy(&ops->active, set);
	ret = update_entries();
	if (ret)
		copy(&ops->active, &before);
	return ret;
}

/* ------------------------------------------------- waiting until nobody is in a stub */

/* By number: the CPUs that have been seen outside of the stubs. */
static _Atomic uint32_t outside;

/* Interrupted is ordinary context: whatever ran on top of it has ended. */
static void on_ask(struct trapframe *frame)
{
	const struct cpu *cpu = this_cpu();

	if (!cpu->in_stub &&
	    frame->rip - (uintptr_t)ftrace_stubs >= (uintptr_t)(ftrace_stubs_end - ftrace_stubs))
		outside |= 1u << cpu->id;
}

/*
 * Wait until every CPU has been outside of all stubs. Who enters one behind that does
 * so by the entries as they are now.
 */
static void synchronize(void)
{
	outside = 1u << this_cpu()->id;
	while (outside != (1u << nr_cpus) - 1) {
		for (unsigned i = 0; i < nr_cpus; i++)
			if (!(outside >> i & 1))
				apic_ipi(i, VEC_FTRACE);
		for (unsigned i = 0; i < 100 && outside != (1u << nr_cpus) - 1; i++)
			cpu_relax();
	}
}

/* ------------------------------------------------------------------------- ops */

static int register_locked(struct ftrace_ops *ops)
{
	unsigned slot = 0;
	int ret;

	if (ops->slot)
		return -SHUNT_EBUSY;
	while (slot < FTRACE_MAX_OPS && slots[slot])
		slot++;
	if (slot == FTRACE_MAX_OPS)
		return -SHUNT_ENOMEM;
	slots[slot] = ops;
	ret = activate(ops, &ops->filter);
	if (ret) {
		synchronize();
		slots[slot] = NULL;
	} else {
		ops->slot = slot + 1;
	}
	return ret;
}

int ftrace_register(struct ftrace_ops *ops)
{
	int ret = lock();

	if (ret)
		return ret;
	ret = register_locked(ops);
	unlock();
	return ret;
}

static int unregister_locked(struct ftrace_ops *ops)
{
	static const struct ftrace_set none;
	int ret;

	if (!ops->slot)
		return -SHUNT_EINVAL;
	ret = activate(ops, &none);
	if (ret)
		return ret;
	if (!ftrace_test.no_wait)
		synchronize();
	slots[ops->slot - 1] = NULL;
	ops->slot = 0;
	return 0;
}

int ftrace_unregister(struct ftrace_ops *ops)
{
	int ret = lock();

	if (ret)
		return ret;
	ret = unregister_locked(ops);
	unlock();
	return ret;
}

static int set_filter(struct ftrace_ops *ops, const struct ftrace_set *set)
{
	int ret = lock();

	if (ret)
		return ret;
	ret = ops->slot ? activate(ops, set) : 0;
	if (!ret)
		copy(&ops->filter, set);
	unlock();
	return ret;
}

int ftrace_set_filter_ips(struct ftrace_ops *ops, const uintptr_t *ips, size_t n)
{
	struct ftrace_set set = {0};

	for (size_t i = 0; i < n; i++) {
		size_t entry = find(ips[i]);

		if (entry == nr_entries)
			return -SHUNT_EINVAL;
		add(&set, entry);
	}
	return set_filter(ops, &set);
}

int ftrace_set_filter(struct ftrace_ops *ops, const char *glob)
{
	struct ftrace_set set = {0};

	for (const struct ftrace_name *n = __start_ftrace_names; n < __stop_ftrace_names; n++)
		if (matches(glob, n->name))
			add(&set, find(n->ip));
	return set_filter(ops, &set);
}

/* ------------------------------------------------------------------------ boot */

static uintptr_t address(const void *entry)
{
	return ((const struct entry *)entry)->ip;
}

/* gcc leaves five nops, between two of which a CPU could stand later on; clang one. */
static void make_one_nop(uintptr_t ip)
{
	static const uint8_t forms[][FTRACE_INSN_SIZE] = {
		{0x90, 0x90, 0x90, 0x90, 0x90},
		{0x0f, 0x1f, 0x44, 0x00, 0x08},
		{0x0f, 0x1f, 0x44, 0x00, 0x00},
	};
	size_t i = 0;

	while (i < ARRAY_SIZE(forms) && memcmp((void *)ip, forms[i], FTRACE_INSN_SIZE) != 0)
		i++;
	if (i == ARRAY_SIZE(forms))
		panic("ftrace: no nops at %lx", ip);
	port_write_text((void *)ip, nop, sizeof(nop));
}

void ftrace_init(void)
{
	nr_entries = (size_t)(__stop_ftrace_entries - __start_ftrace_entries);
	if (nr_entries > FTRACE_MAX_ENTRIES)
		panic("ftrace: %lu entries are too many", nr_entries);
	for (size_t i = 0; i < nr_entries; i++) {
		entries[i].ip = __start_ftrace_entries[i];
		make_one_nop(entries[i].ip);
	}
	shunt_sort(entries, nr_entries, sizeof(entries[0]), address);
	for (const struct ftrace_name *n = __start_ftrace_names; n < __stop_ftrace_names; n++)
		if (!ftrace_has_entry(n->ip))
			panic("ftrace: %s has no entry", n->name);
	serialise();
	trap_set(VEC_FTRACE, on_ask);
}
