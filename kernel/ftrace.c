/* SPDX-License-Identifier: MIT */
/* Function tracing: what the core asks of a kernel (ftrace.h). */
#include "ftrace.h"

#include <stdatomic.h>

#include "core/error.h"
#include "core/ftrace.h"
#include "core/sort.h"
#include "kernel.h"
#include "port.h"
#include "smp.h"
#include "trap.h"

_Static_assert(offsetof(struct cpu, in_stub) == CPU_IN_STUB, "the stubs count there");

struct ftrace_test ftrace_test;

extern const uintptr_t __start_ftrace_entries[], __stop_ftrace_entries[]; /* by the compiler */
extern const struct ftrace_name __start_ftrace_names[], __stop_ftrace_names[];
extern uint8_t ftrace_stubs[], ftrace_stubs_end[];

/* ------------------------------------------------------------------ the lock */

/* The holder waits for others with interrupts on. */
static _Atomic bool locked;

int shunt_port_trace_lock(const char *what, const struct ftrace_ops *ops)
{
	struct shunt_report report = {.error = -SHUNT_EDEADLK, .what = what, .ops = ops};

	if (this_cpu()->tracing) {
		shunt_port_report(&report);
		return -SHUNT_EDEADLK;
	}
	while (atomic_exchange(&locked, true))
		cpu_relax();
	return 0;
}

void shunt_port_trace_unlock(void)
{
	locked = false;
}

/* There are no veneers (port.c). */
int shunt_port_far_error(void)
{
	return -SHUNT_ERANGE;
}

/* Callbacks are not left. */
void shunt_port_trace_called(uintptr_t sp)
{
	(void)sp;
}

/* ------------------------------------------------------------------ the stubs */

uintptr_t ftrace_stub(size_t slot)
{
	return (uintptr_t)ftrace_stubs + slot * FTRACE_STUB_SIZE;
}

/* Every entry is at the head of a function; no stub saves vector registers, for nobody has any. */
uintptr_t shunt_port_trace_stub(unsigned form, unsigned id)
{
	if (form != SHUNT_FORM_HEAD || id > SHUNT_STUB_LIST_FULL)
		return 0;
	return ftrace_stub(id <= SHUNT_STUB_SLOTS ? id - 1 : SHUNT_STUB_SLOTS);
}

static void run_each(struct shunt_cursor *cursor)
{
	struct ftrace_ops *ops = shunt_ftrace_first_ops(cursor);

	for (; ops; ops = shunt_ftrace_next_ops(cursor))
		ops->func(cursor->ip, cursor->parent, ops, cursor->regs);
}

/* The slot's ops, where it is known without a look that they want the entry. */
static void run_slot(struct ftrace_regs *regs, struct shunt_ftrace_slot *slot)
{
	uintptr_t fast = atomic_load_explicit(&slot->fast, memory_order_acquire);
	struct shunt_cursor cursor = {.regs = regs, .which = (uintptr_t)slot};
	struct ftrace_ops *ops = (struct ftrace_ops *)fast;

	if (fast > 1)
		ops->func(regs->return_ip - FTRACE_INSN_SIZE, regs->parent_ip, ops, regs);
	else if (fast)
		run_each(&cursor);
}

void ftrace_run(struct ftrace_regs *regs, unsigned slot);
void ftrace_run(struct ftrace_regs *regs, unsigned slot)
{
	struct shunt_cursor cursor = {.regs = regs, .which = SHUNT_CURSOR_LIST_FULL};
	struct cpu *cpu = this_cpu();

	if (cpu->tracing && !ftrace_test.no_guard)
		return;
	cpu->tracing = true;
	/* Pairs with the core sync of a change: the guard is set before this looks whom to call. */
	atomic_signal_fence(memory_order_seq_cst);
	if (slot == FTRACE_SLOTS)
		run_each(&cursor);
	else
		run_slot(regs, &shunt_ftrace_slots[slot]);
	cpu->tracing = false;
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
int shunt_port_trace_wait(void)
{
	if (ftrace_test.no_wait)
		return 0;
	outside = 1u << this_cpu()->id;
	while (outside != (1u << nr_cpus) - 1) {
		for (unsigned i = 0; i < nr_cpus; i++)
			if (!(outside >> i & 1))
				apic_ipi(i, VEC_FTRACE);
		for (unsigned i = 0; i < 100 && outside != (1u << nr_cpus) - 1; i++)
			cpu_relax();
	}
	return 0;
}

/* ------------------------------------------------------------------ the entries */

static const uint8_t nop[FTRACE_INSN_SIZE] = {0x0f, 0x1f, 0x44, 0x00, 0x00};

/* All there are. The module's name is for globs: "kernel:work_*". */
static struct shunt_entry entries[FTRACE_MAX_ENTRIES];
static struct shunt_entries kernel_entries = {.entries = entries, .module = "kernel"};

size_t ftrace_nr_entries(void)
{
	return kernel_entries.n;
}

bool ftrace_has_entry(uintptr_t ip)
{
	return shunt_entry_find(ip) != NULL;
}

/* All are known since boot. */
int shunt_port_entries_lock(const char *what, const struct ftrace_ops *ops)
{
	return shunt_port_trace_lock(what, ops);
}

int shunt_port_entries_unknown(const char **what)
{
	(void)what;
	return 0;
}

/* All are one instruction since boot (make_one_nop()). */
int shunt_port_leave_nops(const uintptr_t *ips, size_t n)
{
	(void)ips;
	return n ? -SHUNT_ENOSYS : 0;
}

static uintptr_t address(const void *entry)
{
	return ((const struct shunt_entry *)entry)->ip;
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

static void find_entries(void)
{
	kernel_entries.n = (size_t)(__stop_ftrace_entries - __start_ftrace_entries);
	if (kernel_entries.n > FTRACE_MAX_ENTRIES)
		panic("ftrace: %lu entries are too many", kernel_entries.n);
	for (size_t i = 0; i < kernel_entries.n; i++) {
		uintptr_t ip = __start_ftrace_entries[i];

		make_one_nop(ip);
		entries[i] = (struct shunt_entry){.ip = ip,
						  .func = ip,
						  .form = SHUNT_FORM_HEAD,
						  .prepare = SHUNT_READY,
						  .len = FTRACE_INSN_SIZE,
						  .kind = SHUNT_ENTRY_PATCHABLE};
		memcpy(entries[i].old, nop, sizeof(nop));
	}
	serialise();
	shunt_sort(entries, kernel_entries.n, sizeof(entries[0]), address);
}

static struct shunt_entry *entry_at(uintptr_t ip)
{
	for (size_t i = 0; i < kernel_entries.n; i++)
		if (entries[i].ip == ip)
			return &entries[i];
	return NULL;
}

/* Each entry has one, or none. */
static void name_entries(void)
{
	size_t size = 1, used = 1;
	char *names;

	for (const struct ftrace_name *n = __start_ftrace_names; n < __stop_ftrace_names; n++)
		size += strlen(n->name) + 2;
	names = kalloc(size);
	if (!names)
		panic("ftrace: no memory for names");
	for (const struct ftrace_name *n = __start_ftrace_names; n < __stop_ftrace_names; n++) {
		struct shunt_entry *e = entry_at(n->ip);

		if (!e)
			panic("ftrace: %s has no entry", n->name);
		e->name = (uint32_t)used;
		memcpy(names + used, n->name, strlen(n->name));
		used += strlen(n->name) + 2;
	}
	kernel_entries.names = names;
}

void ftrace_init(void)
{
	int ret = shunt_port_trace_lock("ftrace_init", NULL);

	find_entries();
	name_entries();
	if (!ret)
		ret = shunt_entries_add(&kernel_entries);
	if (ret)
		panic("ftrace: entries: error %d", ret);
	shunt_port_trace_unlock();
	trap_set(VEC_FTRACE, on_ask);
}
