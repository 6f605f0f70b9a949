/* SPDX-License-Identifier: MIT */
/*
 * Every form of entry, on and off by each way, while the function is called: nops of 5, of 6, and
 * of 7, 8 and 10 bytes, a call through the GOT of 6, a call of a function that does nothing, XRay's
 * sleds at the entry, the ret and before a tail call (where the flags are live), and calls of an
 * instrumented function's tracer. What they return is right in each state, and each is seen once.
 *
 * Controls (SHUNT_CONTROL): "flags": those before a tail call come back as a callback may leave
 * them; "five": an instruction of 6 bytes is taken for one of 5; "long_nops", "sleds": those are
 * poked as they are.
 */
#include <pthread.h>
#include <stdatomic.h>

#include <shunt/inspect.h>

#include "arch/arch.h"
#include "control.h"
#include "entries.h"
#include "registers_x86_64.h"
#include "tap.h"

DEFINE_CONTROL(changes_flags, "flags");
DEFINE_CONTROL(all_are_five, "five");
DEFINE_CONTROL(has_long_nops_ready, "long_nops");
DEFINE_CONTROL(has_sleds_ready, "sleds");

/* Each returns its argument + 1. */
unsigned long form_nop5(unsigned long), form_nop6(unsigned long), form_got(unsigned long),
	form_call(unsigned long), form_xray(unsigned long), form_instrumented(unsigned long),
	form_nop7(unsigned long), form_nop8(unsigned long), form_nop10(unsigned long);
/* The second argument if the first is below 7 (by flags set before the sled), else the third. */
unsigned long form_tail(unsigned long, unsigned long, unsigned long);
extern uint8_t at_nop5[], at_nop6[], at_got[], at_call[], at_xray[], at_xray_ret[], at_enter[],
	at_exit[], at_tail[], at_nop7[], at_nop8[], at_nop10[];

__asm__(".text\n" REGISTER_MACROS ".macro rest name\n"
	"	leaq 1(%rdi), %rax\n"
	"	ret\n"
	".size \\name, . - \\name\n"
	".endm\n"
	".macro sled\n"
	"	.byte 0xeb, 0x09, 0x66, 0x0f, 0x1f, 0x84, 0, 0, 2, 0, 0\n"
	".endm\n"
	"func form_nop5\n"
	"at_nop5: .byte 0x0f, 0x1f, 0x44, 0, 0\n"
	"rest form_nop5\n"
	"func form_nop6\n"
	"at_nop6: .byte 0x66, 0x0f, 0x1f, 0x44, 0, 0\n"
	"rest form_nop6\n"
	"func form_nop7\n"
	"at_nop7: .byte 0x0f, 0x1f, 0x80, 0, 0, 0, 0\n"
	"rest form_nop7\n"
	"func form_nop8\n"
	"at_nop8: .byte 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0\n"
	"rest form_nop8\n"
	"func form_nop10\n"
	"	endbr64\n"
	"at_nop10: .byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0\n"
	"rest form_nop10\n"
	"func form_got\n"
	"	endbr64\n"
	"at_got: call *does_nothing_slot(%rip)\n"
	"rest form_got\n"
	"func form_call\n"
	"	endbr64\n"
	"at_call: call does_nothing\n"
	"rest form_call\n"
	"func does_nothing\n"
	"	ret\n"
	"func form_xray\n"
	"at_xray: sled\n"
	"	leaq 1(%rdi), %rax\n"
	"at_xray_ret: ret\n"
	"	.byte 0x2e, 0x66, 0x0f, 0x1f, 0x84, 0, 0, 2, 0, 0\n"
	"func form_tail\n"
	"	cmpq $7, %rdi\n"
	"at_tail: sled\n"
	"	jb take_second\n"
	"	movq %rdx, %rax\n"
	"	ret\n"
	"take_second:\n"
	"	movq %rsi, %rax\n"
	"	ret\n"
	"func form_instrumented\n"
	"	pushq %rbx\n"
	"	movq %rdi, %rbx\n"
	"	leaq form_instrumented(%rip), %rdi\n"
	"	movq 8(%rsp), %rsi\n"
	"at_enter: call does_nothing\n"
	"	leaq form_instrumented(%rip), %rdi\n"
	"	movq 8(%rsp), %rsi\n"
	"at_exit: call does_nothing\n"
	"	leaq 1(%rbx), %rax\n"
	"	popq %rbx\n"
	"	ret\n"
	".data\n"
	".balign 8\n"
	"does_nothing_slot: .quad does_nothing\n"
	".text\n");

/* ------------------------------------------------------------------ callbacks */

static unsigned long by_form[5];
static unsigned long last_parent;

static void on_call(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		    struct ftrace_regs *fregs)
{
	by_form[shunt_regs_form(fregs)]++;
	last_parent = parent_ip;
	/* They stand below the registers (ftrace_save.inc). */
	if (changes_flags && shunt_regs_form(fregs) == SHUNT_FORM_TAIL)
		((uint64_t *)fregs)[-1] = 2;
	(void)ip;
	(void)ops;
}

static struct ftrace_ops with_exits = {.func = on_call, .flags = SHUNT_FTRACE_EXITS};
static struct ftrace_ops entries_alone = {.func = on_call, .flags = SHUNT_FTRACE_GENERAL_REGS};

static enum shunt_entry_prepare prepare_for(const uint8_t *at, unsigned len)
{
	if (len > 6)
		return has_long_nops_ready ? SHUNT_READY : SHUNT_LONG_NOP;
	return at[0] == 0xeb && !has_sleds_ready ? SHUNT_XRAY_HEAD : SHUNT_READY;
}

static void add(uint8_t *at, void *func, unsigned len, enum shunt_entry_form form)
{
	struct shunt_entry *e = &entries[set.n];

	fill_entry(e, (uintptr_t)at, (unsigned)set.n);
	set.n++;
	e->func = (uintptr_t)func;
	e->len = len == 6 && !all_are_five ? 6 : 5;
	e->form = (uint8_t)form;
	memcpy(e->old, at, e->len);
	e->prepare = (uint8_t)prepare_for(at, len);
}

static bool begin(void)
{
	bool good;

	/* In the order of the source, which is that of the addresses. */
	add(at_nop5, (void *)form_nop5, 5, SHUNT_FORM_HEAD);
	add(at_nop6, (void *)form_nop6, 6, SHUNT_FORM_HEAD);
	add(at_nop7, (void *)form_nop7, 7, SHUNT_FORM_HEAD);
	add(at_nop8, (void *)form_nop8, 8, SHUNT_FORM_HEAD);
	add(at_nop10, (void *)form_nop10, 10, SHUNT_FORM_HEAD);
	add(at_got, (void *)form_got, 6, SHUNT_FORM_HEAD);
	add(at_call, (void *)form_call, 5, SHUNT_FORM_HEAD);
	add(at_xray, (void *)form_xray, 5, SHUNT_FORM_HEAD);
	add(at_xray_ret, (void *)form_xray, 6, SHUNT_FORM_RETURN);
	add(at_tail, (void *)form_tail, 5, SHUNT_FORM_TAIL);
	add(at_enter, (void *)form_instrumented, 5, SHUNT_FORM_CALL);
	add(at_exit, (void *)form_instrumented, 5, SHUNT_FORM_CALL_RETURN);
	good = !shunt_port_trace_lock("test", NULL) && !shunt_entries_add(&set);
	shunt_port_trace_unlock();
	return good;
}

static bool is_right(void)
{
	return form_nop5(1) == 2 && form_nop6(2) == 3 && form_nop7(7) == 8 && form_nop8(8) == 9 &&
	       form_nop10(10) == 11 && form_got(3) == 4 && form_call(4) == 5 && form_xray(5) == 6 &&
	       form_tail(6, 60, 70) == 60 && form_tail(7, 60, 70) == 70 &&
	       form_tail(8, 60, 70) == 70 && form_instrumented(9) == 10;
}

/* HEAD, CALL, RETURN, TAIL, CALL_RETURN */
static bool seen(unsigned long head, unsigned long call, unsigned long ret, unsigned long tail,
		 unsigned long call_return)
{
	const unsigned long want[] = {head, call, ret, tail, call_return};
	bool good = !memcmp(want, by_form, sizeof(want));

	if (!good)
		printf("# seen %lu %lu %lu %lu %lu\n", by_form[0], by_form[1], by_form[2],
		       by_form[3], by_form[4]);
	memset(by_form, 0, sizeof(by_form));
	return good;
}

static _Atomic bool stop;
static _Atomic unsigned long wrong, rounds;

static void *hammer(void *arg)
{
	while (!stop) {
		wrong += !is_right();
		rounds++;
	}
	return arg;
}

static bool run(enum shunt_poke_policy policy)
{
	bool good = !shunt_set_poke(policy) && begin() && is_right() && seen(0, 0, 0, 0, 0);
	pthread_t thread;

	for (int i = 0; i < 2; i++) {
		good = good && !register_ftrace_function(&with_exits) && is_right() &&
		       last_parent && seen(8, 1, 1, 3, 1);
		good = good && !register_ftrace_function(&entries_alone) && is_right() &&
		       seen(16, 2, 1, 3, 1);
		good = good && !unregister_ftrace_function(&with_exits) && is_right() &&
		       seen(8, 1, 0, 0, 0);
		good = good && !unregister_ftrace_function(&entries_alone) && is_right() &&
		       seen(0, 0, 0, 0, 0);
	}
	good = good && !pthread_create(&thread, NULL, hammer, NULL);
	for (int i = 0; i < 200 && good; i++)
		good = !register_ftrace_function(&with_exits) &&
		       !register_ftrace_function(&entries_alone) &&
		       !unregister_ftrace_function(&with_exits) &&
		       !unregister_ftrace_function(&entries_alone);
	while (good && rounds < 1000)
		(void)usleep(1000);
	stop = true;
	(void)pthread_join(thread, NULL);
	if (!good)
		printf("# %s\n", shunt_last_error());
	return good && !wrong;
}

static bool by_int3(void)
{
	return run(SHUNT_POKE_INT3);
}

static bool by_remap(void)
{
	return run(SHUNT_POKE_REMAP);
}

static bool as_it_is_set(void)
{
	return run(SHUNT_POKE_AUTO);
}

int main(void)
{
	row_in_child(by_int3, "all forms of entries, by int3");
	row_in_child(by_remap, "by remap");
	row_in_child(as_it_is_set, "as it is set");
	return end_rows();
}
