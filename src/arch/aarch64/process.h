/* SPDX-License-Identifier: MIT */
/* A Linux process on aarch64 (arch/process.h). */
#ifndef SHUNT_ARCH_AARCH64_PROCESS_H
#define SHUNT_ARCH_AARCH64_PROCESS_H

#include <sys/auxv.h>
#include <unistd.h>

#include <shunt/port.h>

#include "arch/aarch64/a64.h"

/* ------------------------------------------------------------------ system calls */

static inline long shunt_syscall6(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory", "cc");
	return x0;
}

static inline long shunt_syscall(long number, long a, long b, long c, long d)
{
	return shunt_syscall6(number, a, b, c, d, 0, 0);
}

/* Linux drops at a system call what is in SVE registers above 128 bits, predicates and FFR. */
static inline void shunt_keeping_vectors(void (*fn)(void *), void *arg)
{
	shunt_saving_vectors(fn, arg);
}

/* 4, 16 or 64 KiB: the kernel's choice. */
#define SHUNT_PAGE_SIZE ((uintptr_t)sysconf(_SC_PAGESIZE))

/* ---------------------------------------------------------- single instructions */

/* Words where it can be: text is read as it is executed. */
static inline void shunt_copy_text(void *to, const void *from, size_t len)
{
	uint64_t word;

	__asm__ volatile("	cbz	%[len], 3f\n"
			 "1:	cmp	%[len], #8\n"
			 "	b.lo	2f\n"
			 "	ldr	%[word], [%[from]], #8\n"
			 "	str	%[word], [%[to]], #8\n"
			 "	subs	%[len], %[len], #8\n"
			 "	b.ne	1b\n"
			 "	b	3f\n"
			 "2:	ldrb	%w[word], [%[from]], #1\n"
			 "	strb	%w[word], [%[to]], #1\n"
			 "	subs	%[len], %[len], #1\n"
			 "	b.ne	2b\n"
			 "3:"
			 : [to] "+r"(to), [from] "+r"(from), [len] "+r"(len), [word] "=&r"(word)
			 :
			 : "memory", "cc");
}

static inline uint64_t shunt_cycles(void)
{
	uint64_t count;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(count));
	return count;
}

/*
 * No signal handler on this thread comes between: the return from one makes the store fail. For
 * counters to which no other thread adds.
 */
static inline uint64_t shunt_add_on_thread(_Atomic uint64_t *counter, uint64_t n)
{
	uint64_t old, sum;
	uint32_t failed;

	__asm__ volatile("1:	ldxr	%[old], %[counter]\n"
			 "	add	%[sum], %[old], %[n]\n"
			 "	stxr	%w[failed], %[sum], %[counter]\n"
			 "	cbnz	%w[failed], 1b"
			 : [old] "=&r"(old), [sum] "=&r"(sum), [failed] "=&r"(failed),
			   [counter] "+Q"(*counter)
			 : [n] "r"(n)
			 : "memory");
	return old;
}

#define SHUNT_HAS_FAST_HOOKS 0

/* Whether shunt_cycles() is a clock: the architecture says so. */
static inline bool shunt_cycles_are_time(void)
{
	return true;
}

/* Whether the CPU has instructions for CRC-32C; and @crc with so many bytes more. */
static inline bool shunt_has_crc32c(void)
{
	return getauxval(AT_HWCAP) >> 7 & 1; /* HWCAP_CRC32 */
}

static inline uint32_t shunt_crc32c_8(uint32_t crc, uint64_t bytes)
{
	__asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %1" : "+r"(crc) : "r"(bytes));
	return crc;
}

static inline uint32_t shunt_crc32c_1(uint32_t crc, uint8_t byte)
{
	__asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"(byte));
	return crc;
}

/* By no function of the C library's. */
static inline void shunt_fill_bytes(void *to, size_t n)
{
	volatile unsigned char *at = to;

	while (n--)
		*at++ = 0;
}

/* Between two looks at what another thread writes. */
static inline void shunt_relax_cpu(void)
{
	__asm__ volatile("yield");
}

static inline uint64_t shunt_cycles_ns(void)
{
	uint64_t frequency;

	__asm__("mrs %0, cntfrq_el0" : "=r"(frequency));
	return frequency / 1000000 ? shunt_cycles() * 1000 / (frequency / 1000000) : shunt_cycles();
}

static inline uintptr_t shunt_thread_pointer(void)
{
	uintptr_t thread;

	__asm__("mrs %0, tpidr_el0" : "=r"(thread));
	return thread;
}

/* The C library's own is in front of it. */
static inline uintptr_t shunt_thread_end(void)
{
	return shunt_thread_pointer();
}

/* What comes behind it is fetched anew: a context synchronization event. */
static inline void shunt_serialise_cpu(void)
{
	__asm__ volatile("isb" : : : "memory");
}

/* Each return from the kernel is one, too. */
#define SHUNT_SERIALISE_ALONE "isb"
static inline bool shunt_serialise_alone(void)
{
	shunt_serialise_cpu();
	return true;
}

/* -------------------------------------------------------------------------- text */

#define SHUNT_NEW_CODE_SYNC 1

/* The lines of a cache that [@addr, @addr + @len) is in, by the sizes of CTR_EL0. */
#define SHUNT_FOR_LINES(instruction, addr, len, line)                                      \
	do {                                                                               \
		uintptr_t shunt_at = (addr) & ~((line)-1), shunt_end = (addr) + (len);     \
		for (; shunt_at < shunt_end; shunt_at += (line))                           \
			__asm__ volatile(instruction ", %0" : : "r"(shunt_at) : "memory"); \
	} while (0)

/*
 * Data to the point of unification, where all CPUs fetch from; then what was fetched is dropped, in
 * all of them: IC IVAU and DSB ISH reach each CPU of the inner shareable domain. Where the CPU says
 * that the one or the other is not needed (IDC, DIC) it is left out.
 */
static inline void shunt_clean_text(const struct shunt_write *writes, size_t n, size_t stride)
{
	uint64_t ctr;
	const char *at;

	__asm__("mrs %0, ctr_el0" : "=r"(ctr));
	at = (const char *)writes;
	for (size_t i = 0; !(ctr >> 28 & 1) && i < n; i++, at += stride) {
		const struct shunt_write *w = (const struct shunt_write *)(const void *)at;

		SHUNT_FOR_LINES("dc cvau", (uintptr_t)w->addr, w->len,
				(uintptr_t)4 << (ctr >> 16 & 15));
	}
	__asm__ volatile("dsb ish" : : : "memory");
	at = (const char *)writes;
	for (size_t i = 0; !(ctr >> 29 & 1) && i < n; i++, at += stride) {
		const struct shunt_write *w = (const struct shunt_write *)(const void *)at;

		SHUNT_FOR_LINES("ic ivau", (uintptr_t)w->addr, w->len, (uintptr_t)4 << (ctr & 15));
	}
	__asm__ volatile("dsb ish\n\tisb" : : : "memory");
}

/* TLBs are flushed so; but no instruction crosses pages. */
static inline bool shunt_flushes_by_broadcast(void)
{
	return false;
}

/* -------------------------------------------------------- memory protection keys */

/* Permission overlays (FEAT_S1POE) are not known to the kernels of today. */
static inline bool shunt_has_keys(void)
{
	return false;
}

static inline uint32_t shunt_get_rights(void)
{
	return 0;
}

static inline void shunt_set_rights(uint32_t rights)
{
	(void)rights;
}

static inline long shunt_read_by_key_0(uintptr_t addr, long how)
{
	return shunt_syscall(SYS_rt_sigprocmask, how, (long)(addr & -8ul), 0, 8);
}

/* -------------------------------------------------------------------- protection */

/* PROT_BTI: a br or blr may only lead to a landing pad. (PROT_MTE is never taken away.) */
#define SHUNT_PROT_CPU          0x10
#define SHUNT_PROT_CPU_FLAG     "bt"
#define SHUNT_PROT_CPU_PROPERTY 0xc0000000u /* GNU_PROPERTY_AARCH64_FEATURE_1_AND */
#define SHUNT_PROT_CPU_BIT      1u          /* GNU_PROPERTY_AARCH64_FEATURE_1_BTI */

static inline bool shunt_has_prot_cpu(void)
{
	return getauxval(AT_HWCAP2) >> 17 & 1; /* HWCAP2_BTI */
}

/* --------------------------------------------------------------------- valgrind */

static inline long shunt_ask_valgrind(long request, long arg1, long arg2)
{
	const long words[6] = {request, arg1, arg2};
	register long x3 __asm__("x3") = 0;
	register const long *x4 __asm__("x4") = words;

	__asm__ volatile("ror x12, x12, #3\n\t"
			 "ror x12, x12, #13\n\t"
			 "ror x12, x12, #51\n\t"
			 "ror x12, x12, #61\n\t"
			 "orr x10, x10, x10"
			 : "+r"(x3)
			 : "r"(x4)
			 : "cc", "memory");
	return x3;
}

/* ---------------------------------------------------------------- signal frames */

/* The kernel has handlers return into its own page. */
#define SHUNT_SA_RESTORER 0ul
static inline void (*shunt_restorer(void))(void)
{
	return NULL;
}

/* The head of the first record behind the registers: FPSIMD_MAGIC, and its size. */
#define SHUNT_FRAME_BEFORE 0
#define SHUNT_FRAME_STEP   16
#define SHUNT_FRAME_WORD   0x0000021046508001u

struct shunt_frame_mark {
	uint64_t word;
};

static inline struct shunt_frame_mark shunt_frame_mark(void)
{
	return (struct shunt_frame_mark){SHUNT_FRAME_WORD};
}

static inline bool shunt_is_frame_mark(struct shunt_frame_mark mark, uintptr_t addr,
				       uint64_t (*word_at)(uintptr_t addr))
{
	return word_at(addr) == mark.word;
}

/* ----------------------------------------------------------- veneers, and unwinding */

/* CFA = sp, and the return address is in x30. */
#define SHUNT_CFI_RETURN 30
#define SHUNT_CFI_PROGRAM                               \
	{                                               \
		0x0c, 31, 0, /* DW_CFA_def_cfa sp, 0 */ \
	}

/* bti c; adrp x16, word; ldr x16, [x16, #:lo12:word]; br x16 */
#define SHUNT_AREA_VENEER 16

static inline uintptr_t shunt_area_veneer_word(const uint8_t *bytes, uintptr_t addr)
{
	return (uintptr_t)a64_jump_slot(bytes, SHUNT_AREA_VENEER, addr);
}

/*
 * bti c; ldr x16, target; br x16; (udf); target. By x16: a landing pad that a call may reach is one
 * for a br of it, too.
 */
struct shunt_veneer {
	uint32_t code[4];
	uint64_t target;
};

static inline struct shunt_veneer shunt_veneer_to(uintptr_t target)
{
	return (struct shunt_veneer){
		{A64_BTI_C, a64_ldr_literal(A64_X16, 4, 16), a64_br(A64_X16), 0}, target};
}

/* -------------------------------------------------------------- stubs of entries */

/*
 * adr x17, .; b to what is called; b behind the entry; how far the entry is from the adr. What is
 * called comes back by the second b, through x17: a br to where the function goes on would need a
 * landing pad there, and a ret the address on a guarded control stack. x16 and x17 are free at a
 * function's entry.
 */
struct shunt_entry_stub {
	uint32_t code[3];
	int32_t entry;
};

/* Of the entry at @ip, behind which the function goes on at @next; to stand at @at. */
static inline struct shunt_entry_stub shunt_entry_stub_for(uintptr_t at, uintptr_t ip,
							   uintptr_t next, uintptr_t called)
{
	return (struct shunt_entry_stub){{a64_adr_here(A64_X17), a64_branch(false, at + 4, called),
					  a64_branch(false, at + 8, next)},
					 (int32_t)(intptr_t)(ip - at)};
}

/* Where the function goes on whose entry is at @ip: behind the other nops that it has. */
static inline uintptr_t shunt_entry_next(uintptr_t ip)
{
	uint32_t word;

	do {
		ip += A64_LEN;
		/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
		shunt_copy_text(&word, (const void *)ip, sizeof(word));
	} while (a64_is_nop(word));
	return ip;
}

/* -------------------------------------------------- what is saved for a handler */

/* In ucontext_t, bytes. */
#define SHUNT_UC_SP     432
#define SHUNT_UC_IP     440
#define SHUNT_UC_EXTENT 472 /* up to what it is known by */

/* Whether one is at @uc, of which so much can be read. Its records begin behind the registers. */
static inline bool shunt_is_ucontext(struct shunt_frame_mark mark, uintptr_t uc,
				     uint64_t (*word_at)(uintptr_t addr))
{
	return !(uc & 15) && shunt_is_frame_mark(mark, uc + 464, word_at) && !word_at(uc) &&
	       !word_at(uc + 8) && word_at(uc + SHUNT_UC_IP) >= 4096;
}

#endif
