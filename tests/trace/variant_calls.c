/* SPDX-License-Identifier: MIT */
/*
 * aarch64: functions that are called by a variant of the procedure call standard, with arguments in
 * SVE registers, are refused with that reason: by name, and where everything is traced; one beside
 * them that is called as others are is traced, and keeps its arguments.
 *
 * Control: it is not seen (ld --wrap). Then a callback of general registers that makes a system
 * call takes from the argument all but its first 128 bits, where the CPU has more.
 */
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>

#include "linux/entry/finder.h"

#include "../api/tap.h"

#ifndef HWCAP_SVE
#define HWCAP_SVE (1ul << 22)
#endif

/*
 * sum_sve() returns the sum of the bytes of z0, which call_sve() has made 1 each; sum_plain() is
 * the same without the mark, and of x0. has_mark() is marked and has no other reason to be.
 */
uint64_t call_sve(void);
uint64_t sum_sve(void);
uint64_t sum_plain(uint64_t x);
#define ENTRY(name)                                                          \
	".balign 8\n.globl " name "\n.type " name ", %function\n" name ":\n" \
	"0:	nop\n	nop\n"                                                     \
	".pushsection __patchable_function_entries, \"aw\", %progbits\n"     \
	"	.quad 0b\n.popsection\n"
#define END(name) "	ret\n.size " name ", . - " name "\n"
__asm__(".text\n.arch_extension sve\n"
	".variant_pcs sum_sve\n" ENTRY(
		"sum_sve") "	ptrue p0.b\n"
			   "	uaddv d0, p0, z0.b\n"
			   "	fmov x0, d0\n" END("sum_sve") ".arch_extension nosve\n" ENTRY(
				   "sum_plain")
				   END("sum_plain") ".arch_extension sve\n"
						    ".globl call_sve\n.type call_sve, %function\n"
						    "call_sve:\n"
						    "	stp x29, x30, [sp, #-16]!\n"
						    "	mov x29, sp\n"
						    "	ptrue p0.b\n"
						    "	mov z0.b, #1\n"
						    "	bl sum_sve\n"
						    "	ldp x29, x30, [sp], #16\n" END(
							    "call_sve") ".arch_extension nosve\n");

#ifdef CONTROL
bool __wrap_shunt_find_is_variant(const struct shunt_find *f, uint64_t start);

bool __wrap_shunt_find_is_variant(const struct shunt_find *f, uint64_t start)
{
	(void)f;
	(void)start;
	return false;
}
#endif

static unsigned long calls;

static SHUNT_GENERAL_REGS void callback(unsigned long ip, unsigned long parent_ip,
					struct ftrace_ops *op, struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent_ip;
	(void)op;
	(void)regs;
	calls++;
	__asm__ volatile("mov x8, %0\n\tsvc #0" : : "i"(SYS_getppid) : "x0", "x8", "memory");
}

static struct ftrace_ops ops = {.func = callback, .flags = SHUNT_FTRACE_GENERAL_REGS};

static int take_reason(const struct shunt_function_info *info, void *why)
{
	if (!info->name || strcmp(info->name, "sum_sve") != 0)
		return 0;
	(void)snprintf(why, 200, "%s", info->why ? info->why : "");
	return 1;
}

int main(void)
{
	bool has_sve = getauxval(AT_HWCAP) & HWCAP_SVE;
	uint64_t bytes = has_sve ? call_sve() : 0;
	char why[200] = "";
	int ret;

	shunt_set_log(NULL, NULL);
	ret = shunt_for_each_function(take_reason, why);
#ifdef CONTROL
	ok(ret == 1 && !*why, "control: no reason is told");
	ret = ftrace_set_filter(&ops, "sum_sve", 0, 1);
	ok(!ret && !register_ftrace_function(&ops), "control: it is traced: %d", ret);
	if (bytes <= 16)
		skip("control: its argument is lost", "no SVE registers of more than 128 bits");
	else
		ok(call_sve() == 16 && calls == 1,
		   "control: its argument is lost but for 16 of %lu bytes: %lu", bytes, call_sve());
#else
	ok(ret == 1 && strstr(why, "variant of the procedure call standard"), "the reason: %s",
	   why);
	ret = ftrace_set_filter(&ops, "sum_sve", 0, 1);
	ok(ret < 0, "its name alone is refused: %d, %s", ret, shunt_last_error());
	ret = ftrace_set_filter(&ops, "sum_*", 0, 1);
	ok(!ret && !register_ftrace_function(&ops), "by a pattern, with one beside it: %d", ret);
	ok(sum_plain(7) == 7 && calls == 1, "that one is traced: %lu", calls);
	if (!has_sve)
		skip("it keeps its argument", "no SVE");
	else
		ok(call_sve() == bytes && calls == 1, "it keeps its argument: %lu bytes, %lu calls",
		   bytes, calls);
#endif
	(void)unregister_ftrace_function(&ops);
	return tap_done();
}
