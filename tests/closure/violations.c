/* SPDX-License-Identifier: MIT */
/*
 * Handlers that do what a trap handler must not, one thing each: the negative controls
 * of the closure test. It is never run, only read.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#define ROOT __attribute__((used, noinline, visibility("hidden")))

void __tsan_func_entry(void *pc);
void other_function(void);

static struct {
	_Alignas(64) _Atomic uint64_t count[3];
} dirty_counters;
static volatile uint64_t dirty_variable;
static __thread volatile uint64_t dirty_thread;
static _Atomic uint64_t dirty_shared;

ROOT void other_function(void)
{
	__asm__ volatile("nop");
}

ROOT void dirty_nothing(unsigned i);
ROOT void dirty_nothing(unsigned i)
{
	atomic_fetch_add_explicit(&dirty_counters.count[i % 3], 1, memory_order_relaxed);
	__asm__ volatile("syscall" : : "a"(24L) : "rcx", "r11", "memory");
}

ROOT void dirty_outside(void);
ROOT void dirty_outside(void)
{
	other_function();
	__asm__ volatile("nop");
}

ROOT void dirty_import(void *to, const void *from, size_t n);
ROOT void dirty_import(void *to, const void *from, size_t n)
{
	memcpy(to, from, n);
}

ROOT void dirty_sanitizer(void);
ROOT void dirty_sanitizer(void)
{
	__tsan_func_entry(NULL);
}

ROOT void dirty_indirect(void (*function)(void));
ROOT void dirty_indirect(void (*function)(void))
{
	function();
	__asm__ volatile("nop");
}

ROOT void dirty_thread_local(void);
ROOT void dirty_thread_local(void)
{
	__asm__ volatile("movq %%fs:0, %%rax" : : : "rax");
}

/* The model of TLS that a shared library has by itself calls __tls_get_addr(). */
ROOT uint64_t dirty_thread_call(void);
ROOT uint64_t dirty_thread_call(void)
{
	return dirty_thread;
}

ROOT void dirty_sse(const void *p);
ROOT void dirty_sse(const void *p)
{
	__asm__ volatile("movdqu (%0), %%xmm0" : : "r"(p) : "xmm0");
}

ROOT void dirty_avx(const void *p);
ROOT void dirty_avx(const void *p)
{
	__asm__ volatile("vmovdqu (%0), %%ymm1" : : "r"(p) : "xmm1");
}

ROOT void dirty_x87(void);
ROOT void dirty_x87(void)
{
	__asm__ volatile("fld1; fstp %%st(0)" : : : "st");
}

ROOT void dirty_lock(void);
ROOT void dirty_lock(void)
{
	atomic_fetch_add_explicit(&dirty_shared, 1, memory_order_relaxed);
}

ROOT void dirty_exchange(_Atomic uint64_t *p);
ROOT void dirty_exchange(_Atomic uint64_t *p)
{
	atomic_store(p, 1); /* sequentially consistent: xchg */
}

ROOT void dirty_global(void);
ROOT void dirty_global(void)
{
	dirty_variable = 1;
}

ROOT void dirty_syscall(void);
ROOT void dirty_syscall(void)
{
	__asm__ volatile("syscall" : : "a"(1L) : "rcx", "r11", "memory");
}

/* By a register that holds an allowed number on one way only. */
ROOT void dirty_number(long which);
ROOT void dirty_number(long which)
{
	__asm__ volatile("	mov $24, %%r9d\n"
			 "	test %0, %0\n"
			 "	jne 1f\n"
			 "	mov $1, %%r9d\n"
			 "1:	mov %%r9, %%rax\n"
			 "	syscall"
			 :
			 : "r"(which)
			 : "rax", "rcx", "r9", "r11", "memory");
}

ROOT void dirty_trap(void);
ROOT void dirty_trap(void)
{
	__asm__ volatile("int3");
}

/* Only one function deeper, behind a tail call. */
__attribute__((noinline)) static void dirty_callee(void *to, const void *from)
{
	__asm__ volatile("movdqu (%0), %%xmm2; movdqu %%xmm2, (%1)"
			 :
			 : "r"(from), "r"(to)
			 : "xmm2", "memory");
}

ROOT void dirty_deeper(void *to, const void *from);
ROOT void dirty_deeper(void *to, const void *from)
{
	dirty_callee(to, from);
}

void dirty_use(void);
void dirty_use(void)
{
	dirty_nothing((unsigned)dirty_shared);
}
