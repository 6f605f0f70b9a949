/* SPDX-License-Identifier: MIT */
/*
 * The core without anything around it: no libc, no start-up code, a port of a few
 * lines. Pokes a call in a buffer, traps into the poke, and exits with the number
 * of the first thing that was wrong; 0: none. Says nothing.
 */
#include <shunt/port.h>

#include "core/error.h"
#include "core/ftrace.h"
#include "core/poke.h"
#include "core/site_table.h"

/* The line is the exit status, of which 8 bits count: keep this file short. */
#define EXPECT(holds) expect(holds, __LINE__)

/* Sites and targets; the core never learns that nothing of it is ever executed. */
static uint8_t text[64];
static uintptr_t stack[16];
static int begun, syncs, locked, failed;
static bool is_new;

static void expect(bool holds, int line)
{
	if (!holds && !failed)
		failed = line;
}

static void insn_for(bool new, struct shunt_insn *out)
{
	out->op = SHUNT_OP_CALL;
	out->len = 5;
	out->cc = 0;
	out->target = (uintptr_t)text + (new ? 0x2000 : 0x1000);
}

static bool insn(const struct shunt_table *table, const struct shunt_site *site,
		 struct shunt_insn *out)
{
	(void)table;
	(void)site;
	insn_for(is_new, out);
	return true;
}

static enum shunt_trap trap(struct shunt_regs *regs)
{
	regs->ip = (uintptr_t)text + 8 + 1;
	regs->sp = (uintptr_t)&stack[8];
	regs->flags = 0x202;
	regs->ax = 1;
	return shunt_trap(regs);
}

/* The trap in the middle of the poke: what the site's instruction is then. */
static void trap_within(void)
{
	struct shunt_regs regs;

	EXPECT(trap(&regs) == SHUNT_TRAP_EMULATED);
	EXPECT(regs.ip == (uintptr_t)text + (is_new ? 0x2000 : 0x1000));
	EXPECT(regs.sp == (uintptr_t)&stack[7] && stack[7] == (uintptr_t)text + 13);
}

int shunt_port_text_check(const struct shunt_write *writes, size_t n, size_t stride)
{
	(void)writes;
	(void)n;
	(void)stride;
	return 0;
}

int shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t b = 0; b < writes[i].len; b++)
			((volatile uint8_t *)writes[i].addr)[b] = writes[i].bytes[b];
	return 0;
}

int shunt_port_core_sync(void)
{
	if (++syncs < 3)
		trap_within();
	return 0;
}

int shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	EXPECT(n == 1 && !flips && !tried);
	begun++;
	return SHUNT_WAY_INT3;
}

int shunt_port_install_handler(void)
{
	return 0;
}

int shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride)
{
	(void)writes, (void)n, (void)stride;
	return -SHUNT_ENOSYS;
}

void shunt_port_poke_end(void)
{
}

int shunt_port_lock(void)
{
	return locked++;
}

void shunt_port_unlock(void)
{
	locked--;
}

void *shunt_port_alloc(size_t size)
{
	(void)size;
	return NULL;
}

void shunt_port_free(void *p, size_t size)
{
	(void)p;
	(void)size;
}

uintptr_t shunt_port_veneer(uintptr_t near, uintptr_t target)
{
	(void)near;
	(void)target;
	return 0;
}

int shunt_port_watch(uintptr_t target)
{
	(void)target;
	return 0;
}

void shunt_port_sites_wanted(void)
{
}

int shunt_port_is_trampoline(uintptr_t func)
{
	(void)func;
	return 0;
}

int shunt_port_overlaps_trampoline(uintptr_t addr, size_t len)
{
	(void)addr;
	(void)len;
	return 0;
}

bool shunt_port_registers_modules(void)
{
	return false;
}

int shunt_port_is_own_key(const void *key)
{
	(void)key;
	return 1;
}

int shunt_port_sites_unknown(struct shunt_static_key *key, const char **what)
{
	(void)key;
	(void)what;
	return -1;
}

void shunt_port_report(const struct shunt_report *report)
{
	(void)report;
}

void __static_call_nop(void)
{
}

long __static_call_return0(void)
{
	return 0;
}

static void commit(struct shunt_change *change)
{
	(void)change;
	is_new = true;
	trap_within();
}

static void revert(struct shunt_change *change)
{
	(void)change;
	is_new = false;
}

static void run(void)
{
	static struct shunt_site site = {.off = 8};
	static struct shunt_table table = {.insn = insn};
	static struct shunt_report report;
	struct shunt_poke poke = {.addr = text + 8, .site = &site, .len = 5};
	struct shunt_change change = {.commit = commit, .revert = revert};
	struct shunt_insn old, new;
	struct shunt_regs regs;
	uint8_t buf[SHUNT_INSN_MAX];

	insn_for(false, &old);
	insn_for(true, &new);
	EXPECT(shunt_insn_encode(&old, (uintptr_t)poke.addr, buf) == 5);
	for (unsigned i = 0; i < 5; i++)
		text[8 + i] = poke.old[i] = buf[i];
	EXPECT(shunt_insn_encode(&new, (uintptr_t)poke.addr, buf) == 5);
	for (unsigned i = 0; i < 5; i++)
		poke.new[i] = buf[i];
	shunt_table_publish(&table, (uintptr_t)text, &site, 1);

	EXPECT(shunt_port_lock() == 0);
	EXPECT(shunt_poke_batch(&poke, 1, &change, &report) == 0);
	shunt_port_unlock();
	EXPECT(begun == 1 && syncs == 3 && !locked && is_new);
	for (unsigned i = 0; i < 5; i++)
		EXPECT(text[8 + i] == buf[i]);
	EXPECT(trap(&regs) == SHUNT_TRAP_LATE && regs.ip == (uintptr_t)text + 8);
}

static _Noreturn void exit_with(long status)
{
	for (;;) {
		long nr = 60; /* exit */

		__asm__ volatile("syscall" : "+a"(nr) : "D"(status) : "rcx", "r11", "memory");
	}
}

/* The kernel starts it with a stack that no call has been made on: realign. */
_Noreturn void freestanding_start(void) __attribute__((force_align_arg_pointer));
_Noreturn void freestanding_start(void)
{
	run();
	exit_with(failed);
}

/* Function tracing, without any. */
int shunt_port_trace_lock(const char *what, const struct ftrace_ops *ops)
{
	(void)what;
	(void)ops;
	return 0;
}

void shunt_port_trace_unlock(void)
{
}

int shunt_port_entries_lock(const char *what, const struct ftrace_ops *ops)
{
	return shunt_port_trace_lock(what, ops);
}

int shunt_port_entries_unknown(const char **what)
{
	(void)what;
	return 0;
}

int shunt_port_trace_wait(void)
{
	return 0;
}

uintptr_t shunt_port_trace_stub(unsigned form, unsigned id)
{
	(void)form;
	(void)id;
	return 0;
}

void shunt_port_trace_called(uintptr_t sp)
{
	(void)sp;
}

int shunt_port_far_error(void)
{
	return -34;
}

int shunt_port_leave_nops(const uintptr_t *ips, size_t n)
{
	(void)ips;
	(void)n;
	return 0;
}
