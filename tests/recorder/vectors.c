/* SPDX-License-Identifier: MIT */
/*
 * Vector registers around a traced function, all that the CPU has: on x86-64 those of AVX, on
 * aarch64 those of SVE with predicates, of which the kernel drops what no other CPU has at each
 * system call. Callers know what a function changes that they are compiled with (-fipa-ra), and no
 * more is to be changed: by the first call of a thread, by a ring that has no room, in a child of
 * fork(), whose threads write their rings themselves, in a callback's callee; by the recorder, by
 * an ops and an fgraph_ops of general registers, and by those whose callbacks change all vector
 * registers.
 *
 * Control: what is seldom is called with nothing saved around it, and uses vector registers, as the
 * C library may.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/ftrace.h>
#include <shunt/trace.h>

#include "../api/tap.h"
#include "../common/emulated.h"

#define LONGEST 256 /* bytes of a vector */

struct vectors {
	uint8_t vector[32][LONGEST];
	uint8_t predicate[16][LONGEST / 8];
};

void traced_vectors(void);
void traced_inner(void);
/* Loads all of @in, calls traced_vectors(), stores all to @out. */
void call_with(const struct vectors *in, struct vectors *out);

/* clang-format off */
#ifdef __x86_64__
__asm__(".text\n"
	".globl call_with\n.type call_with, @function\n"
	"call_with:\n"
	"	pushq %rbx\n"
	"	movq %rsi, %rbx\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
	"	vmovdqu 256 * \\n(%rdi), %ymm\\n\n"
	".endr\n"
	"	call traced_vectors\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
	"	vmovdqu %ymm\\n, 256 * \\n(%rbx)\n"
	".endr\n"
	"	vzeroupper\n"
	"	popq %rbx\n"
	"	ret\n"
	".size call_with, . - call_with\n");

static size_t length, count = 16;

static bool ask_cpu(void)
{
	length = 32;
	return __builtin_cpu_supports("avx");
}

static void spoil(void)
{
	__asm__ volatile("vpxor %%xmm0, %%xmm0, %%xmm0" : : : "xmm0");
}

#define TRACED(name)                                                                         \
	__asm__(".text\n.globl " #name "\n.type " #name ", @function\n" #name ":\n"          \
		"0:	.byte 0x0f, 0x1f, 0x44, 0, 0\n	ret\n.size " #name ", . - " #name "\n" \
		".pushsection __patchable_function_entries, \"aw\", @progbits\n"             \
		"	.quad 0b\n.popsection\n")
#else
__asm__(".text\n"
	".arch armv8.2-a+sve\n"
	".globl call_with\n.type call_with, %function\n"
	"call_with:\n"
	"	stp x29, x30, [sp, #-96]!\n"
	"	mov x29, sp\n"
	"	stp x19, x20, [sp, #16]\n"
	"	stp d8, d9, [sp, #32]\n"
	"	stp d10, d11, [sp, #48]\n"
	"	stp d12, d13, [sp, #64]\n"
	"	stp d14, d15, [sp, #80]\n"
	"	mov x19, x1\n"
	"	adrp x20, has_sve\n"
	"	ldrb w20, [x20, :lo12:has_sve]\n"
	"	cbz w20, 1f\n"
	"	mov x9, x0\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"
	"	ldr z\\n, [x9]\n	add x9, x9, #256\n"
	".endr\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
	"	ldr p\\n, [x9]\n	add x9, x9, #32\n"
	".endr\n"
	"	b 2f\n"
	"1:	mov x9, x0\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"
	"	ldr q\\n, [x9]\n	add x9, x9, #256\n"
	".endr\n"
	"2:	bl traced_vectors\n"
	"	mov x9, x19\n"
	"	cbz w20, 3f\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"
	"	str z\\n, [x9]\n	add x9, x9, #256\n"
	".endr\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
	"	str p\\n, [x9]\n	add x9, x9, #32\n"
	".endr\n"
	"	b 4f\n"
	"3:\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n"
	"	str q\\n, [x9]\n	add x9, x9, #256\n"
	".endr\n"
	"4:	ldp x19, x20, [sp, #16]\n"
	"	ldp d8, d9, [sp, #32]\n"
	"	ldp d10, d11, [sp, #48]\n"
	"	ldp d12, d13, [sp, #64]\n"
	"	ldp d14, d15, [sp, #80]\n"
	"	ldp x29, x30, [sp], #96\n"
	"	ret\n"
	".size call_with, . - call_with\n");

static size_t length, count = 32;
extern bool has_sve __attribute__((visibility("hidden")));
bool has_sve;

static bool ask_cpu(void)
{
	has_sve = getauxval(AT_HWCAP) >> 22 & 1;
	length = has_sve ? (size_t)prctl(PR_SVE_GET_VL) & PR_SVE_VL_LEN_MASK : 16;
	return true;
}

/* Of an SVE register what is above 128 bits as well. */
static void spoil(void)
{
	__asm__ volatile("movi v0.16b, #0" : : : "v0");
}

#define TRACED(name)                                                                         \
	__asm__(".text\n.globl " #name "\n.type " #name ", %function\n" #name ":\n"          \
		"0:	nop\n	nop\n	ret\n.size " #name ", . - " #name "\n"               \
		".pushsection __patchable_function_entries, \"aw\", %progbits\n"             \
		"	.quad 0b\n.popsection\n")
#endif
/* clang-format on */

TRACED(traced_vectors);
TRACED(traced_inner);

#ifdef CONTROL
void shunt_saving_vectors(void (*fn)(void *), void *arg) __attribute__((visibility("default")));
void shunt_saving_vectors(void (*fn)(void *), void *arg)
{
	fn(arg);
	spoil();
}
#endif

/* ------------------------------------------------------------------- the calls */

static bool is_kept(unsigned seed)
{
	struct vectors in, out;
	bool good = true;

	for (size_t i = 0; i < sizeof(in); i++)
		((uint8_t *)&in)[i] = (uint8_t)((seed + i) * 0x9e3779b9u >> 13);
	call_with(&in, &out);
	for (size_t i = 0; i < count; i++)
		good = good && !memcmp(in.vector[i], out.vector[i], length);
#ifdef __aarch64__
	for (size_t i = 0; i < 16 && has_sve; i++)
		good = good && !memcmp(in.predicate[i], out.predicate[i], length / 8);
#endif
	return good;
}

struct calls {
	unsigned n, wrong;
};

static void *make_calls(void *arg)
{
	struct calls *c = arg;

	for (unsigned i = 0; i < c->n; i++)
		c->wrong += !is_kept(i);
	return NULL;
}

/* @n calls in each of @threads threads that begin with them: those that were wrong. */
static unsigned wrong_of(unsigned threads, unsigned n)
{
	unsigned wrong = 0;

	for (unsigned t = 0; t < threads; t++) {
		struct calls c = {n, 0};
		pthread_t thread;

		if (pthread_create(&thread, NULL, make_calls, &c) || pthread_join(thread, NULL))
			abort();
		wrong += c.wrong;
	}
	return wrong;
}

static unsigned in_child(unsigned n)
{
	pid_t child = fork();
	int status;

	if (!child) {
		struct calls c = {n, 0};

		(void)make_calls(&c);
		_exit(c.wrong || wrong_of(2, n));
	}
	return child < 0 || waitpid(child, &status, 0) != child || status;
}

/* ---------------------------------------------------------------------- who traces */

static char path[] = "/tmp/shunt-vectors-XXXXXX";

static void by_recorder(struct shunt_trace_options options, const char *what)
{
	unsigned n = is_emulated() ? 2000 : 20000, threads, child;
	struct shunt_trace_stats stats = {0};

	options.size = sizeof(options);
	options.path = path;
	options.filter = "traced_*";
	options.auto_off_ns = UINT64_MAX;
	if (shunt_trace_start(&options)) {
		ok(false, "%s: no session", what);
		return;
	}
	threads = wrong_of(4, n);
	child = in_child(n);
	shunt_trace_get_stats(&stats);
	(void)shunt_trace_stop();
#ifdef CONTROL
	ok(threads && child, "control: %s: %u calls are wrong", what, threads);
#else
	ok(!threads && !child && stats.events + stats.lost >= 4 * n,
	   "%s: %u of %u calls are wrong, of a child %s; %lu events", what, threads, 4 * n,
	   child ? "some" : "none", (unsigned long)(stats.events + stats.lost));
#endif
}

#ifndef CONTROL

static _Atomic unsigned long called;

static SHUNT_GENERAL_REGS void count_entry(unsigned long ip, unsigned long parent_ip,
					   struct ftrace_ops *ops, struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)regs;
	called++;
}

/* What it calls is not traced, which is found out by asking the kernel. */
static SHUNT_GENERAL_REGS void call_inner(unsigned long ip, unsigned long parent_ip,
					  struct ftrace_ops *ops, struct ftrace_regs *regs)
{
	count_entry(ip, parent_ip, ops, regs);
	traced_inner();
}

static void spoil_entry(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			struct ftrace_regs *regs)
{
	count_entry(ip, parent_ip, ops, regs);
	spoil();
	(void)getppid(); /* a system call */
}

static SHUNT_GENERAL_REGS int graph_entry(struct ftrace_graph_ent *trace, struct fgraph_ops *gops,
					  struct ftrace_regs *regs)
{
	(void)trace;
	(void)gops;
	(void)regs;
	called++;
	return 1;
}

static SHUNT_GENERAL_REGS void graph_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
					    struct ftrace_regs *regs)
{
	(void)trace;
	(void)gops;
	(void)regs;
}

static void spoil_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
			 struct ftrace_regs *regs)
{
	(void)trace;
	(void)gops;
	(void)regs;
	spoil();
	(void)getppid();
}

static void report(int ret, const char *what)
{
	unsigned wrong = ret ? 1 : wrong_of(4, 100), child = ret ? 1 : in_child(100);

	ok(!wrong && !child && called >= 400, "%s: %u calls are wrong, of a child %s", what, wrong,
	   child ? "some" : "none");
	called = 0;
}

static void by_ops(ftrace_func_t func, unsigned long flags, const char *what)
{
	struct ftrace_ops ops = {.func = func, .flags = flags};
	int ret = ftrace_set_filter(&ops, "traced_*", 0, 1);

	report(ret ? ret : register_ftrace_function(&ops), what);
	(void)unregister_ftrace_function(&ops);
}

static void by_graph(trace_func_graph_ret_t func, unsigned long flags, const char *what)
{
	struct fgraph_ops gops = {.entryfunc = graph_entry, .retfunc = func, .ops.flags = flags};
	int ret = ftrace_set_filter(&gops.ops, "traced_vectors", 0, 1);

	report(ret ? ret : register_ftrace_graph(&gops), what);
	(void)unregister_ftrace_graph(&gops);
}

static void by_others(void)
{
	by_ops(count_entry, SHUNT_FTRACE_GENERAL_REGS, "an ops of general registers");
	by_ops(call_inner, SHUNT_FTRACE_GENERAL_REGS, "one whose callback calls a traced function");
	by_ops(spoil_entry, 0, "an ops that changes vector registers");
	by_graph(graph_return, SHUNT_FTRACE_GENERAL_REGS, "an fgraph_ops of general registers");
	by_graph(spoil_return, 0, "an fgraph_ops that changes vector registers");
}

#else

static void by_others(void)
{
}

#endif

int main(void)
{
	int fd = mkstemp(path);

	if (!ask_cpu())
		return skip("all", "the CPU has no AVX"), tap_done();
	ok(fd >= 0 && !wrong_of(1, 100), "not traced: vectors of %zu bytes", length);
	by_recorder((struct shunt_trace_options){.ring_size = 4096}, "a ring of a page");
	by_recorder((struct shunt_trace_options){.ring_size = 4096, .entry_only = 1},
		    "entries alone");
	by_recorder((struct shunt_trace_options){.mode = SHUNT_TRACE_FLIGHT}, "flight recorder");
	by_others();
	(void)close(fd);
	(void)unlink(path);
	return tap_done();
}
