/* SPDX-License-Identifier: MIT */
/* The wrappers around the port and the trap path (hooks.h). */
#include "hooks.h"

#include <shunt/port.h>
#include <stdatomic.h>

#include "core_sync.h"
#include "cpus.h"
#include "kernel.h"
#include "locked.h"
#include "port.h"

struct test_hooks test_hooks;
void (*test_spoil)(struct trapframe *frame, const struct trapframe *before);

/* The poke that goes on. Guarded by the update lock; @active is read in traps. */
static struct {
	_Atomic bool active;
	unsigned syncs;
	uint64_t by[SHUNT_WAY_FLIP + 1];
} poke;

/* ------------------------------------------------------------------------- poke */

int __real_shunt_port_poke_begin(size_t n, bool flips, unsigned tried);
int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried);
int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	int way;

	poke.syncs = 0;
	poke.active = true;
	test_hooks.flips = flips;
	flips = test_hooks.flips_always || (flips && !test_hooks.no_flips);
	way = __real_shunt_port_poke_begin(n, flips, tried);
	if (way >= 0) {
		test_hooks.way = (enum shunt_way)way;
		poke.by[way]++;
	}
	return way;
}

uint64_t test_pokes(enum shunt_way way)
{
	return poke.by[way];
}

void __real_shunt_port_poke_end(void);
void __wrap_shunt_port_poke_end(void);
void __wrap_shunt_port_poke_end(void)
{
	poke.active = false;
	__real_shunt_port_poke_end();
}

static void write_stepwise(uint8_t *addr, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		port_write_text(addr + i, bytes + i, 1);
		cpu_relax();
	}
}

/* As if the two forms of a site had two bytes that differ. */
static void write_flip_of_two(const struct shunt_write *w)
{
	uint8_t second = w->addr[1], other = second ^ 0x10;

	write_stepwise(w->addr + 1, &other, 1);
	write_stepwise(w->addr, w->bytes, 1);
	write_stepwise(w->addr + 1, &second, 1);
}

/* One write; false: as the port does it. */
static bool write_otherwise(const struct shunt_write *w)
{
	if (test_hooks.no_int3 && w->len == 1 && w->bytes[0] == 0xcc)
		return true;
	if (test_hooks.flip_two && test_hooks.way == SHUNT_WAY_FLIP)
		write_flip_of_two(w);
	else if (test_hooks.stepwise)
		write_stepwise(w->addr, w->bytes, w->len);
	else if (test_hooks.locked)
		locked_write(w->addr, w->bytes, w->len);
	else
		return false;
	return true;
}

int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	int ret = 0;

	for (size_t i = 0; i < n && !ret; i++)
		if (!write_otherwise(&writes[i]))
			ret = __real_shunt_port_text_write(&writes[i], 1);
	return ret;
}

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void)
{
	unsigned nr = ++poke.syncs;
	int ret = 0;

	if (nr != test_hooks.no_sync && !test_hooks.no_ipi)
		ret = __real_shunt_port_core_sync();
	if (test_hooks.on_sync)
		test_hooks.on_sync(nr);
	return ret;
}

/* ------------------------------------------------------------------------ traps */

static struct {
	_Atomic uint64_t count[3]; /* by enum shunt_trap */
	_Atomic uint64_t stray;
} __attribute__((aligned(64))) counts[MAX_CPUS];

enum shunt_trap __real_shunt_trap(struct shunt_regs *regs);
enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs);
enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs)
{
	unsigned id = this_cpu()->id;
	bool active = poke.active;
	enum shunt_trap trap;

	if (test_hooks.late_from && regs->ip == test_hooks.late_from)
		regs->ip = test_hooks.late_to;
	trap = __real_shunt_trap(regs);
	atomic_fetch_add_explicit(&counts[id].count[trap], 1, memory_order_relaxed);
	if (!active)
		atomic_fetch_add_explicit(&counts[id].stray, 1, memory_order_relaxed);
	return trap;
}

struct test_traps test_traps(void)
{
	struct test_traps sum = {0};

	for (unsigned i = 0; i < MAX_CPUS; i++) {
		sum.foreign += counts[i].count[SHUNT_TRAP_FOREIGN];
		sum.emulated += counts[i].count[SHUNT_TRAP_EMULATED];
		sum.late += counts[i].count[SHUNT_TRAP_LATE];
		sum.stray += counts[i].stray;
	}
	return sum;
}

/*
 * Whether @frame lies higher on a stack of the interrupt stack table than what it has interrupted
 * there: over its frames. (Controls that give #BP such a stack; it then begins at the top again.)
 */
static bool has_written_over(const struct trapframe *frame)
{
	const struct cpu *cpu = this_cpu();

	for (size_t i = 0; i < ARRAY_SIZE(cpu->ist); i++) {
		uintptr_t bottom = (uintptr_t)cpu->ist[i];

		if (frame->rsp - bottom < sizeof(cpu->ist[i]) &&
		    (uintptr_t)frame - bottom < sizeof(cpu->ist[i]) &&
		    (uintptr_t)frame > frame->rsp)
			return true;
	}
	return false;
}

void __real_trap_breakpoint(struct trapframe *frame, uint64_t ssp);
void __wrap_trap_breakpoint(struct trapframe *frame, uint64_t ssp);
void __wrap_trap_breakpoint(struct trapframe *frame, uint64_t ssp)
{
	if (has_written_over(frame))
		panic("a trap has written over the frame of what it interrupts");
	__real_trap_breakpoint(frame, ssp);
}

void test_breakpoint_no_shadow(struct trapframe *frame, uint64_t ssp);
void test_breakpoint_no_shadow(struct trapframe *frame, uint64_t ssp)
{
	(void)ssp;
	trap_breakpoint(frame, 0);
}

void test_breakpoint_spoiled(struct trapframe *frame, uint64_t ssp);
void test_breakpoint_spoiled(struct trapframe *frame, uint64_t ssp)
{
	struct trapframe before = *frame;

	trap_breakpoint(frame, ssp);
	test_spoil(frame, &before);
}

/* ------------------------------------------------------------------- interrupts */

bool __real_cpu_context_begin(struct cpu *cpu);
bool __wrap_cpu_context_begin(struct cpu *cpu);
bool __wrap_cpu_context_begin(struct cpu *cpu)
{
	return test_hooks.one_guard ? cpu->tracing : __real_cpu_context_begin(cpu);
}
