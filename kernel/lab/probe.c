/* SPDX-License-Identifier: MIT */
/*
 * The laboratory's probe: one call through a site, with every register and flag watched, that
 * comes back whatever happens to it. A fault ends the probe, not the kernel.
 */
#include "internal.h"

#define VEC_IRETQ 0x5f

_Static_assert(offsetof(struct lab_record, want_ret) == RECORD_WANT_RET, "lab.inc");
_Static_assert(offsetof(struct lab_record, target) == RECORD_TARGET, "lab.inc");
_Static_assert(offsetof(struct lab_record, seen) == RECORD_SEEN, "lab.inc");
_Static_assert(offsetof(struct lab_record, regs) == RECORD_REGS, "lab.inc");

/* The innermost probe of each CPU; probes nest, in interrupts. */
static struct probe {
	struct lab_catch catch;
	const struct lab_record *record;
	uint32_t wrong, vector; /* lab_bad() */
} * probes[MAX_CPUS];

/* ------------------------------------------------------------------------ words */

static const char *const wrongs[] = {"fault",
				     "unknown int3",
				     "wrong target",
				     "wrong return address",
				     "wrong stack pointer",
				     "interrupts not as before",
				     "flags changed",
				     "registers changed",
				     "lockdep: IF is not what it was told"};
static const char *const registers[] = {"rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi",
					"r8",  "r9",  "r10", "r11", "r12", "r13", "r15"};

struct text {
	char *at, *end;
};

static void add(struct text *text, const char *s)
{
	while (*s && text->at < text->end)
		*text->at++ = *s++;
	*text->at = '\0';
}

static const char *fault_name(uint32_t vector)
{
	switch (vector) {
	case VEC_DB:
		return "#DB";
	case VEC_UD:
		return "#UD";
	case VEC_DF:
		return "#DF";
	case VEC_GP:
		return "#GP";
	case VEC_PF:
		return "#PF";
	case VEC_CP:
		return "#CP";
	default:
		return "fault";
	}
}

static void add_registers(struct text *text, uint32_t which)
{
	for (unsigned i = 0; i < ARRAY_SIZE(registers); i++)
		if (which >> i & 1) {
			add(text, " ");
			add(text, registers[i]);
		}
}

const char *lab_result_name(const struct lab_result *result)
{
	static char name[200];
	struct text text = {name, name + sizeof(name) - 1};

	name[0] = '\0';
	for (unsigned i = 0; i < ARRAY_SIZE(wrongs); i++) {
		if (!(result->wrong >> i & 1))
			continue;
		if (text.at != name)
			add(&text, " and ");
		add(&text, 1u << i == LAB_FAULT ? fault_name(result->vector) : wrongs[i]);
		if (1u << i == LAB_REGISTERS)
			add_registers(&text, result->registers);
	}
	return name;
}

/* -------------------------------------------------------------------- the way out */

/* A fault in an interrupt's handler may leave the interrupt in service. */
void lab_bad(uint32_t wrong, uint32_t vector)
{
	struct probe *probe;

	irq_disable();
	probe = probes[this_cpu()->id];
	if (!probe)
		panic("lab: wrong %x, vector %u outside a probe", wrong, vector);
	for (unsigned i = 0; i < 4; i++)
		apic_eoi();
	probe->wrong = wrong;
	probe->vector = vector;
	lab_throw(&probe->catch, 1);
}

/* A target that has found another stack or return address than it must. */
void lab_lost(void) __attribute__((noreturn));
void lab_lost(void)
{
	lab_bad(0, 0);
}

bool lab_probe_reached(void)
{
	const struct probe *probe = probes[this_cpu()->id];

	return !probe || (int64_t)probe->record->target >= 0;
}

static void on_fault(struct trapframe *frame)
{
	if (!probes[this_cpu()->id])
		trap_unexpected(frame);
	lab_bad(LAB_FAULT, (uint32_t)frame->vector);
}

void lab_probe_init(void)
{
	static const uint8_t faults[] = {VEC_UD, VEC_DF, 10, 11, 12, VEC_GP, VEC_PF, VEC_CP};

	for (unsigned i = 0; i < ARRAY_SIZE(faults); i++)
		trap_set(faults[i], on_fault);
	idt_set(VEC_IRETQ, lab_entry_iretq, 0);
}

/* ----------------------------------------------------------------------- the call */

/*
 * The flags of the next call: all that a program may set and that change nothing else here,
 * some, others, none.
 */
static uint64_t flags_of_next_call(bool irqs)
{
	static const uint64_t patterns[] = {0, RFLAGS_USER, RFLAGS_CF | RFLAGS_AF | RFLAGS_SF,
					    RFLAGS_USER & ~(RFLAGS_CF | RFLAGS_AF | RFLAGS_SF)};
	static _Atomic uint32_t calls;

	return patterns[calls++ % ARRAY_SIZE(patterns)] | RFLAGS_ONE | (irqs ? RFLAGS_IF : 0);
}

/* The patterns of lab_probe(). */
static uint32_t changed_registers(const struct lab_record *record)
{
	uint32_t changed = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(record->regs); i++)
		if (record->regs[i] != 0x1100 + i)
			changed |= 1u << i;
	return changed;
}

/* What the target has found. If none was reached there is nothing to be said of the rest. */
static void compare(struct lab_result *result, const struct lab_record *record)
{
	uint64_t flags = record->seen ^ record->flags;

	result->target = (int32_t)record->target;
	if (result->target < 0)
		return;
	result->registers = changed_registers(record);
	result->flags = flags;
	result->wrong |= (record->sp != record->want_sp ? LAB_WRONG_STACK : 0) |
			 (record->ret != record->want_ret ? LAB_WRONG_RETURN : 0) |
			 (flags & RFLAGS_IF ? LAB_WRONG_IF : 0) |
			 (flags & ~RFLAGS_IF ? LAB_WRONG_FLAGS : 0) |
			 (result->registers ? LAB_REGISTERS : 0) |
			 (record->soft != !!(record->seen & RFLAGS_IF) ? LAB_WRONG_SOFT : 0);
}

struct lab_result lab_go(const struct lab_site *site)
{
	struct probe **slot = &probes[this_cpu()->id];
	struct probe *outer = *slot;
	bool irqs = irqs_on();
	struct lab_record record = {
		.want_ret = site->ret, .flags = flags_of_next_call(irqs), .target = (uint64_t)-1};
	struct probe here = {.record = &record};
	struct lab_result result = {.wrong = 0};
	uint64_t soft = this_cpu()->scratch[6];
	uint32_t nmis = lab_nmis[this_cpu()->id];

	lab_soft_set(irqs);
	if (!lab_catch(&here.catch)) {
		*slot = &here;
		lab_probe(site->code, &record);
	}
	irq_restore(irqs);
	if (!irqs)
		irq_disable();
	*slot = outer;
	this_cpu()->scratch[6] = soft;
	lab_nmis[this_cpu()->id] = nmis;
	result.wrong = here.wrong;
	result.vector = here.vector;
	compare(&result, &record);
	return result;
}
