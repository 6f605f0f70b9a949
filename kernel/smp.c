/* SPDX-License-Identifier: MIT */
/* Processors: their start, their idle loop, and work for them (smp.h). */
#include <stdatomic.h>

#include "cet.h"
#include "smp.h"
#include "trap.h"

/* ------------------------------------------------------------------------ start */

extern uint8_t ap_start[], ap_end[]; /* boot/ap.S */
extern uint64_t ap_cr3, ap_stack;

static struct cpu *starting;

void ap_main(void) __attribute__((noreturn));
void ap_main(void)
{
	struct cpu *cpu = starting;

	cpu_init(cpu);
	apic_init();
	if (cet_wanted()) {
		cet_prepare(cpu);
		cet_enable();
	}
	cpu->is_up = 1;
	irq_enable();
	for (;;) {
		void (*work)(void *) = cpu->work;

		if (work) {
			work(cpu->work_arg);
			cpu->work = NULL;
		}
		cpu_relax();
	}
}

/* In the page that the CPU starts in, through the alias, as it is executable. */
static void set_in_start_page(const uint64_t *field, uint64_t value)
{
	uint8_t *page = alias((void *)AP_START);

	memcpy(page + ((const uint8_t *)field - ap_start), &value, sizeof(value));
}

static void start(struct cpu *cpu, uint64_t cr3)
{
	memcpy(alias((void *)AP_START), ap_start, (size_t)(ap_end - ap_start));
	set_in_start_page(&ap_cr3, cr3);
	set_in_start_page(&ap_stack, (uintptr_t)cpu->stack + sizeof(cpu->stack));
	starting = cpu;
	apic_start((unsigned)(cpu - cpus), AP_START / PAGE);
	while (!cpu->is_up)
		cpu_relax();
}

/* ------------------------------------------------------------------------- work */

void smp_start(unsigned id, void (*f)(void *arg), void *arg)
{
	cpus[id].work_arg = arg;
	cpus[id].work = f;
}

void smp_wait(void)
{
	for (unsigned i = 1; i < nr_cpus; i++)
		while (cpus[i].work)
			cpu_relax();
}

void smp_run(void (*f)(void *arg), void *arg)
{
	for (unsigned i = 1; i < nr_cpus; i++)
		smp_start(i, f, arg);
	f(arg);
	smp_wait();
}

/* One call at a time. Interrupts stay on, so that two callers serve each other. */
static struct {
	_Atomic bool busy;
	void (*f)(void *arg);
	void *arg;
	_Atomic unsigned waiting_for;
} call;

static void on_call(struct trapframe *frame)
{
	(void)frame;
	call.f(call.arg);
	call.waiting_for--;
}

void smp_call(void (*f)(void *arg), void *arg)
{
	while (atomic_exchange(&call.busy, true))
		cpu_relax();
	call.f = f;
	call.arg = arg;
	call.waiting_for = nr_cpus - 1;
	apic_ipi_others(VEC_CALL);
	f(arg);
	while (call.waiting_for)
		cpu_relax();
	call.busy = false;
}

void smp_init(unsigned n, uint64_t cr3)
{
	trap_set(VEC_CALL, on_call);
	for (unsigned i = 1; i < n; i++) {
		start(&cpus[i], cr3);
		nr_cpus++;
	}
}
