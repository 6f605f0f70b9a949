/* SPDX-License-Identifier: MIT */
/*
 * Wrappers (ld --wrap) around the port and the trap. They make a step of everything
 * that an updater does between two instructions that memory shows: a sync, and each
 * byte of a tail, since a port promises nothing of their order or atomicity. And
 * they take a protection out, for the negative controls.
 *
 * The wrapper of shunt_trap() runs in the SIGTRAP handler: no sanitizer instruments
 * this file.
 */
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <shunt/port.h>
#include <shunt/static_call.h>

#include "core/site_table.h"
#include "interleave.h"

int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __real_shunt_port_core_sync(void);
int __real_shunt_port_poke_begin(size_t n, bool flips, unsigned tried);
enum shunt_trap __real_shunt_trap(struct shunt_regs *regs);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_core_sync(void);
int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried);
enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs);

const struct il_case *il_case;
enum il_control il_control;
volatile unsigned il_step;
static unsigned version; /* of the update that runs */
static struct shunt_write held[8];
static size_t nr_held;

void il_stop(void)
{
	(void)syscall(SYS_tgkill, getpid(), gettid(), SIGSTOP);
}

int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	int ret = __real_shunt_port_poke_begin(n, flips, tried);

	if (!il_case)
		return ret;
	version++;
	/* From here on the tracer steps this thread. */
	il_stop();
	if (il_control == IL_COMMIT_FIRST) {
		static void (*const values[])(void) = {
			[IL_A] = (void (*)(void))il_target_a,
			[IL_B] = (void (*)(void))il_target_b,
			[IL_C] = (void (*)(void))il_target_c,
		};
		struct static_call_key *key = il_case->key;

		__atomic_store_n(&key->func, values[il_case->values[version]], __ATOMIC_RELEASE);
	}
	return ret;
}

static bool is_site(const uint8_t *addr)
{
	for (unsigned i = 0; i < il_case->nr_sites; i++)
		if (il_case->sites[i].insn == addr)
			return true;
	return false;
}

static int put(const struct shunt_write *w)
{
	int ret = 0;

	for (uint8_t b = 0; b < w->len && !ret; b++) {
		struct shunt_write one = {w->addr + b, 1, {w->bytes[b]}};

		ret = __real_shunt_port_text_write(&one, 1);
		il_step++;
	}
	return ret;
}

static int put_first(const struct shunt_write *w)
{
	struct shunt_insn insn;
	struct shunt_site *site = shunt_site_find((uintptr_t)w->addr, &insn);
	int ret;

	if (il_control == IL_EARLY_RELEASE)
		atomic_store_explicit(&site->poked, 0, memory_order_release);
	ret = put(w);
	while (nr_held && !ret)
		ret = put(&held[--nr_held]);
	return ret;
}

int __wrap_shunt_port_text_write(const struct shunt_write *w, size_t n)
{
	int ret = 0;

	if (!il_case)
		return __real_shunt_port_text_write(w, n);
	il_step++;
	for (size_t i = 0; i < n && !ret; i++) {
		bool tail = !is_site(w[i].addr);
		bool int3 = !tail && w[i].bytes[0] == 0xcc;

		if (int3 && il_control == IL_NO_INT3)
			continue;
		if (tail && il_control == IL_TAILS_LAST)
			held[nr_held++] = w[i];
		else
			ret = tail || int3 ? put(&w[i]) : put_first(&w[i]);
	}
	return ret;
}

int __wrap_shunt_port_core_sync(void)
{
	int ret;

	il_step++;
	ret = __real_shunt_port_core_sync();
	il_step++;
	return ret;
}

static enum shunt_trap without_second_look(struct shunt_regs *regs)
{
	struct shunt_insn insn;
	const uint8_t *addr = (const uint8_t *)regs->ip - 1;
	struct shunt_site *site = shunt_site_find((uintptr_t)addr, &insn);

	if (site && *(const volatile uint8_t *)addr == SHUNT_INT3 &&
	    !atomic_load_explicit(&site->poked, memory_order_acquire))
		return SHUNT_TRAP_FOREIGN;
	return __real_shunt_trap(regs);
}

enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs)
{
	uintptr_t ip = regs->ip;
	enum shunt_trap trap;

	if (il_control == IL_NO_SECOND_LOOK)
		return without_second_look(regs);
	trap = __real_shunt_trap(regs);
	if (trap == SHUNT_TRAP_LATE) {
		if (il_control == IL_NO_RETRY)
			regs->ip = ip;
		if (il_control == IL_NO_RETRY_FOREIGN)
			return SHUNT_TRAP_FOREIGN;
	}
	return trap;
}
