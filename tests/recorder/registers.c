/* SPDX-License-Identifier: MIT */
/*
 * Registers around a function that is recorded: none that a function may change is changed by its
 * entry or its return, in ordinary sessions, whose hooks save fewer (trace_hooks.S), where there
 * is no room in the ring, and in sessions of other kinds.
 *
 * Control: hooks that change registers and say that they do not.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shunt/trace.h>

#include "../api/tap.h"
#include "core/ftrace_raw.h"

/* rax, rcx, rdx, rsi, rdi, r8 to r11: loaded, recorded() is called, stored. */
#define REGISTERS 9

void call_with(const uint64_t *in, uint64_t *out);
void recorded(void);

__asm__(".text\n"
	".balign 16\n"
	".globl recorded\n"
	".type recorded, @function\n"
	"recorded:\n"
	"0:	.byte 0x0f, 0x1f, 0x44, 0, 0\n"
	"	ret\n"
	".size recorded, . - recorded\n"
	".pushsection __patchable_function_entries, \"aw\", @progbits\n"
	"	.quad 0b\n"
	".popsection\n"
	".globl call_with\n"
	".type call_with, @function\n"
	"call_with:\n"
	"	pushq %rbx\n"
	"	movq %rsi, %rbx\n"
	"	movq %rdi, %rax\n"
	"	movq 8(%rax), %rcx\n"
	"	movq 16(%rax), %rdx\n"
	"	movq 24(%rax), %rsi\n"
	"	movq 32(%rax), %rdi\n"
	"	movq 40(%rax), %r8\n"
	"	movq 48(%rax), %r9\n"
	"	movq 56(%rax), %r10\n"
	"	movq 64(%rax), %r11\n"
	"	movq (%rax), %rax\n"
	"	call recorded\n"
	"	movq %rax, (%rbx)\n"
	"	movq %rcx, 8(%rbx)\n"
	"	movq %rdx, 16(%rbx)\n"
	"	movq %rsi, 24(%rbx)\n"
	"	movq %rdi, 32(%rbx)\n"
	"	movq %r8, 40(%rbx)\n"
	"	movq %r9, 48(%rbx)\n"
	"	movq %r10, 56(%rbx)\n"
	"	movq %r11, 64(%rbx)\n"
	"	popq %rbx\n"
	"	ret\n"
	".size call_with, . - call_with\n");

enum { CALLS = 20000 };

static bool is_kept(void)
{
	uint64_t in[REGISTERS], out[REGISTERS];

	for (uint64_t i = 0; i < CALLS; i++) {
		for (size_t r = 0; r < REGISTERS; r++)
			in[r] = (i + 1) * 0x9e3779b97f4a7c15u + r;
		call_with(in, out);
		if (memcmp(in, out, sizeof(in)) != 0)
			return false;
	}
	return true;
}

#ifndef CONTROL

static char path[] = "/tmp/shunt-registers-XXXXXX";

static void session(struct shunt_trace_options options, uint64_t events, const char *what)
{
	struct shunt_trace_stats stats = {0};
	bool good;

	options.size = sizeof(options);
	options.path = path;
	options.filter = "recorded";
	options.auto_off_ns = UINT64_MAX;
	good = !shunt_trace_start(&options) && is_kept() && !shunt_trace_stop();
	shunt_trace_get_stats(&stats);
	ok(good && stats.events + stats.lost == events, "%s: %lu events, %lu lost", what,
	   (unsigned long)stats.events, (unsigned long)stats.lost);
}

int main(void)
{
	int fd = mkstemp(path);

	ok(fd >= 0 && is_kept(), "not recorded");
	session((struct shunt_trace_options){.mode = SHUNT_TRACE_FLIGHT}, 2 * CALLS,
		"flight recorder");
	session((struct shunt_trace_options){.ring_size = 4096}, 2 * CALLS,
		"all, in a ring that is full now and then");
	session((struct shunt_trace_options){.mode = SHUNT_TRACE_FLIGHT, .entry_only = 1}, CALLS,
		"entries alone");
	session((struct shunt_trace_options){.mode = SHUNT_TRACE_FLIGHT, .min_ns = 1000000000}, 0,
		"calls that last");
	(void)close(fd);
	(void)unlink(path);
	return tap_done();
}

#else

static void spoil(void)
{
	__asm__ volatile("xorl %%r9d, %%r9d" : : : "r9");
}

static SHUNT_GENERAL_REGS void on_entry(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how)
{
	(void)ip;
	(void)sp;
	(void)how;
	spoil();
}

static SHUNT_GENERAL_REGS void on_return(uintptr_t ip, uintptr_t sp)
{
	(void)ip;
	(void)sp;
}

int main(void)
{
	static struct shunt_raw_ops raw = {.entry = on_entry, .ret = on_return, .is_sparing = true};

	ok(!ftrace_set_filter(&raw.ops, "recorded", 0, 1) && !shunt_raw_register(&raw),
	   "control: hooks that change another register");
	ok(!is_kept(), "control: that is seen");
	return tap_done();
}

#endif
